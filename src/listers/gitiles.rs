//! Gitiles: the repositories of a host that shows them with Gitiles, as `*.googlesource.com` do.
//!
//! # How it lists
//!
//! `GET {url}?format=JSON`, one request: a JSON object by name, behind the line `)]}'` or without it. Where
//! the server has a Gerrit too, that says more of the same repositories.
//!
//! - **Credentials**: none. **Limits**: none known.
//! - **Order**: by name. **State**: none; the index has neither dates nor pages. Where the server gives it a
//!   validator, an unchanged one is not sent again.
//! - **Cost**: one request.
//! - **Origins**: `clone_url`, of type `git`. A repository without one, or with one that cannot be visited, is
//!   skipped and counted.
//!
//! # What it cannot see
//!
//! Repositories that anonymous users may not read; dates, forks, an id that outlives a rename.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/gitiles.rs` that fails without it:
//!
//! - asks once, for JSON, and keeps the rest of its URL: `gitiles_asks_once_for_json`
//! - is made from `url` or `instance`: `gitiles_is_made_from_url_or_instance`
//! - reads the index with its guard and without: `gitiles_reads_the_index_with_and_without_its_guard`
//! - a repository without an address is skipped by name: `gitiles_a_repository_without_an_address_is_counted`
//! - an index of which nothing can be used is an error: `gitiles_an_index_without_any_address_is_an_error`
//! - no repository is no error, and what is no index is one: `gitiles_an_empty_index_is_no_error`,
//!   `gitiles_a_broken_body_is_an_error_with_its_place`

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::lister::{
    Arguments, ConfigError, Entry, Lister, ListerError, Page, PageSource, Parameter, ParameterKind, RunInfo,
    Source, base_url,
};
use crate::model::{NewOrigin, VisitType, check_origin_url};
use crate::transport::{Request, Response};

/// Lists a Gitiles. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Gitiles;
/// use lamplighter::model::Timestamp;
///
/// let gitiles = Gitiles::new("https://android.googlesource.com".parse()?, "android.googlesource.com");
/// let start = gitiles.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(gitiles.request(&start[0])?.url.as_str(), "https://android.googlesource.com/?format=JSON");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gitiles {
    index: Url,
    instance: String,
}

/// Where a listing of a Gitiles is: at its index, which is all there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GitilesCursor {}

#[derive(Deserialize)]
struct Repository {
    clone_url: Option<String>,
}

impl Gitiles {
    /// The Gitiles whose index is at `url`.
    pub fn new(mut url: Url, instance: impl Into<String>) -> Self {
        let kept: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| name != "format").collect();
        url.query_pairs_mut().clear().extend_pairs(kept).append_pair("format", "JSON");
        url.set_fragment(None);
        Self { index: url, instance: instance.into() }
    }
}

impl Lister for Gitiles {
    type Cursor = GitilesCursor;

    fn name(&self) -> &'static str {
        "gitiles"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<GitilesCursor> {
        vec![GitilesCursor {}]
    }

    fn request(&self, _: &GitilesCursor) -> Result<Request, ListerError> {
        let request = Request::get(self.index.clone()).with_header("accept", "application/json");
        Ok(request.configured().validated())
    }

    fn page(
        &self,
        _: &GitilesCursor,
        response: Response,
        page: &mut Page<GitilesCursor>,
    ) -> Result<(), ListerError> {
        let repositories: BTreeMap<String, Repository> = response.guarded_json()?;
        let (all, mut used) = (repositories.len(), 0_usize);
        for (name, Repository { clone_url }) in repositories {
            let Some(url) = clone_url.filter(|url| !url.is_empty()) else {
                page.skip(name, "has no clone_url");
                continue;
            };
            if let Err(why) = check_origin_url(&url) {
                page.skip(name, format!("cannot be visited: {why}"));
                continue;
            }
            used += 1;
            page.origin(NewOrigin::new(url, VisitType::git()))?;
        }
        // Another kind of object by name must not pass for a host without repositories.
        if all > 0 && used == 0 {
            return Err(ListerError::parse(format!("none of the {all} entries has a clone_url")));
        }
        Ok(())
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the index, as https://android.googlesource.com/"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("gitiles", "Gitiles", build).with_parameters(PARAMETERS).with_positions(&[])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    Ok(Arc::new(Source::stateless(Gitiles::new(url, instance))))
}
