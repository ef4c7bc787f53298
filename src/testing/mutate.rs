//! Bodies bent at random, and what a lister makes of them: for tests of seeds, and for fuzzers.
//!
//! ```
//! use lamplighter::lister::Registry;
//! use lamplighter::testing::mutate::{Mutator, Reached, specimens};
//! # use std::path::Path;
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! # let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
//! let pages = specimens(&Registry::builtin(), &fixtures.join("pagure/basic")).await?;
//! let body = pages[0].body();
//! assert_eq!(pages[0].read(body.clone()), Reached::Found);
//! let bent = Mutator::new(17).mutate(&body, &body);
//! let _ = pages[0].read(bent);
//! assert_eq!(Mutator::new(17).mutate(&body, &body), Mutator::new(17).mutate(&body, &body));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use super::{Case, CaseError, VirtualClock, walk};
use crate::driver::chain;
use crate::lister::{
    Failure, FailureKind, ListerError, ListerErrorKind, Mode, Page, PageBatch, PageSource, Registry, RunInfo,
    mail_date, seconds_date,
};
use crate::model::{Timestamp, check_origin_url};
use crate::transport::{Body, Replay, Response, RetryOptions, RetryPlan, challenge, classify};

/// How far an input got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reached {
    /// To an origin; of headers, to a link or a limit.
    Found,
    /// To an error that says where in the input it is.
    Place,
    /// No further than the door.
    Nothing,
}

/// What a body is, which says how its listers read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Family {
    /// JSON of forges and registries.
    Json,
    /// Pages in HTML.
    Html,
    /// Indexes and feeds in XML.
    Xml,
    /// Control files of Debian archives.
    Deb822,
    /// Archives of tables.
    Archive,
}

/// A recorded answer and the lister that reads it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Specimen {
    /// The lister.
    pub lister: String,
    /// The cursor that it answers.
    pub cursor: Value,
    /// What kind of body it has; of a compressed one, what is in it.
    pub family: Family,
    source: Arc<dyn PageSource>,
    response: Response,
}

impl fmt::Debug for Specimen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Specimen")
            .field("lister", &self.lister)
            .field("cursor", &self.cursor)
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

/// The pages of a fixture's first run that its lister can read, each once. What is compressed comes
/// unpacked besides, so that what is bent is not just the compression.
///
/// # Errors
/// A [`CaseError`] where the fixture cannot be read, or its lister not be made.
pub async fn specimens(registry: &Registry, folder: &Path) -> Result<Vec<Specimen>, CaseError> {
    let case = Case::load(folder)?;
    let failed = |problem: String| super::case::content(folder, problem);
    let entry = registry.entry(&case.lister).map_err(|e| failed(e.to_string()))?;
    let mut found: BTreeMap<String, Specimen> = BTreeMap::new();
    let Some(run) = case.runs.first() else { return Ok(Vec::new()) };
    let source = entry.build(&run.arguments).map_err(|e| failed(e.to_string()))?.source;
    let now = run.at.unwrap_or(Timestamp::EPOCH);
    let clock = Arc::new(VirtualClock::new(now));
    let replay = Replay::new(run.exchanges.iter().cloned(), clock).with_positions(entry.positions);
    let start = source.start(&RunInfo::new(now, Mode::Full)).map_err(|e| failed(chain(&e)))?;
    let steps = walk(&*source, start, &replay, &BTreeMap::new()).await.map_err(|e| failed(chain(&e)))?;
    for step in steps {
        let Some(response) = step.response.filter(|r| r.status.is_success()) else { continue };
        let Ok(packed) = response.body.bytes() else { continue };
        let plain = unpacked(&response.body);
        let specimen = |body: Vec<u8>| Specimen {
            lister: case.lister.clone(),
            cursor: step.cursor.clone(),
            family: family(plain.as_deref().unwrap_or(&packed)),
            source: Arc::clone(&source),
            response: Response { body: Body::from(body), ..response.clone() },
        };
        if let Some(plain) = plain.clone() {
            found.insert(format!("{} unpacked", step.cursor), specimen(plain));
        }
        found.insert(step.cursor.to_string(), specimen(packed.to_vec()));
    }
    Ok(found.into_values().collect())
}

/// What a compressed body unpacks to; none for one that is not compressed.
#[cfg(feature = "compression")]
fn unpacked(body: &Body) -> Option<Vec<u8>> {
    use crate::lister::compress::{Compression, Unpacked};
    use std::io::Read;
    let head = body.bytes().ok()?;
    if Compression::of(&head) == Compression::None {
        return None;
    }
    let mut plain = Vec::new();
    Unpacked::new(body).ok()?.take(1 << 20).read_to_end(&mut plain).ok()?;
    Some(plain)
}

#[cfg(not(feature = "compression"))]
fn unpacked(_: &Body) -> Option<Vec<u8>> {
    None
}

fn family(body: &[u8]) -> Family {
    let text = body.trim_ascii_start();
    // The mark of a tar archive is in its first header.
    if body.get(257..262) == Some(b"ustar") {
        Family::Archive
    } else if text.starts_with(b"<") {
        // A page may say that it is XML besides.
        let html = text.windows(5).take(1024).any(|five| five.eq_ignore_ascii_case(b"<html"));
        if html { Family::Html } else { Family::Xml }
    } else if text.starts_with(b"{") || text.starts_with(b"[") {
        Family::Json
    } else {
        Family::Deb822
    }
}

impl Specimen {
    /// Its body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        self.response.body.bytes().map(|bytes| bytes.to_vec()).unwrap_or_default()
    }

    /// Has the lister read a body in the place of its own, and asks it for all that follows from
    /// there, as a driver does.
    #[must_use]
    pub fn read(&self, body: Vec<u8>) -> Reached {
        let response = Response { body: Body::from(body), ..self.response.clone() };
        let mut page = Page::new();
        let said = self.source.read(&self.cursor, response, &mut page).and_then(|()| page.finish());
        match said {
            Ok(batch) => self.follow(&batch),
            Err(e) => self.fail(&e),
        }
    }

    fn follow(&self, batch: &PageBatch) -> Reached {
        for follow in &batch.follows {
            // What a page says may give no request, but never a panic.
            let _ = self.source.request(&follow.cursor).map(|request| request.place());
        }
        let state = batch.marks.first().cloned();
        batch.marks.iter().fold(state, |state, mark| self.source.join(mark.clone(), state?).ok());
        let good = batch.origins.iter().filter(|s| check_origin_url(&s.origin.url).is_ok());
        if good.count() > 0 { Reached::Found } else { Reached::Nothing }
    }

    fn fail(&self, e: &ListerError) -> Reached {
        let said = chain(e);
        let kind = match e.kind() {
            ListerErrorKind::Refused => FailureKind::Refused,
            _ => FailureKind::Parse,
        };
        if let Ok(recovery) = self.source.recover(&self.cursor, &Failure::new(kind, said.clone())) {
            for cursor in &recovery.follow {
                let _ = self.source.request(cursor);
            }
        }
        if names_place(&said) { Reached::Place } else { Reached::Nothing }
    }
}

/// Whether what is said of a body that cannot be read says where in it.
#[must_use]
pub fn names_place(said: &str) -> bool {
    const WORDS: [&str; 9] = [
        "at ",       // a path of JSON
        "line ",     // of a text
        "field ",    // of an object or a paragraph
        "after ",    // so many bytes
        " early",    // and how far it came
        "unpack to", // so many bytes
        "the page",  // by its title
        "a page",    // or without one
        " in ",      // a member, a table
    ];
    let what = said.split_once("unexpected answer: ").map_or(said, |(_, what)| what);
    // At its first byte it is no input of the kind at all.
    WORDS.iter().any(|word| what.contains(word)) && !what.contains("line 1 column 1)")
}

/// Chooses a specimen by the input's first byte, and reads the rest as its body. None for an input
/// that chooses nothing.
#[must_use]
pub fn read_input(specimens: &[Specimen], input: &[u8]) -> Option<Reached> {
    let (which, body) = input.split_first()?;
    let specimen = specimens.get(usize::from(*which) % specimens.len().max(1))?;
    Some(specimen.read(body.to_vec()))
}

/// Heads of answers as forges give them, in the form that [`read_head`] reads.
pub const HEADS: [&[u8]; 5] = [
    b"\0\0link: <https://forge.example/api?page=2>; rel=\"next\", </api?page=9>; rel=last; title=\"a, b\"\netag: \"1\"\n\n[]",
    b"\0\xe5retry-after: 120\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 1767225700\n\n{\"message\": \"API rate limit exceeded\"}",
    b"\0\xcbcf-mitigated: challenge\ncontent-type: text/html\n\n<title>Just a moment...</title>",
    b"\x01\x2fretry-after: Thu, 01 Jan 2026 00:02:00 GMT\n\n",
    b"\0\0content-type: text/html; charset=utf-8\nlast-modified: Tue, 24 Nov 2026 02:23:01 GMT\n\n<html><title>Making sure you&#39;re not a bot!</title>",
];

/// Reads an input as the head of an answer: a status in its first two bytes, lines of headers, an
/// empty line, the beginning of a body. All that looks at these is asked: links, limits, retries,
/// bot walls, dates.
#[must_use]
pub fn read_head(input: &[u8]) -> Reached {
    let (status, rest) = input.split_at(input.len().min(2));
    let status = status.iter().fold(0_u16, |n, byte| (n << 8) | u16::from(*byte));
    let Ok(url) = Url::parse("https://forge.example/api/repos?page=2") else { return Reached::Nothing };
    let end = rest.windows(2).position(|two| two == b"\n\n").unwrap_or(rest.len());
    let (head, body) = rest.split_at(end);
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let mut response = Response::new(200 + status % 400, url, Body::from(body.to_vec()), Timestamp::EPOCH);
    response.headers = headers;
    let now = Timestamp::from_seconds(1_767_225_600);
    let limit = classify(now, response.status, &response.headers, body);
    let wall = challenge(response.status, &response.headers, body);
    let mut plan = RetryPlan::new(RetryOptions::default(), "a seed");
    let wait = plan.answered(now, response.status, &response.headers);
    for value in response.headers.values().filter_map(|v| v.to_str().ok()) {
        let _ = (mail_date(value), seconds_date(value), check_origin_url(value));
    }
    match response.link("next") {
        Ok(None) if limit.is_none() && wall.is_none() && wait.is_none() => Reached::Nothing,
        Ok(_) => Reached::Found,
        Err(_) => Reached::Place,
    }
}

/// Bends bodies. The same seed bends the same way.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
    largest: usize,
}

impl Mutator {
    /// A mutator of a seed. What it makes has at most 64 KiB more than what it is made of.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed, largest: 64 << 10 }
    }

    /// Sets by how many bytes it may make a body larger.
    #[must_use]
    pub fn with_largest(mut self, bytes: usize) -> Self {
        self.largest = bytes;
        self
    }

    /// A number below `n`; 0 where that is 0. By `SplitMix64`.
    pub fn below(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = usize::try_from((z ^ (z >> 31)) >> 1).unwrap_or(usize::MAX);
        drawn.checked_rem(n).unwrap_or(0)
    }

    /// The body bent in one to three ways; pieces may come from `other`.
    #[must_use]
    pub fn mutate(&mut self, body: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bent = body.to_vec();
        for _ in 0..=self.below(3) {
            bent = match self.below(6) {
                0 => self.cut(&bent),
                1 => self.splice(&bent, other),
                2 => self.flip(bent),
                3 => self.repeat(&bent),
                4 => self.nest(&bent),
                _ => self.write(&bent),
            };
        }
        bent.truncate(body.len().saturating_add(self.largest));
        bent
    }

    /// A range of a body: short more often than long, and mostly between marks of its syntax, so that
    /// what is bent can still be read.
    fn range(&mut self, body: &[u8]) -> (usize, usize) {
        let a = self.mark(body);
        let longest = match self.below(3) {
            0 => 8,
            1 => 200,
            _ => body.len(),
        };
        let near = a.saturating_add(self.below(longest.max(1))).min(body.len());
        let b = if self.below(2) == 0 { near } else { self.next_mark(body, near) };
        (a, b.max(a))
    }

    fn mark(&mut self, body: &[u8]) -> usize {
        let at = self.below(body.len().saturating_add(1));
        if self.below(3) == 0 { at } else { self.next_mark(body, at) }
    }

    fn next_mark(&mut self, body: &[u8], at: usize) -> usize {
        const MARKS: &[u8] = b"{}[]<>\"',:\n";
        let rest = body.get(at..).unwrap_or_default();
        let found = rest.iter().position(|byte| MARKS.contains(byte)).unwrap_or(0);
        at.saturating_add(found).saturating_add(self.below(2)).min(body.len())
    }

    /// Takes out a range, or all that follows.
    fn cut(&mut self, body: &[u8]) -> Vec<u8> {
        let (a, b) = self.range(body);
        let b = if self.below(4) == 0 { body.len() } else { b };
        glue(&[upto(body, a), from(body, b)])
    }

    /// Puts a range of another body in the place of one of this.
    fn splice(&mut self, body: &[u8], other: &[u8]) -> Vec<u8> {
        let (a, b) = self.range(body);
        let (c, d) = self.range(other);
        glue(&[upto(body, a), other.get(c..d).unwrap_or_default(), from(body, b)])
    }

    fn flip(&mut self, mut body: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(4) {
            let (at, bit) = (self.below(body.len()), self.below(8));
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        body
    }

    fn repeat(&mut self, body: &[u8]) -> Vec<u8> {
        let (a, b) = self.range(body);
        let piece = body.get(a..b).unwrap_or_default();
        let most = self.largest.checked_div(piece.len()).unwrap_or(0);
        let often = self.below(4) == 0;
        let times = 1 + self.below(if often { most.max(1) } else { 4 });
        glue(&[upto(body, b), &piece.repeat(times), from(body, b)])
    }

    /// Puts a range into brackets, often deep ones.
    fn nest(&mut self, body: &[u8]) -> Vec<u8> {
        const BRACKETS: [(&[u8], &[u8]); 6] = [
            (b"[", b"]"),
            (b"{\"a\":", b"}"),
            (b"<div>", b"</div>"),
            (b"<table><tr><td>", b"</td></tr></table>"),
            (b"\"", b"\""),
            (b"<!--", b"-->"),
        ];
        let (a, b) = self.range(body);
        let which = self.below(BRACKETS.len());
        let (open, close) = BRACKETS.get(which).copied().unwrap_or_default();
        let most = self.largest.checked_div(open.len().saturating_add(close.len())).unwrap_or(0);
        let deepest = self.below(3) == 0;
        let deep = 1 + self.below(if deepest { most.max(1) } else { 3 });
        let piece = body.get(a..b).unwrap_or_default();
        glue(&[upto(body, a), &open.repeat(deep), piece, &close.repeat(deep), from(body, b)])
    }

    /// Writes over a range what parsers are known to stumble over.
    fn write(&mut self, body: &[u8]) -> Vec<u8> {
        const WORDS: [&[u8]; 22] = [
            b"null",
            b"true",
            b"-1",
            b"0",
            b"18446744073709551616",
            b"9223372036854775807",
            b"1e999",
            b"-9999-99-99T99:99:99Z",
            b"+275760-09-13T00:00:00Z",
            b"\"\"",
            b"[]",
            b"{}",
            b"http://",
            b"https://[::1]:99999/",
            b"//",
            b"../../..",
            b"\xff\xfe",
            b"\0",
            b"\\u0000",
            b"\xef\xbb\xbf",
            b"&#x110000;",
            b"\r\n\r\n",
        ];
        let (a, b) = self.range(body);
        let which = self.below(WORDS.len());
        glue(&[upto(body, a), WORDS.get(which).copied().unwrap_or_default(), from(body, b)])
    }
}

fn upto(body: &[u8], at: usize) -> &[u8] {
    body.get(..at).unwrap_or(body)
}

fn from(body: &[u8], at: usize) -> &[u8] {
    body.get(at..).unwrap_or_default()
}

fn glue(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}
