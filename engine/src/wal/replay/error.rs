//! Why a log is refused: what was expected where, and what stands there.

use crate::wal::WAL_VERSION;

/// Why a log is refused. Positions are (segment number, byte offset in its file).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A file is missing.
    #[error("segment {found}, offset 0: expected segment {expected} first; its file is missing")]
    MissingSegment {
        /// Number that comes next in the log.
        expected: u64,
        /// Number of the file that is there.
        found: u64,
    },
    /// Written by a version that this one cannot read.
    #[error(
        "segment {segment}, offset {offset}: format version is {found}, expected {WAL_VERSION}"
    )]
    Version {
        /// Segment number.
        segment: u64,
        /// Offset of the header.
        offset: u64,
        /// Version it names.
        found: u16,
    },
    /// A file of another log, or another file of this one.
    #[error(
        "segment {segment}, offset 0: header names segment {found_segment} of another log or place"
    )]
    Foreign {
        /// Number in the file's name.
        segment: u64,
        /// Number in its header.
        found_segment: u64,
    },
    /// LSNs do not follow one another.
    #[error(
        "segment {segment}, offset {offset}: expected a group with lsn {expected_lsn}, found lsn {found_lsn} \
         (segment {found_segment}, offset {found_offset})"
    )]
    Gap {
        /// Segment in which the next group should stand.
        segment: u64,
        /// Offset at which it should stand.
        offset: u64,
        /// The LSN it should have.
        expected_lsn: u64,
        /// The LSN that comes next.
        found_lsn: u64,
        /// Where: segment number.
        found_segment: u64,
        /// Where: offset.
        found_offset: u64,
    },
    /// Unsound bytes with a sound group of the same log behind them.
    #[error(
        "segment {segment}, offset {offset}: expected a sound group with lsn {expected_lsn}; it is damaged, \
         for the log goes on with lsn {found_lsn} at segment {found_segment}, offset {found_offset}"
    )]
    Damaged {
        /// Segment of the damage.
        segment: u64,
        /// Offset of the damaged group (or header).
        offset: u64,
        /// LSN that its first record should have.
        expected_lsn: u64,
        /// First LSN of the sound group or segment behind.
        found_lsn: u64,
        /// Where: segment number.
        found_segment: u64,
        /// Where: offset.
        found_offset: u64,
    },
    /// The first segment of a log whose earlier ones were released has no sound header.
    #[error(
        "segment {segment}, offset 0: expected a sound header; it is damaged, for the segments before it were released after it \
         was synced"
    )]
    Headless {
        /// Segment number.
        segment: u64,
    },
    /// A sound group whose records do not fill it: the writer wrote nonsense.
    #[error(
        "segment {segment}, offset {offset}: expected {records_count} records in the group, its bytes hold another number"
    )]
    Malformed {
        /// Segment number.
        segment: u64,
        /// Offset of the group.
        offset: u64,
        /// Records its header promises.
        records_count: u32,
    },
    /// The file has become shorter since it was listed.
    #[error(
        "segment {segment}, offset {offset}: expected {expected} bytes, found {found}: the file has shrunk"
    )]
    Shrunk {
        /// Segment number.
        segment: u64,
        /// Offset of the range.
        offset: u64,
        /// Bytes asked for.
        expected: usize,
        /// Bytes supplied.
        found: usize,
    },
}

impl ReplayError {
    /// Number of the segment at fault.
    pub fn segment(&self) -> u64 {
        self.place().0
    }

    /// Segment number and offset from which on the log cannot be read.
    pub fn place(&self) -> (u64, u64) {
        match self {
            Self::MissingSegment { expected, .. } => (*expected, 0),
            Self::Foreign { segment, .. } | Self::Headless { segment } => (*segment, 0),
            Self::Version { segment, offset, .. }
            | Self::Gap { segment, offset, .. }
            | Self::Damaged { segment, offset, .. }
            | Self::Malformed { segment, offset, .. }
            | Self::Shrunk { segment, offset, .. } => (*segment, *offset),
        }
    }
}
