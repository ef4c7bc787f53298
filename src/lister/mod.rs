//! What a lister is: a cursor becomes a request, an answer becomes origins and further cursors.
//!
//! A lister is **pure**: no clock, no network, no randomness. Everything hard (HTTP, retries,
//! limits, tokens, checkpoints, concurrency) is the driver's and the transport's.
//!
//! # How to implement one
//!
//! Implement [`Lister`]: five short methods. A cursor says all that one request needs; `page` reads
//! one answer and calls [`Page::origin`] for what it found and [`Page::next`] for where it goes on.
//! The end of a listing is *no cursor left*, never "an empty page". Add [`Incremental`] where a
//! later run can ask for only what is new. `docs/writing-a-lister.md` walks through it.
//!
//! ```
//! use lamplighter::lister::{Lister, ListerError, Page, RunInfo};
//! use lamplighter::model::{NewOrigin, VisitType};
//! use lamplighter::transport::{Request, Response};
//!
//! /// Lists a forge that answers `{"repos": ["https://…"], "next": "https://…" or null}`.
//! struct Tiny { base: url::Url }
//!
//! #[derive(serde::Deserialize)]
//! struct Answer { repos: Vec<String>, next: Option<url::Url> }
//!
//! impl Lister for Tiny {
//!     type Cursor = url::Url;
//!     fn name(&self) -> &'static str { "tiny" }
//!     fn instance(&self) -> &str { self.base.host_str().unwrap_or_default() }
//!     fn start(&self, _: &RunInfo) -> Vec<url::Url> { vec![self.base.clone()] }
//!     fn request(&self, at: &url::Url) -> Result<Request, ListerError> { Ok(Request::get(at.clone())) }
//!     fn page(&self, _: &url::Url, response: Response, page: &mut Page<url::Url>) -> Result<(), ListerError> {
//!         let answer: Answer = response.json()?;
//!         for repo in answer.repos {
//!             page.origin(NewOrigin::new(repo, VisitType::git()))?;
//!         }
//!         if let Some(next) = answer.next {
//!             page.next(next);
//!         }
//!         Ok(())
//!     }
//! }
//! ```

#[cfg(feature = "archives")]
pub(crate) mod archive;
#[cfg(any(feature = "archives", feature = "xml"))]
pub(crate) mod budget;
#[cfg(feature = "compression")]
pub(crate) mod compress;
#[cfg(feature = "compression")]
pub(crate) mod deb822;
pub mod detect;
mod error;
mod filters;
#[cfg(feature = "html")]
pub(crate) mod html;
pub(crate) mod json;
mod page;
#[cfg(feature = "compression")]
pub(crate) mod rds;
mod read;
mod recovery;
mod registry;
mod repository;
#[cfg(all(feature = "html", feature = "xml"))]
pub(crate) mod sitemap;
mod source;
#[cfg(feature = "xml")]
pub(crate) mod xml;

use std::num::NonZeroU32;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::{ConfigError, ListerError, ListerErrorKind};
pub use filters::{Fact, Filtered, Filters, Keep, KeepError};
pub use page::{Flush, Follow, FollowKind, Page, PageBatch, Sighting, Skip};
#[cfg(feature = "compression")]
pub(crate) use read::parse_json;
#[cfg(feature = "compression")]
pub(crate) use read::{day_date, iso_date};
pub use read::{fingerprint, mail_date, query_param, seconds_date};
pub(crate) use read::{in_order, utc_date};
pub use recovery::{Failure, FailureKind, Recovery, Verdict};
pub(crate) use registry::location;
pub use registry::{Arguments, Built, Entry, Parameter, ParameterKind, Registry, base_url};
pub use repository::{Repository, RepositoryError, repository_url};
pub use source::{PageSource, Source, Stateless, WithMemory};

use crate::model::Timestamp;
pub use crate::transport::Secret;
use crate::transport::{Request, Response};

/// Where a lister is: all that is needed to build one request, and never a secret.
///
/// Implemented for every type that can be stored and compared.
pub trait Cursor:
    Serialize + DeserializeOwned + Clone + std::fmt::Debug + Eq + std::hash::Hash + Send + Sync + 'static
{
}

impl<T> Cursor for T where
    T: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Eq + std::hash::Hash + Send + Sync + 'static
{
}

/// What kind of run this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mode {
    /// Everything, from the start.
    Full,
    /// What is new since the stored state.
    Incremental,
    /// Only the known gaps.
    Gaps,
}

impl Mode {
    /// As in JSON: `full`, `incremental`, `gaps`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Gaps => "gaps",
        }
    }
}

/// What a run says of the origins that it did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Coverage {
    /// Every live origin was seen: what was not seen is gone.
    All,
    /// The listing is ordered by change: what was not seen has not changed up to the run's start.
    Changed,
    /// Nothing.
    New,
}

impl Coverage {
    /// As in JSON: `all`, `changed`, `new`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Changed => "changed",
            Self::New => "new",
        }
    }
}

/// The run that asks for cursors. What a page needs of it goes into the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunInfo {
    /// When the run started: the same over all processes and resumptions of it.
    pub started: Timestamp,
    /// What kind of run it is.
    pub mode: Mode,
}

impl RunInfo {
    /// A run of a kind that started then.
    #[must_use]
    pub fn new(started: Timestamp, mode: Mode) -> Self {
        Self { started, mode }
    }
}

/// Lists the origins of one instance of a forge or registry. See the [module](self) for how to
/// implement one.
pub trait Lister: Send + Sync + 'static {
    /// Where it is in the listing: one cursor, one request.
    type Cursor: Cursor;

    /// Its name, as stored: never changes.
    fn name(&self) -> &'static str;

    /// The instance that it lists, as stored: usually the host.
    fn instance(&self) -> &str;

    /// The first cursors of a full listing.
    fn start(&self, run: &RunInfo) -> Vec<Self::Cursor>;

    /// The first cursors of a full listing in so many parts that are listed beside each other, where
    /// the forge lets one ask for ranges (of ids, say): together they list what [`Lister::start`]
    /// does. The first may be one that finds out the ranges. `None`, the default: it has none.
    fn start_in_shards(&self, run: &RunInfo, shards: NonZeroU32) -> Option<Vec<Self::Cursor>> {
        let _ = (run, shards);
        None
    }

    /// The request of a cursor.
    ///
    /// # Errors
    /// [`ListerErrorKind::Cursor`] where a stored cursor makes no sense; the run is aborted.
    fn request(&self, at: &Self::Cursor) -> Result<Request, ListerError>;

    /// Reads the answer (status 2xx) to a cursor's request.
    ///
    /// # Errors
    /// [`ListerErrorKind::Parse`] where the body is not what was expected, with the place in it. It
    /// goes to [`Lister::recover`]. What [`Page::origin`] gives is to be passed on with `?`.
    fn page(
        &self,
        at: &Self::Cursor,
        response: Response,
        page: &mut Page<Self::Cursor>,
    ) -> Result<(), ListerError>;

    /// What to do when a cursor failed for good: after the transport's retries, or with an answer
    /// that could not be read. A gap by default: the framework cannot tell the next page of a chain
    /// from a detail page, and to skip a 404 there would call a truncated listing complete.
    fn recover(&self, at: &Self::Cursor, failure: &Failure) -> Recovery<Self::Cursor> {
        let _ = (at, failure);
        Recovery::gap()
    }

    /// What a complete run says of the origins that it did not see.
    fn coverage(&self, mode: Mode) -> Coverage {
        match mode {
            Mode::Full => Coverage::All,
            _ => Coverage::New,
        }
    }

    /// For how long an interrupted run may be continued. An older one restarts, and keeps its
    /// origins. 30 days by default.
    fn resumable_for(&self) -> std::time::Duration {
        std::time::Duration::from_secs(30 * 86_400)
    }

    /// The form of the cursors. A pending run of another form restarts; raise it when the type
    /// of the cursor changes.
    fn cursor_form(&self) -> u32 {
        1
    }
}

/// Adds memory between runs to a [`Lister`].
///
/// A run joins the pieces that its pages [mark](Page::mark) into a candidate, and the candidate into
/// the stored state when it ends complete or partial.
pub trait Incremental: Lister {
    /// What is remembered: a JSON object.
    type State: Serialize + DeserializeOwned + Default + Clone + PartialEq + Send + 'static;

    /// The first cursors of a run that asks only for what is new since `state`.
    fn resume(&self, state: &Self::State, run: &RunInfo) -> Vec<Self::Cursor>;

    /// Puts two states together: commutative, associative and idempotent (like a maximum), so that
    /// the order in which pages are read does not matter.
    fn join(&self, ours: Self::State, stored: Self::State) -> Self::State;

    /// The form of the state. A newer stored one is refused, an older one goes to
    /// [`Incremental::migrate`].
    fn state_form(&self) -> u32 {
        1
    }

    /// Reads a state of an older form. `None`, the default, lists in full again.
    fn migrate(&self, form: u32, state: serde_json::Value) -> Option<Self::State> {
        let _ = (form, state);
        None
    }
}
