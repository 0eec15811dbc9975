//! What one range needs next: a pure function of what is agreed and what is observed.
//!
//! Nothing is remembered from step to step, so a new commander goes on where the old one ended (CHAIN.md, section 3): it
//! looks at each range again and finds the same next step. What is lost is dropped first, then who has caught up is
//! promoted, then who is missing joins, and last whoever is one too many leaves, by hand-over if it leads.

use crate::machines::dictionary::Dictionary;
use crate::machines::placement::Drone;
use crate::messages::ownership::{Cause, Chain, Holder, HolderState, OnTotalLoss, SetChain};
use crate::planted::{self, Bug};
use crate::types::{Instant, NodeId, RangeId};

use super::evidence::Evidence;
use super::watch::Watch;

/// What a range's next step is decided from.
pub(super) struct View<'a> {
    pub now: Instant,
    pub dictionary: &'a Dictionary,
    pub watch: &'a Watch,
    pub evidence: &'a Evidence,
    /// Who should hold each range, head first.
    pub target: &'a [Vec<NodeId>],
    /// Who may be given ranges, those who may soon be back among them.
    pub able: &'a [Drone],
}

/// The next step of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// None: it is as it should be.
    Nothing,
    /// Something must happen first that is not in the commander's hand.
    Wait(Why),
    /// Put this into the log.
    Change(Urgency, SetChain),
    /// Put this into the log, as soon as not too many are loading: a node joins.
    Join(SetChain),
    /// One of these must say first that it serves the range (G19).
    Vouch(Vec<Holder>),
    /// The head must park first (G20), so that this node can lead.
    Park(Holder, NodeId),
    /// The head did not park in time: let it go, and try again later.
    CallOff(SetChain),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// A joiner has not caught up.
    Loading,
    /// A head did not park in time; it is told again later.
    Busy,
    /// Two heard nodes do not reach each other, so that one cannot receive the range from the other.
    Apart(NodeId, NodeId),
    /// Nobody who serves the range is heard, and silence is no death.
    Silent(NodeId),
    /// A holder that is merely silent may soon be back, and as many as must are left.
    Absent(NodeId),
    /// All who served are dead, and a newer copy than any at hand may come back.
    Copy(NodeId),
    /// All who served are dead, and the operator's word is wanted.
    Operator,
    /// All who served are dead, and there is no drone to begin anew.
    Drones,
}

/// Which changes go first when there are more than fit into one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Nobody serves the range.
    Unserved,
    /// A lost member holds up its chain.
    Lost,
    /// A step of a repair or a move is complete.
    Progress,
    /// Only marks change.
    Marks,
}

impl Need {
    /// Whether something is to be done, or ends by itself: not what waits for somebody to come back, or for people.
    pub fn is_in_hand(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Wait(why) => matches!(why, Why::Loading | Why::Busy),
            Self::Change(..) | Self::Join(_) | Self::Vouch(_) | Self::Park(..) | Self::CallOff(_) => true,
        }
    }
}

impl View<'_> {
    pub fn need(&self, range: RangeId) -> Need {
        let chain = self.dictionary.chain(range);
        let over = |holder: &Holder| self.is_dead(holder) || planted::is(Bug::SilentDeath) && !self.hears(holder);
        if chain.serving().all(over) {
            return self.begin_anew(range, chain);
        }
        if let Some(need) = self.drop_lost(range, chain) {
            return need;
        }
        if let Some(silent) = chain.serving().find(|holder| !self.hears(holder))
            && !chain.serving().any(|holder| self.hears(holder))
        {
            return Need::Wait(Why::Silent(silent.node));
        }
        if let Some(need) = self.part(range, chain) {
            return need;
        }
        let need = match chain.holders.last() {
            Some(joiner) if joiner.state == HolderState::Loading => self.load(range, chain, *joiner),
            _ => self.settle(range, chain),
        };
        match need {
            // What a head was parked for has been overtaken by something that takes its time: clients need not wait for it.
            Need::Wait(_) | Need::Join(_) if self.is_parked(range, chain) => {
                Need::Change(Urgency::Lost, self.let_go(range, chain))
            }
            need => need,
        }
    }

    /// Whether the head is parked in this epoch, or was told to be.
    fn is_parked(&self, range: RangeId, chain: &Chain) -> bool {
        self.evidence.has_parked(range, chain) || self.evidence.parking_since(range, chain).is_some()
    }

    /// G22, G23. The newest surviving copy begins the range anew, or an empty one if there is none.
    fn begin_anew(&self, range: RangeId, chain: &Chain) -> Need {
        if self.dictionary.settings.on_total_loss == OnTotalLoss::Wait {
            return Need::Wait(Why::Operator);
        }
        let copy = self.dictionary.newest_copy(chain);
        let node = match copy {
            Some(copy) if !self.watch.hears(self.dictionary, copy.node, copy.incarnation) => {
                return Need::Wait(Why::Copy(copy.node));
            }
            Some(copy) => copy.node,
            None => match self.newcomer(range, chain) {
                Some(node) => node,
                None => return Need::Wait(Why::Drones),
            },
        };
        let incarnation = self.dictionary.roster[&node].node.incarnation;
        let holder = Holder { node, incarnation, state: HolderState::Serving };
        let lost = chain.serving().map(|holder| holder.node).collect();
        let cause = Cause::BegunAnew { from: copy.map(|copy| copy.node), lost };
        let change = SetChain { range, expected: chain.epoch, holders: vec![holder], anew: true, cause };
        Need::Change(Urgency::Unserved, change)
    }

    /// Who begins a range anew where no copy is left: who should hold it, or whoever is there.
    fn newcomer(&self, range: RangeId, chain: &Chain) -> Option<NodeId> {
        let wanted = self.target[range.0 as usize].iter().copied().find(|node| self.hears_node(*node));
        wanted.or_else(|| self.substitute(chain))
    }

    /// A member that is dead or suspected is dropped, if somebody who serves is left and has said so since (G19).
    fn drop_lost(&self, range: RangeId, chain: &Chain) -> Option<Need> {
        let lost = chain.holders.iter().filter(|holder| !self.hears(holder) && self.may_go(chain, holder));
        // The dead first: no word about them is taken back.
        let lost = lost.min_by_key(|holder| (!self.is_dead(holder), holder.state.serves()))?;
        let change = self.change(range, chain, without(chain, lost), self.cause_of_loss(lost));
        // Who is loading has nothing that anybody was promised.
        if !lost.state.serves() {
            return Some(Need::Change(Urgency::Lost, change));
        }
        let since = self.watch.suspicion(lost.node, lost.incarnation).map(|(since, _)| since);
        Some(self.once_vouched(range, chain, lost, since, Need::Change(Urgency::Lost, change)))
    }

    /// Whether a lost member can be dropped: this commander itself suspects it, or its death is known, and another who
    /// serves is heard.
    fn may_go(&self, chain: &Chain, lost: &Holder) -> bool {
        let certain = self.is_dead(lost) || self.watch.suspicion(lost.node, lost.incarnation).is_some();
        certain && self.vouchers(chain, lost).next().is_some()
    }

    /// `need`, if one of those who stay has said, since the suspicion arose and not long ago, that it serves the range in
    /// this epoch.
    fn once_vouched(&self, range: RangeId, chain: &Chain, lost: &Holder, since: Option<Instant>, need: Need) -> Need {
        let fresh = self.now - self.dictionary.settings.timing.failure_timeout;
        let since = since.map_or(fresh, |since| since.max(fresh));
        let vouchers: Vec<Holder> = self.vouchers(chain, lost).copied().collect();
        let has_word = |holder: &Holder| self.evidence.has_vouched(range, chain.epoch, holder, since);
        let said = vouchers.iter().any(has_word);
        if said { need } else { Need::Vouch(vouchers) }
    }

    fn vouchers<'c>(&self, chain: &'c Chain, lost: &Holder) -> impl Iterator<Item = &'c Holder> {
        let lost = lost.node;
        chain.serving().filter(move |holder| holder.node != lost && self.hears(holder))
    }

    /// Two heard members that do not reach each other stop their chain: the head needs a word of every other (G12). One of
    /// them goes: whoever is loading, else the one further from the head.
    fn part(&self, range: RangeId, chain: &Chain) -> Option<Need> {
        let timing = &self.dictionary.settings.timing;
        let apart = |a: &Holder, b: &Holder| self.watch.are_apart(self.now, a.node, b.node, timing);
        let (place, out) = chain.holders.iter().enumerate().skip(1).rev().find(|(place, holder)| {
            self.hears(holder) && chain.holders[..*place].iter().any(|other| self.hears(other) && apart(other, holder))
        })?;
        let other = chain.holders[..place].iter().find(|other| self.hears(other) && apart(other, out))?;
        let name = |holder: &Holder| self.dictionary.name_of(holder.node);
        let evidence = shortened(&format!("{} and {} do not reach each other", name(other), name(out)));
        let cause = Cause::Lost { node: out.node, evidence };
        let change = self.change(range, chain, without(chain, out), cause);
        let need = Need::Change(Urgency::Lost, change);
        Some(if out.state.serves() { self.once_vouched(range, chain, out, None, need) } else { need })
    }

    /// A joiner that has all is promoted (G17); one that is not wanted any more goes.
    fn load(&self, range: RangeId, chain: &Chain, joiner: Holder) -> Need {
        if self.evidence.has_caught_up(range, chain) {
            let mut holders = self.marked(range, &chain.holders);
            let last = holders.last_mut().expect("the joiner");
            last.state = HolderState::Serving;
            return Need::Change(Urgency::Progress, self.change(range, chain, holders, Cause::CaughtUp(joiner.node)));
        }
        let wanted = self.wants(range, joiner.node)
            || self.dictionary.is_short(chain)
            || self.stands_in(range, chain, joiner.node);
        if !wanted {
            return Need::Change(
                Urgency::Progress,
                self.change(range, chain, without(chain, &joiner), Cause::Placement),
            );
        }
        Need::Wait(Why::Loading)
    }

    /// Nobody is loading and nobody is lost: who is missing joins, who is one too many leaves, the wanted one leads.
    fn settle(&self, range: RangeId, chain: &Chain) -> Need {
        let target = &self.target[range.0 as usize];
        let Some(first) = target.first() else { return Need::Nothing };
        let is_member = |node: &NodeId| chain.holders.iter().any(|holder| holder.node == *node);
        if let Some(missing) = target.iter().find(|node| !is_member(node)) {
            return self.join(range, chain, *missing);
        }
        let head = chain.holders[0];
        let mut extra = chain.holders.iter().filter(|holder| !self.wants(range, holder.node));
        match extra.next_back() {
            Some(extra) if extra.node != head.node => self.leave(range, chain, extra),
            Some(_) => self.hand_over(range, chain, *first),
            None if head.node != *first && !self.hears_node(*first) => Need::Wait(Why::Absent(*first)),
            None if head.node != *first => self.hand_over(range, chain, *first),
            None => self.tidy(range, chain),
        }
    }

    /// The joiner stands behind the tail (G18). Who is to leave for it is marked in the same step, so that placement, and
    /// people, see the move for what it is.
    fn join(&self, range: RangeId, chain: &Chain, wanted: NodeId) -> Need {
        let stranger = self.stranger(chain, wanted);
        let why = match stranger {
            _ if !self.hears_node(wanted) => Some(Why::Absent(wanted)),
            Some(other) => Some(Why::Apart(other, wanted)),
            None => None,
        };
        let node = match why {
            None => wanted,
            Some(why) => {
                if let Some(need) = self.see_off(range, chain, stranger) {
                    return need;
                }
                // Rather another one than a copy too few; but a move can wait.
                let settings = &self.dictionary.settings;
                let pressing = match why {
                    // It may be back soon. But clients' writes wait for these copies, and leavers do not wait.
                    Why::Absent(_) => chain.serving().count() < usize::from(settings.min_copies),
                    _ => self.dictionary.lacks_copies(chain),
                };
                match self.substitute(chain).filter(|_| pressing) {
                    Some(node) => node,
                    None => return Need::Wait(why),
                }
            }
        };
        let incarnation = self.dictionary.roster[&node].node.incarnation;
        let joiner = Holder { node, incarnation, state: HolderState::Loading };
        let mut holders = self.marked(range, &chain.holders);
        holders.push(joiner);
        let join = Need::Join(self.change(range, chain, holders, Cause::Placement));
        // Whoever joins gives up the copy it was left with, which counts if those who serve are lost (G22). So one of them says
        // first that it is there: a head may have died unseen, and this be all that is left of what it answered.
        let keeps = chain.former.iter().any(|copy| (copy.node, copy.incarnation) == (node, incarnation));
        if keeps { self.once_vouched(range, chain, &joiner, None, join) } else { join }
    }

    /// A member that a node did not reach when it was last tried.
    fn stranger(&self, chain: &Chain, node: NodeId) -> Option<NodeId> {
        let timing = &self.dictionary.settings.timing;
        let apart = |holder: &&Holder| self.watch.were_apart(self.now, holder.node, node, timing);
        chain.holders.iter().find(apart).map(|holder| holder.node)
    }

    /// The drone with the fewest ranges that is heard and reaches all members.
    fn substitute(&self, chain: &Chain) -> Option<NodeId> {
        let outside = |node: &NodeId| chain.holders.iter().all(|holder| holder.node != *node);
        let nodes = self.able.iter().map(|drone| drone.node).filter(outside);
        let reaching = nodes.filter(|node| self.hears_node(*node) && self.stranger(chain, *node).is_none());
        reaching.min_by_key(|node| (self.dictionary.tally(*node).held, *node))
    }

    /// Somebody who is to leave goes before the wanted one has come, where there are copies enough without it.
    fn see_off(&self, range: RangeId, chain: &Chain, stranger: Option<NodeId>) -> Option<Need> {
        let is_able = |holder: &&Holder| self.hears(holder) && self.able.iter().any(|drone| drone.node == holder.node);
        let enough = usize::from(self.dictionary.settings.factor).min(self.able.len());
        let leaves = |holder: &&Holder| {
            self.dictionary.drains(holder.node)
                && !self.wants(range, holder.node)
                && chain.serving().filter(is_able).filter(|other| other.node != holder.node).count() >= enough
        };
        let leaver = chain.holders.iter().filter(leaves).min_by_key(|holder| Some(holder.node) != stranger)?;
        if chain.holders[0].node != leaver.node {
            return Some(self.leave(range, chain, leaver));
        }
        let next = chain.serving().filter(is_able).min_by_key(|holder| !self.wants(range, holder.node))?;
        Some(self.hand_over(range, chain, next.node))
    }

    /// Whether a node that is not in the plan has joined because the one that is cannot.
    fn stands_in(&self, range: RangeId, chain: &Chain, joiner: NodeId) -> bool {
        let is_member = |node: &NodeId| chain.holders.iter().any(|holder| holder.node == *node);
        let mut missing = self.target[range.0 as usize].iter().filter(|node| !is_member(node));
        self.dictionary.lacks_copies(chain)
            && !self.dictionary.drains(joiner)
            && missing.any(|node| !self.hears_node(*node) || self.stranger(chain, *node).is_some())
    }

    fn leave(&self, range: RangeId, chain: &Chain, extra: &Holder) -> Need {
        let change = self.change(range, chain, without(chain, extra), Cause::Left(extra.node));
        self.once_vouched(range, chain, extra, None, Need::Change(Urgency::Progress, change))
    }

    /// Another head (G20). One that leaves is dropped at once where the wanted one is next in order.
    fn hand_over(&self, range: RangeId, chain: &Chain, to: NodeId) -> Need {
        let timing = &self.dictionary.settings.timing;
        let head = chain.holders[0];
        let leaves = !self.wants(range, head.node) && chain.holders.get(1).is_some_and(|next| next.node == to);
        let change = if leaves {
            self.change(range, chain, without(chain, &head), Cause::HandedOver { from: head.node, to })
        } else {
            let (first, rest): (Vec<Holder>, Vec<Holder>) = chain.holders.iter().partition(|h| h.node == to);
            let holders = first.into_iter().chain(rest).collect::<Vec<_>>();
            self.change(range, chain, self.marked(range, &holders), Cause::HandedOver { from: head.node, to })
        };
        let parked = self.evidence.has_parked(range, chain);
        let late = self.evidence.parking_since(range, chain).is_some_and(|since| {
            // A head with many dirty writes needs a while; clients are held only so long.
            self.now.since(since) >= timing.failure_timeout * 2
        });
        let next = if parked { Need::Change(Urgency::Progress, change) } else { Need::Park(head, to) };
        let ready = match self.once_vouched(range, chain, &head, None, next.clone()) {
            Need::Vouch(vouchers) if leaves => Need::Vouch(vouchers),
            _ => next,
        };
        match ready {
            Need::Change(..) => ready,
            _ if late => Need::CallOff(self.let_go(range, chain)),
            Need::Park(..) if self.evidence.has_balked(self.now, range, timing.seat_timeout()) => Need::Wait(Why::Busy),
            _ => ready,
        }
    }

    /// Everything lies as it should. A head that was parked for nothing is let go, and marks of moves that were given up
    /// are taken away.
    fn tidy(&self, range: RangeId, chain: &Chain) -> Need {
        if self.is_parked(range, chain) {
            return Need::Change(Urgency::Lost, self.let_go(range, chain));
        }
        let holders = self.marked(range, &chain.holders);
        if holders != chain.holders {
            return Need::Change(Urgency::Marks, self.change(range, chain, holders, Cause::Placement));
        }
        Need::Nothing
    }

    /// A hand-over is called off by a new epoch with the same chain (G20).
    fn let_go(&self, range: RangeId, chain: &Chain) -> SetChain {
        self.change(range, chain, self.marked(range, &chain.holders), Cause::CalledOff)
    }

    /// The members with the marks that the target asks for: who is not wanted is Leaving.
    fn marked(&self, range: RangeId, holders: &[Holder]) -> Vec<Holder> {
        let mark = |holder: &Holder| match holder.state {
            HolderState::Loading => *holder,
            _ if self.wants(range, holder.node) => Holder { state: HolderState::Serving, ..*holder },
            _ => Holder { state: HolderState::Leaving, ..*holder },
        };
        holders.iter().map(mark).collect()
    }

    fn change(&self, range: RangeId, chain: &Chain, holders: Vec<Holder>, cause: Cause) -> SetChain {
        SetChain { range, expected: chain.epoch, holders, anew: false, cause }
    }

    /// Why a lost member is dropped, as it is kept with the change.
    fn cause_of_loss(&self, lost: &Holder) -> Cause {
        let node = lost.node;
        match self.dictionary.member(node) {
            None => Cause::Dropped(node),
            Some(member) if lost.incarnation < member.node.incarnation => Cause::Restarted(node),
            Some(member) if member.is_over() && self.watch.has_expired(node, lost.incarnation) => Cause::Expired(node),
            Some(member) if member.is_over() => Cause::Dropped(node),
            Some(_) => {
                let evidence = self.watch.suspicion(node, lost.incarnation).map_or("", |(_, evidence)| evidence);
                Cause::Lost { node, evidence: shortened(evidence) }
            }
        }
    }

    fn wants(&self, range: RangeId, node: NodeId) -> bool {
        self.target[range.0 as usize].contains(&node)
    }

    fn is_dead(&self, holder: &Holder) -> bool {
        self.dictionary.is_dead(holder.node, holder.incarnation)
    }

    /// Whether the present life of a node is heard.
    fn hears_node(&self, node: NodeId) -> bool {
        let member = self.dictionary.member(node);
        member.is_some_and(|member| self.watch.hears(self.dictionary, node, member.node.incarnation))
    }

    fn hears(&self, holder: &Holder) -> bool {
        self.watch.hears_holder(self.dictionary, holder)
    }
}

fn without(chain: &Chain, lost: &Holder) -> Vec<Holder> {
    chain.holders.iter().filter(|holder| holder.node != lost.node).copied().collect()
}

/// Evidence is kept with every range it concerns, so it is kept short; the event of the suspicion tells it in full.
fn shortened(evidence: &str) -> String {
    const MOST: usize = 80;
    match evidence.char_indices().nth(MOST) {
        None => evidence.into(),
        Some((end, _)) => format!("{}...", &evidence[..end]),
    }
}
