//! Bower's registry: every repository that a package of it names.
//!
//! # How it lists
//!
//! `GET {url}`, one answer: a list of `{"name", "url"}`, read entry by entry.
//!
//! - **Authentication**: none. **Limits**: none documented.
//! - **Origins**: the repositories, in the form in which their forges list them
//!   ([`repository_url`]): many are written `git://github.com/…`, which that forge no longer
//!   answers. Several packages of one repository are one origin.
//! - **State**: none; while the registry's `ETag` or `Last-Modified` is the same, it is not read again.
//! - **Deletions**: what the registry no longer names is gone after a full run.
//! - **Cost**: one request (about 8 MB).
//!
//! # What it cannot see
//!
//! - When a repository last changed.
//! - What is not git and does not say so in its URL: it is listed as git.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/bower.rs` that fails without it:
//!
//! - asks for one list, and not again for the same one: `bower_asks_once`
//! - repositories come as their forges write them, each once: `bower_lists_repositories`
//! - Subversion and Mercurial are not git: `bower_tells_kinds_apart`
//! - packages without a repository, and with one that nobody can visit, are counted apart: `bower_counts_what_it_leaves_out`
//! - a broken body is an error with its place: `bower_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `bower_takes_its_url`

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::visit_type_of;
use crate::lister::json::each_entry;
use crate::lister::{
    Arguments, ConfigError, Entry, Lister, ListerError, Page, PageSource, Parameter, ParameterKind, RunInfo,
    Source, repository_url,
};
use crate::model::{NewOrigin, digest128};
use crate::transport::{Request, Response};

const BASE: &str = "https://registry.bower.io/packages";

/// Lists Bower's registry. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Bower;
/// use lamplighter::model::Timestamp;
///
/// let bower = Bower::new("https://registry.bower.io/packages".parse()?);
/// let start = bower.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(bower.request(&start[0])?.url.as_str(), "https://registry.bower.io/packages");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bower {
    url: Url,
    instance: String,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    url: Option<String>,
}

impl Bower {
    /// The registry whose list is at `url`. The instance is named `bower`.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self { url, instance: "bower".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}

impl Lister for Bower {
    /// There is one request.
    type Cursor = ();

    fn name(&self) -> &'static str {
        "bower"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<()> {
        vec![()]
    }

    fn request(&self, (): &()) -> Result<Request, ListerError> {
        Ok(Request::get(self.url.clone()).configured().validated().with_header("accept", "application/json"))
    }

    fn page(&self, (): &(), response: Response, page: &mut Page<()>) -> Result<(), ListerError> {
        let mut seen = HashSet::new();
        each_entry(&response.body, None, &[], |package: Package| {
            let what = || {
                let name = package.name.as_deref().unwrap_or("a package without a name");
                name.chars().take(80).collect::<String>()
            };
            match repository_url(package.url.as_deref().unwrap_or_default()) {
                Ok(Some(found)) => {
                    if seen.insert(digest128(found.url.as_bytes())) {
                        let visit_type = visit_type_of(&found);
                        page.origin(NewOrigin::new(found.url, visit_type))?;
                    }
                }
                Ok(None) => page.skip(what(), "it names no repository"),
                Err(e) => page.skip(what(), e),
            }
            Ok(())
        })?;
        Ok(())
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the list of packages"),
    Parameter::with_default("instance", ParameterKind::Text, "bower", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("bower", "Bower's registry", build)
        .visiting(&["git", "hg", "svn"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Bower::new(arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
