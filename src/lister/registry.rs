//! The catalogue: names, described parameters, and how a lister is made from arguments.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use url::Url;

use super::{ConfigError, Fact, Filters, PageSource};
use crate::model::JsonObject;
use crate::transport::Secret;

/// The type of a parameter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParameterKind {
    /// Any text.
    Text,
    /// An absolute http or https URL.
    Url,
    /// A whole number, not negative.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list or an object: as JSON, or as a text that is JSON.
    Json,
    /// `include`, `exclude` or `only`: what to do with origins of a kind.
    Filter,
    /// A secret: goes to the transport, never into a lister, a log or a store.
    Secret,
}

impl ParameterKind {
    /// As in JSON: `text`, `url`, `integer`, `boolean`, `json`, `filter`, `secret`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Url => "url",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Json => "json",
            Self::Filter => "filter",
            Self::Secret => "secret",
        }
    }
}

/// A parameter of a lister.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name: swh's where the meaning is the same.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ParameterKind,
    /// Its default, where there is one.
    pub default: Option<&'static str>,
    /// Whether it must be given.
    pub required: bool,
    /// What it means, in a sentence.
    pub about: &'static str,
}

impl Parameter {
    /// An optional parameter without a default.
    #[must_use]
    pub const fn optional(name: &'static str, kind: ParameterKind, about: &'static str) -> Self {
        Self { name, kind, default: None, required: false, about }
    }

    /// A parameter that must be given.
    #[must_use]
    pub const fn required(name: &'static str, kind: ParameterKind, about: &'static str) -> Self {
        Self { name, kind, default: None, required: true, about }
    }

    /// A parameter with a default.
    #[must_use]
    pub const fn with_default(
        name: &'static str,
        kind: ParameterKind,
        default: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, kind, default: Some(default), required: false, about }
    }
}

/// A lister's arguments, checked against its parameters. Holds no secret.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    lister: String,
    values: JsonObject,
}

impl Arguments {
    /// The text of a parameter, where it was given or has a default.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(Value::as_str)
    }

    /// The URL of a parameter.
    #[must_use]
    pub fn url(&self, name: &str) -> Option<Url> {
        self.text(name).and_then(|t| Url::parse(t).ok())
    }

    /// The URL of a parameter that has to be given.
    pub(crate) fn required_url(&self, name: &str) -> Result<Url, ConfigError> {
        self.url(name).ok_or_else(|| self.missing(format!("{name}=")))
    }

    /// The list or object of a parameter.
    #[must_use]
    pub fn json(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The texts of a parameter that has commas between them.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let all = self.text(name).unwrap_or_default().split(',').map(str::trim);
        all.filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    /// The number of a parameter.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<u64> {
        self.values.get(name).and_then(Value::as_u64)
    }

    /// The truth of a parameter; false where it was not given and has no default.
    #[must_use]
    pub fn boolean(&self, name: &str) -> bool {
        self.values.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// What was given, defaults included: the identity of a run's parameters.
    #[must_use]
    pub fn as_json(&self) -> &JsonObject {
        &self.values
    }

    /// The lister they are for.
    #[must_use]
    pub fn lister(&self) -> &str {
        &self.lister
    }

    /// An error that says what is missing.
    pub fn missing(&self, what: impl Into<String>) -> ConfigError {
        ConfigError::Missing { lister: self.lister.clone(), what: what.into() }
    }

    /// An error that says what is wrong with a value.
    pub fn wrong(&self, name: impl Into<String>, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value { name: name.into(), problem: problem.into() }
    }
}

/// Base URL and instance name of a lister that takes `url` or `instance`: `url` wins, without it
/// the base is `https://{instance}`; without `instance` it is the URL's host and port.
///
/// # Errors
/// [`ConfigError::Missing`] without either, [`ConfigError::Value`] when `instance` is no host
/// and there is no `url`.
pub fn base_url(arguments: &Arguments) -> Result<(Url, String), ConfigError> {
    let instance = arguments.text("instance").map(str::to_owned);
    let url = match (arguments.url("url"), &instance) {
        (Some(url), _) => url,
        (None, Some(host)) => {
            // A host, and a port where it is another one: nothing of a URL besides.
            let bare = |u: &Url| u.host_str().is_some() && u[url::Position::AfterPort..] == *"/";
            Url::parse(&format!("https://{host}/"))
                .ok()
                .filter(|u| bare(u) && !has_user(u) && !host.contains(['/', '\\', '?', '#']))
                .ok_or_else(|| {
                    arguments.wrong(
                        "instance",
                        "must be a host, without a scheme or a path, where there is no url",
                    )
                })?
        }
        (None, None) => return Err(arguments.missing("url= (the base URL) or instance= (its host)")),
    };
    let instance = instance.unwrap_or_else(|| location(&url));
    Ok((url, instance))
}

/// Whether a URL names a user, or holds a secret.
fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Host, and port where it is not the scheme's own: the usual name of an instance.
pub(crate) fn location(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A lister made from arguments, with what the transport needs to know.
#[non_exhaustive]
pub struct Built {
    /// The lister.
    pub source: Arc<dyn PageSource>,
    /// Secrets that came as arguments.
    pub secrets: Vec<Secret>,
    /// The arguments, defaults included, secrets left out.
    pub parameters: JsonObject,
    /// Which of the listed origins are wanted: for the options of a run. The arguments say it too.
    pub filters: Filters,
    /// Base URLs that the configuration names: they may be private, and secrets go to their hosts.
    pub bases: Vec<Url>,
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built")
            .field("lister", &self.source.key())
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// One row of the catalogue.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Entry {
    /// The lister's name.
    pub name: &'static str,
    /// What it lists.
    pub upstream: &'static str,
    /// The visit types of its origins.
    pub visit_types: &'static [&'static str],
    /// Whether it remembers where it was.
    pub incremental: bool,
    /// Its own parameters; those of its filters come with [`Entry::all_parameters`].
    pub parameters: &'static [Parameter],
    /// What its forge tells of the origins: for each of these it has a filter.
    pub facts: &'static [Fact],
    /// The query or form fields by which it says where it is: a replay finds an answer by them.
    pub positions: &'static [&'static str],
    /// Where a base URL comes from that is not an argument.
    pub default_base: Option<&'static str>,
    /// What credential it cannot do without, where there is one.
    pub credential: Option<&'static str>,
    /// Makes it.
    pub build: fn(&Arguments) -> Result<Arc<dyn PageSource>, ConfigError>,
}

impl Entry {
    /// A stateless lister without parameters; set the rest by the fields.
    #[must_use]
    pub const fn new(
        name: &'static str,
        upstream: &'static str,
        build: fn(&Arguments) -> Result<Arc<dyn PageSource>, ConfigError>,
    ) -> Self {
        Self {
            name,
            upstream,
            visit_types: &["git"],
            incremental: false,
            parameters: &[],
            facts: &[],
            positions: &[],
            default_base: None,
            credential: None,
            build,
        }
    }

    /// Says which visit types its origins have.
    #[must_use]
    pub const fn visiting(mut self, visit_types: &'static [&'static str]) -> Self {
        self.visit_types = visit_types;
        self
    }

    /// Says that it remembers where it was.
    #[must_use]
    pub const fn incremental(mut self) -> Self {
        self.incremental = true;
        self
    }

    /// Gives its parameters.
    #[must_use]
    pub const fn with_parameters(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    /// Says which facts its forge tells, in some of its answers at least: it gets a parameter for each
    /// (`forks`, `archived`, `mirrors`, `empty`), and origins are left out by them.
    #[must_use]
    pub const fn telling(mut self, facts: &'static [Fact]) -> Self {
        self.facts = facts;
        self
    }

    /// Its own parameters, and those of its filters.
    pub fn all_parameters(&self) -> impl Iterator<Item = Parameter> + use<> {
        self.parameters.iter().copied().chain(self.facts.iter().map(|fact| fact.parameter()))
    }

    /// Gives the fields by which it says where it is.
    #[must_use]
    pub const fn with_positions(mut self, positions: &'static [&'static str]) -> Self {
        self.positions = positions;
        self
    }

    /// Gives the base URL that it has when no argument says another.
    #[must_use]
    pub const fn with_default_base(mut self, base: &'static str) -> Self {
        self.default_base = Some(base);
        self
    }

    /// Says which credential it cannot do without, and where that comes from.
    #[must_use]
    pub const fn with_credential(mut self, what: &'static str) -> Self {
        self.credential = Some(what);
        self
    }

    /// Checks that there is a credential, where the lister cannot do without: `known` of them, from
    /// [`Built::secrets`] and the configuration together.
    ///
    /// # Errors
    /// [`ConfigError::Missing`], saying which one and where it is set.
    pub fn check_credentials(&self, known: usize) -> Result<(), ConfigError> {
        match self.credential {
            Some(what) if known == 0 => {
                Err(ConfigError::Missing { lister: self.name.to_owned(), what: what.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Makes the lister from arguments: texts as on a command line, or JSON values of their type.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the argument, and the nearest name for an unknown one.
    pub fn build(&self, given: &JsonObject) -> Result<Built, ConfigError> {
        let mut arguments = Arguments { lister: self.name.to_owned(), values: JsonObject::new() };
        let mut secrets = Vec::new();
        let mut given = given.clone();
        given.retain(|_, value| !value.is_null());
        let filters = Filters::take(self, &mut given)?;
        for (name, value) in &given {
            let Some(parameter) = self.all_parameters().find(|p| p.name == name) else {
                return Err(ConfigError::UnknownParameter {
                    lister: self.name.to_owned(),
                    name: name.clone(),
                    nearest: nearest(name, self.all_parameters().map(|p| p.name)),
                });
            };
            let value = typed(&parameter, value)?;
            if parameter.kind == ParameterKind::Secret {
                secrets.push(Secret::token(value.as_str().unwrap_or_default()));
            } else {
                arguments.values.insert(name.clone(), value);
            }
        }
        for parameter in self.parameters {
            let known = given.contains_key(parameter.name);
            if let (false, Some(default)) = (known, parameter.default) {
                let value = typed(parameter, &Value::from(default))?;
                arguments.values.insert(parameter.name.to_owned(), value);
            } else if !known && parameter.required {
                return Err(arguments.missing(format!("{}= ({})", parameter.name, parameter.about)));
            }
        }
        let source = (self.build)(&arguments)?;
        let given_bases = self
            .parameters
            .iter()
            .filter(|p| p.kind == ParameterKind::Url)
            .filter_map(|p| arguments.url(p.name));
        let instance_base = base_url(&arguments).ok().map(|(url, _)| url);
        let bases = given_bases
            .chain(instance_base)
            .chain(self.default_base.and_then(|b| Url::parse(b).ok()))
            .collect();
        Ok(Built { source, secrets, parameters: arguments.values, filters, bases })
    }
}

/// The longest text of a parameter, in bytes.
const LONGEST: usize = 1024;

fn typed(parameter: &Parameter, value: &Value) -> Result<Value, ConfigError> {
    let wrong =
        |problem: &str| ConfigError::Value { name: parameter.name.to_owned(), problem: problem.to_owned() };
    let text = value.as_str();
    match parameter.kind {
        // It may become a part of a name that is stored, shown and put into URLs.
        ParameterKind::Text if text.is_some_and(|t| t.chars().any(char::is_control)) => {
            Err(wrong("must be a text without control characters"))
        }
        ParameterKind::Text if text.is_some_and(|t| t.len() > LONGEST) => {
            Err(wrong("is too long: over 1024 bytes"))
        }
        ParameterKind::Text | ParameterKind::Filter | ParameterKind::Secret => match value {
            Value::String(_) => Ok(value.clone()),
            Value::Number(n) => Ok(Value::from(n.to_string())),
            Value::Bool(b) => Ok(Value::from(b.to_string())),
            _ => Err(wrong("must be a text")),
        },
        // A URL is shown; a secret is not.
        ParameterKind::Url if text.and_then(|t| Url::parse(t).ok()).is_some_and(|u| has_user(&u)) => {
            Err(wrong("may not hold a user or a password: they are credentials"))
        }
        ParameterKind::Url => text
            .filter(|t| {
                Url::parse(t).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some())
            })
            .map(Value::from)
            .ok_or_else(|| wrong("must be an http or https URL, such as https://forge.example/")),
        ParameterKind::Integer => value
            .as_u64()
            .or_else(|| text.and_then(|t| t.parse().ok()))
            .map(Value::from)
            .ok_or_else(|| wrong("must be a whole number, not negative")),
        ParameterKind::Boolean => value
            .as_bool()
            .or_else(|| text.and_then(|t| t.to_ascii_lowercase().parse().ok()))
            .map(Value::from)
            .ok_or_else(|| wrong("must be true or false")),
        ParameterKind::Json => text
            .map_or_else(|| Some(value.clone()), |t| serde_json::from_str(t).ok())
            .filter(|v| v.is_array() || v.is_object())
            .ok_or_else(|| wrong("must be a list or an object, in JSON")),
    }
}

/// A table of listers.
///
/// ```
/// use lamplighter::lister::{ConfigError, Registry};
/// let registry = Registry::builtin();
/// let error = registry.build("githab", &Default::default()).unwrap_err();
/// assert_eq!(error.to_string(), "unknown lister \"githab\" (did you mean \"github\"?)");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

impl Registry {
    /// A table of these listers, in the order of their names.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        entries.sort_by_key(|e| e.name);
        Self { entries }
    }

    /// All the listers of this crate (that its features bring).
    #[must_use]
    pub fn builtin() -> Self {
        Self::new(crate::listers::entries())
    }

    /// The listers, in the order of their names.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A lister's row.
    ///
    /// # Errors
    /// [`ConfigError::UnknownLister`] with the nearest name.
    pub fn entry(&self, name: &str) -> Result<&Entry, ConfigError> {
        self.entries.iter().find(|e| e.name == name).ok_or_else(|| ConfigError::UnknownLister {
            name: name.to_owned(),
            nearest: nearest(name, self.entries.iter().map(|e| e.name)),
        })
    }

    /// Makes a lister from arguments.
    ///
    /// # Errors
    /// As [`Registry::entry`] and [`Entry::build`].
    pub fn build(&self, name: &str, arguments: &JsonObject) -> Result<Built, ConfigError> {
        self.entry(name)?.build(arguments)
    }
}

/// The name that shares most with the given one, if it is near at all.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let (distance, best) = names.map(|n| (edits(name, n), n)).min()?;
    (distance <= 1 + name.len() / 3).then(|| best.to_owned())
}

/// Levenshtein's distance, in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut before = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(b.bytes()) {
            let here = (before + usize::from(ca != cb)).min(left + 1).min(*cell + 1);
            before = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("github", "githab"), 1);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("same", "same"), 0);
    }

    const PARAMETERS: &[Parameter] = &[
        Parameter::optional("url", ParameterKind::Url, "base"),
        Parameter::optional("instance", ParameterKind::Text, "host"),
        Parameter::with_default("per_page", ParameterKind::Integer, "100", "size"),
        Parameter::optional("token", ParameterKind::Secret, "token"),
    ];

    fn build(given: &serde_json::Value) -> Result<(Arguments, Vec<Secret>), ConfigError> {
        fn refuse(a: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
            base_url(a)
                .and_then(|(url, instance)| Err(a.wrong(instance, format!("{url} {}", a.as_json().len()))))
        }
        let entry = Entry::new("x", "x", refuse).with_parameters(PARAMETERS);
        entry.build(given.as_object().unwrap()).map(|_| unreachable!())
    }

    #[test]
    fn arguments_are_checked_and_defaults_filled_in() {
        let said = |given: serde_json::Value| build(&given).unwrap_err().to_string();
        assert_eq!(
            said(serde_json::json!({"ulr": "x"})),
            "x has no parameter \"ulr\" (did you mean \"url\"?)"
        );
        assert_eq!(
            said(serde_json::json!({"per_page": "many"})),
            "per_page: must be a whole number, not negative"
        );
        assert_eq!(
            said(serde_json::json!({"url": "ftp://h/"})),
            "url: must be an http or https URL, such as https://forge.example/"
        );
        assert_eq!(said(serde_json::json!({})), "x needs url= (the base URL) or instance= (its host)");
        assert_eq!(
            said(serde_json::json!({"instance": "https://h"})),
            "instance: must be a host, without a scheme or a path, where there is no url"
        );
        for hostile in ["h/../etc", "user:pw@h", "u@h", "h?a=b", "h#f", "h\\x", "h:99999", "[::1", "a b", ""]
        {
            let error = said(serde_json::json!({ "instance": hostile }));
            assert!(
                error.starts_with("instance: must be a host") && !error.contains("pw"),
                "{hostile}: {error}"
            );
        }
        for hostile in ["h\n", "h\0", "\u{1b}[31mh", "h\r\nX: y"] {
            for url in [serde_json::Value::Null, "https://h".into()] {
                let mut given = serde_json::json!({ "instance": hostile, "url": url });
                given.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                let error = said(given);
                assert_eq!(error, "instance: must be a text without control characters");
            }
        }
        let long = said(serde_json::json!({ "instance": "h".repeat(1025) }));
        assert_eq!(long, "instance: is too long: over 1024 bytes");
        assert_eq!(
            said(serde_json::json!({"url": "https://ann:s3cret@h/"})),
            "url: may not hold a user or a password: they are credentials"
        );
        assert_eq!(said(serde_json::json!({"instance": "h:81"})), "h:81: https://h:81/ 2");
        // The instance is the host and port; the secret is not among the arguments; the default is.
        assert_eq!(said(serde_json::json!({"url": "http://h:81/b", "token": "s"})), "h:81: http://h:81/b 2");
        assert_eq!(said(serde_json::json!({"instance": "h", "per_page": "7"})), "h: https://h/ 2");
    }
}
