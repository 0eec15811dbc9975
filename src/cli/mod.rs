//! One binary, one file a subcommand: `node` is a node of a mesh, `local` a whole mesh on this machine, `ctl` asks and orders
//! a running one, `sim` plays made-up ones, `chaos` judges real ones.
//!
//! What a person reads goes to the standard output; what went wrong is said on the standard error, in one line that begins
//! with the program's name. Codes: 0 all is well, 1 something is wrong or could not be done, 2 the command line was not
//! understood.

pub mod chaos;
pub mod client;
mod ctl;
mod local;
mod node;
mod output;
mod parent;
pub mod sim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An in-memory key-value mesh.
#[derive(Debug, Parser)]
#[command(name = "keyval", version, propagate_version = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node of a mesh.
    Node(node::Arguments),
    /// Run a mesh of several nodes on this machine.
    Local(local::Arguments),
    /// Ask a running mesh how it is, or order it to do something.
    Ctl(ctl::Arguments),
    /// Play a mesh in a made-up world.
    Sim(sim::Arguments),
    /// Harm a real mesh while clients work on it, and judge what they were told.
    Chaos(chaos::Arguments),
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Node(arguments) => node::run(&arguments),
        Command::Local(arguments) => local::run(&arguments),
        Command::Ctl(arguments) => ctl::run(&arguments),
        Command::Sim(arguments) => sim::run(arguments),
        Command::Chaos(arguments) => chaos::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_are_understood_as_documented() {
        for line in [
            "node",
            "node --config my.toml --set node.name=a --set failure_timeout=1s",
            "node --data-dir d --client 127.0.0.1:1 --cluster :2 --console :3 --peer :4 --join a:1,b:2 --join c",
            "local",
            "local --nodes 5 --copies 2 --port 7000 --dir d",
            "ctl status",
            "ctl --at 127.0.0.1:6235 --json status",
            "ctl --at 127.0.0.1:6235 explain node-1 --json",
            "ctl nodes",
            "ctl map",
            "ctl locate key",
            "ctl explain range:12",
            "ctl step-down",
            "ctl step-down --to node-2",
            "ctl drop node-2",
            "ctl watch",
            "ctl health",
            "chaos",
            "chaos --for 5m --faults kill,pause,cut,slow --nodes 3 --copies 3 --seed 7 --json",
            "chaos --dir d --faults kill",
            "chaos --at 127.0.0.1:6235 --clients 3 --rate 50",
        ] {
            let words = std::iter::once("keyval").chain(line.split(' '));
            Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "ctl drop",
            "ctl conquer",
            "node --set nothing",
            "local --nodes 0",
            "local --port x",
            "chaos --dir d --at h:1",
        ] {
            let words = std::iter::once("keyval").chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_err(), "{line}");
        }
    }
}
