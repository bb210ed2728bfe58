//! Symbols of one partition: strings, mappings, functions, locations, and one tree of stacks over locations.
//!
//! ```text
//!        a sample ──► node ──► parent … ──► root (the empty stack)
//!                      │
//!                      ▼
//!                  location ──► lines, innermost (inlined) first ──► function ──► strings
//!                      └──────► mapping ──► strings
//! ```
//! A partition is a service: its profiles name the same frames again and again. So what is stored once per head is found by
//! content: an [`Interner`] hashes the rows of a profile bottom-up (strings, functions, locations) to 128 keyed bits, as far as
//! locations reach them; a known location then costs one look-up and a known stack one more. Only what samples name is added.
//!
//! Invariants
//! - A row exists before its id; rows never change or move to another id. Parents have smaller ids than their children.
//! - Two rows of a table never have equal content. Strings, functions, mappings and nodes are compared by content; locations
//!   and whole stacks by their 128-bit hash (`docs/decisions/0002-content-hashes.md`).
//! - No call rehashes more than some thousand entries at once (`table.rs`), so that none stalls a shard.
//!
//! Not here: samples and series ([`crate::head`]); merging trees by function name (`flamegraph`).

mod column;
mod content_map;
mod export;
mod function_table;
mod import;
mod interner;
mod location_table;
mod mapping_table;
mod stack_tree;
mod stored;
mod string_table;
mod table;

pub use export::PartExport;
pub use import::{PartError, PartImport};
pub use interner::{Interner, LocationRow, Source};

pub(crate) use content_map::ContentMap;
pub(crate) use table::Table;

use crate::hash::HashSecret;
use function_table::FunctionTable;
use location_table::LocationTable;
use mapping_table::MappingTable;
use stack_tree::StackTree;
use string_table::StringTable;

/// Symbol tables of one partition, or the target of a merge of several.
#[derive(Debug)]
pub struct Symbols {
    secret: HashSecret,
    keys: HashKeys,
    strings: StringTable,
    mappings: MappingTable,
    functions: FunctionTable,
    locations: LocationTable,
    tree: StackTree,
}

impl Symbols {
    /// Empty tables; `secret` keys their hashes.
    pub fn new(secret: HashSecret) -> Self {
        Self {
            keys: HashKeys::derive(&secret),
            secret,
            strings: StringTable::default(),
            mappings: MappingTable::default(),
            functions: FunctionTable::default(),
            locations: LocationTable::default(),
            tree: StackTree::default(),
        }
    }

    /// A string.
    pub fn string(&self, id: StringId) -> &str {
        self.strings.get(id)
    }

    /// A mapping.
    pub fn mapping(&self, id: MappingId) -> Mapping {
        self.mappings.get(id)
    }

    /// A function.
    pub fn function(&self, id: FunctionId) -> Function {
        self.functions.get(id)
    }

    /// The mapping of a location.
    pub fn mapping_of(&self, id: LocationId) -> Option<MappingId> {
        self.locations.mapping(id)
    }

    /// The address of a location; 0 where its mapping has functions.
    pub fn address_of(&self, id: LocationId) -> u64 {
        self.locations.address(id)
    }

    /// pprof's `is_folded` of a location.
    pub fn is_folded(&self, id: LocationId) -> bool {
        self.locations.is_folded(id)
    }

    /// The lines of a location, innermost (inlined) first.
    pub fn lines(&self, id: LocationId) -> impl ExactSizeIterator<Item = Line> + '_ {
        self.locations.lines(id)
    }

    /// The caller's node, always a smaller id; `None` for [`NodeId::ROOT`].
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.tree.parent(node)
    }

    /// The location of a node; `None` for [`NodeId::ROOT`].
    pub fn location(&self, node: NodeId) -> Option<LocationId> {
        self.tree.location(node)
    }

    /// Parents and locations of all nodes as columns, for passes over the whole tree; row 0, the root, has `u32::MAX` in both.
    pub fn tree_columns(&self) -> (&[u32], &[u32]) {
        self.tree.columns()
    }

    /// Number of strings, the empty one included.
    pub fn strings_count(&self) -> usize {
        self.strings.len()
    }

    /// Number of mappings.
    pub fn mappings_count(&self) -> usize {
        self.mappings.len()
    }

    /// Number of functions.
    pub fn functions_count(&self) -> usize {
        self.functions.len()
    }

    /// Number of locations.
    pub fn locations_count(&self) -> usize {
        self.locations.len()
    }

    /// Number of nodes, the root included: the length of a dense array of values by node.
    pub fn nodes_count(&self) -> usize {
        self.tree.nodes_count()
    }

    /// Number of distinct stacks that samples named.
    pub fn stacks_count(&self) -> usize {
        self.tree.stacks_count()
    }

    /// The child of `parent` at `location`; looked for first behind the node that was found `last`: trees of the same program
    /// mostly have the same nodes behind one another.
    #[inline]
    pub(crate) fn child_near(
        &mut self,
        parent: NodeId,
        location: LocationId,
        last: NodeId,
    ) -> NodeId {
        let next = NodeId(last.0 + 1);
        if self.tree.is_child(next.0, parent, location) {
            return next;
        }
        self.child(parent, location)
    }

    /// The child of `parent` at `location`, made where there is none.
    pub fn child(&mut self, parent: NodeId, location: LocationId) -> NodeId {
        self.tree
            .find_child(parent, location, self.keys)
            .unwrap_or_else(|| self.tree.insert_child(parent, location, self.keys))
    }

    /// Heap bytes held, unused capacity included.
    pub fn bytes_held(&self) -> usize {
        self.strings.bytes_held()
            + self.mappings.bytes_held()
            + self.functions.bytes_held()
            + self.locations.bytes_held()
            + self.tree.bytes_held()
    }

    /// The same, counted anew where a sum is kept.
    #[cfg(test)]
    pub(crate) fn bytes_recounted(&self) -> usize {
        self.strings.bytes_recounted()
            + self.mappings.bytes_recounted()
            + self.functions.bytes_recounted()
            + self.locations.bytes_recounted()
            + self.tree.bytes_recounted()
    }
}

/// Row of the string table; 0 is the empty string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StringId(pub u32);

/// Row of the mapping table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MappingId(pub u32);

/// Row of the function table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FunctionId(pub u32);

/// Row of the location table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LocationId(pub u32);

/// Row of the stack tree. Only rows already inserted have an id, so a parent's id is always smaller than its child's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The empty stack, above all others.
    pub const ROOT: Self = Self(0);
}

/// A pprof mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, clippy::struct_excessive_bools, reason = "the fields are pprof's")]
pub struct Mapping {
    pub memory_start: u64,
    pub memory_limit: u64,
    pub file_offset: u64,
    pub filename: StringId,
    pub build_id: StringId,
    pub has_functions: bool,
    pub has_filenames: bool,
    pub has_line_numbers: bool,
    pub has_inline_frames: bool,
}

/// A pprof function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are pprof's")]
pub struct Function {
    pub name: StringId,
    pub system_name: StringId,
    pub filename: StringId,
    pub start_line: i64,
}

/// One (inlined) line of a location.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are pprof's")]
pub struct Line {
    pub function: FunctionId,
    pub line: i64,
}

/// Keys of the hashes of rows that are compared by content: enough that a tenant cannot aim at one bucket.
#[derive(Clone, Copy, Debug)]
struct HashKeys {
    add: u64,
    multiply: u64,
}

impl HashKeys {
    fn derive(secret: &HashSecret) -> Self {
        Self {
            add: secret.table(b"row key: add"),
            multiply: secret.table(b"row key: multiply") | 1,
        }
    }

    /// Hash of two ids on top of an earlier hash: a folded 128-bit product.
    #[inline]
    fn pair(self, seed: u64, a: u32, b: u32) -> u64 {
        let word = u64::from(a) << 32 | u64::from(b);
        let product =
            u128::from(word ^ seed.rotate_left(23) ^ self.add) * u128::from(self.multiply);
        product as u64 ^ (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests;
