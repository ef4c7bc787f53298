//! A look at a file: `HEAD`, and what it says of the state.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, header};
use sha2::{Digest, Sha256};

use super::{by_status, http_url, no_answer};
use crate::backend::Visit;
use crate::dispatch::{Visited, Worker};
use crate::model::{Timestamp, hex};
use crate::transport::{Request, Response, Transport};

/// Asks for the headers of a file, and takes `ETag`, or `Last-Modified` and the length, for its state.
///
/// A file of which neither is told is visited, and is no evidence of change or its absence.
///
/// ```
/// use std::sync::Arc;
/// use lamplighter::backend::Visit;
/// use lamplighter::dispatch::{FileHead, Worker};
/// # use lamplighter::model::Timestamp;
/// # use lamplighter::transport::{Body, Request, Response, Transport, TransportError};
/// # struct Server;
/// # #[async_trait::async_trait]
/// # impl Transport for Server {
/// #     async fn send(&self, r: Request) -> Result<Response, TransportError> {
/// #         Ok(Response::new(200, r.url, Body::from(""), Timestamp::EPOCH).with_header("etag", "\"1\""))
/// #     }
/// # }
/// # async fn look(visit: &Visit) {
/// let visited = FileHead::new(Arc::new(Server)).visit(visit).await;
/// assert!(visited.snapshot.is_some_and(|s| s.starts_with("file:sha256:")));
/// # }
/// ```
#[derive(Clone)]
pub struct FileHead {
    transport: Arc<dyn Transport>,
}

impl std::fmt::Debug for FileHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileHead").finish_non_exhaustive()
    }
}

impl FileHead {
    /// Asks over a transport, which sees to politeness and to addresses that may not be asked.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }
}

#[async_trait]
impl Worker for FileHead {
    async fn visit(&self, visit: &Visit) -> Visited {
        let url = match http_url(visit) {
            Ok(url) => url,
            Err(visited) => return visited,
        };
        let mut request = Request::get(url);
        request.method = Method::HEAD;
        match self.transport.send(request).await {
            Err(e) => no_answer(&e),
            Ok(response) => by_status("HEAD", &response).unwrap_or_else(|| read(&response)),
        }
    }
}

fn read(response: &Response) -> Visited {
    let mut visited = Visited::successful();
    let modified = response.header(header::LAST_MODIFIED.as_str());
    let length = response.header(header::CONTENT_LENGTH.as_str()).unwrap_or_default();
    let state = match (response.headers.get(header::ETAG), modified) {
        (Some(etag), _) => Some([b"etag ", etag.as_bytes()].concat()),
        (None, Some(modified)) => Some(format!("modified {modified} length {length}").into_bytes()),
        (None, None) => None,
    };
    if let Some(state) = state {
        visited = visited.with_snapshot(format!("file:sha256:{}", hex(&Sha256::digest(state))));
    }
    if let Some(modified) = modified.and_then(|text| httpdate::parse_http_date(text).ok()) {
        let since_epoch = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        visited = visited.with_changed_at(Timestamp::EPOCH.plus(since_epoch));
    }
    visited
}
