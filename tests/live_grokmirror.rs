//! A manifest that grokmirror's own tool made, served by a real lighttpd and listed by the real client: what is listed is
//! what is on the disk, and git takes the addresses.
//!
//! Runs where `LAMPLIGHTER_GROKMIRROR=required`, as `scripts/test` sets it where lighttpd and Python's environments are
//! installed. In CI it must be.
#![cfg(all(feature = "compression", feature = "reqwest", unix))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail this way")]

mod live;

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore, RunOutcome};
use lamplighter::model::Timestamp;
use live::{Live, branches_at, branches_in, detect, is_required, list};
use url::Url;

#[tokio::test]
async fn a_real_manifest_is_listed_whole_and_not_read_again_unchanged() {
    if !is_required("LAMPLIGHTER_GROKMIRROR", "manifest of grokmirror") {
        return;
    }
    let live = Live::start("grokmirror.sh", "/git/");
    let found = detect(&live.url).await;
    assert_eq!((found.lister, found.url.as_ref()), ("grokmirror", Some(&live.url)), "{found:?}");

    let table = std::fs::read_to_string(live.room.path().join("repositories")).unwrap();
    let on_disk: BTreeMap<String, (Timestamp, Option<String>)> = table
        .lines()
        .map(|line| {
            let [path, date, shared] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
            let shared = (shared != "-").then(|| shared.to_owned());
            (path.to_owned(), (Timestamp::parse(date).unwrap(), shared))
        })
        .collect();
    assert_eq!(on_disk.len(), 18);

    let store = Arc::new(MemoryStore::new());
    let first = list("grokmirror", &live.url, &store).await;
    assert_eq!((first.outcome, first.requests, first.skipped), (RunOutcome::Complete, 1, 0), "{first:?}");
    assert_eq!(first.origins(), on_disk.len() as u64);

    let listed = store.origins(&OriginQuery::everything(), None, 1000).await.unwrap();
    // The path that a URL means, by another reader of URLs than the lister is.
    let path_of = |url: &str| {
        let below = url.strip_prefix(live.url.as_str()).unwrap_or_else(|| panic!("{url}"));
        let path = Url::parse(&format!("file:///{below}")).unwrap().to_file_path().unwrap();
        path.strip_prefix("/").unwrap().to_str().unwrap().to_owned()
    };
    let mut by_path = BTreeMap::new();
    for (_, origin) in &listed.origins {
        let path = path_of(&origin.url);
        let folder = live.room.path().join("git").join(&path);
        let there = branches_at(&origin.url);
        // Every repository's commit is its own: this is the right one.
        let here = branches_in(&folder);
        assert!(!there.is_empty() && there == here, "{}: {there:?} for {here:?}", origin.url);
        let shared = origin.forked_from_url.as_deref().map(path_of);
        assert_eq!(origin.is_fork.unwrap_or(false), shared.is_some(), "{path}");
        by_path.insert(path, (origin.last_update.unwrap(), shared));
    }
    assert_eq!(by_path, on_disk);

    // The server gives a validator, and the same manifest is not sent again.
    let second = list("grokmirror", &live.url, &store).await;
    assert_eq!(
        (second.outcome, second.requests, second.counts.new),
        (RunOutcome::Complete, 1, 0),
        "{second:?}"
    );
}
