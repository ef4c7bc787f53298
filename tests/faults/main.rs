//! The fault matrix: every lister of the registry, each healthy run of its fixtures, each kind of
//! request, everything that may go wrong with one; once, and for ever. A new lister is in it as soon
//! as it is in the registry and has a fixture.
#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail, and says what it did"
)]

mod cell;
mod expected;
mod fault;
mod forge;
#[cfg(feature = "reqwest")]
mod network;
#[cfg(all(feature = "reqwest", feature = "file"))]
#[path = "../transport/notes.rs"]
mod notes;
#[cfg(all(feature = "reqwest", feature = "file"))]
#[path = "../transport/planted.rs"]
mod planted;
#[cfg(all(feature = "reqwest", feature = "file"))]
mod secrets;
#[cfg(feature = "reqwest")]
#[path = "../transport/support.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "a part of it is for others")]
mod support;
mod trial;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lamplighter::lister::{Entry, Registry};
use lamplighter::testing::Case;

use cell::Cell;
use trial::Trial;

fn fixtures(entry: &Entry) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(entry.name);
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{} has no fixtures: {e}", entry.name))
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    folders
}

/// Whether every request of every run is tried, which takes minutes.
fn is_whole() -> bool {
    std::env::var("LAMPLIGHTER_FAULTS").is_ok_and(|said| said == "all")
}

/// What is tried of a lister, and what of it does not hold.
#[derive(Default)]
struct Tried {
    runs: usize,
    cells: usize,
    /// The most requests that a fault cost.
    more: usize,
    took: std::time::Duration,
    broken: Vec<String>,
}

async fn try_lister(entry: &Entry) -> Tried {
    let mut tried = Tried::default();
    let began = std::time::Instant::now();
    let mut cases: Vec<(PathBuf, Case)> =
        fixtures(entry).into_iter().map(|folder| (folder.clone(), Case::load(&folder).unwrap())).collect();
    // The short ones first: where all is tried of these, a long one shows nothing new.
    cases.sort_by_key(|(_, case)| case.runs.iter().map(|run| run.exchanges.len()).max());
    for (folder, case) in &cases {
        for trial in Trial::of(entry, case, folder).await {
            if trial.is_long() && tried.cells > 0 && !is_whole() {
                continue;
            }
            tried.runs += 1;
            tried.broken.extend(cell::in_health(&trial).await.err());
            for at in trial.points(is_whole()) {
                for fault in fault::ALL {
                    let Some(cell) = Cell::new(&trial, at, *fault) else { continue };
                    tried.cells += 1;
                    tried.broken.extend(cell.once().await.err().map(|e| format!("{cell}, once: {e}")));
                    tried.broken.extend(cell.always().await.err().map(|e| format!("{cell}, always: {e}")));
                    tried.more = tried.more.max(cell.cost());
                }
            }
        }
    }
    tried.took = began.elapsed();
    tried
}

/// Fixtures that do not hold yet, and why. Each must still break: what is mended is taken out.
const NOT_YET: [(&str, &str); 4] = [
    ("cocoapods/gone", "the walk does not know what the lister takes for gone"),
    (
        "cocoapods/empty",
        "the gap of a list that is not there names the version file's fault without its place",
    ),
    ("save_bulk/gone", "a spoilt answer of a repository that was not there is taken for one"),
    ("sourceforge/gone", "a project that is absent once is not asked for again before it changes"),
];

#[test]
fn what_goes_wrong_with_one_request_is_told_and_costs_no_other() {
    let registry = Registry::builtin();
    let only = std::env::var("LAMPLIGHTER_LISTER").ok();
    let only = only.as_deref();
    let entries: Vec<&Entry> =
        registry.entries().iter().filter(|e| only.is_none_or(|only| e.name == only)).collect();
    let results: BTreeMap<&str, Tried> = std::thread::scope(|scope| {
        let work: Vec<_> = entries
            .iter()
            .map(|entry| {
                let run = move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(try_lister(entry))
                };
                (entry.name, scope.spawn(run))
            })
            .collect();
        work.into_iter().map(|(name, thread)| (name, thread.join().unwrap())).collect()
    });
    let mut broken = Vec::new();
    for (name, tried) in results {
        println!(
            "{name}: {} cells of {} runs, {} broken, at most {} requests more, {:?}",
            tried.cells,
            tried.runs,
            tried.broken.len(),
            tried.more,
            tried.took
        );
        assert!(tried.cells >= 20, "{name}: {} cells", tried.cells);
        broken.extend(tried.broken);
    }
    for (fixture, why) in NOT_YET {
        let (known, others): (Vec<String>, _) =
            broken.into_iter().partition(|cell| cell.starts_with(&format!("{fixture},")));
        let tried = only.is_none_or(|only| fixture.starts_with(&format!("{only}/")));
        assert!(!known.is_empty() || !tried, "{fixture} holds: take it out of NOT_YET");
        println!("NOT YET: {} cells of {fixture}: {why}", known.len());
        broken = others;
    }
    assert!(broken.is_empty(), "{} cells:\n{}", broken.len(), broken.join("\n"));
}

/// The fixtures of a lister, those first whose run is about so long.
#[cfg(feature = "reqwest")]
fn cases(entry: &Entry, long: usize) -> Vec<(PathBuf, Case)> {
    let mut cases: Vec<(PathBuf, Case)> =
        fixtures(entry).into_iter().map(|folder| (folder.clone(), Case::load(&folder).unwrap())).collect();
    cases.sort_by_key(|(_, case)| case.runs[0].exchanges.len().abs_diff(long));
    cases
}

#[cfg(feature = "reqwest")]
#[test]
fn what_goes_wrong_on_a_socket_is_told_as_the_matrix_has_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let registry = Registry::builtin();
    let mut broken = Vec::new();
    runtime.block_on(async {
        for entry in registry.entries() {
            let mut sampled = false;
            for (folder, case) in &cases(entry, 3) {
                if let Some(trial) = Trial::of(entry, case, folder).await.first() {
                    broken.extend(network::sample(trial).await);
                    sampled = true;
                    break;
                }
            }
            assert!(sampled, "{} has no fixture of a healthy run", entry.name);
        }
    });
    assert!(broken.is_empty(), "{} cells:\n{}", broken.len(), broken.join("\n"));
}

#[cfg(all(feature = "reqwest", feature = "file"))]
#[test]
fn a_secret_of_a_lister_is_seen_nowhere() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let registry = Registry::builtin();
    let mut seen = Vec::new();
    runtime.block_on(async {
        for entry in registry.entries() {
            let mut tried = false;
            for (folder, case) in &cases(entry, 3) {
                if let Some(trial) = Trial::of(entry, case, folder).await.first() {
                    seen.extend(secrets::seen(trial, entry).await);
                    tried = true;
                    break;
                }
            }
            assert!(tried, "{} has no fixture of a healthy run", entry.name);
        }
    });
    assert!(seen.is_empty(), "{} places:\n{}", seen.len(), seen.join("\n"));
}
