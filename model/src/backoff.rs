//! Waits between tries of something that keeps failing.

use std::time::Duration;

/// Waits that double with each failure, up to a limit. Nothing is slept and no clock is read here.
///
/// ```
/// use mig_cdi_model::Backoff;
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// let mut backoff = Backoff::new(second, 5 * second);
/// let waits: Vec<_> = (0..4).map(|_| backoff.next_wait().as_secs()).collect();
/// assert_eq!(waits, [1, 2, 4, 5]);
/// assert_eq!(backoff.failures(), 4);
/// backoff.reset();
/// assert_eq!(backoff.next_wait(), second);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    failures: u32,
}

impl Backoff {
    /// Makes a backoff whose first wait is `first` and whose longest is `limit`.
    #[must_use]
    pub const fn new(first: Duration, limit: Duration) -> Backoff {
        Backoff { first, limit, failures: 0 }
    }

    /// Counts a failure and returns the wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        // A shift by more than 31 bits has no result: the wait is far beyond any limit by then.
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.first.saturating_mul(factor).min(self.limit)
    }

    /// Number of failures since the start or the last [`Backoff::reset`].
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts again with the first wait, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_limit() {
        let mut backoff = Backoff::new(SECOND, SECOND * 60);
        let waits: Vec<_> = (0..8).map(|_| backoff.next_wait().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!((backoff.failures(), backoff.next_wait()), (0, SECOND));
    }

    #[test]
    fn many_failures_overflow_nothing() {
        let mut backoff = Backoff::new(Duration::MAX / 2, Duration::MAX);
        assert!((0..100).all(|_| backoff.next_wait() >= Duration::MAX / 2));
        assert_eq!(backoff.next_wait(), Duration::MAX);
        assert_eq!(backoff.failures(), 101);
        assert_eq!(Backoff::new(SECOND * 3, SECOND).next_wait(), SECOND);
    }
}
