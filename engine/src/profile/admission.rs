//! The decisions of a profile's admission: what the log keeps so that replay decides nothing again.

use crate::labels::LabelSet;

/// Version of the pipeline that took the decisions; replay of an older version groups and cuts as that version did.
pub const PIPELINE_VERSION: u16 = 1;

/// What was decided of one profile. With the bytes as received it determines what the head holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// [`PIPELINE_VERSION`] of the writer.
    pub pipeline_version: u16,
    /// The profile's time, resolved, Unix nanoseconds.
    pub time_ns: i64,
    /// Stacks were cut to this depth at the leaf; 0 for no limit.
    pub stacktrace_depth_max: u32,
    /// Strings were cut to this many bytes, tail kept; 0 for no limit.
    pub symbol_bytes_max: u32,
    /// Truncated Go stacks were mended and generic Go names cleaned.
    pub go_fixes: bool,
    /// Labels of the pushed series after admission, without the derived ones.
    pub labels: LabelSet,
    /// One outcome per (group, column), groups outermost, in [`super::Profile`]'s order.
    pub outcomes: Vec<Outcome>,
}

/// What became of one value column of one label group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored under the series labels ∪ the group's (series labels win), plus the labels derived from the column.
    Plain,
    /// Not stored: a relabelling or sample type rule dropped it, or all its values are zero.
    Dropped,
    /// Stored under these labels (a relabelling rule changed them), plus the labels derived from the column.
    Relabelled(LabelSet),
}
