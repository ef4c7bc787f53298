//! From a request to an answer: the seam, and what is put around it.
//!
//! A [`Transport`] answers one [`Request`] with one [`Response`]; a status is an answer, not an
//! error. Layers are transports around a transport: a `Recording` (feature `driver`) keeps what a client was answered, and
//! [`Replay`] is a client that answers from it. Shells only sleep on the [`Clock`].
//!
//! # How to implement a client
//!
//! One method. Follow redirects (await [`Request::before_redirect`] before each) and give the URL
//! that answered; put the secret named by [`Request::credential`] in last; give an error only where
//! there was no answer.
//!
//! ```
//! use lamplighter::transport::{Body, Request, Response, Transport, TransportError};
//! use lamplighter::model::Timestamp;
//!
//! /// Answers everything with an empty list.
//! #[derive(Debug)]
//! struct Nothing;
//!
//! #[async_trait::async_trait]
//! impl Transport for Nothing {
//!     async fn send(&self, request: Request) -> Result<Response, TransportError> {
//!         Ok(Response::new(200, request.url, Body::from("[]"), Timestamp::EPOCH))
//!     }
//! }
//! ```

mod base64;
mod body;
mod challenge;
mod clock;
mod credentials;
mod error;
mod exchange;
mod gate;
mod guard;
#[cfg(feature = "driver")]
mod hosts;
#[cfg(feature = "reqwest")]
mod http;
#[cfg(feature = "reqwest")]
mod http_options;
mod identity;
mod limit;
#[cfg(feature = "driver")]
mod manifest;
mod matching;
#[cfg(feature = "driver")]
mod polite;
mod pool;
#[cfg(feature = "driver")]
mod recording;
mod replay;
mod request;
#[cfg(feature = "reqwest")]
mod resolve;
mod response;
mod retry;
#[cfg(feature = "driver")]
mod scrub;
#[cfg(feature = "reqwest")]
mod spool;
mod standings;
#[cfg(feature = "driver")]
mod system_clock;
#[cfg(feature = "tls")]
mod tls;

use async_trait::async_trait;

#[cfg(feature = "reqwest")]
pub use self::http::Http;
pub use body::{Body, BodyReader};
pub use challenge::challenge;
pub use clock::Clock;
pub use credentials::{Credentials, Secret};
pub use error::{TransportError, TransportErrorKind};
#[cfg(feature = "testing")]
pub(crate) use exchange::header_value;
pub use exchange::{Answer, Answered, Exchange};
pub use gate::{GateOptions, HostGate};
#[cfg(feature = "reqwest")]
pub use http_options::HttpOptions;
pub use identity::Identity;
pub use limit::{Limit, LimitKind, classify};
#[cfg(feature = "testing")]
pub(crate) use manifest::{MANIFEST_FORM, MANIFEST_NAME, Manifest, ManifestExchange, error_kind};
pub use matching::Fit;
#[cfg(feature = "testing")]
pub(crate) use matching::Shelf;
#[cfg(feature = "driver")]
pub use polite::{Polite, PoliteOptions};
pub use pool::{Choice, CredentialPool, Flight, LaneState};
#[cfg(feature = "driver")]
pub use recording::{RecordedRun, Recording, RecordingError, RecordingInfo};
pub use replay::{Replay, ReplayedRequest};
#[cfg(feature = "dispatch")]
pub(crate) use request::place;
pub use request::{Auth, Condition, CredentialId, Provenance, Request};
pub use response::Response;
pub use retry::{RetryOptions, RetryPlan};
pub use standings::{LimitStore, Standing};
#[cfg(feature = "driver")]
pub use system_clock::SystemClock;

/// Answers requests. See the [module](self) for how to implement one.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a request and waits for its answer, whatever its status.
    ///
    /// # Errors
    /// A [`TransportError`] where there was no whole answer: see [`TransportErrorKind`] for each.
    async fn send(&self, request: Request) -> Result<Response, TransportError>;

    /// How many requests were sent so far, retries among them; zero where nobody counts.
    fn attempts(&self) -> u64 {
        0
    }
}

#[async_trait]
impl<T: Transport + ?Sized> Transport for std::sync::Arc<T> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        (**self).send(request).await
    }

    fn attempts(&self) -> u64 {
        (**self).attempts()
    }
}

#[async_trait]
impl<T: Transport + ?Sized> Transport for Box<T> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        (**self).send(request).await
    }

    fn attempts(&self) -> u64 {
        (**self).attempts()
    }
}
