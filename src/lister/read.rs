//! Small tools that keep listers short: JSON with the place of an error, `Link`, query parameters,
//! dates.

use serde::de::DeserializeOwned;
use url::Url;

use super::{ListerError, ListerErrorKind};
use crate::model::Timestamp;
use crate::transport::Response;

impl Response {
    /// Reads the body as JSON.
    ///
    /// # Errors
    /// [`ListerErrorKind::Parse`] naming the place (`projects[17].date_modified`), or saying that
    /// it is HTML, empty or cut; [`ListerErrorKind::Io`] when a spooled body cannot be read.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ListerError> {
        parse_json(&self.body.bytes().map_err(io)?)
    }

    /// Reads the body as JSON that begins with the line by which some servers keep browsers from
    /// running it (`)]}'`); a body without that line is read as well.
    ///
    /// # Errors
    /// As [`Response::json`].
    pub(crate) fn guarded_json<T: DeserializeOwned>(&self) -> Result<T, ListerError> {
        let bytes = self.body.bytes().map_err(io)?;
        let text = bytes.trim_ascii_start();
        parse_json(text.strip_prefix(b")]}'").unwrap_or(text))
    }

    /// The body as text; bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// [`ListerErrorKind::Io`] when a spooled body cannot be read.
    pub fn text(&self) -> Result<String, ListerError> {
        let bytes = self.body.bytes().map_err(io)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The target of a `Link` header with this `rel` (RFC 8288), made absolute by the answer's URL.
    ///
    /// # Errors
    /// [`ListerErrorKind::Parse`] when a `Link` header cannot be read, or its target is no URL: a
    /// broken link must not look like the end of a listing.
    ///
    /// ```
    /// use lamplighter::transport::{Body, Response};
    /// # use lamplighter::model::Timestamp;
    /// let r = Response::new(200, "https://h/a?page=1".parse()?, Body::from("[]"), Timestamp::EPOCH)
    ///     .with_header("link", "</a?page=2>; rel=\"next\", </a?page=9>; rel=last");
    /// assert_eq!(r.link("next")?.map(String::from).as_deref(), Some("https://h/a?page=2"));
    /// assert_eq!(r.link("prev")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn link(&self, rel: &str) -> Result<Option<Url>, ListerError> {
        for header in self.headers.get_all("link") {
            let header = header
                .to_str()
                .map_err(|e| ListerError::parse("a Link header that is no text").with_source(e))?;
            for (target, rels) in split_links(header)? {
                if rels.split_ascii_whitespace().any(|r| r.eq_ignore_ascii_case(rel)) {
                    let broken = |e| {
                        ListerError::parse(format!("a Link header with rel={rel} to no URL")).with_source(e)
                    };
                    return self.url.join(target).map(Some).map_err(broken);
                }
            }
        }
        Ok(None)
    }
}

/// Reads all of a text as JSON; an error names its place.
pub(crate) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ListerError> {
    // Keeping track of the place costs as much as reading: only a body that is not as expected
    // is read once more for it.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let place = e.path().to_string();
        let inner = e.into_inner();
        let what = if inner.is_eof() {
            format!("the body ends too early, after {} bytes", bytes.len())
        } else if place == "." {
            format!("no JSON ({inner}): {}", excerpt(bytes))
        } else {
            format!("at {place}: {inner}")
        };
        ListerError::parse(what).with_source(inner)
    })?;
    json.end()
        .map_err(|e| ListerError::parse(format!("more after the end of the JSON ({e})")).with_source(e))?;
    Ok(value)
}

/// (target, rels) of each link of one `Link` header. A comma in a target does not end it.
fn split_links(header: &str) -> Result<Vec<(&str, &str)>, ListerError> {
    let mut links = Vec::new();
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) =
            after.split_once('>').ok_or_else(|| ListerError::parse("a Link header that breaks off"))?;
        let (parameters, next) = after.split_at(after.find(unquoted(',')).unwrap_or(after.len()));
        let rel = parameters
            .split(unquoted(';'))
            .filter_map(|p| p.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("rel"))
            .map_or("", |(_, value)| value.trim().trim_matches('"'));
        links.push((target.trim(), rel));
        rest = next;
    }
    Ok(links)
}

/// Finds a separator that is in no quoted text, character by character.
fn unquoted(separator: char) -> impl FnMut(char) -> bool {
    let mut quoted = false;
    move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    }
}

fn io(e: std::io::Error) -> ListerError {
    ListerError::new(ListerErrorKind::Io, "the spooled body").with_source(e)
}

/// The beginning of a body on one line, for an error.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let head = bytes.get(..bytes.len().min(80)).unwrap_or_default();
    let text = String::from_utf8_lossy(head).replace(['\n', '\r', '\t'], " ");
    format!("{:?}", text.trim())
}

/// The first value of a query parameter.
///
/// ```
/// let url = "https://h/p?since=42&x=".parse()?;
/// assert_eq!(lamplighter::lister::query_param(&url, "since").as_deref(), Some("42"));
/// assert_eq!(lamplighter::lister::query_param(&url, "page"), None);
/// # Ok::<(), url::ParseError>(())
/// ```
#[must_use]
pub fn query_param(url: &Url, key: &str) -> Option<String> {
    url.query_pairs().find(|(k, _)| k == key).map(|(_, v)| v.into_owned())
}

/// Sixteen bytes of SHA-256, in hex: a fingerprint of what an index says of an item.
#[must_use]
pub fn fingerprint(of: impl AsRef<[u8]>) -> String {
    crate::model::hex(&crate::model::digest128(of.as_ref()))
}

/// Reads a date given as seconds since the epoch, in a number or a string, whole or with a fraction.
///
/// ```
/// use lamplighter::lister::seconds_date;
/// assert_eq!(seconds_date("1431549005.25").unwrap().to_string(), "2015-05-13T20:30:05.250Z");
/// assert_eq!(seconds_date("soon"), None);
/// ```
#[must_use]
pub fn seconds_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6.6}").parse().ok()?;
    let negative = text.starts_with('-');
    let micros = if negative { -micros } else { micros };
    Some(Timestamp::from_micros(whole.checked_mul(1_000_000)?.checked_add(micros)?))
}

/// Reads a date as mails and HTTP headers give it (RFC 2822).
///
/// ```
/// use lamplighter::lister::mail_date;
/// let date = mail_date("Wed, 15 Jul 2020 14:03:29 +0100").unwrap();
/// assert_eq!(date.to_string(), "2020-07-15T13:03:29Z");
/// assert_eq!(mail_date("Tue, 24 Nov 2026 02:23:01 GMT").map(|d| d.as_seconds()), Some(1_795_486_981));
/// assert_eq!(mail_date("yesterday"), None);
/// ```
#[must_use]
pub fn mail_date(text: &str) -> Option<Timestamp> {
    let date = chrono::DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some(Timestamp::from(date.with_timezone(&chrono::Utc)))
}

/// Reads a date with a time, as databases write it: between them `T` or a space, an offset of hours
/// or none, which is UTC then.
pub(crate) fn utc_date(text: &str) -> Option<Timestamp> {
    let (date, time) = text.trim().split_once(['T', ' '])?;
    let (clock, offset) = time.split_at(time.find(['+', '-', 'Z', 'z']).unwrap_or(time.len()));
    let (offset, minutes) = match offset.len() {
        0 => ("Z", ""),
        3 => (offset, ":00"),
        _ => (offset, ""),
    };
    Timestamp::parse(&format!("{date}T{clock}{offset}{minutes}")).ok()
}

/// Reads a day, or a date with a time, without an offset in UTC.
#[cfg(feature = "compression")]
pub(crate) fn day_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    utc_date(text).or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z")).ok())
}

/// Writes a date as Software Heritage's listers do: an offset, and microseconds where there are any.
#[cfg(feature = "compression")]
pub(crate) fn iso_date(at: Timestamp) -> String {
    let date = at.to_datetime();
    let form = if at.as_micros() % 1_000_000 == 0 {
        "%Y-%m-%dT%H:%M:%S+00:00"
    } else {
        "%Y-%m-%dT%H:%M:%S%.6f+00:00"
    };
    date.format(form).to_string()
}

/// A key by which versions sort as people count: numbers in them by what they are worth. What differs in
/// anything has another key.
pub(crate) fn in_order(version: &str) -> String {
    let mut key = String::new();
    let mut rest = version;
    while let Some(first) = rest.chars().next() {
        let is_number = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        if is_number {
            let digits = piece.trim_start_matches('0');
            key.extend(std::iter::repeat_n('0', 12_usize.saturating_sub(digits.len())));
            key.push_str(digits);
        } else {
            key.push_str(piece);
        }
        rest = after;
    }
    format!("{key} {version}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Body;

    fn answer(body: &'static str) -> Response {
        Response::new(200, Url::parse("https://h/p").unwrap(), Body::from(body), Timestamp::EPOCH)
    }

    #[test]
    fn a_json_error_names_its_place() {
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code, reason = "only its shape matters")]
        struct Item {
            id: u64,
        }
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code, reason = "only its shape matters")]
        struct Answer {
            items: Vec<Item>,
        }
        let error = |body| answer(body).json::<Answer>().unwrap_err().to_string();
        assert!(error(r#"{"items":[{"id":1},{"id":"x"}]}"#).contains("items[1].id"));
        assert!(error("<html>down</html>").contains("no JSON"));
        assert!(error("<html>down</html>").contains("<html>down"));
        assert!(error(r#"{"items":[{"id":1}"#).contains("ends too early"));
        assert!(error("").contains("ends too early"));
        assert!(error(r#"{"items":[]} x"#).contains("more after the end"));
        assert!(answer(r#"{"items":[{"id":7}]}"#).json::<Answer>().is_ok());
    }

    #[test]
    fn json_behind_a_guard_is_read_as_without_it() {
        for body in [")]}'\n{\"a\":1}", " \n)]}'{\"a\":1}\n", "{\"a\":1}", "\n{\"a\":1}"] {
            assert_eq!(answer(body).guarded_json::<serde_json::Value>().unwrap()["a"], 1, "{body:?}");
        }
        for body in ["", ")]}'", ")]}'\n)]}'\n{}", ")]}\n{}", ")]}'\n{\"a\":1", "all option is disabled\n"] {
            let error = answer(body).guarded_json::<serde_json::Value>().unwrap_err();
            assert_eq!(error.kind(), ListerErrorKind::Parse, "{body:?}");
        }
        let error =
            answer(")]}'\n{\"a\":[1,\"x\"]}").guarded_json::<std::collections::BTreeMap<String, Vec<u8>>>();
        assert!(error.unwrap_err().to_string().contains("a[1]"));
        // It is no JSON where no guard is expected.
        assert!(answer(")]}'\n{}").json::<serde_json::Value>().is_err());
    }

    #[test]
    fn links_survive_commas_and_other_relations() {
        let r = answer("").with_header(
            "link",
            "<https://h/p?a=1,2>; rel=\"prev\"; title=\"x, y\", <https://h/p?a=3>; rel=\"last next\"",
        );
        assert_eq!(r.link("next").unwrap().unwrap().as_str(), "https://h/p?a=3");
        assert_eq!(r.link("prev").unwrap().unwrap().as_str(), "https://h/p?a=1,2");
        assert_eq!(r.link("first").unwrap(), None);
        assert_eq!(answer("").link("next").unwrap(), None);
    }

    #[test]
    fn links_in_quoted_text_are_none() {
        let next = "<https://h/p?a=3>; rel=next";
        for title in ["x, <https://h/no>; rel=next", "x; rel=next", "x, y; z"] {
            let prev = format!("<https://h/p?a=1>; title=\"{title}\"; rel=\"prev\"");
            for header in [format!("{prev}, {next}"), format!("{next}, {prev}")] {
                let r = answer("").with_header("link", &header);
                assert_eq!(r.link("next").unwrap().unwrap().as_str(), "https://h/p?a=3", "{header}");
                assert_eq!(r.link("prev").unwrap().unwrap().as_str(), "https://h/p?a=1", "{header}");
            }
            assert_eq!(answer("").with_header("link", &prev).link("next").unwrap(), None, "{prev}");
        }
    }

    #[test]
    fn a_broken_link_is_no_end_of_a_listing() {
        for header in ["<https://h/p?a=3", "<https://h:x/>; rel=next"] {
            let error = answer("").with_header("link", header).link("next").unwrap_err();
            assert!(error.to_string().contains("Link header"), "{header}: {error}");
        }
    }

    #[test]
    fn dates_of_databases_are_utc_where_they_say_no_offset() {
        let noon = Timestamp::parse("2022-08-15T12:00:00.5Z").unwrap();
        for text in [
            "2022-08-15 12:00:00.5",
            "2022-08-15T12:00:00.500000",
            "2022-08-15 12:00:00.5+00",
            "2022-08-15 14:00:00.5+02",
            "2022-08-15T12:00:00.5Z",
            " 2022-08-15T12:00:00.5+00:00 ",
            "2022-08-15 08:30:00.5-03:30",
        ] {
            assert_eq!(utc_date(text), Some(noon), "{text}");
        }
        for text in
            ["", "2022-08-15", "12:00:00", "2022-08-15 noon", "2022-08-15 12:00:00+x", "2022-08-32 12:00:00"]
        {
            assert_eq!(utc_date(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_are_read_with_and_without_a_fraction() {
        assert_eq!(seconds_date("0").unwrap(), Timestamp::EPOCH);
        assert_eq!(seconds_date("-1.5").unwrap().as_micros(), -1_500_000);
        assert_eq!(seconds_date("12x"), None);
        assert_eq!(seconds_date(""), None);
        assert_eq!(seconds_date("99999999999999999999"), None);
    }

    #[cfg(feature = "compression")]
    #[test]
    fn days_are_read_and_dates_are_written() {
        let day = day_date(" 2024-02-29 ").unwrap();
        assert_eq!(day.to_string(), "2024-02-29T00:00:00Z");
        assert_eq!(day_date("2024-02-29 01:02:03"), Some(day.plus(std::time::Duration::from_secs(3723))));
        assert_eq!(day_date("2024-02-30"), None);
        assert_eq!(day_date("yesterday"), None);
        assert_eq!(iso_date(day), "2024-02-29T00:00:00+00:00");
        assert_eq!(iso_date(Timestamp::from_micros(1_658_000)), "1970-01-01T00:00:01.658000+00:00");
    }

    #[test]
    fn versions_sort_as_people_count() {
        let mut versions = ["1.10", "1.9-2", "1.9", "1.9-10", "0.3.1", "01.9", "2", "1"];
        versions.sort_by_key(|v| in_order(v));
        assert_eq!(versions, ["0.3.1", "1", "01.9", "1.9", "1.9-2", "1.9-10", "1.10", "2"]);
        assert_ne!(in_order("1.0"), in_order("1.00"));
    }
}
