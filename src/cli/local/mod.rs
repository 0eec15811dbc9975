//! `keyval local`: a mesh of several nodes on this machine, each a process of its own.
//!
//! Starts them, waits until all are on the roster and every range is served, says `mesh ready`, and waits for Ctrl-C or SIGTERM
//! to stop them. It looks after nobody: a node that is killed stays dead, so that people and tests can see what the mesh makes
//! of it, until SIGUSR1 asks for all that have ended to be started again; when none is left, this ends too. A folder that was
//! used before holds the same mesh, which goes on.

pub(super) mod layout;
pub(super) mod nodes;
pub(super) mod ready;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::output::{complain, say};
use layout::{Described, lay_out};
use nodes::{Ended, Running};
use ready::News;

/// How long nodes may take to hand over before they are killed; longer than `node.grace` at its default.
const GRACE: Duration = Duration::from_secs(10);

/// How often it is looked whether a child has ended.
const LOOK: Duration = Duration::from_millis(50);

const ABOUT: &str = "\
A node that is killed stays dead, so that one can see what the mesh makes of it. SIGUSR1 starts all that have ended again, in their \
folders and with their doors. Ctrl-C and SIGTERM stop all.";

/// Which mesh.
#[derive(Debug, Args)]
#[command(after_long_help = ABOUT)]
pub(super) struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=500))]
    nodes: u16,
    /// How many holders each range should have (replication.factor).
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    copies: Option<u8>,
    /// Plain door of the first node; the next nodes have the next ports. Cluster doors are 1000 above, consoles 2000, peer
    /// doors 10000.
    #[arg(long, default_value_t = 6234, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Folder for data directories, logs and nodes.json.
    #[arg(long, default_value = "./keyval-local")]
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    // One thread: the children are tied to the one that starts them, and it must not end before the process does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ran =
        runtime.map_err(|error| format!("cannot start: {error}")).and_then(|runtime| runtime.block_on(play(arguments)));
    match ran {
        Ok(code) => code,
        Err(why) => {
            complain(why);
            ExitCode::FAILURE
        }
    }
}

async fn play(arguments: &Arguments) -> Result<ExitCode, String> {
    let nodes = lay_out(arguments.nodes, arguments.port, &arguments.dir)?;
    let mut stop = Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let mut wanted_back =
        signal(SignalKind::user_defined1()).map_err(|error| format!("cannot wait for signals: {error}"))?;
    let mut running = nodes::start(&nodes, arguments.copies)?;
    let (tell, mut news) = mpsc::unbounded_channel();
    ready::watch(running.described(), tell);
    let mut is_ready = false;
    let mut known: Vec<Described> = Vec::new();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = stop.asked() => break,
            _ = look.tick() => {
                for ended in running.ended() {
                    say(&ended);
                    if !is_ready && ended.by_itself {
                        finish(running, &mut stop).await;
                        return Err(format!("{} could not be started; its last words: {}", ended.name, last_words(&ended)));
                    }
                }
                if running.is_empty() {
                    return Err("every node has ended".to_owned());
                }
            }
            _ = wanted_back.recv() => {
                running.ended().iter().for_each(say);
                for name in running.start_again(&nodes, arguments.copies)? {
                    say(format_args!("{name} is started again"));
                }
                tell_where(&arguments.dir, &running, &mut known)?;
            }
            Some(heard) = news.recv() => match heard {
                News::Known(described) => {
                    known = described;
                    tell_where(&arguments.dir, &running, &mut known)?;
                    say(layout::table_of(&known));
                }
                News::Ready => {
                    is_ready = true;
                    say("mesh ready");
                }
                News::Late(why) => complain(format_args!("not ready yet: {why}; logs are in {}", arguments.dir.display())),
            },
        }
    }
    finish(running, &mut stop).await;
    Ok(ExitCode::SUCCESS)
}

/// Writes nodes.json, once there is something to write.
fn tell_where(dir: &Path, running: &Running, known: &mut [Described]) -> Result<(), String> {
    running.number(known);
    if known.is_empty() { Ok(()) } else { layout::write(dir, known) }
}

/// Asks all to end, and kills who has not when the time is over, or when asked a second time.
async fn finish(mut running: Running, stop: &mut Signals) {
    running.ask_to_end();
    let deadline = Instant::now() + GRACE;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = stop.asked() => break,
            () = tokio::time::sleep_until(deadline) => break,
            _ = look.tick() => {
                running.ended();
                if running.is_empty() {
                    return;
                }
            }
        }
    }
    running.kill();
}

fn last_words(ended: &Ended) -> String {
    let text = std::fs::read_to_string(&ended.log).unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("none").trim().to_owned();
    format!("{last} ({})", ended.log.display())
}

/// The signals that end this.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
