//! What has to wait: commands that are held, not numbered, and answers that may not be given yet.
//!
//! Held commands wait in the order in which they came. When they have waited for as long as commands are held, they are
//! refused as surely not applied. An answer that waits is refused then too if nothing of it was numbered; a numbered write
//! waits for its chain for as long as the epoch lasts, but its client is told that the outcome is uncertain
//! [`Queue::patience`] after it came: by then a lost member has been found out, dropped and its lease waited out, or will
//! not be soon.

use std::collections::VecDeque;
use std::time::Duration;

use crate::machines::chain::{Around, Context, Holding};
use crate::messages::client::{NotApplied, Outcome, Reply, Request};
use crate::types::{Epoch, Instant, Sequence};

/// A command of a batch.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Which batch.
    pub ticket: u64,
    /// Its place there.
    pub place: u32,
    /// When it came.
    pub since: Instant,
    /// What is asked.
    pub request: Request,
}

/// An answer that may be given once the writes up to a sequence are clean and the leases allow it.
#[derive(Debug)]
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

#[derive(Debug, Default)]
pub(super) struct Queue {
    held: VecDeque<Asked>,
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
        if count >= ctx.around.limits.waiting || total + bytes > ctx.around.limits.waiting_bytes {
            return ctx.answer(asked.ticket, asked.place, Outcome::NotApplied(NotApplied::Busy));
        }
        ctx.around.waiting = (count + 1, total + bytes);
        self.held.push_back(asked);
    }

    /// The command whose turn it is; to be put back if it has to wait on.
    fn take_held(&mut self, ctx: &mut Context) -> Option<Asked> {
        let asked = self.held.pop_front()?;
        ctx.around.waiting.0 -= 1;
        ctx.around.waiting.1 -= asked.bytes();
        Some(asked)
    }

    fn put_back(&mut self, asked: Asked, ctx: &mut Context) {
        ctx.around.waiting.0 += 1;
        ctx.around.waiting.1 += asked.bytes();
        self.held.push_front(asked);
    }

    /// Whether one more answer may wait.
    pub fn has_room(&self, ctx: &Context) -> bool {
        ctx.around.waiting.0 < ctx.around.limits.waiting
    }

    /// Keeps an answer until it may be given. Sequences come in rising order.
    pub fn wait(&mut self, asked: Asked, reply: Reply, sequence: Sequence, fate: Fate, ctx: &mut Context) {
        let answer = Answer { ticket: asked.ticket, place: asked.place, since: asked.since, reply, sequence, fate };
        let until = answer.until(ctx.around);
        self.answers_until = Some(self.answers_until.map_or(until, |known| known.min(until)));
        ctx.around.waiting.0 += 1;
        self.answers.push_back(answer);
    }

    /// Gives the answers up to this sequence, to writes only where there are copies enough. The caller has seen that it may.
    pub fn give(&mut self, clean: Sequence, copies: bool, ctx: &mut Context) {
        let ready = |answer: &Answer| answer.sequence <= clean && (copies || answer.fate == Fate::Read);
        while self.answers.front().is_some_and(ready) {
            let answer = self.answers.pop_front().expect("there is a first");
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
            let asked = self.take_held(ctx).expect("there is a first");
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
        while let Some(asked) = self.take_held(ctx) {
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
        if self.queue.waiting() > 0 && self.answers(ctx) {
            self.queue.give(self.clean, self.has_copies(ctx), ctx);
        }
    }

    /// Carries out what was held, in order, as far as it goes now.
    pub(super) fn resume(&mut self, ctx: &mut Context) {
        while let Some(asked) = self.queue.take_held(ctx) {
            if let Err(asked) = self.carry_out(asked, ctx) {
                return self.queue.put_back(asked, ctx);
            }
        }
    }
}
