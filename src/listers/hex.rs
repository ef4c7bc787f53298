//! Hex, the registry of Erlang, Elixir and Gleam: every package.
//!
//! # How it lists
//!
//! `GET {url}packages/?search=updated_after:{date}`: the packages that changed at that date or later, in the
//! order of their dates. The next page is asked by the date of the last one; where a whole page has one
//! date, by `page=2` and so on at the same. A page shorter than what was asked for (`per_page`) ends the listing.
//!
//! - **Authentication**: none needed. A key of hex.pm, as a credential for its host, raises the limit; it
//!   goes into `Authorization` as it is. It needs no scope.
//! - **Limits**: 100 requests a minute and address without a key, 500 with one (`x-ratelimit-*`); the
//!   transport obeys them.
//! - **Order**: by change. A package that changes meanwhile moves to the end and is seen there.
//! - **Origins**: `html_url`, with `releases` in the shape that loaders take.
//! - **State**: `{"page_updated_at": date}`, the date of the last package read, as Software Heritage stores
//!   it and as the registry wrote it.
//! - **Cost**: a request for each 100 packages that changed, about 200 for all.
//!
//! # What it cannot see
//!
//! - Deletions: a full run, which is the same listing from the first date, retires what it does not see.
//! - Retired releases: they can still be had, and stay among the releases.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/hex.rs` that fails without it:
//!
//! - asks from the first date, or the stored one, a page at a time: `hex_asks_by_date`
//! - releases come in the shape that loaders take: `hex_gives_releases`
//! - goes on at the date of the last package, and ends with a short page: `hex_goes_on_at_the_last_date`
//! - where a page has one date only, its next pages are asked for: `hex_many_packages_of_one_date_are_no_loop`
//! - states join to the later date, however it is written: `hex_states_join_to_the_later_date`
//! - odd packages are counted, without their like: `hex_odd_packages_are_counted`
//! - a broken body is an error with its place: `hex_a_broken_body_is_an_error_with_its_place`
//! - the page's size is what the registry gives: `hex_checks_its_parameters`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::under;
use crate::lister::{
    Arguments, ConfigError, Entry, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, RunInfo, Source,
};
use crate::model::{JsonObject, NewOrigin, Timestamp, VisitType};
use crate::transport::{Auth, Request, Response};

const BASE: &str = "https://hex.pm/api/";

/// More are not given.
const LARGEST_PAGE: u64 = 100;

/// Before every package, as Software Heritage writes it.
const FIRST: &str = "0001-01-01T00:00:00.000000Z";

/// Lists Hex. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Hex;
/// use lamplighter::model::Timestamp;
///
/// let hex = Hex::new(&"https://hex.pm/api/".parse()?);
/// let start = hex.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(hex.request(&start[0])?.url.path(), "/api/packages/");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hex {
    packages: Url,
    visit_type: VisitType,
    instance: String,
    page_size: u64,
}

/// Where a listing of Hex is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HexCursor {
    /// Packages that changed then or later, as the registry writes the date.
    pub since: String,
    /// Which page of them.
    pub page: u64,
}

/// What is remembered of Hex between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HexState {
    /// The date of the last package that was read.
    #[serde(default)]
    pub page_updated_at: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    html_url: Option<String>,
    updated_at: String,
    #[serde(default)]
    releases: Option<Vec<Release>>,
}

#[derive(Deserialize)]
struct Release {
    version: String,
    url: String,
    inserted_at: Option<String>,
}

impl Hex {
    /// The registry whose API is at `url`. The instance is named `hex`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            packages: under(url, &["packages", ""]),
            visit_type: VisitType::known("hex"),
            instance: "hex".to_owned(),
            page_size: LARGEST_PAGE,
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Asks for pages of this size, at most 100.
    #[must_use]
    pub fn with_page_size(mut self, page_size: u64) -> Self {
        self.page_size = page_size.clamp(1, LARGEST_PAGE);
        self
    }
}

/// In the shape that Software Heritage's loader takes.
fn releases(package: &Package) -> JsonObject {
    let name = &package.name;
    let release = |r: &Release| {
        let tarball = format!("https://repo.hex.pm/tarballs/{name}-{}.tar", r.version);
        let of = json!({
            "name": name,
            "release_url": r.url,
            "tarball_url": tarball,
            "inserted_at": r.inserted_at,
        });
        (r.version.clone(), of)
    };
    package.releases.iter().flatten().map(release).collect()
}

impl Lister for Hex {
    type Cursor = HexCursor;

    fn name(&self) -> &'static str {
        "hex"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<HexCursor> {
        vec![HexCursor { since: FIRST.to_owned(), page: 1 }]
    }

    fn request(&self, at: &HexCursor) -> Result<Request, ListerError> {
        let mut url = self.packages.clone();
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("search", &format!("updated_after:{}", at.since));
            query.append_pair("per_page", &self.page_size.to_string());
            if at.page > 1 {
                query.append_pair("page", &at.page.to_string());
            }
        }
        let request = Request::get(url).configured().with_auth(Auth::Header("authorization"));
        Ok(request.with_header("accept", "application/json"))
    }

    fn page(
        &self,
        at: &HexCursor,
        response: Response,
        page: &mut Page<HexCursor>,
    ) -> Result<(), ListerError> {
        let packages: Vec<Package> = response.json()?;
        let parse = |n: usize, text: &str| {
            Timestamp::parse(text).map_err(|e| {
                ListerError::parse(format!("at [{n}].updated_at: {text:?} is no date")).with_source(e)
            })
        };
        let mut last: Option<(Timestamp, &str)> = None;
        for (n, package) in packages.iter().enumerate() {
            let updated = parse(n, &package.updated_at)?;
            last = Some((updated, &package.updated_at));
            let Some(url) = package.html_url.as_deref().filter(|url| !url.is_empty()) else {
                page.skip(&package.name, "it has no page");
                continue;
            };
            let origin = NewOrigin::new(url, self.visit_type.clone())
                .with_last_update(updated)
                .with_argument("releases", Value::Object(releases(package)));
            page.origin(origin)?;
        }
        let Some((reached, text)) = last else { return Ok(()) };
        page.mark(&HexState { page_updated_at: Some(text.to_owned()) });
        if (packages.len() as u64) < self.page_size {
            return Ok(());
        }
        let since = Timestamp::parse(&at.since).map_err(|e| ListerError::cursor(&at.since).with_source(e))?;
        page.next(if reached > since {
            HexCursor { since: text.to_owned(), page: 1 }
        } else {
            HexCursor { since: at.since.clone(), page: at.page.saturating_add(1) }
        });
        Ok(())
    }
}

impl Incremental for Hex {
    type State = HexState;

    fn resume(&self, state: &HexState, run: &RunInfo) -> Vec<HexCursor> {
        match &state.page_updated_at {
            Some(since) => vec![HexCursor { since: since.clone(), page: 1 }],
            None => self.start(run),
        }
    }

    fn join(&self, ours: HexState, stored: HexState) -> HexState {
        // The text breaks a tie, so that there is one order.
        let rank = |state: &HexState| {
            let text = state.page_updated_at.clone();
            (text.as_deref().and_then(|t| Timestamp::parse(t).ok()), text)
        };
        if rank(&ours) > rank(&stored) { ours } else { stored }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the API"),
    Parameter::with_default("instance", ParameterKind::Text, "hex", "name of the instance"),
    Parameter::with_default("page_size", ParameterKind::Integer, "100", "packages a page, 1 to 100"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("hex", "Hex (Erlang, Elixir, Gleam)", build)
        .visiting(&["hex"])
        .incremental()
        .with_parameters(PARAMETERS)
        .with_positions(&["search", "page"])
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Hex::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    let page_size = arguments.integer("page_size").unwrap_or(LARGEST_PAGE);
    if !(1..=LARGEST_PAGE).contains(&page_size) {
        return Err(arguments.wrong("page_size", "must be 1 to 100: the registry gives no more"));
    }
    Ok(Arc::new(Source::incremental(lister.with_page_size(page_size))))
}
