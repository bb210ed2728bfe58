use super::*;

fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    LabelSet::from_pairs(pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect())
}

fn profile(sample_types: &[(&str, &str)], period_type: Option<(&str, &str)>) -> Profile {
    let mut profile = Profile::default();
    let mut string = |text: &str| {
        let start = profile.bytes.len() as u32;
        profile.bytes.extend_from_slice(text.as_bytes());
        profile.strings.push(super::super::Span { start, len: text.len() as u32 });
        profile.strings.len() as u32 - 1
    };
    string("");
    let mut value_type =
        |(kind, unit): (&str, &str)| ValueType { kind: string(kind), unit: string(unit) };
    let sample_types: Vec<ValueType> = sample_types.iter().map(|&t| value_type(t)).collect();
    let period_type = period_type.map(value_type);
    (profile.sample_types, profile.period_type) = (sample_types, period_type);
    profile.group_starts = vec![0, 0];
    profile
}

#[test]
fn uploads_are_named_by_their_sample_types() {
    let naming = |names: &[(&str, &str)]| IngestNaming {
        display_names: names.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        from_time_ns: 0,
    };
    let default = [("samples", "cpu"), ("contentions", "mutex_count"), ("goroutine", "goroutines")];
    for (kinds, names, expected) in [
        (&["samples", "wall"][..], &default[..], "wall"),
        (&["samples", "count"], &default, "process_cpu"),
        (&["samples", "x"], &[], "x"),
        (&["inuse_objects"], &[], "memory"),
        (&["space"], &[], "memory"),
        (&["contentions", "delay"], &default, "mutex"),
        (&["contentions"], &[("contentions", "block_count")], "block"),
        (&["goroutine"], &default, "goroutines"),
        (&["samples"], &[("samples", "")], "samples"),
    ] {
        let types: Vec<(&str, &str)> = kinds.iter().map(|&kind| (kind, "count")).collect();
        assert_eq!(name_of_ingest(&profile(&types, None), &naming(names)), expected, "{kinds:?}");
    }
}

fn admitted(pairs: &[(&str, &str)]) -> String {
    admitted_labels(&labels(pairs), &Limits::default()).to_string()
}

#[test]
fn the_default_rules_relabel_what_was_pushed() {
    assert_eq!(
        admitted(&[("__name__", "godeltaprof_memory"), ("service_name", "g"), ("empty", "")]),
        r#"{__delta__="false", __name__="memory", __name_replaced__="godeltaprof_memory", service_name="g"}"#
    );
    assert_eq!(
        admitted(&[("__name__", "wall"), ("__type__", "cpu")]),
        r#"{__name__="process_cpu", __name_replaced__="wall", __type__="cpu"}"#
    );
    assert_eq!(admitted(&[("__name__", "wall")]), r#"{__name__="wall"}"#);
    assert_eq!(
        admitted(&[("__name__", "godeltaprof_")]),
        r#"{__delta__="false", __name_replaced__="godeltaprof_"}"#
    );
}

#[test]
fn sessions_are_removed_or_reduced() {
    let reduced = |session: &str, sessions_max| {
        let limits = Limits { max_sessions_per_series: sessions_max, ..Limits::default() };
        let pushed = labels(&[("__session_id__", session)]);
        admitted_labels(&pushed, &limits).get(name::SESSION_ID).map(str::to_owned)
    };
    assert_eq!(reduced("0500000000000000", 0), None);
    assert_eq!(reduced("0500000000000000", 3).as_deref(), Some("0200000000000000"));
    assert_eq!(reduced("ffffffffffffffff", 3).as_deref(), Some("ffffffffffffffff"));
    assert_eq!(reduced("abc", 3), None);
    assert_eq!(reduced("+500000000000000", 3), None);
}

fn stored(profile: &Profile, pairs: &[(&str, &str)]) -> String {
    let admission = Admission {
        pipeline_version: 1,
        time_ns: 0,
        stacktrace_depth_max: 0,
        symbol_bytes_max: 0,
        go_fixes: false,
        labels: labels(pairs),
        outcomes: vec![Outcome::Plain],
    };
    series_labels(profile, &admission, 0, 0, &admission.outcomes[0]).to_string()
}

/// The forms that the conformance kit recorded.
#[test]
fn series_get_the_labels_derived_from_their_column() {
    let pushed = [("__delta__", "false"), ("__name__", "process_cpu"), ("service_name", "shop")];
    assert_eq!(
        stored(&profile(&[("cpu", "nanoseconds")], Some(("cpu", "nanoseconds"))), &pushed),
        r#"{__name__="process_cpu", __period_type__="cpu", __period_unit__="nanoseconds", __profile_type__="process_cpu:cpu:nanoseconds:cpu:nanoseconds", __service_name__="shop", __type__="cpu", __unit__="nanoseconds", service_name="shop"}"#
    );
    assert_eq!(
        stored(&profile(&[("samples", "count")], Some(("", "milliseconds"))), &pushed),
        r#"{__name__="process_cpu", __period_unit__="milliseconds", __profile_type__="process_cpu:samples:count::milliseconds", __service_name__="shop", __type__="samples", __unit__="count", service_name="shop"}"#
    );
    let given =
        [("__name__", "memory"), ("__type__", "x"), ("__order__", "1"), ("service_name", "s")];
    assert_eq!(
        stored(&profile(&[("live", "count")], None), &given),
        r#"{__name__="memory", __profile_type__="memory:live:count::", __service_name__="s", __type__="live", __unit__="count", service_name="s"}"#
    );
}
