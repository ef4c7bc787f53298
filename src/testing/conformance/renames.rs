//! Generated renames, transfers and reused names.

use std::collections::BTreeMap;
use std::future::Future;

use super::claims::outcome;
use super::identity::named;
use super::kit::{Drive, all, at, key, plan, said, url};
use super::model::Dice;
use crate::backend::{Claim, SchedulerBackend};
use crate::model::{OriginKey, Timestamp, VisitStatus, VisitType};

/// What the script knows of an id.
#[derive(Debug, Clone, Default)]
struct Scripted {
    /// Its name now; none while it does not exist.
    name: Option<String>,
    listed_as: Option<String>,
    /// Under which names it was listed, in order.
    names: Vec<String>,
    first_seen: Option<Timestamp>,
    live: bool,
    visits: u64,
}

/// So many random renames, transfers, reused names, exchanges and returns, and deletions besides, between
/// complete listings in random order, with visits between them: one origin and one history for each id, and every
/// former URL answered by the one that bore it last. What is expected comes from the script alone. A
/// failure names the seed.
pub async fn renames<B, Fut>(make: impl Fn() -> Fut, seed: u64, changes: usize)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    let store = &make().await;
    let mut dice = Dice(seed);
    let mut forge: BTreeMap<u64, Scripted> = BTreeMap::new();
    let mut bore_last: BTreeMap<String, u64> = BTreeMap::new();
    let mut created = 0;
    let population = 10 + changes / 40;
    for round in 0.. {
        // More than the minimum interval apart.
        let now = at(24 * round);
        while forge.values().filter(|s| s.name.is_some()).count() < population {
            let id = forge.len() as u64 + 1;
            let name = free_name(&forge, &mut dice);
            forge.insert(id, Scripted { name: Some(name), ..Scripted::default() });
        }
        if round > 0 {
            for _ in 0..=dice.roll(1 + population as u64 / 3) {
                created += usize::from(change(&mut forge, &mut dice));
            }
        }
        publish(store, &mut forge, &mut bore_last, &mut dice, now).await;
        // What went wrong stays wrong: a long script is not compared after each round.
        let done = created >= changes;
        if done || usize::try_from(round).unwrap() % (1 + changes / 500) == 0 {
            check(store, &forge, &bore_last, &format!("SEED={seed} round {round}")).await;
        }
        if done {
            return;
        }
        visit_some(store, &mut forge, &mut dice, now).await;
    }
}

fn free_name(forge: &BTreeMap<u64, Scripted>, dice: &mut Dice) -> String {
    let names = 40 + 4 * forge.len() as u64;
    loop {
        // Few owners, so that a transfer to another one is as likely as a rename.
        let name = format!("owner{}/r{}", dice.roll(4), dice.roll(names) / 4);
        if forge.values().all(|s| s.name.as_ref() != Some(&name)) {
            return name;
        }
    }
}

/// One change on the forge. False where it renames nothing: a deletion.
fn change(forge: &mut BTreeMap<u64, Scripted>, dice: &mut Dice) -> bool {
    let mut pick = |forge: &BTreeMap<u64, Scripted>, there: bool| {
        let of: Vec<u64> =
            forge.iter().filter(|(_, s)| s.name.is_some() == there).map(|(id, _)| *id).collect();
        (!of.is_empty()).then(|| of[usize::try_from(dice.roll(of.len() as u64)).unwrap()])
    };
    let (some, other, away) = (pick(forge, true).unwrap(), pick(forge, true).unwrap(), pick(forge, false));
    let new = forge.len() as u64 + 1;
    let name = forge[&some].name.clone();
    match dice.roll(8) {
        0..=2 => {
            let name = free_name(forge, dice);
            forge.get_mut(&some).unwrap().name = Some(name);
        }
        // A name is reused: its bearer moves away, or is deleted, and another one is created there.
        3 | 4 => {
            let elsewhere = (dice.roll(2) == 0).then(|| free_name(forge, dice));
            forge.get_mut(&some).unwrap().name = elsewhere;
            forge.insert(new, Scripted { name, ..Scripted::default() });
        }
        5 if some != other => {
            let theirs = forge[&other].name.clone();
            forge.get_mut(&some).unwrap().name = theirs;
            forge.get_mut(&other).unwrap().name = name;
        }
        6 => {
            let Some(away) = away else { return false };
            let name = free_name(forge, dice);
            forge.get_mut(&away).unwrap().name = Some(name);
        }
        _ => {
            forge.get_mut(&some).unwrap().name = None;
            return false;
        }
    }
    true
}

/// A complete listing, its pages in random order.
async fn publish<B: SchedulerBackend>(
    store: &B,
    forge: &mut BTreeMap<u64, Scripted>,
    bore_last: &mut BTreeMap<String, u64>,
    dice: &mut Dice,
    now: Timestamp,
) {
    let mut there: Vec<(u64, String)> =
        forge.iter().filter_map(|(id, s)| Some((*id, s.name.clone()?))).collect();
    for i in (1..there.len()).rev() {
        there.swap(i, usize::try_from(dice.roll(i as u64 + 1)).unwrap());
    }
    let pages: Vec<_> = there.chunks(17).collect();
    let starts: Vec<u64> = (1..=pages.len() as u64).collect();
    let drive = Drive::begin(store, plan(&starts), now).await;
    for (n, page) in (1..).zip(pages) {
        let page = page.iter().fold(said(), |said, (id, name)| said.origin(named(name, *id)));
        drive.read(n, page).await;
    }
    drive.prune().await;
    for (id, scripted) in forge {
        scripted.live = scripted.name.is_some();
        let Some(name) = scripted.name.clone() else { continue };
        scripted.first_seen = scripted.first_seen.or(Some(now));
        if scripted.names.last() != Some(&name) {
            scripted.names.push(name.clone());
        }
        bore_last.insert(name.clone(), *id);
        scripted.listed_as = Some(name);
    }
}

async fn visit_some<B: SchedulerBackend>(
    store: &B,
    forge: &mut BTreeMap<u64, Scripted>,
    dice: &mut Dice,
    now: Timestamp,
) {
    let count = usize::try_from(dice.roll(20)).unwrap();
    let visits = store.claim(&Claim::new(VisitType::git(), count), now).await.unwrap().visits;
    for visit in visits {
        let (id, scripted) = forge
            .iter_mut()
            .find(|(_, s)| s.live && s.listed_as.as_ref().is_some_and(|name| url(name) == visit.url))
            .expect("what is claimed is live");
        scripted.visits += 1;
        let report = outcome(&visit, VisitStatus::Successful, now).with_snapshot(format!("of {id}"));
        store.complete(&[report], now).await.unwrap()[0].clone().unwrap();
    }
}

/// The store and the script say the same.
async fn check<B: SchedulerBackend>(
    store: &B,
    forge: &BTreeMap<u64, Scripted>,
    bore_last: &BTreeMap<String, u64>,
    context: &str,
) {
    let known: BTreeMap<u64, &Scripted> =
        forge.iter().filter(|(_, s)| s.listed_as.is_some()).map(|(id, s)| (*id, s)).collect();
    let listed = all(store).await;
    assert_eq!(listed.len(), known.len(), "{context}: one origin for each id");
    for origin in listed {
        let id: u64 = origin.forge_id.as_deref().unwrap().parse().unwrap();
        let s = known[&id];
        let now = s.listed_as.as_deref().unwrap();
        assert_eq!((origin.url, origin.gone.is_none()), (url(now), s.live), "{context}: {id}");
        assert_eq!(Some(origin.first_seen), s.first_seen, "{context}: {id}");
        let mut former: Vec<String> = Vec::new();
        for name in s.names.iter().filter(|name| *name != now) {
            if !former.contains(&url(name)) {
                former.push(url(name));
            }
        }
        assert_eq!(origin.former_urls, former, "{context}: {id}");
    }
    let names: Vec<&String> = bore_last.keys().collect();
    let asked: Vec<OriginKey> = names.iter().map(|name| key(name)).collect();
    for (name, stats) in names.into_iter().zip(store.stats(&asked).await.unwrap()) {
        let id = bore_last[name];
        let stats = stats.unwrap_or_else(|| panic!("{context}: {name} is answered"));
        let snapshot = (known[&id].visits > 0).then(|| format!("of {id}"));
        assert_eq!((stats.visits, stats.last_snapshot), (known[&id].visits, snapshot), "{context}: {name}");
    }
}
