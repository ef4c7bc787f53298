//! The layers between a driver and a forge: politeness around a client.

use std::sync::Arc;
use std::time::Duration;

use lamplighter::lister::{Built, Secret};
use lamplighter::transport::{
    Clock, Credentials, GateOptions, Http, HttpOptions, LimitStore, Polite, PoliteOptions, Transport,
};
use url::Url;

use crate::context::Context;
use crate::failure::{Failure, Result, chain};
use crate::list::real_time;
use crate::output::note;

/// How long is waited for a limit where waiting takes no time: more than any limit lasts.
const NO_TIME_AT_ALL: Duration = Duration::from_secs(365 * 86_400);

/// What a forge is told where nobody configured a contact.
const NO_CONTACT: &str = "no contact given";

/// A client for a lister's forge, with retries and limits around it.
pub(crate) fn polite(
    built: &Built,
    secrets: &[Secret],
    context: &Context,
    limits: Option<Arc<dyn LimitStore>>,
) -> Result<Arc<dyn Transport>> {
    Ok(around(http(built, secrets, context)?, built, secrets, context, limits))
}

/// A client for a lister's forge.
pub(crate) fn http(built: &Built, secrets: &[Secret], context: &Context) -> Result<Http> {
    let here = |url: &Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if context.config.contact.is_none() && !built.bases.iter().all(here) {
        note(
            "no contact is configured: a forge that wants something changed can only block you; set contact= in --config",
        );
    }
    made(options(&built.bases, context)?.with_credentials(credentials(built, secrets)))
}

/// A client that asks a server on loopback in the place of a lister's forge.
pub(crate) fn loopback(built: &Built, secrets: &[Secret], server: &Url, context: &Context) -> Result<Http> {
    let hosts = || built.bases.iter().chain([server]);
    let credentials = secrets.iter().fold(Credentials::new(), |all, s| all.with(s.clone(), hosts()));
    made(options(&built.bases, context)?.with_bases(hosts().cloned()).with_credentials(Arc::new(credentials)))
}

/// A client for visits of what listers list, with retries and limits around it, and no secrets.
pub(crate) fn for_visits(bases: Vec<Url>, context: &Context) -> Result<Arc<dyn Transport>> {
    let http = made(options(&bases, context)?)?;
    let options = PoliteOptions::default().with_bases(bases);
    Ok(Arc::new(Polite::new(http, real_time(), Arc::new(Credentials::new()), options)))
}

/// A client without credentials, retries or limits, for the host of a URL that a person gave.
pub(crate) fn plain(url: &Url, context: &Context) -> Result<Http> {
    made(options(std::slice::from_ref(url), context)?)
}

fn options(bases: &[Url], context: &Context) -> Result<HttpOptions> {
    let options = HttpOptions::new(context.config.contact.as_deref().unwrap_or(NO_CONTACT))
        .with_private_allowed(context.config.allow_private)
        .with_bases(bases.iter().cloned())
        .with_clock(real_time());
    context.config.root_certificates.iter().try_fold(options, |options, path| {
        let pem = std::fs::read(path).map_err(|e| {
            Failure::usage(format!("the root certificate {} cannot be read: {e}", path.display()))
        })?;
        Ok(options.with_root_certificate(pem))
    })
}

fn made(options: HttpOptions) -> Result<Http> {
    Http::new(options).map_err(|e| Failure::usage(format!("the HTTP client cannot be made: {}", chain(&e))))
}

/// Retries, limits and the choice of a credential around a client. The waits are real ones,
/// whatever `--now` says: a forge's limits hold in its own time.
pub(crate) fn around(
    client: impl Transport + 'static,
    built: &Built,
    secrets: &[Secret],
    context: &Context,
    limits: Option<Arc<dyn LimitStore>>,
) -> Arc<dyn Transport> {
    let mut options =
        PoliteOptions::default().with_bases(built.bases.iter().cloned()).with_reserve(context.config.reserve);
    options.limits = limits;
    Arc::new(Polite::new(client, real_time(), credentials(built, secrets), options))
}

/// As [`around`], on another clock. Where nobody is asked, nobody has to be spared: only what the
/// answers say is waited for.
pub(crate) fn around_on(
    client: impl Transport + 'static,
    built: &Built,
    secrets: &[Secret],
    clock: Arc<dyn Clock>,
) -> Arc<dyn Transport> {
    let options = PoliteOptions::default()
        .with_bases(built.bases.iter().cloned())
        .with_gate(GateOptions::default().with_per_second(None))
        .with_longest_wait(NO_TIME_AT_ALL);
    Arc::new(Polite::new(client, clock, credentials(built, secrets), options))
}

/// The secrets of a lister, for the hosts that its configuration names and no others.
fn credentials(built: &Built, secrets: &[Secret]) -> Arc<Credentials> {
    Arc::new(secrets.iter().fold(Credentials::new(), |all, s| all.with(s.clone(), &built.bases)))
}
