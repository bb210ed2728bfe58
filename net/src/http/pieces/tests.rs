use std::fmt::Debug;

use futures_executor::block_on;
use proto::pprof::{Function, Location, Mapping, Sample};
use proto::types::{LabelPair, Labels, Point, ProfileType};
use serde::de::DeserializeOwned;

use super::*;
use crate::http::turns::Turns;

fn written(codec: Codec, message: impl Pieced) -> Vec<u8> {
    block_on(write(&Turns::default(), codec, message)).concat()
}

/// Both codecs read the whole message back; JSON is even the same text but for the order of members.
fn check<M>(message: &M)
where
    M: Pieced + Message + Default + Clone + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let binary = M::decode(&*written(Codec::Proto, message.clone())).unwrap();
    assert!(binary == *message, "in binary");
    let json = written(Codec::Json, message.clone());
    assert!(proto::json::from_json::<M>(&json).unwrap() == *message, "in JSON");
    let value = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).unwrap();
    assert!(value(&json) == value(&proto::json::to_json(message)), "as JSON is written at once");
}

fn profile(rows: usize) -> Profile {
    let sample = Sample { location_id: vec![1, 2], value: vec![7], label: Vec::new() };
    Profile {
        sample: vec![sample; rows],
        mapping: vec![Mapping { id: 1, ..Default::default() }],
        location: vec![Location { id: 1, ..Default::default() }; rows],
        function: vec![Function { id: 1, ..Default::default() }; rows],
        string_table: (0..rows).map(|i| format!("\"{i}\"")).collect(),
        time_nanos: 3,
        ..Default::default()
    }
}

/// Levels of these lengths, and as many names.
fn levels(lengths: &[usize]) -> (Vec<String>, Vec<Level>) {
    let names = (0..lengths.len()).map(|i| format!("f{i}")).collect();
    let values = |length: &usize| (0..*length as i64).map(|i| i * 1_000_003).collect();
    (names, lengths.iter().map(|length| Level { values: values(length) }).collect())
}

fn series(points: usize, labels: usize) -> Series {
    let point = |i: usize| Point { value: i as f64, timestamp: i as i64, ..Default::default() };
    let label = |i: usize| LabelPair { name: format!("l{i}"), value: "\"v\"".to_owned() };
    Series { labels: (0..labels).map(label).collect(), points: (0..points).map(point).collect() }
}

const LENGTHS: [&[usize]; 7] = [
    &[],
    &[0],
    &[4],
    &[STEP_NUMBERS - 1],
    &[STEP_NUMBERS],
    &[4, 3 * STEP_NUMBERS + 1, 8, 0, 2 * STEP_NUMBERS, STEP_NUMBERS],
    &[1000; 30],
];

#[test]
fn pieces_of_a_profile_are_the_whole_in_both_codecs() {
    for rows in [0, 1, STEP_ROWS, STEP_ROWS + 1, 3 * STEP_ROWS] {
        let profile = profile(rows);
        check(&profile);
        check(&SelectMergeStacktracesResponse {
            pprof: Some(PprofProfile { profile: Some(profile) }),
            ..Default::default()
        });
    }
}

#[test]
fn pieces_of_a_flame_graph_are_the_whole_in_both_codecs() {
    for lengths in LENGTHS {
        let (names, levels) = levels(lengths);
        let (total, max_self) = (lengths.len() as i64, 0);
        let graph = FlameGraph { names: names.clone(), levels: levels.clone(), total, max_self };
        let tree = Bytes::from_static(b"\x00\x01tree");
        let dot = "digraph \"x\" {}".to_owned();
        let flamegraph = Some(graph);
        check(&SelectMergeStacktracesResponse { flamegraph, tree, dot, ..Default::default() });
        let graph = FlameGraphDiff { names, levels, left_ticks: 7, ..Default::default() };
        check(&DiffResponse { flamegraph: Some(graph) });
    }
    check(&SelectMergeStacktracesResponse::default());
}

#[test]
fn pieces_of_series_and_lists_are_the_whole_in_both_codecs() {
    for lengths in LENGTHS {
        let series = lengths.iter().map(|points| series(*points, points % 3)).collect();
        check(&SelectSeriesResponse { series });
        let sets = lengths.iter().map(|labels| Labels { labels: series_labels(*labels) }).collect();
        check(&SeriesResponse { labels_set: sets });
    }
    for rows in [0, 1, STEP_ROWS + 1] {
        let names: Vec<String> = (0..rows).map(|i| format!("\"{i}\"")).collect();
        check(&LabelNamesResponse { names: names.clone() });
        check(&LabelValuesResponse { names });
        let id = ProfileType { id: "a:b:c:d:e".to_owned(), ..Default::default() };
        check(&ProfileTypesResponse { profile_types: vec![id; rows] });
    }
}

fn series_labels(count: usize) -> Vec<LabelPair> {
    series(0, count).labels
}

#[test]
fn an_object_without_scalars_or_rows_is_whole_too() {
    assert_eq!(written(Codec::Json, Profile::default()), b"{}");
    let strings = Profile { string_table: vec![String::new()], ..Default::default() };
    assert_eq!(written(Codec::Json, strings), br#"{"stringTable":[""]}"#);
    assert_eq!(written(Codec::Proto, Profile::default()), b"");
}

/// A flame graph of a million nodes was written in one poll, and so was everything but a merged profile.
#[test]
fn others_get_turns() {
    let turns = |message: FlameGraph| {
        let turns = Turns::default();
        block_on(write(&turns, Codec::Json, message));
        turns.count()
    };
    let (_, levels) = levels(&[100 * STEP_NUMBERS]);
    assert_eq!(turns(FlameGraph { levels, ..Default::default() }), 100);
    let small = vec![Level { values: vec![1; 63] }; 6400];
    assert_eq!(turns(FlameGraph { levels: small, ..Default::default() }), 100);

    let turns = Turns::default();
    block_on(write(&turns, Codec::Proto, profile(10 * STEP_ROWS)));
    assert_eq!(turns.count(), 40);
}
