//! The stores of this crate pass the suite for stores: as values, boxed and shared. And a double
//! that does what the incumbent did fails it where the incumbent failed.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "naive/visits.rs"]
mod naive;
#[path = "naive/store.rs"]
mod upserting;

use std::sync::Arc;

use lamplighter::backend::{MemoryStore, SchedulerBackend};
use lamplighter::testing::conformance;
use upserting::{Overwrites, Upserting};

/// A seed to repeat: `SEED=7 cargo test --test backends random`.
fn seeds() -> Vec<u64> {
    std::env::var("SEED").ok().and_then(|s| s.parse().ok()).map_or_else(|| (10..30).collect(), |s| vec![s])
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_as_a_value() {
    conformance::backend(|| async { MemoryStore::new() }).await;
    conformance::shares(|policies| async { MemoryStore::with_policies(policies) }).await;
    conformance::classic(|policies| async { MemoryStore::with_policies(policies) }).await;
    conformance::ages(|options| async { MemoryStore::with_options(options) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_boxed() {
    conformance::backend(|| async { Box::new(MemoryStore::new()) as Box<dyn SchedulerBackend> }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_shared() {
    conformance::backend(|| async { Arc::new(MemoryStore::new()) as Arc<dyn SchedulerBackend> }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_operations_on_memory() {
    for seed in seeds() {
        conformance::model(|| async { MemoryStore::new() }, seed).await;
    }
}

/// A seed to repeat, or another one: `SEED=7 cargo test --test backends renames`.
fn seed(otherwise: u64) -> u64 {
    std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_renames_on_memory() {
    conformance::renames(|| async { MemoryStore::new() }, seed(41), 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_the_double_enables_what_was_disabled() {
    conformance::d6_a_listing_enables_nothing(&MemoryStore::new()).await;
    let double = Upserting { inner: MemoryStore::new(), overwrites: Overwrites::Enabled };
    let failed = tokio::spawn(async move { conformance::d6_a_listing_enables_nothing(&double).await });
    assert!(failed.await.unwrap_err().is_panic(), "the double's upsert overwrites it");
}

/// D6, where failures did it: the classic policies give up after three.
#[tokio::test]
async fn d6_a_listing_enables_nothing_that_failures_stopped() {
    use lamplighter::backend::{
        Claim, CursorEnd, EndRun, OriginQuery, OriginStore, PageCommit, PageDigest, RunOutcome, RunPlan,
        RunStore, VisitStore,
    };
    use lamplighter::lister::{Mode, PageBatch, Sighting};
    use lamplighter::model::{
        ListedOrigin, ListerKey, NewOrigin, Outcome, Timestamp, VisitStatus, VisitType,
    };
    use lamplighter::policy::{Classic, Policies};
    let at = |day: i64| Timestamp::from_seconds(1_770_000_000 + day * 86_400);
    let store = MemoryStore::with_policies(Policies::all(Classic::swh_default()));
    let origin = || NewOrigin::new("https://forge.example/r.git", VisitType::git());
    let list = async |day| -> ListedOrigin {
        let start = vec![serde_json::json!(1)];
        let plan = RunPlan::new(ListerKey::new("l", "forge.example"), Mode::Full, start);
        let run = store.begin_run(plan, at(day)).await.unwrap().ticket;
        let lease = std::time::Duration::from_secs(60);
        let cursor = store.claim_cursors(run, 1, lease, at(day)).await.unwrap().remove(0).ticket;
        let mut batch = PageBatch::default();
        batch.origins.push(Sighting::new(origin().with_last_update(at(day))));
        let end = CursorEnd::Done(PageDigest::new([0; 16], Some([1; 16])));
        store.commit_page(PageCommit::new(run, cursor, batch, Some(end)), at(day)).await.unwrap();
        store.end_run(EndRun::new(run, RunOutcome::Complete), at(day)).await.unwrap();
        store.origins(&OriginQuery::everything(), None, 9).await.unwrap().origins.remove(0).1
    };
    let claim =
        async |day| store.claim(&Claim::new(VisitType::git(), 1), at(day)).await.unwrap().visits.pop();
    for strike in 0..3 {
        let day = 20 * strike;
        assert!(list(day).await.disabled_by_failures.is_none());
        let visit = claim(day).await.unwrap();
        let outcome = Outcome::new(visit.visit, visit.token, VisitStatus::Failed, at(day));
        store.complete(&[outcome], at(day)).await.unwrap().remove(0).unwrap();
    }
    for day in [100, 200] {
        let listed = list(day).await;
        assert!(
            listed.enabled && listed.disabled_by_failures.is_some(),
            "its lister wants it, and nobody asks it"
        );
        assert_eq!(claim(day).await, None);
    }
    assert_eq!(store.set_disabled(&[origin().key()], None, at(201)).await.unwrap(), 1);
    assert!(list(201).await.disabled_by_failures.is_none());
    assert!(claim(201).await.is_some(), "a person enables it");
}

#[tokio::test(flavor = "multi_thread")]
async fn d14_the_double_writes_every_row() {
    conformance::d14_a_listing_without_news_writes_nothing(&MemoryStore::new()).await;
    let double = Upserting { inner: MemoryStore::new(), overwrites: Overwrites::LastSeen };
    let failed =
        tokio::spawn(async move { conformance::d14_a_listing_without_news_writes_nothing(&double).await });
    assert!(failed.await.unwrap_err().is_panic(), "the double's upsert changes every row");
}

#[tokio::test(flavor = "multi_thread")]
async fn d9_what_was_marked_and_never_sent_is_lost_to_the_double() {
    conformance::d9_a_visit_that_was_never_sent_comes_back(&MemoryStore::new()).await;
    let double = naive::Naive::default();
    let failed = tokio::spawn(async move {
        conformance::d9_a_visit_that_was_never_sent_comes_back(&double).await;
    });
    assert!(failed.await.unwrap_err().is_panic(), "the double hides what it marked");
}

#[tokio::test(flavor = "multi_thread")]
async fn d10_the_double_hands_one_visit_to_two() {
    conformance::d10_no_visit_is_held_twice(MemoryStore::new()).await;
    let failed = tokio::spawn(conformance::d10_no_visit_is_held_twice(naive::Naive::default()));
    assert!(failed.await.unwrap_err().is_panic(), "the double selects, then marks");
}

#[cfg(feature = "file")]
mod file {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use lamplighter::backend::{BackendErrorKind, Claim, FileStore, OriginStore, StoreOptions, VisitStore};
    use lamplighter::model::{Timestamp, VisitType};
    use lamplighter::policy::{Facts, Lane, LaneSpec, Placement, Policies, Policy, Reason, Shared};

    use super::*;

    /// Fresh files in one folder.
    struct Files {
        folder: tempfile::TempDir,
        made: AtomicUsize,
    }

    impl Files {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), made: AtomicUsize::new(0) }
        }

        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join(format!("{}.db", self.made.fetch_add(1, Ordering::Relaxed)))
        }

        fn fresh(&self) -> FileStore {
            FileStore::open(self.path()).unwrap()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn file_as_a_value() {
        let files = Files::new();
        conformance::backend(|| async { files.fresh() }).await;
        conformance::shares(|policies| async { FileStore::with_policies(files.path(), policies).unwrap() })
            .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn classic_orders_and_maximum_ages_on_files() {
        let files = Files::new();
        conformance::classic(|policies| async { FileStore::with_policies(files.path(), policies).unwrap() })
            .await;
        conformance::ages(|options| async { FileStore::with_options(files.path(), options).unwrap() }).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn file_boxed() {
        let files = Files::new();
        conformance::backend(|| async { Box::new(files.fresh()) as Box<dyn SchedulerBackend> }).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn file_shared() {
        let files = Files::new();
        conformance::backend(|| async { Arc::new(files.fresh()) as Arc<dyn SchedulerBackend> }).await;
    }

    /// `LAMPLIGHTER_RENAMES` says how many: each listing is some commits to a disk.
    #[tokio::test(flavor = "multi_thread")]
    async fn thousands_of_renames_on_a_file() {
        let files = Files::new();
        let changes = std::env::var("LAMPLIGHTER_RENAMES").map_or(2_000, |n| n.parse().unwrap());
        conformance::renames(|| async { files.fresh() }, seed(42), changes).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn file_reopened_between_commits() {
        let path = Files::new();
        let one = path.path();
        conformance::reopened(|| async { FileStore::open(&one).unwrap() }).await;
    }

    #[test]
    fn a_file_serves_one_at_a_time() {
        let files = Files::new();
        let path = files.path();
        let open = FileStore::open(&path).unwrap();
        let refused = FileStore::open(&path).unwrap_err();
        assert_eq!(refused.kind(), BackendErrorKind::Unavailable);
        let text = refused.to_string();
        assert!(text.contains("in use by another process") && !text.contains('\n'), "{text}");
        drop(open);
        FileStore::open(&path).unwrap();
    }

    #[test]
    fn what_is_no_store_is_refused() {
        let files = Files::new();
        let path = files.path();
        std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
        assert_eq!(FileStore::open(&path).unwrap_err().kind(), BackendErrorKind::Corrupt);
        let nowhere = files.folder.path().join("missing/lamplighter.db");
        assert_eq!(FileStore::open(nowhere).unwrap_err().kind(), BackendErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_time_far_from_the_clock_is_refused() {
        let files = Files::new();
        let bound = StoreOptions::default().with_clock_bound(std::time::Duration::from_secs(5));
        let store = FileStore::with_options(files.path(), bound).unwrap();
        let claim = Claim::new(VisitType::git(), 1);
        let refused = store.claim(&claim, Timestamp::EPOCH).await.unwrap_err();
        assert_eq!(refused.kind(), BackendErrorKind::Clock);
        files.fresh().claim(&claim, Timestamp::EPOCH).await.unwrap();
    }

    /// The newest origin first.
    #[derive(Debug)]
    struct Newest;

    impl Policy for Newest {
        fn name(&self) -> &'static str {
            "newest"
        }

        fn lanes(&self) -> Vec<LaneSpec> {
            vec![LaneSpec::new(Lane::policy(0), "newest", 1.0)]
        }

        fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
            Placement::new(Lane::policy(0), -facts.first_seen.as_micros(), Reason::new("newest", "newest"))
        }
    }

    #[tokio::test]
    async fn another_policy_places_every_origin_again() {
        use lamplighter::backend::ImportedOrigin;
        use lamplighter::model::ListerKey;
        let files = Files::new();
        let path = files.path();
        let at = |hour: i64| Timestamp::from_seconds(1_770_000_000 + hour * 3600);
        let lister = ListerKey::new("l", "forge.example");
        let claim = Claim::new(VisitType::git(), 2500);
        let names = |store: FileStore| async move {
            let visits = store.peek(&Claim::new(VisitType::git(), 2500), at(3000)).await.unwrap().visits;
            visits.into_iter().map(|v| v.url).collect::<Vec<_>>()
        };
        let store = FileStore::open(&path).unwrap();
        let origins = (0..2500i64).map(|n| {
            let mut o = ImportedOrigin::new(&lister, format!("https://forge.example/r{n}"), VisitType::git());
            o.first_seen = Some(at(n));
            o
        });
        store.import(origins.collect(), at(2600)).await.unwrap();
        let mut oldest = names(store.clone()).await;
        assert_eq!(oldest.len(), claim.count);
        drop(store);
        let newest = names(FileStore::with_policies(&path, Policies::all(Newest)).unwrap()).await;
        oldest.reverse();
        assert_eq!(newest, oldest);
        // And back again, with nothing lost.
        let again = names(FileStore::open(&path).unwrap()).await;
        oldest.reverse();
        assert_eq!(again, oldest);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn random_operations_on_a_file() {
        let files = Files::new();
        for seed in seeds().into_iter().take(3) {
            conformance::model(|| async { files.fresh() }, seed).await;
        }
    }
}

#[cfg(feature = "postgres")]
#[path = "support/postgres.rs"]
mod server;

#[cfg(feature = "postgres")]
mod postgres {
    use lamplighter::backend::StoreOptions;
    use lamplighter::backend::postgres::PostgresOptions;

    use super::server::Schemas;
    use super::*;

    // In a box or shared a store is the same for whoever asks: memory and the file are tried so, and this one
    // takes a minute each time.
    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_as_a_value() {
        let Some(schemas) = Schemas::new("value") else { return };
        conformance::backend(|| schemas.fresh()).await;
        conformance::shares(|policies| {
            let store = StoreOptions::default().with_policies(policies);
            let options: PostgresOptions = schemas.options().with_store(store);
            schemas.open(options)
        })
        .await;
        schemas.done().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_reopened_between_commits() {
        let Some(schemas) = Schemas::new("reopened") else { return };
        let options = schemas.options();
        conformance::reopened(|| schemas.open(options.clone())).await;
        schemas.done().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn random_operations_on_postgres() {
        let Some(schemas) = Schemas::new("random") else { return };
        for seed in seeds() {
            conformance::model(|| schemas.fresh(), seed).await;
        }
        schemas.done().await;
    }
}
