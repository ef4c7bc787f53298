//! A real handshake on loopback: a certificate authority of one's own, trusted and not.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;

use lamplighter::transport::{
    Http, HttpOptions, Request, Response, Transport, TransportError, TransportErrorKind as Kind,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::url;

const NAME: &str = "forge.example";

/// A certificate authority that nobody knows.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Serves one small page to everybody, with a certificate for a name. Its port.
fn serve(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> u16 {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket);
            // A client that does not trust the certificate goes away here.
            if stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret");
                let _ = stream.flush();
                stream.conn.send_close_notify();
                let _ = stream.conn.complete_io(&mut stream.sock);
            }
        }
    });
    port
}

async fn ask(port: u16, options: HttpOptions) -> Result<Response, TransportError> {
    let at = url(&format!("https://{NAME}:{port}/projects?token=q"));
    let options = options.with_host(NAME, [IpAddr::V4(Ipv4Addr::LOCALHOST)]).with_bases([at.clone()]);
    Http::new(options)?.send(Request::get(at)).await
}

#[tokio::test]
async fn https_works_with_a_root_certificate_of_ones_own() {
    let authority = authority();
    let port = serve(&authority, NAME);
    let trusting = || HttpOptions::new("").with_root_certificate(authority.pem());
    let answer = ask(port, trusting()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.bytes().unwrap()), (200, "secret".into()));

    // Without it, and with that of another one, there is no connection, and it says why.
    let strange = HttpOptions::new("").with_root_certificate(self::authority().pem());
    for options in [HttpOptions::new(""), strange] {
        let error = ask(port, options).await.unwrap_err();
        let said = error.to_string();
        assert_eq!(error.kind(), Kind::Connect, "{said}");
        assert!(
            said.contains(&format!("GET https://{NAME}:{port}/projects")) && !said.contains("token"),
            "{said}"
        );
        assert!(said.contains("certificate"), "{said}");
    }
    // A root is for those who have its certificate, under their name.
    let error = ask(serve(&authority, "other.example"), trusting()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Connect);
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn what_is_no_certificate_is_refused() {
    for pem in ["", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "MIIB"] {
        let error = Http::new(HttpOptions::new("").with_root_certificate(pem)).unwrap_err();
        assert!(error.to_string().contains("root certificate"), "{error}");
    }
}
