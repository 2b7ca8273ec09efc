//! Rates of a counter: now, over the last minute, and over the last hour. Pure and bounded.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::history::{POINTS, STEP};

/// Seconds of the last minute.
const SECONDS: usize = 60;
/// "Now" is the mean over this time.
const NOW: Duration = Duration::from_secs(10);

/// A counter's rates, each per second.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// Readings, about one a second, oldest first.
    readings: VecDeque<(Instant, u64)>,
    /// The last hour, a mean for each step, oldest first.
    hour: VecDeque<f64>,
    /// Start of the current step.
    step: Option<(Instant, u64)>,
}

impl Rates {
    /// Notes that the counter is at `total`. To be called about once a second.
    pub(super) fn note(&mut self, at: Instant, total: u64) {
        push(&mut self.readings, (at, total), SECONDS + 1);
        let (began, before) = *self.step.get_or_insert((at, total));
        if at.duration_since(began) >= STEP {
            push(&mut self.hour, rate((began, before), (at, total)), POINTS);
            self.step = Some((at, total));
        }
    }

    /// The mean of the last ten seconds.
    pub(super) fn now(&self) -> f64 {
        let Some(last) = self.readings.back() else {
            return 0.0;
        };
        let first = self
            .readings
            .iter()
            .find(|(at, _)| last.0.duration_since(*at) <= NOW);
        first.map_or(0.0, |first| rate(*first, *last))
    }

    /// The last minute, a mean for each second, oldest first.
    pub(super) fn minute(&self) -> Vec<f64> {
        let later = self.readings.iter().skip(1);
        self.readings
            .iter()
            .zip(later)
            .map(|(one, next)| rate(*one, *next))
            .collect()
    }

    /// The last hour, a mean for each step, oldest first.
    pub(super) fn hour(&self) -> Vec<f64> {
        self.hour.iter().copied().collect()
    }
}

fn push<T>(line: &mut VecDeque<T>, value: T, most: usize) {
    line.push_back(value);
    if line.len() > most {
        line.pop_front();
    }
}

fn rate((began, before): (Instant, u64), (at, total): (Instant, u64)) -> f64 {
    let seconds = at.duration_since(began).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "events of a minute")]
    let events = total.saturating_sub(before) as f64;
    if seconds > 0.0 { events / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn rates_are_per_second_however_long_it_took() {
        let start = Instant::now();
        let mut rates = Rates::default();
        assert!(is(rates.now(), 0.0) && rates.minute().is_empty());
        rates.note(start, 1_000);
        assert!(is(rates.now(), 0.0), "what was before is not counted");
        rates.note(start + Duration::from_secs(1), 1_004);
        rates.note(start + Duration::from_secs(3), 1_010);
        assert!(is(rates.now(), 10.0 / 3.0));
        let minute = rates.minute();
        assert!(minute.len() == 2 && is(minute[0], 4.0) && is(minute[1], 3.0));
    }

    #[test]
    fn now_is_the_last_ten_seconds_and_lines_are_bounded() {
        let start = Instant::now();
        let mut rates = Rates::default();
        // An hour and a half at 2 a second, then ten seconds of nothing.
        for second in 0..5_400 {
            rates.note(start + Duration::from_secs(second), 2 * second);
        }
        assert!(is(rates.now(), 2.0));
        for second in 5_400..5_410 {
            rates.note(start + Duration::from_secs(second), 2 * 5_399);
        }
        assert!(is(rates.now(), 0.0));
        assert_eq!((rates.minute().len(), rates.hour().len()), (SECONDS, POINTS));
        assert!(is(rates.hour()[0], 2.0));
    }
}
