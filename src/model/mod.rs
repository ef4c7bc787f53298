//! Plain data: origins, listers, visits and time. No clock, no network, no storage.

mod lister;
mod origin;
mod time;
mod visit;

use std::fmt::Write as _;

use sha2::Digest;

pub use lister::{ListerId, ListerKey, ListerRecord};
pub use origin::{
    Artifact, ArtifactShape, Disabled, Gone, GoneReason, ListedOrigin, NewOrigin, OriginKey, UrlProblem,
    VisitType, VisitTypeError, check_origin_url,
};
pub use time::{Timestamp, TimestampError};
pub use visit::{Outcome, VisitId, VisitStats, VisitStatus, VisitToken};

/// A JSON object, as states and extra loader arguments are.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// The first sixteen bytes of SHA-256: long enough that nobody finds two texts with the same one.
pub(crate) fn digest128(of: &[u8]) -> [u8; 16] {
    half(sha2::Sha256::new_with_prefix(of))
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// [`digest128`] of texts, one behind the other.
pub(crate) fn digest128_of(texts: &[&str]) -> [u8; 16] {
    half(texts.iter().fold(sha2::Sha256::new(), sha2::Digest::chain_update))
}

/// [`digest128`] of what a hash has been fed.
pub(crate) fn half(hash: sha2::Sha256) -> [u8; 16] {
    let whole = hash.finalize();
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(whole.iter()) {
        *to = *from;
    }
    half
}
