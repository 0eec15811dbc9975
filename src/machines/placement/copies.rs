//! Who else holds each range: whoever does now, unless it holds more than its share, or copies would lie together.

use std::collections::VecDeque;

use super::Draft;

impl Draft {
    /// Gives every range as many holders as there should be, apart from each other, and every drone its share.
    pub(super) fn settle_copies(&mut self) {
        for range in 0..self.ranges.len() {
            self.part_zones(range);
            self.drop_extra(range);
        }
        for drone in 0..self.drones.len() {
            self.release_copies(drone);
        }
        for range in 0..self.ranges.len() {
            while self.ranges[range].holders.len() < self.factor {
                self.find_holder(range);
            }
        }
    }

    /// Where more copies lie in a zone than should, the fuller drones give theirs up; never the head.
    fn part_zones(&mut self, range: usize) {
        loop {
            let crowded = |drone: &usize| self.in_zone_of(range, *drone) > self.zones.copies;
            let Some(drone) = self.fullest(range, crowded) else { return };
            self.remove_holder(range, drone);
        }
    }

    fn drop_extra(&mut self, range: usize) {
        while self.ranges[range].holders.len() > self.factor {
            let drone = self.fullest(range, |_| true).expect("of two holders one does not lead");
            self.remove_holder(range, drone);
        }
    }

    /// Of the holders that do not lead, the one that holds most above its share.
    fn fullest(&self, range: usize, suits: impl Fn(&usize) -> bool) -> Option<usize> {
        let Some(head) = self.ranges[range].head else { unreachable!("heads were settled first") };
        let others = self.ranges[range].holders.iter().copied().filter(|drone| *drone != head && suits(drone));
        others.max_by_key(|drone| (self.held[*drone] as i64 - self.quotas.held[*drone] as i64, *drone))
    }

    /// A drone above its share gives up ranges it does not lead, here and there, so that many others take part.
    fn release_copies(&mut self, drone: usize) {
        if self.held[drone] <= self.quotas.held[drone] {
            return;
        }
        let follows = |range: &usize| {
            let range = &self.ranges[*range];
            range.head != Some(drone) && range.holders.contains(&drone)
        };
        let mut ranges: Vec<usize> = (0..self.ranges.len()).filter(follows).collect();
        ranges.sort_by_key(|range| scatter(*range, self.drones[drone].node.0));
        for range in ranges {
            if self.held[drone] == self.quotas.held[drone] {
                return;
            }
            self.remove_holder(range, drone);
        }
    }

    fn find_holder(&mut self, range: usize) {
        let suits = |drone: &usize| self.held[*drone] < self.quotas.held[*drone] && self.may_hold(range, *drone);
        let traces = self.ranges[range].traces.iter().copied();
        let proposed = traces.chain(self.ring.walk(range)).find(suits);
        if let Some(drone) = proposed {
            return self.add_holder(range, drone);
        }
        if let Some(drone) = self.make_room(range) {
            return self.add_holder(range, drone);
        }
        // Shares cannot be kept here: then rather one drone with a range too many than a range with a copy too few.
        let candidates = (0..self.drones.len()).filter(|drone| self.may_hold(range, *drone));
        let emptiest = candidates.min_by_key(|drone| self.held[*drone] as i64 - self.quotas.held[*drone] as i64);
        let anyone = (0..self.drones.len()).find(|drone| !self.ranges[range].holders.contains(drone));
        let drone = emptiest.or(anyone).expect("there are at least as many drones as copies");
        self.add_holder(range, drone);
    }

    /// Whether a drone could hold a range beside those who do.
    fn may_hold(&self, range: usize, drone: usize) -> bool {
        !self.ranges[range].holders.contains(&drone) && self.in_zone_of(range, drone) < self.zones.copies
    }

    /// How many copies of a range lie in the zone of a drone.
    fn in_zone_of(&self, range: usize, drone: usize) -> usize {
        let zone = self.zones.of[drone];
        self.ranges[range].holders.iter().filter(|holder| self.zones.of[**holder] == zone).count()
    }

    /// Finds a drone that could hold the range but has its share already, and moves one of its other copies on, over as few
    /// drones as it takes, to one that has room. The drone, if there is such a path.
    fn make_room(&mut self, range: usize) -> Option<usize> {
        let followed = self.followed();
        let mut reached_by: Vec<Option<(usize, usize)>> = vec![None; self.drones.len()];
        let firsts: Vec<usize> = (0..self.drones.len()).filter(|drone| self.may_hold(range, *drone)).collect();
        let mut queue: VecDeque<usize> = firsts.iter().copied().collect();
        while let Some(from) = queue.pop_front() {
            for other in followed[from].iter().copied().filter(|other| *other != range) {
                for to in 0..self.drones.len() {
                    if reached_by[to].is_some() || firsts.contains(&to) || !self.may_replace(other, from, to) {
                        continue;
                    }
                    reached_by[to] = Some((from, other));
                    if self.held[to] < self.quotas.held[to] {
                        return Some(self.move_along(&reached_by, to));
                    }
                    queue.push_back(to);
                }
            }
        }
        None
    }

    fn may_replace(&self, range: usize, from: usize, to: usize) -> bool {
        let same_zone = usize::from(self.zones.of[from] == self.zones.of[to]);
        !self.ranges[range].holders.contains(&to) && self.in_zone_of(range, to) - same_zone < self.zones.copies
    }

    fn move_along(&mut self, reached_by: &[Option<(usize, usize)>], last: usize) -> usize {
        let mut to = last;
        while let Some((from, range)) = reached_by[to] {
            self.remove_holder(range, from);
            self.add_holder(range, to);
            to = from;
        }
        to
    }

    /// The ranges that each drone holds and does not lead.
    fn followed(&self) -> Vec<Vec<usize>> {
        let mut followed = vec![Vec::new(); self.drones.len()];
        for (place, range) in self.ranges.iter().enumerate() {
            let others = range.holders.iter().filter(|drone| Some(**drone) != range.head);
            others.for_each(|drone| followed[*drone].push(place));
        }
        followed
    }
}

/// An order that has nothing to do with the order of ranges (the finaliser of splitmix64, Steele and others, 2014).
fn scatter(range: usize, node: u64) -> u64 {
    let mut mixed = node ^ (range as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
