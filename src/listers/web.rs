//! What listers of web pages share: links, and which of a repository's addresses to clone from.

use url::Url;

use crate::model::check_origin_url;

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

/// A link made absolute, as pages are told apart: without a fragment or slashes at its end.
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
