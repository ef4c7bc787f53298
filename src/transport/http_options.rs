//! How the client behaves.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::{Clock, Credentials, SystemClock};

/// Options of [`Http`](super::Http).
///
/// ```
/// use std::time::Duration;
/// use lamplighter::transport::HttpOptions;
/// let options = HttpOptions::new("ops@archive.example").with_total(Duration::from_secs(60));
/// assert!(options.user_agent().starts_with("lamplighter/"));
/// assert!(options.user_agent().ends_with(" (ops@archive.example)"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Whom a forge can turn to: a mail address or a page. Goes into `User-Agent`.
    pub contact: String,
    /// How long a connection may take. 30 s.
    pub connect: Duration,
    /// How long nothing may come. 30 s.
    pub idle: Duration,
    /// How long an answer may take in all, redirects included. 10 min.
    pub total: Duration,
    /// The largest body. 2 GiB.
    pub max_body: u64,
    /// The largest body that is kept in memory; a larger one goes to a temporary file. 8 MiB.
    pub spool_over: u64,
    /// How large the headers of an answer may be. 64 KiB.
    pub max_header_bytes: usize,
    /// How long a URL may be. 16 KiB.
    pub max_url: usize,
    /// How many redirects are followed. 10.
    pub max_redirects: usize,
    /// Whether upstream data may lead to loopback, private and link-local addresses. No.
    pub allow_private: bool,
    /// URLs that the configuration names: their host and port may be private.
    pub bases: Vec<Url>,
    /// The secrets.
    pub credentials: Arc<Credentials>,
    /// What tells when an answer was received.
    pub clock: Arc<dyn Clock>,
    /// Hosts whose addresses are not looked up. They are guarded like those that are.
    pub hosts: HashMap<String, Vec<IpAddr>>,
    /// Root certificates that are trusted besides the system's, as PEM texts.
    #[cfg(feature = "tls")]
    pub roots: Vec<Vec<u8>>,
}

impl HttpOptions {
    /// The defaults, with a contact.
    pub fn new(contact: impl Into<String>) -> Self {
        Self {
            contact: contact.into(),
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
            max_body: 2 << 30,
            spool_over: 8 << 20,
            max_header_bytes: 64 << 10,
            max_url: 16 << 10,
            max_redirects: 10,
            allow_private: false,
            bases: Vec::new(),
            credentials: Arc::default(),
            clock: Arc::new(SystemClock),
            hosts: HashMap::new(),
            #[cfg(feature = "tls")]
            roots: Vec::new(),
        }
    }

    /// `lamplighter/VERSION (CONTACT)`.
    #[must_use]
    pub fn user_agent(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        match self.contact.trim() {
            "" => format!("lamplighter/{version}"),
            contact => format!("lamplighter/{version} ({contact})"),
        }
    }

    /// Sets how long a connection may take, and how long nothing may come.
    #[must_use]
    pub fn with_idle(mut self, connect: Duration, idle: Duration) -> Self {
        self.connect = connect;
        self.idle = idle;
        self
    }

    /// Sets how long an answer may take in all.
    #[must_use]
    pub fn with_total(mut self, total: Duration) -> Self {
        self.total = total;
        self
    }

    /// Sets from which size on a body is kept in a file, and which size is refused.
    #[must_use]
    pub fn with_body(mut self, spool_over: u64, max_body: u64) -> Self {
        self.spool_over = spool_over;
        self.max_body = max_body;
        self
    }

    /// Sets how large the headers of an answer may be.
    #[must_use]
    pub fn with_max_header_bytes(mut self, max: usize) -> Self {
        self.max_header_bytes = max;
        self
    }

    /// Sets how long a URL may be.
    #[must_use]
    pub fn with_max_url(mut self, max: usize) -> Self {
        self.max_url = max;
        self
    }

    /// Trusts another root certificate (or several) besides the system's: that of a forge with a
    /// certificate authority of its own. [`Http::new`](super::Http::new) refuses what is no PEM.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Sets how many redirects are followed.
    #[must_use]
    pub fn with_max_redirects(mut self, max: usize) -> Self {
        self.max_redirects = max;
        self
    }

    /// Lets upstream data lead to loopback, private and link-local addresses.
    #[must_use]
    pub fn with_private_allowed(mut self, allowed: bool) -> Self {
        self.allow_private = allowed;
        self
    }

    /// Adds URLs that the configuration names.
    #[must_use]
    pub fn with_bases(mut self, bases: impl IntoIterator<Item = Url>) -> Self {
        self.bases.extend(bases);
        self
    }

    /// Sets the secrets.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Arc<Credentials>) -> Self {
        self.credentials = credentials;
        self
    }

    /// Sets what tells when an answer was received.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Fixes the addresses of a host, as a line of `/etc/hosts` does.
    #[must_use]
    pub fn with_host(mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.hosts.entry(name.to_ascii_lowercase()).or_default().extend(addresses);
        self
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A configured URL may hold a secret in its query.
        let bases: Vec<_> = self.bases.iter().map(super::request::place).collect();
        f.debug_struct("HttpOptions")
            .field("contact", &self.contact)
            .field("connect", &self.connect)
            .field("idle", &self.idle)
            .field("total", &self.total)
            .field("max_body", &self.max_body)
            .field("spool_over", &self.spool_over)
            .field("max_header_bytes", &self.max_header_bytes)
            .field("max_url", &self.max_url)
            .field("max_redirects", &self.max_redirects)
            .field("allow_private", &self.allow_private)
            .field("bases", &bases)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
