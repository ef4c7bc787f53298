//! Runs of the real driver against a forge that a closure plays.

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore};
use lamplighter::driver::{Driver, RunOptions, RunReport};
use lamplighter::lister::PageSource;
use lamplighter::model::Timestamp;
use lamplighter::testing::{Answering, VirtualClock};
use lamplighter::transport::{Body, Request, Response};
use serde_json::{Value, json};

/// A store, and runs on it, a day apart.
pub(crate) struct Trial {
    store: Arc<MemoryStore>,
    day: i64,
}

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) report: RunReport,
    /// What was asked for, in order.
    pub(crate) asked: Vec<String>,
}

impl Ran {
    pub(crate) fn outcome(&self) -> &str {
        self.report.outcome.as_str()
    }

    /// The cursors of the open gaps, in no order.
    pub(crate) fn gaps(&self) -> Vec<Value> {
        self.report.gaps.iter().map(|g| g.cursor.clone()).collect()
    }

    pub(crate) fn reasons(&self) -> String {
        self.report.gaps.iter().map(|g| g.reason.as_str()).collect::<Vec<_>>().join("\n")
    }
}

impl Trial {
    pub(crate) fn new() -> Self {
        Self { store: Arc::new(MemoryStore::new()), day: 20_000 }
    }

    pub(crate) async fn run<F>(&mut self, source: Arc<dyn PageSource>, full: bool, forge: F) -> Ran
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        self.run_with(source, RunOptions::default().with_full(full), forge).await
    }

    pub(crate) async fn run_with<F>(
        &mut self,
        source: Arc<dyn PageSource>,
        options: RunOptions,
        forge: F,
    ) -> Ran
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        self.day += 1;
        let clock = Arc::new(VirtualClock::new(Timestamp::from_seconds(self.day * 86_400)));
        let transport = Arc::new(Answering::new(move |r| Ok(forge(r))));
        let driver = Driver::new(Arc::clone(&self.store) as _, Arc::clone(&transport) as _, clock);
        let report = driver.run(source, options.with_concurrency(1)).await.unwrap();
        Ran { report, asked: transport.asked() }
    }

    /// The forge ids of all that was ever listed.
    pub(crate) async fn listed(&self) -> BTreeSet<u64> {
        let page = self.store.origins(&OriginQuery::everything(), None, 100_000).await.unwrap();
        page.origins.iter().map(|(_, o)| o.forge_id.as_ref().unwrap().parse().unwrap()).collect()
    }
}

/// The forge's answer of a status.
pub(crate) fn said(request: &Request, status: u16, body: &Value) -> Response {
    let body = if status == 200 { body.to_string() } else { json!({ "message": "500 Error" }).to_string() };
    Response::new(status, request.url.clone(), Body::from(body), Timestamp::from_seconds(1_728_000_000))
}
