//! A Gitea of which some repositories make every page with them fail.

use std::collections::BTreeSet;
use std::sync::Arc;

use lamplighter::lister::Source;
use lamplighter::transport::Request;

use super::*;
use crate::trial::{Ran, Trial, said};

/// What the forge has: as many repositories, all updated long ago, those that fail, the most it
/// gives a page, and from which on it is down.
#[derive(Clone)]
struct Forge {
    count: u64,
    poison: BTreeSet<u64>,
    most: u64,
    down: u64,
}

impl Forge {
    fn of(count: u64, poison: &[u64]) -> Self {
        Self { count, poison: poison.iter().copied().collect(), most: 50, down: u64::MAX }
    }

    fn serve(&self, request: &Request) -> Response {
        let asked = query(request);
        let number = |name: &str| asked[name].parse::<u64>().unwrap();
        let (page, limit) = (number("page"), number("limit").min(self.most));
        let first = (page - 1) * limit;
        let places = first..(first + limit).min(self.count);
        let ids: Vec<u64> = match asked["order"].as_str() {
            "asc" => places.map(|n| n + 1).collect(),
            _ => places.map(|n| self.count - n).collect(),
        };
        if first >= self.down || ids.iter().any(|id| self.poison.contains(id)) {
            return said(request, 500, &Value::Null);
        }
        let data: Vec<Value> = ids.iter().map(|id| repository(*id)).collect();
        let response = said(request, 200, &json!({ "ok": true, "data": data }));
        let response = response.with_header("x-total-count", &self.count.to_string());
        if first + limit >= self.count {
            return response.with_header("link", &format!("<{LIST}?page=1>; rel=\"first\""));
        }
        linked(response, &format!("limit={}&page={}", number("limit"), page + 1))
    }
}

async fn list_all(trial: &mut Trial, forge: &Forge, size: u64) -> Ran {
    let forge = forge.clone();
    let source = Arc::new(Source::incremental(gitea().with_page_size(size)));
    trial.run(source, false, move |r| forge.serve(r)).await
}

/// The ids of the gaps of single repositories.
fn alone(gaps: &[Value]) -> BTreeSet<u64> {
    let place = |gap: &Value| (gap["piece"]["alone"] == json!(true)).then(|| gap["piece"]["offset"].as_u64());
    gaps.iter().map(|gap| place(gap).flatten().unwrap_or_else(|| panic!("{gap}")) + 1).collect()
}

#[tokio::test]
async fn gitea_a_poisoned_repository_costs_only_itself() {
    let everything: BTreeSet<u64> = (1..=230).collect();
    for bad in [1, 50, 51, 88, 100, 230] {
        let forge = Forge::of(230, &[bad]);
        let mut trial = Trial::new();
        let ran = list_all(&mut trial, &forge, 50).await;
        assert_eq!(ran.outcome(), "partial", "{bad}");
        let mut expected = everything.clone();
        expected.remove(&bad);
        assert_eq!(trial.listed().await, expected, "{bad}");
        assert_eq!(alone(&ran.gaps()), BTreeSet::from([bad]), "{}", ran.reasons());
        assert!(ran.reasons().contains(&format!("place {bad} ")), "{}", ran.reasons());
        assert!(ran.asked.len() <= 5 + 17, "{bad}: {} {:#?}", ran.asked.len(), ran.asked);

        let healed = list_all(&mut trial, &Forge::of(230, &[]), 50).await;
        assert_eq!((healed.outcome(), healed.gaps().len()), ("complete", 0), "{}", healed.reasons());
        assert_eq!(trial.listed().await, everything);
        // The newest, the latest, the gap. Without the last one nothing says what the greatest id
        // is, and everything is listed once more.
        let most = if bad == 230 { 6 } else { 3 };
        assert!(healed.asked.len() <= most, "{:#?}", healed.asked);
    }
}

#[tokio::test]
async fn gitea_a_poison_is_searched_for_without_asking_for_what_is_known() {
    let ran = list_all(&mut Trial::new(), &Forge::of(230, &[88]), 50).await;
    let asked = |url: &String| {
        let url = super::url(url.strip_prefix("GET ").unwrap());
        let number = |name| lamplighter::lister::query_param(&url, name).unwrap().parse::<u64>().unwrap();
        let (limit, page) = (number("limit"), number("page"));
        ((page - 1) * limit, limit)
    };
    let mut asked: Vec<(u64, u64)> = ran.asked.iter().map(asked).collect();
    asked.sort_unstable();
    // Place 88 is at offset 87. That the upper half of the second page fails is known when the lower one
    // was read.
    let mut expected =
        vec![(0, 50), (50, 50), (50, 25), (75, 5), (80, 5), (85, 5), (85, 1), (86, 1), (87, 1)];
    // Behind it; then it alone, once more.
    expected.extend([(88, 1), (87, 1), (89, 1), (90, 5), (95, 5), (100, 50), (150, 50), (200, 50)]);
    expected.sort_unstable();
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn gitea_a_poison_is_found_where_the_forge_gives_less_than_it_is_asked_for() {
    let mut forge = Forge::of(230, &[88]);
    forge.most = 30;
    let mut trial = Trial::new();
    let ran = list_all(&mut trial, &forge, 100).await;
    assert_eq!(trial.listed().await.len(), 229);
    assert_eq!(alone(&ran.gaps()), BTreeSet::from([88]), "{}", ran.reasons());
}

#[tokio::test]
async fn gitea_an_outage_is_one_gap() {
    let mut forge = Forge::of(230, &[]);
    forge.down = 100;
    let mut trial = Trial::new();
    let ran = list_all(&mut trial, &forge, 50).await;
    assert_eq!(ran.outcome(), "partial");
    assert_eq!(trial.listed().await.len(), 100);
    // Two pages; then the third, three smaller ones, the one behind, the third again.
    assert_eq!(ran.asked.len(), 2 + 6, "{:#?}", ran.asked);
    let gaps = [json!({ "page": 3, "walk": "all", "past": true })];
    assert_eq!(ran.gaps(), gaps);
    let lasts = list_all(&mut trial, &forge, 50).await;
    assert_eq!(lasts.gaps(), gaps, "{}", lasts.reasons());
    let healed = list_all(&mut trial, &Forge::of(230, &[]), 50).await;
    assert_eq!(healed.outcome(), "complete", "{}", healed.reasons());
    assert_eq!(trial.listed().await.len(), 230);
}

fn few() -> ProptestConfig {
    ProptestConfig::with_cases(64)
}

proptest! {
    #![proptest_config(few())]

    /// However many there are, whatever the size of a page, whichever fail with a healthy one
    /// between them: all others are listed.
    #[test]
    fn gitea_poisons_anywhere_cost_only_themselves(
        count in 1_u64..200,
        size in 1_u64..61,
        most in 5_u64..60,
        bad in prop::collection::btree_set(0_u64..66, 0..4),
    ) {
        let poison: Vec<u64> = bad.iter().map(|n| n * 3 + 1).filter(|id| *id <= count).collect();
        let forge = Forge { most, ..Forge::of(count, &poison) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (listed, ran, healed, after) = runtime.block_on(async {
            let mut trial = Trial::new();
            let ran = list_all(&mut trial, &forge, size).await;
            let listed = trial.listed().await;
            let healed = list_all(&mut trial, &Forge { most, ..Forge::of(count, &[]) }, size).await;
            (listed, ran, healed, trial.listed().await)
        });
        // Where even the first page fails, nothing says how many a page holds.
        prop_assume!(size <= most || poison.first().is_none_or(|id| *id > most));
        let mut expected: BTreeSet<u64> = (1..=count).collect();
        for id in &poison {
            expected.remove(id);
        }
        prop_assert_eq!(listed, expected, "{}", ran.reasons());
        prop_assert_eq!(alone(&ran.gaps()), poison.iter().copied().collect::<BTreeSet<u64>>());
        prop_assert_eq!(healed.outcome(), "complete", "{}", healed.reasons());
        prop_assert_eq!(after, (1..=count).collect::<BTreeSet<u64>>());
    }
}
