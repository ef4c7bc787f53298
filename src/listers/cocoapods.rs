//! CocoaPods, packages for Apple's systems: the source of every pod.
//!
//! # How it lists
//!
//! By the files of a repository of specifications behind a CDN, as CocoaPods itself reads them:
//!
//! - `GET {url}/CocoaPods-version.yml` says how pods are divided (`prefix_lengths`): by digits of the MD5 of their names.
//! - `GET {url}/all_pods_versions_{a}_{b}_{c}.txt` of each division: a line `Name/1.0/1.1` for each pod.
//! - `GET {url}/Specs/{a}/{b}/{c}/{Name}/{version}/{Name}.podspec.json` of the latest version of a pod: where its source is.
//!
//! - **Credentials**: none. **Limits**: none documented; the transport's politeness holds.
//! - **Order**: of divisions and names.
//! - **Origins**: repositories, of type `git`, `hg`, `svn`, in the forms in which forges list them, and archives with their SHA-256, of
//!   type `tarball-directory`, in the shape that loaders take.
//! - **State**: none. A pod is asked for when its versions are others than at its last reading.
//! - **Deletions**: what no pod names any longer is gone after a full run.
//! - **Cost**: 4,097 requests for the divisions of the public one, and a first time one for each of 100,000 pods, later for those
//!   that changed.
//!
//! # What it cannot see
//!
//! - Sources of versions before the latest, where they were elsewhere. Dates. Archives whose checksum is not given.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/cocoapods.rs` that fails without it:
//!
//! - asks how pods are divided, and for each division: `cocoapods_asks_for_each_division`
//! - a pod is an item, asked for at its latest version: `cocoapods_pods_are_items`
//! - sources are repositories or archives: `cocoapods_lists_sources`
//! - a division may be empty, a pod may have gone, other failures are gaps: `cocoapods_what_is_not_there`
//! - odd lines and pods are counted: `cocoapods_odd_pods_are_counted`
//! - a broken body is an error with its place: `cocoapods_a_broken_body_is_an_error_with_its_place`
//! - its parameters: `cocoapods_takes_its_url`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::files::{Nature, nature_of};
use super::under;
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    Recovery, RunInfo, Source, fingerprint, in_order, repository_url,
};
use crate::model::{NewOrigin, VisitType};
use crate::transport::{Request, Response};

const BASE: &str = "https://cdn.cocoapods.org";

/// Into how many digits pods may be divided: with four there would be more divisions than pods.
const DIGITS: usize = 3;

/// Lists CocoaPods. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::CocoaPods;
/// use lamplighter::model::Timestamp;
///
/// let pods = CocoaPods::new(&"https://cdn.cocoapods.org".parse()?);
/// let start = pods.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(pods.request(&start[0])?.url.path(), "/CocoaPods-version.yml");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CocoaPods {
    base: Url,
    instance: String,
}

/// Where a listing of pods is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CocoaPodsCursor {
    /// At how pods are divided.
    Settings,
    /// At a division.
    Division {
        /// Its digits, as they are divided.
        digits: Vec<String>,
    },
    /// At a pod.
    Pod {
        /// The digits of its division.
        digits: Vec<String>,
        /// Its name.
        name: String,
        /// Its latest version.
        version: String,
    },
}

#[derive(Deserialize)]
struct Pod {
    name: String,
    #[serde(default)]
    source: Option<Value>,
}

impl CocoaPods {
    /// The repository at `url`. The instance is named `cocoapods`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self { base: under(url, &[]), instance: "cocoapods".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}

/// The divisions, of the lengths of digits that the settings give.
fn divisions(settings: &str) -> Result<Vec<Vec<String>>, ListerError> {
    let lines: Vec<&str> = settings.lines().collect();
    let wrong =
        |problem: &str| ListerError::parse(format!("CocoaPods-version.yml, in prefix_lengths: {problem}"));
    // A text that is no settings at all has neither of these.
    if !lines.iter().any(|line| {
        line.starts_with("min:") || line.starts_with("last:") || line.starts_with("prefix_lengths:")
    }) {
        let bytes = settings.len();
        return Err(ListerError::parse(format!("CocoaPods-version.yml, after {bytes} bytes: no settings")));
    }
    let mut lengths = Vec::new();
    if let Some(at) = lines.iter().position(|line| line.starts_with("prefix_lengths:")) {
        let (_, inline) = lines.get(at).and_then(|line| line.split_once(':')).unwrap_or_default();
        let list = inline.trim().trim_start_matches('[').trim_end_matches(']').split(',').map(str::trim);
        let below = lines.iter().skip(at + 1).map_while(|line| line.trim_start().strip_prefix('-'));
        let below = below.map(str::trim).filter(|_| inline.trim().is_empty());
        for length in list.chain(below).filter(|length| !length.is_empty()) {
            lengths.push(length.parse::<usize>().map_err(|e| wrong("no number").with_source(e))?);
        }
    }
    let fits = |length: &usize| (1..=DIGITS).contains(length);
    if lengths.len() > DIGITS || !lengths.iter().all(fits) || lengths.iter().sum::<usize>() > DIGITS {
        return Err(wrong("not one to three digits in all"));
    }
    let mut all = vec![Vec::new()];
    for length in lengths {
        let pieces = (0..16_usize.pow(u32::try_from(length).unwrap_or(0))).map(|n| format!("{n:0length$x}"));
        let pieces: Vec<String> = pieces.collect();
        let longer = |before: &Vec<String>, piece: &String| {
            let mut digits = before.clone();
            digits.push(piece.clone());
            digits
        };
        all = all.iter().flat_map(|before| pieces.iter().map(move |piece| longer(before, piece))).collect();
    }
    Ok(all)
}

/// The latest version, those for trying out after all others.
fn latest<'a>(versions: &[&'a str]) -> Option<&'a str> {
    versions.iter().copied().max_by_key(|version| (!version.contains('-'), in_order(version)))
}

/// As pods and their versions are named: nothing that leads elsewhere.
fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(known)
}

fn pods(digits: &[String], response: &Response, page: &mut Page<CocoaPodsCursor>) -> Result<(), ListerError> {
    let text = response.text()?;
    let what = || format!("the pods of {}", digits.join("_"));
    if !text.is_empty() && !text.ends_with('\n') {
        // The last name, or its versions, may be cut.
        let line = text.lines().count();
        return Err(ListerError::parse(format!("{}: line {line} is cut: it has no end", what())));
    }
    let (mut all, mut used) = (0_u64, 0_u64);
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        all += 1;
        let mut fields = line.trim().split('/');
        let name = fields.next().unwrap_or_default();
        let versions: Vec<&str> = fields.collect();
        let known = is_name(name) && versions.iter().all(|version| is_name(version));
        let Some(version) = latest(&versions).filter(|_| known) else {
            let shown: String = line.chars().take(80).collect();
            page.skip(format!("line {} of {}: {shown:?}", n + 1, what()), "it is no pod with versions");
            continue;
        };
        used += 1;
        let at = CocoaPodsCursor::Pod {
            digits: digits.to_vec(),
            name: name.to_owned(),
            version: version.to_owned(),
        };
        page.item(format!("pod {name}"), fingerprint(line.trim()), at);
    }
    // A division without pods is not there.
    if used == 0 {
        let bytes = text.len();
        return Err(ListerError::parse(format!(
            "{}: none of {all} lines is a pod, after {bytes} bytes",
            what()
        )));
    }
    Ok(())
}

fn pod(name: &str, response: &Response, page: &mut Page<CocoaPodsCursor>) -> Result<(), ListerError> {
    let pod: Pod = response.json()?;
    if pod.name != name {
        let other: String = pod.name.chars().take(80).collect();
        return Err(ListerError::parse(format!("at name: it is of {other:?}, and was to be of {name:?}")));
    }
    match source_of(pod.source.as_ref()) {
        Ok(origin) => page.origin(origin),
        Err(why) => {
            page.skip(format!("the source of {name}"), why);
            Ok(())
        }
    }
}

/// The origin of a pod's source; or why it is none.
fn source_of(source: Option<&Value>) -> Result<NewOrigin, String> {
    let field = |name: &str| {
        source
            .and_then(|s| s.get(name))
            .and_then(Value::as_str)
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    if let Some((kind, url)) =
        ["git", "hg", "svn"].into_iter().find_map(|kind| field(kind).map(|url| (kind, url)))
    {
        let found = repository_url(url).map_err(|e| e.to_string())?.ok_or("it names no repository")?;
        return Ok(NewOrigin::new(found.url, VisitType::known(kind)));
    }
    let url = field("http").ok_or("it has none that can be visited")?;
    let parsed = Url::parse(url).map_err(|e| format!("its address is no URL ({e})"))?;
    let sum = field("sha256").unwrap_or_default().to_ascii_lowercase();
    if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("its archive has no SHA-256".to_owned());
    }
    // What a pod is had from is an archive, but a single file is none.
    if nature_of(&parsed) == Nature::File {
        return Err("it is no archive".to_owned());
    }
    Ok(NewOrigin::new(url, VisitType::known("tarball-directory"))
        .with_argument("checksums", json!({ "sha256": sum }))
        .with_argument("checksum_layout", "standard")
        .with_argument("fallback_urls", json!([])))
}

impl Lister for CocoaPods {
    type Cursor = CocoaPodsCursor;

    fn name(&self) -> &'static str {
        "cocoapods"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<CocoaPodsCursor> {
        vec![CocoaPodsCursor::Settings]
    }

    fn request(&self, at: &CocoaPodsCursor) -> Result<Request, ListerError> {
        let url = match at {
            CocoaPodsCursor::Settings => under(&self.base, &["CocoaPods-version.yml"]),
            CocoaPodsCursor::Division { digits } => {
                let name = [&["all_pods_versions".to_owned()], &digits[..]].concat().join("_");
                under(&self.base, &[&format!("{name}.txt")])
            }
            CocoaPodsCursor::Pod { digits, name, version } => {
                let file = format!("{name}.podspec.json");
                let mut path = vec!["Specs"];
                path.extend(digits.iter().map(String::as_str));
                path.extend([name.as_str(), version.as_str(), file.as_str()]);
                under(&self.base, &path)
            }
        };
        Ok(Request::get(url).configured())
    }

    fn page(
        &self,
        at: &CocoaPodsCursor,
        response: Response,
        page: &mut Page<CocoaPodsCursor>,
    ) -> Result<(), ListerError> {
        match at {
            CocoaPodsCursor::Settings => {
                for digits in divisions(&response.text()?)? {
                    page.follow(CocoaPodsCursor::Division { digits });
                }
                Ok(())
            }
            CocoaPodsCursor::Division { digits } => pods(digits, &response, page),
            CocoaPodsCursor::Pod { name, .. } => pod(name, &response, page),
        }
    }

    fn recover(&self, at: &CocoaPodsCursor, failure: &Failure) -> Recovery<CocoaPodsCursor> {
        match at {
            CocoaPodsCursor::Division { digits } if failure.is_absent() && !digits.is_empty() => {
                Recovery::skip("no pod is in this division")
            }
            CocoaPodsCursor::Pod { .. } if failure.is_absent() => {
                Recovery::skip("the version went since the pods were read")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default(
        "url",
        ParameterKind::Url,
        BASE,
        "the repository of specifications, behind a CDN",
    ),
    Parameter::with_default("instance", ParameterKind::Text, "cocoapods", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("cocoapods", "CocoaPods (Apple's systems)", build)
        .visiting(&["git", "hg", "svn", "tarball-directory"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = CocoaPods::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
