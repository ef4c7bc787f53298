//! The dump of the registry's database: two tables of a text in an archive, joined.

use std::io::{BufReader, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::copy::{Row, Told, Wanted, each_told};
use super::{RubyGems, RubyGemsCursor};
use crate::lister::archive::{Member, each_member};
use crate::lister::compress::{Unpacked, unpacking};
use crate::lister::{ListerError, Page};
use crate::listers::joined::{Packages, Skips, Versions, is_plain, shortened};
use crate::model::{NewOrigin, Timestamp, hex};
use crate::transport::Body;

const WHAT: &str = "public_postgresql.tar";
const MEMBER: &str = "PostgreSQL.sql.gz";

const GEMS: usize = 0;
const TABLES: &[Wanted] = &[
    Wanted { name: "rubygems", columns: &["id", "name"] },
    Wanted {
        name: "versions",
        columns: &[
            "rubygem_id",
            "number",
            "full_name",
            "built_at",
            "created_at",
            "yanked_at",
            "sha256",
            "size",
        ],
    },
];

/// A version, besides its number and its full name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gem {
    /// How many bytes of the text are its number; the rest is its full name.
    number: u16,
    /// Its place in the dump.
    line: u32,
    built: Option<Timestamp>,
    sha256: Option<[u8; 32]>,
    size: Option<u64>,
}

/// What was read of a dump so far.
#[derive(Default)]
struct Dump {
    gems: Packages,
    /// Which tables were read to their end.
    read: [bool; 2],
    /// How often they were begun to be read.
    turn: u32,
    /// Whether versions came before the gems that they are of.
    early: bool,
    /// Versions of gems that are not there.
    strays: u64,
    line: u32,
    skips: Skips,
}

impl RubyGems {
    /// Lists the gems of a dump.
    pub(super) fn list(&self, body: &Body, page: &mut Page<RubyGemsCursor>) -> Result<(), ListerError> {
        let mut dump = Dump::default();
        let mut versions = Versions::new(0, usize::MAX, self.at_once);
        dump.read(body, &mut versions)?;
        for (table, read) in TABLES.iter().zip(dump.read) {
            if !read {
                return Err(ListerError::parse(format!("{WHAT}: {MEMBER} has no table {:?}", table.name)));
            }
        }
        if dump.early {
            dump.strays = 0;
            versions = Versions::new(0, dump.gems.rows.len(), self.at_once);
            dump.turn = 0;
            dump.read(body, &mut versions)?;
        }
        if dump.strays > 0 {
            page.skip(format!("{} versions", dump.strays), "their gems are not in the dump");
        }
        loop {
            versions.sort(|(_, a), (_, b)| a.line.cmp(&b.line));
            let to = versions.to.min(dump.gems.rows.len());
            for index in versions.from..to {
                let Some(row) = dump.gems.rows.get(index) else { continue };
                let name = dump.gems.name(row);
                let (mut artifacts, mut metadata) = (Vec::new(), Vec::new());
                for (text, gem) in versions.of(index) {
                    let (number, full_name) = text.split_at_checked(gem.number.into()).unwrap_or_default();
                    artifacts.push(self.artifact(number, full_name, gem));
                    metadata.push(self.metadata(name, number, gem));
                }
                if artifacts.is_empty() {
                    dump.skips.add(|| name.to_owned(), "it has no version that was not yanked");
                    continue;
                }
                page.origin(
                    NewOrigin::new(format!("{}/gems/{name}", self.web), self.visit_type.clone())
                        .with_last_update(row.updated())
                        .with_argument("artifacts", artifacts)
                        .with_argument("rubygem_metadata", metadata),
                )?;
            }
            let Some(next) = dump.gems.next_wanted(to) else { break };
            versions = Versions::new(next, dump.gems.rows.len(), self.at_once);
            dump.read(body, &mut versions)?;
        }
        dump.skips.tell(page);
        Ok(())
    }

    /// In the shape that Software Heritage's loader takes.
    fn artifact(&self, number: &str, full_name: &str, gem: &Gem) -> Value {
        let filename = format!("{full_name}.gem");
        let mut checksums = serde_json::Map::new();
        if let Some(sha256) = gem.sha256 {
            checksums.insert("sha256".to_owned(), hex(&sha256).into());
        }
        json!({
            "version": number,
            "url": format!("{}/downloads/{filename}", self.web),
            "filename": filename,
            "checksums": checksums,
            "length": gem.size,
        })
    }

    fn metadata(&self, name: &str, number: &str, gem: &Gem) -> Value {
        json!({
            "version": number,
            "date": gem.built.map(|at| at.to_datetime().to_rfc3339()),
            "extrinsic_metadata_url": format!("{}/api/v2/rubygems/{name}/versions/{number}.json", self.web),
        })
    }
}

impl Dump {
    /// Reads the archive: the gems where that is not done yet, and versions.
    fn read(&mut self, body: &Body, versions: &mut Versions<Gem>) -> Result<(), ListerError> {
        self.turn += 1;
        self.line = 0;
        let mut found = false;
        each_member(WHAT, body, |member, contents| {
            if member.path.rsplit('/').next() != Some(MEMBER) {
                return Ok(());
            }
            if !member.is_file || std::mem::replace(&mut found, true) {
                return Err(ListerError::parse(format!("{WHAT}: {MEMBER} is no file, or there twice")));
            }
            self.tables(member, contents, versions)
        })?;
        if found { Ok(()) } else { Err(ListerError::parse(format!("{WHAT}: there is no {MEMBER} in it"))) }
    }

    fn tables(
        &mut self,
        member: &Member,
        contents: &mut dyn Read,
        versions: &mut Versions<Gem>,
    ) -> Result<(), ListerError> {
        let what = format!("{WHAT}: {MEMBER}");
        let text = Unpacked::within(contents, member.size).map_err(|e| unpacking(&what, e))?;
        let text = BufReader::with_capacity(64 << 10, text);
        // Also after a first reading, in which versions came too early for their gems.
        let known = self.read == [true; 2];
        let mut ended = [false; 2];
        each_told(&what, text, TABLES, |which, told| match told {
            Told::Row(row) if which == GEMS => {
                if known {
                    Ok(())
                } else {
                    self.gem(row)
                }
            }
            Told::Row(_) if !known && ended.get(GEMS) == Some(&false) => {
                self.early = true;
                Ok(())
            }
            Told::Row(row) => self.version(row, versions),
            Told::End => {
                if which == GEMS && !known {
                    let twice =
                        |id| ListerError::parse(format!("{what}: rubygems: the id {id} is there twice"));
                    self.gems.sort().map_err(twice)?;
                }
                if let Some(ended) = ended.get_mut(which) {
                    if *ended {
                        let name = TABLES.get(which).map_or("", |t| t.name);
                        return Err(ListerError::parse(format!("{what}: the table {name} is there twice")));
                    }
                    *ended = true;
                }
                Ok(())
            }
        })?;
        self.read = ended;
        Ok(())
    }

    fn gem(&mut self, row: &Row<'_>) -> Result<(), ListerError> {
        let id = row.number(0)?.ok_or_else(|| row.wrong("id: it is null"))?;
        let name = row.text(1)?.unwrap_or_default();
        if !is_plain(&name, "-_.") {
            self.skips.add(|| format!("gem {id}, {:?}", shortened(&name)), "that can be no gem's name");
            return Ok(());
        }
        if self.gems.push(id, &name, None, true) {
            Ok(())
        } else {
            Err(row.wrong("there are too many gems, or a name is too long"))
        }
    }

    fn version(&mut self, row: &Row<'_>, versions: &mut Versions<Gem>) -> Result<(), ListerError> {
        let first = self.turn == 1;
        let id = row.number(0)?.unwrap_or_default();
        let Some(index) = self.gems.find(id) else {
            self.strays += u64::from(first);
            return Ok(());
        };
        if row.text(5)?.is_some() {
            return Ok(());
        }
        let (number, full_name) = (row.text(1)?.unwrap_or_default(), row.text(2)?.unwrap_or_default());
        // Years before the first, and the like, are in such columns.
        let [built, created] = [row.date(3), row.date(4)].map(|date| match date {
            Ok(date) => date,
            Err(e) => {
                if first {
                    self.skips.add(|| e.to_string(), "the date is left out");
                }
                None
            }
        });
        let sha256 = match row.text(6)?.filter(|sum| !sum.is_empty()) {
            None => Some(None),
            Some(sum) => STANDARD.decode(sum.as_bytes()).ok().and_then(|sum| sum.try_into().ok()).map(Some),
        };
        let (Some(sha256), true) = (sha256, is_plain(&number, "-_.+") && is_plain(&full_name, "-_.+")) else {
            if first {
                let what = || format!("version {:?} of gem {id}", shortened(&full_name));
                self.skips.add(what, "its number, name or checksum is none");
            }
            return Ok(());
        };
        // When it was pushed; when it was built is what its author says.
        if let Some(of) = self.gems.rows.get_mut(index) {
            of.update(created.or(built));
        }
        self.line = self.line.saturating_add(1);
        let length = u16::try_from(number.len()).unwrap_or_default();
        let gem = Gem { number: length, line: self.line, built, sha256, size: row.number(7)? };
        if versions.push(index, &format!("{number}{full_name}"), gem) {
            Ok(())
        } else {
            Err(row.wrong(format_args!("there are too many versions of gem {id}")))
        }
    }
}
