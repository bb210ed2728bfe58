//! Whether a process serves reads: not while logs of earlier runs are still being put back, nor when it is stopping.
//!
//! Every shard reads its share of the old logs and tells here how far it is, in cells of its own (one writer, relaxed). A read
//! before all are done would miss acknowledged profiles, so it is refused with the progress instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engine::byte_size;
use engine::route::ShardId;
use proto::rpc::{Code, Failure, MetricSample};

/// Shared by all shards of a process.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<State>);

#[derive(Debug)]
struct State {
    draining: AtomicBool,
    shards: Box<[ShardRecovery]>,
}

#[derive(Debug, Default)]
struct ShardRecovery {
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
    done: AtomicBool,
    listed: AtomicBool,
}

impl Readiness {
    /// Nothing recovered yet.
    pub fn new(shards_count: u16) -> Self {
        let shards = (0..shards_count).map(|_| ShardRecovery::default()).collect();
        Self(Arc::new(State { draining: AtomicBool::new(false), shards }))
    }

    /// Tells how far a shard is with its share.
    pub fn set_progress(&self, shard: ShardId, done_bytes: u64, total_bytes: u64) {
        let recovery = &self.0.shards[shard.0 as usize];
        recovery.total_bytes.store(total_bytes, Ordering::Relaxed);
        recovery.done_bytes.store(done_bytes, Ordering::Relaxed);
    }

    /// A shard has listed the blocks of earlier runs and opened its own.
    pub fn set_blocks_listed(&self, shard: ShardId) {
        self.0.shards[shard.0 as usize].listed.store(true, Ordering::Release);
    }

    /// Whether every shard has: from then on new blocks may be published, and logs be read.
    pub fn blocks_are_listed(&self) -> bool {
        self.0.shards.iter().all(|shard| shard.listed.load(Ordering::Acquire))
    }

    /// A shard has put its whole share back.
    pub fn set_recovered(&self, shard: ShardId) {
        // Release: whoever sees the flag also sees the heads, which other shards filled before they answered this one.
        self.0.shards[shard.0 as usize].done.store(true, Ordering::Release);
    }

    /// The process is stopping.
    pub fn set_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Why reads are not served, in the words of `/ready`, which ends their last line.
    pub fn check(&self) -> Result<(), String> {
        if self.0.draining.load(Ordering::Relaxed) {
            return Err("Some services are not Running:\nStopping: 1".to_owned());
        }
        self.recovered()
    }

    /// Why data is not complete yet. A process that is stopping still answers what is under way.
    pub fn recovered(&self) -> Result<(), String> {
        if self.0.shards.iter().all(|shard| shard.done.load(Ordering::Acquire)) {
            return Ok(());
        }
        let sum = |of: fn(&ShardRecovery) -> &AtomicU64| {
            self.0.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
        };
        let (done, total) = (sum(|shard| &shard.done_bytes), sum(|shard| &shard.total_bytes));
        Err(format!(
            "Some services are not Running:\nStarting: 1 (recovery has read {} of {} of earlier logs)",
            byte_size::iec(done),
            byte_size::iec(total)
        ))
    }

    /// How far a shard is, for `/metrics`.
    pub fn samples(&self, shard: ShardId) -> Vec<MetricSample> {
        let recovery = &self.0.shards[shard.0 as usize];
        let done = recovery.done.load(Ordering::Relaxed);
        [
            ("pyrite_recovery_bytes", recovery.total_bytes.load(Ordering::Relaxed)),
            ("pyrite_recovery_done_bytes", recovery.done_bytes.load(Ordering::Relaxed)),
            ("pyrite_recovery_done", u64::from(done)),
        ]
        .into_iter()
        .map(|(name, value)| MetricSample::of_shard(name, shard.0, value as f64))
        .collect()
    }

    /// [`Self::recovered`] as the failure of a read.
    pub fn admit_read(&self) -> Result<(), Failure> {
        self.recovered().map_err(|message| {
            Failure::new(Code::Unavailable, "recovering", message.replace('\n', " "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_wait_for_the_last_shard() {
        let readiness = Readiness::new(2);
        readiness.set_progress(ShardId(0), 1 << 20, 2 << 20);
        readiness.set_progress(ShardId(1), 0, 6 << 20);
        readiness.set_recovered(ShardId(1));
        let failure = readiness.admit_read().unwrap_err();
        assert_eq!(failure.code, Code::Unavailable);
        assert!(failure.message.contains("1.0 MiB of 8.0 MiB"), "{}", failure.message);
        let text = readiness.check().unwrap_err();
        assert!(!text.ends_with('\n'), "{text:?} would end `/ready` in a blank line");
        readiness.set_recovered(ShardId(0));
        assert!(readiness.check().is_ok());
        readiness.set_draining();
        assert!(readiness.check().is_err() && readiness.admit_read().is_ok());
    }
}
