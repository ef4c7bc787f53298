//! Upstream data may not lead into the network that the program runs in.

use std::net::{IpAddr, Ipv4Addr};

use lamplighter::transport::{Http, HttpOptions, Request, Transport, TransportErrorKind as Kind};

use crate::support::{RawServer, Reply, http, url};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn client(options: HttpOptions) -> Http {
    Http::new(options).unwrap()
}

#[tokio::test]
async fn an_internal_address_from_upstream_is_refused() {
    let server = RawServer::always("200 OK", "", "");
    let port = server.base.port().unwrap();
    for host in
        ["127.0.0.1", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "localhost"]
    {
        let request = Request::get(url(&format!("http://{host}:{port}/x?secret=1")));
        let error = client(HttpOptions::new("")).send(request).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Forbidden, "{host}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(server.log().is_empty());
}

#[tokio::test]
async fn what_the_configuration_names_may_be_internal() {
    let server = RawServer::always("200 OK", "", "");
    let base = HttpOptions::new("").with_bases([server.base.clone()]);
    assert_eq!(client(base).send(Request::get(server.at("x"))).await.unwrap().status, 200);
    let configured = Request::get(server.at("x")).configured();
    assert_eq!(client(HttpOptions::new("")).send(configured).await.unwrap().status, 200);
    let allowed = HttpOptions::new("").with_private_allowed(true);
    assert_eq!(client(allowed).send(Request::get(server.at("x"))).await.unwrap().status, 200);
    // Its host alone is not enough: another port is another service.
    let other = RawServer::always("200 OK", "", "");
    let base = HttpOptions::new("").with_bases([server.base.clone()]);
    assert_eq!(client(base).send(Request::get(other.at("x"))).await.unwrap_err().kind(), Kind::Forbidden);
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_also_after_a_redirect() {
    let inside = RawServer::always("200 OK", "", "internal");
    let port = inside.base.port().unwrap();
    let to = format!("http://innocent.example:{port}/latest/meta-data");
    let forge =
        RawServer::start(move |_, _| Reply::Bytes(http("302 F", &format!("Location: {to}\r\n"), b"")));
    let options =
        || HttpOptions::new("").with_bases([forge.base.clone()]).with_host("Innocent.Example", [LOOPBACK]);
    for request in [Request::get(forge.at("x")), Request::get(forge.at("x")).configured()] {
        let error = client(options()).send(request).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Forbidden, "{error}");
        assert!(!error.is_retryable());
    }
    assert!(inside.log().is_empty(), "not even connected to");

    // The same where it is allowed, so that it is the guard that refused.
    let answer =
        client(options().with_private_allowed(true)).send(Request::get(forge.at("x"))).await.unwrap();
    assert_eq!(answer.body.bytes().unwrap(), "internal");
    let named = url(&format!("http://innocent.example:{port}/"));
    let answer = client(options().with_bases([named])).send(Request::get(forge.at("x"))).await.unwrap();
    assert_eq!(answer.body.bytes().unwrap(), "internal");
}

#[tokio::test]
async fn a_redirect_to_an_internal_address_is_refused() {
    let inside = RawServer::always("200 OK", "", "internal");
    let to = inside.at("x").to_string();
    let forge =
        RawServer::start(move |_, _| Reply::Bytes(http("302 F", &format!("Location: {to}\r\n"), b"")));
    let options = HttpOptions::new("").with_bases([forge.base.clone()]);
    let error = client(options).send(Request::get(forge.at("x")).configured()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden);
    assert!(inside.log().is_empty());
    assert_eq!(forge.log().len(), 1);
}

/// An open connection is not looked up again: those of the configuration are not lent to upstream.
#[tokio::test]
async fn a_pooled_connection_is_no_way_around() {
    let stay = || Reply::Stay(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
    let server = RawServer::start(move |_, _| stay());
    let base = url(&format!("http://innocent.example:{}/", server.base.port().unwrap()));
    let client = client(HttpOptions::new("").with_host("innocent.example", [LOOPBACK]));
    for _ in 0..2 {
        let answer = client.send(Request::get(base.clone()).configured()).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    assert_eq!(server.connections(), 1, "it is kept open");
    let error = client.send(Request::get(base)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden);
    assert_eq!(server.log().len(), 2);
}
