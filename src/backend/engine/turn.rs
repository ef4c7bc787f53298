//! When an origin's turn comes: the claims to come are made, shown and taken back.

use std::time::Duration;

use super::ctx::Ctx;
use super::explain::states;
use super::identity::answering;
use super::kv::KvTxn;
use super::place::must_load;
use super::{pace, visits};
use crate::backend::{Claim, Explanation, Result, StoreOptions, Turn};
use crate::model::{OriginKey, Timestamp};
use crate::policy::{Gate, GateState};

/// As far ahead as this is looked.
const CLAIMS: usize = 500;
const VISITS: usize = 5000;
/// What is handed out meanwhile does not come back.
const FOREVER: Duration = Duration::from_secs(1_000_000_000);

/// Adds when the turn comes to what is explained.
pub(crate) fn tell(explained: &mut Explanation, turn: Option<Turn>) {
    explained.turn = turn;
    if let Some(lane) = explained.gates.iter_mut().find(|g| g.gate == Gate::Lane) {
        lane.opens_at = turn.map(|turn| turn.at).filter(|_| !lane.open);
    }
}

/// When the next visit of an origin comes if claims go on as they did of late, nothing new is heard of
/// any origin, and no visit handed out by then has ended. None where no claims have shown their pace, or
/// where it never comes.
pub(crate) fn turn(
    t: &mut dyn KvTxn,
    options: &StoreOptions,
    origin: &OriginKey,
    now: Timestamp,
) -> Result<Option<Turn>> {
    let Some((id, row)) = answering(t, &Ctx::new(t, options, now)?, origin)? else { return Ok(None) };
    let pace = pace::read(t, row.visit_type)?;
    let Some(last) = pace.at.filter(|_| pace.every > 0.0) else { return Ok(None) };
    let every = Duration::from_secs_f64(pace.every * 86_400.0);
    let mut at = last.plus(every).max(now);
    let mut closed = closed_gates(t, options, id, now)?;
    let (mut owed, mut handed_out) = (0.0, 0);
    for _ in 0..CLAIMS {
        let still = closed_gates(t, options, id, at)?;
        owed += pace.size;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "visits of a claim")]
        let count = (owed + 1e-9).max(0.0) as usize;
        #[allow(clippy::cast_precision_loss, reason = "visits of a claim")]
        let asked = count as f64;
        owed -= asked;
        let claim = Claim::new(origin.visit_type.clone(), count).with_lease(FOREVER).with_owner("explain");
        let mut ctx = Ctx::new(t, options, at)?;
        let claimed = visits::claim(t, &mut ctx, &claim)?;
        ctx.finish(t)?;
        if claimed.visits.iter().any(|visit| visit.visit.0 == id) {
            let opened = closed.iter().filter(|g| !still.iter().any(|s| s.gate == g.gate));
            // Of two that open together, the one that is asked first.
            let last = opened.reduce(|last, g| if g.opens_at > last.opens_at { g } else { last });
            return Ok(Some(Turn::new(at, last.map_or(Gate::Lane, |g| g.gate), true)));
        }
        handed_out += claimed.visits.len();
        if handed_out > VISITS {
            break;
        }
        closed = still;
        at = at.plus(every);
    }
    let opens = closed.iter().filter(|g| g.gate != Gate::Due).max_by_key(|g| g.opens_at);
    Ok(Some(match opens {
        Some(GateState { gate, opens_at: Some(opens_at), .. }) => Turn::new(at.max(*opens_at), *gate, false),
        _ => Turn::new(at, Gate::Lane, false),
    }))
}

fn closed_gates(
    t: &mut dyn KvTxn,
    options: &StoreOptions,
    id: u64,
    now: Timestamp,
) -> Result<Vec<GateState>> {
    let mut ctx = Ctx::new(t, options, now)?;
    let row = must_load(t, id)?;
    let mut states = states(t, &mut ctx, id, &row)?;
    states.retain(|g| !g.open);
    Ok(states)
}
