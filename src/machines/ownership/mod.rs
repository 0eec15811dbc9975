//! Ownership: what the commander does about nodes and ranges, and what every node contributes to it.
//!
//! Every node presents itself until the roster shows it as it is, passes operators' orders to the commander, and answers
//! for the ranges it serves. The commander compares what is agreed with what it observes and with what placement wants,
//! and does the next step for each node and each range, one command at a time. It notes nothing down: each step is derived
//! anew from the dictionary and from what members repeat each beat (CHAIN.md, section 3), so whoever commands next goes on
//! in the middle. A configuration manager in the manner of PacificA (Microsoft, 2008); where that trusts a primary's
//! lease to report failures, here only the commander's own verdict counts.
//!
//! `reign` is the commander's loop; `steps` decides about one range, `roster` about nodes; `watch` and `evidence` keep what
//! was observed; `wishes` keeps what operators want of nodes, `drain` lets them leave, `rest` go and come back; `errands` brings
//! orders to the commander; `verify` compares copies, whoever commands. Not here: who is heard (`heartbeat`), where things should lie
//! (`placement`), what a command does (`dictionary`), how data travels (`chain`).

mod contract;
mod drain;
mod errands;
mod evidence;
mod pace;
mod plan;
mod reign;
mod rest;
mod roster;
mod steps;
#[cfg(test)]
mod tests;
mod verify;
mod watch;
mod wishes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::machines::Machine;
use crate::machines::election::Published;
use crate::machines::heartbeat::Adoption;
use crate::messages::chain::Counted;
use crate::messages::events::{Event, EventKind};
use crate::messages::ownership::{Candidate, Franchise, JoinAnswer, Order, OwnershipMessage, Pause, Role};
use crate::types::{Epoch, Instant, MeshId, NodeId, Now, RangeId, Term};

pub use contract::{Effect, Input};
use errands::Errands;
use evidence::Life;
use pace::Pace;
use reign::Reign;
use verify::Verifications;
use watch::Missed;
use wishes::Want;

/// How many questions of commanders are remembered until the stores have answered.
const QUESTIONS: usize = 256;

/// The ownership machine of one node.
#[derive(Debug)]
pub struct Ownership {
    me: Candidate,
    mesh: Option<MeshId>,
    rng: ChaCha8Rng,
    published: Option<Arc<Published>>,
    /// The roster does not show this node as it is, and could. Found out once a version, for it is asked for all the time.
    is_unknown: bool,
    /// The last number given to a proposal, a question or an order. Begins at random, so that it is none of a former life.
    numbers: u64,
    reign: Option<Reign>,
    /// How fast ranges move while this node commands.
    moving: Pace,
    errands: Errands,
    verifications: Verifications,
    /// Questions of commanders that are with the local stores: who asked, and its name for it.
    questions: BTreeMap<u64, (NodeId, u64)>,
    /// When this node presents itself next, if the roster does not show it as it is.
    present_at: Instant,
    /// That this life is over, or that another process has this identity, is said once.
    said: bool,
}

impl Ownership {
    /// The machine of the node that presents itself so.
    pub fn new(me: Candidate, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let numbers = rng.r#gen::<u64>() >> 16;
        Self {
            me,
            mesh: None,
            rng,
            published: None,
            is_unknown: false,
            numbers,
            reign: None,
            moving: Pace::default(),
            errands: Errands::default(),
            verifications: Verifications::default(),
            questions: BTreeMap::new(),
            present_at: Instant(0),
            said: false,
        }
    }

    /// The mesh this node belongs to, so that it can name it before it has heard anything of the dictionary.
    #[must_use]
    pub fn of_mesh(mut self, mesh: MeshId) -> Self {
        self.mesh = Some(mesh);
        self
    }

    /// How many bytes a second ranges that merely move may cost while this node commands; none: as many as it takes.
    #[must_use]
    pub fn within(mut self, budget: Option<u64>) -> Self {
        self.moving = Pace::of(budget);
        self
    }

    /// What the mesh is doing about what is not as it should be, a line each. Known to the commander alone.
    pub fn doing(&self) -> Vec<String> {
        match (&self.reign, &self.published) {
            (Some(reign), Some(published)) => reign.doing(&published.dictionary),
            _ => Vec::new(),
        }
    }

    fn on_adopt(&mut self, now: Instant, adoption: &Adoption, effects: &mut Vec<Effect>) {
        let published = Arc::clone(&adoption.published);
        self.published = Some(Arc::clone(&published));
        let dictionary = &published.dictionary;
        self.is_unknown = !dictionary.shows(&self.me) && dictionary.admissible(&self.me).is_ok();
        self.mesh = Some(published.dictionary.mesh);
        let pace = self.pace();
        match &mut self.reign {
            Some(reign) if published.commanding && reign.term == published.term => reign.stir(now, pace),
            _ if published.commanding => {
                self.end_reign(effects);
                self.reign = Some(Reign::new(self.own_life(), published.term, self.moving, now));
                self.present_at = now;
            }
            _ => self.end_reign(effects),
        }
        self.mind_own_life(&published, effects);
        self.present(now, effects);
    }

    fn end_reign(&mut self, effects: &mut Vec<Effect>) {
        if let Some(mut reign) = self.reign.take()
            && let Some(answer) = self.elsewhere()
        {
            reign.desk.close(&answer, effects);
        }
    }

    /// Notices when the mesh counts this life as over.
    fn mind_own_life(&mut self, published: &Published, effects: &mut Vec<Effect>) {
        let Some(member) = published.dictionary.member(self.me.id) else { return };
        let over = member.dead.is_some_and(|dead| self.me.incarnation <= dead);
        if self.said || !over {
            return;
        }
        self.said = true;
        if member.node.incarnation > self.me.incarnation {
            let text = format!(
                "NodeIdInUse: another process lives as node {} now (incarnation {}, this one is {}); this one is no member of anything",
                self.me.id, member.node.incarnation, self.me.incarnation
            );
            return effects.push(Effect::Note(self.event(published, self.me.id, text)));
        }
        effects.push(Effect::BeginAgain(format!(
            "{} was silent so long that the mesh gave up incarnation {}; what it held is served by others",
            member.node.name, self.me.incarnation
        )));
    }

    /// A node that is heard says of itself that something in it does not work.
    fn tell_ailing(&self, node: NodeId, ailing: &[String], effects: &mut Vec<Effect>) {
        if let (Some(published), Some(_), false) = (&self.published, &self.reign, ailing.is_empty()) {
            let text = format!("{} is heard, but ails: {}", published.dictionary.name_of(node), ailing.join("; "));
            effects.push(Effect::Note(self.event(published, node, text)));
        }
    }

    fn event(&self, published: &Published, node: NodeId, text: String) -> Event {
        Event {
            kind: EventKind::Noticed,
            term: published.term,
            version: published.dictionary.version,
            node: Some(node),
            ranges: Vec::new(),
            text,
        }
    }

    /// Presents this node to the commander until the roster shows it as it is.
    fn present(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(published) = self.published.clone() else { return };
        if now < self.present_at || !self.is_unknown {
            return;
        }
        let pause = published.dictionary.settings.timing.failure_timeout;
        // Ten nodes that start at once need not speak at once for ever.
        self.present_at = now + pause.mul_f64(self.rng.gen_range(0.8..1.2));
        match (&mut self.reign, published.commander) {
            (Some(_), _) => {
                let me = self.me.clone();
                self.on_verdict(now, |reign| reign.desk.visit(now, me, None));
            }
            (None, Some(to)) if to != self.me.id => {
                effects.push(Effect::Send { to, message: OwnershipMessage::Present(self.me.clone()) });
            }
            _ => {}
        }
    }

    fn on_peer(&mut self, now: Instant, from: Life, message: OwnershipMessage, effects: &mut Vec<Effect>) {
        match message {
            OwnershipMessage::Present(candidate) => self.on_present(now, from, candidate),
            OwnershipMessage::Order { id, order } => self.on_order(now, (from.node, id), order, effects),
            OwnershipMessage::Ordered { id, result } => self.errands.finish(id, result, effects),
            OwnershipMessage::CaughtUp { range, epoch, joiner, incarnation } => {
                let joiner = Life { node: joiner, incarnation };
                self.on_caught_up(now, range, epoch, joiner, from, effects);
            }
            OwnershipMessage::Parked { range, epoch } => self.on_parked(now, range, epoch, from, effects),
            OwnershipMessage::Park { range, epoch } => effects.push(Effect::Park { range, epoch }),
            OwnershipMessage::Vouch { id, ranges } => self.on_vouch(from.node, id, ranges, effects),
            OwnershipMessage::Vouched { id, ranges } => {
                self.on_verdict(now, |reign| reign.evidence.on_vouched(id, &ranges, from));
            }
            OwnershipMessage::Count { id, range, epoch, from: place } => {
                effects.push(Effect::Count { asker: from.node, id, range, epoch, from: place });
            }
            OwnershipMessage::Counted { id, counted } => self.on_counted(from, id, &counted),
        }
    }

    /// Whoever presents itself speaks for itself alone.
    fn on_present(&mut self, now: Instant, from: Life, candidate: Candidate) {
        let own = candidate.id == from.node && candidate.incarnation == from.incarnation;
        if own {
            self.on_verdict(now, |reign| reign.desk.visit(now, candidate, None));
        }
    }

    fn on_caught_up(
        &mut self,
        now: Instant,
        range: RangeId,
        epoch: Epoch,
        joiner: Life,
        by: Life,
        effects: &mut Vec<Effect>,
    ) {
        let pace = self.pace();
        if let Some(reign) = &mut self.reign {
            if reign.evidence.on_caught_up(range, epoch, joiner, by) {
                reign.stir(now, pace);
            }
        } else if by.node == self.me.id {
            let Life { node: joiner, incarnation } = joiner;
            self.tell_commander(OwnershipMessage::CaughtUp { range, epoch, joiner, incarnation }, effects);
        }
    }

    fn on_parked(&mut self, now: Instant, range: RangeId, epoch: Epoch, by: Life, effects: &mut Vec<Effect>) {
        // Clients wait for what follows, so it waits for nothing but others that park in the same instant.
        let pace = self.pace() / 10;
        if let Some(reign) = &mut self.reign {
            if reign.evidence.on_parked(range, epoch, by) {
                reign.stir(now, pace);
            }
        } else if by.node == self.me.id {
            self.tell_commander(OwnershipMessage::Parked { range, epoch }, effects);
        }
    }

    /// What is said each beat until it is heard need not be kept while nobody commands.
    fn tell_commander(&self, message: OwnershipMessage, effects: &mut Vec<Effect>) {
        let commander = self.published.as_ref().and_then(|published| published.commander);
        if let Some(to) = commander.filter(|commander| *commander != self.me.id) {
            effects.push(Effect::Send { to, message });
        }
    }

    fn on_vouch(&mut self, from: NodeId, id: u64, ranges: Vec<(RangeId, Epoch)>, effects: &mut Vec<Effect>) {
        self.numbers += 1;
        self.questions.insert(self.numbers, (from, id));
        if self.questions.len() > QUESTIONS {
            self.questions.pop_first();
        }
        effects.push(Effect::Vouch { id: self.numbers, ranges });
    }

    /// A store of this node answers. Each store answers for its own ranges, so there may be several answers.
    fn on_vouched(&mut self, now: Instant, id: u64, ranges: Vec<RangeId>, effects: &mut Vec<Effect>) {
        let own = self.own_life();
        if let Some((to, id)) = self.questions.get(&id).copied() {
            effects.push(Effect::Send { to, message: OwnershipMessage::Vouched { id, ranges } });
        } else {
            self.on_verdict(now, |reign| reign.evidence.on_vouched(id, &ranges, own));
        }
    }

    /// An operator at this node asks how copies compare.
    fn on_verify(&mut self, id: u64, range: Option<RangeId>, effects: &mut Vec<Effect>) {
        let ranges = self.published.as_ref().map_or(0, |published| published.dictionary.chains.len());
        let all = (0..ranges as u16).map(RangeId);
        match range {
            Some(range) => self.verifications.begin(id, all.filter(|it| *it == range), effects),
            None => self.verifications.begin(id, all, effects),
        }
    }

    /// What a member holds, for a comparison that is made here.
    fn on_counted(&mut self, by: Life, asking: u64, counted: &Counted) {
        if let Some(published) = &self.published {
            self.verifications.on_counted(by, asking, counted, &published.dictionary);
        }
    }

    /// What a store of this node holds, for whoever compares.
    fn tell_counted(&mut self, asker: NodeId, id: u64, counted: Counted, effects: &mut Vec<Effect>) {
        if asker == self.me.id {
            self.on_counted(self.own_life(), id, &counted);
        } else {
            effects.push(Effect::Send { to: asker, message: OwnershipMessage::Counted { id, counted } });
        }
    }

    fn own_life(&self) -> Life {
        Life { node: self.me.id, incarnation: self.me.incarnation }
    }

    fn on_joining(&mut self, now: Instant, connection: u64, candidate: Candidate, effects: &mut Vec<Effect>) {
        let later = self.mesh.map(|mesh| JoinAnswer::Later { mesh });
        let answer = match &mut self.reign {
            Some(reign) if reign.desk.has_room() => {
                return self.on_verdict(now, |reign| reign.desk.visit(now, candidate, Some(connection)));
            }
            Some(_) => later,
            None => self.elsewhere(),
        };
        if let Some(answer) = answer {
            effects.push(Effect::Answer { connection, answer });
        }
    }

    /// What one that asks to join is told by a node that does not command.
    fn elsewhere(&self) -> Option<JoinAnswer> {
        let mesh = self.mesh?;
        let known = self.published.as_ref().and_then(|published| {
            let commander = published.commander.filter(|commander| *commander != self.me.id)?;
            Some((published.dictionary.peer_address(commander)?.to_owned(), published.term))
        });
        Some(known.map_or(JoinAnswer::Later { mesh }, |(peer, term)| JoinAnswer::Elsewhere { peer, term }))
    }

    /// An order, brought by a node or given here.
    fn on_order(&mut self, now: Instant, asker: (NodeId, u64), order: Order, effects: &mut Vec<Effect>) {
        let pace = self.pace();
        let (Some(reign), Some(published)) = (&mut self.reign, &self.published) else {
            // Whoever asked believes that this node commands. It will hear otherwise, and ask there.
            return;
        };
        match order {
            Order::StepDown { to } => {
                let result = may_step_down(published, self.me.id, to);
                if result.is_ok() && to != Some(self.me.id) && reign.desk.is_first_asking(asker) {
                    effects.push(Effect::StepDown { to });
                }
                reign.desk.reply(asker, result);
            }
            Order::Drop { node } => {
                reign.desk.drop_node(asker, node, &published.dictionary, &reign.watch, self.me.id);
            }
            Order::Pause { since_ms } => reign.desk.wish(asker, Some(Pause { by: asker.0, since_ms })),
            Order::Resume => reign.desk.wish(asker, None),
            Order::Drain { node } => reign.want(asker, node, Want::Leave(true), published),
            Order::Abort { node } => reign.want(asker, node, Want::Leave(false), published),
            Order::Rest { node, incarnation } => {
                let reply = reign.resting.begin(now, asker, Life { node, incarnation }, &published.dictionary);
                if let Some((asker, result)) = reply {
                    reign.desk.reply(asker, result);
                }
            }
            Order::Promote { node } => reign.want(asker, node, Want::Vote(Franchise::Votes), published),
            Order::Demote { node } => reign.want(asker, node, Want::Vote(Franchise::Learns), published),
            Order::Weigh { node, weight } => reign.want(asker, node, Want::Weigh(weight), published),
            Order::Zone { node, zone } => reign.want(asker, node, Want::Zone(zone), published),
            Order::Preview { drain } => {
                let result = reign.preview(now, &published.dictionary, drain);
                reign.desk.reply(asker, result);
            }
            Order::Rebalance => {
                if reign.desk.is_first_asking(asker) {
                    reign.evidence.forget_balked();
                    reign.watch.forget_apart();
                }
                let result = reign.preview(now, &published.dictionary, None);
                reign.desk.reply(asker, result);
            }
        }
        reign.stir(now, pace);
    }

    /// What follows every input: the commander's next steps, and orders on their way.
    fn go_on(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(published) = self.published.clone() else { return };
        self.run_errands(now, &published, effects);
        if !self.verifications.is_empty() {
            self.verifications.run(now, self.me.id, &published.dictionary, &mut self.numbers, effects);
        }
        if let Some(reign) = &mut self.reign {
            reign.review(now, &published, &mut self.numbers, effects);
        }
        self.send_replies(effects);
    }

    fn run_errands(&mut self, now: Instant, published: &Published, effects: &mut Vec<Effect>) {
        if self.errands.is_empty() {
            return;
        }
        // A node that is about to command, or has just ceased to, is no one to ask.
        let ruler = published.commander.filter(|commander| *commander != self.me.id || self.reign.is_some());
        let ruler: Option<(NodeId, Term)> = ruler.map(|commander| (commander, published.term));
        let pause = published.dictionary.settings.timing.failure_timeout;
        for own in self.errands.run(now, self.me.id, ruler, pause, effects) {
            self.on_order(now, (self.me.id, own.number), own.order, effects);
        }
    }

    fn send_replies(&mut self, effects: &mut Vec<Effect>) {
        let Some(reign) = &mut self.reign else { return };
        for ((asker, id), result) in reign.desk.take_replies() {
            if asker == self.me.id {
                self.errands.finish(id, result, effects);
            } else {
                effects.push(Effect::Send { to: asker, message: OwnershipMessage::Ordered { id, result } });
            }
        }
    }

    /// Something that a commander takes note of.
    fn on_verdict(&mut self, now: Instant, note: impl FnOnce(&mut Reign)) {
        let pace = self.pace();
        if let Some(reign) = &mut self.reign {
            note(reign);
            reign.stir(now, pace);
        }
    }

    /// T/50: observations that come closer together are looked at together.
    fn pace(&self) -> Duration {
        self.beat() / 10
    }

    fn beat(&self) -> Duration {
        self.published.as_ref().map_or(Duration::from_millis(100), |known| known.dictionary.settings.timing.beat())
    }
}

impl Machine for Ownership {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let now = now.instant;
        match input {
            Input::Timer => self.present(now, effects),
            Input::Peer { from, incarnation, message } => {
                self.on_peer(now, Life { node: from, incarnation }, message, effects);
            }
            Input::Adopt(adoption) => self.on_adopt(now, &adoption, effects),
            Input::Joining { connection, candidate } => self.on_joining(now, connection, candidate, effects),
            Input::Suspect { node, incarnation, evidence, gone } => {
                self.on_verdict(now, |reign| reign.watch.on_suspect(now, node, incarnation, Missed { evidence, gone }));
            }
            Input::Alive { node, incarnation, ailing } => {
                self.tell_ailing(node, &ailing, effects);
                self.on_verdict(now, |reign| reign.watch.on_alive(now, node, incarnation));
            }
            Input::Apart { by, about, lasting } => {
                let timing = self.published.as_ref().map(|known| known.dictionary.settings.timing).unwrap_or_default();
                self.on_verdict(now, |reign| reign.watch.on_apart(now, by, about, lasting, &timing));
            }
            Input::Expired { node, incarnation, silent_for } => {
                self.on_verdict(now, |reign| reign.watch.on_expired(now, node, incarnation, silent_for));
            }
            Input::Proposed { request, outcome } => {
                let beat = self.beat();
                self.on_verdict(now, |reign| reign.on_proposed(now, request, &outcome, beat));
            }
            Input::Order { id, order } => {
                self.numbers += 1;
                self.errands.begin(now, id, self.numbers, order, effects);
            }
            Input::CaughtUp { range, epoch, joiner, incarnation } => {
                let joiner = Life { node: joiner, incarnation };
                self.on_caught_up(now, range, epoch, joiner, self.own_life(), effects);
            }
            Input::Parked { range, epoch } => self.on_parked(now, range, epoch, self.own_life(), effects),
            Input::Vouched { id, ranges } => self.on_vouched(now, id, ranges, effects),
            Input::Verify { id, range } => self.on_verify(id, range, effects),
            Input::Counted { asker, id, counted } => self.tell_counted(asker, id, counted, effects),
        }
        self.go_on(now, effects);
    }

    fn deadline(&self) -> Option<Instant> {
        let published = self.published.as_ref()?;
        let reign = self.reign.as_ref().map(Reign::deadline);
        let errands = (!self.errands.is_empty()).then(|| self.errands.next(self.beat()));
        let present = self.is_unknown.then_some(self.present_at);
        let verify = self.verifications.deadline(published.dictionary.settings.timing.failure_timeout);
        [reign, errands, present, verify].into_iter().flatten().min()
    }
}

/// Whether the commander may hand over, to a named node if one is wished.
fn may_step_down(published: &Published, me: NodeId, to: Option<NodeId>) -> Result<Vec<String>, String> {
    let dictionary = &published.dictionary;
    let name = dictionary.name_of(me);
    let can_follow = |node: NodeId| {
        let drone = dictionary.member(node).is_some_and(|member| member.node.role == Role::Drone);
        drone && published.seats.votes(node) && node != me
    };
    match to {
        Some(node) if node == me => Ok(vec![format!("{name} commands already")]),
        Some(node) if dictionary.member(node).is_none() => Err(format!("no node {node} is on the roster")),
        Some(node) if !can_follow(node) => {
            Err(format!("{} does not vote, or is a witness, so it cannot command", dictionary.name_of(node)))
        }
        Some(node) => Ok(vec![format!("{name} hands the command to {}", dictionary.name_of(node))]),
        None if dictionary.roster.keys().any(|node| can_follow(*node)) => {
            Ok(vec![format!("{name} hands the command to the best of the other voters")])
        }
        None => Err(format!("nobody but {name} can command: no other drone votes")),
    }
}
