//! How a run went.

use super::Filtered;
use crate::backend::{Committed, Gap, RunId, RunOutcome};
use crate::lister::{Coverage, Mode};
use crate::model::{JsonObject, ListerKey, Timestamp};

/// How a run went: this driver's share of it, and how the run stands now.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunReport {
    /// The run.
    pub run: RunId,
    /// The lister.
    pub lister: ListerKey,
    /// The kind of run.
    pub mode: Mode,
    /// What it says of the origins that it did not see.
    pub coverage: Coverage,
    /// Whether it continued an open run.
    pub resumed: bool,
    /// How it stands.
    pub outcome: RunOutcome,
    /// Cursors still to be asked for.
    pub pending: u64,
    /// Why it could not go on.
    pub error: Option<String>,
    /// Pages read by this driver, unchanged ones (304) among them.
    pub pages: u64,
    /// Requests sent, retries among them.
    pub requests: u64,
    /// What the commits changed.
    pub counts: Committed,
    /// Things left out on purpose.
    pub skipped: u64,
    /// Origins that the filters left out.
    pub filtered: Filtered,
    /// Origins that were not seen, and are not taken for gone because they are too many.
    pub withheld: u64,
    /// The lister's open gaps, older ones among them.
    pub gaps: Vec<Gap>,
    /// The lister's state now.
    pub state: JsonObject,
    /// When the run was opened.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

impl RunReport {
    /// Origins that this driver saw: new, changed and unchanged ones.
    #[must_use]
    pub fn origins(&self) -> u64 {
        self.counts.new + self.counts.changed + self.counts.unchanged
    }
}
