//! Registries of Julia: the repository of every package.
//!
//! # How it lists
//!
//! By the protocol of Julia's package servers. `GET {url}/registries` names the registries that the server has, a line
//! `/registry/{uuid}/{tree}` each. `GET {url}/registry/{uuid}/{tree}` is an archive of a registry (tar, gzip) with
//! `Registry.toml` and a folder for each package, of which `Package.toml` is read as it comes.
//!
//! - **Credentials**: none. **Limits**: none documented.
//! - **Order**: the archive's.
//! - **Origins**: the repositories that packages name, each once, in the forms in which forges list them, of type `git`.
//! - **State**: none. A registry is asked for when its tree is another one than at its last reading: git's hash of all that is in it.
//!   The state of Software Heritage, a commit, is not needed.
//! - **Deletions**: what no registry names any longer is gone after a full run.
//! - **Cost**: one request, and one for each registry that changed (some 10 MB for General).
//!
//! # What it cannot see
//!
//! - When a package changed: an archive of a registry has no dates.
//! - Registries that no package server has.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/julia.rs` that fails without it:
//!
//! - asks for the registries, and for one when its tree is another: `julia_registries_are_items`
//! - a repository is an origin once, in the form of its forge: `julia_lists_repositories`
//! - texts are read as TOML has them, and tables are not: `julia_reads_texts_of_toml`
//! - packages without a repository that can be visited are counted: `julia_odd_packages_are_counted`
//! - a broken list or archive is an error with its place: `julia_a_broken_body_is_an_error_with_its_place`
//! - a registry that went meanwhile is counted: `julia_a_registry_that_went_is_counted`
//! - its parameters: `julia_takes_its_url`

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::under;
use crate::lister::archive::each_member;
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, Page, PageSource, Parameter, ParameterKind,
    Recovery, RunInfo, Source, repository_url,
};
use crate::model::{NewOrigin, VisitType, digest128};
use crate::transport::{Request, Response};

const BASE: &str = "https://pkg.julialang.org";

/// The longest `Package.toml`: real ones have some hundred bytes.
const LONGEST: u64 = 64 << 10;

/// Lists the registries of a package server. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Julia;
/// use lamplighter::model::Timestamp;
///
/// let julia = Julia::new(&"https://pkg.julialang.org".parse()?);
/// let start = julia.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(julia.request(&start[0])?.url.as_str(), "https://pkg.julialang.org/registries");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Julia {
    base: Url,
    instance: String,
}

/// Where a listing of registries is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JuliaCursor {
    /// At the list of registries.
    Registries,
    /// At a registry.
    Registry {
        /// Which.
        uuid: String,
        /// What is in it: the hash of its tree.
        tree: String,
    },
}

impl Julia {
    /// The package server at `url`. The instance is named `julia`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self { base: under(url, &[]), instance: "julia".to_owned() }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }
}

fn registries(response: &Response, page: &mut Page<JuliaCursor>) -> Result<(), ListerError> {
    let text = response.text()?;
    let mut any = false;
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let is_hex =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        // Git's hash of a tree, by SHA-1 or SHA-256: a shorter one was cut.
        let is_tree = |text: &str| is_hex(text) && matches!(text.len(), 40 | 64);
        let parts = line.trim().strip_prefix("/registry/").and_then(|rest| rest.split_once('/'));
        let Some((uuid, tree)) = parts.filter(|(uuid, tree)| is_hex(uuid) && is_tree(tree)) else {
            let shown: String = line.chars().take(80).collect();
            return Err(ListerError::parse(format!("line {} of registries is none: {shown:?}", n + 1)));
        };
        any = true;
        let at = JuliaCursor::Registry { uuid: uuid.to_owned(), tree: tree.to_owned() };
        page.item(format!("registry {uuid}"), tree, at);
    }
    if any {
        return Ok(());
    }
    Err(ListerError::parse(format!("the server has no registries, after {} bytes", text.len())))
}

fn registry(response: &Response, page: &mut Page<JuliaCursor>) -> Result<(), ListerError> {
    const WHAT: &str = "the registry";
    let (mut seen, mut is_registry, mut packages, mut used) = (HashSet::new(), false, 0_u64, 0_u64);
    each_member(WHAT, &response.body, |member, contents| {
        let path = member.path.as_str();
        is_registry |= path == "Registry.toml";
        let Some(folder) = path.strip_suffix("/Package.toml").filter(|_| member.is_file) else {
            return Ok(());
        };
        packages += 1;
        let folder: String = folder.chars().take(120).collect();
        let mut text = Vec::new();
        contents
            .take(LONGEST)
            .read_to_end(&mut text)
            .map_err(|e| ListerError::parse(format!("{WHAT}: in {path:?}")).with_source(e))?;
        let Some(repo) = text_of(&String::from_utf8_lossy(&text), "repo") else {
            page.skip(folder, "it names no repository");
            return Ok(());
        };
        match repository_url(&repo) {
            Ok(Some(repository)) => {
                used += 1;
                if seen.insert(digest128(repository.url.as_bytes())) {
                    page.origin(NewOrigin::new(repository.url, VisitType::git()))?;
                }
            }
            Ok(None) => page.skip(folder, "it names no repository"),
            Err(e) => page.skip(folder, e),
        }
        Ok(())
    })?;
    if !is_registry || (packages > 0 && used == 0) {
        let there = if is_registry { "there" } else { "not there" };
        let bytes = response.body.len();
        return Err(ListerError::parse(format!(
            "{WHAT} is none, after {bytes} bytes: {packages} packages, {used} repositories, and Registry.toml is {there}"
        )));
    }
    Ok(())
}

/// The text of a key outside any table of TOML. Files of packages have one text a line.
fn text_of(toml: &str, key: &str) -> Option<String> {
    let lines = toml.lines().map(str::trim).take_while(|line| !line.starts_with('['));
    let mut values = lines.filter_map(|line| line.split_once('=')).filter(|(name, _)| {
        let name = name.trim();
        name.strip_prefix('"').and_then(|n| n.strip_suffix('"')).unwrap_or(name) == key
    });
    let value = values.next()?.1.trim();
    if let Some(literal) = value.strip_prefix('\'') {
        return literal.split_once('\'').map(|(text, _)| text.to_owned());
    }
    // Escapes are those of JSON, but for some that no URL has. What follows may be a comment.
    let mut read = serde_json::Deserializer::from_str(value).into_iter::<String>();
    read.next()?.ok()
}

impl Lister for Julia {
    type Cursor = JuliaCursor;

    fn name(&self) -> &'static str {
        "julia"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<JuliaCursor> {
        vec![JuliaCursor::Registries]
    }

    fn request(&self, at: &JuliaCursor) -> Result<Request, ListerError> {
        let url = match at {
            JuliaCursor::Registries => under(&self.base, &["registries"]),
            JuliaCursor::Registry { uuid, tree } => under(&self.base, &["registry", uuid, tree]),
        };
        Ok(Request::get(url).configured())
    }

    fn page(
        &self,
        at: &JuliaCursor,
        response: Response,
        page: &mut Page<JuliaCursor>,
    ) -> Result<(), ListerError> {
        match at {
            JuliaCursor::Registries => registries(&response, page),
            JuliaCursor::Registry { .. } => registry(&response, page),
        }
    }

    fn recover(&self, at: &JuliaCursor, failure: &Failure) -> Recovery<JuliaCursor> {
        match at {
            JuliaCursor::Registry { .. } if failure.is_absent() => {
                // The next run is told of the tree of its day, and this one would be missing for ever.
                Recovery::skip("the server no longer has it, although it named it")
            }
            _ => Recovery::gap(),
        }
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the package server"),
    Parameter::with_default("instance", ParameterKind::Text, "julia", "name of the instance"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("julia", "Registries of Julia", build)
        .visiting(&["git"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Julia::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
