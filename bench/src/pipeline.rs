//! From a profile of the corpus to the columns and decisions that an append takes.

use engine::profile::{Admission, NONE, Outcome, PIPELINE_VERSION, Profile};
use engine::profile::{Function, Line, Location, Mapping, SampleLabel, Span, ValueType};
use engine::{hash::HashSecret, labels::LabelSet};
use proto::pprof;

/// A fixed secret: figures and tests are the same each time.
pub fn secret() -> HashSecret {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    HashSecret::from_words(move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state ^ (state >> 29)
    })
}

/// Columns of a message decoded with prost, normalised the plain way: an independent way to an append's input.
pub fn columns(message: &pprof::Profile) -> Profile {
    let mut p = Profile::default();
    for text in &message.string_table {
        p.strings.push(Span { start: p.bytes.len() as u32, len: text.len() as u32 });
        p.bytes.extend_from_slice(text.as_bytes());
    }
    p.message_len = p.bytes.len();
    let kind = |v: &pprof::ValueType| ValueType { kind: v.r#type as u32, unit: v.unit as u32 };
    p.sample_types = message.sample_type.iter().map(kind).collect();
    p.period_type = message.period_type.as_ref().map(kind);
    p.period = message.period;
    p.time_ns = message.time_nanos;
    p.duration_ns = message.duration_nanos;
    p.mappings = message
        .mapping
        .iter()
        .map(|m| Mapping {
            memory_start: m.memory_start,
            memory_limit: m.memory_limit,
            file_offset: m.file_offset,
            filename: m.filename as u32,
            build_id: m.build_id as u32,
            has_functions: m.has_functions,
            has_filenames: m.has_filenames,
            has_line_numbers: m.has_line_numbers,
            has_inline_frames: m.has_inline_frames,
        })
        .collect();
    p.functions = message
        .function
        .iter()
        .map(|f| Function {
            name: f.name as u32,
            system_name: f.system_name as u32,
            filename: f.filename as u32,
            start_line: f.start_line,
        })
        .collect();
    let row = |ids: &[u64], id: u64| ids.iter().position(|x| *x == id).map_or(NONE, |r| r as u32);
    let mapping_ids: Vec<u64> = message.mapping.iter().map(|m| m.id).collect();
    let rows_of = |ids: Vec<u64>| -> std::collections::BTreeMap<u64, u32> {
        ids.into_iter().zip(0..).collect()
    };
    let functions = rows_of(message.function.iter().map(|f| f.id).collect());
    let locations = rows_of(message.location.iter().map(|l| l.id).collect());
    for l in &message.location {
        let mapping = row(&mapping_ids, l.mapping_id);
        let symbolised = p.mappings.get(mapping as usize).is_some_and(|m| m.has_functions);
        p.locations.push(Location {
            mapping,
            address: if symbolised { 0 } else { l.address },
            lines_start: p.lines.len() as u32,
            lines_count: l.line.len() as u32,
            is_folded: l.is_folded,
        });
        p.lines.extend(
            l.line.iter().map(|x| Line { function: functions[&x.function_id], line: x.line }),
        );
    }
    p.stack_starts.push(0);
    p.label_starts.push(0);
    p.group_starts.push(0);
    let mut groups = std::collections::BTreeMap::new();
    for sample in &message.sample {
        p.stack_locations.extend(sample.location_id.iter().map(|id| locations[id]));
        p.stack_starts.push(p.stack_locations.len() as u32);
        p.values.extend_from_slice(&sample.value);
        let mut labels: Vec<SampleLabel> = sample
            .label
            .iter()
            .filter(|label| label.str != 0)
            .map(|label| SampleLabel { key: label.key as u32, value: label.str as u32 })
            .collect();
        labels.sort_by_key(|label| (p.string(label.key), p.string(label.value)));
        p.labels.extend_from_slice(&labels);
        p.label_starts.push(p.labels.len() as u32);
        labels.retain(|l| !["profile_id", "span_id", "trace_id"].contains(&p.string(l.key)));
        let dropped =
            sample.value.iter().any(|v| *v < 0) || sample.value.iter().all(|v| *v == 0);
        if dropped {
            p.sample_groups.push(NONE);
            continue;
        }
        let next = groups.len() as u32;
        let key: Vec<(u32, u32)> = labels.iter().map(|l| (l.key, l.value)).collect();
        let group = *groups.entry(key).or_insert(next);
        if group == next {
            p.group_labels.extend_from_slice(&labels);
            p.group_starts.push(p.group_labels.len() as u32);
        }
        p.sample_groups.push(group);
    }
    p
}

/// An admission that stores everything.
pub fn plain_admission(profile: &Profile, labels: LabelSet) -> Admission {
    Admission {
        pipeline_version: PIPELINE_VERSION,
        time_ns: profile.time_ns,
        stacktrace_depth_max: 0,
        symbol_bytes_max: 0,
        go_fixes: false,
        labels,
        outcomes: vec![Outcome::Plain; profile.groups_count() * profile.sample_types.len()],
    }
}
