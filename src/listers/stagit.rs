//! stagit: the repositories of a site whose pages are made by stagit.
//!
//! # How it lists
//!
//! `GET {url}`, the index on one page; then the page of each repository, which names where it is cloned from. A
//! repository whose date in the index did not change is not asked for again.
//!
//! - **Credentials**: none. **Limits**: none known.
//! - **Order**: as the site's owner made it. **State**: none, but the dates of the index.
//! - **Cost**: a request, and one for each repository that changed.
//! - **Origins**: the address behind `git clone`, https before http before others. `last_update` is the date in the
//!   index, that of the last commit, in UTC (stagit writes it so), to the minute.
//!
//! # What it cannot see
//!
//! Repositories without a commit, which the index leaves out; those whose page names no address (no file `url`), which
//! are skipped and counted; what was pushed in the minute of the last commit.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/stagit.rs` that fails without it:
//!
//! - asks for the index, and is made from `url` or `instance`: `stagit_the_index_is_asked_for_first`
//! - reads each row's page and date: `stagit_rows_lead_to_pages_with_their_dates`
//! - links are below the index, with or without a slash at its end, and absolute ones stay as they are:
//!   `stagit_links_are_below_the_index`
//! - a row without a link, or that leads elsewhere, is skipped by name: `stagit_odd_rows_are_counted`
//! - an index of its owner's own making is read by its links: `stagit_an_index_without_its_mark_is_read_by_its_links`
//! - takes the best address of a repository's page: `stagit_the_best_address_is_taken`
//! - a page without an address is skipped, and one that is of no stagit is an error:
//!   `stagit_a_repository_without_an_address_is_counted`, `stagit_what_is_no_page_of_a_stagit_is_an_error`
//! - a repository that is gone is skipped, one that cannot be read is a gap: `stagit_a_repository_that_is_gone_is_skipped`
//! - no repository is no error; what is no index, or is cut, is one: `stagit_an_empty_index_is_no_error`,
//!   `stagit_what_is_no_index_is_an_error`
//! - no page makes it panic: `stagit_no_cut_or_bent_page_makes_it_panic`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::web::{best_clone, web_url};
use super::{location, web};
use crate::lister::html::{HtmlPage, selector, text};
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    Recovery, RunInfo, Source, base_url, fingerprint,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

/// A whole page has this at its end.
const ENDS: &[&str] = &["</html>"];

/// A link to what stagit makes for each repository.
const MADE: &str = "a[href$='/log.html'], a[href$='/files.html']";

/// Lists a site made by stagit. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Stagit;
/// use lamplighter::model::Timestamp;
///
/// let stagit = Stagit::new("https://git.example/".parse()?, "git.example");
/// let start = stagit.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(stagit.request(&start[0])?.url.as_str(), "https://git.example/");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Stagit {
    url: Url,
    instance: String,
}

/// Where a listing of a stagit is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StagitCursor {
    /// At the index.
    Index,
    /// At a repository's page.
    Repo {
        /// The page.
        url: Url,
        /// Its date in the index.
        updated: Option<Timestamp>,
    },
}

impl Stagit {
    /// Lists the repositories on the index page `url`.
    pub fn new(url: Url, instance: impl Into<String>) -> Self {
        Self { url, instance: instance.into() }
    }

    fn index(&self, response: &Response, page: &mut Page<StagitCursor>) -> Result<(), ListerError> {
        let html = HtmlPage::read(response, ENDS)?;
        // An index that its owner wrote anew still leads to what stagit makes for each repository.
        let (marked, made) = (selector("table#index")?, selector(MADE)?);
        let (rows, links) =
            if html.has(&marked) { ("table#index tr", "a[href]") } else { ("table tr", MADE) };
        if !html.has(&marked) && !html.has(&made) {
            return Err(ListerError::parse(format!(
                "no list of repositories (table#index) in {}: is this the index of a stagit?",
                html.called()
            )));
        }
        html.check_whole("the index")?;
        let (row, link, cell) = (selector(rows)?, selector(links)?, selector("td")?);
        let base = folder(&response.url);
        let (mut all, mut used) = (0_usize, 0_usize);
        for row in html.all(&row) {
            let Some(link) = row.select(&link).next() else { continue };
            all += 1;
            let label = format!("the row {:?}", text(link));
            let Some(url) = web_url(&base, link.attr("href").unwrap_or_default()) else {
                page.skip(label, "has no link to a page");
                continue;
            };
            if !web::is_of_site(&url, response, &self.url) {
                page.skip(label, format!("leads to another host ({})", location(&url)));
                continue;
            }
            used += 1;
            let dated = row.select(&cell).last().map(text).unwrap_or_default();
            let updated = date(&dated);
            let print = updated.map_or_else(|| fingerprint(&dated), |updated| updated.to_string());
            page.item(url.as_str(), print, StagitCursor::Repo { url: url.clone(), updated });
        }
        // A site that moved must not look like one without repositories.
        if all > 0 && used == 0 {
            return Err(ListerError::parse(format!("none of the {all} rows leads to a page of this site")));
        }
        Ok(())
    }
}

/// Reads a repository's page.
fn repository(
    (url, updated): (&Url, Option<Timestamp>),
    response: &Response,
    page: &mut Page<StagitCursor>,
) -> Result<(), ListerError> {
    let html = HtmlPage::read(response, ENDS)?;
    let links = selector("tr.url td a[href]")?;
    let cloned: Vec<String> =
        html.all(&links).filter_map(|a| a.attr("href")).map(|href| href.trim().to_owned()).collect();
    if cloned.is_empty() && !html.has(&selector("a[href$='log.html'], a[href$='refs.html']")?) {
        return Err(ListerError::parse(format!(
            "neither an address (tr.url a) nor tabs (log.html) in {}: is this a page of a stagit?",
            html.called()
        )));
    }
    html.check_whole("the repository's page")?;
    match best_clone(&cloned) {
        Some(clone) => page.origin(NewOrigin::new(clone, VisitType::git()).with_last_update(updated))?,
        None => page.skip(url, "its page names no address to clone from"),
    }
    Ok(())
}

/// What the links of an index are relative to: the index is a folder, also where its address has
/// no slash at its end.
fn folder(index: &Url) -> Url {
    let mut url = index.clone();
    let last = url.path().rsplit('/').next().unwrap_or_default();
    if !last.is_empty() && !last.contains(".htm") {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}

/// Reads the date of a row: `2024-01-12 11:00`.
fn date(text: &str) -> Option<Timestamp> {
    let (day, time) = text.split_once(' ')?;
    Timestamp::parse(&format!("{day}T{time}:00Z")).ok()
}

impl Lister for Stagit {
    type Cursor = StagitCursor;

    fn name(&self) -> &'static str {
        "stagit"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<StagitCursor> {
        vec![StagitCursor::Index]
    }

    fn request(&self, at: &StagitCursor) -> Result<Request, ListerError> {
        let url = match at {
            StagitCursor::Index => &self.url,
            StagitCursor::Repo { url, .. } => url,
        };
        Ok(web::get(url, &self.url, "text/html"))
    }

    fn page(
        &self,
        at: &StagitCursor,
        response: Response,
        page: &mut Page<StagitCursor>,
    ) -> Result<(), ListerError> {
        match at {
            StagitCursor::Index => self.index(&response, page),
            StagitCursor::Repo { url, updated } => repository((url, *updated), &response, page),
        }
    }

    fn recover(&self, at: &StagitCursor, failure: &Failure) -> Recovery<StagitCursor> {
        match at {
            StagitCursor::Repo { .. } if failure.is_absent() => {
                Recovery::skip("gone since the index was read")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the page with the list of repositories"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("stagit", "Repositories of a site made by stagit", build).with_parameters(PARAMETERS)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    Ok(Arc::new(Source::stateless(Stagit::new(url, instance))))
}
