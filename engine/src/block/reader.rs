//! A block opened for reading: its description and index, checked; tables are read through [`super::stream`].

use bytes::Bytes;

use super::index::{Index, SeriesIndex, checksum};
use super::meta::Meta;
use super::schema::{SHARING_VERSION, Table};
use super::{BlockError, INDEX_FILE, META_FILE};
use crate::pace::{self, Pace};
use crate::tenant::TenantId;

/// Bytes of a file that a reader needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteRange {
    /// The file's name in the block's directory.
    pub file: &'static str,
    /// First byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

impl ByteRange {
    pub(super) fn check_length(&self, bytes: &Bytes) -> Result<(), BlockError> {
        if bytes.len() as u64 == self.bytes {
            return Ok(());
        }
        let (file, offset, found) = (self.file, self.offset, bytes.len() as u64);
        Err(BlockError::Short { file, offset, found, expected: self.bytes })
    }
}

/// A block whose description and index are sound.
#[derive(Debug)]
pub struct BlockReader {
    meta: Meta,
    ulid: u128,
    tenant: TenantId,
    index: Index,
}

impl BlockReader {
    /// Opens a block from the bytes of `meta.json` and `index`, in one go: where nobody waits for a turn.
    pub fn open(meta: &[u8], index: &[u8]) -> Result<Self, BlockError> {
        pace::run(Self::open_in_turns(meta, index, &Pace::new()))
    }

    /// Opens a block from the bytes of `meta.json` and `index`.
    pub async fn open_in_turns(meta: &[u8], index: &[u8], pace: &Pace) -> Result<Self, BlockError> {
        let meta = Meta::from_bytes(meta)?;
        let bad = |what| BlockError::Malformed { file: META_FILE, what };
        let tenant = TenantId::parse(&meta.tenant).map_err(|_| bad("its tenant is no tenant"))?;
        let ulid = ulid::Ulid::from_string(&meta.ulid).map_err(|_| bad("its ulid is none"))?;
        let facts = meta.file(INDEX_FILE).ok_or_else(|| bad("says nothing of the index"))?;
        let (bytes, expected) = (index.len() as u64, facts.bytes);
        if bytes != expected {
            return Err(BlockError::Short { file: INDEX_FILE, offset: 0, found: bytes, expected });
        }
        let (found, expected) = (checksum(index, pace).await, facts.checksum);
        if found != expected {
            return Err(BlockError::Checksum {
                file: INDEX_FILE,
                offset: 0,
                bytes,
                found,
                expected,
            });
        }
        if Index::version_of(index).is_some_and(|version| version != meta.version) {
            return Err(bad("of another version than its index"));
        }
        let index = Index::from_bytes(index, pace).await?;
        for table in Table::ALL {
            let facts =
                meta.file(table.file_name()).ok_or_else(|| bad("says nothing of a table"))?;
            if facts.bytes < index.table(table).pages_end() {
                return Err(bad("a table is shorter than its pages"));
            }
        }
        let of_index = [
            (meta.stats.partitions, index.partitions.len() as u64),
            (meta.stats.series, index.series.len() as u64),
            (meta.stats.profile_rows, index.table(Table::Profiles).rows),
            (meta.stats.samples, index.table(Table::Samples).rows),
        ];
        if of_index.iter().any(|(meta, index)| meta != index) {
            return Err(bad("its counts are not the index's"));
        }
        let mut times_ns = (i64::MAX, i64::MIN);
        for series in &index.series {
            times_ns = (times_ns.0.min(series.time_ns_min), times_ns.1.max(series.time_ns_max));
            pace.spend(1).await;
        }
        if times_ns != (meta.min_time_ns, meta.max_time_ns) {
            return Err(bad("its times are not the index's"));
        }
        Ok(Self { meta, ulid: ulid.0, tenant, index })
    }

    /// Lets go of it, in turns.
    pub async fn free(self, pace: &Pace) {
        self.index.free(pace).await;
    }

    /// What the block is.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Its name.
    pub fn ulid(&self) -> u128 {
        self.ulid
    }

    /// Where everything in it lies.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Whether it has a profile in a range of times, ends included, by its least and greatest.
    pub fn overlaps(&self, from_ns: i64, until_ns: i64) -> bool {
        self.meta.min_time_ns <= until_ns && from_ns <= self.meta.max_time_ns
    }

    /// Whether two of its profiles may share rows of `samples`: versions before that lack the columns.
    pub(crate) fn shares_samples(&self) -> bool {
        self.meta.version >= SHARING_VERSION
    }

    /// A series by its number.
    pub(crate) fn series(&self, at: usize) -> &SeriesIndex {
        &self.index.series[at]
    }
}
