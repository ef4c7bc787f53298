use super::*;
use crate::backend::MemoryStore;
use crate::policy::{Nutch, Policies};
use crate::sim::{Generator, SimOptions, simulate};

fn page() -> Page {
    futures::executor::block_on(async {
        let world = Generator::new(60, 3).generate();
        let options = SimOptions::new(0.3 * world.volume_per_day);
        let oldest = simulate(&world, &MemoryStore::new(), &options).await.unwrap();
        let nutch = MemoryStore::with_policies(Policies::all(Nutch));
        let nutch = simulate(&world, &nutch, &options).await.unwrap();
        let sweep = [0.1, 0.3, 1.0].map(|budget| {
            let bounds = Bounds::of(&world, budget * world.volume_per_day);
            SweepPoint::new(budget, bounds, vec![oldest.fresh, nutch.fresh])
        });
        let runs = vec![Named::new("<mine> & co", oldest), Named::new("nutch", nutch)];
        Page::new(&world, 0.3, runs, sweep.into())
    })
}

#[test]
fn a_page_needs_nothing_from_elsewhere_and_draws_all_its_charts() {
    let html = page().html().unwrap();
    assert_eq!(html.matches("<svg ").count(), 5);
    assert_eq!(html.matches("<figure>").count(), 6, "five charts and a table");
    // The namespace of SVG is a name and no request.
    let links = html.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "<script", "src=", "href=", "url(", "@import"] {
        assert!(!links.contains(word), "{word}");
    }
    assert!(html.contains("&lt;mine&gt; &amp; co") && !html.contains("<mine>"));
    for broken in ["NaN", "inf\"", "inf,"] {
        assert!(!html.contains(broken), "{broken}");
    }
}

#[test]
fn every_run_has_its_line_in_every_chart_of_runs() {
    let html = page().html().unwrap();
    let charts: Vec<&str> = html.split("<svg ").skip(1).map(|s| s.split("</svg>").next().unwrap()).collect();
    for chart in &charts[..4] {
        for colour in ["#C00000", "#C00001"] {
            assert!(chart.contains(&format!("stroke=\"{colour}\"")), "{colour}");
        }
    }
    // Bars: something new, nothing new and nothing archived, of each of four kinds.
    assert_eq!(charts[4].matches("fill=\"#C0000").count(), 12);
}

#[test]
fn a_page_without_a_run_is_an_error_and_not_an_empty_page() {
    let mut page = page();
    page.runs.clear();
    assert!(page.html().is_err());
}
