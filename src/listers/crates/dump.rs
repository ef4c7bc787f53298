//! The dump of a registry's database: three members of an archive, joined.

use std::io::Read;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::table::{each_row, loosely};
use super::{Crates, CratesCursor};
use crate::lister::archive::{Member, each_member};
use crate::lister::{ListerError, Page};
use crate::listers::joined::{Packages, Skips, Versions, is_plain, shortened};
use crate::model::{NewOrigin, Timestamp, VisitType, hex};
use crate::transport::Body;

const WHAT: &str = "db-dump.tar.gz";

/// The longest `metadata.json`.
const LONGEST_METADATA: u64 = 1 << 20;

const CRATE_COLUMNS: &[&str] = &["id", "name", "updated_at"];
const VERSION_COLUMNS: &[&str] = &["crate_id", "num", "updated_at", "?checksum", "?tar_sha256"];

#[derive(Deserialize)]
struct Metadata {
    #[serde(deserialize_with = "super::dump_time")]
    timestamp: Option<Timestamp>,
}

/// The checksum of a version, where there is one.
type Sha256 = Option<[u8; 32]>;

/// A member that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Metadata,
    Crates,
    Versions,
}

impl Table {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Metadata, "metadata.json"),
        (Self::Crates, "data/crates.csv"),
        (Self::Versions, "data/versions.csv"),
    ];

    /// The member at this path, below the one folder that a dump is in.
    fn at(path: &str) -> Option<(Self, &'static str)> {
        let (_, below) = path.split_once('/')?;
        Self::ALL.into_iter().find(|(_, name)| *name == below)
    }
}

/// What was read of a dump so far.
#[derive(Default)]
struct Dump {
    seen: Vec<Table>,
    made: Option<Timestamp>,
    since: Option<Timestamp>,
    crates: Packages,
    /// Crates that did not change themselves, but of which a version did.
    late: Vec<usize>,
    /// Versions of crates that are not there.
    strays: u64,
    /// Whether this is the first time that the versions are read.
    first: bool,
    skips: Skips,
}

impl Crates {
    /// Lists the crates of a dump that changed after `since`, and gives the dump's time.
    pub(super) fn list(
        &self,
        body: &Body,
        since: Option<Timestamp>,
        page: &mut Page<CratesCursor>,
    ) -> Result<Timestamp, ListerError> {
        let mut dump = Dump { since, first: true, ..Dump::default() };
        let mut versions = Versions::new(0, usize::MAX, self.at_once);
        dump.read(body, &mut versions)?;
        for (table, name) in Table::ALL {
            if !dump.seen.contains(&table) {
                return Err(ListerError::parse(format!("{WHAT}: there is no {name} in it")));
            }
        }
        let made = dump.made.ok_or_else(|| ListerError::parse(format!("{WHAT}: it has no time")))?;
        if since.is_some_and(|since| made <= since) {
            return Ok(made);
        }
        if dump.first {
            // They came before the crates.
            dump.read_versions(body, &mut versions)?;
        }
        if dump.strays > 0 {
            page.skip(format!("{} versions", dump.strays), "their crates are not in the dump");
        }
        self.turns(body, &mut dump, versions, page)?;
        let late = std::mem::take(&mut dump.late);
        if !late.is_empty() {
            let rows = &mut dump.crates.rows;
            for row in rows.iter_mut() {
                row.wanted = false;
            }
            for index in late {
                if let Some(row) = rows.get_mut(index) {
                    row.wanted = true;
                }
            }
            let mut versions = Versions::new(0, rows.len(), self.at_once);
            dump.read_versions(body, &mut versions)?;
            self.turns(body, &mut dump, versions, page)?;
        }
        dump.skips.tell(page);
        Ok(made)
    }

    /// Lists the crates of one stretch after the other, until no wanted one is left.
    fn turns(
        &self,
        body: &Body,
        dump: &mut Dump,
        mut versions: Versions<Sha256>,
        page: &mut Page<CratesCursor>,
    ) -> Result<(), ListerError> {
        loop {
            versions.sort(|(a, _), (b, _)| loosely(a, b));
            let to = versions.to.min(dump.crates.rows.len());
            for index in versions.from..to {
                let Some(row) = dump.crates.rows.get(index).filter(|row| row.wanted) else { continue };
                let name = dump.crates.name(row);
                let artifacts: Vec<Value> =
                    versions.of(index).map(|(num, sum)| self.artifact(name, num, sum.as_ref())).collect();
                if artifacts.is_empty() {
                    dump.skips.add(|| name.to_owned(), "it has no version");
                    continue;
                }
                page.origin(
                    NewOrigin::new(format!("{}/crates/{name}", self.web), VisitType::known("crates"))
                        .with_last_update(row.updated())
                        .with_forge_id(row.id)
                        .with_argument("artifacts", artifacts),
                )?;
            }
            let Some(next) = dump.crates.next_wanted(to) else { return Ok(()) };
            versions = Versions::new(next, dump.crates.rows.len(), self.at_once);
            dump.read_versions(body, &mut versions)?;
        }
    }

    /// In the shape that Software Heritage's loader takes.
    fn artifact(&self, name: &str, num: &str, sha256: Option<&[u8; 32]>) -> Value {
        let filename = format!("{name}-{num}.crate");
        let checksums: Map<String, Value> =
            sha256.into_iter().map(|sum| ("sha256".to_owned(), hex(sum).into())).collect();
        serde_json::json!({
            "version": num,
            "url": format!("{}/crates/{name}/{filename}", self.files),
            "filename": filename,
            "checksums": checksums,
        })
    }
}

impl Dump {
    /// Reads the archive for the first time: what it holds, and the versions where the crates came
    /// before them.
    fn read(&mut self, body: &Body, versions: &mut Versions<Sha256>) -> Result<(), ListerError> {
        each_member(WHAT, body, |member, contents| {
            let Some((table, name)) = Table::at(&member.path) else { return Ok(()) };
            let place = format!("{WHAT}: {name}");
            check_file(member, &place)?;
            if self.seen.contains(&table) {
                return Err(ListerError::parse(format!("{place} is in it twice")));
            }
            self.seen.push(table);
            match table {
                Table::Metadata => self.metadata(&place, contents),
                Table::Crates => self.crates(&place, contents),
                Table::Versions if self.seen.contains(&Table::Crates) => {
                    self.versions(&place, contents, versions)
                }
                Table::Versions => Ok(()),
            }
        })
    }

    /// Reads the archive once more, for versions alone.
    fn read_versions(&mut self, body: &Body, versions: &mut Versions<Sha256>) -> Result<(), ListerError> {
        each_member(WHAT, body, |member, contents| match Table::at(&member.path) {
            Some((Table::Versions, name)) => self.versions(&format!("{WHAT}: {name}"), contents, versions),
            _ => Ok(()),
        })
    }

    fn metadata(&mut self, place: &str, contents: &mut dyn Read) -> Result<(), ListerError> {
        let mut text = Vec::new();
        let broken = |e: &dyn std::fmt::Display| ListerError::parse(format!("{place}: {e}"));
        contents.take(LONGEST_METADATA).read_to_end(&mut text).map_err(|e| broken(&e).with_source(e))?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| broken(&e).with_source(e))?;
        self.made = metadata.timestamp;
        Ok(())
    }

    fn crates(&mut self, place: &str, contents: &mut dyn Read) -> Result<(), ListerError> {
        each_row(place, contents, CRATE_COLUMNS, |row| {
            let (id, name, updated) = (row.number(0)?, row.text(1)?, row.date(2)?);
            if !is_plain(name, "-_") {
                self.skips
                    .add(|| format!("crate {id}, {:?}", shortened(name)), "that can be no crate's name");
                return Ok(());
            }
            let wanted = self.since.is_none_or(|since| updated.is_none_or(|at| at > since));
            if self.crates.push(id, name, updated, wanted) {
                Ok(())
            } else {
                Err(row.wrong("there are too many crates, or a name is too long"))
            }
        })?;
        let twice = |id| ListerError::parse(format!("{place}: the id {id} is there twice"));
        self.crates.sort().map_err(twice)
    }

    fn versions(
        &mut self,
        place: &str,
        contents: &mut dyn Read,
        versions: &mut Versions<Sha256>,
    ) -> Result<(), ListerError> {
        let first = std::mem::take(&mut self.first);
        each_row(place, contents, VERSION_COLUMNS, |row| {
            let (id, num, updated) = (row.number(0)?, row.text(1)?, row.date(2)?);
            let Some(index) = self.crates.find(id) else {
                self.strays += u64::from(first);
                return Ok(());
            };
            let Some(of) = self.crates.rows.get_mut(index) else { return Ok(()) };
            of.update(updated);
            let (wanted, later) = (of.wanted, self.since.is_some() && updated > self.since);
            if first && later && !wanted && self.late.last() != Some(&index) {
                self.late.push(index);
            }
            if !wanted {
                return Ok(());
            }
            let sha256 = match [row.text(3)?, row.text(4)?].into_iter().find(|text| !text.is_empty()) {
                None => Some(None),
                Some(text) => sha256(text).map(Some),
            };
            let (Some(sha256), true) = (sha256, is_plain(num, "-_.+")) else {
                if first {
                    let what = || format!("version {:?} of crate {id}", shortened(num));
                    self.skips.add(what, "its number or checksum is none");
                }
                return Ok(());
            };
            if versions.push(index, num, sha256) {
                Ok(())
            } else {
                Err(row.wrong(format!("there are too many versions of crate {id}")))
            }
        })
    }
}

fn check_file(member: &Member, place: &str) -> Result<(), ListerError> {
    if member.is_file { Ok(()) } else { Err(ListerError::parse(format!("{place} is no file"))) }
}

/// Sixty-four hexadecimal digits, after `\x` where PostgreSQL wrote them.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("\\x").unwrap_or(text);
    let mut sum = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in sum.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(sum)
}
