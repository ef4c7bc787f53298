//! The command's contract, on the built command: keys, exit statuses, what goes where.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail this way")]

#[path = "common/command.rs"]
mod command;
#[path = "common/signal.rs"]
mod signal;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use command::{NOW, command, has_keys, lines, list_args, refs, run, run_with, said};
use lamplighter::testing::{Loopback, LoopbackAnswer};
use serde_json::{Value, json};
use signal::signal;
use tempfile::TempDir;

/// A Pagure of so many pages with two projects each; `hook` is called before a page is answered.
fn pagure(pages: u64, hook: impl Fn(u64) -> Option<LoopbackAnswer> + Send + Sync + 'static) -> Loopback {
    Loopback::start(move |asked| {
        let page = asked.target.split("&page=").nth(1).map_or(1, |n| n.parse().unwrap());
        if let Some(answer) = hook(page) {
            return answer;
        }
        let host = asked.headers["host"].to_str().unwrap();
        let next =
            (page < pages).then(|| format!("http://{host}/api/0/projects?per_page=2&page={}", page + 1));
        let project = |n: u64| json!({"id": page * 2 + n, "fullname": format!("p{}", page * 2 + n)});
        LoopbackAnswer::json(&json!({"projects": [project(0), project(1)], "pagination": {"next": next}}))
    })
    .unwrap()
}

#[test]
fn bad_usage_is_one_line_and_status_two() {
    let room = TempDir::new().unwrap();
    std::fs::write(room.path().join("bad.toml"), "contakt = 1\n").unwrap();
    for (args, expected) in [
        (&["list", "githab"][..], "did you mean \"github\"?"),
        (&["list", "pagure", "ulr=x"], "did you mean \"url\"?"),
        (&["list", "pagure", "nothing"], "KEY=VALUE"),
        (&["list", "pagure"], "pagure needs"),
        (&["replay", "nowhere"], "nowhere"),
        (&["nxt"], "'next'"),
        (&["--now", "yesterday", "runs"], "2026-01-31T12:00:00Z"),
        (&["--store", "postgres://u:hunter2@127.0.0.1:1/d", "runs"], "see that the server runs"),
        (&["--store", "elsewhere", "runs"], "file:PATH"),
        (&["--config", "bad.toml", "listers"], "bad.toml:1: "),
        (&["next", "Git"], "visit type"),
        (&[], "lamplighter tour"),
    ] {
        let output = run(room.path(), args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.starts_with("lamplighter: ") && said.lines().count() == 1, "{args:?}: {said}");
        assert!(said.contains(expected) && !said.contains("hunter2"), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    assert_eq!(run(room.path(), &["--help"]).status.code(), Some(0));
    assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 1, "nothing but what was there");
}

#[test]
fn what_needs_an_earlier_store_refuses_one_that_forgets() {
    let room = TempDir::new().unwrap();
    for args in
        [&["origins"][..], &["next", "git"], &["complete"], &["explain", "https://h/r"], &["runs"], &["gaps"]]
    {
        for (store, why) in [("memory", "forgets everything"), ("file:none.db", "no store at none.db")] {
            let output = run(room.path(), &[&["--store", store], args].concat());
            assert_eq!(output.status.code(), Some(2), "{args:?} {store}");
            assert!(said(&output).contains(why), "{args:?} {store}: {}", said(&output));
        }
    }
    assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 0);
}

#[test]
fn listers_tells_every_parameter() {
    let room = TempDir::new().unwrap();
    let output = run(room.path(), &["listers", "--json"]);
    let all = lines(&output).remove(0);
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted());
    for name in ["cgit", "github", "pagure", "phabricator", "phorge"] {
        assert!(names.contains(&name), "{name}");
    }
    for lister in all.as_array().unwrap() {
        has_keys(lister, "name upstream visit_types incremental parameters");
        for parameter in lister["parameters"].as_array().unwrap() {
            has_keys(parameter, "name type default required about");
        }
    }
    // A filter for each fact that a forge tells, and for no other.
    let filters = |name: &str| -> Vec<String> {
        let lister = all.as_array().unwrap().iter().find(|l| l["name"] == name).unwrap();
        let parameters = lister["parameters"].as_array().unwrap().iter();
        let filters = parameters.filter(|p| p["type"] == "filter" && p["default"] == "include");
        filters.map(|p| p["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(filters("gitea"), ["forks", "archived", "mirrors", "empty"]);
    assert_eq!(filters("gogs"), ["forks", "mirrors", "empty"]);
    assert_eq!(filters("cgit"), [""; 0]);
}

#[test]
fn a_listing_is_told_whole_and_can_be_looked_at() {
    let room = TempDir::new().unwrap();
    let forge = pagure(3, |page| (page == 3).then(|| LoopbackAnswer::new(404, "")));
    let args = list_args(&forge);
    let output = run(room.path(), &refs(&args));
    assert_eq!(output.status.code(), Some(1), "partial: {}", said(&output));
    let told = lines(&output).remove(0);
    has_keys(
        &told,
        "lister instance outcome pending error pages requests origins new changed unchanged gone skipped gaps state seconds",
    );
    assert_eq!(
        (&told["outcome"], &told["pages"], &told["requests"]),
        (&json!("partial"), &json!(2), &json!(3))
    );
    assert_eq!((&told["origins"], &told["new"]), (&json!(4), &json!(4)));
    has_keys(&told["gaps"][0], "cursor reason");
    assert!(told["gaps"][0]["reason"].as_str().unwrap().contains("404"));
    let runs = lines(&run(room.path(), &["runs", "--json"]));
    assert_eq!(runs.len(), 1);
    has_keys(&runs[0], "run lister instance mode coverage outcome started finished pages origins gaps error");
    assert_eq!((&runs[0]["outcome"], &runs[0]["gaps"]), (&json!("partial"), &json!(1)));
    assert_eq!(lines(&run(room.path(), &["gaps", "--json"])).len(), 1);
    let origins = lines(&run(room.path(), &["origins", "--json"]));
    let urls: BTreeSet<&str> = origins.iter().map(|o| o["url"].as_str().unwrap()).collect();
    let expected: Vec<String> = (2..6).map(|n| forge.url(&format!("/p{n}")).to_string()).collect();
    assert_eq!(urls, expected.iter().map(String::as_str).collect());
    assert_eq!(lines(&run(room.path(), &["origins", "--json", "--lister", "github"])).len(), 0);
}

#[test]
fn gaps_are_asked_for_again_with_the_parameters_of_their_run() {
    let room = TempDir::new().unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let hook = Arc::clone(&broken);
    let forge = pagure(3, move |page| {
        (page == 2 && hook.load(Ordering::SeqCst)).then(|| LoopbackAnswer::new(404, ""))
    });
    let args = list_args(&forge);
    assert_eq!(run(room.path(), &refs(&args)).status.code(), Some(1));
    assert_eq!(run(room.path(), &["gaps", "--retry", "--json"]).status.code(), Some(1), "not healed yet");
    broken.store(false, Ordering::SeqCst);
    let before = forge.log().len();
    let output = run(room.path(), &["gaps", "--retry", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = lines(&output).remove(0);
    assert_eq!((&told["mode"], &told["new"]), (&json!("gaps"), &json!(4)));
    assert_eq!(forge.log().len() - before, 2, "the gap, and what follows it");
    assert!(lines(&run(room.path(), &["gaps", "--json"])).is_empty());
}

#[test]
fn a_limit_holds_for_the_next_command() {
    let room = TempDir::new().unwrap();
    let forge = pagure(1, |_| Some(LoopbackAnswer::new(429, "").with_header("retry-after", "90000")));
    let args = list_args(&forge);
    for _ in 0..2 {
        let output = run(room.path(), &refs(&args));
        assert_ne!(output.status.code(), Some(0));
        let told = format!("{}{}", said(&output), String::from_utf8_lossy(&output.stdout));
        assert!(told.contains("free again"), "{told}");
        assert_eq!(forge.log().len(), 1, "it said to wait, and is asked once");
    }
    // Another store knows nothing of it.
    let elsewhere = TempDir::new().unwrap();
    run(elsewhere.path(), &refs(&args));
    assert_eq!(forge.log().len(), 2);
}

#[test]
fn the_configuration_names_a_reserve_and_root_certificates() {
    let room = TempDir::new().unwrap();
    let forge = pagure(1, |_| None);
    let list = list_args(&forge);
    for (text, expected) in [
        ("reserve = 100\n", None),
        ("reserve = -1\n", Some("c.toml:1: ")),
        ("root_certificates = [\"none.pem\"]\n", Some("none.pem cannot be read")),
        ("root_certificates = [\"c.toml\"]\n", Some("no PEM certificate")),
    ] {
        std::fs::write(room.path().join("c.toml"), text).unwrap();
        let output = run(room.path(), &[&["--config", "c.toml"], &refs(&list)[..]].concat());
        assert_eq!(output.status.code(), Some(if expected.is_some() { 2 } else { 0 }), "{}", said(&output));
        assert!(said(&output).contains(expected.unwrap_or_default()), "{}", said(&output));
    }
}

#[test]
fn a_dry_run_asks_once_and_stores_nothing() {
    let room = TempDir::new().unwrap();
    let forge = pagure(3, |_| None);
    let mut args = list_args(&forge);
    args.push("--dry-run".to_owned());
    let output = run(room.path(), &refs(&args));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = lines(&output).remove(0);
    assert_eq!((&told["dry_run"]["status"], &told["origins"]), (&json!(200), &json!(2)));
    assert_eq!(forge.log().len(), 1);
    assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 0);
}

#[test]
fn a_dry_run_tells_limits_and_pages_and_masks_secrets() {
    let room = TempDir::new().unwrap();
    let secret = "s3cr3t-t0k3n";
    let forge = Loopback::start(move |asked| {
        assert_eq!(asked.headers["authorization"], format!("token {secret}"), "it does ask with it");
        let page = |n, rel| {
            let host = asked.headers["host"].to_str().unwrap();
            format!("<http://{host}/api/v1/repos/search?limit=2&page={n}>; rel=\"{rel}\"")
        };
        LoopbackAnswer::json(&json!({"ok": true, "data": [
            {"id": 1, "full_name": "o/a", "clone_url": "https://forge.example/o/a.git"},
            {"id": 2, "full_name": "o/b", "clone_url": "https://forge.example/o/b.git", "fork": true},
        ]}))
        .with_header("x-ratelimit-remaining", "41")
        .with_header("link", &format!("{},{}", page(2, "next"), page(17, "last")))
    })
    .unwrap();
    let (url, token) = (format!("url={}", forge.url("/")), format!("api_token={secret}"));
    let args = ["list", "gitea", &url, &token, "page_size=2", "forks=exclude", "--dry-run"];
    let output = run(room.path(), &[&args[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = lines(&output).remove(0);
    let dry = &told["dry_run"];
    assert_eq!((&dry["limits"]["x-ratelimit-remaining"], &dry["pages_expected"]), (&json!("41"), &json!(17)));
    assert_eq!(dry["request"]["credential"], "authorization: token ***");
    assert_eq!((&told["origins"], &told["filtered"]["forks"]), (&json!(1), &json!(1)));
    let for_people = run(room.path(), &args);
    let text = String::from_utf8_lossy(&for_people.stdout);
    assert!(
        text.contains("authorization: token ***") && text.contains("41") && text.contains("17"),
        "{text}"
    );
    for shown in [text.as_ref(), &said(&for_people), &said(&output), &told.to_string()] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!((forge.log().len(), std::fs::read_dir(room.path()).unwrap().count()), (2, 0));
    // Without a token none is sent, and none is told of.
    let open = Loopback::start(|asked| {
        assert!(!asked.headers.contains_key("authorization"));
        LoopbackAnswer::json(&json!({"ok": true, "data": []}))
    })
    .unwrap();
    let url = format!("url={}", open.url("/"));
    let output = run(room.path(), &["list", "gitea", &url, "--dry-run", "--json"]);
    assert_eq!(lines(&output).remove(0)["dry_run"]["request"]["credential"], Value::Null);
}

#[test]
fn a_listing_in_shards_lists_what_a_chain_does() {
    let room = TempDir::new().unwrap();
    let forge = Loopback::start(|asked| {
        let url = url::Url::parse("http://forge.example").unwrap().join(&asked.target).unwrap();
        let (_, since) = url.query_pairs().find(|(name, _)| name == "since").unwrap();
        let since: u64 = since.parse().unwrap();
        let of = |id: u64| json!({"id": id, "html_url": format!("https://forge.example/r{id}")});
        let page: Vec<_> = (since + 1..=950).take(100).map(of).collect();
        let answer = LoopbackAnswer::json(&page.clone().into());
        let host = asked.headers["host"].to_str().unwrap();
        let next = format!("<http://{host}/repositories?since={}>; rel=\"next\"", since + 100);
        if since + 100 < 950 { answer.with_header("link", &next) } else { answer }
    })
    .unwrap();
    let url = format!("url={}", forge.url("/"));
    let output = run(room.path(), &["list", "github", &url, "--shards", "3", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = lines(&output).remove(0);
    // The last page of a shard may show some of the next one's: those are seen twice.
    assert_eq!(
        (&told["new"], &told["changed"], &told["outcome"]),
        (&json!(950), &json!(0), &json!("complete"))
    );
    assert_eq!(lines(&run(room.path(), &["origins", "--json"])).len(), 950);
    let log = forge.log();
    // The greatest of 950 ids is between nothing and 1024: thirds of what the search saw.
    let begun: Vec<&str> = log.iter().map(|asked| asked.target.as_str()).collect();
    assert!(begun.iter().filter(|target| !target.ends_with("00&per_page=100")).count() > 2, "{begun:?}");

    let refused = run(room.path(), &["list", "cgit", &url, "--shards", "3"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("no ranges") && said(&refused).contains("--shards"),
        "{}",
        said(&refused)
    );
}

#[test]
fn a_recording_replays_to_the_same_origins() {
    let room = TempDir::new().unwrap();
    let forge = pagure(2, |_| None);
    let mut args = list_args(&forge);
    args[0] = "record".to_owned();
    args.extend(["--into".to_owned(), "rec".to_owned()]);
    let recorded = run(room.path(), &refs(&args));
    assert_eq!(recorded.status.code(), Some(0), "{}", said(&recorded));
    drop(forge);
    let output = run(room.path(), &["replay", "rec", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let told = lines(&output).remove(0);
    let run = &told["runs"][0];
    has_keys(run, "outcome error origins state requests unused waits gaps");
    has_keys(
        &run["origins"][0],
        "url visit_type last_update is_fork forked_from_url enabled extra_loader_arguments",
    );
    assert_eq!((&run["outcome"], &run["unused"]), (&json!("complete"), &json!(0)));
    assert_eq!(run["origins"].as_array().unwrap().len(), 4);
    let answers: Vec<&Value> = run["requests"].as_array().unwrap().iter().map(|r| &r["answer"]).collect();
    assert_eq!(answers, ["exact", "exact"]);
}

/// A run under way, with a page that is asked for and not answered yet.
fn held_at(room: &Path, page: u64, pages: u64) -> (Loopback, Child, mpsc::Sender<()>) {
    let (asked, is_asked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (asked, released) = (std::sync::Mutex::new(asked), std::sync::Mutex::new(released));
    let held = AtomicBool::new(false);
    let forge = pagure(pages, move |n| {
        if n == page && !held.swap(true, Ordering::SeqCst) {
            asked.lock().unwrap().send(()).unwrap();
            // Whoever lets go of the sender lets the page go as well.
            let _ = released.lock().unwrap().recv();
        }
        None
    });
    let child = command(room, &refs(&list_args(&forge)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    is_asked.recv().unwrap();
    (forge, child, release)
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_after_the_page_and_the_next_run_goes_on() {
    use std::io::{BufRead, BufReader};
    let room = TempDir::new().unwrap();
    let (forge, mut child, release) = held_at(room.path(), 3, 5);
    assert!(signal(&child, "INT"));
    // Only when the command has taken notice may the page be answered.
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(stderr.by_ref().any(|line| line.unwrap().contains("stopping after the current page")));
    drop(release);
    let rest: Vec<String> = stderr.map(Result::unwrap).collect();
    assert!(rest.iter().any(|l| l.contains("the same command goes on from here")), "{rest:?}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = lines(&output).remove(0);
    assert_eq!((&told["outcome"], &told["pages"], &told["pending"]), (&json!("open"), &json!(3), &json!(1)));
    let output = run(room.path(), &refs(&list_args(&forge)));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = lines(&output).remove(0);
    assert_eq!(
        (&told["outcome"], &told["resumed"], &told["pages"]),
        (&json!("complete"), &json!(true), &json!(2))
    );
    assert_eq!(forge.log().len(), 5, "no page is asked for twice");
    assert_eq!(lines(&run(room.path(), &["origins", "--json"])).len(), 10);
}

#[test]
#[cfg(unix)]
fn a_killed_run_loses_nothing_and_repeats_one_page() {
    let room = TempDir::new().unwrap();
    let (forge, mut child, release) = held_at(room.path(), 3, 5);
    assert!(signal(&child, "KILL"));
    assert!(!child.wait().unwrap().success());
    drop(release);
    let output = run(room.path(), &refs(&list_args(&forge)));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(lines(&output)[0]["resumed"], true);
    assert_eq!(forge.log().len(), 6, "the page that was in flight, once more");
    assert_eq!(lines(&run(room.path(), &["origins", "--json"])).len(), 10);
}

#[test]
fn import_next_complete_explain_are_one_story() {
    let room = TempDir::new().unwrap();
    let now = |args: &[&str]| run(room.path(), &[&["--now", NOW, "--json"], args].concat());
    let origin = |name: &str, more: &str| {
        format!(
            "{{\"lister\":\"gitea\",\"instance\":\"forge.example\",\"url\":\"https://forge.example/{name}\",\
             \"visit_type\":\"git\"{more}}}\n"
        )
    };
    let input = [
        origin(
            "old",
            ",\"visits\":{\"last_visit\":\"2026-01-01T00:00:00Z\",\"status\":\"successful\",\"last_snapshot\":\"s1\"}",
        ),
        "no JSON\n".to_owned(),
        origin("new", ",\"first_seen\":\"2026-02-01T00:00:00Z\""),
        origin("x", "").replace("https://", "git@"),
    ];
    let output = run_with(room.path(), &["--now", NOW, "--json", "import", "-"], &input.concat());
    assert_eq!(output.status.code(), Some(1));
    let counts = lines(&output).remove(0);
    assert_eq!((&counts["new"], &counts["refused"]), (&json!(2), &json!(2)));
    let said = said(&output);
    assert!(said.contains("-:2: ") && said.contains("-:4: "), "{said}");

    let peeked = lines(&now(&["next", "git", "--peek"]));
    let claimed = lines(&now(&["next", "git", "--lease", "60", "--owner", "me"]));
    let url = |v: &Value| v["url"].as_str().unwrap().to_owned();
    let order = ["https://forge.example/new", "https://forge.example/old"];
    assert_eq!(claimed.iter().map(url).collect::<Vec<_>>(), order);
    assert_eq!(peeked.iter().map(url).collect::<Vec<_>>(), order, "peeking claims nothing");
    has_keys(&claimed[0], "visit token url visit_type lister instance arguments due lane reason deadline");
    assert_eq!(claimed[0]["deadline"], "2026-03-01T12:01:00Z");
    assert!(lines(&now(&["next", "git"])).is_empty(), "both are claimed");

    let explained = lines(&now(&["explain", order[0]])).remove(0);
    assert_eq!(explained["reason"], claimed[0]["reason"]);
    assert_eq!((&explained["holds"], &explained["lease"]["owner"]), (&json!("lease"), &json!("me")));

    // Numbers may come as texts; the same snapshot as before is no change.
    let outcome = |v: &Value, more: &str| {
        format!("{{\"visit\":\"{}\",\"token\":{},\"at\":\"{NOW}\",{more}}}\n", v["visit"], v["token"])
    };
    let input = [
        outcome(&claimed[0], "\"status\":\"failed\",\"error\":\"no route\""),
        outcome(&claimed[1], "\"status\":\"successful\",\"snapshot\":\"s1\""),
        outcome(&claimed[1], "\"status\":\"successful\""),
        "{}\n".to_owned(),
    ];
    let output = run_with(room.path(), &["--now", NOW, "--json", "complete"], &input.concat());
    assert_eq!(output.status.code(), Some(1));
    let counts = lines(&output).remove(0);
    assert_eq!(
        (&counts["completed"], &counts["unchanged"], &counts["refused"]),
        (&json!(2), &json!(1), &json!(2))
    );
    let refused: Vec<(u64, &str)> = counts["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["line"].as_u64().unwrap(), r["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(refused, [(3, "duplicate"), (4, "malformed")]);

    let explained = lines(&now(&["explain", order[0]])).remove(0);
    assert_eq!((&explained["reason"], &explained["holds"]), (&json!("hold"), &json!("hold")));
    assert_eq!(explained["visits"]["failures_in_a_row"], 1);
    assert_eq!(now(&["explain", "https://forge.example/unknown"]).status.code(), Some(1));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let room = TempDir::new().unwrap();
    let origin = |n| json!({"lister": "l", "instance": "i", "url": format!("https://h.example/{n}"), "visit_type": "git"});
    let all = (0..20_000).map(|n| origin(n).to_string()).collect::<Vec<_>>().join("\n");
    assert_eq!(run_with(room.path(), &["import", "-"], &all).status.code(), Some(0));
    let mut child = command(room.path(), &["origins", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Far less than what is to come, and far more than a pipe holds is left.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(said(&output), "");
}
