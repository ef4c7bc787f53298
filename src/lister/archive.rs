//! Archives (tar, compressed or not), read as a stream: nothing is written to disk, and a member is in
//! memory only as far as it is being read.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use tar::{Archive, EntryType};

use super::budget::Budgeted;
use super::compress::{Unpacked, unpacking};
use super::{ListerError, ListerErrorKind};
use crate::transport::Body;

/// What stands before a member: its header, a long name, attributes. They are read into memory, so
/// that an archive may not say how much that is.
const LONGEST_HEADER: u64 = 1 << 20;

/// A member of an archive.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its path, without a dot at its beginning; bytes that are no UTF-8 are replaced.
    pub(crate) path: String,
    /// Whether it is an ordinary file, and no folder, link or device.
    pub(crate) is_file: bool,
    /// How many bytes it has.
    #[cfg_attr(not(feature = "xml"), allow(dead_code, reason = "some listers need it"))]
    pub(crate) size: u64,
}

/// Hands each member of an archive to `each`, with its contents. After the last one the rest is read,
/// to the checksum of the compression: an archive that breaks off is an error even if all that was
/// wanted had come. `each` may take what it cannot read for an unexpected answer: where the archive
/// itself cannot be read, that is the error given.
///
/// # Errors
/// [`ListerErrorKind::Parse`] naming `what` and the place in it, also for a member that leads out of
/// the archive; [`ListerErrorKind::Io`] when a spooled body cannot be read; those of `each`.
pub(crate) fn each_member(
    what: &str,
    body: &Body,
    mut each: impl FnMut(&Member, &mut dyn Read) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let (budget, failure) = (Rc::new(Cell::new(LONGEST_HEADER)), Rc::new(RefCell::new(None)));
    let unpacked = Unpacked::new(body)
        .map_err(|e| ListerError::new(ListerErrorKind::Io, what.to_owned()).with_source(e))?;
    let remembering = Remembering { inner: unpacked, failure: Rc::clone(&failure) };
    let mut archive = Archive::new(Budgeted::new(remembering, &budget, "the header of a member is too long"));
    let mut last = "its beginning".to_owned();
    // An error below is the cause of whatever was made of it above.
    let cause = |e: ListerError| match failure.borrow_mut().take() {
        Some(below) => unpacking(what, below),
        None => e,
    };
    let broken = |last: &str, e: io::Error| {
        cause(ListerError::parse(format!("{what}: no tar archive after {last}: {e}")).with_source(e))
    };
    let mut entries = archive.entries().map_err(|e| broken(&last, e))?;
    loop {
        budget.set(LONGEST_HEADER);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|e| broken(&last, e))?;
        budget.set(u64::MAX);
        let member = Member {
            path: String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned(),
            is_file: matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous),
            size: entry.size(),
        };
        if member.path.starts_with('/') || member.path.split(['/', '\\']).any(|part| part == "..") {
            let path = shortened(&member.path);
            return Err(ListerError::parse(format!("{what}: the member {path:?} leads out of the archive")));
        }
        last = format!("{:?}", shortened(&member.path));
        if member.is_file {
            let left = entry.size();
            let mut contents = Contents { inner: &mut entry, left };
            each(&member, &mut contents).map_err(cause)?;
            // What was not wanted of it.
            io::copy(&mut contents, &mut io::sink())
                .map_err(|e| cause(ListerError::parse(format!("{what}: in {last}: {e}")).with_source(e)))?;
        } else {
            each(&member, &mut io::empty()).map_err(cause)?;
        }
    }
    budget.set(u64::MAX);
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|e| broken(&last, e))?;
    Ok(())
}

/// The beginning of a name, for an error.
fn shortened(path: &str) -> String {
    path.chars().take(200).collect()
}

/// Keeps the error that it ended with.
struct Remembering<R> {
    inner: R,
    failure: Rc<RefCell<Option<io::Error>>>,
}

impl<R: Read> Read for Remembering<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(into) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                let told = io::Error::new(e.kind(), e.to_string());
                self.failure.borrow_mut().get_or_insert(e);
                Err(told)
            }
            Ok(read) => Ok(read),
        }
    }
}

/// A member's contents: an archive that ends within them is an error.
struct Contents<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Contents<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        if read == 0 && self.left > 0 && !into.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} bytes are missing", self.left),
            ));
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

impl<R> fmt::Debug for Contents<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contents({} bytes left)", self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A member as its header says: path, type, size, contents (which may be of another size).
    type Made<'a> = (&'a str, u8, u64, &'a [u8]);

    /// By the format's description (POSIX ustar), not by the library that reads it.
    fn header(path: &str, kind: u8, size: u64) -> [u8; 512] {
        let mut block = [0_u8; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[148..156].copy_from_slice(b"        ");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn tar(members: &[Made<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        for (path, kind, size, contents) in members {
            out.extend(header(path, *kind, *size));
            out.extend(*contents);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.extend([0; 1024]);
        out
    }

    fn gzip(of: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(of).unwrap();
        packed.finish().unwrap()
    }

    fn members(archive: &[u8]) -> Result<Vec<(String, bool, String)>, ListerError> {
        let mut all = Vec::new();
        each_member("the dump", &Body::from(archive.to_vec()), |member, contents| {
            let mut text = String::new();
            contents
                .read_to_string(&mut text)
                .map_err(|e| ListerError::parse(format!("in {}: {e}", member.path)).with_source(e))?;
            all.push((member.path.clone(), member.is_file, text));
            Ok(())
        })?;
        Ok(all)
    }

    fn error(archive: &[u8]) -> String {
        let error = members(archive).unwrap_err();
        assert_eq!(error.kind(), ListerErrorKind::Parse, "{error}");
        error.to_string()
    }

    #[test]
    fn members_come_in_order_packed_or_not() {
        let made = tar(&[
            ("./a/", b'5', 0, b""),
            ("./a/one", b'0', 3, b"one"),
            ("a/two", 0, 513, &[b'x'; 513]),
            ("a/link", b'2', 0, b""),
        ]);
        let expected = [
            ("a/".to_owned(), false, String::new()),
            ("a/one".to_owned(), true, "one".to_owned()),
            ("a/two".to_owned(), true, "x".repeat(513)),
            ("a/link".to_owned(), false, String::new()),
        ];
        assert_eq!(members(&made).unwrap(), expected);
        assert_eq!(members(&gzip(&made)).unwrap(), expected);
        assert_eq!(members(&tar(&[])).unwrap(), []);
    }

    #[test]
    fn a_long_name_is_read_and_an_endless_one_is_not() {
        let name = "n".repeat(300);
        let long = tar(&[("././@LongLink", b'L', 300, name.as_bytes()), ("n", b'0', 1, b"x")]);
        assert_eq!(members(&long).unwrap(), [(name, true, "x".to_owned())]);
        let (size, endless) = (LONGEST_HEADER + 512, vec![b'n'; 1 << 20 | 512]);
        for kind in [b'L', b'x'] {
            let packed = gzip(&tar(&[("long", kind, size, &endless), ("n", b'0', 1, b"x")]));
            assert!(error(&packed).contains("header of a member is too long"), "{}", error(&packed));
        }
    }

    #[test]
    fn an_archive_that_breaks_off_is_an_error_with_its_place() {
        let made = tar(&[("a", b'0', 3, b"one"), ("b", b'0', 2000, &[b'x'; 2000])]);
        for at in [1, 511, 513, 1024 + 17, 1024 + 512 + 1000] {
            let cut = error(&made[..at]);
            assert!(["the dump", "in a: ", "in b: "].iter().any(|place| cut.contains(place)), "{at}: {cut}");
        }
        assert!(error(&made[..1024 + 17]).contains("after \"a\""));
        assert!(error(&made[..2048]).contains("1488 bytes are missing"));
        let packed = gzip(&made);
        for at in 12..packed.len() {
            assert!(error(&packed[..at]).contains("gzip"), "cut at {at}");
        }
        // A wrong checksum after the last member.
        let mut bent = packed;
        let crc = bent.len() - 8;
        bent[crc] ^= 1;
        assert!(error(&bent).contains("broken gzip"));
    }

    #[test]
    fn what_is_no_archive_is_an_error() {
        for text in ["<html>down</html>".repeat(100), "not found".to_owned()] {
            assert!(error(text.as_bytes()).contains("no tar archive after its beginning"));
            assert!(error(&gzip(text.as_bytes())).contains("no tar archive"));
        }
        let mut bent = tar(&[("a", b'0', 3, b"one"), ("b", b'0', 0, b"")]);
        bent[1024 + 5] ^= 1;
        assert!(error(&bent).contains("no tar archive after \"a\""));
    }

    #[test]
    fn a_member_that_leads_out_is_refused() {
        for path in ["../evil", "/etc/passwd", "a/../../b", "./../x", "a\\..\\b"] {
            let said = error(&tar(&[("a", b'0', 1, b"x"), (path, b'0', 1, b"x")]));
            assert!(said.contains("leads out of the archive"), "{said}");
        }
        assert!(members(&tar(&[("a/..b/c..", b'0', 1, b"x")])).is_ok());
    }

    #[test]
    fn a_hole_of_any_size_is_no_file() {
        // GNU's form of a file that is one hole of 4 GiB.
        let mut block = header("hole", b'S', 0);
        block[257..265].copy_from_slice(b"ustar  \0");
        let size = format!("{:011o}\0", 4_u64 << 30);
        for at in [386, 483] {
            block[at..at + 12].copy_from_slice(size.as_bytes());
        }
        block[398..410].copy_from_slice(b"00000000000\0");
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let made = [&block[..], &tar(&[("after", b'0', 1, b"x")])].concat();
        let (hole, after) = ("hole".to_owned(), "after".to_owned());
        assert_eq!(members(&made).unwrap(), [(hole, false, String::new()), (after, true, "x".to_owned())]);
    }

    #[test]
    fn a_bomb_is_told_before_what_was_made_of_it() {
        let bomb = gzip(&tar(&[("zeros", b'0', 20 << 20, &vec![0; 20 << 20])]));
        assert!(error(&bomb).contains("a bomb?"), "{}", error(&bomb));
    }
}
