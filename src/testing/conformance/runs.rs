//! Runs: one open for each key, fenced, resumed, ended honestly.

use std::future::Future;
use std::time::Duration;

use serde_json::json;

use super::kit::{Drive, HOUR, LEASE, all, at, kind_of, lister, page, plan, plan_of, said, set};
use crate::backend::{BackendErrorKind, Candidate, EndRun, NewState, RunOutcome, RunQuery, SchedulerBackend};
use crate::lister::{Coverage, Mode};
use crate::model::JsonObject;

/// Runs: begun once, continued, fenced, restarted, ended.
pub async fn runs<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    a_run_is_continued_and_its_earlier_driver_fenced_off(&make().await).await;
    each_mode_and_parameters_has_its_own_run(&make().await).await;
    a_run_starts_over_when_it_must(&make().await).await;
    a_cursor_is_one_driver_s_at_a_time(&make().await).await;
    only_complete_and_partial_move_the_state(&make().await).await;
    a_candidate_is_swapped_by_revision(&make().await).await;
    a_run_with_pending_cursors_is_not_over(&make().await).await;
    listers_and_runs_are_remembered(&make().await).await;
}

async fn a_run_is_continued_and_its_earlier_driver_fenced_off<B: SchedulerBackend>(store: &B) {
    let first = Drive::begin(store, plan(&[1]), at(0)).await;
    assert!(!first.resumed && first.pending == 1);
    first.read(1, said().names(&["a"]).next(2)).await;
    let held = first.take(2).await;
    let second = Drive::begin(store, plan(&[1]), at(1)).await;
    assert!(second.resumed && second.pending == 1, "the frontier is what was left");
    assert_eq!(second.ticket.run, first.ticket.run);
    assert_eq!(kind_of(store.claim_cursors(first.ticket, 1, LEASE, at(1)).await), BackendErrorKind::Fenced);
    assert_eq!(kind_of(store.candidate(first.ticket).await), BackendErrorKind::Fenced);
    let late = first.commit_of(&held, said().names(&["late"]));
    assert_eq!(kind_of(store.commit_page(late, at(1)).await), BackendErrorKind::Fenced);
    let end = EndRun::new(first.ticket, RunOutcome::Complete);
    assert_eq!(kind_of(store.end_run(end, at(1)).await), BackendErrorKind::Fenced);
    assert_eq!(all(store).await.len(), 1, "what was refused wrote nothing");
    // The lease of the cursor ended with the fence: it is there at once.
    second.read(2, said().names(&["b"])).await;
    second.idle().await;
    let ended = second.end(RunOutcome::Complete).await;
    assert_eq!((ended.run.outcome, ended.run.started), (RunOutcome::Complete, at(0)));
    assert_eq!(kind_of(store.claim_cursors(second.ticket, 1, LEASE, at(1)).await), BackendErrorKind::Fenced);
    let third = Drive::begin(store, plan(&[1]), at(2)).await;
    assert!(!third.resumed && third.ticket.run > second.ticket.run, "the next one is new");
}

async fn each_mode_and_parameters_has_its_own_run<B: SchedulerBackend>(store: &B) {
    let full = Drive::begin(store, plan(&[1]), at(0)).await;
    let incremental = Drive::begin(store, plan_of(Mode::Incremental, &[1]), at(0)).await;
    let mut other = plan(&[1]);
    other.parameters.insert("topic".to_owned(), json!("rust"));
    let topic = Drive::begin(store, other, at(0)).await;
    let kept = store.runs(&RunQuery::default(), 1).await.unwrap().remove(0);
    assert_eq!(json!(kept.parameters), json!({ "topic": "rust" }), "its gaps can be asked for again");
    let ids = set([full.ticket.run, incremental.ticket.run, topic.ticket.run]);
    assert_eq!(ids.len(), 3);
    for drive in [&full, &incremental, &topic] {
        drive.read(1, said()).await;
        drive.end(RunOutcome::Complete).await;
    }
}

async fn a_run_starts_over_when_it_must<B: SchedulerBackend>(store: &B) {
    let mut started = plan(&[1]);
    started.resumable_for = Duration::from_secs(10 * 3600);
    let first = Drive::begin(store, started.clone(), at(0)).await;
    first.read(1, said().names(&["kept"]).next(2)).await;
    first.end(RunOutcome::Open).await;
    let still = Drive::begin(store, started.clone(), at(10)).await;
    assert!(still.resumed, "not too old yet");
    let mut restart = started.clone();
    restart.restart = true;
    let mut form = started.clone();
    form.cursor_form = 2;
    let mut run = still.ticket.run;
    // By wish, by form, and by age: the last one began 11 hours before.
    for (plan, now) in [(restart, at(10)), (form.clone(), at(10)), (form, at(21))] {
        let over = Drive::begin(store, plan, now).await;
        assert!(!over.resumed && over.ticket.run > run && over.pending == 1);
        run = over.ticket.run;
    }
    let records = store.runs(&RunQuery::default(), 10).await.unwrap();
    let outcomes: Vec<_> = records.iter().map(|r| (r.outcome, r.error.as_deref())).collect();
    let restarted = (RunOutcome::Aborted, Some("restarted"));
    assert_eq!(outcomes, [(RunOutcome::Open, None), restarted, restarted, restarted]);
    assert_eq!(all(store).await.len(), 1, "what was listed is kept");
}

async fn a_cursor_is_one_driver_s_at_a_time<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1, 2, 3]), at(0)).await;
    let claim = |limit, now| store.claim_cursors(drive.ticket, limit, HOUR, now);
    let two = claim(2, at(0)).await.unwrap();
    assert_eq!(two.iter().map(|c| c.cursor.clone()).collect::<Vec<_>>(), [page(1), page(2)]);
    assert_eq!(claim(5, at(0)).await.unwrap().len(), 1, "only what nobody has");
    assert!(claim(5, at(0)).await.unwrap().is_empty());
    // Not claimed again yet, though late: still its holder's to end.
    drive.done(&two[0], said()).await;
    let again = claim(1, at(2)).await.unwrap();
    assert_eq!(again[0].cursor, page(2));
    assert!(again[0].ticket.token > two[1].ticket.token);
    let late = drive.commit_of(&two[1], said().names(&["late"]));
    assert_eq!(kind_of(store.commit_page(late, at(2)).await), BackendErrorKind::Fenced);
    drive.done(&again[0], said()).await;
    let twice = drive.commit_of(&again[0], said().names(&["late"]));
    assert_eq!(kind_of(store.commit_page(twice, at(2)).await), BackendErrorKind::Fenced, "ended once");
    assert!(all(store).await.is_empty());
}

fn state(n: u64) -> JsonObject {
    [("last".to_owned(), json!(n))].into_iter().collect()
}

async fn only_complete_and_partial_move_the_state<B: SchedulerBackend>(store: &B) {
    let end = async |outcome, n, revision, now: i64| {
        let drive = Drive::begin(store, plan(&[1]), at(now)).await;
        if outcome == RunOutcome::Partial {
            drive.fails(1).await;
        } else if outcome == RunOutcome::Complete {
            drive.read(1, said()).await;
        }
        let mut end = EndRun::new(drive.ticket, outcome);
        end.state = Some(NewState::new(state(n), 3, revision));
        end.requests = 2;
        end.error = (outcome == RunOutcome::Aborted).then(|| "no more".to_owned());
        store.end_run(end, at(now)).await
    };
    let before = store.lister(&lister(), at(0)).await.unwrap();
    assert!(before.current_state.is_empty() && before.last_finished.is_none());
    for outcome in [RunOutcome::Open, RunOutcome::Aborted] {
        let ended = end(outcome, 1, before.revision, 1).await.unwrap();
        assert_eq!(ended.run.outcome, outcome);
        assert_eq!(ended.lister, before, "{outcome:?} moves nothing");
        assert_eq!(ended.run.error.is_some(), outcome == RunOutcome::Aborted);
    }
    assert_eq!(
        kind_of(end(RunOutcome::Complete, 1, before.revision + 7, 2).await),
        BackendErrorKind::Conflict
    );
    assert_eq!(store.lister(&lister(), at(2)).await.unwrap(), before, "a conflict moves nothing");
    // The page was read: the run is continued and ends.
    let drive = Drive::begin(store, plan(&[1]), at(3)).await;
    let mut rest = EndRun::new(drive.ticket, RunOutcome::Complete);
    rest.state = Some(NewState::new(state(5), 3, before.revision));
    let ended = store.end_run(rest, at(3)).await.unwrap();
    assert!(drive.resumed);
    assert_eq!((&ended.lister.current_state, ended.lister.state_form), (&state(5), 3));
    assert_eq!(ended.lister.last_finished, Some(at(3)));
    assert_eq!(ended.lister.evidence_at, Some(at(1)), "the run's start: it covers all");
    assert!(ended.lister.revision > before.revision);
    let partial = end(RunOutcome::Partial, 6, ended.lister.revision, 4).await.unwrap();
    assert_eq!(partial.run.outcome, RunOutcome::Partial);
    assert_eq!(partial.lister.current_state, state(6), "partial moves the state");
    assert_eq!(partial.lister.last_finished, Some(at(3)), "and not the date");
    assert_eq!(partial.lister.evidence_at, Some(at(1)));
}

async fn a_candidate_is_swapped_by_revision<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1, 2]), at(0)).await;
    let none = store.candidate(drive.ticket).await.unwrap();
    assert_eq!(none.state, None);
    let (one, two) = (drive.take(1).await, drive.take(2).await);
    let with = |cursor, revision, n: u64, name: &str| {
        drive
            .commit_of(cursor, said().names(&[name]))
            .with_candidate(Candidate::new(revision, Some(json!(n))))
    };
    store.commit_page(with(&one, none.revision, 1, "a"), at(0)).await.unwrap();
    let refused = store.commit_page(with(&two, none.revision, 2, "b"), at(0)).await;
    assert_eq!(kind_of(refused), BackendErrorKind::Conflict);
    assert_eq!(all(store).await.len(), 1, "a conflict writes no origin either");
    let now = store.candidate(drive.ticket).await.unwrap();
    assert_eq!(now.state, Some(json!(1)));
    store.commit_page(with(&two, now.revision, 2, "b"), at(0)).await.unwrap();
    assert_eq!(store.candidate(drive.ticket).await.unwrap().state, Some(json!(2)));
}

async fn a_run_with_pending_cursors_is_not_over<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    for claimed in [RunOutcome::Complete, RunOutcome::Partial] {
        let early = drive.end(claimed).await;
        assert_eq!((early.run.outcome, early.pending), (RunOutcome::Open, 1));
        assert_eq!(early.lister.last_finished, None);
    }
    drive.read(1, said()).await;
    let ended = drive.end(RunOutcome::Complete).await;
    assert_eq!((ended.run.outcome, ended.pending), (RunOutcome::Complete, 0));
}

async fn listers_and_runs_are_remembered<B: SchedulerBackend>(store: &B) {
    assert!(store.listers().await.unwrap().is_empty());
    let other = crate::model::ListerKey::new("another", "z.example");
    let made = store.lister(&other, at(5)).await.unwrap();
    assert_eq!((made.id, made.created), (other.id(), at(5)));
    assert_eq!(store.lister(&other, at(9)).await.unwrap(), made, "made once");
    let mut begun = plan(&[1]);
    begun.coverage = Coverage::New;
    let drive = Drive::begin(store, begun, at(6)).await;
    drive.read(1, said().names(&["a", "b"])).await;
    let mut end = EndRun::new(drive.ticket, RunOutcome::Complete);
    end.requests = 4;
    let ended = store.end_run(end, at(7)).await.unwrap();
    assert_eq!(ended.lister.evidence_at, None, "coverage New is no evidence");
    let names: Vec<_> = store.listers().await.unwrap().into_iter().map(|l| l.name).collect();
    assert_eq!(names, ["another", "conformance"]);
    let query = RunQuery { lister: Some("conformance".to_owned()), ..RunQuery::default() };
    let records = store.runs(&query, 10).await.unwrap();
    assert_eq!(records, [ended.run]);
    let run = &records[0];
    assert_eq!((run.pages, run.requests, run.counts.new), (1, 4, 2));
    assert_eq!((run.started, run.finished), (at(6), Some(at(7))));
    let nobody = RunQuery { instance: Some("nowhere".to_owned()), ..RunQuery::default() };
    assert!(store.runs(&nobody, 10).await.unwrap().is_empty());
}

/// A store that outlives its handle: `open` opens it again each time, after the handle before was
/// dropped between two commits. Nothing is lost and nothing is asked twice.
pub async fn reopened<B, Fut>(open: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    let pages: u64 = 10;
    for n in 1..=pages {
        let store = open().await;
        let hour = i64::try_from(n).unwrap();
        let drive = Drive::begin(&store, plan(&[1]), at(hour)).await;
        assert_eq!((drive.resumed, drive.pending), (n > 1, 1));
        let name = format!("r{n}");
        let page = said().names(&[&name]);
        let counts = drive.read(n, if n < pages { page.next(n + 1) } else { page }).await;
        assert_eq!(counts.new, 1);
        if n == pages {
            drive.end(RunOutcome::Complete).await;
        }
        // Dropped as a kill would leave it: whatever was committed, and nothing else.
    }
    let store = open().await;
    assert_eq!(all(&store).await.len() as u64, pages);
    let record = store.runs(&RunQuery::default(), 5).await.unwrap();
    assert_eq!((record.len(), record[0].outcome, record[0].pages), (1, RunOutcome::Complete, pages));
}
