//! What the incumbent did between its database and its queue, in a few lines.

use lamplighter::backend::{Claim, VisitStore};
use lamplighter::dispatch::Dispatcher;
use lamplighter::model::{Timestamp, VisitType};

/// A queue whose length is not known can take everything.
const EVERYTHING: usize = 10_000;

pub(crate) async fn step(store: &dyn VisitStore, queue: &dyn Dispatcher, now: Timestamp) {
    let free = queue.room().await.map_or(EVERYTHING, |room| room.free);
    let claimed = store.claim(&Claim::new(VisitType::git(), free), now).await.unwrap();
    queue.send(claimed.visits).await;
}

/// Takes NULs off a text before it goes to the database.
pub(crate) fn strip_nul(text: &str) -> &str {
    text.trim_matches('\0')
}
