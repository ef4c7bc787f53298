//! Source packages of distributions that use RPM: Fedora, SUSE and others.
//!
//! # How it lists
//!
//! What there is is configured: blocks of a base address, releases, components and templates of addresses. For each release,
//! component and template `GET {repository}/repodata/repomd.xml` names the file of packages (`primary`), and `GET` of that is
//! read as a stream, whichever of gzip, bzip2, xz and zstd it is packed with.
//!
//! - **Configuration**: `rpm_src_data`, a list of `{"base_url", "releases", "components", "index_url_templates"}`; in a template
//!   `$base_url`, `$release` and `$component` stand for their values. A block without components has one without a name.
//!   `instance` is the distribution's name in the URLs of origins; `url` is only its page.
//! - **Credentials**: none. **Limits**: none documented; mirrors ask for few connections.
//! - **Order**: none. A package is in several repositories; what each says of it is put together.
//! - **Origins**: `rpm://{instance}/packages/{name}` for each source package, with `packages` in the shape that loaders take: by
//!   `{release}/{component}/{version}`. The last update is when the newest one was built.
//! - **State**: none; the map of names and versions that Software Heritage stores is not needed. A file of packages is read
//!   again when its checksum is another one than at its last reading.
//! - **Deletions**: what no repository names any longer is gone after a full run.
//! - **Cost**: one request for each release, component and template, and one for each repository that changed.
//!
//! The version in a key is the version and the release without the distribution's tag (`1.0-3.fc41` is `1.0-3`), with the
//! epoch before it where there is one: other pre-releases and epochs are other versions.
//!
//! The checksum of the file (SHA-256, 384 or 512) is verified. Where a file of another size came, whole as XML, a mirror is
//! between two versions: it is listed, counted, and read again next time if the checksum then is another one.
//!
//! # What it cannot see
//!
//! - Packages without sources, and sources that are on no such list.
//! - SHA-1 sums of files are not verified (repositories before 2009).
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/rpm.rs` that fails without it:
//!
//! - it asks for each release, component and template once: `rpm_asks_every_repository_once`
//! - the file of packages is an item, read again when its checksum is another: `rpm_the_file_of_packages_is_an_item`
//! - an address that has no repository is left out, other failures are gaps: `rpm_what_is_no_repository_is_left_out`
//! - source packages are listed in the shape that loaders take: `rpm_lists_source_packages`
//! - only the distribution's tag is cut from a version, and the epoch counts: `rpm_versions_stay_apart`
//! - each compression is unpacked: `rpm_reads_every_compression`
//! - the checksum is verified, except of another version of the file: `rpm_verifies_the_checksum`
//! - packages without a name, version or place are counted: `rpm_odd_packages_are_counted`
//! - a file on another host is refused: `rpm_a_file_elsewhere_is_refused`
//! - a broken body is an error with its place: `rpm_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `rpm_takes_its_repositories`

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256, Sha384, Sha512};
use url::Url;

use super::stays_on_host;
use crate::lister::compress::{Unpacked, unpacking};
use crate::lister::xml::{Step, Xml};
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, ListerErrorKind, Page, PageSource,
    Parameter, ParameterKind, Recovery, RunInfo, Source,
};
use crate::model::{Artifact, NewOrigin, Timestamp, VisitType, hex};
use crate::transport::{Body, Request, Response};

/// Tags by which distributions mark the release of a package, before a number.
const TAGS: [&str; 15] =
    ["fc", "el", "amzn", "azl", "mga", "lp", "sle", "oe", "ol", "cs", "an", "uel", "tl", "rhaos", "cm"];

/// Lists source packages of a distribution. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Rpm;
/// use lamplighter::listers::rpm::RpmBlock;
/// use lamplighter::model::Timestamp;
///
/// let block = RpmBlock::new("https://rpm.example/linux", ["41"], ["Everything"], ["$base_url/$release/$component/source/tree/"]);
/// let fedora = Rpm::new("Fedora", &[block])?;
/// let start = fedora.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// let asked = fedora.request(&start[0])?.url;
/// assert_eq!(asked.as_str(), "https://rpm.example/linux/41/Everything/source/tree/repodata/repomd.xml");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Rpm {
    repositories: Vec<RpmCursor>,
    visit_type: VisitType,
    instance: String,
}

/// A block of repositories: each release, component and template is one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RpmBlock {
    /// What `$base_url` stands for.
    pub base_url: String,
    /// What `$release` stands for, one after another.
    pub releases: Vec<String>,
    /// What `$component` stands for, one after another.
    #[serde(default)]
    pub components: Vec<String>,
    /// Addresses of repositories.
    pub index_url_templates: Vec<String>,
}

impl RpmBlock {
    /// The repositories of each of these releases, components and templates.
    pub fn new<R: Into<String>, C: Into<String>, T: Into<String>>(
        base_url: impl Into<String>,
        releases: impl IntoIterator<Item = R>,
        components: impl IntoIterator<Item = C>,
        templates: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            base_url: base_url.into(),
            releases: releases.into_iter().map(Into::into).collect(),
            components: components.into_iter().map(Into::into).collect(),
            index_url_templates: templates.into_iter().map(Into::into).collect(),
        }
    }
}

/// Where a listing of a distribution is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RpmCursor {
    /// At what a repository says of its files.
    Repository {
        /// The repository, with a slash at its end.
        url: Url,
        /// `{release}/{component}`.
        part: String,
    },
    /// At a repository's file of packages.
    Packages {
        /// The repository, with a slash at its end.
        url: Url,
        /// `{release}/{component}`.
        part: String,
        /// The file.
        file: RpmFile,
    },
}

/// A file as its repository names it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RpmFile {
    href: String,
    /// Its kind and value.
    checksum: (String, String),
    size: Option<u64>,
}

/// What a repository's file says of a package.
#[derive(Default)]
struct Package {
    name: String,
    arch: String,
    epoch: String,
    version: String,
    release: String,
    built: Option<i64>,
    checksum: (String, String),
    href: String,
    base: Option<String>,
}

impl Rpm {
    /// The repositories of a distribution, which is the instance's name.
    ///
    /// # Errors
    /// [`ConfigError::Value`] where a template gives no http or https URL, or there is no repository at all.
    pub fn new(instance: impl Into<String>, blocks: &[RpmBlock]) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError::Value { name: "rpm_src_data".to_owned(), problem };
        let (mut repositories, mut seen) = (Vec::new(), HashSet::new());
        let nameless = [String::new()];
        for block in blocks {
            let components = if block.components.is_empty() { &nameless[..] } else { &block.components };
            for release in &block.releases {
                for component in components {
                    for template in &block.index_url_templates {
                        let text = template
                            .replace("$base_url", block.base_url.trim_end_matches('/'))
                            .replace("$release", release)
                            .replace("$component", component);
                        let url = format!("{}/", text.trim_end_matches('/'));
                        let url = Url::parse(&url)
                            .ok()
                            .filter(|u| matches!(u.scheme(), "http" | "https"))
                            .ok_or_else(|| wrong(format!("{text:?} is no http or https URL")))?;
                        let part = if component.is_empty() {
                            release.clone()
                        } else {
                            format!("{release}/{component}")
                        };
                        let at = RpmCursor::Repository { url, part };
                        if seen.insert(at.clone()) {
                            repositories.push(at);
                        }
                    }
                }
            }
        }
        if repositories.is_empty() {
            return Err(wrong("names no repository".to_owned()));
        }
        Ok(Self { repositories, visit_type: VisitType::known("rpm"), instance: instance.into() })
    }

    fn repository(
        (url, part): (&Url, &str),
        response: &Response,
        page: &mut Page<RpmCursor>,
    ) -> Result<(), ListerError> {
        let mut xml = Xml::new("repomd.xml", response.body.reader(), "repomd");
        let (mut file, mut primary, mut depth) = (RpmFile::default(), false, 0_usize);
        let mut found = None;
        while let Some(step) = xml.step()? {
            match step {
                Step::Open(name) => {
                    depth += 1;
                    match (depth, name.as_str()) {
                        (2, "data") => {
                            primary = xml.attribute("type") == Some("primary");
                            file = RpmFile::default();
                        }
                        (3, "location") => {
                            xml.attribute("href").unwrap_or_default().clone_into(&mut file.href);
                        }
                        (3, "checksum") => {
                            xml.attribute("type").unwrap_or_default().clone_into(&mut file.checksum.0);
                        }
                        _ => {}
                    }
                }
                Step::Close(name, text) => {
                    match (depth, name.as_str()) {
                        (3, "checksum") => file.checksum.1 = text.trim().to_ascii_lowercase(),
                        (3, "size") => file.size = text.trim().parse().ok(),
                        (2, "data") if primary => {
                            found = Some(std::mem::take(&mut file));
                        }
                        _ => {}
                    }
                    depth = depth.saturating_sub(1);
                }
            }
        }
        let wrong = |problem: &str| ListerError::parse(format!("repomd.xml, in /repomd/data: {problem}"));
        let file = found.ok_or_else(|| wrong("there is no file of packages (primary)"))?;
        if file.href.is_empty() || file.checksum.1.is_empty() {
            return Err(wrong("the file of packages has no location or no checksum"));
        }
        file.under(url)?;
        let print = format!("{} {}", file.checksum.0, file.checksum.1);
        let (url, part) = (url.clone(), part.to_owned());
        page.item(format!("{part} {url}"), print, RpmCursor::Packages { url, part, file });
        Ok(())
    }

    fn packages(
        &self,
        (url, part, file): (&Url, &str, &RpmFile),
        response: &Response,
        page: &mut Page<RpmCursor>,
    ) -> Result<(), ListerError> {
        let what = "the file of packages";
        if let Some(other) = file.is_another(&response.body)? {
            page.skip(&file.href, other);
        }
        let unpacked = Unpacked::new(&response.body).map_err(|e| unpacking(what, e))?;
        let mut broken = None;
        let mut failing =
            Failing { inner: BufReader::with_capacity(64 << 10, unpacked), failed: &mut broken };
        let read = self.read_packages((url, part), &mut failing, page);
        // What could not be unpacked is the cause of whatever was made of it.
        match (read, broken) {
            (Err(e), Some(below)) if e.kind() == ListerErrorKind::Parse => Err(unpacking(what, below)),
            (read, _) => read,
        }
    }

    fn read_packages(
        &self,
        (url, part): (&Url, &str),
        from: impl Read,
        page: &mut Page<RpmCursor>,
    ) -> Result<(), ListerError> {
        let mut xml = Xml::new("the file of packages", from, "metadata");
        let (mut package, mut depth, mut number) = (Package::default(), 0_usize, 0_u64);
        while let Some(step) = xml.step()? {
            match step {
                Step::Open(name) => {
                    depth += 1;
                    let get = |name: &str| xml.attribute(name).unwrap_or_default().to_owned();
                    match (depth, name.as_str()) {
                        (2, "package") => package = Package::default(),
                        (3, "version") => {
                            (package.epoch, package.version, package.release) =
                                (get("epoch"), get("ver"), get("rel"));
                        }
                        (3, "checksum") => package.checksum.0 = get("type"),
                        (3, "time") => package.built = get("build").parse().ok(),
                        (3, "location") => {
                            package.href = get("href");
                            package.base = xml.attribute("base").map(str::to_owned);
                        }
                        _ => {}
                    }
                }
                Step::Close(name, text) => {
                    match (depth, name.as_str()) {
                        (3, "name") => text.trim().clone_into(&mut package.name),
                        (3, "arch") => text.trim().clone_into(&mut package.arch),
                        (3, "checksum") => text.trim().clone_into(&mut package.checksum.1),
                        (2, "package") => {
                            number += 1;
                            if package.arch == "src" {
                                match self.origin(&package, url, part) {
                                    Ok(origin) => page.origin(origin)?,
                                    Err(why) => page.skip(format!("package {number} of {part}"), why),
                                }
                            }
                        }
                        _ => {}
                    }
                    depth = depth.saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    fn origin(&self, package: &Package, repository: &Url, part: &str) -> Result<NewOrigin, String> {
        let Package { name, epoch, version, release, .. } = package;
        if name.is_empty()
            || name.len() > 255
            || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
        {
            return Err(format!(
                "{:?} can be no name of a package",
                name.chars().take(80).collect::<String>()
            ));
        }
        if version.is_empty() || release.is_empty() {
            return Err(format!("{name} has no version"));
        }
        let url = match &package.base {
            Some(base) => Url::parse(base).and_then(|base| base.join(&package.href)),
            None => repository.join(&package.href),
        };
        let url =
            url.ok().filter(|_| !package.href.is_empty()).ok_or_else(|| format!("{name} has no place"))?;
        let mut key = format!("{version}-{}", without_tag(release));
        if !matches!(epoch.as_str(), "" | "0") {
            key = format!("{epoch}:{key}");
        }
        let built = package.built.map(Timestamp::from_seconds);
        let mut checksums = Map::new();
        if !package.checksum.0.is_empty() && !package.checksum.1.is_empty() {
            // As createrepo called it once.
            let kind = if package.checksum.0 == "sha" { "sha1" } else { &package.checksum.0 };
            checksums.insert(kind.to_owned(), json!(package.checksum.1));
        }
        let value = json!({
            "name": name,
            "version": key,
            "url": url,
            "build_time": built.map(|at| at.to_datetime().to_rfc3339()),
            "checksums": checksums,
        });
        let origin =
            NewOrigin::new(format!("rpm://{}/packages/{name}", self.instance), self.visit_type.clone());
        let key = format!("{part}/{key}");
        Ok(origin.with_last_update(built).with_artifact(Artifact::in_object("packages", key, value)))
    }
}

/// A release without the distribution's tag.
fn without_tag(release: &str) -> &str {
    let number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let is_tag =
        |piece: &str| piece == "eln" || TAGS.iter().any(|tag| piece.strip_prefix(tag).is_some_and(number));
    let mut at = 0;
    for piece in release.split('.') {
        if at > 0 && is_tag(piece) {
            return release.get(..at - 1).unwrap_or(release);
        }
        at += piece.len() + 1;
    }
    release
}

impl RpmFile {
    /// Its address: on the repository's host.
    fn under(&self, repository: &Url) -> Result<Url, ListerError> {
        let wrong =
            |e| ListerError::parse(format!("repomd.xml: the location {:?}", self.href)).with_source(e);
        let url = repository.join(&self.href).map_err(wrong)?;
        stays_on_host(repository, &url)?;
        Ok(url)
    }

    /// Says of a body how it is another version of this file.
    fn is_another(&self, body: &Body) -> Result<Option<String>, ListerError> {
        let (kind, said) = &self.checksum;
        let digest = match kind.as_str() {
            "sha256" => digest::<Sha256>(body),
            "sha384" => digest::<Sha384>(body),
            "sha512" => digest::<Sha512>(body),
            _ => return Ok(None),
        };
        let digest =
            digest.map_err(|e| ListerError::new(ListerErrorKind::Io, "the spooled body").with_source(e))?;
        if digest == *said {
            return Ok(None);
        }
        let bytes = body.len();
        match self.size {
            Some(size) if size != bytes && bytes > 0 => Ok(Some(format!(
                "it has {bytes} bytes where repomd.xml says {size}, and another checksum: another version of it?"
            ))),
            _ => Err(ListerError::parse(format!(
                "the file of packages, after {bytes} bytes: its {kind} is {digest}, and repomd.xml says {said}"
            ))),
        }
    }
}

fn digest<D: Digest>(body: &Body) -> std::io::Result<String> {
    let (mut hasher, mut reader) = (D::new(), body.reader());
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(piece);
        let read = piece.len();
        reader.consume(read);
    }
}

/// Keeps the error of the reader below.
struct Failing<'a, R> {
    inner: R,
    failed: &'a mut Option<std::io::Error>,
}

impl<R: Read> Read for Failing<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(into).map_err(|e| {
            if e.kind() == std::io::ErrorKind::Interrupted {
                return e;
            }
            let told = std::io::Error::new(e.kind(), e.to_string());
            self.failed.get_or_insert(e);
            told
        })
    }
}

impl Lister for Rpm {
    type Cursor = RpmCursor;

    fn name(&self) -> &'static str {
        "rpm"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<RpmCursor> {
        self.repositories.clone()
    }

    fn request(&self, at: &RpmCursor) -> Result<Request, ListerError> {
        let url = match at {
            RpmCursor::Repository { url, .. } => url
                .join("repodata/repomd.xml")
                .map_err(|e| ListerError::cursor(url.as_str()).with_source(e))?,
            RpmCursor::Packages { url, file, .. } => file.under(url)?,
        };
        Ok(Request::get(url).configured())
    }

    fn page(
        &self,
        at: &RpmCursor,
        response: Response,
        page: &mut Page<RpmCursor>,
    ) -> Result<(), ListerError> {
        match at {
            RpmCursor::Repository { url, part } => Self::repository((url, part), &response, page),
            RpmCursor::Packages { url, part, file } => self.packages((url, part, file), &response, page),
        }
    }

    fn recover(&self, at: &RpmCursor, failure: &Failure) -> Recovery<RpmCursor> {
        match at {
            RpmCursor::Repository { .. } if failure.is_not_there() => {
                Recovery::skip("there is no repository at this address")
            }
            RpmCursor::Packages { .. } if failure.is_absent() => {
                Recovery::gap().because("repomd.xml names it: was the repository written anew meanwhile?")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the distribution's page; nothing is asked there"),
    Parameter::required(
        "instance",
        ParameterKind::Text,
        "the distribution's name, as in the URLs of origins",
    ),
    Parameter::required(
        "rpm_src_data",
        ParameterKind::Json,
        "blocks of repositories: [{base_url, releases, components, index_url_templates}]",
    ),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("rpm", "Source packages of distributions that use RPM", build)
        .visiting(&["rpm"])
        .with_parameters(PARAMETERS)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let instance = arguments.text("instance").unwrap_or_default().trim();
    if instance.is_empty() || instance.contains(|c: char| c == '/' || c.is_whitespace()) {
        return Err(arguments.wrong("instance", "must be a name, without slashes and spaces"));
    }
    let blocks = arguments.json("rpm_src_data").cloned().unwrap_or(Value::Null);
    let blocks: Vec<RpmBlock> =
        serde_json::from_value(blocks).map_err(|e| arguments.wrong("rpm_src_data", e.to_string()))?;
    Ok(Arc::new(Source::stateless(Rpm::new(instance, &blocks)?)))
}
