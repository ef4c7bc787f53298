//! Hashes of sources as Nix and Guix write them.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::model::hex;

/// With padding or without it, as people write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The digits of Nix, which leaves out what looks like another one or makes words.
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Algorithms, and the bytes of their hashes.
const ALGORITHMS: [(&str, usize); 4] = [("md5", 16), ("sha1", 20), ("sha256", 32), ("sha512", 64)];

/// The algorithm of a hash and its bytes in hexadecimal: of `sha256-…` (base64), `sha256:…`, or of a bare
/// one whose algorithm is said beside it.
pub(super) fn read(text: &str, beside: Option<&str>) -> Result<(&'static str, String), String> {
    let wrong = || format!("{:?} is no hash", text.chars().take(100).collect::<String>());
    // Of several the first; what follows a question mark is for nobody.
    let first = text.split_whitespace().next().unwrap_or_default();
    let first = first.split('?').next().unwrap_or_default();
    let (name, digits) = match first.split_once(['-', ':']) {
        Some(said) => said,
        None => (beside.ok_or_else(wrong)?, first),
    };
    let (name, bytes) = ALGORITHMS.into_iter().find(|(known, _)| *known == name).ok_or_else(wrong)?;
    let found = if digits.len() == bytes * 2 {
        from_hex(digits)
    } else if digits.len() == (bytes * 8).div_ceil(5) {
        from_base32(digits, bytes)
    } else {
        BASE64.decode(digits).ok()
    };
    found.filter(|found| found.len() == bytes).map(|found| (name, hex(&found))).ok_or_else(wrong)
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(value(*high)? * 16 + value(*low)?).ok(),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

/// The last digit has the first five bits.
fn from_base32(digits: &str, bytes: usize) -> Option<Vec<u8>> {
    let mut found = vec![0_u8; bytes];
    for (n, digit) in digits.bytes().rev().enumerate() {
        let value = u16::try_from(DIGITS.iter().position(|d| *d == digit)?).ok()?;
        let (at, shift) = (n * 5 / 8, n * 5 % 8);
        let [low, high] = (value << shift).to_le_bytes();
        *found.get_mut(at)? |= low;
        match found.get_mut(at + 1) {
            Some(byte) => *byte |= high,
            None if high != 0 => return None,
            None => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The empty text's, by sha256sum, nix-hash and base64.
    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_hash_is_read_in_each_of_its_forms() {
        for (text, beside) in [
            ("sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", None),
            ("sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", None),
            ("sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=?x sha512-y", None),
            ("sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73", None),
            ("0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73", Some("sha256")),
            ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", Some("sha256")),
            (HEX, Some("sha256")),
            ("E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", Some("sha256")),
        ] {
            assert_eq!(read(text, beside), Ok(("sha256", HEX.to_owned())), "{text}");
        }
        let md5 = read("1B2M2Y8AsgTpgAmY7PhCfg==", Some("md5")).unwrap();
        assert_eq!(md5, ("md5", "d41d8cd98f00b204e9800998ecf8427e".to_owned()));
    }

    #[test]
    fn what_is_no_hash_is_said_so() {
        for (text, beside) in [
            ("", None),
            ("sha256-", None),
            ("sha256-x", None),
            ("sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuA==", None),
            ("sha3-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", None),
            ("0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73", None),
            ("0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9ce3", Some("sha256")),
            // More bits than the hash has.
            ("zmdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73", Some("sha256")),
        ] {
            assert!(read(text, beside).unwrap_err().contains("is no hash"), "{text}");
        }
    }
}
