//! A GitHub of which some repositories make every page with them fail.

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter::lister::Source;
use lamplighter::transport::Request;

use super::*;
use crate::trial::{Ran, Trial, said};

/// What the forge is like.
#[derive(Clone, Default)]
pub(super) struct Forge {
    pub(super) ids: BTreeSet<u64>,
    pub(super) poison: BTreeSet<u64>,
    /// Nothing can be read after this id.
    down: Option<u64>,
    /// Pages have this size, whatever is wished for.
    size: Option<usize>,
}

impl Forge {
    pub(super) fn of(ids: impl IntoIterator<Item = u64>, poison: impl IntoIterator<Item = u64>) -> Self {
        Self { ids: ids.into_iter().collect(), poison: poison.into_iter().collect(), ..Self::default() }
    }

    pub(super) fn healed(&self) -> Self {
        Self { poison: BTreeSet::new(), down: None, ..self.clone() }
    }

    pub(super) fn answer(&self, request: &Request) -> Response {
        let of = |name: &str| query(request)[name].parse::<u64>().unwrap();
        let size = self.size.unwrap_or(usize::try_from(of("per_page")).unwrap());
        let after = of("since") + 1;
        let page: Vec<u64> = self.ids.range(after..).copied().take(size).collect();
        if page.iter().any(|id| self.poison.contains(id)) || self.down.is_some_and(|down| after > down) {
            return said(request, 500, &Value::Null);
        }
        let entries: Vec<Value> = page.iter().map(|id| repository(*id)).collect();
        let response = said(request, 200, &Value::from(entries));
        match page.last() {
            Some(last) if self.ids.last() > Some(last) => {
                response.with_header("link", &format!("<{LIST}?since={last}>; rel=\"next\""))
            }
            _ => response,
        }
    }
}

async fn list_all(trial: &mut Trial, forge: &Forge, full: bool) -> Ran {
    let forge = forge.clone();
    trial.run(Arc::new(Source::incremental(github())), full, move |r| forge.answer(r)).await
}

/// A gap of the ids from one to another.
fn hole(from: u64, to: u64) -> Value {
    json!({ "since": from - 1, "search": { "hole": to } })
}

#[tokio::test]
async fn github_a_poisoned_repository_costs_only_itself() {
    for bad in [1, 2, 50, 100, 101, 137, 200, 449, 450] {
        let forge = Forge::of(1..=450, [bad]);
        let mut trial = Trial::new();
        let ran = list_all(&mut trial, &forge, false).await;
        assert_eq!(ran.outcome(), "partial");
        assert_eq!(trial.listed().await, forge.ids.difference(&forge.poison).copied().collect(), "{bad}");
        assert_eq!(ran.gaps(), [hole(bad, bad)], "{bad}");
        assert!(ran.reasons().contains(&format!("the repository with id {bad} makes")), "{}", ran.reasons());
        // Five pages; the first failure, seven halves, the one behind, the id alone; a page more.
        assert!(ran.asked.len() <= 5 + 1 + 7 + 1 + 1 + 1, "{bad}: {:#?}", ran.asked);

        // While it lasts, a later run asks for that repository, and for what is new.
        let later = list_all(&mut trial, &forge, false).await;
        assert_eq!((later.gaps(), later.asked.len()), (vec![hole(bad, bad)], 2), "{:#?}", later.asked);
        let healed = list_all(&mut trial, &forge.healed(), false).await;
        assert_eq!((healed.outcome(), healed.gaps().len()), ("complete", 0), "{}", healed.reasons());
        assert_eq!(trial.listed().await, forge.ids);
    }
}

#[tokio::test]
async fn github_a_poison_among_private_repositories_is_found() {
    // One in forty is public.
    let forge = Forge::of((1..=300).map(|n| n * 40), [40 * 150]);
    let mut trial = Trial::new();
    let ran = list_all(&mut trial, &forge, false).await;
    assert_eq!(trial.listed().await.len(), 299);
    assert_eq!(ran.gaps(), [hole(5961, 6000)]);
    assert!(ran.asked.len() <= 4 + 1 + 7 + 4 + 6 + 1, "{:#?}", ran.asked);
}

/// A forge that makes its pages as large as it likes can be read behind what fails, and not before it.
#[tokio::test]
async fn github_pages_that_stay_large_lose_nothing_silently() {
    let forge = Forge { size: Some(100), ..Forge::of(1..=450, [150]) };
    let mut trial = Trial::new();
    let ran = list_all(&mut trial, &forge, false).await;
    assert_eq!(trial.listed().await, (1..=100).chain(151..=450).collect());
    assert_eq!(ran.gaps(), [hole(101, 150)]);
    assert!(ran.reasons().contains("an id from 101 to 150"), "{}", ran.reasons());
    assert_eq!(list_all(&mut trial, &forge.healed(), false).await.outcome(), "complete");
    assert_eq!(trial.listed().await, forge.ids);
}

#[tokio::test]
async fn github_an_outage_is_one_gap() {
    let forge = Forge { down: Some(200), ..Forge::of(1..=450, []) };
    let mut trial = Trial::new();
    let ran = list_all(&mut trial, &forge, false).await;
    assert_eq!((ran.outcome(), ran.gaps().len()), ("partial", 1), "{}", ran.reasons());
    assert_eq!(trial.listed().await, (1..=200).collect());
    assert_eq!(ran.asked.len(), 2 + 12, "{:#?}", ran.asked);
    assert!(ran.reasons().contains("what is after id 200"), "{}", ran.reasons());
    // It lasts, and is over: all is there, and nothing is taken for a loop.
    let lasts = list_all(&mut trial, &forge, false).await;
    assert_eq!(lasts.gaps().len(), 1, "{}", lasts.reasons());
    let healed = list_all(&mut trial, &forge.healed(), false).await;
    assert_eq!(healed.outcome(), "complete", "{}", healed.reasons());
    assert_eq!(trial.listed().await, forge.ids);
    // Another failure than the one that a record makes is not searched for.
    let limited = |r: &Request| said(r, 503, &Value::Null);
    let ran = Trial::new().run(Arc::new(Source::incremental(github())), true, limited).await;
    assert_eq!((ran.asked.len(), ran.gaps()), (1, vec![json!({ "since": 0 })]));
}

/// A search is not behind what was searched for before: it marks nothing.
#[test]
fn github_a_search_behind_a_search_begins_anew() {
    let behind: GitHubCursor = serde_json::from_value(json!({ "since": 10, "behind": true })).unwrap();
    let failed = Failure::new(FailureKind::Status(StatusCode::INTERNAL_SERVER_ERROR), "500");
    let followed = github().recover(&behind, &failed).follow;
    assert_eq!(
        serde_json::to_value(followed).unwrap(),
        json!([{ "since": 10, "search": { "within": 100 } }])
    );
}

#[tokio::test]
async fn github_a_range_is_searched_within() {
    let forge = Forge::of(1..=450, [300]);
    let source = Source::incremental(github().with_range(Some(150), Some(300)));
    let mut trial = Trial::new();
    let served = forge.clone();
    let ran = trial.run(Arc::new(source), false, move |r| served.answer(r)).await;
    assert_eq!(trial.listed().await, (151..=299).chain([301]).collect(), "and the one that showed the way");
    assert_eq!(ran.gaps(), [json!({ "since": 299, "last": 300, "search": { "hole": 300 } })]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whichever ids there are, and whichever of them fail: what is not listed is under a gap, and what
    /// is behind all of them is listed.
    #[test]
    fn github_poisons_anywhere_cost_only_themselves(
        steps in prop::collection::vec(1_u64..6, 20..260),
        bad in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let ids: BTreeSet<u64> = steps.iter().scan(0, |at, step| { *at += step; Some(*at) }).collect();
        let all: Vec<u64> = ids.iter().copied().collect();
        let forge = Forge::of(ids.clone(), bad.iter().map(|i| *i.get(&all)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (listed, gaps, asked, healed, after) = runtime.block_on(async {
            let mut trial = Trial::new();
            let ran = list_all(&mut trial, &forge, false).await;
            let listed = trial.listed().await;
            let healed = list_all(&mut trial, &forge.healed(), false).await;
            (listed, ran.gaps(), ran.asked.len(), healed.outcome().to_owned(), trial.listed().await)
        });
        let holes: Vec<(u64, u64)> = gaps
            .iter()
            .map(|g| (g["since"].as_u64().unwrap(), g["search"]["hole"].as_u64().unwrap()))
            .collect();
        let under = |id: &u64| holes.iter().any(|(since, up_to)| (since + 1..=*up_to).contains(id));
        prop_assert!(holes.len() <= forge.poison.len());
        prop_assert!(forge.poison.iter().all(under));
        prop_assert!(ids.difference(&listed).all(under), "{:?} of {:?}", ids.difference(&listed), holes);
        // A gap is wide only where several fail close to each other.
        if forge.poison.len() == 1 {
            prop_assert_eq!(listed.len(), ids.len() - 1);
        }
        prop_assert!(asked <= ids.len() / 100 + 2 + 22 * forge.poison.len(), "{} requests", asked);
        prop_assert_eq!(healed.as_str(), "complete");
        prop_assert_eq!(after, ids);
    }
}
