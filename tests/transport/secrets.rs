//! Each way of carrying a secret, and all the places where it must not be.

use std::sync::Arc;

use lamplighter::transport::{
    Auth, CredentialId, Credentials, Http, HttpOptions, Polite, PoliteOptions, Request, Secret, Transport,
};

use crate::notes::Notes;
use crate::support::{RawServer, Reply, TestClock, assert_hidden, http};

const TOKEN: &str = "gh0st+t0ken/é";
/// Every form in which it could be seen: plain, as a query or a form has it, `ann:` and it in base64.
const FORMS: [&str; 4] = [TOKEN, "gh0st%2Bt0ken%2F%C3%A9", "YW5uOmdoMHN0K3Qwa2VuL8Op", "gh0st"];

fn credentials(server: &RawServer) -> Arc<Credentials> {
    Arc::new(Credentials::new().with(Secret::of_user("ann", TOKEN), [&server.base]))
}

fn options(server: &RawServer) -> HttpOptions {
    HttpOptions::new("").with_bases([server.base.clone()]).with_credentials(credentials(server))
}

/// The request as the server got it.
async fn sent(request: impl Fn(&RawServer) -> Request) -> String {
    let server = RawServer::always("200 OK", "", "");
    let mut request = request(&server);
    request.credential = Some(CredentialId(0));
    let kept = request.url.clone();
    let answer = Http::new(options(&server)).unwrap().send(request).await.unwrap();
    assert_eq!(answer.url, kept, "the URL that is kept has no secret");
    server.log()[0].clone()
}

#[tokio::test]
async fn each_kind_of_authentication_arrives() {
    let get = |auth: Auth| move |server: &RawServer| Request::get(server.at("x?a=1")).with_auth(auth.clone());
    // A header carries bytes; the log shows them as the text they are.
    let bearer = sent(get(Auth::bearer())).await;
    assert!(bearer.contains(&format!("authorization: Bearer {TOKEN}\r\n")), "{bearer}");
    let token = sent(get(Auth::Bearer("token"))).await;
    assert!(token.contains(&format!("authorization: token {TOKEN}\r\n")), "{token}");
    let basic = sent(get(Auth::Basic)).await;
    assert!(basic.contains("authorization: Basic YW5uOmdoMHN0K3Qwa2VuL8Op\r\n"), "{basic}");
    let header = sent(get(Auth::Header("Private-Token"))).await;
    assert!(header.contains(&format!("private-token: {TOKEN}\r\n")), "{header}");
    let query = sent(get(Auth::Query("access_token"))).await;
    assert!(query.starts_with("GET /x?a=1&access_token=gh0st%2Bt0ken%2F%C3%A9 HTTP"), "{query}");
    let form = |fields: &'static [(&str, &str)]| {
        move |server: &RawServer| {
            Request::post_form(server.at("x"), fields.iter().copied()).with_auth(Auth::Form("api.token"))
        }
    };
    let filled = sent(form(&[("a", "1")])).await;
    assert!(filled.ends_with("\r\n\r\na=1&api.token=gh0st%2Bt0ken%2F%C3%A9"), "{filled}");
    let empty = sent(form(&[])).await;
    assert!(empty.ends_with("\r\n\r\napi.token=gh0st%2Bt0ken%2F%C3%A9"), "{empty}");
    let none = sent(get(Auth::None)).await;
    assert_hidden(&FORMS, &none);
}

#[tokio::test]
async fn a_request_without_a_credential_is_anonymous() {
    let server = RawServer::always("200 OK", "", "");
    let client = Http::new(options(&server)).unwrap();
    client.send(Request::get(server.at("x")).with_auth(Auth::bearer())).await.unwrap();
    assert_hidden(&FORMS, &server.log()[0]);
}

#[tokio::test]
async fn no_error_and_no_debug_output_holds_a_secret() {
    let broken =
        RawServer::start(|_, _| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec()));
    let away = RawServer::start(|_, _| Reply::Bytes(http("302 F", "Location: ftp://h/\r\n", b"")));
    for server in [broken, away] {
        let client = Http::new(options(&server)).unwrap();
        assert_hidden(&FORMS, &format!("{client:?} {:?} {:?}", options(&server), credentials(&server)));
        for auth in [Auth::Query("k"), Auth::bearer(), Auth::Basic, Auth::Form("f"), Auth::Header("h")] {
            let mut request = Request::post_form(server.at("x?q=page-2"), [("a", "1")]).with_auth(auth);
            request.credential = Some(CredentialId(0));
            let error = client.send(request).await.unwrap_err();
            assert_hidden(&FORMS, &all_of(&error));
            assert_hidden(&["page-2"], &all_of(&error));
        }
    }
}

fn all_of(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |e| (*e).source());
    chain.map(|e| format!("{e} {e:?}")).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn logs_tell_each_attempt_and_no_secret() {
    let server = RawServer::start(|_, before| {
        Reply::Bytes(match before {
            0 => http("500 Oops", "", b"gh0st in the body"),
            1 => http("403 Forbidden", "Retry-After: 9\r\n", b"gh0st in the body"),
            2 => b"HTTP/1.1 200".to_vec(),
            3 => http("401 Unauthorized", "", b"gh0st in the body"),
            _ => unreachable!(),
        })
    });
    let clock = TestClock::new();
    let client = Http::new(options(&server).with_clock(clock.clone())).unwrap();
    let polite = Polite::new(client, clock, credentials(&server), PoliteOptions::default());
    let notes = Notes::take();
    let request = Request::get(server.at("list?cursor=abc")).with_auth(Auth::Query("token"));
    let answer = polite.send(request).await.unwrap();
    assert_eq!(answer.status, 401);

    let log = notes.text();
    assert_hidden(&FORMS, &log);
    assert_hidden(&["cursor", "abc", "body"], &log);
    let place = server.at("list").to_string();
    for told in [
        place.as_str(),
        "method=GET",
        "status=500",
        "status=403",
        "wait_ms=9000",
        "no answer",
        "refuses",
        "attempt=1",
        "attempt=2",
        "attempt=3",
        "attempt=4",
        "credential=0",
    ] {
        assert!(log.contains(told), "{told} in {log}");
    }
}
