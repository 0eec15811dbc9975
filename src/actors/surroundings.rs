//! Where a node is: what time it is there, how others are reached, on which threads its actors live, where chance comes from,
//! and what it means to end. Every actor asks its node, and none asks the operating system.
//!
//! A build that anybody runs knows one answer: this machine. In tests a node may also live beside others on one thread, where
//! somebody else decides all of that (`ring`): then a seed decides what happens to real actors, too.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
#[cfg(test)]
use std::pin::Pin;
#[cfg(test)]
use std::sync::Arc;
use std::thread;
#[cfg(test)]
use std::time::Duration;

use actix::{Actor, Addr, Context, System};
use actix_rt::{Arbiter, ArbiterHandle};
use rand::RngCore;
use rand::rngs::OsRng;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(test)]
use tokio::sync::Notify;

use crate::actors::election::Disk;
#[cfg(test)]
use crate::actors::node::Node;
use crate::actors::post::MAILBOX;
use crate::actors::supervisor::Ending;
use crate::io::clock;
use crate::io::streams::Stream;
use crate::messages::peer::PROTOCOL;
use crate::types::Now;

/// Where a node is.
#[derive(Clone)]
pub enum Surroundings {
    /// On this machine, in a process of its own.
    Machine,
    /// Beside others on one thread.
    #[cfg(test)]
    MadeUp(Arc<dyn MadeUp>),
}

/// What somebody else decides for a node that lives beside others on one thread.
#[cfg(test)]
pub trait MadeUp: Send + Sync {
    /// What time it is.
    fn now(&self) -> Now;
    /// Chance.
    fn fill(&self, bytes: &mut [u8]);
    /// A connection to whoever listens there.
    fn connect(&self, to: SocketAddr) -> Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;
    /// How long the disk takes to make a write stable.
    fn sync_takes(&self) -> Duration;
    /// How many messages wait in the mailbox of an actor.
    fn mailbox(&self) -> usize;
    /// Oldest and newest version of the peer protocol that its build speaks.
    fn versions(&self) -> (u16, u16);
    /// Notified when this node is told to end.
    fn told_to_end(&self) -> Arc<Notify>;
    /// Here is the node, with all its actors.
    fn began(&self, node: &Arc<Node>);
    /// It ends.
    fn ends(&self, reason: &str, ending: Ending);
}

/// A thread on which actors live.
#[derive(Clone, Debug)]
pub enum Thread {
    /// One of many.
    Own(ArbiterHandle),
    /// The only one.
    #[cfg(test)]
    This,
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
    /// Whoever decides.
    #[cfg(test)]
    MadeUp(Arc<Notify>),
}

impl Surroundings {
    /// This instant.
    pub fn now(&self) -> Now {
        match self {
            Self::Machine => clock::now(),
            #[cfg(test)]
            Self::MadeUp(made_up) => made_up.now(),
        }
    }

    /// Bytes that nobody can foresee.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match self {
            Self::Machine => OsRng.fill_bytes(&mut bytes),
            #[cfg(test)]
            Self::MadeUp(made_up) => made_up.fill(&mut bytes),
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
            #[cfg(test)]
            Self::MadeUp(made_up) => made_up.connect(to).await,
        }
    }

    /// A thread for actors.
    pub fn thread(&self) -> Thread {
        match self {
            Self::Machine => Thread::Own(Arbiter::new().handle()),
            #[cfg(test)]
            Self::MadeUp(_) => Thread::This,
        }
    }

    /// Puts the disk to work, where it makes nobody wait.
    pub fn start_disk(&self, disk: Disk) {
        match self {
            Self::Machine => {
                let thread = thread::Builder::new().name("disk".into()).stack_size(256 * 1024);
                thread.spawn(move || disk.keep()).expect("a thread can be had when the process starts");
            }
            #[cfg(test)]
            Self::MadeUp(made_up) => drop(actix_rt::spawn(disk.keep_beside(made_up.clone()))),
        }
    }

    /// How many messages wait in the mailbox of an actor before more are refused.
    pub fn mailbox(&self) -> usize {
        match self {
            Self::Machine => MAILBOX,
            #[cfg(test)]
            Self::MadeUp(made_up) => made_up.mailbox(),
        }
    }

    /// Oldest and newest version of the peer protocol that this build speaks.
    pub fn versions(&self) -> (u16, u16) {
        match self {
            Self::Machine => PROTOCOL,
            #[cfg(test)]
            Self::MadeUp(made_up) => made_up.versions(),
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
            #[cfg(test)]
            Self::MadeUp(made_up) => Ok(Signals::MadeUp(made_up.told_to_end())),
        }
    }

    /// Whoever decides is shown the node that has begun.
    #[cfg(test)]
    pub fn began(&self, node: &Arc<Node>) {
        if let Self::MadeUp(made_up) = self {
            made_up.began(node);
        }
    }

    /// Ends the process, or what stands for it.
    pub fn end(&self, reason: &str, ending: Ending) {
        match self {
            Self::Machine => {
                match ending {
                    Ending::InOrder => tracing::info!("ends: {reason}"),
                    Ending::Left => tracing::info!("has left the mesh: {reason}"),
                    Ending::ByError => tracing::error!("ends: {reason}"),
                    Ending::BeginAgain => tracing::warn!("begins another life: {reason}"),
                }
                System::current().stop_with_code(ending.code());
            }
            #[cfg(test)]
            Self::MadeUp(made_up) => made_up.ends(reason, ending),
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
            #[cfg(test)]
            Self::This => A::create(make),
        }
    }

    /// Does something there that belongs to no actor.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Own(arbiter) => drop(arbiter.spawn(work)),
            #[cfg(test)]
            Self::This => drop(actix_rt::spawn(work)),
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
            #[cfg(test)]
            Self::MadeUp(told) => {
                told.notified().await;
                "SIGTERM"
            }
        }
    }
}
