//! What the consensus library says of itself, to our log.
//!
//! It speaks slog and in great detail; its news are our debug lines, its errors stay errors. Nothing is formatted unless
//! somebody listens.

use std::fmt::Write as _;

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record, Serializer};

/// The library's logger.
pub(super) fn logger() -> Logger {
    Logger::root(Bridge, slog::o!())
}

struct Bridge;

impl Drain for Bridge {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error if tracing::enabled!(tracing::Level::ERROR) => {
                tracing::error!("{}", line(record, values));
            }
            Level::Warning | Level::Info if tracing::enabled!(tracing::Level::DEBUG) => {
                tracing::debug!("{}", line(record, values));
            }
            Level::Debug | Level::Trace if tracing::enabled!(tracing::Level::TRACE) => {
                tracing::trace!("{}", line(record, values));
            }
            _ => {}
        }
        Ok(())
    }
}

fn line(record: &Record<'_>, values: &OwnedKVList) -> String {
    let mut line = Line(record.msg().to_string());
    // The line goes to a string: nothing can fail.
    let _ = slog::KV::serialize(&record.kv(), record, &mut line);
    let _ = slog::KV::serialize(values, record, &mut line);
    line.0
}

struct Line(String);

impl Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        let _ = write!(self.0, ", {key}: {value}");
        Ok(())
    }
}
