//! Recorded cases: a fixture folder, or a case of a conformance corpus.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::corpus;
use crate::lister::{Mode, Secret};
use crate::model::{JsonObject, Timestamp};
use crate::transport::{
    Answer, Answered, Body, Exchange, MANIFEST_FORM, MANIFEST_NAME, Manifest, ManifestExchange, error_kind,
    header_value,
};

/// Runs of a lister as they were recorded, or written by hand from a forge's documentation.
///
/// A **fixture folder** holds `fixture.json` and one file for each body:
///
/// ```json
/// { "form": 1, "lister": "gitea", "about": "by hand from the API's documentation",
///   "arguments": {"url": "https://forge.example/"}, "credentials": 0,
///   "runs": [ { "at": "2026-01-01T00:00:00Z", "mode": "full", "outcome": "complete",
///               "origins": "run-1.origins.json",
///               "exchanges": [ { "method": "GET", "url": "https://forge.example/api?page=1",
///                                "status": 200, "headers": [["content-type", "application/json"]],
///                                "body_file": "run-1-0001.json" } ] } ] }
/// ```
///
/// An exchange may have a request `body`, and instead of a status an `error` (`connect`, `timeout`,
/// `body` …). `state_before` is the stored state; where it is absent, it is what the run before left.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Case {
    /// The lister's name, as in the catalogue.
    pub lister: String,
    /// Where the recording comes from.
    pub about: String,
    /// The runs, in turn.
    pub runs: Vec<CaseRun>,
}

/// One run of a [`Case`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CaseRun {
    /// The lister's arguments. Neither credentials nor options of the run are among them; a list is
    /// a text with commas.
    pub arguments: JsonObject,
    /// Placeholders for the credentials that the run had.
    pub secrets: Vec<Secret>,
    /// The instance's name, where the case says it.
    pub instance: Option<String>,
    /// The base URL, where the case says it.
    pub url: Option<String>,
    /// What the clock shows at the start, where the case says it.
    pub at: Option<Timestamp>,
    /// The mode, where the case says it.
    pub mode: Option<Mode>,
    /// After how many pages the run stops, where it does.
    pub max_pages: Option<u64>,
    /// Whether new origins are enabled, where the case says it.
    pub enable_origins: Option<bool>,
    /// The state stored before; `None` is the state that the previous run left.
    pub state_before: Option<JsonObject>,
    /// Origins listed before, where the lister reads them back.
    pub known_origins: Vec<CaseOrigin>,
    /// What was asked and answered.
    pub exchanges: Vec<Exchange>,
    /// How the run is to end, where the case says it.
    pub outcome: Option<String>,
    /// What the run is to list, where the case says it.
    pub origins: Option<Vec<CaseOrigin>>,
}

/// An origin as a case expects or knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CaseOrigin {
    /// Its URL.
    pub url: String,
    /// How it is visited.
    pub visit_type: String,
    /// When upstream last changed, as listed.
    #[serde(default)]
    pub last_update: Option<Timestamp>,
    /// Whether it is a fork, where known.
    #[serde(default)]
    pub is_fork: Option<bool>,
    /// What it was forked from, where known.
    #[serde(default)]
    pub forked_from_url: Option<String>,
    /// Whether the lister wants it visited.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What the loader is given besides the URL.
    #[serde(default)]
    pub extra_loader_arguments: JsonObject,
}

fn yes() -> bool {
    true
}

/// Why a case could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// A file of it cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of it is no JSON of the kind expected.
    #[error("{}, at {place}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It holds something that makes no sense.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What.
        problem: String,
    },
}

impl Case {
    /// Reads a fixture folder (or its `fixture.json`), or a case file of a conformance corpus.
    ///
    /// # Errors
    /// A [`CaseError`] that names the file: [`CaseError::Io`] when it or one of its bodies cannot
    /// be read, [`CaseError::Json`] when it is no JSON or not of this form, [`CaseError::Content`]
    /// when something in it makes no sense, such as an unknown method, mode or error.
    ///
    /// ```no_run
    /// use lamplighter::testing::Case;
    /// let case = Case::load("fixtures/gitea/two-pages")?;
    /// println!("{}: {} runs", case.lister, case.runs.len());
    /// # Ok::<(), lamplighter::testing::CaseError>(())
    /// ```
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CaseError> {
        let path = path.as_ref();
        let file = if path.is_dir() { path.join(MANIFEST_NAME) } else { path.to_owned() };
        let bytes = read(&file)?;
        let value: Value = parse(&file, &bytes)?;
        if value.get("form").is_some() {
            // Parsed again for the place of what is wrong.
            let mut manifest: Manifest = parse(&file, &bytes)?;
            let folder = file.parent().unwrap_or(Path::new("."));
            manifest
                .take_in_journal(folder)
                .map_err(|source| CaseError::Io { path: folder.to_owned(), source })?;
            return from_manifest(&file, manifest);
        }
        corpus::case(&file, &bytes)
    }
}

fn from_manifest(file: &Path, manifest: Manifest) -> Result<Case, CaseError> {
    if manifest.form != MANIFEST_FORM {
        let problem = format!("of form {}, this version reads form {MANIFEST_FORM}", manifest.form);
        return Err(content(file, problem));
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut runs = Vec::new();
    for run in manifest.runs {
        let origins = match run.origins {
            Some(name) => {
                let path = beside(file, folder, &name)?;
                Some(parse(&path, &read(&path)?)?)
            }
            None => None,
        };
        let exchanges =
            run.exchanges.into_iter().map(|e| exchange(file, folder, e)).collect::<Result<_, _>>()?;
        runs.push(CaseRun {
            arguments: manifest.arguments.clone(),
            secrets: (1..=manifest.credentials).map(|n| Secret::token(format!("redacted-{n}"))).collect(),
            instance: None,
            url: None,
            at: Some(run.at),
            mode: run.mode.map(|mode| mode_named(file, &mode)).transpose()?,
            max_pages: run.max_pages,
            enable_origins: None,
            state_before: run.state_before,
            known_origins: Vec::new(),
            exchanges,
            outcome: run.outcome,
            origins,
        });
    }
    Ok(Case { lister: manifest.lister, about: manifest.about, runs })
}

fn exchange(file: &Path, folder: &Path, kept: ManifestExchange) -> Result<Exchange, CaseError> {
    let place = format!("{} {}", kept.method, kept.url);
    let wrong = |what: String| content(file, format!("{place}: {what}"));
    let absolute = |url: &str| Url::parse(url).map_err(|e| wrong(e.to_string()));
    let method = Method::from_bytes(kept.method.as_bytes()).map_err(|e| wrong(e.to_string()))?;
    let answered = match (kept.status, kept.error) {
        (Some(status), None) => {
            let body = match kept.body_file {
                Some(name) => Body::from(read(&beside(file, folder, &name)?)?),
                None => Body::from(""),
            };
            let mut answer = Answer::new(status, body);
            for (name, value) in &kept.headers {
                if http::HeaderName::try_from(name).is_err() || header_value(value).is_none() {
                    return Err(wrong(format!("{name:?} cannot be a header")));
                }
                answer = answer.with_header(name, value);
            }
            answer.url = kept.answered_by.map(|url| absolute(&url)).transpose()?;
            answer.received_at = kept.received;
            Answered::Answer(answer)
        }
        (None, Some(error)) => Answered::Error(
            error_kind(&error).ok_or_else(|| wrong(format!("{error:?} is no kind of error")))?,
        ),
        _ => return Err(wrong("either a status or an error".to_owned())),
    };
    Ok(Exchange::new(method, absolute(&kept.url)?, kept.body.map(Into::into), answered))
}

/// A file that a manifest names: beside it, nowhere else.
fn beside(file: &Path, folder: &Path, name: &str) -> Result<PathBuf, CaseError> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(name)), None) => Ok(folder.join(name)),
        _ => Err(content(file, format!("{name:?} is no name of a file beside it"))),
    }
}

fn mode_named(file: &Path, mode: &str) -> Result<Mode, CaseError> {
    [Mode::Full, Mode::Incremental, Mode::Gaps]
        .into_iter()
        .find(|m| m.as_str() == mode)
        .ok_or_else(|| content(file, format!("{mode:?} is no mode of a run")))
}

pub(super) fn content(file: &Path, problem: impl Into<String>) -> CaseError {
    CaseError::Content { path: file.to_owned(), problem: problem.into() }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, CaseError> {
    fs::read(path).map_err(|source| CaseError::Io { path: path.to_owned(), source })
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, CaseError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|e| CaseError::Json {
        path: path.to_owned(),
        place: e.path().to_string(),
        source: e.into_inner(),
    })
}
