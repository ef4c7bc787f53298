//! The client: sends a request, follows redirects, takes the body in.
//!
//! # Behaviours
//!
//! Each with the test in `tests/transport` that fails without it:
//!
//! - redirects end, and the URL that answered is kept: `redirects_that_go_nowhere_end`,
//!   `the_url_that_answered_is_kept`
//! - upstream leads to no internal address, also by a redirect or a name:
//!   `an_internal_address_from_upstream_is_refused`, `a_redirect_into_the_network_is_refused`,
//!   `a_name_that_leads_inside_is_refused_also_after_a_redirect`
//! - a secret goes to its host only: `a_secret_does_not_go_to_another_host`
//! - a secret that the forge repeats goes nowhere: `a_forge_that_repeats_secrets_gives_none_away`
//! - a server that says nothing, or too little, is left: `a_silent_server_is_left_after_a_few_attempts`,
//!   `a_server_that_gives_a_byte_at_a_time_is_left`
//! - a body has a greatest size, and nothing is unpacked: `a_body_over_the_limit_is_refused`,
//!   `a_bomb_does_not_go_off`
//! - a compressed file is given as the file: `a_compressed_file_comes_as_the_file_it_is`
//! - a URL has a greatest length: `a_url_of_ten_megabytes_is_not_sent`
//! - a root certificate can be added, and no other is trusted:
//!   `https_works_with_a_root_certificate_of_ones_own`, `what_is_no_certificate_is_refused`

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use async_trait::async_trait;
use url::Url;

use super::credentials::without_parameter;
use super::guard::{Site, is_internal};
use super::resolve::{Hosts, Internal, Resolver};
use super::scrub::{Scrub, Window};
use super::spool::{Spool, SpoolError};
use super::{HttpOptions, Provenance, Request, Response, Transport};
use super::{TransportError, TransportErrorKind as Kind};

/// A secret of so many bytes is no word that a page may happen to hold.
const SHORTEST_IN_A_PAGE: usize = 8;

/// The HTTP client. It retries nothing and knows no limits: put a [`Polite`](super::Polite) around
/// it.
///
/// - Redirects are followed up to a limit, and the URL that answered is kept. A secret goes with
///   them only as long as they stay on the host that it is for.
/// - URLs that come from upstream data, and redirects, may not lead to loopback, private or
///   link-local addresses. This is seen to where names become addresses, so that a name cannot
///   lead elsewhere a moment later. What the configuration names is allowed.
/// - Bodies go to an unnamed temporary file when they are large, and are refused beyond a limit.
/// - What a forge repeats of its own secrets, in headers and bodies, is `[secret]`; in the body of a
///   success only a secret of eight bytes or more, as a shorter one is part of many a word.
/// - It asks for no content encoding and undoes none: an encoded answer is an error, but for a file
///   that is compressed itself, which some servers announce as an encoding. Proxies of the environment are not used, as
///   a proxy would look names up where nobody checks them.
///
/// ```no_run
/// use lamplighter::transport::{Http, HttpOptions, Request, Transport};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let http = Http::new(HttpOptions::new("ops@archive.example"))?;
/// let answer = http.send(Request::get("https://forge.example/api".parse()?)).await?;
/// println!("{} from {}: {} bytes", answer.status, answer.url, answer.body.len());
/// # Ok(())
/// # }
/// ```
pub struct Http {
    /// For what the configuration names.
    open: reqwest::Client,
    /// For all else. A client of its own, as a pooled connection is not looked up again.
    guarded: reqwest::Client,
    bases: Vec<Site>,
    options: HttpOptions,
}

impl Http {
    /// A client.
    ///
    /// # Errors
    /// [`TransportErrorKind::Request`](Kind::Request) when the contact cannot be sent in a header,
    /// [`TransportErrorKind::Other`](Kind::Other) when TLS or the client cannot be set up.
    pub fn new(options: HttpOptions) -> Result<Self, TransportError> {
        let user_agent = HeaderValue::from_str(&options.user_agent())
            .map_err(|_| TransportError::new(Kind::Request, "the contact holds what no header can carry"))?;
        let hosts: Hosts = Arc::new(options.hosts.clone());
        let client =
            |internal| build(&options, user_agent.clone(), Resolver { hosts: Arc::clone(&hosts), internal });
        Ok(Self {
            open: client(true)?,
            guarded: client(options.allow_private)?,
            bases: options.bases.iter().filter_map(Site::of).collect(),
            options,
        })
    }

    /// The client that may send this request.
    fn client(&self, request: &Request, home: Option<&Site>) -> Result<&reqwest::Client, TransportError> {
        let refuse = |kind, why: &str| Err(TransportError::new(kind, format!("{}: {why}", request.place())));
        let url = &request.url;
        let Some(site) = Site::of(url).filter(|_| matches!(url.scheme(), "http" | "https")) else {
            return refuse(Kind::Request, "only http and https");
        };
        let (length, limit) = (url.as_str().len(), self.options.max_url);
        if length > limit {
            return refuse(Kind::Request, &format!("a URL of {length} bytes, where {limit} are allowed"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse(Kind::Request, "a URL may not hold a user or a password: they are credentials");
        }
        if self.bases.contains(&site) || home == Some(&site) {
            return Ok(&self.open);
        }
        if !self.options.allow_private && site.address().is_some_and(is_internal) {
            return refuse(Kind::Forbidden, "a loopback, private or link-local address");
        }
        Ok(&self.guarded)
    }

    async fn follow(&self, mut request: Request) -> Result<Response, TransportError> {
        let home = Site::of(&request.url).filter(|_| request.provenance == Provenance::Configured);
        let mut seen = Vec::new();
        loop {
            let client = self.client(&request, home.as_ref())?;
            if !seen.is_empty() {
                request.before_redirect(&request.url).await?;
            }
            let signed = self.options.credentials.sign(request.clone())?;
            let answer = client.execute(outgoing(signed)).await.map_err(|e| self.error(&request, e))?;
            self.check_headers(&request, answer.headers())?;
            let Some(to) = redirect(&request, answer.status(), answer.headers())? else {
                return self.take_in(&request, answer).await;
            };
            // Its body is dropped, and the connection with it: it may be of any length.
            drop(answer);
            seen.push((request.method.clone(), request.url.clone()));
            request = self.redirected(&request, to)?;
            if seen.len() > self.options.max_redirects {
                return Err(self.astray(&request, &format!("more than {}", self.options.max_redirects)));
            }
            if seen.iter().any(|(method, url)| *method == request.method && *url == request.url) {
                return Err(self.astray(&request, "it comes back to where it was"));
            }
        }
    }

    /// The request that a redirect asks for.
    fn redirected(&self, from: &Request, to: Redirect) -> Result<Request, TransportError> {
        let mut request = from.clone();
        request.url = to.url;
        if let (super::Auth::Query(key), Some(_)) = (&request.auth, request.credential) {
            // A forge that repeats the query has the secret in it: it must not stay in the URL that
            // is kept, nor go to wherever the redirect leads.
            without_parameter(&mut request.url, key, |v| self.options.credentials.redact(v) != v);
            let query = request.url.query().unwrap_or_default();
            if self.options.credentials.redact(query) != query {
                return Err(self.astray(from, "it holds a secret"));
            }
        }
        if to.becomes_get {
            request.method = Method::GET;
            request.body = None;
            for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
                request.headers.remove(name);
            }
        }
        let stays =
            Site::of(&from.url) == Site::of(&request.url) && from.url.scheme() == request.url.scheme();
        let credential_stays =
            request.credential.is_some_and(|id| stays || self.options.credentials.may_go(id, &request.url));
        if !stays {
            for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
                request.headers.remove(name);
            }
        }
        if !credential_stays {
            // Also for what follows: who redirects from elsewhere does not choose where it goes.
            request.credential = None;
        }
        Ok(request)
    }

    fn astray(&self, request: &Request, why: &str) -> TransportError {
        TransportError::new(
            Kind::Redirect,
            self.options.credentials.redact(&format!("{}: {why}", request.place())),
        )
    }

    fn check_headers(&self, request: &Request, headers: &HeaderMap) -> Result<(), TransportError> {
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if size > self.options.max_header_bytes {
            let limit = self.options.max_header_bytes;
            return Err(TransportError::new(
                Kind::TooLarge,
                format!("{}: headers over {limit} bytes", request.place()),
            ));
        }
        Ok(())
    }

    async fn take_in(
        &self,
        request: &Request,
        mut answer: reqwest::Response,
    ) -> Result<Response, TransportError> {
        let status = answer.status();
        let mut headers = std::mem::take(answer.headers_mut());
        let encoding = encoding(&headers).filter(|encoding| !is_file_of(encoding, &request.url, &headers));
        let too_large = || {
            let limit = self.options.max_body;
            TransportError::new(Kind::TooLarge, format!("{}: a body over {limit} bytes", request.place()))
        };
        let mut spool = Spool::new(self.options.spool_over, self.options.max_body);
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse::<u64>().ok());
        if request.method != Method::HEAD && announced.is_some_and(|len| len > self.options.max_body) {
            return Err(too_large());
        }
        let mut echoes = self.echoes(request, status, &mut headers);
        let mut clean = Vec::new();
        let refused = |e| match e {
            SpoolError::TooLarge => too_large(),
            SpoolError::Io(e) => no_disk(request, e),
        };
        while let Some(piece) = answer.chunk().await.map_err(|e| self.error(request, e))? {
            if let (Some(encoding), false) = (&encoding, piece.is_empty()) {
                if status.is_success() {
                    let why = format!("{}: content encoding {encoding:?}", request.place());
                    return Err(TransportError::new(Kind::Encoding, why));
                }
                // Of a refusal the status is what matters.
                break;
            }
            match &mut echoes {
                None => spool.push(&piece).await.map_err(refused)?,
                Some(echoes) => {
                    echoes.push(&piece, &mut clean);
                    spool.push(&clean).await.map_err(refused)?;
                    clean.clear();
                }
            }
        }
        if let Some(mut echoes) = echoes {
            echoes.end(&mut clean);
            spool.push(&clean).await.map_err(refused)?;
        }
        let body = spool.finish().await.map_err(|e| no_disk(request, e))?;
        let mut response =
            Response::new(status.as_u16(), request.url.clone(), body, self.options.clock.now());
        response.headers = headers;
        Ok(response)
    }

    /// What takes the host's secrets out of what it sends, where it has any: it may repeat them in a
    /// link or a message, and from there they would go into cursors and logs. Done with the headers.
    fn echoes(
        &self,
        request: &Request,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Option<Window<Scrub>> {
        // A short one is part of many a word: better kept in a page than a page changed.
        let least = if status.is_success() { SHORTEST_IN_A_PAGE } else { 1 };
        let scrub = self.options.credentials.scrub(&request.url, least);
        if scrub.is_empty() {
            return None;
        }
        for value in headers.values_mut() {
            let clean = scrub.bytes(value.as_bytes());
            if clean != value.as_bytes() {
                *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static("[secret]"));
            }
        }
        Some(Window::new(scrub))
    }

    /// What the client says of a failure, without the URL's query and without secrets. Its own
    /// error is not kept as a source, as what it prints is its affair.
    fn error(&self, request: &Request, error: reqwest::Error) -> TransportError {
        let error = error.without_url();
        let kind = if error.is_timeout() {
            Kind::Timeout
        } else if causes(&error).any(<dyn StdError>::is::<Internal>) {
            Kind::Forbidden
        } else if error.is_connect() {
            Kind::Connect
        } else if error.is_builder() {
            Kind::Request
        } else {
            Kind::Body
        };
        let mut said = request.place();
        for cause in causes(&error) {
            said.push_str(": ");
            said.push_str(&cause.to_string());
        }
        TransportError::new(kind, self.options.credentials.redact(&said))
    }
}

#[async_trait]
impl Transport for Http {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let place = request.place();
        tokio::time::timeout(self.options.total, self.follow(request)).await.unwrap_or_else(|_| {
            let limit = self.options.total.as_secs_f64();
            Err(TransportError::new(Kind::Timeout, format!("{place}: no whole answer within {limit} s")))
        })
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("options", &self.options).finish_non_exhaustive()
    }
}

fn build(
    options: &HttpOptions,
    user_agent: HeaderValue,
    resolver: Resolver,
) -> Result<reqwest::Client, TransportError> {
    let other =
        |e: reqwest::Error| TransportError::new(Kind::Other, "the client cannot be set up").with_source(e);
    let builder = reqwest::Client::builder()
        .user_agent(user_agent)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .connect_timeout(options.connect)
        .read_timeout(options.idle)
        .http1_max_headers(256)
        .http2_max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX))
        .dns_resolver(resolver);
    #[cfg(feature = "tls")]
    let builder = builder.tls_backend_preconfigured(super::tls::tls(&options.roots)?);
    builder.build().map_err(other)
}

fn outgoing(request: Request) -> reqwest::Request {
    let mut outgoing = reqwest::Request::new(request.method, request.url);
    *outgoing.headers_mut() = request.headers;
    // What is not asked for need not be undone.
    outgoing.headers_mut().remove(header::ACCEPT_ENCODING);
    *outgoing.body_mut() = request.body.map(Into::into);
    outgoing
}

/// Where an answer redirects to.
struct Redirect {
    url: Url,
    becomes_get: bool,
}

fn redirect(
    request: &Request,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Option<Redirect>, TransportError> {
    let becomes_get = match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            !matches!(request.method, Method::GET | Method::HEAD)
        }
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
        _ => return Ok(None),
    };
    let Some(location) = headers.get(header::LOCATION) else { return Ok(None) };
    let astray = |why: &str| TransportError::new(Kind::Redirect, format!("{}: {why}", request.place()));
    let mut url = std::str::from_utf8(location.as_bytes())
        .ok()
        .and_then(|location| request.url.join(location).ok())
        .ok_or_else(|| astray("to what is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(astray("to another protocol than http and https"));
    }
    url.set_fragment(None);
    Ok(Some(Redirect { url, becomes_get }))
}

/// The content encodings, where there are any.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    let encodings: Vec<_> = values
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|e| !e.is_empty() && !e.eq_ignore_ascii_case("identity"))
        .collect();
    (!encodings.is_empty()).then(|| encodings.join(", "))
}

/// Whether a content encoding is only another name for the kind of a file: what came is the file.
fn is_file_of(encoding: &str, url: &Url, headers: &HeaderMap) -> bool {
    let (suffixes, kinds): (&[&str], &[&str]) = match encoding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => (&[".gz", ".tgz"], &["application/gzip", "application/x-gzip"]),
        "bzip2" | "x-bzip2" => (&[".bz2", ".tbz"], &["application/x-bzip2", "application/x-bzip"]),
        "xz" | "x-xz" => (&[".xz", ".txz"], &["application/x-xz"]),
        "zstd" => (&[".zst", ".tzst"], &["application/zstd"]),
        "compress" | "x-compress" => (&[".z"], &["application/x-compress"]),
        _ => return false,
    };
    let path = url.path().to_ascii_lowercase();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    suffixes.iter().any(|s| path.ends_with(s)) || kinds.iter().any(|k| kind.eq_ignore_ascii_case(k))
}

/// An error and all that it comes from.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |cause| (*cause).source())
}

fn no_disk(request: &Request, error: std::io::Error) -> TransportError {
    TransportError::new(Kind::Other, format!("{}: the body cannot be kept", request.place()))
        .with_source(error)
}
