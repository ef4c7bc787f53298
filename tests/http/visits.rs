//! Claims, heartbeats, outcomes, requests, hints and queries.

use std::collections::BTreeSet;
use std::time::Duration;

use lamplighter::backend::VisitStore;
use lamplighter::model::{OriginKey, VisitType};
use serde_json::{Value, json};

use super::support::{ANN, BOB, Server, start, url};

async fn claim(server: &Server, token: &str, count: usize) -> Vec<Value> {
    let body = json!({"visit_type": "git", "count": count, "lease_seconds": 600});
    let answer = server.post(token, "/visits/claim", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["visits"].as_array().unwrap().clone()
}

fn outcome(visit: &Value) -> Value {
    json!({"visit": visit["visit"], "token": visit["token"], "status": "successful", "snapshot": visit["url"]})
}

#[tokio::test]
async fn a_visit_goes_out_is_kept_alive_and_comes_back() {
    let server = Server::start(5).await;
    let visits = claim(&server, ANN, 3).await;
    let urls: BTreeSet<&str> = visits.iter().map(|v| v["url"].as_str().unwrap()).collect();
    assert_eq!(urls.len(), 3);
    assert_eq!(claim(&server, BOB, 9).await.len(), 2, "the others are under a lease");

    server.clock.advance(Duration::from_secs(590));
    let beat = format!("/visits/{}/heartbeat", visits[0]["visit"]);
    let alive = server.post(ANN, &beat, &json!({"token": visits[0]["token"], "lease_seconds": 600})).await;
    assert_eq!((alive.status, alive.json()["deadline"].as_str()), (200, Some("2026-03-01T00:19:50Z")));
    server.clock.advance(Duration::from_secs(20));
    let again = claim(&server, BOB, 9).await;
    assert_eq!(again.len(), 4, "all leases have ended but the one that was kept alive");
    let lost = server
        .post(
            ANN,
            &format!("/visits/{}/heartbeat", visits[1]["visit"]),
            &json!({"token": visits[1]["token"]}),
        )
        .await;
    assert_eq!((lost.status, lost.kind().as_str()), (409, "stale"));

    let outcomes: Vec<Value> = visits.iter().map(outcome).collect();
    let done = server.post(ANN, "/visits/complete", &json!({"outcomes": outcomes})).await.json();
    let refused: Vec<(&Value, &Value)> =
        done["refused"].as_array().unwrap().iter().map(|r| (&r["index"], &r["reason"])).collect();
    assert_eq!(refused, [(&json!(1), &json!("stale")), (&json!(2), &json!("stale"))]);
    assert_eq!(done["completed"], 1);
    let twice =
        server.post(ANN, "/visits/complete", &json!({"outcomes": [outcome(&visits[0])]})).await.json();
    assert_eq!((&twice["completed"], &twice["refused"][0]["reason"]), (&json!(0), &json!("duplicate")));
    let key = OriginKey::new(visits[0]["url"].as_str().unwrap(), VisitType::git());
    let stats = server.store.stats(&[key]).await.unwrap().remove(0).unwrap();
    assert_eq!((stats.visits, stats.last_snapshot.as_deref()), (1, visits[0]["url"].as_str()));
}

#[tokio::test]
async fn a_number_may_come_as_a_text_and_no_visit_ends_in_the_future() {
    let server = Server::start(1).await;
    let visit = claim(&server, ANN, 1).await.remove(0);
    let mut outcome = outcome(&visit);
    outcome["visit"] = visit["visit"].to_string().into();
    outcome["at"] = "2036-01-01T00:00:00Z".into();
    let done = server.post(ANN, "/visits/complete", &json!({"outcomes": [outcome]})).await;
    assert_eq!(done.json()["completed"], 1, "{done:?}");
    let key = OriginKey::new(url(0), VisitType::git());
    let stats = server.store.stats(&[key]).await.unwrap().remove(0).unwrap();
    assert_eq!(stats.last_visit, Some(start()));
}

#[tokio::test]
async fn what_is_asked_for_and_what_is_hinted_at_goes_first() {
    let server = Server::start(30).await;
    let requested =
        server.post(ANN, "/requests", &json!({"url": url(17), "visit_type": "git", "by": "eve"})).await;
    assert_eq!((requested.status, &requested.json()["position"]), (200, &json!(0)), "{requested:?}");
    let wanted = claim(&server, ANN, 1).await.remove(0);
    assert_eq!(wanted["url"], url(17));
    let explained = server.get(&format!("/explain?visit_type=git&url={}", url(17))).await.json();
    assert_eq!(explained["lease"]["owner"], "ann");
    assert_eq!(explained["requested_by"], "ann: eve");

    // All are visited; then one is said to have changed.
    let visits = claim(&server, BOB, 100).await;
    let outcomes: Vec<Value> = visits.iter().map(outcome).collect();
    server.post(BOB, "/visits/complete", &json!({"outcomes": outcomes})).await;
    server.post(ANN, "/visits/complete", &json!({"outcomes": [outcome(&wanted)]})).await;
    server.clock.advance(Duration::from_secs(86_400));
    let hinted = server.post(ANN, "/hints", &json!({"url": url(5), "visit_type": "git"})).await.json();
    assert_eq!(hinted, json!({"known": true, "placed": true}));
    assert_eq!(claim(&server, ANN, 1).await[0]["url"], url(5));
    let unknown =
        server.post(ANN, "/hints", &json!({"url": "https://x.example/", "visit_type": "git"})).await.json();
    assert_eq!(unknown, json!({"known": false, "placed": false}));
    let unlisted =
        server.post(ANN, "/requests", &json!({"url": "https://x.example/", "visit_type": "git"})).await;
    assert_eq!((unlisted.status, unlisted.kind().as_str()), (404, "unknown"));
}

#[tokio::test]
async fn origins_and_changes_come_whole_page_by_page() {
    let server = Server::start(25).await;
    let mut urls = BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = server.get(&format!("/origins?limit=10{after}")).await.json();
        for origin in page["origins"].as_array().unwrap() {
            assert!(urls.insert(origin["url"].as_str().unwrap().to_owned()));
        }
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(urls, (0..25).map(url).collect());
    let none = server.get("/origins?visit_type=hg").await.json();
    assert_eq!(none["origins"], json!([]));
    let one = server.get(&format!("/origins?url={}", url(24))).await.json();
    assert_eq!(one["origins"].as_array().unwrap().len(), 1);

    let (mut seen, mut after) = (0, 0);
    loop {
        let page = server.get(&format!("/changes?limit=7&after={after}")).await.json();
        let changes = page["changes"].as_array().unwrap();
        if changes.is_empty() {
            break;
        }
        assert!(changes.iter().all(|c| c["kind"] == "new"));
        seen += changes.len();
        after = page["next"].as_u64().unwrap();
    }
    assert_eq!(seen, 25);
}

#[tokio::test]
async fn it_tells_its_counts_and_whether_it_is_well() {
    let server = Server::start(4).await;
    claim(&server, ANN, 1).await;
    let metrics = server.get("/metrics").await;
    let line = |name: &str, n: u64| {
        format!(
            "lamplighter_origins_{name}{{lister=\"gitea\",instance=\"forge.example\",visit_type=\"git\"}} {n}"
        )
    };
    assert!(
        metrics.body.contains(&line("known", 4)) && metrics.body.contains(&line("leased", 1)),
        "{metrics:?}"
    );
    let well = server.send("GET", "/healthz", &[], "").await;
    assert_eq!((well.status, well.json()), (200, json!({"status": "ok"})));
}
