//! How a store is opened.

use std::time::Duration;

use crate::policy::{AgeClass, Policies, Quota};

/// How a store of this crate is opened.
///
/// ```
/// use std::time::Duration;
/// use lamplighter::backend::{MemoryStore, StoreOptions};
/// let options = StoreOptions::default().with_clock_bound(Duration::from_secs(5));
/// let store = MemoryStore::with_options(options);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The policy of each visit type.
    pub policies: Policies,
    /// Refuse a `now` that is further than this from the system's clock. None by default: a virtual
    /// clock may say anything.
    pub clock_bound: Option<Duration>,
    /// How often one requester may ask: a thousand times a day by default, any number where none.
    pub quota: Option<Quota>,
    /// Classes with a maximum age, the one that misses last first. None by default.
    pub max_ages: Vec<AgeClass>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            policies: Policies::default(),
            clock_bound: None,
            quota: Some(Quota::default()),
            max_ages: Vec::new(),
        }
    }
}

impl StoreOptions {
    /// Other policies than the built-in one.
    #[must_use]
    pub fn with_policies(mut self, policies: Policies) -> Self {
        self.policies = policies;
        self
    }

    /// Bounds how often one requester may ask, or does not.
    #[must_use]
    pub fn with_quota(mut self, quota: Option<Quota>) -> Self {
        self.quota = quota;
        self
    }

    /// Adds a class with a maximum age, after those that miss later.
    #[must_use]
    pub fn with_max_age(mut self, class: AgeClass) -> Self {
        self.max_ages.push(class);
        self
    }

    /// Refuses times that are further than `bound` from the system's clock.
    #[must_use]
    pub fn with_clock_bound(mut self, bound: Duration) -> Self {
        self.clock_bound = Some(bound);
        self
    }
}
