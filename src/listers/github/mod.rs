//! GitHub, and GitHub Enterprise: every public repository, in the order of ids.
//!
//! # How it lists
//!
//! `GET /repositories?since=ID&per_page=N` answers the repositories with greater ids than `since`.
//! The `Link` header with `rel=next` says where it goes on; a page may be short, or empty, and
//! still have a next one, so the end is *no such link*. Upstream documents `since` as the only
//! parameter of place; `per_page` (100) is a wish, and no size is assumed.
//!
//! - **Credentials**: none is needed. Each token (`Authorization: token …`) has a limit of its own;
//!   the transport chooses among them.
//! - **Limits**: 60 requests an hour without a token, 5,000 with one; the transport waits, and can leave
//!   a reserve of each. Ten requests a second are within the secondary limit of one token; ten tokens
//!   need fourteen to be spent.
//! - **State**: `{"last_seen_id": n}`, the greatest id listed, as Software Heritage stores it. A run
//!   with a state asks for greater ids only.
//! - **Ranges**: `first_id` (excluded) and `last_id` (included) list a part; such a run leaves the
//!   state alone, and says nothing of origins outside. Its last page may go beyond `last_id`.
//! - **Shards**: a full listing in N ranges of ids beside each other, after some fifteen requests that look for
//!   the greatest id. The last page of a range may show some of the next one's again.
//! - **Scopes**: `org` and `user` list the public repositories of one, by `GET /orgs/NAME/repos` and
//!   `GET /users/NAME/repos`, the oldest first, under a key of its own (`github/org=NAME`), and
//!   without a state: a run asks for all, a request per 100. These answers say when was last pushed.
//! - **Cost**: a request per 100 repositories, most pages being shorter.
//!
//! # What it cannot see
//!
//! - Repositories made public after their id was passed, renamed or deleted ones: only a full run
//!   finds them.
//! - Pushes to known repositories, and what a fork was forked from: the list does not tell. Most
//!   answers have no `pushed_at` either, so the last update is mostly unknown.
//! - In an organization or of a user: what comes after a page that always fails, as that page alone says
//!   where it goes on. It stays a gap, and is asked again by every run.
//!
//! # Where the forge fails
//!
//! One repository can make each page with it fail with status 500. Such a page is asked for in smaller
//! ones until what fails is one repository, which is a gap; the listing goes on behind it. Where 256 ids
//! further on the forge fails still, all that is after that id is one gap, after twelve requests.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/github` that fails without it:
//!
//! - asks by `since`, as an API version 3 client, with a `token` where there is one:
//!   `github_asks_by_since_with_a_token`
//! - takes its place from the link, whatever the size of the page: `github_follows_the_link`
//! - an empty page with a next link goes on, one without is the end:
//!   `github_an_empty_page_with_a_link_goes_on`
//! - a link without `since` is followed as it is, one to its own page as what it is:
//!   `github_an_unknown_link_is_followed_as_it_is`, `github_a_link_to_its_own_page_leads_to_that_page`
//! - a link to another host is an error: `github_a_link_to_another_host_is_an_error`
//! - null entries are skipped and counted, also at the end: `github_null_entries_are_counted`
//! - an address that is on a page twice is listed once: `github_an_address_twice_on_a_page_is_listed_once`
//! - facts that are absent stay unknown: `github_reads_what_is_there`
//! - the state is the greatest id: `github_marks_the_greatest_id`, `github_states_join_to_the_greatest`
//! - a later run asks for greater ids only: `github_resumes_after_the_last_id`
//! - a range is bounded, marks nothing and retires nothing: `github_a_range_ends_at_its_last_id`,
//!   `github_a_range_leaves_the_state_alone`
//! - shards list what one chain lists, from a range each: `github_shards_list_what_a_chain_lists`,
//!   `github_shards_are_equal_ranges`, `github_looks_for_the_greatest_id`; a failed search for the greatest id loses nothing:
//!   `github_a_failed_search_for_the_greatest_id_loses_nothing`
//! - a refusal that is no limit names the credential: `github_a_refusal_names_the_credential`
//! - an organization or a user is a listing of its own, by pages, without a state:
//!   `github_lists_an_organization_or_a_user`, `github_scopes_have_a_key_of_their_own`
//! - a repository that makes the forge fail costs only itself: `github_a_poisoned_repository_costs_only_itself`,
//!   `github_poisons_anywhere_cost_only_themselves`; also one whose forge gives pages as it likes:
//!   `github_pages_that_stay_large_lose_nothing_silently`
//! - an outage is one gap, and made good without a loop: `github_an_outage_is_one_gap`
//! - a body that is no list of repositories is an error with its place: `github_a_broken_body_is_an_error_with_its_place`

mod search;
mod shards;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

pub use search::Search;
pub use shards::Split;
use shards::{Found, Step};

use super::scope::{Instance, Scope};
use super::{location, next_link, under};
use crate::lister::{
    Arguments, ConfigError, Coverage, Entry, Fact, Failure, Incremental, Lister, ListerError, Mode, Page,
    PageSource, Parameter, ParameterKind, Recovery, RunInfo, Source, query_param,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Auth, Request, Response};

/// The list of github.com itself.
const PUBLIC: &str = "https://api.github.com/repositories";

const ORG: &str = "org";
const USER: &str = "user";

/// Lists GitHub. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::GitHub;
/// use lamplighter::model::Timestamp;
///
/// let github = GitHub::new("https://api.github.com/repositories".parse()?);
/// let start = github.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// let request = github.request(&start[0])?;
/// assert_eq!(request.url.query(), Some("since=0&per_page=100"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct GitHub {
    endpoint: Url,
    instance: Instance,
    per_page: u64,
    first_id: Option<u64>,
    last_id: Option<u64>,
}

/// Where a listing of GitHub is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitHubCursor {
    /// Repositories with greater ids are asked for.
    pub since: u64,
    /// The last id of a range: kept here so that a gap in a range stays one of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// The address of the page, where a link gave one that does not say `since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// A search for what makes a page fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Whether it goes on behind a repository that was searched for, whose id is `since`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub behind: bool,
    /// A search for the greatest id, up to which the listing is in shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
}

impl GitHubCursor {
    fn new(since: u64, last: Option<u64>, url: Option<Url>) -> Self {
        Self { since, last, url, search: None, behind: false, split: None }
    }
}

/// What is remembered of GitHub between runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitHubState {
    /// The greatest id that was listed.
    #[serde(default)]
    pub last_seen_id: u64,
}

/// What is read of a repository; an answer has some fifty fields more.
#[derive(Deserialize)]
struct Repository {
    id: u64,
    html_url: String,
    fork: Option<bool>,
    archived: Option<bool>,
    pushed_at: Option<Timestamp>,
    mirror_url: Option<String>,
}

impl GitHub {
    /// The GitHub whose API (`https://github.example/api/v3`), or whose list of repositories, is at
    /// `url`. The instance is named `github` for github.com, else after the host.
    #[must_use]
    pub fn new(mut url: Url) -> Self {
        let instance =
            if url.host_str() == Some("api.github.com") { "github".into() } else { location(&url) };
        let whole = url.path().trim_end_matches('/').ends_with("/repositories");
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            if !whole {
                path.push("repositories");
            }
        }
        let instance = Instance::new(instance);
        Self { endpoint: url, instance, per_page: 100, first_id: None, last_id: None }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance.rename(instance);
        self
    }

    /// Lists only the public repositories of an organization, under a key of its own.
    #[must_use]
    pub fn with_organization(mut self, name: impl Into<String>) -> Self {
        self.instance.narrow(Scope::new(ORG, name));
        self
    }

    /// Lists only the public repositories of a user, under a key of its own.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>) -> Self {
        self.instance.narrow(Scope::new(USER, name));
        self
    }

    /// Wishes for pages of this size.
    #[must_use]
    pub fn with_per_page(mut self, per_page: u64) -> Self {
        self.per_page = per_page;
        self
    }

    /// Lists only ids after `first` (the stored one where absent) and up to `last`.
    #[must_use]
    pub fn with_range(mut self, first: Option<u64>, last: Option<u64>) -> Self {
        self.first_id = first;
        self.last_id = last;
        self
    }

    fn is_range(&self) -> bool {
        self.first_id.is_some() || self.last_id.is_some()
    }

    /// The first page of a scope's list.
    fn first_of(&self, scope: &Scope) -> Url {
        let (owners, kind) = if scope.kind() == ORG { ("orgs", "public") } else { ("users", "owner") };
        let mut api = self.endpoint.clone();
        if let Ok(mut path) = api.path_segments_mut() {
            path.pop();
        }
        let mut url = under(&api, &[owners, scope.name(), "repos"]);
        url.query_pairs_mut()
            .append_pair("type", kind)
            // New ones come last, so that they move nothing between the pages.
            .append_pair("sort", "created")
            .append_pair("direction", "asc")
            .append_pair("per_page", &self.per_page.to_string());
        url
    }

    fn from(&self, stored: u64) -> Vec<GitHubCursor> {
        vec![GitHubCursor::new(self.first_id.unwrap_or(stored), self.last_id, None)]
    }

    /// An answer to the search for the greatest id. Its repositories are listed by the shards.
    fn split_on(
        &self,
        at: &GitHubCursor,
        split: Split,
        entries: &[Option<Repository>],
        response: &Response,
        page: &mut Page<GitHubCursor>,
    ) -> Result<(), ListerError> {
        let more = next_link(&self.endpoint, response)?.is_some();
        let found = match entries.iter().flatten().map(|repository| repository.id).max() {
            Some(id) if more => Found::More(id),
            Some(id) => Found::Last(id),
            None if !more && entries.is_empty() => Found::Nothing,
            None => Found::Unknown,
        };
        match split.step(at.since, found, self.per_page) {
            Step::Try(cursor) => page.follow(cursor),
            Step::Found(split) => {
                // The last shard may find nothing more, and mark nothing.
                if split.seen > 0 {
                    page.mark(&GitHubState { last_seen_id: split.seen });
                }
                for shard in split.cursors(self.per_page) {
                    page.follow(shard);
                }
            }
        }
        Ok(())
    }

    fn next(
        &self,
        at: &GitHubCursor,
        highest: Option<u64>,
        response: &Response,
    ) -> Result<Option<GitHubCursor>, ListerError> {
        let Some(link) = next_link(&self.endpoint, response)? else { return Ok(None) };
        // By its id where it has one: a gap and the start of a later run are then the same cursor.
        let said = query_param(&link, "since").and_then(|id| id.parse().ok());
        let since = said.or(highest).unwrap_or(at.since);
        let within = at.last.is_none_or(|last| since < last);
        if at.url.as_ref() == Some(&link) {
            // The page itself, as it was asked for: seen to be a loop before it is asked for again.
            return Ok(Some(at.clone()));
        }
        let url = said.is_none().then_some(link);
        Ok(within.then_some(GitHubCursor::new(since, at.last, url)))
    }
}

impl Lister for GitHub {
    type Cursor = GitHubCursor;

    fn name(&self) -> &'static str {
        "github"
    }

    fn instance(&self) -> &str {
        self.instance.key()
    }

    fn start(&self, _: &RunInfo) -> Vec<GitHubCursor> {
        match self.instance.scope() {
            Some(scope) => {
                vec![GitHubCursor::new(0, None, Some(self.first_of(scope)))]
            }
            None => self.from(0),
        }
    }

    fn start_in_shards(&self, _: &RunInfo, shards: NonZeroU32) -> Option<Vec<GitHubCursor>> {
        (self.instance.scope().is_none() && !self.is_range()).then(|| vec![Split::start(shards)])
    }

    fn request(&self, at: &GitHubCursor) -> Result<Request, ListerError> {
        let request = if let Some(url) = &at.url {
            Request::get(url.clone())
        } else {
            let mut url = self.endpoint.clone();
            url.query_pairs_mut()
                .append_pair("since", &at.since.to_string())
                .append_pair("per_page", &at.size(self.per_page).to_string());
            Request::get(url).configured()
        };
        Ok(request.with_header("accept", "application/vnd.github+json").with_auth(Auth::Bearer("token")).needing(
            "a token that is valid, of an organization and an address that are allowed (Settings, Developer settings), as a credential of this instance; no scope for what is public",
        ))
    }

    fn page(
        &self,
        at: &GitHubCursor,
        response: Response,
        page: &mut Page<GitHubCursor>,
    ) -> Result<(), ListerError> {
        let entries: Vec<Option<Repository>> = response.json()?;
        if let Some(split) = at.split {
            return self.split_on(at, split, &entries, &response, page);
        }
        let mut highest = None;
        let mut listed = HashSet::new();
        for entry in entries {
            let Some(repository) = entry else {
                let before = highest.unwrap_or(at.since);
                page.skip(format!("a repository after id {before}"), "the forge lists it as null");
                continue;
            };
            highest = highest.max(Some(repository.id));
            if !listed.insert(repository.html_url.clone()) {
                page.skip(format!("id {}", repository.id), "its address is on this page already");
                continue;
            }
            page.origin(
                NewOrigin::new(repository.html_url, VisitType::git())
                    .with_last_update(repository.pushed_at)
                    .with_fork(repository.fork)
                    .with_archived(repository.archived)
                    .with_mirror(repository.mirror_url.map(|_| true))
                    .with_forge_id(repository.id),
            )?;
        }
        let whole = self.first_id.is_none() && at.last.is_none() && self.instance.scope().is_none();
        // What made a page fail is a gap of its own: a later run need not search for it again.
        let behind = at.behind.then_some(at.since);
        if let (true, Some(last_seen_id)) = (whole, highest.max(behind)) {
            page.mark(&GitHubState { last_seen_id });
        }
        let next = self.next(at, highest, &response)?;
        if let Some(next) = at.goes_on(next, self.per_page) {
            page.next(next);
        }
        // Steps of a search may well show the same repository twice.
        at.search_on().into_iter().for_each(|step| page.follow(step));
        Ok(())
    }

    fn recover(&self, at: &GitHubCursor, failure: &Failure) -> Recovery<GitHubCursor> {
        if let Some(split) = at.split {
            // The shards ask for all of it themselves, and say what fails.
            return Recovery::replaced(split.cursors(self.per_page).collect());
        }
        at.failed(failure, self.per_page)
    }

    fn coverage(&self, mode: Mode) -> Coverage {
        if mode == Mode::Full && !self.is_range() { Coverage::All } else { Coverage::New }
    }
}

impl Incremental for GitHub {
    type State = GitHubState;

    fn resume(&self, state: &GitHubState, run: &RunInfo) -> Vec<GitHubCursor> {
        if self.instance.scope().is_some() { self.start(run) } else { self.from(state.last_seen_id) }
    }

    fn join(&self, ours: GitHubState, stored: GitHubState) -> GitHubState {
        GitHubState { last_seen_id: ours.last_seen_id.max(stored.last_seen_id) }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, PUBLIC, "the API, or its list of repositories"),
    Parameter::optional(
        "instance",
        ParameterKind::Text,
        "name of the instance: `github`, else the host, where absent",
    ),
    Parameter::with_default("per_page", ParameterKind::Integer, "100", "size of a page to wish for"),
    Parameter::optional("first_id", ParameterKind::Integer, "list only ids after this one"),
    Parameter::optional("last_id", ParameterKind::Integer, "list only ids up to this one"),
    Parameter::optional(ORG, ParameterKind::Text, "list only the public repositories of this organization"),
    Parameter::optional(USER, ParameterKind::Text, "list only the public repositories of this user"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("github", "GitHub and GitHub Enterprise", build)
        .incremental()
        .with_parameters(PARAMETERS)
        .telling(&[Fact::Fork, Fact::Archived, Fact::Mirror])
        .with_positions(&["since", "page"])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let url = arguments.url("url").ok_or_else(|| arguments.missing("url= (the API)"))?;
    let (first, last) = (arguments.integer("first_id"), arguments.integer("last_id"));
    if last.is_some_and(|last| last <= first.unwrap_or(0)) {
        return Err(arguments.wrong("last_id", "must be greater than first_id"));
    }
    let scope = Scope::of(arguments, &[ORG, USER])?;
    if let (Some(scope), true) = (&scope, first.or(last).is_some()) {
        return Err(arguments.wrong(scope.kind(), "has no ranges of ids: leave out first_id and last_id"));
    }
    let mut lister = GitHub::new(url).with_range(first, last);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    match arguments.integer("per_page") {
        Some(0) => return Err(arguments.wrong("per_page", "must be at least 1")),
        Some(size) => lister = lister.with_per_page(size),
        None => {}
    }
    match scope {
        Some(scope) => {
            lister.instance.narrow(scope);
            Ok(Arc::new(Source::stateless(lister)))
        }
        None => Ok(Arc::new(Source::incremental(lister))),
    }
}
