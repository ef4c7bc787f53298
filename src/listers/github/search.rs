//! The search for what makes a page fail. GitHub is asked by ids after which it goes on, not up to which,
//! so that what is after a repository that fails can be read, and what is before it only in smaller pages.
//!
//! 1. The page is halved until the *next* repository after some id fails alone.
//! 2. Its id is not known, so the listing tries to go on after the next id, after four, sixteen … more,
//!    until a repository can be read.
//! 3. The ids in between are halved: the listing goes on after the least id after which it can, and what
//!    is up to that one is asked for once more, and a gap.

use serde::{Deserialize, Serialize};

use super::GitHubCursor;
use crate::lister::{Failure, Recovery};
use crate::listers::poison::{farther, may_be_one_record};

/// Where a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Search {
    /// Among the next so many repositories is one that fails: half of them are asked for.
    Within(u64),
    /// The first repository after this id fails: one after a greater id is asked for.
    Past(u64),
    /// The first repository after `from` fails, and so does the one after `fails`; the one after `reads`
    /// does not. One after an id in between is asked for.
    Between {
        /// After which id a page of one failed first.
        from: u64,
        /// The greatest id after which one is known to fail.
        fails: u64,
        /// The least id after which one is known to be read.
        reads: u64,
    },
    /// Only ids up to this one, of which one fails.
    Hole(u64),
}

impl GitHubCursor {
    /// The size of page to ask for.
    pub(super) fn size(&self, per_page: u64) -> u64 {
        match self.search {
            None => per_page,
            Some(Search::Within(left)) => (left / 2).clamp(1, per_page.max(1)),
            Some(_) => 1,
        }
    }

    fn searching(&self, since: u64, search: Search) -> Self {
        Self { since, search: Some(search), behind: false, ..self.clone() }
    }

    /// Goes on between two ids after which one fails and one is read: in the middle, or, where there is
    /// none, as if nothing had failed, with what is left behind.
    fn between(&self, from: u64, fails: u64, reads: u64) -> Vec<Self> {
        if reads.saturating_sub(fails) > 1 {
            let middle = fails.saturating_add((reads - fails) / 2);
            return vec![self.searching(middle, Search::Between { from, fails, reads })];
        }
        let hole = self.searching(from, Search::Hole(reads));
        let behind = Self { since: reads, search: None, behind: true, ..self.clone() };
        let within = self.last.is_none_or(|last| reads < last);
        [Some(hole), within.then_some(behind)].into_iter().flatten().collect()
    }

    /// The page was read, and the forge goes on after an id, where it does: the next page of the chain.
    pub(super) fn goes_on(&self, next: Option<Self>, per_page: u64) -> Option<Self> {
        let next = next?;
        let search = match self.search {
            None => None,
            Some(Search::Within(left)) => {
                let left = left.saturating_sub(self.size(per_page));
                (left > 0).then_some(Search::Within(left))
            }
            Some(Search::Hole(up_to)) if next.since < up_to => self.search,
            Some(_) => return None,
        };
        Some(Self { search, ..next })
    }

    /// The page was read: what else is to be asked for.
    pub(super) fn search_on(&self) -> Vec<Self> {
        match self.search {
            Some(Search::Past(from)) => {
                // A fourth of the way is where it failed last.
                let fails = from.saturating_add(self.since.saturating_sub(from) / 4);
                self.between(from, fails, self.since)
            }
            Some(Search::Between { from, fails, .. }) => self.between(from, fails, self.since),
            _ => Vec::new(),
        }
    }

    /// The page failed: how the search goes on.
    pub(super) fn failed(&self, failure: &Failure, per_page: u64) -> Recovery<Self> {
        // An address that a link gave says nothing of ids.
        if !may_be_one_record(failure) || self.url.is_some() {
            return Recovery::gap();
        }
        let size = self.size(per_page);
        match self.search {
            None | Some(Search::Within(_)) if size > 1 => {
                Recovery::replaced(vec![self.searching(self.since, Search::Within(size))])
            }
            None | Some(Search::Within(_)) => {
                let next = self.searching(self.since.saturating_add(1), Search::Past(self.since));
                Recovery::replaced(vec![next])
            }
            Some(Search::Past(from)) => match farther(from, self.since) {
                Some(since) => Recovery::replaced(vec![self.searching(since, Search::Past(from))]),
                None => Recovery::gap().because(format!("and so does what is after id {from}, one by one")),
            },
            Some(Search::Between { from, reads, .. }) => {
                Recovery::replaced(self.between(from, self.since, reads))
            }
            Some(Search::Hole(up_to)) => {
                let first = self.since.saturating_add(1);
                Recovery::gap().because(if first == up_to {
                    format!("the repository with id {up_to} makes its page fail")
                } else {
                    format!("a repository with an id from {first} to {up_to} makes its page fail")
                })
            }
        }
    }
}
