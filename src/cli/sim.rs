//! `keyval sim`: plays stories and swarms on the production machines, in a made-up world.
//!
//! A run of many seeds is played by as many threads as there are cores, and told in the order of the seeds, so that what it
//! prints does not depend on the machine, but for the time it took.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::sim::script;
use crate::sim::swarm::{Options, Outcome, play as play_seed};

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
    /// Tell a story, and print it with what came of it
    Story(StoryArgs),
    /// Play what seeds decide, under all checkers; a seed that breaks a rule ends it with exit code 1
    Run(RunArgs),
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

/// Arguments of `keyval sim run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Which seeds: the first, and the one after the last, as 1..1001; or one seed
    #[arg(long, value_parser = seeds)]
    pub seeds: (u64, u64),
    /// How many simulated minutes each mesh is harmed for
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// How many nodes a mesh has at first; drawn from 3 to 7 unless given
    #[arg(long)]
    pub nodes: Option<usize>,
    /// How many holders each range should have; drawn from 1 to 3 unless given
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub copies: Option<u8>,
    /// How many clients work at once
    #[arg(long, default_value_t = 4)]
    pub clients: usize,
    /// How many seeds are played at once; one for each core unless given
    #[arg(long)]
    pub threads: Option<usize>,
    /// Print what happened, line by line
    #[arg(long)]
    pub lines: bool,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("{text:?} is no seed"));
    match text.split_once("..") {
        Some((first, end)) => Ok((number(first)?, number(end)?)),
        None => number(text).map(|seed| (seed, seed + 1)),
    }
}

/// Plays it.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.what {
        What::Story(arguments) => story(&arguments),
        What::Run(arguments) => swarm(&arguments),
    }
}

fn story(args: &StoryArgs) -> ExitCode {
    let told = std::fs::read_to_string(&args.file).and_then(|text| script::tell(&text));
    let done = told.and_then(|told| match args.record {
        true => std::fs::write(&args.file, told),
        false => write!(std::io::stdout(), "{told}"),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", args.file.display());
            ExitCode::FAILURE
        }
    }
}

thread_local! {
    /// What this thread plays, for the panic of a machine that believed something false.
    static PLAYING: Cell<Option<u64>> = const { Cell::new(None) };
}

fn swarm(args: &RunArgs) -> ExitCode {
    say_seed_on_panic(args);
    let options = Options {
        harm: Duration::from_secs_f64(args.minutes * 60.0),
        nodes: args.nodes,
        copies: args.copies,
        clients: args.clients,
        lines: args.lines,
    };
    let (first, end) = args.seeds;
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let began = Instant::now();
    let (sender, receiver) = channel();
    let next = AtomicU64::new(first);
    let stop = AtomicU64::new(end);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || play(next, stop, &options, &sender));
        }
        drop(sender);
        let total = in_order(&receiver, first, end, &stop);
        total.tell(began, args)
    })
}

fn play(next: &AtomicU64, stop: &AtomicU64, options: &Options, sender: &Sender<Outcome>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= stop.load(Ordering::Relaxed) {
            return;
        }
        PLAYING.set(Some(seed));
        let outcome = play_seed(seed, options);
        PLAYING.set(None);
        if sender.send(outcome).is_err() {
            return;
        }
    }
}

/// What all seeds came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    simulated: Duration,
    events: u64,
    operations: (u64, u64),
    faults: BTreeMap<&'static str, u64>,
    digest: Sha256,
    broken: Option<Outcome>,
    lines: Vec<String>,
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
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.events += outcome.events;
        self.operations.0 += outcome.operations.0;
        self.operations.1 += outcome.operations.1;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.digest.update(outcome.digest);
        self.lines.extend(outcome.lines.iter().cloned());
        if outcome.violation.is_some() {
            self.broken = Some(outcome);
        }
    }

    fn tell(self, began: Instant, args: &RunArgs) -> ExitCode {
        let mut out = std::io::stdout().lock();
        self.print(&mut out, began, args).map_or(ExitCode::FAILURE, |()| match self.broken {
            Some(_) => ExitCode::FAILURE,
            None => ExitCode::SUCCESS,
        })
    }

    fn print(&self, out: &mut impl Write, began: Instant, args: &RunArgs) -> std::io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        let simulated = self.simulated.as_secs_f64();
        let took = began.elapsed().as_secs_f64();
        writeln!(
            out,
            "{} seeds, {:.1} simulated hours in {took:.1} s: {:.0} times as fast as time",
            self.seeds,
            simulated / 3600.0,
            simulated / took
        )?;
        writeln!(
            out,
            "{} events; clients had {} operations answered, {} not",
            self.events, self.operations.0, self.operations.1
        )?;
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(out, "faults: {}", faults.join(", "))?;
        let digest: String = self.digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "digest {digest}")?;
        if let Some(Outcome { seed, violation: Some(violation), .. }) = &self.broken {
            writeln!(out, "seed {seed} breaks a rule: {violation}")?;
            writeln!(out, "play it again: {}", again(*seed, args))?;
        }
        Ok(())
    }
}

fn again(seed: u64, args: &RunArgs) -> String {
    let nodes = args.nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
    let copies = args.copies.map(|copies| format!(" --copies {copies}")).unwrap_or_default();
    format!(
        "keyval sim run --seeds {seed} --minutes {} --clients {}{nodes}{copies} --lines",
        args.minutes, args.clients
    )
}

/// Where a panic ends the process, somebody has to say which seed it was.
fn say_seed_on_panic(args: &RunArgs) {
    let lines: BTreeMap<&str, String> = BTreeMap::from([("again", again(0, args))]);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(seed) = PLAYING.get() {
            let again = lines["again"].replace("--seeds 0 ", &format!("--seeds {seed} "));
            eprintln!("seed {seed} breaks a belief of a machine; play it again: {again}");
        }
        usual(panic);
    }));
}
