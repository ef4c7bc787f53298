//! A real cgit, from its listing to what is visited next: cgit, lister, store, feeder, `ls-remote`,
//! outcomes, and the claims that follow from them.
//!
//! Runs where `LAMPLIGHTER_CGIT=required`, as `tests/live_cgit.rs` does.
#![cfg(all(
    feature = "html",
    feature = "reqwest",
    feature = "dispatch",
    feature = "file",
    feature = "postgres",
    unix
))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail this way")]

mod live;
#[path = "support/postgres.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter::backend::{
    FileStore, MemoryStore, OriginQuery, RunOutcome, SchedulerBackend, StoreOptions, VisitStore,
};
use lamplighter::dispatch::{Feed, Feeder, FeederOptions, LsRemote, Pool, PoolOptions};
use lamplighter::model::{OriginKey, Timestamp, VisitStats, VisitStatus, VisitType};
use lamplighter::policy::{Policies, named};
use lamplighter::transport::{Clock, SystemClock};
use live::{Live, client, is_required, list_at};
use server::Schemas;
use sha2::{Digest, Sha256};
use url::Url;

const REPOSITORIES: usize = 67;

/// Shows the time that it is set to; waits are real.
struct HandClock(Mutex<Timestamp>);

#[async_trait]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

fn git(folder: &Path, arguments: &[&str], date: i64) -> String {
    let date = format!("{date} +0000");
    let output = Command::new("git")
        .arg("--git-dir")
        .arg(folder)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_DATE"), date.clone())))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Ada Lamp")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "ada@example.org")))
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The folder of a repository on the disk.
fn folder(live: &Live, url: &str) -> PathBuf {
    let below = url.strip_prefix(live.url.as_str()).unwrap();
    let path = Url::parse(&format!("file:///{below}")).unwrap().to_file_path().unwrap();
    live.room.path().join("git").join(path.strip_prefix("/").unwrap())
}

/// The snapshot that a visit must name, from the disk.
fn on_disk(folder: &Path) -> String {
    let refs =
        git(folder, &["for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags"], 0);
    let mut lines: Vec<String> = refs.lines().map(str::to_owned).collect();
    if !lines.is_empty() {
        lines.push(format!("HEAD ref: {}", git(folder, &["symbolic-ref", "HEAD"], 0)));
    }
    lines.sort();
    let text = lines.iter().map(|l| format!("{l}\n")).collect::<Vec<_>>().concat();
    let digest = Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
    format!("refs:sha256:{digest}")
}

/// A commit in a repository, which the index shows with its date.
fn commit(folder: &Path, at: Timestamp) {
    let seconds = at.as_seconds();
    let head = git(folder, &["symbolic-ref", "HEAD"], 0);
    let tree = git(folder, &["rev-parse", "HEAD^{tree}"], 0);
    let made = git(folder, &["commit-tree", "-p", "HEAD", "-m", "another", &tree], seconds);
    git(folder, &["update-ref", &head, &made], 0);
    let shown = folder.join("info/web/last-modified");
    std::fs::create_dir_all(shown.parent().unwrap()).unwrap();
    let date = at.to_datetime().format("%Y-%m-%d %H:%M:%S +0000").to_string();
    std::fs::write(shown, date + "\n").unwrap();
}

/// The policy that listens to listers, without a guard: that is one claim in twenty which they do not decide.
fn options() -> StoreOptions {
    StoreOptions::default().with_policies(Policies::all(named("due,budget=3,guard=off").unwrap()))
}

struct Archive<'a> {
    live: &'a Live,
    store: Arc<dyn SchedulerBackend>,
    clock: Arc<HandClock>,
}

impl Archive<'_> {
    async fn list(&self) -> lamplighter::driver::RunReport {
        let report = list_at("cgit", &self.live.url, self.store.clone() as _, self.clock.clone()).await;
        assert_eq!(report.outcome, RunOutcome::Complete, "{report:?}");
        report
    }

    /// Visits what is next, so many at most, and says what that was, in the order of the claims.
    async fn visit(&self, most: usize) -> BTreeMap<String, VisitStats> {
        let before = self.stats().await;
        let worker = Arc::new(LsRemote::new(Arc::new(client(std::slice::from_ref(&self.live.url)))));
        let visits: Arc<dyn VisitStore> = self.store.clone();
        let options = PoolOptions::default().with_room(8, most - 8);
        let pool = Arc::new(Pool::new(visits.clone(), worker, self.clock.clone(), options));
        let feeds = vec![Feed::new(VisitType::git())];
        let clock = self.clock.clone();
        let mut feeder = Feeder::new(visits, pool.clone(), clock, feeds, FeederOptions::default());
        feeder.step(self.clock.now()).await.unwrap();
        assert_eq!(pool.drain(Duration::from_secs(120)).await, 0);
        let counts = pool.counts();
        assert_eq!((counts.recorded, counts.panicked, counts.timed_out), (counts.taken, 0, 0), "{counts:?}");
        let mut visited = self.stats().await;
        visited.retain(|url, stats| stats.visits > before[url].visits);
        assert_eq!(visited.len() as u64, counts.recorded);
        visited
    }

    async fn stats(&self) -> BTreeMap<String, VisitStats> {
        let listed = self.store.origins(&OriginQuery::everything(), None, 1000).await.unwrap().origins;
        let keys: Vec<OriginKey> = listed.iter().map(|(_, origin)| origin.key()).collect();
        let stats = self.store.stats(&keys).await.unwrap().into_iter().map(Option::unwrap);
        keys.into_iter().map(|key| key.url).zip(stats).collect()
    }

    fn set(&self, now: Timestamp) {
        *self.clock.0.lock().unwrap() = now;
    }
}

async fn goes_round(store: Arc<dyn SchedulerBackend>) {
    let live = Live::start("cgit.sh", "/cgit/");
    let hour = |n: u64| Timestamp::parse("2026-03-01T00:00:00Z").unwrap().plus(Duration::from_secs(3600 * n));
    let archive = Archive { live: &live, store, clock: Arc::new(HandClock(Mutex::new(hour(0)))) };
    assert_eq!(archive.list().await.counts.new, REPOSITORIES as u64);

    // Every one is visited, and its snapshot is what is on the disk.
    let first = archive.visit(100).await;
    assert_eq!(first.len(), REPOSITORIES);
    for (url, stats) in &first {
        assert_eq!(stats.last_status, Some(VisitStatus::Successful), "{url}");
        assert_eq!(stats.last_snapshot.as_deref(), Some(on_disk(&folder(&live, url)).as_str()), "{url}");
    }
    archive.set(hour(1));
    assert_eq!(archive.visit(100).await, BTreeMap::new(), "none is visited twice in an hour");

    // Ten get a commit; the lister sees them, and they are next.
    let dated: Vec<&String> = first.keys().filter(|url| url.contains("/tools/tool-")).collect();
    let pushed: BTreeSet<String> = dated.into_iter().step_by(5).take(10).cloned().collect();
    assert_eq!(pushed.len(), 10);
    for url in &pushed {
        commit(&folder(&live, url), hour(20));
    }
    archive.set(hour(24));
    let again = archive.list().await;
    assert_eq!((again.counts.changed, again.counts.new), (10, 0), "{again:?}");
    let second = archive.visit(10).await;
    assert_eq!(second.keys().cloned().collect::<BTreeSet<_>>(), pushed);
    for (url, stats) in &second {
        assert_ne!(stats.last_snapshot, first[url].last_snapshot, "{url}");
        assert_eq!(stats.last_snapshot.as_deref(), Some(on_disk(&folder(&live, url)).as_str()), "{url}");
    }

    // The others come after them, and have not changed.
    let third = archive.visit(100).await;
    for (url, stats) in third.iter().filter(|(url, _)| !pushed.contains(*url)) {
        assert_eq!(stats.last_snapshot, first[url].last_snapshot, "{url}");
    }

    // One is gone from the disk.
    let gone = pushed.first().unwrap();
    std::fs::remove_dir_all(folder(&live, gone)).unwrap();
    archive.set(hour(48));
    let fourth = archive.visit(100).await;
    assert_eq!(fourth[gone].last_status, Some(VisitStatus::NotFound));
    assert_eq!(fourth.values().filter(|s| s.last_status == Some(VisitStatus::NotFound)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_cgit_is_listed_and_visited_over_a_store_in_memory() {
    if is_required("LAMPLIGHTER_CGIT", "cgit") {
        goes_round(Arc::new(MemoryStore::with_options(options()))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_cgit_is_listed_and_visited_over_a_store_in_a_file() {
    if is_required("LAMPLIGHTER_CGIT", "cgit") {
        let room = tempfile::tempdir().unwrap();
        goes_round(Arc::new(FileStore::with_options(room.path().join("store"), options()).unwrap())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_cgit_is_listed_and_visited_over_postgres() {
    if !is_required("LAMPLIGHTER_CGIT", "cgit") {
        return;
    }
    let Some(schemas) = Schemas::new("visits") else { return };
    goes_round(Arc::new(schemas.open(schemas.options().with_store(options())).await)).await;
    schemas.done().await;
}
