//! Elm's registry: the repository of every package.
//!
//! # How it lists
//!
//! `GET {url}/all-packages/since/{n}`: a list of `owner/name@version`, the releases after the first `n`. Each
//! package is a repository of that name on GitHub.
//!
//! - **Authentication**: none. **Limits**: none documented.
//! - **State**: `{"all_packages_count": n}`, how many releases were read, as Software Heritage stores it.
//! - **Deletions**: a full run (`since/0`) retires what is no longer named.
//! - **Cost**: one request, for all (about 400 kB) as for what is new.
//!
//! # What it cannot see
//!
//! - When a package last changed: releases have no dates.
//! - Where releases were taken back, a later run misses as many new ones; a full run finds them.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/elm.rs` that fails without it:
//!
//! - asks for all releases, or for those after the ones it counted: `elm_asks_by_count`
//! - packages are repositories, each once, without a date: `elm_lists_repositories`
//! - the count goes on from what was asked: `elm_counts_releases`
//! - releases that are none are counted, as what they are and among the others: `elm_odd_releases_are_counted`
//! - a broken body is an error with its place: `elm_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `elm_takes_its_url`

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::under;
use crate::lister::json::each_entry;
use crate::lister::{
    Arguments, ConfigError, Entry, Incremental, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, RunInfo, Source, repository_url,
};
use crate::model::{NewOrigin, VisitType, digest128};
use crate::transport::{Request, Response};

const BASE: &str = "https://package.elm-lang.org";

/// Lists Elm's registry. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Elm;
/// use lamplighter::model::Timestamp;
///
/// let elm = Elm::new(&"https://package.elm-lang.org".parse()?);
/// let start = elm.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(elm.request(&start[0])?.url.path(), "/all-packages/since/0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Elm {
    base: Url,
    instance: String,
}

/// The releases after the first so many.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ElmCursor {
    /// So many.
    pub since: u64,
}

/// What is remembered of Elm's registry between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ElmState {
    /// How many releases were read.
    #[serde(default)]
    pub all_packages_count: Option<u64>,
}

impl Elm {
    /// The registry at `url`. The instance is named `elm`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self { base: under(url, &[]), instance: "elm".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}

/// The repository of a release.
fn repository(release: &str) -> Option<String> {
    let (name, version) = release.split_once('@').filter(|(_, version)| !version.is_empty())?;
    let (owner, name) = name.split_once('/')?;
    let plain =
        |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !plain(owner) || !plain(name) || !plain(version) {
        return None;
    }
    repository_url(&format!("https://github.com/{owner}/{name}")).ok().flatten().map(|found| found.url)
}

impl Lister for Elm {
    type Cursor = ElmCursor;

    fn name(&self) -> &'static str {
        "elm"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<ElmCursor> {
        vec![ElmCursor { since: 0 }]
    }

    fn request(&self, at: &ElmCursor) -> Result<Request, ListerError> {
        let url = under(&self.base, &["all-packages", "since", &at.since.to_string()]);
        Ok(Request::get(url).configured().with_header("accept", "application/json"))
    }

    fn page(
        &self,
        at: &ElmCursor,
        response: Response,
        page: &mut Page<ElmCursor>,
    ) -> Result<(), ListerError> {
        let mut seen = HashSet::new();
        let mut count = at.since;
        each_entry(&response.body, None, &[], |release: String| {
            count = count.saturating_add(1);
            match repository(&release) {
                Some(url) if seen.insert(digest128(url.as_bytes())) => {
                    page.origin(NewOrigin::new(url, VisitType::git()))?;
                }
                Some(_) => {}
                None => page.skip(
                    format!("{:?}", release.chars().take(80).collect::<String>()),
                    "that is no owner/name@version",
                ),
            }
            Ok(())
        })?;
        page.mark(&ElmState { all_packages_count: Some(count) });
        Ok(())
    }
}

impl Incremental for Elm {
    type State = ElmState;

    fn resume(&self, state: &ElmState, _: &RunInfo) -> Vec<ElmCursor> {
        vec![ElmCursor { since: state.all_packages_count.unwrap_or(0) }]
    }

    fn join(&self, ours: ElmState, stored: ElmState) -> ElmState {
        ours.max(stored)
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the registry"),
    Parameter::with_default("instance", ParameterKind::Text, "elm", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("elm", "Elm's registry", build)
        .incremental()
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Elm::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::incremental(lister)))
}
