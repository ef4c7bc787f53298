//! `detect`: which lister fits a host.

use lamplighter::lister::detect::Detector;
use lamplighter::transport::Transport;
use serde_json::json;

use crate::args::DetectArgs;
use crate::client;
use crate::context::Context;
use crate::failure::{Done, Failure, Result, chain, one_line};

pub(crate) async fn detect(args: &DetectArgs, context: &mut Context) -> Result<Done> {
    let url = &args.url;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Failure::usage(format!("{url} is no http or https URL, such as https://forge.example/")));
    }
    let mut detector = Detector::new(url);
    if let Some(first) = detector.request() {
        // No retries: so many requests are made, and not one more.
        let client = client::plain(url, context)?;
        let mut next = Some(first);
        while let Some(request) = next {
            let answer = client.send(request).await;
            detector.answered(answer.as_ref().map_err(|e| chain(e)));
            next = detector.request();
        }
    }
    let found = detector.found();
    if context.json {
        let evidence = found.map_or_else(|| detector.said(), |found| &found.evidence);
        context.out.json(&json!({
            "lister": found.map(|found| found.lister),
            "version": found.and_then(|found| found.version.as_deref()),
            "evidence": evidence,
            "command": found.map(lamplighter::lister::detect::Found::command),
            "requests": detector.made(),
        }))?;
    } else if let Some(found) = found {
        let version = found.version.as_deref().map(|v| format!(" {v}")).unwrap_or_default();
        context.out.line(format!("{}{version}", found.lister))?;
        for evidence in &found.evidence {
            context.out.line(format!("  {}", one_line(evidence)))?;
        }
        context.out.line(format!("next: {}", found.command()))?;
    } else {
        context.out.line(format!("no lister is known to fit {url}"))?;
        for said in detector.said() {
            context.out.line(format!("  {}", one_line(said)))?;
        }
    }
    Ok(if found.is_some() { Done::Whole } else { Done::InPart })
}
