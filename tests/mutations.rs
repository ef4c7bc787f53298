//! Bodies of fixtures cut, spliced, flipped, repeated and nested at random: no lister panics, and none
//! takes long or much for it.
//!
//! `SEED` gives the bodies of an earlier run again. `LAMPLIGHTER_MUTATIONS` says how many are made of
//! each fixture; without it 5,000 are, and 100 where nothing is optimised (but overflows are checked).
#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail, and says what it did"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lamplighter::lister::{Entry, Registry};
use lamplighter::testing::mutate::{HEADS, Mutator, Reached, Specimen, read_head, specimens};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Of each fixture, where nothing else is said.
const INPUTS: usize = if cfg!(debug_assertions) { 100 } else { 5_000 };

/// The processor's time that one input may take.
const NANOSECONDS: u64 = 1_000_000_000;

/// The memory that one input may take.
const BYTES: usize = 100_000_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn seed() -> u64 {
    number("SEED").unwrap_or(20_260_101)
}

/// What the processor has given to this thread, where the system tells.
fn spent() -> Option<u64> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split(' ').next()?.parse().ok()
}

fn each() -> usize {
    number("LAMPLIGHTER_MUTATIONS").map_or(INPUTS, |n| usize::try_from(n).unwrap())
}

#[derive(Default)]
struct Tally {
    fixtures: usize,
    inputs: usize,
    reached: usize,
    slowest: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.fixtures += other.fixtures;
        self.inputs += other.inputs;
        self.reached += other.reached;
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Reads an input, and holds it to its bounds.
fn read(tally: &mut Tally, name: &str, memory: usize, read: impl FnOnce() -> Reached) {
    let before = spent();
    let reached = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| panic!("{name} panics"));
    tally.inputs += 1;
    tally.reached += usize::from(reached != Reached::Nothing);
    if let (Some(before), Some(after)) = (before, spent()) {
        let took = after - before;
        tally.slowest = tally.slowest.max(took);
        assert!(took < NANOSECONDS, "{name} takes {took} ns");
    }
    // With all that the process holds besides, and what is read beside it: an input took no more.
    let peak = MEMORY.peak_usage();
    assert!(peak < memory + BYTES, "{name}: {memory} bytes became {peak}");
}

fn fixtures(entry: &Entry) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(entry.name);
    let mut folders: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    folders
}

fn specimens_of(folder: &Path) -> Vec<Specimen> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(specimens(&Registry::builtin(), folder)).unwrap()
}

fn try_lister(entry: &Entry, memory: usize) -> Tally {
    // A fixture of refusals has no page to bend.
    let all: Vec<(PathBuf, Vec<Specimen>)> = fixtures(entry)
        .into_iter()
        .map(|folder| (folder.clone(), specimens_of(&folder)))
        .filter(|(_, pages)| !pages.is_empty())
        .collect();
    let bodies: Vec<Vec<u8>> = all.iter().flat_map(|(_, pages)| pages).map(Specimen::body).collect();
    let mut tally = Tally { fixtures: all.len(), ..Tally::default() };
    for (folder, pages) in &all {
        let name = folder.file_name().unwrap().to_string_lossy();
        for n in 0..each() {
            // Each input by itself can be made again.
            let mut mutator =
                Mutator::new(seed() ^ ((n as u64) << 20) ^ hash(&format!("{}/{name}", entry.name)));
            let page = pages.get(mutator.below(pages.len())).unwrap();
            let other = bodies.get(mutator.below(bodies.len())).unwrap();
            let bent = mutator.mutate(&page.body(), other);
            let what = format!("{}/{name}, input {n} at {} (SEED={})", entry.name, page.cursor, seed());
            read(&mut tally, &what, memory, || page.read(bent));
        }
    }
    tally
}

fn hash(text: &str) -> u64 {
    // Of FNV-1a.
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn no_body_makes_a_lister_panic_or_take_long() {
    println!("SEED={}", seed());
    let memory = MEMORY.current_usage();
    let all = Mutex::new(Tally::default());
    let registry = Registry::builtin();
    let left = Mutex::new(registry.entries().iter());
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let Some(entry) = left.lock().unwrap().next() else { return };
                let Tally { fixtures, inputs, reached, slowest } = try_lister(entry, memory);
                println!(
                    "{}: {inputs} inputs of {fixtures} fixtures, {reached} reached something, the slowest {} ms",
                    entry.name,
                    slowest / 1_000_000
                );
                assert_eq!(inputs, fixtures * each(), "{}", entry.name);
                all.lock().unwrap().add(&Tally { fixtures, inputs, reached, slowest });
                assert!(
                    reached * 10 >= inputs,
                    "{}: only {reached} of {inputs} inputs reached something",
                    entry.name
                );
            }
        };
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    let all = all.into_inner().unwrap();
    println!(
        "in all: {} inputs of {} fixtures of {} listers, {} % reached something, the slowest {} ms, at most {} MB",
        all.inputs,
        all.fixtures,
        registry.entries().len(),
        100 * all.reached / all.inputs,
        all.slowest / 1_000_000,
        (MEMORY.peak_usage() - memory) / 1_000_000
    );
}

#[test]
fn no_head_of_an_answer_makes_the_transport_panic() {
    let (mut tally, memory) = (Tally::default(), MEMORY.current_usage());
    for (which, head) in HEADS.iter().enumerate() {
        for n in 0..each() {
            let mut mutator = Mutator::new(seed() ^ ((n as u64) << 20) ^ which as u64);
            let other = HEADS.get(mutator.below(HEADS.len())).unwrap();
            let bent = mutator.mutate(head, other);
            read(&mut tally, &format!("head {which}, input {n} (SEED={})", seed()), memory, || {
                read_head(&bent)
            });
        }
    }
    println!("heads: {} inputs, {} reached something", tally.inputs, tally.reached);
    assert_eq!(tally.inputs, HEADS.len() * each());
    assert!(tally.reached * 10 >= tally.inputs);
}
