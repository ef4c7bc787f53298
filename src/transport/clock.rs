//! The clock that shells sleep on.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::Timestamp;

/// Tells the time and waits. The only way by which this crate sees a clock; `driver::SystemClock`
/// is the real one, `testing::VirtualClock` one that jumps.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Waits.
    async fn sleep(&self, duration: Duration);
}

#[async_trait]
impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    async fn sleep(&self, duration: Duration) {
        (**self).sleep(duration).await;
    }
}
