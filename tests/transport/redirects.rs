//! Redirects: where they lead, what goes along, and when they end.

use std::sync::Arc;

use lamplighter::transport::{
    Auth, CredentialId, Credentials, Http, HttpOptions, Request, Response, Secret, Transport, TransportError,
    TransportErrorKind as Kind,
};

use crate::support::{RawServer, Reply, every_auth, http};

const TOKEN: &str = "t0ken-of-ann";

/// Redirects everything from `/` on one server to wherever it is told.
fn redirects(status: &'static str, to: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> RawServer {
    RawServer::start(move |request, _| {
        let path = request.split(' ').nth(1).unwrap();
        Reply::Bytes(match to(path) {
            Some(to) => http(status, &format!("Location: {to}\r\n"), b"moved"),
            None => http("200 OK", "", b"here"),
        })
    })
}

/// A client that knows both servers and has a token for the first only.
fn client(first: &RawServer, second: &RawServer) -> Http {
    let credentials = Credentials::new().with(Secret::of_user("ann", TOKEN), [&first.base]);
    let options = HttpOptions::new("")
        .with_bases([first.base.clone(), second.base.clone()])
        .with_credentials(Arc::new(credentials));
    Http::new(options).unwrap()
}

fn with_token(mut request: Request, auth: Auth) -> Request {
    request.credential = Some(CredentialId(0));
    request.with_auth(auth)
}

async fn ask(server: &RawServer, path: &str) -> Result<Response, TransportError> {
    client(server, server).send(Request::get(server.at(path))).await
}

#[tokio::test]
async fn the_url_that_answered_is_kept() {
    for status in ["301 M", "302 F", "303 S", "307 T", "308 P"] {
        let server = redirects(status, |path| (path == "/a?x=1").then(|| "b/c?y=2#part".to_owned()));
        let answer = ask(&server, "a?x=1").await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.url), (200, &server.at("b/c?y=2")), "{status}");
        assert_eq!(answer.body.bytes().unwrap(), "here");
    }
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_an_answer() {
    let server = RawServer::always("302 Found", "", "");
    assert_eq!(ask(&server, "a").await.unwrap().status, 302);
    let choices = redirects("300 Multiple Choices", |_| Some("/b".to_owned()));
    assert_eq!(ask(&choices, "a").await.unwrap().status, 300);
}

#[tokio::test]
async fn loops_and_long_chains_end() {
    let circle = redirects("302 F", |path| Some(if path == "/a" { "/b" } else { "/a" }.to_owned()));
    assert_eq!(ask(&circle, "a").await.unwrap_err().kind(), Kind::Redirect);
    assert_eq!(circle.log().len(), 2, "seen as soon as it comes back");

    let count = |to: u32| {
        redirects("302 F", move |path| {
            let n: u32 = path.trim_start_matches('/').parse().unwrap();
            (n < to).then(|| format!("/{}", n + 1))
        })
    };
    let eleven = count(11);
    assert_eq!(ask(&eleven, "0").await.unwrap_err().kind(), Kind::Redirect);
    assert_eq!(eleven.log().len(), 11, "the first and ten more");
    assert_eq!(ask(&count(10), "0").await.unwrap().status, 200);
}

#[tokio::test]
async fn other_protocols_are_not_followed() {
    for to in ["ftp://forge.example/", "file:///etc/passwd", "data:,x", "http://"] {
        let server = redirects("302 F", move |path| (path == "/a").then(|| to.to_owned()));
        let error = ask(&server, "a").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Redirect, "{to}: {error}");
    }
}

#[tokio::test]
async fn a_post_becomes_a_get_or_stays_one() {
    for (status, becomes_get) in
        [("301 M", true), ("302 F", true), ("303 S", true), ("307 T", false), ("308 P", false)]
    {
        let server = redirects(status, |path| (path == "/a").then(|| "/b".to_owned()));
        let post = with_token(Request::post_form(server.at("a"), [("q", "1")]), Auth::Form("token"));
        client(&server, &server).send(post).await.unwrap();
        let second = &server.log()[1];
        if becomes_get {
            assert!(second.starts_with("GET /b ") && second.ends_with("\r\n\r\n"), "{second}");
            assert!(!second.to_lowercase().contains("content-type"));
        } else {
            assert!(second.starts_with("POST /b "), "{second}");
            assert!(
                second.ends_with(&format!("\r\n\r\nq=1&token={TOKEN}")),
                "the secret is there once: {second}"
            );
        }
    }
}

#[tokio::test]
async fn a_secret_does_not_go_to_another_host() {
    for auth in every_auth() {
        let second = RawServer::always("200 OK", "", "here");
        let there = second.at("b");
        let first = redirects("307 T", move |path| (!path.starts_with("/stay")).then(|| there.to_string()));
        let client = client(&first, &second);
        let request = |path| {
            let form = Request::post_form(first.at(path), [("q", "1")]);
            with_token(form.with_header("cookie", "own-cookie"), auth.clone())
        };

        let answer = client.send(request("a")).await.unwrap();
        assert_eq!(answer.url, second.at("b"));
        let basic = "YW5uOnQwa2VuLW9mLWFubg==";
        let at_second = second.log().concat();
        assert!(at_second.starts_with("POST /b ") && at_second.ends_with("q=1"), "{at_second}");
        for kept in [TOKEN, basic, "own-cookie"] {
            assert!(!at_second.contains(kept), "{auth:?}: {at_second}");
        }
        // The first had it: the log would show it.
        let at_first = first.log().concat();
        assert!(at_first.contains(TOKEN) || at_first.contains(basic), "{auth:?}: {at_first}");
        assert!(at_first.contains("own-cookie"));
    }
}

#[tokio::test]
async fn a_secret_that_left_its_host_does_not_come_back() {
    // first /a -> second /b -> first /c: who redirects from elsewhere does not say what is done
    // with the token.
    let slot = Arc::new(std::sync::OnceLock::<String>::new());
    let back = Arc::clone(&slot);
    let second = redirects("302 F", move |_| back.get().cloned());
    let there = second.at("b").to_string();
    let first = redirects("302 F", move |path| (path == "/a").then(|| there.clone()));
    slot.set(first.at("c").to_string()).unwrap();
    let answer =
        client(&first, &second).send(with_token(Request::get(first.at("a")), Auth::bearer())).await.unwrap();
    assert_eq!(answer.url, first.at("c"));
    let log = first.log();
    assert!(log[0].contains(TOKEN) && !log[1].contains(TOKEN), "{log:?}");

    // On its own host it goes along.
    let stays = redirects("302 F", |path| (path == "/a").then(|| "/b".to_owned()));
    client(&stays, &stays).send(with_token(Request::get(stays.at("a")), Auth::bearer())).await.unwrap();
    assert!(stays.log()[1].contains(TOKEN));
}

#[tokio::test]
async fn a_forge_that_repeats_the_query_gives_no_secret_away() {
    let second = RawServer::always("200 OK", "", "here");
    let there = second.at("b").to_string();
    let first = redirects("302 F", move |path| {
        let query = path.split_once('?').map_or("", |(_, q)| q);
        (!path.starts_with("/b")).then(|| {
            if path.starts_with("/away") { format!("{there}?{query}") } else { format!("/b?{query}") }
        })
    });
    let client = client(&first, &second);
    let answer =
        client.send(with_token(Request::get(first.at("away?q=1")), Auth::Query("token"))).await.unwrap();
    assert_eq!(answer.url, second.at("b?q=1"));
    assert!(second.log()[0].starts_with("GET /b?q=1 "), "{:?}", second.log());

    let answer =
        client.send(with_token(Request::get(first.at("a?q=1")), Auth::Query("token"))).await.unwrap();
    assert_eq!(answer.url, first.at("b?q=1"), "the URL that is kept is clean");
    assert!(
        first.log()[2].starts_with(&format!("GET /b?q=1&token={TOKEN} ")),
        "sent once: {:?}",
        first.log()
    );

    let hidden = redirects("302 F", |path| {
        path.starts_with("/a").then(|| format!("/b?back={}", path.replace(['?', '&', '='], "_")))
    });
    let error = self::client(&hidden, &hidden)
        .send(with_token(Request::get(hidden.at("a?q=1")), Auth::Query("token")))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Redirect);
    assert!(!format!("{error} {error:?}").contains(TOKEN));
}
