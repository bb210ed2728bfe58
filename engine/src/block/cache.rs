//! Symbols of blocks, kept between reads of one shard: most reads ask for the same services.
//!
//! Invariants
//! - What is kept exceeds its bound in no turn; the block whose symbols were used longest ago goes first, and a table with its last block.
//! - A block's nodes are found only for the block and partition that they were loaded from: a block is its ULID, and never changes.
//!
//! Not here: how large the bound is, and when memory runs short (`net`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::index::PartitionIndex;
use super::joined::{Joined, NODES_MAX, Stored};
use super::reader::BlockReader;
use crate::hash::HashSecret;
use crate::tenant::PartitionKey;

/// A shard's cache; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SymbolCache(Rc<RefCell<Kept>>);

/// Counts of a cache since its start, of partitions of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheCounts {
    /// Those that were there.
    pub hits: u64,
    /// Those that had to be loaded.
    pub misses: u64,
    /// Those that were given up for others, or for memory.
    pub evicted: u64,
}

/// A block's ULID, and a partition of it by its first series.
type Key = (u128, u64);

#[derive(Debug, Default)]
struct Kept {
    bytes_max: usize,
    bytes: usize,
    tables: BTreeMap<u64, Table>,
    /// The table that takes further blocks.
    taking: BTreeMap<PartitionKey, u64>,
    blocks: BTreeMap<Key, OfBlock>,
    /// Keys by when they were used last.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    tables_made: u64,
    tables_removed: u64,
    counts: CacheCounts,
}

#[derive(Debug)]
struct Table {
    joined: Rc<Joined>,
    partition: PartitionKey,
    /// Blocks that name its nodes.
    blocks_count: usize,
}

#[derive(Debug)]
struct OfBlock {
    stored: Stored,
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
    pub(crate) fn get(&self, block: &BlockReader, partition: &PartitionIndex) -> Option<Stored> {
        self.0.borrow_mut().get((block.ulid(), partition.series.start))
    }

    /// The table that takes the symbols of a partition.
    pub(crate) fn table_for(
        &self,
        block: &BlockReader,
        partition: &PartitionIndex,
        secret: &HashSecret,
    ) -> Rc<Joined> {
        let key = PartitionKey {
            tenant: block.tenant().clone(),
            service_name: partition.service_name.as_str().into(),
            split: partition.split,
        };
        self.0.borrow_mut().table_for(key, secret)
    }

    /// Tells that a table has grown.
    pub(crate) fn note(&self, joined: &Joined) {
        self.0.borrow_mut().note(joined);
    }

    /// Keeps the nodes of a partition whose symbols are in their table; `false` where they or it are not kept.
    pub(crate) fn put(
        &self,
        block: &BlockReader,
        partition: &PartitionIndex,
        stored: &Stored,
    ) -> bool {
        self.0.borrow_mut().put((block.ulid(), partition.series.start), stored)
    }

    /// How many tables were given up so far.
    pub(crate) fn tables_removed(&self) -> u64 {
        self.0.borrow().tables_removed
    }
}

impl Kept {
    fn get(&mut self, key: Key) -> Option<Stored> {
        let Some(of_block) = self.blocks.get_mut(&key) else {
            self.counts.misses += 1;
            return None;
        };
        self.counts.hits += 1;
        self.uses += 1;
        self.by_use.remove(&of_block.used);
        of_block.used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(of_block.stored.clone())
    }

    fn table_for(&mut self, key: PartitionKey, secret: &HashSecret) -> Rc<Joined> {
        if let Some(number) = self.taking.get(&key) {
            let joined = &self.tables[number].joined;
            if joined.symbols().nodes_count() < NODES_MAX {
                return Rc::clone(joined);
            }
        }
        let (number, is_kept) = (self.tables_made, self.bytes_max > 0);
        self.tables_made += 1;
        let joined = Rc::new(Joined::new(number, secret, is_kept));
        if is_kept {
            self.taking.insert(key.clone(), number);
            let table = Table { joined: Rc::clone(&joined), partition: key, blocks_count: 0 };
            self.tables.insert(number, table);
        }
        joined
    }

    fn note(&mut self, joined: &Joined) {
        if !joined.is_kept() {
            return;
        }
        let (before, bytes) = joined.note_kept();
        self.bytes += bytes - before;
        if bytes > self.bytes_max {
            self.remove_table(joined.number());
        }
        self.shrink_to(self.bytes_max);
    }

    fn put(&mut self, key: Key, stored: &Stored) -> bool {
        self.note(&stored.joined);
        let (number, bytes) = (stored.joined.number(), stored.nodes_bytes());
        if !stored.joined.is_kept() || bytes > self.bytes_max {
            return false;
        }
        // Another read may have loaded it meanwhile.
        match self.blocks.get(&key) {
            Some(known) if known.stored.joined.number() == number => return true,
            Some(_) => self.remove(key),
            None => {}
        }
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, key);
        self.blocks.insert(key, OfBlock { stored: stored.clone(), used: self.uses });
        self.tables.get_mut(&number).expect("it is kept").blocks_count += 1;
        self.shrink_to(self.bytes_max);
        self.blocks.contains_key(&key)
    }

    fn shrink_to(&mut self, bytes: usize) {
        while self.bytes > bytes {
            if let Some((_, key)) = self.by_use.first_key_value() {
                self.remove(*key);
                self.counts.evicted += 1;
            } else {
                let (number, _) = self.tables.first_key_value().expect("bytes are those of tables");
                self.remove_table(*number);
            }
        }
    }

    /// Gives up the nodes of a block; with the last block's the table.
    fn remove(&mut self, key: Key) {
        let OfBlock { stored, used } = self.blocks.remove(&key).expect("the key was just found");
        self.by_use.remove(&used);
        self.bytes -= stored.nodes_bytes();
        let number = stored.joined.number();
        let table = self.tables.get_mut(&number).expect("a block's table is kept");
        table.blocks_count -= 1;
        if table.blocks_count == 0 {
            self.remove_table(number);
        }
    }

    fn remove_table(&mut self, number: u64) {
        let Some(table) = self.tables.get(&number) else { return };
        if table.blocks_count > 0 {
            let is_of_it = |of: &OfBlock| of.stored.joined.number() == number;
            let of_it = self.blocks.iter().filter(|(_, of)| is_of_it(of));
            for key in of_it.map(|(key, _)| *key).collect::<Vec<_>>() {
                self.remove(key); // the last one comes back here
                self.counts.evicted += 1;
            }
            return;
        }
        let table = self.tables.remove(&number).expect("it was just found");
        if self.taking.get(&table.partition) == Some(&number) {
            self.taking.remove(&table.partition);
        }
        self.bytes -= table.joined.give_up();
        self.tables_removed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::tests::secret;
    use crate::tenant::TenantId;

    fn key(service_name: &str) -> PartitionKey {
        let tenant = TenantId::anonymous();
        PartitionKey { tenant, service_name: service_name.into(), split: 0 }
    }

    /// Some strings, and nodes of a block that names them.
    fn stored(kept: &mut Kept, service_name: &str, strings: usize) -> Stored {
        let joined = kept.table_for(key(service_name), &secret());
        joined.grow(|symbols| {
            for at in 0..strings {
                symbols.intern_string(&at.to_string());
            }
        });
        Stored { joined, nodes: Rc::new(vec![0; 10]) }
    }

    fn bytes_counted(kept: &Kept) -> usize {
        let tables = kept.tables.values().map(|table| table.joined.symbols().bytes_held());
        let blocks = kept.blocks.values().map(|of| of.stored.nodes_bytes());
        tables.sum::<usize>() + blocks.sum::<usize>()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_the_bound_holds() {
        let cache = SymbolCache::new(usize::MAX);
        let mut kept = cache.0.borrow_mut();
        let of_a = stored(&mut kept, "a", 100);
        assert!(kept.put((1, 0), &of_a));
        let one = kept.bytes;
        assert_eq!(one, bytes_counted(&kept));
        kept.bytes_max = one * 3;
        for (at, name) in [(1, "b"), (2, "c")] {
            let of = stored(&mut kept, name, 100);
            assert!(kept.put((1, at), &of));
        }
        assert!(kept.get((1, 0)).is_some());
        let of_d = stored(&mut kept, "d", 100);
        assert!(kept.put((1, 3), &of_d), "room is made");
        assert!(kept.get((1, 1)).is_none(), "it was used longest ago");
        assert!([0, 2, 3].iter().all(|at| kept.get((1, *at)).is_some()));
        assert!(kept.put((1, 3), &of_d), "what is there already takes its own place");
        assert_eq!((kept.bytes, kept.tables.len(), kept.by_use.len()), (one * 3, 3, 3));
        assert_eq!(kept.counts, CacheCounts { hits: 4, misses: 1, evicted: 1 });
        assert_eq!(kept.tables_removed, 1);
        let large = stored(&mut kept, "e", 1000);
        assert!(!kept.put((2, 0), &large), "larger than the bound");
        assert!(!large.joined.is_kept());
        assert_eq!(large.joined.bytes_unkept(), large.joined.symbols().bytes_held());
        assert_eq!(kept.bytes, one * 3, "nothing was given up for it");
        kept.shrink_to(0);
        assert_eq!((kept.bytes, kept.tables.len(), kept.by_use.len()), (0, 0, 0));
        assert!(kept.taking.is_empty() && kept.blocks.is_empty());
    }

    #[test]
    fn blocks_share_a_table_that_goes_with_the_last_of_them() {
        let cache = SymbolCache::new(1 << 20);
        let mut kept = cache.0.borrow_mut();
        for block in 0..3 {
            let of_block = stored(&mut kept, "a", 100);
            assert!(kept.put((block, 0), &of_block));
        }
        let joined = stored(&mut kept, "a", 100).joined;
        assert_eq!((kept.tables.len(), joined.bytes_unkept()), (1, 0));
        let before = kept.bytes;
        kept.shrink_to(before - 1);
        assert_eq!(kept.bytes, before - 40, "a block's nodes are 40 bytes");
        assert!(joined.is_kept());
        // A read that loads another block has its part of the table given up under way.
        kept.shrink_to(0);
        let late = Stored { joined: Rc::clone(&joined), nodes: Rc::default() };
        assert!(!joined.is_kept() && !kept.put((4, 0), &late));
        assert_eq!((kept.bytes, kept.counts.evicted, kept.tables_removed), (0, 3, 1));
    }

    #[test]
    fn a_table_of_too_many_nodes_takes_no_further_block() {
        use crate::symbols::{LocationId, NodeId};
        let cache = SymbolCache::new(1 << 30);
        let mut kept = cache.0.borrow_mut();
        let full = kept.table_for(key("a"), &secret());
        full.grow(|symbols| {
            while symbols.nodes_count() < NODES_MAX {
                let last = NodeId(symbols.nodes_count() as u32 - 1);
                symbols.child(last, LocationId(0));
            }
        });
        assert!(kept.put((1, 0), &Stored { joined: Rc::clone(&full), nodes: Rc::default() }));
        let next = kept.table_for(key("a"), &secret());
        assert_ne!(next.number(), full.number());
        assert_eq!(kept.table_for(key("a"), &secret()).number(), next.number());
        assert!(kept.get((1, 0)).is_some_and(|stored| stored.joined.number() == full.number()));
    }

    #[test]
    fn a_cache_of_no_bytes_gives_each_read_its_own_table() {
        let cache = SymbolCache::default();
        let mut kept = cache.0.borrow_mut();
        let of_a = stored(&mut kept, "a", 10);
        assert!(!kept.put((1, 0), &of_a));
        assert!(of_a.joined.bytes_unkept() > 0);
        assert_ne!(stored(&mut kept, "a", 10).joined.number(), of_a.joined.number());
        assert_eq!((kept.bytes, kept.tables.len(), kept.taking.len()), (0, 0, 0));
    }
}
