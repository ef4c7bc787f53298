//! The tour, as the built command gives it: its figures are the server's own, and what it says of
//! the second round is what came of the first.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail this way")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The built-in pages, as files.
fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tour")
}

struct Tour {
    told: Value,
    /// The server's own log: (host, method, path and query).
    log: Vec<(String, String, String)>,
    /// What is left in the folder in which it ran.
    left: Vec<String>,
}

fn tour(pages: Option<&Path>) -> Tour {
    let room = tempfile::tempdir().unwrap();
    let log = tempfile::tempdir().unwrap();
    let log_file = log.path().join("log.jsonl");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command.current_dir(room.path()).env_remove("LAMPLIGHTER_STORE").args([
        "tour",
        "--json",
        "--request-log",
    ]);
    command.arg(&log_file);
    if let Some(pages) = pages {
        command.arg("--pages").arg(pages);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told = serde_json::from_slice(&output.stdout).unwrap();
    let log = std::fs::read_to_string(log_file).unwrap();
    let log = log
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let url = line["url"].as_str().unwrap().strip_prefix("https://").unwrap();
            let (host, rest) = url.split_once('/').unwrap();
            (host.to_owned(), line["method"].as_str().unwrap().to_owned(), format!("/{rest}"))
        })
        .collect();
    let left = std::fs::read_dir(room.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    Tour { told, log, left: left.collect() }
}

const HOSTS: [(&str, &str); 4] = [
    ("github", "api.github.com"),
    ("cgit", "git.harbour.example"),
    ("phabricator", "phabricator.meridian.example"),
    ("pagure", "pagure.hearth.example"),
];

/// The origins on the pages, by host, read in another way than the listers do.
fn on_the_pages(root: &Path) -> BTreeMap<&'static str, BTreeSet<String>> {
    let index: Value = serde_json::from_slice(&std::fs::read(root.join("tour.json")).unwrap()).unwrap();
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for page in index["pages"].as_array().unwrap() {
        if page["status"].as_u64().unwrap_or(200) != 200 {
            continue;
        }
        let url = page["url"].as_str().unwrap();
        let (_, host) = HOSTS.into_iter().find(|(_, host)| url.contains(host)).unwrap();
        let text = std::fs::read_to_string(root.join(page["file"].as_str().unwrap())).unwrap();
        let json = || serde_json::from_str::<Value>(&text).unwrap();
        let texts = |value: &Value, path: &str| value.pointer(path).unwrap().as_str().unwrap().to_owned();
        let urls: Vec<String> = match host {
            "api.github.com" => {
                let json = json();
                let there = json.as_array().unwrap().iter().filter(|r| !r.is_null());
                there.map(|r| texts(r, "/html_url")).collect()
            }
            "pagure.hearth.example" => {
                let json = json();
                let projects = json["projects"].as_array().unwrap().iter();
                projects.map(|p| format!("https://{host}/{}", texts(p, "/fullname"))).collect()
            }
            "phabricator.meridian.example" => {
                let json = json();
                let data = json["result"]["data"].as_array().unwrap().iter();
                // The first of each repository's addresses is the one it shows.
                data.map(|r| texts(r, "/attachments/uris/uris/0/fields/uri/effective")).collect()
            }
            _ => text
                .lines()
                .filter_map(|line| line.strip_prefix("<link rel='vcs-git' href='https:"))
                .map(|rest| format!("https:{}", rest.split('\'').next().unwrap()))
                .collect(),
        };
        found.entry(host).or_default().extend(urls);
    }
    found
}

#[test]
fn its_figures_are_those_of_the_server_and_of_the_pages() {
    let tour = tour(None);
    let expected = on_the_pages(&pages());
    let upstreams = tour.told["upstreams"].as_array().unwrap();
    assert_eq!(upstreams.len(), HOSTS.len());
    for (upstream, (lister, host)) in upstreams.iter().zip(HOSTS) {
        assert_eq!(upstream["lister"], lister);
        assert_eq!(upstream["outcome"], "complete", "{lister}");
        let asked: Vec<_> = tour.log.iter().filter(|(h, ..)| h == host).collect();
        assert_eq!(upstream["requests"], asked.len(), "requests to {lister}");
        assert_eq!(upstream["origins"], expected[host].len(), "origins of {lister}");
        // What was asked twice failed the first time; what is not there is no page.
        let different: BTreeSet<_> = asked.iter().collect();
        let missing = different.iter().filter(|(.., target)| target.contains("ghost-ship")).count();
        if lister == "phabricator" {
            // Its requests differ in their forms, which the log does not keep.
            assert_eq!(upstream["pages"], asked.len());
        } else {
            assert_eq!(upstream["pages"], different.len() - missing, "pages of {lister}");
        }
        assert_eq!(missing, usize::from(lister == "cgit"));
        assert_eq!(
            asked.len() - different.len(),
            match lister {
                "pagure" | "phabricator" => 1,
                _ => 0,
            }
        );
    }
    let all: usize = expected.values().map(BTreeSet::len).sum();
    assert_eq!(tour.told["known"], all);
    assert!(all >= 50, "the tour is worth it: {all}");
    assert!(tour.told["seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(tour.left, [""; 0], "nothing is left behind");
}

fn urls(round: &Value) -> Vec<&str> {
    round["visits"].as_array().unwrap().iter().map(|v| v["url"].as_str().unwrap()).collect()
}

#[test]
fn the_second_round_follows_from_what_came_of_the_first() {
    let tour = tour(None);
    let (first, second) = (&tour.told["rounds"][0], &tour.told["rounds"][1]);
    let (before, after) = (urls(first), urls(second));
    assert!(before.len() > after.len() && !after.is_empty());
    let outcomes = first["outcomes"].as_array().unwrap();
    let url_of = |o: &Value| o["url"].as_str().unwrap().to_owned();
    // Everything that was handed out came to something.
    let visited: BTreeSet<String> = outcomes.iter().map(url_of).collect();
    assert_eq!(visited, before.iter().map(|u| (*u).to_owned()).collect());
    // What failed or was not found is left alone; the rest comes in the order of the ends.
    let well = |o: &&Value| o["status"] == "successful";
    assert!(outcomes.iter().any(|o| o["status"] == "failed"));
    assert!(outcomes.iter().any(|o| o["status"] == "not_found"));
    let left: BTreeSet<String> = outcomes.iter().filter(well).map(url_of).collect();
    assert_eq!(after.iter().map(|u| (*u).to_owned()).collect::<BTreeSet<_>>(), left);
    let end = |url: &str| {
        let of = outcomes.iter().find(|o| o["url"] == url).unwrap();
        of["at"].as_str().unwrap().to_owned()
    };
    let ends: Vec<String> = after.iter().map(|url| end(url)).collect();
    assert!(ends.is_sorted(), "the one visited longest ago goes first");
    let kept: Vec<&str> = before.iter().copied().filter(|u| left.contains(*u)).collect();
    assert_ne!(kept, after, "the order is another one");
    // The reasons are those that explain gives.
    assert_eq!(first["visits"][0]["reason"], "never_visited");
    let explained = &tour.told["explain"];
    assert_eq!(explained["url"], after[0]);
    assert_eq!(explained["reason"], second["visits"][0]["reason"]);
    assert_eq!(explained["why"], second["visits"][0]["why"]);
    assert_ne!(explained["reason"], first["visits"][0]["reason"]);
    let held = &tour.told["explain_held"];
    assert_eq!((&held["reason"], &held["holds"]), (&Value::from("hold"), &Value::from("hold")));
    assert!(!after.contains(&held["url"].as_str().unwrap()));
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let there = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&there).unwrap();
            copy(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

#[test]
fn a_repository_that_is_served_no_more_is_gone_from_it() {
    const GONE: &str = "https://github.com/nine-lanterns/wick";
    let room = tempfile::tempdir().unwrap();
    copy(&pages(), room.path());
    let whole = tour(Some(room.path()));
    assert!(urls(&whole.told["rounds"][0]).contains(&GONE));
    let page = room.path().join("github/page-2.json");
    let mut repositories: Vec<Value> = serde_json::from_slice(&std::fs::read(&page).unwrap()).unwrap();
    let before = repositories.len();
    repositories.retain(|r| r["html_url"] != GONE);
    assert_eq!(repositories.len(), before - 1);
    std::fs::write(&page, serde_json::to_vec(&repositories).unwrap()).unwrap();
    let less = tour(Some(room.path()));
    for round in less.told["rounds"].as_array().unwrap() {
        assert!(!urls(round).contains(&GONE));
    }
    let known = |tour: &Tour| tour.told["known"].as_u64().unwrap();
    assert_eq!(known(&less), known(&whole) - 1);
    assert_eq!(
        less.told["upstreams"][0]["origins"],
        whole.told["upstreams"][0]["origins"].as_u64().unwrap() - 1
    );
}

#[test]
fn for_people_it_tells_what_happens_and_why() {
    let output = Command::new(env!("CARGO_BIN_EXE_lamplighter")).arg("tour").output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    for expected in
        ["github of github", "complete", "never visited", "asked again", "hold", "lamplighter list"]
    {
        assert!(said.contains(expected), "{expected:?} in:\n{said}");
    }
}
