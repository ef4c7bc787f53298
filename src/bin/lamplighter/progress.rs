//! How a run goes on, told on standard error: a bar on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lamplighter::driver::{Event, Observer};

use crate::failure::one_line;
use crate::output::{count, note};

/// Between two plain lines.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells how a run goes on.
pub(crate) struct Progress {
    told: Mutex<Told>,
    bar: Option<ProgressBar>,
}

struct Told {
    pages: u64,
    pending: u64,
    origins: u64,
    gaps: u64,
    last_line: Option<Instant>,
    untold: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let told = Told { pages: 0, pending: 0, origins: 0, gaps: 0, last_line: None, untold: false };
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} pages, {msg}, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { told: Mutex::new(told), bar }
    }

    /// A line among the progress.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }
}

impl Told {
    fn line(&self) -> String {
        let gaps = if self.gaps > 0 { format!(", {}", count(self.gaps, "gap")) } else { String::new() };
        format!(
            "{}, {} known to follow, {}{gaps}",
            count(self.pages, "page"),
            self.pending,
            count(self.origins, "origin")
        )
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { run, mode, resumed, pending } => {
                told.pending = *pending;
                let how = if *resumed { "goes on" } else { "begins" };
                let text = format!(
                    "run {} ({}) {how}, {} pending",
                    run.0,
                    mode.as_str(),
                    count(*pending, "request")
                );
                self.say(&text);
            }
            Event::Page { place, gap, committed, pages } => {
                told.pages = *pages;
                told.pending = (told.pending + committed.followed).saturating_sub(1);
                told.origins += committed.new + committed.changed + committed.unchanged;
                if let Some(gap) = gap {
                    told.gaps += 1;
                    let gap = one_line(gap);
                    self.say(&if gap.contains(place.as_str()) {
                        format!("gap: {gap}")
                    } else {
                        format!("gap: {place}: {gap}")
                    });
                }
                if let Some(bar) = &self.bar {
                    bar.set_length(told.pages + told.pending);
                    bar.set_position(told.pages);
                    bar.set_message(count(told.origins, "origin"));
                } else if told.last_line.is_none_or(|at| at.elapsed() >= PAUSE) {
                    told.last_line = Some(Instant::now());
                    told.untold = false;
                    note(told.line());
                } else {
                    told.untold = true;
                }
            }
            Event::Ended { .. } => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                } else if std::mem::take(&mut told.untold) {
                    note(told.line());
                }
            }
            _ => {}
        }
    }
}
