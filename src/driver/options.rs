//! How a run is to be run.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::backend::Prune;
use crate::lister::Filters;
use crate::model::JsonObject;

/// How a run is to be run. The defaults are an ordinary run: incremental where the lister can and
/// has a state, continuing an open one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct RunOptions {
    /// List everything again: no state, no fingerprints.
    pub full: bool,
    /// Ask only for known gaps.
    pub gaps_only: bool,
    /// Start over even where a run is open.
    pub restart: bool,
    /// Stop after so many cursors, and leave the run open.
    pub max_pages: Option<u64>,
    /// Pages under way at a time, from the request to the commit: so many a kill may cause to be asked for
    /// again. Four by default; the transport limits the requests of each host as well.
    pub concurrency: usize,
    /// For how long a cursor belongs to this driver. Longer than any request may take.
    pub cursor_lease: Duration,
    /// What to do with the origins that a complete full run did not see.
    pub prune: Prune,
    /// Whether what is listed is to be visited.
    pub enable_origins: bool,
    /// Which of the listed origins are wanted.
    pub filters: Filters,
    /// The lister's parameters: one open run for each set of them.
    pub parameters: JsonObject,
    /// Commit a spooled page for each so many origins.
    pub flush_at: usize,
    /// List in so many ranges beside each other, where everything is listed. A run that is continued
    /// keeps its ranges, and one that asks for what is new has none.
    pub shards: Option<NonZeroU32>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            full: false,
            gaps_only: false,
            restart: false,
            max_pages: None,
            concurrency: 4,
            cursor_lease: Duration::from_secs(4 * 3600),
            prune: Prune::No,
            enable_origins: true,
            filters: Filters::default(),
            parameters: JsonObject::new(),
            flush_at: 1000,
            shards: None,
        }
    }
}

impl RunOptions {
    /// List everything again.
    #[must_use]
    pub fn with_full(mut self, full: bool) -> Self {
        self.full = full;
        self
    }

    /// Ask only for known gaps.
    #[must_use]
    pub fn with_gaps_only(mut self, gaps_only: bool) -> Self {
        self.gaps_only = gaps_only;
        self
    }

    /// Start over even where a run is open.
    #[must_use]
    pub fn with_restart(mut self, restart: bool) -> Self {
        self.restart = restart;
        self
    }

    /// Stop after so many cursors.
    #[must_use]
    pub fn with_max_pages(mut self, max_pages: impl Into<Option<u64>>) -> Self {
        self.max_pages = max_pages.into();
        self
    }

    /// Pages under way at a time.
    #[must_use]
    pub fn with_concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// A listing of everything in so many ranges beside each other. Concurrency says how many pages are
    /// under way at a time.
    #[must_use]
    pub fn with_shards(mut self, shards: impl Into<Option<NonZeroU32>>) -> Self {
        self.shards = shards.into();
        self
    }

    /// What to do with unseen origins: `true` takes them for gone unless too many are missing.
    #[must_use]
    pub fn with_prune(mut self, prune: impl Into<Prune>) -> Self {
        self.prune = prune.into();
        self
    }

    /// Whether what is listed is to be visited.
    #[must_use]
    pub fn with_enable_origins(mut self, enable: bool) -> Self {
        self.enable_origins = enable;
        self
    }

    /// Which of the listed origins are wanted. Part of what is asked for: give the same with a run that
    /// is continued.
    #[must_use]
    pub fn with_filters(mut self, filters: Filters) -> Self {
        self.filters = filters;
        self
    }

    /// The lister's parameters.
    #[must_use]
    pub fn with_parameters(mut self, parameters: JsonObject) -> Self {
        self.parameters = parameters;
        self
    }
}
