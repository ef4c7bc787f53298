//! `request`, `hint`, `disable`, `enable`: what people and others say of an origin.

use lamplighter::backend::{Hint, SchedulerBackend, VisitRequest};
use lamplighter::model::{OriginKey, Timestamp, VisitType};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{DisableArgs, EnableArgs, HintArgs, RequestArgs};
use crate::context::Context;
use crate::failure::{Done, Failure, Result, one_line};
use crate::lines::{BATCH, Lines, parse, unread};
use crate::output::{count, note};
use crate::visits::{listers_of, the_visit_type, unknown};

pub(crate) async fn request(args: &RequestArgs, context: &mut Context) -> Result<Done> {
    let store = context.filled_store().await?;
    let visit_type = the_visit_type(&*store, &args.url, args.visit_type.as_ref()).await?;
    let wish = VisitRequest::new(OriginKey::new(&args.url, visit_type), &args.by);
    let answer = store.request(&[wish], context.now()).await?.pop().flatten();
    let Some(answer) = answer else { return Err(unknown(&args.url)) };
    if context.json {
        context.out.json(&json!({
            "position": answer.position,
            "due": answer.due,
            "reason": answer.parked.as_ref().map(|r| &r.code),
            "why": answer.parked.as_ref().map(|r| &r.text),
            "again_at": answer.again_at,
        }))?;
        return Ok(Done::whole_if(answer.again_at.is_none()));
    }
    if let Some(again_at) = answer.again_at {
        context.out.line(format!(
            "refused: {} has asked for too much; again from {again_at} on",
            one_line(&args.by)
        ))?;
        return Ok(Done::InPart);
    }
    context.out.line(match (answer.due, answer.parked) {
        (Some(due), _) => {
            format!("asked for; {} before it, and not before {due}", count(answer.position, "request"))
        }
        (None, Some(why)) => format!("kept, but it is not visited now: {}", one_line(&why.text)),
        (None, None) => "kept, but it is not visited now".to_owned(),
    })?;
    Ok(Done::Whole)
}

/// A hint as a line of JSON.
#[derive(Deserialize)]
struct Line {
    url: String,
    visit_type: VisitType,
    #[serde(default)]
    changed_at: Option<Timestamp>,
    #[serde(default)]
    source: Option<String>,
}

pub(crate) async fn hint(args: &HintArgs, context: &mut Context) -> Result<Done> {
    let store = context.filled_store().await?;
    let now = context.now();
    let changed_at = args.changed_at.map_or(now, |at| at.0);
    let Some(url) = &args.url else { return hints(args, changed_at, &*store, context).await };
    // Of what is not known any visit type will do: the answer is the same.
    let visit_type = match the_visit_type(&*store, url, args.visit_type.as_ref()).await {
        Err(Failure::Work(_)) => VisitType::git(),
        other => other?,
    };
    let hint = Hint::new(OriginKey::new(url, visit_type), changed_at, &args.source);
    let answer = store.hint(&[hint], now).await?.pop().unwrap_or_default();
    if context.json {
        context.out.json(&answer)?;
        return Ok(Done::Whole);
    }
    context.out.line(match (answer.known, answer.placed) {
        (false, _) => "not known to this store",
        (true, false) => "known, and no news",
        (true, true) => "known, and placed anew",
    })?;
    Ok(Done::Whole)
}

/// What became of the lines.
#[derive(Default)]
struct Counts {
    hints: u64,
    known: u64,
    placed: u64,
    refused: Vec<Value>,
}

/// Hints from standard input.
async fn hints(
    args: &HintArgs,
    changed_at: Timestamp,
    store: &dyn SchedulerBackend,
    context: &mut Context,
) -> Result<Done> {
    let mut counts = Counts::default();
    let mut batch = Vec::new();
    let mut lines = Lines::of_standard_input();
    loop {
        let line = lines.read().map_err(|e| unread(&e))?;
        let end = line.is_none();
        if let Some((number, line)) = line {
            match parse::<Line>(line) {
                Ok(line) => batch.push(Hint::new(
                    OriginKey::new(line.url, line.visit_type),
                    line.changed_at.unwrap_or(changed_at),
                    line.source.unwrap_or_else(|| args.source.clone()),
                )),
                Err(why) => {
                    note(format!("line {number}: {why}"));
                    counts.refused.push(json!({"line": number, "why": why}));
                }
            }
        }
        if end || batch.len() >= BATCH {
            for answer in store.hint(&std::mem::take(&mut batch), context.now()).await? {
                counts.hints += 1;
                counts.known += u64::from(answer.known);
                counts.placed += u64::from(answer.placed);
            }
        }
        if end {
            break;
        }
    }
    let Counts { hints, known, placed, refused } = &counts;
    if context.json {
        context.out.json(&json!({
            "hints": hints,
            "known": known,
            "placed": placed,
            "refused": refused.len(),
            "refusals": refused,
        }))?;
    } else {
        context.out.line(format!(
            "{}: {known} known, {placed} placed anew, {} refused",
            count(*hints, "hint"),
            refused.len()
        ))?;
    }
    Ok(Done::whole_if(refused.is_empty()))
}

pub(crate) async fn disable(args: &DisableArgs, context: &mut Context) -> Result<Done> {
    set_disabled(&args.url, args.visit_type.as_ref(), true, &args.reason, context).await
}

pub(crate) async fn enable(args: &EnableArgs, context: &mut Context) -> Result<Done> {
    set_disabled(&args.url, args.visit_type.as_ref(), false, &args.reason, context).await
}

/// Stops or allows the visits of a URL, in every way in which it is visited where none is named.
async fn set_disabled(
    url: &str,
    visit_type: Option<&VisitType>,
    stop: bool,
    reason: &str,
    context: &mut Context,
) -> Result<Done> {
    let store = context.filled_store().await?;
    let types = match visit_type {
        Some(given) => vec![given.clone()],
        None => listers_of(&*store, url).await?.1,
    };
    let keys: Vec<OriginKey> = types.into_iter().map(|t| OriginKey::new(url, t)).collect();
    let known = store.set_disabled(&keys, stop.then_some(reason), context.now()).await?;
    if known == 0 {
        return Err(unknown(url));
    }
    if context.json {
        context.out.json(&json!({ "origins": known, "disabled": stop, "reason": reason }))?;
    } else {
        let done = if stop { "no longer visited" } else { "visited again" };
        context.out.line(format!("{} {done} ({})", count(known, "origin"), one_line(reason)))?;
    }
    Ok(Done::Whole)
}
