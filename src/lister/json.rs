//! Long lists in JSON, read entry by entry: the body is never in memory as a whole.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::marker::PhantomData;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use super::read::excerpt;
use super::{ListerError, ListerErrorKind};
use crate::model::JsonObject;
use crate::transport::Body;

/// Hands each entry of a list to `each`: of the body itself, or of the field `list` of the object that
/// it is. Gives that object's fields of the names `others`.
///
/// # Errors
/// [`ListerErrorKind::Parse`] naming the entry, line and column; also where there is no such list, or
/// two. [`ListerErrorKind::Io`] when a spooled body cannot be read; those of `each`.
pub(crate) fn each_entry<T: DeserializeOwned>(
    body: &Body,
    list: Option<&str>,
    others: &[&str],
    each: impl FnMut(T) -> Result<(), ListerError>,
) -> Result<JsonObject, ListerError> {
    let broken = |e| ListerError::new(ListerErrorKind::Io, "the spooled body").with_source(e);
    let cut = format!("the body ends too early, after {} bytes", body.len());
    read_list(body.reader(), list, others, each, broken, &cut)
}

/// Hands each entry of the list that `what` unpacks to to `each`.
///
/// # Errors
/// As [`each_entry`], and [`ListerErrorKind::Parse`] where it cannot be unpacked.
#[cfg(feature = "compression")]
pub(crate) fn each_entry_of<T: DeserializeOwned>(
    what: &str,
    unpacked: super::compress::Unpacked<'_>,
    each: impl FnMut(T) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let broken = |e| super::compress::unpacking(what, e);
    read_list(unpacked, None, &[], each, broken, &format!("{what} ends too early")).map(|_| ())
}

/// Hands each entry of the objects in the fields `maps` of what `what` unpacks to to `each`: the field,
/// the entry's name, the entry. Without `maps` the document is the one object, and the field is empty.
/// Gives those of `maps` that are there.
///
/// # Errors
/// As [`each_entry_of`], naming the entry.
#[cfg(feature = "compression")]
pub(crate) fn each_named_of<T: DeserializeOwned>(
    what: &str,
    unpacked: super::compress::Unpacked<'_>,
    maps: &[&'static str],
    each: impl FnMut(&'static str, String, T) -> Result<(), ListerError>,
) -> Result<Vec<&'static str>, ListerError> {
    let broken = |e| super::compress::unpacking(what, e);
    let (stopped, at) = (RefCell::new(None), RefCell::new(None));
    let place = || at.take().map(|(map, name): (&str, String)| format!("{what}: at {map}[{name:?}]"));
    let maps = Maps { each, stopped: &stopped, at: &at, fields: maps, entry: PhantomData };
    read_document(unpacked, maps, &stopped, place, broken, &format!("{what} ends too early"))
}

fn read_list<T: DeserializeOwned>(
    from: impl Read,
    list: Option<&str>,
    others: &[&str],
    each: impl FnMut(T) -> Result<(), ListerError>,
    broken: impl Fn(io::Error) -> ListerError,
    cut: &str,
) -> Result<JsonObject, ListerError> {
    let stopped = RefCell::new(None);
    let at = RefCell::new(None);
    let entries = Entries { each, stopped: &stopped, at: &at, list, entry: PhantomData };
    let place = || at.take().map(|n: usize| format!("at {}[{n}]", list.unwrap_or_default()));
    read_document(from, Document { entries, others }, &stopped, place, broken, cut)
}

/// Reads a document piece by piece. Whoever takes the pieces may stop it, by an error in `stopped`;
/// `place` says at which piece it was.
///
/// # Errors
/// What stopped it; [`ListerErrorKind::Parse`] naming the place, or saying `cut` where it breaks off; what
/// `broken` makes of an error of reading.
pub(crate) fn read_document<'de, S: DeserializeSeed<'de>>(
    mut from: impl Read,
    seed: S,
    stopped: &RefCell<Option<ListerError>>,
    place: impl FnOnce() -> Option<String>,
    broken: impl Fn(io::Error) -> ListerError,
    cut: &str,
) -> Result<S::Value, ListerError> {
    // For an error that shows how it begins.
    let mut head = Vec::new();
    (&mut from).take(80).read_to_end(&mut head).map_err(&broken)?;
    let whole = BufReader::new(head.as_slice().chain(from));
    let mut json = serde_json::Deserializer::from_reader(whole);
    let read = seed.deserialize(&mut json).and_then(|found| json.end().map(|()| found));
    if let Some(error) = stopped.take() {
        return Err(error);
    }
    read.map_err(|e| {
        if e.is_io() {
            return broken(e.into());
        }
        let what = match place() {
            _ if e.is_eof() => cut.to_owned(),
            Some(place) => format!("{place}: {e}"),
            None if e.is_syntax() => format!("no JSON ({e}): {}", excerpt(&head)),
            None => format!("not what was expected: {e}"),
        };
        ListerError::parse(what).with_source(e)
    })
}

/// A list, whose entries go to `each`.
struct Entries<'a, T, F> {
    each: F,
    stopped: &'a RefCell<Option<ListerError>>,
    at: &'a RefCell<Option<usize>>,
    list: Option<&'a str>,
    entry: PhantomData<fn() -> T>,
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> Result<(), ListerError>> DeserializeSeed<'de>
    for Entries<'_, T, F>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> Result<(), ListerError>> Visitor<'de> for Entries<'_, T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list{}", self.list.map(|l| format!(" {l:?}")).unwrap_or_default())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        for n in 0.. {
            self.at.replace(Some(n));
            let Some(entry) = entries.next_element::<T>()? else { break };
            if let Err(stop) = (self.each)(entry) {
                self.stopped.replace(Some(stop));
                return Err(A::Error::custom("stopped"));
            }
        }
        self.at.replace(None);
        Ok(())
    }
}

/// A list, or an object with a list in it.
struct Document<'a, T, F> {
    entries: Entries<'a, T, F>,
    others: &'a [&'a str],
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> Result<(), ListerError>> DeserializeSeed<'de>
    for Document<'_, T, F>
{
    type Value = JsonObject;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<JsonObject, D::Error> {
        match self.entries.list {
            Some(_) => d.deserialize_map(self),
            None => self.entries.deserialize(d).map(|()| JsonObject::new()),
        }
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> Result<(), ListerError>> Visitor<'de> for Document<'_, T, F> {
    type Value = JsonObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with a list {:?}", self.entries.list.unwrap_or_default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<JsonObject, A::Error> {
        let name = self.entries.list.unwrap_or_default();
        let mut entries = Some(self.entries);
        let mut found = JsonObject::new();
        while let Some(field) = fields.next_key::<String>()? {
            if field == name {
                let twice = || A::Error::custom(format!("{name:?} is there twice"));
                fields.next_value_seed(entries.take().ok_or_else(twice)?)?;
            } else if self.others.contains(&field.as_str()) {
                found.insert(field, fields.next_value::<Value>()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        match entries {
            None => Ok(found),
            Some(_) => Err(A::Error::custom(format!("there is no {name:?}"))),
        }
    }
}

/// An object whose fields are objects, or that is one itself: their entries go to `each`.
#[cfg(feature = "compression")]
struct Maps<'a, T, F> {
    each: F,
    stopped: &'a RefCell<Option<ListerError>>,
    at: &'a RefCell<Option<(&'static str, String)>>,
    fields: &'a [&'static str],
    entry: PhantomData<fn() -> T>,
}

#[cfg(feature = "compression")]
impl<'de, T: DeserializeOwned, F: FnMut(&'static str, String, T) -> Result<(), ListerError>>
    DeserializeSeed<'de> for Maps<'_, T, F>
{
    type Value = Vec<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

#[cfg(feature = "compression")]
impl<'de, T: DeserializeOwned, F: FnMut(&'static str, String, T) -> Result<(), ListerError>> Visitor<'de>
    for Maps<'_, T, F>
{
    type Value = Vec<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Self::Value, A::Error> {
        if self.fields.is_empty() {
            Named { map: "", to: &mut self }.visit_map(fields)?;
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        while let Some(field) = fields.next_key::<String>()? {
            match self.fields.iter().find(|map| **map == field) {
                Some(map) if found.contains(map) => {
                    return Err(A::Error::custom(format!("{map:?} is there twice")));
                }
                Some(map) => {
                    found.push(*map);
                    fields.next_value_seed(Named { map, to: &mut self })?;
                }
                None => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// One of the objects.
#[cfg(feature = "compression")]
struct Named<'m, 'a, T, F> {
    map: &'static str,
    to: &'m mut Maps<'a, T, F>,
}

#[cfg(feature = "compression")]
impl<'de, T: DeserializeOwned, F: FnMut(&'static str, String, T) -> Result<(), ListerError>>
    DeserializeSeed<'de> for Named<'_, '_, T, F>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

#[cfg(feature = "compression")]
impl<'de, T: DeserializeOwned, F: FnMut(&'static str, String, T) -> Result<(), ListerError>> Visitor<'de>
    for Named<'_, '_, T, F>
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object {:?}", self.map)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(name) = entries.next_key::<String>()? {
            // An error shows no more of a name than helps.
            self.to.at.replace(Some((self.map, name.chars().take(80).collect())));
            let entry = entries.next_value::<T>()?;
            if let Err(stop) = (self.to.each)(self.map, name, entry) {
                self.to.stopped.replace(Some(stop));
                return Err(A::Error::custom("stopped"));
            }
        }
        self.to.at.replace(None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "compression")]
    fn named(
        body: &'static str,
        maps: &[&'static str],
    ) -> Result<(Vec<String>, Vec<&'static str>), ListerError> {
        let mut all = Vec::new();
        let unpacked = super::super::compress::Unpacked::new(&Body::from(body)).unwrap();
        let found = each_named_of("the file", unpacked, maps, |map, name, n: u64| {
            all.push(format!("{map}/{name}/{n}"));
            if n == 99 { Err(ListerError::stopped()) } else { Ok(()) }
        })?;
        Ok((all, found))
    }

    #[cfg(feature = "compression")]
    #[test]
    fn named_entries_come_one_by_one() {
        assert_eq!(named(r#"{"x": 1, "y": 2}"#, &[]).unwrap().0, ["/x/1", "/y/2"]);
        let body = r#"{"info": {"x": [7]}, "b": {"x": 1}, "a": {"y": 2, "z": 3}}"#;
        let (all, found) = named(body, &["a", "b", "c"]).unwrap();
        assert_eq!((all, found), (["b/x/1", "a/y/2", "a/z/3"].map(str::to_owned).to_vec(), vec!["b", "a"]));
        for (body, words) in [
            (r#"{"a": {"x": 1, "y": "no"}}"#, "the file: at a[\"y\"]: "),
            (r#"{"a": {"x": 1"#, "the file ends too early"),
            (r#"{"a": {}, "a": {}}"#, "\"a\" is there twice"),
            (r#"{"a": []}"#, "an object \"a\""),
            ("[]", "expected an object"),
            ("<html>", "no JSON"),
            ("{} x", "trailing"),
        ] {
            let error = named(body, &["a"]).unwrap_err();
            assert_eq!(error.kind(), ListerErrorKind::Parse, "{body}");
            assert!(error.to_string().contains(words), "{body}: {error}");
        }
        let stopped = named(r#"{"a": {"x": 99, "y": "never read"}}"#, &["a"]).unwrap_err();
        assert_eq!(stopped.kind(), ListerErrorKind::Stopped);
    }

    fn read(body: &'static str, list: Option<&str>) -> Result<(Vec<u64>, JsonObject), ListerError> {
        let mut all = Vec::new();
        let others = each_entry(&Body::from(body), list, &["meta"], |n: u64| {
            all.push(n);
            if n == 99 { Err(ListerError::stopped()) } else { Ok(()) }
        })?;
        Ok((all, others))
    }

    #[test]
    fn entries_come_one_by_one_and_other_fields_at_the_end() {
        assert_eq!(read("[1, 2, 3]", None).unwrap().0, [1, 2, 3]);
        assert_eq!(read("[]", None).unwrap().0, [0_u64; 0]);
        let (all, others) = read(r#"{"x": [7], "meta": {"n": 1}, "list": [4, 5]}"#, Some("list")).unwrap();
        assert_eq!(all, [4, 5]);
        assert_eq!(others["meta"]["n"], 1);
        assert_eq!(others.len(), 1);
    }

    #[test]
    fn an_error_names_its_place() {
        for (body, list, words) in [
            ("[1, \"x\"]", None, "at [1]: "),
            (r#"{"list": [1, 2, null]}"#, Some("list"), "at list[2]: "),
            ("[1, 2", None, "the body ends too early, after 5 bytes"),
            ("", None, "the body ends too early"),
            ("<html>down</html>", None, "no JSON"),
            ("<html>down</html>", Some("list"), "<html>down"),
            ("{\"a\": 1}", None, "expected a list"),
            ("[1]", Some("list"), "an object with a list \"list\""),
            (r#"{"a": 1}"#, Some("list"), "there is no \"list\""),
            (r#"{"list": [1], "list": [2]}"#, Some("list"), "\"list\" is there twice"),
            ("[1] 2", None, "trailing characters"),
        ] {
            let error = read(body, list).unwrap_err();
            assert_eq!(error.kind(), ListerErrorKind::Parse, "{body}");
            assert!(error.to_string().contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn whoever_takes_the_entries_may_stop() {
        assert_eq!(read("[1, 99, \"never read\"]", None).unwrap_err().kind(), ListerErrorKind::Stopped);
    }
}
