//! (story to be written by its owner)

use std::process::ExitCode;

use crate::settings::Settings;

/// Runs a node until it is told to end.
pub fn run(_settings: Settings) -> ExitCode {
    ExitCode::FAILURE
}
