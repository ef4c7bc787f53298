//! A real Fossil server, listed by the real client: what is listed is what is on its disk, and Fossil clones it.
//!
//! Runs where `LAMPLIGHTER_FOSSIL=required`, as `scripts/test` sets it where Fossil is installed. In CI it must be.
#![cfg(all(feature = "html", feature = "reqwest", unix))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail this way")]

mod live;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore, RunOutcome};
use lamplighter::model::Timestamp;
use live::{Live, detect, is_required, list};

#[tokio::test]
async fn a_real_fossil_server_is_listed_whole_and_cloned_from() {
    if !is_required("LAMPLIGHTER_FOSSIL", "Fossil server") {
        return;
    }
    let live = Live::start("fossil.sh", "/");
    let found = detect(&live.url).await;
    assert_eq!((found.lister, found.url.as_ref()), ("fossil", Some(&live.url)), "{found:?}");
    let table = std::fs::read_to_string(live.room.path().join("repositories")).unwrap();
    let on_disk: BTreeMap<&str, (Timestamp, bool)> = table
        .lines()
        .map(|line| {
            let [path, date, served] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
            assert!(live.room.path().join("fossil").join(format!("{path}.fossil")).is_file(), "{path}");
            (path, (Timestamp::parse(date).unwrap(), served == "served"))
        })
        .collect();

    let store = Arc::new(MemoryStore::new());
    let report = list("fossil", &live.url, &store).await;
    assert_eq!((report.outcome, report.requests), (RunOutcome::Complete, 1), "{report:?}");
    assert_eq!((report.skipped, report.origins()), (0, on_disk.len() as u64));

    let listed = store.origins(&OriginQuery::everything(), None, 1000).await.unwrap();
    let mut names = Vec::new();
    for (_, origin) in &listed.origins {
        let below = origin.url.strip_prefix(live.url.as_str()).unwrap_or_else(|| panic!("{}", origin.url));
        // Fossil writes a space so.
        let pair = format!("name={}", below.replace('&', "%26"));
        let (_, name) = url::form_urlencoded::parse(pair.as_bytes()).next().unwrap();
        let (date, served) = on_disk[&*name];
        let off = (origin.last_update.unwrap().as_seconds() - date.as_seconds()).abs();
        assert!(off <= 90, "{name}: {:?} for {date}", origin.last_update);
        assert_eq!(origin.visit_type.as_str(), "fossil");
        names.push(name.into_owned());
        // One of each directory is cloned.
        if served && !below.contains("tool-0") {
            let clone = live.room.path().join("clone.fossil");
            let _ = std::fs::remove_file(&clone);
            let output = Command::new("fossil")
                .args(["clone", &origin.url])
                .arg(&clone)
                .env("HOME", live.room.path())
                .env("USER", "ada")
                .output()
                .unwrap();
            assert!(output.status.success(), "{}: {}", origin.url, String::from_utf8_lossy(&output.stdout));
        }
    }
    names.sort();
    assert_eq!(names, on_disk.keys().copied().collect::<Vec<_>>());
}
