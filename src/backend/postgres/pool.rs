//! Connections.

use std::str::FromStr;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{Client, Config, NoTls};

use super::PostgresOptions;
use crate::backend::{BackendError, BackendErrorKind, Result};

/// A pool of connections to the server of a URL, and what else the URL says. Its errors never repeat
/// the URL: a password may be in it.
pub(super) fn of_url(url: &str, mut options: PostgresOptions) -> Result<(Pool, PostgresOptions)> {
    let (config, schema) = config_of(url)?;
    if let Some(schema) = schema {
        options.schema = schema;
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

fn refused(what: &str) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, what)
}

/// What the client is told, and the schema where the URL names one.
fn config_of(url: &str) -> Result<(Config, Option<String>)> {
    let not_one = "the store's URL is not one: postgres://user@host:5432/database";
    let mut server = url::Url::parse(url).map_err(|_| refused(not_one))?;
    // The one that is ours; the rest is the client's, as it stands: to it a + is no space.
    let schema = server.query_pairs().find(|(name, _)| name == "schema").map(|(_, s)| s.into_owned());
    if schema.is_some() {
        let all = server.query().unwrap_or_default().split('&');
        let rest: Vec<&str> = all.filter(|pair| !pair.starts_with("schema=")).collect();
        let rest = rest.join("&");
        server.set_query(Some(rest.as_str()).filter(|rest| !rest.is_empty()));
    }
    let mut config = Config::from_str(server.as_str()).map_err(|_| refused(not_one))?;
    if config.get_application_name().is_none() {
        config.application_name("lamplighter");
    }
    Ok((config, schema))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_ours_and_the_rest_of_the_url_is_the_clients_as_it_stands() {
        let url = "postgres://me@localhost/archive?options=-c%20synchronous_commit%3Don&schema=crawler&connect_timeout=3";
        let (pool, options) = of_url(url, PostgresOptions::default()).unwrap();
        assert_eq!(options.schema, "crawler");
        drop(pool);
        let (_, options) = of_url("postgres://me@localhost/archive", PostgresOptions::default()).unwrap();
        assert_eq!(options.schema, "lamplighter");
        let config = config_of(url).unwrap().0;
        assert_eq!(config.get_options(), Some("-c synchronous_commit=on"));
        assert_eq!(config.get_connect_timeout(), Some(&std::time::Duration::from_secs(3)));
    }
}
