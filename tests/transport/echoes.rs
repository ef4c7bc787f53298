//! A forge that repeats every secret it is sent, wherever it can: it is in no log, error, cursor,
//! recording or store.

use std::sync::Arc;

use lamplighter::backend::FileStore;
use lamplighter::driver::{Driver, RunOptions};
use lamplighter::lister::{Lister, ListerError, Page, RunInfo, Source};
use lamplighter::model::{NewOrigin, Timestamp, VisitType};
use lamplighter::testing::VirtualClock;
use lamplighter::transport::{
    Auth, Credentials, Http, HttpOptions, Polite, PoliteOptions, RecordedRun, Recording, RecordingInfo,
    Request, Response, RetryOptions, Secret,
};
use url::Url;

use crate::notes::Notes;
use crate::planted::{FORMS, TOKEN, all_in, told_by};
use crate::support::{RawServer, Reply, START, every_auth, http};

/// Asks for pages of all kinds; what a page links to is its next cursor.
struct Echo {
    base: Url,
    auth: Auth,
}

impl Lister for Echo {
    type Cursor = String;
    fn name(&self) -> &'static str {
        "echo"
    }
    fn instance(&self) -> &'static str {
        "forge.example"
    }
    fn start(&self, _: &RunInfo) -> Vec<String> {
        [
            "good",
            "unread",
            "refused",
            "forbidden",
            "broken",
            "moved",
            "astray",
            "limited",
            "cut",
            "encoded",
            "walled",
        ]
        .map(|path| self.base.join(path).unwrap().to_string())
        .to_vec()
    }
    fn request(&self, at: &String) -> Result<Request, ListerError> {
        let url = at.parse().map_err(|_| ListerError::cursor("no URL"))?;
        let mut request = match self.auth {
            Auth::Form(_) => Request::post_form(url, [("a", "1")]),
            _ => Request::get(url).validated(),
        };
        request = request.with_auth(self.auth.clone()).needing("a token");
        Ok(request)
    }
    fn page(&self, _: &String, response: Response, page: &mut Page<String>) -> Result<(), ListerError> {
        let next = response.link("next")?.map(|url| url.to_string());
        for url in response.json::<Vec<String>>()? {
            page.origin(NewOrigin::new(url, VisitType::git()))?;
        }
        if let Some(next) = next {
            page.next(next);
        }
        Ok(())
    }
}

/// Answers with all that was sent in every place that an answer has.
fn echo(request: &str) -> Reply {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let credentials = head.lines().filter(|l| l.contains("authorization:") || l.contains("private-token:"));
    let sent: Vec<&str> = credentials.chain([query, body]).filter(|s| !s.is_empty()).collect();
    let sent = sent.join(" ");
    // As the forge reads it, and as it came.
    let plain = if sent.is_empty() { "" } else { TOKEN };
    let quoted = serde_json::to_string(&format!("{sent} {plain}")).unwrap();
    let in_url: String = url::form_urlencoded::byte_serialize(sent.as_bytes()).collect();
    let headers = format!(
        "X-Echo: {sent}\r\nX-Plain: {plain}\r\nSet-Cookie: session={plain}\r\nETag: \"{plain}\"\r\nX-Accepted-OAuth-Scopes: {plain}\r\n"
    );
    let page = |status, more: &str, body: &str| {
        Reply::Bytes(http(status, &format!("{headers}{more}"), body.as_bytes()))
    };
    match path {
        "/good" if !query.contains("page=2") => page(
            "200 OK",
            &format!("Link: </good?page=2&{query}&echo={in_url}>; rel=\"next\"\r\n"),
            &format!(
                "[\"https://forge.example/r1\", \"https://forge.example/r2?seen={plain}\", \"https://forge.example/{in_url}\"]"
            ),
        ),
        "/good" => page("200 OK", "", "[\"https://forge.example/r3\"]"),
        "/unread" => page("200 OK", "", &format!("{{\"message\": {quoted}}}")),
        "/refused" => page("401 Unauthorized", "WWW-Authenticate: Bearer scope=\"x\"\r\n", &quoted),
        "/forbidden" => page("403 Forbidden", "", &quoted),
        "/broken" => page("500 Oops", "", &format!("<p>{sent} {plain}</p>")),
        "/moved" if query.contains("hop=1") => page("200 OK", "", "[]"),
        "/moved" => page("302 Found", &format!("Location: /moved?hop=1&{query}\r\n"), &quoted),
        "/astray" => page("302 Found", &format!("Location: ftp://{in_url}/\r\n"), &quoted),
        "/limited" => page("429 Slow", "Retry-After: 5\r\n", &quoted),
        "/cut" => Reply::Bytes(
            format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 9999\r\n\r\n{quoted}").into_bytes(),
        ),
        "/encoded" => page("200 OK", &format!("Content-Encoding: x-{plain}\r\n"), &quoted),
        "/walled" => page(
            "200 OK",
            "Content-Type: text/html\r\n",
            &format!("<title>Checking your browser</title>{sent}"),
        ),
        other => panic!("{other}"),
    }
}

/// Runs it all with a secret, and gives each place where it might have gone.
async fn places(auth: Auth) -> (Vec<(&'static str, String)>, String) {
    let server = RawServer::start(|request, _| echo(request));
    let folder = tempfile::tempdir().unwrap();
    let (recorded, stored) = (folder.path().join("recording"), folder.path().join("store"));
    let notes = Notes::take();
    let credentials = Credentials::new().with(Secret::of_user("ann", TOKEN), [&server.base]);
    let credentials = Arc::new(credentials);
    let clock = Arc::new(VirtualClock::new(Timestamp::from_seconds(START)));
    let bases = || [server.base.clone()];
    let http = HttpOptions::new("")
        .with_bases(bases())
        .with_credentials(credentials.clone())
        .with_idle(std::time::Duration::from_secs(60), std::time::Duration::from_secs(60));
    let info = RecordingInfo::new("echo", "a test").with_secrets(vec![TOKEN.into()]);
    let recording = Recording::create(Http::new(http).unwrap(), &recorded, info).unwrap();
    recording.begin_run(RecordedRun::new(Timestamp::from_seconds(START))).unwrap();
    let mut said = Vec::new();
    {
        let store = Arc::new(FileStore::open(&stored).unwrap());
        let options = PoliteOptions::default()
            .with_bases(bases())
            .with_retry(RetryOptions::default().with_attempts(2))
            .with_limit_store(store.clone());
        let polite = Polite::new(Arc::new(recording), clock.clone(), credentials, options);
        let source = Source::stateless(Echo { base: server.base.clone(), auth });
        let driver = Driver::new(store.clone(), Arc::new(polite), clock);
        let report = driver.run(Arc::new(source), RunOptions::default().with_concurrency(1)).await;
        said.push(("the report", format!("{report:?}")));
        said.extend(told_by(&store).await);
    }
    said.push(("the log", notes.text()));
    said.push(("the recording", all_in(&recorded)));
    said.push(("the store", String::from_utf8_lossy(&std::fs::read(&stored).unwrap()).into_owned()));
    (said, server.log().concat())
}

#[tokio::test]
async fn a_forge_that_repeats_secrets_gives_none_away() {
    for auth in every_auth() {
        let (said, asked) = places(auth.clone()).await;
        assert!(FORMS.iter().any(|form| asked.contains(form)), "{auth:?}: it was not even sent");
        for path in ["/good?page=2", "/unread", "/refused", "/moved?hop=1", "/limited", "/walled"] {
            assert!(asked.contains(path), "{auth:?}: {path} in {asked}");
        }
        for (place, text) in said {
            assert!(text.contains("refused") || text.contains("echo"), "{place} is empty");
            for form in FORMS {
                let at = text.find(form).map(|at| {
                    let from = text.floor_char_boundary(at.saturating_sub(200));
                    &text[from..text.ceil_char_boundary((at + 60).min(text.len()))]
                });
                assert_eq!(at, None, "{auth:?}: {form:?} in {place}");
            }
        }
    }
}
