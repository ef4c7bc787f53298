//! What a lister could not make sense of.

use std::error::Error as StdError;
use std::fmt;

/// What kind of thing a lister could not make sense of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListerErrorKind {
    /// An answer's body is not what it should be. The cursor becomes what `recover` says.
    Parse,
    /// The forge says in the body that it refuses (wrong token, no permission). As `Parse`, but the
    /// configuration is at fault.
    Refused,
    /// A stored cursor or state makes no sense: the run is aborted.
    Cursor,
    /// The run was stopped while a page was read: nothing is wrong with the page.
    Stopped,
    /// A body could not be read from disk.
    Io,
}

/// A lister's error: the kind, the place, and an excerpt where there is one.
pub struct ListerError {
    kind: ListerErrorKind,
    context: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ListerError {
    /// An error of a kind with the place where it is (`at projects[17].date`, `line 3`).
    pub fn new(kind: ListerErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// An answer that is not what it should be.
    pub fn parse(context: impl Into<String>) -> Self {
        Self::new(ListerErrorKind::Parse, context)
    }

    /// The forge refuses, and says so in the body.
    pub fn refused(context: impl Into<String>) -> Self {
        Self::new(ListerErrorKind::Refused, context)
    }

    /// A stored cursor or state that makes no sense.
    pub fn cursor(context: impl Into<String>) -> Self {
        Self::new(ListerErrorKind::Cursor, context)
    }

    /// The run was stopped while a page was read.
    #[must_use]
    pub fn stopped() -> Self {
        Self::new(ListerErrorKind::Stopped, String::new())
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ListerErrorKind {
        self.kind
    }

    /// Whether the same request may give a better answer later. A body that cannot be read may be
    /// a proxy's page or a cut one; a refusal or a broken cursor stays.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ListerErrorKind::Parse | ListerErrorKind::Io | ListerErrorKind::Stopped)
    }
}

impl fmt::Display for ListerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ListerErrorKind::Parse => "unexpected answer",
            ListerErrorKind::Refused => "the forge refuses",
            ListerErrorKind::Cursor => "a cursor or state that makes no sense",
            ListerErrorKind::Stopped => "stopped",
            ListerErrorKind::Io => "a body that cannot be read",
        };
        if self.context.is_empty() { f.write_str(what) } else { write!(f, "{what}: {}", self.context) }
    }
}

impl fmt::Debug for ListerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListerError")
            .field("kind", &self.kind)
            .field("context", &self.context)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for ListerError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

/// A lister cannot be made from its arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No lister has this name.
    #[error("unknown lister {name:?}{}", hint(.nearest.as_deref()))]
    UnknownLister {
        /// The name given.
        name: String,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// The lister has no such parameter.
    #[error("{lister} has no parameter {name:?}{}", hint(.nearest.as_deref()))]
    UnknownParameter {
        /// The lister.
        lister: String,
        /// The name given.
        name: String,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// A required parameter is missing.
    #[error("{lister} needs {what}")]
    Missing {
        /// The lister.
        lister: String,
        /// What it needs, and where it is set.
        what: String,
    },
    /// A parameter's value is not of its type.
    #[error("{name}: {problem}")]
    Value {
        /// The parameter.
        name: String,
        /// What is wrong with its value. Never the value of a secret.
        problem: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|n| format!(" (did you mean {n:?}?)")).unwrap_or_default()
}
