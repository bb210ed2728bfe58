use prost::Message;
use proto::pprof;

use super::super::intake::{Intake, IntakeStep, PushFacts};
use super::*;

fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    LabelSet::from_pairs(pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect())
}

/// A profile of one column whose samples have these values and labels, taken in.
fn taken(series: &[(&str, &str)], samples: &[(i64, &[(&str, &str)])]) -> Profile {
    let mut message = pprof::Profile { string_table: vec![String::new()], ..Default::default() };
    let mut string = |text: &str| {
        // Each use gets a row of its own: tables may hold a text twice.
        message.string_table.push(text.to_owned());
        message.string_table.len() as i64 - 1
    };
    let mut rows = Vec::new();
    for (value, labels) in samples {
        let label = labels
            .iter()
            .map(|(k, v)| pprof::Label { key: string(k), str: string(v), ..Default::default() })
            .chain([pprof::Label { key: 1, num: 7, ..Default::default() }])
            .collect();
        rows.push(pprof::Sample { value: vec![*value], label, ..Default::default() });
    }
    let kind = string("cpu");
    message.sample_type.push(pprof::ValueType { r#type: kind, unit: 0 });
    message.sample = rows;
    let mut intake = Intake::new();
    let series = [&[("__name__", "n"), ("service_name", "s")], series].concat();
    let facts = PushFacts {
        labels: labels(&series),
        naming: None,
        limits: std::sync::Arc::default(),
        now_ms: 0,
    };
    intake.begin(message.encode_to_vec().into(), facts);
    while intake.step().unwrap() == IntakeStep::More {}
    intake.profile().clone()
}

fn groups(profile: &Profile) -> Vec<String> {
    let text = |label: &SampleLabel| {
        format!("{}={}", profile.string(label.key), profile.string(label.value))
    };
    (0..profile.groups_count())
        .map(|g| profile.labels_of_group(g).iter().map(text).collect::<Vec<_>>().join(","))
        .collect()
}

#[test]
fn samples_of_zeroes_or_with_a_negative_value_leave() {
    let profile = taken(&[], &[(1, &[]), (0, &[]), (-1, &[]), (i64::MIN, &[]), (i64::MAX, &[])]);
    assert_eq!(profile.sample_groups, [0, NONE, NONE, NONE, 0]);
}

#[test]
fn groups_are_told_apart_by_texts_in_any_order() {
    let profile = taken(
        &[],
        &[
            (1, &[("b", "2"), ("a", "1")]),
            (1, &[]),
            (1, &[("a", "1"), ("b", "2")]),
            (1, &[("a", "1")]),
            (0, &[("never", "seen")]),
            (1, &[("b", "2"), ("a", "1")]),
        ],
    );
    assert_eq!(profile.sample_groups, [0, 1, 0, 2, NONE, 0]);
    assert_eq!(groups(&profile), ["a=1,b=2", "", "a=1"]);
}

#[test]
fn series_labels_win_and_empty_values_count_for_nothing() {
    let profile = taken(
        &[("env", "prod"), ("empty", "")],
        &[
            (1, &[("env", "dev"), ("a", "1")]),
            (1, &[("a", "1")]),
            (1, &[("a", "1"), ("x", "")]),
            (1, &[("empty", "no"), ("a", "1")]),
        ],
    );
    assert_eq!(profile.sample_groups, [0, 0, 0, 1]);
    assert_eq!(groups(&profile), ["a=1", "a=1,empty=no"]);
}

#[test]
fn of_several_values_of_a_label_the_first_in_the_table_counts() {
    let profile = taken(&[], &[(1, &[("a", "1"), ("a", "2")]), (1, &[("a", "1")])]);
    assert_eq!(groups(&profile)[0].split('=').next(), Some("a"));
    assert_eq!(profile.labels_of_group(0).len(), 1);
}

#[test]
fn spans_and_traces_are_noted_and_make_no_groups() {
    let trace = "0123456789abcdef0123456789ABCDEF";
    let profile = taken(
        &[],
        &[
            (1, &[("span_id", "00000000000000ff"), ("a", "1")]),
            (1, &[("profile_id", "0123456789abcdef"), ("a", "1")]),
            (1, &[("a", "1"), ("trace_id", trace), ("span_id", "not hex")]),
        ],
    );
    assert_eq!(profile.sample_groups, [0, 0, 0]);
    assert_eq!(profile.sample_spans, [0xff, 0x0123_4567_89ab_cdef, 0]);
    assert_eq!(profile.sample_traces, [0, 0, u128::from_str_radix(trace, 16).unwrap()]);
    assert_eq!(groups(&profile), ["a=1"]);
    assert!(taken(&[], &[(1, &[])]).sample_spans.is_empty());
}
