//! A stateless lister of a forge that answers pages of JSON by number.
use lamplighter::lister::{Lister, ListerError, Page, RunInfo};
use lamplighter::model::{NewOrigin, Timestamp, VisitType};
use lamplighter::transport::{Request, Response};
use serde::Deserialize;
use url::Url;

pub(crate) struct Shelf {
    pub(crate) base: Url,
}

#[derive(Deserialize)]
struct Answer {
    repositories: Vec<Repository>,
    next: Option<u32>,
}

#[derive(Deserialize)]
struct Repository {
    clone_url: String,
    updated: Option<Timestamp>,
}

impl Lister for Shelf {
    type Cursor = u32; // the number of a page: all that one request needs
    fn name(&self) -> &'static str {
        "shelf"
    }
    fn instance(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }
    fn start(&self, _: &RunInfo) -> Vec<u32> {
        vec![1]
    }
    fn request(&self, at: &u32) -> Result<Request, ListerError> {
        let mut url = self.base.clone();
        url.query_pairs_mut().append_pair("page", &at.to_string());
        Ok(Request::get(url).configured().with_header("accept", "application/json"))
    }
    fn page(&self, _: &u32, response: Response, page: &mut Page<u32>) -> Result<(), ListerError> {
        let answer: Answer = response.json()?;
        for r in answer.repositories {
            page.origin(NewOrigin::new(r.clone_url, VisitType::git()).with_last_update(r.updated))?;
        }
        if let Some(next) = answer.next {
            page.next(next);
        }
        Ok(())
    }
}
