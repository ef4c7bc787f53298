//! Pages of repositories.

use lamplighter::listers::cgit::CGitCursor;
use lamplighter::model::Timestamp;

use super::*;

#[test]
fn the_clone_link_is_the_one_that_anybody_can_use() {
    let updated = Some(Timestamp::from_seconds(1));
    let at = CGitCursor::Repo { url: url(REPO), updated, hop: false };
    let chosen = |hrefs: &[&str]| {
        let batch = read(&cgit(), &at, repo_page("/cgit/r/", hrefs)).unwrap();
        assert_eq!((batch.origins.len(), batch.follows.len(), batch.skips.len()), (1, 0, 0));
        let origin = batch.origins[0].origin.clone();
        assert_eq!((origin.visit_type.as_str(), origin.last_update), ("git", updated));
        origin.url
    };
    assert_eq!(chosen(&["git://h/r", "http://h/r", "https://h/r", "https://h/s"]), "https://h/r");
    assert_eq!(chosen(&["git://h/r", "http://h/r", "ssh://h/r"]), "http://h/r");
    assert_eq!(chosen(&["git@h:r", "ssh://h/r", "git://h/r"]), "git://h/r");
    assert_eq!(chosen(&["/git/r"]), "https://cgit.example/git/r");
    assert_eq!(chosen(&["https://h/r", " ", ""]), "https://h/r");
}

#[test]
fn real_pages_of_odd_names_give_the_clone_link_of_the_table() {
    // From the names on disk, escaped as git takes them (tried with `git ls-remote`).
    for (file, path) in [
        ("empty", "empty.git"),
        ("with_space", "with%20space.git"),
        ("two_more_spaces", "two%20more%20%20spaces.git"),
        ("libs_c++parser", "libs/c++parser.git"),
        ("libs_n_code", "libs/%c3%bcn%c3%afcode.git"),
        ("libs_it_s_100", "libs/it%27s%20100%25.git"),
        ("deep_a_b_c_nested", "deep/a/b/c/nested.git"),
    ] {
        let clone = format!("{INDEX}{path}");
        let batch = read(&cgit(), &at_repo(&clone), recorded(&format!("live/repo-{file}.html"))).unwrap();
        assert_eq!(origins(&batch), [clone]);
    }
    // What the head says of an empty repository, where a site sets `clone-url`, is no repository.
    let clone = "https://cgit.example/cgit/empty.git";
    let page = repo_page("/cgit/empty.git/", &[clone])
        .replace("<title>", "<link rel='vcs-git' href='https://cgit.example/cgit/'/><title>");
    assert_eq!(origins(&read(&cgit(), &at_repo(clone), page).unwrap()), [clone]);
}

#[test]
fn a_link_from_the_head_is_escaped() {
    let link = "<link rel='vcs-git' href='https://h/ü 100%/%C3%bc/%ag%g1%c'/><title>";
    let page = repo_page("/cgit/r/", &[]).replace("<title>", link);
    let batch = read(&cgit(), &at_repo(REPO), page).unwrap();
    assert_eq!(origins(&batch), ["https://h/%c3%bc%20100%25/%C3%bc/%25ag%25g1%25c"]);
}

#[test]
fn a_clone_link_cut_at_spaces_is_joined_or_left_out() {
    let chosen = |hrefs: &[&str], page: &str| -> Vec<String> {
        let batch = read(&cgit(), &at_repo(page), repo_page("", hrefs)).unwrap();
        assert_eq!(batch.origins.len() + batch.skips.len(), 1);
        origins(&batch).into_iter().map(str::to_owned).collect()
    };
    // As recorded from a cgit with `clone-url=https://cgit.example/cgit/$CGIT_REPO_URL git://…`.
    let cut = ["https://cgit.example/cgit/with", "space.git", "git://cgit.example/with", "space.git"];
    let page = "https://cgit.example/cgit/with%20space.git";
    assert_eq!(chosen(&cut, page), ["https://cgit.example/cgit/with%20space.git"]);
    // Two pieces, in a folder, and a web address without `.git`.
    let pieces = ["https://h/a", "b/c", "d.git"];
    assert_eq!(chosen(&pieces, "https://cgit.example/cgit/a%20b/c%20d"), ["https://h/a%20b/c%20d.git"]);
    // Not this repository's name: nothing that is likely wrong is listed.
    assert_eq!(chosen(&["https://h/a", "other.git"], page), Vec::<String>::new());
}

#[test]
fn the_summary_tab_is_one_hop() {
    let batch = read_repo("/cgit/r/summary/", &[]);
    let summary =
        CGitCursor::Repo { url: url("https://cgit.example/cgit/r/summary"), updated: None, hop: true };
    assert_eq!((batch.follows.len(), batch.origins.len(), batch.skips.len()), (1, 0, 0));
    assert_eq!(nexts(&batch), std::slice::from_ref(&summary));
    // From there not on, wherever it leads.
    let back = read(&cgit(), &summary, repo_page("/cgit/r/", &[])).unwrap();
    assert_eq!((back.follows.len(), skips(&back)), (0, vec!["there is no clone link on its page"]));
    let there = read(&cgit(), &summary, repo_page("/cgit/r/", &["https://h/r"])).unwrap();
    assert_eq!(origins(&there), ["https://h/r"]);
    // The tab of the page itself is no hop, nor one that is not needed, nor one to elsewhere.
    assert!(read_repo("/cgit/r/", &[]).follows.is_empty());
    let moved = "https://cgit.example/git/r/";
    for own in ["/cgit/r/", "/git/r/"] {
        let batch = read_from(&cgit(), &at_repo(REPO), moved, repo_page(own, &[])).unwrap();
        assert_eq!((batch.follows.len(), batch.skips.len()), (0, 1), "{own}");
    }
    let enough = read_repo("/cgit/r/summary/", &["https://h/r"]);
    assert_eq!((origins(&enough), enough.follows.len()), (vec!["https://h/r"], 0));
    let elsewhere = read_repo("//other.example/r/", &[]);
    assert_eq!(elsewhere.follows.len(), 0);
    assert_eq!(skips(&elsewhere), ["its summary leads to another host (other.example)"]);
    // The table of the summary is better than the head of another page.
    let head = "<link rel='vcs-git' href='https://h/'/><title>";
    let page = repo_page("/cgit/r/summary/", &[]).replace("<title>", head);
    assert_eq!(nexts(&read(&cgit(), &at_repo(REPO), page).unwrap()), [summary]);
}

#[test]
fn a_page_without_clone_links_is_a_skip() {
    let page = "https://cgit.example/cgit/empty.git";
    let batch = read(&cgit(), &at_repo(page), recorded("noroot/repo-empty.html")).unwrap();
    assert_eq!((batch.origins.len(), batch.follows.len()), (0, 0));
    assert_eq!(batch.skips[0].what, page);
    assert_eq!(skips(&batch), ["there is no clone link on its page"]);
    let keyed = read_repo("/cgit/r/", &["ssh://git@h/r", "git@h:r"]);
    assert_eq!(skips(&keyed), ["none of its clone links can be used without a key (ssh://git@h/r git@h:r)"]);
}
