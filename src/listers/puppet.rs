//! The Puppet Forge: every module.
//!
//! # How it lists
//!
//! `GET {url}v3/modules?limit=100`, then the path in `pagination.next` until that is null. A later run adds
//! `with_release_since={day}`.
//!
//! - **Authentication**: none. **Limits**: none documented for lists.
//! - **Order**: by downloads, which moves little while a listing runs; what moved is seen by the next full run.
//! - **Origins**: `{web_url}/modules/{owner}/{name}`, with `artifacts` in the shape that loaders take: of each
//!   release `url`, `version`, `filename`, `last_update` and `checksums` (of the current release MD5 and SHA-256,
//!   of others the length, which is all that the list says).
//! - **Deletions**: deleted releases are left out; a module without any left is gone. A full run retires
//!   what the forge no longer lists. A deprecated module counts as archived.
//! - **State**: `{"last_listing_date": date}`, when the last listing that came to its end began, as Software
//!   Heritage stores it (a date without offset is UTC). Days are asked for as they are 15 hours to
//!   the west, so that none is missed wherever the forge counts them.
//! - **Cost**: 75 requests for all, which are large (they hold the readme of each module); one or two a day.
//!
//! # What it cannot see
//!
//! - In a later run, modules that were deprecated or deleted without a release.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/puppet.rs` that fails without it:
//!
//! - asks for all modules, or for those released since the state's day: `puppet_asks_by_day`
//! - artifacts come in the shape that loaders take: `puppet_gives_artifacts`
//! - follows the path of the next page, on its own host: `puppet_follows_the_next_path`
//! - the date moves at the end only, to the beginning of the run: `puppet_the_date_moves_at_the_end`
//! - deleted releases are left out, and modules without any are gone: `puppet_deleted_releases_are_no_artifacts`
//! - deprecated modules are archived: `puppet_deprecated_modules_are_archived`
//! - odd modules are counted: `puppet_odd_modules_are_counted`
//! - a broken body is an error with its place: `puppet_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `puppet_takes_its_urls`

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{stays_on_host, under};
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, RunInfo, Source, utc_date,
};
use crate::model::{GoneReason, NewOrigin, OriginKey, Timestamp, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://forgeapi.puppet.com/";
const WEB: &str = "https://forge.puppet.com";

/// How far west a forge may count its days.
const WEST: Duration = Duration::from_secs(15 * 3600);

/// Lists a Puppet Forge. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Puppet;
/// use lamplighter::model::Timestamp;
///
/// let puppet = Puppet::new(&"https://forgeapi.puppet.com/".parse()?);
/// let start = puppet.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(puppet.request(&start[0])?.url.as_str(), "https://forgeapi.puppet.com/v3/modules?limit=100");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Puppet {
    base: Url,
    /// Without a slash at its end.
    web: String,
    visit_type: VisitType,
    instance: String,
}

/// Where a listing of a Puppet Forge is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PuppetCursor {
    /// The page, as the one before gave it; the first where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Url>,
    /// Only modules with a release on this day or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When the run began.
    pub started: Timestamp,
}

/// What is remembered of a Puppet Forge between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PuppetState {
    /// When the last listing that came to its end began.
    #[serde(default, deserialize_with = "listing_date")]
    pub last_listing_date: Option<Timestamp>,
}

fn listing_date<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
    let wrong = || serde::de::Error::custom(format!("no date with a time: {text:?}"));
    utc_date(&text).map(Some).ok_or_else(wrong)
}

#[derive(Deserialize)]
struct Answer {
    pagination: Pagination,
    results: Vec<Module>,
}

#[derive(Deserialize)]
struct Pagination {
    // Null ends the listing; absent is an answer of some other kind.
    #[serde(deserialize_with = "Option::deserialize")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Module {
    name: String,
    owner: Option<Owner>,
    updated_at: Option<String>,
    deprecated_at: Option<String>,
    current_release: Option<Current>,
    #[serde(default)]
    releases: Option<Vec<Release>>,
}

#[derive(Deserialize)]
struct Owner {
    slug: Option<String>,
}

#[derive(Deserialize)]
struct Current {
    version: String,
    file_md5: Option<String>,
    file_sha256: Option<String>,
}

#[derive(Deserialize)]
struct Release {
    version: String,
    created_at: Option<String>,
    deleted_at: Option<String>,
    file_uri: String,
    file_size: Option<u64>,
}

impl Puppet {
    /// The forge whose API is at `url`. The instance is named `puppet`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            base: under(url, &[]),
            web: WEB.to_owned(),
            visit_type: VisitType::known("puppet"),
            instance: "puppet".to_owned(),
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Says where the pages of modules are; `https://forge.puppet.com` by default.
    #[must_use]
    pub fn with_web_url(mut self, web: &Url) -> Self {
        web.as_str().trim_end_matches('/').clone_into(&mut self.web);
        self
    }

    /// In the shape that Software Heritage's loader takes.
    fn artifact(&self, release: &Release, current: Option<&Current>) -> Option<Value> {
        let url = self.base.join(&release.file_uri).ok()?;
        let filename = url.path_segments()?.next_back().filter(|name| !name.is_empty())?.to_owned();
        let sums = current.filter(|c| c.version == release.version).map(|c| {
            let sums = [("md5", &c.file_md5), ("sha256", &c.file_sha256)];
            sums.into_iter().filter_map(|(n, v)| Some((n.to_owned(), Value::from(v.clone()?)))).collect()
        });
        let length = || release.file_size.into_iter().map(|n| ("length".to_owned(), n.into())).collect();
        let checksums: serde_json::Map<String, Value> =
            sums.filter(|sums: &serde_json::Map<_, _>| !sums.is_empty()).unwrap_or_else(length);
        Some(json!({
            "url": url.as_str(),
            "version": release.version,
            "filename": filename,
            "last_update": release.created_at.as_deref().and_then(with_offset),
            "checksums": checksums,
        }))
    }
}

/// `2015-04-09 12:03:13 -0700` as `2015-04-09T12:03:13-07:00`.
fn with_offset(text: &str) -> Option<String> {
    let date = chrono::DateTime::parse_from_str(text.trim(), "%Y-%m-%d %H:%M:%S %z").ok()?;
    Some(date.to_rfc3339())
}

fn date(text: &str) -> Option<Timestamp> {
    with_offset(text).and_then(|text| Timestamp::parse(&text).ok())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

impl Lister for Puppet {
    type Cursor = PuppetCursor;

    fn name(&self) -> &'static str {
        "puppet"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, run: &RunInfo) -> Vec<PuppetCursor> {
        vec![PuppetCursor { next: None, since: None, started: run.started }]
    }

    fn request(&self, at: &PuppetCursor) -> Result<Request, ListerError> {
        let url = at.next.clone().unwrap_or_else(|| {
            let mut url = under(&self.base, &["v3", "modules"]);
            url.query_pairs_mut().append_pair("limit", "100");
            if let Some(day) = &at.since {
                url.query_pairs_mut().append_pair("with_release_since", day);
            }
            url
        });
        let request = Request::get(url).with_header("accept", "application/json");
        Ok(if at.next.is_none() { request.configured() } else { request })
    }

    fn page(
        &self,
        at: &PuppetCursor,
        response: Response,
        page: &mut Page<PuppetCursor>,
    ) -> Result<(), ListerError> {
        let answer: Answer = response.json()?;
        for module in answer.results {
            let slug = module.owner.and_then(|owner| owner.slug).unwrap_or_default();
            if !is_name(&module.name) || !is_name(&slug) {
                page.skip(format!("{slug:?}/{:?}", module.name), "that can be no module's name");
                continue;
            }
            let url = format!("{}/modules/{slug}/{}", self.web, module.name);
            let releases = module.releases.unwrap_or_default();
            let mut artifacts = Vec::new();
            for release in releases.iter().filter(|r| r.deleted_at.is_none()) {
                match self.artifact(release, module.current_release.as_ref()) {
                    Some(artifact) => artifacts.push(artifact),
                    None => page.skip(format!("{} of {url}", release.version), "its file_uri names no file"),
                }
            }
            if !releases.is_empty() && releases.iter().all(|r| r.deleted_at.is_some()) {
                page.gone(OriginKey::new(url, self.visit_type.clone()), GoneReason::Deleted);
                continue;
            }
            let updated = module.updated_at.as_deref();
            if let Some(text) = updated.filter(|text| date(text).is_none()) {
                page.skip(format!("the date of {url}"), format!("{text:?} is no date"));
            }
            let origin = NewOrigin::new(url, self.visit_type.clone())
                .with_last_update(updated.and_then(date))
                .with_archived(module.deprecated_at.is_some())
                .with_argument("artifacts", artifacts);
            page.origin(origin)?;
        }
        match answer.pagination.next {
            None => page.mark(&PuppetState { last_listing_date: Some(at.started) }),
            Some(next) => {
                let wrong = |e| ListerError::parse(format!("at pagination.next: {next:?}")).with_source(e);
                let url = self.base.join(&next).map_err(wrong)?;
                stays_on_host(&self.base, &url)?;
                page.next(PuppetCursor { next: Some(url), ..at.clone() });
            }
        }
        Ok(())
    }
}

impl Incremental for Puppet {
    type State = PuppetState;

    fn resume(&self, state: &PuppetState, run: &RunInfo) -> Vec<PuppetCursor> {
        let day = |date: Timestamp| date.minus(WEST).to_datetime().format("%Y-%m-%d").to_string();
        vec![PuppetCursor { next: None, since: state.last_listing_date.map(day), started: run.started }]
    }

    fn join(&self, ours: PuppetState, stored: PuppetState) -> PuppetState {
        ours.max(stored)
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the API"),
    Parameter::with_default(
        "web_url",
        ParameterKind::Url,
        WEB,
        "modules are at {web_url}/modules/OWNER/NAME",
    ),
    Parameter::with_default("instance", ParameterKind::Text, "puppet", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("puppet", "Puppet Forge", build)
        .telling(&[Fact::Archived])
        .visiting(&["puppet"])
        .incremental()
        .with_parameters(PARAMETERS)
        .with_positions(&["offset"])
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let lister = Puppet::new(&arguments.required_url("url")?);
    let mut lister = lister.with_web_url(&arguments.required_url("web_url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::incremental(lister)))
}
