//! Whole requests: those of real agents, and what the rules say of made-up ones.

mod rewriting;
mod text;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

use prost::Message;
use proto::pprof::Profile;

use super::*;

const NOW_NS: i64 = 1_795_335_200_000_000_000;

fn request<'a>(query: &'a str, content_type: &'a str, body: impl Into<Bytes>) -> IngestRequest<'a> {
    IngestRequest {
        query,
        content_type,
        content_encoding_gzip: false,
        body: body.into(),
        now_ns: NOW_NS,
        body_bytes_max: 256 << 20,
        profile_bytes_max: 4 << 20,
    }
}

fn pushed(query: &str, content_type: &str, body: impl Into<Bytes>) -> IngestPush {
    parse(request(query, content_type, body)).unwrap().expect("there is something to store")
}

fn refused(query: &str, content_type: &str, body: impl Into<Bytes>) -> (u16, String) {
    let error = parse(request(query, content_type, body)).unwrap_err();
    (error.status, error.to_string())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.to_vec();
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

/// A part of a form.
struct Part<'a>(&'a str, &'a [u8]);

fn form(parts: &[Part<'_>]) -> (Vec<u8>, &'static str) {
    let mut body = Vec::new();
    for Part(name, content) in parts {
        let header = format!(
            "--b0unDary\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}.x\"\r\n\r\n"
        );
        body.extend_from_slice(header.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b0unDary--\r\n");
    (body, "multipart/form-data; boundary=b0unDary")
}

/// Values by stack (root first, names joined with `;`), one column.
fn stacks(profile: &Profile) -> BTreeMap<String, i64> {
    let string = |row: i64| &profile.string_table[usize::try_from(row).unwrap()];
    let function: BTreeMap<u64, &str> =
        profile.function.iter().map(|f| (f.id, string(f.name).as_str())).collect();
    let location: BTreeMap<u64, &str> =
        profile.location.iter().map(|l| (l.id, function[&l.line[0].function_id])).collect();
    let mut stacks = BTreeMap::new();
    for sample in &profile.sample {
        let names: Vec<_> = sample.location_id.iter().rev().map(|id| location[id]).collect();
        *stacks.entry(names.join(";")).or_default() += sample.value[0];
    }
    stacks
}

fn decoded(push: &IngestPush) -> Profile {
    Profile::decode(plain(&push.profile).as_slice()).unwrap()
}

fn types(profile: &Profile) -> (String, String) {
    let text = |t: &proto::pprof::ValueType| {
        let string = |row: i64| &profile.string_table[usize::try_from(row).unwrap()];
        format!("{}:{}", string(t.r#type), string(t.unit))
    };
    let period = profile.period_type.as_ref().map(text).unwrap_or_default();
    (profile.sample_type.iter().map(text).collect::<Vec<_>>().join(","), period)
}

fn label<'a>(push: &'a IngestPush, name: &str) -> Option<&'a str> {
    push.labels.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

fn pairs(stacks: &[(&str, i64)]) -> BTreeMap<String, i64> {
    stacks.iter().map(|(stack, value)| ((*stack).to_owned(), *value)).collect()
}

/// The corpus, where it is.
fn corpus() -> Option<PathBuf> {
    let shared = std::env::var("PYRITE_SHARED").unwrap_or_else(|_| "../shared".to_owned());
    let from_root =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(shared).join("corpus");
    if from_root.is_dir() {
        return Some(from_root);
    }
    println!("skipped: no corpus at {}", from_root.display());
    None
}

#[expect(clippy::disallowed_methods, reason = "a test reads the corpus")]
fn read(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of a corpus folder, sorted; none without a corpus.
fn corpus_files(folder: &str) -> Vec<PathBuf> {
    let Some(corpus) = corpus() else { return Vec::new() };
    let mut files: Vec<_> = std::fs::read_dir(corpus.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn nothing_to_store_is_a_success() {
    let empty: &[u8] = b"";
    let (no_profile, kind) = form(&[Part("profile", b"")]);
    let cases = [
        ("name=a.cpu&format=folded", "", empty.to_vec()),
        ("name=a&format=pprof", "", empty.to_vec()),
        ("name=a.cpu%7Bprofile_id%3D7%7D", "", b"a 1".to_vec()),
        ("name=a", kind, no_profile),
    ];
    for (query, content_type, body) in cases {
        assert_eq!(parse(request(query, content_type, body)), Ok(None), "{query}");
    }
}

#[test]
fn a_given_service_name_stands_and_the_application_becomes_a_label_of_text_only() {
    let name = "name=shop.cpu%7Bservice_name%3Dcart,__private__%3Dx,__session_id__%3Ds%7D";
    let text = pushed(name, "", "f 1");
    assert_eq!(label(&text, "service_name"), Some("cart"));
    assert_eq!(label(&text, "app_name"), Some("shop"));
    assert_eq!((label(&text, "__private__"), label(&text, "__session_id__")), (None, Some("s")));
    let pprof = pushed(&format!("{name}&format=pprof&spyName=gospy"), "", "\n\x04");
    assert_eq!(label(&pprof, "service_name"), Some("cart"));
    assert_eq!((label(&pprof, "app_name"), label(&pprof, "__name__")), (None, None));
    assert_eq!(label(&pprof, "pyroscope_spy"), Some("gospy"));
    let plain = pushed("name=shop.cpu&format=pprof", "", "\n\x04");
    assert_eq!(label(&plain, "service_name"), Some("shop.cpu"), "a pprof's suffix stays");
}

#[test]
fn a_pprof_stays_as_received() {
    for body in [b"this is not a profile".to_vec(), gzip(b"nor this")] {
        let raw = pushed("name=a&format=pprof&from=1795335190", "", body.clone());
        assert_eq!(raw.profile, body);
        let naming = raw.naming.unwrap();
        assert_eq!(naming.from_time_ns, 1_795_335_190_000_000_000);
        assert!(naming.display_names.contains(&("delay".to_owned(), "mutex_duration".to_owned())));
        let config = br#"{"delay":{"display-name":"block_duration"}}"#;
        let (form, kind) = form(&[Part("profile", &body), Part("sample_type_config", config)]);
        for query in ["name=a", "name=a&format=pprof", "name=a&format=folded"] {
            let push = pushed(query, kind, form.clone());
            assert_eq!(push.profile, body, "{query}");
            let display_names = push.naming.unwrap().display_names;
            assert_eq!(display_names, [("delay".to_owned(), "block_duration".to_owned())]);
        }
    }
}

#[test]
fn a_form_that_cannot_be_stored_is_refused_in_words() {
    const PREFIX: &str =
        "parsing IngestInput-pprof failed failed to parse pprof /ingest multipart form ";
    let cases: [(&[Part<'_>], &str); 3] = [
        (
            &[Part("profile", b"x"), Part("prev_profile", b"y")],
            "unsupported client version. Please update github.com/grafana/pyroscope-go to the latest version",
        ),
        (&[Part("nothing", b"x")], "form has no part \"profile\""),
        (
            &[Part("profile", b"x"), Part("sample_type_config", b"{")],
            "sample_type_config: EOF while parsing an object at line 1 column 1",
        ),
    ];
    for (parts, text) in cases {
        let (body, kind) = form(parts);
        assert_eq!(refused("name=a", kind, body), (422, format!("{PREFIX}{text}")));
    }
    let (body, _) = form(&[Part("profile", b"x")]);
    let (status, text) = refused("name=a", "multipart/form-data", body);
    assert_eq!((status, text), (422, format!("{PREFIX}malformed multipart content type header")));
}

#[test]
fn formats_that_are_not_built_say_so() {
    for format in ["jfr", "trie", "tree", "speedscope"] {
        let (status, text) = refused(&format!("name=a&format={format}"), "", "x");
        assert_eq!(status, 422);
        assert_eq!(
            text,
            format!("parsing IngestInput-pprof failed format \"{format}\" is not supported yet")
        );
    }
}

#[test]
fn a_content_encoding_is_undone_where_the_owner_would_not() {
    let encoded = |query: &'static str, kind: &'static str, body: Vec<u8>| {
        let request = IngestRequest { content_encoding_gzip: true, ..request(query, kind, body) };
        parse(request).unwrap().unwrap()
    };
    let text = encoded("name=a.cpu", "", gzip(b"a;b 1"));
    assert_eq!(stacks(&decoded(&text)), pairs(&[("a;b", 10_000_000)]));
    assert_eq!(encoded("name=a&format=pprof", "", gzip(b"p")).profile, gzip(b"p"), "as received");
    assert_eq!(encoded("name=a&format=pprof", "", gzip(&gzip(b"p"))).profile, gzip(b"p"));
    assert_eq!(
        encoded("name=a", "", gzip(&gzip(b"p"))).profile,
        gzip(b"p"),
        "no format: looked at"
    );
    let (body, kind) = form(&[Part("profile", b"p")]);
    assert_eq!(encoded("name=a", kind, gzip(&body)).profile, "p");
    assert_eq!(encoded("name=a.cpu", "", b"plain 1".to_vec()).origin, Origin::Text, "not believed");
}

#[test]
fn a_body_too_large_after_decoding_is_refused() {
    let bomb = IngestRequest {
        content_encoding_gzip: true,
        body_bytes_max: 1 << 20,
        ..request("name=a.cpu", "", gzip(&vec![b'\n'; 2 << 20]))
    };
    let error = parse(bomb).unwrap_err();
    assert_eq!(error.status, 413);
    assert_eq!(error.to_string(), "request body too large: http: request body too large");
}

/// Whether a pprof is gzip in gzip was found out in one go: seconds for a body of members without content.
#[test]
fn looking_inside_an_encoded_pprof_takes_steps() {
    let body = gzip(b"").repeat(50_000);
    let request = IngestRequest {
        content_encoding_gzip: true,
        ..request("name=a&format=pprof", "", body.clone())
    };
    let mut conversion = Conversion::begin(request).unwrap();
    let steps =
        1 + std::iter::from_fn(|| (conversion.step() == Ok(Step::More)).then_some(())).count();
    assert!(steps >= body.len() >> 14, "{} bytes in {steps} steps", body.len());
    assert_eq!(conversion.finish().unwrap().profile, body, "as received");
}

/// Only the received bytes were accounted: a small body could make a shard hold 256 MiB that no limit knew of.
#[test]
fn what_a_conversion_holds_is_told_after_every_step() {
    let mib = 1 << 20;
    let text = (0..100_000).map(|i| format!("a{i};b 1")).collect::<Vec<_>>().join("\n");
    let functions = b"\x2a\x00".repeat(mib);
    let (form, kind) = form(&[Part("profile", &functions)]);
    let cases = [
        ("name=a.cpu", "", gzip(&vec![b'\n'; 8 * mib]), 8 * mib),
        ("name=a.cpu", "", gzip(text.as_bytes()), 4 * text.len()),
        ("name=a&format=pprof&spyName=rbspy", "", gzip(&gzip(&functions)), 5 * functions.len()),
        ("name=a&spyName=dotnetspy", kind, gzip(&form), 5 * functions.len()),
    ];
    for (query, kind, body, held_at_least) in cases {
        let len = body.len();
        let request = IngestRequest { content_encoding_gzip: true, ..request(query, kind, body) };
        let mut conversion = Conversion::begin(request).unwrap();
        let mut held_max = conversion.bytes_held();
        assert!((len..2 * len + mib).contains(&held_max), "{query}: {held_max} of {len}");
        while conversion.step() == Ok(Step::More) {
            held_max = held_max.max(conversion.bytes_held());
        }
        assert!(held_max >= held_at_least, "{query}: {held_max}");
    }
}

/// A request that an agent sent.
struct Captured {
    name: String,
    query: String,
    content_type: String,
    is_encoded: bool,
    body: Vec<u8>,
}

impl Captured {
    fn request<'a>(&'a self, query: &'a str, body: Vec<u8>) -> IngestRequest<'a> {
        IngestRequest {
            content_encoding_gzip: self.is_encoded,
            ..request(query, &self.content_type, body)
        }
    }
}

/// Captured requests; none without a corpus.
fn captured() -> Vec<Captured> {
    let mut requests = Vec::new();
    for folder in [
        "pyroscope-io-python-0.8.7",
        "pyroscope-nodejs",
        "pyroscope-nodejs-0.4.5",
        "pyroscope-rust-0.5",
    ] {
        for path in corpus_files(&format!("captures/{folder}")) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let meta: serde_json::Value = serde_json::from_slice(&read(&path)).unwrap();
            let header = |name: &str| {
                let headers = meta["headers"].as_array().unwrap();
                let pair = headers.iter().find(|pair| pair[0] == name);
                pair.map_or("", |pair| pair[1].as_str().unwrap()).to_owned()
            };
            requests.push(Captured {
                name: path.display().to_string(),
                query: meta["target"].as_str().unwrap().split_once('?').unwrap().1.to_owned(),
                content_type: header("content-type"),
                is_encoded: header("content-encoding") == "gzip",
                body: read(&path.with_extension("body")),
            });
        }
    }
    requests
}

#[test]
fn what_agents_sent_is_read() {
    let captured = captured();
    for sent in &captured {
        let push = parse(sent.request(&sent.query, sent.body.clone())).unwrap().unwrap();
        let profile = decoded(&push);
        assert!(!profile.sample.is_empty(), "{}", sent.name);
        assert!(label(&push, "service_name").unwrap().contains("burn"), "{}", sent.name);
        if sent.name.contains("python") {
            let hot = stacks(&profile).into_keys().any(|stack| stack.contains("burn08.py hot_"));
            assert!(hot, "{}: the file stands in the name", sent.name);
        }
    }
    let count = captured.len();
    assert!(count == 0 || count == 21, "{count} requests were captured");
}

#[test]
fn what_agents_sent_and_a_network_damaged_is_read_or_refused() {
    let captured = captured();
    let pieces = bolero::generator::produce::<(u8, u16, Vec<u8>, u16, String)>();
    bolero::check!().with_iterations(300).with_generator(pieces).for_each(
        |(pick, at, bytes, query_at, text)| {
            let Some(sent) = captured.get(usize::from(*pick) % captured.len().max(1)) else {
                return;
            };
            let (mut query, mut body) = (sent.query.clone().into_bytes(), sent.body.clone());
            for (target, at, bytes) in
                [(&mut body, at, bytes.as_slice()), (&mut query, query_at, text.as_bytes())]
            {
                let at = usize::from(*at) % target.len();
                let end = (at + bytes.len()).min(target.len());
                target.splice(at..end, bytes.iter().copied());
            }
            let _ = parse(sent.request(&sent.query, body));
            let _ = parse(sent.request(&String::from_utf8_lossy(&query), sent.body.clone()));
        },
    );
}

#[test]
fn any_request_is_read_or_refused() {
    bolero::check!().with_type().for_each(
        |(query, content_type, body, encoded): &(String, String, Vec<u8>, bool)| {
            for query in [query.clone(), format!("name=a&{query}")] {
                let request = IngestRequest {
                    content_encoding_gzip: *encoded,
                    ..request(&query, content_type, body.clone())
                };
                let _ = parse(request);
            }
        },
    );
}
