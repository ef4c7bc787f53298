//! A package in two suites: what each index says of it is kept, whatever becomes of the other one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lamplighter::backend::{Claim, MemoryStore, VisitStore};
use lamplighter::driver::{Driver, RunOptions, RunReport};
use lamplighter::lister::Registry;
use lamplighter::model::VisitType;
use lamplighter::testing::{Case, CaseRun, VirtualClock};
use lamplighter::transport::{Answered, Clock, Replay};
use serde_json::Value;

use super::whole::listed;
use super::*;

const BOTH: &str = "deb://Debian/packages/common";

fn runs() -> Vec<CaseRun> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian/basic");
    Case::load(&folder).unwrap().runs
}

async fn run(store: &Arc<MemoryStore>, run: &CaseRun, options: RunOptions) -> (RunReport, Timestamp) {
    let clock = Arc::new(VirtualClock::new(run.at.unwrap()));
    let replay = Arc::new(Replay::new(run.exchanges.iter().cloned(), clock.clone()));
    let source = Registry::builtin().build("debian", &run.arguments).unwrap().source;
    let driver = Driver::new(Arc::clone(store) as _, replay, clock.clone());
    let report = driver.run(source, options.with_concurrency(1).with_prune(true)).await.unwrap();
    (report, clock.now())
}

/// What the fixture says of each package after a run: name to versions.
fn expected(run: &CaseRun) -> BTreeMap<String, Value> {
    let origins = run.origins.as_ref().unwrap();
    origins.iter().map(|o| (o.url.clone(), o.extra_loader_arguments["packages"].clone())).collect()
}

fn packages(listed: &[Value]) -> BTreeMap<String, Value> {
    let of =
        |o: &Value| (o["url"].as_str().unwrap().to_owned(), o["extra_loader_arguments"]["packages"].clone());
    listed.iter().map(of).collect()
}

fn keys(packages: &Value) -> Vec<&str> {
    packages.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn an_index_that_fails_keeps_what_it_said() {
    let runs = runs();
    let store = Arc::new(MemoryStore::new());
    run(&store, &runs[0], RunOptions::default()).await;
    let mut sick = runs[2].clone();
    let main = sick.exchanges.iter_mut().find(|e| e.url.path().ends_with("/trixie/main/source/Sources.xz"));
    match &mut main.unwrap().answered {
        Answered::Answer(answer) => answer.status = http::StatusCode::SERVICE_UNAVAILABLE,
        other => panic!("{other:?}"),
    }
    let (report, _) = run(&store, &sick, RunOptions::default()).await;
    assert_eq!((report.outcome.as_str(), report.counts.gone), ("partial", 0));
    assert_eq!(report.gaps[0].part.as_deref(), Some("trixie/main"));
    assert!(
        report.gaps[0].reason.contains("GET")
            && report.gaps[0].reason.contains("trixie/main/source/Sources.xz")
    );
    assert_eq!(packages(&listed(&store, Timestamp::EPOCH).await), expected(&runs[0]), "all as it was");
    let (report, now) = run(&store, &runs[2], RunOptions::default()).await;
    assert_eq!(report.outcome.as_str(), "complete");
    assert_eq!(packages(&listed(&store, now).await), expected(&runs[2]));
}

#[tokio::test]
async fn a_worker_that_claims_during_a_run_gets_the_whole() {
    let runs = runs();
    let whole = expected(&runs[0])[BOTH].clone();
    assert_eq!(
        keys(&whole),
        [
            "bookworm/contrib/9.0-1",
            "bookworm/main/1.0-1",
            "bookworm/main/2:1.2~rc1+dfsg-3+deb12u1",
            "trixie/main/2:1.4-1",
            "trixie/main/2:1.5-1"
        ]
    );
    // The second listing reads everything again, and stops after each of its pages.
    for pages in 0..6 {
        let store = Arc::new(MemoryStore::new());
        run(&store, &runs[0], RunOptions::default()).await;
        let mut again = runs[0].clone();
        again.at = runs[2].at;
        let options = RunOptions::default().with_full(true).with_max_pages(Some(pages));
        let (report, now) = run(&store, &again, options).await;
        assert_eq!((report.outcome.as_str(), report.pages), ("open", pages));
        let visits = store.claim(&Claim::new(VisitType::new("deb").unwrap(), 100), now).await.unwrap().visits;
        let visit = visits.iter().find(|v| v.url == BOTH).unwrap();
        assert_eq!(visit.arguments["packages"], whole, "after {pages} pages");
    }
}
