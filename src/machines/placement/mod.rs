//! Placement: which drones should hold what, and the fewest moves to get there.
//!
//! A consistent hash ring (Karger and others, STOC 1997; bounded loads after Mirrokni and others, 2016) *proposes* an order
//! of drones for each range. The shares decide: each drone holds and heads what its weight asks for, to within one range,
//! as far as copies must lie in different zones. Whatever lies well stays where it is; what must move goes, if it can, to
//! the drone that heads the neighbouring range, because map replies to clients list runs of slots.
//!
//! [`plan`] is a pure function of who may hold what and where things lie now. Planned again after each step it goes on to
//! the same end, so a new commander needs no notes of the old one's. Not here: when a move is safe (`ownership`).

mod copies;
mod heads;
mod ring;
mod share;
#[cfg(test)]
mod tests;

use crate::types::NodeId;

use ring::Ring;
use share::{Quotas, Zones};

/// A drone that may hold ranges: heard, and not about to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drone {
    /// Which node.
    pub node: NodeId,
    /// Its share, relative to others' weights.
    pub weight: u32,
    /// Its zone; a drone without one is a zone of its own.
    pub zone: String,
}

/// Where one range lies now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Who holds it and is to go on holding it, head first. Drones that are not offered to [`plan`] are passed over.
    pub holders: Vec<NodeId>,
    /// Who has a copy of it but was to give it up: preferred where somebody new is needed.
    pub traces: Vec<NodeId>,
}

/// What a plan follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementInput {
    /// Who may hold ranges.
    pub drones: Vec<Drone>,
    /// How many holders a range should have; fewer drones than this hold everything.
    pub factor: usize,
    /// Range by range.
    pub present: Vec<Present>,
}

/// Who should hold each range, head first. Empty where there is no drone at all.
pub fn plan(input: &PlacementInput) -> Vec<Vec<NodeId>> {
    let mut drones = input.drones.clone();
    drones.sort_by_key(|drone| drone.node);
    drones.dedup_by_key(|drone| drone.node);
    if drones.is_empty() {
        return vec![Vec::new(); input.present.len()];
    }
    let mut draft = Draft::new(input, drones);
    draft.settle_heads();
    draft.settle_copies();
    draft.finished()
}

/// A plan in the making. Drones are named by their place in `drones`.
struct Draft {
    drones: Vec<Drone>,
    zones: Zones,
    quotas: Quotas,
    ring: Ring,
    /// Holders a range gets: the factor, or all drones if there are fewer.
    factor: usize,
    ranges: Vec<Range>,
    /// How many ranges each drone heads, as planned so far.
    headed: Vec<usize>,
    /// How many ranges each drone holds, as planned so far.
    held: Vec<usize>,
}

/// One range of a plan in the making.
struct Range {
    head: Option<usize>,
    /// All holders, the head among them.
    holders: Vec<usize>,
    traces: Vec<usize>,
}

impl Draft {
    fn new(input: &PlacementInput, drones: Vec<Drone>) -> Self {
        let place = |node: &NodeId| drones.binary_search_by_key(node, |drone| drone.node).ok();
        let range = |present: &Present| {
            let holders: Vec<usize> = present.holders.iter().filter_map(place).collect();
            let traces = present.traces.iter().filter_map(place).collect();
            Range { head: holders.first().copied(), holders, traces }
        };
        let ranges: Vec<Range> = input.present.iter().map(range).collect();
        let count = |picked: &dyn Fn(&Range) -> Vec<usize>| {
            let mut counts = vec![0; drones.len()];
            ranges.iter().flat_map(picked).for_each(|drone| counts[drone] += 1);
            counts
        };
        let headed = count(&|range| range.head.into_iter().collect());
        let held = count(&|range| range.holders.clone());
        let factor = input.factor.clamp(1, drones.len());
        let zones = Zones::of(&drones, factor);
        let quotas = Quotas::new(&drones, &zones, factor, ranges.len(), &held, &headed);
        let ring = Ring::new(&drones);
        Self { drones, zones, quotas, ring, factor, ranges, headed, held }
    }

    fn finished(&self) -> Vec<Vec<NodeId>> {
        let named = |range: &Range| {
            let head = range.head.into_iter();
            let others = range.holders.iter().copied().filter(|drone| Some(*drone) != range.head);
            head.chain(others).map(|drone| self.drones[drone].node).collect()
        };
        self.ranges.iter().map(named).collect()
    }

    fn add_holder(&mut self, range: usize, drone: usize) {
        assert!(!self.ranges[range].holders.contains(&drone), "a drone holds a range once");
        self.ranges[range].holders.push(drone);
        self.held[drone] += 1;
    }

    fn remove_holder(&mut self, range: usize, drone: usize) {
        self.ranges[range].holders.retain(|holder| *holder != drone);
        self.held[drone] -= 1;
    }
}
