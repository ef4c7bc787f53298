//! One request and what was answered: the unit of recordings, as data. No clock, no network.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Body, TransportErrorKind};
use crate::model::{JsonObject, Timestamp};

/// The form of the manifests that this version writes and reads.
pub(crate) const MANIFEST_FORM: u32 = 1;

/// The name of a manifest in its folder.
pub(crate) const MANIFEST_NAME: &str = "fixture.json";

/// An answer as it was recorded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, without those that carry secrets.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// The URL that answered, where a redirect led to another one than the one asked.
    pub url: Option<Url>,
    /// When it was received, where that was kept.
    pub received_at: Option<Timestamp>,
}

impl Answer {
    /// An answer without headers. A status out of range becomes 500.
    pub fn new(status: u16, body: impl Into<Body>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: HeaderMap::new(),
            body: body.into(),
            url: None,
            received_at: None,
        }
    }

    /// Adds a header; one that cannot be sent is left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Some(value)) = (HeaderName::try_from(name), header_value(value)) {
            self.headers.append(name, value);
        }
        self
    }
}

/// What a request led to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Answered {
    /// An answer, whatever its status.
    Answer(Answer),
    /// No answer.
    Error(TransportErrorKind),
}

/// One request and what it led to. Holds no secret.
///
/// ```
/// use lamplighter::transport::{Answer, Exchange};
/// let url = "https://forge.example/api/projects?page=2".parse()?;
/// let exchange = Exchange::get(url, Answer::new(200, "[]").with_header("etag", "\"1\""));
/// assert_eq!(exchange.method, http::Method::GET);
/// # Ok::<(), url::ParseError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exchange {
    /// The method.
    pub method: Method,
    /// The URL asked.
    pub url: Url,
    /// The body sent.
    pub request_body: Option<Bytes>,
    /// What came of it.
    pub answered: Answered,
}

impl Exchange {
    /// An exchange of any method.
    #[must_use]
    pub fn new(method: Method, url: Url, request_body: Option<Bytes>, answered: Answered) -> Self {
        Self { method, url, request_body, answered }
    }

    /// A GET and its answer.
    #[must_use]
    pub fn get(url: Url, answer: Answer) -> Self {
        Self::new(Method::GET, url, None, Answered::Answer(answer))
    }

    /// A POST and its answer.
    pub fn post(url: Url, body: impl Into<Bytes>, answer: Answer) -> Self {
        Self::new(Method::POST, url, Some(body.into()), Answered::Answer(answer))
    }

    /// A GET that had no answer.
    #[must_use]
    pub fn failed(url: Url, kind: TransportErrorKind) -> Self {
        Self::new(Method::GET, url, None, Answered::Error(kind))
    }
}

/// The manifest of a fixture folder: everything but the bodies of answers, which are files beside
/// it, so that a change of a fixture can be read in a diff.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) form: u32,
    pub(crate) lister: String,
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) arguments: JsonObject,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) credentials: usize,
    pub(crate) runs: Vec<ManifestRun>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestRun {
    pub(crate) at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_pages: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) about: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state_before: Option<JsonObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origins: Option<String>,
    pub(crate) exchanges: Vec<ManifestExchange>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestExchange {
    pub(crate) method: String,
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answered_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) received: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

const ERROR_NAMES: [(TransportErrorKind, &str); 9] = [
    (TransportErrorKind::Connect, "connect"),
    (TransportErrorKind::Timeout, "timeout"),
    (TransportErrorKind::Body, "body"),
    (TransportErrorKind::TooLarge, "too_large"),
    (TransportErrorKind::Redirect, "redirect"),
    (TransportErrorKind::Forbidden, "forbidden"),
    (TransportErrorKind::Limited, "limited"),
    (TransportErrorKind::Request, "request"),
    (TransportErrorKind::Other, "other"),
];

/// The name of a kind in a manifest. What a replay did not know is no fact about a forge: `None`.
pub(crate) fn error_name(kind: TransportErrorKind) -> Option<&'static str> {
    ERROR_NAMES.iter().find(|(k, _)| *k == kind).map(|(_, name)| *name)
}

/// The kind that a manifest names.
pub(crate) fn error_kind(name: &str) -> Option<TransportErrorKind> {
    ERROR_NAMES.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
}

/// A header's value as text. Bytes that are no ASCII stand for themselves (Latin-1), so that every
/// value can be written down and read back.
pub(crate) fn header_text(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

/// The header value of a text: its Latin-1 bytes, or its UTF-8 where it has none.
pub(crate) fn header_value(text: &str) -> Option<HeaderValue> {
    let latin: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    HeaderValue::from_bytes(&latin.unwrap_or_else(|| text.as_bytes().to_vec())).ok()
}

/// The URL without user name and password.
pub(crate) fn without_user(url: &Url) -> Url {
    let mut url = url.clone();
    // These fail only for URLs that cannot have either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_survive_as_text() {
        for bytes in [&b"plain"[..], b"caf\xe9", b"<https://h/?a=b>; rel=\"next\""] {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            assert_eq!(header_value(&header_text(&value)).unwrap(), value);
        }
        assert_eq!(header_value("\u{4e2d}").unwrap().as_bytes(), "\u{4e2d}".as_bytes());
        assert!(header_value("two\nlines").is_none());
    }

    #[test]
    fn only_what_a_forge_did_has_a_name() {
        assert_eq!(error_name(TransportErrorKind::NotRecorded), None);
        for (kind, name) in ERROR_NAMES {
            assert_eq!(error_kind(name), Some(kind));
            assert_eq!(error_name(kind), Some(name));
        }
    }

    #[test]
    fn user_information_is_dropped() {
        let url = Url::parse("https://user:word@h.example/p?q=1").unwrap();
        assert_eq!(without_user(&url).as_str(), "https://h.example/p?q=1");
    }
}
