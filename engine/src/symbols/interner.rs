//! From the rows of one profile to the rows of a partition's tables.
//!
//! Contents are hashed bottom-up and lazily: a location asks for its functions and mapping, those for their strings; each is
//! hashed once a profile and remembered in an array by profile row. Only a location that a stack names and the tables do not know
//! makes its functions and strings be looked up at all.

use std::ops::Range;

use super::location_table::NewLocation;
use super::{
    Function, FunctionId, Line, LocationId, Mapping, MappingId, NodeId, StringId, Symbols,
};
use crate::profile::{Profile, Span};
use crate::{hash::HashSecret, profile};

/// No id yet.
const NONE: u32 = profile::NONE;

/// Set in [`NONE`], in no id: two billion locations do not fit a head.
const UNKNOWN_BIT: u32 = 1 << 31;

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
/// The same target and source must be given to every call between two `begin`s. Locations and stacks go in batches, hashes first:
/// a look-up alone waits for two cache misses, in a short loop several wait together.
#[derive(Debug, Default)]
pub struct Interner {
    memo: Memo,
    /// Location ids of the batch's stacks, each leaf first, little-endian, and where each stack ends.
    batch_bytes: Vec<u8>,
    batch_ends: Vec<u32>,
    lookups: Vec<Lookup>,
    /// Location ids of the last stack that was new, root first, and the node at each of them.
    last_locations: Vec<u32>,
    last_nodes: Vec<u32>,
}

/// Stacks of a batch: more than a processor can wait for at once.
const BATCH_STACKS_MAX: usize = 64;

/// Locations that are looked for together, and the cost after which no further one is: it may have any number of lines.
const BATCH_LOCATIONS_MAX: usize = 64;
const BATCH_COST_MAX: usize = 100_000;

/// Frames after which a batch takes no further stack. When all of them are new locations, a batch takes 0.7 ms.
const BATCH_FRAMES_MAX: usize = 2048;

/// A look-up and its result.
#[derive(Clone, Copy, Debug)]
struct Lookup {
    hash: u128,
    row: u32,
    id: u32,
}

/// What is known of each row of the source.
#[derive(Debug, Default)]
struct Memo {
    /// Content hashes; 0 is "not hashed yet" (a content with that hash is hashed again each time).
    string_hashes: Vec<u128>,
    mapping_hashes: Vec<u128>,
    function_hashes: Vec<u128>,
    location_hashes: Vec<u128>,
    string_ids: Vec<u32>,
    mapping_ids: Vec<u32>,
    function_ids: Vec<u32>,
    location_ids: Vec<u32>,
    location_bytes: Vec<u8>,
    cost: usize,
}

/// Hashed bytes of a location without lines, and of a line.
const LOCATION_BYTES: usize = 16 + 8 + 2;
const LINE_BYTES: usize = 16 + 8;

/// What interning did, in units of about a nanosecond: callers bound their steps by it (`bench/benches/ingest.rs`).
mod cost {
    pub(super) const STACK: usize = 40;
    pub(super) const FRAME: usize = 1;
    pub(super) const FRAME_NEW: usize = 40;
    pub(super) const LOCATION: usize = 60;
    pub(super) const LOCATION_NEW: usize = 200;
    pub(super) const LINE: usize = 5;
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
        refill(&mut memo.location_hashes, locations, 0);
        refill(&mut memo.string_ids, strings, NONE);
        refill(&mut memo.mapping_ids, mappings, NONE);
        refill(&mut memo.function_ids, functions, NONE);
        refill(&mut memo.location_ids, locations, NONE);
        memo.cost = 0;
        self.batch_ends.clear();
        self.last_locations.clear();
        self.last_nodes.clear();
    }

    /// Takes the cost of what was interned since the last call, about nanoseconds.
    pub fn take_cost(&mut self) -> usize {
        std::mem::take(&mut self.memo.cost)
    }

    /// Looks some locations up, from `row` on, that stacks will name; gives the first row that is left. It adds none: what no
    /// stack names is not kept.
    pub fn find_locations(&mut self, symbols: &Symbols, source: &impl Source, row: usize) -> usize {
        let memo = &mut self.memo;
        let rows_end = memo.location_ids.len().min(row + BATCH_LOCATIONS_MAX);
        let mut until = row;
        while until < rows_end && memo.cost < BATCH_COST_MAX {
            memo.location_hash(&symbols.secret, source, until as u32);
            until += 1;
        }
        for (id, hash) in
            memo.location_ids[row..until].iter_mut().zip(&memo.location_hashes[row..until])
        {
            *id = symbols.locations.find(*hash).map_or(NONE, |id| id.0);
        }
        memo.cost += (until - row) * cost::LOCATION;
        until
    }

    /// Adds a stack to the batch, as location rows, leaf first, and interns those locations that were not found. Says whether
    /// there is room for another.
    #[inline]
    pub fn push_stack(
        &mut self,
        symbols: &mut Symbols,
        source: &impl Source,
        rows: &[u32],
    ) -> bool {
        let start = self.batch_ends.last().map_or(0, |end| *end as usize);
        let end = start + rows.len();
        if self.batch_bytes.len() < end * 4 {
            self.batch_bytes.resize(end * 4, 0);
        }
        let slots = &mut self.batch_bytes[start * 4..end * 4];
        if gather(slots, rows, &self.memo.location_ids) >= UNKNOWN_BIT {
            self.memo.add_locations(symbols, source, rows);
            let all = gather(slots, rows, &self.memo.location_ids);
            assert!(all < UNKNOWN_BIT, "every location of the stack has an id");
        }
        self.batch_ends.push(end as u32);
        end < BATCH_FRAMES_MAX && self.batch_ends.len() < BATCH_STACKS_MAX
    }

    /// Ends the batch: gives the node of each of its stacks, in the order they came in.
    pub fn end_batch(&mut self, symbols: &mut Symbols, mut node_of: impl FnMut(usize, NodeId)) {
        self.lookups.clear();
        let mut start = 0;
        for &end in &self.batch_ends {
            let bytes = &self.batch_bytes[start as usize * 4..end as usize * 4];
            let hash = symbols.secret.content(bytes);
            self.lookups.push(Lookup { hash, row: start, id: NONE });
            start = end;
        }
        for lookup in &mut self.lookups {
            lookup.id = symbols.tree.find_stack(lookup.hash).map_or(NONE, |node| node.0);
        }
        self.memo.cost += self.lookups.len() * cost::STACK + start as usize * cost::FRAME;
        for at in 0..self.lookups.len() {
            let Lookup { hash, row: start, id } = self.lookups[at];
            let node = match id {
                _ if start == self.batch_ends[at] => NodeId::ROOT,
                // A stack before it in the batch may have been the same.
                NONE => match symbols.tree.find_stack(hash) {
                    Some(node) => node,
                    None => {
                        self.new_stack(symbols, start as usize..self.batch_ends[at] as usize, hash)
                    }
                },
                id => NodeId(id),
            };
            node_of(at, node);
        }
        self.batch_ends.clear();
    }

    /// The id of a location row.
    pub fn location(
        &mut self,
        symbols: &mut Symbols,
        source: &impl Source,
        row: u32,
    ) -> LocationId {
        self.memo.location(symbols, source, row)
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
            + memo.function_hashes.capacity()
            + memo.location_hashes.capacity())
            * size_of::<u128>()
            + (memo.string_ids.capacity()
                + memo.mapping_ids.capacity()
                + memo.function_ids.capacity()
                + memo.location_ids.capacity()
                + self.batch_ends.capacity()
                + self.last_locations.capacity()
                + self.last_nodes.capacity())
                * size_of::<u32>()
            + memo.location_bytes.capacity()
            + self.batch_bytes.capacity()
            + self.lookups.capacity() * size_of::<Lookup>()
    }

    /// Walks a new stack of the batch from the root. Stacks come in an order that shares callers, so the walk starts where the
    /// last new stack parts from this one; below the first node that had to be made there is nothing to look up.
    fn new_stack(&mut self, symbols: &mut Symbols, frames: Range<usize>, hash: u128) -> NodeId {
        let depth = frames.len();
        let root_first = self.batch_bytes[frames.start * 4..frames.end * 4].rchunks_exact(4);
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
    /// Interns the locations among `rows` that have no id yet.
    #[cold]
    fn add_locations(&mut self, symbols: &mut Symbols, source: &impl Source, rows: &[u32]) {
        for &row in rows {
            self.location(symbols, source, row);
        }
    }

    fn location(&mut self, symbols: &mut Symbols, source: &impl Source, row: u32) -> LocationId {
        let known = self.location_ids[row as usize];
        if known != NONE {
            return LocationId(known);
        }
        let hash = self.location_hash(&symbols.secret, source, row);
        self.cost += cost::LOCATION;
        let id = match symbols.locations.find(hash) {
            Some(id) => id,
            None => self.new_location(symbols, source, row, hash),
        };
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

    fn location_hash(&mut self, secret: &HashSecret, source: &impl Source, row: u32) -> u128 {
        let known = self.location_hashes[row as usize];
        if known != 0 {
            return known;
        }
        let hash = self.hash_location(secret, source, row);
        self.location_hashes[row as usize] = hash;
        hash
    }

    /// Mapping, address, flags, then every line: fixed widths, so equal bytes mean equal content.
    fn hash_location(&mut self, secret: &HashSecret, source: &impl Source, row: u32) -> u128 {
        let LocationRow { mapping, address, is_folded } = source.location(row);
        let has_mapping = mapping != NONE;
        let mapping = if has_mapping { self.mapping_hash(secret, source, mapping) } else { 0 };
        let mut fixed = [0; LOCATION_BYTES + LINE_BYTES];
        fixed[..16].copy_from_slice(&mapping.to_le_bytes());
        fixed[16..24].copy_from_slice(&address.to_le_bytes());
        fixed[24] = u8::from(has_mapping);
        fixed[25] = u8::from(is_folded);
        let mut lines = source.lines(row);
        let Some(first) = lines.next() else { return secret.content(&fixed[..LOCATION_BYTES]) };
        let first = self.line_bytes(secret, source, first);
        fixed[LOCATION_BYTES..].copy_from_slice(&first);
        let Some(second) = lines.next() else { return secret.content(&fixed) };
        let mut bytes = std::mem::take(&mut self.location_bytes);
        bytes.clear();
        bytes.extend_from_slice(&fixed);
        for line in std::iter::once(second).chain(lines) {
            let line = self.line_bytes(secret, source, line);
            bytes.extend_from_slice(&line);
        }
        let hash = secret.content(&bytes);
        self.location_bytes = bytes;
        hash
    }

    #[inline]
    fn line_bytes(
        &mut self,
        secret: &HashSecret,
        source: &impl Source,
        line: profile::Line,
    ) -> [u8; LINE_BYTES] {
        self.cost += cost::LINE;
        let mut bytes = [0; LINE_BYTES];
        let function = self.function_hash(secret, source, line.function);
        bytes[..16].copy_from_slice(&function.to_le_bytes());
        bytes[16..].copy_from_slice(&line.line.to_le_bytes());
        bytes
    }

    fn function_hash(&mut self, secret: &HashSecret, source: &impl Source, row: u32) -> u128 {
        let known = self.function_hashes[row as usize];
        if known != 0 {
            return known;
        }
        self.cost += cost::HASH;
        let function = source.function(row);
        let mut bytes = [0; 56];
        let name = self.string_hash(secret, source, function.name);
        let system_name = self.string_hash(secret, source, function.system_name);
        let filename = self.string_hash(secret, source, function.filename);
        bytes[..16].copy_from_slice(&name.to_le_bytes());
        bytes[16..32].copy_from_slice(&system_name.to_le_bytes());
        bytes[32..48].copy_from_slice(&filename.to_le_bytes());
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

/// Writes the ids of some rows as bytes; gives the OR of all of them.
#[inline]
fn gather(bytes: &mut [u8], rows: &[u32], ids: &[u32]) -> u32 {
    let mut all = 0;
    for (slot, &row) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
        let id = ids[row as usize];
        all |= id;
        *slot = id.to_le_bytes();
    }
    all
}

/// `len` times `value`, in the allocation there is.
fn refill<T: Copy>(column: &mut Vec<T>, len: usize, value: T) {
    column.clear();
    column.resize(len, value);
}
