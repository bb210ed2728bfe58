//! Whether a block is what was written, and says the same everywhere: checksums of whole files, pages, references between tables,
//! order, times, totals.
//!
//! Everything is read; what a query would believe is held against what else says it. Damage does not end the check: a partition
//! that cannot be read is told, and the next is looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3Default;

use super::BlockError;
use super::cache::SymbolCache;
use super::index::{PartitionIndex, Rows, SeriesIndex};
use super::reader::{BlockReader, ByteRange};
use super::schema::{Table, profiles, samples};
use super::stream::{ReadPort, TableStream};
use super::symbols::SymbolLoader;
use crate::hash::HashSecret;
use crate::machine::{Event, Machine};
use crate::pace::Pace;

/// Bytes of a file that are asked for at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Faults after which a check ends: a block of nothing but damage need not be described.
const FAULTS_MAX: usize = 100;

/// Rows of profiles that are looked at together.
const PROFILES_MAX: u64 = 1024;

/// What a step of a check led to.
#[derive(Debug)]
pub enum CheckStep {
    /// A stretch of work is done: others may have a turn.
    More,
    /// Ranges to read and [`BlockCheck::provide`]. What a file does not have is left out: the check tells.
    NeedsData(Vec<ByteRange>),
    /// All that is wrong; nothing where the block is sound.
    Finished(Vec<BlockError>),
}

/// Checks one block.
#[derive(Debug)]
pub struct BlockCheck {
    machine: Machine<Vec<ByteRange>, Vec<Bytes>, Vec<BlockError>>,
}

impl BlockCheck {
    /// Begins with the bytes of `meta.json` and `index`.
    pub fn new(meta: &[u8], index: &[u8], secret: &HashSecret) -> Self {
        let opened = BlockReader::open(meta, index);
        let secret = secret.clone();
        let machine = Machine::new(move |port| async move {
            let reader = match opened {
                Ok(reader) => Arc::new(reader),
                Err(error) => return vec![error],
            };
            let mut pass = Pass { reader, secret, port, pace: Pace::new(), faults: Vec::new() };
            pass.run().await;
            pass.faults
        });
        Self { machine }
    }

    /// Goes on, for well under a millisecond mostly.
    pub fn step(&mut self) -> CheckStep {
        match self.machine.step() {
            Event::More => CheckStep::More,
            Event::Asked(ranges) => CheckStep::NeedsData(ranges),
            Event::Done(faults) => CheckStep::Finished(faults),
        }
    }

    /// Answers [`CheckStep::NeedsData`], range by range.
    pub fn provide(&mut self, bytes: Vec<Bytes>) {
        self.machine.answer(bytes);
    }
}

struct Pass {
    reader: Arc<BlockReader>,
    secret: HashSecret,
    port: ReadPort,
    pace: Pace,
    faults: Vec<BlockError>,
}

/// What is to follow in `samples`, and what is known of rows that a second profile is to share.
struct Next {
    sample: u64,
    /// By the first profile: what the second must have.
    seconds: BTreeMap<u32, Second>,
}

/// Facts of a profile that shares the rows of another.
#[derive(PartialEq, Eq)]
struct Second {
    time_ns: i64,
    total: i64,
    samples_start: u64,
    samples_count: u32,
}

impl Pass {
    async fn run(&mut self) {
        for table in Table::ALL {
            if let Err(error) = self.file(table).await {
                self.fault(error);
            }
        }
        let (reader, cache) = (Arc::clone(&self.reader), SymbolCache::default());
        for partition in &reader.index().partitions {
            if self.faults.len() >= FAULTS_MAX {
                return;
            }
            let mut loader = SymbolLoader::new(&reader, &[partition]);
            let joined = cache.table_for(&reader, partition, &self.secret);
            let loaded = loader.load(partition, &joined, &cache, &self.port, &self.pace);
            if let Err(error) = loaded.await {
                self.fault(error);
            }
            if let Err(error) = self.profiles(partition).await {
                self.fault(error);
            }
        }
    }

    /// A whole file against what `meta.json` says of it, and each page against what the index says, so that damage has a place.
    async fn file(&mut self, table: Table) -> Result<(), BlockError> {
        let file = table.file_name();
        let reader = Arc::clone(&self.reader);
        let facts = reader.meta().file(file).expect("an opened block tells of its tables");
        let (mut whole, mut at, mut are_pages_sound) = (Xxh3Default::new(), 0, true);
        for page in reader.index().table(table).pages() {
            self.stretch(file, (at, page.offset), &mut whole, None).await?;
            at = page.offset + u64::from(page.bytes);
            let mut of_page = Xxh3Default::new();
            self.stretch(file, (page.offset, at), &mut whole, Some(&mut of_page)).await?;
            let (found, expected) = (of_page.digest(), page.checksum);
            if found != expected {
                are_pages_sound = false;
                let (offset, bytes) = (page.offset, page.bytes.into());
                self.fault(BlockError::Checksum { file, offset, bytes, found, expected });
                if self.faults.len() >= FAULTS_MAX {
                    return Ok(());
                }
            }
        }
        self.stretch(file, (at, facts.bytes), &mut whole, None).await?;
        let (found, expected) = (whole.digest(), facts.checksum);
        if found == expected || !are_pages_sound {
            return Ok(());
        }
        Err(BlockError::BesidePages { file, offset: at, found, expected })
    }

    /// Reads a stretch of a file into its checksums.
    async fn stretch(
        &mut self,
        file: &'static str,
        (mut offset, end): (u64, u64),
        whole: &mut Xxh3Default,
        mut part: Option<&mut Xxh3Default>,
    ) -> Result<(), BlockError> {
        while offset < end {
            let range = ByteRange { file, offset, bytes: PIECE_BYTES.min(end - offset) };
            let pieces = self.port.ask(vec![range]).await;
            let piece = pieces.first().expect("the driver answers every range");
            range.check_length(piece)?;
            whole.update(piece);
            if let Some(part) = &mut part {
                part.update(piece);
            }
            offset += range.bytes;
            self.pace.turn().await;
        }
        Ok(())
    }

    /// A page is looked at more than once; its damage is told once.
    fn fault(&mut self, error: BlockError) {
        if !self.faults.contains(&error) {
            self.faults.push(error);
        }
    }

    async fn profiles(&mut self, partition: &PartitionIndex) -> Result<(), BlockError> {
        let of = |table: Table| partition.tables[table as usize];
        let reader = Arc::clone(&self.reader);
        let columns = [
            0,
            profiles::SERIES_ID,
            profiles::TIME,
            profiles::TOTAL,
            profiles::SAMPLES_START,
            profiles::SAMPLES_COUNT,
            profiles::SAMPLES_OF,
        ];
        let has_sharing = reader.shares_samples();
        let columns = if has_sharing { &columns[..] } else { &columns[..6] };
        let rows = [of(Table::Profiles)];
        let mut stream = TableStream::new(&reader, Table::Profiles, columns, &rows);
        let columns = [0, samples::STACKTRACE_ID, samples::VALUE, samples::SECOND_VALUE];
        let columns = if has_sharing { &columns[..] } else { &columns[..3] };
        let all_samples = [of(Table::Samples)];
        let mut values = TableStream::new(&reader, Table::Samples, columns, &all_samples);
        let mut next = Next { sample: of(Table::Samples).start, seconds: BTreeMap::new() };
        let series = partition.series.start..partition.series.end;
        for id in series {
            let series = reader.series(id as usize);
            let mut times = (i64::MAX, i64::MIN);
            let mut at = series.profiles.start;
            while at < series.profiles.end {
                let part = Rows { start: at, end: series.profiles.end.min(at + PROFILES_MAX) };
                stream.ensure(part, &self.port, &self.pace).await?;
                for row in part.start..part.end {
                    times = check_row(&stream, (id, row), times)?;
                    self.samples(partition, &stream, &mut values, row, &mut next).await?;
                }
                at = part.end;
            }
            check_times(series, times)?;
        }
        if next.sample != of(Table::Samples).end {
            return Err(sample(next.sample, "a value of no profile"));
        }
        if let Some((_, second)) = next.seconds.first_key_value() {
            return Err(sample(second.samples_start, "second values of no profile"));
        }
        Ok(())
    }

    async fn samples(
        &mut self,
        partition: &PartitionIndex,
        stream: &TableStream,
        values: &mut TableStream,
        row: u64,
        next: &mut Next,
    ) -> Result<(), BlockError> {
        let rows = Rows { start: row, end: row + 1 };
        let has_sharing = self.reader.shares_samples();
        let start = stream.numbers(4, rows)[0].cast_unsigned();
        let count = u64::from(stream.ids(5, rows)[0]);
        let samples_of = if has_sharing { stream.ids(6, rows)[0] } else { row as u32 };
        let (time_ns, total) = (stream.numbers(2, rows)[0], stream.numbers(3, rows)[0]);
        let facts =
            |total| Second { time_ns, total, samples_start: start, samples_count: count as u32 };
        if u64::from(samples_of) != row {
            let second = next.seconds.remove(&samples_of);
            self.pace.spend(4).await;
            return match second {
                Some(second) if second == facts(total) => Ok(()),
                Some(_) => Err(profile(row, "not what the profile has whose samples it shares")),
                None => Err(profile(row, "shares samples that no profile shares")),
            };
        }
        let of_partition = partition.tables[Table::Samples as usize];
        if start != next.sample || count > of_partition.end - start {
            return Err(profile(row, "its values do not follow those of the one before"));
        }
        next.sample += count;
        let of_row = Rows { start, end: next.sample };
        values.ensure(of_row, &self.port, &self.pace).await?;
        let stacks = values.ids(1, of_row);
        let of_stacks = partition.tables[Table::Stacktraces as usize];
        let within = |stack: &u32| (of_stacks.start..of_stacks.end).contains(&u64::from(*stack));
        if values.ids(0, of_row).iter().any(|id| u64::from(*id) != row) {
            return Err(sample(start, "values of a profile name another"));
        }
        if !stacks.iter().all(within) || !stacks.is_sorted_by(|a, b| a < b) {
            return Err(sample(
                start,
                "stacks of a profile are another partition's, or out of order",
            ));
        }
        let sum = |column: usize| {
            values.numbers(column, of_row).iter().fold(0_i64, |sum, v| sum.saturating_add(*v))
        };
        if sum(2) != total {
            return Err(profile(row, "its total is not the sum of its values"));
        }
        if has_sharing && sum(3) != 0 {
            next.seconds.insert(samples_of, facts(sum(3)));
        }
        self.pace.spend(4 + stacks.len() / 8).await;
        Ok(())
    }
}

/// A row of `profiles` but for its samples; gives the least and greatest time with its own.
fn check_row(
    stream: &TableStream,
    (series, row): (u64, u64),
    times: (i64, i64),
) -> Result<(i64, i64), BlockError> {
    let rows = Rows { start: row, end: row + 1 };
    if u64::from(stream.ids(0, rows)[0]) != row {
        return Err(profile(row, "its id is not its place"));
    }
    if u64::from(stream.ids(1, rows)[0]) != series {
        return Err(profile(row, "another series than the index says"));
    }
    let time = stream.numbers(2, rows)[0];
    if time < times.1 {
        return Err(profile(row, "earlier than the one before"));
    }
    Ok((times.0.min(time), time))
}

fn check_times(series: &SeriesIndex, times: (i64, i64)) -> Result<(), BlockError> {
    if times == (series.time_ns_min, series.time_ns_max) {
        return Ok(());
    }
    Err(profile(series.profiles.start, "times of its series are not what the index says"))
}

fn profile(row: u64, what: &'static str) -> BlockError {
    BlockError::Row { file: Table::Profiles.file_name(), row, what }
}

fn sample(row: u64, what: &'static str) -> BlockError {
    BlockError::Row { file: Table::Samples.file_name(), row, what }
}
