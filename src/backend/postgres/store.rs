//! The role traits.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;

use super::db::Db;
use super::fetch::Hints;
use super::known::Unknown;
use super::work::{Kind, Plan};
use super::{PostgresStore, metrics, sql};
use crate::backend::engine::kv::after_prefix;
use crate::backend::engine::place::key_number;
use crate::backend::engine::{
    commit, explain, feed, gaps, keys, origins, runs, standings, turn, unkept, visits as leases,
};
use crate::backend::{
    Begun, Candidate, Change, ChangeToken, Claim, Claimed, Committed, Completed, EndRun, Ended, Explanation,
    Gap, GapQuery, Hint, Hinted, Imported, ImportedOrigin, LaneLoad, Metrics, MetricsStore, OriginPage,
    OriginQuery, OriginStore, PageCommit, PageToken, PendingCursor, Refusal, Requested, Result, RunOutcome,
    RunPlan, RunQuery, RunRecord, RunStore, RunTicket, Validator, VisitRequest, VisitStore,
};
use crate::model::{
    ListerKey, ListerRecord, OriginKey, Outcome, Timestamp, VisitId, VisitStats, VisitToken, VisitType,
    digest128,
};
use crate::transport::{LimitStore, Standing, TransportError};

/// So many origins are looked at for one page, before what was found is handed over.
const REACH: usize = 8192;

/// The rows of these origins, and that there are no others of their keys.
fn by_key<'k>(origins: impl IntoIterator<Item = (&'k str, &'k VisitType)>) -> Vec<Unknown> {
    let mut seen = HashSet::new();
    let digests = origins.into_iter().map(|(url, visit_type)| key_number(url, visit_type.as_str()));
    digests
        .filter(|digest| seen.insert(*digest))
        .map(|digest| {
            let prefix = keys::of_u64(digest).to_vec();
            let end = after_prefix(&prefix);
            Unknown::Range(keys::ORIGIN_KEY, prefix, end)
        })
        .collect()
}

fn of_keys(origins: &[OriginKey]) -> Vec<Unknown> {
    by_key(origins.iter().map(|o| (o.url.as_str(), &o.visit_type)))
}

/// From so many origins on, all listers are read at once, and what their news were worth: mostly those
/// of the origins are among them.
const MANY: usize = 200;

fn of_listers() -> [Unknown; 2] {
    [keys::LISTER, keys::LEDGER].map(|table| Unknown::Range(table, Vec::new(), None))
}

/// What tells which origins are on a page of them.
fn of_page(after: Option<&PageToken>) -> Vec<Unknown> {
    let mut fetch = vec![Unknown::Range(keys::LISTER, Vec::new(), None)];
    if let Some(token) = after {
        let (lister, from) = origins::place_of(token);
        let of_lister = keys::of_u32(lister).to_vec();
        let end = after_prefix(&of_lister);
        fetch.push(Unknown::Range(keys::LISTED, from, end.clone()));
        fetch.push(Unknown::Range(keys::SEEN_RUN, of_lister, end));
    }
    fetch
}

/// The origins of visits, and their leases.
fn of_visits(visits: impl Iterator<Item = VisitId>) -> Vec<Unknown> {
    visits
        .flat_map(|visit| {
            let key = || keys::of_u64(visit.0).to_vec();
            [Unknown::Key(keys::ORIGIN, key()), Unknown::Key(keys::LEASE, key())]
        })
        .collect()
}

#[async_trait]
impl RunStore for PostgresStore {
    async fn lister(&self, key: &ListerKey, now: Timestamp) -> Result<ListerRecord> {
        let plan = Plan::of_lister(key);
        self.write(now, plan, |t, _| runs::lister(t, key, now)).await
    }

    async fn begin_run(&self, plan: RunPlan, now: Timestamp) -> Result<Begun> {
        let of = Plan { sets: true, no_leases: true, ..Plan::of_lister(&plan.lister) };
        self.write(now, of, |t, ctx| runs::begin(t, ctx, &plan)).await
    }

    async fn claim_cursors(
        &self,
        run: RunTicket,
        limit: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<PendingCursor>> {
        let plan = Plan::of_run(run.run.0);
        self.write(now, plan, |t, _| runs::claim_cursors(t, run, limit, lease, now)).await
    }

    async fn commit_page(&self, commit: PageCommit, now: Timestamp) -> Result<Committed> {
        let (run, cursor) = (commit.run.run.0, commit.cursor.cursor.0);
        let mut plan = Plan { no_leases: true, ..Plan::of_run(run) };
        let cursor = || keys::pair(run, cursor).to_vec();
        plan.fetch.push(Unknown::Key(keys::PENDING, cursor()));
        plan.fetch.push(Unknown::Key(keys::CURSOR, cursor()));
        let seen = commit.batch.origins.iter().map(|s| (s.origin.url.as_str(), &s.origin.visit_type));
        let gone = commit.batch.gone.iter().map(|(key, _)| (key.url.as_str(), &key.visit_type));
        plan.fetch.extend(by_key(seen.chain(gone)));
        self.write(now, plan, |t, ctx| commit::commit(t, ctx, &commit)).await
    }

    async fn candidate(&self, run: RunTicket) -> Result<Candidate> {
        self.read(origins::NO_TIME, Vec::new(), |t, _| runs::candidate(t, run)).await
    }

    async fn validator(&self, lister: &ListerKey, key: &str) -> Result<Option<Validator>> {
        self.read(origins::NO_TIME, Vec::new(), |t, _| runs::validator(t, lister, key)).await
    }

    async fn end_run(&self, end: EndRun, now: Timestamp) -> Result<Ended> {
        let plan = Plan { sets: true, no_leases: true, ..Plan::of_run(end.run.run.0) };
        self.write(now, plan, |t, ctx| {
            let ended = runs::end(t, ctx, end.clone())?;
            if ended.run.outcome == RunOutcome::Complete {
                origins::follow_listings(ctx);
            }
            Ok(ended)
        })
        .await
    }

    async fn runs(&self, query: &RunQuery, limit: usize) -> Result<Vec<RunRecord>> {
        self.read(origins::NO_TIME, Vec::new(), |t, _| runs::query(t, query, limit)).await
    }

    async fn gaps(&self, query: &GapQuery) -> Result<Vec<Gap>> {
        self.read(origins::NO_TIME, Vec::new(), |t, _| gaps::query(t, query)).await
    }
}

#[async_trait]
impl LimitStore for PostgresStore {
    async fn standings(&self, host: &str, now: Timestamp) -> Result<Vec<Standing>, TransportError> {
        let found = self.read(now, Vec::new(), |t, _| standings::of(t, host, now)).await;
        found.map_err(|e| unkept("read", host, e))
    }

    async fn keep_standings(
        &self,
        host: &str,
        news: &[Standing],
        now: Timestamp,
    ) -> Result<(), TransportError> {
        let plan = Plan { kind: Kind::Limits, ..Plan::of_host(host) };
        let kept = self.note(now, &plan, &|t, _| standings::keep(t, host, news, now)).await;
        kept.map_err(|e| unkept("kept", host, e))
    }
}

#[async_trait]
impl OriginStore for PostgresStore {
    async fn listers(&self) -> Result<Vec<ListerRecord>> {
        self.read(origins::NO_TIME, Vec::new(), |t, _| runs::listers(t)).await
    }

    async fn origins(
        &self,
        query: &OriginQuery,
        after: Option<PageToken>,
        limit: usize,
    ) -> Result<OriginPage> {
        let limit = limit.max(1);
        let (mut found, mut after) = (Vec::new(), after);
        // One that is asked for by its URL is looked up whole.
        let hints = Hints { shown: query.url.is_none(), ..Hints::default() };
        loop {
            let left = limit - found.len();
            let page = self
                .read_with(origins::NO_TIME, of_page(after.as_ref()), &hints, |t, ctx| {
                    origins::origins(t, ctx, query, after.as_ref(), left, REACH)
                })
                .await?;
            found.extend(page.origins);
            after = page.next;
            if found.len() >= limit || after.is_none() {
                return Ok(OriginPage::new(found, after));
            }
        }
    }

    async fn import(&self, origins: Vec<ImportedOrigin>, now: Timestamp) -> Result<Imported> {
        let listers: HashSet<_> =
            origins.iter().map(|o| ListerKey::new(&o.lister, &o.instance).id().0).collect();
        let plan = Plan {
            listers: listers.into_iter().collect(),
            fetch: by_key(origins.iter().map(|o| (o.url.as_str(), &o.visit_type))),
            // Visits that are under way elsewhere are kept as leases.
            no_leases: origins.iter().all(|o| o.visits.as_ref().is_none_or(|v| v.under_way.is_none())),
            ..Plan::default()
        };
        self.write(now, plan, |t, ctx| origins::import(t, ctx, origins.clone())).await
    }

    async fn set_disabled(&self, origins: &[OriginKey], reason: Option<&str>, now: Timestamp) -> Result<u64> {
        let plan = Plan { fetch: of_keys(origins), no_leases: true, ..Plan::default() };
        self.write(now, plan, |t, ctx| origins::set_disabled(t, ctx, origins, reason)).await
    }

    async fn changes(&self, after: ChangeToken, limit: usize) -> Result<Vec<Change>> {
        self.read(origins::NO_TIME, Vec::new(), |t, ctx| feed::changes(t, ctx, after, limit)).await
    }
}

impl PostgresStore {
    async fn claimed(&self, claim: &Claim, now: Timestamp, kind: Kind) -> Result<Claimed> {
        let mut plan = Plan { claim: Some(claim.visit_type.clone()), kind, ..Plan::default() };
        plan.hints = Hints { batch: claim.count as u64, ..Hints::default() };
        plan.only = claim.lister.as_ref().map(|lister| lister.id().0);
        plan.fetch = vec![
            Unknown::Key(keys::SWEEP, Vec::new()),
            Unknown::Range(keys::STALE_DUE, Vec::new(), None),
            Unknown::Key(keys::OWNER_ID, digest128(claim.owner.as_bytes()).to_vec()),
        ];
        if claim.count >= MANY {
            plan.fetch.extend(of_listers());
        }
        self.write(now, plan, |t, ctx| leases::claim(t, ctx, claim)).await
    }
}

#[async_trait]
impl VisitStore for PostgresStore {
    async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        self.claimed(claim, now, Kind::Work).await
    }

    async fn peek(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        Ok(leases::shown(self.claimed(claim, now, Kind::Rehearsal).await?))
    }

    async fn heartbeat(
        &self,
        visits: &[(VisitId, VisitToken)],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Result<Timestamp, Refusal>>> {
        let plan = Plan { fetch: of_visits(visits.iter().map(|v| v.0)), ..Plan::default() };
        self.write(now, plan, |t, _| leases::heartbeat(t, visits, lease, now)).await
    }

    async fn complete(
        &self,
        outcomes: &[Outcome],
        now: Timestamp,
    ) -> Result<Vec<Result<Completed, Refusal>>> {
        let mut plan = Plan { fetch: of_visits(outcomes.iter().map(|o| o.visit)), ..Plan::default() };
        plan.fetch.push(Unknown::Key(keys::META, b"visit".to_vec()));
        let joined = |o: &Outcome| Unknown::Key(keys::JOINED, keys::of_u64(o.visit.0).to_vec());
        plan.fetch.extend(outcomes.iter().map(joined));
        if outcomes.len() >= MANY {
            plan.fetch.extend(of_listers());
        }
        self.write(now, plan, |t, ctx| leases::complete(t, ctx, outcomes)).await
    }

    async fn request(&self, requests: &[VisitRequest], now: Timestamp) -> Result<Vec<Option<Requested>>> {
        let keys = by_key(requests.iter().map(|r| (r.origin.url.as_str(), &r.origin.visit_type)));
        let plan = Plan { fetch: keys, ..Plan::default() };
        self.write(now, plan, |t, ctx| explain::request(t, ctx, requests)).await
    }

    async fn hint(&self, hints: &[Hint], now: Timestamp) -> Result<Vec<Hinted>> {
        let keys = by_key(hints.iter().map(|h| (h.origin.url.as_str(), &h.origin.visit_type)));
        let plan = Plan { fetch: keys, ..Plan::default() };
        self.write(now, plan, |t, ctx| explain::hint(t, ctx, hints)).await
    }

    async fn stats(&self, origins: &[OriginKey]) -> Result<Vec<Option<VisitStats>>> {
        let fetch = of_keys(origins);
        let known = self.glance(&fetch, |t, ctx| explain::statistics(t, ctx, origins)).await;
        match known {
            Ok(Some(known)) => Ok(known),
            // Of an origin that is not there, or has another URL now, or whose connection was lost.
            _ => self.read(origins::NO_TIME, fetch, |t, ctx| explain::statistics(t, ctx, origins)).await,
        }
    }

    async fn explain(&self, origin: &OriginKey, now: Timestamp) -> Result<Option<Explanation>> {
        self.check(now)?;
        self.be_priced(&origin.visit_type, now).await?;
        let fetch = of_keys(std::slice::from_ref(origin));
        let explained = self.read(now, fetch.clone(), |t, ctx| explain::explain(t, ctx, origin)).await?;
        let Some(mut explained) = explained else { return Ok(None) };
        if explained.earliest.is_some() {
            let claim = Some(origin.visit_type.clone());
            let plan = Plan { fetch, claim, kind: Kind::Rehearsal, ..Plan::default() };
            let turn = self.write(now, plan, |t, _| turn::turn(t, &self.options, origin, now)).await?;
            turn::tell(&mut explained, turn);
        }
        Ok(Some(explained))
    }
}

#[async_trait]
impl MetricsStore for PostgresStore {
    async fn metrics(&self, now: Timestamp) -> Result<Vec<Metrics>> {
        self.check(now)?;
        self.be_settled(now).await?;
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(|e| sql::failed("beginning to count", e))?;
        metrics::metrics(&Db { tx: &tx, schema: &self.schema }, now).await
    }

    async fn lanes(&self, visit_type: &VisitType, now: Timestamp) -> Result<Vec<LaneLoad>> {
        self.check(now)?;
        self.be_settled(now).await?;
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(|e| sql::failed("beginning to count", e))?;
        let policy = self.options.policies.of(visit_type.as_str());
        metrics::lanes(&Db { tx: &tx, schema: &self.schema }, visit_type, &**policy, now).await
    }
}
