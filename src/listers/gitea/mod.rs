//! Gitea, its successor Forgejo, and its ancestor Gogs: every repository that is public, or that the
//! token's user may see.
//!
//! # How it lists
//!
//! `GET {base}/api/v1/repos/search?limit=N&page=P` answers `{"data": […], "ok": true}`; the `Link`
//! header with `rel=next` names the next page, and the end is *no such link* (or, where a proxy drops
//! the header, as many as `X-Total-Count`). Pages are counted from
//! the front, so their order matters: Gitea and Forgejo are asked by id (`sort=id&order=asc`; their own
//! order is by name, where a new repository moves all behind it). Gogs knows no order, and
//! wants a pattern: `q=_` matches every name.
//!
//! - **Credentials**: none is needed where the forge shows its repositories to everybody. Argument
//!   `api_token`, or a credential of the instance (`Authorization: token …`, scope `read:repository`).
//! - **Limits**: none of the software's own; a forge gives at most 50 repositories a page, or what it is set
//!   to: the size of the first page counts, not what was asked for.
//! - **State** (not of Gogs): `{"last_seen_repo_id": n, "listed_until": date}`. A later run asks for the
//!   newest ids until it meets the last known one, and for the latest updates until it meets those that
//!   the listing before knew (an hour earlier, for clocks that differ). A row of Software Heritage holds
//!   the number of a page in another order, which tells nothing of what was seen: after it everything
//!   is listed once more.
//! - **Origins**: `clone_url`; the last update is `updated_at`. A private repository is listed, but not
//!   enabled; a fork names its parent.
//! - **Scopes**: `org` and `user` list the repositories of one, by `GET /orgs/NAME/repos` and
//!   `GET /users/NAME/repos`, under a key of their own (`HOST/org=NAME`), without a state.
//! - **Cost**: a request per 50 repositories; a later run, two, and one per 50 that changed.
//!
//! # Where the forge fails
//!
//! One repository can make each page with it fail with status 500. Such a page is read in smaller ones
//! until what fails is one repository, which is a gap; the listing goes on behind it. Where the one
//! behind fails too, the page as a whole is the gap, after six requests.
//!
//! # What it cannot see
//!
//! - A repository that is deleted while the pages are read moves those behind it up, so that one may
//!   slip from a page still to come to one already read. The next full run lists it.
//! - Renamed and deleted repositories, and mirrors that were synchronised (they keep the date of their
//!   last commit): only a full run finds them.
//! - Gogs: whether it is archived. It is listed whole by every run.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/gitea` that fails without it:
//!
//! - asks by id, with a `token`: `gitea_asks_by_id`; Gogs without an order and with a pattern: `gogs_asks_by_pattern`
//! - goes on at the page of the link, whatever the size: `gitea_follows_the_link`
//! - without any link it goes on while the forge counts more: `gitea_without_links_it_goes_by_the_count`
//! - takes the size that the forge gives for the size: `gitea_takes_the_size_that_the_forge_gives`
//! - a link to another host, or without a page, is an error: `gitea_a_link_that_leads_astray_is_an_error`
//! - reads what is there, and invents nothing: `gitea_reads_what_is_there`
//! - a date of nothing is no date: `gitea_a_zero_date_is_none`
//! - private ones are not enabled, those without an address skipped: `gitea_private_ones_are_not_enabled`,
//!   `gitea_without_an_address_it_is_skipped`
//! - an empty list may be null, a refusal in the body is none: `gitea_an_empty_list_may_be_null`,
//!   `gitea_a_refusal_in_the_body_is_an_error`
//! - the state is the greatest id at the end, and when the listing began:
//!   `gitea_marks_when_it_began_and_where_it_ended`, `gitea_states_join`
//! - a later run asks for the newest until a known one: `gitea_resumes_with_the_newest`,
//!   `gitea_the_newest_end_at_a_known_one`
//! - and for the latest updates until known ones: `gitea_updates_end_at_known_ones`
//! - after a row of Software Heritage, everything: `gitea_after_a_foreign_row_it_lists_everything`
//! - an organization or a user is a listing of its own: `gitea_lists_an_organization_or_a_user`
//! - a repository that makes the forge fail costs only itself: `gitea_a_poisoned_repository_costs_only_itself`,
//!   `gitea_poisons_anywhere_cost_only_themselves`
//! - an outage is one gap, and made good without a loop: `gitea_an_outage_is_one_gap`
//! - a refusal names the credential and its scope: `gitea_a_refusal_names_the_credential`
//! - a body that is no list of repositories is an error with its place: `gitea_a_broken_body_is_an_error_with_its_place`
//! - the three names differ in what is said above: `forgejo_is_gitea_by_another_name`, `gogs_has_no_memory`
//! - arguments are checked: `gitea_arguments_are_checked`

mod split;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

pub use split::Piece;

use super::scope::{Instance, Scope};
use super::{api, location, next_link, under};
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source, base_url, query_param,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Auth, Request, Response};

const ORG: &str = "org";
const USER: &str = "user";

/// What the forges give at most, where they are not set to another size.
const USUAL_PAGE: u64 = 50;

/// Clocks may differ by this.
const SKEW: Duration = Duration::from_secs(3600);

/// Lists a Gitea, a Forgejo or a Gogs. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Gitea;
/// use lamplighter::model::Timestamp;
///
/// let forgejo = Gitea::forgejo(&"https://codeberg.org".parse()?);
/// let start = forgejo.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// let request = forgejo.request(&start[0])?;
/// assert_eq!(
///     request.url.as_str(),
///     "https://codeberg.org/api/v1/repos/search?sort=id&order=asc&limit=50&page=1"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gitea {
    name: &'static str,
    api: Url,
    instance: Instance,
    page_size: u64,
}

/// What a chain of pages is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Walk {
    /// Every repository, by id.
    #[default]
    All,
    /// Those with greater ids than this one, the newest first.
    New(u64),
    /// Those updated since, the latest first.
    Updated(Timestamp),
}

/// Where a listing of a Gitea is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiteaCursor {
    /// The number of the page, from 1.
    pub page: u64,
    /// The size of pages, where the forge gives another than is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What the pages are of.
    #[serde(default)]
    pub walk: Walk,
    /// A smaller page, where this one fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<Piece>,
    /// Whether it goes on from a page that failed in pieces too: a retry of it must not meet the
    /// chain of a later run on the way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub past: bool,
}

/// What is remembered of a Gitea between runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiteaState {
    /// The greatest id of a listing that came to its end.
    #[serde(default, deserialize_with = "null_is_zero")]
    pub last_seen_repo_id: u64,
    /// When the last listing of everything, or of what was updated, began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_until: Option<Timestamp>,
}

fn null_is_zero<'de, D: serde::Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(0))
}

#[derive(Deserialize)]
struct Answer {
    ok: Option<bool>,
    error: Option<String>,
    // Null is how some versions write an empty list; absent is an answer of some other kind.
    #[serde(default, deserialize_with = "null_is_empty")]
    data: Option<Vec<Repository>>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Vec<Repository>>, D::Error> {
    Ok(Some(Option::deserialize(d)?.unwrap_or_default()))
}

/// What is read of a repository; an answer has some fifty fields more.
#[derive(Deserialize)]
struct Repository {
    id: u64,
    full_name: Option<String>,
    clone_url: Option<String>,
    updated_at: Option<Timestamp>,
    fork: Option<bool>,
    parent: Option<Parent>,
    archived: Option<bool>,
    mirror: Option<bool>,
    empty: Option<bool>,
    private: Option<bool>,
    internal: Option<bool>,
}

#[derive(Deserialize)]
struct Parent {
    clone_url: Option<String>,
}

impl Repository {
    /// The last update; the forges write the zero of their clocks for none.
    fn updated(&self) -> Option<Timestamp> {
        self.updated_at.filter(|at| *at > Timestamp::EPOCH)
    }

    fn origin(self, page: &mut Page<GiteaCursor>) -> Result<(), ListerError> {
        let updated = self.updated();
        let Some(url) = self.clone_url.filter(|url| !url.is_empty()) else {
            page.skip(self.full_name.unwrap_or_else(|| format!("id {}", self.id)), "it has no clone_url");
            return Ok(());
        };
        let hidden = self.private == Some(true) || self.internal == Some(true);
        let mut origin = NewOrigin::new(url, VisitType::git())
            .with_last_update(updated)
            .with_forge_id(self.id)
            .with_fork(self.fork)
            .with_archived(self.archived)
            .with_mirror(self.mirror)
            .with_empty(self.empty)
            .with_enabled(!hidden);
        if let Some(parent) = self.parent.and_then(|p| p.clone_url).filter(|url| !url.is_empty()) {
            origin = origin.with_forked_from(parent);
        }
        page.origin(origin)
    }
}

impl Walk {
    /// Whether a page of these repositories comes to what is known.
    fn ends(self, repositories: &[Repository]) -> bool {
        match self {
            Self::All => false,
            Self::New(after) => repositories.iter().any(|r| r.id <= after),
            Self::Updated(since) => repositories.iter().any(|r| r.updated().is_some_and(|at| at < since)),
        }
    }

    fn order(self) -> (&'static str, &'static str) {
        match self {
            Self::All => ("id", "asc"),
            Self::New(_) => ("id", "desc"),
            Self::Updated(_) => ("updated", "desc"),
        }
    }
}

impl Gitea {
    /// The Gitea at `base` (which may end in `/api/v1`); the instance is named after its host.
    #[must_use]
    pub fn new(base: &Url) -> Self {
        Self::named("gitea", base)
    }

    /// The Forgejo at `base`: as [`Gitea::new`], under its own name.
    #[must_use]
    pub fn forgejo(base: &Url) -> Self {
        Self::named("forgejo", base)
    }

    /// The Gogs at `base`. List it with [`Source::stateless`]: it cannot be asked for what is new.
    #[must_use]
    pub fn gogs(base: &Url) -> Self {
        Self::named("gogs", base)
    }

    fn named(name: &'static str, base: &Url) -> Self {
        let instance = Instance::new(location(base));
        Self { name, api: api(base, &["api", "v1"]), instance, page_size: USUAL_PAGE }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance.rename(instance);
        self
    }

    /// Asks for pages of this size.
    #[must_use]
    pub fn with_page_size(mut self, size: u64) -> Self {
        self.page_size = size.max(1);
        self
    }

    /// Lists only the repositories of an organization, under a key of its own.
    #[must_use]
    pub fn with_organization(mut self, name: impl Into<String>) -> Self {
        self.instance.narrow(Scope::new(ORG, name));
        self
    }

    /// Lists only the repositories of a user, under a key of its own.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>) -> Self {
        self.instance.narrow(Scope::new(USER, name));
        self
    }

    fn is_gogs(&self) -> bool {
        self.name == "gogs"
    }

    fn limit(&self, at: &GiteaCursor) -> u64 {
        at.limit.unwrap_or(self.page_size)
    }

    fn repositories(&self, response: &Response) -> Result<Vec<Repository>, ListerError> {
        if self.instance.scope().is_some() {
            return response.json();
        }
        let answer: Answer = response.json()?;
        if answer.ok == Some(false) {
            return Err(ListerError::refused(answer.error.unwrap_or_else(|| "no reason given".to_owned())));
        }
        answer.data.ok_or_else(|| ListerError::parse("missing field `data`"))
    }

    /// The next page, where the forge says that there is one.
    fn next(
        &self,
        at: &GiteaCursor,
        entries: u64,
        response: &Response,
    ) -> Result<Option<GiteaCursor>, ListerError> {
        let Some(link) = next_link(&self.api, response)? else {
            return Ok(if self.counts_more(at, entries, response) {
                at.read(at.page.saturating_add(1), self.limit(at))
            } else {
                None
            });
        };
        let number = |name| query_param(&link, name).and_then(|n| n.parse().ok()).filter(|n| *n > 0);
        let page = number("page")
            .ok_or_else(|| ListerError::parse(format!("the next page has no number: {link}")))?;
        let limit = self.limit(at);
        let mut at = at.clone();
        if at.piece.is_none() {
            // A forge that gives less than it was asked for counts its pages by what it gives.
            let given = number("limit").filter(|given| *given != limit);
            let short = (at.page == 1 && (1..limit).contains(&entries)).then_some(entries);
            at.limit = given.or(short).or(at.limit);
        }
        Ok(at.read(page, limit))
    }

    /// Whether a page without any `Link`, which a proxy may have dropped, is not the last one.
    fn counts_more(&self, at: &GiteaCursor, entries: u64, response: &Response) -> bool {
        let total = response.header("x-total-count").and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let before = at.page.saturating_sub(1).saturating_mul(self.limit(at));
        let before = at.piece.map_or(before, |piece| piece.offset);
        entries > 0 && response.header("link").is_none() && before.saturating_add(entries) < total
    }

    /// What a page says for later runs.
    fn mark(at: &GiteaCursor, highest: Option<u64>, ends: bool, answered: Timestamp) -> GiteaState {
        // In pieces, the first page takes a while; less than clocks may differ by.
        let first = at.page == 1 && !at.piece.is_some_and(|p| p.alone);
        // The greatest id is on the last page of all, and on the first one of the newest.
        let known = match at.walk {
            Walk::All => ends && !at.piece.is_some_and(|p| p.alone),
            Walk::New(_) => true,
            Walk::Updated(_) => false,
        };
        let begins = first && !matches!(at.walk, Walk::New(_));
        GiteaState {
            last_seen_repo_id: highest.filter(|_| known).unwrap_or(0),
            listed_until: begins.then_some(answered),
        }
    }
}

impl Lister for Gitea {
    type Cursor = GiteaCursor;

    fn name(&self) -> &'static str {
        self.name
    }

    fn instance(&self) -> &str {
        self.instance.key()
    }

    fn start(&self, _: &RunInfo) -> Vec<GiteaCursor> {
        vec![GiteaCursor::first(Walk::All)]
    }

    fn request(&self, at: &GiteaCursor) -> Result<Request, ListerError> {
        let (mut url, needed) = match self.instance.scope() {
            Some(scope) if scope.kind() == ORG => {
                (under(&self.api, &["orgs", scope.name(), "repos"]), "read:organization")
            }
            Some(scope) => (under(&self.api, &["users", scope.name(), "repos"]), "read:user"),
            None => (under(&self.api, &["repos", "search"]), "read:repository"),
        };
        let (page, limit) = at.piece.map_or((at.page, self.limit(at)), |piece| (piece.page(), piece.size));
        {
            let mut query = url.query_pairs_mut();
            match self.instance.scope() {
                Some(_) => {}
                None if self.is_gogs() => {
                    query.append_pair("q", "_");
                }
                None => {
                    let (sort, order) = at.walk.order();
                    query.append_pair("sort", sort).append_pair("order", order);
                }
            }
            query.append_pair("limit", &limit.to_string()).append_pair("page", &page.to_string());
        }
        Ok(Request::get(url)
            .with_header("accept", "application/json")
            .with_auth(Auth::Bearer("token"))
            .needing(format!(
                "a token with the scope {needed} (Settings, Applications): api_token=, or a credential of this instance"
            ))
            .configured())
    }

    fn page(
        &self,
        at: &GiteaCursor,
        response: Response,
        page: &mut Page<GiteaCursor>,
    ) -> Result<(), ListerError> {
        let repositories = self.repositories(&response)?;
        let highest = repositories.iter().map(|r| r.id).max();
        let next = match self.next(at, repositories.len() as u64, &response)? {
            Some(next) if !at.walk.ends(&repositories) => Some(next),
            _ => None,
        };
        for repository in repositories {
            repository.origin(page)?;
        }
        let state = Self::mark(at, highest, next.is_none(), response.received_at);
        if self.instance.scope().is_none() && state != GiteaState::default() {
            page.mark(&state);
        }
        if let Some(failed) = at.left_behind() {
            page.follow(failed);
        }
        if let Some(next) = next {
            page.next(next);
        }
        Ok(())
    }

    fn recover(&self, at: &GiteaCursor, failure: &Failure) -> Recovery<GiteaCursor> {
        at.failed(failure, self.limit(at))
    }
}

impl GiteaCursor {
    fn first(walk: Walk) -> Self {
        Self { page: 1, limit: None, walk, piece: None, past: false }
    }
}

impl Incremental for Gitea {
    type State = GiteaState;

    fn resume(&self, state: &GiteaState, run: &RunInfo) -> Vec<GiteaCursor> {
        let whole = self.is_gogs() || self.instance.scope().is_some();
        match (state.last_seen_repo_id, state.listed_until) {
            (1.., Some(until)) if !whole => vec![
                GiteaCursor::first(Walk::New(state.last_seen_repo_id)),
                GiteaCursor::first(Walk::Updated(until.minus(SKEW))),
            ],
            // Nothing was listed to its end: what is known is not known to be all.
            _ => self.start(run),
        }
    }

    fn join(&self, ours: GiteaState, stored: GiteaState) -> GiteaState {
        GiteaState {
            last_seen_repo_id: ours.last_seen_repo_id.max(stored.last_seen_repo_id),
            listed_until: ours.listed_until.max(stored.listed_until),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the forge, as https://codeberg.org; /api/v1 may follow"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
    Parameter::optional("api_token", ParameterKind::Secret, "access token, from the user's settings"),
    Parameter::with_default("page_size", ParameterKind::Integer, "50", "repositories a page to ask for"),
    Parameter::optional(ORG, ParameterKind::Text, "list only the repositories of this organization"),
    Parameter::optional(USER, ParameterKind::Text, "list only the repositories of this user"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    row(Entry::new("gitea", "Gitea", |a| build(a, Gitea::new))).incremental()
}

/// The row of the catalogue for the successor.
pub(super) fn forgejo_entry() -> Entry {
    row(Entry::new("forgejo", "Forgejo", |a| build(a, Gitea::forgejo))).incremental()
}

/// The row of the catalogue for the ancestor.
pub(super) fn gogs_entry() -> Entry {
    row(Entry::new("gogs", "Gogs", |a| build(a, Gitea::gogs)))
}

fn row(entry: Entry) -> Entry {
    // The size is part of the place: pages of another size hold something else.
    entry.with_parameters(PARAMETERS).with_positions(&["page", "limit"])
}

fn build(arguments: &Arguments, named: fn(&Url) -> Gitea) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    let mut lister = named(&url).with_instance(instance);
    match arguments.integer("page_size") {
        Some(0) => return Err(arguments.wrong("page_size", "must be at least 1")),
        Some(size) => lister = lister.with_page_size(size),
        None => {}
    }
    let scope = Scope::of(arguments, &[ORG, USER])?;
    let remembers = !lister.is_gogs() && scope.is_none();
    if let Some(scope) = scope {
        lister.instance.narrow(scope);
    }
    Ok(if remembers { Arc::new(Source::incremental(lister)) } else { Arc::new(Source::stateless(lister)) })
}
