//! Who asked: a name for a credential that says nothing of the secret.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How often the digest is made again: a short password must not be guessed from a store by trying
/// a dictionary as fast as a machine hashes.
const ROUNDS: u32 = 4096;

/// Who a forge takes a request to be from: one credential, or nobody in particular.
///
/// Stable between runs, so that what a forge said to one credential (a validator, a limit) is not
/// held for what it says to another. It is a slow, short digest of user and secret, and is not
/// printed: eight bytes tell the credentials of one configuration apart, and are no proof of a guess.
///
/// ```
/// use lamplighter::transport::{CredentialId, Credentials, Identity, Secret};
/// let base: url::Url = "https://forge.example/".parse()?;
/// let of = |secret| Credentials::new().with(Secret::token(secret), [&base]).identity(Some(CredentialId(0)));
/// assert_eq!(of("s3cret"), of("s3cret"));
/// assert_ne!(of("s3cret"), of("another"));
/// assert!(Credentials::new().identity(None).is_anonymous());
/// assert_eq!(format!("{:?}", of("s3cret")), "Identity(of a credential)");
/// # Ok::<(), url::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(Arc<str>);

impl Identity {
    /// Who asks without a credential.
    #[must_use]
    pub fn anonymous() -> Self {
        Self("".into())
    }

    /// The identity whose stored form this is.
    pub fn stored(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Whether it is nobody in particular.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.0.is_empty()
    }

    /// As it is stored; empty for anonymous requests.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn of(user: Option<&str>, secret: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"lamplighter: who asks");
        for part in [user.unwrap_or_default(), secret] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut digest = digest.finalize();
        for _ in 0..ROUNDS {
            digest = Sha256::digest(digest);
        }
        Self(hex(&digest).into())
    }
}

/// The beginning of a digest, as it is stored.
fn hex(digest: &[u8]) -> String {
    let kept = digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    format!("{kept:016x}")
}

impl Default for Identity {
    fn default() -> Self {
        Self::anonymous()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_anonymous() { "Identity(anonymous)" } else { "Identity(of a credential)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_secret_make_an_identity() {
        let one = Identity::of(Some("ann"), "bc");
        assert_eq!(one, Identity::of(Some("ann"), "bc"));
        for other in [
            Identity::of(Some("annb"), "c"),
            Identity::of(Some("bob"), "bc"),
            Identity::of(None, "annbc"),
            Identity::of(Some("ann"), "bd"),
            Identity::anonymous(),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(one.as_str().len(), 16);
        assert_eq!(Identity::stored(one.as_str()), one);
        assert!(!one.is_anonymous() && Identity::stored("").is_anonymous());
    }

    #[test]
    fn it_is_not_what_hashing_once_gives() {
        // A dictionary hashed once must not hit.
        let mut once = Sha256::new();
        once.update(b"lamplighter: who asks");
        for part in ["", "s3cret"] {
            once.update((part.len() as u64).to_be_bytes());
            once.update(part);
        }
        assert_ne!(Identity::of(None, "s3cret").as_str(), hex(&once.finalize()));
    }
}
