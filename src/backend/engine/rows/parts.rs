//! Rows of parts, and what they say of origins.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{from_json, to_json};
use crate::backend::Result;
use crate::model::{Artifact, ArtifactShape, JsonObject, Timestamp};

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct PartRow {
    pub(crate) lister: u32,
    pub(crate) key: String,
    pub(crate) fingerprint: Option<String>,
    /// The run whose reading of it is complete and in force.
    pub(crate) generation: Option<u64>,
    /// Ended runs that read a piece of it and met a gap: a retry of the gap completes them.
    pub(crate) staged: Vec<u64>,
}

/// How far a run has read a part.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct PartRunRow {
    pub(crate) pending: u32,
    /// A page of it was read.
    pub(crate) read: bool,
    /// It was asked for from its beginning, not only where a gap had been.
    pub(crate) fresh: bool,
    /// A page of it is missing.
    pub(crate) failed: bool,
}

/// What a part says of an origin.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) last_update: Option<Timestamp>,
    pub(crate) artifacts: Vec<Piece>,
}

/// An artifact as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) field: String,
    pub(crate) key: String,
    /// JSON.
    pub(crate) value: String,
    pub(crate) list: bool,
}

impl Piece {
    pub(crate) fn new(artifact: &Artifact) -> Result<Self> {
        Ok(Self {
            field: artifact.field.clone(),
            key: artifact.key.clone(),
            value: to_json(&artifact.value)?,
            list: artifact.shape == ArtifactShape::List,
        })
    }
}

impl Reading {
    /// Adds what another page of the same part says: of two pieces of the same name the later.
    pub(crate) fn add(&mut self, later: Self) {
        self.last_update = self.last_update.max(later.last_update);
        for piece in later.artifacts {
            let at = self.artifacts.binary_search_by(|p| {
                (p.field.as_str(), p.key.as_str()).cmp(&(piece.field.as_str(), piece.key.as_str()))
            });
            match at {
                Ok(at) => {
                    if let Some(known) = self.artifacts.get_mut(at) {
                        *known = piece;
                    }
                }
                Err(at) => self.artifacts.insert(at, piece),
            }
        }
    }

    /// Keeps the earlier date where all pieces are as they were: that an index was written anew
    /// changed nothing of an origin in it. Tells whether this is so.
    pub(crate) fn keep_date(&mut self, before: &Self) -> bool {
        let same = !self.artifacts.is_empty() && self.artifacts == before.artifacts;
        let keeps = same && before.last_update.is_some() && self.last_update != before.last_update;
        if keeps {
            self.last_update = before.last_update;
        }
        keeps
    }
}

/// Puts pieces together into arguments, each field as an object or a list in the order of keys.
pub(crate) fn assemble(arguments: &mut JsonObject, whole: &Reading) -> Result<()> {
    let mut pieces = whole.artifacts.iter().peekable();
    while let Some(first) = pieces.next() {
        let mut of_field = vec![first];
        while let Some(next) = pieces.next_if(|p| p.field == first.field) {
            of_field.push(next);
        }
        let value = if first.list {
            let values = of_field.iter().map(|p| from_json(&p.value)).collect::<Result<Vec<Value>>>()?;
            Value::Array(values)
        } else {
            let entries =
                of_field.iter().map(|p| Ok((p.key.clone(), from_json(&p.value)?))).collect::<Result<_>>()?;
            Value::Object(entries)
        };
        arguments.insert(first.field.clone(), value);
    }
    Ok(())
}
