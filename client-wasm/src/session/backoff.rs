//! How long to wait before the next connection: exponential with full jitter (M. Brooker, "Exponential Backoff And Jitter",
//! AWS Architecture Blog), so that a relay's restart does not bring all its pages back in the same instant.

use super::Millis;

/// Upper bound of the first wait, in milliseconds. Doubles with each failure.
const BASE: Millis = 100;

/// Upper bound of every wait, in milliseconds.
const CAP: Millis = 5_000;

/// Failures in a row, and the randomness for the jitter.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    failures: u32,
    state: u64,
}

impl Backoff {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            state: seed,
        }
    }

    /// A connection was good for a while.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure.
    pub(super) fn next(&mut self) -> Millis {
        let bound = (BASE << self.failures.min(16)).min(CAP);
        self.failures += 1;
        // SplitMix64 (Steele, Lea, Flood 2014): ten lines less than a dependency; nothing here needs to be unguessable.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % (bound + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_spread_below_a_bound_that_doubles_up_to_five_seconds() {
        for (failures, bound) in [(0, 100), (1, 200), (3, 800), (6, 5_000), (40, 5_000)] {
            let waits: Vec<Millis> = (0..200)
                .map(|seed| {
                    let mut backoff = Backoff { failures, state: seed };
                    backoff.next()
                })
                .collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "{waits:?}");
            assert!(
                waits.iter().any(|wait| *wait > bound * 9 / 10),
                "spread to the top: {waits:?}"
            );
            assert!(
                waits.iter().any(|wait| *wait < bound / 10),
                "spread to the bottom: {waits:?}"
            );
        }
    }
}
