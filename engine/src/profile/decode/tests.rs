use std::collections::BTreeMap;

use prost::Message;
use proto::pprof;

use super::super::resolve::{Resolver, clear_addresses};
use super::super::{NONE, corpus};
use super::*;

fn secret() -> HashSecret {
    HashSecret::from_words(|| 0x1234_5678_9abc_def0)
}

fn decode(message: &[u8], limits: DecodeLimits) -> Result<(Profile, Facts), WireError> {
    let mut profile = Profile { bytes: message.to_vec(), ..Profile::default() };
    profile.message_len = message.len();
    let mut decoder = Decoder::new(secret());
    decoder.begin(limits);
    while decoder.step(&mut profile, &mut 10_000)? == Step::More {}
    Ok((profile, decoder.facts))
}

fn decode_whole(message: &[u8]) -> (Profile, Facts) {
    decode(message, DecodeLimits::default()).unwrap()
}

fn resolved(message: &[u8]) -> Profile {
    let (mut profile, facts) = decode_whole(message);
    let mut resolver = Resolver::default();
    resolver.begin();
    while resolver.step(&mut profile, &facts, &mut 1000) == Step::More {}
    profile
}

/// Row by id; of equal ids the last.
fn rows(ids: impl Iterator<Item = u64>) -> BTreeMap<u64, u32> {
    ids.zip(0..).collect()
}

#[test]
fn every_profile_of_the_corpus_decodes_to_what_prost_reads() {
    for (path, bytes) in corpus::all() {
        let message = corpus::inflated(&bytes);
        if path.ends_with("invalid_utf8.pb.gz") {
            assert!(decode_whole(&message).1.utf8_invalid.is_some());
            continue;
        }
        let expected = pprof::Profile::decode(&message[..]).unwrap();
        let profile = resolved(&message);
        assert_eq!(
            (profile.time_ns, profile.duration_ns, profile.period),
            (expected.time_nanos, expected.duration_nanos, expected.period),
            "{path}"
        );
        same_tables(&path, &profile, &expected);
        same_samples(&path, &profile, &expected);
    }
}

fn same_tables(path: &str, profile: &Profile, expected: &pprof::Profile) {
    let strings: Vec<&str> = (0..profile.strings.len() as u32).map(|r| profile.string(r)).collect();
    assert_eq!(strings, expected.string_table, "{path}");
    let value_type =
        |t: &pprof::ValueType| ValueType { kind: t.r#type as u32, unit: t.unit as u32 };
    let sample_types: Vec<ValueType> = expected.sample_type.iter().map(value_type).collect();
    assert_eq!(profile.sample_types, sample_types, "{path}");
    assert_eq!(profile.period_type, expected.period_type.as_ref().map(value_type), "{path}");
    assert_eq!(profile.functions.len(), expected.function.len(), "{path}");
    for (row, function) in profile.functions.iter().zip(&expected.function) {
        assert_eq!(
            (row.name, row.system_name, row.filename, row.start_line),
            (
                function.name as u32,
                function.system_name as u32,
                function.filename as u32,
                function.start_line
            ),
            "{path}"
        );
    }
    assert_eq!(profile.mappings.len(), expected.mapping.len(), "{path}");
    for (row, mapping) in profile.mappings.iter().zip(&expected.mapping) {
        assert_eq!(
            (row.filename, row.build_id, row.has_functions, row.has_line_numbers),
            (
                mapping.filename as u32,
                mapping.build_id as u32,
                mapping.has_functions,
                mapping.has_line_numbers
            ),
            "{path}"
        );
    }
}

fn same_samples(path: &str, profile: &Profile, expected: &pprof::Profile) {
    let functions = rows(expected.function.iter().map(|f| f.id));
    let mappings = rows(expected.mapping.iter().map(|m| m.id));
    let locations = rows(expected.location.iter().map(|l| l.id));
    let mut gone = Vec::new();
    for (row, location) in profile.locations.iter().zip(&expected.location) {
        let line = |line: &pprof::Line| {
            functions.get(&line.function_id).map(|&function| Line { function, line: line.line })
        };
        let lines: Option<Vec<Line>> = location.line.iter().map(line).collect();
        let mapping = match location.mapping_id {
            0 => Some(NONE),
            id => mappings.get(&id).copied(),
        };
        let empty = location.line.is_empty() && location.address == 0;
        gone.push(lines.is_none() || mapping.is_none() || empty);
        if let (Some(lines), Some(mapping)) = (lines, mapping) {
            let start = row.lines_start as usize;
            assert_eq!(profile.lines[start..start + row.lines_count as usize], lines, "{path}");
            assert_eq!((row.mapping, row.address), (mapping, location.address), "{path}");
        }
    }
    assert_eq!(profile.samples_count(), expected.sample.len(), "{path}");
    let columns = expected.sample_type.len();
    for (i, sample) in expected.sample.iter().enumerate() {
        assert_eq!(profile.values[i * columns..][..columns], sample.value, "{path}");
        let stack: Option<Vec<u32>> =
            sample.location_id.iter().map(|id| locations.get(id).copied()).collect();
        let stays = stack.as_ref().is_some_and(|s| !s.iter().any(|&row| gone[row as usize]));
        assert_eq!(profile.sample_groups[i] != NONE, stays, "{path}");
        if stays {
            let range = profile.stack_starts[i] as usize..profile.stack_starts[i + 1] as usize;
            assert_eq!(profile.stack_locations[range], stack.unwrap(), "{path}");
        }
        let labels: Vec<SampleLabel> = sample
            .label
            .iter()
            .filter(|label| label.str != 0)
            .map(|label| SampleLabel { key: label.key as u32, value: label.str as u32 })
            .collect();
        let range = profile.label_starts[i] as usize..profile.label_starts[i + 1] as usize;
        assert_eq!(profile.labels[range], labels, "{path}");
    }
}

#[test]
fn addresses_are_cleared_where_the_mapping_has_functions() {
    let mapping = |id, has_functions| pprof::Mapping { id, has_functions, ..Default::default() };
    let location = |id, mapping_id| {
        let line = vec![pprof::Line { function_id: 1, line: 7 }];
        pprof::Location { id, mapping_id, address: 99, line, ..Default::default() }
    };
    let message = pprof::Profile {
        mapping: vec![mapping(5, true), mapping(6, false)],
        location: vec![location(1, 5), location(2, 6), location(3, 0)],
        function: vec![pprof::Function { id: 1, ..Default::default() }],
        ..Default::default()
    };
    let mut profile = resolved(&message.encode_to_vec());
    clear_addresses(&mut profile);
    let rows: Vec<_> = profile.locations.iter().map(|l| (l.mapping, l.address)).collect();
    assert_eq!(rows, [(0, 0), (1, 99), (NONE, 99)]);
}

/// Fields in reverse order, numbers one by one instead of packed: the same message.
#[test]
fn any_order_of_fields_and_unpacked_numbers_read_the_same() {
    for (path, bytes) in corpus::committed() {
        let message = corpus::inflated(&bytes);
        let mut fields = top_level_fields(&message);
        // Rows keep their order within a kind; the kinds come backwards.
        fields.sort_by_key(|field| std::cmp::Reverse(field.0));
        let backwards: Vec<u8> = fields
            .iter()
            .flat_map(|(number, field)| if *number == 2 { unpacked(field) } else { field.clone() })
            .collect();
        let (a, b) = (resolved(&message), resolved(&backwards));
        let texts = |p: &Profile| {
            (0..p.strings.len() as u32).map(|r| p.string(r).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts(&a), texts(&b), "{path}");
        assert_eq!(
            (&a.stack_starts, &a.stack_locations, &a.values, &a.labels, &a.locations, &a.functions),
            (&b.stack_starts, &b.stack_locations, &b.values, &b.labels, &b.locations, &b.functions),
            "{path}"
        );
    }
}

/// Number and bytes, tag included, of each field.
fn top_level_fields(message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Reader::new(message, 0);
    let mut fields = Vec::new();
    while !reader.is_empty() {
        let start = reader.at();
        let tag = reader.varint().unwrap();
        reader.skip(tag, &[]).unwrap();
        fields.push((tag >> 3, message[start..reader.at()].to_vec()));
    }
    fields
}

/// A sample whose locations and values are not packed, and come last.
fn unpacked(field: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(field, 0);
    reader.varint().unwrap();
    let sample = pprof::Sample::decode(reader.message().unwrap().rest()).unwrap();
    let labels = pprof::Sample { label: sample.label, ..Default::default() };
    let mut body = labels.encode_to_vec();
    for (tag, numbers) in [
        (varint_tag(2), sample.value.iter().map(|v| v.cast_unsigned()).collect::<Vec<u64>>()),
        (varint_tag(1), sample.location_id),
    ] {
        for number in numbers {
            body.push(tag as u8);
            prost::encoding::encode_varint(number, &mut body);
        }
    }
    let mut out = vec![bytes_tag(2) as u8];
    prost::encoding::encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(&body);
    out
}

#[test]
fn of_scalars_given_twice_the_last_counts() {
    let one = pprof::Profile { time_nanos: 1, period: 5, ..Default::default() }.encode_to_vec();
    let two = pprof::Profile { time_nanos: 2, ..Default::default() }.encode_to_vec();
    let (profile, _) = decode_whole(&[one, two].concat());
    assert_eq!((profile.time_ns, profile.period), (2, 5));
}

#[test]
fn deep_stacks_keep_their_root_and_long_symbols_their_tail() {
    let message = pprof::Profile {
        sample: vec![
            pprof::Sample { location_id: (1..=40).collect(), ..Default::default() },
            pprof::Sample { location_id: (3..=40).collect(), ..Default::default() },
            pprof::Sample { location_id: vec![7], ..Default::default() },
        ],
        string_table: vec![String::new(), "abcdef".to_owned(), "xéé".to_owned()],
        ..Default::default()
    };
    let limits = DecodeLimits { stacktrace_depth: 30, symbol_bytes: 3, sample_labels: 0 };
    let (profile, _) = decode(&message.encode_to_vec(), limits).unwrap();
    assert_eq!(profile.stack_starts, [0, 30, 60, 61]);
    let root_side: Vec<u32> = (11..=40).collect();
    assert_eq!(profile.stack_locations[..30], root_side);
    assert_eq!(profile.stack_locations[30..60], root_side);
    // A tail never begins inside a character.
    assert_eq!([profile.string(1), profile.string(2)], ["def", "é"]);
}

#[test]
fn what_is_no_message_is_an_error() {
    for bytes in [
        &b"this is not a profile"[..],
        &[0x12, 5, 1],
        &[0x12, 2, 0x0a, 7],
        &[0x48],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x10, 1],
    ] {
        assert!(decode(bytes, DecodeLimits::default()).is_err(), "{bytes:?}");
    }
    // Fields that pprof does not have are skipped.
    let unknown = [0xa0, 1, 5, 0xaa, 1, 2, 9, 9, 0x48, 3];
    assert_eq!(decode_whole(&unknown).0.time_ns, 3);
}

#[test]
fn any_bytes_decode_or_fail_within_memory_of_their_size() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
        if let Ok((profile, facts)) = decode(bytes, DecodeLimits::default()) {
            let held = profile.bytes_held() + facts.bytes_held();
            assert!(held <= 64 * bytes.len() + 4096, "{held} bytes for {}", bytes.len());
        }
    });
}
