//! Histories that break an object, those that do not, and the search beside the definition.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::commands;
use crate::keyspace::Keyspace;
use crate::types::{Instant, Now};

fn call(asked: Asked, came: Came, start: u64, end: u64) -> Call {
    spanning(asked, came, (start, 1), (end, 1))
}

fn spanning(asked: Asked, came: Came, start: (u64, u64), end: (u64, u64)) -> Call {
    let side = |side: (u64, u64)| (Time(side.0), Generation(side.1));
    Call { key: (0, 0), asked, came, start: side(start), end: side(end) }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn set(value: &str) -> Asked {
    Asked::Set(text(value))
}

fn swap(old: &str, new: &str) -> Asked {
    Asked::Swap { old: text(old), new: text(new) }
}

fn ok() -> Came {
    Came::Answer(Reply::ok())
}

fn number(number: i64) -> Came {
    Came::Answer(Reply::Integer(number))
}

fn bulk(value: &str) -> Came {
    Came::Answer(Reply::text(value))
}

fn nothing() -> Came {
    Came::Answer(Reply::Null)
}

use Asked::{Append, Count, Delete, Get, Take};
use Came::{Refused, Unknown};

/// Which of these one after the other is the first that nothing explains, if one is.
fn wrong(calls: Vec<(Asked, Came)>) -> Option<usize> {
    let times = (1..).step_by(2);
    let history: Vec<Call> =
        calls.into_iter().zip(times).map(|((asked, came), at)| call(asked, came, at, at + 1)).collect();
    match judge(&history) {
        Ok(()) => None,
        Err(Fault::Wrong(wrong)) => history.iter().position(|call| *call == *wrong),
        Err(Fault::Unfinished) => panic!("few things are possible"),
    }
}

#[test]
fn what_breaks_an_object_is_found() {
    // A deletion is lost.
    assert_eq!(wrong(vec![(set("a"), ok()), (Delete, number(1)), (Get, bulk("a"))]), Some(2));
    // What was asked once counts twice; what nobody knows may count once or not at all.
    assert_eq!(wrong(vec![(Count, Unknown), (Count, number(2))]), None);
    assert_eq!(wrong(vec![(Count, Unknown), (Count, number(1)), (Count, number(3))]), None);
    assert_eq!(wrong(vec![(Count, Unknown), (Count, number(3))]), Some(1));
    assert_eq!(wrong(vec![(Count, Refused), (Count, number(2))]), Some(1));
    // Two were first.
    let once = |value: &str| Asked::SetOnce(text(value));
    assert_eq!(wrong(vec![(once("a"), number(1)), (once("b"), number(1))]), Some(1));
    assert_eq!(wrong(vec![(Asked::SetIfNone(text("a")), ok()), (Asked::SetIfNone(text("b")), ok())]), Some(1));
    // Something is put in place of what is there no more.
    assert_eq!(wrong(vec![(set("a"), ok()), (swap("a", "b"), ok()), (swap("a", "c"), ok())]), Some(2));
    assert_eq!(wrong(vec![(set("a"), ok()), (swap("a", "b"), ok()), (swap("a", "c"), nothing())]), None);
    // An old value after a newer one.
    assert_eq!(wrong(vec![(set("a"), ok()), (set("b"), ok()), (Get, bulk("b")), (Get, bulk("a"))]), Some(3));
    assert_eq!(wrong(vec![(set("a"), ok()), (set("b"), Unknown), (Get, bulk("b")), (Get, bulk("a"))]), Some(3));
    assert_eq!(wrong(vec![(set("a"), ok()), (set("b"), Unknown), (Get, bulk("a")), (Get, bulk("b"))]), None);
    // What was taken is taken again, or was appended to in another order.
    assert_eq!(wrong(vec![(set("a"), ok()), (Take, bulk("a")), (Take, bulk("a"))]), Some(2));
    let appended = |last: &str| vec![(Append(text("a")), number(1)), (Append(text("b")), number(2)), (Get, bulk(last))];
    assert_eq!((wrong(appended("ab")), wrong(appended("ba"))), (None, Some(2)));
    assert_eq!(wrong(vec![(set("a"), Refused), (Get, bulk("a"))]), Some(1));
}

#[test]
fn a_generation_begins_with_nothing_or_with_some_one_value() {
    let before = [call(set("a"), ok(), 1, 2)];
    let then = |asked, came, at| spanning(asked, came, (at, 2), (at + 1, 2));
    let all = |calls: &[Call]| judge(&[&before[..], calls].concat());
    assert_eq!(all(&[then(Get, nothing(), 5), then(Delete, number(0), 7)]), Ok(()));
    assert_eq!(all(&[then(Delete, number(1), 5), then(Get, nothing(), 7)]), Ok(()));
    assert_eq!(all(&[then(Append(text("+")), number(2), 5), then(Get, bulk("a+"), 7)]), Ok(()));
    assert!(all(&[then(Get, bulk("a"), 5), then(Get, nothing(), 7)]).is_err());
    assert!(all(&[then(Get, bulk("a"), 5), then(Get, bulk("b"), 7)]).is_err());
    assert!(all(&[then(Get, nothing(), 5), then(Get, bulk("a"), 7)]).is_err());
    // Nobody had used the key before the first.
    assert!(judge(&[then(Get, bulk("a"), 5)]).is_err());
    // What was asked before, or was under way, may take effect later.
    for early in [call(set("b"), Unknown, 3, 4), spanning(set("b"), ok(), (3, 1), (6, 2))] {
        assert_eq!(all(&[early.clone(), then(Get, nothing(), 7), then(Get, bulk("b"), 9)]), Ok(()));
        assert!(all(&[early, then(Get, bulk("b"), 7), then(Get, nothing(), 9)]).is_err());
    }
}

#[test]
fn what_is_too_wide_is_told_and_not_called_good() {
    let unknown = |index: u64| call(Append(text(&format!("+{index}"))), Unknown, index, index);
    let history: Vec<Call> = (0..9).map(unknown).chain([call(Get, bulk("?"), 20, 21)]).collect();
    assert_eq!(judge(&history), Err(Fault::Unfinished));
    let mut checker = Objects::default();
    history.iter().for_each(|call| checker.observe(Time(0), &Fact::Called(call)).expect("judged at the end"));
    assert_eq!((checker.finish(), checker.unfinished()), (Ok(()), 1));
}

/// One of few, so that they meet.
fn some(random: &mut ChaCha8Rng) -> Asked {
    let mut value = || text(["1", "2", "+3"][random.gen_range(0..3)]);
    let (one, other) = (value(), value());
    match random.gen_range(0..10) {
        0 => set("3"),
        1 => Asked::Set(one),
        2 => Asked::SetIfNone(one),
        3 => Asked::SetOnce(one),
        4 => Asked::Swap { old: one, new: other },
        5 => Asked::Exchange(one),
        6 => {
            if random.gen_ratio(1, 2) {
                Take
            } else {
                Delete
            }
        }
        7 => Count,
        8 => Append(one),
        _ => Get,
    }
}

#[test]
fn an_object_is_what_the_commands_make_of_a_key() {
    let random = &mut ChaCha8Rng::seed_from_u64(2);
    let (mut keyspace, mut held) = (Keyspace::default(), Held::Nothing);
    let now = Now { instant: Instant(0), wall_ms: 0 };
    for _ in 0..20_000 {
        let asked = some(random);
        let executed = commands::execute(&keyspace, now, &asked.words(&text("key")));
        executed.changes.iter().for_each(|change| keyspace.apply(change));
        let told = explain(&held, &asked, &executed.reply);
        held = told.unwrap_or_else(|| panic!("{asked:?} of {held:?} is answered {:?}", executed.reply));
    }
}

/// Tries every order: the definition itself, for small histories.
fn try_all(history: &[Call], done: u32, held: &Held) -> bool {
    let open = |index: &usize| done & (1 << index) == 0;
    let must = |index: &usize| matches!(history[*index].came, Came::Answer(_));
    let waiting = || (0..history.len()).filter(open);
    if !waiting().any(|index| must(&index)) {
        return true;
    }
    // Whatever ended before something else began comes first.
    let bound = waiting().filter(must).map(|index| history[index].end.0).min();
    waiting().filter(|index| bound.is_none_or(|bound| bound >= history[*index].start.0)).any(|index| {
        let call = &history[index];
        let after = match &call.came {
            Came::Answer(answer) => explain(held, &call.asked, answer),
            Unknown => Some(carry_out(held, &call.asked).0),
            Refused => None,
        };
        after.is_some_and(|after| try_all(history, done | 1 << index, &after))
    })
}

/// Something that may have happened: each takes effect at some instant between its beginning and its end.
fn lawful(random: &mut ChaCha8Rng) -> Vec<Call> {
    let count = random.gen_range(2..8);
    let mut points: Vec<u64> = (0..count).map(|_| random.gen_range(1..20)).collect();
    points.sort_unstable();
    let mut held = Held::Nothing;
    let mut history = Vec::new();
    for point in points {
        let asked = some(random);
        let (start, end) = (point - random.gen_range(0..=point.min(5)), point + random.gen_range(0..5));
        let (after, reply) = carry_out(&held, &asked);
        let came = match random.gen_range(0..8) {
            0 => Unknown,
            1 => Refused,
            _ => Came::Answer(reply),
        };
        if came != Refused && (came != Unknown || random.gen_ratio(1, 2)) {
            held = after;
        }
        history.push(call(asked, came, start, end));
    }
    history
}

#[test]
fn the_search_agrees_with_the_definition_on_random_histories() {
    let (mut good, mut bad) = (0, 0);
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    for _ in 0..40_000 {
        let mut history = lawful(random);
        // What one was told, another is told.
        if random.gen_ratio(3, 4) {
            let (one, other) = (random.gen_range(0..history.len()), random.gen_range(0..history.len()));
            history[one].came = history[other].came.clone();
        }
        let explained = try_all(&history, 0, &Held::Nothing);
        assert_eq!(judge(&history).is_ok(), explained, "{history:#?}");
        if explained { good += 1 } else { bad += 1 }
    }
    assert!(good > 5_000 && bad > 5_000, "{good} good, {bad} bad");
}
