//! The seam that the driver knows: a lister whose types are erased, or a source that is no lister.

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{Coverage, Failure, Incremental, Lister, ListerError, Mode, Page, Recovery, RunInfo};
use crate::model::{JsonObject, ListerKey};
use crate::transport::{Request, Response, Transport, TransportError};

/// A source of pages, its cursors and states as JSON: what the driver runs.
///
/// [`Source::stateless`] and [`Source::incremental`] make one of a lister. Implement it directly
/// for what is not HTTP: `request` then only names what is wanted, and `fetch` gets it in another
/// way.
#[async_trait]
pub trait PageSource: Send + Sync + 'static {
    /// The lister's name and the instance, as stored.
    fn key(&self) -> ListerKey;

    /// The first cursors of a full listing.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Cursor`] when a cursor cannot be stored.
    fn start(&self, run: &RunInfo) -> Result<Vec<Value>, ListerError>;

    /// The first cursors of a full listing in so many shards; see [`Lister::start_in_shards`].
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Cursor`] when a cursor cannot be stored.
    fn start_in_shards(&self, run: &RunInfo, shards: NonZeroU32) -> Result<Option<Vec<Value>>, ListerError> {
        let _ = (run, shards);
        Ok(None)
    }

    /// Whether it remembers anything between runs.
    fn is_incremental(&self) -> bool {
        false
    }

    /// Reads a stored state of a form into one of the present form: `None` where it must be listed
    /// in full again.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Cursor`] when it is of a newer form, or of the present one and
    /// cannot be read.
    fn read_state(&self, state: &JsonObject, form: u32) -> Result<Option<Value>, ListerError> {
        let _ = (state, form);
        Ok(None)
    }

    /// The first cursors of a run from a state that `read_state` gave.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Cursor`] when the state cannot be read, or a cursor not stored.
    fn resume(&self, state: &Value, run: &RunInfo) -> Result<Vec<Value>, ListerError> {
        let _ = state;
        self.start(run)
    }

    /// Puts two states, or pieces of one, together.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Cursor`] when one cannot be read.
    fn join(&self, ours: Value, stored: Value) -> Result<Value, ListerError> {
        let _ = ours;
        Ok(stored)
    }

    /// The request of a cursor.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Cursor`] when the cursor makes no sense: the run is aborted.
    fn request(&self, cursor: &Value) -> Result<Request, ListerError>;

    /// Gets the answer to a request.
    ///
    /// # Errors
    /// The transport's.
    async fn fetch(&self, request: Request, transport: &dyn Transport) -> Result<Response, TransportError> {
        transport.send(request).await
    }

    /// Reads an answer. Runs on a blocking thread when the body is spooled.
    ///
    /// # Errors
    /// As [`Lister::page`].
    fn read(&self, cursor: &Value, response: Response, page: &mut Page<Value>) -> Result<(), ListerError>;

    /// What to do about a cursor that failed for good.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Cursor`] when the cursor makes no sense.
    fn recover(&self, cursor: &Value, failure: &Failure) -> Result<Recovery<Value>, ListerError> {
        let _ = (cursor, failure);
        Ok(Recovery::gap())
    }

    /// See [`Lister::coverage`].
    fn coverage(&self, mode: Mode) -> Coverage {
        match mode {
            Mode::Full => Coverage::All,
            _ => Coverage::New,
        }
    }

    /// See [`Lister::resumable_for`].
    fn resumable_for(&self) -> Duration {
        Duration::from_secs(30 * 86_400)
    }

    /// See [`Lister::cursor_form`].
    fn cursor_form(&self) -> u32 {
        1
    }

    /// See [`Incremental::state_form`].
    fn state_form(&self) -> u32 {
        1
    }
}

/// A lister as a [`PageSource`]: stateless, or with memory.
///
/// ```
/// # use lamplighter::lister::{Lister, ListerError, Page, PageSource, RunInfo, Source};
/// # use lamplighter::transport::{Request, Response};
/// # struct Tiny;
/// # impl Lister for Tiny {
/// #     type Cursor = u32;
/// #     fn name(&self) -> &'static str { "tiny" }
/// #     fn instance(&self) -> &str { "tiny.example" }
/// #     fn start(&self, _: &RunInfo) -> Vec<u32> { vec![1] }
/// #     fn request(&self, _: &u32) -> Result<Request, ListerError> { Err(ListerError::cursor("")) }
/// #     fn page(&self, _: &u32, _: Response, _: &mut Page<u32>) -> Result<(), ListerError> { Ok(()) }
/// # }
/// let source = Source::stateless(Tiny);
/// assert!(!source.is_incremental());
/// assert_eq!(source.key().to_string(), "tiny of tiny.example");
/// ```
#[derive(Debug)]
pub struct Source<L, M> {
    lister: L,
    memory: PhantomData<fn() -> M>,
}

/// Marks a [`Source`] without memory.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stateless;

/// Marks a [`Source`] with memory.
#[derive(Debug)]
#[non_exhaustive]
pub struct WithMemory;

impl<L: Lister> Source<L, Stateless> {
    /// A lister that remembers nothing between runs.
    pub fn stateless(lister: L) -> Self {
        Self { lister, memory: PhantomData }
    }
}

impl<L: Incremental> Source<L, WithMemory> {
    /// A lister that remembers where it was.
    pub fn incremental(lister: L) -> Self {
        Self { lister, memory: PhantomData }
    }
}

fn stored<C: serde::Serialize>(cursors: Vec<C>) -> Result<Vec<Value>, ListerError> {
    let to_value =
        |c| serde_json::to_value(c).map_err(|e| ListerError::cursor("a cursor is no JSON").with_source(e));
    cursors.into_iter().map(to_value).collect()
}

fn read<T: serde::de::DeserializeOwned>(what: &str, value: &Value) -> Result<T, ListerError> {
    T::deserialize(value).map_err(|e| ListerError::cursor(format!("{what} {value}")).with_source(e))
}

/// What both kinds of source have in common.
macro_rules! as_the_lister {
    () => {
        fn key(&self) -> ListerKey {
            ListerKey::new(self.lister.name(), self.lister.instance())
        }

        fn start(&self, run: &RunInfo) -> Result<Vec<Value>, ListerError> {
            stored(self.lister.start(run))
        }

        fn start_in_shards(
            &self,
            run: &RunInfo,
            shards: NonZeroU32,
        ) -> Result<Option<Vec<Value>>, ListerError> {
            self.lister.start_in_shards(run, shards).map(stored).transpose()
        }

        fn request(&self, cursor: &Value) -> Result<Request, ListerError> {
            self.lister.request(&read("cursor", cursor)?)
        }

        fn read(
            &self,
            cursor: &Value,
            response: Response,
            page: &mut Page<Value>,
        ) -> Result<(), ListerError> {
            let at = read("cursor", cursor)?;
            let mut typed = std::mem::take(page).cast();
            let result = self.lister.page(&at, response, &mut typed);
            *page = typed.cast();
            result
        }

        fn recover(&self, cursor: &Value, failure: &Failure) -> Result<Recovery<Value>, ListerError> {
            let Recovery { follow, verdict, note } = self.lister.recover(&read("cursor", cursor)?, failure);
            Ok(Recovery { follow: stored(follow)?, verdict, note })
        }

        fn coverage(&self, mode: Mode) -> Coverage {
            self.lister.coverage(mode)
        }

        fn resumable_for(&self) -> Duration {
            self.lister.resumable_for()
        }

        fn cursor_form(&self) -> u32 {
            self.lister.cursor_form()
        }
    };
}

#[async_trait]
impl<L: Lister> PageSource for Source<L, Stateless> {
    as_the_lister!();
}

#[async_trait]
impl<L: Incremental> PageSource for Source<L, WithMemory> {
    as_the_lister!();

    fn is_incremental(&self) -> bool {
        true
    }

    fn read_state(&self, state: &JsonObject, form: u32) -> Result<Option<Value>, ListerError> {
        let now = self.lister.state_form();
        if state.is_empty() {
            return Ok(None);
        }
        let value = Value::Object(state.clone());
        if form > now {
            return Err(ListerError::cursor(format!(
                "the stored state is of form {form}, this version reads up to {now}: use a newer version, or list with --full --restart"
            )));
        }
        if form < now {
            let migrated = self.lister.migrate(form, value);
            return migrated.map(|s| to_state(&s)).transpose();
        }
        to_state(&read::<L::State>("state", &value)?).map(Some)
    }

    fn resume(&self, state: &Value, run: &RunInfo) -> Result<Vec<Value>, ListerError> {
        stored(self.lister.resume(&read("state", state)?, run))
    }

    fn join(&self, ours: Value, stored: Value) -> Result<Value, ListerError> {
        to_state(&self.lister.join(read("state", &ours)?, read("state", &stored)?))
    }

    fn state_form(&self) -> u32 {
        self.lister.state_form()
    }
}

fn to_state<S: serde::Serialize>(state: &S) -> Result<Value, ListerError> {
    serde_json::to_value(state).map_err(|e| ListerError::cursor("a state is no JSON").with_source(e))
}
