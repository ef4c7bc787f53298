//! What is answered where something is wrong.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::backend::{BackendError, BackendErrorKind};

/// Why a request is not answered with what it asks for.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    message: String,
    again_in: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: super::super::clean_text(&message.into()), again_in: None }
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown", message)
    }

    pub(super) fn too_many(again_in: Duration) -> Self {
        let again_in = Some(again_in);
        Self { again_in, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", "too many requests") }
    }
}

impl From<BackendError> for Problem {
    fn from(e: BackendError) -> Self {
        // What it says may name servers and paths: it is for the log.
        tracing::error!(error = %e, "the store did not answer a request");
        let message = match e.kind() {
            BackendErrorKind::Unavailable => "the store cannot be reached",
            _ => "the store cannot answer",
        };
        let again_in = e.is_retryable().then(|| Duration::from_secs(5));
        Self { again_in, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "store", message) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({"error": {"kind": self.kind, "message": self.message}});
        let mut response = answer(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(again_in) = self.again_in {
            let seconds = again_in.as_secs() + u64::from(again_in.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// An answer in JSON.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    text(status, "application/json", body.to_string())
}

/// An answer that is a text.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
