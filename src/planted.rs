//! Bugs that can be planted, one at a time, to see that the simulator finds them: a check is worth what it finds.
//!
//! Each takes one guard out where its branch stands, as a slip of ours would. Without the feature `planted`, which no build has
//! that anybody runs, [`is`] is the constant `false` and each such branch is gone. With it `keyval sim run --plant NAME`
//! switches one on for the whole process, and `make teeth` plays them all; docs/proof.md has the table of what found which.

macro_rules! bugs {
    ($($bug:ident $name:literal $wrong:literal,)*) => {
        /// A bug that can be planted. What it does wrong stands at each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $(#[doc = $wrong] $bug,)*
        }

        impl Bug {
            /// All of them, in the order of the table in docs/proof.md.
            pub const ALL: &[Self] = &[$(Self::$bug),*];

            /// By this name it is planted.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)* }
            }

            /// What it does wrong, and which guard it takes out.
            pub const fn wrong(self) -> &'static str {
                match self { $(Self::$bug => $wrong,)* }
            }
        }
    };
}

bugs! {
    VoteUnsynced "vote-unsynced" "a vote is answered before it is stable",
    RecordsUnsynced "records-unsynced" "a voter acknowledges records before they are stable",
    CommanderUnsynced "commander-unsynced" "the commander counts its own records before they are stable",
    ConfirmedAlone "confirmed-alone" "sole holder: the commander grants its lease without asking a majority, nor does it notice that it has none",
    OrderChanged "order-changed" "G5: who stays when a member is dropped is put in another order",
    SilentDeath "silent-death" "G22: silence is taken for death, and the range is begun anew",
    PromotedUnasked "promoted-unasked" "G15: a joiner is made to serve before its source has said that it has caught up",
    CaughtUpOnce "caught-up-once" "G17: caught up counts in a later epoch than the one in which it was said",
    OtherLife "other-life" "G1: a node is a member in whatever life it is",
    LoadingServes "loading-serves" "a Loading member takes itself for one that serves",
    OldEpoch "old-epoch" "G4: a frame of an older epoch is heard, from whomever stood at its sender's place",
    GapApplied "gap-applied" "G6: a forward is applied whatever was applied before it",
    StampBySequence "stamp-by-sequence" "G6: stamps are compared by their sequence alone",
    DroppedCopyCounts "dropped-copy-counts" "G7: what a joiner acknowledged of a copy that it drops counts for the next one",
    ChunksMissWrites "chunks-miss-writes" "G8: a copy is streamed without the writes that happen meanwhile",
    HalfCopyKept "half-copy-kept" "G18: what was half streamed is kept, and the next streaming adds to it",
    RecipesToJoiner "recipes-to-joiner" "G9: a joiner that is being streamed is sent commands in place of values",
    ExpiryEverywhere "expiry-everywhere" "G9: each member deletes what has expired by its own clock",
    EarlyAck "early-ack" "G10: a member acknowledges before its successor has",
    HeadIsClean "head-is-clean" "G10: becoming head makes what it has clean",
    DirtyRead "dirty-read" "G11: a read is answered though the key is dirty",
    LeaseSeenBefore "lease-seen-before" "G11: the lease is looked at before the value is read, not after",
    WaitingUnleased "waiting-unleased" "G11: an answer that waited is given without looking at leases again",
    LoadingGivesNone "loading-gives-none" "G12: a Loading or Leaving member is no giver",
    DriftIgnored "drift-ignored" "G13: leases are counted as if all clocks ran alike",
    LeaseFromArrival "lease-from-arrival" "G13: a lease is counted from its arrival, not from its asking",
    PromiseForgotten "promise-forgotten" "G13: what was promised to the last head is not waited out",
    PromotedFreely "promoted-freely" "G14: who becomes Serving owes no quiet time",
    SoleUnleased "sole-unleased" "sole holder, G24: a head without Serving peers needs no word of the commander",
    GateUnbound "gate-unbound" "G15: caught up is said, but the source is not bound",
    GateBreaks "gate-breaks" "G16: the gate ends when the link to the joiner breaks",
    ParkedNumbers "parked-numbers" "G20: a parked head numbers on",
    ReleasedAnswers "released-answers" "G21: a head that has released the range answers on",
    OldCopyKept "old-copy-kept" "G23: a copy of an older generation is kept",
    Resent "resent" "G25: a write whose link broke is sent again",
}

impl std::str::FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|bug| bug.name() == name);
        found.ok_or_else(|| format!("no bug has the name {name:?}; `keyval sim plants` lists them"))
    }
}

#[cfg(feature = "planted")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(u8::MAX);

/// Whether this bug is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}

/// Whether this bug is planted.
#[cfg(feature = "planted")]
pub fn is(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Plants a bug in this process, in place of the one before; or none.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.store(bug.map_or(u8::MAX, |bug| bug as u8), std::sync::atomic::Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_none_is_planted() {
        let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        assert!(names.iter().all(|name| name.chars().all(|it| it.is_ascii_lowercase() || it == '-')));
        assert!(Bug::ALL.iter().all(|bug| !is(*bug) && bug.name().parse() == Ok(*bug)));
        assert!("no-such".parse::<Bug>().unwrap_err().contains("sim plants"));
    }
}
