//! The laws, for every lister; and that the laws can be broken.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use lamplighter::testing::laws;
laws!(github_obeys_the_laws, "fixtures/github/basic");
laws!(gitlab_obeys_the_laws, "fixtures/gitlab/basic");
#[cfg(all(feature = "html", feature = "xml"))]
laws!(gitweb_obeys_the_laws, "fixtures/gitweb/live");
#[cfg(all(feature = "html", feature = "xml"))]
laws!(gitweb_by_hand_obeys_the_laws, "fixtures/gitweb/basic");
#[cfg(all(feature = "html", feature = "xml"))]
laws!(gitweb_by_its_lines_obeys_the_laws, "fixtures/gitweb/lines");
laws!(heptapod_obeys_the_laws, "fixtures/heptapod/basic");
laws!(gitea_obeys_the_laws, "fixtures/gitea/basic");
laws!(forgejo_obeys_the_laws, "fixtures/forgejo/basic");
laws!(gogs_obeys_the_laws, "fixtures/gogs/basic");
laws!(bitbucket_obeys_the_laws, "fixtures/bitbucket/basic");
laws!(bitbucket_of_everything_obeys_the_laws, "fixtures/bitbucket/everything");
laws!(bitbucket_server_obeys_the_laws, "fixtures/bitbucket/server");
#[cfg(feature = "html")]
laws!(fossil_obeys_the_laws, "fixtures/fossil/live", single_file);
laws!(gerrit_obeys_the_laws, "fixtures/gerrit/basic");
laws!(gitiles_obeys_the_laws, "fixtures/gitiles/basic", single_file);
#[cfg(feature = "compression")]
laws!(grokmirror_obeys_the_laws, "fixtures/grokmirror/basic", single_file);
#[cfg(feature = "compression")]
laws!(grokmirror_with_a_validator_obeys_the_laws, "fixtures/grokmirror/live", single_file);
#[cfg(all(feature = "html", feature = "xml"))]
laws!(sourceforge_obeys_the_laws, "fixtures/sourceforge/basic");
laws!(sourcehut_obeys_the_laws, "fixtures/sourcehut/basic");
#[cfg(feature = "html")]
laws!(stagit_obeys_the_laws, "fixtures/stagit/basic");
laws!(tuleap_obeys_the_laws, "fixtures/tuleap/basic");
laws!(urls_obeys_the_laws, "fixtures/urls/basic", single_file);
laws!(save_bulk_obeys_the_laws, "fixtures/save_bulk/basic", single_file);
laws!(github_of_an_organization_obeys_the_laws, "fixtures/github/org", single_file);
laws!(gitlab_of_a_group_obeys_the_laws, "fixtures/gitlab/group", single_file);
laws!(gitea_of_an_organization_obeys_the_laws, "fixtures/gitea/org", single_file);
#[cfg(feature = "archives")]
laws!(crates_obeys_the_laws, "fixtures/crates/basic", single_file);
laws!(npm_obeys_the_laws, "fixtures/npm/basic");
laws!(npm_made_anew_obeys_the_laws, "fixtures/npm/anew");
laws!(launchpad_obeys_the_laws, "fixtures/launchpad/basic");
laws!(pagure_obeys_the_laws, "fixtures/pagure/basic");
laws!(phabricator_obeys_the_laws, "fixtures/phabricator/basic");
laws!(phorge_obeys_the_laws, "fixtures/phorge/basic");
#[cfg(feature = "html")]
laws!(cgit_obeys_the_laws, "fixtures/cgit/live");
#[cfg(feature = "html")]
laws!(cgit_with_odd_repositories_obeys_the_laws, "fixtures/cgit/tabs");
#[cfg(feature = "html")]
laws!(hgweb_obeys_the_laws, "fixtures/hgweb/live");
#[cfg(feature = "html")]
laws!(hgweb_in_json_obeys_the_laws, "fixtures/hgweb/json");
#[cfg(feature = "compression")]
laws!(debian_obeys_the_laws, "fixtures/debian/basic");
#[cfg(feature = "compression")]
laws!(debian_with_missing_forms_obeys_the_laws, "fixtures/debian/gone");
laws!(hex_obeys_the_laws, "fixtures/hex/basic");
laws!(pubdev_obeys_the_laws, "fixtures/pubdev/basic");
laws!(golang_obeys_the_laws, "fixtures/golang/basic");
#[cfg(feature = "xml")]
laws!(pypi_obeys_the_laws, "fixtures/pypi/basic", single_file);
#[cfg(feature = "xml")]
laws!(pypi_without_its_list_obeys_the_laws, "fixtures/pypi/log");
laws!(hackage_obeys_the_laws, "fixtures/hackage/basic");
laws!(puppet_obeys_the_laws, "fixtures/puppet/basic");
laws!(bower_obeys_the_laws, "fixtures/bower/basic", single_file);
laws!(elm_obeys_the_laws, "fixtures/elm/basic", single_file);
laws!(dlang_obeys_the_laws, "fixtures/dlang/basic", single_file);
#[cfg(all(feature = "archives", feature = "html"))]
laws!(arch_obeys_the_laws, "fixtures/arch/basic");
#[cfg(feature = "compression")]
laws!(aur_obeys_the_laws, "fixtures/aur/basic", single_file);
#[cfg(all(feature = "compression", feature = "xml"))]
laws!(rpm_obeys_the_laws, "fixtures/rpm/basic");
#[cfg(all(feature = "archives", feature = "xml"))]
laws!(rubygems_obeys_the_laws, "fixtures/rubygems/basic");
#[cfg(feature = "xml")]
laws!(nuget_obeys_the_laws, "fixtures/nuget/basic");
#[cfg(feature = "archives")]
laws!(opam_obeys_the_laws, "fixtures/opam/basic", single_file);
#[cfg(feature = "compression")]
laws!(gnu_obeys_the_laws, "fixtures/gnu/basic", single_file);

#[cfg(feature = "compression")]
laws!(conda_obeys_the_laws, "fixtures/conda/basic");
#[cfg(feature = "compression")]
laws!(cran_obeys_the_laws, "fixtures/cran/basic", single_file);
#[cfg(all(feature = "compression", feature = "html"))]
laws!(bioconductor_obeys_the_laws, "fixtures/bioconductor/basic");
#[cfg(feature = "archives")]
laws!(julia_obeys_the_laws, "fixtures/julia/basic");
laws!(nixguix_obeys_the_laws, "fixtures/nixguix/basic");
laws!(cpan_obeys_the_laws, "fixtures/cpan/basic");
laws!(homebrew_obeys_the_laws, "fixtures/homebrew/basic", single_file);
laws!(cocoapods_obeys_the_laws, "fixtures/cocoapods/basic");

mod broken {
    //! Sources that break one law each: the check has to find it, or it shows nothing.

    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use lamplighter::lister::{
        Arguments, ConfigError, Entry, Failure, ListerError, Page, PageSource, Recovery, Registry, RunInfo,
    };
    use lamplighter::model::{JsonObject, ListerKey, NewOrigin, VisitType};
    use lamplighter::testing::check_laws;
    use lamplighter::transport::{Request, Response};
    use serde_json::Value;

    #[derive(Clone, Copy, PartialEq)]
    enum How {
        /// It names an origin that is not there.
        Invents,
        /// It gives another page each time.
        Varies,
        /// It calls every failure nothing.
        Skips,
        /// It keeps what came last.
        Joins,
    }

    struct Bad {
        inner: Arc<dyn PageSource>,
        how: How,
        reads: AtomicU64,
    }

    #[async_trait]
    impl PageSource for Bad {
        fn key(&self) -> ListerKey {
            self.inner.key()
        }
        fn start(&self, run: &RunInfo) -> Result<Vec<Value>, ListerError> {
            self.inner.start(run)
        }
        fn is_incremental(&self) -> bool {
            self.inner.is_incremental()
        }
        fn read_state(&self, state: &JsonObject, form: u32) -> Result<Option<Value>, ListerError> {
            self.inner.read_state(state, form)
        }
        fn resume(&self, state: &Value, run: &RunInfo) -> Result<Vec<Value>, ListerError> {
            self.inner.resume(state, run)
        }
        fn join(&self, ours: Value, stored: Value) -> Result<Value, ListerError> {
            if self.how == How::Joins { Ok(ours) } else { self.inner.join(ours, stored) }
        }
        fn request(&self, cursor: &Value) -> Result<Request, ListerError> {
            self.inner.request(cursor)
        }
        fn read(
            &self,
            cursor: &Value,
            response: Response,
            page: &mut Page<Value>,
        ) -> Result<(), ListerError> {
            self.inner.read(cursor, response, page)?;
            match self.how {
                How::Invents => page.origin(NewOrigin::new("https://nowhere.example/", VisitType::git()))?,
                How::Varies => page.skip("a reading", self.reads.fetch_add(1, Ordering::SeqCst)),
                How::Skips | How::Joins => {}
            }
            Ok(())
        }
        fn recover(&self, cursor: &Value, failure: &Failure) -> Result<Recovery<Value>, ListerError> {
            if self.how == How::Skips {
                Ok(Recovery::skip("never mind"))
            } else {
                self.inner.recover(cursor, failure)
            }
        }
    }

    fn bad(arguments: &Arguments, how: How) -> Result<Arc<dyn PageSource>, ConfigError> {
        let inner = Registry::builtin().build(arguments.lister(), arguments.as_json())?.source;
        Ok(Arc::new(Bad { inner, how, reads: AtomicU64::new(0) }))
    }

    type Build = fn(&Arguments) -> Result<Arc<dyn PageSource>, ConfigError>;

    async fn broken_law(lister: &str, case: &str, build: Build, requests: usize) -> String {
        let registry = Registry::builtin();
        let row = registry.entry(lister).unwrap();
        let entry = Entry::new(row.name, row.upstream, build)
            .with_parameters(row.parameters)
            .with_positions(row.positions);
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(lister).join(case);
        check_laws(&Registry::new([entry]), &folder, requests).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn each_broken_law_is_found_and_named() {
        let invents = broken_law("pagure", "basic", |a| bad(a, How::Invents), 3).await;
        assert!(
            invents.contains("a replay lists what its fixture says") && invents.contains("nowhere.example"),
            "{invents}"
        );
        let varies = broken_law("pagure", "basic", |a| bad(a, How::Varies), 3).await;
        assert!(varies.starts_with("the same bytes give the same page"), "{varies}");
        let skips = broken_law("pagure", "basic", |a| bad(a, How::Skips), 3).await;
        assert!(skips.starts_with("a failure is made good by the next run"), "{skips}");
        let joins = broken_law("github", "basic", |a| bad(a, How::Joins), 3).await;
        assert!(joins.starts_with("join is commutative"), "{joins}");
    }

    #[tokio::test]
    async fn a_fixture_that_shows_nothing_is_refused() {
        let build: Build = |a| Ok(Registry::builtin().build(a.lister(), a.as_json())?.source);
        let small = broken_law("github", "range", build, 3).await;
        assert!(small.contains("2 requests, under 3"), "{small}");
        let empty = broken_law("pagure", "empty", build, 1).await;
        assert!(empty.contains("lists no origin"), "{empty}");
        let once = broken_law("github", "range", build, 2).await;
        assert!(once.contains("no second run"), "{once}");
    }
}
