//! The TOML configuration, and the tokens that come from the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lamplighter::lister::Secret;
use lamplighter::model::ListerKey;
use serde::Deserialize;

use crate::failure::{Failure, Result, one_line};

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
    /// By lister, then instance.
    credentials: BTreeMap<String, BTreeMap<String, Vec<Credential>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    username: Option<String>,
    #[serde(alias = "token")]
    password: String,
}

impl Config {
    /// Reads a file; nothing is configured without one.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).map_err(|e| {
            Failure::usage(format!("the configuration {} cannot be read: {e}", path.display()))
        })?;
        Self::parse(&text).map_err(|problem| Failure::usage(format!("{}:{problem}", path.display())))
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
