//! Who is shut out by a host's limits: one row for each host.

use serde::{Deserialize, Serialize};

use super::keys::{self, K};
use super::kv::{KvRead, KvTxn};
use super::rows::{decode, encode};
use crate::backend::Result;
use crate::model::{Timestamp, digest128};
use crate::transport::{Identity, LaneState, Standing};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StandingRow {
    identity: String,
    closed_until: Timestamp,
    strikes: u32,
}

fn key(host: &str) -> K {
    K::new().bytes(&digest128(host.as_bytes()))
}

/// Those that are shut out now.
pub(crate) fn of(t: &dyn KvRead, host: &str, now: Timestamp) -> Result<Vec<Standing>> {
    let Some(bytes) = t.get(keys::STANDING, &key(host))? else { return Ok(Vec::new()) };
    let rows: Vec<StandingRow> = decode(&bytes)?;
    let still = rows.into_iter().filter(|row| row.closed_until > now);
    let standing = |row: StandingRow| {
        Standing::new(Identity::stored(row.identity), LaneState::new(row.closed_until, row.strikes))
    };
    Ok(still.map(standing).collect())
}

/// Adds those that are shut out for longer than was known; those whose time is over are forgotten.
pub(crate) fn keep(t: &mut dyn KvTxn, host: &str, news: &[Standing], now: Timestamp) -> Result<()> {
    let mut all = of(t, host, now)?;
    for new in news {
        match all.iter_mut().find(|known| known.identity == new.identity) {
            Some(known) if known.state.closed_until < new.state.closed_until => known.state = new.state,
            Some(_) => {}
            None => all.push(new.clone()),
        }
    }
    let row = |s: &Standing| StandingRow {
        identity: s.identity.as_str().to_owned(),
        closed_until: s.state.closed_until,
        strikes: s.state.strikes,
    };
    t.put(keys::STANDING, &key(host), &encode(&all.iter().map(row).collect::<Vec<_>>())?)
}
