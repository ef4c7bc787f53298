//! Phabricator, and Phorge, which goes on where Phabricator ended: every repository that the token's
//! user may see.
//!
//! # How it lists
//!
//! `POST {base}/api/diffusion.repository.search` with a form: `order=oldest`, `attachments[uris]=1`,
//! and `after`, which the page before gave. The end is `after` being null.
//!
//! - **Credentials**: a Conduit token is required: argument `api_token`, or a credential of the instance.
//!   It goes into the form, as `api.token`.
//! - **Limits**: none known; pages hold 100 repositories.
//! - **Errors**: Conduit answers status 200 also when it refuses, with `error_code` and `error_info`.
//!   That, and an answer without a result, is an error here and never an empty listing.
//! - **State**: none. Every run lists everything, in the order of creation.
//! - **Scopes**: `group` lists what is tagged with one project (its tag or PHID), by the constraint
//!   `projects`, under a key of its own (`HOST/group=TAG`).
//! - **Cost**: a request per 100 repositories.
//! - **Origins**: one per repository; `git`, `hg` or `svn` as it says. An inactive repository is
//!   listed as archived. `dateModified` is the date of the repository's settings, not of its
//!   contents, so the last update is unknown.
//!
//! # Which of its URIs
//!
//! A repository has many. Those that are disabled, that nobody can read (I/O `none`) or that cannot
//! be visited (`ssh`) do not count. Among the others: a mirror (a copy elsewhere, to which the forge
//! pushes) comes last, and before it what somebody chose to hide; then `https`, `http`, others (`git`,
//! `svn`); then by short name, callsign, id, none of these. A repository without any is skipped and counted.
//!
//! Hidden is only what was set to be: by default a forge shows one of its own URIs and none of its
//! upstreams, which says nothing against the others, and an observed upstream is often the one URI
//! of a Subversion repository. For the same reason what is hidden is taken where nothing else is there.
//!
//! # What it cannot see
//!
//! Repositories that the token's user may not see; when a repository last changed.
//!
//! # Behaviours
//!
//! Each with the test in `tests/listers_forges/phabricator.rs` that fails without it:
//!
//! - asks by form, from the oldest on, for URIs too, with its token in the form:
//!   `phabricator_asks_by_form`
//! - goes on after what the page says, until it is null or empty: `phabricator_goes_on_until_after_is_null`
//! - a refusal is an error with Conduit's words, and one about the token says where to set it:
//!   `phabricator_a_refusal_is_no_empty_listing`
//! - an answer without a result, or that does not say how it goes on, is an error with its place:
//!   `phabricator_a_broken_body_is_an_error_with_its_place`
//! - chooses among the URIs as above: `phabricator_chooses_by_scheme_and_identifier`,
//!   `phabricator_what_is_hidden_goes_last`, `phabricator_unusable_uris_do_not_count`,
//!   `phabricator_other_protocols_are_better_than_nothing`
//! - a repository without any is skipped by name: `phabricator_a_repository_without_a_uri_is_counted`
//! - kind, id and activity: `phabricator_reads_kind_id_and_activity`
//! - a project's repositories are a listing of its own: `phabricator_lists_a_project`
//! - the older form of the URL, with the method, is cut back: `phabricator_the_url_may_name_the_method`
//! - the two names differ in nothing else: `phorge_is_phabricator_by_another_name`
//! - without a token it does not start: `phabricator_needs_a_token`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use super::location;
use super::scope::{Instance, Scope};
use crate::lister::{
    Arguments, ConfigError, Entry, Lister, ListerError, Page, PageSource, Parameter, ParameterKind, RunInfo,
    Source,
};
use crate::model::{NewOrigin, VisitType, check_origin_url};
use crate::transport::{Auth, Request, Response};

const GROUP: &str = "group";
const METHOD: &str = "/api/diffusion.repository.search";

/// Lists a Phabricator or a Phorge. See the [module](self).
///
/// ```
/// use lamplighter::lister::{Lister, Mode, RunInfo};
/// use lamplighter::listers::Phabricator;
/// use lamplighter::model::Timestamp;
///
/// let phorge = Phabricator::phorge("https://we.phorge.it".parse()?);
/// let start = phorge.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
/// let request = phorge.request(&start[0])?;
/// assert_eq!(request.url.as_str(), "https://we.phorge.it/api/diffusion.repository.search");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Phabricator {
    name: &'static str,
    method: Url,
    instance: Instance,
}

/// Where a listing of a Phabricator is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PhabricatorCursor {
    /// What the page before gave; nothing at the start.
    pub after: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Found>,
    error_code: Option<String>,
    error_info: Option<String>,
}

#[derive(Deserialize)]
struct Found {
    data: Vec<Repository>,
    cursor: After,
}

#[derive(Deserialize)]
struct After {
    // Null ends the listing; absent is an answer of some other kind.
    #[serde(deserialize_with = "Option::deserialize")]
    after: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    phid: String,
    fields: Fields,
    attachments: Attachments,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    vcs: String,
    status: Option<String>,
    short_name: Option<String>,
    name: Option<String>,
    callsign: Option<String>,
}

#[derive(Deserialize)]
struct Attachments {
    uris: Uris,
}

#[derive(Deserialize)]
struct Uris {
    uris: Vec<Uri>,
}

#[derive(Deserialize)]
struct Uri {
    fields: UriFields,
}

#[derive(Deserialize)]
struct UriFields {
    uri: Effective,
    #[serde(default)]
    io: Effective,
    #[serde(default)]
    display: Display,
    #[serde(default)]
    builtin: Builtin,
    disabled: Option<bool>,
}

/// A setting as it is in effect, besides which Conduit gives what was set and its default.
#[derive(Deserialize, Default)]
struct Effective {
    effective: Option<String>,
}

/// Whether it is shown, as somebody set it: `default` where nobody did.
#[derive(Deserialize, Default)]
struct Display {
    raw: Option<String>,
}

#[derive(Deserialize, Default)]
struct Builtin {
    identifier: Option<String>,
}

impl Effective {
    fn is(&self, value: &str) -> bool {
        self.effective.as_deref() == Some(value)
    }
}

impl UriFields {
    /// Its address, where it can be visited.
    fn usable(&self) -> Option<&str> {
        let readable = self.disabled != Some(true) && !self.io.is("none");
        self.uri.effective.as_deref().filter(|url| readable && check_origin_url(url).is_ok())
    }

    /// The less, the better.
    fn rank(&self, url: &str) -> (bool, bool, u8, u8) {
        let scheme = match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("https") => 0,
            Some("http") => 1,
            _ => 2,
        };
        let identifier = match self.builtin.identifier.as_deref() {
            Some("shortname") => 0,
            Some("callsign") => 1,
            Some("id") => 2,
            _ => 3,
        };
        let hidden = self.display.raw.as_deref() == Some("never");
        (self.io.is("mirror"), hidden, scheme, identifier)
    }
}

impl Repository {
    fn url(&self) -> Option<&str> {
        let usable = self.attachments.uris.uris.iter().filter_map(|u| Some((&u.fields, u.fields.usable()?)));
        usable.min_by_key(|(fields, url)| fields.rank(url)).map(|(_, url)| url)
    }

    fn label(&self) -> &str {
        let Fields { short_name, name, callsign, .. } = &self.fields;
        let names = [short_name, name, callsign].into_iter().flatten();
        names.map(String::as_str).find(|n| !n.is_empty()).unwrap_or(&self.phid)
    }
}

impl Phabricator {
    /// The Phabricator at `base` (which may name the method too); the instance is named after its host.
    #[must_use]
    pub fn new(base: Url) -> Self {
        Self::named("phabricator", base)
    }

    /// The Phorge at `base`: as [`Phabricator::new`], under its own name.
    #[must_use]
    pub fn phorge(base: Url) -> Self {
        Self::named("phorge", base)
    }

    fn named(name: &'static str, mut base: Url) -> Self {
        let instance = Instance::new(location(&base));
        let path = base.path().trim_end_matches('/');
        let path = format!("{}{METHOD}", path.strip_suffix(METHOD).unwrap_or(path));
        base.set_path(&path);
        base.set_query(None);
        base.set_fragment(None);
        Self { name, method: base, instance }
    }

    /// Names the instance.
    #[must_use]
    pub fn with_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance.rename(instance);
        self
    }

    /// Lists only the repositories tagged with a project (its tag or PHID), under a key of its own.
    #[must_use]
    pub fn with_group(mut self, project: impl Into<String>) -> Self {
        self.instance.narrow(Scope::new(GROUP, project));
        self
    }
}

/// What Conduit refuses with, and what helps.
fn refusal(code: &str, info: Option<&str>) -> ListerError {
    let about_the_token = code.starts_with("ERR-INVALID-");
    let help = if about_the_token { "; set api_token=, or a credential of this instance" } else { "" };
    ListerError::refused(format!("{code}: {}{help}", info.unwrap_or("no reason given")))
}

impl Lister for Phabricator {
    type Cursor = PhabricatorCursor;

    fn name(&self) -> &'static str {
        self.name
    }

    fn instance(&self) -> &str {
        self.instance.key()
    }

    fn start(&self, _: &RunInfo) -> Vec<PhabricatorCursor> {
        vec![PhabricatorCursor { after: None }]
    }

    fn request(&self, at: &PhabricatorCursor) -> Result<Request, ListerError> {
        let fixed = [("order", "oldest"), ("attachments[uris]", "1")];
        let tag = self.instance.scope().map(|scope| ("constraints[projects][0]", scope.name()));
        let fields = fixed.into_iter().chain(tag).chain(at.after.as_deref().map(|after| ("after", after)));
        Ok(Request::post_form(self.method.clone(), fields)
            .with_header("accept", "application/json")
            .with_auth(Auth::Form("api.token"))
            .configured())
    }

    fn page(
        &self,
        _: &PhabricatorCursor,
        response: Response,
        page: &mut Page<PhabricatorCursor>,
    ) -> Result<(), ListerError> {
        let answer: Answer = response.json()?;
        if let Some(code) = answer.error_code {
            return Err(refusal(&code, answer.error_info.as_deref()));
        }
        let found = answer.result.ok_or_else(|| ListerError::parse("at result: null, without an error"))?;
        for repository in &found.data {
            let Ok(kind) = VisitType::new(&repository.fields.vcs) else {
                page.skip(repository.label(), format!("unknown kind {:?}", repository.fields.vcs));
                continue;
            };
            let Some(url) = repository.url() else {
                page.skip(repository.label(), "none of its URIs can be visited");
                continue;
            };
            let inactive = repository.fields.status.as_deref().map(|status| status == "inactive");
            page.origin(NewOrigin::new(url, kind).with_archived(inactive).with_forge_id(&repository.phid))?;
        }
        if let Some(after) = found.cursor.after.filter(|after| !after.is_empty()) {
            page.next(PhabricatorCursor { after: Some(after) });
        }
        Ok(())
    }
}

const PARAMETERS: &[Parameter] = &[
    Parameter::required("url", ParameterKind::Url, "the forge, as https://we.phorge.it"),
    Parameter::optional("instance", ParameterKind::Text, "name of the instance: its host where absent"),
    Parameter::optional(GROUP, ParameterKind::Text, "list only what is tagged with this project"),
    Parameter::optional("api_token", ParameterKind::Secret, "Conduit token, from the user's settings"),
];

/// The row of the catalogue.
pub(super) fn entry() -> Entry {
    row(Entry::new("phabricator", "Phabricator", |a| build(a, Phabricator::new(url(a)?))))
}

/// The row of the catalogue under the other name.
pub(super) fn phorge_entry() -> Entry {
    row(Entry::new("phorge", "Phorge", |a| build(a, Phabricator::phorge(url(a)?))))
}

fn row(entry: Entry) -> Entry {
    entry
        .visiting(&["git", "hg", "svn"])
        .with_parameters(PARAMETERS)
        .with_positions(&["after"])
        .with_credential("a Conduit token: api_token=, or a credential of this instance in the configuration")
}

fn url(arguments: &Arguments) -> Result<Url, ConfigError> {
    arguments.url("url").ok_or_else(|| arguments.missing("url= (the forge)"))
}

fn build(arguments: &Arguments, mut lister: Phabricator) -> Result<Arc<dyn PageSource>, ConfigError> {
    if let Some(instance) = arguments.text("instance") {
        lister = lister.with_instance(instance);
    }
    if let Some(scope) = Scope::of(arguments, &[GROUP])? {
        lister.instance.narrow(scope);
    }
    Ok(Arc::new(Source::stateless(lister)))
}
