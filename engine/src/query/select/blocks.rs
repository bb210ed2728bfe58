//! The blocks' part of a read, one after the other: the same sinks see their series and rows as see those of heads.
//!
//! ```text
//! postings ─► series in range ─► texts alone: no more is read
//!                             ├► totals: profiles' time and total, of all partitions in one pass
//!                             └► samples: profiles ─► symbols of partitions with rows in range (cached) ─► their samples
//! ```
//! A column is read only where the sink needs it, a page only where it holds rows of wanted series, and samples only of rows in range.
//! A page that holds rows of several partitions is read and decoded once.
//!
//! Blocks share tables of symbols where the cache has room for them. What a sink makes of a table's rows is put aside until the last block
//! is read, so that the answer has one part of the table and not one of each block. A table that the cache gives up ends at once: so a
//! read never answers for more symbols than those of one partition of one block, beside what the cache took from under it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::{Filter, Needs, Presence, SeriesFacts, SeriesLabels, Sink, Texts};
use crate::block::{
    BlockError, BlockReader, ByteRange, Joined, PartitionIndex, ReadPort, Rows, SampleRows,
    SampleStream, Stored, SymbolCache, SymbolLoader, Table, TableStream, ValueIndex, profiles,
};
use crate::hash::HashSecret;
use crate::head::{Row, SeriesId};
use crate::machine::{Event, Machine};
use crate::pace::{self, Pace};
use crate::profile::Step;
use crate::symbols::Symbols;

/// Rows of profiles that are looked at together.
const PROFILES_MAX: u64 = 4096;

/// What comes back of a visit: the sink, or the place of the block that could not be read.
type Visited = Result<Box<dyn Sink>, (usize, BlockError)>;

/// Blocks being read.
#[derive(Debug)]
pub(super) struct BlocksVisit {
    blocks: Rc<[Arc<BlockReader>]>,
    /// The place of the one being read.
    at: Rc<Cell<usize>>,
    machine: Machine<Vec<ByteRange>, Vec<Bytes>, Visited>,
}

/// What a step of a visit led to.
#[derive(Debug)]
pub(super) enum VisitStep {
    More,
    NeedsData { block: Arc<BlockReader>, ranges: Vec<ByteRange> },
    Done(Result<Box<dyn Sink>, (Arc<BlockReader>, BlockError)>),
}

impl BlocksVisit {
    pub(super) fn new(
        blocks: Vec<Arc<BlockReader>>,
        filter: Filter,
        sink: Box<dyn Sink>,
        secret: &HashSecret,
        cache: &SymbolCache,
    ) -> Self {
        let (blocks, at): (Rc<[_]>, _) = (blocks.into(), Rc::<Cell<usize>>::default());
        let (secret, cache) = (secret.clone(), cache.clone());
        let (to_read, reading) = (Rc::clone(&blocks), Rc::clone(&at));
        let machine = Machine::new(move |port| async move {
            let mut pass = Pass {
                reader: Arc::clone(&to_read[0]),
                is_last: false,
                filter,
                sink,
                secret,
                aside: BTreeMap::new(),
                tables_removed: cache.tables_removed(),
                cache,
                port,
                pace: Pace::new(),
            };
            for (at, block) in to_read.iter().enumerate() {
                reading.set(at);
                (pass.reader, pass.is_last) = (Arc::clone(block), at + 1 == to_read.len());
                pass.block().await.map_err(|error| (at, error))?;
            }
            pass.end_aside(|_| true).await;
            Ok(pass.sink)
        });
        Self { blocks, at, machine }
    }

    pub(super) fn step(&mut self) -> VisitStep {
        let block = |at: usize| Arc::clone(&self.blocks[at]);
        match self.machine.step() {
            Event::More => VisitStep::More,
            Event::Asked(ranges) => VisitStep::NeedsData { block: block(self.at.get()), ranges },
            Event::Done(result) => {
                VisitStep::Done(result.map_err(|(at, error)| (block(at), error)))
            }
        }
    }

    pub(super) fn provide(&mut self, bytes: Vec<Bytes>) {
        self.machine.answer(bytes);
    }

    /// Heap bytes of the visit and of what the sink has gathered, but for symbols that the cache has.
    pub(super) fn bytes_held(&self) -> usize {
        self.machine.bytes_held()
    }
}

struct Pass {
    /// The block being read, and whether no other follows.
    reader: Arc<BlockReader>,
    is_last: bool,
    filter: Filter,
    sink: Box<dyn Sink>,
    secret: HashSecret,
    /// Tables of which the sink has put something aside, by number.
    aside: BTreeMap<u64, Rc<Joined>>,
    cache: SymbolCache,
    /// Tables that the cache had given up when this was last looked at.
    tables_removed: u64,
    port: ReadPort,
    pace: Pace,
}

/// Samples of rows that are shown as one.
const RUN_SAMPLES_MAX: u64 = 8192;

/// A row of `profiles` that is in range; or several whose samples follow one another, with series and time of the first.
#[derive(Clone, Copy)]
struct Found {
    series: SeriesId,
    time_ns: i64,
    total: i64,
    samples: SampleRows,
}

/// A partition with rows in range.
struct FoundIn<'a> {
    partition: &'a PartitionIndex,
    stored: Option<Stored>,
    /// Places in the list of found rows.
    rows: Range<usize>,
}

impl Pass {
    async fn block(&mut self) -> Result<(), BlockError> {
        let presences = self.presences().await;
        if presences.iter().all(Option::is_none) {
            return Ok(());
        }
        match self.sink.needs() {
            Needs::Totals => self.totals(&presences).await,
            Needs::Samples | Needs::Sums => self.samples(&presences).await,
        }
    }

    /// By series: whether it matches, and may have rows in range. One test for each value of a matcher's label, not for each series.
    async fn presences(&self) -> Vec<Option<Presence>> {
        let index = self.reader.index();
        let mut presences = Vec::with_capacity(index.series.len());
        for series in &index.series {
            presences.push(self.filter.presence_of(series.time_ns_min, series.time_ns_max));
            self.pace.spend(1).await;
        }
        for matcher in self.filter.matchers.matchers() {
            let mut matching = vec![matcher.matches(None); presences.len()];
            let label = index.labels.binary_search_by(|l| l.name.as_str().cmp(matcher.name()));
            for value in label.map_or(&[][..], |at| &index.labels[at].values) {
                let holds = matcher.matches(Some(&value.value));
                for series in &value.series {
                    matching[*series as usize] = holds;
                }
                self.pace.spend(matcher.cost() + value.series.len() / 8).await;
            }
            for (presence, matches) in presences.iter_mut().zip(matching) {
                if !matches {
                    *presence = None;
                }
            }
            self.pace.spend(presences.len() / 8).await;
        }
        presences
    }

    /// Shows the sink a series of those that the index counts from `first` on; says whether its rows are wanted.
    async fn show(&mut self, at: usize, first: u64, presence: Presence) -> bool {
        let series = self.reader.series(at);
        let shown = SeriesFacts {
            labels: SeriesLabels::Stored(self.reader.index(), series),
            time_ns_min: series.time_ns_min,
            time_ns_max: series.time_ns_max,
        };
        self.pace.spend(4 + self.sink.series_cost()).await;
        self.sink.series(SeriesId((at as u64 - first) as u32), &shown, presence)
    }

    /// What needs no stacks: all partitions are one.
    async fn totals(&mut self, presences: &[Option<Presence>]) -> Result<(), BlockError> {
        let left_open = match self.sink.texts() {
            Some(asked) => Some(self.texts(&asked, presences).await),
            None => None,
        };
        let mut wanted = Vec::new();
        for (at, presence) in presences.iter().enumerate() {
            let is_open = left_open.as_ref().is_none_or(|open| open.contains(&(at as u32)));
            let Some(presence) = presence.filter(|_| is_open) else { continue };
            if self.show(at, 0, presence).await {
                wanted.push(at);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let reader = Arc::clone(&self.reader);
        let nothing = Symbols::new(self.secret.clone());
        self.note_bytes_held(0);
        while self.sink.begin_rows(&nothing) == Step::More {
            self.pace.turn().await;
        }
        let rows: Vec<Rows> = wanted.iter().map(|at| reader.series(*at).profiles).collect();
        let columns = [profiles::TIME, profiles::TOTAL];
        let mut stream = TableStream::new(&reader, Table::Profiles, &columns, &rows);
        for (at, rows) in wanted.into_iter().zip(rows) {
            let mut start = rows.start;
            while start < rows.end && !self.sink.has_enough() {
                let part = Rows { start, end: rows.end.min(start + PROFILES_MAX) };
                stream.ensure(part, &self.port, &self.pace).await?;
                let (times, totals) = (stream.numbers(0, part), stream.numbers(1, part));
                let within = self.within(times, part)?;
                let (times, totals) = (&times[within.clone()], &totals[within]);
                self.sink.totals(&nothing, SeriesId(at as u32), times, totals);
                self.note_bytes_held(stream.bytes_held());
                self.pace.spend(8 + part.len() as usize / 4).await;
                start = part.end;
            }
        }
        while self.sink.end_rows(&nothing) == Step::More {
            self.note_bytes_held(0);
            self.pace.turn().await;
        }
        self.note_bytes_held(0);
        Ok(())
    }

    /// Tells the sink those texts that a series surely in range has; gives the series that leave others open.
    async fn texts(&mut self, asked: &Texts, presences: &[Option<Presence>]) -> BTreeSet<u32> {
        let reader = Arc::clone(&self.reader);
        let mut left_open = BTreeSet::new();
        for label in &reader.index().labels {
            match asked {
                Texts::Names => {
                    self.text(&label.name, &label.values, presences, &mut left_open).await;
                }
                Texts::ValuesOf(name) if *name == label.name => {
                    for value in &label.values {
                        let values = std::slice::from_ref(value);
                        self.text(&value.value, values, presences, &mut left_open).await;
                    }
                }
                Texts::ValuesOf(_) => {}
            }
        }
        left_open
    }

    /// Looks for a series that has one of these values.
    async fn text(
        &mut self,
        text: &str,
        values: &[ValueIndex],
        presences: &[Option<Presence>],
        left_open: &mut BTreeSet<u32>,
    ) {
        self.pace.spend(1).await;
        if self.sink.has_text(text) {
            return;
        }
        let mut unsure = Vec::new();
        for value in values {
            for (looked_at, series) in value.series.iter().enumerate() {
                match presences[*series as usize] {
                    Some(Presence::Sure) => {
                        self.pace.spend(looked_at / 8).await;
                        return self.sink.add_text(text);
                    }
                    Some(Presence::Unsure) => unsure.push(*series),
                    None => {}
                }
            }
            self.pace.spend(1 + value.series.len() / 8).await;
        }
        left_open.extend(unsure);
    }

    /// The rows in range of some rows of a series, which are in the order of time.
    fn within(&self, times_ns: &[i64], rows: Rows) -> Result<Range<usize>, BlockError> {
        if !times_ns.is_sorted() {
            let (file, row) = (Table::Profiles.file_name(), rows.start);
            return Err(BlockError::Row { file, row, what: "times of a series are out of order" });
        }
        let start = times_ns.partition_point(|time| *time < self.filter.from_ns);
        let end = times_ns.partition_point(|time| *time <= self.filter.until_ns);
        Ok(start..end.max(start))
    }

    async fn samples(&mut self, presences: &[Option<Presence>]) -> Result<(), BlockError> {
        let reader = Arc::clone(&self.reader);
        let (found, mut partitions) = self.find(&reader, presences).await?;
        for of in &mut partitions {
            of.stored = self.cache.get(&reader, of.partition);
        }
        let missing = partitions.iter().filter(|of| of.stored.is_none()).map(|of| of.partition);
        let mut loader = SymbolLoader::new(&reader, &missing.collect::<Vec<_>>());
        let mut stream = SampleStream::new(&reader, found.iter().map(|row| row.samples));
        let found_bytes = found.capacity() * size_of::<Found>();
        let mut lost_bytes = 0;
        for at in 0..partitions.len() {
            if self.tables_removed != self.cache.tables_removed() {
                self.tables_removed = self.cache.tables_removed();
                self.end_aside(|joined| !joined.is_kept()).await;
                let to_come = partitions[at..].iter().filter_map(|of| of.stored.as_ref());
                lost_bytes = to_come.map(|stored| stored.joined.bytes_unkept()).sum();
            }
            let FoundIn { partition, stored, rows } = &mut partitions[at];
            let mut bytes = found_bytes + lost_bytes;
            let stored = if let Some(stored) = stored.take() {
                stored
            } else {
                self.note_bytes_held(bytes + loader.bytes_held());
                let joined = self.cache.table_for(&reader, partition, &self.secret);
                let (port, pace) = (&self.port, &self.pace);
                let loaded = loader.load(partition, &joined, &self.cache, port, pace);
                let stored = loaded.await?;
                if !self.cache.put(&reader, partition, &stored) {
                    bytes += stored.nodes_bytes();
                }
                bytes += stored.joined.bytes_unkept();
                stored
            };
            let first = partition.series.start;
            let of_partition = &presences[first as usize..partition.series.end as usize];
            for (at, presence) in of_partition.iter().enumerate() {
                if let Some(presence) = presence {
                    self.show(first as usize + at, first, *presence).await;
                }
            }
            let joined = &stored.joined;
            bytes += loader.bytes_held();
            self.note_bytes_held(bytes);
            self.sink.take_up(joined.number());
            self.aside.remove(&joined.number());
            while self.sink.begin_rows(&joined.symbols()) == Step::More {
                self.pace.turn().await;
            }
            self.rows(partition, &stored, &found[rows.clone()], &mut stream, bytes).await?;
            bytes += stream.bytes_held();
            if !self.is_last && joined.is_kept() && self.sink.put_aside(joined.number()) {
                self.aside.insert(joined.number(), Rc::clone(joined));
                self.note_bytes_held(bytes);
            } else {
                self.end_rows(joined, bytes).await;
            }
        }
        Ok(())
    }

    /// Ends some of the tables that were put aside.
    async fn end_aside(&mut self, mut is_to_end: impl FnMut(&Joined) -> bool) {
        let to_end: Vec<_> = self.aside.extract_if(.., |_, joined| is_to_end(joined)).collect();
        for (number, joined) in to_end {
            self.sink.take_up(number);
            self.end_rows(&joined, joined.bytes_unkept()).await;
        }
    }

    /// The rows of `profiles` in range, of all partitions.
    async fn find<'a>(
        &mut self,
        reader: &'a BlockReader,
        presences: &[Option<Presence>],
    ) -> Result<(Vec<Found>, Vec<FoundIn<'a>>), BlockError> {
        let wanted = presences.iter().enumerate().filter(|(_, presence)| presence.is_some());
        let rows: Vec<Rows> = wanted.map(|(at, _)| reader.series(at).profiles).collect();
        let columns = [
            profiles::TIME,
            profiles::TOTAL,
            profiles::SAMPLES_START,
            profiles::SAMPLES_COUNT,
            profiles::SAMPLES_OF,
        ];
        let has_sharing = reader.shares_samples();
        let columns = if has_sharing { &columns[..] } else { &columns[..4] };
        let mut stream = TableStream::new(reader, Table::Profiles, columns, &rows);
        let (mut found, mut partitions) = (Vec::new(), Vec::new());
        for partition in &reader.index().partitions {
            let first = found.len();
            for at in partition.series.start..partition.series.end {
                if presences[at as usize].is_none() {
                    continue;
                }
                let series = SeriesId((at - partition.series.start) as u32);
                let rows = reader.series(at as usize).profiles;
                let mut start = rows.start;
                while start < rows.end {
                    let part = Rows { start, end: rows.end.min(start + PROFILES_MAX) };
                    stream.ensure(part, &self.port, &self.pace).await?;
                    self.find_in(partition, &stream, has_sharing, series, part, &mut found)?;
                    let held = stream.bytes_held() + found.capacity() * size_of::<Found>();
                    self.note_bytes_held(held);
                    self.pace.spend(8 + part.len() as usize / 4).await;
                    start = part.end;
                }
            }
            if first < found.len() {
                in_order(&mut found, first, &self.pace).await?;
                if self.sink.needs() == Needs::Sums {
                    in_runs(&mut found, first, &self.pace).await;
                }
                let rows = first..found.len();
                partitions.push(FoundIn { partition, stored: None, rows });
            }
        }
        Ok((found, partitions))
    }

    /// Adds the rows in range of some rows of a series.
    fn find_in(
        &self,
        partition: &PartitionIndex,
        stream: &TableStream,
        has_sharing: bool,
        series: SeriesId,
        rows: Rows,
        found: &mut Vec<Found>,
    ) -> Result<(), BlockError> {
        let (times, totals) = (stream.numbers(0, rows), stream.numbers(1, rows));
        let (starts, counts) = (stream.numbers(2, rows), stream.ids(3, rows));
        let of_partition = partition.tables[Table::Samples as usize];
        for at in self.within(times, rows)? {
            let (row, start) = (rows.start + at as u64, starts[at].cast_unsigned());
            let end = start.checked_add(counts[at].into());
            let end = end.filter(|end| of_partition.start <= start && *end <= of_partition.end);
            let Some(end) = end else {
                let file = Table::Profiles.file_name();
                return Err(BlockError::Row { file, row, what: "samples of another partition" });
            };
            let is_second = has_sharing && u64::from(stream.ids(4, rows)[at]) != row;
            let samples = SampleRows { start, end, is_second };
            found.push(Found { series, time_ns: times[at], total: totals[at], samples });
        }
        Ok(())
    }

    /// Shows the sink the rows of a partition with their samples.
    async fn rows(
        &mut self,
        partition: &PartitionIndex,
        stored: &Stored,
        found: &[Found],
        stream: &mut SampleStream,
        bytes_held: usize,
    ) -> Result<(), BlockError> {
        let stacks_of = partition.tables[Table::Stacktraces as usize];
        let stack_ids = stacks_of.start as u32..stacks_of.end as u32;
        for row in found {
            stream.ensure(row.samples, &self.port, &self.pace).await?;
            let (stacks, values) = stream.get(row.samples);
            if let Some(at) = stacks.iter().position(|stack| !stack_ids.contains(stack)) {
                let (file, row) = (Table::Samples.file_name(), row.samples.start + at as u64);
                return Err(BlockError::Row { file, row, what: "a stack of another partition" });
            }
            let (of_row, nodes) = ((row.time_ns, row.total), (stack_ids.start, &stored.nodes[..]));
            let shown = Row::stored(row.series, of_row, (stacks, values), nodes);
            self.sink.row(&stored.joined.symbols(), &shown);
            let samples_count = stacks.len();
            self.note_bytes_held(bytes_held + stream.bytes_held());
            self.pace.spend(2 + samples_count / 8).await;
        }
        Ok(())
    }

    async fn end_rows(&mut self, joined: &Joined, bytes_held: usize) {
        while self.sink.end_rows(&joined.symbols()) == Step::More {
            self.note_bytes_held(bytes_held);
            self.pace.turn().await;
        }
        self.note_bytes_held(bytes_held);
    }

    fn note_bytes_held(&self, more: usize) {
        self.port.note_bytes_held(self.sink.bytes_held() + more);
    }
}

/// Puts the rows of a partition, from `first` on, in the order of their samples: profiles of two series may share them.
async fn in_order(found: &mut Vec<Found>, first: usize, pace: &Pace) -> Result<(), BlockError> {
    let follows = |a: &Found, b: &Found| a.samples.is_followed_by(b.samples);
    if !found[first..].is_sorted_by(follows) {
        let mut of_partition = found.split_off(first);
        pace::sort(&mut of_partition, pace, |a, b| a.samples.cmp(&b.samples)).await;
        found.append(&mut of_partition);
        if !found[first..].is_sorted_by(follows) {
            let (file, row) = (Table::Samples.file_name(), found[first].samples.start);
            return Err(BlockError::Row { file, row, what: "samples of two profiles overlap" });
        }
    }
    pace.spend((found.len() - first) / 8).await;
    Ok(())
}

/// Makes rows of a partition, from `first` on, whose samples follow one another into one.
async fn in_runs(found: &mut Vec<Found>, first: usize, pace: &Pace) {
    let mut kept = first;
    for at in first..found.len() {
        let next = found[at];
        match found[first..kept].last_mut() {
            Some(last)
                if last.samples.end == next.samples.start
                    && last.samples.is_second == next.samples.is_second
                    && next.samples.end - last.samples.start <= RUN_SAMPLES_MAX =>
            {
                last.samples.end = next.samples.end;
                last.total = last.total.saturating_add(next.total);
            }
            _ => {
                found[kept] = next;
                kept += 1;
            }
        }
        pace.spend(usize::from(at % 8 == 0)).await;
    }
    found.truncate(kept);
}
