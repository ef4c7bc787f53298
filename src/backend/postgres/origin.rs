//! Origins: rows of columns there, rows of the engine here.

use serde::{Deserialize, Serialize};

use super::sql::{Json, Time, narrow, signed, text};
use super::table::table;
use crate::backend::Result;
use crate::backend::engine::identity::forge_place;
use crate::backend::engine::rows::{
    EvidenceRow, Listing, OriginRow, Place, Visits, corrupt, from_json, to_json,
};
use crate::model::{Disabled, Gone, GoneReason, Timestamp, VisitStatus};
use crate::policy::{Belief, Evidence, Memo};

/// The lane of a slot in which origins wait for their time to come.
const WAITING: i32 = 255;

/// The lister of what nobody lists any more.
const NOBODY: u32 = 0;

/// The slot of an origin that waits for no visit.
const PARKED: i32 = -1;

table! {
    /// An origin, and what its first lister says of it.
    Origin, Origins, "origin" {
        id: i64 = INT8,
        rank: i64 = INT8,
        first_seen: Time = TIMESTAMPTZ,
        lister: i32 = INT4,
        slot: i32 = INT4,
        visit_type: i16 = INT2,
        flags: i16 = INT2,
        twin: i16 = INT2,
        others: i16 = INT2,
        key: Option<i64> = INT8,
        next_rank: Option<i64> = INT8,
        also_rank: Option<i64> = INT8,
        last_seen: Option<Time> = TIMESTAMPTZ,
        last_update: Option<Time> = TIMESTAMPTZ,
        last_visit: Option<Time> = TIMESTAMPTZ,
        last_successful: Option<Time> = TIMESTAMPTZ,
        requested_at: Option<Time> = TIMESTAMPTZ,
        hinted_at: Option<Time> = TIMESTAMPTZ,
        hold_until: Option<Time> = TIMESTAMPTZ,
        folded: Option<Time> = TIMESTAMPTZ,
        listed: Option<Time> = TIMESTAMPTZ,
        last_change: Option<Time> = TIMESTAMPTZ,
        first_signal: Option<Time> = TIMESTAMPTZ,
        gone_at: Option<Time> = TIMESTAMPTZ,
        forge_place: Option<i64> = INT8,
        token: Option<i64> = INT8,
        visits: Option<i64> = INT8,
        memo_at: Option<i64> = INT8,
        belief_a: Option<f32> = FLOAT4,
        belief_b: Option<f32> = FLOAT4,
        memo_policy: Option<i32> = INT4,
        memo_step: Option<i32> = INT4,
        memo_count: Option<i32> = INT4,
        hinted_by: Option<i32> = INT4,
        also_slot: Option<i32> = INT4,
        failures: Option<i32> = INT4,
        next_lane: Option<i16> = INT2,
        last_status: Option<i16> = INT2,
        gone_reason: Option<i16> = INT2,
        url: String = TEXT,
        last_snapshot: Option<String> = TEXT,
        requested_by: Option<String> = TEXT,
        forge_id: Option<String> = TEXT,
        forked_from: Option<String> = TEXT,
        arguments: Option<Json> = JSON,
        disabled: Option<Json> = JSON,
    }
}

table! {
    /// What a second or further lister says of an origin.
    Other, Others, "listing" {
        origin: i64 = INT8,
        place: i16 = INT2,
        lister: i32 = INT4,
        flags: i16 = INT2,
        gone_reason: Option<i16> = INT2,
        first_seen: Time = TIMESTAMPTZ,
        last_seen: Time = TIMESTAMPTZ,
        last_update: Option<Time> = TIMESTAMPTZ,
        gone_at: Option<Time> = TIMESTAMPTZ,
        forge_place: Option<i64> = INT8,
        forge_id: Option<String> = TEXT,
        forked_from: Option<String> = TEXT,
        arguments: Option<Json> = JSON,
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stopped {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by_hand: Option<Disabled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by_failures: Option<Disabled>,
}

const STATUSES: [VisitStatus; 4] =
    [VisitStatus::Successful, VisitStatus::Partial, VisitStatus::Failed, VisitStatus::NotFound];

const GONE: [GoneReason; 5] = [
    GoneReason::Deleted,
    GoneReason::NotListed,
    GoneReason::Private,
    GoneReason::Blocked,
    GoneReason::NameReused,
];

/// A word as its place in a list that only ever grows.
fn number<T: PartialEq>(words: &[T], word: &T) -> Result<i16> {
    let at = words.iter().position(|w| w == word).and_then(|at| i16::try_from(at).ok());
    at.ok_or_else(|| corrupt("a word that has no number"))
}

fn word<T: Copy>(words: &[T], number: i16) -> Result<T> {
    let word = usize::try_from(number).ok().and_then(|at| words.get(at)).copied();
    word.ok_or_else(|| corrupt(format!("no word has the number {number}")))
}

/// Where the claims of a lane look.
pub(super) fn slot(visit_type: u16, lane: u8) -> i32 {
    i32::from(visit_type) << 8 | i32::from(lane)
}

/// Where those of a type wait that may not be visited before a time.
pub(super) fn waiting_slot(visit_type: u16) -> i32 {
    i32::from(visit_type) << 8 | WAITING
}

fn gone(at: Option<Time>, reason: Option<i16>) -> Result<Option<Gone>> {
    at.zip(reason).map(|(at, reason)| Ok(Gone::new(at.0, word(&GONE, reason)?))).transpose()
}

fn said(words: Option<&String>) -> Option<String> {
    words.map(|w| text(w).into_owned())
}

/// By what an origin is found: its digest, and which of those with the same digest it is.
pub(super) type Key = Option<(i64, i16)>;

/// An origin as columns, and its further listings.
pub(super) fn flat(id: u64, key: Key, row: &OriginRow) -> Result<(Origin, Vec<Other>)> {
    // One that was put together with another has no lister any more; listers' numbers begin at one.
    let nobody = Listing::new(NOBODY, Timestamp::EPOCH);
    let (first, others) = row.listings.split_first().unwrap_or((&nobody, &[]));
    let also = row.place.and_then(|p| p.also).map(|(lane, rank)| (slot(row.visit_type, lane), rank));
    let (slot, rank, next) = match row.place {
        None => (PARKED, 0, None),
        Some(Place { lane, rank, waits: None, .. }) => (slot(row.visit_type, lane), rank, None),
        Some(Place { lane, rank, waits: Some(until), .. }) => {
            (waiting_slot(row.visit_type), until, Some((i16::from(lane), rank)))
        }
    };
    let evidence = row.evidence.as_deref().map(EvidenceRow::evidence);
    let at = |of: fn(&Evidence) -> Option<Timestamp>| evidence.as_ref().and_then(of).map(Time);
    let visits = row.visits.as_deref().cloned().unwrap_or_default();
    let wishes = row.wishes.as_deref().cloned().unwrap_or_default();
    let stopped = Stopped { by_hand: wishes.by_hand, by_failures: wishes.by_failures };
    let id = signed(id);
    let mut places = 1i16..;
    let others: Vec<Other> =
        others.iter().map(|l| other(id, places.next().unwrap_or(i16::MAX), l)).collect::<Result<_>>()?;
    let Other {
        lister,
        flags,
        gone_reason,
        first_seen,
        last_seen,
        last_update,
        gone_at,
        forge_place,
        forge_id,
        forked_from,
        arguments,
        ..
    } = other(id, 0, first)?;
    let origin = Origin {
        id,
        key: key.map(|k| k.0),
        rank,
        next_rank: next.map(|n| n.1),
        also_rank: also.map(|a| a.1),
        first_seen,
        // What most have is left out: it takes room in every row.
        last_seen: Some(last_seen).filter(|last| *last != first_seen),
        last_update,
        last_visit: visits.last_visit.map(Time),
        last_successful: visits.last_successful.map(Time),
        requested_at: wishes.requested_at.map(Time),
        hinted_at: wishes.hinted_at.map(Time),
        folded: at(|e| e.folded),
        listed: at(|e| e.listed),
        last_change: at(|e| e.last_change),
        first_signal: at(|e| e.first_signal),
        hold_until: wishes.hold_until.map(Time),
        gone_at,
        forge_place,
        token: Some(signed(visits.token)).filter(|token| *token != 0),
        visits: Some(signed(visits.visits)).filter(|visits| *visits != 0),
        memo_at: visits.memo.map(|(_, memo)| memo.at),
        belief_a: evidence.map(|e| e.belief.a),
        belief_b: evidence.map(|e| e.belief.b),
        memo_policy: visits.memo.map(|(tag, _)| tag.cast_signed()),
        memo_step: visits.memo.map(|(_, memo)| memo.step),
        memo_count: visits.memo.map(|(_, memo)| memo.count.cast_signed()),
        hinted_by: (wishes.hinted_by != NOBODY).then(|| wishes.hinted_by.cast_signed()),
        lister,
        slot,
        also_slot: also.map(|a| a.0),
        failures: Some(narrow(u64::from(visits.failures))).filter(|failures| *failures != 0),
        visit_type: row.visit_type.cast_signed(),
        twin: key.map_or(0, |k| k.1),
        flags,
        others: i16::try_from(others.len())
            .map_err(|_| corrupt(format!("origin {id} has too many listers")))?,
        next_lane: next.map(|n| n.0),
        last_status: visits.last_status.map(|s| number(&STATUSES, &s)).transpose()?,
        gone_reason,
        url: text(&row.url).into_owned(),
        last_snapshot: said(visits.last_snapshot.as_ref()),
        requested_by: said(wishes.requested_by.as_ref()),
        forge_id,
        forked_from,
        arguments,
        disabled: (stopped != Stopped::default()).then(|| to_json(&stopped).map(Json)).transpose()?,
    };
    Ok((origin, others))
}

fn other(origin: i64, place: i16, listing: &Listing) -> Result<Other> {
    let more = listing.more.as_deref().cloned().unwrap_or_default();
    Ok(Other {
        origin,
        place,
        lister: listing.lister.cast_signed(),
        flags: listing.flags().cast_signed(),
        gone_reason: more.gone.map(|g| number(&GONE, &g.reason)).transpose()?,
        first_seen: Time(listing.first_seen),
        last_seen: Time(listing.last_seen()),
        last_update: listing.last_update.map(Time),
        gone_at: more.gone.map(|g| Time(g.at)),
        forge_place: more.forge_id.as_deref().map(|id| signed(forge_place(id))),
        forge_id: said(more.forge_id.as_ref()),
        forked_from: said(more.forked_from.as_ref()),
        arguments: more.arguments.map(Json),
    })
}

/// A further listing of the engine's.
pub(super) fn listing(row: Other) -> Result<Listing> {
    let seen = (row.first_seen.0, row.last_seen.0);
    let mut listing = Listing::stored(row.lister.cast_unsigned(), row.flags.cast_unsigned(), seen);
    listing.last_update = row.last_update.map(|t| t.0);
    let gone = gone(row.gone_at, row.gone_reason)?;
    listing.edit(|more| {
        more.forge_id = row.forge_id;
        more.forked_from = row.forked_from;
        more.arguments = row.arguments.map(|a| a.0);
        more.gone = gone;
    });
    Ok(listing)
}

/// As much of an origin as pages of origins show, its further listings to be added.
pub(super) fn shown(
    first: Other,
    url: String,
    visit_type: i16,
    disabled: Option<&Json>,
) -> Result<OriginRow> {
    let listings = if first.lister == 0 { Vec::new() } else { vec![listing(first)?] };
    let stopped: Stopped = disabled.map_or(Ok(Stopped::default()), |j| from_json(&j.0))?;
    let visit_type = visit_type.cast_unsigned();
    let mut row =
        OriginRow { url, visit_type, listings, visits: None, evidence: None, wishes: None, place: None };
    crate::backend::engine::place::edit_wishes(&mut row, |w| {
        w.by_hand = stopped.by_hand;
        w.by_failures = stopped.by_failures;
    });
    Ok(row)
}

/// An origin of the engine's, its further listings to be added.
pub(super) fn row(origin: Origin) -> Result<OriginRow> {
    let visit_type = origin.visit_type.cast_unsigned();
    let lane = |n: i32| u8::try_from(n & 255).map_err(|_| corrupt("a slot without a lane"));
    let also = origin.also_slot.zip(origin.also_rank);
    let also = also.map(|(slot, rank)| Ok((lane(slot)?, rank))).transpose()?;
    let place = match origin.next_rank.zip(origin.next_lane) {
        _ if origin.slot < 0 => None,
        Some((rank, next)) => Some(Place { lane: lane(next.into())?, rank, also, waits: Some(origin.rank) }),
        None => Some(Place { lane: lane(origin.slot)?, rank: origin.rank, also, waits: None }),
    };
    let memo = origin.memo_policy.map(|tag| {
        let count = origin.memo_count.unwrap_or(0).cast_unsigned();
        let (at, step) = (origin.memo_at.unwrap_or(0), origin.memo_step.unwrap_or(0));
        (tag.cast_unsigned(), Memo { at, step, count })
    });
    let belief = origin.belief_a.zip(origin.belief_b);
    let evidence = Evidence {
        belief: belief.map_or(Belief::default(), |(a, b)| Belief::new(a, b)),
        folded: origin.folded.map(|t| t.0),
        listed: origin.listed.map(|t| t.0),
        last_change: origin.last_change.map(|t| t.0),
        first_signal: origin.first_signal.map(|t| t.0),
    };
    let visits = Visits {
        last_visit: origin.last_visit.map(|t| t.0),
        last_successful: origin.last_successful.map(|t| t.0),
        last_status: origin.last_status.map(|s| word(&STATUSES, s)).transpose()?,
        last_snapshot: origin.last_snapshot,
        failures: origin.failures.unwrap_or(0).cast_unsigned(),
        visits: origin.visits.unwrap_or(0).cast_unsigned(),
        token: origin.token.unwrap_or(0).cast_unsigned(),
        memo,
    };
    let stopped: Stopped = origin.disabled.as_ref().map_or(Ok(Stopped::default()), |j| from_json(&j.0))?;
    let first = listing(Other {
        origin: origin.id,
        place: 0,
        lister: origin.lister,
        flags: origin.flags,
        gone_reason: origin.gone_reason,
        first_seen: origin.first_seen,
        last_seen: origin.last_seen.unwrap_or(origin.first_seen),
        last_update: origin.last_update,
        gone_at: origin.gone_at,
        forge_place: origin.forge_place,
        forge_id: origin.forge_id,
        forked_from: origin.forked_from,
        arguments: origin.arguments,
    })?;
    let mut row = OriginRow {
        url: origin.url,
        visit_type,
        listings: if origin.lister == 0 { Vec::new() } else { vec![first] },
        visits: (visits != Visits::default()).then(|| Box::new(visits)),
        evidence: EvidenceRow::of(&evidence),
        wishes: None,
        place,
    };
    crate::backend::engine::place::edit_wishes(&mut row, |w| {
        w.requested_at = origin.requested_at.map(|t| t.0);
        w.requested_by = origin.requested_by;
        w.hinted_at = origin.hinted_at.map(|t| t.0);
        w.hinted_by = origin.hinted_by.map_or(NOBODY, i32::cast_unsigned);
        w.hold_until = origin.hold_until.map(|t| t.0);
        w.by_hand = stopped.by_hand;
        w.by_failures = stopped.by_failures;
    });
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_keeps_its_number() {
        for (n, status) in (0..).zip(STATUSES) {
            assert_eq!(word(&STATUSES, number(&STATUSES, &status).unwrap()).unwrap(), status);
            assert_eq!(number(&STATUSES, &status).unwrap(), n);
        }
        assert!(word(&GONE, 5).is_err() && word(&GONE, -1).is_err());
    }

    #[test]
    fn an_origin_survives_its_columns_whatever_it_holds() {
        let at = |s: i64| Timestamp::from_micros(s * 1_000_001);
        let mut first = Listing::new(7, at(1));
        first.set_fork(Some(true));
        first.set_empty(Some(false));
        first.set_last_seen(at(9));
        first.last_update = Some(at(-5));
        first.edit(|m| {
            m.gone = Some(Gone::new(at(4), GoneReason::Blocked));
            m.arguments = Some(r#"{"z":1.0,"a":"\u0000"}"#.to_owned());
            m.forge_id = Some("42".to_owned());
        });
        let mut second = Listing::new(9, at(3));
        second.set_enabled(false);
        let mut full = OriginRow {
            url: "https://forge.example/ü".to_owned(),
            visit_type: 3,
            listings: vec![first, second],
            visits: Some(Box::new(Visits {
                last_visit: Some(at(2)),
                last_status: Some(VisitStatus::NotFound),
                last_snapshot: Some("s".to_owned()),
                failures: 3,
                visits: 12,
                token: 99,
                last_successful: None,
                memo: Some((u32::MAX, Memo { at: -1, step: -2, count: u32::MAX })),
            })),
            evidence: EvidenceRow::of(&Evidence {
                belief: Belief::new(0.3, 1e-7),
                folded: Some(at(7)),
                listed: Some(at(8)),
                last_change: Some(at(-9)),
                first_signal: None,
            }),
            wishes: None,
            place: Some(Place { lane: 2, rank: -7, also: Some((1, i64::MIN)), waits: Some(44) }),
        };
        crate::backend::engine::place::edit_wishes(&mut full, |w| {
            w.by_hand = Some(Disabled::new(at(5), "no"));
            w.hold_until = Some(at(8));
            w.requested_by = Some("me".to_owned());
            w.hinted_at = Some(at(7));
            w.hinted_by = 12;
        });
        let mut bare = full.clone();
        (bare.visits, bare.evidence, bare.wishes, bare.place) = (None, None, None, None);
        bare.listings.truncate(1);
        let mut queued = bare.clone();
        queued.place = Some(Place { lane: 0, rank: i64::MIN, also: None, waits: None });
        let mut twice = bare.clone();
        twice.place = Some(Place { lane: 16, rank: 5, also: Some((1, 4)), waits: None });
        let mut joined = bare.clone();
        joined.listings.clear();
        for known in [full, bare, queued, twice, joined] {
            let (origin, others) = flat(5, Some((-3, 1)), &known).unwrap();
            assert_eq!(usize::try_from(origin.others).unwrap(), others.len());
            let mut back = row(origin).unwrap();
            back.listings.extend(others.into_iter().map(|o| listing(o).unwrap()));
            assert_eq!(back, known);
        }
    }
}
