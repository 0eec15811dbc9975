//! `keyval sim plants` and `keyval sim teeth`: which bugs can be planted, and how many seeds it takes to find each.
//!
//! A bug counts as found when a seed breaks a rule with it, and the same seed played again breaks the same rule in the same
//! way, after the same run: by the digest of all that happened.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::run::{play_many, seeds};
use crate::planted::{Bug, plant};
use crate::sim::swarm::{Options, play};

/// Arguments of `keyval sim teeth`.
#[derive(Debug, Args)]
pub struct TeethArgs {
    /// Which bugs; all unless given
    pub bugs: Vec<Bug>,
    /// Which seeds are played at most, in order: the first, and the one after the last
    #[arg(long, value_parser = seeds, default_value = "1..301")]
    pub seeds: (u64, u64),
    /// How many simulated minutes each mesh is harmed for
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// How many seeds are played at once; one for each core unless given
    #[arg(long)]
    pub threads: Option<usize>,
}

/// Lists the bugs.
pub fn list() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let told = Bug::ALL.iter().try_for_each(|bug| writeln!(out, "{:20} {}", bug.name(), bug.wrong()));
    told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Plays each bug until it is found.
pub fn bite(args: &TeethArgs) -> ExitCode {
    if cfg!(panic = "abort") {
        eprintln!(
            "in this build a false belief ends the process; `make teeth` makes one in which it is told like any other rule"
        );
        return ExitCode::FAILURE;
    }
    // What a machine believed is told in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let bugs = if args.bugs.is_empty() { Bug::ALL } else { &args.bugs };
    let found = table(bugs, args, &mut std::io::stdout());
    match found {
        Ok(true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Prints a row for each bug. Whether all were found.
fn table(bugs: &[Bug], args: &TeethArgs, out: &mut impl Write) -> std::io::Result<bool> {
    let mut all = true;
    writeln!(out, "| bug | what is wrong | seeds until found | by | took |\n|---|---|---|---|---|")?;
    for bug in bugs {
        let began = Instant::now();
        let row = hunt(*bug, args);
        all &= row.is_ok();
        let row = row.unwrap_or_else(|why| format!("{why} |"));
        let took = began.elapsed().as_secs_f64();
        writeln!(out, "| {} | {} | {row} | {took:.0} s |", bug.name(), bug.wrong())?;
        out.flush()?;
    }
    Ok(all)
}

/// Plays seeds with a bug until one breaks a rule, and that one again. How many it took, and which rule; or what is amiss.
fn hunt(bug: Bug, args: &TeethArgs) -> Result<String, String> {
    let options = Options { harm: Duration::from_secs_f64(args.minutes * 60.0), ..Options::default() };
    plant(Some(bug));
    let total = play_many(args.seeds, args.threads, &options);
    let broken = total.broken.ok_or_else(|| format!("not in {}", total.counts.seeds))?;
    let again = play(broken.seed, &options);
    let violation = broken.violation.ok_or("a seed breaks no rule")?;
    eprintln!("{}: seed {} breaks a rule: {violation}", bug.name(), broken.seed);
    if again.violation.as_ref() != Some(&violation) || again.digest != broken.digest {
        return Err(format!("seed {} is not the same twice", broken.seed));
    }
    Ok(format!("{} | {}", total.counts.seeds, violation.checker))
}
