//! A listing walked by hand: each cursor is asked once, and what led to what is noted.
//!
//! It stands apart from the driver, so that a driver can be held against it: no retries, no
//! credentials, no store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use crate::driver::chain;
use crate::lister::{
    Failure, FailureKind, Follow, FollowKind, ListerError, Page, PageBatch, PageSource, Recovery, Verdict,
};
use crate::transport::{Request, Response, Transport};

/// A request of a walk, and what it led to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Step {
    /// The cursor.
    pub cursor: Value,
    /// The number of the step that led to it; none for those that a listing begins with.
    pub from: Option<usize>,
    /// How it follows from there; none for those that a listing begins with, and for those that
    /// stand for a cursor that failed.
    pub how: Option<FollowKind>,
    /// What was asked.
    pub request: Request,
    /// The answer, where there was one.
    pub response: Option<Response>,
    /// What the page said.
    pub said: Result<PageBatch, Failed>,
}

/// A cursor that failed, and what the lister made of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failed {
    /// How it failed.
    pub failure: Failure,
    /// What the lister takes it for.
    pub recovery: Recovery<Value>,
}

impl Step {
    /// Whether something of the listing is missing here.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        matches!(&self.said, Err(failed) if !matches!(failed.recovery.verdict, Verdict::Replaced | Verdict::Skip(_)))
    }
}

/// A source walked from some cursors to where none is left. An item is asked for unless `known` holds
/// its key with the same fingerprint.
///
/// # Errors
/// A [`ListerError`] where a cursor gives no request, or a lister cannot say what to do about a failure.
///
/// ```
/// use lamplighter::lister::{Mode, Registry, RunInfo};
/// use lamplighter::model::Timestamp;
/// use lamplighter::testing::{Answering, walk};
/// use lamplighter::transport::{Body, Response};
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let arguments = serde_json::from_str(r#"{"url": "https://pagure.example"}"#)?;
/// let source = Registry::builtin().build("pagure", &arguments)?.source;
/// let down = Answering::new(|r| Ok(Response::new(500, r.url.clone(), Body::from(""), Timestamp::EPOCH)));
/// let start = source.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full))?;
/// let steps = walk(&*source, start, &down, &Default::default()).await?;
/// assert_eq!((steps.len(), steps[0].is_gap()), (1, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn walk(
    source: &dyn PageSource,
    start: Vec<Value>,
    transport: &dyn Transport,
    known: &BTreeMap<String, String>,
) -> Result<Vec<Step>, ListerError> {
    let mut queue: VecDeque<Pending> = start.into_iter().map(Pending::first).collect();
    let mut asked: BTreeSet<String> = queue.iter().map(|p| p.cursor.to_string()).collect();
    let mut steps = Vec::new();
    while let Some(pending) = queue.pop_front() {
        let here = steps.len();
        let step = ask(source, transport, pending.clone()).await?;
        let follows: Vec<Pending> = match &step.said {
            Ok(batch) => batch.follows.iter().map(|f| Pending::follows(here, f)).collect(),
            Err(failed) => failed
                .recovery
                .follow
                .iter()
                .map(|cursor| Pending {
                    cursor: cursor.clone(),
                    from: Some(here),
                    how: None,
                    part: pending.part.clone(),
                })
                .collect(),
        };
        steps.push(step);
        for next in follows {
            if let Some(FollowKind::Item { key, fingerprint }) = &next.how
                && known.get(key.as_ref()) == Some(fingerprint)
            {
                continue;
            }
            if asked.insert(next.cursor.to_string()) {
                queue.push_back(next);
            }
        }
    }
    Ok(steps)
}

#[derive(Clone)]
struct Pending {
    cursor: Value,
    from: Option<usize>,
    how: Option<FollowKind>,
    part: Option<Arc<str>>,
}

impl Pending {
    fn first(cursor: Value) -> Self {
        Self { cursor, from: None, how: None, part: None }
    }

    fn follows(from: usize, follow: &Follow) -> Self {
        let part = match &follow.kind {
            FollowKind::Next { part } => part.clone(),
            FollowKind::Item { key, .. } => Some(Arc::clone(key)),
            FollowKind::Follow => None,
        };
        Self { cursor: follow.cursor.clone(), from: Some(from), how: Some(follow.kind.clone()), part }
    }
}

async fn ask(
    source: &dyn PageSource,
    transport: &dyn Transport,
    pending: Pending,
) -> Result<Step, ListerError> {
    let Pending { cursor, from, how, part } = pending;
    let request = source.request(&cursor)?;
    let answer = transport.send(request.clone()).await;
    let response = answer.as_ref().ok().cloned();
    let said = match answer {
        Err(e) => Err(Failure::new(FailureKind::Transport(e.kind()), chain(&e))),
        Ok(response) => read(source, &cursor, response, part),
    };
    let said = match said {
        Ok(batch) => Ok(batch),
        Err(failure) => Err(Failed { recovery: source.recover(&cursor, &failure)?, failure }),
    };
    Ok(Step { cursor, from, how, request, response, said })
}

fn read(
    source: &dyn PageSource,
    cursor: &Value,
    response: Response,
    part: Option<Arc<str>>,
) -> Result<PageBatch, Failure> {
    let status = response.status;
    if !status.is_success() {
        return Err(Failure::new(FailureKind::Status(status), format!("status {}", status.as_u16())));
    }
    let mut page = Page::of_part(part);
    source
        .read(cursor, response, &mut page)
        .and_then(|()| page.finish())
        .map_err(|e| Failure::new(FailureKind::Parse, chain(&e)))
}
