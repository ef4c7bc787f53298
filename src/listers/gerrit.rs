//! Gerrit: every project that anybody may see.
//!
//! # How it lists
//!
//! First `GET {base}config/server/info`, which says where clones are; then
//! `GET {base}projects/?type=CODE&limit=N&start=K`, a JSON object by name behind the line `)]}'`. A
//! project with `_more_projects` says that there are more. Each page begins with the last project of the
//! page before: where it is not there, projects before it are gone, and the listing goes back to what
//! moved up.
//!
//! - **Credentials**: none. **Limits**: none known. A server may give fewer projects than asked for; one that
//!   refuses pages of a size (status 400) is asked for smaller ones.
//! - **Order**: by name. **State**: none; Gerrit tells no dates of projects.
//! - **Scopes**: `prefix` lists the projects whose names begin so, under a key of its own
//!   (`HOST/prefix=NAME`).
//! - **Cost**: a request, and one for every 499 projects.
//! - **Origins**: the address by a scheme (https before http before others) that the server lets anybody
//!   use; where it names none, `{base}NAME`. With `base_git_url` that and the name, and the server is not asked (one
//!   that does not know of `config/server/info`, or keeps it closed, needs it). A project that is read-only is archived.
//!
//! # What it cannot see
//!
//! Projects that anonymous users may not read, hidden ones, and those that hold permissions only; forks, of
//! which Gerrit has none (a *parent* is where permissions come from); dates; an id that outlives a rename.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/gerrit.rs` that fails without it:
//!
//! - asks first where clones are, and then page by page: `gerrit_asks_the_server_and_then_for_pages`
//! - takes the best address that is open to anybody: `gerrit_chooses_an_address_that_anybody_may_use`
//! - a server that does not say where clones are is a gap that says what helps, for addresses must not change by
//!   a failure: `gerrit_without_server_info_is_a_gap`
//! - `base_git_url` says it instead of the server: `gerrit_may_be_told_where_clones_are`
//! - names are escaped in addresses: `gerrit_escapes_names`
//! - goes on while there are more, overlapping by one: `gerrit_goes_on_while_there_are_more`
//! - goes back where projects moved up: `gerrit_goes_back_where_projects_moved_up`
//! - asks for smaller pages where the size is refused: `gerrit_asks_for_smaller_pages_where_a_size_is_refused`
//! - read-only projects are archived: `gerrit_reads_the_state_of_a_project`
//! - no project is no error, and what is no list of projects is one:
//!   `gerrit_an_empty_server_is_no_error`, `gerrit_a_broken_body_is_an_error_with_its_place`
//! - the beginning of a name makes a listing of its own: `gerrit_lists_a_prefix`
//! - a whole server with changes between pages is listed whole: `gerrit_lists_what_stays_while_others_go`

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use url::Url;

use super::scope::{Instance, Scope};
use super::under;
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Failure, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source, base_url,
};
use crate::model::{NewOrigin, VisitType, check_origin_url};
use crate::transport::{Request, Response};

const PREFIX: &str = "prefix";
const BASE_GIT_URL: &str = "base_git_url";

/// What stands for a project's name in the address of a scheme.
const PROJECT: &str = "${project}";

/// Projects a page, and what is asked for where that is refused.
const SIZES: [u64; 4] = [500, 100, 10, 1];

/// Lists a Gerrit. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Gerrit;
/// use lamplighter::model::Timestamp;
///
/// let gerrit = Gerrit::new("https://review.example/r/".parse()?, "review.example");
/// let start = gerrit.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(gerrit.request(&start[0])?.url.as_str(), "https://review.example/r/config/server/info");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gerrit {
    base: Url,
    instance: Instance,
    /// The address of a clone, with `${project}` for the name; the server is asked where absent.
    clones: Option<String>,
}

/// Where a listing of a Gerrit is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GerritCursor {
    /// At what the server says of itself.
    Server,
    /// At a page of projects.
    Projects {
        /// Projects before it.
        start: u64,
        /// Projects asked for.
        limit: u64,
        /// The last project of the page before, with which this one begins.
        after: Option<String>,
        /// The address of a clone, with `${project}` for the name; the base's own where absent.
        clones: Option<String>,
    },
}

#[derive(Deserialize)]
struct ServerInfo {
    /// Always there; without it, it is something else that answers.
    #[serde(rename = "gerrit")]
    _gerrit: IgnoredAny,
    download: Option<Download>,
}

#[derive(Deserialize)]
struct Download {
    #[serde(default)]
    schemes: BTreeMap<String, Scheme>,
}

#[derive(Deserialize)]
struct Scheme {
    url: Option<String>,
    is_auth_required: Option<bool>,
}

#[derive(Deserialize)]
struct Project {
    /// Always there.
    #[serde(rename = "id")]
    _id: IgnoredAny,
    state: Option<String>,
    #[serde(rename = "_more_projects", default)]
    more: bool,
}

impl Gerrit {
    /// The Gerrit at `base`, with the path that it lies under.
    pub fn new(base: Url, instance: impl Into<String>) -> Self {
        Self { base, instance: Instance::new(instance), clones: None }
    }

    /// Puts the names of projects behind `base` for where their clones are, and does not ask the server.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when `base` cannot be the beginning of an origin's URL.
    pub fn with_base_git_url(mut self, base: &str) -> Result<Self, ConfigError> {
        check_origin_url(base).map_err(|e| ConfigError::Value {
            name: BASE_GIT_URL.to_owned(),
            problem: format!("{e}; it must be such as https://git.example/"),
        })?;
        self.clones = Some(format!("{}/{PROJECT}", base.trim_end_matches('/')));
        Ok(self)
    }

    /// Lists only the projects whose names begin so, under a key of its own.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.instance.narrow(Scope::exact(PREFIX, prefix));
        self
    }

    /// The address of a project's clone.
    fn clone_of(&self, project: &str, clones: Option<&str>) -> Result<String, String> {
        let names: Vec<&str> = project.split('/').collect();
        let Some((head, tail)) = clones.and_then(|clones| clones.split_once(PROJECT)) else {
            return Ok(under(&self.base, &names).into());
        };
        let head = Url::parse(head).map_err(|e| format!("the server's address {head:?}: {e}"))?;
        Ok(format!("{}{tail}", under(&head, &names)))
    }

    fn projects(
        &self,
        (start, limit, after, clones): (u64, u64, Option<&str>, Option<&str>),
        response: &Response,
        page: &mut Page<GerritCursor>,
    ) -> Result<(), ListerError> {
        let projects: BTreeMap<String, Project> = response.guarded_json()?;
        let here =
            |start, after| GerritCursor::Projects { start, limit, after, clones: clones.map(str::to_owned) };
        for (name, project) in &projects {
            let archived = project.state.as_deref().map(|state| state == "READ_ONLY");
            match self.clone_of(name, clones) {
                Ok(url) => page.origin(NewOrigin::new(url, VisitType::git()).with_archived(archived))?,
                Err(why) => page.skip(name, why),
            }
        }
        let first = projects.keys().next();
        if let Some(after) = after
            && first.is_none_or(|first| first.as_str() > after)
            && start > 0
        {
            // As many as this page holds may have gone, or more: then it goes back once more.
            let back = if projects.is_empty() { limit } else { projects.len() as u64 };
            page.next(here(start.saturating_sub(back), Some(after.to_owned())));
        } else if projects.values().any(|p| p.more) {
            let count = projects.len() as u64;
            // A page of one project has none to spare.
            let overlap = u64::from(count > 1);
            let last = projects.into_keys().next_back().filter(|_| overlap > 0);
            page.next(here(start.saturating_add(count - overlap), last));
        }
        Ok(())
    }
}

/// The address of a clone by a scheme that anybody may use.
fn open_scheme(info: ServerInfo) -> Option<String> {
    let schemes = info.download?.schemes.into_values();
    let open = schemes.filter(|s| s.is_auth_required != Some(true)).filter_map(|s| s.url);
    let usable = open.filter(|url| url.contains(PROJECT) && check_origin_url(url).is_ok());
    usable.min_by_key(|url| match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("https") => 0,
        Some("http") => 1,
        _ => 2,
    })
}

fn first_page(clones: Option<String>) -> GerritCursor {
    GerritCursor::Projects { start: 0, limit: SIZES[0], after: None, clones }
}

impl Lister for Gerrit {
    type Cursor = GerritCursor;

    fn name(&self) -> &'static str {
        "gerrit"
    }

    fn instance(&self) -> &str {
        self.instance.key()
    }

    fn start(&self, _: &RunInfo) -> Vec<GerritCursor> {
        vec![self.clones.clone().map_or(GerritCursor::Server, |clones| first_page(Some(clones)))]
    }

    fn request(&self, at: &GerritCursor) -> Result<Request, ListerError> {
        let url = match at {
            GerritCursor::Server => under(&self.base, &["config", "server", "info"]),
            GerritCursor::Projects { start, limit, .. } => {
                let mut url = under(&self.base, &["projects", ""]);
                let mut query = url.query_pairs_mut();
                query.append_pair("type", "CODE").append_pair("limit", &limit.to_string());
                if *start > 0 {
                    query.append_pair("start", &start.to_string());
                }
                if let Some(prefix) = self.instance.scope() {
                    query.append_pair("p", prefix.name());
                }
                drop(query);
                url
            }
        };
        Ok(Request::get(url).with_header("accept", "application/json").configured())
    }

    fn page(
        &self,
        at: &GerritCursor,
        response: Response,
        page: &mut Page<GerritCursor>,
    ) -> Result<(), ListerError> {
        match at {
            GerritCursor::Server => {
                page.next(first_page(open_scheme(response.guarded_json()?)));
                Ok(())
            }
            GerritCursor::Projects { start, limit, after, clones } => {
                self.projects((*start, *limit, after.as_deref(), clones.as_deref()), &response, page)
            }
        }
    }

    fn recover(&self, at: &GerritCursor, failure: &Failure) -> Recovery<GerritCursor> {
        let status = failure.status().map(|s| s.as_u16());
        match at {
            // An old recording: those who made it did not ask.
            GerritCursor::Server if failure.is_not_there() && !failure.is_absent() => {
                Recovery::replaced(vec![first_page(None)])
            }
            // A failure must not change the address of every origin.
            GerritCursor::Server => Recovery::gap()
                .because("the server does not say where clones are; base_git_url= says it in its place"),
            GerritCursor::Projects { start, limit, after, clones } => {
                let smaller = SIZES.into_iter().find(|size| size < limit).filter(|_| status == Some(400));
                smaller.map_or_else(Recovery::gap, |limit| {
                    Recovery::replaced(vec![GerritCursor::Projects {
                        start: *start,
                        limit,
                        after: after.clone(),
                        clones: clones.clone(),
                    }])
                })
            }
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the server, as https://gerrit-review.googlesource.com/"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
    Parameter::optional(
        BASE_GIT_URL,
        ParameterKind::Text,
        "where clones are, before a project's name; the server is not asked for it then",
    ),
    Parameter::optional(PREFIX, ParameterKind::Text, "list only projects whose names begin so"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("gerrit", "Gerrit", build)
        .telling(&[Fact::Archived])
        .with_parameters(PARAMETERS)
        // `all` asks for another listing.
        .with_positions(&["start", "all"])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    let mut gerrit = Gerrit::new(url, instance);
    if let Some(base) = arguments.text(BASE_GIT_URL) {
        gerrit = gerrit.with_base_git_url(base)?;
    }
    if let Some(prefix) = arguments.text(PREFIX) {
        if prefix.is_empty() || prefix.chars().any(char::is_control) {
            return Err(arguments.wrong(PREFIX, "must be the beginning of a name"));
        }
        gerrit = gerrit.with_prefix(prefix);
    }
    Ok(Arc::new(Source::stateless(gerrit)))
}
