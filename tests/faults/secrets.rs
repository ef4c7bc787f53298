//! A secret in every place where a lister takes one, and a forge that repeats it wherever an answer
//! has room: it is in no log, error, cursor, recording or store.

use std::sync::Arc;

use async_trait::async_trait;
use lamplighter::backend::FileStore;
use lamplighter::driver::{Driver, RunOptions};
use lamplighter::lister::{Entry, ParameterKind, Secret};
use lamplighter::testing::Step;
use lamplighter::transport::{
    Credentials, Http, HttpOptions, Polite, PoliteOptions, RecordedRun, Recording, RecordingInfo, Request,
    Response, RetryOptions, Transport, TransportError,
};

use crate::forge::key;
use crate::notes::Notes;
use crate::planted::{FORMS, TOKEN, all_in, told_by};
use crate::support::{RawServer, Reply, http};
use crate::trial::Trial;

/// What the forge does with what it was sent.
const WAYS: [&str; 7] = ["lists it", "401", "403", "500", "page", "json", "broken"];

/// Answers so that all of it is said again.
fn echo(request: &str, way: &str, steps: &[(u16, Vec<u8>)]) -> Reply {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let number = target.trim_start_matches('/').split('?').next().unwrap();
    let sent: Vec<&str> = head
        .lines()
        .filter(|line| line.contains("authorization") || line.contains("token") || line.contains("cookie"))
        .chain([target, body, TOKEN])
        .collect();
    let sent = sent.join(" ");
    let headers = format!(
        "X-Echo: {sent}\r\nSet-Cookie: session={TOKEN}\r\nETag: \"{TOKEN}\"\r\nX-Accepted-OAuth-Scopes: {TOKEN}\r\nWWW-Authenticate: Bearer scope=\"{TOKEN}\"\r\n"
    );
    let answer = |status: &str, body: &[u8]| Reply::Bytes(http(status, &headers, body));
    let quoted = serde_json::to_string(&sent).unwrap();
    match way {
        "401" => answer("401 Unauthorized", sent.as_bytes()),
        "403" => answer("403 Forbidden", format!("{{\"message\": {quoted}}}").as_bytes()),
        "500" => answer("500 Oops", sent.as_bytes()),
        "page" => answer("200 OK", format!("<html><title>{sent}</title><p>{sent}</p></html>").as_bytes()),
        "json" => answer("200 OK", format!("{{\"{TOKEN}\": {quoted}, \"message\": {quoted}}}").as_bytes()),
        "broken" => answer("200 OK", format!("[{{\"id\": {quoted}, \"name\": {quoted}").as_bytes()),
        _ => match number.parse::<usize>().ok().and_then(|n| steps.get(n)) {
            Some((status, body)) => answer(&format!("{status} As recorded"), &planted(body)),
            None => answer("404 Not Found", sent.as_bytes()),
        },
    }
}

/// The body with the secret in every address that it holds, and at its end.
fn planted(body: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(body) else { return body.to_vec() };
    let in_url: String = url::form_urlencoded::byte_serialize(TOKEN.as_bytes()).collect();
    let mut planted = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\"http") {
        let (before, after) = rest.split_at(at + 1);
        let end = after.find('"').unwrap_or(after.len());
        let mark = if after[..end].contains('?') { '&' } else { '?' };
        planted.push_str(before);
        planted.push_str(&after[..end]);
        planted.push(mark);
        planted.push_str("seen=");
        planted.push_str(&in_url);
        rest = &after[end..];
    }
    planted.push_str(rest);
    // White space, names and comments of HTML may be anything.
    if planted.trim_start().starts_with('<') {
        planted = format!("{planted}<!-- {TOKEN} -->");
    }
    planted.into_bytes()
}

/// Sends what a lister asks to the server instead, with all that is sent along.
struct Socket {
    server: Arc<RawServer>,
    keys: Vec<String>,
    client: Http,
}

#[async_trait]
impl Transport for Socket {
    async fn send(&self, mut request: Request) -> Result<Response, TransportError> {
        let wanted = request.url.clone();
        let this = key(&request);
        let number = self.keys.iter().position(|k| *k == this).map_or("none".to_owned(), |n| n.to_string());
        request.url = self.server.at(&format!("{number}?{}", wanted.query().unwrap_or_default()));
        let mut answer = self.client.send(request).await?;
        answer.url = wanted;
        Ok(answer)
    }
}

/// Runs a trial with a secret in every parameter that takes one, on a forge that repeats it, and gives
/// each place where it might have gone; and what the server was asked.
async fn places(
    trial: &Trial<'_>,
    entry: &Entry,
    way: &'static str,
) -> (Vec<(&'static str, String)>, String) {
    let as_sent = |step: &Step| {
        let response = step.response.as_ref().unwrap();
        (response.status.as_u16(), response.body.bytes().unwrap().to_vec())
    };
    let steps: Vec<_> = trial.steps.iter().map(as_sent).collect();
    let server = Arc::new(RawServer::start(move |request, _| echo(request, way, &steps)));
    let mut arguments = trial.run_of_case().arguments.clone();
    for parameter in entry.parameters.iter().filter(|p| p.kind == ParameterKind::Secret) {
        arguments.insert(parameter.name.to_owned(), TOKEN.into());
    }
    let built = entry.build(&arguments).unwrap();
    let bases: Vec<url::Url> = built.bases.iter().chain([&server.base]).cloned().collect();
    let secrets = built.secrets.into_iter().chain([Secret::of_user("ann", TOKEN)]);
    let credentials =
        Arc::new(secrets.fold(Credentials::new(), |all, secret| all.with(secret, bases.iter())));
    let clock = trial.clock(0);
    let folder = tempfile::tempdir().unwrap();
    let (recorded, stored) = (folder.path().join("recording"), folder.path().join("store"));
    let notes = Notes::take();
    let options = HttpOptions::new("")
        .with_bases([server.base.clone()])
        .with_credentials(Arc::clone(&credentials))
        .with_clock(Arc::clone(&clock) as _);
    let socket = Socket {
        keys: trial.steps.iter().map(|s| key(&s.request)).collect(),
        client: Http::new(options).unwrap(),
        server: Arc::clone(&server),
    };
    let info = RecordingInfo::new(entry.name, "a test")
        .with_arguments(built.parameters.clone())
        .with_secrets(vec![TOKEN.into()]);
    let recording = Recording::create(socket, &recorded, info).unwrap();
    let now = lamplighter::transport::Clock::now(&*clock);
    recording.begin_run(RecordedRun::new(now)).unwrap();
    let mut said = Vec::new();
    {
        let store = Arc::new(FileStore::open(&stored).unwrap());
        let options = PoliteOptions::default()
            .with_bases(bases)
            .with_retry(RetryOptions::default().with_attempts(2))
            .with_limit_store(Arc::clone(&store) as _);
        let polite = Polite::new(recording, Arc::clone(&clock) as _, credentials, options);
        let driver = Driver::new(Arc::clone(&store) as _, Arc::new(polite), clock);
        let options = RunOptions::default().with_concurrency(1).with_parameters(built.parameters);
        let report = driver.run(built.source, options).await;
        said.push(("the report", format!("{report:?}")));
        said.extend(told_by(&store).await);
    }
    said.push(("the log", notes.text()));
    said.push(("the recording", all_in(&recorded)));
    said.push(("the store", String::from_utf8_lossy(&std::fs::read(&stored).unwrap()).into_owned()));
    (said, server.log().concat())
}

/// Where a secret of a trial's lister is seen that must be nowhere.
pub(crate) async fn seen(trial: &Trial<'_>, entry: &Entry) -> Vec<String> {
    let mut seen = Vec::new();
    let needs = trial.steps.iter().any(|s| s.request.auth != lamplighter::transport::Auth::None);
    for way in WAYS {
        let (said, asked) = places(trial, entry, way).await;
        let name = format!("{}, a forge that says {way:?}", trial.name);
        // A test in which no secret is sent shows less than it seems to.
        if needs && !FORMS.iter().any(|form| asked.contains(form)) {
            seen.push(format!("{name}: it was not even sent"));
        }
        for (place, text) in said {
            if text.is_empty() {
                seen.push(format!("{name}: {place} is empty"));
            }
            for form in FORMS {
                let Some(at) = text.find(form) else { continue };
                let before: String = text[..at].chars().rev().take(160).collect();
                let before: String = before.chars().rev().collect();
                let after: String = text[at..].chars().take(60).collect();
                seen.push(format!("{name}: {form:?} in {place}: {before:?} {after:?}"));
            }
        }
    }
    seen
}
