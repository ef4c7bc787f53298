//! `import`: origins from elsewhere, as JSON lines or from another scheduler's database.

use std::fs::File;
use std::io::BufReader;

use lamplighter::backend::swh::{self, SwhError, SwhImported};
use lamplighter::backend::{Imported, ImportedOrigin};
use lamplighter::model::check_origin_url;
use serde_json::json;

use crate::args::ImportArgs;
use crate::context::Context;
use crate::failure::{Done, Failure, Result, chain};
use crate::lines::{BATCH, Lines, parse};
use crate::output::{count, note};

/// Bad lines that are told one by one.
const TOLD: usize = 20;

/// Progress is told after so many origins.
const TOLD_EVERY: u64 = 100_000;

pub(crate) async fn import(args: &ImportArgs, context: &mut Context) -> Result<Done> {
    match (&args.dsn, args.file.to_str()) {
        (Some(dsn), Some("swh")) => return import_swh(dsn, context).await,
        (Some(_), _) => return Err(Failure::usage("a database's address goes with swh: import swh DSN")),
        (None, _) => {}
    }
    let name = args.file.display().to_string();
    let cannot = |e: std::io::Error| Failure::usage(format!("{name} cannot be read: {e}"));
    let mut lines = if args.file.as_os_str() == "-" {
        Lines::of_standard_input()
    } else {
        Lines::new(BufReader::new(File::open(&args.file).map_err(cannot)?))
    };
    let store = context.store().await?;
    let mut imported = Imported::default();
    let mut bad: Vec<(u64, String)> = Vec::new();
    let mut refused = 0u64;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let line = lines.read().map_err(cannot)?;
        let end = line.is_none();
        if let Some((number, line)) = line {
            match read_line(line) {
                Ok(origin) => batch.push(origin),
                Err(problem) => {
                    refused += 1;
                    if bad.len() < TOLD {
                        note(format!("{name}:{number}: {problem}"));
                        bad.push((number, problem));
                    }
                }
            }
        }
        if batch.len() >= BATCH || (end && !batch.is_empty()) {
            // The time of the batch: a long import is longer than a store lets clocks differ.
            imported.add(store.import(std::mem::take(&mut batch), context.now()).await?);
        }
        if end {
            break;
        }
    }
    let number = lines.number();
    let untold = refused - bad.len() as u64;
    if untold > 0 {
        note(format!("and {} more", count(untold, "bad line")));
    }
    let refused = refused + imported.refused;
    if context.json {
        let told: Vec<_> = bad.iter().map(|(line, why)| json!({"line": line, "reason": why})).collect();
        context.out.json(&json!({
            "lines": number,
            "new": imported.new,
            "changed": imported.changed,
            "unchanged": imported.unchanged,
            "refused": refused,
            "refusals": told,
        }))?;
    } else {
        context.out.line(format!(
            "{}: {} new, {} changed, {} unchanged, {refused} refused",
            count(number, "line"),
            imported.new,
            imported.changed,
            imported.unchanged
        ))?;
    }
    Ok(Done::whole_if(refused == 0))
}

/// Brings everything of another scheduler's database.
async fn import_swh(dsn: &str, context: &mut Context) -> Result<Done> {
    let store = context.store().await?;
    let mut told = 0;
    let mut tell = |so_far: &SwhImported| {
        if so_far.origins >= told + TOLD_EVERY {
            told = so_far.origins;
            note(format!("{} so far", count(told, "origin")));
        }
    };
    let imported = swh::import(dsn, &*store, &*context.clock, &mut tell).await.map_err(|e| match e {
        SwhError::Store(e) => Failure::from(e),
        e => Failure::Usage(format!(
            "{}; what was read until then is kept, and the same command goes on",
            chain(&e)
        )),
    })?;
    for missing in &imported.missing {
        note(format!("not everything of {missing}"));
    }
    if context.json {
        let counts = imported.imported;
        context.out.json(&json!({
            "listers": imported.listers,
            "origins": imported.origins,
            "new": counts.new,
            "changed": counts.changed,
            "unchanged": counts.unchanged,
            "refused": counts.refused,
            "missing": imported.missing,
        }))?;
    } else {
        let counts = imported.imported;
        context.out.line(format!(
            "{}, {}: {} new, {} changed, {} unchanged, {} refused",
            count(imported.listers, "lister"),
            count(imported.origins, "origin"),
            counts.new,
            counts.changed,
            counts.unchanged,
            counts.refused
        ))?;
    }
    Ok(Done::whole_if(imported.missing.is_empty()))
}

/// The origin on a line.
fn read_line(line: &[u8]) -> Result<ImportedOrigin, String> {
    let origin: ImportedOrigin = parse(line)?;
    check_origin_url(&origin.url).map_err(|problem| problem.to_string())?;
    for (what, value) in [("lister", &origin.lister), ("instance", &origin.instance)] {
        if value.is_empty() {
            return Err(format!("the {what} is empty"));
        }
    }
    Ok(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_told_by_its_place() {
        let read = |text: &str| read_line(text.as_bytes());
        let good = r#"{"lister":"l","instance":"i","url":"https://h/r","visit_type":"git"}"#;
        assert_eq!(read(good).unwrap().url, "https://h/r");
        let mut lines = Lines::new(" \r\nx\n\n".as_bytes());
        assert_eq!(lines.read().unwrap(), Some((2, &b"x\n"[..])), "a blank line is none");
        assert_eq!(lines.read().unwrap(), None);
        assert_eq!(lines.number(), 3);
        for (line, problem) in [
            (good.replace("\"git\"", "\"G\""), "at visit_type: not a visit type"),
            (good.replace("https://h/r", "git@h:r"), "the URL has no host"),
            (good.replace("\"lister\":\"l\",", ""), "missing field `lister`"),
            (good.replace("\"l\"", "\"\""), "the lister is empty"),
            (format!("{good}{good}"), "more than one"),
            ("{".to_owned(), "EOF"),
            (good.replace('}', ",\"last_update\":\"2020-01-01\"}"), "at last_update: not a date"),
            (good.replace('}', ",\"visits\":{\"status\":\"gone\"}}"), "at visits.status: unknown variant"),
        ] {
            let found = read(&line).unwrap_err();
            assert!(found.contains(problem), "{line}: {found}");
        }
    }
}
