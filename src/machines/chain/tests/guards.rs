//! Each guard that concerns a member, told as the run that it prevents.

use super::*;
use crate::messages::chain::{ChainMessage, Change, Value, Write};
use crate::types::Generation;

fn frame(epoch: Epoch, message: ChainMessage) -> ChainFrame {
    ChainFrame { range: R, epoch, message }
}

/// Something arrives at a node as if from a peer.
fn forge(world: &mut World, from: NodeId, to: NodeId, epoch: Epoch, message: ChainMessage) {
    let incarnation = world.nodes[&from].incarnation;
    world.tell(to, Input::Peer { from, incarnation, frame: frame(epoch, message) });
}

fn put(epoch: u64, sequence: u64, key: &str, data: &str) -> Write {
    let value = Value { data: Bytes::from(data.to_owned()), expires_ms: None };
    Write {
        stamp: stamp(epoch, sequence),
        changes: vec![Change::Put(Bytes::from(key.to_owned()), value)],
        recipe: None,
    }
}

fn not_head(world: &World, ticket: u64) -> bool {
    matches!(world.outcome(ticket), Some(Outcome::NotApplied(NotApplied::NotHead(_))))
}

#[test]
fn a_chain_of_one_and_a_chain_of_three_serve() {
    let mut world = World::chain_of(&[A], 1, 1);
    assert_eq!(world.read(A, "k"), None);
    assert!(matches!(world.at_once(A, "SET k v"), Some(Outcome::Replied(_))));
    assert_eq!(world.read(A, "k").as_deref(), Some("v"));

    let mut world = World::chain_of(&[A, B, C], 3, 3);
    let ticket = world.ask(A, "SET k v");
    assert_eq!(world.outcome(ticket), None);
    world.deliver();
    assert!(world.ok(ticket));
    assert_eq!(world.read(A, "k").as_deref(), Some("v"));
    world.equal(&[A, B, C]);
    // Who is not the head says so, and in which epoch.
    let ticket = world.ask(B, "GET k");
    assert_eq!(world.outcome(ticket), Some(&Outcome::NotApplied(NotApplied::NotHead(world.chain().epoch))));
}

#[test]
fn g1_a_restarted_node_is_no_member() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.at_once(A, "SET k v");
    world.restart(B);
    world.adopt(B);
    world.deliver();
    assert!(world.nodes[&B].store.inspect(R, world.now).is_none());
    let epoch = world.chain().epoch;
    world.tell(B, Input::Vouch { id: 1, ranges: vec![(R, epoch)] });
    assert_eq!(world.nodes[&B].vouched, vec![(1, vec![])]);
    // A lease that the new life grants counts for nothing, and nothing it says is heard.
    world.advance(600);
    world.lease(A);
    assert!(!world.answers(A));
    let ticket = world.ask(A, "SET k w");
    forge(&mut world, B, A, epoch, ChainMessage::Ack { sequence: Sequence(2) });
    world.deliver();
    assert_eq!(world.outcome(ticket), None);
}

#[test]
fn g3_g4_frames_of_another_epoch_are_not_heard() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.at_once(A, "SET k v");
    let epoch = world.chain().epoch;
    let before = world.see(B);
    for other in [epoch.next(), Epoch(epoch.0 - 1)] {
        let previous = before.applied;
        let writes = vec![put(previous.epoch.0, previous.sequence.0 + 1, "k", "forged")];
        forge(&mut world, A, B, other, ChainMessage::Forward { previous, writes });
    }
    assert_eq!(world.see(B), before);
    // Nor is a stranger, or a member that is no neighbour.
    let mut world = World::chain_of(&[A, B, C], 4, 3);
    let (epoch, previous) = (world.chain().epoch, world.see(C).applied);
    let writes = vec![put(epoch.0, previous.sequence.0 + 1, "k", "forged")];
    for from in [A, NodeId(4)] {
        forge(&mut world, from, C, epoch, ChainMessage::Forward { previous, writes: writes.clone() });
    }
    assert_eq!(world.see(C).applied, previous);
}

#[test]
fn g4_an_acknowledgement_of_a_former_life_is_not_counted() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    for n in 0..7 {
        world.at_once(A, &format!("SET k{n} v"));
    }
    let late = world.nodes[&B].incarnation;
    world.restart(B);
    world.apply(&Command::Admit(candidate(B, Incarnation(2))));
    world.serving(&[A]);
    world.adopt_all();
    world.commit_join(B);
    world.adopt(A);
    let ack = frame(world.chain().epoch, ChainMessage::Ack { sequence: Sequence(7) });
    world.tell(A, Input::Peer { from: B, incarnation: late, frame: ack });
    world.advance(1000);
    assert!(world.nodes[&A].caught_up.iter().all(|(epoch, ..)| *epoch != world.chain().epoch));
}

/// A joiner whose source has begun to stream, and that has not seen the first part yet, says that it has all.
fn acknowledged_before_the_first_part(then: impl FnOnce(&mut World, Epoch)) -> bool {
    let mut world = World::chain_of(&[A], 2, 1);
    world.at_once(A, "SET k v");
    world.commit_join(B);
    world.adopt(A);
    let epoch = world.chain().epoch;
    let unknown = stamp(epoch.0, 99);
    forge(&mut world, B, A, epoch, ChainMessage::Hello { applied: unknown, refused: 0 });
    assert_eq!(world.nodes[&A].store.transfers().streamings, 1);
    then(&mut world, epoch);
    let sequence = world.see(A).applied.sequence;
    forge(&mut world, B, A, epoch, ChainMessage::Ack { sequence });
    world.nodes[&A].caught_up.iter().any(|(of, ..)| *of == epoch)
}

#[test]
fn g7_what_a_joiner_has_counts_only_once_it_has_seen_the_newest_streaming() {
    assert!(!acknowledged_before_the_first_part(|_, _| {}));
    // A Hello that was under way when the streaming began tells of the copy that the joiner is about to drop.
    let hello = |refused| {
        move |world: &mut World, epoch| {
            let applied = world.see(A).applied;
            forge(world, B, A, epoch, ChainMessage::Hello { applied, refused });
        }
    };
    assert!(!acknowledged_before_the_first_part(hello(0)));
    // The link breaks, and with it the streaming ends; its first part may come all the same, by the lane of its own.
    assert!(!acknowledged_before_the_first_part(|world, _| {
        world.tell(A, Input::LinkUp(B));
    }));
    // Who has seen it counts with what it has now.
    assert!(acknowledged_before_the_first_part(hello(1)));
}

/// A joiner had all, and said so. Another streaming begins and comes to nothing, and it is sent what it lacks from the first
/// write on: what it acknowledges then is what it has now (asserted where it does).
#[test]
fn g7_a_joiner_that_drops_its_copy_acknowledges_anew() {
    let mut world = World::chain_of(&[A], 2, 1);
    for n in 0..9 {
        world.at_once(A, &format!("SET k{n} v"));
    }
    let first = world.see(A).applied.epoch;
    world.commit_join(B);
    world.adopt_all();
    world.advance(50);
    assert_eq!(world.see(B).applied, world.see(A).applied);
    let epoch = world.chain().epoch;
    world.break_link(A, B);
    forge(&mut world, A, B, epoch, ChainMessage::Chunk { streaming: 9, part: 0, entries: vec![], complete: None });
    assert_eq!(world.see(B).applied, Stamp::default());
    world.tell(B, Input::LinkUp(A));
    let writes = vec![put(first.0, 1, "k0", "v")];
    forge(&mut world, A, B, epoch, ChainMessage::Forward { previous: Stamp::default(), writes });
    assert_eq!(world.see(B).applied, stamp(first.0, 1));
}

#[test]
fn g6_stamps_are_compared_by_epoch_too() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.at_once(A, "SET k old");
    // A numbers a write that B never gets.
    world.break_link(A, B);
    let lost = world.ask(A, "SET k lost");
    world.serving(&[B]);
    world.adopt(B);
    world.advance(600);
    world.lease(B);
    assert!(matches!(world.at_once(B, "SET k new"), Some(Outcome::Replied(_))));
    assert_eq!(world.see(A).applied.sequence, world.see(B).applied.sequence);
    // A returns with a write of the same number, and another value.
    world.mend_link(A, B);
    world.commit_join(A);
    world.adopt_all();
    assert_eq!(world.outcome(lost), Some(&Outcome::Uncertain));
    world.equal(&[A, B]);
    assert_eq!(world.nodes[&B].store.transfers().streamings, 1);
    world.promote(A);
    world.equal(&[A, B]);
}

#[test]
fn g6_who_was_away_for_a_short_time_gets_only_what_it_missed() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    for n in 0..100 {
        world.at_once(A, &format!("SET k{n} v"));
    }
    let streamed = world.nodes[&A].store.transfers().entries_streamed;
    world.break_link(A, B);
    world.serving(&[A]);
    world.adopt_all();
    world.lease(A);
    for n in 0..5 {
        world.at_once(A, &format!("SET k{n} w"));
    }
    // Dropped, it keeps its copy unread and answers nothing.
    assert_eq!(world.see(B).state, None);
    assert_eq!(world.nodes[&B].store.keys(R), 100);
    let ticket = world.ask(B, "GET k1");
    assert!(not_head(&world, ticket));
    world.mend_link(A, B);
    world.join(B);
    world.promote(B);
    world.equal(&[A, B]);
    let transfers = world.nodes[&A].store.transfers();
    assert_eq!((transfers.entries_streamed, transfers.writes_repaired), (streamed, 5));
}

#[test]
fn g6_a_gap_is_never_applied() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.at_once(A, "SET a 1");
    world.ask(A, "SET b 2");
    // The frame is lost, and nobody has noticed.
    world.links.clear();
    world.ask(A, "SET c 3");
    world.deliver();
    world.equal(&[A, B]);
    assert_eq!(world.read(A, "b").as_deref(), Some("2"));
}

#[test]
#[should_panic(expected = "which its predecessor")]
fn g6_who_serves_with_what_its_predecessor_lacks_ends_the_process() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    let epoch = world.chain().epoch;
    forge(&mut world, B, A, epoch, ChainMessage::Hello { applied: stamp(epoch.0, 9), refused: 0 });
}

#[test]
fn g7_no_word_is_said_for_a_joiner_before_stamps_were_compared() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.at_once(A, "SET k old");
    world.break_link(A, B);
    world.ask(A, "SET k lost");
    world.serving(&[B]);
    world.adopt(B);
    world.commit_join(A);
    // B knows the epoch, A does not yet, and its old copy still holds the lost write.
    world.adopt(B);
    world.advance(2000);
    assert!(world.nodes[&B].caught_up.is_empty());
    assert!(!world.see(B).gate);
    world.mend_link(A, B);
    world.adopt_all();
    assert_eq!(world.nodes[&B].caught_up, vec![(world.chain().epoch, A, Incarnation(1))]);
    world.equal(&[A, B]);
}

#[test]
fn g8_the_bulk_lane_and_the_data_lane_never_overtake_each_other() {
    let limits = Limits { chunk_bytes: 200, ..unhurried() };
    let mut world = World::with_limits(2, 2, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    for n in 0..200 {
        world.at_once(A, &format!("SET k{n} old"));
    }
    world.commit_join(B);
    world.adopt(A);
    world.adopt(B);
    world.lease(A);
    let mut written = 0;
    while !world.see(B).whole {
        // Clients go on, with keys that were sent and keys that were not; the data lane is always ahead of the bulk lane.
        world.ask(A, &format!("SET k{} new{written}", written * 7 % 200));
        written += 1;
        while world.deliver_one(A, B, false) || world.deliver_one(B, A, false) {}
        if written % 3 == 0 {
            world.deliver_one(A, B, true);
        }
    }
    assert!(written > 30);
    world.deliver();
    world.equal(&[A, B]);
    assert_eq!(world.nodes[&A].store.transfers().streamings, 1);
    world.promote(B);
    world.equal(&[A, B]);
}

#[test]
fn g8_a_joiner_that_is_streamed_in_vain_is_streamed_anew() {
    let limits = Limits { chunk_bytes: 100, ..unhurried() };
    let mut world = World::with_limits(2, 2, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    for n in 0..200 {
        world.at_once(A, &format!("SET k{n} v"));
    }
    world.commit_join(B);
    world.adopt(A);
    world.adopt(B);
    while !world.deliver_one(A, B, true) {
        assert!(world.deliver_one(B, A, false) || world.deliver_one(A, B, false));
    }
    assert!(!world.see(B).whole);
    // Some parts are lost with the link, and some of the old ones come late.
    let late: Vec<_> = world.links.values().flatten().cloned().collect();
    world.break_link(A, B);
    assert_eq!(world.see(B).len, 0);
    world.mend_link(A, B);
    for (incarnation, frame) in late {
        world.tell(B, Input::Peer { from: A, incarnation, frame });
    }
    world.deliver();
    world.equal(&[A, B]);
    assert_eq!(world.nodes[&A].store.transfers().streamings, 2);
    world.promote(B);
}

#[test]
fn g9_only_the_head_lets_keys_expire() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.at_once(A, "SET k v PX 100");
    world.advance(50);
    // A link that holds everything back: the deletion is not clean yet.
    world.lease(A);
    world.now.wall_ms += 200;
    let ticket = world.ask(A, "GET k");
    assert_eq!(world.outcome(ticket), None);
    assert_eq!(world.see(B).len, 1);
    world.deliver();
    assert_eq!(world.outcome(ticket), Some(&Outcome::Replied(Reply::Null)));
    assert_eq!(world.see(B).len, 0);
    // Nobody asks: it goes by itself, at the head and so everywhere.
    world.at_once(A, "SET k v PX 100");
    world.advance(50);
    world.lease(A);
    world.advance(60);
    world.deliver();
    assert_eq!((world.see(A).len, world.see(B).len), (0, 0));
    world.equal(&[A, B]);
}

#[test]
fn g10_becoming_head_makes_nothing_clean() {
    let mut world = World::chain_of(&[A, B, C], 3, 3);
    world.at_once(A, "SET k old");
    world.ask(A, "SET k new");
    // A forwards to B, B to C, but C never sees it.
    world.deliver_one(A, B, false);
    world.break_link(B, C);
    world.break_link(A, B);
    world.serving(&[B, C]);
    world.adopt_all();
    world.advance(600);
    world.lease_all();
    // B has the write and leads. What it does not know to be clean it does not answer.
    assert!(world.answers(B));
    let ticket = world.ask(B, "GET k");
    assert_eq!(world.outcome(ticket), None);
    world.mend_link(B, C);
    world.deliver();
    assert_eq!(world.outcome(ticket), Some(&Outcome::Replied(Reply::text("new"))));
    world.equal(&[B, C]);
}

#[test]
fn g11_a_write_too_is_answered_under_lease_only() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    let ticket = world.ask(A, "SET k v");
    world.deliver_one(A, B, false);
    world.pass_to(world.now.instant + Duration::from_millis(600));
    world.deliver();
    // Clean, but the lease has run out.
    assert_eq!(world.see(A).clean, world.see(A).applied.sequence);
    assert_eq!(world.outcome(ticket), None);
    world.serving(&[B]);
    world.adopt(A);
    assert_eq!(world.outcome(ticket), Some(&Outcome::Uncertain));
}

#[test]
fn g11_a_dirty_key_is_not_read_and_a_clean_one_is() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.at_once(A, "SET a 1");
    world.at_once(A, "SET b 1");
    let tickets = [world.ask(A, "SET a 2"), world.ask(A, "GET a"), world.ask(A, "GET b"), world.ask(A, "DBSIZE")];
    assert_eq!(world.outcome(tickets[1]), None);
    assert_eq!(world.outcome(tickets[2]), Some(&Outcome::Replied(Reply::text("1"))));
    assert_eq!(world.outcome(tickets[3]), None);
    world.deliver();
    assert_eq!(world.outcome(tickets[1]), Some(&Outcome::Replied(Reply::text("2"))));
    assert_eq!(world.outcome(tickets[3]), Some(&Outcome::Replied(Reply::Integer(2))));
}

#[test]
fn g12_all_other_members_are_givers() {
    let mut world = World::chain_of(&[A, B], 3, 3);
    world.join(C);
    // In the epoch with C as Loading, the leases of B and the commander are not enough.
    world.nodes.get_mut(&A).expect("A").leases = Leases::default();
    world.grant_sole(A);
    world.grant(B, A);
    assert!(!world.answers(A));
    world.grant(C, A);
    assert!(world.answers(A));
    // The commander's lease is needed by a head without Serving peers, beside the joiner's.
    let mut world = World::chain_of(&[A], 2, 2);
    world.join(B);
    world.grant(B, A);
    assert!(!world.answers(A));
    world.grant_sole(A);
    assert!(world.answers(A));
}

#[test]
fn a_lease_counts_from_the_version_of_the_chain_to_the_version_adopted() {
    let mut world = World::chain_of(&[A, B], 3, 2);
    let lease = |world: &World, version: Version| {
        let until = world.now.instant + Duration::from_millis(400);
        Lease { giver: Incarnation(1), version, until }
    };
    let adopted = version_of(&world, A);
    let changed = world.chain().changed;
    for (version, counts) in
        [(Version(changed.0 - 1), false), (changed, true), (adopted, true), (adopted.next(), false)]
    {
        world.nodes.get_mut(&A).expect("A").leases = Leases::default();
        let lease = lease(&world, version);
        world.give(A, B, lease);
        assert_eq!(world.answers(A), counts, "{version} of {changed}..={adopted}");
    }
}

#[test]
fn g13_the_next_head_waits_out_what_it_promised_to_the_last() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.lease(A);
    let until = world.nodes[&A].leases.members[&B].last().expect("a lease").until;
    world.advance(100);
    world.serving(&[B]);
    world.adopt(B);
    world.lease(B);
    assert!(!world.answers(B));
    // In quiet time nothing is answered, though the sole holder has its lease.
    let ticket = world.ask(B, "GET k");
    while !world.answers(B) {
        assert!(world.outcome(ticket).is_none());
        world.advance(1);
    }
    assert!(world.now.instant > until, "the promise ended before the lease");
    assert!(world.outcome(ticket).is_some());
}

#[test]
fn g14_who_becomes_serving_promises_as_if_it_had_granted() {
    // B grants A in e1; all that follows lies within that lease, and C leads at its end.
    let mut world = World::chain_of(&[A, B], 3, 2);
    world.lease(A);
    world.break_link(A, B);
    world.serving(&[B]);
    world.adopt(B);
    world.join(C);
    world.promote(C);
    world.serving(&[C]);
    world.adopt(C);
    world.lease(C);
    assert!(!world.answers(C));
    let promised = world.see(C).quiet_until;
    assert!(promised >= world.now.instant + world.timing().lease());
}

#[test]
fn g14_epochs_that_were_skipped_are_taken_for_the_worst() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    let before = world.see(A).quiet_until;
    assert!(before < world.now.instant);
    // Two steps at once for A: [A B] -> [B] -> [B A(L)] would be one such, this is another.
    world.commit(&[(A, HolderState::Serving), (B, HolderState::Leaving)], Cause::Placement);
    world.commit(&[(A, HolderState::Serving), (B, HolderState::Serving)], Cause::Placement);
    world.adopt(A);
    assert!(world.see(A).quiet_until > world.now.instant);
    // One step keeps it.
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.commit(&[(A, HolderState::Serving), (B, HolderState::Leaving)], Cause::Placement);
    world.adopt(A);
    assert_eq!(world.see(A).quiet_until, before);
}

#[test]
fn g15_bound_first_and_said_later() {
    let mut world = World::chain_of(&[A], 2, 2);
    world.at_once(A, "SET a 1");
    world.join(B);
    assert_eq!(world.nodes[&A].caught_up.len(), 1);
    assert!(world.see(A).gate);
    world.lease(A);
    // A is the only one that serves, and still answers nothing that B does not have.
    let ticket = world.ask(A, "SET a 2");
    assert_eq!(world.outcome(ticket), None);
    world.deliver();
    assert!(world.ok(ticket));
}

#[test]
fn g15_said_when_the_joiner_has_all_that_was_acknowledged_before_the_vow() {
    let mut world = World::chain_of(&[A], 2, 2);
    world.at_once(A, "SET a 1");
    world.commit_join(B);
    world.adopt(A);
    world.adopt(B);
    world.lease(A);
    // Written and acknowledged while the last word of the joiner is on its way.
    let mut said = 0;
    for n in 0..20 {
        let ticket = world.ask(A, &format!("SET k{n} v"));
        if !world.see(A).gate {
            assert!(world.ok(ticket));
            said = world.see(A).clean.0;
        }
        if !world.nodes[&A].caught_up.is_empty() {
            break;
        }
        let _ = world.deliver_one(A, B, true) || world.deliver_one(A, B, false);
        world.deliver_one(B, A, false);
    }
    assert!(world.see(B).applied.sequence.0 >= said && said > 1, "{said} acknowledged, {:?}", world.see(B));
    assert!(world.see(A).gate);
}

#[test]
fn g15_before_the_gate_clients_do_not_wait_for_the_joiner() {
    let limits = Limits { chunk_bytes: 50, ..unhurried() };
    let mut world = World::with_limits(2, 2, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    for n in 0..50 {
        world.at_once(A, &format!("SET k{n} v"));
    }
    world.commit_join(B);
    world.adopt(A);
    world.adopt(B);
    world.lease(A);
    world.deliver_one(B, A, false);
    let ticket = world.ask(A, "SET k w");
    assert!(world.ok(ticket));
    assert!(!world.see(A).gate);
}

#[test]
fn g16_the_gate_outlives_the_link() {
    let mut world = World::chain_of(&[A], 2, 2);
    world.at_once(A, "SET a 1");
    world.join(B);
    world.lease(A);
    world.break_link(A, B);
    let ticket = world.ask(A, "SET a 2");
    world.advance(300);
    world.grant_sole(A);
    assert!(world.see(A).gate);
    assert_eq!(world.outcome(ticket), None);
    // The commander decides: with B...
    world.mend_link(A, B);
    world.deliver();
    assert!(world.ok(ticket));
    // ... or, in a later epoch, without.
    world.break_link(A, B);
    let ticket = world.ask(A, "SET a 3");
    world.serving(&[A]);
    world.adopt(A);
    world.grant_sole(A);
    assert!(!world.see(A).gate);
    assert!(world.ok(ticket));
}

#[test]
fn g17_caught_up_is_said_again_in_each_epoch_and_each_beat() {
    let mut world = World::chain_of(&[A, B], 3, 3);
    world.join(C);
    let first = world.chain().epoch;
    assert_eq!(world.nodes[&B].caught_up, vec![(first, C, Incarnation(1))]);
    world.advance(250);
    assert_eq!(world.nodes[&B].caught_up.len(), 3);
    // A is the source now. The word of the last epoch is not its own.
    world.commit(&[(A, HolderState::Serving), (C, HolderState::Loading)], Cause::Dropped(B));
    world.adopt(A);
    world.lease(A);
    world.grant(C, A);
    world.advance(200);
    let of_c = |world: &World| world.nodes[&A].caught_up.iter().filter(|said| said.1 == C).copied().collect::<Vec<_>>();
    assert!(of_c(&world).is_empty());
    assert!(!world.see(A).gate);
    world.adopt_all();
    assert_eq!(of_c(&world), vec![(first.next(), C, Incarnation(1))]);
}

#[test]
fn g18_a_half_streamed_copy_is_dropped_with_its_source() {
    let limits = Limits { chunk_bytes: 60, ..unhurried() };
    let mut world = World::with_limits(3, 3, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    for n in 0..100 {
        world.at_once(A, &format!("SET k{n} v"));
    }
    world.join(B);
    world.promote(B);
    world.commit_join(C);
    world.adopt(B);
    world.adopt(C);
    world.deliver_one(C, B, false);
    for _ in 0..3 {
        world.deliver_one(B, C, true);
    }
    assert!(world.see(C).len > 0 && !world.see(C).whole);
    world.commit(&[(A, HolderState::Serving), (C, HolderState::Loading)], Cause::Dropped(B));
    world.adopt(C);
    assert_eq!((world.see(C).len, world.see(C).applied), (0, Stamp::default()));
    world.adopt_all();
    world.equal(&[A, C]);
    world.promote(C);
}

#[test]
fn g19_a_member_vouches_for_exactly_the_epoch_it_serves_in() {
    let mut world = World::chain_of(&[A, B], 3, 3);
    world.join(C);
    let epoch = world.chain().epoch;
    let ranges = vec![(R, epoch), (RangeId(1), Epoch(1)), (R, epoch.next()), (R, Epoch(epoch.0 - 1))];
    for node in [A, B, C] {
        world.tell(node, Input::Vouch { id: 5, ranges: ranges.clone() });
    }
    assert_eq!(world.nodes[&A].vouched, vec![(5, vec![R, RangeId(1)])]);
    assert_eq!(world.nodes[&B].vouched, vec![(5, vec![R])]);
    // Loading is not Serving; Leaving is.
    assert_eq!(world.nodes[&C].vouched, vec![(5, vec![])]);
    world.promote(C);
    let members = [(A, HolderState::Serving), (B, HolderState::Serving), (C, HolderState::Leaving)];
    world.commit(&members, Cause::Placement);
    world.adopt_all();
    let epoch = world.chain().epoch;
    world.tell(C, Input::Vouch { id: 6, ranges: vec![(R, epoch)] });
    assert_eq!(world.nodes[&C].vouched.last(), Some(&(6, vec![R])));
}

#[test]
fn g20_parked_lasts_until_a_later_epoch() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    let epoch = world.chain().epoch;
    let before = world.ask(A, "SET k 1");
    world.tell(A, Input::Park { range: R, epoch: Epoch(epoch.0 - 1) });
    assert!(!world.see(A).parked);
    world.tell(A, Input::Park { range: R, epoch });
    // Not said before all is clean.
    assert!(world.nodes[&A].parked.is_empty());
    world.deliver();
    assert!(world.ok(before));
    assert_eq!(world.nodes[&A].parked, vec![epoch]);
    // Nothing is numbered, for however long; the client's patience is another matter.
    let ticket = world.ask(A, "SET k 2");
    for _ in 0..20 {
        world.advance(100);
        world.lease(A);
        world.deliver();
    }
    assert_eq!(world.see(A).applied.sequence, Sequence(1));
    assert_eq!(world.outcome(ticket), Some(&held()));
    assert!(world.nodes[&A].parked.len() > 10);
    // Called off: a new epoch of the old chain.
    let ticket = world.ask(A, "SET k 3");
    world.commit(&[(A, HolderState::Serving), (B, HolderState::Serving)], Cause::CalledOff);
    world.adopt_all();
    world.lease(A);
    world.deliver();
    assert!(world.ok(ticket));
}

#[test]
fn g20_who_is_parked_and_cannot_release_still_numbers_nothing() {
    let mut world = World::chain_of(&[A], 1, 1);
    let epoch = world.chain().epoch;
    world.at_once(A, "SET k 1");
    world.tell(A, Input::Park { range: R, epoch });
    assert_eq!(world.nodes[&A].parked, vec![epoch]);
    let ticket = world.ask(A, "SET k 2");
    assert_eq!((world.outcome(ticket), world.see(A).held), (None, 1));
    // Nor does it let keys expire, for that is a write too.
    assert_eq!(world.see(A).applied.sequence, Sequence(1));
}

#[test]
fn g20_what_was_held_goes_to_the_next_head() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    let epoch = world.chain().epoch;
    world.at_once(A, "SET k 1");
    world.tell(A, Input::Park { range: R, epoch });
    let held = world.ask(A, "SET k 2");
    world.deliver();
    world.commit(&[(B, HolderState::Serving), (A, HolderState::Leaving)], Cause::HandedOver { from: A, to: B });
    world.adopt_all();
    assert!(not_head(&world, held));
    world.lease(B);
    // G21: A had released the range, so B does not wait.
    assert!(world.answers(B));
    assert!(matches!(world.at_once(B, "SET k 3"), Some(Outcome::Replied(_))));
    world.equal(&[A, B]);
}

#[test]
fn g21_who_has_released_never_answers_again_in_that_epoch() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    let epoch = world.chain().epoch;
    world.tell(A, Input::Park { range: R, epoch });
    world.deliver();
    assert!(world.see(A).released);
    world.lease(A);
    assert!(!world.answers(A));
    let ticket = world.ask(A, "GET k");
    world.advance(1400);
    world.lease(A);
    assert_eq!(world.outcome(ticket), None);
    // A head in its quiet time has nothing to release yet: others may still answer.
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.lease(A);
    world.commit(&[(B, HolderState::Serving), (A, HolderState::Serving)], Cause::HandedOver { from: A, to: B });
    world.adopt_all();
    let epoch = world.chain().epoch;
    world.tell(B, Input::Park { range: R, epoch });
    world.deliver();
    assert!(world.see(B).parked && !world.see(B).released);
    world.advance(700);
    assert!(world.see(B).released);
}

#[test]
fn g21_a_release_counts_for_the_epoch_right_after_it() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    let epoch = world.chain().epoch;
    world.lease(A);
    world.tell(A, Input::Park { range: R, epoch });
    world.deliver();
    // Called off, then handed over after all, all unseen by B until it is done.
    world.commit(&[(A, HolderState::Serving), (B, HolderState::Serving)], Cause::CalledOff);
    world.commit(&[(B, HolderState::Serving), (A, HolderState::Serving)], Cause::HandedOver { from: A, to: B });
    world.adopt(B);
    assert!(world.see(B).quiet_until > world.now.instant);
}

#[test]
fn g21_a_release_may_come_later_than_the_dictionary() {
    for hears in [true, false] {
        let mut world = World::chain_of(&[A, B], 2, 2);
        let epoch = world.chain().epoch;
        world.lease(A);
        world.tell(A, Input::Park { range: R, epoch });
        assert!(world.see(A).released);
        world.commit(&[(B, HolderState::Serving), (A, HolderState::Serving)], Cause::HandedOver { from: A, to: B });
        world.adopt(B);
        assert!(world.see(B).quiet_until > world.now.instant);
        if !hears {
            // Nor does it count once another epoch has come: who headed in between may still answer.
            world.commit(&[(B, HolderState::Serving), (A, HolderState::Serving)], Cause::CalledOff);
            world.adopt(B);
        }
        world.deliver();
        assert_eq!(world.see(B).quiet_until <= world.now.instant, hears);
        world.adopt_all();
        world.lease(B);
        assert_eq!(world.answers(B), hears);
        assert!(!world.answers(A));
    }
}

#[test]
fn g23_a_higher_generation_drops_the_copy_and_waits() {
    // e1 [A B C], e2 [B C], e3 [C]; C restarts; e4 begins anew. A knows only e1.
    let mut world = World::chain_of(&[A, B, C], 3, 1);
    world.at_once(A, "SET k v");
    world.break_link(A, B);
    world.serving(&[B, C]);
    world.adopt(B);
    world.adopt(C);
    world.deliver();
    world.serving(&[C]);
    world.adopt(C);
    world.restart(C);
    world.apply(&Command::Admit(candidate(C, Incarnation(2))));
    world.commit(&[(A, HolderState::Serving)], Cause::BegunAnew { from: None, lost: vec![C] });
    world.adopt(A);
    world.lease(A);
    assert!(!world.answers(A));
    assert_eq!((world.see(A).len, world.see(A).applied), (0, Stamp::default()));
    world.advance(600);
    world.lease(A);
    assert_eq!(world.read(A, "k"), None);
}

#[test]
fn g22_g23_the_one_whose_copy_is_revived_keeps_it_whatever_it_slept_through() {
    let mut world = World::chain_of(&[A, B], 3, 2);
    world.at_once(A, "SET k v");
    world.break_link(A, B);
    // B is dropped, then A, the last holder, is lost; B still has the newest copy.
    world.serving(&[A]);
    world.adopt(A);
    world.restart(A);
    world.apply(&Command::Admit(candidate(A, Incarnation(2))));
    world.commit(&[(B, HolderState::Serving)], Cause::BegunAnew { from: Some(B), lost: vec![A] });
    world.commit_join(C);
    world.adopt_all();
    assert_eq!((world.see(B).len, world.see(B).generation), (1, Generation(2)));
    world.promote(C);
    world.advance(600);
    world.lease(B);
    assert_eq!(world.read(B, "k").as_deref(), Some("v"));
    world.equal(&[B, C]);
}

#[test]
fn g24_past_its_silence_nothing_is_answered() {
    let mut world = World::chain_of(&[A], 1, 1);
    world.at_once(A, "SET k v");
    let mut leases = world.nodes[&A].leases.clone();
    leases.silent_after = Some(world.now.instant + Duration::from_millis(50));
    world.tell(A, Input::Leases(Arc::new(leases)));
    assert!(world.answers(A));
    world.advance(50);
    assert!(!world.answers(A));
    let ticket = world.ask(A, "GET k");
    world.advance(PARK.as_millis() as u64);
    assert_eq!(world.outcome(ticket), Some(&held()));
}

#[test]
fn g25_what_was_numbered_is_uncertain_and_what_was_not_is_not_applied() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.at_once(A, "SET k 1");
    world.break_link(A, B);
    let numbered = world.ask(A, "SET k 2");
    let read = world.ask(A, "GET k");
    world.pass_to(world.now.instant + Duration::from_millis(600));
    let held = world.ask(A, "SET k 3");
    world.serving(&[B]);
    world.adopt(A);
    assert_eq!(world.outcome(numbered), Some(&Outcome::Uncertain));
    assert!(not_head(&world, read) && not_head(&world, held));
}
