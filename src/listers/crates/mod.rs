//! The Rust registry, and others that publish the same dump of their database: every crate.
//!
//! # How it lists
//!
//! `GET {static_url}/db-dump.tar.gz`, which is made once a day. Three of its members are read, as streams:
//! `*/metadata.json` (`timestamp`), `*/data/crates.csv` (`id`, `name`, `updated_at`) and `*/data/versions.csv`
//! (`crate_id`, `num`, `updated_at`, and `checksum` or `tar_sha256`), with their columns by the names in the
//! first line, in any order.
//!
//! - **Configuration**: `url` (the site: origins are `{url}/crates/{name}`) and `static_url` are required;
//!   there is no default.
//! - **Credentials**: none.
//! - **Limits**: none known; the dump is large (more than 1 GiB of the public registry), so that the time a
//!   request may take has to fit the line.
//! - **Origins**: one for each crate that has versions, with `artifacts`: of each version (yanked ones too)
//!   `version`, `filename`, `url` and `checksums`, in the order of versions. Its last update is the
//!   latest of the crate's and its versions', and its id that of the database.
//! - **State**: `{"index_last_update": date}`, the dump's own time, as Software Heritage stores it. A later
//!   run lists the crates that changed, or of which a version changed, after it. `etag` is added where the
//!   server gave one: while the dump is the same, it is not sent again.
//! - **Memory**: the names and dates of all crates (about 35 bytes each), and a million versions
//!   at a time (about 50 bytes each). Where more have to be listed, the dump is read again from disk for the next
//!   million. Nothing of it is unpacked to disk, and nothing listed before it was read to its end.
//! - **Cost**: one request.
//!
//! # What it cannot see
//!
//! - What happened since the dump was made.
//! - Deleted crates: a dump does not name them. A full run takes the crates that are no longer in it for
//!   gone, and costs the same one request.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/crates.rs` that fails without it:
//!
//! - asks for the dump, and not again for the same one: `crates_asks_for_the_dump`,
//!   `crates_an_unchanged_dump_costs_a_condition`
//! - joins versions to crates, sorted, in the shape that loaders take: `crates_joins_versions_to_crates`,
//!   `crates_sorts_versions`
//! - the last update is the latest date, not the oldest version's: `crates_gives_the_latest_date`
//! - both names and forms of the checksum, and none: `crates_reads_either_checksum`
//! - members and columns in any order, other ones ignored: `crates_members_and_columns_in_any_order`
//! - a later run lists what changed since the dump before, versions (yanked ones) too:
//!   `crates_lists_what_changed_since`, `crates_a_yanked_version_is_a_change`
//! - a dump that is not newer has nothing new: `crates_an_older_dump_says_nothing`
//! - the state is the dump's time, of Software Heritage's too: `crates_marks_the_time_of_the_dump`,
//!   `crates_reads_dates_without_offset`
//! - crates without versions, and names and numbers that can be no part of a URL, are counted:
//!   `crates_what_cannot_be_listed_is_counted`
//! - more versions than are kept at a time are read in turns: `crates_many_versions_are_read_in_turns`
//! - a dump that breaks off, is a bomb, leads out of its archive, has a member twice or not at all, or as a
//!   link, lists nothing and says where: `crates_a_hostile_dump_is_an_error_with_its_place`
//! - a table that is broken is an error with its line: `crates_a_broken_table_is_an_error_with_its_line`
//! - both URLs are required: `crates_needs_both_urls`

mod dump;
mod table;

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source, utc_date,
};
use crate::model::Timestamp;
use crate::transport::{Request, Response};

/// How many versions are kept at a time.
const AT_ONCE: usize = 1_000_000;

/// Lists a Rust registry. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Crates;
/// use lamplighter::model::Timestamp;
///
/// let crates = Crates::new(&"https://registry.example".parse()?, &"https://static.example".parse()?);
/// let start = crates.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(crates.request(&start[0])?.url.as_str(), "https://static.example/db-dump.tar.gz");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Crates {
    /// Without a slash at its end.
    web: String,
    /// Without a slash at its end.
    files: String,
    dump: Url,
    instance: String,
    at_once: usize,
}

/// The dump, and what is known of the one before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CratesCursor {
    /// Crates that changed later are listed; all of them where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The validator of the dump that was listed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// What is remembered of a Rust registry between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CratesState {
    /// The time of the dump that was listed last.
    #[serde(default, deserialize_with = "dump_time")]
    pub index_last_update: Option<Timestamp>,
    /// Its validator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// A date that is UTC where it has no offset: so they are in states, and in dumps.
fn dump_time<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
    let wrong = || serde::de::Error::custom(format!("no date with a time: {text:?}"));
    utc_date(&text).map(Some).ok_or_else(wrong)
}

impl Crates {
    /// The registry whose site is at `url`, and whose files are at `static_url`. The instance is
    /// named `crates`.
    #[must_use]
    pub fn new(url: &Url, static_url: &Url) -> Self {
        let bare = |url: &Url| {
            let mut url = url.clone();
            url.set_query(None);
            url.set_fragment(None);
            url
        };
        let mut dump = bare(static_url);
        if let Ok(mut path) = dump.path_segments_mut() {
            path.pop_if_empty().push("db-dump.tar.gz");
        }
        let text = |url: &Url| bare(url).as_str().trim_end_matches('/').to_owned();
        Self {
            web: text(url),
            files: text(static_url),
            dump,
            instance: "crates".to_owned(),
            at_once: AT_ONCE,
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Keeps so many versions in memory at a time; a million by default. Where a dump has more of them
    /// to list, it is read once more for each so many.
    #[must_use]
    pub fn with_versions_at_once(mut self, versions: usize) -> Self {
        self.at_once = versions.max(1);
        self
    }
}

impl Lister for Crates {
    type Cursor = CratesCursor;

    fn name(&self) -> &'static str {
        "crates"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<CratesCursor> {
        vec![CratesCursor { since: None, etag: None }]
    }

    fn request(&self, at: &CratesCursor) -> Result<Request, ListerError> {
        let request = Request::get(self.dump.clone()).configured();
        Ok(match &at.etag {
            Some(etag) => request.with_header("if-none-match", etag),
            None => request,
        })
    }

    fn page(
        &self,
        at: &CratesCursor,
        response: Response,
        page: &mut Page<CratesCursor>,
    ) -> Result<(), ListerError> {
        let made = self.list(&response.body, at.since, page)?;
        let etag = response.header("etag").map(str::to_owned);
        page.mark(&CratesState { index_last_update: Some(made), etag });
        Ok(())
    }

    fn recover(&self, _: &CratesCursor, failure: &Failure) -> Recovery<CratesCursor> {
        if failure.status() == Some(StatusCode::NOT_MODIFIED) {
            Recovery::skip("the dump is still the one that was listed last")
        } else {
            Recovery::gap()
        }
    }
}

impl Incremental for Crates {
    type State = CratesState;

    fn resume(&self, state: &CratesState, _: &RunInfo) -> Vec<CratesCursor> {
        let CratesState { index_last_update: since, etag } = state.clone();
        vec![CratesCursor { since, etag }]
    }

    fn join(&self, ours: CratesState, stored: CratesState) -> CratesState {
        ours.max(stored)
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::required("url", ParameterKind::Url, "the site: crates are at {url}/crates/NAME"),
    Parameter::required(
        "static_url",
        ParameterKind::Url,
        "the files: {static_url}/db-dump.tar.gz and {static_url}/crates/…",
    ),
    Parameter::with_default("instance", ParameterKind::Text, "crates", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("crates", "the Rust registry", build)
        .visiting(&["crates"])
        .incremental()
        .with_parameters(PARAMETERS)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Crates::new(&arguments.required_url("url")?, &arguments.required_url("static_url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::incremental(lister)))
}
