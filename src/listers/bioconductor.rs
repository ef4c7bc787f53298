//! Bioconductor, packages of R for genomics: every package in every release, and the git repositories they name.
//!
//! # How it lists
//!
//! `GET {url}/about/release-announcements` has a table of releases; those with an announcement are listed, or those given.
//! Of each release an index of each category:
//!
//! - from 2.5 on `{url}/packages/json/{release}/{category}/packages.json`;
//! - from 1.8 on `{url}/packages/{release}/{category}/src/contrib/PACKAGES`, of three categories;
//! - before, `{url}/packages/bioc/{release}/src/contrib/PACKAGES`.
//!
//! - **Configuration**: `releases` and `categories`, with commas between them. `incremental` is taken, and changes nothing: an index that has not changed is
//!   not read again anyway.
//! - **Credentials**: none. **Limits**: none documented.
//! - **Order**: releases from the oldest; nothing depends on it.
//! - **Origins**: `{url}/packages/{name}` with `packages` over all releases in the shape that loaders take (`{release}/{category}/{version}`);
//!   and, from 2.5 on, the repository in `git_url`. Last updates are the latest dates of publication, and of commits.
//! - **State**: none. An index is a *part* of the listing: while its `ETag` or `Last-Modified` is the same it is not read again, and one
//!   that cannot be read keeps what it said. A state of Software Heritage is not needed.
//! - **Deletions**: a package that no index names any longer is gone after a full run.
//! - **Cost**: one request, and some 130 for the indexes, of which two or three releases change.
//!
//! # What it cannot see
//!
//! - The release in development, until it is announced or given.
//! - Dates of packages before 2.5.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/bioconductor.rs` that fails without it:
//!
//! - asks for the table, or only the releases given: `bioconductor_asks_for_its_releases`
//! - each release has the indexes of its time: `bioconductor_indexes_are_those_of_their_time`
//! - packages come in the shape that loaders take, with their repositories: `bioconductor_lists_packages`
//! - indexes of old releases are control files: `bioconductor_reads_old_indexes`
//! - a category that a release has not is left out, other failures are gaps: `bioconductor_a_release_may_lack_a_category`
//! - odd packages are counted: `bioconductor_odd_packages_are_counted`
//! - a broken table or index is an error with its place: `bioconductor_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `bioconductor_takes_its_releases`

use std::io::BufReader;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use super::under;
use crate::lister::compress::{Unpacked, unpacking};
use crate::lister::deb822::{Deb822Error, Paragraphs};
use crate::lister::html::{HtmlPage, selector, text};
use crate::lister::json::each_named_of;
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    Recovery, RunInfo, Source, day_date, repository_url,
};
use crate::model::{Artifact, NewOrigin, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://www.bioconductor.org";

/// The category that every release has.
const MAIN: &str = "bioc";

const CATEGORIES: [&str; 4] = [MAIN, "workflows", "data/annotation", "data/experiment"];

/// Those of the releases before 2.5.
const OLD_CATEGORIES: [&str; 3] = [MAIN, "data/annotation", "data/experiment"];

/// Lists Bioconductor. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Bioconductor;
/// use lamplighter::model::Timestamp;
///
/// let bioconductor = Bioconductor::new(&"https://www.bioconductor.org".parse()?);
/// let start = bioconductor.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(bioconductor.request(&start[0])?.url.path(), "/about/release-announcements");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bioconductor {
    base: Url,
    releases: Vec<String>,
    categories: Vec<String>,
    visit_type: VisitType,
    instance: String,
}

/// Where a listing of Bioconductor is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BioconductorCursor {
    /// At the table of releases.
    Releases,
    /// At the index of a category.
    Index {
        /// The release.
        release: String,
        /// The category.
        category: String,
    },
}

/// How a release keeps its packages.
#[derive(Clone, Copy, PartialEq)]
enum Era {
    /// Before 1.8.
    First,
    /// Before 2.5.
    Second,
    Json,
}

impl Era {
    fn of(release: &str) -> Option<Self> {
        let (major, minor) = release.split_once('.')?;
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
        let version = (number(major)?, number(minor)?);
        Some(match version {
            _ if version < (1, 8) => Self::First,
            _ if version < (2, 5) => Self::Second,
            _ => Self::Json,
        })
    }
}

/// Of a package in an index in JSON; what is of another type counts as missing.
#[derive(Deserialize)]
struct Package {
    #[serde(rename = "Version")]
    version: Option<Value>,
    #[serde(rename = "MD5sum")]
    md5: Option<Value>,
    #[serde(rename = "source.ver")]
    source: Option<Value>,
    git_url: Option<Value>,
    git_last_commit_date: Option<Value>,
    #[serde(rename = "Date/Publication")]
    published: Option<Value>,
}

/// What is known of a version.
struct Said<'a> {
    name: &'a str,
    version: &'a str,
    /// Its file, below the site.
    path: String,
    md5: Option<&'a str>,
    published: Option<&'a str>,
}

impl Bioconductor {
    /// The site at `url`, with all its releases and categories. The instance is named `bioconductor`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            base: under(url, &[]),
            releases: Vec::new(),
            categories: CATEGORIES.map(str::to_owned).into(),
            visit_type: VisitType::known("bioconductor"),
            instance: "bioconductor".to_owned(),
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Lists these releases, such as `3.17`, and asks for no table.
    #[must_use]
    pub fn with_releases<R: Into<String>>(mut self, releases: impl IntoIterator<Item = R>) -> Self {
        self.releases = releases.into_iter().map(Into::into).collect();
        self
    }

    /// Lists these categories, such as `bioc` and `data/annotation`, of the releases from 2.5 on.
    #[must_use]
    pub fn with_categories<C: Into<String>>(mut self, categories: impl IntoIterator<Item = C>) -> Self {
        self.categories = categories.into_iter().map(Into::into).collect();
        self
    }

    fn at(&self, path: &str) -> Url {
        under(&self.base, &path.split('/').collect::<Vec<_>>())
    }

    /// The indexes of a release.
    fn indexes(&self, release: &str) -> Vec<BioconductorCursor> {
        let index = |category: &str| BioconductorCursor::Index {
            release: release.to_owned(),
            category: category.to_owned(),
        };
        match Era::of(release) {
            Some(Era::First) => vec![index(MAIN)],
            Some(Era::Second) => OLD_CATEGORIES.map(index).into(),
            _ => self.categories.iter().map(|c| index(c)).collect(),
        }
    }

    fn table(&self, response: &Response, page: &mut Page<BioconductorCursor>) -> Result<(), ListerError> {
        let html = HtmlPage::read(response, &["</html>"])?;
        html.check_whole("the table of releases")?;
        let (rows, cells, link) = (selector("table tbody tr")?, selector("td")?, selector("a[href]")?);
        let mut releases = Vec::new();
        for row in html.all(&rows) {
            let cells: Vec<_> = row.select(&cells).collect();
            let (Some(release), Some(announced)) = (cells.first(), cells.get(2)) else { continue };
            let release = text(*release);
            if announced.select(&link).next().is_none() {
                page.skip(format!("release {release:?}"), "it has no announcement");
            } else if Era::of(&release).is_none() {
                page.skip(format!("release {release:?}"), "that can be no release's name");
            } else {
                releases.push(release);
            }
        }
        if releases.is_empty() {
            let called = html.called();
            return Err(ListerError::parse(format!("no release that was announced in {called}")));
        }
        // The table begins with the newest.
        for index in releases.iter().rev().flat_map(|release| self.indexes(release)) {
            page.follow(index);
        }
        Ok(())
    }

    fn index(
        &self,
        (release, category): (&str, &str),
        response: &Response,
        page: &mut Page<BioconductorCursor>,
    ) -> Result<(), ListerError> {
        let what = format!("the index of {release}/{category}");
        let unpacked = Unpacked::new(&response.body).map_err(|e| unpacking(&what, e))?;
        page.part(format!("{release}/{category}"));
        match Era::of(release) {
            Some(Era::Json) | None => {
                each_named_of(&what, unpacked, &[], |_, name, package: Package| {
                    self.package((release, category), &name, &package, page)
                })?;
                Ok(())
            }
            Some(era) => {
                let bytes = response.body.len();
                self.paragraphs(era, (release, category), (&what, unpacked, bytes), page)
            }
        }
    }

    fn package(
        &self,
        at: (&str, &str),
        name: &str,
        package: &Package,
        page: &mut Page<BioconductorCursor>,
    ) -> Result<(), ListerError> {
        let text = |value: &'_ Option<Value>| -> Option<String> {
            value.as_ref().and_then(Value::as_str).filter(|v| !v.is_empty()).map(str::to_owned)
        };
        let shown = || format!("{:?} in {}/{}", name.chars().take(80).collect::<String>(), at.0, at.1);
        let (Some(version), Some(source)) = (text(&package.version), text(&package.source)) else {
            page.skip(shown(), "it has no version, or no source");
            return Ok(());
        };
        let (md5, published) = (text(&package.md5), text(&package.published));
        let said = Said {
            name,
            version: &version,
            path: format!("packages/{}/{}/{source}", at.0, at.1),
            md5: md5.as_deref(),
            published: published.as_deref(),
        };
        match self.origin(at, &said) {
            Ok(origin) => page.origin(origin)?,
            Err(why) => {
                page.skip(shown(), why);
                return Ok(());
            }
        }
        let Some(url) = text(&package.git_url) else { return Ok(()) };
        match repository_url(&url) {
            Ok(Some(repository)) => {
                let committed = text(&package.git_last_commit_date).as_deref().and_then(day_date);
                page.origin(NewOrigin::new(repository.url, VisitType::git()).with_last_update(committed))
            }
            Ok(None) => Ok(()),
            Err(e) => {
                page.skip(format!("the repository of {}", shown()), e);
                Ok(())
            }
        }
    }

    fn paragraphs(
        &self,
        era: Era,
        (release, category): (&str, &str),
        (what, unpacked, bytes): (&str, Unpacked<'_>, u64),
        page: &mut Page<BioconductorCursor>,
    ) -> Result<(), ListerError> {
        let failed = |e| match e {
            Deb822Error::Format(problem) => ListerError::parse(format!("{what}: {problem}")),
            Deb822Error::Io(e) => unpacking(what, e),
        };
        let mut paragraphs = Paragraphs::new(BufReader::new(unpacked), &["package", "version", "md5sum"]);
        let (mut all, mut used) = (0_u64, 0_u64);
        while let Some(paragraph) = paragraphs.next().map_err(failed)? {
            all += 1;
            let shown = format!("the paragraph on line {} of {what}", paragraph.line);
            let (Some(name), Some(version)) = (paragraph.get("package"), paragraph.get("version")) else {
                page.skip(shown, "it has no name or version");
                continue;
            };
            let path = if era == Era::First {
                format!("packages/{category}/{release}/src/contrib/Source/{name}_{version}.tar.gz")
            } else {
                format!("packages/{release}/{category}/src/contrib/{name}_{version}.tar.gz")
            };
            let said = Said { name, version, path, md5: paragraph.get("md5sum"), published: None };
            match self.origin((release, category), &said) {
                Ok(origin) => {
                    used += 1;
                    page.origin(origin)?;
                }
                Err(why) => page.skip(shown, why),
            }
        }
        if used == 0 {
            let why = format!("{what}: none of {all} paragraphs is a package, after {bytes} bytes");
            return Err(ListerError::parse(why));
        }
        Ok(())
    }

    /// The origin of a version; or why it is none.
    fn origin(&self, (release, category): (&str, &str), said: &Said<'_>) -> Result<NewOrigin, &'static str> {
        let Said { name, version, path, md5, published } = said;
        if !is_name(name) || !is_name(version) {
            return Err("that can be no package's name or version");
        }
        if !path.split('/').all(is_name) {
            return Err("its source is at no path below the site");
        }
        let mut fields = Map::new();
        for (field, value) in [
            ("package", *name),
            ("release", release),
            ("tar_url", self.at(path).as_str()),
            ("version", version),
            ("category", category),
        ] {
            fields.insert(field.to_owned(), value.into());
        }
        if let Some(md5) = md5 {
            fields.insert("checksums".to_owned(), json!({ "md5": md5 }));
        }
        if let Some(date) = published {
            fields.insert("last_update_date".to_owned(), (*date).into());
        }
        let updated = published.and_then(|date| day_date(date.trim_end_matches(" UTC")));
        let key = format!("{release}/{category}/{version}");
        Ok(NewOrigin::new(self.at(&format!("packages/{name}")), self.visit_type.clone())
            .with_last_update(updated)
            .with_artifact(Artifact::in_object("packages", key, fields)))
    }
}

/// As names, versions and folders are: no way out of a folder, nothing that a URL takes for something else.
fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._+-~".contains(&b);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(known)
}

impl Lister for Bioconductor {
    type Cursor = BioconductorCursor;

    fn name(&self) -> &'static str {
        "bioconductor"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<BioconductorCursor> {
        if self.releases.is_empty() {
            return vec![BioconductorCursor::Releases];
        }
        self.releases.iter().flat_map(|release| self.indexes(release)).collect()
    }

    fn request(&self, at: &BioconductorCursor) -> Result<Request, ListerError> {
        Ok(match at {
            BioconductorCursor::Releases => {
                Request::get(self.at("about/release-announcements")).with_header("accept", "text/html")
            }
            BioconductorCursor::Index { release, category } => {
                let path = match Era::of(release) {
                    Some(Era::First) => format!("packages/{category}/{release}/src/contrib/PACKAGES"),
                    Some(Era::Second) => format!("packages/{release}/{category}/src/contrib/PACKAGES"),
                    Some(Era::Json) | None => format!("packages/json/{release}/{category}/packages.json"),
                };
                Request::get(self.at(&path)).validated()
            }
        }
        .configured())
    }

    fn page(
        &self,
        at: &BioconductorCursor,
        response: Response,
        page: &mut Page<BioconductorCursor>,
    ) -> Result<(), ListerError> {
        match at {
            BioconductorCursor::Releases => self.table(&response, page),
            BioconductorCursor::Index { release, category } => {
                self.index((release, category), &response, page)
            }
        }
    }

    fn recover(&self, at: &BioconductorCursor, failure: &Failure) -> Recovery<BioconductorCursor> {
        match at {
            BioconductorCursor::Index { category, .. } if category != MAIN && failure.is_absent() => {
                Recovery::skip("the release has no such category")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the site"),
    Parameter::with_default("instance", ParameterKind::Text, "bioconductor", "name of the instance"),
    Parameter::optional(
        "releases",
        ParameterKind::Text,
        "releases, such as 3.17, with commas between them; by default all",
    ),
    Parameter::optional(
        "categories",
        ParameterKind::Text,
        "categories of the releases from 2.5 on, with commas between them; by default bioc, workflows, data/annotation, data/experiment",
    ),
    Parameter::optional("incremental", ParameterKind::Boolean, "as elsewhere; changes nothing here"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("bioconductor", "Bioconductor (R, genomics)", build)
        .visiting(&["bioconductor", "git"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Bioconductor::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    let (releases, categories) = (arguments.texts("releases"), arguments.texts("categories"));
    if let Some(bad) = releases.iter().find(|release| Era::of(release).is_none()) {
        return Err(arguments.wrong("releases", format!("{bad:?} is no release, such as 3.17")));
    }
    if let Some(bad) = categories.iter().find(|category| !category.split('/').all(is_name)) {
        return Err(arguments.wrong("categories", format!("{bad:?} is no category, such as bioc")));
    }
    if !categories.is_empty() {
        lister = lister.with_categories(categories);
    }
    Ok(Arc::new(Source::stateless(lister.with_releases(releases))))
}
