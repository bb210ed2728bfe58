//! Sums of values by node: of what is being visited, and of tables of which more blocks may have rows.

use std::collections::BTreeMap;

use crate::symbols::Symbols;

/// Dense sums of one table of symbols at a time.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) values: Vec<i64>,
    /// By number of the table.
    aside: BTreeMap<u64, Vec<i64>>,
    aside_count: usize,
}

impl Sums {
    /// Makes room for what rows name: no more nodes than there are.
    pub(super) fn make_room(&mut self, symbols: &Symbols) {
        if self.values.is_empty() {
            self.values = vec![0; symbols.nodes_count()]; // memory that is never touched costs nothing
        } else {
            self.values.resize(symbols.nodes_count(), 0);
        }
    }

    /// Keeps the sums until [`Sums::take_up`].
    pub(super) fn put_aside(&mut self, table: u64) {
        let values = std::mem::take(&mut self.values);
        self.aside_count += values.capacity();
        let before = self.aside.insert(table, values);
        assert!(before.is_none(), "what was put aside is taken up before more is added");
    }

    /// Goes on with the sums of a table, where there are any; says whether.
    pub(super) fn take_up(&mut self, table: u64) -> bool {
        assert!(self.values.is_empty(), "one table is visited at a time");
        let Some(values) = self.aside.remove(&table) else { return false };
        self.aside_count -= values.capacity();
        self.values = values;
        true
    }

    pub(super) fn bytes_held(&self) -> usize {
        (self.values.capacity() + self.aside_count) * size_of::<i64>()
    }
}
