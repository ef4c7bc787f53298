//! RubyGems, the registry of Ruby: every gem.
//!
//! # How it lists
//!
//! `GET {url}?prefix=production/public_postgresql` asks the bucket of the registry's dumps, page after page (`marker`),
//! for the last of them; then `GET {url}/{key}` for that dump: a tar archive with the text that PostgreSQL dumps a
//! database as (`PostgreSQL.sql.gz`). Of it the tables `rubygems` and `versions` are read, as streams, with
//! their columns by the names in the table's first line, in any order.
//!
//! - **Authentication**: none. **Limits**: none known; the dump is large (more than 400 MB), so that the time
//!   a request may take has to fit the line.
//! - **Origins**: `{web_url}/gems/{name}`, one for each gem that has a version that was not yanked, with `artifacts` and
//!   `rubygem_metadata` in the shape that loaders take, in the order of the dump. Its last update is when the last of these
//!   versions was pushed.
//! - **Deletions**: every run lists the whole dump; what it does not name, or only yanked, is gone.
//! - **State**: none. The dump that was listed last is not asked for again.
//! - **Memory**: the names of all gems (about 35 bytes each), and half a million versions at a time (about 140 bytes
//!   each); where there are more, the dump is read again from disk for the next half million.
//! - **Cost**: one request, and one for a dump that is new, which is once a week.
//!
//! # What it cannot see
//!
//! - What happened since the dump was made.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/rubygems.rs` that fails without it:
//!
//! - asks for the dumps, page by page, and for the last: `rubygems_asks_for_the_last_dump`
//! - joins versions to gems, in the shape that loaders take: `rubygems_joins_versions_to_gems`
//! - the last update is when a version was pushed: `rubygems_gives_the_date_of_the_push`
//! - yanked versions are left out, and gems without others are counted: `rubygems_yanked_versions_are_left_out`
//! - tables and columns in any order: `rubygems_tables_and_columns_in_any_order`
//! - more versions than are kept at a time are read in turns: `rubygems_many_versions_are_read_in_turns`
//! - what can be no part of a URL is counted: `rubygems_odd_names_are_counted`
//! - a dump that is not there any more is looked for anew: `rubygems_a_dump_that_went_is_looked_for_anew`
//! - a hostile or broken dump is an error with its place: `rubygems_a_hostile_dump_is_an_error_with_its_place`
//! - so is a list of dumps: `rubygems_a_broken_list_is_an_error_with_its_place`
//! - its parameters: `rubygems_takes_its_urls`

mod copy;
mod dump;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::under;
use crate::lister::xml::{Step, Xml};
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    Recovery, RunInfo, Source,
};
use crate::model::VisitType;
use crate::transport::{Request, Response};

const BASE: &str = "https://s3-us-west-2.amazonaws.com/rubygems-dumps";
const WEB: &str = "https://rubygems.org";
const PREFIX: &str = "production/public_postgresql";
const FILE: &str = "public_postgresql.tar";

/// How many versions are kept at a time.
const AT_ONCE: usize = 500_000;

/// Lists RubyGems. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::RubyGems;
/// use lamplighter::model::Timestamp;
///
/// let rubygems = RubyGems::new(&"https://dumps.example/b".parse()?, &"https://rubygems.org".parse()?);
/// let start = rubygems.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(rubygems.request(&start[0])?.url.path(), "/b");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct RubyGems {
    bucket: Url,
    /// Without a slash at its end.
    web: String,
    visit_type: VisitType,
    instance: String,
    at_once: usize,
}

/// Where a listing of RubyGems is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RubyGemsCursor {
    /// A page of the bucket's files.
    Files {
        /// Those after this one; the first where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// The last dump of the pages before, and its fingerprint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<(String, String)>,
    },
    /// The dump of this key.
    Dump(String),
}

const FIRST: RubyGemsCursor = RubyGemsCursor::Files { after: None, last: None };

impl RubyGems {
    /// The registry whose dumps are in the bucket at `url`, and whose site is at `web`. The instance is named
    /// `rubygems`.
    #[must_use]
    pub fn new(url: &Url, web: &Url) -> Self {
        Self {
            bucket: under(url, &[]),
            web: web.as_str().trim_end_matches('/').to_owned(),
            visit_type: VisitType::known("rubygems"),
            instance: "rubygems".to_owned(),
            at_once: AT_ONCE,
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Keeps so many versions in memory at a time. Where a dump has more of them, it is read once more for
    /// each so many.
    #[must_use]
    pub fn with_versions_at_once(mut self, versions: usize) -> Self {
        self.at_once = versions.max(1);
        self
    }

    fn files(
        before: Option<&(String, String)>,
        response: &Response,
        page: &mut Page<RubyGemsCursor>,
    ) -> Result<(), ListerError> {
        let mut xml = Xml::new("the list of dumps", response.body.reader(), "ListBucketResult");
        let (mut depth, mut key, mut print) = (0_usize, String::new(), String::new());
        let (mut last, mut reached, mut more) = (before.cloned(), None, false);
        while let Some(step) = xml.step()? {
            match step {
                Step::Open(name) => {
                    depth += 1;
                    if (depth, name.as_str()) == (2, "Contents") {
                        (key, print) = (String::new(), String::new());
                    }
                }
                Step::Close(name, text) => {
                    match (depth, name.as_str()) {
                        (2, "IsTruncated") => more = text.trim() == "true",
                        (3, "Key") => text.trim().clone_into(&mut key),
                        (3, "ETag" | "LastModified" | "Size") => {
                            print.push_str(text.trim());
                            print.push(' ');
                        }
                        (2, "Contents") => {
                            let is_dump = key.rsplit('/').next() == Some(FILE) && is_key(&key);
                            // Their names begin with their dates.
                            if is_dump && last.as_ref().is_none_or(|(than, _)| key > *than) {
                                last = Some((key.clone(), print.trim().to_owned()));
                            }
                            reached = Some(key.clone());
                        }
                        _ => {}
                    }
                    depth = depth.saturating_sub(1);
                }
            }
        }
        let wrong = |problem: &str| {
            ListerError::parse(format!("the list of dumps, in /ListBucketResult/Contents: {problem}"))
        };
        if more {
            let after = reached.ok_or_else(|| wrong("it goes on, and says not where"))?;
            page.next(RubyGemsCursor::Files { after: Some(after), last });
            return Ok(());
        }
        let (key, print) = last.ok_or_else(|| wrong("there is no dump"))?;
        page.item("dump", format!("{key} {print}"), RubyGemsCursor::Dump(key));
        Ok(())
    }
}

/// Whether a key is a path that stays in its bucket.
fn is_key(key: &str) -> bool {
    !key.split('/').any(|part| matches!(part, "" | "." | ".."))
}

impl Lister for RubyGems {
    type Cursor = RubyGemsCursor;

    fn name(&self) -> &'static str {
        "rubygems"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<RubyGemsCursor> {
        vec![FIRST]
    }

    fn request(&self, at: &RubyGemsCursor) -> Result<Request, ListerError> {
        let url = match at {
            RubyGemsCursor::Files { after, .. } => {
                let mut url = self.bucket.clone();
                url.query_pairs_mut().append_pair("prefix", PREFIX);
                if let Some(after) = after {
                    url.query_pairs_mut().append_pair("marker", after);
                }
                url
            }
            RubyGemsCursor::Dump(key) => under(&self.bucket, &key.split('/').collect::<Vec<_>>()),
        };
        Ok(Request::get(url).configured())
    }

    fn page(
        &self,
        at: &RubyGemsCursor,
        response: Response,
        page: &mut Page<RubyGemsCursor>,
    ) -> Result<(), ListerError> {
        match at {
            RubyGemsCursor::Files { last, .. } => Self::files(last.as_ref(), &response, page),
            RubyGemsCursor::Dump(_) => self.list(&response.body, page),
        }
    }

    fn recover(&self, at: &RubyGemsCursor, failure: &Failure) -> Recovery<RubyGemsCursor> {
        match at {
            RubyGemsCursor::Dump(_) if failure.is_absent() => {
                Recovery::replaced(vec![FIRST]).because("the list of dumps names it: is there a later one?")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the bucket of dumps"),
    Parameter::with_default("web_url", ParameterKind::Url, WEB, "the site: gems are at {web_url}/gems/NAME"),
    Parameter::with_default("instance", ParameterKind::Text, "rubygems", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("rubygems", "RubyGems", build)
        .visiting(&["rubygems"])
        .with_parameters(PARAMETERS)
        .with_positions(&["marker"])
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = RubyGems::new(&arguments.required_url("url")?, &arguments.required_url("web_url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
