//! Whole listings: each fixture's runs, and what they cost.
#![cfg(feature = "testing")]

use std::path::PathBuf;

use lamplighter::lister::Registry;
use lamplighter::testing::{Shown, check_fixture};

/// What a run came to.
#[derive(Debug, PartialEq)]
struct Came {
    requests: usize,
    skipped: u64,
    gaps: usize,
}

fn came(requests: usize, skipped: u64, gaps: usize) -> Came {
    Came { requests, skipped, gaps }
}

/// Replays a fixture's runs: each lists what the fixture says, and asks for all that was recorded.
async fn replay(case: &str) -> Vec<Came> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cgit").join(case);
    let Shown { requests, gaps, skipped, .. } =
        check_fixture(&Registry::builtin(), &folder).await.unwrap_or_else(|law| panic!("{case}: {law}"));
    let runs = requests.into_iter().zip(skipped).zip(gaps);
    runs.map(|((requests, skipped), gaps)| came(requests, skipped, gaps)).collect()
}

#[tokio::test]
async fn a_second_listing_costs_the_index_and_what_changed() {
    // 67 repositories on 4 pages; nothing changed; two changed and one is new.
    assert_eq!(replay("live").await, [came(4 + 67, 0, 0), came(4, 0, 0), came(4 + 3, 0, 0)]);
}

#[tokio::test]
async fn odd_sites_are_listed_to_their_end() {
    assert_eq!(replay("noroot").await, [came(3 + 7, 6, 0)]);
    assert_eq!(replay("empty").await, [came(1, 0, 0)]);
    assert_eq!(replay("none").await, [came(1, 0, 1)]);
    assert_eq!(replay("gone").await, [came(3 + 7, 1, 0)]);
    assert_eq!(replay("base_git_url").await, [came(3, 0, 0)]);
    assert_eq!(replay("tabs").await, [came(3 + 7 + 2, 1, 0)]);
}

#[tokio::test]
async fn a_broken_page_is_a_gap_and_healed_by_the_next_listing() {
    // Page 2 of the index is cut, a repository's page is a proxy's. What was read is not asked again.
    assert_eq!(replay("broken").await, [came(2 + 3, 0, 2), came(3 + 5, 0, 0)]);
}
