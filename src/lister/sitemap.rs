//! Sitemaps, as <https://www.sitemaps.org/protocol.html> has them: an index of sitemaps, and addresses with
//! the dates of their last changes.

use url::Url;

use super::ListerError;
use super::xml::{Step, Xml};
use crate::model::Timestamp;
use crate::transport::Response;

/// What a sitemap may hold: other sitemaps, or pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sitemap {
    /// An index of sitemaps.
    Index,
    /// A list of pages.
    Pages,
}

impl Sitemap {
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Index => ("the index of sitemaps", "sitemapindex", "sitemap"),
            Self::Pages => ("the sitemap", "urlset", "url"),
        }
    }
}

/// Reads each entry of a sitemap as a stream: its address, made absolute, or the text that is none; and its date as it
/// stands there.
///
/// # Errors
/// [`super::ListerErrorKind::Parse`] naming the place where it is no such sitemap, or is cut; what `entry` gives.
pub(crate) fn each_entry(
    kind: Sitemap,
    response: &Response,
    mut entry: impl FnMut(Result<Url, String>, Option<String>) -> Result<(), ListerError>,
) -> Result<(), ListerError> {
    let (what, root, element) = kind.names();
    let mut xml = Xml::new(what, response.body.reader(), root);
    let (mut depth, mut loc, mut lastmod) = (0_usize, None, None);
    while let Some(step) = xml.step()? {
        match step {
            Step::Open(_) => depth += 1,
            Step::Close(name, text) => {
                let text = text.trim();
                match (depth, name.as_str()) {
                    (3, "loc") => loc = Some(text.to_owned()),
                    (3, "lastmod") => lastmod = Some(text.to_owned()).filter(|t| !t.is_empty()),
                    (2, name) if name == element => {
                        let text: String =
                            loc.take().ok_or_else(|| xml.wrong(format_args!("a {element} without loc")))?;
                        entry(response.url.join(&text).map_err(|_| text), lastmod.take())?;
                    }
                    _ => {}
                }
                depth = depth.saturating_sub(1);
            }
        }
    }
    Ok(())
}

/// The date of an entry: a day is taken for its beginning, in UTC.
pub(crate) fn date(lastmod: &str) -> Option<Timestamp> {
    let day = is_day(lastmod).then(|| format!("{lastmod}T00:00:00Z"));
    Timestamp::parse(day.as_deref().unwrap_or(lastmod)).ok()
}

/// Whether what a date tells can no longer change behind it: a day has to be over everywhere, since what changes
/// later that day has the same date.
pub(crate) fn is_settled(lastmod: &str, now: Timestamp) -> bool {
    let Some(date) = date(lastmod) else { return false };
    let days = if is_day(lastmod) { 2 } else { 0 };
    date.as_seconds().saturating_add(days * 86_400) <= now.as_seconds()
}

fn is_day(lastmod: &str) -> bool {
    lastmod.len() == 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Body;

    fn read(kind: Sitemap, body: &str) -> Result<Vec<(String, Option<String>)>, ListerError> {
        let url = Url::parse("https://h.example/map/sitemap.xml").unwrap();
        let response = Response::new(200, url, Body::from(body.to_owned()), Timestamp::EPOCH);
        let mut found = Vec::new();
        each_entry(kind, &response, |loc, lastmod| {
            found.push((loc.map_or_else(|bad| format!("no URL: {bad}"), String::from), lastmod));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn entries_are_read_with_and_without_dates() {
        let index = "<sitemapindex xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\"><sitemap>\n<loc> https://h.example/a.xml?x=1&amp;y=2\n</loc>\
                     <lastmod>2021-03-18</lastmod></sitemap><sitemap><loc>/b.xml</loc><lastmod/></sitemap>\
                     <sitemap><loc>http://h:x/</loc></sitemap></sitemapindex>";
        let found = read(Sitemap::Index, index).unwrap();
        let of = |loc: &str, date: Option<&str>| (loc.to_owned(), date.map(str::to_owned));
        assert_eq!(
            found,
            [
                of("https://h.example/a.xml?x=1&y=2", Some("2021-03-18")),
                of("https://h.example/b.xml", None),
                of("no URL: http://h:x/", None),
            ]
        );
        assert_eq!(read(Sitemap::Pages, "<urlset/>").unwrap(), []);
    }

    #[test]
    fn what_is_no_sitemap_or_is_cut_is_an_error() {
        for (body, words) in [
            ("<urlset/>", "urlset"),
            ("<html><body/></html>", "html"),
            ("<sitemapindex><sitemap><loc>x</loc>", "sitemap"),
            ("<sitemapindex><sitemap><lastmod>2021-01-01</lastmod></sitemap></sitemapindex>", "without loc"),
            ("", "sitemap"),
        ] {
            let error = read(Sitemap::Index, body).unwrap_err().to_string();
            assert!(error.contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn a_day_is_settled_when_it_is_over_everywhere() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        assert!(!is_settled("2021-03-18", at("2021-03-18T23:00:00Z")));
        assert!(!is_settled("2021-03-18", at("2021-03-19T11:00:00Z")), "it is still that day in the west");
        assert!(is_settled("2021-03-18", at("2021-03-20T00:00:00Z")));
        assert!(is_settled("2021-03-18T10:00:00+02:00", at("2021-03-18T08:00:00Z")));
        assert!(!is_settled("yesterday", at("2021-03-18T08:00:00Z")));
        assert_eq!(date("2021-03-18").unwrap(), at("2021-03-18T00:00:00Z"));
        assert_eq!(date("2021-03-18T10:00:00+02:00").unwrap(), at("2021-03-18T08:00:00Z"));
        assert_eq!((date("2021-02-30"), date("")), (None, None));
    }
}
