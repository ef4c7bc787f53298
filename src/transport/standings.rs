//! Limits that outlive a process.

use async_trait::async_trait;

use super::{Identity, LaneState, TransportError};
use crate::model::Timestamp;

/// That a host's limit shuts somebody out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// Whom.
    pub identity: Identity,
    /// Until when, and after how many limits in a row.
    pub state: LaneState,
}

impl Standing {
    /// Somebody's standing.
    #[must_use]
    pub fn new(identity: Identity, state: LaneState) -> Self {
        Self { identity, state }
    }
}

/// Keeps who is shut out by which host's limit, so that a process which is started again, or another
/// one beside it, does not ask a forge that has said to wait.
///
/// Written when a limit is met, not at each answer. Read before a host is first asked, and after
/// each wait. Optional: without one a process finds out by itself.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use lamplighter::model::Timestamp;
/// use lamplighter::transport::{LimitStore, Standing, TransportError};
///
/// #[derive(Default)]
/// struct Kept(Mutex<HashMap<String, Vec<Standing>>>);
///
/// #[async_trait::async_trait]
/// impl LimitStore for Kept {
///     async fn standings(&self, host: &str, now: Timestamp) -> Result<Vec<Standing>, TransportError> {
///         let kept = self.0.lock().unwrap().get(host).cloned().unwrap_or_default();
///         Ok(kept.into_iter().filter(|s| s.state.closed_until > now).collect())
///     }
///     async fn keep_standings(
///         &self, host: &str, news: &[Standing], _: Timestamp,
///     ) -> Result<(), TransportError> {
///         let mut all = self.0.lock().unwrap();
///         let kept = all.entry(host.to_owned()).or_default();
///         for new in news {
///             // One that is closed for longer stays: another process may know more.
///             let longer = |s: &Standing| s.identity == new.identity && s.state.closed_until >= new.state.closed_until;
///             if !kept.iter().any(longer) {
///                 kept.retain(|s| s.identity != new.identity);
///                 kept.push(new.clone());
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Who is shut out by a host now. Hosts are named with their port.
    ///
    /// # Errors
    /// [`TransportErrorKind::Other`](super::TransportErrorKind::Other) when it cannot be read.
    async fn standings(&self, host: &str, now: Timestamp) -> Result<Vec<Standing>, TransportError>;

    /// Keeps who is shut out by a host. Of two standings of one identity the one that holds longer
    /// stays, whoever writes last.
    ///
    /// # Errors
    /// [`TransportErrorKind::Other`](super::TransportErrorKind::Other) when it cannot be written.
    async fn keep_standings(
        &self,
        host: &str,
        standings: &[Standing],
        now: Timestamp,
    ) -> Result<(), TransportError>;
}
