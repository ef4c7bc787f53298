//! One instant: UTC, whole microseconds.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in UTC, truncated to microseconds when it is made.
///
/// Stores keep microseconds and `chrono` keeps nanoseconds; truncating here, once, is what makes a
/// stored time equal to the one that was given.
///
/// ```
/// use lamplighter::model::Timestamp;
/// let t = Timestamp::parse("2026-11-24T10:00:00.1234567+01:00")?;
/// assert_eq!(t.to_string(), "2026-11-24T09:00:00.123456Z");
/// # Ok::<(), lamplighter::model::TimestampError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is no RFC 3339 date, or a date out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a date with time and offset: {0:?}")]
pub struct TimestampError(String);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since the epoch. Values beyond year 9999 are clamped to it, so that every
    /// `Timestamp` can be written as RFC 3339.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        // 0000-01-01 and 9999-12-31T23:59:59.999999Z
        Self(micros.clamp(-62_167_219_200_000_000, 253_402_300_799_999_999))
    }

    /// From whole seconds since the epoch, clamped like [`Timestamp::from_micros`].
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Reads an RFC 3339 date (`2026-11-24T10:00:00Z`, any offset).
    ///
    /// # Errors
    /// [`TimestampError`] when the text is not such a date.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        DateTime::parse_from_rfc3339(text.trim())
            .map(|d| Self::from(d.with_timezone(&Utc)))
            .map_err(|_| TimestampError(text.chars().take(64).collect()))
    }

    /// This instant and `by` more. Saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// This instant and `by` less. Saturates.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0)).map_or(Duration::ZERO, Duration::from_micros)
    }

    /// As `chrono` has it.
    #[must_use]
    pub fn to_datetime(self) -> DateTime<Utc> {
        // In range by construction; the epoch stands for what cannot happen.
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(d: DateTime<Utc>) -> Self {
        Self::from_micros(d.timestamp_micros())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { s.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
            Self::parse(&text).map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(d).map(Self::from_micros)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_utc_and_whole_microseconds() {
        let t = Timestamp::parse("2020-01-01T00:00:00.9999999+02:00").unwrap();
        assert_eq!(t.to_string(), "2019-12-31T22:00:00.999999Z");
        assert_eq!(Timestamp::from_micros(t.as_micros()), t);
        assert_eq!(serde_json::from_str::<Timestamp>(&serde_json::to_string(&t).unwrap()).unwrap(), t);
    }

    #[test]
    fn far_dates_are_clamped_and_still_print() {
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp::from_seconds(i64::MIN).to_string(), "0000-01-01T00:00:00Z");
        assert_eq!(Timestamp::EPOCH.since(Timestamp::from_seconds(5)), Duration::ZERO);
    }

    #[test]
    fn a_date_without_offset_is_refused() {
        assert!(Timestamp::parse("2020-01-01T00:00:00").is_err());
        assert!(Timestamp::parse("").is_err());
    }
}
