//! Measures the store in PostgreSQL on the server that `BENCH_PG` names: one step for each line that is
//! read, one JSON object for each that is printed. `scripts/bench postgres` asks for the steps, in turn
//! with what the incumbent does on the same server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench may fail"
)]

use std::collections::BTreeSet;
use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter::backend::postgres::{PostgresOptions, PostgresStore};
use lamplighter::backend::{
    Claim, CursorEnd, EndRun, MetricsStore, OriginQuery, OriginStore, PageCommit, PageDigest, PageToken,
    RunOutcome, RunPlan, RunStore, StoreOptions, Visit, VisitStore, swh,
};
use lamplighter::lister::{Mode, PageBatch, Sighting};
use lamplighter::model::{ListerKey, NewOrigin, OriginKey, Outcome, Timestamp, VisitStatus, VisitType};
use lamplighter::policy::{Oldest, Policies, named};
use lamplighter::transport::Clock;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

const PAGE: u64 = 1000;
const LEASE: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

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

/// When a bench begins, as far as stores know: the time of the incumbent's data. It goes on as clocks do.
struct FromThen(Instant);

#[async_trait::async_trait]
impl Clock for FromThen {
    fn now(&self) -> Timestamp {
        then().plus(self.0.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

fn then() -> Timestamp {
    Timestamp::parse("2026-06-01T00:00:00Z").unwrap()
}

fn origin(n: u64, start: Timestamp) -> NewOrigin {
    let ago = Duration::from_secs(mix(n, 3) % (3 * 365 * 86_400));
    let dated = (mix(n, 4) % 10 < 7).then(|| start.minus(ago));
    NewOrigin::new(url(n), VisitType::git())
        .with_last_update(dated)
        .with_fork(mix(n, 5).is_multiple_of(3))
        .with_forge_id(n)
}

const WAL: &str = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
const BUFFERS: &str = "select coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint
    from pg_stat_statements where query not like '%pg_stat_statements%'";

struct Bench {
    url: String,
    clock: Arc<FromThen>,
    client: Client,
    /// The schema of what follows, and its policy.
    schema: String,
    policies: Policies,
    store: PostgresStore,
    held: Vec<Vec<Visit>>,
    after: Option<PageToken>,
    runs: u64,
}

fn ms(began: Instant) -> f64 {
    (began.elapsed().as_secs_f64() * 1e5).round() / 1e2
}

impl Bench {
    async fn open(url: &str, schema: &str, policies: Policies) -> PostgresStore {
        // The clock is the bench's own, and yet positions are kept as they are under a real one.
        let store = StoreOptions::default().with_policies(policies).with_clock_bound(Duration::MAX);
        let options = PostgresOptions::default().with_schema(schema).with_store(store);
        PostgresStore::connect(url, options).await.unwrap()
    }

    async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Works on another schema, or by another policy. What is placed by then is placed again, untimed.
    async fn using(&mut self, schema: &str, policy: &str) -> Value {
        schema.clone_into(&mut self.schema);
        self.policies = match policy {
            "oldest" => Policies::all(Oldest),
            "default" => Policies::default(),
            other => Policies::default().with("git", named(other).unwrap()),
        };
        self.store = Self::open(&self.url, schema, self.policies.clone()).await;
        self.held.clear();
        let began = Instant::now();
        self.store.claim(&Claim::new(VisitType::git(), 0), self.now()).await.unwrap();
        let placed = ms(began);
        let sql = format!(
            "delete from {schema}.lease; delete from {schema}.position; vacuum analyze {schema}.origin"
        );
        for statement in sql.split(';') {
            self.client.batch_execute(statement).await.unwrap();
        }
        json!({ "placed_ms": placed })
    }

    /// Lists the origins of some numbers, in pages, as a run of its own. The pages are made beforehand:
    /// what is told is the store's time.
    async fn list(&mut self, from: u64, to: u64) -> Value {
        let pages = (to - from).div_ceil(PAGE);
        let key = ListerKey::new("forge", format!("forge{from}.example"));
        let start = then();
        let mut batches: Vec<PageBatch> = (0..pages)
            .map(|page| {
                let names = from + page * PAGE..(from + (page + 1) * PAGE).min(to);
                let mut batch = PageBatch::default();
                batch.origins = names.map(|n| Sighting::new(origin(n, start))).collect();
                batch
            })
            .collect();
        self.runs += 1;
        let (wal, began) = (self.number(WAL).await, Instant::now());
        let plan = RunPlan::new(key, Mode::Full, (0..pages).map(|n| json!(n)).collect());
        let run = self.store.begin_run(plan, self.now()).await.unwrap().ticket;
        loop {
            let claimed = self.store.claim_cursors(run, 1, HOUR, self.now()).await.unwrap().pop();
            let Some(cursor) = claimed else { break };
            let page = cursor.cursor.as_u64().unwrap();
            let batch = std::mem::take(&mut batches[usize::try_from(page).unwrap()]);
            let digest = page.to_be_bytes().repeat(2).try_into().unwrap();
            let end = CursorEnd::Done(PageDigest::new(digest, Some(digest)));
            let commit = PageCommit::new(run, cursor.ticket, batch, Some(end));
            self.store.commit_page(commit, self.now()).await.unwrap();
        }
        let ended = self.store.end_run(EndRun::new(run, RunOutcome::Complete), self.now()).await.unwrap();
        let took = ms(began);
        let counts = ended.run.counts;
        json!({ "ms": took, "wal": self.number(WAL).await - wal, "new": counts.new, "unchanged": counts.unchanged })
    }

    async fn claim(&self, count: usize, lister: Option<ListerKey>) -> (Vec<Visit>, f64) {
        let mut claim = Claim::new(VisitType::git(), count).with_lease(LEASE);
        claim.lister = lister;
        let (now, began) = (self.now(), Instant::now());
        let visits = self.store.claim(&claim, now).await.unwrap().visits;
        (visits, ms(began))
    }

    /// One claim, and the buffers that it looked at.
    async fn claims(&mut self, count: usize, lister: Option<ListerKey>) -> Value {
        let buffers = self.number(BUFFERS).await;
        let (visits, took) = self.claim(count, lister).await;
        let buffers = self.number(BUFFERS).await - buffers;
        let distinct = visits.iter().map(|v| v.visit.0).collect::<BTreeSet<_>>().len();
        assert_eq!(distinct, visits.len(), "no visit twice in one claim");
        let told = json!({ "ms": took, "got": visits.len(), "buffers": buffers });
        self.held.push(visits);
        told
    }

    /// Claims until so many visits are under way.
    async fn hold(&mut self, count: usize) -> Value {
        let mut held: usize = self.held.iter().map(Vec::len).sum();
        while held < count {
            let visits = self.claim(1000, None).await.0;
            assert!(!visits.is_empty(), "{held} under way, and no more to be had");
            held += visits.len();
            self.held.push(visits);
        }
        json!({ "held": held })
    }

    async fn outcomes(&mut self) -> Value {
        let visits = self.held.pop().expect("a claim before its outcomes");
        let now = self.now();
        let outcome = |v: &Visit| {
            let mut outcome = Outcome::new(v.visit, v.token, VisitStatus::Successful, now);
            outcome.snapshot = Some(format!("{:040x}", v.visit.0));
            outcome
        };
        let outcomes: Vec<_> = visits.iter().map(outcome).collect();
        let began = Instant::now();
        let answers = self.store.complete(&outcomes, now).await.unwrap();
        let took = ms(began);
        assert!(answers.iter().all(Result::is_ok));
        json!({ "ms": took, "rows": visits.len() })
    }

    /// So many who claim at once, each with a connection of its own that has claimed before.
    fn runners(&self, count: usize, rounds: usize) -> Value {
        let together = Arc::new(std::sync::Barrier::new(count + 1));
        let tasks: Vec<_> = (0..count)
            .map(|_| {
                let store = StoreOptions::default()
                    .with_policies(self.policies.clone())
                    .with_clock_bound(Duration::MAX);
                let options = PostgresOptions::default().with_schema(&self.schema).with_connections(1);
                let options = options.with_store(store);
                let (all, clock, url) = (Arc::clone(&together), Arc::clone(&self.clock), self.url.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let store = PostgresStore::connect(&url, options).await.unwrap();
                        let claim = Claim::new(VisitType::git(), 1000).with_lease(LEASE);
                        store.claim(&claim, clock.now()).await.unwrap();
                        all.wait();
                        let mut got = Vec::new();
                        for _ in 0..rounds {
                            let visits = store.claim(&claim, clock.now()).await.unwrap().visits;
                            got.extend(visits.into_iter().map(|v| v.visit.0));
                        }
                        got
                    })
                })
            })
            .collect();
        together.wait();
        let began = Instant::now();
        let got: Vec<u64> = tasks.into_iter().flat_map(|task| task.join().unwrap()).collect();
        let took = ms(began);
        let distinct = got.iter().collect::<BTreeSet<_>>().len();
        assert_eq!(distinct, got.len(), "no visit is handed out twice");
        json!({ "ms": took, "visits": distinct })
    }

    /// Ends all visits under way, as if there had been none.
    async fn free(&mut self) -> Value {
        self.held.clear();
        let schema = &self.schema;
        let sql = format!("delete from {schema}.lease; delete from {schema}.position");
        self.client.batch_execute(&sql).await.unwrap();
        self.client.batch_execute(&format!("vacuum {schema}.lease")).await.unwrap();
        json!({})
    }

    /// The status of so many origins, named by (url, visit type) in a file of lines.
    async fn stats(&self, file: &str) -> Value {
        let text = std::fs::read_to_string(file).unwrap();
        let key = |line: &str| {
            let (url, visit_type) = line.split_once(' ').unwrap();
            OriginKey::new(url, VisitType::new(visit_type).unwrap())
        };
        let keys: Vec<_> = text.lines().map(key).collect();
        let (buffers, began) = (self.number(BUFFERS).await, Instant::now());
        let known = self.store.stats(&keys).await.unwrap();
        let took = ms(began);
        let buffers = self.number(BUFFERS).await - buffers;
        assert!(known.iter().all(Option::is_some));
        json!({ "ms": took, "rows": keys.len(), "buffers": buffers })
    }

    /// The next page of everything; from the beginning where the last one was reached.
    async fn page(&mut self) -> Value {
        let began = Instant::now();
        let page = self.store.origins(&OriginQuery::everything(), self.after.take(), 1000).await.unwrap();
        let took = ms(began);
        self.after = page.next;
        json!({ "ms": took, "rows": page.origins.len(), "last": self.after.is_none() })
    }

    async fn metrics(&self) -> Value {
        let began = Instant::now();
        let metrics = self.store.metrics(self.now()).await.unwrap();
        json!({ "ms": ms(began), "known": metrics.iter().map(|m| m.known).sum::<u64>() })
    }

    async fn size(&self) -> Value {
        let sql = "select c.relname::text, pg_total_relation_size(c.oid)::bigint, pg_relation_size(c.oid)::bigint
             from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind = 'r'";
        let count = format!("select count(*) from {}.origin", self.schema);
        let origins = self.number(&count).await;
        let mut sizes = serde_json::Map::new();
        let mut all = 0;
        for row in self.client.query(sql, &[&self.schema]).await.unwrap() {
            let (name, total, heap): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
            all += total;
            if total > origins {
                sizes.insert(name, json!([heap / origins, (total - heap) / origins]));
            }
        }
        json!({ "origins": origins, "bytes": all as f64 / origins as f64, "heap_and_indexes": sizes })
    }

    /// Rows of a schema of its own, put in by SQL: each waits in the lane of the one that was listed.
    async fn prepare(&mut self, schema: &str, origins: u64) -> Value {
        self.client.batch_execute(&format!("drop schema if exists {schema} cascade")).await.unwrap();
        self.using(schema, "oldest").await;
        self.list(0, 1).await;
        let sql = "select indexname::text, indexdef from pg_indexes
                   where schemaname = $1 and tablename = 'origin' and indexname <> 'origin_pkey'";
        let indexes = self.client.query(sql, &[&schema]).await.unwrap();
        for row in &indexes {
            let name: String = row.get(0);
            self.client.batch_execute(&format!("drop index {schema}.{name}")).await.unwrap();
        }
        // Ranks are anywhere, so that who comes next lies anywhere.
        let fill = format!(
            "insert into {schema}.origin (id, rank, first_seen, lister, slot, visit_type, flags, twin, others, key,
               last_update, folded, listed, last_change, belief_a, belief_b, forge_place, url, forge_id)
             select 10 + n, at, timestamptz 'epoch' + at * interval '1 microsecond', lister, slot, visit_type, flags,
               0, 0, hashint8extended(n, 1), null, folded, listed, null, belief_a, belief_b, n,
               'https://forge.example/' || md5(n::text) || '/' || n, n::text
             from {schema}.origin o, generate_series(1, {origins}) n,
               lateral (select 1700000000000000 + abs(hashint8extended(n, 2)) % 60000000000000 as at) r
             where o.id = 1"
        );
        self.client.batch_execute(&fill).await.unwrap();
        for row in &indexes {
            self.client.batch_execute(&row.get::<_, String>(1)).await.unwrap();
        }
        let after = format!(
            "update {schema}.visit_type set waiting = {origins};
             select setval('{schema}.origin_seq', {origins} + 10);
             vacuum analyze {schema}.origin; checkpoint"
        );
        for statement in after.split(';') {
            self.client.batch_execute(statement).await.unwrap();
        }
        json!({ "origins": origins })
    }

    async fn step(&mut self, line: &str) -> Value {
        let words: Vec<&str> = line.split_whitespace().collect();
        let n = |i: usize| words[i].parse::<u64>().unwrap();
        let small = |i: usize| words[i].parse::<usize>().unwrap();
        match words[0] {
            "use" => self.using(words[1], words[2]).await,
            "list" => self.list(n(1), n(2)).await,
            "size" => self.size().await,
            "import" => {
                let dsn = line.split_once(' ').unwrap().1;
                let began = Instant::now();
                let imported = swh::import(dsn, &self.store, &*self.clock, &mut |_| ()).await.unwrap();
                assert!(imported.missing.is_empty(), "{:?}", imported.missing);
                json!({ "ms": ms(began), "rows": imported.origins })
            }
            "claim" => {
                let lister = words.get(2).map(|name| ListerKey::new(*name, words[3]));
                self.claims(small(1), lister).await
            }
            "hold" => self.hold(small(1)).await,
            "outcomes" => self.outcomes().await,
            "runners" => self.runners(small(1), small(2)),
            "free" => self.free().await,
            "stats" => self.stats(words[1]).await,
            "page" => self.page().await,
            "metrics" => self.metrics().await,
            "prepare" => self.prepare(words[1], n(2)).await,
            other => panic!("no step {other}"),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::var("BENCH_PG").expect("BENCH_PG names a server");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute(
            "drop schema if exists bench cascade; create extension if not exists pg_stat_statements",
        )
        .await
        .unwrap();
    let clock = Arc::new(FromThen(Instant::now()));
    let store = Bench::open(&url, "bench", Policies::default()).await;
    let mut bench = Bench {
        url,
        clock,
        client,
        schema: "bench".to_owned(),
        policies: Policies::default(),
        store,
        held: Vec::new(),
        after: None,
        runs: 0,
    };
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        println!("{}", bench.step(&line).await);
    }
}
