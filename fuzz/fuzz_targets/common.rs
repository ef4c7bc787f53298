//! What the targets share: the pages of the fixtures, and a count of how far inputs get.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter::lister::Registry;
use lamplighter::testing::mutate::{Family, Reached, Specimen, read_input, specimens};

static INPUTS: AtomicU64 = AtomicU64::new(0);
static REACHED: AtomicU64 = AtomicU64::new(0);

/// Counts an input. Every so often the counts go to the file that `LAMPLIGHTER_FUZZ_COUNTS` names: a
/// fuzzer ends without a word to its target.
pub fn count(reached: Reached) {
    let inputs = INPUTS.fetch_add(1, Ordering::Relaxed) + 1;
    if reached != Reached::Nothing {
        REACHED.fetch_add(1, Ordering::Relaxed);
    }
    if inputs.is_power_of_two() || inputs % 1024 == 0 {
        if let Ok(file) = std::env::var("LAMPLIGHTER_FUZZ_COUNTS") {
            let counts = format!("{inputs} {}\n", REACHED.load(Ordering::Relaxed));
            std::fs::write(file, counts).expect("the counts can be written");
        }
    }
}

fn folders(below: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(below).expect("the fixtures are there");
    let mut folders: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders
}

/// The pages of a family, in an order that does not change: an input's first byte chooses one.
pub static JSON: LazyLock<Vec<Specimen>> = LazyLock::new(|| pages(Family::Json));
pub static HTML: LazyLock<Vec<Specimen>> = LazyLock::new(|| pages(Family::Html));
pub static XML: LazyLock<Vec<Specimen>> = LazyLock::new(|| pages(Family::Xml));
pub static DEB822: LazyLock<Vec<Specimen>> = LazyLock::new(|| pages(Family::Deb822));
pub static ARCHIVES: LazyLock<Vec<Specimen>> = LazyLock::new(|| pages(Family::Archive));

fn pages(family: Family) -> Vec<Specimen> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let registry = Registry::builtin();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut kept: Vec<Specimen> = Vec::new();
    for entry in registry.entries() {
        for folder in folders(&fixtures.join(entry.name)) {
            let pages = runtime.block_on(specimens(&registry, &folder)).expect("a fixture can be read");
            // Few of each fixture: one of a kind shows as much as fifty.
            kept.extend(pages.into_iter().filter(|page| page.family == family).take(4));
        }
    }
    kept.truncate(256);
    let numbered = kept.iter().enumerate();
    seeds(numbered.map(|(n, page)| [&[u8::try_from(n).expect("at most 256")][..], &page.body()].concat()));
    kept
}

/// Writes seeds to the folder that `LAMPLIGHTER_FUZZ_SEEDS` names, where one is named.
pub fn seeds(seeds: impl Iterator<Item = Vec<u8>>) {
    let Ok(folder) = std::env::var("LAMPLIGHTER_FUZZ_SEEDS") else { return };
    for (n, seed) in seeds.enumerate() {
        std::fs::write(Path::new(&folder).join(format!("fixture-{n:03}")), seed).expect("a seed");
    }
}

pub fn read(pages: &[Specimen], input: &[u8]) {
    count(read_input(pages, input).unwrap_or(Reached::Nothing));
}
