//! Hash table of small entries whose keys live elsewhere, that never rehashes more than [`PART_ENTRIES_MAX`] of them at once.
//!
//! Extendible hashing over `hashbrown` tables: a directory of parts, indexed by some bits of the hash; a full part splits in
//! two by one more bit. A single table would move a million entries in one growth, and a shard would not answer for 10 ms.
//!
//! ```text
//! directory (2^depth)      parts
//! 00 ─────────────────────► A (depth 2)
//! 01 ──────────┬──────────► B (depth 1)
//! 10 ─────────────────────► C (depth 2)
//! 11 ──────────┘
//! ```
//! Hashes must be keyed where a tenant chooses the content: with hashes it cannot foresee, parts fill evenly.

use hashbrown::HashTable;

/// Entries of a part before it splits: the load limit of 8192 buckets. Moving them takes some 60 µs.
pub(crate) const PART_ENTRIES_MAX: usize = 7168;

/// hashbrown takes the low bits of a hash for the bucket (13 of them in a full part) and the top seven for the tag; the
/// directory takes bits from here.
const DIRECTORY_SHIFT: u32 = 32;

/// Beyond this a part grows instead of splitting: 4 billion entries lie far below it.
const DEPTH_MAX: u32 = 20;

/// The table; an entry's hash is recomputed by the `hasher` given to [`Table::insert`].
#[derive(Debug)]
pub(crate) struct Table<E> {
    directory: Vec<u32>,
    parts: Vec<Part<E>>,
    depth: u32,
    len: usize,
    parts_bytes: usize,
}

#[derive(Debug)]
struct Part<E> {
    entries: HashTable<E>,
    depth: u32,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        let first = Part { entries: HashTable::new(), depth: 0 };
        Self { directory: vec![0], parts: vec![first], depth: 0, len: 0, parts_bytes: 0 }
    }
}

impl<E: Copy> Table<E> {
    /// The entry with this hash that `eq` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, eq: impl FnMut(&E) -> bool) -> Option<E> {
        self.parts[self.part_of(hash)].entries.find(hash, eq).copied()
    }

    /// Adds an entry that [`Table::find`] did not find.
    pub(crate) fn insert(&mut self, hash: u64, entry: E, hasher: impl Fn(&E) -> u64) {
        let mut part = self.part_of(hash);
        while self.parts[part].entries.len() >= PART_ENTRIES_MAX
            && self.parts[part].depth < DEPTH_MAX
        {
            self.split(part, &hasher);
            part = self.part_of(hash);
        }
        let entries = &mut self.parts[part].entries;
        let bytes_before = entries.allocation_size();
        entries.insert_unique(hash, entry, hasher);
        self.parts_bytes += entries.allocation_size() - bytes_before;
        self.len += 1;
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Heap bytes held.
    pub(crate) fn bytes_held(&self) -> usize {
        self.parts_bytes
            + self.directory.capacity() * size_of::<u32>()
            + self.parts.capacity() * size_of::<Part<E>>()
    }

    /// The same, counted anew from every part.
    #[cfg(test)]
    pub(crate) fn bytes_recounted(&self) -> usize {
        self.parts.iter().map(|part| part.entries.allocation_size()).sum::<usize>()
            + self.directory.capacity() * size_of::<u32>()
            + self.parts.capacity() * size_of::<Part<E>>()
    }

    #[inline]
    fn part_of(&self, hash: u64) -> usize {
        let mask = (1_u64 << self.depth) - 1;
        self.directory[((hash >> DIRECTORY_SHIFT) & mask) as usize] as usize
    }

    /// Halves a part by the next bit of the hash; the directory doubles when it cannot tell the halves apart.
    fn split(&mut self, part: usize, hasher: &impl Fn(&E) -> u64) {
        let bit = self.parts[part].depth;
        if bit == self.depth {
            self.directory.extend_from_within(..);
            self.depth += 1;
        }
        let whole = std::mem::take(&mut self.parts[part].entries);
        self.parts_bytes -= whole.allocation_size();
        let mut low = HashTable::with_capacity(whole.len() / 2);
        let mut high = HashTable::with_capacity(whole.len() / 2);
        for entry in whole {
            let hash = hasher(&entry);
            let half =
                if (hash >> (DIRECTORY_SHIFT + bit)) & 1 == 0 { &mut low } else { &mut high };
            half.insert_unique(hash, entry, hasher);
        }
        self.parts_bytes += low.allocation_size() + high.allocation_size();
        let new = self.parts.len() as u32;
        self.parts[part] = Part { entries: low, depth: bit + 1 };
        self.parts.push(Part { entries: high, depth: bit + 1 });
        for (at, slot) in self.directory.iter_mut().enumerate() {
            if *slot == part as u32 && (at >> bit) & 1 == 1 {
                *slot = new;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any permutation of u64 with well-mixed bits.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "a hasher takes an entry by reference")]
    fn mixed(x: &u32) -> u64 {
        let x = (u64::from(*x) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (x >> 32)
    }

    #[test]
    fn every_entry_is_found_after_many_splits() {
        let mut table = Table::default();
        for x in 0..100_000_u32 {
            assert_eq!(table.find(mixed(&x), |e| *e == x), None, "{x} was not inserted yet");
            table.insert(mixed(&x), x, mixed);
        }
        assert_eq!(table.len(), 100_000);
        for x in 0..100_000_u32 {
            assert_eq!(table.find(mixed(&x), |e| *e == x), Some(x));
        }
        assert_eq!(table.find(mixed(&100_000), |e| *e == 100_000), None);
        assert!(table.parts.iter().all(|part| part.entries.len() <= PART_ENTRIES_MAX));
        assert_eq!(table.bytes_held(), table.bytes_recounted());
    }

    /// Equal directory bits cannot be told apart; the part must grow rather than split for ever.
    #[test]
    fn hashes_that_never_part_still_fit() {
        let mut table = Table::default();
        let same = |x: &u32| u64::from(*x) & 0xffff;
        for x in 0..20_000_u32 {
            table.insert(same(&x), x, same);
        }
        assert_eq!(table.find(same(&19_999), |e| *e == 19_999), Some(19_999));
    }
}
