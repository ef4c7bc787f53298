//! What is known of each host while requests are on their way: its gate, and who may ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, OnceCell};
use url::Url;

use super::guard::Site;
use super::pool::Flight;
use super::request::Hop;
use super::{
    Auth, Clock, CredentialId, CredentialPool, Credentials, HostGate, PoliteOptions, Standing,
    TransportError, TransportErrorKind,
};
use crate::model::Timestamp;

/// One host.
pub(super) struct Host {
    pub(super) site: Site,
    pub(super) gate: Mutex<HostGate>,
    /// Tells those who wait that one left, or that an answer came.
    changed: Notify,
    /// For requests that say where a credential goes; none where there is no credential.
    credentials: Option<Mutex<CredentialPool>>,
    /// For all others.
    anonymous: Mutex<CredentialPool>,
    loaded: OnceCell<()>,
    /// What the limit store was told of each, so that it is told once.
    kept: Mutex<HashMap<Option<CredentialId>, Timestamp>>,
}

/// A place in a host's gate; given back when dropped, also when its request was cancelled.
struct Place(Arc<Host>);

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.0.gate).leave();
        self.0.changed.notify_waiters();
    }
}

/// A request that is on its way, so that its pool counts it; also when it is cancelled.
pub(super) struct Flying<'h> {
    host: &'h Host,
    pool: &'h Mutex<CredentialPool>,
    flight: Option<Flight>,
}

impl Flying<'_> {
    /// Tells the pool what came of it.
    pub(super) fn landed<R>(mut self, tell: impl FnOnce(&mut CredentialPool, Flight) -> R) -> Option<R> {
        let flight = self.flight.take()?;
        let told = tell(&mut lock(self.pool), flight);
        self.host.changed.notify_waiters();
        Some(told)
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            lock(self.pool).lost(flight);
            self.host.changed.notify_waiters();
        }
    }
}

impl Host {
    pub(super) fn pool(&self, auth: &Auth) -> &Mutex<CredentialPool> {
        match &self.credentials {
            Some(credentials) if *auth != Auth::None => credentials,
            _ => &self.anonymous,
        }
    }

    /// Waits while `wait` says so, asking it again whenever something changed.
    pub(super) async fn while_so(&self, mut wait: impl FnMut() -> bool) {
        loop {
            // Made before the question: what changes between the two is not missed.
            let changed = self.changed.notified();
            if !wait() {
                return;
            }
            changed.await;
        }
    }

    /// Takes off with a credential, if it may still go.
    pub(super) fn take_off<'h>(
        &'h self,
        pool: &'h Mutex<CredentialPool>,
        id: Option<CredentialId>,
        now: Timestamp,
    ) -> Option<Flying<'h>> {
        let mut waiting = lock(pool);
        let flight = waiting.is_open(id, now).then(|| waiting.sent(id))?;
        Some(Flying { host: self, pool, flight: Some(flight) })
    }
}

/// All hosts that were asked.
pub(super) struct Hosts {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) options: PoliteOptions,
    unrated: Vec<Site>,
    known: Mutex<HashMap<Site, Arc<Host>>>,
}

impl Hosts {
    pub(super) fn new(clock: Arc<dyn Clock>, credentials: Arc<Credentials>, options: PoliteOptions) -> Self {
        let unrated = options.bases.iter().filter_map(Site::of).filter(Site::is_loopback).collect();
        Self { clock, credentials, options, unrated, known: Mutex::default() }
    }

    pub(super) fn host(&self, url: &Url) -> Option<Arc<Host>> {
        let site = Site::of(url)?;
        let new = || {
            let unrated = self.unrated.contains(&site);
            let gate = if unrated { self.options.gate.with_per_second(None) } else { self.options.gate };
            let pool = |ids: Vec<_>| Mutex::new(CredentialPool::new(ids).with_reserve(self.options.reserve));
            let ids = self.credentials.for_url(url);
            Arc::new(Host {
                site: site.clone(),
                gate: Mutex::new(HostGate::new(gate)),
                changed: Notify::new(),
                credentials: (!ids.is_empty()).then(|| pool(ids)),
                anonymous: pool(Vec::new()),
                loaded: OnceCell::new(),
                kept: Mutex::default(),
            })
        };
        Some(Arc::clone(lock(&self.known).entry(site.clone()).or_insert_with(new)))
    }

    /// Goes through a host's gate, however long that takes.
    pub(super) async fn enter(self: &Arc<Self>, host: &Arc<Host>) -> Arc<Way> {
        host.while_so(|| !lock(&host.gate).enter()).await;
        let way = Arc::new(Way { hosts: Arc::clone(self), place: Mutex::new(Some(Place(Arc::clone(host)))) });
        while let Some(wait) = self.turn(host) {
            self.clock.sleep(wait).await;
        }
        way
    }

    fn turn(&self, host: &Host) -> Option<std::time::Duration> {
        lock(&host.gate).turn(self.clock.now())
    }

    /// Takes in what the limit store knows of a host, once.
    pub(super) async fn load(&self, host: &Host) {
        host.loaded.get_or_init(|| self.reload(host)).await;
    }

    /// Takes in what the limit store knows of a host by now: another process may have met a limit.
    pub(super) async fn reload(&self, host: &Host) {
        let Some(store) = &self.options.limits else { return };
        let standings = match store.standings(&host.site.to_string(), self.clock.now()).await {
            Ok(standings) => standings,
            // Without its memory it is as polite as a new process is.
            Err(error) => return tracing::warn!(host = %host.site, %error, "kept limits cannot be read"),
        };
        if standings.is_empty() {
            return;
        }
        for (pool, id) in self.lanes(host) {
            let identity = self.credentials.identity(id);
            for standing in standings.iter().filter(|s| s.identity == identity) {
                lock(&host.kept).insert(id, standing.state.closed_until);
                lock(pool).remember(id, standing.state);
            }
        }
    }

    /// Tells the limit store who is shut out by a host, where that is new.
    pub(super) async fn keep(&self, host: &Host) {
        let Some(store) = &self.options.limits else { return };
        let now = self.clock.now();
        let mut news = Vec::new();
        for (pool, _) in self.pools(host) {
            for (id, state) in lock(pool).closed(now) {
                if lock(&host.kept).insert(id, state.closed_until) != Some(state.closed_until) {
                    news.push(Standing::new(self.credentials.identity(id), state));
                }
            }
        }
        if news.is_empty() {
            return;
        }
        if let Err(error) = store.keep_standings(&host.site.to_string(), &news, now).await {
            tracing::warn!(host = %host.site, %error, "limits cannot be kept");
        }
    }

    fn pools<'h>(&self, host: &'h Host) -> Vec<(&'h Mutex<CredentialPool>, Vec<Option<CredentialId>>)> {
        let mut pools = vec![(&host.anonymous, vec![None])];
        if let Some(credentials) = &host.credentials {
            let ids = (0..self.credentials.len()).map(|n| Some(CredentialId(n))).collect();
            pools.push((credentials, ids));
        }
        pools
    }

    fn lanes<'h>(&self, host: &'h Host) -> Vec<(&'h Mutex<CredentialPool>, Option<CredentialId>)> {
        let pools = self.pools(host).into_iter();
        pools.flat_map(|(pool, ids)| ids.into_iter().map(move |id| (pool, id))).collect()
    }
}

/// Where a request is while redirects lead it on: in one host's gate at a time.
pub(super) struct Way {
    hosts: Arc<Hosts>,
    place: Mutex<Option<Place>>,
}

impl Way {
    /// Gives the place back.
    pub(super) fn end(&self) {
        drop(lock(&self.place).take());
    }
}

#[async_trait]
impl Hop for Way {
    async fn to(&self, url: &Url) -> Result<(), TransportError> {
        // The old place first: two that wait for each other's would wait for ever.
        self.end();
        let Some(host) = self.hosts.host(url) else { return Ok(()) };
        let blocked = lock(&host.gate).blocked_for(self.hosts.clock.now());
        if blocked > self.hosts.options.longest_wait {
            let context = format!("GET {}: a redirect leads there", super::request::place(url));
            return Err(TransportError::new(TransportErrorKind::Limited, context).with_wait(blocked));
        }
        let there = self.hosts.enter(&host).await;
        *lock(&self.place) = lock(&there.place).take();
        Ok(())
    }
}

/// A lock that a panic elsewhere does not take away: what it guards is whole between any two calls.
pub(super) fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
