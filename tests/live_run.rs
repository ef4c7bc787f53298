//! The service: `lamplighter run` over a real cgit, from its configuration to its end.
//!
//! Runs where `LAMPLIGHTER_CGIT=required`, as `tests/live_cgit.rs` does.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod live;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use live::signal::signal;
use live::{Live, is_required};

const TOKEN: &str = "a-bearer-token-of-ann";

struct Service {
    child: Child,
    told: BufReader<ChildStderr>,
}

impl Service {
    fn start(config: &Path, store: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lamplighter"))
            .arg("--config")
            .arg(config)
            .arg("--store")
            .arg(format!("file:{}", store.display()))
            .arg("run")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stderr.take().unwrap());
        Self { child, told }
    }

    /// Reads what it tells until a line has this in it.
    fn until(&mut self, what: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.told.read_line(&mut line).unwrap(), 0, "it ended without {what:?}: {all}");
            all += &line;
            if line.contains(what) {
                return line;
            }
        }
    }

    fn address(&mut self) -> SocketAddr {
        let line = self.until("listening on ");
        line.trim_end().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str, token: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn config(url: &str, tokens: &[(&str, &str)]) -> String {
    let mut text = format!(
        r#"
contact = "ops@archive.example"
[[lister]]
name = "cgit"
every_seconds = 3600
parameters = {{ url = "{url}" }}
[[feed]]
visit_type = "git"
worker = "ls-remote"
[pool]
at_once = 4
drain_seconds = 30
[http]
listen = "127.0.0.1:0"
per_second = 10000.0
"#
    );
    for (name, token) in tokens {
        write!(text, "[[http.token]]\nname = \"{name}\"\ntoken = \"{token}\"\n").unwrap();
    }
    text
}

#[test]
fn the_service_lists_visits_reloads_and_ends() {
    if !is_required("LAMPLIGHTER_CGIT", "cgit") {
        return;
    }
    let live = Live::start("cgit.sh", "/cgit/");
    let room = tempfile::tempdir().unwrap();
    let (file, store) = (room.path().join("run.toml"), room.path().join("store"));
    std::fs::write(&file, config(live.url.as_str(), &[("ann", TOKEN)])).unwrap();
    let mut service = Service::start(&file, &store);
    let address = service.address();
    let listed = service.until("complete");
    assert!(listed.contains("67 origins, 67 new"), "{listed}");
    // Every one is visited, by the workers of the service.
    loop {
        let (status, metrics) = get(address, "/metrics", TOKEN);
        assert_eq!(status, 200, "{metrics}");
        assert!(!metrics.contains(TOKEN));
        if metrics.contains("lamplighter_visits_total{end=\"recorded\"} 67\n") {
            assert!(metrics.contains("lamplighter_origins_never_visited{lister=\"cgit\""), "{metrics}");
            break;
        }
    }

    // A configuration that is wrong changes nothing; a right one is used.
    std::fs::write(&file, config(live.url.as_str(), &[("ann", TOKEN)]).replace("\"cgit\"", "\"cgti\""))
        .unwrap();
    assert!(signal(&service.child, "HUP"));
    let kept = service.until("stays as it was");
    assert!(kept.contains("run.toml:4: [[lister]] cgti"), "{kept}");
    assert_eq!(get(address, "/changes", TOKEN).0, 200);
    std::fs::write(&file, config(live.url.as_str(), &[("bob", "a-bearer-token-of-bob")])).unwrap();
    assert!(signal(&service.child, "HUP"));
    let address = service.address();
    assert_eq!(get(address, "/changes", TOKEN).0, 401);
    assert_eq!(get(address, "/changes", "a-bearer-token-of-bob").0, 200);

    assert!(signal(&service.child, "TERM"));
    service.until("ending");
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    let metrics = Command::new(env!("CARGO_BIN_EXE_lamplighter"))
        .args(["--json", "--store", &format!("file:{}", store.display()), "metrics"])
        .output()
        .unwrap();
    let metrics: serde_json::Value = serde_json::from_slice(&metrics.stdout).unwrap();
    let counts = metrics.get(0).unwrap();
    let of = |name: &str| counts.get(name).unwrap().as_u64().unwrap();
    assert_eq!((of("known"), of("never_visited"), of("leased")), (67, 0, 0));
}

/// Workers elsewhere do the same, and a signed webhook puts an origin ahead.
#[test]
fn the_service_feeds_a_worker_in_python() {
    if !is_required("LAMPLIGHTER_CGIT", "cgit") {
        return;
    }
    let live = Live::start("cgit.sh", "/cgit/");
    let room = tempfile::tempdir().unwrap();
    let (file, store) = (room.path().join("run.toml"), room.path().join("store"));
    let text = config(live.url.as_str(), &[("ann", TOKEN)])
        .replace("[[feed]]\nvisit_type = \"git\"\nworker = \"ls-remote\"\n", "[policy.git]\nuse = \"due\"\n")
        + "[[http.hook]]\nforge = \"gitea\"\nname = \"here\"\nsecret = \"the-secret-of-the-hook\"\n";
    std::fs::write(&file, text).unwrap();
    let mut service = Service::start(&file, &store);
    let address = service.address();
    service.until("complete");
    let worker = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/worker.py"))
        .arg("8")
        .env("LAMPLIGHTER_URL", format!("http://{address}"))
        .env("LAMPLIGHTER_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(worker.status.success(), "{}", String::from_utf8_lossy(&worker.stderr));
    let (_, metrics) = get(address, "/metrics", TOKEN);
    let never = metrics.lines().find(|l| l.starts_with("lamplighter_origins_never_visited{")).unwrap();
    assert!(never.ends_with(" 0"), "{never}");

    let origin = format!("{}tools/tool-07.git", live.url);
    let explain = |address| get(address, &format!("/explain?visit_type=git&url={origin}"), TOKEN).1;
    assert!(!explain(address).contains("\"reason\":\"known_stale\""));
    let body = format!("{{\"repository\":{{\"clone_url\":\"{origin}\"}}}}");
    let signed = Command::new("sh")
        .args(["-c", "printf %s \"$1\" | openssl dgst -sha256 -hmac the-secret-of-the-hook -r", "sh", &body])
        .output()
        .unwrap();
    let signature = String::from_utf8(signed.stdout).unwrap().split(' ').next().unwrap().to_owned();
    let post = |signature: &str| {
        let mut socket = TcpStream::connect(address).unwrap();
        write!(
            socket,
            "POST /hints HTTP/1.1\r\nhost: h\r\nx-gitea-event: push\r\nx-gitea-signature: {signature}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(post(&"0".repeat(64)), 401);
    assert!(!explain(address).contains("\"reason\":\"known_stale\""), "a forged one does nothing");
    assert_eq!(post(&signature), 200);
    assert!(explain(address).contains("\"reason\":\"known_stale\""), "{}", explain(address));
    assert_eq!(post(&signature), 409, "and a replayed one is refused");
}

/// What is wrong is told with file, line and key, and no secret.
#[test]
fn a_wrong_configuration_is_told_by_its_line() {
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("run.toml");
    let ok = config("https://git.example/", &[("ann", TOKEN)]);
    for (wrong, says) in [
        (ok.replace("\"cgit\"", "\"cgti\""), "run.toml:4: [[lister]] cgti"),
        (ok.replace("url =", "ulr ="), "run.toml:4: [[lister]] cgit: "),
        (ok.replace("every_seconds = 3600", "every = 3600"), "run.toml:5: unknown field `every`"),
        (ok.replace("\"ls-remote\"", "\"clone\""), "run.toml:9: "),
        (ok.replace("127.0.0.1:0", "everywhere"), "run.toml:14: "),
        (ok.replace("127.0.0.1:0", "0.0.0.0:0"), "not on the loopback"),
        (ok.replace(TOKEN, "4711"), "the secret of ann is too short"),
        ("contact = \"x\"".to_owned(), "there is nothing to run"),
    ] {
        std::fs::write(&file, &wrong).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_lamplighter"))
            .args(["--config", file.to_str().unwrap(), "run"])
            .arg("--store")
            .arg(format!("file:{}", room.path().join("store").display()))
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(says), "{says}: {told}");
        assert!(!told.contains("4711") && !told.contains(TOKEN), "{told}");
    }
}
