//! The Arch User Repository: every package base.
//!
//! # How it lists
//!
//! `GET {url}/packages-meta-v1.json.gz`, one answer: a list of packages with `Name`, `PackageBase`, `Version`, `URL` and
//! `LastModified`, read entry by entry, and unpacked where it still is packed. The AUR asks that this file be used
//! for such ends, and not its RPC.
//!
//! - **Authentication**: none. **Limits**: 4,000 requests a day; this takes one.
//! - **Origins**: two for each package base, with the date of its last change: `{url}/packages/{base}` (`aur`), with
//!   `artifacts` and `aur_metadata` in the shape that loaders take, and its repository `{url}/{base}.git` (`git`). What a
//!   base of several packages says of itself is what the package of its own name says, or else its first.
//! - **State**: none; while the file's `ETag` or `Last-Modified` is the same, it is not read again.
//! - **Deletions**: what the file no longer names is gone after a full run.
//! - **Cost**: one request (about 10 MB).
//!
//! # What it cannot see
//!
//! - Earlier versions: the file has the latest of each; the repository has them.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/aur.rs` that fails without it:
//!
//! - asks for one file, and not again for the same one: `aur_asks_once`
//! - the file may still be packed, or not: `aur_reads_the_file_packed_and_not`
//! - a base is two origins in the shape that loaders take: `aur_lists_a_base_twice`
//! - a base without a package of its name is listed, and one with it by that: `aur_a_base_of_other_names_is_listed`
//! - names keep their signs, and those that are none are counted: `aur_odd_packages_are_counted`
//! - a broken body is an error with its place: `aur_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `aur_takes_its_url`

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::under;
use crate::lister::compress::Unpacked;
use crate::lister::json::each_entry_of;
use crate::lister::{
    Arguments, ConfigError, Entry, Lister, ListerError, ListerErrorKind, Page, PageSource, Parameter,
    ParameterKind, RunInfo, Source,
};
use crate::model::{NewOrigin, Timestamp, VisitType, digest128};
use crate::transport::{Request, Response};

const BASE: &str = "https://aur.archlinux.org";

/// Lists the Arch User Repository. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Aur;
/// use lamplighter::model::Timestamp;
///
/// let aur = Aur::new(&"https://aur.archlinux.org".parse()?);
/// let start = aur.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(aur.request(&start[0])?.url.path(), "/packages-meta-v1.json.gz");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Aur {
    file: Url,
    /// Without a slash at its end.
    base: String,
    visit_type: VisitType,
    instance: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Package {
    name: String,
    #[serde(rename = "PackageBase")]
    base: String,
    version: String,
    #[serde(rename = "URL")]
    url: Option<String>,
    last_modified: Option<i64>,
}

impl Aur {
    /// The repository at `url`. The instance is named `aur`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            file: under(url, &["packages-meta-v1.json.gz"]),
            base: under(url, &[]).as_str().trim_end_matches('/').to_owned(),
            visit_type: VisitType::known("aur"),
            instance: "aur".to_owned(),
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// In the shape that Software Heritage's loader takes.
    fn origins(&self, package: &Package) -> [NewOrigin; 2] {
        let base = &package.base;
        let updated = package.last_modified.map(Timestamp::from_seconds);
        let artifact = json!({
            "filename": format!("{base}.tar.gz"),
            "url": format!("{}/cgit/aur.git/snapshot/{base}.tar.gz", self.base),
            "version": package.version,
        });
        let metadata = json!({
            "version": package.version,
            "project_url": package.url,
            "last_update": updated.map(|at| at.to_datetime().to_rfc3339()),
            "pkgname": base,
        });
        [
            NewOrigin::new(format!("{}/packages/{base}", self.base), self.visit_type.clone())
                .with_last_update(updated)
                .with_argument("artifacts", vec![artifact])
                .with_argument("aur_metadata", vec![metadata]),
            NewOrigin::new(format!("{}/{base}.git", self.base), VisitType::git()).with_last_update(updated),
        ]
    }
}

/// As the AUR names packages.
fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"@._+-".contains(&b);
    !name.is_empty() && name.len() <= 255 && !name.starts_with(['.', '-']) && name.bytes().all(known)
}

impl Lister for Aur {
    /// There is one request.
    type Cursor = ();

    fn name(&self) -> &'static str {
        "aur"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<()> {
        vec![()]
    }

    fn request(&self, (): &()) -> Result<Request, ListerError> {
        Ok(Request::get(self.file.clone()).configured().validated())
    }

    fn page(&self, (): &(), response: Response, page: &mut Page<()>) -> Result<(), ListerError> {
        const WHAT: &str = "packages-meta-v1.json.gz";
        let unpacked = Unpacked::new(&response.body)
            .map_err(|e| ListerError::new(ListerErrorKind::Io, WHAT).with_source(e))?;
        // Of each base, whether the package of its own name was seen.
        let mut seen: HashMap<[u8; 16], bool> = HashMap::new();
        each_entry_of(WHAT, unpacked, |package: Package| {
            if !is_name(&package.base) {
                let name: String = package.base.chars().take(80).collect();
                page.skip(format!("{name:?}"), "that can be no package base's name");
                return Ok(());
            }
            let own = package.name == package.base;
            let known = seen.entry(digest128(package.base.as_bytes()));
            let first = matches!(known, std::collections::hash_map::Entry::Vacant(_));
            let had_own = known.or_insert(own);
            if first || (own && !*had_own) {
                *had_own = *had_own || own;
                for origin in self.origins(&package) {
                    page.origin(origin)?;
                }
            }
            Ok(())
        })
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the repository"),
    Parameter::with_default("instance", ParameterKind::Text, "aur", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("aur", "the Arch User Repository", build)
        .visiting(&["aur", "git"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Aur::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
