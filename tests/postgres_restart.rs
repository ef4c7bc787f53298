//! A server that is stopped without warning and started again while its store is worked on.
//!
//! `LAMPLIGHTER_TEST_PG_RESTART` is the command that does it (`scripts/test` gives it, where the server is
//! its own), `LAMPLIGHTER_RESTARTS` how often (4). Alone in its file: nothing else may use the server.
#![cfg(all(feature = "postgres", feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "support/disturbed.rs"]
mod disturbed;
#[path = "support/postgres.rs"]
mod server;

use std::time::Duration;

use lamplighter::backend::postgres::PostgresStore;
use server::Schemas;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_loses_nothing_that_was_told_to_be_kept() {
    let Some(schemas) = Schemas::new("restart") else { return };
    let Ok(restart) = std::env::var("LAMPLIGHTER_TEST_PG_RESTART") else {
        eprintln!("\n!! SKIPPED: LAMPLIGHTER_TEST_PG_RESTART does not say how to restart the server\n");
        return;
    };
    let restarts: u32 = std::env::var("LAMPLIGHTER_RESTARTS").map_or(4, |n| n.parse().unwrap());
    // The tests' server forgets what it was told last at a crash, unless it is asked not to.
    let options = schemas.options().with_connections(2);
    let fresh = || format!("{}&options=-c%20synchronous_commit%3Don", schemas.url_of(&schemas.name()));
    let restarting = tokio::task::spawn_blocking(move || {
        for n in 0..restarts {
            std::thread::sleep(Duration::from_millis(60 + u64::from(n) * 37 % 200));
            let done = std::process::Command::new("sh").args(["-c", &restart]).status().unwrap();
            assert!(done.success(), "{restart}");
        }
    });
    loop {
        let url = fresh();
        let mut tried = 0;
        let store = loop {
            match PostgresStore::connect(&url, options.clone()).await {
                Ok(store) => break store,
                // A server that never comes back is no restart.
                Err(e) => assert!(e.is_retryable() && tried < 50_000, "{e}"),
            }
            tried += 1;
        };
        disturbed::lists_all_the_same(&store).await;
        disturbed::visits_all_the_same(&store).await;
        if restarting.is_finished() {
            break;
        }
    }
    restarting.await.unwrap();
    eprintln!("\nrestarts: {restarts}, and nothing lost");
    schemas.done().await;
}
