//! What a forge, or what stands before it, may do to one request.

use std::io::Write;

use http::StatusCode;
use lamplighter::lister::{FailureKind, Follow, PageBatch, PageSource};
use lamplighter::testing::Step;
use lamplighter::transport::{Body, Response, TransportErrorKind};
use url::Url;

/// A host that nobody configured.
pub(crate) const ELSEWHERE: &str = "https://elsewhere.example";
/// A host of the network that we are in.
pub(crate) const INSIDE: &str = "http://10.1.2.3:8080";

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Status(u16),
    /// 429 that says when to come back.
    Wait,
    /// No answer, as the client says it.
    No(TransportErrorKind, &'static str),
    Body(Spoiled),
    /// Its link leads there instead.
    Link(Leads),
    /// It gives the page before it once more.
    Again,
}

/// What a body is in the place of what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoiled {
    Empty,
    Half,
    Html,
    /// An array where an object is due, and the other way round.
    OtherType,
    /// What says in JSON that something went wrong, with status 200.
    Message,
    Null,
    /// Compressed, it is small; unpacked, it is not.
    Bomb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    ToItself,
    Elsewhere,
    Inside,
}

pub(crate) const ALL: &[Fault] = {
    use TransportErrorKind as K;
    &[
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(410),
        Fault::Status(429),
        Fault::Wait,
        Fault::Status(500),
        Fault::Status(502),
        Fault::No(K::Body, "cut in its body"),
        Fault::No(K::Connect, "no connection"),
        Fault::No(K::Timeout, "silent, or a byte a second"),
        Fault::No(K::Redirect, "redirects for ever"),
        Fault::No(K::TooLarge, "an over-large body"),
        Fault::No(K::Encoding, "an unknown encoding"),
        Fault::Body(Spoiled::Empty),
        Fault::Body(Spoiled::Half),
        Fault::Body(Spoiled::Html),
        Fault::Body(Spoiled::OtherType),
        Fault::Body(Spoiled::Message),
        Fault::Body(Spoiled::Null),
        Fault::Body(Spoiled::Bomb),
        Fault::Link(Leads::ToItself),
        Fault::Link(Leads::Elsewhere),
        Fault::Link(Leads::Inside),
        Fault::Again,
    ]
};

/// What is answered in the place of an answer.
pub(crate) type Spoilt = Result<Response, TransportErrorKind>;

impl Fault {
    /// Whether the transport asks again: then once is no harm.
    pub(crate) fn is_retried(self) -> bool {
        use TransportErrorKind as K;
        match self {
            Self::Status(status) => matches!(status, 429 | 500 | 502),
            Self::Wait => true,
            Self::No(kind, _) => matches!(kind, K::Body | K::Connect | K::Timeout),
            Self::Body(_) | Self::Link(_) | Self::Again => false,
        }
    }

    /// How a cursor fails by it.
    pub(crate) fn failure(self) -> FailureKind {
        match self {
            // A limit that does not end is no answer.
            Self::Status(429) | Self::Wait => FailureKind::Transport(TransportErrorKind::Limited),
            Self::Status(status) => FailureKind::Status(StatusCode::from_u16(status).unwrap()),
            Self::No(kind, _) => FailureKind::Transport(kind),
            Self::Body(_) | Self::Link(_) => FailureKind::Parse,
            Self::Again => FailureKind::Loop,
        }
    }

    /// What the request of a step gets; none where the fault is none there.
    pub(crate) fn spoil(self, source: &dyn PageSource, steps: &[Step], at: usize) -> Option<Spoilt> {
        let step = &steps[at];
        let genuine = step.response.as_ref()?;
        // A forge that says no in health is not made ill by saying no in another way.
        let batch = step.said.as_ref().ok()?;
        // What is asked by HEAD has no body that could be spoilt.
        if step.request.method == http::Method::HEAD && matches!(self, Self::Body(_)) {
            return None;
        }
        let of = |status: u16, body: Body| {
            let mut answer = Response::new(status, step.request.url.clone(), body, genuine.received_at);
            if status == 200 {
                answer.headers.clone_from(&genuine.headers);
                answer.url.clone_from(&genuine.url);
            }
            answer
        };
        match self {
            Self::Status(status) => Some(Ok(of(status, Body::from("it is not well")))),
            Self::Wait => Some(Ok(of(429, Body::from("")).with_header("retry-after", "7"))),
            Self::No(kind, _) => Some(Err(kind)),
            Self::Body(how) => how.spoil(&genuine.body.bytes().ok()?).map(|body| Ok(of(200, body.into()))),
            Self::Link(leads) => {
                let to = |next: &Url| match leads {
                    Leads::ToItself => step.request.url.to_string(),
                    Leads::Elsewhere => next.as_str().replacen(&base(next), ELSEWHERE, 1),
                    Leads::Inside => next.as_str().replacen(&base(next), INSIDE, 1),
                };
                linked(source, batch).find_map(|(_, next)| relinked(genuine, &next, &to(&next))).map(Ok)
            }
            Self::Again => {
                let before = &steps[step.from?];
                let next = matches!(step.how, Some(lamplighter::lister::FollowKind::Next { .. }));
                let said_some = before.said.as_ref().is_ok_and(|b| !b.origins.is_empty());
                let answer = before.response.clone().filter(|_| next && said_some)?;
                (answer.body.bytes().ok()? != genuine.body.bytes().ok()?).then_some(Ok(answer))
            }
        }
    }

    /// The cursor to which the link leads that this fault changes.
    pub(crate) fn unlinked(self, source: &dyn PageSource, step: &Step) -> Option<serde_json::Value> {
        let (Self::Link(_), Ok(batch), Some(genuine)) = (self, &step.said, &step.response) else {
            return None;
        };
        linked(source, batch)
            .find_map(|(follow, next)| relinked(genuine, &next, ELSEWHERE).map(|_| follow.cursor.clone()))
    }
}

fn base(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The requests that follow from a page, with their URLs. What is asked by HEAD is a thing that the page
/// names, and no place where the listing goes on.
fn linked<'a>(source: &'a dyn PageSource, batch: &'a PageBatch) -> impl Iterator<Item = (&'a Follow, Url)> {
    let requests = batch.follows.iter().filter_map(|f| Some((f, source.request(&f.cursor).ok()?)));
    requests.filter(|(_, request)| request.method != http::Method::HEAD).map(|(f, request)| (f, request.url))
}

/// The answer with every link to `next` leading to `to`; none where it has none.
fn relinked(answer: &Response, next: &Url, to: &str) -> Option<Response> {
    let quoted = |text: &str| [format!("\"{text}\""), format!("'{text}'")];
    let path = &next[url::Position::BeforePath..];
    let escaped = |text: &str| text.replace('&', "&amp;");
    let mut changed = answer.clone();
    let mut any = false;
    for value in changed.headers.get_all_mut_links() {
        let text = value.to_str().ok()?.to_owned();
        let new = text.replace(&format!("<{next}>"), &format!("<{to}>"));
        if new != text {
            *value = new.parse().ok()?;
            any = true;
        }
    }
    if let Ok(text) = String::from_utf8(answer.body.bytes().ok()?.to_vec()) {
        let mut new = text.clone();
        for (from, to) in [
            (next.to_string(), to.to_owned()),
            (escaped(next.as_str()), escaped(to)),
            (next.as_str().replace('/', "\\/"), to.replace('/', "\\/")),
            (path.to_owned(), to.to_owned()),
            (escaped(path), escaped(to)),
        ] {
            for (from, to) in quoted(&from).into_iter().zip(quoted(&to)) {
                new = new.replace(&from, &to);
            }
        }
        any |= new != text;
        changed.body = new.into();
    }
    any.then_some(changed)
}

trait Links {
    fn get_all_mut_links(&mut self) -> Vec<&mut http::HeaderValue>;
}

impl Links for http::HeaderMap {
    fn get_all_mut_links(&mut self) -> Vec<&mut http::HeaderValue> {
        self.iter_mut().filter(|(name, _)| *name == http::header::LINK).map(|(_, value)| value).collect()
    }
}

impl Spoiled {
    /// The body that comes instead of a genuine one; none where it would be no other.
    fn spoil(self, genuine: &[u8]) -> Option<Vec<u8>> {
        let json = serde_json::from_slice::<serde_json::Value>(genuine).ok();
        let body = match self {
            Self::Empty => Vec::new(),
            Self::Half => genuine[..genuine.len() / 2].to_vec(),
            Self::Html => b"<!doctype html><html><head><title>Maintenance</title></head><body><h1>Back soon</h1></body></html>".to_vec(),
            Self::OtherType if json?.is_array() => b"{\"a\": []}".to_vec(),
            Self::OtherType => b"[[\"a\"]]".to_vec(),
            Self::Message => b"{\"message\": \"something went wrong\"}".to_vec(),
            Self::Null => b"null".to_vec(),
            Self::Bomb => {
                let packed = [&[0x1f, 0x8b][..], b"BZh", &[0xfd, b'7', b'z']];
                if !packed.iter().any(|magic| genuine.starts_with(magic)) {
                    return None;
                }
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                let piece = vec![0; 1 << 20];
                for _ in 0..17 {
                    gzip.write_all(&piece).unwrap();
                }
                gzip.finish().unwrap()
            }
        };
        (body != genuine).then_some(body)
    }
}
