//! Connections that count turns: how often something was sent after an answer had come. What is read
//! while something is being sent is no answer: to a long question's end its beginning's is none. For
//! tests with one thread: only there is all sent that is there to send.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{Client, Config, Error, NoTls, config::Host};

/// Counts the turns of all connections of a pool.
#[derive(Clone, Default)]
pub(crate) struct Counting(Arc<(AtomicU64, AtomicBool)>);

impl Counting {
    /// Turns so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.0.load(Ordering::SeqCst)
    }

    /// A pool of one connection.
    pub(crate) fn pool(&self, url: &str) -> Pool {
        let config: Config = url.parse().expect("a URL");
        let manager = Manager::from_connect(config, self.clone(), ManagerConfig::default());
        Pool::builder(manager).max_size(1).build().expect("a pool")
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct Counted {
    inner: Box<dyn Stream>,
    counting: Counting,
    sending: bool,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, to);
        if !self.sending && to.filled().len() > before {
            self.counting.0.1.store(true, Ordering::SeqCst);
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.counting.0.1.swap(false, Ordering::SeqCst) {
            self.counting.0.0.fetch_add(1, Ordering::SeqCst);
        }
        self.sending = true;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.sending &= flushed.is_pending();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

type Connected = Result<(Client, tokio::task::JoinHandle<()>), Error>;

impl Connect for Counting {
    fn connect(&self, config: &Config) -> Pin<Box<dyn Future<Output = Connected> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            let port = config.get_ports().first().copied().unwrap_or(5432);
            let stream: Box<dyn Stream> = match config.get_hosts().first().expect("a host") {
                Host::Tcp(host) => {
                    Box::new(tokio::net::TcpStream::connect((host.as_str(), port)).await.expect("a server"))
                }
                Host::Unix(folder) => {
                    let socket = folder.join(format!(".s.PGSQL.{port}"));
                    Box::new(tokio::net::UnixStream::connect(socket).await.expect("a server"))
                }
            };
            let stream = Counted { inner: stream, counting: self.clone(), sending: false };
            let (client, connection) = config.connect_raw(stream, NoTls).await?;
            Ok((client, tokio::spawn(async move { connection.await.expect("a connection") })))
        })
    }
}
