//! One memory limit for the process, checked against what the shards account.
//!
//! Pushes are admitted up to `PUSHES_PERCENT_MAX` of it and reads up to all of it: what was pushed stays, so a node that
//! pushes have filled to the brim could never be read again.
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

/// Percent of the limit that pushes may fill. What they fill is held until a head is cut; reads hold theirs for a moment, and
/// a tenth is room for the parts of many.
const PUSHES_PERCENT_MAX: u64 = 90;

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
        let state = State {
            budget: self.clone(),
            own,
            in_flight_bytes: Cell::new(0),
            heads_bytes: Cell::new(0),
            scratch_bytes: Cell::new(0),
            log_bytes: Cell::new(0),
        };
        ShardBudget { state: Rc::new(state), admitted_percent: 100 }
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
pub struct ShardBudget {
    state: Rc<State>,
    admitted_percent: u64,
}

#[derive(Debug)]
struct State {
    budget: Budget,
    own: ShardId,
    in_flight_bytes: Cell<u64>,
    heads_bytes: Cell<u64>,
    scratch_bytes: Cell<u64>,
    log_bytes: Cell<u64>,
}

impl ShardBudget {
    /// The same part as pushes see it: they are admitted up to `PUSHES_PERCENT_MAX` of the limit.
    #[must_use]
    pub fn for_pushes(&self) -> Self {
        Self { state: Rc::clone(&self.state), admitted_percent: PUSHES_PERCENT_MAX }
    }

    /// Refuses when the accounted bytes and `more` exceed the limit.
    pub fn admit(&self, more_bytes: u64) -> Result<(), Failure> {
        let Budget { limit_bytes, .. } = self.state.budget;
        let accounted = self.state.budget.accounted_bytes();
        let wanted = u128::from(accounted) + u128::from(more_bytes);
        if wanted * 100 <= u128::from(limit_bytes) * u128::from(self.admitted_percent) {
            return Ok(());
        }
        let part = match self.admitted_percent {
            100 => String::new(),
            percent => format!("{percent}% of the "),
        };
        Err(Failure {
            code: Code::ResourceExhausted,
            reason: "memory_limit",
            message: format!(
                "{part}memory limit of {} reached ({} in use, {} more asked for); retry later, or raise -memory.limit",
                byte_size::iec(limit_bytes),
                byte_size::iec(accounted),
                byte_size::iec(more_bytes),
            ),
        })
    }

    /// Accounts bytes for as long as the guard lives (a body, a message on its way).
    #[must_use]
    pub fn hold(&self, bytes: u64) -> Held {
        self.state.in_flight_bytes.set(self.state.in_flight_bytes.get() + bytes);
        self.publish();
        Held { budget: self.clone(), bytes }
    }

    /// Tells what the heads hold now.
    pub fn set_heads(&self, bytes: u64) {
        self.state.heads_bytes.set(bytes);
        self.publish();
    }

    /// Tells what the ingester's scratch holds now.
    pub fn set_scratch(&self, bytes: u64) {
        self.state.scratch_bytes.set(bytes);
        self.publish();
    }

    /// Tells what the log's buffers hold now.
    pub fn set_log(&self, bytes: u64) {
        self.state.log_bytes.set(bytes);
        self.publish();
    }

    /// What this shard accounts, by kind.
    pub fn kinds(&self) -> [(&'static str, u64); 4] {
        [
            ("heads", self.state.heads_bytes.get()),
            ("in_flight", self.state.in_flight_bytes.get()),
            ("log", self.state.log_bytes.get()),
            ("scratch", self.state.scratch_bytes.get()),
        ]
    }

    /// The process's budget.
    pub fn budget(&self) -> &Budget {
        &self.state.budget
    }

    fn publish(&self) {
        let sum = self.kinds().iter().map(|(_, bytes)| bytes).sum();
        self.state.budget.shards[self.state.own.0 as usize].store(sum, Ordering::Relaxed);
    }
}

/// Bytes accounted while it lives.
#[derive(Debug)]
pub struct Held {
    budget: ShardBudget,
    bytes: u64,
}

impl Held {
    /// Accounts `bytes` in place of what was; more only where a push is admitted it.
    pub fn admit_to(&mut self, bytes: u64) -> Result<(), Failure> {
        if bytes > self.bytes {
            self.budget.admit(bytes - self.bytes)?;
        }
        let in_flight = &self.budget.state.in_flight_bytes;
        in_flight.set(in_flight.get() - self.bytes + bytes);
        self.bytes = bytes;
        self.budget.publish();
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let in_flight = &self.budget.state.in_flight_bytes;
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
        first.set_heads(50);
        let held = first.hold(30);
        assert!(second.admit(20).is_ok());
        assert_eq!(second.admit(21).unwrap_err().code, Code::ResourceExhausted);
        drop(held);
        assert!(second.admit(50).is_ok());
    }

    #[test]
    fn what_is_held_changes_as_far_as_it_is_admitted() {
        let budget = Budget::new(100, 1).of_shard(ShardId(0));
        let mut held = budget.hold(20);
        assert!(held.admit_to(100).is_ok());
        assert!(held.admit_to(101).is_err());
        assert!(budget.admit(1).is_err(), "what was refused changed nothing");
        assert!(held.admit_to(30).is_ok());
        assert!(budget.admit(70).is_ok());
        drop(held);
        assert!(budget.admit(100).is_ok());
    }

    /// Pushes used to fill memory up to the very limit that reads are admitted against; a full node could not be read.
    #[test]
    fn a_node_full_of_pushes_has_room_for_reads() {
        let budget = Budget::new(1000, 1).of_shard(ShardId(0));
        let pushes = budget.for_pushes();
        let _pushed = pushes.hold(900);
        let failure = pushes.admit(1).unwrap_err();
        assert!(failure.message.starts_with("90% of the memory limit of 1000"), "{failure:?}");
        assert!(budget.admit(100).is_ok() && budget.admit(101).is_err());
    }
}
