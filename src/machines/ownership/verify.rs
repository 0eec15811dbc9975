//! Whether all holders of a range hold the same: an operator asks one node, which asks the heads.
//!
//! A range is looked at interval by interval; the head says where each ends, and a mark goes down its chain so that all members
//! look at one stamp (`chain::verify`). The asker compares. What did not come, because a link broke or a chain changed,
//! is asked again for a while, from the start of the range where its chain is another one; what stays different
//! or silent is reported. A few ranges are under way at a time, each with one interval, so no worker has more to do for this
//! than a short step now and then between its clients' commands. What waits for somebody silent does not count: others go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::machines::dictionary::Dictionary;
use crate::messages::chain::{Contents, Counted};
use crate::messages::ownership::{Chain, Holder, HolderState, OwnershipMessage};
use crate::messages::status::{Compared, HolderCompared, RangeCompared, Verification};
use crate::types::{Instant, NodeId, RangeId};

use super::Effect;
use super::evidence::Life;

/// How many ranges are looked at at once: few, so that a client's command has at most a step or two before it at any worker.
/// More would not be faster by much, since somebody is always reading.
const AT_ONCE: usize = 8;

/// How many are open at once, those included that wait for somebody silent: they cost nothing.
const OPEN: usize = 1024;

/// How often an interval is asked for in vain: with a pause of one failure timeout between, long enough for a lost member to
/// be found out and dropped, and for whoever was slow.
const TRIES: u32 = 8;

/// How often members of one stamp must be seen to differ before it is believed.
const LOOKS: u32 = 2;

/// How many operators are served at once.
const MOST: usize = 8;

/// What is being compared for operators at this node.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    list: BTreeMap<u64, Comparing>,
}

/// One operator's question.
#[derive(Debug)]
struct Comparing {
    left: VecDeque<RangeId>,
    under_way: BTreeMap<RangeId, Inquiry>,
    done: BTreeMap<RangeId, RangeCompared>,
}

/// One range.
#[derive(Debug)]
struct Inquiry {
    range: RangeId,
    chain: Arc<Chain>,
    /// From which place on it is asked.
    from: u64,
    /// The name of the last asking, and when that was; none when it is to be asked now.
    asked: Option<(u64, Instant)>,
    /// Askings for this interval that came to nothing.
    tries: u32,
    /// How often they were seen to differ in this interval.
    looks: u32,
    /// What came to the last asking.
    answers: BTreeMap<NodeId, Counted>,
    /// Of all intervals before.
    totals: BTreeMap<NodeId, Contents>,
    differing: BTreeSet<NodeId>,
}

/// What an inquiry comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Something is missing yet.
    Wait,
    /// It has to be asked again.
    Again,
    /// The next interval.
    Next,
    /// All was seen.
    Done,
}

impl Verifications {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// An operator asks for these ranges.
    pub fn begin(&mut self, id: u64, ranges: impl Iterator<Item = RangeId>, effects: &mut Vec<Effect>) {
        if self.list.len() >= MOST {
            let why = format!("{MOST} comparisons are under way at this node already; try again");
            return effects.push(Effect::Verified { id, result: Err(why) });
        }
        let (under_way, done) = (BTreeMap::new(), BTreeMap::new());
        self.list.insert(id, Comparing { left: ranges.collect(), under_way, done });
    }

    /// A member says what it holds.
    pub fn on_counted(&mut self, by: Life, asking: u64, counted: &Counted, dictionary: &Dictionary) {
        for comparing in self.list.values_mut() {
            let Some(inquiry) = comparing.under_way.get_mut(&counted.range) else { continue };
            if inquiry.asked.is_some_and(|(number, _)| number == asking) && inquiry.hear(by, counted) {
                let range = inquiry.range;
                comparing.done.insert(range, inquiry.report(dictionary));
                comparing.under_way.remove(&range);
            }
        }
    }

    /// Asks what is to be asked now, and tells operators what came of it.
    pub fn run(
        &mut self,
        now: Instant,
        me: NodeId,
        dictionary: &Dictionary,
        numbers: &mut u64,
        effects: &mut Vec<Effect>,
    ) {
        for comparing in self.list.values_mut() {
            comparing.run(now, me, dictionary, numbers, effects);
        }
        for (id, comparing) in self.list.extract_if(.., |_, comparing| comparing.is_over()) {
            effects.push(Effect::Verified { id, result: Ok(comparing.report(dictionary)) });
        }
    }

    /// When something is asked again.
    pub fn deadline(&self, pause: Duration) -> Option<Instant> {
        let inquiries = self.list.values().flat_map(|comparing| comparing.under_way.values());
        inquiries.map(|inquiry| inquiry.asked.map_or(Instant(0), |(_, at)| at + pause)).min()
    }
}

impl Comparing {
    fn is_over(&self) -> bool {
        self.left.is_empty() && self.under_way.is_empty()
    }

    fn run(&mut self, now: Instant, me: NodeId, dictionary: &Dictionary, numbers: &mut u64, effects: &mut Vec<Effect>) {
        let pause = dictionary.settings.timing.failure_timeout;
        let late = |inquiry: &Inquiry| inquiry.asked.is_some_and(|(_, at)| now >= at + pause);
        for inquiry in self.under_way.values_mut() {
            inquiry.follow(dictionary.chain(inquiry.range));
            if late(inquiry) {
                inquiry.ask_again();
            }
        }
        for (range, inquiry) in self.under_way.extract_if(.., |_, inquiry| inquiry.tries >= TRIES) {
            self.done.insert(range, inquiry.report(dictionary));
        }
        let mut at_work = self.under_way.values().filter(|inquiry| inquiry.tries == 0).count();
        while at_work < AT_ONCE
            && self.under_way.len() < OPEN
            && let Some(range) = self.left.pop_front()
        {
            self.under_way.insert(range, Inquiry::new(range, dictionary.chain(range)));
            at_work += 1;
        }
        for inquiry in self.under_way.values_mut().filter(|inquiry| inquiry.asked.is_none()) {
            *numbers += 1;
            inquiry.ask((now, *numbers), me, effects);
        }
    }

    fn report(self, dictionary: &Dictionary) -> Verification {
        let ranges: Vec<RangeCompared> = self.done.into_values().collect();
        Verification {
            version: dictionary.version.0,
            well: ranges.iter().all(|range| range.well),
            keys: ranges.iter().filter_map(|range| range.holders.first()?.keys).sum(),
            ranges,
        }
    }
}

impl Inquiry {
    fn new(range: RangeId, chain: &Arc<Chain>) -> Self {
        Self {
            range,
            chain: Arc::clone(chain),
            from: 0,
            asked: None,
            tries: 0,
            looks: 0,
            answers: BTreeMap::new(),
            totals: BTreeMap::new(),
            differing: BTreeSet::new(),
        }
    }

    /// Where the chain is another one, everything is looked at anew.
    fn follow(&mut self, chain: &Arc<Chain>) {
        if chain.epoch != self.chain.epoch {
            let tries = self.tries + 1;
            *self = Self { tries, ..Self::new(self.range, chain) };
        }
    }

    fn ask(&mut self, (now, number): (Instant, u64), me: NodeId, effects: &mut Vec<Effect>) {
        self.asked = Some((number, now));
        self.answers.clear();
        let (id, range, epoch, from) = (number, self.range, self.chain.epoch, self.from);
        match self.chain.head() {
            Some(head) if head.node == me => effects.push(Effect::Count { asker: me, id, range, epoch, from }),
            Some(head) => {
                let message = OwnershipMessage::Count { id, range, epoch, from };
                effects.push(Effect::Send { to: head.node, message });
            }
            None => {}
        }
    }

    fn ask_again(&mut self) {
        self.asked = None;
        self.tries += 1;
    }

    /// A member answers. True when all of the range was seen.
    fn hear(&mut self, by: Life, counted: &Counted) -> bool {
        let member = self.chain.holder(by.node, by.incarnation).is_some_and(|holder| holder.state.serves());
        if !member || counted.epoch != self.chain.epoch {
            return false;
        }
        self.answers.insert(by.node, *counted);
        match self.compare() {
            Turn::Wait => false,
            Turn::Again => {
                self.ask_again();
                false
            }
            turn => {
                self.accept();
                turn == Turn::Done
            }
        }
    }

    /// What the answers to the last asking say.
    fn compare(&mut self) -> Turn {
        let Some(head) = self.chain.head().and_then(|head| self.answers.get(&head.node)).copied() else {
            return Turn::Wait;
        };
        if self.chain.serving().any(|holder| !self.answers.contains_key(&holder.node)) {
            return Turn::Wait;
        }
        let together = |it: &Counted| (it.applied, it.to) == (head.applied, head.to);
        if !self.answers.values().all(together) {
            return Turn::Again;
        }
        let odd = self.odd();
        if !odd.is_empty() && self.looks + 1 < LOOKS {
            self.looks += 1;
            return Turn::Again;
        }
        self.differing.extend(odd);
        // An interval that does not end behind its beginning is no answer of ours.
        match head.to {
            Some(to) if to > self.from => Turn::Next,
            _ => Turn::Done,
        }
    }

    /// Who does not hold what most hold; where there is no most, what the head holds.
    fn odd(&self) -> Vec<NodeId> {
        let held = |holder: &Holder| self.answers[&holder.node].contents;
        let times = |contents: Contents| self.chain.serving().filter(|holder| held(holder) == contents).count();
        let mut usual: Option<(usize, Contents)> = None;
        for contents in self.chain.serving().map(held) {
            let count = times(contents);
            if usual.is_none_or(|(most, _)| count > most) {
                usual = Some((count, contents));
            }
        }
        let odd = |holder: &&Holder| usual.is_some_and(|(_, usual)| held(holder) != usual);
        self.chain.serving().filter(odd).map(|holder| holder.node).collect()
    }

    /// On to the next interval.
    fn accept(&mut self) {
        for (node, counted) in std::mem::take(&mut self.answers) {
            self.totals.entry(node).or_default().add(counted.contents);
            self.from = counted.to.unwrap_or(self.from);
        }
        (self.asked, self.tries, self.looks) = (None, 0, 0);
    }

    /// What was seen. Where something is missing, the first who did not answer the last asking is the silent one: those
    /// behind it hear of a mark through it.
    fn report(&self, dictionary: &Dictionary) -> RangeCompared {
        let given_up = self.tries >= TRIES;
        let silent = self.chain.serving().find(|holder| !self.answers.contains_key(&holder.node));
        let compared = |holder: &Holder| match holder.state {
            HolderState::Loading => Compared::Loading,
            _ if self.differing.contains(&holder.node) => Compared::Differs,
            _ if given_up && silent == Some(holder) => Compared::Silent,
            _ if given_up => Compared::Unsettled,
            _ => Compared::Same,
        };
        let holder = |holder: &Holder| {
            let seen = self.totals.get(&holder.node);
            HolderCompared {
                id: holder.node.to_string(),
                name: dictionary.name_of(holder.node),
                state: holder.state.to_string(),
                compared: compared(holder),
                keys: seen.map(|contents| contents.keys),
                digest: seen.map(|contents| format!("{:016x}", contents.digest)),
            }
        };
        let (first, last) = self.range.slots(dictionary.chains.len());
        let holders: Vec<HolderCompared> = self.chain.holders.iter().map(holder).collect();
        RangeCompared {
            range: self.range.0,
            slots: (first.0, last.0),
            epoch: self.chain.epoch.0,
            well: holders.iter().all(|it| matches!(it.compared, Compared::Same | Compared::Loading)),
            holders,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::ownership::Cause;
    use crate::types::{Epoch, Generation, Incarnation, Sequence, Stamp, Version};

    const RANGE: RangeId = RangeId(3);

    fn chain(members: u64) -> Arc<Chain> {
        let holder = |node| Holder { node: NodeId(node), incarnation: Incarnation(1), state: HolderState::Serving };
        Arc::new(Chain {
            epoch: Epoch(4),
            generation: Generation(1),
            changed: Version(9),
            holders: (1..=members).map(holder).collect(),
            former: Vec::new(),
            revived: None,
            cause: Cause::Placement,
        })
    }

    fn inquiry(members: u64) -> Inquiry {
        Inquiry { asked: Some((1, Instant(0))), ..Inquiry::new(RANGE, &chain(members)) }
    }

    fn counted(sequence: u64, to: Option<u64>, digest: u64) -> Counted {
        let (epoch, applied) = (Epoch(4), Stamp { epoch: Epoch(2), sequence: Sequence(sequence) });
        Counted { range: RANGE, epoch, applied, to, contents: Contents { keys: 1, digest } }
    }

    fn life(node: u64) -> Life {
        Life { node: NodeId(node), incarnation: Incarnation(1) }
    }

    /// All members answer the next asking, in any order; true when the range was seen.
    fn told(inquiry: &mut Inquiry, answers: &[(u64, Counted)]) -> bool {
        inquiry.ask((Instant(1), 2), NodeId(9), &mut Vec::new());
        answers.iter().fold(false, |_, (node, counted)| inquiry.hear(life(*node), counted))
    }

    #[test]
    fn intervals_add_up() {
        let mut inquiry = inquiry(2);
        assert!(!told(&mut inquiry, &[(2, counted(7, Some(50), 1)), (1, counted(7, Some(50), 1))]));
        assert_eq!((inquiry.from, inquiry.asked), (50, None));
        assert!(told(&mut inquiry, &[(1, counted(9, None, 5)), (2, counted(9, None, 5))]));
        assert_eq!(inquiry.totals[&NodeId(2)], Contents { keys: 2, digest: 6 });
        assert!(inquiry.differing.is_empty());
    }

    #[test]
    fn copies_are_compared_at_one_stamp_alone() {
        let mut inquiry = inquiry(2);
        assert!(!told(&mut inquiry, &[(1, counted(7, None, 1)), (2, counted(6, None, 2))]));
        assert_eq!((inquiry.asked, inquiry.tries), (None, 1));
        // In another epoch, of a life that is not listed, of a stranger: not heard.
        let (mut other, mut old) = (counted(7, None, 1), life(2));
        other.epoch = Epoch(3);
        old.incarnation = Incarnation(0);
        inquiry.ask((Instant(1), 2), NodeId(9), &mut Vec::new());
        assert!(!inquiry.hear(life(2), &other) && !inquiry.hear(old, &counted(7, None, 1)));
        assert!(!inquiry.hear(life(8), &counted(7, None, 1)) && inquiry.answers.is_empty());
    }

    #[test]
    fn who_differs_from_most_is_named_when_it_is_seen_again() {
        let answers = |odd: u64| [1, 2, 3].map(|node| (node, counted(7, None, u64::from(node == odd))));
        for odd in 1..=3 {
            let mut inquiry = inquiry(3);
            assert!(!told(&mut inquiry, &answers(odd)));
            assert!(told(&mut inquiry, &answers(odd)));
            assert_eq!(inquiry.differing, BTreeSet::from([NodeId(odd)]));
        }
        // Of two, nobody knows: the head is what clients read.
        let mut inquiry = inquiry(2);
        told(&mut inquiry, &answers(1)[..2]);
        told(&mut inquiry, &answers(1)[..2]);
        assert_eq!(inquiry.differing, BTreeSet::from([NodeId(2)]));
    }

    #[test]
    fn another_chain_is_looked_at_from_the_start() {
        let mut inquiry = inquiry(2);
        told(&mut inquiry, &[(1, counted(7, Some(50), 1)), (2, counted(7, Some(50), 1))]);
        let mut next = (*chain(3)).clone();
        next.epoch = Epoch(5);
        inquiry.follow(&Arc::new(next));
        assert_eq!((inquiry.from, inquiry.tries, inquiry.totals.len()), (0, 1, 0));
    }
}
