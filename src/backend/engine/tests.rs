//! What only the inside can see.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::mem::MemKv;
use super::*;
use crate::backend::{CursorEnd, PageDigest, RunOutcome};
use crate::lister::{Mode, PageBatch, Sighting};
use crate::model::NewOrigin;
use crate::policy::{Facts, Lane, LaneSpec, Placement, Policies, Policy, Reason, Shared};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_780_000_000 + seconds)
}

fn key() -> ListerKey {
    ListerKey::new("l", "forge.example")
}

/// Tables that count what is written into each.
#[derive(Default)]
struct Counting {
    kv: MemKv,
    writes: Mutex<BTreeMap<u8, usize>>,
}

struct CountingTxn<'a> {
    inner: &'a mut dyn KvTxn,
    writes: &'a Mutex<BTreeMap<u8, usize>>,
}

impl KvRead for CountingTxn<'_> {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<std::borrow::Cow<'_, [u8]>>> {
        self.inner.get(table, key)
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut kv::Visitor<'_>) -> Result<()> {
        self.inner.scan(table, from, to, visit)
    }
}

impl KvTxn for CountingTxn<'_> {
    fn put(&mut self, table: u8, key: &[u8], value: &[u8]) -> Result<()> {
        *self.writes.lock().unwrap().entry(table).or_default() += 1;
        self.inner.put(table, key, value)
    }

    fn delete(&mut self, table: u8, key: &[u8]) -> Result<()> {
        *self.writes.lock().unwrap().entry(table).or_default() += 1;
        self.inner.delete(table, key)
    }
}

impl Kv for Counting {
    fn read<R>(&self, f: impl FnOnce(&dyn KvRead) -> Result<R>) -> Result<R> {
        self.kv.read(f)
    }

    fn write<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R> {
        self.kv.write(|t| f(&mut CountingTxn { inner: t, writes: &self.writes }))
    }

    fn rehearse<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R> {
        self.kv.rehearse(f)
    }
}

/// One complete listing of so many origins, by pages of a thousand.
fn list<S: Kv>(engine: &Engine<S>, count: u64, now: Timestamp) {
    let pages = count.div_ceil(1000);
    let starts = (0..pages).map(|n| serde_json::json!(n)).collect();
    let begun = engine.begin_run(&RunPlan::new(key(), Mode::Full, starts), now).unwrap();
    for n in 0..pages {
        let minute = Duration::from_secs(60);
        let cursor = engine.claim_cursors(begun.ticket, 1, minute, now).unwrap().remove(0);
        let mut batch = PageBatch::default();
        for i in n * 1000..count.min((n + 1) * 1000) {
            // 47 characters, as measured on average.
            let url = format!("https://forge.example/organisation/repo-{i:07}");
            let origin = NewOrigin::new(url, VisitType::git()).with_last_update(at(-5)).with_forge_id(i);
            batch.origins.push(Sighting::new(origin));
        }
        let digest = PageDigest::new([1; 16], Some(u128::from(n).to_be_bytes()));
        let commit = PageCommit::new(begun.ticket, cursor.ticket, batch, Some(CursorEnd::Done(digest)));
        engine.commit_page(commit, now).unwrap();
    }
    engine.end_run(EndRun::new(begun.ticket, RunOutcome::Complete), now).unwrap();
}

#[test]
fn d14_an_unchanged_listing_writes_no_row_and_no_place() {
    let engine = Engine::open(Counting::default(), StoreOptions::default()).unwrap();
    let rows = [keys::ORIGIN, keys::ORIGIN_KEY, keys::LISTED, keys::QUEUE, keys::WAIT, keys::CHANGE];
    let written = |engine: &Engine<Counting>| {
        let mut writes = engine.kv.writes.lock().unwrap();
        let of_rows: Vec<usize> = rows.iter().map(|t| writes.get(t).copied().unwrap_or(0)).collect();
        writes.clear();
        of_rows
    };
    list(&engine, 5000, at(0));
    assert_eq!(written(&engine)[..2], [5000, 5000], "the first listing writes them");
    for day in 1..=20 {
        list(&engine, 5000, at(86_400 * day));
        assert_eq!(written(&engine), [0; 6], "day {day}");
    }
}

#[test]
fn counters_are_written_once_a_page_and_every_origin_has_a_number_of_its_own() {
    let engine = Engine::open(Counting::default(), StoreOptions::default()).unwrap();
    list(&engine, 5000, at(0));
    let written = engine.kv.writes.lock().unwrap()[&keys::META];
    // The form, the lister and the run; origins and changes for each of five pages.
    assert_eq!(written, 3 + 5 * 2);
    let numbers = engine.kv.read(|t| kv::keys_of(t, keys::ORIGIN, &[])).unwrap();
    let numbers: Vec<u64> = numbers.iter().map(|key| keys::first_u64(key)).collect();
    assert_eq!(numbers, (1..=5000).collect::<Vec<_>>(), "the next page goes on after the last one");
}

#[test]
fn sets_of_few_runs_are_kept() {
    let engine = Engine::open(Counting::default(), StoreOptions::default()).unwrap();
    for n in 0..60 {
        let mut plan = RunPlan::new(key(), Mode::Incremental, Vec::new());
        plan.parameters.insert("n".to_owned(), n.into());
        let begun = engine.begin_run(&plan, at(n)).unwrap();
        engine.end_run(EndRun::new(begun.ticket, RunOutcome::Complete), at(n)).unwrap();
    }
    let kept = |engine: &Engine<Counting>| {
        engine.kv.read(|t| Ok(kv::keys_of(t, keys::SEEN_RUN, &[])?.len())).unwrap()
    };
    assert!((1..=16).contains(&kept(&engine)), "{}", kept(&engine));
    list(&engine, 3000, at(100));
    assert_eq!(kept(&engine), 1, "nothing before a complete listing of everything");
}

#[test]
fn nothing_is_left_of_a_run_s_frontier() {
    let engine = Engine::open(Counting::default(), StoreOptions::default()).unwrap();
    list(&engine, 3000, at(0));
    for table in
        [keys::CURSOR, keys::CURSOR_ID, keys::PENDING, keys::CANDIDATE, keys::OPEN_RUN, keys::PART_RUN]
    {
        let left = engine.kv.read(|t| Ok(kv::keys_of(t, table, &[])?.len())).unwrap();
        assert_eq!(left, 0, "table {table}");
    }
}

#[test]
fn a_store_of_a_newer_form_is_refused() {
    let kv = MemKv::default();
    kv.write(|t| t.put(keys::META, b"form", &keys::of_u64(FORM + 1))).unwrap();
    let refused = Engine::open(kv, StoreOptions::default()).err().map(|e| e.kind());
    assert_eq!(refused, Some(BackendErrorKind::Newer));
    let kv = MemKv::default();
    kv.write(|t| t.put(keys::META, b"form", &keys::of_u64(FORM))).unwrap();
    assert!(Engine::open(kv, StoreOptions::default()).is_ok());
}

/// Everything at the same place.
#[derive(Debug)]
struct Flat;

impl Policy for Flat {
    fn name(&self) -> &'static str {
        "flat"
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        vec![LaneSpec::new(Lane::policy(3), "flat", 1.0)]
    }

    fn place(&self, _: &Facts, _: &Shared, _: Timestamp) -> Placement {
        Placement::new(Lane::policy(3), 0, Reason::new("flat", "all alike"))
    }
}

#[test]
fn a_replacement_that_was_interrupted_goes_on() {
    let options = StoreOptions::default().with_policies(Policies::all(Flat));
    let engine = Engine::open(MemKv::default(), StoreOptions::default()).unwrap();
    list(&engine, 2500, at(0));
    let engine = Engine::open(engine.kv, options.clone()).unwrap();
    // One batch, and then the process is gone.
    engine
        .kv
        .write(|t| {
            let mut ctx = Ctx::new(t, &engine.options.policies, at(1))?;
            origins::replace(t, &mut ctx, 1000)
        })
        .unwrap();
    let engine = Engine::open(engine.kv, options).unwrap();
    let loads = engine.lanes(&VisitType::git(), at(1)).unwrap();
    let waiting: Vec<_> = loads.iter().map(|l| (l.name.as_str(), l.waiting)).collect();
    assert_eq!(waiting, [("requested", 0), ("flat", 2500)]);
    let entries = engine.kv.read(|t| Ok(kv::keys_of(t, keys::QUEUE, &[])?.len())).unwrap();
    assert_eq!(entries, 2500, "and nobody waits at two places");
}

#[test]
fn an_origin_takes_less_than_400_bytes() {
    let count = 20_000;
    let engine = Engine::new(StoreOptions::default());
    list(&engine, count, at(0));
    let bytes = engine.kv.footprint() as u64 / count;
    assert!((100..=400).contains(&bytes), "{bytes} bytes an origin");
    // Visited, it takes a little more.
    let claim = Claim::new(VisitType::git(), usize::try_from(count).unwrap());
    let outcomes: Vec<_> = engine
        .claim(&claim, at(1))
        .unwrap()
        .visits
        .iter()
        .map(|v| {
            Outcome::new(v.visit, v.token, crate::model::VisitStatus::Successful, at(2))
                .with_snapshot("5f".repeat(20))
        })
        .collect();
    engine.complete(&outcomes, at(2)).unwrap();
    let bytes = engine.kv.footprint() as u64 / count;
    assert!(bytes <= 480, "{bytes} bytes a visited origin with a snapshot of 40 characters");
}

/// As a version before wrote it, when validators were for anonymous requests only.
#[test]
fn an_older_validator_is_one_of_anonymous_requests() {
    let engine = Engine::new(StoreOptions::default());
    engine.lister(&key(), at(0)).unwrap();
    let url = "https://forge.example/all";
    let row = rows::ValidatorRow {
        etag: Some("\"1\"".to_owned()),
        last_modified: None,
        part: "url:all".to_owned(),
    };
    let of = || engine.validator(&key(), url).unwrap().unwrap();
    let number = engine.kv.read(|t| ctx::lister_number(t, &key())).unwrap().unwrap();
    let place = keys::K::new().u32(number).bytes(&crate::model::digest128(url.as_bytes()));
    engine.kv.write(|t| t.put(keys::VALIDATOR, &place, &rows::encode(&row)?)).unwrap();
    assert_eq!((of().etag.as_deref(), of().identity.is_anonymous()), (Some("\"1\""), true));
    // One of this version says whose it is.
    let ours = of().of(crate::transport::Identity::stored("ann"));
    engine.kv.write(|t| runs::store_validator(t, number, url, ours.clone())).unwrap();
    assert_eq!(of(), ours);
}
