//! Tables of a dump: rows of CSV by the names of their columns, and what of them is kept in memory.

use std::cell::Cell;
use std::cmp::Ordering;
use std::io::Read;
use std::rc::Rc;

use csv::ByteRecord;

use crate::lister::ListerError;
use crate::lister::archive::Budgeted;
use crate::model::Timestamp;

/// The longest row that is read: descriptions and readmes are in them.
const LONGEST_ROW: u64 = 32 << 20;

/// How many versions are kept at a time.
pub(super) const AT_ONCE: usize = 1_000_000;

/// A row of a table, of the columns that were asked for.
pub(super) struct Row<'a> {
    what: &'a str,
    record: &'a ByteRecord,
    at: &'a [Option<usize>],
    columns: &'a [&'a str],
}

impl<'a> Row<'a> {
    /// An error at this row.
    pub(super) fn wrong(&self, problem: impl std::fmt::Display) -> ListerError {
        let line = self.record.position().map_or(0, csv::Position::line);
        ListerError::parse(format!("{}, line {line}: {problem}", self.what))
    }

    /// The text of a column: empty where the table does not have it.
    pub(super) fn text(&self, column: usize) -> Result<&'a str, ListerError> {
        let at = self.at.get(column).copied().flatten();
        let bytes = at.and_then(|at| self.record.get(at)).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|e| self.wrong(format!("{}: {e}", self.name(column))))
    }

    /// The number in a column.
    pub(super) fn number(&self, column: usize) -> Result<u64, ListerError> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.wrong(format!("{}: {text:?} is no number", self.name(column))))
    }

    /// The date in a column, UTC where it says no offset; `None` where there is nothing.
    pub(super) fn date(&self, column: usize) -> Result<Option<Timestamp>, ListerError> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = || self.wrong(format!("{}: {text:?} is no date", self.name(column)));
        crate::lister::utc_date(text).map(Some).ok_or_else(wrong)
    }

    fn name(&self, column: usize) -> &str {
        self.columns.get(column).copied().unwrap_or_default()
    }
}

/// Reads a table row by row. A column may be absent where its name begins with a question mark.
pub(super) fn each_row(
    what: &str,
    contents: &mut dyn Read,
    columns: &[&str],
    mut each: impl FnMut(&Row<'_>) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let budget = Rc::new(Cell::new(LONGEST_ROW));
    let inner = Budgeted::new(contents, &budget, "a row of more than 32 MiB");
    let mut reader = csv::ReaderBuilder::new().buffer_capacity(64 << 10).from_reader(inner);
    let broken = |e: csv::Error| ListerError::parse(format!("{what}: {e}")).with_source(e);
    let head = reader.byte_headers().map_err(broken)?;
    let mut at = Vec::with_capacity(columns.len());
    for column in columns {
        let name = column.trim_start_matches('?');
        let found = head.iter().position(|h| h == name.as_bytes());
        if found.is_none() && name == *column {
            return Err(ListerError::parse(format!("{what}: there is no column {name:?}")));
        }
        at.push(found);
    }
    let mut record = ByteRecord::new();
    loop {
        budget.set(LONGEST_ROW);
        if !reader.read_byte_record(&mut record).map_err(broken)? {
            return Ok(());
        }
        each(&Row { what, record: &record, at: &at, columns })?;
    }
}

/// A crate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crate {
    pub(super) id: u64,
    /// Where its name begins among the names, and how long it is.
    name: (u32, u16),
    /// Its own date or the latest of its versions'; the earliest there is where it has none.
    updated: i64,
    /// Whether it is to be listed.
    pub(super) wanted: bool,
}

impl Crate {
    pub(super) fn updated(&self) -> Option<Timestamp> {
        (self.updated > i64::MIN).then(|| Timestamp::from_micros(self.updated))
    }

    pub(super) fn update(&mut self, at: Option<Timestamp>) {
        self.updated = self.updated.max(at.map_or(i64::MIN, Timestamp::as_micros));
    }
}

/// More crates than any registry has. They are all in memory, so that there is a limit to them.
const MOST_CRATES: usize = 8_000_000;

/// The longest that their names are together.
const LONGEST_NAMES: usize = 256 << 20;

/// All crates, by id.
#[derive(Debug, Default)]
pub(super) struct CrateTable {
    names: String,
    pub(super) rows: Vec<Crate>,
}

impl CrateTable {
    /// Adds a crate; false where there are too many.
    pub(super) fn push(&mut self, id: u64, name: &str, updated: Option<Timestamp>, wanted: bool) -> bool {
        let (Ok(start), Ok(length)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            return false;
        };
        self.names.push_str(name);
        let mut row = Crate { id, name: (start, length), updated: i64::MIN, wanted };
        row.update(updated);
        self.rows.push(row);
        self.rows.len() <= MOST_CRATES && self.names.len() <= LONGEST_NAMES
    }

    /// Puts the crates in order. An id that is there twice is the error.
    pub(super) fn sort(&mut self) -> Result<(), u64> {
        self.rows.sort_unstable_by_key(|row| row.id);
        let twice = self.rows.windows(2).find_map(|pair| match pair {
            [a, b] if a.id == b.id => Some(a.id),
            _ => None,
        });
        twice.map_or(Ok(()), Err)
    }

    pub(super) fn find(&self, id: u64) -> Option<usize> {
        self.rows.binary_search_by_key(&id, |row| row.id).ok()
    }

    pub(super) fn name(&self, row: &Crate) -> &str {
        slice(&self.names, row.name)
    }
}

fn slice(texts: &str, (start, length): (u32, u16)) -> &str {
    let start = start as usize;
    texts.get(start..start + usize::from(length)).unwrap_or_default()
}

/// A version, as it is kept.
#[derive(Debug, Clone, Copy)]
struct Version {
    /// The index of its crate.
    of: u32,
    num: (u32, u16),
    sha256: Option<[u8; 32]>,
}

/// The versions of a stretch of crates, so many at most: where there are more, the stretch gets shorter.
#[derive(Debug)]
pub(super) struct Versions {
    nums: String,
    rows: Vec<Version>,
    at_once: usize,
    /// The crates of the stretch, as indexes.
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Versions {
    pub(super) fn new(from: usize, to: usize, at_once: usize) -> Self {
        Self { nums: String::new(), rows: Vec::new(), at_once, from, to }
    }

    /// Keeps a version of the crate at an index. False where one crate has more than can be kept.
    pub(super) fn push(&mut self, of: usize, num: &str, sha256: Option<[u8; 32]>) -> bool {
        if of < self.from || of >= self.to {
            return true;
        }
        let (Ok(index), Ok(start), Ok(length)) =
            (u32::try_from(of), u32::try_from(self.nums.len()), u16::try_from(num.len()))
        else {
            return false;
        };
        self.nums.push_str(num);
        self.rows.push(Version { of: index, num: (start, length), sha256 });
        self.rows.len() <= self.at_once || self.shorten()
    }

    /// Leaves half of it to the next turn.
    fn shorten(&mut self) -> bool {
        let middle = self.rows.len() / 2;
        let (_, cut, _) = self.rows.select_nth_unstable_by_key(middle, |v| v.of);
        // The first crate stays whole, or there would be no end.
        self.to = (cut.of as usize).max(self.from + 1);
        let to = self.to;
        self.rows.retain(|v| (v.of as usize) < to);
        let mut nums = String::with_capacity(self.nums.len() / 2);
        for row in &mut self.rows {
            let start = u32::try_from(nums.len()).unwrap_or(u32::MAX);
            nums.push_str(slice(&self.nums, row.num));
            row.num.0 = start;
        }
        self.nums = nums;
        self.rows.len() <= self.at_once
    }

    /// Puts them in order: by crate, and by number.
    pub(super) fn sort(&mut self) {
        let nums = &self.nums;
        self.rows
            .sort_by(|a, b| a.of.cmp(&b.of).then_with(|| loosely(slice(nums, a.num), slice(nums, b.num))));
    }

    /// Those of one crate, number and checksum, after they were sorted.
    pub(super) fn of(&self, index: usize) -> impl Iterator<Item = (&str, Option<&[u8; 32]>)> {
        let key = |v: &Version| v.of as usize;
        let start = self.rows.partition_point(|v| key(v) < index);
        let rows = self.rows.get(start..).unwrap_or_default();
        rows.iter()
            .take_while(move |v| key(v) == index)
            .map(|v| (slice(&self.nums, v.num), v.sha256.as_ref()))
    }
}

/// Compares numbers of versions piece by piece: runs of digits as numbers, and before texts; dots
/// only separate; a number comes before one that goes on. Every two texts have an order.
fn loosely(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (pieces(a), pieces(b));
    loop {
        return match (left.next(), right.next()) {
            (None, None) => a.cmp(b),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(x), Some(y)) if x == y => continue,
            (Some(x), Some(y)) => x.cmp(&y),
        };
    }
}

/// A piece of a number: its length counts first, as there are no leading zeros.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    Number(usize, &'a str),
    Text(&'a str),
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('.');
        let digit = rest.chars().next()?.is_ascii_digit();
        let end = rest.find(|c: char| c == '.' || c.is_ascii_digit() != digit).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(if digit {
            let number = piece.trim_start_matches('0');
            Piece::Number(number.len(), number)
        } else {
            Piece::Text(piece)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_versions_have_an_order() {
        let sorted = [
            "0.1.1",
            "0.1.2",
            "0.1.3-experimental",
            "0.1.10",
            "0.9.0",
            "0.10.0",
            "1.0.0",
            "1.0.0+build.5",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-beta",
            "1.0.0-rc2",
            "1.0.0-rc10",
            "2.0.0",
            "99999999999999999999999.0.0",
            "100000000000000000000000.0.0",
            "",
            "x",
        ];
        // Nothing comes before something; a text after every number.
        let mut shuffled: Vec<&str> = sorted.iter().rev().copied().collect();
        shuffled.sort_by(|a, b| loosely(a, b));
        let mut expected = vec![""];
        expected.extend(sorted.iter().filter(|n| !n.is_empty()));
        assert_eq!(shuffled, expected);
        assert_eq!(loosely("1.0", "1.00"), "1.0".cmp("1.00"));
    }

    #[test]
    fn a_stretch_gets_shorter_when_there_is_too_much_of_it() {
        let mut kept = Versions::new(0, 9, 4);
        for of in [8, 1, 5, 0, 5, 7, 2, 0] {
            assert!(kept.push(of, &format!("{of}.0"), None));
        }
        kept.sort();
        assert!(kept.to < 9 && kept.rows.len() <= 4, "{kept:?}");
        for of in kept.from..kept.to {
            let expected = [2, 1, 1, 0, 0, 2][of];
            assert_eq!(kept.of(of).filter(|(num, _)| *num == format!("{of}.0")).count(), expected, "{of}");
            assert_eq!(kept.of(of).count(), expected);
        }
        let mut one = Versions::new(3, 9, 2);
        assert!(one.push(3, "1", None) && one.push(3, "2", None));
        assert!(!one.push(3, "3", None));
    }
}
