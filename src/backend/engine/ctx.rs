//! What one transaction knows: the caller's time, the policies, and numbers for names.

use std::collections::HashMap;
use std::sync::Arc;

use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, scan_prefix};
use super::rows::{ListerRow, TypeRow, corrupt, decode, encode, from_json};
use super::sets::{self, Chunk};
use crate::backend::{BackendError, BackendErrorKind, Result};
use crate::model::{ListerKey, Timestamp, VisitType, digest128};
use crate::policy::{Policies, Policy, Shared};

/// A visit type as a transaction uses it.
pub(crate) struct Kind {
    pub(crate) number: u16,
    pub(crate) row: TypeRow,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) shared: Shared,
}

impl Kind {
    pub(crate) fn visit_type(&self) -> Result<VisitType> {
        VisitType::new(&*self.row.name).map_err(|e| corrupt("a visit type").with_source(e))
    }
}

/// The sequence of origins' numbers.
const ORIGINS: &str = "origin";

/// A set of which the evidence of a lister depends, by (lister, chunk).
type Evidence = HashMap<(u32, u64), Option<Chunk>>;

/// What one transaction knows.
pub(crate) struct Ctx<'e> {
    pub(crate) now: Timestamp,
    policies: &'e Policies,
    kinds: Vec<Kind>,
    listers: HashMap<u32, ListerRow>,
    evidence: Evidence,
    /// The first number given to a new origin in this transaction, and the next to give.
    born: Option<(u64, u64)>,
}

impl<'e> Ctx<'e> {
    pub(crate) fn new(t: &dyn KvRead, policies: &'e Policies, now: Timestamp) -> Result<Self> {
        let mut kinds = Vec::new();
        scan_prefix(t, keys::TYPE, &[], &mut |key, value| {
            kinds.push(kind(keys::Parts(key).u16(), decode(value)?, policies)?);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(Self { now, policies, kinds, listers: HashMap::new(), evidence: HashMap::new(), born: None })
    }

    /// A number for a new origin. The counter is written by [`Ctx::finish`], once for all of them.
    pub(crate) fn next_origin(&mut self, t: &dyn KvRead) -> Result<u64> {
        let (first, id) = match self.born {
            Some(born) => born,
            None => {
                let next = last(t, ORIGINS)? + 1;
                (next, next)
            }
        };
        self.born = Some((first, id + 1));
        Ok(id)
    }

    /// Whether an origin was made in this transaction, so that nothing else is known of it.
    pub(crate) fn is_new(&self, origin: u64) -> bool {
        self.born.is_some_and(|(first, next)| (first..next).contains(&origin))
    }

    /// Writes what was only counted so far. To be called at the end of a transaction.
    pub(crate) fn finish(self, t: &mut dyn KvTxn) -> Result<()> {
        match self.born {
            Some((_, next)) => t.put(keys::META, ORIGINS.as_bytes(), &keys::of_u64(next - 1)),
            None => Ok(()),
        }
    }

    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The kind of a number.
    pub(crate) fn kind(&self, number: u16) -> Result<&Kind> {
        // Numbers are given from zero on, without holes.
        self.kinds.get(usize::from(number)).ok_or_else(|| corrupt(format!("no visit type {number}")))
    }

    /// The kind of a visit type, where any origin of it is known.
    pub(crate) fn kind_of(&self, visit_type: &VisitType) -> Option<&Kind> {
        self.kinds.iter().find(|k| k.row.name == visit_type.as_str())
    }

    /// The number of a visit type, given now where it has none.
    pub(crate) fn number_of(&mut self, t: &mut dyn KvTxn, visit_type: &VisitType) -> Result<u16> {
        if let Some(kind) = self.kind_of(visit_type) {
            return Ok(kind.number);
        }
        let number = u16::try_from(self.kinds.len()).map_err(|_| corrupt("over 65,535 visit types"))?;
        let row = TypeRow {
            name: visit_type.as_str().to_owned(),
            policy: self.policies.of(visit_type.as_str()).name().to_owned(),
            replace_from: None,
            shared: None,
            credit: Vec::new(),
        };
        t.put(keys::TYPE, &K::new().u16(number), &encode(&row)?)?;
        self.kinds.push(kind(number, row, self.policies)?);
        Ok(number)
    }

    /// A lister's row.
    pub(crate) fn lister(&mut self, t: &dyn KvRead, number: u32) -> Result<&ListerRow> {
        if let std::collections::hash_map::Entry::Vacant(free) = self.listers.entry(number) {
            free.insert(lister_row(t, number)?);
        }
        self.listers.get(&number).ok_or_else(|| corrupt(format!("no lister {number}")))
    }

    /// Up to when a lister would have told of a change of an origin, beyond what the origin's row
    /// says: the start of its last complete run, unless that one left the origin out.
    pub(crate) fn evidence(&mut self, t: &dyn KvRead, lister: u32, origin: u64) -> Result<Option<Timestamp>> {
        let row = self.lister(t, lister)?;
        let (Some(at), of_run) = (row.evidence_at, row.evidence_run) else { return Ok(None) };
        let Some(run) = of_run else { return Ok(Some(at)) };
        let (chunk, low) = sets::split(origin);
        let set = match self.evidence.entry((lister, chunk)) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(sets::read(t, keys::SEEN, &keys::seen(lister, run, chunk))?)
            }
        };
        Ok(set.as_ref().is_some_and(|s| s.contains(low)).then_some(at))
    }
}

fn kind(number: u16, row: TypeRow, policies: &Policies) -> Result<Kind> {
    let policy = Arc::clone(policies.of(&row.name));
    let shared = row.shared.as_deref().map_or(Ok(Shared::default()), from_json)?;
    Ok(Kind { number, row, policy, shared })
}

/// The next number of a sequence; the first is one.
pub(crate) fn next(t: &mut dyn KvTxn, sequence: &str) -> Result<u64> {
    next_of(t, sequence, 1)
}

/// The first of the next `count` numbers of a sequence.
pub(crate) fn next_of(t: &mut dyn KvTxn, sequence: &str, count: u64) -> Result<u64> {
    let last = last(t, sequence)?;
    t.put(keys::META, sequence.as_bytes(), &keys::of_u64(last + count))?;
    Ok(last + 1)
}

/// The last number of a sequence; zero where none was given.
pub(crate) fn last(t: &dyn KvRead, sequence: &str) -> Result<u64> {
    Ok(t.get(keys::META, sequence.as_bytes())?.map_or(0, |v| keys::first_u64(&v)))
}

pub(crate) fn lister_row(t: &dyn KvRead, number: u32) -> Result<ListerRow> {
    let bytes = t.get(keys::LISTER, &keys::of_u32(number))?;
    decode(&bytes.ok_or_else(|| corrupt(format!("no lister {number}")))?)
}

/// A lister's number, where it has one.
pub(crate) fn lister_number(t: &dyn KvRead, key: &ListerKey) -> Result<Option<u32>> {
    Ok(t.get(keys::LISTER_ID, key.id().0.as_bytes())?.map(|v| keys::Parts(&v).u32()))
}

/// A lister's number, given now where it has none.
pub(crate) fn lister_number_or_new(t: &mut dyn KvTxn, key: &ListerKey, now: Timestamp) -> Result<u32> {
    if let Some(number) = lister_number(t, key)? {
        return Ok(number);
    }
    let number = u32::try_from(next(t, "lister")?).map_err(|_| corrupt("too many listers"))?;
    let row = ListerRow {
        name: key.name.clone(),
        instance: key.instance.clone(),
        state: None,
        state_form: 1,
        created: now,
        updated: now,
        last_finished: None,
        evidence_at: None,
        evidence_run: None,
        suspects_since: None,
        revision: 0,
    };
    t.put(keys::LISTER_ID, key.id().0.as_bytes(), &keys::of_u32(number))?;
    t.put(keys::LISTER, &keys::of_u32(number), &encode(&row)?)?;
    Ok(number)
}

/// The number of an owner of leases, given now where it has none.
pub(crate) fn owner_number(t: &mut dyn KvTxn, name: &str) -> Result<u32> {
    let digest = digest128(name.as_bytes());
    if let Some(known) = t.get(keys::OWNER_ID, &digest)? {
        return Ok(keys::Parts(&known).u32());
    }
    let number = u32::try_from(next(t, "owner")?).map_err(|_| corrupt("too many owners"))?;
    t.put(keys::OWNER_ID, &digest, &keys::of_u32(number))?;
    t.put(keys::OWNER, &keys::of_u32(number), name.as_bytes())?;
    Ok(number)
}

pub(crate) fn owner_name(t: &dyn KvRead, number: u32) -> Result<String> {
    let name = t.get(keys::OWNER, &keys::of_u32(number))?;
    Ok(name.map(|n| String::from_utf8_lossy(&n).into_owned()).unwrap_or_default())
}

pub(crate) fn fenced(what: impl Into<String>) -> BackendError {
    BackendError::new(BackendErrorKind::Fenced, what)
}

pub(crate) fn conflict(what: impl Into<String>) -> BackendError {
    BackendError::new(BackendErrorKind::Conflict, what)
}
