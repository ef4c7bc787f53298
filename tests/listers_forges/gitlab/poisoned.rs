//! A GitLab of which some projects make every page with them fail.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lamplighter::lister::Source;
use lamplighter::transport::Request;

use super::*;
use crate::trial::{Ran, Trial, said};

/// Answers as GitLab does; without `well`, nothing at all from an id on.
pub(super) fn serve(
    ids: &BTreeSet<u64>,
    poison: &BTreeSet<u64>,
    down: Option<u64>,
    request: &Request,
) -> Response {
    let of = |name: &str| query(request).get(name).and_then(|v| v.parse::<u64>().ok());
    let (first, before) = (of("id_after").unwrap_or(0) + 1, of("id_before").unwrap_or(u64::MAX));
    let size = usize::try_from(of("per_page").unwrap()).unwrap();
    // None of them was active lately.
    if first >= before || query(request).contains_key("last_activity_after") {
        return said(request, 200, &json!([]));
    }
    let of_these = ids.range(first..before).copied();
    let page: Vec<u64> = if query(request)["sort"] == "desc" {
        of_these.rev().take(size).collect()
    } else {
        of_these.take(size).collect()
    };
    if page.iter().any(|id| poison.contains(id)) || down.is_some_and(|down| first > down) {
        return said(request, 500, &Value::Null);
    }
    let entries: Vec<Value> = page.iter().map(|id| project(*id)).collect();
    let response = said(request, 200, &Value::from(entries));
    match page.last() {
        Some(last) if page.len() == size => linked(response, &format!("{LIST}?id_after={last}")),
        _ => response,
    }
}

async fn list_all(
    trial: &mut Trial,
    ids: &BTreeSet<u64>,
    poison: &BTreeSet<u64>,
    down: Option<u64>,
    full: bool,
) -> Ran {
    let (ids, poison) = (ids.clone(), poison.clone());
    let source = Arc::new(Source::incremental(gitlab()));
    trial.run(source, full, move |r| serve(&ids, &poison, down, r)).await
}

fn only(id: u64) -> Value {
    json!({ "after": id - 1, "hunt": { "window": { "before": id + 1, "fails": true } } })
}

#[tokio::test]
async fn gitlab_a_poisoned_project_costs_only_itself() {
    let ids: BTreeSet<u64> = (1..=450).collect();
    for bad in [1, 100, 101, 137, 450] {
        let poison = BTreeSet::from([bad]);
        let mut trial = Trial::new();
        let ran = list_all(&mut trial, &ids, &poison, None, false).await;
        assert_eq!(ran.outcome(), "partial");
        let expected: BTreeSet<u64> = ids.difference(&poison).copied().collect();
        assert_eq!(trial.listed().await, expected, "{bad}");
        assert_eq!(ran.gaps(), [only(bad)], "{bad}");
        assert!(ran.reasons().contains(&format!("id {bad} ")), "{}", ran.reasons());
        // The first failure, seven halves, the one behind, the id alone; a page more or less.
        assert!(ran.asked.len() <= 5 + 1 + 7 + 1 + 1 + 1, "{bad}: {:#?}", ran.asked);

        // While it lasts, a later run asks for that project, and for what is new and active.
        let later = list_all(&mut trial, &ids, &poison, None, false).await;
        assert_eq!(later.gaps(), [only(bad)]);
        let about: Vec<bool> = later.asked.iter().map(|url| url.contains("last_activity_after")).collect();
        assert_eq!(about.iter().filter(|active| !**active).count(), 2, "{bad}: {:#?}", later.asked);
        let healed = list_all(&mut trial, &ids, &BTreeSet::new(), None, false).await;
        assert_eq!((healed.outcome(), healed.gaps().len()), ("complete", 0), "{}", healed.reasons());
        assert_eq!(trial.listed().await, ids);
    }
}

#[tokio::test]
async fn gitlab_a_poison_among_hidden_projects_is_found() {
    // One in forty is to be seen.
    let ids: BTreeSet<u64> = (1..=300).map(|n| n * 40).collect();
    let poison = BTreeSet::from([40 * 150]);
    let mut trial = Trial::new();
    let ran = list_all(&mut trial, &ids, &poison, None, false).await;
    assert_eq!(trial.listed().await.len(), 299);
    assert_eq!(ran.gaps(), [only(6000)]);
    assert!(ran.asked.len() <= 4 + 1 + 7 + 4 + 14, "{:#?}", ran.asked);
}

#[tokio::test]
async fn gitlab_poisons_in_both_halves_are_found() {
    // The search for 46 jumps over 58 and 74 to 105; what is between is halved, and both halves fail.
    let ids: BTreeSet<u64> = (1..=41).chain([46, 50, 55]).chain(58..=67).chain([71]).chain(74..=80).collect();
    let poison = BTreeSet::from([46, 58, 74]);
    let mut trial = Trial::new();
    let ran = list_all(&mut trial, &ids, &poison, None, false).await;
    assert_eq!(trial.listed().await, ids.difference(&poison).copied().collect());
    let holes: BTreeSet<u64> = ran.gaps().iter().map(|g| g["after"].as_u64().unwrap() + 1).collect();
    assert_eq!(holes, poison);
}

#[tokio::test]
async fn gitlab_an_outage_is_one_gap() {
    let ids: BTreeSet<u64> = (1..=450).collect();
    let mut trial = Trial::new();
    let ran = list_all(&mut trial, &ids, &BTreeSet::new(), Some(200), false).await;
    assert_eq!((ran.outcome(), ran.gaps().len()), ("partial", 1), "{}", ran.reasons());
    assert_eq!(trial.listed().await.len(), 200);
    assert_eq!(ran.asked.len(), 2 + 12, "{:#?}", ran.asked);
    assert!(ran.reasons().contains("id 200"), "{}", ran.reasons());
    // It lasts, and is over: all is there, and nothing is taken for a loop.
    let lasts = list_all(&mut trial, &ids, &BTreeSet::new(), Some(200), false).await;
    assert_eq!(lasts.gaps().len(), 1, "{}", lasts.reasons());
    let healed = list_all(&mut trial, &ids, &BTreeSet::new(), None, false).await;
    assert_eq!(healed.outcome(), "complete", "{}", healed.reasons());
    assert_eq!(trial.listed().await, ids);
}

#[tokio::test]
async fn gitlab_a_failure_that_no_project_makes_is_not_searched_for() {
    let ids: BTreeSet<u64> = (1..=450).collect();
    let fails = AtomicBool::new(true);
    let source = Arc::new(Source::incremental(gitlab()));
    let served = ids.clone();
    let ran = Trial::new()
        .run(source, false, move |r| {
            if query(r).contains_key("id_after") && fails.load(Ordering::SeqCst) {
                return said(r, 502, &Value::Null);
            }
            serve(&served, &BTreeSet::new(), None, r)
        })
        .await;
    assert_eq!((ran.asked.len(), ran.gaps()), (2, vec![json!({ "after": 100 })]));
}

fn few() -> ProptestConfig {
    ProptestConfig::with_cases(64)
}

proptest! {
    #![proptest_config(few())]

    /// Whichever ids there are, and whichever of them fail: all others are listed, and the gaps
    /// cover those that fail.
    #[test]
    fn gitlab_poisons_anywhere_cost_only_themselves(
        steps in prop::collection::vec(1_u64..6, 20..260),
        bad in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let ids: BTreeSet<u64> = steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
        let all: Vec<u64> = ids.iter().copied().collect();
        let poison: BTreeSet<u64> = bad.iter().map(|i| *i.get(&all)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (listed, gaps, asked, healed, after) = runtime.block_on(async {
            let mut trial = Trial::new();
            let ran = list_all(&mut trial, &ids, &poison, None, false).await;
            let listed = trial.listed().await;
            let healed = list_all(&mut trial, &ids, &BTreeSet::new(), None, false).await;
            (listed, ran.gaps(), ran.asked.len(), healed.outcome().to_owned(), trial.listed().await)
        });
        let expected: BTreeSet<u64> = ids.difference(&poison).copied().collect();
        prop_assert_eq!(listed, expected);
        let holes: BTreeSet<u64> = gaps.iter().map(|g| g["after"].as_u64().unwrap() + 1).collect();
        prop_assert_eq!(holes, poison.clone());
        prop_assert!(asked <= ids.len() / 100 + 2 + 30 * poison.len(), "{} requests", asked);
        prop_assert_eq!(healed.as_str(), "complete");
        prop_assert_eq!(after, ids);
    }
}
