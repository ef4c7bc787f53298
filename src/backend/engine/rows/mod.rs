//! Rows as stored: postcard behind a byte that names the form.

mod parts;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backend::{BackendError, BackendErrorKind, GapKind, PageDigest, Result, RunRecord};
use crate::model::{Disabled, Gone, JsonObject, ListerRecord, Timestamp, VisitStatus};
use crate::policy::{Belief, Evidence, Memo, Signals};

pub(crate) use parts::{PartRow, PartRunRow, Piece, Reading, assemble};

/// The form of all rows. Raised when one changes; older ones are read as long as they can be.
pub(crate) const FORM: u8 = 4;

pub(crate) fn corrupt(what: impl Into<String>) -> BackendError {
    BackendError::new(BackendErrorKind::Corrupt, what)
}

/// A row as bytes.
pub(crate) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(FORM);
    postcard::to_extend(row, bytes).map_err(|e| corrupt("a row that cannot be written").with_source(e))
}

/// Bytes as a row.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    match bytes.split_first() {
        Some((&FORM, row)) => postcard::from_bytes(row).map_err(|e| {
            corrupt(format!("a row of {} that cannot be read", std::any::type_name::<T>())).with_source(e)
        }),
        Some((form, _)) if *form > FORM => {
            Err(BackendError::new(BackendErrorKind::Newer, format!("a row of form {form}")))
        }
        Some((form, _)) => Err(corrupt(format!("a row of form {form}, written before the first release"))),
        None => Err(corrupt("an empty row")),
    }
}

/// JSON kept inside a row, as text.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| corrupt("JSON that cannot be written").with_source(e))
}

/// Text in a row as JSON.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| corrupt("JSON that cannot be read").with_source(e))
}

/// One (url, visit type): the unit of scheduling, and what its listers say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OriginRow {
    pub(crate) url: String,
    pub(crate) visit_type: u16,
    /// In the order in which the listers first listed it. Empty only where it was put together with
    /// another origin.
    pub(crate) listings: Vec<Listing>,
    pub(crate) visits: Option<Box<Visits>>,
    pub(crate) evidence: Option<Box<EvidenceRow>>,
    pub(crate) wishes: Option<Box<Wishes>>,
    pub(crate) place: Option<Place>,
}

/// How often an origin changes, as far as is known. Times but the first are against it: small.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct EvidenceRow {
    a: f32,
    b: f32,
    folded: Option<Timestamp>,
    listed: Option<i64>,
    last_change: Option<i64>,
    first_signal: Option<i64>,
}

impl EvidenceRow {
    /// None where there is nothing to keep.
    pub(crate) fn of(evidence: &Evidence) -> Option<Box<Self>> {
        if *evidence == Evidence::default() {
            return None;
        }
        let base = evidence.folded.unwrap_or(Timestamp::EPOCH).as_micros();
        let against = |t: Option<Timestamp>| t.map(|t| t.as_micros() - base);
        Some(Box::new(Self {
            a: evidence.belief.a,
            b: evidence.belief.b,
            folded: evidence.folded,
            listed: against(evidence.listed),
            last_change: against(evidence.last_change),
            first_signal: against(evidence.first_signal),
        }))
    }

    pub(crate) fn evidence(&self) -> Evidence {
        let base = self.folded.unwrap_or(Timestamp::EPOCH).as_micros();
        let at = |t: Option<i64>| t.map(|t| Timestamp::from_micros(base.saturating_add(t)));
        Evidence {
            belief: Belief::new(self.a, self.b),
            folded: self.folded,
            listed: at(self.listed),
            last_change: at(self.last_change),
            first_signal: at(self.first_signal),
        }
    }
}

/// What one lister says of an origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listing {
    pub(crate) lister: u32,
    flags: u16,
    pub(crate) first_seen: Timestamp,
    /// Microseconds from the first sight to the last one written here; later ones are in sets.
    seen_for: u64,
    pub(crate) last_update: Option<Timestamp>,
    pub(crate) more: Option<Box<More>>,
}

/// A URL that an origin had before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Former {
    pub(crate) url: String,
    /// The change that told of another one; zero where none did, or it did of an origin put together
    /// with it.
    pub(crate) token: u64,
    /// The change with which it was lost: of two that bore a URL, the one that lost it later answers.
    pub(crate) lost: u64,
    /// Whether this very row bore it, and not one that was put together with it.
    pub(crate) own: bool,
}

impl Former {
    /// Makes it another origin's, which never bore it itself.
    pub(crate) fn hand_on(&mut self) {
        (self.token, self.own) = (0, false);
    }

    /// Whether a URL was lost, and nothing yet came instead.
    pub(crate) fn waits_for(&self, url: &str) -> bool {
        self.url == url && self.token == 0 && !self.own
    }
}

/// What few listings have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct More {
    pub(crate) forked_from: Option<String>,
    pub(crate) forge_id: Option<String>,
    /// The lister's own arguments, a JSON object.
    pub(crate) arguments: Option<String>,
    pub(crate) gone: Option<Gone>,
}

const ENABLED: u16 = 1;
const FORK_SHIFT: u8 = 1;
const ARCHIVED_SHIFT: u8 = 3;
const IN_PARTS: u16 = 1 << 5;
const MIRROR_SHIFT: u8 = 6;
const EMPTY_SHIFT: u8 = 8;
const KNOWN_STALE: u16 = 1 << 10;

impl Listing {
    pub(crate) fn new(lister: u32, first_seen: Timestamp) -> Self {
        Self { lister, flags: ENABLED, first_seen, seen_for: 0, last_update: None, more: None }
    }

    /// One as a store that has columns keeps it.
    #[cfg(feature = "postgres")]
    pub(crate) fn stored(lister: u32, flags: u16, seen: (Timestamp, Timestamp)) -> Self {
        let mut listing = Self::new(lister, seen.0);
        listing.flags = flags;
        listing.set_last_seen(seen.1);
        listing
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn flags(&self) -> u16 {
        self.flags
    }

    pub(crate) fn enabled(&self) -> bool {
        self.flags & ENABLED != 0
    }

    pub(crate) fn set_enabled(&mut self, enabled: bool) {
        self.flags = (self.flags & !ENABLED) | u16::from(enabled);
    }

    /// Whether parts of the listing say something of it.
    pub(crate) fn in_parts(&self) -> bool {
        self.flags & IN_PARTS != 0
    }

    pub(crate) fn set_in_parts(&mut self) {
        self.flags |= IN_PARTS;
    }

    /// Whether the index of known-stale origins has it.
    pub(crate) fn known_stale(&self) -> bool {
        self.flags & KNOWN_STALE != 0
    }

    pub(crate) fn set_known_stale(&mut self, stale: bool) {
        self.flags = if stale { self.flags | KNOWN_STALE } else { self.flags & !KNOWN_STALE };
    }

    pub(crate) fn is_fork(&self) -> Option<bool> {
        self.maybe(FORK_SHIFT)
    }

    pub(crate) fn set_fork(&mut self, fork: Option<bool>) {
        self.set_maybe(FORK_SHIFT, fork);
    }

    pub(crate) fn archived(&self) -> Option<bool> {
        self.maybe(ARCHIVED_SHIFT)
    }

    pub(crate) fn set_archived(&mut self, archived: Option<bool>) {
        self.set_maybe(ARCHIVED_SHIFT, archived);
    }

    pub(crate) fn mirror(&self) -> Option<bool> {
        self.maybe(MIRROR_SHIFT)
    }

    pub(crate) fn set_mirror(&mut self, mirror: Option<bool>) {
        self.set_maybe(MIRROR_SHIFT, mirror);
    }

    pub(crate) fn empty(&self) -> Option<bool> {
        self.maybe(EMPTY_SHIFT)
    }

    pub(crate) fn set_empty(&mut self, empty: Option<bool>) {
        self.set_maybe(EMPTY_SHIFT, empty);
    }

    fn maybe(&self, shift: u8) -> Option<bool> {
        match (self.flags >> shift) & 3 {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        }
    }

    fn set_maybe(&mut self, shift: u8, value: Option<bool>) {
        let bits = value.map_or(0, |v| 1 + u16::from(v));
        self.flags = (self.flags & !(3 << shift)) | (bits << shift);
    }

    pub(crate) fn last_seen(&self) -> Timestamp {
        self.first_seen.plus(std::time::Duration::from_micros(self.seen_for))
    }

    pub(crate) fn set_last_seen(&mut self, at: Timestamp) {
        let until = at.max(self.last_seen());
        self.seen_for = u64::try_from(until.since(self.first_seen).as_micros()).unwrap_or(u64::MAX);
    }

    pub(crate) fn set_first_seen(&mut self, at: Timestamp) {
        let last = self.last_seen();
        self.first_seen = at;
        self.seen_for = 0;
        self.set_last_seen(last);
    }

    pub(crate) fn gone(&self) -> Option<Gone> {
        self.more.as_ref().and_then(|m| m.gone)
    }

    pub(crate) fn forge_id(&self) -> Option<&str> {
        self.more.as_ref().and_then(|m| m.forge_id.as_deref())
    }

    /// Changes what few listings have, and keeps nothing of it where nothing is left.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut More)) {
        let mut more = self.more.take().unwrap_or_default();
        change(&mut more);
        self.more = (*more != More::default()).then_some(more);
    }

    pub(crate) fn own_arguments(&self) -> Result<JsonObject> {
        self.more.as_ref().and_then(|m| m.arguments.as_deref()).map_or(Ok(JsonObject::new()), from_json)
    }
}

/// An origin's visits so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Visits {
    pub(crate) last_visit: Option<Timestamp>,
    pub(crate) last_successful: Option<Timestamp>,
    pub(crate) last_status: Option<VisitStatus>,
    pub(crate) last_snapshot: Option<String>,
    pub(crate) failures: u32,
    pub(crate) visits: u64,
    /// The token of the last outcome taken.
    pub(crate) token: u64,
    /// What the policy of that tag keeps for itself.
    pub(crate) memo: Option<(u32, Memo)>,
}

/// What few origins have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Wishes {
    pub(crate) requested_at: Option<Timestamp>,
    pub(crate) requested_by: Option<String>,
    pub(crate) hold_until: Option<Timestamp>,
    /// The newest change that somebody else than a lister told of, until a good visit.
    pub(crate) hinted_at: Option<Timestamp>,
    /// Who hinted.
    pub(crate) hinted_by: u32,
    pub(crate) by_failures: Option<Disabled>,
    pub(crate) by_hand: Option<Disabled>,
}

/// A place in the queue. Held there unless the origin is leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) lane: u8,
    pub(crate) rank: i64,
    /// Another lane, and the rank in it.
    pub(crate) also: Option<(u8, i64)>,
    /// Kept out of the lanes until then.
    pub(crate) waits: Option<i64>,
}

/// A lister.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ListerRow {
    pub(crate) name: String,
    pub(crate) instance: String,
    pub(crate) state: Option<String>,
    pub(crate) state_form: u32,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    pub(crate) last_finished: Option<Timestamp>,
    pub(crate) evidence_at: Option<Timestamp>,
    /// The run of the evidence, where that run speaks only of what it saw.
    pub(crate) evidence_run: Option<u64>,
    /// When the run began since which the suspects have been missing.
    pub(crate) suspects_since: Option<Timestamp>,
    pub(crate) revision: u64,
}

impl ListerRow {
    pub(crate) fn key(&self) -> crate::model::ListerKey {
        crate::model::ListerKey::new(&self.name, &self.instance)
    }

    pub(crate) fn record(&self) -> Result<ListerRecord> {
        let mut record = ListerRecord::new(&self.key(), self.created);
        if let Some(state) = &self.state {
            record.current_state = from_json(state)?;
        }
        record.state_form = self.state_form;
        record.updated = self.updated;
        record.last_finished = self.last_finished;
        record.evidence_at = self.evidence_at;
        record.revision = self.revision;
        Ok(record)
    }
}

/// A visit type, and what is kept for the whole of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TypeRow {
    pub(crate) name: String,
    /// The policy by which its origins are placed.
    pub(crate) policy: String,
    /// The form of that policy: the options that matter for a place.
    pub(crate) form: String,
    /// Origins from this number on are still placed by another one.
    pub(crate) replace_from: Option<u64>,
    pub(crate) shared: Option<String>,
    pub(crate) credit: Vec<f64>,
    /// Visits that the guard is owed.
    pub(crate) guarded: f64,
    /// How many origins wait, or are being visited.
    pub(crate) waiting: u64,
}

/// What a lister's news were worth.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct LedgerRow {
    /// Whether it tells when upstream changed.
    pub(crate) dated: bool,
    pub(crate) signals: Signals,
}

#[cfg(feature = "postgres")]
impl LedgerRow {
    /// Adds what was counted since `before` to what others made of it meanwhile.
    pub(crate) fn add_to(&mut self, there: Self, before: Self) {
        let add = |there: u64, new: u64, before: u64| there.saturating_add(new.saturating_sub(before));
        let (new, old, s) = (self.signals, before.signals, &mut self.signals);
        s.told = add(there.signals.told, new.told, old.told);
        s.borne_out = add(there.signals.borne_out, new.borne_out, old.borne_out);
        s.found = add(there.signals.found, new.found, old.found);
        s.foretold = add(there.signals.foretold, new.foretold, old.foretold);
        self.dated |= there.dated;
    }
}

/// How far the rolling sweep is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct SweepRow {
    pub(crate) at: Option<Timestamp>,
    /// The last key seen, of the table of keys.
    pub(crate) after: Vec<u8>,
}

/// A lease of a visit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeaseRow {
    pub(crate) token: u64,
    pub(crate) owner: u32,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// Changes committed together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChangeRow {
    pub(crate) at: Timestamp,
    pub(crate) lister: u32,
    /// (Kind, origin) in order; the first has the row's key as its token.
    pub(crate) changes: Vec<(u8, u64)>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunRow {
    pub(crate) record: RunRecord,
    pub(crate) lister: u32,
    pub(crate) parameters: [u8; 16],
    pub(crate) fence: u64,
    pub(crate) cursor_form: u32,
    pub(crate) ignore_fingerprints: bool,
    pub(crate) next_cursor: u64,
    /// Detail pages that were read.
    pub(crate) details: u64,
    /// Detail pages without which nothing is said to be missing.
    pub(crate) absent: u64,
}

/// A cursor of an open run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CursorRow {
    /// JSON.
    pub(crate) cursor: String,
    pub(crate) part: Option<String>,
    /// The fingerprint to keep when the item that is its part has been read.
    pub(crate) fingerprint: Option<String>,
    /// Whether its page begins its part.
    pub(crate) begins_part: bool,
    /// The page whose next one it is.
    pub(crate) parent: Option<u64>,
    /// Whether it is a page of its own beside the chain that named it.
    pub(crate) detail: bool,
    /// Whether it was asked for, or continues what was asked for, because it had been a gap.
    pub(crate) retry: bool,
    /// Parts that its page began in what was flushed of it.
    pub(crate) flushed: Vec<u32>,
    pub(crate) end: CursorState,
}

/// How far a cursor is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum CursorState {
    Pending,
    /// Its page's digest, and how many empty equal pages in a row end with it.
    Done(PageDigest, u32),
    Ended,
}

/// The lease of a pending cursor.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct PendingRow {
    pub(crate) token: u64,
    pub(crate) until: Option<Timestamp>,
}

/// A gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GapRow {
    /// Grows with every gap that is opened.
    pub(crate) number: u64,
    pub(crate) run: u64,
    /// JSON.
    pub(crate) cursor: String,
    pub(crate) part: Option<String>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) begins_part: bool,
    pub(crate) kind: GapKind,
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) retry_at: Timestamp,
}

/// A validator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ValidatorRow {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    pub(crate) part: String,
}

/// A run whose sights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeenRunRow {
    pub(crate) started: Timestamp,
    /// It ended complete and saw every live origin.
    pub(crate) saw_all: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_newer_form_is_refused_as_newer() {
        let row = ListerRow {
            name: "a".into(),
            instance: "b".into(),
            state: None,
            state_form: 1,
            created: Timestamp::EPOCH,
            updated: Timestamp::from_micros(5),
            last_finished: None,
            evidence_at: None,
            evidence_run: None,
            suspects_since: None,
            revision: 3,
        };
        let mut bytes = encode(&row).unwrap();
        assert_eq!(decode::<ListerRow>(&bytes).unwrap(), row);
        bytes[0] = FORM + 1;
        assert_eq!(decode::<ListerRow>(&bytes).unwrap_err().kind(), BackendErrorKind::Newer);
        assert_eq!(decode::<ListerRow>(&[FORM, 200]).unwrap_err().kind(), BackendErrorKind::Corrupt);
        assert_eq!(decode::<ListerRow>(&[]).unwrap_err().kind(), BackendErrorKind::Corrupt);
    }

    #[test]
    fn the_flags_of_a_listing_do_not_disturb_each_other() {
        let mut l = Listing::new(1, Timestamp::EPOCH);
        l.set_fork(Some(true));
        l.set_archived(Some(false));
        l.set_mirror(Some(true));
        l.set_empty(Some(false));
        l.set_in_parts();
        l.set_enabled(false);
        assert_eq!(
            (l.enabled(), l.is_fork(), l.archived(), l.in_parts()),
            (false, Some(true), Some(false), true)
        );
        l.set_fork(None);
        l.set_enabled(true);
        assert_eq!((l.mirror(), l.empty()), (Some(true), Some(false)));
        assert_eq!((l.enabled(), l.is_fork(), l.archived(), l.in_parts()), (true, None, Some(false), true));
    }
}
