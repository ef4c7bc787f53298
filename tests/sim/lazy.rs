//! What it costs that listings without news place nothing anew.

use lamplighter::policy::named;
use lamplighter::sim::SimOptions;

use crate::frozen::{real, synthetic};
use crate::run_with;

#[test]
fn lazy() {
    for (name, f) in [("real", real()), ("synth", synthetic())] {
        let Some(w) = f.map(|f| &f.world) else { return };
        for b in [0.05, 0.2, 1.0] {
            for p in ["due", "due,objective=lag"] {
                let visits = b * w.volume_per_day;
                let policy = || named(&format!("{p},budget={visits}")).unwrap();
                let options = SimOptions::new(visits);
                let lazy = run_with(w, policy(), &options);
                let eager = run_with(w, policy(), &options.clone().renewing());
                let o = if p == "due" {
                    lamplighter::policy::Objective::Balanced
                } else {
                    lamplighter::policy::Objective::Lag
                };
                let due = lamplighter::policy::Due::new(
                    lamplighter::policy::DueOptions::default().with_budget(visits).with_objective(o),
                );
                use lamplighter::policy::Policy;
                let exact =
                    lamplighter::sim::exact(w, &SimOptions::new(visits), |_, f, s, t| due.value(f, s, t));
                println!(
                    "{name} {p} {b}: lazy {:.4} {:.2} eager {:.4} {:.2}  exact {:.4} {:.2}",
                    lazy.fresh, lazy.lag, eager.fresh, eager.lag, exact.fresh, exact.lag
                );
            }
        }
    }
}
