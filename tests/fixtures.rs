//! Every fixture, walked by hand: each cursor is asked of the recording once, and what is listed is
//! compared with what the fixture's author computed apart from the lister.
//!
//! This stands in for the driver: a queue, items by fingerprint, states joined. It neither retries
//! nor chooses credentials, so a fixture of limits is left to the transport.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use lamplighter::lister::{
    Failure, FailureKind, FollowKind, Mode, Page, PageBatch, PageSource, Registry, RunInfo, Verdict,
};
use lamplighter::model::{JsonObject, NewOrigin, Timestamp, check_origin_url};
use lamplighter::testing::{Case, CaseRun, VirtualClock};
use lamplighter::transport::{Replay, Transport};
use serde_json::Value;

/// What is kept from run to run.
#[derive(Default)]
struct Kept {
    state: Option<Value>,
    /// Fingerprint and origins of each item.
    items: BTreeMap<String, (String, Vec<NewOrigin>)>,
}

#[derive(Default)]
struct Listing {
    origins: BTreeMap<(String, String), NewOrigin>,
    gaps: Vec<String>,
    asked: usize,
}

impl Listing {
    fn add(&mut self, origin: NewOrigin) {
        if check_origin_url(&origin.url).is_ok() {
            self.origins.insert((origin.url.clone(), origin.visit_type.to_string()), origin);
        }
    }
}

type Pending = (Value, Option<(String, String)>);

async fn ask(
    source: &dyn PageSource,
    replay: &Replay,
    cursor: &Value,
    part: Option<Arc<str>>,
) -> Result<PageBatch, Failure> {
    let request = source.request(cursor).unwrap();
    let failed = |kind, e: &dyn std::error::Error| Failure::new(kind, e.to_string());
    let response = replay.send(request).await.map_err(|e| failed(FailureKind::Transport(e.kind()), &e))?;
    if !response.status.is_success() {
        return Err(Failure::new(FailureKind::Status(response.status), response.status.to_string()));
    }
    let mut page = Page::of_part(part);
    source
        .read(cursor, response, &mut page)
        .and_then(|()| page.finish())
        .map_err(|e| failed(FailureKind::Parse, &e))
}

async fn walk(source: &dyn PageSource, run: &CaseRun, replay: &Replay, kept: &mut Kept) -> Listing {
    let now = run.at.unwrap_or(Timestamp::EPOCH);
    let state = kept.state.clone().filter(|_| source.is_incremental() && run.mode != Some(Mode::Full));
    let start = match &state {
        Some(state) => source.resume(state, &RunInfo::new(now, Mode::Incremental)).unwrap(),
        None => source.start(&RunInfo::new(now, Mode::Full)).unwrap(),
    };
    let mut queue: VecDeque<Pending> = start.into_iter().map(|cursor| (cursor, None)).collect();
    let mut asked = BTreeSet::new();
    let mut listing = Listing::default();
    while let Some((cursor, item)) = queue.pop_front() {
        assert!(asked.insert(cursor.to_string()), "asked twice: {cursor}");
        listing.asked += 1;
        let part = item.as_ref().map(|(key, _)| Arc::from(key.as_str()));
        let batch = match ask(source, replay, &cursor, part).await {
            Ok(batch) => batch,
            Err(failure) => {
                let recovery = source.recover(&cursor, &failure).unwrap();
                if !matches!(recovery.verdict, Verdict::Skip(_) | Verdict::Replaced) {
                    listing.gaps.push(format!("{cursor}: {failure}"));
                }
                queue.extend(recovery.follow.into_iter().map(|cursor| (cursor, item.clone())));
                continue;
            }
        };
        for mark in batch.marks {
            kept.state = Some(match kept.state.take() {
                Some(state) => source.join(mark, state).unwrap(),
                None => mark,
            });
        }
        let goes_on = batch.follows.iter().any(|f| matches!(f.kind, FollowKind::Next { .. }));
        let origins: Vec<NewOrigin> = batch.origins.into_iter().map(|s| s.origin).collect();
        if let Some((key, fingerprint)) = item.clone().filter(|_| !goes_on) {
            kept.items.insert(key, (fingerprint, origins.clone()));
        }
        for origin in origins {
            listing.add(origin);
        }
        for follow in batch.follows {
            match follow.kind {
                FollowKind::Item { key, fingerprint } => match kept.items.get(key.as_ref()) {
                    Some((known, origins)) if *known == fingerprint => {
                        for origin in origins.clone() {
                            listing.add(origin);
                        }
                    }
                    _ => queue.push_back((follow.cursor, Some((key.to_string(), fingerprint)))),
                },
                FollowKind::Next { .. } => queue.push_back((follow.cursor, item.clone())),
                _ if asked.contains(&follow.cursor.to_string()) => {}
                _ if queue.iter().any(|(cursor, _)| *cursor == follow.cursor) => {}
                _ => queue.push_back((follow.cursor, None)),
            }
        }
    }
    listing
}

fn listed(origins: &Listing) -> Vec<Value> {
    let one = |o: &NewOrigin| {
        serde_json::json!({
            "url": o.url, "visit_type": o.visit_type, "last_update": o.last_update, "is_fork": o.is_fork,
            "forked_from_url": o.forked_from_url, "enabled": o.enabled,
            "extra_loader_arguments": o.extra_loader_arguments,
        })
    };
    origins.origins.values().map(one).collect()
}

/// The runs of a fixture, each compared with what it is to list.
async fn check(lister: &str, name: &str) -> Vec<usize> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(lister).join(name);
    let case = Case::load(&folder).unwrap();
    assert_eq!(case.lister, lister);
    let registry = Registry::builtin();
    let entry = registry.entry(lister).unwrap();
    let mut kept = Kept::default();
    let mut asked = Vec::new();
    for (n, run) in case.runs.iter().enumerate() {
        let at = format!("{lister}/{name}, run {}", n + 1);
        let source = entry.build(&JsonObject::clone(&run.arguments)).unwrap().source;
        if let Some(state) = &run.state_before {
            kept.state = source.read_state(state, 1).unwrap();
        }
        let clock = Arc::new(VirtualClock::new(run.at.unwrap_or(Timestamp::EPOCH)));
        let replay = Replay::new(run.exchanges.iter().cloned(), clock).with_positions(entry.positions);
        let listing = walk(&*source, run, &replay, &mut kept).await;
        let mut expected =
            serde_json::to_value(run.origins.as_ref().expect("a fixture says what it lists")).unwrap();
        let expected = expected.as_array_mut().unwrap();
        expected.sort_by_key(|o| (o["url"].to_string(), o["visit_type"].to_string()));
        let mut got = listed(&listing);
        got.sort_by_key(|o| (o["url"].to_string(), o["visit_type"].to_string()));
        assert_eq!(&got, expected, "{at}");
        let outcome = if listing.gaps.is_empty() { "complete" } else { "partial" };
        assert_eq!(Some(outcome), run.outcome.as_deref(), "{at}: {:?}", listing.gaps);
        asked.push(listing.asked);
    }
    asked
}

/// The fixtures of a lister but those named, which need more than a walk.
async fn check_all(lister: &str, but: &[&str]) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(lister);
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !but.contains(&name.as_str()) {
            check(lister, &name).await;
            checked += 1;
        }
    }
    assert!(checked >= 3, "{checked} fixtures of {lister}");
}

#[tokio::test]
async fn github_lists_what_its_fixtures_say() {
    check_all("github", &["limited"]).await;
}

#[cfg(feature = "archives")]
#[tokio::test]
async fn crates_lists_what_its_fixtures_say() {
    check_all("crates", &[]).await;
}

#[tokio::test]
async fn npm_lists_what_its_fixtures_say() {
    check_all("npm", &[]).await;
}

#[tokio::test]
async fn gitlab_and_heptapod_list_what_their_fixtures_say() {
    check_all("gitlab", &[]).await;
    check_all("heptapod", &[]).await;
}

#[tokio::test]
async fn gitea_forgejo_and_gogs_list_what_their_fixtures_say() {
    check_all("gitea", &[]).await;
    check_all("forgejo", &[]).await;
    check_all("gogs", &[]).await;
}

#[tokio::test]
async fn pagure_lists_what_its_fixtures_say() {
    check_all("pagure", &[]).await;
}

#[tokio::test]
async fn phabricator_and_phorge_list_what_their_fixtures_say() {
    check_all("phabricator", &[]).await;
    check_all("phorge", &[]).await;
}

#[cfg(feature = "html")]
#[tokio::test]
async fn cgit_lists_what_its_fixtures_say() {
    check_all("cgit", &[]).await;
}

#[cfg(feature = "html")]
#[tokio::test]
async fn hgweb_lists_what_its_fixtures_say() {
    check_all("hgweb", &[]).await;
}

#[cfg(feature = "html")]
#[tokio::test]
async fn a_second_listing_of_an_unchanged_cgit_costs_its_index_pages_only() {
    // 4 pages of the index and 67 repositories; then nothing changed; then two changed, one is new.
    assert_eq!(check("cgit", "live").await, [4 + 67, 4, 4 + 3]);
}
