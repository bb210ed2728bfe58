//! The merged profile of all shards, and the pprof message that is made of it.

use std::collections::BTreeMap;

use proto::pprof;
use proto::rpc::select::ProfilePart;

use crate::flamegraph::{NO_PARENT, OTHER, settled_total_min, totals};
use crate::hash::HashSecret;
use crate::pace::Pace;
use crate::profile::Step;
use crate::profile_type::ProfileType;
use crate::query::intern::Texts;
use crate::query::written_profile::{Path, SampleWriter, WrittenProfile};
use crate::symbols::{FunctionId, LocationId, Mapping, NodeId, PartError, PartImport, Symbols};
use crate::varint;

/// What is left of each stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Everything (below 1), or about this many nodes of the location tree: the rest is a frame `other` under what is kept.
    Nodes(i64),
    /// Profile-guided optimisation of Go: so many locations at the leaf (0: all).
    GoPgo {
        /// Locations kept of each stack.
        keep_locations: u32,
        /// Whether the line of the innermost frame is forgotten, so that equal callees are one.
        aggregate_callees: bool,
    },
}

/// Partial profiles of shards, summed up over one set of symbols.
#[derive(Debug)]
pub struct MergedProfile {
    symbols: Symbols,
    secret: HashSecret,
    import: PartImport,
    /// By node.
    values: Vec<i64>,
    is_any: bool,
}

impl MergedProfile {
    /// Nothing yet.
    pub fn new(secret: HashSecret) -> Self {
        Self {
            symbols: Symbols::new(secret.clone()),
            secret,
            import: PartImport::default(),
            values: Vec::new(),
            is_any: false,
        }
    }

    /// Adds a part.
    pub async fn merge(&mut self, part: &ProfilePart, pace: &Pace) -> Result<(), PartError> {
        self.is_any = true;
        self.import.begin(part)?;
        while self.import.step(&mut self.symbols, part) == Step::More {
            pace.turn().await;
        }
        self.values.resize(self.symbols.nodes_count(), 0);
        for (node, value) in self.import.nodes().iter().zip(&part.values) {
            let sum = &mut self.values[node.0 as usize];
            *sum = sum.saturating_add(*value);
            pace.spend(1).await;
        }
        Ok(())
    }

    /// The message: one sample type, what the profile type tells, and the symbols that samples name. Without any part it is
    /// the empty message.
    pub async fn into_pprof(
        self,
        profile_type: &ProfileType,
        end_ms: i64,
        shape: Shape,
        pace: &Pace,
    ) -> WrittenProfile {
        if !self.is_any {
            return WrittenProfile::default();
        }
        let mut writer = PprofWriter::new(&self.symbols, &self.secret);
        match shape {
            Shape::Nodes(nodes_max) => self.write_stacks(&mut writer, nodes_max, pace).await,
            Shape::GoPgo { keep_locations, aggregate_callees } => {
                self.write_go_pgo(&mut writer, keep_locations, aggregate_callees, pace).await;
            }
        }
        writer.finish(profile_type, end_ms)
    }

    /// Every stack with a value; below the cut, one stack of its kept part and `other`.
    async fn write_stacks(&self, writer: &mut PprofWriter<'_>, nodes_max: i64, pace: &Pace) {
        let (parents, _) = self.symbols.tree_columns();
        let (cut_at, totals) = if nodes_max > 0 {
            let mut nodes = Vec::with_capacity(self.values.len());
            for parent in &parents[..self.values.len()] {
                // The empty stack is no node to be counted: its children are the roots.
                nodes.push((if *parent == NodeId::ROOT.0 { NO_PARENT } else { *parent }, ()));
                pace.spend(1).await;
            }
            let mut totals = totals(&nodes, &self.values, pace).await;
            totals[0] = 0;
            (settled_total_min(&nodes, &totals, nodes_max, pace).await, totals)
        } else {
            (0, Vec::new())
        };
        // By node that is kept (the root stands for all that is cut beside the roots): what its children below the cut weigh.
        let mut others: BTreeMap<u32, i64> = BTreeMap::new();
        let mut path = Path::default();
        for (node, own) in self.values.iter().enumerate() {
            let is_kept = cut_at == 0 || node == 0 || totals[node] >= cut_at;
            let parent = parents.get(node).copied().unwrap_or(NO_PARENT);
            if is_kept && *own != 0 {
                let cost = self.write_stack(writer, &mut path, &[], node as u32, *own);
                pace.spend(cost).await;
            } else if !is_kept && (parent == 0 || totals[parent as usize] >= cut_at) {
                let other = others.entry(parent).or_default();
                *other = other.saturating_add(totals[node]);
            }
            pace.spend(1).await;
        }
        for (node, value) in others {
            if value != 0 {
                let mut other = Vec::new();
                varint::put(&mut other, writer.other());
                let cost = self.write_stack(writer, &mut path, &other, node, value);
                pace.spend(cost).await;
            }
        }
    }

    /// Writes the stack of a node below the ids of `head`; gives what that cost.
    fn write_stack(
        &self,
        writer: &mut PprofWriter<'_>,
        path: &mut Path,
        head: &[u8],
        node: u32,
        value: i64,
    ) -> usize {
        let (parents, locations) = self.symbols.tree_columns();
        let id_of = |node: u32| writer.location(LocationId(locations[node as usize]));
        let (stack, written) = path.go_to(node, parents, id_of);
        writer.samples.push(head, stack, value);
        written + stack.len() / 64 + 1
    }

    /// Stacks cut to their leaves; equal ones are summed up.
    async fn write_go_pgo(
        &self,
        writer: &mut PprofWriter<'_>,
        keep_locations: u32,
        aggregate_callees: bool,
        pace: &Pace,
    ) {
        let keep = if keep_locations == 0 { usize::MAX } else { keep_locations as usize };
        let mut stacks = Vec::new();
        for (node, value) in self.values.iter().enumerate().filter(|(_, value)| **value != 0) {
            let mut stack = self.locations(NodeId(node as u32));
            stack.truncate(keep);
            pace.spend(stack.len() + 1).await;
            if aggregate_callees && let Some(leaf) = stack.first() {
                // As in Pyroscope a location that is a leaf anywhere loses its line everywhere: callees are compared as such.
                writer.forget_line(*leaf);
            }
            stacks.push((stack, *value));
        }
        let mut sums: BTreeMap<Vec<u64>, i64> = BTreeMap::new();
        for (stack, value) in stacks {
            if stack.is_empty() {
                continue;
            }
            pace.spend(stack.len() * 2 + 8).await;
            let locations = stack.into_iter().map(|id| writer.location(id)).collect();
            let sum = sums.entry(locations).or_default();
            *sum = sum.saturating_add(value);
        }
        let mut ids = Vec::new();
        for (locations, value) in sums {
            ids.clear();
            for id in &locations {
                varint::put(&mut ids, *id);
            }
            writer.samples.push(&ids, &[], value);
            pace.spend(1 + ids.len() / 64).await;
        }
    }

    /// Locations of a stack, leaf first.
    fn locations(&self, node: NodeId) -> Vec<LocationId> {
        let mut stack = Vec::new();
        let mut at = node;
        while let (Some(parent), Some(location)) =
            (self.symbols.parent(at), self.symbols.location(at))
        {
            stack.push(location);
            at = parent;
        }
        stack
    }
}

/// Mapping, address, and lines as (function, line).
type LocationContent = (u64, u64, Vec<(u64, i64)>);

/// Takes over, on first use, what samples name.
struct PprofWriter<'a> {
    symbols: &'a Symbols,
    profile: pprof::Profile,
    samples: SampleWriter,
    texts: Texts,
    /// By row of the symbols' tables: the id in the message, 0 for none yet.
    locations: Vec<u64>,
    functions: Vec<u64>,
    mappings: Vec<u64>,
    /// Locations whose first line is forgotten.
    without_line: Vec<bool>,
    /// Ids of locations without their line by content: several may become one.
    equal: BTreeMap<LocationContent, u64>,
    other: u64,
    empty_mapping: u64,
}

impl<'a> PprofWriter<'a> {
    fn new(symbols: &'a Symbols, secret: &HashSecret) -> Self {
        let mut texts = Texts::new(secret);
        texts.intern("");
        Self {
            symbols,
            profile: pprof::Profile::default(),
            samples: SampleWriter::default(),
            texts,
            locations: vec![0; symbols.locations_count()],
            functions: vec![0; symbols.functions_count()],
            mappings: vec![0; symbols.mappings_count()],
            without_line: Vec::new(),
            equal: BTreeMap::new(),
            other: 0,
            empty_mapping: 0,
        }
    }

    fn forget_line(&mut self, id: LocationId) {
        assert!(
            self.profile.location.is_empty(),
            "lines are forgotten before locations are written"
        );
        self.without_line.resize(self.symbols.locations_count(), false);
        self.without_line[id.0 as usize] = true;
    }

    #[inline]
    fn location(&mut self, id: LocationId) -> u64 {
        match self.locations[id.0 as usize] {
            0 => self.new_location(id),
            known => known,
        }
    }

    fn new_location(&mut self, id: LocationId) -> u64 {
        let mapping_id = match self.symbols.mapping_of(id) {
            Some(mapping) if self.mappings[mapping.0 as usize] != 0 => {
                self.mappings[mapping.0 as usize]
            }
            Some(mapping) => {
                let number = self.mapping(Some(self.symbols.mapping(mapping)));
                self.mappings[mapping.0 as usize] = number;
                number
            }
            None => self.without_mapping(),
        };
        let mut line = Vec::new();
        for of in self.symbols.lines(id) {
            let function_id = self.function(of.function);
            line.push(pprof::Line { function_id, line: of.line });
        }
        let address = self.symbols.address_of(id);
        let mut number = self.profile.location.len() as u64 + 1;
        if self.without_line.get(id.0 as usize) == Some(&true) {
            if let Some(first) = line.first_mut() {
                first.line = 0;
            }
            let lines = line.iter().map(|line| (line.function_id, line.line)).collect();
            number = *self.equal.entry((mapping_id, address, lines)).or_insert(number);
        }
        if number > self.profile.location.len() as u64 {
            let is_folded = self.symbols.is_folded(id);
            self.profile.location.push(pprof::Location {
                id: number,
                mapping_id,
                address,
                line,
                is_folded,
            });
        }
        self.locations[id.0 as usize] = number;
        number
    }

    fn function(&mut self, id: FunctionId) -> u64 {
        let known = self.functions[id.0 as usize];
        if known != 0 {
            return known;
        }
        let function = self.symbols.function(id);
        let number = self.profile.function.len() as u64 + 1;
        let function = pprof::Function {
            id: number,
            name: self.text(self.symbols.string(function.name)),
            system_name: self.text(self.symbols.string(function.system_name)),
            filename: self.text(self.symbols.string(function.filename)),
            start_line: function.start_line,
        };
        self.profile.function.push(function);
        self.functions[id.0 as usize] = number;
        number
    }

    /// The mapping of locations that have none: pprof's readers are used to every location having one.
    fn without_mapping(&mut self) -> u64 {
        if self.empty_mapping == 0 {
            self.empty_mapping = self.mapping(None);
        }
        self.empty_mapping
    }

    fn mapping(&mut self, mapping: Option<Mapping>) -> u64 {
        let id = self.profile.mapping.len() as u64 + 1;
        let mapping = mapping.map_or_else(pprof::Mapping::default, |mapping| pprof::Mapping {
            memory_start: mapping.memory_start,
            memory_limit: mapping.memory_limit,
            file_offset: mapping.file_offset,
            filename: self.text(self.symbols.string(mapping.filename)),
            build_id: self.text(self.symbols.string(mapping.build_id)),
            has_functions: mapping.has_functions,
            has_filenames: mapping.has_filenames,
            has_line_numbers: mapping.has_line_numbers,
            has_inline_frames: mapping.has_inline_frames,
            ..pprof::Mapping::default()
        });
        self.profile.mapping.push(pprof::Mapping { id, ..mapping });
        id
    }

    /// The location of what was cut.
    fn other(&mut self) -> u64 {
        if self.other == 0 {
            let function_id = self.profile.function.len() as u64 + 1;
            let name = self.text(OTHER);
            self.profile.function.push(pprof::Function {
                id: function_id,
                name,
                system_name: name,
                ..pprof::Function::default()
            });
            let mapping_id =
                if self.profile.mapping.is_empty() { self.without_mapping() } else { 1 };
            self.other = self.profile.location.len() as u64 + 1;
            self.profile.location.push(pprof::Location {
                id: self.other,
                mapping_id,
                line: vec![pprof::Line { function_id, line: 0 }],
                ..pprof::Location::default()
            });
        }
        self.other
    }

    fn text(&mut self, text: &str) -> i64 {
        i64::from(self.texts.intern(text))
    }

    fn finish(mut self, profile_type: &ProfileType, end_ms: i64) -> WrittenProfile {
        /// Nanoseconds: what a processor profile's values are counted in when nothing else is known.
        const PERIOD_CPU: i64 = 1_000_000_000;
        /// Bytes between two samples of Go's heap profile.
        const PERIOD_MEMORY: i64 = 512 << 10;
        let sample_type = pprof::ValueType {
            r#type: self.text(profile_type.sample_type()),
            unit: self.text(profile_type.sample_unit()),
        };
        let period_type = pprof::ValueType {
            r#type: self.text(profile_type.period_type()),
            unit: self.text(profile_type.period_unit()),
        };
        self.profile.default_sample_type = sample_type.r#type;
        self.profile.sample_type = vec![sample_type];
        self.profile.period_type = Some(period_type);
        self.profile.period = match profile_type.name() {
            "process_cpu" => PERIOD_CPU,
            "memory" => PERIOD_MEMORY,
            _ => 1,
        };
        self.profile.time_nanos = end_ms.saturating_mul(1_000_000);
        self.profile.string_table = self.texts.into_vec();
        WrittenProfile { message: self.profile, samples: self.samples.finish() }
    }
}
