//! From a keyed 128-bit content hash to a row: the hash stands for the content (see [`crate::hash`]).

use super::table::Table;

/// The map: 20 B an entry, hash and row packed.
#[derive(Debug, Default)]
pub(crate) struct ContentMap {
    table: Table<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry([u32; 5]);

impl Entry {
    fn new(hash: u128, row: u32) -> Self {
        Self([hash as u32, (hash >> 32) as u32, (hash >> 64) as u32, (hash >> 96) as u32, row])
    }

    #[inline]
    fn low(&self) -> u64 {
        u64::from(self.0[1]) << 32 | u64::from(self.0[0])
    }

    #[inline]
    fn high(&self) -> u64 {
        u64::from(self.0[3]) << 32 | u64::from(self.0[2])
    }
}

impl ContentMap {
    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The row of a hash.
    #[inline]
    pub(crate) fn find(&self, hash: u128) -> Option<u32> {
        let (low, high) = (hash as u64, (hash >> 64) as u64);
        let entry = self.table.find(low, |entry| entry.low() == low && entry.high() == high)?;
        Some(entry.0[4])
    }

    /// Adds a hash that [`ContentMap::find`] did not find.
    pub(crate) fn insert(&mut self, hash: u128, row: u32) {
        self.table.insert(hash as u64, Entry::new(hash, row), Entry::low);
    }

    /// Heap bytes held.
    pub(crate) fn bytes_held(&self) -> usize {
        self.table.bytes_held()
    }

    /// The same, counted anew.
    #[cfg(test)]
    pub(crate) fn bytes_recounted(&self) -> usize {
        self.table.bytes_recounted()
    }
}
