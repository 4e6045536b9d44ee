//! The relay's two clocks. Whoever *believes* must not believe too long; whoever *takes away* must not take too soon. No
//! single clock is safe for both, so each instant carries two readings.
//!
//! The only file of the session layer that reads a clock; all else is given a [`Now`].

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime};

/// A duration, or an instant from any starting point, in milliseconds.
pub type Millis = u64;

/// One instant on both clocks. Neither goes back; they are never compared with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For the relay's own lease: counts suspend, and jumps of the wall clock forwards. May run ahead of real time, never
    /// behind it.
    pub believer: Millis,
    /// For all that takes a lock away or waits: silence, another relay's standstill, recovery, limits. May stand still
    /// during suspend; never runs ahead of real time.
    pub taker: Millis,
}

/// Tells the time.
pub trait Clock: Send + 'static {
    /// The present instant. Readings never go back.
    fn now(&mut self) -> Now;
}

/// The operating system's clocks.
#[derive(Debug, Default)]
pub struct SystemClock {
    ratchet: Ratchet,
}

/// Linux's monotonic clock misses suspend; its boot-time clock does not. Others have no such choice, and rely on the wall
/// clock of the [`Ratchet`].
#[cfg(any(target_os = "linux", target_os = "android"))]
const BELIEVER: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const BELIEVER: ClockId = ClockId::Monotonic;

impl Clock for SystemClock {
    fn now(&mut self) -> Now {
        // A wall clock before 1970 counts as standing still: it can then only fail to end a belief early.
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Now {
            believer: self.ratchet.read(read(BELIEVER), millis(wall)),
            taker: read(ClockId::Monotonic),
        }
    }
}

fn read(clock: ClockId) -> Millis {
    let time = clock_gettime(clock);
    // Both are positive: these clocks start at zero.
    time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The believer's clock: a monotonic clock plus a skew that only grows, by what the wall clock advanced more than it since
/// the last reading. So time that the monotonic clock misses (a suspended machine) still counts.
#[derive(Debug, Default)]
pub struct Ratchet {
    last: Option<(Millis, Millis)>,
    skew: Millis,
}

/// Below this the two clocks merely differ in how they are slewed and read.
const NOISE_MILLIS: Millis = 100;

impl Ratchet {
    /// What the believer's clock shows when the monotonic and the wall clock show this.
    pub fn read(&mut self, monotonic: Millis, wall: Millis) -> Millis {
        let (last_monotonic, last_wall) = self.last.unwrap_or((monotonic, wall));
        let monotonic = monotonic.max(last_monotonic);
        let more = wall
            .saturating_sub(last_wall)
            .saturating_sub(monotonic - last_monotonic);
        if more > NOISE_MILLIS {
            self.skew = self.skew.saturating_add(more);
        }
        self.last = Some((monotonic, wall));
        monotonic.saturating_add(self.skew)
    }
}

/// Tokio's clock, so that tests under `tokio::time::pause` need not wait. Both readings are the same.
#[derive(Debug)]
pub struct TokioClock {
    start: tokio::time::Instant,
}

impl TokioClock {
    /// Starts at 1,000,000 ms, so that a test that confuses an instant with a duration fails.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: tokio::time::Instant::now(),
        }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&mut self) -> Now {
        let now = 1_000_000 + millis(self.start.elapsed());
        Now {
            believer: now,
            taker: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_only_the_wall_clock_saw_counts_for_the_believer() {
        let mut ratchet = Ratchet::default();
        assert_eq!(ratchet.read(1_000, 500_000), 1_000);
        assert_eq!(ratchet.read(1_010, 500_010), 1_010);
        // Asleep for a minute: the monotonic clock stood still.
        assert_eq!(ratchet.read(1_020, 560_010), 61_010);
        assert_eq!(ratchet.read(1_030, 560_020), 61_020);
    }

    #[test]
    fn a_wall_clock_that_is_set_back_prolongs_nothing_and_does_not_stop_the_clock() {
        let mut ratchet = Ratchet::default();
        ratchet.read(1_000, 500_000);
        assert_eq!(ratchet.read(2_000, 100_000), 2_000);
        assert_eq!(ratchet.read(3_000, 101_000), 3_000);
        // Set right again: a belief may end early, which is safe.
        assert_eq!(ratchet.read(4_000, 502_000), 4_000 + 400_000);
    }

    #[test]
    fn slewing_does_not_add_up() {
        let mut ratchet = Ratchet::default();
        for step in 0..1_000 {
            assert_eq!(ratchet.read(step * 1_000, step * 1_050), step * 1_000);
        }
    }

    #[test]
    fn the_system_clock_does_not_go_back() {
        let mut clock = SystemClock::default();
        let mut last = clock.now();
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now.believer >= last.believer && now.taker >= last.taker);
            last = now;
        }
    }
}
