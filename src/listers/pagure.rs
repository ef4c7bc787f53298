//! Pagure (pagure.io, src.fedoraproject.org): every public project, forks included.
//!
//! # How it lists
//!
//! `GET {base}/api/0/projects?per_page=N` answers `{"projects": […], "pagination": {"next": …}}`;
//! `next` is the absolute URL of the next page, or null at the end. Where the first page counts them
//! (`pagination.pages`), all are named at once, so that several can be asked for at a time; a page behind the
//! last one is empty. Each says which it is (`pagination.page`), so that a forge that gives the same
//! page again is found out.
//!
//! - **Credentials**: none.
//! - **Limits**: none known. More than 100 projects a page are refused with status 400.
//! - **Order**: by name, in pages counted from the front.
//! - **State**: none. Every run lists everything.
//! - **Cost**: a request for every 100 projects.
//! - **Origins**: `{base}/{fullname}`; the last update is `date_modified`, in seconds since the epoch (UTC).
//!
//! # What it cannot see
//!
//! A project that is deleted while the pages are read moves those behind it up, so that one may slip
//! from a page still to come to one already read. The next run lists it again.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/pagure.rs` that fails without it:
//!
//! - asks for pages of the size that is set, and for no larger ones than the forge gives:
//!   `pagure_asks_for_pages_of_the_size_set`, `pagure_arguments_are_checked`
//! - goes on where `next` says, until it is null: `pagure_follows_next_until_it_is_null`
//! - names all pages that the first one counts, and goes on behind them where there are more:
//!   `pagure_asks_ahead_where_the_pages_are_counted`
//! - another page than was asked for is an error: `pagure_another_page_than_asked_for_is_an_error`
//! - keeps its own scheme, for forges behind a proxy: `pagure_keeps_its_scheme`
//! - a next page at another host is an error: `pagure_a_next_page_elsewhere_is_an_error`
//! - dates are UTC, whole or with a fraction, in texts or numbers: `pagure_dates_are_utc`
//! - a date that cannot be read is counted, and costs neither the project nor the page:
//!   `pagure_a_broken_date_costs_only_itself`
//! - forks name the origin they come from: `pagure_forks_name_their_parent`
//! - the id of a fork is never that of what it is a fork of: `pagure_a_fork_has_an_id_of_its_own`
//! - a page without projects, or that does not say how it goes on, is an error and never an empty
//!   listing: `pagure_a_broken_body_is_an_error_with_its_place`

use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::{location, on_the_same_host, under};
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    RunInfo, Source, base_url, query_param, seconds_date,
};
use crate::model::{NewOrigin, VisitType};
use crate::transport::{Request, Response};

/// More are refused upstream.
const LARGEST_PAGE: u64 = 100;

/// So many pages are named at once; where there are more, the last of them names the next.
const MOST_AHEAD: u64 = 10_000;

/// Lists a Pagure. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Pagure;
/// use lamplighter::model::Timestamp;
///
/// let pagure = Pagure::new(&"https://pagure.io".parse()?);
/// let start = pagure.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(start[0].as_str(), "https://pagure.io/api/0/projects?per_page=100");
/// # Ok::<(), url::ParseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Pagure {
    /// Without a slash at its end.
    base: String,
    projects: Url,
    instance: String,
    per_page: u64,
}

#[derive(Deserialize)]
struct Answer {
    projects: Vec<Project>,
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    // Null ends the listing; absent is an answer of some other kind.
    #[serde(deserialize_with = "Option::deserialize")]
    next: Option<String>,
    page: Option<u64>,
    pages: Option<u64>,
}

#[derive(Deserialize)]
struct Project {
    id: Option<u64>,
    fullname: String,
    date_modified: Option<Seconds>,
    parent: Option<Parent>,
}

#[derive(Deserialize)]
struct Parent {
    fullname: Option<String>,
    full_url: Option<String>,
}

/// Seconds since the epoch: a text, in some versions a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Text(String),
    Number(serde_json::Number),
}

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl Pagure {
    /// The Pagure at `base`; the instance is named after its host.
    #[must_use]
    pub fn new(base: &Url) -> Self {
        let mut base = base.clone();
        base.set_query(None);
        base.set_fragment(None);
        let projects = under(&base, &["api", "0", "projects"]);
        let instance = location(&base);
        let base = base.as_str().trim_end_matches('/').to_owned();
        Self { base, projects, instance, per_page: LARGEST_PAGE }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Asks for pages of this size; at most 100, which is what a forge gives.
    #[must_use]
    pub fn with_per_page(mut self, per_page: u64) -> Self {
        self.per_page = per_page.clamp(1, LARGEST_PAGE);
        self
    }

    fn origin(&self, fullname: &str) -> String {
        format!("{}/{fullname}", self.base)
    }

    /// Names the pages that follow: from the first one all that the forge counts, else the next.
    fn go_on(&self, at: &Url, told: &Pagination, page: &mut Page<Url>) -> Result<(), ListerError> {
        let asked = query_param(at, "page").map_or(Some(1), |n| n.parse().ok());
        if let (Some(asked), Some(got)) = (asked, told.page)
            && asked != got
        {
            return Err(ListerError::parse(format!(
                "at pagination.page: page {got}, and {asked} was asked for"
            )));
        }
        let Some(next) = &told.next else { return Ok(()) };
        let next = at
            .join(next)
            .map_err(|e| ListerError::parse(format!("at pagination.next: {next:?}")).with_source(e))?;
        let next = on_the_same_host(&self.projects, next)?;
        let pages = told.pages.filter(|_| told.page.is_some());
        match (asked, pages) {
            (Some(1), Some(pages)) if pages > 1 => {
                for ahead in ahead(&next, pages.min(MOST_AHEAD)) {
                    page.follow(ahead);
                }
            }
            // The first page named those behind it; one that came since is new.
            (Some(asked), Some(pages)) if asked < pages => page.follow(next),
            _ => page.next(next),
        }
        Ok(())
    }
}

/// The second page, and those behind it up to the last: as it is written, with other numbers.
fn ahead(second: &Url, last: u64) -> Vec<Url> {
    let query = second.query().unwrap_or_default();
    let numbered = |n: u64| {
        let number = format!("page={n}");
        let pairs = query.split('&').map(|pair| if pair == "page=2" { &number } else { pair });
        let mut url = second.clone();
        url.set_query(Some(&pairs.collect::<Vec<_>>().join("&")));
        url
    };
    (2..=last).map(numbered).collect()
}

impl Lister for Pagure {
    type Cursor = Url;

    fn name(&self) -> &'static str {
        "pagure"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<Url> {
        let mut url = self.projects.clone();
        url.query_pairs_mut().append_pair("per_page", &self.per_page.to_string());
        vec![url]
    }

    fn request(&self, at: &Url) -> Result<Request, ListerError> {
        Ok(Request::get(at.clone()).with_header("accept", "application/json"))
    }

    fn page(&self, at: &Url, response: Response, page: &mut Page<Url>) -> Result<(), ListerError> {
        let answer: Answer = response.json()?;
        for project in answer.projects {
            // A fork whose parent was deleted is still one by its name.
            let fork = project.parent.is_some() || project.fullname.starts_with("forks/");
            let mut origin = NewOrigin::new(self.origin(&project.fullname), VisitType::git()).with_fork(fork);
            if let Some(seconds) = project.date_modified {
                origin.last_update = seconds_date(&seconds.to_string());
                if origin.last_update.is_none() {
                    page.skip(
                        format!("the date of {}", project.fullname),
                        format!("{seconds} is no number of seconds"),
                    );
                }
            }
            // By its name where there is one: that is the URL under which the parent is listed.
            let parent = project.parent.and_then(|p| p.fullname.map(|n| self.origin(&n)).or(p.full_url));
            if let Some(parent) = parent {
                origin = origin.with_forked_from(parent);
            }
            if let Some(id) = project.id {
                // Answers were seen in which a fork has the id of what it is a fork of.
                origin =
                    if fork { origin.with_forge_id(format!("fork:{id}")) } else { origin.with_forge_id(id) };
            }
            page.origin(origin)?;
        }
        self.go_on(at, &answer.pagination, page)
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the forge, as https://pagure.io"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
    Parameter::with_default("per_page", ParameterKind::Integer, "100", "projects a page, 1 to 100"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("pagure", "Pagure", build)
        .telling(&[Fact::Fork])
        .with_parameters(PARAMETERS)
        .with_positions(&["page"])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    let per_page = arguments.integer("per_page").unwrap_or(LARGEST_PAGE);
    if !(1..=LARGEST_PAGE).contains(&per_page) {
        return Err(arguments.wrong("per_page", "must be 1 to 100: the forge refuses more"));
    }
    let lister = Pagure::new(&url).with_instance(instance).with_per_page(per_page);
    Ok(Arc::new(Source::stateless(lister)))
}
