//! PyPI, the registry of Python, and others that speak as it does: every project.
//!
//! # How it lists
//!
//! `GET {root}/simple/` with `Accept: application/vnd.pypi.simple.v1+json` answers the names of all projects
//! (`{"meta": {"_last-serial"}, "projects": [{"name", "_last-serial"}]}`), in one request. A later run asks the change
//! log, by XML-RPC at `{root}/pypi`: how far it is (`changelog_last_serial`), and what it has since the serial that was read last
//! (`changelog_since_serial`), page after page up to there.
//! Where one of them is not there, the other one stands for it: the list for what has a greater serial, the log from its
//! beginning.
//!
//! - **Configuration**: `url` (`{root}/pypi`, or the root itself) is required; there is no default.
//! - **Authentication**: none. **Limits**: the change log says "too many requests" in its answer, which makes a gap;
//!   the next run goes on there.
//! - **Order**: of names, or of changes.
//! - **Origins**: `{root}/project/{name}/`, as the name is written last. A project is one whatever
//!   letters, dots, dashes and underscores its name was written with. The change log has dates; the list has none.
//! - **Deletions**: the change log names them; a full run also retires what the list no longer names.
//! - **State**: `{"last_serial": n}`, as Software Heritage stores it.
//! - **Cost**: one request for all (about 40 MB); a later run, two and one for each 50,000 changes.
//!
//! # What it cannot see
//!
//! - When a project changed that did not change since the first listing.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/pypi.rs` that fails without it:
//!
//! - asks for the list at first, and then for what changed: `pypi_asks_for_the_list_and_then_for_changes`
//! - reads the log page by page, up to where it was when it was asked: `pypi_reads_the_log_up_to_its_end`
//! - the last date of a project on a page counts: `pypi_gives_the_last_date`
//! - deleted projects are gone, unless they are made again: `pypi_deleted_projects_are_gone`
//! - names that differ in case and separators are one: `pypi_spellings_are_one_project`
//! - the list and the log stand for each other: `pypi_the_list_and_the_log_stand_for_each_other`
//! - a log that ends before its end, or was made anew, is not believed: `pypi_a_log_that_lacks_rows_is_not_believed`
//! - odd names are counted: `pypi_odd_names_are_counted`
//! - states join to the later one: `pypi_states_join_to_the_later`
//! - a broken body is an error with its place: `pypi_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `pypi_needs_its_url`

mod log;

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::under;
use crate::lister::json::each_entry;
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source,
};
use crate::model::{GoneReason, NewOrigin, OriginKey, Timestamp, VisitType};
use crate::transport::{Request, Response};

/// Before every change, as Software Heritage asks.
const FIRST: i64 = -1;

/// Lists PyPI. See the [module](self).
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
    root: Url,
    visit_type: VisitType,
    instance: String,
}

/// Where a listing of PyPI is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PyPiCursor {
    /// The list of all projects.
    List {
        /// Only those that changed after this serial.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<i64>,
        /// Whether it stands for the change log, which is not there.
        #[serde(default, skip_serializing_if = "is_false")]
        instead: bool,
    },
    /// The change log.
    Changes {
        /// After this serial.
        since: i64,
        /// Up to this one; how far it is, is asked for where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<i64>,
        /// Whether it stands for the list, which is not there.
        #[serde(default, skip_serializing_if = "is_false")]
        instead: bool,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(said: &bool) -> bool {
    !*said
}

/// What is remembered of PyPI between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PyPiState {
    /// The serial of the last change that was read.
    #[serde(default)]
    pub last_serial: Option<i64>,
}

#[derive(Deserialize)]
struct Project {
    name: String,
    #[serde(rename = "_last-serial", default)]
    serial: Option<i64>,
}

/// What a page of the change log says of a project last.
struct Last {
    name: String,
    date: i64,
    gone: bool,
}

impl PyPi {
    /// The registry whose XML-RPC is at `url`, or that is there itself. The instance is named `pypi`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        let mut root = under(url, &[]);
        if root.path().trim_end_matches('/').ends_with("/pypi")
            && let Ok(mut path) = root.path_segments_mut()
        {
            path.pop();
        }
        Self { root, visit_type: VisitType::known("pypi"), instance: "pypi".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    fn origin(&self, name: &str) -> NewOrigin {
        NewOrigin::new(under(&self.root, &["project", name, ""]), self.visit_type.clone())
            .with_forge_id(normal(name))
    }

    fn list(
        &self,
        since: Option<i64>,
        response: &Response,
        page: &mut Page<PyPiCursor>,
    ) -> Result<(), ListerError> {
        let others = each_entry(&response.body, Some("projects"), &["meta"], |project: Project| {
            let is_old = since.is_some_and(|since| project.serial.is_some_and(|serial| serial <= since));
            if !is_name(&project.name) {
                skip_name(&project.name, page);
            } else if !is_old {
                page.origin(self.origin(&project.name))?;
            }
            Ok(())
        })?;
        let serial = others.get("meta").and_then(|meta| meta.get("_last-serial")).and_then(Value::as_i64);
        if serial.is_some() {
            page.mark(&PyPiState { last_serial: serial });
        }
        Ok(())
    }

    fn changes(
        &self,
        (since, until): (i64, i64),
        response: &Response,
        page: &mut Page<PyPiCursor>,
    ) -> Result<(), ListerError> {
        let mut projects: HashMap<String, (usize, Last)> = HashMap::new();
        let mut reached = since;
        log::changes(response.body.reader(), |change| {
            reached = reached.max(change.serial);
            if !is_name(&change.name) {
                skip_name(&change.name, page);
                return Ok(());
            }
            let place = projects.len();
            let gone =
                change.version.is_none() && matches!(change.action.as_str(), "remove" | "remove project");
            let last = Last { name: change.name, date: change.date, gone };
            let (_, known) = projects
                .entry(normal(&last.name))
                .or_insert_with(|| (place, Last { name: String::new(), date: i64::MIN, gone: false }));
            let date = known.date.max(last.date);
            *known = Last { date, ..last };
            Ok(())
        })?;
        if reached <= since {
            let problem =
                format!("the change log: there is nothing after {since}, and it is said to reach {until}");
            return Err(ListerError::parse(problem));
        }
        let mut projects: Vec<(usize, Last)> = projects.into_values().collect();
        projects.sort_unstable_by_key(|(place, _)| *place);
        for (_, last) in projects {
            let origin = self.origin(&last.name).with_last_update(Timestamp::from_seconds(last.date));
            if last.gone {
                page.gone(OriginKey::new(origin.url, self.visit_type.clone()), GoneReason::Deleted);
            } else {
                page.origin(origin)?;
            }
        }
        page.mark(&PyPiState { last_serial: Some(reached) });
        if reached < until {
            page.next(PyPiCursor::Changes { since: reached, until: Some(until), instead: false });
        }
        Ok(())
    }
}

/// A name that can be a project's.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && name.bytes().any(|b| b.is_ascii_alphanumeric())
}

fn skip_name(name: &str, page: &mut Page<PyPiCursor>) {
    let name: String = name.chars().take(80).collect();
    page.skip(format!("{name:?}"), "that can be no project's name");
}

/// A name as projects are told apart: in lower case, any number of separators as one dash.
fn normal(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if !matches!(c, '-' | '_' | '.') {
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out
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
        vec![PyPiCursor::List { since: None, instead: false }]
    }

    fn request(&self, at: &PyPiCursor) -> Result<Request, ListerError> {
        let body = match at {
            PyPiCursor::List { .. } => {
                let request = Request::get(under(&self.root, &["simple", ""])).configured();
                return Ok(request.with_header("accept", "application/vnd.pypi.simple.v1+json"));
            }
            PyPiCursor::Changes { until: None, .. } => log::call("changelog_last_serial", &[]),
            PyPiCursor::Changes { since, .. } => log::call("changelog_since_serial", &[*since]),
        };
        let mut request = Request::get(under(&self.root, &["pypi"])).with_header("content-type", "text/xml");
        request.method = Method::POST;
        request.body = Some(body.into());
        Ok(request.configured())
    }

    fn page(
        &self,
        at: &PyPiCursor,
        response: Response,
        page: &mut Page<PyPiCursor>,
    ) -> Result<(), ListerError> {
        match *at {
            PyPiCursor::List { since, .. } => self.list(since, &response, page),
            PyPiCursor::Changes { since, until: Some(until), .. } => {
                self.changes((since, until), &response, page)
            }
            PyPiCursor::Changes { since, until: None, .. } => {
                let until = log::number(response.body.reader())?;
                if until > since {
                    // What it stands for is no matter any more: a later run that goes on here asks the same.
                    page.next(PyPiCursor::Changes { since, until: Some(until), instead: false });
                } else if until < since {
                    // Behind what was read of it: it is another log now.
                    page.follow(PyPiCursor::List { since: None, instead: true });
                }
                Ok(())
            }
        }
    }

    fn recover(&self, at: &PyPiCursor, failure: &Failure) -> Recovery<PyPiCursor> {
        match *at {
            PyPiCursor::List { since, instead: false } if failure.is_not_there() => {
                let since = since.unwrap_or(FIRST);
                Recovery::replaced(vec![PyPiCursor::Changes { since, until: None, instead: true }])
            }
            PyPiCursor::Changes { since, until: None, instead: false } if failure.is_not_there() => {
                Recovery::replaced(vec![PyPiCursor::List { since: Some(since), instead: true }])
            }
            _ => Recovery::gap(),
        }
    }
}

impl Incremental for PyPi {
    type State = PyPiState;

    fn resume(&self, state: &PyPiState, run: &RunInfo) -> Vec<PyPiCursor> {
        match state.last_serial {
            Some(since) => vec![PyPiCursor::Changes { since, until: None, instead: false }],
            None => self.start(run),
        }
    }

    fn join(&self, ours: PyPiState, stored: PyPiState) -> PyPiState {
        ours.max(stored)
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::required("url", ParameterKind::Url, "the registry's XML-RPC, https://…/pypi, or the registry"),
    Parameter::with_default("instance", ParameterKind::Text, "pypi", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("pypi", "PyPI (Python)", build).visiting(&["pypi"]).incremental().with_parameters(PARAMETERS)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = PyPi::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::incremental(lister)))
}
