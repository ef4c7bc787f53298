//! Connections: how many, how slow, and when they end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::Api;
use super::routes::{Peer, router};
use crate::driver::StopHandle;

/// How long is waited for requests under way when it stops.
const LAST_REQUESTS: Duration = Duration::from_secs(30);

/// Why the interface does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is no loopback one, and nobody said that it may be another.
    #[error(
        "{0} is not on the loopback interface: allow other addresses, and put something that speaks TLS before it"
    )]
    Remote(SocketAddr),
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A bound interface.
#[derive(Debug)]
pub struct Serving {
    api: Api,
    listener: TcpListener,
    address: SocketAddr,
}

impl Api {
    /// Listens on an address.
    ///
    /// # Errors
    /// [`ServeError::Remote`] for one that is not loopback, unless that is allowed;
    /// [`ServeError::Listen`] where the system refuses.
    pub async fn listen(&self, address: SocketAddr) -> Result<Serving, ServeError> {
        if !address.ip().is_loopback() && !self.shared.options.remote {
            return Err(ServeError::Remote(address));
        }
        let failed = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Serving { api: self.clone(), listener, address })
    }
}

impl Serving {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is stopped; requests under way then are still answered.
    pub async fn run(self, stop: StopHandle) {
        let options = &self.api.shared.options;
        let places = Arc::new(Semaphore::new(options.connections.max(1)));
        let router = router(Arc::clone(&self.api.shared));
        let graceful = GracefulShutdown::new();
        let time = options.time;
        loop {
            let accepted = async {
                // It is never closed. Whoever finds no place waits in the system's queue.
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, socket) = tokio::select! {
                () = stop.stopped() => break,
                accepted = accepted => accepted,
            };
            let (socket, peer) = match socket {
                Ok(accepted) => accepted,
                Err(e) => {
                    // Too many files are open, or the peer is gone: neither is worth an end.
                    tracing::warn!(error = %e, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let router = router.clone();
            let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(Peer(peer.ip()));
                let mut router = router.clone();
                async move { router.call(request.map(axum::body::Body::new)).await }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(time)
                .serve_connection(TokioIo::new(socket), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                // How a connection ends is the client's to see.
                let _ = connection.await;
                drop(place);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests under way were broken off");
        }
    }
}
