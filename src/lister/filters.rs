//! Which of the listed origins are wanted, by facts that forges tell.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Entry, Parameter, ParameterKind};
use crate::model::{JsonObject, NewOrigin};

/// A fact that a forge may tell of what it lists, and that a listing may be filtered by.
///
/// A lister's row in the catalogue [declares](super::Entry::telling) those that its forge tells, and
/// has a parameter for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fact {
    /// Whether it is a fork.
    Fork,
    /// Whether upstream calls it archived.
    Archived,
    /// Whether upstream copies it from elsewhere.
    Mirror,
    /// Whether nothing was ever pushed.
    Empty,
}

impl Fact {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fork, Self::Archived, Self::Mirror, Self::Empty];

    /// What an origin's lister says of it.
    #[must_use]
    pub fn of(self, origin: &NewOrigin) -> Option<bool> {
        match self {
            Self::Fork => origin.is_fork,
            Self::Archived => origin.archived,
            Self::Mirror => origin.mirror,
            Self::Empty => origin.empty,
        }
    }

    /// The parameter that filters by it.
    #[must_use]
    pub const fn parameter(self) -> Parameter {
        let (name, about) = match self {
            Self::Fork => ("forks", "list forks as well, not, or nothing else: include, exclude or only"),
            Self::Archived => ("archived", "what is archived: include, exclude or only"),
            Self::Mirror => ("mirrors", "what the forge copies from elsewhere: include, exclude or only"),
            Self::Empty => ("empty", "what holds nothing yet: include, exclude or only"),
        };
        Parameter::with_default(name, ParameterKind::Filter, "include", about)
    }
}

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
/// use lamplighter::lister::{Filters, Keep, Registry};
/// use serde_json::json;
///
/// let mut filters = Filters::default();
/// filters.forks = Keep::Exclude;
/// // As a lister's arguments say it: the driver takes it with `RunOptions::with_filters`.
/// let given = json!({"url": "https://forge.example/", "forks": "exclude"});
/// let built = Registry::builtin().build("pagure", given.as_object().unwrap())?;
/// assert_eq!(built.filters, filters);
/// # Ok::<(), lamplighter::lister::ConfigError>(())
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
    /// One more.
    pub fn count(&mut self, by: Fact) {
        match by {
            Fact::Fork => self.forks += 1,
            Fact::Archived => self.archived += 1,
            Fact::Mirror => self.mirrors += 1,
            Fact::Empty => self.empty += 1,
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.forks + self.archived + self.mirrors + self.empty
    }

    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.forks += other.forks;
        self.archived += other.archived;
        self.mirrors += other.mirrors;
        self.empty += other.empty;
    }
}

impl Filters {
    /// The fact by which an origin is left out, where it is: the first that does not want it.
    #[must_use]
    pub fn leave_out(self, origin: &NewOrigin) -> Option<Fact> {
        Fact::ALL.into_iter().find(|fact| !self.by(*fact).wants(fact.of(origin)))
    }

    fn by(self, fact: Fact) -> Keep {
        match fact {
            Fact::Fork => self.forks,
            Fact::Archived => self.archived,
            Fact::Mirror => self.mirrors,
            Fact::Empty => self.empty,
        }
    }

    fn set(&mut self, fact: Fact, keep: Keep) {
        match fact {
            Fact::Fork => self.forks = keep,
            Fact::Archived => self.archived = keep,
            Fact::Mirror => self.mirrors = keep,
            Fact::Empty => self.empty = keep,
        }
    }

    /// Reads the filters among a lister's arguments. What filters nothing
    /// out is not kept among them: a run with `forks=include` is the run without.
    pub(super) fn take(entry: &Entry, arguments: &mut JsonObject) -> Result<Self, ConfigError> {
        let mut filters = Self::default();
        for fact in Fact::ALL {
            let name = fact.parameter().name;
            let Some(given) = arguments.get(name) else { continue };
            let wrong = |problem: String| ConfigError::Value { name: name.to_owned(), problem };
            let keep: Keep =
                given.as_str().unwrap_or_default().parse().map_err(|e: KeepError| wrong(e.to_string()))?;
            if keep == Keep::Include {
                arguments.remove(name);
            } else if entry.facts.contains(&fact) {
                arguments.insert(name.to_owned(), keep.as_str().into());
            } else {
                return Err(wrong(format!("{} does not tell of any, so nothing can go by it", entry.name)));
            }
            filters.set(fact, keep);
        }
        Ok(filters)
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
    fn each_is_left_out_by_the_first_filter_that_does_not_want_it() {
        let origin = NewOrigin::new("https://h/r", VisitType::git()).with_fork(true).with_archived(true);
        let mut count = Filtered::default();
        let mut filters = Filters { archived: Keep::Exclude, ..Filters::default() };
        let mut by = vec![filters.leave_out(&origin)];
        filters.forks = Keep::Exclude;
        by.push(filters.leave_out(&origin));
        by.push(Filters { mirrors: Keep::Only, ..Filters::default() }.leave_out(&origin));
        by.push(Filters { empty: Keep::Only, ..Filters::default() }.leave_out(&origin));
        let all = [Fact::Archived, Fact::Fork, Fact::Mirror, Fact::Empty];
        assert_eq!(by, all.map(Some));
        assert_eq!(Filters::default().leave_out(&origin), None);
        for fact in &all {
            count.count(*fact);
        }
        assert_eq!(count, Filtered { forks: 1, archived: 1, mirrors: 1, empty: 1 });
        assert_eq!(count.all(), 4);
    }
}
