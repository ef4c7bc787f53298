//! What the configuration says of the service: what is listed when, what is fed, who may ask.

use std::net::SocketAddr;
use std::time::Duration;

use lamplighter::dispatch::http::{ApiOptions, ApiToken, HookKind, HookSecret};
use lamplighter::dispatch::{Feed, FeederOptions, PoolOptions};
use lamplighter::model::{JsonObject, VisitType};
use serde::Deserialize;

use crate::failure::{Failure, Result};

/// A lister, and how often it is run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    pub(crate) name: toml::Spanned<String>,
    /// From one start to the next, within a tenth.
    every_seconds: u64,
    #[serde(default)]
    pub(crate) parameters: JsonObject,
    /// Whether what a complete listing does not name is taken for gone.
    #[serde(default)]
    pub(crate) prune: bool,
    #[serde(default = "four")]
    pub(crate) concurrency: usize,
}

fn four() -> usize {
    4
}

impl Listing {
    /// From one start to the next. The jitter is a hash: the same after a restart, another for each instance.
    pub(crate) fn every(&self, instance: &str) -> Duration {
        let hash = instance.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // From nine to eleven tenths, in a thousand steps.
        let tenths = 0.9 + 0.2 * f64::from(u16::try_from((hash >> 32) % 1000).unwrap_or(0)) / 1000.0;
        Duration::from_secs(self.every_seconds.max(1)).mul_f64(tenths)
    }

    /// How long is waited after a run that ended with an error.
    pub(crate) fn after_failure(&self) -> Duration {
        Duration::from_secs(self.every_seconds.clamp(1, 300))
    }
}

/// What is fed to the workers of this process.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feeding {
    pub(crate) visit_type: VisitType,
    pub(crate) worker: WorkerKind,
    #[serde(default = "all")]
    share: f64,
    per_day: Option<f64>,
}

fn all() -> f64 {
    1.0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WorkerKind {
    /// The references of a repository of git.
    LsRemote,
    /// The headers of a file.
    Head,
}

/// The workers of this process.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Workers {
    at_once: usize,
    queue: usize,
    time_limit_seconds: u64,
    lease_seconds: u64,
    per_host: Option<usize>,
    /// How long a visit under way may last when the service stops.
    pub(crate) drain_seconds: u64,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            at_once: 8,
            queue: 0,
            time_limit_seconds: 1800,
            lease_seconds: 600,
            per_host: None,
            drain_seconds: 60,
        }
    }
}

impl Workers {
    pub(crate) fn pool(&self) -> PoolOptions {
        PoolOptions::default()
            .with_room(self.at_once, self.queue)
            .with_time_limit(Duration::from_secs(self.time_limit_seconds))
            .with_lease(Duration::from_secs(self.lease_seconds))
    }

    pub(crate) fn feeder(&self, owner: &str) -> FeederOptions {
        let options = FeederOptions::default().with_owner(owner);
        match self.per_host {
            Some(per_host) => options.with_per_host(per_host, 1000),
            None => options,
        }
    }

    pub(crate) fn feed(&self, feeding: &Feeding) -> Feed {
        let lease = Duration::from_secs(self.lease_seconds);
        let mut feed = Feed::new(feeding.visit_type.clone()).with_share(feeding.share).with_lease(lease);
        feed.per_day = feeding.per_day;
        feed
    }
}

/// The HTTP interface. Holds secrets: no `Debug`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Interface {
    #[serde(default = "loopback")]
    pub(crate) listen: SocketAddr,
    #[serde(default)]
    remote: bool,
    per_second: Option<f64>,
    #[serde(default)]
    token: Vec<Token>,
    #[serde(default)]
    hook: Vec<Webhook>,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8417))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    name: String,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Webhook {
    forge: HookKind,
    name: String,
    secret: String,
}

/// So many characters a secret has at least.
const SHORTEST: usize = 16;

impl Interface {
    pub(crate) fn options(&self) -> Result<ApiOptions> {
        let long = |name: &str, secret: &str| match secret.len() {
            0..SHORTEST => Err(Failure::usage(format!(
                "[http] the secret of {name} is too short: {SHORTEST} characters at least, made at random"
            ))),
            _ => Ok(()),
        };
        let mut options = ApiOptions::default().with_remote(self.remote);
        options.per_second = self.per_second.unwrap_or(options.per_second);
        for token in &self.token {
            long(&token.name, &token.token)?;
            options = options.with_token(ApiToken::new(&token.name, token.token.clone()));
        }
        for hook in &self.hook {
            long(&hook.name, &hook.secret)?;
            options = options.with_hook(HookSecret::new(hook.forge, &hook.name, hook.secret.clone()));
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_comes_again_within_a_tenth_and_not_all_at_once() {
        let listing: Listing = toml::from_str("name = \"gitea\"\nevery_seconds = 1000").unwrap();
        let of = |n: u32| listing.every(&format!("forge-{n}.example")).as_secs();
        let mut seconds: Vec<u64> = (0..100).map(of).collect();
        assert!(seconds.iter().all(|s| (900..=1100).contains(s)), "{seconds:?}");
        seconds.sort_unstable();
        seconds.dedup();
        assert!(seconds.len() > 50, "{seconds:?}");
        assert_eq!(of(7), of(7));
    }
}
