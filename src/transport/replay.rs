//! A client that answers from a recording.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::{Method, header};
use url::Url;

use super::exchange::without_user;
use super::matching::{Fit, Shelf};
use super::{
    Answer, Answered, Clock, Exchange, Request, Response, Transport, TransportError, TransportErrorKind,
};

/// As many as clients commonly follow.
const MAX_REDIRECTS: usize = 10;

/// A request that a [`Replay`] was asked, and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayedRequest {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: Url,
    /// How well the recorded exchange fitted.
    pub answer: Fit,
}

/// A client that answers from recorded exchanges. It stands where the HTTP client does, so that
/// retries and limits run in a replay as they do on the network.
///
/// A request gets the first recorded answer that fits:
///
/// - **exact**: the same method and URL (scheme and host in lower case, the query as a multiset)
///   and the same body (a form as a multiset, JSON as a value, XML-RPC by method and parameters);
///   the field that [`Request::auth`] names for a secret is left out of both;
/// - **similar**: the same method, host and path, and the same position, said by the parameters of
///   [`Replay::with_positions`];
/// - else there is a [`TransportErrorKind::NotRecorded`] that names the nearest requests.
///
/// Answers recorded several times for one request are given in order, and the last one again and
/// again. A 304 is given only to a request with `If-None-Match` or `If-Modified-Since`, and then it
/// is preferred. A recorded redirect is followed where its target is recorded too.
///
/// ```
/// # use std::sync::Arc;
/// # use lamplighter::model::Timestamp;
/// use lamplighter::transport::{Answer, Exchange, Fit, Replay, Request, Transport};
/// # struct At0;
/// # #[async_trait::async_trait]
/// # impl lamplighter::transport::Clock for At0 {
/// #     fn now(&self) -> Timestamp { Timestamp::EPOCH }
/// #     async fn sleep(&self, _: std::time::Duration) {}
/// # }
/// # let clock = Arc::new(At0);
/// # futures::executor::block_on(async {
/// let recorded = Exchange::get("https://h.example/r?page=2&size=100".parse()?, Answer::new(200, "[]"));
/// let replay = Replay::new([recorded], clock).with_positions(&["page"]);
/// let response = replay.send(Request::get("https://h.example/r?page=2&size=50".parse()?)).await?;
/// assert_eq!(response.status, 200);
/// assert_eq!(replay.log()[0].answer, Fit::Similar);
/// assert!(replay.send(Request::get("https://h.example/r?page=3".parse()?)).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Replay {
    inner: Mutex<Inner>,
    clock: Arc<dyn Clock>,
}

struct Inner {
    shelf: Shelf,
    log: Vec<ReplayedRequest>,
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("asked", &self.log().len()).field("unused", &self.unused()).finish()
    }
}

impl Replay {
    /// Answers from these exchanges, in their order. The clock tells when an answer came whose
    /// recording does not say so.
    #[must_use]
    pub fn new(exchanges: impl IntoIterator<Item = Exchange>, clock: Arc<dyn Clock>) -> Self {
        Self { inner: Mutex::new(Inner { shelf: Shelf::new(exchanges), log: Vec::new() }), clock }
    }

    /// Gives the query or form fields by which the lister says where it is
    /// (`Entry::positions`). Without them every query of a path is similar to every other.
    #[must_use]
    pub fn with_positions(self, positions: &[&str]) -> Self {
        self.lock().shelf.set_positions(positions);
        self
    }

    /// What was asked so far, in order. A redirect that was followed counts as a request of its own.
    #[must_use]
    pub fn log(&self) -> Vec<ReplayedRequest> {
        self.lock().log.clone()
    }

    /// How many recorded exchanges were never given.
    #[must_use]
    pub fn unused(&self) -> usize {
        self.lock().shelf.unused()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Nothing is left half done by a panic while the lock is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut request: Request) -> Result<Response, TransportError> {
        let mut inner = self.lock();
        let Some(mut answer) = inner.take(&request)? else { return Err(inner.not_recorded(&request)) };
        for _ in 0..=MAX_REDIRECTS {
            // A redirect whose target is not recorded was not followed then: it is the answer.
            let followed = match redirected(&request, &answer) {
                Some(next) => inner.take(&next)?.map(|answer| (next, answer)),
                None => None,
            };
            let Some(followed) = followed else { return Ok(self.response(&request, answer)) };
            (request, answer) = followed;
        }
        Err(TransportError::new(TransportErrorKind::Redirect, request.place()))
    }

    fn response(&self, request: &Request, answer: Answer) -> Response {
        let url = answer.url.unwrap_or_else(|| request.url.clone());
        let received_at = answer.received_at.unwrap_or_else(|| self.clock.now());
        let mut response = Response::new(answer.status.as_u16(), url, answer.body, received_at);
        response.headers = answer.headers;
        response
    }
}

impl Inner {
    /// The recorded answer or error; `None` where nothing fits, which is not logged.
    fn take(&mut self, request: &Request) -> Result<Option<Answer>, TransportError> {
        let Some((fit, exchange)) = self.shelf.take(request) else { return Ok(None) };
        let answered = exchange.answered.clone();
        self.note(request, fit);
        match answered {
            Answered::Answer(answer) => Ok(Some(answer)),
            Answered::Error(kind) => {
                Err(TransportError::new(kind, format!("{} (as recorded)", request.place())))
            }
        }
    }

    fn note(&mut self, request: &Request, answer: Fit) {
        self.log.push(ReplayedRequest {
            method: request.method.clone(),
            url: without_user(&request.url),
            answer,
        });
    }

    fn not_recorded(&mut self, request: &Request) -> TransportError {
        self.note(request, Fit::None);
        let nearest = self.shelf.nearest(request);
        let hint = if nearest.is_empty() {
            "nothing of this host is recorded".to_owned()
        } else {
            format!("nearest: {}", nearest.join(", "))
        };
        TransportError::new(TransportErrorKind::NotRecorded, format!("{} ({hint})", request.place()))
    }
}

/// The request to which an answer redirects, as clients follow it.
fn redirected(request: &Request, answer: &Answer) -> Option<Request> {
    let status = answer.status.as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.headers.get(header::LOCATION)?.to_str().ok()?;
    let mut next = request.clone();
    next.url = request.url.join(location).ok()?;
    let becomes_get = match status {
        303 => request.method != Method::HEAD,
        301 | 302 => request.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        next.method = Method::GET;
        next.body = None;
    }
    Some(next)
}

#[async_trait]
impl Transport for Replay {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        self.answer(request)
    }
}
