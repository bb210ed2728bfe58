//! The series of a head: their labels, and how an append finds them without building labels.

use super::SeriesId;
use crate::hash::HashSecret;
use crate::labels::{LabelSet, name};
use crate::profile::{Admission, Outcome, Profile};
use crate::symbols::{ContentMap, Table};

/// The cache of content hashes is emptied when it holds so many entries more than twice the series. Several contents may lead
/// to one series (labels that admission removes), and a sender could vary them for ever.
const CACHE_ENTRIES_SPARE: usize = 1024;

/// One series of a head.
#[derive(Debug)]
pub struct Series {
    /// All stored labels, `__profile_type__` among them.
    pub labels: LabelSet,
    /// 64-bit hash of the sorted labels, the same in every process.
    pub fingerprint: u64,
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
        // The fingerprint is not keyed, so a tenant may choose labels that share one: the table goes by a keyed hash.
        let text = bytes_of(&labels);
        let hash = secret.table(&text);
        let found = self.by_labels.find(hash, |row| self.rows[*row as usize].labels == labels);
        let row = found.unwrap_or_else(|| {
            let row = u32::try_from(self.rows.len()).expect("fewer than 2^32 series");
            let fingerprint = xxhash_rust::xxh3::xxh3_64(&text);
            self.labels_bytes += labels.bytes_held();
            self.rows.push(Series {
                labels,
                fingerprint,
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
fn bytes_of(labels: &LabelSet) -> Vec<u8> {
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

/// The labels of a series: those decided by admission with the group's, and those derived from the column (api.md §1.3.1).
pub(super) fn labels_of(
    profile: &Profile,
    admission: &Admission,
    group: u32,
    column: usize,
) -> LabelSet {
    let mut labels = match &admission.outcomes[group as usize * profile.sample_types.len() + column]
    {
        Outcome::Relabelled(labels) => labels.clone(),
        Outcome::Plain | Outcome::Dropped => with_group(profile, &admission.labels, group),
    };
    for gone in [name::DELTA, name::ORDER, name::OTEL] {
        labels.remove(gone);
    }
    let text = |row: Option<u32>| row.map_or("", |row| profile.string(row));
    let sample_type = profile.sample_types[column];
    let derived = [
        (name::TYPE, text(Some(sample_type.kind))),
        (name::UNIT, text(Some(sample_type.unit))),
        (name::PERIOD_TYPE, text(profile.period_type.map(|period| period.kind))),
        (name::PERIOD_UNIT, text(profile.period_type.map(|period| period.unit))),
    ];
    let profile_type = derived
        .iter()
        .fold(labels.get(name::NAME).unwrap_or_default().to_owned(), |id, (_, part)| {
            id + ":" + part
        });
    for (label, value) in derived {
        labels.set(label, value);
    }
    labels.set(name::PROFILE_TYPE, profile_type);
    let service_name = labels.get(name::SERVICE_NAME).unwrap_or_default().to_owned();
    labels.set(name::SERVICE_NAME_PRIVATE, service_name);
    labels
}

/// The labels of a pushed series and of a group of its samples; the series' win.
fn with_group(profile: &Profile, labels: &LabelSet, group: u32) -> LabelSet {
    let mut pairs = labels.pairs().to_vec();
    let group = profile.group_starts[group as usize] as usize
        ..profile.group_starts[group as usize + 1] as usize;
    pairs.extend(profile.group_labels[group].iter().map(|label| {
        (profile.string(label.key).to_owned(), profile.string(label.value).to_owned())
    }));
    LabelSet::from_pairs(pairs)
}
