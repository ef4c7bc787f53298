//! The store in one file.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::channel::oneshot;

use super::engine::redb::RedbKv;
use super::engine::{Engine, impl_store};
use super::{
    BackendError, BackendErrorKind, Begun, Candidate, Change, ChangeToken, Claim, Claimed, Committed,
    Completed, EndRun, Ended, Explanation, Gap, GapQuery, Hint, Hinted, Imported, ImportedOrigin, LaneLoad,
    Metrics, OriginPage, OriginQuery, PageCommit, PageToken, PendingCursor, Refusal, Requested, Result,
    RunPlan, RunQuery, RunRecord, RunTicket, StoreOptions, Validator, VisitRequest,
};
use crate::model::{
    ListerKey, ListerRecord, OriginKey, Outcome, Timestamp, VisitId, VisitStats, VisitToken, VisitType,
};
use crate::policy::Policies;

type Job = Box<dyn FnOnce(&Engine<RedbKv>) + Send>;

/// A store in one file, durable and for one process at a time. What a method has answered is on the
/// disk, but for the short leases of cursors, which a crash ends anyway.
///
/// A thread of its own works on the file, so that no executor is blocked and any runtime will do.
/// Clones share it; dropping the last one waits for the work at hand and closes the file.
///
/// ```
/// use lamplighter::backend::{FileStore, OriginStore};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("lamplighter.db");
/// # futures::executor::block_on(async {
/// let store = FileStore::open(&path)?;
/// assert!(store.listers().await?.is_empty());
/// # Ok::<(), lamplighter::backend::BackendError>(())
/// # }).unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct FileStore {
    worker: Arc<Worker>,
}

struct Worker {
    /// Taken at the end: that is what ends the thread.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    path: std::path::PathBuf,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Ok(jobs) = self.jobs.get_mut() {
            jobs.take();
        }
        if let Ok(Some(thread)) = self.thread.get_mut().map(Option::take) {
            // A thread that panicked has nothing more to close.
            let _ = thread.join();
        }
    }
}

impl FileStore {
    /// Opens a file with the built-in policy; makes it where there is none.
    ///
    /// # Errors
    /// [`BackendErrorKind::Unavailable`] when another process uses the file, or it may not be
    /// opened; [`BackendErrorKind::Newer`] when a newer version wrote it;
    /// [`BackendErrorKind::Corrupt`] when it is no store; [`BackendErrorKind::Io`] when the disk
    /// fails.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::with_options(path, StoreOptions::default())
    }

    /// Opens a file with other policies. Origins placed by a policy of another name are placed
    /// again, in batches, before anything else is done with the store.
    ///
    /// # Errors
    /// As [`FileStore::open`].
    pub fn with_policies(path: impl AsRef<Path>, policies: Policies) -> Result<Self> {
        Self::with_options(path, StoreOptions { policies, ..StoreOptions::default() })
    }

    /// Opens a file with options.
    ///
    /// # Errors
    /// As [`FileStore::open`].
    pub fn with_options(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let engine = Engine::open(RedbKv::open(&path)?, options)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new()
            .name("lamplighter-file".to_owned())
            .spawn(move || {
                for job in queue {
                    job(&engine);
                }
            })
            .map_err(|e| {
                BackendError::new(BackendErrorKind::Unavailable, "no thread to be had").with_source(e)
            })?;
        let worker = Worker { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), path };
        Ok(Self { worker: Arc::new(worker) })
    }

    async fn run<R: Send + 'static>(
        &self,
        f: impl FnOnce(&Engine<RedbKv>) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let stopped =
            || BackendError::new(BackendErrorKind::Unavailable, "the thread of the file has stopped");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |engine| {
            // Nobody waits any more: what was done is done.
            let _ = answer.send(f(engine));
        });
        {
            let jobs = self.worker.jobs.lock().map_err(|_| stopped())?;
            jobs.as_ref().ok_or_else(stopped)?.send(job).map_err(|_| stopped())?;
        }
        answered.await.map_err(|_| stopped())?
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.worker.path).finish_non_exhaustive()
    }
}

impl_store!(FileStore);
