//! What Bitbucket answers, and the origins in it.

use serde::Deserialize;
use url::Url;

use super::BitbucketCursor;
use crate::lister::{ListerError, Page, utc_date};
use crate::listers::web::best_clone;
use crate::model::{NewOrigin, VisitType};

#[derive(Deserialize)]
pub(super) struct Answer<T> {
    pub(super) values: Option<Vec<T>>,
    pub(super) next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Access {
    pub(super) slug: Option<String>,
    pub(super) workspace: Option<Workspace>,
}

#[derive(Deserialize)]
pub(super) struct Workspace {
    pub(super) slug: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Repository {
    pub(super) uuid: Option<String>,
    pub(super) is_private: Option<bool>,
    pub(super) scm: Option<String>,
    pub(super) updated_on: Option<String>,
    pub(super) created_on: Option<String>,
    pub(super) links: Option<Links>,
    #[serde(default)]
    pub(super) parent: Parentage,
}

/// Whether a repository is a fork.
#[derive(Default, Deserialize)]
#[serde(from = "Option<Parent>")]
pub(super) enum Parentage {
    /// Absent: it was not asked for.
    #[default]
    Unknown,
    /// Null: it is none.
    Own,
    /// Of this one, where it is named.
    Fork(Option<String>),
}

impl From<Option<Parent>> for Parentage {
    fn from(parent: Option<Parent>) -> Self {
        parent.map_or(Self::Own, |parent| Self::Fork(parent.full_name))
    }
}

#[derive(Deserialize)]
pub(super) struct Parent {
    pub(super) full_name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Links {
    #[serde(default)]
    pub(super) clone: Vec<Link>,
}

#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) href: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerAnswer {
    pub(super) values: Vec<ServerRepository>,
    pub(super) is_last_page: Option<bool>,
    pub(super) next_page_start: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerRepository {
    pub(super) id: Option<u64>,
    pub(super) slug: Option<String>,
    pub(super) scm_id: Option<String>,
    pub(super) public: Option<bool>,
    pub(super) archived: Option<bool>,
    pub(super) origin: Option<Box<ServerRepository>>,
    pub(super) links: Option<Links>,
}

/// The address that anybody may clone from.
fn address(links: Option<&Links>) -> Option<String> {
    let bare = |href: &String| {
        let mut url = Url::parse(href).ok()?;
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        Some(url.to_string())
    };
    let all: Vec<String> =
        links?.clone.iter().filter_map(|link| link.href.as_ref()).filter_map(bare).collect();
    best_clone(&all).map(str::to_owned)
}

/// How it is visited; or why it is not.
fn kind(scm: Option<&str>) -> Result<VisitType, String> {
    let scm = scm.unwrap_or("git");
    VisitType::new(scm).map_err(|e| e.to_string())
}

pub(super) fn cloud_origin(
    repository: &Repository,
    page: &mut Page<BitbucketCursor>,
) -> Result<(), ListerError> {
    let label = || repository.uuid.clone().unwrap_or_else(|| "a repository".to_owned());
    let Some(url) = address(repository.links.as_ref()) else {
        page.skip(label(), "has no address that anybody may clone from");
        return Ok(());
    };
    let kind = match kind(repository.scm.as_deref()) {
        Ok(kind) => kind,
        Err(why) => {
            page.skip(url, why);
            return Ok(());
        }
    };
    let updated = repository.updated_on.as_deref().and_then(|date| {
        let read = utc_date(date);
        if read.is_none() {
            page.skip(format!("the date of {url}"), format!("{date:?} is no date"));
        }
        read
    });
    let mut origin = NewOrigin::new(url, kind)
        .with_last_update(updated)
        .with_fork(match repository.parent {
            Parentage::Unknown => None,
            Parentage::Own => Some(false),
            Parentage::Fork(_) => Some(true),
        })
        .with_enabled(repository.is_private != Some(true));
    if let Some(uuid) = &repository.uuid {
        origin = origin.with_forge_id(uuid);
    }
    if let Parentage::Fork(Some(name)) = &repository.parent {
        origin = origin.with_forked_from(format!("https://bitbucket.org/{name}.git"));
    }
    page.origin(origin)
}

pub(super) fn server_origin(
    repository: &ServerRepository,
    page: &mut Page<BitbucketCursor>,
) -> Result<(), ListerError> {
    let label = || repository.slug.clone().unwrap_or_else(|| format!("repository {:?}", repository.id));
    let Some(url) = address(repository.links.as_ref()) else {
        page.skip(label(), "has no address that anybody may clone from");
        return Ok(());
    };
    let kind = match kind(repository.scm_id.as_deref()) {
        Ok(kind) => kind,
        Err(why) => {
            page.skip(label(), why);
            return Ok(());
        }
    };
    let mut origin = NewOrigin::new(url, kind)
        .with_archived(repository.archived)
        .with_enabled(repository.public != Some(false));
    if let Some(parent) = &repository.origin {
        origin = origin.with_fork(true);
        if let Some(from) = address(parent.links.as_ref()) {
            origin = origin.with_forked_from(from);
        }
    }
    if let Some(id) = repository.id {
        origin = origin.with_forge_id(id);
    }
    page.origin(origin)
}
