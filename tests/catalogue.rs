//! `docs/listers.md` has a table of all listers, made of the registry, their modules' documentation, their fixtures and the
//! declared deviations. This test holds it current; with `LAMPLIGHTER_WRITE=1` it writes it.
#![cfg(all(feature = "cli", feature = "testing"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use lamplighter::lister::{Entry, Fact, Registry};
use serde_json::Value;

const BEGINS: &str = "<!-- made by tests/catalogue.rs: begins -->\n";
const ENDS: &str = "<!-- made by tests/catalogue.rs: ends -->\n";

/// Parameters that narrow a listing to a part of an instance.
const SCOPES: [&str; 6] = ["group", "org", "prefix", "project", "user", "workspace"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn module(lister: &str) -> String {
    let of = match lister {
        "forgejo" | "gogs" => "gitea",
        "heptapod" => "gitlab",
        "phorge" => "phabricator",
        own => own,
    };
    let folder = root().join("src/listers");
    let file = folder.join(format!("{of}.rs"));
    fs::read_to_string(file).or_else(|_| fs::read_to_string(folder.join(of).join("mod.rs"))).unwrap()
}

/// What a module's documentation says behind `- **NAME**:`, on one line.
fn said(source: &str, name: &str) -> Option<String> {
    let begins = format!("//! - **{name}**:");
    let mut lines = source.lines().skip_while(|line| !line.starts_with(&begins));
    let first = lines.next()?.strip_prefix(&begins)?.trim().to_owned();
    let more = lines.map_while(|line| line.strip_prefix("//!   ")).map(str::trim);
    Some(std::iter::once(first.as_str()).chain(more).collect::<Vec<_>>().join(" "))
}

/// How many fixtures were recorded of a server, and how many made by hand.
fn fixtures(lister: &str) -> String {
    let (mut recorded, mut by_hand) = (0, 0);
    for folder in fs::read_dir(root().join("fixtures").join(lister)).unwrap() {
        let manifest: Value =
            serde_json::from_slice(&fs::read(folder.unwrap().path().join("fixture.json")).unwrap()).unwrap();
        let about = manifest["about"].as_str().unwrap();
        *if about.starts_with("recorded") { &mut recorded } else { &mut by_hand } += 1;
    }
    match (recorded, by_hand) {
        (0, n) => format!("{n} by hand"),
        (n, 0) => format!("{n} recorded"),
        (n, m) => format!("{n} recorded, {m} by hand"),
    }
}

fn fact(of: Fact) -> &'static str {
    match of {
        Fact::Fork => "fork",
        Fact::Archived => "archived",
        Fact::Mirror => "mirror",
        Fact::Empty => "empty",
        _ => panic!("a fact without a word"),
    }
}

fn row(entry: &Entry, deviations: &BTreeMap<String, Value>) -> String {
    let scopes: Vec<&str> =
        SCOPES.into_iter().filter(|s| entry.parameters.iter().any(|p| p.name == *s)).collect();
    let facts: Vec<&str> = entry.facts.iter().map(|of| fact(*of)).collect();
    let types: Vec<String> = entry.visit_types.iter().map(|of| format!("`{of}`")).collect();
    let cost = said(&module(entry.name), "Cost").expect("its module says what it costs");
    let ours = format!("{}/", entry.name);
    let mut differs: Vec<&str> = deviations
        .iter()
        .filter(|(case, _)| case.starts_with(&ours))
        .map(|(_, of)| of["reason"].as_str().unwrap())
        .collect();
    differs.sort_unstable();
    differs.dedup();
    let cells = [
        format!("`{}`", entry.name),
        entry.upstream.to_owned(),
        types.join(", "),
        if entry.incremental { "yes" } else { "" }.to_owned(),
        scopes.iter().map(|s| format!("`{s}`")).collect::<Vec<_>>().join(", "),
        facts.join(", "),
        cost,
        fixtures(entry.name),
        differs.join(" "),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

fn table() -> String {
    let deviations = fs::read(root().join("tests/conformance/deviations.json")).unwrap();
    let deviations: BTreeMap<String, Value> = serde_json::from_slice(&deviations).unwrap();
    let mut table = String::new();
    let head = [
        "lister",
        "upstream",
        "visit types",
        "incremental",
        "scopes",
        "facts",
        "requests",
        "fixtures",
        "differs from swh",
    ];
    writeln!(table, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len())).unwrap();
    for entry in Registry::builtin().entries() {
        table.push_str(&row(entry, &deviations));
    }
    table
}

fn written(path: &Path) -> (String, String, String) {
    let text = fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(BEGINS).expect("the table's beginning is marked");
    let (inside, after) = rest.split_once(ENDS).expect("the table's end is marked");
    (before.to_owned(), inside.to_owned(), after.to_owned())
}

#[test]
fn the_table_of_listers_is_current() {
    let path = root().join("docs/listers.md");
    let (before, inside, after) = written(&path);
    let table = table();
    if std::env::var_os("LAMPLIGHTER_WRITE").is_some() {
        fs::write(&path, format!("{before}{BEGINS}{table}{ENDS}{after}")).unwrap();
        return;
    }
    assert!(inside == table, "docs/listers.md is not current: LAMPLIGHTER_WRITE=1 writes its table\n{table}");
}

#[test]
fn what_a_module_says_of_its_cost_is_read_to_its_end() {
    let source = "//! - **State**: none.\n//! - **Cost**: a request,\n//!   and one more.\n//! - **Origins**: x\n//!   y\n";
    assert_eq!(said(source, "Cost").as_deref(), Some("a request, and one more."));
    assert_eq!(said(source, "Order"), None);
    // Each of the catalogue that has the line has more than a word in it.
    let registry = Registry::builtin();
    let told = registry
        .entries()
        .iter()
        .filter(|e| said(&module(e.name), "Cost").is_some_and(|cost| cost.len() > 5));
    assert_eq!(told.count(), registry.entries().len());
}
