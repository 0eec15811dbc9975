//! What waits, for how long, and what a store at rest costs; and a range on its way from one sole holder to another.

use super::*;
use crate::messages::chain::Contents;
use crate::messages::ownership::Pause;

/// A world of one holder and no leases: nothing can be answered.
fn without_leases() -> World {
    let mut world = World::chain_of(&[A], 1, 1);
    world.advance(5000);
    world
}

#[test]
fn a_batch_is_answered_in_one_effect_when_all_is_ready() {
    let mut world = World::chain_of(&[A], 1, 1);
    let requests = vec![request("SET a 1"), request("GET a"), request("DEL a"), request("GET a")];
    let mut effects = Vec::new();
    let now = world.now;
    world.nodes.get_mut(&A).expect("A").store.step(now, Input::Batch { ticket: 9, from: A, requests }, &mut effects);
    let replies = [Reply::ok(), Reply::text("1"), Reply::Integer(1), Reply::Null];
    let outcomes = replies.into_iter().map(Outcome::Replied).collect();
    assert_eq!(effects, vec![Effect::Outcomes { ticket: 9, from: 0, outcomes }]);
}

#[test]
fn a_step_sends_one_forward_and_one_acknowledgement() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    let commands: Vec<String> = (0..100).map(|n| format!("SET k{n} v")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let ticket = world.ask_batch(A, &commands);
    assert_eq!(world.links[&(A, B, false)].len(), 1);
    world.deliver_one(A, B, false);
    assert_eq!(world.links[&(B, A, false)].len(), 1);
    world.deliver();
    assert!((0..100).all(|n| world.ok(ticket + n)));
}

#[test]
fn commands_are_held_in_order_and_resumed() {
    let mut world = without_leases();
    let first = world.ask_batch(A, &["SET k 1", "GET k", "SET k 2"]);
    let second = world.ask(A, "GET k");
    assert_eq!(world.see(A).held, 4);
    assert_eq!(world.see(A).applied.sequence, Sequence(0));
    world.advance(1000);
    world.lease(A);
    let reply = |world: &World, ticket: u64| match world.outcome(ticket) {
        Some(Outcome::Replied(reply)) => reply.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reply(&world, first + 1), Reply::text("1"));
    assert_eq!(reply(&world, second), Reply::text("2"));
}

#[test]
fn what_is_held_for_too_long_is_not_applied() {
    let mut world = without_leases();
    let early = world.ask(A, "SET k 1");
    world.advance(700);
    let late = world.ask(A, "SET k 2");
    world.advance(800);
    assert_eq!((world.outcome(early), world.outcome(late)), (Some(&held()), None));
    world.lease(A);
    assert!(world.ok(late));
    assert_eq!(world.read(A, "k").as_deref(), Some("2"));
}

#[test]
fn a_numbered_write_is_uncertain_to_its_client_after_a_while_and_stays_numbered() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.break_link(A, B);
    let ticket = world.ask(A, "SET k v");
    let read = world.ask(A, "GET k");
    let patience = PARK + 2 * world.timing().failure_timeout;
    for _ in 0..patience.as_millis() / 100 {
        assert_eq!(world.outcome(ticket), None);
        world.advance(100);
        world.lease(A);
    }
    assert_eq!(world.outcome(ticket), Some(&Outcome::Uncertain));
    assert_eq!(world.outcome(read), Some(&held()));
    world.mend_link(A, B);
    world.deliver();
    assert_eq!(world.read(A, "k").as_deref(), Some("v"));
    world.equal(&[A, B]);
}

#[test]
fn queues_are_bounded() {
    let limits = Limits { waiting: 10, waiting_bytes: 500, ..unhurried() };
    let mut world = World::with_limits(1, 1, limits);
    world.adopt_all();
    let tickets: Vec<u64> = (0..20).map(|n| world.ask(A, &format!("SET k{n} v"))).collect();
    let busy = Outcome::NotApplied(NotApplied::Busy);
    let refused = tickets.iter().filter(|ticket| world.outcome(**ticket) == Some(&busy)).count();
    let waiting = world.nodes[&A].store.waiting();
    assert!(waiting <= 10 && refused == 20 - waiting, "{refused} refused, {waiting} wait");
    world.advance(600);
    world.lease(A);
    assert_eq!(world.nodes[&A].store.waiting(), 0);
    assert!(world.ok(tickets[0]));
}

#[test]
fn a_head_numbers_only_so_much_above_clean() {
    let limits = Limits { dirty_bytes: 1000, ..unhurried() };
    let mut world = World::with_limits(2, 2, limits);
    world.adopt_all();
    world.join(B);
    world.promote(B);
    world.advance(600);
    world.lease_all();
    let tickets: Vec<u64> = (0..100).map(|n| world.ask(A, &format!("SET k{n} v"))).collect();
    assert!(world.see(A).applied.sequence.0 < 20 && world.see(A).held > 80);
    world.deliver();
    assert!(tickets.iter().all(|ticket| world.ok(*ticket)));
    world.equal(&[A, B]);
}

#[test]
fn writes_wait_for_as_many_copies_as_the_mesh_wants() {
    let mut world = World::new(2, 2);
    let mut dictionary = Dictionary::clone(&world.dictionary);
    dictionary.settings.min_copies = 2;
    world.dictionary = Arc::new(dictionary);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    assert_eq!(world.read(A, "k"), None);
    let ticket = world.ask(A, "SET k v");
    assert_eq!((world.outcome(ticket), world.see(A).held), (None, 1));
    world.join(B);
    world.promote(B);
    world.lease(A);
    world.deliver();
    assert!(world.ok(ticket));
}

#[test]
fn a_store_at_rest_does_not_wake() {
    let mut world = World::chain_of(&[A, B, C], 3, 3);
    world.at_once(A, "SET k v");
    world.advance(10_000);
    for node in world.nodes.values() {
        assert_eq!(node.store.deadline(), None);
    }
    // A key that ends wakes its head, when it ends.
    world.lease(A);
    world.at_once(A, "SET k v PX 60000");
    world.advance(5000);
    let left = world.nodes[&A].store.deadline().expect("a key ends").since(world.now.instant);
    assert!(left > Duration::from_secs(54) && left <= Duration::from_secs(55), "{left:?}");
    assert_eq!(world.nodes[&B].store.deadline(), None);
}

#[test]
fn a_parked_head_with_a_read_that_waits_does_not_spin() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.serving(&[B, A]);
    world.adopt_all();
    world.deliver();
    let epoch = world.chain().epoch;
    // B is in its quiet time, so that it parks without releasing, and reads wait.
    world.tell(B, Input::Park { range: R, epoch });
    assert_eq!(world.nodes[&B].parked, vec![epoch]);
    let ticket = world.ask(B, "GET k");
    assert_eq!(world.outcome(ticket), None);
    // Until the read has waited for too long, which sets the head at rest, and beyond.
    for _ in 0..40 {
        world.pass_to(world.now.instant + Duration::from_millis(60));
        world.tell(B, Input::Timer);
        let deadline = world.nodes[&B].store.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > world.now_of(B).instant), "{deadline:?}");
    }
    assert!(world.outcome(ticket).is_some());
}

#[test]
fn many_keys_that_end_at_once_go_in_small_steps() {
    let limits = Limits { keys_a_step: 10, ..unhurried() };
    let mut world = World::with_limits(1, 1, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    for n in 0..95 {
        world.at_once(A, &format!("SET k{n} v PX 100"));
    }
    world.advance(100);
    let left = world.see(A).len;
    assert!((50..95).contains(&left), "{left} are left");
    world.advance(20);
    assert_eq!(world.see(A).len, 0);
}

#[test]
fn a_range_moves_from_one_sole_holder_to_another() {
    let mut world = World::chain_of(&[A], 2, 1);
    for n in 0..1000 {
        world.at_once(A, &format!("SET k{n} v{n}"));
    }
    // [A] -> [A B(L)] -> [A B] -> [B A(Leaving)] -> [B], and clients go on.
    world.join(B);
    world.lease(A);
    assert!(matches!(world.at_once(A, "SET k1 moved"), Some(Outcome::Replied(_))));
    world.promote(B);
    world.lease(A);
    assert!(matches!(world.at_once(A, "SET k2 moved"), Some(Outcome::Replied(_))));
    world.advance(100);
    world.lease(A);
    let epoch = world.chain().epoch;
    world.tell(A, Input::Park { range: R, epoch });
    world.deliver();
    assert_eq!(world.nodes[&A].parked, vec![epoch]);
    world.commit(&[(B, HolderState::Serving), (A, HolderState::Leaving)], Cause::HandedOver { from: A, to: B });
    world.adopt_all();
    world.lease(B);
    // The head before has released it, so there is no gap.
    assert!(matches!(world.at_once(B, "SET k3 moved"), Some(Outcome::Replied(_))));
    world.serving(&[B]);
    world.adopt_all();
    world.lease(B);
    for n in 0..1000 {
        let expected = if (1..=3).contains(&n) { "moved".into() } else { format!("v{n}") };
        assert_eq!(world.read(B, &format!("k{n}")), Some(expected));
    }
    // The old holder has freed its copy, a little at a time.
    assert!(world.nodes[&A].store.inspect(R, world.now).is_none());
    world.advance(100);
    assert_eq!(world.nodes[&A].store.memory(), 0);
    let ticket = world.ask(A, "GET k1");
    let epoch = world.chain().epoch;
    assert_eq!(world.outcome(ticket), Some(&Outcome::NotApplied(NotApplied::NotHead(epoch))));
}

#[test]
fn what_a_sole_holder_joined_with_is_clean_as_soon_as_it_may_say_so() {
    let mut world = World::chain_of(&[A], 2, 1);
    world.at_once(A, "SET k v");
    world.join(B);
    // It is promoted and leads before it has heard a word as a member that serves.
    world.commit_promotion(B);
    world.adopt(B);
    world.serving(&[B]);
    world.adopt_all();
    world.deliver();
    // It does not know yet what is clean, and nobody behind it will tell; nor does any client ask.
    assert!(world.see(B).clean < world.see(B).applied.sequence);
    world.lease(B);
    assert!(world.see(B).clean < world.see(B).applied.sequence, "it is quiet still");
    world.advance(600);
    assert_eq!(world.see(B).clean, world.see(B).applied.sequence);
    assert_eq!(world.nodes[&B].store.deadline(), None);
}

#[test]
fn a_dropped_copy_is_kept_until_the_range_is_whole() {
    let mut world = World::chain_of(&[A, B], 3, 2);
    world.at_once(A, "SET k v");
    world.serving(&[A]);
    world.adopt_all();
    assert_eq!(world.nodes[&B].store.keys(R), 1);
    world.join(C);
    assert_eq!(world.nodes[&B].store.keys(R), 1);
    world.promote(C);
    assert!(world.nodes[&B].store.inspect(R, world.now).is_none());
}

#[test]
fn a_large_range_is_streamed_with_a_bounded_number_of_parts_under_way() {
    let limits = Limits { chunk_bytes: 1000, parts_a_joiner: 3, ..unhurried() };
    let mut world = World::with_limits(2, 2, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    let data = "x".repeat(400);
    for n in 0..200 {
        world.at_once(A, &format!("SET k{n} {data}"));
    }
    let large = "y".repeat(50_000);
    world.at_once(A, &format!("SET large {large}"));
    world.commit_join(B);
    world.adopt(A);
    world.adopt(B);
    let mut most = 0;
    while world.see(B).len < 201 {
        assert!(world.deliver_one(B, A, false) | world.deliver_one(A, B, false) | world.deliver_one(A, B, true));
        let open = world.links.get(&(A, B, true)).map_or(0, VecDeque::len);
        most = most.max(open);
    }
    assert!(most <= 3, "{most} parts were under way");
    world.deliver();
    world.equal(&[A, B]);
    assert_eq!(world.nodes[&A].store.transfers().entries_streamed, 201);
}

#[test]
fn streamings_of_many_ranges_share_what_a_store_may_send() {
    let limits = Limits { chunk_bytes: 10, parts_a_joiner: 4, parts_a_store: 5, ..unhurried() };
    let mut world = World::with_limits(2, 2, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    let mut changes = Vec::new();
    for range in 0..16 {
        for n in 0..10 {
            let request = Request { range: RangeId(range), ..request(&format!("SET key-{n} value")) };
            world.tickets += 1;
            let ticket = world.tickets;
            world.tell(A, Input::Batch { ticket: ticket + 1_000_000, from: A, requests: vec![request] });
        }
        let holders = [(A, HolderState::Serving), (B, HolderState::Loading)];
        let holders = holders.map(|(node, state)| Holder { node, incarnation: Incarnation(1), state }).to_vec();
        let expected = Epoch(1);
        changes.push(SetChain { range: RangeId(range), expected, holders, anew: false, cause: Cause::Placement });
    }
    world.apply(&Command::SetChains(changes));
    world.adopt(A);
    world.adopt(B);
    let mut most = 0;
    while world.deliver_one(B, A, false) || world.deliver_one(A, B, false) || world.deliver_one(A, B, true) {
        most = most.max(world.links.get(&(A, B, true)).map_or(0, VecDeque::len));
    }
    assert!(most <= 5, "{most} parts were under way");
    for range in 0..16 {
        let digest = |node: NodeId| world.nodes[&node].store.digest(RangeId(range));
        assert_eq!(digest(A), digest(B));
        assert_eq!(world.nodes[&B].store.keys(RangeId(range)), 10);
    }
}

#[test]
fn what_moves_is_streamed_within_its_budget_and_what_is_lacking_sooner() {
    // A hundred values of a hundred bytes, each counted with what it takes in memory.
    let took = |factor: u8| {
        let limits = Limits { chunk_bytes: 500, moving: Some(10_000), ..Limits::default() };
        let mut world = World::with_limits(2, factor, limits);
        world.adopt_all();
        world.advance(600);
        world.lease(A);
        let data = "x".repeat(100);
        (0..100).for_each(|n| drop(world.at_once(A, &format!("SET k{n} {data}"))));
        world.commit_join(B);
        world.adopt_all();
        let begun = world.now.instant;
        while world.nodes[&A].caught_up.is_empty() {
            world.advance(10);
            world.deliver();
        }
        world.equal(&[A, B]);
        world.now.instant.since(begun).as_millis()
    };
    let (moves, lacks) = (took(1), took(2));
    assert!((2_000..3_000).contains(&moves) && (1_000..1_500).contains(&lacks), "{moves} ms and {lacks} ms");
}

/// A chain of two, each with a hundred keys of a hundred bytes, of a store that sends little at a time.
fn two_with_a_hundred_keys() -> World {
    let limits = Limits { chunk_bytes: 500, dirty_bytes: 20_000, moving: Some(10_000), ..Limits::default() };
    let mut world = World::with_limits(3, 2, limits);
    world.adopt_all();
    world.join(B);
    world.promote(B);
    world.advance(600);
    world.lease_all();
    (0..100).for_each(|n| drop(world.at_once(A, &format!("SET k{n} {}", "x".repeat(100)))));
    world
}

/// How many milliseconds it takes a joiner to catch up, and how many keys and writes it was sent for that.
fn catch_up(world: &mut World, joiner: NodeId, source: NodeId) -> (u128, u64, u64) {
    let node = world.nodes.get_mut(&source).expect("the source");
    node.caught_up.clear();
    let before = node.store.transfers();
    world.commit_join(joiner);
    world.adopt_all();
    let begun = world.now.instant;
    while world.nodes[&source].caught_up.is_empty() {
        world.advance(10);
        world.deliver();
    }
    world.equal(&[source, joiner]);
    let after = world.nodes[&source].store.transfers();
    let keys = after.entries_streamed - before.entries_streamed;
    (world.now.instant.since(begun).as_millis(), keys, after.writes_repaired - before.writes_repaired)
}

#[test]
fn a_joiner_with_nothing_is_streamed_within_the_budget_though_all_writes_are_still_known() {
    let mut world = two_with_a_hundred_keys();
    let (took, keys, writes) = catch_up(&mut world, C, B);
    assert_eq!((keys, writes), (100, 0));
    assert!((2_000..3_000).contains(&took), "{took} ms");
}

#[test]
fn what_a_member_missed_is_sent_within_the_budget_too_or_a_whole_copy_if_that_is_less() {
    let away = |writes: u64, keys: u64| {
        let mut world = two_with_a_hundred_keys();
        world.break_link(A, B);
        world.serving(&[A]);
        world.adopt_all();
        world.advance(600);
        for n in 0..writes {
            world.lease(A);
            world.at_once(A, &format!("SET k{} {}", n % keys, "y".repeat(100)));
        }
        world.mend_link(A, B);
        catch_up(&mut world, B, A)
    };
    let (took, keys, writes) = away(30, 30);
    assert_eq!((keys, writes), (0, 30));
    // A copy is lacking, so it is twice the budget.
    assert!((250..500).contains(&took), "{took} ms");
    let (_, keys, writes) = away(200, 3);
    assert_eq!((keys, writes), (100, 0));
    // So little goes at once.
    let (took, keys, writes) = away(2, 2);
    assert_eq!((keys, writes), (0, 2));
    assert!(took <= 10, "{took} ms");
}

/// The same while clients write, every ten milliseconds. How often a copy was streamed, and how much the joiner lacked in the end.
fn catch_up_under_load(world: &mut World, joiner: NodeId, source: NodeId, write: &str) -> (u64, u64) {
    world.nodes.get_mut(&source).expect("the source").caught_up.clear();
    let before = world.nodes[&source].store.transfers().streamings;
    world.commit_join(joiner);
    world.adopt_all();
    for _ in 0..2_000 {
        if !world.nodes[&source].caught_up.is_empty() {
            let lacks = world.see(source).applied.sequence.0 - world.see(joiner).applied.sequence.0;
            return (world.nodes[&source].store.transfers().streamings - before, lacks);
        }
        world.lease_all();
        world.ask(A, write);
        world.advance(10);
        world.deliver();
    }
    panic!(
        "not within twenty seconds: {:?} {:?} {:?} {write:.20}",
        world.see(joiner),
        world.see(source),
        world.nodes[&source].store.transfers()
    );
}

#[test]
fn what_is_written_while_a_copy_is_streamed_does_not_wait_for_a_turn_behind_it() {
    // One such write is more than a batch, and all keys together are hardly more.
    let mut world = two_with_a_hundred_keys();
    let write = format!("SET k1 {}", "z".repeat(2_000));
    let (streamings, lacks) = catch_up_under_load(&mut world, C, B, &write);
    assert!(streamings == 1 && lacks <= 2, "streamed {streamings} times, {lacks} writes are missing");
}

#[test]
fn the_source_is_bound_when_little_is_missing_however_much_is_written_meanwhile() {
    for size in [10, 100, 1_000] {
        let mut world = two_with_a_hundred_keys();
        world.break_link(A, B);
        world.serving(&[A]);
        world.adopt_all();
        world.advance(600);
        for n in 0..30 {
            world.lease(A);
            world.at_once(A, &format!("SET k{n} {}", "y".repeat(100)));
        }
        world.mend_link(A, B);
        let write = format!("SET k1 {}", "z".repeat(size));
        let (_, lacks) = catch_up_under_load(&mut world, B, A, &write);
        assert!(lacks <= 3, "{lacks} writes of {size} bytes are missing");
    }
}

#[test]
fn clients_of_a_range_that_waits_for_its_turn_do_not_wait_with_it() {
    let limits = Limits { chunk_bytes: 500, moving: Some(10), ..Limits::default() };
    let mut world = World::with_limits(2, 1, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    (0..100).for_each(|n| drop(world.at_once(A, &format!("SET k{n} {}", "x".repeat(100)))));
    world.commit_join(B);
    world.adopt_all();
    for n in 0..100 {
        world.lease(A);
        let ticket = world.ask(A, &format!("SET k{n} y"));
        world.deliver();
        assert!(world.outcome(ticket).is_some(), "{n}");
    }
}

#[test]
fn a_range_of_another_worker_is_refused() {
    let config = Config { me: A, incarnation: Incarnation(1), worker: 1, workers: 2, park: PARK };
    let mut store = Store::new(config);
    let mut effects = Vec::new();
    store.step(Now::default(), Input::Batch { ticket: 1, from: A, requests: vec![request("GET k")] }, &mut effects);
    let outcomes = vec![Outcome::NotApplied(NotApplied::NotHead(Epoch(0)))];
    assert_eq!(effects, vec![Effect::Outcomes { ticket: 1, from: 0, outcomes }]);
}

#[test]
fn a_mark_is_heard_at_the_stamp_of_the_head() {
    let mut world = World::chain_of(&[A, B, C], 4, 4);
    world.at_once(A, "SET first v");
    let epoch = world.chain().epoch;
    let count = |id| Input::Count { asker: A, id, range: R, epoch, from: 0 };
    // Writes before and behind the question are under way when the mark is heard.
    world.ask(A, "SET second v");
    world.tell(A, count(1));
    world.ask(A, "SET third v");
    world.deliver();
    let counted = |world: &World, id| world.nodes[&id].counted.clone();
    let head = counted(&world, A)[0];
    assert_eq!((head.applied.sequence, head.contents.keys, head.to), (Sequence(2), 2, None));
    assert_eq!((counted(&world, B), counted(&world, C)), (vec![head], vec![head]));
    // A joiner is not asked, nor does anybody answer who is no head of that epoch.
    world.join(NodeId(4));
    world.tell(A, count(2));
    world.tell(B, Input::Count { asker: A, id: 3, range: R, epoch: world.chain().epoch, from: 0 });
    world.deliver();
    assert_eq!((counted(&world, A).len(), counted(&world, B).len(), counted(&world, NodeId(4)).len()), (1, 1, 0));
    world.tell(A, Input::Count { asker: A, id: 4, range: R, epoch: world.chain().epoch, from: 0 });
    world.deliver();
    assert_eq!((counted(&world, C).len(), counted(&world, NodeId(4)).len()), (2, 0));
}

#[test]
fn a_large_range_is_counted_in_intervals() {
    let limits = Limits { counted_a_step: (10, 1 << 20), ..unhurried() };
    let mut world = World::with_limits(1, 1, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    for n in 0..95 {
        world.at_once(A, &format!("SET k{n} v"));
    }
    let (mut from, mut all) = (0, Contents::default());
    loop {
        let epoch = world.chain().epoch;
        world.tell(A, Input::Count { asker: A, id: 1, range: R, epoch, from });
        let counted = *world.nodes[&A].counted.last().expect("the head answers");
        assert!(counted.contents.keys <= 10);
        all.add(counted.contents);
        let Some(to) = counted.to else { break };
        from = to;
    }
    assert_eq!(all, Contents { keys: 95, digest: world.see(A).digest });
}

/// A command of one session, so that others can be told from it.
fn ask_as(world: &mut World, session: u64, words: &str) -> u64 {
    let ticket = world.tickets;
    world.tickets += 1;
    let requests = vec![Request { session, ..request(words) }];
    world.tell(A, Input::Batch { ticket, from: B, requests });
    ticket
}

fn replied(world: &World, ticket: u64) -> Option<Reply> {
    match world.outcome(ticket) {
        Some(Outcome::Replied(reply)) => Some(reply.clone()),
        _ => None,
    }
}

#[test]
fn while_writes_are_paused_reads_are_answered_and_each_session_keeps_its_order() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    world.at_once(A, "SET k old");
    world.at_once(A, "SET ends v PX 300");
    world.apply(&Command::Pause(Some(Pause { by: A, since_ms: 0 })));
    world.adopt_all();
    let write = ask_as(&mut world, 1, "SET k new");
    let own = ask_as(&mut world, 1, "GET k");
    let other = ask_as(&mut world, 2, "GET k");
    assert_eq!((world.outcome(write), world.outcome(own)), (None, None));
    assert_eq!(replied(&world, other), Some(Reply::text("old")));
    // Of the same name at another node's door: another session.
    assert_eq!(world.read(A, "k").as_deref(), Some("old"));
    // Expiry is the head's affair, and goes on.
    world.advance(400);
    world.lease(A);
    world.deliver();
    assert_eq!(world.see(B).len, 1);
    world.apply(&Command::Pause(None));
    world.adopt_all();
    assert_eq!((replied(&world, write), replied(&world, own)), (Some(Reply::ok()), Some(Reply::text("new"))));
}

#[test]
fn a_paused_write_is_held_as_long_as_commands_are_and_is_then_not_applied() {
    let mut world = World::chain_of(&[A], 1, 1);
    world.apply(&Command::Pause(Some(Pause { by: A, since_ms: 0 })));
    world.adopt_all();
    world.lease(A);
    let write = world.ask(A, "SET k v");
    world.advance(PARK.as_millis() as u64 - 1);
    assert_eq!(world.outcome(write), None);
    world.advance(1);
    assert_eq!(world.outcome(write), Some(&held()));
    world.lease(A);
    assert_eq!(world.read(A, "k"), None);
}

#[test]
fn reads_pass_writes_that_wait_for_copies() {
    let mut world = World::chain_of(&[A, B], 2, 2);
    let mut dictionary = Dictionary::clone(&world.dictionary);
    dictionary.settings.min_copies = 2;
    world.dictionary = Arc::new(dictionary);
    world.adopt_all();
    world.break_link(A, B);
    let numbered = ask_as(&mut world, 1, "SET k v");
    let dirty = ask_as(&mut world, 2, "GET k");
    world.serving(&[A]);
    world.adopt_all();
    world.lease(A);
    // Nobody else has it now, so it is clean, and cannot be acknowledged.
    let held = ask_as(&mut world, 3, "SET k w");
    assert_eq!((world.outcome(numbered), world.outcome(held)), (None, None));
    assert_eq!(replied(&world, dirty), Some(Reply::text("v")));
    let late = ask_as(&mut world, 2, "GET k");
    assert_eq!(replied(&world, late), Some(Reply::text("v")));
}
