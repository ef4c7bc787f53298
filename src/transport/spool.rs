//! A body on its way in: in memory while it is small, then in a file.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use super::Body;

/// How much is gathered before it is written: one hop to the blocking pool for each.
const CHUNK: usize = 1 << 20;

/// Why a body could not be taken in.
#[derive(Debug)]
pub(crate) enum SpoolError {
    /// It is larger than the limit.
    TooLarge,
    /// The file could not be written.
    Io(io::Error),
}

/// Gathers a body. Writes to its file happen on the blocking pool: a full disk or a slow one would
/// otherwise hold up every other request of the runtime.
pub(crate) struct Spool {
    over: u64,
    limit: u64,
    len: u64,
    gathered: Vec<u8>,
    file: Option<Arc<File>>,
}

impl Spool {
    /// A body that goes to a file when it is larger than `over`, and is refused beyond `limit`.
    pub(crate) fn new(over: u64, limit: u64) -> Self {
        Self { over, limit, len: 0, gathered: Vec::new(), file: None }
    }

    /// Takes the next piece.
    pub(crate) async fn push(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        self.len = self.len.saturating_add(piece.len() as u64);
        if self.len > self.limit {
            return Err(SpoolError::TooLarge);
        }
        self.gathered.extend_from_slice(piece);
        let full = if self.file.is_some() { self.gathered.len() >= CHUNK } else { self.len > self.over };
        if full { self.write().await.map_err(SpoolError::Io) } else { Ok(()) }
    }

    /// The whole body.
    pub(crate) async fn finish(mut self) -> io::Result<Body> {
        if self.file.is_some() {
            self.write().await?;
        }
        Ok(match self.file {
            Some(file) => Body::Spooled { file, len: self.len },
            None => Body::from(self.gathered),
        })
    }

    async fn write(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let file = self.file.clone();
        let (file, mut emptied) = tokio::task::spawn_blocking(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(tempfile::tempfile()?),
            };
            (&*file).write_all(&gathered)?;
            io::Result::Ok((file, gathered))
        })
        .await
        .map_err(io::Error::other)??;
        emptied.clear();
        self.gathered = emptied;
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(pieces: &[Vec<u8>], over: u64, limit: u64) -> Result<Body, SpoolError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut spool = Spool::new(over, limit);
            for piece in pieces {
                spool.push(piece).await?;
            }
            spool.finish().await.map_err(SpoolError::Io)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_goes_in_comes_out(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20),
            over in 0u64..600, limit in 0u64..900,
        ) {
            let whole = pieces.concat();
            let len = whole.len() as u64;
            match run(&pieces, over, limit) {
                Ok(body) => {
                    prop_assert!(len <= limit);
                    prop_assert_eq!(body.is_spooled(), len > over);
                    prop_assert_eq!(body.len(), len);
                    prop_assert_eq!(body.bytes().unwrap(), whole);
                }
                Err(SpoolError::TooLarge) => prop_assert!(len > limit),
                Err(SpoolError::Io(e)) => prop_assert!(false, "{}", e),
            }
        }
    }

    #[test]
    fn a_body_of_several_chunks_is_whole() {
        let pieces: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; 100_000]).collect();
        let body = run(&pieces, 10, 10_000_000).unwrap();
        assert!(body.is_spooled());
        assert!(body.bytes().unwrap() == pieces.concat());
    }
}
