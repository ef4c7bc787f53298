//! Indexes in HTML.

use proptest::prelude::*;

use super::*;

const STYLES: [(&str, &str); 5] = [
    ("paper", include_str!("styles/paper.html")),
    ("gitweb", include_str!("styles/gitweb.html")),
    ("monoblue", include_str!("styles/monoblue.html")),
    ("spartan", include_str!("styles/spartan.html")),
    ("coal", include_str!("styles/coal.html")),
];

fn index(rows: &str) -> String {
    format!(
        "<html><head><title>Mercurial repositories index</title></head><body><table>\
         <tr><td><a href=\"?sort=name\">Name</a></td><td>D</td><td>C</td><td>L</td></tr>{rows}</table></body></html>"
    )
}

fn row(href: &str, label: &str, age: &str) -> String {
    format!(
        "<tr><td><a href=\"{href}\"><b>{label}</b></a></td><td></td><td></td><td class=\"age\">{age}</td></tr>"
    )
}

fn read_rows(rows: &str) -> Result<PageBatch, ListerError> {
    read(&html_at(ROOT), ROOT, index(rows))
}

#[test]
fn each_style_of_mercurial_is_read() {
    for (style, body) in STYLES {
        let libs = "https://hg.example/libs/";
        let batch = read(&html_at(libs), libs, body).unwrap();
        let found: Vec<(&str, String)> = batch
            .origins
            .iter()
            .map(|s| (s.origin.url.as_str(), s.origin.last_update.unwrap().to_string()))
            .collect();
        let expected = [
            ("https://hg.example/libs/a%23b%3Fc%3Bd/", "2023-11-23T06:21:28Z"),
            ("https://hg.example/libs/c%2B%2B/", "2023-11-20T03:18:25Z"),
            ("https://hg.example/libs/it%27s/", "2023-11-22T05:20:27Z"),
            ("https://hg.example/libs/%E6%97%A5%E6%9C%AC%E8%AA%9E/", "2023-11-21T04:19:26Z"),
        ]
        .map(|(url, date)| (url, date.to_owned()));
        assert_eq!(found, expected, "{style}");
        assert!(batch.skips.is_empty() && batch.follows.is_empty(), "{style}");
    }
}

#[test]
fn addresses_of_repositories_have_no_style() {
    assert!(STYLES[1].1.contains("/?style=gitweb\""), "hgweb puts the style into its links");
    let batch = read_rows(&row("/hg/r/?style=gitweb#x", "r", "")).unwrap();
    assert_eq!(origins(&batch), ["https://hg.example/hg/r/"]);
}

#[test]
fn directories_are_told_from_repositories() {
    let rows = [
        row("/hg/d/?style=coal", "d/ ", "Wed, 15 Jul 2020 14:03:29 +0100"),
        row("/hg/r/", "r", ""),
        "<tr><td>Directory</td><td>Description</td></tr>".to_owned(),
        "<tr><td><a href=\"/hg/group\">group</a></td><td>A group</td></tr>".to_owned(),
        "<tr><td><a href=\"/hg/three\">three</a></td><td></td><td></td></tr>".to_owned(),
        "<tr><th><a href=\"/hg/no\">no</a></th></tr>".to_owned(),
        "<tr><td></td><td></td><td></td><td class=\"age\"></td></tr>".to_owned(),
    ];
    let batch = read_rows(&rows.concat()).unwrap();
    assert_eq!(origins(&batch), ["https://hg.example/hg/r/"]);
    assert_eq!(follows(&batch), ["d/", "group", "three"].map(|d| html_at(&format!("{ROOT}{d}"))));
    assert!(batch.skips.is_empty());
}

#[test]
fn dates_in_html_are_read_where_they_are_dates() {
    let date = |age: &str| {
        let batch = read_rows(&row("/hg/r/", "r", age)).unwrap();
        batch.origins[0].origin.last_update.map(|d| d.to_string())
    };
    let is = |text: &str| Some(text.to_owned());
    assert_eq!(date("Wed, 15 Jul 2020 14:03:29 +0100"), is("2020-07-15T13:03:29Z"));
    assert_eq!(date(" at 2026-02-05T07:11:55+00:00\n"), is("2026-02-05T07:11:55Z"));
    assert_eq!(date("2026-02-05T07:11:55-02:00"), is("2026-02-05T09:11:55Z"));
    for none in ["", "3 years ago", "at", "at noon", "&nbsp;", "2026-02-05"] {
        assert_eq!(date(none), None, "{none}");
    }
    // Only the cell that is for it.
    let other = row("/hg/r/", "r", "Wed, 15 Jul 2020 14:03:29 +0100").replace("\"age\"", "\"age old\"");
    assert_eq!(read_rows(&other).unwrap().origins[0].origin.last_update, None);
}

#[test]
fn what_leads_out_of_the_tree_is_left_out() {
    let good = row("/hg/r/", "r", "");
    let cases = [
        (row("https://other.example/hg/r/", "r", ""), "leads to another host (other.example)"),
        (row("https://hg.example:8443/hg/r/", "r", ""), "leads to another host (hg.example:8443)"),
        (row("javascript:alert(1)", "r", ""), "leads to no page (\"javascript:alert(1)\")"),
        (row("/other/", "other/", ""), "leads out of hg.example/hg/"),
        (row("/hg/", "hg/", ""), "leads out of hg.example/hg/"),
        (row("/", "up/", ""), "leads out of hg.example/hg/"),
        (row("/hgx/d/", "d/", ""), "leads out of hg.example/hg/"),
        (row("/hg/../x/", "d/", ""), "leads out of hg.example/hg/"),
    ];
    for (bad, why) in cases {
        let batch = read_rows(&format!("{good}{bad}")).unwrap();
        assert_eq!((origins(&batch), skips(&batch)), (vec!["https://hg.example/hg/r/"], vec![why]), "{bad}");
        let alone = parse_error(read_rows(&bad));
        assert!(alone.contains("none of the 1 entries can be used") && alone.contains(why), "{alone}");
    }
    // A repository may lie beside the index, and the index may have moved.
    let batch = read_rows(&row("/repos/r", "r", "")).unwrap();
    assert_eq!(origins(&batch), ["https://hg.example/repos/r"]);
    let moved = index(&[row("d/", "d/", ""), row("/new/r/", "r", "")].concat());
    let batch = read(&html_at(ROOT), "https://www.hg.example/new/", moved).unwrap();
    assert_eq!(origins(&batch), ["https://www.hg.example/new/r/"]);
    assert_eq!(follows(&batch), [html_at("https://www.hg.example/new/d/")]);
}

#[test]
fn a_tree_that_is_too_deep_is_left_out() {
    let deep = |n: usize| format!("/hg/{}", "d/".repeat(n));
    let batch = read_rows(&[row(&deep(32), "d/", ""), row(&deep(33), "d/", "")].concat()).unwrap();
    assert_eq!(follows(&batch), [html_at(&format!("https://hg.example{}", deep(32)))]);
    assert_eq!(skips(&batch), ["lies deeper than 32 directories"]);
}

#[test]
fn an_empty_index_is_no_error() {
    let batch = read_rows("").unwrap();
    assert!(batch.is_empty());
}

#[test]
fn what_is_no_index_is_an_error_that_says_why() {
    let error = |body: &str| parse_error(read(&html_at(ROOT), ROOT, body));
    let proxy = error("<html><head><title>502 Bad Gateway</title></head><body></body></html>");
    assert!(proxy.contains("no table of repositories") && proxy.contains("502 Bad Gateway"), "{proxy}");
    assert!(error("").contains("is this the index of an hgweb?"));
    // A file server's folder, and a repository's log, are tables with links and dates too.
    let folder = "<html><table><tr><th><a href=\"?C=N;O=D\">Name</a></th></tr><tr><td></td><td><a href=\"x/\">x/</a></td><td>1</td><td>2</td></tr></table></html>";
    assert!(error(folder).contains("no table of repositories"));
    let log = index(&row("/hg/r/rev/1", "a commit", "")).replace("?sort=name", "/hg/r/shortlog");
    assert!(error(&log).contains("no table of repositories"));
    for (style, body) in STYLES {
        let cut = &body[..body.len() - 40];
        assert!(error(cut).contains("the index is cut: no </html>"), "{style}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_cut_or_bent_page_makes_it_panic(
        which in 0..5usize, at in any::<prop::sample::Index>(), len in 0..60usize, with in ".{0,40}",
    ) {
        let mut bytes = STYLES[which].1.as_bytes().to_vec();
        let from = at.index(bytes.len());
        let to = (from + len).min(bytes.len());
        bytes.splice(from..to, with.into_bytes());
        if let Ok(batch) = read(&html_at(ROOT), ROOT, bytes.clone()) {
            prop_assert!(batch.origins.iter().all(|s| s.origin.url.starts_with("https://hg.example/")));
        }
        let _ = read(&json_at(ROOT), ROOT, bytes);
    }
}
