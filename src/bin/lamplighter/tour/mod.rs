//! `tour`: the main job in a few seconds. Four small forges are served on loopback and listed
//! through the same layers as real ones; the next visits are decided, made by a pretend worker, and
//! decided again.

mod pages;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lamplighter::backend::{Claim, MemoryStore, MetricsStore, Visit, VisitStore};
use lamplighter::driver::{Driver, RunOptions, RunReport};
use lamplighter::lister::Registry;
use lamplighter::model::{OriginKey, Timestamp, VisitType};
use lamplighter::testing::{Loopback, VirtualClock};
use lamplighter::transport::{Clock, Transport};
use serde_json::{Value, json};

use crate::args::TourArgs;
use crate::client;
use crate::context::Context;
use crate::failure::{Done, Result, one_line};
use crate::list::report_json;
use crate::output::{Table, count, for_people};
use crate::visits::{explanation_json, explanation_lines, visit_json};
use pages::{Pages, Rerouted, Upstream};
use worker::Pretended;

/// When the tour takes place, where `--now` does not say: after the last change in its pages.
const MORNING: i64 = 1_772_352_000; // 2026-03-01T08:00:00Z

/// From the first round to the second: longer than the least time between two visits, shorter than
/// an origin is left alone after a failure.
const LATER: Duration = Duration::from_secs(20 * 3600);

/// Visits that are shown of a round.
const SHOWN: usize = 8;

pub(crate) async fn tour(args: &TourArgs, context: &mut Context) -> Result<Done> {
    let begun = Instant::now();
    let now = context.given_now().unwrap_or_else(|| Timestamp::from_seconds(MORNING));
    let clock = Arc::new(VirtualClock::new(now));
    let pages = Pages::load(args.pages.as_deref())?;
    let server = pages.serve(Arc::clone(&clock) as _)?;
    let tour = Tour { store: Arc::new(MemoryStore::new()), clock, server };
    let mut told = Told { json: json!({}), whole: true };
    Tour::introduce(context)?;
    tour.list(&pages.upstreams, &mut told, context).await?;
    tour.show_what_is_held(&mut told, context).await?;
    tour.rounds(&mut told, context).await?;
    if let Some(file) = &args.request_log {
        pages::write_log(&tour.server, file)?;
    }
    let seconds = begun.elapsed();
    if context.json {
        told.put("seconds", seconds.as_secs_f64());
        context.out.json(&told.json)?;
    } else {
        conclude(seconds, context)?;
    }
    Ok(Done::whole_if(told.whole))
}

struct Tour {
    store: Arc<MemoryStore>,
    clock: Arc<VirtualClock>,
    server: Loopback,
}

/// What `--json` tells.
struct Told {
    json: Value,
    whole: bool,
}

impl Told {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        if let Value::Object(object) = &mut self.json {
            object.insert(key.to_owned(), value.into());
        }
    }
}

/// A line for people.
fn say(context: &mut Context, line: impl AsRef<str>) -> Result<()> {
    if context.json {
        return Ok(());
    }
    context.out.line(line)?;
    // The story is told as it happens.
    context.out.flush()
}

impl Tour {
    fn introduce(context: &mut Context) -> Result<()> {
        say(
            context,
            "A tour of lamplighter. Four small forges are served from this machine; no other is asked, and",
        )?;
        say(context, "nothing is kept. The clock is a virtual one: nobody waits.")?;
        say(context, "")?;
        say(context, "1. List every repository of each forge")?;
        say(context, "")
    }

    async fn list(&self, upstreams: &[Upstream], told: &mut Told, context: &mut Context) -> Result<()> {
        let mut listed = Vec::new();
        for upstream in upstreams {
            let report = self.list_one(upstream, context).await?;
            told.whole &= report.outcome == lamplighter::backend::RunOutcome::Complete;
            say(context, format!("   {}: {}", report.lister, upstream.about))?;
            say(
                context,
                format!(
                    "      {} in {} and {}; {}",
                    count(report.origins(), "origin"),
                    count(report.pages, "page"),
                    count(report.requests, "request"),
                    report.outcome.as_str()
                ),
            )?;
            for remark in remarks(&report) {
                say(context, format!("      {}", one_line(&remark)))?;
            }
            listed.push(report_json(&report, 0.0));
        }
        for upstream in &mut listed {
            // The clock is virtual: how long it took would say nothing.
            if let Value::Object(upstream) = upstream {
                upstream.remove("seconds");
            }
        }
        told.put("upstreams", listed);
        // The story goes on at a full minute: a retry waits for an odd time.
        let past = u64::try_from(self.clock.now().as_micros().rem_euclid(60_000_000)).unwrap_or(0);
        if past > 0 {
            self.clock.advance(Duration::from_micros(60_000_000 - past));
        }
        Ok(())
    }

    async fn list_one(&self, upstream: &Upstream, context: &Context) -> Result<RunReport> {
        let built = Registry::builtin().build(&upstream.lister, &upstream.arguments)?;
        let secrets = built.secrets.clone();
        let http = client::loopback(&built, &secrets, &self.server.url("/"), context)?;
        let rerouted = Rerouted::new(http, self.server.url("/"));
        let transport: Arc<dyn Transport> =
            client::around_on(rerouted, &built, &secrets, Arc::clone(&self.clock) as _);
        let driver = Driver::new(Arc::clone(&self.store) as _, transport, Arc::clone(&self.clock) as _);
        let options = RunOptions::default().with_parameters(built.parameters.clone());
        Ok(driver.run(built.source, options).await?)
    }

    async fn show_what_is_held(&self, told: &mut Told, context: &mut Context) -> Result<()> {
        let metrics = self.store.metrics(self.clock.now()).await?;
        let known: u64 = metrics.iter().map(|m| m.known).sum();
        let mut table = Table::new(&["LISTER", "INSTANCE", "TYPE", "KNOWN", "NEVER VISITED"]).indented(3);
        for m in &metrics {
            let cells = [m.lister.clone(), m.instance.clone(), m.visit_type.to_string()];
            table.row(cells.into_iter().chain([m.known.to_string(), m.never_visited.to_string()]));
        }
        say(context, "")?;
        say(context, format!("2. What the store holds now: {}", count(known, "origin")))?;
        say(context, "")?;
        say(context, table.to_string().trim_end())?;
        told.put("known", known);
        told.put("holds", metrics.iter().map(|m| json!(m)).collect::<Vec<_>>());
        Ok(())
    }

    async fn rounds(&self, told: &mut Told, context: &mut Context) -> Result<()> {
        say(context, "")?;
        say(
            context,
            "3. Decide the next visits, and say why (git; other types wait in queues of their own)",
        )?;
        let first = self.claim(context).await?;
        say(context, "")?;
        say(context, "4. A pretend worker visits them, four at a time. What comes of it is made up:")?;
        let made = worker::visit(&first, self.clock.now());
        let end = made.last().map_or(self.clock.now(), |(_, o)| o.at);
        self.clock.advance(end.since(self.clock.now()));
        let outcomes: Vec<_> = made.iter().map(|(_, o)| o.clone()).collect();
        let answers = self.store.complete(&outcomes, self.clock.now()).await?;
        told.whole &= answers.iter().all(std::result::Result::is_ok);
        let of = |which| made.iter().filter(|(p, _)| *p == which).count();
        let counts: Vec<String> =
            Pretended::ALL.iter().map(|p| format!("{} {}", of(*p), p.as_str().replace('_', " "))).collect();
        say(context, format!("   {}", counts.join(", ")))?;
        self.clock.advance(LATER);
        let now = self.clock.now();
        say(context, "")?;
        say(
            context,
            "5. Twenty hours later, decide again: another order, because of what the visits came to",
        )?;
        // Before the claim: a lease would be in the way of what is to be explained.
        let held = made.iter().find(|(p, _)| *p == Pretended::Failed);
        let held = held.and_then(|(_, o)| first.iter().find(|v| v.visit == o.visit));
        let next = self.store.peek(&claim(), now).await?.visits;
        let explained = match next.first() {
            Some(visit) => self.explain(visit, now).await?,
            None => None,
        };
        let explained_held = match held {
            Some(visit) => self.explain(visit, now).await?,
            None => None,
        };
        let second = self.claim(context).await?;
        say(context, "")?;
        say(context, "6. Why the first of them, and why not one that failed? `explain` names every gate:")?;
        for (_, lines) in explained.iter().chain(&explained_held) {
            say(context, "")?;
            for line in lines {
                say(context, format!("   {line}"))?;
            }
        }
        let url_of = |visit| first.iter().find(|v| v.visit == visit).map(|v| v.url.clone());
        let outcomes: Vec<Value> = made
            .iter()
            .map(|(p, o)| {
                json!({"visit": o.visit, "url": url_of(o.visit), "status": o.status, "changed": o.changed,
                       "at": o.at, "pretended": p.as_str()})
            })
            .collect();
        let visits = |of: &[Visit]| of.iter().map(visit_json).collect::<Vec<_>>();
        told.put(
            "rounds",
            vec![
                json!({"visits": visits(&first), "outcomes": outcomes}),
                json!({"at": now, "visits": visits(&second), "outcomes": []}),
            ],
        );
        told.put("explain", explained.map_or(Value::Null, |(json, _)| json));
        told.put("explain_held", explained_held.map_or(Value::Null, |(json, _)| json));
        Ok(())
    }

    async fn claim(&self, context: &mut Context) -> Result<Vec<Visit>> {
        let claimed = self.store.claim(&claim(), self.clock.now()).await?;
        let mut table = Table::new(&["", "URL", "LANE", "WHY"]).indented(3);
        for (n, v) in claimed.visits.iter().enumerate().take(SHOWN) {
            table.row([(n + 1).to_string(), v.url.clone(), v.lane.clone(), v.reason.text.clone()]);
        }
        say(context, "")?;
        say(context, table.to_string().trim_end())?;
        let more = claimed.visits.len().saturating_sub(SHOWN);
        if more > 0 {
            say(context, format!("   and {more} more"))?;
        }
        Ok(claimed.visits)
    }

    async fn explain(&self, visit: &Visit, now: Timestamp) -> Result<Option<(Value, Vec<String>)>> {
        let key = OriginKey::new(&visit.url, visit.visit_type.clone());
        let explained = self.store.explain(&key, now).await?;
        Ok(explained.map(|e| (explanation_json(&e, now), explanation_lines(&e, now))))
    }
}

fn claim() -> Claim {
    // Longer than the whole round takes: no lease runs out on the way.
    Claim::new(VisitType::git(), 1000).with_lease(Duration::from_secs(12 * 3600)).with_owner("tour")
}

/// What was not plain about a listing.
fn remarks(report: &RunReport) -> Vec<String> {
    let mut remarks = Vec::new();
    let unread = report.requests.saturating_sub(report.pages);
    if unread > 0 {
        remarks.push(format!(
            "{} brought no page: the server failed once and was asked again, or a repository is not there",
            count(unread, "request")
        ));
    }
    if report.skipped > 0 {
        remarks.push(format!(
            "{} left out, and counted: what the forge names and does not have",
            count(report.skipped, "entry")
        ));
    }
    remarks.extend(report.gaps.iter().map(|g| format!("missing: {}", g.reason)));
    remarks
}

fn conclude(seconds: Duration, context: &mut Context) -> Result<()> {
    let lines = [
        String::new(),
        format!("That took {}. Now the real thing:", for_people(seconds)),
        String::new(),
        "   lamplighter listers                              what can be listed".to_owned(),
        "   lamplighter list pagure url=https://pagure.io    list one, into ./lamplighter.db".to_owned(),
        "   lamplighter next git --count 5                   claim visits of it".to_owned(),
    ];
    for line in lines {
        context.out.line(line)?;
    }
    Ok(())
}
