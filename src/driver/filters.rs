//! Which of the listed origins are wanted, by facts that forges give.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::NewOrigin;

/// What to do with origins of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Keep {
    /// They are wanted as any other.
    #[default]
    Include,
    /// They are not wanted. What is not known to be of the kind is.
    Exclude,
    /// Nothing else is wanted. What is not known to be of the kind is not.
    Only,
}

/// A text that is none of `include`, `exclude` and `only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be include, exclude or only")]
#[non_exhaustive]
pub struct KeepError;

impl FromStr for Keep {
    type Err = KeepError;

    fn from_str(text: &str) -> Result<Self, KeepError> {
        match text.to_ascii_lowercase().as_str() {
            "include" => Ok(Self::Include),
            "exclude" => Ok(Self::Exclude),
            "only" => Ok(Self::Only),
            _ => Err(KeepError),
        }
    }
}

impl Keep {
    /// As on the command line: `include`, `exclude`, `only`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Include => "include",
            Self::Exclude => "exclude",
            Self::Only => "only",
        }
    }

    fn wants(self, of_the_kind: Option<bool>) -> bool {
        match self {
            Self::Include => true,
            Self::Exclude => of_the_kind != Some(true),
            Self::Only => of_the_kind == Some(true),
        }
    }
}

/// Which of the listed origins are wanted. All of them by default.
///
/// What is left out is listed all the same: it counts as seen, so a complete listing does not take
/// it for gone. One that is not known yet is not stored. One that is known (from a run without the
/// filter, or from before it became what is left out) stays, and is no longer visited.
///
/// ```
/// use lamplighter::driver::{Filters, Keep, RunOptions};
/// let mut filters = Filters::default();
/// filters.forks = Keep::Exclude;
/// let options = RunOptions::default().with_filters(filters);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Filters {
    /// Forks.
    pub forks: Keep,
    /// What upstream calls archived.
    pub archived: Keep,
    /// What upstream copies from elsewhere.
    pub mirrors: Keep,
    /// Where nothing was ever pushed.
    pub empty: Keep,
}

/// How many origins were left out, each by the first filter that did not want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Filtered {
    /// By `forks`.
    pub forks: u64,
    /// By `archived`.
    pub archived: u64,
    /// By `mirrors`.
    pub mirrors: u64,
    /// By `empty`.
    pub empty: u64,
}

impl Filtered {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.forks + self.archived + self.mirrors + self.empty
    }

    pub(super) fn add(&mut self, other: Self) {
        self.forks += other.forks;
        self.archived += other.archived;
        self.mirrors += other.mirrors;
        self.empty += other.empty;
    }
}

impl Filters {
    /// Whether an origin is left out; counted if so.
    pub(super) fn leave_out(self, origin: &NewOrigin, count: &mut Filtered) -> bool {
        let by = if !self.forks.wants(origin.is_fork) {
            &mut count.forks
        } else if !self.archived.wants(origin.archived) {
            &mut count.archived
        } else if !self.mirrors.wants(origin.mirror) {
            &mut count.mirrors
        } else if !self.empty.wants(origin.empty) {
            &mut count.empty
        } else {
            return false;
        };
        *by += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VisitType;

    #[test]
    fn a_filter_knows_what_is_not_known() {
        for (keep, unknown, no, yes) in [
            (Keep::Include, true, true, true),
            (Keep::Exclude, true, true, false),
            (Keep::Only, false, false, true),
        ] {
            let wants = [keep.wants(None), keep.wants(Some(false)), keep.wants(Some(true))];
            assert_eq!(wants, [unknown, no, yes], "{keep:?}");
            assert_eq!(keep.as_str().parse(), Ok(keep));
        }
        assert_eq!("ONLY".parse(), Ok(Keep::Only));
        assert_eq!("all".parse::<Keep>(), Err(KeepError));
    }

    #[test]
    fn each_is_counted_by_the_first_filter_that_does_not_want_it() {
        let origin = NewOrigin::new("https://h/r", VisitType::git()).with_fork(true).with_archived(true);
        let mut count = Filtered::default();
        let mut filters = Filters { archived: Keep::Exclude, ..Filters::default() };
        assert!(filters.leave_out(&origin, &mut count));
        filters.forks = Keep::Exclude;
        assert!(filters.leave_out(&origin, &mut count));
        assert!(!Filters::default().leave_out(&origin, &mut count));
        for filters in [
            Filters { mirrors: Keep::Only, ..Filters::default() },
            Filters { empty: Keep::Only, ..Filters::default() },
        ] {
            assert!(filters.leave_out(&origin, &mut count));
        }
        assert_eq!(count, Filtered { forks: 1, archived: 1, mirrors: 1, empty: 1 });
        assert_eq!(count.all(), 4);
    }
}
