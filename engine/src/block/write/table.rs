//! Writes one table: batches of rows in, bytes of the file and an index of its pages out.
//!
//! A finished row group is appended to the file by the `parquet` crate, which writes the footer at its end. What is held are the
//! pages of one row group, compressed, and of columns with a dictionary its rows as numbers.

use bytes::Bytes;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::writer::SerializedFileWriter;
use xxhash_rust::xxh3::Xxh3Default;

use super::super::FileFacts;
use super::super::PAGE_ROWS_MAX;
use super::super::index::{RowGroupIndex, TableIndex};
use super::super::schema::{Table, samples};
use super::column::{ColumnBatch, ColumnWriter, Tools, Values};
use crate::pace::Pace;

/// Rows of a batch: a column of it takes some 50 µs to encode.
pub(in super::super) const BATCH_ROWS: usize = 4096;

/// Bytes of texts of a batch, which ends early beyond that: texts may be long.
const BATCH_TEXT_BYTES: usize = 64 << 10;

/// Rows that a row group has at least where another kind of rows begins the next.
const KIND_ROWS_MIN: u64 = 16 << 10;

/// Bytes of the open row group, which ends early beyond that: it is copied into the file in one go.
const ROW_GROUP_BYTES_MAX: usize = 8 << 20;

/// Bytes that are copied or hashed in the time of a unit of a pace.
pub(in super::super) const BYTES_PER_UNIT: usize = 256;

/// Bytes that are hashed in one go.
const HASH_BYTES: usize = 256 << 10;

/// Writing to memory and closing what was written in order cannot fail.
const IN_MEMORY: &str = "Parquet in memory is written as its schema says";

/// A row of the table of samples but for its profile.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Sample {
    pub(in super::super) stack: u32,
    pub(in super::super) value: i64,
    /// The value that the profile which shares the row has; 0 where none does.
    pub(in super::super) second_value: i64,
}

/// Rows on their way into a table.
#[derive(Debug)]
pub(in super::super) struct Batch {
    columns: Vec<ColumnBatch>,
    text_bytes: usize,
}

impl Batch {
    fn new(table: Table) -> Self {
        Self { columns: table.columns().iter().map(ColumnBatch::new).collect(), text_bytes: 0 }
    }

    fn numbers(&mut self, column: usize) -> &mut Vec<u64> {
        let Values::Numbers(values) = &mut self.columns[column].values else {
            unreachable!("a column of numbers")
        };
        values
    }

    pub(in super::super) fn u32(&mut self, column: usize, value: impl Into<Option<u32>>) {
        let value = self.columns[column].level(value.into());
        self.numbers(column).extend(value.map(u64::from));
    }

    pub(in super::super) fn i64(&mut self, column: usize, value: i64) {
        self.u64(column, value.cast_unsigned());
    }

    pub(in super::super) fn u64(&mut self, column: usize, value: u64) {
        self.numbers(column).push(value);
    }

    pub(in super::super) fn text(&mut self, column: usize, value: impl Into<Option<Bytes>>) {
        let column = &mut self.columns[column];
        let value = column.level(value.into());
        self.text_bytes += value.as_ref().map_or(0, Bytes::len);
        let Values::Texts(values) = &mut column.values else { unreachable!("a column of texts") };
        values.extend(value);
    }

    /// Rows of the table of samples.
    pub(in super::super) fn samples(&mut self, profile_id: u32, rows: &[Sample]) {
        let profiles = self.numbers(0);
        profiles.resize(profiles.len() + rows.len(), profile_id.into());
        self.numbers(samples::STACKTRACE_ID).extend(rows.iter().map(|s| u64::from(s.stack)));
        self.numbers(samples::VALUE).extend(rows.iter().map(|s| s.value.cast_unsigned()));
        let second = rows.iter().map(|s| s.second_value.cast_unsigned());
        self.numbers(samples::SECOND_VALUE).extend(second);
    }

    fn rows(&self) -> usize {
        let first = &self.columns[0];
        debug_assert!(!first.is_optional, "the first column is the row's id");
        first.rows()
    }

    fn is_full(&self) -> bool {
        self.rows() >= BATCH_ROWS || self.text_bytes >= BATCH_TEXT_BYTES
    }

    fn clear(&mut self) {
        self.text_bytes = 0;
        self.columns.iter_mut().for_each(ColumnBatch::clear);
    }
}

/// A table being written.
pub(in super::super) struct TableWriter {
    table: Table,
    file: SerializedFileWriter<Vec<u8>>,
    batch: Batch,
    columns: Vec<ColumnWriter>,
    group_rows: u64,
    rows: u64,
    row_groups: Vec<RowGroupIndex>,
    hasher: Xxh3Default,
    bytes: u64,
}

impl TableWriter {
    pub(in super::super) fn new(table: Table) -> Self {
        let root = table.schema().root_schema_ptr();
        let file = SerializedFileWriter::new(Vec::new(), root, Table::properties());
        Self {
            table,
            file: file.expect(IN_MEMORY),
            batch: Batch::new(table),
            columns: Vec::new(),
            group_rows: 0,
            rows: 0,
            row_groups: Vec::new(),
            hasher: Xxh3Default::new(),
            bytes: 0,
        }
    }

    /// Where rows are put; call [`TableWriter::flush_full`] after each.
    pub(in super::super) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Rows of the table, those of the batch included.
    pub(in super::super) fn rows(&self) -> u64 {
        self.rows + self.batch.rows() as u64
    }

    /// Announces the rows of another partition: they begin a row group unless they fit the open one.
    pub(in super::super) async fn begin_partition(
        &mut self,
        rows: u64,
        tools: &mut Tools<'_>,
    ) -> Option<Vec<u8>> {
        let open = self.group_rows + self.batch.rows() as u64;
        if open > 0 && open + rows > self.table.row_group_rows_max() {
            return self.end_row_group(tools).await;
        }
        None
    }

    /// Announces rows of another kind: they begin a row group where the open one is worth its footer, so that dictionaries are of
    /// one kind of values.
    pub(in super::super) async fn begin_kind(&mut self, tools: &mut Tools<'_>) -> Option<Vec<u8>> {
        let open = self.group_rows + self.batch.rows() as u64;
        if open >= KIND_ROWS_MIN { self.end_row_group(tools).await } else { None }
    }

    /// Writes the batch if it is full; gives bytes of the file when a row group is.
    pub(in super::super) async fn flush_full(&mut self, tools: &mut Tools<'_>) -> Option<Vec<u8>> {
        if !self.batch.is_full() {
            return None;
        }
        self.flush(tools).await;
        let is_full = self.group_rows + BATCH_ROWS as u64 > self.table.row_group_rows_max();
        let bytes: usize = self.columns.iter().map(ColumnWriter::bytes_used).sum();
        if is_full || bytes > ROW_GROUP_BYTES_MAX {
            return self.end_row_group(tools).await;
        }
        None
    }

    /// Ends the file: its last bytes, its index, its length and checksum.
    pub(in super::super) async fn finish(
        mut self,
        tools: &mut Tools<'_>,
    ) -> (Vec<u8>, TableIndex, FileFacts) {
        let mut bytes = self.end_row_group(tools).await.unwrap_or_default();
        self.file.finish().expect(IN_MEMORY);
        bytes.append(&mut self.take_bytes(tools.pace).await);
        let facts = FileFacts {
            name: self.table.file_name().to_owned(),
            bytes: self.bytes,
            checksum: self.hasher.digest(),
        };
        (bytes, TableIndex { rows: self.rows, row_groups: self.row_groups }, facts)
    }

    /// Heap bytes held, about: the open row group and the batch.
    pub(in super::super) fn bytes_held(&self) -> usize {
        let of_columns: usize = self.columns.iter().map(ColumnWriter::bytes_held).sum();
        of_columns + self.batch.rows() * self.batch.columns.len() * 8 + self.batch.text_bytes
    }

    async fn flush(&mut self, tools: &mut Tools<'_>) {
        let rows = self.batch.rows();
        if rows == 0 {
            return;
        }
        if self.columns.is_empty() {
            let (level, seed) = (self.table.level(), tools.seed);
            let columns = self.table.columns().iter();
            self.columns = columns.map(|column| ColumnWriter::new(*column, level, seed)).collect();
        }
        for (column, batch) in self.columns.iter_mut().zip(&self.batch.columns) {
            assert_eq!(batch.rows(), rows, "every column of a batch has its rows");
            column.append(batch, tools).await;
        }
        self.group_rows += rows as u64;
        self.rows += rows as u64;
        self.batch.clear();
    }

    /// Copies the row group into the file: a few hundred kilobytes, mostly.
    async fn end_row_group(&mut self, tools: &mut Tools<'_>) -> Option<Vec<u8>> {
        self.flush(tools).await;
        if self.group_rows == 0 {
            return None;
        }
        let schema = self.table.schema();
        let mut at = self.file.bytes_written() as u64;
        // Room for all of it at once: what grows by doubling is copied each time.
        let bytes: usize = self.columns.iter().map(ColumnWriter::bytes_used).sum();
        self.file.inner_mut().reserve(bytes);
        let mut group = self.file.next_row_group().expect(IN_MEMORY);
        let mut chunks = Vec::with_capacity(self.columns.len());
        for (place, column) in self.columns.iter_mut().enumerate() {
            let (chunk, bytes, metadata) = column.end_chunk(schema.column(place), at, tools).await;
            at += bytes.len() as u64;
            let close = ColumnCloseResult {
                bytes_written: bytes.len() as u64,
                rows_written: self.group_rows,
                metadata,
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            let units = bytes.len() / BYTES_PER_UNIT;
            tools.pace.make_room(units).await;
            group.append_column(&Bytes::from(bytes), close).expect(IN_MEMORY);
            chunks.push(chunk);
            tools.pace.spend(units).await;
        }
        group.close().expect(IN_MEMORY);
        self.row_groups.push(RowGroupIndex { rows: self.group_rows as u32, chunks });
        self.group_rows = 0;
        Some(self.take_bytes(tools.pace).await)
    }

    async fn take_bytes(&mut self, pace: &Pace) -> Vec<u8> {
        let bytes = std::mem::take(self.file.inner_mut());
        for piece in bytes.chunks(HASH_BYTES) {
            self.hasher.update(piece);
            pace.spend(piece.len() / BYTES_PER_UNIT).await;
        }
        self.bytes += bytes.len() as u64;
        bytes
    }
}

const _: () = assert!(BATCH_ROWS <= PAGE_ROWS_MAX, "a page takes at least one batch");
