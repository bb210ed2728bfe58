use std::collections::BTreeMap;

use prost::Message;
use proto::pprof;

use super::super::super::corpus;
use super::super::super::intake::{Intake, IntakeStep, PushFacts};
use super::*;
use crate::labels::LabelSet;

fn taken(bytes: bytes::Bytes, spy: &str) -> Profile {
    let pairs = [("__name__", "n"), ("service_name", "s"), ("pyroscope_spy", spy)];
    let mut intake = Intake::new();
    let facts = PushFacts {
        labels: LabelSet::from_pairs(pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec()),
        naming: None,
        limits: std::sync::Arc::new(crate::limits::Limits {
            reject_older_than_ms: 0,
            ..Default::default()
        }),
        now_ms: i64::MAX / 2,
    };
    intake.begin(bytes, facts);
    while intake.step().unwrap() == IntakeStep::More {}
    intake.profile().clone()
}

/// Values of one column by stack: root first, `name:line` of each inlined line joined with `|`, as the kit writes them.
fn sums(profile: &Profile, column: usize) -> BTreeMap<String, i64> {
    let columns = profile.sample_types.len();
    let mut sums = BTreeMap::new();
    for sample in (0..profile.samples_count()).filter(|&s| profile.sample_groups[s] != NONE) {
        let frame = |row: &u32| {
            let location = profile.locations[*row as usize];
            let lines = &profile.lines[location.lines_start as usize..];
            let lines = lines[..location.lines_count as usize].iter().map(|line| {
                let name = profile.functions[line.function as usize].name;
                format!("{}:{}", profile.string(name), line.line)
            });
            lines.collect::<Vec<_>>().join("|")
        };
        let frames: Vec<String> = stack(profile, sample).iter().rev().map(frame).collect();
        *sums.entry(frames.join(";")).or_default() += profile.values[sample * columns + column];
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

/// What Pyroscope answered when the conformance kit recorded it, stack by stack.
#[test]
fn cut_stacks_are_mended_as_pyroscope_mends_them() {
    for (name, case, profile_type, column) in [
        (
            "cpu_go_truncated_1",
            "ingest_go_truncated_stacks_are_mended",
            "process_cpu:cpu:nanoseconds:cpu:nanoseconds",
            1,
        ),
        (
            "heap_go_truncated_4",
            "ingest_go_truncated_heap_is_mended",
            "memory:inuse_space:bytes:space:bytes",
            0,
        ),
    ] {
        let path = format!("agents/pprof/gotruncate/{name}.pb.gz");
        let (Some(cut), Some(recorded)) =
            (corpus::file(&path), corpus::recorded(&format!("monolith/{case}.json.gz")))
        else {
            return;
        };
        let recorded: serde_json::Value = serde_json::from_slice(&recorded).unwrap();
        let samples = recorded[&format!("{profile_type}.pprof")]["samples"].as_array().unwrap();
        let expected: BTreeMap<String, i64> = samples
            .iter()
            .map(|sample| {
                let (stack, value) = sample.as_str().unwrap().rsplit_once(" [").unwrap();
                (stack.to_owned(), value.trim_end_matches(']').parse().unwrap())
            })
            .collect();
        let mended = sums(&taken(cut.clone(), "gospy"), column);
        let differing = |sums: &BTreeMap<String, i64>| {
            expected.iter().filter(|(stack, value)| sums.get(*stack) != Some(*value)).count()
        };
        assert_eq!(differing(&mended), 0, "{name}: of {} stacks", expected.len());
        assert_eq!(mended.len(), expected.len(), "{name}");
        assert!(differing(&sums(&taken(cut, "rbspy"), column)) > 50, "{name} is cut as it came");
    }
}

/// A cpu profile of one function per location.
fn message(stacks: &[Vec<u64>]) -> Vec<u8> {
    let locations = stacks.iter().flatten().copied().max().unwrap_or(0);
    let strings = ["", "cpu", "f"].map(str::to_owned).to_vec();
    pprof::Profile {
        sample_type: vec![pprof::ValueType { r#type: 1, unit: 0 }],
        sample: stacks
            .iter()
            .map(|stack| pprof::Sample {
                location_id: stack.clone(),
                value: vec![1],
                ..Default::default()
            })
            .collect(),
        location: (1..=locations)
            .map(|id| pprof::Location {
                id,
                line: vec![pprof::Line { function_id: 1, line: id.cast_signed() }],
                ..Default::default()
            })
            .collect(),
        function: vec![pprof::Function { id: 1, name: 2, ..Default::default() }],
        string_table: strings,
        ..Default::default()
    }
    .encode_to_vec()
}

fn stacks(profile: &Profile) -> Vec<Vec<u64>> {
    let ids = |sample| stack(profile, sample).iter().map(|&row| u64::from(row) + 1).collect();
    (0..profile.samples_count()).map(ids).collect()
}

#[test]
fn a_cut_stack_gets_the_root_of_one_that_shares_sixteen_locations() {
    // Whole: 3 … 66, deep enough to look cut; its root is 66. Cut: 100 … 140, then 40 … 62 of the whole one.
    let whole: Vec<u64> = (3..=66).collect();
    let cut: Vec<u64> = (100..=140).chain(40..=62).collect();
    let shallow: Vec<u64> = (40..=62).collect();
    let profile = taken(message(&[whole.clone(), cut.clone(), shallow.clone()]).into(), "gospy");
    let mended = [cut, (63..=66).collect()].concat();
    assert_eq!(stacks(&profile), [whole, mended, shallow]);
}

#[test]
fn stacks_of_other_languages_and_shallow_profiles_stay() {
    let deep = vec![(3..=66).collect::<Vec<u64>>(), (100..=140).chain(40..=62).collect()];
    assert_eq!(stacks(&taken(message(&deep).into(), "pyspy")), deep);
    let shallow = vec![(3..=50).collect::<Vec<u64>>(), (100..=110).chain(24..=46).collect()];
    assert_eq!(stacks(&taken(message(&shallow).into(), "gospy")), shallow);
}

/// Stacks of a few locations in any pattern, recursion included: mending ends, and only ever adds at the root.
#[test]
fn any_stacks_are_mended_to_stacks_that_begin_alike() {
    bolero::check!().with_iterations(200).with_type::<Vec<(u8, u8)>>().for_each(|seeds| {
        let stacks_of = |&(start, step): &(u8, u8)| {
            (0..70_u64).map(|i| 1 + (u64::from(start) + i * u64::from(step % 5)) % 97).collect()
        };
        let before: Vec<Vec<u64>> = seeds.iter().map(stacks_of).collect();
        if before.is_empty() {
            return;
        }
        let after = stacks(&taken(message(&before).into(), "gospy"));
        assert!(before.iter().zip(&after).all(|(before, after)| after.starts_with(before)));
    });
}
