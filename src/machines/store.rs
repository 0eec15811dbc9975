//! A worker's set of ranges: hands each input to the ranges it concerns, and settles them once in a step.
//!
//! A batch of commands is carried out in one go, and what can be answered leaves in one effect. After it each range that was
//! touched is settled: forwards, acknowledgements and answers for all that came together leave then, so that batches form
//! by what is at hand and no timer is waited for. A store at rest, with nothing that waits or ends, has no deadline.
//!
//! The clock: `now` is to be read after the input was taken from the mailbox. A value read in a step is the value at that
//! instant, since nothing else changes the store; so leases that are valid at `now` are valid for it (G11), however long
//! the step or the way of the answer takes.
//!
//! Not here: what a range does with what it is told (`chain`), and which worker owns which range (the postman: range modulo
//! workers).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::keyspace::Keyspace;
use crate::machines::Machine;
use crate::machines::chain::{Around, Asked, Budget, Context, Garbage, Holding, place_in};
use crate::machines::heartbeat::{Adoption, Leases};
use crate::messages::chain::{ChainFrame, Change, Counted};
use crate::messages::client::{Outcome, Request};
use crate::messages::ownership::{Chain, ReplicationMode};
use crate::types::{Epoch, Incarnation, Instant, NodeId, Now, RangeId, Timing, Version};

pub use crate::machines::chain::{Inspect, Limits, Progress, Transfers};

/// Bytes of recent writes that a store keeps for members that come back, over all its ranges.
const BACKLOG_BYTES: usize = 256 << 20;

/// Who this store is.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Which worker, counted from 0.
    pub worker: usize,
    /// How many there are. This store owns the ranges that are `worker` modulo `workers`.
    pub workers: usize,
    /// How long a command is held before it is refused as not applied (`client.park`).
    pub park: Duration,
}

/// What a store machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// This is agreed now (from the heartbeat machine).
    Adopt(Arc<Adoption>),
    /// These leases are held now (from the heartbeat machine).
    Leases(Arc<Leases>),
    /// Carry these out, in order, for ranges of this store (others are refused). Answered by one or more `Effect::Outcomes`.
    Batch {
        /// Names the batch; chosen by the asker.
        ticket: u64,
        /// The node by whose door they came: with a session's name it is one session of the mesh.
        from: NodeId,
        /// The commands.
        requests: Vec<Request>,
    },
    /// Another member of a chain says something.
    Peer {
        /// Who.
        from: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What.
        frame: ChainFrame,
    },
    /// The link to a peer, its data or its bulk lane, was had again, or is new: say Hello where it is a neighbour.
    LinkUp(NodeId),
    /// The link to a peer, its data or its bulk lane, broke: what was sent and not acknowledged may be lost.
    LinkDown(NodeId),
    /// Hand this range over (G20).
    Park {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// Do you serve these? (G19)
    Vouch {
        /// Names the asking.
        id: u64,
        /// Range and epoch.
        ranges: Vec<(RangeId, Epoch)>,
    },
    /// Somebody compares copies, and asks the head of a range.
    Count {
        /// Who.
        asker: NodeId,
        /// Its name for the asking.
        id: u64,
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
        /// From which place on.
        from: u64,
    },
}

/// What a store machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// What became of commands of a batch. Every command of a batch is answered once.
    Outcomes {
        /// Which batch.
        ticket: u64,
        /// Place in the batch of the first outcome here.
        from: u32,
        /// One a command, neighbours in the batch.
        outcomes: Vec<Outcome>,
    },
    /// Say this to another member of a chain; in order on a link, lost only with it.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        frame: ChainFrame,
    },
    /// A joiner has all, and this source is bound to it (G15; to ownership here, and to the commander).
    CaughtUp {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
        /// Who.
        joiner: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// A range is parked and clean (G20; to ownership).
    Parked {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// The answer to `Vouch`.
    Vouched {
        /// Which asking.
        id: u64,
        /// For these.
        ranges: Vec<RangeId>,
    },
    /// What this member holds of an interval, for who compares copies (to ownership here, and to the asker).
    Counted {
        /// Who asked.
        asker: NodeId,
        /// Its name for the asking.
        id: u64,
        /// What.
        counted: Counted,
    },
}

/// The ranges of one worker.
#[derive(Clone, Debug)]
pub struct Store {
    config: Config,
    /// By range divided by the number of workers. None where this node neither is a member nor keeps a copy.
    holdings: Vec<Option<Box<Holding>>>,
    adoption: Option<Arc<Adoption>>,
    around: Around,
    limits: Limits,
    /// Ranges touched in this step.
    touched: Vec<RangeId>,
    /// Ranges in which a command or an answer waits.
    stalled: BTreeSet<RangeId>,
    alarms: BTreeSet<(Instant, RangeId)>,
}

impl Machine for Store {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Timer => {}
            Input::Adopt(adoption) => self.on_adopt(now, adoption, effects),
            Input::Leases(leases) => self.on_leases(leases),
            Input::Batch { ticket, from, requests } => self.on_batch(now, (ticket, from), requests, effects),
            Input::Peer { from, incarnation, frame } => {
                let range = frame.range;
                self.with(now, range, effects, |holding, ctx| holding.hear(from, incarnation, frame, ctx));
            }
            Input::LinkUp(node) => self.at_neighbours(now, node, effects, Holding::link_up),
            Input::LinkDown(node) => self.at_neighbours(now, node, effects, Holding::link_down),
            Input::Park { range, epoch } => self.with(now, range, effects, |holding, _| {
                // G20: an order for another epoch has been overtaken.
                if holding.chain().epoch == epoch {
                    holding.park();
                }
            }),
            Input::Vouch { id, ranges } => self.on_vouch(id, &ranges, effects),
            Input::Count { asker, id, range, epoch, from } => {
                self.with(now, range, effects, |holding, ctx| holding.count(asker, id, epoch, from, ctx));
            }
        }
        self.ring(now);
        self.settle(now, effects);
        self.around.garbage.free_some(now.instant, self.limits.freed_a_step);
        #[cfg(feature = "planted")]
        {
            self.around.step_before = now.instant;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let alarm = self.alarms.first().map(|(alarm, _)| *alarm);
        [alarm, self.around.garbage.deadline(), self.around.budget.deadline()].into_iter().flatten().min()
    }
}

impl Store {
    /// A store that holds nothing yet, and knows no dictionary.
    pub fn new(config: Config) -> Self {
        Self::with_limits(config, Limits::default())
    }

    /// The same, with other bounds.
    pub fn with_limits(config: Config, limits: Limits) -> Self {
        assert!(config.worker < config.workers, "{config:?}");
        Self {
            config,
            holdings: Vec::new(),
            adoption: None,
            around: Around {
                me: config.me,
                incarnation: config.incarnation,
                park: config.park,
                limits,
                timing: Timing::default(),
                min_copies: 1,
                factor: 1,
                leavers: BTreeSet::new(),
                mode: ReplicationMode::Value,
                paused: false,
                version: Version(0),
                leases: Arc::default(),
                round: 0,
                parts: 0,
                starved: BTreeSet::new(),
                budget: Budget::default(),
                waiting: (0, 0),
                transfers: Transfers::default(),
                garbage: Garbage::default(),
                #[cfg(feature = "planted")]
                step_before: Instant(0),
            },
            limits,
            touched: Vec::new(),
            stalled: BTreeSet::new(),
            alarms: BTreeSet::new(),
        }
    }

    /// What can be seen of a range; none where this node neither is a member nor keeps a copy.
    pub fn inspect(&self, range: RangeId, now: Now) -> Option<Inspect> {
        self.holding(range).map(|holding| holding.inspect(now, &self.around))
    }

    /// The chain of a range as this store knows it; none where this node neither is a member nor keeps a copy.
    pub fn chain(&self, range: RangeId) -> Option<&Arc<Chain>> {
        self.holding(range).map(Holding::chain)
    }

    /// How far the copy of a range has come; none where this node neither is a member nor keeps one.
    pub fn progress(&self, range: RangeId) -> Option<Progress> {
        self.holding(range).map(Holding::progress)
    }

    /// The bytes of recent writes that are kept for the range that keeps the most.
    pub fn largest_backlog(&self) -> usize {
        self.holdings.iter().flatten().map(|holding| holding.progress().backlog).max().unwrap_or(0)
    }

    /// Whether this node would answer for a range at this instant. At most one node of the mesh may say so.
    pub fn answers(&self, range: RangeId, now: Now) -> bool {
        self.holding(range).is_some_and(|holding| holding.would_answer(now.instant, &self.around))
    }

    /// A digest of all keys and values of a range.
    pub fn digest(&self, range: RangeId) -> Option<u64> {
        self.holding(range).map(Holding::digest)
    }

    /// How many keys this node holds of a range, read or not.
    pub fn keys(&self, range: RangeId) -> usize {
        self.holding(range).map_or(0, Holding::keys)
    }

    /// The ranges of which this node holds anything.
    pub fn ranges(&self) -> impl Iterator<Item = RangeId> {
        let owned = (self.config.worker..).step_by(self.config.workers);
        owned.zip(&self.holdings).filter(|(_, holding)| holding.is_some()).map(|(range, _)| RangeId(range as u16))
    }

    /// What a holder keeps of a range, key by key: for checkers.
    pub fn keyspace(&self, range: RangeId) -> Option<&Keyspace> {
        self.holding(range).map(Holding::keyspace)
    }

    /// Changes a copy behind everybody's back, as a flipped bit or a fault of ours would: for stories that show it found out.
    pub fn tamper(&mut self, range: RangeId, change: &Change) {
        let place = self.place(range).and_then(|place| self.holdings.get_mut(place)?.as_deref_mut());
        place.into_iter().for_each(|holding| holding.tamper(change));
    }

    /// Counters of what was sent to other members.
    pub fn transfers(&self) -> Transfers {
        self.around.transfers
    }

    /// About how much memory all ranges take, with what is still to be freed.
    pub fn memory(&self) -> usize {
        let held = self.holdings.iter().flatten().map(|holding| holding.bytes()).sum::<usize>();
        held + self.around.garbage.bytes()
    }

    /// The dictionary version adopted.
    pub fn version(&self) -> Version {
        self.around.version
    }

    /// How many commands and answers wait.
    pub fn waiting(&self) -> usize {
        self.around.waiting.0
    }

    fn holding(&self, range: RangeId) -> Option<&Holding> {
        self.holdings.get(self.place(range)?)?.as_deref()
    }

    /// Where a range stands here, if this store owns it.
    fn place(&self, range: RangeId) -> Option<usize> {
        let range = range.0 as usize;
        (range % self.config.workers == self.config.worker).then_some(range / self.config.workers)
    }

    fn with(
        &mut self,
        now: Now,
        range: RangeId,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Holding, &mut Context),
    ) {
        let Some(place) = self.place(range) else { return };
        let Some(holding) = self.holdings.get_mut(place).and_then(Option::as_deref_mut) else { return };
        act(holding, &mut Context { now, around: &mut self.around, effects, expected: 1 });
        self.touched.push(range);
    }

    fn at_neighbours(
        &mut self,
        now: Now,
        node: NodeId,
        effects: &mut Vec<Effect>,
        act: impl Fn(&mut Holding, NodeId, &mut Context),
    ) {
        for holding in self.holdings.iter_mut().flatten().filter(|holding| holding.is_neighbour(node)) {
            act(holding, node, &mut Context { now, around: &mut self.around, effects, expected: 1 });
            self.touched.push(holding.range());
        }
    }

    fn on_batch(&mut self, now: Now, (ticket, from): (u64, NodeId), requests: Vec<Request>, effects: &mut Vec<Effect>) {
        let count = requests.len();
        for (place, request) in requests.into_iter().enumerate() {
            let range = request.range;
            let mut ctx = Context { now, around: &mut self.around, effects, expected: count - place };
            let asked = Asked { ticket, place: place as u32, since: now.instant, from, request };
            let index = range.0 as usize;
            let index = (index % self.config.workers == self.config.worker).then_some(index / self.config.workers);
            let holding = index.and_then(|index| self.holdings.get_mut(index)).and_then(Option::as_deref_mut);
            let Some(holding) = holding else {
                let epoch =
                    self.adoption.as_ref().and_then(|adoption| chain_of(adoption, range)).map(|chain| chain.epoch);
                asked.refuse_not_head(epoch.unwrap_or_default(), &mut ctx);
                continue;
            };
            if holding.submit(asked, &mut ctx) && self.touched.last() != Some(&range) {
                self.touched.push(range);
            }
        }
    }

    /// What changed since the version adopted before: ranges whose chain is the same record need no look.
    fn on_adopt(&mut self, now: Now, adoption: Arc<Adoption>, effects: &mut Vec<Effect>) {
        let dictionary = Arc::clone(&adoption.published.dictionary);
        // Stores hear adoptions in the order of versions; the same version comes again when only the commander changed.
        if dictionary.version < self.around.version {
            return;
        }
        let before = self.adoption.replace(Arc::clone(&adoption));
        let owned = dictionary.chains.len().saturating_sub(self.config.worker).div_ceil(self.config.workers);
        self.holdings.resize_with(owned.max(self.holdings.len()), || None);
        self.around.version = dictionary.version;
        self.around.timing = dictionary.settings.timing;
        self.around.min_copies = dictionary.settings.min_copies as usize;
        self.around.factor = dictionary.settings.factor as usize;
        self.around.leavers = dictionary.leavers().collect();
        self.around.mode = dictionary.settings.mode;
        self.around.paused = dictionary.paused.is_some();
        self.around.limits.backlog_bytes = self.limits.backlog_bytes.min(BACKLOG_BYTES / owned.max(1));
        self.around.round += 1;
        for place in 0..owned {
            let range = RangeId((place * self.config.workers + self.config.worker) as u16);
            let chain = dictionary.chain(range);
            let known = before.as_ref().and_then(|before| chain_of(before, range));
            if known.is_none_or(|known| !Arc::ptr_eq(known, chain)) {
                self.adopt_chain(now, place, range, chain, &adoption.promises, effects);
            }
        }
        self.touched.extend(&self.stalled);
    }

    fn adopt_chain(
        &mut self,
        now: Now,
        place: usize,
        range: RangeId,
        chain: &Arc<Chain>,
        promises: &BTreeMap<NodeId, Instant>,
        effects: &mut Vec<Effect>,
    ) {
        let slot = &mut self.holdings[place];
        if slot.is_none() && place_in(chain, self.config.me, self.config.incarnation).is_none() {
            return;
        }
        let holding = slot.get_or_insert_with(|| Box::new(Holding::new(range)));
        let mut ctx = Context { now, around: &mut self.around, effects, expected: 1 };
        let wanted = holding.adopt(chain, promises, &mut ctx);
        if wanted {
            self.touched.push(range);
        } else if let Some(holding) = slot.take() {
            if let Some(alarm) = holding.alarm {
                self.alarms.remove(&(alarm, range));
            }
            self.stalled.remove(&range);
            holding.free(&mut ctx);
        }
    }

    fn on_leases(&mut self, leases: Arc<Leases>) {
        self.around.leases = leases;
        self.around.round += 1;
        self.touched.extend(&self.stalled);
    }

    /// G19: which of these ranges this incarnation serves, in exactly the epoch asked for.
    fn on_vouch(&mut self, id: u64, ranges: &[(RangeId, Epoch)], effects: &mut Vec<Effect>) {
        let serves = |(range, epoch): &&(RangeId, Epoch)| {
            self.holding(*range).is_some_and(|holding| holding.serves() && holding.chain().epoch == *epoch)
        };
        let ranges = ranges.iter().filter(serves).map(|(range, _)| *range).collect();
        effects.push(Effect::Vouched { id, ranges });
    }

    /// Ranges whose time has come.
    fn ring(&mut self, now: Now) {
        while let Some((alarm, range)) = self.alarms.first().copied().filter(|(alarm, _)| *alarm <= now.instant) {
            self.alarms.remove(&(alarm, range));
            if let Some(holding) = self.place(range).and_then(|place| self.holdings[place].as_deref_mut()) {
                holding.alarm = None;
            }
            self.touched.push(range);
        }
    }

    fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.settle_touched(now, effects);
        // Parts that were received make room for ranges that had to wait for it.
        while !self.around.starved.is_empty() && self.around.parts < self.around.limits.parts_a_store {
            self.touched.extend(std::mem::take(&mut self.around.starved));
            self.settle_touched(now, effects);
        }
        while let Some(range) = self.around.budget.call(now.instant) {
            self.touched.push(range);
            self.settle_touched(now, effects);
        }
    }

    fn settle_touched(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for range in touched.drain(..) {
            let Some(place) = self.place(range) else { continue };
            let Some(holding) = self.holdings[place].as_deref_mut() else { continue };
            let next = holding.settle(&mut Context { now, around: &mut self.around, effects, expected: 1 });
            if holding.waits_for_right() {
                self.stalled.insert(range);
            } else if !self.stalled.is_empty() {
                self.stalled.remove(&range);
            }
            // An alarm that stands earlier is left: it rings once for nothing, which is cheaper than to move it each step.
            let Some(next) = next.filter(|next| holding.alarm.is_none_or(|alarm| *next < alarm)) else { continue };
            if let Some(alarm) = holding.alarm.replace(next) {
                self.alarms.remove(&(alarm, range));
            }
            self.alarms.insert((next, range));
        }
        self.touched = touched;
    }
}

fn chain_of(adoption: &Adoption, range: RangeId) -> Option<&Arc<Chain>> {
    adoption.published.dictionary.chains.get(range.0 as usize)
}
