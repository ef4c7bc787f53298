//! Every fixture of every lister, through the real driver: what is listed is compared with what the
//! fixture's author computed apart from the lister.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use lamplighter::lister::Registry;
use lamplighter::testing::{Case, check_fixture};

fn fixtures(lister: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(lister)
}

/// A new lister is in this without being named.
#[tokio::test]
async fn every_lister_lists_what_its_fixtures_say_and_is_told_what_it_declares() {
    let registry = Registry::builtin();
    let mut wrong = Vec::new();
    for entry in registry.entries() {
        let (mut checked, mut told) = (0, BTreeSet::new());
        for folder in std::fs::read_dir(fixtures(entry.name)).unwrap().map(|f| f.unwrap().path()) {
            checked += 1;
            match check_fixture(&registry, &folder).await {
                Ok(shown) => told.extend(shown.facts),
                Err(law) => wrong.push(format!("{}: {law}", folder.display())),
            }
        }
        if checked < 3 {
            wrong.push(format!("{}: {checked} fixtures", entry.name));
        }
        for fact in entry.facts.iter().filter(|fact| !told.contains(*fact)) {
            wrong.push(format!("{}: no fixture tells of {fact:?}, which it declares", entry.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A case of the conformance corpus whose requests are others than ours cannot be replayed.
#[cfg(feature = "archives")]
#[tokio::test]
async fn what_the_corpus_cannot_replay_is_in_a_fixture_of_its_own() {
    let declared = include_str!("conformance/deviations.json");
    let declared: serde_json::Map<String, serde_json::Value> = serde_json::from_str(declared).unwrap();
    let mut folders = BTreeSet::new();
    for (case, deviation) in declared.iter().filter(|(_, deviation)| deviation["kind"] != "bug") {
        let lister = case.split('/').next().unwrap();
        let folder = deviation["fixture"].as_str().unwrap();
        assert!(folder.starts_with(&format!("fixtures/{lister}/")), "{case}: {folder}");
        assert!(folders.insert(folder), "{case}: {folder} stands for another case");
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
        check_fixture(&Registry::builtin(), &folder).await.unwrap();
        let run = Case::load(&folder).unwrap().runs.remove(0);
        assert_eq!(run.outcome.as_deref(), Some("complete"), "{case}");
        assert!(run.origins.is_some_and(|origins| !origins.is_empty()), "{case} lists nothing");
    }
    assert!(!folders.is_empty(), "there is such a case");
}

#[cfg(feature = "html")]
#[tokio::test]
async fn a_second_listing_of_an_unchanged_cgit_costs_its_index_pages_only() {
    // 4 pages of the index and 67 repositories; then nothing changed; then two changed, one is new.
    let shown = check_fixture(&Registry::builtin(), &fixtures("cgit").join("live")).await.unwrap();
    assert_eq!(shown.requests, [4 + 67, 4, 4 + 3]);
}
