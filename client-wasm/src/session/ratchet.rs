//! A believer's clock: one that may run fast, and never stands still while the world goes on.

use super::Millis;

/// How much more the wall clock may advance than the monotonic one before the difference counts, in milliseconds. Below it
/// lie rounding and the slewing of NTP.
const TOLERANCE: Millis = 100;

/// The monotonic clock plus a skew that only grows.
///
/// `performance.now()` stops while a laptop sleeps, so a lease measured by it alone would outlive the sleep. The wall clock
/// goes on, but can be set. So the skew grows by what the wall clock advanced more than the monotonic one since the last
/// reading, and never shrinks: a wall clock that jumps forward ends a belief early, one that jumps back changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Ratchet {
    last: Option<(Millis, Millis)>,
    skew: Millis,
}

impl Ratchet {
    /// A ratchet without skew.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None, skew: 0 }
    }

    /// The believer's now, from both clocks read at the same moment, in milliseconds.
    pub fn read(&mut self, monotonic: Millis, wall: Millis) -> Millis {
        if let Some((last_monotonic, last_wall)) = self.last {
            let excess = wall
                .saturating_sub(last_wall)
                .saturating_sub(monotonic.saturating_sub(last_monotonic));
            if excess > TOLERANCE {
                self.skew += excess;
            }
        }
        self.last = Some((monotonic, wall));
        monotonic + self.skew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monotonic_clock_that_slept_is_made_up_for_by_the_wall_clock() {
        let mut ratchet = Ratchet::new();
        assert_eq!(ratchet.read(1_000, 50_000), 1_000);
        assert_eq!(ratchet.read(1_010, 50_010 + 3_600_000), 1_010 + 3_600_000);
    }

    #[test]
    fn a_wall_clock_set_back_changes_nothing_and_set_forward_counts_once() {
        let mut ratchet = Ratchet::new();
        ratchet.read(0, 100_000);
        assert_eq!(ratchet.read(10, 10), 10);
        assert_eq!(ratchet.read(20, 20), 20);
        assert_eq!(ratchet.read(30, 60_030), 60_030, "forward by a minute");
        assert_eq!(ratchet.read(40, 40), 60_040, "and back: the skew stays");
    }

    #[test]
    fn slewing_and_rounding_do_not_add_up() {
        let mut ratchet = Ratchet::new();
        for step in 0..1_000 {
            assert_eq!(ratchet.read(step * 1_000, step * 1_050), step * 1_000);
        }
    }
}
