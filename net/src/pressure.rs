//! How long a profile would wait at each shard's ingester, for whoever can still refuse it cheaply.
//!
//! A node that takes in more than it can ingest only makes everyone wait: an agent gives up after ten seconds and what was
//! read, routed and decoded for it was for nothing. So what would wait longer than [`INGEST_WAIT_MAX`] is refused: at the owner's
//! queue, and by the receiver on the head of a push, before its body is read, where no owner has room.
//!
//! Each shard estimates its own wait from the bytes that wait and what bytes took lately; one writer a cell, relaxed. Not here:
//! memory (`budget`), rates of tenants.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::route::ShardId;

/// How long a profile may wait for its owner: long enough for the pushes of agents that all wake at once, short beside the ten
/// seconds that an agent waits for its answer.
pub const INGEST_WAIT_MAX: Duration = Duration::from_secs(1);

/// A profile weighs so much in the average of what bytes take: the last dozens count.
const NEW_WEIGHT: f64 = 1.0 / 32.0;

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
        ShardPressure { node: self.clone(), own, ns_per_byte: Cell::new(0.0) }
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
    ns_per_byte: Cell<f64>,
}

impl ShardPressure {
    /// How long the last of so many waiting bytes would wait.
    pub fn wait(&self, bytes: u64) -> Duration {
        Duration::from_nanos((self.ns_per_byte.get() * bytes as f64) as u64)
    }

    /// Tells how many bytes wait now.
    pub fn set_waiting(&self, bytes: u64) {
        let wait_ns = u64::try_from(self.wait(bytes).as_nanos()).unwrap_or(u64::MAX);
        self.node.waits_ns[usize::from(self.own.0)].store(wait_ns, Ordering::Relaxed);
    }

    /// Takes in what a profile of so many bytes took.
    pub fn note(&self, bytes: u64, took_ns: u64) {
        let (now, before) = (took_ns as f64 / bytes.max(1) as f64, self.ns_per_byte.get());
        self.ns_per_byte.set(before + (now - before) * NEW_WEIGHT);
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
        for _ in 0..500 {
            shards[0].note(50_000, 1_000_000);
        }
        let wait_ms = shards[0].wait(50_000_000).as_millis();
        assert!((990..=1_000).contains(&wait_ms), "20 ns a byte: {wait_ms} ms");
        shards[0].set_waiting(50_000_000);
        assert_eq!(node.least_wait(), Duration::ZERO);
        shards[1].note(1, 64_000_000);
        shards[1].set_waiting(1);
        assert_eq!(node.least_wait(), Duration::from_millis(2));
    }
}
