//! When each push is meant to start: evenly spaced, whatever became of the ones before.

use std::time::{Duration, Instant};

/// A fixed rate, from a first instant until a count or a time is reached.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When number 0 starts.
    pub start: Instant,
    /// Pushes a second, above 0.
    pub rate: f64,
    /// Pushes at most.
    pub count_max: u64,
    /// No push is meant to start this long after `start` or later.
    pub time_max: Duration,
}

impl Schedule {
    /// How long it takes, from the first start to the end.
    pub fn time(&self) -> Duration {
        let all = Duration::try_from_secs_f64(self.count_max as f64 / self.rate);
        all.unwrap_or(Duration::MAX).min(self.time_max)
    }

    /// The intended start of one push; `None` when the schedule ends before it.
    pub fn start_of(&self, number: u64) -> Option<Instant> {
        if number >= self.count_max {
            return None;
        }
        let since_start = Duration::try_from_secs_f64(number as f64 / self.rate).ok()?;
        (since_start < self.time_max).then(|| self.start + since_start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_evenly_spaced_until_count_or_time_is_reached() {
        let start = Instant::now();
        let schedule =
            Schedule { start, rate: 4.0, count_max: 6, time_max: Duration::from_secs(10) };
        assert_eq!(schedule.start_of(0), Some(start));
        assert_eq!(schedule.start_of(5), Some(start + Duration::from_millis(1250)));
        assert_eq!(schedule.start_of(6), None, "the count");
        assert_eq!(schedule.time(), Duration::from_millis(1500));
        let short = Schedule { time_max: Duration::from_secs(1), ..schedule };
        assert_eq!(short.start_of(3), Some(start + Duration::from_millis(750)));
        assert_eq!(short.start_of(4), None, "the time");
        assert_eq!(short.time(), Duration::from_secs(1));
    }
}
