//! Recorded exchanges served on loopback, as if the forges were here.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use url::Url;

use super::loopback::{Loopback, LoopbackAnswer, LoopbackRequest, base_of, listen};
use crate::transport::{Answer, Answered, Exchange, Request, Shelf};

/// Headers that speak of the recorded transfer, not of the page.
const OF_THE_TRANSFER: [&str; 4] = ["content-length", "transfer-encoding", "connection", "keep-alive"];

impl Loopback {
    /// Serves recorded exchanges: every scheme, host and port in them gets a server of its own, and
    /// in headers and text bodies each recorded base is replaced by its server's, so that pages lead
    /// to pages that are here. [`Loopback::url_of`] tells where to begin.
    ///
    /// Requests are answered as by `Replay` with these positions; what is not recorded with 404, and
    /// a recorded failure by closing the connection. `change` may alter a body before it is sent:
    /// it gets the recorded URL and the rewritten body.
    ///
    /// # Errors
    /// When the system gives no port or no thread.
    ///
    /// ```
    /// use lamplighter::testing::Loopback;
    /// use lamplighter::transport::{Answer, Exchange};
    /// let recorded = "https://forge.example/api?page=1".parse()?;
    /// let page = Answer::new(200, r#"{"next": "https://forge.example/api?page=2"}"#);
    /// let forge = Loopback::of_exchanges([Exchange::get(recorded, page)], &["page"], |_, body| body)?;
    /// let base = forge.url_of(&"https://forge.example/api".parse()?).unwrap();
    /// assert_eq!((base.host_str(), base.path()), (Some("127.0.0.1"), "/api"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of_exchanges<F>(
        exchanges: impl IntoIterator<Item = Exchange>,
        positions: &[&str],
        change: F,
    ) -> io::Result<Self>
    where
        F: Fn(&Url, Bytes) -> Bytes + Send + Sync + 'static,
    {
        let exchanges: Vec<Exchange> = exchanges.into_iter().collect();
        let mut recorded: Vec<Url> = Vec::new();
        for base in exchanges.iter().filter_map(|e| base(&e.url)) {
            if !recorded.contains(&base) {
                recorded.push(base);
            }
        }
        let listeners = listen(recorded.len().max(1))?;
        let mut bases = Vec::new();
        for (listener, recorded) in listeners.iter().zip(&recorded) {
            bases.push(Base::new(recorded, &base_of(listener)?));
        }
        let mut shelf = Shelf::new(exchanges);
        shelf.set_positions(positions);
        let shelf = Mutex::new(shelf);
        let stands_for = recorded.clone();
        let handler = move |asked: &LoopbackRequest| {
            let Some(request) = recorded.get(asked.base).and_then(|base| as_recorded(base, asked)) else {
                return LoopbackAnswer::new(404, "");
            };
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            match shelf.take(&request).map(|(_, exchange)| &exchange.answered) {
                Some(Answered::Answer(answer)) => rewritten(&request.url, answer, &bases, &change),
                Some(_) => LoopbackAnswer::close(),
                None => LoopbackAnswer::new(404, ""),
            }
        };
        let mut server = Self::serve(listeners, std::sync::Arc::new(handler))?;
        server.stands_for = stands_for;
        Ok(server)
    }

    /// Where a recorded URL is served; `None` for a base of which nothing is recorded.
    #[must_use]
    pub fn url_of(&self, recorded: &Url) -> Option<Url> {
        let of = base(recorded)?;
        let (_, here) = self.stands_for.iter().zip(&self.bases).find(|(b, _)| **b == of)?;
        let mut url = here.clone();
        url.set_path(recorded.path());
        url.set_query(recorded.query());
        Some(url)
    }
}

/// Scheme, host and port of a URL.
fn base(url: &Url) -> Option<Url> {
    let origin = url.origin();
    if origin.is_tuple() { Url::parse(&origin.ascii_serialization()).ok() } else { None }
}

/// A recorded base and the one that stands for it, as they are written in pages.
struct Base {
    spellings: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Base {
    fn new(recorded: &Url, here: &Url) -> Self {
        let plain = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
        let (from, to) = (plain(recorded), plain(here));
        // JSON may escape its slashes, and a URL in a query its colons too.
        let in_query = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let spellings = [
            (from.clone(), to.clone()),
            (from.replace('/', "\\/"), to.replace('/', "\\/")),
            (in_query(&from), in_query(&to)),
        ];
        Self { spellings: spellings.map(|(from, to)| (from.into_bytes(), to.into_bytes())).into() }
    }
}

/// The request as it was recorded: of the base that the server stands for.
fn as_recorded(base: &Url, asked: &LoopbackRequest) -> Option<Request> {
    let mut request = Request::get(base.join(&asked.target).ok()?);
    request.method = asked.method.clone();
    request.headers = asked.headers.clone();
    request.body = Some(asked.body.clone()).filter(|b| !b.is_empty());
    Some(request)
}

fn rewritten(
    url: &Url,
    answer: &Answer,
    bases: &[Base],
    change: &dyn Fn(&Url, Bytes) -> Bytes,
) -> LoopbackAnswer {
    let mut headers = HeaderMap::new();
    for (name, value) in &answer.headers {
        if !OF_THE_TRANSFER.contains(&name.as_str())
            && let Ok(value) = HeaderValue::from_bytes(&replaced(value.as_bytes(), bases))
        {
            headers.append(name, value);
        }
    }
    let Ok(body) = answer.body.bytes() else {
        return LoopbackAnswer::new(500, "the recorded body cannot be read");
    };
    // A compressed or binary body holds no base that could be replaced.
    let is_text = !headers.contains_key(header::CONTENT_ENCODING) && std::str::from_utf8(&body).is_ok();
    let body = if is_text { replaced(&body, bases).into() } else { body };
    LoopbackAnswer::of_parts(answer.status, headers, change(url, body))
}

/// The text with every recorded base replaced, where it ends there: `https://h` is not the base of
/// `https://h.example`.
fn replaced(text: &[u8], bases: &[Base]) -> Vec<u8> {
    let mut done = Vec::with_capacity(text.len());
    let mut rest = text;
    'text: while let Some((&byte, after)) = rest.split_first() {
        for (from, to) in bases.iter().flat_map(|b| &b.spellings) {
            if let Some(after) = rest.strip_prefix(from.as_slice())
                && !continues_host(after)
            {
                done.extend_from_slice(to);
                rest = after;
                continue 'text;
            }
        }
        done.push(byte);
        rest = after;
    }
    done
}

/// Whether a host goes on here, or a port follows.
fn continues_host(text: &[u8]) -> bool {
    let in_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    match text.split_first() {
        Some((b'.', after)) => after.first().is_some_and(in_name),
        Some((b':', after)) => after.first().is_some_and(u8::is_ascii_digit),
        Some((b'%', after)) => after.starts_with(b"3A") || after.starts_with(b"3a"),
        Some((byte, _)) => in_name(byte),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_replaced_in_every_spelling_and_only_where_it_ends() {
        let url = |text: &str| Url::parse(text).unwrap();
        let bases = [
            Base::new(&url("https://h.example/"), &url("http://127.0.0.1:1/")),
            Base::new(&url("https://h.example:8443/"), &url("http://127.0.0.1:2/")),
        ];
        let text = r#"https://h.example/a "https:\/\/h.example\/b" u=https%3A%2F%2Fh.example%2Fc
            https://h.example.org/ https://h.example:8443/d https://h.example. https://h.example"#;
        let expected = r#"http://127.0.0.1:1/a "http:\/\/127.0.0.1:1\/b" u=http%3A%2F%2F127.0.0.1%3A1%2Fc
            https://h.example.org/ http://127.0.0.1:2/d http://127.0.0.1:1. http://127.0.0.1:1"#;
        assert_eq!(String::from_utf8(replaced(text.as_bytes(), &bases)).unwrap(), expected);
    }
}
