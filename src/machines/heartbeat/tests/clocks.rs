//! Clocks that drift apart.

use super::*;

#[test]
fn a_lease_ends_before_its_promise_whatever_the_clocks_within_the_drift_and_the_network_do() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut counted = 0;
    for _ in 0..300 {
        let (one, two) = (Clock::random(&mut rng), Clock::random(&mut rng));
        let (mut head, mut other) = (Node::new(ONE), Node::new(TWO));
        let chains = [chain(&[ONE, TWO], 1)];
        head.now = one.at(0.0);
        other.now = two.at(0.0);
        let mut sent = asks(&head.publish(published(1, &chains, None, ONE)));
        other.publish(published(1, &chains, None, TWO));
        let mut truth = 0.0;
        let mut held: f64 = 0.0;
        for _ in 0..rng.gen_range(1..12) {
            let there = truth + rng.gen_range(0.0..300e6);
            let back = there + rng.gen_range(0.0..300e6);
            other.now = two.at(there).max(other.now);
            let Some((_, ask)) = sent.iter().find(|(to, _)| *to == TWO) else { break };
            let granted = grants(&other.hear(ONE, beacon_of(LIFE, ask.number)));
            head.now = one.at(back).max(head.now);
            for (_, grant) in granted {
                let effects = head.hear(TWO, HeartbeatMessage::Grant(grant));
                for lease in leases(&effects).iter().flat_map(|leases| leases.members.get(&TWO)).flatten() {
                    held = held.max(one.truth(lease.until));
                }
            }
            truth = back + rng.gen_range(1e6..400e6);
            sent = asks(&only(head.until(one.at(truth))));
        }
        // Two becomes head now, and must wait out what it promised.
        let effects = other.publish(published(2, &[chain(&[TWO], 2)], None, TWO));
        let free = adoption(&effects).promises.get(&ONE).copied().unwrap_or(other.now);
        assert!(held <= two.truth(free), "one answers until {held}, two from {free}");
        counted += u32::from(held > 0.0);
    }
    assert!(counted > 250, "only {counted} runs held a lease");
}

/// A clock that runs at its own rate and stands anywhere when the true time is zero.
#[derive(Clone, Copy)]
struct Clock {
    rate: f64,
    start: u64,
}

impl Clock {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let drift = Timing::default().drift_ppm as f64 / 1e6;
        // As fast or as slow as may be, more often than not.
        let skew = if rng.gen_bool(0.3) { rng.gen_range(-0.999..0.999) } else { [-0.999, 0.999][rng.gen_range(0..2)] };
        Self { rate: 1.0 + drift * skew, start: rng.gen_range(1_000_000_000..2_000_000_000) }
    }

    fn at(self, truth: f64) -> Instant {
        Instant(self.start + (truth * self.rate) as u64)
    }

    fn truth(self, at: Instant) -> f64 {
        (at.0 - self.start) as f64 / self.rate
    }
}

/// Node 1 commands and holds node 2 alive, until node 3 is elected, which never hears node 2.
#[test]
fn a_life_that_is_given_up_has_ended_by_itself_whatever_the_clocks_within_the_drift_do() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let span = Some(Duration::from_secs(2));
    let at = |commander, me| with_give_up(published(1, &[chain(&[TWO], 1)], commander, me), span);
    let mut alive = 0;
    for _ in 0..200 {
        let clocks = [(); 3].map(|()| Clock::random(&mut rng));
        let mut nodes = [ONE, TWO, THREE].map(Node::new);
        let elected = rng.gen_range(0.5e9..4e9);
        for ((node, clock), me) in nodes.iter_mut().zip(clocks).zip([ONE, TWO, THREE]) {
            node.now = clock.at(0.0);
            node.publish(at(Some(ONE), me));
        }
        let [old, holder, new] = &mut nodes;
        let mut ends: f64 = 0.0;
        let mut truth = 0.0;
        while truth < elected {
            truth += rng.gen_range(10e6..100e6);
            let sent = asks(&only(holder.until(clocks[1].at(truth))));
            let Some((_, ask)) = sent.last() else { continue };
            let there = truth + rng.gen_range(0.0..40e6);
            old.until(clocks[0].at(there));
            let mut begun = rounds(&old.hear(TWO, beacon_of(LIFE, ask.number)));
            let confirmed_at = there + rng.gen_range(25e6..100e6);
            begun.extend(rounds(&only(old.until(clocks[0].at(confirmed_at)))));
            truth = confirmed_at;
            // A quorum that has elected another confirms nothing any more.
            for round in begun.into_iter().filter(|_| confirmed_at < elected) {
                let given = grants(&old.step(confirmed(round, 1)));
                // However late the grant arrives.
                holder.until(clocks[1].at(confirmed_at + rng.gen_range(0.0..500e6)).max(holder.now));
                truth = truth.max(clocks[1].truth(holder.now));
                for (_, grant) in given.into_iter().filter(|(to, _)| *to == TWO) {
                    let effects = holder.hear(ONE, HeartbeatMessage::Grant(grant));
                    let after = leases(&effects).and_then(|leases| leases.silent_after);
                    ends = after.map_or(ends, |after| ends.max(clocks[1].truth(after)));
                }
            }
        }
        new.until(clocks[2].at(elected));
        new.publish(at(Some(THREE), THREE));
        let seen = new.until(clocks[2].at(elected + 5e9));
        let said = seen.iter().find(|(_, effect)| matches!(effect, Effect::Expired { node: TWO, .. }));
        let said = clocks[2].truth(said.expect("it is given up").0);
        assert!(ends < said, "it answers until {ends}, and is given up at {said}");
        alive += u32::from(ends > 0.0);
    }
    assert!(alive > 150, "only {alive} were ever alive");
}
