//! CPAN, the archive of Perl, as MetaCPAN knows it: every distribution, with its releases.
//!
//! # How it lists
//!
//! `GET {url}/author/_search` for the names of authors, then `GET {url}/release/_search` for their releases, a thousand at a time;
//! what follows is at `GET {url}/_search/scroll?scroll_id=…`, until a page is empty. Releases are asked for by groups
//! of authors, some 120 in each, so that one that fails costs no other; a registry of few authors is one group.
//!
//! - **Credentials**: none. **Limits**: none documented; MetaCPAN asks to be polite.
//! - **Order**: the search's own, which changes; nothing depends on it.
//! - **Origins**: `https://metacpan.org/dist/{distribution}`, with `artifacts` and `module_metadata` in the shape that loaders take, in the
//!   order of dates, and `api_base_url`. The last update is the date of the latest release.
//! - **State**: none. A group is a *part* of the listing: one that cannot be read keeps what it said.
//! - **Deletions**: a distribution without a release is gone after a full run.
//! - **Cost**: some 500 requests for all.
//!
//! The place in a scroll is the server's to keep, for a minute. Where it was lost, the group is missing and is read again from
//! its beginning in the next run.
//!
//! # What it cannot see
//!
//! - Releases of authors whom the registry does not list.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/cpan.rs` that fails without it:
//!
//! - asks for authors, page after page: `cpan_asks_for_authors`
//! - then for releases, of all or by groups of authors that stay the same: `cpan_asks_for_releases_by_groups`
//! - releases come in the shape that loaders take: `cpan_lists_releases`
//! - an empty page ends a chain, and no other: `cpan_goes_on_until_a_page_is_empty`
//! - versions may be numbers, or only in a release's name: `cpan_finds_versions`
//! - authors come with a name, and an address where there is one: `cpan_names_authors`
//! - a scroll that was lost is a gap at its beginning: `cpan_a_lost_scroll_begins_again`
//! - odd hits are counted: `cpan_odd_hits_are_counted`
//! - a broken body is an error with its place: `cpan_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `cpan_takes_its_url`

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::under;
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    Recovery, RunInfo, Source, in_order, utc_date,
};
use crate::model::{Artifact, JsonObject, NewOrigin, VisitType, digest128};
use crate::transport::{Request, Response};

const BASE: &str = "https://fastapi.metacpan.org/v1";

const PAGE: &str = "1000";

/// How long the server is to keep our place.
const KEPT: &str = "1m";

/// Up to so many authors are one group.
const FEW: usize = 200;

/// Into so many groups more authors are divided.
const GROUPS: u8 = 128;

const AUTHOR: &[&str] = &["pauseid", "name", "email"];

const RELEASE: &[&str] =
    &["download_url", "checksum_sha256", "distribution", "version", "date", "author", "stat.size", "name"];

/// Lists CPAN. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Cpan;
/// use lamplighter::model::Timestamp;
///
/// let cpan = Cpan::new(&"https://fastapi.metacpan.org/v1".parse()?);
/// let start = cpan.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(cpan.request(&start[0])?.url.path(), "/v1/author/_search");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cpan {
    base: Url,
    visit_type: VisitType,
    instance: String,
}

/// Where a listing of CPAN is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CpanCursor {
    /// At a page of authors.
    Authors {
        /// The names of those on the pages before it, by their ids.
        names: BTreeMap<String, String>,
        /// The place.
        at: CpanPlace,
    },
    /// At a page of releases.
    Releases {
        /// Which group of authors; all of them where it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<u8>,
        /// The authors, by their ids.
        names: BTreeMap<String, String>,
        /// The place.
        at: CpanPlace,
    },
}

/// A place in a chain of pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CpanPlace {
    /// The page's number, from 0: the id of a scroll may stay the same.
    pub page: u64,
    /// What the server calls the place; none at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scroll: Option<String>,
}

impl CpanPlace {
    fn next(&self, scroll: &str) -> Self {
        Self { page: self.page.saturating_add(1), scroll: Some(scroll.to_owned()) }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "_scroll_id", default)]
    scroll: Option<String>,
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_source", default)]
    fields: JsonObject,
}

impl Hit {
    /// A field's value: of a list the first.
    fn field(&self, name: &str) -> Option<&Value> {
        let value = match self.fields.get(name) {
            Some(Value::Array(values)) => values.first(),
            value => value,
        };
        value.filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.field(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The version, which may be a number, or zero where only the release's name has it.
    fn version(&self, distribution: &str, release: &str) -> Option<String> {
        match self.field("version")? {
            Value::Number(zero) if zero.as_f64() == Some(0.0) => {
                let rest = release.strip_prefix(distribution).and_then(|rest| rest.strip_prefix('-'));
                Some(rest.map_or_else(|| zero.to_string(), str::to_owned))
            }
            Value::Number(number) => Some(number.to_string()),
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    fn size(&self) -> Option<u64> {
        self.field("stat.size").or_else(|| self.field("stat")?.get("size")).and_then(Value::as_u64)
    }
}

impl Cpan {
    /// The API at `url`. The instance is named `cpan`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self { base: under(url, &[]), visit_type: VisitType::known("cpan"), instance: "cpan".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    fn search(&self, what: &str, fields: &[&str], at: &CpanPlace, of: Option<String>) -> Request {
        let mut url = match &at.scroll {
            Some(_) => under(&self.base, &["_search", "scroll"]),
            None => under(&self.base, &[what, "_search"]),
        };
        {
            let mut query = url.query_pairs_mut();
            if let Some(scroll) = &at.scroll {
                query.append_pair("scroll", KEPT).append_pair("scroll_id", scroll);
            } else {
                for field in fields {
                    query.append_pair("_source", field);
                }
                query.append_pair("size", PAGE).append_pair("scroll", KEPT);
                if let Some(of) = of {
                    query.append_pair("q", &of);
                }
            }
        }
        Request::get(url).configured().with_header("accept", "application/json")
    }

    /// A page of authors: the next one, or the groups that all of them are.
    fn authors(
        (names, at): (&BTreeMap<String, String>, &CpanPlace),
        answer: &Answer,
        page: &mut Page<CpanCursor>,
    ) -> Result<(), ListerError> {
        let mut names = names.clone();
        for (n, hit) in answer.hits.hits.iter().enumerate() {
            let is_id = |id: &&str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let Some(id) = hit.text("pauseid").filter(is_id) else {
                page.skip(format!("author {n} of page {}", at.page), "that is no author's id");
                continue;
            };
            let name = hit.text("name").map_or_else(
                || id.to_owned(),
                |name| hit.text("email").map_or_else(|| name.to_owned(), |email| format!("{name} <{email}>")),
            );
            names.insert(id.to_owned(), name);
        }
        let scroll = answer.scroll.as_deref().filter(|scroll| !scroll.is_empty());
        if let Some(scroll) = scroll.filter(|_| !answer.hits.hits.is_empty()) {
            page.next(CpanCursor::Authors { names, at: at.next(scroll) });
            return Ok(());
        }
        if names.is_empty() {
            return Err(ListerError::parse("at hits.hits: there are no authors"));
        }
        if names.len() <= FEW {
            page.follow(CpanCursor::Releases { group: None, names, at: CpanPlace::default() });
            return Ok(());
        }
        // An author is always of the same group, whoever else comes or goes.
        let mut groups: BTreeMap<u8, BTreeMap<String, String>> = BTreeMap::new();
        for (id, name) in names {
            let [first, ..] = digest128(id.as_bytes());
            groups.entry(first % GROUPS).or_default().insert(id, name);
        }
        for (group, names) in groups {
            page.follow(CpanCursor::Releases { group: Some(group), names, at: CpanPlace::default() });
        }
        Ok(())
    }

    fn releases(
        &self,
        (group, names, at): (Option<u8>, &BTreeMap<String, String>, &CpanPlace),
        answer: &Answer,
        page: &mut Page<CpanCursor>,
    ) -> Result<(), ListerError> {
        page.part(group.map_or_else(|| "releases".to_owned(), |group| format!("releases {group}")));
        for (n, hit) in answer.hits.hits.iter().enumerate() {
            match self.origin(hit, names) {
                Ok(origin) => page.origin(origin)?,
                Err(why) => {
                    let name = hit.text("name").unwrap_or("without a name");
                    page.skip(format!("hit {n} of page {}, {:?}", at.page, shortened(name)), why);
                }
            }
        }
        if answer.hits.hits.is_empty() {
            return Ok(());
        }
        let scroll = answer.scroll.as_deref().filter(|scroll| !scroll.is_empty());
        let scroll =
            scroll.ok_or_else(|| ListerError::parse("at _scroll_id: it does not say where it goes on"))?;
        page.next(CpanCursor::Releases { group, names: names.clone(), at: at.next(scroll) });
        Ok(())
    }

    /// The origin of a release; or why it is none.
    fn origin(&self, hit: &Hit, names: &BTreeMap<String, String>) -> Result<NewOrigin, String> {
        let need = |field: &str| hit.text(field).ok_or_else(|| format!("it has no {field}"));
        let (url, sum) = (need("download_url")?, need("checksum_sha256")?);
        let (distribution, release, author) = (need("distribution")?, need("name")?, need("author")?);
        let version = hit.version(distribution, release).ok_or("it has no version")?;
        if distribution.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#%\\".contains(c)) {
            return Err("that can be no distribution's name".to_owned());
        }
        let filename = url.rsplit('/').next().unwrap_or_default();
        let date = hit.text("date");
        let artifact = json!({
            "url": url,
            "filename": filename,
            "checksums": { "sha256": sum },
            "version": version,
            "length": hit.size(),
        });
        let metadata = json!({
            "name": distribution,
            "version": version,
            "cpan_author": author,
            "author": names.get(author).map_or(author, String::as_str),
            "date": date,
            "release_name": release,
        });
        let key = format!("{} {} {author}/{release}", date.unwrap_or_default(), in_order(&version));
        let page = format!("https://metacpan.org/dist/{distribution}");
        Ok(NewOrigin::new(page, self.visit_type.clone())
            .with_last_update(date.and_then(utc_date))
            .with_argument("api_base_url", self.base.as_str().trim_end_matches('/'))
            .with_artifact(Artifact::in_list("artifacts", key.clone(), artifact))
            .with_artifact(Artifact::in_list("module_metadata", key, metadata)))
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}

impl Lister for Cpan {
    type Cursor = CpanCursor;

    fn name(&self) -> &'static str {
        "cpan"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<CpanCursor> {
        vec![CpanCursor::Authors { names: BTreeMap::new(), at: CpanPlace::default() }]
    }

    fn request(&self, at: &CpanCursor) -> Result<Request, ListerError> {
        Ok(match at {
            CpanCursor::Authors { at, .. } => self.search("author", AUTHOR, at, None),
            CpanCursor::Releases { group, names, at } => {
                let ids: Vec<&str> = names.keys().map(String::as_str).collect();
                let of = group.map(|_| format!("author:({})", ids.join(" OR ")));
                self.search("release", RELEASE, at, of)
            }
        })
    }

    fn page(
        &self,
        at: &CpanCursor,
        response: Response,
        page: &mut Page<CpanCursor>,
    ) -> Result<(), ListerError> {
        let answer: Answer = response.json()?;
        match at {
            CpanCursor::Authors { names, at } => Self::authors((names, at), &answer, page),
            CpanCursor::Releases { group, names, at } => self.releases((*group, names, at), &answer, page),
        }
    }

    /// What is lost with the place is the chain: the gap is to be where it begins.
    fn recover(&self, at: &CpanCursor, _: &Failure) -> Recovery<CpanCursor> {
        let begin = CpanPlace::default();
        match at {
            CpanCursor::Authors { at, .. } if at.scroll.is_some() => {
                Recovery::replaced(vec![CpanCursor::Authors { names: BTreeMap::new(), at: begin }])
            }
            CpanCursor::Releases { group, names, at } if at.scroll.is_some() => {
                let (group, names) = (*group, names.clone());
                Recovery::replaced(vec![CpanCursor::Releases { group, names, at: begin }])
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "MetaCPAN's API"),
    Parameter::with_default("instance", ParameterKind::Text, "cpan", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("cpan", "CPAN (Perl)", build)
        .visiting(&["cpan"])
        .with_parameters(PARAMETERS)
        .with_positions(&["scroll_id"])
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Cpan::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
