//! A real server that a script starts, and a listing of it by the real client.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test uses its part, and may fail")]

#[path = "../common/signal.rs"]
pub(crate) mod signal;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, RunStore};
use lamplighter::driver::{Driver, RunOptions, RunReport};
use lamplighter::lister::Registry;
use lamplighter::lister::detect::{Detector, Found, MOST_PROBES};
use lamplighter::model::JsonObject;
use lamplighter::transport::{
    Clock, Credentials, Http, HttpOptions, Polite, PoliteOptions, SystemClock, Transport,
};
use signal::signal;
use tempfile::TempDir;
use url::Url;

/// The server, and the folder it serves.
pub(crate) struct Live {
    script: Child,
    pub(crate) room: TempDir,
    pub(crate) url: Url,
}

impl Live {
    /// Starts a script of `scripts/servers`, which says when its server is ready at this path.
    pub(crate) fn start(name: &str, path: &str) -> Self {
        let room = TempDir::new().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers").join(name);
        let script = Command::new(script)
            .arg(room.path())
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let url = Url::parse(&format!("http://127.0.0.1:{port}{path}")).unwrap();
        let mut live = Self { script, room, url };
        let mut ready = String::new();
        BufReader::new(live.script.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready.trim_end(), format!("ready {}", live.url), "the server did not start");
        live
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // The script stops its server on this signal, and ends when that has ended.
        if signal(&self.script, "TERM") {
            let _ = self.script.wait();
        }
    }
}

pub(crate) async fn list(lister: &str, url: &Url, store: &Arc<MemoryStore>) -> RunReport {
    list_at(lister, url, Arc::clone(store) as _, Arc::new(SystemClock)).await
}

/// The real client, with the limits that forges are asked under.
pub(crate) fn client(bases: &[Url]) -> Polite<Http> {
    let http = Http::new(HttpOptions::new("tests").with_bases(bases.iter().cloned())).unwrap();
    let options = PoliteOptions::default().with_bases(bases.iter().cloned());
    Polite::new(http, Arc::new(SystemClock), Arc::new(Credentials::new()), options)
}

/// As [`list`], into any store and at a time of one's choice.
pub(crate) async fn list_at(
    lister: &str,
    url: &Url,
    store: Arc<dyn RunStore>,
    clock: Arc<dyn Clock>,
) -> RunReport {
    let arguments = JsonObject::from_iter([("url".to_owned(), url.as_str().into())]);
    let built = Registry::builtin().build(lister, &arguments).unwrap();
    let driver = Driver::new(store, Arc::new(client(&built.bases)), clock);
    driver.run(built.source, RunOptions::default()).await.unwrap()
}

/// What the server is taken for, by no more requests than are allowed.
pub(crate) async fn detect(url: &Url) -> Found {
    let http = Http::new(HttpOptions::new("tests").with_bases([url.clone()])).unwrap();
    let mut detector = Detector::new(url);
    while let Some(request) = detector.request() {
        let answer = http.send(request).await;
        detector.answered(answer.as_ref().map_err(ToString::to_string));
    }
    assert!(detector.made() <= MOST_PROBES);
    detector.found().cloned().unwrap_or_else(|| panic!("{url}: {:?}", detector.said()))
}

/// The branches that a URL leads to, each with its commit.
pub(crate) fn branches_at(url: &str) -> Vec<String> {
    branches(&["ls-remote", "--heads", url])
}

/// The branches of a repository on the disk, each with its commit.
pub(crate) fn branches_in(repository: &Path) -> Vec<String> {
    let format = "--format=%(objectname) %(refname)";
    branches(&["--git-dir", repository.to_str().unwrap(), "for-each-ref", format, "refs/heads"])
}

/// What git says of branches. Nothing else is in the output: a warning would be on the other stream.
fn branches(args: &[&str]) -> Vec<String> {
    let output = Command::new("git")
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Whether there is such a server to be listed: its variable says `required`. In CI it must. A skip is
/// told past the harness, which keeps what a test prints.
pub(crate) fn is_required(variable: &str, what: &str) -> bool {
    if std::env::var(variable).is_ok_and(|v| v == "required") {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "in CI a real {what} is required: {variable}=required");
    let line = format!("\n!! SKIPPED: a real {what} ({variable}=required lists one)\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    false
}
