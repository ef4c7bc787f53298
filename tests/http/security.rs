//! Who may not, what is too much, and what must not show.

use std::time::Duration;

use lamplighter::backend::{Claim, MemoryStore, VisitStore};
use lamplighter::dispatch::http::{Api, ApiOptions, ApiToken, ServeError};
use lamplighter::model::VisitType;
use lamplighter::transport::SystemClock;
use serde_json::json;

use super::support::{ANN, BOB, HOOK, Server, options, start, url};

const ASKED: [(&str, &str); 8] = [
    ("POST", "/visits/claim"),
    ("POST", "/visits/1/heartbeat"),
    ("POST", "/visits/complete"),
    ("POST", "/requests"),
    ("POST", "/hints"),
    ("GET", "/origins"),
    ("GET", "/changes"),
    ("GET", "/metrics"),
];

#[tokio::test]
async fn without_the_right_token_nothing_is_answered() {
    let server = Server::start(3).await;
    let long = "x".repeat(5000);
    let (extended, longest) = (format!("Bearer {ANN}x"), format!("Bearer {long}"));
    let wrong = ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YW5uOmFubg==", &extended, &longest, ANN];
    for (method, path) in ASKED {
        let none = server.send(method, path, &[], "{}").await;
        assert_eq!((none.status, none.kind().as_str()), (401, "unauthorized"), "{method} {path}");
        assert_eq!(none.headers["www-authenticate"], "Bearer");
        for token in wrong {
            let answer = server.send(method, path, &[("authorization", token)], "{}").await;
            assert_eq!(answer.status, 401, "{method} {path} {token}");
        }
        let right = server.send(method, path, &[("authorization", &format!("bearer {ANN}"))], "{}").await;
        assert_ne!(right.status, 401, "{method} {path}");
    }
    let untouched = server.store.peek(&Claim::new(VisitType::git(), 9), start()).await.unwrap().visits;
    assert_eq!(untouched.len(), 3);
}

#[tokio::test]
async fn an_empty_token_is_nobodys() {
    let options = ApiOptions::default().with_token(ApiToken::new("oops", ""));
    let server = Server::with(1, options).await;
    let answer = server.send("GET", "/origins", &[("authorization", "Bearer ")], "").await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn another_workers_visit_cannot_be_completed_or_kept() {
    let server = Server::start(1).await;
    let claimed = server.post(ANN, "/visits/claim", &json!({"visit_type": "git"})).await.json();
    let visit = &claimed["visits"][0];
    let beat = format!("/visits/{}/heartbeat", visit["visit"]);
    let bare = visit["token"].as_str().unwrap().split('.').next().unwrap().to_owned();
    for token in [visit["token"].as_str().unwrap(), &bare] {
        let outcome = json!({"visit": visit["visit"], "token": token, "status": "failed"});
        let done = server.post(BOB, "/visits/complete", &json!({"outcomes": [outcome]})).await.json();
        assert_eq!((&done["completed"], &done["refused"][0]["reason"]), (&json!(0), &json!("not_yours")));
        assert_eq!(server.post(BOB, &beat, &json!({"token": token})).await.status, 403);
    }
    let outcome = json!({"visit": visit["visit"], "token": visit["token"], "status": "successful"});
    let done = server.post(ANN, "/visits/complete", &json!({"outcomes": [outcome]})).await.json();
    assert_eq!(done["completed"], 1, "it is hers");
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_time_and_so_are_heads() {
    let server = Server::with(1, options().with_body(1000, Duration::from_millis(300))).await;
    let large = server.post(ANN, "/requests", &json!({"url": "x".repeat(2000), "visit_type": "git"})).await;
    assert_eq!((large.status, large.kind().as_str()), (413, "too_large"));
    // Announced as small as anything, and without end.
    let chunk = format!("800\r\n{}\r\n", "x".repeat(0x800));
    let endless = format!(
        "POST /requests HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {ANN}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
    );
    assert!(server.raw(endless.as_bytes()).await.starts_with("HTTP/1.1 413"));
    let slow = format!(
        "POST /requests HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {ANN}\r\nconnection: close\r\ncontent-length: 500\r\n\r\n{{"
    );
    assert!(server.raw(slow.as_bytes()).await.starts_with("HTTP/1.1 408"));
    let head = server.raw(b"GET /healthz HTTP/1.1\r\nhost: h\r\n").await;
    assert!(!head.starts_with("HTTP/1.1 200"), "a head that does not end is not waited for: {head}");
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn who_asks_too_often_waits_and_the_others_do_not() {
    let server = Server::with(1, options().with_per_second(1.0)).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(server.get("/changes").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    let refused = server.get("/changes").await;
    assert_eq!((refused.kind().as_str(), refused.headers["retry-after"].as_str()), ("too_many", "1"));
    assert_eq!(server.post(BOB, "/visits/claim", &json!({"visit_type": "git"})).await.status, 200);
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(server.get("/changes").await.status, 200);
}

#[tokio::test]
async fn guesses_are_slowed_down() {
    let server = Server::with(1, options().with_per_second(1.0)).await;
    let mut statuses = Vec::new();
    for n in 0..6 {
        let token = format!("Bearer guess-{n}");
        statuses.push(server.send("GET", "/changes", &[("authorization", &token)], "").await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 429, 429]);
}

#[tokio::test]
async fn nonsense_is_told_by_its_place_and_breaks_nothing() {
    let server = Server::start(1).await;
    let say = async |method: &str, path: &str, body: &str| {
        let answer =
            server.send(method, path, &[("authorization", format!("Bearer {ANN}").as_str())], body).await;
        (answer.status, answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    for (path, body, says) in [
        ("/visits/claim", "", "EOF"),
        ("/visits/claim", r#"{"visit_type": "GIT!"}"#, "not a visit type"),
        ("/visits/claim", r#"{"visit_type": "git", "count": 0}"#, "count"),
        ("/visits/claim", r#"{"visit_type": "git", "count": 99999999}"#, "count"),
        ("/visits/claim", r#"{"visit_type": "git", "count": -1}"#, "count"),
        ("/visits/claim", r#"{"visit_type": "git", "lease_seconds": 0}"#, "lease_seconds"),
        ("/visits/claim", r#"{"visit_type": "git", "lease_seconds": 18446744073709551615}"#, "lease_seconds"),
        ("/visits/claim", r#"{"visit_type": "git", "x": 1}"#, "unknown field"),
        ("/visits/claim", r#"{"visit_type": "git"} {}"#, "more after"),
        (
            "/visits/complete",
            r#"{"outcomes": [{"visit": 1, "token": "1", "status": "lost"}]}"#,
            "outcomes[0].status",
        ),
        (
            "/visits/complete",
            r#"{"outcomes": [{"visit": "x", "token": "1", "status": "failed"}]}"#,
            "outcomes[0].visit",
        ),
        ("/requests", r#"{"url": "no URL", "visit_type": "git"}"#, "URL"),
        ("/requests", "{\"url\": \"https://x.example/\\u0000\", \"visit_type\": \"git\"}", "URL"),
    ] {
        let (status, message) = say("POST", path, body).await;
        assert_eq!(status, 400, "{path} {body}: {message}");
        assert!(message.contains(says), "{path} {body}: {message}");
    }
    for (path, says) in [
        ("/origins?limit=0", "limit"),
        ("/origins?limit=1001", "limit"),
        ("/origins?after=zz", "after"),
        ("/origins?x=1", "unknown field"),
        ("/changes?after=-1", "query"),
        ("/explain", "query"),
    ] {
        let (status, message) = say("GET", path, "").await;
        assert!(status == 400 && message.contains(says), "{path}: {status} {message}");
    }
    assert_eq!(say("GET", "/nothing", "").await.0, 404);
    assert_eq!(say("DELETE", "/origins", "").await.0, 405);
    assert_eq!(say("POST", "/visits/one/heartbeat", r#"{"token": "1.00"}"#).await.0, 404);
}

#[tokio::test]
async fn what_comes_from_outside_stays_in_one_line() {
    let server = Server::start(1).await;
    let owner = "eve\r\nx-injected: 1\u{1b}[31m\0end";
    server.post(ANN, "/visits/claim", &json!({"visit_type": "git", "owner": owner})).await;
    let explained = server.get(&format!("/explain?visit_type=git&url={}", url(0))).await;
    assert_eq!(explained.json()["lease"]["owner"], "ann: eve x-injected: 1 [31m end");
    let odd = server.get("/origins?%0d%0ax-injected:1=1").await;
    assert_eq!(odd.status, 400);
    assert!(!odd.headers.contains_key("x-injected") && !odd.body.contains('\r'), "{odd:?}");
}

#[tokio::test]
async fn only_loopback_is_listened_on_unless_told() {
    let api = |options| {
        Api::new(std::sync::Arc::new(MemoryStore::new()), std::sync::Arc::new(SystemClock), options)
    };
    let anywhere = "0.0.0.0:0".parse().unwrap();
    let refused = api(options()).listen(anywhere).await.unwrap_err();
    assert!(matches!(refused, ServeError::Remote(_)), "{refused}");
    assert!(api(options().with_remote(true)).listen(anywhere).await.is_ok());
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let server = Server::start(2).await;
    let shown = [format!("{:?}", options()), {
        let claimed = server.post(ANN, "/visits/claim", &json!({"visit_type": "git"})).await;
        let wrong =
            server.send("GET", "/origins", &[("authorization", format!("Bearer {BOB}x").as_str())], "").await;
        let forged = server
            .send("POST", "/hints", &[("x-gitlab-event", "Push Hook"), ("x-gitlab-token", "guess")], "{}")
            .await;
        let metrics = server.get("/metrics").await;
        format!("{claimed:?} {wrong:?} {forged:?} {metrics:?}")
    }];
    for secret in [ANN, BOB, HOOK] {
        assert!(shown.iter().all(|text| !text.contains(secret)), "{shown:?}");
    }
}
