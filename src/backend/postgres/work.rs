//! Transactions: begun, run until the engine needs to know nothing more, written, and done again where
//! others were faster.

use deadpool_postgres::Transaction;
use tokio_postgres::IsolationLevel;

use super::db::Db;
use super::fetch::{self, Hints};
use super::known::{Draft, Known, Unknown};
use super::save::{self, Writes};
use super::sql::{collided, failed, lost};
use super::{PostgresStore, claim, learn, seen};
use crate::backend::engine::ctx::Ctx;
use crate::backend::engine::keys::K;
use crate::backend::engine::kv::{KvRead, KvTxn};
use crate::backend::engine::{AT_ONCE, keys, origins, sweep};
use crate::backend::{BackendError, BackendErrorKind, Result};
use crate::model::{ListerKey, Timestamp, VisitType, digest128};

/// A transaction that collides with others, or whose connection is lost, is tried so often.
const ATTEMPTS: u32 = 12;

/// Every statement of a transaction finds its rows by an index, whatever the statistics say: those of
/// an empty table made a plan that reads all of it.
pub(super) const PLANS: &str = "set local enable_seqscan = off; set local enable_hashjoin = off; \
                     set local enable_mergejoin = off; set local jit = off; \
                     set local plan_cache_mode = force_generic_plan";

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    /// What somebody asked for. Where origins are to be placed again, that is done first.
    #[default]
    Work,
    /// It only tells what would be.
    Rehearsal,
    /// It places origins again, one transaction at a time.
    Placing,
    /// It has nothing to do with origins.
    Limits,
}

/// What is known of a transaction before the engine runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// The listers of which no other transaction may work on a run meanwhile.
    pub(super) listers: Vec<uuid::Uuid>,
    /// The run whose lister is meant.
    pub(super) run: Option<u64>,
    /// The visit type of a claim.
    pub(super) claim: Option<VisitType>,
    /// The host of which limits are kept.
    pub(super) host: Option<String>,
    /// The one lister of which a claim wants origins.
    pub(super) only: Option<uuid::Uuid>,
    /// What will be asked for.
    pub(super) fetch: Vec<Unknown>,
    pub(super) hints: Hints,
    /// Whether leases are of no interest.
    pub(super) no_leases: bool,
    /// Whether sets of who was seen are read one after the other.
    pub(super) sets: bool,
    pub(super) kind: Kind,
}

impl Plan {
    pub(super) fn of_lister(key: &ListerKey) -> Self {
        Self { listers: vec![key.id().0], ..Self::default() }
    }

    pub(super) fn of_host(host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..Self::default() }
    }

    pub(super) fn of_run(run: u64) -> Self {
        let fetch = vec![Unknown::Key(keys::RUN, keys::of_run(run).to_vec())];
        Self { run: Some(run), fetch, ..Self::default() }
    }
}

/// What is to be done before a transaction.
pub(super) enum Unready {
    /// A policy's origins are to be placed again.
    Unsettled,
    /// A policy wants to see a sample of them.
    Unpriced,
}

/// How a transaction failed.
enum Failure {
    /// Something else is to be done first.
    Unready(Unready),
    /// Nothing was kept, and it may work when it is done again.
    Again(BackendError),
    For(BackendError),
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        let source = std::error::Error::source(&error);
        let server = source.and_then(|s| s.downcast_ref::<tokio_postgres::Error>());
        let again = server.is_some_and(|e| collided(e) || lost(e));
        if again { Self::Again(error) } else { Self::For(error) }
    }
}

impl PostgresStore {
    /// Refuses a caller's time that is too far from the clock's.
    pub(super) fn check(&self, now: Timestamp) -> Result<()> {
        crate::backend::engine::check_clock(self.options.clock_bound, now)
    }

    /// A number for a lock: of this schema, of a kind, of a name.
    pub(super) fn lock(&self, kind: &str, name: &str) -> i64 {
        let digest = digest128(format!("{}\n{kind}\n{name}", self.schema.name()).as_bytes());
        digest.first_chunk().map_or(0, |half| i64::from_be_bytes(*half))
    }

    /// After a change of policy, places every origin anew: in batches, each of them kept.
    pub(super) async fn settle(&self, now: Timestamp) -> Result<()> {
        let plan = Plan { no_leases: true, kind: Kind::Placing, ..Plan::default() };
        while self.note(now, &plan, &|t, ctx| origins::replace(t, ctx, AT_ONCE)).await? {}
        Ok(())
    }

    /// Before a read of what a change of policy changes.
    pub(super) async fn be_settled(&self, now: Timestamp) -> Result<()> {
        let client = self.client().await?;
        let sql =
            self.schema.sql("select exists (select from {s}.visit_type where replace_from is not null)");
        let statement = client.prepare_cached(&sql).await.map_err(|e| failed("preparing a statement", e))?;
        let asked = client.query_one(&statement, &[]).await.and_then(|row| row.try_get::<_, bool>(0));
        drop(client);
        if asked.map_err(|e| failed("reading visit types", e))? { self.settle(now).await } else { Ok(()) }
    }

    /// Before a read of what depends on a policy's price.
    pub(super) async fn be_priced(&self, visit_type: &VisitType, now: Timestamp) -> Result<()> {
        self.be_settled(now).await?;
        let unpriced = self.read(now, Vec::new(), |_, ctx| Ok(sweep::unsettled(ctx, visit_type))).await?;
        if unpriced.is_some() {
            self.start(visit_type, now).await?;
            self.be_settled(now).await?;
        }
        Ok(())
    }

    /// Lets the policy of a visit type look at a sample of its origins.
    async fn start(&self, visit_type: &VisitType, now: Timestamp) -> Result<()> {
        let plan = Plan { kind: Kind::Placing, ..Plan::default() };
        let start = |t: &mut dyn KvTxn, ctx: &mut Ctx<'_>| match sweep::unsettled(ctx, visit_type) {
            Some(number) => sweep::start(t, ctx, number),
            None => Ok(()),
        };
        self.note(now, &plan, &start).await
    }

    /// Runs the engine in a transaction, and keeps what it writes.
    pub(super) async fn write<R: Send>(
        &self,
        now: Timestamp,
        plan: Plan,
        f: impl Fn(&mut dyn KvTxn, &mut Ctx<'_>) -> Result<R> + Send + Sync,
    ) -> Result<R> {
        self.check(now)?;
        self.note(now, &plan, &f).await
    }

    /// As [`PostgresStore::write`], for what has a time of its own.
    pub(super) async fn note<R: Send>(
        &self,
        now: Timestamp,
        plan: &Plan,
        f: &(dyn Fn(&mut dyn KvTxn, &mut Ctx<'_>) -> Result<R> + Send + Sync),
    ) -> Result<R> {
        loop {
            match self.attempts(now, plan, f).await? {
                Ok(result) => return Ok(result),
                Err(Unready::Unsettled) => Box::pin(self.settle(now)).await?,
                Err(Unready::Unpriced) => {
                    if let Some(visit_type) = &plan.claim {
                        Box::pin(self.start(visit_type, now)).await?;
                    }
                }
            }
        }
    }

    async fn attempts<R: Send>(
        &self,
        now: Timestamp,
        plan: &Plan,
        f: &(dyn Fn(&mut dyn KvTxn, &mut Ctx<'_>) -> Result<R> + Send + Sync),
    ) -> Result<Result<R, Unready>> {
        let mut tried = 1;
        loop {
            match self.attempt(now, plan, f).await {
                Ok(result) => return Ok(Ok(result)),
                Err(Failure::Unready(what)) => return Ok(Err(what)),
                Err(Failure::For(error)) => return Err(error),
                Err(Failure::Again(error)) if tried >= ATTEMPTS => return Err(error),
                Err(Failure::Again(error)) => {
                    tracing::debug!(tried, %error, "done again");
                    tried += 1;
                }
            }
        }
    }

    async fn attempt<R: Send>(
        &self,
        now: Timestamp,
        plan: &Plan,
        f: &(dyn Fn(&mut dyn KvTxn, &mut Ctx<'_>) -> Result<R> + Send + Sync),
    ) -> Result<R, Failure> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(|e| failed("beginning a transaction", e))?;
        let db = Db { tx: &tx, schema: &self.schema };
        let (sweeps, listers) = self.prepare(&db, plan).await?;
        let mut known = Known::new();
        let (result, writes) = loop {
            known.no_leases = plan.no_leases;
            let settled = fetch::types(&db, &mut known).await?;
            if matches!(plan.kind, Kind::Work | Kind::Rehearsal) {
                self.ready(&known, settled, plan, now)?;
            }
            let mut hints = plan.hints.clone();
            let claimed = plan.claim.as_ref().map_or(Ok(None), |claim| claim::type_number(&known, claim))?;
            if let Some(only) = plan.only {
                let rows = db.rows("select id from {s}.lister where uuid = $1", &[&only]).await?;
                // Of a lister that is not known there is nothing: no lister has this number.
                let number = rows.first().map_or(Ok(-1), |row| row.try_get(0));
                hints.only = Some(number.map_err(|e| failed("reading listers", e))?);
            }
            if let Some(number) = claimed {
                let positions = claim::begin(&db, &mut known, number, now).await?;
                // A virtual clock says nothing about how long ago a head was looked at, and a claim of
                // one lister's leaves the others behind.
                if self.options.clock_bound.is_some() && hints.only.is_none() {
                    hints.positions = positions;
                }
            }
            let pace = claimed.map(|number| Unknown::Key(keys::PACE, K::new().u16(number).to_vec()));
            let wanted = plan.fetch.iter().chain(&listers).cloned().chain(pace).collect();
            fetch::all(&db, &mut known, &hints, wanted).await?;
            let (result, mut writes) = self.until_known(&db, &mut known, &hints, (now, sweeps), f).await?;
            if plan.kind == Kind::Rehearsal {
                tx.rollback().await.map_err(|e| failed("taking back a rehearsal", e))?;
                return Ok(result);
            }
            for sequence in known.reserved() {
                fetch::give_back(&db, &known, &sequence, writes.last_of(&sequence)).await?;
            }
            if save::still_true(&db, &known, &mut writes).await? {
                if let Some(number) = claimed.filter(|_| hints.only.is_none()) {
                    claim::end(&db, &known, &writes, (number, &hints.positions), now).await?;
                }
                break (result, writes);
            }
            // The rows are locked by now: what is read next stays true.
            known = Known::new();
        };
        save::all(&db, &known, writes).await?;
        commit(tx).await?;
        Ok(result)
    }

    /// Whether something else is to be done first.
    fn ready(&self, known: &Known, settled: bool, plan: &Plan, now: Timestamp) -> Result<(), Failure> {
        if !settled {
            return Err(Failure::Unready(Unready::Unsettled));
        }
        let Some(visit_type) = &plan.claim else { return Ok(()) };
        let ctx = Ctx::new(&Draft::new(known), &self.options, now)?;
        match sweep::unsettled(&ctx, visit_type) {
            Some(_) => Err(Failure::Unready(Unready::Unpriced)),
            None => Ok(()),
        }
    }

    /// Takes locks, each in a statement of its own: what comes after sees what others did before. Tells
    /// whether this one is to place again what no new fact renews, and the listers that are meant.
    async fn prepare(&self, db: &Db<'_>, plan: &Plan) -> Result<(bool, Vec<Unknown>)> {
        db.tx.batch_execute(PLANS).await.map_err(|e| failed("preparing a transaction", e))?;
        let mut listers = plan.listers.clone();
        if let Some(run) = plan.run {
            listers.extend(self.lister_of(db, run).await?);
        }
        let mut locks: Vec<i64> = listers.iter().map(|id| self.lock("lister", &id.to_string())).collect();
        if let Some(visit_type) = &plan.claim {
            locks.push(self.lock("claim", visit_type.as_str()));
        }
        locks.extend(plan.host.as_ref().map(|host| self.lock("host", host)));
        locks.extend((plan.kind == Kind::Placing).then(|| self.lock("places", "")));
        locks.sort_unstable();
        locks.dedup();
        for lock in locks {
            db.row("select pg_advisory_xact_lock($1)", &[&lock]).await?;
        }
        if plan.sets {
            for id in &listers {
                let sql = "select id from {s}.lister where uuid = $1";
                for row in db.rows(sql, &[id]).await? {
                    let number = row.try_get(0).map_err(|e| failed("reading listers", e))?;
                    seen::put_all_together(db, number).await?;
                }
            }
        }
        let listers =
            listers.iter().map(|id| Unknown::Key(keys::LISTER_ID, id.as_bytes().to_vec())).collect();
        if plan.claim.is_none() {
            return Ok((false, listers));
        }
        let row = db.row("select pg_try_advisory_xact_lock($1)", &[&self.lock("sweep", "")]).await?;
        Ok((row.try_get(0).map_err(|e| failed("taking a lock", e))?, listers))
    }

    /// The lister of a run. It never changes, and so is remembered.
    async fn lister_of(&self, db: &Db<'_>, run: u64) -> Result<Option<uuid::Uuid>> {
        if let Some(known) = self.runs.lock().ok().and_then(|runs| runs.get(&run).copied()) {
            return Ok(Some(known));
        }
        let sql = "select l.uuid from {s}.run r join {s}.lister l on l.id = r.lister where r.id = $1";
        let rows = db.rows(sql, &[&run.cast_signed()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id: uuid::Uuid = row.try_get(0).map_err(|e| failed("reading runs", e))?;
        if let Ok(mut runs) = self.runs.lock() {
            runs.insert(run, id);
        }
        Ok(Some(id))
    }

    async fn until_known<R: Send>(
        &self,
        db: &Db<'_>,
        known: &mut Known,
        hints: &Hints,
        (now, sweeps): (Timestamp, bool),
        f: &(dyn Fn(&mut dyn KvTxn, &mut Ctx<'_>) -> Result<R> + Send + Sync),
    ) -> Result<(R, Writes)> {
        loop {
            let next = {
                let mut draft = Draft::new(known);
                let result = Ctx::new(&draft, &self.options, now).and_then(|mut ctx| {
                    ctx.sweeps = sweeps;
                    let result = f(&mut draft, &mut ctx)?;
                    ctx.finish(&mut draft)?;
                    Ok(result)
                });
                let unknown = draft.unknown();
                if unknown.is_empty() {
                    // Nothing was made up: what came of it, an error too, is true.
                    let result = result?;
                    let wanting = draft.wanting();
                    if wanting.is_empty() {
                        return Ok((result, Writes::of(draft)));
                    }
                    Err(wanting)
                } else {
                    Ok(unknown)
                }
            };
            match next {
                Ok(unknown) => fetch::all(db, known, hints, unknown).await?,
                Err(wanting) => {
                    for (sequence, n) in wanting {
                        fetch::give_back(db, known, &sequence, None).await?;
                        fetch::reserve(db, known, &sequence, n).await?;
                    }
                }
            }
        }
    }

    /// Runs the engine over one state of the database, and writes nothing.
    pub(super) async fn read<R: Send>(
        &self,
        now: Timestamp,
        fetch: Vec<Unknown>,
        f: impl Fn(&dyn KvRead, &mut Ctx<'_>) -> Result<R> + Send + Sync,
    ) -> Result<R> {
        self.read_with(now, fetch, &Hints::default(), f).await
    }

    /// As [`PostgresStore::read`], where more is known of what will be read.
    pub(super) async fn read_with<R: Send>(
        &self,
        now: Timestamp,
        fetch: Vec<Unknown>,
        hints: &Hints,
        f: impl Fn(&dyn KvRead, &mut Ctx<'_>) -> Result<R> + Send + Sync,
    ) -> Result<R> {
        let mut tried = 1;
        loop {
            match self.read_once(now, fetch.clone(), hints, &f).await {
                Ok(result) => return Ok(result),
                Err(Failure::Again(_)) if tried < ATTEMPTS => tried += 1,
                Err(Failure::Again(error) | Failure::For(error)) => return Err(error),
                // Only writers look whether anything is to be done first.
                Err(Failure::Unready(_)) => tried += 1,
            }
        }
    }

    async fn read_once<R: Send>(
        &self,
        now: Timestamp,
        fetch: Vec<Unknown>,
        hints: &Hints,
        f: &(dyn Fn(&dyn KvRead, &mut Ctx<'_>) -> Result<R> + Send + Sync),
    ) -> Result<R, Failure> {
        let mut client = self.client().await?;
        let snapshot =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let tx = snapshot.start().await.map_err(|e| failed("beginning to read", e))?;
        let db = Db { tx: &tx, schema: &self.schema };
        db.tx.batch_execute(PLANS).await.map_err(|e| failed("preparing a transaction", e))?;
        let mut known = Known::new();
        fetch::types(&db, &mut known).await?;
        let mut unknown = fetch;
        loop {
            fetch::all(&db, &mut known, hints, unknown).await?;
            let draft = Draft::new(&known);
            let result = Ctx::new(&draft, &self.options, now).and_then(|mut ctx| f(&draft, &mut ctx));
            unknown = draft.unknown();
            if unknown.is_empty() {
                return Ok(result?);
            }
        }
    }

    /// As [`PostgresStore::read`], in one round trip, of origins by their keys. None where more is needed.
    pub(super) async fn glance<R: Send>(
        &self,
        fetch: &[Unknown],
        f: impl Fn(&dyn KvRead, &mut Ctx<'_>) -> Result<R> + Send + Sync,
    ) -> Result<Option<R>> {
        let range = |what: &Unknown| match what {
            Unknown::Range(_, from, to) => Some((from.clone(), to.clone())),
            _ => None,
        };
        let client = self.client().await?;
        let ranges = fetch.iter().filter_map(range).collect();
        let Some(known) = learn::find_at_once(&client, &self.schema, ranges).await? else { return Ok(None) };
        drop(client);
        let draft = Draft::new(&known);
        let result =
            Ctx::new(&draft, &self.options, origins::NO_TIME).and_then(|mut ctx| f(&draft, &mut ctx));
        if draft.unknown().is_empty() { result.map(Some) } else { Ok(None) }
    }

    pub(super) async fn client(&self) -> Result<deadpool_postgres::Client> {
        self.pool.get().await.map_err(|e| {
            BackendError::new(BackendErrorKind::Unavailable, "no connection to PostgreSQL").with_source(e)
        })
    }
}

/// The one moment after which nobody knows: a connection lost while committing.
async fn commit(tx: Transaction<'_>) -> Result<(), Failure> {
    match tx.commit().await {
        Ok(()) => Ok(()),
        Err(e) if lost(&e) => {
            let what = "the connection was lost while committing: it may have been kept, or not";
            Err(Failure::For(failed(what, e)))
        }
        Err(e) => Err(failed("committing", e).into()),
    }
}
