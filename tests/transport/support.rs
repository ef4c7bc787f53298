//! A clock that jumps, a forge in memory, and servers that do what no HTTP library would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Auth, Clock, Request, Response, Transport, TransportError};
use url::Url;

pub(crate) fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// Each way in which a secret goes with a request.
pub(crate) fn every_auth() -> [Auth; 5] {
    [Auth::bearer(), Auth::Basic, Auth::Header("private-token"), Auth::Form("token"), Auth::Query("token")]
}

/// A clock whose sleeps take no time, but are remembered.
pub(crate) struct TestClock {
    now: Mutex<Timestamp>,
    sleeps: Mutex<Vec<Duration>>,
}

/// 2026-01-01T00:00:00Z.
pub(crate) const START: i64 = 1_767_225_600;

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(Timestamp::from_seconds(START)), sleeps: Mutex::default() })
    }

    /// Seconds since the test began, rounded down.
    pub(crate) fn elapsed(&self) -> i64 {
        self.now().as_seconds() - START
    }

    pub(crate) fn sleeps(&self) -> Vec<Duration> {
        self.sleeps.lock().unwrap().clone()
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        {
            let mut now = self.now.lock().unwrap();
            *now = now.plus(duration);
            self.sleeps.lock().unwrap().push(duration);
        }
        tokio::task::yield_now().await;
    }
}

/// A clock that stands still until it is told otherwise: who sleeps is seen sleeping.
pub(crate) struct HeldClock(Mutex<Timestamp>);

impl HeldClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Timestamp::from_seconds(START))))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus(Duration::from_secs(seconds));
    }
}

#[async_trait]
impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        let end = self.now().plus(duration);
        while self.now() < end {
            tokio::task::yield_now().await;
        }
    }
}

type Answer = dyn Fn(&Request, usize) -> Result<Response, TransportError> + Send + Sync;

/// A forge in memory: answers by a function of the request and of how many came before it.
pub(crate) struct Forge {
    answer: Box<Answer>,
    pub(crate) seen: Mutex<Vec<Request>>,
}

impl Forge {
    pub(crate) fn new(
        answer: impl Fn(&Request, usize) -> Result<Response, TransportError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { answer: Box::new(answer), seen: Mutex::default() })
    }

    /// Which credentials were used, in order.
    pub(crate) fn credentials(&self) -> Vec<Option<usize>> {
        self.seen.lock().unwrap().iter().map(|r| r.credential.map(|id| id.0)).collect()
    }
}

#[async_trait]
impl Transport for Forge {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let before = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        assert!(before < 1000, "asked for ever");
        (self.answer)(&request, before)
    }
}

/// An answer of a forge in memory.
pub(crate) fn answer(request: &Request, status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let mut response =
        Response::new(status, request.url.clone(), body.to_owned().into(), Timestamp::from_seconds(START));
    for (name, value) in headers {
        response = response.with_header(name, value);
    }
    response
}

/// What a raw server does with a connection whose request it has read.
pub(crate) enum Reply {
    /// Writes these bytes and closes.
    Bytes(Vec<u8>),
    /// Writes these bytes and waits for another request on the same connection.
    Stay(Vec<u8>),
    /// Writes these bytes and then says nothing more, without closing.
    Hang(Vec<u8>),
    #[cfg(feature = "testing")]
    /// Writes these bytes, then those one by one with a pause after each, and closes.
    Drip(Vec<u8>, Vec<u8>),
}

/// A server of bytes, each connection in a thread of its own.
pub(crate) struct RawServer {
    pub(crate) base: Url,
    log: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl RawServer {
    /// Answers by a function of the request's text and of how many came before it.
    pub(crate) fn start(reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = url(&format!("http://{}/", listener.local_addr().unwrap()));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (reply, kept) = (Arc::new(reply), Arc::clone(&log));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let (reply, kept) = (Arc::clone(&reply), Arc::clone(&kept));
                std::thread::spawn(move || serve(stream, &*reply, &kept));
            }
        });
        Self { base, log, connections }
    }

    /// Answers always the same.
    pub(crate) fn always(status: &'static str, headers: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let whole = http(status, headers, &body.into());
        Self::start(move |_, _| Reply::Bytes(whole.clone()))
    }

    /// The requests it got, as texts.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn at(&self, path: &str) -> Url {
        self.base.join(path).unwrap()
    }
}

fn serve(mut stream: TcpStream, reply: &dyn Fn(&str, usize) -> Reply, log: &Mutex<Vec<String>>) {
    while let Some(request) = read_request(&mut stream) {
        let before = {
            let mut log = log.lock().unwrap();
            log.push(request.clone());
            log.len() - 1
        };
        match reply(&request, before) {
            Reply::Bytes(bytes) => {
                let _ = stream.write_all(&bytes);
                return;
            }
            Reply::Stay(bytes) => {
                let _ = stream.write_all(&bytes);
            }
            #[cfg(feature = "testing")]
            Reply::Drip(head, bytes) => {
                let _ = stream.write_all(&head);
                for byte in bytes {
                    std::thread::sleep(Duration::from_millis(1));
                    if stream.write_all(&[byte]).is_err() {
                        return;
                    }
                }
                return;
            }
            Reply::Hang(bytes) => {
                let _ = stream.write_all(&bytes);
                // Until the client has gone.
                let _ = stream.read(&mut [0]);
                return;
            }
        }
    }
}

fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let mut some = [0; 4096];
        let n = stream.read(&mut some).ok().filter(|n| *n > 0)?;
        request.extend_from_slice(&some[..n]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned))
                .map_or(0, |n| n.trim().parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
    }
}

/// A whole answer with its length; `headers` are lines that end in `\r\n`.
pub(crate) fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Whatever prints as a secret must not be in any of these.
pub(crate) fn assert_hidden(secrets: &[&str], printed: &str) {
    for secret in secrets {
        assert!(!printed.contains(secret), "{secret:?} in {printed}");
    }
}
