//! `keyval sim shrink`: the least that still breaks a rule.
//!
//! A run that breaks a rule after ten minutes of twenty kinds of harm tells little. So it is tried again: only as long as it
//! took, then without one kind of harm after the other, with fewer clients, with fewer nodes; whatever still breaks the same
//! rule is kept. Each try is a process of its own, since a belief that a machine finds broken may end the one it is in.

use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::MeshArgs;
use crate::cli::output;
use crate::sim::swarm::{Harm, harms};

/// Arguments of `keyval sim shrink`.
#[derive(Debug, Args)]
pub struct ShrinkArgs {
    /// Which seed
    seed: u64,
    #[command(flatten)]
    mesh: MeshArgs,
}

pub(super) fn shrink(args: &ShrinkArgs) -> ExitCode {
    match shrunk(args.seed, &args.mesh) {
        true => ExitCode::FAILURE,
        false => {
            output::say(format_args!("seed {} breaks no rule", args.seed));
            ExitCode::SUCCESS
        }
    }
}

/// Shrinks a seed and prints the smallest run. False: it breaks no rule at all.
pub(super) fn shrunk(seed: u64, mesh: &MeshArgs) -> bool {
    let Some(first) = Broken::by(seed, mesh) else { return false };
    let mut search = Search { seed, rule: first.rule.clone(), mesh: mesh.clone(), tries: 1 };
    search.shorten(&first);
    search.spare_harm();
    // What happens without it may happen sooner.
    if let Some(broken) = search.broken() {
        search.shorten(&broken);
    }
    search.spare_clients();
    search.spare_nodes();
    let Search { tries, rule, mesh, .. } = &search;
    output::say(format_args!("smallest of {tries} tries that breaks {rule}: {}", mesh.again(seed)));
    true
}

/// A rule was broken.
struct Broken {
    rule: String,
    /// When, in seconds; none where the process ended before it could tell.
    at: Option<f64>,
}

impl Broken {
    /// By this seed under these conditions, if it is.
    fn by(seed: u64, mesh: &MeshArgs) -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let mut command = Command::new(program);
        command.args(["sim", "run", "--no-shrink", "--threads", "1", "--seeds", &seed.to_string()]).args(mesh.words());
        let output = command.stdin(Stdio::null()).output().ok()?;
        if output.status.success() {
            return None;
        }
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find_map(|line| line.split_once(" breaks a rule: ")).map(|(_, line)| line)?;
        let mut words = line.split([' ', ':']);
        let first = words.next()?;
        match first.strip_suffix('s').and_then(|at| at.parse().ok()) {
            Some(at) => Some(Self { rule: words.next()?.to_owned(), at: Some(at) }),
            None => Some(Self { rule: first.to_owned(), at: None }),
        }
    }
}

/// What is tried.
struct Search {
    seed: u64,
    rule: String,
    mesh: MeshArgs,
    tries: usize,
}

impl Search {
    fn broken(&mut self) -> Option<Broken> {
        self.tries += 1;
        Broken::by(self.seed, &self.mesh).filter(|broken| broken.rule == self.rule)
    }

    /// Keeps what `change` makes of the mesh if it still breaks the rule.
    fn attempt(&mut self, change: impl FnOnce(&mut MeshArgs)) -> bool {
        let before = self.mesh.clone();
        change(&mut self.mesh);
        let holds = self.broken().is_some();
        if !holds {
            self.mesh = before;
        }
        holds
    }

    /// No longer than until it broke.
    fn shorten(&mut self, broken: &Broken) {
        if let Some(minutes) = broken.at.map(|at| (at / 6.0).ceil() / 10.0).filter(|at| *at < self.mesh.minutes) {
            self.attempt(|mesh| mesh.minutes = minutes);
        }
        while self.mesh.minutes > 0.2 && self.attempt(|mesh| mesh.minutes = (mesh.minutes * 5.0).floor() / 10.0) {}
    }

    fn spare_harm(&mut self) {
        let mut known: Vec<Harm> = self.mesh.faults.clone().unwrap_or_else(|| harms().collect());
        let mut place = 0;
        while place < known.len() {
            let spared: Vec<Harm> = known.iter().copied().filter(|harm| *harm != known[place]).collect();
            if self.attempt(|mesh| mesh.faults = Some(spared.clone())) { known = spared } else { place += 1 }
        }
    }

    fn spare_clients(&mut self) {
        while self.mesh.clients > 1 && self.attempt(|mesh| mesh.clients -= 1) {}
    }

    fn spare_nodes(&mut self) {
        let most = self.mesh.nodes.unwrap_or(7);
        for nodes in 1..most {
            if self.attempt(|mesh| mesh.nodes = Some(nodes)) {
                return;
            }
        }
    }
}
