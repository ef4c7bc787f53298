//! Ready-made workers: cheap visits that only look, so that change is detected without an archive.

mod file;
mod git;
mod pkt;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;

pub use file::FileHead;
pub use git::LsRemote;

use super::{Visited, Worker};
use crate::backend::Visit;
use crate::driver::chain;
use crate::model::VisitType;
use crate::transport::{Response, TransportError, place};

/// A worker for each visit type. A visit of a type without one fails, and says so.
///
/// ```
/// use std::sync::Arc;
/// use lamplighter::dispatch::{ByType, LsRemote};
/// use lamplighter::model::VisitType;
/// # fn workers(transport: Arc<dyn lamplighter::transport::Transport>) -> ByType {
/// ByType::new().with(VisitType::git(), Arc::new(LsRemote::new(transport)))
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ByType(BTreeMap<VisitType, Arc<dyn Worker>>);

impl std::fmt::Debug for ByType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ByType").field(&self.0.keys()).finish()
    }
}

impl ByType {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a worker for a type.
    #[must_use]
    pub fn with(mut self, visit_type: VisitType, worker: Arc<dyn Worker>) -> Self {
        self.0.insert(visit_type, worker);
        self
    }
}

#[async_trait]
impl Worker for ByType {
    async fn visit(&self, visit: &Visit) -> Visited {
        match self.0.get(&visit.visit_type) {
            Some(worker) => worker.visit(visit).await,
            None => Visited::failed(format!("there is no worker for visits of type {}", visit.visit_type)),
        }
    }
}

/// The URL of a visit, where it is one of HTTP.
fn http_url(visit: &Visit) -> Result<url::Url, Visited> {
    match url::Url::parse(&visit.url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Ok(url) => Err(Visited::failed(format!("only http and https are visited, not {}", url.scheme()))),
        Err(e) => Err(Visited::failed(format!("the origin's URL cannot be read: {e}"))),
    }
}

/// There was no answer.
fn no_answer(e: &TransportError) -> Visited {
    Visited::failed(chain(e))
}

/// What a status says; none where it is a success.
fn by_status(method: &str, response: &Response) -> Option<Visited> {
    let status = response.status;
    let place = place(&response.url);
    match status {
        status if status.is_success() => None,
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Some(Visited::not_found(format!("{method} {place} was answered with {status}")))
        }
        // Forges ask for a password where there is nothing, so as not to tell what is private.
        StatusCode::UNAUTHORIZED => Some(Visited::not_found(format!(
            "{method} {place} was answered with {status}: it is not there, or not for everybody"
        ))),
        status => Some(Visited::failed(format!("{method} {place} was answered with {status}"))),
    }
}
