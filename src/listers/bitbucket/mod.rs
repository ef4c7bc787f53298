//! Bitbucket: the repositories of Bitbucket Cloud, or of a Bitbucket Server or Data Center.
//!
//! # How it lists
//!
//! **Cloud** (no `url`, or that of bitbucket.org). With `workspace`: `GET
//! https://api.bitbucket.org/2.0/repositories/{workspace}?pagelen=100&sort=-updated_on` for each, and on by the `next`
//! in the body. Without it `GET /2.0/repositories?after=1970-01-01`, the list of everything: Atlassian has announced its end for
//! February 2026, and where it is gone (404, 410) the workspaces of the credential's user are listed
//! (`GET /2.0/user/workspaces`).
//!
//! **Server, Data Center** (any other `url` or `instance`): `GET {url}/rest/api/1.0/repos?limit=1000&start=0`, and on by the
//! `nextPageStart` in the body. `project` lists those of one project.
//!
//! - **Credentials**: none needed for what is public, but for a user's workspaces. Cloud: the account's mail address and an API token
//!   with the scopes `read:repository:bitbucket` and `read:workspace:bitbucket`; Server: user and password, or user and HTTP access
//!   token with "repository read".
//! - **Limits**: Cloud: 60 requests an hour without a credential, 1,000 with one; pages of 100. Server: none known; it may
//!   give smaller pages than asked for.
//! - **Order**: Cloud: of everything by creation; of a workspace by the last update, latest first. Server: by id.
//! - **State**: `last_repo_cdate`, the creation up to which the list of everything was read: a later run goes on there, and sees no
//!   updates of what is older. `workspaces`, by name, the latest update seen by the last listing that came to its end: a
//!   later run asks for what was updated since then. With `incremental=false` neither. A Server's has none.
//! - **Scopes**: `workspace`, one or several with commas, and `project`, each under a key of its own
//!   (`HOST/workspace=NAME`).
//! - **Cost**: a request for every 100 repositories (Server: 1,000), at least one for each workspace.
//! - **Origins**: the clone address by https, else http, without the user that Bitbucket writes into it for whoever asks with a
//!   credential. The type is the repository's `scm`. `last_update` is `updated_on` (Cloud only). What is private
//!   is not enabled.
//!
//! # What it cannot see
//!
//! Workspaces that nobody names, once the list of everything is gone; what the credential's user may not see; on a
//! Server dates, and what moves up while the pages are read, which the next run lists.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/bitbucket.rs` that fails without it:
//!
//! - the list of everything is asked for by date of creation: `bitbucket_asks_for_everything_by_creation`
//! - workspaces are asked for each by itself, the latest update first: `bitbucket_asks_for_each_workspace`
//! - goes on where the body says, on the same host only: `bitbucket_goes_on_where_the_body_says`
//! - where the list of everything is gone, the user's workspaces are listed:
//!   `bitbucket_without_the_list_of_everything_workspaces_are_listed`
//! - a page of a workspace that the server cannot give is a gap, and what is behind it is listed: `bitbucket_goes_on_behind_a_broken_page`
//! - reads a repository with its facts: `bitbucket_reads_a_repository`
//! - the user in an address is left out, and what only members may clone is skipped by name:
//!   `bitbucket_addresses_are_for_anybody`
//! - resumes at the latest creation, or update, also from a state of swh: `bitbucket_resumes`
//! - a workspace's state is that of a listing that came to its end: `bitbucket_the_state_of_a_workspace_is_of_its_end`
//! - states are joined: `bitbucket_states_are_joined`
//! - a Server is asked by offsets that it gives: `bitbucket_server_goes_on_where_it_says`
//! - reads a Server's repositories: `bitbucket_server_reads_a_repository`
//! - is made of what it is given: `bitbucket_is_made_of_its_arguments`
//! - an empty page is no error, and a broken body is one: `bitbucket_an_empty_page_is_no_error`,
//!   `bitbucket_a_broken_body_is_an_error_with_its_place`

mod answers;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use self::answers::{Access, Answer, Repository, ServerAnswer, cloud_origin, server_origin};
use super::scope::{Instance, Scope};
use super::{on_the_same_host, under};
use crate::lister::{
    Arguments, ConfigError, Coverage, Entry, Fact, Failure, Incremental, Lister, ListerError, Mode, Page,
    PageSource, Parameter, ParameterKind, Recovery, RunInfo, Source, base_url, query_param, utc_date,
};
use crate::model::Timestamp;
use crate::transport::{Auth, Request, Response};

const CLOUD: &str = "https://api.bitbucket.org/";
const WORKSPACE: &str = "workspace";
const PROJECT: &str = "project";

/// Cloud refuses more.
const LARGEST_PAGE: u64 = 100;

/// What of a page is asked for.
const FIELDS: &str = "next,values.uuid,values.is_private,values.scm,values.links.clone,values.updated_on,\
                      values.created_on,values.parent.full_name";

/// Before the first repository.
const BEGINNING: &str = "1970-01-01";

/// Lists Bitbucket Cloud, or a Bitbucket Server. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Bitbucket;
/// use lamplighter::model::Timestamp;
///
/// let server = Bitbucket::server("https://git.example/".parse()?, "git.example");
/// let start = server.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(server.request(&start[0])?.url.as_str(), "https://git.example/rest/api/1.0/repos?limit=1000&start=0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bitbucket {
    base: Url,
    instance: Instance,
    cloud: bool,
    page_size: u64,
}

/// Where a listing of a Bitbucket is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BitbucketCursor {
    /// Cloud: at a page of the user's workspaces.
    Workspaces {
        /// The page.
        url: Url,
    },
    /// Cloud: at a page of repositories.
    Repositories {
        /// The page, without the fields that are asked for.
        url: Url,
        /// The workspace, where it is of one.
        workspace: Option<String>,
        /// The latest update of the workspace: of its first page.
        newest: Option<Timestamp>,
        /// What of the page is wanted.
        wanted: BitbucketPage,
        /// Whether it is the first page of its whole list.
        first: bool,
    },
    /// Server: at a page of repositories.
    Server {
        /// Where it begins.
        start: u64,
    },
}

/// What of a page of repositories is wanted. A page that cannot be had is asked for by its two halves: what is on
/// it, and where the listing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BitbucketPage {
    /// All of it.
    Whole,
    /// Its repositories.
    Alone,
    /// The address of the next one.
    Next,
}

/// What a listing of Bitbucket Cloud remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BitbucketState {
    /// The latest creation seen in the list of everything.
    #[serde(default)]
    pub last_repo_cdate: Option<Timestamp>,
    /// Of each workspace the latest update.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workspaces: BTreeMap<String, Timestamp>,
}

impl Bitbucket {
    /// Bitbucket Cloud.
    ///
    /// # Errors
    /// [`ConfigError::Value`] where the address of its API is no URL, which it is.
    pub fn cloud() -> Result<Self, ConfigError> {
        let base = Url::parse(CLOUD)
            .map_err(|e| ConfigError::Value { name: "url".to_owned(), problem: e.to_string() })?;
        Ok(Self { base, instance: Instance::new("bitbucket.org"), cloud: true, page_size: LARGEST_PAGE })
    }

    /// The Bitbucket Server or Data Center at `base`.
    pub fn server(base: Url, instance: impl Into<String>) -> Self {
        Self { base, instance: Instance::new(instance), cloud: false, page_size: 1_000 }
    }

    /// Asks for so many repositories at once; Cloud gives 100 at most.
    #[must_use]
    pub fn with_page_size(mut self, size: u64) -> Self {
        self.page_size = if self.cloud { size.clamp(1, LARGEST_PAGE) } else { size.max(1) };
        self
    }

    /// Lists a part, under a key of its own: of Cloud the workspaces of these names (with commas), of a Server the project
    /// of this key.
    #[must_use]
    pub fn with_part(mut self, part: &str) -> Self {
        let scope = if self.cloud {
            let mut names: Vec<String> = part
                .split(',')
                .map(|name| name.trim().to_lowercase())
                .filter(|name| !name.is_empty())
                .collect();
            names.sort();
            names.dedup();
            Scope::new(WORKSPACE, names.join(","))
        } else {
            Scope::new(PROJECT, part)
        };
        self.instance.narrow(scope);
        self
    }

    fn workspaces(&self) -> impl Iterator<Item = &str> {
        let scope = self.instance.scope().filter(|scope| scope.kind() == WORKSPACE);
        scope.into_iter().flat_map(|scope| scope.name().split(','))
    }

    /// Everything that was created then or later.
    fn everything(&self, since: Option<Timestamp>) -> BitbucketCursor {
        let mut url = under(&self.base, &["2.0", "repositories"]);
        // The forge's own form.
        let after = since.map(|at| at.to_string().replace('Z', "+00:00"));
        url.query_pairs_mut()
            .append_pair("pagelen", &self.page_size.to_string())
            .append_pair("after", after.as_deref().unwrap_or(BEGINNING));
        BitbucketCursor::Repositories {
            url,
            workspace: None,
            newest: None,
            wanted: BitbucketPage::Whole,
            first: since.is_none(),
        }
    }

    /// The repositories of a workspace that were updated then or later.
    fn workspace(&self, name: &str, since: Option<Timestamp>) -> BitbucketCursor {
        let mut url = under(&self.base, &["2.0", "repositories", name]);
        let mut query = url.query_pairs_mut();
        query.append_pair("pagelen", &self.page_size.to_string()).append_pair("sort", "-updated_on");
        if let Some(since) = since {
            query.append_pair("q", &format!("updated_on>={}", since.to_string().replace('Z', "+00:00")));
        }
        drop(query);
        BitbucketCursor::Repositories {
            url,
            workspace: Some(name.to_owned()),
            newest: None,
            wanted: BitbucketPage::Whole,
            first: true,
        }
    }

    fn next_url(&self, next: Option<String>) -> Result<Option<Url>, ListerError> {
        let Some(next) = next else { return Ok(None) };
        let url =
            Url::parse(&next).map_err(|e| ListerError::parse(format!("at next: {next:?}")).with_source(e))?;
        let mut url = on_the_same_host(&self.base, url)?;
        let kept: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| name != "fields").collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
        Ok(Some(url))
    }

    fn found(&self, response: &Response, page: &mut Page<BitbucketCursor>) -> Result<(), ListerError> {
        let Answer { values, next } = response.json::<Answer<Access>>()?;
        let values = values.ok_or_else(|| ListerError::parse("at values: there is no such list"))?;
        for access in values {
            match access.workspace.and_then(|w| w.slug).or(access.slug).filter(|slug| !slug.is_empty()) {
                Some(name) => page.follow(self.workspace(&name, None)),
                None => page.skip("a workspace", "has no slug"),
            }
        }
        if let Some(url) = self.next_url(next)? {
            page.next(BitbucketCursor::Workspaces { url });
        }
        Ok(())
    }

    fn repositories(
        &self,
        at: &Url,
        (workspace, newest, wanted, first): (Option<&str>, Option<Timestamp>, BitbucketPage, bool),
        response: &Response,
        page: &mut Page<BitbucketCursor>,
    ) -> Result<(), ListerError> {
        let Answer { values, next } = response.json::<Answer<Repository>>()?;
        let values = match values {
            _ if wanted == BitbucketPage::Next => Vec::new(),
            Some(values) => values,
            None => return Err(ListerError::parse("at values: there is no such list")),
        };
        let (mut newest, mut created) = (newest, None);
        for repository in &values {
            if first {
                // The latest come first.
                newest = newest.max(repository.updated_on.as_deref().and_then(utc_date));
            }
            created = created.max(repository.created_on.as_deref().and_then(utc_date));
            cloud_origin(repository, page)?;
        }
        let next = self.next_url(next)?;
        if next.as_ref() == Some(at) {
            return Err(ListerError::parse("at next: it is the page itself"));
        }
        match workspace {
            None => {
                // The next page begins there.
                let after = next.as_ref().and_then(|url| query_param(url, "after"));
                if let Some(created) = after.as_deref().and_then(utc_date).or(created) {
                    page.mark(&BitbucketState {
                        last_repo_cdate: Some(created),
                        ..BitbucketState::default()
                    });
                }
            }
            // The latest come first: only at the end is all of it known.
            Some(name) if next.is_none() && wanted != BitbucketPage::Alone => {
                if let Some(newest) = newest.filter(|_| self.workspaces().any(|given| given == name)) {
                    let workspaces = BTreeMap::from([(name.to_owned(), newest)]);
                    page.mark(&BitbucketState { workspaces, ..BitbucketState::default() });
                }
            }
            Some(_) => {}
        }
        if let Some(url) = next.filter(|_| wanted != BitbucketPage::Alone) {
            let workspace = workspace.map(str::to_owned);
            let newest = newest.filter(|_| workspace.is_some());
            page.next(BitbucketCursor::Repositories {
                url,
                workspace,
                newest,
                wanted: BitbucketPage::Whole,
                first: false,
            });
        }
        Ok(())
    }

    fn server_page(
        start: u64,
        response: &Response,
        page: &mut Page<BitbucketCursor>,
    ) -> Result<(), ListerError> {
        let answer: ServerAnswer = response.json()?;
        for repository in &answer.values {
            server_origin(repository, page)?;
        }
        match answer.next_page_start {
            _ if answer.is_last_page == Some(true) => {}
            Some(next) if next > start => page.next(BitbucketCursor::Server { start: next }),
            Some(next) => {
                return Err(ListerError::parse(format!(
                    "at nextPageStart: {next}, and this page begins at {start}"
                )));
            }
            None => {}
        }
        Ok(())
    }
}

impl Lister for Bitbucket {
    type Cursor = BitbucketCursor;

    fn name(&self) -> &'static str {
        "bitbucket"
    }

    fn instance(&self) -> &str {
        self.instance.key()
    }

    fn start(&self, _: &RunInfo) -> Vec<BitbucketCursor> {
        if !self.cloud {
            return vec![BitbucketCursor::Server { start: 0 }];
        }
        let given: Vec<BitbucketCursor> = self.workspaces().map(|name| self.workspace(name, None)).collect();
        if given.is_empty() { vec![self.everything(None)] } else { given }
    }

    fn request(&self, at: &BitbucketCursor) -> Result<Request, ListerError> {
        let url = match at {
            BitbucketCursor::Workspaces { url } => url.clone(),
            BitbucketCursor::Repositories { url, wanted, .. } => {
                let mut url = url.clone();
                url.query_pairs_mut()
                    .append_pair("fields", if *wanted == BitbucketPage::Next { "next" } else { FIELDS });
                url
            }
            BitbucketCursor::Server { start } => {
                let project = self.instance.scope().map(Scope::name);
                let path = ["rest", "api", "1.0"].into_iter();
                let path: Vec<&str> = match project {
                    Some(key) => path.chain(["projects", key, "repos"]).collect(),
                    None => path.chain(["repos"]).collect(),
                };
                let mut url = under(&self.base, &path);
                url.query_pairs_mut()
                    .append_pair("limit", &self.page_size.to_string())
                    .append_pair("start", &start.to_string());
                url
            }
        };
        let needs = match at {
            BitbucketCursor::Workspaces { .. } => "an API token with the scope read:workspace:bitbucket",
            BitbucketCursor::Repositories { .. } => "an API token with the scope read:repository:bitbucket",
            BitbucketCursor::Server { .. } => {
                "user and password, or an HTTP access token with repository read"
            }
        };
        let request = Request::get(url).with_header("accept", "application/json");
        Ok(request.with_auth(Auth::Basic).needing(needs).configured())
    }

    fn page(
        &self,
        at: &BitbucketCursor,
        response: Response,
        page: &mut Page<BitbucketCursor>,
    ) -> Result<(), ListerError> {
        match at {
            BitbucketCursor::Workspaces { .. } => self.found(&response, page),
            BitbucketCursor::Repositories { url, workspace, newest, wanted, first } => {
                self.repositories(url, (workspace.as_deref(), *newest, *wanted, *first), &response, page)
            }
            BitbucketCursor::Server { start } => Self::server_page(*start, &response, page),
        }
    }

    fn recover(&self, at: &BitbucketCursor, failure: &Failure) -> Recovery<BitbucketCursor> {
        match at {
            BitbucketCursor::Repositories { workspace: None, first: true, .. } if failure.is_absent() => {
                let mut url = under(&self.base, &["2.0", "user", "workspaces"]);
                url.query_pairs_mut().append_pair("pagelen", &self.page_size.to_string());
                Recovery::replaced(vec![BitbucketCursor::Workspaces { url }])
            }
            BitbucketCursor::Workspaces { .. } => Recovery::gap().because(
                "the list of everything is gone, and that of a user's workspaces needs a credential: \
                 workspace= names those to list",
            ),
            BitbucketCursor::Repositories { workspace: None, .. } if failure.is_absent() => Recovery::gap().because(
                "the list of everything is gone: a full listing lists the user's workspaces, workspace= those it names",
            ),
            BitbucketCursor::Repositories { url, workspace: Some(name), wanted: BitbucketPage::Whole, .. }
                if failure.status().is_some_and(|status| status.is_server_error()) =>
            {
                // Without its latest update known, or with a page missing, the state stays as it is.
                let half = |wanted| BitbucketCursor::Repositories {
                    url: url.clone(),
                    workspace: Some(name.clone()),
                    newest: None,
                    wanted,
                    first: false,
                };
                Recovery::replaced(vec![half(BitbucketPage::Alone), half(BitbucketPage::Next)])
            }
            _ => Recovery::gap(),
        }
    }

    fn coverage(&self, mode: Mode) -> Coverage {
        match mode {
            Mode::Full => Coverage::All,
            // Asked for by the last update.
            Mode::Incremental if self.workspaces().next().is_some() => Coverage::Changed,
            _ => Coverage::New,
        }
    }
}

impl Incremental for Bitbucket {
    type State = BitbucketState;

    fn resume(&self, state: &BitbucketState, run: &RunInfo) -> Vec<BitbucketCursor> {
        if !self.cloud {
            return self.start(run);
        }
        let since = |name: &str| state.workspaces.get(name).copied();
        let given: Vec<BitbucketCursor> =
            self.workspaces().map(|name| self.workspace(name, since(name))).collect();
        if given.is_empty() { vec![self.everything(state.last_repo_cdate)] } else { given }
    }

    fn join(&self, mut ours: BitbucketState, stored: BitbucketState) -> BitbucketState {
        ours.last_repo_cdate = ours.last_repo_cdate.max(stored.last_repo_cdate);
        for (name, at) in stored.workspaces {
            let known = ours.workspaces.entry(name).or_insert(at);
            *known = at.max(*known);
        }
        ours
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional(
        "url",
        ParameterKind::Url,
        "a Bitbucket Server or Data Center; Bitbucket Cloud without it",
    ),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
    Parameter::with_default(
        "page_size",
        ParameterKind::Integer,
        "1000",
        "repositories a page; Cloud gives 100 at most",
    ),
    Parameter::with_default(
        "incremental",
        ParameterKind::Boolean,
        "true",
        "go on where the last listing of Cloud was",
    ),
    Parameter::optional(
        WORKSPACE,
        ParameterKind::Text,
        "Cloud: list only these workspaces, with commas between",
    ),
    Parameter::optional(PROJECT, ParameterKind::Text, "Server: list only the project of this key"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("bitbucket", "Bitbucket Cloud, Bitbucket Server and Data Center", build)
        .visiting(&["git", "hg"])
        .telling(&[Fact::Fork, Fact::Archived])
        .incremental()
        .with_parameters(PARAMETERS)
        .with_positions(&["after", "page", "start"])
        .with_default_base(CLOUD)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let cloud_host = |host: Option<&str>| matches!(host, Some("bitbucket.org" | "api.bitbucket.org"));
    let cloud = match (arguments.url("url"), arguments.text("instance")) {
        (Some(url), _) => cloud_host(url.host_str()),
        (None, instance) => matches!(instance, None | Some("" | "bitbucket" | "bitbucket.org")),
    };
    let mut bitbucket = if cloud {
        Bitbucket::cloud()?
    } else {
        let (url, instance) = base_url(arguments)?;
        Bitbucket::server(url, instance)
    };
    if let Some(size) = arguments.integer("page_size") {
        bitbucket = bitbucket.with_page_size(size);
    }
    let (ours, other) = if cloud { (WORKSPACE, PROJECT) } else { (PROJECT, WORKSPACE) };
    if arguments.text(other).is_some() {
        let of = if cloud { "is for a Bitbucket Server" } else { "is for Bitbucket Cloud" };
        return Err(arguments.wrong(other, of));
    }
    if let Some(part) = arguments.text(ours) {
        let named = part.split(',').any(|name| !name.trim().is_empty());
        if !named || part.contains(|c: char| c.is_control() || c == '/') {
            return Err(arguments.wrong(ours, "must be a name"));
        }
        bitbucket = bitbucket.with_part(part);
    }
    if cloud && arguments.boolean("incremental") {
        Ok(Arc::new(Source::incremental(bitbucket)))
    } else {
        Ok(Arc::new(Source::stateless(bitbucket)))
    }
}
