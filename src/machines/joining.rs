//! Joining: how a node that belongs to no mesh yet comes into one, or founds one.
//!
//! It asks at each address it was given, round by round, until somebody admits it; who does not command names the
//! commander, who is asked next. A node with nobody to ask founds a mesh at once. One that was told to found (`mesh.found`)
//! does so after 5 s in which nobody it could ask knew a mesh; once anybody has, it never does, however long it takes. Any
//! other node asks for ever, so the order in which nodes are started does not matter.
//!
//! Should two nodes that were told to found meet, both say so, and the one with the lower id does: the other counts its
//! 5 s anew from the last time it heard the first. Not here: names and addresses of the network (`actors`), what the
//! commander does with one who asks (`ownership`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machines::Machine;
use crate::messages::ownership::{Candidate, JoinAnswer, MeshSettings};
use crate::types::{Instant, MeshId, Now, Term};

/// For how long a founder looks for a mesh before it makes one.
const LOOKING: Duration = Duration::from_secs(5);

/// How long the first round of askings takes; each later one takes half as long again, up to [`SLOWEST`].
const FIRST_ROUND: Duration = Duration::from_millis(300);

/// How long a round of askings takes at most.
const SLOWEST: Duration = Duration::from_secs(1);

/// Between two askings at least, however many addresses there are.
const PACE: Duration = Duration::from_millis(20);

/// How often one is sent elsewhere before the next address is asked instead.
const HOPS: u32 = 3;

/// After so long the operator is told the same again; then after ten times as long.
const REMINDER: Duration = Duration::from_secs(15);

/// What the joining machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// What came of asking at an address; an error in words if nobody answered there.
    Answered {
        /// Where.
        address: String,
        /// What.
        answer: Result<JoinAnswer, String>,
    },
}

/// What the joining machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask at this address (a name may stand for many: the postman asks at each and reports each by its own name).
    Ask(String),
    /// Found a mesh.
    Found,
    /// Admitted: keep the mesh id, and wait for the log.
    Joined {
        /// Which mesh.
        mesh: MeshId,
        /// Its settings.
        settings: MeshSettings,
    },
    /// Say this to the operator.
    Note(String),
    /// Give up: refused for good, and why.
    End(String),
}

/// The joining machine of one node.
#[derive(Debug)]
pub struct Joining {
    join: Vec<String>,
    found: bool,
    me: Candidate,
    /// How long the present round takes.
    round: Duration,
    /// The address that is asked next.
    next: usize,
    ask_at: Instant,
    /// Where the commander is said to be.
    hint: Option<Hint>,
    /// A mesh was heard of: this node founds none any more.
    mesh: Heard,
    /// The 5 s of a founder count from here.
    looking_since: Instant,
    /// What each address answered last.
    answers: BTreeMap<String, Situation>,
    told: Option<(Vec<Situation>, Instant, Duration)>,
    done: bool,
}

#[derive(Debug)]
struct Hint {
    peer: String,
    term: Term,
    hops: u32,
}

/// What is known of a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Mesh(Option<MeshId>),
}

/// What came of asking at one address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Situation {
    Unreachable(String),
    NoMesh,
    Busy,
}

impl Joining {
    /// A node that may ask at these addresses, and founds if there are none, or if it is told to and finds no mesh.
    pub fn new(join: Vec<String>, found: bool, me: Candidate, now: Now) -> Self {
        Self {
            join,
            found,
            me,
            round: FIRST_ROUND,
            next: 0,
            ask_at: now.instant,
            hint: None,
            mesh: Heard::Nothing,
            looking_since: now.instant,
            answers: BTreeMap::new(),
            told: None,
            done: false,
        }
    }

    /// What this node says to another that asks it for a mesh meanwhile.
    pub fn answer(&self) -> JoinAnswer {
        match (&self.hint, self.mesh) {
            (Some(hint), _) => JoinAnswer::Elsewhere { peer: hint.peer.clone(), term: hint.term },
            (None, Heard::Mesh(Some(mesh))) => JoinAnswer::Later { mesh },
            _ if self.found || self.join.is_empty() => JoinAnswer::Founding { node: self.me.id },
            _ => JoinAnswer::NoMesh,
        }
    }

    fn on_timer(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.may_found(now) {
            self.done = true;
            if !self.join.is_empty() {
                effects
                    .push(Effect::Note(format!("nobody of {} knew a mesh for 5s: founding one", self.join.join(", "))));
            }
            return effects.push(Effect::Found);
        }
        if now >= self.ask_at && !self.join.is_empty() {
            self.ask(now, effects);
        }
    }

    fn may_found(&self, now: Instant) -> bool {
        if self.join.is_empty() {
            return true;
        }
        self.found && self.mesh == Heard::Nothing && now.since(self.looking_since) >= LOOKING
    }

    /// Asks the commander where one was named, else at the next address.
    fn ask(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Some(peer) = self.hint.as_ref().map(|hint| hint.peer.clone()) {
            self.ask_at = now + self.round;
            self.slow_down();
            return effects.push(Effect::Ask(peer));
        }
        effects.push(Effect::Ask(self.join[self.next].clone()));
        self.next = (self.next + 1) % self.join.len();
        self.ask_at = now + (self.round / self.join.len() as u32).max(PACE);
        if self.next == 0 {
            self.slow_down();
        }
    }

    fn slow_down(&mut self) {
        self.round = (self.round * 3 / 2).min(SLOWEST);
    }

    fn on_answered(
        &mut self,
        now: Instant,
        address: String,
        answer: Result<JoinAnswer, String>,
        effects: &mut Vec<Effect>,
    ) {
        let situation = match answer {
            Ok(JoinAnswer::Admitted { mesh, settings }) => {
                self.done = true;
                return effects.push(Effect::Joined { mesh, settings });
            }
            Ok(JoinAnswer::Refused(reason)) => {
                self.done = true;
                return effects.push(Effect::End(format!("{address} refused this node: {reason}")));
            }
            Ok(JoinAnswer::Elsewhere { peer, term }) => {
                self.mesh = Heard::Mesh(self.known_mesh());
                self.follow(now, peer, term);
                Situation::Busy
            }
            Ok(JoinAnswer::Later { mesh }) => {
                self.mesh = Heard::Mesh(Some(mesh));
                // Whoever was named as commander says itself that nobody commands: any node may know better.
                self.forget_hint(&address);
                Situation::Busy
            }
            Ok(JoinAnswer::Founding { node }) => {
                if node < self.me.id {
                    self.looking_since = now;
                }
                Situation::NoMesh
            }
            Ok(JoinAnswer::NoMesh) => {
                self.forget_hint(&address);
                Situation::NoMesh
            }
            Err(reason) => {
                self.forget_hint(&address);
                Situation::Unreachable(reason)
            }
        };
        self.answers.insert(address, situation);
        self.tell(now, effects);
    }

    fn known_mesh(&self) -> Option<MeshId> {
        match self.mesh {
            Heard::Mesh(mesh) => mesh,
            Heard::Nothing => None,
        }
    }

    /// Goes where it was sent, at once, unless it is being sent in a circle.
    fn follow(&mut self, now: Instant, peer: String, term: Term) {
        let hops = self.hint.as_ref().map_or(0, |hint| hint.hops) + 1;
        if self.hint.as_ref().is_some_and(|hint| hint.term > term || (hint.peer == peer && hint.term == term)) {
            return;
        }
        if hops > HOPS {
            self.hint = None;
            return;
        }
        self.hint = Some(Hint { peer, term, hops });
        self.ask_at = now;
    }

    fn forget_hint(&mut self, address: &str) {
        if self.hint.as_ref().is_some_and(|hint| hint.peer == address) {
            self.hint = None;
        }
    }

    /// Tells the operator when the situation changes, and now and then while it does not.
    fn tell(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if !self.join.iter().all(|address| self.answers.contains_key(address)) {
            return;
        }
        let situation: Vec<Situation> = self.join.iter().map(|address| self.answers[address].clone()).collect();
        let pause = match &self.told {
            Some((told, at, pause)) if *told == situation && now.since(*at) < *pause => return,
            Some((told, _, pause)) if *told == situation => *pause * 10,
            // Words of errors come and go; only what is new in kind is told at once.
            Some((told, at, pause)) if same_kinds(told, &situation) && now.since(*at) < *pause => return,
            _ => REMINDER,
        };
        self.told = Some((situation, now, pause));
        effects.push(Effect::Note(self.words()));
    }

    fn words(&self) -> String {
        let line = |address: &String| match &self.answers[address] {
            Situation::Unreachable(reason) => format!("{address}: {reason}"),
            Situation::NoMesh => format!("{address}: belongs to no mesh itself"),
            Situation::Busy => format!("{address}: there is a mesh, this node is not admitted yet"),
        };
        let lines: Vec<String> = self.join.iter().map(line).collect();
        format!("asking to join, and asking again until admitted ({})", lines.join("; "))
    }
}

fn same_kinds(one: &[Situation], other: &[Situation]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(a, b)| std::mem::discriminant(a) == std::mem::discriminant(b))
}

impl Machine for Joining {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        if self.done {
            return;
        }
        match input {
            Input::Timer => self.on_timer(now.instant, effects),
            Input::Answered { address, answer } => self.on_answered(now.instant, address, answer, effects),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        let founding = self.found && self.mesh == Heard::Nothing;
        let found_at = founding.then(|| self.looking_since + LOOKING);
        found_at.into_iter().chain([self.ask_at]).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::ownership::{Addresses, Role};
    use crate::types::{Incarnation, NodeId};

    const MESH: MeshId = MeshId(9);

    fn candidate(id: u64) -> Candidate {
        Candidate {
            id: NodeId(id),
            incarnation: Incarnation(1),
            name: format!("n{id}"),
            addresses: Addresses::default(),
            zone: String::new(),
            weight: 100,
            role: Role::Drone,
        }
    }

    fn joining(join: &[&str], found: bool) -> Joining {
        Joining::new(join.iter().map(ToString::to_string).collect(), found, candidate(5), Now::default())
    }

    fn at(ms: u64) -> Now {
        Now { instant: Instant(ms * 1_000_000), wall_ms: 0 }
    }

    fn step(machine: &mut Joining, ms: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        machine.step(at(ms), input, &mut effects);
        effects
    }

    fn answered(machine: &mut Joining, ms: u64, address: &str, answer: JoinAnswer) -> Vec<Effect> {
        step(machine, ms, Input::Answered { address: address.into(), answer: Ok(answer) })
    }

    /// Runs the machine for a while; whoever it asks says what `answer` says.
    fn run(
        machine: &mut Joining,
        from: u64,
        to: u64,
        answer: impl Fn(&str, u64) -> Result<JoinAnswer, String>,
    ) -> Vec<(u64, Effect)> {
        let mut seen = Vec::new();
        let mut now = from;
        while let Some(deadline) = machine.deadline() {
            now = now.max(deadline.0.div_ceil(1_000_000));
            if now > to {
                break;
            }
            let mut queue = step(machine, now, Input::Timer);
            while !queue.is_empty() {
                for effect in std::mem::take(&mut queue) {
                    if let Effect::Ask(address) = &effect {
                        let answer = answer(address, now);
                        queue.extend(step(machine, now, Input::Answered { address: address.clone(), answer }));
                    }
                    seen.push((now, effect));
                }
            }
        }
        seen
    }

    fn refused() -> Result<JoinAnswer, String> {
        Err("connection refused".into())
    }

    fn admitted() -> JoinAnswer {
        JoinAnswer::Admitted { mesh: MESH, settings: MeshSettings::default() }
    }

    #[test]
    fn with_nobody_to_ask_it_founds_at_once() {
        let mut machine = joining(&[], false);
        assert_eq!(machine.deadline(), Some(Instant(0)));
        assert_eq!(step(&mut machine, 0, Input::Timer), [Effect::Found]);
        assert_eq!(machine.deadline(), None);
    }

    #[test]
    fn it_asks_round_by_round_and_follows_to_the_commander() {
        let mut machine = joining(&["a", "b"], false);
        assert_eq!(step(&mut machine, 0, Input::Timer), [Effect::Ask("a".into())]);
        assert_eq!(machine.deadline(), Some(at(150).instant));
        let elsewhere = JoinAnswer::Elsewhere { peer: "c".into(), term: Term(3) };
        assert_eq!(answered(&mut machine, 1, "a", elsewhere), []);
        assert_eq!(step(&mut machine, 1, Input::Timer), [Effect::Ask("c".into())]);
        let joined = Effect::Joined { mesh: MESH, settings: MeshSettings::default() };
        assert_eq!(answered(&mut machine, 2, "c", admitted()), [joined]);
        assert_eq!(machine.deadline(), None);
    }

    #[test]
    fn without_found_it_asks_for_ever_and_speaks_seldom() {
        let mut machine = joining(&["a", "b"], false);
        let seen = run(&mut machine, 0, 120_000, |_, _| refused());
        let asked = seen.iter().filter(|(_, effect)| matches!(effect, Effect::Ask(_))).count();
        assert!((200..300).contains(&asked), "{asked} askings in two minutes");
        let notes: Vec<u64> = seen.iter().filter(|(_, e)| matches!(e, Effect::Note(_))).map(|(at, _)| *at).collect();
        assert!(notes.len() == 2, "told at {notes:?}");
        assert!(!seen.iter().any(|(_, effect)| *effect == Effect::Found));
    }

    #[test]
    fn a_founder_founds_after_five_seconds_without_a_mesh() {
        let mut machine = joining(&["a", "b"], true);
        assert_eq!(machine.answer(), JoinAnswer::Founding { node: NodeId(5) });
        let seen =
            run(&mut machine, 0, 20_000, |address, _| if address == "a" { Ok(JoinAnswer::NoMesh) } else { refused() });
        assert_eq!(seen.last(), Some(&(5_000, Effect::Found)));
    }

    #[test]
    fn once_a_mesh_was_heard_of_none_is_founded() {
        let mut machine = joining(&["a", "b"], true);
        let seen =
            run(
                &mut machine,
                0,
                60_000,
                |_, now| {
                    if now < 400 { Ok(JoinAnswer::Later { mesh: MESH }) } else { refused() }
                },
            );
        assert!(!seen.iter().any(|(_, effect)| *effect == Effect::Found));
        assert_eq!(machine.answer(), JoinAnswer::Later { mesh: MESH });
    }

    #[test]
    fn of_two_founders_the_lower_id_founds() {
        let mut higher = joining(&["a"], true);
        let says = |id: u64, until: u64| {
            move |_: &str, now: u64| {
                if now < until { Ok(JoinAnswer::Founding { node: NodeId(id) }) } else { refused() }
            }
        };
        let seen = run(&mut higher, 0, 20_000, says(4, 8_000));
        let founded = seen.iter().find(|(_, effect)| *effect == Effect::Found).map(|(at, _)| *at);
        assert!(founded.is_some_and(|at| (12_000..13_000).contains(&at)), "{founded:?}");
        let mut lower = joining(&["a"], true);
        assert_eq!(run(&mut lower, 0, 20_000, says(6, 8_000)).last(), Some(&(5_000, Effect::Found)));
    }

    #[test]
    fn a_refusal_is_final() {
        let mut machine = joining(&["a"], true);
        let effects = answered(&mut machine, 0, "a", JoinAnswer::Refused("removed".into()));
        assert_eq!(effects, [Effect::End("a refused this node: removed".into())]);
        assert_eq!(answered(&mut machine, 1, "a", admitted()), []);
    }

    #[test]
    fn it_is_not_sent_in_circles_for_ever() {
        let mut machine = joining(&["a", "b"], false);
        let seen = run(&mut machine, 0, 10_000, |address, _| {
            let peer = if address == "a" { "b" } else { "a" };
            Ok(JoinAnswer::Elsewhere { peer: peer.into(), term: Term(1) })
        });
        assert!(seen.len() < 100, "{} effects in ten seconds", seen.len());
    }

    #[test]
    fn a_commander_that_has_gone_is_not_asked_for_ever() {
        let mut machine = joining(&["a"], false);
        let seen = run(&mut machine, 0, 3_000, |address, now| match address {
            "a" if now > 2_000 => Ok(admitted()),
            "a" => Ok(JoinAnswer::Elsewhere { peer: "gone".into(), term: Term(1) }),
            _ => refused(),
        });
        assert!(matches!(seen.last(), Some((_, Effect::Joined { .. }))), "{seen:?}");
    }
}
