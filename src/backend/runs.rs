//! What the driver and a store say to each other.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Prune;
use crate::lister::{Coverage, Filtered, Mode, PageBatch};
use crate::model::{JsonObject, ListerKey, ListerRecord, Timestamp};
use crate::transport::Identity;

/// The number of a run, growing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[allow(clippy::exhaustive_structs, reason = "a name for a value, and nothing else")]
pub struct RunId(pub u64);

/// The number of a cursor in its run, growing in the order in which cursors were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[allow(clippy::exhaustive_structs, reason = "a name for a value, and nothing else")]
pub struct CursorId(pub u64);

/// The right to work on a run: taken back when somebody else begins it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RunTicket {
    /// The run.
    pub run: RunId,
    /// Grows each time the run is begun.
    pub fence: u64,
}

impl RunTicket {
    /// A ticket: stores make them.
    #[must_use]
    pub fn new(run: RunId, fence: u64) -> Self {
        Self { run, fence }
    }
}

/// The right to end a cursor: taken back when its lease runs out and somebody else claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CursorTicket {
    /// The cursor.
    pub cursor: CursorId,
    /// Grows each time the cursor is claimed.
    pub token: u64,
}

impl CursorTicket {
    /// A ticket: stores make them.
    #[must_use]
    pub fn new(cursor: CursorId, token: u64) -> Self {
        Self { cursor, token }
    }
}

/// What kind of run to open, and its first cursors.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunPlan {
    /// Whose run it is.
    pub lister: ListerKey,
    /// What kind of run.
    pub mode: Mode,
    /// The lister's parameters: one open run for each (lister, mode, parameters).
    pub parameters: JsonObject,
    /// What it will say of the origins that it does not see.
    pub coverage: Coverage,
    /// The form of its cursors: an open run of another one restarts.
    pub cursor_form: u32,
    /// The first cursors of a new run. Not used by one that is continued. Empty in mode `Gaps`.
    pub start: Vec<Value>,
    /// Start over even where there is an open run.
    pub restart: bool,
    /// An open run that started longer ago starts over.
    pub resumable_for: Duration,
    /// Ask for items even where their fingerprints have not changed.
    pub ignore_fingerprints: bool,
    /// Also ask for known gaps that are due (`Gaps`: for all of them).
    pub retry_gaps: bool,
}

impl RunPlan {
    /// A run of a kind that begins at these cursors, with the defaults for the rest: coverage `All`
    /// for a full run, resumable for 30 days, gaps retried.
    #[must_use]
    pub fn new(lister: ListerKey, mode: Mode, start: Vec<Value>) -> Self {
        Self {
            lister,
            mode,
            parameters: JsonObject::new(),
            coverage: if mode == Mode::Full { Coverage::All } else { Coverage::New },
            cursor_form: 1,
            start,
            restart: false,
            resumable_for: Duration::from_secs(30 * 86_400),
            ignore_fingerprints: false,
            retry_gaps: true,
        }
    }
}

/// An opened run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Begun {
    /// The right to work on it.
    pub ticket: RunTicket,
    /// Its row. `started` is the time to give to [`crate::lister::RunInfo`].
    pub run: RunRecord,
    /// Whether an open run is continued.
    pub resumed: bool,
    /// How many cursors are pending.
    pub pending: u64,
}

impl Begun {
    /// An opened run: stores make them.
    #[must_use]
    pub fn new(ticket: RunTicket, run: RunRecord, resumed: bool, pending: u64) -> Self {
        Self { ticket, run, resumed, pending }
    }
}

/// A cursor to ask for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PendingCursor {
    /// The right to end it.
    pub ticket: CursorTicket,
    /// The cursor.
    pub cursor: Value,
    /// The part that its page belongs to from the beginning: the item's, or the chain's.
    pub part: Option<Arc<str>>,
}

impl PendingCursor {
    /// A cursor to ask for: stores make them.
    #[must_use]
    pub fn new(ticket: CursorTicket, cursor: Value, part: Option<Arc<str>>) -> Self {
        Self { ticket, cursor, part }
    }
}

/// What tells two answers apart: of a body, and of what was found in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageDigest {
    /// Of the bytes: compared only where nothing was found, and zeros where something was.
    pub body: [u8; 16],
    /// Of the origins, items and gone origins found; none where there were none.
    pub content: Option<[u8; 16]>,
}

impl PageDigest {
    /// Digests of a body and of what was found in it.
    #[must_use]
    pub fn new(body: [u8; 16], content: Option<[u8; 16]>) -> Self {
        Self { body, content }
    }
}

/// What a forge gave to make the next request for the same thing cheap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Validator {
    /// The `ETag`.
    pub etag: Option<String>,
    /// The `Last-Modified`.
    pub last_modified: Option<String>,
    /// The part that was read under it: unchanged when the answer is 304.
    pub part: Arc<str>,
    /// To whom it was given: it says nothing of what another credential would be answered.
    #[serde(default)]
    pub identity: Identity,
}

impl Validator {
    /// A validator for a part, given to anybody.
    #[must_use]
    pub fn new(etag: Option<String>, last_modified: Option<String>, part: Arc<str>) -> Self {
        Self { etag, last_modified, part, identity: Identity::anonymous() }
    }

    /// Says to whom it was given.
    #[must_use]
    pub fn of(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }
}

/// A state in the making, joined from the pieces that pages mark.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Candidate {
    /// Counts its changes.
    pub revision: u64,
    /// The state so far; none before the first piece.
    pub state: Option<Value>,
}

impl Candidate {
    /// A state that follows the one of `revision`.
    #[must_use]
    pub fn new(revision: u64, state: Option<Value>) -> Self {
        Self { revision, state }
    }
}

/// What kind of hole a gap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GapKind {
    /// No answer.
    Transport,
    /// An answer with an error status.
    Status,
    /// An answer that could not be read, or that refuses.
    Body,
    /// The chain came back to where it had been.
    Loop,
}

/// How a cursor ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum CursorEnd {
    /// Its page was read to the end.
    Done(PageDigest),
    /// The forge says (304) that the part is as it was.
    Unchanged(Arc<str>),
    /// The cursors in the batch stand for it.
    Replaced,
    /// Nothing is missing without it.
    Skipped,
    /// A part of the listing is missing.
    Gap {
        /// What kind of hole.
        kind: GapKind,
        /// Why, in words; no secrets.
        reason: String,
    },
}

/// A page to commit: what it said, and how its cursor ended. Without an end it is a flush: the
/// beginning of a page that is still being read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PageCommit {
    /// The right to work on the run.
    pub run: RunTicket,
    /// The right to end the cursor.
    pub cursor: CursorTicket,
    /// What the page said.
    pub batch: PageBatch,
    /// How the cursor ended; none for a flush.
    pub end: Option<CursorEnd>,
    /// The candidate state with this page's pieces joined in, and the revision it is built on.
    pub candidate: Option<Candidate>,
    /// The validator that came with the page, and the URL it is for. It takes the place of the one
    /// that is there, whoever that was given to: the part was read anew.
    pub validator: Option<(String, Validator)>,
    /// What was asked for, for whoever reads of a loop: method, host and path.
    pub place: Option<String>,
}

impl PageCommit {
    /// A page and how its cursor ended.
    #[must_use]
    pub fn new(run: RunTicket, cursor: CursorTicket, batch: PageBatch, end: Option<CursorEnd>) -> Self {
        Self { run, cursor, batch, end, candidate: None, validator: None, place: None }
    }

    /// Says what was asked for.
    #[must_use]
    pub fn with_place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Adds a candidate state.
    #[must_use]
    pub fn with_candidate(mut self, candidate: Candidate) -> Self {
        self.candidate = Some(candidate);
        self
    }

    /// Adds a validator.
    #[must_use]
    pub fn with_validator(mut self, key: impl Into<String>, validator: Validator) -> Self {
        self.validator = Some((key.into(), validator));
        self
    }
}

/// What a commit changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Committed {
    /// Origins not known to this lister before.
    pub new: u64,
    /// Origins of which something changed, renamed ones among them.
    pub changed: u64,
    /// Origins that are listed under another URL than before.
    pub renamed: u64,
    /// Origins of which nothing did, unchanged items' and parts' among them.
    pub unchanged: u64,
    /// Origins newly gone.
    pub gone: u64,
    /// Gaps that this commit opened: the cursor's own, or a loop of one that follows.
    pub gaps: u64,
    /// Cursors that are now pending for the first time.
    pub followed: u64,
}

impl Committed {
    /// Adds another commit's counts.
    pub fn add(&mut self, other: Self) {
        self.new += other.new;
        self.changed += other.changed;
        self.renamed += other.renamed;
        self.unchanged += other.unchanged;
        self.gone += other.gone;
        self.gaps += other.gaps;
        self.followed += other.followed;
    }
}

/// How a run ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunOutcome {
    /// Stopped, or still under way: the next run continues it.
    Open,
    /// Everything was read.
    Complete,
    /// Every hole is a known gap.
    Partial,
    /// It could not go on. Nothing moved, and its frontier is kept: the next run continues it.
    Aborted,
}

impl RunOutcome {
    /// As in JSON: `open`, `complete`, `partial`, `aborted`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Aborted => "aborted",
        }
    }
}

/// When a listing that a complete run stored was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ListingEnd {
    /// When the run ended.
    #[default]
    Now,
    /// Then: somebody else read it, and this run imports what came of it.
    At(Timestamp),
    /// Never, as far as is known.
    Unknown,
}

/// A run's end as the driver asks for it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EndRun {
    /// The right to work on the run.
    pub run: RunTicket,
    /// `Aborted`: it cannot go on. `Complete`: the driver is done; the store says `Open` instead
    /// where cursors are still pending (it was stopped, or others work on it), and `Partial` where
    /// a gap of this lister and these parameters is open.
    pub outcome: RunOutcome,
    /// What went wrong.
    pub error: Option<String>,
    /// The lister's new state and its form, built on the row of that revision. Only for a run that
    /// ends complete or partial.
    pub state: Option<NewState>,
    /// What to do with the origins that a complete run with coverage `All` did not see.
    pub prune: Prune,
    /// When the listing was read to its end.
    pub listing_end: ListingEnd,
    /// Requests sent by this driver, retries among them.
    pub requests: u64,
}

/// A lister's new state.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NewState {
    /// The state.
    pub state: JsonObject,
    /// Its form.
    pub form: u32,
    /// The revision of the lister's row it is built on.
    pub revision: u64,
}

impl NewState {
    /// A state of a form, built on a row's revision.
    #[must_use]
    pub fn new(state: JsonObject, form: u32, revision: u64) -> Self {
        Self { state, form, revision }
    }
}

impl EndRun {
    /// A run's end, without state, error or pruning.
    #[must_use]
    pub fn new(run: RunTicket, outcome: RunOutcome) -> Self {
        Self {
            run,
            outcome,
            error: None,
            state: None,
            prune: Prune::No,
            listing_end: ListingEnd::Now,
            requests: 0,
        }
    }

    /// Adds the lister's new state.
    #[must_use]
    pub fn with_state(mut self, state: NewState) -> Self {
        self.state = Some(state);
        self
    }

    /// Says when the listing was read to its end.
    #[must_use]
    pub fn with_listing_end(mut self, end: ListingEnd) -> Self {
        self.listing_end = end;
        self
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Ended {
    /// Its row.
    pub run: RunRecord,
    /// The lister's row.
    pub lister: ListerRecord,
    /// Origins taken for gone.
    pub gone: u64,
    /// Origins that were not seen, and are not taken for gone because they are too many.
    pub withheld: u64,
    /// Cursors still pending: not zero only for a run that can be continued.
    pub pending: u64,
}

impl Ended {
    /// How a run ended: stores make them.
    #[must_use]
    pub fn new(run: RunRecord, lister: ListerRecord, gone: u64, pending: u64) -> Self {
        Self { run, lister, gone, withheld: 0, pending }
    }

    /// Says how many origins were spared.
    #[must_use]
    pub fn with_withheld(mut self, withheld: u64) -> Self {
        self.withheld = withheld;
        self
    }
}

/// What is kept of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunRecord {
    /// Its number.
    pub id: RunId,
    /// Whose run it is.
    pub lister: ListerKey,
    /// What kind of run.
    pub mode: Mode,
    /// What it says of the origins that it does not see.
    pub coverage: Coverage,
    /// The lister's parameters, secrets left out: with them its gaps can be asked for again.
    #[serde(with = "json_text")]
    pub parameters: JsonObject,
    /// How it ended, or that it has not.
    pub outcome: RunOutcome,
    /// When it was opened.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Cursors ended with a page (or a 304).
    pub pages: u64,
    /// Requests sent, retries among them.
    pub requests: u64,
    /// What its commits changed.
    pub counts: Committed,
    /// Things left out on purpose.
    pub skipped: u64,
    /// Origins that filters left out.
    pub filtered: Filtered,
    /// Origins that were not seen, and are not taken for gone because they are too many.
    pub withheld: u64,
    /// What went wrong.
    pub error: Option<String>,
}

/// A JSON object as itself where people read it, and as text in a form that cannot hold one.
mod json_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    use crate::model::JsonObject;

    pub(super) fn serialize<S: Serializer>(object: &JsonObject, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return object.serialize(to);
        }
        serde_json::to_string(object).map_err(ser::Error::custom)?.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<JsonObject, D::Error> {
        if from.is_human_readable() {
            return JsonObject::deserialize(from);
        }
        serde_json::from_str(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// Which runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RunQuery {
    /// Of this lister.
    pub lister: Option<String>,
    /// Of this instance.
    pub instance: Option<String>,
}

/// A hole in a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Gap {
    /// Whose listing.
    pub lister: ListerKey,
    /// The run that last met it.
    pub run: RunId,
    /// What was asked for.
    pub cursor: Value,
    /// The part that is missing (a piece of) it.
    pub part: Option<Arc<str>>,
    /// What kind of hole.
    pub kind: GapKind,
    /// Why, in words.
    pub reason: String,
    /// When it was first met.
    pub since: Timestamp,
    /// How often it was asked for.
    pub attempts: u32,
    /// When an ordinary run asks for it again.
    pub retry_at: Timestamp,
}

/// Which gaps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GapQuery {
    /// Of this lister.
    pub lister: Option<String>,
    /// Of this instance.
    pub instance: Option<String>,
    /// Last met by this run.
    pub run: Option<RunId>,
}

/// When to ask for a gap again that has been asked for so often: at the next run after the first
/// time, then after ten minutes, doubled each time, up to a week.
#[must_use]
pub fn gap_retry_after(attempts: u32) -> Duration {
    let doubled = attempts.saturating_sub(2).min(16);
    if attempts < 2 { Duration::ZERO } else { Duration::from_secs((600u64 << doubled).min(7 * 86_400)) }
}
