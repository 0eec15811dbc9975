//! `keyval sim`: plays stories and swarms on the production machines, in a made-up world.
//!
//! `run` plays many seeds, `replay` one of them again, `shrink` looks for the least that still breaks the same rule, `story`
//! tells a file, `shell` what is typed, `trace` draws what happened.

mod run;
mod shell;
mod shrink;
mod tally;
#[cfg(feature = "planted")]
mod teeth;
mod trace;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::output;
use crate::sim::script;
use crate::sim::swarm::{Harm, Options, Outcome};
use crate::sim::trace::Keep;

/// Play the mesh in a made-up world
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to play.
    #[command(subcommand)]
    pub what: What,
}

/// What can be played.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Play what seeds decide, under all checkers; a seed that breaks a rule is shrunk, and ends it with exit code 1
    Run(run::RunArgs),
    /// Play one seed again, and tell what happened
    Replay(ReplayArgs),
    /// Look for the shortest run with the fewest nodes and faults in which a seed breaks the same rule
    Shrink(shrink::ShrinkArgs),
    /// Tell a story, and print it with what came of it
    Story(StoryArgs),
    /// Play what is typed, line by line, in the language of stories; `help` lists it
    Shell,
    /// Draw who said what to whom, in a seed or a story, as a sequence diagram
    Trace(trace::TraceArgs),
    /// List the bugs that can be planted
    #[cfg(feature = "planted")]
    Plants,
    /// Plant each bug, play seeds until it is found, and print the table; exit code 1 if one is not found
    #[cfg(feature = "planted")]
    Teeth(teeth::TeethArgs),
}

/// Arguments of `keyval sim story`.
#[derive(Debug, Args)]
pub struct StoryArgs {
    /// The story's file
    pub file: PathBuf,
    /// Replace the file's recorded output instead of printing it
    #[arg(long)]
    pub record: bool,
}

/// Arguments of `keyval sim replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Which
    pub seed: u64,
    #[command(flatten)]
    mesh: MeshArgs,
    /// Print everything that happened, every message too
    #[arg(long)]
    pub trace: bool,
}

/// What a seed is played with.
#[derive(Clone, Debug, Args)]
pub struct MeshArgs {
    /// How many simulated minutes each mesh is harmed for
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How many nodes a mesh has at first; drawn from 3 to 9 unless given
    #[arg(long)]
    nodes: Option<usize>,
    /// How many holders each range should have; drawn from 1 to 3 unless given
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    copies: Option<u8>,
    /// How many clients work at once
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// The only faults that happen, separated by commas, as kill,pause; each seed has about half of all unless given
    #[arg(long, value_delimiter = ',')]
    faults: Option<Vec<Harm>>,
    /// Plant this bug in the machines; `keyval sim plants` lists them
    #[cfg(feature = "planted")]
    #[arg(long, value_name = "NAME")]
    plant: Option<crate::planted::Bug>,
}

impl MeshArgs {
    /// What a seed is played with. A bug that is to be planted is planted from now on.
    fn options(&self, keep: Keep) -> Options {
        #[cfg(feature = "planted")]
        crate::planted::plant(self.plant);
        Options {
            harm: Duration::from_secs_f64(self.minutes * 60.0),
            nodes: self.nodes,
            copies: self.copies,
            clients: self.clients,
            faults: self.faults.clone(),
            keep,
        }
    }

    /// The same on a command line, as far as it is not as usual.
    fn words(&self) -> Vec<String> {
        let mut words = vec!["--minutes".into(), format!("{:.1}", self.minutes)];
        words.extend(["--clients".into(), self.clients.to_string()]);
        words.extend(self.nodes.iter().flat_map(|nodes| ["--nodes".into(), nodes.to_string()]));
        words.extend(self.copies.iter().flat_map(|copies| ["--copies".into(), copies.to_string()]));
        if let Some(faults) = &self.faults {
            let names: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let names = if names.is_empty() { vec![Harm::Peace.to_string()] } else { names };
            words.extend(["--faults".into(), names.join(",")]);
        }
        #[cfg(feature = "planted")]
        words.extend(self.plant.iter().flat_map(|bug| ["--plant".into(), bug.name().into()]));
        words
    }

    /// The command that plays a seed again.
    fn again(&self, seed: u64) -> String {
        format!("keyval sim replay {seed} {}", self.words().join(" "))
    }
}

/// Plays it.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.what {
        What::Run(arguments) => run::swarm(&arguments),
        What::Replay(arguments) => replay(&arguments),
        What::Shrink(arguments) => shrink::shrink(&arguments),
        What::Story(arguments) => story(&arguments),
        What::Shell => shell::run(),
        What::Trace(arguments) => trace::draw(&arguments),
        #[cfg(feature = "planted")]
        What::Plants => teeth::list(),
        #[cfg(feature = "planted")]
        What::Teeth(arguments) => teeth::bite(&arguments),
    }
}

fn story(args: &StoryArgs) -> ExitCode {
    let told = std::fs::read_to_string(&args.file).and_then(|text| script::tell(&text));
    let done = told.and_then(|told| match args.record {
        true => std::fs::write(&args.file, told),
        false => write!(std::io::stdout(), "{told}"),
    });
    done.map_or_else(|error| not_done(&args.file, &error), |()| ExitCode::SUCCESS)
}

fn not_done(file: &Path, error: &std::io::Error) -> ExitCode {
    output::complain(format_args!("{}: {error}", file.display()));
    ExitCode::FAILURE
}

fn replay(args: &ReplayArgs) -> ExitCode {
    let keep = if args.trace { Keep::All } else { Keep::Told };
    let outcome = run::play_one(args.seed, &args.mesh.options(keep), &args.mesh);
    let mut out = std::io::stdout().lock();
    let told = outcome.happenings.iter().try_for_each(|happening| writeln!(out, "{happening}"));
    let told = told.and_then(|()| writeln!(out, "{}", verdict(&outcome)));
    match (told, &outcome.violation) {
        (Ok(()), None) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What came of a seed, in two lines. The digest is of everything that happened: two runs with one digest are the same run.
fn verdict(outcome: &Outcome) -> String {
    let digest = hexadecimal(&outcome.digest);
    let came = match &outcome.violation {
        Some(violation) => format!("breaks a rule: {violation}"),
        None => "breaks no rule".into(),
    };
    let simulated = outcome.simulated.as_secs_f64();
    format!(
        "{simulated:.1} simulated seconds, {} events, digest {digest}\nseed {} {came}",
        outcome.events, outcome.seed
    )
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
