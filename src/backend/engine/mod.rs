//! One engine for every store that runs in this process: written once, over ordered tables of keys
//! and values, so that a store in memory and one in a file cannot drift apart.

#![allow(
    clippy::similar_names,
    clippy::single_match_else,
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    clippy::struct_field_names,
    reason = "rows and their parts are named as the tables are, and given away where they are kept"
)]

mod choose;
pub(crate) mod commit;
pub(crate) mod ctx;
pub(crate) mod explain;
pub(crate) mod feed;
#[cfg(feature = "file")]
mod filter;
mod frontier;
pub(crate) mod gaps;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod kv;
pub(crate) mod mem;
pub(crate) mod origins;
mod pace;
mod parts;
pub(crate) mod place;
mod prune;
#[cfg(feature = "file")]
pub(crate) mod redb;
pub(crate) mod rows;
pub(crate) mod runs;
mod seen;
pub(crate) mod sets;
pub(crate) mod standings;
mod store;
pub(crate) mod sweep;
#[cfg(feature = "file")]
mod tail;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[cfg(feature = "file")]
mod together;
pub(crate) mod turn;
pub(crate) mod visits;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

pub(crate) use store::{impl_store, unkept};

use self::ctx::Ctx;
use self::kv::{Kv, KvRead, KvTxn};
use crate::backend::{
    BackendError, BackendErrorKind, Begun, Candidate, Change, ChangeToken, Claim, Claimed, Committed,
    Completed, EndRun, Ended, Explanation, Gap, GapQuery, Hint, Hinted, Imported, ImportedOrigin, LaneLoad,
    Metrics, OriginPage, OriginQuery, PageCommit, PageToken, PendingCursor, Refusal, Requested, Result,
    RunOutcome, RunPlan, RunQuery, RunRecord, RunTicket, StoreOptions, Validator, VisitRequest,
};
use crate::model::{
    ListerKey, ListerRecord, OriginKey, Outcome, Timestamp, VisitId, VisitStats, VisitToken, VisitType,
};
use crate::transport::Standing;

/// The form of the tables as a whole.
#[cfg(any(feature = "file", test))]
const FORM: u64 = 4;

/// So many origins are placed again in one transaction after a change of policy.
pub(crate) const AT_ONCE: usize = 1000;

/// Refuses a caller's time that is too far from the clock's.
pub(crate) fn check_clock(bound: Option<Duration>, now: Timestamp) -> Result<()> {
    let Some(bound) = bound else { return Ok(()) };
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let clock = Timestamp::EPOCH.plus(clock);
    let apart = now.since(clock).max(clock.since(now));
    if apart > bound {
        let what = format!("told {now}, while the clock says {clock}");
        return Err(BackendError::new(BackendErrorKind::Clock, what));
    }
    Ok(())
}

/// The engine over some tables.
pub(crate) struct Engine<S> {
    kv: S,
    options: StoreOptions,
    /// Whether every origin is placed by the policy of now.
    settled: AtomicBool,
}

impl Engine<mem::MemKv> {
    /// An engine over no tables yet.
    pub(crate) fn new(options: StoreOptions) -> Self {
        Self { kv: mem::MemKv::default(), options, settled: AtomicBool::new(true) }
    }
}

impl<S: Kv> Engine<S> {
    /// Opens tables, new or not.
    #[cfg(any(feature = "file", test))]
    pub(crate) fn open(kv: S, options: StoreOptions) -> Result<Self> {
        let settled = kv.write(|t| {
            let form = ctx::last(t, "form")?;
            if form > FORM {
                let what = format!("its form is {form}, this version reads up to {FORM}");
                return Err(BackendError::new(BackendErrorKind::Newer, what));
            }
            if (1..FORM).contains(&form) {
                let what = format!("its form is {form}, written before the first release");
                return Err(BackendError::new(BackendErrorKind::Corrupt, what));
            }
            if form == 0 {
                t.put(keys::META, b"form", &keys::of_u64(FORM))?;
            }
            let mut settled = true;
            for kind in Ctx::new(t, &options, origins::NO_TIME)?.kinds() {
                let mut row = kind.row.clone();
                let form = ctx::form_of(&*kind.policy, &kind.row.name, &options);
                if row.policy != kind.policy.name() || row.form != form {
                    if row.policy != kind.policy.name() {
                        kind.policy.name().clone_into(&mut row.policy);
                        row.credit = Vec::new();
                        row.shared = None;
                    }
                    row.form = form;
                    row.replace_from = Some(0);
                    t.put(keys::TYPE, &keys::K::new().u16(kind.number), &rows::encode(&row)?)?;
                }
                settled &= row.replace_from.is_none();
            }
            Ok(settled)
        })?;
        Ok(Self { kv, options, settled: AtomicBool::new(settled) })
    }

    fn check(&self, now: Timestamp) -> Result<()> {
        check_clock(self.options.clock_bound, now)
    }

    /// After a change of policy, places every origin anew: in batches, each of them kept.
    fn settle(&self, now: Timestamp) -> Result<()> {
        while !self.settled.load(Ordering::Acquire) {
            let more = self.kv.write(|t| {
                let mut ctx = Ctx::new(t, &self.options, now)?;
                let more = origins::replace(t, &mut ctx, AT_ONCE)?;
                ctx.finish(t)?;
                Ok(more)
            })?;
            self.settled.store(!more, Ordering::Release);
        }
        Ok(())
    }

    /// Lets a policy that asks for it look at a sample of a visit type's origins, and places all of
    /// them by what it makes of that.
    fn start(&self, visit_type: &VisitType, now: Timestamp) -> Result<()> {
        if self.read_at(now, |_, ctx| Ok(sweep::unsettled(ctx, visit_type)))?.is_none() {
            return Ok(());
        }
        self.write(now, |t, ctx| match sweep::unsettled(ctx, visit_type) {
            Some(number) => sweep::start(t, ctx, number),
            None => Ok(()),
        })?;
        self.settled.store(false, Ordering::Release);
        self.settle(now)
    }

    fn write<R>(
        &self,
        now: Timestamp,
        f: impl FnOnce(&mut dyn KvTxn, &mut Ctx<'_>) -> Result<R>,
    ) -> Result<R> {
        self.check(now)?;
        self.settle(now)?;
        self.kv.write(|t| {
            let mut ctx = Ctx::new(t, &self.options, now)?;
            let result = f(t, &mut ctx)?;
            ctx.finish(t)?;
            Ok(result)
        })
    }

    fn read_at<R>(
        &self,
        now: Timestamp,
        f: impl FnOnce(&dyn KvRead, &mut Ctx<'_>) -> Result<R>,
    ) -> Result<R> {
        self.check(now)?;
        self.settle(now)?;
        self.read(now, f)
    }

    fn read<R>(&self, now: Timestamp, f: impl FnOnce(&dyn KvRead, &mut Ctx<'_>) -> Result<R>) -> Result<R> {
        self.kv.read(|t| {
            let mut ctx = Ctx::new(t, &self.options, now)?;
            f(t, &mut ctx)
        })
    }

    pub(crate) fn lister(&self, key: &ListerKey, now: Timestamp) -> Result<ListerRecord> {
        self.write(now, |t, _| runs::lister(t, key, now))
    }

    pub(crate) fn begin_run(&self, plan: &RunPlan, now: Timestamp) -> Result<Begun> {
        self.write(now, |t, ctx| runs::begin(t, ctx, plan))
    }

    pub(crate) fn claim_cursors(
        &self,
        run: RunTicket,
        limit: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<PendingCursor>> {
        self.check(now)?;
        // A crash ends the lease of a cursor anyway: whoever begins the run again frees them all.
        self.kv.write_soon(|t| runs::claim_cursors(t, run, limit, lease, now))
    }

    pub(crate) fn commit_page(&self, commit: PageCommit, now: Timestamp) -> Result<Committed> {
        self.write(now, |t, ctx| commit::commit(t, ctx, &commit))
    }

    /// Commits pages one after the other and makes them durable together, which costs little more
    /// than one of them. Where one is refused, each is committed alone: what is wrong with one is
    /// no other's business.
    #[cfg(feature = "file")]
    pub(crate) fn commit_pages(&self, commits: Vec<(PageCommit, Timestamp)>) -> Vec<Result<Committed>> {
        if commits.len() > 1
            && let Ok(committed) = self.commit_together(&commits)
        {
            return committed.into_iter().map(Ok).collect();
        }
        commits.into_iter().map(|(commit, now)| self.commit_page(commit, now)).collect()
    }

    #[cfg(feature = "file")]
    fn commit_together(&self, commits: &[(PageCommit, Timestamp)]) -> Result<Vec<Committed>> {
        for (_, now) in commits {
            self.check(*now)?;
            self.settle(*now)?;
        }
        self.kv.write(|t| {
            let each = commits.iter().map(|(commit, now)| {
                let mut ctx = Ctx::new(t, &self.options, *now)?;
                let committed = commit::commit(t, &mut ctx, commit)?;
                ctx.finish(t)?;
                Ok(committed)
            });
            each.collect()
        })
    }

    pub(crate) fn candidate(&self, run: RunTicket) -> Result<Candidate> {
        self.kv.read(|t| runs::candidate(t, run))
    }

    pub(crate) fn validator(&self, lister: &ListerKey, key: &str) -> Result<Option<Validator>> {
        self.kv.read(|t| runs::validator(t, lister, key))
    }

    pub(crate) fn standings(&self, host: &str, now: Timestamp) -> Result<Vec<Standing>> {
        self.kv.read(|t| standings::of(t, host, now))
    }

    pub(crate) fn keep_standings(&self, host: &str, news: &[Standing], now: Timestamp) -> Result<()> {
        // Not checked against the clock: a forge's limits hold in its own time, whatever a caller
        // pretends that the time is.
        self.kv.write(|t| standings::keep(t, host, news, now))
    }

    pub(crate) fn end_run(&self, end: EndRun, now: Timestamp) -> Result<Ended> {
        let (ended, again) = self.write(now, |t, ctx| {
            let ended = runs::end(t, ctx, end)?;
            let finished = ended.run.outcome == RunOutcome::Complete;
            Ok((ended, finished && origins::follow_listings(ctx)))
        })?;
        if again {
            self.settled.store(false, Ordering::Release);
        }
        Ok(ended)
    }

    pub(crate) fn runs(&self, query: &RunQuery, limit: usize) -> Result<Vec<RunRecord>> {
        self.kv.read(|t| runs::query(t, query, limit))
    }

    pub(crate) fn gaps(&self, query: &GapQuery) -> Result<Vec<Gap>> {
        self.kv.read(|t| gaps::query(t, query))
    }

    pub(crate) fn listers(&self) -> Result<Vec<ListerRecord>> {
        self.kv.read(|t| runs::listers(t))
    }

    pub(crate) fn origins(
        &self,
        query: &OriginQuery,
        after: Option<&PageToken>,
        limit: usize,
    ) -> Result<OriginPage> {
        self.read(origins::NO_TIME, |t, ctx| origins::origins(t, ctx, query, after, limit, usize::MAX))
    }

    pub(crate) fn import(&self, origins: Vec<ImportedOrigin>, now: Timestamp) -> Result<Imported> {
        self.write(now, |t, ctx| origins::import(t, ctx, origins))
    }

    pub(crate) fn set_disabled(
        &self,
        origins: &[OriginKey],
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<u64> {
        self.write(now, |t, ctx| origins::set_disabled(t, ctx, origins, reason))
    }

    pub(crate) fn changes(&self, after: ChangeToken, limit: usize) -> Result<Vec<Change>> {
        self.read(origins::NO_TIME, |t, ctx| feed::changes(t, ctx, after, limit))
    }

    pub(crate) fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        self.check(now)?;
        self.start(&claim.visit_type, now)?;
        self.write(now, |t, ctx| visits::claim(t, ctx, claim))
    }

    pub(crate) fn peek(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        self.check(now)?;
        self.start(&claim.visit_type, now)?;
        self.settle(now)?;
        let claimed = self.kv.rehearse(|t| {
            let mut ctx = Ctx::new(t, &self.options, now)?;
            visits::claim(t, &mut ctx, claim)
        })?;
        Ok(visits::shown(claimed))
    }

    pub(crate) fn heartbeat(
        &self,
        visits: &[(VisitId, VisitToken)],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<std::result::Result<Timestamp, Refusal>>> {
        self.write(now, |t, _| visits::heartbeat(t, visits, lease, now))
    }

    pub(crate) fn complete(
        &self,
        outcomes: &[Outcome],
        now: Timestamp,
    ) -> Result<Vec<std::result::Result<Completed, Refusal>>> {
        self.write(now, |t, ctx| visits::complete(t, ctx, outcomes))
    }

    pub(crate) fn request(
        &self,
        requests: &[VisitRequest],
        now: Timestamp,
    ) -> Result<Vec<Option<Requested>>> {
        self.write(now, |t, ctx| explain::request(t, ctx, requests))
    }

    pub(crate) fn hint(&self, hints: &[Hint], now: Timestamp) -> Result<Vec<Hinted>> {
        self.write(now, |t, ctx| explain::hint(t, ctx, hints))
    }

    pub(crate) fn stats(&self, origins: &[OriginKey]) -> Result<Vec<Option<VisitStats>>> {
        self.read(origins::NO_TIME, |t, ctx| explain::statistics(t, ctx, origins))
    }

    pub(crate) fn explain(&self, origin: &OriginKey, now: Timestamp) -> Result<Option<Explanation>> {
        self.check(now)?;
        self.start(&origin.visit_type, now)?;
        let explained = self.read_at(now, |t, ctx| explain::explain(t, ctx, origin))?;
        let Some(mut explained) = explained else { return Ok(None) };
        if explained.earliest.is_some() {
            let turn = self.kv.rehearse(|t| turn::turn(t, &self.options, origin, now))?;
            turn::tell(&mut explained, turn);
        }
        Ok(Some(explained))
    }

    pub(crate) fn metrics(&self, now: Timestamp) -> Result<Vec<Metrics>> {
        self.read_at(now, |t, ctx| explain::metrics(t, ctx))
    }

    pub(crate) fn lanes(&self, visit_type: &VisitType, now: Timestamp) -> Result<Vec<LaneLoad>> {
        self.read_at(now, |t, ctx| explain::lanes(t, ctx, visit_type))
    }
}
