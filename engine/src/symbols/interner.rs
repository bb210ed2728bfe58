//! From the rows of one profile to the rows of a partition's tables.
//!
//! Contents are hashed bottom-up and lazily: a stack asks for its locations, a location for its functions and mapping, those
//! for their strings; each is hashed once a profile and remembered in an array by profile row. Only a location that the tables
//! do not know makes its functions and strings be looked up at all.

use super::location_table::NewLocation;
use super::{
    Function, FunctionId, Line, LocationId, Mapping, MappingId, NodeId, StringId, Symbols,
};
use crate::profile::{Profile, Span};
use crate::{hash::HashSecret, profile};

/// No id yet.
const NONE: u32 = profile::NONE;

/// Where rows are read from: a decoded profile, or another shard's part of an answer. Rows are valid indices.
pub trait Source {
    /// Bytes of a string; UTF-8.
    fn string_bytes(&self, row: u32) -> &[u8];
    /// A string.
    fn string(&self, row: u32) -> &str;
    /// A mapping; strings are rows.
    fn mapping(&self, row: u32) -> profile::Mapping;
    /// A function; strings are rows.
    fn function(&self, row: u32) -> profile::Function;
    /// A location without its lines.
    fn location(&self, row: u32) -> LocationRow;
    /// The lines of a location, innermost first.
    fn lines(&self, row: u32) -> impl Iterator<Item = profile::Line>;
}

/// A location of a [`Source`] without its lines.
#[derive(Clone, Copy, Debug)]
pub struct LocationRow {
    /// Row of the mapping, [`profile::NONE`] for none.
    pub mapping: u32,
    /// Address.
    pub address: u64,
    /// pprof's `is_folded`.
    pub is_folded: bool,
}

impl Source for Profile {
    #[inline]
    fn string_bytes(&self, row: u32) -> &[u8] {
        let Span { start, len } = self.strings[row as usize];
        &self.bytes[start as usize..][..len as usize]
    }

    fn string(&self, row: u32) -> &str {
        Self::string(self, row)
    }

    fn mapping(&self, row: u32) -> profile::Mapping {
        self.mappings[row as usize]
    }

    fn function(&self, row: u32) -> profile::Function {
        self.functions[row as usize]
    }

    fn location(&self, row: u32) -> LocationRow {
        let location = &self.locations[row as usize];
        LocationRow {
            mapping: location.mapping,
            address: location.address,
            is_folded: location.is_folded,
        }
    }

    fn lines(&self, row: u32) -> impl Iterator<Item = profile::Line> {
        let location = &self.locations[row as usize];
        self.lines[location.lines_start as usize..][..location.lines_count as usize].iter().copied()
    }
}

/// Scratch for interning one source after another; [`Interner::begin`] empties it.
///
/// The same target must be given to every call between two `begin`s.
#[derive(Debug, Default)]
pub struct Interner {
    memo: Memo,
    /// Ids of the locations of the stack at hand, leaf first, little-endian.
    stack_bytes: Vec<u8>,
    /// Location ids of the last stack that was new, root first, and the node at each of them.
    last_locations: Vec<u32>,
    last_nodes: Vec<u32>,
}

/// What is known of each row of the source.
#[derive(Debug, Default)]
struct Memo {
    /// Content hashes; 0 is "not hashed yet" (a content with that hash is hashed again each time).
    string_hashes: Vec<u128>,
    mapping_hashes: Vec<u128>,
    function_hashes: Vec<u128>,
    string_ids: Vec<u32>,
    mapping_ids: Vec<u32>,
    function_ids: Vec<u32>,
    location_ids: Vec<u32>,
    location_bytes: Vec<u8>,
    cost: usize,
}

/// What interning did, in units of about a nanosecond: callers bound their steps by it (`bench/benches/stages.rs`).
mod cost {
    pub(super) const STACK: usize = 40;
    pub(super) const FRAME: usize = 1;
    pub(super) const FRAME_NEW: usize = 40;
    pub(super) const LOCATION: usize = 60;
    pub(super) const LOCATION_NEW: usize = 200;
    pub(super) const HASH: usize = 15;
    pub(super) const STRING_BYTES_SHIFT: u32 = 3;
}

impl Interner {
    /// Forgets the last source; makes room for one with so many rows.
    pub fn begin(&mut self, strings: usize, mappings: usize, functions: usize, locations: usize) {
        let memo = &mut self.memo;
        refill(&mut memo.string_hashes, strings, 0);
        refill(&mut memo.mapping_hashes, mappings, 0);
        refill(&mut memo.function_hashes, functions, 0);
        refill(&mut memo.string_ids, strings, NONE);
        refill(&mut memo.mapping_ids, mappings, NONE);
        refill(&mut memo.function_ids, functions, NONE);
        refill(&mut memo.location_ids, locations, NONE);
        memo.cost = 0;
        self.last_locations.clear();
        self.last_nodes.clear();
    }

    /// Takes the cost of what was interned since the last call, about nanoseconds.
    pub fn take_cost(&mut self) -> usize {
        std::mem::take(&mut self.memo.cost)
    }

    /// The node of a stack given as location rows, leaf first.
    pub fn stack(&mut self, symbols: &mut Symbols, source: &impl Source, rows: &[u32]) -> NodeId {
        if rows.is_empty() {
            return NodeId::ROOT;
        }
        self.memo.cost += cost::STACK + rows.len() * cost::FRAME;
        if self.stack_bytes.len() < rows.len() * 4 {
            self.stack_bytes.resize(rows.len() * 4, 0);
        }
        let bytes = &mut self.stack_bytes[..rows.len() * 4];
        for (slot, &row) in bytes.chunks_exact_mut(4).zip(rows) {
            let mut id = self.memo.location_ids[row as usize];
            if id == NONE {
                id = self.memo.location(symbols, source, row).0;
            }
            slot.copy_from_slice(&id.to_le_bytes());
        }
        let hash = symbols.secret.content(bytes);
        match symbols.tree.find_stack(hash) {
            Some(node) => node,
            None => self.new_stack(symbols, rows.len(), hash),
        }
    }

    /// The id of a location row.
    pub fn location(
        &mut self,
        symbols: &mut Symbols,
        source: &impl Source,
        row: u32,
    ) -> LocationId {
        match self.memo.location_ids[row as usize] {
            NONE => self.memo.location(symbols, source, row),
            id => LocationId(id),
        }
    }

    /// The content hash of a string row.
    pub fn string_hash(&mut self, secret: &HashSecret, source: &impl Source, row: u32) -> u128 {
        self.memo.string_hash(secret, source, row)
    }

    /// Heap bytes held.
    pub fn bytes_held(&self) -> usize {
        let memo = &self.memo;
        (memo.string_hashes.capacity()
            + memo.mapping_hashes.capacity()
            + memo.function_hashes.capacity())
            * size_of::<u128>()
            + (memo.string_ids.capacity()
                + memo.mapping_ids.capacity()
                + memo.function_ids.capacity()
                + memo.location_ids.capacity()
                + self.last_locations.capacity()
                + self.last_nodes.capacity())
                * size_of::<u32>()
            + memo.location_bytes.capacity()
            + self.stack_bytes.capacity()
    }

    /// Walks a new stack from the root. Stacks come in an order that shares callers, so the walk starts where the last new
    /// stack parts from this one; below the first node that had to be made there is nothing to look up.
    fn new_stack(&mut self, symbols: &mut Symbols, depth: usize, hash: u128) -> NodeId {
        let root_first = self.stack_bytes[..depth * 4].rchunks_exact(4);
        let root_first = root_first.map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let last = self.last_locations.iter().copied();
        let shared = root_first.clone().zip(last).take_while(|(a, b)| a == b).count();
        self.last_locations.truncate(shared);
        self.last_nodes.truncate(shared);
        let mut node = self.last_nodes.last().map_or(NodeId::ROOT, |node| NodeId(*node));
        let mut is_new = false;
        for location in root_first.skip(shared) {
            let location = LocationId(location);
            let found =
                if is_new { None } else { symbols.tree.find_child(node, location, symbols.keys) };
            node = found.unwrap_or_else(|| {
                is_new = true;
                symbols.tree.insert_child(node, location, symbols.keys)
            });
            self.last_locations.push(location.0);
            self.last_nodes.push(node.0);
        }
        self.memo.cost += (depth - shared) * cost::FRAME_NEW;
        symbols.tree.insert_stack(hash, node);
        node
    }
}

impl Memo {
    #[cold]
    fn location(&mut self, symbols: &mut Symbols, source: &impl Source, row: u32) -> LocationId {
        self.cost += cost::LOCATION;
        let hash = self.location_hash(&symbols.secret, source, row);
        let id = symbols
            .locations
            .find(hash)
            .unwrap_or_else(|| self.new_location(symbols, source, row, hash));
        self.location_ids[row as usize] = id.0;
        id
    }

    fn new_location(
        &mut self,
        symbols: &mut Symbols,
        source: &impl Source,
        row: u32,
        hash: u128,
    ) -> LocationId {
        self.cost += cost::LOCATION_NEW;
        for line in source.lines(row) {
            let function = self.function(symbols, source, line.function);
            symbols.locations.push_line(Line { function, line: line.line });
        }
        let LocationRow { mapping, address, is_folded } = source.location(row);
        let mapping = (mapping != NONE).then(|| self.mapping(symbols, source, mapping));
        symbols.locations.push(NewLocation { mapping, address, is_folded, hash })
    }

    /// Mapping, address, flags, then every line: fixed widths, so equal bytes mean equal content.
    fn location_hash(&mut self, secret: &HashSecret, source: &impl Source, row: u32) -> u128 {
        let LocationRow { mapping, address, is_folded } = source.location(row);
        let has_mapping = mapping != NONE;
        let mapping = if has_mapping { self.mapping_hash(secret, source, mapping) } else { 0 };
        let mut bytes = std::mem::take(&mut self.location_bytes);
        bytes.clear();
        bytes.extend_from_slice(&mapping.to_le_bytes());
        bytes.extend_from_slice(&address.to_le_bytes());
        bytes.extend_from_slice(&[u8::from(has_mapping), u8::from(is_folded)]);
        for line in source.lines(row) {
            let function = self.function_hash(secret, source, line.function);
            bytes.extend_from_slice(&function.to_le_bytes());
            bytes.extend_from_slice(&line.line.to_le_bytes());
        }
        let hash = secret.content(&bytes);
        self.location_bytes = bytes;
        hash
    }

    fn function_hash(&mut self, secret: &HashSecret, source: &impl Source, row: u32) -> u128 {
        let known = self.function_hashes[row as usize];
        if known != 0 {
            return known;
        }
        self.cost += cost::HASH;
        let function = source.function(row);
        let mut bytes = [0; 56];
        for (slot, string) in
            bytes.chunks_exact_mut(16).zip([function.name, function.system_name, function.filename])
        {
            slot.copy_from_slice(&self.string_hash(secret, source, string).to_le_bytes());
        }
        bytes[48..].copy_from_slice(&function.start_line.to_le_bytes());
        let hash = secret.content(&bytes);
        self.function_hashes[row as usize] = hash;
        hash
    }

    fn mapping_hash(&mut self, secret: &HashSecret, source: &impl Source, row: u32) -> u128 {
        let known = self.mapping_hashes[row as usize];
        if known != 0 {
            return known;
        }
        self.cost += cost::HASH;
        let m = source.mapping(row);
        let mut bytes = [0; 60];
        for (slot, string) in bytes.chunks_exact_mut(16).zip([m.filename, m.build_id]) {
            slot.copy_from_slice(&self.string_hash(secret, source, string).to_le_bytes());
        }
        for (slot, word) in
            bytes[32..].chunks_exact_mut(8).zip([m.memory_start, m.memory_limit, m.file_offset])
        {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let flags = [m.has_functions, m.has_filenames, m.has_line_numbers, m.has_inline_frames];
        bytes[56..].copy_from_slice(&flags.map(u8::from));
        let hash = secret.content(&bytes);
        self.mapping_hashes[row as usize] = hash;
        hash
    }

    #[inline]
    fn string_hash(&mut self, secret: &HashSecret, source: &impl Source, row: u32) -> u128 {
        let known = self.string_hashes[row as usize];
        if known != 0 {
            return known;
        }
        let bytes = source.string_bytes(row);
        self.cost += cost::HASH + (bytes.len() >> cost::STRING_BYTES_SHIFT);
        let hash = secret.content(bytes);
        self.string_hashes[row as usize] = hash;
        hash
    }

    fn function(&mut self, symbols: &mut Symbols, source: &impl Source, row: u32) -> FunctionId {
        let known = self.function_ids[row as usize];
        if known != NONE {
            return FunctionId(known);
        }
        let function = source.function(row);
        let function = Function {
            name: self.string(symbols, source, function.name),
            system_name: self.string(symbols, source, function.system_name),
            filename: self.string(symbols, source, function.filename),
            start_line: function.start_line,
        };
        self.cost += cost::LOCATION_NEW;
        let id = symbols.functions.intern(&function, symbols.keys);
        self.function_ids[row as usize] = id.0;
        id
    }

    fn mapping(&mut self, symbols: &mut Symbols, source: &impl Source, row: u32) -> MappingId {
        let known = self.mapping_ids[row as usize];
        if known != NONE {
            return MappingId(known);
        }
        let mapping = source.mapping(row);
        let mapping = Mapping {
            memory_start: mapping.memory_start,
            memory_limit: mapping.memory_limit,
            file_offset: mapping.file_offset,
            filename: self.string(symbols, source, mapping.filename),
            build_id: self.string(symbols, source, mapping.build_id),
            has_functions: mapping.has_functions,
            has_filenames: mapping.has_filenames,
            has_line_numbers: mapping.has_line_numbers,
            has_inline_frames: mapping.has_inline_frames,
        };
        let id = symbols.mappings.intern(&mapping, symbols.keys);
        self.mapping_ids[row as usize] = id.0;
        id
    }

    fn string(&mut self, symbols: &mut Symbols, source: &impl Source, row: u32) -> StringId {
        let known = self.string_ids[row as usize];
        if known != NONE {
            return StringId(known);
        }
        let hash = self.string_hash(&symbols.secret, source, row);
        let id = symbols.strings.intern(source.string(row), hash);
        self.string_ids[row as usize] = id.0;
        id
    }
}

/// `len` times `value`, in the allocation there is.
fn refill<T: Copy>(column: &mut Vec<T>, len: usize, value: T) {
    column.clear();
    column.resize(len, value);
}
