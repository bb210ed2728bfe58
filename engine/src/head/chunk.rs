//! Chunks: the rows of a head in the order of arrival, batch by batch.
//!
//! The open chunk grows; a sealed one is immutable, as small as its content, and shared by [`Arc`]. Both have the same layout,
//! so a place in the open chunk stays valid when it is sealed.

use std::sync::Arc;

use super::row::{BatchReader, BatchWriter};

/// The rows of one profile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) time_ns: i64,
    rows_count: u32,
    rows_start: u32,
    samples_start: u32,
}

impl Batch {
    /// At its first row.
    pub(super) fn reader(self) -> BatchReader {
        let (rows, samples) = (self.rows_start as usize, self.samples_start as usize);
        BatchReader::new(self.time_ns, self.rows_count, rows, samples)
    }
}

/// Batches with their two streams (their coding is `row`'s).
#[derive(Debug)]
pub struct Chunk {
    batches: Vec<Batch>,
    rows: Vec<u8>,
    samples: Vec<u8>,
    time_ns_min: i64,
    time_ns_max: i64,
    rows_count: u64,
    values_count: u64,
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            rows: Vec::new(),
            samples: Vec::new(),
            time_ns_min: i64::MAX,
            time_ns_max: i64::MIN,
            rows_count: 0,
            values_count: 0,
        }
    }
}

impl Chunk {
    /// Number of profiles.
    pub fn batches_count(&self) -> usize {
        self.batches.len()
    }

    /// Number of rows.
    pub fn rows_count(&self) -> u64 {
        self.rows_count
    }

    /// Number of values of all rows, shared ones counted for each row.
    pub fn values_count(&self) -> u64 {
        self.values_count
    }

    /// Bytes of the content, without unused capacity.
    pub fn content_bytes(&self) -> usize {
        self.batches.len() * size_of::<Batch>() + self.rows.len() + self.samples.len()
    }

    /// Heap bytes held.
    pub fn bytes_held(&self) -> usize {
        self.batches.capacity() * size_of::<Batch>()
            + self.rows.capacity()
            + self.samples.capacity()
    }

    /// Adds the rows of one profile.
    pub(super) fn push(&mut self, time_ns: i64, batch: &BatchWriter) {
        let at = |len| u32::try_from(len).expect("a chunk is sealed long before 4 GiB");
        self.batches.push(Batch {
            time_ns,
            rows_count: batch.rows_count,
            rows_start: at(self.rows.len()),
            samples_start: at(self.samples.len()),
        });
        self.rows.extend_from_slice(&batch.rows);
        self.samples.extend_from_slice(&batch.samples);
        self.time_ns_min = self.time_ns_min.min(time_ns);
        self.time_ns_max = self.time_ns_max.max(time_ns);
        self.rows_count += u64::from(batch.rows_count);
        self.values_count += batch.values_count;
    }

    /// Ends the chunk: gives unused capacity back.
    pub(super) fn seal(mut self) -> Arc<Self> {
        self.batches.shrink_to_fit();
        self.rows.shrink_to_fit();
        self.samples.shrink_to_fit();
        Arc::new(self)
    }

    pub(super) fn batch(&self, at: usize) -> Batch {
        self.batches[at]
    }

    /// Headers and samples.
    pub(super) fn streams(&self) -> (&[u8], &[u8]) {
        (&self.rows, &self.samples)
    }

    /// Whether some profile lies in the time range, ends included.
    pub(super) fn overlaps(&self, from_ns: i64, until_ns: i64) -> bool {
        self.time_ns_min <= until_ns && from_ns <= self.time_ns_max
    }
}
