//! A listing of GitLab in shards.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use lamplighter::driver::RunOptions;
use lamplighter::lister::Source;

use super::poisoned::serve;
use super::*;
use crate::trial::{Ran, Trial, said};

async fn list(trial: &mut Trial, ids: &BTreeSet<u64>, poison: &BTreeSet<u64>, shards: u32) -> Ran {
    let (ids, poison) = (ids.clone(), poison.clone());
    let options = RunOptions::default().with_shards(NonZeroU32::new(shards));
    let source = Arc::new(Source::incremental(gitlab()));
    trial.run_with(source, options, move |r| serve(&ids, &poison, None, r)).await
}

#[tokio::test]
async fn gitlab_shards_end_where_they_are_told() {
    let ids: BTreeSet<u64> = (1..=1000).collect();
    let mut trial = Trial::new();
    let ran = list(&mut trial, &ids, &BTreeSet::new(), 4).await;
    assert_eq!(ran.outcome(), "complete");
    assert_eq!(trial.listed().await, ids);
    let asked = |what: &str| ran.asked.iter().filter(|asked| asked.contains(what)).count();
    // The greatest id; four ranges of 250, of which the last has no end.
    assert_eq!(
        (asked("sort=desc"), asked("id_before=251"), asked("id_before=")),
        (1, 3, 9),
        "{:#?}",
        ran.asked
    );
    assert_eq!(ran.asked.len(), 1 + 4 * 3);
}

/// What does not tell the greatest id is listed by one chain.
#[tokio::test]
async fn gitlab_a_failed_request_for_the_greatest_id_loses_nothing() {
    let ids: BTreeSet<u64> = (1..=450).collect();
    let (mut trial, served) = (Trial::new(), ids.clone());
    let options = RunOptions::default().with_shards(NonZeroU32::new(3));
    let ran = trial
        .run_with(Arc::new(Source::incremental(gitlab())), options, move |r| {
            if query(r)["sort"] == "desc" {
                said(r, 500, &Value::Null)
            } else {
                serve(&served, &BTreeSet::new(), None, r)
            }
        })
        .await;
    assert_eq!((ran.outcome(), ran.asked.len()), ("complete", 1 + 5));
    assert_eq!(trial.listed().await, ids);
}

#[test]
fn gitlab_scopes_have_no_shards() {
    let two = NonZeroU32::new(2).unwrap();
    assert!(gitlab().start_in_shards(&run(Mode::Full), two).is_some());
    assert!(gitlab().with_group("a/b").start_in_shards(&run(Mode::Full), two).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whichever ids there are, whichever of them fail, in however many shards.
    #[test]
    fn gitlab_shards_list_what_a_chain_lists(
        steps in prop::collection::vec(1_u64..6, 0..500),
        bad in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        shards in 1_u32..40,
    ) {
        let ids: BTreeSet<u64> = steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
        let all: Vec<u64> = ids.iter().copied().collect();
        let poison: BTreeSet<u64> = bad.iter().filter(|_| !all.is_empty()).map(|i| *i.get(&all)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sharded, listed, healed, after) = runtime.block_on(async {
            let mut trial = Trial::new();
            let ran = list(&mut trial, &ids, &poison, shards).await;
            let listed = trial.listed().await;
            let healed = list(&mut trial, &ids, &BTreeSet::new(), shards).await;
            (ran, listed, healed, trial.listed().await)
        });
        prop_assert_eq!(sharded.outcome() == "complete", poison.is_empty());
        prop_assert_eq!(&listed, &ids.difference(&poison).copied().collect());
        prop_assert_eq!(healed.outcome(), "complete", "{}", healed.reasons());
        prop_assert_eq!(&after, &ids);
        // The search for what fails may look behind the last one.
        let (state, last) = (healed.report.state["last_seen_id"].as_u64().unwrap(), all.last().copied().unwrap_or(0));
        prop_assert!(if poison.is_empty() { state == last } else { state >= last }, "{} for {}", state, last);
    }
}
