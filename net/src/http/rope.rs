//! Bytes of unknown number, kept in blocks: a body while it is read or inflated.
//!
//! A block is allocated when the one before is full, never by a length that somebody claims; every block is admitted by the
//! memory budget first and accounted until the rope goes. Joining copies block by block with a turn for others in between,
//! because copying 256 MiB at once would hold the shard for 50 ms.

use bytes::Bytes;
use proto::rpc::Failure;

use crate::budget::{Held, Kind, ShardBudget};
use crate::runtime::Spawn;

/// Bytes of a block: copying or inflating one takes well under 1 ms.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// Least capacity of the first block, where the length is unknown.
const FIRST_BLOCK_BYTES_MIN: usize = 4 << 10;

/// Bytes in arrival order.
#[derive(Debug)]
pub(super) struct Rope {
    full: Vec<Bytes>,
    tail: Vec<u8>,
    /// Bytes in `full`.
    full_bytes: usize,
    bytes_max: usize,
    next_block_bytes: usize,
    budget: ShardBudget,
    held: Vec<Held>,
}

/// Why a rope takes no more bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RopeError {
    /// More than the limit.
    TooLarge,
    /// The memory budget is used up.
    Memory(Failure),
}

/// Bytes joined, still accounted.
#[derive(Debug)]
pub(super) struct Joined {
    /// All bytes.
    pub(super) bytes: Bytes,
    /// Accounts them; goes with the last of their slices.
    pub(super) held: Vec<Held>,
}

impl Rope {
    /// An empty rope for at most `bytes_max` bytes. A claimed length only sizes the first block, and only up to a block.
    pub(super) fn new(budget: ShardBudget, bytes_max: usize, claimed_bytes: u64) -> Self {
        let claimed = usize::try_from(claimed_bytes).unwrap_or(usize::MAX);
        Self {
            full: Vec::new(),
            tail: Vec::new(),
            full_bytes: 0,
            bytes_max,
            next_block_bytes: claimed.clamp(FIRST_BLOCK_BYTES_MIN, BLOCK_BYTES),
            budget,
            held: Vec::new(),
        }
    }

    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        self.full_bytes + self.tail.len()
    }

    /// A block with spare capacity; whoever fills it calls [`Rope::check_len`] afterwards.
    pub(super) fn block_with_space(&mut self) -> Result<&mut Vec<u8>, RopeError> {
        if self.tail.len() == self.tail.capacity() {
            let bytes = self.next_block_bytes;
            let held = self.budget.admit_and_hold(Kind::InFlight, bytes as u64);
            self.held.push(held.map_err(RopeError::Memory)?);
            let full = std::mem::replace(&mut self.tail, Vec::with_capacity(bytes));
            self.full_bytes += full.len();
            if !full.is_empty() {
                self.full.push(full.into());
            }
            self.next_block_bytes = BLOCK_BYTES;
        }
        Ok(&mut self.tail)
    }

    /// Refuses a rope over its limit.
    pub(super) fn check_len(&self) -> Result<(), RopeError> {
        if self.len() > self.bytes_max { Err(RopeError::TooLarge) } else { Ok(()) }
    }

    /// Appends a copy.
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<(), RopeError> {
        if bytes.len() > self.bytes_max.saturating_sub(self.len()) {
            return Err(RopeError::TooLarge);
        }
        while !bytes.is_empty() {
            let block = self.block_with_space()?;
            let (now, later) = bytes.split_at(bytes.len().min(block.capacity() - block.len()));
            block.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// The blocks in order.
    pub(super) fn into_blocks(self) -> (Vec<Bytes>, Vec<Held>) {
        let Self { mut full, tail, held, .. } = self;
        if !tail.is_empty() {
            full.push(tail.into());
        }
        (full, held)
    }

    /// All bytes in one piece.
    pub(super) async fn join(self, rt: &impl Spawn) -> Result<Joined, Failure> {
        let bytes = self.len();
        let budget = self.budget.clone();
        let (mut blocks, held) = self.into_blocks();
        if blocks.len() < 2 {
            return Ok(Joined { bytes: blocks.pop().unwrap_or_default(), held });
        }
        let joined_held = vec![budget.admit_and_hold(Kind::InFlight, bytes as u64)?];
        let mut joined = Vec::with_capacity(bytes);
        for block in blocks {
            joined.extend_from_slice(&block);
            drop(block);
            rt.yield_if_needed().await;
        }
        Ok(Joined { bytes: joined.into(), held: joined_held })
    }
}
