//! Folded text and lines.

use std::collections::BTreeMap;

use super::*;

#[test]
fn folded_stacks_are_added_up_and_scaled_by_the_rate() {
    let push = pushed(
        "name=my.app.cpu%7Benv%3Ddev%7D&from=1795335190&format=folded&sampleRate=100",
        "text/plain",
        "main;a;b 3\nmain;a 2\r\nmain;c d;e 1\nno-count\nmain;a;b; 1\n\n",
    );
    let profile = decoded(&push);
    let expected = [("main;a", 20_000_000), ("main;a;b", 40_000_000), ("main;c d;e", 10_000_000)];
    assert_eq!(stacks(&profile), pairs(&expected));
    assert_eq!(types(&profile), ("cpu:nanoseconds".to_owned(), "cpu:nanoseconds".to_owned()));
    assert_eq!((profile.period, profile.time_nanos), (10_000_000, 1_795_335_190_000_000_000));
    let labels: Vec<_> = push.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let expected = [
        ("__delta__", "false"),
        ("__name__", "process_cpu"),
        ("env", "dev"),
        ("pyroscope_spy", "unknown"),
        ("service_name", "my.app"),
    ];
    assert_eq!(labels, expected);
    assert_eq!((push.naming, push.origin), (None, Origin::Text));
}

#[test]
fn the_rate_scales_times_only_and_zero_switches_it_off() {
    let cases = [
        ("a.wall&sampleRate=10", "wall:nanoseconds", "cpu:nanoseconds", 100_000_000),
        ("a&sampleRate=0", "samples:count", "", 1),
        ("a.itimer&sampleRate=x", "cpu:nanoseconds", "cpu:nanoseconds", 10_000_000),
        ("a.alloc_space&sampleRate=10", "alloc_space:bytes", "", 1),
        ("a.seconds", "wall:nanoseconds", "cpu:nanoseconds", 10_000_000),
    ];
    for (query, sample_type, period_type, value) in cases {
        let profile = decoded(&pushed(&format!("name={query}"), "", "f 1"));
        assert_eq!(types(&profile), (sample_type.to_owned(), period_type.to_owned()), "{query}");
        assert_eq!(stacks(&profile), pairs(&[("f", value)]), "{query}");
    }
}

#[test]
fn lines_count_one_each() {
    let profile = decoded(&pushed("name=l.cpu&format=lines", "", "a;b\na;b\n\na;c d\n"));
    assert_eq!(stacks(&profile), pairs(&[("a;b", 20_000_000), ("a;c d", 10_000_000)]));
}

#[test]
fn text_that_would_lose_something_is_refused_in_words() {
    let cases: [(&str, &[u8], u16, &str); 7] = [
        (
            "name=my.app",
            b"a 1",
            400,
            "pyroscopeIngesterAdapter failed to convert metadata: unknown profile type: app",
        ),
        ("name=a.cpu", b"a;b x", 422, "strconv.Atoi: parsing \"x\": invalid syntax"),
        ("name=a.cpu", b"a;b 1.5", 422, "strconv.Atoi: parsing \"1.5\": invalid syntax"),
        ("name=a.cpu", b"a;b ", 422, "strconv.Atoi: parsing \"\": invalid syntax"),
        (
            "name=a.cpu",
            b"a 9223372036854775808",
            422,
            "strconv.Atoi: parsing \"9223372036854775808\": value out of range",
        ),
        (
            "name=a.cpu",
            b"a\xff 1",
            400,
            "pyroscopeIngesterAdapter failed to marshal pprof: string field contains invalid UTF-8",
        ),
        ("name=", b"a 1", 400, "name: service name is required"),
    ];
    for (query, body, status, text) in cases {
        assert_eq!(refused(query, "", body.to_vec()), (status, text.to_owned()), "{query}");
    }
}

#[test]
fn a_long_line_is_whole_and_an_endless_one_is_refused() {
    let deep = (0..20_000).map(|i| format!("frame{i:05}")).collect::<Vec<_>>().join(";");
    assert!(deep.len() > 64 << 10, "longer than Go's scanner takes");
    let profile = decoded(&pushed("name=big.cpu", "", format!("{deep} 4\nx 1")));
    assert_eq!(stacks(&profile), pairs(&[(&deep, 40_000_000), ("x", 10_000_000)]));
    let (status, text) = refused("name=big.cpu", "", "x".repeat((1 << 20) + 1));
    assert_eq!((status, text.as_str()), (422, "line at byte 0 is longer than 1048576 bytes"));
}

#[test]
fn a_profile_made_of_text_is_no_larger_than_its_limit() {
    let text = (0..500_000).map(|i| format!("{i} 1")).collect::<Vec<_>>().join("\n");
    let (status, text) = refused("name=big.cpu", "", text);
    let expected = "uncompressed profile payload size exceeds limit of 4.2 MB";
    assert_eq!((status, text.as_str()), (400, expected));
}

#[test]
fn folded_text_of_a_real_program_keeps_every_stack() {
    for path in corpus_files("series/python/folded") {
        let text = String::from_utf8(plain(&read(&path))).unwrap();
        let mut expected = BTreeMap::<String, i64>::new();
        for line in text.lines() {
            let (stack, count) = line.rsplit_once(' ').unwrap();
            *expected.entry(stack.to_owned()).or_default() += count.parse::<i64>().unwrap();
        }
        let push = pushed("name=desk.cpu&sampleRate=1000000000", "", text);
        assert_eq!(stacks(&decoded(&push)), expected, "{}", path.display());
    }
}

#[test]
fn any_text_becomes_a_profile_of_its_counts_or_is_refused() {
    bolero::check!().with_type().for_each(|(lines, junk): &(Vec<(Vec<u8>, i16)>, Vec<u8>)| {
        // Frames of a small alphabet, so that stacks repeat; then whatever was drawn, as it is.
        let text = lines
            .iter()
            .map(|(frames, count)| {
                let frames: Vec<_> =
                    frames.iter().map(|b| ["a", "b", "c d", ""][usize::from(b % 4)]).collect();
                format!("{} {count}", frames.join(";"))
            })
            .collect::<Vec<_>>()
            .join("\n");
        let mut expected = BTreeMap::<String, i64>::new();
        for line in text.lines() {
            let (stack, count) = line.rsplit_once(' ').unwrap();
            let stack = stack.strip_suffix(';').unwrap_or(stack);
            *expected.entry(stack.to_owned()).or_default() += count.parse::<i64>().unwrap();
        }
        let push = parse(request("name=a&sampleRate=0", "", text)).unwrap();
        assert_eq!(push.map_or(BTreeMap::new(), |push| stacks(&decoded(&push))), expected);
        for format in ["folded", "lines"] {
            let _ = parse(request(&format!("name=a&format={format}"), "", junk.clone()));
        }
    });
}
