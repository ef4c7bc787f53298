//! Small HTML tools for listers that read pages.

use scraper::{ElementRef, Html, Selector};

use super::ListerError;
use crate::transport::Response;

/// Larger pages are refused: ten thousand repositories on one page are some 5 MB.
const LARGEST: u64 = 16 << 20;

/// How deep elements may lie in one another. Real pages stay under fifty; the parser's time grows
/// with length times depth (a minute for a megabyte of `<div>`), and a page must not stop a run.
const DEEPEST: usize = 512;

/// A parsed page.
pub(crate) struct HtmlPage {
    tree: Html,
    /// Whether one of the texts is in it that a whole page has near its end. The parser closes what
    /// was left open, so its tree does not tell a cut page from a whole one.
    pub(crate) ended: bool,
    ends: &'static [&'static str],
    len: usize,
}

impl HtmlPage {
    /// Reads an answer as HTML. What is no HTML gives a page with nearly nothing in it.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Parse`] when it is longer or deeper than any real page,
    /// [`super::ListerErrorKind::Io`] when a spooled body cannot be read.
    pub(crate) fn read(response: &Response, ends: &'static [&'static str]) -> Result<Self, ListerError> {
        let len = response.body.len();
        if len > LARGEST {
            return Err(ListerError::parse(format!("a page of {len} bytes, over {LARGEST}")));
        }
        let text = response.text()?;
        if is_deep(&text) {
            return Err(ListerError::parse(format!("a page with over {DEEPEST} elements in one another")));
        }
        let ended = ends.iter().any(|end| contains(&text, end));
        Ok(Self { tree: Html::parse_document(&text), ended, ends, len: text.len() })
    }

    /// A page that may have been cut is no end of anything.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Parse`] naming `what` it is, where it has none of its ends.
    pub(crate) fn check_whole(&self, what: &str) -> Result<(), ListerError> {
        if self.ended {
            return Ok(());
        }
        let missing = match self.ends {
            [end] => format!("no {end}"),
            ends => format!("neither {}", ends.join(" nor ")),
        };
        Err(ListerError::parse(format!("{what} is cut: {missing} in {}", self.called())))
    }

    /// The elements that a selector finds, in the page's order.
    pub(crate) fn all<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = ElementRef<'a>> {
        self.tree.select(selector)
    }

    /// Whether a selector finds something.
    pub(crate) fn has(&self, selector: &Selector) -> bool {
        self.tree.select(selector).next().is_some()
    }

    /// What the page calls itself, for an error.
    pub(crate) fn called(&self) -> String {
        let title = selector("title").ok().and_then(|s| self.tree.select(&s).next().map(text));
        match title.filter(|t| !t.is_empty()) {
            Some(title) => format!("the page {:?}", title.chars().take(80).collect::<String>()),
            None => format!("a page of {} bytes without a title", self.len),
        }
    }
}

/// A CSS selector.
///
/// # Errors
/// [`super::ListerErrorKind::Parse`] where it is no selector: a slip in a lister, found by its first test.
pub(crate) fn selector(css: &str) -> Result<Selector, ListerError> {
    Selector::parse(css).map_err(|e| ListerError::parse(format!("the selector {css:?}: {e:?}")))
}

/// An element's text, its white space folded.
pub(crate) fn text(element: ElementRef<'_>) -> String {
    let words: Vec<&str> = element.text().flat_map(str::split_whitespace).collect();
    words.join(" ")
}

fn contains(text: &str, part: &str) -> bool {
    text.as_bytes().windows(part.len()).any(|w| w.eq_ignore_ascii_case(part.as_bytes()))
}

/// Elements that never hold others, or that the next of their kind closes: they add no depth.
const FLAT: [&str; 27] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr", "caption", "colgroup", "dd", "dt", "li", "option", "p", "tbody", "td", "tfoot", "th", "thead",
    "tr",
];

/// Whether elements lie deeper in one another than in any real page, by the tags alone: before the
/// parser sees them.
fn is_deep(text: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    for tag in text.split('<').skip(1) {
        let (closes, rest) = tag.strip_prefix('/').map_or((false, tag), |rest| (true, rest));
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (name, _) = rest.split_at(end);
        let flat = FLAT.iter().any(|f| f.eq_ignore_ascii_case(name));
        if flat || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        if !closes {
            open.push(name);
        } else if let Some(at) = open.iter().rposition(|o| o.eq_ignore_ascii_case(name)) {
            // A tag in a table does not close what is around the table.
            let inside = open.get(at + 1..).unwrap_or_default();
            if !inside.iter().any(|o| o.eq_ignore_ascii_case("table")) {
                open.truncate(at);
            }
        }
        if open.len() > DEEPEST {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lister::ListerErrorKind;
    use crate::model::Timestamp;
    use crate::transport::Body;

    fn read(body: String) -> Result<HtmlPage, ListerError> {
        let url = url::Url::parse("https://h/").unwrap();
        HtmlPage::read(&Response::new(200, url, Body::from(body), Timestamp::EPOCH), &["</html>"])
    }

    #[test]
    fn a_page_deeper_than_any_real_one_is_refused_before_it_is_parsed() {
        for piece in ["<div>", "<DIV></b>", "<table><tr><td>", "<div><table><td></div>", "<p><div>"] {
            let error = read(piece.repeat(20_000)).err().map(|e| e.kind());
            assert_eq!(error, Some(ListerErrorKind::Parse), "{piece}");
        }
        // Long is not deep.
        for piece in ["<div></div>", "<p>", "<br>", "<tr><td>x", "<b><i></b></i>", "1 < 2 ", "</div>"] {
            assert!(read(piece.repeat(2_000)).is_ok(), "{piece}");
        }
        assert!(read("x".repeat(17 << 20)).is_err());
    }

    #[test]
    fn a_whole_page_has_its_end_and_a_cut_one_has_not() {
        let page = read("<title> a\n b</title><p>x</p></HTML>\n".into()).unwrap();
        assert!(page.ended);
        assert_eq!(page.called(), "the page \"a b\"");
        let page = read("<p>x</p></htm".into()).unwrap();
        assert!(!page.ended);
        assert_eq!(page.called(), "a page of 13 bytes without a title");
    }
}
