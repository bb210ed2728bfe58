//! What is pushed is read back with prost and an inflater, as a server would.

use std::collections::BTreeSet;
use std::io::Read;

use prost::Message;
use proto::pprof::Profile;
use proto::push::PushRequest;

use super::*;

const SHAPE: Shape = Shape { samples: 50, depth: 20, new_share: 0.2 };

fn workload(source: Source, services: u64, pods: u64, times: Times) -> Workload {
    Workload::new(Spec { source, services, first_service: 0, pods, seed: 7, times }).unwrap()
}

fn sent(workload: &Workload, number: u64, time_ns: i64) -> (Vec<(String, String)>, Profile) {
    let body = workload.push_request(number, time_ns);
    let bytes = [body.head.as_slice(), body.shared, &body.own].concat();
    assert_eq!(bytes.len(), body.len());
    let request = PushRequest::decode(bytes.as_slice()).unwrap();
    assert_eq!((request.series.len(), request.series[0].samples.len()), (1, 1));
    let series = &request.series[0];
    let labels = series.labels.iter().map(|pair| (pair.name.clone(), pair.value.clone()));
    let sample = &series.samples[0];
    assert_eq!(sample.id, number.to_string());
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(sample.raw_profile.as_ref()).read_to_end(&mut plain).unwrap();
    (labels.collect(), Profile::decode(plain.as_slice()).unwrap())
}

/// Names of a profile's stacks, leaf first, with their values.
fn stacks(profile: &Profile) -> Vec<(Vec<String>, Vec<i64>)> {
    let name_of = |location: &u64| {
        let location = profile.location.iter().find(|l| l.id == *location).unwrap();
        let function = location.line[0].function_id;
        let function = profile.function.iter().find(|f| f.id == function).unwrap();
        profile.string_table[function.name as usize].clone()
    };
    let samples = profile.sample.iter();
    samples.map(|s| (s.location_id.iter().map(name_of).collect(), s.value.clone())).collect()
}

#[test]
fn a_made_up_profile_is_what_its_number_says() {
    let workload = workload(Source::Generated(SHAPE), 1, 1, Times::Sending);
    let (_, profile) = sent(&workload, 41, 99);
    assert_eq!(profile.time_nanos, 99);
    let mut stacks = stacks(&profile);
    let (leaf, values) = stacks.pop().unwrap();
    assert_eq!((leaf, values), (vec![leaf_name(41)], vec![leaf_value(41, 0), leaf_value(41, 1)]));
    let told: Vec<_> = SHAPE
        .samples(7, 41, 41)
        .map(|drawn| {
            let frames = SHAPE.frames(7, drawn.stack).map(function_name).collect::<Vec<_>>();
            (frames, drawn.values().map(u64::cast_signed).to_vec())
        })
        .collect();
    assert_eq!(stacks, told);
    assert!(told.iter().all(|(frames, _)| frames.len() == 20));
}

#[test]
fn ingest_is_told_the_same_labels_and_sent_the_same_profile() {
    let workload = workload(Source::Generated(SHAPE), 2, 2, Times::Sending);
    let (path, body) = workload.ingest_request(3, 99);
    let name = "loadtest-1%7Binstance%3D10.0.1.1%3A4040%2Cnamespace%3Dshop%2Cpod%3Dloadtest-1-1%7D";
    assert_eq!(path, format!("/ingest?format=pprof&name={name}"));
    let pushed = workload.push_request(3, 99);
    assert_eq!((body.head.len(), body.shared, body.own), (0, pushed.shared, pushed.own));
}

#[test]
fn consecutive_profiles_share_all_but_the_new_stacks() {
    let stacks = |number| SHAPE.samples(7, number, number).map(|drawn| drawn.stack);
    let before: BTreeSet<u64> = stacks(99).collect();
    let shared = stacks(100).filter(|stack| before.contains(stack)).count();
    // 40 of 50 are from the pool, and an eighth of those gives way from push to push.
    assert!((30..=40).contains(&shared), "{shared}");
    let bomb = Shape { new_share: 1.0, ..SHAPE };
    let all: BTreeSet<u64> =
        (0..100).flat_map(|n| bomb.samples(7, n, n)).map(|drawn| drawn.stack).collect();
    assert_eq!(all.len(), 5_000, "each stack of a bomb is new");
}

#[test]
fn near_stacks_share_their_way_from_the_root() {
    let paths = |stack| SHAPE.frames(7, stack).collect::<Vec<_>>();
    let (one, next) = (paths(64), paths(65));
    assert_eq!(one[1..], next[1..]);
    let apart = paths(1 << 45);
    assert_ne!(one[4..], apart[4..]);
}

/// A folder with kinds of two profiles each, whose values tell them apart.
fn folder(kinds: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (row, kind) in kinds.iter().enumerate() {
        std::fs::create_dir_all(folder.path().join(kind)).unwrap();
        for at in 0..2 {
            let mut profile = Profile::decode(generated::tables().as_slice()).unwrap();
            profile.time_nanos = 5;
            profile.sample.push(proto::pprof::Sample {
                location_id: (1..=9).collect(),
                value: vec![1, row as i64 * 10 + at],
                label: Vec::new(),
            });
            let path = folder.path().join(kind).join(format!("{at:04}.pb"));
            std::fs::write(path, profile.encode_to_vec()).unwrap();
        }
    }
    folder
}

#[test]
fn a_series_is_replayed_in_order_at_times_of_its_own() {
    let folder = folder(&["rust/cpu", "node/heap"]);
    let second = 1_000_000_000;
    let times = Times::Consecutive { from_ns: 1_000 * second, interval_ns: 15 * second };
    let workload = workload(Source::Series(folder.path().to_owned()), 3, 2, times);
    assert_eq!(workload.targets().len(), 6);
    let mut first = Vec::new();
    for number in 0..18 {
        let (labels, profile) = sent(&workload, number, workload.time_ns(number, 0));
        let label = |name: &str| labels.iter().find(|(n, _)| n == name).unwrap().1.clone();
        let (service, pod) = (label("service_name"), label("pod"));
        let (target, round) = (number % 6, number / 6);
        let services = ["rust-cpu-0", "node-heap-0", "rust-cpu-1"];
        assert_eq!(service, services[target as usize / 2]);
        assert_eq!(pod, format!("{service}-{}", target % 2));
        let name = if service.starts_with("rust") { "process_cpu" } else { "memory" };
        assert_eq!(label("__name__"), name);
        let moment = target as i64 * 15 * second / 6;
        assert_eq!(profile.time_nanos, (1_000 + 15 * round as i64) * second + moment);
        // The file's sample, then the push's own on the frames nearest the root.
        let stacks = stacks(&profile);
        assert_eq!(stacks.len(), 2);
        assert_eq!(stacks[1].0[0], leaf_name(number));
        assert_eq!(stacks[1].0[1..], stacks[0].0[3..]);
        let kind = if service.starts_with("rust") { 0 } else { 10 };
        let at = stacks[0].1[1] - kind;
        assert!((0..2).contains(&at));
        if round == 0 {
            first.push(at);
        }
        assert_eq!(at, (first[target as usize] + round as i64) % 2, "one after the other");
    }
}

#[test]
fn what_cannot_be_pushed_is_said() {
    let empty = tempfile::tempdir().unwrap();
    let of = |source, services| {
        let spec =
            Spec { source, services, first_service: 0, pods: 1, seed: 1, times: Times::Sending };
        Workload::new(spec).map(|_| ()).unwrap_err()
    };
    let here = empty.path().to_owned();
    assert!(of(Source::Series(here.clone()), 1).contains("none of go-server/cpu"));
    assert!(of(Source::Files(here.clone()), 1).contains("no profile files"));
    assert!(of(Source::Generated(Shape { depth: 0, ..SHAPE }), 1).contains("frames"));
    assert!(of(Source::Generated(SHAPE), 0).contains("services"));
    std::fs::write(here.join("x.pb"), b"\xff").unwrap();
    assert!(of(Source::Files(here), 1).contains("x.pb"));
}
