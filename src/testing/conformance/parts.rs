//! Parts: per part the newest complete reading is in force, whatever the order.

use std::future::Future;

use serde_json::{Value, json};

use super::kit::{Drive, Said, all, at, lister, news, one, origin, part_name, plan, plan_of, said, set};
use crate::backend::{CursorEnd, PageCommit, RunOutcome, SchedulerBackend, Validator};
use crate::lister::{Mode, PageBatch};
use crate::model::{Artifact, NewOrigin};
use crate::transport::Identity;

/// Parts: what they say of origins, replaced, kept and dropped; items and validators.
pub async fn parts<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        parts_read_in_any_order_give_the_same(&make().await, order).await;
        a_part_that_fails_keeps_its_reading(&make().await, order).await;
    }
    a_part_is_read_to_its_end_before_it_counts(&make().await).await;
    a_part_that_no_longer_names_an_origin_has_no_say(&make().await).await;
    an_unchanged_part_keeps_its_reading(&make().await).await;
    a_date_moves_with_the_pieces_that_it_dates(&make().await).await;
    a_gap_in_a_part_is_filled_by_its_retry(&make().await).await;
    pieces_on_one_page_add_up(&make().await).await;
    an_unchanged_item_is_not_asked(&make().await).await;
    an_item_that_fails_is_asked_again(&make().await).await;
    an_item_of_several_pages_is_done_with_its_last(&make().await).await;
    a_part_under_a_gap_retires_nothing(&make().await).await;
    a_flushed_part_is_not_over(&make().await).await;
    a_validator_comes_with_its_page(&make().await).await;
    a_part_of_several_pages_waits_for_each(&make().await).await;
    a_part_that_loops_keeps_its_reading(&make().await).await;
    several_gaps_of_a_part_are_filled_one_by_one(&make().await).await;
    a_gap_of_other_parameters_hides_too(&make().await).await;
    a_part_read_twice_in_a_run_adds_up(&make().await).await;
    an_open_run_keeps_what_it_has_read_of_a_part(&make().await).await;
    artifacts_outside_any_part_are_arguments(&make().await).await;
}

const SUITES: [&str; 3] = ["bullseye", "bookworm", "trixie"];

/// An origin as a suite says it, in a version.
fn package(name: &str, suite: &str, version: u64) -> NewOrigin {
    let hour = i64::try_from(version).unwrap();
    origin(name)
        .with_last_update(at(hour))
        .with_artifact(Artifact::in_object(
            "packages",
            format!("{suite}/{version}"),
            json!({ "version": version }),
        ))
        .with_artifact(Artifact::in_list(
            "files",
            format!("{version:03}"),
            json!(format!("{name}_{version}")),
        ))
}

fn reads(suite: &str, packages: &[(&str, u64)]) -> Said {
    packages.iter().fold(said().part(suite), |page, (name, v)| page.in_part(suite, package(name, suite, *v)))
}

async fn argument<B: SchedulerBackend>(store: &B, name: &str, field: &str) -> Value {
    one(store, name).await.extra_loader_arguments.get(field).cloned().unwrap_or(Value::Null)
}

async fn keys<B: SchedulerBackend>(store: &B, name: &str) -> Vec<String> {
    let packages = argument(store, name, "packages").await;
    packages.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
}

async fn parts_read_in_any_order_give_the_same<B: SchedulerBackend>(store: &B, order: [usize; 3]) {
    // Cursor n is suite n; version n is what it says first, n + 10 then.
    for round in 0..2u64 {
        let starts: Vec<u64> = order.iter().map(|i| *i as u64).collect();
        let drive = Drive::begin(store, plan(&starts), at(0)).await;
        for i in order {
            let version = i as u64 + 1 + 10 * round;
            drive.read(i as u64, reads(SUITES[i], &[("p", version)])).await;
        }
        assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
        let [a, b, c] = [1, 2, 3].map(|v| v + 10 * round);
        let expected = set([format!("bullseye/{a}"), format!("bookworm/{b}"), format!("trixie/{c}")]);
        assert_eq!(set(keys(store, "p").await), expected);
        let files = [a, b, c].map(|v| format!("p_{v}"));
        assert_eq!(argument(store, "p", "files").await, json!(files), "a list in the order of its keys");
        let newest = i64::try_from(c).unwrap();
        assert_eq!(one(store, "p").await.last_update, Some(at(newest)), "the newest over its parts");
    }
    assert_eq!(news(store).await.first().map(String::as_str), Some("New p"));
}

async fn a_part_that_fails_keeps_its_reading<B: SchedulerBackend>(store: &B, order: [usize; 3]) {
    let starts: Vec<u64> = order.iter().map(|i| *i as u64).collect();
    let drive = Drive::begin(store, plan(&starts), at(0)).await;
    for i in order {
        drive.read(i as u64, reads(SUITES[i], &[("p", i as u64 + 1), ("q", i as u64 + 1)])).await;
    }
    drive.end(RunOutcome::Complete).await;
    // The last one of the order fails; its first page is read, its second is not.
    let failing = order[2];
    let drive = Drive::begin(store, plan(&starts), at(1)).await;
    for i in order {
        let page = reads(SUITES[i], &[("p", i as u64 + 11)]);
        drive.read(i as u64, if i == failing { page.next_of(SUITES[i], 77) } else { page }).await;
    }
    drive.fails(77).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Partial);
    let version = |i: usize| if i == failing { i + 1 } else { i + 11 };
    let expected = set((0..3).map(|i| format!("{}/{}", SUITES[i], version(i))));
    assert_eq!(set(keys(store, "p").await), expected);
    let kept = set([format!("{}/{}", SUITES[failing], failing + 1)]);
    assert_eq!(set(keys(store, "q").await), kept, "only the part that failed still names it");
}

async fn a_part_is_read_to_its_end_before_it_counts<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, reads("sid", &[("a", 1)]).next_of("sid", 2)).await;
    assert_eq!(drive.pending, 1);
    assert!(keys(store, "a").await.is_empty(), "half of a part is none");
    let second = drive.take(2).await;
    assert_eq!(second.part.as_deref(), Some("sid"));
    let counts = drive.done(&second, reads("sid", &[("b", 1)])).await;
    assert_eq!((counts.new, counts.changed), (1, 0), "what was new in this run is no change as well");
    assert_eq!(keys(store, "a").await, ["sid/1"]);
    assert_eq!(keys(store, "b").await, ["sid/1"]);
    drive.end(RunOutcome::Complete).await;
    assert_eq!(news(store).await, ["New a", "New b"]);
    // Read again, with news of one: it is in force with the last page, and not before.
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    drive.read(1, reads("sid", &[("a", 5)]).next_of("sid", 2)).await;
    assert_eq!(keys(store, "a").await, ["sid/1"]);
    let counts = drive.read(2, reads("sid", &[("b", 1)])).await;
    assert_eq!((counts.changed, counts.unchanged), (1, 1));
    assert_eq!(keys(store, "a").await, ["sid/5"]);
    assert_eq!(one(store, "a").await.last_update, Some(at(5)));
    assert_eq!(news(store).await, ["New a", "New b", "Changed a"]);
}

async fn a_part_that_no_longer_names_an_origin_has_no_say<B: SchedulerBackend>(store: &B) {
    let round = async |now, sid: &[(&str, u64)], etch: &[(&str, u64)]| {
        let drive = Drive::begin(store, plan(&[1, 2]), at(now)).await;
        drive.read(1, reads("sid", sid)).await;
        drive.read(2, reads("etch", etch)).await;
        drive.prune().await.gone
    };
    round(0, &[("a", 3), ("b", 3)], &[("a", 1)]).await;
    assert_eq!(set(keys(store, "a").await), set(["sid/3".to_owned(), "etch/1".to_owned()]));
    assert_eq!(round(1, &[("b", 3)], &[("a", 1)]).await, 0, "another part still names it");
    assert_eq!(keys(store, "a").await, ["etch/1"]);
    assert_eq!(one(store, "a").await.last_update, Some(at(1)));
    assert_eq!(round(2, &[("b", 3)], &[]).await, 1, "no part does");
    assert!(one(store, "a").await.gone.is_some() && one(store, "b").await.gone.is_none());
}

async fn an_unchanged_part_keeps_its_reading<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1, 2]), at(0)).await;
    drive.read(1, reads("sid", &[("a", 3), ("b", 3)])).await;
    drive.read(2, reads("etch", &[("a", 1)])).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[1, 2]), at(5)).await;
    let counts = drive.ends(1, CursorEnd::Unchanged(part_name("sid"))).await;
    assert_eq!((counts.unchanged, counts.changed, counts.new), (2, 0, 0));
    drive.read(2, reads("etch", &[("a", 2)])).await;
    let ended = drive.prune().await;
    assert_eq!((ended.run.outcome, ended.gone, ended.run.pages), (RunOutcome::Complete, 0, 2));
    assert_eq!(set(keys(store, "a").await), set(["sid/3".to_owned(), "etch/2".to_owned()]));
    assert_eq!(one(store, "b").await.last_seen, at(5), "unchanged is seen");
}

async fn a_date_moves_with_the_pieces_that_it_dates<B: SchedulerBackend>(store: &B) {
    // Each reading dates all that it names, as an index does: a date counts for what is new in it.
    let said_at = |name, version, hour| package(name, "sid", version).with_last_update(at(hour));
    let rounds = [
        ([("a", 1), ("b", 1)], 1, [1, 1]),
        ([("a", 1), ("b", 2)], 2, [1, 2]),
        ([("a", 3), ("b", 2)], 3, [3, 2]),
    ];
    for (packages, hour, expected) in rounds {
        let drive = Drive::begin(store, plan(&[1]), at(hour)).await;
        let page = packages.iter().fold(said().part("sid"), |page, (name, version)| {
            page.in_part("sid", said_at(name, *version, hour))
        });
        drive.read(1, page).await;
        drive.end(RunOutcome::Complete).await;
        let dates = [one(store, "a").await.last_update, one(store, "b").await.last_update];
        assert_eq!(dates, expected.map(|hour| Some(at(hour))), "hour {hour}");
    }
    // Where there are no pieces, the date is all that a part says.
    for hour in [4, 5] {
        let drive = Drive::begin(store, plan(&[2]), at(hour)).await;
        drive.read(2, said().part("page").in_part("page", origin("c").with_last_update(at(hour)))).await;
        drive.end(RunOutcome::Complete).await;
        assert_eq!(one(store, "c").await.last_update, Some(at(hour)));
    }
}

async fn a_gap_in_a_part_is_filled_by_its_retry<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, reads("sid", &[("a", 1)]).next_of("sid", 2)).await;
    drive.fails(2).await;
    drive.end(RunOutcome::Complete).await;
    assert!(keys(store, "a").await.is_empty());
    // Only the gap is asked again: what was read before it still counts.
    let drive = Drive::begin(store, plan_of(Mode::Gaps, &[]), at(1)).await;
    let retried = drive.take(2).await;
    assert_eq!(retried.part.as_deref(), Some("sid"));
    drive.done(&retried, reads("sid", &[("b", 1)]).next_of("sid", 3)).await;
    assert!(keys(store, "b").await.is_empty());
    drive.read(3, reads("sid", &[("c", 1)])).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
    for name in ["a", "b", "c"] {
        assert_eq!(keys(store, name).await, ["sid/1"], "{name}");
    }
    // A retry of a piece of a part in force: the rest of it stays too.
    let drive = Drive::begin(store, plan(&[1]), at(2)).await;
    drive.read(1, reads("sid", &[("a", 2)]).next_of("sid", 2)).await;
    drive.fails(2).await;
    drive.end(RunOutcome::Complete).await;
    assert_eq!(keys(store, "a").await, ["sid/1"]);
    // The whole chain and the gap's retry together, the retry first.
    let drive = Drive::begin(store, plan(&[1]), at(3)).await;
    assert_eq!(drive.pending, 2);
    let (first, second) = (drive.take(1).await, drive.take(2).await);
    drive.done(&second, reads("sid", &[("b", 3)])).await;
    let counts = drive.done(&first, reads("sid", &[("a", 3)]).next_of("sid", 2)).await;
    assert_eq!(counts.gaps, 0, "the chain reaches what was asked ahead of it: no loop");
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
    assert_eq!(
        (keys(store, "a").await, keys(store, "b").await),
        (vec!["sid/3".to_owned()], vec!["sid/3".to_owned()])
    );
    assert!(keys(store, "c").await.is_empty(), "read from its beginning, it no longer names c");
}

async fn pieces_on_one_page_add_up<B: SchedulerBackend>(store: &B) {
    let versions: Vec<_> = (1..=3).map(|v| ("a", v)).collect();
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    let counts = drive.read(1, reads("sid", &versions).next_of("sid", 2)).await;
    assert_eq!(counts.new, 1);
    drive.read(2, reads("sid", &[("a", 4)])).await;
    drive.end(RunOutcome::Complete).await;
    assert_eq!(keys(store, "a").await, ["sid/1", "sid/2", "sid/3", "sid/4"]);
    assert_eq!(one(store, "a").await.last_update, Some(at(4)));
}

async fn an_unchanged_item_is_not_asked<B: SchedulerBackend>(store: &B) {
    let index = |f1: &str| said().item("one", f1, 11).item("two", "same", 12);
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    assert_eq!(drive.read(1, index("v1")).await.followed, 2);
    for (n, item) in [(11, "one"), (12, "two")] {
        let cursor = drive.take(n).await;
        assert_eq!(cursor.part.as_deref(), Some(item));
        drive.done(&cursor, said().in_part(item, origin(item))).await;
    }
    drive.prune().await;
    // One of two changed: the index and one request.
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    let counts = drive.read(1, index("v2")).await;
    assert_eq!((counts.followed, counts.unchanged), (1, 1));
    drive.read(11, said().in_part("one", origin("one").with_archived(true))).await;
    drive.idle().await;
    let ended = drive.prune().await;
    assert_eq!(
        (ended.run.outcome, ended.gone),
        (RunOutcome::Complete, 0),
        "an unchanged item's origins are seen"
    );
    // None changed: nothing but the index; and all of them where fingerprints are ignored.
    let drive = Drive::begin(store, plan(&[1]), at(2)).await;
    let counts = drive.read(1, index("v2")).await;
    assert_eq!((counts.followed, counts.unchanged), (0, 2));
    drive.end(RunOutcome::Complete).await;
    let mut whole = plan(&[1]);
    whole.ignore_fingerprints = true;
    let drive = Drive::begin(store, whole, at(3)).await;
    assert_eq!(drive.read(1, index("v2")).await.followed, 2);
    // An item that is gone from the index is gone with its origins.
    drive.read(11, said().in_part("one", origin("one"))).await;
    drive.read(12, said().in_part("two", origin("two"))).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[1]), at(4)).await;
    drive.read(1, said().item("two", "same", 12)).await;
    assert_eq!(drive.prune().await.gone, 1);
    assert!(one(store, "one").await.gone.is_some());
}

async fn an_item_that_fails_is_asked_again<B: SchedulerBackend>(store: &B) {
    let index = || said().item("one", "v1", 11);
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, index()).await;
    drive.fails(11).await;
    drive.end(RunOutcome::Complete).await;
    // By the next full run, as an item and as a gap: once.
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    drive.read(1, index()).await;
    drive.fails(11).await;
    drive.idle().await;
    drive.end(RunOutcome::Complete).await;
    // And by a run that asks only for gaps: its success is the item's.
    let drive = Drive::begin(store, plan_of(Mode::Gaps, &[]), at(2)).await;
    drive.read(11, said().in_part("one", origin("one"))).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[1]), at(3)).await;
    let counts = drive.read(1, index()).await;
    assert_eq!((counts.followed, counts.unchanged), (0, 1));
}

async fn an_item_of_several_pages_is_done_with_its_last<B: SchedulerBackend>(store: &B) {
    let index = || said().item("one", "v1", 11);
    let first = || said().in_part("one", origin("a")).next_of("one", 12);
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, index()).await;
    drive.read(11, first()).await;
    drive.fails(12).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    assert_eq!(drive.read(1, index()).await.followed, 1, "half an item is no success");
    // Asked for as a gap already when its first page comes: no loop.
    drive.read(12, said().in_part("one", origin("b"))).await;
    let counts = drive.read(11, first()).await;
    assert_eq!((counts.gaps, counts.followed), (0, 0));
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
    let drive = Drive::begin(store, plan(&[1]), at(2)).await;
    let counts = drive.read(1, index()).await;
    assert_eq!((counts.followed, counts.unchanged), (0, 2), "both pages' origins");
}

async fn a_part_under_a_gap_retires_nothing<B: SchedulerBackend>(store: &B) {
    let index = |f: &str| said().item("one", f, 11).item("two", f, 12);
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, index("v1")).await;
    drive.read(11, said().in_part("one", origin("one"))).await;
    drive.read(12, said().in_part("two", origin("two"))).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    drive.read(1, index("v2")).await;
    drive.fails(11).await;
    drive.read(12, said().in_part("two", origin("two"))).await;
    let ended = drive.prune().await;
    assert_eq!((ended.run.outcome, ended.gone), (RunOutcome::Partial, 0));
    assert!(all(store).await.iter().all(|o| o.gone.is_none()));
}

async fn a_flushed_part_is_not_over<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, reads("sid", &[("a", 1), ("b", 1)])).await;
    drive.end(RunOutcome::Complete).await;
    // The body breaks off after a flush: the part keeps what it had.
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    let held = drive.take(1).await;
    drive.flush(&held, reads("sid", &[("a", 2)])).await;
    let broken = CursorEnd::Gap { kind: crate::backend::GapKind::Body, reason: "cut off".to_owned() };
    let commit = PageCommit::new(drive.ticket, held.ticket, PageBatch::default(), Some(broken));
    store.commit_page(commit, at(1)).await.unwrap();
    drive.end(RunOutcome::Complete).await;
    assert_eq!(
        (keys(store, "a").await, keys(store, "b").await),
        (vec!["sid/1".to_owned()], vec!["sid/1".to_owned()])
    );
    // Whole again, in two flushes and an end.
    let drive = Drive::begin(store, plan(&[1]), at(2)).await;
    let held = drive.take(1).await;
    drive.flush(&held, reads("sid", &[("a", 2)])).await;
    drive.flush(&held, reads("sid", &[("b", 2)])).await;
    assert_eq!(keys(store, "a").await, ["sid/1"]);
    drive.done(&held, said().part("sid")).await;
    assert_eq!(
        (keys(store, "a").await, keys(store, "b").await),
        (vec!["sid/2".to_owned()], vec!["sid/2".to_owned()])
    );
}

async fn a_part_of_several_pages_waits_for_each<B: SchedulerBackend>(store: &B) {
    // Two pages, each of which says that it reads the part; one of them is flushed.
    let drive = Drive::begin(store, plan(&[1, 2]), at(0)).await;
    let (first, second) = (drive.take(1).await, drive.take(2).await);
    drive.flush(&first, reads("sid", &[("a", 1)])).await;
    drive.done(&second, reads("sid", &[("b", 1)])).await;
    assert!(keys(store, "b").await.is_empty(), "the first page is still being read");
    drive.done(&first, said().part("sid")).await;
    assert_eq!(
        (keys(store, "a").await, keys(store, "b").await),
        (vec!["sid/1".to_owned()], vec!["sid/1".to_owned()])
    );
    drive.end(RunOutcome::Complete).await;
    // The first breaks off after its flush: what the second says then is not the whole part.
    let drive = Drive::begin(store, plan(&[1, 2]), at(1)).await;
    let (first, second) = (drive.take(1).await, drive.take(2).await);
    drive.flush(&first, reads("sid", &[("a", 2)])).await;
    let broken = CursorEnd::Gap { kind: crate::backend::GapKind::Body, reason: "cut off".to_owned() };
    let commit = PageCommit::new(drive.ticket, first.ticket, PageBatch::default(), Some(broken));
    store.commit_page(commit, at(1)).await.unwrap();
    drive.done(&second, reads("sid", &[("b", 2)])).await;
    assert_eq!(
        (keys(store, "a").await, keys(store, "b").await),
        (vec!["sid/1".to_owned()], vec!["sid/1".to_owned()])
    );
}

async fn a_part_that_loops_keeps_its_reading<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, reads("sid", &[("a", 1)]).next_of("sid", 2)).await;
    drive.read(2, reads("sid", &[("b", 1)])).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    drive.read(1, reads("sid", &[("a", 2)]).next_of("sid", 2)).await;
    assert_eq!(drive.read(2, reads("sid", &[("c", 2)]).next_of("sid", 1)).await.gaps, 1);
    drive.end(RunOutcome::Complete).await;
    assert_eq!(
        (keys(store, "a").await, keys(store, "b").await),
        (vec!["sid/1".to_owned()], vec!["sid/1".to_owned()])
    );
}

async fn several_gaps_of_a_part_are_filled_one_by_one<B: SchedulerBackend>(store: &B) {
    // An item whose page was split in two, both of which fail.
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, said().item("sid", "v1", 11)).await;
    let root = drive.take(11).await;
    let split = said().follow(12).follow(13);
    let commit = PageCommit::new(drive.ticket, root.ticket, split.0, Some(CursorEnd::Replaced));
    assert_eq!(store.commit_page(commit, at(0)).await.unwrap().followed, 2);
    drive.fails(12).await;
    drive.fails(13).await;
    drive.end(RunOutcome::Complete).await;
    // The first heals, then the other.
    let drive = Drive::begin(store, plan_of(Mode::Gaps, &[]), at(1)).await;
    let half = drive.take(12).await;
    assert_eq!(half.part.as_deref(), Some("sid"), "what stands for a page stands in its part");
    drive.done(&half, reads("sid", &[("a", 1)])).await;
    drive.fails(13).await;
    drive.end(RunOutcome::Complete).await;
    assert!(keys(store, "a").await.is_empty());
    let drive = Drive::begin(store, plan_of(Mode::Gaps, &[]), at(2)).await;
    drive.read(13, reads("sid", &[("b", 1)])).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
    assert_eq!(
        (keys(store, "a").await, keys(store, "b").await),
        (vec!["sid/1".to_owned()], vec!["sid/1".to_owned()])
    );
    let drive = Drive::begin(store, plan(&[1]), at(3)).await;
    assert_eq!(drive.read(1, said().item("sid", "v1", 11)).await.followed, 0, "the item has succeeded");
}

async fn a_gap_of_other_parameters_hides_too<B: SchedulerBackend>(store: &B) {
    let with = |mut plan: crate::backend::RunPlan| {
        plan.parameters.insert("topic".to_owned(), json!("rust"));
        plan
    };
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, reads("sid", &[("a", 1), ("dropped", 1)])).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    drive.read(1, reads("sid", &[("a", 1)])).await;
    drive.end(RunOutcome::Complete).await;
    // Other parameters meet a gap in the part; a full run of these sees neither origin.
    let drive = Drive::begin(store, with(plan(&[5])), at(2)).await;
    drive.read(5, reads("sid", &[("a", 2)]).next_of("sid", 6)).await;
    drive.fails(6).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[2]), at(3)).await;
    drive.read(2, said().names(&["other"])).await;
    assert_eq!(drive.prune().await.gone, 1);
    assert!(one(store, "a").await.gone.is_none(), "the gap may hide it");
    assert!(one(store, "dropped").await.gone.is_some(), "no part names it");
    // A retry here does not complete the part while the gap there is open.
    let drive = Drive::begin(store, plan(&[1]), at(4)).await;
    drive.read(1, reads("sid", &[("a", 3)]).next_of("sid", 7)).await;
    drive.fails(7).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan_of(Mode::Gaps, &[]), at(4)).await;
    drive.read(7, reads("sid", &[("b", 3)])).await;
    drive.end(RunOutcome::Complete).await;
    assert_eq!(keys(store, "a").await, ["sid/1"]);
    let drive = Drive::begin(store, with(plan_of(Mode::Gaps, &[])), at(5)).await;
    drive.read(6, reads("sid", &[("b", 4)])).await;
    drive.end(RunOutcome::Complete).await;
    assert!(keys(store, "b").await.contains(&"sid/4".to_owned()));
}

async fn a_part_read_twice_in_a_run_adds_up<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1, 2]), at(0)).await;
    drive.read(1, reads("sid", &[("a", 1)])).await;
    assert_eq!(keys(store, "a").await, ["sid/1"]);
    drive.read(2, reads("sid", &[("a", 2)])).await;
    assert_eq!(keys(store, "a").await, ["sid/1", "sid/2"]);
    assert_eq!(one(store, "a").await.last_update, Some(at(2)));
}

async fn an_open_run_keeps_what_it_has_read_of_a_part<B: SchedulerBackend>(store: &B) {
    let full = Drive::begin(store, plan(&[1]), at(0)).await;
    full.read(1, reads("sid", &[("a", 1)]).next_of("sid", 2)).await;
    // Another run reads the part to its end meanwhile.
    let other = Drive::begin(store, plan_of(Mode::Incremental, &[5]), at(1)).await;
    other.read(5, reads("sid", &[("a", 5), ("z", 5)])).await;
    other.end(RunOutcome::Complete).await;
    assert_eq!(keys(store, "a").await, ["sid/5"]);
    full.read(2, reads("sid", &[("b", 1)])).await;
    full.end(RunOutcome::Complete).await;
    assert_eq!(
        (keys(store, "a").await, keys(store, "b").await),
        (vec!["sid/1".to_owned()], vec!["sid/1".to_owned()])
    );
    assert!(keys(store, "z").await.is_empty());
}

async fn a_validator_comes_with_its_page<B: SchedulerBackend>(store: &B) {
    let key = "https://forge.example/index";
    let validator =
        Validator::new(Some("\"e1\"".to_owned()), None, part_name("sid")).of(Identity::stored("ann"));
    let stored = async || store.validator(&lister(), key).await.unwrap();
    assert_eq!(stored().await, None);
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    let held = drive.take(1).await;
    let taken_over = Drive::begin(store, plan(&[1]), at(0)).await;
    let commit = drive.commit_of(&held, reads("sid", &[("a", 1)])).with_validator(key, validator.clone());
    store.commit_page(commit, at(0)).await.unwrap_err();
    assert_eq!(stored().await, None, "a validator without its page is lost data");
    let held = taken_over.take(1).await;
    let commit =
        taken_over.commit_of(&held, reads("sid", &[("a", 1)])).with_validator(key, validator.clone());
    store.commit_page(commit, at(0)).await.unwrap();
    assert_eq!(stored().await, Some(validator));
    assert_eq!(store.validator(&lister(), "https://forge.example/other").await.unwrap(), None);
}

async fn artifacts_outside_any_part_are_arguments<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, said().origin(package("a", "x", 1).with_argument("own", 1))).await;
    drive.end(RunOutcome::Complete).await;
    let got = one(store, "a").await;
    assert_eq!(
        json!(got.extra_loader_arguments),
        json!({
            "own": 1, "packages": { "x/1": { "version": 1 } }, "files": ["a_1"],
        })
    );
    assert_eq!(got.last_update, Some(at(1)));
}
