//! Rows of a block on their way into tables that are read and never searched: no hashes, so a row costs its copy.
//!
//! Equal rows may come twice (the block's dictionaries are by column); whoever merges compares content. Nothing is interned into
//! such tables afterwards: an interner would not find what is there.

use super::{
    Function, FunctionId, Line, LocationId, Mapping, MappingId, NodeId, StringId, Symbols,
};

impl Symbols {
    /// Adds a string.
    pub(crate) fn push_string(&mut self, text: &str) -> StringId {
        self.strings.push(text)
    }

    /// Adds a mapping of strings that were added.
    pub(crate) fn push_mapping(&mut self, mapping: &Mapping) -> MappingId {
        self.mappings.push(mapping)
    }

    /// Adds a function of strings that were added.
    pub(crate) fn push_function(&mut self, function: &Function) -> FunctionId {
        self.functions.push(function)
    }

    /// Adds a location with its lines.
    pub(crate) fn push_location(
        &mut self,
        mapping: Option<MappingId>,
        address: u64,
        is_folded: bool,
        lines: &[Line],
    ) -> LocationId {
        for line in lines {
            self.locations.push_line(*line);
        }
        self.locations.push_unhashed(mapping, address, is_folded)
    }

    /// Adds a node below one that was added.
    pub(crate) fn push_node(&mut self, parent: NodeId, location: LocationId) {
        self.tree.push(parent, location);
    }
}
