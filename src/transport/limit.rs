//! What an answer says about a forge's limits.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::model::Timestamp;

/// How much of a body is looked at: a refusal says early what it is about.
pub(crate) const PREFIX: usize = 4096;

/// No forge's window is longer than a day: a later reset is not one.
const LONGEST_WINDOW: Duration = Duration::from_secs(86_400);

/// Which limit was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitKind {
    /// 429, without a word on why: too many requests.
    TooMany,
    /// 403 or 429, because the budget of requests is spent.
    Spent,
    /// 403 or 429, because requests came too fast or cost too much (GitHub's *secondary* limit).
    Secondary,
}

impl LimitKind {
    /// As in logs: `too_many`, `spent`, `secondary`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Spent => "spent",
            Self::Secondary => "secondary",
        }
    }
}

/// An answer that is no answer, but a forge's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limit {
    /// Which.
    pub kind: LimitKind,
    /// How long it holds; none when it does not say.
    pub wait: Option<Duration>,
}

/// Whether an answer is a limit, read from its status, its headers and the beginning of its body.
///
/// A limit that were taken for an answer would end a listing early, and as a success: so a 403 is
/// one when the budget is spent by its headers or by its message, when the message names a
/// secondary limit or abuse detection, and when it says `Retry-After`.
///
/// ```
/// use lamplighter::model::Timestamp;
/// use lamplighter::transport::{LimitKind, classify};
/// let body = br#"{"message": "You have exceeded a secondary rate limit. Please wait."}"#;
/// let limit = classify(Timestamp::EPOCH, http::StatusCode::FORBIDDEN, &http::HeaderMap::new(), body);
/// assert_eq!(limit.map(|l| l.kind), Some(LimitKind::Secondary));
/// let limit = classify(Timestamp::EPOCH, http::StatusCode::FORBIDDEN, &http::HeaderMap::new(), b"no");
/// assert_eq!(limit, None);
/// ```
#[must_use]
pub fn classify(now: Timestamp, status: StatusCode, headers: &HeaderMap, prefix: &[u8]) -> Option<Limit> {
    let said = || {
        retry_after(now, headers).or_else(|| {
            // A budget that is not spent says nothing about when this limit ends.
            let spent = remaining(headers).is_none_or(|left| left == 0);
            reset(now, headers).filter(|_| spent).map(|reset| reset.at.since(now))
        })
    };
    if !matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
        return None;
    }
    let message = message(prefix).to_ascii_lowercase();
    let names_secondary = ["secondary rate limit", "secondary limit", "abuse detection"]
        .iter()
        .any(|words| message.contains(words));
    let kind = if names_secondary {
        LimitKind::Secondary
    } else if remaining(headers) == Some(0) || message.starts_with("api rate limit exceeded") {
        LimitKind::Spent
    } else if status == StatusCode::TOO_MANY_REQUESTS {
        LimitKind::TooMany
    } else if retry_after(now, headers).is_some() {
        LimitKind::Secondary
    } else {
        return None;
    };
    Some(Limit { kind, wait: said() })
}

/// The `message` of a JSON body; the text itself of any other (or of one that is cut).
fn message(prefix: &[u8]) -> String {
    let prefix = prefix.get(..PREFIX).unwrap_or(prefix);
    match serde_json::from_slice::<serde_json::Value>(prefix) {
        Ok(json) => json.get("message").and_then(|m| m.as_str()).unwrap_or_default().to_owned(),
        Err(_) => String::from_utf8_lossy(prefix).into_owned(),
    }
}

/// `Retry-After`, in seconds or as a date; none when it is neither.
pub(crate) fn retry_after(now: Timestamp, headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::EPOCH.plus(since_epoch).since(now))
}

/// How many requests are left, where a forge says so.
pub(crate) fn remaining(headers: &HeaderMap) -> Option<u64> {
    number(headers, ["x-ratelimit-remaining", "ratelimit-remaining"])
}

/// When a budget is full again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reset {
    /// When; at most a day away.
    pub(crate) at: Timestamp,
    /// Whether that is what was said.
    pub(crate) believed: bool,
}

/// When the budget is full again. Most forges give seconds since the epoch; some give
/// milliseconds, and some the seconds that are left: the size tells which.
pub(crate) fn reset(now: Timestamp, headers: &HeaderMap) -> Option<Reset> {
    let value = number(headers, ["x-ratelimit-reset", "ratelimit-reset"])?;
    let said = match value {
        0..100_000_000 => now.plus(Duration::from_secs(value)),
        100_000_000..100_000_000_000 => Timestamp::EPOCH.plus(Duration::from_secs(value)),
        _ => Timestamp::EPOCH.plus(Duration::from_millis(value)),
    };
    let latest = now.plus(LONGEST_WINDOW);
    // A second more: its clock and ours differ, and asking too early costs a refusal.
    Some(Reset { at: said.plus(Duration::from_secs(1)).min(latest), believed: said <= latest })
}

fn number(headers: &HeaderMap, names: [&str; 2]) -> Option<u64> {
    let value = names.iter().find_map(|name| headers.get(*name))?;
    value.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    /// 2026-01-01T00:00:00Z.
    const NOW: i64 = 1_767_225_600;

    fn now() -> Timestamp {
        Timestamp::from_seconds(NOW)
    }

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn said(code: u16, of: &[(&'static str, &str)], body: &str) -> Option<(LimitKind, Option<u64>)> {
        classify(now(), StatusCode::from_u16(code).unwrap(), &headers(of), body.as_bytes())
            .map(|l| (l.kind, l.wait.map(|w| w.as_secs())))
    }

    const SPENT: &str = r#"{"message": "API rate limit exceeded for 192.0.2.1."}"#;
    const SECONDARY: &str =
        r#"{"documentation_url": "x", "message": "You have exceeded a secondary rate limit."}"#;

    #[test]
    fn limits_are_told_from_refusals() {
        use LimitKind as K;
        let in_90 = (NOW + 90).to_string();
        let full = [("x-ratelimit-remaining", "4000"), ("x-ratelimit-reset", in_90.as_str())];
        let empty = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", in_90.as_str())];
        assert_eq!(said(403, &empty, ""), Some((K::Spent, Some(91))));
        assert_eq!(said(429, &empty, ""), Some((K::Spent, Some(91))));
        assert_eq!(said(403, &[], SPENT), Some((K::Spent, None)));
        assert_eq!(said(403, &[], SECONDARY), Some((K::Secondary, None)));
        assert_eq!(said(429, &[], SECONDARY), Some((K::Secondary, None)));
        assert_eq!(said(403, &full, SECONDARY), Some((K::Secondary, None)), "the budget is another matter");
        assert_eq!(said(403, &empty, SECONDARY), Some((K::Secondary, Some(91))), "both, by GitHub's rules");
        assert_eq!(said(403, &[("retry-after", "30")], SECONDARY), Some((K::Secondary, Some(30))));
        assert_eq!(said(403, &[("retry-after", "30")], "{}"), Some((K::Secondary, Some(30))));
        assert_eq!(said(429, &[("retry-after", "7")], ""), Some((K::TooMany, Some(7))));
        assert_eq!(said(429, &[("ratelimit-reset", "20")], ""), Some((K::TooMany, Some(21))));
        assert_eq!(said(429, &[], ""), Some((K::TooMany, None)));
        // And what is none.
        assert_eq!(said(403, &full, r#"{"message": "Repository access blocked"}"#), None);
        assert_eq!(said(403, &[], r#"{"message": "Forbidden", "n": "API rate limit exceeded"}"#), None);
        assert_eq!(said(200, &empty, SPENT), None);
        assert_eq!(said(404, &[("retry-after", "7")], SECONDARY), None);
        assert_eq!(said(503, &[("retry-after", "7")], ""), None, "a retry's matter");
    }

    #[test]
    fn a_message_is_found_in_a_long_or_cut_body() {
        let long = format!(
            "{}{}",
            r#"{"message": "You have exceeded a secondary rate limit", "x": ""#,
            "y".repeat(PREFIX)
        );
        assert_eq!(said(403, &[], &long), Some((LimitKind::Secondary, None)));
    }

    #[test]
    fn a_reset_is_read_in_every_unit_and_never_far_away() {
        let at = |value: &str| {
            reset(now(), &headers(&[("x-ratelimit-reset", value)]))
                .map(|r| (r.at.as_seconds() - NOW, r.believed))
        };
        assert_eq!(at(&(NOW + 600).to_string()), Some((601, true)));
        assert_eq!(at(&((NOW + 600) * 1000).to_string()), Some((601, true)), "milliseconds");
        assert_eq!(at("600"), Some((601, true)), "seconds left");
        assert_eq!(at(&(NOW + 900_000).to_string()), Some((86_400, false)), "ten days");
        assert_eq!(at(&u64::MAX.to_string()), Some((86_400, false)));
        assert_eq!(at("-5"), None);
        assert_eq!(at("tomorrow"), None);
    }

    proptest! {
        #[test]
        fn no_header_and_no_body_panics_or_waits_beyond_a_day_for_a_reset(
            code in 100u16..600, remaining in "[ -~]{0,12}", reset in "[0-9]{0,20}|[ -~]{0,12}",
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let headers = headers(&[("x-ratelimit-remaining", &remaining), ("x-ratelimit-reset", &reset)]);
            let limit = classify(now(), StatusCode::from_u16(code).unwrap(), &headers, &body);
            if let Some(wait) = limit.and_then(|l| l.wait) {
                prop_assert!(wait <= Duration::from_secs(86_400));
            }
        }
    }
}
