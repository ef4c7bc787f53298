//! Records outcomes, many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::backend::VisitStore;
use crate::model::Outcome;
use crate::transport::Clock;

/// So many outcomes are recorded in one call.
const AT_ONCE: usize = 1000;

/// How long is waited for a store that does not answer, at first and at last.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What became of outcomes.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) taken: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// An outcome, and what is held until it is recorded.
pub(super) type Handed<T> = (Outcome, T);

/// Where outcomes are handed in, and the loop that records them. The loop ends when nobody can hand in
/// any more.
pub(super) fn recorder<T: Send + 'static>(
    store: Arc<dyn VisitStore>,
    clock: Arc<dyn Clock>,
    recorded: Arc<Recorded>,
) -> (UnboundedSender<Handed<T>>, impl Future<Output = ()> + Send) {
    // Bounded by the slots that are held: one for each outcome.
    let (hand_in, handed) = unbounded_channel();
    (hand_in, record(handed, store, clock, recorded))
}

async fn record<T: Send>(
    mut handed: UnboundedReceiver<Handed<T>>,
    store: Arc<dyn VisitStore>,
    clock: Arc<dyn Clock>,
    recorded: Arc<Recorded>,
) {
    let mut batch = Vec::new();
    while handed.recv_many(&mut batch, AT_ONCE).await > 0 {
        let (outcomes, held): (Vec<Outcome>, Vec<T>) = batch.drain(..).unzip();
        let mut wait = FIRST_WAIT;
        loop {
            match store.complete(&outcomes, clock.now()).await {
                Ok(answers) => {
                    let taken = answers.iter().filter(|a| a.is_ok()).count();
                    recorded.taken.fetch_add(taken as u64, Ordering::Relaxed);
                    recorded.refused.fetch_add((answers.len() - taken) as u64, Ordering::Relaxed);
                    break;
                }
                // The leases end meanwhile, but an outcome is taken until somebody else has the visit.
                Err(e) if super::may_pass(&e) => {
                    tracing::warn!(error = %e, outcomes = outcomes.len(), "outcomes wait for the store");
                    clock.sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Err(e) => {
                    tracing::error!(error = %e, outcomes = outcomes.len(), "outcomes cannot be recorded; the visits will be made again");
                    recorded.failed.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
                    break;
                }
            }
        }
        drop(held);
    }
}
