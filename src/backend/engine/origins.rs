//! Origins as listed: queries, imports, and what people say of them.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::commit::tell;
use super::ctx::{Ctx, lister_number_or_new, lister_row, next, owner_number};
use super::feed::Feed;
use super::identity::{answering, former_urls, formers};
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn};
use super::parts;
use super::place::{
    absorb, create, edit_wishes, facts, lease, load, must_load, observe, occupy, place, stats, will_load,
};
use super::rows::{LeaseRow, ListerRow, Listing, OriginRow, to_json};
use super::seen::LastSeen;
use super::sets::{self, Additions, Chunk};
use crate::backend::{
    ChangeKind, Imported, ImportedOrigin, ImportedVisits, OriginPage, OriginQuery, PageToken, Result,
    UnderWay,
};
use crate::model::{
    Disabled, ListedOrigin, ListerKey, NewOrigin, OriginKey, Outcome, Timestamp, VisitId, VisitToken,
    check_origin_url,
};
use crate::policy::{Facts, Memo, Queued, observe_visit};

/// A listing as queries show it.
pub(crate) fn listed(
    t: &dyn KvRead,
    ctx: &Ctx<'_>,
    last_seen: &mut LastSeen,
    id: u64,
    row: &OriginRow,
    listing: &Listing,
    lister: &ListerKey,
) -> Result<ListedOrigin> {
    let visit_type = ctx.kind(row.visit_type)?.visit_type()?;
    let mut new = NewOrigin::new(&row.url, visit_type);
    new.last_update = listing.last_update;
    new.extra_loader_arguments = parts::arguments(t, id, listing)?;
    new.is_fork = listing.is_fork();
    new.archived = listing.archived();
    new.mirror = listing.mirror();
    new.empty = listing.empty();
    new.enabled = listing.enabled();
    if let Some(more) = listing.more.as_deref() {
        new.forked_from_url.clone_from(&more.forked_from);
        new.forge_id.clone_from(&more.forge_id);
    }
    let mut origin = ListedOrigin::new(lister.id(), new, listing.first_seen);
    origin.gone = listing.gone();
    origin.last_seen = listing.last_seen();
    origin.former_urls = former_urls(t, id, row)?;
    if let Some(at) = last_seen.of(t, listing.lister, id)? {
        origin.last_seen = origin.last_seen.max(at);
    }
    if let Some(wishes) = row.wishes.as_deref() {
        origin.disabled_by_failures.clone_from(&wishes.by_failures);
        origin.disabled_by_hand.clone_from(&wishes.by_hand);
    }
    Ok(origin)
}

struct Search<'q, 'c, 'e> {
    query: &'q OriginQuery,
    ctx: &'c mut Ctx<'e>,
    last_seen: LastSeen,
    /// Only these, where one URL is asked for.
    only: Option<Vec<u64>>,
    found: Vec<((u32, u64), (ListerKey, ListedOrigin))>,
    /// One more than asked for, to know whether anything follows.
    limit: usize,
    /// So many more may be looked at, whether they are found or not.
    reach: usize,
    last: (u32, u64),
}

impl Search<'_, '_, '_> {
    fn wants(&self, t: &dyn KvRead, id: u64, row: &OriginRow, listing: &Listing) -> Result<bool> {
        let query = self.query;
        if let Some(prefix) = &query.url_prefix
            && !row.url.starts_with(prefix)
            && !former_urls(t, id, row)?.iter().any(|url| url.starts_with(prefix))
        {
            return Ok(false);
        }
        if let Some(visit_type) = &query.visit_type
            && self.ctx.kind(row.visit_type)?.row.name != visit_type.as_str()
        {
            return Ok(false);
        }
        let stopped = row.wishes.as_deref().is_some_and(|w| w.by_hand.is_some() || w.by_failures.is_some());
        Ok(query.all || listing.enabled() && listing.gone().is_none() && !stopped)
    }

    fn is_over(&self) -> bool {
        self.found.len() >= self.limit || self.reach == 0
    }

    fn chunk(&mut self, t: &dyn KvRead, lister: u32, chunk: u64, set: &Chunk, after: u64) -> Result<()> {
        let key = self.ctx.lister(t, lister)?.key();
        let wanted = |id: &u64| *id > after && self.only.as_ref().is_none_or(|only| only.contains(id));
        let ids: Vec<u64> = set.iter().map(|low| sets::join(chunk, low)).filter(wanted).collect();
        for some in ids.chunks(self.limit) {
            will_load(t, some.iter().copied())?;
            parts::will_read(t, some.iter().copied())?;
            if t.is_far() {
                for id in some {
                    formers(t, *id)?;
                    self.last_seen.of(t, lister, *id)?;
                }
                t.settled()?;
            }
            for id in some {
                self.look_at(t, lister, &key, *id)?;
                if self.is_over() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn look_at(&mut self, t: &dyn KvRead, lister: u32, key: &ListerKey, id: u64) -> Result<()> {
        self.reach = self.reach.saturating_sub(1);
        self.last = (lister, id);
        let row = must_load(t, id)?;
        let Some(listing) = row.listings.iter().find(|l| l.lister == lister) else { return Ok(()) };
        if self.wants(t, id, &row, listing)? {
            let origin = listed(t, self.ctx, &mut self.last_seen, id, &row, listing, key)?;
            self.found.push(((lister, id), (key.clone(), origin)));
        }
        Ok(())
    }
}

/// The origins of all visit types that answer to a URL.
fn with_url(t: &dyn KvRead, ctx: &Ctx<'_>, url: &str) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for kind in ctx.kinds() {
        found.extend(answering(t, ctx, &OriginKey::new(url, kind.visit_type()?))?.map(|(id, _)| id));
    }
    Ok(found)
}

/// The lister and the origin with which a page ended.
fn last_of(token: &PageToken) -> (u32, u64) {
    let mut parts = keys::Parts(&token.0);
    (parts.u32(), parts.u64())
}

/// Where the sets of those that a lister lists are read from, for the origins after one.
fn listed_from(lister: u32, after: u64) -> K {
    K::new().u32(lister).u64(sets::split(after).0)
}

/// The lister with which the page after a token begins, and the key of its sets from which it is read.
#[cfg(feature = "postgres")]
pub(crate) fn place_of(token: &PageToken) -> (u32, Vec<u8>) {
    let (lister, after) = last_of(token);
    (lister, listed_from(lister, after).to_vec())
}

/// A page of listed origins, by (lister, origin). Where `reach` of them have been looked at, the page
/// may be shorter than asked for, and yet not the last one.
pub(crate) fn origins(
    t: &dyn KvRead,
    ctx: &mut Ctx<'_>,
    query: &OriginQuery,
    after: Option<&PageToken>,
    limit: usize,
    reach: usize,
) -> Result<OriginPage> {
    let (first, after) = after.map_or((0, 0), last_of);
    let mut listers = Vec::new();
    t.scan(keys::LISTER, &keys::of_u32(first), None, &mut |key, value| {
        let row: ListerRow = super::rows::decode(value)?;
        if query.lister.as_ref().is_none_or(|l| *l == row.name)
            && query.instance.as_ref().is_none_or(|i| *i == row.instance)
        {
            listers.push(keys::Parts(key).u32());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let limit = limit.max(1);
    let only = query.url.as_ref().map(|url| with_url(t, ctx, url)).transpose()?;
    let mut search = Search {
        query,
        ctx,
        last_seen: LastSeen::default(),
        only,
        found: Vec::new(),
        limit: limit + 1,
        reach,
        last: (0, 0),
    };
    for lister in listers {
        let after = if lister == first { after } else { 0 };
        let from = listed_from(lister, after);
        let to = super::kv::after_prefix(&keys::of_u32(lister));
        t.scan(keys::LISTED, &from, to.as_deref(), &mut |key, value| {
            let mut parts = keys::Parts(key);
            parts.u32();
            search.chunk(t, lister, parts.u64(), &Chunk::read(value), after)?;
            Ok(if search.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if search.is_over() {
            break;
        }
    }
    let stopped = search.is_over().then_some(search.last);
    let mut found = search.found;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more { found.last().map(|(at, _)| *at) } else { stopped };
    let next = next.map(|(lister, id)| PageToken(K::new().u32(lister).u64(id).to_vec()));
    Ok(OriginPage::new(found.into_iter().map(|(_, origin)| origin).collect(), next))
}

/// Brings origins from elsewhere.
pub(crate) fn import(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, origins: Vec<ImportedOrigin>) -> Result<Imported> {
    let mut counts = Imported::default();
    let mut by_lister: HashMap<u32, (Feed, Additions)> = HashMap::new();
    let mut order = Vec::new();
    for origin in origins {
        if check_origin_url(&origin.url).is_err() {
            counts.refused += 1;
            continue;
        }
        let lister = lister_number_or_new(t, &ListerKey::new(&origin.lister, &origin.instance), ctx.now)?;
        let (feed, listed) = by_lister.entry(lister).or_insert_with(|| {
            order.push(lister);
            (Feed::new(lister), Additions::default())
        });
        import_one(t, ctx, lister, &origin, feed, listed, &mut counts)?;
    }
    for lister in order {
        if let Some((feed, listed)) = by_lister.remove(&lister) {
            feed.write(t, ctx.now)?;
            t.add_members(keys::LISTED, &K::new().u32(lister), listed)?;
        }
    }
    Ok(counts)
}

fn import_one(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    lister: u32,
    origin: &ImportedOrigin,
    feed: &mut Feed,
    members: &mut Additions,
    counts: &mut Imported,
) -> Result<()> {
    let fresh = || -> Result<Listing> {
        let mut listing = Listing::new(lister, origin.first_seen.unwrap_or(ctx.now));
        let mut said = NewOrigin::new(&origin.url, origin.visit_type.clone());
        said.last_update = origin.last_update;
        said.enabled = origin.enabled;
        said.is_fork = origin.is_fork;
        said.forked_from_url.clone_from(&origin.forked_from_url);
        said.extra_loader_arguments.clone_from(&origin.extra_loader_arguments);
        tell(&mut listing, &said)?;
        if let Some(at) = origin.last_seen {
            listing.set_last_seen(at);
        }
        Ok(listing)
    };
    let key = OriginKey::new(&origin.url, origin.visit_type.clone());
    // What this lister has renamed since is known by its former URL too: to import again changes nothing.
    let renamed = |(_, row): &(u64, OriginRow)| {
        row.url == origin.url || row.listings.iter().any(|l| l.lister == lister)
    };
    let known = answering(t, ctx, &key)?.filter(renamed);
    let (id, mut row, new) = match known {
        None => {
            let listing = fresh()?;
            let (id, row) = create(t, ctx, &origin.url, &origin.visit_type, listing)?;
            (id, row, true)
        }
        Some((id, mut row)) if row.listings.iter().all(|l| l.lister != lister) => {
            row.listings.push(fresh()?);
            (id, row, true)
        }
        Some((id, row)) => (id, row, false),
    };
    let before = row.clone();
    if let Some(listing) = row.listings.iter_mut().find(|l| l.lister == lister) {
        listing.last_update = listing.last_update.max(origin.last_update);
        if let Some(first) = origin.first_seen.filter(|f| *f < listing.first_seen) {
            listing.set_first_seen(first);
        }
        if !new
            && listing.last_update
                != before.listings.iter().find(|l| l.lister == lister).and_then(|l| l.last_update)
        {
            feed.say(ChangeKind::Changed, id);
        }
    }
    if let Some(visits) = &origin.visits {
        import_visits(t, ctx, id, &mut row, visits)?;
    }
    let told = |row: &OriginRow| row.listings.iter().filter_map(|l| l.last_update).max();
    if told(&row).is_some() && (new || told(&row) != told(&before)) {
        ctx.set_dated(t, lister)?;
        observe(t, ctx, lister, id, &mut row)?;
    }
    if new {
        members.add(id);
        feed.say(ChangeKind::New, id);
        counts.new += 1;
    }
    let moved = new || row != before;
    if moved {
        place(t, ctx, id, &mut row)?;
    }
    let lent = match origin.visits.as_ref().and_then(|v| v.under_way.as_ref()) {
        Some(visit) => lend(t, ctx, id, &row, visit)?,
        None => false,
    };
    match (new, moved || lent) {
        (true, _) => {}
        (false, true) => counts.changed += 1,
        (false, false) => counts.unchanged += 1,
    }
    Ok(())
}

/// Leaves an origin to whoever visits it elsewhere. Tells whether it was free.
fn lend(t: &mut dyn KvTxn, ctx: &Ctx<'_>, id: u64, row: &OriginRow, visit: &UnderWay) -> Result<bool> {
    let over = row.visits.as_deref().is_some_and(|v| v.last_visit >= Some(visit.since));
    if over || visit.until <= ctx.now || lease(t, id)?.is_some() {
        return Ok(false);
    }
    let owner = owner_number(t, &visit.owner)?;
    let to = LeaseRow { token: next(t, "visit")?, owner, since: visit.since, until: visit.until };
    occupy(t, id, row, &to)?;
    Ok(true)
}

/// Folds in what is known of visits elsewhere, where it is newer than what is known here.
fn import_visits(
    t: &dyn KvRead,
    ctx: &mut Ctx<'_>,
    id: u64,
    row: &mut OriginRow,
    visits: &ImportedVisits,
) -> Result<()> {
    let known = stats(row);
    let mut newer = known.last_visit.is_none();
    let mut facts = facts(t, ctx, id, row)?;
    if let Some(at) = visits.last_visit.filter(|at| known.last_visit.is_none_or(|last| last < *at)) {
        newer = true;
        match visits.status {
            Some(status) => {
                let mut outcome = Outcome::new(VisitId(id), VisitToken(0), status, at);
                outcome.snapshot.clone_from(&visits.last_snapshot);
                observe_visit(&mut facts, &outcome, at, None);
            }
            None => {
                facts.visits.last_visit = Some(at);
                facts.visits.visits += 1;
            }
        }
    }
    facts.visits.last_successful = facts.visits.last_successful.max(visits.last_successful);
    if facts.visits.last_snapshot.is_none() {
        facts.visits.last_snapshot.clone_from(&visits.last_snapshot);
    }
    absorb(row, &facts);
    match visits.queued.as_ref().filter(|_| newer) {
        Some(queued) => adopt(ctx, row, facts, queued),
        None => Ok(()),
    }
}

/// Lets the policy take over a place in somebody else's queue.
fn adopt(ctx: &mut Ctx<'_>, row: &mut OriginRow, mut facts: Facts, queued: &Queued) -> Result<()> {
    let kind = ctx.kind(row.visit_type)?;
    let (number, tag, mut shared) = (kind.number, kind.tag, kind.shared.clone());
    kind.policy.adopt(&mut facts, queued, &mut shared);
    if shared.kept != kind.shared.kept {
        let kept = to_json(&shared.kept)?;
        ctx.edit_kind(number, |row| row.shared = Some(kept));
    }
    if facts.memo != Memo::default() {
        row.visits.get_or_insert_default().memo = Some((tag, facts.memo));
    }
    Ok(())
}

/// Stops or allows visits by hand.
pub(crate) fn set_disabled(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    origins: &[OriginKey],
    reason: Option<&str>,
) -> Result<u64> {
    let mut known = 0;
    for key in origins {
        let Some((id, mut row)) = answering(t, ctx, key)? else { continue };
        known += 1;
        let before = (row.wishes.clone(), row.visits.clone());
        let now = ctx.now;
        edit_wishes(&mut row, |w| {
            w.by_hand = reason.map(|reason| match w.by_hand.take() {
                Some(known) if known.reason == reason => known,
                _ => Disabled::new(now, reason),
            });
            if reason.is_none() {
                (w.by_failures, w.hold_until) = (None, None);
            }
        });
        if reason.is_none()
            && let Some(visits) = row.visits.as_deref_mut()
        {
            // Whoever allows visits again counts failures anew.
            visits.failures = 0;
        }
        if (&row.wishes, &row.visits) != (&before.0, &before.1) {
            place(t, ctx, id, &mut row)?;
        }
    }
    Ok(known)
}

/// A listing was read to its end: origins of types whose policy goes by that are to be placed again,
/// in batches. Tells whether there are such types.
pub(crate) fn follow_listings(ctx: &mut Ctx<'_>) -> bool {
    let follow = ctx.kinds().iter().filter(|k| k.policy.follows_listings());
    let follow: Vec<u16> = follow.map(|k| k.number).collect();
    for number in &follow {
        ctx.edit_kind(*number, |row| row.replace_from = Some(0));
    }
    !follow.is_empty()
}

/// Places again what another policy placed, up to `limit` origins at a time. False when all is done.
pub(crate) fn replace(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, limit: usize) -> Result<bool> {
    let next = ctx.kinds().iter().find_map(|k| k.row.replace_from.map(|from| (k.number, from)));
    let Some((number, from)) = next else { return Ok(false) };
    let mut ids = Vec::new();
    t.scan(keys::ORIGIN, &keys::of_u64(from), None, &mut |key, _| {
        ids.push(keys::first_u64(key));
        Ok(if ids.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    for id in &ids {
        if let Some(mut row) = load(t, *id)?.filter(|row| row.visit_type == number) {
            place(t, ctx, *id, &mut row)?;
        }
    }
    ctx.edit_kind(number, |row| {
        row.replace_from = ids.last().filter(|_| ids.len() >= limit).map(|last| last + 1);
    });
    Ok(true)
}

/// A lister's key by its number.
pub(crate) fn lister_key(t: &dyn KvRead, number: u32) -> Result<ListerKey> {
    Ok(lister_row(t, number)?.key())
}

/// A time far from any: for reading what needs none.
pub(crate) const NO_TIME: Timestamp = Timestamp::EPOCH;
