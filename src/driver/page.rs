//! One cursor: asked for, read, committed.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tracing::Instrument;

use super::RunError;
use crate::backend::{
    BackendErrorKind, Candidate, Committed, CursorEnd, GapKind, PageCommit, PageDigest, PendingCursor,
    RunStore, RunTicket, Validator,
};
use crate::lister::{
    Failure, FailureKind, Filtered, Filters, Follow, FollowKind, ListerError, ListerErrorKind, Page,
    PageBatch, PageSource, Skip, Verdict,
};
use crate::model::{check_origin_url, half};
use crate::transport::{Body, Clock, Condition, Identity, Request, Response, Transport};

/// A run as its pages see it.
pub(super) struct Run {
    pub(super) store: Arc<dyn RunStore>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) source: Arc<dyn PageSource>,
    pub(super) ticket: RunTicket,
    /// Held while a page with marks is committed: each joins what the one before left.
    pub(super) candidate: tokio::sync::Mutex<Candidate>,
    pub(super) enable_origins: bool,
    pub(super) filters: Filters,
    pub(super) flush_at: usize,
}

/// What became of a cursor.
pub(super) enum PageEnd {
    Committed { end: HowEnded, committed: Committed, aside: Aside, place: String },
    Restart,
    Abort(String),
}

/// What a page named and was not, or not as it came, given to the store.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Aside {
    pub(super) skipped: u64,
    pub(super) filtered: Filtered,
}

/// How a committed cursor ended, as far as a tally wants to know.
pub(super) enum HowEnded {
    Page,
    Other,
    Gap(String),
}

impl HowEnded {
    pub(super) fn is_page(&self) -> bool {
        matches!(self, Self::Page)
    }

    pub(super) fn gap_reason(&self) -> Option<&str> {
        if let Self::Gap(why) = self { Some(why) } else { None }
    }
}

/// What reading an answer came to, flushes apart.
struct Reading {
    result: Result<PageBatch, ListerError>,
    digest: PageDigest,
}

impl Run {
    pub(super) async fn page(&self, pending: PendingCursor) -> Result<PageEnd, RunError> {
        let request = match self.source.request(&pending.cursor) {
            Ok(request) => request,
            Err(e) => return Ok(PageEnd::Abort(chain(&e))),
        };
        let place = request.place();
        let span = tracing::debug_span!("page", place = %place);
        self.page_at(pending, request, place).instrument(span).await
    }

    async fn page_at(
        &self,
        pending: PendingCursor,
        mut request: Request,
        place: String,
    ) -> Result<PageEnd, RunError> {
        // What a forge answers depends on who asks: a validator says to whom it was given, and goes
        // only with that credential, which the transport chooses.
        let key = request.validate.then(|| request.url.to_string());
        let known = match &key {
            Some(key) => self.store.validator(&self.source.key(), key).await?,
            None => None,
        };
        if let Some(known) = &known {
            let (etag, modified) = (known.etag.clone(), known.last_modified.clone());
            request.condition = Some(Condition::new(known.identity.clone(), etag, modified));
            // As a transport without credentials asks.
            request.ask_as(&Identity::anonymous());
        }
        let asked_for = request.needs.clone();
        let was_known = known.is_some();
        let answer = self.source.fetch(request, &*self.transport).await;
        let response = match (answer, known) {
            (Err(e), _) => {
                let failure =
                    Failure::new(FailureKind::Transport(e.kind()), format!("{place}: {}", chain(&e)));
                return self.failed(pending, place, failure).await;
            }
            (Ok(response), Some(validator))
                if response.status == http::StatusCode::NOT_MODIFIED
                    && response.identity == validator.identity =>
            {
                let end = CursorEnd::Unchanged(Arc::clone(&validator.part));
                let commit = PageCommit::new(self.ticket, pending.ticket, PageBatch::default(), Some(end));
                let committed = self.store.commit_page(commit, self.clock.now()).await?;
                return Ok(PageEnd::Committed {
                    end: HowEnded::Page,
                    committed,
                    aside: Aside::default(),
                    place,
                });
            }
            (Ok(response), _) => response,
        };
        if !response.status.is_success() {
            let wants = wants(&response, asked_for.as_deref());
            let message = format!("{place}: status {}{}{wants}", response.status.as_u16(), said(&response));
            return self
                .failed(pending, place, Failure::new(FailureKind::Status(response.status), message))
                .await;
        }
        let validator = key.and_then(|key| {
            let part = pending.part.clone().unwrap_or_else(|| format!("url:{key}").into());
            let of = |name| response.header(name).map(str::to_owned);
            let validator =
                Validator::new(of("etag"), of("last-modified"), part).of(response.identity.clone());
            // One without either takes the place of one that says nothing of this reading.
            let kept = was_known || validator.etag.is_some() || validator.last_modified.is_some();
            kept.then_some((key, validator))
        });
        self.read(pending, place, response, validator).await
    }

    async fn read(
        &self,
        pending: PendingCursor,
        place: String,
        response: Response,
        mut validator: Option<(String, Validator)>,
    ) -> Result<PageEnd, RunError> {
        // What is read under a validator is a part of its own, or the one that the page names: a 304
        // then says which origins are as they were.
        let part = pending.part.clone().or_else(|| validator.as_ref().map(|(_, v)| Arc::clone(&v.part)));
        let mut flushed = Committed::default();
        let mut aside = Aside::default();
        let reading = if response.body.is_spooled() {
            let (batches, mut received) = mpsc::channel(1);
            let reader = self.read_spooled(&pending, response, part.clone(), batches);
            while let Some(mut batch) = received.recv().await {
                self.settle(&mut batch, &mut aside);
                let commit = PageCommit::new(self.ticket, pending.ticket, batch, None);
                // An error drops the receiver, and that stops the reader at its next flush.
                flushed.add(self.store.commit_page(commit, self.clock.now()).await?);
            }
            reader.await.map_err(RunError::reader)?
        } else {
            read_in_memory(&*self.source, &pending, response, part.clone())
        };
        let mut batch = match reading.result {
            Ok(batch) => batch,
            Err(e) => {
                let kind = match e.kind() {
                    ListerErrorKind::Cursor => return Ok(PageEnd::Abort(chain(&e))),
                    ListerErrorKind::Refused => FailureKind::Refused,
                    _ => FailureKind::Parse,
                };
                return self
                    .failed(pending, place.clone(), Failure::new(kind, format!("{place}: {}", chain(&e))))
                    .await;
            }
        };
        self.settle(&mut batch, &mut aside);
        if let (Some((_, v)), None) = (&mut validator, &pending.part) {
            match &batch.parts[..] {
                [named] => v.part = Arc::clone(named),
                _ => batch.parts.push(Arc::clone(&v.part)),
            }
        }
        let mut commit =
            PageCommit::new(self.ticket, pending.ticket, batch, Some(CursorEnd::Done(reading.digest)));
        commit.validator = validator;
        commit.place = Some(place.clone());
        let mut committed = self.commit(commit).await?;
        let end = if committed.gaps > 0 {
            HowEnded::Gap("a loop: it came back to where it had been".to_owned())
        } else {
            HowEnded::Page
        };
        committed.add(flushed);
        Ok(PageEnd::Committed { end, committed, aside, place })
    }

    fn read_spooled(
        &self,
        pending: &PendingCursor,
        response: Response,
        part: Option<Arc<str>>,
        batches: mpsc::Sender<PageBatch>,
    ) -> tokio::task::JoinHandle<Reading> {
        let source = Arc::clone(&self.source);
        let (cursor, flush_at) = (pending.cursor.clone(), self.flush_at);
        tokio::task::spawn_blocking(move || {
            let body = response.body.clone();
            let content = Arc::new(std::sync::Mutex::new(Content::default()));
            let seen = Arc::clone(&content);
            let mut page = Page::of_part(part).with_flush(
                flush_at,
                Box::new(move |batch: PageBatch| {
                    if let Ok(mut content) = seen.lock() {
                        content.add(&batch);
                    }
                    batches.blocking_send(batch).map_err(|_| ListerError::stopped())
                }),
            );
            let result = source.read(&cursor, response, &mut page);
            // Dropping the page drops the sender, which tells the driver that no batch follows.
            let result = result.and_then(|()| page.finish());
            let content = content.lock().map(|mut c| {
                if let Ok(batch) = &result {
                    c.add(batch);
                }
                std::mem::take(&mut *c).digest()
            });
            Reading { result, digest: digest_of(&body, content.unwrap_or_default()) }
        })
    }

    /// Refuses what is no origin's URL, disables what is not to be visited, and marks what the filters
    /// leave out. Counts all but the second.
    fn settle(&self, batch: &mut PageBatch, aside: &mut Aside) {
        let enable = self.enable_origins;
        let (skips, filtered) = (&mut batch.skips, &mut batch.filtered);
        batch.origins.retain_mut(|sighting| {
            sighting.origin.enabled &= enable;
            match check_origin_url(&sighting.origin.url) {
                Ok(()) => {
                    let by = self.filters.leave_out(&sighting.origin);
                    sighting.left_out = by.is_some();
                    if let Some(fact) = by {
                        filtered.count(fact);
                    }
                    true
                }
                Err(problem) => {
                    let url: String = sighting.origin.url.chars().take(200).collect();
                    skips.push(Skip::new(format!("{url:?}"), problem.to_string()));
                    false
                }
            }
        });
        for skip in skips.iter() {
            tracing::warn!(what = %skip.what, why = %skip.why, "skipped");
        }
        aside.skipped += skips.len() as u64;
        aside.filtered.add(*filtered);
    }

    /// Commits a page's end, its marks joined into the candidate.
    async fn commit(&self, mut commit: PageCommit) -> Result<Committed, RunError> {
        let marks = std::mem::take(&mut commit.batch.marks);
        if marks.is_empty() || !self.source.is_incremental() {
            return Ok(self.store.commit_page(commit, self.clock.now()).await?);
        }
        let mut candidate = self.candidate.lock().await;
        loop {
            let mut state = candidate.state.clone();
            for mark in marks.clone() {
                state = Some(match state {
                    Some(state) => self.source.join(mark, state)?,
                    None => mark,
                });
            }
            let next = Candidate::new(candidate.revision, state);
            let attempt = commit.clone().with_candidate(next.clone());
            match self.store.commit_page(attempt, self.clock.now()).await {
                // Another process joined a piece meanwhile: join ours to its.
                Err(e) if e.kind() == BackendErrorKind::Conflict => {
                    *candidate = self.store.candidate(self.ticket).await?;
                }
                Err(e) => return Err(e.into()),
                Ok(committed) => {
                    *candidate = Candidate::new(next.revision + 1, next.state);
                    return Ok(committed);
                }
            }
        }
    }

    async fn failed(
        &self,
        pending: PendingCursor,
        place: String,
        failure: Failure,
    ) -> Result<PageEnd, RunError> {
        let recovery = match self.source.recover(&pending.cursor, &failure) {
            Ok(recovery) => recovery,
            Err(e) => return Ok(PageEnd::Abort(chain(&e))),
        };
        let part = &pending.part;
        // What stands for a failed cursor belongs to the same part.
        let stands = |cursor| Follow::new(cursor, FollowKind::Next { part: part.clone() });
        let follows = recovery.follow.into_iter().map(stands).collect();
        let mut batch = PageBatch { follows, ..PageBatch::default() };
        // Where nothing that stands for it can be read either, the gap says what was wrong with this.
        let asked = match recovery.verdict {
            Verdict::Replaced => failure.message.clone(),
            _ => place.clone(),
        };
        let (end, how) = match recovery.verdict {
            Verdict::Restart => return Ok(PageEnd::Restart),
            Verdict::Abort => return Ok(PageEnd::Abort(failure.message)),
            Verdict::Replaced => (CursorEnd::Replaced, HowEnded::Other),
            Verdict::Skip(why) => {
                batch.skips.push(Skip::new(&place, why));
                (CursorEnd::Skipped, HowEnded::Other)
            }
            Verdict::Gap => {
                let kind = match failure.kind {
                    FailureKind::Status(_) => GapKind::Status,
                    FailureKind::Transport(_) => GapKind::Transport,
                    FailureKind::Loop => GapKind::Loop,
                    FailureKind::Parse | FailureKind::Refused => GapKind::Body,
                };
                tracing::warn!(reason = %failure.message, "a part of the listing is missing");
                let reason = match recovery.note {
                    Some(note) => format!("{} ({note})", failure.message),
                    None => failure.message,
                };
                (CursorEnd::Gap { kind, reason: reason.clone() }, HowEnded::Gap(reason))
            }
        };
        let aside = Aside { skipped: batch.skips.len() as u64, ..Aside::default() };
        let commit = PageCommit::new(self.ticket, pending.ticket, batch, Some(end)).with_place(&asked);
        let committed = self.store.commit_page(commit, self.clock.now()).await?;
        Ok(PageEnd::Committed { end: how, committed, aside, place })
    }
}

fn read_in_memory(
    source: &dyn PageSource,
    pending: &PendingCursor,
    response: Response,
    part: Option<Arc<str>>,
) -> Reading {
    let body = response.body.clone();
    let mut page = Page::of_part(part);
    let result = source.read(&pending.cursor, response, &mut page).and_then(|()| page.finish());
    let content = result.as_ref().ok().and_then(|batch| {
        let mut content = Content::default();
        content.add(batch);
        content.digest()
    });
    Reading { result, digest: digest_of(&body, content) }
}

/// A page that found something is told from its predecessor by that alone; the body, which may be
/// large, is read once more only where there was nothing.
fn digest_of(body: &Body, content: Option<[u8; 16]>) -> PageDigest {
    let body = if content.is_some() { None } else { digest_body(body).ok() };
    PageDigest::new(body.unwrap_or_default(), content)
}

/// A digest of what a page found: the same for two pages that found the same, whatever else (a page
/// number, a date) differs in their bodies.
#[derive(Default)]
struct Content {
    hash: Sha256,
    any: bool,
}

impl Content {
    fn add(&mut self, batch: &PageBatch) {
        let mut piece = |tag: u8, texts: [&str; 2]| {
            self.any = true;
            self.hash.update([tag]);
            for text in texts {
                self.hash.update((text.len() as u64).to_be_bytes());
                self.hash.update(text);
            }
        };
        for sighting in &batch.origins {
            piece(1, [&sighting.origin.url, sighting.origin.visit_type.as_str()]);
        }
        for (key, _) in &batch.gone {
            piece(2, [&key.url, key.visit_type.as_str()]);
        }
        for follow in &batch.follows {
            if let FollowKind::Item { key, fingerprint } = &follow.kind {
                piece(3, [key, fingerprint]);
            }
        }
    }

    fn digest(self) -> Option<[u8; 16]> {
        let Self { hash, any } = self;
        any.then(|| half(hash))
    }
}

fn digest_body(body: &Body) -> std::io::Result<[u8; 16]> {
    let mut hash = Sha256::new();
    let mut reader = body.reader();
    loop {
        let piece = std::io::BufRead::fill_buf(&mut reader)?;
        if piece.is_empty() {
            return Ok(half(hash));
        }
        hash.update(piece);
        let n = piece.len();
        std::io::BufRead::consume(&mut reader, n);
    }
}

/// The beginning of what an error answer says, on one line.
fn said(response: &Response) -> String {
    if response.body.is_spooled() {
        return String::new();
    }
    let Ok(body) = response.body.bytes() else { return String::new() };
    let head = body.get(..body.len().min(200)).unwrap_or_default();
    let line = String::from_utf8_lossy(head).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { line } else { format!(": {line}") }
}

/// What a forge that refuses to say who asks wants, as far as it or the lister says.
fn wants(response: &Response, needed: Option<&str>) -> String {
    if !matches!(response.status, http::StatusCode::UNAUTHORIZED | http::StatusCode::FORBIDDEN) {
        return String::new();
    }
    let asked = match response.credential {
        Some(id) => format!("asked with credential {}", id.0),
        None => "asked without a credential".to_owned(),
    };
    let scope = scope(response).map(|scope| format!(", the forge wants the scope {scope:?}"));
    let needed = needed.map(|needed| format!(", needed is {needed}"));
    format!(" ({asked}{}{})", scope.unwrap_or_default(), needed.unwrap_or_default())
}

/// The scope that a forge says is missing: in its own header (GitHub) or in the challenge of HTTP
/// (RFC 6750, GitLab).
fn scope(response: &Response) -> Option<String> {
    let accepted = response.header("x-accepted-oauth-scopes").map(str::trim).filter(|s| !s.is_empty());
    let challenged = || {
        let (_, scope) = response.header("www-authenticate")?.split_once("scope=\"")?;
        scope.split_once('"').map(|(scope, _)| scope)
    };
    accepted.or_else(challenged).map(|scope| scope.chars().take(100).collect())
}

/// An error and its causes on one line.
pub(crate) fn chain(e: &dyn std::error::Error) -> String {
    let mut line = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let text = e.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = e.source();
    }
    line
}
