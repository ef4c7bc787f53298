//! A listing that goes on, whatever becomes of its connections.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::time::Duration;

use lamplighter::backend::postgres::PostgresStore;
use lamplighter::backend::{
    BackendError, ChangeToken, Claim, CursorEnd, EndRun, OriginQuery, OriginStore, PageCommit, PageDigest,
    RunOutcome, RunPlan, RunQuery, RunStore, VisitStore,
};
use lamplighter::lister::{Mode, PageBatch, Sighting};
use lamplighter::model::{ListerKey, NewOrigin, OriginKey, Outcome, Timestamp, VisitStatus, VisitType};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);
const PAGES: usize = 120;
const OF_A_PAGE: usize = 5;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_seconds(1_780_000_000 + hours * 3600)
}

fn url(n: usize) -> String {
    format!("https://forge.example/r{n}.git")
}

fn batch(page: usize) -> PageBatch {
    let mut batch = PageBatch::default();
    let origins = page * OF_A_PAGE..(page + 1) * OF_A_PAGE;
    batch.origins = origins.map(|n| Sighting::new(NewOrigin::new(url(n), VisitType::git()))).collect();
    batch
}

/// What may come of it: to be tried again.
fn fleeting(e: &BackendError) {
    assert!(e.is_retryable(), "{e}");
}

/// Lists until it is done. A commit is kept or it is not; where nobody can know, the error says so, and
/// the run goes on from what is stored.
pub(crate) async fn lists_all_the_same(store: &PostgresStore) {
    let starts = (0..PAGES).map(|n| json!(n)).collect();
    let plan = RunPlan::new(ListerKey::new("forge", "a"), Mode::Full, starts);
    let mut unsure = 0;
    'run: loop {
        let begun = store.begin_run(plan.clone(), at(0)).await.inspect_err(fleeting);
        let Ok(begun) = begun else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        loop {
            let claimed = store.claim_cursors(begun.ticket, 1, HOUR, at(0)).await.inspect_err(fleeting);
            let Ok(mut claimed) = claimed else { continue 'run };
            let Some(cursor) = claimed.pop() else { break };
            let n = usize::try_from(cursor.cursor.as_u64().unwrap()).unwrap();
            let end = CursorEnd::Done(PageDigest::new([0; 16], Some([u8::try_from(n).unwrap(); 16])));
            let commit = PageCommit::new(begun.ticket, cursor.ticket, batch(n), Some(end));
            if store.commit_page(commit, at(0)).await.inspect_err(fleeting).is_err() {
                unsure += 1;
                continue 'run;
            }
        }
        if let Ok(ended) = store.end_run(EndRun::new(begun.ticket, RunOutcome::Complete), at(0)).await {
            assert_eq!(ended.run.outcome, RunOutcome::Complete);
            let all = (PAGES * OF_A_PAGE) as u64;
            assert_eq!(ended.run.counts.new, all, "each page counted once; {unsure} were in doubt");
            break;
        }
        // Nobody knows whether it was kept: if it was, there is nothing to continue.
        let runs = store.runs(&RunQuery::default(), 1).await;
        if runs.is_ok_and(|runs| runs[0].outcome == RunOutcome::Complete) {
            break;
        }
    }
    let expected: BTreeSet<String> = (0..PAGES * OF_A_PAGE).map(url).collect();
    let mut listed = BTreeSet::new();
    let mut after = None;
    loop {
        let Ok(page) = store.origins(&OriginQuery::everything(), after.clone(), 1000).await else { continue };
        listed.extend(page.origins.into_iter().map(|(_, o)| o.url));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, expected);
    let changes = loop {
        if let Ok(changes) = store.changes(ChangeToken(0), 10_000).await {
            break changes;
        }
    };
    assert_eq!(changes.len(), PAGES * OF_A_PAGE, "each is new once");
}

/// Visits all of it once or more. A claim of which the answer was lost holds its visits until their
/// leases end.
pub(crate) async fn visits_all_the_same(store: &PostgresStore) {
    let mut hour = 1;
    loop {
        let claim = Claim::new(VisitType::git(), 20).with_lease(HOUR);
        let Ok(claimed) = store.claim(&claim, at(hour)).await.inspect_err(fleeting) else {
            hour += 2;
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        // In the order of their last visit: who was visited comes after all who were not.
        let keys: Vec<_> = claimed.visits.iter().map(|v| OriginKey::new(&v.url, VisitType::git())).collect();
        let known = loop {
            if let Ok(known) = store.stats(&keys).await.inspect_err(fleeting) {
                break known;
            }
        };
        if keys.is_empty() || known.iter().any(|k| k.as_ref().unwrap().visits > 0) {
            break;
        }
        let outcome = |v: &lamplighter::backend::Visit| {
            Outcome::new(v.visit, v.token, VisitStatus::Successful, at(hour))
        };
        let outcomes: Vec<_> = claimed.visits.iter().map(outcome).collect();
        while let Err(e) = store.complete(&outcomes, at(hour)).await {
            fleeting(&e);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let keys: Vec<_> = (0..PAGES * OF_A_PAGE).map(|n| OriginKey::new(url(n), VisitType::git())).collect();
    let known = store.stats(&keys).await.unwrap();
    let visits: Vec<u64> = known.into_iter().map(|k| k.unwrap().visits).collect();
    assert!(visits.iter().all(|n| *n >= 1), "all were visited: {visits:?}");
}
