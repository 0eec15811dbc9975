//! What the library wants done, carried out in the right order: written first, then said, then applied.
//!
//! The library hands out bundles (`Ready`). Their records and votes go to the disk as one [`Save`]; what depends on them
//! waits on the desk for `Persisted`. A follower's words always wait so. A commander's may leave at once, for its own
//! records count only when they are stable here, *but* not before its term is stable: the library elects a sole voter
//! without waiting for the disk, and one that forgot its term would rule in it a second time.
//!
//! That a record is committed is written along with the next write, or a beat later: a node that forgets it is told again.
//!
//! While a snapshot is on its way to the disk the machine is deaf: the library holds two contradicting logs then, and
//! would notice.

use std::mem;

use raft::eraftpb as lib;

use super::{Effect, Election, Proposed, convert, storage};
use crate::messages::election::{MessageKind, Save, SeatsChange, Snapshot};
use crate::messages::events::EventKind;
use crate::messages::ownership::Command;
use crate::planted::{self, Bug};
use crate::sites::{self, Site};
use crate::types::{Instant, NodeId, Term, Timing};
use crate::wire::codec;

/// What waits for the disk.
#[derive(Default)]
pub(super) struct Desk {
    /// The newest write asked for, and the newest that is stable.
    asked: u64,
    stable: u64,
    /// Writes under way, oldest first: number, and when it was asked for.
    under_way: Vec<(u64, Instant)>,
    held: Vec<Held>,
    /// The write that makes the newest term stable, and the newest term that is.
    term_write: u64,
    pub stable_term: u64,
    newest_term: u64,
    /// The write that makes a received snapshot stable, and where it reaches.
    deaf: Option<(u64, u64)>,
    /// Up to where the log is committed as the disk knows it, and when the disk is to know better.
    written_commit: u64,
    commit_due: Option<Instant>,
    /// What became of proposals, to be said once the state they made has been published.
    outcomes: Vec<(u64, Proposed)>,
}

/// What may happen once a write is stable.
struct Held {
    after: u64,
    /// The bundle that is then stable, if this is about one.
    ready: Option<u64>,
    messages: Vec<lib::Message>,
}

impl Desk {
    pub(super) fn new(term: u64, commit: u64) -> Self {
        Self { stable_term: term, newest_term: term, written_commit: commit, ..Self::default() }
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.deaf.is_some()
    }

    /// Whether all that the library has to know to be stable is.
    pub(super) fn is_settled(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn term_is_stable(&self) -> bool {
        self.stable >= self.term_write
    }

    /// For how long the oldest write under way has been so.
    pub(super) fn is_slow(&self, now: Instant, timing: &Timing) -> bool {
        self.under_way.first().is_some_and(|(_, asked)| now.since(*asked) > timing.failure_timeout)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.commit_due
    }

    /// Asks for a write.
    fn write(&mut self, now: Instant, hard: lib::HardState) -> Save {
        self.asked += 1;
        self.under_way.push((self.asked, now));
        if hard.term != self.newest_term {
            self.newest_term = hard.term;
            self.term_write = self.asked;
        }
        self.written_commit = hard.commit;
        self.commit_due = None;
        Save { number: self.asked, hard: Some(convert::hard_out(&hard)), snapshot: None, entries: Vec::new() }
    }

    /// Takes from the desk what may happen now that a write is stable.
    fn release(&mut self, number: u64) -> Vec<Held> {
        self.stable = self.stable.max(number.min(self.asked));
        self.under_way.retain(|(under_way, _)| *under_way > number);
        if self.term_is_stable() {
            self.stable_term = self.newest_term;
        }
        let (free, held) = mem::take(&mut self.held).into_iter().partition(|held| held.after <= self.stable);
        self.held = held;
        free
    }
}

impl Election {
    /// Carries out all that the library wants done.
    pub(super) fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.look_around(now, effects);
        while !self.desk.is_deaf() && self.ended.is_none() && self.node.has_ready() {
            self.carry_out(now, effects);
            self.look_around(now, effects);
        }
        if !self.desk.is_deaf() && self.ended.is_none() {
            self.tidy_up(now, effects);
        }
    }

    fn carry_out(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let mut ready = self.node.ready();
        let number = ready.number();
        let (at_once, once_stable) = (ready.take_messages(), ready.take_persisted_messages());
        let (reads, committed, entries) =
            (ready.take_read_states(), ready.take_committed_entries(), ready.take_entries());
        let snapshot = (!ready.snapshot().is_empty()).then(|| convert::snapshot_out(ready.snapshot()));
        if ready.must_sync() {
            let hard = self.node.raft.hard_state();
            let mut save = self.desk.write(now, hard);
            save.entries = entries.iter().map(convert::entry_out).collect();
            save.snapshot = snapshot.clone();
            effects.push(Effect::Persist(save));
        }
        if let Some(snapshot) = &snapshot {
            self.begin_at(snapshot);
        }
        self.node.mut_store().append(&entries);
        self.node.advance_append_async(ready);
        self.hold_or_say(now, number, at_once, once_stable, effects);
        if let Some(reign) = &mut self.reign {
            reads.iter().for_each(|read| reign.rounds.on_majority(&read.request_ctx, read.index));
        }
        self.apply_all(&committed, effects);
    }

    fn hold_or_say(
        &mut self,
        now: Instant,
        ready: u64,
        at_once: Vec<lib::Message>,
        once_stable: Vec<lib::Message>,
        effects: &mut Vec<Effect>,
    ) {
        let (early, once_stable) = planted_early(once_stable);
        self.say(now, early, effects);
        if self.desk.term_is_stable() {
            self.say(now, at_once, effects);
        } else if !at_once.is_empty() {
            self.desk.held.push(Held { after: self.desk.term_write, ready: None, messages: at_once });
        }
        let unsynced = planted::is(Bug::CommanderUnsynced) && self.leads();
        if self.desk.stable == self.desk.asked || unsynced {
            self.node.on_persist_ready(ready);
            self.say(now, once_stable, effects);
        } else {
            self.desk.held.push(Held { after: self.desk.asked, ready: Some(ready), messages: once_stable });
        }
    }

    /// A write is stable, and all before it.
    pub(super) fn on_persisted(&mut self, now: Instant, number: u64, effects: &mut Vec<Effect>) {
        for held in self.desk.release(number) {
            if let Some(ready) = held.ready {
                self.node.on_persist_ready(ready);
            }
            self.say(now, held.messages, effects);
        }
        if let Some((_, reached)) = self.desk.deaf.filter(|(write, _)| *write <= self.desk.stable) {
            self.desk.deaf = None;
            self.node.advance_apply_to(reached);
            let text = format!("received the dictionary, version {}, as a snapshot", self.version());
            self.note(EventKind::Noticed, None, text, effects);
        }
    }

    fn say(&mut self, now: Instant, messages: Vec<lib::Message>, effects: &mut Vec<Effect>) {
        for (to, message) in messages.into_iter().filter_map(convert::message_out) {
            if let Some(reign) = self.reign.as_mut().filter(|_| message.kind == MessageKind::Snapshot) {
                reign.snapshots.insert(to, now);
            }
            effects.push(Effect::Send { to, message });
        }
    }

    /// The log begins anew where a received snapshot ends. It is not published before it is stable.
    fn begin_at(&mut self, snapshot: &Snapshot) {
        self.desk.deaf = Some((self.desk.asked, snapshot.index));
        match storage::read_dictionary(&snapshot.data) {
            Ok(dictionary) => self.node.mut_store().begin_at(snapshot, dictionary.into()),
            Err(reason) => self.end(reason),
        }
    }

    fn apply_all(&mut self, committed: &[lib::Entry], effects: &mut Vec<Effect>) {
        for entry in committed {
            match entry.get_entry_type() {
                lib::EntryType::EntryNormal if entry.data.is_empty() => {}
                lib::EntryType::EntryNormal => self.apply_command(entry, effects),
                _ => self.apply_seats(entry, effects),
            }
            self.node.mut_store().set_applied(entry);
            self.answer_lost(entry);
        }
        if let Some(last) = committed.last() {
            self.node.advance_apply_to(last.index);
            if let Some(reign) = &mut self.reign {
                reign.look_again = true;
            }
        }
    }

    fn apply_command(&mut self, entry: &lib::Entry, effects: &mut Vec<Effect>) {
        let command: Command = match codec::decode(&entry.data) {
            Ok(command) => command,
            Err(error) => {
                return self
                    .end(format!("record {} of the log cannot be read: {error}; upgrade this node", entry.index));
            }
        };
        let Some(dictionary) = self.node.mut_store().dictionary_mut() else {
            return self.end(format!("record {} of the log changes a dictionary that is not here", entry.index));
        };
        let (applied, events) = dictionary.apply(&command);
        effects.extend(events.into_iter().map(|mut event| {
            event.term = Term(entry.term);
            Effect::Note(event)
        }));
        // Ours is what stands where we put it, in the term in which we did.
        let ours = self.reign.as_mut().filter(|reign| reign.term == entry.term);
        if let Some(request) = ours.and_then(|reign| reign.proposals.remove(&entry.index)) {
            self.desk.outcomes.push((request, Proposed::Applied(applied)));
        }
    }

    /// A proposal whose place was taken by another record may still come, or never.
    fn answer_lost(&mut self, entry: &lib::Entry) {
        if let Some(request) = self.reign.as_mut().and_then(|reign| reign.proposals.remove(&entry.index)) {
            self.desk.outcomes.push((request, Proposed::Unknown));
        }
    }

    fn apply_seats(&mut self, entry: &lib::Entry, effects: &mut Vec<Effect>) {
        let change = convert::change_of(entry);
        match self.node.apply_conf_change(&convert::change_in(&change)) {
            Ok(state) => {
                let seats = convert::seats_out(&state);
                self.node.mut_store().set_seats(seats);
                let text = self.seats_in_words(&change);
                self.note(EventKind::SeatsChanged, None, text, effects);
            }
            // The same on every node that applies it: nobody's seats change.
            Err(error) => tracing::warn!(index = entry.index, %error, "a change of seats has no effect"),
        }
        if self.leads() && !self.mirror().seats().votes(self.me()) {
            // The library would go on leading a group to which this node does not belong.
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    fn seats_in_words(&self, change: &SeatsChange) -> String {
        let seats = self.mirror().seats();
        let names = |nodes: &[NodeId]| nodes.iter().map(|node| self.name(*node)).collect::<Vec<_>>().join(", ");
        let voters = format!("{} vote", names(&seats.voters));
        let learners =
            if seats.learners.is_empty() { String::new() } else { format!(", {} learn", names(&seats.learners)) };
        if change.completes() {
            format!("{voters}{learners}: the change is complete")
        } else if seats.outgoing.is_empty() {
            format!("{voters}{learners}: {}", change.why)
        } else {
            format!(
                "{voters}{learners}, together with {} until the change is complete: {}",
                names(&seats.outgoing),
                change.why
            )
        }
    }

    /// Says what became of proposals and askings. The state that holds them has been published before.
    pub(super) fn answer(&mut self, effects: &mut Vec<Effect>) {
        let outcomes = mem::take(&mut self.desk.outcomes);
        effects.extend(outcomes.into_iter().map(|(request, outcome)| {
            let outcome = if sites::fires(Site::OutcomeUnknown) { Proposed::Unknown } else { outcome };
            Effect::Proposed { request, outcome }
        }));
        let (applied, term, version) = (self.mirror().applied().index, Term(self.node.raft.term), self.version());
        if let Some(reign) = &mut self.reign {
            let asks = reign.rounds.finish(applied);
            effects.extend(asks.into_iter().map(|ask| Effect::Confirmed { ask, term, version }));
        }
    }

    /// Writes what may be written late: how far the log is committed, and a snapshot of a log that has grown long.
    fn tidy_up(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let hard = self.node.raft.hard_state();
        if let Some(snapshot) = self.node.mut_store().compact() {
            let mut save = self.desk.write(now, hard);
            save.snapshot = Some(snapshot);
            effects.push(Effect::Persist(save));
        } else if self.desk.commit_due.is_some_and(|due| now >= due) {
            let save = self.desk.write(now, hard);
            effects.push(Effect::Persist(save));
        } else if hard.commit > self.desk.written_commit && self.desk.commit_due.is_none() {
            self.desk.commit_due = Some(now + self.timing().beat());
        }
    }
}

/// Of what waits for the disk, what a planted bug says at once; and the rest.
fn planted_early(held: Vec<lib::Message>) -> (Vec<lib::Message>, Vec<lib::Message>) {
    let wrong = match () {
        () if planted::is(Bug::VoteUnsynced) => lib::MessageType::MsgRequestVoteResponse,
        () if planted::is(Bug::RecordsUnsynced) => lib::MessageType::MsgAppendResponse,
        () => return (Vec::new(), held),
    };
    held.into_iter().partition(|message| message.get_msg_type() == wrong)
}
