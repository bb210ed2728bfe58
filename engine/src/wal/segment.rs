//! The block at the start of a WAL segment: which log and which part of it this file is.

use super::{BLOCK_BYTES, WAL_VERSION};

/// First eight bytes of a WAL segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"PYRWALSG";

/// Where the first group of a segment begins, bytes.
pub const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;

/// Bytes of the header block that the checksum covers, from 0; the checksum stands right behind them.
const CHECKED_BYTES: usize = 64;

/// Identity of one WAL segment. Written and synced before the segment's first group, rewritten never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// ULID of the process's run.
    pub run: u128,
    /// Shard whose log it is.
    pub shard: u16,
    /// Drawn at random when the log was made and never told to anyone: no bytes a client sends can hold it, and a recycled
    /// segment's stale groups bear another one.
    pub log_id: u64,
    /// Number of the segment within its log, from 1.
    pub segment: u64,
    /// LSN of the first record of its first group.
    pub first_lsn: u64,
}

/// What the first block of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentBlock {
    /// A header.
    Header(SegmentHeader),
    /// A header of another version: nothing else of it is known.
    Version(u16),
    /// No header: never written, torn or damaged.
    Invalid,
}

impl SegmentHeader {
    /// The header block, [`SEGMENT_HEADER_BYTES`] long.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        block.extend_from_slice(&SEGMENT_MAGIC);
        block.extend_from_slice(&WAL_VERSION.to_le_bytes());
        block.extend_from_slice(&self.shard.to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&self.run.to_le_bytes());
        block.extend_from_slice(&self.log_id.to_le_bytes());
        block.extend_from_slice(&self.segment.to_le_bytes());
        block.extend_from_slice(&self.first_lsn.to_le_bytes());
        block.resize(CHECKED_BYTES, 0);
        let crc = crc32c::crc32c(&block);
        block.extend_from_slice(&crc.to_le_bytes());
        block.resize(SEGMENT_HEADER_BYTES, 0);
        block
    }

    /// Reads the first block of a file, which may be shorter than a block.
    pub fn decode(block: &[u8]) -> SegmentBlock {
        if block.len() < CHECKED_BYTES + 4 || block[..8] != SEGMENT_MAGIC {
            return SegmentBlock::Invalid;
        }
        let crc = u32::from_le_bytes(word(block, CHECKED_BYTES));
        if crc != crc32c::crc32c(&block[..CHECKED_BYTES]) {
            return SegmentBlock::Invalid;
        }
        let version = u16::from_le_bytes(word(block, 8));
        if version != WAL_VERSION {
            return SegmentBlock::Version(version);
        }
        SegmentBlock::Header(Self {
            shard: u16::from_le_bytes(word(block, 10)),
            run: u128::from_le_bytes(word(block, 16)),
            log_id: u64::from_le_bytes(word(block, 32)),
            segment: u64::from_le_bytes(word(block, 40)),
            first_lsn: u64::from_le_bytes(word(block, 48)),
        })
    }
}

/// The `N` bytes at a fixed offset of a header whose length the caller has checked.
pub(super) fn word<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("a header is longer than its last field")
}
