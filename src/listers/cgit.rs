//! cgit: the repositories of any site with this web interface.
//!
//! # How it lists
//!
//! There is no API. The index is a page of rows, a pager leads to the next; a row holds a link and,
//! mostly, a date. How a repository is cloned stands on its own page only.
//!
//! - **Requests**: `GET {url}`, each further page of the index, and one per repository whose date in
//!   the index is not the one of its last successful listing. With `base_git_url`: the index only.
//! - **Cost**: a request for each page of the index (of 50 repositories), and one for each repository that changed.
//! - **Credentials**: none. **State**: none.
//! - **Limits**: none known; the site's owner may set how many rows a page has (50 by default).
//! - **Order**: by section and name, in pages counted from the front.
//! - **Origins**: the first `https` clone link of the repository's page, else the first `http`, else the
//!   first that can be visited without a key. `last_update` is the index's date: that of the repository's
//!   age file or of its default branch. A site may show none.
//!
//! Of the two forms of a clone link on a page, `<a>` in the table and `<link>` in the head, the first
//! counts. `<link>` is not escaped (git refuses one with a space), and for an empty repository cgit 1.2.3
//! writes it without the repository's name. It is used, escaped, where the table has none.
//!
//! # What it cannot see
//!
//! Sites that hide their index, repositories that the site hides from it, and what moves from a page
//! still to come to one already read while the index changes. The next run lists it again.
//!
//! A cgit without any repository answers with status 404, as a wrong address does: a gap, not an empty
//! listing.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_cgit` that fails without it:
//!
//! - asks for HTML, and by the configured address: `requests_ask_for_html_and_say_where_their_url_is_from`
//! - is made from `url` or `instance`, and refuses a wrong `base_git_url`: `the_catalogue_makes_it`
//! - cursors are stored under names that stay: `cursors_keep_their_names`
//! - reads every row of a real index, and no section or header: `a_real_index_gives_its_rows_and_the_next_page`,
//!   `a_row_without_a_link_is_left_out_and_one_of_a_theme_is_not`
//! - follows the pager to its end, in each of its shapes, and never to another host:
//!   `the_last_page_and_a_page_past_the_end_end_the_chain`, `the_pager_is_read_in_each_of_its_shapes`,
//!   `a_pager_that_leaves_the_host_or_marks_no_page_is_an_error`
//! - reads dates in both forms and with zone names that mean one offset only:
//!   `dates_are_read_where_they_say_one_instant`, `zone_names_mean_their_offset`
//! - a repository's page is asked for again only when its date changed:
//!   `the_fingerprint_is_the_instant_and_nothing_else`, `a_second_listing_costs_the_index_and_what_changed`
//! - takes `https` before `http` before others, and nothing that needs a key:
//!   `the_clone_link_is_the_one_that_anybody_can_use`
//! - odd names come out as git takes them: `real_pages_of_odd_names_give_the_clone_link_of_the_table`,
//!   `a_link_from_the_head_is_escaped`
//! - joins a clone link that cgit cut at the spaces of a name:
//!   `a_clone_link_cut_at_spaces_is_joined_or_left_out`
//! - goes to the summary tab once, and never back and forth: `the_summary_tab_is_one_hop`
//! - a repository without a clone link is counted as left out: `a_page_without_clone_links_is_a_skip`
//! - rows that lead to another host are left out, and if all do it is an error:
//!   `rows_that_leave_the_host_are_left_out`
//! - with `base_git_url` paths are mapped, whatever the slash, scheme or case of `url`:
//!   `base_git_url_maps_paths`, `base_git_url_asks_for_no_page_of_a_repository`,
//!   `a_row_outside_the_base_is_left_out_and_a_wrong_base_is_an_error`
//! - an index without rows is no error; a page that is no index, or is cut, is:
//!   `an_empty_index_is_no_error`, `what_is_no_cgit_page_is_an_error_that_says_what_is_missing`,
//!   `a_cut_page_is_an_error`, `a_broken_page_is_a_gap_and_healed_by_the_next_listing`
//! - repositories that are all absent are not taken for gone:
//!   `repositories_that_are_all_absent_are_not_believed_to_be_gone`
//! - a repository's 404 or 410 is left out, every other failure is a gap:
//!   `only_a_repository_that_is_gone_is_skipped`, `odd_sites_are_listed_to_their_end`
//! - no page makes it panic: `no_bytes_make_it_panic`, `no_cut_or_bent_page_makes_it_panic`,
//!   `no_attribute_makes_it_panic`
//! - a page deeper or longer than any real one does not stop the run: `a_page_like_no_real_one_is_an_error`

use std::sync::Arc;

use scraper::ElementRef;
use serde::{Deserialize, Serialize};
use url::Url;

use super::web::{best_clone, web_url};
use super::{location, same_host, stays_on_host, web};
use crate::lister::html::{HtmlPage, selector, text};
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    Recovery, RunInfo, Source, base_url, fingerprint,
};
use crate::model::{NewOrigin, Timestamp, VisitType, check_origin_url};
use crate::transport::{Request, Response};

/// A whole page has one of these: a theme of the site's may end the page in its own way, but cgit
/// closes its content itself.
const ENDS: &[&str] = &["<!-- class=content -->", "</html>"];

/// Lists a cgit. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::CGit;
/// use lamplighter::model::Timestamp;
///
/// let cgit = CGit::new("https://git.example/cgit/".parse()?, "git.example");
/// let start = cgit.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(cgit.request(&start[0])?.url.as_str(), "https://git.example/cgit/");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CGit {
    url: Url,
    instance: String,
    /// Where clones are, without a slash at its end.
    clones: Option<String>,
}

/// Where a listing of a cgit is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CGitCursor {
    /// At a page of the index.
    Index {
        /// The page.
        url: Url,
    },
    /// At a repository's page.
    Repo {
        /// The page.
        url: Url,
        /// When the repository last changed, by the index.
        updated: Option<Timestamp>,
        /// Whether this is the page's summary tab, reached from the page in the index.
        hop: bool,
    },
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
        Parameter::optional(
            "base_git_url",
            ParameterKind::Text,
            "Where clones are: a repository's path below url is put behind it, and its own page not asked for.",
        ),
    ];
    fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
        let (url, instance) = base_url(arguments)?;
        let mut cgit = CGit::new(url, instance);
        if let Some(base) = arguments.text("base_git_url") {
            cgit = cgit.with_base_git_url(base)?;
        }
        Ok(Arc::new(Source::stateless(cgit)))
    }
    Entry::new("cgit", "Repositories of a site with the cgit web interface", build)
        .with_parameters(PARAMETERS)
        .with_positions(&["ofs"])
}

impl CGit {
    /// Lists the repositories on the index page `url`.
    pub fn new(url: Url, instance: impl Into<String>) -> Self {
        Self { url, instance: instance.into(), clones: None }
    }

    /// Makes clone URLs from the paths of the repositories below the index page, put behind `base`.
    /// Their own pages are then not asked for.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when `base` cannot be the beginning of an origin's URL (relative, ssh),
    /// or has a query.
    pub fn with_base_git_url(mut self, base: &str) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError::Value { name: "base_git_url".to_owned(), problem };
        check_origin_url(base).map_err(|e| wrong(format!("{e}; it must be such as https://git.example/")))?;
        if base.contains(['?', '#']) {
            return Err(wrong("must have neither a query nor a fragment".to_owned()));
        }
        self.clones = Some(base.trim_end_matches('/').to_owned());
        Ok(self)
    }

    fn index(&self, response: &Response, page: &mut Page<CGitCursor>) -> Result<(), ListerError> {
        let html = HtmlPage::read(response, ENDS)?;
        let list = selector("table[summary='repository list'], td.toplevel-repo, td.sublevel-repo")?;
        if !html.has(&list) {
            return Err(ListerError::parse(format!(
                "no repository list (table[summary='repository list']) in {}: is this the index of a cgit?",
                html.called()
            )));
        }
        html.check_whole("the index")?;
        let (mut rows, mut used) = (0_usize, 0_usize);
        let mut why_not = String::new();
        for row in rows_of(&html)? {
            rows += 1;
            match self.row(&row, response, page)? {
                None => used += 1,
                Some(why) => {
                    page.skip(row.what, &why);
                    why_not = why;
                }
            }
        }
        // A site that moved, or a base that is wrong, must not look like a site without repositories.
        if rows > 0 && used == 0 {
            let why = format!("none of the {rows} rows can be used: the last {why_not}");
            return Err(ListerError::parse(why));
        }
        if let Some(next) = next_page(&html, &response.url, rows)? {
            page.next(CGitCursor::Index { url: next });
        }
        Ok(())
    }

    /// Gives a row's origin or detail page to the page; or says why neither.
    fn row(
        &self,
        row: &Row,
        response: &Response,
        page: &mut Page<CGitCursor>,
    ) -> Result<Option<String>, ListerError> {
        let Some(web) = row.href.as_deref().and_then(|href| web_url(&response.url, href)) else {
            return Ok(Some("has no link to a page".to_owned()));
        };
        if !web::is_of_site(&web, response, &self.url) {
            return Ok(Some(format!("leads to another host ({})", location(&web))));
        }
        let updated = row.date.as_deref().and_then(date);
        if let Some(clones) = &self.clones {
            let Some(path) = below(&self.url, &web).or_else(|| below(&response.url, &web)) else {
                return Ok(Some(format!("is not below {}{}", location(&self.url), self.url.path())));
            };
            page.origin(
                NewOrigin::new(format!("{clones}/{path}"), VisitType::git()).with_last_update(updated),
            )?;
            return Ok(None);
        }
        // The instant, not its text: a site that goes over to summer time has not changed.
        let print = match (updated, &row.date) {
            (Some(updated), _) => updated.to_string(),
            (None, Some(date)) => fingerprint(date),
            (None, None) => "undated".to_owned(),
        };
        page.item(web.as_str(), print, CGitCursor::Repo { url: web.clone(), updated, hop: false });
        Ok(None)
    }
}

impl Lister for CGit {
    type Cursor = CGitCursor;

    fn name(&self) -> &'static str {
        "cgit"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<CGitCursor> {
        vec![CGitCursor::Index { url: self.url.clone() }]
    }

    fn request(&self, at: &CGitCursor) -> Result<Request, ListerError> {
        let (CGitCursor::Index { url } | CGitCursor::Repo { url, .. }) = at;
        Ok(web::get(url, &self.url, "text/html"))
    }

    fn page(
        &self,
        at: &CGitCursor,
        response: Response,
        page: &mut Page<CGitCursor>,
    ) -> Result<(), ListerError> {
        match at {
            CGitCursor::Index { .. } => self.index(&response, page),
            CGitCursor::Repo { url, updated, hop } => read_repo((url, *updated, *hop), &response, page),
        }
    }

    fn recover(&self, at: &CGitCursor, failure: &Failure) -> Recovery<CGitCursor> {
        match at {
            // Not for the summary: its repository has just answered.
            CGitCursor::Repo { hop: false, .. } if failure.is_absent() => {
                Recovery::skip("gone since the index was read")
            }
            _ => Recovery::gap(),
        }
    }
}

/// Reads a repository's page.
fn read_repo(
    (url, updated, hop): (&Url, Option<Timestamp>, bool),
    response: &Response,
    page: &mut Page<CGitCursor>,
) -> Result<(), ListerError> {
    let html = HtmlPage::read(response, ENDS)?;
    let in_table = hrefs(&html, "a[rel~='vcs-git'][href]")?;
    let in_head = hrefs(&html, "link[rel~='vcs-git'][href]")?;
    if in_table.is_empty() && in_head.is_empty() && !html.has(&selector("table.tabs")?) {
        return Err(ListerError::parse(format!(
            "neither a clone link (a[rel=vcs-git]) nor tabs (table.tabs) in {}: is this a page of a cgit?",
            html.called()
        )));
    }
    html.check_whole("the repository's page")?;
    if in_table.is_empty()
        && !hop
        && let Some(summary) = summary_tab(&html, &response.url)?
        && summary != *url
        && Some(&summary) != web_url(&response.url, "").as_ref()
    {
        if same_host(&summary, &response.url) {
            page.next(CGitCursor::Repo { url: summary, updated, hop: true });
        } else {
            page.skip(url, format!("its summary leads to another host ({})", location(&summary)));
        }
        return Ok(());
    }
    let given = if in_table.is_empty() { in_head } else { in_table };
    match best_clone(&clone_urls(&given, &response.url)) {
        Some(clone) => {
            page.origin(NewOrigin::new(clone, VisitType::git()).with_last_update(updated))?;
        }
        None if given.is_empty() => page.skip(url, "there is no clone link on its page"),
        None => {
            let given: String = given.join(" ").chars().take(200).collect();
            page.skip(url, format!("none of its clone links can be used without a key ({given})"));
        }
    }
    Ok(())
}

/// What a row of the index says.
struct Row {
    what: String,
    href: Option<String>,
    date: Option<String>,
}

/// The rows of the index that stand for a repository. Headers and sections have a class, a
/// repository's row has none.
fn rows_of(html: &HtmlPage) -> Result<Vec<Row>, ListerError> {
    let row = selector("div.content tr")?;
    let name = selector("td.toplevel-repo, td.sublevel-repo")?;
    let (cell, link, age) = (selector("td")?, selector("a[href]")?, selector("span[class^='age-'][title]")?);
    let repositories = html.all(&row).filter_map(|row| {
        let named = row.select(&name).next();
        if named.is_none() && row.attr("class").is_some() {
            return None;
        }
        let name = named.or_else(|| row.select(&cell).next());
        let href = name.and_then(|n| n.select(&link).next()?.attr("href"));
        Some(Row {
            what: format!("the row {:?}", name.map(text).unwrap_or_default()),
            href: href.map(str::to_owned),
            date: row.select(&age).next().and_then(|a| a.attr("title")).map(|t| t.trim().to_owned()),
        })
    });
    Ok(repositories.collect())
}

/// The link after the current page's.
fn next_page(html: &HtmlPage, base: &Url, rows: usize) -> Result<Option<Url>, ListerError> {
    let (listed, unlisted) = (selector("ul.pager > li")?, selector(".pager > a")?);
    let link = selector("a[href]")?;
    let mut pages: Vec<ElementRef<'_>> = html.all(&listed).collect();
    if pages.is_empty() {
        // Before version 0.9 the links are not in a list.
        pages = html.all(&unlisted).collect();
    }
    let marked = |e: &ElementRef<'_>| e.value().classes().any(|c| c == "current");
    let current = pages.iter().position(|p| marked(p) || p.child_elements().any(|c| marked(&c)));
    let Some(current) = current else {
        // Past the end no page is the current one, and there are no rows.
        if rows > 0 && pages.len() > 1 {
            return Err(ListerError::parse(
                "the pager (.pager) marks no current page (a.current): which is the next one?",
            ));
        }
        return Ok(None);
    };
    let Some(next) = pages.get(current + 1) else { return Ok(None) };
    let href = next.attr("href").or_else(|| next.select(&link).next()?.attr("href"));
    let Some(next) = href.and_then(|href| base.join(href).ok()) else { return Ok(None) };
    stays_on_host(base, &next)?;
    Ok(Some(next))
}

/// The page of a repository's summary, as its tabs name it.
fn summary_tab(html: &HtmlPage, base: &Url) -> Result<Option<Url>, ListerError> {
    let tabs = selector("table.tabs a[href]")?;
    let summary = html.all(&tabs).find(|tab| text(*tab).contains("summary"));
    Ok(summary.and_then(|tab| web_url(base, tab.attr("href")?)))
}

fn hrefs(html: &HtmlPage, css: &str) -> Result<Vec<String>, ListerError> {
    let links = selector(css)?;
    let found = html.all(&links).filter_map(|e| e.attr("href")).map(|h| escaped(h.trim()));
    Ok(found.filter(|h| !h.is_empty()).collect())
}

/// Clone links, those that cgit cut put together. It takes a setting for several links with spaces
/// between them, after it has put the repository's name in, which may have spaces itself.
fn clone_urls(given: &[String], page: &Url) -> Vec<String> {
    let mut urls: Vec<(String, bool)> = Vec::new();
    for href in given {
        if href.starts_with('/') {
            urls.extend(page.join(href).map(|u| (String::from(u), false)));
        } else if href.contains(':') {
            urls.push((href.clone(), false));
        } else if let Some((url, cut)) = urls.last_mut() {
            *url = format!("{url}%20{href}");
            *cut = true;
        }
    }
    // What was put together counts only if it ends as the page's own path does.
    let plain = |name: &str| name.to_ascii_lowercase().trim_end_matches(".git").to_owned();
    let names: Vec<String> = page.path().split('/').map(plain).collect();
    let ours = |url: &str| url.rsplit('/').next().is_some_and(|name| names.contains(&plain(name)));
    urls.into_iter().filter(|(url, cut)| !cut || ours(url)).map(|(url, _)| url).collect()
}

/// Escapes what cannot stand in a URL, in lower case as cgit itself does. What is escaped stays.
fn escaped(href: &str) -> String {
    let mut out = String::with_capacity(href.len());
    let hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    let bytes = href.as_bytes();
    for (i, &b) in bytes.iter().enumerate() {
        let loose = b == b'%' && !(hex(bytes.get(i + 1).copied()) && hex(bytes.get(i + 2).copied()));
        if loose || !b.is_ascii_graphic() {
            out.extend(['%', digit(b >> 4), digit(b & 15)]);
        } else {
            out.push(char::from(b));
        }
    }
    out
}

/// The path of a repository's page below the index, whatever the scheme, the slash at the end, and
/// the case of the index's path.
fn below<'a>(index: &Url, web: &'a Url) -> Option<&'a str> {
    let base = index.path().trim_end_matches('/');
    let (above, rest) = web.path().split_at_checked(base.len())?;
    let fits = same_host(index, web) && web.query().is_none() && above.eq_ignore_ascii_case(base);
    // The index itself has nothing behind it: pages are told apart without a slash at the end.
    let path = rest.strip_prefix('/')?;
    fits.then_some(path)
}

/// Reads a row's date: `2020-01-17 23:52:00 +0100` or, of older versions, `2013-12-02 00:22:14 (GMT)`.
fn date(title: &str) -> Option<Timestamp> {
    let (day, rest) = title.split_once(' ')?;
    let (time, zone) = rest.trim_start().split_once(' ')?;
    let zone = zone.trim();
    let zone = zone.strip_prefix('(').and_then(|z| z.strip_suffix(')')).unwrap_or(zone);
    let offset = zone_offset(zone).or_else(|| numeric_offset(zone))?;
    Timestamp::parse(&format!("{day}T{time}{offset}")).ok()
}

/// `+0130` as `+01:30`. What is no offset is found out when the whole date is read.
fn numeric_offset(zone: &str) -> Option<String> {
    let (hours, minutes) = zone.split_at_checked(3)?;
    Some(format!("{hours}:{}", minutes.strip_prefix(':').unwrap_or(minutes)))
}

/// Zone names that mean one offset wherever a server may stand. `CST`, `EST`, `IST`, `BST`, `PST` and
/// `MSK` do not (China and America; Australia before 2014; India, Israel and Ireland; …).
fn zone_offset(name: &str) -> Option<String> {
    let offset = match name.to_ascii_uppercase().as_str() {
        "UTC" | "GMT" | "UT" | "Z" | "WET" => "+00:00",
        "CET" | "WEST" => "+01:00",
        "CEST" | "EET" => "+02:00",
        "EEST" => "+03:00",
        "JST" => "+09:00",
        "NZST" => "+12:00",
        "NZDT" => "+13:00",
        "EDT" => "-04:00",
        "MDT" => "-06:00",
        _ => return None,
    };
    Some(offset.to_owned())
}
