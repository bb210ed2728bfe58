//! One head's rows of every table.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::index::{Interval, OriginIndex, PartitionIndex, Rows, SeriesIndex};
use super::super::renumber::DepthFirst;
use super::super::schema::{Table, flags, functions, locations, profiles, stacktraces};
use super::super::write::{BATCH_ROWS, Sample};
use super::{BlockWriter, rows_since};
use crate::head::{Head, RowPlace};
use crate::labels::LabelSet;
use crate::pace::{self, Pace};
use crate::profile::Step;
use crate::symbols::{FunctionId, LocationId, MappingId, Symbols};
use crate::tenant::PartitionKey;

/// The label with the profile type.
const PROFILE_TYPE: &str = "__profile_type__";

/// No number yet.
const NONE: u32 = u32::MAX;

/// Rows that are looked at in one go.
const STRETCH: usize = 1024;

/// What is kept of a row that waits for the one which shares its samples, about.
const WRITTEN_BYTES: usize = 32;

/// Samples of a profile that are sorted in one go.
const SORT_MAX: usize = 8192;

/// The rows of a head in the order of the block.
struct Ordered {
    /// Series with rows, in order: rows of the head's table.
    series: Vec<u32>,
    places: Vec<RowPlace>,
    /// Rows of `places`, by series and time.
    order: Vec<u32>,
    /// By row of `places`: the other row of its profile that has the same stacks.
    partners: Vec<u32>,
}

/// Symbols that the stacks of a head use: locations by function and line, functions by file and name.
#[derive(Default)]
struct Used {
    /// By old id: the new one within the partition.
    new_locations: Vec<u32>,
    new_functions: Vec<u32>,
    locations: Vec<u32>,
    functions: Vec<u32>,
    lines: u64,
}

impl BlockWriter {
    /// Writes one head; one without rows leaves nothing.
    pub(super) async fn partition(&mut self, key: &PartitionKey, head: &Head) {
        let rows = Ordered::of(head, &self.pace).await;
        if rows.places.is_empty() {
            return;
        }
        let starts = Table::ALL.map(|table| self.table(table).rows());
        let (series_start, locations_start) = (self.series.len() as u64, self.locations);
        let tree = DepthFirst::of(head.symbols().tree_columns().0, &self.pace).await;
        let used = Used::of(head.symbols(), &tree, &self.pace).await;
        let scratch = rows.bytes_held() + tree.bytes_held() + used.bytes_held();
        self.note_bytes_held(scratch);

        let samples = rows.samples_count();
        self.begin(Table::Profiles, rows.places.len() as u64).await;
        self.begin(Table::Samples, samples).await;
        self.begin(Table::Stacktraces, tree.old_of_new.len() as u64).await;
        self.begin(Table::Locations, used.lines).await;
        self.begin(Table::Functions, used.functions.len() as u64).await;

        self.profiles(key, head, &rows, &tree, scratch).await;
        let functions_start = starts[Table::Functions as usize] as u32;
        self.stacktraces(head.symbols(), &tree, &used).await;
        self.locations(head.symbols(), &used, functions_start).await;
        self.functions(head.symbols(), &used).await;

        self.locations += used.locations.len() as u64;
        assert!(self.locations < u64::from(NONE), "a block has fewer locations than ids");
        for table in Table::ALL {
            let fits = table == Table::Samples || self.table(table).rows() < u64::from(NONE);
            assert!(fits, "a block has fewer rows than ids");
        }
        self.stats.profiles += head.profiles_count() as u64;
        let origins = head.identities().iter().map(|(origin, intervals)| OriginIndex {
            origin,
            intervals: intervals.iter().map(|&(first, last)| Interval { first, last }).collect(),
        });
        let tables = Table::ALL.map(|table| rows_since(starts[table as usize], self.table(table)));
        self.partitions.push(PartitionIndex {
            service_name: key.service_name.to_string(),
            split: key.split,
            series: Rows { start: series_start, end: self.series.len() as u64 },
            tables: tables.into(),
            locations: Rows { start: locations_start, end: self.locations },
            origins: origins.collect(),
        });
        self.note_bytes_held(0);
    }

    /// Profiles and their samples, series by series.
    async fn profiles(
        &mut self,
        key: &PartitionKey,
        head: &Head,
        rows: &Ordered,
        tree: &DepthFirst,
        scratch: usize,
    ) {
        let stacks_start = self.table(Table::Stacktraces).rows() as u32;
        let service_name = Bytes::copy_from_slice(key.service_name.as_bytes());
        let mut samples: Vec<Sample> = Vec::new();
        // Of rows whose samples are written and wait for a second profile: the first one's id and row of samples.
        let mut written: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        let mut order = rows.order.iter().peekable();
        let mut type_before = None;
        for series in &rows.series {
            let of_head = &head.series()[*series as usize];
            let profile_type = of_head.labels.get(PROFILE_TYPE).unwrap_or_default();
            if type_before.replace(profile_type) != Some(profile_type) {
                self.begin_kind(Table::Samples).await;
            }
            let profile_type = Bytes::copy_from_slice(profile_type.as_bytes());
            let labels = Bytes::from(json(&of_head.labels));
            let series_id = self.series.len() as u32;
            let refs = self.labels.add(series_id, &of_head.labels);
            let profiles_start = self.table(Table::Profiles).rows();
            while let Some(at) = order.next_if(|at| rows.places[**at as usize].series.0 == *series)
            {
                let place = &rows.places[*at as usize];
                let profile_id = self.table(Table::Profiles).rows() as u32;
                let partner = rows.partners[*at as usize];
                samples.clear();
                let shared = written.remove(&partner);
                let own = (profile_id, self.table(Table::Samples).rows());
                let (samples_of, samples_start) = shared.unwrap_or(own);
                if shared.is_none() {
                    head.row_at(place).for_each_sample(|node, value| {
                        let stack = stacks_start + tree.new_of_old[node.0 as usize];
                        samples.push(Sample { stack, value, second_value: 0 });
                    });
                    if let Some(second) = rows.places.get(partner as usize) {
                        written.insert(*at, (profile_id, samples_start));
                        let mut firsts = samples.iter_mut();
                        head.row_at(second).for_each_sample(|_, value| {
                            let first = firsts.next().expect("it has as many stacks");
                            first.second_value = value;
                        });
                    }
                }
                self.pace.spend(8 + samples.len() / 4).await;
                if samples.len() <= SORT_MAX {
                    samples.sort_unstable_by_key(|sample| sample.stack);
                } else {
                    pace::sort(&mut samples, &self.pace, |a, b| a.stack.cmp(&b.stack)).await;
                }
                for part in samples.chunks(BATCH_ROWS) {
                    self.table(Table::Samples).batch().samples(profile_id, part);
                    self.flush_full(Table::Samples).await;
                }
                let row = self.table(Table::Profiles).batch();
                row.u32(0, profile_id);
                row.u32(profiles::SERIES_ID, series_id);
                row.text(2, service_name.clone());
                row.text(3, profile_type.clone());
                row.text(4, labels.clone());
                row.i64(profiles::TIME, place.time_ns);
                row.i64(profiles::TOTAL, place.total);
                row.u64(profiles::SAMPLES_START, samples_start);
                row.u32(profiles::SAMPLES_COUNT, place.values_count);
                row.u32(profiles::SAMPLES_OF, samples_of);
                self.flush_full(Table::Profiles).await;
                self.pace.spend(samples.len().min(SORT_MAX) / 2).await;
            }
            let times_ns = (of_head.time_ns_min, of_head.time_ns_max);
            self.times_ns = (self.times_ns.0.min(times_ns.0), self.times_ns.1.max(times_ns.1));
            let profiles = rows_since(profiles_start, self.table(Table::Profiles));
            self.series.push(SeriesIndex {
                labels: refs,
                profiles,
                time_ns_min: times_ns.0,
                time_ns_max: times_ns.1,
            });
            self.note_bytes_held(scratch + written.len() * WRITTEN_BYTES);
        }
        assert!(order.next().is_none(), "every row belongs to a series with rows");
        assert!(written.is_empty(), "what is shared is shared by two");
    }

    async fn stacktraces(&mut self, symbols: &Symbols, tree: &DepthFirst, used: &Used) {
        let (parents, locations) = symbols.tree_columns();
        let start = self.table(Table::Stacktraces).rows() as u32;
        let locations_start = self.locations as u32;
        // The last stack of each depth.
        let mut path = Vec::new();
        for (new, old) in (0..).zip(&tree.old_of_new) {
            let (parent, location) = (parents[*old as usize], locations[*old as usize]);
            while path.last().is_some_and(|last| *last != parent) {
                path.pop();
            }
            let depth = path.len() as u32;
            path.push(*old);
            let location =
                used.new_locations.get(location as usize).map(|new| locations_start + new);
            let row = self.table(Table::Stacktraces).batch();
            row.u32(0, start + new);
            row.u32(stacktraces::DEPTH, depth);
            row.u32(stacktraces::LOCATION_ID, location);
            self.flush_full(Table::Stacktraces).await;
            if (new as usize).is_multiple_of(STRETCH) {
                self.pace.spend(STRETCH).await;
            }
        }
    }

    async fn locations(&mut self, symbols: &Symbols, used: &Used, functions_start: u32) {
        let texts = MappingTexts::of(symbols, &self.pace).await;
        let start = self.locations as u32;
        for (new, old) in (0..).zip(&used.locations) {
            let id = LocationId(*old);
            let mapping = symbols.mapping_of(id);
            let (facts, [file, build_id]) = texts.of_mapping(symbols, mapping);
            let bits = facts.flags | if symbols.is_folded(id) { flags::IS_FOLDED } else { 0 };
            let mut lines = symbols.lines(id);
            for line_index in 0..lines.len().max(1) as u32 {
                let line = lines.next();
                let row = self.table(Table::Locations).batch();
                row.u32(locations::LOCATION_ID, start + new);
                row.u32(locations::LINE_INDEX, line_index);
                let function = line.map(|line| used.new_functions[line.function.0 as usize]);
                row.u32(locations::FUNCTION_ID, function.map(|new| functions_start + new));
                row.i64(locations::LINE, line.map_or(0, |line| line.line));
                row.u64(locations::ADDRESS, symbols.address_of(id));
                row.text(locations::MAPPING_FILE, file.clone());
                row.text(locations::MAPPING_BUILD_ID, build_id.clone());
                row.u64(locations::MAPPING_START, facts.start);
                row.u64(locations::MAPPING_LIMIT, facts.limit);
                row.u64(locations::MAPPING_OFFSET, facts.offset);
                row.u32(locations::FLAGS, bits);
                self.flush_full(Table::Locations).await;
                self.pace.spend(4).await;
            }
        }
    }

    async fn functions(&mut self, symbols: &Symbols, used: &Used) {
        let start = self.table(Table::Functions).rows() as u32;
        let text = |id| Bytes::copy_from_slice(symbols.string(id).as_bytes());
        for (new, old) in (0..).zip(&used.functions) {
            let function = symbols.function(FunctionId(*old));
            let system_name = function.system_name;
            let row = self.table(Table::Functions).batch();
            row.u32(0, start + new);
            row.text(functions::NAME, text(function.name));
            row.text(
                functions::SYSTEM_NAME,
                (system_name != function.name).then(|| text(system_name)),
            );
            row.text(functions::FILE, text(function.filename));
            row.i64(functions::START_LINE, function.start_line);
            self.flush_full(Table::Functions).await;
            self.pace.spend(4).await;
        }
    }
}

impl Ordered {
    async fn of(head: &Head, pace: &Pace) -> Self {
        let all = head.series();
        let (mut series, mut rows_count) = (Vec::new(), 0);
        for (at, of_head) in (0_u32..).zip(all) {
            rows_count += of_head.rows_count as usize;
            series.extend((of_head.rows_count > 0).then_some(at));
            pace.spend(1).await;
        }
        let (mut places, mut cursor) = (Vec::with_capacity(rows_count), head.cursor());
        while head.places(&mut cursor, STRETCH, &mut places) == Step::More {
            pace.spend(STRETCH * 2).await;
        }
        let sort_key = |at: u32| {
            let labels = &all[at as usize].labels;
            (labels.get(PROFILE_TYPE).unwrap_or_default(), labels)
        };
        pace::sort_texts(&mut series, pace, |a, b| sort_key(a).cmp(&sort_key(b))).await;
        let mut ranks = pace::filled(NONE, all.len(), pace).await;
        number(&series, &mut ranks, pace).await;
        let mut order = pace::numbers(places.len(), pace).await;
        let rank = |at: u32| {
            let place: &RowPlace = &places[at as usize];
            // Rows of one time stay in the order of their arrival.
            (ranks[place.series.0 as usize], place.time_ns, at)
        };
        pace::sort(&mut order, pace, |a, b| rank(a).cmp(&rank(b))).await;
        let partners = partners(head, &places, pace).await;
        Self { series, places, order, partners }
    }

    /// Rows of samples to be written.
    fn samples_count(&self) -> u64 {
        let rows = self.places.iter().zip(0..).zip(&self.partners);
        let owned = rows.filter(|((_, at), partner)| **partner == NONE || at < *partner);
        owned.map(|((place, _), _)| u64::from(place.values_count)).sum()
    }

    fn bytes_held(&self) -> usize {
        self.places.capacity() * size_of::<RowPlace>()
            + (self.order.capacity() + self.series.capacity() + self.partners.capacity())
                * size_of::<u32>()
    }
}

/// Gives ids their places in a list, in a column by id.
async fn number(list: &[u32], places: &mut [u32], pace: &Pace) {
    for (place, id) in (0..).zip(list) {
        places[*id as usize] = place;
        pace.spend(1).await;
    }
}

/// Pairs of rows of one profile that have the same stacks and different types, each by the other's number. Not of one type: who reads it
/// would find its values in both columns, and its rows in another order than its series.
async fn partners(head: &Head, places: &[RowPlace], pace: &Pace) -> Vec<u32> {
    let type_of = |at: usize| {
        let series = &head.series()[places[at].series.0 as usize];
        series.labels.get(PROFILE_TYPE)
    };
    let mut partners = pace::filled(NONE, places.len(), pace).await;
    for at in 1..places.len() {
        let before = at - 1;
        let is_pair = partners[before] == NONE
            && places[at].has_stacks_of(&places[before])
            && type_of(at) != type_of(before);
        if is_pair {
            (partners[before], partners[at]) = (at as u32, before as u32);
        }
        if at.is_multiple_of(STRETCH) {
            pace.spend(STRETCH / 2).await;
        }
    }
    partners
}

impl Used {
    async fn of(symbols: &Symbols, tree: &DepthFirst, pace: &Pace) -> Self {
        let (_, of_nodes) = symbols.tree_columns();
        let mut used = Self {
            new_locations: pace::filled(NONE, symbols.locations_count(), pace).await,
            new_functions: pace::filled(NONE, symbols.functions_count(), pace).await,
            ..Self::default()
        };
        for (at, old) in tree.old_of_new.iter().enumerate() {
            if at % STRETCH == 0 {
                pace.spend(STRETCH).await;
            }
            let Some(new) = used.new_locations.get_mut(of_nodes[*old as usize] as usize) else {
                continue; // the root
            };
            if *new != NONE {
                continue;
            }
            let id = LocationId(of_nodes[*old as usize]);
            *new = used.locations.len() as u32;
            used.locations.push(id.0);
            let lines = symbols.lines(id);
            used.lines += lines.len().max(1) as u64;
            for line in lines {
                let new = &mut used.new_functions[line.function.0 as usize];
                if *new == NONE {
                    *new = used.functions.len() as u32;
                    used.functions.push(line.function.0);
                }
            }
        }
        used.sort_functions(symbols, pace).await;
        used.sort_locations(symbols, pace).await;
        used
    }

    /// Puts functions in the order of their files and names: neighbours begin alike.
    async fn sort_functions(&mut self, symbols: &Symbols, pace: &Pace) {
        let key = |id: u32| {
            let function = symbols.function(FunctionId(id));
            let (file, name) = (symbols.string(function.filename), symbols.string(function.name));
            (file, name, function.start_line, id)
        };
        pace::sort_texts(&mut self.functions, pace, |a, b| key(a).cmp(&key(b))).await;
        number(&self.functions, &mut self.new_functions, pace).await;
    }

    /// Puts locations in the order of their functions and lines, and addresses where they have none: differences are small.
    async fn sort_locations(&mut self, symbols: &Symbols, pace: &Pace) {
        let key = |id: u32| {
            let line = symbols.lines(LocationId(id)).next();
            let line = line.map(|line| (self.new_functions[line.function.0 as usize], line.line));
            let mapping = symbols.mapping_of(LocationId(id)).map(|mapping| mapping.0);
            (line, mapping, symbols.address_of(LocationId(id)), id)
        };
        pace::sort(&mut self.locations, pace, |a, b| key(a).cmp(&key(b))).await;
        number(&self.locations, &mut self.new_locations, pace).await;
    }

    fn bytes_held(&self) -> usize {
        let columns = [&self.new_locations, &self.new_functions, &self.locations, &self.functions];
        columns.iter().map(|column| column.capacity() * size_of::<u32>()).sum()
    }
}

/// The numbers of a mapping, and its flags.
#[derive(Clone, Copy, Default)]
struct MappingFacts {
    start: u64,
    limit: u64,
    offset: u64,
    flags: u32,
}

/// The texts of all mappings of a head, made once: there are few, and many locations.
struct MappingTexts {
    of: Vec<[Bytes; 2]>,
    none: [Bytes; 2],
}

impl MappingTexts {
    async fn of(symbols: &Symbols, pace: &Pace) -> Self {
        let text = |id| Bytes::copy_from_slice(symbols.string(id).as_bytes());
        let mut of = Vec::with_capacity(symbols.mappings_count());
        for id in 0..symbols.mappings_count() as u32 {
            let mapping = symbols.mapping(MappingId(id));
            of.push([text(mapping.filename), text(mapping.build_id)]);
            pace.spend(4).await;
        }
        Self { of, none: [Bytes::new(), Bytes::new()] }
    }

    fn of_mapping(&self, symbols: &Symbols, id: Option<MappingId>) -> (MappingFacts, &[Bytes; 2]) {
        let Some(id) = id else { return (MappingFacts::default(), &self.none) };
        let m = symbols.mapping(id);
        let bits = [
            (true, flags::HAS_MAPPING),
            (m.has_functions, flags::HAS_FUNCTIONS),
            (m.has_filenames, flags::HAS_FILENAMES),
            (m.has_line_numbers, flags::HAS_LINE_NUMBERS),
            (m.has_inline_frames, flags::HAS_INLINE_FRAMES),
        ];
        let facts = MappingFacts {
            start: m.memory_start,
            limit: m.memory_limit,
            offset: m.file_offset,
            flags: bits.iter().filter(|(holds, _)| *holds).fold(0, |flags, (_, bit)| flags | bit),
        };
        (facts, &self.of[id.0 as usize])
    }
}

/// Labels as a JSON object, by name.
fn json(labels: &LabelSet) -> Vec<u8> {
    let map: serde_json::Map<String, serde_json::Value> =
        labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    serde_json::to_vec(&map).expect("texts are JSON")
}
