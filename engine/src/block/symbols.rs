//! The symbols of one partition of a block, as the tables that a head has: so that whatever reads heads reads blocks.

use super::BlockError;
use super::decode::{NULL, Texts};
use super::index::{PartitionIndex, Rows};
use super::reader::BlockReader;
use super::schema::{Table, flags, functions, locations, stacktraces};
use super::stream::{ReadPort, TableStream};
use crate::hash::HashSecret;
use crate::pace::Pace;
use crate::symbols::{
    Function, FunctionId, Line, LocationId, Mapping, MappingId, NodeId, StringId, Symbols,
};

/// Rows that are made into symbols between two looks at the pace.
const STRETCH: u64 = 1024;

/// Reads the symbols of some partitions, one after the other: a page that holds several of them is decoded once.
/// They are for reading: nothing can be interned into them.
pub(crate) struct SymbolLoader {
    functions: TableStream,
    locations: TableStream,
    stacktraces: TableStream,
    /// String ids by the numbers of a stream's texts.
    of_functions: Strings,
    of_locations: Strings,
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
        let of_stacktraces = [stacktraces::PARENT_ID, stacktraces::LOCATION_ID];
        Self {
            functions: stream(Table::Functions, &[NAME, SYSTEM_NAME, FILE, START_LINE]),
            locations: stream(Table::Locations, &of_locations),
            stacktraces: stream(Table::Stacktraces, &of_stacktraces),
            of_functions: Strings::default(),
            of_locations: Strings::default(),
        }
    }

    /// Loads the next partition of those that were named.
    pub(crate) async fn load(
        &mut self,
        partition: &PartitionIndex,
        secret: &HashSecret,
        port: &ReadPort,
        pace: &Pace,
    ) -> Result<Symbols, BlockError> {
        let rows = |table: Table| partition.tables[table as usize];
        self.functions.ensure(rows(Table::Functions), port, pace).await?;
        self.locations.ensure(rows(Table::Locations), port, pace).await?;
        self.stacktraces.ensure(rows(Table::Stacktraces), port, pace).await?;
        self.of_functions.clear();
        self.of_locations.clear();
        let mut load = Load { symbols: Symbols::new(secret.clone()), loader: self, pace };
        load.functions(rows(Table::Functions)).await?;
        load.locations(partition).await?;
        load.stacktraces(partition).await?;
        Ok(load.symbols)
    }

    /// Heap bytes held.
    pub(crate) fn bytes_held(&self) -> usize {
        self.functions.bytes_held() + self.locations.bytes_held() + self.stacktraces.bytes_held()
    }
}

struct Load<'a> {
    symbols: Symbols,
    loader: &'a mut SymbolLoader,
    pace: &'a Pace,
}

impl Load<'_> {
    async fn functions(&mut self, rows: Rows) -> Result<(), BlockError> {
        let SymbolLoader { functions: stream, of_functions: texts, .. } = &mut *self.loader;
        let (names, system_names) = (stream.ids(0, rows), stream.ids(1, rows));
        let (files, start_lines) = (stream.ids(2, rows), stream.numbers(3, rows));
        let table = Table::Functions;
        for at in 0..rows.len() as usize {
            let row = rows.start + at as u64;
            let mut id = |text: u32| texts.id(&mut self.symbols, &stream.texts, text, (table, row));
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
            self.symbols.push_function(&function);
            if row.is_multiple_of(STRETCH) {
                self.pace.spend(STRETCH as usize).await;
            }
        }
        Ok(())
    }

    async fn locations(&mut self, partition: &PartitionIndex) -> Result<(), BlockError> {
        let rows = partition.tables[Table::Locations as usize];
        let functions = partition.tables[Table::Functions as usize];
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
        let (mut at, mut of_location) = (0, Vec::new());
        for id in partition.locations.start..partition.locations.end {
            let first = at;
            of_location.clear();
            while ids.get(at).is_some_and(|found| u64::from(*found) == id) {
                if line_indexes[at] as usize != at - first {
                    return Err(bad(at, "lines of a location are out of order"));
                }
                if function_ids[at] != NULL {
                    let function = u64::from(function_ids[at]);
                    if !(functions.start..functions.end).contains(&function) {
                        return Err(bad(at, "a function of another partition"));
                    }
                    let function = FunctionId((function - functions.start) as u32);
                    of_location.push(Line { function, line: lines[at] });
                }
                at += 1;
            }
            if at == first || of_location.len() != at - first && at != first + 1 {
                return Err(bad(first, "a location without lines, or ids out of order"));
            }
            let has = |flag: u32| bits[first] & flag != 0;
            let mut mapping_id = None;
            if has(flags::HAS_MAPPING) {
                let place = (Table::Locations, rows.start + first as u64);
                let mut id = |text: u32| texts.id(&mut self.symbols, &stream.texts, text, place);
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
                let id = known.unwrap_or_else(|| self.symbols.push_mapping(&mapping));
                last_mapping = Some((mapping, id));
                mapping_id = Some(id);
            }
            let address = addresses[first].cast_unsigned();
            self.symbols.push_location(mapping_id, address, has(flags::IS_FOLDED), &of_location);
            if id.is_multiple_of(STRETCH) {
                self.pace.spend(STRETCH as usize).await;
            }
        }
        if at as u64 != rows.len() {
            return Err(bad(at, "a location of another partition"));
        }
        Ok(())
    }

    async fn stacktraces(&mut self, partition: &PartitionIndex) -> Result<(), BlockError> {
        let rows = partition.tables[Table::Stacktraces as usize];
        let stream = &self.loader.stacktraces;
        let (parents, of_nodes) = (stream.ids(0, rows), stream.ids(1, rows));
        let bad = |at: usize, what| {
            let (file, row) = (Table::Stacktraces.file_name(), rows.start + at as u64);
            BlockError::Row { file, row, what }
        };
        if (parents[0], of_nodes[0]) != (NULL, NULL) {
            return Err(bad(0, "the first stack of a partition is not the empty one"));
        }
        for at in 1..parents.len() {
            let parent = u64::from(parents[at]).wrapping_sub(rows.start);
            if parent >= at as u64 {
                return Err(bad(at, "a parent that does not come before"));
            }
            let location = u64::from(of_nodes[at]).wrapping_sub(partition.locations.start);
            if location >= partition.locations.len() {
                return Err(bad(at, "a location of another partition"));
            }
            self.symbols.push_node(NodeId(parent as u32), LocationId(location as u32));
            if (at as u64).is_multiple_of(STRETCH) {
                self.pace.spend(STRETCH as usize / 4).await;
            }
        }
        Ok(())
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
        let id = symbols.push_string(text_of_row);
        self.ids.resize(texts.len(), None);
        self.ids[text as usize] = Some(id);
        self.known.push(text);
        Ok(id)
    }
}
