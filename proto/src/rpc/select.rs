//! One shard's part of a read.
//!
//! Parts are whole (never truncated) and carry ids instead of repeated strings; the querier merges them and truncates once.

use super::Failure;

/// Which series and which time a read is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Tenants whose data is merged, sorted, distinct.
    pub tenants: Vec<String>,
    /// Matchers that all must hold (the profile type is one of them, on `__profile_type__`).
    pub matchers: Vec<MatcherText>,
    /// First millisecond of the range.
    pub start_ms: i64,
    /// Last millisecond of the range, included.
    pub end_ms: i64,
}

/// A label matcher, checked by the querier already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatcherText {
    /// Label name.
    pub name: String,
    /// Operator.
    pub op: MatchOp,
    /// Value or RE2 pattern (anchored).
    pub value: String,
}

/// The four matchers of `PromQL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are PromQL's and say it")]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

/// A read of one shard.
#[derive(Clone, Debug)]
pub enum SelectRequest {
    /// Distinct label sets restricted to the names (all names when empty).
    Series {
        /// What to read.
        selection: Selection,
        /// Names kept.
        label_names: Vec<String>,
    },
    /// Sorted distinct label names.
    LabelNames(Selection),
    /// Sorted distinct values of one label.
    LabelValues {
        /// What to read.
        selection: Selection,
        /// The label.
        name: String,
    },
    /// Values on a time grid, by group.
    Points {
        /// What to read; `start_ms` is already one step early (points cover (t − step, t]).
        selection: Selection,
        /// First grid point, Unix milliseconds.
        grid_start_ms: i64,
        /// Distance of grid points, milliseconds, at least 1.
        step_ms: i64,
        /// Labels that form the groups.
        group_by: Vec<String>,
        /// Call site: function names root first; empty for all stacks.
        call_site: Vec<String>,
    },
    /// Function-name tree.
    Tree {
        /// What to read.
        selection: Selection,
        /// Call site: function names root first; empty for all stacks.
        call_site: Vec<String>,
    },
    /// Location tree with full symbols.
    Profile {
        /// What to read.
        selection: Selection,
        /// Call site: function names root first; empty for all stacks.
        call_site: Vec<String>,
    },
    /// Whether the tenant has data, and its least and greatest profile time.
    Stats {
        /// Tenant id.
        tenant: String,
    },
}

/// To a [`SelectRequest`], variant for variant.
#[derive(Clone, Debug)]
pub enum SelectReply {
    /// Sorted distinct label sets.
    Series(Vec<Vec<(String, String)>>),
    /// Sorted distinct names or values.
    Names(Vec<String>),
    /// Groups with their points.
    Points(Vec<PointsPart>),
    /// Function-name tree.
    Tree(TreePart),
    /// Location trees, one of each partition that has a profile in range (though none of its stacks may be asked for).
    Profile(Vec<ProfilePart>),
    /// Data of a tenant.
    Stats(StatsPart),
    /// This shard could not answer (recovery is running, the query is too large, …).
    Failed(Failure),
}

/// One group of a time series.
#[derive(Clone, Debug, PartialEq)]
pub struct PointsPart {
    /// The group's labels, sorted by name; those a series lacks are absent.
    pub labels: Vec<(String, String)>,
    /// (grid time in Unix ms, sum of values, number of profiles), by time, only where there is data.
    pub points: Vec<(i64, i64, u64)>,
}

/// A tree over function names; parents come before their children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreePart {
    /// Names, each once.
    pub names: Vec<String>,
    /// Parent node of each node, `u32::MAX` for a root.
    pub parents: Vec<u32>,
    /// Index into `names` of each node.
    pub name_ids: Vec<u32>,
    /// Self value of each node.
    pub values: Vec<i64>,
}

/// A tree over locations with everything a pprof says of them; parents come before their children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfilePart {
    /// Strings, each once; index 0 is empty.
    pub strings: Vec<String>,
    /// Mappings.
    pub mappings: Vec<MappingPart>,
    /// Functions.
    pub functions: Vec<FunctionPart>,
    /// Locations.
    pub locations: Vec<LocationPart>,
    /// Parent node of each node, `u32::MAX` for a root.
    pub parents: Vec<u32>,
    /// Index into `locations` of each node; `u32::MAX` for the empty stack, which has no parent either.
    pub location_ids: Vec<u32>,
    /// Self value of each node.
    pub values: Vec<i64>,
}

/// A mapping; strings are indices into [`ProfilePart::strings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, clippy::struct_excessive_bools, reason = "the fields are pprof's")]
pub struct MappingPart {
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

/// A function; strings are indices into [`ProfilePart::strings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are pprof's")]
pub struct FunctionPart {
    pub name: u32,
    pub system_name: u32,
    pub filename: u32,
    pub start_line: i64,
}

/// A location with its inlined lines, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LocationPart {
    /// Index into [`ProfilePart::mappings`], `u32::MAX` for none.
    pub mapping: u32,
    /// Address, 0 where the mapping has functions.
    pub address: u64,
    /// pprof's `is_folded`.
    pub is_folded: bool,
    /// (index into [`ProfilePart::functions`], line number).
    pub lines: Vec<(u32, i64)>,
}

/// What a shard knows of a tenant's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsPart {
    /// Whether there is any profile.
    pub data_ingested: bool,
    /// Least profile time, Unix ms.
    pub oldest_ms: i64,
    /// Greatest profile time, Unix ms.
    pub newest_ms: i64,
}
