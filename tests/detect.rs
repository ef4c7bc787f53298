//! Which lister fits a host: each fixture's forge is named, a host that is none says so, and never are more than six
//! requests made.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::fs;
use std::path::PathBuf;

use lamplighter::lister::Registry;
use lamplighter::lister::detect::{Detector, MOST_PROBES};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Body, Request, Response};
use serde_json::Value;
use url::Url;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn answer(request: &Request, status: u16, body: impl Into<Body>) -> Response {
    Response::new(status, request.url.clone(), body.into(), Timestamp::EPOCH)
}

/// Asks a host that a closure plays, to the end.
fn detect(at: &str, host: impl Fn(&Request) -> Response) -> (Detector, Vec<String>) {
    let mut detector = Detector::new(&url(at));
    let mut asked = Vec::new();
    while let Some(request) = detector.request() {
        asked.push(request.url.to_string());
        detector.answered(Ok(&host(&request)));
        assert!(asked.len() <= MOST_PROBES, "{asked:?}");
    }
    assert_eq!(detector.made(), asked.len());
    (detector, asked)
}

/// What a fixture's forge answers, and a page before it where the fixture has none.
struct Recorded {
    folder: PathBuf,
    exchanges: Vec<Value>,
    home: Option<&'static str>,
}

impl Recorded {
    fn new(fixture: &str, home: Option<&'static str>) -> (Self, String) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
        let manifest: Value =
            serde_json::from_slice(&fs::read(folder.join("fixture.json")).unwrap()).unwrap();
        let runs = manifest["runs"].as_array().unwrap();
        let exchanges = runs.iter().flat_map(|run| run["exchanges"].as_array().unwrap().clone()).collect();
        let arguments = &manifest["arguments"];
        let at = match (arguments["url"].as_str(), arguments["instance"].as_str()) {
            (Some(url), _) => url.to_owned(),
            (None, Some(host)) => format!("https://{host}/"),
            (None, None) => panic!("{fixture} does not say where it is"),
        };
        (Self { folder, exchanges, home }, at)
    }

    fn answer(&self, request: &Request) -> Response {
        let path =
            |url: &Url| (url.host_str().map(str::to_owned), url.path().trim_end_matches('/').to_owned());
        let fits = |exchange: &&Value, exactly: bool| {
            let there = url(exchange["url"].as_str().unwrap());
            let close = there.query().is_some() == request.url.query().is_some()
                && path(&there) == path(&request.url);
            exchange["method"] == "GET" && if exactly { there == request.url } else { close }
        };
        let found = self
            .exchanges
            .iter()
            .find(|e| fits(e, true))
            .or_else(|| self.exchanges.iter().find(|e| fits(e, false)));
        if let Some(exchange) = found.filter(|e| e["status"].is_u64()) {
            let body = exchange["body_file"].as_str().map(|f| fs::read(self.folder.join(f)).unwrap());
            let status = u16::try_from(exchange["status"].as_u64().unwrap()).unwrap();
            let response = answer(request, status, body.unwrap_or_default());
            let headers = exchange["headers"].as_array().into_iter().flatten();
            return headers
                .fold(response, |r, h| r.with_header(h[0].as_str().unwrap(), h[1].as_str().unwrap()));
        }
        match self.home {
            Some(home) if request.url.query().is_none() && !request.url.path().contains("/api") => {
                answer(request, 200, home)
            }
            _ => answer(request, 404, "<html><head><title>404 Not Found</title></head></html>"),
        }
    }
}

/// Pages by hand, after what the forges' own templates write.
const GERRIT: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"description\" content=\"Gerrit Code Review\">\
    <script>window.ENABLED_EXPERIMENTS = JSON.parse('[]');</script></head><body unresolved><gr-app id=\"app\"></gr-app></body></html>";
const GITILES: &str = "<!DOCTYPE html><html><head><title>Git repositories on source</title></head><body><div class=\"RepoList\"></div>\
    <footer class=\"Site-footer\"><span class=\"Footer-poweredBy\">Powered by <a href=\"https://gerrit.googlesource.com/gitiles/\">Gitiles</a>\
    </span></footer></body></html>";
const HGWEB: &str = "<!DOCTYPE html><html lang=\"en-US\"><head><link rel=\"icon\" href=\"/static/hgicon.png\" type=\"image/png\" />\
    <title>Mercurial repositories index</title></head><body><table></table></body></html>";
const HEPTAPOD: &str = "<!DOCTYPE html><html><head prefix=\"og: http://ogp.me/ns#\"><meta content=\"object\" property=\"og:type\">\
    <meta content=\"Heptapod\" property=\"og:site_name\"></head></html>";
const FORGEJO: &str = "<!DOCTYPE html><html><head><title>Forgejo: Beyond coding. We Forge.</title>\
    <meta name=\"author\" content=\"Forgejo – Beyond coding. We forge.\"><meta name=\"keywords\" content=\"git,forge,forgejo\"></head>\
    <body><footer><a target=\"_blank\" href=\"https://forgejo.org\">Powered by Forgejo</a> Version: 9.0.2+gitea-1.22.0</footer></body></html>";
const GOGS: &str = "<!DOCTYPE html><html><head><meta name=\"author\" content=\"Gogs\" /><meta name=\"description\" content=\"Gogs is a \
    painless self-hosted Git service\" /></head><body></body></html>";
const PHABRICATOR: &str = "<!DOCTYPE html><html><head><title>Phabricator</title></head><body class=\"device-desktop phabricator-home\">\
    <div data-sigil=\"phabricator-nav-content\" class=\"phui-box\"></div></body></html>";
const PHORGE: &str = "<!DOCTYPE html><html><head><title>Phorge</title></head><body><div class=\"phabricator-standard-page phui-box\"></div></body></html>";
const SOURCEHUT: &str = "<!doctype html><html><head><title>git.hut.example</title></head><body><nav class=\"container-fluid navbar navbar-light\">\
    <a href=\"https://sourcehut.org\">sourcehut</a></nav></body></html>";
const TULEAP: &str = "<!DOCTYPE html><html lang=\"en_US\"><head><title>Tuleap</title></head><body class=\"homepage\"><button class=\"tlp-button-primary\">\
    </button><img src=\"/assets/core/logo.svg\" alt=\"tuleap\"></body></html>";
const LAUNCHPAD: &str = "<!DOCTYPE html><html><head><title>Launchpad</title></head><body></body></html>";
const BITBUCKET: &str = "<!DOCTYPE html><html><head><meta name=\"application-name\" content=\"Bitbucket\"><title>Log in - Bitbucket</title></head></html>";

#[test]
fn the_forge_of_each_fixture_is_named() {
    let known: &[(&str, Option<&'static str>, &str)] = &[
        ("bitbucket/server", Some(BITBUCKET), "bitbucket"),
        ("cgit/live", None, "cgit"),
        ("cgit/tabs", None, "cgit"),
        ("forgejo/basic", Some(FORGEJO), "forgejo"),
        ("fossil/live", None, "fossil"),
        ("gerrit/basic", Some(GERRIT), "gerrit"),
        ("gerrit/basic", None, "gerrit"),
        ("gitea/basic", None, "gitea"),
        ("gitiles/basic", Some(GITILES), "gitiles"),
        ("gitlab/basic", None, "gitlab"),
        ("gitweb/live", None, "gitweb"),
        ("gogs/basic", Some(GOGS), "gogs"),
        ("gogs/basic", None, "gogs"),
        ("grokmirror/live", None, "grokmirror"),
        ("heptapod/basic", Some(HEPTAPOD), "heptapod"),
        ("heptapod/basic", None, "heptapod"),
        ("hgweb/live", Some(HGWEB), "hgweb"),
        ("launchpad/basic", Some(LAUNCHPAD), "launchpad"),
        ("pagure/basic", None, "pagure"),
        ("phabricator/basic", Some(PHABRICATOR), "phabricator"),
        ("phorge/basic", Some(PHORGE), "phorge"),
        ("sourcehut/basic", Some(SOURCEHUT), "sourcehut"),
        ("stagit/basic", None, "stagit"),
        ("tuleap/basic", Some(TULEAP), "tuleap"),
    ];
    let registry = Registry::builtin();
    let mut wrong = Vec::new();
    for (fixture, home, lister) in known {
        let (recorded, at) = Recorded::new(fixture, *home);
        let (detector, asked) = detect(&at, |request| recorded.answer(request));
        match detector.found() {
            Some(found) if found.lister == *lister => {
                assert!(!found.evidence.is_empty(), "{fixture}");
                // What it says to be done next can be done.
                let given = serde_json::Map::from_iter([(
                    "url".to_owned(),
                    found.url.as_ref().unwrap().as_str().into(),
                )]);
                if *lister != "sourcehut" && registry.entry(lister).is_ok() {
                    let built = registry.build(lister, &given);
                    assert!(built.is_ok(), "{fixture}: {}: {:?}", found.command(), built.err());
                }
            }
            other => {
                wrong.push(format!("{fixture} of {at}: {other:?}, asked {asked:?}, {:?}", detector.said()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hosts_that_there_is_one_of_are_known_without_a_request() {
    for (at, lister) in [
        ("https://github.com/torvalds/linux", "github"),
        ("https://bitbucket.org/", "bitbucket"),
        ("https://sourceforge.net/projects/aaron/", "sourceforge"),
        ("https://code.launchpad.example/", ""),
        ("https://launchpad.net", "launchpad"),
    ] {
        let (detector, asked) = detect(at, |request| answer(request, 404, ""));
        assert_eq!(detector.found().map_or("", |f| f.lister), lister, "{at}");
        assert_eq!(asked.is_empty(), !lister.is_empty(), "{at}: {asked:?}");
        if let Some(found) = detector.found() {
            assert_eq!(found.command(), format!("lamplighter list {lister}"));
        }
    }
}

#[test]
fn versions_are_told_where_the_forge_tells_them() {
    let forge = |home: &'static str, path: &'static str, body: &'static str| {
        move |request: &Request| match request.url.path() {
            "/" => answer(request, 200, home),
            asked if asked == path => answer(request, 200, body),
            _ => answer(request, 404, "{}"),
        }
    };
    let gitea = "<html><head><meta name=\"author\" content=\"Gitea - Git with a cup of tea\"></head></html>";
    let pagure =
        "<html><footer>Powered by <a href=\"https://pagure.io/pagure\">Pagure</a> 5.13.3</footer></html>";
    let cases = [
        (gitea, "/api/v1/version", "{\"version\":\"1.22.3\"}", "gitea", Some("1.22.3")),
        (
            gitea,
            "/api/v1/version",
            "{\"version\":\"9.0.2+gitea-1.22.0\"}",
            "forgejo",
            Some("9.0.2+gitea-1.22.0"),
        ),
        (gitea, "/nothing", "", "gitea", None),
        (FORGEJO, "/nothing", "", "forgejo", Some("9.0.2")),
        (GERRIT, "/config/server/version", ")]}'\n\"3.10.1\"", "gerrit", Some("3.10.1")),
        (pagure, "/nothing", "", "pagure", Some("5.13.3")),
        (
            BITBUCKET,
            "/rest/api/1.0/application-properties",
            "{\"version\":\"8.19.1\",\"displayName\":\"Bitbucket\"}",
            "bitbucket",
            Some("8.19.1"),
        ),
    ];
    for (home, path, body, lister, version) in cases {
        let (detector, _) = detect("https://forge.example/", forge(home, path, body));
        let found = detector.found().unwrap_or_else(|| panic!("{lister}: {:?}", detector.said()));
        assert_eq!((found.lister, found.version.as_deref()), (lister, version));
        assert_eq!(found.command(), format!("lamplighter list {lister} url=https://forge.example/"));
    }
}

#[test]
fn a_forge_is_known_by_its_api_where_its_page_is_closed() {
    // A GitLab that wants a token for everything still says what it is.
    let (detector, asked) = detect("https://code.example/", |request| match request.url.path() {
        "/api/v4/projects" => {
            answer(request, 401, "{\"message\":\"401 Unauthorized\"}").with_header("x-gitlab-meta", "{}")
        }
        _ => answer(request, 302, ""),
    });
    assert_eq!((detector.found().unwrap().lister, asked.len()), ("gitlab", 2));
    // The root of an API stands for its forge.
    let (detector, asked) = detect("https://code.example/git/api/v1/", |request| match request.url.path() {
        "/git/" => answer(request, 200, GOGS),
        _ => answer(request, 404, ""),
    });
    assert_eq!(detector.found().unwrap().command(), "lamplighter list gogs url=https://code.example/git/");
    assert_eq!(asked, ["https://code.example/git/"]);
}

#[test]
fn a_site_that_moved_is_listed_where_it_is() {
    let (detector, _) = detect("http://git.example/", |_| {
        let page = "<html><head><meta name='generator' content='cgit v1.2.3'/></head></html>";
        Response::new(200, url("https://git.example/cgit/?s=name"), Body::from(page), Timestamp::EPOCH)
    });
    let found = detector.found().unwrap();
    assert_eq!(found.command(), "lamplighter list cgit url=https://git.example/cgit/");
    // A form for signing in is no place to list.
    let (detector, asked) = detect("http://git.example/", |request| {
        let mut response = answer(
            request,
            200,
            "<html><head><meta content=\"GitLab\" property=\"og:site_name\"></head></html>",
        );
        response.url = url("https://git.example/users/sign_in");
        response
    });
    assert_eq!(detector.found().unwrap().command(), "lamplighter list gitlab url=https://git.example/");
    assert_eq!(asked[1], "https://git.example/api/v4/projects?per_page=1");
}

#[test]
fn a_host_that_is_none_says_so_within_six_requests() {
    let prose = "<html><head><title>cgit, gitweb and GitLab compared</title><meta name=\"description\" content=\"Forges: GitLab, Gitea\">\
        </head><body><p>&lt;meta name='generator' content='cgit v1.2.3'/&gt; Powered by Gitea Version: 1.22.3</p>\
        <a href=\"https://gitlab.com\">GitLab</a> Launchpad Fossil Repositories</body></html>";
    for (status, body) in
        [(200, prose), (200, "[]"), (200, "{}"), (200, "null"), (200, ""), (404, "no"), (500, "no")]
    {
        let (detector, asked) = detect("https://www.example/", |request| answer(request, status, body));
        assert_eq!(detector.found(), None, "{body}");
        assert_eq!((asked.len(), detector.said().len()), (MOST_PROBES, MOST_PROBES), "{:?}", detector.said());
    }
    // A host that does not answer is asked once.
    let mut detector = Detector::new(&url("https://nowhere.example/"));
    assert!(detector.request().is_some());
    detector.answered(Err("no such host".to_owned()));
    assert!(detector.request().is_none() && detector.found().is_none());
    assert!(detector.said()[0].contains("no such host"));
}

#[test]
fn an_address_is_quoted_for_a_shell() {
    let (detector, _) = detect("https://git.example/a b;c/", |request| {
        answer(request, 200, "<meta name='generator' content='cgit v1.2'>")
    });
    let command = "lamplighter list cgit url='https://git.example/a%20b;c/'";
    assert_eq!(detector.found().unwrap().command(), command);
}
