//! The same world, policy and budget give the same sequence of visits, always.

use lamplighter::policy::named;
use lamplighter::sim::{Generator, SimOptions};

use crate::{run, run_with};

const POLICIES: [&str; 6] = ["due", "swh_default", "swh_dvcs", "nutch", "round_robin", "oldest"];

fn small() -> Generator {
    let mut small = Generator::new(150, 41);
    small.days = 200.0;
    small.measure_from = 50.0;
    small
}

#[test]
fn a_run_repeats_and_does_not_depend_on_the_order_in_which_origins_came() {
    let world = small().generate();
    for policy in POLICIES {
        let first = run(&world, policy, 0.5);
        assert_eq!(run(&world, policy, 0.5), first, "{policy}");
        let visits = 0.5 * world.volume_per_day;
        let text = if policy == "due" { format!("due,budget={visits}") } else { policy.to_owned() };
        let reversed = run_with(&world, named(&text).unwrap(), &SimOptions::new(visits).reversed());
        assert_eq!(reversed.sequence_sha256, first.sequence_sha256, "{policy}");
    }
}

#[test]
fn another_seed_or_policy_gives_another_sequence() {
    let world = small().generate();
    let mut sequences: Vec<String> = POLICIES.iter().map(|p| run(&world, p, 0.5).sequence_sha256).collect();
    let mut other = small();
    other.seed += 1;
    sequences.push(run(&other.generate(), "due", 0.5).sequence_sha256);
    let n = sequences.len();
    sequences.sort();
    sequences.dedup();
    assert_eq!(sequences.len(), n);
}

/// Failures and workers that die are drawn from a seed, and nothing is lost by them.
#[test]
fn failing_and_dying_workers_cost_visits_and_no_origin() {
    let world = small().generate();
    let visits = world.volume_per_day;
    let policy = || named(&format!("due,budget={visits}")).unwrap();
    let well = run_with(&world, policy(), &SimOptions::new(visits));
    let options = SimOptions::new(visits).with_failures(0.1, 0.1, 5);
    let ill = run_with(&world, policy(), &options);
    assert_eq!(run_with(&world, policy(), &options), ill);
    assert!(ill.failed > well.failed + 0.05, "{} {}", ill.failed, well.failed);
    assert!(ill.fresh < well.fresh && ill.fresh > well.fresh - 0.1, "{} {}", ill.fresh, well.fresh);
    // Everyone is visited again all the same.
    assert!(ill.longest_unvisited < 200.0 + 1500.0);
}
