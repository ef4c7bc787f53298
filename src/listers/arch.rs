//! Arch Linux and Arch Linux ARM: every package, with its archived versions.
//!
//! # How it lists
//!
//! Two flavours, each with repositories for architectures:
//!
//! - `official`: `GET {archive}/repos/last/{repo}/os/{arch}/{repo}.files.tar.gz` names the packages; the versions of each
//!   are in a folder of the archive, `GET {archive}/packages/{first letter}/{name}`, a page of links.
//! - `arm`: `GET {mirror}/{arch}/{repo}/{repo}.files.tar.gz`; there is no archive, so each package has one version.
//!
//! Of a repository's file, a tar of a folder for each package, the members `desc` are read as they come.
//!
//! - **Configuration**: `url` (the site of the official packages), and `flavours`: an object from `official` and `arm` to objects
//!   with `archs`, `repos`, `base_info_url`, `base_archive_url` and `base_mirror_url`; what is left out is as by default, a
//!   flavour that is not named is not listed.
//! - **Credentials**: none. **Limits**: none documented.
//! - **Order**: as the files and pages have it; nothing depends on it.
//! - **Origins**: `{info}/packages/{repo}/{arch}/{name}` (arm: without the repository), with `artifacts` and `arch_metadata`
//!   in the shape that loaders take. The last update is when the package of today was built.
//! - **State**: none. The folder of an official package is asked for when its version, its build or its file is another one than
//!   at its last reading; an arm repository when its file changed.
//! - **Deletions**: what no repository names any longer is gone after a full run.
//! - **Cost**: one request for each repository (3 and 6 by default, 2 more tried), and a first time about 14,000 for the official
//!   packages' folders, later those that changed.
//!
//! By default the repositories are those of today. `community` is looked for besides: it was merged into `extra` in 2023,
//! and mirrors that are older still have it. So is `multilib`, which not every copy has.
//!
//! # What it cannot see
//!
//! - Checksums of archived versions: pages do not give them. MD5 is not given at all by databases since pacman 6.1.
//! - Packages that were removed before the first listing.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/arch.rs` that fails without it:
//!
//! - it asks each repository of each architecture for its file: `arch_asks_for_every_repository`
//! - a package is an item, asked for again when its version, build or file is another: `arch_packages_are_items`
//! - a folder's links are versions, the checksums are of today's: `arch_lists_a_folder_of_versions`
//! - links that are no package of that name are counted, or no versions at all: `arch_other_links_make_no_version`
//! - a package of arm has one version, at the mirror of the architecture that was walked: `arch_lists_arm_from_its_file`
//! - values of several lines, and fields that are missing, do no harm: `arch_odd_packages_are_counted`
//! - repositories that may have gone are left out, others are missing: `arch_a_repository_that_has_gone`
//! - a broken file or page is an error with its place: `arch_a_broken_body_is_an_error_with_its_place`
//! - its parameters, by the names that they have elsewhere: `arch_takes_its_flavours`

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use chrono::NaiveDateTime;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::under;
use crate::lister::archive::each_member;
use crate::lister::html::{HtmlPage, selector};
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    Recovery, RunInfo, Source, fingerprint,
};
use crate::model::{Artifact, NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://archlinux.org";

/// Repositories that need not be there: gone, or of some architectures only.
const MAY_BE_GONE: [&str; 2] = ["community", "multilib"];

/// The longest `desc`: real ones are some kilobytes.
const LONGEST_DESC: u64 = 1 << 20;

/// Lists Arch Linux. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Arch;
/// use lamplighter::model::Timestamp;
///
/// let arch = Arch::new(&"https://archlinux.org".parse()?);
/// let start = arch.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(arch.request(&start[0])?.url.path(), "/repos/last/core/os/x86_64/core.files.tar.gz");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Arch {
    flavours: Vec<Flavour>,
    visit_type: VisitType,
    instance: String,
}

/// A distribution of packages: where its files are, and which.
#[derive(Debug, Clone)]
struct Flavour {
    name: &'static str,
    archs: Vec<String>,
    repos: Vec<String>,
    /// Addresses without slashes at their ends.
    info: String,
    /// Where the files of repositories are: the archive of `official`, the mirror of `arm`.
    files: String,
}

/// As `flavours` gives one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    archs: Option<Vec<String>>,
    repos: Option<Vec<String>>,
    base_info_url: Option<String>,
    base_archive_url: Option<String>,
    base_mirror_url: Option<String>,
    #[serde(rename = "base_api_url")]
    _base_api_url: Option<String>,
}

/// Where a listing of Arch Linux is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ArchCursor {
    /// At the file of a repository.
    Repository {
        /// `official` or `arm`.
        flavour: String,
        /// The architecture.
        arch: String,
        /// The repository.
        repo: String,
    },
    /// At the folder of an official package.
    Package {
        /// The repository that names it.
        repo: String,
        /// The package as its repository has it.
        package: ArchPackage,
    },
}

/// A package as its repository has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchPackage {
    name: String,
    version: String,
    arch: String,
    filename: String,
    built: Option<i64>,
    md5: Option<String>,
    sha256: Option<String>,
}

impl ArchPackage {
    /// Reads a `desc`; or what is wrong with it.
    fn read(text: &str) -> Result<Self, String> {
        let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
        let mut field = None;
        for line in text.lines().map(str::trim) {
            if line.is_empty() {
                field = None;
            } else if let Some(name) = line.strip_prefix('%').and_then(|l| l.strip_suffix('%')) {
                field = Some(name);
            } else if let Some(name) = field {
                // Of several lines the first one is enough: no field that is read here has more.
                fields.entry(name).or_insert(line);
            }
        }
        let get = |name: &str| fields.get(name).map(|v| (*v).to_owned());
        let need = |name: &str| get(name).ok_or_else(|| format!("it has no {name}"));
        let path = |name: &str| {
            let value = need(name)?;
            let fits =
                !value.starts_with('.') && !value.contains(|c: char| c == '/' || c.is_control() || c == ' ');
            if fits { Ok(value) } else { Err(format!("{name} {value:?} can be none")) }
        };
        Ok(Self {
            name: path("NAME")?,
            version: path("VERSION")?,
            arch: path("ARCH")?,
            filename: path("FILENAME")?,
            built: get("BUILDDATE").and_then(|at| at.parse().ok()),
            md5: get("MD5SUM"),
            sha256: get("SHA256SUM"),
        })
    }

    fn updated(&self) -> Option<Timestamp> {
        self.built.map(Timestamp::from_seconds)
    }

    fn checksums(&self) -> Value {
        let known = [("md5", &self.md5), ("sha256", &self.sha256)];
        known.into_iter().filter_map(|(name, sum)| Some((name.to_owned(), json!(sum.as_ref()?)))).collect()
    }

    /// The letter that the archive sorts it under.
    fn letter(&self) -> String {
        self.name.chars().take(1).collect()
    }

    /// Version and architecture of a file of this package.
    fn version_of<'a>(&self, file: &'a str) -> Option<(&'a str, &'a str)> {
        let stem = file.strip_suffix(".pkg.tar.xz").or_else(|| file.strip_suffix(".pkg.tar.zst"))?;
        let rest = stem.strip_prefix(self.name.as_str())?.strip_prefix('-')?;
        let (version, arch) = rest.rsplit_once('-')?;
        // A longer name that begins with this one has more hyphens before its version.
        let (upstream, release) = version.rsplit_once('-')?;
        let fits = matches!(arch, "any" | "i686" | "x86_64")
            && !upstream.is_empty()
            && !upstream.contains('-')
            && release.starts_with(|c: char| c.is_ascii_digit());
        fits.then_some((version, arch))
    }
}

impl Arch {
    /// The distribution whose official packages have their pages at `url`, with the flavours of today.
    /// The instance is named `arch`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        let flavours = vec![Flavour::official(url.as_str()), Flavour::arm()];
        Self { flavours, visit_type: VisitType::known("arch"), instance: "arch".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    fn flavour(&self, name: &str) -> Result<&Flavour, ListerError> {
        let found = self.flavours.iter().find(|f| f.name == name);
        found.ok_or_else(|| ListerError::cursor(format!("the flavour {name:?} is not configured")))
    }

    fn official(&self) -> Result<&Flavour, ListerError> {
        self.flavour("official")
    }

    fn repository(
        &self,
        (flavour, arch, repo): (&Flavour, &str, &str),
        response: &Response,
        page: &mut Page<ArchCursor>,
    ) -> Result<(), ListerError> {
        let what = format!("{repo}.files.tar.gz");
        if response.body.is_empty() {
            return Err(ListerError::parse(format!("{what} ends too early, after 0 bytes")));
        }
        let (mut packages, mut used) = (0_u64, 0_u64);
        each_member(&what, &response.body, |member, contents| {
            if !member.is_file || !member.path.ends_with("/desc") {
                return Ok(());
            }
            packages += 1;
            let mut text = Vec::new();
            let place = |e| ListerError::parse(format!("{what}: in {:?}", member.path)).with_source(e);
            contents.take(LONGEST_DESC).read_to_end(&mut text).map_err(place)?;
            match ArchPackage::read(&String::from_utf8_lossy(&text)) {
                Ok(package) if flavour.is_archived() => {
                    used += 1;
                    let (key, print) = (flavour.page_of(repo, &package), package.fingerprint());
                    page.item(key, print, ArchCursor::Package { repo: repo.to_owned(), package });
                    Ok(())
                }
                Ok(package) => {
                    used += 1;
                    page.origin(self.mirrored(flavour, (arch, repo), &package))
                }
                Err(why) => {
                    page.skip(format!("{:?}", member.path.chars().take(80).collect::<String>()), why);
                    Ok(())
                }
            }
        })?;
        if packages > 0 && used == 0 {
            return Err(ListerError::parse(format!("{what}: none of {packages} packages can be read")));
        }
        Ok(())
    }

    /// A package of a mirror: the one version that there is.
    fn mirrored(&self, flavour: &Flavour, (arch, repo): (&str, &str), package: &ArchPackage) -> NewOrigin {
        let updated = package.updated();
        let key = format!("{arch}/{repo}");
        let artifact = json!({
            "version": package.version,
            "filename": package.filename,
            "url": format!("{}/{arch}/{repo}/{}", flavour.files, package.filename),
            "checksums": package.checksums(),
        });
        let modified = updated.map(|at| at.to_datetime().format("%Y-%m-%dT%H:%M:%S").to_string());
        let metadata = package.metadata(repo, &package.version, &package.arch, modified.as_deref());
        NewOrigin::new(flavour.page_of(repo, package), self.visit_type.clone())
            .with_last_update(updated)
            .with_artifact(Artifact::in_list("artifacts", key.clone(), artifact))
            .with_artifact(Artifact::in_list("arch_metadata", key, metadata))
    }

    fn folder(
        &self,
        repo: &str,
        package: &ArchPackage,
        response: &Response,
        page: &mut Page<ArchCursor>,
    ) -> Result<(), ListerError> {
        let html = HtmlPage::read(response, &["</html>", "</body>", "</pre>"])?;
        let wrong = |problem: &str| ListerError::parse(format!("{}: {problem}", html.called()));
        if !html.ended {
            return Err(wrong("it breaks off"));
        }
        let flavour = self.official()?;
        let folder = format!("{}/packages/{}/{}", flavour.files, package.letter(), package.name);
        let (mut artifacts, mut metadata) = (Vec::new(), Vec::new());
        for link in html.all(&selector("a[href]")?) {
            let href = link.attr("href").unwrap_or_default();
            let name = file_name(href);
            if !name.ends_with(".tar.xz") && !name.ends_with(".tar.zst") {
                continue;
            }
            let Some((version, arch)) = package.version_of(&name) else {
                page.skip(
                    format!("{:?}", name.chars().take(80).collect::<String>()),
                    "no version of its package",
                );
                continue;
            };
            let after = link.next_sibling().and_then(|n| n.value().as_text().map(|t| t.to_string()));
            let modified = after.as_deref().and_then(listed_date);
            let today = version == package.version;
            artifacts.push(json!({
                "version": version,
                "filename": name,
                "url": format!("{folder}/{name}"),
                "checksums": if today { package.checksums() } else { json!({}) },
            }));
            metadata.push(package.metadata(repo, version, arch, modified.as_deref()));
        }
        if artifacts.is_empty() {
            return Err(wrong("no version of the package is in its folder"));
        }
        page.origin(
            NewOrigin::new(flavour.page_of(repo, package), self.visit_type.clone())
                .with_last_update(package.updated())
                .with_argument("artifacts", artifacts)
                .with_argument("arch_metadata", metadata),
        )
    }
}

impl ArchPackage {
    fn metadata(&self, repo: &str, version: &str, arch: &str, modified: Option<&str>) -> Value {
        json!({ "version": version, "name": self.name, "arch": arch, "repo": repo, "last_modified": modified })
    }

    fn fingerprint(&self) -> String {
        fingerprint(format!("{} {:?} {:?} {}", self.version, self.built, self.sha256, self.filename))
    }
}

impl Flavour {
    fn official(info: &str) -> Self {
        Self {
            name: "official",
            archs: vec!["x86_64".to_owned()],
            repos: ["core", "extra", "multilib", "community"].map(str::to_owned).to_vec(),
            info: info.trim_end_matches('/').to_owned(),
            files: "https://archive.archlinux.org".to_owned(),
        }
    }

    fn arm() -> Self {
        Self {
            name: "arm",
            archs: ["armv7h", "aarch64"].map(str::to_owned).to_vec(),
            repos: ["core", "extra", "community"].map(str::to_owned).to_vec(),
            info: "https://archlinuxarm.org".to_owned(),
            files: "https://uk.mirror.archlinuxarm.org".to_owned(),
        }
    }

    /// With what is given in place of what it has.
    fn given(mut self, given: Given) -> Result<Self, String> {
        let names = |names: Vec<String>| {
            let fits = |n: &String| {
                !n.starts_with('.') && n.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            };
            match names.iter().find(|n| n.is_empty() || !fits(n)) {
                Some(bad) => Err(format!("{bad:?} is no name")),
                None => Ok(names),
            }
        };
        let address = |text: String| {
            let fits = Url::parse(&text).is_ok_and(|u| matches!(u.scheme(), "http" | "https"));
            if fits { Ok(text.trim_end_matches('/').to_owned()) } else { Err(format!("{text:?} is no URL")) }
        };
        self.archs = given.archs.map_or(Ok(self.archs), names)?;
        self.repos = given.repos.map_or(Ok(self.repos), names)?;
        let files = if self.is_archived() { given.base_archive_url } else { given.base_mirror_url };
        self.info = given.base_info_url.map_or(Ok(self.info), address)?;
        self.files = files.map_or(Ok(self.files), address)?;
        Ok(self)
    }

    /// Whether old versions are kept.
    fn is_archived(&self) -> bool {
        self.name == "official"
    }

    /// The page of a package, which is its origin.
    fn page_of(&self, repo: &str, package: &ArchPackage) -> String {
        let ArchPackage { name, arch, .. } = package;
        if self.is_archived() {
            format!("{}/packages/{repo}/{arch}/{name}", self.info)
        } else {
            format!("{}/packages/{arch}/{name}", self.info)
        }
    }
}

/// A link as the name of a file.
fn file_name(href: &str) -> String {
    let path = href.split(['?', '#']).next().unwrap_or_default();
    let name = percent_decode_str(path).decode_utf8_lossy();
    name.strip_prefix("./").unwrap_or(&name).to_owned()
}

/// The date behind a link, which says no offset.
fn listed_date(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let (day, clock) = (words.next()?, words.next()?);
    let at = NaiveDateTime::parse_from_str(&format!("{day} {clock}"), "%d-%b-%Y %H:%M").ok()?;
    Some(at.format("%Y-%m-%dT%H:%M:%S").to_string())
}

impl Lister for Arch {
    type Cursor = ArchCursor;

    fn name(&self) -> &'static str {
        "arch"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<ArchCursor> {
        let mut all = Vec::new();
        for flavour in &self.flavours {
            for arch in &flavour.archs {
                all.extend(flavour.repos.iter().map(|repo| ArchCursor::Repository {
                    flavour: flavour.name.to_owned(),
                    arch: arch.clone(),
                    repo: repo.clone(),
                }));
            }
        }
        all
    }

    fn request(&self, at: &ArchCursor) -> Result<Request, ListerError> {
        let base = |flavour: &Flavour| {
            Url::parse(&flavour.files).map_err(|e| ListerError::cursor(flavour.files.clone()).with_source(e))
        };
        match at {
            ArchCursor::Repository { flavour, arch, repo } => {
                let flavour = self.flavour(flavour)?;
                let (base, file) = (base(flavour)?, format!("{repo}.files.tar.gz"));
                Ok(if flavour.is_archived() {
                    // What follows from it are items, which a file that is unchanged would not name.
                    Request::get(under(&base, &["repos", "last", repo, "os", arch, &file])).configured()
                } else {
                    Request::get(under(&base, &[arch, repo, &file])).configured().validated()
                })
            }
            ArchCursor::Package { package, .. } => {
                let base = base(self.official()?)?;
                let url = under(&base, &["packages", &package.letter(), &package.name]);
                Ok(Request::get(url).configured())
            }
        }
    }

    fn page(
        &self,
        at: &ArchCursor,
        response: Response,
        page: &mut Page<ArchCursor>,
    ) -> Result<(), ListerError> {
        match at {
            ArchCursor::Repository { flavour, arch, repo } => {
                self.repository((self.flavour(flavour)?, arch, repo), &response, page)
            }
            ArchCursor::Package { repo, package } => self.folder(repo, package, &response, page),
        }
    }

    fn recover(&self, at: &ArchCursor, failure: &Failure) -> Recovery<ArchCursor> {
        match at {
            ArchCursor::Repository { repo, .. }
                if failure.is_not_there() && MAY_BE_GONE.contains(&repo.as_str()) =>
            {
                Recovery::skip(format!("there is no repository {repo:?} here (any more)"))
            }
            ArchCursor::Package { .. } if failure.is_absent() => {
                Recovery::gap().because("its repository names it, and the archive has no folder of it (yet)")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the site of the official packages"),
    Parameter::with_default("instance", ParameterKind::Text, "arch", "name of the instance"),
    Parameter::optional(
        "flavours",
        ParameterKind::Json,
        "`official` and `arm`, each with what differs: archs, repos, base_info_url, base_archive_url, base_mirror_url",
    ),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("arch", "Arch Linux and Arch Linux ARM", build)
        .visiting(&["arch"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let url = arguments.required_url("url")?;
    let mut lister = Arch::new(&url);
    if let Some(given) = arguments.json("flavours") {
        let wrong = |problem: String| arguments.wrong("flavours", problem);
        let given: BTreeMap<String, Given> =
            serde_json::from_value(given.clone()).map_err(|e| wrong(e.to_string()))?;
        lister.flavours.clear();
        for (name, given) in given {
            let known = match name.as_str() {
                "official" => Flavour::official(url.as_str()),
                "arm" => Flavour::arm(),
                _ => return Err(wrong(format!("{name:?} is neither official nor arm"))),
            };
            lister.flavours.push(known.given(given).map_err(wrong)?);
        }
        if lister.flavours.is_empty() {
            return Err(wrong("names no flavour".to_owned()));
        }
    }
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
