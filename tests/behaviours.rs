//! What the listers' documentation says of their behaviours: each is named with tests that exist.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The fewest that a lister worth its module has.
const FEWEST: usize = 5;

/// A section *Behaviours*: where its tests are, and of each behaviour the names of its tests.
#[derive(Debug, PartialEq)]
struct Section {
    tests: String,
    behaviours: Vec<Vec<String>>,
}

/// The section of a module's documentation; or what is wrong with it.
fn section(source: &str) -> Result<Section, String> {
    let docs =
        source.lines().map_while(|line| line.strip_prefix("//!")).map(|l| l.strip_prefix(' ').unwrap_or(l));
    let lines = docs.skip_while(|line| *line != "# Behaviours").skip(1).take_while(|l| !l.starts_with("# "));
    let (mut intro, mut items) = (String::new(), Vec::new());
    for line in lines {
        if let Some(item) = line.strip_prefix("- ") {
            items.push(item.to_owned());
            continue;
        }
        let of = items.last_mut().unwrap_or(&mut intro);
        of.push(' ');
        of.push_str(line.trim());
    }
    let tests = intro.split('`').find(|part| part.starts_with("tests/"));
    let tests = tests.ok_or("it does not say where its tests are (`tests/…`)")?.to_owned();
    let behaviours: Result<Vec<_>, _> = items.iter().map(|item| named(item.trim())).collect();
    Ok(Section { tests, behaviours: behaviours? })
}

/// The tests that a behaviour ends with: ``it does so: `this_test`, `that_test` ``.
fn named(item: &str) -> Result<Vec<String>, String> {
    let name = |quoted: &str| {
        let name = quoted.strip_prefix('`')?.strip_suffix('`')?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
    };
    let (_, names) = item.rsplit_once(": ").ok_or_else(|| format!("no test is named: {item}"))?;
    let names: Option<Vec<String>> = names.split(", ").map(name).collect();
    names.ok_or_else(|| format!("it does not end with the names of tests: {item}"))
}

/// The names of the test functions in a file of Rust.
fn tests_in(source: &str) -> BTreeSet<String> {
    let (mut names, mut marked) = (BTreeSet::new(), false);
    for line in source.lines().map(str::trim) {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some(function) = function.filter(|_| marked) {
            names.extend(function.split(['(', '<']).next().map(str::to_owned));
            marked = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            marked = false;
        }
    }
    names
}

/// The test functions in a file, or in the files of a folder.
fn tests_at(path: &Path) -> BTreeSet<String> {
    if !path.is_dir() {
        return tests_in(&fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    }
    fs::read_dir(path).unwrap().flat_map(|entry| tests_at(&entry.unwrap().path())).collect()
}

/// What is wrong with what a lister's documentation says, as sentences.
fn faults(source: &str, tests_at: impl Fn(&str) -> BTreeSet<String>) -> Vec<String> {
    let Section { tests, behaviours } = match section(source) {
        Ok(section) => section,
        Err(wrong) => return vec![wrong],
    };
    let existing = tests_at(&tests);
    let missing = behaviours.iter().flatten().filter(|name| !existing.contains(*name));
    let mut faults: Vec<String> = missing.map(|name| format!("no test {name} in {tests}")).collect();
    if behaviours.len() < FEWEST {
        faults.push(format!("{} behaviours, fewer than {FEWEST}", behaviours.len()));
    }
    faults
}

/// The modules of the catalogue's rows, with their sources.
fn listers() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/listers");
    let table = fs::read_to_string(folder.join("mod.rs")).unwrap();
    let modules: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.trim().split_once("::")?.1.ends_with("entry(),").then_some(line.trim()))
        .filter_map(|row| row.split("::").next())
        .collect();
    let read = |module: &str| {
        let (file, nested) = (folder.join(format!("{module}.rs")), folder.join(module).join("mod.rs"));
        fs::read_to_string(&file).or_else(|_| fs::read_to_string(&nested)).unwrap()
    };
    modules.into_iter().map(|module| (module.to_owned(), read(module))).collect()
}

#[test]
fn each_behaviour_of_a_lister_names_a_test_that_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let listers = listers();
    for known in ["cgit", "github", "pagure", "phabricator"] {
        assert!(listers.iter().any(|(name, _)| name == known), "{known} is not among {listers:?}");
    }
    let faults: Vec<String> = listers
        .iter()
        .flat_map(|(lister, source)| {
            faults(source, |path| tests_at(&root.join(path)))
                .into_iter()
                .map(move |f| format!("{lister}: {f}"))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_behaviour_of_the_transport_names_a_test_that_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for module in ["polite", "http"] {
        let source = fs::read_to_string(root.join(format!("src/transport/{module}.rs"))).unwrap();
        assert_eq!(faults(&source, |path| tests_at(&root.join(path))), [""; 0], "{module}");
    }
}

#[test]
fn documentation_that_names_no_test_or_a_missing_one_is_found() {
    let docs = |items: &str| {
        let items: Vec<String> = items.lines().map(|line| format!("//! {line}\n")).collect();
        format!(
            "//! A forge.\n//!\n//! # Behaviours\n//!\n//! Each in `tests/x.rs`:\n//!\n{}\nfn f() {{}}",
            items.concat()
        )
    };
    let check = |source: &str| {
        faults(source, |path| {
            assert_eq!(path, "tests/x.rs");
            ["a", "b_2", "c"].map(str::to_owned).into()
        })
    };
    let five = "- it: does `since`: `a`\n- it goes on:\n  `a`,\n  `b_2`\n- x: `a`\n- x: `b_2`\n- x: `c`";
    assert_eq!(check(&docs(five)), Vec::<String>::new());
    assert_eq!(check(&docs(&five.replace("`b_2`", "`b_3`"))), ["no test b_3 in tests/x.rs"; 2]);
    assert_eq!(check(&docs("- x: `a`")), ["1 behaviours, fewer than 5"]);
    assert_eq!(check(&docs(&format!("{five}\n- it does `since`"))), ["no test is named: it does `since`"]);
    let prose = check(&docs(&format!("{five}\n- it: `a`, by hand")));
    assert_eq!(prose, ["it does not end with the names of tests: it: `a`, by hand"]);
    let without = docs(five).replace("# Behaviours", "# Habits");
    assert_eq!(check(&without), ["it does not say where its tests are (`tests/…`)"]);
    // Another section, and the code, are not read.
    assert_eq!(check(&docs(&format!("{five}\n\n# Else\n\n- nothing"))), Vec::<String>::new());
}

#[test]
fn a_test_is_a_function_that_is_marked_as_one() {
    let source = "#[test]\nfn one() {}\nfn help() {}\n// fn said() {}\nproptest! {\n    /// Words.\n    #[test]\n    \
                  #[ignore]\n    // Why.\n    fn two(a: u8) {}\n}\n#[tokio::test(flavor = \"x\")]\nasync fn three() {}\n\
                  #[test]\nconst X: u8 = 1;\nfn after() {}";
    assert_eq!(tests_in(source), ["one", "three", "two"].map(str::to_owned).into());
}
