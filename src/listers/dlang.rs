//! The registry of D: the repository of every package.
//!
//! # How it lists
//!
//! `GET {url}/api/packages/dump`, one answer: a list of packages with `repository` (`kind`, `owner`, `project`) and
//! `stats.updatedAt`. It holds the readme of every version, and is read entry by entry.
//!
//! - **Authentication**: none. **Limits**: none documented.
//! - **Origins**: repositories on GitHub, GitLab and Bitbucket. Several packages of one repository are one
//!   origin, of the latest date.
//! - **State**: none; while the registry's `ETag` or `Last-Modified` is the same, it is not read again.
//! - **Deletions**: what the registry no longer names is gone after a full run.
//! - **Cost**: one request.
//!
//! # What it cannot see
//!
//! - Packages on other forges (`gitea` and the like): the registry does not say on which host they are. They
//!   are counted.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/dlang.rs` that fails without it:
//!
//! - asks for one list, and not again for the same one: `dlang_asks_once`
//! - repositories come with the hosts of their kinds, Bitbucket's too: `dlang_lists_repositories`
//! - several packages of one repository are one origin of the latest date: `dlang_one_repository_has_the_latest_date`
//! - other kinds, and packages without a repository or date, are counted: `dlang_counts_what_it_leaves_out`
//! - a broken body is an error with its place: `dlang_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `dlang_takes_its_url`

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use url::Url;

use super::{api, visit_type_of};
use crate::lister::json::each_entry;
use crate::lister::{
    Arguments, ConfigError, Entry, Lister, ListerError, Page, PageSource, Parameter, ParameterKind, RunInfo,
    Source, repository_url,
};
use crate::model::{NewOrigin, Timestamp, digest128};
use crate::transport::{Request, Response};

const BASE: &str = "https://code.dlang.org";

/// Lists the registry of D. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Dlang;
/// use lamplighter::model::Timestamp;
///
/// let dlang = Dlang::new(&"https://code.dlang.org".parse()?);
/// let start = dlang.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(dlang.request(&start[0])?.url.as_str(), "https://code.dlang.org/api/packages/dump");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dlang {
    dump: Url,
    instance: String,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    repository: Option<Place>,
    #[serde(default)]
    stats: Option<Stats>,
}

#[derive(Deserialize)]
struct Place {
    kind: Option<String>,
    owner: Option<String>,
    project: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    updated_at: Option<String>,
}

impl Dlang {
    /// The registry at `url`. The instance is named `dlang`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self { dump: api(url, &["api", "packages", "dump"]), instance: "dlang".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}

/// The URL that a place stands for; or why it stands for none.
fn url_of(place: &Place) -> Result<String, String> {
    let host = match place.kind.as_deref() {
        Some("github") => "github.com",
        Some("gitlab") => "gitlab.com",
        Some("bitbucket") => "bitbucket.org",
        Some(kind) => {
            return Err(format!("it is on a {kind:.40}, of which the registry does not say where it is"));
        }
        None => return Err("its repository is of no kind".to_owned()),
    };
    let (owner, project) =
        (place.owner.as_deref().unwrap_or_default(), place.project.as_deref().unwrap_or_default());
    if owner.is_empty() || project.is_empty() {
        return Err("its repository has no owner or no name".to_owned());
    }
    Ok(format!("https://{host}/{owner}/{project}"))
}

impl Lister for Dlang {
    /// There is one request.
    type Cursor = ();

    fn name(&self) -> &'static str {
        "dlang"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<()> {
        vec![()]
    }

    fn request(&self, (): &()) -> Result<Request, ListerError> {
        Ok(Request::get(self.dump.clone()).configured().validated().with_header("accept", "application/json"))
    }

    fn page(&self, (): &(), response: Response, page: &mut Page<()>) -> Result<(), ListerError> {
        let mut seen: HashMap<[u8; 16], Option<Timestamp>> = HashMap::new();
        each_entry(&response.body, None, &[], |package: Package| {
            let name: String = package.name.unwrap_or_else(|| "a package without a name".to_owned());
            let name: String = name.chars().take(80).collect();
            let Some(place) = package.repository else {
                page.skip(name, "it names no repository");
                return Ok(());
            };
            let found = match url_of(&place).map(|url| repository_url(&url)) {
                Ok(Ok(Some(found))) => found,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(e)) => {
                    page.skip(name, e);
                    return Ok(());
                }
                Err(why) => {
                    page.skip(name, why);
                    return Ok(());
                }
            };
            let text = package.stats.and_then(|stats| stats.updated_at);
            let updated = text.as_deref().and_then(|text| Timestamp::parse(text).ok());
            if let (Some(text), None) = (text, updated) {
                page.skip(format!("the date of {name}"), format!("{text:.40?} is no date"));
            }
            let known = seen.get(&digest128(found.url.as_bytes())).copied();
            if known.is_none_or(|known| updated > known) {
                seen.insert(digest128(found.url.as_bytes()), updated);
                let visit_type = visit_type_of(&found);
                page.origin(NewOrigin::new(found.url, visit_type).with_last_update(updated))?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the registry"),
    Parameter::with_default("instance", ParameterKind::Text, "dlang", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("dlang", "the registry of D", build).with_parameters(PARAMETERS).with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Dlang::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
