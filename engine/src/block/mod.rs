//! Blocks: what a cut makes of the heads of a tenant, immutable, readable by anything that reads Parquet.
//!
//! ```text
//! Frozen heads ─► BlockEncoder ─► profiles.parquet     a row for each profile of a series: labels, time, total
//!                                 samples.parquet      a row for each of its stacks: value
//!                                 stacktraces.parquet  the trees, depth first
//!                                 locations.parquet    lines of frames
//!                                 functions.parquet    names
//!                                 index                postings, series, partitions, places of pages
//!                                 meta.json            last: with it the block exists
//! ```
//! Invariants
//! - Rows of all tables are grouped by partition. Profiles are sorted by service, split, profile type, labels, time; the samples
//!   of a profile stand together, by stack; two types of one profile may share them.
//! - Ids of rows are their places in the table. A stack's parent has a smaller id, and what is below a stack is the range of ids behind it.
//! - Every range that a reader reads has a checksum of ours, and is believed only when that holds.
//! - An encoder's or reader's step is bounded; the engine does no I/O: bytes are handed out and asked for.
//!
//! Not here: files, fsync and publishing (`net`); which blocks a query sees. Format: `docs/format/block.md`.

mod cache;
mod check;
mod decode;
mod encode;
mod index;
mod joined;
mod meta;
mod reader;
mod renumber;
mod samples;
mod schema;
mod stream;
mod symbols;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub use cache::{CacheCounts, SymbolCache};
pub use check::{BlockCheck, CheckStep};
pub use encode::{BlockEncoder, EncodeStep};
pub use index::{
    ChunkIndex, Index, Interval, LabelIndex, LabelRef, OriginIndex, PageIndex, PartitionIndex,
    RowGroupIndex, Rows, SeriesIndex, TableIndex, ValueIndex,
};
pub use meta::{FileFacts, Meta, Stats};
pub use reader::{BlockReader, ByteRange};
pub use schema::Table;

pub(crate) use joined::{Joined, Stored};
pub(crate) use samples::{SampleRows, SampleStream};
pub(crate) use schema::profiles;
pub(crate) use stream::{ReadPort, TableStream};
pub(crate) use symbols::SymbolLoader;

/// Version of the format, in `meta.json` and in the index.
pub const BLOCK_VERSION: u16 = 3;

/// The oldest version that is read.
pub const BLOCK_VERSION_MIN: u16 = 1;

/// Name of the file that tells what the block is.
pub const META_FILE: &str = "meta.json";

/// Name of the file that tells where everything lies.
pub const INDEX_FILE: &str = "index";

/// Rows of a page, about: what a reader decodes at once (200 µs), and what a reader of one row pays for.
const PAGE_ROWS_MAX: usize = 32 << 10;

/// Bytes of a page before compression, about.
const PAGE_BYTES_TARGET: usize = 256 << 10;

/// Bytes of texts of a dictionary, behind which a column chunk has none.
const DICTIONARY_BYTES_MAX: usize = 256 << 10;

/// Pages nearer to each other than this are read together: a read costs more than so many bytes.
const COALESCE_GAP_BYTES: u64 = 32 << 10;

/// Rows of a page that a reader takes: a writer's pages end within a batch of theirs.
const PAGE_ROWS_LIMIT: usize = 1 << 20;

/// Bytes of a page's values that a reader makes room for: a text of a profile may fill a page alone.
const PAGE_VALUES_BYTES_LIMIT: usize = 256 << 20;

/// Why bytes are no block, or not the one they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// Written by another version.
    #[error(
        "{file}: block version is {found}, this program reads {BLOCK_VERSION_MIN} to {BLOCK_VERSION}"
    )]
    Version {
        /// The file that says so.
        file: &'static str,
        /// The version it names.
        found: u64,
    },
    /// Bytes differ from what was written.
    #[error(
        "{file}: bytes {offset} to {} are damaged: checksum is {found:016x}, expected {expected:016x}",
        offset + bytes
    )]
    Checksum {
        /// The damaged file.
        file: &'static str,
        /// First byte of the damaged range.
        offset: u64,
        /// Its length.
        bytes: u64,
        /// Checksum of the bytes.
        found: u64,
        /// Checksum when they were written.
        expected: u64,
    },
    /// Bytes outside of pages differ from what was written: Parquet's magic, page indexes and footer, which have no checksum of
    /// their own.
    #[error(
        "{file}: bytes 0 to 4 or from {offset} on are damaged: all pages are sound, but the file's checksum is {found:016x}, \
         expected {expected:016x}"
    )]
    BesidePages {
        /// The damaged file.
        file: &'static str,
        /// Behind its last page.
        offset: u64,
        /// Checksum of the file.
        found: u64,
        /// Checksum when it was written.
        expected: u64,
    },
    /// Sound bytes that no writer of this version would write.
    #[error("{file}: {what}")]
    Malformed {
        /// The file.
        file: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// Sound bytes of a page that no writer of this version would write.
    #[error("{file}: page at byte {offset}: {what}")]
    Page {
        /// The file.
        file: &'static str,
        /// Where the page begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A row that refers to what is not there, or is not what another table says.
    #[error("{file}: row {row}: {what}")]
    Row {
        /// The file.
        file: &'static str,
        /// The row.
        row: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Fewer or more bytes than were asked for.
    #[error("{file}: {found} bytes read at {offset}, expected {expected}")]
    Short {
        /// The file.
        file: &'static str,
        /// Where.
        offset: u64,
        /// Bytes read.
        found: u64,
        /// Bytes asked for.
        expected: u64,
    },
}
