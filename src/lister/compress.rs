//! Files that are compressed themselves, read as they are unpacked: a limit on what comes out of a
//! small body, and errors that name the place.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{ListerError, ListerErrorKind};
use crate::transport::{Body, BodyReader};

/// What any file may unpack to, however small it is.
const FREE: u64 = 16 << 20;

/// How many times its own size a file may unpack to. Indexes and dumps stay under 20; gzip alone can
/// reach a thousand, the others more.
const RATIO: u64 = 200;

/// What no file may unpack to.
const LARGEST: u64 = 64 << 30;

/// What unpacking xz may need: what `xz -9` asks for (64 MiB of dictionary) and a bit.
const XZ_MEMORY_KIB: u32 = 72 << 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Compression {
    /// By its first bytes. A file's name says less: servers undo or add a compression on the way.
    pub(crate) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // "BZh", the size of its blocks, and a block's or the end's mark.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // A frame, or one that is to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "not compressed",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// Reads what a body unpacks to; one that is not compressed comes out as it is.
///
/// All its members or streams are read, to their checksums. Its errors, put into words by
/// [`unpacking`], say how far it came.
pub(crate) struct Unpacked<'a> {
    inner: Box<dyn Read + 'a>,
    how: Compression,
    packed: u64,
    given: u64,
    allowed: u64,
    broken: bool,
}

impl<'a> Unpacked<'a> {
    /// Reads a body from its beginning.
    ///
    /// # Errors
    /// When a spooled body cannot be read.
    pub(crate) fn new(body: &Body) -> io::Result<Self> {
        Self::with_limits(body, FREE, RATIO)
    }

    /// Reads a file in another one, of which `packed` bytes are there.
    ///
    /// # Errors
    /// When the other one cannot be read.
    #[cfg(all(feature = "archives", feature = "xml"))]
    pub(crate) fn within(from: impl Read + 'a, packed: u64) -> io::Result<Self> {
        Self::of(io::BufReader::with_capacity(64 << 10, from), packed, FREE, RATIO)
    }

    fn with_limits(body: &Body, free: u64, ratio: u64) -> io::Result<Self> {
        let reader: BodyReader = body.reader();
        Self::of(reader, body.len(), free, ratio)
    }

    fn of(mut reader: impl BufRead + 'a, packed: u64, free: u64, ratio: u64) -> io::Result<Self> {
        let how = Compression::of(reader.fill_buf()?);
        let inner: Box<dyn Read + 'a> = match how {
            Compression::None => Box::new(reader),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
            Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY_KIB)),
            Compression::Zstd => Box::new(Zstd::new(reader)?),
        };
        let allowed = match how {
            Compression::None => u64::MAX,
            _ => packed.saturating_mul(ratio).clamp(free, LARGEST),
        };
        Ok(Self { inner, how, packed, given: 0, allowed, broken: false })
    }

    fn fail(&mut self, problem: String, source: Option<io::Error>) -> io::Error {
        self.broken = true;
        io::Error::new(io::ErrorKind::InvalidData, Unpacking { problem, source })
    }
}

impl fmt::Debug for Unpacked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unpacked({}, {} of {} bytes)", self.how, self.given, self.packed)
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (how, packed, unpacked) = (self.how, self.packed, self.given);
        if self.broken {
            // A decoder may not be asked again after an error.
            return Err(self.fail("cannot be read further".to_owned(), None));
        }
        match self.inner.read(into) {
            Ok(read) => {
                self.given = unpacked.saturating_add(read as u64);
                if self.given > self.allowed {
                    let allowed = self.allowed;
                    let problem = format!("{packed} bytes of {how} unpack to more than {allowed}: a bomb?");
                    return Err(self.fail(problem, None));
                }
                Ok(read)
            }
            // The body's own file, or a signal: nothing is wrong with the contents.
            Err(e) if e.raw_os_error().is_some() || e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                let problem = format!("the {how} ends too early: {packed} bytes, {unpacked} unpacked");
                Err(self.fail(problem, Some(e)))
            }
            Err(e) => Err(self.fail(format!("broken {how}, after {unpacked} bytes unpacked: {e}"), Some(e))),
        }
    }
}

/// Reads zstd, frame after frame, each to its checksum. Windows over 100 MiB are refused.
struct Zstd<R> {
    from: R,
    frame: FrameDecoder,
    open: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(from: R) -> io::Result<Self> {
        // A frame of nothing: only a decoder that had one holds the next to the limit of its window.
        let mut frame = FrameDecoder::new();
        frame.reset(&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0][..]).map_err(zstd_error)?;
        Ok(Self { from, frame, open: false })
    }

    /// Begins the next frame; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.from.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.from) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut (&mut self.from).take(length.into()), &mut io::sink())?;
                    if skipped < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(zstd_error(e)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.open && !self.begin()? {
                return Ok(0);
            }
            self.open = true;
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let blocks = BlockDecodingStrategy::UptoBytes(into.len());
                self.frame.decode_blocks(&mut self.from, blocks).map_err(zstd_error)?;
            }
            let read = self.frame.read(into)?;
            if read > 0 {
                return Ok(read);
            }
            self.open = false;
            let said = self.frame.get_checksum_from_data();
            if said.is_some() && said != self.frame.get_calculated_checksum() {
                return Err(io::Error::other("the checksum is another"));
            }
        }
    }
}

/// A decoder's error: of the kind of the one of reading below it, where there is one.
fn zstd_error(e: FrameDecoderError) -> io::Error {
    let mut below: Option<&(dyn StdError + 'static)> = Some(&e);
    while let Some(cause) = below {
        if let Some(read) = cause.downcast_ref::<io::Error>() {
            // The body's own file: its number tells that nothing is wrong with the contents.
            return read
                .raw_os_error()
                .map_or_else(|| io::Error::new(read.kind(), e.to_string()), io::Error::from_raw_os_error);
        }
        below = cause.source();
    }
    io::Error::new(io::ErrorKind::InvalidData, e)
}

/// A lister's error of what went wrong while `what` was unpacked.
pub(crate) fn unpacking(what: &str, e: io::Error) -> ListerError {
    if e.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Unpacking>) {
        return ListerError::parse(format!("{what}: {e}")).with_source(e);
    }
    ListerError::new(ListerErrorKind::Io, what).with_source(e)
}

/// What is wrong with a compressed body, inside an [`io::Error`].
#[derive(Debug)]
struct Unpacking {
    problem: String,
    source: Option<io::Error>,
}

impl fmt::Display for Unpacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl StdError for Unpacking {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    // "one\ntwo\n", packed by `gzip -n`, `bzip2` and `xz`.
    const TEXT: &[u8] = b"one\ntwo\n";
    const GZIP: &str = "1f8b0800000000000003cbcf4be52a29cfe70200e60bba1208000000";
    const BZIP2: &str =
        "425a6839314159265359a7142b77000002c180001002018480200021800c0238f51b8bb9229c2848538a15bb80";
    const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a30100076f6e650a74776f0a0051ab9eaf577570490001\
                      2008bb19d9bb1fb6f37d010000000004595a";
    /// The same by `xz --block-size=4`: two blocks.
    const XZ_BLOCKS: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a30100036f6e650a00f55cbb561fc6fd860200210116\
                             000000742fe5a301000374776f0a006506d6ffc4c0f93a00021c041c0400009beaef6eb1c467fb020000000004595a";
    /// The same by liblzma, a stream for each line, the second with SHA-256, padding between.
    const XZ_STREAMS: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a30100036f6e650a00f55cbb561fc6fd8600011c046f\
                              2c9cc11fb6f37d010000000004595a00000000fd377a585a00000ae1fb0ca10200210116000000742fe5a3010003\
                              74776f0a0027dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a00013404c582c19c18\
                              9b4b9a01000000000a595a";
    /// A thousand times "a" by `xz`.
    const XZ_LONG: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e003e7000b5d0030effbbffea3b0b9a6560000006cd9e88beaee1076000127e807000000f4558f5cb1c467fb020000000004595a";

    /// By `zstd -19`, with its checksum; and a thousand times "a" without one.
    const ZSTD: &str = "28b52ffd04684100006f6e650a74776f0ae6a60e40";
    const ZSTD_LONG: &str = "28b52ffd006845000008610100e42b2004";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    }

    fn limited(body: Vec<u8>, free: u64, ratio: u64) -> Result<Vec<u8>, ListerError> {
        let mut out = Vec::new();
        Unpacked::with_limits(&Body::from(body), free, ratio)
            .and_then(|mut u| u.read_to_end(&mut out))
            .map_err(|e| unpacking("the file", e))?;
        Ok(out)
    }

    fn all(body: Vec<u8>) -> Result<Vec<u8>, ListerError> {
        limited(body, FREE, RATIO)
    }

    #[test]
    fn each_compression_is_told_by_its_first_bytes_and_unpacked() {
        for (packed, how) in [
            (GZIP, "gzip"),
            (BZIP2, "bzip2"),
            (XZ, "xz"),
            (XZ_BLOCKS, "xz"),
            (XZ_STREAMS, "xz"),
            (ZSTD, "zstd"),
        ] {
            assert_eq!(Compression::of(&hex(packed)).to_string(), how);
            assert_eq!(all(hex(packed)).unwrap(), TEXT, "{packed}");
        }
        for plain in [&b"Package: a\n"[..], b"", b"\x1f", b"BZh9 is no bzip2", b"\xfd7zXY"] {
            assert_eq!(all(plain.to_vec()).unwrap(), plain);
        }
    }

    #[test]
    fn members_one_after_another_are_all_read() {
        for packed in [GZIP, BZIP2, XZ, ZSTD] {
            assert_eq!(all([hex(packed), hex(packed)].concat()).unwrap(), [TEXT, TEXT].concat(), "{packed}");
        }
    }

    #[test]
    fn a_cut_file_is_an_error_wherever_it_is_cut() {
        for packed in [GZIP, BZIP2, XZ, XZ_BLOCKS, ZSTD] {
            let whole = hex(packed);
            // Shorter than its mark it is not taken for a packed one.
            for at in 6..whole.len() {
                let error = all(whole[..at].to_vec()).unwrap_err();
                assert_eq!(error.kind(), ListerErrorKind::Parse, "{packed} cut at {at}");
                assert!(error.to_string().contains("the file: "), "{error}");
            }
        }
        let error = all(hex(GZIP)[..20].to_vec()).unwrap_err().to_string();
        assert!(error.contains("the gzip ends too early: 20 bytes, "), "{error}");
    }

    #[test]
    fn a_changed_byte_is_found() {
        // The last bytes of the data, before checksums: a format without one would not notice.
        for (packed, at) in [(GZIP, 15), (BZIP2, 30), (XZ, 28), (XZ_BLOCKS, 60), (ZSTD, 10)] {
            let mut bent = hex(packed);
            bent[at] ^= 0x04;
            let error = all(bent).unwrap_err();
            assert_eq!(error.kind(), ListerErrorKind::Parse, "{packed}");
            assert!(error.to_string().contains("broken "), "{error}");
        }
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused_and_a_little_more_is_not() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&[b'a'; 1000]).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        bzip2.write_all(&[b'a'; 1000]).unwrap();
        for packed in [gzip.finish().unwrap(), bzip2.finish().unwrap(), hex(XZ_LONG), hex(ZSTD_LONG)] {
            let error = limited(packed.clone(), 999, 1).unwrap_err();
            assert_eq!(error.kind(), ListerErrorKind::Parse);
            assert!(error.to_string().contains("unpack to more than 999: a bomb?"), "{error}");
            assert_eq!(limited(packed.clone(), 1000, 1).unwrap().len(), 1000);
            // By its size, where that allows more.
            let ratio = 1000 / packed.len() as u64;
            assert!(limited(packed.clone(), 0, ratio).is_err());
            assert_eq!(limited(packed, 0, ratio + 1).unwrap().len(), 1000);
        }
        // What is not packed has no such limit.
        assert_eq!(limited(vec![b'a'; 1000], 0, 0).unwrap().len(), 1000);
    }

    #[test]
    fn frames_of_zstd_that_are_to_be_skipped_are() {
        let skipped = hex("502a4d1803000000616263");
        let whole = [&skipped[..], &hex(ZSTD), &skipped].concat();
        assert_eq!(all(whole.clone()).unwrap(), TEXT);
        assert!(all(whole[..whole.len() - 1].to_vec()).unwrap_err().to_string().contains("ends too early"));
        // A window of 1 GiB.
        let error = all(hex("28b52ffd00a0")).unwrap_err().to_string();
        assert!(error.contains("broken zstd, after 0 bytes"), "{error}");
    }

    #[test]
    fn xz_that_asks_for_too_much_memory_is_refused() {
        let mut greedy = hex(XZ);
        // The dictionary's size in the block's header, and the header's checksum.
        greedy[16] = 40;
        let crc = crc32(&greedy[12..20]);
        greedy[20..24].copy_from_slice(&crc.to_le_bytes());
        let error = all(greedy).unwrap_err().to_string();
        assert!(error.contains("broken xz, after 0 bytes") && error.contains("memory"), "{error}");
    }

    fn crc32(of: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(of);
        crc.sum()
    }

    #[test]
    fn after_an_error_nothing_is_read() {
        let body = Body::from(hex(XZ)[..40].to_vec());
        let mut file = Unpacked::new(&body).unwrap();
        let mut out = Vec::new();
        assert!(file.read_to_end(&mut out).is_err());
        let error = file.read(&mut [0; 8]).unwrap_err();
        assert_eq!(unpacking("it", error).to_string(), "unexpected answer: it: cannot be read further");
    }
}
