//! The search for what makes a page fail. GitLab answers 500 for a page that one broken project is
//! on, whatever else is on it, and does not say which.
//!
//! 1. The page is halved until the *next* project after some id fails alone.
//! 2. The id of that project is not known, so the listing tries to go on after the next id, after
//!    four, sixteen … more, until a project can be read.
//! 3. The ids in between are halved until those that fail are left, and are gaps.

use serde::{Deserialize, Serialize};

use super::GitLabCursor;
use crate::lister::{Failure, Recovery};
use crate::listers::poison::{farther, may_be_one_record};

/// Ids that are halved although nothing says that just one of them fails.
const NARROW: u64 = 64;

/// Where a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Hunt {
    /// Among the next so many projects is one that fails: half of them are asked for.
    Within(u64),
    /// The first project after this id fails: one after a greater id is asked for.
    Past(u64),
    /// Some ids only.
    Window {
        /// The first id behind them.
        before: u64,
        /// Whether one of them is known to fail: the lower half of them is asked for.
        fails: bool,
    },
}

impl GitLabCursor {
    /// The size of page to ask for.
    pub(super) fn size(&self, per_page: u64) -> u64 {
        match self.hunt {
            Some(Hunt::Within(left)) => (left / 2).clamp(1, per_page),
            Some(Hunt::Past(_)) => 1,
            _ => per_page,
        }
    }

    /// The first id that is not asked for, where that is bounded.
    pub(super) fn before(&self) -> Option<u64> {
        match self.hunt {
            Some(Hunt::Window { before, fails: true }) => Some(before.saturating_sub(self.ids(before) / 2)),
            Some(Hunt::Window { before, fails: false }) => Some(before),
            _ => self.last.map(|last| last.saturating_add(1)),
        }
    }

    /// How many ids there are from here to `before`.
    fn ids(&self, before: u64) -> u64 {
        before.saturating_sub(self.after).saturating_sub(1)
    }

    fn hunting(&self, after: u64, hunt: Hunt) -> Self {
        Self { after, hunt: Some(hunt), ..self.clone() }
    }

    /// The page was read, and the forge goes on after an id, where it does: what follows.
    pub(super) fn read(&self, after: Option<u64>, entries: u64) -> Option<Self> {
        let window = |before, fails, end: u64| match after.filter(|after| after.saturating_add(1) < end) {
            Some(after) => Some(self.hunting(after, Hunt::Window { before, fails })),
            // The lower half is read: what fails is in the upper one.
            None => {
                (end < before).then(|| self.hunting(end.saturating_sub(1), Hunt::Window { before, fails }))
            }
        };
        match self.hunt {
            None => after.map(|after| Self { after, ..self.clone() }),
            Some(Hunt::Within(left)) => after.map(|after| {
                let left = left.saturating_sub(entries.max(1));
                Self { after, hunt: (left > 0).then_some(Hunt::Within(left)), ..self.clone() }
            }),
            Some(Hunt::Past(from)) => {
                after.map(|after| Self { after, hunt: None, past: Some(from), ..self.clone() })
            }
            Some(Hunt::Window { before, fails }) => window(before, fails, self.before().unwrap_or(before)),
        }
    }

    /// What is still to be read where the listing got past a project that fails.
    pub(super) fn left_behind(&self) -> Option<Self> {
        let Some(Hunt::Past(from)) = self.hunt else { return None };
        let upto = self.last.map_or(self.after, |last| last.min(self.after));
        let window = self.hunting(from, Hunt::Window { before: upto.saturating_add(1), fails: true });
        Some(Self { past: None, ..window })
    }

    /// The page failed: how the search goes on.
    pub(super) fn failed(&self, failure: &Failure, per_page: u64) -> Recovery<Self> {
        if !may_be_one_record(failure) {
            return Recovery::gap();
        }
        let one = |cursor| Recovery::replaced(vec![cursor]);
        match self.hunt {
            None | Some(Hunt::Within(_)) if self.size(per_page) == 1 => {
                one(self.hunting(self.after.saturating_add(1), Hunt::Past(self.after)))
            }
            None | Some(Hunt::Within(_)) => one(self.hunting(self.after, Hunt::Within(self.size(per_page)))),
            Some(Hunt::Past(from)) => match farther(from, self.after) {
                Some(after) => one(self.hunting(after, Hunt::Past(from))),
                None => Recovery::gap().because(format!("and so does what is after id {from}, one by one")),
            },
            Some(Hunt::Window { before, .. }) if self.ids(before) <= 1 => Recovery::gap()
                .because(format!("the project with id {} makes its page fail", self.after.saturating_add(1))),
            Some(Hunt::Window { before, fails: true }) => {
                let end = self.before().unwrap_or(before);
                Recovery::replaced(vec![
                    self.hunting(self.after, Hunt::Window { before: end, fails: true }),
                    self.hunting(end.saturating_sub(1), Hunt::Window { before, fails: false }),
                ])
            }
            Some(Hunt::Window { before, fails: false }) if self.ids(before) <= NARROW => {
                one(self.hunting(self.after, Hunt::Window { before, fails: true }))
            }
            Some(Hunt::Window { .. }) => Recovery::gap(),
        }
    }
}
