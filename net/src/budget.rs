//! One memory limit for the process, checked against what the shards account.
//!
//! Each shard publishes its sum in a cell of its own (one writer, relaxed); whoever admits adds the cells up. The check is
//! therefore late by at most one turn of each shard, and what slips through is bounded by the queues, each with a limit.
//! Not here: leases between shards and the correction by real RSS (a later issue).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::byte_size;
use engine::route::ShardId;
use proto::rpc::{Code, Failure};

/// The limit and every shard's accounted bytes.
#[derive(Clone, Debug)]
pub struct Budget {
    limit_bytes: u64,
    shards: Arc<[AtomicU64]>,
}

impl Budget {
    /// A budget of `limit_bytes` for `shards_count` shards.
    pub fn new(limit_bytes: u64, shards_count: u16) -> Self {
        Self { limit_bytes, shards: (0..shards_count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The part of shard `own`.
    pub fn of_shard(&self, own: ShardId) -> ShardBudget {
        ShardBudget(Rc::new(State {
            budget: self.clone(),
            own,
            in_flight_bytes: Cell::new(0),
            kept_bytes: Cell::new(0),
            log_bytes: Cell::new(0),
        }))
    }

    /// `-memory.limit`.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Bytes accounted by all shards.
    pub fn accounted_bytes(&self) -> u64 {
        self.shards.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }
}

/// One shard's part of the budget; clones share it.
#[derive(Clone, Debug)]
pub struct ShardBudget(Rc<State>);

#[derive(Debug)]
struct State {
    budget: Budget,
    own: ShardId,
    in_flight_bytes: Cell<u64>,
    kept_bytes: Cell<u64>,
    log_bytes: Cell<u64>,
}

impl ShardBudget {
    /// Refuses when the accounted bytes and `more` exceed the limit.
    pub fn admit(&self, more_bytes: u64) -> Result<(), Failure> {
        let Budget { limit_bytes, .. } = self.0.budget;
        let accounted = self.0.budget.accounted_bytes();
        if accounted.saturating_add(more_bytes) <= limit_bytes {
            return Ok(());
        }
        Err(Failure {
            code: Code::ResourceExhausted,
            reason: "memory_limit",
            message: format!(
                "memory limit of {} reached ({} in use, {} more asked for); retry later, or raise -memory.limit",
                byte_size::iec(limit_bytes),
                byte_size::iec(accounted),
                byte_size::iec(more_bytes),
            ),
        })
    }

    /// Accounts bytes for as long as the guard lives (a body, a message on its way).
    #[must_use]
    pub fn hold(&self, bytes: u64) -> Held {
        self.0.in_flight_bytes.set(self.0.in_flight_bytes.get() + bytes);
        self.publish();
        Held { budget: self.clone(), bytes }
    }

    /// Tells what heads, tables and scratch hold now.
    pub fn set_kept(&self, bytes: u64) {
        self.0.kept_bytes.set(bytes);
        self.publish();
    }

    /// Tells what the log's buffers hold now.
    pub fn set_log(&self, bytes: u64) {
        self.0.log_bytes.set(bytes);
        self.publish();
    }

    /// What this shard accounts, by kind.
    pub fn kinds(&self) -> [(&'static str, u64); 3] {
        [
            ("heads", self.0.kept_bytes.get()),
            ("in_flight", self.0.in_flight_bytes.get()),
            ("log", self.0.log_bytes.get()),
        ]
    }

    /// The process's budget.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    fn publish(&self) {
        let sum = self.kinds().iter().map(|(_, bytes)| bytes).sum();
        self.0.budget.shards[self.0.own.0 as usize].store(sum, Ordering::Relaxed);
    }
}

/// Bytes accounted while it lives.
#[derive(Debug)]
pub struct Held {
    budget: ShardBudget,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let in_flight = &self.budget.0.in_flight_bytes;
        in_flight
            .set(in_flight.get().checked_sub(self.bytes).expect("held bytes are given back once"));
        self.budget.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_shard_holds_counts_against_all() {
        let budget = Budget::new(100, 2);
        let (first, second) = (budget.of_shard(ShardId(0)), budget.of_shard(ShardId(1)));
        first.set_kept(50);
        let held = first.hold(30);
        assert!(second.admit(20).is_ok());
        assert_eq!(second.admit(21).unwrap_err().code, Code::ResourceExhausted);
        drop(held);
        assert!(second.admit(50).is_ok());
    }
}
