//! How rows are coded: one row is one profile of one series, its samples sorted by node.
//!
//! A batch is the rows of one profile. Row headers ([`super::header`]) and samples are two streams, so that totals are read
//! without touching samples:
//!
//! ```text
//! samples  node ids, each as the difference from the one before
//!          values divided by the multiplier (their gcd)
//! ```
//! These are varints. Nodes that are those of the last row that had its own are not written again, nor are such values: Go's
//! `samples` and `cpu` columns differ in the multiplier only, `alloc_objects` and `alloc_space` have the same nodes.
//!
//! Values are positive: normalising drops the others. Sums end at the greatest `i64` instead of wrapping, here as in every tree
//! and point that is made of rows.

use super::SeriesId;
use super::header::{self, Header};
use super::varint;
use crate::symbols::NodeId;

/// Encodes the rows of one profile.
#[derive(Debug, Default)]
pub(super) struct BatchWriter {
    /// Headers.
    pub(super) rows: Vec<u8>,
    /// Node ids and values.
    pub(super) samples: Vec<u8>,
    /// Number of rows.
    pub(super) rows_count: u32,
    /// Number of values of all rows.
    pub(super) values_count: u64,
    /// The series after that of the last row.
    series_next: u32,
    /// Nodes and divided values of the last rows that had their own.
    nodes: Vec<u32>,
    values: Vec<u64>,
}

impl BatchWriter {
    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.samples.clear();
        self.rows_count = 0;
        self.values_count = 0;
        self.series_next = 0;
        self.nodes.clear();
        self.values.clear();
    }

    /// Adds a row; gives its total. `nodes` ascend, `values` stand beside them and are not zero; both are left as scratch.
    pub(super) fn push(
        &mut self,
        series: SeriesId,
        nodes: &mut Vec<u32>,
        values: &mut Vec<u64>,
    ) -> i64 {
        assert_eq!(nodes.len(), values.len(), "every node has a value");
        assert!(!nodes.is_empty(), "a row has values");
        debug_assert!(values.iter().all(|v| i64::try_from(*v).is_ok()), "values are positive");
        debug_assert!(nodes.is_sorted_by(|a, b| a < b), "nodes of a row ascend");
        let multiplier = greatest_divisor(values);
        if multiplier > 1 {
            for value in values.iter_mut() {
                *value /= multiplier;
            }
        }
        let total = values.iter().fold(0_u64, |sum, value| sum.saturating_add(*value));
        let count = nodes.len() as u32;
        let step = header::step_between(self.series_next, series.0);
        let mut header = Header { series: step, multiplier, ..Header::default() };
        if *nodes != self.nodes {
            std::mem::swap(nodes, &mut self.nodes);
            (header.values_count, header.nodes_bytes) = (count, self.push_nodes());
        }
        if *values != self.values {
            std::mem::swap(values, &mut self.values);
            (header.total, header.values_bytes) = (total, self.push_values());
        }
        header.push(&mut self.rows);
        self.series_next = series.0.wrapping_add(1);
        self.rows_count += 1;
        self.values_count += u64::from(count);
        total_of(total, multiplier)
    }

    fn push_nodes(&mut self) -> u32 {
        let start = self.samples.len();
        let mut last = 0;
        for &node in &self.nodes {
            varint::push(&mut self.samples, u64::from(node - last));
            last = node;
        }
        (self.samples.len() - start) as u32
    }

    fn push_values(&mut self) -> u32 {
        let start = self.samples.len();
        for &value in &self.values {
            varint::push(&mut self.samples, value);
        }
        (self.samples.len() - start) as u32
    }

    /// Heap bytes held.
    pub(super) fn bytes_held(&self) -> usize {
        self.rows.capacity()
            + self.samples.capacity()
            + self.nodes.capacity() * size_of::<u32>()
            + self.values.capacity() * size_of::<u64>()
    }
}

/// A row's total, of the sum of its quotients: the greatest `i64` where that is exceeded.
#[inline]
fn total_of(quotients: u64, multiplier: u64) -> i64 {
    quotients.saturating_mul(multiplier).min(i64::MAX as u64) as i64
}

/// The greatest number that divides all; 1 for none. Mostly one division a value: the divisor is found early.
fn greatest_divisor(values: &[u64]) -> u64 {
    let mut divisor = 0;
    for &value in values {
        if divisor == 1 {
            break;
        }
        if divisor == 0 || value % divisor != 0 {
            divisor = gcd(value, divisor);
        }
    }
    divisor.max(1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Reads the rows of one batch one after the other; small enough to be kept in a cursor.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchReader {
    time_ns: i64,
    rows_left: u32,
    rows_at: usize,
    samples_at: usize,
    series_next: u32,
    nodes_at: usize,
    values_at: usize,
    values_count: u32,
    total: u64,
}

impl BatchReader {
    /// At the first of `rows_count` rows whose headers begin at `rows_at` and samples at `samples_at`.
    pub(super) fn new(time_ns: i64, rows_count: u32, rows_at: usize, samples_at: usize) -> Self {
        Self {
            time_ns,
            rows_left: rows_count,
            rows_at,
            samples_at,
            series_next: 0,
            nodes_at: samples_at,
            values_at: samples_at,
            values_count: 0,
            total: 0,
        }
    }

    /// Rows that were not passed.
    pub(super) fn rows_left(&self) -> usize {
        self.rows_left as usize
    }

    /// The next row of a wanted series; `rows` and `samples` are the chunk's streams.
    #[inline]
    pub(super) fn next<'a>(
        &mut self,
        rows: &'a [u8],
        samples: &'a [u8],
        is_wanted: impl Fn(SeriesId) -> bool,
    ) -> Option<Row<'a>> {
        loop {
            self.rows_left = self.rows_left.checked_sub(1)?;
            let header = Header::read(rows, &mut self.rows_at);
            let series = header::step_from(self.series_next, header.series);
            self.series_next = series.wrapping_add(1);
            if header.values_count != 0 {
                self.values_count = header.values_count;
                self.nodes_at = self.samples_at;
                self.samples_at += header.nodes_bytes as usize;
            }
            if header.values_bytes != 0 {
                self.values_at = self.samples_at;
                self.samples_at += header.values_bytes as usize;
                self.total = header.total;
            }
            if is_wanted(SeriesId(series)) {
                return Some(self.row(SeriesId(series), header.multiplier, samples));
            }
        }
    }

    #[inline]
    fn row<'a>(&self, series: SeriesId, multiplier: u64, stream: &'a [u8]) -> Row<'a> {
        let (nodes_at, values_at) = (self.nodes_at, self.values_at);
        Row {
            series,
            time_ns: self.time_ns,
            total: total_of(self.total, multiplier),
            values_count: self.values_count,
            samples: Samples::Coded { stream, nodes_at, values_at, multiplier },
        }
    }
}

/// One profile of one series. Its samples stay coded until they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The series, an index into [`super::Head::series`].
    pub series: SeriesId,
    /// The profile's time, Unix nanoseconds.
    pub time_ns: i64,
    /// Sum of its values, in the unit of the series' sample type.
    pub total: i64,
    /// Number of its values.
    pub values_count: u32,
    samples: Samples<'a>,
}

/// The samples of a row.
#[derive(Clone, Copy, Debug)]
enum Samples<'a> {
    /// As a chunk's stream holds them, from these places on.
    Coded { stream: &'a [u8], nodes_at: usize, values_at: usize, multiplier: u64 },
    /// As a block's pages are decoded: stacks from a base on, each of which is a node. Empty where they were not asked for.
    Plain { stacks: &'a [u32], values: &'a [i64], base: u32, nodes: &'a [u32] },
}

/// Where a row of a head lies, with its header: 56 bytes for a row that is read later, in another order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowPlace {
    pub(crate) series: SeriesId,
    pub(crate) time_ns: i64,
    pub(crate) total: i64,
    pub(crate) values_count: u32,
    multiplier: u64,
    pub(super) chunk: u32,
    nodes_at: u32,
    values_at: u32,
}

impl RowPlace {
    /// Whether both rows have the same stacks, as far as the coding says so: those of one profile, one behind the other.
    pub(crate) fn has_stacks_of(&self, other: &Self) -> bool {
        self.values_count > 0
            && (self.chunk, self.nodes_at) == (other.chunk, other.nodes_at)
            && self.values_count == other.values_count
    }

    /// The row; `samples` is its chunk's stream.
    pub(super) fn row<'a>(&self, samples: &'a [u8]) -> Row<'a> {
        Row {
            series: self.series,
            time_ns: self.time_ns,
            total: self.total,
            values_count: self.values_count,
            samples: Samples::Coded {
                stream: samples,
                nodes_at: self.nodes_at as usize,
                values_at: self.values_at as usize,
                multiplier: self.multiplier,
            },
        }
    }
}

impl<'a> Row<'a> {
    /// A row of a block of which no samples were asked for.
    pub(crate) fn of_total(series: SeriesId, time_ns: i64, total: i64) -> Self {
        let samples = Samples::Plain { stacks: &[], values: &[], base: 0, nodes: &[] };
        Self { series, time_ns, total, values_count: 0, samples }
    }

    /// A row of a block; stacks are numbers from `base` on, each of which is one of `nodes`.
    pub(crate) fn stored(
        series: SeriesId,
        (time_ns, total): (i64, i64),
        (stacks, values): (&'a [u32], &'a [i64]),
        (base, nodes): (u32, &'a [u32]),
    ) -> Self {
        assert_eq!(stacks.len(), values.len(), "every stack has a value");
        let samples = Samples::Plain { stacks, values, base, nodes };
        Self { series, time_ns, total, values_count: stacks.len() as u32, samples }
    }
}

impl Row<'_> {
    /// Where it lies.
    pub(super) fn place(&self, chunk: usize) -> RowPlace {
        let Samples::Coded { nodes_at, values_at, multiplier, .. } = self.samples else {
            unreachable!("a head's rows are coded")
        };
        RowPlace {
            series: self.series,
            time_ns: self.time_ns,
            total: self.total,
            values_count: self.values_count,
            multiplier,
            chunk: chunk as u32,
            nodes_at: nodes_at as u32, // a chunk's streams are below 4 GiB
            values_at: values_at as u32,
        }
    }

    /// Calls back with every stack of the row, in the order of node ids, and its value; gives the number of calls.
    #[inline]
    pub fn for_each_sample(&self, mut f: impl FnMut(NodeId, i64)) -> usize {
        match self.samples {
            Samples::Coded { stream, mut nodes_at, mut values_at, multiplier } => {
                let mut node = 0_u32;
                for _ in 0..self.values_count {
                    node += varint::read(stream, &mut nodes_at) as u32;
                    let value = varint::read(stream, &mut values_at);
                    f(NodeId(node), value.wrapping_mul(multiplier) as i64);
                }
            }
            Samples::Plain { stacks, values, base, nodes } => {
                for (stack, value) in stacks.iter().zip(values) {
                    f(NodeId(nodes[(stack - base) as usize]), *value);
                }
            }
        }
        self.values_count as usize
    }

    /// Adds the row's values to `dense`, indexed by node and as long as the head has nodes; gives their number.
    #[inline]
    pub fn add_samples(&self, dense: &mut [i64]) -> usize {
        self.for_each_sample(|node, value| {
            let sum = &mut dense[node.0 as usize];
            *sum = sum.saturating_add(value);
        })
    }
}
