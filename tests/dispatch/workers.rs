//! The ready-made workers, against real HTTP servers on loopback.

use std::sync::Arc;

use lamplighter::backend::{Claim, MemoryStore, Visit, VisitStore};
use lamplighter::dispatch::{ByType, FileHead, LsRemote, Visited, Worker};
use lamplighter::model::{Timestamp, VisitStatus, VisitType};
use lamplighter::testing::{Loopback, LoopbackAnswer, LoopbackRequest};
use lamplighter::transport::{Http, HttpOptions};
use sha2::{Digest, Sha256};

use super::doubles::{fill_with, start};

const A: &str = "1111111111111111111111111111111111111111";

async fn visit_of(url: &str, visit_type: VisitType) -> Visit {
    let store = MemoryStore::new();
    fill_with(&store, vec![(url.to_owned(), visit_type.clone())]).await;
    store.claim(&Claim::new(visit_type, 1), start()).await.unwrap().visits.remove(0)
}

fn http(server: &Loopback) -> Arc<Http> {
    Arc::new(Http::new(HttpOptions::new("tests").with_bases([server.url("/")])).unwrap())
}

async fn look(
    answer: impl Fn(&LoopbackRequest) -> LoopbackAnswer + Send + Sync + 'static,
) -> (Visited, Vec<LoopbackRequest>) {
    let server = Loopback::start(answer).unwrap();
    let visit = visit_of(server.url("/r.git").as_str(), VisitType::git()).await;
    let visited = LsRemote::new(http(&server)).visit(&visit).await;
    (visited, server.log())
}

fn smart(body: &str) -> LoopbackAnswer {
    LoopbackAnswer::new(200, body.to_owned())
        .with_header("content-type", "application/x-git-upload-pack-advertisement")
}

fn pkt(lines: &[String]) -> String {
    lines.iter().map(|l| format!("{:04x}{l}", l.len() + 4)).collect::<Vec<_>>().concat() + "0000"
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat()
}

fn expected(lines: &str) -> String {
    format!("refs:sha256:{}", hex(&Sha256::digest(lines)))
}

#[tokio::test]
async fn a_server_of_version_2_is_asked_where_it_was_redirected_to() {
    let (visited, log) = look(|request| match request.target.as_str() {
        "/r.git/info/refs?service=git-upload-pack" => LoopbackAnswer::new(301, "")
            .with_header("location", "/new/r.git/info/refs?service=git-upload-pack"),
        "/new/r.git/info/refs?service=git-upload-pack" => smart(&pkt(&[
            "version 2\n".to_owned(),
            "ls-refs=unborn\n".to_owned(),
            "object-format=sha1\n".to_owned(),
        ])),
        "/new/r.git/git-upload-pack" => LoopbackAnswer::new(
            200,
            pkt(&[format!("{A} HEAD symref-target:refs/heads/main\n"), format!("{A} refs/heads/main\n")]),
        ),
        _ => LoopbackAnswer::new(404, ""),
    })
    .await;
    assert_eq!(
        visited.snapshot,
        Some(expected(&format!("HEAD ref: refs/heads/main\nrefs/heads/main {A}\n"))),
        "{visited:?}"
    );
    assert_eq!(log.len(), 3);
    assert!(log.iter().all(|r| r.headers["git-protocol"] == "version=2"));
    let asked = String::from_utf8(log[2].body.to_vec()).unwrap();
    assert!(asked.contains("command=ls-refs\n") && asked.contains("ref-prefix refs/tags/\n"), "{asked}");
    assert_eq!(log[2].headers["content-type"], "application/x-git-upload-pack-request");
}

#[tokio::test]
async fn a_server_of_files_tells_its_references_too() {
    let (visited, log) = look(|_| {
        LoopbackAnswer::new(200, format!("{A}\trefs/heads/main\n")).with_header("content-type", "text/plain")
    })
    .await;
    assert_eq!((visited.status, log.len()), (VisitStatus::Successful, 1));
    assert_eq!(visited.snapshot, Some(expected(&format!("refs/heads/main {A}\n"))));
}

#[tokio::test]
async fn what_is_no_repository_is_never_an_empty_one() {
    let html = || LoopbackAnswer::new(200, "<html>sign in</html>").with_header("content-type", "text/html");
    let cut = || smart(&format!("003f{A} refs/heads/main"));
    let cases: Vec<(LoopbackAnswer, VisitStatus, &str)> = vec![
        (LoopbackAnswer::new(404, ""), VisitStatus::NotFound, "404"),
        (LoopbackAnswer::new(410, ""), VisitStatus::NotFound, "410"),
        (LoopbackAnswer::new(401, ""), VisitStatus::NotFound, "not for everybody"),
        (LoopbackAnswer::new(403, ""), VisitStatus::Failed, "403"),
        (LoopbackAnswer::new(503, ""), VisitStatus::Failed, "503"),
        (html(), VisitStatus::Failed, "no repository of git"),
        (cut(), VisitStatus::Failed, "cut off at byte 0"),
        (smart(""), VisitStatus::Failed, "cut off at byte 0"),
        (LoopbackAnswer::close(), VisitStatus::Failed, "/r.git/info/refs"),
    ];
    for (answer, status, says) in cases {
        let (visited, _) = look(move |_| answer.clone()).await;
        assert_eq!((visited.status, visited.snapshot.as_ref()), (status, None), "{visited:?}");
        let error = visited.error.unwrap();
        assert!(error.contains(says) && !error.contains("service="), "{error}");
    }
}

#[tokio::test]
async fn an_origin_may_not_lead_into_the_private_network() {
    let server = Loopback::start(|_| smart("0000")).unwrap();
    let visit = visit_of(server.url("/r.git").as_str(), VisitType::git()).await;
    let not_configured = Arc::new(Http::new(HttpOptions::new("tests")).unwrap());
    let visited = LsRemote::new(not_configured).visit(&visit).await;
    assert_eq!(visited.status, VisitStatus::Failed);
    assert!(visited.error.unwrap().contains("may not be asked"));
    assert!(server.log().is_empty());
    assert_eq!(LsRemote::new(http(&server)).visit(&visit).await.status, VisitStatus::Successful);
}

#[tokio::test]
async fn a_files_headers_name_its_state() {
    let server = Loopback::start(|request| {
        let answer = LoopbackAnswer::new(200, "contents");
        match request.target.as_str() {
            "/etag" => answer
                .with_header("etag", "\"v1\"")
                .with_header("last-modified", "Thu, 01 Jan 1970 00:01:00 GMT"),
            "/etag2" => answer.with_header("etag", "\"v2\""),
            "/date" => answer.with_header("last-modified", "Thu, 01 Jan 1970 00:01:00 GMT"),
            "/nothing" => answer,
            _ => LoopbackAnswer::new(404, ""),
        }
    })
    .unwrap();
    let file = || VisitType::new("content").unwrap();
    let worker = ByType::new().with(file(), Arc::new(FileHead::new(http(&server))));
    let mut seen = Vec::new();
    for path in ["/etag", "/etag", "/etag2", "/date", "/nothing", "/gone"] {
        seen.push(worker.visit(&visit_of(server.url(path).as_str(), file()).await).await);
    }
    assert_eq!(seen[0].snapshot, Some(format!("file:sha256:{}", hex(&Sha256::digest("etag \"v1\"")))));
    assert_eq!(seen[0].snapshot, seen[1].snapshot);
    assert_ne!(seen[0].snapshot, seen[2].snapshot);
    assert_eq!(seen[0].changed_at, Some(Timestamp::from_seconds(60)));
    let by_date = "modified Thu, 01 Jan 1970 00:01:00 GMT length 8";
    assert_eq!(seen[3].snapshot, Some(format!("file:sha256:{}", hex(&Sha256::digest(by_date)))));
    assert_eq!((seen[4].status, seen[4].snapshot.as_ref()), (VisitStatus::Successful, None), "no evidence");
    assert_eq!(seen[5].status, VisitStatus::NotFound);
    assert!(server.log().iter().all(|r| r.method == "HEAD"));
    let other = worker.visit(&visit_of(server.url("/etag").as_str(), VisitType::git()).await).await;
    assert_eq!(other.status, VisitStatus::Failed, "there is no worker of that type");
}
