//! Homebrew, packages for macOS and Linux: the source of every formula.
//!
//! # How it lists
//!
//! `GET {url}/api/formula.json`, a list of all formulae, read entry by entry. Of each, `urls.stable` says where its source is: an
//! archive or a file with its SHA-256, or a repository; `urls.head` the repository that it is developed in.
//!
//! - **Credentials**: none. **Limits**: none documented.
//! - **Order**: the list's, by name.
//! - **Origins**: archives and single files, of type `tarball-directory` and `content`, in the shape that loaders take (`checksums`,
//!   `checksum_layout`, `fallback_urls`); and repositories, of type `git`, `hg`, `svn`, each once, in the forms in which forges list
//!   them. The source of a formula that is deprecated or disabled counts as archived.
//! - **State**: none; while the list's `ETag` or `Last-Modified` is the same, it is not read again.
//! - **Deletions**: what no formula names any longer is gone after a full run.
//! - **Cost**: one request (some 30 MB).
//!
//! # What it cannot see
//!
//! - Casks, which are programs and no sources. Resources and patches of formulae, and when a formula changed: the list has neither.
//! - Whether a file is an archive, where its name does not tell: it is left out, and counted.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/homebrew.rs` that fails without it:
//!
//! - asks for one list, and not again for the same one: `homebrew_asks_once`
//! - archives and files come in the shape that loaders take: `homebrew_lists_archives_and_files`
//! - so do repositories, each once: `homebrew_lists_repositories`
//! - what is a repository is said, or told by its address: `homebrew_tells_repositories_by_their_address`
//! - sources of formulae that are given up are archived: `homebrew_deprecated_formulae_are_archived`
//! - odd formulae are counted: `homebrew_odd_formulae_are_counted`
//! - a broken list is an error with its place: `homebrew_a_broken_list_is_an_error_with_its_place`
//! - its parameters: `homebrew_takes_its_url`

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::files::{Nature, nature_of};
use super::under;
use crate::lister::json::each_entry;
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    RunInfo, Source, repository_url,
};
use crate::model::{NewOrigin, VisitType, digest128};
use crate::transport::{Request, Response};

const BASE: &str = "https://formulae.brew.sh";

/// Lists Homebrew. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Homebrew;
/// use lamplighter::model::Timestamp;
///
/// let homebrew = Homebrew::new(&"https://formulae.brew.sh".parse()?);
/// let start = homebrew.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(homebrew.request(&start[0])?.url.path(), "/api/formula.json");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Homebrew {
    list: Url,
    instance: String,
}

#[derive(Deserialize)]
struct Formula {
    name: Option<String>,
    #[serde(default)]
    urls: Option<Urls>,
    #[serde(default)]
    deprecated: Option<bool>,
    #[serde(default)]
    disabled: Option<bool>,
}

#[derive(Default, Deserialize)]
struct Urls {
    #[serde(default)]
    stable: Option<Download>,
    #[serde(default)]
    head: Option<Download>,
}

#[derive(Deserialize)]
struct Download {
    url: Option<String>,
    /// How it is had, where the address does not tell.
    using: Option<Value>,
    /// SHA-256.
    checksum: Option<String>,
}

impl Download {
    /// The kind of repository that it is; none where it is a file.
    fn repository(&self, url: &str) -> Option<&'static str> {
        const KINDS: [&str; 5] = ["git", "hg", "svn", "bzr", "cvs"];
        let using = self.using.as_ref().and_then(Value::as_str).unwrap_or_default();
        if let Some(kind) = KINDS.into_iter().find(|kind| using.trim_start_matches(':') == *kind) {
            return Some(kind);
        }
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.split_once('+').map_or(scheme, |(kind, _)| kind);
        if let Some(kind) = KINDS.into_iter().find(|kind| *kind == scheme) {
            return Some(kind);
        }
        let host = rest.split('/').next().unwrap_or_default();
        match host {
            _ if rest.strip_suffix(".git").is_some() || host.starts_with("git.sr.ht") => Some("git"),
            "svn.apache.org" => Some("svn"),
            _ => None,
        }
    }
}

impl Homebrew {
    /// The site at `url`. The instance is named `homebrew`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self { list: under(url, &["api", "formula.json"]), instance: "homebrew".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}

/// The origin of a file; or why it is none.
fn file(url: &str, download: &Download, given_up: bool) -> Result<NewOrigin, String> {
    let parsed = Url::parse(url).map_err(|e| format!("its address is no URL ({e})"))?;
    if !matches!(parsed.scheme(), "http" | "https" | "ftp") {
        return Err(format!("nobody visits {}: URLs", parsed.scheme()));
    }
    let sum = download.checksum.as_deref().unwrap_or_default().to_ascii_lowercase();
    if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("it has no SHA-256".to_owned());
    }
    let visit_type = match nature_of(&parsed) {
        Nature::Archive => "tarball-directory",
        Nature::File => "content",
        Nature::Unknown => return Err("its name does not tell whether it is an archive".to_owned()),
    };
    Ok(NewOrigin::new(url, VisitType::known(visit_type))
        .with_archived(given_up)
        .with_argument("checksums", json!({ "sha256": sum }))
        .with_argument("checksum_layout", "standard")
        .with_argument("fallback_urls", json!([])))
}

impl Lister for Homebrew {
    /// There is one request.
    type Cursor = ();

    fn name(&self) -> &'static str {
        "homebrew"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<()> {
        vec![()]
    }

    fn request(&self, (): &()) -> Result<Request, ListerError> {
        Ok(Request::get(self.list.clone()).configured().validated().with_header("accept", "application/json"))
    }

    fn page(&self, (): &(), response: Response, page: &mut Page<()>) -> Result<(), ListerError> {
        let mut seen = HashSet::new();
        let mut number = 0_u64;
        each_entry(&response.body, None, &[], |formula: Formula| {
            let name = formula.name.unwrap_or_else(|| format!("[{number}]"));
            number += 1;
            let shown = |what: &str| format!("{what} of {:?}", name.chars().take(80).collect::<String>());
            let given_up = formula.deprecated.unwrap_or(false) || formula.disabled.unwrap_or(false);
            let urls = formula.urls.unwrap_or_default();
            if urls.stable.is_none() && urls.head.is_none() {
                page.skip(shown("the source"), "there is none");
            }
            for (what, is_head, download) in
                [("the source", false, urls.stable), ("the repository", true, urls.head)]
            {
                let Some(download) = download else { continue };
                let url = download.url.as_deref().map(str::trim).unwrap_or_default();
                if url.is_empty() {
                    page.skip(shown(what), "it has no address");
                    continue;
                }
                let kind = download.repository(url).or(is_head.then_some("git"));
                let Some(kind) = kind else {
                    match file(url, &download, given_up) {
                        Ok(origin) => page.origin(origin)?,
                        Err(why) => page.skip(shown(what), why),
                    }
                    continue;
                };
                match repository_url(url) {
                    Ok(Some(found)) => {
                        let kind = found.kind.unwrap_or(kind);
                        if seen.insert(digest128(format!("{kind} {}", found.url).as_bytes())) {
                            page.origin(NewOrigin::new(found.url, VisitType::known(kind)))?;
                        }
                    }
                    Ok(None) => page.skip(shown(what), "it names no repository"),
                    Err(e) => page.skip(shown(what), e),
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the site of the formulae"),
    Parameter::with_default("instance", ParameterKind::Text, "homebrew", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("homebrew", "Homebrew (macOS, Linux)", build)
        .telling(&[Fact::Archived])
        .visiting(&["bzr", "content", "cvs", "git", "hg", "svn", "tarball-directory"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Homebrew::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
