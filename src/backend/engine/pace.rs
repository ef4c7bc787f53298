//! How fast a visit type's visits are claimed.

use super::keys::{self, K};
use super::kv::{KvRead, KvTxn};
use super::rows::{decode, encode};
use crate::backend::Result;
use crate::model::Timestamp;
use crate::policy::Pace;

/// The pace of a visit type's claims.
pub(crate) fn read(t: &dyn KvRead, visit_type: u16) -> Result<Pace> {
    let stored = t.get(keys::PACE, &K::new().u16(visit_type))?;
    stored.map_or(Ok(Pace::default()), |bytes| decode(&bytes))
}

/// Notes that so many visits are asked for. Gives the pace up to now.
pub(crate) fn note(t: &mut dyn KvTxn, visit_type: u16, asked: usize, now: Timestamp) -> Result<Pace> {
    let mut pace = read(t, visit_type)?;
    if asked > 0 {
        pace.observe(asked, now);
        t.put(keys::PACE, &K::new().u16(visit_type), &encode(&pace)?)?;
    }
    Ok(pace)
}
