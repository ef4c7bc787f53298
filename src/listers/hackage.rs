//! Hackage, the registry of Haskell: every package, deprecated ones too.
//!
//! # How it lists
//!
//! `POST {url}packages/search` with `{"page": 0, "sortColumn": "default", "sortDirection": "ascending", "searchQuery": "(deprecated:any)"}`
//! answers `{"numberOfResults", "pageContents"}`. Pages are asked for until as many packages have come as
//! the answers say there are, or none come: no size of a page is assumed. A later run adds `(lastUpload >= {day})`.
//!
//! - **Authentication**: none. The server takes a user agent other than of a plain client for a forged form
//!   and answers 403, so that requests say `curl/8 (lamplighter)`.
//! - **Limits**: none documented.
//! - **Order**: by relevance. What is uploaded meanwhile may move others between pages; the next run sees it,
//!   because it asks from the day on which this one began.
//! - **Origins**: `{url}package/{name}`. A package with the tag `deprecated` counts as archived.
//! - **State**: `{"last_listing_date": date}`, when the last complete chain of pages began, as Software
//!   Heritage stores it. Its day is asked for once more.
//! - **Cost**: one request for each 50 packages, about 350 for all; one or two a day.
//!
//! # What it cannot see
//!
//! - Versions, and deletions in a later run; a full run retires what is no longer found.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/hackage.rs` that fails without it:
//!
//! - asks for everything, or from the day of the state on: `hackage_asks_by_search`
//! - packages come with the date of their last upload: `hackage_lists_packages`
//! - goes on until all have come, whatever a page holds: `hackage_goes_on_until_all_have_come`
//! - the date moves at the end only, to the beginning of the run: `hackage_the_date_moves_at_the_end`
//! - odd dates and names are counted: `hackage_odd_packages_are_counted`
//! - a broken body is an error with its place: `hackage_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `hackage_takes_its_url`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::under;
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, RunInfo, Source,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://hackage.haskell.org/";

/// Lists Hackage. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Hackage;
/// use lamplighter::model::Timestamp;
///
/// let hackage = Hackage::new(&"https://hackage.haskell.org/".parse()?);
/// let start = hackage.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(hackage.request(&start[0])?.url.path(), "/packages/search");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hackage {
    base: Url,
    search: Url,
    visit_type: VisitType,
    instance: String,
}

/// Where a listing of Hackage is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HackageCursor {
    /// Only packages that were uploaded on this day or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The page, the first being 0.
    pub page: u64,
    /// How many packages the pages before it had.
    pub seen: u64,
    /// When the run began.
    pub started: Timestamp,
}

/// What is remembered of Hackage between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HackageState {
    /// When the last listing that came to its end began.
    #[serde(default)]
    pub last_listing_date: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    number_of_results: u64,
    page_contents: Vec<Package>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    name: Named,
    last_upload: Option<String>,
    #[serde(default)]
    tags: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    display: String,
}

impl Hackage {
    /// The registry at `url`. The instance is named `hackage`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            base: under(url, &[]),
            search: under(url, &["packages", "search"]),
            visit_type: VisitType::known("hackage"),
            instance: "hackage".to_owned(),
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}

impl Lister for Hackage {
    type Cursor = HackageCursor;

    fn name(&self) -> &'static str {
        "hackage"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, run: &RunInfo) -> Vec<HackageCursor> {
        vec![HackageCursor { since: None, page: 0, seen: 0, started: run.started }]
    }

    fn request(&self, at: &HackageCursor) -> Result<Request, ListerError> {
        let since = at.since.as_ref().map(|day| format!("(lastUpload >= {day})")).unwrap_or_default();
        let body = json!({
            "page": at.page,
            "sortColumn": "default",
            "sortDirection": "ascending",
            "searchQuery": format!("(deprecated:any){since}"),
        });
        Ok(Request::post_json(self.search.clone(), &body)
            .configured()
            .with_header("accept", "application/json")
            .with_header("user-agent", "curl/8 (lamplighter)"))
    }

    fn page(
        &self,
        at: &HackageCursor,
        response: Response,
        page: &mut Page<HackageCursor>,
    ) -> Result<(), ListerError> {
        let answer: Answer = response.json()?;
        for package in &answer.page_contents {
            let name = package.name.display.as_str();
            // As the registry names packages: letters and digits with hyphens between.
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                page.skip(
                    format!("{:?}", name.chars().take(80).collect::<String>()),
                    "that can be no package's name",
                );
                continue;
            }
            let updated = package.last_upload.as_deref().and_then(|text| Timestamp::parse(text).ok());
            if updated.is_none() {
                page.skip(format!("the date of {name}"), format!("{:?} is no date", package.last_upload));
            }
            let url = under(&self.base, &["package", name]);
            let origin =
                NewOrigin::new(url, self.visit_type.clone()).with_last_update(updated).with_archived(
                    package.tags.as_ref().map(|tags| tags.iter().any(|t| t.display == "deprecated")),
                );
            page.origin(origin)?;
        }
        let seen = at.seen.saturating_add(answer.page_contents.len() as u64);
        if answer.page_contents.is_empty() || seen >= answer.number_of_results {
            page.mark(&HackageState { last_listing_date: Some(at.started) });
        } else {
            page.next(HackageCursor { page: at.page.saturating_add(1), seen, ..at.clone() });
        }
        Ok(())
    }
}

impl Incremental for Hackage {
    type State = HackageState;

    fn resume(&self, state: &HackageState, run: &RunInfo) -> Vec<HackageCursor> {
        let since = state.last_listing_date.map(|date| date.to_datetime().format("%Y-%m-%d").to_string());
        vec![HackageCursor { since, page: 0, seen: 0, started: run.started }]
    }

    fn join(&self, ours: HackageState, stored: HackageState) -> HackageState {
        ours.max(stored)
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the registry"),
    Parameter::with_default("instance", ParameterKind::Text, "hackage", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("hackage", "Hackage (Haskell)", build)
        .telling(&[Fact::Archived])
        .visiting(&["hackage"])
        .incremental()
        .with_parameters(PARAMETERS)
        .with_positions(&["page"])
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Hackage::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::incremental(lister)))
}
