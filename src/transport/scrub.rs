//! Replaces known secrets in what is written down.

use std::io::{self, Read, Write};

use secrecy::{ExposeSecret, SecretString};

/// The secrets to replace, each in every form in which a forge may send it back.
pub(crate) struct Scrub {
    /// What is looked for, and the number of its secret.
    needles: Vec<(Vec<u8>, usize)>,
}

impl Scrub {
    pub(crate) fn new(secrets: &[SecretString]) -> Self {
        let mut needles: Vec<(Vec<u8>, usize)> = Vec::new();
        for (number, secret) in secrets.iter().enumerate() {
            let plain = secret.expose_secret();
            let in_url: String = url::form_urlencoded::byte_serialize(plain.as_bytes()).collect();
            let in_json = serde_json::Value::from(plain).to_string();
            let in_json = in_json.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
            for form in [plain.to_owned(), in_url, in_json] {
                if !form.is_empty() && !needles.iter().any(|(n, _)| n == form.as_bytes()) {
                    needles.push((form.into_bytes(), number + 1));
                }
            }
        }
        // Of two that begin at the same place the longer one is meant.
        needles.sort_by_key(|(needle, _)| std::cmp::Reverse(needle.len()));
        Self { needles }
    }

    /// A text without the secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut clean = Vec::with_capacity(text.len());
        match self.copy(&mut text.as_bytes(), &mut clean) {
            Ok(()) => String::from_utf8_lossy(&clean).into_owned(),
            // Memory does not fail to be read; were it so, nothing is better than a secret.
            Err(_) => String::new(),
        }
    }

    /// Copies a stream without the secrets, holding only a piece of it at a time.
    pub(crate) fn copy(&self, from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
        let Some((longest, _)) = self.needles.first() else {
            io::copy(from, to)?;
            return to.flush();
        };
        let keep = longest.len() - 1;
        let mut window: Vec<u8> = Vec::new();
        loop {
            let read = Read::take(&mut *from, 64 << 10).read_to_end(&mut window)?;
            let at_end = read == 0;
            // A needle that begins before `safe` lies in the window as a whole.
            let safe = if at_end { window.len() } else { window.len().saturating_sub(keep) };
            let done = self.replace(&window, safe, to)?;
            window.drain(..done);
            if at_end {
                return to.flush();
            }
        }
    }

    /// Writes the window up to `safe`, and all of a needle that begins before it. Says how far it
    /// came.
    fn replace(&self, window: &[u8], safe: usize, to: &mut dyn Write) -> io::Result<usize> {
        let mut done = 0;
        while done < safe {
            let rest = window.get(done..).unwrap_or_default();
            let next = self
                .needles
                .iter()
                .filter_map(|(needle, number)| {
                    let at = rest.windows(needle.len()).position(|w| w == needle.as_slice())?;
                    (done + at < safe).then_some((at, needle.len(), *number))
                })
                .min_by_key(|(at, len, _)| (*at, std::cmp::Reverse(*len)));
            let Some((at, len, number)) = next else {
                to.write_all(window.get(done..safe).unwrap_or_default())?;
                return Ok(safe);
            };
            to.write_all(rest.get(..at).unwrap_or_default())?;
            write!(to, "redacted-{number}")?;
            done += at + len;
        }
        Ok(done)
    }
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
        Scrub::new(&secrets.iter().map(|s| SecretString::from(*s)).collect::<Vec<_>>())
    }

    #[test]
    fn every_form_of_a_secret_is_replaced() {
        let scrub = scrub(&["s3/cr\"t", "other"]);
        let text = r#"a s3/cr"t b=s3%2Fcr%22t "s3/cr\"t" another"#;
        assert_eq!(scrub.text(text), r#"a redacted-1 b=redacted-1 "redacted-1" anredacted-2"#);
        assert_eq!(scrub.text("s3/cr"), "s3/cr");
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
            let mut clean = Vec::new();
            scrub(&["SECRET"]).copy(&mut Slow(&body, 1000), &mut clean).unwrap();
            let text = String::from_utf8(clean).unwrap();
            assert!(!text.contains("SECRET"));
            assert_eq!(text.matches("redacted-1").count(), 2);
            assert_eq!(text.replace("redacted-1", "SECRET").as_bytes(), body);
        }
    }

    #[test]
    fn without_secrets_nothing_changes() {
        assert_eq!(scrub(&[""]).text("as it was"), "as it was");
    }
}
