//! Bot walls: pages that stand before a forge and want a browser to prove itself.

use http::{HeaderMap, StatusCode, header};

/// How much of a body is looked at: such a page says early what it is.
pub(crate) const PREFIX: usize = 16 << 10;

/// A kind of wall.
struct Wall {
    /// What to call it.
    name: &'static str,
    /// A header that only it sends, and how its value begins.
    header: Option<(&'static str, &'static str)>,
    /// What its page is called: how the text of `<title>` begins, in small letters.
    titles: &'static [&'static str],
    /// Markup that only its page has. It cannot be in a text that is quoted in another page, as it
    /// would be escaped there.
    markup: &'static [&'static str],
}

const WALLS: [Wall; 8] = [
    Wall {
        name: "Anubis",
        header: None,
        titles: &["making sure you're not a bot"],
        markup: &[
            "<script id=\"anubis_challenge\"",
            "<script async type=\"module\" src=\"/.within.website/x/cmd/anubis/",
        ],
    },
    Wall {
        name: "Cloudflare",
        header: Some(("cf-mitigated", "challenge")),
        titles: &["just a moment...", "attention required! | cloudflare"],
        markup: &["<form id=\"challenge-form\"", "<div id=\"cf-challenge"],
    },
    Wall { name: "AWS WAF", header: Some(("x-amzn-waf-action", "c")), titles: &[], markup: &[] },
    Wall {
        name: "DDoS-Guard",
        header: None,
        titles: &["ddos-guard"],
        markup: &["<script src=\"/.well-known/ddos-guard/"],
    },
    Wall { name: "Sucuri", header: None, titles: &["you are being redirected..."], markup: &[] },
    Wall {
        name: "Imperva",
        header: None,
        titles: &[],
        markup: &["<iframe id=\"main-iframe\" src=\"/_incapsula_resource"],
    },
    Wall {
        name: "go-away",
        header: None,
        titles: &[],
        markup: &["<script async type=\"module\" src=\"/.well-known/.git.gammaspectra.live/git/go-away/"],
    },
    // Whoever it is: what such pages have said for ten years.
    Wall {
        name: "a challenge page",
        header: None,
        titles: &[
            "checking your browser",
            "verifying you are human",
            "verify you are human",
            "one moment, please",
            "are you a robot",
            "bot verification",
            "human verification",
        ],
        markup: &["<h1>checking your browser before accessing"],
    },
];

/// The name of the bot wall that gave an answer, where one did: read from its headers and the
/// beginning of its body, whatever its status.
///
/// Such an answer may well be a 200. Taken for the forge's it would be a page with nothing on it,
/// and a listing that ends there would look complete.
///
/// ```
/// use lamplighter::transport::challenge;
/// let (ok, none) = (http::StatusCode::OK, http::HeaderMap::new());
/// let page = b"<!doctype html><html><head><title>Making sure you&#39;re not a bot!</title>";
/// assert_eq!(challenge(ok, &none, page), Some("Anubis"));
/// assert_eq!(challenge(ok, &none, b"<!doctype html><title>Index of /pub</title>"), None);
/// ```
#[must_use]
pub fn challenge(status: StatusCode, headers: &HeaderMap, prefix: &[u8]) -> Option<&'static str> {
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return None;
    }
    let has = |(name, value): (&str, &str)| {
        let sent = headers.get(name).and_then(|v| v.to_str().ok());
        sent.is_some_and(|sent| sent.trim().to_ascii_lowercase().starts_with(value))
    };
    if let Some(wall) = WALLS.iter().find(|wall| wall.header.is_some_and(has)) {
        return Some(wall.name);
    }
    let page = page(headers, prefix)?;
    let title = title(&page).unwrap_or_default();
    let is = |wall: &&Wall| {
        wall.titles.iter().any(|known| title.starts_with(known))
            || wall.markup.iter().any(|known| page.contains(known))
    };
    WALLS.iter().find(is).map(|wall| wall.name)
}

/// The beginning of an HTML page in small letters, its white space made one; none for anything else.
fn page(headers: &HeaderMap, prefix: &[u8]) -> Option<String> {
    let prefix = prefix.get(..PREFIX).unwrap_or(prefix);
    let said = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let said_html = said.is_none_or(|kind| kind.contains("html"));
    if !said_html || !prefix.trim_ascii_start().starts_with(b"<") {
        return None;
    }
    let text = String::from_utf8_lossy(prefix).to_ascii_lowercase();
    Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

fn title(page: &str) -> Option<String> {
    let (_, after) = page.split_once("<title")?;
    let (_, text) = after.split_once('>')?;
    let (text, _) = text.split_once("</title")?;
    let plain = ["&#39;", "&#x27;", "&apos;", "\u{2019}"]
        .iter()
        .fold(text.trim().to_owned(), |t, e| t.replace(e, "'"));
    Some(plain.replace('\u{2026}', "..."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, headers: &[(&str, &str)], body: &str) -> Option<&'static str> {
        let headers = headers
            .iter()
            .map(|(n, v)| (n.parse::<http::HeaderName>().unwrap(), v.parse().unwrap()))
            .collect();
        challenge(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    const HTML: [(&str, &str); 1] = [("content-type", "text/html; charset=utf-8")];

    #[test]
    fn walls_are_known_by_what_only_they_send() {
        for (status, headers, body, name) in [
            (
                200,
                &HTML[..],
                "<!doctype html><html lang=\"en\"><head><title>Making sure you&#39;re not a bot!</title>",
                "Anubis",
            ),
            (
                200,
                &HTML,
                "<html><body><script id=\"anubis_challenge\" type=\"application/json\">{}</script>",
                "Anubis",
            ),
            (200, &[], " \n<html><head><title>\n  Making sure you\u{2019}re not\n a bot!</title>", "Anubis"),
            (403, &[("cf-mitigated", "challenge")], "", "Cloudflare"),
            (503, &HTML, "<!DOCTYPE html><html><head><title>Just a moment...</title>", "Cloudflare"),
            (403, &HTML, "<html><head><title>Just a moment\u{2026}</title>", "Cloudflare"),
            (202, &[("x-amzn-waf-action", "challenge")], "", "AWS WAF"),
            (405, &[("x-amzn-waf-action", "captcha")], "", "AWS WAF"),
            (403, &HTML, "<html><head><title>DDoS-Guard</title></head>", "DDoS-Guard"),
            (
                200,
                &HTML,
                "<html><title>You are being redirected...</title><noscript>Javascript is required",
                "Sucuri",
            ),
            (
                200,
                &HTML,
                "<html><body><iframe id=\"main-iframe\" src=\"/_Incapsula_Resource?CWUDNSAI=9\"",
                "Imperva",
            ),
            (200, &HTML, "<html><head><title>Checking your browser - forge</title>", "a challenge page"),
            (
                503,
                &HTML,
                "<html><body><h1>Checking your browser before accessing forge.example",
                "a challenge page",
            ),
        ] {
            assert_eq!(of(status, headers, body), Some(name), "{body}");
        }
    }

    #[test]
    fn what_speaks_of_walls_is_none() {
        for (status, headers, body) in [
            // A list of repositories, one of which is about them.
            (
                200,
                &HTML[..],
                "<html><head><title>Git repositories</title></head><td>Making sure you're not a bot! Just a moment...</td>",
            ),
            (200, &HTML, "<html><title>anubis</title><pre>&lt;script id=\"anubis_challenge\"</pre>"),
            (200, &[("content-type", "application/json")], "<title>Just a moment...</title>"),
            (200, &[], "{\"title\": \"<title>Just a moment...</title>\"}"),
            (200, &HTML, "<html><head><title>Trust a moment...</title>"),
            // What Cloudflare puts into pages that it lets through.
            (
                200,
                &HTML,
                "<html><title>cgit</title><script src=\"/cdn-cgi/challenge-platform/scripts/jsd/main.js\">",
            ),
            (200, &[("cf-mitigated", "none"), ("server", "cloudflare")], "<html><title>cgit</title>"),
            (304, &[("cf-mitigated", "challenge")], ""),
            (403, &HTML, "<html><head><title>403 Forbidden</title>"),
            (200, &HTML, ""),
        ] {
            assert_eq!(of(status, headers, body), None, "{body}");
        }
    }

    #[test]
    fn a_title_far_down_is_not_looked_for() {
        let far = format!("<html>{}<title>Just a moment...</title>", " ".repeat(PREFIX));
        assert_eq!(of(200, &HTML, &far), None);
        let near = format!("<html>{}<title>Just a moment...</title>", " ".repeat(PREFIX - 60));
        assert_eq!(of(200, &HTML, &near), Some("Cloudflare"));
    }
}
