//! What is no longer listed: gone, unless the listing is not to be believed.

use std::future::Future;

use super::kit::{Drive, Said, all, at, list, news, one, plan, plan_of, said};
use crate::backend::{
    CursorEnd, EndRun, Ended, Prune, PruneGuard, RunOutcome, RunQuery, RunStore, SchedulerBackend,
};
use crate::lister::{Coverage, Mode};
use crate::model::Timestamp;

/// Retiring what a complete listing no longer names, and not believing one that names far less.
pub async fn pruning<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    what_is_truly_gone_is_retired_and_stays_so(&make().await).await;
    a_half_empty_answer_retires_nothing(&make().await).await;
    an_empty_answer_retires_nothing(&make().await).await;
    a_mass_loss_can_be_forced(&make().await).await;
    a_mass_loss_is_believed_when_runs_agree_for_long(&make().await).await;
    whoever_is_seen_is_no_suspect(&make().await).await;
    only_who_is_told_to_retires(&make().await).await;
    details_that_are_all_absent_are_not_believed(&make().await).await;
    who_is_back_has_its_history(&make().await).await;
    what_is_left_out_is_not_gone(&make().await).await;
}

fn numbered(of: impl IntoIterator<Item = u64>) -> Said {
    let names: Vec<String> = of.into_iter().map(|n| format!("r{n}")).collect();
    said().names(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

async fn pruned<B: RunStore>(store: &B, now: Timestamp, page: Said, prune: Prune) -> Ended {
    let drive = Drive::begin(store, plan(&[1]), now).await;
    drive.read(1, page).await;
    let mut end = EndRun::new(drive.ticket, RunOutcome::Complete);
    end.prune = prune;
    store.end_run(end, now).await.expect("a run ends")
}

fn guarded() -> Prune {
    Prune::from(true)
}

async fn live<B: SchedulerBackend>(store: &B) -> usize {
    all(store).await.iter().filter(|o| o.gone.is_none()).count()
}

async fn what_is_truly_gone_is_retired_and_stays_so<B: SchedulerBackend>(store: &B) {
    list(store, at(0), numbered(0..200)).await;
    let ended = pruned(store, at(1), numbered(2..200), guarded()).await;
    assert_eq!((ended.gone, ended.withheld, ended.run.counts.gone), (2, 0, 2));
    for hour in 2..5 {
        let ended = pruned(store, at(hour), numbered(2..200), guarded()).await;
        assert_eq!((ended.gone, ended.withheld), (0, 0));
    }
    assert_eq!(live(store).await, 198);
    assert_eq!(news(store).await[200..], ["Gone r0", "Gone r1"], "once each");
}

async fn a_half_empty_answer_retires_nothing<B: SchedulerBackend>(store: &B) {
    list(store, at(0), numbered(0..100)).await;
    let ended = pruned(store, at(1), numbered(0..50), guarded()).await;
    assert_eq!((ended.run.outcome, ended.gone, ended.withheld), (RunOutcome::Complete, 0, 50));
    let kept = store.runs(&RunQuery::default(), 1).await.unwrap().remove(0);
    assert_eq!(kept.withheld, 50, "it is known of the run afterwards");
    // Again and again, for days: still not.
    for day in 1..6 {
        assert_eq!(pruned(store, at(1 + 24 * day), numbered(0..50), guarded()).await.gone, 0);
    }
    assert_eq!(pruned(store, at(150), numbered(0..100), guarded()).await.withheld, 0);
    assert_eq!((live(store).await, news(store).await.len()), (100, 100), "and nothing flapped");
    // The limit, from both sides.
    assert_eq!(pruned(store, at(151), numbered(0..79), guarded()).await.withheld, 21);
    assert_eq!(pruned(store, at(152), numbered(0..80), guarded()).await.gone, 20);
}

async fn an_empty_answer_retires_nothing<B: SchedulerBackend>(store: &B) {
    list(store, at(0), numbered(0..2)).await;
    let ended = pruned(store, at(1), said(), guarded()).await;
    assert_eq!((ended.run.outcome, ended.gone, ended.withheld), (RunOutcome::Complete, 0, 2));
    assert_eq!(pruned(store, at(2), numbered(0..1), guarded()).await.gone, 1, "of few, few may go");
}

async fn a_mass_loss_can_be_forced<B: SchedulerBackend>(store: &B) {
    list(store, at(0), numbered(0..20)).await;
    assert_eq!(pruned(store, at(1), numbered(0..5), guarded()).await.withheld, 15);
    let ended = pruned(store, at(2), numbered(0..5), Prune::Force).await;
    assert_eq!((ended.gone, ended.withheld), (15, 0));
    let wide = Prune::Guarded(PruneGuard::default().with_share(0.9));
    assert_eq!(pruned(store, at(3), numbered(0..1), wide).await.gone, 4, "or another share be allowed");
}

async fn a_mass_loss_is_believed_when_runs_agree_for_long<B: SchedulerBackend>(store: &B) {
    list(store, at(0), numbered(0..100)).await;
    assert_eq!(pruned(store, at(1), numbered(0..50), guarded()).await.withheld, 50);
    // Twenty more are missing in between: they have not been missing for long.
    assert_eq!(pruned(store, at(100), numbered(0..30), guarded()).await.withheld, 70);
    let ended = pruned(store, at(1 + 7 * 24), numbered(0..30), guarded()).await;
    assert_eq!((ended.gone, ended.withheld), (50, 20));
    // Their own week has begun.
    assert_eq!(pruned(store, at(10 * 24), numbered(0..30), guarded()).await.withheld, 20);
    let ended = pruned(store, at(1 + 14 * 24), numbered(0..30), guarded()).await;
    assert_eq!((ended.gone, ended.withheld), (20, 0));
    // A shorter time may do.
    let soon = Prune::Guarded(PruneGuard::default().with_confirm_after(std::time::Duration::ZERO));
    assert_eq!(pruned(store, at(500), numbered(0..15), soon).await.withheld, 15);
    assert_eq!(pruned(store, at(501), numbered(0..15), soon).await.gone, 15);
}

async fn whoever_is_seen_is_no_suspect<B: SchedulerBackend>(store: &B) {
    list(store, at(0), numbered(0..10)).await;
    assert_eq!(pruned(store, at(1), numbered(0..4), guarded()).await.withheld, 6);
    // A complete run that does not prune sees one of them, an incremental one another.
    pruned(store, at(2), numbered(0..5), Prune::No).await;
    let drive = Drive::begin(store, plan_of(Mode::Incremental, &[1]), at(3)).await;
    drive.read(1, numbered([5])).await;
    drive.end(RunOutcome::Complete).await;
    let ended = pruned(store, at(200), numbered(0..4), guarded()).await;
    assert_eq!((ended.gone, ended.withheld), (4, 2));
    assert_eq!((one(store, "r4").await.gone, one(store, "r5").await.gone), (None, None));
}

async fn only_who_is_told_to_retires<B: SchedulerBackend>(store: &B) {
    list(store, at(0), numbered(0..10)).await;
    assert_eq!(pruned(store, at(1), numbered(0..9), Prune::No).await.gone, 0);
    for (hour, coverage) in [(2, Coverage::Changed), (3, Coverage::New)] {
        let mut narrow = plan(&[1]);
        narrow.coverage = coverage;
        let drive = Drive::begin(store, narrow, at(hour)).await;
        drive.read(1, numbered(0..9)).await;
        let ended = drive.prune().await;
        assert_eq!((ended.run.outcome, ended.gone), (RunOutcome::Complete, 0), "{coverage:?}");
    }
    assert_eq!(live(store).await, 10);
}

async fn details_that_are_all_absent_are_not_believed<B: SchedulerBackend>(store: &B) {
    // The index names most; a tenth has pages of its own.
    let index = |details: u64| (0..details).fold(numbered(0..90), |said, n| said.follow(100 + n));
    let listing = async |now, absent: u64| {
        let drive = Drive::begin(store, plan(&[1]), now).await;
        drive.read(1, index(10)).await;
        for n in 0..10 {
            if n < absent {
                drive.ends(100 + n, CursorEnd::Skipped).await;
            } else {
                drive.read(100 + n, numbered([90 + n])).await;
            }
        }
        let mut end = EndRun::new(drive.ticket, RunOutcome::Complete);
        end.prune = guarded();
        store.end_run(end, now).await.unwrap()
    };
    assert_eq!(listing(at(0), 0).await.run.counts.new, 100);
    let ended = listing(at(1), 10).await;
    assert_eq!((ended.gone, ended.withheld), (0, 10), "ten of a hundred, and all that was asked for");
    let ended = listing(at(2), 3).await;
    assert_eq!((ended.gone, ended.withheld), (3, 0), "a few are");
}

async fn who_is_back_has_its_history<B: SchedulerBackend>(store: &B) {
    list(store, at(0), numbered(0..10)).await;
    let visits = super::claims::take(store, 10, at(1)).await;
    super::claims::succeed(store, &visits, at(1)).await;
    pruned(store, at(2), numbered(1..10), guarded()).await;
    assert!(super::claims::take(store, 20, at(20)).await.iter().all(|v| v.url != super::kit::url("r0")));
    pruned(store, at(21), numbered(0..10), guarded()).await;
    let back = one(store, "r0").await;
    assert_eq!((back.gone, back.first_seen), (None, at(0)));
    let stats = store.stats(&[super::kit::key("r0")]).await.unwrap().remove(0).unwrap();
    assert_eq!((stats.visits, stats.last_visit), (1, Some(at(1))));
    assert_eq!(news(store).await[10..], ["Gone r0", "Back r0"]);
    assert!(super::claims::take(store, 20, at(40)).await.iter().any(|v| v.url == super::kit::url("r0")));
}

/// What a filter leaves out is there all the same: not stored where it is new, not visited where it
/// is known, and not gone.
async fn what_is_left_out_is_not_gone<B: SchedulerBackend>(store: &B) {
    list(store, at(0), numbered(0..2)).await;
    let without = |name: &str, id: u64| {
        let mut page = numbered([0]).origin(super::kit::origin(name).with_forge_id(id));
        for sighting in page.0.origins.iter_mut().skip(1) {
            sighting.left_out = true;
        }
        page
    };
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    let counts = drive.read(1, without("r1", 7)).await;
    assert_eq!((counts.new, counts.changed, counts.unchanged), (0, 1, 1));
    assert_eq!(drive.prune().await.gone, 0);
    let known = one(store, "r1").await;
    assert_eq!((known.enabled, known.gone, known.forge_id.as_deref()), (false, None, Some("7")));
    let ended = pruned(store, at(2), without("unheard-of", 8), guarded()).await;
    assert_eq!((ended.gone, all(store).await.len()), (1, 2), "not stored, and no reason to keep another");
    // Renamed and left out, it is the same origin still.
    assert_eq!(pruned(store, at(3), without("r2", 7), guarded()).await.gone, 0);
    assert_eq!(one(store, "r2").await.first_seen, at(0));
    // Wanted again, it is visited again.
    list(store, at(4), numbered([0, 2])).await;
    assert!(one(store, "r2").await.enabled);
}
