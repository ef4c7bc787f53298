//! Processes that claim from one database, are killed and started again: no visit is held by two at a time,
//! none is lost, and answers with older tokens are refused. Judged by what all of them wrote down, and by
//! what an outside reader saw of the leases meanwhile.
//!
//! `LAMPLIGHTER_PROCESSES` says how many work at once (4), `LAMPLIGHTER_ORIGINS` over how many origins
//! (3000), `LAMPLIGHTER_SECONDS` for how long: without it, for some hundred claims. `SEED` gives the same
//! choices again.
#![cfg(all(feature = "postgres", feature = "testing", unix))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "common/random.rs"]
mod random;
#[path = "support/postgres.rs"]
mod server;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use lamplighter::backend::postgres::{PostgresOptions, PostgresStore};
use lamplighter::backend::{Claim, ImportedOrigin, OriginStore, Refusal, StoreOptions, VisitStore};
use lamplighter::model::{ListerKey, Outcome, Timestamp, VisitId, VisitStatus, VisitToken, VisitType};
use lamplighter::policy::{Oldest, Policies};
use random::Random;
use server::Schemas;

const NAME: &str = "what_one_process_does";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

fn now() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

fn policies() -> StoreOptions {
    StoreOptions::default().with_policies(Policies::all(Oldest))
}

/// One process: begins when it is told a line, and goes on until it is killed. What it holds it writes
/// down, each batch at once.
#[tokio::test]
async fn what_one_process_does() {
    let Ok(url) = std::env::var("LAMPLIGHTER_RUNNER_URL") else { return };
    let log = std::env::var("LAMPLIGHTER_RUNNER_LOG").unwrap();
    let mut random = Random(number("LAMPLIGHTER_RUNNER_SEED").unwrap());
    let bound = policies().with_clock_bound(Duration::from_secs(5));
    let options = PostgresOptions::default().with_connections(2).with_store(bound);
    let store = PostgresStore::connect(&url, options).await.unwrap();
    let mut log = std::fs::File::create(log).unwrap();
    let tell = |what: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{what}").unwrap();
        out.flush().unwrap();
    };
    tell("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut late: Vec<(VisitId, VisitToken)> = Vec::new();
    loop {
        let lease = Duration::from_millis(20 + random.below(1500));
        let count = 1 + usize::try_from(random.below(200)).unwrap();
        let (from, claim) = (now(), Claim::new(VisitType::git(), count).with_lease(lease));
        let visits = store.claim(&claim, from).await.unwrap().visits;
        let got = now().as_micros();
        let mut said = String::new();
        for v in &visits {
            let until = v.deadline.unwrap().as_micros();
            writeln!(said, "claimed {} {} {} {until} {got}", v.visit.0, v.token.0, from.as_micros()).unwrap();
        }
        log.write_all(said.as_bytes()).unwrap();
        let mut held: Vec<_> = visits.iter().map(|v| (v.visit, v.token)).collect();
        match random.below(8) {
            // Not in time: perhaps somebody else has it by then.
            0 | 1 => {
                late.append(&mut held);
                tell("round");
                continue;
            }
            2 => {
                let mut said = String::new();
                let answers = store.heartbeat(&held, lease, now()).await.unwrap();
                for ((visit, token), answer) in held.iter().zip(answers) {
                    if let Ok(until) = answer {
                        writeln!(said, "kept {} {} {}", visit.0, token.0, until.as_micros()).unwrap();
                    }
                }
                log.write_all(said.as_bytes()).unwrap();
            }
            3 | 4 => held.append(&mut late),
            _ => {}
        }
        let at = now();
        let outcomes: Vec<_> =
            held.iter().map(|(v, t)| Outcome::new(*v, *t, VisitStatus::Successful, at)).collect();
        let sent = |o: &Outcome| format!("sent {} {} {}\n", o.visit.0, o.token.0, at.as_micros());
        log.write_all(outcomes.iter().map(sent).collect::<String>().as_bytes()).unwrap();
        let mut said = String::new();
        for (outcome, answer) in outcomes.iter().zip(store.complete(&outcomes, at).await.unwrap()) {
            let word = match answer {
                Ok(_) => "done",
                Err(Refusal::Stale) => "refused",
                Err(other) => panic!("{outcome:?}: {other:?}"),
            };
            writeln!(said, "{word} {} {} {}", outcome.visit.0, outcome.token.0, at.as_micros()).unwrap();
        }
        log.write_all(said.as_bytes()).unwrap();
        tell("round");
    }
}

/// A process at work, and what it says.
struct Runner {
    child: Child,
    generation: u64,
}

/// What a process said: which one, and of which generation.
enum Said {
    Ready,
    Round,
    /// Nothing more will come.
    Ended,
}

type Heard = (usize, u64, Said);

fn start(
    url: &str,
    logs: &Path,
    (n, generation): (usize, u64),
    seed: u64,
    tell: &mpsc::Sender<Heard>,
) -> Runner {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
        .env("LAMPLIGHTER_RUNNER_URL", url)
        .env("LAMPLIGHTER_RUNNER_LOG", logs.join(format!("{n}-{generation}")))
        .env("LAMPLIGHTER_RUNNER_SEED", seed.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let tell = tell.clone();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let said = match line.as_str() {
                "ready" => Said::Ready,
                "round" => Said::Round,
                _ => continue,
            };
            if tell.send((n, generation, said)).is_err() {
                return;
            }
        }
        drop(tell.send((n, generation, Said::Ended)));
    });
    Runner { child, generation }
}

impl Runner {
    fn begin(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// How long a visit was somebody's.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    from: i64,
    until: i64,
    /// When the claim had been answered; unknown of what was only seen in the database.
    got: Option<i64>,
    /// When its outcome was sent.
    sent: Option<i64>,
    done: bool,
    refused: bool,
}

#[derive(Default)]
struct Intervals(BTreeMap<u64, BTreeMap<u64, Held>>);

impl Intervals {
    /// Reads what the processes wrote down. The last line of one that was killed may be torn.
    fn read(logs: &[PathBuf]) -> Self {
        let mut all = Self::default();
        for log in logs {
            let text = std::fs::read_to_string(log).unwrap();
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let of = |i: usize| words[i].parse::<i64>().unwrap();
                let (visit, token) = (words[1].parse().unwrap(), words[2].parse().unwrap());
                let tokens = all.0.entry(visit).or_default();
                if words[0] == "claimed" {
                    let held = Held { from: of(3), until: of(4), got: Some(of(5)), ..Held::default() };
                    assert!(tokens.insert(token, held).is_none(), "two got token {token} of visit {visit}");
                    continue;
                }
                let held = tokens.get_mut(&token).unwrap();
                match words[0] {
                    "kept" => held.until = held.until.max(of(3)),
                    "sent" => held.sent = Some(of(3)),
                    "done" => held.done = true,
                    _ => held.refused = true,
                }
            }
        }
        all
    }

    /// Adds what was seen of the leases. Whoever was killed may not have written down what it held.
    fn add(&mut self, (visit, token, from, until): (u64, u64, i64, i64)) {
        let tokens = self.0.entry(visit).or_default();
        let held = tokens.entry(token).or_insert(Held { from, until, ..Held::default() });
        assert_eq!(held.from, from, "two had token {token} of visit {visit}");
        held.until = held.until.max(until);
    }

    /// No two of a visit overlap. Returns how many there were, and how many were refused.
    fn judge(&self) -> (usize, usize) {
        let (mut all, mut refused) = (0, 0);
        for (visit, tokens) in &self.0 {
            let mut before: Option<(&u64, &Held)> = None;
            for (token, held) in tokens {
                all += 1;
                refused += usize::from(held.refused);
                if let Some((earlier, first)) = before {
                    let both = format!("visit {visit}: {earlier} {first:?}, {token} {held:?}");
                    // Of one that was killed nobody knows whether its outcome was taken.
                    match (first.sent.filter(|_| !first.refused), held.got) {
                        // The next claim had no answer before the visit's own outcome was sent.
                        (Some(sent), Some(got)) => assert!(got >= sent, "{both}"),
                        (Some(_), None) => {}
                        (None, _) => assert!(held.from >= first.until, "{both}"),
                    }
                }
                assert!(!(held.done && held.refused), "visit {visit}: {token} {held:?}");
                before = Some((token, held));
            }
        }
        (all, refused)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_die_hold_no_visit_twice_and_lose_none() {
    let Some(schemas) = Schemas::new("processes") else { return };
    let processes = usize::try_from(number("LAMPLIGHTER_PROCESSES").unwrap_or(4)).unwrap();
    let origins = usize::try_from(number("LAMPLIGHTER_ORIGINS").unwrap_or(3000)).unwrap();
    let seed = number("SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("SEED={seed}");
    let mut random = Random(seed);
    let options = schemas.options().with_store(policies());
    let (name, url) = (options.schema.clone(), schemas.url_of(&options.schema));
    let store = schemas.open(options).await;
    let lister = ListerKey::new("forge", "forge.example");
    for first in (0..origins).step_by(1000) {
        let names = first..(first + 1000).min(origins);
        let some = names
            .map(|n| ImportedOrigin::new(&lister, format!("https://forge.example/r{n}"), VisitType::git()));
        store.import(some.collect(), now()).await.unwrap();
    }

    let logs = tempfile::TempDir::new().unwrap();
    let (tell, heard) = mpsc::channel::<Heard>();
    let mut runners: Vec<Runner> =
        (0..processes).map(|n| start(&url, logs.path(), (n, 0), random.below(1 << 40), &tell)).collect();
    let mut waiting = processes;
    let (mut rounds, mut kills, mut looked) = (0u64, 0u64, Vec::new());
    let began = Instant::now();
    let over = |rounds: u64| match number("LAMPLIGHTER_SECONDS") {
        Some(seconds) => began.elapsed() >= Duration::from_secs(seconds),
        None => rounds >= 40 * processes as u64,
    };
    let client = schemas.client().await;
    let leases = format!(
        "select id, token, (extract(epoch from since) * 1000000)::bigint, (extract(epoch from until) * 1000000)::bigint
         from \"{name}\".lease"
    );
    while !over(rounds) {
        let (n, generation, said) = heard.recv().unwrap();
        if runners[n].generation != generation {
            continue;
        }
        match said {
            Said::Ready if waiting > 0 => {
                waiting -= 1;
                if waiting == 0 {
                    // All at the same moment.
                    runners.iter_mut().for_each(Runner::begin);
                }
            }
            Said::Ready => runners[n].begin(),
            Said::Ended => panic!("a process has ended: {:?}", runners[n].child.wait()),
            Said::Round => {
                rounds += 1;
                if random.below(12) == 0 {
                    runners[n].kill();
                    kills += 1;
                    let next = (n, generation + 1);
                    runners[n] = start(&url, logs.path(), next, random.below(1 << 40), &tell);
                }
                if rounds.is_multiple_of(16) {
                    let rows = client.query(&leases, &[]).await.unwrap();
                    looked.extend(rows.iter().map(|r| {
                        let unsigned = |i: usize| r.get::<_, i64>(i).cast_unsigned();
                        (unsigned(0), unsigned(1), r.get::<_, i64>(2), r.get::<_, i64>(3))
                    }));
                }
            }
        }
    }
    runners.iter_mut().for_each(Runner::kill);

    let files = std::fs::read_dir(logs.path()).unwrap().map(|f| f.unwrap().path());
    let mut intervals = Intervals::read(&files.collect::<Vec<_>>());
    for lease in looked {
        intervals.add(lease);
    }
    let (held, refused) = intervals.judge();
    assert!(held > 0 && kills > 0, "{held} held, {kills} killed");

    // What is left is visited when all leases have ended: nothing was lost.
    let later = now().plus(Duration::from_secs(3600));
    let count = format!("select count(*) from \"{name}\".origin where visits is null");
    let unvisited = async || client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0);
    let whole = format!("select count(*) from \"{name}\".origin");
    assert_eq!(
        usize::try_from(client.query_one(&whole, &[]).await.unwrap().get::<_, i64>(0)).unwrap(),
        origins
    );
    for _ in 0..=origins / 1000 {
        if unvisited().await == 0 {
            break;
        }
        let visits = store.claim(&Claim::new(VisitType::git(), 1000), later).await.unwrap().visits;
        let outcome =
            |v: &lamplighter::backend::Visit| Outcome::new(v.visit, v.token, VisitStatus::Successful, later);
        let outcomes: Vec<_> = visits.iter().map(outcome).collect();
        assert!(store.complete(&outcomes, later).await.unwrap().iter().all(Result::is_ok));
    }
    assert_eq!(unvisited().await, 0, "SEED={seed}");
    println!(
        "processes: {processes} over {origins} origins, {kills} killed, {held} leases held one at a time, {refused} late answers refused, all origins visited"
    );
    drop(client);
    schemas.done().await;
}
