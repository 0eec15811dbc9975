//! The processes of the nodes: how they are started, seen ending, and stopped.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::layout::{Described, Node};

/// The nodes that run.
pub(in crate::cli) struct Running {
    children: Vec<(Node, Child)>,
}

/// A node that has ended.
pub(in crate::cli) struct Ended {
    pub(in crate::cli) name: String,
    pub(in crate::cli) log: PathBuf,
    /// False when somebody ended it by a signal; a process that aborts does that itself.
    pub(in crate::cli) by_itself: bool,
    status: ExitStatus,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, status, log, .. } = self;
        match status.signal() {
            Some(signal) => {
                write!(f, "{name} was ended by signal {signal} and is not started again, unless SIGUSR1 asks for it")
            }
            None => write!(f, "{name} has ended ({status}); its log: {}", log.display()),
        }
    }
}

/// Starts all. When one cannot be started, those before it are killed.
pub(in crate::cli) fn start(nodes: &[Node], copies: Option<u8>) -> Result<Running, String> {
    let mut running = Running { children: Vec::new() };
    for node in nodes {
        match spawn(node, copies) {
            Ok(child) => running.children.push((node.clone(), child)),
            Err(error) => {
                running.kill();
                return Err(format!("{} cannot be started: {error}", node.name));
            }
        }
    }
    Ok(running)
}

fn spawn(node: &Node, copies: Option<u8>) -> std::io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(&node.log)?;
    Command::new(std::env::current_exe()?)
        .args(arguments(node, copies))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C in a terminal reaches every process of the group; the nodes are to hear of it from here, once.
        .process_group(0)
        .spawn()
}

/// Flags, since these overrule the environment: `KEYVAL__*` is handed down and holds for all nodes, so it must not name one.
fn arguments(node: &Node, copies: Option<u8>) -> Vec<String> {
    let mut settings = vec![
        ("node.name", node.name.clone()),
        ("node.data_dir", node.data_dir.display().to_string()),
        ("mesh.join", node.join.join(",")),
        ("mesh.found", node.found.to_string()),
    ];
    let doors = [
        ("client.listen", "client.announce", &node.client),
        ("cluster.listen", "cluster.announce", &node.cluster),
        ("console.listen", "console.announce", &node.console),
    ];
    for (listen, announce, address) in doors {
        settings.extend([(listen, address.clone()), (announce, address.clone())]);
    }
    settings.extend([("peer.listen", node.peer.clone()), ("peer.announce", node.announced.clone())]);
    settings.extend(copies.map(|copies| ("replication.factor", copies.to_string())));
    let mut arguments = vec!["node".to_owned(), format!("--parent={}", std::process::id())];
    arguments.extend(settings.into_iter().map(|(key, value)| format!("--set={key}={value}")));
    arguments
}

impl Running {
    /// Starts those of all nodes again that do not run, with the same folders and doors. Returns their names.
    pub(in crate::cli) fn start_again(&mut self, all: &[Node], copies: Option<u8>) -> Result<Vec<String>, String> {
        let runs = |node: &&Node| self.children.iter().any(|(running, _)| running.name == node.name);
        let ended: Vec<&Node> = all.iter().filter(|node| !runs(node)).collect();
        for node in &ended {
            // Whoever founded comes back to the others now.
            let others = all.iter().filter(|other| other.name != node.name).map(|other| other.announced.clone());
            let again = Node { join: others.collect(), ..(*node).clone() };
            let child = spawn(&again, copies).map_err(|error| format!("{} cannot be started: {error}", node.name))?;
            self.children.push((again, child));
        }
        Ok(ended.iter().map(|node| node.name.clone()).collect())
    }

    /// Tells nodes as nodes.json has them the numbers of their present processes.
    pub(in crate::cli) fn number(&self, nodes: &mut [Described]) {
        for node in nodes {
            let running = self.children.iter().find(|(running, _)| running.name == node.name);
            node.pid = running.map_or(node.pid, |(_, child)| child.id());
        }
    }

    /// As nodes.json has them, without ids.
    pub(in crate::cli) fn described(&self) -> Vec<Described> {
        let described = |(node, child): &(Node, Child)| Described {
            name: node.name.clone(),
            id: String::new(),
            pid: child.id(),
            client: node.client.clone(),
            cluster: node.cluster.clone(),
            console: node.console.clone(),
            peer: node.peer.clone(),
            data_dir: node.data_dir.clone(),
            log: node.log.clone(),
        };
        self.children.iter().map(described).collect()
    }

    /// Those that have ended since the last look.
    pub(in crate::cli) fn ended(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        self.children.retain_mut(|(node, child)| match child.try_wait() {
            Ok(Some(status)) => {
                let by_itself = status.signal().is_none_or(|signal| signal == Signal::ABORT.as_raw());
                ended.push(Ended { name: node.name.clone(), log: node.log.clone(), by_itself, status });
                false
            }
            _ => true,
        });
        ended
    }

    /// Whether none runs any more.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// SIGTERM to all; to one that was paused also SIGCONT, since it could not hear else.
    pub(in crate::cli) fn ask_to_end(&self) {
        for (_, child) in &self.children {
            // Not waited for yet, so the number still belongs to our child. One that has just ended needs nothing.
            let pid = Pid::from_child(child);
            let _ = kill_process(pid, Signal::TERM);
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// SIGKILL to all that still run, and waits for them.
    pub(in crate::cli) fn kill(&mut self) {
        for (_, child) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, Sources};

    #[test]
    fn a_node_is_told_all_that_is_its_own_whatever_the_environment_says() {
        let dir = tempfile::tempdir().unwrap();
        let node = super::super::layout::lay_out(3, 6234, dir.path()).unwrap().remove(1);
        let flags = arguments(&node, Some(3))
            .iter()
            .filter_map(|argument| argument.strip_prefix("--set=")?.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let environment = [
            ("KEYVAL__NODE__NAME", "x"),
            ("KEYVAL__CLIENT__ANNOUNCE", "h"),
            ("KEYVAL__MESH__FOUND", "true"),
            ("KEYVAL__REPLICATION__FACTOR", "2"),
            ("KEYVAL__FAILURE_TIMEOUT", "1s"),
        ];
        let environment = environment.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let settings = Settings::load(&Sources { file: None, environment: Some(environment), flags }).unwrap();
        assert_eq!(settings.node.name, "node-2");
        assert_eq!(settings.addresses().client, "127.0.0.1:6235");
        assert_eq!(settings.addresses().peer, "127.0.0.1:16235");
        assert_eq!((settings.mesh.found, settings.mesh.join.len()), (false, 2));
        assert_eq!((settings.replication.factor, settings.times.failure_timeout.as_secs()), (3, 1));
    }
}
