//! `keyval sim`: plays a mesh in a made-up world.

use std::process::ExitCode;

use clap::Args;

/// What to play.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Plays it.
pub fn run(_arguments: Arguments) -> ExitCode {
    ExitCode::FAILURE
}
