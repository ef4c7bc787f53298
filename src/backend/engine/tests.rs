//! What only the inside can see.

use super::*;
use crate::backend::{CursorEnd, PageDigest};
use crate::lister::{Follow, FollowKind, Mode, PageBatch, Sighting};
use crate::model::NewOrigin;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_780_000_000 + seconds)
}

#[test]
fn a_page_commits_an_origin_that_can_be_claimed() {
    let e = Engine::new(StoreOptions::default());
    let key = ListerKey::new("l", "i");
    let mut plan = RunPlan::new(key.clone(), Mode::Full, vec![serde_json::json!(1)]);
    plan.restart = false;
    let begun = e.begin_run(&plan, at(0)).unwrap();
    let c = e.claim_cursors(begun.ticket, 10, Duration::from_secs(60), at(0)).unwrap();
    let mut batch = PageBatch::default();
    batch.origins.push(Sighting::new(NewOrigin::new("https://h/a", VisitType::git())));
    batch.follows.push(Follow::new(serde_json::json!(2), FollowKind::Next { part: None }));
    let commit = PageCommit::new(
        begun.ticket,
        c[0].ticket,
        batch,
        Some(CursorEnd::Done(PageDigest::new([1; 16], Some([1; 16])))),
    );
    let done = e.commit_page(commit, at(1)).unwrap();
    assert_eq!((done.new, done.followed), (1, 1));
    let v = e.claim(&Claim::new(VisitType::git(), 5), at(2)).unwrap();
    assert_eq!(v.visits.len(), 1);
}
