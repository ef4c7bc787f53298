//! Which hosts and addresses may be asked.

use std::fmt;
#[cfg(feature = "reqwest")]
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// A host and port: what secrets, limits and permissions are tied to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    host: Host<String>,
    port: u16,
}

impl Site {
    /// A URL's host and port; none for one without.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        Some(Self { host: url.host()?.to_owned(), port: url.port_or_known_default()? })
    }

    /// Whether it is this machine by its very name.
    #[cfg(feature = "driver")]
    pub(crate) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        }
    }

    /// The address, where the host is one and not a name.
    #[cfg(feature = "reqwest")]
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(feature = "reqwest")]
/// Whether an address is nobody's on the public network: this machine, a private or link-local
/// network, a carrier's, multicast or reserved, also where an IPv6 address carries such an IPv4 one.
pub(crate) fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_internal_v4(ip),
        IpAddr::V6(ip) => is_internal_v6(ip),
    }
}

#[cfg(feature = "reqwest")]
fn is_internal_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
}

#[cfg(feature = "reqwest")]
fn is_internal_v6(ip: Ipv6Addr) -> bool {
    let carries_internal =
        |high: u16, low: u16| is_internal_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    #[allow(clippy::match_same_arms, reason = "each range for its own reason")]
    match ip.segments() {
        // `::` and `::1`, and compatible, mapped (`::ffff:0:0/96`) and translated IPv4 addresses.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            ip.is_loopback() || carries_internal(high, low)
        }
        // NAT64: the well-known prefix, and the one for private use (RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => carries_internal(high, low),
        [0x64, 0xff9b, 1, ..] => true,
        // Teredo hides its IPv4 addresses, and nobody serves a forge through it.
        [0x2001, 0, ..] => true,
        // 6to4.
        [0x2002, high, low, ..] => carries_internal(high, low),
        // Unique local, link-local and site-local, multicast.
        [first, ..] => (first & 0xfe00) == 0xfc00 || (first & 0xff80) == 0xfe80 || (first & 0xff00) == 0xff00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "reqwest")]
    #[test]
    fn internal_addresses_are_told_from_public_ones() {
        for internal in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.0.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::127.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
        ] {
            assert!(is_internal(internal.parse().unwrap()), "{internal}");
        }
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.0.0.1",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.0.1",
            "192.169.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2001:1::1",
            "fbff::1",
        ] {
            assert!(!is_internal(public.parse().unwrap()), "{public}");
        }
    }

    fn site(url: &str) -> Option<Site> {
        Site::of(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_site_is_a_host_and_a_port() {
        assert_eq!(site("https://Forge.Example/a?b"), site("https://forge.example:443/c"));
        assert_ne!(site("https://forge.example/"), site("http://forge.example/"));
        assert_ne!(site("http://127.0.0.1:1/"), site("http://127.0.0.1:2/"));
        assert_eq!(site("data:text/plain,x"), None);
        assert_eq!(site("http://[::1]:8080/").unwrap().to_string(), "[::1]:8080");
    }

    #[cfg(feature = "driver")]
    #[test]
    fn every_way_to_write_loopback_is_loopback() {
        for url in
            ["http://0x7f.1/", "http://2130706433/", "http://127.1/", "http://[::1]/", "http://a.localhost/"]
        {
            assert!(site(url).is_some_and(|s| s.is_loopback()), "{url}");
        }
        assert!(!site("http://localhost.example/").unwrap().is_loopback());
    }
}
