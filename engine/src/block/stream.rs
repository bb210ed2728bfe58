//! Reading rows of a table: the pages that hold them, and no others, each once.
//!
//! Rows are wanted as ascending ranges, known before the first is read. What is asked of the driver at a time are the wanted pages of one
//! row group, neighbours joined; what is decoded are pages that the next rows need.

use std::collections::BTreeMap;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::decode::{PageDecoder, Scratch, Texts, Values};
use super::index::{PageIndex, Rows};
use super::reader::{BlockReader, ByteRange};
use super::schema::Table;
use super::{BlockError, COALESCE_GAP_BYTES};
use crate::machine::Port;
use crate::pace::Pace;

/// A reader's way to its driver.
pub(crate) type ReadPort = Port<Vec<ByteRange>, Vec<Bytes>>;

/// Decoded rows that are kept behind the ones in use before they are dropped.
const DROP_ROWS: usize = 64 << 10;

/// Some columns of a table, read together.
#[derive(Debug)]
pub(crate) struct TableStream {
    table: Table,
    columns: Vec<ColumnStream>,
    /// By offset: pages that were read and not decoded yet.
    fetched: BTreeMap<u64, Bytes>,
    fetched_bytes: usize,
    scratch: Scratch,
    pub(super) texts: Texts,
}

#[derive(Debug)]
struct ColumnStream {
    /// Pages with wanted rows, in order.
    pages: Vec<Wanted>,
    next: usize,
    /// The row group whose dictionary the decoder has.
    group: Option<usize>,
    decoder: PageDecoder,
    values: Values,
    values_start: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    group: usize,
    first_row: u64,
    page: PageIndex,
    dictionary: Option<PageIndex>,
}

impl TableStream {
    /// Begins to read some columns of ascending ranges of rows.
    pub(crate) fn new(
        reader: &BlockReader,
        table: Table,
        columns: &[usize],
        wanted: &[Rows],
    ) -> Self {
        let columns: Vec<_> = columns.iter().map(|column| (*column, wanted)).collect();
        Self::of_columns(reader, table, &columns)
    }

    /// Begins to read some columns, each of ascending ranges of rows of its own.
    pub(super) fn of_columns(
        reader: &BlockReader,
        table: Table,
        columns: &[(usize, &[Rows])],
    ) -> Self {
        let stream = |(column, wanted): &(usize, &[Rows])| {
            let definition = table.columns_of(reader.meta().version)[*column];
            ColumnStream {
                pages: wanted_pages(reader, table, *column, wanted),
                next: 0,
                group: None,
                decoder: PageDecoder::new(definition),
                values: Values::of(definition.kind),
                values_start: 0,
            }
        };
        Self {
            columns: columns.iter().map(stream).collect(),
            table,
            fetched: BTreeMap::new(),
            fetched_bytes: 0,
            scratch: Scratch::default(),
            texts: Texts::default(),
        }
    }

    /// Makes rows ready, which lie within a wanted range, and behind those that were made ready before.
    pub(crate) async fn ensure(
        &mut self,
        rows: Rows,
        port: &ReadPort,
        pace: &Pace,
    ) -> Result<(), BlockError> {
        self.ensure_columns(0..self.columns.len(), rows, port, pace).await
    }

    /// The same of some of the columns.
    pub(super) async fn ensure_columns(
        &mut self,
        columns: impl IntoIterator<Item = usize>,
        rows: Rows,
        port: &ReadPort,
        pace: &Pace,
    ) -> Result<(), BlockError> {
        if rows.is_empty() {
            return Ok(());
        }
        for at in columns {
            self.columns[at].drop_before(rows.start);
            while self.columns[at].values_end() < rows.end {
                let column = &self.columns[at];
                let wanted = column.pages.get(column.next).copied();
                let wanted = wanted.expect("rows are made ready of those that were wanted");
                self.fetch(wanted, port, pace).await?;
                self.decode(at, wanted)?;
                pace.turn().await;
            }
        }
        Ok(())
    }

    /// Ids of rows that are ready; texts are numbers of `TableStream::texts`.
    pub(crate) fn ids(&self, column: usize, rows: Rows) -> &[u32] {
        let column = &self.columns[column];
        let Values::U32(values) = &column.values else { unreachable!("a column of ids") };
        &values[column.place(rows)]
    }

    /// Numbers of rows that are ready.
    pub(crate) fn numbers(&self, column: usize, rows: Rows) -> &[i64] {
        let column = &self.columns[column];
        let Values::I64(values) = &column.values else { unreachable!("a column of numbers") };
        &values[column.place(rows)]
    }

    /// Heap bytes held.
    pub(crate) fn bytes_held(&self) -> usize {
        let columns = self.columns.iter().map(|column| {
            column.decoder.bytes_held()
                + column.values.bytes_held()
                + column.pages.capacity() * size_of::<Wanted>()
        });
        columns.sum::<usize>()
            + self.fetched_bytes
            + self.scratch.bytes_held()
            + self.texts.bytes_held()
    }

    /// Reads the wanted pages of a row group that are not there yet, of all columns at once.
    async fn fetch(
        &mut self,
        first: Wanted,
        port: &ReadPort,
        pace: &Pace,
    ) -> Result<(), BlockError> {
        if self.fetched.contains_key(&first.page.offset) {
            return Ok(());
        }
        let mut pages: Vec<PageIndex> = Vec::new();
        for column in &self.columns {
            let of_group = column.pages[column.next..].iter();
            for wanted in of_group
                .skip_while(|w| w.group < first.group)
                .take_while(|w| w.group == first.group)
            {
                let dictionary = wanted.dictionary.filter(|_| column.group != Some(wanted.group));
                pages.extend(dictionary.into_iter().chain([wanted.page]));
            }
        }
        pages.sort_unstable_by_key(|page| page.offset);
        pages.dedup_by_key(|page| page.offset);
        pages.retain(|page| !self.fetched.contains_key(&page.offset));
        let file = self.table.file_name();
        let mut ranges: Vec<ByteRange> = Vec::new();
        for page in &pages {
            let end = page.offset + u64::from(page.bytes);
            match ranges.last_mut() {
                Some(last) if page.offset - (last.offset + last.bytes) <= COALESCE_GAP_BYTES => {
                    last.bytes = end - last.offset;
                }
                _ => ranges.push(ByteRange { file, offset: page.offset, bytes: page.bytes.into() }),
            }
        }
        let answers = port.ask(ranges.clone()).await;
        assert_eq!(answers.len(), ranges.len(), "the driver answers every range");
        for (range, bytes) in ranges.iter().zip(&answers) {
            range.check_length(bytes)?;
        }
        for page in pages {
            let at = ranges.partition_point(|range| range.offset <= page.offset) - 1;
            let start = (page.offset - ranges[at].offset) as usize;
            let bytes = answers[at].slice(start..start + page.bytes as usize);
            let found = xxh3_64(&bytes);
            if found != page.checksum {
                let (offset, bytes, expected) = (page.offset, page.bytes.into(), page.checksum);
                return Err(BlockError::Checksum { file, offset, bytes, found, expected });
            }
            pace.spend(bytes.len() / 256).await;
            self.fetched_bytes += bytes.len();
            self.fetched.insert(page.offset, bytes);
        }
        Ok(())
    }

    fn decode(&mut self, at: usize, wanted: Wanted) -> Result<(), BlockError> {
        let (file, column) = (self.table.file_name(), &mut self.columns[at]);
        let mut take = |page: &PageIndex| {
            let bytes = self.fetched.remove(&page.offset).expect("its row group was read");
            self.fetched_bytes -= bytes.len();
            bytes
        };
        let bad = |page: &PageIndex, what| BlockError::Page { file, offset: page.offset, what };
        if column.group != Some(wanted.group) {
            column.group = Some(wanted.group);
            column.decoder.no_dictionary();
            if let Some(page) = wanted.dictionary {
                let bytes = take(&page);
                column
                    .decoder
                    .dictionary(&page, &bytes, &mut self.scratch, &mut self.texts)
                    .map_err(|what| bad(&page, what))?;
            }
        }
        if wanted.first_row != column.values_end() {
            let count = column.values.len();
            column.values.drop_front(count);
            column.values_start = wanted.first_row;
        }
        let bytes = take(&wanted.page);
        column
            .decoder
            .page(&wanted.page, &bytes, &mut self.scratch, &mut self.texts, &mut column.values)
            .map_err(|what| bad(&wanted.page, what))?;
        column.next += 1;
        Ok(())
    }
}

impl ColumnStream {
    fn values_end(&self) -> u64 {
        self.values_start + self.values.len() as u64
    }

    fn drop_before(&mut self, row: u64) {
        let spare = row.saturating_sub(self.values_start).min(self.values.len() as u64) as usize;
        if spare >= DROP_ROWS || spare == self.values.len() {
            self.values.drop_front(spare);
            self.values_start += spare as u64;
        }
    }

    fn place(&self, rows: Rows) -> std::ops::Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let at = |row: u64| (row - self.values_start) as usize;
        at(rows.start)..at(rows.end)
    }
}

/// The pages of a column that hold wanted rows.
fn wanted_pages(reader: &BlockReader, table: Table, column: usize, wanted: &[Rows]) -> Vec<Wanted> {
    let (mut pages, mut first_row) = (Vec::new(), 0_u64);
    let mut wanted = wanted.iter().filter(|rows| !rows.is_empty()).peekable();
    for (group, row_group) in reader.index().table(table).row_groups.iter().enumerate() {
        let group_end = first_row + u64::from(row_group.rows);
        while wanted.next_if(|rows| rows.end <= first_row).is_some() {}
        if wanted.peek().is_none_or(|rows| rows.start >= group_end) {
            first_row = group_end;
            continue;
        }
        let chunk = &row_group.chunks[column];
        for page in &chunk.pages {
            let end = first_row + u64::from(page.rows);
            while wanted.next_if(|rows| rows.end <= first_row).is_some() {}
            if wanted.peek().is_some_and(|rows| rows.start < end) {
                pages.push(Wanted { group, first_row, page: *page, dictionary: chunk.dictionary });
            }
            first_row = end;
        }
    }
    pages
}
