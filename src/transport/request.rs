//! What a lister asks for.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

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

    /// Host and path: what errors, spans and logs may show of the URL. The query is left out, as
    /// it may hold a secret.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{} {}", self.method, place(&self.url))
    }
}

/// Scheme, host and path of a URL: neither query nor user information.
#[must_use]
pub(crate) fn place(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{}{}", url.scheme(), url.host_str().unwrap_or_default(), port, url.path())
}
