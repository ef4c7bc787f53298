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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::StoreOptions;
    use crate::backend::engine::Engine;
    use crate::backend::engine::mem::MemKv;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn standing(who: &str, until: i64, strikes: u32) -> Standing {
        Standing::new(Identity::stored(who), LaneState::new(at(until), strikes))
    }

    #[test]
    fn the_longer_of_two_holds_until_it_is_over() {
        let engine: Engine<MemKv> = Engine::new(StoreOptions::default());
        let keep = |news: &[Standing], now| engine.keep_standings("h.example:443", news, at(now)).unwrap();
        let of = |now| engine.standings("h.example:443", at(now)).unwrap();
        assert_eq!(of(0), []);
        keep(&[standing("ann", 100, 1), standing("", 50, 2)], 0);
        keep(&[standing("ann", 90, 9)], 1);
        assert_eq!(of(1), [standing("ann", 100, 1), standing("", 50, 2)]);
        keep(&[standing("ann", 110, 2)], 2);
        assert_eq!(of(49), [standing("ann", 110, 2), standing("", 50, 2)]);
        assert_eq!(of(50), [standing("ann", 110, 2)]);
        assert_eq!(of(110), []);
        // What is over is forgotten when something is kept.
        keep(&[standing("bob", 300, 1)], 200);
        assert_eq!(of(0), [standing("bob", 300, 1)]);
        assert_eq!(engine.standings("h.example:80", at(0)).unwrap(), []);
    }
}
