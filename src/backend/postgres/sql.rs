//! Values as PostgreSQL writes them, and its errors as ours.

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::BytesMut;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::backend::{BackendError, BackendErrorKind};
use crate::model::Timestamp;

type Boxed = Box<dyn StdError + Sync + Send>;

/// Microseconds from our epoch to PostgreSQL's, the year 2000.
const Y2K: i64 = 946_684_800_000_000;

/// A time as a `timestamptz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend) struct Time(pub(in crate::backend) Timestamp);

impl ToSql for Time {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        out.extend_from_slice(&(self.0.as_micros() - Y2K).to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Time {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp::from_micros(micros.saturating_add(Y2K))))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// Which version of a row one is: another one after every change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version(pub(super) i64);

impl<'a> FromSql<'a> for Version {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        Ok(Self(u32::from_be_bytes(raw.try_into()?).into()))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID
    }
}

/// JSON text as it is: `json` keeps every byte of it, where `jsonb` would sort and round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Json(pub(super) String);

impl ToSql for Json {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Json {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }
}

/// Text without the one character that PostgreSQL cannot hold: its picture stands in for it.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{2400}")) } else { Cow::Borrowed(text) }
}

/// The same bits with a sign.
pub(super) fn signed(n: u64) -> i64 {
    n.cast_signed()
}

/// A number as a `smallint` or an `int`; the largest one where it does not fit.
pub(super) fn narrow<T: TryFrom<u64> + Bounded>(n: u64) -> T {
    T::try_from(n).unwrap_or(T::MOST)
}

/// A type with a largest value.
pub(super) trait Bounded {
    const MOST: Self;
}

impl Bounded for i16 {
    const MOST: Self = Self::MAX;
}

impl Bounded for i32 {
    const MOST: Self = Self::MAX;
}

/// Whether doing all of it again may help: what collided with others was taken back whole.
pub(super) fn collided(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(
            &SqlState::T_R_SERIALIZATION_FAILURE
                | &SqlState::T_R_DEADLOCK_DETECTED
                | &SqlState::UNIQUE_VIOLATION
                | &SqlState::LOCK_NOT_AVAILABLE
        )
    )
}

/// Whether the connection is no more, and with it whatever was not committed.
pub(super) fn lost(error: &tokio_postgres::Error) -> bool {
    let gone = matches!(
        error.code(),
        Some(&SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN | &SqlState::CANNOT_CONNECT_NOW)
    );
    gone || error.is_closed() || error.code().is_some_and(|c| c.code().starts_with("08")) || broke_off(error)
}

/// Whether the socket failed.
fn broke_off(error: &tokio_postgres::Error) -> bool {
    let mut source = error.source();
    while let Some(e) = source {
        if e.is::<std::io::Error>() {
            return true;
        }
        source = e.source();
    }
    false
}

/// PostgreSQL's error as ours. It names no values: what is stored may be private.
pub(super) fn failed(what: &str, error: tokio_postgres::Error) -> BackendError {
    let kind = match error.code() {
        _ if lost(&error) => BackendErrorKind::Unavailable,
        Some(_) if collided(&error) => BackendErrorKind::Conflict,
        Some(code) if code.code().starts_with("53") || code.code().starts_with("58") => BackendErrorKind::Io,
        None
        | Some(
            &SqlState::INVALID_PASSWORD
            | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            | &SqlState::INVALID_CATALOG_NAME
            | &SqlState::INSUFFICIENT_PRIVILEGE,
        ) => BackendErrorKind::Unavailable,
        Some(_) => BackendErrorKind::Corrupt,
    };
    let said = error.as_db_error().map(|e| format!("{what}: {} ({})", e.message(), e.code().code()));
    BackendError::new(kind, said.unwrap_or_else(|| what.to_owned())).with_source(error)
}
