//! GitLab, and Heptapod, which is GitLab with Mercurial: every project that is public, or that the
//! token's user may see.
//!
//! # How it lists
//!
//! `GET {base}/api/v4/projects?pagination=keyset&order_by=id&sort=asc&per_page=N` answers the projects
//! with the least ids; the `Link` header with `rel=next` says after which id (`id_after`) it goes on.
//! The end is *no such link*. No size of a page is assumed.
//!
//! - **Credentials**: none is needed for public projects. A token (`Authorization: Bearer …`, scope
//!   `read_api`) shows more: forks, archived and empty ones.
//! - **Limits**: by default 400 requests in ten minutes for an address, 2,000 for a user; the transport
//!   waits.
//! - **State**: `{"last_seen_id": n, "active_until": date}`. A later run asks for greater ids, and, with
//!   `last_activity_after`, for what was active since the listing before began (an hour earlier, as
//!   activity is noted late). A row of Software Heritage (`last_seen_next_link`) is read: it gives the id.
//!   With `incremental=false` nothing is remembered, and every run lists everything.
//! - **Origins**: `http_url_to_repo`; the last update is `last_activity_at`. On a Heptapod, `vcs_type` says
//!   whether it is `hg` or `git`; `hg_git`, Mercurial kept in Git, is `hg` for who visits it. A project that is
//!   not public is listed, but not enabled.
//! - **Shards**: a full listing in N ranges of ids beside each other (`id_after`, `id_before`), after a request
//!   for the greatest id.
//! - **Scopes**: `group` (with its subgroups, without what is only shared with it) and `user` list the
//!   projects of one under a key of its own (`HOST/group=PATH`), without a state. These lists are in pages that
//!   are counted; GitLab ends them at 50,000 projects.
//! - **Cost**: a request per 100 projects.
//!
//! # Where the forge fails
//!
//! One project can make each page with it fail with status 500. Such a page is halved until what fails
//! is one project; the listing goes on after it, and a gap is kept of its id alone (of a few ids, where
//! they fail too). Where smaller pages fail as well, it is not a project, and the listing ends there
//! with a gap after a dozen requests.
//!
//! # What it cannot see
//!
//! - Projects made public after their id was passed, renamed or deleted ones: only a full run does.
//! - What is not shared over HTTP: such projects are skipped, and counted.
//! - Of an anonymous run: forks, archived and empty ones. Absent parents stay unknown: a fork of what
//!   the token's user may not see has none either.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/gitlab` that fails without it:
//!
//! - asks by id, for short records where that is set: `gitlab_asks_by_id`
//! - takes its place from the link, whatever the size of the page: `gitlab_follows_the_link`
//! - a link that does not advance, or leads to another host, is an error:
//!   `gitlab_a_link_that_does_not_advance_is_an_error`, `gitlab_a_link_to_another_host_is_an_error`
//! - a link without an id is followed as it is: `gitlab_an_unknown_link_is_followed_as_it_is`
//! - reads what is there, and invents nothing: `gitlab_reads_what_is_there`
//! - what is not public is not enabled, what cannot be cloned is skipped:
//!   `gitlab_what_is_not_public_is_not_enabled`, `gitlab_what_cannot_be_cloned_is_skipped`
//! - a date that cannot be read costs only itself: `gitlab_a_broken_date_costs_only_itself`
//! - ignored prefixes are skipped and counted: `gitlab_ignores_prefixes`
//! - kinds on a Heptapod: `heptapod_kinds`
//! - reads its own state and Software Heritage's: `gitlab_reads_states`, `gitlab_states_join`
//! - a later run asks for new and for active projects: `gitlab_resumes_with_new_and_active_projects`
//! - a listing marks the greatest id, and when it began: `gitlab_marks_when_a_listing_began`
//! - without memory it says nothing of a state: `gitlab_without_memory`
//! - a group with its subgroups, and a user, are listings of their own: `gitlab_lists_a_group_or_a_user`
//! - a project that makes the forge fail costs only itself: `gitlab_a_poisoned_project_costs_only_itself`,
//!   `gitlab_poisons_anywhere_cost_only_themselves`, `gitlab_a_poison_among_hidden_projects_is_found`
//! - an outage is a gap after a dozen requests: `gitlab_an_outage_is_one_gap`
//! - shards list what one chain lists, and end where they are told: `gitlab_shards_list_what_a_chain_lists`,
//!   `gitlab_a_failed_request_for_the_greatest_id_loses_nothing`
//! - a refusal names the credential and its scope: `gitlab_a_refusal_names_the_credential`
//! - a body that is no list of projects is an error with its place: `gitlab_a_broken_body_is_an_error_with_its_place`
//! - arguments are checked: `gitlab_arguments_are_checked`

mod hunt;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use url::Url;

pub use hunt::Hunt;

use super::ranges::ranges;
use super::scope::{Instance, Scope};
use super::{api, location, next_link, under};
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Failure, Incremental, Lister, ListerError, Page, PageSource,
    Parameter, ParameterKind, Recovery, RunInfo, Source, base_url, query_param,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Auth, Request, Response};

const GROUP: &str = "group";
const USER: &str = "user";

/// What GitLab gives at most.
const LARGEST_PAGE: u64 = 100;

/// Activity is noted at most once an hour.
const NOTED_LATE: Duration = Duration::from_secs(3600);

/// Lists a GitLab or a Heptapod. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::GitLab;
/// use lamplighter::model::Timestamp;
///
/// let gitlab = GitLab::new(&"https://gitlab.example".parse()?);
/// let start = gitlab.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// let request = gitlab.request(&start[0])?;
/// assert_eq!(
///     request.url.as_str(),
///     "https://gitlab.example/api/v4/projects?pagination=keyset&order_by=id&sort=asc&per_page=100"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct GitLab {
    name: &'static str,
    api: Url,
    instance: Instance,
    per_page: u64,
    simple: bool,
    ignored: Vec<String>,
}

/// Where a listing of a GitLab is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitLabCursor {
    /// Projects with greater ids are asked for.
    pub after: u64,
    /// Only those that were active since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Timestamp>,
    /// How a page that fails is searched for what makes it fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hunt: Option<Hunt>,
    /// The id after which the listing went on past what fails: a retry of it must not meet the
    /// chain of a later run on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<u64>,
    /// The address of the page, where it is not said by an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// The last id of a shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Asks for the greatest id, up to which the listing is in so many shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<NonZeroU32>,
}

/// What is remembered of a GitLab between runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
#[non_exhaustive]
pub struct GitLabState {
    /// The greatest id that was listed.
    pub last_seen_id: u64,
    /// When the last listing of everything, or of what was active, began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_until: Option<Timestamp>,
}

/// A state as it may be stored: ours, or one of Software Heritage.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    last_seen_id: u64,
    active_until: Option<Timestamp>,
    last_seen_next_link: Option<String>,
}

impl From<Stored> for GitLabState {
    fn from(stored: Stored) -> Self {
        let link = stored.last_seen_next_link.and_then(|link| Url::parse(&link).ok());
        let after = link.and_then(|link| query_param(&link, "id_after")).and_then(|id| id.parse().ok());
        let last_seen_id = stored.last_seen_id.max(after.unwrap_or(0));
        Self { last_seen_id, active_until: stored.active_until }
    }
}

/// What is read of a project; a full answer has some hundred fields more.
#[derive(Deserialize)]
struct Project {
    id: u64,
    http_url_to_repo: Option<String>,
    path_with_namespace: Option<String>,
    last_activity_at: Option<String>,
    vcs_type: Option<String>,
    archived: Option<bool>,
    empty_repo: Option<bool>,
    mirror: Option<bool>,
    visibility: Option<String>,
    repository_access_level: Option<String>,
    #[serde(rename = "forked_from_project")]
    parent: Option<Parent>,
}

#[derive(Deserialize)]
struct Parent {
    http_url_to_repo: Option<String>,
}

impl Project {
    fn label(&self) -> String {
        self.path_with_namespace.clone().unwrap_or_else(|| format!("id {}", self.id))
    }

    fn is_public(&self) -> bool {
        self.visibility.as_deref().is_none_or(|v| v == "public")
            && self.repository_access_level.as_deref() != Some("private")
    }

    /// Where it is cloned from; or why it cannot be.
    fn address(&self) -> Result<&str, &'static str> {
        if self.repository_access_level.as_deref() == Some("disabled") {
            return Err("its repository is turned off");
        }
        self.http_url_to_repo.as_deref().filter(|url| !url.is_empty()).ok_or("it is not shared over HTTP")
    }
}

impl GitLab {
    /// The GitLab at `base` (which may end in `/api/v4`); the instance is named after its host.
    #[must_use]
    pub fn new(base: &Url) -> Self {
        Self::named("gitlab", base)
    }

    /// The Heptapod at `base`: as [`GitLab::new`], under its own name.
    #[must_use]
    pub fn heptapod(base: &Url) -> Self {
        Self::named("heptapod", base)
    }

    fn named(name: &'static str, base: &Url) -> Self {
        Self {
            name,
            api: api(base, &["api", "v4"]),
            instance: Instance::new(location(base)),
            per_page: LARGEST_PAGE,
            simple: false,
            ignored: Vec::new(),
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance.rename(instance);
        self
    }

    /// Asks for pages of this size; at most 100, which is what GitLab gives.
    #[must_use]
    pub fn with_per_page(mut self, per_page: u64) -> Self {
        self.per_page = per_page.clamp(1, LARGEST_PAGE);
        self
    }

    /// Asks for short records, also where a token would show more.
    #[must_use]
    pub fn with_simple(mut self, simple: bool) -> Self {
        self.simple = simple;
        self
    }

    /// Leaves out the projects whose path begins like one of these.
    #[must_use]
    pub fn with_ignored_prefixes(mut self, prefixes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.ignored = prefixes.into_iter().map(Into::into).collect();
        self
    }

    /// Lists only a group (its full path) and its subgroups, under a key of its own.
    #[must_use]
    pub fn with_group(mut self, path: impl Into<String>) -> Self {
        self.instance.narrow(Scope::new(GROUP, path));
        self
    }

    /// Lists only the projects of a user, under a key of its own.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>) -> Self {
        self.instance.narrow(Scope::new(USER, name));
        self
    }

    /// The first page of a scope's list.
    fn first_of(&self, scope: &Scope) -> Url {
        let owners = if scope.kind() == GROUP { "groups" } else { "users" };
        let mut url = under(&self.api, &[owners, scope.name(), "projects"]);
        {
            let mut query = url.query_pairs_mut();
            if scope.kind() == GROUP {
                query.append_pair("include_subgroups", "true").append_pair("with_shared", "false");
            }
            query.append_pair("order_by", "id").append_pair("sort", "asc");
            query.append_pair("per_page", &self.per_page.to_string());
            if self.simple {
                query.append_pair("simple", "true");
            }
        }
        url
    }

    fn page_of(&self, at: &GitLabCursor) -> Url {
        let mut url = under(&self.api, &["projects"]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("pagination", "keyset").append_pair("order_by", "id");
            let (sort, size) = if at.split.is_some() { ("desc", 1) } else { ("asc", at.size(self.per_page)) };
            query.append_pair("sort", sort).append_pair("per_page", &size.to_string());
            if self.simple {
                query.append_pair("simple", "true");
            }
            if let Some(active) = at.active {
                query.append_pair("last_activity_after", &active.to_string());
            }
            if at.after > 0 {
                query.append_pair("id_after", &at.after.to_string());
            }
            if let Some(before) = at.before() {
                query.append_pair("id_before", &before.to_string());
            }
        }
        url
    }

    fn origin(&self, project: Project, page: &mut Page<GitLabCursor>) -> Result<(), ListerError> {
        let label = project.label();
        if let Some(prefix) = self.ignored.iter().find(|p| label.starts_with(p.as_str())) {
            page.skip(label, format!("ignored_project_prefixes has {prefix}"));
            return Ok(());
        }
        let url = match project.address() {
            Ok(url) => url,
            Err(why) => {
                page.skip(label, why);
                return Ok(());
            }
        };
        let kind = match project.vcs_type.as_deref() {
            None => Ok(VisitType::git()),
            Some("hg_git") => VisitType::new("hg"),
            Some(other) => VisitType::new(other),
        };
        let Ok(kind) = kind else {
            page.skip(label, format!("unknown kind {:?}", project.vcs_type));
            return Ok(());
        };
        let mut origin = NewOrigin::new(url, kind)
            .with_forge_id(project.id)
            .with_archived(project.archived)
            .with_empty(project.empty_repo)
            .with_mirror(project.mirror)
            .with_enabled(project.is_public());
        if let Some(date) = project.last_activity_at.as_deref() {
            origin.last_update = Timestamp::parse(date).ok();
            if origin.last_update.is_none() {
                page.skip(format!("the date of {label}"), format!("{date:?} is no date"));
            }
        }
        if let Some(parent) = project.parent {
            origin = origin.with_fork(true);
            if let Some(url) = parent.http_url_to_repo {
                origin = origin.with_forked_from(url);
            }
        }
        page.origin(origin)
    }

    fn next(
        &self,
        at: &GitLabCursor,
        entries: u64,
        response: &Response,
    ) -> Result<Option<GitLabCursor>, ListerError> {
        let Some(link) = next_link(&self.api, response)? else { return Ok(at.read(None, entries)) };
        let Some(after) = query_param(&link, "id_after").and_then(|id| id.parse().ok()) else {
            return Ok(Some(GitLabCursor { url: Some(link), ..at.clone() }));
        };
        if after <= at.after {
            return Err(ListerError::parse(format!(
                "the next page is said to be after id {after}, and this one is after {}",
                at.after
            )));
        }
        Ok(at.read(Some(after), entries))
    }

    /// What a page says for later runs. Where it is the first of a listing, it was answered before
    /// anything else was read, so that what is active later is asked for by the next run.
    fn mark(at: &GitLabCursor, highest: Option<u64>, answered: Timestamp) -> GitLabState {
        let first = at.after == 0 && at.url.is_none() && at.before().is_none();
        // What is left behind has its own cursor, also where nothing comes after it.
        let past = at.left_behind().map(|_| at.after);
        GitLabState {
            // Among the active ones may be new ones, but not all.
            last_seen_id: highest.max(past).filter(|_| at.active.is_none()).unwrap_or(0),
            active_until: first.then_some(answered),
        }
    }
}

impl Lister for GitLab {
    type Cursor = GitLabCursor;

    fn name(&self) -> &'static str {
        self.name
    }

    fn instance(&self) -> &str {
        self.instance.key()
    }

    fn start(&self, _: &RunInfo) -> Vec<GitLabCursor> {
        let url = self.instance.scope().map(|scope| self.first_of(scope));
        vec![GitLabCursor { url, ..GitLabCursor::default() }]
    }

    fn start_in_shards(&self, _: &RunInfo, shards: NonZeroU32) -> Option<Vec<GitLabCursor>> {
        let split = GitLabCursor { split: Some(shards), ..GitLabCursor::default() };
        self.instance.scope().is_none().then(|| vec![split])
    }

    fn request(&self, at: &GitLabCursor) -> Result<Request, ListerError> {
        let request = match &at.url {
            Some(url) => Request::get(url.clone()),
            None => Request::get(self.page_of(at)).configured(),
        };
        Ok(request.with_header("accept", "application/json").with_auth(Auth::bearer()).needing(
            "a token with the scope read_api (Preferences, Access tokens), as a credential of this instance",
        ))
    }

    fn page(
        &self,
        at: &GitLabCursor,
        response: Response,
        page: &mut Page<GitLabCursor>,
    ) -> Result<(), ListerError> {
        let projects: Vec<Project> = response.json()?;
        if let Some(shards) = at.split {
            let greatest = projects.iter().map(|p| p.id).max().unwrap_or(0);
            // The last shard may find nothing more, and mark nothing.
            page.mark(&GitLabState { last_seen_id: greatest, active_until: Some(response.received_at) });
            for (after, last) in ranges(greatest, shards, self.per_page) {
                page.follow(GitLabCursor { after, last, ..GitLabCursor::default() });
            }
            return Ok(());
        }
        let entries = projects.len() as u64;
        let highest = projects.iter().map(|p| p.id).max();
        for project in projects {
            self.origin(project, page)?;
        }
        let next = self.next(at, entries, &response)?;
        let state = Self::mark(at, highest, response.received_at);
        if self.instance.scope().is_none() && state != GitLabState::default() {
            page.mark(&state);
        }
        if let Some(unread) = at.left_behind() {
            page.follow(unread);
        }
        if let Some(next) = next {
            page.next(next);
        }
        Ok(())
    }

    fn recover(&self, at: &GitLabCursor, failure: &Failure) -> Recovery<GitLabCursor> {
        if at.url.is_some() {
            let counted = failure.status() == Some(StatusCode::METHOD_NOT_ALLOWED);
            let note = "GitLab counts pages up to 50,000 projects only: list the subgroups one by one";
            return if counted { Recovery::gap().because(note) } else { Recovery::gap() };
        }
        if at.split.is_some() {
            // One chain asks for all of it itself, and says what fails.
            return Recovery::replaced(vec![GitLabCursor::default()]);
        }
        at.failed(failure, self.per_page)
    }
}

impl Incremental for GitLab {
    type State = GitLabState;

    fn resume(&self, state: &GitLabState, run: &RunInfo) -> Vec<GitLabCursor> {
        if self.instance.scope().is_some() {
            return self.start(run);
        }
        let new = GitLabCursor { after: state.last_seen_id, ..GitLabCursor::default() };
        let active = state
            .active_until
            .map(|until| GitLabCursor { active: Some(until.minus(NOTED_LATE)), ..GitLabCursor::default() });
        std::iter::once(new).chain(active).collect()
    }

    fn join(&self, ours: GitLabState, stored: GitLabState) -> GitLabState {
        GitLabState {
            last_seen_id: ours.last_seen_id.max(stored.last_seen_id),
            active_until: ours.active_until.max(stored.active_until),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the forge, as https://gitlab.com; /api/v4 may follow"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
    Parameter::with_default(
        "incremental",
        ParameterKind::Boolean,
        "true",
        "remember the last id, so that a later run asks for new and active projects only",
    ),
    Parameter::optional(
        "ignored_project_prefixes",
        ParameterKind::Text,
        "leave out projects whose path begins like one of these (with commas between)",
    ),
    Parameter::with_default("per_page", ParameterKind::Integer, "100", "projects a page, 1 to 100"),
    Parameter::with_default(
        "simple",
        ParameterKind::Boolean,
        "false",
        "ask for short records: lighter, but without forks, archived and empty ones",
    ),
    Parameter::optional(GROUP, ParameterKind::Text, "list only this group (its full path) and its subgroups"),
    Parameter::optional(USER, ParameterKind::Text, "list only the projects of this user"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    row(Entry::new("gitlab", "GitLab", |a| build(a, GitLab::new)))
}

/// The row of the catalogue for GitLab with Mercurial.
pub(super) fn heptapod_entry() -> Entry {
    row(Entry::new("heptapod", "Heptapod", |a| build(a, GitLab::heptapod))).visiting(&["git", "hg"])
}

fn row(entry: Entry) -> Entry {
    let positions = &["id_after", "id_before", "last_activity_after", "page"];
    entry.incremental().telling(&Fact::ALL).with_parameters(PARAMETERS).with_positions(positions)
}

fn build(arguments: &Arguments, named: fn(&Url) -> GitLab) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    let per_page = arguments.integer("per_page").unwrap_or(LARGEST_PAGE);
    if !(1..=LARGEST_PAGE).contains(&per_page) {
        return Err(arguments.wrong("per_page", "must be 1 to 100: the forge gives no more"));
    }
    let mut lister = named(&url)
        .with_instance(instance)
        .with_per_page(per_page)
        .with_simple(arguments.boolean("simple"))
        .with_ignored_prefixes(arguments.texts("ignored_project_prefixes"));
    let scope = Scope::of(arguments, &[GROUP, USER])?;
    let remembers = arguments.boolean("incremental") && scope.is_none();
    if let Some(scope) = scope {
        lister.instance.narrow(scope);
    }
    Ok(if remembers { Arc::new(Source::incremental(lister)) } else { Arc::new(Source::stateless(lister)) })
}
