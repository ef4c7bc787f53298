//! What is to be listed where a request goes wrong for ever: from what each request led to in
//! health, and what the lister says of a failure. No driver, no store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use http::StatusCode;
use lamplighter::lister::{Failure, FailureKind, FollowKind, Page, PageBatch, PageSource, Verdict};
use lamplighter::model::check_origin_url;
use lamplighter::testing::Step;
use serde_json::Value;

use crate::forge::{key, path};

/// URL and visit type of origins.
pub(crate) type Origins = BTreeSet<(String, String)>;

/// How a run is to go.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) origins: Origins,
    /// Cursors that cannot be read, and are missing.
    pub(crate) gaps: BTreeSet<String>,
    /// Cursors that cannot be read, of which the lister says that nothing is missing.
    pub(crate) skips: usize,
    pub(crate) aborts: bool,
    /// Requests that health does not know.
    pub(crate) more: BTreeSet<String>,
    /// How many cursors ask for one request.
    pub(crate) asks: BTreeMap<String, usize>,
}

/// The origins that a page names.
pub(crate) fn named(batch: &PageBatch) -> impl Iterator<Item = (String, String)> {
    let good = batch.origins.iter().filter(|s| check_origin_url(&s.origin.url).is_ok());
    good.map(|s| (s.origin.url.clone(), s.origin.visit_type.to_string()))
}

/// A listing in health.
pub(crate) struct Health<'a> {
    pub(crate) source: &'a dyn PageSource,
    pub(crate) start: &'a [Value],
    pub(crate) steps: &'a [Step],
    /// Items that are as they were: not asked for.
    pub(crate) known: &'a BTreeMap<String, String>,
}

/// What does not go as in health.
#[derive(Clone, Copy)]
pub(crate) enum But<'a> {
    Nothing,
    /// What is asked at a step fails.
    Fails(usize, FailureKind),
    /// A step does not lead to a cursor.
    LeadsNot(usize, &'a Value),
}

impl Health<'_> {
    /// All that is listed in health.
    pub(crate) fn all(&self) -> Origins {
        self.with(But::Nothing).origins
    }

    /// What is listed all the same.
    pub(crate) fn with(&self, but: But<'_>) -> Expected {
        let mut expected = Expected::default();
        let mut queue: VecDeque<Value> = self.start.iter().cloned().collect();
        let mut asked: BTreeSet<String> = self.start.iter().map(Value::to_string).collect();
        while let Some(cursor) = queue.pop_front() {
            let follows = match self.answer(&cursor, but, &mut expected) {
                Ok(batch) => {
                    expected.origins.extend(named(&batch));
                    self.follows(&cursor, batch, but)
                }
                Err(kind) => self.recover(&cursor, kind, &asked, &mut expected),
            };
            queue.extend(follows.into_iter().filter(|next| asked.insert(next.to_string())));
        }
        expected
    }

    fn follows(&self, cursor: &Value, batch: PageBatch, but: But<'_>) -> Vec<Value> {
        let unchanged = |kind: &FollowKind| matches!(kind, FollowKind::Item { key, fingerprint } if self.known.get(key.as_ref()) == Some(fingerprint));
        let led = batch.follows.into_iter().filter(|f| !unchanged(&f.kind)).map(|f| f.cursor);
        let cut = |next: &Value| matches!(but, But::LeadsNot(at, gone) if self.steps[at].cursor == *cursor && next == gone);
        led.filter(|next| !cut(next)).collect()
    }

    /// What a cursor's page says, or how it fails.
    fn answer(
        &self,
        cursor: &Value,
        but: But<'_>,
        expected: &mut Expected,
    ) -> Result<PageBatch, FailureKind> {
        let request = self.source.request(cursor).unwrap();
        let this = key(&request);
        let logged = self.steps.iter().find(|s| key(&s.request) == this);
        *expected.asks.entry(this.clone()).or_default() += 1;
        if logged.is_none() {
            expected.more.insert(this.clone());
        }
        if let But::Fails(at, kind) = but {
            let failing = &self.steps[at].request;
            if this == key(failing) || (logged.is_none() && path(&request) == path(failing)) {
                return Err(kind);
            }
        }
        let Some(step) = logged else { return Err(FailureKind::Status(StatusCode::NOT_FOUND)) };
        if step.cursor == *cursor {
            return step.said.clone().map_err(|failed| failed.failure.kind);
        }
        // The same page, asked for otherwise.
        let Some(response) = step.response.clone().filter(|r| r.status.is_success()) else {
            return Err(step.said.as_ref().err().map_or(FailureKind::Parse, |failed| failed.failure.kind));
        };
        let mut page = Page::new();
        let read = self.source.read(cursor, response, &mut page).and_then(|()| page.finish());
        read.map_err(|_| FailureKind::Parse)
    }

    fn recover(
        &self,
        cursor: &Value,
        kind: FailureKind,
        asked: &BTreeSet<String>,
        expected: &mut Expected,
    ) -> Vec<Value> {
        let recovery = self.source.recover(cursor, &Failure::new(kind, "as expected")).unwrap();
        match recovery.verdict {
            Verdict::Gap => {
                expected.gaps.insert(cursor.to_string());
            }
            Verdict::Skip(_) => expected.skips += 1,
            // Nothing stands for it but what has failed already.
            Verdict::Replaced if recovery.follow.iter().all(|c| asked.contains(&c.to_string())) => {
                expected.gaps.extend(recovery.follow.iter().map(Value::to_string));
            }
            Verdict::Replaced => {}
            _ => expected.aborts = true,
        }
        recovery.follow
    }
}
