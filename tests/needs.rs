//! `lamplighter list NAME` without parameters works, or says exactly what it needs: giving that is enough.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use lamplighter::lister::{ConfigError, Entry, Mode, Parameter, ParameterKind, Registry, RunInfo};
use lamplighter::model::{JsonObject, Timestamp};
use serde_json::{Value, json};

/// The parameters that a message asks for by `name=`, the first of them first.
fn asked_for(entry: &Entry, message: &str) -> Vec<Parameter> {
    let named: Vec<&str> = message
        .match_indices('=')
        .filter_map(|(at, _)| {
            message.get(..at)?.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
        })
        .filter(|name| !name.is_empty())
        .collect();
    named.iter().filter_map(|name| entry.all_parameters().find(|p| p.name == *name)).collect()
}

/// What a person may give for it.
fn sample(lister: &str, parameter: &Parameter) -> Value {
    match (lister, parameter.name, parameter.kind) {
        ("rpm", "rpm_src_data", _) => json!([{
            "base_url": "https://rpm.example/", "releases": ["41"], "components": ["Everything"],
            "index_url_templates": ["$base_url/$release/$component/source/tree/"],
        }]),
        ("sourcehut", "user", _) => json!("~ada"),
        ("nixguix", "origin_upstream", _) => json!("https://forge.example/nixpkgs"),
        (_, _, ParameterKind::Url) => json!("https://forge.example/"),
        (_, "instance", _) => json!("forge.example"),
        (_, _, ParameterKind::Integer) => json!(7),
        (_, _, ParameterKind::Boolean) => json!(true),
        (_, _, ParameterKind::Json) => json!(["x"]),
        _ => json!("some"),
    }
}

#[test]
fn every_lister_starts_without_parameters_or_says_what_it_needs() {
    let run = RunInfo::new(Timestamp::EPOCH, Mode::Full);
    let (mut at_once, mut told) = (0, 0);
    for entry in Registry::builtin().entries() {
        let mut given = JsonObject::new();
        let built = loop {
            match entry.build(&given) {
                Ok(built) => break built,
                Err(e @ ConfigError::Missing { .. }) => {
                    let message = e.to_string();
                    assert!(message.starts_with(&format!("{} needs ", entry.name)), "{message}");
                    let asked = asked_for(entry, &message);
                    let next = asked.iter().find(|p| !given.contains_key(p.name));
                    let next =
                        next.unwrap_or_else(|| panic!("{}: {message:?} names no parameter", entry.name));
                    given.insert(next.name.to_owned(), sample(entry.name, next));
                }
                Err(e) => panic!("{} with {given:?}: {e}", entry.name),
            }
        };
        if given.is_empty() {
            at_once += 1;
        } else {
            told += 1;
        }
        let cursors = built.source.start(&run).unwrap();
        assert!(!cursors.is_empty(), "{} starts nowhere", entry.name);
        for cursor in cursors {
            built.source.request(&cursor).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
        }
        // What it cannot do without, and is no parameter, is said before it starts.
        if let Some(what) = entry.credential {
            let message = entry.check_credentials(0).unwrap_err().to_string();
            assert!(message.contains(what) && message.contains(entry.name), "{message}");
        }
    }
    // Both happen: else it shows nothing.
    assert!(at_once > 5 && told > 5, "{at_once} start at once, {told} ask");
}
