//! A look at a repository: `git ls-remote` over HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, header};
use url::Url;

use super::pkt::{Advertised, Refs, Unread, advertised, dumb, listed, ls_refs};
use super::{by_status, http_url, no_answer};
use crate::backend::Visit;
use crate::dispatch::{Visited, Worker, clean_text};
use crate::transport::{Body, Request, Response, Transport, place};

/// So much is read of a repository's references: over a million of them.
const MOST: u64 = 128 << 20;

const SERVICE: &str = "git-upload-pack";

/// Asks a repository for its references, as `git ls-remote` does, and takes them for its state.
///
/// One request to a server of an older protocol or of plain files, two in protocol version 2. The
/// snapshot is `refs:sha256:` and the SHA-256 of the lines `NAME OID`, in the order of names, of `HEAD`,
/// branches and tags; with `HEAD ref: NAME` where the server tells what it is a name for. (An archive's own
/// identifiers name what the objects are, which a server does not tell.) What was rewritten, and a tag
/// or branch that is gone, is a change like any other.
///
/// ```
/// use std::sync::Arc;
/// use lamplighter::dispatch::LsRemote;
/// use lamplighter::transport::{Http, HttpOptions};
/// let transport = Arc::new(Http::new(HttpOptions::new("ops@archive.example"))?);
/// // Also what merge requests point to.
/// let worker = LsRemote::new(transport).with_prefixes(["HEAD", "refs/"]);
/// # Ok::<(), lamplighter::transport::TransportError>(())
/// ```
#[derive(Clone)]
pub struct LsRemote {
    transport: Arc<dyn Transport>,
    prefixes: Vec<String>,
}

impl std::fmt::Debug for LsRemote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LsRemote").field("prefixes", &self.prefixes).finish_non_exhaustive()
    }
}

impl LsRemote {
    /// Asks over a transport, which sees to politeness and to addresses that may not be asked.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        let prefixes = ["HEAD", "refs/heads/", "refs/tags/"].map(str::to_owned).to_vec();
        Self { transport, prefixes }
    }

    /// Which references count, by the beginnings of their names; without any, all do.
    #[must_use]
    pub fn with_prefixes<P: Into<String>>(mut self, prefixes: impl IntoIterator<Item = P>) -> Self {
        self.prefixes = prefixes.into_iter().map(Into::into).collect();
        self
    }

    async fn refs(&self, visit: &Visit) -> Result<Refs, Visited> {
        let mut base = http_url(visit)?;
        base.set_query(None);
        base.set_fragment(None);
        let ask = below(&base, "info/refs", Some(SERVICE));
        let told = self.send(request(ask, Method::GET)).await?;
        let content_type = told.header(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        let is_smart = content_type == "application/x-git-upload-pack-advertisement";
        let body = bytes(&told.body).await?;
        if !is_smart {
            if !content_type.is_empty() && !content_type.starts_with("text/plain") {
                let what = clean_text(content_type);
                return Err(Visited::failed(format!("no repository of git is there: the answer is {what}")));
            }
            return dumb(&body, &self.prefixes).map_err(|e| unread(&told, &e));
        }
        match advertised(&body, &self.prefixes).map_err(|e| unread(&told, &e))? {
            Advertised::Refs(refs) => Ok(refs),
            Advertised::Ask { object_format } => {
                // Where a redirect led to, the repository is.
                let here = told.url.path().strip_suffix("/info/refs").unwrap_or(base.path()).to_owned();
                let mut base = told.url.clone();
                base.set_path(&here);
                let content_type = format!("application/x-{SERVICE}-request");
                let mut request = request(below(&base, SERVICE, None), Method::POST)
                    .with_header("content-type", &content_type);
                request.body = Some(ls_refs(object_format.as_deref(), &self.prefixes).into());
                let told = self.send(request).await?;
                let body = bytes(&told.body).await?;
                listed(&body, &self.prefixes).map_err(|e| unread(&told, &e))
            }
        }
    }

    async fn send(&self, request: Request) -> Result<Response, Visited> {
        let method = request.method.clone();
        let response = self.transport.send(request).await.map_err(|e| no_answer(&e))?;
        by_status(method.as_str(), &response).map_or(Ok(response), Err)
    }
}

#[async_trait]
impl Worker for LsRemote {
    async fn visit(&self, visit: &Visit) -> Visited {
        match self.refs(visit).await {
            Ok(refs) => Visited::successful().with_snapshot(refs.snapshot()),
            Err(visited) => visited,
        }
    }
}

fn request(url: Url, method: Method) -> Request {
    let mut request = Request::get(url).with_header("git-protocol", "version=2");
    request.method = method;
    request
}

fn below(base: &Url, path: &str, service: Option<&str>) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url.set_query(service.map(|s| format!("service={s}")).as_deref());
    url
}

async fn bytes(body: &Body) -> Result<bytes::Bytes, Visited> {
    if body.len() > MOST {
        return Err(Visited::failed(format!("{} bytes of references are too many", body.len())));
    }
    let body = body.clone();
    // What is spooled lies on a disk.
    let read = if body.is_spooled() {
        tokio::task::spawn_blocking(move || body.bytes()).await.unwrap_or_else(|e| Err(e.into()))
    } else {
        body.bytes()
    };
    read.map_err(|e| Visited::failed(format!("the answer cannot be read from its file: {e}")))
}

fn unread(told: &Response, e: &Unread) -> Visited {
    Visited::failed(format!("the answer of {} is no list of references: {e}", place(&told.url)))
}
