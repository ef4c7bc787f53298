//! What the cases have in common: a clock, a lister, a small driver.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::{
    BackendError, BackendErrorKind, ChangeToken, Committed, CursorEnd, EndRun, Ended, GapKind,
    ImportedOrigin, OriginQuery, OriginStore, PageCommit, PageDigest, PendingCursor, Prune, RunOutcome,
    RunPlan, RunStore, RunTicket,
};
use crate::lister::{Follow, FollowKind, Mode, PageBatch, Sighting};
use crate::model::{ListedOrigin, ListerKey, NewOrigin, OriginKey, Timestamp, VisitType, digest128};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const LEASE: Duration = Duration::from_secs(600);

/// Some hours after the suite's own beginning of time.
pub(super) fn at(hours: i64) -> Timestamp {
    Timestamp::from_seconds(1_770_000_000 + hours * 3600)
}

pub(super) fn lister() -> ListerKey {
    ListerKey::new("conformance", "forge.example")
}

/// The cursor of a page.
pub(super) fn page(n: u64) -> Value {
    json!({ "page": n })
}

pub(super) fn url(name: &str) -> String {
    format!("https://forge.example/{name}.git")
}

pub(super) fn origin(name: &str) -> NewOrigin {
    NewOrigin::new(url(name), VisitType::git())
}

pub(super) fn key(name: &str) -> OriginKey {
    OriginKey::new(url(name), VisitType::git())
}

pub(super) fn plan(starts: &[u64]) -> RunPlan {
    RunPlan::new(lister(), Mode::Full, starts.iter().map(|n| page(*n)).collect())
}

pub(super) fn plan_of(mode: Mode, starts: &[u64]) -> RunPlan {
    RunPlan::new(lister(), mode, starts.iter().map(|n| page(*n)).collect())
}

/// What a page says, in the making.
#[derive(Default, Clone)]
pub(super) struct Said(pub(super) PageBatch);

pub(super) fn said() -> Said {
    Said::default()
}

impl Said {
    pub(super) fn names(mut self, names: &[&str]) -> Self {
        self.0.origins.extend(names.iter().map(|n| Sighting::new(origin(n))));
        self
    }

    pub(super) fn origin(mut self, origin: NewOrigin) -> Self {
        self.0.origins.push(Sighting::new(origin));
        self
    }

    /// Begins a part, and says an origin in it.
    pub(super) fn part(mut self, part: &str) -> Self {
        self.0.parts.push(part.into());
        self
    }

    pub(super) fn in_part(mut self, part: &str, origin: NewOrigin) -> Self {
        self.0.origins.push(Sighting::in_part(origin, part));
        self
    }

    pub(super) fn next(self, n: u64) -> Self {
        self.follows(n, FollowKind::Next { part: None })
    }

    pub(super) fn next_of(self, part: &str, n: u64) -> Self {
        self.follows(n, FollowKind::Next { part: Some(part.into()) })
    }

    pub(super) fn follow(self, n: u64) -> Self {
        self.follows(n, FollowKind::Follow)
    }

    pub(super) fn item(self, key: &str, fingerprint: &str, n: u64) -> Self {
        self.follows(n, FollowKind::Item { key: key.into(), fingerprint: fingerprint.to_owned() })
    }

    fn follows(mut self, n: u64, kind: FollowKind) -> Self {
        self.0.follows.push(Follow::new(page(n), kind));
        self
    }

    /// Digests as the driver makes them: of a body that says just this, and of what is found.
    pub(super) fn digest(&self) -> PageDigest {
        let of = |text: String| digest128(text.as_bytes());
        let content = (!self.0.origins.is_empty() || !self.0.gone.is_empty())
            .then(|| of(format!("{:?} {:?}", self.0.origins, self.0.gone)));
        PageDigest::new(of(format!("{:?}", self.0)), content)
    }
}

/// A driver as small as can be.
pub(super) struct Drive<'s, B> {
    pub(super) store: &'s B,
    pub(super) ticket: RunTicket,
    pub(super) now: Timestamp,
    pub(super) resumed: bool,
    pub(super) pending: u64,
}

impl<'s, B: RunStore> Drive<'s, B> {
    pub(super) async fn begin(store: &'s B, plan: RunPlan, now: Timestamp) -> Self {
        let begun = store.begin_run(plan, now).await.expect("a run begins");
        Self { store, ticket: begun.ticket, now, resumed: begun.resumed, pending: begun.pending }
    }

    /// The next pending cursor, which must be a page's.
    pub(super) async fn take(&self, n: u64) -> PendingCursor {
        let cursor = self.next().await.unwrap_or_else(|| panic!("page {n} is pending"));
        assert_eq!(cursor.cursor, page(n), "the oldest pending cursor");
        cursor
    }

    pub(super) async fn next(&self) -> Option<PendingCursor> {
        let mut got = self.store.claim_cursors(self.ticket, 1, LEASE, self.now).await.expect("cursors");
        assert!(got.len() <= 1, "no more than asked for");
        got.pop()
    }

    pub(super) async fn idle(&self) {
        assert_eq!(self.next().await.map(|c| c.cursor), None, "nothing more is pending");
    }

    pub(super) fn commit_of(&self, at: &PendingCursor, said: Said) -> PageCommit {
        let end = CursorEnd::Done(said.digest());
        PageCommit::new(self.ticket, at.ticket, said.0, Some(end))
    }

    pub(super) async fn done(&self, at: &PendingCursor, said: Said) -> Committed {
        self.store.commit_page(self.commit_of(at, said), self.now).await.expect("a page is committed")
    }

    /// Takes the next cursor, which must be page `n`, and commits what it says.
    pub(super) async fn read(&self, n: u64, said: Said) -> Committed {
        let at = self.take(n).await;
        self.done(&at, said).await
    }

    pub(super) async fn flush(&self, at: &PendingCursor, said: Said) -> Committed {
        let commit = PageCommit::new(self.ticket, at.ticket, said.0, None);
        self.store.commit_page(commit, self.now).await.expect("a flush is committed")
    }

    pub(super) async fn ends(&self, n: u64, end: CursorEnd) -> Committed {
        let at = self.take(n).await;
        let commit = PageCommit::new(self.ticket, at.ticket, PageBatch::default(), Some(end));
        self.store.commit_page(commit, self.now).await.expect("an end is committed")
    }

    pub(super) async fn fails(&self, n: u64) -> Committed {
        let end = CursorEnd::Gap { kind: GapKind::Status, reason: "500 Internal Server Error".to_owned() };
        self.ends(n, end).await
    }

    pub(super) async fn end(&self, outcome: RunOutcome) -> Ended {
        self.store.end_run(EndRun::new(self.ticket, outcome), self.now).await.expect("a run ends")
    }

    pub(super) async fn prune(&self) -> Ended {
        let mut end = EndRun::new(self.ticket, RunOutcome::Complete);
        end.prune = Prune::Force;
        self.store.end_run(end, self.now).await.expect("a run ends")
    }
}

/// Lists origins in one page of a complete run.
pub(super) async fn list<B: RunStore>(store: &B, now: Timestamp, page: Said) -> Committed {
    let drive = Drive::begin(store, plan(&[1]), now).await;
    let counts = drive.read(1, page).await;
    drive.end(RunOutcome::Complete).await;
    counts
}

pub(super) async fn import_all<B: OriginStore>(store: &B, names: &[&str], now: Timestamp) {
    let origins = names.iter().map(|n| ImportedOrigin::new(&lister(), url(n), VisitType::git())).collect();
    store.import(origins, now).await.expect("an import");
}

/// All listed origins, gone and disabled ones too, by URL.
pub(super) async fn all<B: OriginStore>(store: &B) -> Vec<ListedOrigin> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page =
            store.origins(&OriginQuery::everything(), after.clone(), 7).await.expect("a page of origins");
        found.extend(page.origins.into_iter().map(|(_, o)| o));
        assert!(page.next.is_none() || page.next != after, "a page goes on");
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.sort_by(|a: &ListedOrigin, b| (&a.url, &a.visit_type).cmp(&(&b.url, &b.visit_type)));
    found
}

pub(super) async fn one<B: OriginStore>(store: &B, name: &str) -> ListedOrigin {
    let found = all(store).await.into_iter().find(|o| o.url == url(name));
    found.unwrap_or_else(|| panic!("{name} is listed"))
}

/// The kinds of all changes and the last parts of their URLs, in order.
pub(super) async fn news<B: OriginStore>(store: &B) -> Vec<String> {
    let changes = store.changes(ChangeToken(0), 10_000).await.expect("changes");
    assert!(changes.is_sorted_by(|a, b| a.token < b.token), "in order, no token twice");
    let name = |url: &str| url.trim_end_matches(".git").rsplit('/').next().unwrap_or_default().to_owned();
    changes.iter().map(|c| format!("{:?} {}", c.kind, name(&c.url))).collect()
}

pub(super) fn kind_of<T: std::fmt::Debug>(result: Result<T, BackendError>) -> BackendErrorKind {
    result.expect_err("it is refused").kind()
}

pub(super) fn set<T: Ord>(of: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    of.into_iter().collect()
}

pub(super) fn part_name(name: &str) -> Arc<str> {
    name.into()
}
