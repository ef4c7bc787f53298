//! Webhooks of forges: whose they are, and what was pushed. Pure.
//!
//! As documented by each: GitHub signs the body with HMAC-SHA256 in `X-Hub-Signature-256`
//! (`sha256=HEX`), Gitea and Forgejo in `X-Gitea-Signature` (`HEX`); GitLab repeats a secret token in
//! `X-Gitlab-Token`.

use hmac::Mac;
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::access::{mac, unhex};
use crate::model::Timestamp;

/// Which forge sends a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HookKind {
    /// GitHub.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea, and Forgejo.
    #[serde(alias = "forgejo")]
    Gitea,
}

/// Whose webhooks are believed.
#[derive(Clone)]
#[non_exhaustive]
pub struct HookSecret {
    /// Which forge sends them.
    pub kind: HookKind,
    /// What it is called as the source of hints.
    pub source: String,
    /// The secret that was given to the forge.
    pub secret: SecretString,
}

impl std::fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookSecret")
            .field("kind", &self.kind)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl HookSecret {
    /// A forge's secret, and what it is called.
    pub fn new(kind: HookKind, source: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        Self { kind, source: source.into(), secret: secret.into() }
    }
}

/// What came of reading a webhook.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// Something was pushed.
    Push(Push),
    /// Another event: nothing to do.
    Other(String),
    /// Signature or token are missing or wrong.
    Forged,
    /// It makes no sense.
    Malformed(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Push {
    pub(super) source: String,
    /// URLs under which the repository may be known.
    pub(super) urls: Vec<String>,
    /// When, where the forge says so.
    pub(super) at: Option<Timestamp>,
}

/// Which forge says that it sent it. Gitea sends GitHub's headers too.
pub(super) fn kind(headers: &HeaderMap) -> Option<(HookKind, String)> {
    let named = [
        (HookKind::Gitea, "x-gitea-event"),
        (HookKind::Gitea, "x-forgejo-event"),
        (HookKind::GitLab, "x-gitlab-event"),
        (HookKind::GitHub, "x-github-event"),
    ];
    named.into_iter().find_map(|(kind, name)| {
        let event = headers.get(name)?.to_str().unwrap_or_default();
        Some((kind, event.to_owned()))
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Repository {
    clone_url: Option<String>,
    html_url: Option<String>,
    git_http_url: Option<String>,
    web_url: Option<String>,
    homepage: Option<String>,
    pushed_at: Option<serde_json::Value>,
}

/// Reads a webhook. Nothing of a body is read before it is known whose it is.
pub(super) fn read(
    secrets: &[HookSecret],
    kind: HookKind,
    event: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Hook {
    let Some(secret) = rightful(secrets, kind, headers, body) else { return Hook::Forged };
    if !matches!(event, "push" | "Push Hook" | "Tag Push Hook" | "create" | "delete") {
        return Hook::Other(super::super::clean_text(event));
    }
    let value: serde_json::Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(e) => return Hook::Malformed(format!("no JSON: {e}")),
    };
    let of = |name: &str| value.get(name).cloned().and_then(|v| serde_json::from_value::<Repository>(v).ok());
    let repositories: Vec<Repository> =
        ["repository", "project"].iter().filter_map(|name| of(name)).collect();
    let mut urls = Vec::new();
    for repository in &repositories {
        let Repository { clone_url, git_http_url, html_url, web_url, homepage, .. } = repository;
        for url in [clone_url, git_http_url, html_url, web_url, homepage].into_iter().flatten() {
            let bare = url.trim_end_matches('/').trim_end_matches(".git");
            urls.extend([url.clone(), bare.to_owned(), format!("{bare}.git")]);
        }
    }
    urls.retain(|url| crate::model::check_origin_url(url).is_ok());
    let mut kept = std::collections::HashSet::new();
    urls.retain(|url| kept.insert(url.clone()));
    if urls.is_empty() {
        return Hook::Malformed("no URL of a repository".to_owned());
    }
    let at = repositories.iter().find_map(|r| dated(r.pushed_at.as_ref()?));
    Hook::Push(Push { source: secret.source.clone(), urls, at })
}

fn dated(value: &serde_json::Value) -> Option<Timestamp> {
    match value {
        serde_json::Value::Number(n) => n.as_i64().map(Timestamp::from_seconds),
        serde_json::Value::String(text) => Timestamp::parse(text).ok(),
        _ => None,
    }
}

fn rightful<'s>(
    secrets: &'s [HookSecret],
    kind: HookKind,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<&'s HookSecret> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let right = |secret: &HookSecret| {
        let key = secret.secret.expose_secret();
        if key.is_empty() {
            return false;
        }
        let signature = match kind {
            HookKind::GitLab => {
                let shown = Sha256::digest(header("x-gitlab-token").unwrap_or_default());
                return Sha256::digest(key).as_slice().ct_eq(shown.as_slice()).into();
            }
            HookKind::GitHub => header("x-hub-signature-256").and_then(|h| h.strip_prefix("sha256=")),
            HookKind::Gitea => header("x-gitea-signature").or_else(|| header("x-forgejo-signature")),
        };
        let Some(signature) = signature.and_then(unhex) else { return false };
        mac(key.as_bytes(), body).is_some_and(|whole| whole.verify_slice(&signature).is_ok())
    };
    secrets.iter().filter(|s| s.kind == kind).find(|s| right(s))
}
