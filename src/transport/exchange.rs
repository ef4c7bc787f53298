//! One request and what was answered: the unit of recordings, as data. No clock, no network.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::Url;

use super::{Body, TransportErrorKind};
use crate::model::Timestamp;

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
#[expect(clippy::large_enum_variant, reason = "nearly every exchange is an answer")]
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

/// The header value of a text: its Latin-1 bytes, or its UTF-8 where it has none. Every value can be
/// written as such a text.
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
    fn user_information_is_dropped() {
        let url = Url::parse("https://user:word@h.example/p?q=1").unwrap();
        assert_eq!(without_user(&url).as_str(), "https://h.example/p?q=1");
    }
}
