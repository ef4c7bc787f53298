//! Grokmirror: the repositories of a site that publishes a manifest of them, as git.kernel.org does.
//!
//! # How it lists
//!
//! `GET {url}/manifest.js.gz`, or, where that is not there, `manifest.js` or `manifest`: a JSON object by path,
//! compressed or not.
//!
//! - **Credentials**: none. **Limits**: none known.
//! - **State**: none. An unchanged manifest is not sent again (`ETag` or `Last-Modified`), and says of its
//!   origins what it said before. Of a changed one, only what changed is new.
//! - **Cost**: one request, up to two more where the manifest has another name.
//! - **Origins**: `{url}{path}`, of type `git`. So is each of `symlinks`, and a `reference` that the manifest does not
//!   list itself. `modified` is the last update, in seconds since the epoch. `reference` names the repository whose
//!   objects are shared: what has one is listed as its fork.
//!
//! # What it cannot see
//!
//! Repositories without a commit, which grokmirror leaves out; whether a `reference` is a fork in any other sense, or
//! can be cloned.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/grokmirror.rs` that fails without it:
//!
//! - asks for the manifest below its URL, with a validator: `grokmirror_asks_below_its_url`
//! - the URL may name the manifest: `grokmirror_the_url_may_name_the_manifest`
//! - a manifest that is not there is looked for under its other names, one that cannot be had is not:
//!   `grokmirror_looks_for_other_names_of_a_manifest_that_is_not_there`
//! - reads it compressed or not: `grokmirror_reads_it_compressed_or_not`
//! - addresses are below the URL, also below its path, and escaped: `grokmirror_addresses_are_below_the_url`
//! - dates are numbers, or texts of them, or none: `grokmirror_dates_are_seconds`
//! - what shares objects is a fork, and what it shares with is listed:
//!   `grokmirror_what_shares_objects_is_a_fork`
//! - other names of a repository are listed as it is: `grokmirror_other_names_are_listed`
//! - a path that is none is skipped by name: `grokmirror_odd_paths_are_counted`
//! - an empty manifest is no error, and what is no manifest, or is cut, is one:
//!   `grokmirror_an_empty_manifest_is_no_error`, `grokmirror_a_broken_manifest_is_an_error_with_its_place`
//! - a state of before is read: `grokmirror_a_stored_state_is_no_obstacle`

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::under;
use crate::lister::compress::{Unpacked, unpacking};
use crate::lister::{
    Arguments, ConfigError, Entry, Fact, Failure, Lister, ListerError, Page, PageSource, Parameter,
    ParameterKind, Recovery, RunInfo, Source, base_url, parse_json, seconds_date,
};
use crate::model::{NewOrigin, VisitType};
use crate::transport::{Request, Response};

/// What a manifest may be called.
const NAMES: [&str; 3] = ["manifest.js.gz", "manifest.js", "manifest"];

/// Lists a site with a grokmirror manifest. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Grokmirror;
/// use lamplighter::model::Timestamp;
///
/// let kernel = Grokmirror::new("https://git.kernel.org".parse()?, "git.kernel.org");
/// let start = kernel.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(kernel.request(&start[0])?.url.as_str(), "https://git.kernel.org/manifest.js.gz");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Grokmirror {
    base: Url,
    names: Vec<String>,
    instance: String,
}

/// Where a listing of a manifest is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GrokmirrorCursor {
    /// The name that is tried for the manifest.
    pub name: String,
}

#[derive(Deserialize)]
struct Repository {
    #[serde(default)]
    modified: Value,
    reference: Option<String>,
    symlinks: Option<Vec<String>>,
}

impl Grokmirror {
    /// The site at `url`, which may name the manifest itself; paths of the manifest are below it.
    pub fn new(mut url: Url, instance: impl Into<String>) -> Self {
        url.set_query(None);
        url.set_fragment(None);
        let last = url.path().rsplit('/').next().unwrap_or_default();
        let given = (last.contains(".js") || last == "manifest").then(|| last.to_owned());
        if given.is_some()
            && let Ok(mut path) = url.path_segments_mut()
        {
            path.pop();
        }
        let names = given.map_or_else(|| NAMES.map(str::to_owned).to_vec(), |name| vec![name]);
        Self { base: url, names, instance: instance.into() }
    }

    /// The address of a path of the manifest; or why it has none.
    fn place(&self, path: &str) -> Result<String, String> {
        let names: Vec<&str> = path.trim_matches('/').split('/').collect();
        if !path.starts_with('/') || names.iter().any(|name| matches!(*name, "" | "." | "..")) {
            return Err("is no path below the site".to_owned());
        }
        Ok(under(&self.base, &names).into())
    }
}

impl Lister for Grokmirror {
    type Cursor = GrokmirrorCursor;

    fn name(&self) -> &'static str {
        "grokmirror"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<GrokmirrorCursor> {
        self.names.first().map(|name| GrokmirrorCursor { name: name.clone() }).into_iter().collect()
    }

    fn request(&self, at: &GrokmirrorCursor) -> Result<Request, ListerError> {
        Ok(Request::get(under(&self.base, &[&at.name])).configured().validated())
    }

    fn page(
        &self,
        at: &GrokmirrorCursor,
        response: Response,
        page: &mut Page<GrokmirrorCursor>,
    ) -> Result<(), ListerError> {
        let mut text = Vec::new();
        Unpacked::new(&response.body)
            .and_then(|mut body| body.read_to_end(&mut text))
            .map_err(|e| unpacking(&at.name, e))?;
        let manifest: BTreeMap<String, Repository> = parse_json(&text)?;
        let (mut shared_with, mut used) = (BTreeSet::new(), 0_usize);
        for (path, repository) in &manifest {
            let seconds = match &repository.modified {
                Value::String(text) => seconds_date(text),
                Value::Number(number) => seconds_date(&number.to_string()),
                _ => None,
            };
            if seconds.is_none() && !repository.modified.is_null() {
                page.skip(format!("the date of {path}"), format!("{} is no date", repository.modified));
            }
            let reference = repository.reference.as_deref().filter(|reference| !reference.is_empty());
            let parent = reference.and_then(|reference| self.place(reference).ok());
            if let Some(reference) = reference.filter(|reference| !manifest.contains_key(*reference)) {
                shared_with.insert(reference);
            }
            let others = repository.symlinks.iter().flatten().map(String::as_str);
            for name in std::iter::once(path.as_str()).chain(others) {
                let url = match self.place(name) {
                    Ok(url) => url,
                    Err(why) => {
                        page.skip(name, why);
                        continue;
                    }
                };
                let mut origin = NewOrigin::new(url, VisitType::git()).with_last_update(seconds);
                if let Some(parent) = &parent {
                    origin = origin.with_fork(true).with_forked_from(parent);
                }
                used += 1;
                page.origin(origin)?;
            }
        }
        // Another kind of object must not pass for a site without repositories.
        if used == 0 && !manifest.is_empty() {
            return Err(ListerError::parse(format!("none of the {} paths is one", manifest.len())));
        }
        for reference in shared_with {
            match self.place(reference) {
                Ok(url) => page.origin(NewOrigin::new(url, VisitType::git()))?,
                Err(why) => page.skip(reference, why),
            }
        }
        Ok(())
    }

    fn recover(&self, at: &GrokmirrorCursor, failure: &Failure) -> Recovery<GrokmirrorCursor> {
        let others = self.names.iter().skip_while(|name| **name != at.name).skip(1);
        match others.map(|name| GrokmirrorCursor { name: name.clone() }).next() {
            // A site that is ill must not be listed by an old manifest under another name.
            Some(next) if failure.is_not_there() => Recovery::replaced(vec![next]),
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::optional("url", ParameterKind::Url, "the site, as https://git.kernel.org/, or its manifest"),
    Parameter::optional("instance", ParameterKind::Text, "its host, or a name for it beside url"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("grokmirror", "Repositories in a grokmirror manifest", build)
        .telling(&[Fact::Fork])
        .with_parameters(PARAMETERS)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let (url, instance) = base_url(arguments)?;
    Ok(Arc::new(Source::stateless(Grokmirror::new(url, instance))))
}
