//! A listing of GitHub in shards.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use lamplighter::driver::RunOptions;
use lamplighter::lister::Source;

use super::poisoned::Forge;
use super::*;
use crate::trial::{Ran, Trial, said};

async fn list(trial: &mut Trial, forge: &Forge, shards: u32) -> Ran {
    let forge = forge.clone();
    let options = RunOptions::default().with_shards(NonZeroU32::new(shards));
    trial.run_with(Arc::new(Source::incremental(github())), options, move |r| forge.answer(r)).await
}

#[tokio::test]
async fn github_shards_are_equal_ranges() {
    let forge = Forge::of(1..=20_000, []);
    let mut trial = Trial::new();
    let ran = list(&mut trial, &forge, 4).await;
    assert_eq!(ran.outcome(), "complete");
    assert_eq!(trial.listed().await, forge.ids);
    assert_eq!(serde_json::to_value(&ran.report.state).unwrap(), json!({ "last_seen_id": 20_000 }));
    // What one chain asks for, one beyond each end, and the search: for the greatest id.
    assert!((200..=200 + 4 + 8).contains(&ran.asked.len()), "{}", ran.asked.len());
    let chains = ran.asked.iter().filter(|asked| asked.contains("since=0&")).count();
    assert_eq!(chains, 1);

    // What is new is one chain again.
    let more = Forge::of(1..=20_050, []);
    assert_eq!(list(&mut trial, &more, 4).await.asked.len(), 1);
    assert_eq!(trial.listed().await, more.ids);
}

/// What answers no search is asked for by one chain, which says itself what fails.
#[tokio::test]
async fn github_a_failed_search_for_the_greatest_id_loses_nothing() {
    for searched in 0..4 {
        let forge = Forge::of(1..=9_000, []);
        let mut trial = Trial::new();
        let source = Arc::new(Source::incremental(github()));
        let options = RunOptions::default().with_shards(NonZeroU32::new(3));
        let (served, asked) = (forge.clone(), std::sync::atomic::AtomicU32::new(0));
        let ran = trial
            .run_with(source, options, move |r| {
                if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == searched {
                    return said(r, 500, &Value::Null);
                }
                served.answer(r)
            })
            .await;
        assert_eq!((ran.outcome(), ran.gaps().len()), ("complete", 0), "{searched}");
        assert_eq!(trial.listed().await, forge.ids, "{searched}");
    }
}

/// A search that is at `since` reads an answer: what is asked for next, and what is remembered.
fn searched(since: u64, split: &Value, ids: &[Option<u64>], more: bool) -> (Value, Vec<Value>) {
    let at = serde_json::from_value(json!({ "since": since, "split": split })).unwrap();
    let entries: Vec<Value> = ids.iter().map(|id| id.map_or(Value::Null, repository)).collect();
    let response = github_answer(&entries.into());
    let next = format!("<{LIST}?since=7>; rel=\"next\"");
    let response = if more { response.with_header("link", &next) } else { response };
    let batch = read(&github(), &at, response).unwrap();
    assert!(batch.origins.is_empty() && batch.skips.is_empty(), "they are listed by the shards");
    (batch.follows.iter().map(|follow| follow.cursor.clone()).collect(), batch.marks)
}

#[test]
fn github_looks_for_the_greatest_id() {
    let start = github().start_in_shards(&run(Mode::Full), NonZeroU32::new(4).unwrap()).unwrap();
    assert_eq!(
        serde_json::to_value(&start).unwrap(),
        json!([{ "since": 1024, "split": { "shards": 4, "seen": 0 } }])
    );
    let (seen, none) = (|seen: u64| json!({ "shards": 4, "seen": seen }), Vec::<Value>::new());
    // More is behind: four times as far as what was seen, or tried.
    let farther = |since: u64, seen: u64| json!([{ "since": since, "split": { "shards": 4, "seen": seen } }]);
    assert_eq!(
        searched(1024, &seen(0), &[Some(1030), None, Some(1124)], true),
        (farther(4496, 1124), none.clone())
    );
    assert_eq!(searched(4496, &seen(1124), &[Some(4400)], true), (farther(17_984, 4400), none.clone()));
    // Nothing is behind: halfway back to what was seen.
    let half = json!([{ "since": 512, "split": { "shards": 4, "seen": 0, "empty": 1024 } }]);
    assert_eq!(searched(1024, &seen(0), &[], false), (half, none.clone()));
    // The greatest itself; what is remembered is what was seen.
    let marked = |id: u64| vec![json!({ "last_seen_id": id })];
    let shards = |ends: &[u64]| {
        let mut cursors: Vec<Value> =
            ends.windows(2).map(|pair| json!({ "since": pair[0], "last": pair[1] })).collect();
        cursors.push(json!({ "since": ends.last() }));
        Value::from(cursors)
    };
    let four = shards(&[0, 263, 526, 789]);
    assert_eq!(searched(1024, &seen(0), &[Some(1050)], false), (four.clone(), marked(1050)));
    assert_eq!(
        searched(1024, &seen(1050), &[Some(1040)], false),
        (four, marked(1050)),
        "the greatest of both"
    );
    // None has less than a page.
    assert_eq!(searched(200, &seen(150), &[], false), (shards(&[0, 100]), marked(150)));
    // Half a shard is near enough, and less than that is not looked for.
    let two = |empty: u64| json!({ "shards": 2, "seen": 10_000, "empty": empty });
    assert_eq!(searched(12_500, &two(30_000), &[], false), (shards(&[0, 5000]), marked(10_000)));
    let next = json!([{ "since": 11_250, "split": { "shards": 2, "seen": 10_000, "empty": 12_501 } }]);
    assert_eq!(searched(12_501, &two(30_000), &[], false), (next, none.clone()));
    // What tells nothing ends the search, and nothing is remembered that was not seen.
    for (ids, more) in [(&[][..], true), (&[None], false), (&[None], true)] {
        assert_eq!(searched(1024, &seen(900), ids, more), (shards(&[0, 225, 450, 675]), marked(900)));
        assert_eq!(searched(1024, &seen(0), ids, more), (shards(&[0]), none.clone()));
    }
    // There is an end to all numbers.
    let (cursors, marks) = searched(u64::MAX, &seen(9), &[Some(u64::MAX)], true);
    assert_eq!((cursors.as_array().map(Vec::len), marks), (Some(4), marked(u64::MAX)));
}

#[test]
fn github_ranges_and_scopes_have_no_shards() {
    let two = NonZeroU32::new(2).unwrap();
    let info = run(Mode::Full);
    assert!(github().start_in_shards(&info, two).is_some());
    assert!(github().with_range(Some(1), None).start_in_shards(&info, two).is_none());
    assert!(github().with_user("octocat").start_in_shards(&info, two).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whichever ids there are, whichever of them fail, in however many shards: the same origins, the
    /// same state, and what is not listed is under a gap.
    #[test]
    fn github_shards_list_what_a_chain_lists(
        steps in prop::collection::vec(1_u64..6, 0..500),
        bad in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        shards in 1_u32..40,
    ) {
        let ids: BTreeSet<u64> = steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
        let all: Vec<u64> = ids.iter().copied().collect();
        let poison = bad.iter().filter(|_| !all.is_empty()).map(|i| *i.get(&all));
        let forge = Forge::of(ids.clone(), poison);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sharded, listed, healed, after) = runtime.block_on(async {
            let mut trial = Trial::new();
            let ran = list(&mut trial, &forge, shards).await;
            let listed = trial.listed().await;
            let healed = list(&mut trial, &forge.healed(), shards).await;
            (ran, listed, healed, trial.listed().await)
        });
        prop_assert_eq!(sharded.outcome() == "complete", forge.poison.is_empty());
        prop_assert_eq!(&listed, &ids.difference(&forge.poison).copied().collect());
        prop_assert_eq!(healed.outcome(), "complete");
        prop_assert_eq!(&after, &ids);
        let last = all.last().map(|id| json!({ "last_seen_id": id }));
        prop_assert_eq!(serde_json::to_value(&healed.report.state).unwrap(), last.unwrap_or(json!({})));
        // The search; and each shard has a page that is not full, and shows again what it is in.
        let most = ids.len() / 100 + 2 * shards as usize + 16 + 60 * forge.poison.len();
        prop_assert!(sharded.asked.len() <= most, "{} requests of {}", sharded.asked.len(), most);
    }
}
