//! `keyval chaos`: clients work on a mesh while it is harmed, and their history is judged.
//!
//! Writers, readers and counting clients (`siege`) note all they ask and learn. Meanwhile one node after the other is killed,
//! paused, cut off or slowed down (`harm`, `target`), never two at once, and after each fault the mesh must become well again.
//! In the end every key is read once more, all are deleted, and the history is judged (`verdict`): what was lost, and whether
//! some order of all operations explains every answer. What is told of it is in `report`.
//!
//! The clients know the mesh by its doors alone, so any mesh can be judged, and none is trusted.

pub mod account;
pub mod hand;
pub mod harm;
mod process;
pub mod proxy;
mod report;
pub mod route;
pub mod siege;
mod stop;
mod target;
pub mod verdict;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::OsRng;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::output::{complain, say};
use crate::sim::clock::Time;
use harm::{Fault, Harm};
use report::{Report, Run, Struck};
use siege::{Load, Siege};
use stop::Stop;
use target::{Target, WELL, fresh_name};
use verdict::Verdict;

/// A key that nobody deletes outlives the run by so much.
const REMAINS: Duration = Duration::from_secs(600);

/// Between a fault and the next one, so that what clients notice without any is seen, too.
const CALM: Duration = Duration::from_millis(500);

/// How long a fault lasts, in milliseconds.
const SPAN_MS: std::ops::Range<u64> = 100..3_000;

const ABOUT: &str = "\
Without --dir and --at it starts a mesh of its own, behind a proxy on every link between its nodes, so that links can be cut \
and slowed as well. With --dir it harms the mesh that `keyval local` runs there: never two nodes at once, and only processes \
that nodes.json names and that are keyval nodes of that folder; `keyval local` starts again what was killed. With --at it only \
asks: some bounded load on keys of its own, which is safe beside other clients.

All keys begin with chaos:, a random word and a colon. They are deleted at the end, and end by themselves ten minutes after the \
run should have ended if they are not.

Exit code: 0 nothing speaks against the mesh; 1 something was lost or contradicts itself, a key could not be read, or the mesh \
did not become well; 2 the command line was not understood. Ctrl-C ends the run and judges it; twice, it ends at once. What was \
paused goes on in either case.";

/// What to do to which mesh, and for how long.
#[derive(Debug, Args)]
#[command(after_long_help = ABOUT)]
pub(super) struct Arguments {
    /// How long clients work and faults go on.
    #[arg(long = "for", value_name = "SPAN", default_value = "60s", value_parser = humantime::parse_duration)]
    span: Duration,
    /// Which faults; all that can be had unless given.
    #[arg(long, value_name = "FAULT,...", value_delimiter = ',')]
    faults: Option<Vec<Wanted>>,
    /// Folder of a running `keyval local`: kill and pause can be had.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["at", "nodes", "copies"])]
    dir: Option<PathBuf>,
    /// Plain door of any node of any mesh: no faults, clients only.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["nodes", "copies"])]
    at: Option<String>,
    /// How many nodes a mesh of its own has.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(3..=50))]
    nodes: u16,
    /// How many holders each range has in a mesh of its own.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=9))]
    copies: u8,
    /// Writers, each with a key of its own; for every six there is a reader, too, and a counter with two clients. 24 unless
    /// given, and 6 with --at.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: Option<u16>,
    /// Operations a second at most, of all clients. 2000 unless given, and 200 with --at.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// From which faults are drawn: which, whom, how long; drawn itself unless given.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Print nothing but the outcome, as JSON.
    #[arg(long)]
    json: bool,
    /// The clients' password, if one is set.
    #[arg(long, env = "KEYVAL__CLIENT__PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

/// A kind of faults, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// SIGKILL, and started again.
    Kill,
    /// SIGSTOP, and SIGCONT.
    Pause,
    /// Links cut, both ways or one way, or broken.
    Cut,
    /// Links that deliver late.
    Slow,
    /// No faults at all.
    None,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let faults = match arguments.faults() {
        Ok(faults) => faults,
        Err(why) => {
            complain(why);
            return ExitCode::from(2);
        }
    };
    match play(arguments, &faults) {
        Ok(report) => {
            say(if arguments.json { serde_json::to_string(&report).expect("plain data") } else { report.text() });
            if report.good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            if arguments.json {
                say(serde_json::json!({ "good": false, "error": why }));
            }
            complain(why);
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    /// Those asked for, if they can be had with this mesh.
    fn faults(&self) -> Result<Vec<Fault>, String> {
        let can_be_had: &[Wanted] = match (&self.dir, &self.at) {
            (_, Some(_)) => &[],
            (Some(_), _) => &[Wanted::Kill, Wanted::Pause],
            _ => &[Wanted::Kill, Wanted::Pause, Wanted::Cut, Wanted::Slow],
        };
        let wanted = self.faults.as_deref().unwrap_or(can_be_had);
        let faults = wanted.iter().filter(|wanted| **wanted != Wanted::None);
        if let Some(other) = faults.clone().find(|wanted| !can_be_had.contains(wanted)) {
            let why = match &self.at {
                Some(_) => "nothing is done to a mesh that is somebody else's (--at). Leave --faults away",
                None => {
                    "links can be cut and slowed by a proxy that stands between the nodes from the beginning, and nothing stands \
                     between those of --dir. Leave --dir away, and a mesh of its own is started behind one"
                }
            };
            let name = format!("{other:?}").to_lowercase();
            return Err(format!("--faults {name}: {why}"));
        }
        Ok(faults
            .map(|wanted| match wanted {
                Wanted::Kill => Fault::Kill,
                Wanted::Pause => Fault::Pause,
                Wanted::Cut => Fault::Cut,
                Wanted::Slow | Wanted::None => Fault::Slow,
            })
            .collect())
    }

    fn load(&self, prefix: String) -> Load {
        let (clients, rate) = if self.at.is_some() { (6, 200) } else { (24, 2_000) };
        let registers = usize::from(self.clients.unwrap_or(clients));
        let some = registers.div_ceil(6);
        let ttl = self.span + REMAINS;
        let mut load = Load { prefix, registers, readers: some, counters: some, pace: Duration::ZERO, ttl };
        load.pace = Duration::from_secs(load.clients() as u64) / self.rate.unwrap_or(rate);
        load
    }

    fn target(&self, name: &str, faults: &[Fault], seed: u64, stop: &Stop) -> Result<Target, String> {
        match (&self.dir, &self.at) {
            (Some(dir), _) => Target::of_dir(dir, self.password.clone(), faults, stop),
            (_, Some(at)) => Target::at(at, self.password.clone()),
            _ => {
                let folder = std::env::temp_dir().join(format!("keyval-chaos-{name}"));
                Target::own(self.nodes, self.copies, folder, seed, stop)
            }
        }
    }
}

/// What is said while it goes on: lines on the standard output, progress on a terminal's standard error.
struct Voice {
    bar: ProgressBar,
    quiet: bool,
}

impl Voice {
    fn new(arguments: &Arguments) -> Self {
        let seconds = arguments.span.as_secs();
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(seconds) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} s  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, quiet: arguments.json }
    }

    fn say(&self, line: impl std::fmt::Display) {
        if !self.quiet {
            self.bar.suspend(|| say(line));
        }
    }

    fn progress(&self, since: Instant, doing: &str) {
        self.bar.set_position(since.elapsed().as_secs());
        self.bar.set_message(doing.to_owned());
    }
}

fn play(arguments: &Arguments, faults: &[Fault]) -> Result<Report, String> {
    let stop = Stop::listen()?;
    let name = fresh_name();
    let seed = arguments.seed.unwrap_or_else(|| u64::from(OsRng.next_u32()));
    let voice = Voice::new(arguments);
    voice.bar.set_message("waiting for the mesh");
    voice.bar.tick();
    let mut target = arguments.target(&name, faults, seed, &stop)?;
    let load = arguments.load(format!("chaos:{name}"));
    let (route, remark) = target.route();
    let siege = Siege::lay(route, &load);
    voice.say(format_args!("{}; {} clients, keys {}:*, seed {seed}", target.told(), load.clients(), load.prefix));
    remark.iter().for_each(|remark| voice.say(remark));

    let mut run = Run {
        mesh: target.told(),
        keys: load.prefix,
        seed,
        lasted: Duration::ZERO,
        faults: Vec::new(),
        calm_gap: Duration::ZERO,
        trouble: None,
        interrupted: false,
    };
    let began = Instant::now();
    let mut storm =
        Storm { faults, bag: Vec::new(), random: ChaCha8Rng::seed_from_u64(seed), stop: &stop, voice: &voice };
    run.trouble = storm.rage(arguments.span, &mut target, &siege, &mut run).err();
    run.lasted = began.elapsed();
    run.interrupted = stop.is_urgent();
    voice.bar.set_message("every key is read once more");
    let account = siege.lift();
    voice.bar.finish_and_clear();
    let verdict = Verdict::of(&account);
    let report = Report::new(run, account.counts(), verdict, account.left);
    if let Some(folder) = target.folder().filter(|_| !report.good) {
        complain(format_args!("logs are in {folder}"));
    }
    target.end(report.good);
    Ok(report)
}

/// One fault after the other.
struct Storm<'a> {
    faults: &'a [Fault],
    /// What of all harms is still to come before each may come again.
    bag: Vec<Harm>,
    random: ChaCha8Rng,
    stop: &'a Stop,
    voice: &'a Voice,
}

impl Storm<'_> {
    /// Goes on for so long. The error speaks against the mesh.
    fn rage(&mut self, span: Duration, target: &mut Target, siege: &Siege, run: &mut Run) -> Result<(), String> {
        until_written_after(siege, Time(0), self.stop)?;
        let began = Instant::now();
        while began.elapsed() < span && !self.stop.is_urgent() {
            self.voice.progress(began, "");
            self.stop.wait(CALM.min(span.saturating_sub(began.elapsed())));
            if !self.faults.is_empty() && !self.stop.is_urgent() && began.elapsed() < span {
                let calm = siege.longest_since().map_or(Duration::ZERO, |(gap, _)| gap);
                run.calm_gap = run.calm_gap.max(calm);
                let struck = self.strike(target, siege, began)?;
                self.voice.say(struck.line());
                run.faults.push(struck);
            }
        }
        let calm = siege.longest_since().map_or(Duration::ZERO, |(gap, _)| gap);
        run.calm_gap = run.calm_gap.max(calm);
        Ok(())
    }

    fn strike(&mut self, target: &mut Target, siege: &Siege, began: Instant) -> Result<Struck, String> {
        if self.bag.is_empty() {
            self.bag = Harm::ALL.into_iter().filter(|harm| self.faults.contains(&harm.fault())).collect();
        }
        let harm = self.bag.swap_remove(self.random.gen_range(0..self.bag.len()));
        let nodes = target.nodes.len();
        let victim = self.random.gen_range(0..nodes);
        let other = (victim + self.random.gen_range(1..nodes.max(2))) % nodes;
        let span = Duration::from_millis(self.random.gen_range(SPAN_MS));
        let node = target.nodes[victim].name.clone();
        self.voice.progress(began, &format!("{node} {}", harm.told()));

        let (start, at) = (Instant::now(), siege.now());
        target.strike(harm, (victim, other), span, &mut self.random, self.stop)?;
        let lasted = start.elapsed();
        self.voice.progress(began, "until all is well");
        target
            .until_well(None)
            .map_err(|why| format!("{node} {} for {:.1} s: {why}", harm.told(), lasted.as_secs_f64()))?;
        let well = start.elapsed();
        // What has a gap still is written again before it is told how long that was.
        until_written_after(siege, at + lasted, self.stop)?;
        let (gap, key) = siege.longest_since().unwrap_or((Duration::ZERO, ""));
        Ok(Struck {
            at_s: at.since(Time(0)).as_secs_f64(),
            fault: harm.fault(),
            harm,
            node,
            lasted_s: lasted.as_secs_f64(),
            gap_s: gap.as_secs_f64(),
            key: key.to_owned(),
            well_after_s: well.as_secs_f64(),
        })
    }
}

/// Waits until a write of each register has been acknowledged after an instant.
fn until_written_after(siege: &Siege, at: Time, stop: &Stop) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let late = siege.unwritten_after(at);
        match late.first() {
            Some(key) if start.elapsed() > WELL => {
                let (count, seconds) = (late.len(), WELL.as_secs());
                return Err(format!("{count} keys take no writes for {seconds} s, {key} among them"));
            }
            Some(_) if stop.is_urgent() && at == Time(0) => return Ok(()),
            Some(_) => std::thread::sleep(Duration::from_millis(10)), // between looks
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        chaos: Arguments,
    }

    fn read(words: &str) -> Arguments {
        Line::parse_from(["chaos"].into_iter().chain(words.split_whitespace())).chaos
    }

    #[test]
    fn faults_are_those_that_can_be_had() {
        use Fault::{Cut, Kill, Pause, Slow};
        assert_eq!(read("").faults().unwrap(), [Kill, Pause, Cut, Slow]);
        assert_eq!(read("--faults slow,kill").faults().unwrap(), [Slow, Kill]);
        assert_eq!(read("--faults none").faults().unwrap(), []);
        assert_eq!(read("--dir d").faults().unwrap(), [Kill, Pause]);
        assert_eq!(read("--at h:1").faults().unwrap(), []);
        let why = read("--dir d --faults cut").faults().unwrap_err();
        assert!(why.starts_with("--faults cut: ") && why.contains("Leave --dir away"), "{why}");
        assert!(read("--at h:1 --faults kill").faults().unwrap_err().contains("--at"));
    }

    #[test]
    fn load_is_bounded() {
        let load = read("--at h:1").load("p".into());
        assert_eq!((load.registers, load.readers, load.counters, load.clients()), (6, 1, 1, 9));
        assert_eq!(load.pace, Duration::from_millis(45));
        let load = read("--rate 10 --clients 1 --for 5s").load("p".into());
        assert_eq!((load.clients(), load.pace, load.ttl.as_secs()), (4, Duration::from_millis(400), 605));
    }
}
