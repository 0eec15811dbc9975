//! Where a node is: what time it is there, how others are reached, on which threads its actors live, where chance comes from,
//! and what it means to end. Every actor asks its node, and none asks the operating system.
//!
//! There is one answer so far: this machine.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::thread;

use actix::{Actor, Addr, Context, System};
use actix_rt::{Arbiter, ArbiterHandle};
use rand::RngCore;
use rand::rngs::OsRng;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::actors::election::Disk;
use crate::actors::post::MAILBOX;
use crate::actors::supervisor::Ending;
use crate::io::clock;
use crate::io::streams::Stream;
use crate::types::Now;

/// Where a node is.
#[derive(Clone)]
pub enum Surroundings {
    /// On this machine, in a process of its own.
    Machine,
}

/// A thread on which actors live.
#[derive(Clone, Debug)]
pub enum Thread {
    /// One of many.
    Own(ArbiterHandle),
}

/// What tells a process to end in order.
pub enum Signals {
    /// SIGTERM and SIGINT.
    Machine {
        /// The one.
        term: Signal,
        /// The other.
        int: Signal,
    },
}

impl Surroundings {
    /// This instant.
    pub fn now(&self) -> Now {
        match self {
            Self::Machine => clock::now(),
        }
    }

    /// Bytes that nobody can foresee.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match self {
            Self::Machine => OsRng.fill_bytes(&mut bytes),
        }
        bytes
    }

    /// A seed for a machine.
    pub fn seed(&self) -> u64 {
        u64::from_le_bytes(self.random())
    }

    /// A connection to whoever listens there.
    ///
    /// # Errors
    /// When nobody does, or nobody can be reached.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        match self {
            Self::Machine => TcpStream::connect(to).await.map(Stream::Socket),
        }
    }

    /// A thread for actors.
    pub fn thread(&self) -> Thread {
        match self {
            Self::Machine => Thread::Own(Arbiter::new().handle()),
        }
    }

    /// Puts the disk to work, where it makes nobody wait.
    pub fn start_disk(&self, disk: Disk) {
        match self {
            Self::Machine => {
                let thread = thread::Builder::new().name("disk".into()).stack_size(256 * 1024);
                thread.spawn(move || disk.keep()).expect("a thread can be had when the process starts");
            }
        }
    }

    /// How many messages wait in the mailbox of an actor before more are refused.
    pub fn mailbox(&self) -> usize {
        match self {
            Self::Machine => MAILBOX,
        }
    }

    /// What will tell this node to end.
    ///
    /// # Errors
    /// When that cannot be heard.
    pub fn signals(&self) -> io::Result<Signals> {
        match self {
            Self::Machine => {
                let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
                Ok(Signals::Machine { term, int })
            }
        }
    }

    /// Ends the process, or what stands for it.
    pub fn end(&self, reason: &str, ending: Ending) {
        match self {
            Self::Machine => {
                match ending {
                    Ending::InOrder => tracing::info!("ends: {reason}"),
                    Ending::ByError => tracing::error!("ends: {reason}"),
                    Ending::BeginAgain => tracing::warn!("begins another life: {reason}"),
                }
                System::current().stop_with_code(ending.code());
            }
        }
    }
}

impl Thread {
    /// Starts an actor there.
    pub fn start<A: Actor<Context = Context<A>>>(
        &self,
        make: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
    ) -> Addr<A> {
        match self {
            Self::Own(arbiter) => A::start_in_arbiter(arbiter, make),
        }
    }

    /// Does something there that belongs to no actor.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Own(arbiter) => drop(arbiter.spawn(work)),
        }
    }
}

impl Signals {
    /// The next one, by name.
    pub async fn next(&mut self) -> &'static str {
        match self {
            Self::Machine { term, int } => tokio::select! {
                biased;
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
            },
        }
    }
}
