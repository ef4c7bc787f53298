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

#[test]
#[cfg_attr(debug_assertions, ignore = "takes optimised code: scripts/test runs it")]
fn folding_quiet_listings_lazily_costs_little() {
    let mut missed = Vec::new();
    let frozen = [real(), synthetic()].into_iter().flatten().map(|f| &f.world);
    let worlds: Vec<&World> = frozen.collect();
    for policy in ["due", "due,objective=lag"] {
        for budget in [0.05, 0.2, 1.0] {
            for generator in
                [Generator::new as fn(usize, u64) -> Generator, |n, s| Generator::new(n, s).real_like()]
            {
                let (fresh, each) = mean(|world| gained(world, policy, budget).0, generator);
                println!("{policy} at {budget}: {fresh:+.4} fresh, {each:+.4?}");
                if fresh > 0.002 {
                    missed.push(format!("{policy} at {budget}: {fresh:+.4} fresh"));
                }
            }
            for world in &worlds {
                let (fresh, lag) = gained(world, policy, budget);
                println!("{policy} at {budget}, frozen: {fresh:+.4} fresh, lag x {lag:.3}");
                if lag > 1.05 {
                    missed.push(format!("{policy} at {budget}: lag x {lag:.3}"));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
