//! The change feed: ordered, written in the transaction that makes the changes.

use std::ops::ControlFlow;

use super::ctx::{Ctx, last, lister_row, next_of};
use super::identity::urls_at;
use super::keys;
use super::kv::{KvRead, KvTxn};
use super::place::{must_load, will_load};
use super::rows::{ChangeRow, corrupt, decode, encode};
use crate::backend::{Change, ChangeKind, ChangeToken, Result};
use crate::model::Timestamp;

/// So many changes share a row.
const TOGETHER: usize = 1000;

const KINDS: [ChangeKind; 5] =
    [ChangeKind::New, ChangeKind::Changed, ChangeKind::Gone, ChangeKind::Back, ChangeKind::Renamed];

/// Changes of one lister's origins, to be written when the transaction ends.
pub(crate) struct Feed {
    lister: u32,
    changes: Vec<(u8, u64)>,
}

impl Feed {
    pub(crate) fn new(lister: u32) -> Self {
        Self { lister, changes: Vec::new() }
    }

    /// The token that the next change said will have: no other feed is written before this one.
    pub(crate) fn next_token(&self, t: &dyn KvRead) -> Result<u64> {
        // The very number is wanted, not only one that will do.
        t.will_read(keys::META, &mut std::iter::once(b"change".to_vec()))?;
        Ok(last(t, "change")? + self.changes.len() as u64 + 1)
    }

    pub(crate) fn say(&mut self, kind: ChangeKind, origin: u64) {
        let kind = KINDS.iter().position(|k| *k == kind).and_then(|k| u8::try_from(k).ok());
        self.changes.push((kind.unwrap_or(1), origin));
    }

    pub(crate) fn write(self, t: &mut dyn KvTxn, at: Timestamp) -> Result<()> {
        for changes in self.changes.chunks(TOGETHER) {
            let first = next_of(t, "change", changes.len() as u64)?;
            let row = ChangeRow { at, lister: self.lister, changes: changes.to_vec() };
            t.put(keys::CHANGE, &keys::of_u64(first), &encode(&row)?)?;
        }
        Ok(())
    }
}

/// Up to `limit` changes after a token.
pub(crate) fn changes(
    t: &dyn KvRead,
    ctx: &Ctx<'_>,
    after: ChangeToken,
    limit: usize,
) -> Result<Vec<Change>> {
    let mut found: Vec<(u64, u8, u64, u32, Timestamp)> = Vec::new();
    // The row that holds the token begins at most a row's length before it.
    let from = after.0.saturating_sub(TOGETHER as u64);
    t.scan(keys::CHANGE, &keys::of_u64(from), None, &mut |key, value| {
        let row: ChangeRow = decode(value)?;
        let tokens = keys::first_u64(key)..;
        let new = tokens.zip(&row.changes).filter(|(token, _)| *token > after.0);
        found.extend(new.map(|(token, (kind, origin))| (token, *kind, *origin, row.lister, row.at)));
        Ok(if found.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    found.truncate(limit);
    will_load(t, found.iter().map(|(_, _, origin, ..)| *origin))?;
    found
        .into_iter()
        .map(|(token, kind, origin, lister, at)| {
            let row = must_load(t, origin)?;
            let visit_type = ctx.kind(row.visit_type)?.visit_type()?;
            let (url, old_url) = urls_at(t, origin, row.url, token)?;
            let lister = lister_row(t, lister)?;
            let kind = KINDS.get(usize::from(kind)).copied();
            Ok(Change {
                token: ChangeToken(token),
                at,
                kind: kind.ok_or_else(|| corrupt("a change of an unknown kind"))?,
                lister: lister.name,
                instance: lister.instance,
                visit_type,
                url,
                old_url,
            })
        })
        .collect()
}
