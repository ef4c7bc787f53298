//! What pages say of the software that made them: markup that no text quoted in another page can hold.

use crate::transport::Response;

/// What a page says that it is.
pub(super) struct Mark {
    pub(super) lister: &'static str,
    pub(super) version: Option<String>,
    pub(super) evidence: String,
    /// Whether the page itself is what is listed.
    pub(super) is_index: bool,
}

/// Cookies that only one forge sets.
const COOKIES: &[(&str, &str)] = &[
    ("_gitlab_session=", "gitlab"),
    ("i_like_forgejo=", "forgejo"),
    ("i_like_gitea=", "gitea"),
    ("i_like_gogs=", "gogs"),
    ("gerritaccount=", "gerrit"),
    ("tuleap_session_hash=", "tuleap"),
    ("__host-tuleap_session_hash=", "tuleap"),
    ("phsid=", "phabricator"),
    ("bitbucketsessionid=", "bitbucket"),
];

/// How the content of a `<meta>` begins that names the software, in small letters: the name or property, that beginning,
/// and who lists it.
const METAS: &[(&str, &str, &str)] = &[
    ("generator", "cgit ", "cgit"),
    ("generator", "gitweb/", "gitweb"),
    ("generator", "tuleap", "tuleap"),
    ("generator", "forgejo", "forgejo"),
    ("generator", "gitea", "gitea"),
    ("og:site_name", "heptapod", "heptapod"),
    ("og:site_name", "gitlab", "gitlab"),
    ("author", "forgejo", "forgejo"),
    ("author", "gitea", "gitea"),
    ("author", "gogs", "gogs"),
    ("application-name", "bitbucket", "bitbucket"),
    ("description", "gerrit code review", "gerrit"),
];

/// Titles, whole and in small letters.
const TITLES: &[(&str, &str)] = &[
    ("gerrit code review", "gerrit"),
    ("mercurial repositories index", "hgweb"),
    ("gitlab.org / gitlab", "gitlab"),
    ("launchpad", "launchpad"),
    ("heptapod", "heptapod"),
];

/// Pieces of markup, in small letters. All of a row have to be there.
const MARKUP: &[(&[&str], &str)] = &[
    (&["<title>repository list</title>", ">fossil repositories</h1>"], "fossil"),
    (&["<table id=\"index\">", "<title>repositories</title>", "/log.html\""], "stagit"),
    (&["<table id=\"index\">", "<title>repositories</title>", "/files.html\""], "stagit"),
    (&["href=\"https://gerrit.googlesource.com/gitiles/\">gitiles</a>"], "gitiles"),
    (&["<table class=\"repolist", "gitiles"], "gitiles"),
    (&["powered by <a href=\"https://pagure.io/pagure\">pagure</a>"], "pagure"),
    (&["href=\"https://pagure.io/pagure\"", "powered by"], "pagure"),
    (&["hgicon.png\"", "mercurial"], "hgweb"),
    (&["href=\"https://www.mercurial-scm.org/\"", "hglogo.png\""], "hgweb"),
    (&["<title>phorge"], "phorge"),
    (&["phorge.it", "phabricator-"], "phorge"),
    (&["class=\"phabricator-", "phui-"], "phabricator"),
    (&["data-sigil=\"phabricator"], "phabricator"),
    (&["<title>gitlab"], "gitlab"),
    (&["href=\"https://sourcehut.org\"", "navbar-"], "sourcehut"),
    (&["<body", "class=\"tlp-", "tuleap"], "tuleap"),
    (&["id=\"bitbucket-"], "bitbucket"),
];

/// Those whose page is the list itself.
const INDEXES: &[&str] = &["cgit", "fossil", "gitiles", "gitweb", "hgweb", "stagit"];

/// What a page says that it is, by the surest of what is in it.
pub(super) fn mark(response: &Response, text: &str) -> Option<Mark> {
    let lower = text.to_ascii_lowercase();
    let made = |lister: &'static str, version: Option<String>, evidence: String| Mark {
        lister,
        version,
        evidence,
        is_index: INDEXES.contains(&lister),
    };
    for (name, content) in metas(text) {
        let known = |(n, begins, _): &&(&str, &str, &str)| {
            name.eq_ignore_ascii_case(n) && content.to_ascii_lowercase().starts_with(begins)
        };
        if let Some((_, _, lister)) = METAS.iter().find(known) {
            let shown: String = content.chars().take(80).collect();
            let version = version_in(&content).or_else(|| powered(&lower, lister));
            return Some(made(lister, version, format!("<meta {name}>: {shown:?}")));
        }
    }
    if let Some(title) = between(&lower, "<title>", "</title>").map(str::trim)
        && let Some((_, lister)) = TITLES.iter().find(|(known, _)| *known == title)
    {
        return Some(made(lister, powered(&lower, lister), format!("<title>: {title:?}")));
    }
    // A page about a forge quotes its markup escaped.
    if let Some((pieces, lister)) = MARKUP.iter().find(|(pieces, _)| pieces.iter().all(|p| lower.contains(p)))
    {
        let shown = pieces.join(" and ");
        return Some(made(lister, powered(&lower, lister), format!("the page has {shown}")));
    }
    let cookies = response.headers.get_all("set-cookie").iter().filter_map(|v| v.to_str().ok());
    for cookie in cookies {
        let cookie = cookie.to_ascii_lowercase();
        if let Some((begins, lister)) = COOKIES.iter().find(|(begins, _)| cookie.starts_with(begins)) {
            return Some(made(lister, None, format!("the cookie {}", begins.trim_end_matches('='))));
        }
    }
    response
        .headers
        .contains_key("x-gitlab-meta")
        .then(|| made("gitlab", None, "the header x-gitlab-meta".to_owned()))
}

/// The name or property and the content of each `<meta>`.
fn metas(text: &str) -> Vec<(String, String)> {
    let tags = text.split('<').filter_map(|tag| {
        let name = tag.get(..5)?;
        name.eq_ignore_ascii_case("meta ").then(|| tag.split('>').next().unwrap_or_default())
    });
    tags.filter_map(|tag| {
        let name = attribute(tag, "name").or_else(|| attribute(tag, "property"))?;
        Some((name.to_owned(), attribute(tag, "content")?.to_owned()))
    })
    .collect()
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    ['"', '\''].into_iter().find_map(|quote| {
        let begins = format!(" {name}={quote}");
        let (_, rest) = tag.split_once(&begins)?;
        rest.split(quote).next()
    })
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    text.split_once(from)?.1.split_once(to).map(|(inside, _)| inside)
}

/// The first version in a text: digits with dots between.
pub(super) fn version_in(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let word = text
        .split(|c: char| c.is_whitespace() || matches!(c, '/' | ',' | ';' | '"' | '<' | '>' | '('))
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))?;
    let plain: String = word.chars().take_while(|c| is_part(*c)).collect();
    let plain = plain.trim_end_matches('.');
    (plain.contains('.') && plain.len() <= 40).then(|| plain.to_owned())
}

/// The version in what a page has at its foot, as *Powered by Gitea Version: 1.22.3*.
fn powered(lower: &str, lister: &str) -> Option<String> {
    let names = [format!("{lister} version:"), format!("{lister}</a> version:"), format!("{lister}</a> ")];
    let after =
        names.iter().find_map(|name| lower.split("powered by").skip(1).find_map(|p| p.split_once(name)))?;
    version_in(&after.1.chars().take(60).collect::<String>())
}
