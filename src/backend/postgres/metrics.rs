//! Counts, by statements of their own: they look at everything.

use super::db::Db;
use super::origin;
use super::sql::{Json, Time, failed};
use crate::backend::engine::rows::{corrupt, from_json};
use crate::backend::{LaneLoad, Metrics, Result};
use crate::model::{ListerKey, Timestamp, VisitType};
use crate::policy::{Policy, Shared};

fn count(row: &tokio_postgres::Row, column: &str) -> Result<u64> {
    let n: i64 = row.try_get(column).map_err(|e| failed("reading counts", e))?;
    Ok(n.cast_unsigned())
}

const DIVIDED: &str = "set local jit = off; set local max_parallel_workers_per_gather = 4; \
                       set local random_page_cost = 1.1";

/// Counts by lister and visit type.
pub(super) async fn metrics(db: &Db<'_>, now: Timestamp) -> Result<Vec<Metrics>> {
    // Flag 1: the lister wants it visited. An origin that waits for its time has that as its rank, and
    // what its rank will be beside it.
    // One pass over all rows: it is divided between as many processes as the server will give.
    db.tx.batch_execute(DIVIDED).await.map_err(|e| failed("preparing to count", e))?;
    // What each row adds is judged once; a pass of its own, so that it can be divided. Who is under way is
    // counted from the leases.
    let sql = "
      with first as materialized (
        select lister, visit_type, waits, count(*) as known, count(last_visit) as visited, min(last_visit) as oldest,
          count(*) filter (where passed) as passed, count(*) filter (where pending) as pending
        from (
          select lister, visit_type, last_visit, slot >= 0 and (flags & 1) = 1 and gone_at is null as waits,
            coalesce(next_rank, rank) <= $1 as passed, last_update > last_successful as pending
          from {s}.origin) o
        group by lister, visit_type, waits),
      further as (
        select lister, visit_type, waits, count(*) as known, count(last_visit) as visited, min(last_visit) as oldest,
          count(*) filter (where passed) as passed, count(*) filter (where pending) as pending
        from (
          select l.lister, o.visit_type, o.last_visit, o.slot >= 0 and (l.flags & 1) = 1 and l.gone_at is null as waits,
            coalesce(o.next_rank, o.rank) <= $1 as passed, l.last_update > o.last_successful as pending
          from {s}.listing l join {s}.origin o on o.id = l.origin) o
        group by lister, visit_type, waits),
      under_way as (
        select lister, visit_type, count(*) as leased from (
          select o.lister, o.visit_type from {s}.lease v join {s}.origin o on o.id = v.id
          union all
          select l.lister, o.visit_type from {s}.lease v
            join {s}.listing l on l.origin = v.id join {s}.origin o on o.id = v.id) o
        group by lister, visit_type),
      counted as (
        select lister, visit_type, sum(known)::bigint as known,
          coalesce(sum(known) filter (where waits), 0)::bigint as enabled,
          coalesce(sum(passed) filter (where waits), 0)::bigint as overdue,
          coalesce(sum(known - visited) filter (where waits), 0)::bigint as never_visited,
          coalesce(sum(pending) filter (where waits), 0)::bigint as pending_changes,
          min(oldest) filter (where waits) as oldest_visit
        from (select * from first union all select * from further) o group by lister, visit_type)
      select l.name, l.instance, t.name as visit_type, c.known, coalesce(u.leased, 0) as leased, c.enabled, c.overdue,
             c.never_visited, c.pending_changes, c.oldest_visit
      from counted c join {s}.lister l on l.id = c.lister join {s}.visit_type t on t.id = c.visit_type
        left join under_way u on u.lister = c.lister and u.visit_type = c.visit_type
      order by l.name collate \"C\", l.instance collate \"C\", t.name collate \"C\"";
    let reading = |e| failed("reading counts", e);
    let mut found = Vec::new();
    for row in db.rows(sql, &[&now.as_micros()]).await? {
        let lister = ListerKey::new(
            row.try_get::<_, String>("name").map_err(reading)?,
            row.try_get::<_, String>("instance").map_err(reading)?,
        );
        let name: String = row.try_get("visit_type").map_err(reading)?;
        let visit_type = VisitType::new(name).map_err(|e| corrupt("a visit type").with_source(e))?;
        let mut metrics = Metrics::new(&lister, visit_type);
        metrics.known = count(&row, "known")?;
        metrics.enabled = count(&row, "enabled")?;
        metrics.never_visited = count(&row, "never_visited")?;
        metrics.pending_changes = count(&row, "pending_changes")?;
        metrics.leased = count(&row, "leased")?;
        metrics.overdue = count(&row, "overdue")?;
        metrics.oldest_visit = row.try_get::<_, Option<Time>>("oldest_visit").map_err(reading)?.map(|t| t.0);
        found.push(metrics);
    }
    Ok(found)
}

/// How much waits in each lane of a visit type.
pub(super) async fn lanes(
    db: &Db<'_>,
    visit_type: &VisitType,
    policy: &dyn Policy,
    now: Timestamp,
) -> Result<Vec<LaneLoad>> {
    let reading = |e| failed("reading counts", e);
    let sql = "select id, shared, waiting from {s}.visit_type where name = $1";
    let rows = db.rows(sql, &[&visit_type.as_str()]).await?;
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let number = row.try_get::<_, i16>("id").map_err(reading)?.cast_unsigned();
    let kept: Option<Json> = row.try_get("shared").map_err(reading)?;
    let kept = kept.map_or(Ok(serde_json::Value::Null), |kept| from_json(&kept.0))?;
    let shared = Shared::new(kept, count(row, "waiting")?);
    let mut loads: Vec<LaneLoad> = policy
        .gates(&shared)
        .lanes(policy)
        .into_iter()
        .map(|spec| LaneLoad::new(spec.lane, spec.name, spec.share))
        .collect();
    // Each lane is a stretch of the index; those who wait for their time are another one.
    let sql = "with waiting as (
                 select o.id, coalesce(o.next_lane, o.slot & 255) as lane, coalesce(o.next_rank, o.rank) as rank,
                        o.also_slot & 255 as also_lane, o.also_rank from {s}.origin o
                 where o.slot >= 0 and o.slot between $1 and $2
                   and not exists (select from {s}.lease l where l.id = o.id)),
               places as (
                 select lane, rank from waiting union all
                 select also_lane, also_rank from waiting where also_lane is not null)
               select lane, count(*) as waiting, count(*) filter (where rank <= $3) as due from places group by 1";
    let (first, last) = (origin::slot(number, 0), origin::waiting_slot(number));
    for row in db.rows(sql, &[&first, &last, &now.as_micros()]).await? {
        let lane: i32 = row.try_get("lane").map_err(reading)?;
        if let Some(load) = loads.iter_mut().find(|l| i32::from(l.lane.0) == lane) {
            load.waiting = count(&row, "waiting")?;
            load.due = count(&row, "due")?;
        }
    }
    Ok(loads)
}
