//! Listers, visit types, runs and gaps: rows of columns there, rows of the engine here.

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::sql::{Json, Time, narrow, signed, text};
use super::table::table;
use crate::backend::engine::keys::{self, K};
use crate::backend::engine::rows::{GapRow, ListerRow, RunRow, TypeRow, corrupt, from_json, to_json};
use crate::backend::{Committed, Result, RunId, RunRecord};
use crate::lister::Mode;
use crate::model::{ListerKey, Timestamp};

table! {
    /// A lister.
    Lister, Listers, "lister" {
        id: i32 = INT4,
        uuid: Uuid = UUID,
        name: String = TEXT,
        instance: String = TEXT,
        state: Option<Json> = JSON,
        state_form: i32 = INT4,
        created: Time = TIMESTAMPTZ,
        updated: Time = TIMESTAMPTZ,
        last_finished: Option<Time> = TIMESTAMPTZ,
        evidence_at: Option<Time> = TIMESTAMPTZ,
        evidence_run: Option<i64> = INT8,
        suspects_since: Option<Time> = TIMESTAMPTZ,
        revision: i64 = INT8,
    }
}

table! {
    /// A visit type.
    Type, Types, "visit_type" {
        id: i16 = INT2,
        name: String = TEXT,
        policy: String = TEXT,
        form: String = TEXT,
        replace_from: Option<i64> = INT8,
        shared: Option<Json> = JSON,
        credit: Vec<f64> = FLOAT8_ARRAY,
        guarded: f64 = FLOAT8,
        waiting: i64 = INT8,
    }
}

table! {
    /// A run.
    Run, Runs, "run" {
        id: i64 = INT8,
        lister: i32 = INT4,
        mode: String = TEXT,
        coverage: String = TEXT,
        parameters: Json = JSON,
        digest: Vec<u8> = BYTEA,
        outcome: String = TEXT,
        started: Time = TIMESTAMPTZ,
        finished: Option<Time> = TIMESTAMPTZ,
        pages: i64 = INT8,
        requests: i64 = INT8,
        new: i64 = INT8,
        changed: i64 = INT8,
        unchanged: i64 = INT8,
        gone: i64 = INT8,
        renamed: i64 = INT8,
        gaps: i64 = INT8,
        followed: i64 = INT8,
        skipped: i64 = INT8,
        filtered: Json = JSON,
        error: Option<String> = TEXT,
        fence: i64 = INT8,
        cursor_form: i32 = INT4,
        ignore_fingerprints: bool = BOOL,
        next_cursor: i64 = INT8,
        details: i64 = INT8,
        absent: i64 = INT8,
        withheld: i64 = INT8,
        current: bool = BOOL,
    }
}

table! {
    /// A gap.
    Gap, Gaps, "gap" {
        lister: i32 = INT4,
        parameters: Vec<u8> = BYTEA,
        digest: Vec<u8> = BYTEA,
        number: i64 = INT8,
        run: i64 = INT8,
        cursor: Json = JSON,
        part: Option<String> = TEXT,
        fingerprint: Option<String> = TEXT,
        begins_part: bool = BOOL,
        kind: String = TEXT,
        reason: String = TEXT,
        since: Time = TIMESTAMPTZ,
        attempts: i32 = INT4,
        retry_at: Time = TIMESTAMPTZ,
    }
}

/// A word of ours, as JSON has it.
fn word<T: Serialize>(value: &T) -> Result<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(corrupt("a word that is none")),
    }
}

fn unword<T: DeserializeOwned>(word: String) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(word))
        .map_err(|e| corrupt("an unknown word").with_source(e))
}

fn time(at: Option<Time>) -> Option<Timestamp> {
    at.map(|t| t.0)
}

impl Lister {
    pub(super) fn of(number: u32, row: &ListerRow) -> Self {
        Self {
            id: number.cast_signed(),
            uuid: row.key().id().0,
            name: row.name.clone(),
            instance: row.instance.clone(),
            state: row.state.clone().map(Json),
            state_form: row.state_form.cast_signed(),
            created: Time(row.created),
            updated: Time(row.updated),
            last_finished: row.last_finished.map(Time),
            evidence_at: row.evidence_at.map(Time),
            evidence_run: row.evidence_run.map(signed),
            suspects_since: row.suspects_since.map(Time),
            revision: signed(row.revision),
        }
    }

    pub(super) fn row(self) -> ListerRow {
        ListerRow {
            name: self.name,
            instance: self.instance,
            state: self.state.map(|s| s.0),
            state_form: self.state_form.cast_unsigned(),
            created: self.created.0,
            updated: self.updated.0,
            last_finished: time(self.last_finished),
            evidence_at: time(self.evidence_at),
            evidence_run: self.evidence_run.map(i64::cast_unsigned),
            suspects_since: time(self.suspects_since),
            revision: self.revision.cast_unsigned(),
        }
    }
}

impl Type {
    pub(super) fn of(number: u16, row: TypeRow) -> Self {
        Self {
            id: number.cast_signed(),
            name: row.name,
            policy: text(&row.policy).into_owned(),
            form: text(&row.form).into_owned(),
            replace_from: row.replace_from.map(signed),
            shared: row.shared.map(Json),
            credit: row.credit,
            guarded: row.guarded,
            waiting: signed(row.waiting),
        }
    }

    pub(super) fn row(self) -> TypeRow {
        TypeRow {
            name: self.name,
            policy: self.policy,
            form: self.form,
            replace_from: self.replace_from.map(i64::cast_unsigned),
            shared: self.shared.map(|s| s.0),
            credit: self.credit,
            guarded: self.guarded,
            waiting: u64::try_from(self.waiting).unwrap_or(0),
        }
    }
}

/// The digest of parameters, or of a cursor.
fn digest(bytes: &[u8]) -> Result<[u8; 16]> {
    bytes.try_into().map_err(|_| corrupt("a digest that is not 16 bytes long"))
}

impl Run {
    pub(super) fn of(row: RunRow, current: bool) -> Result<Self> {
        let record = row.record;
        Ok(Self {
            id: signed(record.id.0),
            lister: row.lister.cast_signed(),
            mode: word(&record.mode)?,
            coverage: word(&record.coverage)?,
            parameters: Json(to_json(&record.parameters)?),
            digest: row.parameters.to_vec(),
            outcome: word(&record.outcome)?,
            started: Time(record.started),
            finished: record.finished.map(Time),
            pages: signed(record.pages),
            requests: signed(record.requests),
            new: signed(record.counts.new),
            changed: signed(record.counts.changed),
            unchanged: signed(record.counts.unchanged),
            gone: signed(record.counts.gone),
            renamed: signed(record.counts.renamed),
            gaps: signed(record.counts.gaps),
            followed: signed(record.counts.followed),
            skipped: signed(record.skipped),
            filtered: Json(to_json(&record.filtered)?),
            error: record.error.map(|e| text(&e).into_owned()),
            fence: signed(row.fence),
            cursor_form: row.cursor_form.cast_signed(),
            ignore_fingerprints: row.ignore_fingerprints,
            next_cursor: signed(row.next_cursor),
            details: signed(row.details),
            absent: signed(row.absent),
            withheld: signed(record.withheld),
            current,
        })
    }

    /// The key under which the open run of a lister, mode and parameters is found.
    pub(super) fn open_key(&self) -> Result<Vec<u8>> {
        let mode: Mode = unword(self.mode.clone())?;
        Ok(crate::backend::engine::runs::open_key_of(
            self.lister.cast_unsigned(),
            mode,
            &digest(&self.digest)?,
        )
        .to_vec())
    }

    pub(super) fn row(self, lister: ListerKey) -> Result<RunRow> {
        let counts = Committed {
            new: self.new.cast_unsigned(),
            changed: self.changed.cast_unsigned(),
            unchanged: self.unchanged.cast_unsigned(),
            gone: self.gone.cast_unsigned(),
            renamed: self.renamed.cast_unsigned(),
            gaps: self.gaps.cast_unsigned(),
            followed: self.followed.cast_unsigned(),
        };
        Ok(RunRow {
            record: RunRecord {
                id: RunId(self.id.cast_unsigned()),
                lister,
                mode: unword(self.mode)?,
                coverage: unword(self.coverage)?,
                parameters: from_json(&self.parameters.0)?,
                outcome: unword(self.outcome)?,
                started: self.started.0,
                finished: time(self.finished),
                pages: self.pages.cast_unsigned(),
                requests: self.requests.cast_unsigned(),
                counts,
                withheld: self.withheld.cast_unsigned(),
                skipped: self.skipped.cast_unsigned(),
                filtered: from_json(&self.filtered.0)?,
                error: self.error,
            },
            lister: self.lister.cast_unsigned(),
            parameters: digest(&self.digest)?,
            fence: self.fence.cast_unsigned(),
            cursor_form: self.cursor_form.cast_unsigned(),
            ignore_fingerprints: self.ignore_fingerprints,
            next_cursor: self.next_cursor.cast_unsigned(),
            details: self.details.cast_unsigned(),
            absent: self.absent.cast_unsigned(),
        })
    }
}

impl Gap {
    pub(super) fn of(key: &[u8], row: GapRow) -> Result<Self> {
        let (lister, digests) = key.split_at_checked(4).ok_or_else(|| corrupt("a gap's key"))?;
        let (parameters, cursor) = digests.split_at_checked(16).ok_or_else(|| corrupt("a gap's key"))?;
        Ok(Self {
            lister: keys::Parts(lister).u32().cast_signed(),
            parameters: parameters.to_vec(),
            digest: cursor.to_vec(),
            number: signed(row.number),
            run: signed(row.run),
            cursor: Json(row.cursor),
            part: row.part.map(|p| text(&p).into_owned()),
            fingerprint: row.fingerprint.map(|f| text(&f).into_owned()),
            begins_part: row.begins_part,
            kind: word(&row.kind)?,
            reason: text(&row.reason).into_owned(),
            since: Time(row.since),
            attempts: narrow(u64::from(row.attempts)),
            retry_at: Time(row.retry_at),
        })
    }

    pub(super) fn key(&self) -> Vec<u8> {
        K::new().u32(self.lister.cast_unsigned()).bytes(&self.parameters).bytes(&self.digest).to_vec()
    }

    pub(super) fn row(self) -> Result<GapRow> {
        Ok(GapRow {
            number: self.number.cast_unsigned(),
            run: self.run.cast_unsigned(),
            cursor: self.cursor.0,
            part: self.part,
            fingerprint: self.fingerprint,
            begins_part: self.begins_part,
            kind: unword(self.kind)?,
            reason: self.reason,
            since: self.since.0,
            attempts: self.attempts.cast_unsigned(),
            retry_at: self.retry_at.0,
        })
    }
}
