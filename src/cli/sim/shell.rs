//! `keyval sim shell`: a story told by hand. What happens is printed with its time as it happens, then what the line outputs.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use crate::cli::output;
use crate::sim::script::ByHand;
use crate::sim::trace::Keep;

const GREETING: &str =
    "A mesh in a made-up world. Begin with `mesh nodes=3 copies=2`; `help` lists what can be done, `quit` ends.";

pub(super) fn run() -> ExitCode {
    let by_hand = std::io::stdin().is_terminal();
    if by_hand {
        output::say(GREETING);
    }
    match talk(&mut std::io::stdin().lock(), &mut std::io::stdout().lock(), by_hand) {
        Ok(all) if all || by_hand => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Goes on until the end of what is typed, or `quit`. Says whether all that was typed could be done.
fn talk(input: &mut impl BufRead, output: &mut impl Write, by_hand: bool) -> std::io::Result<bool> {
    let mut story = ByHand::new(Keep::Told);
    let mut all = true;
    loop {
        if by_hand {
            write!(output, "> ")?;
            output.flush()?;
        }
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim() == "quit" {
            return Ok(all);
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // Whoever reads what a script has typed wants to see what it was.
        if !by_hand {
            writeln!(output, "> {line}")?;
        }
        let said = story.say(line);
        for happening in &said.happenings {
            writeln!(output, "  {happening}")?;
        }
        all &= said.output.is_ok();
        match said.output {
            Ok(text) => writeln!(output, "{text}")?,
            Err(why) => writeln!(output, "not done: {why}")?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_story_is_played() {
        let mut output = Vec::new();
        let all = talk(&mut "mesh nodes=2\n\n# so far\nn1: set a b\nquit\nn1: get a\n".as_bytes(), &mut output, false);
        let output = String::from_utf8(output).expect("text");
        assert!(all.expect("memory does not fail"), "{output}");
        assert!(output.contains("> n1: set a b\nn1: OK\n"), "{output}");
        assert!(!output.contains("get a"), "{output}");
    }
}
