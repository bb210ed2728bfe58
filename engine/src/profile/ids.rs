//! From the ids of a pprof message, any 64-bit numbers, to dense rows.
//!
//! While decoding, an id is kept in 32 bits ([`WideIds::narrow`]): small ones as they are, the others as numbers given in order
//! of appearance. Nearly every writer numbers its rows from 1, where id and row differ by one and no table is needed.

use hashbrown::HashTable;

use super::NONE;
use crate::hash::HashSecret;

/// Ids below this stand for themselves; a direct table over them takes at most 4 MiB.
const NARROW_IDS: u32 = 1 << 20;

/// Ids of [`NARROW_IDS`] and more, numbered in order of appearance.
#[derive(Debug, Default)]
pub(super) struct WideIds {
    numbers: HashTable<(u64, u32)>,
}

impl WideIds {
    /// An id as 32 bits; equal ids give equal numbers, different ones different numbers.
    #[inline]
    pub(super) fn narrow(&mut self, id: u64, secret: &HashSecret) -> u32 {
        if id < u64::from(NARROW_IDS) { id as u32 } else { self.number(id, secret) }
    }

    #[cold]
    fn number(&mut self, id: u64, secret: &HashSecret) -> u32 {
        let hash = |id: u64| secret.table(&id.to_le_bytes());
        let next = NARROW_IDS + self.numbers.len() as u32;
        self.numbers.entry(hash(id), |e| e.0 == id, |e| hash(e.0)).or_insert((id, next)).get().1
    }

    pub(super) fn clear(&mut self) {
        self.numbers.clear();
    }

    pub(super) fn bytes_held(&self) -> usize {
        self.numbers.allocation_size()
    }
}

/// Rows by id; of rows with one id the last counts.
#[derive(Debug, Default)]
pub(super) struct RowOfId {
    /// Id `n` is row `n - 1`, for this many rows; the tables are empty.
    sequence: Option<u32>,
    narrow: Vec<u32>,
    wide: Vec<u32>,
}

impl RowOfId {
    /// Takes the ids in the order of rows.
    pub(super) fn build(&mut self, ids: &[u32]) {
        self.narrow.clear();
        self.wide.clear();
        self.sequence = (1..).zip(ids).all(|(n, &id)| n == id).then_some(ids.len() as u32);
        if self.sequence.is_some() && ids.len() < NARROW_IDS as usize {
            return;
        }
        self.sequence = None;
        for (row, &id) in (0..).zip(ids) {
            let (table, at) = if id < NARROW_IDS {
                (&mut self.narrow, id as usize)
            } else {
                (&mut self.wide, (id - NARROW_IDS) as usize)
            };
            if at >= table.len() {
                table.resize(at + 1, NONE);
            }
            table[at] = row;
        }
    }

    /// The number of rows, when id and row differ by one.
    pub(super) fn sequence(&self) -> Option<u32> {
        self.sequence
    }

    /// Row of an id, [`NONE`] where no row has it.
    #[inline]
    pub(super) fn row(&self, id: u32) -> u32 {
        if let Some(count) = self.sequence {
            let row = id.wrapping_sub(1);
            return if row < count { row } else { NONE };
        }
        let row = if id < NARROW_IDS {
            self.narrow.get(id as usize)
        } else {
            self.wide.get((id - NARROW_IDS) as usize)
        };
        row.copied().unwrap_or(NONE)
    }

    pub(super) fn bytes_held(&self) -> usize {
        (self.narrow.capacity() + self.wide.capacity()) * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ids: &[u64], asked: &[u64]) -> Vec<u32> {
        let secret = HashSecret::from_words(|| 7);
        let mut wide = WideIds::default();
        let narrow: Vec<u32> = ids.iter().map(|&id| wide.narrow(id, &secret)).collect();
        let mut table = RowOfId::default();
        table.build(&narrow);
        asked.iter().map(|&id| table.row(wide.narrow(id, &secret))).collect()
    }

    #[test]
    fn ids_from_one_need_no_table() {
        assert_eq!(rows(&[1, 2, 3], &[3, 1, 0, 4, u64::MAX]), [2, 0, NONE, NONE, NONE]);
    }

    #[test]
    fn ids_may_be_any_number_in_any_order() {
        let ids = [u64::MAX, 5, 1 << 40, 0, 1 << 20];
        assert_eq!(rows(&ids, &ids), [0, 1, 2, 3, 4]);
        assert_eq!(rows(&ids, &[6, 1 << 41, 1]), [NONE; 3]);
    }

    #[test]
    fn of_rows_with_one_id_the_last_counts() {
        assert_eq!(rows(&[9, 9, 1 << 33, 1 << 33], &[9, 1 << 33]), [1, 3]);
    }
}
