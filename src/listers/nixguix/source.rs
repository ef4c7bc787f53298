//! What an entry of a manifest says is to be listed.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use url::Url;

use super::super::files::{Nature, nature_of};
use super::hash;
use crate::lister::mail_date;
use crate::model::{JsonObject, NewOrigin, VisitType};

/// Files that are left out, by the ends of their names: programs, images, packages of others.
const IGNORED: [&str; 10] =
    [".AppImage", ".bin", ".exe", ".iso", ".linux64", ".msi", ".png", ".dic", ".deb", ".rpm"];

/// Packages of .NET, which have a registry of their own.
const IGNORED_PACKAGES: (&str, &str) = (".nupkg", "www.nuget.org");

/// What is left out, and where Nix keeps its files.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) ignored: Vec<String>,
    pub(super) cache: String,
}

/// What an entry is.
#[derive(Debug)]
pub(super) enum Found {
    /// An archive or a single file.
    File(Box<NewOrigin>),
    /// A repository, and what is checked out of it, or why that cannot be said.
    Repository { kind: &'static str, url: String, checkout: Option<Result<Box<NewOrigin>, String>> },
    /// A file at these addresses, of which none tells what it is.
    Unknown(Vec<String>),
}

impl Rules {
    pub(super) fn new(cache: &str) -> Self {
        let ignored = IGNORED.iter().chain([&IGNORED_PACKAGES.0]).map(|e| (*e).to_owned()).collect();
        Self { ignored, cache: cache.to_owned() }
    }

    /// Reads an entry; `known` is what its file turned out to be. Or why it is left out.
    pub(super) fn read(&self, entry: &JsonObject, known: Option<Nature>) -> Result<Found, String> {
        let kind = text(entry, "type").ok_or("it has no type")?;
        let urls: Vec<String> = entry
            .get("urls")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|url| !url.trim().is_empty())
            .map(with_scheme)
            .collect();
        match kind {
            "url" => self.file(entry, urls, known),
            "git" => checkout(entry, ("git", "git_url", "git_ref", "git-checkout"), &urls),
            "hg" => checkout(entry, ("hg", "hg_url", "hg_changeset", "hg-checkout"), &urls),
            "svn" => checkout(entry, ("svn", "svn_url", "svn_revision", "svn-export"), &urls),
            kind => Err(format!(
                "sources of the type {:?} are not listed",
                kind.chars().take(40).collect::<String>()
            )),
        }
    }

    fn file(&self, entry: &JsonObject, urls: Vec<String>, known: Option<Nature>) -> Result<Found, String> {
        let origin = urls.first().ok_or("it has no address")?;
        let url = Url::parse(origin).map_err(|e| format!("its address is no URL ({e})"))?;
        if url.host_str() == Some(IGNORED_PACKAGES.1) || self.is_ignored(&url) {
            return Err("files of its kind are left out".to_owned());
        }
        let (algorithm, sum) = sum(entry)?.ok_or("it has no hash")?;
        let recursive = is_recursive(entry)?;
        let served = matches!(url.scheme(), "http" | "https" | "ftp");
        if !served && !recursive {
            let kind = ["git", "svn", "hg"].into_iter().find(|kind| *kind == url.scheme());
            let kind = kind.ok_or_else(|| format!("nobody visits {}: URLs", url.scheme()))?;
            return Ok(Found::Repository { kind, url: origin.clone(), checkout: None });
        }
        let nature = match known {
            Some(nature) => nature,
            None if recursive => Nature::Archive,
            None => urls
                .iter()
                .filter_map(|url| Url::parse(url).ok())
                .map(|url| nature_of(&url))
                .find(|nature| *nature != Nature::Unknown)
                .unwrap_or(Nature::Unknown),
        };
        let visit_type = match nature {
            Nature::Archive => "tarball-directory",
            Nature::File => "content",
            Nature::Unknown => return Ok(Found::Unknown(urls)),
        };
        let visit_type = VisitType::known(visit_type);
        let layout = if recursive { "nar" } else { "standard" };
        let arguments = |origin: NewOrigin, fallback: &[String], metadata: JsonObject| {
            origin
                .with_argument("checksums", json!({ algorithm: sum }))
                .with_argument("checksum_layout", layout)
                .with_argument("fallback_urls", fallback.to_vec())
                .with_argument("extrinsic_metadata", Value::Object(metadata))
        };
        if let Some(info) = text(entry, "narinfo").and_then(headers)
            && let Some(place) = info.get("URL").and_then(Value::as_str)
        {
            let cached = NewOrigin::new(format!("{}/{place}", self.cache), visit_type)
                .with_last_update(text(entry, "last_modified").and_then(mail_date));
            let mut metadata = entry.clone();
            metadata.insert("narinfo".to_owned(), Value::Object(info));
            return Ok(Found::File(Box::new(arguments(cached, &[], metadata))));
        }
        if url.path().strip_suffix(".git").is_some() {
            return Ok(Found::Repository { kind: "git", url: origin.clone(), checkout: None });
        }
        if recursive && nature_of(&url) != Nature::Archive {
            return Err("its hash is of what is unpacked, and its name is no archive's".to_owned());
        }
        let fallback = urls.get(1..).unwrap_or_default();
        let file = arguments(NewOrigin::new(origin.clone(), visit_type), fallback, entry.clone());
        Ok(Found::File(Box::new(file)))
    }

    fn is_ignored(&self, url: &Url) -> bool {
        let segments = url.path_segments().into_iter().flatten();
        let segments = segments.map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned());
        let mut names = segments.chain(url.query_pairs().map(|(_, value)| value.into_owned()));
        names.any(|name| self.ignored.iter().any(|ending| name.ends_with(ending.as_str())))
    }
}

/// A repository, and what is checked out of it: its kind, the fields of its address and revision, the type of visit.
fn checkout(
    entry: &JsonObject,
    (kind, address, revision, visit_type): (&'static str, &str, &str, &'static str),
    urls: &[String],
) -> Result<Found, String> {
    let said = [address, "git_url", "svn_url", "hg_url"].iter().find_map(|field| text(entry, field));
    let url = urls.first().cloned().or_else(|| said.map(with_scheme)).ok_or("it has no address")?;
    let revision = entry.get(revision).filter(|value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        _ => false,
    });
    let made = || -> Result<Option<Box<NewOrigin>>, String> {
        let (Some((algorithm, sum)), Some(revision), true) = (sum(entry)?, revision, is_recursive(entry)?)
        else {
            return Ok(None);
        };
        let files = entry.get("svn_files").filter(|files| kind == "svn" && files.is_array());
        let place = match files {
            // Several of one repository are told apart by what they hold.
            Some(_) => format!("{url}?nar={}", text(entry, "integrity").unwrap_or(&sum)),
            None => url.clone(),
        };
        let fallback = urls.get(1..).unwrap_or_default();
        let mut origin = NewOrigin::new(place, VisitType::known(visit_type))
            .with_argument("checksums", json!({ algorithm: sum }))
            .with_argument("checksum_layout", "nar")
            .with_argument("fallback_urls", fallback.to_vec())
            .with_argument("ref", revision.clone());
        if entry.get("submodule").is_some_and(|s| s.as_bool().unwrap_or(false)) {
            origin = origin.with_argument("submodules", true);
        }
        if let Some(files) = files {
            origin = origin.with_argument("svn_url", url.clone()).with_argument("svn_paths", files.clone());
        }
        Ok(Some(Box::new(origin)))
    };
    Ok(Found::Repository { kind, url: url.clone(), checkout: made().transpose() })
}

/// A field's text, where there is one.
fn text<'a>(entry: &'a JsonObject, field: &str) -> Option<&'a str> {
    entry.get(field).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// `http://` before what has no scheme; `user@host:` is left as it is.
fn with_scheme(url: &str) -> String {
    let url = url.trim();
    let has_user =
        url.split_once(':').is_some_and(|(before, _)| before.contains('@') && !before.contains('/'));
    if url.contains("://") || has_user { url.to_owned() } else { format!("http://{url}") }
}

/// The algorithm and the hash.
fn sum(entry: &JsonObject) -> Result<Option<(&'static str, String)>, String> {
    let said = text(entry, "integrity").or_else(|| text(entry, "outputHash"));
    said.map(|said| hash::read(said, text(entry, "outputHashAlgo"))).transpose()
}

/// Whether the hash is of what is unpacked.
fn is_recursive(entry: &JsonObject) -> Result<bool, String> {
    match text(entry, "outputHashMode") {
        None | Some("flat") => Ok(false),
        Some("recursive" | "nar") => Ok(true),
        Some(mode) => {
            Err(format!("hashes of the mode {:?} are not known", mode.chars().take(40).collect::<String>()))
        }
    }
}

/// Lines of names and values, as Nix writes of a file in its cache; none where a line is no such.
fn headers(text: &str) -> Option<JsonObject> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let pairs = lines.map(|line| line.split_once(": ").map(|(n, v)| (n.to_owned(), Value::from(v.trim()))));
    pairs.collect::<Option<Map<String, Value>>>()
}
