//! A server with two workers, and a client that is as plain as can be.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lamplighter::backend::{ImportedOrigin, MemoryStore, OriginStore};
use lamplighter::dispatch::http::{Api, ApiOptions, ApiToken, HookKind, HookSecret};
use lamplighter::driver::StopHandle;
use lamplighter::model::{ListerKey, Timestamp, VisitType};
use lamplighter::policy::{Policies, named};
use lamplighter::testing::VirtualClock;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const ANN: &str = "ann-bearer-4711";
pub(crate) const BOB: &str = "bob-bearer-0815";
pub(crate) const HOOK: &str = "hook-secret-2342";

pub(crate) fn start() -> Timestamp {
    Timestamp::parse("2026-03-01T00:00:00Z").unwrap()
}

pub(crate) fn url(n: usize) -> String {
    format!("https://forge.example/r{n}")
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<VirtualClock>,
    stop: StopHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

pub(crate) fn options() -> ApiOptions {
    let mut options = ApiOptions::default()
        .with_token(ApiToken::new("ann", ANN))
        .with_token(ApiToken::new("bob", BOB))
        .with_per_second(1000.0);
    for kind in [HookKind::GitHub, HookKind::GitLab, HookKind::Gitea] {
        options = options.with_hook(HookSecret::new(kind, format!("{kind:?}"), HOOK));
    }
    options
}

impl Server {
    pub(crate) async fn start(origins: usize) -> Self {
        Self::with(origins, options()).await
    }

    pub(crate) async fn with(origins: usize, options: ApiOptions) -> Self {
        let store =
            Arc::new(MemoryStore::with_policies(Policies::all(named("due,budget=3,guard=off").unwrap())));
        let lister = ListerKey::new("gitea", "forge.example");
        let origin = |n| ImportedOrigin::new(&lister, url(n), VisitType::git());
        store.import((0..origins).map(origin).collect(), start()).await.unwrap();
        Self::serve(store, Arc::new(VirtualClock::new(start())), options).await
    }

    /// Another process over the same store.
    pub(crate) async fn over(other: &Self) -> Self {
        Self::serve(other.store.clone(), other.clock.clone(), options()).await
    }

    async fn serve(store: Arc<MemoryStore>, clock: Arc<VirtualClock>, options: ApiOptions) -> Self {
        let api = Api::new(store.clone(), clock.clone(), options);
        let serving = api.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, stop) = (serving.address(), StopHandle::default());
        tokio::spawn(serving.run(stop.clone()));
        Self { address, store, clock, stop }
    }

    /// Sends bytes, and reads to the end of the connection.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        // A server that has answered already may close while this is still being written.
        let _ = socket.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n");
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        write!(request, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        Answer::read(&self.raw(request.as_bytes()).await)
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("authorization", format!("Bearer {token}").as_str())], &body.to_string())
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("authorization", format!("Bearer {ANN}").as_str())], "").await
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers =
            lines.map(|l| l.split_once(": ").unwrap()).map(|(n, v)| (n.to_lowercase(), v.to_owned()));
        Self { status, headers: headers.collect(), body: body.to_owned() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The kind of an error.
    pub(crate) fn kind(&self) -> String {
        self.json()["error"]["kind"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}
