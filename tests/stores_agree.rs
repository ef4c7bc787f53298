//! Random sequences of operations give the same answers on all three stores: in memory, in a file and in
//! PostgreSQL.
//!
//! `SEED=7 cargo test --test stores_agree` repeats one sequence; `LAMPLIGHTER_SEQUENCES` says how many are
//! tried otherwise.
#![cfg(all(feature = "postgres", feature = "file", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail"
)]

#[path = "support/postgres.rs"]
mod server;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use lamplighter::backend::postgres::{PostgresOptions, PostgresStore};
use lamplighter::backend::{
    ChangeToken, Claim, CursorEnd, EndRun, FileStore, GapKind, GapQuery, Hint, ImportedOrigin,
    ImportedVisits, MemoryStore, OriginQuery, PageCommit, PageDigest, Prune, PruneGuard, RunOutcome, RunPlan,
    RunQuery, SchedulerBackend, StoreOptions, Visit, VisitRequest,
};
use lamplighter::lister::{Mode, PageBatch, Sighting};
use lamplighter::model::{
    GoneReason, ListerKey, NewOrigin, OriginKey, Outcome, Timestamp, VisitStatus, VisitType,
};
use lamplighter::policy::{Due, DueOptions, Guard, Oldest, Policies};
use serde_json::json;
use server::Schemas;

/// Tried where `LAMPLIGHTER_SEQUENCES` does not say how many.
const SEQUENCES: u64 = 20;
const LISTERS: u64 = 3;
const URLS: u64 = 8;
const HOUR: Duration = Duration::from_secs(3600);

/// The same seed, the same sequence.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn few(&mut self, sides: u64) -> i64 {
        i64::try_from(self.roll(sides)).unwrap()
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }

    fn visit_type(&mut self) -> VisitType {
        VisitType::new(self.pick(&["git", "hg"])).unwrap()
    }

    fn key(&mut self) -> OriginKey {
        OriginKey::new(url(self.roll(URLS)), self.visit_type())
    }
}

fn url(n: u64) -> String {
    format!("https://forge.example/r{n}")
}

fn lister(n: u64) -> ListerKey {
    ListerKey::new(if n == 0 { "one" } else { "two" }, format!("forge{n}.example"))
}

fn policies() -> Policies {
    let due = DueOptions::default().with_budget(6.0).with_guard(Guard::Share(0.4));
    Policies::all(Oldest).with("hg", Due::new(due))
}

/// How a listing ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Complete,
    /// Its last page cannot be read.
    Gap,
    /// With pages left.
    Stopped,
    Aborted,
    /// Not at all: whoever listed is dead.
    Dead,
}

#[derive(Debug, Clone)]
enum Operation {
    List { lister: u64, mode: Mode, pages: Vec<PageBatch>, end: End, prune: Prune },
    Import(Box<ImportedOrigin>),
    Claim(Claim),
    Complete { visit: u64, status: VisitStatus, snapshot: Option<u64>, late: i64 },
    Heartbeat { visit: u64, hours: u64 },
    Request(OriginKey),
    Hint(OriginKey, i64),
    Disable(OriginKey, bool),
    Peek(Claim),
    Explain(OriginKey),
    Count(VisitType),
    Read(OriginQuery),
}

impl Operation {
    fn kind(&self) -> &'static str {
        match self {
            Self::List { .. } => "list",
            Self::Import(_) => "import",
            Self::Claim(_) => "claim",
            Self::Complete { .. } => "complete",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Request(_) => "request",
            Self::Hint(..) => "hint",
            Self::Disable(..) => "disable",
            Self::Peek(_) => "peek",
            Self::Explain(_) => "explain",
            Self::Count(_) => "count",
            Self::Read(_) => "read",
        }
    }
}

fn page(dice: &mut Dice, now: Timestamp, lister: u64) -> PageBatch {
    let mut page = PageBatch::default();
    let share = 1 + dice.roll(3);
    for n in 0..URLS {
        if dice.roll(4) >= share {
            continue;
        }
        let mut origin = NewOrigin::new(url(n), dice.visit_type());
        // Two of the listers tell dates, one of them not always; ids may move between URLs.
        if lister != 2 && dice.roll(4) > 0 {
            origin = origin.with_last_update(now.minus(HOUR * u32::try_from(dice.roll(400)).unwrap()));
        }
        if lister != 1 {
            let id = if dice.roll(8) == 0 { dice.roll(URLS) } else { n };
            origin = origin.with_forge_id(id);
        }
        origin = origin.with_enabled(dice.roll(8) > 0).with_argument("a", dice.roll(2));
        origin = origin.with_archived(dice.pick(&[None, Some(false), Some(true)]));
        let mut sighting = Sighting::new(origin);
        sighting.left_out = dice.roll(12) == 0;
        page.origins.push(sighting);
    }
    if dice.roll(5) == 0 {
        page.gone.push((dice.key(), dice.pick(&[GoneReason::Deleted, GoneReason::Private])));
    }
    page
}

fn claim(dice: &mut Dice) -> Claim {
    let count = usize::try_from(dice.roll(5)).unwrap();
    let mut claim = Claim::new(dice.visit_type(), count)
        .with_lease(HOUR * u32::try_from(1 + dice.roll(8)).unwrap())
        .with_owner(dice.pick(&["a", "b"]));
    claim.lister = (dice.roll(5) == 0).then(|| lister(dice.roll(LISTERS)));
    claim
}

fn operation(dice: &mut Dice, now: Timestamp) -> Operation {
    match dice.roll(20) {
        0..=3 => {
            let lister = dice.roll(LISTERS);
            let pages = (0..=dice.roll(2)).map(|_| page(dice, now, lister)).collect();
            let end = dice.pick(&[
                End::Complete,
                End::Complete,
                End::Complete,
                End::Gap,
                End::Stopped,
                End::Aborted,
                End::Dead,
            ]);
            let guard = PruneGuard::default().with_confirm_after(HOUR * 48);
            let prune = dice.pick(&[Prune::Guarded(guard), Prune::Guarded(guard), Prune::Force, Prune::No]);
            let mode = dice.pick(&[Mode::Full, Mode::Full, Mode::Incremental]);
            Operation::List { lister, mode, pages, end, prune }
        }
        4 => {
            let key = dice.key();
            let mut origin = ImportedOrigin::new(&lister(dice.roll(LISTERS)), key.url, key.visit_type);
            let ago = |dice: &mut Dice| now.minus(HOUR * u32::try_from(1 + dice.roll(2000)).unwrap());
            origin.last_update = (dice.roll(2) == 0).then(|| ago(dice));
            if dice.roll(2) == 0 {
                let mut visits = ImportedVisits::default();
                visits.last_visit = Some(ago(dice));
                visits.status = Some(dice.pick(&[VisitStatus::Successful, VisitStatus::Failed]));
                visits.last_snapshot = Some(dice.roll(2).to_string());
                origin.visits = Some(visits);
            }
            Operation::Import(Box::new(origin))
        }
        5..=8 => Operation::Claim(claim(dice)),
        9..=11 => Operation::Complete {
            visit: dice.roll(1 << 30),
            status: dice.pick(&[
                VisitStatus::Successful,
                VisitStatus::Successful,
                VisitStatus::Partial,
                VisitStatus::Failed,
                VisitStatus::NotFound,
            ]),
            snapshot: (dice.roll(4) > 0).then(|| dice.roll(3)),
            late: if dice.roll(8) == 0 { dice.few(100) } else { 0 },
        },
        12 => Operation::Heartbeat { visit: dice.roll(1 << 30), hours: 1 + dice.roll(9) },
        13 => Operation::Request(dice.key()),
        14 => Operation::Hint(dice.key(), dice.few(300) - 20),
        15 => Operation::Disable(dice.key(), dice.roll(2) == 0),
        16 => Operation::Peek(claim(dice)),
        17 => Operation::Explain(dice.key()),
        18 => Operation::Count(dice.visit_type()),
        _ => {
            let mut query = OriginQuery::default();
            query.all = dice.roll(2) == 0;
            query.visit_type = (dice.roll(2) == 0).then(|| dice.visit_type());
            query.url = (dice.roll(2) == 0).then(|| url(dice.roll(URLS)));
            Operation::Read(query)
        }
    }
}

/// One to sixty operations, in time: minutes apart, now and then weeks.
fn sequence(seed: u64) -> Vec<(Timestamp, Operation)> {
    let mut dice = Dice(seed);
    dice.roll(1);
    let mut now = Timestamp::from_seconds(1_780_000_000);
    (0..=dice.roll(60).clamp(1, 59))
        .map(|_| {
            let most = dice.pick(&[600, 7200, 7200, 100_000, 3_000_000]);
            now = now.plus(Duration::from_micros(dice.roll(most * 1_000_000)));
            (now, operation(&mut dice, now))
        })
        .collect()
}

/// A store, and what its answers are told apart by.
struct Side {
    store: Box<dyn SchedulerBackend>,
    visits: Vec<Visit>,
    /// Tokens by when they came up: what a peek hands out and takes back may leave a hole.
    tokens: BTreeMap<u64, usize>,
}

impl Side {
    fn new(store: impl SchedulerBackend + 'static) -> Self {
        Self { store: Box::new(store), visits: Vec::new(), tokens: BTreeMap::new() }
    }

    fn handed_out(&mut self, visits: Vec<Visit>, keep: bool) -> String {
        let mut said = String::new();
        for visit in visits {
            let next = self.tokens.len();
            let token = if keep { *self.tokens.entry(visit.token.0).or_insert(next) } else { 0 };
            let (id, args) = (visit.visit, json!(visit.arguments));
            let Visit { url, visit_type, lister, instance, due, lane, reason, deadline, .. } = &visit;
            writeln!(
                said,
                "{id:?} {token} {url} {visit_type} {lister} {instance} {args} {due:?} {lane} {reason} {deadline:?}"
            )
            .unwrap();
            if keep {
                self.visits.push(visit);
            }
        }
        said
    }

    fn one(&self, n: u64) -> Option<&Visit> {
        let at = usize::try_from(n).unwrap().checked_rem(self.visits.len())?;
        self.visits.get(at)
    }

    async fn list(
        &self,
        (of, mode): (u64, Mode),
        pages: &[PageBatch],
        end: End,
        prune: Prune,
        now: Timestamp,
    ) -> String {
        let store = &self.store;
        let plan = RunPlan::new(lister(of), mode, (0..pages.len()).map(|n| json!(n)).collect());
        let begun = match store.begin_run(plan, now).await {
            Ok(begun) => begun,
            Err(e) => return format!("not begun: {e}"),
        };
        let mut said = format!("{} {} {:?}\n", begun.resumed, begun.pending, begun.run);
        let cursors = store.claim_cursors(begun.ticket, 10, HOUR, now).await.unwrap();
        let left = usize::from(matches!(end, End::Stopped | End::Dead));
        let read = cursors.len().saturating_sub(left);
        for (i, cursor) in cursors.iter().take(read).enumerate() {
            let n = usize::try_from(cursor.cursor.as_u64().unwrap()).unwrap() % pages.len();
            let batch = pages[n].clone();
            let digest = u8::try_from(n + 1).unwrap();
            let how = if matches!(end, End::Gap) && i + 1 == read {
                CursorEnd::Gap { kind: GapKind::Status, reason: "500".to_owned() }
            } else {
                CursorEnd::Done(PageDigest::new([digest; 16], Some([digest; 16])))
            };
            let batch = if matches!(how, CursorEnd::Gap { .. }) { PageBatch::default() } else { batch };
            let commit = PageCommit::new(begun.ticket, cursor.ticket, batch, Some(how));
            match store.commit_page(commit, now).await {
                Ok(counts) => writeln!(said, "{counts:?}").unwrap(),
                Err(e) => writeln!(said, "refused: {e}").unwrap(),
            }
        }
        let outcome = match end {
            End::Dead => return said,
            End::Aborted => RunOutcome::Aborted,
            _ => RunOutcome::Complete,
        };
        let mut end = EndRun::new(begun.ticket, outcome);
        end.prune = prune;
        match store.end_run(end, now).await {
            Ok(ended) => writeln!(said, "{ended:?}").unwrap(),
            Err(e) => writeln!(said, "not ended: {e}").unwrap(),
        }
        said
    }

    async fn answer(&mut self, operation: &Operation, now: Timestamp) -> String {
        let store = &self.store;
        match operation.clone() {
            Operation::List { lister, mode, pages, end, prune } => {
                self.list((lister, mode), &pages, end, prune, now).await
            }
            Operation::Import(origin) => format!("{:?}", store.import(vec![*origin], now).await.unwrap()),
            Operation::Claim(claim) => {
                let visits = store.claim(&claim, now).await.unwrap().visits;
                self.handed_out(visits, true)
            }
            Operation::Peek(claim) => {
                let visits = store.peek(&claim, now).await.unwrap().visits;
                self.handed_out(visits, false)
            }
            Operation::Complete { visit, status, snapshot, late } => {
                let Some(visit) = self.one(visit) else { return String::new() };
                let at = now.minus(HOUR * u32::try_from(late).unwrap());
                let mut outcome = Outcome::new(visit.visit, visit.token, status, at);
                outcome.snapshot = snapshot.map(|s| s.to_string());
                format!("{:?}", store.complete(&[outcome], now).await.unwrap())
            }
            Operation::Heartbeat { visit, hours } => {
                let Some(visit) = self.one(visit) else { return String::new() };
                let beat = [(visit.visit, visit.token)];
                let length = HOUR * u32::try_from(hours).unwrap();
                format!("{:?}", store.heartbeat(&beat, length, now).await.unwrap())
            }
            Operation::Request(key) => {
                format!("{:?}", store.request(&[VisitRequest::new(key, "me")], now).await.unwrap())
            }
            Operation::Hint(key, hours) => {
                let ago = Duration::from_secs(3600 * hours.unsigned_abs());
                let changed_at = if hours < 0 { now.plus(ago) } else { now.minus(ago) };
                format!("{:?}", store.hint(&[Hint::new(key, changed_at, "hook")], now).await.unwrap())
            }
            Operation::Disable(key, stop) => {
                format!("{:?}", store.set_disabled(&[key], stop.then_some("by hand"), now).await.unwrap())
            }
            Operation::Explain(key) => self.explain(&key, now).await,
            Operation::Count(visit_type) => format!(
                "{:?}\n{:?}",
                store.metrics(now).await.unwrap(),
                store.lanes(&visit_type, now).await.unwrap()
            ),
            Operation::Read(query) => self.origins(&query).await,
        }
    }

    async fn explain(&self, key: &OriginKey, now: Timestamp) -> String {
        let mut why = self.store.explain(key, now).await.unwrap();
        if let Some(lease) = why.as_mut().and_then(|w| w.lease.as_mut()) {
            lease.token.0 = self.tokens[&lease.token.0] as u64;
        }
        format!("{why:?}")
    }

    /// By pages of three.
    async fn origins(&self, query: &OriginQuery) -> String {
        let mut said = String::new();
        let mut after = None;
        loop {
            let page = self.store.origins(query, after, 3).await.unwrap();
            writeln!(said, "{:?}", page.origins).unwrap();
            after = page.next;
            if after.is_none() {
                return said;
            }
        }
    }

    /// Everything that can be asked.
    async fn all(&self, now: Timestamp) -> String {
        let store = &self.store;
        let mut said = self.origins(&OriginQuery::everything()).await;
        let keys = || {
            (0..URLS).flat_map(|n| ["git", "hg"].map(|t| OriginKey::new(url(n), VisitType::new(t).unwrap())))
        };
        for key in keys() {
            writeln!(said, "{}", self.explain(&key, now).await).unwrap();
        }
        writeln!(said, "{:?}", store.stats(&keys().collect::<Vec<_>>()).await.unwrap()).unwrap();
        writeln!(said, "{:?}", store.metrics(now).await.unwrap()).unwrap();
        for visit_type in ["git", "hg"] {
            let visit_type = VisitType::new(visit_type).unwrap();
            writeln!(said, "{:?}", store.lanes(&visit_type, now).await.unwrap()).unwrap();
        }
        let (mut changes, mut after) = (Vec::new(), ChangeToken(0));
        loop {
            let page = store.changes(after, 7).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.token;
            changes.extend(page);
        }
        writeln!(said, "{changes:?}").unwrap();
        writeln!(said, "{:?}", store.runs(&RunQuery::default(), 1000).await.unwrap()).unwrap();
        writeln!(said, "{:?}", store.gaps(&GapQuery::default()).await.unwrap()).unwrap();
        writeln!(said, "{:?}", store.listers().await.unwrap()).unwrap();
        said
    }
}

/// A schema that is emptied for every sequence.
struct Emptied<'s> {
    schemas: &'s Schemas,
    options: PostgresOptions,
}

impl Emptied<'_> {
    async fn store(&self) -> PostgresStore {
        let schema = &self.options.schema;
        let tables =
            "lister visit_type origin listing lease position run gap change seen_log entry".split(' ');
        let tables: Vec<String> = tables.map(|t| format!("\"{schema}\".{t}")).collect();
        let restart = "origin lister owner part gap run visit".split(' ');
        let restart: Vec<String> =
            restart.map(|s| format!("select setval('\"{schema}\".{s}_seq', 1, false)")).collect();
        let sql = format!(
            "truncate {}; {}; update \"{schema}\".meta set n = 0",
            tables.join(", "),
            restart.join("; ")
        );
        self.schemas.client().await.batch_execute(&sql).await.unwrap();
        self.schemas.open(self.options.clone()).await
    }
}

fn agree(left: &str, right: &str, context: &str) {
    if left == right {
        return;
    }
    for (a, b) in left.lines().zip(right.lines()) {
        assert_eq!(a, b, "{context}");
    }
    panic!("{context}\n{left}\n---\n{right}");
}

async fn try_one(seed: u64, folder: &std::path::Path, postgres: &Emptied<'_>) -> Vec<&'static str> {
    let file = folder.join(format!("{seed}.db"));
    let mut sides = [
        Side::new(MemoryStore::with_policies(policies())),
        Side::new(FileStore::with_policies(&file, policies()).unwrap()),
        Side::new(postgres.store().await),
    ];
    let names = ["memory", "file", "PostgreSQL"];
    let operations = sequence(seed);
    let mut last = Timestamp::EPOCH;
    let mut asked = Vec::new();
    for (n, (now, operation)) in operations.iter().enumerate() {
        last = *now;
        asked.push(operation.kind());
        let told = sides[0].answer(operation, *now).await;
        for (side, name) in sides.iter_mut().zip(names).skip(1) {
            let answer = side.answer(operation, *now).await;
            agree(
                &told,
                &answer,
                &format!("SEED={seed}, operation {n}, memory and {name}: {operation:?} at {now}"),
            );
        }
    }
    let told = sides[0].all(last).await;
    for (side, name) in sides.iter().zip(names).skip(1) {
        agree(&told, &side.all(last).await, &format!("SEED={seed}, memory and {name} in the end"));
    }
    drop(sides);
    std::fs::remove_file(&file).unwrap();
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn random_sequences_give_the_same_answers_on_all_stores() {
    const AT_ONCE: u64 = 3;
    let Some(schemas) = Schemas::new("agree") else { return };
    let schemas = std::sync::Arc::new(schemas);
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("LAMPLIGHTER_SEQUENCES").unwrap_or(SEQUENCES)),
    };
    let folder = tempfile::TempDir::new().unwrap();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|task| {
            let (schemas, folder) = (std::sync::Arc::clone(&schemas), folder.path().to_owned());
            tokio::spawn(async move {
                let store = StoreOptions::default().with_policies(policies());
                let options = schemas.options().with_store(store);
                drop(schemas.open(options.clone()).await);
                let postgres = Emptied { schemas: &schemas, options };
                let mut asked: BTreeMap<&'static str, u64> = BTreeMap::new();
                let mut operations = 0;
                for seed in (first..first + count).filter(|seed| seed % AT_ONCE == task) {
                    let mut kinds = try_one(seed, &folder, &postgres).await;
                    operations += kinds.len();
                    kinds.sort_unstable();
                    kinds.dedup();
                    for kind in kinds {
                        *asked.entry(kind).or_default() += 1;
                    }
                }
                (asked, operations)
            })
        })
        .collect();
    let mut asked: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut operations = 0;
    for task in tasks {
        let (some, n) = task.await.unwrap();
        operations += n;
        for (kind, n) in some {
            *asked.entry(kind).or_default() += n;
        }
    }
    println!("agree: {count} sequences, {operations} operations, the same answers on three stores");
    if count > 1 {
        assert_eq!(asked.len(), 12, "{asked:?}");
        assert!(asked.values().all(|n| n * 10 >= count), "each kind in a tenth of the sequences: {asked:?}");
    }
    std::sync::Arc::into_inner(schemas).unwrap().done().await;
}
