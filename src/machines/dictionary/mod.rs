//! The dictionary: which drones hold which range, and who is on the roster; changed by committed commands only.
//!
//! Every node applies the same commands in the same order ([`Dictionary::apply`]) and so has the same dictionary at each
//! version. Applying is total: a command that does not fit what it meets has no effect and says why
//! ([`Applied::Nothing`]). That is how a proposal of a commander that has been deposed since, or a plan computed from an
//! older chain, does no harm, whoever proposed it. After the configuration manager of PacificA (Microsoft, 2008).
//!
//! `roster` holds the rules about nodes, `chains` those about who may follow whom in a chain (the guards G1, G2, G5, G18,
//! G19, G22 and G23, as far as agreed state can tell), `settings` the mesh-wide settings, `form` the compact encoding.
//! Not here: what should be changed and when (`ownership`), and where things should lie (`placement`).

mod chains;
mod form;
mod roster;
mod settings;
#[cfg(test)]
mod tests;

pub use roster::{may_assign, part_words};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::messages::events::{Event, EventKind};
use crate::messages::ownership::{
    Applied, Candidate, Cause, Chain, Command, Holder, HolderState, Member, MeshSettings, Pause, Role, Standing,
};
use crate::types::{Epoch, Generation, Incarnation, MeshId, NodeId, RangeId, Term, Version};

/// The agreed state. Every node applies the same commands in the same order and so has the same one at each version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "form::Form", try_from = "form::Form")]
pub struct Dictionary {
    /// Whose.
    pub mesh: MeshId,
    /// How often it has changed.
    pub version: Version,
    /// What all nodes agree on.
    pub settings: MeshSettings,
    /// The nodes.
    pub roster: BTreeMap<NodeId, Member>,
    /// Range by range.
    pub chains: Vec<Arc<Chain>>,
    /// Clients' writes are paused, since when and by whom.
    pub paused: Option<Pause>,
    /// Nodes that were removed: never admitted again under the same id. The latest thousand are remembered.
    pub gone: BTreeMap<NodeId, Gone>,
    /// Follows from `chains`; kept with each change so that nobody has to count.
    counts: Counts,
}

/// A node that was removed from the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The last life known of it.
    pub incarnation: Incarnation,
    /// The version that removed it.
    pub version: Version,
}

/// How many ranges a node has, in one life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ranges it heads.
    pub headed: usize,
    /// Ranges it holds as a member that serves; those it heads are among them.
    pub held: usize,
    /// Ranges it is loading.
    pub loading: usize,
}

/// What is known of all chains without looking at them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// By node and life. Never an empty tally.
    tallies: BTreeMap<(NodeId, Incarnation), Tally>,
    /// How many ranges have so many members that serve. Never a zero.
    copies: BTreeMap<usize, usize>,
}

impl Dictionary {
    /// The dictionary of a new mesh: the founder alone, holding everything.
    ///
    /// # Panics
    /// When the founder is no drone, or the settings' number of ranges is no power of two from 16 to 16,384: settings are
    /// checked before they come here.
    pub fn found(mesh: MeshId, settings: MeshSettings, founder: Candidate) -> Self {
        assert!(founder.role == Role::Drone, "a mesh is founded by a drone: {founder:?}");
        assert!(
            settings.ranges.is_power_of_two() && (16..=crate::types::SLOTS).contains(&settings.ranges),
            "{} ranges",
            settings.ranges
        );
        let holder = Holder { node: founder.id, incarnation: founder.incarnation, state: HolderState::Serving };
        let chain = Chain {
            epoch: Epoch(1),
            generation: Generation(1),
            changed: Version(1),
            holders: vec![holder],
            former: Vec::new(),
            revived: None,
            cause: Cause::Founded,
        };
        // All ranges begin alike, so they may share one record until they change.
        let chain = Arc::new(chain);
        let chains = vec![chain; settings.ranges as usize];
        let member = Member::new(0, founder, Standing::Up);
        Self {
            mesh,
            version: Version(1),
            settings,
            roster: BTreeMap::from([(member.node.id, member)]),
            counts: Counts::of(&chains),
            chains,
            paused: None,
            gone: BTreeMap::new(),
        }
    }

    /// A dictionary of any roster and chains, for the tests of other machines.
    #[cfg(test)]
    pub fn assembled(
        mesh: MeshId,
        version: Version,
        settings: MeshSettings,
        roster: BTreeMap<NodeId, Member>,
        chains: Vec<Arc<Chain>>,
    ) -> Self {
        let (counts, paused, gone) = (Counts::of(&chains), None, BTreeMap::new());
        Self { mesh, version, settings, roster, counts, chains, paused, gone }
    }

    /// Applies a committed command. Version rises by one with each command that changes anything. The events tell people
    /// what changed; they name no term, which the election machine fills in.
    pub fn apply(&mut self, command: &Command) -> (Applied, Vec<Event>) {
        let version = self.version;
        let outcome = match command {
            Command::Admit(candidate) => self.admit(candidate),
            Command::Stand { node, incarnation, standing, evidence } => {
                self.stand(*node, *incarnation, *standing, evidence)
            }
            Command::Bury { node, incarnation, cause } => self.bury(*node, *incarnation, cause),
            Command::Remove { node, cause } => self.remove(*node, cause),
            Command::SetChains(changes) => self.set_chains(changes),
            Command::Configure { key, value } => self.configure(key, value),
            Command::Pause(pause) => self.pause(*pause),
            Command::Drain { node, drains } => self.drain(*node, *drains),
            Command::Enfranchise { node, franchise } => self.enfranchise(*node, *franchise),
            Command::Assign { node, part } => self.assign(*node, part),
        };
        assert!(self.version == version, "the version is raised here alone");
        match outcome {
            Ok(events) => {
                self.version = version.next();
                (Applied::Changed(self.version), events)
            }
            Err(reason) => (Applied::Nothing(reason), Vec::new()),
        }
    }

    /// The chain of a range.
    pub fn chain(&self, range: RangeId) -> &Arc<Chain> {
        &self.chains[range.0 as usize]
    }

    /// All ranges with their chains.
    pub fn ranges(&self) -> impl Iterator<Item = (RangeId, &Arc<Chain>)> {
        self.chains.iter().enumerate().map(|(place, chain)| (RangeId(place as u16), chain))
    }

    /// A node of the roster.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.roster.get(&node)
    }

    /// The nodes of the roster that hold data.
    pub fn drones(&self) -> impl Iterator<Item = &Member> {
        self.roster.values().filter(|member| member.node.role == Role::Drone)
    }

    /// The node that heads a range, unless nobody does: its listed life is known to be over.
    pub fn head_of(&self, range: RangeId) -> Option<&Member> {
        let head = self.chain(range).head()?;
        if self.is_dead(head.node, head.incarnation) { None } else { self.roster.get(&head.node) }
    }

    /// Where a node of the roster is reached by other nodes, as host:port.
    pub fn peer_address(&self, node: NodeId) -> Option<&str> {
        self.roster.get(&node).map(|member| member.node.addresses.peer.as_str())
    }

    /// A node's name, or its id if it is not on the roster.
    pub fn name_of(&self, node: NodeId) -> String {
        self.roster.get(&node).map_or_else(|| node.to_string(), |member| member.node.name.clone())
    }

    /// Whether this life of a node is known to be over: replaced by a later one, given up, or off the roster (G22).
    /// Whoever is listed in a chain is either dead in this sense or the node's present life.
    pub fn is_dead(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.roster.get(&node).is_none_or(|member| {
            incarnation < member.node.incarnation || member.dead.is_some_and(|dead| incarnation <= dead)
        })
    }

    /// Who is to leave.
    pub fn leavers(&self) -> impl Iterator<Item = NodeId> {
        self.roster.values().filter(|member| member.drains).map(|member| member.node.id)
    }

    /// Whether a node is to leave.
    pub fn drains(&self, node: NodeId) -> bool {
        self.member(node).is_some_and(|member| member.drains)
    }

    /// Whether a range has too few copies, of as many as there can be. One that a node on its way out has does not count: it will
    /// soon be gone.
    pub fn lacks_copies(&self, chain: &Chain) -> bool {
        let leave = chain.serving().filter(|holder| self.drains(holder.node)).count();
        if leave == 0 || self.is_short(chain) {
            return self.is_short(chain);
        }
        let stay = self.drones().filter(|member| !member.drains).count();
        chain.serving().count() - leave < usize::from(self.settings.factor).min(stay)
    }

    /// Whether a range has fewer copies than it should have, whoever is there to take one and whoever is to leave.
    pub fn is_short(&self, chain: &Chain) -> bool {
        chain.serving().count() < usize::from(self.settings.factor)
    }

    /// How many ranges a node has in its present life.
    pub fn tally(&self, node: NodeId) -> Tally {
        let incarnation = self.roster.get(&node).map(|member| member.node.incarnation);
        incarnation.and_then(|life| self.counts.tallies.get(&(node, life))).copied().unwrap_or_default()
    }

    /// Whether any chain lists this life of a node.
    pub fn lists(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.counts.tallies.contains_key(&(node, incarnation))
    }

    /// How many ranges nobody serves now: their head's life is over, or the commander does not hear it. Known without
    /// looking at the chains.
    pub fn unserved(&self) -> usize {
        let served = self.roster.values().filter(|member| member.serves());
        self.chains.len() - served.map(|member| self.tally(member.node.id).headed).sum::<usize>()
    }

    /// The ranges that [`Dictionary::unserved`] counts.
    pub fn unserved_ranges(&self) -> impl Iterator<Item = RangeId> {
        let served = |chain: &Chain| {
            chain.head().is_some_and(|head| {
                !self.is_dead(head.node, head.incarnation) && self.roster[&head.node].standing != Standing::Suspect
            })
        };
        self.ranges().filter(move |(_, chain)| !served(chain)).map(|(range, _)| range)
    }

    /// How many ranges have fewer members that serve than the mesh wants. Known without looking at the chains.
    pub fn short_of_copies(&self) -> usize {
        self.counts.copies.range(..self.settings.factor as usize).map(|(_, ranges)| ranges).sum()
    }

    /// Puts a chain in place, with all that is counted.
    fn put_chain(&mut self, range: RangeId, chain: Chain) {
        let slot = &mut self.chains[range.0 as usize];
        assert!(chain.epoch > slot.epoch && chain.generation >= slot.generation, "taken back: {slot:?} -> {chain:?}");
        self.counts.subtract(slot);
        self.counts.add(&chain);
        *slot = Arc::new(chain);
    }

    fn event(&self, kind: EventKind, node: Option<NodeId>, ranges: Vec<RangeId>, text: String) -> Event {
        Event { kind, term: Term(0), version: self.version.next(), node, ranges, text }
    }
}

impl Counts {
    fn of(chains: &[Arc<Chain>]) -> Self {
        let mut counts = Self::default();
        chains.iter().for_each(|chain| counts.add(chain));
        counts
    }

    fn add(&mut self, chain: &Chain) {
        for (key, tally) in contributions(chain) {
            let entry = self.tallies.entry(key).or_default();
            entry.headed += tally.headed;
            entry.held += tally.held;
            entry.loading += tally.loading;
        }
        *self.copies.entry(chain.serving().count()).or_default() += 1;
    }

    fn subtract(&mut self, chain: &Chain) {
        for (key, tally) in contributions(chain) {
            let entry = self.tallies.get_mut(&key).expect("what is listed was counted");
            entry.headed -= tally.headed;
            entry.held -= tally.held;
            entry.loading -= tally.loading;
            if *entry == Tally::default() {
                self.tallies.remove(&key);
            }
        }
        let copies = chain.serving().count();
        let ranges = self.copies.get_mut(&copies).expect("every chain was counted");
        *ranges -= 1;
        if *ranges == 0 {
            self.copies.remove(&copies);
        }
    }
}

/// What one chain adds to the tallies of its members.
fn contributions(chain: &Chain) -> impl Iterator<Item = ((NodeId, Incarnation), Tally)> {
    chain.holders.iter().enumerate().map(|(place, holder)| {
        let serves = holder.state.serves();
        let tally = Tally { headed: (place == 0 && serves).into(), held: serves.into(), loading: (!serves).into() };
        ((holder.node, holder.incarnation), tally)
    })
}
