//! Why there was no answer.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// What went wrong between a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// No connection: refused, no such host, TLS. Retried.
    Connect,
    /// A time limit ran out. Retried.
    Timeout,
    /// The answer broke off, or its framing was wrong. Retried.
    Body,
    /// The answer is larger than the limit for bodies. Not retried.
    TooLarge,
    /// Too many redirects, or one that may not be followed. Not retried.
    Redirect,
    /// The address may not be asked: upstream data led to a private or loopback one. Not retried.
    Forbidden,
    /// A bot wall answered in the place of the forge: a page that wants a browser to prove itself.
    /// Not retried.
    Challenge,
    /// The answer is encoded in a way that nobody asked for. Not retried.
    Encoding,
    /// The forge's limit holds for longer than one is willing to wait. Not retried.
    Limited,
    /// The request itself cannot be sent: a broken URL or header. Not retried.
    Request,
    /// A replay holds no answer to it. Not retried.
    NotRecorded,
    /// Anything else. Not retried.
    Other,
}

/// There was no whole answer. Says where (host and path, never a query or a secret) and why.
pub struct TransportError {
    kind: TransportErrorKind,
    context: String,
    wait: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// An error of a kind, with what was being done.
    pub fn new(kind: TransportErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), wait: None, source: None }
    }

    /// Adds what caused it. Must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says after how long it is worth another try.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }

    /// After how long it is worth another try, where that is known.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Whether the same request may work when sent again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use TransportErrorKind as K;
        matches!(self.kind, K::Connect | K::Timeout | K::Body)
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            TransportErrorKind::Connect => "no connection",
            TransportErrorKind::Timeout => "timed out",
            TransportErrorKind::Body => "the answer broke off",
            TransportErrorKind::TooLarge => "the answer is too large",
            TransportErrorKind::Redirect => "a redirect that may not be followed",
            TransportErrorKind::Forbidden => "an address that may not be asked",
            TransportErrorKind::Challenge => "a bot wall, not the forge",
            TransportErrorKind::Encoding => "an encoding that was not asked for",
            TransportErrorKind::Limited => "the forge's limit is spent",
            TransportErrorKind::Request => "a request that cannot be sent",
            TransportErrorKind::NotRecorded => "not recorded",
            TransportErrorKind::Other => "no answer",
        };
        if self.context.is_empty() { f.write_str(what) } else { write!(f, "{what}: {}", self.context) }
    }
}

impl fmt::Debug for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportError")
            .field("kind", &self.kind)
            .field("context", &self.context)
            .field("wait", &self.wait)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}
