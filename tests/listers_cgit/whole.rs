//! Whole listings: the fixtures' runs, replayed as plainly as a driver can be written.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use http::StatusCode;
use lamplighter::lister::{Failure, FailureKind, Lister, Mode, RunInfo, Verdict};
use lamplighter::listers::CGit;
use lamplighter::listers::cgit::CGitCursor;
use lamplighter::model::Timestamp;
use serde_json::{Value, json};
use url::Url;

use super::*;

type Origins = BTreeMap<String, Option<Timestamp>>;
/// Of each item its fingerprint and origins at its last success.
type Known = BTreeMap<String, (String, Origins)>;

/// What a run came to.
#[derive(Debug, Default, PartialEq)]
struct Came {
    requests: usize,
    skipped: usize,
    gaps: usize,
}

fn came(requests: usize, skipped: usize, gaps: usize) -> Came {
    Came { requests, skipped, gaps }
}

fn answers(case: &str, run: &Value) -> BTreeMap<Url, (u16, String)> {
    let answer = |e: &Value| {
        let body = recorded(&format!("{case}/{}", e["body_file"].as_str().unwrap()));
        (url(e["url"].as_str().unwrap()), (u16::try_from(e["status"].as_u64().unwrap()).unwrap(), body))
    };
    run["exchanges"].as_array().unwrap().iter().map(answer).collect()
}

fn run_once(lister: &CGit, answers: &BTreeMap<Url, (u16, String)>, known: &mut Known) -> (Came, Origins) {
    let (mut came, mut origins) = (Came::default(), Origins::new());
    let mut asked = BTreeSet::new();
    let start = lister.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
    let mut waiting: VecDeque<(CGitCursor, Option<(String, String)>)> =
        start.into_iter().map(|cursor| (cursor, None)).collect();
    while let Some((at, item)) = waiting.pop_front() {
        let asks = lister.request(&at).unwrap().url;
        assert!(asked.insert(asks.clone()), "asked twice: {asks}");
        came.requests += 1;
        let (status, body) = answers.get(&asks).unwrap_or_else(|| panic!("not recorded: {asks}"));
        let answer = if *status == 200 {
            read(lister, &at, body.as_str()).map_err(|e| Failure::new(FailureKind::Parse, e.to_string()))
        } else {
            let status = StatusCode::from_u16(*status).unwrap();
            Err(Failure::new(FailureKind::Status(status), status.to_string()))
        };
        let batch = match answer {
            Ok(batch) => batch,
            Err(failure) => {
                match lister.recover(&at, &failure).verdict {
                    Verdict::Skip(_) => came.skipped += 1,
                    Verdict::Gap => came.gaps += 1,
                    other => panic!("{other:?}"),
                }
                continue;
            }
        };
        came.skipped += batch.skips.len();
        let found: Origins =
            batch.origins.iter().map(|s| (s.origin.url.clone(), s.origin.last_update)).collect();
        origins.extend(found.clone());
        if let Some((key, print)) = &item
            && nexts(&batch).is_empty()
        {
            known.insert(key.clone(), (print.clone(), found));
        }
        waiting.extend(nexts(&batch).into_iter().map(|next| (next, item.clone())));
        for (key, print, cursor) in items(&batch) {
            match known.get(&key) {
                Some((stored, before)) if *stored == print => origins.extend(before.clone()),
                _ => waiting.push_back((cursor, Some((key, print)))),
            }
        }
    }
    (came, origins)
}

/// Replays a fixture's runs: each must list what the fixture says, and ask for all that was recorded.
fn replay(case: &str) -> Vec<Came> {
    let fixture: Value = serde_json::from_str(&recorded(&format!("{case}/fixture.json"))).unwrap();
    let mut lister = CGit::new(url(fixture["arguments"]["url"].as_str().unwrap()), "cgit.example");
    if let Some(base) = fixture["arguments"]["base_git_url"].as_str() {
        lister = lister.with_base_git_url(base).unwrap();
    }
    let mut known = Known::new();
    let mut replayed = |run: &Value| {
        let answers = answers(case, run);
        let (came, listed) = run_once(&lister, &answers, &mut known);
        let listed: Vec<Value> = listed
            .iter()
            .map(|(url, updated)| {
                json!({
                    "url": url, "visit_type": "git", "last_update": updated, "is_fork": null,
                    "forked_from_url": null, "enabled": true, "extra_loader_arguments": {},
                })
            })
            .collect();
        let expected = recorded(&format!("{case}/{}", run["origins"].as_str().unwrap()));
        assert_eq!(Value::from(listed), serde_json::from_str::<Value>(&expected).unwrap(), "{case}");
        assert_eq!(came.requests, answers.len(), "{case}: all that was recorded is asked for");
        assert_eq!(run["outcome"] == "complete", came.gaps == 0, "{case}");
        came
    };
    fixture["runs"].as_array().unwrap().iter().map(&mut replayed).collect()
}

#[test]
fn a_second_listing_costs_the_index_and_what_changed() {
    // 67 repositories on 4 pages; nothing changed; two changed and one is new.
    assert_eq!(replay("live"), [came(4 + 67, 0, 0), came(4, 0, 0), came(4 + 3, 0, 0)]);
}

#[test]
fn odd_sites_are_listed_to_their_end() {
    assert_eq!(replay("noroot"), [came(3 + 7, 6, 0)]);
    assert_eq!(replay("empty"), [came(1, 0, 0)]);
    assert_eq!(replay("none"), [came(1, 0, 1)]);
    assert_eq!(replay("gone"), [came(3 + 7, 1, 0)]);
    assert_eq!(replay("base_git_url"), [came(3, 0, 0)]);
    assert_eq!(replay("tabs"), [came(3 + 7 + 2, 1, 0)]);
}

#[test]
fn a_broken_page_is_a_gap_and_healed_by_the_next_listing() {
    // Page 2 of the index is cut, a repository's page is a proxy's. What was read is not asked again.
    assert_eq!(replay("broken"), [came(2 + 3, 0, 2), came(3 + 5, 0, 0)]);
}
