//! Fossil.
#![cfg(feature = "html")]

use lamplighter::lister::{Coverage, Lister, ListerError, ListerErrorKind, Mode, PageBatch};
use lamplighter::listers::Fossil;
use lamplighter::listers::fossil::FossilCursor;
use lamplighter::model::Timestamp;
use serde_json::json;

use super::pages::assert_error;
use super::{
    answer, assert_repeats, assert_stored, build, build_error, first_request, header, origins, read, run,
    url, urls,
};

const LIST: &str = "https://fossil.example/f/";
const NOW: &str = "Thu, 08 Oct 2026 12:00:20 GMT";

fn fossil() -> Fossil {
    Fossil::new(url(LIST), "fossil.example")
}

fn at() -> FossilCursor {
    serde_json::from_value(json!({})).unwrap()
}

fn list_of(rows: &str) -> String {
    format!(
        "<html>\n<head>\n<base href=\"https://fossil.example/f/\" />\n<title>Repository List</title>\n</head>\n<body>\n\
         <table border='0' class='sortable'><thead>\n<tr><th>Filename<th width='20'><th>Last Modified</tr>\n</thead><tbody>\n\
         {rows}</tbody></table>\n</body>\n</html>\n"
    )
}

fn row(href: &str, name: &str, age: &str) -> String {
    format!(
        "<tr><td valign='top'><a href='{href}' target='_blank'>{name}</a>\n<td></td><td></td>\n<td></td>\
         <td data-sortkey='{age}'>an age</td>\n<td></td><td></td></tr>\n"
    )
}

fn try_list(body: String) -> Result<PageBatch, ListerError> {
    read(&fossil(), &at(), answer(LIST, body).with_header("date", NOW))
}

#[test]
fn fossil_asks_once_for_the_list() {
    assert_eq!(fossil().start(&run(Mode::Full)), [at()]);
    let request = fossil().request(&at()).unwrap();
    assert_eq!((request.url.as_str(), header(&request, "accept")), (LIST, Some("text/html")));
    assert_stored(&fossil(), &at());
    assert_eq!((fossil().name(), fossil().coverage(Mode::Full)), ("fossil", Coverage::All));
    let built = build("fossil", &json!({"instance": "fossil.example"})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), "https://fossil.example/");
    assert!(build_error("fossil", &json!({})).contains("url="));
}

#[test]
fn fossil_reads_the_list() {
    let body = list_of(&(row("/f/a/home", "a.fossil", "0000003c") + &row("/f/d/e/home", "d/e.fossil", "x")));
    let batch = try_list(body.clone()).unwrap();
    assert_eq!(urls(&batch), ["https://fossil.example/f/a", "https://fossil.example/f/d/e"]);
    let [a, e] = origins(&batch)[..] else { panic!() };
    assert_eq!((a.visit_type.as_str(), a.forge_id.as_deref(), a.is_fork), ("fossil", None, None));
    assert_eq!(
        (a.last_update, e.last_update),
        (Some(Timestamp::parse("2026-10-08T11:59:00Z").unwrap()), None)
    );
    assert!(batch.skips.is_empty());
    assert_repeats(&fossil(), &at(), &answer(LIST, body));
}

#[test]
fn fossil_ages_are_of_the_server() {
    let aged = |age: &str| origins(&try_list(list_of(&row("a/home", "a", age))).unwrap())[0].last_update;
    let time = |text| Some(Timestamp::parse(text).unwrap());
    assert_eq!(aged("05b1dd04"), time("2023-09-28T16:25:00Z"));
    // One second more or less is no news.
    assert_eq!(aged("05b1dd05"), aged("05b1dd04"));
    for odd in ["", "-1", "7fffffffffffffff", "ffffffffffffffffff", "soon"] {
        assert_eq!(aged(odd).filter(|at| at.as_seconds() > 0), None, "{odd:?}");
    }
    let undated = read(&fossil(), &at(), answer(LIST, list_of(&row("a/home", "a", "3c")))).unwrap();
    assert_eq!(origins(&undated)[0].last_update, None, "the server does not say when it is");
}

#[test]
fn fossil_links_are_read_by_their_base() {
    for (href, taken) in [
        ("/f/a/home", "https://fossil.example/f/a"),
        ("a/home", "https://fossil.example/f/a"),
        ("https://fossil.example/x/a/", "https://fossil.example/x/a"),
        ("/with+space/home", "https://fossil.example/with+space"),
        ("/c%2B%2B/home?x=1#y", "https://fossil.example/c%2B%2B"),
        ("/home/home", "https://fossil.example/home"),
    ] {
        assert_eq!(urls(&try_list(list_of(&row(href, "a", ""))).unwrap()), [taken], "{href}");
    }
}

#[test]
fn fossil_odd_rows_are_counted() {
    let odd = row("https://other.example/a/home", "elsewhere", "")
        + &row("mailto:ada@example.org", "mail", "")
        + &row("/", "root", "")
        + "<tr><td>closed.fossil</td><td></td></tr>";
    let batch = try_list(list_of(&(odd.clone() + &row("/a/home", "a", "")))).unwrap();
    let skipped: Vec<&str> = batch.skips.iter().map(|skip| skip.what.as_str()).collect();
    assert_eq!((urls(&batch).len(), skipped), (1, vec!["elsewhere", "mail", "root", "closed.fossil"]));
    assert_error(try_list(list_of(&odd)), ListerErrorKind::Parse, &["none of the 4 rows"]);
}

#[test]
fn fossil_an_empty_list_is_no_error() {
    assert!(try_list(list_of("")).unwrap().is_empty());
}

#[test]
fn fossil_what_is_no_list_is_an_error() {
    let page = "<html><head><title>Some Project: Home</title></head></html>";
    assert_error(try_list(page.into()), ListerErrorKind::Parse, &["Repository List", "Some Project"]);
    assert_error(try_list(String::new()), ListerErrorKind::Parse, &["Repository List"]);
    let whole = list_of(&row("/a/home", "a", ""));
    assert_error(try_list(whole[..whole.len() - 20].to_owned()), ListerErrorKind::Parse, &["cut"]);
}

#[test]
fn fossil_no_cut_or_bent_page_makes_it_panic() {
    let list = list_of(&(row("/ü/home", "ü", "zz") + &row("?", "", "-")));
    for at in (0..list.len()).filter(|at| list.is_char_boundary(*at)) {
        let _ = try_list(list[..at].to_owned());
        let _ = try_list(list[at..].to_owned());
    }
}
