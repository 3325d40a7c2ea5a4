//! The harness for randomized soak tests: `scripts/test` runs a short random part of each, `scripts/soak NAME` the
//! whole. All random choices come from one seed that is printed; `BERTH_TEST_SEED` repeats the run.

use berth_ground::clock::Clock;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

pub struct SoakTest {
    name: &'static str,
    seed: u64,
    whole: bool,
    random: StdRng,
}

impl SoakTest {
    pub fn story(name: &'static str) -> Self {
        let seed = setting("BERTH_TEST_SEED").map(|seed| seed.parse().expect("BERTH_TEST_SEED is a whole number"));
        let seed = seed.unwrap_or_else(|| u64::from_le_bytes(Clock::system().random()) >> 16);
        let whole = setting("BERTH_SOAK").as_deref() == Some("whole");
        let long = Self { name, seed, whole, random: StdRng::seed_from_u64(seed) };
        long.say(&format!("{}; BERTH_TEST_SEED={seed}", if whole { "the whole" } else { "a short part" }));
        long
    }

    /// How many of something: `whole` in a whole run.
    pub fn count(&self, short: usize, whole: usize) -> usize {
        if self.whole { whole } else { short }
    }

    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// A number from 0 to below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.random.random_range(0..limit)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(from.len());
        &from[at]
    }

    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        things.shuffle(&mut self.random);
    }

    /// Writes directly to stderr, past the test harness's output capture, so that a run of an hour shows its progress.
    pub fn say(&self, words: &str) {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), "{}: {words}", self.name);
    }
}

impl Drop for SoakTest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.say(&format!("it failed; BERTH_TEST_SEED={} tells it again", self.seed));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests, not the operator, sets these")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
