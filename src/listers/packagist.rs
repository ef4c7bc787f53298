//! Packagist, the registry of PHP: the repository of every package.
//!
//! # How it lists
//!
//! `GET {url}` (`…/packages/list.json`) answers `{"packageNames": ["vendor/name", …]}`. Then
//! `GET {metadata_url}p2/{name}.json` of each, which has its releases; where there are none,
//! `GET {metadata_url}p2/{name}~dev.json`, which has its branches. Both are asked by the validator that they gave the last time.
//! Before, the feed of changes is asked, `GET …/metadata/changes.json?since={timestamp}`. It is kept for a day. Who comes
//! later, or for the first time, is told to begin anew, and from when on to ask the next time; else only the packages
//! that it names are asked for.
//!
//! - **Authentication**: none. **Limits**: none told; the registry asks for at most 10 requests at once.
//! - **Order**: of names, or of changes.
//! - **Origins**: the repository of the newest version that names one, in the form in which its forge lists it,
//!   with the latest date of a version. One repository may be that of many packages.
//! - **Deletions**: a full run retires repositories that no package names any more. That a package was deleted
//!   is counted: its repository may well be there.
//! - **State**: `{"timestamp": n}`, the `since` of the next run, as the feed gave it.
//!   Software Heritage's `last_listing_date` is left unread, as it moves past what failed: the first run here
//!   lists all.
//! - **Cost**: a full listing takes a request for each package (400,000 and more), most of them answered by "unchanged"
//!   after the first time; a later run within a day, one and one for each package that changed.
//!
//! # What it cannot see
//!
//! - In a full run after the first, new commits of packages without releases, whose file of releases stays
//!   as it is; the feed tells of them.
//! - The files of Composer 1 (`p/…`, `packages/…`), which the registry gave up.
//! - Whether a repository is archived: an abandoned package does not say so.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/packagist.rs` that fails without it:
//!
//! - asks the feed, for the names, and for each package by a condition: `packagist_asks_for_names_and_packages`
//! - a later run asks for what changed: `packagist_asks_for_what_changed`
//! - one that comes too late, or has no feed, lists all: `packagist_lists_all_where_the_feed_does_not_reach`
//! - branches are asked for where there is no release: `packagist_branches_stand_for_releases`
//! - the newest version that names a repository counts, and the latest date: `packagist_the_newest_version_counts`
//! - shortened versions are as the ones before them: `packagist_expands_shortened_versions`
//! - repositories have the form of their forges: `packagist_repositories_have_one_form`
//! - a package that went meanwhile is asked for twice and counted, other failures are gaps: `packagist_a_package_that_went_is_counted`
//! - odd names are counted: `packagist_odd_names_are_counted`
//! - states join to the later one, and swh's is read: `packagist_states_join_to_the_later`
//! - a broken body is an error with its place: `packagist_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `packagist_takes_its_urls`

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::under;
use crate::lister::json::each_entry;
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source, repository_url,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://packagist.org/packages/list.json";
const METADATA: &str = "https://repo.packagist.org/";

/// A moment that the feed does not reach back to, as it counts: in tenths of milliseconds.
const FIRST: u64 = 16_000_000_000_000;

/// In the place of what a shortened version does not have, and the one before it has.
const UNSET: &str = "__unset";

/// Lists Packagist. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Packagist;
/// use lamplighter::model::Timestamp;
///
/// let list = "https://packagist.org/packages/list.json".parse()?;
/// let packagist = Packagist::new(list, &"https://repo.packagist.org/".parse()?)?;
/// let start = packagist.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(packagist.request(&start[0])?.url.path(), "/metadata/changes.json");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Packagist {
    list: Url,
    changes: Url,
    metadata: Url,
    instance: String,
}

/// Where a listing of Packagist is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PackagistCursor {
    /// The names of all packages.
    Names {
        /// From when on changes are to be asked for by the next run, where there is a feed of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timestamp: Option<u64>,
    },
    /// The changes since then.
    Changes {
        /// As the feed counts.
        since: u64,
    },
    /// The releases of a package.
    Package(String),
    /// The branches of a package.
    Branches {
        /// The package.
        name: String,
        /// Whether they are asked for because it has no releases.
        instead: bool,
    },
    /// The releases of a package that was said not to be there, once.
    Again(String),
}

/// What is remembered of Packagist between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PackagistState {
    /// From when on changes are to be asked for, as the feed counts.
    #[serde(default)]
    pub timestamp: Option<u64>,
}

#[derive(Deserialize)]
struct Action {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    package: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    packages: BTreeMap<String, Versions>,
    #[serde(default)]
    minified: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Versions {
    List(Vec<Version>),
    Named(BTreeMap<String, Version>),
}

#[derive(Deserialize, Clone)]
struct Version {
    source: Option<Value>,
    time: Option<Value>,
}

impl Packagist {
    /// The registry whose names are at `list`, and whose packages are below `metadata`. The instance is named
    /// `packagist`.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when `list` cannot have a path.
    pub fn new(list: Url, metadata: &Url) -> Result<Self, ConfigError> {
        let changes = list
            .join("../metadata/changes.json")
            .map_err(|_| ConfigError::Value { name: "url".into(), problem: "cannot have a path".into() })?;
        Ok(Self { list, changes, metadata: under(metadata, &[]), instance: "packagist".to_owned() })
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    fn names(
        timestamp: Option<u64>,
        response: &Response,
        page: &mut Page<PackagistCursor>,
    ) -> Result<(), ListerError> {
        each_entry(&response.body, Some("packageNames"), &[], |name: String| {
            if is_name(&name) {
                page.follow(PackagistCursor::Package(name));
            } else {
                skip_name(&name, page);
            }
            Ok(())
        })?;
        if timestamp.is_some() {
            page.mark(&PackagistState { timestamp });
        }
        Ok(())
    }

    fn changes(since: u64, response: &Response, page: &mut Page<PackagistCursor>) -> Result<(), ListerError> {
        let (mut changed, mut too_late) = (BTreeSet::new(), since <= FIRST);
        let others = each_entry(&response.body, Some("actions"), &["timestamp"], |action: Action| {
            let package = action.package.unwrap_or_default();
            match action.kind.as_str() {
                "resync" => too_late = true,
                "update" => {
                    changed.insert(package);
                }
                "delete" => {
                    changed.remove(&package);
                    page.skip(package, "it was deleted; its repository may be there");
                }
                other => page.skip(format!("a change of the kind {other:?}"), "that is not known"),
            }
            Ok(())
        })?;
        let timestamp = others.get("timestamp").and_then(Value::as_u64);
        let timestamp = timestamp.ok_or_else(|| ListerError::parse("at timestamp: there is no number"))?;
        if too_late {
            page.follow(PackagistCursor::Names { timestamp: Some(timestamp) });
            return Ok(());
        }
        for package in changed {
            match package.strip_suffix("~dev") {
                Some(name) if is_name(name) => {
                    page.follow(PackagistCursor::Branches { name: name.to_owned(), instead: false });
                }
                None if is_name(&package) => page.follow(PackagistCursor::Package(package)),
                _ => skip_name(&package, page),
            }
        }
        page.mark(&PackagistState { timestamp: Some(timestamp) });
        Ok(())
    }

    /// The repository of a package, where it has versions.
    fn package(
        name: &str,
        response: &Response,
        page: &mut Page<PackagistCursor>,
    ) -> Result<bool, ListerError> {
        let mut answer: Answer = response.json()?;
        let versions = match answer.packages.remove(name) {
            Some(Versions::List(list)) if answer.minified.is_some() => expanded(list),
            Some(Versions::List(list)) => list,
            Some(Versions::Named(named)) => named.into_values().collect(),
            None => Vec::new(),
        };
        let mut latest = None;
        let mut newest: Option<(Option<Timestamp>, &Value)> = None;
        for version in &versions {
            let time = version.time.as_ref().and_then(Value::as_str);
            let date = time.and_then(|text| Timestamp::parse(text).ok());
            if let (Some(text), None) = (time, date) {
                page.skip(format!("the date of a version of {name}"), format!("{text:?} is no date"));
            }
            latest = latest.max(date);
            // The first of those that are as new: versions come the newest first.
            if let Some(source) = version.source.as_ref().filter(|s| says_something(s))
                && newest.is_none_or(|(than, _)| date > than)
            {
                newest = Some((date, source));
            }
        }
        if versions.is_empty() {
            return Ok(false);
        }
        match newest.map(|(_, source)| repository(source)) {
            None => page.skip(name, "it names no repository"),
            Some(Err(why)) => page.skip(name, why),
            Some(Ok((url, visit_type))) => {
                page.origin(NewOrigin::new(url, visit_type).with_last_update(latest))?;
            }
        }
        Ok(true)
    }
}

/// `vendor/name`, as it may be in a path.
fn is_name(text: &str) -> bool {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    text.len() <= 255 && text.split_once('/').is_some_and(|(vendor, name)| plain(vendor) && plain(name))
}

fn skip_name(name: &str, page: &mut Page<PackagistCursor>) {
    let name: String = name.chars().take(80).collect();
    page.skip(format!("{name:?}"), "that can be no package's name");
}

/// Shortened versions have only what differs from the one before.
fn expanded(mut list: Vec<Version>) -> Vec<Version> {
    let mut before = Version { source: None, time: None };
    for version in &mut list {
        for (field, before) in [(&mut version.source, &before.source), (&mut version.time, &before.time)] {
            match field {
                None => field.clone_from(before),
                Some(Value::String(text)) if text == UNSET => *field = None,
                Some(_) => {}
            }
        }
        before.clone_from(version);
    }
    list
}

fn says_something(source: &Value) -> bool {
    source.get("url").and_then(Value::as_str).is_some_and(|url| !url.is_empty())
}

fn repository(source: &Value) -> Result<(String, VisitType), String> {
    let text = |field| source.get(field).and_then(Value::as_str).unwrap_or_default();
    let kind = match text("type").to_ascii_lowercase().as_str() {
        "git" => VisitType::git(),
        "hg" => VisitType::known("hg"),
        "svn" => VisitType::known("svn"),
        "fossil" => VisitType::known("fossil"),
        other => return Err(format!("nothing visits repositories of the type {other:?}")),
    };
    let found = repository_url(text("url")).map_err(|e| e.to_string())?;
    let url = found.ok_or("it names no repository")?.url;
    if kind.as_str() == "hg" && url.starts_with("https://bitbucket.org/") {
        return Err("Bitbucket has no Mercurial any more".to_owned());
    }
    Ok((url, kind))
}

impl Lister for Packagist {
    type Cursor = PackagistCursor;

    fn name(&self) -> &'static str {
        "packagist"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<PackagistCursor> {
        vec![PackagistCursor::Changes { since: FIRST }]
    }

    fn request(&self, at: &PackagistCursor) -> Result<Request, ListerError> {
        let file = |name: &str, end: &str| {
            let (vendor, name) = name.split_once('/').ok_or_else(|| ListerError::cursor(name))?;
            let file = format!("{name}{end}.json");
            Ok(Request::get(under(&self.metadata, &["p2", vendor, &file])).configured().validated())
        };
        let request = match at {
            PackagistCursor::Names { .. } => Request::get(self.list.clone()).configured(),
            PackagistCursor::Changes { since } => {
                let mut url = self.changes.clone();
                url.query_pairs_mut().append_pair("since", &since.to_string());
                Request::get(url).configured()
            }
            PackagistCursor::Package(name) | PackagistCursor::Again(name) => file(name, "")?,
            PackagistCursor::Branches { name, .. } => file(name, "~dev")?,
        };
        Ok(request.with_header("accept", "application/json"))
    }

    fn page(
        &self,
        at: &PackagistCursor,
        response: Response,
        page: &mut Page<PackagistCursor>,
    ) -> Result<(), ListerError> {
        match at {
            PackagistCursor::Names { timestamp } => Self::names(*timestamp, &response, page),
            PackagistCursor::Changes { since } => Self::changes(*since, &response, page),
            PackagistCursor::Package(name) | PackagistCursor::Again(name) => {
                if !Self::package(name, &response, page)? {
                    // In the same part: where the releases are as they were, so is what stands for them.
                    page.next(PackagistCursor::Branches { name: name.clone(), instead: true });
                }
                Ok(())
            }
            PackagistCursor::Branches { name, instead } => {
                if !Self::package(name, &response, page)? && *instead {
                    page.skip(name, "it has no version");
                }
                Ok(())
            }
        }
    }

    fn recover(&self, at: &PackagistCursor, failure: &Failure) -> Recovery<PackagistCursor> {
        match at {
            // Also a feed that does not take such a moment.
            PackagistCursor::Changes { since: FIRST }
                if failure.status() == Some(StatusCode::BAD_REQUEST) =>
            {
                Recovery::replaced(vec![PackagistCursor::Names { timestamp: None }])
            }
            _ if !failure.is_not_there() => Recovery::gap(),
            PackagistCursor::Names { .. } => Recovery::gap(),
            PackagistCursor::Changes { .. } => {
                Recovery::replaced(vec![PackagistCursor::Names { timestamp: None }])
            }
            // Nobody asks for it later: what may be a slip of one of the registry's hosts is asked for again.
            PackagistCursor::Package(name) => Recovery::replaced(vec![PackagistCursor::Again(name.clone())]),
            PackagistCursor::Again(name) | PackagistCursor::Branches { name, instead: false } => {
                Recovery::replaced(vec![PackagistCursor::Branches { name: name.clone(), instead: true }])
            }
            PackagistCursor::Branches { .. } => Recovery::skip("the package went since the names were read"),
        }
    }
}

impl Incremental for Packagist {
    type State = PackagistState;

    fn resume(&self, state: &PackagistState, run: &RunInfo) -> Vec<PackagistCursor> {
        match state.timestamp {
            Some(since) => vec![PackagistCursor::Changes { since }],
            None => self.start(run),
        }
    }

    fn join(&self, ours: PackagistState, stored: PackagistState) -> PackagistState {
        ours.max(stored)
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the names of packages"),
    Parameter::with_default(
        "metadata_url",
        ParameterKind::Url,
        METADATA,
        "packages are at {metadata_url}p2/VENDOR/NAME.json",
    ),
    Parameter::with_default("instance", ParameterKind::Text, "packagist", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("packagist", "Packagist (PHP)", build)
        .visiting(&["fossil", "git", "hg", "svn"])
        .incremental()
        .with_parameters(PARAMETERS)
        .with_positions(&["since"])
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister =
        Packagist::new(arguments.required_url("url")?, &arguments.required_url("metadata_url")?)?;
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::incremental(lister)))
}
