//! Policies by name, as a person asks for them.

use std::sync::Arc;

use crate::policy::{Classic, ClassicError, Nutch, Oldest, Order, Policy, RoundRobin, UnknownOrder};

/// Why a text names no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicySpecError {
    /// No policy has this name.
    #[error("no such policy: {0:?}; there are swh_default, swh_dvcs, classic, nutch, round_robin, oldest")]
    Unknown(String),
    /// The policy has no such setting.
    #[error("{policy} has no setting {key:?}")]
    Setting {
        /// The policy.
        policy: String,
        /// The setting.
        key: String,
    },
    /// A setting without a value, or with one that it cannot have.
    #[error("{key} cannot be {value:?}")]
    Value {
        /// The setting.
        key: String,
        /// What was given.
        value: String,
    },
    /// A setting of `classic` that is no order.
    #[error(transparent)]
    Order(#[from] UnknownOrder),
    /// Orders that cannot be mixed.
    #[error(transparent)]
    Mix(#[from] ClassicError),
}

/// A policy by its name and settings: `swh_default`,
/// `classic,already_visited_order_by_lag=60,origins_without_last_update=40`.
///
/// ```
/// use lamplighter::sim::policy_of;
/// assert_eq!(policy_of("swh_dvcs")?.name(), "swh_dvcs");
/// assert!(policy_of("swh_dvcs,share=1").is_err());
/// # Ok::<(), lamplighter::sim::PolicySpecError>(())
/// ```
///
/// # Errors
/// [`PolicySpecError`] where there is no such policy, it has no such setting, or a setting has no
/// such value.
pub fn policy_of(text: &str) -> Result<Arc<dyn Policy>, PolicySpecError> {
    let mut parts = text.split(',').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let mut settings = Vec::new();
    for part in parts {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| PolicySpecError::Value { key: part.to_owned(), value: String::new() })?;
        settings.push((key.trim(), value.trim()));
    }
    if name == "classic" {
        let mut orders = Vec::new();
        for (key, value) in settings {
            let share = value
                .parse()
                .map_err(|_| PolicySpecError::Value { key: key.to_owned(), value: value.to_owned() })?;
            orders.push((key.parse::<Order>()?, share));
        }
        return Ok(Arc::new(Classic::mix(orders)?));
    }
    let policy: Arc<dyn Policy> = match name {
        "swh_default" => Arc::new(Classic::swh_default()),
        "swh_dvcs" => Arc::new(Classic::swh_dvcs()),
        "nutch" => Arc::new(Nutch),
        "round_robin" => Arc::new(RoundRobin),
        "oldest" => Arc::new(Oldest),
        other => return Err(PolicySpecError::Unknown(other.to_owned())),
    };
    match settings.first() {
        Some((key, _)) => Err(PolicySpecError::Setting { policy: name.to_owned(), key: (*key).to_owned() }),
        None => Ok(policy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_named_with_its_settings_or_refused_in_words() {
        for name in ["swh_default", "swh_dvcs", "nutch", "round_robin", "oldest"] {
            assert_eq!(policy_of(name).unwrap().name(), name);
        }
        let mix =
            policy_of("classic, already_visited_order_by_lag=60,origins_without_last_update=40").unwrap();
        assert_eq!(mix.lanes().iter().map(|l| l.share).collect::<Vec<_>>(), [60.0, 40.0]);
        let refused = |text: &str, word: &str| {
            let e = policy_of(text).unwrap_err().to_string();
            assert!(e.contains(word), "{text}: {e}");
        };
        refused("best", "round_robin");
        refused("nutch,interval=3", "interval");
        refused("nutch,interval", "interval");
        refused("classic", "at least one");
        refused("classic,newest=1", "stop_after_success");
        refused("classic,stop_after_success=much", "much");
        refused("classic,oldest_scheduled_first=1,stop_after_success=1", "every origin");
    }
}
