//! Who is who: forge ids, former URLs, and what moves when a lister tells of another URL.
//!
//! The rules are in the documentation of [`crate::backend`].

use super::commit::Work;
use super::ctx::Ctx;
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, numbers_under};
use super::parts;
use super::place::{edit_wishes, find, find_key, load, place, unqueue, write};
use super::rows::{Former, Listing, OriginRow, Visits, decode, encode};
use super::seen::LastSeen;
use crate::backend::{ChangeKind, Result};
use crate::model::{Gone, GoneReason, NewOrigin, OriginKey, digest128};

/// An origin's number and row.
pub(crate) type Numbered = (u64, OriginRow);

/// The origin of a sighting, as far as it was known, and what it took to know it.
pub(crate) struct Meant {
    pub(crate) known: Option<Numbered>,
    /// It bore another URL before.
    pub(crate) renamed: bool,
}

/// Where an id is looked up: by its number where it is one, so that what a forge lists by number lies
/// together. Of several at one place the rows tell which is meant.
pub(crate) fn forge_place(forge_id: &str) -> u64 {
    let digest = || {
        let whole = digest128(forge_id.as_bytes());
        u64::from_be_bytes(whole.first_chunk().copied().unwrap_or_default())
    };
    forge_id.parse().unwrap_or_else(|_| digest())
}

fn forge_key(lister: u32, forge_id: &str) -> K {
    K::new().u32(lister).u64(forge_place(forge_id))
}

/// Tells that the origin of a sighting will be looked for: whose URL is new is looked for by its id. Returns
/// whether it seems to be a new one.
pub(crate) fn will_mean(t: &dyn KvRead, ctx: &Ctx<'_>, lister: u32, origin: &NewOrigin) -> Result<bool> {
    let digest = ctx.digest(&origin.url, origin.visit_type.as_str());
    if !numbers_under(t, keys::ORIGIN_KEY, &digest)?.is_empty() {
        return Ok(false);
    }
    let Some(forge_id) = &origin.forge_id else { return Ok(true) };
    Ok(numbers_under(t, keys::FORGE, &forge_key(lister, forge_id))?.is_empty())
}

fn listing_of(row: &OriginRow, lister: u32) -> Option<&Listing> {
    row.listings.iter().find(|l| l.lister == lister)
}

/// Whether another lister than this one lists an origin live: then the URL is not this one's alone.
fn shared(row: &OriginRow, lister: u32) -> bool {
    row.listings.iter().any(|l| l.lister != lister && l.gone().is_none())
}

/// The origin that bears an id of a lister's forge.
fn bearer(t: &dyn KvRead, ctx: &Ctx<'_>, lister: u32, origin: &NewOrigin) -> Result<Option<Numbered>> {
    let (Some(forge_id), Some(kind)) = (&origin.forge_id, ctx.kind_of(&origin.visit_type)) else {
        return Ok(None);
    };
    let number = kind.number;
    for id in numbers_under(t, keys::FORGE, &forge_key(lister, forge_id))? {
        let Some(row) = load(t, id)? else { continue };
        let bears = listing_of(&row, lister).is_some_and(|l| l.forge_id() == Some(forge_id));
        if bears && row.visit_type == number {
            return Ok(Some((id, row)));
        }
    }
    Ok(None)
}

/// Notes which origin bears an id.
pub(crate) fn index(t: &mut dyn KvTxn, lister: u32, origin: &NewOrigin, id: u64) -> Result<()> {
    let Some(forge_id) = &origin.forge_id else { return Ok(()) };
    t.put(keys::FORGE, &forge_key(lister, forge_id).u64(id), &[])
}

/// The origin that a sighting means. What stands in its way is moved out of it; the origin itself
/// bears the sighting's URL then.
pub(crate) fn meant(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    work: &mut Work,
    origin: &NewOrigin,
) -> Result<Meant> {
    let lister = work.run.lister;
    let holder = find(t, ctx, &origin.url, &origin.visit_type)?;
    let own = holder.as_ref().and_then(|(_, row)| listing_of(row, lister));
    let its_id = own.and_then(Listing::forge_id);
    let listed_here = own.is_some();
    if origin.forge_id.is_none() || its_id == origin.forge_id.as_deref() {
        return Ok(Meant { known: holder, renamed: false });
    }
    let another = its_id.is_some();
    let bearer = bearer(t, ctx, lister, origin)?;
    let holder = match holder {
        // An id for what had none is its id, where no other origin bears it.
        Some(holder) if another || listed_here && bearer.is_some() => displace(t, ctx, work, holder)?,
        // Nobody lists it any more: it makes room.
        Some((id, row)) if bearer.is_some() && !shared(&row, lister) => {
            lose_url(t, ctx, work, id, &row)?;
            None
        }
        other => other,
    };
    let Some((id, row)) = bearer else { return Ok(Meant { known: holder, renamed: false }) };
    let renamed = row.url != origin.url;
    let known = match holder {
        Some(holder) => join(t, ctx, work, (id, row), holder)?,
        None => rename(t, ctx, work, (id, row), &origin.url)?,
    };
    Ok(Meant { known: Some(known), renamed })
}

/// Takes its URL from the origin that a lister listed under it. What is left at the URL is given
/// back: the unit, where other listers list it too.
fn displace(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    work: &mut Work,
    (id, row): Numbered,
) -> Result<Option<Numbered>> {
    let lister = work.run.lister;
    let (left, (id, mut row)) = if shared(&row, lister) {
        let (own, rest) = detach(t, ctx, work, (id, row))?;
        (Some(rest), own)
    } else {
        (None, (id, row))
    };
    lose_url(t, ctx, work, id, &row)?;
    let gone = Gone::new(ctx.now, GoneReason::NameReused);
    if let Some(listing) = row.listings.iter_mut().find(|l| l.lister == lister && l.gone().is_none()) {
        listing.edit(|more| more.gone = Some(gone));
        work.feed.say(ChangeKind::Gone, id);
        work.counts.gone += 1;
    }
    place(t, ctx, id, &mut row)?;
    Ok(left)
}

/// Gives an origin another URL, which nobody bears.
fn rename(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    work: &mut Work,
    (id, row): Numbered,
    url: &str,
) -> Result<Numbered> {
    let (id, mut row) = if shared(&row, work.run.lister) && row.url != url {
        detach(t, ctx, work, (id, row))?.0
    } else {
        unkey(t, ctx, id, &row)?;
        (id, row)
    };
    let old = std::mem::replace(&mut row.url, url.to_owned());
    t.put(keys::ORIGIN_KEY, &url_key(ctx, &row, url)?.u64(id), &[])?;
    if old == url {
        // It has back what it had lost.
        let mut known = formers(t, id)?;
        known.pop_if(|k| k.waits_for(url));
        t.put(keys::FORMER, &keys::of_u64(id), &encode(&known)?)?;
    } else {
        let token = work.feed.next_token(t)?;
        remember(t, ctx, id, &row, [Former { url: old, token, lost: token, own: true }])?;
        start_anew(&mut row);
    }
    Ok((id, row))
}

/// Moves a lister's listing of an origin to the unit that other listers list under the URL that it
/// has now, and its history with it.
fn join(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    work: &mut Work,
    (from, mut old): Numbered,
    (to, mut row): Numbered,
) -> Result<Numbered> {
    let lister = work.run.lister;
    let listing = take_listing(t, lister, from, &mut old)?;
    if let Some(forge_id) = listing.as_ref().and_then(Listing::forge_id) {
        let key = forge_key(lister, forge_id);
        t.delete(keys::FORGE, &key.clone().u64(from))?;
        t.put(keys::FORGE, &key.u64(to), &[])?;
    }
    row.listings.extend(listing);
    row.visits = merged(row.visits.take(), old.visits.as_deref());
    let by_hand = old.wishes.as_deref().and_then(|w| w.by_hand.clone());
    let asked = old.wishes.as_deref().and_then(|w| Some((w.requested_at?, w.requested_by.clone())));
    edit_wishes(&mut row, |w| {
        w.by_hand = w.by_hand.take().or(by_hand);
        if let Some((at, by)) = asked.filter(|_| w.requested_at.is_none()) {
            w.requested_at = Some(at);
            w.requested_by = by;
        }
    });
    parts::move_origin(t, lister, from, to)?;
    work.listed.add(to);
    let token = work.feed.next_token(t)?;
    let mut former = Vec::new();
    let mut lost = token;
    if old.listings.is_empty() {
        // Nobody lists it any more: only its number is left, for those who know it.
        former = formers(t, from)?;
        for known in &former {
            t.delete(keys::FORMER_KEY, &url_key(ctx, &old, &known.url)?.u64(from))?;
        }
        lost = former.pop_if(|k| k.waits_for(&old.url)).map_or(token, |k| k.lost);
        former.iter_mut().for_each(Former::hand_on);
        unkey(t, ctx, from, &old)?;
        unqueue(t, from, &old)?;
        old.place = None;
        write(t, from, &old)?;
        t.put(keys::JOINED, &keys::of_u64(from), &keys::of_u64(to))?;
    } else {
        place(t, ctx, from, &mut old)?;
    }
    former.push(Former { url: old.url, token, lost, own: false });
    remember(t, ctx, to, &row, former)?;
    Ok((to, row))
}

/// Splits what one lister lists from a unit that others list too: an origin of its own with a copy of
/// the history, and the unit without it. The new one bears no URL yet.
fn detach(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    work: &mut Work,
    (id, mut row): Numbered,
) -> Result<(Numbered, Numbered)> {
    let lister = work.run.lister;
    let listing = take_listing(t, lister, id, &mut row)?;
    let own = ctx.next_origin(t)?;
    if let Some(forge_id) = listing.as_ref().and_then(Listing::forge_id) {
        let key = forge_key(lister, forge_id);
        t.delete(keys::FORGE, &key.clone().u64(id))?;
        t.put(keys::FORGE, &key.u64(own), &[])?;
    }
    let mut copy = OriginRow { listings: listing.into_iter().collect(), place: None, ..row.clone() };
    if let Some(visits) = copy.visits.as_deref_mut() {
        visits.token = 0;
    }
    // The request was for what is at the URL.
    edit_wishes(&mut copy, |w| (w.requested_at, w.requested_by) = (None, None));
    parts::move_origin(t, lister, id, own)?;
    let mut former = formers(t, id)?;
    if !former.is_empty() {
        former.iter_mut().for_each(Former::hand_on);
        remember(t, ctx, own, &copy, former)?;
    }
    work.listed.add(own);
    place(t, ctx, id, &mut row)?;
    Ok(((own, copy), (id, row)))
}

/// Takes a lister's listing out of an origin's row, with the last sight that only sets know of.
fn take_listing(t: &dyn KvRead, lister: u32, id: u64, row: &mut OriginRow) -> Result<Option<Listing>> {
    let Some(at) = row.listings.iter().position(|l| l.lister == lister) else { return Ok(None) };
    let mut listing = row.listings.remove(at);
    if let Some(seen) = LastSeen::default().of(t, lister, id)? {
        listing.set_last_seen(seen);
    }
    Ok(Some(listing))
}

/// Two histories as one: the newest of each, and no visit counted twice.
fn merged(ours: Option<Box<Visits>>, theirs: Option<&Visits>) -> Option<Box<Visits>> {
    let (Some(mut ours), Some(theirs)) = (ours.clone(), theirs.cloned()) else {
        return ours.or_else(|| theirs.map(|v| Box::new(Visits { token: 0, ..v.clone() })));
    };
    if theirs.last_visit > ours.last_visit {
        ours.last_visit = theirs.last_visit;
        ours.last_status = theirs.last_status;
        ours.failures = theirs.failures;
        ours.last_snapshot = theirs.last_snapshot.or(ours.last_snapshot);
    } else {
        ours.last_snapshot = ours.last_snapshot.or(theirs.last_snapshot);
    }
    ours.last_successful = ours.last_successful.max(theirs.last_successful);
    ours.visits = ours.visits.max(theirs.visits);
    Some(ours)
}

/// What failures did to an origin was its old URL's.
fn start_anew(row: &mut OriginRow) {
    edit_wishes(row, |w| (w.hold_until, w.by_failures) = (None, None));
    if let Some(visits) = row.visits.as_deref_mut() {
        visits.failures = 0;
    }
}

fn url_key(ctx: &Ctx<'_>, row: &OriginRow, url: &str) -> Result<K> {
    Ok(K::new().bytes(&ctx.digest(url, &ctx.kind(row.visit_type)?.row.name)))
}

fn unkey(t: &mut dyn KvTxn, ctx: &Ctx<'_>, id: u64, row: &OriginRow) -> Result<()> {
    t.delete(keys::ORIGIN_KEY, &url_key(ctx, row, &row.url)?.u64(id))
}

/// Takes from an origin the URL that another one bears from now on.
fn lose_url(t: &mut dyn KvTxn, ctx: &Ctx<'_>, work: &Work, id: u64, row: &OriginRow) -> Result<()> {
    unkey(t, ctx, id, row)?;
    let lost = work.feed.next_token(t)?;
    remember(t, ctx, id, row, [Former { url: row.url.clone(), token: 0, lost, own: false }])
}

/// Notes former URLs. One that was lost before it was told what came instead was lost then.
fn remember(
    t: &mut dyn KvTxn,
    ctx: &Ctx<'_>,
    id: u64,
    row: &OriginRow,
    new: impl IntoIterator<Item = Former>,
) -> Result<()> {
    let mut known = formers(t, id)?;
    for mut former in new {
        t.put(keys::FORMER_KEY, &url_key(ctx, row, &former.url)?.u64(id), &[])?;
        if former.own
            && let Some(waiting) = known.pop_if(|k| k.waits_for(&former.url))
        {
            former.lost = waiting.lost;
        }
        known.push(former);
    }
    t.put(keys::FORMER, &keys::of_u64(id), &encode(&known)?)
}

/// What an origin's URLs were, in the order in which it was told of them.
pub(crate) fn formers(t: &dyn KvRead, id: u64) -> Result<Vec<Former>> {
    t.get(keys::FORMER, &keys::of_u64(id))?.map_or(Ok(Vec::new()), |bytes| decode(&bytes))
}

/// The URLs that an origin had before, each once, the oldest first.
pub(crate) fn former_urls(t: &dyn KvRead, id: u64, row: &OriginRow) -> Result<Vec<String>> {
    let mut urls: Vec<String> = Vec::new();
    for former in formers(t, id)? {
        if former.url != row.url && !urls.contains(&former.url) {
            urls.push(former.url);
        }
    }
    Ok(urls)
}

/// The URL that an origin had right after a change, and the one that the change took from it.
pub(crate) fn urls_at(t: &dyn KvRead, id: u64, url: String, token: u64) -> Result<(String, Option<String>)> {
    let mut old = None;
    let mut at = None;
    for former in formers(t, id)? {
        if former.token == token {
            old = Some(former.url);
        } else if former.own && former.token > token && at.is_none() {
            at = Some(former.url);
        }
    }
    Ok((at.unwrap_or(url), old))
}

/// The origin that answers to a URL: the one that bears it, else the last one that did.
pub(crate) fn answering(t: &dyn KvRead, ctx: &Ctx<'_>, key: &OriginKey) -> Result<Option<Numbered>> {
    if let Some(found) = find_key(t, ctx, key)? {
        return Ok(Some(found));
    }
    let Some(number) = ctx.kind_of(&key.visit_type).map(|k| k.number) else { return Ok(None) };
    let mut newest: Option<(u64, Numbered)> = None;
    for id in numbers_under(t, keys::FORMER_KEY, &ctx.digest(&key.url, key.visit_type.as_str()))? {
        let Some(row) = load(t, id)? else { continue };
        let told = formers(t, id)?.iter().filter(|f| f.url == key.url).map(|f| f.lost).max();
        if let Some(told) = told.filter(|_| row.visit_type == number)
            && newest.as_ref().is_none_or(|(known, _)| *known < told)
        {
            newest = Some((told, (id, row)));
        }
    }
    Ok(newest.map(|(_, found)| found))
}

/// The origin that an origin's number stands for: another one where they were put together.
pub(crate) fn joined(t: &dyn KvRead, id: u64) -> Result<u64> {
    let mut id = id;
    while let Some(to) = t.get(keys::JOINED, &keys::of_u64(id))?.map(|v| keys::first_u64(&v)) {
        id = to;
    }
    Ok(id)
}
