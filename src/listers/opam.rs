//! Repositories of opam, the package manager of OCaml and Rocq: every package.
//!
//! # How it lists
//!
//! `GET {url}/index.tar.gz`, the archive that opam itself gets: a folder for each version of each package
//! (`packages/{name}/{name}.{version}/opam`, with or without folders between). Read member by member; nothing is unpacked to disk.
//!
//! - **Configuration**: `url` is required (the one of OCaml is `https://opam.ocaml.org`); `instance` is its host by default.
//!   `opam_root` is given to loaders as it is: the folder of opam on their machine. Repositories that are git's only have no archive.
//! - **Credentials**: none. **Limits**: none documented.
//! - **Order**: the archive's; a package is listed where it comes first.
//! - **Origins**: `opam+{url}/packages/{name}/`, with `opam_root`, `opam_instance`, `opam_url` and `opam_package` in the shape that
//!   loaders take.
//! - **State**: none; while the archive's `ETag` or `Last-Modified` is the same, it is not read again.
//! - **Deletions**: what the archive no longer names is gone after a full run.
//! - **Cost**: one request (some 10 MB for OCaml's).
//!
//! # What it cannot see
//!
//! - When a package changed: the dates in the archive are those of its making.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/opam.rs` that fails without it:
//!
//! - asks for one archive, and not again for the same one: `opam_asks_once`
//! - a package is an origin once, in the shape that loaders take: `opam_lists_packages`
//! - names end at the first dot, in whatever folders they are: `opam_names_end_at_the_first_dot`
//! - names that are none are counted: `opam_odd_names_are_counted`
//! - a repository without packages is one: `opam_an_empty_repository_is_one`
//! - a broken archive is an error with its place: `opam_a_broken_archive_is_an_error_with_its_place`
//! - its parameters: `opam_takes_its_url`

use std::collections::HashSet;
use std::sync::Arc;

use url::Url;

use super::under;
use crate::lister::archive::each_member;
use crate::lister::{
    Arguments, ConfigError, Entry, Lister, ListerError, Page, PageSource, Parameter, ParameterKind, RunInfo,
    Source,
};
use crate::model::{NewOrigin, VisitType, digest128};
use crate::transport::{Request, Response};

/// What loaders that are told nothing else use.
const ROOT: &str = "/tmp/opam";

/// Lists an opam repository. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Opam;
/// use lamplighter::model::Timestamp;
///
/// let opam = Opam::new(&"https://opam.ocaml.org".parse()?);
/// let start = opam.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(opam.request(&start[0])?.url.as_str(), "https://opam.ocaml.org/index.tar.gz");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Opam {
    index: Url,
    /// Without a slash at its end.
    base: String,
    root: String,
    visit_type: VisitType,
    instance: String,
}

impl Opam {
    /// The repository at `url`. The instance is named by its host.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            index: under(url, &["index.tar.gz"]),
            base: under(url, &[]).as_str().trim_end_matches('/').to_owned(),
            root: ROOT.to_owned(),
            visit_type: VisitType::known("opam"),
            instance: crate::lister::location(url),
        }
    }

    /// Names the instance, which loaders are told.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// The folder of opam where the loaders run, which they are told.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<String>) -> Self {
        self.root = root.into();
        self
    }

    fn origin(&self, name: &str) -> NewOrigin {
        NewOrigin::new(format!("opam+{}/packages/{name}/", self.base), self.visit_type.clone())
            .with_argument("opam_root", self.root.clone())
            .with_argument("opam_instance", self.instance.clone())
            .with_argument("opam_url", self.base.clone())
            .with_argument("opam_package", name)
    }
}

/// The folder of a version, of the path of its `opam` file.
fn version_of(path: &str) -> Option<&str> {
    let mut folders = path.rsplit('/');
    if folders.next() != Some("opam") || !path.split('/').any(|folder| folder == "packages") {
        return None;
    }
    folders.next()
}

/// As opam names packages: letters, digits and `_`, `+`, `-`.
fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
        && name.bytes().any(|b| b.is_ascii_alphabetic())
        && name.len() <= 255
}

impl Lister for Opam {
    /// There is one request.
    type Cursor = ();

    fn name(&self) -> &'static str {
        "opam"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<()> {
        vec![()]
    }

    fn request(&self, (): &()) -> Result<Request, ListerError> {
        Ok(Request::get(self.index.clone()).configured().validated())
    }

    fn page(&self, (): &(), response: Response, page: &mut Page<()>) -> Result<(), ListerError> {
        const WHAT: &str = "index.tar.gz";
        let (mut seen, mut is_repository, mut versions) = (HashSet::new(), false, 0_u64);
        each_member(WHAT, &response.body, |member, _| {
            let path = member.path.as_str();
            is_repository |= path == "repo" || path.ends_with("/repo");
            let Some(version) = version_of(path).filter(|_| member.is_file) else { return Ok(()) };
            versions += 1;
            let name = version.split('.').next().unwrap_or_default();
            if !is_name(name) || name.len() == version.len() {
                let version: String = version.chars().take(80).collect();
                page.skip(format!("{version:?}"), "that can be no package's name and version");
                return Ok(());
            }
            if seen.insert(digest128(name.as_bytes())) {
                page.origin(self.origin(name))?;
            }
            Ok(())
        })?;
        if seen.is_empty() && (versions > 0 || !is_repository) {
            let bytes = response.body.len();
            let why =
                format!("{WHAT} is no repository, after {bytes} bytes: neither packages nor a file repo");
            return Err(ListerError::parse(why));
        }
        Ok(())
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::required("url", ParameterKind::Url, "the repository, such as https://opam.ocaml.org"),
    Parameter::optional("instance", ParameterKind::Text, "name of the instance; by default the host"),
    Parameter::with_default("opam_root", ParameterKind::Text, ROOT, "the folder of opam where loaders run"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("opam", "Repositories of opam (OCaml, Rocq)", build)
        .visiting(&["opam"])
        .with_parameters(PARAMETERS)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Opam::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    if let Some(root) = arguments.text("opam_root") {
        lister = lister.with_root(root);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
