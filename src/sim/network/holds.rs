//! What a story does to connections by hand: it holds what one lane carries one way, for as long as it likes, and breaks
//! connections at an instant of its own.
//!
//! A held lane is a slow network, not a cut: connections wait without breaking, new ones are made, and what was held arrives when
//! it is let go, in order, even if its connection broke meanwhile.

use std::time::Duration;

use super::{Break, Connection, Context, Event, Host, Network};
use crate::messages::peer::Lane;

impl Network {
    /// Nothing that this lane carries from one place to the other gets there before it is let go.
    pub fn hold(&mut self, from: Host, to: Host, lane: Lane) {
        self.holds.insert((from, to, lane));
        for connection in self.connections.values_mut().filter(|it| it.lane == lane) {
            let Some(way) = connection.way_from(from, to) else { continue };
            connection.ways[way].stopped = true;
        }
    }

    /// Lets go what is held from one place to the other.
    pub fn let_go(&mut self, from: Host, to: Host, context: &mut Context<'_>) {
        self.holds.retain(|held| (held.0, held.1) != (from, to));
        for (id, connection) in self.connections.iter_mut() {
            let Some(way) = connection.way_from(from, to) else { continue };
            if std::mem::take(&mut connection.ways[way].stopped) {
                let delay = self.weather.draw(context.random);
                connection.go_on(*id, way, delay, context);
            }
        }
    }

    /// Lets go everything that is held.
    pub fn let_all_go(&mut self, context: &mut Context<'_>) {
        while let Some((from, to, _)) = self.holds.first().copied() {
            self.let_go(from, to, context);
        }
    }

    /// All connections between two places are reset; both sides call again.
    pub fn reset(&mut self, one: Host, other: Host, context: &mut Context<'_>) {
        let joins = |it: &Connection| it.way_from(one, other).is_some();
        let ids: Vec<u64> = self.connections.iter().filter(|(_, it)| joins(it)).map(|(id, _)| *id).collect();
        for id in ids {
            self.break_connection(id, Break::Closed, context);
        }
    }
}

impl Connection {
    /// What was kept from arriving arrives, unless something else still keeps it.
    pub(super) fn go_on(&mut self, id: u64, way: usize, delay: Duration, context: &mut Context<'_>) {
        let to = self.ends[1 - way].host;
        let kept = &mut self.ways[way];
        if kept.cut != 0 || kept.stopped {
            return;
        }
        let mut at = context.now + delay;
        for _ in 0..std::mem::take(&mut kept.held) {
            context.later.push((at, Event::Arrive { to, connection: id, way }));
            at = at + Duration::from_micros(1);
        }
        kept.last = kept.last.max(at);
    }
}
