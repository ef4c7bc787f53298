//! A policy in one trait impl: what changed and was not archived since goes first, the longest wait
//! before the others; the rest shares what is left, oldest visit first.
use std::time::Duration;

use lamplighter::backend::{Claim, ImportedOrigin, ImportedVisits, MemoryStore, OriginStore, VisitStore};
use lamplighter::model::{ListerKey, Timestamp, VisitStatus, VisitType};
use lamplighter::policy::{Facts, Lane, LaneSpec, Placement, Policies, Policy, Reason, Shared};

#[derive(Debug)]
struct ChangedFirst;

const CHANGED: Lane = Lane::policy(0);
const REST: Lane = Lane::policy(1);

impl Policy for ChangedFirst {
    fn name(&self) -> &'static str {
        "changed_first"
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        vec![LaneSpec::new(CHANGED, "changed", 0.8), LaneSpec::new(REST, "rest", 0.2)]
    }

    fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
        let last = facts.visits.last_visit;
        match facts.last_update {
            Some(update) if Some(update) > facts.visits.last_successful => Placement::new(
                CHANGED,
                update.as_micros(),
                Reason::new("changed", format!("changed {update}")),
            ),
            _ => {
                let rank = last.unwrap_or(facts.first_seen).as_micros();
                Placement::new(REST, rank, Reason::new("rest", "no known change"))
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    futures::executor::block_on(async {
        let day = |n: i64| Timestamp::from_seconds(n * 86_400);
        let lister = ListerKey::new("shelf", "shelf.example");
        let store = MemoryStore::with_policies(Policies::all(ChangedFirst));
        let visited = |name: &str, visit, update| {
            let mut origin =
                ImportedOrigin::new(&lister, format!("https://shelf.example/{name}"), VisitType::git());
            let mut visits = ImportedVisits::default();
            (visits.last_visit, visits.last_successful) = (Some(day(visit)), Some(day(visit)));
            visits.status = Some(VisitStatus::Successful);
            (origin.last_update, origin.visits) = (Some(day(update)), Some(visits));
            origin
        };
        let origins = vec![visited("quiet", 10, 5), visited("busy", 20, 25), visited("waiting", 20, 22)];
        store.import(origins, day(30)).await?;
        let claim = Claim::new(VisitType::git(), 3).with_lease(Duration::from_secs(600));
        let claimed = store.claim(&claim, day(30)).await?;
        let order: Vec<_> = claimed.visits.iter().map(|v| (v.url.as_str(), v.reason.code.as_str())).collect();
        assert_eq!(order.first(), Some(&("https://shelf.example/waiting", "changed")));
        assert_eq!(order.len(), 3);
        Ok(())
    })
}
