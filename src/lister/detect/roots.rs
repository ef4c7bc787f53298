//! The roots of forges' APIs: how each is asked for, and what its answer says.

use serde_json::Value;

use crate::transport::Response;

/// The root of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    GitLab,
    Gitea,
    GiteaVersion,
    Gerrit,
    GerritVersion,
    Pagure,
    PagureVersion,
    Grokmirror,
    Bitbucket,
}

/// Those that are asked for where the page says nothing, the most common first.
pub(super) const ALONE: &[Root] = &[Root::GitLab, Root::Gitea, Root::Gerrit, Root::Pagure, Root::Grokmirror];

/// What an answer says.
pub(super) struct Told {
    pub(super) lister: &'static str,
    pub(super) version: Option<String>,
    pub(super) evidence: String,
}

/// The roots that tell more of a forge, in the order in which they are asked for.
pub(super) fn of(lister: &str) -> impl Iterator<Item = Root> + use<> {
    let roots: &[Root] = match lister {
        "gitlab" => &[Root::GitLab],
        "gitea" | "forgejo" => &[Root::GiteaVersion],
        "gerrit" => &[Root::GerritVersion],
        "pagure" => &[Root::PagureVersion],
        "bitbucket" => &[Root::Bitbucket],
        _ => &[],
    };
    roots.iter().copied()
}

impl Root {
    /// Path and query, below the site.
    pub(super) fn address(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::GitLab => ("api/v4/projects", Some("per_page=1")),
            Self::Gitea => ("api/v1/repos/search", Some("limit=1")),
            Self::GiteaVersion => ("api/v1/version", None),
            Self::Gerrit => ("config/server/info", None),
            Self::GerritVersion => ("config/server/version", None),
            Self::Pagure => ("api/0/projects", Some("per_page=1&short=1")),
            Self::PagureVersion => ("api/0/version", None),
            Self::Grokmirror => ("manifest.js.gz", None),
            Self::Bitbucket => ("rest/api/1.0/application-properties", None),
        }
    }

    /// The folder that the API is in.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::GitLab => "api/v4",
            Self::Gitea | Self::GiteaVersion => "api/v1",
            Self::Pagure | Self::PagureVersion => "api/0",
            Self::Bitbucket => "rest/api/1.0",
            Self::Gerrit | Self::GerritVersion => "config/server",
            Self::Grokmirror => "manifest.js.gz",
        }
    }

    /// Whether it tells forges apart that one page may stand for.
    pub(super) fn tells_which(self) -> bool {
        matches!(self, Self::GitLab | Self::GiteaVersion)
    }

    /// What an answer says, where it is one of this API; `already` is what the forge is taken for.
    pub(super) fn read(self, response: &Response, text: &str, already: Option<&'static str>) -> Option<Told> {
        let told = |lister: &'static str, version: Option<String>, evidence: &str| {
            Some(Told { lister, version, evidence: evidence.to_owned() })
        };
        // It says so also where it wants a token.
        let is_gitlab = self == Self::GitLab && response.headers.contains_key("x-gitlab-meta");
        let gitlab = |evidence| told(already.unwrap_or("gitlab"), None, evidence);
        if is_gitlab && !response.status.is_success() {
            return gitlab("the header x-gitlab-meta");
        }
        if !response.status.is_success() {
            return None;
        }
        let guarded = text.trim_start().strip_prefix(")]}'");
        let json: Option<Value> = serde_json::from_str(guarded.unwrap_or(text)).ok();
        let field = |of: &Value, name: &str| of.get(name).is_some_and(|v| !v.is_null());
        let version =
            |json: &Value| json.get("version").and_then(Value::as_str).map(|v| v.chars().take(60).collect());
        match self {
            Self::GitLab => {
                let json = json?;
                let first = json.as_array()?.first();
                if first.is_some_and(|project| field(project, "vcs_type")) {
                    return told("heptapod", None, "projects with a vcs_type");
                }
                let is_it = is_gitlab || first.is_some_and(|project| field(project, "path_with_namespace"));
                if is_it { gitlab("a list of projects") } else { None }
            }
            Self::Gitea => {
                let json = json?;
                let all = json.get("data").and_then(Value::as_array)?;
                if !field(&json, "ok") {
                    return None;
                }
                // Gogs says less of a repository.
                match all.first() {
                    Some(first) if !first.get("has_issues").is_some_and(Value::is_boolean) => {
                        told("gogs", None, "repositories as Gogs tells of them")
                    }
                    _ => told("gitea", None, "a search for repositories"),
                }
            }
            Self::GiteaVersion => {
                let version: String = version(&json?)?;
                let is_forgejo = version.contains("+gitea") || version.contains("forgejo");
                let lister = if is_forgejo { "forgejo" } else { already.unwrap_or("gitea") };
                told(lister, Some(version), "the version")
            }
            Self::Gerrit => {
                guarded?;
                let json = json?;
                (field(&json, "gerrit") || field(&json, "download"))
                    .then(|| told("gerrit", None, "the server's description"))?
            }
            Self::GerritVersion => {
                guarded?;
                let version = json?.as_str()?.chars().take(60).collect();
                told("gerrit", Some(version), "the version")
            }
            Self::Pagure => {
                let json = json?;
                (field(&json, "projects") && field(&json, "total_projects"))
                    .then(|| told("pagure", None, "a list of projects"))?
            }
            Self::PagureVersion => told("pagure", Some(version(&json?)?), "the version of the API"),
            Self::Grokmirror => {
                let packed = response.body.bytes().is_ok_and(|bytes| bytes.starts_with(&[0x1f, 0x8b]));
                let plain = text.trim_start().starts_with("{\"/") || json.is_some_and(|j| is_manifest(&j));
                (packed || plain).then(|| told("grokmirror", None, "a manifest"))?
            }
            Self::Bitbucket => {
                let json = json?;
                let is_it = json.get("displayName").and_then(Value::as_str) == Some("Bitbucket");
                is_it.then(|| told("bitbucket", version(&json), "the application's properties"))?
            }
        }
    }
}

fn is_manifest(json: &Value) -> bool {
    json.as_object().is_some_and(|paths| !paths.is_empty() && paths.keys().all(|path| path.starts_with('/')))
}
