//! Which samples stay, and which series they belong to.
//!
//! A sample leaves when its values are all zero or any is negative. Its string labels, without span and trace ids, make the group
//! it belongs to; each group becomes a series of its own. A label that the pushed series has too is none of the group's: series
//! labels win. Merging equal stacks and leaving out what nothing refers to is the head's work: it interns anyway.

use hashbrown::HashTable;

use super::{NONE, Profile, SampleLabel, Step};
use crate::hash::HashSecret;
use crate::labels::{LabelSet, name};

/// Costs of a sample and of one of its labels in units of [`super::intake`]'s budget, nanoseconds.
const SAMPLE_COST: i64 = 6;
const LABEL_COST: i64 = 30;

/// What a label name means for its sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// It tells groups apart.
    Group,
    /// The series has it already.
    Shadowed,
    Span,
    Trace,
}

/// Groups the samples of one profile after another.
#[derive(Debug)]
pub(super) struct Grouper {
    secret: HashSecret,
    sample: usize,
    /// By row of the string table, as a label name.
    roles: Vec<Role>,
    /// By row of the string table: the first row met with its text, or [`NONE`].
    canonical: Vec<u32>,
    row_of_text: HashTable<u32>,
    /// Lists of labels met, each as it came in, and in canonical rows, sorted.
    lists: Vec<SampleLabel>,
    group_of_list: HashTable<List>,
    /// The last list.
    last: Option<List>,
    scratch: Vec<SampleLabel>,
    /// By group and column: whether any value is not zero.
    has_values: Vec<bool>,
}

/// A list of labels within `lists`, and its group.
#[derive(Clone, Copy, Debug)]
struct List {
    hash: u64,
    start: u32,
    end: u32,
    group: u32,
}

impl Grouper {
    pub(super) fn new(secret: HashSecret) -> Self {
        Self {
            secret,
            sample: 0,
            roles: Vec::new(),
            canonical: Vec::new(),
            row_of_text: HashTable::new(),
            lists: Vec::new(),
            group_of_list: HashTable::new(),
            last: None,
            scratch: Vec::new(),
            has_values: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self) {
        self.sample = 0;
        self.roles.clear();
        self.canonical.clear();
        self.row_of_text.clear();
        self.lists.clear();
        self.group_of_list.clear();
        self.last = None;
        self.has_values.clear();
    }

    pub(super) fn bytes_held(&self) -> usize {
        self.roles.capacity()
            + self.has_values.capacity()
            + self.canonical.capacity() * size_of::<u32>()
            + self.row_of_text.allocation_size()
            + self.group_of_list.allocation_size()
            + (self.lists.capacity() + self.scratch.capacity()) * size_of::<SampleLabel>()
    }

    /// Whether a column of a group has a value that is not zero.
    pub(super) fn has_values(&self, group: usize, column: usize, columns: usize) -> bool {
        self.has_values[group * columns + column]
    }

    /// Groups while the budget lasts. `labels` are those of the series, none of them empty.
    #[inline(never)] // its loops have the registers to themselves: 3 % of an intake
    pub(super) fn step(
        &mut self,
        profile: &mut Profile,
        labels: &LabelSet,
        budget: &mut i64,
    ) -> Step {
        if profile.group_starts.is_empty() {
            profile.group_starts.push(0);
            if !profile.labels.is_empty() {
                self.roles.resize(profile.strings.len(), Role::Unknown);
                self.canonical.resize(profile.strings.len(), NONE);
            }
        }
        let columns = profile.sample_types.len();
        let samples_count = profile.samples_count();
        while self.sample < samples_count && *budget > 0 {
            let sample = self.sample;
            self.sample += 1;
            *budget -= SAMPLE_COST;
            let values = &profile.values[sample * columns..][..columns];
            // The sign bit of the OR is set when any is negative; the OR is 0 when all are.
            let all = values.iter().fold(0, |all, value| all | value);
            if all <= 0 || profile.sample_groups[sample] == NONE {
                profile.sample_groups[sample] = NONE;
                continue;
            }
            let group = if profile.label_starts[sample] == profile.label_starts[sample + 1]
                && let Some(List { start, end, group, .. }) = self.last
                && start == end
            {
                group
            } else {
                self.group(profile, sample, labels, budget)
            };
            profile.sample_groups[sample] = group;
            let has_values = &mut self.has_values[group as usize * columns..][..columns];
            for (has, value) in has_values.iter_mut().zip(&profile.values[sample * columns..]) {
                *has |= *value != 0;
            }
        }
        if self.sample == samples_count { Step::Done } else { Step::More }
    }

    /// The group of a sample by its labels; its span and trace are noted on the way.
    fn group(
        &mut self,
        profile: &mut Profile,
        sample: usize,
        series: &LabelSet,
        budget: &mut i64,
    ) -> u32 {
        let range =
            profile.label_starts[sample] as usize..profile.label_starts[sample + 1] as usize;
        *budget -= range.len() as i64 * LABEL_COST;
        self.scratch.clear();
        for at in range {
            let SampleLabel { key, value } = profile.labels[at];
            match self.role(profile, key, series) {
                Role::Shadowed | Role::Unknown => {}
                Role::Span => note_span(profile, sample, value),
                Role::Trace => note_trace(profile, sample, value),
                Role::Group => self.scratch.push(SampleLabel { key, value }),
            }
        }
        if let Some(last) = self.last
            && self.lists[last.start as usize..last.end as usize] == *self.scratch
        {
            return last.group;
        }
        let list = self.known_list().unwrap_or_else(|| self.new_list(profile));
        self.last = Some(list);
        list.group
    }

    fn role(&mut self, profile: &Profile, key: u32, series: &LabelSet) -> Role {
        let role = &mut self.roles[key as usize];
        if *role == Role::Unknown {
            let text = profile.string(key);
            *role = match text {
                name::PROFILE_ID | name::SPAN_ID => Role::Span,
                name::TRACE_ID => Role::Trace,
                _ if series.get(text).is_some() => Role::Shadowed,
                _ => Role::Group,
            };
        }
        *role
    }

    /// String tables may hold a text twice; groups are told apart by texts.
    fn canonical_row(&mut self, profile: &Profile, row: u32) -> u32 {
        if self.canonical[row as usize] == NONE {
            let text = profile.string_bytes(row);
            let secret = &self.secret;
            let first = self.row_of_text.entry(
                secret.table(text),
                |&known| profile.string_bytes(known) == text,
                |&known| secret.table(profile.string_bytes(known)),
            );
            self.canonical[row as usize] = *first.or_insert(row).get();
        }
        self.canonical[row as usize]
    }

    /// The list that equals the scratch.
    fn known_list(&self) -> Option<List> {
        let same =
            |list: &List| self.lists[list.start as usize..list.end as usize] == *self.scratch;
        self.group_of_list.find(hash(&self.secret, &self.scratch), same).copied()
    }

    /// Enters the scratch as a list: an order of labels that is new, and maybe a group that is.
    fn new_list(&mut self, profile: &mut Profile) -> List {
        let as_sent = self.enter();
        self.scratch.retain(|label| profile.strings[label.value as usize].len > 0);
        for at in 0..self.scratch.len() {
            let SampleLabel { key, value } = self.scratch[at];
            let (key, value) =
                (self.canonical_row(profile, key), self.canonical_row(profile, value));
            self.scratch[at] = SampleLabel { key, value };
        }
        // Of several values of one name the first in the table counts, as in Pyroscope.
        self.scratch.sort_unstable_by_key(|label| (label.key, label.value));
        self.scratch.dedup_by_key(|label| label.key);
        self.scratch.sort_unstable_by(|a, b| profile.string(a.key).cmp(profile.string(b.key)));
        let group = match self.known_list() {
            Some(list) => list.group,
            None => self.new_group(profile),
        };
        let list = List { group, ..as_sent };
        self.insert(list);
        if self.lists[list.start as usize..list.end as usize] != *self.scratch {
            let sorted = self.enter();
            self.insert(List { group, ..sorted });
        }
        list
    }

    fn new_group(&mut self, profile: &mut Profile) -> u32 {
        let group = profile.groups_count() as u32;
        profile.group_labels.extend_from_slice(&self.scratch);
        profile.group_starts.push(profile.group_labels.len() as u32);
        self.has_values.resize(self.has_values.len() + profile.sample_types.len(), false);
        group
    }

    fn enter(&mut self) -> List {
        let start = self.lists.len() as u32;
        self.lists.extend_from_slice(&self.scratch);
        let end = self.lists.len() as u32;
        List { hash: hash(&self.secret, &self.scratch), start, end, group: NONE }
    }

    fn insert(&mut self, list: List) {
        self.group_of_list.insert_unique(list.hash, list, |list| list.hash);
    }
}

fn hash(secret: &HashSecret, labels: &[SampleLabel]) -> u64 {
    labels.iter().fold(labels.len() as u64, |hash, label| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&hash.to_le_bytes());
        bytes[8..12].copy_from_slice(&label.key.to_le_bytes());
        bytes[12..].copy_from_slice(&label.value.to_le_bytes());
        secret.table(&bytes)
    })
}

fn note_span(profile: &mut Profile, sample: usize, value: u32) {
    let Some(bytes) = hex::<8>(profile.string_bytes(value)) else { return };
    if profile.sample_spans.is_empty() {
        profile.sample_spans.resize(profile.samples_count(), 0);
    }
    let span = &mut profile.sample_spans[sample];
    if *span == 0 {
        *span = u64::from_be_bytes(bytes);
    }
}

fn note_trace(profile: &mut Profile, sample: usize, value: u32) {
    let Some(bytes) = hex::<16>(profile.string_bytes(value)) else { return };
    if profile.sample_traces.is_empty() {
        profile.sample_traces.resize(profile.samples_count(), 0);
    }
    let trace = &mut profile.sample_traces[sample];
    if *trace == 0 {
        *trace = u128::from_be_bytes(bytes);
    }
}

/// Exactly as many hex digits as make the bytes.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    let (pairs, _) = text.as_chunks::<2>();
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
