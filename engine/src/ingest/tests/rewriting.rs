//! Profiles of spies whose symbols are put right on arrival.

use prost::Message;
use proto::pprof::Profile;

use super::*;

/// The rewriting of scripting languages' names on decoded messages.
fn renamed(mut profile: Profile, unless_absolute: bool) -> Profile {
    let old = profile.clone();
    let string = |row: i64| &old.string_table[usize::try_from(row).unwrap()];
    for function in &mut profile.function {
        let (name, file) = (string(function.name), string(function.filename));
        if !(unless_absolute && file.starts_with('/')) {
            function.name = i64::try_from(profile.string_table.len()).unwrap();
            profile.string_table.push(format!("{file} {name}"));
        }
    }
    profile
}

#[test]
fn scripting_languages_get_the_file_into_the_name() {
    for (file, spy) in [
        ("pyspy-1.pb.gz", "pyspy"),
        ("profile_python", "pyspy"),
        ("profile_python", "rbspy"),
        ("cpu.pb.gz", "scripting"),
        ("cpu.pb.gz", "pyspy"),
    ] {
        let Some(corpus) = corpus() else { return };
        let body = read(&corpus.join("agents/pprof").join(file));
        let original = Profile::decode(plain(&body).as_slice()).unwrap();
        let query = format!("name=a&format=pprof&spyName={spy}");
        for body in [plain(&body), body] {
            let rewritten = decoded(&pushed(&query, "", body));
            assert_eq!(
                stacks(&rewritten),
                stacks(&renamed(original.clone(), spy == "pyspy")),
                "{file} {spy}"
            );
            assert_eq!(rewritten.sample, original.sample, "{file} {spy}");
        }
    }
}

#[test]
fn dotnet_functions_get_the_ids_of_their_locations() {
    let Some(corpus) = corpus() else { return };
    let profile = read(&corpus.join("agents/pprof/dotnet-pprof-3.pb.gz"));
    let config = read(&corpus.join("agents/pprof/dotnet-pprof-3.st.json"));
    let original = Profile::decode(plain(&profile).as_slice()).unwrap();
    assert!(original.function.iter().all(|function| function.id == 0), "what is to be put right");
    let (body, kind) = form(&[Part("profile", &profile), Part("sample_type_config", &config)]);
    for query in ["name=a&spyName=dotnetspy", "name=a"] {
        let rewritten = decoded(&pushed(query, kind, body.clone()));
        let ids = |profile: &Profile| profile.location.iter().map(|l| l.id).collect::<Vec<_>>();
        assert_eq!(rewritten.function.iter().map(|f| f.id).collect::<Vec<_>>(), ids(&original));
        assert!(!types(&rewritten).0.contains('-'));
        assert_eq!(types(&rewritten).0, types(&original).0.replace('-', "_"));
        assert_eq!(rewritten.sample, original.sample);
    }
}

#[test]
fn long_names_shared_by_many_functions_stop_at_the_limit() {
    let mut profile = Profile {
        string_table: vec![String::new(), "f".repeat(60 << 10), "n".repeat(60 << 10)],
        ..Profile::default()
    };
    for id in 1..=1000 {
        profile.string_table.push(format!("{id}"));
        profile.function.push(proto::pprof::Function {
            id,
            name: id as i64 + 2,
            filename: 1,
            ..Default::default()
        });
        let line = vec![proto::pprof::Line { function_id: id, line: 0 }];
        profile.location.push(proto::pprof::Location { id, line, ..Default::default() });
    }
    let (status, text) = refused("name=a&format=pprof&spyName=rbspy", "", profile.encode_to_vec());
    assert_eq!(status, 422);
    assert!(text.ends_with("uncompressed profile payload size exceeds limit of 4.2 MB"), "{text}");
}

/// It was scanned whole, into tables larger than itself, before anybody looked at its size.
#[test]
fn a_message_over_the_limit_is_refused_before_it_is_read() {
    let functions = b"\x2a\x00".repeat(5 << 19); // 5 MiB of empty functions
    for spy in ["pyspy", "rbspy", "dotnetspy"] {
        let query = format!("name=a&format=pprof&spyName={spy}");
        let mut conversion = Conversion::begin(request(&query, "", functions.clone())).unwrap();
        let error = conversion.step().unwrap_err();
        assert_eq!(error.status, 422);
        assert!(error.to_string().contains("exceeds maximum allowed size"), "{error}");
    }
}

/// Nested messages are read in one go: a location of millions of lines, or a function of millions of fields, was one step.
#[test]
fn a_long_nested_message_is_left_to_the_owner() {
    for field in [1_u8, 4, 5] {
        let mut body = vec![field << 3 | 2, 0x80, 0x80, 0x40]; // 1 MiB
        body.resize(body.len() + (1 << 20), 0x10); // of varint fields
        let push = pushed("name=a&format=pprof&spyName=rbspy", "", body.clone());
        assert_eq!(push.profile, body, "field {field}");
    }
}

/// Each function composed its name before it was known that another one has it: megabytes, thousands of times.
#[test]
fn functions_of_one_file_and_name_become_one() {
    let mut profile = Profile {
        string_table: vec![String::new(), "f".repeat(900 << 10), "n".repeat(900 << 10)],
        ..Profile::default()
    };
    for id in 1..=20_000 {
        profile.function.push(proto::pprof::Function {
            id,
            name: 2,
            filename: 1,
            ..Default::default()
        });
        let line = vec![proto::pprof::Line { function_id: id, line: 0 }];
        profile.location.push(proto::pprof::Location { id, line, ..Default::default() });
    }
    let rewritten =
        decoded(&pushed("name=a&format=pprof&spyName=rbspy", "", profile.encode_to_vec()));
    assert_eq!(rewritten.function.len(), 20_001);
    let id = rewritten.function.last().unwrap().id;
    assert!(rewritten.location.iter().all(|location| location.line[0].function_id == id));
}

#[test]
fn bytes_that_are_no_pprof_are_left_to_the_owner() {
    for spy in ["pyspy", "dotnetspy"] {
        for body in [
            b"this is not a profile".to_vec(),
            b"\x1f\x8b\x08\x00garbage".to_vec(),
            gzip(b"nor this"),
        ] {
            let push = pushed(&format!("name=a&format=pprof&spyName={spy}"), "", body.clone());
            assert_eq!(push.profile, body, "{spy}");
        }
    }
}

#[test]
fn any_message_is_rewritten_or_left_alone() {
    let seed = corpus().map(|corpus| plain(&read(&corpus.join("agents/pprof/pyspy-1.pb.gz"))));
    bolero::check!().with_type().for_each(|(at, bytes, spy): &(u16, Vec<u8>, bool)| {
        let mut mutated = seed.clone().unwrap_or_default();
        let at = usize::from(*at).min(mutated.len());
        let end = (at + bytes.len()).min(mutated.len());
        mutated.splice(at..end, bytes.iter().copied());
        let query =
            format!("name=a&format=pprof&spyName={}", if *spy { "pyspy" } else { "dotnetspy" });
        for body in [mutated, bytes.clone()] {
            if let Ok(Some(push)) = parse(request(&query, "", body.clone())) {
                assert!(push.profile.len() <= 4 << 20);
                let readable = |bytes: &[u8]| Profile::decode(bytes).is_ok();
                assert!(readable(&push.profile) || !readable(&body), "rewriting breaks nothing");
            }
        }
    });
}
