//! One cell of the matrix: a run, a request, a fault.

use std::collections::BTreeMap;
use std::fmt;

use lamplighter::backend::{Gap, RunOutcome};
use lamplighter::lister::FailureKind;
use lamplighter::testing::mutate::names_place;

use crate::expected::{But, Expected, Origins};
use crate::fault::{Fault, Spoiled, Spoilt};
use crate::forge::How;
use crate::trial::{Ran, Trial};

/// How many requests more a fault may cost: four retries, and a way round.
const MORE: usize = 6;

pub(crate) struct Cell<'a> {
    trial: &'a Trial<'a>,
    at: usize,
    fault: Fault,
    answer: Spoilt,
    /// The most requests that a run of it took, more than in health.
    more: std::cell::Cell<usize>,
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.trial.steps[self.at].request.url.as_str();
        write!(f, "{}, {:?} at {} {place}", self.trial.name, self.fault, self.at + 1)
    }
}

type Held = Result<(), String>;

fn ensure(holds: bool, or: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(or()) }
}

/// No fault: complete, and all origins that the fixture's author computed.
pub(crate) async fn in_health(trial: &Trial<'_>) -> Held {
    let (_, ran) = trial.run(0, Err(lamplighter::transport::TransportErrorKind::Other), How::Never).await;
    let said = trial.run_of_case().origins.iter().flatten();
    let mut all: Origins = said.map(|o| (o.url.clone(), o.visit_type.clone())).collect();
    all.extend(trial.before.iter().cloned());
    ensure(ran.report.outcome == RunOutcome::Complete, || {
        format!("{}: in health it ends {:?}", trial.name, ran.report.outcome)
    })?;
    same(&ran.origins, &all).map_err(|e| format!("{}: in health {e}", trial.name))?;
    let walked: Origins = trial.health().all().union(&trial.before).cloned().collect();
    same(&walked, &all).map_err(|e| format!("{}: walked by hand {e}", trial.name))
}

pub(crate) fn same(listed: &Origins, expected: &Origins) -> Held {
    ensure(listed == expected, || {
        let only =
            |a: &Origins, b: &Origins| a.difference(b).take(2).map(|o| o.0.clone()).collect::<Vec<_>>();
        format!(
            "{} origins for {}: besides {:?}, without {:?}",
            listed.len(),
            expected.len(),
            only(listed, expected),
            only(expected, listed)
        )
    })
}

impl<'a> Cell<'a> {
    /// None where the fault is none at this step.
    pub(crate) fn new(trial: &'a Trial<'a>, at: usize, fault: Fault) -> Option<Self> {
        let answer = fault.spoil(&*trial.source, &trial.steps, at)?;
        Some(Self { trial, at, fault, answer, more: std::cell::Cell::default() })
    }

    /// How many requests the fault cost.
    pub(crate) fn cost(&self) -> usize {
        self.more.get()
    }

    fn all(&self) -> Origins {
        self.trial.health().all().union(&self.trial.before).cloned().collect()
    }

    /// What may be listed while the fault lasts. A link that leads astray is refused with its page, or
    /// is not followed to its end.
    fn expected(&self) -> Vec<Expected> {
        let health = self.trial.health();
        let mut all = vec![health.with(But::Fails(self.at, self.fault.failure()))];
        if self.fault == Fault::Again {
            // A lister may see that it is not the page that was asked for.
            all.push(health.with(But::Fails(self.at, FailureKind::Parse)));
        }
        let step = &self.trial.steps[self.at];
        if let Some(next) = self.fault.unlinked(&*self.trial.source, step) {
            let mut cut = health.with(But::LeadsNot(self.at, &next));
            cut.gaps.insert(next.to_string());
            all.push(cut);
        }
        for expected in &mut all {
            expected.origins.extend(self.trial.before.iter().cloned());
        }
        all
    }

    /// It goes wrong once: complete in this run where that is retried, else after the next.
    pub(crate) async fn once(&self) -> Held {
        let (store, ran) = self.trial.run(self.at, self.answer.clone(), How::Once).await;
        self.is_bounded(&ran, &self.expected())?;
        let complete = ran.report.outcome == RunOutcome::Complete;
        if self.fault.is_retried() {
            ensure(complete, || format!("retried, it ends {}", told(&ran)))?;
            return same(&ran.origins, &self.all());
        }
        let skipped = self.expected().iter().any(|e| e.skips > 0);
        if complete && !skipped && !self.is_told(&ran) {
            // The lister, or the transport, knew a way round.
            return same(&ran.origins, &self.all());
        }
        let healed = self.trial.again(&store).await;
        // What the recording does not hold cannot heal.
        let unknown = healed.log.iter().any(|asked| !asked.known);
        ensure(healed.report.outcome == RunOutcome::Complete || unknown, || {
            format!("healed, it ends {} after {}", told(&healed), told(&ran))
        })?;
        let missing: Vec<_> = self.all().difference(&healed.origins).cloned().collect();
        ensure(missing.is_empty(), || format!("healed, {missing:?} is missing after {}", told(&ran)))
    }

    /// It goes wrong for ever: what can be reached without it is listed, and what is missing is told.
    pub(crate) async fn always(&self) -> Held {
        let (_, ran) = self.trial.run(self.at, self.answer.clone(), How::Always).await;
        let expected = self.expected();
        let fits = expected.iter().find(|e| e.origins == ran.origins);
        let harmless = matches!(self.fault, Fault::Link(_)) && ran.origins == self.all();
        let Some(fits) = fits.or(expected.first().filter(|_| harmless)) else {
            let differs = same(&ran.origins, &expected[0].origins).unwrap_err();
            return Err(format!("{differs}; {}", told(&ran)));
        };
        self.is_bounded(&ran, &expected)?;
        if ran.report.outcome == RunOutcome::Complete {
            let declared = fits.gaps.is_empty() && !fits.aborts;
            let counted = ran.report.skipped > 0 || fits.skips == 0;
            return ensure(
                (declared && counted) || self.is_told(&ran) || harmless || self.says_nothing(),
                || "it passes for complete".to_owned(),
            );
        }
        let gaps: Vec<&Gap> = ran.report.gaps.iter().collect();
        let aborted = ran.report.outcome == RunOutcome::Aborted && ran.report.error.is_some();
        ensure(gaps.len() == 1 || aborted || gaps.len() == fits.gaps.len(), || {
            format!("{} gaps: {}", gaps.len(), told(&ran))
        })?;
        for gap in gaps {
            self.is_named(gap, &ran)?;
        }
        Ok(())
    }

    /// A link that is not followed is counted.
    fn is_told(&self, ran: &Ran) -> bool {
        matches!(self.fault, Fault::Link(_)) && ran.report.skipped > 0
    }

    /// Whether nothing is on the page in health: then an empty body says the same.
    fn says_nothing(&self) -> bool {
        let said = self.trial.steps[self.at].said.as_ref();
        let nothing = said.is_ok_and(|batch| batch.origins.is_empty() && batch.follows.is_empty());
        self.fault == Fault::Body(Spoiled::Empty) && nothing
    }

    /// Few requests more, none often, and no credential to whom it is not for.
    fn is_bounded(&self, ran: &Ran, expected: &[Expected]) -> Held {
        ensure(ran.log.iter().all(|a| !a.betrayed), || "a credential went elsewhere".to_owned())?;
        let health = self.trial.steps.len();
        self.more.set(self.more.get().max(ran.log.len().saturating_sub(health)));
        if expected.iter().all(|e| e.more.is_empty()) {
            // Retries, and a way round.
            return ensure(ran.log.len() <= health + MORE, || {
                format!("{} requests for {health}", ran.log.len())
            });
        }
        // The lister searches: each request of it has retries of its own.
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for asked in &ran.log {
            *times.entry(&asked.key).or_default() += 1;
        }
        for (key, times) in &times {
            let asks = expected.iter().filter_map(|e| e.asks.get(*key)).max().copied().unwrap_or(1);
            ensure(*times <= (1 + MORE) * asks, || format!("{times} times {key}"))?;
        }
        let allowed = MORE + self.trial.search();
        let more = times.len().saturating_sub(health);
        ensure(more <= allowed, || format!("{more} requests that health does not know, over {allowed}"))
    }

    /// A gap names its request, and the place in a body that cannot be read.
    fn is_named(&self, gap: &Gap, ran: &Ran) -> Held {
        let named = ran.log.iter().any(|asked| gap.reason.starts_with(&format!("{}:", asked.place)));
        ensure(named, || format!("{:?} names no request", gap.reason))?;
        let body = matches!(self.fault, Fault::Body(_)) && self.fault.failure() == FailureKind::Parse;
        ensure(!body || has_place(&gap.reason), || format!("no place in {:?}", gap.reason))
    }
}

/// Whether an error says where in a body it is; also that it is no such body from its first byte on.
fn has_place(reason: &str) -> bool {
    let Some((_, said)) = reason.split_once("unexpected answer: ") else { return false };
    names_place(said) || said.contains("line 1 column 1")
}

fn told(ran: &Ran) -> String {
    let gaps: Vec<String> = ran.report.gaps.iter().map(|g| format!("{} {}", g.cursor, g.reason)).collect();
    let unknown: Vec<&str> = ran.log.iter().filter(|a| !a.known).map(|a| a.key.as_str()).collect();
    format!("{:?} {:?} {gaps:?}, asking {unknown:?}", ran.report.outcome, ran.report.error)
}
