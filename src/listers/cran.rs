//! CRAN, the archive of R: every package, with its archived versions.
//!
//! # How it lists
//!
//! `GET {url}/web/dbs/cran_info_db.rds`, a data frame of R (its own serialisation, packed): a row for each file, named by its
//! path on the server, with `size` and `mtime`. Read as a stream, by a reader of our own; R is not needed.
//!
//! - **Credentials**: none. **Limits**: none documented.
//! - **Order**: the file's; nothing depends on it.
//! - **Origins**: `{url}/package={name}`, with `artifacts` in the shape that loaders take, in the order of versions (1.9 before 1.10). The
//!   last update is the latest time of a file.
//! - **State**: none; while the file's `ETag` or `Last-Modified` is the same, it is not read again.
//! - **Deletions**: what the file no longer names is gone after a full run. A package that was archived stays: its files do.
//! - **Cost**: one request (some megabytes).
//!
//! # What it cannot see
//!
//! - What was published since the file was made, which is said to be weekly. Checksums.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/cran.rs` that fails without it:
//!
//! - asks for one file, and not again for the same one: `cran_asks_once`
//! - a package is an origin with all its files, in the shape that loaders take: `cran_lists_packages`
//! - versions are in their own order, and the last file of one counts: `cran_versions_are_in_order`
//! - names end at the first underscore, or at a hyphen before a digit: `cran_names_end_before_the_version`
//! - reads the forms that R writes: `cran_reads_what_r_writes`
//! - what is no file of a version is counted: `cran_other_files_are_counted`
//! - a broken or hostile file is an error with its place: `cran_a_broken_file_is_an_error_with_its_place`
//! - its parameters: `cran_takes_its_url`

use std::sync::Arc;

use serde_json::json;
use url::Url;

use super::under;
use crate::lister::rds::each_row;
use crate::lister::{
    Arguments, ConfigError, Entry, Lister, ListerError, Page, PageSource, Parameter, ParameterKind, RunInfo,
    Source, in_order, seconds_date,
};
use crate::model::{Artifact, NewOrigin, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://cran.r-project.org";

/// Where the served tree begins in a path of the server.
const TREE: &str = "/src/contrib/";

const SUFFIX: &str = ".tar.gz";

/// Lists CRAN. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Cran;
/// use lamplighter::model::Timestamp;
///
/// let cran = Cran::new(&"https://cran.r-project.org".parse()?);
/// let start = cran.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(cran.request(&start[0])?.url.path(), "/web/dbs/cran_info_db.rds");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cran {
    index: Url,
    /// Without a slash at its end.
    base: String,
    visit_type: VisitType,
    instance: String,
}

impl Cran {
    /// The archive, or a mirror of it, at `url`. The instance is named `cran`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            index: under(url, &["web", "dbs", "cran_info_db.rds"]),
            base: under(url, &[]).as_str().trim_end_matches('/').to_owned(),
            visit_type: VisitType::known("cran"),
            instance: "cran".to_owned(),
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// The origin of a file; or why it is none.
    fn origin(&self, path: &str, size: Option<f64>, time: Option<f64>) -> Result<NewOrigin, &'static str> {
        let tree = path.find(TREE).ok_or("it is not among the sources")?;
        let place = path.get(tree..).unwrap_or_default();
        let file = place.rsplit('/').next().unwrap_or_default();
        let stem = file.strip_suffix(SUFFIX).ok_or("it is no .tar.gz")?;
        let (name, version) = split(stem).ok_or("its name has no version")?;
        if place.contains(|c: char| c.is_control() || c.is_whitespace() || "?#%\\".contains(c))
            || place.split('/').any(|folder| matches!(folder, "." | ".."))
        {
            return Err("that can be no file's path");
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of a length it is cut")]
        let length = size.map(|size| size as u64);
        let artifact = json!({
            "url": format!("{}{place}", self.base),
            "version": version,
            "package": name,
            "checksums": { "length": length },
        });
        let updated = time.and_then(|time| seconds_date(&format!("{time:.6}")));
        Ok(NewOrigin::new(format!("{}/package={name}", self.base), self.visit_type.clone())
            .with_last_update(updated)
            .with_artifact(Artifact::in_list("artifacts", in_order(version), artifact)))
    }
}

/// Name and version of a file.
fn split(stem: &str) -> Option<(&str, &str)> {
    let digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let hyphen = || {
        let at =
            stem.match_indices('-').map(|(at, _)| at).find(|at| stem.get(at + 1..).is_some_and(digit))?;
        Some((stem.get(..at)?, stem.get(at + 1..)?))
    };
    let (name, version) = stem.split_once('_').or_else(hyphen)?;
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    let fits = |part: &str| !part.is_empty() && part.len() <= 255 && part.bytes().all(known);
    (fits(name) && fits(version)).then_some((name, version))
}

impl Lister for Cran {
    /// There is one request.
    type Cursor = ();

    fn name(&self) -> &'static str {
        "cran"
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
        const WHAT: &str = "cran_info_db.rds";
        let (mut all, mut used) = (0_u64, 0_u64);
        page.part("files");
        each_row(WHAT, &response.body, ["size", "mtime"], |path, [size, time]| {
            all += 1;
            match self.origin(path, size, time) {
                Ok(origin) => {
                    used += 1;
                    page.origin(origin)?;
                }
                Err(why) => page.skip(format!("{:?}", path.chars().take(200).collect::<String>()), why),
            }
            Ok(())
        })?;
        if all > 0 && used == 0 {
            return Err(ListerError::parse(format!("{WHAT}: none of {all} rows is a file of a package")));
        }
        Ok(())
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the archive"),
    Parameter::with_default("instance", ParameterKind::Text, "cran", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("cran", "CRAN (R)", build)
        .visiting(&["cran"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Cran::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
