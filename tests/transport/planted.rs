//! A secret that is planted, the forms in which it might show, and where to look for them.

use std::path::Path;

use lamplighter::backend::{FileStore, GapQuery, OriginQuery, OriginStore, RunQuery, RunStore};

pub(crate) const TOKEN: &str = "gh0st+t0ken/é";

/// A part of each form that the token is written in: plain, percent-encoded, and in base64 as
/// `ann:TOKEN`, `TOKEN` and `xTOKEN` have it.
pub(crate) const FORMS: [&str; 5] = ["gh0st", "t0ken", "OmdoMHN0K3Qw", "Z2gwc3QrdDBr", "doMHN0K3Qwa2"];

/// What a store says of all that it was told, each with its name.
pub(crate) async fn told_by(store: &FileStore) -> Vec<(&'static str, String)> {
    let gaps = store.gaps(&GapQuery::default()).await.unwrap();
    let runs = store.runs(&RunQuery::default(), 9).await.unwrap();
    let origins = store.origins(&OriginQuery::everything(), None, 999).await.unwrap();
    vec![
        ("the gaps", format!("{gaps:?}")),
        ("the runs", format!("{runs:?}")),
        ("the origins", format!("{origins:?}")),
    ]
}

/// Everything in a folder, names and bytes, as text.
pub(crate) fn all_in(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.push_str(&path.to_string_lossy());
        all.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
    }
    all
}
