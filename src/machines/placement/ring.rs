//! The hash ring: for each range an order of drones that changes little when drones come and go.
//!
//! A drone stands at many points of the ring (in proportion to its weight), because with one point each all ranges of a
//! lost drone would go to the one behind it. From the ring itself only the entry point of a range is asked; the walk from
//! there is ours, since the crate's own list of replicas names drones twice and copies the ring at each call.

use hashring::HashRing;

use super::Drone;

/// Points of a drone of average weight.
const POINTS: u64 = 64;

/// The most points of one drone, so that one heavy drone does not make the ring slow.
const MOST_POINTS: u64 = 16 * POINTS;

/// One point: the node's id, so that its points are the same whoever else is there; which of them; and the drone's place.
#[derive(Clone, Copy)]
struct Point {
    id: u64,
    number: u32,
    drone: u32,
}

impl std::hash::Hash for Point {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.id, self.number).hash(state);
    }
}

pub(super) struct Ring {
    ring: HashRing<Point>,
    /// The drones in the order of the points.
    walk: Vec<u32>,
    /// Where in the walk each point of each drone stands.
    places: Vec<Vec<u32>>,
}

impl Ring {
    pub fn new(drones: &[Drone]) -> Self {
        let total: u64 = drones.iter().map(|drone| u64::from(drone.weight.max(1))).sum();
        let average = (total / drones.len() as u64).max(1);
        let mut points = Vec::new();
        for (place, drone) in drones.iter().enumerate() {
            let count = (POINTS * u64::from(drone.weight) / average).clamp(1, MOST_POINTS) as u32;
            points.extend((0..count).map(|number| Point { id: drone.node.0, number, drone: place as u32 }));
        }
        let mut ring = HashRing::new();
        ring.batch_add(points);
        let mut places = vec![Vec::new(); drones.len()];
        let mut walk = Vec::with_capacity(ring.len());
        for (place, point) in ring.clone().into_iter().enumerate() {
            let numbers: &mut Vec<u32> = &mut places[point.drone as usize];
            numbers.resize(numbers.len().max(point.number as usize + 1), 0);
            numbers[point.number as usize] = place as u32;
            walk.push(point.drone);
        }
        Self { ring, walk, places }
    }

    /// The drones in the order proposed for a range. A drone may be named again: whoever walks takes the first that suits.
    pub fn walk(&self, range: usize) -> impl Iterator<Item = usize> {
        let entry = self.ring.get(&(range as u64)).expect("a ring of at least one drone");
        let start = self.places[entry.drone as usize][entry.number as usize] as usize;
        self.walk[start..].iter().chain(&self.walk[..start]).map(|drone| *drone as usize)
    }
}
