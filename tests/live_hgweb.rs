//! A real hgweb, listed by the real client: what is listed is what is on its disk, and Mercurial takes the
//! addresses.
//!
//! Runs where `LAMPLIGHTER_HGWEB=required`, as `scripts/test` sets it where Mercurial is installed. In CI it
//! must be.
#![cfg(all(feature = "html", feature = "reqwest", unix))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod live;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore, RunOutcome};
use lamplighter::model::Timestamp;
use live::{Live, detect, is_required, list};
use url::Url;

/// The root in JSON, which has no addresses; then it and five directories in HTML.
const REQUESTS: u64 = 1 + 6;
const REPOSITORIES: u64 = 34;

/// What Mercurial says is at an address.
fn tip(url: &str) -> String {
    let hg = std::env::var_os("HG").unwrap_or_else(|| "hg".into());
    let output = Command::new(hg)
        .args(["identify", "--id", "--rev", "tip", url])
        .env("HGRCPATH", "/dev/null")
        .env("HGPLAIN", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_real_hgweb_is_listed_whole_and_mercurial_takes_its_addresses() {
    if !is_required("LAMPLIGHTER_HGWEB", "hgweb") {
        return;
    }
    let live = Live::start("hgweb.sh", "/");
    let found = detect(&live.url).await;
    assert_eq!((found.lister, found.url.as_ref()), ("hgweb", Some(&live.url)), "{found:?}");
    let table = std::fs::read_to_string(live.room.path().join("repositories")).unwrap();
    let on_disk: BTreeMap<String, (Timestamp, &str)> = table
        .lines()
        .map(|line| {
            let [path, date, tip] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
            assert!(live.room.path().join("hg").join(path).join(".hg").is_dir(), "{path}");
            (path.to_owned(), (Timestamp::parse(date).unwrap(), tip))
        })
        .collect();
    assert_eq!(on_disk.len() as u64, REPOSITORIES);

    let store = Arc::new(MemoryStore::new());
    let report = list("hgweb", &live.url, &store).await;
    assert_eq!(report.outcome, RunOutcome::Complete, "{report:?}");
    assert!(report.gaps.is_empty() && report.skipped == 0, "{report:?}");
    assert_eq!((report.requests, report.origins()), (REQUESTS, REPOSITORIES));

    let listed = store.origins(&OriginQuery::everything(), None, 1000).await.unwrap();
    assert!(listed.next.is_none());
    let mut by_path = BTreeMap::new();
    for (_, origin) in &listed.origins {
        let below = origin.url.strip_prefix(live.url.as_str()).unwrap_or_else(|| panic!("{}", origin.url));
        // The path that the URL means, by another reader of URLs than the lister is.
        let path = Url::parse(&format!("file:///{below}")).unwrap().to_file_path().unwrap();
        let path = path.strip_prefix("/").unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        by_path.insert(path, (origin.last_update.unwrap(), origin.url.as_str()));
    }
    let dates = |of: &BTreeMap<String, (Timestamp, &str)>| -> BTreeMap<String, Timestamp> {
        of.iter().map(|(path, (date, _))| (path.clone(), *date)).collect()
    };
    assert_eq!(dates(&by_path), dates(&on_disk));
    // What makes this listing worth while is really among them.
    for odd in
        ["with space", "ünï", "100% & more", "libs/c++", "libs/日本語", "libs/a#b?c;d", "sub/deep/er/still"]
    {
        assert!(by_path.contains_key(odd), "{odd}");
    }
    for (path, (_, url)) in &by_path {
        // Every repository's commit is its own: this is the right one.
        assert_eq!(tip(url), on_disk[path].1, "{url}");
    }

    let again = list("hgweb", &live.url, &store).await;
    assert_eq!((again.outcome, again.requests), (RunOutcome::Complete, REQUESTS));
    assert_eq!(again.counts.unchanged, REPOSITORIES);
}
