//! URLs of repositories as packages give them, in the one form in which a forge lists them.

use std::fmt;

use url::Url;

/// A repository that a package names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Repository {
    /// Its URL: of a large forge in that forge's own form, else as it was said, without what is no
    /// part of it.
    pub url: String,
    /// `git`, `hg`, `svn`, `bzr` or `cvs`, where the text or the forge says so.
    pub kind: Option<&'static str>,
}

/// A text that is meant to name a repository, and does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no repository that can be visited: {problem}")]
#[non_exhaustive]
pub struct RepositoryError {
    /// The beginning of the text.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// How a large forge writes the path of a repository.
#[derive(Clone, Copy)]
enum Path {
    /// So many segments; what comes after them is a page of it.
    Segments(usize),
    /// Any number of segments, up to one that is `-`.
    Groups,
    /// As it is: a snippet by its id, with or without its owner.
    Whole,
}

/// Large forges: their hosts, what they hold, and their paths.
const FORGES: &[(&str, &str, Path)] = &[
    ("github.com", "git", Path::Segments(2)),
    ("gist.github.com", "git", Path::Whole),
    ("gitlab.com", "git", Path::Groups),
    ("bitbucket.org", "git", Path::Segments(2)),
    ("codeberg.org", "git", Path::Segments(2)),
    ("gitee.com", "git", Path::Segments(2)),
    ("git.sr.ht", "git", Path::Segments(2)),
    ("hg.sr.ht", "hg", Path::Segments(2)),
];

/// Names of forges that stand for them: `github:owner/name`.
const SHORT: &[(&str, &str)] =
    &[("github", "github.com"), ("gitlab", "gitlab.com"), ("bitbucket", "bitbucket.org")];

/// What people write where they have to write something.
const NOTHING: &[&str] = &["", "-", "n/a", "na", "none", "null", "unknown", "todo", "tbd"];

const KINDS: &[&str] = &["git", "hg", "svn", "bzr", "cvs"];

/// Longer ones are no URLs that anybody visits.
const LONGEST: usize = 4096;

/// The repository that a text in a package's metadata names: `None` where it says that there is none,
/// or nothing.
///
/// - `git+https://…`, `scm:git:…` and the like give the kind, and are taken off.
/// - `git@host:path`, `ssh://`, `git://`, `http://`, `host/path` and `github:owner/name` of a large forge
///   become `https://`, without `.git`, without the pages of the repository behind its name. The case
///   of names is kept.
/// - Elsewhere the scheme and `.git` are kept, as a server may need them. What can only be had by ssh is
///   an error: nobody but its members can visit it.
/// - Users, passwords and fragments go; so do slashes at the end.
///
/// The result is its own normal form.
///
/// ```
/// use lamplighter::lister::repository_url;
/// let found = repository_url("git@github.com:Owner/name.git")?.unwrap();
/// assert_eq!((found.url.as_str(), found.kind), ("https://github.com/Owner/name", Some("git")));
/// assert_eq!(repository_url("n/a")?, None);
/// assert!(repository_url("git@host.example:name.git").is_err());
/// # Ok::<(), lamplighter::lister::RepositoryError>(())
/// ```
///
/// # Errors
/// [`RepositoryError`] where something is said that is no URL, or one that only its owner can ask.
pub fn repository_url(text: &str) -> Result<Option<Repository>, RepositoryError> {
    let found = named(text)?;
    // A host may turn into that of a forge, or into a quote, when its percents are decoded.
    if let Some(found) = &found
        && !named(&found.url).is_ok_and(|again| again.is_some_and(|again| again.url == found.url))
    {
        return Err(error(text, "it is another URL when it is read again"));
    }
    Ok(found)
}

fn error(text: &str, problem: &'static str) -> RepositoryError {
    RepositoryError { text: text.chars().take(200).collect(), problem }
}

fn named(text: &str) -> Result<Option<Repository>, RepositoryError> {
    let wrong = |problem| error(text, problem);
    let bare = text.trim().trim_matches(['"', '\'', '<', '>']).trim();
    if NOTHING.iter().any(|n| bare.eq_ignore_ascii_case(n)) {
        return Ok(None);
    }
    if bare.len() > LONGEST {
        return Err(wrong("it is too long"));
    }
    if bare.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong("there are blanks in it"));
    }
    let (mut kind, bare) = without_scm(bare);
    let (scheme, rest) = match bare.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (String::new(), bare.trim_start_matches("//")),
    };
    let scheme = match scheme.split_once('+') {
        Some((prefix, inner)) => {
            kind = kind.or_else(|| KINDS.iter().copied().find(|k| *k == prefix));
            inner.to_owned()
        }
        None => scheme,
    };
    if let Some(host) = short(&scheme, rest) {
        return forge(host, rest.split_once(':').map_or(rest, |(_, path)| path))
            .map(|(url, held)| Some(Repository { url, kind: kind.or(Some(held)) }))
            .ok_or_else(|| wrong("it names no repository of that forge"));
    }
    let (host, path) = host_and_path(rest);
    if FORGES.iter().any(|(known, ..)| *known == host) {
        if !matches!(scheme.as_str(), "" | "http" | "https" | "git" | "ssh" | "svn" | "hg") {
            return Err(wrong("nobody visits by that scheme"));
        }
        return forge(&host, path)
            .map(|(url, held)| Some(Repository { url, kind: kind.or(Some(held)) }))
            .ok_or_else(|| wrong("it names no repository of that forge"));
    }
    match scheme.as_str() {
        "" if rest.contains('@') => Err(wrong("it can only be had by ssh")),
        "" => Err(wrong("it has no scheme")),
        "ssh" => Err(wrong("it can only be had by ssh")),
        "http" | "https" | "git" | "svn" | "ftp" => {
            let url = plain(&scheme, rest).ok_or_else(|| wrong("it is no URL"))?;
            let kind = kind.or_else(|| KINDS.iter().copied().find(|k| *k == scheme));
            Ok(Some(Repository { url, kind }))
        }
        _ => Err(wrong("nobody visits by that scheme")),
    }
}

/// `scm:git:https://…` and `scm|git|https://…`, as Maven has them: the kind, and what is behind it.
fn without_scm(text: &str) -> (Option<&'static str>, &str) {
    let Some(rest) =
        text.get(..4).filter(|s| s.eq_ignore_ascii_case("scm:") || s.eq_ignore_ascii_case("scm|"))
    else {
        return (None, text);
    };
    let text = text.get(rest.len()..).unwrap_or_default();
    let known = text.split_once([':', '|']).and_then(|(kind, url)| {
        KINDS.iter().copied().find(|k| k.eq_ignore_ascii_case(kind)).map(|k| (Some(k), url))
    });
    // Without a provider it is a URL of that scheme.
    known.map_or((None, text), |(kind, url)| if url.starts_with("//") { (kind, text) } else { (kind, url) })
}

fn short(scheme: &str, rest: &str) -> Option<&'static str> {
    let (name, path) = rest.split_once(':').filter(|_| scheme.is_empty())?;
    let known = SHORT.iter().find(|(short, _)| name.eq_ignore_ascii_case(short))?;
    (!path.starts_with('/')).then_some(known.1)
}

/// Host (in lower case, without `www.`, user and port) and path of what follows a scheme. Behind the
/// colon of the scp form is a path, where there is no port.
fn host_and_path(rest: &str) -> (String, &str) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, mut path) = rest.split_at(end);
    let mut host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some((name, port)) = host.split_once(':') {
        host = name;
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            path = rest.get(rest.len() - path.len() - port.len()..).unwrap_or_default();
        }
    }
    let host = host.to_ascii_lowercase();
    (host.strip_prefix("www.").unwrap_or(&host).to_owned(), path)
}

/// A repository of a large forge, and what it holds.
fn forge(host: &str, path: &str) -> Option<(String, &'static str)> {
    let (host, kind, shape) = FORGES.iter().copied().find(|(known, ..)| *known == host)?;
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    match shape {
        Path::Segments(n) if segments.len() < n => return None,
        Path::Segments(n) => segments.truncate(n),
        Path::Groups => {
            let page = segments.iter().position(|s| *s == "-").unwrap_or(segments.len());
            segments.truncate(page);
            if segments.len() < 2 {
                return None;
            }
        }
        Path::Whole if segments.is_empty() => return None,
        Path::Whole => {}
    }
    let mut name = segments.pop()?;
    while let Some(shorter) = name.strip_suffix(".git").filter(|s| !s.is_empty()) {
        name = shorter;
    }
    if name == "-" && matches!(shape, Path::Groups) {
        return None;
    }
    segments.push(name);
    if segments.iter().any(|s| matches!(*s, "." | "..") || s.to_ascii_lowercase().contains("%2e")) {
        return None;
    }
    let url = Url::parse(&format!("https://{host}/{}", segments.join("/"))).ok()?;
    Some((url.into(), kind))
}

/// A URL without user, password, fragment and slashes at its end.
fn plain(scheme: &str, rest: &str) -> Option<String> {
    let mut url = Url::parse(&format!("{scheme}://{rest}")).ok()?;
    url.host_str().filter(|h| !h.is_empty())?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_fragment(None);
    if url.query().is_none_or(str::is_empty) {
        url.set_query(None);
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
    }
    // The root has its slash again; without one it is the same.
    Some(url.as_str().strip_suffix('/').unwrap_or(url.as_str()).to_owned())
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url_of(text: &str) -> String {
        repository_url(text).unwrap().unwrap().url
    }

    #[test]
    fn every_way_to_write_a_repository_of_a_large_forge_is_one() {
        for text in [
            "https://github.com/Owner/na.me",
            "http://www.GitHub.com/Owner/na.me.git",
            " git://github.com/Owner/na.me.git/ ",
            "git@github.com:Owner/na.me.git",
            "git@github.com/Owner/na.me",
            "ssh://git@github.com/Owner/na.me.git",
            "ssh://git@github.com:22/Owner/na.me.git",
            "git+ssh://git@github.com/Owner/na.me.git#v1",
            "git+https://github.com/Owner/na.me.git",
            "git+ssh://git@github.com:Owner/na.me.git",
            "git://git@github.com:Owner/na.me.git",
            "https://user:secret@github.com/Owner/na.me?x=1",
            "https://github.com/Owner/na.me/tree/main/sub",
            "https://github.com//Owner//na.me//",
            "github.com/Owner/na.me",
            "//github.com/Owner/na.me",
            "github:Owner/na.me",
            "scm:git:git@github.com:Owner/na.me.git",
            "scm:git:git://github.com/Owner/na.me.git",
            "scm:https://github.com/Owner/na.me",
            "scm:git://github.com/Owner/na.me.git",
            "<https://github.com/Owner/na.me>",
        ] {
            assert_eq!(url_of(text), "https://github.com/Owner/na.me", "{text}");
            assert_eq!(repository_url(text).unwrap().unwrap().kind, Some("git"), "{text}");
        }
    }

    #[test]
    fn forges_have_their_own_paths() {
        for (text, url) in [
            ("git@gitlab.com:a/b/c/d.git", "https://gitlab.com/a/b/c/d"),
            ("https://gitlab.com/a/b/-/tree/main", "https://gitlab.com/a/b"),
            ("gitlab:a/b", "https://gitlab.com/a/b"),
            ("https://bitbucket.org/a/b/src/master", "https://bitbucket.org/a/b"),
            ("bitbucket:a/b.git", "https://bitbucket.org/a/b"),
            ("https://codeberg.org/a/b.git", "https://codeberg.org/a/b"),
            ("https://git.sr.ht/~a/b/tree", "https://git.sr.ht/~a/b"),
            ("https://gist.github.com/0123abc.git", "https://gist.github.com/0123abc"),
        ] {
            assert_eq!(url_of(text), url, "{text}");
        }
        assert_eq!(repository_url("https://hg.sr.ht/~a/b").unwrap().unwrap().kind, Some("hg"));
        assert_eq!(repository_url("hg+https://bitbucket.org/a/b").unwrap().unwrap().kind, Some("hg"));
    }

    #[test]
    fn elsewhere_what_a_server_may_need_is_kept() {
        for (text, url, kind) in [
            ("https://Git.Example/a/b.git/", "https://git.example/a/b.git", None),
            ("git://git.example:9418/a.git", "git://git.example:9418/a.git", Some("git")),
            ("http://user:pw@git.example/a#x", "http://git.example/a", None),
            ("svn+https://svn.example/trunk/", "https://svn.example/trunk", Some("svn")),
            ("svn://svn.example/a", "svn://svn.example/a", Some("svn")),
            ("https://git.example/?p=a.git", "https://git.example/?p=a.git", None),
            ("https://git.example:443/", "https://git.example", None),
            ("scm:hg:https://hg.example/a", "https://hg.example/a", Some("hg")),
            ("SCM|svn|http://svn.example/a", "http://svn.example/a", Some("svn")),
        ] {
            let found = repository_url(text).unwrap().unwrap();
            assert_eq!((found.url.as_str(), found.kind), (url, kind), "{text}");
        }
    }

    #[test]
    fn nothing_is_apart_from_something_wrong() {
        for text in ["", "  ", "UNKNOWN", "n/a", "None", "\"\""] {
            assert_eq!(repository_url(text).unwrap(), None, "{text:?}");
        }
        for (text, words) in [
            ("git@git.example:a/b.git", "by ssh"),
            ("ssh://git@git.example/a", "by ssh"),
            ("svn+ssh://svn.example/a", "by ssh"),
            ("git.example/a", "no scheme"),
            ("C:\\src\\a", "no scheme"),
            ("file:///src/a", "that scheme"),
            ("javascript://github.com/a/b", "that scheme"),
            ("https://github.com/owner", "no repository of that forge"),
            ("https://github.com/", "no repository of that forge"),
            ("https://github.com/../b", "no repository of that forge"),
            ("github:", "no repository of that forge"),
            ("https://gitlab.com/-/a/b", "no repository of that forge"),
            ("https://gitlab.com/a/-.git", "no repository of that forge"),
            ("https://github%2ecom/a/b/tree/main", "read again"),
            ("https://h.example%22", "read again"),
            ("https://", "no URL"),
            ("https://h:port/a", "no URL"),
            ("see https://git.example/a", "blanks"),
        ] {
            let error = repository_url(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let long = format!("https://git.example/{}", "a".repeat(5000));
        let error = repository_url(&long).unwrap_err();
        assert!(error.text.len() == 200 && error.problem.contains("too long"));
    }

    proptest! {
        #[test]
        fn what_is_normal_stays_as_it_is(
            prefix in "(scm:(git|svn|x)?[:|]?|git\\+|hg\\+|github:|)",
            scheme in "(https?://|git://|ssh://|svn://|//|)",
            user in "(git@|u:p@|)",
            host in "(www\\.)?(GitHub\\.com|gist\\.github\\.com|gitlab\\.com|git\\.sr\\.ht|h\\.example|[a-z.%:]{1,8})",
            between in "(/|:|:22/|//|)",
            path in "([-~a-zA-Z0-9.%é]{0,6}/){0,4}[-a-z.%2eE]{0,6}(\\.git){0,2}/{0,2}",
            after in "(#a|\\?b=c/|\\?|)",
        ) {
            let text = format!("{prefix}{scheme}{user}{host}{between}{path}{after}");
            if let Ok(Some(found)) = repository_url(&text) {
                let again = repository_url(&found.url).unwrap().unwrap();
                prop_assert_eq!(&again.url, &found.url, "{}", text);
            }
        }

        #[test]
        fn any_text_at_all_has_an_answer(text in ".{0,60}") {
            if let Ok(Some(found)) = repository_url(&text) {
                prop_assert!(Url::parse(&found.url).is_ok());
                prop_assert_eq!(repository_url(&found.url).unwrap().unwrap().url, found.url);
            }
        }
    }
}
