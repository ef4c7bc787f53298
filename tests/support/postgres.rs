//! A server for tests: `LAMPLIGHTER_TEST_PG` names one, as a URL. Each store gets a schema of its own.
#![allow(clippy::expect_used, reason = "a test may fail")]
#![allow(dead_code, reason = "each file of tests needs some of it")]

use std::sync::atomic::{AtomicUsize, Ordering};

use lamplighter::backend::postgres::{Pool, PostgresOptions, PostgresStore};

/// The server's URL; none, said aloud, where there is no server. In CI that is a failure.
pub(crate) fn url() -> Option<String> {
    let url = std::env::var("LAMPLIGHTER_TEST_PG").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var_os("CI").is_none(), "in CI, LAMPLIGHTER_TEST_PG must name a server");
        eprintln!("\n!! SKIPPED: LAMPLIGHTER_TEST_PG names no PostgreSQL server (scripts/test starts one)\n");
    }
    url
}

/// Schemas of one test, dropped at its end.
pub(crate) struct Schemas {
    pub(crate) url: String,
    made: AtomicUsize,
    pool: Pool,
    prefix: String,
}

impl Schemas {
    /// None where there is no server.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let url = url()?;
        let config = url.parse::<tokio_postgres::Config>().expect("LAMPLIGHTER_TEST_PG is a URL");
        let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
        let pool = Pool::builder(manager).max_size(16).build().expect("a pool");
        let prefix = format!("test_{}_{test}", std::process::id());
        Some(Self { url, made: AtomicUsize::new(0), pool, prefix })
    }

    /// A name that no other schema has.
    pub(crate) fn name(&self) -> String {
        format!("{}_{}", self.prefix, self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// The URL of a store in a schema.
    pub(crate) fn url_of(&self, schema: &str) -> String {
        let and = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{and}schema={schema}", self.url)
    }

    /// Options with a schema that no other store has.
    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresOptions::default().with_schema(self.name())
    }

    /// A store in a schema of its own.
    pub(crate) async fn fresh(&self) -> PostgresStore {
        self.open(self.options()).await
    }

    pub(crate) async fn open(&self, options: PostgresOptions) -> PostgresStore {
        PostgresStore::open(self.pool.clone(), options).await.expect("a store opens")
    }

    /// A connection of its own.
    pub(crate) async fn client(&self) -> deadpool_postgres::Client {
        self.pool.get().await.expect("a connection")
    }

    /// Drops all schemas.
    pub(crate) async fn done(self) {
        let client = self.client().await;
        for n in 0..self.made.load(Ordering::Relaxed) {
            let drop = format!("drop schema if exists \"{}_{n}\" cascade", self.prefix);
            client.batch_execute(&drop).await.expect("a schema is dropped");
        }
    }
}
