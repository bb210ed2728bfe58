use prost::Message;
use proto::pprof;

use super::super::{Outcome, corpus, series_labels};
use super::*;

const NOW_MS: i64 = 1_795_498_200_123;

fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    LabelSet::from_pairs(pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect())
}

fn any_time() -> Limits {
    Limits { reject_older_than_ms: 0, reject_newer_than_ms: 0, ..Limits::default() }
}

fn facts(limits: Limits) -> PushFacts {
    PushFacts {
        labels: labels(&[("__name__", "process_cpu"), ("service_name", "e")]),
        naming: None,
        limits: Arc::new(limits),
        now_ms: NOW_MS,
    }
}

fn finish(intake: &mut Intake) -> Result<IntakeStep, Failure> {
    loop {
        match intake.step() {
            Ok(IntakeStep::More) => {}
            ended => return ended,
        }
    }
}

fn push(bytes: impl Into<Bytes>, facts: PushFacts) -> (Result<IntakeStep, Failure>, Intake) {
    let mut intake = Intake::new();
    intake.begin(bytes.into(), facts);
    (finish(&mut intake), intake)
}

fn admit(bytes: impl Into<Bytes>, facts: PushFacts) -> (Admission, Intake) {
    match push(bytes, facts) {
        (Ok(IntakeStep::Admitted(admission)), intake) => (admission, intake),
        (ended, _) => panic!("not admitted: {ended:?}"),
    }
}

/// A good small profile; the refusals change one thing of it each.
fn good() -> pprof::Profile {
    let strings = ["", "cpu", "nanoseconds", "main", "main.src", "bin"];
    pprof::Profile {
        sample_type: vec![pprof::ValueType { r#type: 1, unit: 2 }],
        sample: vec![pprof::Sample {
            location_id: vec![1],
            value: vec![3],
            label: vec![pprof::Label { key: 3, str: 4, ..Default::default() }],
        }],
        mapping: vec![pprof::Mapping { id: 1, filename: 5, ..Default::default() }],
        location: vec![pprof::Location {
            id: 1,
            mapping_id: 1,
            line: vec![pprof::Line { function_id: 1, line: 5 }],
            ..Default::default()
        }],
        function: vec![pprof::Function {
            id: 1,
            name: 3,
            system_name: 3,
            filename: 4,
            start_line: 1,
        }],
        string_table: strings.map(str::to_owned).to_vec(),
        time_nanos: NOW_MS * 1_000_000,
        ..Default::default()
    }
}

fn refusal_of(message: &pprof::Profile, facts: PushFacts) -> (&'static str, String) {
    let failure = push(message.encode_to_vec(), facts).0.unwrap_err();
    assert_eq!(failure.code, Code::InvalidArgument);
    (failure.reason, failure.message)
}

/// Spoils a good profile, and the text of its refusal.
type Spoiled = (fn(&mut pprof::Profile), &'static str);

#[test]
fn malformed_profiles_are_refused_with_the_texts_of_pyroscope() {
    let (admission, _) = admit(good().encode_to_vec(), facts(Limits::default()));
    assert_eq!(admission.time_ns, NOW_MS * 1_000_000);
    let cases: [Spoiled; 16] = [
        (|p| p.sample_type.clear(), "empty profile"),
        (|p| p.location[0].id = 0, "location id is 0"),
        (|p| p.function[0].id = 0, "function id is 0"),
        (|p| p.sample[0].value.push(1), "sample value length mismatch"),
        (
            |p| p.sample.push(pprof::Sample { value: vec![1, 2], ..Default::default() }),
            "sample value length mismatch",
        ),
        (|p| p.string_table[0] = "x".to_owned(), "string 0 should be empty string"),
        (|p| p.string_table.clear(), "string 0 should be empty string"),
        (|p| p.sample_type[0].r#type = 6, "sample type type string index out of range"),
        (|p| p.sample_type[0].r#type = -1, "sample type type string index out of range"),
        (|p| p.sample[0].label[0].str = 6, "sample label string index out of range"),
        (|p| p.function[0].name = 6, "function name string index out of range"),
        (|p| p.function[0].system_name = 6, "function system name index string out of range"),
        (|p| p.function[0].filename = i64::MAX, "function file name string index out of range"),
        (|p| p.mapping[0].filename = 6, "mapping file name string index out of range"),
        (|p| p.mapping[0].build_id = 6, "mapping build id string index out of range"),
        (|p| p.string_table[1] = "bad-type".to_owned(), "sample type contains -"),
    ];
    for (change, text) in cases {
        let mut message = good();
        change(&mut message);
        assert_eq!(
            refusal_of(&message, facts(Limits::default())),
            ("malformed_profile", text.to_owned())
        );
    }
    let mut bytes = good().encode_to_vec();
    bytes.extend_from_slice(&[0x32, 3, b'a', 0xff, b'b']);
    let failure = push(bytes, facts(Limits::default())).0.unwrap_err();
    assert_eq!(
        (failure.reason, failure.message.as_str()),
        ("malformed_profile", "invalid utf8 string hex: 61ff62")
    );
}

#[test]
fn times_outside_the_window_are_refused_with_both_their_edges() {
    let mut message = good();
    message.time_nanos = 86_400_000_000_000;
    let begins = r#"profile with labels '{__name__="process_cpu", service_name="e"}' is outside of ingestion window (profile timestamp: 1970-01-02 00:00:00 +0000 UTC, the ingestion window "#;
    for (older_ms, newer_ms, window) in [
        (1123, 0, "starts at 2026-11-24 05:29:59 +0000 UTC)"),
        (
            123,
            77,
            "starts at 2026-11-24 05:30:00 +0000 UTC and ends at 2026-11-24 05:30:00.2 +0000 UTC)",
        ),
    ] {
        let limits = Limits {
            reject_older_than_ms: older_ms,
            reject_newer_than_ms: newer_ms,
            ..Limits::default()
        };
        let expected = ("not_in_ingestion_window", format!("{begins}{window}"));
        assert_eq!(refusal_of(&message, facts(limits)), expected);
    }
    message.time_nanos = (NOW_MS + 600_000) * 1_000_000;
    let limits = Limits { reject_older_than_ms: 0, ..Limits::default() };
    let (reason, text) = refusal_of(&message, facts(limits));
    assert_eq!(reason, "not_in_ingestion_window");
    assert!(
        text.ends_with("the ingestion window ends at 2026-11-24 05:40:00.123 +0000 UTC)"),
        "{text}"
    );
}

#[test]
fn limits_of_samples_labels_and_size_are_refused_with_numbers() {
    let with =
        r#"the profile with labels '{__name__="process_cpu", service_name="e"}' exceeds the"#;
    let mut message = good();
    message.sample.push(message.sample[0].clone());
    let limits = Limits { max_profile_stacktrace_samples: 1, ..Limits::default() };
    assert_eq!(
        refusal_of(&message, facts(limits)),
        (
            "samples_limit",
            format!(
                "{with} samples count limit (max_profile_stacktrace_samples, actual: 2, limit: 1)"
            )
        )
    );
    message.sample[1].label = vec![pprof::Label { key: 3, num: 1, ..Default::default() }; 3];
    let limits = Limits { max_profile_stacktrace_sample_labels: 2, ..Limits::default() };
    assert_eq!(
        refusal_of(&message, facts(limits)),
        (
            "sample_labels_limit",
            format!(
                "{with} sample labels limit (max_profile_stacktrace_sample_labels, actual: 3, limit: 2)"
            )
        )
    );
    message.string_table.push("x".repeat(5 << 20));
    assert_eq!(
        refusal_of(&message, facts(Limits::default())),
        (
            "profile_size_limit",
            "uncompressed profile payload size exceeds limit of 4.2 MB".to_owned()
        )
    );
}

#[test]
fn labels_of_samples_are_held_to_the_limits_of_series() {
    let mut message = good();
    message.string_table[4] = "v".repeat(3000);
    let (reason, text) = refusal_of(&message, facts(Limits::default()));
    assert_eq!(reason, "label_value_too_long");
    assert!(
        text.starts_with(r#"profile with labels '{__name__="process_cpu", main="vvv"#),
        "{text}"
    );
    let limits = Limits { max_label_names_per_series: 2, ..Limits::default() };
    assert_eq!(
        refusal_of(&good(), facts(limits)),
        (
            "max_label_names_per_series",
            r#"profile series '{__name__="process_cpu", main="main.src", service_name="e"}' has 3 label names; limit 2"#
                .to_owned()
        )
    );
}

#[test]
fn bytes_that_are_no_profile_are_refused_in_words() {
    for (bytes, text) in [
        (&b"this is not a profile"[..], "not a pprof message: wire type 4 of field 14 at byte 1"),
        (b"\x1f\x8b\x08\x00garbage", "gzip data is damaged or incomplete"),
        (b"", "empty profile"),
    ] {
        let failure = push(bytes.to_vec(), facts(Limits::default())).0.unwrap_err();
        assert_eq!((failure.reason, failure.message.as_str()), ("malformed_profile", text));
    }
}

#[test]
fn a_profile_without_a_sample_to_store_is_dropped() {
    let mut message = good();
    message.sample[0].value = vec![0];
    let dropped = Ok(IntakeStep::Dropped { reason: "empty_profile" });
    assert_eq!(push(message.encode_to_vec(), facts(Limits::default())).0, dropped);
    message.sample.clear();
    assert_eq!(push(message.encode_to_vec(), facts(Limits::default())).0, dropped);
}

#[test]
fn uploads_without_a_time_of_their_own_get_the_one_of_the_request() {
    let naming =
        IngestNaming { display_names: Vec::new(), from_time_ns: 1_700_000_000_000_000_000 };
    for (sent_ns, resolved_ns) in [
        (0, naming.from_time_ns),
        (1_000_000, naming.from_time_ns),
        (YEAR_1971_NS, YEAR_1971_NS),
        (-1, NOW_MS * 1_000_000),
    ] {
        let message = pprof::Profile { time_nanos: sent_ns, ..good() };
        let mut facts = facts(any_time());
        facts.labels.remove(name::NAME);
        facts.naming = Some(naming.clone());
        let (admission, _) = admit(message.encode_to_vec(), facts);
        assert_eq!(admission.time_ns, resolved_ns, "sent as {sent_ns}");
        assert_eq!(admission.labels.get(name::NAME), Some("process_cpu"));
    }
    let message = pprof::Profile { time_nanos: 0, ..good() };
    let (admission, _) = admit(message.encode_to_vec(), facts(Limits::default()));
    assert_eq!(admission.time_ns, NOW_MS * 1_000_000);
}

#[test]
fn columns_without_a_value_make_no_series() {
    let mut message = good();
    message.sample_type.push(pprof::ValueType { r#type: 3, unit: 2 });
    message.sample[0].value = vec![3, 0];
    let (admission, _) = admit(message.encode_to_vec(), facts(Limits::default()));
    assert_eq!(admission.outcomes, [Outcome::Plain, Outcome::Dropped]);
}

/// What stays, by the rules said naively over what prost reads: sums by column, and the number of label sets.
fn naively(message: &pprof::Profile) -> (Vec<i64>, usize) {
    let functions: Vec<u64> = message.function.iter().map(|f| f.id).collect();
    let is_known = |l: &&pprof::Location| {
        (!l.line.is_empty() || l.address != 0)
            && l.line.iter().all(|line| functions.contains(&line.function_id))
    };
    let locations: std::collections::BTreeSet<u64> =
        message.location.iter().filter(is_known).map(|l| l.id).collect();
    let text = |row: i64| message.string_table[row as usize].as_str();
    let mut sums = vec![0; message.sample_type.len()];
    let mut sets = std::collections::BTreeSet::new();
    for sample in &message.sample {
        if sample.value.iter().any(|&v| v < 0)
            || sample.value.iter().all(|&v| v == 0)
            || !sample.location_id.iter().all(|id| locations.contains(id))
        {
            continue;
        }
        for (sum, value) in sums.iter_mut().zip(&sample.value) {
            *sum += value;
        }
        let set: std::collections::BTreeSet<(&str, &str)> = sample
            .label
            .iter()
            .filter(|l| l.str != 0)
            .map(|l| (text(l.key), text(l.str)))
            .filter(|(key, _)| !["span_id", "trace_id", "profile_id"].contains(key))
            .collect();
        sets.insert(set);
    }
    (sums, sets.len())
}

#[test]
fn totals_and_groups_of_the_corpus_are_those_of_a_naive_count() {
    let mut intake = Intake::new();
    for (path, bytes) in corpus::all() {
        let Ok(message) = pprof::Profile::decode(&corpus::inflated(&bytes)[..]) else { continue };
        intake.begin(bytes, facts(any_time()));
        let Ok(IntakeStep::Admitted(admission)) = finish(&mut intake) else {
            assert!(path.contains("dotnet"), "{path} is admitted");
            continue;
        };
        let profile = intake.profile();
        let columns = profile.sample_types.len();
        let mut sums = vec![0; columns];
        for sample in (0..profile.samples_count()).filter(|&s| profile.sample_groups[s] != u32::MAX)
        {
            for (sum, value) in sums.iter_mut().zip(&profile.values[sample * columns..]) {
                *sum += value;
            }
        }
        assert_eq!((sums, profile.groups_count()), naively(&message), "{path}");
        assert_eq!(admission.outcomes.len(), columns * profile.groups_count(), "{path}");
    }
}

/// Replay of what was admitted, a small budget at a time, yields the very same columns, groups and decisions.
#[test]
fn replay_repeats_what_was_admitted() {
    let (mut pushed, mut replayed) = (Intake::new(), Intake::new());
    for (path, bytes) in corpus::all() {
        let limits = Limits {
            max_profile_stacktrace_depth: 20,
            max_profile_symbol_value_length: 40,
            ..any_time()
        };
        pushed.begin(bytes.clone(), facts(limits));
        let Ok(IntakeStep::Admitted(admission)) = finish(&mut pushed) else { continue };
        replayed.begin_replay(bytes, admission.clone());
        let again = loop {
            match replayed.advance(&mut 3000).unwrap() {
                IntakeStep::More => {}
                ended => break ended,
            }
        };
        replayed.stage = Stage::Idle;
        assert_eq!(again, IntakeStep::Admitted(admission), "{path}");
        assert!(pushed.profile() == replayed.profile(), "{path}");
    }
}

#[test]
fn decisions_that_do_not_fit_the_profile_are_damage() {
    let (mut admission, mut intake) = admit(good().encode_to_vec(), facts(any_time()));
    admission.outcomes.push(Outcome::Plain);
    intake.begin_replay(good().encode_to_vec().into(), admission);
    assert_eq!(finish(&mut intake).unwrap_err().code, Code::DataLoss);
}

/// Walks every reference of an admitted profile: none may lead out of its table.
fn walk(profile: &Profile, admission: &Admission) {
    for sample in (0..profile.samples_count()).filter(|&s| profile.sample_groups[s] != u32::MAX) {
        assert!((profile.sample_groups[sample] as usize) < profile.groups_count());
        let stack =
            profile.stack_starts[sample] as usize..profile.stack_starts[sample + 1] as usize;
        for &row in &profile.stack_locations[stack] {
            let location = profile.locations[row as usize];
            if let Some(mapping) = profile.mappings.get(location.mapping as usize) {
                profile.string(mapping.filename);
                profile.string(mapping.build_id);
            } else {
                assert_eq!(location.mapping, u32::MAX);
            }
            let lines = location.lines_start as usize..;
            for line in &profile.lines[lines][..location.lines_count as usize] {
                let function = profile.functions[line.function as usize];
                profile.string(function.name);
                profile.string(function.system_name);
                profile.string(function.filename);
            }
        }
    }
    let columns = profile.sample_types.len();
    for (at, outcome) in admission.outcomes.iter().enumerate() {
        let labels = series_labels(profile, admission, at / columns, at % columns, outcome);
        assert!(labels.get(name::PROFILE_TYPE).is_some());
    }
}

/// Real profiles with bytes changed, taken out and put in: refused or admitted, never a panic, never memory out of proportion.
#[test]
fn damaged_profiles_are_refused_or_sound() {
    let messages: Vec<Vec<u8>> =
        corpus::committed().iter().map(|(_, bytes)| corpus::inflated(bytes)).collect();
    let messages = [messages, vec![good().encode_to_vec()]].concat();
    bolero::check!().with_iterations(300).with_type::<(u8, Vec<(u32, u8, u8)>)>().for_each(
        |(which, edits)| {
            let mut message = messages[usize::from(*which) % messages.len()].clone();
            for &(at, kind, byte) in edits.iter().take(20) {
                let at = at as usize % message.len();
                match kind % 4 {
                    0 => message[at] = byte,
                    1 => message[at] ^= 1 << (byte % 8),
                    2 => message.insert(at, byte),
                    _ if message.len() > 1 => drop(message.remove(at)),
                    _ => {}
                }
            }
            let len = message.len();
            let mut intake = Intake::new();
            let mut push = facts(any_time());
            push.labels.set(name::PYROSCOPE_SPY, if which % 2 == 0 { "gospy" } else { "pyspy" });
            intake.begin(message.into(), push);
            if let Ok(IntakeStep::Admitted(admission)) = finish(&mut intake) {
                walk(intake.profile(), &admission);
            }
            let held = intake.bytes_held();
            assert!(held <= 100 * len + (8 << 20), "{held} bytes held for {len}");
        },
    );
}

#[test]
fn memory_of_a_large_profile_is_given_back() {
    let mut message = good();
    message.string_table.push("x".repeat(20 << 20));
    let limits = Limits {
        max_profile_size_bytes: 0,
        max_profile_symbol_value_length: 0,
        ..Limits::default()
    };
    let (_, mut intake) = admit(message.encode_to_vec(), facts(limits));
    assert!(intake.bytes_held() > 20 << 20);
    assert_eq!(intake.inflated_bytes(), message.encoded_len());
    intake.begin(good().encode_to_vec().into(), facts(Limits::default()));
    assert!(matches!(finish(&mut intake), Ok(IntakeStep::Admitted(_))));
    assert!(intake.bytes_held() < 1 << 20, "{} bytes held", intake.bytes_held());
}
