//! What listers of web pages share: links, and which of a repository's addresses to clone from.

use url::Url;

#[cfg(feature = "html")]
use super::same_host;
#[cfg(all(feature = "html", feature = "xml"))]
use super::under;
#[cfg(feature = "html")]
use crate::lister::ListerError;
#[cfg(feature = "html")]
use crate::lister::html::{HtmlPage, selector};
use crate::model::check_origin_url;
#[cfg(feature = "html")]
use crate::transport::{Request, Response};

/// The link that anybody can clone from, the safest first.
pub(super) fn best_clone(urls: &[String]) -> Option<&str> {
    let scheme = |wanted: &str| {
        let mut fit = urls.iter().filter(|u| Url::parse(u).is_ok_and(|u| u.scheme() == wanted));
        fit.find(|u| check_origin_url(u).is_ok())
    };
    scheme("https")
        .or_else(|| scheme("http"))
        .or_else(|| urls.iter().find(|u| check_origin_url(u).is_ok()))
        .map(String::as_str)
}

/// Asks for a page of the site at `base`, or of one that it leads to: only the former's address is
/// what was configured.
#[cfg(feature = "html")]
pub(super) fn get(url: &Url, base: &Url, accept: &'static str) -> Request {
    let request = Request::get(url.clone()).with_header("accept", accept);
    if url.scheme() == base.scheme() && same_host(url, base) { request.configured() } else { request }
}

/// Whether a link of a page stays on the site at `base`, or where that answered from.
#[cfg(feature = "html")]
pub(super) fn is_of_site(url: &Url, page: &Response, base: &Url) -> bool {
    same_host(url, &page.url) || same_host(url, base)
}

/// What the links of a page are relative to, where it may say so itself.
#[cfg(feature = "html")]
pub(super) fn base_of(html: &HtmlPage, url: &Url) -> Result<Url, ListerError> {
    let selector = selector("base[href]")?;
    let base = html.all(&selector).find_map(|base| base.attr("href"));
    Ok(base.and_then(|href| url.join(href).ok()).unwrap_or_else(|| url.clone()))
}

/// A link made absolute, as pages are told apart: without a fragment or slashes at its end.
#[cfg(feature = "html")]
pub(super) fn web_url(base: &Url, href: &str) -> Option<Url> {
    let mut url = base.join(href.trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

/// A name as it stands in an address: what means something there is escaped.
#[cfg(all(feature = "html", feature = "xml"))]
pub(super) fn encoded(name: &str) -> String {
    let Ok(root) = Url::parse("x://h") else { return String::new() };
    let url = under(&root, &name.split('/').collect::<Vec<_>>());
    url.path().trim_start_matches('/').to_owned()
}
