//! The command line, as clap reads it.

#![allow(clippy::doc_markdown, reason = "clap shows these comments on a terminal, as they are")]

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lamplighter::model::{Timestamp, VisitType};

/// Lists every origin of code forges and registries, and decides which to visit next.
///
/// Try `lamplighter tour` first: it needs no network and leaves nothing behind.
#[derive(Debug, Parser)]
#[command(name = "lamplighter", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where everything is kept: file:PATH, or memory, which forgets at exit. [default: the
    /// configuration's, else file:./lamplighter.db]
    #[arg(long, global = true, env = "LAMPLIGHTER_STORE", value_name = "STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// Contact, credentials and other settings.
    #[arg(long, global = true, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Machine output on standard output, and nothing else there.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What the clock says, for reproducible runs: 2026-01-31T12:00:00Z.
    #[arg(long, global = true, value_name = "RFC3339")]
    pub(crate) now: Option<Timestamp3339>,
    /// Tell more on standard error; twice for every request.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the whole of it in a few seconds, offline: lists four small forges, decides the next
    /// visits and says why.
    Tour(TourArgs),
    /// Which forges and registries can be listed, and with which parameters.
    Listers,
    /// Which lister fits a host, by at most six requests.
    Detect(DetectArgs),
    /// Lists a forge into the store. Continues an interrupted run.
    List(ListArgs),
    /// Lists a live forge and keeps every exchange as a fixture, secrets removed. Leaves the store
    /// alone.
    Record(RecordArgs),
    /// Lists from a recording: a fixture folder, or a conformance case file.
    Replay(ReplayArgs),
    /// What has been listed.
    Origins(OriginsArgs),
    /// Brings origins, and what is known of their visits, from JSON lines, or from a database of
    /// swh-scheduler.
    Import(ImportArgs),
    /// Claims the next visits.
    Next(NextArgs),
    /// Takes the outcomes of visits, as JSON lines from standard input.
    Complete,
    /// Why an origin is visited when it is: every gate in the way of its next visit.
    Explain(ExplainArgs),
    /// The history of listings, the newest first.
    Runs(RunsArgs),
    /// Known holes in listings.
    Gaps(GapsArgs),
    /// Asks for a visit soon.
    Request(RequestArgs),
    /// Outside information: an origin changed. Without a URL, JSON lines {url, visit_type,
    /// changed_at?, source?} from standard input.
    Hint(HintArgs),
    /// Stops an origin's visits, whatever its listers say.
    Disable(DisableArgs),
    /// Allows an origin's visits again that were stopped by hand or by failures.
    Enable(EnableArgs),
    /// What changed among the listed origins, in order: new, changed, gone, back, renamed.
    Changes(ChangesArgs),
    /// How much there is, by lister and visit type.
    Metrics(MetricsArgs),
    /// The service: lists on intervals, feeds visits to workers, takes outcomes, as the configuration says.
    /// SIGHUP reads it again, SIGTERM ends it when what is under way is finished.
    Run,
    /// Creates or updates the schema of a PostgreSQL store, and tells its versions.
    Migrate,
    /// Runs a policy over a world of origins, years in seconds: what it would keep current.
    Simulate(SimulateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The world: JSON lines, gzipped or not; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) world: PathBuf,
    /// The policy: due[,objective=fresh|balanced|lag], swh_default, swh_dvcs, nutch, round_robin, oldest, or
    /// classic,ORDER=SHARE[,ORDER=SHARE…].
    #[arg(long, value_name = "POLICY[,KEY=VALUE…]")]
    pub(crate) policy: String,
    /// Visits, as a share of the world's changes.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) budget: f64,
    /// Draws the run, a sweep of budgets and the baselines into one page.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n > 0.0 && n <= 1000.0 => Ok(n),
        _ => Err("not a share: 0.2 is a fifth".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct TourArgs {
    /// Serve these pages instead of the built-in ones.
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) pages: Option<PathBuf>,
    /// Write the server's own log of requests here, as JSON lines.
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) request_log: Option<PathBuf>,
}

/// Which lister, and its arguments.
#[derive(Debug, Args)]
pub(crate) struct ListerArgs {
    /// The lister's name: `lamplighter listers` shows them all.
    pub(crate) lister: String,
    /// Its arguments, and enable_origins=, max_pages= of the run. Where its forge tells, forks=, archived=,
    /// mirrors= and empty=, each include, exclude or only, say which of the listed origins are wanted.
    #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) arguments: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) lister: ListerArgs,
    /// List everything again, whatever is remembered.
    #[arg(long)]
    pub(crate) full: bool,
    /// Start over where a run was interrupted.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) restart: bool,
    /// Stop after so many pages; the next run goes on from there.
    #[arg(long, value_name = "N")]
    pub(crate) max_pages: Option<u64>,
    /// Pages under way at a time, from the request to the commit; a host is asked for at most four of them
    /// at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = at_least_one)]
    pub(crate) concurrency: usize,
    /// List everything in so many ranges of ids beside each other, where the forge has ranges; give a
    /// --concurrency to match. A listing of what is new has none.
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<NonZeroU32>,
    /// Take what a complete listing no longer names for gone. More than a fifth of all only when
    /// listings have agreed for a week, or with --prune=force.
    #[arg(long, value_name = "force", num_args = 0..=1, require_equals = true, default_missing_value = "guarded")]
    pub(crate) prune: Option<PruneArg>,
    /// Make the first request only and tell what its answer says; nothing is stored.
    #[arg(long, conflicts_with_all = ["max_pages", "prune", "shards"])]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) lister: ListerArgs,
    /// The folder for the recording.
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
    /// Stop after so many pages.
    #[arg(long, value_name = "N")]
    pub(crate) max_pages: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A fixture folder, or a conformance case file.
    pub(crate) case: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct OriginsArgs {
    /// Only of this lister.
    #[arg(long, value_name = "LISTER")]
    pub(crate) lister: Option<String>,
    /// Only of this instance.
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) instance: Option<String>,
    /// Only of this visit type.
    #[arg(long, value_name = "TYPE")]
    pub(crate) visit_type: Option<VisitType>,
    /// Only those whose URL begins so.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) url: Option<String>,
    /// Gone and disabled ones too.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// JSON lines {lister, instance, url, visit_type, last_update?, first_seen?, visits?}; - for
    /// standard input. Or swh, for a database.
    #[arg(value_name = "FILE.jsonl|swh")]
    pub(crate) file: PathBuf,
    /// The address of a database of swh-scheduler 3.6, which is only read: listers with their state,
    /// listed origins and statistics of visits. Goes on where it was broken off.
    #[arg(value_name = "DSN")]
    pub(crate) dsn: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NextArgs {
    /// The visit type: git, hg, svn …
    pub(crate) visit_type: VisitType,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) count: usize,
    /// Only show them.
    #[arg(long, conflicts_with_all = ["lease", "owner"])]
    pub(crate) peek: bool,
    /// For so long they are yours: without an outcome by then they are handed out again.
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub(crate) lease: Duration,
    /// Who asks, as shown by explain.
    #[arg(long, value_name = "NAME", default_value = "command line")]
    pub(crate) owner: String,
}

#[derive(Debug, Args)]
pub(crate) struct DetectArgs {
    /// The site: https://forge.example/.
    pub(crate) url: url::Url,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The origin's URL, as listed.
    pub(crate) url: String,
    /// How it is visited, where it is visited in several ways.
    #[arg(long, value_name = "TYPE")]
    pub(crate) visit_type: Option<VisitType>,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Only of this lister.
    #[arg(long, value_name = "LISTER")]
    pub(crate) lister: Option<String>,
    /// Only of this instance.
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) instance: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GapsArgs {
    /// Ask for them again.
    #[arg(long)]
    pub(crate) retry: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// The origin's URL, as listed now or before.
    pub(crate) url: String,
    /// How it is visited, where it is visited in several ways.
    #[arg(long, value_name = "TYPE")]
    pub(crate) visit_type: Option<VisitType>,
    /// Who asks, as shown.
    #[arg(long, value_name = "NAME", default_value = "command line")]
    pub(crate) by: String,
}

#[derive(Debug, Args)]
pub(crate) struct HintArgs {
    /// The origin's URL, as listed now or before.
    pub(crate) url: Option<String>,
    /// How it is visited, where it is visited in several ways.
    #[arg(long, value_name = "TYPE", requires = "url")]
    pub(crate) visit_type: Option<VisitType>,
    /// When it changed. [default: now]
    #[arg(long, value_name = "RFC3339")]
    pub(crate) changed_at: Option<Timestamp3339>,
    /// Who says so.
    #[arg(long, value_name = "NAME", default_value = "command line")]
    pub(crate) source: String,
}

#[derive(Debug, Args)]
pub(crate) struct DisableArgs {
    /// The origin's URL, as listed now or before.
    pub(crate) url: String,
    /// Only this way of visiting it.
    #[arg(long, value_name = "TYPE")]
    pub(crate) visit_type: Option<VisitType>,
    /// Why, as shown.
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct EnableArgs {
    /// The origin's URL, as listed now or before.
    pub(crate) url: String,
    /// Only this way of visiting it.
    #[arg(long, value_name = "TYPE")]
    pub(crate) visit_type: Option<VisitType>,
    /// Why: told again in the answer, and not kept.
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct ChangesArgs {
    /// Only what came after the change with this token.
    #[arg(long, value_name = "TOKEN", default_value_t = 0)]
    pub(crate) after: u64,
    /// Go on: show what comes, as it comes.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// In the text format that Prometheus scrapes.
    #[arg(long, conflicts_with = "json")]
    pub(crate) prometheus: bool,
    /// Show them again every few seconds.
    #[arg(long)]
    pub(crate) watch: bool,
}

/// How far pruning goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PruneArg {
    /// Not more than is believed.
    Guarded,
    /// However much it is.
    Force,
}

/// A time on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timestamp3339(pub(crate) Timestamp);

impl std::str::FromStr for Timestamp3339 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Timestamp::parse(text).map(Self).map_err(|e| format!("{e}; write it as 2026-01-31T12:00:00Z"))
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("arguments are written KEY=VALUE, as in url=https://forge.example/".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "a whole number, at least 1".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|n| *n > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| "a whole number of seconds, at least 1".to_owned())
}
