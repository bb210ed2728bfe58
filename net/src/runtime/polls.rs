//! How long tasks hold the shard: every poll is timed, per class.
//!
//! Law 9 of the design (no poll longer than 2 ms) is watched here, on every machine, and shown at `/metrics`. A poll that breaks it names
//! its task in the log, at level debug.

use std::any::type_name;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::Class;
use super::host::poll_age_max;

/// What a poll may take.
const POLL_MAX: Duration = Duration::from_millis(2);

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

/// Poll times of one class on one shard: how long its polls held the shard, and what they worked of that.
///
/// The wall clock tells what others wait; but it goes on while the kernel runs another thread on the core, and how much of a long
/// poll is ours it cannot tell. The thread's CPU time can.
#[derive(Debug)]
pub struct PollTimes {
    held: Times,
    worked: Option<Times>,
    age_max: Duration,
}

impl PollTimes {
    /// Of no polls yet.
    pub(super) fn of(class: Class) -> Self {
        // Two reads of the CPU clock are system calls, 0.2 µs each: nothing beside a stretch of a long pass, and a tenth of the polls
        // of messages, which have none.
        let worked = (class != Class::Rpc).then(Times::default);
        Self { held: Times::default(), worked, age_max: poll_age_max(class) }
    }

    /// Of all classes, in the order of [`Class::ALL`].
    pub(super) fn of_all() -> [Self; Class::ALL.len()] {
        Class::ALL.map(Self::of)
    }

    /// By the wall clock.
    pub fn held(&self) -> &Times {
        &self.held
    }

    /// In CPU time; `None` of [`Class::Rpc`], whose polls are short and many.
    pub fn worked(&self) -> Option<&Times> {
        self.worked.as_ref()
    }
}

/// How often polls took how long.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [Cell<u64>; POLL_BUCKETS_NS.len() + 1],
    total_ns: Cell<u64>,
    longest_ns: Cell<u64>,
}

impl Times {
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
    /// When the poll that is running began, and how long a task of its class goes on; what `yield_if_needed` measures.
    static POLL: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// Time since the running poll of a spawned task began; zero outside of one.
pub(super) fn poll_age() -> Duration {
    POLL.get().map_or(Duration::ZERO, |(began, _)| began.elapsed())
}

/// Whether it has gone on for as long as its class lets it.
pub(super) fn is_poll_aged() -> bool {
    POLL.get().is_some_and(|(began, age_max)| began.elapsed() >= age_max)
}

/// Polls a spawned task, counts the poll and returns how long it took. `task` names it where the poll is beyond what law 9 allows.
pub(super) fn timed<T>(
    times: &PollTimes,
    task: &'static str,
    poll: impl FnOnce() -> T,
) -> (T, Duration) {
    let began_cpu = times.worked.as_ref().map(|worked| (worked, cpu_time()));
    let began = Instant::now();
    POLL.set(Some((began, times.age_max)));
    let polled = poll();
    POLL.set(None);
    let took = began.elapsed();
    times.held.record(took);
    if let Some((worked, began)) = began_cpu {
        let took_cpu = cpu_time().saturating_sub(began);
        worked.record(took_cpu);
        if took_cpu > POLL_MAX {
            let (cpu_us, us) = (took_cpu.as_micros() as u64, took.as_micros() as u64);
            tracing::debug!(task, cpu_us, us, "a long poll");
        }
    }
    (polled, took)
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write, and every system that we run on has a CPU clock for each thread.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0, "a thread has a CPU clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl<F: Future<Output = ()>> Future for Timed<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        timed(&this.times[*this.class], type_name::<F>(), || this.task.poll(cx)).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_on_a_bound_counts_below_it_and_one_beyond_all_in_the_last() {
        let times = Times::default();
        times.record(Duration::from_micros(10));
        times.record(Duration::from_nanos(10_001));
        times.record(Duration::from_secs(1));
        let buckets: Vec<u64> = times.buckets().collect();
        assert_eq!((buckets[0], buckets[1], buckets[10]), (1, 1, 1));
        assert_eq!(buckets.iter().sum::<u64>(), 3);
        assert_eq!(times.longest(), Duration::from_secs(1));
        assert_eq!(times.total(), Duration::from_nanos(1_000_020_001));
    }

    #[test]
    fn a_poll_that_sleeps_holds_the_shard_and_works_little() {
        let [rpc, .., background] = PollTimes::of_all();
        for times in [&rpc, &background] {
            timed(times, "sleeper", || std::thread::sleep(Duration::from_millis(20)));
            assert!(times.held().longest() >= Duration::from_millis(20));
        }
        let worked = background.worked().unwrap();
        assert!(worked.longest() < background.held().longest());
        assert_eq!(worked.buckets().sum::<u64>(), 1);
        assert!(rpc.worked().is_none(), "messages are too many for it");
    }
}
