//! What can befall one node of a mesh, and how long it lasts. Never two nodes at once.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::proxy::{Proxy, Weather};

/// Kinds of faults, as a user chooses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// A process ends without a word (SIGKILL) and is started again.
    Kill,
    /// A process stands still for a while (SIGSTOP, SIGCONT).
    Pause,
    /// Links between nodes are cut, both ways or one way, or break.
    Cut,
    /// All that a node says and hears comes late.
    Slow,
}

/// What befalls one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// Its process is killed, and started again.
    Killed,
    /// Its process is stopped, and goes on.
    Paused,
    /// Neither says anything to the others nor hears them.
    CutOff,
    /// Hears the others, and is not heard.
    Mute,
    /// Is heard, and does not hear the others.
    Deaf,
    /// It and one other do not reach each other; the third ones reach both.
    Apart,
    /// All it says and hears comes late.
    Slow,
    /// All its connections break at once.
    Disconnected,
}

impl Harm {
    /// All there are.
    pub const ALL: [Harm; 8] =
        [Harm::Killed, Harm::Paused, Harm::CutOff, Harm::Mute, Harm::Deaf, Harm::Apart, Harm::Slow, Harm::Disconnected];

    /// Of which kind it is.
    pub fn fault(self) -> Fault {
        match self {
            Self::Killed => Fault::Kill,
            Self::Paused => Fault::Pause,
            Self::CutOff | Self::Mute | Self::Deaf | Self::Apart | Self::Disconnected => Fault::Cut,
            Self::Slow => Fault::Slow,
        }
    }

    /// For people.
    pub fn told(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Paused => "paused",
            Self::CutOff => "cut off",
            Self::Mute => "not heard",
            Self::Deaf => "hears nobody",
            Self::Apart => "cut from one",
            Self::Slow => "slow",
            Self::Disconnected => "disconnected",
        }
    }

    /// Begins what concerns the links of the node at this place, in a mesh of so many.
    pub fn begin(self, proxy: &Proxy, (victim, other): (usize, usize), nodes: usize, random: &mut ChaCha8Rng) {
        let others = || (0..nodes).filter(|node| *node != victim);
        let both = |one: usize, weather: Weather| {
            proxy.set(victim, one, weather);
            proxy.set(one, victim, weather);
        };
        let cut = Weather { cut: true, ..Weather::default() };
        match self {
            Self::CutOff => others().for_each(|one| both(one, cut)),
            Self::Mute => others().for_each(|one| proxy.set(victim, one, cut)),
            Self::Deaf => others().for_each(|one| proxy.set(one, victim, cut)),
            Self::Apart => both(other, cut),
            Self::Slow => {
                let delay = Duration::from_millis(random.gen_range(5..80));
                others().for_each(|one| both(one, Weather { cut: false, delay }));
            }
            Self::Disconnected => others().for_each(|one| proxy.break_links(victim, one)),
            Self::Killed | Self::Paused => {}
        }
    }

    /// Mends what `begin` did. Half of the time what was held arrives after all; else the connections do not outlive it.
    pub fn end(proxy: &Proxy, victim: usize, nodes: usize, random: &mut ChaCha8Rng) {
        if random.gen_bool(0.5) {
            (0..nodes).filter(|node| *node != victim).for_each(|one| proxy.break_links(victim, one));
        }
        proxy.heal();
    }
}
