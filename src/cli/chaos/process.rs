//! The process of a node that somebody else may have started: made sure of before it is sent any signal.
//!
//! A number may belong to another process by now. So the process is taken hold of first (a pidfd), then looked at, and
//! signalled by that hold: if it is the right one when it is looked at, it is the right one, or nobody, afterwards.

use std::fs;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cli::local::layout::Described;

/// A process that was looked at.
pub(super) struct Process {
    pid: u32,
    hold: OwnedFd,
}

impl Process {
    /// The process of a node, if it is still a keyval process with that node's directory.
    pub(super) fn of_node(node: &Described) -> Result<Self, String> {
        let folder = format!("--set=node.data_dir={}", node.data_dir.display());
        let is_it = |words: &[String]| words.get(1).is_some_and(|word| word == "node") && words.contains(&folder);
        let why = format!("{}: process {} is no keyval node in {}", node.name, node.pid, node.data_dir.display());
        Self::hold(node.pid, is_it).ok_or(why)
    }

    /// The `keyval local` that started a node, if it is one that starts ended nodes again when it is asked to.
    pub(super) fn of_local(node: &Described) -> Result<Self, String> {
        let why = format!("{} was not started by a `keyval local` that would start it again", node.name);
        let parent = status(node.pid, "PPid").and_then(|pid| pid.parse().ok()).ok_or_else(|| why.clone())?;
        let local =
            Self::hold(parent, |words| words.get(1).is_some_and(|word| word == "local")).ok_or_else(|| why.clone())?;
        let caught = status(parent, "SigCgt").and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or_default();
        // The system ends who does not expect this signal.
        let expects = caught & 1 << (Signal::USR1.as_raw() - 1) != 0;
        if expects { Ok(local) } else { Err(why) }
    }

    fn hold(pid: u32, is_it: impl Fn(&[String]) -> bool) -> Option<Self> {
        let hold = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        // One that was built anew meanwhile.
        let name = exe.file_name()?.to_str()?.trim_end_matches(" (deleted)");
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into()).collect();
        (name == "keyval" && is_it(&words)).then_some(Self { pid, hold })
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        pidfd_send_signal(&self.hold, signal).map_err(|error| format!("process {}: {error}", self.pid))
    }

    /// Whether it has ended and let go of its doors. Its memory goes before its sockets do.
    pub(super) fn is_gone(&self, node: &Described) -> bool {
        let exe = format!("/proc/{}/exe", self.pid);
        fs::read_link(Path::new(&exe)).is_err() && TcpStream::connect(&node.client).is_err()
    }
}

/// A field of /proc/PID/status.
fn status(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.map(|value| value.trim().to_owned())
}

/// What still has to be done if this ends before its time.
static OWED: Mutex<Option<Box<dyn Fn() + Send>>> = Mutex::new(None);

/// Something that is made good when this is dropped, and else by [`make_amends`].
pub(super) struct Amends;

impl Amends {
    /// Only one is owed at a time, since only one node is harmed at a time.
    pub(super) fn owe(act: impl Fn() + Send + 'static) -> Self {
        *OWED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
        Self
    }
}

impl Drop for Amends {
    fn drop(&mut self) {
        make_amends();
    }
}

/// Makes good what is owed: for whoever is about to end the process.
pub(super) fn make_amends() {
    let owed = OWED.lock().unwrap_or_else(PoisonError::into_inner).take();
    owed.into_iter().for_each(|act| act());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(pid: u32) -> Described {
        let door = || "127.0.0.1:1".to_owned();
        Described {
            name: "node-1".into(),
            id: String::new(),
            pid,
            client: door(),
            cluster: door(),
            console: door(),
            peer: door(),
            data_dir: "/nowhere".into(),
            log: "/nowhere.log".into(),
        }
    }

    #[test]
    fn somebody_elses_process_is_never_taken_for_a_node() {
        let me = std::process::id();
        for pid in [me, 0, u32::MAX] {
            let refused = Process::of_node(&node(pid)).err().expect("no node of ours");
            assert!(refused.contains("is no keyval node in /nowhere"), "{refused}");
            assert!(Process::of_local(&node(pid)).is_err());
        }
    }

    #[test]
    fn amends_are_made_once() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicU32, Ordering};
        let made = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&made);
        let amends = Amends::owe(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        make_amends();
        drop(amends);
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
