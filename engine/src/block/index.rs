//! `index`: everything that a reader needs to plan its reads: labels, series, partitions, and where each page lies.
//!
//! ```text
//! labels      name ─ value ─► series            postings
//! series      labels, rows of profiles, times
//! partitions  service, split: series, rows of every table, (origin, seq) intervals
//! tables      row groups ─ column chunks ─ pages: offset, length, rows, checksum
//! ```
//! A header (magic, version, length, checksum) and parts, each a rkyv archive of an [`Index`], compressed: put together in order they
//! are the whole one. So no step of a writer is longer than a part. Archives are validated before they are used, then read into these
//! types, then [`Index::validate`] holds every reference to be right: whoever has an `Index` need not check again.
//!
//! Format: `docs/format/block.md`.

mod laws;
#[cfg(test)]
mod tests;

use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::BlockError;
use super::schema::Table;
use super::write::{BYTES_PER_UNIT, Compressor, Level};
use super::{BLOCK_VERSION, BLOCK_VERSION_MIN, INDEX_FILE};
use crate::pace::Pace;

/// First bytes of the file.
const MAGIC: [u8; 8] = *b"PYRINDEX";

/// Bytes before the parts.
const HEADER_BYTES: usize = 32;

/// Bytes before the archive of a part: its length and that of what is compressed.
const PART_HEADER_BYTES: usize = 8;

/// Units of work of a part, which is archived in one go.
const PART_UNITS: usize = 2048;

/// Bytes of texts that are copied in the time of a unit.
const TEXT_BYTES_PER_UNIT: usize = 64;

/// Bytes of an archive that are decompressed, validated and read in the time of a unit.
const ARCHIVE_BYTES_PER_UNIT: usize = 16;

/// Bytes that are hashed in one go.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes of an archive that a reader makes room for: what is in a part together is small, but for texts.
const PART_BYTES_LIMIT: usize = 64 << 20;

/// The index of a block.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct Index {
    /// By ascending name.
    pub labels: Vec<LabelIndex>,
    /// By partition, profile type and labels.
    pub series: Vec<SeriesIndex>,
    /// By service name and split.
    pub partitions: Vec<PartitionIndex>,
    /// In the order of [`Table::ALL`].
    pub tables: Vec<TableIndex>,
}

/// A label name, and the series that have it.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct LabelIndex {
    /// Its name.
    pub name: String,
    /// By ascending value.
    pub values: Vec<ValueIndex>,
}

/// A label value, and the series that have it.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ValueIndex {
    /// The value.
    pub value: String,
    /// Rows of [`Index::series`], ascending.
    pub series: Vec<u32>,
}

/// One series.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct SeriesIndex {
    /// Its labels, by ascending name.
    pub labels: Vec<LabelRef>,
    /// Its rows of `profiles`, by time.
    pub profiles: Rows,
    /// Least time, Unix nanoseconds.
    pub time_ns_min: i64,
    /// Greatest time, Unix nanoseconds.
    pub time_ns_max: i64,
}

/// A label of a series.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct LabelRef {
    /// Row of [`Index::labels`].
    pub name: u32,
    /// Row of [`LabelIndex::values`].
    pub value: u32,
}

/// Rows `start..end` of a table.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rows {
    /// The first.
    pub start: u64,
    /// Behind the last.
    pub end: u64,
}

impl Rows {
    /// How many.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// One partition.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PartitionIndex {
    /// Value of `service_name`.
    pub service_name: String,
    /// 0 unless the service is spread over shards.
    pub split: u32,
    /// Its rows of [`Index::series`].
    pub series: Rows,
    /// Its rows of each table, in the order of [`Table::ALL`].
    pub tables: Vec<Rows>,
    /// Its location ids; rows of `locations` are their lines.
    pub locations: Rows,
    /// By ascending origin: the profiles it holds.
    pub origins: Vec<OriginIndex>,
}

/// The profiles of one origin.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct OriginIndex {
    /// Run of the distributor's shard.
    pub origin: u128,
    /// Ascending, with a gap between any two.
    pub intervals: Vec<Interval>,
}

/// Sequence numbers, both ends included.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// Where the pages of a table lie.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct TableIndex {
    /// All rows.
    pub rows: u64,
    /// In order.
    pub row_groups: Vec<RowGroupIndex>,
}

/// One row group.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct RowGroupIndex {
    /// Its rows.
    pub rows: u32,
    /// By column.
    pub chunks: Vec<ChunkIndex>,
}

/// One column of a row group.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct ChunkIndex {
    /// The page of its dictionary; what its rows count are values.
    pub dictionary: Option<PageIndex>,
    /// Pages of rows, in order.
    pub pages: Vec<PageIndex>,
}

/// One page: a range of the file that is read and verified whole.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageIndex {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length, header included.
    pub bytes: u32,
    /// Length of Parquet's page header at its front.
    pub header_bytes: u32,
    /// Length of what is behind the header, decompressed.
    pub values_bytes: u32,
    /// Its rows, nulls included.
    pub rows: u32,
    /// Parquet's number of the encoding.
    pub encoding: u8,
    /// xxh3-64 of its bytes.
    pub checksum: u64,
}

impl Index {
    /// The bytes of the file.
    pub(super) async fn to_bytes(&self, zstd: &mut Compressor, pace: &Pace) -> Vec<u8> {
        let mut parts = Parts { part: Self::default(), units: 0, out: Vec::new(), zstd, pace };
        for LabelIndex { name, values } in &self.labels {
            for ValueIndex { value, series } in values {
                for series in series.chunks(PART_UNITS) {
                    let units = 4 + series.len() + (name.len() + value.len()) / TEXT_BYTES_PER_UNIT;
                    let value = ValueIndex { value: value.clone(), series: series.to_vec() };
                    let label = LabelIndex { name: name.clone(), values: vec![value] };
                    parts.add(Self { labels: vec![label], ..Self::default() }, units).await;
                }
            }
        }
        for series in &self.series {
            let part = Self { series: vec![series.clone()], ..Self::default() };
            parts.add(part, 2 + series.labels.len()).await;
        }
        for partition in &self.partitions {
            let part = |origins| {
                let (service_name, tables) =
                    (partition.service_name.clone(), partition.tables.clone());
                let partition = PartitionIndex { service_name, tables, origins, ..*partition };
                Self { partitions: vec![partition], ..Self::default() }
            };
            parts.add(part(Vec::new()), 4).await;
            for OriginIndex { origin, intervals } in &partition.origins {
                for intervals in intervals.chunks(PART_UNITS) {
                    let units = 4 + intervals.len();
                    let intervals = intervals.to_vec();
                    parts.add(part(vec![OriginIndex { origin: *origin, intervals }]), units).await;
                }
            }
        }
        for (at, TableIndex { row_groups, .. }) in self.tables.iter().enumerate() {
            for group in row_groups {
                let mut tables = vec![TableIndex::default(); self.tables.len()];
                let units =
                    4 + group.chunks.iter().map(|chunk| 2 + chunk.pages.len()).sum::<usize>();
                let row_groups = vec![group.clone()];
                tables[at] = TableIndex { rows: u64::from(group.rows), row_groups };
                parts.add(Self { tables, ..Self::default() }, units).await;
            }
        }
        let body = parts.end().await;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&header(BLOCK_VERSION, &body));
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Puts a part behind the others. Lists that were cut go on in the entry that is last.
    fn extend(&mut self, part: Self) {
        for mut label in part.labels {
            let Some(last) = self.labels.last_mut().filter(|last| last.name == label.name) else {
                self.labels.push(label);
                continue;
            };
            for mut value in label.values.drain(..) {
                match last.values.last_mut().filter(|last| last.value == value.value) {
                    Some(last) => last.series.append(&mut value.series),
                    None => last.values.push(value),
                }
            }
        }
        self.series.extend(part.series);
        for mut partition in part.partitions {
            let is_same = |last: &&mut PartitionIndex| {
                last.service_name == partition.service_name && last.split == partition.split
            };
            let Some(last) = self.partitions.last_mut().filter(is_same) else {
                self.partitions.push(partition);
                continue;
            };
            for mut origin in partition.origins.drain(..) {
                match last.origins.last_mut().filter(|last| last.origin == origin.origin) {
                    Some(last) => last.intervals.append(&mut origin.intervals),
                    None => last.origins.push(origin),
                }
            }
        }
        if self.tables.len() < part.tables.len() {
            self.tables.resize_with(part.tables.len(), TableIndex::default);
        }
        for (table, mut of_part) in self.tables.iter_mut().zip(part.tables) {
            table.rows = table.rows.saturating_add(of_part.rows);
            table.row_groups.append(&mut of_part.row_groups);
        }
    }

    /// The version that the file's bytes say they are of, if they are any.
    pub(super) fn version_of(bytes: &[u8]) -> Option<u16> {
        bytes.get(8..10).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// Reads the file's bytes, and checks every reference in them.
    pub(super) async fn from_bytes(bytes: &[u8], pace: &Pace) -> Result<Self, BlockError> {
        let bad = |what: &'static str| BlockError::Malformed { file: INDEX_FILE, what };
        let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(bad("shorter than its header"));
        };
        if header[..8] != MAGIC {
            return Err(bad("no magic at its front"));
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if !(BLOCK_VERSION_MIN..=BLOCK_VERSION).contains(&version) {
            return Err(BlockError::Version { file: INDEX_FILE, found: version.into() });
        }
        if header[10..16] != [0; 6] {
            return Err(bad("reserved bytes of the header are not zero"));
        }
        let word = |at: usize| {
            u64::from_le_bytes(header[at..at + 8].try_into().expect("a header has its words"))
        };
        if word(16) != body.len() as u64 {
            return Err(bad("longer or shorter than its header says"));
        }
        let (found, expected) = (checksum(body, pace).await, word(24));
        if found != expected {
            let (offset, bytes) = (HEADER_BYTES as u64, body.len() as u64);
            return Err(BlockError::Checksum { file: INDEX_FILE, offset, bytes, found, expected });
        }
        let index = if version == 1 { unarchived(body) } else { of_parts(body, pace).await };
        let index = index.map_err(bad)?;
        index.validate(version, pace).await.map_err(bad)?;
        Ok(index)
    }

    /// Lets go of everything, in turns: of many series there are many lists.
    pub(super) async fn free(self, pace: &Pace) {
        let Self { labels, series, partitions, tables } = self;
        for value in labels.into_iter().flat_map(|label| label.values) {
            drop(value);
            pace.spend(2).await;
        }
        for series in series {
            drop(series);
            pace.spend(1).await;
        }
        for partition in partitions {
            pace.spend(4 + partition.origins.len()).await;
        }
        for group in tables.into_iter().flat_map(|table| table.row_groups) {
            pace.spend(group.chunks.len()).await;
        }
    }

    /// The place of a table.
    pub fn table(&self, table: Table) -> &TableIndex {
        &self.tables[table as usize]
    }

    /// Name and value of a label.
    pub fn label(&self, label: LabelRef) -> (&str, &str) {
        let name = &self.labels[label.name as usize];
        (&name.name, &name.values[label.value as usize].value)
    }

    /// The label set of a series.
    pub fn labels_of(&self, series: &SeriesIndex) -> crate::labels::LabelSet {
        let pairs = series.labels.iter().map(|label| self.label(*label));
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        crate::labels::LabelSet::from_pairs(pairs.collect())
    }
}

impl TableIndex {
    /// Its pages as they lie in the file.
    pub(super) fn pages(&self) -> impl Iterator<Item = &PageIndex> {
        let chunks = self.row_groups.iter().flat_map(|group| &group.chunks);
        chunks.flat_map(|chunk| chunk.dictionary.iter().chain(&chunk.pages))
    }

    /// Behind the last page.
    pub(super) fn pages_end(&self) -> u64 {
        self.pages().map(|page| page.offset + u64::from(page.bytes)).max().unwrap_or(0)
    }
}

/// xxh3-64 of any number of bytes.
pub(super) async fn checksum(bytes: &[u8], pace: &Pace) -> u64 {
    let mut hasher = Xxh3Default::new();
    for piece in bytes.chunks(PIECE_BYTES) {
        hasher.update(piece);
        pace.spend(piece.len() / BYTES_PER_UNIT).await;
    }
    hasher.digest()
}

/// What stands before a body.
fn header(version: u16, body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&version.to_le_bytes());
    header[16..24].copy_from_slice(&(body.len() as u64).to_le_bytes());
    header[24..].copy_from_slice(&xxh3_64(body).to_le_bytes());
    header
}

/// An index on its way into parts.
struct Parts<'a> {
    part: Index,
    units: usize,
    out: Vec<u8>,
    zstd: &'a mut Compressor,
    pace: &'a Pace,
}

impl Parts<'_> {
    async fn add(&mut self, more: Index, units: usize) {
        self.part.extend(more);
        self.units += units;
        self.pace.spend(units).await;
        if self.units >= PART_UNITS {
            self.end_part().await;
        }
    }

    async fn end_part(&mut self) {
        let archive = archived(&std::mem::take(&mut self.part));
        self.pace.spend(std::mem::take(&mut self.units)).await;
        let start = self.out.len();
        self.out.extend_from_slice(&(archive.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&[0; 4]);
        self.zstd.compress(&archive, Level::Small, self.pace, &mut self.out).await;
        let compressed = (self.out.len() - start - PART_HEADER_BYTES) as u32;
        self.out[start + 4..start + 8].copy_from_slice(&compressed.to_le_bytes());
    }

    async fn end(mut self) -> Vec<u8> {
        self.end_part().await;
        self.out
    }
}

fn archived(index: &Index) -> AlignedVec {
    let archive = rkyv::to_bytes::<rancor::Error>(index);
    archive.expect("an index in memory has no cycles and no limit")
}

fn unarchived(archive: &[u8]) -> Result<Index, &'static str> {
    let mut aligned = AlignedVec::<16>::with_capacity(archive.len());
    aligned.extend_from_slice(archive);
    rkyv::from_bytes::<Index, rancor::Error>(&aligned).map_err(|_| "no archive of an index")
}

async fn of_parts(mut body: &[u8], pace: &Pace) -> Result<Index, &'static str> {
    let cut = "a part is cut off";
    let mut zstd =
        zstd::bulk::Decompressor::new().expect("a context needs memory and nothing else");
    let mut index = Index::default();
    while !body.is_empty() {
        let (header, rest) = body.split_first_chunk::<PART_HEADER_BYTES>().ok_or(cut)?;
        let word = |at: usize| {
            u32::from_le_bytes(header[at..at + 4].try_into().expect("a header has its words"))
        };
        let (length, compressed) = (word(0) as usize, word(4) as usize);
        let (compressed, rest) = rest.split_at_checked(compressed).ok_or(cut)?;
        if length > PART_BYTES_LIMIT {
            return Err("a part larger than any");
        }
        let archive = zstd.decompress(compressed, length).ok();
        let archive = archive.filter(|archive| archive.len() == length);
        index.extend(unarchived(&archive.ok_or("a part is not compressed as it says")?)?);
        body = rest;
        pace.spend(length / ARCHIVE_BYTES_PER_UNIT).await;
    }
    Ok(index)
}

#[cfg(test)]
impl Index {
    /// The bytes of the file, as version 1 had them.
    pub(super) fn to_bytes_of_version_1(&self) -> Vec<u8> {
        let mut index = self.clone();
        for (table, of) in index.tables.iter_mut().zip(Table::ALL) {
            for group in &mut table.row_groups {
                group.chunks.truncate(of.columns_of(1).len());
            }
        }
        let body = archived(&index);
        [&header(1, &body)[..], &body].concat()
    }
}
