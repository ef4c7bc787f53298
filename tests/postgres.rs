//! What is PostgreSQL's own about the store in it: its schema, its locks, its plans, and what comes of
//! many who work on it at once. `tests/backends.rs` has what all stores do.
#![cfg(all(feature = "postgres", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

#[path = "support/disturbed.rs"]
mod disturbed;
#[path = "support/postgres.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lamplighter::backend::postgres::{Migration, PostgresOptions, PostgresStore};
use lamplighter::backend::{
    BackendErrorKind, ChangeToken, Claim, Committed, CursorEnd, EndRun, ImportedOrigin, MetricsStore,
    OriginQuery, OriginStore, PageCommit, PageDigest, RunOutcome, RunPlan, RunStore, StoreOptions,
    VisitRequest, VisitStore,
};
use lamplighter::lister::{Follow, FollowKind, Mode, PageBatch, Sighting};
use lamplighter::model::{ListerKey, NewOrigin, OriginKey, Outcome, Timestamp, VisitStatus, VisitType};
use serde_json::json;
use server::Schemas;
use tokio::sync::Barrier;

const HOUR: Duration = Duration::from_secs(3600);

fn at(hours: i64) -> Timestamp {
    Timestamp::from_seconds(1_780_000_000 + hours * 3600)
}

fn url(n: usize) -> String {
    format!("https://forge.example/r{n}.git")
}

fn key(n: usize) -> OriginKey {
    OriginKey::new(url(n), VisitType::git())
}

fn lister(instance: &str) -> ListerKey {
    ListerKey::new("forge", instance)
}

fn batch(names: impl IntoIterator<Item = usize>) -> PageBatch {
    let mut batch = PageBatch::default();
    let origin = |n| NewOrigin::new(url(n), VisitType::git()).with_last_update(at(-1));
    batch.origins = names.into_iter().map(|n| Sighting::new(origin(n))).collect();
    batch
}

/// Lists origins as one page of a full run that is ended.
async fn list(store: &PostgresStore, instance: &str, page: PageBatch, now: Timestamp) -> Committed {
    let plan = RunPlan::new(lister(instance), Mode::Full, vec![json!(1)]);
    let begun = store.begin_run(plan, now).await.unwrap();
    let cursor = store.claim_cursors(begun.ticket, 1, HOUR, now).await.unwrap().remove(0);
    let end = CursorEnd::Done(PageDigest::new([1; 16], Some([2; 16])));
    let counts = store.commit_page(PageCommit::new(begun.ticket, cursor.ticket, page, Some(end)), now).await;
    store.end_run(EndRun::new(begun.ticket, RunOutcome::Complete), now).await.unwrap();
    counts.unwrap()
}

async fn import(store: &PostgresStore, names: std::ops::Range<usize>, now: Timestamp) {
    let origin = |n| ImportedOrigin::new(&lister("a"), url(n), VisitType::git());
    store.import(names.map(origin).collect(), now).await.unwrap();
}

async fn urls(store: &PostgresStore) -> Vec<String> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.origins(&OriginQuery::everything(), after, 1000).await.unwrap();
        found.extend(page.origins.into_iter().map(|(_, o)| o.url));
        after = page.next;
        if after.is_none() {
            found.sort_unstable();
            return found;
        }
    }
}

/// The versions of all rows of a table, as the server counts them.
async fn versions(schemas: &Schemas, schema: &str, table: &str) -> Vec<String> {
    let client = schemas.client().await;
    let sql = format!("select xmin::text || ' ' || ctid::text from \"{schema}\".{table} order by 1");
    client.query(&sql, &[]).await.unwrap().iter().map(|r| r.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_who_open_an_empty_database_at_once_all_find_a_schema() {
    let Some(schemas) = Schemas::new("eight") else { return };
    let options = schemas.options();
    let barrier = Arc::new(Barrier::new(8));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (barrier, url, options) = (Arc::clone(&barrier), schemas.url.clone(), options.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                PostgresStore::connect(&url, options.with_connections(1)).await
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().unwrap().listers().await.unwrap().is_empty());
    }
    let again = PostgresStore::migrate(&schemas.url, &options).await.unwrap();
    assert_eq!((again.before, again.now), (1, 1), "and nothing is left to do");
    schemas.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_version_is_refused_and_left_alone() {
    let Some(schemas) = Schemas::new("versions") else { return };
    let options = schemas.options();
    let never = options.clone().with_migration(Migration::Never);
    let missing = PostgresStore::connect(&schemas.url, never.clone()).await.unwrap_err();
    assert_eq!(missing.kind(), BackendErrorKind::Unavailable);
    let made = PostgresStore::migrate(&schemas.url, &options).await.unwrap();
    assert_eq!((made.before, made.now), (0, 1));
    PostgresStore::connect(&schemas.url, never.clone()).await.unwrap();
    let client = schemas.client().await;
    let raised = format!("update \"{}\".version set version = 7", options.schema);
    client.batch_execute(&raised).await.unwrap();
    for migration in [Migration::Never, Migration::Create, Migration::Update] {
        let options = options.clone().with_migration(migration);
        let refused = PostgresStore::connect(&schemas.url, options).await.unwrap_err();
        assert_eq!(refused.kind(), BackendErrorKind::Newer, "{migration:?}");
        assert!(refused.to_string().contains("version 7"), "{refused}");
    }
    schemas.done().await;
}

#[tokio::test]
async fn an_error_repeats_no_password() {
    let url = "postgres://me:hunter2@127.0.0.1:1/nowhere";
    for options in [PostgresOptions::default(), PostgresOptions::default().with_schema("No Schema")] {
        let refused = PostgresStore::connect(url, options).await.unwrap_err();
        assert_eq!(refused.kind(), BackendErrorKind::Unavailable);
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
    }
    let refused = PostgresStore::connect("hunter2", PostgresOptions::default()).await.unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
}

/// Two URLs of which the digests are the same, as an enemy might find some: both are kept, told apart,
/// and found again.
#[tokio::test(flavor = "multi_thread")]
async fn origins_with_the_same_digest_are_all_stored() {
    let Some(schemas) = Schemas::new("twins") else { return };
    let options = schemas.options();
    let store = schemas.open(options.clone()).await;
    import(&store, 0..3, at(0)).await;
    let client = schemas.client().await;
    let table = format!("\"{}\".origin", options.schema);
    // Two that are there get the digest of two that are not yet.
    let digests = |names: &str| format!("select key from {table} where url in ({names}) order by url");
    let of_0: i64 = client.query_one(&digests(&format!("'{}'", url(0))), &[]).await.unwrap().get(0);
    client.execute(&format!("delete from {table} where url = $1"), &[&url(0)]).await.unwrap();
    for n in 1..3 {
        let sql = format!("update {table} set key = $1, twin = $2 where url = $3");
        client.execute(&sql, &[&of_0, &i16::try_from(n - 1).unwrap(), &url(n)]).await.unwrap();
    }
    let counts = list(&store, "b", batch([0]), at(1)).await;
    assert_eq!((counts.new, counts.unchanged), (1, 0));
    let counts = list(&store, "b", batch([0]), at(2)).await;
    assert_eq!((counts.new, counts.unchanged), (0, 1), "it is found again");
    let sql = format!("select url from {table} where key = $1 order by twin");
    let twins: Vec<String> = client.query(&sql, &[&of_0]).await.unwrap().iter().map(|r| r.get(0)).collect();
    assert_eq!(twins, [url(1), url(2), url(0)]);
    let known = store.stats(&[key(0)]).await.unwrap();
    assert!(known[0].is_some());
    schemas.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_without_news_and_a_claim_write_no_origin() {
    let Some(schemas) = Schemas::new("quiet") else { return };
    let options = schemas.options();
    let store = schemas.open(options.clone()).await;
    list(&store, "a", batch(0..500), at(0)).await;
    let before = versions(&schemas, &options.schema, "origin").await;
    assert_eq!(before.len(), 500);
    for hour in 1..4 {
        assert_eq!(list(&store, "a", batch(0..500), at(hour)).await.unchanged, 500);
    }
    let visits = store.claim(&Claim::new(VisitType::git(), 100), at(4)).await.unwrap().visits;
    assert_eq!(visits.len(), 100);
    let held: Vec<_> = visits.iter().map(|v| (v.visit, v.token)).collect();
    store.heartbeat(&held, HOUR, at(4)).await.unwrap();
    assert_eq!(versions(&schemas, &options.schema, "origin").await, before, "not one row was written");
    // The opposite: an outcome does write its origin.
    let done = Outcome::new(visits[0].visit, visits[0].token, VisitStatus::Successful, at(4));
    store.complete(&[done], at(4)).await.unwrap()[0].clone().unwrap();
    let after = versions(&schemas, &options.schema, "origin").await;
    assert_eq!(after.iter().filter(|v| !before.contains(v)).count(), 1);
    schemas.done().await;
}

/// Ten listings without news, as the server counts what they write; and what an upsert would.
#[tokio::test(flavor = "multi_thread")]
async fn ten_listings_without_news_write_no_origin_by_the_servers_own_count() {
    const ORIGINS: usize = 300;
    let Some(schemas) = Schemas::new("counted") else { return };
    let options = schemas.options();
    let named = |name: &str| {
        let and = if schemas.url.contains('?') { '&' } else { '?' };
        format!("{}{and}application_name={name}", schemas.url)
    };
    let client = schemas.client().await;
    // A connection that has ended has counted all that it did.
    let written = async |name: &str, table: &str| -> i64 {
        let open = "select count(*) from pg_stat_activity where application_name = $1";
        while client.query_one(open, &[&name]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::task::yield_now().await;
        }
        let sql = "select n_tup_ins + n_tup_upd + n_tup_del from pg_stat_user_tables
                   where schemaname = $1 and relname = $2";
        client.query_one(sql, &[&options.schema, &table]).await.unwrap().get(0)
    };
    let (first, then, upsert) =
        (format!("{}_a", options.schema), format!("{}_b", options.schema), format!("{}_c", options.schema));
    let store = PostgresStore::connect(&named(&first), options.clone()).await.unwrap();
    list(&store, "a", batch(0..ORIGINS), at(0)).await;
    drop(store);
    let before = written(&first, "origin").await;
    assert_eq!(before, i64::try_from(ORIGINS).unwrap());
    let store = PostgresStore::connect(&named(&then), options.clone()).await.unwrap();
    for hour in 1..=10 {
        assert_eq!(list(&store, "a", batch(0..ORIGINS), at(hour)).await.unchanged, ORIGINS as u64);
    }
    drop(store);
    assert_eq!(written(&then, "origin").await, before);
    // The incumbent's way, for comparison: every listing writes every row.
    let config: tokio_postgres::Config = named(&upsert).parse().unwrap();
    let (naive, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let table = format!("\"{}\".naive", options.schema);
    naive
        .batch_execute(&format!("create table {table} (url text primary key, last_seen int)"))
        .await
        .unwrap();
    for hour in 0..=10 {
        let sql = format!(
            "insert into {table} select 'u' || n, $1 from generate_series(1, {ORIGINS}) n
             on conflict (url) do update set last_seen = excluded.last_seen"
        );
        naive.execute(&sql, &[&hour]).await.unwrap();
    }
    drop(naive);
    connection.await.unwrap().unwrap();
    assert_eq!(written(&upsert, "naive").await, 11 * before);
    schemas.done().await;
}

/// Each of several listers lists the same origins, all at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn listers_that_find_the_same_origins_at_once_make_one_of_each() {
    let Some(schemas) = Schemas::new("same") else { return };
    let store = schemas.fresh().await;
    let barrier = Arc::new(Barrier::new(4));
    let tasks: Vec<_> = (0..4)
        .map(|n: usize| {
            let (store, barrier) = (store.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                // In another order each, so that they meet in the middle.
                let names = (0..200).map(|i| (i * 7 + n * 50) % 200);
                list(&store, &n.to_string(), batch(names), at(0)).await
            })
        })
        .collect();
    for task in tasks {
        let counts = task.await.unwrap();
        assert_eq!((counts.new, counts.changed, counts.unchanged), (200, 0, 0), "new to each lister");
    }
    let listed = urls(&store).await;
    assert_eq!(listed.len(), 800, "each is listed by four");
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), 200);
    let visits = store.claim(&Claim::new(VisitType::git(), 1000), at(1)).await.unwrap().visits;
    assert_eq!(visits.len(), 200, "and visited once");
    schemas.done().await;
}

/// Several drivers work on one run, page by page.
#[tokio::test(flavor = "multi_thread")]
async fn drivers_share_a_run_and_no_page_is_read_twice() {
    let Some(schemas) = Schemas::new("shared_run") else { return };
    let store = schemas.fresh().await;
    let starts: Vec<_> = (0..60).map(|n| json!(n)).collect();
    let plan = RunPlan::new(lister("a"), Mode::Full, starts);
    let ticket = store.begin_run(plan, at(0)).await.unwrap().ticket;
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                loop {
                    let Some(cursor) = store.claim_cursors(ticket, 1, HOUR, at(0)).await.unwrap().pop()
                    else {
                        return read;
                    };
                    let n = usize::try_from(cursor.cursor.as_u64().unwrap()).unwrap();
                    read.push(n);
                    let mut page = batch(n * 10..n * 10 + 10);
                    if n < 10 {
                        page.follows.push(Follow::new(json!(100 + n), FollowKind::Follow));
                    }
                    let end = CursorEnd::Done(PageDigest::new([0; 16], Some([u8::try_from(n).unwrap(); 16])));
                    let commit = PageCommit::new(ticket, cursor.ticket, page, Some(end));
                    store.commit_page(commit, at(0)).await.unwrap();
                }
            })
        })
        .collect();
    let mut read = Vec::new();
    for task in tasks {
        read.extend(task.await.unwrap());
    }
    // Whoever found nothing pending may have gone before a page was followed: the rest is here.
    for cursor in store.claim_cursors(ticket, 100, HOUR, at(0)).await.unwrap() {
        read.push(usize::try_from(cursor.cursor.as_u64().unwrap()).unwrap());
    }
    read.sort_unstable();
    assert_eq!(read, (0..60).chain(100..110).collect::<Vec<_>>());
    schemas.done().await;
}

/// Runners with connections of their own, that die and leave leases behind: no visit is held by two at
/// a time, none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn no_visit_is_held_by_two_runners_and_none_is_lost() {
    const ORIGINS: usize = 1500;
    let Some(schemas) = Schemas::new("runners") else { return };
    let options = schemas.options();
    import(&schemas.open(options.clone()).await, 0..ORIGINS, at(0)).await;
    let barrier = Arc::new(Barrier::new(8));
    let tasks: Vec<_> = (0..8)
        .map(|n: usize| {
            let (barrier, url) = (Arc::clone(&barrier), schemas.url.clone());
            let bound = StoreOptions::default().with_clock_bound(Duration::MAX);
            let options = options.clone().with_connections(1).with_store(bound);
            tokio::spawn(async move {
                let store = PostgresStore::connect(&url, options).await.unwrap();
                barrier.wait().await;
                // (visit, token, from, until): until its outcome, or the end of its lease.
                let mut held = Vec::new();
                for round in 0.. {
                    let claim = Claim::new(VisitType::git(), 40).with_owner(n.to_string());
                    let visits = store.claim(&claim, at(0)).await.unwrap().visits;
                    if visits.is_empty() {
                        break;
                    }
                    // Every fifth time whoever claimed dies with the visits in its hands.
                    let dies = (n + round).is_multiple_of(5);
                    let until = if dies { at(1) } else { at(0) };
                    held.extend(visits.iter().map(|v| (v.url.clone(), v.token, until)));
                    if !dies {
                        let outcome = |v: &lamplighter::backend::Visit| {
                            Outcome::new(v.visit, v.token, VisitStatus::Successful, at(0))
                        };
                        let outcomes: Vec<_> = visits.iter().map(outcome).collect();
                        for answer in store.complete(&outcomes, at(0)).await.unwrap() {
                            answer.unwrap();
                        }
                    }
                }
                held
            })
        })
        .collect();
    let mut held: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for task in tasks {
        for (url, token, until) in task.await.unwrap() {
            held.entry(url).or_default().push((token, until));
        }
    }
    assert_eq!(held.len(), ORIGINS, "each was handed out");
    assert!(held.values().all(|h| h.len() == 1), "and to one");
    let died: BTreeSet<_> =
        held.iter().filter(|(_, h)| h[0].1 == at(1)).map(|(url, _)| url.clone()).collect();
    assert!(!died.is_empty());
    let store = schemas.open(options.clone()).await;
    assert!(store.claim(&Claim::new(VisitType::git(), 10), at(0)).await.unwrap().visits.is_empty());
    let back = store.claim(&Claim::new(VisitType::git(), ORIGINS), at(1)).await.unwrap().visits;
    assert_eq!(
        back.iter().map(|v| v.url.clone()).collect::<BTreeSet<_>>(),
        died,
        "back when their leases ended"
    );
    let stale: Vec<_> = back
        .iter()
        .map(|v| Outcome::new(v.visit, held[&v.url][0].0, VisitStatus::Successful, at(1)))
        .collect();
    assert!(store.complete(&stale, at(1)).await.unwrap().iter().all(Result::is_err));
    schemas.done().await;
}

/// A reader that keeps reading while many write sees every change, each once, in one order.
#[tokio::test(flavor = "multi_thread")]
async fn the_change_feed_is_complete_for_whoever_reads_along() {
    let Some(schemas) = Schemas::new("feed") else { return };
    let store = schemas.fresh().await;
    let writers: Vec<_> = (0..4)
        .map(|n: usize| {
            let store = store.clone();
            tokio::spawn(async move {
                for page in 0..15 {
                    list(&store, &n.to_string(), batch([(n + 1) * 1000 + page, page]), at(0)).await;
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    let mut after = ChangeToken(0);
    loop {
        let over = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let page = store.changes(after, 7).await.unwrap();
        if page.is_empty() && over {
            break;
        }
        after = page.last().map_or(after, |c| c.token);
        seen.extend(page);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(seen.is_sorted_by(|a, b| a.token < b.token));
    assert_eq!(seen, store.changes(ChangeToken(0), 10_000).await.unwrap(), "nothing came in late");
    // Each lister told of its own fifteen and of the fifteen that all have.
    assert_eq!(seen.len(), 4 * 15 * 2);
    schemas.done().await;
}

/// Connections are cut again and again while pages are committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_loses_no_page_and_doubles_none() {
    let Some(schemas) = Schemas::new("cut") else { return };
    let options = schemas.options();
    let url_of_ours = format!("{}?application_name={}", schemas.url, options.schema);
    let store = PostgresStore::connect(&url_of_ours, options.clone().with_connections(2)).await.unwrap();
    let (name, client) = (options.schema.clone(), schemas.client().await);
    let cutter = tokio::spawn(async move {
        let mut cut = 0;
        loop {
            let sql = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1";
            cut += client.query(sql, &[&name]).await.unwrap().len();
            tokio::time::sleep(Duration::from_millis(25)).await;
            if cut >= 60 {
                return cut;
            }
        }
    });
    disturbed::lists_all_the_same(&store).await;
    cutter.abort();
    schemas.done().await;
}

/// Every statement that a store has prepared, explained without knowing its parameters, over tables of
/// which the statistics are old.
#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_whole_table() {
    let Some(schemas) = Schemas::new("plans") else { return };
    let options = schemas.options();
    let config: tokio_postgres::Config = schemas.url.parse().unwrap();
    let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
    let pool = lamplighter::backend::postgres::Pool::builder(manager).max_size(1).build().unwrap();
    let bound = StoreOptions::default().with_clock_bound(Duration::MAX);
    let store = PostgresStore::open(pool.clone(), options.clone().with_store(bound)).await.unwrap();
    exercise(&store).await;
    let client = pool.get().await.unwrap();
    let schema = &options.schema;
    let fill = format!(
        "insert into \"{schema}\".origin (id, key, rank, first_seen, last_seen, token, visits, lister, slot, failures,
           visit_type, twin, flags, others, url)
         select 1000 + n, n * 7919, n, now(), now(), 0, 0, 1, 2, 0, 0, 7, 1, 0, 'https://forge.example/x' || n
         from generate_series(1, 100000) n;
         insert into \"{schema}\".entry select 26, int4send(n), '' from generate_series(1, 100000) n"
    );
    client.batch_execute(&fill).await.unwrap();
    let statements = |rows: Vec<tokio_postgres::Row>| -> Vec<(String, String, usize)> {
        rows.iter().map(|r| (r.get(0), r.get(1), usize::try_from(r.get::<_, i32>(2)).unwrap())).collect()
    };
    let sql = "select name, statement, cardinality(parameter_types) from pg_prepared_statements";
    let prepared = statements(client.query(sql, &[]).await.unwrap());
    client
        .batch_execute(
            "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_hashjoin = off;
             set enable_mergejoin = off; set jit = off",
        )
        .await
        .unwrap();
    let mut looked = BTreeSet::new();
    for analyzed in [false, true] {
        if analyzed {
            client.batch_execute(&format!("analyze \"{schema}\".origin, \"{schema}\".entry")).await.unwrap();
        }
        for (name, statement, params) in &prepared {
            let ours = statement.contains(schema.as_str()) && !statement.to_lowercase().starts_with("copy");
            let counts_all =
                ["with first as", "group by 1", "row_number()"].iter().any(|s| statement.contains(s));
            if !ours || counts_all {
                continue;
            }
            let nulls = vec!["null"; *params].join(", ");
            let call = if *params == 0 { String::new() } else { format!("({nulls})") };
            let rows = client.query(&format!("explain execute {name}{call}"), &[]).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
            let plan = plan.join("\n");
            for table in ["origin", "entry", "listing", "lease", "change", "seen_log"] {
                let whole = format!("Seq Scan on {table} ");
                assert!(!plan.contains(&whole), "{statement}\n{plan}");
                if plan.contains(&format!(" on {table} ")) {
                    looked.insert(table);
                }
            }
            if statement.contains("order by o.slot, o.rank, o.id limit") {
                // Each lane in the order of its index; what is sorted is what both have given, never more
                // than is wanted.
                for index in ["origin_place", "origin_also"] {
                    assert!(
                        plan.contains(&format!("Index Only Scan using {index} on"))
                            || plan.contains(&format!("Index Scan using {index} on")),
                        "{statement}\n{plan}"
                    );
                }
                assert!(plan.matches("Sort Key").count() <= 1, "{statement}\n{plan}");
                looked.insert("queue");
            }
        }
    }
    let all = BTreeSet::from(["origin", "entry", "listing", "lease", "change", "seen_log", "queue"]);
    assert_eq!(looked, all, "every table was in a plan");
    drop(client);
    schemas.done().await;
}

/// Does one of everything.
async fn exercise(store: &PostgresStore) {
    for instance in ["a", "b"] {
        list(store, instance, batch(0..20), at(0)).await;
    }
    list(store, "a", batch(0..10), at(1)).await;
    let visits = store.claim(&Claim::new(VisitType::git(), 3), at(2)).await.unwrap().visits;
    let mut of_one = Claim::new(VisitType::git(), 3);
    of_one.lister = Some(lister("b"));
    store.claim(&of_one, at(2)).await.unwrap();
    store.peek(&Claim::new(VisitType::git(), 3), at(2)).await.unwrap();
    store.heartbeat(&[(visits[0].visit, visits[0].token)], HOUR, at(2)).await.unwrap();
    let outcomes: Vec<_> =
        visits.iter().map(|v| Outcome::new(v.visit, v.token, VisitStatus::Failed, at(2))).collect();
    store.complete(&outcomes, at(2)).await.unwrap();
    store.request(&[VisitRequest::new(key(4), "me")], at(2)).await.unwrap();
    store.set_disabled(&[key(5)], Some("no"), at(2)).await.unwrap();
    store.stats(&[key(1), key(99)]).await.unwrap();
    store.explain(&key(1), at(2)).await.unwrap();
    store.metrics(at(2)).await.unwrap();
    store.lanes(&VisitType::git(), at(2)).await.unwrap();
    store.changes(ChangeToken(0), 10).await.unwrap();
    urls(store).await;
}

/// With a real clock, a claim begins where the one before it ended, and yet nothing waits for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_goes_on_from_its_position_and_goes_back_when_a_lease_ends() {
    let Some(schemas) = Schemas::new("position") else { return };
    let bound = StoreOptions::default().with_clock_bound(Duration::MAX);
    let options = schemas.options().with_store(bound);
    let store = schemas.open(options.clone()).await;
    import(&store, 0..30, at(0)).await;
    let take = async |now| -> Vec<String> {
        let claimed = store.claim(&Claim::new(VisitType::git(), 10), now).await.unwrap();
        claimed.visits.into_iter().map(|v| v.url).collect()
    };
    let ten = |from: usize| (from..from + 10).map(url).collect::<Vec<_>>();
    assert_eq!(take(at(1)).await, ten(0));
    assert_eq!(take(at(1)).await, ten(10));
    let client = schemas.client().await;
    let sql =
        format!("select o.url from \"{0}\".position p join \"{0}\".origin o on o.id = p.id", options.schema);
    let position: String = client.query_one(&sql, &[]).await.unwrap().get(0);
    assert_eq!(position, url(19));
    // Their leases have ended: they are before all others again.
    assert_eq!(take(at(2)).await, ten(0));
    schemas.done().await;
}
