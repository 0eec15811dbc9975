//! How far the moves of ranges have come: the commander counts and reckons, its beacons tell everybody.
//!
//! Ownership says how many ranges have come to lie as they should, and how many do not yet; each node's beacons say how many
//! bytes of copies it has streamed. Nothing follows from it: it is for people.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Effect, Heartbeat};
use crate::messages::events::EventKind;
use crate::messages::heartbeat::Progress;
use crate::types::{Instant, NodeId};

/// The rate is that of so long.
const LATELY: Duration = Duration::from_secs(5);

/// Moves that take longer are told of, and again each time so much has passed.
const TELLING: Duration = Duration::from_secs(10);

/// Moves under way, at the commander.
#[derive(Debug)]
pub(super) struct Moves {
    began: Instant,
    done: u32,
    left: u32,
    /// All that was streamed in the mesh before.
    before: u64,
    /// What had been streamed, and when: not much longer than lately.
    samples: VecDeque<(Instant, u64)>,
    /// When people are told next.
    tell_at: Instant,
}

impl Moves {
    fn begin(now: Instant, streamed: u64) -> Self {
        Self {
            began: now,
            done: 0,
            left: 0,
            before: streamed,
            samples: VecDeque::from([(now, streamed)]),
            tell_at: now + TELLING,
        }
    }

    /// One more sample, and what follows from all.
    fn progress(&mut self, now: Instant, streamed: u64) -> Progress {
        self.samples.push_back((now, streamed));
        while self.samples.get(1).is_some_and(|(at, _)| now.since(*at) >= LATELY) {
            self.samples.pop_front();
        }
        let (since, then) = self.samples[0];
        let span = now.since(since).as_secs_f64();
        let rate = if span > 0.0 { (streamed.saturating_sub(then)) as f64 / span } else { 0.0 };
        let elapsed = now.since(self.began).as_secs_f64();
        let remaining = (self.done > 0).then(|| elapsed * f64::from(self.left) / f64::from(self.done));
        Progress {
            done: self.done,
            left: self.left,
            bytes: streamed.saturating_sub(self.before),
            rate: rate as u64,
            remaining_s: remaining.map(|seconds| seconds.ceil() as u32),
        }
    }
}

impl Heartbeat {
    /// From ownership, on the commander: so many ranges have come to lie as they should, so many do not yet.
    pub(super) fn on_moves(&mut self, now: Instant, done: u32, left: u32, effects: &mut Vec<Effect>) {
        if self.reign.is_none() {
            return;
        }
        let streamed = self.streamed_everywhere;
        let moves = self.moves.get_or_insert_with(|| Moves::begin(now, streamed));
        (moves.done, moves.left) = (done, left);
        if left > 0 {
            return;
        }
        let (progress, began, told) =
            (moves.progress(now, streamed), moves.began, moves.tell_at > moves.began + TELLING);
        self.moves = None;
        if told {
            let took = now.since(began).as_secs_f64();
            let text = format!("no range moves any more: {}, in {took:.1}s", progress.moved());
            effects.push(Effect::Note(self.event(EventKind::Noticed, None, text)));
        }
        self.show_progress(None, effects);
    }

    /// Each beat of the commander.
    pub(super) fn reckon(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let streamed = self.streamed_everywhere;
        let Some(moves) = &mut self.moves else { return };
        let progress = moves.progress(now, streamed);
        if now >= moves.tell_at {
            moves.tell_at = now + TELLING;
            effects.push(Effect::Note(self.event(EventKind::Noticed, None, progress.words())));
        }
        self.show_progress(Some(progress), effects);
    }

    /// This node has streamed so much since it began.
    pub(super) fn on_streamed(&mut self, bytes: u64) {
        self.streamed_everywhere += bytes.saturating_sub(self.streamed);
        self.streamed = bytes;
    }

    /// Another node has. What it streamed before this node heard of it is not counted.
    pub(super) fn hear_progress(
        &mut self,
        from: NodeId,
        streamed: u64,
        progress: Option<Progress>,
        effects: &mut Vec<Effect>,
    ) {
        let peer = self.peers.get_mut(&from).expect("a sign was noted");
        self.streamed_everywhere += streamed.saturating_sub(peer.streamed.unwrap_or(streamed));
        peer.streamed = Some(streamed);
        let commander = self.published.as_ref().and_then(|published| published.commander);
        if self.reign.is_none() && commander == Some(from) {
            self.show_progress(progress, effects);
        }
    }

    /// Another commander reckons anew, and until it is heard nothing is known.
    pub(super) fn forget_progress(&mut self, effects: &mut Vec<Effect>) {
        self.moves = None;
        // Who was a neighbour once, and not since, has streamed meanwhile: that is no part of what follows.
        self.peers.values_mut().for_each(|peer| peer.streamed = None);
        self.show_progress(None, effects);
    }

    fn show_progress(&mut self, progress: Option<Progress>, effects: &mut Vec<Effect>) {
        if self.progress != progress {
            self.progress = progress;
            effects.push(Effect::Progress(progress));
        }
    }
}
