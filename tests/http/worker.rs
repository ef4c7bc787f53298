//! The worker in `examples/`, over the real interface and a store on loopback.

use std::path::Path;
use std::process::Command;

use lamplighter::backend::{Claim, ImportedOrigin, OriginStore, VisitStore};
use lamplighter::model::{ListerKey, OriginKey, VisitStatus, VisitType};
use lamplighter::testing::{Loopback, LoopbackAnswer};

use super::support::{ANN, Server, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_python_takes_part() {
    // A forge that serves files, as git reads them too.
    let forge = Loopback::start(|request| match request.target.split('/').nth(2).unwrap_or_default() {
        _ if request.target.starts_with("/r7.git/") => LoopbackAnswer::new(404, ""),
        "info" => LoopbackAnswer::new(200, format!("{}\trefs/heads/main\n", "1".repeat(40)))
            .with_header("content-type", "text/plain"),
        "HEAD" => LoopbackAnswer::new(200, "ref: refs/heads/main\n"),
        _ => LoopbackAnswer::new(404, ""),
    })
    .unwrap();
    let server = Server::start(0).await;
    let lister = ListerKey::new("gitea", "forge.example");
    let urls: Vec<String> = (0..12).map(|n| forge.url(&format!("/r{n}.git")).to_string()).collect();
    let origins = urls.iter().map(|url| ImportedOrigin::new(&lister, url, VisitType::git())).collect();
    server.store.import(origins, start()).await.unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/worker.py");
    let address = server.address;
    let output = tokio::task::spawn_blocking(move || {
        Command::new("python3")
            .arg(script)
            .arg("3")
            .env("LAMPLIGHTER_URL", format!("http://{address}"))
            .env("LAMPLIGHTER_TOKEN", ANN)
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let keys: Vec<OriginKey> = urls.iter().map(|url| OriginKey::new(url, VisitType::git())).collect();
    let stats = server.store.stats(&keys).await.unwrap();
    let statuses: Vec<Option<VisitStatus>> = stats.into_iter().map(|s| s.unwrap().last_status).collect();
    let mut expected = vec![Some(VisitStatus::Successful); 12];
    expected[7] = Some(VisitStatus::Failed);
    assert_eq!(statuses, expected);
    let left = server.store.claim(&Claim::new(VisitType::git(), 99), start()).await.unwrap().visits;
    assert_eq!(left, [], "each visit has an outcome");
}
