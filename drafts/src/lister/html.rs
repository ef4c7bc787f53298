//! Small HTML tools for listers that read pages.

use scraper::{ElementRef, Html, Selector};

use super::{ListerError, read::io};
use crate::transport::Response;

/// Larger pages are refused: ten thousand repositories on one page are some 5 MB.
const LARGEST: u64 = 32 << 20;

/// How deep elements may lie in one another. Real pages stay under fifty; the parser's time grows
/// with the square of the depth, so that a small page of a million `<b>` would stop a run.
const DEEPEST: usize = 512;

/// A parsed page.
pub(crate) struct HtmlPage {
    /// The tree. What is no HTML at all gives one with nearly nothing in it.
    pub(crate) tree: Html,
    /// Whether the text goes on to `</html>`. A parser closes what was left open, so the tree alone
    /// does not tell a cut page from a whole one.
    pub(crate) ended: bool,
    /// How long it is, in bytes.
    pub(crate) len: usize,
}

impl HtmlPage {
    /// Reads an answer as HTML.
    ///
    /// # Errors
    /// [`super::ListerErrorKind::Parse`] when it is larger or deeper than any real page,
    /// [`super::ListerErrorKind::Io`] when a spooled body cannot be read.
    pub(crate) fn read(response: &Response) -> Result<Self, ListerError> {
        let len = response.body.len();
        if len > LARGEST {
            return Err(ListerError::parse(format!("a page of {len} bytes, over {LARGEST}")));
        }
        let bytes = response.body.bytes().map_err(io)?;
        let text = String::from_utf8_lossy(&bytes);
        if open_elements(&text) > DEEPEST {
            return Err(ListerError::parse(format!("more than {DEEPEST} elements in one another")));
        }
        let ended = text.as_bytes().windows(7).rev().any(|w| w.eq_ignore_ascii_case(b"</html>"));
        Ok(Self { tree: Html::parse_document(&text), ended, len: bytes.len() })
    }

    /// The elements that a selector finds, in the page's order.
    pub(crate) fn all<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = ElementRef<'a>> {
        self.tree.select(selector)
    }

    /// The first element that a selector finds.
    pub(crate) fn first<'a>(&'a self, selector: &'a Selector) -> Option<ElementRef<'a>> {
        self.tree.select(selector).next()
    }

    /// What the page calls itself, for an error.
    pub(crate) fn called(&self) -> String {
        let title = selector("title").ok().and_then(|s| self.tree.select(&s).next().map(|e| text(&e)));
        match title.filter(|t| !t.is_empty()) {
            Some(title) => format!("the page {title:?}"),
            None => format!("a page of {} bytes without a title", self.len),
        }
    }
}
