//! Reading a head's rows, some at a time, while appends go on.

use super::chunk::Chunk;
use super::row::{BatchReader, Row, RowPlace};
use super::{Head, SeriesId};
use crate::profile::Step;

/// What a step of a scan pays for a profile out of range, and for a row beside the values that were read of it.
const ROW_COST: usize = 2;

/// Where a scan stands, and the last row it will see: what is appended after [`Head::cursor`] is not its business.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    chunk: usize,
    batch: usize,
    reader: Option<BatchReader>,
    /// The chunk that was open when the scan began (the open one comes after all sealed ones), and its batches then.
    last_chunk: usize,
    last_batches: usize,
}

impl Cursor {
    /// Batches of the chunk that it stands in which the scan will see.
    fn batches_of(&self, chunk: &Chunk) -> usize {
        let all = chunk.batches_count();
        if self.chunk == self.last_chunk { self.last_batches.min(all) } else { all }
    }
}

impl Head {
    /// A scan of the rows that are visible now.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            chunk: 0,
            batch: 0,
            reader: None,
            last_chunk: self.sealed.len(),
            last_batches: self.open.batches_count(),
        }
    }

    /// Calls back with rows of wanted series whose time lies in `from_ns..=until_ns`, in the order of arrival, until about
    /// `values_max` values were read or the rows end. Other rows are passed over by what their headers say of their length.
    ///
    /// The callback gives the number of values that it read of the row: 0 where the header was enough, else what
    /// [`Row::add_samples`] or [`Row::for_each_sample`] gave. A step ends at a row's end, so it may read one row more than
    /// `values_max`: at most what `max_profile_stacktrace_samples` allows.
    pub fn scan(
        &self,
        is_wanted: impl Fn(SeriesId) -> bool,
        from_ns: i64,
        until_ns: i64,
        cursor: &mut Cursor,
        values_max: usize,
        mut f: impl FnMut(Row<'_>) -> usize,
    ) -> Step {
        self.scan_chunks(is_wanted, from_ns, until_ns, cursor, values_max, |_, row| f(row))
    }

    /// Notes where the next rows lie, at most about `rows_max` of them: so that they can be read in another order.
    pub(crate) fn places(
        &self,
        cursor: &mut Cursor,
        rows_max: usize,
        into: &mut Vec<RowPlace>,
    ) -> Step {
        let values_max = rows_max * ROW_COST;
        self.scan_chunks(
            |_| true,
            i64::MIN,
            i64::MAX,
            cursor,
            values_max,
            |chunk, row| {
                into.push(row.place(chunk));
                0
            },
        )
    }

    /// The row at a place that [`Head::places`] gave.
    pub(crate) fn row_at(&self, place: &RowPlace) -> Row<'_> {
        place.row(self.chunk(place.chunk as usize).streams().1)
    }

    /// A chunk by its number; the open one comes behind the sealed ones.
    fn chunk(&self, at: usize) -> &Chunk {
        self.sealed.get(at).map_or(&self.open, |chunk| &**chunk)
    }

    fn scan_chunks(
        &self,
        is_wanted: impl Fn(SeriesId) -> bool,
        from_ns: i64,
        until_ns: i64,
        cursor: &mut Cursor,
        values_max: usize,
        mut f: impl FnMut(usize, Row<'_>) -> usize,
    ) -> Step {
        let mut cost = 0;
        while cursor.chunk <= cursor.last_chunk {
            let chunk = self.chunk(cursor.chunk);
            let batches = cursor.batches_of(chunk);
            if !chunk.overlaps(from_ns, until_ns) {
                cursor.batch = batches;
            }
            let (rows, samples) = chunk.streams();
            while cursor.batch < batches {
                let batch = chunk.batch(cursor.batch);
                if from_ns <= batch.time_ns && batch.time_ns <= until_ns {
                    let mut reader = cursor.reader.take().unwrap_or_else(|| batch.reader());
                    let mut left = reader.rows_left();
                    while let Some(row) = reader.next(rows, samples, &is_wanted) {
                        cost += ROW_COST * (left - reader.rows_left()) + f(cursor.chunk, row);
                        left = reader.rows_left();
                        if cost >= values_max {
                            cursor.reader = Some(reader);
                            return Step::More;
                        }
                    }
                    cost += ROW_COST * left;
                }
                cursor.batch += 1;
                cost += ROW_COST;
                if cost >= values_max {
                    return Step::More;
                }
            }
            cursor.chunk += 1;
            cursor.batch = 0;
        }
        Step::Done
    }
}
