//! A profile on its way into a head: inflated, decoded, checked, admitted.
//!
//! ```text
//! bytes as received ─► inflate ─► decode ─► normalise ─► admit ─► head::Append
//!                      (limit)    columns    groups      decisions   └► wal record = decisions + bytes as received
//! ```
//! A [`Profile`] is scratch: one per shard, refilled for each profile, so that the number of allocations does not depend on
//! the number of samples. Every step is resumable (`step(…) -> Step`), so that a large profile never holds a shard for 2 ms.
//! Nothing here touches a head: what fails before [`Admission`] exists leaves no trace.

mod admission;
mod admit;
mod check;
#[cfg(test)]
mod corpus;
mod decode;
mod go;
mod ids;
mod inflate;
mod intake;
mod normalise;
mod resolve;
mod time;
pub(crate) mod wire;

pub use admission::{Admission, Outcome, PIPELINE_VERSION};
pub use admit::series_labels;
pub(crate) use inflate::PROFILE_BYTES_MAX;
pub use intake::{Intake, IntakeStep, PushFacts};
pub use time::format_time_ms;

/// A run of bytes in [`Profile::bytes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

/// No such row.
pub const NONE: u32 = u32::MAX;

/// Whether a resumable pass has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call again after giving others a turn.
    More,
    /// Finished.
    Done,
}

/// One decoded pprof message as columns; every reference is a dense, checked index. Rows keep the message's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The inflated message; strings that were rewritten (generic Go names) stand behind it.
    pub bytes: Vec<u8>,
    /// Length of the inflated message proper.
    pub message_len: usize,
    /// String table; valid UTF-8, row 0 is empty, cut to the symbol length limit (tail kept).
    pub strings: Vec<Span>,
    /// Value columns.
    pub sample_types: Vec<ValueType>,
    /// `period_type`, where given.
    pub period_type: Option<ValueType>,
    /// `period`.
    pub period: i64,
    /// `time_nanos` as sent; 0 when absent.
    pub time_ns: i64,
    /// `duration_nanos`.
    pub duration_ns: i64,
    /// Mappings.
    pub mappings: Vec<Mapping>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Locations.
    pub locations: Vec<Location>,
    /// Lines of all locations, innermost (inlined) first within one.
    pub lines: Vec<Line>,
    /// Where the stack of each sample begins in `stack_locations`; one more than samples.
    pub stack_starts: Vec<u32>,
    /// Rows of `locations`, leaf first, already cut to the depth limit. Of a sample that was dropped they may be no rows.
    pub stack_locations: Vec<u32>,
    /// `sample_types.len()` values a sample.
    pub values: Vec<i64>,
    /// Where the string labels of each sample begin in `labels`; one more than samples.
    pub label_starts: Vec<u32>,
    /// String labels (numeric ones are dropped).
    pub labels: Vec<SampleLabel>,
    /// Group of each sample, [`NONE`] for a sample that normalising dropped. Filled by normalising.
    pub sample_groups: Vec<u32>,
    /// Where the labels of each group begin in `group_labels`; one more than groups. Groups stand in order of first appearance.
    pub group_starts: Vec<u32>,
    /// Labels of the groups, sorted by name, without `span_id`, `trace_id` and `profile_id`.
    pub group_labels: Vec<SampleLabel>,
    /// Span id of each sample (its hex text is `{:016x}`), 0 for none; empty where no sample has one.
    pub sample_spans: Vec<u64>,
    /// Trace id of each sample (its hex text is `{:032x}`), 0 for none; empty where no sample has one.
    pub sample_traces: Vec<u128>,
}

/// A pprof value type; rows of the string table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are pprof's")]
pub struct ValueType {
    pub kind: u32,
    pub unit: u32,
}

/// A pprof mapping; strings are rows of the string table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, clippy::struct_excessive_bools, reason = "the fields are pprof's")]
pub struct Mapping {
    pub memory_start: u64,
    pub memory_limit: u64,
    pub file_offset: u64,
    pub filename: u32,
    pub build_id: u32,
    pub has_functions: bool,
    pub has_filenames: bool,
    pub has_line_numbers: bool,
    pub has_inline_frames: bool,
}

/// A pprof function; strings are rows of the string table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are pprof's")]
pub struct Function {
    pub name: u32,
    pub system_name: u32,
    pub filename: u32,
    pub start_line: i64,
}

/// A pprof location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Row of `mappings`, [`NONE`] for none.
    pub mapping: u32,
    /// Address; 0 where the mapping has functions (normalised).
    pub address: u64,
    /// First row of `lines`.
    pub lines_start: u32,
    /// Number of lines.
    pub lines_count: u32,
    /// pprof's `is_folded`.
    pub is_folded: bool,
}

/// One (inlined) line of a location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Row of `functions`.
    pub function: u32,
    /// Line number.
    pub line: i64,
}

/// A string label of a sample; rows of the string table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are pprof's")]
pub struct SampleLabel {
    pub key: u32,
    pub value: u32,
}

impl Profile {
    /// Text of a string row.
    pub fn string(&self, row: u32) -> &str {
        std::str::from_utf8(self.string_bytes(row))
            .expect("the decoder checked that strings are UTF-8")
    }

    /// Text of a string row as bytes, which are UTF-8; looks at none of them.
    pub fn string_bytes(&self, row: u32) -> &[u8] {
        let Span { start, len } = self.strings[row as usize];
        &self.bytes[start as usize..(start + len) as usize]
    }

    /// Number of samples.
    pub fn samples_count(&self) -> usize {
        self.stack_starts.len().saturating_sub(1)
    }

    /// Number of label groups.
    pub fn groups_count(&self) -> usize {
        self.group_starts.len().saturating_sub(1)
    }

    /// Labels of a group, sorted by name.
    pub fn labels_of_group(&self, group: usize) -> &[SampleLabel] {
        &self.group_labels[self.group_starts[group] as usize..self.group_starts[group + 1] as usize]
    }

    /// Empties the profile and keeps its memory.
    fn clear(&mut self) {
        let Self {
            bytes,
            message_len,
            strings,
            sample_types,
            period_type,
            period,
            time_ns,
            duration_ns,
            mappings,
            functions,
            locations,
            lines,
            stack_starts,
            stack_locations,
            values,
            label_starts,
            labels,
            sample_groups,
            group_starts,
            group_labels,
            sample_spans,
            sample_traces,
        } = self;
        (*message_len, *period_type, *period, *time_ns, *duration_ns) = (0, None, 0, 0, 0);
        bytes.clear();
        strings.clear();
        sample_types.clear();
        mappings.clear();
        functions.clear();
        locations.clear();
        lines.clear();
        stack_starts.clear();
        stack_locations.clear();
        values.clear();
        label_starts.clear();
        labels.clear();
        sample_groups.clear();
        group_starts.clear();
        group_labels.clear();
        sample_spans.clear();
        sample_traces.clear();
    }

    /// Heap bytes held, capacities included.
    pub fn bytes_held(&self) -> usize {
        fn held<T>(column: &Vec<T>) -> usize {
            column.capacity() * size_of::<T>()
        }
        held(&self.bytes)
            + held(&self.strings)
            + held(&self.sample_types)
            + held(&self.mappings)
            + held(&self.functions)
            + held(&self.locations)
            + held(&self.lines)
            + held(&self.stack_starts)
            + held(&self.stack_locations)
            + held(&self.values)
            + held(&self.label_starts)
            + held(&self.labels)
            + held(&self.sample_groups)
            + held(&self.group_starts)
            + held(&self.group_labels)
            + held(&self.sample_spans)
            + held(&self.sample_traces)
    }
}

/// As far as a budget goes from `from` to at most `end`: one step at least, where there is one.
fn part(from: usize, end: usize, budget: &mut i64, cost: i64) -> usize {
    let to = end.min(from + (*budget / cost).max(1) as usize);
    *budget -= (to - from) as i64 * cost;
    to
}
