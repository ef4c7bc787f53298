//! A forge of recorded exchanges on which one request goes wrong.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use lamplighter::transport::{
    Body, Fit, Replay, Request, Response, Transport, TransportError, TransportErrorKind,
};

use crate::fault::{ELSEWHERE, INSIDE, Spoilt};

/// How often it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Never,
    Once,
    Always,
}

/// A forge on which what is asked by one request goes wrong.
pub(crate) struct Forge {
    replay: Replay,
    /// All that is asked of it in health.
    known: BTreeSet<String>,
    at: String,
    path: String,
    answer: Spoilt,
    how: How,
    log: Mutex<Vec<Asked>>,
}

/// A request that was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) key: String,
    /// As errors name it.
    pub(crate) place: String,
    /// Whether it is recorded, or near enough to something that is.
    pub(crate) known: bool,
    /// Whether it went to a host that nobody configured, with a credential.
    pub(crate) betrayed: bool,
}

/// Method, URL and body of a request: what tells it from others.
pub(crate) fn key(request: &Request) -> String {
    let body = request.body.as_deref().unwrap_or_default();
    format!("{} {} {}", request.method, request.url, String::from_utf8_lossy(body))
}

/// Where a request leads, whatever is asked there.
pub(crate) fn path(request: &Request) -> String {
    format!("{} {}", request.method, &request.url[..url::Position::AfterPath])
}

impl Forge {
    pub(crate) fn new(
        replay: Replay,
        known: BTreeSet<String>,
        at: &Request,
        answer: Spoilt,
        how: How,
    ) -> Self {
        Self { replay, known, at: key(at), path: path(at), answer, how, log: Mutex::default() }
    }

    pub(crate) fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fails(&self, request: &Request) -> bool {
        let this = key(request);
        match self.how {
            How::Never => false,
            How::Once => this == self.at && !self.log().iter().any(|asked| asked.key == this),
            // What is wrong with a page is wrong with every piece of it.
            How::Always => this == self.at || (path(request) == self.path && !self.known.contains(&this)),
        }
    }
}

#[async_trait]
impl Transport for Forge {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let fails = self.fails(&request);
        let away = [ELSEWHERE, INSIDE].iter().any(|host| request.url.as_str().starts_with(host));
        let place = request.place();
        let asked = |known| Asked {
            key: key(&request),
            place: request.place(),
            known,
            betrayed: away && request.credential.is_some(),
        };
        let note = |known| self.log.lock().unwrap_or_else(PoisonError::into_inner).push(asked(known));
        assert!(self.log().len() < 2_000, "asks for ever: {place}");
        if fails {
            note(true);
            return match &self.answer {
                Ok(answer) => Ok(answer.clone()),
                Err(kind) => Err(TransportError::new(*kind, place)),
            };
        }
        if away {
            note(false);
            // As the client refuses it.
            return Err(TransportError::new(TransportErrorKind::Forbidden, place));
        }
        let unknown = self.how == How::Always && !self.known.contains(&key(&request));
        let answer = if unknown { None } else { Some(self.replay.send(request.clone()).await) };
        let missing = |e: &TransportError| e.kind() == TransportErrorKind::NotRecorded;
        match answer {
            Some(Err(e)) if missing(&e) => {}
            Some(answer) => {
                note(self.replay.log().last().is_none_or(|r| r.answer != Fit::None));
                return answer;
            }
            None => {}
        }
        note(false);
        Ok(Response::new(404, request.url, Body::from("no such page"), lamplighter::model::Timestamp::EPOCH))
    }
}
