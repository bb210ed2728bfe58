use futures_executor::block_on;
use proto::push::{RawProfileSeries, RawSample};
use proto::types::LabelPair;

use super::json_series::FoundSeries;
use super::*;
use crate::http::turns::Turns;

fn series(text: &str, profile_bytes: usize) -> RawProfileSeries {
    let label = LabelPair { name: "name".to_owned(), value: text.to_owned() };
    let sample = RawSample { raw_profile: vec![7; profile_bytes].into(), id: "{\"".to_owned() };
    RawProfileSeries { labels: vec![label], samples: vec![sample; 2], annotations: Vec::new() }
}

fn found(text: &str) -> Option<FoundSeries> {
    let mut scan = SeriesScan::default();
    scan.step(text.as_bytes());
    scan.finish()
}

fn decoded(codec: Codec, body: &[u8]) -> Result<PushRequest, Failure> {
    block_on(decode(&Turns::default(), codec, Bytes::copy_from_slice(body)))
}

#[test]
fn series_are_found_where_they_are_plain_to_see() {
    let text = r#" { "other": [{"series": [1]}], "series" : [ {"a": [{}]} , {} ], "z": 1 }"#;
    let found = found(text).unwrap();
    assert_eq!(&text[found.array], r#"[ {"a": [{}]} , {} ]"#);
    let elements: Vec<&str> = found.elements.into_iter().map(|range| &text[range]).collect();
    assert_eq!(elements, [r#"{"a": [{}]}"#, "{}"]);
}

#[test]
fn what_is_not_plain_is_left_to_the_decoder() {
    for text in [
        "",
        "{}",
        r#"{"series": null}"#,
        r#"{"series": {}}"#,
        r#"{"series": [null]}"#,
        r#"{"series": ["{}"]}"#,
        r#"{"series": [{},]}"#,
        r#"{"series": [,{}]}"#,
        r#"{"series": [{}{}]}"#,
        r#"{"series": [[{}]]}"#,
        r#"{"series": [}}"#,
        r#"{"series": [{}], "series": [{}]}"#,
        r#"{"series": [{}], "s\u0065ries": [{}]}"#,
        r#"{"series": [{}]"#,
        r#"{"series": [{}]}}"#,
        r#"{"series": [{}"#,
        r#"{"x": "series", "y": [{}]}"#,
        r#"{"Series": [{}]}"#,
        r#"{"seriesx": [{}]}"#,
    ] {
        assert_eq!(found(text), None, "{text}");
    }
}

#[test]
fn a_long_push_is_decoded_series_by_series_to_the_same_message() {
    let request =
        PushRequest { series: (0..40).map(|i| series(&format!("\\{i}}}"), 10_000)).collect() };
    let json = proto::json::to_json(&request);
    assert!(json.len() > JSON_WHOLE_BYTES_MAX);
    assert!(decoded(Codec::Json, &json) == Ok(request.clone()), "the JSON push differs");
    let turns = Turns::default();
    block_on(decode(&turns, Codec::Json, json.into())).unwrap();
    assert!(turns.count() > 40, "{} turns", turns.count());

    let proto = request.encode_to_vec();
    assert!(decoded(Codec::Proto, &proto) == Ok(request), "the binary push differs");
}

#[test]
fn a_broken_series_of_a_long_push_is_an_error() {
    let long = "x".repeat(JSON_WHOLE_BYTES_MAX);
    for text in [
        format!(r#"{{"series":[{{"labels":[{{"value":"{long}"}}]}},{{"labels":7}}]}}"#),
        format!(r#"{{"series":[{{"labels":[{{"value":"{long}"}}]}}]}} x"#),
        format!(r#"{{"series":[{{"labels":[{{"value":"{long}"}}]}}}}]"#),
    ] {
        let failure = decoded(Codec::Json, text.as_bytes()).unwrap_err();
        assert!(failure.message.starts_with("unmarshal message: "), "{}", failure.message);
    }
}

#[test]
fn a_binary_push_is_cut_between_its_series_only() {
    let many = PushRequest { series: vec![series("x", 3); 3 * STEP_ITEMS] };
    let bytes = many.encode_to_vec();
    let turns = Turns::default();
    let pieces = block_on(pieces(&turns, &bytes)).unwrap();
    assert!(pieces.len() >= 9, "{} pieces", pieces.len());
    let together: usize = pieces
        .iter()
        .map(|piece| PushRequest::decode(&bytes[piece.clone()]).unwrap().series.len())
        .sum();
    assert_eq!(together, many.series.len());
}

#[test]
fn the_count_is_of_everything_that_takes_memory() {
    let labels = RawProfileSeries {
        labels: vec![LabelPair::default(); ITEMS_MAX],
        ..RawProfileSeries::default()
    };
    let body = PushRequest { series: vec![labels] }.encode_to_vec();
    let failure = decoded(Codec::Proto, &body).unwrap_err();
    assert_eq!(failure.message, "push has more than 262144 series, samples and labels");
}

/// Cutting never changes what a message says, or whether it is one.
#[test]
fn any_binary_push_decodes_as_a_whole_does() {
    bolero::check!().for_each(|body: &[u8]| {
        let whole = Codec::Proto.decode::<PushRequest>(Bytes::copy_from_slice(body));
        assert_eq!(decoded(Codec::Proto, body).ok(), whole.ok());
    });
}

/// Text of JSON's own tokens, long or short: found series are what the decoder finds, or nothing is found.
#[test]
fn any_json_push_decodes_as_a_whole_does() {
    const TOKENS: [&str; 16] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "{}",
        "\"series\"",
        "\"series\":[",
        "\"samples\":[",
        "\"rawProfile\":\"AQI\"",
        "\"labels\":[]",
        "\"\\\"\"",
        " ",
        "null",
        "7",
    ];
    bolero::check!().with_type::<Vec<u8>>().for_each(|picks| {
        let text: String = picks.iter().map(|pick| TOKENS[usize::from(*pick % 16)]).collect();
        let text = format!("{{{text}}}");
        let whole = proto::json::from_json::<PushRequest>(text.as_bytes());
        let Some(found) = found(&text) else { return };
        let rest = [&text[..found.array.start], "[]", &text[found.array.end..]].concat();
        let parts =
            proto::json::from_json::<PushRequest>(rest.as_bytes()).and_then(|mut request| {
                for series in found.elements {
                    request.series.push(proto::json::from_json(&text.as_bytes()[series])?);
                }
                Ok(request)
            });
        assert_eq!(parts.ok(), whole.ok(), "{text}");
    });
}
