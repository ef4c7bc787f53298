//! Case files of a conformance corpus: one JSON file, recorded from another lister's tests.

use std::path::Path;

use base64::Engine;
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::case::{CaseError, content, parse, read};
use super::{Case, CaseOrigin, CaseRun};
use crate::lister::{Mode, Secret};
use crate::model::{JsonObject, Timestamp};
use crate::transport::{Answer, Answered, Body, Exchange, TransportErrorKind};

/// Only what a replay needs is read; what a run is expected to do may be absent.
#[derive(Deserialize)]
struct CorpusCase {
    lister: Option<String>,
    test: Option<String>,
    runs: Vec<CorpusRun>,
}

#[derive(Deserialize)]
struct CorpusRun {
    lister_name: Option<String>,
    #[serde(default)]
    args: Option<JsonObject>,
    instance: Option<String>,
    url: Option<String>,
    state_before: Option<JsonObject>,
    state_in_memory_before: Option<JsonObject>,
    known_origins_before: Option<Vec<Value>>,
    ran_at: Option<String>,
    origins: Option<Vec<Value>>,
    #[serde(default)]
    exchanges: Vec<CorpusExchange>,
}

#[derive(Deserialize)]
struct CorpusExchange {
    method: String,
    url: String,
    request_body: Option<Value>,
    status: Option<u16>,
    headers: Option<serde_json::Map<String, Value>>,
    body: Option<Value>,
    body_base64: Option<String>,
    body_file: Option<String>,
    error: Option<CorpusError>,
}

#[derive(Deserialize)]
struct CorpusError {
    #[serde(rename = "type")]
    kind: Option<String>,
}

pub(super) fn case(file: &Path, bytes: &[u8]) -> Result<Case, CaseError> {
    let recorded: CorpusCase = parse(file, bytes)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let of_run = recorded.runs.first().and_then(|r| r.lister_name.as_deref());
    let of_folder = folder.file_name().and_then(|n| n.to_str());
    let lister = recorded
        .lister
        .as_deref()
        .or(of_run)
        .or(of_folder)
        .map(catalogue_name)
        .ok_or_else(|| content(file, "names no lister"))?;
    let runs =
        recorded.runs.into_iter().map(|run| corpus_run(file, folder, run)).collect::<Result<_, _>>()?;
    let about = recorded.test.map_or_else(|| "recorded".to_owned(), |t| format!("recorded in {t}"));
    Ok(Case { lister, about, runs })
}

/// `Packagist` and `save-bulk` are `packagist` and `save_bulk` in the catalogue.
fn catalogue_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

fn corpus_run(file: &Path, folder: &Path, run: CorpusRun) -> Result<CaseRun, CaseError> {
    let mut arguments = run.args.unwrap_or_default();
    let secrets = secrets(arguments.remove("credentials").unwrap_or_default());
    let mode = arguments.remove("incremental").and_then(|v| v.as_bool());
    let max_pages = arguments.remove("max_pages").and_then(|v| v.as_u64());
    let enable_origins = arguments.remove("enable_origins").and_then(|v| v.as_bool());
    // Settings of the other implementation's own batches and queues.
    for name in ["record_batch_size", "first_visits_queue_prefix", "max_origins_per_page"] {
        arguments.remove(name);
    }
    let arguments = arguments.into_iter().filter_map(|(k, v)| Some((k, plain(v)?))).collect();
    let mut state = run.state_before.unwrap_or_default();
    state.extend(run.state_in_memory_before.unwrap_or_default());
    let at = match run.ran_at.as_deref() {
        Some(text) => Some(Timestamp::parse(text).map_err(|e| content(file, e.to_string()))?),
        None => None,
    };
    let mut exchanges = Vec::new();
    for recorded in run.exchanges {
        exchanges.extend(exchange(file, folder, recorded)?);
    }
    let origins = match run.origins {
        Some(origins) => Some(origins.iter().map(|o| origin(file, o)).collect::<Result<_, _>>()?),
        None => None,
    };
    let known = run.known_origins_before.unwrap_or_default();
    Ok(CaseRun {
        arguments,
        secrets,
        instance: run.instance,
        url: run.url,
        at,
        mode: mode.map(|incremental| if incremental { Mode::Incremental } else { Mode::Full }),
        max_pages,
        enable_origins,
        state_before: Some(state),
        known_origins: known.iter().map(|o| origin(file, o)).collect::<Result<_, _>>()?,
        exchanges,
        // That the other implementation raised does not say how a run here is to end.
        outcome: None,
        origins,
    })
}

/// The user names and secrets of `{lister: {instance: [{username, password | token}]}}`.
fn secrets(credentials: Value) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut left = vec![credentials];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(values) => left.extend(values.into_iter().rev()),
            Value::Object(fields) => {
                let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
                match (text("username"), text("password").or_else(|| text("token"))) {
                    (Some(user), Some(secret)) => found.push(Secret::of_user(user, secret)),
                    (None, Some(secret)) => found.push(Secret::token(secret)),
                    _ => left.extend(fields.into_iter().rev().map(|(_, v)| v)),
                }
            }
            _ => {}
        }
    }
    found
}

/// A value as it is written on a command line: a list with commas, what is nested as JSON.
fn plain(value: Value) -> Option<Value> {
    let scalar = |v: &Value| match v {
        Value::String(s) => Some(s.clone()),
        Value::Number(_) | Value::Bool(_) => Some(v.to_string()),
        _ => None,
    };
    match value {
        Value::Null => None,
        Value::Array(values) => {
            let texts: Option<Vec<String>> = values.iter().map(scalar).collect();
            Some(texts.map_or_else(|| Value::Array(values).to_string(), |t| t.join(",")).into())
        }
        Value::Object(_) => Some(value.to_string().into()),
        other => Some(other),
    }
}

fn origin(file: &Path, value: &Value) -> Result<CaseOrigin, CaseError> {
    CaseOrigin::deserialize(value).map_err(|source| CaseError::Json {
        path: file.to_owned(),
        place: "an origin".to_owned(),
        source,
    })
}

/// `None` for a URL that cannot be parsed: nothing can ask for it.
fn exchange(file: &Path, folder: &Path, recorded: CorpusExchange) -> Result<Option<Exchange>, CaseError> {
    let place = format!("{} {}", recorded.method, recorded.url);
    let Ok(url) = Url::parse(&recorded.url) else { return Ok(None) };
    let method =
        Method::from_bytes(recorded.method.as_bytes()).map_err(|e| content(file, format!("{place}: {e}")))?;
    let request_body = match recorded.request_body {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.into()),
        Some(json) => Some(json.to_string().into()),
    };
    let answered = match (recorded.status, recorded.error) {
        (Some(status), _) => {
            let body = match (recorded.body_file, recorded.body_base64, recorded.body) {
                (Some(name), ..) => Body::from(read(&folder.join(name))?),
                (_, Some(text), _) => base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .map(Body::from)
                    .map_err(|e| content(file, format!("{place}: {e}")))?,
                (.., Some(Value::String(text))) => Body::from(text),
                _ => Body::from(""),
            };
            let mut answer = Answer::new(status, body);
            for (name, value) in recorded.headers.unwrap_or_default() {
                let values = if let Value::Array(several) = value { several } else { vec![value] };
                for value in values.iter().filter_map(Value::as_str) {
                    answer = answer.with_header(&name, value);
                }
            }
            Answered::Answer(answer)
        }
        (None, Some(error)) => Answered::Error(kind(error.kind.as_deref().unwrap_or_default())),
        (None, None) => return Err(content(file, format!("{place}: neither a status nor an error"))),
    };
    Ok(Some(Exchange::new(method, url, request_body, answered)))
}

/// What an exception of Python's HTTP clients is here.
fn kind(exception: &str) -> TransportErrorKind {
    match exception {
        "InvalidSchema" | "MissingSchema" | "InvalidURL" | "InvalidHeader" => TransportErrorKind::Request,
        "TooManyRedirects" => TransportErrorKind::Redirect,
        "ChunkedEncodingError" | "ContentDecodingError" | "IncompleteRead" | "ProtocolError" => {
            TransportErrorKind::Body
        }
        timeout if timeout.to_ascii_lowercase().contains("timeout") => TransportErrorKind::Timeout,
        connection if connection.contains("Connection") || connection.contains("SSL") => {
            TransportErrorKind::Connect
        }
        "ProxyError" | "gaierror" | "URLError" | "NewConnectionError" | "OSError" => {
            TransportErrorKind::Connect
        }
        _ => TransportErrorKind::Other,
    }
}
