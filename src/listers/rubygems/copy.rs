//! The text that PostgreSQL dumps a database as: the rows of its tables, one a line.

use std::borrow::Cow;
use std::io::{BufRead, Read};
use std::ops::Range;

use crate::lister::compress::unpacking;
use crate::lister::{ListerError, utc_date};
use crate::model::Timestamp;

/// The longest line: descriptions and certificates are in rows.
const LONGEST_LINE: u64 = 32 << 20;

/// A table that is read: its name, and the columns of it that are.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) columns: &'static [&'static str],
}

/// A row of a table.
pub(super) struct Row<'a> {
    what: &'a str,
    number: u64,
    table: &'a Wanted,
    line: &'a [u8],
    fields: &'a [Range<usize>],
    at: &'a [usize],
}

impl Row<'_> {
    /// An error at this row.
    pub(super) fn wrong(&self, problem: impl std::fmt::Display) -> ListerError {
        wrong(self.what, self.number, format_args!("{}: {problem}", self.table.name))
    }

    /// The text in a column; `None` where it is null.
    pub(super) fn text(&self, column: usize) -> Result<Option<Cow<'_, str>>, ListerError> {
        let field = self.at.get(column).and_then(|at| self.fields.get(*at)).cloned();
        let bytes = field.and_then(|field| self.line.get(field)).unwrap_or_default();
        if bytes == b"\\N" {
            return Ok(None);
        }
        let named = |e: &dyn std::fmt::Display| self.wrong(format_args!("{}: {e}", self.name(column)));
        if !bytes.contains(&b'\\') {
            return std::str::from_utf8(bytes).map(|text| Some(Cow::Borrowed(text))).map_err(|e| named(&e));
        }
        String::from_utf8(plain(bytes)).map(|text| Some(Cow::Owned(text))).map_err(|e| named(&e))
    }

    /// The number in a column.
    pub(super) fn number(&self, column: usize) -> Result<Option<u64>, ListerError> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        let wrong = |_| self.wrong(format_args!("{}: {text:?} is no number", self.name(column)));
        text.parse().map(Some).map_err(wrong)
    }

    /// The date in a column, UTC where it says no offset.
    pub(super) fn date(&self, column: usize) -> Result<Option<Timestamp>, ListerError> {
        let Some(text) = self.text(column)? else { return Ok(None) };
        let wrong = || self.wrong(format_args!("{}: {text:?} is no date", self.name(column)));
        utc_date(&text).map(Some).ok_or_else(wrong)
    }

    fn name(&self, column: usize) -> &str {
        self.table.columns.get(column).copied().unwrap_or_default()
    }
}

fn wrong(what: &str, line: u64, problem: impl std::fmt::Display) -> ListerError {
    ListerError::parse(format!("{what}, line {line}: {problem}"))
}

/// What a dump tells of the tables that are wanted, by their place among those.
pub(super) enum Told<'a> {
    Row(&'a Row<'a>),
    /// The table was read to its end.
    End,
}

/// Reads a dump to its end; each row of the wanted tables goes to `each`.
pub(super) fn each_told(
    what: &str,
    mut from: impl BufRead,
    wanted: &[Wanted],
    mut each: impl FnMut(usize, &Told<'_>) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let (mut line, mut number) = (Vec::new(), 0_u64);
    // The table that is being read: which one, how many columns it has, where the wanted ones are.
    let mut table: Option<(Option<usize>, usize, Vec<usize>)> = None;
    let mut fields = Vec::new();
    loop {
        line.clear();
        number += 1;
        let read = from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|e| unpacking(what, e))? as u64;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if read == LONGEST_LINE {
            return Err(wrong(what, number, "a line of more than 32 MiB"));
        }
        match &table {
            None if read == 0 => return Ok(()),
            None => table = header(what, number, &line, wanted)?,
            Some(_) if read == 0 => return Err(wrong(what, number, "it ends within a table")),
            Some((which, ..)) if line == b"\\." => {
                if let Some(which) = *which {
                    each(which, &Told::End)?;
                }
                table = None;
            }
            Some((None, ..)) => {}
            Some((Some(which), columns, at)) => {
                let mut start = 0;
                fields.clear();
                for field in line.split(|b| *b == b'\t') {
                    fields.push(start..start + field.len());
                    start += field.len() + 1;
                }
                let Some(table) = wanted.get(*which) else { continue };
                let row = Row { what, number, table, line: &line, fields: &fields, at };
                if fields.len() != *columns {
                    return Err(row.wrong(format_args!("{} fields for {columns} columns", fields.len())));
                }
                each(*which, &Told::Row(&row))?;
            }
        }
    }
}

/// `COPY public.name (column, "column", …) FROM stdin;`, where a line is that.
#[allow(clippy::type_complexity, reason = "it is what the loop keeps")]
fn header(
    what: &str,
    number: u64,
    line: &[u8],
    wanted: &[Wanted],
) -> Result<Option<(Option<usize>, usize, Vec<usize>)>, ListerError> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let copied = text.strip_prefix("COPY ").and_then(|t| t.trim_end().strip_suffix(") FROM stdin;"));
    let Some((name, columns)) = copied.and_then(|t| t.split_once(" (")) else { return Ok(None) };
    let name = name.strip_prefix("public.").unwrap_or(name);
    let columns: Vec<&str> = columns.split(", ").map(|c| c.trim_matches('"')).collect();
    let Some(which) = wanted.iter().position(|w| w.name == name) else {
        return Ok(Some((None, columns.len(), Vec::new())));
    };
    let find = |column: &&str| {
        let missing = || wrong(what, number, format_args!("{name} has no column {column:?}"));
        columns.iter().position(|c| c == column).ok_or_else(missing)
    };
    let at = wanted.get(which).map(|w| w.columns).unwrap_or_default().iter().map(find);
    let at: Vec<usize> = at.collect::<Result<_, _>>()?;
    Ok(Some((Some(which), columns.len(), at)))
}

/// A field without its escapes.
fn plain(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(escaped) = rest.next() else { break };
        let mut digits = |first: u32, radix: u32, most: usize| {
            let mut value = first;
            for _ in 0..most {
                let Some(digit) = rest.peek().and_then(|b| char::from(*b).to_digit(radix)) else { break };
                value = value * radix + digit;
                rest.next();
            }
            u8::try_from(value & 0xff).unwrap_or_default()
        };
        out.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => digits(u32::from(escaped - b'0'), 8, 2),
            b'x' => digits(0, 16, 2),
            other => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &[Wanted] = &[Wanted { name: "gems", columns: &["name", "id"] }];

    fn read(text: &str) -> Result<Vec<String>, ListerError> {
        let mut said = Vec::new();
        each_told("the dump", text.as_bytes(), WANTED, |which, told| {
            assert_eq!(which, 0);
            said.push(match told {
                Told::Row(row) => format!("{:?} {:?}", row.text(0)?.as_deref(), row.number(1)?),
                Told::End => "end".to_owned(),
            });
            Ok(())
        })?;
        Ok(said)
    }

    #[test]
    fn rows_of_wanted_tables_come_by_their_columns() {
        let text = "SET x;\nCOPY public.other (id, name) FROM stdin;\nCOPY public.gems (id, name) FROM stdin;\n\\.\n\
                    COPY public.gems (id, created_at, \"name\") FROM stdin;\n1\t\\N\ta\\tb\\\\\\x41\\101\\n\n\\N\tx\t\\N\n\\.\n\
                    COPY gems (name, id) FROM stdin;\nz\t2\n\\.\n--\n";
        let said = read(text).unwrap();
        assert_eq!(
            said,
            ["Some(\"a\\tb\\\\AA\\n\") Some(1)", "None None", "end", "Some(\"z\") Some(2)", "end"]
        );
        assert_eq!(read("").unwrap(), [""; 0]);
    }

    #[test]
    fn a_broken_table_is_an_error_with_its_line() {
        for (text, words) in [
            ("COPY public.gems (id, name) FROM stdin;\n1\ta\n", "line 3: it ends within a table"),
            ("COPY public.gems (id, name) FROM stdin;\n1\n\\.\n", "line 2: gems: 1 fields for 2 columns"),
            ("COPY public.gems (id, name) FROM stdin;\nx\ta\n\\.\n", "line 2: gems: id: \"x\" is no number"),
            ("\nCOPY public.gems (id) FROM stdin;\n", "line 2: gems has no column \"name\""),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let bytes = b"COPY public.gems (id, name) FROM stdin;\n1\t\xff\n\\.\n";
        let error = each_told("the dump", &bytes[..], WANTED, |_, told| match told {
            Told::Row(row) => row.text(0).map(|_| ()),
            Told::End => Ok(()),
        });
        assert!(error.unwrap_err().to_string().contains("line 2: gems: name: invalid utf-8"));
    }
}
