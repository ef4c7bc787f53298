//! What a forge answered.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use url::Url;

use super::{Body, CredentialId, Identity};
use crate::model::Timestamp;

/// One answer: status, headers, the URL that gave it, when it came, and its body. What reads it
/// (`json`, `text`, `link`) is in [`crate::lister`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The URL that answered, after redirects.
    pub url: Url,
    /// When it was received, by the driver's clock; kept in recordings.
    pub received_at: Timestamp,
    /// The body, without any content encoding of the transfer.
    pub body: Body,
    /// With which credential it was asked for; none where it was asked for without, or where a
    /// redirect led to another host.
    pub credential: Option<CredentialId>,
    /// To whom it was given, where the request may be validated: see [`Request::validate`](super::Request::validate).
    pub identity: Identity,
}

impl Response {
    /// An answer without headers. A status out of range becomes 500.
    #[must_use]
    pub fn new(status: u16, url: Url, body: Body, received_at: Timestamp) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: HeaderMap::new(),
            url,
            received_at,
            body,
            credential: None,
            identity: Identity::anonymous(),
        }
    }

    /// Adds a header; one that cannot be sent is left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            self.headers.append(name, value);
        }
        self
    }

    /// The first value of a header, where it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}
