//! Nodes: who asks to be admitted, who stands how, who is buried, who leaves the roster.
//!
//! One command at a time, always derived from what is agreed and what is seen now: so a queue of any length is worked off
//! in order, and the next commander goes on with it, because whoever was not served asks again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machines::dictionary::Dictionary;
use crate::machines::election::Published;
use crate::messages::ownership::{Candidate, Cause, Chain, Command, JoinAnswer, Member, Pause, Standing};
use crate::types::{Incarnation, Instant, NodeId, RangeId};

use super::Effect;
use super::drain::{self, Drained};
use super::watch::Watch;
use super::wishes::{Want, Wishes};

/// For how long one who asks to join is kept before it is told to ask again.
const VISIT: Duration = Duration::from_secs(2);

/// How many may wait to be admitted at once. More are told to ask again.
const VISITORS: usize = 64;

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Desk {
    visitors: BTreeMap<NodeId, Visitor>,
    drops: BTreeMap<NodeId, Vec<Asker>>,
    wishes: Wishes,
    drained: Drained,
    /// Whether clients' writes shall be paused, where that is not so yet; and who waits to hear how it stands.
    wish: Option<Option<Pause>>,
    wishers: Vec<Asker>,
    replies: Vec<Reply>,
    /// The latest askings that must be done once only.
    done: Vec<Asker>,
}

/// Who gave an order, and its name for it.
pub(super) type Asker = (NodeId, u64);

/// What became of an order.
pub(super) type Reply = (Asker, Result<Vec<String>, String>);

#[derive(Debug)]
struct Visitor {
    candidate: Candidate,
    connections: Vec<u64>,
    since: Instant,
    /// It presented itself, or asked, last at.
    last: Instant,
}

impl Desk {
    /// A node presents itself, or asks in a connection to be admitted.
    pub fn visit(&mut self, now: Instant, candidate: Candidate, connection: Option<u64>) {
        let known = self.visitors.get(&candidate.id);
        // Of two lives that present themselves the later counts.
        if known.is_some_and(|known| known.candidate.incarnation > candidate.incarnation) {
            return;
        }
        if known.is_none() && self.visitors.len() >= VISITORS && connection.is_none() {
            return;
        }
        let same = known.is_some_and(|known| known.candidate.incarnation == candidate.incarnation);
        let visitor = self.visitors.entry(candidate.id).or_insert_with(|| Visitor {
            candidate: candidate.clone(),
            connections: Vec::new(),
            since: now,
            last: now,
        });
        visitor.candidate = candidate;
        visitor.last = now;
        visitor.since = if same { visitor.since } else { now };
        visitor.connections.extend(connection);
    }

    /// Whether one more who asks in a connection can be kept waiting.
    pub fn has_room(&self) -> bool {
        self.visitors.len() < VISITORS
    }

    /// An operator drops a node. Answered by [`Desk::take_replies`].
    pub fn drop_node(&mut self, asker: Asker, node: NodeId, dictionary: &Dictionary, watch: &Watch, me: NodeId) {
        match may_drop(node, dictionary, watch, me) {
            Ok(true) => {
                let askers = self.drops.entry(node).or_default();
                if !askers.contains(&asker) {
                    askers.push(asker);
                }
            }
            Ok(false) => self.reply(asker, Ok(vec![format!("node {node} is off the roster already")])),
            Err(reason) => self.reply(asker, Err(reason)),
        }
    }

    /// An operator wants something of a node. Answered by [`Desk::take_replies`].
    pub fn want(&mut self, asker: Asker, what: (NodeId, Want), published: &Published, watch: &Watch) {
        let is_first = self.is_first_asking(asker);
        let reply = self.wishes.hear(asker, is_first, what, published, watch);
        self.replies.extend(reply);
    }

    /// An operator pauses clients' writes, or lets them go on. The last word counts; an old one that comes again does not.
    pub fn wish(&mut self, asker: Asker, pause: Option<Pause>) {
        if self.is_first_asking(asker) {
            self.wish = Some(pause);
        }
        if !self.wishers.contains(&asker) {
            self.wishers.push(asker);
        }
    }

    /// Whether an order that must not be done twice comes for the first time.
    pub fn is_first_asking(&mut self, asker: Asker) -> bool {
        if self.done.contains(&asker) {
            return false;
        }
        self.done.push(asker);
        if self.done.len() > VISITORS {
            self.done.remove(0);
        }
        true
    }

    pub fn reply(&mut self, asker: Asker, result: Result<Vec<String>, String>) {
        self.replies.push((asker, result));
    }

    pub fn take_replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    /// Answers whoever can be answered by now.
    /// `is_idle`: nothing about nodes is on its way into the log.
    pub fn answer(
        &mut self,
        now: Instant,
        dictionary: &Dictionary,
        watch: &Watch,
        is_idle: bool,
        effects: &mut Vec<Effect>,
    ) {
        let patience = dictionary.settings.timing.failure_timeout * 2;
        let mesh = dictionary.mesh;
        self.visitors.retain(|_, visitor| {
            let answer = if dictionary.shows(&visitor.candidate) {
                Some(JoinAnswer::Admitted { mesh, settings: dictionary.settings.clone() })
            } else if let Err(reason) = dictionary.admissible(&visitor.candidate) {
                Some(JoinAnswer::Refused(reason))
            } else if now.since(visitor.since) >= patience && lives_twice(&visitor.candidate, dictionary, watch) {
                let id = visitor.candidate.id;
                let reason =
                    format!("NodeIdInUse: node {id} is alive in another process; was a data directory copied?");
                Some(JoinAnswer::Refused(reason))
            } else {
                let waits_too_long = now.since(visitor.last) >= VISIT.max(patience);
                waits_too_long.then_some(JoinAnswer::Later { mesh })
            };
            let Some(answer) = answer else { return true };
            let answers = visitor.connections.iter();
            effects.extend(answers.map(|c| Effect::Answer { connection: *c, answer: answer.clone() }));
            false
        });
        self.wish = self.wish.filter(|wish| wish.is_some() != dictionary.paused.is_some());
        if self.wish.is_none() {
            let lines = vec![dictionary.pause_words().to_owned()];
            self.replies.extend(self.wishers.drain(..).map(|asker| (asker, Ok(lines.clone()))));
        }
        self.drained.note(now, dictionary);
        // What an operator has taken back may be on its way.
        if is_idle {
            self.replies.extend(self.wishes.settle(dictionary));
        }
        for (node, askers) in self.drops.extract_if(.., |node, _| !dictionary.roster.contains_key(node)) {
            let lines = vec![format!("node {node} is off the roster")];
            self.replies.extend(askers.into_iter().map(|asker| (asker, Ok(lines.clone()))));
        }
    }

    /// The reign is over: everybody is told to ask again.
    pub fn close(&mut self, answer: &JoinAnswer, effects: &mut Vec<Effect>) {
        let visitors = std::mem::take(&mut self.visitors);
        for connection in visitors.into_values().flat_map(|visitor| visitor.connections) {
            effects.push(Effect::Answer { connection, answer: answer.clone() });
        }
    }

    /// The next command about nodes, if any is due. Deaths first: ranges wait for them.
    pub fn next(&self, now: Instant, dictionary: &Dictionary, watch: &Watch) -> Option<Command> {
        bury_expired(dictionary, watch)
            .or_else(|| self.next_drop(dictionary))
            .or_else(|| stand(dictionary, watch, Standing::Suspect))
            .or_else(|| self.wish.map(Command::Pause))
            .or_else(|| self.wishes.next(dictionary))
            .or_else(|| self.admit(now, dictionary, watch))
            .or_else(|| stand(dictionary, watch, Standing::Up))
            .or_else(|| stand(dictionary, watch, Standing::Draining))
            .or_else(|| remove_absent(now, dictionary, watch))
            .or_else(|| self.drained.next(now, dictionary))
    }

    /// The operator vouches that the process has ended: first its life is over, then it leaves.
    fn next_drop(&self, dictionary: &Dictionary) -> Option<Command> {
        let member = self.drops.keys().find_map(|node| dictionary.member(*node))?;
        let node = member.node.id;
        let cause = Cause::Dropped(node);
        Some(if member.is_over() {
            Command::Remove { node, cause }
        } else {
            Command::Bury { node, incarnation: member.node.incarnation, cause }
        })
    }

    fn admit(&self, now: Instant, dictionary: &Dictionary, watch: &Watch) -> Option<Command> {
        let patience = dictionary.settings.timing.failure_timeout * 2;
        let may_come = |visitor: &&Visitor| {
            let candidate = &visitor.candidate;
            let recent = now.since(visitor.last) < VISIT.max(patience);
            recent && !dictionary.shows(candidate) && !lives_twice(candidate, dictionary, watch)
        };
        let visitors = self.visitors.values().filter(may_come);
        let first = visitors.min_by_key(|visitor| (visitor.since, visitor.candidate.id))?;
        Some(Command::Admit(first.candidate.clone()))
    }

    /// What is under way, for people.
    pub fn doing(&self, dictionary: &Dictionary) -> Vec<String> {
        let admitting = self.visitors.values().filter(|visitor| !dictionary.shows(&visitor.candidate));
        let admitting = admitting.map(|visitor| format!("{} is being admitted", visitor.candidate.name));
        let dropping = self.drops.keys().map(|node| format!("{} is being dropped", dictionary.name_of(*node)));
        let leaving = dictionary.roster.values().filter(|member| member.drains);
        let leaving = leaving.map(|member| drain::words(dictionary, member.node.id));
        admitting.chain(dropping).chain(leaving).collect()
    }
}

/// Whether the life on the roster is heard at this moment, so that the one that asks must be another process with the same
/// identity. A node that was only quick to start again is heard in its former life no more, soon enough.
fn lives_twice(candidate: &Candidate, dictionary: &Dictionary, watch: &Watch) -> bool {
    dictionary.member(candidate.id).is_some_and(|member| {
        let listed = member.node.incarnation;
        listed < candidate.incarnation && !member.is_over() && watch.has_heard(candidate.id, listed)
    })
}

/// G24. A life that was silent too long is buried where it still counts for something; elsewhere it may come back.
fn bury_expired(dictionary: &Dictionary, watch: &Watch) -> Option<Command> {
    dictionary.settings.give_up_after()?;
    let counts = |member: &&Member| {
        let (node, life) = (member.node.id, member.node.incarnation);
        !member.is_over() && watch.has_expired(node, life) && is_waited_for(dictionary, node, life)
    };
    let member = dictionary.roster.values().find(counts)?;
    let node = member.node.id;
    Some(Command::Bury { node, incarnation: member.node.incarnation, cause: Cause::Expired(node) })
}

/// Whether ranges may wait for this life: it is a member of them, or keeps a copy where all who serve have ended.
pub(super) fn is_waited_for(dictionary: &Dictionary, node: NodeId, life: Incarnation) -> bool {
    let keeps_copy = |chain: &Chain| {
        chain.former.iter().any(|copy| copy.node == node && copy.incarnation == life)
            && chain.serving().all(|holder| dictionary.is_dead(holder.node, holder.incarnation))
    };
    dictionary.lists(node, life) || dictionary.chains.iter().any(|chain| keeps_copy(chain))
}

/// A node that should stand otherwise, by what is seen of it.
fn stand(dictionary: &Dictionary, watch: &Watch, to: Standing) -> Option<Command> {
    dictionary.roster.values().filter(|member| !member.is_over()).find_map(|member| {
        let (standing, evidence) = watch.standing(member)?;
        (standing == to && member.standing != standing).then(|| Command::Stand {
            node: member.node.id,
            incarnation: member.node.incarnation,
            standing,
            evidence: evidence.into(),
        })
    })
}

/// Who has been absent for longer than node_expiry leaves, unless it is the last that holds something.
fn remove_absent(now: Instant, dictionary: &Dictionary, watch: &Watch) -> Option<Command> {
    let span = dictionary.settings.node_expiry;
    let may_go = |member: &&Member| {
        watch.absent_for(now, member) >= span
            && (member.is_over() || !dictionary.lists(member.node.id, member.node.incarnation))
    };
    let node = dictionary.roster.values().find(may_go)?.node.id;
    Some(Command::Remove { node, cause: Cause::Expired(node) })
}

/// Whether an operator's word that a node has ended can be taken; false if it is off the roster already.
fn may_drop(node: NodeId, dictionary: &Dictionary, watch: &Watch, me: NodeId) -> Result<bool, String> {
    let Some(member) = dictionary.member(node) else {
        return match dictionary.gone.contains_key(&node) {
            true => Ok(false),
            false => Err(format!("no node {node} is on the roster")),
        };
    };
    let name = &member.node.name;
    if node == me {
        return Err(format!("{name} commands; let it step down and stop its process, then drop it"));
    }
    if dictionary.roster.len() == 1 {
        return Err(format!("{name} is the last node of the mesh"));
    }
    if !watch.hears(dictionary, node, member.node.incarnation) {
        return Ok(true);
    }
    let alone = only_holder_of(node, dictionary);
    let Some(first) = alone.first() else { return Ok(true) };
    let shown: Vec<String> = alone.iter().take(5).map(ToString::to_string).collect();
    Err(format!(
        "{name} is alive and the only holder of {} ranges (from {first}: {}{}); stop its process first, then drop it",
        alone.len(),
        shown.join(", "),
        if alone.len() > shown.len() { ", ..." } else { "" }
    ))
}

/// The ranges that nobody but this node serves.
fn only_holder_of(node: NodeId, dictionary: &Dictionary) -> Vec<RangeId> {
    let alone = |chain: &Chain| {
        let mut alive = chain.serving().filter(|holder| !dictionary.is_dead(holder.node, holder.incarnation));
        alive.next().is_some_and(|holder| holder.node == node) && alive.next().is_none()
    };
    dictionary.ranges().filter(|(_, chain)| alone(chain)).map(|(range, _)| range).collect()
}
