//! Fault sites: places in the machines where something lawful and rare can be made to happen often.
//!
//! A full queue, a beacon that is not sent, a streaming where a repair would do: the rules allow each at any time, and by chance
//! each is so rare that a run of ten minutes seldom meets two of them at once. In a random world a site is switched on
//! for one life of a node with a chance of one in four, and then fires with a chance of one in four, by that life's own luck
//! (the habit is FoundationDB's, "buggify"). Everywhere else all sites are off: [`fires`] is then one look at a word of this
//! thread, and sites stand only where that costs nothing.

use std::cell::Cell;

macro_rules! sites {
    ($($site:ident $name:literal $what:literal,)*) => {
        /// A fault site. What happens when it fires stands at each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Site {
            $(#[doc = $what] $site,)*
        }

        impl Site {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$site),*];

            /// As it is counted.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$site => $name,)* }
            }
        }
    };
}

sites! {
    StreamAnew "site: streamed anew" "a joiner is streamed a whole copy though the backlog knows what it lacks",
    SmallChunk "site: small chunk" "a chunk ends after its first key",
    OneAtATime "site: one write a forward" "a forward carries one write",
    HelloAgain "site: hello again" "a member that is in step says Hello once more",
    RecipeRefused "site: recipe refused" "a member asks for values where it was sent a command",
    NoRoom "site: no room" "a store has no room for a command that would have to wait",
    NoBeacon "site: no beacon" "a beat passes without beacons",
    GrantUnheard "site: grant unheard" "a grant of a lease is not heard",
    WordForgotten "site: word forgotten" "the commander forgets that a member caught up, parked or vouched",
    OutcomeUnknown "site: outcome unknown" "the commander is not told what became of its proposal",
    EarlySnapshot "site: early snapshot" "the log is compacted though it is short",
}

/// How many sites there are.
const COUNT: usize = Site::ALL.len();

/// The luck of one life of a node: which sites are on, and how often each has fired.
#[derive(Clone, Copy, Debug, Default)]
pub struct Luck {
    on: u32,
    state: u64,
    fired: [u32; COUNT],
}

impl Luck {
    /// That of a life, by its seed.
    pub fn of(seed: u64) -> Self {
        let mut luck = Self { state: seed, ..Self::default() };
        luck.on = (0..COUNT).filter(|_| luck.one_in_four()).fold(0, |on, site| on | 1 << site);
        luck
    }

    /// Switches all sites off; what has fired stays counted.
    pub fn calm(&mut self) {
        self.on = 0;
    }

    /// How often each site has fired.
    pub fn fired(&self) -> impl Iterator<Item = (Site, u32)> {
        Site::ALL.iter().copied().zip(self.fired)
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014): short, and good enough to toss coins.
    fn one_in_four(&mut self) -> bool {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.state ^ self.state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) >> 62 == 0
    }
}

thread_local! {
    static ON: Cell<u32> = const { Cell::new(0) };
    static LUCK: Cell<Luck> = const { Cell::new(Luck { on: 0, state: 0, fired: [0; COUNT] }) };
}

/// Whether what this site stands for happens now.
pub fn fires(site: Site) -> bool {
    let on = ON.get() & 1 << site as u32 != 0;
    on && toss(site)
}

#[cold]
fn toss(site: Site) -> bool {
    let mut luck = LUCK.get();
    let fires = luck.one_in_four();
    luck.fired[site as usize] += u32::from(fires);
    LUCK.set(luck);
    fires
}

/// Lets machines run with the luck of their life.
pub fn with<T>(luck: &mut Luck, run: impl FnOnce() -> T) -> T {
    /// Ends it however the run ends.
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(0);
        }
    }
    if luck.on == 0 {
        return run();
    }
    ON.set(luck.on);
    LUCK.set(*luck);
    let off = Off;
    let result = run();
    drop(off);
    *luck = LUCK.get();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_a_quarter_of_all_sites_is_on_and_fires_a_quarter_of_the_time() {
        assert!(!Site::ALL.iter().any(|site| fires(*site)), "outside of a run all are off");
        let (mut on, mut fired) = (0, 0);
        for seed in 0..1_000 {
            let mut luck = Luck::of(seed);
            on += luck.on.count_ones();
            fired += with(&mut luck, || (0..40).filter(|_| fires(Site::ALL[0])).count());
            assert_eq!(luck.fired().map(|(_, times)| times as usize).sum::<usize>() > 0, luck.fired[0] > 0);
        }
        let all = 1_000 * COUNT as u32;
        assert!((all / 5..all / 3).contains(&on), "{on} of {all} are on");
        assert!((2_000..3_000).contains(&fired), "{fired} times of 10,000 where it is on");
    }

    #[test]
    fn the_same_seed_has_the_same_luck_and_a_calm_life_has_none() {
        let play = |luck: &mut Luck| with(luck, || (0..100).map(|_| fires(Site::NoRoom)).collect::<Vec<_>>());
        assert_eq!(play(&mut Luck::of(3)), play(&mut Luck::of(3)));
        let mut calm = Luck::of(3);
        calm.calm();
        assert!(!play(&mut calm).contains(&true));
    }

    #[test]
    fn a_run_that_panics_leaves_all_sites_off() {
        let mut luck = Luck { on: u32::MAX, ..Luck::default() };
        let panics = std::panic::AssertUnwindSafe(|| with(&mut luck, || panic!("a false belief")));
        std::panic::catch_unwind(panics).unwrap_err();
        assert!((0..100).all(|_| !fires(Site::NoRoom)));
    }
}
