//! What a seed does to a ring, one harm after the other.

use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;

use super::network::Happens;
use super::world::World;
use crate::actors::harm::{Harm, Victim};
use crate::sim::network::{Host, between};

/// How long harm lasts that ends by itself.
const SPAN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(3500));

/// How long nothing is done between two.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(2500));

/// Kinds of harm.
const KINDS: [Kind; 11] = [
    Kind::Kill,
    Kind::Panic,
    Kind::Stop,
    Kind::Stall,
    Kind::Tell,
    Kind::Pause,
    Kind::Break,
    Kind::Cut,
    Kind::OneWay,
    Kind::Slow,
    Kind::Disk,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A process ends, all its actors at once.
    Kill,
    /// An actor panics.
    Panic,
    /// An actor stops.
    Stop,
    /// An actor does nothing for a while.
    Stall,
    /// A process is told to end.
    Tell,
    /// A process does not run for a while.
    Pause,
    /// Connections break.
    Break,
    /// A place reaches nobody for a while, and nobody it.
    Cut,
    /// A place does not reach another for a while.
    OneWay,
    /// Everything to and from a place takes long for a while.
    Slow,
    /// A disk takes no writes for a while.
    Disk,
}

impl World {
    /// Harms the mesh for so long.
    ///
    /// # Errors
    /// As [`World::pass`].
    pub async fn harm(&mut self, span: Duration) -> Result<(), String> {
        let until = self.book.now() + span;
        while self.book.now() < until {
            let kind = *KINDS.choose(&mut self.random).expect("some");
            let index = self.random.gen_range(0..self.places.len());
            self.network.fold(Happens::Process, index as u64, 2 + kind as u64);
            self.befall(kind, index);
            let span = between(&mut self.random, SPAN);
            self.pass(span).await?;
            self.relieve(index);
            let rest = between(&mut self.random, REST);
            self.pass(rest).await?;
            // What it has borne so far it has borne: it has no reason to end any more.
            self.harmed[index] = false;
        }
        Ok(())
    }

    fn befall(&mut self, kind: Kind, index: usize) {
        let victim = *Victim::ALL.choose(&mut self.random).expect("some");
        let span = between(&mut self.random, SPAN);
        let other = (index + self.random.gen_range(1..self.places.len())) % self.places.len();
        let place = &mut self.places[index];
        // Where there is no process, or it has only just begun, there is no actor to be harmed.
        let begun = place.node().filter(|node| node.election().is_some());
        match (kind, begun) {
            (Kind::Kill, _) => place.kill(),
            (Kind::Panic, Some(node)) => victim.befall(&node, Harm::Panic),
            (Kind::Stop, Some(node)) => {
                self.harmed[index] = true;
                victim.befall(&node, Harm::Stop);
            }
            (Kind::Stall, Some(node)) => victim.befall(&node, Harm::Stall(span)),
            (Kind::Tell, Some(_)) => place.tell_to_end(),
            (Kind::Pause, _) => place.pause(true),
            (Kind::Break, _) => {
                let quarters = self.random.gen_range(1..=4);
                self.network.break_some(Host(index), quarters);
            }
            (Kind::Cut, _) => (0..self.places.len()).filter(|it| *it != index).for_each(|it| {
                self.network.cut(Host(index), Host(it));
                self.network.cut(Host(it), Host(index));
            }),
            (Kind::OneWay, _) => self.network.cut(Host(index), Host(other)),
            (Kind::Slow, _) => self.network.slow_down(Host(index)),
            (Kind::Disk, _) => {
                self.harmed[index] = true;
                place.disk.refuse(true);
            }
            (Kind::Panic | Kind::Stop | Kind::Stall | Kind::Tell, None) => {}
        }
    }

    /// What ends by itself is over.
    fn relieve(&mut self, index: usize) {
        self.network.mend();
        self.places[index].pause(false);
        self.places[index].disk.refuse(false);
    }
}
