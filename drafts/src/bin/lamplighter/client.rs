//! The layers between a driver and a forge: politeness around a client.

use std::sync::Arc;

use lamplighter::lister::{Built, Secret};
use lamplighter::transport::{Clock, Credentials, Http, HttpOptions, Polite, PoliteOptions, Transport};
use url::Url;

use crate::context::Context;
use crate::failure::{Failure, Result, chain};
use crate::list::real_time;

/// A client for a lister's forge, with retries and limits around it.
pub(crate) fn polite(built: &Built, secrets: &[Secret], context: &Context) -> Result<Arc<dyn Transport>> {
    Ok(around(http(built, secrets, context)?, built, secrets, real_time()))
}

/// A client for a lister's forge.
pub(crate) fn http(built: &Built, secrets: &[Secret], context: &Context) -> Result<Http> {
    made(options(built, context), credentials(built, secrets))
}

/// A client that may ask a server on loopback in the place of a lister's forge.
pub(crate) fn loopback(built: &Built, secrets: &[Secret], server: Url, context: &Context) -> Result<Http> {
    let mut options = options(built, context);
    options.configured.push(server.clone());
    let mut hosts = built.bases.clone();
    hosts.push(server);
    made(options, Credentials::new(secrets.to_vec(), hosts))
}

fn options(built: &Built, context: &Context) -> HttpOptions {
    let mut options = HttpOptions::default();
    options.contact.clone_from(&context.config.contact);
    options.allow_private = context.config.allow_private;
    options.configured.clone_from(&built.bases);
    options
}

fn made(options: HttpOptions, credentials: Credentials) -> Result<Http> {
    Http::new(options, credentials, real_time())
        .map_err(|e| Failure::usage(format!("the HTTP client cannot be made: {}", chain(&e))))
}

/// Retries, limits and the choice of a credential around a client.
pub(crate) fn around(
    client: impl Transport + 'static,
    built: &Built,
    secrets: &[Secret],
    clock: Arc<dyn Clock>,
) -> Arc<dyn Transport> {
    let mut options = PoliteOptions::default();
    options.configured.clone_from(&built.bases);
    Arc::new(Polite::new(client, credentials(built, secrets), options, clock))
}

/// The secrets of a lister, for the hosts that its configuration names and no others.
fn credentials(built: &Built, secrets: &[Secret]) -> Credentials {
    Credentials::new(secrets.to_vec(), built.bases.clone())
}
