//! Secrets, the hosts they go to, and how they are put into a request.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::base64::{base64, inside};
use super::guard::Site;
use super::{Auth, CredentialId, Identity, Request, TransportError, TransportErrorKind};

/// A secret for a lister's requests, and the user it belongs to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Secret {
    /// The user name, where there is one.
    pub user: Option<String>,
    /// The token or password.
    pub secret: SecretString,
}

impl Secret {
    /// A token without a user name.
    pub fn token(secret: impl Into<SecretString>) -> Self {
        Self { user: None, secret: secret.into() }
    }

    /// A user's token or password.
    pub fn of_user(user: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        Self { user: Some(user.into()), secret: secret.into() }
    }

    /// As `Authorization: Basic` has it.
    fn basic(&self) -> String {
        base64(format!("{}:{}", self.user.as_deref().unwrap_or_default(), self.exposed()).as_bytes())
    }

    fn exposed(&self) -> &str {
        self.secret.expose_secret()
    }
}

/// Secrets and where each may go. Nothing of this prints a secret.
///
/// ```
/// use lamplighter::transport::{Auth, Credentials, Request, Secret};
/// let base: url::Url = "https://forge.example/api/".parse()?;
/// let credentials = Credentials::new().with(Secret::token("s3cret"), [&base]);
///
/// let mut request = Request::get(base.join("projects")?).with_auth(Auth::bearer());
/// request.credential = credentials.for_url(&request.url).first().copied();
/// assert_eq!(credentials.sign(request)?.headers["authorization"], "Bearer s3cret");
///
/// assert!(credentials.for_url(&"https://elsewhere.example/".parse()?).is_empty());
/// assert_eq!(credentials.redact("?token=s3cret&page=2"), "?token=[secret]&page=2");
/// assert!(!format!("{credentials:?}").contains("s3cret"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Credentials {
    held: Vec<Held>,
}

#[derive(Clone)]
struct Held {
    secret: Secret,
    places: Vec<Place>,
    /// Made when it is asked for: it is slow by intent.
    identity: Arc<OnceLock<Identity>>,
}

/// A host and port, and whether a secret may go there unencrypted.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    site: Site,
    plain: bool,
}

impl Place {
    fn of(url: &Url) -> Option<Self> {
        Site::of(url).map(|site| Self { site, plain: url.scheme() != "https" })
    }

    /// Whether a secret of this place may go with a request to that one.
    fn admits(&self, other: &Self) -> bool {
        self.site == other.site && (self.plain || !other.plain)
    }
}

impl Credentials {
    /// None at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret that goes to the host and port of each of these URLs and nowhere else; to
    /// those of an https URL never without TLS.
    #[must_use]
    pub fn with<'a>(mut self, secret: Secret, bases: impl IntoIterator<Item = &'a Url>) -> Self {
        let places = bases.into_iter().filter_map(Place::of).collect();
        self.held.push(Held { secret, places, identity: Arc::default() });
        self
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The credentials that may go with a request to this URL, in the order they were added.
    #[must_use]
    pub fn for_url(&self, url: &Url) -> Vec<CredentialId> {
        (0..self.held.len()).map(CredentialId).filter(|id| self.may_go(*id, url)).collect()
    }

    /// Whether this credential may go with a request to this URL.
    #[must_use]
    pub fn may_go(&self, id: CredentialId, url: &Url) -> bool {
        let there = Place::of(url);
        self.held.get(id.0).is_some_and(|held| {
            there.is_some_and(|there| held.places.iter().any(|place| place.admits(&there)))
        })
    }

    /// Who a request with this credential is from; the anonymous one for none.
    #[must_use]
    pub fn identity(&self, id: Option<CredentialId>) -> Identity {
        id.and_then(|id| self.held.get(id.0)).map_or_else(Identity::anonymous, |held| {
            let of = || Identity::of(held.secret.user.as_deref(), held.secret.exposed());
            held.identity.get_or_init(of).clone()
        })
    }

    /// What to look for in an answer that a URL gave: the secrets that may go there. Those that are
    /// shorter than `least` are left out.
    #[cfg(feature = "reqwest")]
    pub(crate) fn scrub(&self, url: &Url, least: usize) -> super::scrub::Scrub {
        let ids = self.for_url(url);
        let held = ids.iter().filter_map(|id| self.held.get(id.0));
        let secrets = held.map(|held| held.secret.exposed()).filter(|secret| secret.len() >= least);
        super::scrub::Scrub::new(secrets.map(|secret| (secret, "[secret]".to_owned())))
    }

    /// Puts the secret of [`Request::credential`] where [`Request::auth`] says: the last thing a
    /// client does before it sends. The request stays anonymous when either is none, and when the
    /// secret does not belong to the request's host. What comes back holds the secret: send it and
    /// keep the original.
    ///
    /// # Errors
    /// [`TransportErrorKind::Request`] when the secret cannot be sent so: characters that a header
    /// cannot carry, or no header's name.
    pub fn sign(&self, mut request: Request) -> Result<Request, TransportError> {
        let held =
            request.credential.filter(|id| self.may_go(*id, &request.url)).and_then(|id| self.held.get(id.0));
        let Some(Held { secret, .. }) = held else { return Ok(request) };
        match request.auth {
            Auth::None => {}
            Auth::Bearer(word) => {
                let value = format!("{word} {}", secret.exposed());
                set_header(&mut request, header::AUTHORIZATION, &value)?;
            }
            Auth::Basic => {
                let value = format!("Basic {}", secret.basic());
                set_header(&mut request, header::AUTHORIZATION, &value)?;
            }
            Auth::Header(name) => {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| unsendable(&request, &format!("{name:?} is not the name of a header")))?;
                set_header(&mut request, name, secret.exposed())?;
            }
            Auth::Form(field) => {
                // A redirect may have made a GET of the POST: it has no form to put it into.
                if request.method != Method::GET {
                    let field = url::form_urlencoded::Serializer::new(String::new())
                        .append_pair(field, secret.exposed())
                        .finish();
                    let form = request.body.take().unwrap_or_default();
                    let separator: &[u8] = if form.is_empty() { b"" } else { b"&" };
                    request.body = Some([&form, separator, field.as_bytes()].concat().into());
                    request
                        .headers
                        .entry(header::CONTENT_TYPE)
                        .or_insert(HeaderValue::from_static("application/x-www-form-urlencoded"));
                }
            }
            Auth::Query(key) => {
                // A forge that repeats the query in its links has left a mark there.
                without_parameter(&mut request.url, key, |_| true);
                request.url.query_pairs_mut().append_pair(key, secret.exposed());
            }
        }
        Ok(request)
    }

    /// A text in which every secret is `[secret]`, however it is percent-encoded, and so are user
    /// and secret as `Authorization: Basic` has them, and the secret in other base64.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let mut patterns: Vec<String> = self
            .held
            .iter()
            .filter(|held| !held.secret.exposed().is_empty())
            .flat_map(|held| {
                let secret = held.secret.exposed();
                [secret.to_owned(), held.secret.basic()].into_iter().chain(inside(secret.as_bytes()))
            })
            .collect();
        // A secret may be the beginning of another one.
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.len()));
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let after = patterns.iter().find_map(|pattern| strip_encoded(rest, pattern));
            if let Some(after) = after {
                shown.push_str("[secret]");
                rest = after;
            } else {
                shown.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
        shown
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.held.iter().map(|held| {
            held.places.iter().map(|place| place.site.to_string()).collect::<Vec<_>>().join(", ")
        });
        f.debug_list().entries(places).finish()
    }
}

/// Takes those parameters of this name out of a URL's query; one without any stays as it is.
pub(crate) fn without_parameter(url: &mut Url, key: &str, goes: impl Fn(&str) -> bool) {
    if !url.query_pairs().any(|(k, v)| k == key && goes(&v)) {
        return;
    }
    let kept: Vec<_> = url
        .query_pairs()
        .filter(|(k, v)| !(k == key && goes(v)))
        .map(|(k, v)| (k.into_owned(), v.into_owned()))
        .collect();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
}

fn set_header(request: &mut Request, name: HeaderName, value: &str) -> Result<(), TransportError> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| unsendable(request, "the secret holds characters that a header cannot carry"))?;
    value.set_sensitive(true);
    request.headers.insert(name, value);
    Ok(())
}

fn unsendable(request: &Request, why: &str) -> TransportError {
    TransportError::new(TransportErrorKind::Request, format!("{}: {why}", request.place()))
}

/// What follows `secret` where the text begins with it, each byte as it is or percent-encoded (and
/// a space as `+`).
fn strip_encoded<'t>(text: &'t str, secret: &str) -> Option<&'t str> {
    let mut rest = text.as_bytes();
    for wanted in secret.bytes() {
        rest = match rest {
            [b'%', high, low, after @ ..] if hex(*high, *low) == Some(wanted) => after,
            [byte, after @ ..] if *byte == wanted || (*byte, wanted) == (b'+', b' ') => after,
            _ => return None,
        };
    }
    text.get(text.len() - rest.len()..)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |d: u8| char::from(d).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    const TOKEN: &str = "t0k/n+& é";

    fn credentials() -> Credentials {
        Credentials::new().with(Secret::of_user("ann", TOKEN), [&url("https://forge.example/")])
    }

    #[test]
    fn a_secret_goes_to_its_host_and_nowhere_else() {
        let secrets = credentials().with(Secret::token("b"), [&url("http://127.0.0.1:81/x")]);
        let ids = |text: &str| secrets.for_url(&url(text)).iter().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(ids("https://forge.example/any/path?q"), [0]);
        assert_eq!(ids("https://FORGE.example:443/"), [0]);
        assert_eq!(ids("http://forge.example/"), [0; 0]);
        assert_eq!(ids("http://forge.example:443/"), [0; 0], "the same port, without TLS");
        assert_eq!(ids("https://forge.example:8443/"), [0; 0]);
        assert_eq!(ids("https://forge.example.evil.example/"), [0; 0]);
        assert_eq!(ids("https://sub.forge.example/"), [0; 0]);
        assert_eq!(ids("http://127.0.0.1:81/"), [1]);
        assert_eq!(ids("https://127.0.0.1:81/"), [1], "better than asked for");

        let mut elsewhere = Request::get(url("https://evil.example/")).with_auth(Auth::Query("token"));
        elsewhere.credential = Some(CredentialId(0));
        let signed = secrets.sign(elsewhere).unwrap();
        assert_eq!(signed.url.as_str(), "https://evil.example/");
    }

    #[test]
    fn a_secret_in_the_query_is_there_once() {
        let mut request = Request::get(url("https://forge.example/?token=[secret]&a=%2f&token=x"));
        request.credential = Some(CredentialId(0));
        let secrets = Credentials::new().with(Secret::token("t0k"), [&url("https://forge.example/")]);
        let signed = secrets.sign(request.clone().with_auth(Auth::Query("token"))).unwrap();
        assert_eq!(signed.url.query(), Some("a=%2F&token=t0k"));
        let signed = secrets.sign(request.with_auth(Auth::Query("key"))).unwrap();
        assert_eq!(signed.url.query(), Some("token=[secret]&a=%2f&token=x&key=t0k"));
    }

    #[test]
    fn a_form_that_became_a_get_stays_anonymous() {
        let mut request = Request::get(url("https://forge.example/")).with_auth(Auth::Form("token"));
        request.credential = Some(CredentialId(0));
        assert_eq!(credentials().sign(request).unwrap().body, None);
    }

    #[test]
    fn what_a_header_cannot_carry_is_an_error_without_the_secret() {
        let secrets = Credentials::new().with(Secret::token("a\nb"), [&url("https://forge.example/")]);
        let mut request = Request::get(url("https://forge.example/x?y")).with_auth(Auth::bearer());
        request.credential = Some(CredentialId(0));
        let error = secrets.sign(request).unwrap_err();
        assert_eq!(error.kind(), TransportErrorKind::Request);
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains("https://forge.example/x") && !shown.contains("a\nb") && !shown.contains("a\\nb")
        );
    }

    #[test]
    fn redaction_knows_every_encoding() {
        let secrets = credentials();
        for hidden in [
            TOKEN,
            "t0k%2Fn%2B%26+%C3%A9",
            "t0k%2fn%2b%26%20%c3%a9",
            "t0k/n+&%20é",
            // `ann:t0k/n+& é`, encoded by another program.
            "YW5uOnQway9uKyYgw6k=",
            "YW5uOnQway9uKyYgw6k%3D",
        ] {
            assert_eq!(secrets.redact(&format!("<{hidden}>é")), "<[secret]>é", "{hidden}");
        }
        // `robert:t0k/n+& é;`: as part of another text.
        let within = secrets.redact("cm9iZXJ0OnQway9uKyYgw6k7");
        assert!(within.contains("[secret]") && within.len() < "[secret]".len() + 14, "{within}");
        for shown in ["t0k/n", "t0k%2", "%", "é", "", "100%"] {
            assert_eq!(secrets.redact(shown), shown);
        }
        let nested = Credentials::new().with(Secret::token("ab"), []).with(Secret::token("abcd"), []);
        assert_eq!(nested.redact("xabcdxab"), "x[secret]x[secret]");
        assert_eq!(Credentials::new().with(Secret::token(""), []).redact("abc"), "abc");
    }

    proptest! {
        #[test]
        fn no_secret_survives(secret in "[^\\[\\]]{1,12}", before in ".{0,9}", after in ".{0,9}") {
            let secrets = Credentials::new().with(Secret::token(secret.clone()), []);
            let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            // A secret that is part of the mark itself cannot be told from it.
            prop_assume!(!"[secret]".contains(&secret));
            for form in [secret.clone(), encoded] {
                let shown = secrets.redact(&format!("{before}{form}{after}"));
                prop_assert!(shown.contains("[secret]"));
            }
            // No place was given: nothing is left to print.
            let printed = format!("{secrets:?}");
            prop_assert_eq!(printed, "[\"\"]");
        }
    }
}
