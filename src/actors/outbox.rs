//! What waits to leave on one connection: a bounded queue of frames, filled by any thread, emptied by the connection's own.
//!
//! Frames are encoded by whoever says them, so that a link never spends its thread's time on another's data. The bound counts
//! frames and bytes. What happens when it is reached depends on what is said: a word of the control plane is lost, which all
//! its machines bear; a client's command is given back, since none of its bytes has left; a frame of a chain may not be lost
//! alone, so its connection is broken, and both ends know.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;

/// Bounds of an outbox.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At most so many frames.
    pub frames: usize,
    /// At most so many bytes; a single larger frame still passes when nothing else waits.
    pub bytes: usize,
}

/// An encoded frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// All its bytes.
    pub bytes: Bytes,
    /// What it is.
    pub kind: Kind,
}

/// What a frame is, as far as its loss is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// May be lost.
    Word,
    /// Clients' commands, by the number of their batch: given back if none of their bytes has left.
    Carry(u64),
    /// Lost only with its connection.
    InOrder,
}

/// How a connection stands, as seen by those who want to say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none, and it is not the time to try.
    Down,
    /// There is none because nobody has needed one for long. What is said now has it dialled, and leaves when it is there.
    Idle,
    /// It is being dialled again after it broke. What is said now leaves when it is there, but for what belongs to a connection that was.
    Dialling,
    /// It is there.
    Up,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsaid {
    /// There is no connection.
    Down,
    /// The bound is reached.
    Full,
}

/// What waits to leave on one connection.
#[derive(Debug)]
pub struct Outbox {
    bounds: Bounds,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    waiting: VecDeque<Frame>,
    bytes: usize,
    /// The connection must be broken: a frame that may not be lost alone was.
    broken: bool,
    /// Dialled on demand: somebody wants to say something.
    wanted: bool,
    /// Something was said since somebody last looked.
    busy: bool,
}

/// What the connection finds when it looks.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// These are to be written, in this order.
    Frames(Vec<Frame>),
    /// The connection is to be broken.
    Broken,
}

impl State {
    fn is_open(&self, kind: Kind) -> bool {
        match self.standing {
            _ if self.broken => false,
            Standing::Up | Standing::Idle => true,
            // A frame of a chain belongs to the connection over which the two have compared what they hold.
            Standing::Dialling => kind != Kind::InOrder,
            Standing::Down => false,
        }
    }
}

impl Outbox {
    /// An empty one.
    pub fn new(bounds: Bounds, standing: Standing) -> Self {
        let state = State { standing, waiting: VecDeque::new(), bytes: 0, broken: false, wanted: false, busy: false };
        Self { bounds, state: Mutex::new(state), wake: Notify::new() }
    }

    /// Puts a frame behind those that wait.
    ///
    /// # Errors
    /// When it cannot be taken; then nothing of it will ever leave.
    pub fn push(&self, frame: Frame) -> Result<(), Unsaid> {
        let mut state = self.lock();
        if !state.is_open(frame.kind) {
            return Err(Unsaid::Down);
        }
        let room = state.waiting.len() < self.bounds.frames
            && (state.waiting.is_empty() || state.bytes + frame.bytes.len() <= self.bounds.bytes);
        if !room {
            state.broken = frame.kind == Kind::InOrder;
            drop(state);
            self.wake.notify_one();
            return Err(Unsaid::Full);
        }
        state.bytes += frame.bytes.len();
        state.busy = true;
        state.waiting.push_back(frame);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Whether there is a connection that would take such a frame; where there is none, it is noted that one is wanted.
    ///
    /// # Errors
    /// When there is none.
    pub fn may_push(&self, kind: Kind) -> Result<(), Unsaid> {
        let mut state = self.lock();
        if state.is_open(kind) {
            return Ok(());
        }
        state.wanted = true;
        drop(state);
        self.wake.notify_one();
        Err(Unsaid::Down)
    }

    /// The next frames to write, about `bytes` of them; waits until there are some, or the connection is to be broken.
    pub async fn take(&self, bytes: usize) -> Taken {
        loop {
            if let Some(taken) = self.take_now(bytes) {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    fn take_now(&self, limit: usize) -> Option<Taken> {
        let mut state = self.lock();
        if state.broken {
            return Some(Taken::Broken);
        }
        let mut taken = Vec::new();
        let mut size = 0;
        while size < limit {
            let Some(frame) = state.waiting.pop_front() else { break };
            size += frame.bytes.len();
            taken.push(frame);
        }
        state.bytes -= size;
        (!taken.is_empty()).then_some(Taken::Frames(taken))
    }

    /// Waits until somebody has wanted to say something while there was no connection.
    pub async fn wanted(&self) {
        while !self.take_wanted() {
            self.wake.notified().await;
        }
    }

    fn take_wanted(&self) -> bool {
        let mut state = self.lock();
        std::mem::take(&mut state.wanted) || !state.waiting.is_empty()
    }

    /// The connection now stands so. Going down gives back what had not left; a new one begins without old frames of chains.
    pub fn stand(&self, standing: Standing) -> Vec<Frame> {
        let mut state = self.lock();
        state.standing = standing;
        match standing {
            Standing::Up | Standing::Idle => {
                state.broken = false;
                Vec::new()
            }
            Standing::Dialling | Standing::Down => {
                state.broken = false;
                state.bytes = 0;
                state.waiting.drain(..).collect()
            }
        }
    }

    /// Whether nothing was said since this was last asked.
    pub fn was_idle(&self) -> bool {
        let mut state = self.lock();
        !std::mem::take(&mut state.busy) && state.waiting.is_empty()
    }

    /// How the connection stands.
    pub fn standing(&self) -> Standing {
        self.lock().standing
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(standing: Standing) -> Outbox {
        Outbox::new(Bounds { frames: 2, bytes: 10 }, standing)
    }

    fn frame(size: usize, kind: Kind) -> Frame {
        Frame { bytes: Bytes::from(vec![0; size]), kind }
    }

    #[test]
    fn a_word_is_lost_where_there_is_no_room() {
        let outbox = outbox(Standing::Up);
        assert_eq!(outbox.push(frame(50, Kind::Word)), Ok(()), "a large one alone");
        assert_eq!(outbox.push(frame(1, Kind::Word)), Err(Unsaid::Full));
        assert!(matches!(outbox.take_now(1), Some(Taken::Frames(frames)) if frames.len() == 1));
        assert_eq!(outbox.push(frame(1, Kind::Word)), Ok(()));
    }

    #[test]
    fn a_lost_frame_of_a_chain_breaks_the_connection() {
        let outbox = outbox(Standing::Up);
        assert_eq!(outbox.push(frame(8, Kind::InOrder)), Ok(()));
        assert_eq!(outbox.push(frame(8, Kind::InOrder)), Err(Unsaid::Full));
        assert_eq!(outbox.take_now(100), Some(Taken::Broken));
        assert_eq!(outbox.stand(Standing::Down).len(), 1);
    }

    #[test]
    fn commands_wait_while_a_connection_is_dialled_frames_of_chains_do_not() {
        let outbox = outbox(Standing::Dialling);
        assert_eq!(outbox.push(frame(1, Kind::InOrder)), Err(Unsaid::Down));
        assert_eq!(outbox.push(frame(1, Kind::Carry(7))), Ok(()));
        let given_back = outbox.stand(Standing::Down);
        assert_eq!(given_back, vec![frame(1, Kind::Carry(7))]);
        assert_eq!(outbox.push(frame(1, Kind::Carry(8))), Err(Unsaid::Down));
    }
}
