//! Phabricator and Phorge.

use std::collections::BTreeMap;

use http::Method;
use lamplighter::lister::{Coverage, Lister, ListerErrorKind, Mode, Registry};
use lamplighter::listers::Phabricator;
use lamplighter::listers::phabricator::PhabricatorCursor;
use lamplighter::transport::{Auth, Provenance, Response};
use serde_json::{Value, json};

use super::{
    answer, assert_fails, assert_repeats, assert_stored, build, build_error, first_request, header, map,
    nexts, origins, read, run, url, urls,
};

fn phabricator() -> Phabricator {
    Phabricator::new(url("https://phab.example"))
}

fn after(place: Option<&str>) -> PhabricatorCursor {
    serde_json::from_value(json!({ "after": place })).unwrap()
}

/// A URI: address, I/O, display, identifier.
fn uri(address: &str, io: &str, display: &str, identifier: Option<&str>) -> Value {
    let setting = |value: &str| json!({ "raw": value, "default": "readwrite", "effective": value });
    json!({ "id": "1", "type": "RURI", "fields": {
        "uri": { "raw": "https://raw.example/", "display": "https://display.example/", "effective": address },
        "io": setting(io), "display": setting(display), "disabled": false,
        "builtin": { "protocol": identifier.map(|_| "https"), "identifier": identifier },
    }})
}

fn disabled(mut uri: Value) -> Value {
    uri["fields"]["disabled"] = json!(true);
    uri
}

fn phab_repository(uris: &[Value]) -> Value {
    json!({ "id": 3, "type": "REPO", "phid": "PHID-REPO-x", "attachments": { "uris": { "uris": uris } },
        "fields": { "vcs": "git", "status": "active", "name": "N", "shortName": "n", "callsign": null } })
}

fn phab_answer(data: &Value, next: &Value) -> Response {
    let body = json!({ "error_code": null, "error_info": null,
        "result": { "data": data, "maps": {}, "cursor": { "limit": 100, "after": next, "before": null } } });
    answer("https://phab.example/api/diffusion.repository.search", body.to_string())
}

/// The URL chosen among these, after checking that their order does not matter.
fn chosen(uris: &[Value]) -> Option<String> {
    let pick = |uris: &[Value]| {
        let page = phab_answer(&json!([phab_repository(uris)]), &Value::Null);
        let batch = read(&phabricator(), &after(None), page).unwrap();
        assert_eq!(batch.origins.len() + batch.skips.len(), 1);
        batch.origins.first().map(|s| s.origin.url.clone())
    };
    let reversed: Vec<Value> = uris.iter().rev().cloned().collect();
    assert_eq!(pick(uris), pick(&reversed));
    pick(uris)
}

#[test]
fn phabricator_asks_by_form() {
    let form = |place| {
        let request = phabricator().request(&after(place)).unwrap();
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.url.as_str(), "https://phab.example/api/diffusion.repository.search");
        assert_eq!(header(&request, "content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(header(&request, "accept"), Some("application/json"));
        assert_eq!(request.auth, Auth::Form("api.token"));
        assert_eq!(request.provenance, Provenance::Configured);
        assert!(!request.validate);
        url::form_urlencoded::parse(&request.body.unwrap()).into_owned().collect::<BTreeMap<_, _>>()
    };
    let first = [("order", "oldest"), ("attachments[uris]", "1")];
    assert_eq!(form(None), map(&first));
    assert_eq!(form(Some("17 &")), map(&[first[0], first[1], ("after", "17 &")]));
    for mode in [Mode::Full, Mode::Gaps] {
        assert_eq!(phabricator().start(&run(mode)), [after(None)]);
    }
}

#[test]
fn phabricator_goes_on_until_after_is_null() {
    let page = |next: Value| {
        let one =
            json!([phab_repository(&[uri("https://phab.example/source/n.git", "read", "always", None)])]);
        read(&phabricator(), &after(None), phab_answer(&one, &next)).unwrap()
    };
    assert_eq!(nexts(&page(json!("7"))), [&json!({ "after": "7" })]);
    for end in [Value::Null, json!("")] {
        let batch = page(end);
        assert_eq!((batch.origins.len(), batch.follows.len()), (1, 0));
    }
    // An empty page goes on too.
    let batch = read(&phabricator(), &after(None), phab_answer(&json!([]), &json!("9"))).unwrap();
    assert_eq!(nexts(&batch), [&json!({ "after": "9" })]);
}

#[test]
fn phabricator_a_refusal_is_no_empty_listing() {
    let refused = |code: &str, info: Value, words: &[&str]| {
        let body = json!({ "result": null, "error_code": code, "error_info": info }).to_string();
        assert_fails(&phabricator(), &after(None), &body, ListerErrorKind::Refused, words);
        read(&phabricator(), &after(None), answer("https://phab.example/", body)).unwrap_err().to_string()
    };
    let about_the_token = ["ERR-INVALID-AUTH", "wrong length", "api_token=", "credential"];
    refused("ERR-INVALID-AUTH", json!("API token has the wrong length."), &about_the_token);
    refused("ERR-INVALID-SESSION", json!("Session key is not present."), &["not present", "api_token="]);
    let other = refused("ERR-CONDUIT-CORE", json!("Too many connections"), &["ERR-CONDUIT-CORE", "Too many"]);
    assert!(!other.contains("api_token"), "{other}");
    refused("ERR-CONDUIT-CORE", Value::Null, &["no reason given"]);
    // Also where there is a result besides.
    let both = r#"{"result":{"data":[],"cursor":{"after":null}},"error_code":"ERR-X","error_info":"y"}"#;
    assert_fails(&phabricator(), &after(None), both, ListerErrorKind::Refused, &["ERR-X: y"]);
    assert!(read(&phabricator(), &after(None), phab_answer(&json!([]), &Value::Null)).unwrap().is_empty());
}

#[test]
fn phabricator_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| {
        assert_fails(&phabricator(), &after(None), body, ListerErrorKind::Parse, words);
    };
    fails(r#"{"result":null,"error_code":null,"error_info":null}"#, &["result", "null"]);
    fails("{}", &["result"]);
    fails("<html>Setup Issue: MySQL</html>", &["no JSON", "MySQL"]);
    fails("", &["ends too early"]);
    fails(r#"{"result":{"data":[],"#, &["ends too early"]);
    fails(r#"{"result":{"data":{},"cursor":{"after":null}}}"#, &["result.data"]);
    fails(r#"{"result":{"cursor":{"after":null}}}"#, &["result", "data"]);
    // How it goes on is said, or the answer is some other one.
    fails(r#"{"result":{"data":[]}}"#, &["result", "cursor"]);
    fails(r#"{"result":{"data":[],"cursor":{}}}"#, &["result.cursor", "after"]);
    fails(r#"{"result":{"data":[],"cursor":{"after":["7"]}}}"#, &["result.cursor.after"]);
    let mut item = phab_repository(&[]);
    item["fields"].as_object_mut().unwrap().remove("vcs");
    fails(
        &json!({ "result": { "data": [item], "cursor": { "after": null } } }).to_string(),
        &["result.data[0].fields", "vcs"],
    );
    let mut item = phab_repository(&[uri("https://a.example/", "read", "always", None)]);
    item["attachments"]["uris"]["uris"][0]["fields"]["uri"]["effective"] = json!(5);
    fails(
        &json!({ "result": { "data": [phab_repository(&[]), item], "cursor": { "after": null } } })
            .to_string(),
        &["result.data[1].attachments.uris.uris[0].fields.uri.effective"],
    );
    let mut item = phab_repository(&[]);
    item.as_object_mut().unwrap().remove("attachments");
    fails(
        &json!({ "result": { "data": [item], "cursor": { "after": null } } }).to_string(),
        &["result.data[0]", "attachments"],
    );
}

#[test]
fn phabricator_chooses_by_scheme_and_identifier() {
    // From the best to the worst: each is chosen as soon as the ones before it are gone.
    let shown = |address: &str, identifier| uri(address, "read", "always", identifier);
    let ranked = [
        shown("https://phab.example/source/n.git", Some("shortname")),
        shown("https://phab.example/diffusion/N/n.git", Some("callsign")),
        shown("https://phab.example/diffusion/3/n.git", Some("id")),
        shown("https://elsewhere.example/n.git", None),
        shown("http://phab.example/source/n.git", Some("shortname")),
        shown("http://phab.example/diffusion/N/n.git", Some("callsign")),
        shown("http://phab.example/diffusion/3/n.git", Some("id")),
        shown("http://elsewhere.example/n.git", None),
        shown("git://phab.example/n.git", Some("shortname")),
        shown("svn://elsewhere.example/n", None),
    ];
    for best in 0..ranked.len() {
        let expected = ranked[best]["fields"]["uri"]["effective"].as_str();
        assert_eq!(chosen(&ranked[best..]).as_deref(), expected);
    }
}

#[test]
fn phabricator_what_is_hidden_goes_last() {
    let hidden = uri("https://phab.example/source/n.git", "read", "never", Some("shortname"));
    let shown = uri("http://phab.example/diffusion/3/n.git", "read", "always", Some("id"));
    let mirror = uri("https://mirror.example/n.git", "mirror", "always", None);
    let observed = uri("https://upstream.example/n.git", "observe", "never", None);
    let pick = |of: &[&Value]| chosen(&of.iter().map(|v| (*v).clone()).collect::<Vec<_>>()).unwrap();
    assert_eq!(pick(&[&hidden, &shown, &mirror]), "http://phab.example/diffusion/3/n.git");
    // Nothing else is there: what is hidden is better than no repository.
    assert_eq!(pick(&[&hidden, &mirror]), "https://phab.example/source/n.git");
    assert_eq!(pick(&[&observed, &mirror]), "https://upstream.example/n.git");
    assert_eq!(pick(&[&mirror]), "https://mirror.example/n.git");
    // That a forge shows one of its own by default says nothing against the others.
    let mut unset = uri("https://phab.example/source/n.git", "read", "never", Some("shortname"));
    unset["fields"]["display"]["raw"] = json!("default");
    let callsign = uri("https://phab.example/diffusion/N/n.git", "read", "default", Some("callsign"));
    assert_eq!(pick(&[&unset, &callsign]), "https://phab.example/source/n.git");
    assert_eq!(pick(&[&hidden, &callsign]), "https://phab.example/diffusion/N/n.git");
}

#[test]
fn phabricator_unusable_uris_do_not_count() {
    let good = uri("http://phab.example/diffusion/3/n.git", "readwrite", "always", Some("id"));
    let best = |io: &str| uri("https://phab.example/source/n.git", io, "always", Some("shortname"));
    let expected = Some("http://phab.example/diffusion/3/n.git");
    assert_eq!(chosen(&[disabled(best("read")), good.clone()]).as_deref(), expected);
    assert_eq!(chosen(&[best("none"), good.clone()]).as_deref(), expected);
    assert_eq!(chosen(&[best("read"), good.clone()]).as_deref(), Some("https://phab.example/source/n.git"));
    for address in ["ssh://git@phab.example/source/n.git", "git@github.example:o/n.git", ""] {
        let unusable = uri(address, "read", "always", Some("shortname"));
        assert_eq!(chosen(&[unusable.clone(), good.clone()]).as_deref(), expected, "{address}");
        assert_eq!(chosen(&[unusable]), None, "{address}");
    }
    // What is absent is no objection.
    let bare = json!({ "fields": { "uri": { "effective": "https://phab.example/bare" } } });
    assert_eq!(chosen(&[bare]).as_deref(), Some("https://phab.example/bare"));
    let nulls = json!({ "fields": { "uri": { "effective": null }, "disabled": null } });
    assert_eq!(chosen(&[nulls]), None);
}

#[test]
fn phabricator_other_protocols_are_better_than_nothing() {
    let mut repository = phab_repository(&[
        uri("ssh://git@phab.example/diffusion/3/", "readwrite", "always", Some("id")),
        uri("svn://svn.example/repo/trunk", "observe", "never", None),
    ]);
    repository["fields"]["vcs"] = json!("svn");
    let batch = read(&phabricator(), &after(None), phab_answer(&json!([repository]), &Value::Null)).unwrap();
    assert_eq!(urls(&batch), ["svn://svn.example/repo/trunk"]);
    assert_eq!(origins(&batch)[0].visit_type.as_str(), "svn");
}

#[test]
fn phabricator_a_repository_without_a_uri_is_counted() {
    let named = |short: Value, name: Value, callsign: Value| {
        let mut repository = phab_repository(&[]);
        repository["fields"]["shortName"] = short;
        repository["fields"]["name"] = name;
        repository["fields"]["callsign"] = callsign;
        repository
    };
    let data = json!([
        named(json!("short"), json!("Name"), json!("CALL")),
        named(Value::Null, json!("Name"), json!("CALL")),
        named(json!(""), Value::Null, json!("CALL")),
        named(Value::Null, Value::Null, Value::Null),
    ]);
    let batch = read(&phabricator(), &after(None), phab_answer(&data, &Value::Null)).unwrap();
    let skipped: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(skipped, ["short", "Name", "CALL", "PHID-REPO-x"]);
    assert!(batch.skips.iter().all(|s| s.why.contains("URI")));
    assert!(batch.origins.is_empty());
}

#[test]
fn phabricator_reads_kind_id_and_activity() {
    let one = |vcs: &str, status: Value| {
        let mut r = phab_repository(&[uri("https://phab.example/source/n", "read", "always", None)]);
        r["fields"]["vcs"] = json!(vcs);
        r["fields"]["status"] = status;
        r["fields"]["dateModified"] = json!(1_600_000_000);
        r
    };
    let data = json!([
        one("git", json!("active")),
        one("hg", json!("inactive")),
        one("svn", Value::Null),
        one("Visual SourceSafe", json!("active")),
    ]);
    let batch = read(&phabricator(), &after(None), phab_answer(&data, &Value::Null)).unwrap();
    let told: Vec<_> = origins(&batch).iter().map(|o| (o.visit_type.as_str(), o.archived)).collect();
    assert_eq!(told, [("git", Some(false)), ("hg", Some(true)), ("svn", None)]);
    for origin in origins(&batch) {
        assert_eq!(origin.forge_id.as_deref(), Some("PHID-REPO-x"));
        // The date in the answer is of the settings, not of the contents.
        assert_eq!((origin.last_update, origin.is_fork), (None, None));
        assert!(origin.enabled);
    }
    assert_eq!(batch.skips.len(), 1);
    assert!(batch.skips[0].why.contains("Visual SourceSafe"));
}

#[test]
fn phabricator_the_url_may_name_the_method() {
    for given in [
        "https://phab.example",
        "https://phab.example/",
        "https://phab.example/api/diffusion.repository.search",
        "https://phab.example/api/diffusion.repository.search/?order=newest#x",
    ] {
        let request = Phabricator::new(url(given)).request(&after(None)).unwrap();
        assert_eq!(request.url.as_str(), "https://phab.example/api/diffusion.repository.search", "{given}");
    }
    let below = Phabricator::new(url("http://h.example:81/phab/")).request(&after(None)).unwrap();
    assert_eq!(below.url.as_str(), "http://h.example:81/phab/api/diffusion.repository.search");
}

#[test]
fn phorge_is_phabricator_by_another_name() {
    for (name, mine) in [
        ("phabricator", Phabricator::new(url("https://f.example:81"))),
        ("phorge", Phabricator::phorge(url("https://f.example:81"))),
    ] {
        assert_eq!((mine.name(), mine.instance()), (name, "f.example:81"));
        let built = build(name, &json!({ "url": "https://f.example:81/", "api_token": "s" })).unwrap();
        assert_eq!(built.source.key().to_string(), format!("{name} of f.example:81"));
        assert!(!built.source.is_incremental());
        assert_eq!(built.source.coverage(Mode::Full), Coverage::All);
        assert_eq!(
            first_request(&built).url.as_str(),
            "https://f.example:81/api/diffusion.repository.search"
        );
        let named = build(name, &json!({ "url": "https://f.example", "instance": "swh" })).unwrap();
        assert_eq!(named.source.key().to_string(), format!("{name} of swh"));
        assert!(build_error(name, &json!({})).contains("url="));
        let registry = Registry::builtin();
        assert_eq!(registry.entry(name).unwrap().positions, ["after"]);
        assert_eq!(registry.entry(name).unwrap().visit_types, ["git", "hg", "svn"]);
    }
}

#[test]
fn phabricator_needs_a_token() {
    let registry = Registry::builtin();
    for name in ["phabricator", "phorge"] {
        let entry = registry.entry(name).unwrap();
        let error = entry.check_credentials(0).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("api_token=") && error.contains("credential"),
            "{error}"
        );
        assert!(entry.check_credentials(1).is_ok());
        let given = json!({ "url": "https://f.example", "api_token": "cli-secret" });
        let built = build(name, &given).unwrap();
        assert_eq!(built.secrets.len(), 1);
        // It goes to the transport and nowhere else.
        assert!(!format!("{built:?} {:?}", built.parameters).contains("cli-secret"));
        assert!(!format!("{:?}", first_request(&built)).contains("cli-secret"));
    }
}

#[test]
fn phabricator_cursors_and_pages_repeat() {
    assert_stored(&phabricator(), &after(None));
    assert_stored(&phabricator(), &after(Some("7")));
    let one = phab_repository(&[uri("https://phab.example/source/n", "read", "always", None)]);
    assert_repeats(&phabricator(), &after(None), &phab_answer(&json!([one]), &json!("3")));
}

#[test]
fn phabricator_lists_a_project() {
    let lister = phabricator().with_group("Rust Tools");
    assert_eq!(lister.instance(), "phab.example/group=rust tools");
    let form = |lister: &Phabricator, place| {
        let body = lister.request(&after(place)).unwrap().body.unwrap();
        url::form_urlencoded::parse(&body).into_owned().collect::<BTreeMap<String, String>>()
    };
    let mut expected = form(&phabricator(), Some("9"));
    assert!(!expected.keys().any(|field| field.starts_with("constraints")));
    expected.insert("constraints[projects][0]".to_owned(), "Rust Tools".to_owned());
    assert_eq!(form(&lister, Some("9")), expected);

    let given =
        json!({ "url": "https://phab.example", "api_token": "t", "group": "tools", "instance": "mine" });
    assert_eq!(
        build("phabricator", &given).unwrap().source.key().to_string(),
        "phabricator of mine/group=tools"
    );
    let nothing = json!({ "url": "https://phab.example", "api_token": "t", "group": "" });
    assert!(build_error("phorge", &nothing).contains("group"));
}
