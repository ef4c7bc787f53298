//! The page that a lister writes into.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::{Cursor, Filtered, ListerError};
use crate::model::{GoneReason, NewOrigin, OriginKey};

/// An origin seen on a page, and the part of the listing that says so.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sighting {
    /// The origin.
    pub origin: NewOrigin,
    /// The part, where the page belongs to one.
    pub part: Option<Arc<str>>,
    /// It is there, but not wanted: where it is not known to this lister it is not stored; where it
    /// is, it is seen (so not gone), and its lister no longer wants it visited.
    pub left_out: bool,
}

impl Sighting {
    /// An origin seen outside any part.
    #[must_use]
    pub fn new(origin: NewOrigin) -> Self {
        Self { origin, part: None, left_out: false }
    }

    /// An origin that a part names.
    #[must_use]
    pub fn in_part(origin: NewOrigin, part: impl Into<Arc<str>>) -> Self {
        Self { origin, part: Some(part.into()), left_out: false }
    }
}

/// Something left out on purpose, and why. Counted and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skip {
    /// What was left out.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Skip {
    /// Leaves `what` out because of `why`.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

/// How a cursor follows from a page.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowKind {
    /// The next page of a chain; belongs to the part that was being read. Asked before: a loop.
    Next {
        /// The part that the chain reads.
        part: Option<Arc<str>>,
    },
    /// An independent request. Asked before: nothing to do.
    Follow,
    /// An item's detail page: asked only if its fingerprint is not the stored one.
    Item {
        /// The item's key, which is also the part that its pages belong to.
        key: Arc<str>,
        /// Date, version or hash of the item in the index.
        fingerprint: String,
    },
}

/// A cursor that follows from a page.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Follow {
    /// The cursor, as stored.
    pub cursor: Value,
    /// How it follows.
    pub kind: FollowKind,
}

impl Follow {
    /// A cursor that follows in this way.
    #[must_use]
    pub fn new(cursor: Value, kind: FollowKind) -> Self {
        Self { cursor, kind }
    }
}

/// What a page said, in the form that does not know the lister: one batch of it where the page
/// was flushed.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PageBatch {
    /// Origins seen.
    pub origins: Vec<Sighting>,
    /// Origins that upstream says are gone.
    pub gone: Vec<(OriginKey, GoneReason)>,
    /// What was left out on purpose.
    pub skips: Vec<Skip>,
    /// How many of the origins are there, but [not wanted](Sighting::left_out): a driver counts them.
    pub filtered: Filtered,
    /// Cursors that follow.
    pub follows: Vec<Follow>,
    /// Pieces of state.
    pub marks: Vec<Value>,
    /// Parts that this page reads.
    pub parts: Vec<Arc<str>>,
}

impl PageBatch {
    /// Whether the page said nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Takes a batch of a page that is still being read. An error stops the reading.
pub type Flush = Box<dyn FnMut(PageBatch) -> Result<(), ListerError> + Send>;

/// What a lister writes one answer's contents into.
///
/// Large bodies are flushed as they are read, so that a million-entry index never needs a million
/// origins in memory.
///
/// ```
/// use lamplighter::lister::Page;
/// use lamplighter::model::{NewOrigin, VisitType};
/// let mut page: Page<u64> = Page::new();
/// page.origin(NewOrigin::new("https://example.org/r.git", VisitType::git()))?;
/// page.skip("a null entry", "the forge lists some");
/// page.next(17);
/// let said = page.finish()?;
/// assert_eq!((said.origins.len(), said.skips.len(), said.follows.len()), (1, 1, 1));
/// # Ok::<(), lamplighter::lister::ListerError>(())
/// ```
pub struct Page<C> {
    batch: PageBatch,
    part: Option<Arc<str>>,
    flush_at: usize,
    flush: Option<Flush>,
    broken: Option<ListerError>,
    cursor: PhantomData<fn() -> C>,
}

impl<C> Default for Page<C> {
    fn default() -> Self {
        Self {
            batch: PageBatch::default(),
            part: None,
            flush_at: usize::MAX,
            flush: None,
            broken: None,
            cursor: PhantomData,
        }
    }
}

impl<C> fmt::Debug for Page<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("batch", &self.batch).field("part", &self.part).finish_non_exhaustive()
    }
}

impl<C> Page<C> {
    /// A page that keeps all that it is told.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A page that belongs to a part from its beginning: an item's, or the next of a chain's.
    #[must_use]
    pub fn of_part(part: Option<Arc<str>>) -> Self {
        Self { part, ..Self::default() }
    }

    /// A page that hands over a batch for each `flush_at` origins; marks and the rest come with
    /// [`Page::finish`].
    #[must_use]
    pub fn with_flush(mut self, flush_at: usize, flush: Flush) -> Self {
        self.flush_at = flush_at.max(1);
        self.flush = Some(flush);
        self
    }

    /// An origin was seen. Upserts: what is said last of one counts.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Stopped`] when the run was stopped: pass it on with `?`.
    pub fn origin(&mut self, origin: NewOrigin) -> Result<(), ListerError> {
        self.batch.origins.push(Sighting { origin, part: self.part.clone(), left_out: false });
        if self.batch.origins.len() >= self.flush_at
            && let Some(flush) = self.flush.as_mut()
        {
            // Marks wait for the end: a state may not run ahead of its page.
            let marks = std::mem::take(&mut self.batch.marks);
            let parts = self.batch.parts.clone();
            let whole = std::mem::take(&mut self.batch);
            self.batch.marks = marks;
            self.batch.parts = parts;
            flush(whole)?;
        }
        Ok(())
    }

    /// Upstream says that an origin is gone.
    pub fn gone(&mut self, origin: OriginKey, why: GoneReason) {
        self.batch.gone.push((origin, why));
    }

    /// Something is left out on purpose. Counted, never silent.
    pub fn skip(&mut self, what: impl fmt::Display, why: impl fmt::Display) {
        self.batch.skips.push(Skip { what: what.to_string(), why: why.to_string() });
    }

    /// What follows on this page (and on the pages that continue it) belongs to a part of the
    /// listing: it is replaced when that part is read again to its end, kept when the part is
    /// unchanged or fails. A page that is asked for with a validator, and is no item's, names one part
    /// before its first origin, or none.
    pub fn part(&mut self, key: impl Into<Arc<str>>) {
        let key = key.into();
        self.batch.parts.push(Arc::clone(&key));
        self.part = Some(key);
    }

    /// Ends the part: what follows belongs to none.
    pub fn end_part(&mut self) {
        self.part = None;
    }

    /// A piece of state (of the lister's `State` type). Joined with the others when the run ends.
    pub fn mark<S: Serialize>(&mut self, piece: &S) {
        match serde_json::to_value(piece) {
            Ok(piece) => self.batch.marks.push(piece),
            Err(e) => self.fail("a piece of state", e),
        }
    }

    /// What the page said.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Cursor`] when a cursor or a piece of state could not be stored.
    pub fn finish(self) -> Result<PageBatch, ListerError> {
        self.broken.map_or(Ok(self.batch), Err)
    }

    /// The same page for cursors of another type: what it holds does not know the type.
    pub(crate) fn cast<D>(self) -> Page<D> {
        let Self { batch, part, flush_at, flush, broken, .. } = self;
        Page { batch, part, flush_at, flush, broken, cursor: PhantomData }
    }

    fn fail(&mut self, what: &str, e: serde_json::Error) {
        self.broken.get_or_insert_with(|| ListerError::cursor(format!("{what} is no JSON")).with_source(e));
    }
}

#[allow(clippy::needless_pass_by_value, reason = "a cursor is given away: the page keeps it")]
impl<C: Cursor> Page<C> {
    /// The next page of this chain. One that was asked before in this run, or whose answer equals
    /// this one, is a gap that says *loop*.
    pub fn next(&mut self, cursor: C) {
        let part = self.part.clone();
        self.push(&cursor, FollowKind::Next { part });
    }

    /// A further request, independent of this page. May repeat; it is asked once a run.
    pub fn follow(&mut self, cursor: C) {
        self.push(&cursor, FollowKind::Follow);
    }

    /// An item with a detail page, asked only if `fingerprint` (date, version or hash in the index)
    /// differs from the one stored at its last success; an unchanged item's origins count as seen.
    pub fn item(&mut self, key: impl Into<Arc<str>>, fingerprint: impl fmt::Display, cursor: C) {
        let kind = FollowKind::Item { key: key.into(), fingerprint: fingerprint.to_string() };
        self.push(&cursor, kind);
    }

    fn push(&mut self, cursor: &C, kind: FollowKind) {
        match serde_json::to_value(cursor) {
            Ok(cursor) => self.batch.follows.push(Follow { cursor, kind }),
            Err(e) => self.fail("a cursor", e),
        }
    }
}
