//! A forge in memory and a lister of it, for tests of the driver.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::unnecessary_literal_bound,
    clippy::unnecessary_wraps,
    reason = "each test file uses its own part, and may fail"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore, PageToken};
use lamplighter::driver::Driver;
use lamplighter::lister::{Incremental, Lister, ListerError, Page, RunInfo, query_param};
use lamplighter::model::{NewOrigin, Timestamp, VisitType};
use lamplighter::testing::VirtualClock;
use lamplighter::transport::{Body, Request, Response, Transport, TransportError};
use serde::{Deserialize, Serialize};
use url::Url;

pub(crate) fn start() -> Timestamp {
    Timestamp::parse("2026-01-01T00:00:00Z").unwrap()
}

/// A chain of pages by id, as GitHub's: `?since=N` answers the repositories after N and the next
/// `since`.
#[derive(Debug, Clone)]
pub(crate) struct Chain;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChainPage {
    pub(crate) repos: Vec<u64>,
    pub(crate) next: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ChainState {
    #[serde(default)]
    pub(crate) last: u64,
}

pub(crate) fn repo_url(id: u64) -> String {
    format!("https://forge.example/r/{id}.git")
}

impl Lister for Chain {
    type Cursor = u64;

    fn name(&self) -> &'static str {
        "chain"
    }

    fn instance(&self) -> &str {
        "forge.example"
    }

    fn start(&self, _: &RunInfo) -> Vec<u64> {
        vec![0]
    }

    fn request(&self, at: &u64) -> Result<Request, ListerError> {
        let url = Url::parse(&format!("https://forge.example/repos?since={at}")).unwrap();
        Ok(Request::get(url))
    }

    fn page(&self, _: &u64, response: Response, page: &mut Page<u64>) -> Result<(), ListerError> {
        let answer: ChainPage = response.json()?;
        for id in &answer.repos {
            page.origin(NewOrigin::new(repo_url(*id), VisitType::git()).with_forge_id(id))?;
        }
        if let Some(last) = answer.repos.last() {
            page.mark(&ChainState { last: *last });
        }
        if let Some(next) = answer.next {
            page.next(next);
        }
        Ok(())
    }
}

impl Incremental for Chain {
    type State = ChainState;

    fn resume(&self, state: &ChainState, _: &RunInfo) -> Vec<u64> {
        vec![state.last]
    }

    fn join(&self, ours: ChainState, stored: ChainState) -> ChainState {
        ChainState { last: ours.last.max(stored.last) }
    }
}

/// Pages of `per_page` repositories with the ids `1..=n`.
pub(crate) fn chain_pages(n: u64, per_page: u64) -> BTreeMap<u64, ChainPage> {
    let mut pages = BTreeMap::new();
    let mut since = 0;
    loop {
        let last = (since + per_page).min(n);
        let more = last < n;
        pages.insert(since, ChainPage { repos: (since + 1..=last).collect(), next: more.then_some(last) });
        if !more {
            return pages;
        }
        since = last;
    }
}

pub(crate) fn since(request: &Request) -> u64 {
    query_param(&request.url, "since").and_then(|s| s.parse().ok()).unwrap()
}

pub(crate) fn answer(
    request: &Request,
    status: u16,
    body: impl Into<Body>,
) -> Result<Response, TransportError> {
    Ok(Response::new(status, request.url.clone(), body.into(), start()))
}

/// What the forge with these pages answers.
pub(crate) fn serve(pages: &BTreeMap<u64, ChainPage>, request: &Request) -> Result<Response, TransportError> {
    match pages.get(&since(request)) {
        Some(page) => answer(request, 200, serde_json::to_string(page).unwrap()),
        // Past the end there is nothing new.
        None => answer(request, 200, r#"{"repos":[],"next":null}"#),
    }
}

pub(crate) fn driver(store: &Arc<MemoryStore>, transport: impl Transport + 'static) -> Driver {
    Driver::new(Arc::clone(store) as _, Arc::new(transport), Arc::new(VirtualClock::new(start())))
}

/// The URLs of all listed origins, gone ones too, in order.
pub(crate) async fn urls(store: &dyn OriginStore) -> Vec<String> {
    let mut urls = Vec::new();
    let mut after: Option<PageToken> = None;
    loop {
        let page = store.origins(&OriginQuery::everything(), after, 100).await.unwrap();
        urls.extend(page.origins.into_iter().map(|(_, o)| o.url));
        after = page.next;
        if after.is_none() {
            urls.sort();
            return urls;
        }
    }
}

pub(crate) fn expected_urls(ids: impl IntoIterator<Item = u64>) -> Vec<String> {
    let mut urls: Vec<String> = ids.into_iter().map(repo_url).collect();
    urls.sort();
    urls
}
