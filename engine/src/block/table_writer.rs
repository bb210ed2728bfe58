//! Writes one table: batches of columns in, bytes of the file and an index of its pages out.
//!
//! The `parquet` crate encodes: a column writer for each column of the open row group, whose pages come out through a channel as they
//! fill; a finished row group is appended to the file, which gives the footer and the page index at its end. So what is held
//! is the pages of one row group, compressed, and no step does more than one batch of one column.

use std::sync::mpsc;

use bytes::Bytes;
use parquet::column::page::{CompressedPage, PageWriteSpec, PageWriter};
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, get_column_writer};
use parquet::data_type::ByteArray;
use parquet::file::writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::index::{ChunkIndex, PageIndex, RowGroupIndex, TableIndex};
use super::schema::{Kind, Table};
use super::{DICTIONARY_BYTES_MAX, FileFacts, PAGE_BYTES_TARGET, PAGE_ROWS_MAX};
use crate::pace::Pace;

/// Rows of a batch: a column of it takes some 50 µs to encode, and two of them share a turn.
pub(super) const BATCH_ROWS: usize = 4096;

/// Bytes of texts of a batch, which ends early beyond that: texts may be long.
const BATCH_TEXT_BYTES: usize = 64 << 10;

/// Writing to memory and closing what was written in order cannot fail.
const IN_MEMORY: &str = "Parquet in memory is written as its schema says";

/// Rows on their way into a table.
#[derive(Debug)]
pub(super) struct Batch {
    columns: Vec<ColumnBatch>,
    text_bytes: usize,
}

#[derive(Debug)]
struct ColumnBatch {
    values: Values,
    /// Of an optional column: 1 where there is a value, 0 where not.
    levels: Vec<i16>,
    is_optional: bool,
}

#[derive(Debug)]
enum Values {
    I32(Vec<i32>),
    I64(Vec<i64>),
    Text(Vec<ByteArray>),
}

impl Values {
    fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }
}

impl Batch {
    pub(super) fn new(table: Table) -> Self {
        let columns = table.columns().iter().map(|column| ColumnBatch {
            values: match column.kind {
                Kind::U32 => Values::I32(Vec::new()),
                Kind::I64 | Kind::U64 | Kind::Time => Values::I64(Vec::new()),
                Kind::Text => Values::Text(Vec::new()),
            },
            levels: Vec::new(),
            is_optional: column.is_optional,
        });
        Self { columns: columns.collect(), text_bytes: 0 }
    }

    pub(super) fn u32(&mut self, column: usize, value: impl Into<Option<u32>>) {
        let column = &mut self.columns[column];
        let value = column.level(value.into());
        let Values::I32(values) = &mut column.values else { unreachable!("a column of u32") };
        values.extend(value.map(u32::cast_signed));
    }

    pub(super) fn i64(&mut self, column: usize, value: i64) {
        let Values::I64(values) = &mut self.columns[column].values else {
            unreachable!("a column of i64")
        };
        values.push(value);
    }

    pub(super) fn u64(&mut self, column: usize, value: u64) {
        self.i64(column, value.cast_signed());
    }

    pub(super) fn text(&mut self, column: usize, value: impl Into<Option<ByteArray>>) {
        let column = &mut self.columns[column];
        let value = column.level(value.into());
        self.text_bytes += value.as_ref().map_or(0, ByteArray::len);
        let Values::Text(values) = &mut column.values else { unreachable!("a column of texts") };
        values.extend(value);
    }

    /// Rows of the table of samples, whose stacks and values stand in pairs.
    pub(super) fn samples(&mut self, profile_id: u32, samples: &[(u32, i64)]) {
        let [profiles, stacks, values] = &mut self.columns[..] else {
            unreachable!("samples have three columns")
        };
        let (Values::I32(profiles), Values::I32(stacks), Values::I64(values)) =
            (&mut profiles.values, &mut stacks.values, &mut values.values)
        else {
            unreachable!("two ids and a value")
        };
        profiles.resize(profiles.len() + samples.len(), profile_id.cast_signed());
        stacks.extend(samples.iter().map(|(stack, _)| stack.cast_signed()));
        values.extend(samples.iter().map(|(_, value)| *value));
    }

    pub(super) fn rows(&self) -> usize {
        let first = &self.columns[0];
        debug_assert!(!first.is_optional, "the first column is the row's id");
        first.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows() >= BATCH_ROWS || self.text_bytes >= BATCH_TEXT_BYTES
    }

    fn clear(&mut self) {
        self.text_bytes = 0;
        for column in &mut self.columns {
            column.levels.clear();
            match &mut column.values {
                Values::I32(values) => values.clear(),
                Values::I64(values) => values.clear(),
                Values::Text(values) => values.clear(),
            }
        }
    }
}

impl ColumnBatch {
    fn level<T>(&mut self, value: Option<T>) -> Option<T> {
        if self.is_optional {
            self.levels.push(i16::from(value.is_some()));
        } else {
            assert!(value.is_some(), "a required column has a value in every row");
        }
        value
    }

    fn len(&self) -> usize {
        if self.is_optional {
            return self.levels.len();
        }
        match &self.values {
            Values::I32(values) => values.len(),
            Values::I64(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }
}

/// One page as it lies in the file.
struct Page {
    bytes: Vec<u8>,
    header_bytes: u32,
    values_bytes: u32,
    encoding: u8,
    values_count: u32,
    is_dictionary: bool,
}

/// The column writer's end of the channel.
struct PageSender {
    pages: mpsc::Sender<Page>,
    offset: u64,
}

impl PageWriter for PageSender {
    fn write_page(&mut self, page: CompressedPage) -> parquet::errors::Result<PageWriteSpec> {
        let (values_bytes, values_count) = (page.uncompressed_size(), page.num_values());
        let is_dictionary = page.compressed_page().is_dictionary_page();
        let encoding = page.encoding() as u8;
        let mut sink = TrackedWrite::new(Vec::with_capacity(page.compressed_size() + 64));
        let mut spec = SerializedPageWriter::new(&mut sink).write_page(page)?;
        spec.offset = self.offset;
        self.offset += spec.bytes_written;
        let page = Page {
            bytes: sink.into_inner()?,
            header_bytes: (spec.uncompressed_size - values_bytes) as u32,
            values_bytes: u32::try_from(values_bytes).expect("a page is far below 4 GiB"),
            encoding,
            values_count,
            is_dictionary,
        };
        let _ = self.pages.send(page); // the receiver lives as long as the column
        Ok(spec)
    }

    fn close(&mut self) -> parquet::errors::Result<()> {
        Ok(())
    }
}

struct OpenColumn {
    writer: ColumnWriter<'static>,
    incoming: mpsc::Receiver<Page>,
    pages: Vec<Page>,
    pages_bytes: usize,
}

impl OpenColumn {
    /// Takes pages that came out; says whether there were some.
    fn receive(&mut self) -> bool {
        let before = self.pages.len();
        for page in self.incoming.try_iter() {
            self.pages_bytes += page.bytes.len();
            self.pages.push(page);
        }
        self.pages.len() > before
    }
}

/// A table being written.
pub(super) struct TableWriter {
    table: Table,
    file: SerializedFileWriter<Vec<u8>>,
    batch: Batch,
    columns: Vec<OpenColumn>,
    group_rows: u64,
    rows: u64,
    row_groups: Vec<RowGroupIndex>,
    hasher: Xxh3Default,
    bytes: u64,
}

impl TableWriter {
    pub(super) fn new(table: Table) -> Self {
        let root = table.schema().root_schema_ptr();
        let file = SerializedFileWriter::new(Vec::new(), root, table.properties());
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
    pub(super) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Rows of the table, those of the batch included.
    pub(super) fn rows(&self) -> u64 {
        self.rows + self.batch.rows() as u64
    }

    /// Announces the rows of another partition: they begin a row group unless they fit the open one.
    pub(super) async fn begin_partition(&mut self, rows: u64, pace: &Pace) -> Option<Vec<u8>> {
        let open = self.group_rows + self.batch.rows() as u64;
        if open > 0 && open + rows > self.table.row_group_rows_max() {
            return self.end_row_group(pace).await;
        }
        None
    }

    /// Writes the batch if it is full; gives bytes of the file when a row group is.
    pub(super) async fn flush_full(&mut self, pace: &Pace) -> Option<Vec<u8>> {
        if !self.batch.is_full() {
            return None;
        }
        self.flush(pace).await;
        if self.group_rows + BATCH_ROWS as u64 > self.table.row_group_rows_max() {
            return self.end_row_group(pace).await;
        }
        None
    }

    /// Ends the file: its last bytes, its index, its length and checksum.
    pub(super) async fn finish(mut self, pace: &Pace) -> (Vec<u8>, TableIndex, FileFacts) {
        let mut bytes = self.end_row_group(pace).await.unwrap_or_default();
        self.file.finish().expect(IN_MEMORY);
        bytes.append(&mut self.take_bytes());
        let facts = FileFacts {
            name: self.table.file_name().to_owned(),
            bytes: self.bytes,
            checksum: self.hasher.digest(),
        };
        (bytes, TableIndex { rows: self.rows, row_groups: self.row_groups }, facts)
    }

    /// Heap bytes held, about: pages of the open row group, and the page and dictionary that each column has open.
    pub(super) fn bytes_held(&self) -> usize {
        let open_page = (self.group_rows as usize * 8).min(PAGE_BYTES_TARGET);
        let of_columns = self.columns.iter().map(|column| column.pages_bytes + 2 * open_page);
        let dictionaries = self.batch.columns.iter().filter(|column| column.values.is_text());
        let dictionaries =
            dictionaries.count() * (self.group_rows as usize * 64).min(DICTIONARY_BYTES_MAX);
        of_columns.sum::<usize>()
            + dictionaries
            + self.batch.rows() * self.batch.columns.len() * 8
            + self.batch.text_bytes
    }

    async fn flush(&mut self, pace: &Pace) {
        let rows = self.batch.rows();
        if rows == 0 {
            return;
        }
        if self.columns.is_empty() {
            self.begin_row_group();
        }
        for (column, batch) in self.columns.iter_mut().zip(&self.batch.columns) {
            assert_eq!(batch.len(), rows, "every column of a batch has its rows");
            let levels = batch.is_optional.then_some(&batch.levels[..]);
            let written = match (&mut column.writer, &batch.values) {
                (ColumnWriter::Int32ColumnWriter(writer), Values::I32(values)) => {
                    writer.write_batch(values, levels, None)
                }
                (ColumnWriter::Int64ColumnWriter(writer), Values::I64(values)) => {
                    writer.write_batch(values, levels, None)
                }
                (ColumnWriter::ByteArrayColumnWriter(writer), Values::Text(values)) => {
                    writer.write_batch(values, levels, None)
                }
                _ => unreachable!("batches have the types of the schema"),
            };
            written.expect(IN_MEMORY);
            if column.receive() {
                pace.turn().await;
            } else {
                pace.spend(rows).await;
            }
        }
        self.group_rows += rows as u64;
        self.rows += rows as u64;
        self.batch.clear();
    }

    fn begin_row_group(&mut self) {
        let (schema, properties) = (self.table.schema(), self.table.properties());
        self.columns = (0..schema.num_columns())
            .map(|at| {
                let (pages, incoming) = mpsc::channel();
                let sender = Box::new(PageSender { pages, offset: 0 });
                let column = schema.column(at);
                let writer = get_column_writer(column, properties.clone(), sender);
                OpenColumn { writer, incoming, pages: Vec::new(), pages_bytes: 0 }
            })
            .collect();
    }

    async fn end_row_group(&mut self, pace: &Pace) -> Option<Vec<u8>> {
        self.flush(pace).await;
        if self.group_rows == 0 {
            return None;
        }
        let mut closed = Vec::with_capacity(self.columns.len());
        for column in std::mem::take(&mut self.columns) {
            let OpenColumn { writer, incoming, mut pages, .. } = column;
            let close = writer.close().expect(IN_MEMORY);
            pages.extend(incoming.try_iter());
            let checksums: Vec<u64> = pages.iter().map(|page| xxh3_64(&page.bytes)).collect();
            closed.push((close, pages, checksums));
            pace.turn().await;
        }
        let chunks = self.append(closed);
        self.row_groups.push(RowGroupIndex { rows: self.group_rows as u32, chunks });
        self.group_rows = 0;
        Some(self.take_bytes())
    }

    /// Copies a row group into the file: a few hundred kilobytes.
    fn append(&mut self, closed: Vec<(ColumnCloseResult, Vec<Page>, Vec<u64>)>) -> Vec<ChunkIndex> {
        let mut at = self.file.bytes_written() as u64;
        let mut group = self.file.next_row_group().expect(IN_MEMORY);
        let mut chunks = Vec::with_capacity(closed.len());
        for (close, pages, checksums) in closed {
            let rows: Vec<u32> = page_rows(&close, &pages);
            let mut bytes = Vec::with_capacity(pages.iter().map(|page| page.bytes.len()).sum());
            let mut chunk = ChunkIndex::default();
            for ((page, checksum), rows) in pages.iter().zip(checksums).zip(rows) {
                let entry = PageIndex {
                    offset: at + bytes.len() as u64,
                    bytes: page.bytes.len() as u32,
                    header_bytes: page.header_bytes,
                    values_bytes: page.values_bytes,
                    rows,
                    encoding: page.encoding,
                    checksum,
                };
                bytes.extend_from_slice(&page.bytes);
                if page.is_dictionary {
                    chunk.dictionary = Some(entry);
                } else {
                    chunk.pages.push(entry);
                }
            }
            at += bytes.len() as u64;
            group.append_column(&Bytes::from(bytes), close).expect(IN_MEMORY);
            chunks.push(chunk);
        }
        group.close().expect(IN_MEMORY);
        chunks
    }

    fn take_bytes(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(self.file.inner_mut());
        self.hasher.update(&bytes);
        self.bytes += bytes.len() as u64;
        bytes
    }
}

/// Rows of each page (values of a dictionary): tables are flat, so a row is a value or a null.
fn page_rows(close: &ColumnCloseResult, pages: &[Page]) -> Vec<u32> {
    let rows: Vec<u32> = pages.iter().map(|page| page.values_count).collect();
    let of_data = pages.iter().filter(|page| !page.is_dictionary);
    let sum: u64 = of_data.map(|page| u64::from(page.values_count)).sum();
    assert_eq!(sum, close.rows_written, "pages hold the rows of their chunk");
    rows
}

const _: () = assert!(BATCH_ROWS <= PAGE_ROWS_MAX, "a page takes at least one batch");
