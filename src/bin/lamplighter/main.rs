//! The `lamplighter` command: a thin face on the library, for trying it, operating it and scripting
//! it. `docs/stability.md` says what of it is stable.

mod args;
mod client;
mod config;
mod context;
mod detect;
mod failure;
mod feed;
mod import;
mod lines;
mod list;
mod migrate;
mod output;
mod progress;
mod query;
mod replay;
mod run;
mod service;
mod simulate;
mod tour;
mod visits;
mod wishes;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use context::Context;
use failure::{Done, Failure, Result};
use output::note;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return refused(&e),
    };
    tell_on_standard_error(cli.common.verbose);
    match run(&cli) {
        Ok(Done::Whole) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Ok(Done::InPart) => ExitCode::from(1),
        Err(Failure::Work(message)) => {
            note(format!("lamplighter: {message}"));
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            note(format!("lamplighter: {message}"));
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<Done> {
    let mut context = Context::new(&cli.common)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::work(format!("no threads can be started: {e}")))?;
    let done = runtime.block_on(dispatch(cli, &mut context));
    // A blocking read may still be under way; nothing waits for it.
    runtime.shutdown_background();
    let done = done?;
    context.out.flush()?;
    Ok(done)
}

async fn dispatch(cli: &Cli, context: &mut Context) -> Result<Done> {
    match &cli.command {
        Command::Tour(args) => tour::tour(args, context).await,
        Command::Listers => query::listers(context),
        Command::Detect(args) => detect::detect(args, context).await,
        Command::List(args) => list::list(args, context).await,
        Command::Record(args) => list::record(args, context).await,
        Command::Replay(args) => replay::replay(args, context).await,
        Command::Origins(args) => query::origins(args, context).await,
        Command::Import(args) => import::import(args, context).await,
        Command::Next(args) => visits::next(args, context).await,
        Command::Complete => visits::complete(context).await,
        Command::Explain(args) => visits::explain(args, context).await,
        Command::Runs(args) => query::runs(args, context).await,
        Command::Gaps(args) => query::gaps(args, context).await,
        Command::Request(args) => wishes::request(args, context).await,
        Command::Hint(args) => wishes::hint(args, context).await,
        Command::Disable(args) => wishes::disable(args, context).await,
        Command::Enable(args) => wishes::enable(args, context).await,
        Command::Changes(args) => feed::changes(args, context).await,
        Command::Metrics(args) => feed::metrics(args, context).await,
        Command::Run => run::run(&cli.common, context).await,
        Command::Migrate => migrate::migrate(context).await,
        Command::Simulate(args) => simulate::simulate(args, context).await,
    }
}

/// What clap does not understand, in one line; help and version as they are.
fn refused(e: &clap::Error) -> ExitCode {
    if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe is no failure.
        let _ = e.print();
        return ExitCode::SUCCESS;
    }
    if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        note("lamplighter: no command given; begin with `lamplighter tour`, or see `lamplighter --help`");
        return ExitCode::from(2);
    }
    let text = e.render().to_string();
    // The first paragraph says what is wrong; a tip, where there is one, comes after it.
    let problem: Vec<&str> = text.lines().take_while(|l| !l.trim().is_empty()).map(str::trim).collect();
    let tip = text.lines().map(str::trim).find_map(|l| l.strip_prefix("tip: "));
    let problem = problem.join(" ");
    let problem = problem.strip_prefix("error: ").unwrap_or(&problem);
    let tip = tip.map(|t| format!("; {t}")).unwrap_or_default();
    note(format!("lamplighter: {problem}{tip}; see `lamplighter --help`"));
    ExitCode::from(2)
}

fn tell_on_standard_error(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => "lamplighter=info",
        _ => "lamplighter=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("LAMPLIGHTER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
