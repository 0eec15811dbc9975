//! What has to wait: commands that are held, not numbered, and answers that may not be given yet.
//!
//! Held commands wait in the order in which they came, and what a session asks stays behind what it asked before (G25). But
//! one session's commands are not held back by those of another, unless both may write: while writes are held, for as long
//! as it takes to have copies enough or as an operator has them paused, everybody who only reads is answered. Sessions
//! send a batch at a time and a door may split it, so a command says whose it is; by the keys alone a session's read of one
//! key could be answered as of before its own write of another. When commands have waited for as long as commands are held, they are
//! refused as surely not applied. An answer that waits is refused then too if nothing of it was numbered; a numbered write
//! waits for its chain for as long as the epoch lasts, but its client is told that the outcome is uncertain
//! [`Queue::patience`] after it came: by then a lost member has been found out, dropped and its lease waited out, or will
//! not be soon.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::machines::chain::{Around, Context, Holding};
use crate::messages::client::{NotApplied, Outcome, Reply, Request};
use crate::planted::{self, Bug};
use crate::sites::{self, Site};
use crate::types::{Epoch, Instant, NodeId, Sequence};

/// A command of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Which batch.
    pub ticket: u64,
    /// Its place there.
    pub place: u32,
    /// When it came.
    pub since: Instant,
    /// By which node's door.
    pub from: NodeId,
    /// What is asked.
    pub request: Request,
}

/// A session: the node by whose door it asks, and its name there.
type Session = (NodeId, u64);

/// An answer that may be given once the writes up to a sequence are clean and the leases allow it.
#[derive(Clone, Debug)]
struct Answer {
    ticket: u64,
    place: u32,
    since: Instant,
    reply: Reply,
    sequence: Sequence,
    fate: Fate,
}

/// What stands behind an answer, and so what is said if it cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The client's own write was numbered.
    Numbered,
    /// Nothing was, or nothing that matters to the client.
    Read,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    held: VecDeque<Asked>,
    /// Whose commands are held, and how many of each.
    sessions: BTreeMap<Session, usize>,
    /// How many of them only read.
    reads: usize,
    /// All that is held waits until writes go on: they are writes, or behind one of their session.
    behind_writes: bool,
    answers: VecDeque<Answer>,
    /// No answer has to be given up before this.
    answers_until: Option<Instant>,
}

impl Asked {
    /// This node does not head the range in the epoch it knows.
    pub fn refuse_not_head(self, epoch: Epoch, ctx: &mut Context) {
        ctx.answer(self.ticket, self.place, Outcome::NotApplied(NotApplied::NotHead(epoch)));
    }

    /// The answer of a command that was carried out.
    pub fn answer(self, reply: Reply, ctx: &mut Context) {
        ctx.answer(self.ticket, self.place, Outcome::Replied(reply));
    }

    fn session(&self) -> Session {
        (self.from, self.request.session)
    }

    fn bytes(&self) -> usize {
        self.request.words.iter().map(|word| word.len() + 32).sum()
    }
}

impl Answer {
    fn until(&self, around: &Around) -> Instant {
        match self.fate {
            Fate::Read => self.since + around.park,
            Fate::Numbered => self.since + Queue::patience(around),
        }
    }

    fn refuse(self, why: NotApplied, ctx: &mut Context) {
        let outcome = match self.fate {
            Fate::Numbered => Outcome::Uncertain,
            Fate::Read => Outcome::NotApplied(why),
        };
        ctx.answer(self.ticket, self.place, outcome);
    }
}

impl Queue {
    /// How long the client of a numbered write waits: as commands are held, and two failure timeouts more.
    pub fn patience(around: &Around) -> Duration {
        around.park + 2 * around.timing.failure_timeout
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.answers.is_empty()
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }

    pub fn waiting(&self) -> usize {
        self.answers.len()
    }

    /// Holds a command, or refuses it when the queues of the store are full.
    pub fn hold(&mut self, asked: Asked, ctx: &mut Context) {
        let bytes = asked.bytes();
        let (count, total) = ctx.around.waiting;
        let room = self.held.len() < ctx.around.limits.waiting_a_range && count < ctx.around.limits.waiting;
        if !room || total + bytes > ctx.around.limits.waiting_bytes || sites::fires(Site::NoRoom) {
            return ctx.answer(asked.ticket, asked.place, Outcome::NotApplied(NotApplied::Busy));
        }
        // A read that has to wait for a reason of its own is to be looked at again.
        self.behind_writes &= self.holds_back(&asked);
        self.put(self.held.len(), asked, ctx);
    }

    /// Whether something is held that this command must not overtake.
    pub fn holds_back(&self, asked: &Asked) -> bool {
        let (all, reads) = (self.held.len(), self.reads);
        all > 0 && (asked.request.write && all > reads || self.sessions.contains_key(&asked.session()))
    }

    fn put(&mut self, place: usize, asked: Asked, ctx: &mut Context) {
        ctx.around.waiting.0 += 1;
        ctx.around.waiting.1 += asked.bytes();
        *self.sessions.entry(asked.session()).or_default() += 1;
        self.reads += usize::from(!asked.request.write);
        self.held.insert(place, asked);
    }

    /// A command that is held; to be put back if it has to wait on.
    fn take(&mut self, place: usize, ctx: &mut Context) -> Option<Asked> {
        let asked = self.held.remove(place)?;
        ctx.around.waiting.0 -= 1;
        ctx.around.waiting.1 -= asked.bytes();
        self.reads -= usize::from(!asked.request.write);
        let session = asked.session();
        let count = self.sessions.get_mut(&session).expect("who holds a command is counted");
        *count -= 1;
        if *count == 0 {
            self.sessions.remove(&session);
        }
        Some(asked)
    }

    /// Whether one more answer may wait.
    pub fn has_room(&self, ctx: &Context) -> bool {
        self.answers.len() < ctx.around.limits.waiting_a_range && ctx.around.waiting.0 < ctx.around.limits.waiting
    }

    /// Keeps an answer until it may be given. Sequences come in rising order.
    pub fn wait(&mut self, asked: Asked, reply: Reply, sequence: Sequence, fate: Fate, ctx: &mut Context) {
        let answer = Answer { ticket: asked.ticket, place: asked.place, since: asked.since, reply, sequence, fate };
        let until = answer.until(ctx.around);
        self.answers_until = Some(self.answers_until.map_or(until, |known| known.min(until)));
        ctx.around.waiting.0 += 1;
        self.answers.push_back(answer);
    }

    /// Gives the answers up to this sequence, to writes only where there are copies enough; reads pass by those. The caller
    /// has seen that it may.
    pub fn give(&mut self, clean: Sequence, copies: bool, ctx: &mut Context) {
        let mut stay = 0;
        while let Some(answer) = self.answers.get(stay).filter(|answer| answer.sequence <= clean) {
            if answer.fate == Fate::Numbered && !copies {
                stay += 1;
                continue;
            }
            let answer = self.answers.remove(stay).expect("just seen");
            ctx.around.waiting.0 -= 1;
            ctx.answer(answer.ticket, answer.place, Outcome::Replied(answer.reply));
        }
        if self.answers.is_empty() {
            self.answers_until = None;
        }
    }

    /// Refuses what has waited for too long.
    pub fn give_up(&mut self, ctx: &mut Context) {
        let now = ctx.instant();
        while self.held.front().is_some_and(|asked| now >= asked.since + ctx.around.park) {
            let asked = self.take(0, ctx).expect("there is a first");
            ctx.answer(asked.ticket, asked.place, Outcome::NotApplied(NotApplied::Held));
        }
        if self.answers_until.is_none_or(|until| now < until) {
            return;
        }
        for answer in std::mem::take(&mut self.answers) {
            if now < answer.until(ctx.around) {
                self.answers.push_back(answer);
            } else {
                ctx.around.waiting.0 -= 1;
                answer.refuse(NotApplied::Held, ctx);
            }
        }
        self.answers_until = self.answers.iter().map(|answer| answer.until(ctx.around)).min();
    }

    /// This node heads the range no more: everything is refused.
    pub fn dismiss_all(&mut self, epoch: Epoch, ctx: &mut Context) {
        self.dismiss_waiting(epoch, ctx);
        while let Some(asked) = self.take(0, ctx) {
            asked.refuse_not_head(epoch, ctx);
        }
    }

    /// What was carried out belongs to a copy that is gone.
    pub fn dismiss_waiting(&mut self, epoch: Epoch, ctx: &mut Context) {
        self.answers_until = None;
        for answer in std::mem::take(&mut self.answers) {
            ctx.around.waiting.0 -= 1;
            answer.refuse(NotApplied::NotHead(epoch), ctx);
        }
    }

    /// When something here has waited for too long.
    pub fn next_deadline(&self, around: &Around) -> Option<Instant> {
        let held = self.held.front().map(|asked| asked.since + around.park);
        held.into_iter().chain(self.answers_until).min()
    }
}

impl Holding {
    /// Gives what may be answered now.
    pub(super) fn release(&mut self, ctx: &mut Context) {
        // G11: at this instant, for writes as for reads.
        if self.queue.waiting() > 0 && (self.answers(ctx) || planted::is(Bug::WaitingUnleased)) {
            self.queue.give(self.clean, self.has_copies(ctx), ctx);
        }
    }

    /// Carries out what was held, each session's in order and writes in theirs, as far as it goes now.
    pub(super) fn resume(&mut self, ctx: &mut Context) {
        if self.queue.held() == 0 || self.queue.behind_writes && self.writes_wait(ctx) || !self.carries_out(ctx) {
            return;
        }
        let (mut place, mut stay, mut writes_stay) = (0, BTreeSet::new(), false);
        self.queue.behind_writes = true;
        // The rest is not looked at when it is writes alone.
        while !(writes_stay && self.queue.reads == 0)
            && let Some(asked) = self.queue.take(place, ctx)
        {
            let (session, write) = (asked.session(), asked.request.write);
            let waits = write && writes_stay || stay.contains(&session);
            let back = if waits { Err(asked) } else { self.carry_out(asked, ctx) };
            let Err(asked) = back else { continue };
            self.queue.behind_writes &= write || waits;
            stay.insert(session);
            writes_stay |= write;
            self.queue.put(place, asked, ctx);
            place += 1;
        }
    }
}
