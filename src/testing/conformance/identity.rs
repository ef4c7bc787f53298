//! Identity: a forge's id is the origin, whatever its URL.

use std::collections::BTreeSet;
use std::future::Future;

use super::claims::{outcome, succeed, take, urls};
use super::kit::{Drive, Said, all, at, import_all, key, list, news, one, origin, plan, said, url};
use super::renames::renames;
use crate::backend::{ChangeKind, ChangeToken, Hint, OriginQuery, RunPlan, SchedulerBackend, VisitRequest};
use crate::lister::Mode;
use crate::model::{GoneReason, ListerKey, NewOrigin, Timestamp, VisitStats, VisitStatus, VisitType};

/// Renames, transfers, reused names, and what two listers say of one URL.
pub async fn identity<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    a_renamed_origin_keeps_its_history(&make().await).await;
    a_former_url_is_answered(&make().await).await;
    a_reused_name_is_another_origin(&make().await).await;
    the_last_to_bear_a_url_answers(&make().await).await;
    names_may_be_exchanged(&make().await).await;
    an_id_that_appears_is_adopted(&make().await).await;
    two_urls_of_one_id_on_a_page_are_one_origin(&make().await).await;
    what_failures_did_was_the_old_url_s(&make().await).await;
    a_visit_under_way_is_the_renamed_origin_s(&make().await).await;
    ids_of_listers_and_types_are_their_own(&make().await).await;
    another_lister_s_listing_stays_where_it_is(&make().await).await;
    two_listers_that_tell_of_a_rename_end_with_one_origin(&make().await).await;
    a_visit_survives_that_its_origin_was_joined(&make().await).await;
    what_nobody_lists_any_more_makes_room(&make().await).await;
    what_people_said_stays_with_what_they_meant(&make().await).await;
    a_name_reused_beside_another_lister_is_split(&make().await).await;
    an_import_knows_former_urls(&make().await).await;
    a_url_is_kept_as_it_was_given(&make().await).await;
    parts_go_along_with_their_origin(&make().await).await;
    renames(&make, 1, 60).await;
}

pub(super) fn named(name: &str, id: u64) -> NewOrigin {
    origin(name).with_forge_id(id)
}

fn ids(of: &[(&str, u64)]) -> Said {
    of.iter().fold(said(), |said, (name, id)| said.origin(named(name, *id)))
}

async fn stats<B: SchedulerBackend>(store: &B, name: &str) -> VisitStats {
    let found = store.stats(&[key(name)]).await.unwrap().remove(0);
    found.unwrap_or_else(|| panic!("{name} is answered"))
}

async fn visit_all<B: SchedulerBackend>(store: &B, now: Timestamp) {
    let visits = take(store, 100, now).await;
    succeed(store, &visits, now).await;
}

async fn a_renamed_origin_keeps_its_history<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1), ("b", 2)])).await;
    let visits = take(store, 1, at(1)).await;
    let report = outcome(&visits[0], VisitStatus::Successful, at(1)).with_snapshot("s1");
    store.complete(&[report], at(1)).await.unwrap()[0].clone().unwrap();
    let counts = list(store, at(20), ids(&[("moved/a2", 1), ("b", 2)])).await;
    assert_eq!((counts.new, counts.changed, counts.renamed, counts.unchanged), (0, 1, 1, 1));
    assert_eq!(counts.gone, 0);
    let listed = all(store).await;
    assert_eq!(listed.iter().map(|o| o.url.clone()).collect::<Vec<_>>(), [url("b"), url("moved/a2")]);
    let a = one(store, "moved/a2").await;
    assert_eq!((a.first_seen, a.last_seen), (at(0), at(20)));
    assert_eq!((a.former_urls, a.forge_id.as_deref()), (vec![url("a")], Some("1")));
    let stats = stats(store, "moved/a2").await;
    assert_eq!(
        (stats.visits, stats.last_visit, stats.last_snapshot.as_deref()),
        (1, Some(at(1)), Some("s1"))
    );
    // The feed tells both URLs, and each change with the URL of its time.
    assert_eq!(news(store).await, ["New a", "New b", "Renamed a2"]);
    let told = store.changes(ChangeToken(0), 10).await.unwrap();
    assert_eq!((told[2].kind, told[2].old_url.clone()), (ChangeKind::Renamed, Some(url("a"))));
    assert!(told[..2].iter().all(|c| c.old_url.is_none()));
    // The visit is of the new URL, and nothing waits under the old one.
    let next = take(store, 9, at(30)).await;
    assert_eq!(urls(&next).into_iter().collect::<BTreeSet<_>>().len(), 2);
    assert!(next.iter().any(|v| v.url == url("moved/a2") && v.visit == visits[0].visit));
    assert_eq!(list(store, at(40), ids(&[("moved/a2", 1), ("b", 2)])).await.unchanged, 2);
}

async fn a_former_url_is_answered<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1), ("x", 9)])).await;
    visit_all(store, at(1)).await;
    list(store, at(20), ids(&[("b", 1), ("x", 9)])).await;
    list(store, at(21), ids(&[("c", 1), ("x", 9)])).await;
    assert_eq!(one(store, "c").await.former_urls, [url("a"), url("b")]);
    for old in ["a", "b"] {
        let mut query = OriginQuery::everything();
        query.url = Some(url(old));
        let found = store.origins(&query, None, 9).await.unwrap();
        assert_eq!((found.origins.len(), found.next), (1, None));
        assert_eq!(found.origins[0].1.url, url("c"));
        assert_eq!(stats(store, old).await.visits, 1);
        let explained = store.explain(&key(old), at(22)).await.unwrap().unwrap();
        assert_eq!(explained.origin, key("c"));
    }
    let mut prefix = OriginQuery::everything();
    prefix.url_prefix = Some(url("a"));
    assert_eq!(store.origins(&prefix, None, 9).await.unwrap().origins.len(), 1);
    let wish = VisitRequest::new(key("a"), "somebody");
    assert_eq!(store.request(&[wish], at(22)).await.unwrap()[0].as_ref().unwrap().due, Some(at(22)));
    let hint = Hint::new(key("a"), at(22), "events");
    assert!(store.hint(&[hint], at(22)).await.unwrap()[0].known);
    assert_eq!(store.set_disabled(&[key("b")], Some("asked to"), at(22)).await.unwrap(), 1);
    assert!(one(store, "c").await.disabled_by_hand.is_some());
    // And back to where it was: it bears that URL again.
    list(store, at(23), ids(&[("a", 1), ("x", 9)])).await;
    assert_eq!(one(store, "a").await.former_urls, [url("b"), url("c")]);
    assert_eq!(stats(store, "c").await.visits, 1);
    assert_eq!(all(store).await.len(), 2);
}

async fn a_reused_name_is_another_origin<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1)])).await;
    visit_all(store, at(1)).await;
    let counts = list(store, at(20), ids(&[("a", 2)])).await;
    assert_eq!((counts.new, counts.changed, counts.renamed, counts.gone), (1, 0, 0, 1));
    let mut both = all(store).await;
    both.sort_by_key(|o| o.forge_id.clone());
    assert_eq!(both.len(), 2);
    assert_eq!(both[0].gone.map(|g| (g.at, g.reason)), Some((at(20), GoneReason::NameReused)));
    assert_eq!((both[1].gone, both[1].first_seen), (None, at(20)));
    assert_eq!(stats(store, "a").await.visits, 0, "the name is the new one's");
    assert_eq!(take(store, 9, at(40)).await.len(), 1, "and only it is visited");
    // The old one turns up elsewhere: it is back, with its history.
    let counts = list(store, at(41), ids(&[("a", 2), ("b", 1)])).await;
    assert_eq!((counts.new, counts.changed, counts.renamed), (0, 1, 1));
    let b = one(store, "b").await;
    assert_eq!((b.gone, b.first_seen, b.former_urls), (None, at(0), vec![url("a")]));
    assert_eq!(stats(store, "b").await.visits, 1);
    assert_eq!(stats(store, "a").await.visits, 0, "a URL that somebody bears is theirs");
    assert_eq!(news(store).await, ["New a", "Gone a", "New a", "Back b"]);
    let back = store.changes(ChangeToken(0), 10).await.unwrap().pop().unwrap();
    assert_eq!(back.old_url, Some(url("a")));
    // Nobody bears it now: the one that had it last answers.
    list(store, at(42), ids(&[("d", 2), ("b", 1)])).await;
    assert_eq!(store.explain(&key("a"), at(42)).await.unwrap().unwrap().origin, key("d"));
}

async fn the_last_to_bear_a_url_answers<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1)])).await;
    list(store, at(1), ids(&[("a", 2)])).await;
    list(store, at(2), ids(&[("b", 2)])).await;
    // The first one turns up again last, but it had lost the name first.
    list(store, at(3), ids(&[("b", 2), ("c", 1)])).await;
    assert_eq!(store.explain(&key("a"), at(3)).await.unwrap().unwrap().origin, key("b"));
    // Another one has its name again, and leaves it once more: now it was the last.
    list(store, at(4), ids(&[("m", 7)])).await;
    list(store, at(5), ids(&[("m", 8)])).await;
    list(store, at(6), ids(&[("n", 8)])).await;
    list(store, at(7), ids(&[("n", 8), ("m", 7)])).await;
    assert_eq!(one(store, "m").await.former_urls, [""; 0]);
    list(store, at(8), ids(&[("n", 8), ("o", 7)])).await;
    assert_eq!(store.explain(&key("m"), at(8)).await.unwrap().unwrap().origin, key("o"));
}

async fn names_may_be_exchanged<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1), ("b", 2), ("c", 3)])).await;
    for (name, snapshot) in [("a", "s1"), ("b", "s2"), ("c", "s3")] {
        let visits = take(store, 1, at(1)).await;
        assert_eq!(visits[0].url, url(name));
        let report = outcome(&visits[0], VisitStatus::Successful, at(1)).with_snapshot(snapshot);
        store.complete(&[report], at(1)).await.unwrap()[0].clone().unwrap();
    }
    let counts = list(store, at(20), ids(&[("b", 1), ("c", 2), ("a", 3)])).await;
    assert_eq!((counts.new, counts.changed, counts.renamed), (0, 3, 3));
    for (name, snapshot, id) in [("b", "s1", "1"), ("c", "s2", "2"), ("a", "s3", "3")] {
        assert_eq!(stats(store, name).await.last_snapshot.as_deref(), Some(snapshot));
        let found = one(store, name).await;
        assert_eq!((found.forge_id.as_deref(), found.gone, found.first_seen), (Some(id), None, at(0)));
    }
    assert_eq!(all(store).await.len(), 3);
    assert_eq!(take(store, 9, at(40)).await.len(), 3);
}

async fn an_id_that_appears_is_adopted<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let counts = list(store, at(1), ids(&[("a", 1)])).await;
    assert_eq!((counts.new, counts.changed), (0, 1));
    // A page without ids takes none away.
    assert_eq!(list(store, at(2), said().names(&["a"])).await.unchanged, 1);
    assert_eq!(list(store, at(3), ids(&[("b", 1)])).await.renamed, 1);
    assert_eq!((all(store).await.len(), one(store, "b").await.first_seen), (1, at(0)));
}

async fn two_urls_of_one_id_on_a_page_are_one_origin<B: SchedulerBackend>(store: &B) {
    for hour in 0..3 {
        let counts = list(store, at(hour), ids(&[("a", 1), ("b", 1)])).await;
        assert_eq!((counts.new, counts.renamed), (u64::from(hour == 0), 0), "the last URL counts, each time");
    }
    assert_eq!((all(store).await.len(), news(store).await.len()), (1, 1));
    assert_eq!(one(store, "b").await.forge_id.as_deref(), Some("1"));
    // The same id of another visit type is another thing.
    let mut hg = named("a", 1);
    hg.visit_type = VisitType::new("hg").unwrap();
    assert_eq!(list(store, at(4), said().origin(hg).origin(named("b", 1))).await.new, 1);
}

async fn what_failures_did_was_the_old_url_s<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1), ("b", 2)])).await;
    for visit in take(store, 2, at(1)).await {
        store.complete(&[outcome(&visit, VisitStatus::Failed, at(1))], at(1)).await.unwrap()[0]
            .clone()
            .unwrap();
    }
    assert!(take(store, 9, at(14)).await.is_empty(), "held for about a day");
    list(store, at(14), ids(&[("a2", 1), ("b", 2)])).await;
    assert_eq!(urls(&take(store, 9, at(14)).await), [url("a2")], "not at its new URL");
    assert_eq!(stats(store, "a2").await.failures_in_a_row, 0);
}

async fn a_visit_under_way_is_the_renamed_origin_s<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1)])).await;
    let visits = take(store, 1, at(1)).await;
    list(store, at(1), ids(&[("b", 1)])).await;
    assert!(take(store, 1, at(1)).await.is_empty(), "it is being visited");
    let done = store.complete(&[outcome(&visits[0], VisitStatus::Successful, at(1))], at(1)).await.unwrap();
    assert_eq!(done[0].as_ref().unwrap().origin, key("b"));
    assert_eq!(stats(store, "a").await.visits, 1);
    assert_eq!(urls(&take(store, 1, at(20)).await), [url("b")]);
}

fn mirror() -> ListerKey {
    ListerKey::new("conformance", "mirror.example")
}

/// A complete listing by another lister.
async fn list_of<B: SchedulerBackend>(store: &B, by: ListerKey, now: Timestamp, page: Said) -> u64 {
    let starts = vec![super::kit::page(1)];
    let drive = Drive::begin(store, RunPlan::new(by, Mode::Full, starts), now).await;
    drive.read(1, page).await;
    drive.prune().await.gone
}

async fn ids_of_listers_and_types_are_their_own<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1)])).await;
    list_of(store, mirror(), at(0), ids(&[("b", 1)])).await;
    assert_eq!(all(store).await.len(), 2, "another lister's 1 is another thing");
    list_of(store, mirror(), at(1), ids(&[("c", 1)])).await;
    assert_eq!(one(store, "a").await.gone, None);
    assert_eq!(one(store, "c").await.former_urls, [url("b")]);
}

async fn another_lister_s_listing_stays_where_it_is<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1)])).await;
    list_of(store, mirror(), at(0), said().names(&["a"])).await;
    visit_all(store, at(1)).await;
    let counts = list(store, at(20), ids(&[("b", 1)])).await;
    assert_eq!((counts.new, counts.renamed, counts.gone), (0, 1, 0));
    let listed = all(store).await;
    let of = |name: &str| listed.iter().filter(|o| o.url == url(name)).collect::<Vec<_>>();
    assert_eq!((of("a").len(), of("b").len()), (1, 1));
    assert_eq!((of("a")[0].lister, of("a")[0].gone), (mirror().id(), None));
    assert_eq!((of("b")[0].first_seen, of("b")[0].gone), (at(0), None));
    // Each knows what was known of the one that they were.
    assert_eq!((stats(store, "a").await.visits, stats(store, "b").await.visits), (1, 1));
    assert_eq!(take(store, 9, at(40)).await.len(), 2, "two URLs to visit");
    assert_eq!(list(store, at(41), ids(&[("b", 1)])).await.unchanged, 1);
    assert_eq!(list_of(store, mirror(), at(41), said().names(&["a"])).await, 0);
}

async fn two_listers_that_tell_of_a_rename_end_with_one_origin<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1)])).await;
    list_of(store, mirror(), at(0), ids(&[("a", 77)])).await;
    visit_all(store, at(1)).await;
    list(store, at(20), ids(&[("b", 1)])).await;
    assert_eq!(list_of(store, mirror(), at(21), ids(&[("b", 77)])).await, 0);
    let listed = all(store).await;
    assert_eq!(listed.len(), 2, "one row for each lister");
    for origin in &listed {
        assert_eq!((origin.url.clone(), origin.gone, origin.first_seen), (url("b"), None, at(0)));
        assert_eq!(origin.former_urls, [url("a")]);
    }
    let metrics = store.metrics(at(22)).await.unwrap();
    assert_eq!(metrics.iter().map(|m| (m.known, m.enabled)).collect::<Vec<_>>(), [(1, 1), (1, 1)]);
    for name in ["a", "b"] {
        assert_eq!(stats(store, name).await.visits, 1, "not counted twice");
    }
    assert_eq!(urls(&take(store, 9, at(40)).await), [url("b")]);
    let told = store.changes(ChangeToken(0), 10).await.unwrap();
    let renamed: Vec<_> = told.iter().filter(|c| c.kind == ChangeKind::Renamed).collect();
    assert_eq!(renamed.len(), 2);
    assert!(renamed.iter().all(|c| c.old_url == Some(url("a")) && c.url == url("b")));
    assert!(told.iter().filter(|c| c.kind == ChangeKind::New).all(|c| c.url == url("a")));
    // And from then on they go together.
    list(store, at(41), ids(&[("c", 1)])).await;
    list_of(store, mirror(), at(41), ids(&[("c", 77)])).await;
    assert!(all(store).await.iter().all(|o| o.url == url("c") && o.former_urls == [url("a"), url("b")]));
}

async fn a_visit_survives_that_its_origin_was_joined<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1)])).await;
    let visits = take(store, 1, at(1)).await;
    list_of(store, mirror(), at(1), said().names(&["b"])).await;
    // What is under way at the old URL belongs to a unit that the mirror had listed alone.
    list(store, at(1), ids(&[("b", 1)])).await;
    let done = store.complete(&[outcome(&visits[0], VisitStatus::Successful, at(1))], at(1)).await.unwrap();
    assert_eq!(done[0].as_ref().unwrap().origin, key("b"));
    assert_eq!((stats(store, "a").await.visits, stats(store, "b").await.visits), (1, 1));
    assert!(take(store, 9, at(2)).await.is_empty(), "visited an hour ago");
    assert_eq!(urls(&take(store, 9, at(20)).await), [url("b")]);
}

async fn what_nobody_lists_any_more_makes_room<B: SchedulerBackend>(store: &B) {
    list_of(store, mirror(), at(0), ids(&[("b", 5), ("x", 6)])).await;
    visit_all(store, at(1)).await;
    assert_eq!(list_of(store, mirror(), at(2), ids(&[("x", 6)])).await, 1, "b is gone");
    list(store, at(3), ids(&[("a", 1)])).await;
    list(store, at(4), ids(&[("b", 1)])).await;
    assert_eq!(stats(store, "b").await.visits, 0, "not the history of what was there before");
    let listed = all(store).await;
    let at_b: Vec<_> = listed.iter().filter(|o| o.url == url("b")).map(|o| o.gone.is_some()).collect();
    assert_eq!((listed.len(), at_b.iter().filter(|gone| **gone).count()), (3, 1), "two were at b, one is");
}

async fn what_people_said_stays_with_what_they_meant<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1), ("x", 2)])).await;
    list_of(store, mirror(), at(0), said().names(&["a", "y"])).await;
    store.request(&[VisitRequest::new(key("a"), "me")], at(1)).await.unwrap();
    store.set_disabled(&[key("x")], Some("asked to"), at(1)).await.unwrap();
    list(store, at(2), ids(&[("b", 1), ("y", 2)])).await;
    let asked = async |name: &str| store.explain(&key(name), at(2)).await.unwrap().unwrap().requested_by;
    assert_eq!((asked("a").await.as_deref(), asked("b").await), (Some("me"), None), "for what is at the URL");
    let stopped = |o: &crate::model::ListedOrigin| o.url == url("y") && o.disabled_by_hand.is_some();
    assert_eq!(
        all(store).await.iter().filter(|o| stopped(o)).count(),
        2,
        "a stop goes along, and holds for both"
    );
    // A request for what joins another unit goes along too.
    list(store, at(3), ids(&[("b", 1), ("y", 2), ("c", 3)])).await;
    list_of(store, mirror(), at(3), said().names(&["a", "y", "d"])).await;
    store.request(&[VisitRequest::new(key("c"), "you")], at(3)).await.unwrap();
    list(store, at(4), ids(&[("b", 1), ("y", 2), ("d", 3)])).await;
    assert_eq!(asked("d").await.as_deref(), Some("you"));
    let why = store.explain(&key("d"), at(4)).await.unwrap().unwrap();
    assert_eq!((why.reason.code.as_str(), why.earliest), ("requested", Some(at(4))));
}

async fn a_name_reused_beside_another_lister_is_split<B: SchedulerBackend>(store: &B) {
    list(store, at(0), ids(&[("a", 1)])).await;
    list_of(store, mirror(), at(0), said().names(&["a"])).await;
    list(store, at(5), ids(&[("a", 1)])).await;
    let counts = list(store, at(9), ids(&[("a", 2)])).await;
    assert_eq!((counts.new, counts.gone), (1, 1));
    let listed = all(store).await;
    let of = |id: Option<&str>| listed.iter().find(|o| o.forge_id.as_deref() == id).unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!((of(Some("1")).gone.is_some(), of(Some("1")).last_seen), (true, at(5)));
    assert_eq!((of(Some("2")).gone, of(Some("2")).first_seen, of(None).gone), (None, at(9), None));
    // It turns up elsewhere, and is itself.
    list(store, at(10), ids(&[("a", 2), ("b", 1)])).await;
    assert_eq!((one(store, "b").await.first_seen, all(store).await.len()), (at(0), 3));
}

async fn an_import_knows_former_urls<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    list(store, at(1), ids(&[("a", 1)])).await;
    list(store, at(2), ids(&[("b", 1)])).await;
    import_all(store, &["a"], at(3)).await;
    assert_eq!((all(store).await.len(), news(store).await.len()), (1, 3), "imported again, it is no news");
}

/// No URL is made another one: what the store says of an origin is what its lister said, and listed
/// again in the store's words it is the same origin.
async fn a_url_is_kept_as_it_was_given<B: SchedulerBackend>(store: &B) {
    let mut given: Vec<String> = Vec::new();
    for scheme in ["https", "HTTPS", "http", "git"] {
        for host in
            ["forge.example", "FORGE.example", "forge.example.", "forge.example:443", "u@forge.example"]
        {
            for path in
                ["", "/", "/a", "/A", "/a/", "/a.git", "/x/../a", "//a", "/%61", "/\u{fc}", "/u\u{308}"]
            {
                for rest in ["", "?", "?b=c#d", "#"] {
                    given.push(format!("{scheme}://{host}{path}{rest}"));
                }
            }
        }
    }
    let page = |urls: &[String]| {
        urls.iter().fold(said(), |said, url| said.origin(NewOrigin::new(url, VisitType::git())))
    };
    assert_eq!(list(store, at(0), page(&given)).await.new, given.len() as u64);
    let stored: Vec<String> = all(store).await.into_iter().map(|o| o.url).collect();
    assert_eq!(stored.iter().collect::<BTreeSet<_>>(), given.iter().collect());
    assert_eq!(list(store, at(1), page(&stored)).await.unchanged, given.len() as u64);
}

async fn parts_go_along_with_their_origin<B: SchedulerBackend>(store: &B) {
    use crate::model::Artifact;
    let with = |name: &str, key: &str| named(name, 1).with_artifact(Artifact::in_object("parts", key, 1));
    list(store, at(0), said().part("p").in_part("p", with("a", "x"))).await;
    list_of(store, mirror(), at(0), said().names(&["a"])).await;
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    drive.read(1, said().part("q").in_part("q", with("b", "y"))).await;
    drive.end(crate::backend::RunOutcome::Complete).await;
    let arguments = one(store, "b").await.extra_loader_arguments;
    assert_eq!(arguments.get("parts"), Some(&serde_json::json!({"x": 1, "y": 1})));
}
