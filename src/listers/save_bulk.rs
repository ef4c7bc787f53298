//! A list of origins to be archived, each asked for whether it is there: what partners hand in for saving many at once.
//!
//! # How it lists
//!
//! `GET {url}?page=N&per_page=M` from page 1 until the JSON list is empty; its entries are `{"origin_url", "visit_type"}`.
//! Then each origin is asked itself, over HTTP, by what its visit type wants:
//!
//! | visit type | asked | is one when |
//! |---|---|---|
//! | `git` | `GET {origin}/info/refs?service=git-upload-pack` | refs are advertised, or listed (the older, *dumb* form) |
//! | `hg` | `GET {origin}?cmd=capabilities` | the answer is of type `application/mercurial-…` |
//! | `svn` | `PROPFIND {origin}`, depth 0 | the properties are of Subversion |
//! | `bzr` | `GET {origin}/.bzr/branch-format` | the file begins with `Bazaar` |
//! | `tarball-…` | `HEAD {origin}` | it is there, and an archive by its name or its type |
//!
//! - **Credentials**: a bearer token for the list, where it wants one; origins are asked without. **Limits**: those
//!   of each origin's host.
//! - **Order**: the list's. **State**: none. What was rejected is counted with the reason and asked for again in
//!   the next run; Software Heritage's `rejected_origins` is not needed.
//! - **Cost**: a request for each page and one for each origin.
//! - **Origins**: as they were handed in. An archive has the arguments that its loader takes (`checksums`, none of
//!   them known).
//! - **Deletions**: none: that something is not handed in any more does not say that it is gone.
//!
//! # What it cannot see
//!
//! What is not reached over HTTP (`git:`, `svn:`, `rsync:`, `pserver:`, `ssh:`, and so all of CVS): rejected as *unsupported*, where
//! Software Heritage asks by those protocols. A Subversion repository behind a redirect: the address that it leads to
//! is told. Whether a repository has anything in it; dates.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/save_bulk.rs` that fails without it:
//!
//! - asks page by page until one is empty: `save_bulk_asks_until_a_page_is_empty`
//! - each origin is asked by its visit type: `save_bulk_asks_each_origin_by_its_type`
//! - other protocols and types are unsupported, and that is said: `save_bulk_what_http_cannot_ask_is_unsupported`
//! - an origin is listed when it is what it is said to be: `save_bulk_lists_what_is_there`
//! - what answers and is another thing is rejected: `save_bulk_what_is_something_else_is_rejected`
//! - what refuses is rejected with its status, and what is ill is a gap:
//!   `save_bulk_what_refuses_is_rejected_and_what_is_ill_is_a_gap`
//! - odd entries are counted: `save_bulk_odd_entries_are_counted`
//! - what is no list is an error with its place: `save_bulk_what_is_no_list_is_an_error`
//! - says nothing of what was not handed in: `save_bulk_says_nothing_of_others`
//! - its parameters: `save_bulk_takes_its_parameters`

use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::archives::is_archive;
use super::under;
use crate::lister::location;
use crate::lister::{
    Arguments, ConfigError, Coverage, Entry, Failure, FailureKind, Lister, ListerError, Mode, Page,
    PageSource, Parameter, ParameterKind, Recovery, RunInfo, Source,
};
use crate::model::{NewOrigin, VisitType, check_origin_url};
use crate::transport::{Auth, Request, Response, TransportErrorKind};

/// Packages that are archives under names of their own.
const PACKAGES: &[&str] =
    &[".7z", ".crate", ".gem", ".jar", ".love", ".oxt", ".pak", ".vsix", ".war", ".whl"];

/// What servers say that archives are.
const TYPES: &[&str] = &[
    "application/gzip",
    "application/java-archive",
    "application/x-7z-compressed",
    "application/x-bzip2",
    "application/x-compress",
    "application/x-gtar",
    "application/x-gzip",
    "application/x-lzip",
    "application/x-lzma",
    "application/x-tar",
    "application/x-xz",
    "application/x-zstd",
    "application/zip",
    "application/zstd",
];

/// Lists origins that were handed in. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::SaveBulk;
/// use lamplighter::model::Timestamp;
///
/// let bulk = SaveBulk::new("https://partner.example/origins/".parse()?, "partner");
/// let start = bulk.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(bulk.request(&start[0])?.url.query(), Some("page=1&per_page=1000"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SaveBulk {
    list: Url,
    instance: String,
    per_page: u64,
}

/// Where a listing of what was handed in is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SaveBulkCursor {
    /// At a page of the list.
    Page(u64),
    /// At an origin.
    Origin {
        /// As it was handed in.
        url: Url,
        /// Its visit type.
        visit_type: String,
    },
}

#[derive(Deserialize)]
struct Submitted {
    origin_url: String,
    visit_type: String,
}

/// How an origin is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Git,
    Hg,
    Svn,
    Bzr,
    Archive,
}

impl Probe {
    /// That of a visit type: `git-checkout` is git, too.
    fn of(visit_type: &str) -> Option<Self> {
        match visit_type.split('-').next() {
            Some("git") => Some(Self::Git),
            Some("hg") => Some(Self::Hg),
            Some("svn") => Some(Self::Svn),
            Some("bzr") => Some(Self::Bzr),
            Some("tarball") => Some(Self::Archive),
            _ => None,
        }
    }

    fn request(self, origin: &Url) -> Result<Request, ListerError> {
        Ok(match self {
            Self::Git => {
                let mut url = under(origin, &["info", "refs"]);
                url.set_query(Some("service=git-upload-pack"));
                Request::get(url)
            }
            Self::Hg => {
                let mut url = origin.clone();
                url.set_query(Some("cmd=capabilities"));
                Request::get(url)
            }
            Self::Svn => {
                let method = Method::from_bytes(b"PROPFIND")
                    .map_err(|e| ListerError::cursor("no such method").with_source(e))?;
                with_method(Request::get(origin.clone()).with_header("depth", "0"), method)
            }
            Self::Bzr => Request::get(under(origin, &[".bzr", "branch-format"])),
            Self::Archive => with_method(Request::get(origin.clone()), Method::HEAD),
        })
    }

    /// Why what answered is something else; nothing where it is what it should be.
    fn refute(self, origin: &Url, response: &Response) -> Result<Option<&'static str>, ListerError> {
        let kind = response.header("content-type").unwrap_or_default().to_ascii_lowercase();
        let (fits, not) = match self {
            Self::Git => {
                let fits = kind.starts_with("application/x-git-upload-pack-advertisement")
                    || response.text()?.lines().next().is_some_and(is_ref);
                (fits, "it is no git repository: no refs are advertised")
            }
            Self::Hg => (
                kind.starts_with("application/mercurial-"),
                "it is no Mercurial repository: it does not tell its capabilities",
            ),
            Self::Svn => {
                let dav = response.headers.get_all("dav").iter().filter_map(|v| v.to_str().ok());
                let fits = response.status.as_u16() == 207
                    && (dav.into_iter().any(|v| v.contains("subversion"))
                        || response.text()?.contains("http://subversion.tigris.org/xmlns/"));
                (fits, "it is no Subversion repository: its properties are of none")
            }
            Self::Bzr => (
                response.text()?.starts_with("Bazaar"),
                "it is no Bazaar branch: its .bzr/branch-format is none",
            ),
            Self::Archive => {
                let kind = kind.split(';').next().unwrap_or_default().trim();
                let fits =
                    is_named_archive(origin) || is_named_archive(&response.url) || TYPES.contains(&kind);
                (fits, "it is no archive, by its name or its type")
            }
        };
        Ok((!fits).then_some(not))
    }
}

fn with_method(mut request: Request, method: Method) -> Request {
    request.method = method;
    request
}

/// A line of the older form: an object's name and a ref.
fn is_ref(line: &str) -> bool {
    let Some((object, name)) = line.split_once('\t') else { return false };
    matches!(object.len(), 40 | 64)
        && object.bytes().all(|b| b.is_ascii_hexdigit())
        && (name.starts_with("refs/") || name == "HEAD")
}

/// Whether a part of the path or the query is an archive's name.
fn is_named_archive(url: &Url) -> bool {
    let named = |name: &str| {
        let lower = name.to_ascii_lowercase();
        is_archive(name) || PACKAGES.iter().any(|e| lower.strip_suffix(e).is_some_and(|s| !s.is_empty()))
    };
    url.path_segments().into_iter().flatten().any(named) || url.query_pairs().any(|(_, v)| named(&v))
}

impl SaveBulk {
    /// The list at `list`, under a name of its own.
    pub fn new(list: Url, instance: impl Into<String>) -> Self {
        Self { list, instance: instance.into(), per_page: 1000 }
    }

    /// How many entries a page has.
    #[must_use]
    pub fn with_per_page(mut self, per_page: u64) -> Self {
        self.per_page = per_page.max(1);
        self
    }

    fn entries(number: u64, response: &Response, page: &mut Page<SaveBulkCursor>) -> Result<(), ListerError> {
        let entries: Vec<Value> = response.json()?;
        if entries.is_empty() {
            return Ok(());
        }
        for (n, entry) in entries.into_iter().enumerate() {
            let place = format!("entry {} of page {number}", n + 1);
            match serde_json::from_value::<Submitted>(entry) {
                Ok(entry) => match checked(&entry) {
                    Ok(url) => page.follow(SaveBulkCursor::Origin { url, visit_type: entry.visit_type }),
                    Err(why) => {
                        let url: String = entry.origin_url.chars().take(200).collect();
                        page.skip(format!("{url:?} ({place})"), why);
                    }
                },
                Err(e) => page.skip(place, format!("has no origin_url or no visit_type: {e}")),
            }
        }
        page.next(SaveBulkCursor::Page(number.saturating_add(1)));
        Ok(())
    }
}

/// The address of an entry that can be asked for; or why it cannot.
fn checked(entry: &Submitted) -> Result<Url, String> {
    check_origin_url(&entry.origin_url).map_err(|why| format!("cannot be visited: {why}"))?;
    let url = Url::parse(&entry.origin_url).map_err(|e| format!("is no URL: {e}"))?;
    let kind: String = entry.visit_type.chars().take(40).collect();
    if Probe::of(&entry.visit_type).is_none() || VisitType::new(&entry.visit_type).is_err() {
        return Err(format!("unsupported: the visit type {kind:?} cannot be asked for over HTTP"));
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("unsupported: {}: is not asked for, only http: and https:", url.scheme()));
    }
    Ok(url)
}

impl Lister for SaveBulk {
    type Cursor = SaveBulkCursor;

    fn name(&self) -> &'static str {
        "save_bulk"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<SaveBulkCursor> {
        vec![SaveBulkCursor::Page(1)]
    }

    fn request(&self, at: &SaveBulkCursor) -> Result<Request, ListerError> {
        match at {
            SaveBulkCursor::Page(number) => {
                let mut url = self.list.clone();
                url.query_pairs_mut()
                    .append_pair("page", &number.to_string())
                    .append_pair("per_page", &self.per_page.to_string());
                Ok(Request::get(url)
                    .with_header("accept", "application/json")
                    .with_auth(Auth::bearer())
                    .configured())
            }
            SaveBulkCursor::Origin { url, visit_type } => Probe::of(visit_type)
                .ok_or_else(|| ListerError::cursor(format!("no visit type {visit_type:?} is asked for")))?
                .request(url),
        }
    }

    fn page(
        &self,
        at: &SaveBulkCursor,
        response: Response,
        page: &mut Page<SaveBulkCursor>,
    ) -> Result<(), ListerError> {
        let (url, kind) = match at {
            SaveBulkCursor::Page(number) => return Self::entries(*number, &response, page),
            SaveBulkCursor::Origin { url, visit_type } => (url, visit_type),
        };
        let no = |_| ListerError::cursor(format!("no visit type {kind:?} is asked for"));
        let visit_type = VisitType::new(kind).map_err(no)?;
        let Some(probe) = Probe::of(kind) else { return Ok(()) };
        if let Some(why) = probe.refute(url, &response)? {
            if response.url == probe.request(url)?.url {
                page.skip(url, why);
            } else {
                page.skip(url, format!("{why}; it led to {}", location(&response.url)));
            }
            return Ok(());
        }
        let mut origin = NewOrigin::new(url.as_str(), visit_type);
        if probe == Probe::Archive {
            origin =
                origin.with_argument("checksum_layout", "standard").with_argument("checksums", json!({}));
        }
        page.origin(origin)
    }

    fn recover(&self, at: &SaveBulkCursor, failure: &Failure) -> Recovery<SaveBulkCursor> {
        if matches!(at, SaveBulkCursor::Page(_)) {
            return Recovery::gap();
        }
        match failure.kind {
            // What the host says of it. One that is ill, or cannot be reached now, is asked again.
            FailureKind::Status(status) if status.is_client_error() && status.as_u16() != 429 => {
                Recovery::skip(format!("it is not to be had: {status}"))
            }
            FailureKind::Transport(TransportErrorKind::Forbidden) => {
                Recovery::skip("its address is a private one, or leads to one")
            }
            _ => Recovery::gap(),
        }
    }

    fn coverage(&self, _: Mode) -> Coverage {
        Coverage::New
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::required("url", ParameterKind::Url, "the list, as https://partner.example/origins/"),
    Parameter::required("instance", ParameterKind::Text, "a name for the list, which no other list has"),
    Parameter::with_default("per_page", ParameterKind::Integer, "1000", "entries a page"),
    Parameter::optional("token", ParameterKind::Secret, "a token for the list, where it wants one"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("save_bulk", "Origins handed in to be archived, each asked for", build)
        .visiting(&["git", "hg", "svn", "bzr", "tarball-directory"])
        .with_parameters(PARAMETERS)
        .with_positions(&["page"])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let list = arguments.required_url("url")?;
    let instance = arguments.text("instance").filter(|name| !name.trim().is_empty());
    let instance = instance.ok_or_else(|| arguments.missing("instance= (a name for the list)"))?;
    let per_page = arguments.integer("per_page").unwrap_or(1000);
    if per_page == 0 {
        return Err(arguments.wrong("per_page", "must be at least 1"));
    }
    Ok(Arc::new(Source::stateless(SaveBulk::new(list, instance).with_per_page(per_page))))
}
