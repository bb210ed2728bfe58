//! Write-ahead log of one shard during one run: the promise behind an acknowledged push.
//!
//! A push is acknowledged only after the group that holds its record was synced. Replay therefore yields every acknowledged
//! record, exactly once, and possibly a few of the last that never were acknowledged.
//!
//! ```text
//! segment 1                                             segment 2
//! ┌────────┬─────────┬─────────┬───────────┬─────────┐  ┌────────┬─────────┬──────────────────────────┐
//! │ header │ group   │ group   │ group     │ unused  │  │ header │ group   │ zeros                    │
//! │        │ LSN 1–3 │ LSN 4   │ LSN 5–90  │ (zeros) │  │        │ LSN 91… │ (or a group cut by crash)│
//! └────────┴─────────┴─────────┴───────────┴─────────┘  └────────┴─────────┴──────────────────────────┘
//!    4 KiB   one aligned write each
//! ```
//!
//! Invariants
//! - LSNs number the records of a log from 1 without a gap, across groups and segments.
//! - One write is outstanding at a time, so only the last group of a log can be cut by a crash; whatever has a sound group
//!   behind it had been synced, and is damage if it is unsound.
//! - A segment's header is synced before its first group is written.
//! - A record is believed because its group's checksums hold; it has none of its own.
//!
//! Not here: group commit, files and fsync (`net::wal`); what a record does to a head (`head`). Format: `docs/format/wal.md`.

mod admission;
mod field;
mod group;
mod record;
mod replay;
mod segment;

pub use group::{GROUP_HEADER_BYTES, GROUP_MAGIC, GroupBuffer, GroupPlace, RECORD_LENGTH_BYTES};
pub use record::{Record, RecordError, RecordRef, RecordRoute};
pub use replay::{
    LogEnd, Lost, READ_BYTES, ReadRange, Replay, ReplayError, ReplayStep, Replayed, SegmentFile,
};
pub use segment::{SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentBlock, SegmentHeader};

/// Version of the format, in every header. Magic, version and checksum of a segment's header keep their places in all
/// versions, so that a reader can tell a newer log from a damaged one.
pub const WAL_VERSION: u16 = 1;

/// Groups begin at multiples of this and are padded to it: the unit of direct I/O.
pub const BLOCK_BYTES: usize = 4096;
