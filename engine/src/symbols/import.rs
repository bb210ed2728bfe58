//! Another shard's part of an answer, interned: how a querier merges partial profiles.

use proto::rpc::select::ProfilePart;

use super::interner::{Interner, LocationRow, Source};
use super::{NodeId, Symbols};
use crate::profile::{self, Step};

/// Nodes a step adds at most: half a millisecond when all of them are new.
const STEP_NODES_MAX: usize = 4096;

/// Work of a step beside nodes, about nanoseconds.
const STEP_COST_MAX: usize = 500_000;

/// Why a part cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartError {
    /// A column is shorter or longer than its neighbours.
    #[error("partial profile: {what} has {got} rows, not {want}")]
    Length {
        /// The column.
        what: &'static str,
        /// Rows it has.
        got: usize,
        /// Rows it should have.
        want: usize,
    },
    /// A row refers to a row that is not there, or a node to a later node.
    #[error("partial profile: {what} {at} refers to row {row} of {rows}")]
    Reference {
        /// The referring column.
        what: &'static str,
        /// The referring row.
        at: usize,
        /// The row named.
        row: u32,
        /// Number of rows there are, or may be named.
        rows: usize,
    },
    /// The part holds more rows than a partial profile may.
    #[error("partial profile: {what} has {got} rows, more than u32 can count")]
    TooMany {
        /// The column.
        what: &'static str,
        /// Rows it has.
        got: usize,
    },
}

/// Interns the nodes of one part, a bounded number at a time.
///
/// Parts need not come from trusted code of the same process: every reference is checked before use.
#[derive(Debug, Default)]
pub struct PartImport {
    interner: Interner,
    nodes: Vec<NodeId>,
}

impl PartImport {
    /// Starts on another part; the scratch is reused.
    pub fn begin(&mut self, part: &ProfilePart) -> Result<(), PartError> {
        check(part)?;
        self.nodes.clear();
        self.interner.begin(
            part.strings.len(),
            part.mappings.len(),
            part.functions.len(),
            part.locations.len(),
        );
        Ok(())
    }

    /// Interns some more nodes of `part` (the one given to [`PartImport::begin`]).
    pub fn step(&mut self, symbols: &mut Symbols, part: &ProfilePart) -> Step {
        let until = part.parents.len().min(self.nodes.len() + STEP_NODES_MAX);
        let mut cost = 0;
        while self.nodes.len() < until && cost < STEP_COST_MAX {
            let at = self.nodes.len();
            let node = match (part.parents[at], part.location_ids[at]) {
                (_, u32::MAX) => NodeId::ROOT,
                (parent, location) => {
                    let parent = match parent {
                        u32::MAX => NodeId::ROOT,
                        parent => self.nodes[parent as usize],
                    };
                    let location = self.interner.location(symbols, part, location);
                    let last = at.checked_sub(1).map_or(NodeId::ROOT, |last| self.nodes[last]);
                    symbols.child_near(parent, location, last)
                }
            };
            self.nodes.push(node);
            cost += self.interner.take_cost();
        }
        if self.nodes.len() == part.parents.len() { Step::Done } else { Step::More }
    }

    /// The node of each row of the part, as far as [`PartImport::step`] has come.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }
}

impl Source for ProfilePart {
    fn string_bytes(&self, row: u32) -> &[u8] {
        self.strings[row as usize].as_bytes()
    }

    fn string(&self, row: u32) -> &str {
        &self.strings[row as usize]
    }

    fn mapping(&self, row: u32) -> profile::Mapping {
        let m = &self.mappings[row as usize];
        profile::Mapping {
            memory_start: m.memory_start,
            memory_limit: m.memory_limit,
            file_offset: m.file_offset,
            filename: m.filename,
            build_id: m.build_id,
            has_functions: m.has_functions,
            has_filenames: m.has_filenames,
            has_line_numbers: m.has_line_numbers,
            has_inline_frames: m.has_inline_frames,
        }
    }

    fn function(&self, row: u32) -> profile::Function {
        let f = &self.functions[row as usize];
        profile::Function {
            name: f.name,
            system_name: f.system_name,
            filename: f.filename,
            start_line: f.start_line,
        }
    }

    fn location(&self, row: u32) -> LocationRow {
        let l = &self.locations[row as usize];
        LocationRow { mapping: l.mapping, address: l.address, is_folded: l.is_folded }
    }

    fn lines(&self, row: u32) -> impl Iterator<Item = profile::Line> {
        let lines = self.locations[row as usize].lines.iter();
        lines.map(|&(function, line)| profile::Line { function, line })
    }
}

/// Whether every reference of a part is to a row that exists.
fn check(part: &ProfilePart) -> Result<(), PartError> {
    let nodes = part.parents.len();
    for (what, got) in [("location_ids", part.location_ids.len()), ("values", part.values.len())] {
        if got != nodes {
            return Err(PartError::Length { what, got, want: nodes });
        }
    }
    for (what, got) in [
        ("strings", part.strings.len()),
        ("mappings", part.mappings.len()),
        ("functions", part.functions.len()),
        ("locations", part.locations.len()),
        ("parents", nodes),
    ] {
        if got >= u32::MAX as usize {
            return Err(PartError::TooMany { what, got });
        }
    }
    let strings = part.strings.len();
    for (at, m) in part.mappings.iter().enumerate() {
        refers("mapping filename", at, m.filename, strings)?;
        refers("mapping build id", at, m.build_id, strings)?;
    }
    for (at, f) in part.functions.iter().enumerate() {
        refers("function name", at, f.name, strings)?;
        refers("function system name", at, f.system_name, strings)?;
        refers("function filename", at, f.filename, strings)?;
    }
    for (at, l) in part.locations.iter().enumerate() {
        if l.mapping != u32::MAX {
            refers("location mapping", at, l.mapping, part.mappings.len())?;
        }
        for (function, _) in &l.lines {
            refers("location line", at, *function, part.functions.len())?;
        }
    }
    for (at, (&parent, &location)) in part.parents.iter().zip(&part.location_ids).enumerate() {
        if parent != u32::MAX {
            refers("node parent", at, parent, at)?;
        }
        if location != u32::MAX {
            refers("node location", at, location, part.locations.len())?;
        }
    }
    Ok(())
}

fn refers(what: &'static str, at: usize, row: u32, rows: usize) -> Result<(), PartError> {
    if (row as usize) < rows { Ok(()) } else { Err(PartError::Reference { what, at, row, rows }) }
}
