//! The values of a column chunk, each once: what its rows refer to by number.
//!
//! Until the chunk is whole a value has the number of its first appearance. At the end entries are sorted: neighbours are alike then,
//! and numbers of values of a size are of a size, which halves both behind zstd.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::pace::{self, Pace};

/// Entries of a dictionary: a row refers to one in two bytes.
pub(super) const ENTRIES_MAX: usize = 1 << 16;

/// Slots of a first table.
const SLOTS_MIN: usize = 256;

/// What a dictionary may hold.
pub(super) trait Entry: Clone + Ord {
    /// Whether a comparison reads memory elsewhere.
    const IS_TEXT: bool;

    /// Seeded, so that nobody who sends values knows which meet in a slot.
    fn hash(&self, seed: u64) -> u64;

    /// Bytes beside the entry itself.
    fn heap_bytes(&self) -> usize;
}

impl Entry for u64 {
    const IS_TEXT: bool = false;

    fn hash(&self, seed: u64) -> u64 {
        let product = u128::from(self ^ seed) * 0x9e37_79b9_7f4a_7c15;
        product as u64 ^ (product >> 64) as u64
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Entry for Bytes {
    const IS_TEXT: bool = true;

    fn hash(&self, seed: u64) -> u64 {
        xxh3_64_with_seed(self, seed)
    }

    fn heap_bytes(&self) -> usize {
        self.len()
    }
}

/// Values by number.
#[derive(Debug)]
pub(super) struct Dictionary<T> {
    entries: Vec<T>,
    /// Numbers of entries, one more each; 0 is free.
    slots: Vec<u32>,
    seed: u64,
    heap_bytes: usize,
    heap_bytes_max: usize,
    /// Entries that growing has moved and nobody has accounted for.
    moved: usize,
}

impl<T: Entry> Dictionary<T> {
    pub(super) fn new(seed: u64, heap_bytes_max: usize) -> Self {
        let (entries, slots) = (Vec::new(), vec![0; SLOTS_MIN]);
        Self { entries, slots, seed, heap_bytes: 0, heap_bytes_max, moved: 0 }
    }

    /// Whether every value is there once. Where there are too many for that, the rest is kept value by value, as it comes.
    pub(super) fn is_whole(&self) -> bool {
        self.entries.len() <= ENTRIES_MAX && self.heap_bytes <= self.heap_bytes_max
    }

    pub(super) fn number(&mut self, value: &T) -> u32 {
        let number = self.entries.len() as u32;
        if self.is_whole() {
            let mask = self.slots.len() - 1;
            let mut at = value.hash(self.seed) as usize & mask;
            loop {
                match self.slots[at].checked_sub(1) {
                    Some(found) if self.entries[found as usize] == *value => return found,
                    Some(_) => at = (at + 1) & mask,
                    None => break,
                }
            }
            self.slots[at] = number + 1;
        }
        self.heap_bytes += value.heap_bytes();
        self.entries.push(value.clone());
        if self.is_whole() && self.entries.len() * 2 > self.slots.len() {
            self.grow();
        }
        number
    }

    /// Forgets all values; the room for them stays.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.slots.fill(0);
        self.heap_bytes = 0;
    }

    /// Copies at most [`ENTRIES_MAX`] numbers.
    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        self.moved += self.entries.len();
        self.slots = vec![0; mask + 1];
        for (number, entry) in (1..).zip(&self.entries) {
            let mut at = entry.hash(self.seed) as usize & mask;
            while self.slots[at] != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = number;
        }
    }

    /// How many entries growing has moved since this was asked last.
    pub(super) fn take_moved(&mut self) -> usize {
        std::mem::take(&mut self.moved)
    }

    pub(super) fn entries(&self) -> &[T] {
        &self.entries
    }

    /// Numbers of the entries in their order.
    pub(super) async fn sorted(&self, pace: &Pace) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        let entry = |number: u32| &self.entries[number as usize];
        let compare = |a, b| entry(a).cmp(entry(b));
        if T::IS_TEXT {
            pace::sort_texts(&mut order, pace, compare).await;
        } else {
            pace::sort(&mut order, pace, compare).await;
        }
        order
    }

    /// Bytes of what is in it.
    pub(super) fn bytes_used(&self) -> usize {
        self.entries.len() * size_of::<T>() + self.heap_bytes
    }

    pub(super) fn bytes_held(&self) -> usize {
        self.entries.capacity() * size_of::<T>()
            + self.slots.capacity() * size_of::<u32>()
            + self.heap_bytes
    }
}
