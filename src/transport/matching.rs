//! Which recorded exchange answers a request. Pure.

use std::collections::HashMap;

use http::{Method, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::exchange::without_user;
use super::request::place;
use super::{Answered, Auth, Exchange, Request};

/// How well a recorded exchange fits a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fit {
    /// The same method, URL and body.
    Exact,
    /// The same method, host, path and position; size, sorting or selection may differ.
    Similar,
    /// Nothing recorded fits.
    None,
}

impl Fit {
    /// As in JSON: `exact`, `similar`, `none`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Similar => "similar",
            Self::None => "none",
        }
    }
}

/// Exchanges on a shelf, from which each request takes the next answer that fits.
#[derive(Debug)]
pub(crate) struct Shelf {
    items: Vec<Item>,
    by_place: HashMap<Place, Vec<usize>>,
    positions: Vec<String>,
}

#[derive(Debug)]
struct Item {
    exchange: Exchange,
    shape: Shape,
    used: bool,
}

impl Item {
    fn is_not_modified(&self) -> bool {
        matches!(&self.exchange.answered, Answered::Answer(a) if a.status == StatusCode::NOT_MODIFIED)
    }
}

impl Shelf {
    pub(crate) fn new(exchanges: impl IntoIterator<Item = Exchange>) -> Self {
        let mut items = Vec::new();
        let mut by_place: HashMap<Place, Vec<usize>> = HashMap::new();
        for exchange in exchanges {
            let shape = Shape::of(&exchange.url, exchange.request_body.as_deref());
            by_place.entry(Place::of(&exchange.method, &exchange.url)).or_default().push(items.len());
            items.push(Item { exchange, shape, used: false });
        }
        Self { items, by_place, positions: Vec::new() }
    }

    pub(crate) fn set_positions(&mut self, positions: &[&str]) {
        self.positions = positions.iter().map(|&p| p.to_owned()).collect();
    }

    /// How many exchanges were never given.
    pub(crate) fn unused(&self) -> usize {
        self.items.iter().filter(|i| !i.used).count()
    }

    /// The next answer to a request: an exact one before a similar one, each in recorded order, the
    /// last of several again and again.
    pub(crate) fn take(&mut self, asked: &Request) -> Option<(Fit, &Exchange)> {
        let shape = Shape::of(&asked.url, asked.body.as_deref());
        let here = self.by_place.get(&Place::of(&asked.method, &asked.url)).map_or(&[][..], Vec::as_slice);
        let conditional = asked.headers.contains_key(header::IF_NONE_MATCH)
            || asked.headers.contains_key(header::IF_MODIFIED_SINCE);
        let choose = |fits: &dyn Fn(&Shape) -> bool| {
            let fitting: Vec<(usize, &Item)> = here
                .iter()
                .filter_map(|&i| self.items.get(i).map(|item| (i, item)))
                .filter(|(_, item)| fits(&item.shape))
                .collect();
            // A 304 answers a condition: without one it does not fit, with one it is the answer.
            let only_304 = conditional && fitting.iter().any(|(_, item)| item.is_not_modified());
            let mut left = fitting.into_iter().filter(|(_, item)| item.is_not_modified() == only_304);
            let first = left.next()?;
            let mut last = first;
            for next in std::iter::once(first).chain(left) {
                if !next.1.used {
                    return Some(next.0);
                }
                last = next;
            }
            Some(last.0)
        };
        let (fit, index) =
            choose(&|other| shape.is_exactly(other, &asked.auth)).map(|i| (Fit::Exact, i)).or_else(|| {
                choose(&|other| shape.is_similar(other, &self.positions)).map(|i| (Fit::Similar, i))
            })?;
        let item = self.items.get_mut(index)?;
        item.used = true;
        Some((fit, &item.exchange))
    }

    /// The recorded requests that come nearest to one, for an error: method, place and position.
    pub(crate) fn nearest(&self, asked: &Request) -> Vec<String> {
        let mut scored: Vec<(usize, String)> = self
            .items
            .iter()
            .map(|item| (closeness(&item.exchange, asked), self.describe(&item.exchange)))
            .filter(|(score, _)| *score > 0)
            .collect();
        scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        let mut lines: Vec<String> = Vec::new();
        for (_, line) in scored {
            if lines.len() == 3 {
                break;
            }
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }

    /// Only the position is shown of a query: what else is in it may be a secret.
    fn describe(&self, exchange: &Exchange) -> String {
        let position = Shape::of(&exchange.url, exchange.request_body.as_deref()).position(&self.positions);
        let shown: Vec<String> = position.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let query = if shown.is_empty() { String::new() } else { format!(" at {}", shown.join(" ")) };
        format!("{} {}{query}", exchange.method, place(&without_user(&exchange.url)))
    }
}

/// How much of method, host and path is the same; nothing for another host.
fn closeness(recorded: &Exchange, asked: &Request) -> usize {
    if recorded.url.host_str() != asked.url.host_str() {
        return 0;
    }
    let same = recorded.url.path().bytes().zip(asked.url.path().bytes()).take_while(|(a, b)| a == b).count();
    let whole = recorded.url.path() == asked.url.path();
    1 + same + usize::from(whole) * 1000 + usize::from(recorded.method == asked.method)
}

/// Method, host and path: what never differs between a request and its answer.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place {
    method: Method,
    host: String,
    port: Option<u16>,
    path: Vec<Vec<u8>>,
}

impl Place {
    fn of(method: &Method, url: &Url) -> Self {
        Self {
            method: method.clone(),
            host: url.host_str().unwrap_or_default().to_ascii_lowercase(),
            port: url.port(),
            path: url.path().split('/').map(percent_decoded).collect(),
        }
    }
}

type Pairs = Vec<(String, String)>;

/// What is compared of a request besides its place.
#[derive(Debug)]
struct Shape {
    scheme: String,
    query: Pairs,
    body: BodyShape,
}

#[derive(Debug, PartialEq)]
enum BodyShape {
    Empty,
    Form(Pairs),
    Json(Value),
    XmlRpc(Vec<String>),
    Other(Vec<u8>),
}

impl Shape {
    fn of(url: &Url, body: Option<&[u8]>) -> Self {
        Self {
            scheme: url.scheme().to_owned(),
            query: pairs(url.query().unwrap_or_default()),
            body: BodyShape::of(body.unwrap_or_default()),
        }
    }

    /// Whether both are the same request, whatever the secret was in the field that `auth` names.
    fn is_exactly(&self, other: &Self, auth: &Auth) -> bool {
        let (in_query, in_form) = match auth {
            Auth::Query(name) => (Some(*name), None),
            Auth::Form(name) => (None, Some(*name)),
            _ => (None, None),
        };
        let same_body = match (&self.body, &other.body) {
            (BodyShape::Form(a), BodyShape::Form(b)) => same_pairs(a, b, in_form),
            (BodyShape::Form(a), BodyShape::Empty) | (BodyShape::Empty, BodyShape::Form(a)) => {
                same_pairs(a, &Vec::new(), in_form)
            }
            (a, b) => a == b,
        };
        self.scheme == other.scheme && same_pairs(&self.query, &other.query, in_query) && same_body
    }

    /// Whether both are at the same position. Bodies that say it in no field must be the same.
    fn is_similar(&self, other: &Self, positions: &[String]) -> bool {
        let same_body = match (&self.body, &other.body) {
            (a @ (BodyShape::XmlRpc(_) | BodyShape::Other(_)), b)
            | (b, a @ (BodyShape::XmlRpc(_) | BodyShape::Other(_))) => a == b,
            _ => true,
        };
        same_body && self.position(positions) == other.position(positions)
    }

    /// The position parameters in the query, the form or anywhere in the JSON, sorted.
    fn position(&self, positions: &[String]) -> Pairs {
        let is_one = |name: &str| positions.iter().any(|p| p == name);
        let fields = match &self.body {
            BodyShape::Form(fields) => fields.as_slice(),
            _ => &[],
        };
        let mut found: Pairs = self.query.iter().chain(fields).filter(|(k, _)| is_one(k)).cloned().collect();
        if let BodyShape::Json(value) = &self.body {
            scalars(value, &mut |name, text| {
                if is_one(name) {
                    found.push((name.to_owned(), text));
                }
            });
        }
        found.sort();
        found
    }
}

impl BodyShape {
    /// Read off the bytes, as a recording does not keep the type of what was sent.
    fn of(body: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(body) else { return Self::Other(body.to_vec()) };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Self::Empty;
        }
        if let Some(value) =
            trimmed.starts_with(['{', '[']).then(|| serde_json::from_str(trimmed).ok()).flatten()
        {
            return Self::Json(value);
        }
        if let Some(call) = trimmed.starts_with('<').then(|| xml_rpc(trimmed)).flatten() {
            return Self::XmlRpc(call);
        }
        let is_form = trimmed.contains('=') && trimmed.bytes().all(|b| b.is_ascii_graphic() && b != b'<');
        if is_form { Self::Form(pairs(trimmed)) } else { Self::Other(body.to_vec()) }
    }
}

/// Calls `each` with every named scalar of a JSON value, at any depth.
fn scalars(value: &Value, each: &mut impl FnMut(&str, String)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(s) => each(name, s.clone()),
                    Value::Number(_) | Value::Bool(_) => each(name, value.to_string()),
                    other => scalars(other, each),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|v| scalars(v, each)),
        _ => {}
    }
}

fn same_pairs(a: &Pairs, b: &Pairs, but: Option<&str>) -> bool {
    let counts = |(k, _): &&(String, String)| Some(k.as_str()) != but;
    a.iter().filter(counts).eq(b.iter().filter(counts))
}

/// The fields of a query or form, sorted. Some forges part them by `;`.
fn pairs(query: &str) -> Pairs {
    let parts = query.split(['&', ';']).filter(|p| !p.is_empty());
    let mut pairs: Pairs = parts
        .flat_map(|p| url::form_urlencoded::parse(p.as_bytes()))
        .map(|(k, v)| (k.into_owned(), v.into_owned()))
        .collect();
    pairs.sort();
    pairs
}

/// The bytes that a piece of a path stands for: clients differ in what they escape.
fn percent_decoded(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

/// An XML-RPC call as method and parameters: tags and texts in order, without what may be written
/// in several ways (white space, the default type `string`, `i4` for `int`, empty `params`).
fn xml_rpc(text: &str) -> Option<Vec<String>> {
    let mut tokens = Vec::new();
    for piece in text.split('<').skip(1) {
        let (tag, after) = piece.split_once('>')?;
        let (tag, closed) = tag.trim_end().strip_suffix('/').map_or((tag, false), |t| (t, true));
        let name = match tag.trim() {
            "i4" | "i8" => "int",
            "/i4" | "/i8" => "/int",
            other => other,
        };
        let counts =
            !matches!(name.trim_start_matches('/'), "string" | "params") && !name.starts_with(['?', '!']);
        if counts {
            tokens.push(format!("<{name}>"));
            if closed {
                tokens.push(format!("</{name}>"));
            }
        }
        let value = after.trim();
        if !value.is_empty() {
            let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
            tokens.push(entities.iter().fold(value.to_owned(), |text, (from, to)| text.replace(from, to)));
        }
    }
    tokens.first().is_some_and(|t| t == "<methodCall>").then_some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(url: &str, body: &str) -> Shape {
        Shape::of(&url.parse().unwrap(), Some(body.as_bytes()))
    }

    fn place_of(url: &str) -> Place {
        Place::of(&Method::GET, &url.parse().unwrap())
    }

    #[test]
    fn a_query_is_a_multiset() {
        let is = |a: &str, b: &str| shape(a, "").is_exactly(&shape(b, ""), &Auth::None);
        assert!(is("https://h/p?a=1&b=2&a=1", "https://h/p?b=2&a=1&a=1"));
        assert!(!is("https://h/p?a=1&a=1", "https://h/p?a=1"));
        assert!(is("https://h/p?q=a%20b", "https://h/p?q=a+b"));
        assert!(is("https://h/p?", "https://h/p"));
        assert!(is("https://h/?p=x;a=y", "https://h/?a=y;p=x"));
        assert!(!is("https://h/p?a=1", "http://h/p?a=1"));
    }

    #[test]
    fn a_place_is_method_host_and_path_however_escaped() {
        assert_eq!(place_of("https://H.example/~u/a%7Eb"), place_of("https://h.example/%7Eu/a~b"));
        assert_eq!(place_of("https://h:443/"), place_of("https://h/"));
        assert_ne!(place_of("https://h/a%2Fb"), place_of("https://h/a/b"));
        assert_ne!(place_of("https://h:8443/"), place_of("https://h/"));
        assert_ne!(place_of("https://h/p"), place_of("https://h/p/"));
        assert_eq!(percent_decoded("100%"), b"100%");
        assert_eq!(percent_decoded("%+5%41"), b"%+5A");
    }

    #[test]
    fn bodies_are_compared_by_what_they_say() {
        let same = |a: &str, b: &str| BodyShape::of(a.as_bytes()) == BodyShape::of(b.as_bytes());
        assert!(same("b=2&a=%31", "a=1&b=2"));
        assert!(same(r#"{"a": 1, "b": [2]}"#, r#"{"b":[2],"a":1}"#));
        assert!(!same(r#"{"a": 1}"#, r#"{"a": 2}"#));
        let call = |value: &str| {
            format!("<?xml version='1.0'?><methodCall><methodName>since</methodName>{value}</methodCall>")
        };
        let one = |value: &str| call(&format!("<params><param><value>{value}</value></param></params>"));
        assert!(same(&one("<int>-1</int>"), &one("\n <i4> -1 </i4>")));
        assert!(!same(&one("<int>-1</int>"), &one("<int>1</int>")));
        assert!(!same(&one("<int>1</int>"), &one("1")));
        assert!(same(
            &one("<string>a &amp; b</string>"),
            &one("a &#38; b".replace("&#38;", "&amp;").as_str())
        ));
        assert!(same(&call("<params>\n</params>"), &call("<params/>")));
        assert!(same(&call(""), &call("<params/>")));
    }

    #[test]
    fn an_xml_rpc_call_is_similar_to_no_other() {
        let call = |name: &str| format!("<methodCall><methodName>{name}</methodName></methodCall>");
        let positions = vec!["serial".to_owned()];
        assert!(!shape("https://h/", &call("a")).is_similar(&shape("https://h/", &call("b")), &positions));
        assert!(!shape("https://h/", &call("a")).is_similar(&shape("https://h/", "x=1"), &positions));
        assert!(shape("https://h/", &call("a")).is_similar(&shape("https://h/", &call("a")), &positions));
    }

    #[test]
    fn a_position_is_found_in_query_form_and_json() {
        let positions = vec!["page".to_owned(), "after".to_owned()];
        let at = |url: &str, body: &str| shape(url, body).position(&positions);
        let one = vec![("page".to_owned(), "1".to_owned())];
        assert_eq!(at("https://h/?page=1&size=9", ""), one);
        assert_eq!(at("https://h/", "size=9&page=1"), one);
        assert_eq!(at("https://h/", r#"{"v": {"page": 1, "after": null}}"#), one);
        assert_eq!(at("https://h/?since=1", ""), Vec::new());
    }
}
