//! `keyval sim run`: many seeds.
//!
//! They are played by as many threads as there are cores, and told in the order of the seeds, so that what is printed does not
//! depend on the machine; how long it took is said on the standard error.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::shrink::shrunk;
use super::tally::{Counts, Tally};
use super::{MeshArgs, hexadecimal};
use crate::cli::output;
use crate::sim::swarm::{Options, Outcome, play};
use crate::sim::trace::Keep;

/// Arguments of `keyval sim run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Which seeds: the first, and the one after the last, as 1..1001; or one seed
    #[arg(long, value_parser = seeds)]
    seeds: (u64, u64),
    #[command(flatten)]
    mesh: MeshArgs,
    /// How many seeds are played at once; one for each core unless given
    #[arg(long)]
    threads: Option<usize>,
    /// Do not look for a smaller run in which a seed breaks the same rule
    #[arg(long)]
    no_shrink: bool,
    /// Add what came of it to this file, which sums up runs of one commit, and print the sum
    #[arg(long, value_name = "FILE")]
    tally: Option<PathBuf>,
}

pub(super) fn seeds(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("{text:?} is no seed"));
    match text.split_once("..") {
        Some((first, end)) => Ok((number(first)?, number(end)?)),
        None => number(text).map(|seed| (seed, seed + 1)),
    }
}

thread_local! {
    /// What this thread plays, for the panic of a machine that believed something false.
    static PLAYING: Cell<Option<u64>> = const { Cell::new(None) };
}

pub(super) fn swarm(args: &RunArgs) -> ExitCode {
    say_seed_on_panic(&args.mesh);
    let options = args.mesh.options(Keep::Nothing);
    let opened =
        args.tally.as_deref().map(|path| Ok((path, Tally::open(path, &args.mesh.words().join(" "), args.seeds)?)));
    let tally = match opened.transpose() {
        Ok(tally) => tally,
        Err::<_, String>(why) => {
            output::complain(format_args!("nothing can be added to the tally: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let began = Instant::now();
    let total = play_many(args.seeds, args.threads, &options);
    total.tell(began.elapsed(), args, tally)
}

/// Plays seeds, on all cores unless told otherwise, until one breaks a rule.
pub(super) fn play_many((first, end): (u64, u64), threads: Option<usize>, options: &Options) -> Total {
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (sender, receiver) = channel();
    let next = AtomicU64::new(first);
    let stop = AtomicU64::new(end);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || play_all(next, stop, options, &sender));
        }
        drop(sender);
        in_order(&receiver, first, end, &stop)
    })
}

/// Plays one seed; should a machine believe something false where panics are not caught, it is said which seed it was.
pub(super) fn play_one(seed: u64, options: &Options, mesh: &MeshArgs) -> Outcome {
    say_seed_on_panic(mesh);
    PLAYING.set(Some(seed));
    let outcome = play(seed, options);
    PLAYING.set(None);
    outcome
}

fn play_all(next: &AtomicU64, stop: &AtomicU64, options: &Options, sender: &Sender<Outcome>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= stop.load(Ordering::Relaxed) {
            return;
        }
        PLAYING.set(Some(seed));
        let outcome = play(seed, options);
        PLAYING.set(None);
        if sender.send(outcome).is_err() {
            return;
        }
    }
}

/// What all seeds came to.
#[derive(Default)]
pub(super) struct Total {
    pub counts: Counts,
    pub digest: Sha256,
    pub broken: Option<Outcome>,
}

/// Takes outcomes in the order of seeds, whatever the order in which they are ready; ends at the first broken rule.
fn in_order(receiver: &Receiver<Outcome>, first: u64, end: u64, stop: &AtomicU64) -> Total {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(end - first) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut total = Total::default();
    let mut ready: BTreeMap<u64, Outcome> = BTreeMap::new();
    let mut seed = first;
    while let Ok(outcome) = receiver.recv() {
        ready.insert(outcome.seed, outcome);
        while let Some(outcome) = ready.remove(&seed) {
            seed += 1;
            bar.inc(1);
            total.add(outcome);
            if total.broken.is_some() {
                stop.store(0, Ordering::Relaxed);
                bar.finish_and_clear();
                return total;
            }
        }
    }
    bar.finish_and_clear();
    total
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.counts.add(&Counts {
            seeds: 1,
            simulated: outcome.simulated,
            events: outcome.events,
            operations: outcome.operations,
            unfinished: outcome.unfinished,
            faults: outcome.faults.iter().map(|(kind, count)| ((*kind).to_string(), *count)).collect(),
        });
        self.digest.update(outcome.digest);
        if outcome.violation.is_some() {
            self.broken = Some(outcome);
        }
    }

    /// Of all that happened.
    pub fn digest(&self) -> String {
        hexadecimal(&self.digest.clone().finalize())
    }

    fn tell(self, took: Duration, args: &RunArgs, tally: Option<(&Path, Tally)>) -> ExitCode {
        let told = self.print(tally, &mut std::io::stdout().lock());
        let (simulated, took) = (self.counts.simulated.as_secs_f64(), took.as_secs_f64());
        eprintln!("took {took:.1} s: {:.0} times as fast as time", simulated / took);
        if let Err(error) = &told {
            output::complain(format_args!("not told, or not added to the tally: {error}"));
        }
        let Some(Outcome { seed, violation: Some(violation), .. }) = &self.broken else {
            return told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
        };
        output::say(format_args!("seed {seed} breaks a rule: {violation}\nplay it again: {}", args.mesh.again(*seed)));
        if !args.no_shrink {
            shrunk(*seed, &args.mesh);
        }
        ExitCode::FAILURE
    }

    fn print(&self, tally: Option<(&Path, Tally)>, out: &mut impl Write) -> std::io::Result<()> {
        // Kept first: whoever reads this may have gone.
        let tally = match tally {
            Some((path, mut tally)) => {
                tally.add(path, self)?;
                Some(tally)
            }
            None => None,
        };
        print_counts(&self.counts, out)?;
        writeln!(out, "digest {}", self.digest())?;
        tally.map_or(Ok(()), |tally| tally.print(out))
    }
}

/// Tells what happened in worlds.
pub(super) fn print_counts(counts: &Counts, out: &mut impl Write) -> std::io::Result<()> {
    let (answered, unanswered) = counts.operations;
    writeln!(out, "{} seeds, {:.1} simulated hours", counts.seeds, counts.simulated.as_secs_f64() / 3600.0)?;
    writeln!(out, "{} events; clients had {answered} operations answered, {unanswered} not", counts.events)?;
    if counts.unfinished > 0 {
        writeln!(out, "{} histories of objects were too wide to be judged", counts.unfinished)?;
    }
    let faults: Vec<String> = counts.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    writeln!(out, "faults: {}", faults.join(", "))
}

/// Where a panic ends the process, somebody has to say which seed it was.
fn say_seed_on_panic(mesh: &MeshArgs) {
    let mesh = mesh.clone();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(seed) = PLAYING.get() {
            eprintln!("seed {seed} breaks a rule: beliefs: {panic}\nplay it again: {}", mesh.again(seed));
            let smaller = mesh.again(seed).replacen("replay", "shrink", 1);
            eprintln!("look for a smaller run: {smaller}");
        }
        usual(panic);
    }));
}
