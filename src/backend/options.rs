//! How a store is opened.

use std::time::Duration;

use crate::policy::Policies;

/// How a store of this crate is opened.
///
/// ```
/// use std::time::Duration;
/// use lamplighter::backend::{MemoryStore, StoreOptions};
/// let options = StoreOptions::default().with_clock_bound(Duration::from_secs(5));
/// let store = MemoryStore::with_options(options);
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The policy of each visit type.
    pub policies: Policies,
    /// Refuse a `now` that is further than this from the system's clock. None by default: a virtual
    /// clock may say anything.
    pub clock_bound: Option<Duration>,
}

impl StoreOptions {
    /// Other policies than the built-in one.
    #[must_use]
    pub fn with_policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    /// Refuses times that are further than `bound` from the system's clock.
    #[must_use]
    pub fn with_clock_bound(mut self, bound: Duration) -> Self {
        self.clock_bound = Some(bound);
        self
    }
}
