//! Go's module index: every module that the public proxy ever served.
//!
//! # How it lists
//!
//! `GET {url}?limit=2000&since={time}`: one JSON object a line, `{"Path", "Version", "Timestamp"}`, a version each, in the order in
//! which the proxy saw them, from that time on. The next page is asked by the last line's time, to the
//! nanosecond and as it was written. The listing ends where that time is the one that was asked for.
//!
//! - **Authentication**: none. **Limits**: none documented.
//! - **Order**: by time, and what is new comes at the end.
//! - **Origins**: `https://pkg.go.dev/{Path}`, whose last update is the time of its latest version.
//! - **State**: `{"last_seen": time}`, as Software Heritage stores it; its `+00:00` is read, and written `Z`,
//!   which is all that the index understands.
//! - **Cost**: a request for each 2,000 versions: thousands for all, one or more a day.
//!
//! # What it cannot see
//!
//! - Deletions and retractions: the index only grows, so that a full run finds what there ever was.
//! - More than 2,000 versions of one time: what is left of them is counted and passed by.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/golang.rs` that fails without it:
//!
//! - asks from the beginning, or from the stored time, written as the index reads it: `golang_asks_by_time`
//! - a module is one origin, of its latest version's time: `golang_lists_modules_by_their_latest_version`
//! - goes on at the last time and ends where it does not go on: `golang_goes_on_at_the_last_time`
//! - a page of versions older than was asked for is an error, and no end: `golang_an_older_page_is_refused`
//! - what is new at the time that was asked for is listed: `golang_nothing_at_the_border_is_lost`
//! - a full page of one time is passed by: `golang_more_of_one_time_than_a_page_are_counted`
//! - states join to the later time, however it is written: `golang_states_join_to_the_later_time`
//! - modules without a path are counted: `golang_odd_lines_are_counted`
//! - an empty answer is an error, as what is of the time itself is always given: `golang_an_empty_answer_is_an_error`
//! - a broken line is an error with its number: `golang_a_broken_line_is_an_error_with_its_number`
//! - its parameters: `golang_takes_its_url`

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::lister::{
    Arguments, ConfigError, Coverage, Entry, Incremental, Lister, ListerError, Mode, Page, PageSource,
    Parameter, ParameterKind, RunInfo, Source,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://index.golang.org/index";

/// As many lines as the index gives at most.
const PAGE: usize = 2000;

/// The longest line.
const LONGEST: u64 = 1 << 20;

/// Lists Go's module index. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Golang;
/// use lamplighter::model::Timestamp;
///
/// let golang = Golang::new("https://index.golang.org/index".parse()?);
/// let start = golang.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(golang.request(&start[0])?.url.query(), Some("limit=2000"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Golang {
    index: Url,
    visit_type: VisitType,
    instance: String,
}

/// The versions from a time on, as the index writes it; from the beginning where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GolangCursor {
    /// The time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What is remembered of Go's index between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GolangState {
    /// The time of the last version that was read.
    #[serde(default)]
    pub last_seen: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    path: String,
    timestamp: String,
}

impl Golang {
    /// The index at `url`. The instance is named `golang`.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { index: url, visit_type: VisitType::known("golang"), instance: "golang".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}

/// To the nanosecond, as the index counts.
fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text.trim()).ok().map(|t| t.with_timezone(&Utc))
}

/// As the index reads it.
fn written(text: &str) -> String {
    match time(text) {
        Some(t) if !text.ends_with('Z') => t.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        _ => text.to_owned(),
    }
}

/// Hands over each line with its number, the first being 1.
fn each_line(
    response: &Response,
    mut each: impl FnMut(u64, &str) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let mut reader = response.body.reader();
    let mut line = Vec::new();
    for n in 1.. {
        line.clear();
        let wrong = |problem: &dyn std::fmt::Display| ListerError::parse(format!("at line {n}: {problem}"));
        let read =
            (&mut reader).take(LONGEST).read_until(b'\n', &mut line).map_err(|e| wrong(&e).with_source(e))?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == LONGEST {
            return Err(wrong(&"it is longer than 1 MiB"));
        }
        let text = std::str::from_utf8(&line).map_err(|e| wrong(&e).with_source(e))?.trim();
        if !text.is_empty() {
            each(n, text)?;
        }
    }
    Ok(())
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
        url.query_pairs_mut().append_pair("limit", &PAGE.to_string());
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
        let asked = match at.since.as_deref() {
            Some(since) => {
                Some(time(since).ok_or_else(|| ListerError::cursor(format!("{since:?} is no time")))?)
            }
            None => None,
        };
        let mut modules: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
        let mut last: Option<(DateTime<Utc>, String)> = None;
        let mut lines = 0;
        each_line(&response, |n, text| {
            let wrong = |problem: String| ListerError::parse(format!("at line {n}: {problem}"));
            let version: Version =
                serde_json::from_str(text).map_err(|e| wrong(e.to_string()).with_source(e))?;
            let when = time(&version.timestamp)
                .ok_or_else(|| wrong(format!("Timestamp: {:?} is no time", version.timestamp)))?;
            lines += 1;
            if lines > PAGE {
                return Err(wrong(format!("more than the {PAGE} versions that were asked for")));
            }
            if asked.is_some_and(|asked| when < asked) {
                return Err(wrong(format!(
                    "{} is older than what was asked for: another page, or `since` is not heeded",
                    version.timestamp
                )));
            }
            last = Some((when, version.timestamp));
            if version.path.is_empty() || version.path.contains(|c: char| c.is_whitespace() || c.is_control())
            {
                page.skip(
                    format!("{:?}", version.path.chars().take(80).collect::<String>()),
                    "that can be no module's path",
                );
                return Ok(());
            }
            let known = modules.entry(version.path).or_insert(when);
            *known = (*known).max(when);
            Ok(())
        })?;
        if lines == 0 {
            let asked = at.since.as_deref().unwrap_or("the beginning");
            return Err(ListerError::parse(format!(
                "at line 1: nothing since {asked}, not even what is of that time"
            )));
        }
        let stands_still = last.as_ref().is_some_and(|(reached, _)| Some(*reached) == asked);
        for (path, when) in modules {
            let url = format!("https://pkg.go.dev/{path}");
            page.origin(
                NewOrigin::new(url, self.visit_type.clone()).with_last_update(Timestamp::from(when)),
            )?;
        }
        let Some((reached, text)) = last else { return Ok(()) };
        page.mark(&GolangState { last_seen: Some(text.clone()) });
        if !stands_still {
            page.next(GolangCursor { since: Some(text) });
        } else if lines == PAGE {
            page.skip(
                format!("the versions of {text} after the first {PAGE}"),
                "the index gives no more of one time",
            );
            let after = reached + chrono::TimeDelta::nanoseconds(1);
            page.next(GolangCursor { since: Some(after.to_rfc3339_opts(SecondsFormat::AutoSi, true)) });
        }
        Ok(())
    }

    fn coverage(&self, _: Mode) -> Coverage {
        // What the index does not say again is not gone.
        Coverage::New
    }
}

impl Incremental for Golang {
    type State = GolangState;

    fn resume(&self, state: &GolangState, _: &RunInfo) -> Vec<GolangCursor> {
        vec![GolangCursor { since: state.last_seen.as_deref().map(written) }]
    }

    fn join(&self, ours: GolangState, stored: GolangState) -> GolangState {
        // The text breaks a tie, so that there is one order.
        let rank = |state: &GolangState| (state.last_seen.as_deref().and_then(time), state.last_seen.clone());
        if rank(&ours) > rank(&stored) { ours } else { stored }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the index"),
    Parameter::with_default("instance", ParameterKind::Text, "golang", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("golang", "Go's module index", build)
        .visiting(&["golang"])
        .incremental()
        .with_parameters(PARAMETERS)
        .with_positions(&["since"])
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Golang::new(arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::incremental(lister)))
}
