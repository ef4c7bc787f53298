//! Pages that are committed together: as if each were alone, and whole whenever the disk ends.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ::redb::{Builder, StorageBackend};
use proptest::prelude::*;

use super::mem::MemKv;
use super::redb::RedbKv;
use super::*;
use crate::backend::{CursorEnd, PageDigest};
use crate::lister::{Follow, FollowKind, Mode, PageBatch, Sighting};
use crate::model::NewOrigin;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_780_000_000 + seconds)
}

fn plan(pages: u64) -> RunPlan {
    let starts = (0..pages).map(|n| serde_json::json!(n)).collect();
    RunPlan::new(ListerKey::new("l", "forge.example"), Mode::Full, starts)
}

fn begin<S: Kv>(engine: &Engine<S>, pages: u64) -> (RunTicket, Vec<PendingCursor>) {
    let begun = engine.begin_run(&plan(pages), at(0)).unwrap();
    let all = usize::try_from(pages).unwrap() * 2;
    (begun.ticket, engine.claim_cursors(begun.ticket, all, Duration::from_secs(60), at(0)).unwrap())
}

fn page(run: RunTicket, cursor: &PendingCursor, origins: std::ops::Range<u64>) -> PageCommit {
    let mut batch = PageBatch::default();
    for n in origins.clone() {
        let origin = NewOrigin::new(format!("https://forge.example/r{n}"), VisitType::git());
        batch.origins.push(Sighting::new(origin.with_forge_id(n)));
    }
    let next = serde_json::json!(origins.end + 1000);
    batch.follows.push(Follow::new(next, FollowKind::Next { part: None }));
    let digest = PageDigest::new([1; 16], Some(u128::from(origins.start).to_be_bytes()));
    PageCommit::new(run, cursor.ticket, batch, Some(CursorEnd::Done(digest)))
}

/// A disk that dies after so many writes, in the middle of the last of them.
#[derive(Debug, Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// None to be made: it lives.
    left: Arc<Mutex<Option<usize>>>,
    syncs: Arc<AtomicUsize>,
}

impl Disk {
    fn open(&self) -> Engine<RedbKv> {
        let database = Builder::new().create_with_backend(self.clone()).unwrap();
        Engine::open(RedbKv::over(database).unwrap(), StoreOptions::default()).unwrap()
    }

    /// What is on it, on a disk that lives.
    fn found(&self) -> Self {
        let bytes = self.bytes.lock().unwrap().clone();
        Self { bytes: Arc::new(Mutex::new(bytes)), ..Self::default() }
    }

    fn dies_after(&self, writes: usize) {
        *self.left.lock().unwrap() = Some(writes);
    }

    fn is_dead(&self) -> bool {
        *self.left.lock().unwrap() == Some(0)
    }

    /// Whether it takes all of what is done now, a part of it, or nothing.
    fn spend(&self) -> io::Result<bool> {
        let mut left = self.left.lock().unwrap();
        match left.as_mut() {
            None => Ok(true),
            Some(0) => Err(io::Error::other("dead")),
            Some(n) => {
                *n -= 1;
                Ok(*n > 0)
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes.lock().unwrap()[from..from + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.spend()?;
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.spend().map(drop)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let whole = self.spend()?;
        let taken = if whole { data } else { &data[..data.len() / 2] };
        let from = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[from..from + taken.len()].copy_from_slice(taken);
        if whole { Ok(()) } else { Err(io::Error::other("dies")) }
    }
}

fn names<S: Kv>(engine: &Engine<S>) -> Vec<String> {
    let page = engine.origins(&OriginQuery::everything(), None, 10_000).unwrap();
    let mut names: Vec<String> = page.origins.into_iter().map(|(_, o)| o.url).collect();
    names.sort();
    names
}

#[test]
fn pages_committed_together_cost_one_commit() {
    let disk = Disk::default();
    let engine = disk.open();
    let (run, cursors) = begin(&engine, 9);
    let mut pages = cursors.iter().zip(0u64..).map(|(c, n)| (page(run, c, n * 10..n * 10 + 10), at(1)));
    let mut syncs_of = |many: usize| {
        let pages: Vec<_> = pages.by_ref().take(many).collect();
        let before = disk.syncs.load(Ordering::Relaxed);
        let answers = engine.commit_pages(pages);
        assert!(answers.iter().all(|a| a.as_ref().unwrap().new == 10) && answers.len() == many);
        disk.syncs.load(Ordering::Relaxed) - before
    };
    let one = syncs_of(1);
    assert_eq!((one > 0, syncs_of(8)), (true, one));
    assert_eq!(names(&engine).len(), 90);
}

#[test]
fn what_is_wrong_with_one_page_is_no_other_s_business() {
    let engine = Disk::default().open();
    let (run, cursors) = begin(&engine, 5);
    let mut pages: Vec<_> =
        cursors.iter().zip(0u64..).map(|(c, n)| (page(run, c, n * 10..n * 10 + 10), at(1))).collect();
    pages[3].0.cursor.token += 1;
    let answers = engine.commit_pages(pages);
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Ok(committed) => assert_eq!((committed.new, committed.unchanged, n == 3), (10, 0, false)),
            Err(e) => assert_eq!((e.kind(), n), (BackendErrorKind::Fenced, 3)),
        }
    }
    assert_eq!(names(&engine).len(), 40);
    let (_, left) = begin(&engine, 5);
    // The refused one, and what followed from the others.
    assert_eq!((left.len(), &left[0].cursor), (5, &serde_json::json!(3)));
}

/// Wherever the disk dies, each page is there whole or not at all, and those acknowledged are there.
#[test]
fn only_whole_pages_are_there_wherever_the_disk_dies() {
    let mut outcomes = [0, 0];
    for writes in 1.. {
        let disk = Disk::default();
        let engine = disk.open();
        let (run, cursors) = begin(&engine, 6);
        let pages: Vec<_> =
            cursors.iter().zip(0u64..).map(|(c, n)| (page(run, c, n * 100..n * 100 + 100), at(1))).collect();
        disk.dies_after(writes);
        let answers = engine.commit_pages(pages);
        let dead = disk.is_dead();
        drop(engine);
        let engine = disk.found().open();
        let there = names(&engine);
        let (_, left) = begin(&engine, 6);
        for (n, answer) in answers.iter().enumerate() {
            let of_page = (n * 100..n * 100 + 100).map(|i| format!("https://forge.example/r{i}"));
            let found = of_page.filter(|url| there.binary_search(url).is_ok()).count();
            assert!(found == 0 || found == 100, "after {writes} writes, {found} of page {n}");
            assert!(found == 100 || answer.is_err(), "after {writes} writes, page {n} was acknowledged");
            let pending = left.iter().any(|c| c.cursor == serde_json::json!(n));
            assert_eq!(pending, found == 0, "after {writes} writes, page {n}");
            outcomes[usize::from(found > 0)] += 1;
        }
        if !dead {
            break;
        }
    }
    assert!(outcomes[0] > 30 && outcomes[1] >= 6, "none and all: {outcomes:?}");
}

fn tables<S: Kv>(engine: &Engine<S>) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for table in 0..keys::TAIL {
        let scan = |t: &dyn KvRead| {
            t.scan(table, &[], None, &mut |key, value| {
                all.push((table, key.to_vec(), value.to_vec()));
                Ok(std::ops::ControlFlow::Continue(()))
            })
        };
        engine.kv.read(scan).unwrap();
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is right or wrong with each, their answers and what is stored are those of one after
    /// the other.
    #[test]
    fn together_is_one_after_the_other(
        commits in prop::collection::vec((0u64..6, 0u64..40, 1u64..30, 0u8..8), 1..14),
        together in 1usize..7,
    ) {
        let file = Disk::default().open();
        let alone = Engine::open(MemKv::default(), StoreOptions::default()).unwrap();
        let (run, cursors) = begin(&file, 6);
        assert_eq!(begin(&alone, 6), (run, cursors.clone()));
        let commits: Vec<(PageCommit, Timestamp)> = commits
            .into_iter()
            .zip(0u64..)
            .map(|((cursor, first, count, how), n)| {
                let mut commit = page(run, &cursors[usize::try_from(cursor).unwrap()], first..first + count);
                match how {
                    0 => commit.cursor.token += 1,
                    1 => commit.run.fence += 1,
                    // One of these builds on another's.
                    2 | 3 => commit.candidate = Some(Candidate::new(n / 4, Some(serde_json::json!({"n": n})))),
                    4 => commit.end = None,
                    _ => {}
                }
                (commit, at(1))
            })
            .collect();
        for group in commits.chunks(together) {
            let answers = file.commit_pages(group.to_vec());
            prop_assert_eq!(answers.len(), group.len());
            for (answer, (commit, now)) in answers.into_iter().zip(group) {
                let expected = alone.commit_page(commit.clone(), *now);
                prop_assert_eq!(answer.map_err(|e| e.to_string()), expected.map_err(|e| e.to_string()));
            }
        }
        prop_assert_eq!(tables(&file), tables(&alone));
    }
}
