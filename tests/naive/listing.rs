//! What the incumbent did, in a few lines: one loop, its state in memory, and a row that is written
//! at the end whatever happened.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;

use lamplighter::transport::{Request, Response, Transport};

use crate::common::ChainPage;

/// What survives the process.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) last: u64,
    pub(crate) finished: bool,
    pub(crate) origins: BTreeSet<u64>,
}

/// Lists the chain: a status that is not 200 ends it quietly, and the row is written once, "finally".
pub(crate) async fn list(row: &mut Row, forge: &dyn Transport) {
    let mut since = Some(row.last);
    let mut last = row.last;
    while let Some(at) = since {
        let url = format!("https://forge.example/repos?since={at}").parse().unwrap();
        let Ok(response) = forge.send(Request::get(url)).await else { break };
        let Some(page) = read(&response) else { break };
        last = page.repos.last().copied().unwrap_or(last);
        row.origins.extend(page.repos);
        since = page.next;
    }
    row.last = last;
    row.finished = true;
}

fn read(response: &Response) -> Option<ChainPage> {
    if response.status != 200 {
        return None;
    }
    response.json().ok()
}
