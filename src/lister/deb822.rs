//! Control files of Debian archives (deb822), read paragraph by paragraph: never the whole file.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

/// The longest line: some thousand binary packages of one source are a tenth of it.
const LONGEST_LINE: u64 = 4 << 20;

/// The most that the wanted fields of one paragraph may hold.
const LARGEST_PARAGRAPH: usize = 8 << 20;

/// The wanted fields of one paragraph: names in lower case, the lines of a value joined by `\n`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Paragraph {
    /// The line that it begins on, from 1.
    pub(crate) line: u64,
    fields: BTreeMap<String, String>,
}

impl Paragraph {
    /// A field's value without white space around it, where there is one.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|v| v.trim()).filter(|v| !v.is_empty())
    }

    /// The lines of a field that is a list.
    pub(crate) fn lines(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).into_iter().flat_map(str::lines).map(str::trim).filter(|l| !l.is_empty())
    }
}

/// Why there is no next paragraph.
#[derive(Debug)]
pub(crate) enum Deb822Error {
    /// What was read is no control file; says the line.
    Format(String),
    /// The reader's own.
    Io(io::Error),
}

/// Reads paragraphs one after another.
pub(crate) struct Paragraphs<R> {
    reader: R,
    wanted: &'static [&'static str],
    line: u64,
}

impl<R: BufRead> Paragraphs<R> {
    /// Reads a file; of its fields those named (in lower case) are kept.
    pub(crate) fn new(reader: R, wanted: &'static [&'static str]) -> Self {
        Self { reader, wanted, line: 0 }
    }

    /// The next paragraph; `None` at the file's end.
    ///
    /// # Errors
    /// [`Deb822Error`] naming the line that is neither a field nor goes on with one, is cut, or is
    /// longer than any real one.
    pub(crate) fn next(&mut self) -> Result<Option<Paragraph>, Deb822Error> {
        let mut paragraph = Paragraph::default();
        // The field that a line may go on with, and whether it is wanted.
        let mut field: Option<Option<String>> = None;
        let mut held = 0;
        while let Some(line) = self.read_line()? {
            if line.trim().is_empty() {
                if field.is_some() {
                    return Ok(Some(paragraph));
                }
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            let (name, text) = if line.starts_with([' ', '\t']) {
                match &field {
                    Some(name) => (name.clone(), line.trim()),
                    None => return Err(self.wrong("goes on with a field, and there is none", &line)),
                }
            } else {
                let (name, value) = line
                    .split_once(':')
                    .filter(|(name, _)| is_name(name))
                    .ok_or_else(|| self.wrong("is no field", &line))?;
                let name = name.to_ascii_lowercase();
                let name = self.wanted.contains(&name.as_str()).then_some(name);
                if field.is_none() {
                    paragraph.line = self.line;
                }
                field = Some(name.clone());
                if let Some(name) = &name {
                    paragraph.fields.insert(name.clone(), String::new());
                }
                (name, value.trim())
            };
            let Some(name) = name else { continue };
            held += text.len() + 1;
            if held > LARGEST_PARAGRAPH {
                return Err(self.wrong("makes the paragraph larger than any real one", &line));
            }
            let value = paragraph.fields.entry(name).or_default();
            if !value.is_empty() {
                value.push('\n');
            }
            value.push_str(text);
        }
        Ok(field.map(|_| paragraph))
    }

    fn read_line(&mut self) -> Result<Option<String>, Deb822Error> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes);
        if read.map_err(Deb822Error::Io)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        let text = String::from_utf8_lossy(&bytes);
        match text.strip_suffix('\n') {
            Some(line) => Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned())),
            None if bytes.len() as u64 == LONGEST_LINE => {
                Err(self.wrong("is longer than any real one", &text))
            }
            None => Err(self.wrong("is cut: it is the last one, and has no end", &text)),
        }
    }

    fn wrong(&self, what: &str, line: &str) -> Deb822Error {
        let head: String = line.chars().take(60).collect();
        Deb822Error::Format(format!("line {} {what}: {head:?}", self.line))
    }
}

/// Whether a field may have this name: printable, and no space in it.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<Paragraph>, String> {
        let mut paragraphs = Paragraphs::new(text, &["package", "files"]);
        let mut all = Vec::new();
        loop {
            match paragraphs.next() {
                Ok(Some(p)) => all.push(p),
                Ok(None) => return Ok(all),
                Err(Deb822Error::Format(e)) => return Err(e),
                Err(Deb822Error::Io(e)) => return Err(e.to_string()),
            }
        }
    }

    #[test]
    fn wanted_fields_come_out_paragraph_by_paragraph() {
        let text = "\n# a comment\nPackage: a\nBinary: x,\n y\nFiles:\n 1 2 a.dsc\n\t3 4  a.tar \n\n \nPACKAGE:b\r\nFiles: \n";
        let all = read(text.as_bytes()).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].line, all[0].get("package")), (3, Some("a")));
        assert_eq!(all[0].lines("files").collect::<Vec<_>>(), ["1 2 a.dsc", "3 4  a.tar"]);
        assert_eq!((all[0].get("binary"), all[0].lines("binary").count()), (None, 0));
        assert_eq!((all[1].line, all[1].get("package"), all[1].get("files")), (11, Some("b"), None));
        assert_eq!(read(b"").unwrap(), []);
        assert_eq!(read(b"\n\n").unwrap(), []);
    }

    #[test]
    fn what_is_no_control_file_names_its_line() {
        let error = |text: &str| read(text.as_bytes()).unwrap_err();
        assert_eq!(error("Package: a\nnothing\n"), "line 2 is no field: \"nothing\"");
        assert!(error("<!DOCTYPE html \"http://x\">\n").starts_with("line 1 is no field"));
        assert!(error("Package: a\n\n on\n").starts_with("line 3 goes on with a field"));
        assert!(error("Package: a\nFiles: 1 2").starts_with("line 2 is cut"));
        assert!(error(": x\n").starts_with("line 1 is no field"));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let all = read(b"Package: \xff\xfe\n").unwrap();
        assert_eq!(all[0].get("package"), Some("\u{fffd}\u{fffd}"));
    }

    #[test]
    fn lines_and_paragraphs_have_a_limit() {
        let long = format!("Binary: {}\n", "x".repeat(4 << 20));
        assert!(read(long.as_bytes()).unwrap_err().contains("line 1 is longer than any real one"));
        let fits = format!("Binary: {}\nPackage: a\n", "x".repeat((4 << 20) - 20));
        assert_eq!(read(fits.as_bytes()).unwrap().len(), 1);
        let many = format!("Files:\n{}", format!(" {}\n", "x".repeat(1 << 20)).repeat(8));
        assert!(read(many.as_bytes()).unwrap_err().contains("line 9 makes the paragraph larger"));
        // What is not wanted takes no room.
        assert_eq!(read(many.replace("Files", "Binary").as_bytes()).unwrap().len(), 1);
    }
}
