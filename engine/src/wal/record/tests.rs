//! Records read back as they were written, and nothing else reads as one.

use bolero::check;

use super::*;
use crate::labels::LabelSet;
use crate::profile::{Outcome, PIPELINE_VERSION};

fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    let owned = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    LabelSet::from_pairs(owned.collect())
}

fn sample() -> Record {
    Record {
        partition: PartitionKey {
            tenant: TenantId::parse("team-a").unwrap(),
            service_name: Arc::from("ns/service"),
            split: 3,
        },
        origin: 0x0193_5a7b_0102_0304_0506_0708_090a_0b0c,
        seq: 42,
        receive_time_ms: 1_795_478_400_123,
        admission: Admission {
            pipeline_version: PIPELINE_VERSION,
            time_ns: -5,
            stacktrace_depth_max: 1000,
            symbol_bytes_max: 65_535,
            go_fixes: true,
            labels: labels(&[("__name__", "process_cpu"), ("service_name", "ns/service")]),
            outcomes: vec![
                Outcome::Plain,
                Outcome::Dropped,
                Outcome::Relabelled(labels(&[("a", "b")])),
                Outcome::Plain,
                Outcome::Relabelled(labels(&[])),
            ],
        },
        profile: Bytes::from_static(b"\x1f\x8bprofile"),
    }
}

fn encode(record: &Record) -> Bytes {
    let mut body = Vec::new();
    record.as_ref().encode_into(&mut body);
    assert_eq!(body.len(), record.as_ref().encoded_len(), "the length is known before");
    body.into()
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    let record = sample();
    let body = encode(&record);
    assert_eq!(Record::decode(&body).unwrap(), record);
    let route = RecordRoute::of(&body).unwrap();
    assert_eq!((route.tenant, route.service_name, route.split), ("team-a", "ns/service", 3));
}

#[test]
fn a_record_without_labels_outcomes_or_bytes_reads_back() {
    let mut record = sample();
    record.admission.labels = LabelSet::default();
    record.admission.outcomes.clear();
    record.profile = Bytes::new();
    assert_eq!(Record::decode(&encode(&record)).unwrap(), record);
}

/// Decisions of a newer pipeline were read as if this one had made them.
#[test]
fn decisions_of_a_newer_pipeline_are_refused() {
    let mut record = sample();
    record.admission.pipeline_version = PIPELINE_VERSION + 1;
    let error = Record::decode(&encode(&record)).unwrap_err();
    assert_eq!(error, RecordError::Pipeline { found: PIPELINE_VERSION + 1 });
    assert!(error.to_string().contains("a newer version left the log"), "{error}");
}

#[test]
fn a_body_cut_anywhere_before_the_profile_is_refused() {
    let record = sample();
    let body = encode(&record);
    for len in 0..body.len() - record.profile.len() {
        let error = Record::decode(&body.slice(..len)).unwrap_err();
        assert!(matches!(error, RecordError::Short { .. }), "{len}: {error}");
    }
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_reserved() {
    let mut body = vec![KIND_PROFILE];
    put_varint(&mut body, u64::MAX);
    assert!(matches!(RecordRoute::of(&body), Err(RecordError::Short { field: "tenant", .. })));
    // As many labels and outcomes as a u64 can say.
    let record = sample();
    let body = encode(&record);
    let labels_at = body.windows(8).position(|bytes| bytes == b"__name__").unwrap() - 2;
    let mut lie = body[..labels_at].to_vec();
    put_varint(&mut lie, u64::MAX);
    lie.extend([1; 100]);
    let error = Record::decode(&lie.clone().into()).unwrap_err();
    assert!(matches!(error, RecordError::Short { field: "labels", .. }), "{error}");
    lie.truncate(labels_at);
    lie.push(0); // no labels
    put_varint(&mut lie, u64::MAX / 2);
    lie.extend([0; 100]);
    let error = Record::decode(&lie.into()).unwrap_err();
    assert!(matches!(error, RecordError::Short { field: "outcomes", .. }), "{error}");
}

#[test]
fn an_unknown_kind_and_an_unknown_outcome_are_refused() {
    let mut body = encode(&sample()).to_vec();
    body[0] = 9;
    assert_eq!(Record::decode(&body.into()), Err(RecordError::Kind(9)));
    let mut record = sample();
    record.admission.outcomes = vec![Outcome::Plain];
    record.profile = Bytes::new();
    let mut body = encode(&record).to_vec();
    *body.last_mut().unwrap() = 3; // the tag that is not given out
    let error = Record::decode(&body.into()).unwrap_err();
    assert!(matches!(error, RecordError::Invalid { field: "outcomes", .. }), "{error}");
}

#[test]
fn any_bytes_are_a_record_or_an_error() {
    let seed = encode(&sample());
    check!().for_each(|bytes: &[u8]| {
        // Half of the cases change a real record instead of making one up.
        let mut body = bytes.to_vec();
        if let [at, value, rest @ ..] = bytes
            && rest.len() < 8
        {
            body = seed.to_vec();
            let at = usize::from(*at) % body.len();
            body[at] ^= *value;
        }
        let body = Bytes::from(body);
        if let Ok(record) = Record::decode(&body) {
            // What reads is worth writing: it reads back the same.
            assert_eq!(Record::decode(&encode(&record)).unwrap(), record);
        }
    });
}
