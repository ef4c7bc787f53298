//! What can be asked, and what is answered.

#![allow(clippy::unused_async, reason = "a route is answered by a future")]

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::{ExtensionRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::access::{known, signed, unsigned};
use super::hooks::{Hook, kind, read};
use super::problem::{Problem, answer, text};
use super::{ApiToken, Shared, forms};
use crate::backend::{ChangeToken, Claim, Hint, OriginQuery, PageToken, Refusal, VisitRequest};
use crate::dispatch::{Visited, clean_text};
use crate::model::{
    OriginKey, Outcome, Timestamp, VisitId, VisitStatus, VisitToken, VisitType, check_origin_url, digest128,
    hex,
};

type Answer = Result<Response, Problem>;

/// Who is at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Rows of a page, unless it is asked for fewer, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// What goes without a bearer token. `/hints` is either signed or has one.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/openapi.json")
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/visits/claim", post(claim))
        .route("/visits/{visit}/heartbeat", post(heartbeat))
        .route("/visits/complete", post(complete))
        .route("/requests", post(request))
        .route("/hints", post(hint))
        .route("/origins", get(origins))
        .route("/explain", get(explain))
        .route("/changes", get(changes))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/openapi.json", get(openapi))
        .fallback(nothing_here)
        .method_not_allowed_fallback(other_method)
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

async fn nothing_here() -> Problem {
    Problem::unknown("there is nothing here: see /openapi.json")
}

async fn other_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this method is not answered here")
}

async fn openapi() -> Response {
    text(StatusCode::OK, "application/json", OPENAPI.to_owned())
}

/// Before anything else: who asks, how often, and a body that comes whole, in time and in bounds.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Answer {
    let now = shared.clock.now();
    let (mut parts, body) = request.into_parts();
    let caller = known(&parts.headers, &shared.options.tokens).cloned();
    let peer = parts.extensions.get::<Peer>().map_or_else(|| "unknown".to_owned(), |peer| peer.0.to_string());
    let asker = caller.as_ref().map_or(format!("address {peer}"), |token| format!("token {}", token.name));
    let admitted = shared.rates.lock().unwrap_or_else(PoisonError::into_inner).admit(&asker, now);
    admitted.map_err(Problem::too_many)?;
    let is_hook =
        parts.method == Method::POST && parts.uri.path() == "/hints" && kind(&parts.headers).is_some();
    if caller.is_none() && !is_hook && !is_open(parts.uri.path()) {
        tracing::info!(%peer, path = %clean_text(parts.uri.path()), "a request without a known token");
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "a bearer token is missing or wrong",
        ));
    }
    let whole = tokio::time::timeout(shared.options.time, to_bytes(body, shared.options.max_body)).await;
    let body = match whole {
        Ok(Ok(body)) => body,
        Ok(Err(e)) => return Err(unread(&e, shared.options.max_body)),
        Err(_) => {
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body did not come in time"));
        }
    };
    if let Some(caller) = caller {
        parts.extensions.insert(Caller(caller));
    }
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

fn unread(e: &axum::Error, most: usize) -> Problem {
    // The limit is the one error that is not the connection's.
    let mut cause: Option<&dyn std::error::Error> = Some(e);
    while let Some(error) = cause {
        if error.to_string().contains("length limit") {
            let message = format!("a body may have {most} bytes");
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message);
        }
        cause = error.source();
    }
    Problem::malformed("the body did not come whole")
}

#[derive(Clone)]
struct Caller(ApiToken);

fn json_of<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        Problem::malformed(format!("the body is not as described, at {}: {}", e.path(), e.inner()))
    })?;
    reader.end().map_err(|e| Problem::malformed(format!("there is more after the body: {e}")))?;
    Ok(value)
}

fn query_of<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query
        .map(|Query(query)| query)
        .map_err(|e| Problem::malformed(format!("the query is not as described: {e}")))
}

fn key_of(url: &str, visit_type: VisitType) -> Result<OriginKey, Problem> {
    check_origin_url(url).map_err(|e| Problem::malformed(format!("the URL is none of an origin: {e}")))?;
    Ok(OriginKey::new(url, visit_type))
}

fn lease_of(shared: &Shared, seconds: Option<u64>) -> Result<Duration, Problem> {
    let longest = shared.options.longest_lease;
    match seconds.map_or(Duration::from_secs(3600).min(longest), Duration::from_secs) {
        lease if lease.is_zero() || lease > longest => {
            Err(Problem::malformed(format!("lease_seconds must be from 1 to {}", longest.as_secs())))
        }
        lease => Ok(lease),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimBody {
    visit_type: VisitType,
    #[serde(default = "one")]
    count: usize,
    lease_seconds: Option<u64>,
    owner: Option<String>,
}

fn one() -> usize {
    1
}

async fn claim(
    State(shared): State<Arc<Shared>>,
    Extension(Caller(caller)): Extension<Caller>,
    body: Bytes,
) -> Answer {
    let body: ClaimBody = json_of(&body)?;
    let most = shared.options.most_visits;
    if body.count == 0 || body.count > most {
        return Err(Problem::malformed(format!("count must be from 1 to {most}")));
    }
    let owner = body.owner.map(|owner| clean_text(&owner)).filter(|owner| !owner.is_empty());
    let owner = owner.map_or(caller.name.clone(), |owner| format!("{}: {owner}", caller.name));
    let claim = Claim::new(body.visit_type, body.count).with_lease(lease_of(&shared, body.lease_seconds)?);
    let claimed = shared.store.claim(&claim.with_owner(owner), shared.clock.now()).await?;
    let visits = claimed.visits.iter().map(|visit| {
        let mut shown = forms::visit(visit);
        if let Some(token) = shown.get_mut("token") {
            *token = signed(&caller, visit.visit, visit.token).into();
        }
        shown
    });
    Ok(answer(StatusCode::OK, &json!({"visits": visits.collect::<Vec<Value>>()})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeartbeatBody {
    token: String,
    lease_seconds: Option<u64>,
}

async fn heartbeat(
    State(shared): State<Arc<Shared>>,
    Extension(Caller(caller)): Extension<Caller>,
    Path(visit): Path<String>,
    body: Bytes,
) -> Answer {
    let visit =
        visit.parse().map(VisitId).map_err(|_| Problem::unknown("a visit is named by a whole number"))?;
    let body: HeartbeatBody = json_of(&body)?;
    let lease = lease_of(&shared, body.lease_seconds)?;
    let token = unsigned(&caller, visit, &body.token).ok_or_else(not_yours)?;
    let answers = shared.store.heartbeat(&[(visit, token)], lease, shared.clock.now()).await?;
    match answers.into_iter().next() {
        Some(Ok(deadline)) => Ok(answer(StatusCode::OK, &json!({"deadline": deadline}))),
        Some(Err(refusal)) => Err(refused(refusal)),
        None => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store", "the store gave no answer")),
    }
}

fn not_yours() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "not_yours", "the token is not that of this visit and this worker")
}

fn refused(refusal: Refusal) -> Problem {
    Problem::new(StatusCode::CONFLICT, code(refusal), refusal.to_string())
}

fn code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "unknown_visit",
        Refusal::Stale => "stale",
        Refusal::Duplicate => "duplicate",
    }
}

/// A whole number, also as a text: not every language has numbers of 64 bits in JSON.
fn number<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    match Number::deserialize(d)? {
        Number::Number(n) => Ok(n),
        Number::Text(text) => text.parse().map_err(|_| serde::de::Error::custom("not a whole number")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeBody {
    #[serde(deserialize_with = "number")]
    visit: u64,
    token: String,
    status: VisitStatus,
    at: Option<Timestamp>,
    snapshot: Option<String>,
    changed: Option<bool>,
    changed_at: Option<Timestamp>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompleteBody {
    outcomes: Vec<OutcomeBody>,
}

async fn complete(
    State(shared): State<Arc<Shared>>,
    Extension(Caller(caller)): Extension<Caller>,
    body: Bytes,
) -> Answer {
    let body: CompleteBody = json_of(&body)?;
    let most = shared.options.most_visits;
    if body.outcomes.len() > most {
        return Err(Problem::malformed(format!("at most {most} outcomes at once")));
    }
    let now = shared.clock.now();
    let mut refusals = Vec::new();
    let refuse = |n: usize, visit: u64, reason: &str| json!({"index": n, "visit": visit, "reason": reason});
    let (mut places, mut outcomes) = (Vec::new(), Vec::new());
    for (n, body) in body.outcomes.into_iter().enumerate() {
        match unsigned(&caller, VisitId(body.visit), &body.token) {
            Some(token) => {
                places.push((n, body.visit));
                outcomes.push(outcome(body, token, now));
            }
            None => refusals.push(refuse(n, body.visit, "not_yours")),
        }
    }
    let (mut completed, mut changed, mut unchanged) = (0, 0, 0);
    if !outcomes.is_empty() {
        let answers = shared.store.complete(&outcomes, now).await?;
        for ((n, visit), answer) in places.into_iter().zip(answers) {
            match answer {
                Ok(done) => {
                    completed += 1;
                    changed += u64::from(done.changed == Some(true));
                    unchanged += u64::from(done.changed == Some(false));
                }
                Err(refusal) => refusals.push(refuse(n, visit, code(refusal))),
            }
        }
    }
    refusals.sort_by_key(|r| r.get("index").and_then(Value::as_u64));
    let done =
        json!({"completed": completed, "changed": changed, "unchanged": unchanged, "refused": refusals});
    Ok(answer(StatusCode::OK, &done))
}

fn outcome(body: OutcomeBody, token: VisitToken, now: Timestamp) -> Outcome {
    let mut visited = Visited::new(body.status);
    visited.snapshot = body.snapshot;
    visited.changed = body.changed;
    visited.changed_at = body.changed_at;
    visited.error = body.error;
    // No visit ends in the future.
    visited.outcome_of(VisitId(body.visit), token, body.at.unwrap_or(now).min(now))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestBody {
    url: String,
    visit_type: VisitType,
    by: Option<String>,
}

async fn request(
    State(shared): State<Arc<Shared>>,
    Extension(Caller(caller)): Extension<Caller>,
    body: Bytes,
) -> Answer {
    let body: RequestBody = json_of(&body)?;
    let by = body.by.map_or(caller.name.clone(), |by| format!("{}: {}", caller.name, clean_text(&by)));
    let asked = VisitRequest::new(key_of(&body.url, body.visit_type)?, by);
    let answers = shared.store.request(&[asked], shared.clock.now()).await?;
    match answers.into_iter().next().flatten() {
        None => Err(Problem::unknown("no such origin is listed")),
        Some(requested) => match requested.again_at {
            Some(at) => Err(Problem::too_many(at.since(shared.clock.now()))),
            None => Ok(answer(
                StatusCode::OK,
                &json!({
                    "position": requested.position,
                    "due": requested.due,
                    "parked": requested.parked.as_ref().map(|r| &r.text),
                }),
            )),
        },
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HintBody {
    url: String,
    visit_type: VisitType,
    changed_at: Option<Timestamp>,
}

async fn hint(
    State(shared): State<Arc<Shared>>,
    caller: Result<Extension<Caller>, ExtensionRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let now = shared.clock.now();
    if let Some((forge, event)) = kind(&headers) {
        return webhook(&shared, read(&shared.options.hooks, forge, &event, &headers, &body), &body, now)
            .await;
    }
    // The guard lets nobody else through.
    let Ok(Extension(Caller(caller))) = caller else { return Err(not_yours()) };
    let body: HintBody = json_of(&body)?;
    let at = body.changed_at.unwrap_or(now).min(now);
    let hint = Hint::new(key_of(&body.url, body.visit_type)?, at, caller.name);
    let hinted = shared.store.hint(&[hint], now).await?.into_iter().next().unwrap_or_default();
    Ok(answer(StatusCode::OK, &json!({"known": hinted.known, "placed": hinted.placed})))
}

async fn webhook(shared: &Shared, hook: Hook, body: &Bytes, now: Timestamp) -> Answer {
    let push = match hook {
        Hook::Push(push) => push,
        Hook::Other(event) => return Ok(answer(StatusCode::OK, &json!({"ignored": event}))),
        Hook::Malformed(why) => return Err(Problem::malformed(why)),
        Hook::Forged => {
            let message = "the signature is missing or wrong";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "forged", message));
        }
    };
    let digest = digest128(body);
    if !shared.replays.lock().unwrap_or_else(PoisonError::into_inner).is_new(digest, now) {
        let message = "this was delivered before";
        return Err(Problem::new(StatusCode::CONFLICT, "replayed", message));
    }
    let at = push.at.unwrap_or(now).min(now);
    let hint = |url: String| Hint::new(OriginKey::new(url, VisitType::git()), at, push.source.clone());
    let hints: Vec<Hint> = push.urls.into_iter().map(hint).collect();
    match shared.store.hint(&hints, now).await {
        Ok(hinted) => {
            let (known, placed) = (hinted.iter().any(|h| h.known), hinted.iter().any(|h| h.placed));
            Ok(answer(StatusCode::OK, &json!({"known": known, "placed": placed})))
        }
        Err(e) => {
            shared.replays.lock().unwrap_or_else(PoisonError::into_inner).forget(digest);
            Err(e.into())
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OriginsQuery {
    lister: Option<String>,
    instance: Option<String>,
    visit_type: Option<VisitType>,
    url: Option<String>,
    #[serde(default)]
    all: bool,
    after: Option<String>,
    limit: Option<usize>,
}

fn page_of(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=LARGEST_PAGE => Ok(limit),
        _ => Err(Problem::malformed(format!("limit must be from 1 to {LARGEST_PAGE}"))),
    }
}

async fn origins(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<OriginsQuery>, QueryRejection>,
) -> Answer {
    let asked = query_of(query)?;
    let query = OriginQuery {
        lister: asked.lister,
        instance: asked.instance,
        visit_type: asked.visit_type,
        url: None,
        url_prefix: asked.url,
        all: asked.all,
    };
    let place = |text: String| super::access::unhex(&text).map(PageToken);
    let after = match asked.after {
        Some(text) => Some(place(text).ok_or_else(|| Problem::malformed("after is none that was given"))?),
        None => None,
    };
    let page = shared.store.origins(&query, after, page_of(asked.limit)?).await?;
    let shown: Vec<Value> = page.origins.iter().map(|(lister, o)| forms::origin(lister, o)).collect();
    let next = page.next.map(|token| hex(&token.0));
    Ok(answer(StatusCode::OK, &json!({"origins": shown, "next": next})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    url: String,
    visit_type: VisitType,
}

async fn explain(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Answer {
    let asked = query_of(query)?;
    let now = shared.clock.now();
    let key = key_of(&asked.url, asked.visit_type)?;
    let explained = shared.store.explain(&key, now).await?;
    let explained = explained.ok_or_else(|| Problem::unknown("no such origin is listed"))?;
    Ok(answer(StatusCode::OK, &forms::explanation(&explained, now)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn changes(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<ChangesQuery>, QueryRejection>,
) -> Answer {
    let asked = query_of(query)?;
    let changes = shared.store.changes(ChangeToken(asked.after), page_of(asked.limit)?).await?;
    let next = changes.last().map_or(asked.after, |last| last.token.0);
    let shown: Vec<Value> = changes.iter().map(forms::change).collect();
    Ok(answer(StatusCode::OK, &json!({"changes": shown, "next": next})))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Answer {
    let mut shown = forms::prometheus(&shared.store.metrics(shared.clock.now()).await?);
    for more in &shared.more_metrics {
        shown += &more();
    }
    Ok(text(StatusCode::OK, "text/plain; version=0.0.4", shown))
}

/// Whether the store answers.
async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.store.changes(ChangeToken(i64::MAX.unsigned_abs()), 1).await {
        Ok(_) => answer(StatusCode::OK, &json!({"status": "ok"})),
        Err(e) => Problem::from(e).into_response(),
    }
}
