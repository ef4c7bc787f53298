//! One file per lister, and the table of them.

#[cfg(feature = "html")]
pub mod cgit;
pub mod github;
pub mod pagure;
pub mod phabricator;

use url::Url;

#[cfg(feature = "html")]
pub use cgit::CGit;
pub use github::GitHub;
pub use pagure::Pagure;
pub use phabricator::Phabricator;

use crate::lister::{Entry, ListerError};

/// The rows of the catalogue.
#[must_use]
pub(crate) fn entries() -> Vec<Entry> {
    vec![
        #[cfg(feature = "html")]
        cgit::entry(),
        github::entry(),
        pagure::entry(),
        phabricator::entry(),
        phabricator::phorge_entry(),
    ]
}

/// Host, and port where it is not the scheme's own: the usual name of an instance.
pub(crate) fn location(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A URL that a page gave for where it goes on: it must stay on the host (and port) of `base`, and
/// is asked by the scheme of `base`, because a forge behind a proxy often believes that it is
/// asked by plain http.
///
/// # Errors
/// [`crate::lister::ListerErrorKind::Parse`] naming the other host.
pub(crate) fn on_the_same_host(base: &Url, mut next: Url) -> Result<Url, ListerError> {
    let (ours, theirs) = (location(base), location(&next));
    if ours != theirs || next.set_scheme(base.scheme()).is_err() {
        return Err(ListerError::parse(format!(
            "the next page is said to be at {theirs:?}, which is not {ours:?}"
        )));
    }
    Ok(next)
}
