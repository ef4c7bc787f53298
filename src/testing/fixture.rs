//! What every fixture has to show.

use std::collections::BTreeSet;
use std::path::Path;

use super::laws::{BrokenLaw, broken, ensure, expected, found, same};
use super::{Case, replay};
use crate::driver::chain;
use crate::lister::{Fact, Registry};
use crate::model::ListedOrigin;
use crate::transport::Fit;

/// What a fixture showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shown {
    /// Requests of each run, retries among them.
    pub requests: Vec<usize>,
    /// Gaps that were open after each run.
    pub gaps: Vec<usize>,
    /// What each run left out on purpose.
    pub skipped: Vec<u64>,
    /// The facts that some origin was told by.
    pub facts: BTreeSet<Fact>,
}

/// Replays a fixture: each run lists what the fixture's author computed apart from the lister, ends as it
/// says, asks for nothing that is not recorded, leaves nothing unasked, and tells no fact of an origin that
/// the lister's row in the catalogue does not [declare](crate::lister::Entry::telling).
///
/// A fixture whose runs do not say what they list shows nothing, and is refused.
///
/// # Errors
/// The first [`BrokenLaw`]; also where the fixture cannot be read.
///
/// ```no_run
/// # async fn example() -> Result<(), lamplighter::testing::BrokenLaw> {
/// use lamplighter::lister::Registry;
/// use lamplighter::testing::check_fixture;
/// let shown = check_fixture(&Registry::builtin(), "fixtures/cgit/live".as_ref()).await?;
/// assert_eq!(shown.requests[1], 4, "unchanged, it costs its index pages only");
/// # Ok(())
/// # }
/// ```
pub async fn check_fixture(registry: &Registry, folder: &Path) -> Result<Shown, BrokenLaw> {
    const LAW: &str = "a replay lists what its fixture says";
    let case = Case::load(folder).map_err(|e| broken("fixture", chain(&e)))?;
    let entry = registry.entry(&case.lister).map_err(|e| broken("fixture", chain(&e)))?;
    let said = case.runs.clone();
    let mut shown = Shown::default();
    let replayed = replay(registry, case).await.map_err(|e| broken("fixture", chain(&e)))?;
    for (n, (run, replayed)) in said.iter().zip(replayed).enumerate() {
        let place = format!("run {}", n + 1);
        ensure("fixture", run.origins.is_some(), || format!("{place} does not say what it lists"))?;
        let report = replayed.report.map_err(|e| broken(LAW, format!("{place}: {}", chain(&e))))?;
        let missing = replayed.requests.iter().find(|r| r.answer == Fit::None);
        ensure(LAW, missing.is_none(), || format!("{place} asks for what is not recorded: {missing:?}"))?;
        let outcome = run.outcome.as_deref().unwrap_or("complete");
        ensure(LAW, report.outcome.as_str() == outcome, || {
            let why: Vec<&String> = report.gaps.iter().map(|g| &g.reason).chain(&report.error).collect();
            format!("{place} ends {}, not {outcome} ({why:?})", report.outcome.as_str())
        })?;
        shown.facts.extend(told(&replayed.origins));
        let origins = replayed.origins.into_iter().map(found).collect();
        same(LAW, &place, &origins, &expected(run))?;
        ensure(LAW, replayed.unused == 0, || {
            format!("{place} leaves {} recorded answers unasked", replayed.unused)
        })?;
        shown.requests.push(replayed.requests.len());
        shown.gaps.push(report.gaps.len());
        shown.skipped.push(report.skipped);
    }
    let undeclared: Vec<&Fact> = shown.facts.iter().filter(|f| !entry.facts.contains(f)).collect();
    ensure("what a forge tells is declared", undeclared.is_empty(), || {
        format!("{undeclared:?} of {} has no filter: its row of the catalogue has to say so", entry.name)
    })?;
    Ok(shown)
}

/// The facts that are true of some origin.
fn told(origins: &[ListedOrigin]) -> impl Iterator<Item = Fact> {
    Fact::ALL.into_iter().filter(|fact| {
        origins.iter().any(|o| {
            let told = match fact {
                Fact::Fork => o.is_fork,
                Fact::Archived => o.archived,
                Fact::Mirror => o.mirror,
                Fact::Empty => o.empty,
            };
            told == Some(true)
        })
    })
}
