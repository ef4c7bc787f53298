//! Nix and Guix: the sources that these distributions build from.
//!
//! # How it lists
//!
//! `GET {url}`, a manifest: `{"sources": [..]}`, read entry by entry. What an entry says is an archive, a single file, a checkout of a
//! repository, or the repository itself; how each is told is in `source.rs`.
//!
//! - Where no name tells whether a file is an archive, `HEAD` of its addresses, one after the other: the name that it
//!   redirects to, the name in `Content-Disposition`, then `Content-Type`. Asked once for each entry, until it changes.
//! - A repository on GitHub is listed as GitHub calls it: `GET https://api.github.com/repos/{owner}/{name}`, asked again after
//!   30 days. `canonicalize=false` leaves that out, and lists it as the manifest has it.
//!
//! - **Configuration**: `url` and `origin_upstream`, the distribution's own repository, are required.
//! - **Credentials**: a token for `api.github.com`, without any scope. Without one GitHub answers 60 requests an hour.
//! - **Limits**: GitHub's, and those of whoever has a file whose name does not tell.
//! - **Order**: of the manifest, which is shuffled.
//! - **Origins**: of type `tarball-directory` and `content` (by the first address), `git-checkout`, `hg-checkout` and `svn-export`, in
//!   the shape that loaders take; and the repositories, of type `git`, `hg`, `svn`.
//! - **State**: none.
//! - **Deletions**: what the manifest no longer names is gone after a full run.
//! - **Cost**: the manifest, which is read whole each time, because what was asked for besides belongs to its entries.
//!
//! # What it cannot see
//!
//! - What a file is where neither names nor headers tell: nothing is downloaded. Files behind `ftp://` are told by their names only.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/nixguix.rs` that fails without it:
//!
//! - asks for the manifest, and lists the distribution's repository: `nixguix_asks_for_the_manifest`
//! - archives and files come in the shape that loaders take: `nixguix_lists_archives_and_files`
//! - so do repositories and their checkouts: `nixguix_lists_repositories_and_checkouts`
//! - what no name tells is asked for, one address after the other: `nixguix_asks_what_a_file_is`
//! - who does not answer is left out, who is sick is a gap: `nixguix_a_probe_may_fail`
//! - GitHub's repositories are called as GitHub does: `nixguix_asks_github_for_names`
//! - files in a cache of Nix are listed there: `nixguix_lists_files_of_a_cache`
//! - hashes come in several forms, and the layout by the mode: `nixguix_reads_hashes`
//! - odd entries are counted and harm no other: `nixguix_odd_entries_are_counted`
//! - a broken manifest is an error with its place: `nixguix_a_broken_manifest_is_an_error_with_its_place`
//! - its parameters: `nixguix_takes_its_manifest`

mod hash;
mod source;

use std::collections::HashSet;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::files::{Nature, nature_of, nature_of_name};
use crate::lister::json::each_entry;
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, FailureKind, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source, fingerprint, location, repository_url,
};
use crate::model::{JsonObject, NewOrigin, VisitType, digest128};
use crate::transport::{Auth, Request, Response};
use source::{Found, Rules};

const CACHE: &str = "https://cache.nixos.org";

const GITHUB: &str = "https://github.com/";

/// A name on GitHub is asked for again after so long.
const DAYS: i64 = 30;

/// Lists the sources of a distribution. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::NixGuix;
/// use lamplighter::model::Timestamp;
///
/// let manifest = "https://guix.gnu.org/sources.json".parse()?;
/// let guix = NixGuix::new(&manifest, "https://git.savannah.gnu.org/cgit/guix.git/");
/// let start = guix.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(guix.request(&start[0])?.url, manifest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct NixGuix {
    manifest: Url,
    upstream: String,
    canonical: bool,
    rules: Rules,
    instance: String,
}

/// Where a listing of sources is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NixGuixCursor {
    /// At the manifest.
    Manifest,
    /// At a file whose name does not tell what it is.
    Probe {
        /// The entry, in JSON.
        entry: String,
        /// Which of its addresses is asked.
        at: usize,
    },
    /// At a repository on GitHub.
    GitHub {
        /// Owner and name.
        repository: String,
    },
}

#[derive(Deserialize)]
struct Repository {
    html_url: String,
}

impl NixGuix {
    /// The manifest at `url`, of a distribution whose own repository is at `upstream`. The instance is named by its host.
    pub fn new(url: &Url, upstream: impl Into<String>) -> Self {
        let mut manifest = url.clone();
        let path = manifest.path().trim_end_matches('/').to_owned();
        manifest.set_path(&path);
        Self {
            manifest,
            upstream: upstream.into(),
            canonical: true,
            rules: Rules::new(CACHE),
            instance: location(url),
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Asks GitHub what it calls its repositories, which is the default, or takes them as they are named.
    #[must_use]
    pub fn with_canonical_names(mut self, canonical: bool) -> Self {
        self.canonical = canonical;
        self
    }

    /// Leaves out files whose names end in this, such as `.iso`, besides those that it leaves out anyway.
    #[must_use]
    pub fn without<E: Into<String>>(mut self, endings: impl IntoIterator<Item = E>) -> Self {
        self.rules.ignored.extend(endings.into_iter().map(Into::into));
        self
    }

    /// Where files are that are in a cache of Nix.
    #[must_use]
    pub fn with_cache(mut self, url: impl Into<String>) -> Self {
        self.rules = Rules { cache: url.into().trim_end_matches('/').to_owned(), ..self.rules };
        self
    }

    fn manifest(&self, response: &Response, page: &mut Page<NixGuixCursor>) -> Result<(), ListerError> {
        let period = response.received_at.as_seconds().div_euclid(DAYS * 86_400);
        let mut seen = HashSet::new();
        page.origin(NewOrigin::new(self.upstream.clone(), VisitType::git()))?;
        let mut number = 0_u64;
        each_entry(&response.body, Some("sources"), &[], |entry: Value| {
            let at = number;
            number += 1;
            let Value::Object(entry) = entry else {
                page.skip(format!("source {at}"), "it is no object");
                return Ok(());
            };
            match self.rules.read(&entry, None) {
                Ok(Found::File(origin)) => page.origin(*origin),
                Ok(Found::Repository { kind, url, checkout }) => {
                    match checkout {
                        Some(Ok(checkout)) => page.origin(*checkout)?,
                        Some(Err(why)) => page.skip(format!("the checkout of {}", shown(&entry)), why),
                        None => {}
                    }
                    if seen.insert(digest128(format!("{kind} {url}").as_bytes())) {
                        return self.repository(kind, url, period, page);
                    }
                    Ok(())
                }
                Ok(Found::Unknown(urls)) => {
                    Self::probe(&entry, &urls, page);
                    Ok(())
                }
                Err(why) => {
                    page.skip(shown(&entry), why);
                    Ok(())
                }
            }
        })?;
        Ok(())
    }

    fn repository(
        &self,
        kind: &'static str,
        url: String,
        period: i64,
        page: &mut Page<NixGuixCursor>,
    ) -> Result<(), ListerError> {
        if self.canonical && kind == "git" {
            let known = repository_url(&url).ok().flatten();
            if let Some(name) = known.as_ref().and_then(|known| known.url.strip_prefix(GITHUB)) {
                let repository = name.to_ascii_lowercase();
                page.item(format!("github {repository}"), period, NixGuixCursor::GitHub { repository });
                return Ok(());
            }
        }
        page.origin(NewOrigin::new(url, VisitType::known(kind)))
    }

    fn probe(entry: &JsonObject, urls: &[String], page: &mut Page<NixGuixCursor>) {
        let text = Value::Object(entry.clone()).to_string();
        match next_probe(urls, 0) {
            Some(at) => {
                let first = urls.first().map_or("", String::as_str);
                let print = fingerprint(&text);
                page.item(format!("file {first}"), print, NixGuixCursor::Probe { entry: text, at });
            }
            None => page.skip(shown(entry), UNDETERMINED),
        }
    }

    /// What the headers of a file tell.
    fn probed(
        &self,
        (entry, at): (&str, usize),
        response: &Response,
        page: &mut Page<NixGuixCursor>,
    ) -> Result<(), ListerError> {
        let (fields, urls) = self.asked(entry)?;
        let nature = nature_of_answer(response);
        if nature == Nature::Unknown {
            match next_probe(&urls, at + 1) {
                Some(at) => page.next(NixGuixCursor::Probe { entry: entry.to_owned(), at }),
                None => page.skip(shown(&fields), UNDETERMINED),
            }
            return Ok(());
        }
        match self.rules.read(&fields, Some(nature)) {
            Ok(Found::File(origin)) => page.origin(*origin)?,
            Ok(_) => page.skip(shown(&fields), UNDETERMINED),
            Err(why) => page.skip(shown(&fields), why),
        }
        Ok(())
    }

    /// The entry of a probe, and its addresses.
    fn asked(&self, entry: &str) -> Result<(JsonObject, Vec<String>), ListerError> {
        let broken = || ListerError::cursor("an entry of a manifest that can no longer be read");
        let fields: JsonObject = serde_json::from_str(entry).map_err(|e| broken().with_source(e))?;
        match self.rules.read(&fields, None) {
            Ok(Found::Unknown(urls)) => Ok((fields, urls)),
            _ => Err(broken()),
        }
    }
}

const UNDETERMINED: &str = "neither its name nor who has it tells whether it is an archive";

/// The next address, from a place on, that can be asked.
fn next_probe(urls: &[String], from: usize) -> Option<usize> {
    let can = |url: &&String| url.starts_with("http://") || url.starts_with("https://");
    urls.iter().enumerate().skip(from).find(|(_, url)| can(url)).map(|(at, _)| at)
}

/// An entry, for an error: by its first address.
fn shown(entry: &JsonObject) -> String {
    let first = entry
        .get("urls")
        .and_then(|urls| urls.get(0))
        .or_else(|| ["git_url", "hg_url", "svn_url"].iter().find_map(|field| entry.get(*field)));
    let text = first.or_else(|| entry.get("type")).map(Value::to_string).unwrap_or_default();
    format!("the source {}", text.chars().take(200).collect::<String>())
}

/// What an answer's headers tell of a file: where it was redirected to, what it is called, its type.
fn nature_of_answer(response: &Response) -> Nature {
    let named = response.header("content-disposition").and_then(|header| {
        let mut parameters = header.split(';').filter_map(|p| p.split_once('='));
        parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("filename"))
    });
    let kind = response.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    [
        nature_of(&response.url),
        named.map_or(Nature::Unknown, |(_, name)| nature_of_name(name.trim().trim_matches('"'))),
    ]
    .into_iter()
    .find(|nature| *nature != Nature::Unknown)
    .unwrap_or_else(|| nature_of_type(&kind))
}

fn nature_of_type(kind: &str) -> Nature {
    const ARCHIVES: [&str; 13] = [
        "x-compress",
        "x-tar",
        "x-bzip2",
        "gzip",
        "x-gzip",
        "x-lzip",
        "zip",
        "java-archive",
        "zstd",
        "x-zstd",
        "x-xz",
        "x-7z-compressed",
        "x-gtar",
    ];
    match kind.split_once('/') {
        Some(("application", "json") | ("text", _)) => Nature::File,
        Some(("application", kind)) if ARCHIVES.contains(&kind) => Nature::Archive,
        _ => Nature::Unknown,
    }
}

impl Lister for NixGuix {
    type Cursor = NixGuixCursor;

    fn name(&self) -> &'static str {
        "nixguix"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<NixGuixCursor> {
        vec![NixGuixCursor::Manifest]
    }

    fn request(&self, at: &NixGuixCursor) -> Result<Request, ListerError> {
        match at {
            NixGuixCursor::Manifest => Ok(Request::get(self.manifest.clone()).configured()),
            NixGuixCursor::Probe { entry, at } => {
                let urls = self.asked(entry)?.1;
                let url = urls.get(*at).map(String::as_str).unwrap_or_default();
                let url = Url::parse(url).map_err(|e| ListerError::cursor(url).with_source(e))?;
                let mut request = Request::get(url);
                request.method = Method::HEAD;
                Ok(request)
            }
            NixGuixCursor::GitHub { repository } => {
                let url = format!("https://api.github.com/repos/{repository}");
                let url = Url::parse(&url).map_err(|e| ListerError::cursor(url).with_source(e))?;
                let request = Request::get(url).with_header("accept", "application/vnd.github+json");
                Ok(request.with_auth(Auth::bearer()))
            }
        }
    }

    fn page(
        &self,
        at: &NixGuixCursor,
        response: Response,
        page: &mut Page<NixGuixCursor>,
    ) -> Result<(), ListerError> {
        match at {
            NixGuixCursor::Manifest => self.manifest(&response, page),
            NixGuixCursor::Probe { entry, at } => self.probed((entry, *at), &response, page),
            NixGuixCursor::GitHub { .. } => {
                let answer: Repository = response.json()?;
                if !answer.html_url.starts_with(GITHUB) {
                    let why = format!("at html_url: {:?} is not on GitHub", answer.html_url);
                    return Err(ListerError::parse(why));
                }
                page.origin(NewOrigin::new(answer.html_url, VisitType::git()))
            }
        }
    }

    fn recover(&self, at: &NixGuixCursor, failure: &Failure) -> Recovery<NixGuixCursor> {
        let refused = failure.status().filter(|s| s.is_client_error() && *s != StatusCode::TOO_MANY_REQUESTS);
        match at {
            NixGuixCursor::Probe { entry, at }
                if refused.is_some() || matches!(failure.kind, FailureKind::Transport(_)) =>
            {
                let urls = self.asked(entry).map(|(_, urls)| urls).unwrap_or_default();
                match next_probe(&urls, at + 1) {
                    Some(at) => Recovery::replaced(vec![NixGuixCursor::Probe { entry: entry.clone(), at }]),
                    None => Recovery::skip("nobody has the file of whom its manifest says so"),
                }
            }
            NixGuixCursor::GitHub { .. }
                if failure.is_absent() || refused == Some(StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS) =>
            {
                Recovery::skip("GitHub has no such repository")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::required("url", ParameterKind::Url, "the manifest, such as https://guix.gnu.org/sources.json"),
    Parameter::required("origin_upstream", ParameterKind::Text, "the distribution's own git repository"),
    Parameter::optional("instance", ParameterKind::Text, "name of the instance; by default the host"),
    Parameter::with_default("canonicalize", ParameterKind::Boolean, "true", "ask GitHub for its names"),
    Parameter::optional(
        "extensions_to_ignore",
        ParameterKind::Text,
        "endings of files to leave out besides the usual ones, such as .fbx,.blend",
    ),
    Parameter::with_default("nixos_cache_url", ParameterKind::Url, CACHE, "the cache that narinfo is of"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("nixguix", "Sources of Nix and Guix", build)
        .visiting(&[
            "content",
            "git",
            "git-checkout",
            "hg",
            "hg-checkout",
            "svn",
            "svn-export",
            "tarball-directory",
        ])
        .with_parameters(PARAMETERS)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let url = arguments.required_url("url")?;
    let upstream = arguments.text("origin_upstream").unwrap_or_default();
    if let Err(e) = crate::model::check_origin_url(upstream) {
        return Err(arguments.wrong("origin_upstream", e.to_string()));
    }
    let mut lister = NixGuix::new(&url, upstream)
        .with_canonical_names(arguments.boolean("canonicalize"))
        .without(arguments.texts("extensions_to_ignore"));
    if let Some(cache) = arguments.text("nixos_cache_url") {
        lister = lister.with_cache(cache);
    }
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
