//! Who acts: the actors of a node, each a postman around a machine or a socket.
//!
//! An actor hears a message, tells its machine, and carries the effects out in order; it takes no decision of the protocol.
//! `node` is what all of them share; `supervisor` starts them and ends the process. The way of a client's command: `gateway`
//! (accepts), `session` (bytes to commands), `door` (whose is it), `store` (carries it out), and back. The way of a peer's
//! word: `reception` (who calls), `connection` (frames), `postroom` (whom it concerns). The way out: `switchboard` (which
//! connection), `outbox` (what waits), `link` (keeps it).
//!
//! Not here: what any of it means (`machines`, `commands`), and how it looks as bytes (`wire`, `resp`).

mod calling;
mod clients;
mod connection;
mod console;
mod door;
mod election;
mod exchange;
mod gateway;
#[cfg(test)]
pub(crate) mod harm;
mod heartbeat;
mod hold;
mod introductions;
mod joining;
mod link;
pub(crate) mod node;
mod orders;
mod outbox;
mod ownership;
mod post;
mod postroom;
mod reception;
mod session;
mod store;
pub(crate) mod supervisor;
pub(crate) mod surroundings;
mod switchboard;
mod telling;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use actix::{Actor, System};

use crate::io::journal::{self, Journal};
use crate::io::sockets;
use crate::io::streams::Listener;
use crate::settings::Settings;
use supervisor::{Ending, Listeners, Premises, Supervisor};
use surroundings::Surroundings;

/// Files and connections that a node needs besides its clients': to its peers, of the journal, of the runtimes.
const FILES_BESIDES: u64 = 256;

/// Runs a node until it is told to end, or must.
pub fn run(settings: Settings) -> ExitCode {
    let premises = match open(settings) {
        Ok(premises) => premises,
        Err(why) => {
            tracing::error!("cannot start: {why}");
            return ExitCode::FAILURE;
        }
    };
    end_on_panic();
    let files = sockets::allow_many();
    if files < premises.settings.client.max_clients as u64 + FILES_BESIDES {
        tracing::warn!(
            "this process may have {files} files open, too few for client.max_clients = {}; raise the limit (ulimit -n)",
            premises.settings.client.max_clients
        );
    }
    let directory = premises.settings.node.data_dir.clone();
    let system = System::new();
    system.block_on(async { drop(Supervisor::new(premises).start()) });
    match system.run_with_code().map(Ending::of_code) {
        Ok(Ending::InOrder) => ExitCode::SUCCESS,
        Ok(Ending::Left) => forget(&directory),
        Ok(Ending::ByError) => ExitCode::FAILURE,
        Ok(Ending::BeginAgain) => begin_again(),
        Err(error) => {
            tracing::error!("ends: {error}");
            ExitCode::FAILURE
        }
    }
}

/// This node is none any more: whoever starts here next, as containers are started again, is a new one.
fn forget(directory: &Path) -> ExitCode {
    match journal::forget(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}; remove it, or this node cannot join again");
            ExitCode::FAILURE
        }
    }
}

/// The same program with the same arguments takes the place of this process, under the same process id. Threads, sockets
/// and the lock of the data directory end with this life.
fn begin_again() -> ExitCode {
    let error = match std::env::current_exe() {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(error) => error,
    };
    tracing::error!("cannot begin another life, start this node again: {error}");
    ExitCode::FAILURE
}

/// A panic is a false belief: whatever thread it is on, the process ends rather than go on with what it does not understand.
/// (In release builds the compiler sees to it; this says it in the log first, and holds in all builds.)
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("ends: a belief was false: {panic}");
        std::process::abort();
    }));
}

/// What must be had before anything is done: the doors first, since a port in use says that another node runs here.
fn open(settings: Settings) -> Result<Premises, String> {
    let bind = |key: &str, address: std::net::SocketAddr| {
        let listener = sockets::listen(&address.to_string()).map_err(|error| format!("{key} = {address}: {error}"));
        listener.map(Listener::Socket)
    };
    let doors = Listeners {
        plain: bind("client.listen", settings.client.listen)?,
        cluster: bind("cluster.listen", settings.cluster.listen)?,
        peer: bind("peer.listen", settings.peer.listen)?,
        console: bind("console.listen", settings.console.listen)?,
    };
    let journal = Journal::open(&settings.node.data_dir).map_err(|error| error.to_string())?;
    Ok(Premises { settings, surroundings: Surroundings::Machine, journal, doors })
}
