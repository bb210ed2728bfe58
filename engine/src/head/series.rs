//! The series of a head: their labels, and how an append finds them without building labels.

use super::SeriesId;
use crate::hash::HashSecret;
use crate::labels::LabelSet;
use crate::symbols::{ContentMap, Table};

/// The cache of content hashes is emptied when it holds so many entries more than twice the series. Several contents may lead
/// to one series (labels that admission removes), and a sender could vary them for ever.
const CACHE_ENTRIES_SPARE: usize = 1024;

/// One series of a head.
#[derive(Debug)]
pub struct Series {
    /// All stored labels, `__profile_type__` among them.
    pub labels: LabelSet,
    /// Least time of its rows, Unix nanoseconds; greater than `time_ns_max` while it has none.
    pub time_ns_min: i64,
    /// Greatest time of its rows, Unix nanoseconds.
    pub time_ns_max: i64,
    /// Number of its visible rows; 0 while the first append of the series is under way.
    pub rows_count: u64,
}

/// All series of a head; a [`SeriesId`] is a row.
#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    rows: Vec<Series>,
    by_labels: Table<u32>,
    by_content: ContentMap,
    labels_bytes: usize,
}

impl SeriesTable {
    pub(super) fn rows(&self) -> &[Series] {
        &self.rows
    }

    /// The series of a content that was seen before.
    #[inline]
    pub(super) fn find(&self, content: u128) -> Option<SeriesId> {
        self.by_content.find(content).map(SeriesId)
    }

    /// The series with these labels, whatever content they came from.
    pub(super) fn find_labels(&self, labels: &LabelSet, secret: &HashSecret) -> Option<SeriesId> {
        self.find_hashed(secret.table(&bytes_of(labels)), labels).map(SeriesId)
    }

    fn find_hashed(&self, hash: u64, labels: &LabelSet) -> Option<u32> {
        self.by_labels.find(hash, |row| self.rows[*row as usize].labels == *labels)
    }

    /// The series with these labels, made where there is none; later found by `content` alone.
    pub(super) fn intern(
        &mut self,
        content: u128,
        labels: LabelSet,
        secret: &HashSecret,
    ) -> SeriesId {
        if self.by_content.len() > 2 * self.rows.len() + CACHE_ENTRIES_SPARE {
            self.by_content = ContentMap::default();
        }
        let hash = secret.table(&bytes_of(&labels));
        let row = self.find_hashed(hash, &labels).unwrap_or_else(|| {
            let row = u32::try_from(self.rows.len()).expect("fewer than 2^32 series");
            self.labels_bytes += labels.bytes_held();
            self.rows.push(Series {
                labels,
                time_ns_min: i64::MAX,
                time_ns_max: i64::MIN,
                rows_count: 0,
            });
            self.by_labels
                .insert(hash, row, |row| secret.table(&bytes_of(&self.rows[*row as usize].labels)));
            row
        });
        self.by_content.insert(content, row);
        SeriesId(row)
    }

    /// Notes a row that has become visible.
    pub(super) fn count_row(&mut self, series: SeriesId, time_ns: i64) {
        let series = &mut self.rows[series.0 as usize];
        series.time_ns_min = series.time_ns_min.min(time_ns);
        series.time_ns_max = series.time_ns_max.max(time_ns);
        series.rows_count += 1;
    }

    pub(super) fn bytes_held(&self) -> usize {
        self.rows.capacity() * size_of::<Series>()
            + self.labels_bytes
            + self.by_labels.bytes_held()
            + self.by_content.bytes_held()
    }

    #[cfg(test)]
    pub(super) fn bytes_recounted(&self) -> usize {
        self.rows.capacity() * size_of::<Series>()
            + self.rows.iter().map(|series| series.labels.bytes_held()).sum::<usize>()
            + self.by_labels.bytes_recounted()
            + self.by_content.bytes_recounted()
    }
}

/// Names and values with a byte behind each that no UTF-8 text has: equal bytes are equal labels.
pub(super) fn bytes_of(labels: &LabelSet) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(labels.iter().map(|(n, v)| n.len() + v.len() + 2).sum());
    extend_with(&mut bytes, labels);
    bytes
}

/// Appends the bytes of a label set.
pub(super) fn extend_with(bytes: &mut Vec<u8>, labels: &LabelSet) {
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0xff);
    }
}
