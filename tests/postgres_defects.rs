//! Defects of the incumbent that come of its database, each shown on a double too that does in SQL what
//! the incumbent did: the double has to fail the scenario, or the scenario shows nothing.
#![cfg(all(feature = "postgres", feature = "testing"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "naive/sql.rs"]
mod naive;
#[path = "support/postgres.rs"]
mod server;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lamplighter::backend::postgres::PostgresStore;
use lamplighter::backend::{
    ChangeToken, Claim, CursorEnd, EndRun, OriginQuery, OriginStore, PageCommit, PageDigest, Refusal,
    RunOutcome, RunPlan, RunStore, Visit, VisitStore,
};
use lamplighter::lister::{Mode, PageBatch, Sighting};
use lamplighter::model::{ListerKey, NewOrigin, Outcome, Timestamp, VisitStatus, VisitType};
use naive::Naive;
use serde_json::json;
use server::Schemas;
use tokio::sync::Barrier;

fn at(hour: i64) -> Timestamp {
    Timestamp::from_seconds(1_780_000_000 + hour * 3600)
}

fn url(n: usize) -> String {
    format!("https://forge.example/r{n}.git")
}

fn git(names: std::ops::Range<usize>) -> Vec<(String, &'static str)> {
    names.map(|n| (url(n), "git")).collect()
}

/// Lists origins as one page of a run that is ended.
async fn list(store: &PostgresStore, instance: &str, origins: &[(String, &str)], hour: i64) {
    let lister = ListerKey::new("forge", instance);
    let begun = store.begin_run(RunPlan::new(lister, Mode::Full, vec![json!(1)]), at(hour)).await.unwrap();
    let lease = Duration::from_secs(60);
    let cursor = store.claim_cursors(begun.ticket, 1, lease, at(hour)).await.unwrap().remove(0);
    let mut batch = PageBatch::default();
    let origin = |(url, kind): &(String, &str)| NewOrigin::new(url, VisitType::new(*kind).unwrap());
    batch.origins = origins.iter().map(|o| Sighting::new(origin(o))).collect();
    let end = CursorEnd::Done(PageDigest::new([1; 16], Some([2; 16])));
    store
        .commit_page(PageCommit::new(begun.ticket, cursor.ticket, batch, Some(end)), at(hour))
        .await
        .unwrap();
    store.end_run(EndRun::new(begun.ticket, RunOutcome::Complete), at(hour)).await.unwrap();
}

async fn claim(store: &PostgresStore, count: usize, hour: i64) -> Vec<Visit> {
    store.claim(&Claim::new(VisitType::git(), count), at(hour)).await.unwrap().visits
}

fn urls(visits: &[Visit]) -> Vec<String> {
    visits.iter().map(|v| v.url.clone()).collect()
}

fn succeeded(visit: &Visit, hour: i64) -> Outcome {
    Outcome::new(visit.visit, visit.token, VisitStatus::Successful, at(hour))
}

/// A store that knows so many origins, and a double that knows the same.
async fn both(schemas: &Schemas, origins: &[(String, &str)]) -> (PostgresStore, Naive, String) {
    let options = schemas.options();
    let name = options.schema.clone();
    let store = schemas.open(options).await;
    list(&store, "a", origins, 0).await;
    let double = Naive::new(schemas.client().await, &name);
    double.create(&name).await;
    double.list(origins, 0).await;
    (store, double, name)
}

/// Waits until so many connections wait for what another one holds.
async fn until_blocked(schemas: &Schemas, by: i32, connections: i64) {
    let client = schemas.client().await;
    let sql = "select count(*) from pg_stat_activity where $1 = any(pg_blocking_pids(pid))";
    while client.query_one(sql, &[&by]).await.unwrap().get::<_, i64>(0) < connections {
        tokio::task::yield_now().await;
    }
}

async fn pid(client: &deadpool_postgres::Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// D9: visits marked in the database and never sent were hidden for a week.
#[tokio::test(flavor = "multi_thread")]
async fn d9_what_was_claimed_and_never_sent_is_back_when_its_lease_ends() {
    let Some(schemas) = Schemas::new("d9") else { return };
    let (store, double, _) = both(&schemas, &git(0..3)).await;
    // Whoever claims crashes with the visits in its hands, an hour before the next one claims.
    let lost = claim(&store, 3, 0).await;
    assert_eq!(urls(&lost).len(), 3);
    assert_eq!(urls(&claim(&store, 3, 1).await), urls(&lost));

    assert_eq!(double.claim(3, 0).await.len(), 3);
    assert!(double.claim(3, 1).await.is_empty(), "the double has hidden them");
    assert_eq!(double.claim(3, 7 * 24).await.len(), 3, "for a week");
    schemas.done().await;
}

/// D10: two runners at once selected the same origins.
#[tokio::test(flavor = "multi_thread")]
async fn d10_two_runners_at_once_get_different_visits() {
    let Some(schemas) = Schemas::new("d10") else { return };
    let (store, double, name) = both(&schemas, &git(0..40)).await;
    let barrier = Barrier::new(2);
    let one = async || {
        barrier.wait().await;
        urls(&claim(&store, 20, 0).await)
    };
    let (first, second) = tokio::join!(one(), one());
    let distinct: BTreeSet<_> = first.iter().chain(&second).collect();
    assert_eq!((first.len(), second.len(), distinct.len()), (20, 20, 40));

    let other = Naive::new(schemas.client().await, &name);
    let (first, second) =
        tokio::join!(double.claim_beside(20, 0, &barrier), other.claim_beside(20, 0, &barrier));
    assert_eq!(first, second, "the double hands each out twice");
    schemas.done().await;
}

/// D14: every listing wrote every row. `LAMPLIGHTER_RELISTED` says how many origins are listed ten times.
#[tokio::test(flavor = "multi_thread")]
async fn d14_a_listing_without_news_writes_no_row() {
    let Some(schemas) = Schemas::new("d14") else { return };
    let count = std::env::var("LAMPLIGHTER_RELISTED").map_or(400, |n| n.parse().unwrap());
    let (store, double, name) = both(&schemas, &git(0..0)).await;
    let client = schemas.client().await;
    let versions = async |table: &str| -> i64 {
        // The server's own sum over all versions of all rows: another one as soon as one is written.
        let sql =
            format!("select coalesce(sum(hashtext(xmin::text || ctid::text)), 0) from \"{name}\".{table}");
        client.query_one(&sql, &[]).await.unwrap().get(0)
    };
    let relist = async |hour| {
        for (page, origins) in git(0..count).chunks(1000).enumerate() {
            list(&store, &page.to_string(), origins, hour).await;
        }
    };
    relist(0).await;
    let before = (versions("origin").await, versions("listing").await);
    assert_ne!(before.0, 0);
    for hour in 1..=10 {
        relist(hour).await;
    }
    assert_eq!((versions("origin").await, versions("listing").await), before);

    double.list(&git(0..100), 0).await;
    let before = versions("naive").await;
    double.list(&git(0..100), 1).await;
    assert_ne!(versions("naive").await, before, "the double writes what it has seen");
    schemas.done().await;
}

/// The page token was a URL: of an origin with two visit types, the second one was lost between pages.
#[tokio::test(flavor = "multi_thread")]
async fn pages_lose_no_origin_that_has_two_visit_types() {
    let Some(schemas) = Schemas::new("paging") else { return };
    let all: Vec<_> = (0..3).flat_map(|n| [(url(n), "git"), (url(n), "git-checkout")]).collect();
    let (store, double, _) = both(&schemas, &all).await;
    let expected: BTreeSet<_> = all.iter().map(|(url, kind)| (url.clone(), (*kind).to_owned())).collect();

    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.origins(&OriginQuery::everything(), after, 3).await.unwrap();
        found.extend(page.origins.into_iter().map(|(_, o)| (o.url, o.visit_type.to_string())));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 6);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);

    let (mut found, mut after) = (BTreeSet::new(), Some(String::new()));
    while let Some(last) = after {
        let (page, next) = double.page(&last, 3).await;
        found.extend(page);
        after = next;
    }
    assert_eq!(found.len(), 5, "the double loses one");
    schemas.done().await;
}

/// The lost schedule: an outcome of an earlier visit was read, changed and written back while somebody
/// claimed the origin, and the claim was forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_comes_late_undoes_no_claim() {
    let Some(schemas) = Schemas::new("late") else { return };
    let (store, double, name) = both(&schemas, &git(0..1)).await;
    // Its lease has ended, and nobody has claimed it since: its outcome would be taken.
    let late = claim(&store, 1, 0).await.remove(0);
    let holder = schemas.client().await;
    let sql = format!("begin; select from \"{name}\".origin for update");
    holder.batch_execute(&sql).await.unwrap();
    let completing = {
        let store = store.clone();
        tokio::spawn(async move { store.complete(&[succeeded(&late, 2)], at(2)).await.unwrap().remove(0) })
    };
    // It has read all that it decides by, and waits with what it wants to write.
    until_blocked(&schemas, pid(&holder).await, 1).await;
    let mine = claim(&store, 1, 2).await.remove(0);
    holder.batch_execute("commit").await.unwrap();
    assert_eq!(completing.await.unwrap(), Err(Refusal::Stale));
    assert!(claim(&store, 1, 2).await.is_empty(), "it is held, and by one");
    store.complete(&[succeeded(&mine, 2)], at(2)).await.unwrap().remove(0).unwrap();

    assert_eq!(double.claim(1, 0).await.len(), 1);
    double.write(double.read(&url(0)).await, 1).await;
    let read = double.read(&url(0)).await;
    assert_eq!(double.claim(1, 2).await.len(), 1);
    double.write(read, 1).await;
    assert_eq!(double.claim(1, 2).await.len(), 1, "the double hands it out again at once");
    schemas.done().await;
}

/// Two transactions that change origins, the one that numbers its changes first held up before it is
/// committed: whoever reads the feed meanwhile misses none. With a sequence, one would.
#[tokio::test(flavor = "multi_thread")]
async fn the_change_feed_is_complete_when_transactions_interleave() {
    let Some(schemas) = Schemas::new("interleaved") else { return };
    let (store, _, name) = both(&schemas, &git(0..1)).await;
    let read = async || store.changes(ChangeToken(0), 100).await.unwrap();
    let before = read().await.len();
    assert_eq!(before, 1);
    let holder = schemas.client().await;
    // Rows may be read, and none added.
    holder.batch_execute(&format!("begin; lock table \"{name}\".change in share mode")).await.unwrap();
    let lists = |instance: &'static str, names| {
        let store = store.clone();
        tokio::spawn(async move { list(&store, instance, &git(names), 1).await })
    };
    let first = lists("b", 10..12);
    until_blocked(&schemas, pid(&holder).await, 1).await;
    let sql = "select pid from pg_stat_activity where $1 = any(pg_blocking_pids(pid))";
    let blocked: i32 = holder.query_one(sql, &[&pid(&holder).await]).await.unwrap().get(0);
    let second = lists("c", 20..22);
    // The second one waits for the first one, which has its numbers.
    until_blocked(&schemas, blocked, 1).await;
    assert_eq!(read().await.len(), before, "nothing is seen before it is committed");
    holder.batch_execute("commit").await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    let all = read().await;
    let told: Vec<(u64, String)> = all.iter().map(|c| (c.token.0, c.instance.clone())).collect();
    let instance = |n: usize| ["a", "b", "b", "c", "c"][n].to_owned();
    assert_eq!(told, (0..5).map(|n| (n as u64 + 1, instance(n))).collect::<Vec<_>>(), "no number is skipped");

    // The double: numbers of a sequence, taken in one order and committed in the other.
    let table = format!("\"{name}\".feed");
    holder.batch_execute(&format!("create table {table} (token bigserial, what text)")).await.unwrap();
    let (slow, quick) = (schemas.client().await, schemas.client().await);
    slow.batch_execute(&format!("begin; insert into {table} (what) values ('slow')")).await.unwrap();
    quick.batch_execute(&format!("insert into {table} (what) values ('quick')")).await.unwrap();
    let after = async |token: i64| -> Vec<(i64, String)> {
        let sql = format!("select token, what from {table} where token > $1 order by token");
        holder.query(&sql, &[&token]).await.unwrap().iter().map(|r| (r.get(0), r.get(1))).collect()
    };
    let seen = after(0).await;
    slow.batch_execute("commit").await.unwrap();
    let seen: Vec<_> = [seen.clone(), after(seen.last().unwrap().0).await].concat();
    assert_eq!(seen, [(2, "quick".to_owned())], "who reads the double along misses the slow one");
    schemas.done().await;
}

/// Sixteen who begin at once, with connections of their own, and none gets what another one has.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_runners_that_begin_at_once_share_the_origins() {
    let Some(schemas) = Schemas::new("sixteen") else { return };
    let (store, _, _) = both(&schemas, &git(0..800)).await;
    let barrier = Arc::new(Barrier::new(16));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (store, barrier) = (store.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                urls(&claim(&store, 50, 0).await)
            })
        })
        .collect();
    let mut got = Vec::new();
    for task in tasks {
        got.extend(task.await.unwrap());
    }
    assert_eq!(got.len(), 800);
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), git(0..800).into_iter().map(|o| o.0).collect());
    schemas.done().await;
}
