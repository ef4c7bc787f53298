//! Forges of 10,000 projects that change while they are listed: at the k-th request a project is made, deleted, renamed or
//! pushed to, as a script says. What has to be listed is computed of the script alone: every project that was there
//! throughout, exactly once; and once nothing changes any more, what is there and nothing else.
//!
//! The shapes: a chain by ids with the next place in `Link` (GitHub, GitLab, each giving smaller pages than it is asked for), and
//! one in the order of changes, that goes on by date (Launchpad). `SEED=` repeats a script.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore};
use lamplighter::driver::{Driver, RunOptions, RunReport};
use lamplighter::lister::{Registry, query_param};
use lamplighter::model::Timestamp;
use lamplighter::testing::{Answering, VirtualClock};
use lamplighter::transport::{Body, Request, Response};
use serde_json::{Value, json};

const PROJECTS: u64 = 10_000;

/// So many of the first requests come with changes.
const DISTURBED: u64 = 400;

/// Numbers that a seed repeats (a step of splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

#[derive(Debug, Clone, Copy)]
enum Edit {
    Create,
    Delete(u64),
    Rename(u64),
    Push(u64),
}

/// What happens before which request is answered, from 1 on.
type Script = BTreeMap<u64, Vec<Edit>>;

fn script(numbers: &mut Numbers) -> Script {
    let mut script = Script::new();
    for _ in 0..3 * DISTURBED {
        let (at, id) = (1 + numbers.below(DISTURBED), 1 + numbers.below(PROJECTS));
        let edit = match numbers.below(8) {
            0 | 1 => Edit::Create,
            2 => Edit::Delete(id),
            3 | 4 => Edit::Rename(id),
            _ => Edit::Push(id),
        };
        script.entry(at).or_default().push(edit);
    }
    script
}

/// The projects that a script leaves alone, as far as being there goes; and those whose names it leaves alone, too.
fn throughout(script: &Script) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let mut there: BTreeSet<u64> = (1..=PROJECTS).collect();
    let mut same = there.clone();
    for edit in script.values().flatten() {
        match edit {
            Edit::Delete(id) => {
                there.remove(id);
                same.remove(id);
            }
            Edit::Rename(id) => {
                same.remove(id);
            }
            Edit::Create | Edit::Push(_) => {}
        }
    }
    (there, same)
}

#[derive(Debug, Clone)]
struct Project {
    name: String,
    changed: i64,
}

/// The forge as it is now.
struct World {
    projects: BTreeMap<u64, Project>,
    made: u64,
    requests: u64,
    now: i64,
    script: Script,
}

impl World {
    fn new(script: Script) -> Self {
        let project = |id: u64| Project {
            name: format!("p{id}"),
            changed: 1_600_000_000 + i64::try_from(id).unwrap() * 60,
        };
        let projects = (1..=PROJECTS).map(|id| (id, project(id))).collect();
        Self { projects, made: PROJECTS, requests: 0, now: 1_700_000_000, script }
    }

    /// A request comes: what the script says of it happens first.
    fn step(&mut self) {
        self.requests += 1;
        for edit in self.script.remove(&self.requests).unwrap_or_default() {
            self.now += 1;
            match edit {
                Edit::Create => {
                    self.made += 1;
                    let project = Project { name: format!("p{}", self.made), changed: self.now };
                    self.projects.insert(self.made, project);
                }
                Edit::Delete(id) => {
                    self.projects.remove(&id);
                }
                Edit::Rename(id) => {
                    if let Some(project) = self.projects.get_mut(&id) {
                        let _ = write!(project.name, "x");
                        project.changed = self.now;
                    }
                }
                Edit::Push(id) => {
                    if let Some(project) = self.projects.get_mut(&id) {
                        project.changed = self.now;
                    }
                }
            }
        }
    }
}

fn date(seconds: i64) -> String {
    Timestamp::from_seconds(seconds).to_string()
}

fn number(request: &Request, key: &str) -> u64 {
    query_param(&request.url, key).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn answer(request: &Request, body: &Value) -> Response {
    Response::new(
        200,
        request.url.clone(),
        Body::from(body.to_string()),
        Timestamp::from_seconds(1_728_000_000),
    )
}

/// A page by ids: those after one, at most `cap`, and a link to the next where there are more.
fn by_ids(
    world: &World,
    request: &Request,
    key: &str,
    cap: usize,
    one: impl Fn(u64, &Project) -> Value,
) -> Response {
    let after = number(request, key);
    let page: Vec<(&u64, &Project)> = world.projects.range(after + 1..).take(cap).collect();
    let body: Vec<Value> = page.iter().map(|(id, project)| one(**id, project)).collect();
    let response = answer(request, &json!(body));
    let Some((last, _)) = page.last().filter(|(last, _)| world.projects.range(*last + 1..).next().is_some())
    else {
        return response;
    };
    let mut next = request.url.clone();
    let others: Vec<(String, String)> = next.query_pairs().into_owned().filter(|(k, _)| k != key).collect();
    next.query_pairs_mut().clear().extend_pairs(others).append_pair(key, &last.to_string());
    response.with_header("link", &format!("<{next}>; rel=\"next\""))
}

fn github(world: &World, request: &Request) -> Response {
    by_ids(
        world,
        request,
        "since",
        37,
        |id, p| json!({"id": id, "html_url": format!("https://github.com/o/{}", p.name), "fork": false}),
    )
}

fn gitlab(world: &World, request: &Request) -> Response {
    by_ids(world, request, "id_after", 23, |id, p| {
        json!({"id": id, "path_with_namespace": format!("o/{}", p.name),
            "http_url_to_repo": format!("https://gitlab.example/o/{}.git", p.name), "last_activity_at": date(p.changed)})
    })
}

/// In the order of changes, from a date on. It has no ids.
fn launchpad(world: &World, request: &Request) -> Response {
    let none = || answer(request, &json!({"start": 0, "total_size": 0, "entries": []}));
    if !request.url.path().ends_with("git_repositories") {
        return none();
    }
    let since = query_param(&request.url, "modified_since_date").unwrap_or_default();
    let since = Timestamp::parse(since.trim_matches('"')).map_or(0, |at| at.as_seconds());
    let mut all: Vec<(i64, &str)> = world.projects.values().map(|p| (p.changed, p.name.as_str())).collect();
    all.retain(|(changed, _)| *changed >= since);
    all.sort_unstable();
    let entry = |(changed, name): &(i64, &str)| {
        json!({"unique_name": format!("~o/{name}"), "git_https_url": format!("https://git.launchpad.example/~o/{name}"),
            "date_last_modified": date(*changed), "repository_type": "Hosted"})
    };
    let entries: Vec<Value> = all.iter().take(41).map(entry).collect();
    let mut body = json!({"start": 0, "entries": entries});
    if all.len() > 41 {
        body["next_collection_link"] = json!(format!("{}&ws.start=41&memo=41", request.url));
    }
    answer(request, &body)
}

struct Trial {
    store: Arc<MemoryStore>,
    world: Arc<Mutex<World>>,
    day: i64,
}

impl Trial {
    async fn run(
        &mut self,
        lister: &str,
        arguments: &Value,
        full: bool,
        shape: fn(&World, &Request) -> Response,
    ) -> RunReport {
        self.day += 1;
        let world = Arc::clone(&self.world);
        let transport = Arc::new(Answering::new(move |request| {
            let mut world = world.lock().unwrap();
            world.step();
            Ok(shape(&world, request))
        }));
        let clock = Arc::new(VirtualClock::new(Timestamp::from_seconds(1_728_000_000 + self.day * 86_400)));
        let built = Registry::builtin().build(lister, arguments.as_object().unwrap()).unwrap();
        let driver = Driver::new(Arc::clone(&self.store) as _, transport as _, clock);
        driver.run(built.source, RunOptions::default().with_full(full)).await.unwrap()
    }

    /// How often each URL is listed, and each id where there are ids.
    async fn listed(&self) -> (BTreeMap<String, usize>, BTreeMap<u64, usize>) {
        let (mut urls, mut ids) = (BTreeMap::new(), BTreeMap::new());
        let page = self.store.origins(&OriginQuery::default(), None, 100_000).await.unwrap();
        for (_, origin) in page.origins {
            *urls.entry(origin.url.clone()).or_default() += 1;
            if let Some(id) = &origin.forge_id {
                *ids.entry(id.parse().unwrap()).or_default() += 1;
            }
        }
        (urls, ids)
    }
}

async fn lists_what_stays(
    lister: &str,
    arguments: Value,
    url_of: fn(&str) -> String,
    has_ids: bool,
    shape: fn(&World, &Request) -> Response,
) {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_124);
    let script = script(&mut Numbers(seed));
    let (there, same) = throughout(&script);
    let world = Arc::new(Mutex::new(World::new(script)));
    let mut trial = Trial { store: Arc::new(MemoryStore::new()), world, day: 0 };
    let report = trial.run(lister, &arguments, false, shape).await;
    assert_eq!(report.outcome.as_str(), "complete", "SEED={seed} {lister}: {:?}", report.gaps);
    let (urls, ids) = trial.listed().await;
    if has_ids {
        let missing: Vec<&u64> = there.iter().filter(|id| ids.get(id) != Some(&1)).collect();
        assert!(missing.is_empty(), "SEED={seed} {lister}: not once: {missing:?}");
    }
    let missing: Vec<&u64> =
        same.iter().filter(|id| urls.get(&url_of(&format!("p{id}"))) != Some(&1)).collect();
    assert!(missing.is_empty(), "SEED={seed} {lister}: not once: {missing:?}");

    // Nothing changes any more: what is there is listed, and what is not is gone.
    trial.world.lock().unwrap().script.clear();
    let report = trial.run(lister, &arguments, true, shape).await;
    assert_eq!(report.outcome.as_str(), "complete", "SEED={seed} {lister}: {:?}", report.gaps);
    let (urls, _) = trial.listed().await;
    let world = trial.world.lock().unwrap();
    let now: BTreeMap<String, usize> = world.projects.values().map(|p| (url_of(&p.name), 1)).collect();
    let wrong: Vec<_> = now.iter().filter(|pair| urls.get(pair.0) != Some(pair.1)).take(5).collect();
    assert!(
        wrong.is_empty() && urls.len() == now.len(),
        "SEED={seed} {lister}: {wrong:?}, {} for {}",
        urls.len(),
        now.len()
    );
    assert!(world.requests > 2 * PROJECTS / 41, "{} requests", world.requests);
}

#[tokio::test]
async fn a_github_that_changes_is_listed_whole() {
    lists_what_stays("github", json!({}), |name| format!("https://github.com/o/{name}"), true, github).await;
}

#[tokio::test]
async fn a_gitlab_that_changes_is_listed_whole() {
    let at = json!({"url": "https://gitlab.example/"});
    lists_what_stays("gitlab", at, |name| format!("https://gitlab.example/o/{name}.git"), true, gitlab).await;
}

#[tokio::test]
async fn a_launchpad_that_changes_is_listed_whole() {
    let at = json!({"url": "https://launchpad.example/"});
    lists_what_stays(
        "launchpad",
        at,
        |name| format!("https://git.launchpad.example/~o/{name}"),
        false,
        launchpad,
    )
    .await;
}

#[test]
fn a_script_says_what_stays() {
    let script =
        Script::from([(1, vec![Edit::Create, Edit::Delete(3)]), (7, vec![Edit::Rename(4), Edit::Push(5)])]);
    let (there, same) = throughout(&script);
    assert_eq!((there.len(), same.len()), (9_999, 9_998));
    assert!(!there.contains(&3) && there.contains(&4) && !same.contains(&4) && same.contains(&5));
    let mut world = World::new(script);
    (0..7).for_each(|_| world.step());
    assert_eq!((world.projects.len(), world.projects[&4].name.as_str()), (10_000, "p4x"));
}
