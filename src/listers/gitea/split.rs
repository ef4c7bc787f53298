//! Smaller pages in the place of one that fails: one broken repository makes each page with it fail.
//!
//! Pages are counted, so a smaller one has to begin at a multiple of its size: each is a proper
//! divisor of the one before.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::GiteaCursor;
use crate::lister::{Failure, FailureKind, Recovery};

/// A smaller page, in the place of a whole one that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Piece {
    /// How many repositories are before it.
    pub offset: u64,
    /// How many it holds.
    pub size: u64,
    /// Where the repositories end among which one is known to fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails_before: Option<u64>,
    /// The place of the repository before it, which failed. It is asked for by itself only when
    /// this piece shows that the forge is well otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<u64>,
    /// Whether nothing follows: it is one repository that fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}

impl Piece {
    fn new(offset: u64, size: u64) -> Self {
        Self { offset, size, fails_before: None, past: None, alone: false }
    }

    /// The number of this page among pages of its size.
    pub(super) fn page(self) -> u64 {
        (self.offset / self.size.max(1)).saturating_add(1)
    }

    fn end(self) -> u64 {
        self.offset.saturating_add(self.size)
    }
}

/// The greatest proper divisor.
fn smaller(size: u64) -> u64 {
    (2..=size).find(|d| size.is_multiple_of(*d)).map_or(1, |d| size / d)
}

impl GiteaCursor {
    /// The cursor of a whole page.
    fn whole(&self, page: u64, past: bool) -> Self {
        Self { page, piece: None, past, ..self.clone() }
    }

    fn piece(&self, piece: Piece) -> Self {
        Self { piece: Some(piece), ..self.clone() }
    }

    /// What is before the next whole page after this one, of pages of `limit`.
    fn end(&self, limit: u64) -> u64 {
        self.page.saturating_mul(limit)
    }

    /// The largest piece from an offset on that ends before the next whole page.
    fn largest(&self, offset: u64, limit: u64) -> Piece {
        let mut size = limit;
        while size > 1 && (!offset.is_multiple_of(size) || offset.saturating_add(size) > self.end(limit)) {
            size = smaller(size);
        }
        Piece::new(offset, size.max(1))
    }

    /// What follows where this page was read and the forge has more, `page` being what it calls the
    /// next whole one.
    pub(super) fn read(&self, page: u64, limit: u64) -> Option<Self> {
        let Some(piece) = self.piece else { return Some(self.whole(page, self.past)) };
        if piece.alone {
            return None;
        }
        let (end, whole_ends) = (piece.end(), self.end(limit));
        if end >= whole_ends {
            return Some(self.whole(self.page.saturating_add(1), self.past));
        }
        Some(self.piece(match piece.fails_before {
            // What is left is known to fail as a whole.
            Some(bad) if end.saturating_add(piece.size) >= bad && piece.size > 1 => {
                Piece { offset: end, size: smaller(piece.size), past: None, ..piece }
            }
            Some(bad) if end < bad => Piece { offset: end, past: None, ..piece },
            _ => self.largest(end, limit),
        }))
    }

    /// The repository that failed before this piece, which was read.
    pub(super) fn left_behind(&self) -> Option<Self> {
        let offset = self.piece?.past?;
        Some(self.piece(Piece { alone: true, ..Piece::new(offset, 1) }))
    }

    /// The page failed: smaller ones, or a gap.
    pub(super) fn failed(&self, failure: &Failure, limit: u64) -> Recovery<Self> {
        let by_a_repository = matches!(
            failure.kind,
            FailureKind::Status(StatusCode::INTERNAL_SERVER_ERROR) | FailureKind::Parse
        );
        let instead = |cursor| Recovery::replaced(vec![cursor]);
        let offset = self.page.saturating_sub(1).saturating_mul(limit);
        let piece = self.piece.unwrap_or(Piece::new(offset, limit.max(1)));
        if self.piece.is_none() && (!by_a_repository || self.past) {
            return Recovery::gap();
        }
        if piece.alone {
            let note = format!("the repository at place {} makes its page fail", piece.end());
            return Recovery::gap().because(note);
        }
        if !by_a_repository || (piece.size <= 1 && piece.past.is_some()) {
            // Smaller pages are of no use: it is the whole page that is missing.
            return instead(self.whole(self.page, true));
        }
        if piece.size > 1 {
            let size = smaller(piece.size);
            return instead(self.piece(Piece { size, fails_before: Some(piece.end()), ..piece }));
        }
        let page = self.page.saturating_add(u64::from(piece.end() >= self.end(limit)));
        let behind = self.whole(page, false);
        let next = Piece { past: Some(piece.offset), ..behind.largest(piece.end(), limit) };
        instead(behind.piece(next))
    }
}
