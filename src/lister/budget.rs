//! A reader that gives no more than it is allowed to: memory is bounded whatever a file says of itself.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Gives no more than is allowed at the time: whoever shares the budget sets it anew.
pub(crate) struct Budgeted<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
    over: &'static str,
}

impl<R> Budgeted<R> {
    /// Reads as long as something is left of a budget in bytes; then `over` is the error.
    pub(crate) fn new(inner: R, budget: &Rc<Cell<u64>>, over: &'static str) -> Self {
        Self { inner, budget: Rc::clone(budget), over }
    }
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.get();
        if left == 0 {
            return Err(io::Error::other(self.over));
        }
        let read = self.inner.read(into)?;
        self.budget.set(left.saturating_sub(read as u64));
        Ok(read)
    }
}
