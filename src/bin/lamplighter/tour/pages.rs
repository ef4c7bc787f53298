//! The pages of the tour, the server that serves them, and the way to it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use lamplighter::model::JsonObject;
use lamplighter::testing::{Loopback, LoopbackAnswer, LoopbackRequest};
use lamplighter::transport::{
    Answer, Answered, Clock, Exchange, Replay, Request, Response, Transport, TransportError,
    TransportErrorKind,
};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::failure::{Failure, Result, chain};

/// Embeds files of `fixtures/tour`, so that the installed command needs no other file.
macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tour/", $name)))),*]
    };
}

const EMBEDDED: &[(&str, &[u8])] = embedded![
    "cgit/index-1.html",
    "cgit/index-2.html",
    "cgit/missing.html",
    "cgit/repo-boat_anchor.html",
    "cgit/repo-boat_bilge-pump.html",
    "cgit/repo-boat_rudder.html",
    "cgit/repo-chart_buoys.html",
    "cgit/repo-chart_depths.html",
    "cgit/repo-crew_roster.html",
    "cgit/repo-dock_c++_winch.html",
    "cgit/repo-dock_crane.html",
    "cgit/repo-tide.html",
    "cgit/repo-toolchain.html",
    "github/page-1.json",
    "github/page-2.json",
    "github/page-3.json",
    "pagure/page-1.json",
    "pagure/page-2.json",
    "pagure/page-3.json",
    "pagure/upset.html",
    "phabricator/page-1.json",
    "phabricator/page-2.json",
    "tour.json",
];

/// What says where each page is served.
const INDEX: &str = "tour.json";

/// The fields by which the listers of the tour say where they are.
const POSITIONS: [&str; 4] = ["since", "page", "after", "ofs"];

/// The forges of the tour and their pages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pages {
    pub(super) upstreams: Vec<Upstream>,
    #[serde(rename = "pages")]
    served: Vec<Page>,
    #[serde(skip)]
    files: Vec<(String, Vec<u8>)>,
}

/// A forge to list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) lister: String,
    pub(super) about: String,
    pub(super) arguments: JsonObject,
}

/// An answer. Several to one request are given in turn, the last one for ever.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    url: Url,
    #[serde(default = "get")]
    method: String,
    body: Option<String>,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    file: String,
}

fn get() -> String {
    "GET".to_owned()
}

fn ok() -> u16 {
    200
}

impl Pages {
    /// The built-in pages, or those of a folder of the same form.
    pub(super) fn load(folder: Option<&Path>) -> Result<Self> {
        let read = |name: &str| match folder {
            None => EMBEDDED
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, bytes)| bytes.to_vec())
                .ok_or_else(|| Failure::work(format!("no page {name} is built in"))),
            Some(folder) => {
                let path = folder.join(name);
                std::fs::read(&path)
                    .map_err(|e| Failure::usage(format!("the page {} cannot be read: {e}", path.display())))
            }
        };
        let mut pages: Self =
            serde_json::from_slice(&read(INDEX)?).map_err(|e| Failure::usage(format!("{INDEX}: {e}")))?;
        let names: std::collections::BTreeSet<String> = pages.served.iter().map(|p| p.file.clone()).collect();
        pages.files =
            names.into_iter().map(|name| read(&name).map(|bytes| (name, bytes))).collect::<Result<_>>()?;
        Ok(pages)
    }

    fn exchanges(&self) -> Result<Vec<Exchange>> {
        let mut exchanges = Vec::new();
        for page in &self.served {
            let bytes = self.files.iter().find(|(name, _)| *name == page.file).map(|(_, b)| b.clone());
            let mut answer = Answer::new(page.status, bytes.unwrap_or_default());
            for (name, value) in &page.headers {
                answer = answer.with_header(name, value);
            }
            let method = http::Method::from_bytes(page.method.as_bytes())
                .map_err(|e| Failure::usage(format!("{INDEX}: {}: {e}", page.url)))?;
            let body = page.body.clone().map(Into::into);
            exchanges.push(Exchange::new(method, page.url.clone(), body, Answered::Answer(answer)));
        }
        Ok(exchanges)
    }

    /// Serves the pages on loopback: a forge's host is the first segment of the path.
    pub(super) fn serve(&self, clock: Arc<dyn Clock>) -> Result<Loopback> {
        let replay = Replay::new(self.exchanges()?, clock).with_positions(&POSITIONS);
        Loopback::start(move |asked| answer(&replay, asked).unwrap_or_else(|| LoopbackAnswer::new(404, "")))
            .map_err(|e| Failure::work(format!("no server can be started on the loopback interface: {e}")))
    }
}

fn answer(replay: &Replay, asked: &LoopbackRequest) -> Option<LoopbackAnswer> {
    let mut request = Request::get(forge_url(&asked.target)?);
    request.method = asked.method.clone();
    request.headers = asked.headers.clone();
    request.body = (!asked.body.is_empty()).then(|| asked.body.clone());
    // A replay waits for nothing.
    let response = replay.send(request).now_or_never()?.ok()?;
    let mut answer = LoopbackAnswer::new(response.status.as_u16(), response.body.bytes().ok()?);
    for (name, value) in &response.headers {
        answer = answer.with_header(name.as_str(), value.to_str().ok()?);
    }
    Some(answer)
}

/// `/forge.example/path?query` is `https://forge.example/path?query`.
fn forge_url(target: &str) -> Option<Url> {
    Url::parse(&format!("https:/{target}")).ok().filter(|url| url.host_str().is_some())
}

/// The server's own log, as it is written for tests.
pub(super) fn log_lines(server: &Loopback) -> Vec<Value> {
    server.log().iter().map(|r| json!({"method": r.method.as_str(), "url": forge_url(&r.target)})).collect()
}

/// Leads requests for the forges of the tour to the server on loopback: what a name server would
/// do, so that the forges can have names.
pub(super) struct Rerouted<T> {
    inner: T,
    server: Url,
}

impl<T> Rerouted<T> {
    pub(super) fn new(inner: T, server: Url) -> Self {
        Self { inner, server }
    }
}

#[async_trait]
impl<T: Transport> Transport for Rerouted<T> {
    async fn send(&self, mut request: Request) -> std::result::Result<Response, TransportError> {
        let asked = request.url.clone();
        let mut there = self.server.clone();
        there.set_path(&format!("/{}{}", asked.host_str().unwrap_or_default(), asked.path()));
        there.set_query(asked.query());
        request.url = there;
        let mut response = self.inner.send(request).await?;
        // Where the answer was given, by the forge's name. The pages redirect nowhere.
        let target = response.url.as_str().strip_prefix(self.server.as_str());
        response.url = target.and_then(|t| forge_url(&format!("/{t}"))).ok_or_else(|| {
            TransportError::new(TransportErrorKind::Other, format!("{asked} was answered from elsewhere"))
        })?;
        Ok(response)
    }

    fn attempts(&self) -> u64 {
        self.inner.attempts()
    }
}

/// Writes the server's log.
pub(super) fn write_log(server: &Loopback, file: &Path) -> Result<()> {
    let mut text = String::new();
    for line in log_lines(server) {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    std::fs::write(file, text)
        .map_err(|e| Failure::usage(format!("the log {} cannot be written: {}", file.display(), chain(&e))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_page_is_built_in_and_served() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tour");
        let mut there = BTreeSet::new();
        for folder in std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()) {
            if folder.is_dir() {
                for file in std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
                    there.insert(file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let pages = Pages::load(None).unwrap_or_else(|e| panic!("{e:?}"));
        let named: BTreeSet<String> = pages.served.iter().map(|p| p.file.clone()).collect();
        assert_eq!(named, there, "a page that nobody serves, or that is missing");
        let built_in: BTreeSet<&str> = EMBEDDED.iter().map(|(n, _)| *n).filter(|n| *n != INDEX).collect();
        assert_eq!(built_in, there.iter().map(String::as_str).collect());
    }

    #[test]
    fn a_path_names_its_forge() {
        let url = forge_url("/forge.example/c++%20x/?ofs=6").unwrap();
        assert_eq!(url.as_str(), "https://forge.example/c++%20x/?ofs=6");
        assert_eq!(forge_url("/"), None);
    }
}
