//! Symbol tables of partitions of blocks, kept between reads of one shard: most reads ask for the same services.
//!
//! Invariants
//! - What is kept never exceeds its bound; what was used longest ago goes first.
//! - A table is found only for the block and partition that it was loaded from: a block is its ULID, and never changes.
//!
//! Not here: how large the bound is, and when memory runs short (`net`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::index::PartitionIndex;
use super::reader::BlockReader;
use crate::symbols::Symbols;

/// A shard's cache; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SymbolCache(Rc<RefCell<Kept>>);

/// Counts of a cache since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheCounts {
    /// Tables that were there.
    pub hits: u64,
    /// Tables that had to be loaded.
    pub misses: u64,
    /// Tables that were given up for others, or for memory.
    pub evicted: u64,
}

/// A block's ULID, and a partition of it by its first series.
type Key = (u128, u64);

#[derive(Debug, Default)]
struct Kept {
    bytes_max: usize,
    bytes: usize,
    tables: BTreeMap<Key, Table>,
    /// Keys by when they were used last.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    counts: CacheCounts,
}

#[derive(Debug)]
struct Table {
    symbols: Rc<Symbols>,
    bytes: usize,
    used: u64,
}

impl SymbolCache {
    /// A cache of at most so many heap bytes; the default one keeps nothing.
    pub fn new(bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(Kept { bytes_max, ..Kept::default() })))
    }

    /// Heap bytes kept.
    pub fn bytes_held(&self) -> usize {
        self.0.borrow().bytes
    }

    /// What was counted.
    pub fn counts(&self) -> CacheCounts {
        self.0.borrow().counts
    }

    /// Gives everything up.
    pub fn clear(&self) {
        self.0.borrow_mut().shrink_to(0);
    }

    /// The symbols of a partition, if they are kept.
    pub(crate) fn get(
        &self,
        block: &BlockReader,
        partition: &PartitionIndex,
    ) -> Option<Rc<Symbols>> {
        self.0.borrow_mut().get((block.ulid(), partition.series.start))
    }

    /// Keeps the symbols of a partition; `false` where they are larger than the bound.
    pub(crate) fn put(
        &self,
        block: &BlockReader,
        partition: &PartitionIndex,
        symbols: &Rc<Symbols>,
    ) -> bool {
        self.0.borrow_mut().put((block.ulid(), partition.series.start), symbols)
    }
}

impl Kept {
    fn get(&mut self, key: Key) -> Option<Rc<Symbols>> {
        let Some(table) = self.tables.get_mut(&key) else {
            self.counts.misses += 1;
            return None;
        };
        self.counts.hits += 1;
        self.uses += 1;
        self.by_use.remove(&table.used);
        table.used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(Rc::clone(&table.symbols))
    }

    fn put(&mut self, key: Key, symbols: &Rc<Symbols>) -> bool {
        let bytes = symbols.bytes_held();
        if bytes > self.bytes_max {
            return false;
        }
        // Another read may have loaded it meanwhile.
        if self.tables.contains_key(&key) {
            self.remove(key);
        }
        self.shrink_to(self.bytes_max - bytes);
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, key);
        let table = Table { symbols: Rc::clone(symbols), bytes, used: self.uses };
        self.tables.insert(key, table);
        true
    }

    fn shrink_to(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let (_, key) = self.by_use.first_key_value().expect("bytes are those of tables");
            self.remove(*key);
            self.counts.evicted += 1;
        }
    }

    fn remove(&mut self, key: Key) {
        let table = self.tables.remove(&key).expect("the key was just found");
        self.by_use.remove(&table.used);
        self.bytes -= table.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::tests::secret;

    fn symbols(strings: usize) -> Rc<Symbols> {
        let mut symbols = Symbols::new(secret());
        for at in 0..strings {
            symbols.push_string(&at.to_string());
        }
        Rc::new(symbols)
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_the_bound_holds() {
        let table = symbols(100);
        let one = table.bytes_held();
        let cache = SymbolCache::new(one * 3);
        let mut kept = cache.0.borrow_mut();
        assert!((0..3).all(|at| kept.put((1, at), &table)));
        assert!(kept.get((1, 0)).is_some());
        assert!(kept.put((1, 3), &table), "room is made");
        assert!(kept.get((1, 1)).is_none(), "it was used longest ago");
        assert!([0, 2, 3].iter().all(|at| kept.get((1, *at)).is_some()));
        assert!(kept.put((1, 3), &table), "what is there already takes its own place");
        assert_eq!((kept.bytes, kept.tables.len(), kept.by_use.len()), (one * 3, 3, 3));
        assert_eq!(kept.counts, CacheCounts { hits: 4, misses: 1, evicted: 1 });
        assert!(!kept.put((2, 0), &symbols(1000)), "larger than the bound");
        assert_eq!(kept.bytes, one * 3, "nothing was given up for it");
        kept.shrink_to(0);
        assert_eq!((kept.bytes, kept.tables.len(), kept.by_use.len()), (0, 0, 0));
    }
}
