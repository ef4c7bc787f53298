//! A sample of the matrix over real sockets: that the client tells what goes wrong there as the
//! matrix has it told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter::backend::RunOutcome;
use lamplighter::driver::RunReport;
use lamplighter::testing::Step;
use lamplighter::transport::{
    Http, HttpOptions, Request, Response, Transport, TransportError, TransportErrorKind as Kind,
};

use crate::cell::same;
use crate::expected::{But, Origins};
use crate::fault::Fault;
use crate::forge::{How, key};
use crate::support::{RawServer, Reply, http};
use crate::trial::{Trial, listed};

/// What a server does to a connection, how the matrix has it, and what is said of it.
struct Wire {
    what: &'static str,
    fault: Fault,
    said: &'static str,
}

const WIRES: [Wire; 10] = [
    Wire { what: "cut", fault: Fault::No(Kind::Body, ""), said: "the answer broke off" },
    Wire { what: "closed", fault: Fault::No(Kind::Body, ""), said: "the answer broke off" },
    Wire { what: "silent", fault: Fault::No(Kind::Timeout, ""), said: "timed out" },
    Wire { what: "drip", fault: Fault::No(Kind::Timeout, ""), said: "timed out" },
    Wire {
        what: "circle",
        fault: Fault::No(Kind::Redirect, ""),
        said: "a redirect that may not be followed",
    },
    Wire { what: "inside", fault: Fault::No(Kind::Forbidden, ""), said: "an address that may not be asked" },
    Wire {
        what: "encoded",
        fault: Fault::No(Kind::Encoding, ""),
        said: "an encoding that was not asked for",
    },
    Wire { what: "large", fault: Fault::No(Kind::TooLarge, ""), said: "the answer is too large" },
    Wire { what: "busy", fault: Fault::Status(502), said: "status 502" },
    Wire { what: "html", fault: Fault::Body(crate::fault::Spoiled::Html), said: "unexpected answer" },
];

/// Whatever is asked, a number of a step or the name of a fault.
fn serve(request: &str, steps: &[(u16, Vec<String>, Vec<u8>)]) -> Reply {
    let target = request.split(' ').nth(1).unwrap().trim_start_matches('/');
    match target {
        "cut" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n[{\"id\": 1".to_vec()),
        "closed" => Reply::Bytes(Vec::new()),
        "silent" => Reply::Hang(Vec::new()),
        "drip" => {
            Reply::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec(), vec![b' '; 100_000])
        }
        "circle" => Reply::Bytes(http("302 Found", "Location: /circle\r\n", b"")),
        "inside" => Reply::Bytes(http("302 Found", "Location: http://10.1.2.3/\r\n", b"")),
        "encoded" => Reply::Bytes(http("200 OK", "Content-Encoding: x-odd\r\n", b"[]")),
        "large" => Reply::Bytes(http("200 OK", "", &vec![b' '; 5_000])),
        "busy" => Reply::Bytes(http("502 Bad Gateway", "", b"busy")),
        "html" => Reply::Bytes(http(
            "200 OK",
            "Content-Type: text/html\r\n",
            b"<html><title>Maintenance</title></html>",
        )),
        number => match number.parse::<usize>().ok().and_then(|n| steps.get(n)) {
            Some((status, headers, body)) => {
                Reply::Bytes(http(&format!("{status} As recorded"), &headers.concat(), body))
            }
            None => Reply::Bytes(http("404 Not Found", "", b"no such page")),
        },
    }
}

fn as_sent(step: &Step) -> (u16, Vec<String>, Vec<u8>) {
    let response = step.response.as_ref().unwrap();
    let own = ["content-length", "transfer-encoding", "connection"];
    let headers = response.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let lines = headers.map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
    (response.status.as_u16(), lines, response.body.bytes().unwrap().to_vec())
}

/// Sends what a lister asks to the server instead, over a socket.
struct Socket {
    server: Arc<RawServer>,
    keys: Vec<String>,
    at: usize,
    wire: &'static Wire,
    how: How,
    client: Arc<Http>,
    /// For what goes wrong: it has no patience, or takes nothing large.
    strict: Arc<Http>,
    asked: AtomicUsize,
}

#[async_trait]
impl Transport for Socket {
    async fn send(&self, mut request: Request) -> Result<Response, TransportError> {
        let wanted = request.url.clone();
        let this = key(&request);
        let step = self.keys.iter().position(|k| *k == this);
        let fails = (step == Some(self.at) || (step.is_none() && self.how == How::Always))
            && (self.asked.fetch_add(1, Ordering::SeqCst) == 0 || self.how == How::Always);
        let target = match step {
            _ if fails => self.wire.what.to_owned(),
            Some(n) => n.to_string(),
            None => "none".to_owned(),
        };
        request.url = self.server.at(&target);
        request.credential = None;
        let mut answer = if fails { &self.strict } else { &self.client }.send(request).await?;
        answer.url = wanted;
        Ok(answer)
    }
}

fn strict(what: &str, options: HttpOptions) -> HttpOptions {
    let patient = Duration::from_secs(3600);
    match what {
        "silent" => options.with_idle(patient, Duration::from_millis(5)),
        "drip" => options.with_idle(patient, patient).with_total(Duration::from_millis(20)),
        "large" => options.with_body(1_000, 2_000),
        _ => options,
    }
}

/// A server of a trial's pages, and its clients.
struct Served {
    server: Arc<RawServer>,
    client: Arc<Http>,
    strict: BTreeMap<&'static str, Arc<Http>>,
}

impl Served {
    fn new(trial: &Trial<'_>) -> Self {
        let steps: Vec<_> = trial.steps.iter().map(as_sent).collect();
        let server = Arc::new(RawServer::start(move |request, _| serve(request, &steps)));
        let options =
            || HttpOptions::new("").with_bases([server.base.clone()]).with_clock(trial.clock(0) as _);
        let client = |options| Arc::new(Http::new(options).unwrap());
        let strict = ["silent", "drip", "large"].map(|what| (what, client(strict(what, options()))));
        Self { client: client(options()), strict: strict.into(), server: Arc::clone(&server) }
    }
}

async fn run(
    trial: &Trial<'_>,
    served: &Served,
    at: usize,
    wire: &'static Wire,
    how: How,
) -> (RunReport, Origins) {
    let clock = trial.clock(0);
    let socket = Socket {
        keys: trial.steps.iter().map(|s| key(&s.request)).collect(),
        at,
        wire,
        how,
        client: Arc::clone(&served.client),
        strict: Arc::clone(served.strict.get(wire.what).unwrap_or(&served.client)),
        asked: AtomicUsize::new(0),
        server: Arc::clone(&served.server),
    };
    let store = trial.prepared().await;
    let report = trial.drive(&store, trial.run_of_case(), Arc::new(socket), clock).await;
    let origins = listed(&store).await;
    (report, origins)
}

/// What of a trial's cells does not hold over sockets.
pub(crate) async fn sample(trial: &Trial<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    // The last page that says something: all before it is listed whatever becomes of it.
    let Some(at) = trial.steps.iter().rposition(|s| s.said.is_ok()) else { return broken };
    let all: Origins = trial.health().all().union(&trial.before).cloned().collect();
    let served = Served::new(trial);
    for wire in &WIRES {
        let mut expected = trial.health().with(But::Fails(at, wire.fault.failure()));
        expected.origins.extend(trial.before.iter().cloned());
        let place = format!("{}, {} over a socket", trial.name, wire.what);
        let (report, origins) = run(trial, &served, at, wire, How::Always).await;
        let missing = !expected.gaps.is_empty();
        let told = report.gaps.iter().all(|gap| gap.reason.contains(wire.said));
        if (report.outcome == RunOutcome::Partial) != missing || !told {
            broken.push(format!("{place}: it ends {:?} with {:?}", report.outcome, report.gaps));
        }
        broken.extend(same(&origins, &expected.origins).err().map(|e| format!("{place}: {e}")));
        if wire.fault.is_retried() {
            let (report, origins) = run(trial, &served, at, wire, How::Once).await;
            if report.outcome != RunOutcome::Complete {
                broken.push(format!("{place}, once: it ends {:?} with {:?}", report.outcome, report.gaps));
            }
            broken.extend(same(&origins, &all).err().map(|e| format!("{place}, once: {e}")));
        }
    }
    broken
}
