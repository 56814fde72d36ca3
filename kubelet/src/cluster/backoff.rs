//! Delays after failures, and random parts of them, so that ten thousand nodes that failed together do not try again
//! together.

use mig_cdi_model::Backoff;
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Delays between tries after failures. They double from the first up to the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDelays {
    /// Delay after the first failure.
    pub first: Duration,
    /// Longest delay.
    pub limit: Duration,
}

impl RetryDelays {
    /// Makes a backoff with these delays, before any failure.
    pub(crate) fn backoff(self) -> Backoff {
        Backoff::new(self.first, self.limit)
    }
}

/// Random part of the next wait of a backoff, after the `Retry-After` of the server's answer.
pub(crate) fn jittered(backoff: &mut Backoff, retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or_default() + full_jitter(backoff.next_wait())
}

/// Random part of a time: "full jitter".
pub(crate) fn full_jitter(whole: Duration) -> Duration {
    whole.mul_f64(f64::from(random()) / f64::from(u32::MAX))
}

/// Half of a time and a random part of the other half: "equal jitter".
pub(crate) fn equal_jitter(whole: Duration) -> Duration {
    whole / 2 + full_jitter(whole / 2)
}

/// Random number. The keys of std's hasher come from the kernel, and differ from call to call.
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
            let waits: Vec<_> = (0..6).map(|_| jittered(&mut backoff, None)).collect();
            most.resize(6, Duration::ZERO);
            for (most, wait) in most.iter_mut().zip(&waits) {
                *most = (*most).max(*wait);
            }
            backoff.reset();
            assert!(jittered(&mut backoff, None) <= second);
        }
        // Of 200 random parts the largest is near the whole.
        for (most, whole) in most.iter().zip([1, 2, 4, 8, 8, 8]) {
            let whole = second * whole;
            assert!(*most <= whole && *most > whole / 2, "{most:?} of {whole:?}");
        }
        let wait = jittered(&mut Backoff::new(second, second), Some(second * 30));
        assert!(wait >= second * 30 && wait <= second * 31);
    }
}
