//! What the change log answers, in XML-RPC: a number, or a list of rows.

use std::io::Read;

use crate::lister::ListerError;
use crate::lister::xml::{Step, Xml};

/// More than any answer has: they are given 50,000 rows at a time.
const MOST_VALUES: usize = 1_000_000;

/// Of a row: its name, version, date, action, serial, and what a later version may add.
const MOST_FIELDS: usize = 16;

/// A call of a method, with numbers.
pub(super) fn call(method: &str, parameters: &[i64]) -> String {
    let parameters: Vec<String> =
        parameters.iter().map(|n| format!("<param><value><int>{n}</int></value></param>")).collect();
    format!(
        "<?xml version='1.0'?>\n<methodCall><methodName>{method}</methodName><params>{}</params></methodCall>\n",
        parameters.concat()
    )
}

/// A change of a project.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) name: String,
    /// The release that changed, where it is not the project itself.
    pub(super) version: Option<String>,
    /// In seconds.
    pub(super) date: i64,
    pub(super) action: String,
    pub(super) serial: i64,
}

/// Reads an answer that is one number.
pub(super) fn number(from: impl Read) -> Result<i64, ListerError> {
    let mut found = None;
    let mut xml = answer(from);
    read(
        &mut xml,
        |xml, depth, value| {
            if depth > 0 || found.is_some() {
                return Err(xml.wrong("it is no single number"));
            }
            let number = value.as_deref().and_then(|text| text.trim().parse().ok());
            found = Some(number.ok_or_else(|| xml.wrong("it is no number"))?);
            Ok(())
        },
        |_| Ok(()),
    )?;
    found.ok_or_else(|| xml.wrong("there is no value"))
}

/// Reads an answer that is a list of changes; each goes to `each`.
pub(super) fn changes(
    from: impl Read,
    mut each: impl FnMut(Change) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let row = std::cell::RefCell::new(Vec::new());
    let mut lists = 0_usize;
    let mut xml = answer(from);
    read(
        &mut xml,
        |xml, depth, value| {
            let mut row = row.borrow_mut();
            if depth != 2 || row.len() >= MOST_FIELDS {
                return Err(xml.wrong("a value that is in no row, or in one that is too long"));
            }
            row.push(value);
            Ok(())
        },
        |(xml, depth)| {
            if depth != 2 {
                lists += 1;
                return Ok(());
            }
            let row = std::mem::take(&mut *row.borrow_mut());
            let mut fields = row.into_iter();
            let mut next = || fields.next().flatten();
            let (name, version, date, action, serial) = (next(), next(), next(), next(), next());
            let number = |text: Option<String>| text.and_then(|text| text.trim().parse().ok());
            match (name, number(date), action, number(serial)) {
                (Some(name), Some(date), Some(action), Some(serial)) => {
                    each(Change { name, version, date, action, serial })
                }
                _ => Err(xml.wrong("a row that is not [name, version, date, action, serial]")),
            }
        },
    )?;
    if lists == 1 { Ok(()) } else { Err(xml.wrong("it is no single list")) }
}

fn answer<R: Read>(from: R) -> Xml<R> {
    Xml::new("the change log", from, "methodResponse")
}

/// Hands over each value that is no list, with how many lists it is in, and the end of each list.
fn read<R: Read>(
    xml: &mut Xml<R>,
    mut value: impl FnMut(&Xml<R>, usize, Option<String>) -> Result<(), ListerError>,
    mut list: impl FnMut((&Xml<R>, usize)) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let (mut depth, mut values, mut fault) = (0_usize, 0_usize, None::<Vec<String>>);
    // Whether the value that is open has said its type already. Without one it is a text.
    let mut typed = true;
    while let Some(step) = xml.step()? {
        let scalar = match step {
            Step::Open(name) => {
                match name.as_str() {
                    "fault" => fault = Some(Vec::new()),
                    "value" => typed = false,
                    "array" => {
                        depth += 1;
                        typed = true;
                    }
                    _ => {}
                }
                continue;
            }
            Step::Close(name, text) => match name.as_str() {
                "array" => {
                    if fault.is_none() {
                        list((xml, depth))?;
                    }
                    depth = depth.saturating_sub(1);
                    typed = true;
                    continue;
                }
                "value" if !typed => Some(text),
                "string" | "int" | "i4" | "i8" | "double" | "boolean" | "dateTime.iso8601" => Some(text),
                "nil" => None,
                "struct" => {
                    typed = true;
                    continue;
                }
                _ => continue,
            },
        };
        typed = true;
        values += 1;
        if values > MOST_VALUES {
            return Err(xml.wrong("more than a million values"));
        }
        match &mut fault {
            Some(said) => said.extend(scalar.filter(|_| values <= MOST_FIELDS)),
            None => value(xml, depth, scalar)?,
        }
    }
    match fault {
        Some(said) => {
            let said: String = said.join(" ").chars().take(200).collect();
            Err(ListerError::refused(format!("the change log: {said}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lister::ListerErrorKind;

    fn of(value: &str) -> String {
        format!(
            "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{value}\n</param>\n</params>\n</methodResponse>\n"
        )
    }

    fn list(rows: &str) -> String {
        of(&format!("<value><array><data>\n{rows}\n</data></array></value>"))
    }

    fn row(fields: &str) -> String {
        format!("<value><array><data>{fields}</data></array></value>")
    }

    fn all(body: &str) -> Result<Vec<Change>, ListerError> {
        let mut all = Vec::new();
        changes(body.as_bytes(), |change| {
            all.push(change);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn rows_and_numbers_are_read_however_their_types_are_written() {
        assert_eq!(number(of("<value><int>42</int></value>").as_bytes()).unwrap(), 42);
        assert_eq!(number(of("<value><i8> -7 </i8></value>").as_bytes()).unwrap(), -7);
        let fields = "<value><string>a&amp;b</string></value>\n<value><nil/></value><value><int>5</int></value>\
                      <value>create</value> <value><i4>9</i4></value>";
        let other = "<value><string></string></value><value>1.0</value><value><int>6</int></value>\
                     <value/><value><int>10</int></value><value><int>0</int></value>";
        let said = all(&list(&(row(fields) + "\n" + &row(other)))).unwrap();
        let change = |name: &str, version: Option<&str>, date, action: &str, serial| Change {
            name: name.to_owned(),
            version: version.map(str::to_owned),
            date,
            action: action.to_owned(),
            serial,
        };
        assert_eq!(said, [change("a&b", None, 5, "create", 9), change("", Some("1.0"), 6, "", 10)]);
        assert_eq!(all(&list("")).unwrap(), []);
    }

    #[test]
    fn a_fault_is_a_refusal_in_its_words() {
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>-32500</int></value></member>\
                     <member><name>faultString</name><value><string>HTTPTooManyRequests: wait</string></value></member></struct></value></fault></methodResponse>";
        for error in [all(fault).unwrap_err(), number(fault.as_bytes()).unwrap_err()] {
            assert_eq!(error.kind(), ListerErrorKind::Refused);
            assert!(error.to_string().contains("-32500 HTTPTooManyRequests: wait"), "{error}");
        }
    }

    #[test]
    fn other_answers_are_errors_with_their_place() {
        let many = list(&row("<value><int>1</int></value>").repeat(10));
        for (body, words) in [
            (of("<value><int>x</int></value>"), "a value that is in no row"),
            (list("<value><int>1</int></value>"), "a value that is in no row"),
            (list(&row("<value>a</value>")), "a row that is not [name"),
            (many, "a row that is not [name"),
            (list(&row(&"<value>a</value>".repeat(17))), "too long"),
            (of(""), "no single list"),
            ("<html>down</html>".to_owned(), "<html> where only"),
            (list("")[..56].to_owned(), "ends too early"),
        ] {
            let error = all(&body).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        for body in [
            of("<value>soon</value>"),
            of(""),
            list(""),
            of("<value><int>1</int></value><value><int>1</int></value>"),
        ] {
            assert!(number(body.as_bytes()).is_err(), "{body}");
        }
    }
}
