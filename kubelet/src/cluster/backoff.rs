//! Random parts of waits, so that ten thousand nodes that failed together do not try again together.

use mig_cdi_model::Backoff;
use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Random part of the next wait of a backoff. Never shorter than the server asked for.
pub(crate) fn jittered(backoff: &mut Backoff, asked: Option<Duration>) -> Duration {
    asked.unwrap_or_default() + part(backoff.next_wait())
}

/// A random part of a time.
pub(crate) fn part(whole: Duration) -> Duration {
    whole.mul_f64(f64::from(random()) / f64::from(u32::MAX))
}

/// Half of a time and a random part of the other half.
pub(crate) fn about(whole: Duration) -> Duration {
    whole / 2 + part(whole / 2)
}

/// The keys of std's hasher come from the kernel, and differ from call to call.
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
        let asked = jittered(&mut Backoff::new(second, second), Some(second * 30));
        assert!(asked >= second * 30 && asked <= second * 31);
    }
}
