//! Learns rows: visit types, and origins with all that their listers say of them.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::db::{Db, Schema};
use super::known::Known;
use super::origin::{self, Origin, Other};
use super::rows::Type;
use super::sql::{self, Version, signed};
use super::table::of;
use super::work::PLANS;
use crate::backend::Result;
use crate::backend::engine::identity::forge_place;
use crate::backend::engine::keys::{self, K};
use crate::backend::engine::rows::{OriginRow, encode};

/// What [`learn_types`] reads.
pub(super) fn types_sql() -> String {
    format!("select {} from {{s}}.visit_type t", of("t", Type::COLUMNS))
}

/// Learns all visit types, as [`types`] does.
pub(super) fn learn_types(known: &mut Known, rows: Vec<Row>) -> Result<bool> {
    let mut settled = true;
    for row in rows {
        let row = Type::read(&row).map_err(|e| sql::failed("reading visit types", e))?;
        settled &= row.replace_from.is_none();
        let key = K::new().u16(row.id.cast_unsigned()).to_vec();
        known.put(keys::TYPE, key, Some(encode(&row.row())?));
    }
    known.whole(keys::TYPE, Vec::new(), None);
    Ok(settled)
}

/// What [`learn`] reads of origins.
pub(super) fn origin_columns() -> String {
    format!("{}, o.xmin", of("o", Origin::COLUMNS))
}

type Found = Vec<(u64, OriginRow)>;

/// Learns origins, with all that further listers say of them.
pub(super) async fn learn(db: &Db<'_>, known: &mut Known, rows: Vec<Row>) -> Result<Found> {
    let (mut found, shared) = first_listings(known, rows)?;
    further(db, &mut found, &shared).await?;
    keep(known, &found)?;
    Ok(found)
}

/// Adds what further listers say of those of which they say something.
async fn further(db: &Db<'_>, found: &mut Found, shared: &[i64]) -> Result<()> {
    if shared.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "select {} from {{s}}.listing l where origin = any($1) order by origin, place",
        of("l", Other::COLUMNS)
    );
    further_listings(found, db.rows(&sql, &[&shared]).await?)
}

/// What [`learn_listings`] reads of origins: what listers say, and what stops visits.
pub(super) fn listing_columns() -> String {
    "o.id, 0::smallint, o.lister, o.flags, o.gone_reason, o.first_seen, coalesce(o.last_seen, o.first_seen), \
     o.last_update, o.gone_at, o.forge_place, o.forge_id, o.forked_from, o.arguments, o.url, o.visit_type, o.others, \
     o.disabled"
        .to_owned()
}

/// Learns of origins what pages of them show, and nothing else of them: for reading pages.
pub(super) async fn learn_listings(db: &Db<'_>, known: &mut Known, rows: Vec<Row>) -> Result<()> {
    let failed = |e| sql::failed("reading origins", e);
    let first = Other::COLUMNS.len();
    let mut found = Vec::with_capacity(rows.len());
    let mut shared = Vec::new();
    for row in rows {
        let said = Other::read(&row).map_err(failed)?;
        let id = said.origin;
        if row.try_get::<_, i16>(first + 2).map_err(failed)? > 0 {
            shared.push(id);
        }
        let (url, visit_type) = (row.try_get(first), row.try_get(first + 1));
        let disabled: Option<sql::Json> = row.try_get(first + 3).map_err(failed)?;
        let row = origin::shown(said, url.map_err(failed)?, visit_type.map_err(failed)?, disabled.as_ref())?;
        found.push((id.cast_unsigned(), row));
    }
    further(db, &mut found, &shared).await?;
    keep(known, &found)
}

/// What rows say of origins, and those of them that further listers list.
fn first_listings(known: &mut Known, rows: Vec<Row>) -> Result<(Found, Vec<i64>)> {
    let failed = |e| sql::failed("reading origins", e);
    let mut found = Vec::with_capacity(rows.len());
    let mut shared = Vec::new();
    for row in rows {
        let Version(version) = row.try_get(Origin::COLUMNS.len()).map_err(failed)?;
        let flat = Origin::read(&row).map_err(failed)?;
        let id = flat.id.cast_unsigned();
        known.versions.insert((keys::ORIGIN, id), version);
        if flat.others > 0 {
            shared.push(flat.id);
        }
        let key = flat.key.map(|digest| (digest, flat.twin));
        known.found_by.insert(id, key);
        if let Some((digest, _)) = key {
            let key = K::new().u64(digest.cast_unsigned()).u64(id).to_vec();
            known.put(keys::ORIGIN_KEY, key, Some(Vec::new()));
        }
        found.push((id, origin::row(flat)?));
    }
    Ok((found, shared))
}

/// Adds what further listers say.
fn further_listings(found: &mut Found, rows: Vec<Row>) -> Result<()> {
    let places: HashMap<u64, usize> = found.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    for row in rows {
        let other = Other::read(&row).map_err(|e| sql::failed("reading origins", e))?;
        let at = places.get(&other.origin.cast_unsigned());
        if let Some((_, row)) = at.and_then(|at| found.get_mut(*at)) {
            row.listings.push(origin::listing(other)?);
        }
    }
    Ok(())
}

fn keep(known: &mut Known, found: &Found) -> Result<()> {
    for (id, row) in found {
        known.put(keys::ORIGIN, keys::of_u64(*id).to_vec(), Some(encode(row)?));
    }
    Ok(())
}

/// Origins by the digests of their keys: a range for each.
pub(super) async fn find(
    db: &Db<'_>,
    known: &mut Known,
    wanted: Vec<(Vec<u8>, Option<Vec<u8>>)>,
) -> Result<()> {
    let rows = db.rows(&find_sql(), &[&digests(&wanted)]).await?;
    let found = learn(db, known, rows).await?;
    are_all(known, wanted, &found);
    Ok(())
}

/// Learns that of these digests there are only the origins found.
fn are_all(known: &mut Known, wanted: Vec<(Vec<u8>, Option<Vec<u8>>)>, found: &Found) {
    for (digest, _) in wanted {
        known.numbers_are(keys::ORIGIN_KEY, digest, None);
    }
    for (id, _) in found {
        if let Some((digest, _)) = known.found_by.get(id).copied().flatten() {
            known.numbers_are(keys::ORIGIN_KEY, keys::of_u64(digest.cast_unsigned()).to_vec(), Some(*id));
        }
    }
}

fn digests(ranges: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<i64> {
    ranges.iter().map(|(from, _)| signed(keys::first_u64(from))).collect()
}

fn find_sql() -> String {
    // Twins lie in an index of their own, which is nearly always empty.
    let columns = origin_columns();
    format!(
        "select {columns} from {{s}}.origin o where o.key = any($1) and o.twin = 0
         union all select {columns} from {{s}}.origin o where o.key = any($1) and o.twin > 0"
    )
}

/// Origins by what forges call them: a range for each (lister, place).
pub(super) async fn find_by_forge(
    db: &Db<'_>,
    known: &mut Known,
    wanted: Vec<(Vec<u8>, Option<Vec<u8>>)>,
) -> Result<()> {
    let (mut listers, mut places) = (Vec::new(), Vec::new());
    for (from, _) in &wanted {
        let mut parts = keys::Parts(from);
        listers.push(parts.u32().cast_signed());
        places.push(signed(parts.u64()));
    }
    let columns = origin_columns();
    let sql = format!(
        "select {columns} from unnest($1::int[], $2::bigint[]) u(lister, place)
           join {{s}}.origin o on o.lister = u.lister and o.forge_place = u.place
         union all
         select {columns} from unnest($1::int[], $2::bigint[]) u(lister, place)
           join {{s}}.listing l on l.lister = u.lister and l.forge_place = u.place
           join {{s}}.origin o on o.id = l.origin"
    );
    let found = learn(db, known, db.rows(&sql, &[&listers, &places]).await?).await?;
    let mut asked: HashMap<Vec<u8>, BTreeSet<u64>> =
        wanted.into_iter().map(|(from, _)| (from, BTreeSet::new())).collect();
    for (id, row) in found {
        for listing in &row.listings {
            let Some(forge_id) = listing.forge_id() else { continue };
            let prefix = K::new().u32(listing.lister).u64(forge_place(forge_id));
            if let Some(numbers) = asked.get_mut(&*prefix) {
                numbers.insert(id);
            }
        }
    }
    for (prefix, numbers) in asked {
        known.numbers_are(keys::FORGE, prefix.clone(), None);
        for number in numbers {
            known.numbers_are(keys::FORGE, prefix.clone(), Some(number));
        }
    }
    Ok(())
}

/// Origins by their digests in one round trip, with the visit types: nothing is waited for before the
/// next statement is sent. None where that did not work, and is to be done step by step.
pub(super) async fn find_at_once(
    client: &deadpool_postgres::Client,
    schema: &Schema,
    wanted: Vec<(Vec<u8>, Option<Vec<u8>>)>,
) -> Result<Option<Known>> {
    let others = format!(
        "select {} from {{s}}.origin o join {{s}}.listing l on l.origin = o.id
         where o.key = any($1) and o.others > 0 order by l.origin, l.place",
        of("l", Other::COLUMNS)
    );
    let prepared = async |sql: String| {
        let sql = schema.sql(&sql);
        client.prepare_cached(&sql).await.map_err(|e| sql::failed("preparing a statement", e))
    };
    let types = prepared(types_sql()).await?;
    let (origins, others) = (prepared(find_sql()).await?, prepared(others).await?);
    let digests = digests(&wanted);
    let (digests, begin): ([&(dyn ToSql + Sync); 1], _) = ([&digests], format!("{SNAPSHOT}; {PLANS}"));
    let answers = futures::join!(
        client.batch_execute(&begin),
        client.query(&types, &[]),
        client.query(&origins, &digests),
        client.query(&others, &digests),
        client.batch_execute("commit"),
    );
    let (Ok(()), Ok(types), Ok(rows), Ok(others), Ok(())) = answers else { return Ok(None) };
    let mut known = Known::new();
    learn_types(&mut known, types)?;
    let (mut found, _) = first_listings(&mut known, rows)?;
    further_listings(&mut found, others)?;
    keep(&mut known, &found)?;
    are_all(&mut known, wanted, &found);
    Ok(Some(known))
}

const SNAPSHOT: &str = "begin isolation level repeatable read read only";
