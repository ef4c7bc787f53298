//! A real HTTP server on the loopback interface.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use url::Url;

/// A request as the server got it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoopbackRequest {
    /// Which of the server's bases was asked: always 0 but for [`Loopback::of_exchanges`].
    pub base: usize,
    /// The method.
    pub method: Method,
    /// Path and query, as sent.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub struct LoopbackAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    end: End,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    CutAfter(usize),
    Closed,
    Never,
}

impl LoopbackAnswer {
    /// An answer without headers besides its length. A status out of range becomes 500.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: HeaderMap::new(),
            body: body.into(),
            end: End::Whole,
        }
    }

    /// 200 with a JSON body.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self::new(200, value.to_string()).with_header("content-type", "application/json")
    }

    /// Adds a header; one that cannot be sent is left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            self.headers.append(name, value);
        }
        self
    }

    /// Announces the whole body, sends its first bytes and closes the connection. Of more bytes than
    /// a socket holds, fewer may arrive.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.end = End::CutAfter(bytes);
        self
    }

    /// Closes the connection without an answer.
    #[must_use]
    pub fn close() -> Self {
        Self { end: End::Closed, ..Self::new(500, "") }
    }

    /// Never answers; the connection stays open until the server stops.
    #[must_use]
    pub fn never() -> Self {
        Self { end: End::Never, ..Self::new(500, "") }
    }

    pub(super) fn of_parts(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        Self { status, headers, body, end: End::Whole }
    }
}

pub(super) type Handler = Arc<dyn Fn(&LoopbackRequest) -> LoopbackAnswer + Send + Sync>;

/// A real HTTP/1.1 server on `127.0.0.1`, on a thread of its own. It stops when it is dropped.
///
/// ```
/// use std::io::{Read, Write};
/// use lamplighter::testing::{Loopback, LoopbackAnswer};
///
/// let server = Loopback::start(|request| match request.target.as_str() {
///     "/repos?page=1" => LoopbackAnswer::json(&serde_json::json!(["a"])),
///     _ => LoopbackAnswer::new(404, ""),
/// })?;
/// let mut socket = std::net::TcpStream::connect(server.address())?;
/// write!(socket, "GET /repos?page=1 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")?;
/// let mut answer = String::new();
/// socket.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(r#"["a"]"#));
/// assert_eq!(server.log()[0].target, "/repos?page=1");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Loopback {
    address: SocketAddr,
    /// Its first base, and all of them.
    base: Url,
    pub(super) bases: Vec<Url>,
    /// What each base stands for, where exchanges are served.
    pub(super) stands_for: Vec<Url>,
    log: Arc<Mutex<Vec<LoopbackRequest>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loopback").field("bases", &self.bases).finish_non_exhaustive()
    }
}

impl Loopback {
    /// Starts a server; the handler answers every request and must not wait for long.
    ///
    /// # Errors
    /// When the system gives no port or no thread.
    pub fn start<F>(handler: F) -> io::Result<Self>
    where
        F: Fn(&LoopbackRequest) -> LoopbackAnswer + Send + Sync + 'static,
    {
        Self::serve(listen(1)?, Arc::new(handler))
    }

    /// Serves on listeners that are bound already, so that their ports are known to the handler.
    pub(super) fn serve(listeners: Vec<std::net::TcpListener>, handler: Handler) -> io::Result<Self> {
        let bases = listeners.iter().map(base_of).collect::<io::Result<Vec<Url>>>()?;
        let (Some(first), Some(base)) = (listeners.first(), bases.first().cloned()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let address = first.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel();
        let kept = Arc::clone(&log);
        let listeners: Vec<TcpListener> = {
            let _entered = runtime.enter();
            listeners.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?
        };
        let thread = std::thread::Builder::new().name("loopback".to_owned()).spawn(move || {
            runtime.block_on(async move {
                for (base, listener) in listeners.into_iter().enumerate() {
                    tokio::spawn(accept(base, listener, Arc::clone(&handler), Arc::clone(&kept)));
                }
                // The sender going away stops it as well.
                let _ = stopped.await;
            });
        })?;
        Ok(Self { address, base, bases, stands_for: Vec::new(), log, stop: Some(stop), thread: Some(thread) })
    }

    /// The address of its first base.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL on its first base. A path that cannot be one gives the base.
    ///
    /// ```
    /// # use lamplighter::testing::{Loopback, LoopbackAnswer};
    /// let server = Loopback::start(|_| LoopbackAnswer::new(200, ""))?;
    /// assert_eq!(server.url("/a?b=1").query(), Some("b=1"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    /// What was asked so far, in the order in which it came.
    #[must_use]
    pub fn log(&self) -> Vec<LoopbackRequest> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A handler that panicked has already failed its connection.
            let _ = thread.join();
        }
    }
}

/// Free ports of the loopback interface.
pub(super) fn listen(count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    (0..count)
        .map(|_| {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
        .collect()
}

/// `http://127.0.0.1:PORT/`.
pub(super) fn base_of(listener: &std::net::TcpListener) -> io::Result<Url> {
    Url::parse(&format!("http://{}/", listener.local_addr()?)).map_err(io::Error::other)
}

async fn accept(base: usize, listener: TcpListener, handler: Handler, log: Arc<Mutex<Vec<LoopbackRequest>>>) {
    loop {
        // The peer may be gone before it is accepted: the next one is served.
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
        tokio::spawn(async move {
            let service = service_fn(|request| answer(base, request, &handler, &log));
            // How a connection ends is the client's to see.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>;
type Sent = Either<Full<Bytes>, StreamBody<Pieces>>;

async fn answer(
    base: usize,
    request: hyper::Request<Incoming>,
    handler: &Handler,
    log: &Mutex<Vec<LoopbackRequest>>,
) -> Result<hyper::Response<Sent>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let target = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let asked = LoopbackRequest { base, method: parts.method, target, headers: parts.headers, body };
    log.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    let answer = handler(&asked);
    let broken = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let body: Sent = match answer.end {
        End::Never => {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
        End::Closed => return Err(broken()),
        End::Whole => Either::Left(Full::new(answer.body.clone())),
        End::CutAfter(bytes) => {
            let head = answer.body.slice(..bytes.min(answer.body.len()));
            let pieces = stream::once(std::future::ready(Ok(Frame::data(head))));
            // What was sent so far goes out while the body waits, and is lost with an error at once.
            let end = stream::once(async move {
                tokio::task::yield_now().await;
                Err(broken())
            });
            Either::Right(StreamBody::new(Box::pin(pieces.chain(end))))
        }
    };
    let mut response = hyper::Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    let has_body = !answer.status.is_informational()
        && !matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_body {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
    }
    Ok(response)
}
