//! Everything that is logged, by whomever, while a test looks.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::span;

thread_local! {
    static KEPT: RefCell<Option<Arc<Mutex<String>>>> = const { RefCell::new(None) };
}

/// Collects what this thread logs until it is dropped.
///
/// The subscriber is the process's: one for a thread would not be asked where another test, on
/// another thread, passed the same line before.
pub(crate) struct Notes(Arc<Mutex<String>>);

impl Notes {
    pub(crate) fn take() -> Self {
        static SET: Once = Once::new();
        SET.call_once(|| tracing::subscriber::set_global_default(Everything).unwrap());
        let kept = Arc::new(Mutex::new(String::new()));
        KEPT.set(Some(Arc::clone(&kept)));
        Self(kept)
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}

/// Writes down whatever spans and events hold.
struct Everything;

struct Line;

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        KEPT.with_borrow(|kept| {
            if let Some(kept) = kept {
                writeln!(kept.lock().unwrap(), "{}={value:?}", field.name()).unwrap();
            }
        });
    }
}

impl tracing::Subscriber for Everything {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut Line);
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Line);
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Line);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
