//! Pages: whole or not at all, counted, and never the same one for ever.

use std::future::Future;

use futures::future::join_all;
use serde_json::json;

use super::kit::{Drive, all, at, kind_of, list, news, one, origin, plan, plan_of, said, set, url};
use crate::backend::{BackendErrorKind, GapKind, GapQuery, RunOutcome, SchedulerBackend};
use crate::lister::Mode;
use crate::model::{Gone, GoneReason, ListerKey, Timestamp, VisitType};

/// Pages: what a commit writes, counts and follows.
pub async fn pages<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    facts_survive_a_page(&make().await).await;
    a_page_counts_each_origin_once(&make().await).await;
    what_is_not_known_erases_nothing(&make().await).await;
    a_refused_page_writes_nothing(&make().await).await;
    of_many_at_the_same_time_one_is_refused(&make().await).await;
    a_flush_may_be_repeated(&make().await).await;
    gone_and_back(&make().await).await;
    only_a_complete_run_of_everything_retires(&make().await).await;
    one_lister_does_not_retire_another_s(&make().await).await;
    a_chain_that_comes_back_is_a_loop(&make().await).await;
    a_page_that_repeats_the_one_before_is_a_loop(&make().await).await;
    empty_pages_are_no_loop_until_there_are_many(&make().await).await;
    a_followed_cursor_is_asked_once(&make().await).await;
    last_seen_moves_without_news(&make().await).await;
}

async fn facts_survive_a_page<B: SchedulerBackend>(store: &B) {
    let update = Timestamp::from_micros(at(0).as_micros() - 1);
    let new = origin("a")
        .with_last_update(update)
        .with_forked_from(url("parent"))
        .with_forge_id(42)
        .with_archived(true)
        .with_mirror(false)
        .with_empty(true)
        .with_argument("deep", json!({"list": [1, null, "ü"]}))
        .with_enabled(false);
    list(store, Timestamp::from_micros(at(1).as_micros() + 7), said().origin(new.clone())).await;
    let got = one(store, "a").await;
    assert_eq!(got.last_update, Some(update), "to the microsecond");
    assert_eq!(got.first_seen.as_micros(), at(1).as_micros() + 7);
    assert_eq!((got.is_fork, got.forked_from_url), (Some(true), Some(url("parent"))));
    assert_eq!((got.forge_id.as_deref(), got.archived, got.enabled), (Some("42"), Some(true), false));
    assert_eq!((got.mirror, got.empty), (Some(false), Some(true)));
    assert_eq!(got.extra_loader_arguments, new.extra_loader_arguments);
}

async fn a_page_counts_each_origin_once<B: SchedulerBackend>(store: &B) {
    let twice =
        said().origin(origin("a").with_forge_id(1)).names(&["b"]).origin(origin("a").with_forge_id(2));
    let counts = list(store, at(0), twice).await;
    assert_eq!((counts.new, counts.changed, counts.unchanged), (2, 0, 0));
    assert_eq!(one(store, "a").await.forge_id.as_deref(), Some("2"), "the last word counts");
    let news_of_b = said().origin(origin("b").with_archived(true)).origin(origin("a").with_forge_id(2));
    let counts = list(store, at(1), news_of_b.names(&["c"])).await;
    assert_eq!((counts.new, counts.changed, counts.unchanged), (1, 1, 1));
    assert_eq!(news(store).await, ["New a", "New b", "Changed b", "New c"]);
    // The same URL with another type is another origin.
    let mut hg = origin("a");
    hg.visit_type = VisitType::new("hg").unwrap();
    assert_eq!(list(store, at(2), said().origin(hg)).await.new, 1);
    assert_eq!(all(store).await.len(), 4);
}

async fn what_is_not_known_erases_nothing<B: SchedulerBackend>(store: &B) {
    let full = origin("a").with_last_update(at(0)).with_forge_id(7).with_archived(false);
    list(store, at(0), said().origin(full)).await;
    let counts = list(store, at(1), said().names(&["a"])).await;
    assert_eq!((counts.changed, counts.unchanged), (0, 1));
    let got = one(store, "a").await;
    assert_eq!(
        (got.last_update, got.forge_id.as_deref(), got.archived),
        (Some(at(0)), Some("7"), Some(false))
    );
    let newer = list(store, at(2), said().origin(origin("a").with_last_update(at(2)))).await;
    assert_eq!((newer.changed, one(store, "a").await.last_update), (1, Some(at(2))));
}

async fn a_refused_page_writes_nothing<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    let held = drive.take(1).await;
    let next = Drive::begin(store, plan(&[1]), at(0)).await;
    let page = said().names(&["a"]).next(2).item("i", "1", 3).part("p").in_part("p", origin("b"));
    let refused = store.commit_page(drive.commit_of(&held, page.clone()), at(0)).await;
    assert_eq!(kind_of(refused), BackendErrorKind::Fenced);
    assert!(all(store).await.is_empty() && news(store).await.is_empty());
    let held = next.take(1).await;
    next.idle().await;
    // The same page from its rightful driver is written whole.
    assert_eq!(next.done(&held, page).await.new, 2);
    next.take(2).await;
    assert_eq!(next.take(3).await.part.as_deref(), Some("i"));
}

async fn of_many_at_the_same_time_one_is_refused<B: SchedulerBackend>(store: &B) {
    let pages: Vec<u64> = (1..=20).collect();
    let drive = Drive::begin(store, plan(&pages), at(0)).await;
    let mut commits = Vec::new();
    for n in &pages {
        let held = drive.take(*n).await;
        let name = format!("r{n:02}");
        commits.push(drive.commit_of(&held, said().names(&["in each", &name])));
    }
    commits[7].cursor.token += 1;
    let answers = join_all(commits.into_iter().map(|commit| store.commit_page(commit, at(0)))).await;
    let mut new: Vec<u64> = Vec::new();
    for (n, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(counts) => {
                assert_eq!((counts.new + counts.unchanged, n == 7), (2, false));
                new.push(counts.new);
            }
            refused => assert_eq!((kind_of(refused), n), (BackendErrorKind::Fenced, 7)),
        }
    }
    new.sort_unstable();
    // One of them, in whatever order, was the first to list what all of them do.
    assert_eq!((new.len(), new.iter().sum::<u64>(), new.last()), (19, 20, Some(&2)));
    let listed: Vec<String> = all(store).await.into_iter().map(|o| o.url).collect();
    let expected = pages.iter().filter(|n| **n != 8).map(|n| url(&format!("r{n:02}")));
    assert_eq!(set(listed), set(expected.chain([url("in each")])));
    assert_eq!(news(store).await.len(), 20, "each told of once");
}

async fn a_flush_may_be_repeated<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    let held = drive.take(1).await;
    let beginning = said().names(&["a", "b"]).next(2);
    assert_eq!(drive.flush(&held, beginning.clone()).await.new, 2);
    // Killed there, and read again from its beginning.
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    assert_eq!(drive.pending, 2, "the page is not over, and what it said follows already");
    let held = drive.take(1).await;
    let again = drive.flush(&held, beginning).await;
    assert_eq!((again.new, again.unchanged, again.followed, again.gaps), (0, 2, 0, 0));
    let rest = drive.done(&held, said().names(&["c"])).await;
    assert_eq!((rest.new, rest.gaps), (1, 0), "no loop was made of the repetition");
    drive.read(2, said()).await;
    drive.idle().await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
}

async fn gone_and_back<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().names(&["a", "b"])).await;
    let mut deleted = said().names(&["b"]);
    deleted.0.gone.push((super::kit::key("a"), GoneReason::Deleted));
    deleted.0.gone.push((super::kit::key("unheard-of"), GoneReason::Deleted));
    assert_eq!(list(store, at(1), deleted.clone()).await.gone, 1);
    assert_eq!(list(store, at(2), deleted).await.gone, 0, "gone once");
    let gone = one(store, "a").await;
    assert_eq!(gone.gone, Some(Gone::new(at(1), GoneReason::Deleted)));
    let counts = list(store, at(3), said().names(&["a"])).await;
    assert_eq!((counts.new, counts.changed), (0, 1));
    let back = one(store, "a").await;
    assert_eq!((back.gone, back.first_seen), (None, at(0)), "with its history");
    assert_eq!(news(store).await, ["New a", "New b", "Gone a", "Back a"]);
}

async fn only_a_complete_run_of_everything_retires<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().names(&["a", "b", "c"])).await;
    // Without being told to; a partial one; an incremental one: none of them.
    list(store, at(1), said().names(&["a"])).await;
    let partial = Drive::begin(store, plan(&[1, 2]), at(2)).await;
    partial.read(1, said().names(&["a"])).await;
    partial.fails(2).await;
    let ended = partial.prune().await;
    assert_eq!((ended.run.outcome, ended.gone), (RunOutcome::Partial, 0));
    let some = Drive::begin(store, plan_of(Mode::Incremental, &[1]), at(3)).await;
    some.read(1, said().names(&["a"])).await;
    some.read(2, said()).await;
    assert_eq!(some.prune().await.gone, 0);
    assert!(all(store).await.iter().all(|o| o.gone.is_none()));
    let full = Drive::begin(store, plan(&[1]), at(4)).await;
    full.read(1, said().names(&["a"]).next(2)).await;
    full.read(2, said().names(&["b"])).await;
    let ended = full.prune().await;
    assert_eq!((ended.gone, ended.run.counts.gone), (1, 1));
    assert_eq!(one(store, "c").await.gone, Some(Gone::new(at(4), GoneReason::NotListed)));
    assert_eq!(one(store, "b").await.gone, None);
    assert_eq!(news(store).await.last().map(String::as_str), Some("Gone c"));
}

async fn one_lister_does_not_retire_another_s<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().names(&["a", "b"])).await;
    let mut theirs = plan(&[1]);
    theirs.lister = ListerKey::new("conformance", "mirror.example");
    let drive = Drive::begin(store, theirs, at(1)).await;
    assert_eq!(drive.read(1, said().names(&["a"])).await.new, 1, "new to that lister");
    assert_eq!(drive.prune().await.gone, 0);
    assert_eq!(all(store).await.len(), 3, "one row for each lister");
    let ours = Drive::begin(store, plan(&[1]), at(2)).await;
    ours.read(1, said().names(&["b"])).await;
    assert_eq!(ours.prune().await.gone, 1);
    let of_a: Vec<_> = all(store).await.into_iter().filter(|o| o.url == url("a")).collect();
    assert_eq!(of_a.iter().filter(|o| o.gone.is_some()).count(), 1, "the mirror still has it");
    let claimed = store.claim(&crate::backend::Claim::new(VisitType::git(), 9), at(3)).await.unwrap();
    let visit = claimed.visits.iter().find(|v| v.url == url("a")).expect("it is still visited, once");
    assert_eq!(visit.instance, "mirror.example");
    assert_eq!(claimed.visits.len(), 2);
}

async fn a_chain_that_comes_back_is_a_loop<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, said().names(&["a"]).next(2)).await;
    let counts = drive.read(2, said().names(&["b"]).next(1)).await;
    assert_eq!((counts.gaps, counts.followed, counts.new), (1, 0, 1));
    drive.idle().await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Partial);
    let gaps = store.gaps(&GapQuery::default()).await.unwrap();
    assert_eq!((gaps.len(), gaps[0].kind), (1, GapKind::Loop));
    assert_eq!(gaps[0].cursor, super::kit::page(1));
    assert!(gaps[0].reason.contains("loop"), "{}", gaps[0].reason);
    // A page that names itself, and then one that was mended.
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    assert_eq!(drive.read(1, said().names(&["a"]).next(1)).await.gaps, 1);
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Partial);
    let drive = Drive::begin(store, plan(&[1]), at(2)).await;
    assert_eq!(drive.read(1, said().names(&["a"]).next(2)).await.gaps, 0);
    drive.read(2, said().names(&["b"])).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
    assert!(store.gaps(&GapQuery::default()).await.unwrap().is_empty());
}

async fn a_page_that_repeats_the_one_before_is_a_loop<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, said().names(&["a"]).next(2)).await;
    // Another body around the same origins, and a next page: a server that counts without end.
    let counts = drive.read(2, said().names(&["a"]).next(3)).await;
    assert_eq!((counts.gaps, counts.followed), (1, 0));
    drive.idle().await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Partial);
    let gaps = store.gaps(&GapQuery::default()).await.unwrap();
    assert_eq!((gaps[0].kind, &gaps[0].cursor), (GapKind::Loop, &super::kit::page(2)));
    // Pages that are followed, not next, may say the same.
    let drive = Drive::begin(store, plan_of(Mode::Incremental, &[1]), at(0)).await;
    drive.read(1, said().names(&["a"]).follow(4)).await;
    drive.read(2, said()).await;
    assert_eq!(drive.read(4, said().names(&["a"])).await.gaps, 0);
}

async fn empty_pages_are_no_loop_until_there_are_many<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    let nothing = crate::backend::PageDigest::new([7; 16], None);
    let mut n = 1;
    let looped = loop {
        let at = drive.take(n).await;
        let mut commit = drive.commit_of(&at, said().next(n + 1));
        commit.end = Some(crate::backend::CursorEnd::Done(nothing));
        if store.commit_page(commit, drive.now).await.unwrap().gaps > 0 {
            break n;
        }
        n += 1;
    };
    assert_eq!(looped, 52, "the first and fifty more like it, then it is a loop");
    drive.idle().await;
    // Empty and each of them another: as many as there are.
    let drive = Drive::begin(store, plan_of(Mode::Incremental, &[1000]), at(0)).await;
    drive.read(1000, said().next(1001)).await;
    // The gap of the loop above is retried in between.
    drive.read(52, said()).await;
    for n in 1001..1070 {
        assert_eq!(drive.read(n, said().next(n + 1)).await.gaps, 0, "page {n}");
    }
}

async fn a_followed_cursor_is_asked_once<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1, 2, 2]), at(0)).await;
    assert_eq!(drive.pending, 2);
    let counts = drive.read(1, said().follow(3).follow(2).follow(3).follow(1)).await;
    assert_eq!((counts.followed, counts.gaps), (1, 0));
    drive.read(2, said().follow(3)).await;
    drive.read(3, said().follow(1)).await;
    drive.idle().await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
}

async fn last_seen_moves_without_news<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().names(&["a", "b"])).await;
    for hour in 1..=40 {
        let drive = Drive::begin(store, plan_of(Mode::Incremental, &[1]), at(hour)).await;
        drive.read(1, said().names(&["a"])).await;
        drive.end(RunOutcome::Complete).await;
    }
    let (a, b) = (one(store, "a").await, one(store, "b").await);
    assert_eq!((a.first_seen, a.last_seen), (at(0), at(40)));
    assert_eq!((b.first_seen, b.last_seen), (at(0), at(0)));
    // Seen by an older run than the newest ones: the memory of it is folded, not lost.
    let drive = Drive::begin(store, plan_of(Mode::Incremental, &[1]), at(41)).await;
    drive.read(1, said().names(&["b"])).await;
    drive.end(RunOutcome::Complete).await;
    for hour in 42..=80 {
        let drive = Drive::begin(store, plan_of(Mode::Incremental, &[1]), at(hour)).await;
        drive.read(1, said().names(&["a"])).await;
        drive.end(RunOutcome::Complete).await;
    }
    assert_eq!(one(store, "b").await.last_seen, at(41));
    list(store, at(90), said().names(&["a"])).await;
    assert_eq!(one(store, "b").await.last_seen, at(41));
    assert_eq!(one(store, "a").await.last_seen, at(90));
    assert!(news(store).await.iter().all(|n| n.starts_with("New")), "no news in all that");
}
