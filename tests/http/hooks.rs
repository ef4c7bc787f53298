//! Webhooks: signatures are made by another program than the one that checks them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use lamplighter::backend::VisitStore;
use lamplighter::model::{OriginKey, Timestamp, VisitType};
use serde_json::{Value, json};

use super::support::{ANN, Answer, HOOK, Server, start, url};

/// `openssl` is the other program.
fn hmac(body: &str, key: &str) -> String {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", key, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = String::from_utf8(openssl.wait_with_output().unwrap().stdout).unwrap();
    output.split(' ').next().unwrap().to_owned()
}

fn github(n: usize, pushed_at: Timestamp) -> String {
    json!({
        "ref": "refs/heads/main",
        "repository": {"clone_url": format!("{}.git", url(n)), "html_url": url(n), "pushed_at": pushed_at.as_seconds()},
    })
    .to_string()
}

async fn deliver(server: &Server, headers: &[(&str, &str)], body: &str) -> Answer {
    server.send("POST", "/hints", headers, body).await
}

/// Every origin was visited a day ago.
async fn visited() -> Server {
    let server = Server::start(20).await;
    let claimed = server.post(ANN, "/visits/claim", &json!({"visit_type": "git", "count": 100})).await.json();
    let outcome = |v: &Value| json!({"visit": v["visit"], "token": v["token"], "status": "successful", "snapshot": "s"});
    let outcomes: Vec<Value> = claimed["visits"].as_array().unwrap().iter().map(outcome).collect();
    let done = server.post(ANN, "/visits/complete", &json!({"outcomes": outcomes})).await.json();
    assert_eq!(done["completed"], 20);
    server.clock.advance(Duration::from_secs(86_400));
    server
}

async fn next(server: &Server) -> String {
    let claim = lamplighter::backend::Claim::new(VisitType::git(), 1);
    let now = start().plus(Duration::from_secs(86_400));
    server.store.peek(&claim, now).await.unwrap().visits[0].url.clone()
}

#[tokio::test]
async fn a_signed_push_puts_its_origin_ahead() {
    let server = visited().await;
    // One that is not ahead by itself.
    let n = if next(&server).await == url(13) { 14 } else { 13 };
    let body = github(n, start().plus(Duration::from_secs(80_000)));
    let signature = format!("sha256={}", hmac(&body, HOOK));
    let headers = [("x-github-event", "push"), ("x-hub-signature-256", signature.as_str())];
    let answer = deliver(&server, &headers, &body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"known": true, "placed": true})), "{answer:?}");
    assert_eq!(next(&server).await, url(n));
}

#[tokio::test]
async fn forges_sign_in_their_own_ways() {
    let server = visited().await;
    let gitea = json!({"repository": {"clone_url": format!("{}.git", url(3))}}).to_string();
    let signature = hmac(&gitea, HOOK);
    // Gitea sends the headers of GitHub too.
    let headers =
        [("x-gitea-event", "push"), ("x-github-event", "push"), ("x-gitea-signature", signature.as_str())];
    assert_eq!(deliver(&server, &headers, &gitea).await.json()["placed"], true);
    let gitlab =
        json!({"project": {"git_http_url": format!("{}.git", url(4)), "web_url": url(4)}}).to_string();
    let headers = [("x-gitlab-event", "Push Hook"), ("x-gitlab-token", HOOK)];
    assert_eq!(deliver(&server, &headers, &gitlab).await.json()["placed"], true);
    let ping = r#"{"zen": "..."}"#;
    let signature = format!("sha256={}", hmac(ping, HOOK));
    let headers = [("x-github-event", "ping"), ("x-hub-signature-256", signature.as_str())];
    assert_eq!(deliver(&server, &headers, ping).await.json(), json!({"ignored": "ping"}));
}

#[tokio::test]
async fn a_forged_one_does_nothing() {
    let server = visited().await;
    let before = next(&server).await;
    let now = start().plus(Duration::from_secs(80_000));
    let (body, other) = (github(13, now), github(14, now));
    let right = hmac(&body, HOOK);
    let of = |s: &str| format!("sha256={s}");
    let bad = [
        of(&hmac(&body, "another secret")),
        of(&hmac(&other, HOOK)),
        of(&right[..62]),
        of(""),
        right.clone(),
        format!("sha1={right}"),
        String::new(),
    ];
    for signature in &bad {
        let headers = [("x-github-event", "push"), ("x-hub-signature-256", signature.as_str())];
        let answer = deliver(&server, &headers, &body).await;
        assert_eq!((answer.status, answer.kind().as_str()), (401, "forged"), "{signature}");
    }
    assert_eq!(deliver(&server, &[("x-github-event", "push")], &body).await.status, 401);
    for token in ["", "guess", &HOOK[1..]] {
        let headers = [("x-gitlab-event", "Push Hook"), ("x-gitlab-token", token)];
        assert_eq!(deliver(&server, &headers, &body).await.status, 401);
    }
    // A signature of one forge is none of another.
    let headers = [("x-gitea-event", "push"), ("x-hub-signature-256", of(&right).as_str())]
        .map(|(n, v)| (n, v.to_owned()));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(deliver(&server, &headers, &body).await.status, 401);
    assert_eq!(next(&server).await, before);
}

#[tokio::test]
async fn a_replayed_one_does_nothing() {
    let server = visited().await;
    let body = json!({"repository": {"clone_url": format!("{}.git", url(3))}}).to_string();
    let signature = hmac(&body, HOOK);
    let headers =
        [("x-gitea-event", "push"), ("x-gitea-signature", signature.as_str()), ("x-gitea-delivery", "1")];
    assert_eq!(deliver(&server, &headers, &body).await.status, 200);
    assert_eq!(next(&server).await, url(3));
    // It is visited, and the same delivery comes again under another name.
    let claimed = server.post(ANN, "/visits/claim", &json!({"visit_type": "git"})).await.json();
    let visit = &claimed["visits"][0];
    let outcome =
        json!({"visit": visit["visit"], "token": visit["token"], "status": "successful", "snapshot": "s"});
    server.post(ANN, "/visits/complete", &json!({"outcomes": [outcome]})).await;
    server.clock.advance(Duration::from_secs(50_000));
    let key = OriginKey::new(url(3), VisitType::git());
    let now = start().plus(Duration::from_secs(136_400));
    let before = server.store.explain(&key, now).await.unwrap();
    let headers =
        [("x-gitea-event", "push"), ("x-gitea-signature", signature.as_str()), ("x-gitea-delivery", "2")];
    let again = deliver(&server, &headers, &body).await;
    assert_eq!((again.status, again.kind().as_str()), (409, "replayed"));
    assert_eq!(server.store.explain(&key, now).await.unwrap(), before);

    // One of GitHub's is dated: also a server that has just started takes it for no news.
    let body = github(5, start().plus(Duration::from_secs(80_000)));
    let signature = format!("sha256={}", hmac(&body, HOOK));
    let headers = [("x-github-event", "push"), ("x-hub-signature-256", signature.as_str())];
    assert_eq!(deliver(&server, &headers, &body).await.json()["placed"], true);
    let visit =
        server.post(ANN, "/visits/claim", &json!({"visit_type": "git"})).await.json()["visits"][0].clone();
    assert_eq!(visit["url"], url(5));
    let outcome =
        json!({"visit": visit["visit"], "token": visit["token"], "status": "successful", "snapshot": "t"});
    server.post(ANN, "/visits/complete", &json!({"outcomes": [outcome]})).await;
    let restarted = Server::over(&server).await;
    let again = deliver(&restarted, &headers, &body).await;
    assert_eq!((again.status, again.json()), (200, json!({"known": true, "placed": false})));
}
