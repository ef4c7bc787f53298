//! Signals to processes that tests start.

use std::process::{Child, Command};

/// Sends a signal, `TERM` for example, by the shell: its own `kill` is there where no program of that
/// name is installed. False where it could not be sent.
pub(crate) fn signal(child: &Child, name: &str) -> bool {
    let script = format!("kill -{name} {}", child.id());
    Command::new("sh").args(["-c", &script]).status().is_ok_and(|s| s.success())
}
