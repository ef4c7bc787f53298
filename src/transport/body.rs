//! A body in memory or in a spooled file, read the same way.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;

/// The body of an answer: bytes, or a file on disk where it was large.
#[derive(Clone)]
#[non_exhaustive]
pub enum Body {
    /// In memory.
    Bytes(Bytes),
    /// In an unnamed temporary file of `len` bytes.
    Spooled {
        /// The file; a reader starts at its beginning.
        file: Arc<File>,
        /// Its length in bytes.
        len: u64,
    },
}

/// Reads a [`Body`] from its beginning.
pub type BodyReader = Box<dyn BufRead + Send>;

/// Reads a shared file from a position of its own, so that two readers do not disturb each other.
struct At {
    file: Arc<File>,
    position: u64,
}

impl Read for At {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(self.position))?;
        let n = file.read(into)?;
        self.position += n as u64;
        Ok(n)
    }
}

impl Body {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(b) => b.len() as u64,
            Self::Spooled { len, .. } => *len,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it lies on disk, so that reading it blocks.
    #[must_use]
    pub fn is_spooled(&self) -> bool {
        matches!(self, Self::Spooled { .. })
    }

    /// Reads it from its beginning. One reader at a time for a spooled body.
    #[must_use]
    pub fn reader(&self) -> BodyReader {
        match self {
            Self::Bytes(b) => Box::new(Cursor::new(b.clone())),
            Self::Spooled { file, .. } => {
                Box::new(BufReader::with_capacity(64 << 10, At { file: Arc::clone(file), position: 0 }))
            }
        }
    }

    /// All of it, in memory.
    ///
    /// # Errors
    /// When a spooled file cannot be read.
    pub fn bytes(&self) -> io::Result<Bytes> {
        match self {
            Self::Bytes(b) => Ok(b.clone()),
            Self::Spooled { .. } => {
                let mut all = Vec::with_capacity(usize::try_from(self.len()).unwrap_or(0));
                self.reader().read_to_end(&mut all)?;
                Ok(all.into())
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes{})", self.len(), if self.is_spooled() { ", spooled" } else { "" })
    }
}

impl From<&'static str> for Body {
    fn from(s: &'static str) -> Self {
        Self::Bytes(Bytes::from_static(s.as_bytes()))
    }
}

impl From<String> for Body {
    fn from(s: String) -> Self {
        Self::Bytes(s.into())
    }
}

impl From<Vec<u8>> for Body {
    fn from(b: Vec<u8>) -> Self {
        Self::Bytes(b.into())
    }
}

impl From<Bytes> for Body {
    fn from(b: Bytes) -> Self {
        Self::Bytes(b)
    }
}
