//! hgweb: the repositories of any site with Mercurial's web interface.
//!
//! # How it lists
//!
//! An index lists repositories and, where the site folds its tree (`collapse`), directories, each with an index of
//! its own. The tree is walked from `url` down.
//!
//! - **Requests**: `GET {url}?style=json`, and one for each directory. No Mercurial released up to 7.2 gives
//!   addresses in that form: then, and where JSON is switched off, the same page is asked for as HTML, and
//!   so are the directories that it names.
//! - **Cost**: a request for each directory, and one more where there is no JSON to go by.
//! - **Credentials**: none. **Limits**: none known. **State**: none.
//! - **Order**: by name.
//! - **Origins**: the address of the repository in the index, which is what `hg clone` takes, of type `hg`.
//!   `last_update` is the index's date: that of the last commit or push on the server's disk.
//!
//! # What it cannot see
//!
//! Repositories that the site hides (`hidden`, `allow_read`); directories that another index than its own leaves out.
//! The JSON of `*.mozilla.org` leaves directories out, so it is not asked for there.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_hgweb` that fails without it:
//!
//! - asks for JSON first, except where it is known or said to be of no use: `json_is_asked_for_first`,
//!   `requests_say_what_they_want_and_where_their_url_is_from`
//! - is made from `url` or `instance`: `the_catalogue_makes_it`
//! - cursors are stored under names that stay: `cursors_keep_their_names`
//! - reads repositories and directories from JSON: `json_gives_repositories_and_directories`,
//!   `dates_in_json_may_be_missing`
//! - JSON without addresses, or without anything, leads to the page in HTML and no further:
//!   `json_without_addresses_leads_to_html_for_this_directory`, `what_is_no_json_leads_to_html`
//! - reads every row of each of Mercurial's styles: `each_style_of_mercurial_is_read`,
//!   `addresses_of_repositories_have_no_style`
//! - a directory is told by its slash, or by a row of few cells: `directories_are_told_from_repositories`
//! - reads dates in each form, and none where there is none: `dates_in_html_are_read_where_they_are_dates`
//! - goes neither to another host nor out of the tree, nor down for ever:
//!   `what_leads_out_of_the_tree_is_left_out`, `what_leads_to_its_own_page_is_left_out`, `a_tree_that_is_too_deep_is_left_out`
//! - an index without rows is no error; a page that is no index, or is cut, is:
//!   `an_empty_index_is_no_error`, `what_is_no_index_is_an_error_that_says_why`
//! - a directory that cannot be read is a gap, and the others are listed: `a_broken_directory_is_a_gap_and_healed_by_the_next_listing`,
//!   `failures_are_gaps_but_for_json_that_is_not_there`
//! - the tree is walked to its end, in JSON or HTML: `each_site_is_listed_to_its_end`
//! - no page makes it panic: `no_cut_or_bent_page_makes_it_panic`

use std::sync::Arc;

use scraper::ElementRef;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{location, same_host, web};
use crate::lister::html::{HtmlPage, selector, text};
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, FailureKind, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source, base_url, mail_date,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

/// A whole page has this near its end.
const ENDS: &[&str] = &["</html>"];

/// How many directories may lie in one another. Real trees stay under ten.
const DEEPEST: usize = 32;

/// Lists an hgweb. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::HgWeb;
/// use lamplighter::model::Timestamp;
///
/// let hgweb = HgWeb::new("https://hg.example/".parse()?, "hg.example");
/// let start = hgweb.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(hgweb.request(&start[0])?.url.as_str(), "https://hg.example/?style=json");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct HgWeb {
    url: Url,
    instance: String,
    api: bool,
}

/// Where a listing of an hgweb is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HgWebCursor {
    /// At a directory's index, in JSON.
    Json {
        /// The directory.
        url: Url,
    },
    /// At a directory's index, in HTML.
    Html {
        /// The directory.
        url: Url,
    },
}

/// An index in JSON.
#[derive(Deserialize)]
struct Index {
    entries: Vec<IndexEntry>,
}

#[derive(Deserialize)]
struct IndexEntry {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    lastchange: Value,
    #[serde(default)]
    isdirectory: Option<bool>,
}

/// What one entry of an index says, in either form.
struct Found {
    label: String,
    href: String,
    directory: bool,
    updated: Option<Timestamp>,
}

/// The catalogue's row.
#[must_use]
pub(crate) fn entry() -> Entry {
    const PARAMETERS: &[Parameter] = &[
        Parameter::optional("url", ParameterKind::Url, "The page with the list of repositories."),
        Parameter::optional(
            "instance",
            ParameterKind::Text,
            "The name of the instance; its host by default.",
        ),
        Parameter::with_default(
            "enable_api",
            ParameterKind::Boolean,
            "true",
            "Whether to try JSON before HTML.",
        ),
    ];
    fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
        let (url, instance) = base_url(arguments)?;
        let hgweb = HgWeb::new(url, instance).with_api(arguments.boolean("enable_api"));
        Ok(Arc::new(Source::stateless(hgweb)))
    }
    Entry::new("hgweb", "Repositories of a site with Mercurial's web interface", build)
        .with_parameters(PARAMETERS)
        .with_positions(&["style"])
}

impl HgWeb {
    /// Lists the repositories on the index page `url`, and below it.
    pub fn new(url: Url, instance: impl Into<String>) -> Self {
        Self { url, instance: instance.into(), api: true }
    }

    /// Says whether to try JSON before HTML; so it is by default.
    #[must_use]
    pub fn with_api(mut self, api: bool) -> Self {
        self.api = api;
        self
    }

    fn json(&self, url: &Url, response: &Response, page: &mut Page<HgWebCursor>) -> Result<(), ListerError> {
        let index: Index = response.json()?;
        // An index that leaves addresses or directories out must not pass for all that there is.
        if index.entries.is_empty() || index.entries.iter().any(|e| e.url.is_none()) {
            page.follow(HgWebCursor::Html { url: url.clone() });
            return Ok(());
        }
        let found = index.entries.into_iter().map(|entry| {
            let label = entry.name.unwrap_or_default();
            Found {
                directory: entry.isdirectory.unwrap_or_else(|| label.ends_with('/')),
                label,
                href: entry.url.unwrap_or_default(),
                updated: last_change(&entry.lastchange),
            }
        });
        self.take(found, response, page, |url| HgWebCursor::Json { url })
    }

    fn html(&self, response: &Response, page: &mut Page<HgWebCursor>) -> Result<(), ListerError> {
        let html = HtmlPage::read(response, ENDS)?;
        // Other tables of links (a repository's log, a file server's folder) do not have these.
        if !html.has(&selector("table a[href^='?sort=']")?) {
            return Err(ListerError::parse(format!(
                "no table of repositories (table a[href^='?sort=']) in {}: is this the index of an hgweb?",
                html.called()
            )));
        }
        html.check_whole("the index")?;
        let (row, link) = (selector("table tr")?, selector("a[href]")?);
        let found: Vec<Found> = html.all(&row).filter_map(|row| read_row(row, &link)).collect();
        self.take(found, response, page, |url| HgWebCursor::Html { url })
    }

    /// Gives what an index lists to the page.
    fn take(
        &self,
        found: impl IntoIterator<Item = Found>,
        response: &Response,
        page: &mut Page<HgWebCursor>,
        cursor: impl Fn(Url) -> HgWebCursor,
    ) -> Result<(), ListerError> {
        let (mut all, mut used) = (0_usize, 0_usize);
        let mut why_not = String::new();
        for Found { label, href, directory, updated } in found {
            all += 1;
            match self.place(&href, directory, response) {
                Ok(url) => {
                    used += 1;
                    if directory {
                        page.follow(cursor(url));
                    } else {
                        let origin = NewOrigin::new(url, VisitType::known("hg"));
                        page.origin(origin.with_last_update(updated))?;
                    }
                }
                Err(why) => {
                    page.skip(format!("the entry {label:?}"), &why);
                    why_not = why;
                }
            }
        }
        // A site that moved must not look like one without repositories.
        if all > 0 && used == 0 {
            let why = format!("none of the {all} entries can be used: the last {why_not}");
            return Err(ListerError::parse(why));
        }
        Ok(())
    }

    /// The address of an entry; or why it is none of this site.
    fn place(&self, href: &str, directory: bool, response: &Response) -> Result<Url, String> {
        let mut url = response
            .url
            .join(href.trim())
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https"))
            .ok_or_else(|| format!("leads to no page ({href:?})"))?;
        url.set_fragment(None);
        // The style that a page was asked for in goes into all its links.
        url.set_query(None);
        if !web::is_of_site(&url, response, &self.url) {
            return Err(format!("leads to another host ({})", location(&url)));
        }
        if directory {
            let depth = below(&self.url, &url).or_else(|| below(&response.url, &url));
            match depth {
                None => return Err(format!("leads out of {}{}", location(&self.url), self.url.path())),
                Some(depth) if depth > DEEPEST => {
                    return Err(format!("lies deeper than {DEEPEST} directories"));
                }
                // Asked for once a run, it would be lost without a word.
                Some(_) if url.path() == response.url.path() => {
                    return Err("leads to the page that it is on".to_owned());
                }
                Some(_) => {}
            }
        }
        Ok(url)
    }
}

impl Lister for HgWeb {
    type Cursor = HgWebCursor;

    fn name(&self) -> &'static str {
        "hgweb"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<HgWebCursor> {
        let host = self.url.host_str().unwrap_or_default();
        let url = self.url.clone();
        // The JSON there leaves directories out.
        let usable = self.api && !host.ends_with(".mozilla.org");
        vec![if usable { HgWebCursor::Json { url } } else { HgWebCursor::Html { url } }]
    }

    fn request(&self, at: &HgWebCursor) -> Result<Request, ListerError> {
        let (url, accept) = match at {
            HgWebCursor::Json { url } => {
                let mut url = url.clone();
                let kept: Vec<(String, String)> =
                    url.query_pairs().into_owned().filter(|(name, _)| name != "style").collect();
                url.query_pairs_mut().clear().extend_pairs(kept).append_pair("style", "json");
                (url, "application/json")
            }
            HgWebCursor::Html { url } => (url.clone(), "text/html"),
        };
        Ok(web::get(&url, &self.url, accept))
    }

    fn page(
        &self,
        at: &HgWebCursor,
        response: Response,
        page: &mut Page<HgWebCursor>,
    ) -> Result<(), ListerError> {
        match at {
            HgWebCursor::Json { url } => self.json(url, &response, page),
            HgWebCursor::Html { .. } => self.html(&response, page),
        }
    }

    fn recover(&self, at: &HgWebCursor, failure: &Failure) -> Recovery<HgWebCursor> {
        // A server that does not know the style says so, or answers in another one. One that is ill is
        // asked for the same again another time.
        let no_json = failure.kind == FailureKind::Parse
            || failure.status().is_some_and(|s| matches!(s.as_u16(), 400 | 404 | 406 | 410));
        match at {
            HgWebCursor::Json { url } if no_json => {
                Recovery::replaced(vec![HgWebCursor::Html { url: url.clone() }])
            }
            _ => Recovery::gap(),
        }
    }
}

/// The date in `[seconds, offset]`.
fn last_change(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_array()?.first()?;
    // Some servers give fractions; what is no time at all gives none.
    seconds
        .as_i64()
        .or_else(|| crate::lister::seconds_date(&seconds.to_string()).map(Timestamp::as_seconds))
        .filter(|s| s.unsigned_abs() < 1 << 40)
        .map(Timestamp::from_seconds)
}

/// What a row of a table says, where it says anything.
fn read_row(row: ElementRef<'_>, link: &scraper::Selector) -> Option<Found> {
    let cells: Vec<ElementRef<'_>> = row.child_elements().filter(|c| c.value().name() == "td").collect();
    let link = row.select(link).next().filter(|_| !cells.is_empty())?;
    let href = link.attr("href")?;
    if href.starts_with("?sort=") {
        return None;
    }
    let label = text(link);
    let age = cells.iter().find(|c| c.attr("class").is_some_and(|c| c.trim() == "age"));
    Some(Found {
        // Where directories are in a table of their own, it has fewer columns.
        directory: cells.len() < 4 || label.ends_with('/'),
        href: href.to_owned(),
        updated: age.and_then(|age| date(&text(*age))),
        label,
    })
}

/// Reads a row's date: as in mails, or ISO 8601 with or without `at ` before it.
fn date(age: &str) -> Option<Timestamp> {
    let age = age.strip_prefix("at ").unwrap_or(age);
    mail_date(age).or_else(|| Timestamp::parse(age).ok())
}

/// How many directories a page lies below another one, where it does.
fn below(above: &Url, page: &Url) -> Option<usize> {
    let base = format!("{}/", above.path().trim_end_matches('/'));
    let path = page.path().strip_prefix(&base)?.trim_end_matches('/');
    (same_host(above, page) && !path.is_empty()).then(|| path.split('/').count())
}
