use bytes::Bytes;
use prost::Message as _;
use serde_json::json;

use super::*;
use crate::push::PushRequest;
use crate::querier::{
    DiffResponse, FlameGraphDiff, Level, ProfileFormat, ProfileTypesRequest, ProfileTypesResponse,
    SelectMergeStacktracesRequest, SelectMergeStacktracesResponse, SelectSeriesRequest,
    SelectSeriesResponse, SeriesRequest, SeriesResponse,
};
use crate::types::{
    ExemplarType, GetProfileStatsResponse, LabelPair, Labels, Location, Point, ProfileType, Series,
    StackTraceSelector, TimeSeriesAggregationType,
};

const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";

fn written<M: Serialize>(message: &M) -> serde_json::Value {
    serde_json::from_slice(&to_json(message)).unwrap()
}

#[test]
fn original_and_camel_names_mean_the_same() {
    let drilldown = br#"{"profile_typeID":"process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        "label_selector":"{service_name=\"shop\"}","start":1700000000000,"end":1700000600000,
        "max_nodes":500,"stack_trace_selector":{"call_site":[{"name":"main"},{"name":"work"}]}}"#;
    let others = br#"{"profileTypeID":"process_cpu:cpu:nanoseconds:cpu:nanoseconds",
        "labelSelector":"{service_name=\"shop\"}","start":"1700000000000","end":"1700000600000",
        "maxNodes":"500","stackTraceSelector":{"callSite":[{"name":"main"},{"name":"work"}]}}"#;
    let want = SelectMergeStacktracesRequest {
        profile_type_id: CPU.to_owned(),
        label_selector: "{service_name=\"shop\"}".to_owned(),
        start: 1_700_000_000_000,
        end: 1_700_000_600_000,
        max_nodes: Some(500),
        stack_trace_selector: Some(StackTraceSelector {
            call_site: ["main", "work"].map(|name| Location { name: name.to_owned() }).to_vec(),
            go_pgo: None,
        }),
        ..Default::default()
    };
    assert_eq!(from_json(drilldown), Ok(want.clone()));
    assert_eq!(from_json(others), Ok(want));
}

#[test]
fn enums_are_read_by_name_and_by_number() {
    for format in [r#""PROFILE_FORMAT_TREE""#, "2"] {
        let body = format!(r#"{{"format":{format}}}"#);
        let request: SelectMergeStacktracesRequest = from_json(body.as_bytes()).unwrap();
        assert_eq!(request.format(), ProfileFormat::Tree);
    }
}

#[test]
fn a_time_series_query_of_grafana_is_read() {
    let body = br#"{"profileTypeID":"p","labelSelector":"{}","start":"1","end":2,"groupBy":["pod"],"step":15,
        "aggregation":"TIME_SERIES_AGGREGATION_TYPE_AVERAGE","limit":"10","exemplarType":"EXEMPLAR_TYPE_INDIVIDUAL"}"#;
    let request: SelectSeriesRequest = from_json(body).unwrap();
    assert_eq!((request.start, request.end, request.limit), (1, 2, Some(10)));
    assert!((request.step - 15.0).abs() < f64::EPSILON);
    assert_eq!(request.group_by, ["pod"]);
    assert_eq!(request.aggregation(), TimeSeriesAggregationType::Average);
    assert_eq!(request.exemplar_type(), ExemplarType::Individual);
    let body = br#"{"step":"0.5"}"#;
    assert!((from_json::<SelectSeriesRequest>(body).unwrap().step - 0.5).abs() < f64::EPSILON);
}

#[test]
fn unknown_fields_are_skipped() {
    let body = br#"{"start":1,"zzz":{"deep":[1,{"x":null}]},"end":2}"#;
    assert_eq!(from_json(body), Ok(ProfileTypesRequest { start: 1, end: 2 }));
}

#[test]
fn null_is_the_same_as_absent() {
    let body = br#"{"matchers":null,"labelNames":["service_name"],"start":null,"end":7}"#;
    let want = SeriesRequest {
        label_names: vec!["service_name".to_owned()],
        end: 7,
        ..Default::default()
    };
    assert_eq!(from_json(body), Ok(want));
    assert!(from_json::<SeriesRequest>(b"null").is_err(), "no message at all");
    assert!(from_json::<SeriesRequest>(br#"{"start":null,"end":[]}"#).is_err());
}

#[test]
fn bytes_are_base64_of_either_alphabet_padded_or_not() {
    let raw: &[u8] = &[0xfb, 0xff, 0xfe, 0x3e];
    for text in ["+//+Pg==", "+//+Pg", "-__-Pg==", "-__-Pg"] {
        let body = json!({"series": [{"samples": [{"rawProfile": text, "ID": "1"}]}]}).to_string();
        let request: PushRequest = from_json(body.as_bytes()).unwrap();
        let sample = &request.series[0].samples[0];
        assert_eq!((sample.raw_profile.as_ref(), sample.id.as_str()), (raw, "1"), "{text}");
    }
    let body = br#"{"series":[{"samples":[{"raw_profile":"not base64!"}]}]}"#;
    let error = from_json::<PushRequest>(body).unwrap_err();
    assert!(error.starts_with("unmarshal message: "), "{error}");
}

#[test]
fn a_push_of_the_profile_field_written_either_way_is_one_push() {
    let camel: PushRequest = from_json(
        br#"{"series":[{"labels":[{"name":"__name__","value":"process_cpu"}],"samples":[{"rawProfile":"AQI="}]}]}"#,
    )
    .unwrap();
    let original: PushRequest = from_json(
        br#"{"series":[{"labels":[{"name":"__name__","value":"process_cpu"}],"samples":[{"raw_profile":"AQI="}]}]}"#,
    )
    .unwrap();
    assert_eq!(camel, original);
    assert_eq!(camel.series[0].samples[0].raw_profile, Bytes::from_static(&[1, 2]));
}

#[test]
fn answers_have_camel_names_strings_for_64_bits_and_no_zeros() {
    let types = ProfileTypesResponse {
        profile_types: vec![ProfileType {
            id: CPU.to_owned(),
            name: "process_cpu".to_owned(),
            sample_type: "cpu".to_owned(),
            sample_unit: "nanoseconds".to_owned(),
            period_type: "cpu".to_owned(),
            period_unit: String::new(),
        }],
    };
    assert_eq!(
        written(&types),
        json!({"profileTypes": [{"ID": CPU, "name": "process_cpu", "sampleType": "cpu",
            "sampleUnit": "nanoseconds", "periodType": "cpu"}]})
    );

    let diff = DiffResponse {
        flamegraph: Some(FlameGraphDiff {
            names: vec!["total".to_owned()],
            levels: vec![Level { values: vec![0, 3, 0, 0, 4, 0, 0] }],
            total: 7,
            max_self: 0,
            left_ticks: 3,
            right_ticks: 4,
        }),
    };
    assert_eq!(
        written(&diff),
        json!({"flamegraph": {"names": ["total"],
            "levels": [{"values": ["0", "3", "0", "0", "4", "0", "0"]}],
            "total": "7", "leftTicks": "3", "rightTicks": "4"}})
    );

    let series = SelectSeriesResponse {
        series: vec![Series {
            labels: vec![LabelPair { name: "pod".to_owned(), value: "a".to_owned() }],
            points: vec![Point { value: 1.5, timestamp: 1_700_000_000_000, ..Default::default() }],
        }],
    };
    assert_eq!(
        written(&series),
        json!({"series": [{"labels": [{"name": "pod", "value": "a"}],
            "points": [{"value": 1.5, "timestamp": "1700000000000"}]}]})
    );

    let sets = SeriesResponse { labels_set: vec![Labels { labels: vec![LabelPair::default()] }] };
    assert_eq!(written(&sets), json!({"labelsSet": [{"labels": [{}]}]}));
    let stats = GetProfileStatsResponse {
        data_ingested: true,
        oldest_profile_time: 5,
        newest_profile_time: 0,
    };
    assert_eq!(written(&stats), json!({"dataIngested": true, "oldestProfileTime": "5"}));
    assert_eq!(written(&GetProfileStatsResponse::default()), json!({}));
    let tree = SelectMergeStacktracesResponse {
        tree: Bytes::from_static(&[0, 0, 1]),
        ..Default::default()
    };
    assert_eq!(written(&tree), json!({"tree": "AAAB"}));
}

#[test]
fn what_is_written_is_read_back() {
    let request = SelectMergeStacktracesRequest {
        profile_type_id: CPU.to_owned(),
        start: i64::MIN,
        end: i64::MAX,
        max_nodes: Some(0),
        format: ProfileFormat::Pprof.into(),
        span_selector: vec!["9a517183f26a089d".to_owned()],
        ..Default::default()
    };
    assert_eq!(from_json(&to_json(&request)), Ok(request));
}

#[test]
fn errors_say_what_connect_says() {
    assert_eq!(
        from_json::<PushRequest>(b""),
        Err("unmarshal message: zero-length payload is not a valid JSON object".to_owned())
    );
    for body in ["{nope", "[]", "7", "{} {}", r#"{"series":{}}"#, r#"{"series":[{"labels":[7]}]}"#]
    {
        let error = from_json::<PushRequest>(body.as_bytes()).unwrap_err();
        assert!(error.starts_with("unmarshal message: "), "{body}: {error}");
    }
    assert!(from_json::<ProfileTypesRequest>(&b"[".repeat(1 << 20)).is_err(), "depth is bounded");
}

/// Whatever comes, reading ends in a message or in an error; a message that was read survives both encodings.
#[test]
fn any_body_is_read_or_refused() {
    bolero::check!().for_each(|body: &[u8]| {
        if let Ok(request) = from_json::<PushRequest>(body) {
            assert_eq!(from_json(&to_json(&request)), Ok(request.clone()));
            assert_eq!(PushRequest::decode(request.encode_to_vec().as_slice()), Ok(request));
        }
        let _ = from_json::<SelectMergeStacktracesRequest>(body);
    });
}

/// Texts built from JSON's own tokens get past the first byte, where random bytes do not.
#[test]
fn any_sequence_of_json_tokens_is_read_or_refused() {
    const TOKENS: [&str; 16] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "null",
        "\"\"",
        "7",
        "\"series\"",
        "\"samples\"",
        "\"rawProfile\"",
        "\"labels\"",
        "\"name\"",
        "\"AQI\"",
        "1e9",
    ];
    bolero::check!().with_type::<Vec<u8>>().for_each(|picks| {
        let body: String = picks.iter().map(|pick| TOKENS[usize::from(*pick % 16)]).collect();
        if let Ok(request) = from_json::<PushRequest>(body.as_bytes()) {
            assert_eq!(from_json(&to_json(&request)), Ok(request));
        }
    });
}
