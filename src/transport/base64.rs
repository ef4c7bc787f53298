//! Base64, as far as secrets need it: what `Authorization: Basic` has, and how to find a secret in it.

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;

/// A piece of base64 that is shorter than this is found in any text.
const SHORTEST: usize = 8;

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What base64 has of these bytes wherever they are in a longer text, in both alphabets: those
/// letters that the bytes before and after have no part in.
pub(crate) fn inside(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for before in 0..3 {
        let whole = base64(&[&vec![0; before], bytes].concat());
        let first = (before * 8).div_ceil(6);
        let end = (before + bytes.len()) * 8 / 6;
        let piece = whole.get(first..end).unwrap_or_default();
        if piece.len() >= SHORTEST {
            let for_urls = piece.replace('+', "-").replace('/', "_");
            if for_urls != piece {
                found.push(for_urls);
            }
            found.push(piece.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            // RFC 7617, section 2.
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn a_short_one_is_not_looked_for() {
        assert_eq!(inside(b"foo"), [""; 0]);
        assert_eq!(inside(b"foobar"), ["Zm9vYmFy"], "eight letters, at one of three places");
    }

    proptest! {
        #[test]
        fn bytes_are_found_wherever_they_are(
            before in proptest::collection::vec(any::<u8>(), 0..9),
            bytes in proptest::collection::vec(any::<u8>(), 8..30),
            after in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let text = base64(&[&before[..], &bytes, &after].concat());
            let for_urls = text.replace('+', "-").replace('/', "_");
            let pieces = inside(&bytes);
            prop_assert!(pieces.iter().any(|piece| text.contains(piece)));
            prop_assert!(pieces.iter().any(|piece| for_urls.contains(piece)));
            // Little of the bytes is left beside what is found.
            let longest = pieces.iter().filter(|p| text.contains(*p)).map(String::len).max().unwrap();
            prop_assert!(longest * 6 > bytes.len() * 8 - 12);
        }
    }
}
