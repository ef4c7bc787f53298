//! Moving over: listers, listed origins and visit statistics of an existing database of swh-scheduler
//! (3.6), into any store.
//!
//! The other database is only read, by short statements along its primary key, so that it may stay in
//! use. For each of its listers there is one run here, with parameters that say where it comes from, and
//! its place in their listing is committed with each page: an import that was broken off goes on from
//! there, and one that is repeated changes nothing.
//!
//! # What becomes of what
//!
//! | there | here |
//! |---|---|
//! | a lister's name, instance, state, end of its last listing | the same; a lister that has a state of its own here keeps it |
//! | a listed origin | the same, with its loader's arguments, its dates, and whether it is wanted |
//! | statistics of its visits | what is known of its visits |
//! | scheduled, and no visit known since | under way for the owner `swh-scheduler`, for seven days from then |
//! | place in the queue of origins without dates | that place, where the policy here has such a queue ([`Classic`](crate::policy::Classic)) |
//!
//! Begin to claim here when the import has ended, and stop whoever claims there before it begins.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::{Client, Config, Row};

use super::postgres::sql::Time;
use super::{
    BackendError, CursorEnd, EndRun, Imported, ImportedOrigin, ImportedVisits, ListingEnd, NewState,
    PageCommit, PageDigest, PendingCursor, RunOutcome, RunPlan, RunTicket, SchedulerBackend, UnderWay,
};
use crate::lister::{Follow, FollowKind, Mode, PageBatch};
use crate::model::{JsonObject, ListerKey, Timestamp, VisitStatus, VisitType, digest128};
use crate::policy::Queued;
use crate::transport::Clock;

/// So many origins are read and stored at a time.
const PAGE: u32 = 1000;

/// Whoever reads a page has so long for it.
const LEASE: Duration = Duration::from_secs(600);

/// The incumbent takes a visit for lost that it has heard nothing of for so long.
const LOST_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// The owner of visits that are under way there, and the name of the runs here.
const OWNER: &str = "swh-scheduler";

/// The tables and columns without which it is not such a database.
const COLUMNS: [(&str, &[&str]); 4] = [
    ("listers", &["id", "name", "instance_name", "current_state", "last_listing_finished_at"]),
    (
        "listed_origins",
        &[
            "lister_id",
            "url",
            "visit_type",
            "extra_loader_arguments",
            "enabled",
            "first_seen",
            "last_seen",
            "last_update",
            "is_fork",
            "forked_from_url",
        ],
    ),
    (
        "origin_visit_stats",
        &[
            "url",
            "visit_type",
            "last_successful",
            "last_visit",
            "last_visit_status",
            "last_scheduled",
            "last_snapshot",
            "next_visit_queue_position",
            "next_position_offset",
            "successive_visits",
        ],
    ),
    ("visit_scheduler_queue_position", &["visit_type", "position"]),
];

/// Why an import could not go on. What was stored until then stays, and repeating it goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwhError {
    /// The address is none: `postgres://user@host:5432/database`, or `host=… dbname=…`.
    #[error("the database's address is not one: postgres://user@host:5432/database")]
    Address,
    /// The other database cannot be reached, or broke off. No address is told: a password may be in it.
    #[error("the database cannot be read, while {0}")]
    Read(&'static str, #[source] tokio_postgres::Error),
    /// It is not a database of swh-scheduler, or of a version that is not known here.
    #[error("this is no database of swh-scheduler 3.6: it lacks {0}")]
    Foreign(String),
    /// It holds something that cannot be read.
    #[error("the database holds what makes no sense: {0}")]
    Corrupt(String),
    /// The store here.
    #[error(transparent)]
    Store(#[from] BackendError),
}

type Result<T, E = SwhError> = std::result::Result<T, E>;

/// What an import brought.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct SwhImported {
    /// Listers.
    pub listers: u64,
    /// Listed origins that were read, with those of an import that was broken off before.
    pub origins: u64,
    /// What this import made of those that it read itself.
    pub imported: Imported,
    /// Listers of which not everything is here: to be looked at, and nothing to go on with.
    pub missing: Vec<Missing>,
}

/// A lister of which not everything is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Missing {
    /// Its name.
    pub lister: String,
    /// Its instance.
    pub instance: String,
    /// Origins that it lists there.
    pub there: u64,
    /// Of them, those that were read.
    pub read: u64,
    /// Of them, those whose URL or visit type is none here.
    pub refused: u64,
    /// Origins that it lists here.
    pub here: u64,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lister, instance, there, read, refused, here } = self;
        write!(f, "{lister} {instance}: {there} there, {read} read, {refused} refused, {here} here")
    }
}

/// A lister as it is there.
struct TheirLister {
    id: uuid::Uuid,
    key: ListerKey,
    state: JsonObject,
    finished: Option<Timestamp>,
}

/// How far a lister's origins were read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    /// The last one's URL and visit type.
    after: Option<(String, String)>,
    read: u64,
    refused: u64,
}

/// Imports everything of a database, and counts. `told` is called after each page.
///
/// # Errors
/// [`SwhError::Store`] as any method of a store, [`SwhError::Foreign`] where it is another database, and
/// [`SwhError::Read`] where it cannot be reached or read.
///
/// ```no_run
/// use lamplighter::backend::{FileStore, swh};
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let store = FileStore::open("lamplighter.db")?;
/// let clock = lamplighter::driver::SystemClock;
/// let imported = swh::import("postgres://guest@db.example/scheduler", &store, &clock, &mut |_| ()).await?;
/// assert!(imported.missing.is_empty(), "{:?}", imported.missing);
/// # Ok(())
/// # }
/// ```
pub async fn import(
    address: &str,
    store: &dyn SchedulerBackend,
    clock: &dyn Clock,
    told: &mut (dyn FnMut(&SwhImported) + Send),
) -> Result<SwhImported> {
    let theirs = Theirs::connect(address).await?;
    theirs.check().await?;
    let queues = theirs.queues().await?;
    let mut imported = SwhImported::default();
    let mut places = Vec::new();
    for lister in theirs.listers().await? {
        let before = imported.origins;
        let mut note = |place: &Place, page: Imported| {
            imported.imported.add(page);
            imported.origins = before + place.read;
            told(&imported);
        };
        let place = one_lister(&theirs, &lister, &queues, (store, clock), &mut note).await?;
        imported.origins = before + place.read;
        imported.listers += 1;
        places.push((lister, place));
    }
    let mut here = std::collections::HashMap::<ListerKey, u64>::new();
    for counts in store.metrics(clock.now()).await? {
        *here.entry(ListerKey::new(counts.lister, counts.instance)).or_default() += counts.known;
    }
    for (lister, place) in places {
        let there = theirs.count(lister.id).await?;
        let here = here.get(&lister.key).copied().unwrap_or(0);
        if place.read < there || here + place.refused < place.read {
            let (read, refused) = (place.read, place.refused);
            let ListerKey { name: lister, instance, .. } = lister.key;
            imported.missing.push(Missing { lister, instance, there, read, refused, here });
        }
    }
    Ok(imported)
}

type Queues = std::collections::HashMap<String, i64>;

/// Imports a lister's origins, and then the lister.
async fn one_lister(
    theirs: &Theirs,
    lister: &TheirLister,
    queues: &Queues,
    (store, clock): (&dyn SchedulerBackend, &dyn Clock),
    note: &mut (dyn FnMut(&Place, Imported) + Send),
) -> Result<Place> {
    let mut plan = RunPlan::new(lister.key.clone(), Mode::Incremental, vec![json!(Place::default())]);
    let from = json!({ "import": OWNER, "lister": lister.id.to_string() });
    plan.parameters = from.as_object().cloned().unwrap_or_default();
    let mut begun = store.begin_run(plan.clone(), clock.now()).await?;
    if begun.resumed && begun.pending == 0 {
        // Broken off between its last page and its end: only pages know how many there were.
        plan.restart = true;
        begun = store.begin_run(plan, clock.now()).await?;
    }
    let run = begun.ticket;
    let mut last = Place::default();
    while let Some(pending) = store.claim_cursors(run, 1, LEASE, clock.now()).await?.pop() {
        let place: Place = serde_json::from_value(pending.cursor.clone())
            .map_err(|e| SwhError::Corrupt(format!("the place of an earlier import: {e}")))?;
        let (next, more, page) = one_page(theirs, lister, queues, (store, clock), place).await?;
        commit(store, run, pending, more.then_some(&next), clock.now()).await?;
        note(&next, page);
        last = next;
    }
    let record = store.lister(&lister.key, clock.now()).await?;
    let listing_end = lister.finished.map_or(ListingEnd::Unknown, ListingEnd::At);
    let mut end = EndRun::new(run, RunOutcome::Complete).with_listing_end(listing_end);
    if record.current_state.is_empty() && !lister.state.is_empty() {
        end = end.with_state(NewState::new(lister.state.clone(), 1, record.revision));
    }
    store.end_run(end, clock.now()).await?;
    Ok(last)
}

/// Stores a page of a lister's origins; returns how far that is, and whether there may be more.
async fn one_page(
    theirs: &Theirs,
    lister: &TheirLister,
    queues: &Queues,
    (store, clock): (&dyn SchedulerBackend, &dyn Clock),
    mut place: Place,
) -> Result<(Place, bool, Imported)> {
    let rows = theirs.page(lister.id, place.after.as_ref()).await?;
    let more = rows.len() >= PAGE as usize;
    let mut origins = Vec::with_capacity(rows.len());
    let mut imported = Imported::default();
    for row in &rows {
        let key = (text(row, "url")?, text(row, "visit_type")?);
        match VisitType::new(key.1.clone()) {
            Ok(visit_type) => origins.push(origin(row, lister, key.0.clone(), visit_type, queues)?),
            Err(_) => imported.refused += 1,
        }
        place.after = Some(key);
    }
    imported.add(store.import(origins, clock.now()).await?);
    place.read += rows.len() as u64;
    place.refused += imported.refused;
    Ok((place, more, imported))
}

/// Commits that a page was stored.
async fn commit(
    store: &dyn SchedulerBackend,
    run: RunTicket,
    pending: PendingCursor,
    next: Option<&Place>,
    now: Timestamp,
) -> Result<()> {
    let mut batch = PageBatch::default();
    batch.follows.extend(next.map(|next| Follow::new(json!(next), FollowKind::Follow)));
    let digest = digest128(pending.cursor.to_string().as_bytes());
    let end = CursorEnd::Done(PageDigest::new(digest, Some(digest)));
    store.commit_page(PageCommit::new(run, pending.ticket, batch, Some(end)), now).await?;
    Ok(())
}

fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, column: &str) -> Result<T> {
    row.try_get(column).map_err(|e| SwhError::Read("reading an origin", e))
}

fn text(row: &Row, column: &str) -> Result<String> {
    get(row, column)
}

fn time(row: &Row, column: &str) -> Result<Option<Timestamp>> {
    Ok(get::<Option<Time>>(row, column)?.map(|t| t.0))
}

fn object(text: &str, what: &str) -> Result<JsonObject> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Ok(JsonObject::new()),
        _ => Err(SwhError::Corrupt(format!("{what} that is no JSON object"))),
    }
}

/// An origin and its visits, from a row of both.
fn origin(
    row: &Row,
    lister: &TheirLister,
    url: String,
    visit_type: VisitType,
    queues: &Queues,
) -> Result<ImportedOrigin> {
    let reached = queues.get(visit_type.as_str()).copied().unwrap_or(0);
    let mut origin = ImportedOrigin::new(&lister.key, url, visit_type);
    origin.enabled = get(row, "enabled")?;
    origin.first_seen = time(row, "first_seen")?;
    origin.last_seen = time(row, "last_seen")?;
    origin.last_update = time(row, "last_update")?;
    origin.is_fork = get(row, "is_fork")?;
    origin.forked_from_url = get(row, "forked_from_url")?;
    origin.extra_loader_arguments = object(&text(row, "arguments")?, "arguments of a loader")?;
    if get(row, "has_stats")? {
        origin.visits = Some(visits(row, reached)?);
    }
    Ok(origin)
}

fn visits(row: &Row, reached: i64) -> Result<ImportedVisits> {
    let status = match get::<Option<String>>(row, "status")?.as_deref() {
        None => None,
        Some("successful") => Some(VisitStatus::Successful),
        Some("failed") => Some(VisitStatus::Failed),
        Some("not_found") => Some(VisitStatus::NotFound),
        Some(other) => return Err(SwhError::Corrupt(format!("a visit that ended {other:?}"))),
    };
    let last_visit = time(row, "last_visit")?;
    let scheduled = time(row, "last_scheduled")?.filter(|at| last_visit.is_none_or(|last| last <= *at));
    Ok(ImportedVisits {
        last_visit,
        last_successful: time(row, "last_successful")?,
        status,
        last_snapshot: get(row, "snapshot")?,
        under_way: scheduled.map(|at| UnderWay::new(OWNER, at, at.plus(LOST_AFTER))),
        queued: Some(Queued {
            at: get(row, "position")?,
            step: get(row, "step")?,
            equal: get::<i32>(row, "successive")?.try_into().unwrap_or(0),
            reached,
        }),
    })
}

/// The other database.
struct Theirs {
    client: Client,
}

impl Theirs {
    async fn connect(address: &str) -> Result<Self> {
        let mut config = Config::from_str(address).map_err(|_| SwhError::Address)?;
        if config.get_application_name().is_none() {
            config.application_name("lamplighter import");
        }
        let client =
            super::postgres::pool::connect(&config).await.map_err(|e| SwhError::Read("connecting", e))?;
        // Whatever happens, nothing is written there.
        let reading = "set default_transaction_read_only = on; set jit = off";
        client.batch_execute(reading).await.map_err(|e| SwhError::Read("connecting", e))?;
        Ok(Self { client })
    }

    async fn check(&self) -> Result<()> {
        let sql = "select attname::text from pg_attribute
                   where attrelid = to_regclass($1) and attnum > 0 and not attisdropped";
        for (table, columns) in COLUMNS {
            let rows = self.client.query(sql, &[&table]).await;
            let rows = rows.map_err(|e| SwhError::Read("looking for its tables", e))?;
            if rows.is_empty() {
                return Err(SwhError::Foreign(format!("the table {table}")));
            }
            let there: Vec<String> = rows.iter().map(|row| text(row, "attname")).collect::<Result<_>>()?;
            if let Some(column) = columns.iter().find(|c| !there.iter().any(|t| t == *c)) {
                return Err(SwhError::Foreign(format!("the column {column} of {table}")));
            }
        }
        Ok(())
    }

    async fn listers(&self) -> Result<Vec<TheirLister>> {
        let sql = "select id, name, instance_name, current_state::text as state, last_listing_finished_at
                   from listers order by name, instance_name";
        let rows = self.client.query(sql, &[]).await.map_err(|e| SwhError::Read("reading listers", e))?;
        let lister = |row: &Row| {
            Ok(TheirLister {
                id: get(row, "id")?,
                key: ListerKey::new(text(row, "name")?, text(row, "instance_name")?),
                state: object(&text(row, "state")?, "the state of a lister")?,
                finished: time(row, "last_listing_finished_at")?,
            })
        };
        rows.iter().map(lister).collect()
    }

    /// How far the queue of each visit type has come.
    async fn queues(&self) -> Result<Queues> {
        let sql = "select visit_type, position from visit_scheduler_queue_position";
        let rows = self.client.query(sql, &[]).await.map_err(|e| SwhError::Read("reading queues", e))?;
        rows.iter().map(|row| Ok((text(row, "visit_type")?, get(row, "position")?))).collect()
    }

    async fn count(&self, lister: uuid::Uuid) -> Result<u64> {
        let sql = "select count(*) from listed_origins where lister_id = $1";
        let row = self.client.query_one(sql, &[&lister]).await;
        let row = row.map_err(|e| SwhError::Read("counting", e))?;
        Ok(get::<i64>(&row, "count")?.cast_unsigned())
    }

    /// The origins of a lister after one of them, in the order of the primary key.
    async fn page(&self, lister: uuid::Uuid, after: Option<&(String, String)>) -> Result<Vec<Row>> {
        let sql = format!(
            "select o.url, o.visit_type, o.extra_loader_arguments::text as arguments, o.enabled, o.first_seen,
               o.last_seen, o.last_update, o.is_fork, o.forked_from_url, s.url is not null as has_stats,
               s.last_visit, s.last_successful, s.last_visit_status::text as status, s.last_scheduled,
               encode(s.last_snapshot, 'hex') as snapshot, s.next_visit_queue_position as position,
               s.next_position_offset as step, s.successive_visits as successive
             from (select * from listed_origins
                   where lister_id = $1 and (url, visit_type) > ($2, $3)
                   order by lister_id, url, visit_type limit {PAGE}) o
             left join origin_visit_stats s on s.url = o.url and s.visit_type = o.visit_type
             order by o.url, o.visit_type"
        );
        let (url, visit_type) = after.map_or(("", ""), |(url, kind)| (url.as_str(), kind.as_str()));
        let rows = self.client.query(&sql, &[&lister, &url, &visit_type]).await;
        rows.map_err(|e| SwhError::Read("reading origins", e))
    }
}
