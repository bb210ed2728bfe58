//! How long a profile would wait at each shard's ingester, for whoever can still refuse it cheaply.
//!
//! A node that takes in more than it can ingest only makes everyone wait: an agent gives up after ten seconds and what was
//! read, routed and decoded for it was for nothing. So what would wait longer than [`INGEST_WAIT_MAX`] is refused: at the owner's
//! queue, and by the receiver on the head of a push, before its body is read, where no owner has room.
//!
//! Each shard estimates its own wait from the bytes that wait and what bytes took lately; one writer a cell, relaxed. A profile
//! that took far longer than others do was held up (by the disk, by the log's cap, by whoever else had the core), and tells little of those behind it.
//! Not here: memory (`budget`), rates of tenants.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::route::ShardId;

/// How long a profile may wait for its owner: long enough for the pushes of agents that all wake at once, short beside the ten
/// seconds that an agent waits for its answer.
pub const INGEST_WAIT_MAX: Duration = Duration::from_secs(1);

/// A profile weighs so much in the averages of what profiles and their bytes take: the last hundred or so counts.
const NEW_WEIGHT: f64 = 1.0 / 128.0;

/// A profile counts for at most what its bytes took lately, and so many profiles beside. A node that has become slower is believed
/// soon all the same: the average may grow by a thirtieth with each profile.
const HELD_UP_TIMES: f64 = 4.0;

/// What no profile is doubted for, nanoseconds: the first ones have nothing to be compared with.
const UNDOUBTED_NS: f64 = 4e6;

/// Bytes of a profile, as long as none has come.
const FIRST_BYTES: f64 = 50_000.0;

/// The waits of all shards of a node.
#[derive(Clone, Debug)]
pub struct Pressure {
    waits_ns: Arc<[AtomicU64]>,
}

impl Pressure {
    /// Nothing waits yet.
    pub fn new(shards_count: u16) -> Self {
        Self { waits_ns: (0..shards_count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The part of shard `own`.
    pub fn of_shard(&self, own: ShardId) -> ShardPressure {
        ShardPressure { node: self.clone(), own, lately: Cell::new((0.0, FIRST_BYTES)) }
    }

    /// The wait at the shard where it is the shortest.
    pub fn least_wait(&self) -> Duration {
        let waits = self.waits_ns.iter().map(|wait| wait.load(Ordering::Relaxed));
        Duration::from_nanos(waits.min().unwrap_or(0))
    }
}

/// One shard's estimate.
#[derive(Debug)]
pub struct ShardPressure {
    node: Pressure,
    own: ShardId,
    /// What a profile took lately, nanoseconds, and its bytes.
    lately: Cell<(f64, f64)>,
}

impl ShardPressure {
    /// How long the last of so many waiting bytes would wait.
    pub fn wait(&self, bytes: u64) -> Duration {
        let (ns, of_bytes) = self.lately.get();
        Duration::from_nanos((ns / of_bytes * bytes as f64) as u64)
    }

    /// Tells how many bytes wait now.
    pub fn set_waiting(&self, bytes: u64) {
        let wait_ns = u64::try_from(self.wait(bytes).as_nanos()).unwrap_or(u64::MAX);
        self.node.waits_ns[usize::from(self.own.0)].store(wait_ns, Ordering::Relaxed);
    }

    /// Takes in what a profile of so many bytes took.
    pub fn note(&self, bytes: u64, took_ns: u64) {
        let ((ns, of_bytes), bytes) = (self.lately.get(), bytes.max(1) as f64);
        let believed_ns = ns * (bytes / of_bytes + HELD_UP_TIMES);
        let took_ns = (took_ns as f64).min(believed_ns.max(UNDOUBTED_NS));
        let toward = |before: f64, now: f64| before + (now - before) * NEW_WEIGHT;
        self.lately.set((toward(ns, took_ns), toward(of_bytes, bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_what_bytes_took_lately_and_the_least_of_the_node_counts() {
        let node = Pressure::new(2);
        let shards = [0, 1].map(|id| node.of_shard(ShardId(id)));
        assert_eq!(shards[0].wait(1 << 30), Duration::ZERO, "nothing is known yet");
        for _ in 0..1500 {
            shards[0].note(50_000, 1_000_000);
        }
        let wait_ms = shards[0].wait(50_000_000).as_millis();
        assert!((990..=1_000).contains(&wait_ms), "20 ns a byte: {wait_ms} ms");
        shards[0].set_waiting(50_000_000);
        assert_eq!(node.least_wait(), Duration::ZERO);
        shards[1].note(50_000, 1_280_000);
        shards[1].set_waiting(5_000_000);
        assert_eq!(node.least_wait(), Duration::from_millis(1));
    }

    /// The bytes of one small profile that was held up stood for a thirty-second of what all bytes take: at 850 pushes a second one stall
    /// made the next ones wait seven seconds by the estimate, and dozens were refused that would have been stored at once.
    #[test]
    fn a_profile_that_was_held_up_tells_little_of_those_behind_it() {
        for stalled_bytes in [50, 50_000, 4_000_000] {
            let shard = Pressure::new(1).of_shard(ShardId(0));
            shard.note(stalled_bytes, 3_000_000_000);
            let first = shard.wait(1_000_000);
            assert!(first <= Duration::from_millis(25), "first of all: {first:?}");
            for _ in 0..2000 {
                shard.note(50_000, 1_000_000);
            }
            let before = shard.wait(20_000_000);
            shard.note(stalled_bytes, 3_000_000_000);
            let behind = shard.wait(20_000_000);
            assert!(behind < before * 5 / 4, "{stalled_bytes} bytes: {before:?} → {behind:?}");
        }
    }

    #[test]
    fn a_node_that_has_become_slower_is_believed_after_some_dozens_of_profiles() {
        let shard = Pressure::new(1).of_shard(ShardId(0));
        for _ in 0..2000 {
            shard.note(50_000, 1_000_000);
        }
        for _ in 0..200 {
            shard.note(50_000, 20_000_000);
        }
        let wait = shard.wait(5_000_000);
        assert!(wait > Duration::from_secs(1), "100 profiles of 20 ms each: {wait:?}");
    }

    /// Each byte of small profiles takes long; those of large ones beside them do not.
    #[test]
    fn small_profiles_count_by_what_all_of_them_take() {
        let shard = Pressure::new(1).of_shard(ShardId(0));
        for _ in 0..2000 {
            shard.note(100, 100_000);
            shard.note(99_900, 1_900_000);
        }
        let wait_ms = shard.wait(50_000_000).as_millis();
        assert!((960..=1_040).contains(&wait_ms), "1,000 of both: {wait_ms} ms");
    }
}
