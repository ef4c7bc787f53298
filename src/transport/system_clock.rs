//! The real clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::Clock;
use crate::model::Timestamp;

/// The system's time, and tokio's timer.
///
/// ```
/// use lamplighter::transport::{Clock, SystemClock};
/// assert!(SystemClock.now() > lamplighter::model::Timestamp::EPOCH);
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "there is nothing to configure: it is used as a value")]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.plus(since_epoch)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
