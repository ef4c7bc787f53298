//! What the searches for a record that makes its page fail have in common.
//!
//! A forge that cannot show one record often answers 500 for every page with it, and does not say which it
//! is. How a page is asked for in smaller pieces depends on the forge (by number, by id, with an upper
//! bound or without), so each lister has a search of its own.

use http::StatusCode;

use crate::lister::{Failure, FailureKind};

/// How many ids a listing jumps at most to get past a record that fails.
const FARTHEST: u64 = 256;

/// Whether one record may be to blame: a forge that is down, slow or refuses is asked no more.
pub(super) fn may_be_one_record(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Status(StatusCode::INTERNAL_SERVER_ERROR) | FailureKind::Parse)
}

/// After which id a listing tries to go on that fails after `from`, and failed after `at` too: after the
/// next one, after four, sixteen … more. `None` where that is too far.
pub(super) fn farther(from: u64, at: u64) -> Option<u64> {
    let jumped = at.saturating_sub(from);
    if jumped >= FARTHEST {
        return None;
    }
    Some(from.saturating_add((4 * jumped).max(1)))
}
