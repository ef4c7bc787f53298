//! One file per lister, and the table of them.

#[cfg(all(feature = "archives", feature = "html"))]
pub mod arch;
mod archives;
#[cfg(feature = "compression")]
pub mod aur;
#[cfg(all(feature = "compression", feature = "html"))]
pub mod bioconductor;
pub mod bitbucket;
pub mod bower;
#[cfg(feature = "html")]
pub mod cgit;
pub mod cocoapods;
#[cfg(feature = "compression")]
pub mod conda;
pub mod cpan;
#[cfg(feature = "compression")]
pub mod cran;
#[cfg(feature = "archives")]
pub mod crates;
#[cfg(feature = "compression")]
pub mod debian;
pub mod dlang;
pub mod elm;
mod files;
#[cfg(feature = "html")]
pub mod fossil;
pub mod gerrit;
pub mod gitea;
pub mod github;
pub mod gitiles;
pub mod gitlab;
#[cfg(all(feature = "html", feature = "xml"))]
pub mod gitweb;
#[cfg(feature = "compression")]
pub mod gnu;
pub mod golang;
#[cfg(feature = "compression")]
pub mod grokmirror;
pub mod hackage;
pub mod hex;
#[cfg(feature = "html")]
pub mod hgweb;
pub mod homebrew;
#[cfg(feature = "archives")]
mod joined;
#[cfg(feature = "archives")]
pub mod julia;
pub mod launchpad;
pub mod nixguix;
pub mod npm;
#[cfg(feature = "xml")]
pub mod nuget;
#[cfg(feature = "archives")]
pub mod opam;
pub mod pagure;
pub mod phabricator;
mod poison;
pub mod pubdev;
pub mod puppet;
#[cfg(feature = "xml")]
pub mod pypi;
mod ranges;
#[cfg(all(feature = "compression", feature = "xml"))]
pub mod rpm;
#[cfg(all(feature = "archives", feature = "xml"))]
pub mod rubygems;
pub mod save_bulk;
mod scope;
#[cfg(all(feature = "html", feature = "xml"))]
pub mod sourceforge;
pub mod sourcehut;
#[cfg(feature = "html")]
pub mod stagit;
pub mod tuleap;
pub mod urls;
mod web;

use url::Url;

#[cfg(all(feature = "archives", feature = "html"))]
pub use arch::Arch;
#[cfg(feature = "compression")]
pub use aur::Aur;
#[cfg(all(feature = "compression", feature = "html"))]
pub use bioconductor::Bioconductor;
pub use bitbucket::Bitbucket;
pub use bower::Bower;
#[cfg(feature = "html")]
pub use cgit::CGit;
pub use cocoapods::CocoaPods;
#[cfg(feature = "compression")]
pub use conda::Conda;
pub use cpan::Cpan;
#[cfg(feature = "compression")]
pub use cran::Cran;
#[cfg(feature = "archives")]
pub use crates::Crates;
#[cfg(feature = "compression")]
pub use debian::Debian;
pub use dlang::Dlang;
pub use elm::Elm;
#[cfg(feature = "html")]
pub use fossil::Fossil;
pub use gerrit::Gerrit;
pub use gitea::Gitea;
pub use github::GitHub;
pub use gitiles::Gitiles;
pub use gitlab::GitLab;
#[cfg(all(feature = "html", feature = "xml"))]
pub use gitweb::Gitweb;
#[cfg(feature = "compression")]
pub use gnu::Gnu;
pub use golang::Golang;
#[cfg(feature = "compression")]
pub use grokmirror::Grokmirror;
pub use hackage::Hackage;
pub use hex::Hex;
#[cfg(feature = "html")]
pub use hgweb::HgWeb;
pub use homebrew::Homebrew;
#[cfg(feature = "archives")]
pub use julia::Julia;
pub use launchpad::Launchpad;
pub use nixguix::NixGuix;
pub use npm::Npm;
#[cfg(feature = "xml")]
pub use nuget::NuGet;
#[cfg(feature = "archives")]
pub use opam::Opam;
pub use pagure::Pagure;
pub use phabricator::Phabricator;
pub use pubdev::PubDev;
pub use puppet::Puppet;
#[cfg(feature = "xml")]
pub use pypi::PyPi;
#[cfg(all(feature = "compression", feature = "xml"))]
pub use rpm::Rpm;
#[cfg(all(feature = "archives", feature = "xml"))]
pub use rubygems::RubyGems;
pub use save_bulk::SaveBulk;
#[cfg(all(feature = "html", feature = "xml"))]
pub use sourceforge::SourceForge;
pub use sourcehut::SourceHut;
#[cfg(feature = "html")]
pub use stagit::Stagit;
pub use tuleap::Tuleap;
pub use urls::Urls;

use crate::lister::{Entry, ListerError, Repository, location};
use crate::model::VisitType;
use crate::transport::Response;

/// The rows of the catalogue.
#[must_use]
pub(crate) fn entries() -> Vec<Entry> {
    vec![
        #[cfg(all(feature = "archives", feature = "html"))]
        arch::entry(),
        #[cfg(feature = "compression")]
        aur::entry(),
        #[cfg(all(feature = "compression", feature = "html"))]
        bioconductor::entry(),
        bitbucket::entry(),
        bower::entry(),
        #[cfg(feature = "html")]
        cgit::entry(),
        cocoapods::entry(),
        #[cfg(feature = "compression")]
        conda::entry(),
        cpan::entry(),
        #[cfg(feature = "compression")]
        cran::entry(),
        #[cfg(feature = "archives")]
        crates::entry(),
        #[cfg(feature = "compression")]
        debian::entry(),
        dlang::entry(),
        elm::entry(),
        #[cfg(feature = "html")]
        fossil::entry(),
        gerrit::entry(),
        gitea::entry(),
        gitea::forgejo_entry(),
        gitea::gogs_entry(),
        github::entry(),
        gitiles::entry(),
        gitlab::entry(),
        gitlab::heptapod_entry(),
        #[cfg(all(feature = "html", feature = "xml"))]
        gitweb::entry(),
        #[cfg(feature = "compression")]
        gnu::entry(),
        golang::entry(),
        #[cfg(feature = "compression")]
        grokmirror::entry(),
        hackage::entry(),
        hex::entry(),
        #[cfg(feature = "html")]
        hgweb::entry(),
        homebrew::entry(),
        #[cfg(feature = "archives")]
        julia::entry(),
        launchpad::entry(),
        nixguix::entry(),
        npm::entry(),
        #[cfg(feature = "xml")]
        nuget::entry(),
        #[cfg(feature = "archives")]
        opam::entry(),
        pagure::entry(),
        phabricator::entry(),
        phabricator::phorge_entry(),
        pubdev::entry(),
        puppet::entry(),
        #[cfg(feature = "xml")]
        pypi::entry(),
        #[cfg(all(feature = "compression", feature = "xml"))]
        rpm::entry(),
        #[cfg(all(feature = "archives", feature = "xml"))]
        rubygems::entry(),
        save_bulk::entry(),
        #[cfg(all(feature = "html", feature = "xml"))]
        sourceforge::entry(),
        sourcehut::entry(),
        #[cfg(feature = "html")]
        stagit::entry(),
        tuleap::entry(),
        urls::entry(),
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

/// How a repository is visited: as git where nothing says otherwise.
pub(crate) fn visit_type_of(repository: &Repository) -> VisitType {
    VisitType::known(repository.kind.unwrap_or("git"))
}
