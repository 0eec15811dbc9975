//! What a dictionary does with each command, and what it refuses.

use proptest::prelude::*;

use super::*;
use crate::messages::ownership::{Addresses, SetChain};
use crate::wire::codec;

fn candidate(id: u64, life: u64) -> Candidate {
    Candidate {
        id: NodeId(id),
        incarnation: Incarnation(life),
        name: format!("n{id}"),
        addresses: Addresses {
            peer: format!("10.0.0.{id}:16234"),
            client: format!("10.0.0.{id}:6234"),
            cluster: format!("10.0.0.{id}:7234"),
            console: format!("10.0.0.{id}:8234"),
        },
        zone: String::new(),
        weight: 100,
        role: Role::Drone,
    }
}

fn mesh(nodes: u64, factor: u8) -> Dictionary {
    let settings = MeshSettings { ranges: 16, factor, ..MeshSettings::default() };
    let mut dictionary = Dictionary::found(MeshId(7), settings, candidate(1, 1));
    for id in 2..=nodes {
        changed(&mut dictionary, Command::Admit(candidate(id, 1)));
        changed(&mut dictionary, stand(id, Standing::Up));
    }
    dictionary
}

fn changed(dictionary: &mut Dictionary, command: Command) -> Vec<Event> {
    let before = dictionary.version;
    let (applied, events) = dictionary.apply(&command);
    assert_eq!(applied, Applied::Changed(before.next()), "{command:?}");
    assert!(!events.is_empty(), "every change is told");
    events
}

fn refused(dictionary: &mut Dictionary, command: Command) -> String {
    let before = dictionary.clone();
    match dictionary.apply(&command) {
        (Applied::Nothing(reason), events) => {
            assert_eq!(*dictionary, before);
            assert!(events.is_empty());
            reason
        }
        (changed, _) => panic!("{changed:?} of {command:?}"),
    }
}

fn stand(id: u64, standing: Standing) -> Command {
    Command::Stand { node: NodeId(id), incarnation: Incarnation(1), standing, evidence: "heard".into() }
}

fn bury(id: u64, life: u64) -> Command {
    Command::Bury { node: NodeId(id), incarnation: Incarnation(life), cause: Cause::Expired(NodeId(id)) }
}

fn remove(id: u64) -> Command {
    Command::Remove { node: NodeId(id), cause: Cause::Dropped(NodeId(id)) }
}

/// `"1 2l 3x"`: node 1 serves, 2 is loading, 3 is leaving. `"1'"` is its second life.
fn holders(text: &str) -> Vec<Holder> {
    let holder = |word: &str| {
        let state = match word.chars().last() {
            Some('l') => HolderState::Loading,
            Some('x') => HolderState::Leaving,
            _ => HolderState::Serving,
        };
        let incarnation = Incarnation(1 + word.matches('\'').count() as u64);
        let node = NodeId(word.trim_end_matches(['l', 'x', '\'']).parse().expect("a number"));
        Holder { node, incarnation, state }
    };
    text.split_whitespace().map(holder).collect()
}

fn set(dictionary: &Dictionary, range: u16, to: &str) -> SetChain {
    SetChain {
        range: RangeId(range),
        expected: dictionary.chain(RangeId(range)).epoch,
        holders: holders(to),
        anew: false,
        cause: Cause::Placement,
    }
}

fn chain(dictionary: &mut Dictionary, to: &str) {
    let change = set(dictionary, 0, to);
    changed(dictionary, Command::SetChains(vec![change]));
    assert_eq!(dictionary.chain(RangeId(0)).holders, holders(to));
    assert_eq!(dictionary.chain(RangeId(0)).changed, dictionary.version);
}

fn no_chain(dictionary: &mut Dictionary, to: &str) -> String {
    let change = set(dictionary, 0, to);
    refused(dictionary, Command::SetChains(vec![change]))
}

fn anew(dictionary: &Dictionary, to: &str, from: Option<u64>) -> Command {
    let mut change = set(dictionary, 0, to);
    change.anew = true;
    change.cause = Cause::BegunAnew { from: from.map(NodeId), lost: vec![NodeId(1)] };
    Command::SetChains(vec![change])
}

#[test]
fn a_founder_holds_everything() {
    let dictionary = mesh(1, 1);
    assert_eq!(dictionary.version, Version(1));
    assert_eq!(dictionary.tally(NodeId(1)), Tally { headed: 16, held: 16, loading: 0 });
    assert_eq!((dictionary.unserved(), dictionary.short_of_copies()), (0, 0));
    assert_eq!(dictionary.head_of(RangeId(3)).map(|head| head.node.id), Some(NodeId(1)));
    assert_eq!(mesh(1, 2).short_of_copies(), 16);
}

#[test]
fn admission_gives_the_lowest_free_index_and_a_name_of_its_own() {
    let mut dictionary = mesh(3, 1);
    changed(&mut dictionary, remove(2));
    let twin = Candidate { name: "n1".into(), ..candidate(0xabcdef, 1) };
    changed(&mut dictionary, Command::Admit(twin.clone()));
    let member = dictionary.member(NodeId(0xabcdef)).expect("just admitted");
    assert_eq!((member.index, member.node.name.as_str()), (1, "n1-cdef"));
    assert_eq!(member.standing, Standing::Joining);
    assert!(dictionary.shows(&twin), "it presents itself by its own name, and need not be told again");
    refused(&mut dictionary, Command::Admit(twin));
}

#[test]
fn a_node_that_is_back_proves_that_its_former_life_is_over() {
    let mut dictionary = mesh(2, 1);
    assert!(!dictionary.is_dead(NodeId(1), Incarnation(1)));
    changed(&mut dictionary, Command::Admit(candidate(1, 2)));
    assert!(dictionary.is_dead(NodeId(1), Incarnation(1)));
    assert!(!dictionary.is_dead(NodeId(1), Incarnation(2)));
    assert_eq!(dictionary.unserved(), 16, "the new life holds nothing");
    assert_eq!(dictionary.head_of(RangeId(0)), None);
    assert_eq!(dictionary.unserved_ranges().count(), 16);
    assert!(refused(&mut dictionary, Command::Admit(candidate(1, 1))).contains("another process"));
}

#[test]
fn who_was_removed_or_given_up_does_not_come_back_as_it_was() {
    let mut dictionary = mesh(3, 1);
    changed(&mut dictionary, remove(3));
    assert!(refused(&mut dictionary, Command::Admit(candidate(3, 9))).contains("empty data directory"));
    changed(&mut dictionary, bury(2, 1));
    assert!(refused(&mut dictionary, Command::Admit(candidate(2, 1))).contains("start again"));
    assert!(refused(&mut dictionary, stand(2, Standing::Up)).contains("given up"));
    assert_eq!(dictionary.member(NodeId(2)).map(|member| member.standing), Some(Standing::Suspect));
    changed(&mut dictionary, Command::Admit(candidate(2, 2)));
    assert!(!dictionary.member(NodeId(2)).expect("admitted").is_over());
}

#[test]
fn what_strangers_say_of_themselves_is_bounded() {
    let mut dictionary = mesh(1, 1);
    let nameless = Candidate { name: String::new(), ..candidate(2, 1) };
    let endless = Candidate { zone: "z".repeat(5_000), ..candidate(2, 1) };
    let blank = Candidate { name: "a b".into(), ..candidate(2, 1) };
    let weightless = Candidate { weight: 0, ..candidate(2, 1) };
    assert!(
        dictionary.admissible(&Candidate { role: Role::Witness, ..weightless.clone() }).is_ok(),
        "it holds nothing"
    );
    for bad in [nameless, endless, blank, weightless] {
        refused(&mut dictionary, Command::Admit(bad));
    }
}

#[test]
fn the_gone_are_remembered_up_to_a_thousand() {
    let mut dictionary = mesh(1, 1);
    for id in 2..=1_102 {
        changed(&mut dictionary, Command::Admit(Candidate { name: format!("x{id}"), ..candidate(id, 1) }));
        changed(&mut dictionary, remove(id));
    }
    assert_eq!(dictionary.gone.len(), roster::MAX_GONE);
    assert!(!dictionary.gone.contains_key(&NodeId(102)) && dictionary.gone.contains_key(&NodeId(103)));
}

#[test]
fn a_node_with_ranges_leaves_only_once_it_is_known_to_have_ended() {
    let mut dictionary = mesh(2, 1);
    assert!(refused(&mut dictionary, remove(1)).contains("16 ranges"));
    changed(&mut dictionary, bury(1, 1));
    changed(&mut dictionary, remove(1));
    assert_eq!(dictionary.unserved(), 16);
    assert!(refused(&mut dictionary, remove(2)).contains("last node"));
}

#[test]
fn a_chain_changes_one_lawful_step_at_a_time() {
    let mut dictionary = mesh(4, 2);
    chain(&mut dictionary, "1 2l");
    no_chain(&mut dictionary, "1 2l 3l");
    no_chain(&mut dictionary, "2l");
    no_chain(&mut dictionary, "2");
    no_chain(&mut dictionary, "3 1 2");
    chain(&mut dictionary, "1 2");
    no_chain(&mut dictionary, "1 2l");
    chain(&mut dictionary, "1 2 3l");
    no_chain(&mut dictionary, "1 3l 2");
    no_chain(&mut dictionary, "3 1 2");
    no_chain(&mut dictionary, "1");
    chain(&mut dictionary, "1x 2 3");
    no_chain(&mut dictionary, "3 2 1x");
    no_chain(&mut dictionary, "3 2");
    chain(&mut dictionary, "3 1x 2");
    chain(&mut dictionary, "3 1x 2");
    chain(&mut dictionary, "3 2");
    assert_eq!(dictionary.chain(RangeId(0)).epoch, Epoch(8));
    no_chain(&mut dictionary, "3 4");
    no_chain(&mut dictionary, "3 2 4'l");
    no_chain(&mut dictionary, "3 2 9l");
    no_chain(&mut dictionary, "");
}

#[test]
fn a_change_computed_from_another_epoch_does_nothing() {
    let mut dictionary = mesh(3, 2);
    let stale = set(&dictionary, 0, "1 2l");
    chain(&mut dictionary, "1 3l");
    let fresh = SetChain { range: RangeId(5), ..stale.clone() };
    assert!(refused(&mut dictionary, Command::SetChains(vec![stale.clone()])).contains("epoch"));
    changed(&mut dictionary, Command::SetChains(vec![stale, fresh]));
    assert_eq!(dictionary.chain(RangeId(0)).holders, holders("1 3l"));
    assert_eq!(dictionary.chain(RangeId(5)).holders, holders("1 2l"));
}

#[test]
fn the_last_living_member_is_never_dropped() {
    let mut dictionary = mesh(3, 2);
    chain(&mut dictionary, "1 2l");
    chain(&mut dictionary, "1 2");
    changed(&mut dictionary, bury(2, 1));
    assert!(no_chain(&mut dictionary, "2").contains("nobody alive"));
    chain(&mut dictionary, "1");
}

#[test]
fn witnesses_hold_nothing() {
    let mut dictionary = mesh(2, 2);
    changed(&mut dictionary, Command::Admit(Candidate { role: Role::Witness, ..candidate(3, 1) }));
    assert!(no_chain(&mut dictionary, "1 3l").contains("only drones"));
    assert_eq!(dictionary.drones().count(), 2);
}

#[test]
fn silence_is_no_death() {
    let mut dictionary = mesh(3, 1);
    changed(&mut dictionary, stand(1, Standing::Suspect));
    assert_eq!(dictionary.unserved(), 16);
    let command = anew(&dictionary, "2", None);
    assert!(refused(&mut dictionary, command.clone()).contains("silence"));
    changed(&mut dictionary, bury(1, 1));
    let events = changed(&mut dictionary, command);
    assert_eq!(events[0].kind, EventKind::RangesLost);
    let chain = dictionary.chain(RangeId(0));
    assert_eq!((chain.generation, chain.revived), (Generation(2), None));
    assert_eq!(dictionary.unserved(), 15);
}

#[test]
fn the_newest_surviving_copy_begins_a_range_anew() {
    let mut dictionary = mesh(4, 3);
    for to in ["1 2l", "1 2", "1 2 3l", "1 2 3", "1 3", "3"] {
        chain(&mut dictionary, to);
    }
    let former: Vec<_> = dictionary.chain(RangeId(0)).former.iter().map(|copy| (copy.node.0, copy.until.0)).collect();
    assert_eq!(former, [(1, 6), (2, 5)], "newest first");
    changed(&mut dictionary, bury(3, 1));
    for (to, from) in [("4", None), ("2", Some(2)), ("4", Some(1))] {
        let command = anew(&dictionary, to, from);
        refused(&mut dictionary, command);
    }
    changed(&mut dictionary, Command::Admit(candidate(1, 2)));
    let command = anew(&dictionary, "2", Some(2));
    changed(&mut dictionary, command);
    let chain = dictionary.chain(RangeId(0));
    assert_eq!((chain.revived, chain.former.len()), (Some(NodeId(2)), 0));
}

#[test]
fn former_copies_are_forgotten_when_the_range_is_whole() {
    let mut dictionary = mesh(3, 2);
    for to in ["1 2l", "1 2", "2"] {
        chain(&mut dictionary, to);
    }
    assert_eq!(dictionary.chain(RangeId(0)).former.len(), 1);
    chain(&mut dictionary, "2 3l");
    assert_eq!(dictionary.chain(RangeId(0)).former.len(), 1);
    chain(&mut dictionary, "2 3");
    assert_eq!(dictionary.chain(RangeId(0)).former.len(), 0);
}

#[test]
fn settings_change_within_reason() {
    let mut dictionary = mesh(1, 2);
    let set = |key: &str, value: &str| Command::Configure { key: key.into(), value: value.into() };
    changed(&mut dictionary, set("replication.factor", "3"));
    changed(&mut dictionary, set("replication.min_copies", "2"));
    changed(&mut dictionary, set("replication.give_up", "10s"));
    changed(&mut dictionary, set("node_expiry", "1h"));
    changed(&mut dictionary, set("election.voters", "3"));
    assert_eq!((dictionary.settings.factor, dictionary.settings.min_copies, dictionary.settings.voters), (3, 2, 3));
    for (key, value) in [
        ("replication.factor", "1"),
        ("replication.factor", "many"),
        ("replication.give_up", "100ms"),
        ("node_expiry", "1s"),
        ("failure_timeout", "1s"),
        ("colour", "blue"),
        ("election.voters", "3"),
    ] {
        refused(&mut dictionary, set(key, value));
    }
}

#[test]
fn changes_and_snapshots_are_small() {
    let settings = MeshSettings { factor: 3, ..MeshSettings::default() };
    let mut dictionary = Dictionary::found(MeshId(u128::MAX), settings, candidate(1, 1 << 40));
    let life = Incarnation(1 << 40);
    for id in 2..=50u64 {
        let id = id << 50 | id;
        changed(&mut dictionary, Command::Admit(candidate(id, life.0)));
    }
    let nodes: Vec<NodeId> = dictionary.roster.keys().copied().collect();
    let lost = |place: usize| Cause::Lost { node: nodes[place % 50], evidence: "no beacon for 512 ms".into() };
    for round in 1..5u64 {
        let change = |place: usize| {
            let mut holders = dictionary.chains[place].holders.clone();
            if round % 2 == 1 {
                let node = nodes[1 + (place + round as usize) % 49];
                holders.push(Holder { node, incarnation: life, state: HolderState::Loading });
            } else {
                holders.last_mut().expect("never empty").state = HolderState::Serving;
            }
            let range = RangeId(place as u16);
            let expected = dictionary.chain(range).epoch;
            SetChain { range, expected, holders, anew: false, cause: lost(place) }
        };
        let changes: Vec<SetChain> = (0..1024).map(change).collect();
        let size = codec::encode(&Command::SetChains(changes[..1].to_vec())).len();
        assert!(size < 200, "one range's change takes {size} bytes");
        changed(&mut dictionary, Command::SetChains(changes));
    }
    assert_eq!(dictionary.short_of_copies(), 0);
    let bytes = codec::encode(&dictionary);
    assert!(bytes.len() < 64 * 1024, "{} bytes", bytes.len());
    assert_eq!(codec::decode::<Dictionary>(&bytes).expect("it is one"), dictionary);
}

fn any_command() -> impl Strategy<Value = Command> {
    let node = 1..6u64;
    let life = 1..4u64;
    let holder = (1..6u64, 1..3u64, 0..3u8).prop_map(|(node, life, state)| Holder {
        node: NodeId(node),
        incarnation: Incarnation(life),
        state: [HolderState::Serving, HolderState::Loading, HolderState::Leaving][state as usize],
    });
    let change = (0..16u16, 1..6u64, prop::collection::vec(holder, 1..4), any::<bool>()).prop_map(
        |(range, epoch, holders, anew)| SetChain {
            range: RangeId(range),
            expected: Epoch(epoch),
            holders,
            anew,
            cause: if anew { Cause::BegunAnew { from: None, lost: Vec::new() } } else { Cause::Placement },
        },
    );
    prop_oneof![
        2 => (node.clone(), life.clone()).prop_map(|(node, life)| Command::Admit(candidate(node, life))),
        1 => node.clone().prop_map(|node| stand(node, Standing::Suspect)),
        1 => node.clone().prop_map(|node| stand(node, Standing::Up)),
        1 => (node.clone(), life).prop_map(|(node, life)| bury(node, life)),
        1 => node.prop_map(remove),
        20 => prop::collection::vec(change, 1..12).prop_map(Command::SetChains),
    ]
}

proptest! {
    #[test]
    fn whatever_is_proposed_the_counts_equal_a_full_scan(
        commands in prop::collection::vec(any_command(), 1..150)
    ) {
        let mut dictionary = mesh(3, 2);
        for command in commands {
            let before = dictionary.clone();
            let (applied, _) = dictionary.apply(&command);
            prop_assert_eq!(matches!(applied, Applied::Changed(_)), dictionary != before);
            prop_assert_eq!(&dictionary.counts, &Counts::of(&dictionary.chains));
            prop_assert_eq!(dictionary.unserved(), dictionary.unserved_ranges().count());
            let short = dictionary.chains.iter().filter(|chain| chain.serving().count() < 2).count();
            prop_assert_eq!(dictionary.short_of_copies(), short);
            for (range, chain) in dictionary.ranges() {
                prop_assert!(chains::well_formed(&chain.holders).is_ok());
                prop_assert!(chain.changed <= dictionary.version);
                prop_assert!(chain.epoch >= before.chain(range).epoch);
            }
            let again: Dictionary = codec::decode(&codec::encode(&dictionary)).expect("own bytes");
            prop_assert_eq!(again, dictionary.clone());
        }
    }
}
