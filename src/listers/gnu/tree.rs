//! A tree of folders and files in JSON, read project by project.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::lister::compress::{Unpacked, unpacking};
use crate::lister::json::read_document;
use crate::lister::{ListerError, ListerErrorKind};
use crate::transport::Body;

const WHAT: &str = "tree.json.gz";

/// A folder or a file.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    #[serde(rename = "type")]
    kind: String,
    /// A report at the end of the tree has none.
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    size: Option<Number>,
    #[serde(default)]
    time: Option<Number>,
    #[serde(default)]
    pub(super) contents: Option<Vec<Node>>,
}

/// A number, or a text with one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Number(i64),
    Text(String),
}

impl Number {
    fn get(&self) -> Option<i64> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

impl Node {
    pub(super) fn is_folder(&self) -> bool {
        self.kind == "directory"
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind == "file"
    }

    pub(super) fn seconds(&self) -> Option<i64> {
        self.time.as_ref().and_then(Number::get)
    }

    pub(super) fn length(&self) -> Option<i64> {
        self.size.as_ref().and_then(Number::get).filter(|n| *n >= 0)
    }
}

/// Whether a text can be one name in a path.
pub(super) fn is_plain(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\']) && !name.contains(char::is_control)
}

/// Hands over each folder or file directly in one of the wanted folders, with that folder.
pub(super) fn each_project(
    body: &Body,
    folders: &[String],
    each: impl FnMut(&str, Node) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let unpacked =
        Unpacked::new(body).map_err(|e| ListerError::new(ListerErrorKind::Io, WHAT).with_source(e))?;
    let (stopped, last) = (RefCell::new(None), RefCell::new(None));
    let walk = Walk { folders, each, stopped: &stopped, last: &last };
    let place = || last.take().map(|last: String| format!("{WHAT}, after {last}"));
    let broken = |e| unpacking(WHAT, e);
    read_document(unpacked, Level::Roots(walk), &stopped, place, broken, &format!("{WHAT} ends too early"))
        .map(|_| ())
}

struct Walk<'a, F> {
    folders: &'a [String],
    each: F,
    stopped: &'a RefCell<Option<ListerError>>,
    last: &'a RefCell<Option<String>>,
}

/// Where in the tree the walk is. Each level takes the walk, and gives it back.
enum Level<'a, F> {
    /// The list of roots, of which the first counts.
    Roots(Walk<'a, F>),
    /// The root: its contents are folders.
    Root(Walk<'a, F>),
    /// The contents of the root.
    Folders(Walk<'a, F>),
    /// One of them.
    Folder(Walk<'a, F>),
    /// The contents of a wanted one.
    Projects(Walk<'a, F>, String),
}

impl<'de, 'a, F: FnMut(&str, Node) -> Result<(), ListerError>> DeserializeSeed<'de> for Level<'a, F> {
    type Value = Walk<'a, F>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        match self {
            Self::Root(_) | Self::Folder(_) => d.deserialize_map(self),
            Self::Roots(_) | Self::Folders(_) | Self::Projects(..) => d.deserialize_seq(self),
        }
    }
}

impl<'de, 'a, F: FnMut(&str, Node) -> Result<(), ListerError>> Visitor<'de> for Level<'a, F> {
    type Value = Walk<'a, F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Roots(_) => "a list with the root of a tree",
            Self::Root(_) => "the root of a tree",
            Self::Folder(_) => "a folder or a file",
            Self::Folders(_) | Self::Projects(..) => "the contents of a folder",
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        match self {
            Self::Roots(walk) => {
                let missing = || A::Error::custom("there is no root");
                // The seed is gone if there is none.
                let walk = items.next_element_seed(Level::Root(walk))?.ok_or_else(missing)?;
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(walk)
            }
            Self::Projects(mut walk, folder) => {
                while let Some(node) = items.next_element::<Node>()? {
                    walk.last.replace(Some(format!("{folder}/{:.80}", node.name)));
                    if let Err(stop) = (walk.each)(&folder, node) {
                        walk.stopped.replace(Some(stop));
                        return Err(A::Error::custom("stopped"));
                    }
                }
                Ok(walk)
            }
            Self::Folders(walk) | Self::Root(walk) | Self::Folder(walk) => {
                let mut walk = Some(walk);
                while items.next_element_seed(Next(&mut walk))?.is_some() {}
                walk.ok_or_else(|| A::Error::custom("it was left"))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let is_root = matches!(self, Self::Root(_));
        let (Self::Roots(mut walk)
        | Self::Root(mut walk)
        | Self::Folders(mut walk)
        | Self::Folder(mut walk)
        | Self::Projects(mut walk, _)) = self;
        let mut name: Option<String> = None;
        let mut found = false;
        while let Some(field) = fields.next_key::<String>()? {
            match (field.as_str(), &name) {
                ("name", _) => name = Some(fields.next_value()?),
                ("contents", _) if found => return Err(A::Error::custom("\"contents\" is there twice")),
                ("contents", _) if is_root => {
                    found = true;
                    walk = fields.next_value_seed(Level::Folders(walk))?;
                }
                ("contents", Some(name)) if walk.folders.contains(name) => {
                    found = true;
                    walk = fields.next_value_seed(Level::Projects(walk, name.clone()))?;
                }
                ("contents", None) => {
                    return Err(A::Error::custom("the contents of a folder come before its name"));
                }
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        if is_root && !found {
            return Err(A::Error::custom("the root has no contents"));
        }
        Ok(walk)
    }
}

/// One item of a list, for which the walk is lent.
struct Next<'n, 'a, F>(&'n mut Option<Walk<'a, F>>);

impl<'de, F: FnMut(&str, Node) -> Result<(), ListerError>> DeserializeSeed<'de> for Next<'_, '_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        let walk = self.0.take().ok_or_else(|| D::Error::custom("it was left"))?;
        *self.0 = Some(Level::Folder(walk).deserialize(d)?);
        Ok(())
    }
}
