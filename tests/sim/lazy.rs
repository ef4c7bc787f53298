//! What it costs that listings without news place nothing anew.

use lamplighter::policy::named;
use lamplighter::sim::{Generator, SimOptions, World};

use crate::frozen::{real, synthetic};
use crate::{mean, run_with};

/// How much more is current, and how much shorter changes wait, where every listing writes and
/// places all of its origins.
fn gained(world: &World, policy: &str, budget: f64) -> (f64, f64) {
    let visits = budget * world.volume_per_day;
    let policy = || named(&format!("{policy},budget={visits}")).unwrap();
    let options = SimOptions::new(visits);
    let lazy = run_with(world, policy(), &options);
    let eager = run_with(world, policy(), &options.renewing());
    assert_ne!(lazy.sequence_sha256, eager.sequence_sha256);
    (eager.fresh - lazy.fresh, lazy.lag / eager.lag)
}

/// What is missed of: two in a thousand of freshness on the mean of the generated worlds, a twentieth
/// of lag on the frozen ones.
fn missed(policies: &[&str], budgets: &[f64], generators: &[fn(usize, u64) -> Generator]) -> Vec<String> {
    let mut missed = Vec::new();
    let frozen: Vec<&World> = [real(), synthetic()].into_iter().flatten().map(|f| &f.world).collect();
    for (policy, budget) in policies.iter().flat_map(|p| budgets.iter().map(move |b| (*p, *b))) {
        for generator in generators {
            let (fresh, each) = mean(|world| gained(world, policy, budget).0, generator);
            println!("{policy} at {budget}: placing all anew gains {fresh:+.4} fresh, {each:+.4?}");
            if fresh > 0.002 {
                missed.push(format!("{policy} at {budget}: {fresh:+.4} fresh"));
            }
        }
        for world in &frozen {
            let (fresh, lag) = gained(world, policy, budget);
            println!("{policy} at {budget}, frozen: {fresh:+.4} fresh, lag x {lag:.3}");
            if lag > 1.05 {
                missed.push(format!("{policy} at {budget}: lag x {lag:.3}"));
            }
        }
    }
    missed
}

fn bursty(origins: usize, seed: u64) -> Generator {
    Generator::new(origins, seed).real_like()
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes long: scripts/test runs it, with code that is optimised")]
fn folding_quiet_listings_lazily_costs_little() {
    let missed = missed(&["due"], &[0.2, 1.0], &[Generator::new, bursty]);
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes long: scripts/test runs it, with code that is optimised")]
fn folding_quiet_listings_lazily_costs_little_where_changes_come_in_bursts() {
    let missed = missed(&["due", "due,objective=lag"], &[0.05], &[bursty]);
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The one case that misses the bar of two in a thousand.
#[test]
#[ignore = "does not hold: 0.0034 of freshness, where changes are independent and there is a visit for 20 of them"]
fn folding_quiet_listings_lazily_costs_little_at_a_small_budget() {
    let missed = missed(&["due", "due,objective=lag"], &[0.05], &[Generator::new]);
    assert!(missed.is_empty(), "{missed:#?}");
}
