//! The document of the interface and the routes say the same.

use std::collections::BTreeSet;

use serde_json::Value;

use super::support::{ANN, Server};

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

fn document() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What the source routes: read from it, as a router does not tell.
fn routed() -> BTreeSet<(String, String)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dispatch/http/routes.rs");
    let source = std::fs::read_to_string(path).unwrap();
    let mut routes = BTreeSet::new();
    for route in source.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap();
        let method = route.split(',').nth(1).unwrap().trim().split('(').next().unwrap();
        routes.insert((path.to_owned(), method.to_owned()));
    }
    routes
}

#[tokio::test]
async fn every_route_is_described_and_every_description_is_routed() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|m| (path.clone(), m.clone())))
        .collect();
    assert_eq!(described, routed());
    let server = Server::start(1).await;
    for path in paths.keys() {
        let asked = path.replace("{visit}", "1");
        for method in METHODS {
            let is_described = described.contains(&(path.clone(), method.to_owned()));
            let bearer = format!("Bearer {ANN}");
            let answer =
                server.send(&method.to_uppercase(), &asked, &[("authorization", &bearer)], "{}").await;
            assert_eq!(answer.status != 405, is_described, "{method} {path}: {answer:?}");
            if is_described {
                let responses = document["paths"][path][method]["responses"].as_object().unwrap();
                assert!(responses.contains_key(&answer.status.to_string()), "{method} {path}: {answer:?}");
            }
        }
    }
    assert_eq!(server.send("GET", "/openapi.json", &[], "").await.json(), document);
}
