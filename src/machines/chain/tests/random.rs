//! Random worlds: a toy commander that keeps its guards, links that delay and break, clocks that run apart, pauses and
//! restarts. No acknowledged write is lost, and at most one node answers at any instant.

use super::*;
use rand::{Rng, SeedableRng, seq::IteratorRandom, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// What a key may hold, as far as its clients know. None: anything, since all holders were lost.
type Possible = Option<BTreeSet<Option<u64>>>;

/// Leases on their way: the asking, and the granting.
enum Beat {
    Ask { at: Instant },
    Grant { lease: Lease },
}

struct Asking {
    at: NodeId,
    key: usize,
    /// The value of a SET; none for a GET.
    value: Option<u64>,
}

struct Story {
    world: World,
    random: ChaCha8Rng,
    beats: BTreeMap<(NodeId, NodeId), VecDeque<Beat>>,
    next_beat: BTreeMap<NodeId, Instant>,
    /// Nodes that the commander does not reach.
    cut_off: BTreeSet<NodeId>,
    paused: BTreeSet<NodeId>,
    caught_up: BTreeSet<(Epoch, NodeId, Incarnation)>,
    parked: BTreeSet<Epoch>,
    /// What the commander has decided and not yet committed.
    proposals: Vec<SetChain>,
    asking: BTreeMap<u64, Asking>,
    keys: Vec<Possible>,
    values: u64,
    /// How often the commander does something, in a thousand events.
    busy: u32,
    /// How many milliseconds pass at most at a time.
    hurry: u64,
    acknowledged: u64,
    answered: u64,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let limits = Limits {
            backlog_bytes: *[0, 300, 1 << 20].choose(&mut random).expect("some"),
            backlog_writes: *[0, 5, 10_000].choose(&mut random).expect("some"),
            chunk_bytes: *[10, 40, 1 << 20].choose(&mut random).expect("some"),
            dirty_bytes: *[300, 1 << 20].choose(&mut random).expect("some"),
            streaming_bytes: *[500, 1 << 20].choose(&mut random).expect("some"),
            parts_a_joiner: random.gen_range(1..4),
            ..unhurried()
        };
        let factor = random.gen_range(1..4);
        let mut world = World::with_limits(4, factor, limits);
        for node in world.nodes.values_mut() {
            node.rate_ppm = random.gen_range(976_000..=1_024_000);
        }
        let busy = *[20, 80, 200].choose(&mut random).expect("some");
        let hurry = *[10, 60, 100].choose(&mut random).expect("some");
        let keys = vec![Some(BTreeSet::from([None])); 4];
        Self {
            world,
            random,
            beats: BTreeMap::new(),
            next_beat: BTreeMap::new(),
            cut_off: BTreeSet::new(),
            paused: BTreeSet::new(),
            caught_up: BTreeSet::new(),
            parked: BTreeSet::new(),
            proposals: Vec::new(),
            asking: BTreeMap::new(),
            keys,
            values: 0,
            busy,
            hurry,
            acknowledged: 0,
            answered: 0,
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.world.nodes.keys().copied().collect()
    }

    fn any_node(&mut self) -> NodeId {
        *self.ids().choose(&mut self.random).expect("a node")
    }

    fn is_awake(&self, id: NodeId) -> bool {
        !self.paused.contains(&id)
    }

    fn happen(&mut self) {
        if self.random.gen_ratio(self.busy, 1000) {
            self.command();
            return self.check();
        }
        match self.random.gen_range(0..1000) {
            0..500 => self.deliver_some(),
            500..640 => {
                let ms = self.random.gen_range(0..self.hurry);
                self.pass(ms);
            }
            640..800 => self.ask_something(),
            800..900 => {
                let id = self.any_node();
                self.adopt(id);
            }
            900..975 => self.deliver_some(),
            975..981 => self.break_or_mend(),
            981..987 => {
                let id = self.any_node();
                self.cut_off.insert(id);
            }
            987..991 => {
                let id = self.any_node();
                self.paused.insert(id);
            }
            991..998 => self.mend_one(),
            _ => self.restart(),
        }
        self.check();
    }

    fn deliver_some(&mut self) {
        for _ in 0..self.random.gen_range(1..6) {
            let frames = self.world.links.iter().filter(|(_, queue)| !queue.is_empty()).map(|(lane, _)| *lane);
            let lane = frames.filter(|(_, to, _)| !self.paused.contains(to)).choose(&mut self.random);
            if let Some((from, to, bulk)) = lane {
                self.world.deliver_one(from, to, bulk);
                self.hear();
            }
            let lane = self.beats.iter().filter(|(_, queue)| !queue.is_empty()).map(|(lane, _)| *lane);
            let lane = lane.filter(|(_, to)| !self.paused.contains(to)).choose(&mut self.random);
            if let Some((from, to)) = lane {
                self.deliver_beat(from, to);
            }
        }
    }

    fn deliver_beat(&mut self, from: NodeId, to: NodeId) {
        match self.beats.get_mut(&(from, to)).and_then(VecDeque::pop_front) {
            Some(Beat::Ask { at }) => {
                let timing = self.world.timing();
                let now = self.world.now_of(to).instant;
                let node = self.world.nodes.get_mut(&to).expect("a node");
                let Some(version) = node.dictionary.as_ref().map(|dictionary| dictionary.version) else { return };
                node.promises.insert(from, now + timing.giver(timing.lease()));
                // The asker counts by its own clock, from the instant of asking.
                let lease = Lease { giver: node.incarnation, version, until: at + timing.holder(timing.lease()) };
                self.say(to, from, Beat::Grant { lease });
            }
            Some(Beat::Grant { lease }) => {
                self.world.give(to, from, lease);
                self.hear();
            }
            None => {}
        }
    }

    fn say(&mut self, from: NodeId, to: NodeId, beat: Beat) {
        if !self.world.cut.contains(&(from, to)) {
            self.beats.entry((from, to)).or_default().push_back(beat);
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.world.now.instant + Duration::from_millis(ms);
        self.world.pass_to(end);
        for id in self.ids().into_iter().filter(|id| self.is_awake(*id)).collect::<Vec<_>>() {
            let now = self.world.now_of(id).instant;
            if self.next_beat.get(&id).is_none_or(|next| *next <= now) {
                self.next_beat.insert(id, now + self.world.timing().beat());
                for other in self.ids().into_iter().filter(|other| *other != id) {
                    self.say(id, other, Beat::Ask { at: now });
                }
                if !self.cut_off.contains(&id) {
                    // Asked, confirmed and heard of in one, at the version that is newest then.
                    let timing = self.world.timing();
                    let until = now + timing.holder(timing.sole_lease());
                    let version = self.world.dictionary.version;
                    self.world.give_sole(id, Lease { giver: Incarnation(1), version, until });
                }
            }
            if self.world.nodes[&id].store.deadline().is_some_and(|deadline| deadline <= now) {
                self.world.tell(id, Input::Timer);
            }
            self.hear();
        }
    }

    fn adopt(&mut self, id: NodeId) {
        if self.is_awake(id) && !self.cut_off.contains(&id) {
            self.world.adopt(id);
            self.hear();
        }
    }

    fn ask_something(&mut self) {
        let free: Vec<usize> =
            (0..self.keys.len()).filter(|key| self.asking.values().all(|asking| asking.key != *key)).collect();
        let Some(key) = free.choose(&mut self.random).copied() else { return };
        let head = self.world.chain().holders[0].node;
        let at = if self.random.gen_bool(0.8) { head } else { self.any_node() };
        if !self.is_awake(at) {
            return;
        }
        let value = self.random.gen_bool(0.6).then(|| {
            self.values += 1;
            self.values
        });
        let words = match value {
            Some(value) => format!("SET key-number-{key} {value}"),
            None => format!("GET key-number-{key}"),
        };
        self.asking.insert(self.world.tickets, Asking { at, key, value });
        self.world.ask(at, &words);
        self.hear();
    }

    /// What was said to clients and to the commander.
    fn hear(&mut self) {
        for (ticket, outcome) in std::mem::take(&mut self.world.outcomes) {
            let asking = self.asking.remove(&ticket).expect("somebody asked");
            self.learn(&asking, outcome);
        }
        for (id, node) in &mut self.world.nodes {
            let (caught_up, parked) = (std::mem::take(&mut node.caught_up), std::mem::take(&mut node.parked));
            if !self.cut_off.contains(id) {
                self.caught_up.extend(caught_up);
                self.parked.extend(parked);
            }
        }
    }

    fn learn(&mut self, asking: &Asking, outcome: Outcome) {
        self.answered += 1;
        let possible = &mut self.keys[asking.key];
        match (asking.value, outcome) {
            (Some(value), Outcome::Replied(_)) => {
                *possible = Some(BTreeSet::from([Some(value)]));
                self.acknowledged += 1;
            }
            (Some(value), Outcome::Uncertain) => {
                if let Some(possible) = possible {
                    possible.insert(Some(value));
                }
            }
            (None, Outcome::Replied(reply)) => {
                let read = match reply {
                    Reply::Bulk(data) => Some(std::str::from_utf8(&data).expect("text").parse().expect("a number")),
                    Reply::Null => None,
                    other => panic!("{other:?}"),
                };
                if let Some(possible) = possible {
                    assert!(possible.contains(&read), "key {} holds {read:?}, not {possible:?}", asking.key);
                }
                *possible = Some(BTreeSet::from([read]));
            }
            (None, Outcome::Uncertain) => panic!("a read is never uncertain"),
            (_, Outcome::NotApplied(_)) => {}
        }
    }

    fn break_or_mend(&mut self) {
        let (one, other) = (self.any_node(), self.any_node());
        if one == other {
            return;
        }
        self.beats.retain(|(from, to), _| (*from, *to) != (one, other) && (*from, *to) != (other, one));
        // A link that breaks for a moment, or for longer.
        let mended = self.world.cut.contains(&(one, other));
        self.world.break_link(one, other);
        if mended || self.random.gen_bool(0.5) {
            self.world.mend_link(one, other);
        }
        self.hear();
    }

    /// Faults end a little faster than they come.
    fn mend_one(&mut self) {
        let id = self.any_node();
        self.cut_off.remove(&id);
        self.paused.remove(&id);
        self.cut_off.pop_first();
        self.paused.pop_last();
        if let Some((one, other)) = self.world.cut.first().copied() {
            self.world.mend_link(one, other);
        }
        self.hear();
    }

    fn restart(&mut self) {
        let id = self.any_node();
        self.beats.retain(|(from, to), _| *from != id && *to != id);
        self.next_beat.remove(&id);
        let cut = self.world.cut.clone();
        self.world.restart(id);
        for (one, other) in cut.into_iter().filter(|(one, other)| one < other) {
            self.world.break_link(one, other);
        }
        self.hear();
        // Its clients hear nothing more.
        let lost: Vec<u64> =
            self.asking.iter().filter(|(_, asking)| asking.at == id).map(|(ticket, _)| *ticket).collect();
        for asking in lost.iter().filter_map(|ticket| self.asking.remove(ticket)) {
            if let (Some(value), Some(possible)) = (asking.value, &mut self.keys[asking.key]) {
                possible.insert(Some(value));
            }
        }
        self.paused.remove(&id);
    }

    /// The commander does something that its guards allow, or nothing.
    fn command(&mut self) {
        if !self.proposals.is_empty() && self.random.gen_bool(0.7) {
            let place = self.random.gen_range(0..self.proposals.len());
            let change = self.proposals.swap_remove(place);
            return self.commit(change);
        }
        let possible = match self.random.gen_range(0..10) {
            0 => return self.admit(),
            1 => return self.park(),
            // Whatever can be done now, so that much happens within one lease.
            2..6 => {
                vec![self.join(), self.promote(), self.drop_one(), self.drop_dead(), self.swap(), self.begin_anew()]
            }
            6..8 => vec![self.join(), self.promote(), self.swap(), self.begin_anew()],
            _ => vec![self.drop_dead(), self.begin_anew()],
        };
        let Some((holders, cause)) = possible.into_iter().flatten().choose(&mut self.random) else { return };
        let anew = matches!(cause, Cause::BegunAnew { .. });
        let change = SetChain { range: R, expected: self.world.chain().epoch, holders, anew, cause };
        if self.random.gen_bool(0.6) { self.commit(change) } else { self.proposals.push(change) }
    }

    fn commit(&mut self, change: SetChain) {
        let mut dictionary = Dictionary::clone(&self.world.dictionary);
        let anew = change.anew;
        let (applied, _) = dictionary.apply(&Command::SetChains(vec![change]));
        if matches!(applied, Applied::Changed(_)) {
            self.world.dictionary = Arc::new(dictionary);
            if anew {
                self.keys.iter_mut().for_each(|possible| *possible = None);
            }
        }
    }

    fn admit(&mut self) {
        for (id, node) in &self.world.nodes {
            let mut dictionary = Dictionary::clone(&self.world.dictionary);
            let (applied, _) = dictionary.apply(&Command::Admit(candidate(*id, node.incarnation)));
            if matches!(applied, Applied::Changed(_)) {
                self.world.dictionary = Arc::new(dictionary);
            }
        }
    }

    fn holders(&self) -> Vec<Holder> {
        self.world.chain().holders.clone()
    }

    fn join(&mut self) -> Option<(Vec<Holder>, Cause)> {
        let mut holders = self.holders();
        let id = self.any_node();
        if holders.len() >= 3 || holders.iter().any(|holder| holder.node == id || !holder.state.serves()) {
            return None;
        }
        holders.push(Holder { node: id, incarnation: self.world.nodes[&id].incarnation, state: HolderState::Loading });
        Some((holders, Cause::Placement))
    }

    fn promote(&mut self) -> Option<(Vec<Holder>, Cause)> {
        let mut holders = self.holders();
        let joiner = holders.last_mut().filter(|holder| !holder.state.serves())?;
        let said = (self.world.chain().epoch, joiner.node, joiner.incarnation);
        if !self.caught_up.contains(&said) {
            return None;
        }
        joiner.state = HolderState::Serving;
        Some((holders, Cause::CaughtUp(said.1)))
    }

    /// G19: a remaining member that serves has answered now, in its listed life and this epoch.
    fn is_vouched_without(&mut self, lost: NodeId) -> bool {
        let epoch = self.world.chain().epoch;
        let others: Vec<NodeId> = self.world.chain().serving().map(|h| h.node).filter(|id| *id != lost).collect();
        others.into_iter().any(|id| {
            let listed = self.world.chain().holders.iter().find(|holder| holder.node == id).expect("it is listed");
            let lives = self.world.nodes[&id].incarnation == listed.incarnation;
            if !lives || !self.is_awake(id) || self.cut_off.contains(&id) {
                return false;
            }
            self.world.tell(id, Input::Vouch { id: 1, ranges: vec![(R, epoch)] });
            let vouched = std::mem::take(&mut self.world.nodes.get_mut(&id).expect("a node").vouched);
            vouched.last().is_some_and(|(_, ranges)| ranges.contains(&R))
        })
    }

    fn drop_member(&mut self, lost: NodeId) -> Option<(Vec<Holder>, Cause)> {
        let holders: Vec<Holder> = self.holders().into_iter().filter(|holder| holder.node != lost).collect();
        self.is_vouched_without(lost).then(|| (holders, Cause::Lost { node: lost, evidence: String::new() }))
    }

    fn drop_one(&mut self) -> Option<(Vec<Holder>, Cause)> {
        let lost = self.holders().choose(&mut self.random)?.node;
        self.drop_member(lost)
    }

    fn drop_dead(&mut self) -> Option<(Vec<Holder>, Cause)> {
        let dead = |h: &Holder| self.world.dictionary.is_dead(h.node, h.incarnation) || self.paused.contains(&h.node);
        let lost = self.holders().into_iter().find(dead)?.node;
        self.drop_member(lost)
    }

    fn park(&mut self) {
        let (head, epoch) = (self.world.chain().holders[0].node, self.world.chain().epoch);
        if self.world.chain().serving().count() > 1 && self.is_awake(head) {
            self.world.tell(head, Input::Park { range: R, epoch });
            self.hear();
        }
    }

    fn swap(&mut self) -> Option<(Vec<Holder>, Cause)> {
        if !self.parked.contains(&self.world.chain().epoch) {
            return None;
        }
        let mut holders = self.holders();
        let next = (0..holders.len()).filter(|place| holders[*place].state.serves()).choose(&mut self.random)?;
        if next == 0 {
            return Some((holders, Cause::CalledOff));
        }
        let (from, to) = (holders[0].node, holders[next].node);
        let head = holders.remove(next);
        holders.insert(0, head);
        Some((holders, Cause::HandedOver { from, to }))
    }

    /// G22: all who served are known to be dead.
    fn begin_anew(&mut self) -> Option<(Vec<Holder>, Cause)> {
        let dictionary = &self.world.dictionary;
        let chain = self.world.chain();
        if chain.serving().any(|holder| !dictionary.is_dead(holder.node, holder.incarnation)) {
            return None;
        }
        let from = dictionary.newest_copy(chain).map(|former| former.node);
        let node = from.unwrap_or_else(|| *self.world.nodes.keys().choose(&mut self.random).expect("a node"));
        let holder = Holder { node, incarnation: self.world.nodes[&node].incarnation, state: HolderState::Serving };
        Some((vec![holder], Cause::BegunAnew { from, lost: Vec::new() }))
    }

    fn check(&self) {
        let answering: Vec<NodeId> = self.ids().into_iter().filter(|id| self.world.answers(*id)).collect();
        assert!(answering.len() <= 1, "{answering:?} answer: {:?}", self.world.chain());
        let members: Vec<_> = self
            .world
            .chain()
            .serving()
            .filter(|holder| self.world.nodes[&holder.node].incarnation == holder.incarnation)
            .filter_map(|holder| self.world.nodes[&holder.node].store.inspect(R, self.world.now_of(holder.node)))
            .filter(|seen| seen.epoch == self.world.chain().epoch)
            .collect();
        for pair in members.windows(2) {
            assert!(pair[0].applied >= pair[1].applied, "a predecessor lacks something: {pair:?}");
        }
    }

    /// Everything works again: the mesh must come to rest, serving, with equal copies.
    fn heal(&mut self) {
        self.cut_off.clear();
        self.paused.clear();
        self.proposals.clear();
        let pairs: Vec<_> = self.world.cut.iter().copied().filter(|(one, other)| one < other).collect();
        pairs.into_iter().for_each(|(one, other)| self.world.mend_link(one, other));
        for _ in 0..200 {
            self.admit();
            self.parked.clear();
            let change = self.drop_dead().or_else(|| self.begin_anew()).or_else(|| self.promote());
            if let Some((holders, cause)) = change {
                let anew = matches!(cause, Cause::BegunAnew { .. });
                self.commit(SetChain { range: R, expected: self.world.chain().epoch, holders, anew, cause });
            }
            self.pass(50);
            for id in self.ids() {
                self.adopt(id);
            }
            while self.beats.values().any(|queue| !queue.is_empty()) {
                let lanes: Vec<_> = self.beats.keys().copied().collect();
                lanes.into_iter().for_each(|(from, to)| self.deliver_beat(from, to));
            }
            self.world.deliver();
            self.hear();
            if self.swap().is_some() {
                let change = (self.holders(), Cause::CalledOff);
                let expected = self.world.chain().epoch;
                self.commit(SetChain { range: R, expected, holders: change.0, anew: false, cause: change.1 });
            }
            self.check();
        }
        let head = self.world.chain().holders[0].node;
        assert!(self.world.chain().serving().count() == self.holders().len(), "{:?} never caught up", self.holders());
        assert!(self.world.answers(head), "{:?} does not serve: {:?}", self.world.chain(), self.world.see(head));
        let serving: Vec<NodeId> = self.world.chain().serving().map(|holder| holder.node).collect();
        self.world.equal(&serving);
        for key in 0..self.keys.len() {
            assert!(self.asking.values().all(|asking| asking.key != key), "a command was never answered");
            self.asking.insert(self.world.tickets, Asking { at: head, key, value: None });
            let before = self.answered;
            self.world.ask(head, &format!("GET key-number-{key}"));
            self.hear();
            assert_eq!(self.answered, before + 1);
        }
    }
}

fn play(seed: u64, steps: usize) -> (u64, u64) {
    let mut story = Story::new(seed);
    story.world.adopt_all();
    for _ in 0..steps {
        story.happen();
    }
    story.heal();
    (story.acknowledged, story.world.chain().epoch.0)
}

#[test]
fn random_worlds_lose_nothing_and_have_one_head() {
    let runs = std::env::var("KEYVAL_CHAIN_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(200);
    let first = std::env::var("KEYVAL_CHAIN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (mut acknowledged, mut epochs) = (0, 0);
    for seed in first..first + runs {
        let played = std::panic::catch_unwind(|| play(seed, 1500));
        let (writes, epoch) = played.unwrap_or_else(|cause| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(cause)
        });
        acknowledged += writes;
        epochs += epoch;
    }
    // Runs in which nothing is ever answered or changed prove nothing.
    assert!(acknowledged > 8 * runs && epochs > 10 * runs, "{acknowledged} writes, {epochs} epochs in {runs} runs");
}
