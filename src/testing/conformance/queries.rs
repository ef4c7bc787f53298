//! Queries: complete, in order, and what was asked for.

use std::collections::BTreeSet;
use std::future::Future;

use super::claims::{outcome, take};
use super::kit::{HOUR, all, at, import_all, key, list, lister, news, one, origin, said, url};
use crate::backend::{
    ChangeToken, Claim, Explanation, ImportedOrigin, ImportedVisits, OriginQuery, SchedulerBackend,
};
use crate::model::{ListerKey, OriginKey, VisitStatus, VisitType};
use crate::policy::Gate;

/// Paging: nothing lost, nothing twice.
pub async fn paging<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    several_types_of_a_url_and_inserts_lose_nothing(&make().await).await;
    a_query_gives_what_it_asks_for(&make().await).await;
    changes_come_in_pages(&make().await).await;
}

fn typed(name: &str, visit_type: &str, lister: &ListerKey) -> ImportedOrigin {
    ImportedOrigin::new(lister, url(name), VisitType::new(visit_type).unwrap())
}

async fn several_types_of_a_url_and_inserts_lose_nothing<B: SchedulerBackend>(store: &B) {
    let mirror = ListerKey::new("conformance", "mirror.example");
    let mut known = BTreeSet::new();
    for n in 0..15 {
        for visit_type in ["git", "hg", "svn"] {
            for by in [&lister(), &mirror] {
                store.import(vec![typed(&format!("r{n}"), visit_type, by)], at(0)).await.unwrap();
                known.insert((by.instance.clone(), url(&format!("r{n}")), visit_type.to_owned()));
            }
        }
    }
    for limit in [1, 2, 7, 1000] {
        let mut seen = Vec::new();
        let mut after = None;
        let mut pages = 0;
        loop {
            let page = store.origins(&OriginQuery::default(), after.clone(), limit).await.unwrap();
            assert!(page.origins.len() <= limit);
            assert!(page.next.is_none() || page.origins.len() == limit, "only the last page is short");
            pages += 1;
            seen.extend(
                page.origins.into_iter().map(|(by, o)| (by.instance, o.url, o.visit_type.to_string())),
            );
            assert!(page.next.is_none() || page.next != after, "by {limit}: a page goes on");
            after = page.next;
            if after.is_none() {
                break;
            }
            // What comes meanwhile may or may not be seen, and disturbs nothing.
            if pages <= 5 {
                import_all(store, &[&format!("later-{limit}-{pages}")], at(1)).await;
            }
        }
        let old: Vec<_> = seen.iter().filter(|s| !s.1.contains("later")).cloned().collect();
        assert_eq!(old.len(), known.len(), "by {limit}: none twice");
        assert_eq!(old.into_iter().collect::<BTreeSet<_>>(), known, "by {limit}: none lost");
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
    }
}

async fn a_query_gives_what_it_asks_for<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().names(&["a", "b", "gone"]).origin(origin("off").with_enabled(false))).await;
    let mut gone = said().names(&["a", "b"]);
    gone.0.gone.push((key("gone"), crate::model::GoneReason::Deleted));
    list(store, at(1), gone).await;
    let mirror = ListerKey::new("other", "mirror.example");
    store.import(vec![typed("a", "hg", &mirror), typed("m", "git", &mirror)], at(1)).await.unwrap();
    store.set_disabled(&[key("b")], Some("by hand"), at(1)).await.unwrap();
    let names = async |query: OriginQuery| {
        let page = store.origins(&query, None, 100).await.unwrap();
        assert_eq!(page.next, None);
        page.origins
            .into_iter()
            .map(|(by, o)| format!("{} {} {}", by.name, o.url, o.visit_type))
            .collect::<BTreeSet<_>>()
    };
    let row = |by: &str, name: &str, visit_type: &str| format!("{by} {} {visit_type}", url(name));
    let live = [row("conformance", "a", "git"), row("other", "a", "hg"), row("other", "m", "git")];
    assert_eq!(names(OriginQuery::default()).await, BTreeSet::from(live.clone()));
    assert_eq!(names(OriginQuery::everything()).await.len(), 6, "and gone, disabled and not enabled ones");
    let of = |f: fn(&mut OriginQuery)| {
        let mut query = OriginQuery::default();
        f(&mut query);
        query
    };
    assert_eq!(
        names(of(|q| q.lister = Some("other".into()))).await,
        BTreeSet::from([live[1].clone(), live[2].clone()])
    );
    assert_eq!(
        names(of(|q| q.instance = Some("forge.example".into()))).await,
        BTreeSet::from([live[0].clone()])
    );
    assert_eq!(
        names(of(|q| q.visit_type = VisitType::new("hg").ok())).await,
        BTreeSet::from([live[1].clone()])
    );
    assert_eq!(names(of(|q| q.url_prefix = Some(url("m")))).await, BTreeSet::from([live[2].clone()]));
    assert!(names(of(|q| q.lister = Some("nobody".into()))).await.is_empty());
}

async fn changes_come_in_pages<B: SchedulerBackend>(store: &B) {
    let names: Vec<String> = (0..25).map(|n| format!("r{n}")).collect();
    for chunk in names.chunks(10) {
        import_all(store, &chunk.iter().map(String::as_str).collect::<Vec<_>>(), at(0)).await;
    }
    list(store, at(1), said().origin(origin("r3").with_archived(true)).names(&["x"])).await;
    let mut after = ChangeToken(0);
    let mut seen = Vec::new();
    loop {
        let page = store.changes(after, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4 && page[0].token > after);
        after = last.token;
        seen.extend(page);
    }
    let urls: Vec<_> = seen.iter().map(|c| c.url.clone()).collect();
    let expected = names.iter().map(|n| url(n)).chain([url("r3"), url("x")]);
    assert_eq!(urls, expected.collect::<Vec<_>>());
    assert_eq!((seen[25].at, seen[0].at, seen[0].instance.as_str()), (at(1), at(0), "forge.example"));
}

/// Imports: repeatable, and merged with what is known.
pub async fn import<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    let store = &make().await;
    let mut visited = ImportedOrigin::new(&lister(), url("a"), VisitType::git());
    visited.first_seen = Some(at(-90));
    visited.last_update = Some(at(-10));
    visited.visits = Some(ImportedVisits {
        last_visit: Some(at(-3)),
        last_successful: Some(at(-7)),
        status: Some(VisitStatus::Failed),
        last_snapshot: Some("s1".to_owned()),
        ..ImportedVisits::default()
    });
    let plain = ImportedOrigin::new(&lister(), url("b"), VisitType::git());
    let refused = ImportedOrigin::new(&lister(), "git@forge.example:c.git", VisitType::git());
    let batch = vec![visited.clone(), plain, refused];
    let first = store.import(batch.clone(), at(0)).await.unwrap();
    assert_eq!((first.new, first.changed, first.unchanged, first.refused), (2, 0, 0, 1));
    let before = (all(store).await, store.stats(&[key("a"), key("b")]).await.unwrap(), news(store).await);
    let again = store.import(batch, at(5)).await.unwrap();
    assert_eq!((again.new, again.changed, again.unchanged, again.refused), (0, 0, 2, 1));
    let after = (all(store).await, store.stats(&[key("a"), key("b")]).await.unwrap(), news(store).await);
    assert_eq!(before, after, "repeating it changes nothing");
    let a = one(store, "a").await;
    assert_eq!((a.first_seen, a.last_update), (at(-90), Some(at(-10))));
    let stats = before.1[0].clone().unwrap();
    assert_eq!((stats.last_visit, stats.last_successful), (Some(at(-3)), Some(at(-7))));
    assert_eq!((stats.last_status, stats.last_snapshot.as_deref()), (Some(VisitStatus::Failed), Some("s1")));
    assert_eq!(one(store, "b").await.first_seen, at(0), "now, where unknown");
    // Newer knowledge is taken, older is not.
    let news_of_a = |hour, snapshot: &str| {
        let mut newer = visited.clone();
        newer.last_update = Some(at(hour));
        newer.visits = Some(ImportedVisits {
            last_visit: Some(at(hour)),
            last_successful: Some(at(hour)),
            status: Some(VisitStatus::Successful),
            last_snapshot: Some(snapshot.to_owned()),
            ..ImportedVisits::default()
        });
        vec![newer]
    };
    assert_eq!(store.import(news_of_a(-20, "s0"), at(6)).await.unwrap().unchanged, 1);
    assert_eq!(store.import(news_of_a(-1, "s2"), at(6)).await.unwrap().changed, 1);
    let stats = store.stats(&[key("a")]).await.unwrap()[0].clone().unwrap();
    assert_eq!(
        (stats.last_visit, stats.last_snapshot.as_deref(), stats.failures_in_a_row),
        (Some(at(-1)), Some("s2"), 0)
    );
    // What was imported is listed as any other: a listing that no longer names it retires it.
    let drive = super::kit::Drive::begin(store, super::kit::plan(&[1]), at(7)).await;
    drive.read(1, said().names(&["a"])).await;
    assert_eq!(drive.prune().await.gone, 1);
}

/// Statistics, explanations, metrics and lanes.
pub async fn queries<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    statistics_come_as_asked_for(&make().await).await;
    an_explanation_names_what_holds(&make().await).await;
    metrics_count_by_lister_and_type(&make().await).await;
}

async fn statistics_come_as_asked_for<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b"], at(0)).await;
    let visits = take(store, 1, at(0)).await;
    store.complete(&[outcome(&visits[0], VisitStatus::Partial, at(1))], at(1)).await.unwrap();
    let hg = OriginKey::new(url("a"), VisitType::new("hg").unwrap());
    let asked = [key("b"), key("unknown"), key("a"), hg, key("b"), key("a")];
    let got = store.stats(&asked).await.unwrap();
    let visits: Vec<_> = got.iter().map(|s| s.as_ref().map(|s| s.visits)).collect();
    assert_eq!(visits, [Some(0), None, Some(1), None, Some(0), Some(1)], "same length, same order");
    assert_eq!(got[2].as_ref().unwrap().last_status, Some(VisitStatus::Partial));
    assert!(store.stats(&[]).await.unwrap().is_empty());
}

async fn an_explanation_names_what_holds<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b", "c"], at(0)).await;
    assert!(store.explain(&key("unknown"), at(0)).await.unwrap().is_none());
    let why = store.explain(&key("c"), at(1)).await.unwrap().unwrap();
    assert_eq!((why.lane.as_deref(), why.ahead, why.earliest), (Some("oldest"), Some(2), Some(at(1))));
    assert_eq!((why.reason.code.as_str(), why.lease.is_none()), ("never_visited", true));
    let own =
        |why: &Explanation| why.gates.iter().filter(|g| g.gate != Gate::Lane).cloned().collect::<Vec<_>>();
    assert!(own(&why).iter().all(|g| g.open), "{:?}", why.gates);
    assert!(why.gates.iter().any(|g| g.gate == Gate::Lane && !g.open), "two are before it");
    let visits = take(store, 1, at(1)).await;
    let why = store.explain(&key("a"), at(1)).await.unwrap().unwrap();
    let lease = why.lease.clone().expect("a visit is under way");
    assert_eq!((lease.token, lease.owner.as_str()), (visits[0].token, "suite"));
    assert_eq!((lease.since, lease.until, why.earliest), (at(1), at(2), Some(at(2))));
    let shut: Vec<_> = own(&why).iter().filter(|g| !g.open).map(|g| (g.gate, g.opens_at)).collect();
    assert_eq!(shut, [(Gate::Lease, Some(at(2)))]);
    assert_eq!(store.explain(&key("c"), at(1)).await.unwrap().unwrap().ahead, Some(1));
    super::claims::succeed(store, &visits, at(1)).await;
    let why = store.explain(&key("a"), at(2)).await.unwrap().unwrap();
    assert_eq!((why.earliest, why.visits.visits), (Some(at(13)), 1));
    assert!(why.gates.iter().any(|g| g.gate == Gate::MinimumInterval && g.opens_at == Some(at(13))));
    // What explain says is what a claim then says.
    let next = store.peek(&Claim::new(VisitType::git(), 1), at(2)).await.unwrap().visits;
    let explained =
        store.explain(&OriginKey::new(&next[0].url, VisitType::git()), at(2)).await.unwrap().unwrap();
    assert_eq!((next[0].reason.clone(), Some(next[0].lane.clone())), (explained.reason, explained.lane));
}

async fn metrics_count_by_lister_and_type<B: SchedulerBackend>(store: &B) {
    let stale = |name: &str| {
        let mut origin = ImportedOrigin::new(&lister(), url(name), VisitType::git());
        origin.last_update = Some(at(-1));
        origin.visits = Some(ImportedVisits {
            last_visit: Some(at(-30)),
            last_successful: Some(at(-30)),
            status: Some(VisitStatus::Successful),
            last_snapshot: None,
            ..ImportedVisits::default()
        });
        origin
    };
    let mirror = ListerKey::new("other", "mirror.example");
    let hg = ImportedOrigin::new(&mirror, url("h"), VisitType::new("hg").unwrap());
    store.import(vec![stale("a"), stale("b"), hg], at(0)).await.unwrap();
    import_all(store, &["c", "d", "off"], at(0)).await;
    store.set_disabled(&[key("off")], Some("by hand"), at(0)).await.unwrap();
    take(store, 1, at(0)).await;
    let metrics = store.metrics(at(0)).await.unwrap();
    let kinds: Vec<_> = metrics.iter().map(|m| (m.lister.as_str(), m.visit_type.as_str(), m.known)).collect();
    assert_eq!(kinds, [("conformance", "git", 5), ("other", "hg", 1)]);
    let git = &metrics[0];
    assert_eq!((git.enabled, git.never_visited, git.pending_changes, git.leased), (4, 2, 2, 1));
    assert_eq!((git.overdue, git.oldest_visit), (4, Some(at(-30))));
    let lanes = store.lanes(&VisitType::git(), at(0)).await.unwrap();
    let loads: Vec<_> = lanes.iter().map(|l| (l.name.as_str(), l.waiting, l.due)).collect();
    assert_eq!(loads, [("requested", 0, 0), ("oldest", 3, 3)], "the leased one does not wait");
    assert!(store.lanes(&VisitType::new("svn").unwrap(), at(0)).await.unwrap().is_empty());
    let long_ago = store.lanes(&VisitType::git(), at(-30).plus(HOUR)).await.unwrap();
    assert_eq!(long_ago[1].due, 1, "the two visited ones were not due then");
}
