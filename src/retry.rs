//! Pauses between attempts, and between rounds of periodic work. Random, so that several sidecars do not do the same
//! thing at the same moment.

use std::time::Duration;

/// Pauses between attempts: each up to twice as long as the one before.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with `first`; no pause is longer than `longest`.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The next pause, shortened by up to a half.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// After a success: begins with the first pause again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A time that is up to a quarter shorter or longer.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.75..1.25))
}

/// A time that is up to a half shorter or longer.
pub(crate) fn widely_jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.5..1.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew_after_a_success() {
        let [first, longest] = [100, 350].map(Duration::from_millis);
        let mut backoff = Backoff::new(first, longest);
        for _ in 0..2 {
            for millis in [100, 200, 350, 350] {
                let most = Duration::from_millis(millis);
                let pause = backoff.pause();
                assert!((most / 2..=most).contains(&pause), "{pause:?} of {most:?}");
            }
            backoff.reset();
        }
    }
}
