//! What a run tells while it runs, and how it is stopped.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::backend::{Committed, RunId, RunOutcome};
use crate::lister::Mode;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// It was opened, or is continued.
    Started {
        /// Its number.
        run: RunId,
        /// Its kind.
        mode: Mode,
        /// Whether it continues an open one.
        resumed: bool,
        /// Cursors pending.
        pending: u64,
    },
    /// A cursor ended and its page is committed.
    Page {
        /// Method, host and path of its request; no query.
        place: String,
        /// Why a part of the listing is missing here, where it is.
        gap: Option<String>,
        /// What the commit changed.
        committed: Committed,
        /// Pages that this driver has read in this run.
        pages: u64,
    },
    /// It ended, or is left open.
    Ended {
        /// How.
        outcome: RunOutcome,
    },
}

/// Is told what happens in a run. Must not block.
///
/// Implemented for `()`, which does not care, and for closures.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);
}

impl Observer for () {
    fn event(&self, _: &Event) {}
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

/// Stops runs between pages: what is being asked for is still read and committed. And feeders between steps.
#[derive(Clone, Default)]
pub struct StopHandle(Arc<Stop>);

#[derive(Default)]
struct Stop {
    asked: AtomicBool,
    told: Notify,
}

impl StopHandle {
    /// Asks runs to stop.
    pub fn stop(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
        self.0.told.notify_waiters();
    }

    /// Whether they were asked to.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Waits until they are asked to.
    pub async fn stopped(&self) {
        let mut told = pin!(self.0.told.notified());
        // Whoever asks from here on wakes this.
        told.as_mut().enable();
        if !self.is_stopped() {
            told.await;
        }
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StopHandle").field(&self.is_stopped()).finish()
    }
}
