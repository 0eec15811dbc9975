//! What is told of a run: a line for each fault, and in the end a table and a verdict, or all of it as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::account::Counts;
use super::hand::Deed;
use super::harm::{Fault, Harm};
use super::verdict::{Finding, Rule, Verdict};
use crate::cli::output::table;
use crate::sim::clock::Time;

/// So many findings are printed whole; JSON has all.
const PRINTED: usize = 5;

/// A fault, and what clients noticed of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Struck {
    /// When it began, in seconds since clients did.
    pub(super) at_s: f64,
    pub(super) fault: Fault,
    pub(super) harm: Harm,
    pub(super) node: String,
    pub(super) lasted_s: f64,
    /// The longest time in which no write of one key was acknowledged, and which key.
    pub(super) gap_s: f64,
    pub(super) key: String,
    /// From its beginning until all was well again.
    pub(super) well_after_s: f64,
}

impl Struck {
    /// As it is printed when it is over.
    pub(super) fn line(&self) -> String {
        let Self { at_s, fault, harm, node, lasted_s, gap_s, key, well_after_s } = self;
        let what = format!("{node} {} for {lasted_s:.1} s", harm.told());
        let fault = told(Some(*fault));
        format!(
            "{at_s:7.1} s  {fault:<5}  {what:<32}  longest gap {gap_s:.3} s ({key}), well after {well_after_s:.1} s"
        )
    }
}

/// All faults of one kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sum {
    times: usize,
    longest_gap_s: f64,
}

/// One operation of an excerpt.
#[derive(Clone, Debug, Serialize)]
struct Line {
    from_s: f64,
    to_s: f64,
    client: u32,
    command: String,
    outcome: String,
}

#[derive(Clone, Debug, Serialize)]
struct Found {
    rule: Rule,
    key: String,
    what: String,
    excerpt: Vec<Line>,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Whether nothing speaks against the mesh.
    pub(super) good: bool,
    pub(super) mesh: String,
    /// What the names of all keys began with.
    pub(super) keys: String,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    operations: usize,
    outcomes: Counts,
    by_fault: BTreeMap<Fault, Sum>,
    /// The longest gap while nothing was done to the mesh.
    pub(super) calm_gap_s: f64,
    lost: usize,
    uncertain: usize,
    linearizable: bool,
    /// Why the run ended early, if it did for a reason that speaks against the mesh.
    trouble: Option<String>,
    interrupted: bool,
    findings: Vec<Found>,
    /// Keys that could not be deleted, and end by themselves.
    left: Vec<String>,
    faults: Vec<Struck>,
    #[serde(skip)]
    excerpts: Vec<Finding>,
}

/// What a run has brought.
pub(super) struct Run {
    pub(super) mesh: String,
    pub(super) keys: String,
    pub(super) seed: u64,
    pub(super) lasted: Duration,
    pub(super) faults: Vec<Struck>,
    pub(super) calm_gap: Duration,
    pub(super) trouble: Option<String>,
    pub(super) interrupted: bool,
}

impl Report {
    pub(super) fn new(run: Run, counts: Counts, verdict: Verdict, left: Vec<String>) -> Self {
        let mut by_fault: BTreeMap<Fault, Sum> = BTreeMap::new();
        for struck in &run.faults {
            let sum = by_fault.entry(struck.fault).or_default();
            sum.times += 1;
            sum.longest_gap_s = sum.longest_gap_s.max(struck.gap_s);
        }
        Self {
            good: verdict.findings.is_empty() && run.trouble.is_none(),
            mesh: run.mesh,
            keys: run.keys,
            seed: run.seed,
            seconds: run.lasted.as_secs_f64(),
            operations: counts.total(),
            outcomes: counts,
            by_fault,
            calm_gap_s: run.calm_gap.as_secs_f64(),
            lost: verdict.lost,
            uncertain: counts.unknown,
            linearizable: verdict.is_linearizable(),
            trouble: run.trouble,
            interrupted: run.interrupted,
            findings: verdict.findings.iter().map(found).collect(),
            left,
            faults: run.faults,
            excerpts: verdict.findings,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut rows = vec![["fault", "times", "longest gap"].map(str::to_owned).to_vec()];
        let row = |fault, times: String, gap: f64| vec![told(fault).to_owned(), times, format!("{gap:.3} s")];
        rows.extend(
            self.by_fault.iter().map(|(fault, sum)| row(Some(*fault), sum.times.to_string(), sum.longest_gap_s)),
        );
        rows.push(row(None, String::new(), self.calm_gap_s));
        let mut text = format!("\n{}\n\n", table(&rows));
        text += &format!("{} operations in {:.0} s: {}\n", self.operations, self.seconds, self.outcomes);
        for finding in self.excerpts.iter().take(PRINTED) {
            text += &format!("\n{}: {}: {}\n", finding.rule.named(), finding.key, finding.what);
            finding.excerpt.iter().for_each(|deed| text += &format!("  {deed}\n"));
        }
        if self.excerpts.len() > PRINTED {
            text += &format!("\n({} more findings; --json has all)\n", self.excerpts.len() - PRINTED);
        }
        if !self.left.is_empty() {
            text += &format!(
                "{} keys could not be deleted; they end by themselves: {}\n",
                self.left.len(),
                self.left.join(", ")
            );
        }
        text + &self.verdict()
    }

    fn verdict(&self) -> String {
        let Self { lost, uncertain, .. } = self;
        let linearizable = if self.linearizable { "linearizable" } else { "NOT linearizable" };
        let trouble = self.trouble.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
        let early = if self.interrupted { ", ended early" } else { "" };
        let word = if self.good { "good" } else { "VIOLATED" };
        format!("verdict: {word}{early}: {lost} lost, {uncertain} uncertain, {linearizable}{trouble}")
    }
}

fn told(fault: Option<Fault>) -> &'static str {
    match fault {
        Some(Fault::Kill) => "kill",
        Some(Fault::Pause) => "pause",
        Some(Fault::Cut) => "cut",
        Some(Fault::Slow) => "slow",
        None => "none",
    }
}

fn found(finding: &Finding) -> Found {
    let Finding { rule, key, what, excerpt } = finding.clone();
    Found { rule, key, what, excerpt: excerpt.iter().map(line).collect() }
}

fn line(deed: &Deed) -> Line {
    let seconds = |at: Time| at.since(Time(0)).as_secs_f64();
    let (command, outcome) = deed.told();
    Line { from_s: seconds(deed.start), to_s: seconds(deed.end), client: deed.client, command, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(trouble: Option<&str>) -> Run {
        let struck = |gap_s| Struck {
            at_s: 1.5,
            fault: Fault::Kill,
            harm: Harm::Killed,
            node: "node-3".into(),
            lasted_s: 1.2,
            gap_s,
            key: "chaos:1:r7".into(),
            well_after_s: 4.0,
        };
        Run {
            mesh: "a mesh".into(),
            keys: "chaos:1".into(),
            seed: 7,
            lasted: Duration::from_secs(60),
            faults: vec![struck(0.5), struck(0.25)],
            calm_gap: Duration::from_millis(31),
            trouble: trouble.map(str::to_owned),
            interrupted: false,
        }
    }

    #[test]
    fn a_good_run_is_told_in_a_table_and_a_verdict() {
        let counts = Counts { acknowledged: 10, counted: 5, reads: 3, unknown: 2, refused: 0 };
        let report = Report::new(run(None), counts, Verdict::default(), Vec::new());
        let text = report.text();
        assert!(report.good);
        assert!(text.contains("kill   2      0.500 s\nnone          0.031 s"), "{text}");
        assert!(text.ends_with("verdict: good: 0 lost, 2 uncertain, linearizable"), "{text}");
        assert_eq!(
            report.faults[0].line(),
            "    1.5 s  kill   node-3 killed for 1.2 s           longest gap 0.500 s (chaos:1:r7), well after 4.0 s"
        );
    }

    #[test]
    fn a_mesh_that_does_not_recover_is_not_good() {
        let report = Report::new(run(Some("node-2 is gone")), Counts::default(), Verdict::default(), Vec::new());
        assert!(!report.good && report.text().ends_with("linearizable; node-2 is gone"));
    }

    #[test]
    fn findings_are_told_with_their_excerpts() {
        use super::super::hand::What;
        let deed =
            Deed { client: 3, key: 0, what: What::Counted(9), start: Time(1_000_000_000), end: Time(1_500_000_000) };
        let finding = Finding { rule: Rule::OneOrder, key: "k".into(), what: "twice".into(), excerpt: vec![deed] };
        let verdict = Verdict { lost: 0, findings: vec![finding] };
        let report = Report::new(run(None), Counts::default(), verdict, vec!["k".into()]);
        let text = report.text();
        assert!(
            text.contains("not one order: k: twice\n  1.000s to 1.500s  client 3   INCR         answered 9\n"),
            "{text}"
        );
        assert!(text.contains("1 keys could not be deleted"), "{text}");
        assert!(text.contains("VIOLATED"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["good"], &json["findings"][0]["rule"]), (&false.into(), &"one_order".into()));
        assert_eq!(json["findings"][0]["excerpt"][0]["outcome"], "answered 9");
        assert_eq!(json["by_fault"]["kill"]["times"], 2);
    }
}
