//! The symbols of one partition of a block, put into tables as a head has: so that whatever reads heads reads blocks.

use std::rc::Rc;

use super::BlockError;
use super::cache::SymbolCache;
use super::decode::{NULL, Texts};
use super::index::{PartitionIndex, Rows};
use super::joined::{Joined, Stored};
use super::reader::BlockReader;
use super::schema::{DEPTH_VERSION, Table, flags, functions, locations, stacktraces};
use super::stream::{ReadPort, TableStream};
use crate::pace::Pace;
use crate::symbols::{
    Function, FunctionId, Line, LocationId, Mapping, MappingId, NodeId, StringId, Symbols,
};

/// Rows that are made into symbols between two looks at the pace.
const STRETCH: u64 = 256;

/// What a row costs in units of the pace: texts of a function, and a location's mapping and functions, are looked up.
const FUNCTION_UNITS: usize = 4;
const LOCATION_UNITS: usize = 4;

/// Reads the symbols of some partitions, one after the other: a page that holds several of them is decoded once.
pub(crate) struct SymbolLoader {
    functions: TableStream,
    locations: TableStream,
    stacktraces: TableStream,
    /// String ids by the numbers of a stream's texts.
    of_functions: Strings,
    of_locations: Strings,
    /// Whether stacks have depths; those of old versions have parents.
    has_depths: bool,
}

impl SymbolLoader {
    /// Prepares to load these partitions, which ascend.
    pub(crate) fn new(reader: &BlockReader, partitions: &[&PartitionIndex]) -> Self {
        use functions::{FILE, NAME, START_LINE, SYSTEM_NAME};
        use locations as l;
        let stream = |table: Table, columns: &[usize]| {
            let of_table = |partition: &&PartitionIndex| partition.tables[table as usize];
            let rows: Vec<Rows> = partitions.iter().map(of_table).collect();
            TableStream::new(reader, table, columns, &rows)
        };
        let of_locations = [
            l::LOCATION_ID,
            l::LINE_INDEX,
            l::FUNCTION_ID,
            l::MAPPING_FILE,
            l::MAPPING_BUILD_ID,
            l::FLAGS,
            l::LINE,
            l::ADDRESS,
            l::MAPPING_START,
            l::MAPPING_LIMIT,
            l::MAPPING_OFFSET,
        ];
        let has_depths = reader.meta().version >= DEPTH_VERSION;
        let shape = if has_depths { stacktraces::DEPTH } else { stacktraces::PARENT_ID };
        let of_stacktraces = [shape, stacktraces::LOCATION_ID];
        Self {
            functions: stream(Table::Functions, &[NAME, SYSTEM_NAME, FILE, START_LINE]),
            locations: stream(Table::Locations, &of_locations),
            stacktraces: stream(Table::Stacktraces, &of_stacktraces),
            of_functions: Strings::default(),
            of_locations: Strings::default(),
            has_depths,
        }
    }

    /// Adds the symbols of the next partition of those that were named to a table, which the cache may have.
    pub(crate) async fn load(
        &mut self,
        partition: &PartitionIndex,
        joined: &Rc<Joined>,
        cache: &SymbolCache,
        port: &ReadPort,
        pace: &Pace,
    ) -> Result<Stored, BlockError> {
        let rows = |table: Table| partition.tables[table as usize];
        self.functions.ensure(rows(Table::Functions), port, pace).await?;
        self.locations.ensure(rows(Table::Locations), port, pace).await?;
        self.stacktraces.ensure(rows(Table::Stacktraces), port, pace).await?;
        self.of_functions.clear();
        self.of_locations.clear();
        let mut load = Load { joined, cache, loader: self, pace };
        let functions = load.functions(rows(Table::Functions)).await?;
        let locations = load.locations(partition, &functions).await?;
        let nodes = load.stacktraces(partition, &locations).await?;
        Ok(Stored { joined: Rc::clone(joined), nodes: Rc::new(nodes) })
    }

    /// Heap bytes held.
    pub(crate) fn bytes_held(&self) -> usize {
        self.functions.bytes_held() + self.locations.bytes_held() + self.stacktraces.bytes_held()
    }
}

struct Load<'a> {
    joined: &'a Joined,
    cache: &'a SymbolCache,
    loader: &'a mut SymbolLoader,
    pace: &'a Pace,
}

impl Load<'_> {
    /// The id of each function of the partition.
    async fn functions(&mut self, rows: Rows) -> Result<Vec<FunctionId>, BlockError> {
        let SymbolLoader { functions: stream, of_functions: texts, .. } = &mut *self.loader;
        let (names, system_names) = (stream.ids(0, rows), stream.ids(1, rows));
        let (files, start_lines) = (stream.ids(2, rows), stream.numbers(3, rows));
        let table = Table::Functions;
        let mut ids = Vec::with_capacity(names.len());
        for at in 0..names.len() {
            let row = rows.start + at as u64;
            let id = self.joined.grow(|symbols| {
                let mut id = |text: u32| texts.id(symbols, &stream.texts, text, (table, row));
                let name = id(names[at])?;
                let function = Function {
                    name,
                    system_name: match system_names[at] {
                        NULL => name,
                        text => id(text)?,
                    },
                    filename: id(files[at])?,
                    start_line: start_lines[at],
                };
                Ok(symbols.intern_function(&function))
            });
            ids.push(id?);
            if row.is_multiple_of(STRETCH) {
                self.cache.note(self.joined);
                self.pace.spend(STRETCH as usize * FUNCTION_UNITS).await;
            }
        }
        Ok(ids)
    }

    /// The id of each location of the partition.
    async fn locations(
        &mut self,
        partition: &PartitionIndex,
        functions: &[FunctionId],
    ) -> Result<Vec<LocationId>, BlockError> {
        let rows = partition.tables[Table::Locations as usize];
        let functions_start = partition.tables[Table::Functions as usize].start;
        let SymbolLoader { locations: stream, of_locations: texts, .. } = &mut *self.loader;
        let [ids, line_indexes, function_ids, files, build_ids, bits] =
            [0, 1, 2, 3, 4, 5].map(|column| stream.ids(column, rows));
        let [lines, addresses, starts, limits, offsets] =
            [6, 7, 8, 9, 10].map(|column| stream.numbers(column, rows));
        let bad = |at: usize, what| {
            let (file, row) = (Table::Locations.file_name(), rows.start + at as u64);
            BlockError::Row { file, row, what }
        };
        let mut last_mapping: Option<(Mapping, MappingId)> = None;
        let (mut at, mut of_location, mut scratch) = (0, Vec::new(), Vec::new());
        let mut interned = Vec::with_capacity(partition.locations.len() as usize);
        for id in partition.locations.start..partition.locations.end {
            let first = at;
            of_location.clear();
            while ids.get(at).is_some_and(|found| u64::from(*found) == id) {
                if line_indexes[at] as usize != at - first {
                    return Err(bad(at, "lines of a location are out of order"));
                }
                if function_ids[at] != NULL {
                    let function = u64::from(function_ids[at]).wrapping_sub(functions_start);
                    let Some(function) = functions.get(function as usize) else {
                        return Err(bad(at, "a function of another partition"));
                    };
                    of_location.push(Line { function: *function, line: lines[at] });
                }
                at += 1;
            }
            if at == first || of_location.len() != at - first && at != first + 1 {
                return Err(bad(first, "a location without lines, or ids out of order"));
            }
            let has = |flag: u32| bits[first] & flag != 0;
            let id = self.joined.grow(|symbols| {
                let mut mapping_id = None;
                if has(flags::HAS_MAPPING) {
                    let place = (Table::Locations, rows.start + first as u64);
                    let mut id = |text: u32| texts.id(symbols, &stream.texts, text, place);
                    let mapping = Mapping {
                        memory_start: starts[first].cast_unsigned(),
                        memory_limit: limits[first].cast_unsigned(),
                        file_offset: offsets[first].cast_unsigned(),
                        filename: id(files[first])?,
                        build_id: id(build_ids[first])?,
                        has_functions: has(flags::HAS_FUNCTIONS),
                        has_filenames: has(flags::HAS_FILENAMES),
                        has_line_numbers: has(flags::HAS_LINE_NUMBERS),
                        has_inline_frames: has(flags::HAS_INLINE_FRAMES),
                    };
                    let known = last_mapping.filter(|(last, _)| *last == mapping).map(|(_, id)| id);
                    let id = known.unwrap_or_else(|| symbols.intern_mapping(&mapping));
                    last_mapping = Some((mapping, id));
                    mapping_id = Some(id);
                }
                let (address, is_folded) = (addresses[first], has(flags::IS_FOLDED));
                let address = address.cast_unsigned();
                Ok(symbols.intern_location(
                    mapping_id,
                    address,
                    is_folded,
                    &of_location,
                    &mut scratch,
                ))
            });
            interned.push(id?);
            if (interned.len() as u64).is_multiple_of(STRETCH) {
                self.cache.note(self.joined);
                self.pace.spend(STRETCH as usize * LOCATION_UNITS).await;
            }
        }
        if at as u64 != rows.len() {
            return Err(bad(at, "a location of another partition"));
        }
        Ok(interned)
    }

    /// The node of each stack of the partition.
    async fn stacktraces(
        &mut self,
        partition: &PartitionIndex,
        locations: &[LocationId],
    ) -> Result<Vec<u32>, BlockError> {
        let rows = partition.tables[Table::Stacktraces as usize];
        let SymbolLoader { stacktraces: stream, has_depths, .. } = &*self.loader;
        let (shapes, of_nodes) = (stream.ids(0, rows), stream.ids(1, rows));
        let bad = |at: usize, what| {
            let (file, row) = (Table::Stacktraces.file_name(), rows.start + at as u64);
            BlockError::Row { file, row, what }
        };
        if (shapes[0], of_nodes[0]) != (if *has_depths { 0 } else { NULL }, NULL) {
            return Err(bad(0, "the first stack of a partition is not the empty one"));
        }
        let mut nodes = Vec::with_capacity(shapes.len());
        nodes.push(NodeId::ROOT.0);
        // The last stack of each depth.
        let mut path = vec![0];
        while nodes.len() < shapes.len() {
            let from = nodes.len();
            let until = shapes.len().min(from + STRETCH as usize);
            self.joined.grow(|symbols| {
                let mut last = nodes[from - 1];
                for at in from..until {
                    let parent = if *has_depths {
                        let depth = shapes[at] as usize;
                        if !(1..=path.len()).contains(&depth) {
                            return Err(bad(at, "a stack that hangs on none before it"));
                        }
                        path.truncate(depth);
                        path.push(at as u64);
                        path[depth - 1]
                    } else {
                        u64::from(shapes[at]).wrapping_sub(rows.start)
                    };
                    let Some(parent) = nodes.get(parent as usize) else {
                        return Err(bad(at, "a parent that does not come before"));
                    };
                    let location = u64::from(of_nodes[at]).wrapping_sub(partition.locations.start);
                    let Some(location) = locations.get(location as usize) else {
                        return Err(bad(at, "a location of another partition"));
                    };
                    last = symbols.child_near(NodeId(*parent), *location, NodeId(last)).0;
                    nodes.push(last);
                }
                Ok(())
            })?;
            self.cache.note(self.joined);
            self.pace.spend(until - from).await;
        }
        Ok(nodes)
    }
}

/// String ids of one partition by the numbers of a stream's texts.
#[derive(Default)]
struct Strings {
    ids: Vec<Option<StringId>>,
    /// Texts that have one.
    known: Vec<u32>,
}

impl Strings {
    /// Goes to another partition.
    fn clear(&mut self) {
        for text in self.known.drain(..) {
            self.ids[text as usize] = None;
        }
    }

    fn id(
        &mut self,
        symbols: &mut Symbols,
        texts: &Texts,
        text: u32,
        (table, row): (Table, u64),
    ) -> Result<StringId, BlockError> {
        if let Some(Some(id)) = self.ids.get(text as usize) {
            return Ok(*id);
        }
        let text_of_row = str::from_utf8(texts.get(text)).map_err(|_| {
            let file = table.file_name();
            BlockError::Row { file, row, what: "a text that is not UTF-8" }
        })?;
        let id = symbols.intern_string(text_of_row);
        self.ids.resize(texts.len(), None);
        self.ids[text as usize] = Some(id);
        self.known.push(text);
        Ok(id)
    }
}
