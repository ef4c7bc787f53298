//! What goes to standard output and standard error.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Stdout, Write};
use std::time::Duration;

use serde::Serialize;

use crate::failure::{Result, one_line};

/// Standard output, buffered. Every write can fail: a closed pipe ends the command quietly.
pub(crate) struct Output {
    out: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { out: BufWriter::new(io::stdout()) }
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<()> {
        self.out.write_all(text.as_ref().as_bytes())?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// A JSON value on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// A table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<()> {
        self.out.write_all(table.to_string().as_bytes())?;
        Ok(())
    }

    /// Makes sure that it is written.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.out.flush()?;
        Ok(())
    }
}

/// A line on standard error. Nothing depends on anyone reading it.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Rows with aligned columns. A column whose cells are all numbers is aligned to the right.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new(), indent: 0 }
    }

    pub(crate) fn indented(mut self, by: usize) -> Self {
        self.indent = by;
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // A line break from outside must not look like a row.
        self.rows.push(cells.into_iter().map(|c| one_line(&c)).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let columns: Vec<(usize, bool)> = self
            .head
            .iter()
            .enumerate()
            .map(|(i, head)| {
                let widest = self.rows.iter().map(|r| cell(r, i).chars().count()).max().unwrap_or(0);
                let number = |c: String| c.is_empty() || c.bytes().all(|b| b.is_ascii_digit());
                let numbers = !self.rows.is_empty() && self.rows.iter().all(|r| number(cell(r, i)));
                (widest.max(head.chars().count()), numbers)
            })
            .collect();
        let heads: Vec<String> = self.head.iter().map(|h| (*h).to_owned()).collect();
        let head = heads.iter().any(|h| !h.is_empty()).then_some(&heads);
        for row in head.into_iter().chain(&self.rows) {
            let mut line = " ".repeat(self.indent);
            for (i, (width, right)) in columns.iter().enumerate() {
                let text = cell(row, i);
                if *right {
                    write!(line, "{text:>width$}  ")?;
                } else {
                    write!(line, "{text:<width$}  ")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A count and its noun: "1 page", "2 pages".
pub(crate) fn count(n: u64, noun: &str) -> String {
    let many = match noun.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{noun}s"),
    };
    format!("{n} {}", if n == 1 { noun.to_owned() } else { many })
}

/// A duration for people: 0.3 s, 12 s, 4 min, 3 h, 2 d.
pub(crate) fn for_people(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0..=9 => format!("{seconds:.1} s"),
        10..=119 => format!("{seconds:.0} s"),
        120..=7199 => format!("{:.0} min", seconds / 60.0),
        7200..=172_799 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_are_to_the_right() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["ü".to_owned(), "7".to_owned()]);
        table.row(["longer".to_owned(), "12".to_owned()]);
        assert_eq!(table.to_string(), "NAME     N\nü        7\nlonger  12\n");
    }

    #[test]
    fn what_comes_from_outside_stays_on_its_line() {
        let mut table = Table::new(&["URL"]);
        table.row(["a\nb\u{1b}[2J".to_owned()]);
        assert_eq!(table.to_string(), "URL\na b [2J\n");
    }

    #[test]
    fn counts_have_their_noun() {
        assert_eq!(count(1, "entry"), "1 entry");
        assert_eq!(count(0, "entry"), "0 entries");
        assert_eq!(count(2, "page"), "2 pages");
    }
}
