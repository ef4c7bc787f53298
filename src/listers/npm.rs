//! npm's registry, and others that keep their packages in a CouchDB: every package.
//!
//! # How it lists
//!
//! `GET {url}?limit=N&since=SEQUENCE` asks the change feed (`…/_changes`) of the replication database. It
//! answers `{"results": [{"seq", "id", "changes", "deleted"?}, …], "last_seq": …}`, each package once,
//! where it last changed. The next page is the one since the last `seq`; the end is a page without
//! results, or one that says `"pending": 0`. No size of a page is assumed: servers give fewer than are asked for.
//! At the end `GET` of the database itself tells how far the feed is (`update_seq`).
//!
//! - **Configuration**: `url` (the feed, or its database) and `web_url` (the site: origins are
//!   `{web_url}/package/{name}`) are required; there is no default.
//! - **Credentials**: none.
//! - **Limits**: none documented; npm's own gives at most 10,000 changes a page.
//! - **Order**: by change. A package that changes while the feed is read moves to its end and is seen there.
//! - **Deletions**: the feed names them; a deleted package is gone. A full run (from the feed's beginning)
//!   also retires what the feed does not name at all.
//! - **State**: `{"last_seq": n}`, the sequence of the last change read, as Software Heritage stores it. A
//!   sequence is a number here, a text (`28-g1AAAA…`) in newer CouchDBs. `resets` is added where the
//!   database was made anew: its sequences began again, and so does the listing, by itself.
//! - **Cost**: a full listing takes one request for each page and two at the end, 350 to 500 of npm at
//!   10,000 a page; a later run one for each page of changes, and two.
//!
//! # What it cannot see
//!
//! - When a package last changed: the feed has no dates, so the last update is unknown.
//! - That a database was made anew, where it has more changes by now than were read of the old one:
//!   only a full run finds what is missing then.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/npm.rs` that fails without it:
//!
//! - asks the feed from its beginning, or from the stored sequence, by pages of the size set:
//!   `npm_asks_the_feed_by_sequence`, `npm_resumes_after_the_last_sequence`
//! - goes on after a short page, until one is empty or says that nothing is pending:
//!   `npm_a_short_page_is_no_end`, `npm_nothing_pending_is_the_end`
//! - names are kept as they are, with their scope: `npm_lists_packages_by_name`
//! - deleted packages are gone, and the last that a page says of one counts: `npm_deleted_packages_are_gone`,
//!   `npm_the_last_word_counts`
//! - design documents are no packages: `npm_design_documents_are_counted`
//! - no date is made up: `npm_gives_no_date`
//! - sequences may be texts: `npm_sequences_may_be_texts`
//! - states join to the latest, by resets first: `npm_states_join_to_the_latest`
//! - a database that was made anew is listed from its beginning: `npm_a_database_made_anew_is_listed_again`
//! - one that does not say how far it is costs nothing: `npm_a_database_that_says_nothing_is_let_be`
//! - a broken body is an error with its place: `npm_a_broken_body_is_an_error_with_its_place`
//! - both URLs are required, and the feed's may name the database: `npm_needs_both_urls`,
//!   `npm_the_url_may_be_the_database`

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::lister::{
    Arguments, ConfigError, Entry, Failure, FailureKind, Incremental, Lister, ListerError, Page, PageSource,
    Parameter, ParameterKind, Recovery, RunInfo, Source,
};
use crate::model::{GoneReason, NewOrigin, OriginKey, VisitType};
use crate::transport::{Request, Response, TransportErrorKind};

/// What npm's own feed gives at most.
const PAGE_SIZE: u64 = 10_000;

/// Lists npm. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Npm;
/// use lamplighter::model::Timestamp;
///
/// let npm = Npm::new("https://replicate.example/_changes".parse()?, &"https://www.example".parse()?)?;
/// let start = npm.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// let request = npm.request(&start[0])?;
/// assert_eq!(request.url.as_str(), "https://replicate.example/_changes?limit=10000&since=0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Npm {
    database: Url,
    feed: Url,
    /// Without a slash at its end.
    web: String,
    visit_type: VisitType,
    instance: String,
    page_size: u64,
}

/// The sequence of a change: a number, or a text that begins with one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum NpmSequence {
    /// As npm gives it.
    Number(u64),
    /// As CouchDB gives it since version 2.
    Text(String),
}

/// Where a listing of npm is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NpmCursor {
    /// The changes since a sequence; all of them where there is none.
    Changes {
        /// The last sequence that was read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<NpmSequence>,
        /// How often the database is known to have been made anew.
        #[serde(default, skip_serializing_if = "is_zero")]
        resets: u32,
    },
    /// How far the database is, after all changes up to this sequence were read.
    Database {
        /// The last sequence that was read.
        since: NpmSequence,
        /// How often the database is known to have been made anew.
        #[serde(default, skip_serializing_if = "is_zero")]
        resets: u32,
    },
}

/// What is remembered of npm between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NpmState {
    /// The sequence of the last change that was read.
    #[serde(default)]
    pub last_seq: Option<NpmSequence>,
    /// How often the database was found to be made anew.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resets: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Change>,
    pending: Option<u64>,
}

#[derive(Deserialize)]
struct Change {
    seq: NpmSequence,
    id: String,
    #[serde(default)]
    deleted: bool,
}

#[derive(Deserialize)]
struct Database {
    update_seq: NpmSequence,
}

impl NpmSequence {
    /// The number that it is, or begins with.
    fn number(&self) -> Option<u64> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Text(text) => text.split('-').next().and_then(|n| n.parse().ok()),
        }
    }
}

impl fmt::Display for NpmSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl NpmState {
    fn new(last_seq: Option<NpmSequence>, resets: u32) -> Self {
        Self { last_seq, resets }
    }

    /// Which of two is later. What follows a text's number is opaque; it only breaks a tie, so that
    /// there is one order.
    fn later(&self, other: &Self) -> Ordering {
        let rank = |state: &Self| {
            let seq = state.last_seq.as_ref();
            (state.resets, seq.and_then(NpmSequence::number), seq.map(ToString::to_string))
        };
        let is_text = |state: &Self| matches!(state.last_seq, Some(NpmSequence::Text(_)));
        rank(self).cmp(&rank(other)).then_with(|| is_text(self).cmp(&is_text(other)))
    }
}

impl Npm {
    /// The registry whose change feed (`…/_changes`), or whose database, is at `url`, and whose
    /// packages have their pages at `{web}/package/{name}`. The instance is named `npm`.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when `url` cannot have a path.
    pub fn new(url: Url, web: &Url) -> Result<Self, ConfigError> {
        let mut database = url;
        database.set_query(None);
        database.set_fragment(None);
        let whole = database.path().trim_end_matches('/').ends_with("/_changes");
        let mut feed = database.clone();
        let no_path = |()| ConfigError::Value { name: "url".into(), problem: "cannot have a path".into() };
        {
            let mut path = database.path_segments_mut().map_err(no_path)?;
            path.pop_if_empty();
            if whole {
                path.pop();
            }
            path.push("");
        }
        {
            let mut path = feed.path_segments_mut().map_err(no_path)?;
            path.pop_if_empty();
            if !whole {
                path.push("_changes");
            }
        }
        Ok(Self {
            database,
            feed,
            web: web.as_str().trim_end_matches('/').to_owned(),
            visit_type: VisitType::known("npm"),
            instance: "npm".to_owned(),
            page_size: PAGE_SIZE,
        })
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Asks for so many changes a page. A server may give fewer.
    #[must_use]
    pub fn with_page_size(mut self, page_size: u64) -> Self {
        self.page_size = page_size.max(1);
        self
    }

    fn origin(&self, name: &str) -> String {
        format!("{}/package/{name}", self.web)
    }

    fn changes(
        &self,
        since: Option<&NpmSequence>,
        resets: u32,
        response: &Response,
        page: &mut Page<NpmCursor>,
    ) -> Result<(), ListerError> {
        let answer: Answer = response.json()?;
        // A package that is on a page twice is what the page says of it last.
        let last: HashMap<&str, usize> =
            answer.results.iter().enumerate().map(|(n, change)| (change.id.as_str(), n)).collect();
        for (n, change) in answer.results.iter().enumerate() {
            if change.id.starts_with("_design/") {
                page.skip(&change.id, "a design document, no package");
            } else if last.get(change.id.as_str()) == Some(&n) {
                let url = self.origin(&change.id);
                if change.deleted {
                    page.gone(OriginKey::new(url, self.visit_type.clone()), GoneReason::Deleted);
                } else {
                    page.origin(NewOrigin::new(url, self.visit_type.clone()))?;
                }
            }
        }
        let latest = answer.results.last().map(|change| &change.seq);
        if let Some(latest) = latest {
            page.mark(&NpmState::new(Some(latest.clone()), resets));
        }
        match (latest, latest.or(since)) {
            (Some(latest), _) if answer.pending != Some(0) => {
                page.next(NpmCursor::Changes { since: Some(latest.clone()), resets });
            }
            (_, Some(reached)) => page.follow(NpmCursor::Database { since: reached.clone(), resets }),
            _ => {}
        }
        Ok(())
    }
}

impl Lister for Npm {
    type Cursor = NpmCursor;

    fn name(&self) -> &'static str {
        "npm"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<NpmCursor> {
        vec![NpmCursor::Changes { since: None, resets: 0 }]
    }

    fn request(&self, at: &NpmCursor) -> Result<Request, ListerError> {
        let url = match at {
            NpmCursor::Database { .. } => self.database.clone(),
            NpmCursor::Changes { since, .. } => {
                let since = since.as_ref().map_or_else(|| "0".to_owned(), ToString::to_string);
                let mut url = self.feed.clone();
                url.query_pairs_mut()
                    .append_pair("limit", &self.page_size.to_string())
                    .append_pair("since", &since);
                url
            }
        };
        Ok(Request::get(url).configured().with_header("accept", "application/json"))
    }

    fn page(
        &self,
        at: &NpmCursor,
        response: Response,
        page: &mut Page<NpmCursor>,
    ) -> Result<(), ListerError> {
        match at {
            NpmCursor::Changes { since, resets } => self.changes(since.as_ref(), *resets, &response, page),
            NpmCursor::Database { since, resets } => {
                let database: Database = response.json()?;
                // Behind what was read of it: it is another one now.
                if database.update_seq.number() < since.number() && database.update_seq.number().is_some() {
                    let resets = resets.saturating_add(1);
                    page.mark(&NpmState::new(None, resets));
                    page.follow(NpmCursor::Changes { since: None, resets });
                }
                Ok(())
            }
        }
    }

    fn recover(&self, at: &NpmCursor, failure: &Failure) -> Recovery<NpmCursor> {
        let absent =
            failure.is_absent() || failure.kind == FailureKind::Transport(TransportErrorKind::NotRecorded);
        match at {
            // Mirrors of the feed need not be databases.
            NpmCursor::Database { .. } if absent => {
                Recovery::skip("the database does not say how far it is: a new one would not be noticed")
            }
            _ => Recovery::gap(),
        }
    }
}

impl Incremental for Npm {
    type State = NpmState;

    fn resume(&self, state: &NpmState, _: &RunInfo) -> Vec<NpmCursor> {
        vec![NpmCursor::Changes { since: state.last_seq.clone(), resets: state.resets }]
    }

    fn join(&self, ours: NpmState, stored: NpmState) -> NpmState {
        if ours.later(&stored) == Ordering::Greater { ours } else { stored }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::required("url", ParameterKind::Url, "the change feed, https://…/_changes, or its database"),
    Parameter::required("web_url", ParameterKind::Url, "the site: packages are at {web_url}/package/NAME"),
    Parameter::with_default("instance", ParameterKind::Text, "npm", "name of the instance"),
    Parameter::with_default("page_size", ParameterKind::Integer, "10000", "changes a page to ask for"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("npm", "npm, and registries that are a CouchDB", build)
        .visiting(&["npm"])
        .incremental()
        .with_parameters(PARAMETERS)
        .with_positions(&["since"])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Npm::new(arguments.required_url("url")?, &arguments.required_url("web_url")?)?;
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    match arguments.integer("page_size") {
        Some(0) => return Err(arguments.wrong("page_size", "must be at least 1")),
        Some(size) => lister = lister.with_page_size(size),
        None => {}
    }
    Ok(Arc::new(Source::incremental(lister)))
}
