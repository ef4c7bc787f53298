//! One file per lister, and the table of them.

#[cfg(feature = "html")]
pub mod cgit;
#[cfg(feature = "archives")]
pub mod crates;
#[cfg(feature = "compression")]
pub mod debian;
pub mod gitea;
pub mod github;
pub mod gitlab;
#[cfg(feature = "html")]
pub mod hgweb;
pub mod npm;
pub mod pagure;
pub mod phabricator;
mod scope;

use url::Url;

#[cfg(feature = "html")]
pub use cgit::CGit;
#[cfg(feature = "archives")]
pub use crates::Crates;
#[cfg(feature = "compression")]
pub use debian::Debian;
pub use gitea::Gitea;
pub use github::GitHub;
pub use gitlab::GitLab;
#[cfg(feature = "html")]
pub use hgweb::HgWeb;
pub use npm::Npm;
pub use pagure::Pagure;
pub use phabricator::Phabricator;

use crate::lister::{Entry, ListerError, location};
use crate::transport::Response;

/// The rows of the catalogue.
#[must_use]
pub(crate) fn entries() -> Vec<Entry> {
    vec![
        #[cfg(feature = "html")]
        cgit::entry(),
        #[cfg(feature = "archives")]
        crates::entry(),
        #[cfg(feature = "compression")]
        debian::entry(),
        gitea::entry(),
        gitea::forgejo_entry(),
        gitea::gogs_entry(),
        github::entry(),
        gitlab::entry(),
        gitlab::heptapod_entry(),
        #[cfg(feature = "html")]
        hgweb::entry(),
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
    if same_host(base, next) { Ok(()) } else { Err(elsewhere(base, next)) }
}

/// Whether two URLs are of one host and port.
pub(crate) fn same_host(a: &Url, b: &Url) -> bool {
    a.host_str() == b.host_str() && a.port() == b.port()
}

fn elsewhere(base: &Url, next: &Url) -> ListerError {
    let (ours, theirs) = (location(base), location(next));
    ListerError::parse(format!("the next page is said to be at {theirs:?}, which is not {ours:?}"))
}

/// Where the `Link` header of a page says that the listing goes on.
///
/// # Errors
/// [`crate::lister::ListerErrorKind::Parse`] where the header cannot be read, or leads elsewhere.
pub(crate) fn next_link(base: &Url, response: &Response) -> Result<Option<Url>, ListerError> {
    response.link("next")?.map(|link| on_the_same_host(base, link)).transpose()
}

/// The address of a forge's API: `url` and `path`, which may be there already.
pub(crate) fn api(url: &Url, path: &[&str]) -> Url {
    let end = format!("/{}", path.join("/"));
    let there = url.path().trim_end_matches('/').ends_with(&end);
    under(url, if there { &[] } else { path })
}

/// The address of something below `base`, whose query goes. A slash in a segment is escaped.
pub(crate) fn under(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}
