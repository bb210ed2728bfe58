//! Heads: the newest data of each partition, in memory.
//!
//! ```text
//! Profile + Admission ─► Append ─► Head ── symbols     names and stacks, once
//!                                     ├── series      labels, once
//!                                     ├── open chunk  rows as they come
//!                                     └── sealed chunks, immutable
//! ```
//! Invariants
//! - The rows of a profile become visible together, when its append is done; what an unfinished append leaves behind are
//!   symbols and series without rows.
//! - A row's nodes ascend, its values are not zero, equal stacks are one value; its total is the sum of its values.
//! - A sealed chunk never changes. A cursor taken before a seal reads on behind it.
//! - Heads of a tenant are frozen together, by a cut; readers go on seeing them, appends go to fresh heads (`frozen`).
//! - [`Heads::bytes_held`] is what a recount of every capacity would give, at any time.
//!
//! Not here: what a profile means ([`crate::profile`]); matching and merging (`query`).

mod append;
mod chunk;
mod count;
mod frozen;
mod header;
mod heads;
mod row;
mod scan;
mod series;
mod sort;
mod varint;

pub use append::{Append, Appended};
pub use chunk::Chunk;
pub use count::SeriesCount;
pub use frozen::{Frozen, FrozenId, View};
pub use heads::{HeadOptions, Heads};
pub use row::Row;
pub(crate) use row::RowPlace;
pub use scan::Cursor;
pub use series::Series;

use std::sync::Arc;

use crate::hash::HashSecret;
use crate::identity::{Identities, Identity};
use crate::symbols::Symbols;
use row::BatchWriter;
use series::SeriesTable;

/// Row of [`Head::series`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeriesId(pub u32);

/// Which head of a shard, from 1 on: a partition has another one after each cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HeadId(pub u64);

/// The newest data of one partition.
#[derive(Debug)]
pub struct Head {
    id: HeadId,
    identities: Identities,
    secret: HashSecret,
    symbols: Symbols,
    series: SeriesTable,
    sealed: Vec<Arc<Chunk>>,
    open: Chunk,
    open_seen_ms: Option<i64>,
    /// Bytes of sealed chunks, and of the map entry that holds this head.
    sealed_bytes: usize,
    entry_bytes: usize,
    bytes_settled: usize,
}

impl Head {
    fn new(id: HeadId, secret: HashSecret, entry_bytes: usize) -> Self {
        Self {
            id,
            identities: Identities::default(),
            symbols: Symbols::new(secret.clone()),
            secret,
            series: SeriesTable::default(),
            sealed: Vec::new(),
            open: Chunk::default(),
            open_seen_ms: None,
            sealed_bytes: 0,
            entry_bytes,
            bytes_settled: 0,
        }
    }

    /// Which head it is.
    pub fn id(&self) -> HeadId {
        self.id
    }

    /// The profiles that it holds.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// Names and stacks.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The series by [`SeriesId`]. One without rows belongs to an append that is not done.
    pub fn series(&self) -> &[Series] {
        self.series.rows()
    }

    /// Sealed chunks, in the order of arrival.
    pub fn sealed(&self) -> &[Arc<Chunk>] {
        &self.sealed
    }

    /// The chunk that appends go to.
    pub fn open(&self) -> &Chunk {
        &self.open
    }

    /// Number of profiles.
    pub fn profiles_count(&self) -> usize {
        let sealed = self.sealed.iter().map(|chunk| chunk.batches_count()).sum::<usize>();
        sealed + self.open.batches_count()
    }

    /// Heap bytes held, unused capacity included.
    pub fn bytes_held(&self) -> usize {
        self.entry_bytes
            + self.symbols.bytes_held()
            + self.series.bytes_held()
            + self.sealed.capacity() * size_of::<Arc<Chunk>>()
            + self.sealed_bytes
            + self.open.bytes_held()
            + self.identities.bytes_held()
    }

    /// The same, counted anew from every part.
    #[cfg(test)]
    fn bytes_recounted(&self) -> usize {
        self.entry_bytes
            + self.symbols.bytes_recounted()
            + self.series.bytes_recounted()
            + self.sealed.capacity() * size_of::<Arc<Chunk>>()
            + self.sealed.iter().map(|chunk| sealed_bytes(chunk)).sum::<usize>()
            + self.open.bytes_held()
            + self.identities.bytes_held()
    }

    /// Whether the open chunk has rows older than the limit. It has no time of its own: the first look at it counts.
    fn is_aged(&mut self, now_ms: i64, age_ms_max: i64) -> bool {
        if self.open.batches_count() == 0 {
            return false;
        }
        let seen_ms = *self.open_seen_ms.get_or_insert(now_ms);
        now_ms.saturating_sub(seen_ms) >= age_ms_max
    }

    /// Makes the rows of a profile visible.
    fn commit(
        &mut self,
        identity: Identity,
        time_ns: i64,
        batch: &BatchWriter,
        series: &[SeriesId],
        options: &HeadOptions,
    ) {
        self.identities.insert(identity);
        if series.is_empty() {
            return;
        }
        for series in series {
            self.series.count_row(*series, time_ns);
        }
        self.open.push(time_ns, batch);
        if self.open.content_bytes() >= options.chunk_bytes_max {
            self.seal(options);
        }
    }

    fn seal(&mut self, options: &HeadOptions) {
        let chunk = std::mem::take(&mut self.open);
        self.open_seen_ms = None;
        let chunk = sealed(chunk, options);
        self.sealed_bytes += sealed_bytes(&chunk);
        self.sealed.push(chunk);
    }
}

#[cfg(not(feature = "planted-bugs"))]
fn sealed(chunk: Chunk, _options: &HeadOptions) -> Arc<Chunk> {
    chunk.seal()
}

/// With the bug `drop_sealed_chunk` an empty chunk takes the place of the sealed one.
#[cfg(feature = "planted-bugs")]
fn sealed(chunk: Chunk, options: &HeadOptions) -> Arc<Chunk> {
    if options.bug == Some(crate::planted::Bug::DropSealedChunk) {
        return Chunk::default().seal();
    }
    chunk.seal()
}

/// Bytes of a sealed chunk with its counters.
fn sealed_bytes(chunk: &Chunk) -> usize {
    size_of::<Chunk>() + 2 * size_of::<usize>() + chunk.bytes_held()
}

#[cfg(test)]
mod tests;
