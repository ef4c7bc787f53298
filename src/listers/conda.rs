//! Channels of conda: every package, with its builds.
//!
//! # How it lists
//!
//! `GET {url}/{channel}/{arch}/repodata.json.zst` for each architecture (else `.json.bz2`, else `.json`), read entry by
//! entry. Both kinds of files are read: those in `packages` (`.tar.bz2`) and those in `packages.conda`.
//!
//! - **Configuration**: `channel` and `archs` (such as `noarch,linux-64`; `noarch` is one of them). `instance` is the
//!   channel by default, because a channel is listed for itself.
//! - **Credentials**: none. **Limits**: none documented.
//! - **Order**: architectures as given; nothing depends on it.
//! - **Origins**: `https://anaconda.org/{channel}/{name}`, with `artifacts` over all architectures in the shape that loaders take, in the
//!   order of architectures and file names. Where a build is there in both forms both are artifacts of its version.
//!   The last update is the latest date of a file.
//! - **State**: none. An architecture is a *part* of the listing: while its file's `ETag` or `Last-Modified` is the same it is
//!   not read again, and one that cannot be read keeps what it said.
//! - **Deletions**: what no architecture names any longer is gone after a full run.
//! - **Cost**: one request for each architecture, or up to three at a mirror without the smaller forms.
//!
//! # What it cannot see
//!
//! - Architectures that are not given.
//! - Where files are, if a channel keeps them elsewhere (`base_url` in its file): they are taken to be beside it.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/conda.rs` that fails without it:
//!
//! - asks each architecture for its smallest file: `conda_asks_each_architecture`
//! - goes to the next form only where one is not there: `conda_the_next_form_is_asked_for_where_one_is_not_there`
//! - builds come in the shape that loaders take, in both forms: `conda_lists_builds_in_both_forms`
//! - dates are milliseconds, seconds or days: `conda_dates_come_in_several_forms`
//! - reads each compression, whatever the name says: `conda_reads_each_compression`
//! - odd entries are counted: `conda_odd_entries_are_counted`
//! - a broken file is an error with its place: `conda_a_broken_file_is_an_error_with_its_place`
//! - its parameters: `conda_takes_its_channel`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use super::under;
use crate::lister::compress::{Unpacked, unpacking};
use crate::lister::json::each_named_of;
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    Recovery, RunInfo, Source, day_date, iso_date,
};
use crate::model::{Artifact, NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://repo.anaconda.com/pkgs";

/// The forms of a file, the smallest first.
const FORMS: [&str; 3] = ["repodata.json.zst", "repodata.json.bz2", "repodata.json"];

/// The lists of files in it.
const LISTS: [&str; 2] = ["packages", "packages.conda"];

/// The last second of the year 9999: as conda itself has it, what is more is milliseconds.
const LAST_SECOND: i64 = 253_402_300_799;

/// Lists a channel of conda. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Conda;
/// use lamplighter::model::Timestamp;
///
/// let conda = Conda::new(&"https://conda.anaconda.org".parse()?, "conda-forge", ["noarch"]);
/// let start = conda.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(conda.request(&start[0])?.url.path(), "/conda-forge/noarch/repodata.json.zst");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conda {
    base: Url,
    channel: String,
    archs: Vec<String>,
    visit_type: VisitType,
    instance: String,
}

/// Where a listing of a channel is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CondaCursor {
    /// The architecture.
    pub arch: String,
    /// The form of its file that is tried, by number.
    pub form: usize,
}

#[derive(Deserialize)]
struct Listed {
    name: Option<String>,
    version: Option<String>,
    build: Option<String>,
    md5: Option<String>,
    sha256: Option<String>,
    timestamp: Option<f64>,
    date: Option<String>,
}

impl Listed {
    fn date(&self) -> Option<Timestamp> {
        #[allow(clippy::cast_possible_truncation, reason = "a float is cut to what a number can hold")]
        let number = self.timestamp.map(|number| number as i64).filter(|number| *number > 0);
        match number {
            Some(ms) if ms > LAST_SECOND => Some(Timestamp::from_micros(ms.saturating_mul(1000))),
            Some(seconds) => Some(Timestamp::from_seconds(seconds)),
            None => self.date.as_deref().and_then(day_date),
        }
    }
}

impl Conda {
    /// The architectures of a channel at `url`. The instance is named as the channel.
    pub fn new<A: Into<String>>(
        url: &Url,
        channel: impl Into<String>,
        archs: impl IntoIterator<Item = A>,
    ) -> Self {
        let channel = channel.into();
        let segments: Vec<&str> = channel.split('/').collect();
        Self {
            base: under(url, &segments),
            archs: archs.into_iter().map(Into::into).collect(),
            visit_type: VisitType::known("conda"),
            instance: channel.clone(),
            channel,
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    fn origin(&self, arch: &str, file: &str, build: &Listed) -> Result<NewOrigin, String> {
        let field = |value: &Option<String>, what: &str| {
            value.clone().filter(|v| !v.is_empty()).ok_or_else(|| format!("it has no {what}"))
        };
        let (name, version) = (field(&build.name, "name")?, field(&build.version, "version")?);
        let tag = field(&build.build, "build")?;
        if !is_name(&name) || !is_name(file) {
            return Err("that can be no package's name".to_owned());
        }
        let mut checksums = Map::new();
        for (kind, sum) in [("md5", &build.md5), ("sha256", &build.sha256)] {
            if let Some(sum) = sum.as_ref().filter(|s| !s.is_empty()) {
                checksums.insert(kind.to_owned(), json!(sum));
            }
        }
        let date = build.date();
        let mut artifact = json!({
            "filename": file,
            "url": under(&self.base, &[arch, file]),
            "version": format!("{arch}/{version}-{tag}"),
            "checksums": checksums,
        });
        if let (Some(date), Value::Object(fields)) = (date, &mut artifact) {
            fields.insert("date".to_owned(), iso_date(date).into());
        }
        let url = format!("https://anaconda.org/{}/{name}", self.channel);
        Ok(NewOrigin::new(url, self.visit_type.clone())
            .with_last_update(date)
            .with_artifact(Artifact::in_list("artifacts", format!("{arch}/{file}"), artifact)))
    }
}

/// As conda names packages and files.
fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._+-!~".contains(&b);
    name.len() <= 255 && !name.starts_with('.') && name.bytes().all(known)
}

impl Lister for Conda {
    type Cursor = CondaCursor;

    fn name(&self) -> &'static str {
        "conda"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<CondaCursor> {
        self.archs.iter().map(|arch| CondaCursor { arch: arch.clone(), form: 0 }).collect()
    }

    fn request(&self, at: &CondaCursor) -> Result<Request, ListerError> {
        let file = FORMS.get(at.form).ok_or_else(|| ListerError::cursor(format!("{at:?}")))?;
        Ok(Request::get(under(&self.base, &[&at.arch, file])).configured().validated())
    }

    fn page(
        &self,
        at: &CondaCursor,
        response: Response,
        page: &mut Page<CondaCursor>,
    ) -> Result<(), ListerError> {
        let what = format!("{}/repodata.json", at.arch);
        let unpacked = Unpacked::new(&response.body).map_err(|e| unpacking(&what, e))?;
        page.part(at.arch.as_str());
        let (mut all, mut used) = (0_u64, 0_u64);
        let found = each_named_of(&what, unpacked, &LISTS, |list, file, build: Listed| {
            all += 1;
            match self.origin(&at.arch, &file, &build) {
                Ok(origin) => {
                    used += 1;
                    page.origin(origin)?;
                }
                Err(why) => {
                    let file: String = file.chars().take(80).collect();
                    page.skip(format!("{file:?} in {list} of {}", at.arch), why);
                }
            }
            Ok(())
        })?;
        if found.is_empty() {
            let (bytes, lists) = (response.body.len(), LISTS.join(" nor "));
            return Err(ListerError::parse(format!("{what}: neither {lists}, after {bytes} bytes")));
        }
        if all > 0 && used == 0 {
            return Err(ListerError::parse(format!("{what}: none of {all} entries is a package")));
        }
        Ok(())
    }

    fn recover(&self, at: &CondaCursor, failure: &Failure) -> Recovery<CondaCursor> {
        if !failure.is_not_there() {
            return Recovery::gap();
        }
        // What is missing is the architecture, in whatever form: the gap is to be where the search begins.
        let form = if at.form + 1 < FORMS.len() { at.form + 1 } else { 0 };
        Recovery::replaced(vec![CondaCursor { arch: at.arch.clone(), form }])
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the server: channels are at {url}/{channel}"),
    Parameter::required("channel", ParameterKind::Text, "the channel, such as conda-forge"),
    Parameter::required("archs", ParameterKind::Text, "its architectures, such as noarch,linux-64"),
    Parameter::optional("instance", ParameterKind::Text, "name of the instance; by default the channel"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("conda", "Channels of conda", build)
        .visiting(&["conda"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let is_path = |path: &str| path.split('/').all(|segment| !segment.is_empty() && is_name(segment));
    let channel = arguments.text("channel").unwrap_or_default().trim_matches('/');
    if !is_path(channel) {
        return Err(arguments.wrong("channel", format!("{channel:?} is no name of one")));
    }
    let archs = arguments.texts("archs");
    if archs.is_empty() {
        return Err(arguments.wrong("archs", "names none"));
    }
    if let Some(bad) = archs.iter().find(|arch| !is_name(arch)) {
        return Err(arguments.wrong("archs", format!("{bad:?} is no name of one")));
    }
    let mut lister = Conda::new(&arguments.required_url("url")?, channel, archs);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
