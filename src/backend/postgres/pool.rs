//! Connections.

use std::str::FromStr;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{Client, Config, NoTls};

use super::PostgresOptions;
use crate::backend::{BackendError, BackendErrorKind, Result};

/// A pool of connections to the server of a URL, and what else the URL says. Its errors never repeat
/// the URL: a password may be in it.
pub(super) fn of_url(url: &str, mut options: PostgresOptions) -> Result<(Pool, PostgresOptions)> {
    let refused = |what: &str| BackendError::new(BackendErrorKind::Unavailable, what);
    let not_one = "the store's URL is not one: postgres://user@host:5432/database";
    let mut server = url::Url::parse(url).map_err(|_| refused(not_one))?;
    let all: Vec<(String, String)> = server.query_pairs().into_owned().collect();
    // The one that is ours; the rest is the client's.
    if let Some((_, schema)) = all.iter().find(|(name, _)| name == "schema") {
        options.schema.clone_from(schema);
        let rest: Vec<_> = all.iter().filter(|(name, _)| name != "schema").collect();
        server.set_query(None);
        if !rest.is_empty() {
            server.query_pairs_mut().extend_pairs(rest);
        }
    }
    let mut config = Config::from_str(server.as_str()).map_err(|_| refused(not_one))?;
    if config.get_application_name().is_none() {
        config.application_name("lamplighter");
    }
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, NoTls, recycling);
    let pool = Pool::builder(manager)
        .max_size(options.connections.max(1))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| refused("no pool of connections").with_source(e))?;
    Ok((pool, options))
}

/// One connection of its own.
pub(in crate::backend) async fn connect(
    config: &Config,
) -> std::result::Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Whoever asks something of the client is told.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection has ended");
        }
    });
    Ok(client)
}
