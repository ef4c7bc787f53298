//! `detect`, on the built command: keys, exit statuses, and how many requests are made.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail this way")]

#[path = "common/command.rs"]
mod command;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use command::{has_keys, lines, run, said};
use lamplighter::testing::{Loopback, LoopbackAnswer};
use serde_json::json;
use tempfile::TempDir;

#[test]
fn detect_names_the_lister_its_version_and_what_to_do_next() {
    let room = TempDir::new().unwrap();
    let forge = Loopback::start(|asked| match asked.target.as_str() {
        "/" => LoopbackAnswer::new(
            200,
            "<html><head><meta name=\"author\" content=\"Gitea - Git with a cup of tea\"></head></html>",
        ),
        "/api/v1/version" => LoopbackAnswer::json(&json!({"version": "1.22.3"})),
        _ => LoopbackAnswer::new(404, ""),
    })
    .unwrap();
    let url = forge.url("/");
    let output = run(room.path(), &["detect", url.as_str(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let found = lines(&output).remove(0);
    has_keys(&found, "lister version evidence command");
    assert_eq!((&found["lister"], &found["version"]), (&json!("gitea"), &json!("1.22.3")));
    assert_eq!(found["command"], format!("lamplighter list gitea url={url}"));
    let for_people = String::from_utf8(run(room.path(), &["detect", url.as_str()]).stdout).unwrap();
    assert!(
        for_people.starts_with("gitea 1.22.3\n") && for_people.contains("lamplighter list gitea"),
        "{for_people}"
    );
}

#[test]
fn detect_says_that_no_lister_fits_after_six_requests() {
    let room = TempDir::new().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let host = Loopback::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        LoopbackAnswer::new(503, "busy")
    })
    .unwrap();
    let output = run(room.path(), &["detect", host.url("/").as_str(), "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let found = lines(&output).remove(0);
    assert_eq!((&found["lister"], &found["command"]), (&json!(null), &json!(null)));
    assert_eq!(asked.load(Ordering::SeqCst), 6, "what fails is not asked for again");
    assert_eq!(run(room.path(), &["detect", "ftp://forge.example/"]).status.code(), Some(2));
    assert_eq!(run(room.path(), &["detect", "forge.example"]).status.code(), Some(2));
}
