//! Launchpad: every public Git repository and Bazaar branch, the least lately changed first.
//!
//! # How it lists
//!
//! Two chains, one for each kind, by the REST API's own operations, without its library:
//! `GET {api}/devel/git_repositories?ws.op=getRepositories&order_by=most neglected first` and
//! `GET {api}/devel/branches?ws.op=getBranches&order_by=most neglected first`. While a page has a `next_collection_link`,
//! the next one is asked for by `modified_since_date`, the date of the last entry: pages counted from the front would
//! lose what moves up when something else changes. The link itself is followed where a whole page has one date.
//!
//! - **Credentials**: none; only what is public is listed. **Limits**: none known; a page holds 75.
//! - **Order**: by the date of the last change, oldest first. What changes while the pages are read comes again at the end;
//!   the last entry of a page is on the next one too.
//! - **State**: the latest date of each kind, by the names `git_date_last_modified` and `bzr_date_last_modified`. The
//!   next run asks with `modified_since_date` for what changed then or later.
//! - **Cost**: a request for every 75 repositories or branches; an incremental run two at least.
//! - **Origins**: `git_https_url`, of type `git`; `web_link` of a branch, of type `bzr`; with `date_last_modified`. What
//!   Launchpad imports from elsewhere is a mirror.
//!
//! # What it cannot see
//!
//! What is private; branches that are only pointed to (*remote*), which cannot be had from Launchpad, and
//! are skipped and counted, as is what has no address that begins with `https`; forks; an id that outlives a rename; in an
//! incremental run, what was deleted.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/launchpad.rs` that fails without it:
//!
//! - asks for both kinds, oldest first: `launchpad_asks_for_both_kinds_oldest_first`
//! - asks for what changed since its state, of each kind: `launchpad_asks_for_what_changed_since`
//! - reads the state of before, dates with an offset and null among it: `launchpad_reads_a_stored_state`
//! - goes on at the date of the last entry: `launchpad_goes_on_at_the_last_date`
//! - goes on where a page of one date says, on its own host: `launchpad_follows_the_next_link`
//! - reads repositories and branches: `launchpad_reads_repositories_and_branches`
//! - what has no address, or is elsewhere only, is skipped by name: `launchpad_what_cannot_be_had_is_counted`
//! - a missing date is no state, and states join to the later dates:
//!   `launchpad_a_missing_date_moves_nothing`, `launchpad_joins_to_the_later_dates`
//! - no entry is no error, and what is no collection is one: `launchpad_an_empty_collection_is_no_error`,
//!   `launchpad_a_broken_body_is_an_error_with_its_place`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{on_the_same_host, under};
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, RunInfo, Source,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const SITE: &str = "https://launchpad.net/";

/// Lists a Launchpad. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Launchpad;
/// use lamplighter::model::Timestamp;
///
/// let launchpad = Launchpad::new(&"https://launchpad.net/".parse()?, "launchpad");
/// let start = launchpad.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// let request = launchpad.request(&start[0])?;
/// assert!(request.url.as_str().starts_with("https://api.launchpad.net/devel/git_repositories?ws.op=getRepositories"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Launchpad {
    api: Url,
    instance: String,
}

/// A kind of code that Launchpad hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LaunchpadKind {
    /// Git repositories.
    Git,
    /// Bazaar branches.
    Bzr,
}

/// Where a listing of a Launchpad is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LaunchpadCursor {
    /// At what changed at a time or later.
    Since {
        /// The kind.
        kind: LaunchpadKind,
        /// That time; everything where absent.
        since: Option<Timestamp>,
    },
    /// At a page that the one before named.
    Next {
        /// The kind.
        kind: LaunchpadKind,
        /// The one date of the page before.
        since: Option<Timestamp>,
        /// The page.
        url: Url,
    },
}

/// What is remembered of a Launchpad: the latest date of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LaunchpadState {
    /// The last change of a Git repository that was listed.
    #[serde(default)]
    pub git_date_last_modified: Option<Timestamp>,
    /// The last change of a Bazaar branch that was listed.
    #[serde(default)]
    pub bzr_date_last_modified: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Collection {
    entries: Vec<Item>,
    next_collection_link: Option<String>,
}

/// A repository or a branch.
#[derive(Deserialize)]
struct Item {
    unique_name: Option<String>,
    git_https_url: Option<String>,
    web_link: Option<String>,
    date_last_modified: Option<String>,
    /// Of a repository.
    repository_type: Option<String>,
    /// Of a branch.
    branch_type: Option<String>,
}

impl LaunchpadKind {
    fn cursor(self, since: Option<Timestamp>) -> LaunchpadCursor {
        LaunchpadCursor::Since { kind: self, since }
    }

    fn state(self, latest: Option<Timestamp>) -> LaunchpadState {
        match self {
            Self::Git => LaunchpadState { git_date_last_modified: latest, ..LaunchpadState::default() },
            Self::Bzr => LaunchpadState { bzr_date_last_modified: latest, ..LaunchpadState::default() },
        }
    }

    /// The address of an item of this kind, and how it comes to be there; or why it has none.
    fn address(self, item: &Item) -> Result<(&str, Option<&str>), String> {
        let (field, url, how) = match self {
            Self::Git => ("git_https_url", &item.git_https_url, &item.repository_type),
            Self::Bzr => ("web_link", &item.web_link, &item.branch_type),
        };
        let how = how.as_deref();
        if how == Some("Remote") {
            return Err("is elsewhere: Launchpad only points to it".to_owned());
        }
        match url.as_deref() {
            Some(url) if url.starts_with("https://") => Ok((url, how)),
            // What is hidden is given as `tag:launchpad.net:2008:redacted`.
            Some(url) => Err(format!("{field} is {url:?}")),
            None => Err(format!("has no {field}")),
        }
    }
}

impl Launchpad {
    /// The Launchpad whose site is at `site`; its API is at the host `api.` before it.
    pub fn new(site: &Url, instance: impl Into<String>) -> Self {
        let mut api = site.clone();
        let host = site.host_str().unwrap_or_default();
        if !host.starts_with("api.") {
            // A host that is an address cannot have another before it: then it is asked itself.
            let _ = api.set_host(Some(&format!("api.{host}")));
        }
        api.set_path("/");
        Self { api, instance: instance.into() }
    }
}

impl Lister for Launchpad {
    type Cursor = LaunchpadCursor;

    fn name(&self) -> &'static str {
        "launchpad"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<LaunchpadCursor> {
        vec![LaunchpadKind::Git.cursor(None), LaunchpadKind::Bzr.cursor(None)]
    }

    fn request(&self, at: &LaunchpadCursor) -> Result<Request, ListerError> {
        let url = match at {
            LaunchpadCursor::Since { kind, since } => {
                let (collection, operation) = match kind {
                    LaunchpadKind::Git => ("git_repositories", "getRepositories"),
                    LaunchpadKind::Bzr => ("branches", "getBranches"),
                };
                let mut url = under(&self.api, &["devel", collection]);
                url.query_pairs_mut()
                    .append_pair("ws.op", operation)
                    .append_pair("order_by", "most neglected first");
                if let Some(since) = since {
                    // As JSON: a text in quotes.
                    url.query_pairs_mut().append_pair("modified_since_date", &format!("\"{since}\""));
                }
                url
            }
            LaunchpadCursor::Next { url, .. } => url.clone(),
        };
        Ok(Request::get(url).with_header("accept", "application/json").configured())
    }

    fn page(
        &self,
        at: &LaunchpadCursor,
        response: Response,
        page: &mut Page<LaunchpadCursor>,
    ) -> Result<(), ListerError> {
        let (LaunchpadCursor::Since { kind, since } | LaunchpadCursor::Next { kind, since, .. }) = *at;
        let collection: Collection = response.json()?;
        let mut latest = None;
        for item in &collection.entries {
            let name = item.unique_name.as_deref().or(item.web_link.as_deref()).unwrap_or("without a name");
            let updated = match item.date_last_modified.as_deref().map(Timestamp::parse) {
                Some(Err(_)) => {
                    page.skip(format!("the date of {name}"), "is no date");
                    None
                }
                Some(Ok(date)) => Some(date),
                None => None,
            };
            latest = latest.max(updated);
            match kind.address(item) {
                Ok((url, how)) => {
                    let visit_type = match kind {
                        LaunchpadKind::Git => VisitType::git(),
                        LaunchpadKind::Bzr => VisitType::known("bzr"),
                    };
                    let mirror = how.map(|how| matches!(how, "Imported" | "Mirrored"));
                    page.origin(
                        NewOrigin::new(url, visit_type).with_last_update(updated).with_mirror(mirror),
                    )?;
                }
                Err(why) => page.skip(name, why),
            }
        }
        if latest.is_some() {
            page.mark(&kind.state(latest));
        }
        if let Some(next) = collection.next_collection_link {
            let url = response.url.join(&next).map_err(|e| {
                ListerError::parse(format!("at next_collection_link: {next:?}")).with_source(e)
            })?;
            let url = on_the_same_host(&self.api, url)?;
            // A page of one date brings it no further.
            page.next(match latest {
                Some(latest) if since.is_none_or(|since| latest > since) => kind.cursor(Some(latest)),
                _ => LaunchpadCursor::Next { kind, since, url },
            });
        }
        Ok(())
    }
}

impl Incremental for Launchpad {
    type State = LaunchpadState;

    fn resume(&self, state: &LaunchpadState, _: &RunInfo) -> Vec<LaunchpadCursor> {
        vec![
            LaunchpadKind::Git.cursor(state.git_date_last_modified),
            LaunchpadKind::Bzr.cursor(state.bzr_date_last_modified),
        ]
    }

    fn join(&self, ours: LaunchpadState, stored: LaunchpadState) -> LaunchpadState {
        LaunchpadState {
            git_date_last_modified: ours.git_date_last_modified.max(stored.git_date_last_modified),
            bzr_date_last_modified: ours.bzr_date_last_modified.max(stored.bzr_date_last_modified),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default(
        "url",
        ParameterKind::Url,
        SITE,
        "the site; its API is at the host api. before it",
    ),
    Parameter::with_default("instance", ParameterKind::Text, "launchpad", "a name for it"),
    Parameter::with_default(
        "incremental",
        ParameterKind::Boolean,
        "true",
        "ask only for what changed since the last listing",
    ),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("launchpad", "Launchpad", build)
        .visiting(&["git", "bzr"])
        .incremental()
        .telling(&[Fact::Mirror])
        .with_parameters(PARAMETERS)
        .with_positions(&["modified_since_date", "ws.start", "memo"])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let site = arguments.url("url").ok_or_else(|| arguments.missing("url= (the site)"))?;
    let instance = arguments.text("instance").unwrap_or("launchpad");
    let launchpad = Launchpad::new(&site, instance);
    if arguments.boolean("incremental") {
        Ok(Arc::new(Source::incremental(launchpad)))
    } else {
        Ok(Arc::new(Source::stateless(launchpad)))
    }
}
