//! What is shown of origins, visits and counts: the same over HTTP and by the command.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::backend::{Change, Explanation, Metrics, Visit};
use crate::model::{ListedOrigin, ListerKey, Timestamp};

/// A visit to make: the reason is a word that does not change, `why` the sentence.
#[must_use]
pub fn visit(v: &Visit) -> Value {
    json!({
        "visit": v.visit,
        "token": v.token,
        "url": v.url,
        "visit_type": v.visit_type,
        "lister": v.lister,
        "instance": v.instance,
        "arguments": v.arguments,
        "due": v.due,
        "lane": v.lane,
        "reason": v.reason.code,
        "why": v.reason.text,
        "deadline": v.deadline,
    })
}

/// An origin as a lister lists it.
#[must_use]
pub fn origin(lister: &ListerKey, o: &ListedOrigin) -> Value {
    json!({
        "lister": lister.name,
        "instance": lister.instance,
        "url": o.url,
        "former_urls": o.former_urls,
        "visit_type": o.visit_type,
        "last_update": o.last_update,
        "enabled": o.enabled,
        "is_fork": o.is_fork,
        "forked_from_url": o.forked_from_url,
        "forge_id": o.forge_id,
        "archived": o.archived,
        "mirror": o.mirror,
        "empty": o.empty,
        "extra_loader_arguments": o.extra_loader_arguments,
        "first_seen": o.first_seen,
        "last_seen": o.last_seen,
        "gone": o.gone,
        "disabled_by_failures": o.disabled_by_failures,
        "disabled_by_hand": o.disabled_by_hand,
    })
}

/// An explanation, with the gate that holds: the first closed one.
#[must_use]
pub fn explanation(explained: &Explanation, now: Timestamp) -> Value {
    json!({
        "url": explained.origin.url,
        "visit_type": explained.origin.visit_type,
        "now": now,
        "gates": explained.gates,
        "holds": explained.gates.iter().find(|g| !g.open).map(|g| g.gate),
        "lane": explained.lane,
        "reason": explained.reason.code,
        "why": explained.reason.text,
        "ahead": explained.ahead,
        "earliest": explained.earliest,
        "turn": explained.turn,
        "must_by": explained.must_by,
        "lease": explained.lease,
        "requested_by": explained.requested_by,
        "visits": explained.visits,
    })
}

/// A change of the feed.
#[must_use]
pub fn change(c: &Change) -> Value {
    json!({
        "token": c.token,
        "at": c.at,
        "kind": c.kind,
        "lister": c.lister,
        "instance": c.instance,
        "url": c.url,
        "old_url": c.old_url,
        "visit_type": c.visit_type,
    })
}

/// A gauge: its name, what it tells, and its value where there is one.
type Gauge = (&'static str, &'static str, fn(&Metrics) -> Option<i64>);

/// The text format that Prometheus scrapes.
///
/// ```
/// use lamplighter::backend::Metrics;
/// use lamplighter::dispatch::http::prometheus;
/// use lamplighter::model::{ListerKey, VisitType};
/// let counts = Metrics::new(&ListerKey::new("gitea", "forge.example"), VisitType::git());
/// let line = r#"lamplighter_origins_known{lister="gitea",instance="forge.example",visit_type="git"} 0"#;
/// assert!(prometheus(&[counts]).contains(line));
/// ```
#[must_use]
pub fn prometheus(metrics: &[Metrics]) -> String {
    let gauges: [Gauge; 7] = [
        ("known", "Origins listed, gone ones among them.", |m| i64::try_from(m.known).ok()),
        ("enabled", "Origins that wait for visits.", |m| i64::try_from(m.enabled).ok()),
        ("never_visited", "Of the enabled, those never visited.", |m| i64::try_from(m.never_visited).ok()),
        ("pending_changes", "Of the enabled, those changed upstream since the last successful visit.", |m| {
            i64::try_from(m.pending_changes).ok()
        }),
        ("leased", "Origins being visited.", |m| i64::try_from(m.leased).ok()),
        ("overdue", "Enabled origins whose time has come.", |m| i64::try_from(m.overdue).ok()),
        ("oldest_visit_timestamp_seconds", "The oldest last visit of an enabled, visited origin.", |m| {
            m.oldest_visit.map(Timestamp::as_seconds)
        }),
    ];
    let mut text = String::new();
    for (name, help, value) in gauges {
        let mut lines = String::new();
        for m in metrics {
            if let Some(value) = value(m) {
                let labels = [m.lister.as_str(), m.instance.as_str(), m.visit_type.as_str()].map(label);
                let [lister, instance, visit_type] = labels;
                // Writing to a String does not fail.
                let _ = writeln!(
                    lines,
                    "lamplighter_origins_{name}{{lister=\"{lister}\",instance=\"{instance}\",visit_type=\"{visit_type}\"}} {value}"
                );
            }
        }
        let _ = write!(
            text,
            "# HELP lamplighter_origins_{name} {help}\n# TYPE lamplighter_origins_{name} gauge\n{lines}"
        );
    }
    text
}

fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_out() {
        assert_eq!(label("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
