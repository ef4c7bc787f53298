//! Who asks, how often, and whose a visit is. Pure: time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, header};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ApiToken;
use crate::model::{Timestamp, VisitId, VisitToken, hex};

/// So many askers are remembered.
const ASKERS: usize = 10_000;

/// A burst, in seconds of the rate.
const BURST: f64 = 4.0;

/// The token that a request shows, if it is a known one. All are compared, each in constant time.
pub(super) fn known<'t>(headers: &HeaderMap, tokens: &'t [ApiToken]) -> Option<&'t ApiToken> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, shown) = shown.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    // Of digests, because the time of a comparison tells the length.
    let shown = Sha256::digest(shown.trim());
    let mut found = None;
    for token in tokens {
        let secret = token.secret.expose_secret();
        let same = bool::from(Sha256::digest(secret).as_slice().ct_eq(shown.as_slice()));
        if same && !secret.is_empty() {
            found = Some(token);
        }
    }
    found
}

/// A visit's token as its claimer gets it: nobody with another bearer token can use it.
pub(super) fn signed(of: &ApiToken, visit: VisitId, token: VisitToken) -> String {
    let whole = mac(of.secret.expose_secret().as_bytes(), named(visit, token));
    // Without a signature it is of no use to anybody.
    let signature = whole.map_or_else(String::new, |whole| hex(&whole.finalize().into_bytes()));
    format!("{token}.{signature}")
}

/// The token in a signed one; none where it is not this visit's, or somebody else's.
pub(super) fn unsigned(of: &ApiToken, visit: VisitId, shown: &str) -> Option<VisitToken> {
    let (number, digits) = shown.split_once('.')?;
    let token = VisitToken(number.parse().ok()?);
    let signature = unhex(digits)?;
    let whole = mac(of.secret.expose_secret().as_bytes(), named(visit, token))?;
    whole.verify_slice(&signature).is_ok().then_some(token)
}

fn named(visit: VisitId, token: VisitToken) -> String {
    format!("lamplighter visit {visit} {token}")
}

/// Any length of key will do: there is always one.
pub(super) fn mac(key: &[u8], text: impl AsRef<[u8]>) -> Option<Hmac<Sha256>> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).ok().map(|mac| mac.chain_update(text))
}

/// Bytes from hexadecimal digits.
pub(super) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

/// How often each asker may ask.
#[derive(Debug)]
pub(super) struct Rates {
    per_second: f64,
    askers: HashMap<String, (f64, Timestamp)>,
}

impl Rates {
    pub(super) fn new(per_second: f64) -> Self {
        Self { per_second: per_second.max(0.001), askers: HashMap::new() }
    }

    /// Lets one ask, or says when to ask again.
    pub(super) fn admit(&mut self, asker: &str, now: Timestamp) -> Result<(), Duration> {
        let burst = (self.per_second * BURST).max(1.0);
        let per_second = self.per_second;
        let filled =
            |(left, at): (f64, Timestamp)| (left + now.since(at).as_secs_f64() * per_second).min(burst);
        if !self.askers.contains_key(asker) && self.askers.len() >= ASKERS {
            self.askers.retain(|_, state| filled(*state) < burst);
            if self.askers.len() >= ASKERS {
                return Err(Duration::from_secs(1));
            }
        }
        let state = self.askers.entry(asker.to_owned()).or_insert((burst, now));
        let left = filled(*state);
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / per_second));
        }
        *state = (left - 1.0, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_780_000_000 + seconds)
    }

    #[test]
    fn a_visit_is_its_claimers() {
        let (ann, bob) = (ApiToken::new("ann", "secret of ann"), ApiToken::new("bob", "secret of bob"));
        let signed = signed(&ann, VisitId(7), VisitToken(40));
        assert_eq!(unsigned(&ann, VisitId(7), &signed), Some(VisitToken(40)));
        assert_eq!(unsigned(&bob, VisitId(7), &signed), None);
        assert_eq!(unsigned(&ann, VisitId(8), &signed), None);
        let other = signed.replacen("40.", "41.", 1);
        assert_eq!(unsigned(&ann, VisitId(7), &other), None);
        for broken in ["", "40", "40.", "40.zz", "x.00", &signed[..signed.len() - 2]] {
            assert_eq!(unsigned(&ann, VisitId(7), broken), None, "{broken}");
        }
    }

    #[test]
    fn an_asker_has_a_burst_and_then_its_rate() {
        let mut rates = Rates::new(2.0);
        let burst = (0..100).take_while(|_| rates.admit("ann", at(0)).is_ok()).count();
        assert_eq!(burst, 8);
        assert_eq!(rates.admit("ann", at(0)), Err(Duration::from_millis(500)));
        assert!(rates.admit("bob", at(0)).is_ok(), "others have their own");
        assert!(rates.admit("ann", at(1)).is_ok() && rates.admit("ann", at(1)).is_ok());
        assert!(rates.admit("ann", at(1)).is_err());
    }

    #[test]
    fn askers_without_end_are_forgotten_or_refused() {
        let mut rates = Rates::new(1.0);
        let admitted = (0..2 * ASKERS).filter(|n| rates.admit(&n.to_string(), at(0)).is_ok()).count();
        assert_eq!((admitted, rates.askers.len()), (ASKERS, ASKERS));
        assert!(rates.admit("late", at(100)).is_ok());
        assert!(rates.askers.len() < ASKERS, "those who asked long ago are forgotten");
    }
}
