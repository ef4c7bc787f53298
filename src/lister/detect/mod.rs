//! Which lister fits a host: a few requests, each decided on by what the answers so far say.
//!
//! A [`Detector`] is pure, as listers are: it names the next request, is told the answer, and says in the end what it
//! found and by what. It asks for at most [`MOST_PROBES`] pages, and stops as soon as it knows.
//!
//! First the page itself is asked for: most forges say in it what they are (`<meta name="generator">`, a title, a cookie).
//! Then the roots of their APIs are, that of what the page seems to be before others: they confirm it and tell the
//! version. Hosts that there is only one of are known by their names, without a request.
//!
//! ```
//! use lamplighter::lister::detect::Detector;
//! use lamplighter::model::Timestamp;
//! use lamplighter::transport::{Body, Response};
//!
//! let url: url::Url = "https://git.example/cgit/".parse()?;
//! let mut detector = Detector::new(&url);
//! let request = detector.request().expect("the page itself is asked for first");
//! let page = "<html><head><meta name='generator' content='cgit v1.2.3'/></head></html>";
//! detector.answered(Ok(&Response::new(200, request.url, Body::from(page), Timestamp::EPOCH)));
//! assert!(detector.request().is_none(), "that is enough");
//! let found = detector.found().expect("it is a cgit");
//! assert_eq!((found.lister, found.version.as_deref()), ("cgit", Some("1.2.3")));
//! assert_eq!(found.command(), "lamplighter list cgit url=https://git.example/cgit/");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod marks;
mod roots;

use std::collections::VecDeque;

use url::Url;

use crate::listers::under;
use crate::transport::{Request, Response};
use marks::Mark;
use roots::{ALONE, Root};

/// So many requests are made at the most.
pub const MOST_PROBES: usize = 6;

/// So much of a page is looked at.
const OF_A_PAGE: usize = 256 << 10;

/// So much of what an API answers is: it may give more than was asked for.
const OF_AN_API: usize = 16 << 20;

/// Hosts that there is only one of, and who lists them; the base is then the lister's own.
const HOSTS: &[(&str, &str)] = &[
    ("api.bitbucket.org", "bitbucket"),
    ("api.github.com", "github"),
    ("api.launchpad.net", "launchpad"),
    ("bitbucket.org", "bitbucket"),
    ("git.launchpad.net", "launchpad"),
    ("github.com", "github"),
    ("launchpad.net", "launchpad"),
    ("sourceforge.net", "sourceforge"),
    ("www.github.com", "github"),
];

/// What a host was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The lister that fits.
    pub lister: &'static str,
    /// The version of the forge's software, where it tells.
    pub version: Option<String>,
    /// By what it was recognised, in words.
    pub evidence: Vec<String>,
    /// What to give it for `url`; nothing where it has its own.
    pub url: Option<Url>,
}

impl Found {
    /// The command that lists it.
    #[must_use]
    pub fn command(&self) -> String {
        match &self.url {
            Some(url) => format!("lamplighter list {} url={}", self.lister, quoted(url.as_str())),
            None => format!("lamplighter list {}", self.lister),
        }
    }
}

/// An address as a shell takes it.
fn quoted(url: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:%+,=@~".contains(c);
    if url.chars().all(plain) { url.to_owned() } else { format!("'{}'", url.replace('\'', "%27")) }
}

/// One request that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// The page itself.
    Page,
    /// The root of an API.
    Root(Root),
}

/// Finds out which lister fits a host. See the [module](self).
#[derive(Debug, Clone)]
pub struct Detector {
    /// The page that was given, or where it led on the way to another host or scheme.
    site: Url,
    waiting: VecDeque<Probe>,
    made: usize,
    found: Option<Found>,
    /// What each answer was that did not tell.
    said: Vec<String>,
}

impl Detector {
    /// Of what is at `url`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        let mut site = url.clone();
        site.set_fragment(None);
        let host = url.host_str().unwrap_or_default();
        let known = HOSTS.iter().find(|(name, _)| *name == host);
        let found = known.map(|(name, lister)| Found {
            lister,
            version: None,
            evidence: vec![format!("there is one {name}")],
            url: None,
        });
        // Who gives the root of an API means the forge.
        for root in ALONE {
            let end = format!("/{}", root.folder());
            let path = site.path().trim_end_matches('/').to_owned();
            if let Some(before) = path.strip_suffix(&end) {
                let before = format!("{before}/");
                site.set_path(&before);
            }
        }
        let waiting = if found.is_some() { VecDeque::new() } else { [Probe::Page].into() };
        Self { site, waiting, made: 0, found, said: Vec::new() }
    }

    /// The next request; none when enough is known, or enough was asked.
    #[must_use]
    pub fn request(&self) -> Option<Request> {
        let probe = self.waiting.front().filter(|_| self.made < MOST_PROBES)?;
        let url = match probe {
            Probe::Page => self.site.clone(),
            Probe::Root(root) => {
                let (path, query) = root.address();
                let mut url = under(&self.site, &path.split('/').collect::<Vec<_>>());
                url.set_query(query);
                url
            }
        };
        Some(
            Request::get(url)
                .configured()
                .with_header("accept", "text/html, application/json;q=0.9, */*;q=0.5"),
        )
    }

    /// Takes the answer to the request that was named last, whatever its status; or why there is none.
    pub fn answered(&mut self, answer: Result<&Response, String>) {
        let Some(probe) = self.waiting.pop_front() else { return };
        self.made += 1;
        match (probe, answer) {
            (Probe::Page, Ok(response)) => self.page(response),
            (Probe::Page, Err(why)) => {
                // Nothing else of that host will answer.
                self.said.push(format!("{}: {why}", self.site));
            }
            (Probe::Root(root), Ok(response)) => self.root(root, response),
            (Probe::Root(root), Err(why)) => self.said.push(format!("{}: {why}", root.address().0)),
        }
    }

    /// What it was found to be; nothing while that is not known, or where no lister fits.
    #[must_use]
    pub fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }

    /// How many requests were made.
    #[must_use]
    pub fn made(&self) -> usize {
        self.made
    }

    /// What was asked and did not tell, each with what the answer was.
    #[must_use]
    pub fn said(&self) -> &[String] {
        &self.said
    }

    fn page(&mut self, response: &Response) {
        let asked = self.site.clone();
        // A site that moved is asked where it is. Within a site a page may lead to its form for signing in.
        if response.url.scheme() != asked.scheme() || response.url.host_str() != asked.host_str() {
            let _ = self.site.set_scheme(response.url.scheme());
            let _ = self.site.set_host(response.url.host_str());
            let _ = self.site.set_port(response.url.port());
        }
        let text = beginning(response, OF_A_PAGE);
        let Some(mark) = marks::mark(response, &text) else {
            self.said.push(format!("{asked}: {}, nothing that is known in it", response.status));
            self.waiting.extend(ALONE.iter().copied().map(Probe::Root));
            return;
        };
        let url = if mark.is_index { without_query(&response.url) } else { self.site.clone() };
        let Mark { lister, version, evidence, .. } = mark;
        let wants_version = version.is_none();
        self.found = Some(Found { lister, version, evidence: vec![evidence], url: Some(url) });
        let confirms = roots::of(lister).filter(|root| wants_version || root.tells_which());
        self.waiting.extend(confirms.map(Probe::Root));
    }

    fn root(&mut self, root: Root, response: &Response) {
        let text = beginning(response, OF_AN_API);
        let place = root.address().0;
        let Some(told) = root.read(response, &text, self.found.as_ref().map(|f| f.lister)) else {
            self.said.push(format!("{place}: {}, not what is looked for", response.status));
            return;
        };
        let url = self.site.clone();
        let first = self.found.is_none();
        let found = self.found.get_or_insert_with(|| Found {
            lister: told.lister,
            version: None,
            evidence: Vec::new(),
            url: Some(url),
        });
        found.lister = told.lister;
        found.version = told.version.or(found.version.take());
        found.evidence.push(format!("{place}: {}", told.evidence));
        if first {
            // Of the others nobody needs to be asked any more; only which version it is.
            self.waiting = roots::of(told.lister).filter(|next| *next != root).map(Probe::Root).collect();
        }
        if found.version.is_some() {
            self.waiting.clear();
        }
    }
}

/// The beginning of a body, as text.
fn beginning(response: &Response, most: usize) -> String {
    let bytes = response.body.bytes().unwrap_or_default();
    String::from_utf8_lossy(bytes.get(..bytes.len().min(most)).unwrap_or_default()).into_owned()
}

fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url
}
