//! `next`, `complete`, `explain`: which origin next, what came of it, and why.

use lamplighter::backend::{Claim, Explanation, OriginQuery, SchedulerBackend};
pub(crate) use lamplighter::dispatch::http::{explanation as explanation_json, visit as visit_json};
use lamplighter::model::{
    ListerKey, OriginKey, Outcome, Timestamp, VisitId, VisitStatus, VisitToken, VisitType,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::args::{ExplainArgs, NextArgs};
use crate::context::Context;
use crate::failure::{Done, Failure, Result, one_line};
use crate::lines::{BATCH, Lines, parse, unread};
use crate::output::{Table, count, note};

pub(crate) async fn next(args: &NextArgs, context: &mut Context) -> Result<Done> {
    let store = context.filled_store().await?;
    let claim =
        Claim::new(args.visit_type.clone(), args.count).with_lease(args.lease).with_owner(&args.owner);
    let now = context.now();
    let claimed = if args.peek { store.peek(&claim, now).await? } else { store.claim(&claim, now).await? };
    if context.json {
        for visit in &claimed.visits {
            context.out.json(&visit_json(visit))?;
        }
        return Ok(Done::Whole);
    }
    if claimed.visits.is_empty() {
        context.out.line(format!("nothing of type {} is to be visited now", args.visit_type))?;
        return Ok(Done::Whole);
    }
    let mut table = Table::new(&["URL", "LANE", "WHY", "VISIT", "TOKEN"]);
    for v in &claimed.visits {
        let claimed = |n: String| if args.peek { String::new() } else { n };
        table.row([
            v.url.clone(),
            v.lane.clone(),
            v.reason.text.clone(),
            v.visit.to_string(),
            claimed(v.token.to_string()),
        ]);
    }
    context.out.table(&table)?;
    Ok(Done::Whole)
}

/// An outcome as a worker writes it.
#[derive(Deserialize)]
struct Line {
    #[serde(deserialize_with = "number")]
    visit: u64,
    #[serde(deserialize_with = "number")]
    token: u64,
    status: VisitStatus,
    at: Timestamp,
    #[serde(default)]
    snapshot: Option<String>,
    #[serde(default)]
    changed: Option<bool>,
    #[serde(default)]
    changed_at: Option<Timestamp>,
    #[serde(default)]
    error: Option<String>,
}

/// A number, or a text that is one: not every language's JSON keeps 64 bits.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    let text = match Number::deserialize(from) {
        Ok(Number::Number(n)) => return Ok(n),
        Ok(Number::Text(text)) => text,
        Err(_) => String::new(),
    };
    text.parse().map_err(|_| serde::de::Error::custom("not a whole number, as `next` gave it"))
}

impl From<Line> for Outcome {
    fn from(line: Line) -> Self {
        let mut outcome = Self::new(VisitId(line.visit), VisitToken(line.token), line.status, line.at);
        outcome.snapshot = line.snapshot;
        outcome.changed = line.changed;
        outcome.changed_at = line.changed_at;
        outcome.error = line.error;
        outcome
    }
}

/// What became of the lines.
#[derive(Default)]
struct Counts {
    completed: u64,
    changed: u64,
    unchanged: u64,
    out_of_order: u64,
    refused: Vec<Value>,
}

impl Counts {
    fn refuse(&mut self, number: u64, outcome: Option<&Outcome>, reason: &str, why: &str) {
        note(format!("line {number}: {why}"));
        self.refused.push(json!({
            "line": number,
            "visit": outcome.map(|o| o.visit),
            "token": outcome.map(|o| o.token),
            "reason": reason,
            "why": why,
        }));
    }

    async fn hand_in(
        &mut self,
        batch: &mut Vec<(u64, Outcome)>,
        store: &dyn SchedulerBackend,
        now: Timestamp,
    ) -> Result<()> {
        let (numbers, outcomes): (Vec<u64>, Vec<Outcome>) = std::mem::take(batch).into_iter().unzip();
        if outcomes.is_empty() {
            return Ok(());
        }
        let answers = store.complete(&outcomes, now).await?;
        for ((number, outcome), answer) in numbers.into_iter().zip(&outcomes).zip(answers) {
            match answer {
                Ok(completed) => {
                    self.completed += 1;
                    self.changed += u64::from(completed.changed == Some(true));
                    self.unchanged += u64::from(completed.changed == Some(false));
                    self.out_of_order += u64::from(completed.out_of_order);
                }
                Err(refusal) => {
                    let code = serde_json::to_value(refusal)?;
                    let code = code.as_str().unwrap_or("refused").to_owned();
                    self.refuse(number, Some(outcome), &code, &refusal.to_string());
                }
            }
        }
        Ok(())
    }
}

pub(crate) async fn complete(context: &mut Context) -> Result<Done> {
    let store = context.filled_store().await?;
    let mut counts = Counts::default();
    let mut batch = Vec::new();
    let mut lines = Lines::of_standard_input();
    loop {
        let line = lines.read().map_err(|e| unread(&e))?;
        let end = line.is_none();
        if let Some((number, line)) = line {
            match parse::<Line>(line) {
                Ok(line) => batch.push((number, Outcome::from(line))),
                Err(why) => counts.refuse(number, None, "malformed", &why),
            }
        }
        if end || batch.len() >= BATCH {
            counts.hand_in(&mut batch, &*store, context.now()).await?;
        }
        if end {
            break;
        }
    }
    // A malformed line is found before those in front of it are handed in.
    counts.refused.sort_by_key(|refusal| refusal.get("line").and_then(Value::as_u64));
    let Counts { completed, changed, unchanged, out_of_order, refused, .. } = &counts;
    if context.json {
        context.out.json(&json!({
            "completed": completed,
            "changed": changed,
            "unchanged": unchanged,
            "unknown": completed - changed - unchanged,
            "out_of_order": out_of_order,
            "refused": refused.len(),
            "refusals": refused,
        }))?;
    } else {
        context.out.line(format!(
            "{} taken ({changed} changed, {unchanged} unchanged), {} refused",
            count(*completed, "outcome"),
            refused.len()
        ))?;
    }
    Ok(Done::whole_if(refused.is_empty()))
}

pub(crate) async fn explain(args: &ExplainArgs, context: &mut Context) -> Result<Done> {
    let store = context.filled_store().await?;
    let (listed_by, visit_types) = listers_of(&*store, &args.url).await?;
    let visit_type = one_type(&args.url, args.visit_type.as_ref(), &visit_types)?;
    let now = context.now();
    let key = OriginKey::new(&args.url, visit_type);
    let Some(explained) = store.explain(&key, now).await? else { return Err(unknown(&args.url)) };
    if context.json {
        let mut object = explanation_json(&explained, now);
        if let Value::Object(object) = &mut object {
            let listed: Vec<Value> = listed_by
                .iter()
                .filter(|(_, t)| *t == key.visit_type)
                .map(|(l, _)| json!({"lister": l.name, "instance": l.instance}))
                .collect();
            object.insert("listed_by".to_owned(), listed.into());
            object.insert("asked".to_owned(), args.url.clone().into());
        }
        context.out.json(&object)?;
    } else {
        if explained.origin.url != args.url {
            context.out.line(format!("{} has another URL now:", one_line(&args.url)))?;
        }
        for line in explanation_lines(&explained, now) {
            context.out.line(line)?;
        }
    }
    Ok(Done::Whole)
}

pub(crate) fn unknown(url: &str) -> Failure {
    Failure::work(format!(
        "{} is not known to this store; `lamplighter origins --all --url PREFIX` shows what is",
        one_line(url)
    ))
}

/// The visit type that is given, or the only one that there is.
fn one_type(url: &str, given: Option<&VisitType>, known: &[VisitType]) -> Result<VisitType> {
    match (given, known) {
        (Some(given), _) => Ok(given.clone()),
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(unknown(url)),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(VisitType::as_str).collect();
            Err(Failure::usage(format!(
                "{} is visited in several ways ({}); name one with --visit-type",
                one_line(url),
                names.join(", ")
            )))
        }
    }
}

/// The visit type that is given, or the only one of a URL.
pub(crate) async fn the_visit_type(
    store: &dyn SchedulerBackend,
    url: &str,
    given: Option<&VisitType>,
) -> Result<VisitType> {
    match given {
        Some(given) => Ok(given.clone()),
        None => one_type(url, None, &listers_of(store, url).await?.1),
    }
}

/// Who lists what answers to a URL, and in which ways it is visited.
pub(crate) async fn listers_of(
    store: &dyn SchedulerBackend,
    url: &str,
) -> Result<(Vec<(ListerKey, VisitType)>, Vec<VisitType>)> {
    let mut query = OriginQuery::everything();
    query.url = Some(url.to_owned());
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.origins(&query, after, BATCH).await?;
        found.extend(page.origins.into_iter().map(|(lister, o)| (lister, o.visit_type)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut types: Vec<VisitType> = found.iter().map(|(_, t)| t.clone()).collect();
    types.sort();
    types.dedup();
    Ok((found, types))
}

/// An explanation for people.
pub(crate) fn explanation_lines(explained: &Explanation, now: Timestamp) -> Vec<String> {
    let mut lines = vec![one_line(&explained.origin.to_string())];
    let mut table = Table::new(&["", "", "", ""]).indented(2);
    for gate in &explained.gates {
        let name = serde_json::to_value(gate.gate).ok();
        let name = name.as_ref().and_then(Value::as_str).unwrap_or_default().replace('_', " ");
        let opens = gate.opens_at.filter(|_| !gate.open).map(|t| format!("opens {t}")).unwrap_or_default();
        let state = if gate.open { "open" } else { "CLOSED" };
        table.row([name, state.to_owned(), gate.text.clone(), opens]);
    }
    lines.extend(table.to_string().lines().map(str::to_owned));
    let lane = explained.lane.as_ref().map(|lane| format!("lane {lane}, ")).unwrap_or_default();
    let ahead = explained.ahead.map(|n| format!("; {} before it", count(n, "origin"))).unwrap_or_default();
    lines.push(format!("  reason: {lane}{}{ahead}", one_line(&explained.reason.to_string())));
    let visits = &explained.visits;
    lines.push(match visits.last_visit {
        Some(last) => {
            let status = visits.last_status.map_or("unknown", VisitStatus::as_str);
            format!("  {} so far, the last {last}: {status}", count(visits.visits, "visit"))
        }
        None => "  never visited".to_owned(),
    });
    if let Some(lease) = &explained.lease {
        lines.push(format!("  being visited by {} until {}", one_line(&lease.owner), lease.until));
    }
    lines.push(match explained.earliest {
        Some(at) if at <= now => "  can be handed out now".to_owned(),
        Some(at) => format!("  can be handed out at {at}"),
        None => "  will not be handed out".to_owned(),
    });
    if let Some(turn) = &explained.turn {
        let gate = serde_json::to_value(turn.gate).ok();
        let gate = gate.as_ref().and_then(Value::as_str).unwrap_or_default().replace('_', " ");
        let not_before = if turn.exact { "" } else { "not before " };
        lines.push(format!("  its turn comes {not_before}{} (last gate: {gate})", turn.at));
    }
    if let Some(by) = explained.must_by {
        lines.push(format!("  to be visited by {by}, by the maximum age of its class"));
    }
    lines
}
