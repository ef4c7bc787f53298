//! The index of Go modules: every module.
//!
//! # How it lists
//!
//! `GET {url}?limit=N&since={timestamp}` answers a line of JSON (`Path`, `Version`, `Timestamp`) for each version, in the order
//! in which they were seen first. The next page is the one since the last line's timestamp, as the index wrote it. A page
//! with fewer lines than were asked for is the last for now; one more request shows whether there are more since.
//!
//! - **Authentication**: none. **Limits**: none documented; at most 2,000 versions a page.
//! - **Order**: of time. The line that a page begins at is on it again.
//! - **Origins**: `{web_url}/{Path}`, with the date of its last version on the page. Paths keep their letters.
//! - **Deletions**: none; the index keeps what it has seen.
//! - **State**: `{"last_seen": timestamp}`, of the last version that was read, as Software Heritage stores it, to the
//!   nanosecond as the index wrote it.
//! - **Cost**: a request for each 2,000 versions, several thousand for all, one after another; a later run, one for
//!   each 2,000 versions that are new.
//!
//! # What it cannot see
//!
//! - That there is nothing in an index: an empty answer is taken for a broken one.
//! - More versions of one moment than fit on a page: an error says so.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/golang.rs` that fails without it:
//!
//! - asks from the beginning, or since the stored timestamp, written as the index takes it: `golang_asks_by_timestamp`
//! - goes on at the last line, to the nanosecond: `golang_goes_on_at_the_last_line`
//! - versions of the moment that it goes on at are not lost: `golang_versions_of_one_moment_are_not_lost`
//! - a path is listed once a page, by its last date: `golang_lists_a_path_once`
//! - a page whose versions have all one moment is an error: `golang_more_than_a_page_of_one_moment_is_an_error`
//! - states join to the later one, however it is written: `golang_states_join_to_the_later`
//! - odd paths are counted: `golang_odd_paths_are_counted`
//! - a broken body is an error with its place: `golang_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `golang_checks_its_parameters`

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use url::Url;

use super::under;
use crate::lister::{
    Arguments, ConfigError, Entry, Incremental, Lister, ListerError, ListerErrorKind, Page, PageSource,
    Parameter, ParameterKind, RunInfo, Source,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://index.golang.org/index";
const WEB: &str = "https://pkg.go.dev";

/// More are not given.
const LARGEST_PAGE: u64 = 2000;

/// Lists the index of Go modules. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Golang;
/// use lamplighter::model::Timestamp;
///
/// let golang = Golang::new(&"https://index.golang.org/index".parse()?);
/// let start = golang.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(golang.request(&start[0])?.url.as_str(), "https://index.golang.org/index?limit=2000");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Golang {
    index: Url,
    /// Without a slash at its end.
    web: String,
    visit_type: VisitType,
    instance: String,
    page_size: u64,
}

/// Where a listing of the index is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GolangCursor {
    /// Versions of that moment or later, as the index wrote it; all of them where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What is remembered of the index between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GolangState {
    /// The timestamp of the last version that was read.
    #[serde(default)]
    pub last_seen: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Path")]
    path: String,
    #[serde(rename = "Timestamp")]
    timestamp: String,
}

impl Golang {
    /// The index at `url`. The instance is named `golang`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            index: under(url, &[]),
            web: WEB.to_owned(),
            visit_type: VisitType::known("golang"),
            instance: "golang".to_owned(),
            page_size: LARGEST_PAGE,
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Says where the pages of modules are; `https://pkg.go.dev` by default.
    #[must_use]
    pub fn with_web_url(mut self, web: &Url) -> Self {
        web.as_str().trim_end_matches('/').clone_into(&mut self.web);
        self
    }

    /// Asks for pages of this size, at most 2,000.
    #[must_use]
    pub fn with_page_size(mut self, page_size: u64) -> Self {
        self.page_size = page_size.clamp(1, LARGEST_PAGE);
        self
    }
}

/// To the nanosecond, which a [`Timestamp`] does not keep.
fn moment(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text).ok()
}

/// A path that can be a module's.
fn is_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!+/".contains(c);
    path.len() <= 1024
        && path.chars().all(plain)
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

impl Lister for Golang {
    type Cursor = GolangCursor;

    fn name(&self) -> &'static str {
        "golang"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<GolangCursor> {
        vec![GolangCursor { since: None }]
    }

    fn request(&self, at: &GolangCursor) -> Result<Request, ListerError> {
        let mut url = self.index.clone();
        url.query_pairs_mut().append_pair("limit", &self.page_size.to_string());
        if let Some(since) = &at.since {
            url.query_pairs_mut().append_pair("since", since);
        }
        Ok(Request::get(url).configured().with_header("accept", "application/json"))
    }

    fn page(
        &self,
        at: &GolangCursor,
        response: Response,
        page: &mut Page<GolangCursor>,
    ) -> Result<(), ListerError> {
        let since = at.since.as_deref().map(|text| moment(text).ok_or_else(|| ListerError::cursor(text)));
        let since = since.transpose()?;
        let io = |e| ListerError::new(ListerErrorKind::Io, "the spooled body").with_source(e);
        let body = response.body.bytes().map_err(io)?;
        let mut lines = Vec::new();
        for (n, line) in serde_json::Deserializer::from_slice(&body).into_iter::<Line>().enumerate() {
            let line = line.map_err(|e| {
                let cut = if e.is_eof() { "the body ends too early, " } else { "" };
                ListerError::parse(format!("{cut}at line {}: {e}", n + 1)).with_source(e)
            })?;
            let Some(seen) = moment(&line.timestamp) else {
                let problem = format!("at line {}: Timestamp: {:?} is no date", n + 1, line.timestamp);
                return Err(ListerError::parse(problem));
            };
            lines.push((line, seen));
        }
        let Some((last, reached)) = lines.last().map(|(line, seen)| (line.timestamp.clone(), *seen)) else {
            // The line that it was asked from would be there, if nothing else.
            return Err(ListerError::parse("the body ends too early, at line 1: there is nothing in it"));
        };
        let (is_full, is_still) = (lines.len() as u64 >= self.page_size, since == Some(reached));
        if is_full && is_still {
            let problem = format!("at line {}: a whole page since {last} does not lead further", lines.len());
            return Err(ListerError::parse(problem));
        }
        // One that does not lead further says nothing but what was seen at this moment.
        lines.retain(|(_, seen)| !is_still || *seen == reached);
        let mut newest: HashMap<&str, DateTime<FixedOffset>> = HashMap::new();
        for (line, seen) in &lines {
            let known = newest.entry(&line.path).or_insert(*seen);
            *known = (*known).max(*seen);
        }
        for (line, _) in &lines {
            let Some(seen) = newest.remove(line.path.as_str()) else { continue };
            if !is_path(&line.path) {
                let path: String = line.path.chars().take(80).collect();
                page.skip(format!("{path:?}"), "that can be no module's path");
                continue;
            }
            let url = format!("{}/{}", self.web, line.path);
            let seen = Timestamp::from(seen.with_timezone(&Utc));
            page.origin(NewOrigin::new(url, self.visit_type.clone()).with_last_update(seen))?;
        }
        page.mark(&GolangState { last_seen: Some(last.clone()) });
        let next = GolangCursor { since: Some(last) };
        if is_full {
            page.next(next);
        } else if !is_still {
            // It is the end, unless there are more since.
            page.follow(next);
        }
        Ok(())
    }
}

impl Incremental for Golang {
    type State = GolangState;

    fn resume(&self, state: &GolangState, run: &RunInfo) -> Vec<GolangCursor> {
        let Some(text) = &state.last_seen else { return self.start(run) };
        // The index takes no other offset than `Z`, and states of Software Heritage have one.
        let since = match moment(text) {
            Some(seen) if !text.ends_with('Z') => {
                seen.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::AutoSi, true)
            }
            _ => text.clone(),
        };
        vec![GolangCursor { since: Some(since) }]
    }

    fn join(&self, ours: GolangState, stored: GolangState) -> GolangState {
        // The text breaks a tie, so that there is one order.
        let rank = |state: &GolangState| {
            let text = state.last_seen.clone();
            (text.as_deref().and_then(moment), text)
        };
        if rank(&ours).cmp(&rank(&stored)) == Ordering::Greater { ours } else { stored }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the index"),
    Parameter::with_default("web_url", ParameterKind::Url, WEB, "modules are at {web_url}/PATH"),
    Parameter::with_default("instance", ParameterKind::Text, "golang", "name of the instance"),
    Parameter::with_default("page_size", ParameterKind::Integer, "2000", "versions a page, 1 to 2000"),
    Parameter::with_default(
        "incremental",
        ParameterKind::Boolean,
        "true",
        "later runs ask for new versions only",
    ),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("golang", "The index of Go modules", build)
        .visiting(&["golang"])
        .incremental()
        .with_parameters(PARAMETERS)
        .with_positions(&["since"])
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let lister = Golang::new(&arguments.required_url("url")?);
    let mut lister = lister.with_web_url(&arguments.required_url("web_url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    let page_size = arguments.integer("page_size").unwrap_or(LARGEST_PAGE);
    if !(1..=LARGEST_PAGE).contains(&page_size) {
        return Err(arguments.wrong("page_size", "must be 1 to 2000: the index gives no more"));
    }
    let lister = lister.with_page_size(page_size);
    if arguments.boolean("incremental") {
        Ok(Arc::new(Source::incremental(lister)))
    } else {
        Ok(Arc::new(Source::stateless(lister)))
    }
}
