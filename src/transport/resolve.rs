//! Names become addresses here, and here it is seen where a name leads: an answer of the DNS that
//! was checked earlier and asked for again to connect could be another one.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::guard::is_internal;

/// Fixed addresses of hosts, as in `/etc/hosts`.
pub(crate) type Hosts = Arc<HashMap<String, Vec<IpAddr>>>;

/// A name leads to this machine or to a private network, and nowhere else.
#[derive(Debug)]
pub(crate) struct Internal(String);

impl fmt::Display for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} leads to a loopback, private or link-local address", self.0)
    }
}

impl std::error::Error for Internal {}

/// The system's resolver, after the fixed hosts.
pub(crate) struct Resolver {
    pub(crate) hosts: Hosts,
    /// Whether internal addresses may be connected to.
    pub(crate) internal: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (hosts, internal) = (Arc::clone(&self.hosts), self.internal);
        Box::pin(async move {
            let name = name.as_str();
            let found: Vec<SocketAddr> = match hosts.get(&name.to_ascii_lowercase()) {
                Some(fixed) => fixed.iter().map(|ip| SocketAddr::new(*ip, 0)).collect(),
                None => tokio::net::lookup_host((name, 0)).await?.collect(),
            };
            let allowed: Vec<_> =
                found.iter().copied().filter(|a| internal || !is_internal(a.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(Internal(name.to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
