//! A real process, killed at random moments of a listing of 1,000 pages and started again each time,
//! lists what an undisturbed one would, and asks twice only for what was in flight.
//!
//! `LAMPLIGHTER_KILLS` says how often it is killed (50); `SEED` gives the same moments again, as far
//! as the system's scheduler lets it.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail this way")]

#[path = "common/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};

use lamplighter::testing::{Loopback, LoopbackAnswer, LoopbackRequest};
use random::Random;
use serde_json::{Value, json};
use tempfile::TempDir;

const PAGES: u64 = 1000;
const SIGKILL: i32 = 9;

impl Random {
    /// Spends a random time, mostly a short one, so that a kill may fall anywhere in what follows.
    fn dawdle(&mut self) {
        let most = 1 << self.below(17);
        for _ in 0..self.below(most) {
            std::thread::yield_now();
        }
    }
}

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// While it starts, or waits for its first answer.
    Starting,
    /// While its n-th request waits for an answer.
    Asked(u64),
    /// Some time after its n-th answer. It gets no further one.
    Answered(u64),
}

/// What a process under watch came to.
enum Seen {
    Moment,
    /// It ended by itself, and said this.
    Ended(String),
}

/// The forge's side of a process: how many answers it gets, and who is told.
struct Watch {
    run: u64,
    /// Up to this run all processes are dead: nobody's request is held any more.
    dead: u64,
    answers: u64,
    moment: Option<Moment>,
    tell: Option<mpsc::Sender<Seen>>,
    /// Pages that were asked for at all.
    asked: BTreeSet<String>,
    /// Pages whose request was held until its process was dead.
    held: BTreeSet<String>,
}

/// A forge of 1,000 pages.
struct Forge {
    server: Loopback,
    watch: Arc<(Mutex<Watch>, Condvar)>,
}

/// The name of a process, which it sends as its contact.
fn contact(run: u64) -> String {
    format!("run {run}")
}

fn run_of(request: &LoopbackRequest) -> u64 {
    let agent = request.headers["user-agent"].to_str().unwrap();
    agent.split("(run ").nth(1).unwrap().trim_end_matches(')').parse().unwrap()
}

impl Forge {
    fn start(page: impl Fn(&str, &str) -> LoopbackAnswer + Send + Sync + 'static) -> Self {
        let watch = Watch {
            run: 0,
            dead: 0,
            answers: 0,
            moment: None,
            tell: None,
            asked: BTreeSet::new(),
            held: BTreeSet::new(),
        };
        let watch = Arc::new((Mutex::new(watch), Condvar::new()));
        let watched = Arc::clone(&watch);
        let server = Loopback::start(move |request| {
            watched_answer(&watched, request);
            page(&request.target, request.headers["host"].to_str().unwrap())
        });
        Self { server: server.unwrap(), watch }
    }

    /// Gets ready for the next process. None: it is to be answered to its end.
    fn next_run(&self, moment: Option<Moment>) -> (u64, mpsc::Sender<Seen>, mpsc::Receiver<Seen>) {
        let (tell, told) = mpsc::channel();
        let mut watch = self.watch.0.lock().unwrap();
        watch.run += 1;
        watch.moment = moment;
        watch.tell = Some(tell.clone());
        watch.answers = match moment {
            None => u64::MAX,
            Some(Moment::Starting) => 0,
            Some(Moment::Asked(n)) => n - 1,
            Some(Moment::Answered(n)) => n,
        };
        (watch.run, tell, told)
    }

    /// The process is dead: its last request may be answered, for nobody.
    fn let_go(&self) {
        let (watch, changed) = &*self.watch;
        let mut watch = watch.lock().unwrap();
        watch.dead = watch.run;
        changed.notify_all();
    }

    fn pages_not_asked_for(&self) -> u64 {
        PAGES - self.watch.0.lock().unwrap().asked.len() as u64
    }
}

/// Counts a request, tells of the moment when it has come, and holds what is not to be answered.
fn watched_answer((watch, changed): &(Mutex<Watch>, Condvar), request: &LoopbackRequest) {
    let run = run_of(request);
    let mut watch = watch.lock().unwrap();
    watch.asked.insert(request.target.clone());
    if run != watch.run {
        // Sent by a process that was dead before it was read.
        return;
    }
    let tell = |watch: &Watch| {
        if let Some(tell) = &watch.tell {
            // Nobody listens any more to a process that has been killed already.
            let _ = tell.send(Seen::Moment);
        }
    };
    if let Some(left) = watch.answers.checked_sub(1) {
        watch.answers = left;
        if left == 0 && matches!(watch.moment, Some(Moment::Answered(_))) {
            tell(&watch);
        }
        return;
    }
    watch.held.insert(request.target.clone());
    if matches!(watch.moment, Some(Moment::Asked(_))) {
        tell(&watch);
    }
    drop(changed.wait_while(watch, |watch| watch.dead < run).unwrap());
}

fn command(room: &Path, store: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command.current_dir(room).env_remove("LAMPLIGHTER_STORE").args(["--store", store]).args(args);
    command
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A listing that is killed over and over.
struct Listing {
    forge: Forge,
    room: TempDir,
    store: String,
    args: Vec<String>,
    concurrency: u64,
    seed: u64,
}

impl Listing {
    fn of(forge: Forge, lister: &str, more: &[&str], concurrency: u64) -> Self {
        let url = format!("url={}", forge.server.url("/"));
        let concurrency_is = concurrency.to_string();
        let mut args: Vec<String> =
            ["list", lister, &url, "--json", "--concurrency", &concurrency_is].map(str::to_owned).to_vec();
        args.extend(more.iter().map(|&s| s.to_owned()));
        let seed = std::env::var("SEED")
            .map_or_else(|_| RandomState::new().hash_one(lister), |s| s.parse().unwrap());
        Self {
            forge,
            room: TempDir::new().unwrap(),
            store: "file:listed.db".to_owned(),
            args,
            concurrency,
            seed,
        }
    }

    #[cfg(feature = "postgres")]
    fn into_store(mut self, store: String) -> Self {
        self.store = store;
        self
    }

    fn process(&self, run: u64) -> Command {
        std::fs::write(self.room.path().join("run.toml"), format!("contact = {:?}\n", contact(run))).unwrap();
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut command = command(self.room.path(), &self.store, &["--config", "run.toml"]);
        command.args(args);
        command
    }

    fn kill_at(&self, moment: Moment, random: &mut Random) {
        let (run, tell, told) = self.forge.next_run(Some(moment));
        let mut child = self.process(run).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let listener = std::thread::spawn(move || {
            let mut said = String::new();
            // A process that is killed ends its last line anywhere.
            let _ = stderr.read_to_string(&mut said);
            let _ = tell.send(Seen::Ended(said));
        });
        if !matches!(moment, Moment::Starting) {
            match told.recv().unwrap() {
                Seen::Moment => {}
                Seen::Ended(said) => panic!("run {run} ended before {moment:?}: {said}"),
            }
        }
        if !matches!(moment, Moment::Asked(_)) {
            random.dawdle();
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        self.forge.let_go();
        listener.join().unwrap();
        let said = told.try_iter().find_map(|seen| match seen {
            Seen::Ended(said) => Some(said),
            Seen::Moment => None,
        });
        assert_eq!(status.signal(), Some(SIGKILL), "run {run}, {moment:?}, ended by itself: {said:?}");
    }

    /// Kills so often, then lets it end. `expected`: of each origin's URL what is listed of it.
    fn survives(self, name: &str, kills: u64, expected: &BTreeMap<String, Value>) {
        let kills: u64 = std::env::var("LAMPLIGHTER_KILLS").map_or(kills, |n| n.parse().unwrap());
        assert!(kills < PAGES - 100, "LAMPLIGHTER_KILLS={kills}: there are {PAGES} pages only");
        eprintln!("{name}: SEED={}", self.seed);
        let mut random = Random(self.seed);
        for done in 0..kills {
            // So far on average that the kills are spread over the whole listing, and never so far
            // that it could end before the last of them.
            let (pages, to_come) = (self.forge.pages_not_asked_for(), kills - done);
            let spare = pages.saturating_sub(to_come + self.concurrency);
            let n = 1 + random.below(spare.min(2 * pages / to_come).max(1));
            let moment = match random.below(8) {
                0 => Moment::Starting,
                1..4 => Moment::Asked(n),
                _ => Moment::Answered(n),
            };
            self.kill_at(moment, &mut random);
        }
        let (run, ..) = self.forge.next_run(None);
        let told = lines(&self.process(run).output().unwrap()).remove(0);
        assert_eq!((&told["outcome"], &told["pending"]), (&json!("complete"), &json!(0)), "{told}");

        let room = self.room.path();
        let runs = lines(&command(room, &self.store, &["runs", "--json"]).output().unwrap());
        assert_eq!(runs.len(), 1, "each process went on with the run of the first: {runs:?}");
        assert_eq!((&runs[0]["outcome"], &runs[0]["gaps"]), (&json!("complete"), &json!(0)));
        let listed = lines(&command(room, &self.store, &["origins", "--all", "--json"]).output().unwrap());
        assert_eq!(listed.len(), expected.len(), "one row for each origin");
        for origin in listed {
            let url = origin["url"].as_str().unwrap();
            let expected = expected.get(url).unwrap_or_else(|| panic!("{url} is not on the forge"));
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&origin[key], value, "{key} of {url}");
            }
        }
        self.asked_little_twice(name, kills);
    }

    fn asked_little_twice(&self, name: &str, kills: u64) {
        let mut by_run: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for request in self.forge.server.log() {
            by_run.entry(run_of(&request)).or_default().push(request.target);
        }
        let mut known = BTreeSet::new();
        let (mut twice, mut most) = (0, 0);
        for (run, targets) in by_run {
            let asked: BTreeSet<String> = targets.iter().cloned().collect();
            assert_eq!(asked.len(), targets.len(), "run {run} asked twice for a page: {targets:?}");
            let again = asked.intersection(&known).count() as u64;
            assert!(
                again <= self.concurrency,
                "run {run} asked again for {again} pages, and {} may have been in flight",
                self.concurrency
            );
            twice += again;
            most = most.max(again);
            known.extend(asked);
        }
        assert_eq!(known.len() as u64, PAGES);
        // The kills did hit something: what was held was never answered.
        let held = self.forge.watch.0.lock().unwrap().held.len() as u64;
        assert!(twice >= held, "{twice} pages asked for again, and {held} were never answered");
        // Past the harness, which keeps what a test prints, and may be in the middle of a line.
        let line = format!(
            "\n{name}: {kills} kills of {PAGES} pages at concurrency {}: every origin listed, {twice} pages asked for \
             again, at most {most} after a kill (SEED={})\n",
            self.concurrency, self.seed
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
}

/// The n-th moment from 2024-01-01T00:00:00Z on, ten minutes apart, over at most a month.
fn date(n: u64) -> String {
    let minutes = n * 10;
    let (day, hour, minute) = (minutes / 1440 + 1, minutes / 60 % 24, minutes % 60);
    assert!(day <= 31);
    format!("2024-01-{day:02}T{hour:02}:{minute:02}:00Z")
}

/// The same moment, in seconds since the epoch.
fn seconds(n: u64) -> u64 {
    1_704_067_200 + n * 600
}

/// A chain of pages, as Pagure's, each with two projects: a page is known only from the one before it.
fn chain() -> (Forge, BTreeMap<String, Value>) {
    let forge = Forge::start(|target, host| {
        let page: u64 = target.split("&page=").nth(1).map_or(1, |n| n.parse().unwrap());
        let next =
            (page < PAGES).then(|| format!("http://{host}/api/0/projects?per_page=2&page={}", page + 1));
        let project = |n: u64| json!({"id": n + 1, "fullname": format!("group/p{n}"), "date_modified": seconds(n).to_string()});
        let projects = [project(page * 2 - 2), project(page * 2 - 1)];
        LoopbackAnswer::json(&json!({"projects": projects, "pagination": {"next": next}}))
    });
    let origin = |n: u64| {
        let url = forge.server.url(&format!("/group/p{n}")).to_string();
        (url, json!({"last_update": date(n), "forge_id": (n + 1).to_string(), "gone": null, "enabled": true}))
    };
    let expected = (0..PAGES * 2).map(origin).collect();
    (forge, expected)
}

/// Ten pages of an index as cgit's, and a page for each of its 990 repositories: many may be in
/// flight at once, as they never are in a chain.
fn fan() -> (Forge, BTreeMap<String, Value>) {
    const INDEX: u64 = 10;
    const ROWS: u64 = PAGES / INDEX - 1;
    let forge = Forge::start(|target, host| {
        let mut html = "<html><body><div id='cgit'><div class='content'>".to_owned();
        if let Some(name) = target.strip_prefix("/r") {
            write!(
                html,
                "<table class='list'><tr><td><a rel='vcs-git' href='http://{host}/clone/r{name}'>clone</a>"
            )
        } else {
            let first: u64 = target.split("ofs=").nth(1).map_or(0, |n| n.parse().unwrap());
            html.push_str("<table summary='repository list' class='list nowrap'>");
            for n in first..first + ROWS {
                let shown = date(n).replace('T', " ").replace('Z', " +0000");
                write!(html, "<tr><td class='toplevel-repo'><a href='/r{n}.git/'>r{n}.git</a></td>").unwrap();
                write!(html, "<td><span class='age-years' title='{shown}'>2 years</span></td></tr>").unwrap();
            }
            html.push_str("</table><ul class='pager'>");
            for page in 0..INDEX {
                let class = if page * ROWS == first { "current" } else { "" };
                write!(html, "<li><a class='{class}' href='/?ofs={}'>[{}]</a></li>", page * ROWS, page + 1)
                    .unwrap();
            }
            write!(html, "</ul>")
        }
        .unwrap();
        html.push_str("</div> <!-- class=content --></div></body></html>");
        LoopbackAnswer::new(200, html).with_header("content-type", "text/html; charset=UTF-8")
    });
    let origin = |n: u64| {
        let url = forge.server.url(&format!("/clone/r{n}.git")).to_string();
        (url, json!({"last_update": date(n), "gone": null, "enabled": true}))
    };
    let expected = (0..INDEX * ROWS).map(origin).collect();
    (forge, expected)
}

#[test]
fn a_chain_survives_kills_and_repeats_one_page_for_each() {
    let (forge, expected) = chain();
    Listing::of(forge, "pagure", &["per_page=2"], 1).survives("chain", 50, &expected);
}

#[test]
fn a_fan_survives_kills_and_repeats_what_was_in_flight() {
    let (forge, expected) = fan();
    Listing::of(forge, "cgit", &[], 4).survives("fan", 50, &expected);
}

#[cfg(feature = "postgres")]
#[path = "support/postgres.rs"]
mod server;

#[cfg(feature = "postgres")]
#[test]
fn a_fan_survives_kills_of_a_lister_into_postgres() {
    let Some(schemas) = server::Schemas::new("kill") else { return };
    let (forge, expected) = fan();
    let store = schemas.url_of(&schemas.name());
    Listing::of(forge, "cgit", &[], 4).into_store(store).survives("postgres", 20, &expected);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(schemas.done());
}
