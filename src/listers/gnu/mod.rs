//! The GNU file server, and others with a manifest of that form: every project with its archives.
//!
//! # How it lists
//!
//! `GET {url}/tree.json.gz`, one answer: the tree of all folders and files as `tree -J -s` with times writes it, read
//! project by project, and unpacked where it still is packed.
//!
//! - **Authentication**: none. **Limits**: none documented.
//! - **Origins**: each folder in `gnu/` and `old-gnu/` (`folders=`) with archives somewhere in it: `{url}/{folder}/{name}/`
//!   (`tar`), with `artifacts` in the shape that loaders take, in the order of the tree. Its last update is the
//!   latest date of an archive, as the date of a folder does not move with what is in its folders.
//! - **State**: none; while the server's `ETag` or `Last-Modified` is the same, the file is not read again.
//! - **Deletions**: what the tree no longer names is gone after a full run.
//! - **Cost**: one request (about 1 MB).
//!
//! # What it cannot see
//!
//! - Signatures and checksums: the tree has lengths and times only.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_packages/gnu.rs` that fails without it:
//!
//! - asks for one file, and not again for the same one: `gnu_asks_once`
//! - the file may still be packed, or not: `gnu_reads_the_file_packed_and_not`
//! - archives come in the shape that loaders take, of all folders of a project: `gnu_gives_artifacts`
//! - only the folders that are wanted count, and projects with archives: `gnu_lists_projects_of_its_folders`
//! - archives are told by their names, in all their forms, and signatures are none: `gnu_tells_archives_by_their_names`
//! - versions are read off the names: `gnu_reads_versions_off_names`
//! - odd sizes, times and names are counted: `gnu_odd_files_are_counted`
//! - a broken tree is an error with its place: `gnu_a_broken_tree_is_an_error_with_its_place`
//! - its parameters: `gnu_takes_its_parameters`

mod names;
mod tree;

use std::sync::Arc;

use serde_json::json;
use url::Url;

use super::archives::is_archive;
use super::under;
use crate::lister::{
    Arguments, ConfigError, Entry, Lister, ListerError, Page, PageSource, Parameter, ParameterKind, RunInfo,
    Source,
};
use crate::model::{NewOrigin, Timestamp, VisitType};
use crate::transport::{Request, Response};
use tree::Node;

const BASE: &str = "https://ftp.gnu.org";

/// Lists a file server like GNU's. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Gnu;
/// use lamplighter::model::Timestamp;
///
/// let gnu = Gnu::new(&"https://ftp.gnu.org".parse()?);
/// let start = gnu.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// assert_eq!(gnu.request(&start[0])?.url.path(), "/tree.json.gz");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gnu {
    base: Url,
    folders: Vec<String>,
    visit_type: VisitType,
    instance: String,
}

impl Gnu {
    /// The server at `url`, of which the folders `gnu` and `old-gnu` are listed. The instance is named
    /// `GNU`.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            base: under(url, &[]),
            folders: vec!["gnu".to_owned(), "old-gnu".to_owned()],
            visit_type: VisitType::known("tar"),
            instance: "GNU".to_owned(),
        }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Says which folders of the server hold projects.
    #[must_use]
    pub fn with_folders(mut self, folders: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.folders = folders.into_iter().map(Into::into).collect();
        self
    }

    fn project(&self, folder: &str, project: &Node, page: &mut Page<()>) -> Result<(), ListerError> {
        if !project.is_folder() {
            return Ok(());
        }
        if !tree::is_plain(&project.name) {
            page.skip(format!("{:?} in {folder}", shortened(&project.name)), "that can be no folder's name");
            return Ok(());
        }
        let mut found = Found { artifacts: Vec::new(), updated: None };
        let mut path = vec![folder, project.name.as_str()];
        self.files(project, &mut path, &mut found, page);
        if found.artifacts.is_empty() {
            return Ok(());
        }
        let url = under(&self.base, &[folder, &project.name, ""]);
        let origin = NewOrigin::new(url, self.visit_type.clone())
            .with_last_update(found.updated)
            .with_argument("artifacts", found.artifacts);
        page.origin(origin)
    }

    /// In the shape that Software Heritage's loader takes.
    fn files<'a>(&self, of: &'a Node, path: &mut Vec<&'a str>, found: &mut Found, page: &mut Page<()>) {
        for node in of.contents.iter().flatten() {
            path.push(&node.name);
            if node.is_folder() {
                self.files(node, path, found, page);
            } else if node.is_file() && is_archive(&node.name) {
                let place = || path.iter().map(|p| shortened(p)).collect::<Vec<_>>().join("/");
                let (time, length) = (node.seconds().map(Timestamp::from_seconds), node.length());
                if !path.iter().all(|p| tree::is_plain(p)) {
                    page.skip(place(), "that can be no file's name");
                } else if let (Some(time), Some(length)) = (time, length) {
                    found.updated = found.updated.max(Some(time));
                    found.artifacts.push(json!({
                        "url": under(&self.base, path).as_str(),
                        "filename": node.name,
                        "time": time.to_datetime().to_rfc3339(),
                        "length": length,
                        "version": names::version(&node.name),
                    }));
                } else {
                    page.skip(place(), "its time or size is none");
                }
            }
            path.pop();
        }
    }
}

/// The archives of a project, and the latest date of one.
struct Found {
    artifacts: Vec<serde_json::Value>,
    updated: Option<Timestamp>,
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

impl Lister for Gnu {
    /// There is one request.
    type Cursor = ();

    fn name(&self) -> &'static str {
        "gnu"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<()> {
        vec![()]
    }

    fn request(&self, (): &()) -> Result<Request, ListerError> {
        Ok(Request::get(under(&self.base, &["tree.json.gz"])).configured().validated())
    }

    fn page(&self, (): &(), response: Response, page: &mut Page<()>) -> Result<(), ListerError> {
        tree::each_project(&response.body, &self.folders, |folder, project| {
            self.project(folder, &project, page)
        })
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::with_default("url", ParameterKind::Url, BASE, "the server"),
    Parameter::with_default("instance", ParameterKind::Text, "GNU", "name of the instance"),
    Parameter::with_default(
        "folders",
        ParameterKind::Text,
        "gnu,old-gnu",
        "the folders that hold projects, with commas between",
    ),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    Entry::new("gnu", "GNU's file server, and others with such a manifest", build)
        .visiting(&["tar"])
        .with_parameters(PARAMETERS)
        .with_default_base(BASE)
}

fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
    let mut lister = Gnu::new(&arguments.required_url("url")?);
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    if let Some(folders) = arguments.text("folders") {
        let folders: Vec<&str> = folders.split(',').map(str::trim).collect();
        if !folders.iter().all(|f| tree::is_plain(f)) {
            return Err(arguments.wrong("folders", "must be names of folders, with commas between"));
        }
        lister = lister.with_folders(folders);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
