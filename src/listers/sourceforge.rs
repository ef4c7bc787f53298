//! SourceForge: the repositories of every project, in five version control systems.
//!
//! # How it lists
//!
//! `GET {url}/allura_sitemap/sitemap.xml`, the index of sitemaps; each sitemap names pages of projects, with dates; then
//! `GET {url}/rest/{p/project}`, whose `tools` are what the project has. A CVS repository has modules and a Bazaar one
//! has branches: a page for each such project names them.
//!
//! - **Credentials**: none. **Limits**: not documented; too many requests are answered by 403 with a challenge for a
//!   browser, which the transport waits out.
//! - **Order**: none. A project whose date did not change is not asked for again.
//! - **State**: `subsitemap_last_modified`, the dates of the sitemaps that were read, by their addresses. The next run
//!   reads only those with another date. A date is a day, and what changes later that day has the same one: so
//!   neither a sitemap's nor a project's date is kept for unchanged until that day is over everywhere.
//! - **Cost**: a full listing 1 + the sitemaps (some dozens) + a request for each project, and one more for each with CVS or
//!   Bazaar; an incremental one the index, the changed sitemaps and their changed projects.
//! - **Origins**: `https://git.code.sf.net/{p/project}/{mount}`, and in the same way `svn` (`hg` by http);
//!   `rsync://a.cvs.sourceforge.net/cvsroot/{project}/{module}`; the branches of `http://{project}.bzr.sourceforge.net/bzr/`.
//!   `last_update` is the project's day. A project that is abandoned or has moved is archived. The forge id is the project's,
//!   with the mount.
//! - **Deletions**: a full run retires what the sitemaps no longer name.
//!
//! # What it cannot see
//!
//! When a single repository changed; forks; projects that the sitemaps leave out; the CVS of a subproject, which has no host
//! of its own; Bazaar branches in folders, which are counted. In an incremental run, what was deleted.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/sourceforge.rs` that fails without it:
//!
//! - asks for the index of sitemaps first: `sourceforge_asks_for_the_index_first`
//! - sitemaps whose date is the stored one are left out, others are read: `sourceforge_reads_sitemaps_that_changed`
//! - a state of before is read: `sourceforge_a_stored_state_is_read`
//! - a sitemap is marked as read by its own page, and only when its day is over:
//!   `sourceforge_a_sitemap_is_marked_when_it_was_read`
//! - pages lead to projects and subprojects, each once, in its namespace:
//!   `sourceforge_pages_lead_to_projects`
//! - odd addresses are counted: `sourceforge_odd_addresses_are_counted`
//! - a project of a day that is not over is asked for again: `sourceforge_a_day_that_is_not_over_is_no_fingerprint`
//! - tools are origins, and others are not: `sourceforge_tools_are_origins`
//! - modules of CVS, and branches of Bazaar, are origins: `sourceforge_modules_of_cvs_are_origins`,
//!   `sourceforge_branches_of_bazaar_are_origins`
//! - a page of CVS that leads elsewhere is counted: `sourceforge_a_page_that_leads_elsewhere_is_counted`
//! - what is gone is skipped, what is refused is a gap: `sourceforge_what_is_gone_is_skipped`
//! - a sitemap elsewhere is refused, and a broken body is an error with its place:
//!   `sourceforge_a_sitemap_elsewhere_is_refused`, `sourceforge_a_broken_body_is_an_error_with_its_place`
//! - states join to the later days: `sourceforge_joins_to_the_later_days`
//! - its parameters: `sourceforge_takes_its_parameters`

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::web::encoded;
use super::{on_the_same_host, under};
use crate::lister::html::{HtmlPage, selector, text};
use crate::lister::sitemap::{self, Sitemap, is_settled};
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Failure, Incremental, Lister, ListerError, Page, PageSource,
    Parameter, ParameterKind, Recovery, RunInfo, Source,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};

const SITE: &str = "https://sourceforge.net/";

/// A page about a CVS repository has this behind its modules.
const CVS_ENDS: &[&str] = &["::cvsroot/"];

const BZR_ENDS: &[&str] = &["</html>"];

/// Lists SourceForge. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::SourceForge;
/// use lamplighter::model::Timestamp;
///
/// let forge = SourceForge::new(&"https://sourceforge.net/".parse()?, "main");
/// let start = forge.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(forge.request(&start[0])?.url.path(), "/allura_sitemap/sitemap.xml");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SourceForge {
    base: Url,
    instance: String,
}

/// Where a listing of SourceForge is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SourceForgeCursor {
    /// At the index of sitemaps.
    Index {
        /// The dates of those that were read, by their addresses.
        known: BTreeMap<String, String>,
    },
    /// At a sitemap.
    Sitemap {
        /// Its address.
        url: Url,
        /// Its date in the index.
        lastmod: Option<String>,
    },
    /// At a project.
    Project(SourceForgeProject),
    /// At the page with the modules of a CVS repository.
    Cvs(SourceForgeProject),
    /// At the page with the branches of a Bazaar repository.
    Bzr(SourceForgeProject),
}

/// A project, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceForgeProject {
    /// Namespace and name, as `p/aaron`; a subproject's name is behind its project's.
    pub path: String,
    /// Its date in the sitemap.
    pub updated: Option<Timestamp>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether it has ended or moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
}

impl SourceForgeProject {
    /// Its name, where it is no subproject: what has a host of its own.
    fn name(&self) -> Option<&str> {
        self.path.split_once('/').map(|(_, name)| name).filter(|name| !name.contains('/'))
    }

    fn origin(&self, url: impl Into<String>, kind: &'static str, mount: &str) -> NewOrigin {
        let origin = NewOrigin::new(url, VisitType::known(kind))
            .with_last_update(self.updated)
            .with_archived(self.archived);
        match &self.id {
            Some(id) => origin.with_forge_id(format!("{id}/{mount}")),
            None => origin,
        }
    }

    /// The page of what it has in a system that has hosts for projects.
    fn page(&self, system: &str) -> Result<Url, ListerError> {
        let name = self.name().unwrap_or_default();
        let folder = if system == "bzr" { format!("bzr/{name}") } else { String::new() };
        let text = format!("http://{name}.{system}.sourceforge.net/{folder}");
        Url::parse(&text)
            .map_err(|e| ListerError::cursor(format!("{:?} has no host", self.path)).with_source(e))
    }
}

/// What is remembered of SourceForge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceForgeState {
    /// The dates of the sitemaps that were read, by their addresses.
    #[serde(default)]
    pub subsitemap_last_modified: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "_id")]
    id: Option<String>,
    status: Option<String>,
    #[serde(default)]
    tools: Vec<Tool>,
}

#[derive(Deserialize)]
struct Tool {
    name: Option<String>,
    mount_point: Option<String>,
}

impl SourceForge {
    /// The SourceForge at `url`, or what stands before it; its repositories are where SourceForge's are.
    pub fn new(url: &Url, instance: impl Into<String>) -> Self {
        Self { base: under(url, &[]), instance: instance.into() }
    }

    fn index(
        &self,
        known: &BTreeMap<String, String>,
        response: &Response,
        page: &mut Page<SourceForgeCursor>,
    ) -> Result<(), ListerError> {
        sitemap::each_entry(Sitemap::Index, response, |loc, lastmod| {
            let url =
                loc.map_err(|text| ListerError::parse(format!("a sitemap at {text:?}, which is no URL")))?;
            let url = on_the_same_host(&self.base, url)?;
            if lastmod.is_none() || known.get(url.as_str()) != lastmod.as_ref() {
                page.follow(SourceForgeCursor::Sitemap { url, lastmod });
            }
            Ok(())
        })
    }

    fn sitemap(
        &self,
        (url, lastmod): (&Url, Option<&str>),
        response: &Response,
        page: &mut Page<SourceForgeCursor>,
    ) -> Result<(), ListerError> {
        let mut projects: BTreeMap<String, Option<String>> = BTreeMap::new();
        let (mut all, mut used, mut why_not) = (0_usize, 0_usize, String::new());
        sitemap::each_entry(Sitemap::Pages, response, |loc, lastmod| {
            all += 1;
            let at = loc.as_ref().map_or_else(Clone::clone, Url::to_string);
            match loc.map_err(|_| "is no URL".to_owned()).and_then(|loc| self.project(&loc)) {
                Ok(project) => {
                    used += 1;
                    // Its summary and files, which are not of a tool; the project itself is there as `p`.
                    if let Some(project) = project {
                        let known = projects.entry(project).or_default();
                        *known = known.take().max(lastmod);
                    }
                }
                Err(why) => {
                    page.skip(at.chars().take(200).collect::<String>(), &why);
                    why_not = format!("{at} {why}");
                }
            }
            Ok(())
        })?;
        // A site that moved must not pass for one without projects.
        if all > 0 && used == 0 {
            return Err(ListerError::parse(format!("none of {all} addresses is a project's: {why_not}")));
        }
        let now = response.received_at;
        for (path, lastmod) in projects {
            let updated = lastmod.as_deref().and_then(sitemap::date);
            let print = match lastmod.as_deref() {
                Some(lastmod) if is_settled(lastmod, now) => lastmod.to_owned(),
                // More may change on that day: later it is another one.
                Some(lastmod) if updated.is_some() => format!("{lastmod}, not over"),
                // Nothing to go by.
                _ => format!("asked at {now}"),
            };
            let key = path.clone();
            let project = SourceForgeProject { path, updated, id: None, archived: None };
            page.item(key, print, SourceForgeCursor::Project(project));
        }
        if let Some(lastmod) = lastmod.filter(|lastmod| is_settled(lastmod, now)) {
            page.mark(&SourceForgeState {
                subsitemap_last_modified: [(url.to_string(), lastmod.to_owned())].into(),
            });
        }
        Ok(())
    }

    /// The project that a page belongs to, `{namespace}/{project}/…/{tool}/`; none where it is another page of one that
    /// has such a page; or why it is none.
    fn project(&self, page: &Url) -> Result<Option<String>, String> {
        if page.host_str() != self.base.host_str() {
            return Err("is on another host".to_owned());
        }
        let below = page.path().strip_prefix(self.base.path()).unwrap_or(page.path());
        let parts: Vec<&str> = below.trim_start_matches('/').split('/').collect();
        let (Some((&namespace, _)), Some(of)) =
            (parts.split_first(), parts.get(..parts.len().saturating_sub(2).max(2)))
        else {
            return Err("is no page of a project".to_owned());
        };
        if parts.len() < 3 || !of.iter().all(|part| is_plain(part)) {
            return Err("is no page of a project".to_owned());
        }
        Ok((namespace != "projects").then(|| of.join("/")))
    }

    fn tools(
        mut project: SourceForgeProject,
        response: &Response,
        page: &mut Page<SourceForgeCursor>,
    ) -> Result<(), ListerError> {
        let answer: Answer = response.json()?;
        project.id = answer.id.filter(|id| !id.is_empty());
        project.archived = match answer.status.as_deref() {
            Some("active") => Some(false),
            Some("abandoned" | "moved") => Some(true),
            _ => None,
        };
        let (mut cvs, mut bzr) = (false, false);
        for tool in answer.tools {
            let kind = match tool.name.as_deref() {
                Some("git") => "git",
                Some("svn") => "svn",
                Some("hg") => "hg",
                Some("cvs") => {
                    cvs = true;
                    continue;
                }
                Some("bzr") => {
                    bzr = true;
                    continue;
                }
                _ => continue,
            };
            let mount = tool.mount_point.unwrap_or_default();
            if !is_plain(&mount) {
                page.skip(format!("{kind} of {}", project.path), format!("is mounted at {mount:?}"));
                continue;
            }
            let scheme = if kind == "hg" { "http" } else { "https" };
            let url = format!("{scheme}://{kind}.code.sf.net/{}/{mount}", project.path);
            page.origin(project.origin(url, kind, &mount))?;
        }
        for (there, what, cursor) in [
            (cvs, "CVS", SourceForgeCursor::Cvs(project.clone())),
            (bzr, "Bazaar", SourceForgeCursor::Bzr(project.clone())),
        ] {
            if there && project.name().is_some() {
                page.next(cursor);
            } else if there {
                page.skip(format!("{what} of {}", project.path), "a subproject has no host for it");
            }
        }
        Ok(())
    }

    fn modules(
        project: &SourceForgeProject,
        response: &Response,
        page: &mut Page<SourceForgeCursor>,
    ) -> Result<(), ListerError> {
        if leads_elsewhere(project, "cvs", response, page)? {
            return Ok(());
        }
        let html = HtmlPage::read(response, CVS_ENDS)?;
        html.check_whole("the page of a CVS repository")?;
        let name = project.name().unwrap_or_default();
        let (bold, before) = (selector("b")?, format!("/cvsroot/{name} co -P "));
        for command in html.all(&bold).map(text) {
            let Some((_, module)) = command.split_once(&before) else { continue };
            // What CVS keeps of deleted files, and no module.
            if module == "Attic" {
                continue;
            }
            let mut url = format!("rsync://a.cvs.sourceforge.net/cvsroot/{name}/");
            url.push_str(&encoded(module));
            page.origin(project.origin(url, "cvs", &format!("cvs/{module}")))?;
        }
        Ok(())
    }

    fn branches(
        project: &SourceForgeProject,
        response: &Response,
        page: &mut Page<SourceForgeCursor>,
    ) -> Result<(), ListerError> {
        if leads_elsewhere(project, "bzr", response, page)? {
            return Ok(());
        }
        let url = project.page("bzr")?;
        let html = HtmlPage::read(response, BZR_ENDS)?;
        html.check_whole("the page of a Bazaar repository")?;
        let info = selector("#branch-info")?;
        if html.all(&info).any(|info| text(info).contains("To get this branch, use:")) {
            return page.origin(project.origin(url, "bzr", "bzr"));
        }
        if !html.has(&selector("table#logentries")?) {
            return Err(ListerError::parse(format!(
                "neither a branch (#branch-info) nor a list of branches (table#logentries) in {}",
                html.called()
            )));
        }
        let (row, icon, cell) =
            (selector("table#logentries tr")?, selector("img[alt]")?, selector("td.autcell")?);
        for row in html.all(&row) {
            let name = row.select(&cell).map(text).next().unwrap_or_default();
            let kind = row.select(&icon).find_map(|icon| icon.attr("alt"));
            match kind {
                Some("Branch") if !name.is_empty() => {
                    let branch = format!("{url}/{}", encoded(&name));
                    page.origin(project.origin(branch, "bzr", &format!("bzr/{name}")))?;
                }
                Some(kind) => page.skip(format!("{name:?} in {url}"), format!("is no branch, but a {kind}")),
                None => {}
            }
        }
        Ok(())
    }
}

/// Whether a project's page sends elsewhere, as its owner may wish: counted.
fn leads_elsewhere(
    project: &SourceForgeProject,
    system: &str,
    response: &Response,
    page: &mut Page<SourceForgeCursor>,
) -> Result<bool, ListerError> {
    let asked = project.page(system)?;
    if response.url.host_str() == asked.host_str() {
        return Ok(false);
    }
    page.skip(&asked, format!("leads to {}", response.url.host_str().unwrap_or_default()));
    Ok(true)
}

/// Whether a text can stand in an address as it is.
fn is_plain(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+' | b'~');
    !text.is_empty() && text.bytes().all(fits) && !matches!(text, "." | "..")
}

impl Lister for SourceForge {
    type Cursor = SourceForgeCursor;

    fn name(&self) -> &'static str {
        "sourceforge"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<SourceForgeCursor> {
        vec![SourceForgeCursor::Index { known: BTreeMap::new() }]
    }

    fn request(&self, at: &SourceForgeCursor) -> Result<Request, ListerError> {
        let json = "application/json";
        Ok(match at {
            SourceForgeCursor::Index { .. } => {
                Request::get(under(&self.base, &["allura_sitemap", "sitemap.xml"])).configured()
            }
            SourceForgeCursor::Sitemap { url, .. } => Request::get(url.clone()).configured(),
            SourceForgeCursor::Project(project) => {
                let path: Vec<&str> = std::iter::once("rest").chain(project.path.split('/')).collect();
                Request::get(under(&self.base, &path)).configured().with_header("accept", json)
            }
            SourceForgeCursor::Cvs(project) => Request::get(project.page("cvs")?),
            SourceForgeCursor::Bzr(project) => Request::get(project.page("bzr")?),
        })
    }

    fn page(
        &self,
        at: &SourceForgeCursor,
        response: Response,
        page: &mut Page<SourceForgeCursor>,
    ) -> Result<(), ListerError> {
        match at {
            SourceForgeCursor::Index { known } => self.index(known, &response, page),
            SourceForgeCursor::Sitemap { url, lastmod } => {
                self.sitemap((url, lastmod.as_deref()), &response, page)
            }
            SourceForgeCursor::Project(project) => Self::tools(project.clone(), &response, page),
            SourceForgeCursor::Cvs(project) => Self::modules(project, &response, page),
            SourceForgeCursor::Bzr(project) => Self::branches(project, &response, page),
        }
    }

    fn recover(&self, at: &SourceForgeCursor, failure: &Failure) -> Recovery<SourceForgeCursor> {
        match at {
            SourceForgeCursor::Project(_) if failure.is_absent() => {
                Recovery::skip("gone since the sitemap was made")
            }
            SourceForgeCursor::Cvs(_) | SourceForgeCursor::Bzr(_) if failure.is_absent() => {
                Recovery::skip("the project has no such repository any more")
            }
            _ => Recovery::gap(),
        }
    }
}

impl Incremental for SourceForge {
    type State = SourceForgeState;

    fn resume(&self, state: &SourceForgeState, _: &RunInfo) -> Vec<SourceForgeCursor> {
        vec![SourceForgeCursor::Index { known: state.subsitemap_last_modified.clone() }]
    }

    fn join(&self, ours: SourceForgeState, stored: SourceForgeState) -> SourceForgeState {
        let mut joined = stored;
        for (url, date) in ours.subsitemap_last_modified {
            let known = joined.subsitemap_last_modified.entry(url).or_default();
            *known = std::mem::take(known).max(date);
        }
        joined
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, SITE, "the site"),
    Parameter::with_default("instance", ParameterKind::Text, "main", "a name for it"),
    Parameter::with_default(
        "incremental",
        ParameterKind::Boolean,
        "true",
        "read only the sitemaps that changed since the last listing",
    ),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("sourceforge", "SourceForge", build)
        .visiting(&["git", "svn", "hg", "bzr", "cvs"])
        .incremental()
        .telling(&[Fact::Archived])
        .with_parameters(PARAMETERS)
        .with_default_base(SITE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let forge =
        SourceForge::new(&arguments.required_url("url")?, arguments.text("instance").unwrap_or_default());
    Ok(if arguments.boolean("incremental") {
        Arc::new(Source::incremental(forge))
    } else {
        Arc::new(Source::stateless(forge))
    })
}
