//! gitweb: the repositories of a site with git's own web interface.
//!
//! # How it lists
//!
//! `GET {url}`, the index on one page, and of each repository with forks the page of these; then the page of
//! each repository, which says where it is cloned from and when it last changed. A site that shows no such index is
//! asked for the two others that gitweb has: `?a=project_index`, a line for each repository, and `?a=opml`.
//!
//! - **Credentials**: none. **Limits**: none known.
//! - **Order**: by name, or as the site sorts. **State**: none, but the ages in the index: "3 years ago" is taken for
//!   the year (day, hour …) that it names, and a repository whose unit is the same is not asked for again. The two other
//!   indexes have no ages: each of their repositories is asked for at each listing.
//! - **Scopes**: `prefix` lists the repositories in one directory of the site (gitweb's project filter), under a key
//!   of its own (`HOST/prefix=NAME`).
//! - **Cost**: a request, one for each repository that has forks, one for each that changed, and now and
//!   then one for a repository whose age went into another unit.
//! - **Origins**: the address on the repository's page, `https` before `http` before others; `http` becomes `https` where the
//!   site has it. gitweb does not escape the name in it: that is done here. Where the page has none,
//!   `{base_git_url}/NAME`, else `git://HOST/NAME`, which is gitweb's custom, and may lead nowhere. `last_update`
//!   is the date on its page, that of the last commit, to the second; a page without one gives none. What is on a page
//!   of forks is a fork.
//!
//! # What it cannot see
//!
//! Repositories that the site hides; a commit whose own date is as old as the one before it, until its age goes
//! into another unit. A gitweb without any repository answers with status 404, as a wrong address does: a gap, not an
//! empty listing.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/gitweb.rs` that fails without it:
//!
//! - asks for the index, and is made from `url` or `instance`: `gitweb_the_index_is_asked_for_first`
//! - reads each row's page and age, and neither headers nor categories: `gitweb_rows_lead_to_pages`
//! - an age stands for the time that it names: `gitweb_an_age_is_the_time_that_it_names`
//! - links are read by the page's base: `gitweb_links_are_read_by_their_base`
//! - asks for forks, and says that they are: `gitweb_forks_are_asked_for`
//! - rows that lead elsewhere are skipped, and if all do it is an error: `gitweb_odd_rows_are_counted`
//! - takes the best address, whatever stands before it: `gitweb_the_best_address_is_taken`
//! - escapes names as git takes them: `gitweb_names_are_escaped`
//! - a page without an address has the customary one, or none: `gitweb_a_page_without_an_address_has_the_customary_one`
//! - the date is the page's own: `gitweb_the_date_is_that_of_the_page`
//! - a site without an index in HTML is asked for the others: `gitweb_without_an_index_the_others_are_asked_for`
//! - reads the list of lines: `gitweb_reads_the_project_index`
//! - reads the list of feeds: `gitweb_reads_the_list_of_feeds`
//! - one directory is a listing of its own: `gitweb_lists_a_directory`
//! - a repository that is gone is skipped, one that cannot be read is a gap: `gitweb_a_repository_that_is_gone_is_skipped`
//! - what is no page of a gitweb, or is cut, is an error: `gitweb_what_is_no_gitweb_is_an_error`
//! - no page makes it panic: `gitweb_no_cut_or_bent_page_makes_it_panic`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::scope::{Instance, Scope};
use super::{location, web};
use crate::lister::html::{HtmlPage, selector, text};
use crate::lister::xml::{Step, Xml};
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Failure, FailureKind, Lister, ListerError, Page, PageSource,
    Parameter, ParameterKind, Recovery, RunInfo, Source, base_url, mail_date,
};
use crate::model::{NewOrigin, Timestamp, VisitType, check_origin_url};
use crate::transport::{Request, Response};

const BASE_GIT_URL: &str = "base_git_url";
const PREFIX: &str = "prefix";

/// A whole page has this at its end.
const ENDS: &[&str] = &["</html>"];

/// The beginnings of addresses.
const SCHEMES: [&str; 3] = ["https://", "http://", "git://"];

/// Lists a gitweb. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Gitweb;
/// use lamplighter::model::Timestamp;
///
/// let gitweb = Gitweb::new("https://git.example/gitweb/".parse()?, "git.example");
/// let start = gitweb.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(gitweb.request(&start[0])?.url.as_str(), "https://git.example/gitweb/");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gitweb {
    url: Url,
    instance: Instance,
    /// Where clones are of which the pages say nothing, without a slash at its end.
    clones: Option<String>,
}

/// The indexes that gitweb has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GitwebIndex {
    /// The page for people: the only one with ages.
    Html,
    /// A line for each repository.
    ProjectIndex,
    /// A list of feeds.
    Opml,
}

/// Where a listing of a gitweb is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GitwebCursor {
    /// At an index of the site.
    Index(GitwebIndex),
    /// At the page of a repository's forks.
    Forks {
        /// The page.
        url: Url,
    },
    /// At a repository's page.
    Repo {
        /// The page.
        url: Url,
        /// Its name, where the index says it.
        project: Option<String>,
        /// Whether the index says that there is no commit.
        empty: Option<bool>,
        /// Whether it is on a page of forks.
        fork: bool,
    },
}

impl Gitweb {
    /// Lists the repositories on the index page `url`.
    pub fn new(url: Url, instance: impl Into<String>) -> Self {
        Self { url, instance: Instance::new(instance), clones: None }
    }

    /// Says where repositories are cloned from whose pages do not: `base` and the repository's name.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when `base` cannot be the beginning of an origin's URL.
    pub fn with_base_git_url(mut self, base: &str) -> Result<Self, ConfigError> {
        check_origin_url(base).map_err(|e| ConfigError::Value {
            name: BASE_GIT_URL.to_owned(),
            problem: format!("{e}; it must be such as https://git.example/"),
        })?;
        self.clones = Some(base.trim_end_matches('/').to_owned());
        Ok(self)
    }

    /// Lists only the repositories in one directory of the site, under a key of its own.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.instance.narrow(Scope::exact(PREFIX, prefix));
        self
    }

    /// The address of an index.
    fn index_url(&self, index: GitwebIndex) -> Url {
        let mut url = self.url.clone();
        let action = match index {
            GitwebIndex::Html => "project_list",
            GitwebIndex::ProjectIndex => "project_index",
            GitwebIndex::Opml => "opml",
        };
        // gitweb parts its parameters by semicolons.
        match self.instance.scope() {
            Some(prefix) => {
                let prefix: String = url::form_urlencoded::byte_serialize(prefix.name().as_bytes()).collect();
                url.set_query(Some(&format!("a={action};pf={prefix}")));
            }
            None if index == GitwebIndex::Html => {}
            None => url.set_query(Some(&format!("a={action}"))),
        }
        url
    }

    fn rows(
        &self,
        fork: bool,
        response: &Response,
        page: &mut Page<GitwebCursor>,
    ) -> Result<(), ListerError> {
        let html = HtmlPage::read(response, ENDS)?;
        if !html.has(&selector("table.project_list")?) {
            return Err(ListerError::parse(format!(
                "no list of repositories (table.project_list) in {}: is this the index of a gitweb?",
                html.called()
            )));
        }
        html.check_whole("the index")?;
        let base = web::base_of(&html, &response.url)?;
        let (row, list, link) =
            (selector("table.project_list tr")?, selector("td a.list[href]")?, selector("td a[href]")?);
        let age = selector("td[class^='age'], td.noage")?;
        let (mut all, mut used) = (0_usize, 0_usize);
        for row in html.all(&row) {
            if let Some(forks) =
                row.select(&link).filter_map(|a| a.attr("href")).find(|href| is_of(href, "forks"))
                && let Some(url) = page_url(&base, forks)
                && web::is_of_site(&url, response, &self.url)
            {
                page.follow(GitwebCursor::Forks { url });
            }
            let Some(named) = row.select(&list).next().or_else(|| row.select(&link).next()) else { continue };
            all += 1;
            let href = named.attr("href").unwrap_or_default();
            let label = format!("the row {:?}", text(named));
            let Some(url) = page_url(&base, href) else {
                page.skip(label, "has no link to a page");
                continue;
            };
            if !web::is_of_site(&url, response, &self.url) {
                page.skip(label, format!("leads to another host ({})", location(&url)));
                continue;
            }
            if url == response.url {
                page.skip(label, "leads back to the page that it is on");
                continue;
            }
            used += 1;
            let aged = row.select(&age).next().map(text).unwrap_or_default();
            let empty = (aged == "No commits").then_some(true);
            let print = if empty.is_some() {
                Some("empty".to_owned())
            } else {
                age_print(&aged, response.received_at)
            };
            let empty = empty.or_else(|| print.as_ref().map(|_| false));
            let written = named.text().collect::<String>();
            let project =
                parameter(&url, "p").or_else(|| Some(written.trim().to_owned()).filter(|p| !p.is_empty()));
            let repo = GitwebCursor::Repo { url: url.clone(), project, empty, fork };
            match print {
                Some(print) => page.item(url.as_str(), print, repo),
                None => page.follow(repo),
            }
        }
        // A site that moved must not look like one without repositories.
        if all > 0 && used == 0 {
            return Err(ListerError::parse(format!("none of the {all} rows leads to a page of this site")));
        }
        Ok(())
    }

    /// Reads the index of lines: a name, a space, its owner.
    fn lines(&self, response: &Response, page: &mut Page<GitwebCursor>) -> Result<(), ListerError> {
        let body = response.text()?;
        if !body.is_empty() && !body.ends_with('\n') {
            return Err(ListerError::parse(format!("the project index is cut after {} bytes", body.len())));
        }
        if body.is_empty() {
            return Err(ListerError::parse("an empty body in the place of a project index"));
        }
        for (n, line) in body.lines().enumerate() {
            let name = line.split(' ').next().unwrap_or_default();
            let escaped = |b: u8| b.is_ascii_alphanumeric() || b"_.-/+%".contains(&b);
            if name.is_empty() || !name.bytes().all(escaped) || line.matches(' ').count() > 1 {
                return Err(ListerError::parse(format!(
                    "line {}: no name and owner: {:?}",
                    n + 1,
                    line.chars().take(80).collect::<String>()
                )));
            }
            let mut url = self.url.clone();
            // As gitweb writes it there, it goes into a query.
            url.set_query(Some(&format!("p={name};a=summary")));
            page.follow(repo_of(url));
        }
        Ok(())
    }

    /// Reads the list of feeds.
    fn feeds(&self, response: &Response, page: &mut Page<GitwebCursor>) -> Result<(), ListerError> {
        let body = response.text()?;
        let mut xml = Xml::new("the list of feeds", body.as_bytes(), "opml");
        while let Some(step) = xml.step()? {
            let Step::Open(_) = step else { continue };
            let Some(page_of) = xml.attribute("htmlUrl").map(str::to_owned) else { continue };
            match page_url(&response.url, &page_of) {
                Some(url) if url != response.url && web::is_of_site(&url, response, &self.url) => {
                    page.follow(repo_of(url));
                }
                _ => page.skip(page_of, "is no page of this site"),
            }
        }
        Ok(())
    }

    /// Reads a repository's page.
    fn repository(
        &self,
        (url, project, empty, fork): (&Url, Option<&str>, Option<bool>, bool),
        response: &Response,
        page: &mut Page<GitwebCursor>,
    ) -> Result<(), ListerError> {
        let html = HtmlPage::read(response, ENDS)?;
        let (row, cell) = (selector("tr.metadata_url")?, selector("td")?);
        if !html.has(&row) && !html.has(&selector("table.projects_list")?) {
            return Err(ListerError::parse(format!(
                "neither an address (tr.metadata_url) nor table.projects_list in {}: is this a page of a gitweb?",
                html.called()
            )));
        }
        html.check_whole("the repository's page")?;
        let written: Vec<String> = html
            .all(&row)
            .filter_map(|row| row.select(&cell).last().map(|cell| cell.text().collect::<String>()))
            .collect();
        let addresses: Vec<String> = written.iter().flat_map(|text| addresses(text, project)).collect();
        let updated = html.all(&selector("#metadata_lchange td")?).nth(1).map(text).and_then(|said| {
            // Behind it may be the same in the committer's own zone.
            mail_date(said.split(" (").next().unwrap_or_default())
        });
        let clone = self.best(&addresses).or_else(|| project.map(|project| self.customary(project)));
        let Some(clone) = clone else {
            page.skip(url, "its page names no address to clone from");
            return Ok(());
        };
        if let Err(why) = check_origin_url(&clone) {
            page.skip(url, format!("{clone:?} cannot be visited: {why}"));
            return Ok(());
        }
        let empty = if updated.is_some() { Some(false) } else { empty };
        page.origin(
            NewOrigin::new(clone, VisitType::git())
                .with_last_update(updated)
                .with_fork(fork.then_some(true))
                .with_empty(empty),
        )
    }

    /// The safest of the addresses; by https where only http is named and the site has it.
    fn best(&self, addresses: &[String]) -> Option<String> {
        let of = |scheme: &str| addresses.iter().find(|url| url.starts_with(scheme));
        if let Some(https) = of("https://") {
            return Some(https.clone());
        }
        match of("http://") {
            Some(http) if self.url.scheme() == "https" => Some(http.replacen("http:", "https:", 1)),
            http => http.or(addresses.first()).cloned(),
        }
    }

    /// Where a repository is that does not say it.
    fn customary(&self, project: &str) -> String {
        let base = self
            .clones
            .clone()
            .unwrap_or_else(|| format!("git://{}", self.url.host_str().unwrap_or_default()));
        format!("{base}/{}", web::encoded(project.trim_start_matches('/')))
    }
}

fn repo_of(url: Url) -> GitwebCursor {
    let project = parameter(&url, "p");
    GitwebCursor::Repo { url, project, empty: None, fork: false }
}

/// A link made absolute. Slashes stay as they are: before a query they mean another page.
fn page_url(base: &Url, href: &str) -> Option<Url> {
    let mut url = base.join(href.trim()).ok()?;
    url.set_fragment(None);
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// A parameter of a gitweb's address, where these are parted by semicolons.
fn parameter(url: &Url, name: &str) -> Option<String> {
    let pairs = url.query()?.split([';', '&']);
    let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name)?.1;
    let pair = format!("v={}", value.replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
}

/// Whether a link is for an action, in a query or as a part of the path.
fn is_of(href: &str, action: &str) -> bool {
    let tail = href.rsplit([';', '?', '&']).next().unwrap_or_default();
    tail == format!("a={action}") || href.ends_with(&format!("/{action}"))
}

/// The addresses in a cell: what stands before one is a label, and commas part several. The name at the end of one is
/// as it is on the disk.
fn addresses(text: &str, project: Option<&str>) -> Vec<String> {
    let text = text.trim();
    let tail = project.map(|project| format!("/{project}"));
    let ends = |url: &str| tail.as_deref().filter(|tail| url.ends_with(tail)).map(str::len);
    let several = ends(text).is_none() || text.matches("://").count() > 1;
    let pieces: Vec<&str> = if several { text.split(',').collect() } else { vec![text] };
    pieces
        .into_iter()
        .filter_map(|piece| {
            let piece = piece.trim();
            let from = SCHEMES.iter().filter_map(|scheme| piece.find(scheme)).min()?;
            let url = piece.get(from..)?;
            let (head, name) = match (ends(url), project) {
                (Some(len), Some(project)) => (url.get(..url.len().saturating_sub(len))?, Some(project)),
                _ => (url, None),
            };
            let mut whole = Url::parse(head).ok()?.to_string();
            if let Some(name) = name {
                whole = format!("{}/{}", whole.trim_end_matches('/'), web::encoded(name));
            }
            Some(whole)
        })
        .collect()
}

/// What stands for an age in the index, the same for a repository that did not change: the unit of time
/// that it names, counted from the epoch. At its next unit it is another one: such a repository is asked for once more.
fn age_print(age: &str, now: Timestamp) -> Option<String> {
    let words: Vec<&str> = age.split_whitespace().collect();
    let (count, unit): (i64, &str) = match words.as_slice() {
        ["right", "now"] => (0, "sec"),
        [count, unit, "ago"] => (count.parse().ok()?, unit),
        _ => return None,
    };
    let seconds = match unit.trim_end_matches('s') {
        "sec" | "second" => 1,
        "min" | "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        "week" => 7 * 86_400,
        // As gitweb counts it.
        "month" => 365 * 86_400 / 12,
        "year" => 365 * 86_400,
        _ => return None,
    };
    let at = now.as_seconds().checked_sub(count.checked_mul(seconds)?)?;
    Some(format!("{} {}", unit.trim_end_matches('s'), at.div_euclid(seconds)))
}

impl Lister for Gitweb {
    type Cursor = GitwebCursor;

    fn name(&self) -> &'static str {
        "gitweb"
    }

    fn instance(&self) -> &str {
        self.instance.key()
    }

    fn start(&self, _: &RunInfo) -> Vec<GitwebCursor> {
        vec![GitwebCursor::Index(GitwebIndex::Html)]
    }

    fn request(&self, at: &GitwebCursor) -> Result<Request, ListerError> {
        Ok(match at {
            GitwebCursor::Index(index) => web::get(
                &self.index_url(*index),
                &self.url,
                match index {
                    GitwebIndex::Html => "text/html",
                    GitwebIndex::ProjectIndex => "text/plain",
                    GitwebIndex::Opml => "text/x-opml, text/xml",
                },
            ),
            GitwebCursor::Forks { url } | GitwebCursor::Repo { url, .. } => {
                web::get(url, &self.url, "text/html")
            }
        })
    }

    fn page(
        &self,
        at: &GitwebCursor,
        response: Response,
        page: &mut Page<GitwebCursor>,
    ) -> Result<(), ListerError> {
        match at {
            GitwebCursor::Index(GitwebIndex::Html) => self.rows(false, &response, page),
            GitwebCursor::Index(GitwebIndex::ProjectIndex) => self.lines(&response, page),
            GitwebCursor::Index(GitwebIndex::Opml) => self.feeds(&response, page),
            GitwebCursor::Forks { .. } => self.rows(true, &response, page),
            GitwebCursor::Repo { url, project, empty, fork } => {
                self.repository((url, project.as_deref(), *empty, *fork), &response, page)
            }
        }
    }

    fn recover(&self, at: &GitwebCursor, failure: &Failure) -> Recovery<GitwebCursor> {
        // A site that hides an index, or has a page of its own in its place, may have another one. One that
        // is ill has none.
        let refused = failure.status().is_some_and(|status| status.is_client_error())
            || matches!(failure.kind, FailureKind::Parse);
        let other = |index| Recovery::replaced(vec![GitwebCursor::Index(index)]);
        match at {
            GitwebCursor::Index(GitwebIndex::Html) if refused => other(GitwebIndex::ProjectIndex),
            GitwebCursor::Index(GitwebIndex::ProjectIndex) if refused || failure.is_not_there() => {
                other(GitwebIndex::Opml)
            }
            GitwebCursor::Index(GitwebIndex::Opml) => Recovery::gap()
                .because("neither its page, ?a=project_index nor ?a=opml lists the repositories"),
            GitwebCursor::Repo { .. } | GitwebCursor::Forks { .. } if failure.is_absent() => {
                Recovery::skip("gone since the index was read")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the page with the list of repositories"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
    Parameter::optional(
        BASE_GIT_URL,
        ParameterKind::Text,
        "where clones are of which their pages say nothing, before a repository's name",
    ),
    Parameter::optional(PREFIX, ParameterKind::Text, "list only the repositories in this directory"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("gitweb", "Repositories of a site with git's own web interface", build)
        .telling(&[Fact::Fork, Fact::Empty])
        .with_parameters(PARAMETERS)
        .with_positions(&["p", "a"])
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    let mut gitweb = Gitweb::new(url, instance);
    if let Some(base) = arguments.text(BASE_GIT_URL) {
        gitweb = gitweb.with_base_git_url(base)?;
    }
    if let Some(prefix) = arguments.text(PREFIX) {
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() || prefix.chars().any(char::is_control) {
            return Err(arguments.wrong(PREFIX, "must be a directory of the site"));
        }
        gitweb = gitweb.with_prefix(prefix);
    }
    Ok(Arc::new(Source::stateless(gitweb)))
}
