//! Replaces known secrets in what is kept.

use std::io::{self, Read, Write};

use super::base64::inside;

/// The secrets to replace, each in every form in which a forge may send it back.
pub(crate) struct Scrub {
    /// What is looked for, the longest first, and what it becomes.
    needles: Vec<(Vec<u8>, String)>,
    /// Which bytes one of them begins with.
    begins: [bool; 256],
}

impl Scrub {
    /// Replaces each secret by its mark. An empty secret is none.
    pub(crate) fn new<'s>(secrets: impl IntoIterator<Item = (&'s str, String)>) -> Self {
        let mut needles: Vec<(Vec<u8>, String)> = Vec::new();
        for (secret, mark) in secrets {
            for form in forms(secret) {
                if !form.is_empty() && !needles.iter().any(|(n, _)| n == form.as_bytes()) {
                    needles.push((form.into_bytes(), mark.clone()));
                }
            }
        }
        // Of two that begin at the same place the longer one is meant.
        needles.sort_by_key(|(needle, _)| std::cmp::Reverse(needle.len()));
        let mut begins = [false; 256];
        for first in needles.iter().filter_map(|(needle, _)| needle.first()) {
            if let Some(begins) = begins.get_mut(usize::from(*first)) {
                *begins = true;
            }
        }
        Self { needles, begins }
    }

    /// Whether there is nothing to look for.
    #[cfg(any(test, feature = "reqwest"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// A text without the secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned()
    }

    /// Bytes without the secrets.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        self.replace(bytes, bytes.len(), &mut clean);
        clean
    }

    /// Copies a stream without the secrets, holding only a piece of it at a time.
    pub(crate) fn copy(&self, from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
        let mut window = Window::new(self);
        let (mut piece, mut clean) = (vec![0; 64 << 10], Vec::new());
        loop {
            let read = match from.read(&mut piece) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if read == 0 {
                window.end(&mut clean);
            } else {
                window.push(piece.get(..read).unwrap_or_default(), &mut clean);
            }
            to.write_all(&clean)?;
            clean.clear();
            if read == 0 {
                return to.flush();
            }
        }
    }

    /// Puts out the window up to `safe`, and all of a needle that begins before it. Says how far it
    /// came.
    fn replace(&self, window: &[u8], safe: usize, to: &mut Vec<u8>) -> usize {
        let mut put = 0;
        let mut at = 0;
        while at < safe {
            let rest = window.get(at..).unwrap_or_default();
            let next = rest.iter().take(safe - at).position(|b| self.may_begin(*b));
            let Some(next) = next else { break };
            at += next;
            let rest = rest.get(next..).unwrap_or_default();
            match self.needles.iter().find(|(needle, _)| rest.starts_with(needle)) {
                Some((needle, mark)) => {
                    to.extend_from_slice(window.get(put..at).unwrap_or_default());
                    to.extend_from_slice(mark.as_bytes());
                    at += needle.len();
                    put = at;
                }
                None => at += 1,
            }
        }
        let end = put.max(safe);
        to.extend_from_slice(window.get(put..end).unwrap_or_default());
        end
    }

    fn may_begin(&self, byte: u8) -> bool {
        self.begins.get(usize::from(byte)).copied().unwrap_or_default()
    }
}

/// A stream on its way through a [`Scrub`], piece by piece.
pub(crate) struct Window<S> {
    scrub: S,
    held: Vec<u8>,
}

impl<S: std::borrow::Borrow<Scrub>> Window<S> {
    pub(crate) fn new(scrub: S) -> Self {
        Self { scrub, held: Vec::new() }
    }

    /// Takes a piece in, and puts out what is sure to hold no beginning of a secret.
    pub(crate) fn push(&mut self, piece: &[u8], to: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        let scrub = self.scrub.borrow();
        let longest = scrub.needles.first().map_or(1, |(needle, _)| needle.len());
        // A needle that begins before `safe` lies in what is held as a whole.
        let safe = (self.held.len() + 1).saturating_sub(longest);
        let done = scrub.replace(&self.held, safe, to);
        self.held.drain(..done);
    }

    /// Puts out the rest.
    pub(crate) fn end(&mut self, to: &mut Vec<u8>) {
        self.scrub.borrow().replace(&self.held, self.held.len(), to);
        self.held.clear();
    }
}

/// A secret as it may be written: plain, in a URL, in JSON, in HTML, in base64.
fn forms(secret: &str) -> Vec<String> {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let in_url = encoded(secret);
    let in_json = serde_json::Value::from(secret).to_string();
    let in_json = in_json.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
    let in_html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut forms = vec![
        secret.to_owned(),
        // In a query that is a parameter of another one, as of a page to log in.
        encoded(&in_url),
        small_hex(&in_url),
        in_url.replace('+', "%20"),
        small_hex(&in_url.replace('+', "%20")),
        in_url,
        in_json.replace('/', "\\/"),
        in_json,
        in_html.replace('"', "&quot;").replace('\'', "&#39;"),
        in_html.replace('"', "&#34;").replace('\'', "&#x27;"),
        in_html,
    ];
    for piece in inside(secret.as_bytes()) {
        forms.push(encoded(&piece));
        forms.push(piece);
    }
    forms
}

/// Percent-encoding with small letters.
fn small_hex(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        let (hex, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        format!("{text}%{}{rest}", hex.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time, so that a secret is cut at every place.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(into.len());
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn scrub(secrets: &[&str]) -> Scrub {
        Scrub::new(secrets.iter().enumerate().map(|(n, s)| (*s, format!("redacted-{}", n + 1))))
    }

    #[test]
    fn every_form_of_a_secret_is_replaced() {
        let scrub = scrub(&["s3/cr\"t &é", "other"]);
        for written in [
            "s3/cr\"t &é",
            "s3%2Fcr%22t+%26%C3%A9",
            "s3%2fcr%22t+%26%c3%a9",
            "s3%2Fcr%22t%20%26%C3%A9",
            "s3%2fcr%22t%20%26%c3%a9",
            "s3%252Fcr%2522t%2B%2526%25C3%25A9",
            r#"s3/cr\"t &é"#,
            r#"s3\/cr\"t &é"#,
            "s3/cr&quot;t &amp;é",
            "s3/cr&#34;t &amp;é",
            "s3/cr\"t &amp;é",
        ] {
            assert_eq!(scrub.text(&format!("a {written} b")), "a redacted-1 b", "{written}");
        }
        assert_eq!(scrub.text("another s3/cr"), "anredacted-2 s3/cr");
    }

    /// As a forge repeats `Authorization: Basic`, whoever the user is; encoded by another program.
    #[test]
    fn a_secret_in_base64_is_replaced() {
        let scrub = scrub(&["gh0st+t0ken/\u{e9}"]);
        for (written, left) in [
            // `ann:`, `anna:`, `annas:` and the secret.
            ("YW5uOmdoMHN0K3Qwa2VuL8Op", 6),
            ("YW5uYTpnaDBzdCt0MGtlbi/DqQ==", 11),
            ("YW5uYXM6Z2gwc3QrdDBrZW4vw6k=", 11),
            // `annas:…` percent-encoded.
            ("YW5uYTpnaDBzdCt0MGtlbi%2FDqQ%3D%3D", 17),
            // `anna:…` for URLs.
            ("YW5uYTpnaDBzdCt0MGtlbi_DqQ", 9),
        ] {
            let text = scrub.text(&format!("\"{written}\""));
            assert!(text.contains("redacted-1"), "{written}: {text}");
            assert!(text.len() - "redacted-1".len() - 2 <= left, "{written}: {text}");
        }
    }

    #[test]
    fn the_longer_of_two_secrets_wins() {
        assert_eq!(scrub(&["tok", "token-1"]).text("x=token-1&y=tok"), "x=redacted-2&y=redacted-1");
    }

    #[test]
    fn a_secret_over_the_border_of_two_pieces_is_found() {
        let piece = 64 << 10;
        for shift in 0..8 {
            let mut body = vec![b'.'; piece - shift];
            body.extend_from_slice(b"SECRET");
            body.extend(std::iter::repeat_n(b'.', piece));
            body.extend_from_slice(b"SECRET");
            for at_once in [1000, 3, piece] {
                let mut clean = Vec::new();
                scrub(&["SECRET"]).copy(&mut Slow(&body, at_once), &mut clean).unwrap();
                let text = String::from_utf8(clean).unwrap();
                assert!(!text.contains("SECRET"));
                assert_eq!(text.matches("redacted-1").count(), 2);
                assert_eq!(text.replace("redacted-1", "SECRET").as_bytes(), body);
            }
        }
    }

    #[test]
    fn without_secrets_nothing_changes() {
        let none = scrub(&[""]);
        assert!(none.is_empty());
        assert_eq!(none.text("as it was"), "as it was");
        let mut copied = Vec::new();
        none.copy(&mut Slow(b"as it was", 2), &mut copied).unwrap();
        assert_eq!(copied, b"as it was");
    }
}
