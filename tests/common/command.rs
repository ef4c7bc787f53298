//! Runs the built command in a folder.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its own part, and may fail")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use lamplighter::testing::Loopback;
use serde_json::Value;

pub(crate) const NOW: &str = "2026-03-01T12:00:00Z";

pub(crate) fn command(room: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lamplighter"));
    command.current_dir(room).env_remove("LAMPLIGHTER_STORE").args(args);
    command
}

pub(crate) fn run(room: &Path, args: &[&str]) -> Output {
    command(room, args).output().unwrap()
}

pub(crate) fn run_with(room: &Path, args: &[&str], input: &str) -> Output {
    let mut child = command(room, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub(crate) fn has_keys(value: &Value, keys: &str) {
    let there: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let missing: Vec<&str> = keys.split_whitespace().filter(|k| !there.contains(k)).collect();
    assert!(missing.is_empty(), "{missing:?} missing in {value}");
}

pub(crate) fn list_args(forge: &Loopback) -> Vec<String> {
    let url = format!("url={}", forge.url("/"));
    ["list", "pagure", &url, "per_page=2", "--json"].map(str::to_owned).to_vec()
}

pub(crate) fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}
