//! The built command: a world on a pipe, two processes, and the page in a browser.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lamplighter::sim::{Generator, World};
use serde_json::{Value, json};

use crate::run;

fn small() -> World {
    let mut small = Generator::new(150, 41);
    small.days = 200.0;
    small.measure_from = 50.0;
    small.generate()
}

/// A world as a file has it.
fn text(world: &World) -> String {
    let kind = |k: &lamplighter::sim::ListerKind| json!([k.period, k.recall, k.false_share, k.lag]);
    let kinds: serde_json::Map<_, _> =
        world.kinds.iter().enumerate().map(|(n, k)| (n.to_string(), kind(k))).collect();
    let header = json!({
        "n": world.len(), "T_days": world.days, "tick_days": world.tick, "measure_from": world.measure_from,
        "volume_per_day": world.volume_per_day, "kinds": kinds,
    });
    let mut text = format!("{header}\n");
    for (i, o) in world.origins().iter().enumerate() {
        let line = json!({
            "k": o.kind, "ph": o.phase, "fs": o.first_seen, "dead": u8::from(o.dead), "u": o.spread,
            "ev": world.changes(i), "sg": world.signals(i),
        });
        writeln!(text, "{line}").unwrap();
    }
    text
}

fn simulate(args: &[&str], world: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lamplighter"))
        .args(["simulate", "--world", "-", "--json"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(world.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn row(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Each process hashes with a seed of its own; the sequence is the same in both, and in this one.
#[test]
fn a_world_on_a_pipe_gives_the_same_sequence_in_every_process() {
    let world = small();
    let text = text(&world);
    for policy in ["due", "swh_default"] {
        let args = ["--policy", policy, "--budget", "0.5"];
        let one = row(&simulate(&args, &text));
        assert_eq!(row(&simulate(&args, &text)), one);
        let here = run(&world, policy, 0.5);
        assert_eq!(one["sequence_sha256"], here.sequence_sha256, "{policy}");
        // A number read from JSON may be the next one to that which was written.
        let read = |n: f64| serde_json::from_str::<Value>(&json!(n).to_string()).unwrap();
        assert_eq!((&one["fresh"], &one["lag"]), (&read(here.fresh), &read(here.lag)));
    }
    let cut = simulate(&["--policy", "due", "--budget", "0.5"], &text[..text.len() / 2]);
    assert!(!cut.status.success() && cut.stdout.is_empty(), "half a world is none");
}

/// `LAMPLIGHTER_CHROMIUM` names the browser; `scripts/test` sets it where there is one. In CI it must.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("LAMPLIGHTER_CHROMIUM").filter(|n| !n.is_empty()) {
        return Some(named.into());
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "in CI the page must be opened: LAMPLIGHTER_CHROMIUM names no browser"
    );
    eprintln!("SKIPPED: no browser (LAMPLIGHTER_CHROMIUM names one)");
    None
}

/// What a browser makes of a page: its document, and what it complains of.
fn opened(browser: &Path, room: &Path, page: &str) -> (String, String) {
    std::fs::write(room.join("page.html"), page).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=2000", "--window-size=1280,2000"])
        .arg(format!("--user-data-dir={}", room.join("profile").display()))
        .args(["--dump-dom".to_owned(), format!("file://{}", room.join("page.html").display())])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Asks each chart, in the browser, how large it was drawn, and of how many marks.
const MEASURE: &str = "<script>
const drawn = [...document.querySelectorAll('figure svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll('path,polyline,polygon,rect,line,circle')].filter(m => {
    const b = m.getBoundingClientRect();
    return b.width + b.height > 0;
  });
  return [Math.round(box.width), Math.round(box.height), marks.length];
});
document.title = 'drawn ' + JSON.stringify(drawn);
</script></body>";

#[test]
fn the_page_opens_in_a_browser_and_all_its_charts_are_drawn() {
    let Some(browser) = browser() else { return };
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("report.html");
    let args = ["--policy", "due", "--budget", "0.5", "--html", file.to_str().unwrap()];
    row(&simulate(&args, &text(&small())));
    let page = std::fs::read_to_string(&file).unwrap();
    let (_, said) = opened(&browser, room.path(), &page);
    assert!(!said.contains("CONSOLE"), "{said}");
    // The page forbids itself all scripts: the one that measures needs that taken back.
    let page = page.replace("Content-Security-Policy", "none");
    let (dom, said) = opened(&browser, room.path(), &page.replace("</body>", MEASURE));
    assert!(!said.contains("CONSOLE"), "{said}");
    let title = dom.split("<title>").nth(1).and_then(|t| t.split("</title>").next()).unwrap_or_default();
    let drawn: Vec<[i64; 3]> = serde_json::from_str(title.strip_prefix("drawn ").unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {title}: {said}"));
    assert_eq!(drawn.len(), 5, "{drawn:?}");
    for [width, height, marks] in drawn {
        assert!(width >= 300 && height >= 150 && marks >= 10, "{width} x {height}, {marks} marks");
    }
    // The twin: a page with an error, and a chart that is not there, are noticed.
    let broken = page.replacen("<svg ", "<svg style=\"display:none\" ", 1);
    let script = MEASURE.replace("const drawn", "console.error('no'); const drawn");
    let (dom, said) = opened(&browser, room.path(), &broken.replace("</body>", &script));
    assert!(said.contains("CONSOLE") && dom.contains("drawn [[0,0,0]"), "{said}");
}
