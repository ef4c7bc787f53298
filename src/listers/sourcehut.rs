//! `SourceHut`: the repositories of a user of git.sr.ht or hg.sr.ht, or of the token's own user.
//!
//! # How it lists
//!
//! `POST {url}/query`, in GraphQL: `user(username) { repositories(cursor) }` with the cursor that the page before gave, until it is
//! null. Without `user`, the repositories that the token's user has access to.
//!
//! - **Credentials**: needed: a personal access token of the forge (meta.sr.ht/oauth2) that may read `REPOSITORIES` and `PROFILE`,
//!   sent as a bearer token.
//! - **Limits**: queries are weighed by what they may return; a page holds 25 as the forge has it.
//! - **Order**: as the forge gives them, by id, the latest first. **State**: none.
//! - **Scopes**: `user`, under a key of its own (`HOST/user=NAME`).
//! - **Cost**: a request for every 25 repositories.
//! - **Origins**: `{url}/{owner}/{name}`, of type `git`, or `hg` on a host that begins so; with `updated`, the forge's id, and
//!   whether there is a HEAD. What is private is not enabled.
//!
//! # What it cannot see
//!
//! Repositories of users that nobody names: the API has no list of everything; forks, archived ones.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/sourcehut.rs` that fails without it:
//!
//! - asks for a user's repositories, or one's own, with a token: `sourcehut_asks_for_repositories`
//! - goes on at the cursor until it is null: `sourcehut_goes_on_at_the_cursor`
//! - reads repositories with their facts: `sourcehut_reads_repositories`
//! - is made of its arguments: `sourcehut_is_made_of_its_arguments`
//! - a refusal in the body is told: `sourcehut_a_refusal_is_told`
//! - a user that is not there is an error: `sourcehut_a_user_that_is_not_there_is_an_error`
//! - no repository is no error, and a broken body is one: `sourcehut_no_repository_is_no_error`,
//!   `sourcehut_a_broken_body_is_an_error_with_its_place`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::scope::{Instance, Scope};
use super::under;
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    RunInfo, Source, base_url,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Auth, Request, Response};

const USER: &str = "user";

/// What of a repository is asked for.
const FIELDS: &str = "cursor results { id name updated visibility owner { canonicalName } HEAD { name } }";

/// Lists repositories of a `SourceHut`. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::SourceHut;
/// use lamplighter::model::Timestamp;
///
/// let hut = SourceHut::new("https://git.sr.ht/".parse()?, "git.sr.ht").with_user("~ada");
/// let start = hut.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(hut.request(&start[0])?.url.as_str(), "https://git.sr.ht/query");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SourceHut {
    base: Url,
    instance: Instance,
}

/// Where a listing of a `SourceHut` is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceHutCursor {
    /// What the page before gave; none at the first one.
    pub cursor: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    errors: Option<Vec<Refusal>>,
}

#[derive(Deserialize)]
struct Refusal {
    message: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    user: Option<User>,
    repositories: Option<Repositories>,
}

#[derive(Deserialize)]
struct User {
    repositories: Repositories,
}

#[derive(Deserialize)]
struct Repositories {
    cursor: Option<String>,
    results: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    id: u64,
    name: String,
    updated: Option<Timestamp>,
    visibility: Option<String>,
    owner: Owner,
    /// Null where nothing was pushed; absent where it was not asked for.
    #[serde(rename = "HEAD", default)]
    head: Head,
}

#[derive(Default, Deserialize)]
#[serde(from = "Option<serde::de::IgnoredAny>")]
enum Head {
    #[default]
    Unknown,
    None,
    Some,
}

impl From<Option<serde::de::IgnoredAny>> for Head {
    fn from(head: Option<serde::de::IgnoredAny>) -> Self {
        head.map_or(Self::None, |_| Self::Some)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    canonical_name: String,
}

impl SourceHut {
    /// The service at `base`: `https://git.sr.ht/`, or of another instance.
    pub fn new(base: Url, instance: impl Into<String>) -> Self {
        Self { base, instance: Instance::new(instance) }
    }

    /// Lists the repositories of a user, under a key of its own.
    #[must_use]
    pub fn with_user(mut self, name: &str) -> Self {
        self.instance.narrow(Scope::new(USER, name.trim_start_matches('~')));
        self
    }

    fn visit_type(&self) -> VisitType {
        if self.base.host_str().is_some_and(|host| host.starts_with("hg.")) {
            VisitType::known("hg")
        } else {
            VisitType::git()
        }
    }
}

impl Lister for SourceHut {
    type Cursor = SourceHutCursor;

    fn name(&self) -> &'static str {
        "sourcehut"
    }

    fn instance(&self) -> &str {
        self.instance.key()
    }

    fn start(&self, _: &RunInfo) -> Vec<SourceHutCursor> {
        vec![SourceHutCursor { cursor: None }]
    }

    fn request(&self, at: &SourceHutCursor) -> Result<Request, ListerError> {
        let body = match self.instance.scope() {
            Some(user) => json!({
                "query": format!(
                    "query($user: String!, $cursor: Cursor) {{ user(username: $user) {{ repositories(cursor: $cursor) {{ {FIELDS} }} }} }}"
                ),
                "variables": {"user": user.name(), "cursor": at.cursor},
            }),
            None => json!({
                "query": format!("query($cursor: Cursor) {{ repositories(cursor: $cursor) {{ {FIELDS} }} }}"),
                "variables": {"cursor": at.cursor},
            }),
        };
        Ok(Request::post_json(under(&self.base, &["query"]), &body)
            .with_header("accept", "application/json")
            .with_auth(Auth::bearer())
            .needing("a personal access token that may read REPOSITORIES and PROFILE (meta.sr.ht/oauth2)")
            .configured())
    }

    fn page(
        &self,
        _: &SourceHutCursor,
        response: Response,
        page: &mut Page<SourceHutCursor>,
    ) -> Result<(), ListerError> {
        let Answer { data, errors } = response.json()?;
        if let Some(refused) = errors.filter(|errors| !errors.is_empty()) {
            let said: Vec<String> = refused.into_iter().filter_map(|refusal| refusal.message).collect();
            return Err(ListerError::refused(said.join("; ")));
        }
        let data = data.ok_or_else(|| ListerError::parse("at data: there is none"))?;
        let found = match self.instance.scope() {
            Some(user) => data.user.map(|user| user.repositories).ok_or_else(|| {
                ListerError::parse(format!("at data.user: there is no user {:?}", user.name()))
            })?,
            None => {
                data.repositories.ok_or_else(|| ListerError::parse("at data.repositories: there are none"))?
            }
        };
        for repository in found.results {
            let url = under(&self.base, &[&repository.owner.canonical_name, &repository.name]);
            let empty = match repository.head {
                Head::Unknown => None,
                Head::None => Some(true),
                Head::Some => Some(false),
            };
            page.origin(
                NewOrigin::new(url, self.visit_type())
                    .with_last_update(repository.updated)
                    .with_forge_id(repository.id)
                    .with_empty(empty)
                    .with_enabled(repository.visibility.as_deref() != Some("PRIVATE")),
            )?;
        }
        if let Some(cursor) = found.cursor {
            page.next(SourceHutCursor { cursor: Some(cursor) });
        }
        Ok(())
    }
}

const BASE: &str = "https://git.sr.ht/";

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default(
        "url",
        ParameterKind::Url,
        BASE,
        "the service: git.sr.ht, hg.sr.ht or another instance's",
    ),
    Parameter::optional("instance", ParameterKind::Text, "a name for it beside url"),
    Parameter::optional(
        USER,
        ParameterKind::Text,
        "list the repositories of this user, not those of the token's",
    ),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("sourcehut", "SourceHut", build)
        .visiting(&["git", "hg"])
        .telling(&[Fact::Empty])
        .with_parameters(PARAMETERS)
        .with_positions(&[])
        .with_credential("a personal access token (meta.sr.ht/oauth2): the API answers nobody else")
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    let mut hut = SourceHut::new(url, instance);
    if let Some(scope) = Scope::of(arguments, &[USER])? {
        hut = hut.with_user(scope.name());
    }
    Ok(Arc::new(Source::stateless(hut)))
}
