//! The replies of one batch in the order of its commands, whatever the order in which they become known.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::commands::{Merge, errors};
use crate::messages::client::{Reply, Request};
use crate::resp::{self, Protocol};

/// The commands of one read that are not answered yet.
#[derive(Debug, Default)]
pub struct Batch {
    slots: VecDeque<Slot>,
    /// How many slots have been written and are gone.
    written: usize,
    /// What the ranges must carry out, in order, until it is submitted.
    requests: Vec<Request>,
    /// For each request: the command it belongs to, and its place among that command's.
    places: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct Slot {
    /// As the connection spoke when the command came.
    protocol: Protocol,
    /// Whether an unknown outcome must be called so.
    write: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Ready(Reply),
    /// Bytes that were encoded before.
    Encoded(bytes::Bytes),
    /// One range answers, or an actor.
    Waiting,
    /// Several ranges do.
    Many {
        merge: Merge,
        replies: Vec<Reply>,
        left: usize,
    },
}

impl Batch {
    /// Whether every command is answered.
    pub fn is_done(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many commands are not answered.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many requests wait to be submitted.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// A command that is answered at once.
    pub fn ready(&mut self, protocol: Protocol, reply: Reply) {
        self.slots.push_back(Slot { protocol, write: false, state: State::Ready(reply) });
    }

    /// A command that is answered at once, by bytes that were encoded before.
    pub fn encoded(&mut self, bytes: bytes::Bytes) {
        self.slots.push_back(Slot { protocol: Protocol::Resp2, write: false, state: State::Encoded(bytes) });
    }

    /// A command that an actor answers later. Gives its place.
    pub fn later(&mut self, protocol: Protocol) -> usize {
        self.slots.push_back(Slot { protocol, write: true, state: State::Waiting });
        self.written + self.slots.len() - 1
    }

    /// A command for one range.
    pub fn one(&mut self, protocol: Protocol, request: Request) {
        let write = request.write;
        self.places.push((self.next(), 0));
        self.requests.push(request);
        self.slots.push_back(Slot { protocol, write, state: State::Waiting });
    }

    /// A command for several ranges, perhaps none.
    pub fn many(&mut self, protocol: Protocol, requests: Vec<Request>, merge: Merge) {
        if requests.is_empty() {
            return self.ready(protocol, merge.finish(Vec::new()));
        }
        let slot = self.next();
        let write = requests.iter().any(|request| request.write);
        let left = requests.len();
        self.places.extend((0..left as u32).map(|part| (slot, part)));
        self.requests.extend(requests);
        let replies = vec![Reply::Null; left];
        self.slots.push_back(Slot { protocol, write, state: State::Many { merge, replies, left } });
    }

    fn next(&self) -> u32 {
        (self.written + self.slots.len()) as u32
    }

    /// What is to be submitted, once.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// The answer to a request, by its place among those submitted.
    pub fn answer(&mut self, place: u32, reply: Reply) {
        let Some(&(slot, part)) = self.places.get(place as usize) else { return };
        let Some(slot) = (slot as usize).checked_sub(self.written).and_then(|at| self.slots.get_mut(at)) else {
            return;
        };
        match &mut slot.state {
            State::Many { replies, left, .. } => {
                replies[part as usize] = reply;
                *left -= 1;
                if *left == 0
                    && let State::Many { merge, replies, .. } = std::mem::replace(&mut slot.state, State::Waiting)
                {
                    slot.state = State::Ready(merge.finish(replies));
                }
            }
            state => *state = State::Ready(reply),
        }
    }

    /// The answer to a command that was to be answered later.
    pub fn answer_later(&mut self, place: usize, reply: Reply) {
        if let Some(slot) = place.checked_sub(self.written).and_then(|at| self.slots.get_mut(at)) {
            slot.state = State::Ready(reply);
        }
    }

    /// Writes what is known from the front on.
    pub fn write(&mut self, output: &mut BytesMut, mut on_error: impl FnMut(&str)) {
        while let Some(slot) = self.slots.front() {
            match &slot.state {
                State::Ready(reply) => {
                    if let Reply::Error(text) = reply {
                        on_error(text);
                    }
                    resp::encode(reply, slot.protocol, output);
                }
                State::Encoded(bytes) => output.extend_from_slice(bytes),
                State::Waiting | State::Many { .. } => return,
            }
            self.slots.pop_front();
            self.written += 1;
        }
        self.written = 0;
        self.places.clear();
        // A batch of very many parts is rare: its memory is not kept for the next.
        if self.places.capacity() > 4096 {
            self.places = Vec::new();
        }
    }

    /// The connection ends before these are answered: of a write nobody knows what becomes of it.
    pub fn give_up(&mut self) {
        for slot in &mut self.slots {
            if matches!(slot.state, State::Waiting | State::Many { .. }) {
                slot.state = State::Ready(if slot.write { errors::uncertain() } else { errors::try_again() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RangeId;

    fn request(write: bool) -> Request {
        Request { range: RangeId(1), words: vec![], write, session: 0 }
    }

    fn written(batch: &mut Batch) -> String {
        let mut output = BytesMut::new();
        batch.write(&mut output, |_| {});
        String::from_utf8(output.to_vec()).expect("text")
    }

    #[test]
    fn replies_leave_in_the_order_of_the_commands() {
        let mut batch = Batch::default();
        batch.one(Protocol::Resp2, request(false));
        batch.ready(Protocol::Resp2, Reply::Integer(2));
        let later = batch.later(Protocol::Resp2);
        batch.one(Protocol::Resp2, request(false));
        assert_eq!(batch.take_requests().len(), 2);
        batch.answer(1, Reply::Integer(4));
        batch.answer_later(later, Reply::Integer(3));
        assert_eq!(written(&mut batch), "");
        batch.answer(0, Reply::Integer(1));
        assert_eq!(written(&mut batch), ":1\r\n:2\r\n:3\r\n:4\r\n");
        assert!(batch.is_done());
    }

    #[test]
    fn what_is_known_from_the_front_on_does_not_wait_for_the_rest() {
        let mut batch = Batch::default();
        batch.ready(Protocol::Resp2, Reply::Integer(1));
        batch.one(Protocol::Resp2, request(false));
        batch.ready(Protocol::Resp3, Reply::Null);
        assert_eq!(written(&mut batch), ":1\r\n");
        batch.answer(0, Reply::Null);
        assert_eq!(written(&mut batch), "$-1\r\n_\r\n");
    }

    #[test]
    fn a_connection_that_ends_says_what_nobody_knows() {
        let mut batch = Batch::default();
        batch.one(Protocol::Resp2, request(true));
        batch.one(Protocol::Resp2, request(false));
        batch.give_up();
        let text = written(&mut batch);
        let codes: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(codes, ["-UNCERTAIN", "-TRYAGAIN"]);
    }
}
