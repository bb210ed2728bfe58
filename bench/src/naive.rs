//! The plain way, written twice: prost's owned messages, and maps keyed by content.
//!
//! It is the oracle of the tests (it shares no code with the engine) and the rival of the benches.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use proto::pprof;

/// Sums by series, then by stack: names root first, `name|system_name|filename|start_line@line#address`.
pub type Sums = BTreeMap<SeriesKey, BTreeMap<Vec<String>, i64>>;

/// The group's labels, sorted, and the sample type.
pub type SeriesKey = (Vec<(String, String)>, String);

/// Inflates without any limit.
pub fn inflate(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(gzip).read_to_end(&mut bytes).expect("the corpus is gzip'd");
    bytes
}

/// Adds a profile's values to `sums`.
pub fn add(message: &pprof::Profile, sums: &mut Sums) {
    let text = |at: i64| message.string_table[at as usize].as_str();
    let functions: HashMap<u64, &pprof::Function> =
        message.function.iter().map(|f| (f.id, f)).collect();
    let mappings: HashMap<u64, &pprof::Mapping> =
        message.mapping.iter().map(|m| (m.id, m)).collect();
    let frames: HashMap<u64, Vec<String>> = message
        .location
        .iter()
        .map(|l| {
            let symbolised = mappings.get(&l.mapping_id).is_some_and(|m| m.has_functions);
            let address = if symbolised { 0 } else { l.address };
            let mut frames: Vec<String> = l
                .line
                .iter()
                .map(|line| {
                    let f = functions[&line.function_id];
                    format!(
                        "{}|{}|{}|{}@{}#{address}",
                        text(f.name),
                        text(f.system_name),
                        text(f.filename),
                        f.start_line,
                        line.line
                    )
                })
                .collect();
            if frames.is_empty() {
                frames.push(format!("#{address}"));
            }
            (l.id, frames)
        })
        .collect();
    for sample in &message.sample {
        if sample.value.iter().any(|v| *v < 0) || sample.value.iter().all(|v| *v == 0) {
            continue;
        }
        let mut stack: Vec<String> =
            sample.location_id.iter().flat_map(|id| frames[id].iter().cloned()).collect();
        stack.reverse();
        let mut group: Vec<(String, String)> = sample
            .label
            .iter()
            .filter(|label| label.str != 0)
            .map(|label| (text(label.key).to_owned(), text(label.str).to_owned()))
            .filter(|(key, _)| !["profile_id", "span_id", "trace_id"].contains(&key.as_str()))
            .collect();
        group.sort();
        for (column, value) in sample.value.iter().enumerate() {
            if *value != 0 {
                let key = (group.clone(), text(message.sample_type[column].r#type).to_owned());
                *sums.entry(key).or_default().entry(stack.clone()).or_default() += value;
            }
        }
    }
}

/// A head as one would write it first: everything owned, everything looked up by content.
#[derive(Debug, Default)]
pub struct Head {
    strings: HashMap<String, u32>,
    functions: HashMap<(u32, u32, u32, i64), u32>,
    locations: HashMap<(u64, Vec<(u32, i64)>), u32>,
    stacks: HashMap<Vec<u32>, u32>,
    rows: Vec<(SeriesKey, Vec<(u32, i64)>)>,
}

impl Head {
    /// Takes one profile in; gives the number of rows so far.
    pub fn append(&mut self, message: &pprof::Profile) -> usize {
        let strings: Vec<u32> = message
            .string_table
            .iter()
            .map(|text| {
                let next = self.strings.len() as u32;
                *self.strings.entry(text.clone()).or_insert(next)
            })
            .collect();
        let string = |at: i64| strings[at as usize];
        let mut functions = HashMap::new();
        for f in &message.function {
            let next = self.functions.len() as u32;
            let key = (string(f.name), string(f.system_name), string(f.filename), f.start_line);
            functions.insert(f.id, *self.functions.entry(key).or_insert(next));
        }
        let mut locations = HashMap::new();
        for l in &message.location {
            let next = self.locations.len() as u32;
            let lines =
                l.line.iter().map(|line| (functions[&line.function_id], line.line)).collect();
            locations.insert(l.id, *self.locations.entry((l.address, lines)).or_insert(next));
        }
        let mut rows: BTreeMap<SeriesKey, BTreeMap<u32, i64>> = BTreeMap::new();
        for sample in &message.sample {
            let stack = sample.location_id.iter().map(|id| locations[id]).collect();
            let next = self.stacks.len() as u32;
            let stack = *self.stacks.entry(stack).or_insert(next);
            let text = |at: i64| message.string_table[at as usize].clone();
            let mut group: Vec<(String, String)> = sample
                .label
                .iter()
                .filter(|label| label.str != 0)
                .map(|label| (text(label.key), text(label.str)))
                .collect();
            group.sort();
            for (column, value) in sample.value.iter().enumerate() {
                if *value != 0 {
                    let key = (group.clone(), text(message.sample_type[column].r#type));
                    *rows.entry(key).or_default().entry(stack).or_default() += value;
                }
            }
        }
        self.rows.extend(rows.into_iter().map(|(key, row)| (key, row.into_iter().collect())));
        self.rows.len()
    }
}
