//! One shard's part of a read: a pass over the heads of some tenants, some rows at a time.
//!
//! ```text
//! for each head:   series ─ matchers, time ─► those wanted ─► rows (headers, samples if need be) ─► what the head adds
//!                  (labels alone answer most label queries)
//! ```
//! Holds: a row counts when its time, in whole milliseconds, lies in the range, both ends included, and it was visible when the
//! pass reached its head. A series is in range when it has such a row; its least and greatest time mostly tell. Label queries
//! never touch samples, totals never touch stacks unless a call site is asked for.
//! Between two steps anything may be appended. Not here: merging the parts of shards ([`crate::flamegraph`],
//! [`super::TimeSeries`]); validation of requests ([`super::Range`]).

mod blocks;
mod call_site;
mod labels;
mod points;
mod profile;
mod stats;
mod sums;
mod tree;

use std::sync::Arc;

use bytes::Bytes;
use proto::rpc::select::{SelectReply, SelectRequest, Selection};
use proto::rpc::{Code, Failure};

use crate::block::{BlockReader, ByteRange, Index, SeriesIndex, SymbolCache};
use crate::hash::HashSecret;
use crate::head::{Cursor, Head, HeadId, Heads, Row, Series, SeriesId, View};
use crate::labels::{Compilation, LabelSet, Matcher};
use crate::profile::Step;
use crate::symbols::Symbols;
use crate::tenant::{PartitionKey, TenantId};

/// Values read in a step at most, 5–10 ns each. (A step ends at a row's end: it may read one row of 16,000 more.)
const STEP_VALUES_MAX: usize = 64 << 10;

/// Series looked at in a step at most.
const STEP_SERIES_MAX: usize = 512;

/// What looking at the series of a step may cost, about 20 ns each: every series is asked every matcher.
const STEP_SERIES_COST_MAX: usize = 16 << 10;

/// Heads looked at in a step at most.
const STEP_HEADS_MAX: usize = 64;

/// A read of one shard under way.
#[derive(Debug)]
pub struct Select {
    tenant_ids: Vec<TenantId>,
    tenants: std::vec::IntoIter<TenantId>,
    tenant: Option<TenantId>,
    view: Option<View>,
    after: Option<(PartitionKey, HeadId)>,
    filter: Filter,
    visit: Option<Visit>,
    secret: HashSecret,
    /// Blocks to read behind the heads.
    blocks: Arc<[Arc<BlockReader>]>,
    cache: SymbolCache,
    reading: Option<blocks::BlocksVisit>,
    /// Lent to the visit of blocks while that runs.
    sink: Option<Box<dyn Sink>>,
}

/// What a step of a read led to.
#[derive(Debug)]
pub enum Progress {
    /// A stretch of work is done: others may have a turn.
    More,
    /// Bytes of a block are needed: [`Select::provide`] them, in this order.
    NeedsData {
        /// The block.
        block: Arc<BlockReader>,
        /// Ranges of its files.
        ranges: Vec<ByteRange>,
    },
    /// The answer.
    Reply(SelectReply),
}

/// What a step through heads led to.
enum HeadsStep {
    More,
    /// The request cannot be answered.
    Failed(Failure),
    /// No head is left.
    Done,
}

/// Which series and rows are wanted.
#[derive(Debug)]
struct Filter {
    matchers: Compilation,
    from_ns: i64,
    until_ns: i64,
}

/// What is made of the series and rows of heads and blocks. One head, or one partition of a block, is visited at a time.
trait Sink: std::fmt::Debug {
    /// A matching series of the head being visited; with a row in range for sure, or perhaps. Says whether its rows are wanted.
    fn series(&mut self, id: SeriesId, series: &SeriesFacts<'_>, presence: Presence) -> bool;

    /// Where texts of labels are all that is asked: which. A block then tells those that its index has, and shows only series that
    /// leave others open.
    fn texts(&self) -> Option<Texts> {
        None
    }

    /// Whether a text of labels is known already.
    fn has_text(&self, text: &str) -> bool {
        let _ = text;
        false
    }

    /// Takes a text of a series that is in range for sure.
    fn add_text(&mut self, text: &str) {
        let _ = text;
    }

    /// A row of a wanted series; gives the number of values read of it.
    fn row(&mut self, symbols: &Symbols, row: &Row<'_>) -> usize;

    /// Rows of a wanted series in the order of time, by their times and totals, where these are all that is needed.
    fn totals(&mut self, symbols: &Symbols, series: SeriesId, times_ns: &[i64], totals: &[i64]) {
        for (time_ns, total) in times_ns.iter().zip(totals) {
            self.row(symbols, &Row::of_total(series, *time_ns, *total));
        }
    }

    /// Before the rows of a head that has wanted series: prepares for them.
    fn begin_rows(&mut self, symbols: &Symbols) -> Step {
        let _ = symbols;
        Step::Done
    }

    /// What it reads of rows: a block has them in other pages.
    fn needs(&self) -> Needs {
        Needs::Totals
    }

    /// Whether no more rows of the head need to be read.
    fn has_enough(&self) -> bool {
        false
    }

    /// Behind the rows of a partition of a block, in place of [`Sink::end_rows`]: further blocks may have rows of the same table
    /// of symbols. Whether it keeps what it made of them until [`Sink::take_up`].
    fn put_aside(&mut self, table: u64) -> bool {
        let _ = table;
        false
    }

    /// Before [`Sink::begin_rows`], or behind all blocks before [`Sink::end_rows`]: goes on with what was put aside, if anything.
    fn take_up(&mut self, table: u64) {
        let _ = table;
    }

    /// Behind the rows of a head or of a table of symbols, in steps.
    fn end_rows(&mut self, symbols: &Symbols) -> Step {
        let _ = symbols;
        Step::Done
    }

    /// What a matching series costs, in the unit of [`crate::labels::Matcher::cost`].
    fn series_cost(&self) -> usize {
        1
    }

    /// Heap bytes that grow with the data, about.
    fn bytes_held(&self) -> usize {
        0
    }

    /// Behind all heads, in steps: makes the answer ready.
    fn settle(&mut self) -> Step {
        Step::Done
    }

    /// The answer, once settled.
    fn reply(self: Box<Self>) -> SelectReply;
}

/// What is read of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Needs {
    /// Its time and total.
    Totals,
    /// Its samples too, and the symbols of their stacks.
    Samples,
    /// Samples and symbols, whichever row has them: rows that follow one another may come as one.
    Sums,
}

/// Which texts of labels are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Texts {
    Names,
    ValuesOf(String),
}

/// A series of a head or of a block.
#[derive(Debug)]
struct SeriesFacts<'a> {
    labels: SeriesLabels<'a>,
    time_ns_min: i64,
    time_ns_max: i64,
}

/// Labels of a series, where they lie.
#[derive(Clone, Copy, Debug)]
enum SeriesLabels<'a> {
    Set(&'a LabelSet),
    Stored(&'a Index, &'a SeriesIndex),
}

impl<'a> SeriesLabels<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        match self {
            Self::Set(labels) => labels.get(name),
            Self::Stored(index, series) => {
                let name = index.labels.binary_search_by(|label| label.name.as_str().cmp(name));
                let name = name.ok()? as u32;
                let at = series.labels.binary_search_by_key(&name, |label| label.name).ok()?;
                Some(index.label(series.labels[at]).1)
            }
        }
    }

    /// Calls back with names and values, by ascending name.
    fn for_each(&self, mut f: impl FnMut(&'a str, &'a str)) {
        match self {
            Self::Set(labels) => labels.iter().for_each(|(name, value)| f(name, value)),
            Self::Stored(index, series) => series.labels.iter().for_each(|label| {
                let (name, value) = index.label(*label);
                f(name, value);
            }),
        }
    }

    fn to_set(self) -> LabelSet {
        match self {
            Self::Set(labels) => labels.clone(),
            Self::Stored(index, series) => index.labels_of(series),
        }
    }
}

/// Whether a series has a row in range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presence {
    /// Its least or greatest time lies in it.
    Sure,
    /// It has rows before and behind.
    Unsure,
}

/// The head being visited.
#[derive(Debug)]
struct Visit {
    key: PartitionKey,
    id: HeadId,
    phase: Phase,
    /// By series: whether its rows are wanted.
    wanted: Vec<bool>,
    any_wanted: bool,
}

#[derive(Debug)]
enum Phase {
    Series,
    Begin(Cursor),
    Rows(Cursor),
    End,
}

impl Select {
    /// Prepares a read. Fails where a tenant or a step is not what the querier would send; matchers are compiled in the first
    /// steps, for that takes a while.
    pub fn new(request: SelectRequest, secret: &HashSecret) -> Result<Self, Failure> {
        let (selection, sink): (Selection, Box<dyn Sink>) = match request {
            SelectRequest::Series { selection, label_names } => {
                (selection, Box::new(labels::Labels::sets(label_names)))
            }
            SelectRequest::LabelNames(selection) => (selection, Box::new(labels::Labels::names())),
            SelectRequest::LabelValues { selection, name } => {
                (selection, Box::new(labels::Labels::values(name)))
            }
            SelectRequest::Points { selection, grid_start_ms, step_ms, group_by, call_site } => {
                if step_ms < 1 {
                    return Err(invalid("step must be >= 1ms".to_owned()));
                }
                let grid =
                    points::Grid { start_ms: grid_start_ms, step_ms, end_ms: selection.end_ms };
                (selection, Box::new(points::Points::new(grid, group_by, call_site)))
            }
            SelectRequest::Tree { selection, call_site } => {
                (selection, Box::new(tree::FunctionTree::new(secret, call_site)))
            }
            SelectRequest::Profile { selection, call_site } => {
                (selection, Box::new(profile::Profiles::new(call_site)))
            }
            SelectRequest::Stats { tenant } => {
                let selection = Selection {
                    tenants: vec![tenant],
                    matchers: Vec::new(),
                    start_ms: i64::MIN,
                    end_ms: i64::MAX,
                };
                (selection, Box::new(stats::Stats::default()))
            }
        };
        let tenants = selection.tenants.iter().map(|id| TenantId::parse(id));
        let tenants = tenants.collect::<Result<Vec<_>, _>>().map_err(|e| invalid(e.to_string()))?;
        Ok(Self {
            tenant_ids: tenants.clone(),
            tenants: tenants.into_iter(),
            tenant: None,
            view: None,
            after: None,
            filter: Filter {
                matchers: Compilation::new(selection.matchers),
                from_ns: selection.start_ms.saturating_mul(1_000_000),
                until_ns: selection.end_ms.saturating_mul(1_000_000).saturating_add(999_999),
            },
            visit: None,
            secret: secret.clone(),
            blocks: Arc::default(),
            cache: SymbolCache::default(),
            reading: None,
            sink: Some(sink),
        })
    }

    /// Fixes what it will see: the heads that are not retired now. Call it in the poll that takes the list of blocks; without
    /// blocks the first step does it.
    pub fn pin(&mut self, heads: &Heads) {
        self.view = Some(heads.view());
    }

    /// Reads these blocks too, behind the heads: those that were published when the view was taken. Blocks of other tenants or
    /// times are left out. Their symbol tables are looked for in `cache`, and left there.
    pub fn read_blocks(&mut self, blocks: Arc<[Arc<BlockReader>]>, cache: &SymbolCache) {
        self.blocks = blocks;
        self.cache = cache.clone();
    }

    /// Reads some more of heads alone, well under a millisecond; the answer when nothing is left.
    pub fn step(&mut self, heads: &Heads) -> Option<SelectReply> {
        match self.advance(heads) {
            Progress::More => None,
            Progress::NeedsData { .. } => unreachable!("a read without blocks needs no bytes"),
            Progress::Reply(reply) => Some(reply),
        }
    }

    /// Answers [`Progress::NeedsData`].
    pub fn provide(&mut self, bytes: Vec<Bytes>) {
        self.reading.as_mut().expect("bytes follow a need for them").provide(bytes);
    }

    /// Reads some more, well under a millisecond mostly.
    pub fn advance(&mut self, heads: &Heads) -> Progress {
        if self.reading.is_some() {
            return self.advance_blocks();
        }
        match self.step_heads(heads) {
            HeadsStep::More => Progress::More,
            HeadsStep::Failed(failure) => Progress::Reply(SelectReply::Failed(failure)),
            HeadsStep::Done => self.advance_blocks(),
        }
    }

    fn advance_blocks(&mut self) -> Progress {
        let Some(reading) = &mut self.reading else {
            let (tenants, filter) = (&self.tenant_ids, &self.filter);
            let is_asked = |block: &&Arc<BlockReader>| {
                tenants.contains(block.tenant()) && block.overlaps(filter.from_ns, filter.until_ns)
            };
            let blocks: Vec<_> = self.blocks.iter().filter(is_asked).cloned().collect();
            self.blocks = Arc::default();
            if blocks.is_empty() {
                return self.settle();
            }
            let sink = self.sink.take().expect("blocks are visited once");
            let filter = std::mem::replace(&mut self.filter, Filter::nothing());
            let visit = blocks::BlocksVisit::new(blocks, filter, sink, &self.secret, &self.cache);
            self.reading = Some(visit);
            return Progress::More;
        };
        match reading.step() {
            blocks::VisitStep::More => Progress::More,
            blocks::VisitStep::NeedsData { block, ranges } => Progress::NeedsData { block, ranges },
            blocks::VisitStep::Done(Ok(sink)) => {
                (self.reading, self.sink) = (None, Some(sink));
                Progress::More
            }
            blocks::VisitStep::Done(Err((block, error))) => {
                let message = format!("block {}: {error}", block.meta().ulid);
                let failure = Failure::new(Code::DataLoss, "", message);
                Progress::Reply(SelectReply::Failed(failure))
            }
        }
    }

    fn settle(&mut self) -> Progress {
        let sink = self.sink.as_mut().expect("no block is being visited");
        if sink.settle() == Step::More {
            return Progress::More;
        }
        let nothing: Box<dyn Sink> = Box::new(stats::Stats::default());
        let sink = self.sink.replace(nothing).expect("no block is being visited");
        Progress::Reply(sink.reply())
    }

    fn step_heads(&mut self, heads: &Heads) -> HeadsStep {
        match self.filter.matchers.step() {
            Ok(Step::Done) => {}
            Ok(Step::More) => return HeadsStep::More,
            Err(error) => {
                let failure = invalid(format!("parsing label selector: {error}"));
                return HeadsStep::Failed(failure);
            }
        }
        if self.view.is_none() {
            self.pin(heads);
        }
        let mut series_left = self.series_a_step();
        for _ in 0..STEP_HEADS_MAX {
            if self.visit.is_none() && !self.find_head(heads) {
                return HeadsStep::Done;
            }
            let Some(visit) = &mut self.visit else { continue };
            let sink = self.sink.as_mut().expect("blocks are visited behind the heads");
            let (_, head) =
                heads.find(&visit.key, visit.id).expect("a view keeps the heads that it sees");
            if visit.step(head, &self.filter, sink.as_mut(), &mut series_left) == Step::More {
                return HeadsStep::More;
            }
            let read_rows = visit.any_wanted;
            self.after = self.visit.take().map(|visit| (visit.key, visit.id));
            if read_rows || series_left == 0 {
                return HeadsStep::More;
            }
        }
        HeadsStep::More
    }

    /// Heap bytes of what the read has gathered, about: its dense sums, and what it will answer.
    pub fn bytes_held(&self) -> usize {
        let of_block = self.reading.as_ref().map_or(0, blocks::BlocksVisit::bytes_held);
        self.sink.as_ref().map_or(0, |sink| sink.bytes_held()) + of_block
    }

    fn series_a_step(&self) -> usize {
        let matchers = self.filter.matchers.matchers().iter();
        let sink_cost = self.sink.as_ref().map_or(1, |sink| sink.series_cost());
        let cost = sink_cost + matchers.map(Matcher::cost).sum::<usize>();
        (STEP_SERIES_COST_MAX / cost.max(1)).clamp(1, STEP_SERIES_MAX)
    }

    /// Goes to the next head, of the next tenant if need be; `false` behind the last.
    fn find_head(&mut self, heads: &Heads) -> bool {
        loop {
            if let (Some(tenant), Some(view)) = (&self.tenant, &self.view)
                && let Some((key, head)) = heads.next_of_tenant(tenant, view, self.after.as_ref())
            {
                self.visit = Some(Visit {
                    key: key.clone(),
                    id: head.id(),
                    phase: Phase::Series,
                    wanted: Vec::new(),
                    any_wanted: false,
                });
                return true;
            }
            self.after = None;
            self.tenant = self.tenants.next();
            if self.tenant.is_none() {
                return false;
            }
        }
    }
}

impl Visit {
    /// Goes on; looks at no more than `series_left` series, and takes from that those it looked at.
    fn step(
        &mut self,
        head: &Head,
        filter: &Filter,
        sink: &mut dyn Sink,
        series_left: &mut usize,
    ) -> Step {
        match &mut self.phase {
            Phase::Series => {
                let until = head.series().len().min(self.wanted.len() + *series_left);
                *series_left -= until - self.wanted.len();
                for at in self.wanted.len()..until {
                    let series = &head.series()[at];
                    let facts = SeriesFacts {
                        labels: SeriesLabels::Set(&series.labels),
                        time_ns_min: series.time_ns_min,
                        time_ns_max: series.time_ns_max,
                    };
                    let presence = filter.presence(series);
                    let id = SeriesId(at as u32);
                    let wanted = presence.is_some_and(|presence| sink.series(id, &facts, presence));
                    self.any_wanted |= wanted;
                    self.wanted.push(wanted);
                }
                if until < head.series().len() {
                    return Step::More;
                }
                if !self.any_wanted {
                    return Step::Done;
                }
                self.phase = Phase::Begin(head.cursor());
                Step::More
            }
            Phase::Begin(cursor) => {
                let cursor = *cursor;
                if sink.begin_rows(head.symbols()) == Step::Done {
                    self.phase = Phase::Rows(cursor);
                }
                Step::More
            }
            Phase::Rows(cursor) => {
                let wanted = &self.wanted;
                let step = head.scan(
                    // A series that came later has no row before the cursor's end.
                    |series| wanted.get(series.0 as usize) == Some(&true),
                    filter.from_ns,
                    filter.until_ns,
                    cursor,
                    STEP_VALUES_MAX,
                    |row| sink.row(head.symbols(), &row),
                );
                if step == Step::Done || sink.has_enough() {
                    self.phase = Phase::End;
                }
                Step::More
            }
            Phase::End => sink.end_rows(head.symbols()),
        }
    }
}

impl Filter {
    /// Stands in once the visit of blocks has the real one.
    fn nothing() -> Self {
        Self { matchers: Compilation::new(Vec::new()), from_ns: 0, until_ns: 0 }
    }

    /// Whether a series may have rows in range; `None` when it has none, or does not match.
    fn presence(&self, series: &Series) -> Option<Presence> {
        if series.rows_count == 0 {
            return None;
        }
        let presence = self.presence_of(series.time_ns_min, series.time_ns_max)?;
        let matchers = self.matchers.matchers();
        matchers.iter().all(|m| m.matches(series.labels.get(m.name()))).then_some(presence)
    }

    /// The same by the least and greatest time of its rows alone.
    fn presence_of(&self, time_ns_min: i64, time_ns_max: i64) -> Option<Presence> {
        if time_ns_max < self.from_ns || time_ns_min > self.until_ns {
            return None;
        }
        let within = self.from_ns..=self.until_ns;
        let sure = within.contains(&time_ns_min) || within.contains(&time_ns_max);
        Some(if sure { Presence::Sure } else { Presence::Unsure })
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(Code::InvalidArgument, "", message)
}
