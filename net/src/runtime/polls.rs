//! How long tasks hold the shard: every poll is timed, per class.
//!
//! Law 9 of the design (no poll longer than 2 ms) is watched here, on every machine, and shown at `/metrics`.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

/// Upper bounds of the buckets, nanoseconds: around the 2 ms that a poll may take, and coarse elsewhere. The last bucket is open.
pub const POLL_BUCKETS_NS: [u64; 10] = [
    10_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    4_000_000,
    10_000_000,
    100_000_000,
];

/// Poll times of one class on one shard.
#[derive(Debug, Default)]
pub struct PollTimes {
    buckets: [Cell<u64>; POLL_BUCKETS_NS.len() + 1],
    total_ns: Cell<u64>,
    longest_ns: Cell<u64>,
}

impl PollTimes {
    /// Counts one poll.
    pub fn record(&self, took: Duration) {
        let took_ns = took.as_nanos() as u64;
        let bucket = &self.buckets[POLL_BUCKETS_NS.partition_point(|bound| *bound < took_ns)];
        bucket.set(bucket.get() + 1);
        self.total_ns.set(self.total_ns.get() + took_ns);
        self.longest_ns.set(self.longest_ns.get().max(took_ns));
    }

    /// Polls by bucket of [`POLL_BUCKETS_NS`], not cumulated; the last one is beyond all bounds.
    pub fn buckets(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().map(Cell::get)
    }

    /// Time spent in polls.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total_ns.get())
    }

    /// The longest poll since the shard started.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.get())
    }
}

pin_project! {
    /// A task whose polls are timed.
    pub(super) struct Timed<F> {
        #[pin]
        task: F,
        times: Rc<[PollTimes; 4]>,
        class: usize,
    }
}

impl<F> Timed<F> {
    pub(super) fn new(task: F, times: Rc<[PollTimes; 4]>, class: usize) -> Self {
        Self { task, times, class }
    }
}

thread_local! {
    /// When the poll that is running began; what `yield_if_needed` measures.
    static POLL_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Time since the running poll of a spawned task began; zero outside of one.
pub(super) fn poll_age() -> Duration {
    POLL_BEGAN.get().map_or(Duration::ZERO, |began| began.elapsed())
}

/// Polls a spawned task, counts the poll and returns how long it took.
pub(super) fn timed<T>(times: &PollTimes, poll: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    POLL_BEGAN.set(Some(began));
    let polled = poll();
    POLL_BEGAN.set(None);
    let took = began.elapsed();
    times.record(took);
    (polled, took)
}

impl<F: Future<Output = ()>> Future for Timed<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        timed(&this.times[*this.class], || this.task.poll(cx)).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_on_a_bound_counts_below_it_and_one_beyond_all_in_the_last() {
        let times = PollTimes::default();
        times.record(Duration::from_micros(10));
        times.record(Duration::from_nanos(10_001));
        times.record(Duration::from_secs(1));
        let buckets: Vec<u64> = times.buckets().collect();
        assert_eq!((buckets[0], buckets[1], buckets[10]), (1, 1, 1));
        assert_eq!(buckets.iter().sum::<u64>(), 3);
        assert_eq!(times.longest(), Duration::from_secs(1));
        assert_eq!(times.total(), Duration::from_nanos(1_000_020_001));
    }
}
