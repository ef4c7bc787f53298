//! Why a command ends without having done its work.

use std::fmt;
use std::io;

use lamplighter::backend::{BackendError, BackendErrorKind};
use lamplighter::driver::{RunError, RunErrorKind};
use lamplighter::lister::ConfigError;

/// How a command ended that did what it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// All of it.
    Whole,
    /// Not all: a partial, aborted or open run, a refused line.
    InPart,
}

impl Done {
    pub(crate) fn whole_if(whole: bool) -> Self {
        if whole { Self::Whole } else { Self::InPart }
    }
}

/// Why a command could not go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad usage or configuration, an unknown lister, a store that cannot be opened: status 2.
    Usage(String),
    /// The work could not be done: status 1.
    Work(String),
    /// Whoever read the output has seen enough: no failure at all.
    ClosedPipe,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }

    pub(crate) fn work(message: impl fmt::Display) -> Self {
        Self::Work(message.to_string())
    }
}

/// Output that cannot be written.
impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Work(format!("the output cannot be written: {e}")),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(e: serde_json::Error) -> Self {
        Self::from(io::Error::from(e))
    }
}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        let next = match &e {
            ConfigError::UnknownLister { .. } => "; `lamplighter listers` shows all of them",
            ConfigError::UnknownParameter { .. } | ConfigError::Missing { .. } => {
                "; `lamplighter listers` shows each one's parameters"
            }
            _ => "",
        };
        Self::Usage(format!("{e}{next}"))
    }
}

impl From<BackendError> for Failure {
    fn from(e: BackendError) -> Self {
        let next = match e.kind() {
            BackendErrorKind::Unavailable => "; wait for the other process to end, or name another --store",
            BackendErrorKind::Fenced => "; look at `lamplighter runs`",
            BackendErrorKind::Clock => "; set the machine's clock",
            BackendErrorKind::Corrupt => "; restore the file from a copy, or list again into another --store",
            _ => "",
        };
        let message = format!("{}{next}", chain(&e));
        match e.kind() {
            BackendErrorKind::Unavailable | BackendErrorKind::Newer => Self::Usage(message),
            _ => Self::Work(message),
        }
    }
}

impl From<RunError> for Failure {
    fn from(e: RunError) -> Self {
        if e.kind() == RunErrorKind::Shards {
            return Self::Usage(format!("{}; list it without --shards", chain(&e)));
        }
        let next = match e.kind() {
            RunErrorKind::TakenOver => "; it goes on there",
            RunErrorKind::Lister => "",
            _ => "; what was committed is kept, and the same command goes on from there",
        };
        Self::Work(format!("{}{next}", chain(&e)))
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(e: &dyn std::error::Error) -> String {
    let mut line = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let text = e.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = e.source();
    }
    one_line(&line)
}

/// The text without line breaks or other control characters: what it says may come from outside.
pub(crate) fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control()).filter(|s| !s.trim().is_empty()).collect::<Vec<_>>().join(" ")
}
