//! A part of an instance that is listed by itself: one organisation, user or group.

use crate::lister::{Arguments, ConfigError};
use crate::model::ListerKey;

/// One organisation, user or group. A scope has a key of its own, so that a run of it says nothing
/// of the rest of the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    kind: &'static str,
    name: String,
}

impl Scope {
    /// The scope of a kind (the name of its parameter) that is called so.
    pub(super) fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// The one that the arguments name, where they name one.
    ///
    /// # Errors
    /// [`ConfigError::Value`] where a name is empty, or there are two.
    pub(super) fn of(arguments: &Arguments, kinds: &[&'static str]) -> Result<Option<Self>, ConfigError> {
        let mut found: Option<Self> = None;
        for &kind in kinds {
            let Some(name) = arguments.text(kind) else { continue };
            let name = name.trim_matches('/');
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(arguments.wrong(kind, "must be a name"));
            }
            if let Some(other) = found {
                return Err(arguments.wrong(kind, format!("cannot go with {}=", other.kind)));
            }
            found = Some(Self::new(kind, name));
        }
        Ok(found)
    }

    /// Its kind: the name of its parameter.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The name of an instance, with the scope after it where only a part is listed.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    whole: String,
    scope: Option<Scope>,
    key: String,
}

impl Instance {
    pub(super) fn new(name: impl Into<String>) -> Self {
        let whole = name.into();
        Self { key: whole.clone(), whole, scope: None }
    }

    pub(super) fn rename(&mut self, name: impl Into<String>) {
        self.whole = name.into();
        self.update();
    }

    pub(super) fn narrow(&mut self, scope: Scope) {
        self.scope = Some(scope);
        self.update();
    }

    fn update(&mut self) {
        self.key = match &self.scope {
            // Forges do not tell the case of these names apart.
            Some(Scope { kind, name }) => ListerKey::scoped_instance(&self.whole, kind, &name.to_lowercase()),
            None => self.whole.clone(),
        };
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }
}
