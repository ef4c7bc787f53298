//! NuGet, the registry of .NET: the repository of every package that names one.
//!
//! # How it lists
//!
//! `GET {url}`, the index of the catalog, names its pages with their `commitTimeStamp`. Each page is asked for that is newer than
//! what was read (all at first): its items are events of versions, in no order. Of each package the newest event
//! of a page, up to the index's own `commitTimeStamp`, leads to
//! `GET {packages_url}{id}/{version}/{id}.nuspec`, where the first element `repository` counts.
//!
//! - **Authentication**: none. **Limits**: none documented.
//! - **Order**: none; what was there when the index was read is listed.
//! - **Origins**: the repository, in the form in which its forge lists it, with the date of the event. What names a version
//!   is kept apart for each, so that the latest date of all counts.
//! - **Deletions**: a deleted version names nothing any more. A full run retires repositories that no version names.
//! - **State**: `{"last_listing_date": date}`, the index's `commitTimeStamp`, as Software Heritage stores it.
//! - **Cost**: one request for each page of 550 events (20,000 for all), and one for each package of each page; a version that
//!   was read is not asked for again unless there is another event of it.
//!
//! # What it cannot see
//!
//! - Packages that name their repository only as their project's page.
//! - Feeds without a catalog, as most others are.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/nuget.rs` that fails without it:
//!
//! - asks for the pages that are newer than the state: `nuget_asks_for_newer_pages`
//! - pages stay on their host: `nuget_pages_stay_on_their_host`
//! - of each package, the newest event up to the index's time counts: `nuget_the_newest_event_counts`
//! - a deleted version names nothing any more: `nuget_a_deleted_version_names_nothing`
//! - versions are asked for in the form that the registry gives them: `nuget_asks_for_normal_versions`
//! - the first repository counts, in the form of its forge, of a known type: `nuget_repositories_have_one_form`
//! - a version that went meanwhile is asked for twice and counted, other failures are gaps: `nuget_a_version_that_went_is_counted`
//! - odd ids are counted: `nuget_odd_ids_are_counted`
//! - states join to the later one, however it is written: `nuget_states_join_to_the_later`
//! - a broken body is an error with its place: `nuget_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `nuget_takes_its_urls`

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{on_the_same_host, under};
use crate::lister::json::each_entry;
use crate::lister::xml::{Step, Xml};
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source, repository_url,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://api.nuget.org/v3/catalog0/index.json";
const PACKAGES: &str = "https://api.nuget.org/v3-flatcontainer/";

/// Lists NuGet. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::NuGet;
/// use lamplighter::model::Timestamp;
///
/// let index = "https://api.nuget.org/v3/catalog0/index.json";
/// let nuget = NuGet::new(index.parse()?, &"https://api.nuget.org/v3-flatcontainer/".parse()?);
/// let start = nuget.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(nuget.request(&start[0])?.url.as_str(), index);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct NuGet {
    index: Url,
    packages: Url,
    instance: String,
}

/// Where a listing of NuGet is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NuGetCursor {
    /// The index of the catalog.
    Index {
        /// Only what is later, as the registry writes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<String>,
    },
    /// A page of the catalog.
    Catalog {
        /// Its address.
        url: Url,
        /// Only what is later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<String>,
        /// And not later than this.
        until: String,
    },
    /// What a version says of itself.
    Nuspec {
        /// The package.
        id: String,
        /// The version.
        version: String,
        /// When the registry last changed something of it.
        at: String,
        /// Whether it was said not to be there, once.
        #[serde(default, skip_serializing_if = "is_false")]
        again: bool,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(said: &bool) -> bool {
    !*said
}

/// What is remembered of NuGet between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NuGetState {
    /// Up to when the catalog was read.
    #[serde(default)]
    pub last_listing_date: Option<String>,
}

#[derive(Deserialize)]
struct CatalogPage {
    #[serde(rename = "@id")]
    url: String,
    #[serde(rename = "commitTimeStamp")]
    at: String,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(rename = "commitTimeStamp")]
    at: String,
    #[serde(rename = "nuget:id")]
    id: String,
    #[serde(rename = "nuget:version")]
    version: String,
}

impl NuGet {
    /// The registry whose catalog has its index at `index`, and whose packages are below `packages`. The instance
    /// is named `nuget`.
    #[must_use]
    pub fn new(index: Url, packages: &Url) -> Self {
        Self { index, packages: under(packages, &[]), instance: "nuget".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    fn index(
        &self,
        since: Option<&str>,
        response: &Response,
        page: &mut Page<NuGetCursor>,
    ) -> Result<(), ListerError> {
        let after = since.map(stored_moment).transpose()?;
        let (mut pages, mut n) = (Vec::new(), 0);
        let others =
            each_entry(&response.body, Some("items"), &["commitTimeStamp"], |catalog: CatalogPage| {
                let at = moment(&catalog.at).ok_or_else(|| no_date(n, &catalog.at))?;
                let wrong =
                    |e| ListerError::parse(format!("at items[{n}].@id: {:?}", catalog.url)).with_source(e);
                let url = self.index.join(&catalog.url).map_err(wrong)?;
                let url = on_the_same_host(&self.index, url)?;
                if url == self.index {
                    return Err(ListerError::parse(format!("at items[{n}].@id: the index is no page of it")));
                }
                if after.is_none_or(|after| at > after) {
                    pages.push((at, url));
                }
                n += 1;
                Ok(())
            })?;
        let until = others.get("commitTimeStamp").and_then(Value::as_str).unwrap_or_default();
        if moment(until).is_none() {
            return Err(ListerError::parse(format!("at commitTimeStamp: {until:?} is no date")));
        }
        pages.sort();
        for (_, url) in pages {
            let since = since.map(str::to_owned);
            page.follow(NuGetCursor::Catalog { url, since, until: until.to_owned() });
        }
        page.mark(&NuGetState { last_listing_date: Some(until.to_owned()) });
        Ok(())
    }

    fn catalog(
        (since, until): (Option<&str>, &str),
        response: &Response,
        page: &mut Page<NuGetCursor>,
    ) -> Result<(), ListerError> {
        let (after, until) = (since.map(stored_moment).transpose()?, stored_moment(until)?);
        let mut newest: HashMap<String, (usize, DateTime<FixedOffset>, Event)> = HashMap::new();
        let mut n = 0;
        each_entry(&response.body, Some("items"), &[], |event: Event| {
            let at = moment(&event.at).ok_or_else(|| no_date(n, &event.at))?;
            n += 1;
            if after.is_some_and(|after| at <= after) || at > until {
                return Ok(());
            }
            if !is_id(&event.id) || !is_id(&event.version) {
                let what: String = format!("{:?} {:?}", event.id, event.version).chars().take(80).collect();
                page.skip(what, "that can be no version of a package");
                return Ok(());
            }
            match event.kind.as_str() {
                "nuget:PackageDetails" => {}
                "nuget:PackageDelete" => {
                    // It is read, and there is nothing.
                    page.part(part(&event.id, &event.version));
                    page.end_part();
                    return Ok(());
                }
                other => {
                    page.skip(format!("an event of the kind {other:?}"), "that is not known");
                    return Ok(());
                }
            }
            let known = newest.get(&event.id.to_lowercase()).map(|(place, than, _)| (*place, *than));
            if known.is_none_or(|(_, than)| at >= than) {
                let place = known.map_or(n, |(place, _)| place);
                newest.insert(event.id.to_lowercase(), (place, at, event));
            }
            Ok(())
        })?;
        let mut newest: Vec<_> = newest.into_values().collect();
        newest.sort_by_key(|(place, ..)| *place);
        for (_, _, Event { id, version, at, .. }) in newest {
            let key = part(&id, &version);
            let print = at.clone();
            page.item(key, print, NuGetCursor::Nuspec { id, version, at, again: false });
        }
        Ok(())
    }

    fn nuspec(
        (id, version, at): (&str, &str, &str),
        response: &Response,
        page: &mut Page<NuGetCursor>,
    ) -> Result<(), ListerError> {
        let mut xml = Xml::new("the nuspec", response.body.reader(), "package");
        let mut found = None;
        while let Some(step) = xml.step()? {
            if step == Step::Open("repository".to_owned()) && found.is_none() {
                let of = |name| xml.attribute(name).unwrap_or_default().trim().to_owned();
                found = Some((of("type"), of("url")));
            }
        }
        let (kind, url) = found.unwrap_or_default();
        match repository(&kind, &url) {
            Ok((url, visit_type)) => {
                let at = Timestamp::from(stored_moment(at)?.with_timezone(&Utc));
                page.origin(NewOrigin::new(url, visit_type).with_last_update(at))
            }
            Err(why) => {
                page.skip(format!("{id} {version}"), why);
                Ok(())
            }
        }
    }
}

fn part(id: &str, version: &str) -> String {
    format!("{} {}", id.to_lowercase(), normal(version))
}

/// To the tenth of a microsecond, which a [`Timestamp`] does not keep.
fn moment(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc3339(text).ok()
}

fn stored_moment(text: &str) -> Result<DateTime<FixedOffset>, ListerError> {
    moment(text).ok_or_else(|| ListerError::cursor(format!("{text:?} is no date")))
}

fn no_date(n: usize, text: &str) -> ListerError {
    ListerError::parse(format!("at items[{n}].commitTimeStamp: {text:?} is no date"))
}

/// What can be a part of a path.
fn is_id(text: &str) -> bool {
    text.starts_with(char::is_alphanumeric)
        && text.len() <= 255
        && text.chars().all(|c| c.is_alphanumeric() || "._-+".contains(c))
        && !text.contains("..")
}

/// A version as the registry has it in paths: three numbers or four, without zeros before them, a fourth
/// that is none and what it was built of.
fn normal(version: &str) -> String {
    let version = version.split('+').next().unwrap_or_default().to_lowercase();
    let (numbers, label) = version.split_at(version.find('-').unwrap_or(version.len()));
    let mut parts: Vec<&str> = numbers.split('.').collect();
    if !parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_digit())) {
        return version.clone();
    }
    for part in &mut parts {
        let bare = part.trim_start_matches('0');
        *part = if bare.is_empty() { "0" } else { bare };
    }
    if parts.len() == 4 && parts.last() == Some(&"0") {
        parts.pop();
    }
    while parts.len() < 3 {
        parts.push("0");
    }
    format!("{}{label}", parts.join("."))
}

/// The type is a text that people write.
fn repository(kind: &str, url: &str) -> Result<(String, VisitType), String> {
    if url.is_empty() {
        return Err("it names no repository".to_owned());
    }
    let found = repository_url(url).map_err(|e| e.to_string())?.ok_or("it names no repository")?;
    let kind = match kind.to_lowercase().as_str() {
        "git" | "github" | "gitlab" | "bitbucket" => "git",
        "hg" | "mercurial" => "hg",
        "svn" | "subversion" => "svn",
        "" | "url" | "repository" => match found.kind {
            Some(kind) => kind,
            None if found.url.strip_suffix(".git").is_some() => "git",
            None => return Err("it does not say how its repository is visited".to_owned()),
        },
        other => return Err(format!("nothing visits repositories of the type {other:?}")),
    };
    Ok((found.url, VisitType::known(kind)))
}

impl Lister for NuGet {
    type Cursor = NuGetCursor;

    fn name(&self) -> &'static str {
        "nuget"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<NuGetCursor> {
        vec![NuGetCursor::Index { since: None }]
    }

    fn request(&self, at: &NuGetCursor) -> Result<Request, ListerError> {
        let url = match at {
            NuGetCursor::Index { .. } => self.index.clone(),
            NuGetCursor::Catalog { url, .. } => url.clone(),
            NuGetCursor::Nuspec { id, version, .. } => {
                let id = id.to_lowercase();
                return Ok(Request::get(under(
                    &self.packages,
                    &[&id, &normal(version), &format!("{id}.nuspec")],
                ))
                .configured());
            }
        };
        Ok(Request::get(url).configured().with_header("accept", "application/json"))
    }

    fn page(
        &self,
        at: &NuGetCursor,
        response: Response,
        page: &mut Page<NuGetCursor>,
    ) -> Result<(), ListerError> {
        match at {
            NuGetCursor::Index { since } => self.index(since.as_deref(), &response, page),
            NuGetCursor::Catalog { since, until, .. } => {
                Self::catalog((since.as_deref(), until), &response, page)
            }
            NuGetCursor::Nuspec { id, version, at, .. } => Self::nuspec((id, version, at), &response, page),
        }
    }

    fn recover(&self, at: &NuGetCursor, failure: &Failure) -> Recovery<NuGetCursor> {
        match at {
            // Nobody asks for it later: what may be a slip of one of the registry's hosts is asked for again.
            NuGetCursor::Nuspec { id, version, at, again: false } if failure.is_not_there() => {
                let (id, version, at) = (id.clone(), version.clone(), at.clone());
                Recovery::replaced(vec![NuGetCursor::Nuspec { id, version, at, again: true }])
            }
            NuGetCursor::Nuspec { .. } if failure.is_not_there() => {
                Recovery::skip("the version went since the catalog was read")
            }
            _ => Recovery::gap(),
        }
    }
}

impl Incremental for NuGet {
    type State = NuGetState;

    fn resume(&self, state: &NuGetState, _: &RunInfo) -> Vec<NuGetCursor> {
        vec![NuGetCursor::Index { since: state.last_listing_date.clone() }]
    }

    fn join(&self, ours: NuGetState, stored: NuGetState) -> NuGetState {
        // The text breaks a tie, so that there is one order.
        let rank = |state: &NuGetState| {
            let text = state.last_listing_date.clone();
            (text.as_deref().and_then(moment), text)
        };
        if rank(&ours) > rank(&stored) { ours } else { stored }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the index of the catalog"),
    Parameter::with_default(
        "packages_url",
        ParameterKind::Url,
        PACKAGES,
        "packages are at {packages_url}ID/VERSION/",
    ),
    Parameter::with_default("instance", ParameterKind::Text, "nuget", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("nuget", "NuGet (.NET)", build)
        .visiting(&["git", "hg", "svn", "bzr", "cvs"])
        .incremental()
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = NuGet::new(arguments.required_url("url")?, &arguments.required_url("packages_url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::incremental(lister)))
}
