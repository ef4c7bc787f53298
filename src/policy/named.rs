//! Policies by name, as configurations and commands give them.

use std::fmt;
use std::sync::Arc;

use super::{
    Classic, ClassicError, Due, DueOptions, Guard, Nutch, Objective, Oldest, Order, Policy, RoundRobin,
    UnknownOrder,
};

/// As they are listed for people.
const NAMES: &str = "due, swh_default, swh_dvcs, classic, nutch, round_robin, oldest";

/// A text that names no policy, or a policy with an option that it does not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No policy has this name.
    #[error("no policy is called {0:?}: there are {NAMES}")]
    Unknown(String),
    /// The policy has no such option.
    #[error("the policy {policy} has no option {key:?}: it has {known}")]
    Key {
        /// The policy.
        policy: String,
        /// What is no option of it.
        key: String,
        /// Those that it has.
        known: String,
    },
    /// The option is not written so.
    #[error("{key}={value}: {expected}")]
    Value {
        /// The option.
        key: String,
        /// What was given.
        value: String,
        /// What could be.
        expected: String,
    },
    /// An option of `classic` that is no order.
    #[error(transparent)]
    Order(#[from] UnknownOrder),
    /// Orders that cannot be mixed.
    #[error(transparent)]
    Mix(#[from] ClassicError),
}

/// A policy by its name and options: `oldest`, `due,objective=lag,budget=1000`,
/// `classic,already_visited_order_by_lag=60,origins_without_last_update=40`.
///
/// Those of `classic` are orders and their shares. Options of `due`: `objective` (`fresh`, `balanced`, `lag`), `budget` (visits a day), `guard`
/// (`rule`, `off` or a share), `theta`, `gamma`.
///
/// # Errors
/// [`PolicyError`], which names the policy, the option or the value that is none.
///
/// ```
/// use lamplighter::policy::{Policies, named};
/// let policies = Policies::all(named("due,objective=lag,budget=1000")?).with("hg", named("oldest")?);
/// assert!(named("due,objctive=lag").unwrap_err().to_string().contains("objctive"));
/// # Ok::<(), lamplighter::policy::PolicyError>(())
/// ```
pub fn named(text: &str) -> Result<Arc<dyn Policy>, PolicyError> {
    let mut parts = text.split(',').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let mut options = Vec::new();
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| invalid(part, "", "written as key=value"))?;
        options.push((key.trim(), value.trim()));
    }
    let policy: Arc<dyn Policy> = match name {
        "due" => return Ok(Arc::new(due(&options)?)),
        "classic" => return Ok(Arc::new(classic(&options)?)),
        "swh_default" => Arc::new(Classic::swh_default()),
        "swh_dvcs" => Arc::new(Classic::swh_dvcs()),
        "nutch" => Arc::new(Nutch),
        "round_robin" => Arc::new(RoundRobin),
        "oldest" => Arc::new(Oldest),
        _ => return Err(PolicyError::Unknown(name.to_owned())),
    };
    match options.first() {
        Some((key, _)) => Err(no_key(name, key, "none")),
        None => Ok(policy),
    }
}

fn classic(options: &[(&str, &str)]) -> Result<Classic, PolicyError> {
    let mut orders = Vec::new();
    for (key, value) in options {
        let share = value.parse().map_err(|_| invalid(key, value, "a share"))?;
        orders.push((key.parse::<Order>()?, share));
    }
    Ok(Classic::mix(orders)?)
}

fn no_key(policy: &str, key: &str, known: &str) -> PolicyError {
    PolicyError::Key { policy: policy.to_owned(), key: key.to_owned(), known: known.to_owned() }
}

fn invalid(key: &str, value: &str, expected: impl fmt::Display) -> PolicyError {
    PolicyError::Value { key: key.to_owned(), value: value.to_owned(), expected: expected.to_string() }
}

/// A number from `least` to `most`.
fn number(key: &str, value: &str, least: f64, most: f64) -> Result<f64, PolicyError> {
    let number = value.parse::<f64>().ok().filter(|n| n.is_finite() && (least..=most).contains(n));
    number.ok_or_else(|| invalid(key, value, format_args!("a number from {least} to {most}")))
}

fn due(options: &[(&str, &str)]) -> Result<Due, PolicyError> {
    let mut due = DueOptions::default();
    for (key, value) in options {
        match *key {
            "objective" => {
                due.objective = [Objective::Fresh, Objective::Balanced, Objective::Lag]
                    .into_iter()
                    .find(|o| o.as_str() == *value)
                    .ok_or_else(|| invalid(key, value, "fresh, balanced or lag"))?;
            }
            "budget" => due.budget = Some(number(key, value, 1e-3, 1e12)?),
            "guard" => {
                due.guard = match *value {
                    "rule" => Guard::Rule,
                    "off" => Guard::Off,
                    share => Guard::Share(number(key, share, 0.0, 0.95)?),
                }
            }
            "theta" => due.theta = number(key, value, 1e-3, 1e12)?,
            "gamma" => due.gamma = number(key, value, 0.0, 1.0)?,
            _ => return Err(no_key("due", key, "objective, budget, guard, theta, gamma")),
        }
    }
    Ok(Due::new(due))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_others_named() {
        let forms = [
            ("oldest", "oldest"),
            ("due", "due,objective=balanced,theta=4,gamma=0.27"),
            (" due , objective = lag , budget=7 ", "due,objective=lag,theta=4,gamma=0.27"),
            ("due,theta=1,gamma=0,guard=off", "due,objective=balanced,theta=1,gamma=0"),
        ];
        for (text, form) in forms {
            assert_eq!(named(text).unwrap().form(), form, "{text}");
        }
        for name in ["swh_default", "swh_dvcs", "nutch", "round_robin", "oldest", "due"] {
            assert_eq!(named(name).unwrap().name(), name);
        }
        let mix = named("classic, already_visited_order_by_lag=60,origins_without_last_update=40").unwrap();
        assert_eq!(mix.lanes().iter().map(|l| l.share).collect::<Vec<_>>(), [60.0, 40.0]);
        let wrong = [
            ("newest", "\"newest\""),
            ("", "\"\""),
            ("oldest,budget=1", "\"budget\""),
            ("nutch,interval=3", "interval"),
            ("nutch,interval", "interval"),
            ("classic", "at least one"),
            ("classic,newest=1", "stop_after_success"),
            ("classic,stop_after_success=much", "much"),
            ("classic,oldest_scheduled_first=1,stop_after_success=1", "every origin"),
            ("due,bduget=1", "\"bduget\""),
            ("due,budget=0", "budget=0"),
            ("due,budget=NaN", "budget=NaN"),
            ("due,guard=2", "guard=2"),
            ("due,objective=age", "objective=age"),
            ("due,theta", "theta"),
        ];
        for (text, named_in_error) in wrong {
            let error = named(text).unwrap_err().to_string();
            assert!(error.contains(named_in_error), "{text}: {error}");
        }
    }
}
