//! Measures the store in PostgreSQL on the server that `BENCH_PG` names, with `BENCH_ORIGINS` origins, and
//! prints what it measured as one JSON object. `scripts/bench postgres` sets it beside the incumbent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench may fail"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lamplighter::backend::postgres::{PostgresOptions, PostgresStore};
use lamplighter::backend::{
    Claim, CursorEnd, EndRun, MetricsStore, OriginQuery, OriginStore, PageCommit, PageDigest, RunOutcome,
    RunPlan, RunStore, StoreOptions, Visit, VisitStore,
};
use lamplighter::lister::{Mode, PageBatch, Sighting};
use lamplighter::model::{ListerKey, NewOrigin, OriginKey, Outcome, Timestamp, VisitStatus, VisitType};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

const PAGE: u64 = 1000;
const LEASE: Duration = Duration::from_secs(6 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::EPOCH.plus(since)
}

/// `SplitMix64`: of each origin something else, every time the same.
fn mix(n: u64, salt: u64) -> u64 {
    let mut z = n.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn url(n: u64) -> String {
    format!("https://forge{}.example/{:08x}/{:010x}-{n:x}", n % 4, mix(n, 1) >> 32, mix(n, 2) >> 24)
}

fn origin(n: u64, start: Timestamp) -> NewOrigin {
    let ago = Duration::from_secs(mix(n, 3) % (3 * 365 * 86_400));
    let dated = (mix(n, 4) % 10 < 7).then(|| start.minus(ago));
    NewOrigin::new(url(n), VisitType::git())
        .with_last_update(dated)
        .with_fork(mix(n, 5).is_multiple_of(3))
        .with_forge_id(n)
}

async fn list(store: &PostgresStore, origins: u64, start: Timestamp) {
    for lister in 0..4 {
        let share = origins / 4;
        let pages = share.div_ceil(PAGE);
        let key = ListerKey::new("forge", format!("forge{lister}.example"));
        let plan = RunPlan::new(key, Mode::Full, (0..pages).map(|n| json!(n)).collect());
        let begun = store.begin_run(plan, now()).await.unwrap();
        loop {
            let Some(cursor) = store.claim_cursors(begun.ticket, 1, HOUR, now()).await.unwrap().pop() else {
                break;
            };
            let page = cursor.cursor.as_u64().unwrap();
            let mut batch = PageBatch::default();
            let names = page * PAGE..((page + 1) * PAGE).min(share);
            batch.origins = names.map(|n| Sighting::new(origin(n * 4 + lister, start))).collect();
            let digest = page.to_be_bytes().repeat(2).try_into().unwrap();
            let end = CursorEnd::Done(PageDigest::new(digest, Some(digest)));
            store
                .commit_page(PageCommit::new(begun.ticket, cursor.ticket, batch, Some(end)), now())
                .await
                .unwrap();
        }
        store.end_run(EndRun::new(begun.ticket, RunOutcome::Complete), now()).await.unwrap();
    }
}

async fn claim(store: &PostgresStore) -> (Vec<Visit>, f64) {
    let began = Instant::now();
    let claim = Claim::new(VisitType::git(), 1000).with_lease(LEASE);
    let visits = store.claim(&claim, now()).await.unwrap().visits;
    (visits, began.elapsed().as_secs_f64() * 1e3)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

const WAL: &str = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
const BYTES: &str = "select sum(pg_total_relation_size(c.oid))::bigint from pg_class c
    join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'lamplighter' and c.relkind = 'r'";

async fn outcomes(store: &PostgresStore, visits: &[Visit]) {
    let outcomes: Vec<_> = visits
        .iter()
        .map(|v| {
            let mut outcome = Outcome::new(v.visit, v.token, VisitStatus::Successful, now());
            outcome.snapshot = Some(format!("{:040x}", v.visit.0));
            outcome
        })
        .collect();
    for answer in store.complete(&outcomes, now()).await.unwrap() {
        answer.unwrap();
    }
}

async fn runners(url: &str, options: &PostgresOptions, count: usize, rounds: usize) -> f64 {
    let mut stores = Vec::new();
    for _ in 0..count {
        stores.push(PostgresStore::connect(url, options.clone().with_connections(1)).await.unwrap());
    }
    let began = Instant::now();
    let tasks: Vec<_> = stores
        .into_iter()
        .map(|store| {
            tokio::spawn(async move {
                let mut got = Vec::new();
                for _ in 0..rounds {
                    got.extend(claim(&store).await.0.into_iter().map(|v| v.visit.0));
                }
                got
            })
        })
        .collect();
    let mut got = Vec::new();
    for task in tasks {
        got.extend(task.await.unwrap());
    }
    let distinct = got.iter().collect::<BTreeSet<_>>().len();
    assert_eq!(distinct, got.len(), "no visit is handed out twice");
    distinct as f64 / began.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let url_of = std::env::var("BENCH_PG").expect("BENCH_PG names a server");
    let origins: u64 = std::env::var("BENCH_ORIGINS").map_or(200_000, |n| n.parse().unwrap());
    let (client, connection) = tokio_postgres::connect(&url_of, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("drop schema if exists lamplighter cascade").await.unwrap();
    let bound = StoreOptions::default().with_clock_bound(Duration::from_secs(5));
    let options = PostgresOptions::default().with_store(bound);
    let store = PostgresStore::connect(&url_of, options.clone()).await.unwrap();
    let start = now();
    let mut found = serde_json::Map::new();
    let mut tell =
        |name: &str, value: f64| found.insert(name.to_owned(), json!((value * 10.0).round() / 10.0));

    let began = Instant::now();
    list(&store, origins, start).await;
    tell("record_fresh_rows_s", origins as f64 / began.elapsed().as_secs_f64());
    tell("bytes_an_origin", number(&client, BYTES).await as f64 / origins as f64);
    let (wal, began) = (number(&client, WAL).await, Instant::now());
    list(&store, origins, start).await;
    tell("record_again_rows_s", origins as f64 / began.elapsed().as_secs_f64());
    tell("record_again_wal_bytes_a_row", (number(&client, WAL).await - wal) as f64 / origins as f64);

    // A first claim makes the policy look around: not timed.
    let mut held = vec![claim(&store).await.0];
    let mut took = Vec::new();
    for _ in 0..20 {
        let (visits, ms) = claim(&store).await;
        assert_eq!(visits.len(), 1000);
        took.push(ms);
        held.push(visits);
    }
    tell("claim_1000_ms", median(took));
    let began = Instant::now();
    for visits in &held {
        outcomes(&store, visits).await;
    }
    tell("outcomes_rows_s", (held.len() * 1000) as f64 / began.elapsed().as_secs_f64());
    // A third of all under way, and then again.
    while (held.len() as u64) * 1000 < origins * 3 / 10 {
        held.push(claim(&store).await.0);
    }
    let mut took = Vec::new();
    for _ in 0..10 {
        took.push(claim(&store).await.1);
    }
    tell("claim_1000_with_a_third_under_way_ms", median(took));
    tell("one_runner_visits_s", runners(&url_of, &options, 1, 8).await);
    tell("eight_runners_visits_s", runners(&url_of, &options, 8, 2).await);

    let keys: Vec<_> =
        (0..10_000).map(|n| OriginKey::new(url(mix(n, 7) % (origins / 4 * 4)), VisitType::git())).collect();
    let began = Instant::now();
    let known = store.stats(&keys).await.unwrap();
    tell("stats_of_10000_ms", began.elapsed().as_secs_f64() * 1e3);
    assert!(known.iter().all(Option::is_some));
    let (began, mut paged, mut after) = (Instant::now(), 0, None);
    loop {
        let page = store.origins(&OriginQuery::everything(), after, 1000).await.unwrap();
        paged += page.origins.len() as u64;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    tell("paging_rows_s", paged as f64 / began.elapsed().as_secs_f64());
    assert_eq!(paged, origins / 4 * 4);
    let began = Instant::now();
    store.metrics(now()).await.unwrap();
    tell("metrics_s", began.elapsed().as_secs_f64());
    println!("{}", Value::Object(found));
}
