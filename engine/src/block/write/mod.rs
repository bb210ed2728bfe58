//! Writing tables: rows in batches, pages out of columns, row groups out of pages.
//!
//! ```text
//! Batch ─► ColumnWriter ─► encoding ─► compress ─► Page ─┐
//!            └ Dictionary                                 ├─► row group ─► bytes of the file, index of its pages
//! Batch ─► ColumnWriter ─► …                       Page ─┘
//! ```
//! Columns are written here and not by the `parquet` crate, which packs numbers to the bit, orders dictionaries by first appearance
//! and compresses a page in one go: that took twice the bytes and steps of several milliseconds. Headers of pages, footers and the
//! order of things in the file are the crate's.

mod column;
mod compress;
mod dictionary;
pub(super) mod encoding;
mod table;

pub(super) use column::Tools;
pub(super) use compress::{Compressor, Level};
pub(super) use table::{BATCH_ROWS, BYTES_PER_UNIT, Sample, TableWriter};
