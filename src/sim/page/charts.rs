//! The charts, as SVG. Their colours are names that the page's style replaces.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Page, PageError};
use crate::sim::{Point, Report};

const WIDTH: u32 = 560;
const HEIGHT: u32 = 320;

/// Lines of the grid and axes.
const FAINT: RGBColor = RGBColor(0, 0, 0);
/// Bounds.
const BOUND: RGBColor = RGBColor(0x0A, 0x0B, 0x0C);

type Result<T> = std::result::Result<T, PageError>;

fn failed(e: impl std::fmt::Display) -> PageError {
    PageError(e.to_string())
}

/// The colour that stands for a run; five differ.
fn colour(i: usize) -> RGBColor {
    RGBColor(0xC0, 0, u8::try_from(i % 5).unwrap_or(0))
}

/// The class of a run's colour in the page.
pub(super) fn class(i: usize) -> String {
    format!("s{}", i % 5)
}

/// Draws on a fresh sheet.
fn sheet(draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    // The page scales it.
    let fixed = format!("width=\"{WIDTH}\" height=\"{HEIGHT}\" ");
    Ok(svg.replacen(&fixed, "role=\"img\" ", 1))
}

/// The extent of numbers with some air, never empty.
fn extent(numbers: impl Iterator<Item = f64>, zero: bool) -> (f64, f64) {
    let finite = numbers.filter(|n| n.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), n| (l.min(n), h.max(n)));
    if low > high {
        return (0.0, 1.0);
    }
    let air = ((high - low) * 0.06).max(high.abs() * 0.005).max(1e-3);
    (if zero { 0.0 } else { (low - air).max(0.0) }, high + air)
}

/// A chart of lines over a linear axis.
macro_rules! axes {
    ($area:expr, $x:expr, $y:expr, $x_text:expr, $y_text:expr, $x_label:expr, $y_label:expr) => {{
        let mut chart = ChartBuilder::on($area)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(52)
            .build_cartesian_2d($x, $y)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(FAINT)
            .label_style(("sans-serif", 13))
            .x_labels(7)
            .y_labels(6)
            .x_desc($x_text)
            .y_desc($y_text)
            .x_label_formatter(&$x_label)
            .y_label_formatter(&$y_label)
            .draw()
            .map_err(failed)?;
        chart
    }};
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as plotters asks for it")]
fn plain(n: &f64) -> String {
    if n.abs() >= 10.0 || n.fract().abs() < 1e-9 { format!("{n:.0}") } else { format!("{n:.2}") }
}

/// A figure over time, of all runs.
pub(super) fn history(
    page: &Page,
    of: impl Fn(&Point) -> f64,
    bound: Option<f64>,
    unit: &str,
) -> Result<String> {
    let all = page.runs.iter().flat_map(|r| &r.report.history);
    let counted = all.filter(|p| p.day >= page.measure_from / 4.0);
    let (low, high) = extent(counted.map(&of).chain(bound), bound.is_none());
    sheet(|area| {
        let mut chart = axes!(area, 0.0..page.days, low..high, "day", unit, plain, plain);
        if let Some(bound) = bound {
            dashed(&mut chart, vec![(0.0, bound), (page.days, bound)], 2)?;
        }
        // The one that the page is about is drawn last, above the others.
        for (i, run) in page.runs.iter().enumerate().rev() {
            let width = if i == 0 { 3 } else { 2 };
            let line = run.report.history.iter().map(|p| (p.day, of(p).clamp(low, high)));
            let style = ShapeStyle::from(colour(i)).stroke_width(width);
            chart.draw_series(LineSeries::new(line, style)).map_err(failed)?;
        }
        Ok(())
    })
}

fn dashed<DB: DrawingBackend, CT: plotters::coord::CoordTranslate<From = (f64, f64)>>(
    chart: &mut ChartContext<'_, DB, CT>,
    line: Vec<(f64, f64)>,
    dash: u32,
) -> Result<()> {
    let style = ShapeStyle::from(BOUND).stroke_width(2);
    chart.draw_series(DashedLineSeries::new(line, dash, 5, style)).map_err(failed)?;
    Ok(())
}

/// Freshness by budget, on a logarithmic axis.
pub(super) fn sweep(page: &Page) -> Result<String> {
    let budgets = page.sweep.iter().map(|s| s.budget);
    let first = budgets.clone().fold(f64::INFINITY, f64::min);
    let last = budgets.fold(0.0, f64::max);
    let bounds = page.sweep.iter().flat_map(|s| [s.bounds.oracle, s.bounds.clairvoyant]);
    let all = page.sweep.iter().flat_map(|s| s.fresh.iter().copied()).chain(bounds);
    let (low, high) = extent(all.map(|f| 100.0 * f), false);
    let share = |n: &f64| format!("{} %", plain(&(100.0 * n)));
    sheet(|area| {
        let x = (first..last).log_scale();
        let mut chart = axes!(area, x, low..high, "visits per change", "%", share, plain);
        let hindsight = page.sweep.iter().map(|s| (s.budget, 100.0 * s.bounds.clairvoyant)).collect();
        dashed(&mut chart, hindsight, 2)?;
        let oracle = page.sweep.iter().map(|s| (s.budget, 100.0 * s.bounds.oracle)).collect();
        dashed(&mut chart, oracle, 7)?;
        for (i, _) in page.runs.iter().enumerate().rev() {
            let width = if i == 0 { 3 } else { 2 };
            let style = ShapeStyle::from(colour(i)).stroke_width(width);
            let line = page.sweep.iter().filter_map(|s| Some((s.budget, 100.0 * s.fresh.get(i)?)));
            chart.draw_series(LineSeries::new(line, style).point_size(width)).map_err(failed)?;
        }
        Ok(())
    })
}

/// Of which share of origins the longest time without a current copy was longer.
pub(super) fn staleness(page: &Page) -> Result<String> {
    let longest = page.runs.iter().filter_map(|r| r.report.worst.last()).fold(1.0, |a: f64, b| a.max(*b));
    sheet(|area| {
        let x = (0.1..longest.max(1.0)).log_scale();
        let mut chart = axes!(area, x, 0.0..100.0, "days", "% of origins", plain, plain);
        for (i, run) in page.runs.iter().enumerate().rev() {
            let width = if i == 0 { 3 } else { 2 };
            let style = ShapeStyle::from(colour(i)).stroke_width(width);
            chart.draw_series(LineSeries::new(longer(&run.report.worst), style)).map_err(failed)?;
        }
        Ok(())
    })
}

/// At most some hundred points of the share that is longer.
fn longer(worst: &[f64]) -> Vec<(f64, f64)> {
    let step = (worst.len() / 300).max(1);
    let n = super::super::generate::to_f64(worst.len().max(1));
    let share = |i: usize| 100.0 * (1.0 - super::super::generate::to_f64(i + 1) / n);
    let points = worst.iter().enumerate().filter(|(i, _)| i % step == 0 || i + 1 == worst.len());
    let shown: Vec<_> = points.map(|(i, days)| (*days, share(i))).filter(|(days, _)| *days > 0.1).collect();
    // To the left of the first of them, those that never were out of date for that long.
    let left = shown.first().map(|(_, share)| (0.1, *share));
    left.into_iter().chain(shown).collect()
}

/// Visits by kind of lister, stacked.
pub(super) fn spent(page: &Page, report: &Report) -> Result<String> {
    let count = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let most = report.by_kind.iter().map(|s| count(s.all())).fold(1.0, f64::max);
    let kinds = u32::try_from(report.by_kind.len().max(1)).unwrap_or(1);
    let name = |x: &f64| {
        let middle = (x.fract() - 0.5).abs() < 0.01;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the number of a bar")]
        let kind = page.kinds.get(x.max(0.0) as usize).filter(|_| middle);
        kind.cloned().unwrap_or_default()
    };
    sheet(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..f64::from(kinds), 0.0..most * 1.05)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .disable_x_mesh()
            .axis_style(FAINT)
            .label_style(("sans-serif", 13))
            .x_labels(2 * usize::try_from(kinds).unwrap_or(1) + 1)
            .y_labels(6)
            .y_desc("visits")
            .x_label_formatter(&name)
            .y_label_formatter(&plain)
            .draw()
            .map_err(failed)?;
        for (i, spent) in (0u32..).zip(&report.by_kind) {
            let (left, right) = (f64::from(i) + 0.2, f64::from(i) + 0.8);
            let mut from = 0.0;
            for (n, part) in [spent.useful, spent.useless, spent.failed].into_iter().enumerate() {
                let to = from + count(part);
                let bar = Rectangle::new([(left, from), (right, to)], colour(n).filled());
                chart.draw_series(std::iter::once(bar)).map_err(failed)?;
                from = to;
            }
        }
        Ok(())
    })
}
