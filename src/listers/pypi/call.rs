//! XML-RPC: two calls, and what they answer.

use http::Method;
use url::Url;

use crate::lister::ListerError;
use crate::lister::xml::{Step, Xml};
use crate::transport::{BodyReader, Request, Response};

const WHAT: &str = "the XML-RPC answer";

/// More than any answer has: they are all in memory.
const MOST_VALUES: usize = 1_000_000;

/// What happened to a project.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    version: Option<String>,
    /// In seconds.
    pub(super) at: i64,
    action: String,
    pub(super) serial: i64,
}

impl Event {
    pub(super) fn removes_project(&self) -> bool {
        // The second is of before 2018, when it also was the removal of a release.
        self.action == "remove project" || (self.action == "remove" && self.version.is_none())
    }

    /// Whether something that is visited changed, and not who may change it.
    pub(super) fn changes_project(&self) -> bool {
        let mut words = self.action.split(' ');
        let about = words.nth(1).unwrap_or_default();
        !matches!(about, "Owner" | "Maintainer" | "owner" | "maintainer")
            && !matches!(self.action.as_str(), "docupdate" | "docdestroy")
    }
}

/// A value of the kinds that are used.
#[derive(Debug, PartialEq)]
enum Value {
    Nil,
    Number(i64),
    Text(String),
    List(Vec<Value>),
    /// A structure's members, or what nobody here needs.
    Struct(Vec<(String, Value)>),
}

pub(super) fn request(endpoint: &Url, method: &str, numbers: &[i64]) -> Request {
    let param = |n: &i64| format!("<param>\n<value><int>{n}</int></value>\n</param>\n");
    let params: Vec<String> = numbers.iter().map(param).collect();
    let params = params.concat();
    let call = format!(
        "<?xml version='1.0'?>\n<methodCall>\n<methodName>{method}</methodName>\n<params>\n{params}</params>\n</methodCall>\n"
    );
    let mut request = Request::get(endpoint.clone())
        .configured()
        .with_header("content-type", "text/xml")
        .with_header("accept", "text/xml");
    request.method = Method::POST;
    request.body = Some(call.into());
    request
}

/// The answer to `changelog_last_serial`.
pub(super) fn serial(response: &Response) -> Result<i64, ListerError> {
    match answer(response)? {
        Value::Number(serial) => Ok(serial),
        other => Err(ListerError::parse(format!("{WHAT} is no serial: {}", shown(&other)))),
    }
}

/// The answer to `changelog_since_serial`.
pub(super) fn events(response: &Response) -> Result<Vec<Event>, ListerError> {
    let Value::List(rows) = answer(response)? else {
        return Err(ListerError::parse(format!("{WHAT} is no list of events")));
    };
    rows.into_iter().enumerate().map(|(n, row)| event(row).map_err(|row| odd(n, &row))).collect()
}

fn odd(n: usize, row: &Value) -> ListerError {
    ListerError::parse(format!(
        "{WHAT}, event {n}: not name, version, time, action and serial: {}",
        shown(row)
    ))
}

fn event(row: Value) -> Result<Event, Value> {
    let Value::List(fields) = row else { return Err(row) };
    match <[Value; 5]>::try_from(fields) {
        Ok([Value::Text(name), version, Value::Number(at), Value::Text(action), Value::Number(serial)])
            if matches!(version, Value::Nil | Value::Text(_)) =>
        {
            let version = if let Value::Text(version) = version { Some(version) } else { None };
            Ok(Event { name, version, at, action, serial })
        }
        Ok(fields) => Err(Value::List(fields.into())),
        Err(fields) => Err(Value::List(fields)),
    }
}

fn shown(value: &Value) -> String {
    format!("{value:?}").chars().take(120).collect()
}

/// The one value of an answer; its fault is an error.
fn answer(response: &Response) -> Result<Value, ListerError> {
    let mut reader = Reader { xml: Xml::new(WHAT, response.body.reader(), "methodResponse"), values: 0 };
    let mut found = None;
    let mut fault = false;
    while let Some(step) = reader.xml.step()? {
        match step {
            Step::Open(name) if name == "fault" => fault = true,
            Step::Open(name) if name == "value" && found.is_none() => found = Some(reader.value()?),
            _ => {}
        }
    }
    match found {
        Some(Value::Struct(members)) if fault => {
            let text = |name: &str| match members.iter().find(|(n, _)| n == name).map(|(_, v)| v) {
                Some(Value::Text(text)) => text.chars().take(300).collect(),
                Some(Value::Number(n)) => n.to_string(),
                _ => "none".to_owned(),
            };
            Err(ListerError::refused(format!("fault {}: {}", text("faultCode"), text("faultString"))))
        }
        Some(_) if fault => Err(ListerError::refused("a fault without a reason")),
        Some(value) => Ok(value),
        None => Err(ListerError::parse(format!("{WHAT} has no value"))),
    }
}

struct Reader {
    xml: Xml<BodyReader>,
    values: usize,
}

impl Reader {
    /// The value whose tag was opened just now, to its end.
    fn value(&mut self) -> Result<Value, ListerError> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(self.xml.wrong(format_args!("more than {MOST_VALUES} values")));
        }
        let mut found = None;
        loop {
            match self.next()? {
                Step::Open(kind) => found = Some(self.typed(&kind)?),
                // Without a type it is a text.
                Step::Close(_, text) => return Ok(found.unwrap_or(Value::Text(text))),
            }
        }
    }

    /// The value of a type whose tag was opened just now, to its end.
    fn typed(&mut self, kind: &str) -> Result<Value, ListerError> {
        let mut list = Vec::new();
        let mut members = Vec::new();
        let mut name = String::new();
        loop {
            match self.next()? {
                Step::Open(tag) if tag == "value" => {
                    let value = self.value()?;
                    if kind == "struct" {
                        members.push((std::mem::take(&mut name), value));
                    } else {
                        list.push(value);
                    }
                }
                Step::Close(tag, text) if tag == "name" => name = text,
                Step::Close(tag, text) if tag == kind => {
                    return Ok(match kind {
                        "array" => Value::List(list),
                        "struct" => Value::Struct(members),
                        "nil" => Value::Nil,
                        "int" | "i4" | "i8" => {
                            let number = text.trim().parse();
                            Value::Number(number.map_err(|_| self.xml.wrong("that is no whole number"))?)
                        }
                        _ => Value::Text(text),
                    });
                }
                Step::Open(_) | Step::Close(..) => {}
            }
        }
    }

    fn next(&mut self) -> Result<Step, ListerError> {
        self.xml.step()?.ok_or_else(|| self.xml.wrong("it ends too early"))
    }
}
