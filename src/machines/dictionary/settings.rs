//! The mesh-wide settings that may change while the mesh runs.
//!
//! Not the number of ranges, nor the times: both are what running leases and keys rest on, so they are fixed at founding.

use std::time::Duration;

use crate::machines::dictionary::Dictionary;
use crate::messages::events::{Event, EventKind};
use crate::messages::ownership::{GiveUp, MeshSettings, OnTotalLoss, Pause, ReplicationMode};

/// The most holders a range may be told to have, and so the largest `replication.factor`.
pub const MAX_FACTOR: u8 = 9;

/// The most voters a mesh may be told to have.
pub const MAX_VOTERS: u8 = 15;

impl Dictionary {
    pub(super) fn configure(&mut self, key: &str, value: &str) -> Result<Vec<Event>, String> {
        let changed = with(&self.settings, key, value)?;
        if changed == self.settings {
            return Err(format!("{key} is {value} already"));
        }
        let event = self.event(EventKind::SettingChanged, None, Vec::new(), format!("{key} is {value} now"));
        self.settings = changed;
        Ok(vec![event])
    }

    /// Clients' writes pause, or go on. A pause begins once: who gave it, and when, stays as it was.
    pub(super) fn pause(&mut self, pause: Option<Pause>) -> Result<Vec<Event>, String> {
        if pause.is_some() == self.paused.is_some() {
            return Err(self.pause_words().into());
        }
        self.paused = pause;
        Ok(vec![self.event(
            EventKind::SettingChanged,
            pause.map(|pause| pause.by),
            Vec::new(),
            self.pause_words().into(),
        )])
    }

    /// Whether clients' writes are paused, in words.
    pub fn pause_words(&self) -> &'static str {
        if self.paused.is_some() { "clients' writes are paused" } else { "clients' writes go on" }
    }
}

/// The settings with one of them changed, if that is a consistent set.
fn with(settings: &MeshSettings, key: &str, value: &str) -> Result<MeshSettings, String> {
    let mut new = settings.clone();
    match key {
        "replication.factor" => new.factor = number(key, value, 1..=MAX_FACTOR)?,
        "replication.min_copies" => new.min_copies = number(key, value, 1..=MAX_FACTOR)?,
        "replication.mode" => {
            new.mode = match value {
                "value" => ReplicationMode::Value,
                "command" => ReplicationMode::Command,
                _ => return Err(format!("{key} is value or command, not {value}")),
            }
        }
        "replication.on_total_loss" => {
            new.on_total_loss = match value {
                "recover" => OnTotalLoss::Recover,
                "wait" => OnTotalLoss::Wait,
                _ => return Err(format!("{key} is recover or wait, not {value}")),
            }
        }
        "replication.give_up" => {
            new.give_up = match value {
                "auto" | "by_copies" => GiveUp::ByCopies,
                "never" => GiveUp::Never,
                _ => GiveUp::After(span(key, value)?),
            }
        }
        "replication.repair_after" => new.repair_after = span(key, value)?,
        "election.voters" => new.voters = number(key, value, 1..=MAX_VOTERS)?,
        "node_expiry" => new.node_expiry = span(key, value)?,
        "failure_timeout" | "clock_drift" | "ranges" => {
            return Err(format!("{key} is fixed when the mesh is founded"));
        }
        _ => return Err(format!("{key} is no mesh-wide setting")),
    }
    consistent(&new)?;
    Ok(new)
}

fn consistent(settings: &MeshSettings) -> Result<(), String> {
    let timing = &settings.timing;
    if settings.min_copies > settings.factor {
        return Err(format!(
            "replication.min_copies {} is more than replication.factor {}",
            settings.min_copies, settings.factor
        ));
    }
    if let GiveUp::After(span) = settings.give_up
        && span < timing.sole_lease()
    {
        return Err(format!("replication.give_up is shorter than 4 failure_timeouts, {:?}", timing.sole_lease()));
    }
    if settings.node_expiry < timing.seat_timeout() {
        return Err(format!("node_expiry is shorter than 10 failure_timeouts, {:?}", timing.seat_timeout()));
    }
    Ok(())
}

fn number(key: &str, value: &str, allowed: std::ops::RangeInclusive<u8>) -> Result<u8, String> {
    let number = value.parse().ok().filter(|number| allowed.contains(number));
    number.ok_or_else(|| format!("{key} is a number from {} to {}, not {value}", allowed.start(), allowed.end()))
}

fn span(key: &str, value: &str) -> Result<Duration, String> {
    humantime::parse_duration(value).map_err(|_| format!("{key} is a span of time like 90s or 15m, not {value}"))
}
