//! `simulate`: what a policy would keep current.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use lamplighter::backend::MemoryStore;
use lamplighter::policy::{Policies, named};
use lamplighter::sim::{self, Bounds, Named, Page, Report, SimOptions, SweepPoint, World};
use serde_json::{Value, json};

use crate::args::SimulateArgs;
use crate::context::Context;
use crate::failure::{Done, Failure, Result};

pub(crate) async fn simulate(args: &SimulateArgs, context: &mut Context) -> Result<Done> {
    let world = read(&args.world)?;
    let report = run(&world, &args.policy, args.budget).await?;
    let bounds = Bounds::of(&world, args.budget * world.volume_per_day);
    if let Some(path) = &args.html {
        let page = draw(&world, args, &report).await?;
        std::fs::write(path, page).map_err(|e| Failure::work(format!("{}: {e}", path.display())))?;
    }
    if context.json {
        context.out.json(&row(&args.policy, args.budget, &report))?;
    } else {
        show(args, context, &world, &report, &bounds)?;
    }
    Ok(Done::Whole)
}

fn read(path: &Path) -> Result<World> {
    let from: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?)
    };
    World::read(from).map_err(|e| {
        let why = std::error::Error::source(&e).map(|s| format!(": {s}")).unwrap_or_default();
        Failure::usage(format!("{}: {e}{why}", path.display()))
    })
}

/// What a policy is drawn beside.
const BASELINES: [&str; 3] = ["swh_default", "round_robin", "nutch"];

/// The page: the run, baselines at the same budget, and all of them at others.
async fn draw(world: &World, args: &SimulateArgs, report: &Report) -> Result<String> {
    let mut runs = vec![Named::new(&args.policy, report.clone())];
    for policy in BASELINES.into_iter().filter(|p| *p != args.policy) {
        runs.push(Named::new(policy, run(world, policy, args.budget).await?));
    }
    let mut budgets = vec![0.05, 0.1, 0.2, 0.5, 1.0, 2.0];
    if !budgets.contains(&args.budget) {
        budgets.push(args.budget);
        budgets.sort_by(f64::total_cmp);
    }
    let mut sweep = Vec::with_capacity(budgets.len());
    for budget in budgets {
        let mut fresh = Vec::with_capacity(runs.len());
        for known in &runs {
            let same = (budget - args.budget).abs() < 1e-12;
            fresh.push(if same { known.report.fresh } else { run(world, &known.name, budget).await?.fresh });
        }
        sweep.push(SweepPoint::new(budget, Bounds::of(world, budget * world.volume_per_day), fresh));
    }
    Page::new(world, args.budget, runs, sweep).html().map_err(Failure::work)
}

/// A run of a policy at a budget, in a store of its own.
async fn run(world: &World, policy: &str, budget: f64) -> Result<Report> {
    let visits = budget * world.volume_per_day;
    let policy = named(&told_budget(policy, visits)).map_err(Failure::usage)?;
    let store = MemoryStore::with_policies(Policies::all(policy));
    let options = SimOptions::new(visits);
    sim::simulate(world, &store, &options).await.map_err(Failure::work)
}

/// A policy that can be told the budget is told it, as a configuration would: it need not be learned
/// first.
fn told_budget(policy: &str, visits: f64) -> String {
    let can = policy == "due" || policy.starts_with("due,");
    let told = policy.split(',').any(|option| option.trim().starts_with("budget"));
    if can && !told { format!("{policy},budget={visits}") } else { policy.to_owned() }
}

/// A run as scripts see it.
fn row(policy: &str, budget: f64, report: &Report) -> Value {
    json!({
        "policy": policy,
        "budget": budget,
        "fresh": report.fresh,
        "age": report.age,
        "lag": report.lag,
        "useless": report.useless,
        "failed": report.failed,
        "ttfv": report.ttfv,
        "p99": report.p99,
        "max": report.max,
        "visits": report.visits,
        "sequence_sha256": report.sequence_sha256,
    })
}

fn show(
    args: &SimulateArgs,
    context: &mut Context,
    world: &World,
    r: &Report,
    bounds: &Bounds,
) -> Result<()> {
    let out = &mut context.out;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    out.line(format!(
        "{} over {} origins and {} days, {:.1} visits a day ({} of the changes)",
        args.policy,
        world.len(),
        world.days,
        args.budget * world.volume_per_day,
        percent(args.budget),
    ))?;
    out.line(format!(
        "  current: {} of the time (without signals at best {}, in hindsight {})",
        percent(r.fresh),
        percent(bounds.oracle),
        percent(bounds.clairvoyant),
    ))?;
    out.line(format!(
        "  oldest change not archived: {:.2} days on the mean; a change is archived after {:.2} days",
        r.age, r.lag
    ))?;
    out.line(format!("  a new origin is visited after {:.2} days", r.ttfv))?;
    out.line(format!("  longest without a current copy: {:.0} days, of all but 1 %: {:.0}", r.max, r.p99))?;
    out.line(format!(
        "  {} visits: {} found nothing new, {} archived nothing",
        r.visits,
        percent(r.useless),
        percent(r.failed),
    ))?;
    out.line(format!("  sequence {}", r.sequence_sha256))?;
    Ok(())
}
