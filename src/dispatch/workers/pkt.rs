//! The lines that git sends: each begins with its length in four hexadecimal digits.
//!
//! As in git's documentation of its protocols: `gitprotocol-common`, `gitprotocol-http`, `gitprotocol-pack`
//! and `gitprotocol-v2`.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::model::hex;

/// One packet.
#[derive(Debug, PartialEq, Eq)]
enum Packet<'a> {
    Flush,
    /// A delimiter, or the end of a response.
    Other,
    Line(&'a [u8]),
}

/// Why a text is no list of references. Says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(super) struct Unread {
    what: String,
    at: usize,
}

/// What a server said to the first request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Advertised {
    /// It waits to be asked for references, in protocol version 2.
    Ask { object_format: Option<String> },
    /// It has told them all.
    Refs(Refs),
}

/// References by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refs(BTreeMap<Vec<u8>, Vec<u8>>);

struct Packets<'a> {
    body: &'a [u8],
    at: usize,
}

impl Packets<'_> {
    fn wrong(&self, what: impl Into<String>) -> Unread {
        Unread { what: what.into(), at: self.at }
    }
}

impl<'a> Packets<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// The next packet. A body that ends before a flush is cut off: there is no other end.
    fn next(&mut self) -> Result<Packet<'a>, Unread> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let digits = rest.get(..4).ok_or_else(|| self.wrong("the answer is cut off"))?;
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let length = digits.and_then(|d| usize::from_str_radix(d, 16).ok());
        match length.ok_or_else(|| self.wrong("no length of a line"))? {
            0 => {
                self.at += 4;
                Ok(Packet::Flush)
            }
            1 | 2 => {
                self.at += 4;
                Ok(Packet::Other)
            }
            3 => Err(self.wrong("a line that is shorter than its length")),
            length => {
                let line = rest.get(4..length).ok_or_else(|| self.wrong("the answer is cut off"))?;
                if let Some(said) = line.strip_prefix(b"ERR ") {
                    let said = String::from_utf8_lossy(said).trim().to_owned();
                    return Err(self.wrong(format!("the server says {said:?}")));
                }
                self.at += length;
                Ok(Packet::Line(line.strip_suffix(b"\n").unwrap_or(line)))
            }
        }
    }
}

/// Reads the answer to the first request of the smart protocol, in whichever version it is.
pub(super) fn advertised(body: &[u8], prefixes: &[String]) -> Result<Advertised, Unread> {
    let mut packets = Packets::new(body);
    let mut first = packets.next()?;
    if matches!(first, Packet::Line(line) if line.starts_with(b"# service=")) {
        if packets.next()? != Packet::Flush {
            return Err(packets.wrong("no end of the announcement"));
        }
        first = packets.next()?;
    }
    match first {
        Packet::Line(b"version 2") => {
            let mut object_format = None;
            let mut lists = false;
            while let Packet::Line(line) = packets.next()? {
                lists |= line == b"ls-refs" || line.starts_with(b"ls-refs=");
                if let Some(format) = line.strip_prefix(b"object-format=") {
                    object_format = Some(String::from_utf8_lossy(format).into_owned());
                }
            }
            if lists {
                Ok(Advertised::Ask { object_format })
            } else {
                Err(packets.wrong("the server does not list references"))
            }
        }
        Packet::Line(b"version 1") => {
            let next = packets.next()?;
            told(packets, next, prefixes)
        }
        first => told(packets, first, prefixes),
    }
}

/// Versions 0 and 1: `OID NAME`, on the first line with capabilities behind a NUL.
fn told(mut packets: Packets<'_>, first: Packet<'_>, prefixes: &[String]) -> Result<Advertised, Unread> {
    let mut refs = Refs::default();
    let mut packet = first;
    let mut head = None;
    while let Packet::Line(line) = packet {
        let (line, capabilities) = split(line, 0).map_or((line, None), |(line, more)| (line, Some(more)));
        head = head.or_else(|| capabilities.and_then(head_of));
        let (oid, name) = split(line, b' ').ok_or_else(|| packets.wrong("no reference"))?;
        // An empty repository has only capabilities to tell.
        if name != b"capabilities^{}" {
            refs.add(name, oid, prefixes).map_err(|what| packets.wrong(what))?;
        }
        packet = packets.next()?;
    }
    if let Some(target) = head.filter(|_| wanted(b"HEAD", prefixes)) {
        refs.0.insert(b"HEAD".to_vec(), [b"ref: ", target].concat());
    }
    Ok(Advertised::Refs(refs))
}

/// `symref=HEAD:refs/heads/main` among capabilities.
fn head_of(capabilities: &[u8]) -> Option<&[u8]> {
    capabilities.split(|b| *b == b' ').find_map(|c| c.strip_prefix(b"symref=HEAD:"))
}

/// Reads the answer to `ls-refs`.
pub(super) fn listed(body: &[u8], prefixes: &[String]) -> Result<Refs, Unread> {
    let mut packets = Packets::new(body);
    let mut refs = Refs::default();
    while let Packet::Line(line) = packets.next()? {
        let (oid, rest) = split(line, b' ').ok_or_else(|| packets.wrong("no reference"))?;
        let (name, more) = split(rest, b' ').unwrap_or((rest, b""));
        let target = more.split(|b| *b == b' ').find_map(|a| a.strip_prefix(b"symref-target:"));
        match target.filter(|_| name == b"HEAD") {
            Some(target) => {
                refs.0.insert(name.to_vec(), [b"ref: ", target].concat());
            }
            None => refs.add(name, oid, prefixes).map_err(|what| packets.wrong(what))?,
        }
    }
    Ok(refs)
}

/// Reads the file of a server that only serves files: `OID TAB NAME`, a line each.
pub(super) fn dumb(body: &[u8], prefixes: &[String]) -> Result<Refs, Unread> {
    let mut refs = Refs::default();
    let mut at = 0;
    for line in body.split_inclusive(|b| *b == b'\n') {
        let wrong = |what: &str| Unread { what: what.to_owned(), at };
        let line_end = line.strip_suffix(b"\n").ok_or_else(|| wrong("the answer is cut off"))?;
        let (oid, name) = split(line_end, b'\t').ok_or_else(|| wrong("no reference"))?;
        refs.add(name, oid, prefixes).map_err(wrong)?;
        at += line.len();
    }
    Ok(refs)
}

/// What is asked of a server of version 2.
pub(super) fn ls_refs(object_format: Option<&str>, prefixes: &[String]) -> Vec<u8> {
    let line = |text: String| format!("{:04x}{text}\n", text.len() + 5);
    let mut body = line("command=ls-refs".to_owned());
    body += &line(format!("agent=lamplighter/{}", env!("CARGO_PKG_VERSION")));
    body.extend(object_format.map(|format| line(format!("object-format={format}"))));
    body += "0001";
    body += &line("symrefs".to_owned());
    body.extend(prefixes.iter().map(|prefix| line(format!("ref-prefix {prefix}"))));
    body += "0000";
    body.into_bytes()
}

fn split(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = line.iter().position(|b| *b == at)?;
    Some((line.get(..place)?, line.get(place + 1..)?))
}

fn wanted(name: &[u8], prefixes: &[String]) -> bool {
    prefixes.is_empty() || prefixes.iter().any(|p| name.starts_with(p.as_bytes()))
}

impl Refs {
    fn add(&mut self, name: &[u8], oid: &[u8], prefixes: &[String]) -> Result<(), &'static str> {
        if !matches!(oid.len(), 40 | 64) || !oid.iter().all(u8::is_ascii_hexdigit) {
            return Err("no name of an object");
        }
        // What an annotated tag leads to follows from the tag.
        if !name.ends_with(b"^{}") && wanted(name, prefixes) {
            self.0.insert(name.to_vec(), oid.to_ascii_lowercase());
        }
        Ok(())
    }

    /// Names the state: the SHA-256 of the lines `NAME OID`, in the order of names.
    pub(super) fn snapshot(&self) -> String {
        let mut digest = Sha256::new();
        for (name, value) in &self.0 {
            for piece in [name.as_slice(), b" ", value, b"\n"] {
                digest.update(piece);
            }
        }
        format!("refs:sha256:{}", hex(&digest.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn pkt(lines: &[&str]) -> Vec<u8> {
        let line = |l: &&str| match *l {
            "flush" => "0000".to_owned(),
            text => format!("{:04x}{text}", text.len() + 4),
        };
        lines.iter().map(line).collect::<String>().into_bytes()
    }

    fn all() -> Vec<String> {
        ["HEAD", "refs/heads/", "refs/tags/"].map(str::to_owned).to_vec()
    }

    fn expected() -> Refs {
        let of = |(name, value): (&str, String)| (name.as_bytes().to_vec(), value.into_bytes());
        Refs(BTreeMap::from(
            [
                ("HEAD", "ref: refs/heads/main".to_owned()),
                ("refs/heads/main", A.to_owned()),
                ("refs/tags/v1", B.to_owned()),
            ]
            .map(of),
        ))
    }

    #[test]
    fn every_version_of_the_protocol_tells_the_same() {
        let old = pkt(&[
            "# service=git-upload-pack\n",
            "flush",
            &format!("{A} HEAD\0multi_ack symref=HEAD:refs/heads/main agent=git/2\n"),
            &format!("{A} refs/heads/main\n"),
            &format!("{B} refs/pull/1/head\n"),
            &format!("{B} refs/tags/v1\n"),
            &format!("{A} refs/tags/v1^{{}}\n"),
            "flush",
        ]);
        assert_eq!(advertised(&old, &all()), Ok(Advertised::Refs(expected())));
        let new = pkt(&["version 2\n", "agent=git/2\n", "ls-refs=unborn\n", "object-format=sha1\n", "flush"]);
        assert_eq!(advertised(&new, &all()), Ok(Advertised::Ask { object_format: Some("sha1".to_owned()) }));
        let listing = pkt(&[
            &format!("{A} HEAD symref-target:refs/heads/main\n"),
            &format!("{A} refs/heads/main\n"),
            &format!("{B} refs/tags/v1 peeled:{A}\n"),
            "flush",
        ]);
        assert_eq!(listed(&listing, &all()), Ok(expected()));
        let mut without_head = expected();
        without_head.0.remove(b"HEAD".as_slice());
        let files = format!("{A}\trefs/heads/main\n{B}\trefs/tags/v1\n{A}\trefs/tags/v1^{{}}\n");
        assert_eq!(dumb(files.as_bytes(), &all()), Ok(without_head));
    }

    #[test]
    fn an_empty_repository_is_empty_and_what_is_cut_off_is_not() {
        let zero = "0".repeat(40);
        let empty = pkt(&[
            "# service=git-upload-pack\n",
            "flush",
            &format!("{zero} capabilities^{{}}\0agent\n"),
            "flush",
        ]);
        assert_eq!(advertised(&empty, &all()), Ok(Advertised::Refs(Refs::default())));
        assert_eq!(listed(b"0000", &all()), Ok(Refs::default()));
        for end in 0..empty.len() {
            assert!(advertised(&empty[..end], &all()).is_err(), "{end} bytes");
        }
        assert!(listed(b"", &all()).is_err());
        for (body, says) in [
            (&b"<!DOCTYPE html>"[..], "no length of a line"),
            (b"001fERR no such repository  \n..0000", "no such repository"),
            (b"0003", "shorter"),
            (b"+004", "no length"),
            (b"000bnothing0000", "no reference"),
            (b"0011xyz refs/h/m\n0000", "no name of an object"),
        ] {
            let e = listed(body, &all()).unwrap_err().to_string();
            assert!(e.contains(says) && e.contains("at byte"), "{e}");
        }
        assert!(dumb(b"<html>\n", &all()).is_err());
    }

    #[test]
    fn a_snapshot_is_the_digest_of_sorted_lines() {
        // printf 'HEAD ref: refs/heads/main\nrefs/heads/main aa..\nrefs/tags/v1 bb..\n' | sha256sum
        let text = format!("HEAD ref: refs/heads/main\nrefs/heads/main {A}\nrefs/tags/v1 {B}\n");
        assert_eq!(expected().snapshot(), format!("refs:sha256:{}", hex(&Sha256::digest(text))));
        assert_ne!(expected().snapshot(), Refs::default().snapshot());
    }

    #[test]
    fn what_is_asked_is_as_the_protocol_says() {
        let asked = String::from_utf8(ls_refs(Some("sha1"), &["HEAD".to_owned()])).unwrap();
        let agent = format!("agent=lamplighter/{}\n", env!("CARGO_PKG_VERSION"));
        let expected = format!(
            "0014command=ls-refs\n{:04x}{agent}0017object-format=sha1\n0001000csymrefs\n0014ref-prefix HEAD\n0000",
            agent.len() + 4
        );
        assert_eq!(asked, expected);
    }
}
