//! One column of the open row group: its values until they fill a page, its pages until the row group is whole.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::column::page::{CompressedPage, Page as ParquetPage, PageWriter};
use parquet::data_type::ByteArray;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use xxhash_rust::xxh3::xxh3_64;

use super::super::index::{ChunkIndex, PageIndex};
use super::super::schema::{Coding, Column, Kind};
use super::super::{DICTIONARY_BYTES_MAX, PAGE_BYTES_TARGET, PAGE_ROWS_MAX};
use super::BYTES_PER_UNIT;
use super::compress::{Compressor, Level};
use super::dictionary::{Dictionary, Entry};
use super::encoding::{self, Width};
use crate::pace::Pace;

/// Values that are encoded in the time of a unit of a pace.
const VALUES_PER_UNIT: usize = 8;

/// Texts that are encoded in that time.
const TEXTS_PER_UNIT: usize = 4;

/// A text longer than this is not among the footer's least and greatest.
const BOUND_BYTES_MAX: usize = 64;

/// Writing to memory what is laid out as Parquet wants it cannot fail.
const IN_MEMORY: &str = "Parquet in memory is written as its schema says";

/// Values of one column on their way into a table.
#[derive(Debug)]
pub(super) struct ColumnBatch {
    pub(super) values: Values,
    /// Of an optional column: whether there is a value, by row.
    pub(super) present: Vec<bool>,
    pub(super) is_optional: bool,
}

/// Values that are there.
#[derive(Debug)]
pub(super) enum Values {
    Numbers(Vec<u64>),
    Texts(Vec<Bytes>),
}

impl Values {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Texts(Vec::new()),
            Kind::U32 | Kind::I64 | Kind::U64 | Kind::Time => Self::Numbers(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Numbers(values) => values.clear(),
            Self::Texts(values) => values.clear(),
        }
    }
}

impl ColumnBatch {
    pub(super) fn new(column: &Column) -> Self {
        let values = Values::of(column.kind);
        Self { values, present: Vec::new(), is_optional: column.is_optional }
    }

    /// Notes whether the next row has a value, and gives it back.
    pub(super) fn level<T>(&mut self, value: Option<T>) -> Option<T> {
        if self.is_optional {
            self.present.push(value.is_some());
        } else {
            assert!(value.is_some(), "a required column has a value in every row");
        }
        value
    }

    pub(super) fn rows(&self) -> usize {
        if self.is_optional { self.present.len() } else { self.values.len() }
    }

    pub(super) fn clear(&mut self) {
        self.present.clear();
        self.values.clear();
    }
}

/// What page after page needs.
pub(in super::super) struct Tools<'a> {
    pub(in super::super) pace: &'a Pace,
    pub(in super::super) zstd: &'a mut Compressor,
    /// Of the tables of dictionaries.
    pub(in super::super) seed: u64,
}

/// One page as it lies in the file.
struct Page {
    bytes: Vec<u8>,
    /// Its place is that in its chunk.
    entry: PageIndex,
    /// Before compression, header included.
    bytes_uncompressed: usize,
    encoding: Encoding,
    is_dictionary: bool,
}

/// Values that are in no page yet.
enum Open {
    /// Of the open page.
    Numbers(Vec<u64>),
    /// Of the open page, and their bytes.
    Texts(Vec<Bytes>, usize),
    /// Of the whole chunk: entries, and by row the number of one.
    NumberEntries(Dictionary<u64>, Vec<u32>),
    TextEntries(Dictionary<Bytes>, Vec<u32>),
}

/// Writes one column chunk.
pub(super) struct ColumnWriter {
    column: Column,
    level: Level,
    open: Open,
    /// Of an optional column: rows of the open page.
    present: Vec<bool>,
    rows: u64,
    nulls: u64,
    pages: Vec<Page>,
    pages_bytes: usize,
    /// Least and greatest number.
    numbers: Option<(u64, u64)>,
    /// Least and greatest text.
    texts: Option<(Bytes, Bytes)>,
}

impl ColumnWriter {
    pub(super) fn new(column: Column, level: Level, seed: u64) -> Self {
        let open = match (column.coding, column.kind) {
            (Coding::Dictionary, Kind::Text) => {
                Open::TextEntries(Dictionary::new(seed, DICTIONARY_BYTES_MAX), Vec::new())
            }
            (Coding::Dictionary, _) => Open::NumberEntries(Dictionary::new(seed, 0), Vec::new()),
            (_, Kind::Text) => Open::Texts(Vec::new(), 0),
            _ => Open::Numbers(Vec::new()),
        };
        assert!(
            !column.is_optional || column.coding != Coding::Dictionary,
            "dictionaries are of columns without nulls"
        );
        Self {
            column,
            level,
            open,
            present: Vec::new(),
            rows: 0,
            nulls: 0,
            pages: Vec::new(),
            pages_bytes: 0,
            numbers: None,
            texts: None,
        }
    }

    /// Heap bytes held.
    pub(super) fn bytes_held(&self) -> usize {
        let open = match &self.open {
            Open::Numbers(values) => values.capacity() * size_of::<u64>(),
            Open::Texts(values, bytes) => values.capacity() * size_of::<Bytes>() + bytes,
            Open::NumberEntries(dictionary, rows) => dictionary.bytes_held() + rows.capacity() * 4,
            Open::TextEntries(dictionary, rows) => dictionary.bytes_held() + rows.capacity() * 4,
        };
        open + self.present.capacity() + self.pages_bytes
    }

    /// Bytes of the row group so far.
    pub(super) fn bytes_used(&self) -> usize {
        let open = match &self.open {
            Open::Numbers(values) => values.len() * size_of::<u64>(),
            Open::Texts(values, bytes) => values.len() * size_of::<Bytes>() + bytes,
            Open::NumberEntries(dictionary, rows) => dictionary.bytes_used() + rows.len() * 4,
            Open::TextEntries(dictionary, rows) => dictionary.bytes_used() + rows.len() * 4,
        };
        open + self.present.len() + self.pages_bytes
    }

    /// Takes a batch over, and ends the page if it is full.
    pub(super) async fn append(&mut self, batch: &ColumnBatch, tools: &mut Tools<'_>) {
        self.rows += batch.rows() as u64;
        self.nulls += (batch.rows() - batch.values.len()) as u64;
        self.present.extend_from_slice(&batch.present);
        let mut moved = 0;
        let is_full = match (&mut self.open, &batch.values) {
            (Open::Numbers(open), Values::Numbers(values)) => {
                note_bounds(&mut self.numbers, values, self.column.kind);
                open.extend_from_slice(values);
                open.len().max(self.present.len()) >= PAGE_ROWS_MAX
            }
            (Open::Texts(open, bytes), Values::Texts(values)) => {
                *bytes += values.iter().map(Bytes::len).sum::<usize>();
                open.extend_from_slice(values);
                open.len().max(self.present.len()) >= PAGE_ROWS_MAX || *bytes >= PAGE_BYTES_TARGET
            }
            (Open::NumberEntries(dictionary, rows), Values::Numbers(values)) => {
                note_bounds(&mut self.numbers, values, self.column.kind);
                rows.extend(values.iter().map(|value| dictionary.number(value)));
                moved = dictionary.take_moved();
                false
            }
            (Open::TextEntries(dictionary, rows), Values::Texts(values)) => {
                let mut last: Option<(&Bytes, u32)> = None;
                rows.extend(values.iter().map(|value| {
                    let number = match last {
                        Some((last, number)) if last == value => number,
                        _ => dictionary.number(value),
                    };
                    last = Some((value, number));
                    number
                }));
                moved = dictionary.take_moved();
                false
            }
            _ => unreachable!("batches have the kinds of their columns"),
        };
        tools.pace.spend(batch.rows() + moved / VALUES_PER_UNIT).await;
        if is_full {
            self.end_page(tools).await;
        }
    }

    /// Ends the chunk: its place in the index, its bytes, and what the footer says of it. It begins at `offset` of the file. The
    /// next row group's begins in the room that this one had: memory that is touched first costs as much as encoding into it.
    pub(super) async fn end_chunk(
        &mut self,
        description: ColumnDescPtr,
        offset: u64,
        tools: &mut Tools<'_>,
    ) -> (ChunkIndex, Vec<u8>, ColumnChunkMetaData) {
        let mut open = std::mem::replace(&mut self.open, Open::Numbers(Vec::new()));
        match &mut open {
            Open::NumberEntries(dictionary, rows) => {
                let width = width_of(self.column.kind);
                let plain = |entries: &[u64], body: &mut Vec<u8>| {
                    encoding::plain_numbers(entries.iter().copied(), width, body);
                };
                self.end_dictionary(dictionary, rows, plain, tools).await;
                dictionary.clear();
                rows.clear();
            }
            Open::TextEntries(dictionary, rows) => {
                let plain = |entries: &[Bytes], body: &mut Vec<u8>| {
                    encoding::plain_texts(entries.iter().map(|text| &text[..]), body);
                };
                let entries = dictionary.entries();
                self.texts = entries.iter().min().cloned().zip(entries.iter().max().cloned());
                self.end_dictionary(dictionary, rows, plain, tools).await;
                dictionary.clear();
                rows.clear();
            }
            Open::Numbers(_) | Open::Texts(..) => {
                std::mem::swap(&mut self.open, &mut open);
                self.end_page(tools).await;
                std::mem::swap(&mut self.open, &mut open);
            }
        }
        self.open = open;
        let of_data = self.pages.iter().filter(|page| !page.is_dictionary);
        let rows: u64 = of_data.map(|page| u64::from(page.entry.rows)).sum();
        assert_eq!(rows, self.rows, "pages hold the rows of their chunk");
        let units = self.pages_bytes / BYTES_PER_UNIT;
        tools.pace.make_room(units).await;
        let chunk = self.take_chunk(description, offset);
        tools.pace.spend(units).await;
        chunk
    }

    fn take_chunk(
        &mut self,
        description: ColumnDescPtr,
        offset: u64,
    ) -> (ChunkIndex, Vec<u8>, ColumnChunkMetaData) {
        let statistics = self.statistics(description.physical_type());
        let pages_bytes = std::mem::take(&mut self.pages_bytes);
        let (mut chunk, mut bytes) = (ChunkIndex::default(), Vec::with_capacity(pages_bytes));
        let (mut encodings, mut uncompressed) = (vec![Encoding::RLE], 0);
        for mut page in self.pages.drain(..) {
            page.entry.offset = offset + bytes.len() as u64;
            bytes.extend_from_slice(&page.bytes);
            uncompressed += page.bytes_uncompressed;
            if !encodings.contains(&page.encoding) {
                encodings.push(page.encoding);
            }
            if page.is_dictionary {
                chunk.dictionary = Some(page.entry);
            } else {
                chunk.pages.push(page.entry);
            }
        }
        // Places in the chunk: what appends it to the file moves them.
        let data_at = chunk.dictionary.map_or(0, |page| i64::from(page.bytes));
        let metadata = ColumnChunkMetaData::builder(description)
            .set_encodings(encodings)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_num_values(std::mem::take(&mut self.rows).cast_signed())
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(uncompressed as i64)
            .set_data_page_offset(data_at)
            .set_dictionary_page_offset(chunk.dictionary.map(|_| 0));
        let metadata = match statistics {
            Some(statistics) => metadata.set_statistics(statistics),
            None => metadata,
        };
        (self.nulls, self.numbers, self.texts) = (0, None, None);
        (chunk, bytes, metadata.build().expect(IN_MEMORY))
    }

    /// Ends the open page of a column without dictionary.
    async fn end_page(&mut self, tools: &mut Tools<'_>) {
        let units = match &self.open {
            Open::Texts(values, _) => values.len() / TEXTS_PER_UNIT,
            Open::Numbers(values) => values.len() / VALUES_PER_UNIT,
            Open::NumberEntries(..) | Open::TextEntries(..) => 0,
        };
        tools.pace.make_room(units).await;
        let mut body = Vec::new();
        if self.column.is_optional {
            encoding::levels(&self.present, &mut body);
        }
        let (encoding, count) = match &mut self.open {
            Open::Numbers(values) => {
                let width = width_of(self.column.kind);
                encoding::delta(values, width, &mut body);
                let count = values.len();
                values.clear();
                (Encoding::DELTA_BINARY_PACKED, count)
            }
            Open::Texts(values, bytes) => {
                encoding::prefixes(values.iter().map(|text| &text[..]), &mut body);
                let count = values.len();
                values.clear();
                *bytes = 0;
                (Encoding::DELTA_BYTE_ARRAY, count)
            }
            Open::NumberEntries(..) | Open::TextEntries(..) => {
                unreachable!("a dictionary's pages are made when its chunk is whole")
            }
        };
        let rows = if self.column.is_optional { self.present.len() } else { count };
        self.present.clear();
        if rows > 0 {
            tools.pace.spend(units).await;
            self.page(&body, encoding, rows, false, tools).await;
        }
    }

    /// Makes the pages of a column with a dictionary, which is left out where it would be too large.
    async fn end_dictionary<T: Entry>(
        &mut self,
        dictionary: &Dictionary<T>,
        rows: &[u32],
        plain: impl Fn(&[T], &mut Vec<u8>),
        tools: &mut Tools<'_>,
    ) {
        let entries = dictionary.entries();
        let of_numbers = |numbers: &[u32]| -> Vec<T> {
            numbers.iter().map(|number| entries[*number as usize].clone()).collect()
        };
        let mut body = Vec::new();
        if !dictionary.is_whole() {
            let mut from = 0;
            while from < rows.len() {
                let (mut to, mut bytes) = (from, 0);
                while to < rows.len() && to - from < PAGE_ROWS_MAX && bytes < PAGE_BYTES_TARGET {
                    bytes += size_of::<u64>() + entries[rows[to] as usize].heap_bytes();
                    to += 1;
                }
                let units = (to - from) / TEXTS_PER_UNIT;
                tools.pace.make_room(units).await;
                body.clear();
                plain(&of_numbers(&rows[from..to]), &mut body);
                tools.pace.spend(units).await;
                self.page(&body, Encoding::PLAIN, to - from, false, tools).await;
                from = to;
            }
            return;
        }
        let order = dictionary.sorted(tools.pace).await;
        tools.pace.make_room(order.len() / VALUES_PER_UNIT).await;
        let mut ranks = vec![0; order.len()];
        for (rank, number) in (0..).zip(&order) {
            ranks[*number as usize] = rank;
        }
        plain(&of_numbers(&order), &mut body);
        tools.pace.spend(order.len() / VALUES_PER_UNIT).await;
        self.page(&body, Encoding::PLAIN, order.len(), true, tools).await;
        let bytes = if order.len() <= 1 << 8 { 1 } else { 2 };
        for rows in rows.chunks(PAGE_ROWS_MAX) {
            let units = rows.len() / VALUES_PER_UNIT;
            tools.pace.make_room(units).await;
            body.clear();
            let ranks = rows.iter().map(|number| ranks[*number as usize]);
            encoding::indexes(ranks, bytes, &mut body);
            tools.pace.spend(units).await;
            self.page(&body, Encoding::RLE_DICTIONARY, rows.len(), false, tools).await;
        }
    }

    /// Compresses a page and puts its header before it.
    async fn page(
        &mut self,
        body: &[u8],
        encoding: Encoding,
        rows: usize,
        is_dictionary: bool,
        tools: &mut Tools<'_>,
    ) {
        let mut compressed = Vec::new();
        tools.zstd.compress(body, self.level, tools.pace, &mut compressed).await;
        let (buf, num_values) = (Bytes::from(compressed), rows as u32);
        let page = if is_dictionary {
            ParquetPage::DictionaryPage { buf, num_values, encoding, is_sorted: false }
        } else {
            ParquetPage::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            }
        };
        let page = CompressedPage::new(page, body.len());
        let mut sink = TrackedWrite::new(Vec::with_capacity(page.compressed_size() + 64));
        let spec = SerializedPageWriter::new(&mut sink).write_page(page).expect(IN_MEMORY);
        let bytes = sink.into_inner().expect(IN_MEMORY);
        let entry = PageIndex {
            offset: 0,
            bytes: bytes.len() as u32,
            header_bytes: (spec.uncompressed_size - body.len()) as u32,
            values_bytes: u32::try_from(body.len()).expect("a page is far below 4 GiB"),
            rows: num_values,
            encoding: encoding as u8,
            checksum: xxh3_64(&bytes),
        };
        self.pages_bytes += bytes.len();
        let bytes_uncompressed = spec.uncompressed_size;
        self.pages.push(Page { bytes, entry, bytes_uncompressed, encoding, is_dictionary });
    }

    /// Least and greatest value, by which other readers leave row groups out.
    fn statistics(&self, physical: Type) -> Option<Statistics> {
        let nulls = Some(self.nulls);
        match physical {
            Type::INT32 => {
                let (min, max) = self.numbers?;
                let number = |value: u64| Some((value as u32).cast_signed());
                Some(Statistics::int32(number(min), number(max), None, nulls, false))
            }
            Type::INT64 => {
                let (min, max) = self.numbers?;
                let number = |value: u64| Some(value.cast_signed());
                Some(Statistics::int64(number(min), number(max), None, nulls, false))
            }
            _ => {
                let (min, max) = self.texts.clone()?;
                let is_short = min.len().max(max.len()) <= BOUND_BYTES_MAX;
                let text = |text| Some(ByteArray::from(text));
                is_short.then(|| Statistics::byte_array(text(min), text(max), None, nulls, false))
            }
        }
    }
}

fn width_of(kind: Kind) -> Width {
    match kind {
        Kind::U32 => Width::Bits32,
        Kind::I64 | Kind::U64 | Kind::Time => Width::Bits64,
        Kind::Text => unreachable!("texts have no width"),
    }
}

fn note_bounds(bounds: &mut Option<(u64, u64)>, values: &[u64], kind: Kind) {
    // Signed numbers are compared as unsigned ones when their sign is turned.
    let turn = match kind {
        Kind::I64 | Kind::Time => 1 << 63,
        Kind::U32 | Kind::U64 | Kind::Text => 0,
    };
    let least = values.iter().map(|value| value ^ turn).min();
    let greatest = values.iter().map(|value| value ^ turn).max();
    let (Some(least), Some(greatest)) = (least, greatest) else { return };
    *bounds = Some(match *bounds {
        Some((min, max)) => ((min ^ turn).min(least) ^ turn, (max ^ turn).max(greatest) ^ turn),
        None => (least ^ turn, greatest ^ turn),
    });
}
