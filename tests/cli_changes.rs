//! The command on what changes: renames, losses, filters, what people ask for, and the feed.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail this way")]

#[path = "common/command.rs"]
mod command;

use std::process::Stdio;
use std::sync::Arc;

use command::{NOW, command, has_keys, lines, list_args, refs, run, run_with, said};
use lamplighter::testing::{Loopback, LoopbackAnswer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A Pagure whose one page names what it is told: (id, name, whether it is a fork).
type Named = Arc<std::sync::Mutex<Vec<(u64, String, bool)>>>;

fn pagure_of(named: &Named) -> Loopback {
    let named = Arc::clone(named);
    Loopback::start(move |_| {
        let project = |(id, name, fork): &(u64, String, bool)| {
            let parent = fork.then(|| json!({"id": 1, "fullname": "upstream"}));
            json!({"id": id, "fullname": name, "parent": parent})
        };
        let projects: Vec<Value> = named.lock().unwrap().iter().map(project).collect();
        LoopbackAnswer::json(&json!({"projects": projects, "pagination": {"next": null}}))
    })
    .unwrap()
}

fn say(named: &Named, of: &[(u64, &str, bool)]) {
    *named.lock().unwrap() = of.iter().map(|(id, name, fork)| (*id, (*name).to_owned(), *fork)).collect();
}

#[test]
fn a_rename_is_one_origin_and_its_old_url_is_answered() {
    let room = TempDir::new().unwrap();
    let named = Named::default();
    let forge = pagure_of(&named);
    let args = list_args(&forge);
    say(&named, &[(7, "before", false), (8, "other", false)]);
    assert_eq!(run(room.path(), &refs(&args)).status.code(), Some(0));
    let old = lines(&run(room.path(), &["origins", "--json"]))[0]["url"].as_str().unwrap().to_owned();
    say(&named, &[(7, "after", false), (8, "other", false)]);
    let report = &lines(&run(room.path(), &refs(&args)))[0];
    assert_eq!((&report["renamed"], &report["new"], &report["origins"]), (&1.into(), &0.into(), &2.into()));
    let origins = lines(&run(room.path(), &["origins", "--json", "--url", &old]));
    assert_eq!(origins.len(), 1);
    assert_eq!(origins[0]["former_urls"], json!([old]));
    let url = origins[0]["url"].as_str().unwrap();
    assert!(url.ends_with("/after"), "{url}");
    let explained = &lines(&run(room.path(), &["explain", &old, "--json"]))[0];
    assert_eq!((explained["url"].as_str(), explained["asked"].as_str()), (Some(url), Some(old.as_str())));
    let told = run(room.path(), &["explain", &old]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("has another URL now"));
    let changes = lines(&run(room.path(), &["changes", "--json"]));
    let kinds: Vec<&str> = changes.iter().map(|c| c["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["new", "new", "renamed"]);
    has_keys(&changes[2], "token at kind lister instance url old_url visit_type");
    assert_eq!(changes[2]["old_url"].as_str(), Some(old.as_str()));
    let after = changes[1]["token"].to_string();
    assert_eq!(lines(&run(room.path(), &["changes", "--after", &after, "--json"])).len(), 1);
}

#[test]
fn pruning_is_guarded_and_can_be_forced() {
    let room = TempDir::new().unwrap();
    let named = Named::default();
    let forge = pagure_of(&named);
    let args = list_args(&forge);
    let projects: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
    let of = |count: usize| -> Vec<(u64, &str, bool)> {
        (1..).zip(&projects[..count]).map(|(id, name)| (id, name.as_str(), false)).collect()
    };
    say(&named, &of(20));
    run(room.path(), &refs(&args));
    let pruned = |count: usize, how: &str| {
        say(&named, &of(count));
        let args: Vec<String> = args.iter().cloned().chain([how.to_owned()]).collect();
        let report = lines(&run(room.path(), &refs(&args))).remove(0);
        (report["gone"].as_u64().unwrap(), report["withheld"].as_u64().unwrap())
    };
    assert_eq!(pruned(19, "--prune"), (1, 0));
    assert_eq!(pruned(10, "--prune"), (0, 9));
    assert_eq!(pruned(10, "--prune=force"), (9, 0));
    let words = run(room.path(), &["list", "pagure", "--prune=lots"]);
    assert_eq!(words.status.code(), Some(2));
}

#[test]
fn filters_leave_out_and_are_kept_with_a_gap() {
    let room = TempDir::new().unwrap();
    let named = Named::default();
    let forge = pagure_of(&named);
    let mut args = list_args(&forge);
    args.push("forks=exclude".to_owned());
    say(&named, &[(1, "a", false), (2, "forks/b", true)]);
    let report = &lines(&run(room.path(), &refs(&args)))[0];
    assert_eq!(report["filtered"], json!({"forks": 1, "archived": 0, "mirrors": 0, "empty": 0}));
    assert_eq!((&report["origins"], &report["outcome"]), (&1.into(), &"complete".into()));
    let runs = lines(&run(room.path(), &["runs", "--json"]));
    assert_eq!(runs[0]["parameters"]["forks"], "exclude");
    *args.last_mut().unwrap() = "forks=some".to_owned();
    let wrong = run(room.path(), &refs(&args));
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said(&wrong).contains("forks: must be include, exclude or only"), "{}", said(&wrong));
    // A gap of such a run is asked for with its filters.
    let broken = Loopback::start(|asked| {
        if asked.target.contains("page=2") {
            LoopbackAnswer::new(404, "")
        } else {
            let host = asked.headers["host"].to_str().unwrap();
            let next = format!("http://{host}/api/0/projects?per_page=2&page=2");
            LoopbackAnswer::json(&json!({"projects": [], "pagination": {"next": next}}))
        }
    })
    .unwrap();
    let room = TempDir::new().unwrap();
    let mut args = list_args(&broken);
    args.push("forks=only".to_owned());
    assert_eq!(run(room.path(), &refs(&args)).status.code(), Some(1));
    let again = lines(&run(room.path(), &["gaps", "--retry", "--json"]));
    assert_eq!(
        (again.len(), &again[0]["mode"], &again[0]["outcome"]),
        (1, &"gaps".into(), &"partial".into())
    );
    assert_eq!(lines(&run(room.path(), &["runs", "--json"]))[0]["parameters"]["forks"], "only");
}

#[test]
fn people_ask_hint_stop_and_allow() {
    let room = TempDir::new().unwrap();
    let row = |name: &str, visit_type: &str| {
        json!({"lister": "l", "instance": "h", "url": format!("https://h/{name}"), "visit_type": visit_type,
               "visits": {"last_visit": "2026-02-01T00:00:00Z", "last_successful": "2026-02-01T00:00:00Z", "status": "successful"}})
        .to_string()
    };
    let rows = [row("a", "git"), row("b", "git"), row("b", "hg")].join("\n");
    run_with(room.path(), &["import", "-", "--now", NOW], &rows);
    let json = |args: &[&str]| {
        let output = run(room.path(), &[args, &["--json", "--now", NOW]].concat());
        (output.status.code(), lines(&output).pop(), said(&output))
    };
    let (code, asked, _) = json(&["request", "https://h/a", "--visit-type", "git", "--by", "me"]);
    let asked = asked.unwrap();
    assert_eq!((code, &asked["position"], asked["due"].as_str()), (Some(0), &0.into(), Some(NOW)));
    let (_, explained, _) = json(&["explain", "https://h/a"]);
    assert_eq!(explained.unwrap()["requested_by"], "me");
    // Two ways to visit it: one has to be named, but to stop it.
    assert_eq!(json(&["request", "https://h/b"]).0, Some(2));
    assert_eq!(json(&["request", "https://h/unheard-of"]).0, Some(1));
    let (code, stopped, _) = json(&["disable", "https://h/b", "--reason", "asked to"]);
    assert_eq!((code, stopped.unwrap()["origins"].as_u64()), (Some(0), Some(2)));
    let (_, parked, _) = json(&["request", "https://h/b", "--visit-type", "hg"]);
    let parked = parked.unwrap();
    assert_eq!((&parked["due"], parked["reason"].as_str()), (&Value::Null, Some("disabled_by_hand")));
    assert_eq!(json(&["enable", "https://h/b", "--visit-type", "git"]).1.unwrap()["origins"], 1);
    assert_eq!(json(&["disable", "https://h/unheard-of"]).0, Some(1));
    let (_, metrics, _) = json(&["metrics"]);
    let metrics = metrics.unwrap();
    let counts: Vec<_> =
        metrics.as_array().unwrap().iter().map(|m| (m["known"].clone(), m["enabled"].clone())).collect();
    assert_eq!(counts, [(2.into(), 2.into()), (1.into(), 0.into())]);
    has_keys(
        &metrics[0],
        "lister instance visit_type known enabled never_visited pending_changes leased overdue oldest",
    );
    let text = run(room.path(), &["metrics", "--prometheus", "--now", NOW]);
    let text = String::from_utf8(text.stdout).unwrap();
    let line = "lamplighter_origins_enabled{lister=\"l\",instance=\"h\",visit_type=\"git\"} 2";
    assert!(text.lines().any(|l| l == line), "{text}");
    // Hints, one and many.
    let hint =
        |url: &str, at: &str| json(&["hint", url, "--visit-type", "git", "--changed-at", at]).1.unwrap();
    assert_eq!(hint("https://h/a", "2026-02-20T00:00:00Z"), json!({"known": true, "placed": true}));
    assert_eq!(hint("https://h/a", "2026-02-20T00:00:00Z"), json!({"known": true, "placed": false}));
    assert_eq!(hint("https://h/unheard-of", NOW), json!({"known": false, "placed": false}));
    let many = [
        json!({"url": "https://h/a", "visit_type": "git", "changed_at": "2026-02-21T00:00:00Z", "source": "x"}).to_string(),
        json!({"url": "https://h/c", "visit_type": "git"}).to_string(),
        "{".to_owned(),
    ];
    let output = run_with(room.path(), &["hint", "--json", "--now", NOW], &many.join("\n"));
    let counts = &lines(&output)[0];
    assert_eq!(output.status.code(), Some(1), "a line was refused");
    let numbers = ["hints", "known", "placed", "refused"].map(|k| counts[k].as_u64().unwrap());
    assert_eq!((numbers, &counts["refusals"][0]["line"]), ([2, 1, 1, 1], &3.into()));
}

#[test]
fn the_feed_can_be_followed_while_others_write() {
    use std::io::{BufRead, BufReader};
    let room = TempDir::new().unwrap();
    let row = |name: &str| {
        json!({"lister": "l", "instance": "h", "url": format!("https://h/{name}"), "visit_type": "git"})
            .to_string()
    };
    run_with(room.path(), &["import", "-"], &row("a"));
    let mut following =
        command(room.path(), &["changes", "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&told.next().unwrap().unwrap()).unwrap()["url"].clone();
    assert_eq!(next(), "https://h/a");
    // The file is free between two looks: another command gets it, sooner or later.
    while run_with(room.path(), &["import", "-"], &row("b")).status.code() != Some(0) {}
    assert_eq!(next(), "https://h/b");
    following.kill().unwrap();
    following.wait().unwrap();
}
