//! XML read as a stream of elements and their texts. Entities other than the five of XML itself are
//! refused, so none is ever looked up or put in; nesting and the length of a text are bounded.

use std::cell::Cell;
use std::fmt;
use std::io::{BufReader, Read};
use std::rc::Rc;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::ListerError;
use super::budget::Budgeted;

/// What an element's tag or one stretch of text may come to.
const LONGEST_TEXT: u64 = 4 << 20;

/// How deep elements may be in each other.
const DEEPEST: usize = 64;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An element begins.
    Open(String),
    /// An element ends: its name, and the text that was directly in it.
    Close(String, String),
}

/// Reads a document whose outermost element is known.
pub(crate) struct Xml<R> {
    what: &'static str,
    reader: Reader<BufReader<Budgeted<R>>>,
    budget: Rc<Cell<u64>>,
    buffer: Vec<u8>,
    open: Vec<(String, String)>,
    /// Of the element that began last.
    attributes: Vec<(String, String)>,
    /// An element that is closed where it is opened.
    closing: Option<String>,
    begun: bool,
    root: &'static str,
}

impl<R> fmt::Debug for Xml<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xml").field("what", &self.what).field("open", &self.open).finish_non_exhaustive()
    }
}

impl<R: Read> Xml<R> {
    /// Reads `what` from its beginning; its outermost element has to be `root`.
    pub(crate) fn new(what: &'static str, from: R, root: &'static str) -> Self {
        let budget = Rc::new(Cell::new(LONGEST_TEXT));
        let inner = Budgeted::new(from, &budget, "a tag or text of more than 4 MiB");
        let mut reader = Reader::from_reader(BufReader::new(inner));
        reader.config_mut().check_end_names = true;
        Self {
            what,
            reader,
            budget,
            buffer: Vec::new(),
            open: Vec::new(),
            attributes: Vec::new(),
            closing: None,
            begun: false,
            root,
        }
    }

    /// What comes next; `None` at the end of the document.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Parse`] naming the byte.
    pub(crate) fn step(&mut self) -> Result<Option<Step>, ListerError> {
        if let Some(name) = self.closing.take() {
            return Ok(Some(Step::Close(name, String::new())));
        }
        loop {
            self.budget.set(LONGEST_TEXT);
            self.buffer.clear();
            let at = self.reader.buffer_position();
            let event = self.reader.read_event_into(&mut self.buffer).map_err(|e| {
                ListerError::parse(format!("{}: broken XML after {at} bytes: {e}", self.what)).with_source(e)
            })?;
            let mut text = None;
            match event {
                Event::Start(tag) => {
                    let name = tag.local_name().as_ref().to_owned();
                    let attributes = attributes(&tag);
                    return self.opened(
                        String::from_utf8_lossy(name.as_ref()).into_owned(),
                        attributes,
                        false,
                    );
                }
                Event::Empty(tag) => {
                    let name = tag.local_name().as_ref().to_owned();
                    let attributes = attributes(&tag);
                    return self.opened(
                        String::from_utf8_lossy(name.as_ref()).into_owned(),
                        attributes,
                        true,
                    );
                }
                Event::End(_) => {
                    let Some((name, text)) = self.open.pop() else { continue };
                    return Ok(Some(Step::Close(name, text)));
                }
                Event::Text(t) => text = Some(t.xml10_content().into_owned()),
                Event::CData(t) => text = Some(t.xml10_content().into_owned()),
                Event::GeneralRef(entity) => {
                    let given = entity.resolve_char_ref().ok().flatten();
                    let name = entity.into_inner();
                    let known = match name.as_ref() {
                        "lt" => Some('<'),
                        "gt" => Some('>'),
                        "amp" => Some('&'),
                        "apos" => Some('\''),
                        "quot" => Some('"'),
                        _ => given,
                    };
                    let Some(known) = known else {
                        let name: String = name.chars().take(80).collect();
                        return Err(self.wrong(format_args!("the entity {name:?} is not known")));
                    };
                    text = Some(known.to_string());
                }
                Event::DocType(_) => {
                    return Err(self.wrong("it declares a document type, and perhaps entities"));
                }
                Event::Eof => return self.ended(),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            }
            if let Some(text) = text {
                self.add(&text)?;
            }
        }
    }

    /// An error at the place that was reached.
    pub(crate) fn wrong(&self, problem: impl fmt::Display) -> ListerError {
        let path: Vec<&str> = self.open.iter().map(|(name, _)| name.as_str()).collect();
        let at = self.reader.buffer_position();
        ListerError::parse(format!("{}, in /{} after {at} bytes: {problem}", self.what, path.join("/")))
    }

    /// An attribute of the element that began last.
    #[cfg_attr(not(feature = "compression"), allow(dead_code, reason = "some listers need none"))]
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn opened(
        &mut self,
        name: String,
        attributes: Result<Vec<(String, String)>, quick_xml::Error>,
        empty: bool,
    ) -> Result<Option<Step>, ListerError> {
        self.attributes =
            attributes.map_err(|e| self.wrong(format_args!("an attribute of <{name}>: {e}")))?;
        if self.open.is_empty() && (self.begun || name != self.root) {
            let name: String = name.chars().take(80).collect();
            return Err(self.wrong(format_args!("<{name}> where only <{}> may be", self.root)));
        }
        self.begun = true;
        if self.open.len() >= DEEPEST {
            return Err(self.wrong("it is nested too deeply"));
        }
        if empty {
            self.closing = Some(name.clone());
        } else {
            self.open.push((name.clone(), String::new()));
        }
        Ok(Some(Step::Open(name)))
    }

    fn add(&mut self, text: &str) -> Result<(), ListerError> {
        match self.open.last_mut() {
            Some((_, whole)) if (whole.len() + text.len()) as u64 <= LONGEST_TEXT => {
                whole.push_str(text);
                Ok(())
            }
            Some(_) => Err(self.wrong("a text of more than 4 MiB")),
            None if text.trim_matches(['\u{feff}', ' ', '\n', '\r', '\t']).is_empty() => Ok(()),
            None => {
                let text: String = text.trim().chars().take(80).collect();
                Err(self.wrong(format_args!("no XML: {text:?}")))
            }
        }
    }

    fn ended(&self) -> Result<Option<Step>, ListerError> {
        if self.open.is_empty() && self.begun { Ok(None) } else { Err(self.wrong("it ends too early")) }
    }
}

/// Their names without prefixes; only XML's own entities are known.
fn attributes(tag: &BytesStart<'_>) -> Result<Vec<(String, String)>, quick_xml::Error> {
    tag.attributes()
        .map(|attribute| {
            let attribute = attribute?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0)?;
            let name = attribute.key.local_name();
            Ok((String::from_utf8_lossy(name.as_ref().as_ref()).into_owned(), value.into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Result<Vec<Step>, ListerError> {
        let mut xml = Xml::new("the list", text, "list");
        let mut steps = Vec::new();
        while let Some(step) = xml.step()? {
            steps.push(step);
        }
        Ok(steps)
    }

    fn open(name: &str) -> Step {
        Step::Open(name.to_owned())
    }

    fn close(name: &str, text: &str) -> Step {
        Step::Close(name.to_owned(), text.to_owned())
    }

    #[test]
    fn elements_come_with_their_own_text() {
        let text = "\u{feff}<?xml version='1.0'?>\n<!-- x --><s:list xmlns:s='u'>a<b k='v'>&lt;&#233;&amp;<![CDATA[<&]]></b>c<d/></s:list>\n";
        let steps = all(text.as_bytes()).unwrap();
        assert_eq!(
            steps,
            [open("list"), open("b"), close("b", "<é&<&"), open("d"), close("d", ""), close("list", "ac")]
        );
    }

    #[test]
    fn attributes_are_of_the_element_that_began_last() {
        let mut xml = Xml::new("the list", &b"<list a='1' x:b='&lt;&#233;'><c/></list>"[..], "list");
        xml.step().unwrap();
        assert_eq!(
            (xml.attribute("a"), xml.attribute("b"), xml.attribute("c")),
            (Some("1"), Some("<\u{e9}"), None)
        );
        xml.step().unwrap();
        assert_eq!(xml.attribute("a"), None);
        for text in ["<list a='1' a='2'/>", "<list a/>", "<list a='&b;'/>"] {
            assert!(
                all(text.as_bytes()).unwrap_err().to_string().contains("an attribute of <list>"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_such_document_is_an_error_with_its_place() {
        let deep = format!("<list>{}", "<a>".repeat(100));
        let long = format!("<list>{}</list>", "x".repeat(5 << 20));
        let longer = format!("<list {}>", "x".repeat(5 << 20));
        let pieces = format!("<list>{}</list>", "x&amp;".repeat(3 << 20));
        for (text, words) in [
            ("", "ends too early"),
            ("<list><a>1", "in /list/a"),
            ("<list><a>1</a>", "ends too early"),
            ("<list><a></list></a>", "broken XML after"),
            ("<html>down</html>", "<html> where only <list> may be"),
            ("<list/><list/>", "<list> where only"),
            ("Bad gateway", "no XML: \"Bad gateway\""),
            ("<!DOCTYPE list [<!ENTITY a 'b'>]><list>&a;</list>", "document type"),
            ("<list>&a;</list>", "the entity \"a\" is not known"),
            ("<list>&#xD800;</list>", "is not known"),
            (deep.as_str(), "nested too deeply"),
            (long.as_str(), "more than 4 MiB"),
            (longer.as_str(), "more than 4 MiB"),
            (pieces.as_str(), "more than 4 MiB"),
        ] {
            let error = all(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(all(b"<list>\xff\xfe</list>").is_err());
    }
}
