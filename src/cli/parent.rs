//! A node that was started by `keyval local` ends when that one ends, however hard: the kernel sends it SIGKILL then
//! (PR_SET_PDEATHSIG). Data is in memory alone and the mesh bears kill -9, so nothing gentler is needed.
//!
//! The kernel goes by the thread that started the child, so `local` starts its children from its main thread.

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Ties this process to the one of that number, which should be its parent.
///
/// # Errors
/// When that process has ended already, or the system has no such tie.
pub(super) fn end_with(parent: i32) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("cannot be tied to process {parent}: {error}"))?;
    // It may have ended before the tie was made.
    match getppid() {
        Some(now) if now.as_raw_nonzero().get() == parent => Ok(()),
        _ => Err(format!("process {parent}, which started this node, has ended")),
    }
}
