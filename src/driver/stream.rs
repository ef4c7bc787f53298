//! A listing as a stream, for those who bring their own store or need none.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;

use super::{Driver, RunError, RunOptions, RunReport};
use crate::backend::{
    Begun, Candidate, Committed, EndRun, Ended, Gap, GapQuery, MemoryStore, PageCommit, PendingCursor,
    Result, RunPlan, RunQuery, RunRecord, RunStore, RunTicket, Validator,
};
use crate::lister::PageSource;
use crate::model::{GoneReason, JsonObject, ListerKey, ListerRecord, NewOrigin, OriginKey, Timestamp};
use crate::transport::{Clock, Transport};

/// Something that a listing found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listed {
    /// An origin. One that is spread over several parts of a listing comes once for each.
    Origin(NewOrigin),
    /// Upstream says that an origin is gone.
    Gone(OriginKey, GoneReason),
    /// A part of the listing is missing, and why.
    Gap(String),
    /// A page was read.
    Progress {
        /// Pages read so far.
        pages: u64,
    },
    /// The listing ended, and how: the last thing a listing says.
    End(Result<Box<RunReport>, RunError>),
}

/// Lists without a store: what is found comes as a stream, and the frontier is kept in memory. The
/// stream is read at the pace of its reader; dropping it stops the listing.
///
/// `state` is what an earlier listing's report gave; `None` lists in full.
///
/// ```
/// # use std::sync::Arc;
/// use futures::StreamExt;
/// use lamplighter::driver::{Listed, RunOptions, SystemClock, listing};
/// # use lamplighter::lister::PageSource;
/// # use lamplighter::transport::Transport;
/// # async fn example(source: Arc<dyn PageSource>, transport: Arc<dyn Transport>) {
/// let mut listing = listing(source, transport, Arc::new(SystemClock), None, RunOptions::default());
/// while let Some(found) = listing.next().await {
///     match found {
///         Listed::Origin(origin) => println!("{}", origin.url),
///         Listed::End(Ok(report)) => println!("{}", report.outcome.as_str()),
///         _ => {}
///     }
/// }
/// # }
/// ```
pub fn listing(
    source: Arc<dyn PageSource>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    state: Option<JsonObject>,
    options: RunOptions,
) -> BoxStream<'static, Listed> {
    let (send, receive) = mpsc::channel(64);
    let end = send.clone();
    let store = Passing { frontier: MemoryStore::new(), state: state.unwrap_or_default(), send };
    let gaps = end.clone();
    let run = async move {
        let driver = Driver::new(Arc::new(store), transport, clock);
        let report = driver.run(source, options).await;
        if let Ok(report) = &report {
            for gap in &report.gaps {
                let _ = gaps.send(Listed::Gap(gap.reason.clone())).await;
            }
        }
        // A reader that has gone away does not want to know.
        let _ = end.send(Listed::End(report.map(Box::new))).await;
    };
    // The run is polled by whoever reads the stream: no task, and nothing goes on when it is dropped.
    stream::unfold((Box::pin(run), receive, false), |(mut run, mut receive, mut ended)| async move {
        let found = loop {
            if ended {
                break receive.recv().await;
            }
            let received = std::pin::pin!(receive.recv());
            match select(received, &mut run).await {
                Either::Left((found, _)) => break found,
                Either::Right(((), _)) => ended = true,
            }
        };
        found.map(|found| (found, (run, receive, ended)))
    })
    .boxed()
}

/// Passes on what pages say, and keeps only the frontier.
struct Passing {
    frontier: MemoryStore,
    state: JsonObject,
    send: mpsc::Sender<Listed>,
}

#[async_trait]
impl RunStore for Passing {
    async fn lister(&self, key: &ListerKey, now: Timestamp) -> Result<ListerRecord> {
        let mut record = self.frontier.lister(key, now).await?;
        if record.current_state.is_empty() {
            record.current_state.clone_from(&self.state);
        }
        Ok(record)
    }

    async fn begin_run(&self, plan: RunPlan, now: Timestamp) -> Result<Begun> {
        self.frontier.begin_run(plan, now).await
    }

    async fn claim_cursors(
        &self,
        run: RunTicket,
        limit: usize,
        lease: std::time::Duration,
        now: Timestamp,
    ) -> Result<Vec<PendingCursor>> {
        self.frontier.claim_cursors(run, limit, lease, now).await
    }

    async fn commit_page(&self, mut commit: PageCommit, now: Timestamp) -> Result<Committed> {
        let mut origins = std::mem::take(&mut commit.batch.origins);
        origins.retain(|sighting| !sighting.left_out);
        let gone = std::mem::take(&mut commit.batch.gone);
        let last = commit.end.is_some();
        let mut committed = self.frontier.commit_page(commit, now).await?;
        committed.new += origins.len() as u64;
        committed.gone += gone.len() as u64;
        for sighting in origins {
            self.pass(Listed::Origin(sighting.origin)).await;
        }
        for (key, why) in gone {
            self.pass(Listed::Gone(key, why)).await;
        }
        if last {
            let pages = self.frontier.runs(&RunQuery::default(), 1).await?.first().map_or(0, |run| run.pages);
            self.pass(Listed::Progress { pages }).await;
        }
        Ok(committed)
    }

    async fn candidate(&self, run: RunTicket) -> Result<Candidate> {
        self.frontier.candidate(run).await
    }

    async fn validator(&self, lister: &ListerKey, key: &str) -> Result<Option<Validator>> {
        self.frontier.validator(lister, key).await
    }

    async fn end_run(&self, end: EndRun, now: Timestamp) -> Result<Ended> {
        self.frontier.end_run(end, now).await
    }

    async fn runs(&self, query: &RunQuery, limit: usize) -> Result<Vec<RunRecord>> {
        self.frontier.runs(query, limit).await
    }

    async fn gaps(&self, query: &GapQuery) -> Result<Vec<Gap>> {
        self.frontier.gaps(query).await
    }
}

impl Passing {
    /// Waits for the reader. One that has gone away drops the run with the stream.
    async fn pass(&self, found: Listed) {
        let _ = self.send.send(found).await;
    }
}
