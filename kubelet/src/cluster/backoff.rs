//! Delays between tries, random so that the nodes of a cluster do not try at the same moment.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Delays that double up to a limit. Each wait is a random part of its delay.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, limit: Duration) -> Backoff {
        Backoff { first, limit, next: first }
    }

    /// Returns the next wait: the time that the server asked for, and a random part of the next delay. Clients that failed
    /// together do not come back together.
    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        asked.unwrap_or_default() + part(self.next())
    }

    /// Returns the next delay.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.limit);
        whole
    }

    /// Starts again with the first delay, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Returns a random part of a time.
pub(crate) fn part(whole: Duration) -> Duration {
    whole.mul_f64(f64::from(random()) / f64::from(u32::MAX))
}

/// Returns half of a time and a random part of the other half.
pub(crate) fn about(whole: Duration) -> Duration {
    whole / 2 + part(whole / 2)
}

/// Returns a random number. std takes the keys of its hasher from the kernel once for each thread, and adds one for each
/// hasher (`std::hash::RandomState::new`), so every call returns another number.
pub(crate) fn random() -> u32 {
    let bytes = RandomState::new().hash_one(0_u8).to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_differ() {
        let second = Duration::from_secs(1);
        let mut most = Vec::new();
        for _ in 0..200 {
            let mut backoff = Backoff::new(second, second * 8);
            let waits: Vec<_> = (0..6).map(|_| backoff.wait(None)).collect();
            most.resize(6, Duration::ZERO);
            for (most, wait) in most.iter_mut().zip(&waits) {
                *most = (*most).max(*wait);
            }
            backoff.reset();
            assert!(backoff.wait(None) <= second);
        }
        // Of 200 random parts the largest is near the whole.
        for (most, whole) in most.iter().zip([1, 2, 4, 8, 8, 8]) {
            let whole = second * whole;
            assert!(*most <= whole && *most > whole / 2, "{most:?} of {whole:?}");
        }
        let asked = Backoff::new(second, second).wait(Some(second * 30));
        assert!(asked >= second * 30 && asked <= second * 31);
    }
}
