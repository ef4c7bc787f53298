//! Pages that nobody meant to send.

use lamplighter::lister::{Lister, ListerErrorKind, PageBatch};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Recorded pages of the index, then of repositories.
const PAGES: [(bool, &str); 7] = [
    (true, "live/run-1-index-1.html"),
    (true, "live/run-1-index-4.html"),
    (true, "noroot/index-1.html"),
    (true, "empty/index.html"),
    (false, "live/repo-empty.html"),
    (false, "live/repo-with_space.html"),
    (false, "noroot/repo-empty.html"),
];

fn cursor_of(is_index: bool) -> CGitCursor {
    if is_index { at_index(INDEX) } else { at_repo("https://cgit.example/cgit/with%20space.git") }
}

/// What must hold of any answer: an error of the page, or cursors that stay on the host.
fn holds(at: &CGitCursor, body: &[u8]) -> Result<Option<PageBatch>, TestCaseError> {
    for lister in [cgit(), cgit().with_base_git_url("https://clone.example/r").unwrap()] {
        match read(&lister, at, body) {
            Err(e) => prop_assert_eq!(e.kind(), ListerErrorKind::Parse),
            Ok(batch) => {
                for follow in &batch.follows {
                    let asked = lister.request(&cursor(follow)).unwrap().url;
                    prop_assert_eq!(asked.host_str(), Some("cgit.example"));
                }
            }
        }
    }
    Ok(read(&cgit(), at, body).ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_bytes_make_it_panic(
        is_index: bool,
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..2_000),
            "(<[a-z/]{1,5}( (class|href|rel|title)='[^']{0,8}')?>|[ -~]){0,60}".prop_map(String::into_bytes),
        ],
    ) {
        holds(&cursor_of(is_index), &body)?;
    }

    #[test]
    fn no_cut_or_bent_page_makes_it_panic(
        which in any::<Index>(),
        cut in any::<Index>(),
        bend in any::<Index>(),
        by in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let (is_index, file) = *which.get(&PAGES);
        let (at, mut page) = (cursor_of(is_index), recorded(file).into_bytes());
        let whole = read(&cgit(), &at, page.as_slice()).unwrap();
        // Cut: an error, or all of it. Never less.
        if let Some(batch) = holds(&at, &page[..cut.index(page.len() + 1)])? {
            prop_assert_eq!(&batch, &whole);
        }
        // Bent: some bytes are others.
        let from = bend.index(page.len());
        page.splice(from..(from + by.len()).min(page.len()), by);
        holds(&at, &page)?;
    }

    /// A date, a link and a pager of any text.
    #[test]
    fn no_attribute_makes_it_panic(href in "[^']{0,30}", date in "[0-9 :+()A-Zé-]{0,30}", clone in "[^']{0,30}") {
        let pager = format!("<ul class='pager'><li class='current'></li><li><a href='{href}'>2</a></li></ul>");
        holds(&at_index(INDEX), index_page(&row(&href, &date), &pager).as_bytes())?;
        holds(&at_repo(REPO), repo_page(&href, &[&clone, &href, &clone]).as_bytes())?;
    }
}

#[test]
fn a_page_like_no_real_one_is_an_error() {
    let deep = |n: usize| "<div>".repeat(n) + &"</div>".repeat(n);
    for (at, page) in [
        (at_index(INDEX), index_page(&row("/cgit/r/", ""), "<i></i>")),
        (at_repo(REPO), repo_page("/cgit/r/", &["https://h/r"]).replace("<title>", "<i></i><title>")),
    ] {
        let with = |what: &str| read(&cgit(), &at, page.replace("<i></i>", what));
        // A parser takes minutes for this one, and its tree may not fit the stack.
        assert!(parse_error(with(&deep(100_000))).contains("in one another"));
        assert!(parse_error(with(&"x".repeat(17 << 20))).contains("bytes"));
        for real in [deep(50), "x".repeat(1 << 20)] {
            assert!(!with(&real).unwrap().is_empty());
        }
    }
}
