//! What a lister asks for.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::Url;

use super::{Identity, TransportError};

/// Where in a request its credential goes. A lister says how; it never holds the secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Auth {
    /// Nowhere: the request is anonymous even where there is a credential.
    #[default]
    None,
    /// `Authorization: Bearer SECRET`, with another word than `Bearer` where a forge wants one.
    Bearer(&'static str),
    /// `Authorization: Basic` of user name and secret.
    Basic,
    /// A header of its own.
    Header(&'static str),
    /// A field of a form-encoded body.
    Form(&'static str),
    /// A query parameter.
    Query(&'static str),
}

impl Auth {
    /// `Authorization: Bearer SECRET`.
    #[must_use]
    pub fn bearer() -> Self {
        Self::Bearer("Bearer")
    }
}

/// Which of the configured credentials goes with a request. Says nothing of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a name for a value, and nothing else")]
pub struct CredentialId(pub usize);

/// Where a request's URL comes from. One that upstream data gave may not lead to loopback, private
/// or link-local addresses, unless its host and port are configured ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Provenance {
    /// From the lister's configuration.
    Configured,
    /// From a page, or unknown.
    #[default]
    Upstream,
}

/// A validator that a forge gave with an earlier answer, and to whom: what it says to one credential
/// is not what it says to another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Condition {
    /// To whom it was given.
    pub identity: Identity,
    /// The `ETag`.
    pub etag: Option<String>,
    /// The `Last-Modified`.
    pub last_modified: Option<String>,
}

impl Condition {
    /// A validator that was given to somebody.
    #[must_use]
    pub fn new(identity: Identity, etag: Option<String>, last_modified: Option<String>) -> Self {
        Self { identity, etag, last_modified }
    }
}

/// Is told before a redirect is followed, and holds it back as long as the host wants.
#[async_trait]
pub(crate) trait Hop: Send + Sync {
    async fn to(&self, url: &Url) -> Result<(), TransportError>;
}

/// Who is told before a redirect is followed.
#[derive(Clone, Default)]
pub(crate) struct Hops(pub(crate) Option<Arc<dyn Hop>>);

impl fmt::Debug for Hops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "held back" } else { "free" })
    }
}

/// One HTTP request, without any secret.
///
/// ```
/// use lamplighter::transport::{Auth, Request};
/// let url = "https://forge.example/api/projects?page=2".parse()?;
/// let r = Request::get(url).with_header("accept", "application/json").with_auth(Auth::bearer()).validated();
/// assert!(r.validate);
/// # Ok::<(), url::ParseError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: Url,
    /// Headers besides the ones that the client adds.
    pub headers: HeaderMap,
    /// The body of a POST.
    pub body: Option<Bytes>,
    /// Where its credential goes.
    pub auth: Auth,
    /// Which credential goes with it; chosen by the transport, not by a lister.
    pub credential: Option<CredentialId>,
    /// Where its URL comes from.
    pub provenance: Provenance,
    /// Whether the driver may add a stored validator, so that the answer may be 304. Only for
    /// cursors that end a branch, or whose follows can be repeated.
    pub validate: bool,
    /// The validator that the driver added. Whoever chooses the credential sends it only where it is
    /// that credential's: see [`Request::ask_as`].
    pub condition: Option<Condition>,
    /// What it takes to be answered, where a forge does not answer everybody: see
    /// [`Request::needing`].
    pub needs: Option<Arc<str>>,
    pub(crate) hops: Hops,
}

impl Request {
    /// A GET.
    #[must_use]
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: None,
            auth: Auth::None,
            credential: None,
            provenance: Provenance::Upstream,
            validate: false,
            condition: None,
            needs: None,
            hops: Hops::default(),
        }
    }

    /// A POST of a form.
    pub fn post_form<K: AsRef<str>, V: AsRef<str>>(
        url: Url,
        fields: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let mut request = Self::get(url).with_header("content-type", "application/x-www-form-urlencoded");
        request.method = Method::POST;
        request.body = Some(form.finish().into());
        request
    }

    /// A POST of a JSON text.
    #[must_use]
    pub fn post_json(url: Url, body: &serde_json::Value) -> Self {
        let mut request = Self::get(url).with_header("content-type", "application/json");
        request.method = Method::POST;
        request.body = Some(body.to_string().into());
        request
    }

    /// Adds a header. One whose value cannot be sent is left out.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Says where the credential goes.
    #[must_use]
    pub fn with_auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Says that the URL is the configuration's own.
    #[must_use]
    pub fn configured(mut self) -> Self {
        self.provenance = Provenance::Configured;
        self
    }

    /// Says that a stored validator may be added. See [`Request::validate`].
    #[must_use]
    pub fn validated(mut self) -> Self {
        self.validate = true;
        self
    }

    /// Says which credential it needs, with which scope, and where that is made: the error of a
    /// refusal (401, 403) repeats it.
    ///
    /// ```
    /// # use lamplighter::transport::Request;
    /// let url = "https://forge.example/api/v4/projects".parse()?;
    /// let request = Request::get(url).needing("a token with the scope read_api (Preferences, Access tokens)");
    /// assert!(request.needs.is_some_and(|needs| needs.contains("read_api")));
    /// # Ok::<(), url::ParseError>(())
    /// ```
    #[must_use]
    pub fn needing(mut self, what: impl Into<Arc<str>>) -> Self {
        self.needs = Some(what.into());
        self
    }

    /// Puts the validator of [`Request::condition`] into the headers if it was given to this one who
    /// asks, and takes it out if not.
    pub fn ask_as(&mut self, identity: &Identity) {
        let Some(condition) = &self.condition else { return };
        let headers =
            [(header::IF_NONE_MATCH, &condition.etag), (header::IF_MODIFIED_SINCE, &condition.last_modified)];
        for (name, value) in headers {
            let value = value.as_deref().filter(|_| condition.identity == *identity);
            match value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
                Some(value) => self.headers.insert(name, value),
                None => self.headers.remove(name),
            };
        }
    }

    /// To be awaited by a client before it follows a redirect to a URL: holds it back as long as the
    /// host there wants, and gives the place at the host before to others.
    ///
    /// # Errors
    /// [`Limited`](super::TransportErrorKind::Limited) when that would take too long.
    ///
    /// ```
    /// # use lamplighter::transport::Request;
    /// # futures::executor::block_on(async {
    /// let request = Request::get("https://forge.example/old".parse()?);
    /// request.before_redirect(&"https://elsewhere.example/new".parse()?).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn before_redirect(&self, to: &Url) -> Result<(), TransportError> {
        match &self.hops.0 {
            Some(hop) => hop.to(to).await,
            None => Ok(()),
        }
    }

    /// Host and path: what errors, spans and logs may show of the URL. The query is left out, as
    /// it may hold a secret.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{} {}", self.method, place(&self.url))
    }
}

/// So much of a path is shown: a forge may send one of any length.
const SHOWN: usize = 300;

/// Scheme, host and path of a URL: neither query nor user information, and of a long path the
/// beginning.
#[must_use]
pub(crate) fn place(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let path = url.path();
    let (shown, cut) = match path.char_indices().nth(SHOWN) {
        Some((end, _)) => (path.get(..end).unwrap_or_default(), format!("… ({} bytes)", path.len())),
        None => (path, String::new()),
    };
    format!("{}://{}{port}{shown}{cut}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validator_goes_with_whom_it_was_given_to() {
        let url = Url::parse("https://forge.example/").unwrap();
        let mut request = Request::get(url).with_header("accept", "text/x");
        let (ann, bob) = (Identity::stored("ann"), Identity::stored("bob"));
        request.ask_as(&ann);
        assert_eq!(request.headers.len(), 1, "without a condition nothing changes");
        request.condition =
            Some(Condition::new(ann.clone(), Some("\"1\"".to_owned()), Some("then".to_owned())));
        request.ask_as(&ann);
        assert_eq!(request.headers["if-none-match"], "\"1\"");
        assert_eq!(request.headers["if-modified-since"], "then");
        for other in [bob, Identity::anonymous()] {
            request.ask_as(&ann);
            request.ask_as(&other);
            assert_eq!(request.headers.len(), 1, "{:?}", request.headers);
        }
    }

    #[test]
    fn of_a_long_path_the_beginning_is_shown() {
        let shown = |path: &str| place(&Url::parse(&format!("https://h.example/{path}?token=1")).unwrap());
        assert_eq!(shown("a/b"), "https://h.example/a/b");
        assert_eq!(shown(&"x".repeat(299)).len(), "https://h.example".len() + 300);
        let long = shown(&"x".repeat(10_000_000));
        assert!(long.len() < 350 && long.ends_with("… (10000001 bytes)"), "{long}");
    }
}
