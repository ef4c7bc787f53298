//! Conditional requests: a validator goes with the credential that it was given to, and with no other.

use std::sync::Arc;

use lamplighter::backend::{MemoryStore, RunOutcome, RunStore};
use lamplighter::driver::{Driver, RunOptions};
use lamplighter::lister::{Lister, ListerError, Page, RunInfo, Source};
use lamplighter::model::{ListerKey, NewOrigin, Timestamp, VisitType};
use lamplighter::testing::VirtualClock;
use lamplighter::transport::{
    Auth, Condition, CredentialId, Credentials, Identity, Polite, PoliteOptions, Request, Response, Secret,
    Transport, classify,
};

use crate::support::{Forge, START, TestClock, answer, url};

fn holding(secrets: &[&str]) -> Arc<Credentials> {
    let base = url("https://forge.example/");
    let all = secrets.iter().fold(Credentials::new(), |all, s| all.with(Secret::token(*s), [&base]));
    Arc::new(all)
}

fn get() -> Request {
    Request::get(url("https://forge.example/all")).with_auth(Auth::bearer()).validated()
}

/// Says with each answer an etag of whom it is for, and 304 to whoever sends it. The secrets are in
/// the order of their credentials.
fn forge(secrets: &'static [&'static str]) -> Arc<Forge> {
    Forge::new(move |request, _| {
        let who = request.credential.map_or("anonymous", |id| secrets[id.0]);
        let etag = format!("\"for-{who}\"");
        Ok(match request.headers.get("if-none-match") {
            None if who == "plain" => answer(request, 200, &[], "[1, 2]"),
            Some(sent) if *sent == *etag => answer(request, 304, &[("etag", &etag)], ""),
            // One that is another's would be taken for this one's.
            Some(sent) => panic!("{who} sent {sent:?}"),
            None => answer(request, 200, &[("etag", &etag)], "[1, 2]"),
        })
    })
}

#[tokio::test]
async fn a_validator_goes_with_its_credential_only() {
    let secrets = holding(&["ann", "bob"]);
    let identity = |n| secrets.identity(Some(CredentialId(n)));
    let conditional = |of: Identity, etag: &str| {
        let mut request = get();
        request.condition = Some(Condition::new(of, Some(etag.to_owned()), None));
        request
    };
    let forge = forge(&["ann", "bob"]);
    let polite = Polite::new(forge.clone(), TestClock::new(), secrets.clone(), PoliteOptions::default());

    // The second one's: it goes, although the first one is the next.
    let unchanged = polite.send(conditional(identity(1), "\"for-bob\"")).await.unwrap();
    assert_eq!((unchanged.status.as_u16(), unchanged.identity), (304, identity(1)));
    let fresh = polite.send(get()).await.unwrap();
    assert_eq!((fresh.status.as_u16(), fresh.identity), (200, identity(0)));
    // Nobody's here: a request without it.
    for of in [Identity::anonymous(), Identity::stored("gone")] {
        let whole = polite.send(conditional(of, "\"for-carl\"")).await.unwrap();
        assert_eq!((whole.status.as_u16(), whole.identity), (200, identity(0)));
    }
    let anonymous = polite.send(conditional(identity(1), "\"for-bob\"").with_auth(Auth::None)).await.unwrap();
    assert_eq!((anonymous.status.as_u16(), anonymous.identity), (200, Identity::anonymous()));
}

#[tokio::test]
async fn a_validator_of_a_limited_credential_is_left_out() {
    let secrets = holding(&["ann", "bob"]);
    let clock = TestClock::new();
    let forge = Forge::new(|request, before| {
        Ok(match before {
            0 => answer(request, 429, &[("retry-after", "600")], ""),
            _ => answer(request, 200, &[], "[]"),
        })
    });
    assert!(
        classify(Timestamp::EPOCH, http::StatusCode::TOO_MANY_REQUESTS, &http::HeaderMap::new(), b"")
            .is_some()
    );
    let polite = Polite::new(forge.clone(), clock.clone(), secrets.clone(), PoliteOptions::default());
    let mut request = get();
    let bob = secrets.identity(Some(CredentialId(1)));
    request.condition = Some(Condition::new(bob, Some("\"for-bob\"".to_owned()), None));
    let answer = polite.send(request).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.identity), (200, secrets.identity(Some(CredentialId(0)))));
    assert_eq!(clock.elapsed(), 0, "a whole answer is better than a wait");
    let sent = forge.seen.lock().unwrap();
    let conditional: Vec<_> = sent.iter().map(|r| r.headers.contains_key("if-none-match")).collect();
    assert_eq!(conditional, [true, false]);
}

/// One page that may be validated.
struct Index;

impl Lister for Index {
    type Cursor = ();
    fn name(&self) -> &'static str {
        "index"
    }
    fn instance(&self) -> &'static str {
        "forge.example"
    }
    fn start(&self, _: &RunInfo) -> Vec<()> {
        vec![()]
    }
    fn request(&self, (): &()) -> Result<Request, ListerError> {
        Ok(get())
    }
    fn page(&self, (): &(), response: Response, page: &mut Page<()>) -> Result<(), ListerError> {
        for id in response.json::<Vec<u64>>()? {
            page.origin(NewOrigin::new(format!("https://forge.example/{id}"), VisitType::git()))?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_run_asks_conditionally_as_whom_it_last_asked() {
    let store = Arc::new(MemoryStore::new());
    let run = async |secrets: &'static [&'static str]| {
        let forge = forge(secrets);
        let clock = Arc::new(VirtualClock::new(Timestamp::from_seconds(START)));
        let polite = Polite::new(forge.clone(), clock.clone(), holding(secrets), PoliteOptions::default());
        let driver = Driver::new(Arc::clone(&store) as _, Arc::new(polite), clock);
        let report = driver.run(Arc::new(Source::stateless(Index)), RunOptions::default()).await.unwrap();
        assert_eq!((report.outcome, report.counts.gone), (RunOutcome::Complete, 0));
        let sent = forge.seen.lock().unwrap();
        sent.iter()
            .map(|r| (r.credential.map(|id| id.0), r.headers.contains_key("if-none-match")))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(&["ann"]).await, [(Some(0), false)]);
    assert_eq!(run(&["ann"]).await, [(Some(0), true)]);
    assert_eq!(run(&["bob", "ann"]).await, [(Some(1), true)], "the same token at another place");
    assert_eq!(run(&["bob"]).await, [(Some(0), false)]);
    assert_eq!(run(&["ann", "bob"]).await, [(Some(1), true)], "what was read last counts");
    // Without a validator of its own, a reading still takes the place of the one before.
    assert_eq!(run(&["plain"]).await, [(Some(0), false)]);
    assert_eq!(run(&["bob"]).await, [(Some(0), false)]);
    assert_eq!(run(&[]).await, [(None, false)]);
    assert_eq!(run(&[]).await, [(None, true)]);

    let key = ListerKey::new("index", "forge.example");
    let kept = store.validator(&key, "https://forge.example/all").await.unwrap().unwrap();
    assert!(kept.identity.is_anonymous());
}
