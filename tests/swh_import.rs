//! A database of swh-scheduler, moved over: nothing of it is lost or changed there, and the same origins
//! are claimed under the same policy. `LAMPLIGHTER_SWH_ORIGINS` says how many.
#![cfg(all(feature = "postgres", feature = "testing"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "support/postgres.rs"]
mod server;
#[path = "support/swh.rs"]
mod theirs;

use std::collections::{BTreeMap, BTreeSet};

use lamplighter::backend::swh::{self, SwhError, SwhImported};
use lamplighter::backend::{
    Claim, MemoryStore, OriginQuery, OriginStore, RunOutcome, RunQuery, RunStore, SchedulerBackend,
    StoreOptions, VisitStore,
};
use lamplighter::model::{ListerKey, OriginKey, VisitStatus, VisitType};
use lamplighter::policy::{Classic, Order, Policies};
use lamplighter::testing::VirtualClock;
use server::Schemas;

fn origins() -> usize {
    std::env::var("LAMPLIGHTER_SWH_ORIGINS").map_or(2400, |n| n.parse().unwrap())
}

/// A database in a schema, and its address.
async fn database(schemas: &Schemas, count: usize) -> (String, String) {
    let name = schemas.name();
    theirs::make(&schemas.client().await, &name, count).await;
    let and = if schemas.url.contains('?') { '&' } else { '?' };
    let address = format!("{}{and}options=-c%20search_path%3D{name}", schemas.url);
    (name, address)
}

async fn import(address: &str, store: &dyn SchedulerBackend) -> Result<SwhImported, SwhError> {
    swh::import(address, store, &VirtualClock::new(theirs::now()), &mut |_| ()).await
}

/// All that a database holds, and the versions of its rows.
async fn contents(schemas: &Schemas, name: &str) -> Vec<String> {
    let client = schemas.client().await;
    let mut found = Vec::new();
    for table in ["listers", "listed_origins", "origin_visit_stats", "visit_scheduler_queue_position"] {
        let sql = format!("select ctid::text || xmin::text || t::text from \"{name}\".{table} t order by 1");
        found.extend(client.query(&sql, &[]).await.unwrap().iter().map(|r| r.get::<_, String>(0)));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_brought_and_nothing_is_written_there() {
    let Some(schemas) = Schemas::new("swh") else { return };
    let count = origins();
    let (name, address) = database(&schemas, count).await;
    let before = contents(&schemas, &name).await;
    let store = schemas.fresh().await;
    let imported = import(&address, &store).await.unwrap();
    // One in fifty is listed twice.
    let rows = (count + count / 50) as u64;
    assert_eq!((imported.listers, imported.origins), (3, rows));
    assert_eq!((imported.imported.new, imported.imported.refused), (rows, 0));
    assert!(imported.missing.is_empty(), "{:?}", imported.missing);
    assert_eq!(contents(&schemas, &name).await, before);

    let listers = store.listers().await.unwrap();
    let github = listers.iter().find(|l| l.name == "github").unwrap();
    assert_eq!(
        serde_json::Value::Object(github.current_state.clone()),
        serde_json::json!({"last_seen_id": 77})
    );
    assert_eq!(github.last_finished, Some(theirs::now().minus(std::time::Duration::from_secs(5 * 86_400))));
    assert_eq!(
        listers.iter().find(|l| l.name == "gitlab").unwrap().last_finished,
        None,
        "as far as is known"
    );
    let runs = store.runs(&RunQuery::default(), 9).await.unwrap();
    assert!(
        runs.iter()
            .all(|run| run.outcome == RunOutcome::Complete && run.parameters["import"] == "swh-scheduler")
    );

    // Row by row, as the server tells it.
    let client = schemas.client().await;
    let sql = format!(
        "select o.url, o.visit_type, o.enabled, o.is_fork, o.extra_loader_arguments::text, extract(epoch from o.last_update)::float8,
           extract(epoch from s.last_visit)::float8, s.last_visit_status::text, encode(s.last_snapshot, 'hex'), l.name
         from \"{name}\".listed_origins o join \"{name}\".listers l on l.id = o.lister_id
         left join \"{name}\".origin_visit_stats s using (url, visit_type)"
    );
    let mut listed = BTreeMap::new();
    let mut after = None;
    loop {
        let page = store.origins(&OriginQuery::everything(), after, 1000).await.unwrap();
        listed.extend(
            page.origins.into_iter().map(|(l, o)| ((l.name, o.url.clone(), o.visit_type.to_string()), o)),
        );
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed.len() as u64, rows);
    for row in client.query(&sql, &[]).await.unwrap() {
        let (url, kind): (String, String) = (row.get(0), row.get(1));
        let origin = &listed[&(row.get::<_, String>(9), url.clone(), kind.clone())];
        assert_eq!((origin.enabled, origin.is_fork), (row.get(2), row.get::<_, Option<bool>>(3)), "{url}");
        let arguments: serde_json::Value = row.get::<_, String>(4).parse().unwrap();
        assert_eq!(serde_json::Value::Object(origin.extra_loader_arguments.clone()), arguments);
        let seconds = |at: Option<lamplighter::model::Timestamp>| at.map(|t| t.as_micros() / 1_000_000);
        #[allow(clippy::cast_possible_truncation, reason = "whole seconds")]
        let whole = |at: Option<f64>| at.map(|at| at as i64);
        assert_eq!(seconds(origin.last_update), whole(row.get(5)), "{url}");
        let key = OriginKey::new(url.clone(), VisitType::new(kind).unwrap());
        let known = store.stats(&[key]).await.unwrap().remove(0).unwrap();
        assert_eq!(seconds(known.last_visit), whole(row.get(6)), "{url}");
        assert_eq!(known.last_status.map(VisitStatus::as_str), row.get::<_, Option<&str>>(7), "{url}");
        assert_eq!(known.last_snapshot.as_deref(), row.get::<_, Option<&str>>(8), "{url}");
    }

    // Once more changes nothing.
    let again = import(&address, &store).await.unwrap();
    assert_eq!((again.origins, again.imported.unchanged), (rows, rows));
    schemas.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_broken_off_goes_on_where_it_was() {
    let Some(schemas) = Schemas::new("swh_resumed") else { return };
    let (_, address) = database(&schemas, 3300).await;
    let rows = 3300 + 66;
    let store = schemas.fresh().await;
    // The first lister has more than one page: it stops after the first one.
    let (stop, stopped) = tokio::sync::oneshot::channel::<u64>();
    let mut stop = Some(stop);
    let clock = VirtualClock::new(theirs::now());
    let mut told = |so_far: &SwhImported| {
        if let Some(stop) = stop.take() {
            stop.send(so_far.origins).unwrap();
        }
    };
    let read = tokio::select! {
        biased;
        read = stopped => read.unwrap(),
        done = swh::import(&address, &store, &clock, &mut told) => panic!("{done:?}"),
    };
    assert_eq!(read, 1000);
    let rest = import(&address, &store).await.unwrap();
    assert_eq!(rest.origins, rows, "with what was read before");
    assert_eq!(rest.imported.new, rows - read, "and not read again");
    assert!(rest.missing.is_empty(), "{:?}", rest.missing);
    schemas.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_refused_and_no_address_is_told() {
    let Some(schemas) = Schemas::new("swh_foreign") else { return };
    let (name, address) = database(&schemas, 10).await;
    let store = MemoryStore::new();
    let sql = format!("alter table \"{name}\".listed_origins drop column is_fork");
    schemas.client().await.batch_execute(&sql).await.unwrap();
    let refused = import(&address, &store).await.unwrap_err();
    assert!(matches!(refused, SwhError::Foreign(_)), "{refused}");
    assert!(refused.to_string().contains("is_fork of listed_origins"), "{refused}");
    let refused = import(&address.replace(&name, "nowhere"), &store).await.unwrap_err();
    assert!(refused.to_string().contains("the table listers"), "{refused}");
    for address in ["postgres://me:hunter2@127.0.0.1:1/nowhere", "hunter2"] {
        let refused = import(address, &store).await.unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
    }
    assert!(store.listers().await.unwrap().is_empty());
    schemas.done().await;
}

/// Under each of the incumbent's policies the same origins are claimed as there, in the same order where
/// its key tells them apart.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_origins_are_claimed_under_the_same_policy() {
    let Some(schemas) = Schemas::new("swh_claims") else { return };
    let count = origins();
    let (name, address) = database(&schemas, count).await;
    let client = schemas.client().await;
    compare(&schemas, (&client, &name, &address), count, None).await;
    drop(client);
    schemas.done().await;
}

/// A database that the incumbent's own calls have made, and what it would claim of it by its own account.
/// `LAMPLIGHTER_SWH_PYTHON` names an interpreter that has swh-scheduler.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_incumbent_would_claim_is_claimed_here() {
    let Some(schemas) = Schemas::new("swh_made") else { return };
    let Some(python) = std::env::var_os("LAMPLIGHTER_SWH_PYTHON").filter(|python| !python.is_empty()) else {
        eprintln!("\n!! SKIPPED: LAMPLIGHTER_SWH_PYTHON names no interpreter with swh-scheduler 3.6.0\n");
        return;
    };
    let count = origins();
    let database = format!("lamplighter_swh_{}", std::process::id());
    let admin = schemas.client().await;
    admin.batch_execute(&format!("create database {database}")).await.unwrap();
    let mut address = url::Url::parse(&schemas.url).unwrap();
    address.set_path(&database);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/swh_made.py");
    let made = std::process::Command::new(python)
        .args([script, address.as_str(), &count.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    assert!(made.status.success());
    let told: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let (client, connection) =
        tokio_postgres::connect(address.as_str(), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    compare(&schemas, (&client, "public", address.as_str()), count, Some(&told)).await;
    drop(client);
    connection.await.unwrap().unwrap();
    admin.batch_execute(&format!("drop database {database} with (force)")).await.unwrap();
    drop(admin);
    schemas.done().await;
}

/// Imports a database under each policy and compares what is claimed: with what the policies are said to
/// do, and with what the incumbent told.
async fn compare(
    schemas: &Schemas,
    (client, name, address): (&tokio_postgres::Client, &str, &str),
    count: usize,
    told: Option<&serde_json::Value>,
) {
    let github = format!("o.lister_id = (select id from \"{name}\".listers where name = 'github')");
    let listing = format!(
        "{github} and (s.last_scheduled is null or s.last_scheduled < timestamptz '2026-06-01 00:00:00+00' - interval '5 days')"
    );
    // What each policy takes, and its order. Of an origin that was scheduled and never visited nobody here
    // knows when: it counts as never visited, and only its order differs.
    let visited = "coalesce(s.last_visit, '-infinity')";
    let orders = [
        (Order::OldestScheduledFirst, "true", visited),
        (
            Order::NeverVisitedOldestUpdateFirst,
            "s.last_snapshot is null and o.last_update is not null",
            "o.last_update",
        ),
        (
            Order::AlreadyVisitedOrderByLag,
            "s.last_snapshot is not null and o.last_update > s.last_successful",
            "s.last_successful - o.last_update",
        ),
        (
            Order::OriginsWithoutLastUpdate,
            "o.last_update is null",
            "(coalesce(s.next_visit_queue_position, -1), case when s.next_visit_queue_position is null then o.first_seen end)",
        ),
        (Order::FirstVisitsAfterListing, listing.as_str(), visited),
        (
            Order::StopAfterSuccess,
            "s.last_visit_status is distinct from 'successful'",
            "(coalesce(o.last_update, 'infinity'), case when o.last_update is null then o.first_seen end)",
        ),
    ];
    for (n, (order, wanted, by)) in orders.into_iter().enumerate() {
        let policies = Policies::all(Classic::only(order));
        // Each store in its turn.
        let store: Box<dyn SchedulerBackend> = if n % 2 == 0 {
            Box::new(MemoryStore::with_policies(policies))
        } else {
            let options = schemas.options().with_store(StoreOptions::default().with_policies(policies));
            Box::new(schemas.open(options).await)
        };
        import(address, &*store).await.unwrap();
        for visit_type in ["git", "hg"] {
            let mut claim = Claim::new(VisitType::new(visit_type).unwrap(), count);
            if order == Order::FirstVisitsAfterListing {
                claim.lister = Some(ListerKey::new("github", "github.com"));
            }
            let ours: Vec<_> =
                store.claim(&claim, theirs::now()).await.unwrap().visits.into_iter().map(|v| v.url).collect();
            let mut theirs = theirs::claims(client, name, visit_type, (wanted, by)).await;
            let mut done = BTreeSet::new();
            if order == Order::StopAfterSuccess {
                // One visited with success whose last visit failed is tried again there, and not here.
                let sql = format!(
                    "select url from \"{name}\".origin_visit_stats where last_successful is not null"
                );
                let rows = client.query(&sql, &[]).await.unwrap();
                done = rows.iter().map(|r| r.get::<_, String>(0)).collect();
                theirs.retain(|(url, _)| !done.contains(url));
            }
            let all: BTreeSet<_> = theirs.iter().map(|(url, _)| url.clone()).collect();
            assert!(!all.is_empty() && all.len() < count * 9 / 10, "{order} of {visit_type}: {}", all.len());
            let mine: BTreeSet<_> = ours.iter().cloned().collect();
            let differ: Vec<_> = mine.symmetric_difference(&all).take(5).collect();
            assert!(differ.is_empty(), "{order} of {visit_type}: {differ:?}");
            let unique: BTreeSet<_> = theirs.iter().filter(|(_, own)| *own).map(|(url, _)| url).collect();
            let in_order: Vec<_> =
                theirs.iter().map(|(url, _)| url).filter(|url| unique.contains(url)).collect();
            let ours: Vec<_> = ours.iter().filter(|url| unique.contains(url)).collect();
            if let Some(told) = told {
                let grabbed = told[format!("{order} {visit_type}")].as_array().unwrap();
                let mut once = BTreeSet::new();
                let grabbed: Vec<String> = grabbed
                    .iter()
                    .map(|url| url.as_str().unwrap().to_owned())
                    .filter(|url| !done.contains(url) && once.insert(url.clone()))
                    .collect();
                let differ: Vec<_> = once.symmetric_difference(&all).take(5).collect();
                assert!(differ.is_empty(), "{order} of {visit_type}, as the incumbent tells: {differ:?}");
                let grabbed: Vec<_> = grabbed.iter().filter(|url| unique.contains(url)).collect();
                // Of what it sent and never visited nobody here knows when.
                if order != Order::OldestScheduledFirst && order != Order::FirstVisitsAfterListing {
                    assert_eq!(grabbed, in_order, "{order} of {visit_type}");
                }
            }
            assert!(
                in_order.len() > all.len() / 5,
                "{order} of {visit_type}: {} of {}",
                in_order.len(),
                all.len()
            );
            let first = ours.iter().zip(&in_order).position(|(a, b)| a != b);
            assert_eq!(first, None, "{order} of {visit_type}, of {}", in_order.len());
        }
    }
}

/// The command does the same, and says so.
#[cfg(feature = "cli")]
#[tokio::test(flavor = "multi_thread")]
async fn the_command_imports_and_counts() {
    let Some(schemas) = Schemas::new("swh_command") else { return };
    let (name, address) = database(&schemas, 500).await;
    let store = schemas.url_of(&schemas.name());
    let import = || {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_lamplighter"))
            .args(["import", "swh", &address, "--store", &store, "--json"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.code(), serde_json::from_str::<serde_json::Value>(&said).unwrap_or_default(), said)
    };
    let (status, said, text) = import();
    assert_eq!((status, said["new"].as_u64()), (Some(0), Some(510)), "{text}");
    let (status, said, text) = import();
    assert_eq!(
        (status, said["new"].as_u64(), said["unchanged"].as_u64()),
        (Some(0), Some(0), Some(510)),
        "{text}"
    );
    let sql = format!("alter table \"{name}\".listed_origins drop column is_fork");
    schemas.client().await.batch_execute(&sql).await.unwrap();
    let (status, ..) = import();
    assert_ne!(status, Some(0), "what is no such database is refused");
    schemas.done().await;
}
