//! The views that people read, the queries that `docs/postgres.md` shows and their plans, and what a status
//! of ten thousand origins takes.
#![cfg(all(feature = "postgres", feature = "testing"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "support/postgres.rs"]
mod server;
#[path = "support/turns.rs"]
mod turns;

use lamplighter::backend::postgres::PostgresStore;
use lamplighter::backend::{ImportedOrigin, OriginStore, VisitStore};
use lamplighter::model::{ListerKey, OriginKey, Timestamp, VisitType};
use server::Schemas;
use turns::Counting;

fn now() -> Timestamp {
    Timestamp::from_seconds(1_780_000_000)
}

fn key(n: usize) -> OriginKey {
    OriginKey::new(format!("https://forge.example/r{n}.git"), VisitType::git())
}

async fn import(store: &PostgresStore, lister: &str, names: std::ops::Range<usize>) {
    let lister = ListerKey::new("forge", lister);
    let origin = |n| ImportedOrigin::new(&lister, key(n).url, VisitType::git());
    store.import(names.map(origin).collect(), now()).await.unwrap();
}

/// A view's columns stay: more may be added.
#[tokio::test(flavor = "multi_thread")]
async fn the_views_have_the_columns_that_people_rely_on() {
    let Some(schemas) = Schemas::new("views") else { return };
    let options = schemas.options();
    let _store = schemas.open(options.clone()).await;
    let client = schemas.client().await;
    let views = [
        (
            "lamplighter_origins",
            "visit lister instance url visit_type first_seen last_seen last_update enabled is_fork archived mirror empty forked_from
             forge_id arguments gone_at gone_reason",
        ),
        (
            "lamplighter_visits",
            "visit url visit_type visits last_visit last_successful last_status last_snapshot failures_in_a_row requested_at
             requested_by hold_until disabled lane rank not_before token owner since until",
        ),
        (
            "lamplighter_runs",
            "run lister instance mode coverage parameters outcome started finished pages requests new changed unchanged gone
             withheld renamed gaps followed skipped error",
        ),
        ("lamplighter_gaps", "lister instance cursor part kind reason since attempts retry_at run"),
    ];
    for (view, expected) in views {
        let sql = "select column_name::text from information_schema.columns
                   where table_schema = $1 and table_name = $2 order by ordinal_position";
        let rows = client.query(sql, &[&options.schema, &view]).await.unwrap();
        let columns: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
        assert_eq!(columns, expected.split_whitespace().collect::<Vec<_>>(), "{view}");
    }
    schemas.done().await;
}

/// The queries of the page, in their order.
fn queries() -> Vec<String> {
    let page = include_str!("../docs/postgres.md");
    let sql =
        page.split("```sql\n").nth(1).expect("the page has queries").split("```").next().unwrap_or_default();
    sql.split(';').map(str::trim).filter(|q| !q.is_empty()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_queries_answer_and_read_nothing_row_by_row() {
    let Some(schemas) = Schemas::new("queries") else { return };
    let options = schemas.options();
    let store = schemas.open(options.clone()).await;
    import(&store, "a", 0..6).await;
    import(&store, "b", 4..8).await;
    let client = schemas.client().await;
    let schema = &options.schema;
    // A fork of what another lister lists, one that changed after its visit, and one that has gone.
    let facts = format!(
        "set search_path = \"{schema}\";
         update origin set forked_from = 'https://forge.example/r7.git', flags = flags | 4 where url like '%r0.git';
         update origin set last_successful = now() - interval '9 days', last_visit = now() - interval '9 days',
           last_update = now() where url like '%r1.git';
         update origin set gone_at = now(), gone_reason = 1 where url like '%r2.git'"
    );
    client.batch_execute(&facts).await.unwrap();
    let queries = queries();
    let answers = async |query: &str| -> Vec<String> {
        let sql = format!("select row_to_json(q)::text from ({query}) q");
        client.query(&sql, &[]).await.unwrap().iter().map(|r| r.get(0)).collect()
    };
    let expected: [&[&str]; 6] = [
        &[r#""host":"forge.example","count":10,"wanted":9"#],
        &[r#""url":"https://forge.example/r0.git","parent_lister":"forge","parent_instance":"b""#],
        // Of the six of the first one, one was visited and one has gone.
        &[r#""instance":"a","visit_type":"git","count":4"#, r#""instance":"b","visit_type":"git","count":4"#],
        &[r#""behind":"a month","count":1"#],
        &[r#""url":"https://forge.example/r2.git","gone_reason":"not_listed""#],
        &[r#"r4.git","visit_type":"git","listers":2"#, r#"r5.git","visit_type":"git","listers":2"#],
    ];
    assert_eq!(queries.len(), expected.len());
    for (query, expected) in queries.iter().zip(expected) {
        let mut found = answers(query).await;
        found.sort();
        assert_eq!(found.len(), expected.len(), "{query}\n{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{query}\n{found} has not {expected}");
        }
    }
    // Plans, over a hundred thousand origins.
    let fill =
        "insert into origin (id, key, rank, first_seen, last_seen, token, visits, lister, slot, failures,
           visit_type, twin, flags, others, url, gone_at)
         select 1000 + n, n * 7919, n, now(), now(), 0, 0, 1, 2, 0, (select min(id) from visit_type), 7, 1, 0,
           'https://forge.example/x' || n, case when n % 1000 = 0 then now() - n * interval '1 minute' end
         from generate_series(1, 100000) n; analyze origin; analyze listing; set jit = off;
         set max_parallel_workers_per_gather = 0";
    client.batch_execute(fill).await.unwrap();
    for (n, query) in queries.iter().enumerate() {
        let rows = client.query(&format!("explain {query}"), &[]).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
        let plan = plan.join("\n");
        if n == 4 {
            assert!(plan.contains("origin_gone") && !plan.contains("Seq Scan on origin"), "{plan}");
            continue;
        }
        // Each view reads the origins once for those who list them first, and joins by hashes or in order.
        let scans = plan.matches("Scan on origin").count() + plan.matches("_pkey on origin").count();
        let named = query.matches("lamplighter_").count();
        assert!(plan.contains("Seq Scan on origin") && scans <= named * 2, "{scans} scans\n{plan}");
        for (at, line) in plan.lines().enumerate().filter(|(_, line)| line.contains("Nested Loop")) {
            let inner = plan.lines().skip(at).take(4).any(|l| l.contains("Index Scan using origin_pkey"));
            assert!(!inner, "row by row: {line}\n{plan}");
        }
    }
    schemas.done().await;
}

/// The status of ten thousand origins: one round trip, and at most eight pages each.
#[tokio::test]
async fn the_status_of_ten_thousand_is_one_round_trip() {
    let Some(schemas) = Schemas::new("status") else { return };
    let options = schemas.options();
    let turns = Counting::default();
    let pool = turns.pool(&schemas.url);
    let store = PostgresStore::open(pool.clone(), options.clone()).await.unwrap();
    for from in (0..10_000).step_by(1000) {
        import(&store, "a", from..from + 1000).await;
    }
    import(&store, "b", 0..100).await;
    let keys: Vec<_> = (0..10_000).map(key).collect();
    // The first time the statements are prepared.
    store.stats(&keys[..1]).await.unwrap();
    let before = turns.count();
    let known = store.stats(&keys).await.unwrap();
    assert_eq!(turns.count() - before, 1);
    assert!(known.iter().all(Option::is_some));
    // The opposite: for one that is not there it is also asked whether it had another URL.
    let before = turns.count();
    assert_eq!(store.stats(&[key(1), key(10_000)]).await.unwrap()[1], None);
    assert!(turns.count() - before > 1);

    let client = pool.get().await.unwrap();
    let sql = "select name, statement from pg_prepared_statements where statement like '%o.twin > 0'";
    let name: String = client.query_one(sql, &[]).await.unwrap().get(0);
    let digests = format!("select array_agg(key)::text from \"{}\".origin", options.schema);
    let digests: String = client.query_one(&digests, &[]).await.unwrap().get(0);
    client.batch_execute("set enable_seqscan = off").await.unwrap();
    let explain = format!("explain (analyze, buffers, format json) execute {name}('{digests}')");
    let plan = client.simple_query(&explain).await.unwrap();
    let text = plan.iter().find_map(|m| match m {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: serde_json::Value = text.unwrap().parse().unwrap();
    let pages = ["Shared Hit Blocks", "Shared Read Blocks"].map(|k| plan[0]["Plan"][k].as_u64().unwrap());
    assert!((10_000..=80_000).contains(&(pages[0] + pages[1])), "{pages:?}");
    drop(client);
    schemas.done().await;
}
