//! TLS on ring, said in full: a library should not set the process's default.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

use super::{TransportError, TransportErrorKind as Kind};

/// The system's roots, and those of these PEM texts.
pub(crate) fn tls(roots: &[Vec<u8>]) -> Result<rustls::ClientConfig, TransportError> {
    let other = |e: rustls::Error| TransportError::new(Kind::Other, "TLS cannot be set up").with_source(e);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut extra = Vec::new();
    for pem in roots {
        extra.extend(certificates(pem)?);
    }
    let verifier = if extra.is_empty() {
        Verifier::new(Arc::clone(&provider))
    } else {
        Verifier::new_with_extra_roots(extra, Arc::clone(&provider))
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier.map_err(other)?))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates of a PEM text: at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let refused =
        || TransportError::new(Kind::Other, "a root certificate that was added is no PEM certificate");
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|e| refused().with_source(e))?;
    if found.is_empty() { Err(refused()) } else { Ok(found) }
}
