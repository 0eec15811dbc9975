//! Every order in which a few things can happen to one range of three drones, up to a number of things: messages on each lane
//! are delivered or lost with their link, chains are agreed and adopted or slept through, processes start anew, leases are
//! asked for and run out, clients write and read. What the commander may do is bounded by its guards alone, not by sense.
//!
//! Worlds that look the same are gone on with once, so this is a search through states (breadth first: what it finds is the
//! shortest run). `KEYVAL_SCOPE` says how much may happen, as six digits: writes, reads, faults, changes of the chain, rounds of
//! leases, times in which a lease runs out; `KEYVAL_STATES` how many states are looked at. What was is in docs/proof.md.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write as _};
use std::hash::Hasher;

use super::*;

/// What may still happen.
#[derive(Clone, Copy, Debug)]
struct Budget {
    writes: u8,
    reads: u8,
    /// Processes that start anew, links that break.
    faults: u8,
    /// Changes of the chain.
    changes: u8,
    /// Rounds of leases.
    leases: u8,
    /// Times in which a lease runs out.
    passes: u8,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Act {
    Deliver(NodeId, NodeId, bool),
    Write(NodeId),
    Read(NodeId),
    Adopt(NodeId),
    Lease(NodeId),
    Restart(NodeId),
    /// The commander learns that a process has started anew.
    Admit(NodeId),
    Break(NodeId, NodeId),
    Pass,
    Join(NodeId),
    Promote(NodeId),
    Drop(NodeId),
    Park,
    Lead(NodeId),
    BeginAnew,
}

/// What a client has asked, and what it was told, and when.
#[derive(Clone, Copy, Debug)]
struct Operation {
    ticket: u64,
    /// The value of a write, 0 of a read.
    value: u64,
    asked: u64,
    /// When it was answered, and what a read was told.
    told: Option<(u64, Option<u64>)>,
}

#[derive(Clone, Debug)]
struct State {
    world: World,
    budget: Budget,
    operations: Vec<Operation>,
    steps: u64,
    /// All who served are dead: nothing that was written before is promised any more.
    lost: bool,
}

impl State {
    /// A and B hold the range, C may join.
    fn first(budget: Budget) -> Self {
        let mut world = World::new(3, 2);
        world.adopt_all();
        world.join(B);
        world.promote(B);
        world.advance(600);
        world.lease(A);
        world.deliver();
        Self { world, budget, operations: Vec::new(), steps: 0, lost: false }
    }

    /// Everything that could happen next.
    fn acts(&self) -> Vec<Act> {
        let (world, left) = (&self.world, &self.budget);
        let mut acts: Vec<Act> = world
            .links
            .iter()
            .filter(|(_, queue)| !queue.is_empty())
            .map(|((from, to, bulk), _)| Act::Deliver(*from, *to, *bulk))
            .collect();
        for (id, node) in &world.nodes {
            let adopted = node.dictionary.as_ref().map(|dictionary| dictionary.version);
            if adopted != Some(world.dictionary.version) {
                acts.push(Act::Adopt(*id));
            }
            let heads = node.store.inspect(R, world.now_of(*id)).is_some_and(|seen| seen.heads);
            if heads && left.writes > 0 {
                acts.push(Act::Write(*id));
            }
            if heads && left.reads > 0 && !self.operations.is_empty() {
                acts.push(Act::Read(*id));
            }
            if heads && left.leases > 0 {
                acts.push(Act::Lease(*id));
            }
            if left.faults > 0 {
                acts.push(Act::Restart(*id));
            }
            if world.dictionary.roster[id].node.incarnation != node.incarnation {
                acts.push(Act::Admit(*id));
            }
        }
        if left.faults > 0 {
            acts.extend([Act::Break(A, B), Act::Break(A, C), Act::Break(B, C)]);
        }
        if left.passes > 0 {
            acts.push(Act::Pass);
        }
        if left.changes > 0 {
            acts.extend(self.changes());
        }
        acts
    }

    /// What the commander's guards allow.
    fn changes(&self) -> Vec<Act> {
        let (chain, nodes) = (self.world.chain(), &self.world.nodes);
        let mut acts = Vec::new();
        let last = chain.holders.last().expect("somebody");
        let is_member = |id: &NodeId| chain.holders.iter().any(|holder| holder.node == *id);
        if last.state.serves() {
            acts.extend(nodes.keys().filter(|id| !is_member(id)).map(|id| Act::Join(*id)));
        } else if nodes.values().any(|it| it.caught_up.contains(&(chain.epoch, last.node, last.incarnation))) {
            acts.push(Act::Promote(last.node));
        }
        acts.extend(chain.holders.iter().filter(|lost| self.is_vouched_without(lost)).map(|lost| Act::Drop(lost.node)));
        let lives = |holder: &Holder| nodes[&holder.node].incarnation == holder.incarnation;
        if chain.serving().count() > 1 && lives(&chain.holders[0]) {
            let parked = nodes[&chain.holders[0].node].parked.contains(&chain.epoch);
            match parked {
                false => acts.push(Act::Park),
                true => acts.extend(chain.serving().map(|holder| Act::Lead(holder.node))),
            }
        }
        if !chain.serving().any(lives) {
            acts.push(Act::BeginAnew);
        }
        acts
    }

    /// G19: another who serves says so, in its listed life and this epoch.
    fn is_vouched_without(&self, lost: &Holder) -> bool {
        let chain = self.world.chain();
        chain.serving().filter(|other| other.node != lost.node).any(|other| {
            let node = &self.world.nodes[&other.node];
            let seen = node.store.inspect(R, self.world.now_of(other.node));
            let serves =
                seen.is_some_and(|seen| seen.epoch == chain.epoch && seen.state.is_some_and(|state| state.serves()));
            node.incarnation == other.incarnation && serves
        })
    }

    fn happen(&mut self, act: Act) {
        self.steps += 1;
        let world = &mut self.world;
        match act {
            Act::Deliver(from, to, bulk) => drop(world.deliver_one(from, to, bulk)),
            Act::Adopt(id) => world.adopt(id),
            Act::Write(id) => {
                self.budget.writes -= 1;
                let value = self.operations.iter().filter(|it| it.value > 0).count() as u64 + 1;
                self.ask(id, value);
            }
            Act::Read(id) => {
                self.budget.reads -= 1;
                self.ask(id, 0);
            }
            Act::Lease(id) => {
                self.budget.leases -= 1;
                world.lease(id);
            }
            Act::Restart(id) => {
                self.budget.faults -= 1;
                world.restart(id);
            }
            Act::Admit(id) => {
                let admitted = Command::Admit(candidate(id, world.nodes[&id].incarnation));
                world.apply(&admitted);
            }
            Act::Break(one, other) => {
                self.budget.faults -= 1;
                world.break_link(one, other);
                world.mend_link(one, other);
            }
            Act::Pass => {
                self.budget.passes -= 1;
                world.advance(300);
            }
            _ => self.change(act),
        }
        self.learn();
    }

    fn change(&mut self, act: Act) {
        self.budget.changes -= 1;
        let chain = Arc::clone(self.world.chain());
        let mut holders = chain.holders.clone();
        let cause = match act {
            Act::Park => {
                let input = Input::Park { range: R, epoch: chain.epoch };
                return self.world.tell(holders[0].node, input);
            }
            Act::Join(node) => {
                let incarnation = self.world.dictionary.roster[&node].node.incarnation;
                holders.push(Holder { node, incarnation, state: HolderState::Loading });
                Cause::Placement
            }
            Act::Promote(node) => {
                holders.last_mut().expect("somebody").state = HolderState::Serving;
                Cause::CaughtUp(node)
            }
            Act::Drop(node) => {
                holders.retain(|holder| holder.node != node);
                Cause::Lost { node, evidence: String::new() }
            }
            Act::Lead(to) => {
                let from = holders[0].node;
                holders.sort_by_key(|holder| holder.node != to);
                if from == to { Cause::CalledOff } else { Cause::HandedOver { from, to } }
            }
            Act::BeginAnew => {
                let from = self.world.dictionary.newest_copy(&chain).map(|former| former.node);
                let node = from.unwrap_or(A);
                let incarnation = self.world.dictionary.roster[&node].node.incarnation;
                holders = vec![Holder { node, incarnation, state: HolderState::Serving }];
                Cause::BegunAnew { from, lost: Vec::new() }
            }
            other => unreachable!("{other:?} is no change of a chain"),
        };
        let anew = matches!(cause, Cause::BegunAnew { .. });
        let change = SetChain { range: R, expected: chain.epoch, holders, anew, cause };
        let mut dictionary = Dictionary::clone(&self.world.dictionary);
        // What the commander may propose is not yet lawful: it may not know yet who has started anew.
        if matches!(dictionary.apply(&Command::SetChains(vec![change])).0, Applied::Changed(_)) {
            self.world.dictionary = Arc::new(dictionary);
            self.lost |= anew;
        }
    }

    fn ask(&mut self, id: NodeId, value: u64) {
        let words = if value > 0 { format!("SET k {value}") } else { "GET k".to_owned() };
        let (ticket, asked) = (self.world.tickets, self.steps);
        self.operations.push(Operation { ticket, value, asked, told: None });
        self.world.ask(id, &words);
    }

    fn learn(&mut self) {
        let steps = self.steps;
        for operation in self.operations.iter_mut().filter(|operation| operation.told.is_none()) {
            if let Some(Outcome::Replied(reply)) = self.world.outcomes.get(&operation.ticket) {
                operation.told = Some((steps, number(reply)));
            }
        }
    }

    /// Panics if a rule is broken.
    fn check(&self) {
        let answering: Vec<NodeId> = self.world.nodes.keys().copied().filter(|id| self.world.answers(*id)).collect();
        assert!(answering.len() <= 1, "{answering:?} answer");
        if self.lost {
            return;
        }
        assert!(explained(&self.operations), "no order explains {:?}", self.operations);
        // Whoever is listed as serving, and lives, could have to answer for all that was acknowledged.
        for holder in self.world.chain().serving() {
            let node = &self.world.nodes[&holder.node];
            if node.incarnation != holder.incarnation {
                continue;
            }
            let value = node.store.keyspace(R).and_then(|keyspace| keyspace.peek(b"k"));
            let value = value.map(|value| std::str::from_utf8(&value.data).expect("text").parse().expect("a number"));
            let mut operations = self.operations.clone();
            let now = self.steps + 1;
            operations.push(Operation { ticket: u64::MAX, value: 0, asked: now, told: Some((now, value)) });
            assert!(explained(&operations), "{:?} holds {value:?} after {:?}", holder.node, self.operations);
        }
    }

    fn fingerprint(&self) -> u64 {
        let Self { world, budget, operations, lost, .. } = self;
        let mut print = Print(DefaultHasher::new());
        let _ = write!(print, "{budget:?}{lost}{:?}{:?}{:?}", world.now, world.links, world.chain());
        for node in world.nodes.values() {
            let version = node.dictionary.as_ref().map(|dictionary| dictionary.version);
            let _ = write!(print, "{version:?}{:?}{:?}{:?}", node.incarnation, node.store, node.promises);
            let _ = write!(print, "{:?}{:?}{:?}", node.leases, node.caught_up, node.parked);
        }
        // When something was asked and told matters only as an order.
        for one in operations {
            let before =
                operations.iter().map(|it| it.told.is_some_and(|(told, _)| told < one.asked)).collect::<Vec<_>>();
            let _ = write!(print, "{}{:?}{before:?}", one.value, one.told.map(|(_, value)| value));
        }
        print.0.finish()
    }
}

struct Print(DefaultHasher);

impl fmt::Write for Print {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn number(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Bulk(data) => Some(std::str::from_utf8(data).expect("text").parse().expect("a number")),
        _ => None,
    }
}

/// Whether some order of all operations explains every answer: one register, at first empty. A write that was not answered
/// may have happened at any time after it was asked, or never.
fn explained(operations: &[Operation]) -> bool {
    fn go_on(left: &[Operation], value: Option<u64>) -> bool {
        if left.iter().all(|operation| operation.told.is_none()) {
            return true;
        }
        (0..left.len()).any(|place| {
            let next = left[place];
            let must_wait = left.iter().any(|other| other.told.is_some_and(|(told, _)| told < next.asked));
            let fits = match (next.value, next.told) {
                (0, None) => false,
                (0, Some((_, read))) => read == value,
                _ => true,
            };
            let rest: Vec<Operation> = left.iter().copied().filter(|other| other.ticket != next.ticket).collect();
            let after = if next.value > 0 { Some(next.value) } else { value };
            !must_wait && fits && go_on(&rest, after)
        })
    }
    go_on(operations, None)
}

/// Looks at so many states. Returns how many there were, and after how many things the last of them came.
fn search(budget: Budget, most: usize) -> (usize, u64) {
    let first = State::first(budget);
    let mut known = BTreeSet::from([first.fingerprint()]);
    let mut level: Vec<(State, Vec<Act>)> = vec![(first, Vec::new())];
    let mut deepest = 0;
    while !level.is_empty() {
        let mut next = Vec::new();
        for (state, path) in level {
            for act in state.acts() {
                if known.len() >= most {
                    return (known.len(), deepest);
                }
                let mut path = path.clone();
                path.push(act);
                let mut after = state.clone();
                let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    after.happen(act);
                    after.check();
                }));
                if let Err(cause) = played {
                    eprintln!("{path:#?}");
                    std::panic::resume_unwind(cause);
                }
                if known.insert(after.fingerprint()) {
                    deepest = after.steps;
                    next.push((after, path));
                }
            }
        }
        level = next;
    }
    (known.len(), deepest)
}

fn budget([writes, reads, faults, changes, leases, passes]: [u8; 6]) -> Budget {
    Budget { writes, reads, faults, changes, leases, passes }
}

#[test]
fn no_order_of_a_few_things_breaks_a_rule() {
    let from_environment = |name: &str| std::env::var(name).ok();
    let most = from_environment("KEYVAL_STATES").and_then(|states| states.parse().ok()).unwrap_or(20_000);
    let scope = from_environment("KEYVAL_SCOPE").unwrap_or("111211".into());
    let scope: Vec<u8> = scope.bytes().map(|digit| digit - b'0').collect();
    let budget = budget(scope.try_into().expect("six digits"));
    let (states, deepest) = search(budget, most);
    let all = if states < most { "all" } else { "the first" };
    eprintln!("{all} {states} states, up to {deepest} things that happen: {budget:?}");
    assert!(deepest > 4, "{budget:?} allows nothing");
}

#[test]
fn what_no_order_explains_is_found() {
    let write =
        |ticket, value, asked, told: Option<u64>| Operation { ticket, value, asked, told: told.map(|at| (at, None)) };
    let read = |ticket, asked, told, value| Operation { ticket, value: 0, asked, told: Some((told, value)) };
    let both = [write(1, 1, 1, Some(2)), write(2, 2, 3, Some(4))];
    assert!(explained(&[both[0], both[1], read(3, 5, 6, Some(2))]));
    assert!(!explained(&[both[0], both[1], read(3, 5, 6, Some(1))]));
    assert!(!explained(&[both[0], both[1], read(3, 5, 6, None)]));
    assert!(explained(&[both[0], write(2, 2, 3, None), read(3, 5, 6, Some(1))]));
    assert!(explained(&[both[0], write(2, 2, 3, None), read(3, 5, 6, Some(2))]));
    assert!(!explained(&[both[0], write(2, 2, 3, None), read(3, 5, 6, Some(2)), read(4, 7, 8, Some(1))]));
}
