//! One block's part of a read: the same sinks see its series and rows as see those of heads.
//!
//! ```text
//! postings ─► series of each partition ─► profiles: time (total, place of samples) ─► samples, and the partition's symbols
//! ```
//! A column is read only where the sink needs it, a page only where it holds rows of wanted series, and samples only of rows in range.

use std::sync::Arc;

use bytes::Bytes;

use super::{Filter, Needs, Presence, Sink};
use crate::block::{
    BlockError, BlockReader, ByteRange, PartitionIndex, ReadPort, Rows, Table, TableStream,
    load_symbols, profiles, samples,
};
use crate::hash::HashSecret;
use crate::head::{Row, Series, SeriesId};
use crate::machine::{Event, Machine};
use crate::pace::Pace;
use crate::profile::Step;
use crate::symbols::Symbols;

/// Rows of profiles that are looked at together.
const PROFILES_MAX: u64 = 4096;

/// What comes back of a visit.
type Visited = (Filter, Box<dyn Sink>, Result<(), BlockError>);

/// A block being read.
#[derive(Debug)]
pub(super) struct BlockVisit {
    block: Arc<BlockReader>,
    machine: Machine<Vec<ByteRange>, Vec<Bytes>, Visited>,
}

/// What a step of a visit led to.
#[derive(Debug)]
pub(super) enum VisitStep {
    More,
    NeedsData(Vec<ByteRange>),
    Done { filter: Filter, sink: Box<dyn Sink>, result: Result<(), BlockError> },
}

impl BlockVisit {
    pub(super) fn new(
        block: Arc<BlockReader>,
        filter: Filter,
        sink: Box<dyn Sink>,
        secret: &HashSecret,
    ) -> Self {
        let (reader, secret) = (Arc::clone(&block), secret.clone());
        let machine = Machine::new(move |port| async move {
            let pace = Pace::new();
            let mut pass = Pass { reader, filter, sink, secret, port, pace };
            let result = pass.run().await;
            (pass.filter, pass.sink, result)
        });
        Self { block, machine }
    }

    pub(super) fn block(&self) -> &Arc<BlockReader> {
        &self.block
    }

    pub(super) fn step(&mut self) -> VisitStep {
        match self.machine.step() {
            Event::More => VisitStep::More,
            Event::Asked(ranges) => VisitStep::NeedsData(ranges),
            Event::Done((filter, sink, result)) => VisitStep::Done { filter, sink, result },
        }
    }

    pub(super) fn provide(&mut self, bytes: Vec<Bytes>) {
        self.machine.answer(bytes);
    }

    /// Heap bytes of the visit and of what the sink has gathered.
    pub(super) fn bytes_held(&self) -> usize {
        self.machine.bytes_held()
    }
}

struct Pass {
    reader: Arc<BlockReader>,
    filter: Filter,
    sink: Box<dyn Sink>,
    secret: HashSecret,
    port: ReadPort,
    pace: Pace,
}

/// A row of `profiles` that is in range.
struct Found {
    series: SeriesId,
    time_ns: i64,
    total: i64,
    samples: Rows,
}

impl Pass {
    async fn run(&mut self) -> Result<(), BlockError> {
        let reader = Arc::clone(&self.reader);
        let mut matching = vec![true; reader.index().series.len()];
        for matcher in self.filter.matchers.matchers() {
            for (all, one) in matching.iter_mut().zip(reader.matching(matcher)) {
                *all &= one;
            }
            self.pace.turn().await;
        }
        for partition in &reader.index().partitions {
            let wanted = self.series(partition, &matching).await;
            if !wanted.is_empty() {
                self.rows(partition, &wanted).await?;
            }
        }
        Ok(())
    }

    /// Shows the sink the series of a partition; gives those whose rows are wanted, numbered within it.
    async fn series(&mut self, partition: &PartitionIndex, matching: &[bool]) -> Vec<SeriesId> {
        let index = self.reader.index();
        let mut wanted = Vec::new();
        let of_partition = partition.series.start as usize..partition.series.end as usize;
        for (at, matches) in of_partition.clone().zip(&matching[of_partition]) {
            let series = self.reader.series(at);
            let within = self.filter.from_ns..=self.filter.until_ns;
            if !matches
                || series.time_ns_max < self.filter.from_ns
                || series.time_ns_min > self.filter.until_ns
            {
                continue;
            }
            let sure = within.contains(&series.time_ns_min) || within.contains(&series.time_ns_max);
            let shown = Series {
                labels: index.labels_of(series),
                time_ns_min: series.time_ns_min,
                time_ns_max: series.time_ns_max,
                rows_count: series.profiles.len(),
            };
            let id = SeriesId((at as u64 - partition.series.start) as u32);
            let presence = if sure { Presence::Sure } else { Presence::Unsure };
            if self.sink.series(id, &shown, presence) {
                wanted.push(id);
            }
            self.pace.spend(16 + self.sink.series_cost()).await;
        }
        wanted
    }

    async fn rows(
        &mut self,
        partition: &PartitionIndex,
        wanted: &[SeriesId],
    ) -> Result<(), BlockError> {
        let needs = self.sink.needs();
        let symbols = match needs {
            Needs::Totals => Symbols::new(self.secret.clone()),
            Needs::Samples => {
                load_symbols(&self.reader, partition, &self.secret, &self.port, &self.pace).await?
            }
        };
        self.note_bytes_held(&symbols, 0);
        while self.sink.begin_rows(&symbols) == Step::More {
            self.pace.turn().await;
        }
        let series_of = |id: &SeriesId| {
            self.reader.series((partition.series.start + u64::from(id.0)) as usize).profiles
        };
        let ranges: Vec<(SeriesId, Rows)> = wanted.iter().map(|id| (*id, series_of(id))).collect();
        let rows: Vec<Rows> = ranges.iter().map(|(_, rows)| *rows).collect();
        let columns: &[usize] = match needs {
            Needs::Totals => &[profiles::TIME, profiles::TOTAL],
            Needs::Samples => {
                &[profiles::TIME, profiles::TOTAL, profiles::SAMPLES_START, profiles::SAMPLES_COUNT]
            }
        };
        let mut stream = TableStream::new(&self.reader, Table::Profiles, columns, &rows);
        let mut found = Vec::new();
        'series: for (id, rows) in ranges {
            let mut at = rows.start;
            while at < rows.end {
                let part = Rows { start: at, end: rows.end.min(at + PROFILES_MAX) };
                stream.ensure(part, &self.port, &self.pace).await?;
                self.find(partition, &stream, id, part, needs, &mut found)?;
                if needs == Needs::Totals {
                    for row in found.drain(..) {
                        let row = Row::stored(row.series, row.time_ns, row.total, &[], &[], 0);
                        self.sink.row(&symbols, &row);
                    }
                    if self.sink.has_enough() {
                        break 'series;
                    }
                }
                self.pace.spend(part.len() as usize).await;
                at = part.end;
            }
        }
        self.samples(partition, &symbols, found).await?;
        while self.sink.end_rows(&symbols) == Step::More {
            self.note_bytes_held(&symbols, 0);
            self.pace.turn().await;
        }
        self.note_bytes_held(&Symbols::new(self.secret.clone()), 0);
        Ok(())
    }

    /// Adds the rows in range of some rows of a series.
    fn find(
        &self,
        partition: &PartitionIndex,
        stream: &TableStream,
        series: SeriesId,
        rows: Rows,
        needs: Needs,
        found: &mut Vec<Found>,
    ) -> Result<(), BlockError> {
        let (times, totals) = (stream.numbers(0, rows), stream.numbers(1, rows));
        let of_partition = partition.tables[Table::Samples as usize];
        for (at, (time_ns, total)) in times.iter().zip(totals).enumerate() {
            if !(self.filter.from_ns..=self.filter.until_ns).contains(time_ns) {
                continue;
            }
            let mut of_row = Rows::default();
            if needs == Needs::Samples {
                let start = stream.numbers(2, rows)[at].cast_unsigned();
                let end = start.checked_add(stream.ids(3, rows)[at].into());
                let last = found.last().map_or(of_partition.start, |last: &Found| last.samples.end);
                let Some(end) = end.filter(|end| last <= start && *end <= of_partition.end) else {
                    let (file, row) = (Table::Profiles.file_name(), rows.start + at as u64);
                    let what = "samples of another profile";
                    return Err(BlockError::Row { file, row, what });
                };
                of_row = Rows { start, end };
            }
            found.push(Found { series, time_ns: *time_ns, total: *total, samples: of_row });
        }
        Ok(())
    }

    async fn samples(
        &mut self,
        partition: &PartitionIndex,
        symbols: &Symbols,
        found: Vec<Found>,
    ) -> Result<(), BlockError> {
        let wanted: Vec<Rows> = found.iter().map(|row| row.samples).collect();
        let columns = [samples::STACKTRACE_ID, samples::VALUE];
        let mut stream = TableStream::new(&self.reader, Table::Samples, &columns, &wanted);
        let stacks_of = partition.tables[Table::Stacktraces as usize];
        let stack_ids = stacks_of.start as u32..stacks_of.end as u32;
        for row in &found {
            stream.ensure(row.samples, &self.port, &self.pace).await?;
            let (stacks, values) = (stream.ids(0, row.samples), stream.numbers(1, row.samples));
            if let Some(at) = stacks.iter().position(|stack| !stack_ids.contains(stack)) {
                let (file, row) = (Table::Samples.file_name(), row.samples.start + at as u64);
                return Err(BlockError::Row { file, row, what: "a stack of another partition" });
            }
            let (series, base) = (row.series, stack_ids.start);
            let row = Row::stored(series, row.time_ns, row.total, stacks, values, base);
            self.sink.row(symbols, &row);
            let held = stream.bytes_held() + found.capacity() * size_of::<Found>();
            self.note_bytes_held(symbols, held);
            self.pace.spend(2 + stacks.len() / 8).await;
        }
        Ok(())
    }

    fn note_bytes_held(&self, symbols: &Symbols, more: usize) {
        self.port.note_bytes_held(self.sink.bytes_held() + symbols.bytes_held() + more);
    }
}
