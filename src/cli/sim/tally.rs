//! What several runs of `keyval sim run` came to together, kept in a file (`--tally`).
//!
//! Hours add up only for one commit and one kind of world, and a seed counts once: so the file is named after the commit
//! (`make sim-night`), a run with other options is refused, and so is one with a seed that has been counted. A run is noted
//! when it begins: one that did not come to its end (a false belief ends a release build) is told as such for ever.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::run::{Total, print_counts};

/// All runs so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// The options that all of them had.
    options: String,
    runs: Vec<Run>,
    /// All of them together.
    together: Counts,
}

/// One run.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    /// The first seed, and the one after the last.
    seeds: (u64, u64),
    /// Of all that happened; none until the run has come to its end.
    digest: Option<String>,
    /// The first broken rule.
    violation: Option<String>,
}

/// What happened in worlds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// How many were played.
    pub seeds: u64,
    /// How much time passed in them.
    pub simulated: Duration,
    /// How many things happened.
    pub events: u64,
    /// Operations of clients that were answered, and those that were not.
    pub operations: (u64, u64),
    /// Histories of objects that were too wide to be judged.
    pub unfinished: u64,
    /// What was done to the meshes, by kind.
    pub faults: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds those of others.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.events += other.events;
        self.operations.0 += other.operations.0;
        self.operations.1 += other.operations.1;
        self.unfinished += other.unfinished;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
    }
}

impl Tally {
    /// What a file holds, and a note in it that these seeds are being played.
    ///
    /// # Errors
    /// When it cannot be read or written, or these seeds with these options cannot be added to it.
    pub fn open(path: &Path, options: &str, seeds: (u64, u64)) -> Result<Self, String> {
        let mut tally: Self = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self { options: options.into(), ..Self::default() }
            }
            Err(error) => return Err(error.to_string()),
        };
        if tally.options != options {
            return Err(format!("its runs had other options: {}", tally.options));
        }
        match tally.runs.iter().find(|run| run.seeds.0 < seeds.1 && seeds.0 < run.seeds.1) {
            Some(run) => Err(format!("it has seeds {}..{} already", run.seeds.0, run.seeds.1)),
            None => {
                tally.runs.push(Run { seeds, digest: None, violation: None });
                tally.keep(path).map_err(|error| error.to_string())?;
                Ok(tally)
            }
        }
    }

    /// Adds what came of the run that was noted last.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, path: &Path, total: &Total) -> io::Result<()> {
        let violation = total.broken.as_ref().and_then(|outcome| outcome.violation.as_ref());
        let run = self.runs.last_mut().expect("it was noted when it began");
        // A broken rule ends a run before its last seed.
        run.seeds.1 = run.seeds.0 + total.counts.seeds;
        (run.digest, run.violation) = (Some(total.digest()), violation.map(ToString::to_string));
        self.together.add(&total.counts);
        self.keep(path)
    }

    /// Replaces the file.
    fn keep(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.sync_all()?;
        fs::rename(new, path)
    }

    /// Tells what all runs came to.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let broken = self.runs.iter().filter(|run| run.violation.is_some()).count();
        let cut_short = self.runs.iter().filter(|run| run.digest.is_none()).count();
        writeln!(
            out,
            "all {} runs together: {broken} broke a rule, {cut_short} did not come to an end",
            self.runs.len()
        )?;
        print_counts(&self.together, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(seeds: u64) -> Total {
        let faults = [("kill".to_string(), seeds * 3)].into();
        Total { counts: Counts { seeds, faults, ..Counts::default() }, ..Total::default() }
    }

    #[test]
    fn runs_add_up_and_no_seed_counts_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tally.json");
        Tally::open(&path, "usual", (1, 11)).unwrap().add(&path, &total(10)).unwrap();
        Tally::open(&path, "usual", (11, 31)).unwrap().add(&path, &total(20)).unwrap();
        assert!(Tally::open(&path, "usual", (30, 40)).unwrap_err().contains("11..31"));
        assert!(Tally::open(&path, "fewer nodes", (31, 40)).unwrap_err().contains("other options"));
        let tally = Tally::open(&path, "usual", (31, 40)).unwrap();
        assert_eq!(tally.together, Counts { seeds: 30, faults: [("kill".into(), 90)].into(), ..Counts::default() });
        let mut told = Vec::new();
        tally.print(&mut told).unwrap();
        assert!(
            String::from_utf8(told)
                .unwrap()
                .starts_with("all 3 runs together: 0 broke a rule, 1 did not come to an end\n30 seeds")
        );
    }
}
