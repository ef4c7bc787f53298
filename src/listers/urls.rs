//! Urls: a list that somebody keeps, one origin a line.
//!
//! # How it lists
//!
//! `GET {url}`, one request, read line by line as it comes. A line is one of
//!
//! - a URL, or a URL, white space and a visit type (`https://hg.example/r hg`);
//! - a JSON object with `url` (or `origin_url`), and where they are known `visit_type`, `last_update` (RFC 3339),
//!   `is_fork`, `forked_from_url`, `archived`, `mirror`, `empty`;
//! - empty, or a comment that begins with `#`.
//!
//! The last line ends as the others do: a list that does not is cut. One without any origin has a comment at least.
//!
//! - **Credentials**: none needed; a token of the instance goes as `Authorization: Bearer`.
//! - **Limits**: none. A line of over 64 KiB, one that cannot be read and a URL that cannot be visited are skipped and
//!   counted.
//! - **State**: none. An unchanged list is not sent again, where the server tells (`ETag`, `Last-Modified`), and says of
//!   its origins what it said before. What is no longer in the list is gone.
//! - **Cost**: one request.
//! - **Origins**: as the lines say, of `visit_type` where a line does not say it. `instance` names the list: two lists
//!   must not share a name, or each would call the other's origins gone.
//!
//! # What it cannot see
//!
//! Whether there is anything at a URL.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/urls.rs` that fails without it:
//!
//! - needs a URL and a name, and a visit type that is one: `urls_needs_an_address_and_a_name`
//! - asks once, with a validator: `urls_asks_once`
//! - reads URLs with and without a visit type: `urls_reads_plain_lines`
//! - reads JSON lines with their facts, also between others: `urls_reads_json_lines`
//! - comments, empty lines, a byte order mark and the ends of lines of other systems are no origins:
//!   `urls_reads_lists_of_any_editor`
//! - what cannot be read is skipped by its line, and the rest is listed: `urls_odd_lines_are_counted`
//! - a line without an end in sight costs only itself: `urls_a_line_that_is_too_long_is_counted`
//! - an empty list is no error, and what is no list, or is cut, is one: `urls_an_empty_list_is_no_error`,
//!   `urls_what_is_no_list_is_an_error`, `urls_a_list_that_is_cut_is_an_error`
//! - a long list is given away as it is read: `urls_a_long_list_is_flushed_as_it_is_read`

use std::io::{BufRead, Read};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Lister, ListerError, ListerErrorKind, Page, PageSource, Parameter,
    ParameterKind, RunInfo, Source,
};
use crate::model::{NewOrigin, Timestamp, VisitType, check_origin_url};
use crate::transport::{Auth, Request, Response};

/// Longer lines hold no origin.
const LONGEST: u64 = 64 << 10;

/// Lists the origins of a list. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Urls;
/// use lamplighter::model::Timestamp;
///
/// let urls = Urls::new("https://lists.example/ours.txt".parse()?, "ours");
/// let start = urls.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(urls.request(&start[0])?.url.as_str(), "https://lists.example/ours.txt");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Urls {
    list: Url,
    instance: String,
    visit_type: VisitType,
}

/// Where a reading of a list is: at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UrlsCursor {}

/// A line in JSON.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "origin_url")]
    url: String,
    visit_type: Option<String>,
    last_update: Option<String>,
    is_fork: Option<bool>,
    forked_from_url: Option<String>,
    archived: Option<bool>,
    mirror: Option<bool>,
    empty: Option<bool>,
}

impl Urls {
    /// The list at `list`, under a name of its own.
    pub fn new(list: Url, instance: impl Into<String>) -> Self {
        Self { list, instance: instance.into(), visit_type: VisitType::git() }
    }

    /// The visit type of lines that do not say theirs; `git` by default.
    #[must_use]
    pub fn with_visit_type(mut self, visit_type: VisitType) -> Self {
        self.visit_type = visit_type;
        self
    }

    /// What a line says; or why it says nothing.
    fn origin(&self, line: &str) -> Result<NewOrigin, String> {
        let origin = if line.starts_with('{') { self.object(line)? } else { self.words(line)? };
        check_origin_url(&origin.url).map_err(|why| format!("cannot be visited: {why}"))?;
        Ok(origin)
    }

    fn words(&self, line: &str) -> Result<NewOrigin, String> {
        let mut words = line.split_whitespace();
        let url = words.next().unwrap_or_default();
        let visit_type = self.kind(words.next())?;
        if words.next().is_some() {
            return Err("has more than a URL and a visit type".to_owned());
        }
        Ok(NewOrigin::new(url, visit_type))
    }

    fn object(&self, line: &str) -> Result<NewOrigin, String> {
        let line: Line = serde_json::from_str(line).map_err(|e| format!("is no such JSON: {e}"))?;
        let visit_type = self.kind(line.visit_type.as_deref())?;
        let mut origin = NewOrigin::new(line.url, visit_type)
            .with_fork(line.is_fork)
            .with_archived(line.archived)
            .with_mirror(line.mirror)
            .with_empty(line.empty);
        if let Some(date) = line.last_update {
            let at = Timestamp::parse(&date).map_err(|_| format!("last_update: {date:?} is no date"))?;
            origin = origin.with_last_update(at);
        }
        Ok(match line.forked_from_url {
            Some(parent) => origin.with_forked_from(parent),
            None => origin,
        })
    }

    fn kind(&self, name: Option<&str>) -> Result<VisitType, String> {
        name.map_or_else(
            || Ok(self.visit_type.clone()),
            |name| VisitType::new(name).map_err(|e| e.to_string()),
        )
    }
}

/// Reads the next line as far as one may go; `None` at the end of the body.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<Option<LineEnd>> {
    line.clear();
    if reader.by_ref().take(LONGEST).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        return Ok(Some(LineEnd::Here));
    }
    let mut more = Vec::new();
    while reader.by_ref().take(LONGEST).read_until(b'\n', &mut more)? > 0 {
        if more.last() == Some(&b'\n') {
            return Ok(Some(LineEnd::FarOff));
        }
        more.clear();
    }
    Ok(Some(LineEnd::Nowhere))
}

/// Where a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Here,
    /// Behind more than a line may hold.
    FarOff,
    /// The body ends first.
    Nowhere,
}

impl Lister for Urls {
    type Cursor = UrlsCursor;

    fn name(&self) -> &'static str {
        "urls"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<UrlsCursor> {
        vec![UrlsCursor {}]
    }

    fn request(&self, _: &UrlsCursor) -> Result<Request, ListerError> {
        Ok(Request::get(self.list.clone()).with_auth(Auth::bearer()).configured().validated())
    }

    fn page(
        &self,
        _: &UrlsCursor,
        response: Response,
        page: &mut Page<UrlsCursor>,
    ) -> Result<(), ListerError> {
        let broken = |e| ListerError::new(ListerErrorKind::Io, "the spooled list").with_source(e);
        let mut reader = response.body.reader();
        let (mut bytes, mut number, mut said, mut used) = (Vec::new(), 0_u64, 0_u64, 0_u64);
        let mut why_not = String::new();
        let mut last = LineEnd::Nowhere;
        while let Some(ends) = next_line(&mut reader, &mut bytes).map_err(broken)? {
            last = ends;
            number += 1;
            let text = String::from_utf8_lossy(&bytes);
            let line = text.trim_start_matches('\u{feff}').trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            said += 1;
            let read = match ends {
                LineEnd::FarOff => Err(format!("has over {LONGEST} bytes")),
                LineEnd::Here | LineEnd::Nowhere => self.origin(line),
            };
            match read {
                Ok(origin) => {
                    used += 1;
                    page.origin(origin)?;
                }
                Err(why) => {
                    let start: String = line.chars().take(80).collect();
                    page.skip(format!("line {number} ({start:?})"), &why);
                    why_not = format!("line {number}: {why}");
                }
            }
        }
        // A page that is no list must not pass for an empty one.
        if said > 0 && used == 0 {
            return Err(ListerError::parse(format!("none of {said} lines is an origin; {why_not}")));
        }
        // Nothing else tells a list that is cut, or that never came, from a short one.
        if last == LineEnd::Nowhere {
            let why = "there is no end of a line: is it cut? (one without origins has a comment)";
            return Err(ListerError::parse(format!(
                "line {number}, at the end of {} bytes: {why}",
                response.body.len()
            )));
        }
        Ok(())
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::required("url", ParameterKind::Url, "the list, as https://lists.example/ours.txt"),
    Parameter::required("instance", ParameterKind::Text, "a name for the list, which no other list has"),
    Parameter::with_default("visit_type", ParameterKind::Text, "git", "of lines that do not say theirs"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("urls", "A list of origins, one a line", build)
        .visiting(&["git", "hg", "svn", "bzr", "cvs"])
        .telling(&Fact::ALL)
        .with_parameters(PARAMETERS)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let list = arguments.url("url").ok_or_else(|| arguments.missing("url= (the list)"))?;
    let instance = arguments.text("instance").filter(|name| !name.trim().is_empty());
    let instance = instance.ok_or_else(|| arguments.missing("instance= (a name for the list)"))?;
    let mut urls = Urls::new(list, instance);
    if let Some(name) = arguments.text("visit_type") {
        urls = urls
            .with_visit_type(VisitType::new(name).map_err(|e| arguments.wrong("visit_type", e.to_string()))?);
    }
    Ok(Arc::new(Source::stateless(urls)))
}
