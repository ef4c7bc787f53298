//! Visits over HTTP, so that workers in any language can take part.
//!
//! `docs/openapi.json` describes what can be asked, and is answered at `/openapi.json`. A worker claims,
//! keeps its visits alive, and hands in their outcomes; `examples/worker.py` is one in thirty lines.
//!
//! # What holds
//!
//! - Every request but `/healthz`, `/openapi.json` and webhooks needs a bearer token. Tokens are compared
//!   in constant time.
//! - A visit's token is signed for the one who claimed it: nobody else can complete the visit, or keep it
//!   alive, with it.
//! - A webhook of GitHub, GitLab, Gitea or Forgejo is taken where its signature (GitLab: its token) is
//!   right, and once.
//! - Bodies are bounded in size and time, requests in number, connections too.
//! - Nothing but loopback is listened on unless [`ApiOptions::remote`] says so.

mod access;
mod forms;
mod hooks;
mod problem;
mod replays;
mod routes;
mod serve;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;

pub use forms::{change, explanation, origin, prometheus, visit};
pub use hooks::{HookKind, HookSecret};
pub use serve::{ServeError, Serving};

use crate::backend::SchedulerBackend;
use crate::transport::Clock;
use access::Rates;
use replays::Replays;

/// Who may ask.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiToken {
    /// What it is called in leases, requests and logs.
    pub name: String,
    /// The token.
    pub secret: SecretString,
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiToken").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ApiToken {
    /// A token, and what it is called.
    pub fn new(name: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        Self { name: name.into(), secret: secret.into() }
    }
}

/// How the interface behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApiOptions {
    /// Who may ask. Without any, nobody may.
    pub tokens: Vec<ApiToken>,
    /// Whose webhooks are believed.
    pub hooks: Vec<HookSecret>,
    /// Whether other addresses than loopback may be listened on. Put something that speaks TLS before it.
    pub remote: bool,
    /// The largest body. 8 MiB.
    pub max_body: usize,
    /// How long the head or the body of a request may take to come. 10 s each.
    pub time: Duration,
    /// Requests a second for each token, and for each address without one. 50, with bursts of 200.
    pub per_second: f64,
    /// Connections at a time. 512.
    pub connections: usize,
    /// What a visit's lease may last. A day.
    pub longest_lease: Duration,
    /// How many visits may be claimed at once. 1,000.
    pub most_visits: usize,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            hooks: Vec::new(),
            remote: false,
            max_body: 8 << 20,
            time: Duration::from_secs(10),
            per_second: 50.0,
            connections: 512,
            longest_lease: Duration::from_secs(86_400),
            most_visits: 1000,
        }
    }
}

impl ApiOptions {
    /// Adds one who may ask.
    #[must_use]
    pub fn with_token(mut self, token: ApiToken) -> Self {
        self.tokens.push(token);
        self
    }

    /// Adds one whose webhooks are believed.
    #[must_use]
    pub fn with_hook(mut self, hook: HookSecret) -> Self {
        self.hooks.push(hook);
        self
    }

    /// Whether other addresses than loopback may be listened on.
    #[must_use]
    pub fn with_remote(mut self, remote: bool) -> Self {
        self.remote = remote;
        self
    }

    /// The largest body, and how long head and body may take.
    #[must_use]
    pub fn with_body(mut self, max_body: usize, time: Duration) -> Self {
        (self.max_body, self.time) = (max_body, time);
        self
    }

    /// Requests a second for each token, and for each address without one.
    #[must_use]
    pub fn with_per_second(mut self, requests: f64) -> Self {
        self.per_second = requests;
        self
    }
}

/// The interface over a store.
///
/// ```
/// use std::sync::Arc;
/// use lamplighter::backend::MemoryStore;
/// use lamplighter::dispatch::http::{Api, ApiOptions, ApiToken};
/// use lamplighter::driver::StopHandle;
/// use lamplighter::transport::SystemClock;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let options = ApiOptions::default().with_token(ApiToken::new("worker-1", "a long random text"));
/// let api = Api::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock), options);
/// let stop = StopHandle::default();
/// let serving = api.listen("127.0.0.1:0".parse().unwrap()).await?;
/// println!("listening on {}", serving.address());
/// stop.stop();
/// serving.run(stop).await;
/// # Ok::<(), lamplighter::dispatch::http::ServeError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    store: Arc<dyn SchedulerBackend>,
    clock: Arc<dyn Clock>,
    options: ApiOptions,
    rates: Mutex<Rates>,
    replays: Mutex<Replays>,
    more_metrics: Vec<Box<dyn Fn() -> String + Send + Sync>>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Api {
    /// The interface over a store.
    pub fn new(store: Arc<dyn SchedulerBackend>, clock: Arc<dyn Clock>, options: ApiOptions) -> Self {
        Self::with_metrics(store, clock, options, Vec::new())
    }

    /// With more texts behind those of `/metrics`, in the form that Prometheus reads.
    pub fn with_metrics(
        store: Arc<dyn SchedulerBackend>,
        clock: Arc<dyn Clock>,
        options: ApiOptions,
        more_metrics: Vec<Box<dyn Fn() -> String + Send + Sync>>,
    ) -> Self {
        let rates = Mutex::new(Rates::new(options.per_second));
        let replays = Mutex::default();
        Self { shared: Arc::new(Shared { store, clock, options, rates, replays, more_metrics }) }
    }
}
