//! From an admitted profile to rows of a head, in bounded steps.
//!
//! ```text
//! samples ─ intern ─► (node, sample) ─ sort by group, node ─► rows of each group and column ─ commit ─► open chunk
//! ```
//! Before the first step the profile's series can be counted, which changes no head. Everything but symbols and series is kept in scratch until the commit, which is one copy: an append that is not finished
//! has no rows to take back.

use super::count::Counted;
use super::row::BatchWriter;
use super::sort::{Item, Sorter};
use super::{Head, HeadId, Heads, SeriesCount, SeriesId, series};
use crate::hash::HashSecret;
use crate::identity::Identity;
use crate::profile::{Admission, NONE, Outcome, Profile, Step, series_labels};
use crate::symbols::{Interner, Symbols};
use crate::tenant::PartitionKey;

/// Work of one step, about nanoseconds (see [`Interner::take_cost`]): half a millisecond, a quarter of what a shard may take.
const STEP_COST_MAX: usize = 500_000;

/// Samples that a batch looks at, stored or not.
const SAMPLES_MAX: usize = 4096;

/// What looking at a sample costs, about nanoseconds.
const SAMPLE_COST: usize = 4;

/// What encoding a value costs, about nanoseconds.
const VALUE_COST: usize = 10;

/// What looking for a series costs, and what making its labels does when it is not known, about nanoseconds.
const SERIES_COST: usize = 100;
const LABELS_COST: usize = 2000;

/// Scratch of this size is given back before the next profile: one giant must not be paid for ever.
const SCRATCH_BYTES_MAX: usize = 16 << 20;

/// Appends one profile at a time; one per shard, reused, so that allocations don't depend on the number of samples.
///
/// The same profile and admission must be given to `begin` and every `step` after it. A `begin` before `Done` gives the
/// unfinished profile up. A head that is frozen between two steps makes the append start over in the fresh one.
#[derive(Debug, Default)]
pub struct Append {
    key: Option<PartitionKey>,
    /// The head that the scratch refers to; `None` where there is none yet.
    head: Option<HeadId>,
    identity: Option<Identity>,
    phase: Phase,
    interner: Interner,
    sorter: Sorter,
    batch: BatchWriter,
    /// The series of each row of the batch.
    row_series: Vec<SeriesId>,
    /// Hashes of what each column and each group adds to a series' labels.
    column_hashes: Vec<u128>,
    /// Whether no column of any group is dropped: then every sample that normalising left has a value to store.
    stores_all: bool,
    labels_hash: u128,
    counted: Counted,
    nodes: Vec<u32>,
    values: Vec<u64>,
    bytes: Vec<u8>,
}

/// How far an append is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// Which locations the head knows.
    Locations {
        row: usize,
    },
    /// Which samples are stored, and the nodes of their stacks.
    Stacks {
        sample: usize,
    },
    Sort,
    Encode {
        item: usize,
    },
}

/// What the last append that was done added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Rows: one for each series that has values.
    pub rows: u32,
    /// Values of all rows.
    pub values: u64,
    /// The head that they are in: whether it is frozen, and so where the profile's record is needed no more.
    pub head: Option<HeadId>,
}

impl Append {
    /// Starts on a profile that was admitted to a partition.
    pub fn begin(
        &mut self,
        heads: &Heads,
        key: &PartitionKey,
        identity: Identity,
        profile: &Profile,
        admission: &Admission,
    ) {
        let (groups, columns) = (profile.groups_count(), profile.sample_types.len());
        assert_eq!(
            admission.outcomes.len(),
            groups * columns,
            "admission decides every column of every group"
        );
        assert_eq!(
            profile.sample_groups.len(),
            profile.samples_count(),
            "normalising gave every sample a group, or none"
        );
        self.give_back();
        self.interner.begin(
            profile.strings.len(),
            profile.mappings.len(),
            profile.functions.len(),
            profile.locations.len(),
        );
        self.sorter.clear();
        self.batch.clear();
        self.row_series.clear();
        self.counted.clear();
        self.key = Some(key.clone());
        self.head = heads.get(key).map(Head::id);
        self.identity = Some(identity);
        self.stores_all = !admission.outcomes.contains(&Outcome::Dropped);
        self.phase = Phase::Locations { row: 0 };
        self.hash_columns(heads.secret(), profile, admission);
    }

    /// Counts the profile's series, some at a time; between `begin` and the first `step`.
    pub fn count_series(
        &mut self,
        heads: &Heads,
        profile: &Profile,
        admission: &Admission,
    ) -> Step {
        let head = self.key.as_ref().and_then(|key| heads.get(key));
        if head.map(Head::id) != self.head {
            // Frozen meanwhile: what was known is new.
            self.head = head.map(Head::id);
            self.counted.clear();
        }
        let secret = heads.secret();
        let columns = profile.sample_types.len();
        let mut cost = 0;
        while self.counted.groups < profile.groups_count() {
            if cost >= STEP_COST_MAX {
                return Step::More;
            }
            let group = self.counted.groups;
            let group_hash = self.hash_group(secret, profile, group as u32);
            cost += self.interner.take_cost() + SERIES_COST;
            for column in 0..columns {
                let outcome = &admission.outcomes[group * columns + column];
                if *outcome == Outcome::Dropped {
                    continue;
                }
                let content = self.hash_series(secret, group_hash, column, outcome);
                let made_labels = self.counted.add(head, content, secret, || {
                    series_labels(profile, admission, group, column, outcome)
                });
                cost += SERIES_COST + if made_labels { LABELS_COST } else { 0 };
            }
            self.counted.groups += 1;
        }
        Step::Done
    }

    /// What [`Append::count_series`] counted when it was `Done`.
    pub fn series_counted(&self) -> SeriesCount {
        self.counted.count()
    }

    /// Goes on; the rows become visible when it is `Done`.
    pub fn step(&mut self, heads: &mut Heads, profile: &Profile, admission: &Admission) -> Step {
        let key = self.key.take().expect("a step comes after begin and not after Done");
        let identity = self.identity.expect("begin was told whose rows they are");
        if self.head.is_some() && heads.get(&key).map(Head::id) != self.head {
            // The head was frozen meanwhile: what the scratch knows of its tables is of no use in the fresh one.
            self.begin(heads, &key, identity, profile, admission);
        }
        self.head = Some(heads.ensure(&key));
        let options = *heads.options();
        let step = heads.change(&key, |head| {
            let mut cost_left = STEP_COST_MAX;
            while cost_left > 0 {
                let cost = match self.phase {
                    Phase::Idle => unreachable!("begin left the idle phase"),
                    Phase::Locations { row } => self.locations(&head.symbols, profile, row),
                    Phase::Stacks { sample } => {
                        self.stacks(&mut head.symbols, profile, admission, sample)
                    }
                    Phase::Sort => self.sort(profile, head.symbols.nodes_count()),
                    Phase::Encode { item } if item < self.sorter.items.len() => {
                        self.encode_group(head, profile, admission, item)
                    }
                    Phase::Encode { .. } => {
                        let time_ns = admission.time_ns;
                        head.commit(identity, time_ns, &self.batch, &self.row_series, &options);
                        return Step::Done;
                    }
                };
                cost_left = cost_left.saturating_sub(cost);
            }
            Step::More
        });
        match step {
            Step::More => self.key = Some(key),
            Step::Done => self.phase = Phase::Idle,
        }
        step
    }

    /// What the last append added; valid from `Done` to the next `begin`.
    pub fn appended(&self) -> Appended {
        let (rows, values) = (self.batch.rows_count, self.batch.values_count);
        Appended { rows, values, head: self.head }
    }

    /// Gives the memory that a large profile took back; called between profiles.
    pub fn give_back(&mut self) {
        if self.bytes_held() > SCRATCH_BYTES_MAX {
            *self = Self::default();
        }
    }

    /// Heap bytes of the scratch.
    pub fn bytes_held(&self) -> usize {
        self.interner.bytes_held()
            + self.sorter.bytes_held()
            + self.batch.bytes_held()
            + self.row_series.capacity() * size_of::<SeriesId>()
            + self.column_hashes.capacity() * size_of::<u128>()
            + self.counted.bytes_held()
            + self.nodes.capacity() * size_of::<u32>()
            + self.values.capacity() * size_of::<u64>()
            + self.bytes.capacity()
    }

    /// Looks a batch of locations up, from `row` on; gives the cost.
    fn locations(&mut self, symbols: &Symbols, profile: &Profile, row: usize) -> usize {
        if row == profile.locations.len() || symbols.locations_count() == 0 {
            self.phase = Phase::Stacks { sample: 0 };
            return 0;
        }
        let row = self.interner.find_locations(symbols, profile, row);
        self.phase = Phase::Locations { row };
        self.interner.take_cost()
    }

    /// Finds the nodes of a batch of samples from `sample` on; gives the cost.
    fn stacks(
        &mut self,
        symbols: &mut Symbols,
        profile: &Profile,
        admission: &Admission,
        sample: usize,
    ) -> usize {
        let columns = profile.sample_types.len();
        let first = self.sorter.items.len();
        let until = profile.samples_count().min(sample + SAMPLES_MAX);
        let mut next = sample;
        let mut has_room = true;
        while next < until && has_room {
            let group = profile.sample_groups[next];
            if group != NONE {
                let values = &profile.values[next * columns..][..columns];
                let outcomes = &admission.outcomes[group as usize * columns..][..columns];
                if self.stores_all || has_live_value(values, outcomes) {
                    has_room = self.interner.push_stack(symbols, profile, stack_of(profile, next));
                    self.sorter.items.push(Item { node: NONE, sample: next as u32 });
                }
            }
            next += 1;
        }
        let items = &mut self.sorter.items[first..];
        self.interner.end_batch(symbols, |at, node| items[at].node = node.0);
        if next == profile.samples_count() {
            self.sorter.begin(symbols.nodes_count(), profile.groups_count());
            self.phase = Phase::Sort;
        } else {
            self.phase = Phase::Stacks { sample: next };
        }
        (next - sample) * SAMPLE_COST + self.interner.take_cost()
    }

    fn sort(&mut self, profile: &Profile, nodes_count: usize) -> usize {
        debug_assert!(self.sorter.items.iter().all(|i| (i.node as usize) < nodes_count));
        if self.sorter.step(&profile.sample_groups) == Step::Done {
            self.phase = Phase::Encode { item: 0 };
            return self.sorter.items.len() * VALUE_COST;
        }
        STEP_COST_MAX
    }

    /// Makes the rows of the group whose samples begin at `item`; gives the cost.
    fn encode_group(
        &mut self,
        head: &mut Head,
        profile: &Profile,
        admission: &Admission,
        item: usize,
    ) -> usize {
        let group = profile.sample_groups[self.sorter.items[item].sample as usize];
        let count = self.sorter.items[item..]
            .iter()
            .take_while(|i| profile.sample_groups[i.sample as usize] == group)
            .count();
        let columns = profile.sample_types.len();
        let group_hash = self.hash_group(&head.secret, profile, group);
        for column in 0..columns {
            let outcome = &admission.outcomes[group as usize * columns + column];
            if *outcome == Outcome::Dropped {
                continue;
            }
            let items = &self.sorter.items[item..item + count];
            gather(items, &profile.values, columns, column, &mut self.nodes, &mut self.values);
            if self.nodes.is_empty() {
                continue;
            }
            let content = self.hash_series(&head.secret, group_hash, column, outcome);
            let series = head.series.find(content).unwrap_or_else(|| {
                let labels = series_labels(profile, admission, group as usize, column, outcome);
                head.series.intern(content, labels, &head.secret)
            });
            self.batch.push(series, &mut self.nodes, &mut self.values);
            self.row_series.push(series);
        }
        self.phase = Phase::Encode { item: item + count };
        count * columns * VALUE_COST
    }

    /// Hashes what is the same for all rows of a column, and the series' own labels.
    fn hash_columns(&mut self, secret: &HashSecret, profile: &Profile, admission: &Admission) {
        self.bytes.clear();
        series::extend_with(&mut self.bytes, &admission.labels);
        self.labels_hash = secret.content(&self.bytes);
        self.column_hashes.clear();
        let period = profile.period_type.map(|period| (period.kind, period.unit));
        for sample_type in &profile.sample_types {
            self.bytes.clear();
            for row in [Some(sample_type.kind), Some(sample_type.unit)]
                .into_iter()
                .chain([period.map(|p| p.0), period.map(|p| p.1)])
            {
                let hash = row.map_or(0, |row| self.interner.string_hash(secret, profile, row));
                self.bytes.extend_from_slice(&hash.to_le_bytes());
            }
            self.column_hashes.push(secret.content(&self.bytes));
        }
    }

    fn hash_group(&mut self, secret: &HashSecret, profile: &Profile, group: u32) -> u128 {
        let labels = profile.group_starts[group as usize] as usize
            ..profile.group_starts[group as usize + 1] as usize;
        self.bytes.clear();
        for label in &profile.group_labels[labels] {
            for row in [label.key, label.value] {
                let hash = self.interner.string_hash(secret, profile, row);
                self.bytes.extend_from_slice(&hash.to_le_bytes());
            }
        }
        secret.content(&self.bytes)
    }

    /// What decides a series' labels, as one hash; see [`series_labels`] for what that is.
    fn hash_series(
        &mut self,
        secret: &HashSecret,
        group_hash: u128,
        column: usize,
        outcome: &Outcome,
    ) -> u128 {
        let outcome_hash = match outcome {
            Outcome::Relabelled(labels) => {
                self.bytes.clear();
                series::extend_with(&mut self.bytes, labels);
                secret.content(&self.bytes)
            }
            Outcome::Plain | Outcome::Dropped => 0,
        };
        let mut parts = [0; 64];
        for (slot, hash) in parts.chunks_exact_mut(16).zip([
            self.labels_hash,
            group_hash,
            self.column_hashes[column],
            outcome_hash,
        ]) {
            slot.copy_from_slice(&hash.to_le_bytes());
        }
        secret.content(&parts)
    }
}

/// Location rows of a sample, leaf first.
#[inline]
fn stack_of(profile: &Profile, sample: usize) -> &[u32] {
    let stack = profile.stack_starts[sample]..profile.stack_starts[sample + 1];
    &profile.stack_locations[stack.start as usize..stack.end as usize]
}

/// Whether some column that is stored has a value.
#[inline]
fn has_live_value(values: &[i64], outcomes: &[Outcome]) -> bool {
    values.iter().zip(outcomes).any(|(value, outcome)| *value != 0 && *outcome != Outcome::Dropped)
}

/// One column of a group: equal stacks become one value, zeroes are left out. Items are sorted by node.
fn gather(
    items: &[Item],
    values: &[i64],
    columns: usize,
    column: usize,
    nodes_out: &mut Vec<u32>,
    values_out: &mut Vec<u64>,
) {
    nodes_out.clear();
    values_out.clear();
    let Some(first) = items.first() else { return };
    let (mut node, mut sum) = (first.node, 0_u64);
    for item in items {
        if item.node != node {
            if sum != 0 {
                nodes_out.push(node);
                values_out.push(sum);
            }
            (node, sum) = (item.node, 0);
        }
        // Neither is over the greatest `i64`, so the sum fits, and is cut to it.
        sum = (sum + values[item.sample as usize * columns + column] as u64).min(i64::MAX as u64);
    }
    if sum != 0 {
        nodes_out.push(node);
        values_out.push(sum);
    }
}
