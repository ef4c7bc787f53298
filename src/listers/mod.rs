//! One file per lister, and the table of them.

#[cfg(feature = "html")]
pub mod cgit;
#[cfg(feature = "archives")]
pub mod crates;
pub mod github;
pub mod npm;
pub mod pagure;
pub mod phabricator;

use url::Url;

#[cfg(feature = "html")]
pub use cgit::CGit;
#[cfg(feature = "archives")]
pub use crates::Crates;
pub use github::GitHub;
pub use npm::Npm;
pub use pagure::Pagure;
pub use phabricator::Phabricator;

use crate::lister::{Entry, ListerError, location};

/// The rows of the catalogue.
#[must_use]
pub(crate) fn entries() -> Vec<Entry> {
    vec![
        #[cfg(feature = "html")]
        cgit::entry(),
        #[cfg(feature = "archives")]
        crates::entry(),
        github::entry(),
        npm::entry(),
        pagure::entry(),
        phabricator::entry(),
        phabricator::phorge_entry(),
    ]
}

/// A URL that a page gave for where it goes on: it must stay on the host (and port) of `base`, and
/// is asked by the scheme of `base`, because a forge behind a proxy often believes that it is
/// asked by plain http.
///
/// # Errors
/// [`crate::lister::ListerErrorKind::Parse`] naming the other host.
pub(crate) fn on_the_same_host(base: &Url, mut next: Url) -> Result<Url, ListerError> {
    stays_on_host(base, &next)?;
    // Between http and https this cannot fail; another scheme has no business here.
    next.set_scheme(base.scheme()).map_err(|()| elsewhere(base, &next))?;
    Ok(next)
}

/// Checks that a URL that a page gave for where it goes on stays on the host (and port) of `base`.
///
/// # Errors
/// [`crate::lister::ListerErrorKind::Parse`] naming the other host.
pub(crate) fn stays_on_host(base: &Url, next: &Url) -> Result<(), ListerError> {
    if location(base) == location(next) { Ok(()) } else { Err(elsewhere(base, next)) }
}

fn elsewhere(base: &Url, next: &Url) -> ListerError {
    let (ours, theirs) = (location(base), location(next));
    ListerError::parse(format!("the next page is said to be at {theirs:?}, which is not {ours:?}"))
}
