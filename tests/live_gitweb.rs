//! A real gitweb, listed by the real client: what is listed is what is on its disk, and git takes the addresses.
//!
//! Runs where `LAMPLIGHTER_GITWEB=required`, as `scripts/test` sets it where gitweb and lighttpd are installed.
//! In CI it must be.
#![cfg(all(feature = "html", feature = "xml", feature = "reqwest", unix))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod live;

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore, RunOutcome};
use lamplighter::model::Timestamp;
use live::{Live, branches_at, branches_in, detect, is_required, list};
use url::Url;

const REPOSITORIES: u64 = 16;

#[tokio::test]
async fn a_real_gitweb_is_listed_whole_and_again_for_its_indexes_alone() {
    if !is_required("LAMPLIGHTER_GITWEB", "gitweb") {
        return;
    }
    let live = Live::start("gitweb.sh", "/gitweb/");
    let found = detect(&live.url).await;
    assert_eq!((found.lister, found.url.as_ref()), ("gitweb", Some(&live.url)), "{found:?}");
    assert!(found.version.is_some(), "{found:?}");
    let table = std::fs::read_to_string(live.room.path().join("repositories")).unwrap();
    let on_disk: BTreeMap<String, Option<Timestamp>> = table
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(path, date)| (path.to_owned(), (date != "-").then(|| Timestamp::parse(date).unwrap())))
        .collect();
    assert_eq!(on_disk.len() as u64, REPOSITORIES);

    let store = Arc::new(MemoryStore::new());
    let first = list("gitweb", &live.url, &store).await;
    assert_eq!(first.outcome, RunOutcome::Complete, "{first:?}");
    assert!(first.gaps.is_empty() && first.skipped == 0, "{first:?}");
    // The index, that of the forks, and each repository.
    assert_eq!((first.requests, first.origins()), (2 + REPOSITORIES, REPOSITORIES));

    let listed = store.origins(&OriginQuery::everything(), None, 1000).await.unwrap();
    let base = live.url.join("/git/").unwrap();
    let mut by_path = BTreeMap::new();
    for (_, origin) in &listed.origins {
        let below = origin.url.strip_prefix(base.as_str()).unwrap_or_else(|| panic!("{}", origin.url));
        // The path that the URL means, by another reader of URLs than the lister is.
        let path = Url::parse(&format!("file:///{below}")).unwrap().to_file_path().unwrap();
        let path = path.strip_prefix("/").unwrap().to_str().unwrap().to_owned();
        let folder = live.room.path().join("git").join(&path);
        let there = branches_at(&origin.url);
        // Every repository's commit is its own: this is the right one.
        assert_eq!(there, branches_in(&folder), "{}", origin.url);
        assert_eq!(origin.empty, Some(there.is_empty()), "{path}");
        assert_eq!(origin.is_fork, (path == "tools/lamp/fork.git").then_some(true), "{path}");
        by_path.insert(path, origin.last_update);
    }
    assert_eq!(by_path, on_disk);

    let second = list("gitweb", &live.url, &store).await;
    assert_eq!((second.outcome, second.requests), (RunOutcome::Complete, 2), "{second:?}");
    assert_eq!(second.counts.unchanged, REPOSITORIES);
}
