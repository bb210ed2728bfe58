//! The part of the symbols that some values need, as a message: a shard's share of a merged profile.

use proto::rpc::select::{FunctionPart, LocationPart, MappingPart, ProfilePart};

use super::{FunctionId, LocationId, MappingId, NodeId, StringId, Symbols};
use crate::profile::Step;

/// Nodes a step visits at most. Copying a node that needs a new location and new strings takes some 100 ns.
const STEP_NODES_MAX: usize = 4096;

/// No row yet.
const NONE: u32 = u32::MAX;

/// Builds a [`ProfilePart`] of the nodes with values and their callers, a bounded number of nodes at a time.
#[derive(Debug)]
pub struct PartExport {
    /// By node: the self value.
    values: Vec<i64>,
    /// By node: whether it goes into the part; then its row there.
    rows: Vec<u32>,
    marked_down_to: usize,
    copied_up_to: usize,
    strings: Vec<u32>,
    mappings: Vec<u32>,
    functions: Vec<u32>,
    locations: Vec<u32>,
    part: ProfilePart,
}

/// In [`PartExport::rows`]: goes into the part, has no row there yet.
const MARKED: u32 = u32::MAX - 1;

impl PartExport {
    /// `values` are self values by node id; nodes beyond its end have none.
    pub fn new(symbols: &Symbols, values: Vec<i64>) -> Self {
        assert!(values.len() <= symbols.nodes_count(), "a value belongs to a node");
        Self {
            rows: vec![NONE; values.len()],
            marked_down_to: values.len(),
            copied_up_to: 0,
            strings: vec![NONE; symbols.strings_count()],
            mappings: vec![NONE; symbols.mappings_count()],
            functions: vec![NONE; symbols.functions_count()],
            locations: vec![NONE; symbols.locations_count()],
            part: ProfilePart { strings: vec![String::new()], ..ProfilePart::default() },
            values,
        }
    }

    /// Visits some more nodes. The tables may grow between steps: rows and values that came later are left out.
    pub fn step(&mut self, symbols: &Symbols) -> Step {
        let (parents, locations) = symbols.tree_columns();
        if self.marked_down_to > 0 {
            let from = self.marked_down_to.saturating_sub(STEP_NODES_MAX);
            for node in (from..self.marked_down_to).rev() {
                if self.rows[node] == MARKED || self.values[node] != 0 {
                    self.rows[node] = MARKED;
                    // A parent has a smaller id, so one pass downwards closes the set.
                    if let Some(row) = self.rows.get_mut(parents[node] as usize) {
                        *row = MARKED;
                    }
                }
            }
            self.marked_down_to = from;
            return Step::More;
        }
        let until = self.values.len().min(self.copied_up_to + STEP_NODES_MAX);
        for node in self.copied_up_to..until {
            if self.rows[node] == MARKED {
                self.copy(symbols, node, parents[node], locations[node]);
            }
        }
        self.copied_up_to = until;
        if until == self.values.len() { Step::Done } else { Step::More }
    }

    /// Number of nodes that it looks at.
    pub fn nodes_count(&self) -> usize {
        self.rows.len()
    }

    /// The part, once [`PartExport::step`] was done.
    pub fn finish(self) -> ProfilePart {
        assert!(self.copied_up_to == self.values.len(), "a part is taken when it is whole");
        self.part
    }

    /// The root becomes a row only where the empty stack has a value of its own: then with no parent and no location.
    fn copy(&mut self, symbols: &Symbols, node: usize, parent: u32, location: u32) {
        let is_root = node == NodeId::ROOT.0 as usize;
        if is_root && self.values[node] == 0 {
            return;
        }
        let parent = match parent {
            _ if is_root => NONE,
            0 => NONE,
            parent => self.rows[parent as usize],
        };
        let location = if is_root { NONE } else { self.location(symbols, LocationId(location)) };
        self.rows[node] = self.part.parents.len() as u32;
        self.part.parents.push(parent);
        self.part.location_ids.push(location);
        self.part.values.push(self.values[node]);
    }

    fn location(&mut self, symbols: &Symbols, id: LocationId) -> u32 {
        let known = self.locations.get(id.0 as usize).copied().unwrap_or(NONE);
        if known != NONE {
            return known;
        }
        let location = LocationPart {
            mapping: symbols.mapping_of(id).map_or(NONE, |id| self.mapping(symbols, id)),
            address: symbols.address_of(id),
            is_folded: symbols.is_folded(id),
            lines: symbols
                .lines(id)
                .map(|line| (self.function(symbols, line.function), line.line))
                .collect(),
        };
        let row = self.part.locations.len() as u32;
        self.part.locations.push(location);
        self.locations[id.0 as usize] = row;
        row
    }

    fn function(&mut self, symbols: &Symbols, id: FunctionId) -> u32 {
        let known = self.functions[id.0 as usize];
        if known != NONE {
            return known;
        }
        let function = symbols.function(id);
        let function = FunctionPart {
            name: self.string(symbols, function.name),
            system_name: self.string(symbols, function.system_name),
            filename: self.string(symbols, function.filename),
            start_line: function.start_line,
        };
        let row = self.part.functions.len() as u32;
        self.part.functions.push(function);
        self.functions[id.0 as usize] = row;
        row
    }

    fn mapping(&mut self, symbols: &Symbols, id: MappingId) -> u32 {
        let known = self.mappings[id.0 as usize];
        if known != NONE {
            return known;
        }
        let mapping = symbols.mapping(id);
        let mapping = MappingPart {
            memory_start: mapping.memory_start,
            memory_limit: mapping.memory_limit,
            file_offset: mapping.file_offset,
            filename: self.string(symbols, mapping.filename),
            build_id: self.string(symbols, mapping.build_id),
            has_functions: mapping.has_functions,
            has_filenames: mapping.has_filenames,
            has_line_numbers: mapping.has_line_numbers,
            has_inline_frames: mapping.has_inline_frames,
        };
        let row = self.part.mappings.len() as u32;
        self.part.mappings.push(mapping);
        self.mappings[id.0 as usize] = row;
        row
    }

    fn string(&mut self, symbols: &Symbols, id: StringId) -> u32 {
        if id == StringId(0) {
            return 0;
        }
        let known = self.strings[id.0 as usize];
        if known != NONE {
            return known;
        }
        let row = self.part.strings.len() as u32;
        self.part.strings.push(symbols.string(id).to_owned());
        self.strings[id.0 as usize] = row;
        row
    }
}
