//! Whole listings: each fixture through the real driver.

use std::path::PathBuf;
use std::sync::Arc;

use lamplighter::backend::{
    EndRun, MemoryStore, NewState, OriginQuery, OriginStore, RunOutcome, RunPlan, RunStore,
};
use lamplighter::driver::{Driver, RunOptions, RunReport};
use lamplighter::lister::{Mode, Registry};
use lamplighter::model::{JsonObject, ListerKey};
use lamplighter::testing::{Case, VirtualClock};
use lamplighter::transport::{Clock, Replay};
use serde_json::{Value, json};

use super::*;

pub(crate) async fn listed(store: &MemoryStore, since: Timestamp) -> Vec<Value> {
    let page = store.origins(&OriginQuery::everything(), None, 1000).await.unwrap();
    assert!(page.next.is_none());
    let mut all: Vec<Value> = page
        .origins
        .iter()
        .filter(|(_, o)| o.last_seen >= since)
        .map(|(_, o)| {
            json!({
                "url": o.url, "visit_type": o.visit_type, "last_update": o.last_update, "is_fork": o.is_fork,
                "forked_from_url": o.forked_from_url, "enabled": o.enabled && o.gone.is_none(),
                "extra_loader_arguments": o.extra_loader_arguments,
            })
        })
        .collect();
    all.sort_by_key(|o| o["url"].to_string());
    all
}

/// Stores the state that another program left.
async fn seed(store: &MemoryStore, key: &ListerKey, state: JsonObject, now: Timestamp) {
    let lister = store.lister(key, now).await.unwrap();
    let begun = store.begin_run(RunPlan::new(key.clone(), Mode::Full, Vec::new()), now).await.unwrap();
    let mut end = EndRun::new(begun.ticket, RunOutcome::Complete);
    end.state = Some(NewState::new(state, 1, lister.revision));
    store.end_run(end, now).await.unwrap();
}

/// Replays a fixture's runs one after another: each lists what the fixture says, asks for all that was
/// recorded, and for nothing else.
async fn replay(name: &str) -> (Arc<MemoryStore>, Vec<RunReport>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian").join(name);
    let case = Case::load(&folder).unwrap();
    let store = Arc::new(MemoryStore::new());
    let mut reports = Vec::new();
    for (n, run) in case.runs.iter().enumerate() {
        let place = format!("{name}, run {}", n + 1);
        let clock = Arc::new(VirtualClock::new(run.at.unwrap()));
        let replay = Arc::new(Replay::new(run.exchanges.iter().cloned(), clock.clone()));
        let source = Registry::builtin().build("debian", &run.arguments).unwrap().source;
        if let Some(state) = &run.state_before {
            seed(&store, &source.key(), state.clone(), clock.now()).await;
        }
        let driver = Driver::new(Arc::clone(&store) as _, Arc::clone(&replay) as _, clock.clone());
        let report =
            driver.run(source, RunOptions::default().with_concurrency(1).with_prune(true)).await.unwrap();
        assert_eq!(Some(report.outcome.as_str()), run.outcome.as_deref(), "{place}: {report:?}");
        let mut expected = serde_json::to_value(run.origins.as_ref().unwrap()).unwrap();
        expected.as_array_mut().unwrap().sort_by_key(|o| o["url"].to_string());
        let got = listed(&store, clock.now()).await;
        for (got, expected) in got.iter().zip(expected.as_array().unwrap()) {
            assert_eq!(got, expected, "{place}");
        }
        assert_eq!(got.len(), expected.as_array().unwrap().len(), "{place}");
        assert_eq!(replay.unused(), 0, "{place}");
        reports.push(report);
    }
    (store, reports)
}

#[tokio::test]
async fn an_unchanged_archive_costs_its_release_files_only() {
    let (store, reports) = replay("basic").await;
    let requests: Vec<u64> = reports.iter().map(|r| r.requests).collect();
    // Two suites of two components; nothing changed; one suite is new, of it one component.
    assert_eq!(requests, [2 + 4, 2, 2 + 2]);
    let changed: Vec<u64> = reports.iter().map(|r| r.counts.changed).collect();
    // libfoo, the package that only trixie lost, and the one that is nowhere any more.
    assert_eq!((reports[0].counts.new, changed), (29, vec![0, 0, 3]));
    assert_eq!(reports[2].counts.new, 1);
    let gone = store.origins(&OriginQuery::everything(), None, 1000).await.unwrap().origins;
    let gone: Vec<&str> =
        gone.iter().filter(|(_, o)| o.gone.is_some()).map(|(_, o)| o.url.as_str()).collect();
    assert_eq!(gone, ["deb://Debian/packages/fresh"]);
}

#[tokio::test]
async fn archives_of_other_makers_are_listed() {
    replay("reprepro").await;
    replay("aptly").await;
    let (_, reports) = replay("empty").await;
    assert_eq!((reports[0].requests, reports[0].origins()), (2, 0));
}

#[tokio::test]
async fn a_broken_index_is_a_gap_of_its_part_and_healed_by_the_next_listing() {
    let (_, reports) = replay("broken").await;
    let gaps: Vec<&str> = reports[0].gaps.iter().map(|g| g.part.as_deref().unwrap()).collect();
    assert_eq!(gaps, ["bookworm/main", "bookworm/contrib"]);
    assert!(reports[0].gaps[0].reason.contains("/main/source/Sources.xz: unexpected answer"), "{reports:?}");
    assert!(reports[1].gaps.is_empty());
    // What was read is not asked for again.
    assert_eq!((reports[0].requests, reports[1].requests), (4, 3));
    assert_eq!(reports[0].skipped, 1, "a component that the suite has not");
}

#[tokio::test]
async fn the_next_form_is_asked_for_where_the_first_is_not_there() {
    let (store, reports) = replay("gone").await;
    assert_eq!((reports[0].requests, reports[1].requests), (4, 3));
    assert_eq!((reports[1].skipped, reports[1].counts.gone), (1, 1));
    let page = store.origins(&OriginQuery::everything(), None, 1000).await.unwrap();
    let (_, gone) = page.origins.iter().find(|(_, o)| o.gone.is_some()).unwrap();
    assert_eq!(gone.url, "deb://Debian/packages/game-data");
}

#[tokio::test]
async fn an_archive_without_release_files_is_searched_and_a_state_of_swh_is_no_hindrance() {
    let (_, reports) = replay("old").await;
    // Four release files; main is the sixth place that is tried, contrib none of the eight.
    assert_eq!(reports[0].requests, 4 + 6 + 8);
    assert_eq!(reports[0].gaps.len(), 1);
    let last = "GET https://deb.example/debian/dists/etch/updates/contrib/source/Sources";
    let reason = &reports[0].gaps[0].reason;
    assert!(reason.starts_with(&format!("{last}: status 404")), "{reason}");
    assert!(reason.ends_with(": nothing that stands for it could be read"), "{reason}");
    assert_eq!(reports[0].gaps[0].cursor["index"]["component"], "contrib");
    assert_eq!(reports[0].gaps[0].cursor["index"]["at"], 0);
}
