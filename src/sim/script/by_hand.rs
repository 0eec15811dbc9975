//! A story told by hand, line by line: what is typed happens, and the next line can depend on what was seen.

use goldenscript::{Command, Context, Runner};

use super::{Answer, Story, with_end};
use crate::sim::trace::{Happening, Keep};

/// A story that has no end yet.
#[derive(Debug, Default)]
pub struct ByHand {
    story: Story,
}

/// What came of a line.
#[derive(Debug)]
pub struct Said {
    /// What happened meanwhile.
    pub happenings: Vec<Happening>,
    /// What the line itself outputs; or why it could not be done.
    pub output: Result<String, String>,
}

impl ByHand {
    /// A story of which so much is kept.
    pub fn new(keep: Keep) -> Self {
        Self { story: Story { keep, ..Story::default() } }
    }

    /// Tells one line, or several that belong together.
    pub fn say(&mut self, line: &str) -> Said {
        let output = goldenscript::generate(&mut Going(&mut self.story), &with_end(line));
        let output = match output {
            Ok(text) => Ok(text.split_once("---\n").map_or(text.as_str(), |(_, output)| output).trim_end().to_owned()),
            // Which line of a script it was says nothing here.
            Err(error) => Err(error.to_string().split_once("failed at line ").map_or_else(
                || error.to_string(),
                |(_, rest)| rest.split_once(": ").map_or(rest, |(_, why)| why).to_owned(),
            )),
        };
        Said { happenings: self.happenings(), output }
    }

    /// Tells a whole story. Its recorded output is not looked at.
    ///
    /// # Errors
    /// When a line cannot be understood, an expectation fails, or a rule is broken.
    pub fn tell(&mut self, text: &str) -> Result<Vec<Happening>, String> {
        goldenscript::generate(&mut self.story, &with_end(text)).map_err(|error| error.to_string())?;
        Ok(self.happenings())
    }

    fn happenings(&mut self) -> Vec<Happening> {
        self.story.world.as_mut().map(|world| world.trace.take()).unwrap_or_default()
    }
}

/// The same story, which goes on after the script's end.
struct Going<'a>(&'a mut Story);

impl Runner for Going<'_> {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Answer {
        self.0.run(command, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_and_a_wrong_one_changes_nothing() {
        let mut story = ByHand::new(Keep::Told);
        assert!(story.say("advance 1s").output.is_err_and(|why| why.contains("begins with `mesh`")));
        let mesh = story.say("mesh nodes=3 copies=2");
        assert!(mesh.output.is_ok_and(|text| text.contains("served: 16 of 16 ranges")));
        assert!(mesh.happenings.iter().any(|happening| happening.to_string().contains("CommanderElected")));
        assert_eq!(story.say("n2: set color blue").output, Ok("n2: OK".into()));
        assert!(story.say("bake a cake").output.is_err());
        assert!(story.say("help cut").output.is_ok_and(|text| text.contains("cut n1 n2")));
        assert_eq!(story.say("n3: get color").output, Ok("n3: blue".into()));
        assert!(story.say("kill n1").happenings.iter().any(|happening| happening.to_string().ends_with("n1 ends")));
    }

    #[test]
    fn all_stands_still_at_what_is_waited_for() {
        let mut story = ByHand::default();
        let mut say = |line: &str| story.say(line).output;
        assert!(say("mesh nodes=3 copies=2").is_ok_and(|text| text.contains("served: 16 of 16 ranges")));
        assert_eq!(say("expect n3 knows paint \"n1 - n2\""), Ok("ok".into()));
        assert!(say("expect chain paint \"n2 - n1\"").is_err());
        say("hold n2 n1").unwrap();
        say("n1: set paint blue [later]").unwrap();
        assert_eq!(say("until n2 says ack to n1 of paint within=50ms"), Ok("ok".into()));
        assert!(say("until n1 hears ack from n2 within=50ms").is_err());
        assert!(say("answers").is_ok_and(|text| text.contains("no answer yet")));
        say("release n2 n1").unwrap();
        assert_eq!(say("until n1 hears ack from n2 of paint within=50ms"), Ok("ok".into()));
        say("advance 1ms").unwrap();
        assert!(say("answers").is_ok_and(|text| text.contains("-> OK")));
        assert!(say("expect n1 hears ack").is_err_and(|why| why.contains("not be seen afterwards")));
        assert_eq!(say("kill n2 power=off").map(|_| ()), Ok(()));
        assert_eq!(say("until n1 proposes lost of paint within=2s").map(|_| ()), Ok(()));
        assert_eq!(say("expect chain paint \"n1 - n2\""), Ok("ok".into()), "nobody has agreed to it yet");
    }

    #[test]
    fn nodes_are_named_by_the_part_they_play() {
        let mut story = ByHand::default();
        let mut say = |line: &str| story.say(line).output;
        assert!(say("cast paint").is_err_and(|why| why.contains("begins with `mesh`")));
        assert!(say("mesh nodes=5 copies=2 commander=bare").is_ok_and(|text| text.contains("served: 16 of 16 ranges")));
        assert!(say("kill A").is_err_and(|why| why.contains("nobody plays that part")));
        let cast = say("cast paint").unwrap();
        let names: Vec<&str> = cast.split(", ").map(|part| part.split_once(": ").unwrap().1).collect();
        assert_eq!(names.len(), 5, "{cast}");
        assert!(names[2] < names[3], "who does not hold it comes in the order of the numbers: {cast}");
        assert_eq!(names[4], "n5", "who commands holds nothing: {cast}");
        assert_eq!(say("expect E empty").and(say("expect commander E")), Ok("ok".into()));
        assert_eq!(say("expect chain paint \"A - B\"").and(say("expect C knows paint \"A - B\"")), Ok("ok".into()));
        assert_eq!(say("A: set paint A"), Ok("A: OK".into()));
        assert_eq!(say("C: get paint"), Ok("C: A".into()), "what a client says is left as it is");
        say("C: [later] get paint").and(say("advance 1s")).unwrap();
        assert_eq!(say("answers"), Ok(format!("{}: get paint -> A", names[2])));
        say("hold all A").unwrap();
        say("C: [later] get paint").and(say("advance 100ms")).unwrap();
        assert_eq!(say("answers"), Ok(format!("{}: get paint -> no answer yet", names[2])));
        say("release all A").and(say("advance 100ms")).unwrap();
        assert_eq!(say("answers"), Ok(format!("{}: get paint -> A", names[2])));
        say("restart A disk=lost").unwrap();
        assert!(say("until Ab up").is_ok_and(|text| text.contains(&format!("{}b: on the roster", names[0]))));
        say("until whole").and(say("kill C")).unwrap();
        assert_eq!(say("verify paint at=B").map(|text| text.contains("the same")), Ok(true));
        assert_eq!(
            say("cast paint").unwrap().split(", ").count(),
            4,
            "who does not run and holds nothing plays no part"
        );
        assert!(say("expect E silent").is_err_and(|why| why.contains("nobody plays that part")));
    }
}
