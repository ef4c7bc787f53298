//! Whole listings: each fixture through the real driver.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore};
use lamplighter::driver::{Driver, RunOptions, RunReport};
use lamplighter::lister::Registry;
use lamplighter::testing::{Case, VirtualClock};
use lamplighter::transport::{Clock, Replay};

use super::*;

/// Replays a fixture's runs one after another: each lists what the fixture says, asks for all that was
/// recorded, and for nothing else.
async fn replay(name: &str) -> Vec<RunReport> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/hgweb").join(name);
    let case = Case::load(&folder).unwrap();
    let store = Arc::new(MemoryStore::new());
    let mut reports = Vec::new();
    for (n, run) in case.runs.iter().enumerate() {
        let place = format!("{name}, run {}", n + 1);
        let clock = Arc::new(VirtualClock::new(run.at.unwrap()));
        let replay = Replay::new(run.exchanges.iter().cloned(), clock.clone()).with_positions(&["style"]);
        let replay = Arc::new(replay);
        let source = Registry::builtin().build("hgweb", &run.arguments).unwrap().source;
        let driver = Driver::new(Arc::clone(&store) as _, Arc::clone(&replay) as _, clock.clone());
        let options = RunOptions::default().with_concurrency(1).with_prune(true);
        let report = driver.run(source, options).await.unwrap();
        assert_eq!(Some(report.outcome.as_str()), run.outcome.as_deref(), "{place}: {report:?}");
        let page = store.origins(&OriginQuery::everything(), None, 1000).await.unwrap();
        let listed: BTreeMap<String, Option<Timestamp>> = page
            .origins
            .into_iter()
            .filter(|(_, o)| o.last_seen >= clock.now() && o.gone.is_none())
            .map(|(_, o)| (o.url, o.last_update))
            .collect();
        let expected = run.origins.as_ref().unwrap().iter().map(|o| (o.url.clone(), o.last_update)).collect();
        assert_eq!(listed, expected, "{place}");
        assert_eq!(replay.unused(), 0, "{place}");
        reports.push(report);
    }
    reports
}

#[tokio::test]
async fn each_site_is_listed_to_its_end() {
    let live = replay("live").await;
    // The root in JSON and in HTML, and five directories in HTML.
    assert_eq!(live.iter().map(|r| r.requests).collect::<Vec<_>>(), [7, 7]);
    assert_eq!((live[1].counts.new, live[1].counts.gone, live[1].counts.unchanged), (1, 1, 33));
    let json = replay("json").await;
    assert_eq!((json[0].requests, json[0].origins()), (4, 31));
    let groups = replay("groups").await;
    assert_eq!((groups[0].requests, groups[0].origins()), (4, 33));
    let empty = replay("empty").await;
    assert_eq!((empty[0].requests, empty[0].origins()), (2, 0));
}

#[tokio::test]
async fn a_broken_directory_is_a_gap_and_healed_by_the_next_listing() {
    let broken = replay("broken").await;
    let mut gaps: Vec<&str> =
        broken[0].gaps.iter().map(|g| g.cursor["html"]["url"].as_str().unwrap()).collect();
    gaps.sort_unstable();
    let directories = ["build", "releases", "users"].map(|d| format!("https://hg.example/{d}"));
    assert_eq!(gaps, directories);
    assert_eq!(broken.iter().map(|r| r.requests).collect::<Vec<_>>(), [5, 5]);
    assert_eq!((broken[1].counts.new, broken[1].gaps.len()), (25, 0));
}
