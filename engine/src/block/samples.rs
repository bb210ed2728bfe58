//! The samples of profiles: rows that one profile has alone or two profiles share.
//!
//! ```text
//! profiles   id 7   samples_of 7   rows 300..340 ─┬─► stacktrace_id   value
//!            id 9   samples_of 7   rows 300..340 ─┴─► stacktrace_id          second_value
//! ```
//! Types of one profile mostly have the same stacks (Go's `alloc_objects` and `alloc_space`); the second has its values in a column
//! beside the first's. A reader takes the columns of values that its profiles have, each where they have it.

use super::BlockError;
use super::index::Rows;
use super::reader::BlockReader;
use super::schema::{Table, samples};
use super::stream::{ReadPort, TableStream};
use crate::pace::Pace;

/// Rows of a profile.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SampleRows {
    /// The first.
    pub(crate) start: u64,
    /// Behind the last.
    pub(crate) end: u64,
    /// Whether its values are the second ones.
    pub(crate) is_second: bool,
}

impl SampleRows {
    /// Where they lie.
    pub(crate) fn rows(self) -> Rows {
        Rows { start: self.start, end: self.end }
    }

    /// Whether those of another profile may stand next: the same, or behind these.
    pub(crate) fn is_followed_by(self, next: Self) -> bool {
        let is_second_of = self.rows() == next.rows() && !self.is_second && next.is_second;
        is_second_of || self.end <= next.start
    }

    fn values(self) -> usize {
        1 + usize::from(self.is_second)
    }
}

/// Reads the rows of some profiles.
#[derive(Debug)]
pub(crate) struct SampleStream {
    /// Stacks, values, second values if any are wanted.
    table: TableStream,
}

impl SampleStream {
    /// Begins to read rows that ascend; the same rows may be wanted twice.
    pub(crate) fn new(reader: &BlockReader, wanted: impl Iterator<Item = SampleRows>) -> Self {
        let mut of_columns: [Vec<Rows>; 3] = Default::default();
        for rows in wanted {
            for column in [0, rows.values()] {
                match of_columns[column].last_mut().filter(|last| last.end >= rows.start) {
                    Some(last) => last.end = last.end.max(rows.end),
                    None => of_columns[column].push(rows.rows()),
                }
            }
        }
        let [stacks, values, second_values] = &of_columns;
        let columns: [(usize, &[Rows]); 3] = [
            (samples::STACKTRACE_ID, stacks),
            (samples::VALUE, values),
            (samples::SECOND_VALUE, second_values),
        ];
        // Blocks of versions without sharing lack the last.
        let columns = if second_values.is_empty() { &columns[..2] } else { &columns };
        Self { table: TableStream::of_columns(reader, Table::Samples, columns) }
    }

    /// Makes rows ready, which are wanted and not before those that were made ready last.
    pub(crate) async fn ensure(
        &mut self,
        rows: SampleRows,
        port: &ReadPort,
        pace: &Pace,
    ) -> Result<(), BlockError> {
        self.table.ensure_columns([0, rows.values()], rows.rows(), port, pace).await
    }

    /// Stacks of rows that are ready, and their values.
    pub(crate) fn get(&self, rows: SampleRows) -> (&[u32], &[i64]) {
        (self.table.ids(0, rows.rows()), self.table.numbers(rows.values(), rows.rows()))
    }

    /// Heap bytes held.
    pub(crate) fn bytes_held(&self) -> usize {
        self.table.bytes_held()
    }
}
