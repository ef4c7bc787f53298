//! What one transaction knows: the caller's time, the policies, and numbers for names.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, scan_prefix};
use super::place::digest;
use super::rows::{LedgerRow, ListerRow, OriginRow, TypeRow, corrupt, decode, encode, from_json};
use super::sets::{self, Chunk};
use crate::backend::{BackendError, BackendErrorKind, Result, StoreOptions};
use crate::model::{ListerKey, Timestamp, VisitType, digest128};
use crate::policy::{AgeClass, AgeLimit, CLASSES, Policies, Policy, Shared, Signals, Trust};

/// A visit type as a transaction uses it.
pub(crate) struct Kind {
    pub(crate) number: u16,
    pub(crate) row: TypeRow,
    pub(crate) policy: Arc<dyn Policy>,
    pub(crate) shared: Shared,
    /// Origins that began to wait in this transaction, less those that ended.
    waiting: i64,
    changed: bool,
    /// Tells the policy's own notes from those of another.
    pub(crate) tag: u32,
}

impl Kind {
    pub(crate) fn visit_type(&self) -> Result<VisitType> {
        VisitType::new(&*self.row.name).map_err(|e| corrupt("a visit type").with_source(e))
    }
}

/// The key of an origin, and its digest.
struct Digested {
    url: String,
    visit_type: String,
    digest: [u8; 8],
}

/// The sequence of origins' numbers.
pub(crate) const ORIGINS: &str = "origin";

/// A set of which the evidence of a lister depends, by (lister, chunk).
type Evidence = HashMap<(u32, u64), Option<Chunk>>;

/// What one transaction knows.
pub(crate) struct Ctx<'e> {
    pub(crate) now: Timestamp,
    /// Whether a claim also places again what no new fact renews: of those at work at once, one does.
    pub(crate) sweeps: bool,
    pub(crate) options: &'e StoreOptions,
    kinds: Vec<Kind>,
    listers: BTreeMap<u32, ListerRow>,
    evidence: Evidence,
    /// By key, and whether it changed.
    ledgers: BTreeMap<Vec<u8>, (LedgerRow, bool)>,
    /// What the ledgers come to, until one changes.
    trusts: BTreeMap<u32, Trust>,
    /// The last digest: an origin's is asked for several times.
    digest: Cell<Option<Digested>>,
    /// The first number given to a new origin in this transaction, and the next to give.
    born: Option<(u64, u64)>,
}

impl<'e> Ctx<'e> {
    pub(crate) fn new(t: &dyn KvRead, options: &'e StoreOptions, now: Timestamp) -> Result<Self> {
        let mut kinds = Vec::new();
        scan_prefix(t, keys::TYPE, &[], &mut |key, value| {
            kinds.push(kind(keys::Parts(key).u16(), decode(value)?, &options.policies)?);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        Ok(Self {
            now,
            sweeps: true,
            options,
            kinds,
            listers: BTreeMap::new(),
            evidence: HashMap::new(),
            ledgers: BTreeMap::new(),
            trusts: BTreeMap::new(),
            digest: Cell::new(None),
            born: None,
        })
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
        for (key, (row, changed)) in self.ledgers {
            if changed {
                t.put(keys::LEDGER, &key, &encode(&row)?)?;
            }
        }
        for mut kind in self.kinds {
            if kind.changed || kind.waiting != 0 {
                kind.row.waiting = kind.row.waiting.saturating_add_signed(kind.waiting);
                t.put(keys::TYPE, &K::new().u16(kind.number), &encode(&kind.row)?)?;
            }
        }
        match self.born {
            Some((_, next)) => t.put(keys::META, ORIGINS.as_bytes(), &keys::of_u64(next - 1)),
            None => Ok(()),
        }
    }

    /// Changes what is kept for a visit type. Written by [`Ctx::finish`].
    pub(crate) fn edit_kind(&mut self, number: u16, change: impl FnOnce(&mut TypeRow)) {
        if let Some(kind) = self.kinds.get_mut(usize::from(number)) {
            let before = kind.row.clone();
            change(&mut kind.row);
            kind.changed |= kind.row != before;
        }
    }

    /// Counts that an origin begins or ends to wait. What a policy is told of their number changes
    /// with the next transaction: places of one do not depend on its order.
    pub(crate) fn count_waiting(&mut self, number: u16, by: i64) {
        if let Some(kind) = self.kinds.get_mut(usize::from(number)) {
            kind.waiting += by;
        }
    }

    fn read_ledger(&mut self, t: &dyn KvRead, key: &[u8]) -> Result<LedgerRow> {
        if let Some((row, _)) = self.ledgers.get(key) {
            return Ok(*row);
        }
        let stored = t.get(keys::LEDGER, key)?;
        let row = stored.map_or(Ok(LedgerRow::default()), |bytes| decode(&bytes))?;
        self.ledgers.insert(key.to_vec(), (row, false));
        Ok(row)
    }

    /// Whether a lister tells when upstream changed.
    pub(crate) fn dated(&mut self, t: &dyn KvRead, lister: u32) -> Result<bool> {
        Ok(self.read_ledger(t, &keys::of_u32(lister))?.dated)
    }

    /// Notes that it does.
    pub(crate) fn set_dated(&mut self, t: &dyn KvRead, lister: u32) -> Result<()> {
        self.edit_ledger(t, &keys::of_u32(lister), |l| l.dated = true)
    }

    /// How far a lister's news can be trusted: what is known of all its instances to begin with.
    pub(crate) fn trust(&mut self, t: &dyn KvRead, lister: u32) -> Result<Trust> {
        if let Some(known) = self.trusts.get(&lister) {
            return Ok(*known);
        }
        let all = keys::ledger_of_all(&self.lister(t, lister)?.name);
        let all = self.read_ledger(t, &all)?.signals.trust(Trust::default());
        let trust = self.read_ledger(t, &keys::of_u32(lister))?.signals.trust(all);
        self.trusts.insert(lister, trust);
        Ok(trust)
    }

    /// Counts what a visit said of a lister's news.
    pub(crate) fn count_news(
        &mut self,
        t: &dyn KvRead,
        lister: u32,
        count: impl Fn(&mut Signals),
    ) -> Result<()> {
        let all = keys::ledger_of_all(&self.lister(t, lister)?.name);
        self.edit_ledger(t, &all, |l| count(&mut l.signals))?;
        self.edit_ledger(t, &keys::of_u32(lister), |l| count(&mut l.signals))
    }

    /// How far one who hints can be trusted.
    pub(crate) fn hint_trust(&mut self, t: &dyn KvRead, source: u32) -> Result<Trust> {
        Ok(self.read_ledger(t, &keys::ledger_of_source(source))?.signals.trust(Trust::default()))
    }

    /// Counts what a visit said of a hint.
    pub(crate) fn count_hint(&mut self, t: &dyn KvRead, source: u32, changed: bool) -> Result<()> {
        self.edit_ledger(t, &keys::ledger_of_source(source), |l| l.signals.count(true, false, changed))
    }

    fn edit_ledger(&mut self, t: &dyn KvRead, key: &[u8], change: impl FnOnce(&mut LedgerRow)) -> Result<()> {
        let before = self.read_ledger(t, key)?;
        let mut row = before;
        change(&mut row);
        if row != before {
            self.ledgers.insert(key.to_vec(), (row, true));
            self.trusts.clear();
        }
        Ok(())
    }

    /// [`digest`] of an origin's key.
    pub(crate) fn digest(&self, url: &str, visit_type: &str) -> [u8; 8] {
        let last = self.digest.take().filter(|last| last.url == url && last.visit_type == visit_type);
        let last = last.unwrap_or_else(|| Digested {
            url: url.to_owned(),
            visit_type: visit_type.to_owned(),
            digest: digest(url, visit_type),
        });
        let digest = last.digest;
        self.digest.set(Some(last));
        digest
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
        let policy = self.options.policies.of(visit_type.as_str());
        let row = TypeRow {
            name: visit_type.as_str().to_owned(),
            policy: policy.name().to_owned(),
            form: form_of(&**policy, visit_type.as_str(), self.options),
            replace_from: None,
            shared: None,
            credit: Vec::new(),
            guarded: 0.0,
            waiting: 0,
        };
        t.put(keys::TYPE, &K::new().u16(number), &encode(&row)?)?;
        self.kinds.push(kind(number, row, &self.options.policies)?);
        Ok(number)
    }

    /// A lister's row.
    pub(crate) fn lister(&mut self, t: &dyn KvRead, number: u32) -> Result<&ListerRow> {
        if let std::collections::btree_map::Entry::Vacant(free) = self.listers.entry(number) {
            free.insert(lister_row(t, number)?);
        }
        self.listers.get(&number).ok_or_else(|| corrupt(format!("no lister {number}")))
    }

    /// The class with a maximum age that an origin belongs to: the first that has it.
    pub(crate) fn class_of(&mut self, t: &dyn KvRead, row: &OriginRow) -> Result<Option<AgeLimit>> {
        if self.options.max_ages.is_empty() {
            return Ok(None);
        }
        let mut listers = Vec::new();
        for listing in row.listings.iter().filter(|l| l.gone().is_none()) {
            listers.push(self.lister(t, listing.lister)?.key());
        }
        let visit_type = &self.kind(row.visit_type)?.row.name;
        let class =
            self.options.max_ages.iter().take(CLASSES).position(|class| class.has(visit_type, &listers));
        Ok(class.and_then(|i| {
            let cap = self.options.max_ages.get(i)?.cap;
            Some(AgeLimit { class: u8::try_from(i).unwrap_or(u8::MAX), cap })
        }))
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

/// What places of a visit type depend on: its policy's form, and its classes.
pub(crate) fn form_of(policy: &dyn Policy, visit_type: &str, options: &StoreOptions) -> String {
    let concerns = |c: &&AgeClass| c.visit_type.as_deref().is_none_or(|t| t == visit_type);
    let mut form = policy.form();
    if options.max_ages.iter().any(|c| concerns(&c)) {
        form = format!("{form}; {:?}", options.max_ages);
    }
    form
}

fn kind(number: u16, row: TypeRow, policies: &Policies) -> Result<Kind> {
    let policy = Arc::clone(policies.of(&row.name));
    let kept = row.shared.as_deref().map_or(Ok(serde_json::Value::Null), from_json)?;
    let shared = Shared::new(kept, row.waiting);
    let tag = digest128(policy.name().as_bytes());
    let tag = tag.first_chunk().map_or(0, |head| u32::from_be_bytes(*head));
    Ok(Kind { number, row, policy, shared, waiting: 0, changed: false, tag })
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
