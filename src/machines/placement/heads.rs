//! Who heads each range: whoever does now, unless it heads more than its share.

use std::collections::VecDeque;

use super::Draft;

impl Draft {
    /// Gives every range a head, and every drone its share of them.
    pub(super) fn settle_heads(&mut self) {
        self.hand_over_surplus();
        for drone in 0..self.drones.len() {
            self.release_surplus(drone);
        }
        for range in 0..self.ranges.len() {
            if self.ranges[range].head.is_none() {
                self.find_head(range);
            }
        }
    }

    /// First by hand-over alone, which moves no data: from a drone with too many, over others, to one with too few.
    fn hand_over_surplus(&mut self) {
        if self.factor == 1 {
            return;
        }
        for drone in 0..self.drones.len() {
            while self.headed[drone] > self.quotas.headed[drone] && self.shift_head(drone) {}
        }
    }

    /// What is left of a drone's surplus loses its head: short runs first, then the end of the longest, so that what stays
    /// and what goes are long runs both.
    fn release_surplus(&mut self, drone: usize) {
        let mut surplus = self.headed[drone].saturating_sub(self.quotas.headed[drone]);
        if surplus == 0 {
            return;
        }
        let mut runs = self.runs_of(drone);
        runs.sort_by_key(|run| (run.len(), std::cmp::Reverse(run.start)));
        for run in runs {
            let taken = run.len().min(surplus);
            for range in run.end - taken..run.end {
                self.ranges[range].head = None;
                self.headed[drone] -= 1;
                // Whoever gave a range away as its only holder has no reason to keep it.
                if self.factor == 1 {
                    self.remove_holder(range, drone);
                }
            }
            surplus -= taken;
        }
    }

    fn runs_of(&self, drone: usize) -> Vec<std::ops::Range<usize>> {
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for (place, range) in self.ranges.iter().enumerate() {
            if range.head != Some(drone) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == place => run.end += 1,
                _ => runs.push(place..place + 1),
            }
        }
        runs
    }

    fn find_head(&mut self, range: usize) {
        let drone = self.choose_head(range);
        self.ranges[range].head = Some(drone);
        self.headed[drone] += 1;
        if !self.ranges[range].holders.contains(&drone) {
            self.add_holder(range, drone);
        }
    }

    fn choose_head(&mut self, range: usize) -> usize {
        let lacks = |draft: &Self, drone: usize| draft.headed[drone] < draft.quotas.headed[drone];
        let has_room = |draft: &Self, drone: usize| lacks(draft, drone) && draft.held[drone] < draft.quotas.held[drone];
        if let Some(holder) = self.ranges[range].holders.iter().find(|drone| lacks(self, **drone)) {
            return *holder;
        }
        // A holder that has its share may head this range if it can hand another one over.
        for holder in self.ranges[range].holders.clone() {
            if self.factor > 1 && self.shift_head(holder) {
                return holder;
            }
        }
        let neighbours = [range.checked_sub(1), Some(range + 1)].into_iter().flatten();
        let neighbours = neighbours.filter_map(|other| self.ranges.get(other)?.head);
        let traces = self.ranges[range].traces.iter().copied();
        if let Some(drone) = traces.chain(neighbours).find(|drone| has_room(self, *drone)) {
            return drone;
        }
        let proposed = |suits: &dyn Fn(usize) -> bool| self.ring.walk(range).find(|drone| suits(*drone));
        proposed(&|drone| has_room(self, drone))
            .or_else(|| proposed(&|drone| lacks(self, drone)))
            .expect("shares add up to all ranges, so while one has no head some drone lacks one")
    }

    /// Hands heads along a shortest path of drones, each step from a head to another holder of the same range, so that
    /// `drone` heads one range fewer and one that heads too few heads one more. False if there is no such path.
    fn shift_head(&mut self, drone: usize) -> bool {
        let mut reached_by: Vec<Option<(usize, usize)>> = vec![None; self.drones.len()];
        let mut headed: Vec<Vec<usize>> = vec![Vec::new(); self.drones.len()];
        for (place, range) in self.ranges.iter().enumerate() {
            range.head.into_iter().for_each(|head| headed[head].push(place));
        }
        let mut queue = VecDeque::from([drone]);
        while let Some(from) = queue.pop_front() {
            for range in &headed[from] {
                for to in &self.ranges[*range].holders {
                    if *to == drone || reached_by[*to].is_some() {
                        continue;
                    }
                    reached_by[*to] = Some((from, *range));
                    if self.headed[*to] < self.quotas.headed[*to] {
                        self.hand_along(&reached_by, drone, *to);
                        return true;
                    }
                    queue.push_back(*to);
                }
            }
        }
        false
    }

    fn hand_along(&mut self, reached_by: &[Option<(usize, usize)>], first: usize, last: usize) {
        let mut to = last;
        while to != first {
            let (from, range) = reached_by[to].expect("the path was walked");
            self.ranges[range].head = Some(to);
            to = from;
        }
        self.headed[first] -= 1;
        self.headed[last] += 1;
    }
}
