//! Tables of a dump: rows of CSV by the names of their columns.

use std::cell::Cell;
use std::cmp::Ordering;
use std::io::Read;
use std::rc::Rc;

use csv::ByteRecord;

use crate::lister::ListerError;
use crate::lister::budget::Budgeted;
use crate::model::Timestamp;

/// The longest row that is read: descriptions and readmes are in them.
const LONGEST_ROW: u64 = 32 << 20;

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

/// Compares numbers of versions piece by piece: runs of digits as numbers, and before texts; dots
/// only separate; a number comes before one that goes on. Every two texts have an order.
pub(super) fn loosely(a: &str, b: &str) -> Ordering {
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
}
