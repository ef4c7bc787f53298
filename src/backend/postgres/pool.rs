//! Connections.

use std::str::FromStr;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{Config, NoTls};

use crate::backend::{BackendError, BackendErrorKind, Result};

/// A pool of connections to the server of a URL. Its errors never repeat the URL: a password may be in
/// it.
pub(super) fn of_url(url: &str, connections: usize) -> Result<Pool> {
    let refused = |what: &str| BackendError::new(BackendErrorKind::Unavailable, what);
    let mut config = Config::from_str(url)
        .map_err(|_| refused("the store's URL is not one: postgres://user@host:5432/database"))?;
    if config.get_application_name().is_none() {
        config.application_name("lamplighter");
    }
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, NoTls, recycling);
    Pool::builder(manager)
        .max_size(connections.max(1))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| refused("no pool of connections").with_source(e))
}
