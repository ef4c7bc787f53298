//! The manifest of a fixture folder: what recordings write and cases read.

use std::fs;
use std::io;
use std::path::Path;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::TransportErrorKind;
use crate::model::{JsonObject, Timestamp};

/// The form of the manifests that this version writes and reads.
pub(crate) const MANIFEST_FORM: u32 = 1;

/// The name of a manifest in its folder.
pub(crate) const MANIFEST_NAME: &str = "fixture.json";

/// The name of the exchanges of a run that has not ended yet, one a line.
pub(crate) const JOURNAL_NAME: &str = "fixture.jsonl";

/// The manifest of a fixture folder: everything but the bodies of answers, which are files beside
/// it, so that a change of a fixture can be read in a diff.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) form: u32,
    pub(crate) lister: String,
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) arguments: JsonObject,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) credentials: usize,
    pub(crate) runs: Vec<ManifestRun>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestRun {
    pub(crate) at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_pages: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) about: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state_before: Option<JsonObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origins: Option<String>,
    pub(crate) exchanges: Vec<ManifestExchange>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestExchange {
    pub(crate) method: String,
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answered_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) received: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// A line of the journal: an exchange, and where it belongs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JournalLine {
    /// The number of the run, from 1.
    pub(crate) run: usize,
    /// The number of the exchange in it, from 1.
    pub(crate) number: usize,
    pub(crate) exchange: ManifestExchange,
}

impl Manifest {
    /// Adds what the journal in the folder holds beyond the manifest, where there is one. What a
    /// kill left of a line is not looked at, nor what the manifest holds by now.
    pub(crate) fn take_in_journal(&mut self, folder: &Path) -> io::Result<()> {
        let journal = match fs::read(folder.join(JOURNAL_NAME)) {
            Ok(journal) => journal,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let lines = journal.split(|byte| *byte == b'\n');
        for line in lines.map_while(|line| serde_json::from_slice::<JournalLine>(line).ok()) {
            let run = line.run.checked_sub(1).and_then(|n| self.runs.get_mut(n));
            if let Some(run) = run.filter(|run| run.exchanges.len() + 1 == line.number) {
                run.exchanges.push(line.exchange);
            }
        }
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

const ERROR_NAMES: [(TransportErrorKind, &str); 11] = [
    (TransportErrorKind::Connect, "connect"),
    (TransportErrorKind::Timeout, "timeout"),
    (TransportErrorKind::Body, "body"),
    (TransportErrorKind::TooLarge, "too_large"),
    (TransportErrorKind::Redirect, "redirect"),
    (TransportErrorKind::Forbidden, "forbidden"),
    (TransportErrorKind::Challenge, "challenge"),
    (TransportErrorKind::Encoding, "encoding"),
    (TransportErrorKind::Limited, "limited"),
    (TransportErrorKind::Request, "request"),
    (TransportErrorKind::Other, "other"),
];

/// The name of a kind in a manifest. What a replay did not know is no fact about a forge: `None`.
pub(crate) fn error_name(kind: TransportErrorKind) -> Option<&'static str> {
    ERROR_NAMES.iter().find(|(k, _)| *k == kind).map(|(_, name)| *name)
}

/// The kind that a manifest names.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn error_kind(name: &str) -> Option<TransportErrorKind> {
    ERROR_NAMES.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
}

/// A header's value as text. Bytes that are no ASCII stand for themselves (Latin-1), so that every
/// value can be written down and read back.
pub(crate) fn header_text(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::super::exchange::header_value;
    use super::*;

    #[test]
    fn header_values_survive_as_text() {
        for bytes in [&b"plain"[..], b"caf\xe9", b"<https://h/?a=b>; rel=\"next\""] {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            assert_eq!(header_value(&header_text(&value)).unwrap(), value);
        }
        assert_eq!(header_value("\u{4e2d}").unwrap().as_bytes(), "\u{4e2d}".as_bytes());
        assert!(header_value("two\nlines").is_none());
    }

    #[test]
    fn only_what_a_forge_did_has_a_name() {
        assert_eq!(error_name(TransportErrorKind::NotRecorded), None);
        for (kind, name) in ERROR_NAMES {
            assert_eq!(error_kind(name), Some(kind));
            assert_eq!(error_name(kind), Some(name));
        }
    }
}
