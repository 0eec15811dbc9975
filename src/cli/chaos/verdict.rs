//! What the history of a siege says against the mesh: what was lost, what no order of operations explains, and the shortest
//! excerpt that shows it.
//!
//! Registers are judged by the zones method, counters by the order of their answers, as in the simulator (`sim::checker`).
//! Beyond that each register ends with the value that was acknowledged last, or one whose outcome nobody learnt; and each
//! counter with as many counts as were answered, and at most as many more as are of unknown outcome.

use serde::Serialize;

use super::account::Account;
use super::hand::{Deed, What};
use crate::sim::checker::{Counted, Kind, Operation, judge_counter, judge_register};
use crate::types::Generation;

/// Which rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// What was acknowledged is there at the end.
    NothingLost,
    /// Some order of all operations, which time agrees with, explains every answer.
    Linearizable,
    /// The answers of a counter are one order.
    OneOrder,
    /// Nothing happens that nobody asked for.
    NothingElse,
    /// At the end every key can be read.
    Answered,
}

impl Rule {
    /// For people.
    pub fn named(self) -> &'static str {
        match self {
            Self::NothingLost => "lost",
            Self::Linearizable => "not linearizable",
            Self::OneOrder => "not one order",
            Self::NothingElse => "nobody asked for it",
            Self::Answered => "not answered",
        }
    }
}

/// Something that speaks against the mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// Of which key.
    pub key: String,
    /// How, in words.
    pub what: String,
    /// The few operations that show it, by the time of their answers.
    pub excerpt: Vec<Deed>,
}

/// What a history comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// How many acknowledged writes and counts are gone at the end, with nothing of them left.
    pub lost: usize,
    /// Everything that speaks against the mesh.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Of a history.
    pub fn of(account: &Account) -> Self {
        let mut verdict = Self::default();
        for (key, known) in account.keys.iter().enumerate() {
            let history = account.histories.get(&key).map_or(&[][..], Vec::as_slice);
            let mut bench = Bench { key: &known.name, history, verdict: &mut verdict };
            bench.strange();
            if known.counts { bench.counter() } else { bench.register() }
        }
        verdict
    }

    /// Whether some order explains every answer; what is lost at the end has none either.
    pub fn is_linearizable(&self) -> bool {
        self.findings.iter().all(|finding| finding.rule == Rule::Answered)
    }
}

/// One key under judgement.
struct Bench<'a> {
    key: &'a str,
    history: &'a [Deed],
    verdict: &'a mut Verdict,
}

impl<'a> Bench<'a> {
    fn find(&mut self, rule: Rule, what: String, excerpt: &[&Deed]) {
        let mut excerpt: Vec<Deed> = excerpt.iter().map(|deed| (*deed).clone()).collect();
        excerpt.sort_by_key(|deed| deed.end);
        self.verdict.findings.push(Finding { rule, key: self.key.to_owned(), what, excerpt });
    }

    /// What was there that no client of ours can have brought about.
    fn strange(&mut self) {
        let history = self.history;
        let Some(at) = history.iter().position(|deed| matches!(deed.what, What::Strange(_))) else { return };
        let before = history[..at].iter().rev().find(|deed| deed.end < history[at].start && is_acknowledged(deed));
        let excerpt: Vec<&Deed> = before.into_iter().chain([&history[at]]).collect();
        let (command, outcome) = history[at].told();
        let what = format!("{command} {outcome} at {}, and nobody wrote that", history[at].end);
        self.find(Rule::NothingElse, what, &excerpt);
    }

    fn register(&mut self) {
        let lost = self.lost();
        let operations: Vec<(&Deed, Operation)> =
            self.history.iter().filter_map(|deed| Some((deed, operation(deed)?))).collect();
        let all: Vec<Operation> = operations.iter().map(|(_, operation)| *operation).collect();
        let Err(contradiction) = judge_register(&all) else { return };
        let concerned: Vec<(&Deed, Operation)> =
            operations.into_iter().filter(|(_, it)| contradiction.values.contains(&value(it))).collect();
        let excerpt = shortest(&concerned);
        // What is lost at the end contradicts the rest, too; that need not be told twice.
        if lost.is_none_or(|read| !excerpt.contains(&read)) {
            self.find(Rule::Linearizable, contradiction.what, &excerpt);
        }
    }

    /// Looks for writes of which nothing is left at the end. The last read, if it shows that.
    fn lost(&mut self) -> Option<&'a Deed> {
        let history = self.history;
        let Some(last) = history.last().filter(|deed| matches!(deed.what, What::Register(Kind::Read(_)))) else {
            self.unread(|what| matches!(what, What::Strange(_)));
            return None;
        };
        let What::Register(Kind::Read(found)) = last.what else { return None };
        let kind = |deed: &Deed| if let What::Register(kind) = deed.what { Some(kind) } else { None };
        if found.is_some_and(|value| history.iter().any(|deed| kind(deed) == Some(Kind::MayWrite(value)))) {
            return None;
        }
        let acknowledged = |deed: &&Deed| matches!(kind(deed), Some(Kind::Wrote(value)) if Some(value) > found);
        let gone: Vec<&Deed> = history.iter().filter(acknowledged).collect();
        let newest = *gone.last()?;
        self.verdict.lost += gone.len();
        let what = match found {
            Some(value) => {
                format!("value {value} is there at the end, and {} later ones were acknowledged", gone.len())
            }
            None => format!("nothing is there at the end, and {} writes were acknowledged", gone.len()),
        };
        let written = history.iter().find(|deed| found.is_some() && kind(deed) == found.map(Kind::Wrote));
        let excerpt: Vec<&Deed> = written.into_iter().chain([newest, last]).collect();
        self.find(Rule::NothingLost, what, &excerpt);
        Some(last)
    }

    fn unread(&mut self, is_told_already: impl Fn(&What) -> bool) {
        if !self.history.last().is_some_and(|last| is_told_already(&last.what)) {
            let excerpt: Vec<&Deed> = self.history.last().into_iter().collect();
            self.find(Rule::Answered, "nobody tells what is there at the end".to_owned(), &excerpt);
        }
    }

    fn counter(&mut self) {
        let counts = |deed: &'a Deed| Some((deed, counted(deed)?));
        let answers: Vec<(&Deed, Counted)> = self.history.iter().filter_map(counts).collect();
        let mut all: Vec<Counted> = answers.iter().map(|(_, counted)| *counted).collect();
        if let Err(clash) = judge_counter(&mut all) {
            let excerpt: Vec<&Deed> =
                answers.iter().filter(|(_, counted)| clash.pair.contains(counted)).map(|(deed, _)| *deed).collect();
            return self.find(Rule::OneOrder, clash.what, &excerpt);
        }
        let Some((last, stood)) = self.history.last().and_then(|last| Some((last, stood(last)?))) else {
            return self.unread(|what| matches!(what, What::Strange(_)));
        };
        let answered = answers.len() as u64;
        let highest = answers.iter().max_by_key(|(_, counted)| counted.number);
        let unknown = self.history.iter().filter(|deed| deed.what == What::MayCount).count() as u64;
        let mut excerpt: Vec<&Deed> = highest.iter().map(|(deed, _)| *deed).collect();
        excerpt.push(last);
        let reached = highest.map_or(0, |(_, counted)| counted.number);
        if stood < answered.max(reached) {
            self.verdict.lost += (answered.max(reached) - stood) as usize;
            let what =
                format!("it stands at {stood}, {answered} counts were answered, and the highest answer was {reached}");
            self.find(Rule::NothingLost, what, &excerpt);
        } else if stood > answered + unknown {
            let what =
                format!("it stands at {stood}, and only {answered} counts were answered and {unknown} are unknown");
            self.find(Rule::NothingElse, what, &excerpt);
        }
    }
}

/// Of operations that contradict each other as few as still do. What a read told comes with the write of that value.
fn shortest<'a>(concerned: &[(&'a Deed, Operation)]) -> Vec<&'a Deed> {
    let mut forth = concerned.to_vec();
    let mut back: Vec<_> = concerned.iter().rev().copied().collect();
    [&mut forth, &mut back].into_iter().for_each(thin);
    let few = if back.len() < forth.len() { back } else { forth };
    few.into_iter().map(|(deed, _)| deed).collect()
}

/// Takes out one operation after the other, as long as what is left is contradictory; again, since a write stays until the last
/// read of its value has gone.
fn thin(operations: &mut Vec<(&Deed, Operation)>) {
    let before = operations.len();
    let mut at = 0;
    while at < operations.len() {
        let (deed, taken) = operations.remove(at);
        let is_read = matches!(taken.kind, Kind::Read(_));
        let is_wanted = !is_read && operations.iter().any(|(_, other)| other.kind == Kind::Read(value(&taken)));
        let left: Vec<Operation> = operations.iter().map(|(_, operation)| *operation).collect();
        if is_wanted || judge_register(&left).is_ok() {
            operations.insert(at, (deed, taken));
            at += 1;
        }
    }
    if operations.len() < before {
        thin(operations);
    }
}

fn counted(deed: &Deed) -> Option<Counted> {
    let What::Counted(number) = deed.what else { return None };
    let (key, generation) = (deed.key as u32, Generation(0));
    Some(Counted { key, number, start: (deed.start, generation), end: (deed.end, generation) })
}

fn stood(deed: &Deed) -> Option<u64> {
    if let What::Stood(number) = deed.what { Some(number) } else { None }
}

fn is_acknowledged(deed: &Deed) -> bool {
    matches!(deed.what, What::Register(Kind::Wrote(_)) | What::Counted(_))
}

fn operation(deed: &Deed) -> Option<Operation> {
    let What::Register(kind) = deed.what else { return None };
    // What is lost with a range that was begun anew counts as lost: the mesh is never harmed so much that it may be.
    let generation = Generation(0);
    Some(Operation { key: deed.key as u32, kind, start: (deed.start, generation), end: (deed.end, generation) })
}

fn value(operation: &Operation) -> Option<u64> {
    match operation.kind {
        Kind::Read(value) => value,
        Kind::Wrote(value) | Kind::MayWrite(value) | Kind::Refused(value) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::account::Key;
    use super::*;
    use crate::sim::clock::Time;

    use Kind::{MayWrite, Read, Refused, Wrote};

    /// Of a history of one key, each operation with its client and the seconds at which it began and ended.
    fn judge(counts: bool, history: Vec<(u32, What, u64, u64)>) -> Verdict {
        let second = |at: u64| Time(at * 1_000_000_000);
        let deed = |(client, what, start, end)| Deed { client, key: 0, what, start: second(start), end: second(end) };
        let mut account = Account::new(vec![Key { name: "k".into(), counts }], SystemTime::now());
        account.enter(history.into_iter().map(deed).collect());
        Verdict::of(&account)
    }

    fn register(history: &[(u32, Kind, u64, u64)]) -> Verdict {
        let deed = |(client, kind, start, end): &(u32, Kind, u64, u64)| (*client, What::Register(*kind), *start, *end);
        judge(false, history.iter().map(deed).collect())
    }

    /// The one finding: its rule, its words, and its excerpt, a line each without times.
    fn only(verdict: &Verdict) -> (Rule, &str, Vec<String>) {
        let [finding] = verdict.findings.as_slice() else { panic!("{:?}", verdict.findings) };
        let line = |deed: &Deed| format!("{}: {} {}", deed.client, deed.told().0, deed.told().1);
        (finding.rule, &finding.what, finding.excerpt.iter().map(line).collect())
    }

    #[test]
    fn a_good_history_has_no_findings() {
        let verdict = register(&[
            (0, Wrote(1), 0, 1),
            (0, MayWrite(2), 2, 9),
            (1, Read(Some(1)), 3, 4),
            (1, Read(Some(2)), 10, 11),
        ]);
        assert_eq!(verdict, Verdict::default());
        assert!(verdict.is_linearizable());
        let counts = vec![
            (0, What::Counted(1), 0, 1),
            (1, What::MayCount, 0, 9),
            (0, What::Counted(3), 2, 3),
            (2, What::Stood(3), 10, 11),
        ];
        assert_eq!(judge(true, counts), Verdict::default());
    }

    #[test]
    fn what_is_gone_at_the_end_is_lost() {
        let verdict =
            register(&[(0, Wrote(1), 0, 1), (0, Wrote(2), 2, 3), (0, Wrote(3), 4, 5), (1, Read(Some(1)), 6, 7)]);
        let (rule, what, excerpt) = only(&verdict);
        assert_eq!((verdict.lost, rule), (2, Rule::NothingLost));
        assert!(what.contains("2 later ones"), "{what}");
        assert_eq!(excerpt, ["0: SET 1 acknowledged", "0: SET 3 acknowledged", "1: GET answered 1"]);

        let verdict = register(&[(0, Wrote(1), 0, 1), (1, Read(Some(1)), 2, 3), (1, Read(None), 6, 7)]);
        let (rule, _, excerpt) = only(&verdict);
        assert_eq!((verdict.lost, rule), (1, Rule::NothingLost));
        assert_eq!(excerpt, ["0: SET 1 acknowledged", "1: GET answered nothing"]);
        assert!(!verdict.is_linearizable());
    }

    #[test]
    fn an_unknown_write_may_be_the_last_one() {
        let history = [(0, MayWrite(1), 0, 1), (0, Wrote(2), 2, 3), (1, Read(Some(1)), 6, 7)];
        assert_eq!(register(&history), Verdict::default());
    }

    #[test]
    fn a_stale_read_is_shown_by_the_fewest_operations() {
        let mut history = vec![(0, Wrote(1), 0, 1), (0, Wrote(2), 2, 3), (0, Wrote(3), 9, 10)];
        // Many reads that say nothing new around the one that is stale.
        history.extend((0..50).map(|_| (1, Read(Some(2)), 4, 5)));
        history.push((2, Read(Some(1)), 6, 7));
        history.extend((0..50).map(|_| (1, Read(Some(2)), 6, 8)));
        history.push((3, Read(Some(3)), 11, 12));
        let verdict = register(&history);
        let (rule, _, excerpt) = only(&verdict);
        assert_eq!((verdict.lost, rule), (0, Rule::Linearizable));
        assert_eq!(excerpt, ["0: SET 1 acknowledged", "0: SET 2 acknowledged", "2: GET answered 1"]);
    }

    #[test]
    fn two_readers_must_not_see_an_unknown_write_come_and_go() {
        let verdict = register(&[
            (0, Wrote(1), 0, 1),
            (0, MayWrite(2), 2, 3),
            (1, Read(Some(2)), 4, 5),
            (2, Read(Some(1)), 6, 7),
            (0, Wrote(3), 8, 9),
            (3, Read(Some(3)), 10, 11),
        ]);
        let (rule, what, excerpt) = only(&verdict);
        assert_eq!(rule, Rule::Linearizable);
        assert!(what.contains("value 1 was seen at 1.000s and still at 6.000s"), "{what}");
        assert_eq!(
            excerpt,
            ["0: SET 1 acknowledged", "0: SET 2 outcome unknown", "1: GET answered 2", "2: GET answered 1"]
        );
    }

    #[test]
    fn what_was_refused_or_never_written_must_not_be_read() {
        let last = [(0, Wrote(2), 5, 6), (1, Read(Some(2)), 7, 8)];
        let verdict = register(&[&[(0, Refused(1), 0, 1), (1, Read(Some(1)), 2, 3)], &last[..]].concat());
        let (rule, what, excerpt) = only(&verdict);
        assert_eq!((rule, excerpt), (Rule::Linearizable, vec!["0: SET 1 refused".into(), "1: GET answered 1".into()]));
        assert!(what.contains("refused"), "{what}");
        let verdict = register(&[&[(1, Read(Some(77)), 2, 3)], &last[..]].concat());
        assert!(only(&verdict).1.contains("nobody wrote it"));
        let mut history = vec![(0, What::Register(Wrote(1)), 0, 1), (1, What::Strange("\"x\"".into()), 2, 3)];
        history.extend(last.map(|(client, kind, start, end)| (client, What::Register(kind), start, end)));
        let verdict = judge(false, history);
        let (rule, what, excerpt) = only(&verdict);
        assert_eq!((rule, excerpt.len()), (Rule::NothingElse, 2));
        assert!(what.contains("answered \"x\""), "{what}");
    }

    #[test]
    fn a_key_that_nobody_tells_of_is_named() {
        let verdict = register(&[(0, Wrote(1), 0, 1)]);
        assert_eq!(only(&verdict).0, Rule::Answered);
        assert!(verdict.is_linearizable());
    }

    #[test]
    fn counters_neither_repeat_nor_go_back_nor_lose_nor_add() {
        let one = || (0, What::Counted(1), 0, 1);
        let verdict = judge(true, vec![one(), (1, What::Counted(1), 2, 3), (2, What::Stood(2), 8, 9)]);
        let (rule, _, excerpt) = only(&verdict);
        assert_eq!((rule, excerpt), (Rule::OneOrder, vec!["0: INCR answered 1".into(), "1: INCR answered 1".into()]));

        let back = vec![(0, What::MayCount, 0, 1), (0, What::Counted(2), 0, 1), (1, What::Counted(1), 2, 3)];
        assert_eq!(only(&judge(true, back)).0, Rule::OneOrder);

        let verdict = judge(true, vec![one(), (1, What::Counted(2), 2, 3), (2, What::Stood(1), 8, 9)]);
        let (rule, _, excerpt) = only(&verdict);
        assert_eq!((verdict.lost, rule), (1, Rule::NothingLost));
        assert_eq!(excerpt, ["1: INCR answered 2", "2: GET answered 1"]);

        let verdict = judge(true, vec![one(), (1, What::MayCount, 2, 3), (2, What::Stood(3), 8, 9)]);
        assert_eq!(only(&verdict).0, Rule::NothingElse);
        let verdict = judge(true, vec![one(), (2, What::Strange("nothing".into()), 8, 9)]);
        assert_eq!(only(&verdict).0, Rule::NothingElse);
    }
}
