//! From frozen heads to the files of a block, partition by partition, in bounded steps.
//!
//! Held at a time: one partition's order of rows and stacks (64 B a row, 16 B a node), and of each table the row group that is being
//! written. Nothing is copied of the heads but names on their way into a column.

mod labels;
mod partition;

use std::rc::Rc;
use std::sync::Arc;

use super::index::{Index, PartitionIndex, Rows, SeriesIndex, TableIndex, checksum};
use super::meta::{FileFacts, Meta, Stats};
use super::schema::Table;
use super::write::{Compressor, TableWriter, Tools};
use super::{BLOCK_VERSION, INDEX_FILE, META_FILE};
use crate::head::Frozen;
use crate::machine::{Event, Machine, Port};
use crate::pace::Pace;
use labels::Labels;

/// What a step of an encoder led to.
#[derive(Debug)]
pub enum EncodeStep {
    /// A stretch of work is done: others may have a turn.
    More,
    /// Bytes to append to a file of the block. `meta.json` comes last, whole.
    Write {
        /// The file's name.
        file: &'static str,
        /// What follows what was written to it before.
        bytes: Vec<u8>,
    },
    /// All files are written; `None` when the heads had no rows, and nothing was written.
    Finished(Option<Meta>),
}

/// Encodes one block. Drop it to give the block up; what was written of it is without meaning.
#[derive(Debug)]
pub struct BlockEncoder {
    machine: Machine<(&'static str, Vec<u8>), (), Option<Meta>>,
    pace: Rc<Pace>,
}

impl BlockEncoder {
    /// Begins a block of level 1 of these heads; `ulid` is its name.
    pub fn new(ulid: u128, frozen: Arc<Frozen>) -> Self {
        let pace = Rc::new(Pace::short());
        let of_pass = Rc::clone(&pace);
        let machine = Machine::new(move |port| async move {
            // The name is drawn at random, so nobody who sends values knows the seed.
            let mut writer = BlockWriter::new(port, of_pass, ulid as u64);
            for (key, head) in frozen.iter() {
                writer.partition(key, head).await;
            }
            writer.finish(ulid, frozen.tenant().as_str()).await
        });
        Self { machine, pace }
    }

    /// Goes on, for well under a millisecond.
    pub fn step(&mut self) -> EncodeStep {
        match self.machine.step() {
            Event::More => EncodeStep::More,
            Event::Asked((file, bytes)) => {
                self.machine.answer(());
                EncodeStep::Write { file, bytes }
            }
            Event::Done(meta) => EncodeStep::Finished(meta),
        }
    }

    /// Units of work of the longest step so far: at most [`crate::pace::STRETCH_UNITS_MAX`].
    pub fn longest_stretch(&self) -> usize {
        self.pace.longest_stretch()
    }

    /// Heap bytes held, about, beside the heads.
    pub fn bytes_held(&self) -> usize {
        self.machine.bytes_held()
    }
}

/// The block as far as it is written.
struct BlockWriter {
    port: Port<(&'static str, Vec<u8>), ()>,
    pace: Rc<Pace>,
    zstd: Compressor,
    seed: u64,
    /// In the order of [`Table::ALL`].
    tables: Vec<TableWriter>,
    labels: Labels,
    series: Vec<SeriesIndex>,
    partitions: Vec<PartitionIndex>,
    locations: u64,
    stats: Stats,
    times_ns: (i64, i64),
}

impl BlockWriter {
    fn new(port: Port<(&'static str, Vec<u8>), ()>, pace: Rc<Pace>, seed: u64) -> Self {
        Self {
            port,
            pace,
            zstd: Compressor::new(),
            seed,
            tables: Table::ALL.map(TableWriter::new).into(),
            labels: Labels::default(),
            series: Vec::new(),
            partitions: Vec::new(),
            locations: 0,
            stats: Stats::default(),
            times_ns: (i64::MAX, i64::MIN),
        }
    }

    fn table(&mut self, table: Table) -> &mut TableWriter {
        &mut self.tables[table as usize]
    }

    async fn begin(&mut self, table: Table, rows: u64) {
        let mut tools = Tools { pace: &self.pace, zstd: &mut self.zstd, seed: self.seed };
        let bytes = self.tables[table as usize].begin_partition(rows, &mut tools).await;
        self.write(table.file_name(), bytes).await;
    }

    async fn begin_kind(&mut self, table: Table) {
        let mut tools = Tools { pace: &self.pace, zstd: &mut self.zstd, seed: self.seed };
        let bytes = self.tables[table as usize].begin_kind(&mut tools).await;
        self.write(table.file_name(), bytes).await;
    }

    async fn flush_full(&mut self, table: Table) {
        let mut tools = Tools { pace: &self.pace, zstd: &mut self.zstd, seed: self.seed };
        let bytes = self.tables[table as usize].flush_full(&mut tools).await;
        self.write(table.file_name(), bytes).await;
    }

    async fn write(&self, file: &'static str, bytes: Option<Vec<u8>>) {
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
            self.port.ask((file, bytes)).await;
        }
    }

    /// Tells what is held, `scratch` for the partition.
    fn note_bytes_held(&self, scratch: usize) {
        let tables: usize = self.tables.iter().map(TableWriter::bytes_held).sum();
        let index = self.series.len() * size_of::<SeriesIndex>() + self.labels.bytes_held();
        self.port.note_bytes_held(scratch + tables + index + self.zstd.bytes_held());
    }

    async fn finish(mut self, ulid: u128, tenant: &str) -> Option<Meta> {
        if self.partitions.is_empty() {
            return None;
        }
        let mut files = Vec::new();
        let mut tables: Vec<TableIndex> = Vec::new();
        for (table, writer) in Table::ALL.into_iter().zip(std::mem::take(&mut self.tables)) {
            let mut tools = Tools { pace: &self.pace, zstd: &mut self.zstd, seed: self.seed };
            let (bytes, index, facts) = writer.finish(&mut tools).await;
            self.write(table.file_name(), Some(bytes)).await;
            tables.push(index);
            files.push(facts);
            self.pace.turn().await;
        }
        let labels = std::mem::take(&mut self.labels).finish(&mut self.series, &self.pace).await;
        self.stats.partitions = self.partitions.len() as u64;
        self.stats.series = self.series.len() as u64;
        self.stats.profile_rows = tables[Table::Profiles as usize].rows;
        self.stats.samples = tables[Table::Samples as usize].rows;
        let (series, partitions) =
            (std::mem::take(&mut self.series), std::mem::take(&mut self.partitions));
        let index = Index { labels, series, partitions, tables };
        if cfg!(debug_assertions) {
            let laws = index.validate(BLOCK_VERSION, &self.pace).await;
            assert_eq!(laws, Ok(()), "a writer breaks no law of its format");
        }
        let bytes = index.to_bytes(&mut self.zstd, &self.pace).await;
        index.free(&self.pace).await;
        let checksum = checksum(&bytes, &self.pace).await;
        files.push(FileFacts { name: INDEX_FILE.to_owned(), bytes: bytes.len() as u64, checksum });
        self.write(INDEX_FILE, Some(bytes)).await;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let meta = Meta {
            version: BLOCK_VERSION,
            ulid: ulid::Ulid::from(ulid).to_string(),
            tenant: tenant.to_owned(),
            level: 1,
            min_time_ns: self.times_ns.0,
            max_time_ns: self.times_ns.1,
            stats: self.stats,
            files,
        };
        self.write(META_FILE, Some(meta.to_bytes())).await;
        Some(meta)
    }
}

/// Rows from where a table stood to where it stands.
fn rows_since(start: u64, table: &TableWriter) -> Rows {
    Rows { start, end: table.rows() }
}
