//! Tuleap: the Git and Subversion repositories of every project that anybody, or the key's user, may see.
//!
//! # How it lists
//!
//! `GET {base}/api/projects/?limit=50&offset=K`, then for each project the services that its `resources` name:
//! `GET {base}/api/projects/ID/git` and `…/svn`, in pages of the same kind. The headers `X-PAGINATION-SIZE` and
//! `X-PAGINATION-LIMIT` say how many there are, and how many of them a page covers; a server that says nothing is
//! asked until a page is empty.
//!
//! - **Credentials**: none needed. An access key (from the user's preferences, scope REST) goes as
//!   `X-Auth-AccessKey`.
//! - **Limits**: none known; pages hold 50.
//! - **Order**: as the forge gives them, in pages counted from the front. **State**: none.
//! - **Cost**: a request for every 50 projects, and one or two for each project.
//! - **Origins**: Git: `{base}/plugins/git/` and the repository's path, with `last_update_date`; Subversion:
//!   `svn_url`, without a date. The repositories of a project that is not active are archived.
//!
//! # What it cannot see
//!
//! Projects and services that the user may not see, which are skipped and counted; forks. A project that is
//! deleted while the pages are read moves those behind it up, so that one may slip by; the next run lists it.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/tuleap.rs` that fails without it:
//!
//! - asks for pages, with a key where there is one: `tuleap_asks_for_pages_of_projects`
//! - keeps the path that it lies under: `tuleap_may_lie_under_a_path`
//! - asks each project for the services that it has: `tuleap_asks_for_the_services_of_a_project`
//! - goes on as the headers say, and without them until a page is empty:
//!   `tuleap_goes_on_as_the_headers_say`, `tuleap_goes_on_without_headers_until_a_page_is_empty`
//! - reads Git repositories, their dates and ids: `tuleap_reads_git_repositories`
//! - reads Subversion repositories: `tuleap_reads_subversion_repositories`
//! - what has no address is skipped by name, and a broken date costs only itself:
//!   `tuleap_odd_repositories_are_counted`
//! - a service that is gone or closed is skipped, one that is ill is a gap: `tuleap_a_closed_project_is_skipped`
//! - no project is no error, and what is no list is one: `tuleap_an_empty_forge_is_no_error`,
//!   `tuleap_a_broken_body_is_an_error_with_its_place`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::under;
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Failure, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source, base_url,
};
use crate::model::{NewOrigin, Timestamp, VisitType, check_origin_url};
use crate::transport::{Auth, Request, Response};

/// More are refused upstream.
const PER_PAGE: u64 = 50;

/// Lists a Tuleap. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Tuleap;
/// use lamplighter::model::Timestamp;
///
/// let tuleap = Tuleap::new("https://tuleap.example/".parse()?, "tuleap.example");
/// let start = tuleap.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(tuleap.request(&start[0])?.url.as_str(), "https://tuleap.example/api/projects/?limit=50");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tuleap {
    base: Url,
    instance: String,
}

/// Where a listing of a Tuleap is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TuleapCursor {
    /// At a page of projects.
    Projects {
        /// Projects before it.
        offset: u64,
    },
    /// At a page of a project's repositories.
    Repositories {
        /// The project's id.
        project: u64,
        /// Of this service.
        service: TuleapService,
        /// Whether the project is no longer active.
        archived: Option<bool>,
        /// Repositories before it.
        offset: u64,
    },
}

/// A service of a project that has repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TuleapService {
    /// Git.
    Git,
    /// Subversion.
    Svn,
}

impl TuleapService {
    const ALL: [Self; 2] = [Self::Git, Self::Svn];

    fn as_str(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Svn => "svn",
        }
    }
}

#[derive(Deserialize)]
struct Project {
    id: u64,
    status: Option<String>,
    resources: Option<Vec<Resource>>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Repositories {
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    id: u64,
    name: Option<String>,
    path: Option<String>,
    svn_url: Option<String>,
    last_update_date: Option<String>,
}

impl Project {
    /// The services to ask for. One that does not say is asked for Git, which it most likely has.
    fn services(&self) -> impl Iterator<Item = TuleapService> {
        TuleapService::ALL.into_iter().filter(|service| match &self.resources {
            Some(all) => all.iter().any(|r| r.kind.as_deref() == Some(service.as_str())),
            None => *service == TuleapService::Git,
        })
    }
}

impl Tuleap {
    /// The Tuleap at `base`, with the path that it lies under; that may name the API too.
    pub fn new(mut base: Url, instance: impl Into<String>) -> Self {
        let path = base.path().trim_end_matches('/');
        let path = path.strip_suffix("/api").unwrap_or(path).to_owned();
        base.set_path(&path);
        Self { base, instance: instance.into() }
    }

    /// The address of a repository; or why it has none.
    fn address(&self, service: TuleapService, repository: &Repository) -> Result<String, String> {
        let url = match service {
            TuleapService::Git => {
                let path = repository.path.as_deref().unwrap_or_default().trim_matches('/');
                if path.is_empty() {
                    return Err("has no path".to_owned());
                }
                let below = ["plugins", "git"].into_iter().chain(path.split('/')).collect::<Vec<_>>();
                under(&self.base, &below).into()
            }
            TuleapService::Svn => repository.svn_url.clone().ok_or("has no svn_url")?,
        };
        check_origin_url(&url).map(|()| url).map_err(|why| format!("cannot be visited: {why}"))
    }

    fn repository(
        &self,
        service: TuleapService,
        archived: Option<bool>,
        repository: &Repository,
        page: &mut Page<TuleapCursor>,
    ) -> Result<(), ListerError> {
        let label =
            || repository.name.clone().unwrap_or_else(|| format!("{} {}", service.as_str(), repository.id));
        let url = match self.address(service, repository) {
            Ok(url) => url,
            Err(why) => {
                page.skip(label(), why);
                return Ok(());
            }
        };
        let updated =
            repository.last_update_date.as_deref().filter(|date| !date.is_empty()).and_then(|date| {
                let read = Timestamp::parse(date).ok();
                if read.is_none() {
                    page.skip(format!("the date of {}", label()), format!("{date:?} is no date"));
                }
                read
            });
        page.origin(
            NewOrigin::new(url, VisitType::known(service.as_str()))
                .with_last_update(updated)
                .with_archived(archived)
                .with_forge_id(repository.id),
        )
    }
}

/// Where the next page begins, where there is one, after one that holds so many items.
fn next_offset(offset: u64, held: usize, response: &Response) -> Result<Option<u64>, ListerError> {
    let number = |name: &str| {
        let Some(value) = response.headers.get(name) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        let wrong =
            |e| ListerError::parse(format!("the header {name}: {text:?} is no number")).with_source(e);
        text.parse::<u64>().map(Some).map_err(wrong)
    };
    let size = number("x-pagination-size")?;
    // A page covers so many, also where some of them are not shown.
    let limit = number("x-pagination-limit")?.unwrap_or(PER_PAGE);
    let Some(size) = size else {
        return Ok((held > 0).then(|| offset.saturating_add(held as u64)));
    };
    let next = offset.saturating_add(limit);
    if next == offset && next < size {
        return Err(ListerError::parse(format!("the header x-pagination-limit is 0, and {size} are there")));
    }
    Ok((next < size).then_some(next))
}

impl Lister for Tuleap {
    type Cursor = TuleapCursor;

    fn name(&self) -> &'static str {
        "tuleap"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<TuleapCursor> {
        vec![TuleapCursor::Projects { offset: 0 }]
    }

    fn request(&self, at: &TuleapCursor) -> Result<Request, ListerError> {
        let (mut url, offset) = match at {
            TuleapCursor::Projects { offset } => (under(&self.base, &["api", "projects", ""]), offset),
            TuleapCursor::Repositories { project, service, offset, .. } => {
                let project = project.to_string();
                (under(&self.base, &["api", "projects", &project, service.as_str()]), offset)
            }
        };
        url.query_pairs_mut().append_pair("limit", &PER_PAGE.to_string());
        if *offset > 0 {
            url.query_pairs_mut().append_pair("offset", &offset.to_string());
        }
        Ok(Request::get(url)
            .with_header("accept", "application/json")
            .with_auth(Auth::Header("x-auth-accesskey"))
            .needing("an access key with the scope REST (user's preferences, Keys & tokens)")
            .configured())
    }

    fn page(
        &self,
        at: &TuleapCursor,
        response: Response,
        page: &mut Page<TuleapCursor>,
    ) -> Result<(), ListerError> {
        match *at {
            TuleapCursor::Projects { offset } => {
                let projects: Vec<Project> = response.json()?;
                for project in &projects {
                    let archived = project.status.as_deref().map(|status| status != "active");
                    for service in project.services() {
                        let project = project.id;
                        page.follow(TuleapCursor::Repositories { project, service, archived, offset: 0 });
                    }
                }
                if let Some(offset) = next_offset(offset, projects.len(), &response)? {
                    page.next(TuleapCursor::Projects { offset });
                }
            }
            TuleapCursor::Repositories { project, service, archived, offset } => {
                let Repositories { repositories } = response.json()?;
                for repository in &repositories {
                    self.repository(service, archived, repository, page)?;
                }
                if let Some(offset) = next_offset(offset, repositories.len(), &response)? {
                    page.next(TuleapCursor::Repositories { project, service, archived, offset });
                }
            }
        }
        Ok(())
    }

    fn recover(&self, at: &TuleapCursor, failure: &Failure) -> Recovery<TuleapCursor> {
        let TuleapCursor::Repositories { project, service, .. } = at else { return Recovery::gap() };
        let service = service.as_str();
        if failure.is_not_there() {
            Recovery::skip(format!("project {project} has no {service}, or is gone"))
        } else if failure.status().is_some_and(|s| s.as_u16() == 403) {
            Recovery::skip(format!("the {service} of project {project} is closed to this user"))
        } else {
            Recovery::gap()
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the forge, as https://tuleap.net/"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("tuleap", "Tuleap", build)
        .visiting(&["git", "svn"])
        .telling(&[Fact::Archived])
        .with_parameters(PARAMETERS)
        .with_positions(&["offset"])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    Ok(Arc::new(Source::stateless(Tuleap::new(url, instance))))
}
