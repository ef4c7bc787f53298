//! What a feeder claims, and what it does with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lamplighter::backend::{MemoryStore, VisitRequest, VisitStore};
use lamplighter::dispatch::{Ack, Feed, Feeder, FeederOptions};
use lamplighter::model::{OriginKey, VisitType};
use lamplighter::transport::Clock;

use super::doubles::{LEASE, Sink, Stalling, clock, feeder, fill, hg, start, url};

#[tokio::test]
async fn it_claims_as_much_as_there_is_room_for() {
    let (store, clock, sink) = (Arc::new(MemoryStore::new()), clock(), Arc::new(Sink::new(7)));
    fill(&*store, "a.example", VisitType::git(), 20).await;
    let mut feeder = feeder(store.clone(), sink.clone(), &clock, FeederOptions::default());
    assert_eq!(feeder.step(start()).await.unwrap().taken, 7);
    let again = feeder.step(start()).await.unwrap();
    assert_eq!((again.claimed, again.taken), (0, 0), "there is no room");
    let mut taken = Vec::new();
    for _ in 0..3 {
        sink.finish(&*store, start()).await;
        taken.push(feeder.step(start()).await.unwrap().taken);
    }
    assert_eq!(taken, [7, 6, 0]);
    assert!(sink.times().values().all(|n| *n == 1));
    assert_eq!(sink.times().len(), 20);
}

#[tokio::test]
async fn shares_hold_over_steps_of_one_and_what_one_cannot_fill_goes_to_the_others() {
    let (store, clock, sink) = (Arc::new(MemoryStore::new()), clock(), Arc::new(Sink::new(1)));
    fill(&*store, "a.example", VisitType::git(), 100).await;
    fill(&*store, "b.example", hg(), 10).await;
    let feeds = vec![Feed::new(VisitType::git()).with_share(3.0), Feed::new(hg()).with_share(1.0)];
    let mut feeder = Feeder::new(store.clone(), sink.clone(), clock, feeds, FeederOptions::default());
    let mut of_types: Vec<BTreeMap<String, usize>> = Vec::new();
    for round in 0..60 {
        assert_eq!(feeder.step(start()).await.unwrap().taken, 1, "round {round}");
        let visit = sink.held.lock().unwrap()[0].clone();
        if round % 20 == 0 {
            of_types.push(BTreeMap::new());
        }
        *of_types.last_mut().unwrap().entry(visit.visit_type.to_string()).or_default() += 1;
        sink.finish(&*store, start()).await;
    }
    let counts = |n: usize| (of_types[n].get("git").copied(), of_types[n].get("hg").copied());
    assert_eq!(counts(0), (Some(15), Some(5)), "three to one");
    assert_eq!(counts(1), (Some(15), Some(5)));
    assert_eq!(counts(2), (Some(20), None), "there is no hg any more");
}

#[tokio::test]
async fn requested_visits_go_first() {
    let (store, clock, sink) = (Arc::new(MemoryStore::new()), clock(), Arc::new(Sink::new(1)));
    fill(&*store, "a.example", VisitType::git(), 50).await;
    let wanted = OriginKey::new(url("a.example", 37), VisitType::git());
    store.request(&[VisitRequest::new(wanted.clone(), "ann")], start()).await.unwrap();
    feeder(store, sink.clone(), &clock, FeederOptions::default()).step(start()).await.unwrap();
    assert_eq!(sink.sent.lock().unwrap()[0].url, wanted.url);
}

#[tokio::test]
async fn no_host_has_more_than_its_fill_and_the_others_need_not_wait() {
    let (store, clock, sink) = (Arc::new(MemoryStore::new()), clock(), Arc::new(Sink::new(10)));
    fill(&*store, "large.example", VisitType::git(), 30).await;
    fill(&*store, "small.example", VisitType::git(), 5).await;
    let options = FeederOptions::default().with_per_host(2, 100);
    let mut feeder = feeder(store.clone(), sink.clone(), &clock, options);
    let mut rounds = 0;
    while sink.times().len() < 35 {
        feeder.step(clock.now()).await.unwrap();
        sink.finish(&*store, clock.now()).await;
        // What waits is kept alive: it is not claimed a second time.
        clock.advance(LEASE / 3);
        rounds += 1;
        assert!(rounds <= 16, "{:?}", sink.times());
    }
    assert_eq!(sink.most_at_a_host.load(Ordering::SeqCst), 2);
    assert_eq!(rounds, 15, "two of thirty a round");
    assert!(sink.times().values().all(|n| *n == 1), "{:?}", sink.times());
    assert_eq!(feeder.counts().expired, 0);
}

#[tokio::test]
async fn what_waits_for_a_host_is_bounded() {
    let (store, clock, sink) = (Arc::new(MemoryStore::new()), clock(), Arc::new(Sink::new(10)));
    fill(&*store, "large.example", VisitType::git(), 100).await;
    let options = FeederOptions::default().with_per_host(1, 12);
    let mut feeder = feeder(store, sink.clone(), &clock, options);
    for _ in 0..5 {
        feeder.step(start()).await.unwrap();
    }
    let claimed = feeder.counts().claimed;
    assert_eq!(sink.sent.lock().unwrap().len(), 1);
    assert_eq!(claimed, 13, "one is sent, twelve wait");
}

#[tokio::test]
async fn what_is_refused_is_given_back_at_once() {
    let (store, clock) = (Arc::new(MemoryStore::new()), clock());
    fill(&*store, "a.example", VisitType::git(), 4).await;
    let mut sink = Sink::new(4);
    sink.answers =
        Box::new(|v| if v.url.contains("r1") { Ack::Refused("not this one".to_owned()) } else { Ack::Taken });
    let sink = Arc::new(sink);
    let mut first = feeder(store.clone(), sink, &clock, FeederOptions::default());
    let stepped = first.step(start()).await.unwrap();
    assert_eq!((stepped.taken, stepped.refused), (3, 1));
    assert_eq!(first.counts().given_back, 1);
    // Another feeder has it the same moment.
    let other = Arc::new(Sink::new(4));
    feeder(store, other.clone(), &clock, FeederOptions::default()).step(start()).await.unwrap();
    assert_eq!(other.times().into_keys().collect::<Vec<_>>(), [url("a.example", 1)]);
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_again_while_its_lease_lasts_and_takes_a_slot() {
    let (store, clock) = (Arc::new(MemoryStore::new()), clock());
    fill(&*store, "a.example", VisitType::git(), 9).await;
    let mut sink = Sink::new(3);
    sink.answers = Box::new(|_| Ack::Unknown("the connection broke".to_owned()));
    let sink = Arc::new(sink);
    let mut feeder = feeder(store.clone(), sink.clone(), &clock, FeederOptions::default());
    feeder.step(clock.now()).await.unwrap();
    assert_eq!(feeder.counts().unknown, 3);
    clock.advance(LEASE.checked_sub(Duration::from_secs(1)).unwrap());
    feeder.step(clock.now()).await.unwrap();
    assert_eq!(sink.sent.lock().unwrap().len(), 3, "all three slots may be taken");
    clock.advance(Duration::from_secs(1));
    feeder.step(clock.now()).await.unwrap();
    assert_eq!(sink.sent.lock().unwrap().len(), 6, "they are the store's again");
    assert_eq!(feeder.counts().expired, 3);
}

#[tokio::test]
async fn it_sleeps_where_nothing_is_to_be_done_and_gives_back_what_waits_when_it_stops() {
    let (store, clock, sink) = (Arc::new(MemoryStore::new()), clock(), Arc::new(Sink::new(10)));
    fill(&*store, "a.example", VisitType::git(), 5).await;
    let options = FeederOptions::default().with_per_host(2, 100).with_pause(Duration::from_secs(20));
    let mut first = feeder(store.clone(), sink.clone(), &clock, options.clone());
    let stop = first.stop_handle();
    let stopping = async {
        clock.sleep(Duration::from_secs(50)).await;
        stop.stop();
    };
    let (ran, ()) = futures::future::join(first.run(), stopping).await;
    ran.unwrap();
    assert_eq!(clock.now(), start().plus(Duration::from_secs(50)), "it stops at once");
    assert_eq!(clock.waits(), [20.0, 20.0, 50.0]);
    assert_eq!((first.counts().taken, first.counts().given_back), (2, 3));
    let other = Arc::new(Sink::new(10));
    feeder(store, other.clone(), &clock, FeederOptions::default()).step(clock.now()).await.unwrap();
    assert_eq!(other.sent.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for() {
    let (store, clock, sink) =
        (Arc::new(Stalling::new(MemoryStore::new(), 0)), clock(), Arc::new(Sink::new(5)));
    fill(&store.inner, "a.example", VisitType::git(), 5).await;
    store.down.store(true, Ordering::SeqCst);
    let mut feeder = feeder(store.clone(), sink.clone(), &clock, FeederOptions::default());
    let stop = feeder.stop_handle();
    let coming_back = async {
        clock.sleep(Duration::from_secs(61)).await;
        assert!(sink.sent.lock().unwrap().is_empty());
        store.down.store(false, Ordering::SeqCst);
        clock.sleep(Duration::from_secs(60)).await;
        stop.stop();
    };
    futures::future::join(feeder.run(), coming_back).await.0.unwrap();
    assert_eq!(sink.sent.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_feed_keeps_to_its_visits_a_day_and_saves_up_no_more_than_an_hour() {
    let (store, clock, sink) = (Arc::new(MemoryStore::new()), clock(), Arc::new(Sink::new(500)));
    fill(&*store, "a.example", VisitType::git(), 2000).await;
    fill(&*store, "b.example", hg(), 30).await;
    let feeds = vec![Feed::new(VisitType::git()).with_per_day(240.0), Feed::new(hg())];
    let mut feeder = Feeder::new(store.clone(), sink.clone(), clock.clone(), feeds, FeederOptions::default());
    let mut of_git = async |after: Duration| {
        clock.advance(after);
        sink.sent.lock().unwrap().clear();
        feeder.step(clock.now()).await.unwrap();
        sink.finish(&*store, clock.now()).await;
        let sent = sink.sent.lock().unwrap();
        (sent.iter().filter(|v| v.visit_type == VisitType::git()).count(), sent.len())
    };
    let minutes = |n: u64| Duration::from_secs(60 * n);
    assert_eq!(of_git(minutes(0)).await, (1, 31), "the other feed has no budget");
    assert_eq!(of_git(minutes(3)).await.0, 0);
    assert_eq!(of_git(minutes(3)).await.0, 1, "one in six minutes");
    assert_eq!(of_git(minutes(30)).await.0, 5);
    assert_eq!(of_git(minutes(600)).await.0, 10, "an hour's, not ten");
    let mut in_a_day = 0;
    for _ in 0..144 {
        in_a_day += of_git(minutes(10)).await.0;
    }
    // A sum of fractions.
    assert!((239..=240).contains(&in_a_day), "{in_a_day}");
}
