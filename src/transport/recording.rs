//! Keeps every exchange of a client as a fixture folder.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::exchange::without_user;
use super::manifest::{
    JOURNAL_NAME, JournalLine, MANIFEST_FORM, MANIFEST_NAME, Manifest, ManifestExchange, ManifestRun,
    error_name, header_text,
};
use super::scrub::Scrub;
use super::{Auth, Request, Response, Transport, TransportError, TransportErrorKind};
use crate::model::{JsonObject, Timestamp};

/// Answer headers that are never written down: they carry sessions and secrets.
const SECRET_HEADERS: [&str; 9] = [
    "set-cookie",
    "set-cookie2",
    "cookie",
    "authorization",
    "proxy-authorization",
    "authentication-info",
    "private-token",
    "x-api-key",
    "x-auth-token",
];

/// What a recording says of itself, and the secrets that it must not hold.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecordingInfo {
    /// The lister's name.
    pub lister: String,
    /// Where it comes from: the server and its version.
    pub about: String,
    /// The lister's arguments, without secrets.
    pub arguments: JsonObject,
    /// Secrets that a forge might send back (in a `Link`, in a page): replaced wherever they appear.
    pub secrets: Vec<SecretString>,
}

impl RecordingInfo {
    /// Names the lister and the source of the recording.
    pub fn new(lister: impl Into<String>, about: impl Into<String>) -> Self {
        Self { lister: lister.into(), about: about.into(), arguments: JsonObject::new(), secrets: Vec::new() }
    }

    /// Gives the lister's arguments, without secrets.
    #[must_use]
    pub fn with_arguments(mut self, arguments: JsonObject) -> Self {
        self.arguments = arguments;
        self
    }

    /// Gives the secrets that are replaced wherever they appear. Their number is written down, so
    /// that a replay has as many.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Vec<SecretString>) -> Self {
        self.secrets = secrets;
        self
    }
}

/// What a run is begun with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecordedRun {
    /// When it starts.
    pub at: Timestamp,
    /// Its mode: `full`, `incremental`; unsaid it is the lister's choice.
    pub mode: Option<String>,
    /// After how many pages it stops.
    pub max_pages: Option<u64>,
    /// The stored state; unsaid it is what the previous run left.
    pub state_before: Option<JsonObject>,
}

impl RecordedRun {
    /// A run that starts then.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self { at, mode: None, max_pages: None, state_before: None }
    }

    /// Says its mode.
    #[must_use]
    pub fn with_mode(mut self, mode: impl Into<String>) -> Self {
        self.mode = Some(mode.into());
        self
    }

    /// Says after how many pages it stops.
    #[must_use]
    pub fn with_max_pages(mut self, pages: impl Into<Option<u64>>) -> Self {
        self.max_pages = pages.into();
        self
    }

    /// Gives the state stored before it.
    #[must_use]
    pub fn with_state(mut self, state: JsonObject) -> Self {
        self.state_before = Some(state);
        self
    }
}

/// Why a recording could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// A file could not be read or written.
    #[error("the recording at {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The manifest that is there cannot be read, or the new one not written.
    #[error("the manifest {}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The folder holds a recording of another lister, other arguments or another form.
    #[error("{} holds another recording ({what})", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// Something was sent, or a run ended, before a run was begun.
    #[error("no run of the recording was begun")]
    NoRun,
}

/// A transport that keeps what passes through it in a fixture folder: a manifest, and one file for
/// each body.
///
/// It belongs inside retries and the choice of a credential, so that it sees every attempt, and
/// around the client, which puts the secret in last, so that it sees none. What a forge sends back
/// is cleaned too: cookies are dropped, and the known secrets replaced in URLs, headers and bodies.
///
/// While a run goes on, each exchange is a line that is added to `fixture.jsonl`; when the run ends,
/// or the next one begins, they go into the manifest. So a recording that is cut off is a shorter
/// recording, and one of many exchanges takes no longer for each.
///
/// ```
/// # use std::sync::Arc;
/// # use lamplighter::model::Timestamp;
/// # use lamplighter::transport::*;
/// # struct At0;
/// # #[async_trait::async_trait]
/// # impl Clock for At0 {
/// #     fn now(&self) -> Timestamp { Timestamp::EPOCH }
/// #     async fn sleep(&self, _: std::time::Duration) {}
/// # }
/// # let url: url::Url = "https://h.example/r".parse()?;
/// # let client = Replay::new([Exchange::get(url.clone(), Answer::new(200, "[]"))], Arc::new(At0));
/// let folder = tempfile::tempdir()?;
/// let info = RecordingInfo::new("gitea", "by hand");
/// let recording = Recording::create(client, folder.path(), info)?;
/// recording.begin_run(RecordedRun::new(Timestamp::EPOCH).with_mode("full"))?;
/// # futures::executor::block_on(async {
/// recording.send(Request::get(url)).await?;
/// # Ok::<(), TransportError>(())
/// # })?;
/// recording.end_run("complete")?;
/// assert!(folder.path().join("fixture.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Recording<T> {
    inner: T,
    book: Arc<Mutex<Book>>,
}

impl<T> fmt::Debug for Recording<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("folder", &self.lock().folder).finish_non_exhaustive()
    }
}

impl<T: Transport> Recording<T> {
    /// Records what `inner` answers into a folder, which is made. Where it holds a recording of the
    /// same lister and arguments, runs are added to that.
    ///
    /// # Errors
    /// [`RecordingError::Io`] when the folder cannot be made or read, [`RecordingError::Manifest`]
    /// when what is there is no manifest, [`RecordingError::Taken`] when it is another recording's.
    pub fn create(inner: T, folder: impl Into<PathBuf>, info: RecordingInfo) -> Result<Self, RecordingError> {
        let book = Book::open(folder.into(), info)?;
        Ok(Self { inner, book: Arc::new(Mutex::new(book)) })
    }
}

impl<T> Recording<T> {
    /// Begins a run: what is sent from now on belongs to it.
    ///
    /// # Errors
    /// [`RecordingError::Io`] when the manifest cannot be written.
    pub fn begin_run(&self, run: RecordedRun) -> Result<(), RecordingError> {
        let mut book = self.lock();
        book.begun = true;
        book.manifest.runs.push(ManifestRun {
            at: run.at,
            mode: run.mode,
            max_pages: run.max_pages,
            about: None,
            state_before: run.state_before,
            outcome: None,
            origins: None,
            exchanges: Vec::new(),
        });
        book.save()
    }

    /// Says how the last run ended: `complete`, `partial`, `aborted`, `open`.
    ///
    /// # Errors
    /// [`RecordingError::NoRun`] when none was begun, [`RecordingError::Io`] when the manifest
    /// cannot be written.
    pub fn end_run(&self, outcome: &str) -> Result<(), RecordingError> {
        let mut book = self.lock();
        book.run()?.outcome = Some(outcome.to_owned());
        book.save()
    }

    /// The client, when nothing more is to be recorded.
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    // A manifest half changed is written whole by the next exchange.
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl<T: Transport> Transport for Recording<T> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let asked = Asked {
            method: request.method.to_string(),
            url: request.url.clone(),
            body: request.body.clone(),
            auth: request.auth.clone(),
        };
        let place = request.place();
        let answered = self.inner.send(request).await;
        let kept = match &answered {
            Ok(response) => Ok(response.clone()),
            Err(error) => Err(error.kind()),
        };
        let book = Arc::clone(&self.book);
        let write = move || lock(&book).keep(&asked, &kept);
        // Writing blocks; without a runtime there is nobody to be held up.
        let written = match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime
                .spawn_blocking(write)
                .await
                .map_err(|e| TransportError::new(TransportErrorKind::Other, &*place).with_source(e))?,
            Err(_) => write(),
        };
        written.map_err(|e| {
            TransportError::new(TransportErrorKind::Other, format!("{place} (could not be recorded)"))
                .with_source(e)
        })?;
        answered
    }
}

/// What is kept of a request.
struct Asked {
    method: String,
    url: Url,
    body: Option<bytes::Bytes>,
    auth: Auth,
}

/// The folder that is being written.
struct Book {
    folder: PathBuf,
    manifest: Manifest,
    begun: bool,
    scrub: Scrub,
    /// The exchanges that are not in the manifest's file yet.
    journal: Option<File>,
}

impl Book {
    fn open(folder: PathBuf, info: RecordingInfo) -> Result<Self, RecordingError> {
        fs::create_dir_all(&folder).map_err(io_at(&folder))?;
        let path = folder.join(MANIFEST_NAME);
        let there = match fs::read(&path) {
            Ok(bytes) => Some(
                serde_json::from_slice::<Manifest>(&bytes)
                    .map_err(|source| RecordingError::Manifest { path, source })?,
            ),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(io_at(&path)(e)),
        };
        let secrets = info.secrets.iter().map(ExposeSecret::expose_secret).enumerate();
        let scrub = Scrub::new(secrets.map(|(n, secret)| (secret, format!("redacted-{}", n + 1))));
        let fresh = Manifest {
            form: MANIFEST_FORM,
            lister: info.lister,
            about: info.about,
            arguments: info.arguments,
            credentials: info.secrets.len(),
            runs: Vec::new(),
        };
        if let Some(there) = &there {
            let differs = [
                (there.form != fresh.form, "of another form"),
                (there.lister != fresh.lister, "of another lister"),
                (there.arguments != fresh.arguments, "with other arguments"),
            ];
            if let Some((_, what)) = differs.into_iter().find(|(differs, _)| *differs) {
                return Err(RecordingError::Taken { path: folder, what });
            }
        }
        let mut manifest = there.unwrap_or(fresh);
        manifest.take_in_journal(&folder).map_err(io_at(&folder.join(JOURNAL_NAME)))?;
        Ok(Self { folder, manifest, begun: false, scrub, journal: None })
    }

    fn run(&mut self) -> Result<&mut ManifestRun, RecordingError> {
        let begun = self.begun;
        self.manifest.runs.last_mut().filter(|_| begun).ok_or(RecordingError::NoRun)
    }

    fn keep(
        &mut self,
        asked: &Asked,
        answered: &Result<Response, TransportErrorKind>,
    ) -> Result<(), RecordingError> {
        let number = (self.manifest.runs.len(), self.run()?.exchanges.len() + 1);
        let url = self.clean_url(&asked.url, &asked.auth);
        let mut kept = ManifestExchange {
            method: asked.method.clone(),
            body: asked.body.as_ref().map(|b| self.scrub.text(&String::from_utf8_lossy(b))),
            status: None,
            answered_by: None,
            received: None,
            headers: Vec::new(),
            body_file: None,
            error: None,
            url,
        };
        match answered {
            Ok(response) => {
                let by = self.clean_url(&response.url, &asked.auth);
                kept.status = Some(response.status.as_u16());
                kept.answered_by = Some(by).filter(|by| *by != kept.url);
                kept.received = Some(response.received_at);
                kept.headers = self.headers(&response.headers, &asked.auth);
                if !response.body.is_empty() {
                    let extension = extension(response.header("content-type").unwrap_or_default());
                    let name = format!("run-{}-{:04}.{extension}", number.0, number.1);
                    let path = self.folder.join(&name);
                    let write = || {
                        let mut file = io::BufWriter::new(File::create(&path)?);
                        self.scrub.copy(&mut response.body.reader(), &mut file)
                    };
                    write().map_err(io_at(&path))?;
                    kept.body_file = Some(name);
                }
            }
            // That another replay did not know an answer says nothing of the forge.
            Err(kind) => match error_name(*kind) {
                Some(name) => kept.error = Some(name.to_owned()),
                None => return Ok(()),
            },
        }
        let (run, number) = number;
        let line = JournalLine { run, number, exchange: kept };
        self.add(&line)?;
        self.run()?.exchanges.push(line.exchange);
        Ok(())
    }

    /// Adds a line to the journal.
    fn add(&mut self, line: &JournalLine) -> Result<(), RecordingError> {
        let path = self.folder.join(JOURNAL_NAME);
        let mut text = serde_json::to_vec(line)
            .map_err(|source| RecordingError::Manifest { path: path.clone(), source })?;
        text.push(b'\n');
        let mut write = || {
            let file = match &mut self.journal {
                Some(file) => file,
                none => none.insert(File::options().append(true).create(true).open(&path)?),
            };
            file.write_all(&text)
        };
        write().map_err(io_at(&path))
    }

    /// A URL without user information, without the field of the secret and without known secrets.
    fn clean_url(&self, url: &Url, auth: &Auth) -> String {
        let mut url = without_user(url);
        if let Auth::Query(secret) = auth
            && url.query_pairs().any(|(name, _)| name == *secret)
        {
            let left: Vec<(String, String)> =
                url.query_pairs().filter(|(k, _)| k != *secret).map(|(k, v)| (k.into(), v.into())).collect();
            url.set_query(None);
            if !left.is_empty() {
                url.query_pairs_mut().extend_pairs(left);
            }
        }
        self.scrub.text(url.as_str())
    }

    fn headers(&self, headers: &HeaderMap, auth: &Auth) -> Vec<(String, String)> {
        let own = match auth {
            Auth::Header(name) => name,
            _ => header::AUTHORIZATION.as_str(),
        };
        headers
            .iter()
            .filter(|(name, _)| {
                !SECRET_HEADERS.contains(&name.as_str()) && !name.as_str().eq_ignore_ascii_case(own)
            })
            .map(|(name, value)| (name.as_str().to_owned(), self.scrub.text(&header_text(value))))
            .collect()
    }

    /// Puts the manifest in the place of the last one, so that there is a whole one at any time.
    fn save(&mut self) -> Result<(), RecordingError> {
        let path = self.folder.join(MANIFEST_NAME);
        let fresh = self.folder.join(format!("{MANIFEST_NAME}.new"));
        let text = pretty(&self.manifest)
            .map_err(|source| RecordingError::Manifest { path: path.clone(), source })?;
        fs::write(&fresh, text).map_err(io_at(&fresh))?;
        fs::rename(&fresh, &path).map_err(io_at(&path))?;
        // What it holds is in the manifest by now.
        self.journal = None;
        let journal = self.folder.join(JOURNAL_NAME);
        match fs::remove_file(&journal) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_at(&journal)(e)),
            _ => Ok(()),
        }
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> RecordingError {
    let path = path.to_owned();
    move |source| RecordingError::Io { path, source }
}

/// What a body file is called after its dot.
fn extension(content_type: &str) -> &'static str {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        k if k.ends_with("json") || k.ends_with("javascript") => "json",
        k if k.ends_with("html") || k == "application/xhtml+xml" => "html",
        k if k.ends_with("xml") => "xml",
        k if k.starts_with("text/") => "txt",
        _ => "bin",
    }
}

/// JSON with an indent, but a header on one line.
fn pretty(manifest: &Manifest) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Layout::default());
    serde::Serialize::serialize(manifest, &mut serializer)?;
    text.push(b'\n');
    Ok(text)
}

/// Runs, exchanges and headers are arrays, a header is one inside them: the fourth.
const INLINE_FROM: usize = 4;

#[derive(Default)]
struct Layout {
    pretty: serde_json::ser::PrettyFormatter<'static>,
    depth: usize,
}

impl serde_json::ser::Formatter for Layout {
    fn begin_array<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth < INLINE_FROM { self.pretty.begin_array(to) } else { to.write_all(b"[") }
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if self.depth + 1 < INLINE_FROM { self.pretty.end_array(to) } else { to.write_all(b"]") }
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if self.depth < INLINE_FROM {
            return self.pretty.begin_array_value(to, first);
        }
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        if self.depth < INLINE_FROM { self.pretty.end_array_value(to) } else { Ok(()) }
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.begin_object(to)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.end_object(to)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.pretty.begin_object_key(to, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(to)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_file_is_named_after_its_content() {
        for (kind, name) in [
            ("application/json; charset=utf-8", "json"),
            ("application/vnd.github+json", "json"),
            ("text/html", "html"),
            ("application/atom+xml", "xml"),
            ("text/plain", "txt"),
            ("application/gzip", "bin"),
            ("", "bin"),
        ] {
            assert_eq!(extension(kind), name, "{kind}");
        }
    }
}
