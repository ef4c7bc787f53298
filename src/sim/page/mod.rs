//! A simulation as one page that needs nothing else: figures, and charts as SVG.

mod charts;

use std::fmt::{self, Write as _};

use super::{Bounds, Report, World};

/// A run with a name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Named {
    /// The policy.
    pub name: String,
    /// What came of it.
    pub report: Report,
}

impl Named {
    /// A run with its policy's name.
    pub fn new(name: impl Into<String>, report: Report) -> Self {
        Self { name: name.into(), report }
    }
}

/// The same policies at one budget of a sweep.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SweepPoint {
    /// Visits, as a share of the changes.
    pub budget: f64,
    /// What cannot be beaten there.
    pub bounds: Bounds,
    /// The freshness of each policy, in the order of the page's runs.
    pub fresh: Vec<f64>,
}

impl SweepPoint {
    /// A budget and what came of each policy there.
    #[must_use]
    pub fn new(budget: f64, bounds: Bounds, fresh: Vec<f64>) -> Self {
        Self { budget, bounds, fresh }
    }
}

/// A page about one policy beside others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// How many origins the world has.
    pub origins: usize,
    /// How many days.
    pub days: f64,
    /// From which day on figures count.
    pub measure_from: f64,
    /// The budget of the runs, as a share of the changes.
    pub budget: f64,
    /// Visits a day.
    pub visits_per_day: f64,
    /// What cannot be beaten at this budget.
    pub bounds: Bounds,
    /// The names of the kinds of listers.
    pub kinds: Vec<String>,
    /// The runs; the first is the one that the page is about.
    pub runs: Vec<Named>,
    /// Other budgets, the smallest first.
    pub sweep: Vec<SweepPoint>,
}

/// A page that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("a chart cannot be drawn: {0}")]
pub struct PageError(String);

impl From<fmt::Error> for PageError {
    fn from(e: fmt::Error) -> Self {
        Self(e.to_string())
    }
}

impl Page {
    /// A page about runs through a world.
    #[must_use]
    pub fn new(world: &World, budget: f64, runs: Vec<Named>, sweep: Vec<SweepPoint>) -> Self {
        let kind = |k: &super::ListerKind| match k.period {
            ..=0.0 => "no dates".to_owned(),
            1.0 => "daily".to_owned(),
            7.0 => "weekly".to_owned(),
            n => format!("every {n} days"),
        };
        let visits_per_day = budget * world.volume_per_day;
        Self {
            origins: world.len(),
            days: world.days,
            measure_from: world.measure_from,
            budget,
            visits_per_day,
            bounds: Bounds::of(world, visits_per_day),
            kinds: world.kinds.iter().map(kind).collect(),
            runs,
            sweep,
        }
    }

    /// The page as HTML: no script, no font, no picture from elsewhere.
    ///
    /// ```
    /// use lamplighter::backend::MemoryStore;
    /// use lamplighter::sim::{Generator, Named, Page, SimOptions, simulate};
    /// # futures::executor::block_on(async {
    /// let world = Generator::new(50, 7).generate();
    /// let report = simulate(&world, &MemoryStore::new(), &SimOptions::new(1.0)).await?;
    /// let page = Page::new(&world, 0.2, vec![Named::new("oldest", report)], Vec::new());
    /// assert!(page.html()?.contains("</svg>"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`PageError`] where a chart cannot be drawn, which no figures should bring about.
    pub fn html(&self) -> Result<String, PageError> {
        let Some(first) = self.runs.first() else { return Err(PageError("no run".to_owned())) };
        let mut out = String::with_capacity(1 << 17);
        let title = escaped(&first.name);
        write!(out, "{HEAD}<title>{title} over {} origins</title>{STYLE}", self.origins)?;
        write!(out, "</head><body><main><header><h1>{title}</h1><p class=\"lead\">")?;
        write!(
            out,
            "{} origins over {:.0} days, {} visits a day ({} of all changes); figures count from day {:.0} on.",
            grouped(self.origins),
            self.days,
            shortened(self.visits_per_day),
            percent(self.budget),
            self.measure_from,
        )?;
        out.push_str("</p></header>");
        self.tiles(&mut out, &first.report)?;
        self.legend(&mut out)?;
        out.push_str("<div class=\"grid\">");
        figure(
            &mut out,
            "Current copies over time",
            "Share of origins whose copy is what upstream has. The dotted line is the bound in hindsight.",
            &charts::history(self, |p| 100.0 * p.fresh, Some(100.0 * self.bounds.clairvoyant), "%")?,
        )?;
        figure(
            &mut out,
            "Age of the oldest change not archived",
            "Mean over all origins, in days; zero for those that are current.",
            &charts::history(self, |p| p.age, None, "days")?,
        )?;
        if self.sweep.len() > 1 {
            figure(
                &mut out,
                "What a larger budget buys",
                "Current copies by visits, as a share of all changes. Dotted: the best in hindsight; dashed: \
                 the best without signals, were changes independent.",
                &charts::sweep(self)?,
            )?;
        }
        figure(
            &mut out,
            "How long copies were out of date",
            "Share of origins whose longest time without a current copy was longer than so many days.",
            &charts::staleness(self)?,
        )?;
        figure(
            &mut out,
            "Where visits went",
            "By how often the origin's listing is read: <span class=\"legend key\"><span><i class=\"s2\"></i>\
             something new</span><span><i class=\"s0\"></i>nothing new</span><span><i class=\"s4\"></i>archived \
             nothing</span></span>",
            &charts::spent(self, &first.report)?,
        )?;
        lanes(&mut out, &first.report)?;
        out.push_str("</div>");
        self.table(&mut out)?;
        let digest = escaped(&first.report.sequence_sha256);
        write!(
            out,
            "<footer>Sequence of visits <code>{digest}</code>. The same world, policy and budget give the \
             same sequence.</footer></main></body></html>"
        )?;
        Ok(out)
    }

    fn tiles(&self, out: &mut String, r: &Report) -> fmt::Result {
        let of_bound = percent(ratio(r.fresh, self.bounds.clairvoyant));
        let tiles = [
            (percent(r.fresh), "current copies", format!("{of_bound} of the bound in hindsight")),
            (days(r.age), "mean age", "of the oldest change not archived".to_owned()),
            (days(r.lag), "mean lag", "from a change to its archival".to_owned()),
            (days(r.ttfv), "to the first visit", "of a new origin".to_owned()),
            (days(r.p99), "worst but for 1 %", "longest time without a current copy".to_owned()),
            (
                percent(r.useless),
                "of visits found nothing new",
                format!("{} archived nothing", percent(r.failed)),
            ),
        ];
        out.push_str("<section class=\"tiles\">");
        for (value, name, more) in tiles {
            write!(out, "<div><b>{value}</b><span>{name}</span><small>{more}</small></div>")?;
        }
        out.push_str("</section>");
        Ok(())
    }

    fn legend(&self, out: &mut String) -> fmt::Result {
        out.push_str("<p class=\"legend\">");
        for (i, run) in self.runs.iter().enumerate() {
            let (class, name) = (charts::class(i), escaped(&run.name));
            write!(out, "<span><i class=\"{class}\"></i>{name}</span>")?;
        }
        out.push_str("</p>");
        Ok(())
    }

    fn table(&self, out: &mut String) -> fmt::Result {
        out.push_str(
            "<section class=\"wide\"><h2>All figures</h2><div class=\"scroll\"><table><thead><tr><th>policy</th>\
             <th>current</th><th>age</th><th>lag</th><th>first visit</th><th>99 %</th><th>worst</th>\
             <th>nothing new</th><th>failed</th><th>visits</th></tr></thead><tbody>",
        );
        for run in &self.runs {
            let r = &run.report;
            write!(
                out,
                "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td><td>{}</td></tr>",
                escaped(&run.name),
                percent(r.fresh),
                days(r.age),
                days(r.lag),
                days(r.ttfv),
                days(r.p99),
                days(r.max),
                percent(r.useless),
                percent(r.failed),
                grouped(usize::try_from(r.visits).unwrap_or(usize::MAX)),
            )?;
        }
        out.push_str("</tbody></table></div></section>");
        Ok(())
    }
}

/// Why visits were made: the lanes that they waited in.
fn lanes(out: &mut String, r: &Report) -> fmt::Result {
    out.push_str(
        "<figure><h2>What visits were made for</h2><table><thead><tr><th>lane</th><th>visits</th>\
         <th>something new</th><th>failed</th></tr></thead><tbody>",
    );
    for (lane, spent) in &r.by_lane {
        let share = |n: u64| {
            let of = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
            percent(ratio(of(n), of(spent.all())))
        };
        write!(
            out,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&lane.replace('_', " ")),
            grouped(usize::try_from(spent.all()).unwrap_or(usize::MAX)),
            share(spent.useful),
            share(spent.failed),
        )?;
    }
    out.push_str(
        "</tbody></table><figcaption>By the lane of the policy that they waited in.</figcaption></figure>",
    );
    Ok(())
}

fn figure(out: &mut String, title: &str, caption: &str, svg: &str) -> fmt::Result {
    write!(out, "<figure><h2>{title}</h2>{svg}<figcaption>{caption}</figcaption></figure>")
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn days(n: f64) -> String {
    format!("{} d", shortened(n))
}

/// Three digits that say something.
fn shortened(n: f64) -> String {
    if n >= 100.0 {
        format!("{n:.0}")
    } else if n >= 10.0 {
        format!("{n:.1}")
    } else {
        format!("{n:.2}")
    }
}

fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<meta name=\"color-scheme\" content=\"light dark\">";

/// Colours are chosen here and not in the charts, so that one page is legible by day and by night.
const STYLE: &str = "<style>\
:root{--ink:#1c2430;--soft:#5b6675;--line:#d9dee5;--page:#f6f7f9;--card:#fff;\
--c0:#b35900;--c1:#1f6feb;--c2:#3a8540;--c3:#8250df;--c4:#c2255c}\
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf0;--soft:#a2adbb;--line:#343c48;--page:#12161c;--card:#1b212a;\
--c0:#ffa94d;--c1:#6ea8fe;--c2:#7ccf84;--c3:#c4a1ff;--c4:#ff8fb1}}\
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);\
font:16px/1.5 system-ui,sans-serif}main{max-width:1180px;margin:0 auto;padding:28px 20px 48px}\
h1{font-size:1.7rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.02rem;margin:0 0 6px}\
.lead{color:var(--soft);margin:4px 0 20px}.tiles{display:grid;gap:12px;\
grid-template-columns:repeat(auto-fit,minmax(165px,1fr))}\
.tiles div,figure,.wide{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;margin:0}\
.tiles b{display:block;font-size:1.5rem}.tiles span{display:block}.tiles small,figcaption,footer{color:var(--soft)}\
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:20px 0 10px}.legend i{display:inline-block;width:22px;\
height:4px;border-radius:2px;margin:0 7px 4px 0;background:currentColor}.key{margin:0;gap:0 14px}.s0{color:var(--c0)}.s1{color:var(--c1)}\
.s2{color:var(--c2)}.s3{color:var(--c3)}.s4{color:var(--c4)}\
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr))}\
figcaption{font-size:.85rem}.wide{margin-top:14px}.scroll{overflow-x:auto}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:5px 10px;text-align:right;border-top:1px solid var(--line);white-space:nowrap}thead th{border:0;\
color:var(--soft);font-weight:500}th:first-child{text-align:left}footer{margin-top:18px;font-size:.85rem;\
overflow-wrap:anywhere}svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font-family:inherit}\
svg [stroke=\"#000000\"]{stroke:var(--line)}svg [stroke=\"#0A0B0C\"]{stroke:var(--soft)}\
svg [fill=\"#000000\"]:not(text){fill:var(--soft)}\
svg [stroke=\"#C00000\"]{stroke:var(--c0)}svg [stroke=\"#C00001\"]{stroke:var(--c1)}\
svg [stroke=\"#C00002\"]{stroke:var(--c2)}svg [stroke=\"#C00003\"]{stroke:var(--c3)}\
svg [stroke=\"#C00004\"]{stroke:var(--c4)}svg [fill=\"#C00000\"]{fill:var(--c2)}\
svg [fill=\"#C00001\"]{fill:var(--c0)}svg [fill=\"#C00002\"]{fill:var(--c4)}</style>";

#[cfg(test)]
mod tests;
