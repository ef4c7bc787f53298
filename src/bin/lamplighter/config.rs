//! The TOML configuration, and the tokens that come from the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter::backend::StoreOptions;
use lamplighter::lister::Secret;
use lamplighter::model::ListerKey;
use lamplighter::policy::{AgeClass, Policies, PolicyError, Quota, named};
use serde::Deserialize;

use crate::failure::{Failure, Result, one_line};
use crate::service::{Feeding, Interface, Listing, Workers};

/// What the configuration file says. Holds secrets: no `Debug`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Whom a forge can write to; goes into the User-Agent.
    pub(crate) contact: Option<String>,
    /// The store, where neither option nor environment names one.
    pub(crate) store: Option<String>,
    /// Whether URLs from upstream may lead to private addresses.
    pub(crate) allow_private: bool,
    /// How many requests of each token's budget are left to others who use it.
    pub(crate) reserve: u64,
    /// PEM files with root certificates that are trusted besides the system's.
    pub(crate) root_certificates: Vec<PathBuf>,
    /// The policy of each visit type, by its name and options; `default` is that of all others.
    policy: BTreeMap<String, Policy>,
    /// How often one requester may ask.
    requests: Option<Requests>,
    /// Classes with a maximum age, the one that misses last first.
    max_age: Vec<MaxAge>,
    /// What `run` lists, and how often.
    pub(crate) lister: Vec<Listing>,
    /// What `run` has visited by workers of its own.
    pub(crate) feed: Vec<Feeding>,
    /// Those workers.
    pub(crate) pool: Workers,
    /// Where `run` listens for workers elsewhere.
    pub(crate) http: Option<Interface>,
    /// By lister, then instance.
    credentials: BTreeMap<String, BTreeMap<String, Vec<Credential>>>,
    /// Where each line of the file begins, and what the file is called.
    #[serde(skip)]
    lines: Vec<usize>,
    #[serde(skip)]
    file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    username: Option<String>,
    #[serde(alias = "token")]
    password: String,
}

/// `use = "due"` and its options, or all in one: `use = "due,objective=lag"`.
#[derive(Deserialize)]
struct Policy {
    #[serde(rename = "use")]
    name: String,
    #[serde(flatten)]
    options: BTreeMap<String, Scalar>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Whole(i64),
    Number(f64),
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(n) => write!(f, "{n}"),
            Self::Number(n) => write!(f, "{n}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Policy {
    fn read(&self) -> Result<Arc<dyn lamplighter::policy::Policy>, PolicyError> {
        let options = self.options.iter().map(|(key, value)| format!(",{key}={value}"));
        named(&format!("{}{}", self.name, options.collect::<String>()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requests {
    /// So many, none for any number.
    quota: Option<u32>,
    /// In so many seconds.
    #[serde(default = "a_day")]
    per_seconds: u64,
}

fn a_day() -> u64 {
    86_400
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaxAge {
    name: String,
    days: f64,
    visit_type: Option<String>,
    lister: Option<String>,
    instance: Option<String>,
}

impl MaxAge {
    fn class(&self) -> Result<AgeClass, String> {
        let seconds = Some(self.days * 86_400.0).filter(|s| s.is_finite() && (1.0..=1e10).contains(s));
        let cap = seconds.map(Duration::from_secs_f64);
        let cap =
            cap.ok_or_else(|| format!("max_age {:?}: {} is no number of days", self.name, self.days))?;
        let mut class = AgeClass::new(&self.name, cap);
        class.visit_type.clone_from(&self.visit_type);
        class.lister.clone_from(&self.lister);
        class.instance.clone_from(&self.instance);
        Ok(class)
    }
}

impl Config {
    /// How stores are opened: policies, quota, classes.
    pub(crate) fn store_options(&self) -> Result<StoreOptions> {
        let mut options = StoreOptions::default();
        let mut policies = Policies::default();
        if let Some(default) = self.policy.get("default") {
            policies = Policies::all(default.read().map_err(|e| wrong("default", &e))?);
        }
        for (visit_type, policy) in self.policy.iter().filter(|(t, _)| *t != "default") {
            policies = policies.with(visit_type, policy.read().map_err(|e| wrong(visit_type, &e))?);
        }
        options.policies = policies;
        if let Some(requests) = &self.requests {
            let per = Duration::from_secs(requests.per_seconds);
            options = options.with_quota(requests.quota.map(|n| Quota::new(n, per)));
        }
        for class in &self.max_age {
            options = options.with_max_age(class.class().map_err(Failure::usage)?);
        }
        Ok(options)
    }

    /// Reads a file; nothing is configured without one.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|e| {
            Failure::usage(format!("the configuration {} cannot be read: {e}", path.display()))
        })?;
        let mut config = Self::parse(&text).map_err(|p| Failure::usage(format!("{}:{p}", path.display())))?;
        config.file = path.display().to_string();
        config.lines = text.match_indices('\n').map(|(at, _)| at).collect();
        // What is wrong is told now, and not by the first command that needs it.
        match config.store_options() {
            Err(Failure::Usage(why)) => Err(Failure::usage(format!("{}: {why}", path.display()))),
            _ => Ok(config),
        }
    }

    /// `FILE:LINE:` of a place in the file.
    pub(crate) fn place(&self, at: usize) -> String {
        format!("{}:{}:", self.file, self.lines.partition_point(|end| *end < at) + 1)
    }

    /// The problem is told by its line: the parser's own text would show the line itself, and there
    /// may be a secret on it.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| {
            let line = e.span().and_then(|s| text.get(..s.start)).map_or(1, |t| t.matches('\n').count() + 1);
            // "invalid type: integer `1234`, expected a string" quotes the value.
            let message = match e.message().split_once(", expected") {
                Some((found, expected)) if found.starts_with("invalid ") => format!("expected{expected}"),
                _ => e.message().to_owned(),
            };
            format!("{line}: {}", one_line(&message))
        })
    }

    /// The credentials of a lister's instance: the configured ones (those of the whole instance where
    /// a part of it has none of its own), and those of the environment variable `LAMPLIGHTER_TOKEN_<LISTER>` (several with commas between).
    pub(crate) fn secrets(&self, of: &ListerKey, env: impl Fn(&str) -> Option<String>) -> Vec<Secret> {
        let instances = self.credentials.get(&of.name);
        let configured = instances.and_then(|i| i.get(&of.instance).or_else(|| i.get(of.whole_instance())));
        let configured = configured.into_iter().flatten();
        let mut secrets: Vec<Secret> = configured
            .map(|c| match &c.username {
                Some(user) => Secret::of_user(user, c.password.clone()),
                None => Secret::token(c.password.clone()),
            })
            .collect();
        let variable = format!("LAMPLIGHTER_TOKEN_{}", of.name.to_uppercase().replace('-', "_"));
        let tokens = env(&variable).unwrap_or_default();
        secrets.extend(tokens.split(',').map(str::trim).filter(|t| !t.is_empty()).map(Secret::token));
        secrets
    }
}

fn wrong(visit_type: &str, e: &PolicyError) -> Failure {
    Failure::usage(format!("[policy.{visit_type}] {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn credentials_are_by_lister_and_instance() {
        let config = Config::parse(
            r#"
            contact = "ops@archive.example"
            [[credentials.phorge."we.phorge.it"]]
            token = "one"
            [[credentials.phorge."we.phorge.it"]]
            username = "bot"
            password = "two"
            "#,
        )
        .unwrap_or_else(|e| panic!("{e}"));
        let env = |name: &str| (name == "LAMPLIGHTER_TOKEN_PHORGE").then(|| "three, four".to_owned());
        let shown: Vec<(Option<String>, String)> = config
            .secrets(&ListerKey::new("phorge", "we.phorge.it"), env)
            .into_iter()
            .map(|s| (s.user, s.secret.expose_secret().to_owned()))
            .collect();
        let expected = [(None, "one"), (Some("bot"), "two"), (None, "three"), (None, "four")];
        assert_eq!(shown, expected.map(|(u, s)| (u.map(str::to_owned), s.to_owned())));
        assert!(config.secrets(&ListerKey::new("phorge", "elsewhere"), |_| None).is_empty());
    }

    #[test]
    fn a_part_of_an_instance_has_the_credentials_of_the_whole_unless_it_has_its_own() {
        let config = Config::parse(
            r#"
            contact = "ops@archive.example"
            [[credentials.github.github]]
            token = "whole"
            [[credentials.github."github/org=own"]]
            token = "own"
            "#,
        )
        .unwrap_or_else(|e| panic!("{e}"));
        let shown = |instance: &str| -> Vec<String> {
            let secrets = config.secrets(&ListerKey::new("github", instance), |_| None);
            secrets.into_iter().map(|s| s.secret.expose_secret().to_owned()).collect()
        };
        assert_eq!(shown("github/org=other"), ["whole"]);
        assert_eq!(shown("github/org=own"), ["own"]);
        assert_eq!(shown("github"), ["whole"]);
        assert!(shown("else/org=own").is_empty());
    }

    #[test]
    fn policies_are_by_visit_type() {
        let config = Config::parse(
            r#"
            [policy.default]
            use = "oldest"
            [policy.git]
            use = "due"
            objective = "lag"
            budget = 1000
            [policy.pypi]
            use = "classic"
            already_visited_order_by_lag = 60
            origins_without_last_update = 40.5
            [requests]
            quota = 5
            [[max_age]]
            name = "releases"
            visit_type = "pypi"
            days = 0.5
            [[max_age]]
            name = "own"
            instance = "forge.example"
            days = 30
            "#,
        )
        .unwrap_or_else(|e| panic!("{e}"));
        let options = config.store_options().unwrap_or_else(|_| panic!("it is right"));
        assert_eq!(options.policies.of("hg").name(), "oldest");
        assert!(options.policies.of("git").form().starts_with("due,objective=lag"));
        let shares: Vec<f64> = options.policies.of("pypi").lanes().iter().map(|l| l.share).collect();
        assert_eq!(shares, [60.0, 40.5]);
        assert_eq!(options.quota, Some(Quota::new(5, Duration::from_secs(86_400))));
        let names: Vec<(&str, u64)> =
            options.max_ages.iter().map(|c| (c.name.as_str(), c.cap.as_secs())).collect();
        assert_eq!(names, [("releases", 43_200), ("own", 30 * 86_400)]);
    }

    #[test]
    fn a_wrong_policy_is_told_with_its_visit_type_and_why() {
        for (text, visit_type, why) in [
            ("[policy.git]\nuse = \"dew\"", "[policy.git]", "dew"),
            ("[policy.git]\nuse = \"due\"\nbduget = 1", "[policy.git]", "bduget"),
            (
                "[policy.hg]\nuse = \"classic\"\noldest_scheduled_first = 50\nalready_visited_order_by_lag = 50",
                "[policy.hg]",
                "takes every origin that the other orders of the mix take",
            ),
            (
                "[policy.hg]\nuse = \"classic\"\nfirst_visits_after_listing = 50\nstop_after_success = 50",
                "[policy.hg]",
                "the one order of a visit type",
            ),
            ("[[max_age]]\nname = \"x\"\ndays = 0", "max_age", "number of days"),
        ] {
            let config = Config::parse(text).unwrap_or_else(|e| panic!("{e}"));
            let Err(Failure::Usage(told)) = config.store_options() else { panic!("{text}") };
            assert!(told.contains(visit_type) && told.contains(why), "{told}");
        }
        assert!(Config::parse("[[max_age]]\nname = \"x\"").is_err());
    }

    #[test]
    fn a_problem_is_told_by_its_line_and_without_what_is_on_it() {
        for secret in ["[\"4711\"]", "4711", "\"4711", "{ x = 4711 }"] {
            let text = format!("contact = \"x\"\n[[credentials.github.github]]\ntoken = {secret}\n");
            let problem = Config::parse(&text).err().unwrap();
            assert!(problem.starts_with("3: "), "{problem}");
            assert!(!problem.contains("4711"), "{problem}");
        }
        let problem = Config::parse("contakt = 1\n").err().unwrap();
        assert!(problem.starts_with("1: ") && problem.contains("contakt"), "{problem}");
    }
}
