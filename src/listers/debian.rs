//! Debian archives: the source packages of Debian, of a derivative, or of anybody's own archive.
//!
//! # How it lists
//!
//! By the repository format of Debian's wiki: of each suite the signed `InRelease` (else `Release`) says
//! which indexes there are; a `Sources` index for each component says which packages, in which versions,
//! of which files.
//!
//! - **Requests**: `GET {url}/dists/{suite}/InRelease`, then `{component}/source/Sources.xz` (else what
//!   the release lists: `.bz2`, `.gz`, the plain file) for each component whose index changed since its last
//!   reading, or was last read in another week: that one is asked for with `If-None-Match`.
//! - **Cost**: one request a suite, and at most one for each suite and component.
//! - **Credentials**: none. Signatures are not verified; the checksums inside the compressed files are.
//! - **Limits**: none known. An index may unpack to 200 times its size, and is never held whole.
//! - **Order**: suites and components as given; packages as the index has them, by name.
//! - **Origins**: `deb://{instance}/packages/{package}`, of type `deb`. The argument `packages` is put together
//!   over all indexes: `{suite}/{component}/{version}` to name, version and files with sizes and
//!   checksums. `last_update` is the date of the index (`Last-Modified`) in which the present versions were first seen.
//! - **State**: none. An index is a *part* of the listing: one that cannot be read keeps what it said.
//!
//! Where a suite has neither release file, the places are tried in turn in which archives keep their
//! indexes, `dists/{suite}/updates/…` among them, as old security archives do.
//!
//! # What it cannot see
//!
//! Versions that have left the suites given; packages of suites not given. Who an archive refuses: a private
//! archive needs a proxy that adds its password. A mirror that serves an older index beside a newer release file is read again
//! when the release file changes next, or in another week.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_debian` that fails without it:
//!
//! - asks a suite for its release file, and an index only if it changed:
//!   `a_suite_is_asked_for_its_release_file_first`, `an_unchanged_archive_costs_its_release_files_only`,
//!   `an_index_is_read_again_when_it_the_release_file_or_the_week_changed`
//! - is made from `url` and `suites`, which have no default: `the_catalogue_makes_it_and_has_no_archive_of_its_own`
//! - cursors are stored under names that stay: `cursors_keep_their_names`
//! - reads release files, signed or not, and takes the smallest form of an index that they name:
//!   `a_signed_release_file_names_the_smallest_form_of_each_index`, `release_files_come_in_several_shapes`
//! - goes to the next form or place only where one is not there:
//!   `what_is_not_there_is_looked_for_elsewhere_in_turn`, `what_fails_otherwise_is_a_gap`,
//!   `the_next_form_is_asked_for_where_the_first_is_not_there`
//! - an archive without release files is searched: `an_archive_without_release_files_is_searched_and_a_state_of_swh_is_no_hindrance`
//! - a component that a suite has not is counted as left out, and no suite may have none of them:
//!   `a_component_that_a_suite_has_not_is_left_out_and_all_of_them_are_an_error`
//! - a version is given with its files, sizes, checksums and addresses: `a_paragraph_is_a_version_with_its_files`,
//!   `odd_lists_of_files_are_read_as_far_as_they_go`
//! - reads xz, bzip2, gzip and plain files by their contents: `each_compression_is_read_whatever_the_name_says`,
//!   `archives_of_other_makers_are_listed`
//! - never holds a whole index: `an_index_is_handed_over_as_it_is_read`
//! - a paragraph without a name, version or directory is counted as left out:
//!   `a_paragraph_that_is_no_source_package_is_left_out`
//! - what is no release file or index, is cut or bent, is an error with its place:
//!   `what_is_no_release_file_is_an_error_that_says_why`, `what_is_no_index_is_an_error_with_its_place`,
//!   `no_cut_or_bent_file_makes_it_panic`, `an_index_that_comes_empty_is_an_error_unless_it_is_empty`, `a_broken_index_is_a_gap_of_its_part_and_healed_by_the_next_listing`
//! - a package in two suites keeps what each says: `an_index_that_fails_keeps_what_it_said`,
//!   `a_kill_between_two_indexes_keeps_what_both_say`, `an_index_that_answers_304_keeps_what_it_said`,
//!   `a_worker_that_claims_during_a_run_gets_the_whole`

use std::io::BufReader;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use crate::lister::compress::{Unpacked, unpacking};
use crate::lister::deb822::{Deb822Error, Paragraph, Paragraphs};
use crate::lister::{
    Arguments, ConfigError, Entry, Failure, Lister, ListerError, ListerErrorKind, Page, PageSource,
    Parameter, ParameterKind, Recovery, RunInfo, Source, mail_date,
};
use crate::model::{Artifact, NewOrigin, VisitType};
use crate::transport::{Request, Response};

/// Where a suite's release file may be, the signed one first.
const RELEASES: [&str; 4] = ["InRelease", "Release", "updates/InRelease", "updates/Release"];

/// How an index may be compressed, the smallest first.
const SUFFIXES: [&str; 4] = [".xz", ".bz2", ".gz", ""];

/// The components of a suite that does not say which it has, where none are given.
const COMPONENTS: [&str; 3] = ["main", "contrib", "non-free"];

/// An index is read again after so long, whatever the release file says.
const WEEK: i64 = 7 * 86_400;

/// The lists of files in a paragraph, and what their first column is.
const SUMS: [(&str, &str); 4] = [
    ("files", "md5sum"),
    ("checksums-sha1", "sha1"),
    ("checksums-sha256", "sha256"),
    ("checksums-sha512", "sha512"),
];

/// Lists a Debian archive. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Debian;
/// use lamplighter::model::Timestamp;
///
/// let debian = Debian::new("https://deb.example/debian".parse()?, "Debian", ["bookworm"], ["main"]);
/// let start = debian.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// let first = debian.request(&start[0])?.url;
/// assert_eq!(first.as_str(), "https://deb.example/debian/dists/bookworm/InRelease");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Debian {
    /// Without slashes at its end.
    url: String,
    instance: String,
    suites: Vec<String>,
    components: Vec<String>,
    visit_type: VisitType,
}

/// Where a listing of a Debian archive is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DebianCursor {
    /// At a suite's release file.
    Release {
        /// The suite.
        suite: String,
        /// The place that is tried, by number.
        at: usize,
    },
    /// At the index of a component.
    Index {
        /// The suite.
        suite: String,
        /// The component.
        component: String,
        /// The places where it may be, below the suite's.
        names: Vec<String>,
        /// The one that is tried, by number.
        at: usize,
        /// Whether a release file names them; else they are guessed.
        listed: bool,
        /// How large the plain index is, where a release file says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
}

/// The catalogue's row.
#[must_use]
pub(crate) fn entry() -> Entry {
    const PARAMETERS: &[Parameter] = &[
        Parameter::required(
            "url",
            ParameterKind::Url,
            "The archive: the folder that dists/ and pool/ are in.",
        ),
        Parameter::with_default(
            "instance",
            ParameterKind::Text,
            "Debian",
            "The distribution's name, as in the URLs of its packages.",
        ),
        Parameter::required("suites", ParameterKind::Text, "Suites or code names, with commas between them."),
        Parameter::optional(
            "components",
            ParameterKind::Text,
            "Components, with commas between them; by default all that a suite has.",
        ),
    ];
    fn build(arguments: &Arguments) -> Result<Arc<dyn PageSource>, ConfigError> {
        let url = arguments.url("url").ok_or_else(|| arguments.missing("url= (the archive)"))?;
        let list = |name: &str| -> Result<Vec<String>, ConfigError> {
            let names = arguments.texts(name);
            match names.iter().find(|n| !is_path(n)) {
                Some(bad) => Err(arguments.wrong(name, format!("{bad:?} is no name of one"))),
                None => Ok(names),
            }
        };
        let (suites, components) = (list("suites")?, list("components")?);
        if suites.is_empty() {
            return Err(arguments.missing("suites= (such as stable,testing)"));
        }
        let instance = arguments.text("instance").unwrap_or("Debian").trim();
        if instance.is_empty() || instance.contains(|c: char| c == '/' || c.is_whitespace()) {
            return Err(arguments.wrong("instance", "must be a name, without slashes and spaces"));
        }
        Ok(Arc::new(Source::stateless(Debian::new(url, instance, suites, components))))
    }
    Entry::new("debian", "Source packages of Debian archives", build)
        .visiting(&["deb"])
        .with_parameters(PARAMETERS)
}

impl Debian {
    /// Lists these suites of an archive: these components of them, or all where none are given.
    pub fn new<S: Into<String>, C: Into<String>>(
        url: Url,
        instance: impl Into<String>,
        suites: impl IntoIterator<Item = S>,
        components: impl IntoIterator<Item = C>,
    ) -> Self {
        Self {
            url: String::from(url).trim_end_matches('/').to_owned(),
            instance: instance.into(),
            suites: suites.into_iter().map(Into::into).collect(),
            components: components.into_iter().map(Into::into).collect(),
            visit_type: VisitType::known("deb"),
        }
    }

    /// Reads a release file.
    fn release(
        &self,
        suite: &str,
        at: usize,
        response: &Response,
        page: &mut Page<DebianCursor>,
    ) -> Result<(), ListerError> {
        let release = Release::read(&response.text()?)?;
        // Files are named from the folder that the release file is in.
        let folder = if at >= 2 { "updates/" } else { "" };
        let wanted = if self.components.is_empty() { release.components() } else { self.components.clone() };
        let mut any = false;
        for component in wanted {
            let Some((names, file)) = release.index_of(&component) else {
                page.skip(format!("{suite}/{component}"), "the suite has no source index of it");
                // What it may have said before, it says no longer.
                page.part(format!("{suite}/{component}"));
                page.end_part();
                continue;
            };
            any = true;
            let week = response.received_at.as_seconds().div_euclid(WEEK);
            page.item(
                format!("{suite}/{component}"),
                format!("{} {} {week}", file.digest, release.date),
                DebianCursor::Index {
                    suite: suite.to_owned(),
                    component,
                    names: names.into_iter().map(|n| format!("{folder}{n}")).collect(),
                    at: 0,
                    listed: true,
                    size: file.size.filter(|_| file.is_plain()),
                },
            );
        }
        if any {
            return Ok(());
        }
        let has = release.components().join(", ");
        Err(ListerError::parse(if has.is_empty() {
            format!("the release file of {suite} names no source index (…/source/Sources)")
        } else {
            format!("{suite} has none of the components wanted; it has {has}")
        }))
    }

    /// Reads an index.
    fn index(
        &self,
        (suite, component, name): (&str, &str, &str),
        size: Option<u64>,
        response: &Response,
        page: &mut Page<DebianCursor>,
    ) -> Result<(), ListerError> {
        const WANTED: &[&str] = &[
            "package",
            "version",
            "directory",
            "files",
            "checksums-sha1",
            "checksums-sha256",
            "checksums-sha512",
        ];
        let failed = |e| match e {
            Deb822Error::Format(what) => ListerError::parse(format!("{name}: {what}")),
            Deb822Error::Io(e) => unpacking(name, e),
        };
        let file = Unpacked::new(&response.body).map_err(|e| unpacking(name, e))?;
        let dated = response.header("last-modified").and_then(mail_date);
        page.part(format!("{suite}/{component}"));
        let mut paragraphs = Paragraphs::new(BufReader::with_capacity(64 << 10, file), WANTED);
        let (mut all, mut used) = (0_u64, 0_u64);
        while let Some(paragraph) = paragraphs.next().map_err(failed)? {
            all += 1;
            match self.package(&paragraph, (suite, component)) {
                Ok(origin) => {
                    used += 1;
                    page.origin(origin.with_last_update(dated))?;
                }
                Err(why) => page.skip(format!("the paragraph on line {} of {name}", paragraph.line), why),
            }
        }
        if all > 0 && used == 0 {
            return Err(ListerError::parse(format!("{name}: none of {all} paragraphs is a source package")));
        }
        // An empty body is what a sick server gives, too.
        if let (0, Some(size @ 1..)) = (all, size) {
            let bytes = response.body.len();
            let why = format!("{name}: nothing in {bytes} bytes, and the release file says {size} unpacked");
            return Err(ListerError::parse(why));
        }
        Ok(())
    }

    /// The origin of a paragraph; or why it is none.
    fn package(&self, paragraph: &Paragraph, (suite, component): (&str, &str)) -> Result<NewOrigin, String> {
        let field = |name: &str| paragraph.get(name).ok_or_else(|| format!("it has no {name}"));
        let (package, version, directory) = (field("package")?, field("version")?, field("directory")?);
        if package.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            return Err(format!("{package:?} is no name of a package"));
        }
        let folder = format!("{}/{}", self.url, directory.trim_matches('/'));
        let mut files: Map<String, Value> = Map::new();
        for (list, sum) in SUMS {
            for line in paragraph.lines(list) {
                let mut columns = line.split_whitespace();
                let (Some(digest), Some(size), Some(name)) = (columns.next(), columns.next(), columns.next())
                else {
                    continue;
                };
                let file = files
                    .entry(name)
                    .or_insert_with(|| json!({"name": name, "uri": format!("{folder}/{name}")}));
                if let Some(file) = file.as_object_mut() {
                    file.insert(sum.to_owned(), digest.into());
                    if let Ok(size) = size.parse::<u64>() {
                        file.insert("size".to_owned(), size.into());
                    }
                }
            }
        }
        let what = json!({"name": package, "version": version, "files": files});
        let key = format!("{suite}/{component}/{version}");
        let url = format!("deb://{}/packages/{package}", self.instance);
        Ok(NewOrigin::new(url, self.visit_type.clone())
            .with_artifact(Artifact::in_object("packages", key, what)))
    }

    /// The indexes of a suite without a release file, wherever they may be.
    fn guessed(&self, suite: &str) -> Vec<DebianCursor> {
        let components = if self.components.is_empty() {
            COMPONENTS.map(str::to_owned).to_vec()
        } else {
            self.components.clone()
        };
        let at = |component: String| DebianCursor::Index {
            names: ["", "updates/"]
                .iter()
                .flat_map(|f| {
                    SUFFIXES.iter().map(|s| format!("{f}{component}/source/Sources{s}")).collect::<Vec<_>>()
                })
                .collect(),
            suite: suite.to_owned(),
            component,
            at: 0,
            listed: false,
            size: None,
        };
        components.into_iter().map(at).collect()
    }
}

impl Lister for Debian {
    type Cursor = DebianCursor;

    fn name(&self) -> &'static str {
        "debian"
    }

    fn instance(&self) -> &str {
        &self.instance
    }

    fn start(&self, _: &RunInfo) -> Vec<DebianCursor> {
        let release = |suite: &String| DebianCursor::Release { suite: suite.clone(), at: 0 };
        self.suites.iter().map(release).collect()
    }

    fn request(&self, at: &DebianCursor) -> Result<Request, ListerError> {
        let (suite, name) = match at {
            DebianCursor::Release { suite, at } => (suite, RELEASES.get(*at).copied()),
            DebianCursor::Index { suite, names, at, .. } => (suite, names.get(*at).map(String::as_str)),
        };
        let name = name.ok_or_else(|| ListerError::cursor(format!("{at:?} tries no place")))?;
        let url = format!("{}/dists/{suite}/{name}", self.url);
        let url = Url::parse(&url).map_err(|e| ListerError::cursor(url).with_source(e))?;
        let request = Request::get(url).configured();
        Ok(match at {
            // What was read under a guess belongs to no part before it is read, so a 304 would say nothing.
            DebianCursor::Index { listed: true, .. } => request.validated(),
            _ => request,
        })
    }

    fn page(
        &self,
        at: &DebianCursor,
        response: Response,
        page: &mut Page<DebianCursor>,
    ) -> Result<(), ListerError> {
        match at {
            DebianCursor::Release { suite, at } => self.release(suite, *at, &response, page),
            DebianCursor::Index { suite, component, names, at, size, .. } => {
                let name = names.get(*at).map_or("the index", String::as_str);
                self.index((suite, component, name), *size, &response, page)
            }
        }
    }

    /// Only what is not there is looked for elsewhere: what fails may be well the next time, and a
    /// suite must not shrink to what a sick mirror still answers.
    fn recover(&self, at: &DebianCursor, failure: &Failure) -> Recovery<DebianCursor> {
        if !failure.is_not_there() {
            return Recovery::gap();
        }
        match at {
            DebianCursor::Release { suite, at } if at + 1 < RELEASES.len() => {
                Recovery::replaced(vec![DebianCursor::Release { suite: suite.clone(), at: at + 1 }])
            }
            DebianCursor::Release { suite, .. } => Recovery::replaced(self.guessed(suite)),
            DebianCursor::Index { suite, component, names, at, listed, size } => {
                let there = |at| DebianCursor::Index {
                    suite: suite.clone(),
                    component: component.clone(),
                    names: names.clone(),
                    at,
                    listed: *listed,
                    size: *size,
                };
                if at + 1 < names.len() {
                    return Recovery::replaced(vec![there(at + 1)]);
                }
                if *listed {
                    return Recovery::gap().because("the release file names it");
                }
                // What is missing is the index, wherever it is: the gap is to be where the search begins.
                Recovery::replaced(vec![there(0)])
            }
        }
    }
}

/// What a release file says of source indexes.
struct Release {
    /// As it says it; only compared.
    date: String,
    files: Vec<ReleaseFile>,
}

/// A file that a release file lists.
struct ReleaseFile {
    name: String,
    digest: String,
    size: Option<u64>,
}

impl ReleaseFile {
    /// Whether it is an index as it is, not compressed.
    fn is_plain(&self) -> bool {
        self.name.ends_with("/Sources")
    }
}

impl Release {
    fn read(text: &str) -> Result<Self, ListerError> {
        let body = signed_text(text)?;
        let mut paragraphs = Paragraphs::new(body.as_bytes(), &["date", "sha256", "sha1", "md5sum"]);
        let paragraph = match paragraphs.next() {
            Ok(Some(paragraph)) => paragraph,
            Ok(None) => return Err(ListerError::parse("a release file without anything in it")),
            Err(Deb822Error::Format(what)) => {
                return Err(ListerError::parse(format!("no release file: {what}")));
            }
            Err(Deb822Error::Io(e)) => {
                return Err(ListerError::new(ListerErrorKind::Io, "the release file").with_source(e));
            }
        };
        let list = ["sha256", "sha1", "md5sum"].into_iter().find(|l| paragraph.get(l).is_some());
        let list = list.ok_or_else(|| {
            ListerError::parse("a release file that lists no files (SHA256, SHA1 or MD5Sum)")
        })?;
        let file = |line: &str| {
            let mut columns = line.split_whitespace();
            let (digest, size, name) = (columns.next()?, columns.next()?, columns.next()?);
            Some(ReleaseFile { name: name.to_owned(), digest: digest.to_owned(), size: size.parse().ok() })
        };
        let files = paragraph.lines(list).filter_map(file).filter(|f| is_path(&f.name)).collect();
        Ok(Self { date: paragraph.get("date").unwrap_or_default().to_owned(), files })
    }

    /// The components with a source index, in the order of the file.
    fn components(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for file in &self.files {
            let component =
                SUFFIXES.iter().find_map(|s| file.name.strip_suffix(&format!("/source/Sources{s}")));
            if let Some(component) = component
                && !all.iter().any(|c| c == component)
            {
                all.push(component.to_owned());
            }
        }
        all
    }

    /// Where a component's index is, and the file that says best what is in it. Archives list the plain file and mostly do not
    /// serve it: it counts only where there is no other.
    fn index_of(&self, component: &str) -> Option<(Vec<String>, &ReleaseFile)> {
        let found: Vec<&ReleaseFile> = SUFFIXES
            .iter()
            .filter_map(|s| {
                let name = format!("{component}/source/Sources{s}");
                self.files.iter().find(|f| f.name == name)
            })
            .collect();
        let file = found.last()?;
        let packed = found.iter().filter(|f| !f.is_plain());
        let mut names: Vec<String> = packed.map(|f| f.name.clone()).collect();
        if names.is_empty() {
            names = found.iter().map(|f| f.name.clone()).collect();
        }
        Some((names, file))
    }
}

/// The text of a clear-signed file without what signs it; of another file all of it.
fn signed_text(text: &str) -> Result<String, ListerError> {
    const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
    if !text.trim_start().starts_with(BEGIN) {
        return Ok(text.to_owned());
    }
    if !text.contains("\n-----END PGP SIGNATURE-----") {
        return Err(ListerError::parse("a signed release file that is cut: its signature has no end"));
    }
    // The headers of the signature end with an empty line.
    let lines = text.trim_start().lines().skip_while(|l| !l.trim().is_empty());
    let signed = lines.take_while(|l| !l.starts_with("-----BEGIN PGP SIGNATURE"));
    let mut body = String::with_capacity(text.len());
    for line in signed {
        body.push_str(line.strip_prefix("- ").unwrap_or(line));
        body.push('\n');
    }
    Ok(body)
}

/// Whether a name can be a path below the archive, and no way out of it.
fn is_path(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._+~-/:".contains(&b);
    name.bytes().all(fits) && name.split('/').all(|s| !matches!(s, "" | "." | ".."))
}
