//! A full listing in shards: ranges of ids that are listed beside each other.
//!
//! GitHub does not say which id is the greatest, so it is looked for: four times as far with each request
//! while there is a repository behind, then halfway between what was seen and what is empty. The last shard
//! has no end, so that nothing is lost, whatever the search came to.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::GitHubCursor;
use crate::listers::ranges::ranges;

/// After which id a repository is looked for first.
const FIRST: u64 = 1024;

/// Where the search for the greatest id is. The `since` of its cursor is what is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Split {
    /// How many shards are wanted.
    pub shards: NonZeroU32,
    /// The greatest id that was seen.
    pub seen: u64,
    /// After this id there is nothing, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<u64>,
}

/// What an answer to the search said.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    /// Repositories up to this id, and that there are more.
    More(u64),
    /// The greatest id.
    Last(u64),
    /// That there is nothing.
    Nothing,
    /// Nothing that tells an id, or there was none.
    Unknown,
}

/// How a search goes on.
pub(super) enum Step {
    /// Another id is tried.
    Try(GitHubCursor),
    /// The shards can be told, with what was seen until now.
    Found(Split),
}

impl Split {
    /// Where a listing in shards begins.
    pub(super) fn start(shards: NonZeroU32) -> GitHubCursor {
        Self { shards, seen: 0, empty: None }.at(FIRST)
    }

    fn at(self, since: u64) -> GitHubCursor {
        GitHubCursor { split: Some(self), ..GitHubCursor::new(since, None, None) }
    }

    /// Goes on from what was found after `tried`.
    pub(super) fn step(mut self, tried: u64, found: Found, per_page: u64) -> Step {
        match found {
            Found::More(id) => self.seen = self.seen.max(id),
            Found::Nothing => self.empty = Some(tried),
            Found::Last(id) => {
                self.seen = self.seen.max(id);
                return Step::Found(self);
            }
            Found::Unknown => return Step::Found(self),
        }
        let next = match self.empty {
            None => tried.max(self.seen).saturating_mul(4),
            Some(empty) => self.seen.saturating_add(empty.saturating_sub(self.seen) / 2),
        };
        // Half a shard, or a page, is near enough.
        let near = per_page.max(self.seen / u64::from(self.shards.get()) / 2);
        let found = self.empty.is_some_and(|empty| empty.saturating_sub(self.seen) <= near);
        if found || next == tried { Step::Found(self) } else { Step::Try(self.at(next)) }
    }

    pub(super) fn cursors(self, per_page: u64) -> impl Iterator<Item = GitHubCursor> {
        ranges(self.seen, self.shards, per_page).map(|(since, last)| GitHubCursor::new(since, last, None))
    }
}
