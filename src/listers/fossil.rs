//! Fossil: the repositories that a Fossil server shows in its list.
//!
//! # How it lists
//!
//! `GET {url}`, the page that `fossil server --repolist` (or a CGI script with `repolist`) writes: one request.
//!
//! - **Credentials**: none. **Limits**: none known.
//! - **Order**: by name. **State**: none.
//! - **Cost**: one request.
//! - **Origins**: the address that the list links to, without the page behind it (`/home`), of type `fossil`: that is what
//!   `fossil clone` takes. `last_update` is the server's `Date` less the age that the list has in seconds, to the minute: the
//!   two are not taken at one instant. Without either there is none.
//!
//! # What it cannot see
//!
//! Repositories that the server does not show in its list, as their owners may wish, and servers that show no list; whether a
//! repository may be cloned by anybody; forks, of which Fossil has none. Fossil 2.21 lists repositories of any name, and serves those
//! only whose names are of letters, digits and `-_./`. A server without any repository answers with status 404, as one without
//! a list does: a gap, not an empty listing.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/fossil.rs` that fails without it:
//!
//! - asks once, and is made from `url` or `instance`: `fossil_asks_once_for_the_list`
//! - reads each row's address and age: `fossil_reads_the_list`
//! - an age is counted from the server's own date: `fossil_ages_are_of_the_server`
//! - links are read by the page's base, and keep their escapes: `fossil_links_are_read_by_their_base`
//! - a row without a link, or that leads elsewhere, is skipped by name: `fossil_odd_rows_are_counted`
//! - no repository is no error, and what is no list, or is cut, is one: `fossil_an_empty_list_is_no_error`,
//!   `fossil_what_is_no_list_is_an_error`
//! - no page makes it panic: `fossil_no_cut_or_bent_page_makes_it_panic`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{location, web};
use crate::lister::html::{HtmlPage, selector, text};
use crate::lister::{
    Arguments, ConfigError, Entry, Lister, ListerError, Page, PageSource, Parameter, ParameterKind, RunInfo,
    Source, base_url, mail_date,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

/// A whole page has this at its end.
const ENDS: &[&str] = &["</html>"];

/// What Fossil calls the page.
const TITLE: &str = "Repository List";

/// Where a repository's link leads, behind its address.
const HOME: &str = "/home";

/// Lists the repositories of a Fossil server. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Fossil;
/// use lamplighter::model::Timestamp;
///
/// let fossil = Fossil::new("https://fossil.example/".parse()?, "fossil.example");
/// let start = fossil.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(fossil.request(&start[0])?.url.as_str(), "https://fossil.example/");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fossil {
    url: Url,
    instance: String,
}

/// Where a listing of a Fossil server is: at its list, which is all there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FossilCursor {}

impl Fossil {
    /// Lists the repositories on the page `url`.
    pub fn new(url: Url, instance: impl Into<String>) -> Self {
        Self { url, instance: instance.into() }
    }
}

/// The address of a repository, of the link to its page.
fn address(base: &Url, href: &str) -> Option<Url> {
    let mut url = base.join(href.trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix(HOME).unwrap_or(path).to_owned();
    url.set_path(&path);
    (path.len() > 1).then_some(url)
}

/// So many seconds, in hexadecimal digits, before a date; to the nearest minute.
fn before(date: Timestamp, age: &str) -> Option<Timestamp> {
    let age = i64::from_str_radix(age, 16).ok().filter(|age| *age >= 0)?;
    let at = date.as_seconds().checked_sub(age)?;
    Some(Timestamp::from_seconds(at.checked_add(30)?.div_euclid(60).checked_mul(60)?))
}

impl Lister for Fossil {
    type Cursor = FossilCursor;

    fn name(&self) -> &'static str {
        "fossil"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<FossilCursor> {
        vec![FossilCursor {}]
    }

    fn request(&self, _: &FossilCursor) -> Result<Request, ListerError> {
        Ok(web::get(&self.url, &self.url, "text/html"))
    }

    fn page(
        &self,
        _: &FossilCursor,
        response: Response,
        page: &mut Page<FossilCursor>,
    ) -> Result<(), ListerError> {
        let html = HtmlPage::read(&response, ENDS)?;
        let title = selector("title")?;
        if !html.all(&title).any(|title| text(title) == TITLE) {
            return Err(ListerError::parse(format!(
                "no page {TITLE:?}, but {}: is this the list of a Fossil server?",
                html.called()
            )));
        }
        html.check_whole("the list")?;
        let base = web::base_of(&html, &response.url)?;
        let date = response.headers.get("date").and_then(|date| date.to_str().ok()).and_then(mail_date);
        let (row, first, link) = (selector("tbody tr")?, selector("td")?, selector("a[href]")?);
        let age = selector("td[data-sortkey]")?;
        let (mut all, mut used) = (0_usize, 0_usize);
        for row in html.all(&row) {
            let Some(cell) = row.select(&first).next() else { continue };
            all += 1;
            let label = text(cell);
            // The server links to no file whose name cannot be a part of an address.
            let Some(href) = cell.select(&link).next().and_then(|a| a.attr("href")) else {
                page.skip(label, "is not shown by this server: its row has no link");
                continue;
            };
            let Some(url) = address(&base, href) else {
                page.skip(label, "has no link to a repository");
                continue;
            };
            if !web::is_of_site(&url, &response, &self.url) {
                page.skip(label, format!("leads to another host ({})", location(&url)));
                continue;
            }
            used += 1;
            let age = row.select(&age).next().and_then(|cell| cell.attr("data-sortkey"));
            let updated = date.zip(age).and_then(|(date, age)| before(date, age.trim()));
            page.origin(NewOrigin::new(url, VisitType::known("fossil")).with_last_update(updated))?;
        }
        // A site that moved must not look like one without repositories.
        if all > 0 && used == 0 {
            return Err(ListerError::parse(format!(
                "none of the {all} rows leads to a repository of this server"
            )));
        }
        Ok(())
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the page with the list of repositories"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("fossil", "Repositories of a Fossil server that shows their list", build)
        .visiting(&["fossil"])
        .with_parameters(PARAMETERS)
        .with_positions(&[])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    Ok(Arc::new(Source::stateless(Fossil::new(url, instance))))
}
