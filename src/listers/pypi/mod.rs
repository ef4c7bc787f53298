//! Python's registry, and others with the same interfaces: every project.
//!
//! # How it lists
//!
//! In full, `GET {site}/simple/` with `Accept: application/vnd.pypi.simple.v1+json` (PEP 691): one answer
//! with every project, and with the serial up to which it is right (`meta._last-serial`, or the header
//! `X-PyPI-Last-Serial`). Later, the change log from there on, by XML-RPC on `url`: `changelog_last_serial`,
//! then `changelog_since_serial(serial)`, at most 50,000 events each, until that serial is reached.
//! Where a registry has no index in JSON, the change log is read from its beginning; where it has no
//! change log, the index is read for the projects whose own serial is greater.
//!
//! - **Configuration**: `url`, the XML-RPC endpoint, as `https://registry.example/pypi`, is required; the site is
//!   the same without `/pypi`. Origins are `{site}/project/{name}/`, with the name as the registry writes it.
//! - **Credentials**: none.
//! - **Limits**: the change log's are told in a fault, and then the index is read instead.
//! - **Order**: the index has none; the change log is in the order of its serials.
//! - **Deletions**: the change log names them (`remove project`), and a full run retires what the index no
//!   longer names. Two spellings of a name (PEP 503) are one project, whose id is the normal one.
//! - **State**: `{"last_serial": n}`, the last serial that was read, as Software Heritage stores it.
//! - **Cost**: a full listing one request (some 40 MB of the public registry, read entry by entry); a later
//!   run two, and one more for each 50,000 events.
//!
//! # What it cannot see
//!
//! - When a project last changed, in a full listing: the index has no dates, and the change log
//!   gives them only for what happens later. Who may upload is no change of a project; what is
//!   edited of it is.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/pypi.rs` that fails without it:
//!
//! - one request lists every project, with its serial: `pypi_lists_the_index`, `pypi_takes_the_serial_of_the_header`
//! - a later run reads the change log, to the serial told at its beginning: `pypi_reads_the_change_log`
//! - a project's date is that of its latest change, not of changes of owners: `pypi_dates_are_of_the_latest_change`
//! - removed projects are gone, those made again are not; a removed file is no removed project:
//!   `pypi_removed_projects_are_gone`
//! - two spellings are one project: `pypi_spellings_are_one_project`
//! - an empty answer ends the reading, and one that does not go on is an error: `pypi_a_change_log_that_stops_is_no_loop`
//! - without an index the change log is read, without a change log the index: `pypi_each_stands_in_for_the_other`
//! - a fault is told in its own words: `pypi_a_fault_is_told`
//! - names that can be no project's are counted: `pypi_names_that_are_none_are_counted`
//! - broken and hostile answers are errors with their place: `pypi_a_broken_answer_is_an_error_with_its_place`
//! - the URL is required, with and without `/pypi`: `pypi_needs_its_url`

mod call;

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::under;
use crate::lister::json::each_entry;
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, FailureKind, Incremental, Lister, ListerError, Page, PageSource,
    Parameter, ParameterKind, Recovery, RunInfo, Source, seconds_date,
};
use crate::model::{GoneReason, NewOrigin, OriginKey, Timestamp, VisitType};
use crate::transport::{Request, Response, TransportErrorKind};
use call::Event;

/// Lists Python's registry. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::PyPi;
/// use lamplighter::model::Timestamp;
///
/// let pypi = PyPi::new(&"https://registry.example/pypi".parse()?);
/// let start = pypi.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(pypi.request(&start[0])?.url.as_str(), "https://registry.example/simple/");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct PyPi {
    endpoint: Url,
    simple: Url,
    /// Without a slash at its end.
    site: String,
    visit_type: VisitType,
    instance: String,
}

/// Where a listing of Python's registry is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PyPiCursor {
    /// The index.
    Simple {
        /// Only projects that changed after this serial; all where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<i64>,
    },
    /// The serial that the registry is at.
    LastSerial {
        /// What was read already.
        since: i64,
    },
    /// The events after a serial.
    Changes {
        /// The last serial that was read.
        since: i64,
        /// The serial to read up to.
        to: i64,
    },
}

/// What is remembered of Python's registry between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PyPiState {
    /// The last serial that was read.
    #[serde(default)]
    pub last_serial: Option<i64>,
}

#[derive(Deserialize)]
struct Project {
    name: String,
    #[serde(rename = "_last-serial")]
    serial: Option<i64>,
}

/// What the events of a page come to for one project.
struct Changed<'a> {
    name: &'a str,
    updated: Option<i64>,
    removed: bool,
}

impl PyPi {
    /// The registry whose XML-RPC endpoint, or whose site, is at `url`. The instance is named `pypi`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        let mut site = under(url, &[]);
        if site.path().trim_end_matches('/').ends_with("/pypi")
            && let Ok(mut path) = site.path_segments_mut()
        {
            path.pop_if_empty().pop();
        }
        Self {
            endpoint: under(&site, &["pypi"]),
            simple: under(&site, &["simple", ""]),
            site: site.as_str().trim_end_matches('/').to_owned(),
            visit_type: VisitType::known("pypi"),
            instance: "pypi".to_owned(),
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    fn origin(&self, name: &str) -> Option<NewOrigin> {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let ok = !name.is_empty() && name.len() <= 255 && name.bytes().all(known);
        let url = format!("{}/project/{name}/", self.site);
        (ok && name.bytes().any(|b| b.is_ascii_alphanumeric()))
            .then(|| NewOrigin::new(url, self.visit_type.clone()).with_forge_id(normal(name)))
    }

    fn index(
        &self,
        since: Option<i64>,
        response: &Response,
        page: &mut Page<PyPiCursor>,
    ) -> Result<(), ListerError> {
        let others = each_entry(&response.body, Some("projects"), &["meta"], |project: Project| {
            if let Some(since) = since {
                // Without serials nobody knows what changed: all of it may have.
                if project.serial.is_some_and(|serial| serial <= since) {
                    return Ok(());
                }
            }
            match self.origin(&project.name) {
                Some(origin) => page.origin(origin)?,
                None => skip(&project.name, page),
            }
            Ok(())
        })?;
        let told = others.get("meta").and_then(|meta| meta.get("_last-serial")).and_then(Value::as_i64);
        let header = || response.header("x-pypi-last-serial").and_then(|text| text.trim().parse().ok());
        if let Some(serial) = told.or_else(header) {
            page.mark(&PyPiState { last_serial: Some(serial) });
        }
        Ok(())
    }

    fn changes(
        &self,
        (since, to): (i64, i64),
        response: &Response,
        page: &mut Page<PyPiCursor>,
    ) -> Result<(), ListerError> {
        let events = call::events(response)?;
        let Some(reached) = events.iter().map(|e| e.serial).max() else { return Ok(()) };
        if reached <= since {
            return Err(ListerError::parse(format!(
                "asked for what is after serial {since}, the change log gives events up to {reached}"
            )));
        }
        for changed in summed_up(&events) {
            match self.origin(changed.name) {
                None => skip(changed.name, page),
                Some(origin) if changed.removed => {
                    page.gone(OriginKey::new(origin.url, origin.visit_type), GoneReason::Deleted);
                }
                Some(origin) => page.origin(origin.with_last_update(changed.updated.and_then(date)))?,
            }
        }
        page.mark(&PyPiState { last_serial: Some(reached) });
        if reached < to {
            page.next(PyPiCursor::Changes { since: reached, to });
        }
        Ok(())
    }
}

fn skip(name: &str, page: &mut Page<PyPiCursor>) {
    page.skip(format!("{:?}", name.chars().take(80).collect::<String>()), "that can be no project's name");
}

/// A project's name as PEP 503 has it.
fn normal(name: &str) -> String {
    let pieces: Vec<String> =
        name.split(['-', '_', '.']).filter(|p| !p.is_empty()).map(str::to_ascii_lowercase).collect();
    pieces.join("-")
}

fn date(seconds: i64) -> Option<Timestamp> {
    seconds_date(&seconds.to_string())
}

/// Each project once, in the order of first events: the last event says its name, and whether it is there.
fn summed_up(events: &[Event]) -> Vec<Changed<'_>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut all: Vec<Changed<'_>> = Vec::new();
    for event in events {
        let place = *places.entry(normal(&event.name)).or_insert(all.len());
        if place == all.len() {
            all.push(Changed { name: &event.name, updated: None, removed: false });
        }
        let Some(of) = all.get_mut(place) else { continue };
        of.name = &event.name;
        of.removed = event.removes_project();
        if event.changes_project() {
            of.updated = of.updated.max(Some(event.at));
        }
    }
    all
}

impl Lister for PyPi {
    type Cursor = PyPiCursor;

    fn name(&self) -> &'static str {
        "pypi"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<PyPiCursor> {
        vec![PyPiCursor::Simple { since: None }]
    }

    fn request(&self, at: &PyPiCursor) -> Result<Request, ListerError> {
        Ok(match at {
            PyPiCursor::Simple { .. } => Request::get(self.simple.clone())
                .configured()
                .with_header("accept", "application/vnd.pypi.simple.v1+json"),
            PyPiCursor::LastSerial { .. } => call::request(&self.endpoint, "changelog_last_serial", &[]),
            PyPiCursor::Changes { since, .. } => {
                call::request(&self.endpoint, "changelog_since_serial", &[*since])
            }
        })
    }

    fn page(
        &self,
        at: &PyPiCursor,
        response: Response,
        page: &mut Page<PyPiCursor>,
    ) -> Result<(), ListerError> {
        match *at {
            PyPiCursor::Simple { since } => self.index(since, &response, page),
            PyPiCursor::LastSerial { since } => {
                let to = call::serial(&response)?;
                if to > since {
                    page.follow(PyPiCursor::Changes { since, to });
                }
                Ok(())
            }
            PyPiCursor::Changes { since, to } => self.changes((since, to), &response, page),
        }
    }

    fn recover(&self, at: &PyPiCursor, failure: &Failure) -> Recovery<PyPiCursor> {
        let unsupported = [StatusCode::FORBIDDEN, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_ACCEPTABLE];
        let absent = failure.is_absent()
            || failure.status().is_some_and(|s| unsupported.contains(&s) || s == StatusCode::NOT_IMPLEMENTED)
            || matches!(
                failure.kind,
                FailureKind::Refused | FailureKind::Transport(TransportErrorKind::NotRecorded)
            );
        match at {
            PyPiCursor::Simple { since: None } if absent => {
                Recovery::replaced(vec![PyPiCursor::LastSerial { since: -1 }])
            }
            PyPiCursor::LastSerial { since } | PyPiCursor::Changes { since, .. } if absent => {
                Recovery::replaced(vec![PyPiCursor::Simple { since: Some(*since) }])
            }
            _ => Recovery::gap(),
        }
    }
}

impl Incremental for PyPi {
    type State = PyPiState;

    fn resume(&self, state: &PyPiState, run: &RunInfo) -> Vec<PyPiCursor> {
        match state.last_serial {
            Some(since) => vec![PyPiCursor::LastSerial { since }],
            None => self.start(run),
        }
    }

    fn join(&self, ours: PyPiState, stored: PyPiState) -> PyPiState {
        ours.max(stored)
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::required("url", ParameterKind::Url, "the XML-RPC endpoint, https://…/pypi, or the site"),
    Parameter::with_default("instance", ParameterKind::Text, "pypi", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("pypi", "Python's registry", build)
        .visiting(&["pypi"])
        .incremental()
        .with_parameters(PARAMETERS)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = PyPi::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::incremental(lister)))
}
