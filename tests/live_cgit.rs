//! A real cgit, listed by the real client: what is listed is what is on its disk, and can be cloned.
//!
//! Runs where `LAMPLIGHTER_CGIT=required`, as `scripts/test` sets it where cgit and lighttpd are
//! installed. In CI it must be.
#![cfg(all(feature = "html", feature = "reqwest", unix))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod live;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore, RunOutcome};
use lamplighter::driver::RunReport;
use lamplighter::model::Timestamp;
use live::{Live, branches_at, branches_in, detect, is_required, list};
use url::Url;

/// What the site shows on a page of its index, and how many repositories it has.
const INDEX_PAGES: u64 = 4;
const REPOSITORIES: u64 = 67;

/// The disk under the server.
struct Disk<'a>(&'a Live);

impl Disk<'_> {
    fn on_disk(&self) -> PathBuf {
        self.0.room.path().join("git")
    }

    /// Of each repository on the disk the date that the index shows.
    fn repositories(&self) -> BTreeMap<PathBuf, Option<Timestamp>> {
        let table = std::fs::read_to_string(self.0.room.path().join("repositories")).unwrap();
        let dated: BTreeMap<PathBuf, Option<Timestamp>> = table
            .lines()
            .map(|line| line.split_once('\t').unwrap())
            .map(|(path, date)| (path.into(), (date != "-").then(|| Timestamp::parse(date).unwrap())))
            .collect();
        let mut found = Vec::new();
        find_repositories(&self.on_disk(), &mut found);
        let mut found: Vec<PathBuf> =
            found.iter().map(|path| path.strip_prefix(self.on_disk()).unwrap().to_owned()).collect();
        found.sort();
        assert_eq!(found, dated.keys().cloned().collect::<Vec<_>>(), "the table is what is on the disk");
        dated
    }
}

fn find_repositories(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.join("HEAD").is_file() {
            found.push(entry);
        } else if entry.is_dir() {
            find_repositories(&entry, found);
        }
    }
}

fn is_whole(report: &RunReport) {
    assert_eq!(report.outcome, RunOutcome::Complete, "{report:?}");
    assert!(report.gaps.is_empty() && report.error.is_none() && report.skipped == 0, "{report:?}");
    assert_eq!(report.origins(), REPOSITORIES);
}

#[tokio::test]
async fn a_real_cgit_is_listed_whole_and_again_for_its_index_alone() {
    if !is_required("LAMPLIGHTER_CGIT", "cgit") {
        return;
    }
    let live = Live::start("cgit.sh", "/cgit/");
    let found = detect(&live.url).await;
    assert_eq!((found.lister, found.url.as_ref()), ("cgit", Some(&live.url)), "{found:?}");
    assert!(found.version.is_some(), "{found:?}");
    let disk = Disk(&live);
    let on_disk = disk.repositories();
    assert_eq!(on_disk.len() as u64, REPOSITORIES);
    let store = Arc::new(MemoryStore::new());
    let first = list("cgit", &live.url, &store).await;
    is_whole(&first);
    assert_eq!((first.requests, first.counts.new), (INDEX_PAGES + REPOSITORIES, REPOSITORIES));

    let listed = store.origins(&OriginQuery::everything(), None, 1000).await.unwrap();
    assert!(listed.next.is_none());
    let mut by_path = BTreeMap::new();
    for (_, origin) in &listed.origins {
        let below = origin.url.strip_prefix(live.url.as_str()).unwrap_or_else(|| panic!("{}", origin.url));
        // The path that the URL means, by another reader of URLs than the lister is.
        let path = Url::parse(&format!("file:///{below}")).unwrap().to_file_path().unwrap();
        let path = path.strip_prefix("/").unwrap().to_owned();
        assert_eq!(by_path.insert(path, origin.last_update), None, "{} is there twice", origin.url);
    }
    assert_eq!(by_path, on_disk);
    // What makes this listing worth while is really among them.
    for odd in [
        "with space.git",
        "two more  spaces.git",
        "libs/c++parser.git",
        "libs/ünïcode.git",
        "libs/日本語.git",
        "libs/it's 100%.git",
        "deep/a/b/c/nested.git",
        "empty.git",
    ] {
        assert!(by_path.contains_key(Path::new(odd)), "{odd}");
    }

    let mut empty = Vec::new();
    for (_, origin) in &listed.origins {
        let below = origin.url.strip_prefix(live.url.as_str()).unwrap();
        let path = Url::parse(&format!("file:///{below}")).unwrap().to_file_path().unwrap();
        let folder = disk.on_disk().join(path.strip_prefix("/").unwrap());
        let there = branches_at(&origin.url);
        // Every repository's commit is its own: this is the right one.
        assert_eq!(there, branches_in(&folder), "{}", origin.url);
        if there.is_empty() {
            empty.push(path);
        }
    }
    assert_eq!(empty, [Path::new("/empty.git")], "git accepts the URL of the empty one as well");

    let second = list("cgit", &live.url, &store).await;
    is_whole(&second);
    assert_eq!((second.requests, second.counts.unchanged), (INDEX_PAGES, REPOSITORIES));
}
