//! pub.dev, the registry of Dart and Flutter: every package.
//!
//! # How it lists
//!
//! `GET {url}api/package-names` answers `{"packages": [names], "nextUrl"}`, a list for mirrors; `nextUrl` is followed where there
//! is one. Then `GET {url}api/packages/{name}` of each, with the validator that it gave the last time.
//!
//! - **Authentication**: none. **Limits**: none documented; the transport's politeness holds.
//! - **Order**: of names.
//! - **Origins**: `{url}packages/{name}`, whose last update is the latest `published` of its versions. A package
//!   that is `isDiscontinued` counts as archived.
//! - **State**: none. A package whose answer has not changed costs a condition and an empty answer.
//! - **Deletions**: a full run retires what the list no longer names; a package that is not there
//!   (404) although it was in the list is counted.
//! - **Cost**: one request, and one for each package (60,000 and more).
//!
//! # What it cannot see
//!
//! - Which packages changed, without asking for each: the list has names only.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/pubdev.rs` that fails without it:
//!
//! - asks for the names, and for each package by a condition: `pubdev_asks_for_names_and_packages`
//! - follows `nextUrl`, on its own host: `pubdev_follows_the_next_url`
//! - the last update is the latest date of a version: `pubdev_gives_the_latest_date`
//! - a package that went meanwhile is counted, other failures are gaps: `pubdev_a_package_that_went_is_counted`
//! - packages without versions or dates are listed without a date: `pubdev_a_package_may_have_no_date`
//! - discontinued packages are archived: `pubdev_discontinued_packages_are_archived`
//! - names that can be no package's are counted: `pubdev_odd_names_are_counted`
//! - a broken body is an error with its place: `pubdev_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `pubdev_takes_its_url`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{on_the_same_host, under};
use crate::lister::json::each_entry;
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Failure, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://pub.dev/";

/// Lists pub.dev. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::PubDev;
/// use lamplighter::model::Timestamp;
///
/// let pub_dev = PubDev::new(&"https://pub.dev/".parse()?);
/// let start = pub_dev.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(pub_dev.request(&start[0])?.url.as_str(), "https://pub.dev/api/package-names");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct PubDev {
    base: Url,
    visit_type: VisitType,
    instance: String,
}

/// Where a listing of pub.dev is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PubDevCursor {
    /// A page of names; the first where there is no address.
    Names(Option<Url>),
    /// A package.
    Package(String),
}

#[derive(Deserialize)]
struct Package {
    versions: Vec<Version>,
    #[serde(rename = "isDiscontinued", default)]
    discontinued: Option<bool>,
}

#[derive(Deserialize)]
struct Version {
    published: Option<String>,
}

impl PubDev {
    /// The registry at `url`. The instance is named `pubdev`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self { base: under(url, &[]), visit_type: VisitType::known("pubdev"), instance: "pubdev".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    fn names(&self, response: &Response, page: &mut Page<PubDevCursor>) -> Result<(), ListerError> {
        let others = each_entry(&response.body, Some("packages"), &["nextUrl"], |name: String| {
            if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                page.follow(PubDevCursor::Package(name));
            } else {
                let name: String = name.chars().take(80).collect();
                page.skip(format!("{name:?}"), "that can be no package's name");
            }
            Ok(())
        })?;
        match others.get("nextUrl") {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(next)) => {
                let wrong = |e| ListerError::parse(format!("at nextUrl: {next:?}")).with_source(e);
                let next = on_the_same_host(&self.base, response.url.join(next).map_err(wrong)?)?;
                page.next(PubDevCursor::Names(Some(next)));
                Ok(())
            }
            Some(_) => Err(ListerError::parse("at nextUrl: it is neither a text nor null")),
        }
    }

    fn package(
        &self,
        name: &str,
        response: &Response,
        page: &mut Page<PubDevCursor>,
    ) -> Result<(), ListerError> {
        let package: Package = response.json()?;
        let mut updated = None;
        for (n, version) in package.versions.iter().enumerate() {
            let Some(text) = version.published.as_deref() else { continue };
            let wrong = |e| {
                ListerError::parse(format!("at versions[{n}].published: {text:?} is no date")).with_source(e)
            };
            updated = updated.max(Some(Timestamp::parse(text).map_err(wrong)?));
        }
        let origin = NewOrigin::new(under(&self.base, &["packages", name]), self.visit_type.clone());
        // Where nothing is said of it, it is not discontinued.
        page.origin(origin.with_last_update(updated).with_archived(package.discontinued.unwrap_or(false)))
    }
}

impl Lister for PubDev {
    type Cursor = PubDevCursor;

    fn name(&self) -> &'static str {
        "pubdev"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<PubDevCursor> {
        vec![PubDevCursor::Names(None)]
    }

    fn request(&self, at: &PubDevCursor) -> Result<Request, ListerError> {
        let request = match at {
            PubDevCursor::Names(None) => {
                Request::get(under(&self.base, &["api", "package-names"])).configured()
            }
            PubDevCursor::Names(Some(next)) => Request::get(next.clone()),
            PubDevCursor::Package(name) => {
                Request::get(under(&self.base, &["api", "packages", name])).configured().validated()
            }
        };
        Ok(request.with_header("accept", "application/json"))
    }

    fn page(
        &self,
        at: &PubDevCursor,
        response: Response,
        page: &mut Page<PubDevCursor>,
    ) -> Result<(), ListerError> {
        match at {
            PubDevCursor::Names(_) => self.names(&response, page),
            PubDevCursor::Package(name) => self.package(name, &response, page),
        }
    }

    fn recover(&self, at: &PubDevCursor, failure: &Failure) -> Recovery<PubDevCursor> {
        match at {
            PubDevCursor::Package(_) if failure.is_absent() => {
                Recovery::skip("the package went since the names were read")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the registry"),
    Parameter::with_default("instance", ParameterKind::Text, "pubdev", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("pubdev", "pub.dev (Dart, Flutter)", build)
        .telling(&[Fact::Archived])
        .visiting(&["pubdev"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = PubDev::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
