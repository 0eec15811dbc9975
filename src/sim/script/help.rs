//! The language of stories, for whoever types it: what `help` says.

use std::fmt::Write as _;

/// What happens to a mesh, and what of it is told. `show ...` and `head` are in [`SHOWS`], what can be waited for in
/// [`CONDITIONS`].
pub const COMMANDS: &[(&str, &str)] = &[
    (
        "mesh nodes=3 [copies=1] [min_copies=1] [mode=command] [parts=small] [ranges=16] [voters=5] [witness=1] [timeout=500ms] [workers=1] [expiry=15min] [give_up=never] [seed=1] [start=founder] [commander=bare]",
        "a mesh, and waits until it is settled; `start=together` starts all at once, `start=none` none; with `parts=small` keys are streamed byte by byte, and one recent write is kept; with `commander=bare` the last node, which has to be one that votes, commands and weighs so little that it holds no range",
    ),
    ("new n4 [join=n2] [role=witness] [weight=100] [zone=a]", "a place more, and a process there"),
    (
        "start, kill, pause, resume, restart n1... or all",
        "`kill ... power=off`: its machine goes down, nobody is told; `restart ... disk=lost`",
    ),
    (
        "cut n1 n2 [way=there], isolate n1, partition n1 n2, heal [n1 n2]",
        "a partition parts those named from the others",
    ),
    (
        "hold n1 n2 [lane=data], release n1 n2, reset n1 n2; all for any of them",
        "what n1 says to n2 (data: clients' commands, writes, acknowledgements; bulk; control) waits and nothing breaks; goes on (`heal` too); all their connections break now",
    ),
    (
        "weather [delay=1ms] [late=100] [late_by=50ms] [breaks=10]",
        "delays at most so long, so many of 10,000 late, so many of a million break",
    ),
    ("disk n1 ok, full, fails or slow=2s", "how a disk behaves"),
    ("clock n1 [drift=\"-4%\"] [wall=\"-1h\"]", "another rate, a jump of the wall clock"),
    ("timeout n1", "its election timeout is over now"),
    ("stall n1 store 2s", "an actor's thread is busy"),
    (
        "stepdown [n2], drop n3, drain n3 [only=preview], abort n3, promote n4, demote n1, weight n2 [to=300], zone n2 [to=east], rebalance; all with [at=n1]",
        "an operator's orders, at the commander or at another node",
    ),
    ("pausewrites [at=n1], resumewrites [at=n1]", "clients' writes wait in the whole mesh, or go on"),
    (
        "verify [KEY] [at=n1]",
        "whether all holders hold the same, of all ranges or of a key's: who differs, who is silent",
    ),
    ("tamper n2 KEY [VALUE]", "a copy of a key is not what was written; without a value it is gone"),
    ("advance 5s, until CONDITION [within=10s], expect CONDITION", "see `conditions`"),
    ("remember", "what later conditions compare with"),
    (
        "n1: set color blue",
        "a client's command at a node; with the tag `[later]` it is not waited for, and `answers` tells",
    ),
    (
        "clients 4 [keys=24] [others=25], rest",
        "clients that work by themselves, under the checkers, so many of 100 operations not on registers; `rest` waits until they have ended",
    ),
    ("hello n1 n2", "what HELLO says there"),
    ("rumour n3 n2 [times=1]", "n3 tells the commander that it does not hear n2"),
    ("lines", "everything that happened since the last `lines`; for the one who writes a story, too long to keep"),
    (
        "cast KEY",
        "names nodes by the part they play: A is the head of the key's chain, B the next holder, and so on; the letters behind them are the others that run, in the order of their numbers. From then on they stand wherever a node is named, as in `kill A`, `until chain KEY \"B - C\"`, `B: get KEY` (but not in clients' commands themselves), until the next `cast`; `Ab` is to A as n2b to n2",
    ),
    ("head KEY, show ...", "see `shows`"),
];

/// What a story can wait for or expect, and when it holds.
pub const CONDITIONS: &[(&str, &str)] = &[
    ("commander, commander n2, commander not n1, commander none", "somebody, this one, another, nobody commands"),
    ("term same, term higher, version same, version higher", "compared with what was remembered"),
    (
        "served, agreed, balanced, whole",
        "every range has somebody who can answer; all running nodes of the roster know one version and term; shares are even; no range is loading",
    ),
    ("equal", "all who serve a range hold the same of it, and nothing of it is dirty"),
    ("changing", "a change of voters is under way"),
    ("settled 3", "so many nodes are on the roster and up, the seats are filled, and all of the line above"),
    ("roster 3, voters 3, voters n1 n2, learners 2", "so many, or just these"),
    ("n4 up, suspect, joining, draining, listed, gone", "how it stands on the roster"),
    ("n4 voter, learner, heads, empty", "in the newest agreed state"),
    ("n4 answers, n4 silent", "whether it can answer for any range at this instant"),
    ("n4 follows n2, n4 ended, n4 runs", "what it believes; whether its process lives"),
    (
        "n1 says WORD [to n2] [of KEY], n1 hears WORD [from n2] [of KEY], n1 proposes WORD [of KEY]",
        "for `until` alone: all stands still at the very event. Words are the names of messages (append, requestvote, timeoutnow, beacon, probe, vouch, caughtup, park, parked, released, hello, forward, ack, piece, chunk, streamed, carry) and of changes (admit, stand, bury, remove; of chains placement, lost, restarted, dropped, caughtup, handedover, calledoff, left, begunanew)",
    ),
    (
        "chain KEY \"n1 - n2 loading\", n3 knows KEY \"n1 - n2\"",
        "these are a key's holders, in the newest that anybody knows, and in what n3 knows; `until` stands still at the very event",
    ),
    ("moved n1", "since what was remembered, only ranges whose head was n1 have another"),
];

/// What a story can show of a mesh.
pub const SHOWS: &[(&str, &str)] = &[
    ("head KEY", "who heads a key's range"),
    ("show commander, roster, heads, seats, terms", "of the newest agreed state; the terms that nodes know"),
    ("show votes", "the term and vote on each disk"),
    ("show chain KEY, show holders KEY", "a key's chain; what each node has of its range"),
    ("show events [KIND] [at=n1] [about=TEXT]", "what nodes noted since the last `remember`"),
    ("show state", "all of it, on one line"),
];

/// All of it, or what begins with a word.
pub(super) fn help(about: Option<&str>) -> String {
    let mut output = String::new();
    for (title, table) in [("Commands", COMMANDS), ("Shows", SHOWS), ("Conditions of `until` and `expect`", CONDITIONS)]
    {
        let suits =
            |(name, _): &&(&str, &str)| about.is_none_or(|word| name.split([' ', ',', '`']).any(|it| it == word));
        let rows: Vec<&(&str, &str)> = table.iter().filter(suits).collect();
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(output, "{title}:");
        for (name, meaning) in rows {
            let _ = writeln!(output, "  {name}\n      {meaning}");
        }
    }
    if output.is_empty() { "nothing is known by that name; `help` lists all\n".into() } else { output }
}
