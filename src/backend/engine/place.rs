//! Origins' rows, and their places in the queue: computed whenever a fact changes.

use std::collections::BTreeSet;

use super::ctx::Ctx;
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, numbers_under};
use super::rows::{
    EvidenceRow, LeaseRow, Listing, OriginRow, Place, Visits, Wishes, corrupt, decode, encode,
};
use super::sets;
use crate::backend::Result;
use crate::model::{OriginKey, Timestamp, VisitStats, VisitType, digest128_of};
use crate::policy::{self, Facts, Memo, Schedule, observe_listing, schedule};

pub(crate) fn digest(url: &str, visit_type: &str) -> [u8; 8] {
    // A visit type holds no space, so that no two pairs give the same text.
    let whole = digest128_of(&[visit_type, " ", url]);
    whole.first_chunk().copied().unwrap_or_default()
}

/// The number by which an origin's key is looked up: that of the digest's bytes.
#[cfg(feature = "postgres")]
pub(crate) fn key_number(url: &str, visit_type: &str) -> u64 {
    u64::from_be_bytes(digest(url, visit_type))
}

/// An origin by its number.
pub(crate) fn load(t: &dyn KvRead, id: u64) -> Result<Option<OriginRow>> {
    t.get(keys::ORIGIN, &keys::of_u64(id))?.map(|bytes| decode(&bytes)).transpose()
}

/// An origin that must be there.
pub(crate) fn must_load(t: &dyn KvRead, id: u64) -> Result<OriginRow> {
    load(t, id)?.ok_or_else(|| corrupt(format!("no origin {id}")))
}

/// Tells that the rows of these origins will be read.
pub(crate) fn will_load(t: &dyn KvRead, ids: impl IntoIterator<Item = u64>) -> Result<()> {
    t.will_read(keys::ORIGIN, &mut ids.into_iter().map(|id| keys::of_u64(id).to_vec()))
}

/// Tells that these origins will be judged: their rows are known, and what their listers say of them all
/// will be asked.
pub(crate) fn will_judge(t: &dyn KvRead, ctx: &mut Ctx<'_>, ids: impl Iterator<Item = u64>) -> Result<()> {
    if !t.is_far() {
        return Ok(());
    }
    let mut chunks = BTreeSet::new();
    for id in ids {
        let (chunk, _) = sets::split(id);
        chunks.extend(must_load(t, id)?.listings.iter().map(|l| (l.lister, chunk)));
    }
    let listers: BTreeSet<u32> = chunks.iter().map(|(lister, _)| *lister).collect();
    let keys_of = |lister: &u32| keys::of_u32(*lister).to_vec();
    t.will_read(keys::LISTER, &mut listers.iter().map(keys_of))?;
    let mut ledgers: BTreeSet<Vec<u8>> = listers.iter().map(keys_of).collect();
    for lister in &listers {
        ledgers.insert(keys::ledger_of_all(&ctx.lister(t, *lister)?.name).to_vec());
    }
    t.will_read(keys::LEDGER, &mut ledgers.into_iter())?;
    let mut seen = Vec::new();
    for (lister, chunk) in chunks {
        let run = ctx.lister(t, lister)?.evidence_run;
        seen.extend(run.map(|run| keys::seen(lister, run, chunk).to_vec()));
    }
    t.will_read(keys::SEEN, &mut seen.into_iter())
}

/// An origin by its key.
pub(crate) fn find(
    t: &dyn KvRead,
    ctx: &Ctx<'_>,
    url: &str,
    visit_type: &VisitType,
) -> Result<Option<(u64, OriginRow)>> {
    let Some(number) = ctx.kind_of(visit_type).map(|k| k.number) else { return Ok(None) };
    let digest = ctx.digest(url, visit_type.as_str());
    for id in numbers_under(t, keys::ORIGIN_KEY, &digest)? {
        let row = must_load(t, id)?;
        if row.url == url && row.visit_type == number {
            return Ok(Some((id, row)));
        }
    }
    Ok(None)
}

/// An origin by its key.
pub(crate) fn find_key(t: &dyn KvRead, ctx: &Ctx<'_>, key: &OriginKey) -> Result<Option<(u64, OriginRow)>> {
    find(t, ctx, &key.url, &key.visit_type)
}

/// A new origin with one listing, not yet written.
pub(crate) fn create(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    url: &str,
    visit_type: &VisitType,
    listing: Listing,
) -> Result<(u64, OriginRow)> {
    let number = ctx.number_of(t, visit_type)?;
    let id = ctx.next_origin(t)?;
    t.put(keys::ORIGIN_KEY, &K::new().bytes(&ctx.digest(url, visit_type.as_str())).u64(id), &[])?;
    let row = OriginRow {
        url: url.to_owned(),
        visit_type: number,
        listings: vec![listing],
        visits: None,
        evidence: None,
        wishes: None,
        place: None,
    };
    Ok((id, row))
}

/// The lease of an origin's visit.
pub(crate) fn lease(t: &dyn KvRead, id: u64) -> Result<Option<LeaseRow>> {
    t.get(keys::LEASE, &keys::of_u64(id))?.map(|bytes| decode(&bytes)).transpose()
}

/// Takes an origin out of the queue for whoever visits it.
pub(crate) fn occupy(t: &mut dyn KvTxn, id: u64, row: &OriginRow, to: &LeaseRow) -> Result<()> {
    unqueue(t, id, row)?;
    t.put(keys::LEASE, &keys::of_u64(id), &encode(to)?)?;
    t.put(keys::DEADLINE, &keys::deadline(to.until.as_micros(), id), &[])
}

/// What a policy is told of an origin.
pub(crate) fn facts(t: &dyn KvRead, ctx: &mut Ctx<'_>, id: u64, row: &OriginRow) -> Result<Facts> {
    let kind = ctx.kind(row.visit_type)?;
    let (seed, tag) = (u64::from_be_bytes(ctx.digest(&row.url, &kind.row.name)), kind.tag);
    let follows = kind.policy.follows_listings();
    let first_seen = row.listings.iter().map(|l| l.first_seen).min().unwrap_or(ctx.now);
    let mut facts = Facts::new(seed, first_seen);
    let live = || row.listings.iter().filter(|l| l.gone().is_none());
    facts.enabled = live().any(Listing::enabled);
    if live().next().is_none() {
        facts.gone = row.listings.iter().filter_map(Listing::gone).max_by_key(|g| g.at);
    }
    facts.last_update = row.listings.iter().filter_map(|l| l.last_update).max();
    let memo = row.visits.as_deref().and_then(|v| v.memo).filter(|(of, _)| *of == tag);
    facts.memo = memo.map_or(Memo::default(), |(_, memo)| memo);
    facts.visits = stats(row);
    facts.evidence = row.evidence.as_deref().map(EvidenceRow::evidence).unwrap_or_default();
    let (mut dated, mut newest) = (None, None);
    for listing in live() {
        let looked = ctx.evidence(t, listing.lister, id)?.max(Some(listing.last_seen()));
        facts.last_listed = facts.last_listed.max(looked);
        if follows {
            facts.last_finished = facts.last_finished.max(ctx.lister(t, listing.lister)?.last_finished);
        }
        if !ctx.dated(t, listing.lister)? {
            continue;
        }
        let trust = ctx.trust(t, listing.lister)?;
        if looked > dated {
            dated = looked;
            facts.trust.recall = trust.recall;
        }
        if listing.last_update > newest {
            newest = listing.last_update;
            facts.trust.precision = trust.precision;
        }
    }
    facts.class = ctx.class_of(t, row)?;
    if let Some(wishes) = row.wishes.as_deref() {
        facts.requested_at = wishes.requested_at;
        facts.requested_by.clone_from(&wishes.requested_by);
        facts.hold_until = wishes.hold_until;
        facts.hinted_at = wishes.hinted_at;
        if wishes.hinted_at > newest {
            facts.trust.precision = ctx.hint_trust(t, wishes.hinted_by)?.precision;
        }
        facts.disabled_by_failures.clone_from(&wishes.by_failures);
        facts.disabled_by_hand.clone_from(&wishes.by_hand);
    }
    if let Some(looked) = dated {
        // News is folded in where it is written: since then there was none.
        let good = facts.last_good();
        facts.evidence.listing(looked, None, good);
    }
    Ok(facts)
}

/// What is known of an origin's visits.
pub(crate) fn stats(row: &OriginRow) -> VisitStats {
    let mut stats = VisitStats::default();
    if let Some(v) = row.visits.as_deref() {
        stats.last_visit = v.last_visit;
        stats.last_successful = v.last_successful;
        stats.last_status = v.last_status;
        stats.last_snapshot.clone_from(&v.last_snapshot);
        stats.failures_in_a_row = v.failures;
        stats.visits = v.visits;
    }
    stats
}

/// Writes back what the folds of the policy changed.
pub(crate) fn absorb(row: &mut OriginRow, facts: &Facts) {
    let (token, memo) = row.visits.as_deref().map_or((0, None), |v| (v.token, v.memo));
    let v = &facts.visits;
    let visits = Visits {
        last_visit: v.last_visit,
        last_successful: v.last_successful,
        last_status: v.last_status,
        last_snapshot: v.last_snapshot.clone(),
        failures: v.failures_in_a_row,
        visits: v.visits,
        token,
        memo,
    };
    row.visits = (visits != Visits::default()).then(|| Box::new(visits));
    row.evidence = EvidenceRow::of(&facts.evidence);
    edit_wishes(row, |w| {
        w.hinted_at = facts.hinted_at;
        w.by_failures.clone_from(&facts.disabled_by_failures);
        w.requested_at = facts.requested_at;
        w.requested_by.clone_from(&facts.requested_by);
        w.hold_until = facts.hold_until;
    });
}

/// Changes what few origins have, and keeps nothing of it where nothing is left.
pub(crate) fn edit_wishes(row: &mut OriginRow, change: impl FnOnce(&mut Wishes)) {
    let mut wishes = row.wishes.take().unwrap_or_default();
    change(&mut wishes);
    row.wishes = (*wishes != Wishes::default()).then_some(wishes);
}

/// Whether a listing of this very moment would change more than what listers say: an origin that
/// was not found is listed again.
pub(crate) fn listing_lifts_hold(row: &OriginRow, ctx: &Ctx<'_>) -> bool {
    let Some(visits) = row.visits.as_deref() else { return false };
    visits.last_status == Some(crate::model::VisitStatus::NotFound)
        && visits.last_visit < Some(ctx.now)
        && row.wishes.as_deref().is_some_and(|w| w.hold_until.is_some())
}

/// Folds in that a lister listed an origin: the facts over all its listers are what the row says.
pub(crate) fn observe(
    t: &dyn KvRead,
    ctx: &mut Ctx<'_>,
    lister: u32,
    id: u64,
    row: &mut OriginRow,
) -> Result<()> {
    let mut facts = facts(t, ctx, id, row)?;
    let listing = policy::Listing::new(ctx.now, facts.last_update)
        .with_enabled(facts.enabled)
        .with_gone(facts.gone)
        .with_dates(ctx.dated(t, lister)?);
    observe_listing(&mut facts, &listing);
    absorb(row, &facts);
    Ok(())
}

/// Where the gates and the policy put an origin, and when it was last good.
pub(crate) fn placement(
    t: &dyn KvRead,
    ctx: &mut Ctx<'_>,
    id: u64,
    row: &OriginRow,
) -> Result<(Schedule, Option<Timestamp>)> {
    let facts = facts(t, ctx, id, row)?;
    let kind = ctx.kind(row.visit_type)?;
    Ok((schedule(&*kind.policy, &facts, &kind.shared, ctx.now), facts.last_good()))
}

/// Places an origin anew and writes its row.
pub(crate) fn place(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, id: u64, row: &mut OriginRow) -> Result<()> {
    move_to(t, ctx, id, row, true)?;
    write(t, id, row)
}

/// Places an origin whose visit has ended, and writes its row: it is in no queue.
pub(crate) fn place_back(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, id: u64, row: &mut OriginRow) -> Result<()> {
    move_to(t, ctx, id, row, false)?;
    write(t, id, row)
}

/// Places an origin anew, and writes its row where that changed it.
pub(crate) fn place_if_moved(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    id: u64,
    row: &mut OriginRow,
) -> Result<()> {
    let before = row.clone();
    move_to(t, ctx, id, row, true)?;
    if *row == before { Ok(()) } else { write(t, id, row) }
}

fn move_to(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, id: u64, row: &mut OriginRow, queued: bool) -> Result<()> {
    let (schedule, good) = placement(t, ctx, id, row)?;
    let new = match schedule {
        Schedule::Parked(_) => None,
        Schedule::Waiting { place, also, not_before } => {
            let until = not_before.as_micros();
            let sooner = until > place.rank || also.is_some_and(|(_, rank)| until > rank);
            Some(Place {
                lane: place.lane.0,
                rank: place.rank,
                also: also.map(|(lane, rank)| (lane.0, rank)),
                waits: (not_before > ctx.now && sooner).then_some(until),
            })
        }
    };
    ctx.count_waiting(row.visit_type, i64::from(new.is_some()) - i64::from(row.place.is_some()));
    let stays = queued && row.place == new && new.is_none_or(|p| p.waits.is_none());
    if !stays && (!queued || ctx.is_new(id) || t.get(keys::LEASE, &keys::of_u64(id))?.is_none()) {
        if queued {
            unqueue(t, id, row)?;
        }
        row.place = new;
        enqueue(t, id, row)?;
    }
    row.place = new;
    index_stale(t, ctx, id, row, good)
}

/// Keeps the index of the origins of which a lister told a change that no good visit has looked for:
/// they are placed again whenever it has looked again.
fn index_stale(
    t: &mut dyn KvTxn,
    ctx: &Ctx<'_>,
    id: u64,
    row: &mut OriginRow,
    good: Option<Timestamp>,
) -> Result<()> {
    let waits = row.place.is_some();
    let mut key = None;
    for i in 0..row.listings.len() {
        let Some(listing) = row.listings.get_mut(i) else { continue };
        let stale = waits
            && listing.gone().is_none()
            && good.is_some_and(|good| listing.last_update.is_some_and(|u| u > good));
        if stale == listing.known_stale() {
            continue;
        }
        listing.set_known_stale(stale);
        let lister = listing.lister;
        let digest = match key {
            Some(digest) => digest,
            None => ctx.digest(&row.url, &ctx.kind(row.visit_type)?.row.name),
        };
        key = Some(digest);
        let entry = keys::stale(lister, digest, id);
        if stale { t.put(keys::STALE, &entry, &[])? } else { t.delete(keys::STALE, &entry)? }
    }
    Ok(())
}

/// Writes an origin's row.
pub(crate) fn write(t: &mut dyn KvTxn, id: u64, row: &OriginRow) -> Result<()> {
    t.put(keys::ORIGIN, &keys::of_u64(id), &encode(row)?)
}

/// Puts an origin into the queue, at the places that its row says.
pub(crate) fn enqueue(t: &mut dyn KvTxn, id: u64, row: &OriginRow) -> Result<()> {
    let Some(place) = row.place else { return Ok(()) };
    if let Some(until) = place.waits {
        return t.put(keys::WAIT, &keys::wait(row.visit_type, until, id), &waiting(place));
    }
    for (lane, rank) in lanes_of(place) {
        t.put(keys::QUEUE, &keys::queue(row.visit_type, lane, rank, id), &[])?;
    }
    Ok(())
}

/// What is kept of who has to wait before it is let into its lanes.
pub(crate) fn waiting(place: Place) -> K {
    lanes_of(place).fold(K::new(), |k, (lane, rank)| k.u8(lane).i64(rank))
}

fn lanes_of(place: Place) -> impl Iterator<Item = (u8, i64)> {
    std::iter::once((place.lane, place.rank)).chain(place.also)
}

/// Lets an origin that had to wait into its lanes.
pub(crate) fn admit(t: &mut dyn KvTxn, visit_type: u16, id: u64, places: &[u8]) -> Result<()> {
    let mut places = keys::Parts(places);
    while !places.0.is_empty() {
        let (lane, rank) = (places.u8(), places.i64());
        t.put(keys::QUEUE, &keys::queue(visit_type, lane, rank, id), &[])?;
    }
    Ok(())
}

/// Takes an origin out of the queue.
pub(crate) fn unqueue(t: &mut dyn KvTxn, id: u64, row: &OriginRow) -> Result<()> {
    let Some(place) = row.place else { return Ok(()) };
    for (lane, rank) in lanes_of(place) {
        t.delete(keys::QUEUE, &keys::queue(row.visit_type, lane, rank, id))?;
    }
    match place.waits {
        Some(until) => t.delete(keys::WAIT, &keys::wait(row.visit_type, until, id)),
        None => Ok(()),
    }
}

/// The own key of an origin.
pub(crate) fn key_of(ctx: &Ctx<'_>, row: &OriginRow) -> Result<OriginKey> {
    Ok(OriginKey::new(&row.url, ctx.kind(row.visit_type)?.visit_type()?))
}
