//! Heads of small profiles, asked as the querier asks them; answers are compared with those of a walk over the input.

use std::collections::BTreeMap;

use prost::Message;
use proto::pprof;
use proto::rpc::select::{MatchOp, MatcherText, SelectReply, SelectRequest, Selection};

use super::*;
use crate::flamegraph::{Tree, tree_bytes};
use crate::hash::HashSecret;
use crate::head::{Append, HeadOptions, Heads};
use crate::identity::Identity;
use crate::labels::LabelSet;
use crate::pace::{Pace, run};
use crate::profile::{
    Admission, Function, Line, Location, Mapping, NONE, Outcome, PIPELINE_VERSION, Profile, Span,
    Step, ValueType,
};
use crate::profile_type::ProfileType;
use crate::tenant::{PartitionKey, TenantId};

pub(crate) const CPU: &str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds";

pub(crate) fn secret() -> HashSecret {
    let mut word = 5;
    HashSecret::from_words(|| {
        word += 3;
        word
    })
}

/// One profile of one series. A frame `a|b` is one location, `b` inlined into `a`; `@10` is an address without function;
/// `-a` has no mapping.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) tenant: &'static str,
    pub(crate) service: &'static str,
    pub(crate) labels: &'static [(&'static str, &'static str)],
    pub(crate) time_ms: i64,
    pub(crate) stacks: Vec<(String, i64)>,
    /// Sample types, and what they make of a value.
    pub(crate) kinds: &'static [Kind],
}

/// A sample type, and what it makes of a value.
pub(crate) type Kind = (&'static str, fn(i64) -> i64);

pub(crate) fn pushed(service: &'static str, time_ms: i64, stacks: &[(&str, i64)]) -> Pushed {
    let stacks = stacks.iter().map(|(stack, value)| ((*stack).to_owned(), *value)).collect();
    Pushed { tenant: "t", service, labels: &[], time_ms, stacks, kinds: &[("cpu", |value| value)] }
}

/// The profile's columns: what decoding would give.
fn columns(stacks: &[(String, i64)], kinds: &[Kind]) -> Profile {
    let mut profile =
        Profile { stack_starts: vec![0], label_starts: vec![0], ..Profile::default() };
    let text = |profile: &mut Profile, text: &str| {
        profile.strings.push(Span { start: profile.bytes.len() as u32, len: text.len() as u32 });
        profile.bytes.extend_from_slice(text.as_bytes());
        profile.strings.len() as u32 - 1
    };
    text(&mut profile, "");
    let (kind, unit) = (text(&mut profile, "cpu"), text(&mut profile, "nanoseconds"));
    for (kind, _) in kinds {
        let kind = text(&mut profile, kind);
        profile.sample_types.push(ValueType { kind, unit });
    }
    profile.period_type = Some(ValueType { kind, unit });
    let filename = text(&mut profile, "/bin/app");
    profile.mappings.push(Mapping { filename, ..Mapping::default() });
    let mut locations = BTreeMap::new();
    for (stack, value) in stacks {
        for frame in stack.split(';').rev().filter(|frame| !frame.is_empty()) {
            let location = *locations.entry(frame).or_insert_with(|| {
                let lines_start = profile.lines.len() as u32;
                let mut address = 0;
                match frame.strip_prefix('@') {
                    Some(hex) => address = u64::from_str_radix(hex, 16).unwrap(),
                    None => {
                        for name in frame.trim_start_matches('-').split('|').rev() {
                            let name = text(&mut profile, name);
                            profile.functions.push(Function { name, ..Function::default() });
                            let function = profile.functions.len() as u32 - 1;
                            profile.lines.push(Line { function, line: i64::from(function) + 1 });
                        }
                    }
                }
                let lines_count = profile.lines.len() as u32 - lines_start;
                profile.locations.push(Location {
                    mapping: if frame.starts_with('-') { NONE } else { 0 },
                    address,
                    lines_start,
                    lines_count,
                    is_folded: false,
                });
                profile.locations.len() as u32 - 1
            });
            profile.stack_locations.push(location);
        }
        profile.stack_starts.push(profile.stack_locations.len() as u32);
        profile.label_starts.push(0);
        profile.values.extend(kinds.iter().map(|(_, of)| of(*value)));
        profile.sample_groups.push(if *value > 0 { 0 } else { NONE });
    }
    profile.group_starts = vec![0, 0];
    profile
}

/// Heads as appends leave them; chunks are sealed every few rows.
pub(crate) fn heads_of(all: &[Pushed]) -> Heads {
    let options = HeadOptions { chunk_bytes_max: 64, ..HeadOptions::default() };
    let mut heads = Heads::new(secret(), options);
    let mut append = Append::default();
    for (at, one) in all.iter().enumerate() {
        let profile = columns(&one.stacks, one.kinds);
        let mut labels = vec![
            ("__name__".to_owned(), "process_cpu".to_owned()),
            ("service_name".to_owned(), one.service.to_owned()),
        ];
        labels.extend(one.labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let admission = Admission {
            pipeline_version: PIPELINE_VERSION,
            time_ns: one.time_ms * 1_000_000 + 7, // not a whole millisecond: ranges are
            stacktrace_depth_max: 0,
            symbol_bytes_max: 0,
            go_fixes: false,
            labels: LabelSet::from_pairs(labels),
            outcomes: vec![Outcome::Plain; one.kinds.len()],
        };
        let tenant = TenantId::parse(one.tenant).unwrap();
        let key = PartitionKey { tenant, service_name: one.service.into(), split: 0 };
        let identity = Identity { origin: 1, seq: at as u64 + 1 };
        append.begin(&heads, &key, identity, &profile, &admission);
        while append.step(&mut heads, &profile, &admission) == Step::More {}
    }
    heads
}

pub(crate) fn selection(
    matchers: &[(&str, MatchOp, &str)],
    start_ms: i64,
    end_ms: i64,
) -> Selection {
    let matchers = matchers
        .iter()
        .map(|(name, op, value)| MatcherText {
            name: (*name).to_owned(),
            op: *op,
            value: (*value).to_owned(),
        })
        .collect();
    Selection { tenants: vec!["t".to_owned()], matchers, start_ms, end_ms }
}

fn everything() -> Selection {
    selection(&[], i64::MIN / 2_000_000, i64::MAX / 2_000_000)
}

pub(crate) fn ask(heads: &Heads, request: SelectRequest) -> SelectReply {
    let mut select = Select::new(request, &secret()).unwrap();
    loop {
        if let Some(reply) = select.step(heads) {
            return reply;
        }
    }
}

fn names(heads: &Heads, request: SelectRequest) -> Vec<String> {
    match ask(heads, request) {
        SelectReply::Names(names) => names,
        other => panic!("asked for names, answered {other:?}"),
    }
}

/// Path → self value.
fn tree(heads: &Heads, selection: Selection, call_site: &[&str]) -> BTreeMap<String, i64> {
    let call_site = call_site.iter().map(ToString::to_string).collect();
    let SelectReply::Tree(part) = ask(heads, SelectRequest::Tree { selection, call_site }) else {
        panic!("asked for a tree")
    };
    let mut paths: Vec<String> = Vec::new();
    for (parent, name) in part.parents.iter().zip(&part.name_ids) {
        let name = &part.names[*name as usize];
        paths.push(match paths.get(*parent as usize) {
            Some(parent) => format!("{parent};{name}"),
            None => name.clone(),
        });
    }
    let named = paths.into_iter().zip(part.values);
    named.filter(|(_, value)| *value != 0).collect()
}

/// Stack (leaf last, `name:line` or address a line) → value.
fn told(profile: &pprof::Profile) -> BTreeMap<String, i64> {
    let text = |row: i64| profile.string_table[usize::try_from(row).unwrap()].as_str();
    let mut stacks = BTreeMap::new();
    for sample in &profile.sample {
        let frames = sample.location_id.iter().rev().map(|id| {
            let location = profile.location.iter().find(|l| l.id == *id).unwrap();
            let lines: Vec<String> = location
                .line
                .iter()
                .map(|line| {
                    let function =
                        profile.function.iter().find(|f| f.id == line.function_id).unwrap();
                    format!("{}:{}", text(function.name), line.line)
                })
                .collect();
            if lines.is_empty() { format!("{:#x}", location.address) } else { lines.join("|") }
        });
        let stack = frames.collect::<Vec<_>>().join(";");
        assert_eq!(stacks.insert(stack.clone(), sample.value[0]), None, "{stack} is told once");
    }
    stacks
}

fn pprof_of(
    heads: &[&Heads],
    selection: &Selection,
    call_site: &[&str],
    shape: Shape,
) -> pprof::Profile {
    let mut merged = MergedProfile::new(secret());
    for heads in heads {
        let call_site = call_site.iter().map(ToString::to_string).collect();
        let request = SelectRequest::Profile { selection: selection.clone(), call_site };
        let SelectReply::Profile(parts) = ask(heads, request) else { panic!("asked for profiles") };
        for part in parts {
            run(merged.merge(&part, &Pace::new())).unwrap();
        }
    }
    let (kind, pace) = (ProfileType::parse(CPU).unwrap(), Pace::new());
    let mut written = run(merged.into_pprof(&kind, 1000, shape, &pace));
    for block in written.samples {
        written.message.sample.extend(pprof::Profile::decode(block).unwrap().sample);
    }
    written.message
}

fn map(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
    pairs.iter().map(|(stack, value)| ((*stack).to_owned(), *value)).collect()
}

#[test]
fn a_range_holds_both_of_its_milliseconds() {
    let heads = heads_of(&[
        pushed("s", 10, &[("a", 1)]),
        pushed("s", 20, &[("a", 2)]),
        pushed("s", 30, &[("a", 4)]),
    ]);
    for (start, end, sum) in [(10, 30, 7), (10, 10, 1), (11, 29, 2), (20, 30, 6), (11, 19, 0)] {
        let found = tree(&heads, selection(&[], start, end), &[]);
        assert_eq!(found.values().sum::<i64>(), sum, "{start} to {end}");
    }
}

#[test]
fn a_series_is_in_range_only_with_a_row_there() {
    let heads = heads_of(&[pushed("s", 10, &[("a", 1)]), pushed("s", 30, &[("a", 1)])]);
    let services = |start, end| {
        let selection = selection(&[], start, end);
        names(&heads, SelectRequest::LabelValues { selection, name: "service_name".to_owned() })
    };
    assert_eq!(services(5, 10), ["s"]);
    assert_eq!(services(30, 40), ["s"]);
    assert_eq!(services(0, 100), ["s"]);
    assert!(services(11, 29).is_empty(), "rows lie before and behind, none in it");
    assert!(services(31, 40).is_empty());
}

#[test]
fn labels_are_told_sorted_and_once() {
    let mut all =
        vec![pushed("b", 1, &[("x", 1)]), pushed("a", 1, &[("x", 1)]), pushed("a", 2, &[("x", 1)])];
    all[1].labels = &[("env", "prod"), ("dotted.name", "v")];
    all.push(Pushed { tenant: "other", ..pushed("secret", 1, &[("x", 1)]) });
    let heads = heads_of(&all);
    let value = |name: &str| {
        names(&heads, SelectRequest::LabelValues { selection: everything(), name: name.to_owned() })
    };
    assert_eq!(value("service_name"), ["a", "b"]);
    assert_eq!(value("__profile_type__"), [CPU]);
    assert!(value("nope").is_empty());
    let of_prod = selection(&[("env", MatchOp::Equal, "prod")], 0, 10);
    let found = names(&heads, SelectRequest::LabelNames(of_prod));
    assert!(found.is_sorted() && found.contains(&"dotted.name".to_owned()), "{found:?}");
    let request = SelectRequest::Series {
        selection: everything(),
        label_names: vec!["service_name".to_owned(), "env".to_owned()],
    };
    let SelectReply::Series(sets) = ask(&heads, request) else { panic!("asked for series") };
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    assert_eq!(
        sets,
        [
            vec![pair("env", "prod"), pair("service_name", "a")],
            vec![pair("service_name", "a")],
            vec![pair("service_name", "b")]
        ]
    );
}

/// A cut may freeze the heads that a read is in the middle of, and publish them before it has come to their end.
#[test]
fn a_read_counts_every_row_once_though_heads_are_frozen_and_retired_under_it() {
    let names: Vec<String> = (0..40).map(|i| format!("f{i}")).collect();
    let all: Vec<Pushed> = (0..90)
        .map(|i| {
            let stacks: Vec<_> = names.iter().map(|name| (name.as_str(), i + 1)).collect();
            pushed(["s", "t", "u"][i as usize % 3], i, &stacks)
        })
        .collect();
    let request = || SelectRequest::Tree { selection: everything(), call_site: Vec::new() };
    let SelectReply::Tree(expected) = ask(&heads_of(&all), request()) else {
        panic!("asked for a tree")
    };
    let tenant = TenantId::parse("t").unwrap();
    let mut steps = 0;
    for turn in 0.. {
        let mut heads = heads_of(&all);
        let mut select = Select::new(request(), &secret()).unwrap();
        select.pin(&heads);
        let (mut at, mut reply) = (0, None);
        while reply.is_none() {
            if at == turn {
                let first = heads.freeze(&tenant).unwrap();
                heads.retire(first.id());
            }
            reply = select.step(&heads);
            at += 1;
        }
        let Some(SelectReply::Tree(part)) = reply else { panic!("asked for a tree") };
        assert_eq!(part, expected, "frozen and retired before step {turn}");
        drop(select);
        drop(heads.take_unseen());
        assert_eq!(heads.frozen().len(), 0, "nothing is kept behind the last reader");
        steps = steps.max(at);
        if turn >= at {
            break;
        }
    }
    assert!(steps > 6, "{steps} steps: some of them lie within a head");
}

#[test]
fn several_tenants_are_merged_and_no_other_is_seen() {
    let mut all =
        vec![pushed("s", 1, &[("a", 1)]), pushed("s", 2, &[("a", 2)]), pushed("s", 3, &[("a", 4)])];
    all[1].tenant = "u";
    all[2].tenant = "v";
    let heads = heads_of(&all);
    let of = |tenants: &[&str]| {
        let tenants = tenants.iter().map(ToString::to_string).collect();
        tree(&heads, Selection { tenants, ..everything() }, &[])
    };
    assert_eq!(of(&["t"]), map(&[("a", 1)]));
    assert_eq!(of(&["t", "v"]), map(&[("a", 5)]));
    assert!(of(&["w"]).is_empty());
    let stats = |tenant: &str| ask(&heads, SelectRequest::Stats { tenant: tenant.to_owned() });
    let SelectReply::Stats(u) = stats("u") else { panic!("asked for stats") };
    assert_eq!((u.data_ingested, u.oldest_ms, u.newest_ms), (true, 2, 2));
    let SelectReply::Stats(w) = stats("w") else { panic!("asked for stats") };
    assert_eq!(w, proto::rpc::select::StatsPart::default());
}

#[test]
fn inlined_lines_are_nodes_and_addresses_have_their_binarys_name() {
    let heads =
        heads_of(&[pushed("s", 1, &[("main;outer|inner;leaf", 3), ("main;@1f", 2), ("", 9)])]);
    assert_eq!(
        tree(&heads, everything(), &[]),
        map(&[("main;outer;inner;leaf", 3), ("main;app!0x1f", 2)]),
        "the empty stack is not drawn"
    );
    let profile = pprof_of(&[&heads], &everything(), &[], Shape::Nodes(0));
    assert_eq!(
        told(&profile),
        map(&[("main:3;inner:1|outer:2;leaf:4", 3), ("main:3;0x1f", 2), ("", 9)])
            .into_iter()
            .map(|(stack, value)| (renumbered(&stack, &profile), value))
            .collect()
    );
}

/// Lines are numbered as functions are met; names alone tell frames apart.
fn renumbered(stack: &str, profile: &pprof::Profile) -> String {
    let line_of = |name: &str| {
        let text = |row: i64| profile.string_table[usize::try_from(row).unwrap()].as_str();
        let function = profile.function.iter().find(|f| text(f.name) == name).unwrap();
        let lines = profile.location.iter().flat_map(|l| &l.line);
        lines.filter(|l| l.function_id == function.id).map(|l| l.line).next().unwrap()
    };
    let frame = |frame: &str| match frame.rsplit_once(':') {
        Some((name, _)) => format!("{name}:{}", line_of(name)),
        None => frame.to_owned(),
    };
    let location = |l: &str| l.split('|').map(frame).collect::<Vec<_>>().join("|");
    stack.split(';').map(location).collect::<Vec<_>>().join(";")
}

const SITES: [(&str, i64); 5] = [
    ("main;serve;handle;db", 10),
    ("main;serve;handle", 5),
    ("main;serve;log", 3),
    ("main;gc", 2),
    ("other;serve;handle;db", 100),
];

/// The kit's case `call_sites`.
#[test]
fn a_call_site_keeps_stacks_that_begin_with_it() {
    let heads = heads_of(&[pushed("s", 1, &SITES)]);
    for (site, kept) in [
        (&[][..], &SITES[..]),
        (&["main"], &SITES[..4]),
        (&["main", "serve"], &SITES[..3]),
        (&["main", "serve", "handle"], &SITES[..2]),
        (&["serve"], &[]),
        (&["main", "nope"], &[]),
        (&["main", "serve", "handle", "db", "more"], &[]),
    ] {
        assert_eq!(tree(&heads, everything(), site), map(kept), "{site:?}");
        let profile = pprof_of(&[&heads], &everything(), site, Shape::Nodes(0));
        let values: i64 = profile.sample.iter().map(|s| s.value[0]).sum();
        assert_eq!(values, kept.iter().map(|(_, v)| v).sum::<i64>());
        assert_eq!(
            profile.period, 1_000_000_000,
            "there are profiles, though none of their stacks"
        );
        let points = SelectRequest::Points {
            selection: selection(&[], -100, 100),
            grid_start_ms: 100,
            step_ms: 200,
            group_by: Vec::new(),
            call_site: site.iter().map(ToString::to_string).collect(),
        };
        let SelectReply::Points(parts) = ask(&heads, points) else { panic!("asked for points") };
        let sum: i64 = parts.iter().flat_map(|p| &p.points).map(|(_, sum, _)| sum).sum();
        assert_eq!(sum, values);
    }
    let inlined = heads_of(&[pushed("s", 1, &[("main;a|b;c", 1), ("main;a|x;c", 2)])]);
    assert_eq!(tree(&inlined, everything(), &["main", "a", "b"]), map(&[("main;a;b;c", 1)]));
    assert_eq!(tree(&inlined, everything(), &["main", "a"]).len(), 2);
}

/// The kit's case `series_grid`: a point at `t` sums `(t - step, t]`.
#[test]
fn points_lie_on_the_grid() {
    let times =
        [-20_000, -15_000, -14_999, -1, 0, 1, 14_999, 15_000, 15_001, 29_000, 45_000, 60_000];
    let mut all: Vec<Pushed> = (1..)
        .zip(times)
        .map(|(value, time)| pushed("g", time + 100_000, &[("main;a", value)]))
        .collect();
    for one in &mut all {
        one.labels = &[("pod", "1")];
    }
    for time in [0, 30_000] {
        all.push(Pushed {
            labels: &[("pod", "2")],
            ..pushed("g", time + 100_000, &[("main;a", 100)])
        });
    }
    let heads = heads_of(&all);
    let points = |start: i64, end: i64, step_ms: i64, group_by: &[&str]| {
        let (start, end) = (start + 100_000, end + 100_000);
        let request = SelectRequest::Points {
            selection: selection(&[], start - step_ms, end),
            grid_start_ms: start,
            step_ms,
            group_by: group_by.iter().map(ToString::to_string).collect(),
            call_site: Vec::new(),
        };
        let SelectReply::Points(parts) = ask(&heads, request) else { panic!("asked for points") };
        parts
    };
    let told = |parts: &[proto::rpc::select::PointsPart]| -> Vec<(i64, i64)> {
        parts.iter().flat_map(|p| &p.points).map(|(t, sum, _)| (t - 100_000, *sum)).collect()
    };
    assert_eq!(
        told(&points(0, 60_000, 15_000, &[])),
        [(0, 114), (15_000, 21), (30_000, 119), (45_000, 11), (60_000, 12)]
    );
    assert_eq!(
        told(&points(7_000, 52_000, 10_000, &[])),
        [(7_000, 115), (17_000, 24), (37_000, 110), (47_000, 11)]
    );
    assert_eq!(told(&points(-1, 1, 1, &[])), [(-1, 4), (0, 105), (1, 6)]);
    let grouped = points(0, 60_000, 60_000, &["pod", "nope", "pod"]);
    assert_eq!(grouped.len(), 2);
    assert_eq!(grouped[0].labels, [("pod".to_owned(), "1".to_owned())]);
    assert_eq!(told(&grouped), [(0, 15), (60_000, 63), (0, 100), (60_000, 100)]);
    assert_eq!(grouped[0].points[0].2, 5, "profiles are counted, not values");
}

#[test]
fn a_merged_profile_tells_its_type_and_what_was_cut() {
    let left = heads_of(&[pushed("a", 1, &[("main;x;deep", 50), ("main;y", 7)])]);
    let right = heads_of(&[pushed("b", 1, &[("main;x;deep", 40), ("main;z", 3), ("lone", 1)])]);
    let profile = pprof_of(&[&left, &right], &everything(), &[], Shape::Nodes(0));
    let text = |row: i64| profile.string_table[usize::try_from(row).unwrap()].as_str();
    assert_eq!(text(profile.default_sample_type), "cpu");
    assert_eq!(text(profile.sample_type[0].unit), "nanoseconds");
    assert_eq!(text(profile.period_type.unwrap().r#type), "cpu");
    assert_eq!(
        (profile.time_nanos, profile.period, profile.duration_nanos),
        (1_000_000_000, 1_000_000_000, 0)
    );
    assert_eq!(profile.mapping.len(), 1, "equal symbols of two shards are one");
    assert_eq!(profile.sample.iter().map(|s| s.value[0]).sum::<i64>(), 101);

    let cut = pprof_of(&[&left, &right], &everything(), &[], Shape::Nodes(3));
    let names: Vec<String> = told(&cut)
        .into_iter()
        .map(|(stack, value)| {
            let names: Vec<_> = stack.split(';').map(|f| f.rsplit_once(':').unwrap().0).collect();
            format!("{} {value}", names.join(";"))
        })
        .collect();
    assert_eq!(names, ["main;other 10", "main;x;deep 90", "other 1"]);
    let texts = &cut.string_table;
    assert!(
        !texts.contains(&"lone".to_owned()),
        "symbols that nothing names are left out: {texts:?}"
    );
}

#[test]
fn every_location_has_a_mapping() {
    let heads = heads_of(&[pushed("a", 1, &[("main;-jit", 1), ("-jit;main", 2)])]);
    let profile = pprof_of(&[&heads], &everything(), &[], Shape::Nodes(0));
    let ids: Vec<u64> = profile.mapping.iter().map(|m| m.id).collect();
    assert_eq!(ids, [1, 2]);
    assert!(profile.location.iter().all(|l| ids.contains(&l.mapping_id)));
    let cut = pprof_of(&[&heads], &everything(), &[], Shape::Nodes(1));
    assert!(cut.location.iter().all(|l| l.mapping_id != 0), "what was cut too");
}

#[test]
fn no_profile_at_all_is_the_empty_message() {
    let heads = heads_of(&[pushed("a", 1, &[("main", 1)])]);
    let none = selection(&[("service_name", MatchOp::Equal, "nobody")], 0, 10);
    assert_eq!(pprof_of(&[&heads], &none, &[], Shape::Nodes(0)), pprof::Profile::default());
    assert!(tree(&heads, none, &[]).is_empty());
}

/// The kit's case `call_sites`, step `go_pgo`.
#[test]
fn go_pgo_keeps_leaves_and_joins_equal_callees() {
    let heads = heads_of(&[pushed("s", 1, &SITES)]);
    let shape = Shape::GoPgo { keep_locations: 2, aggregate_callees: true };
    let profile = pprof_of(&[&heads], &everything(), &[], shape);
    let found = told(&profile);
    let main_line = found.keys().find_map(|k| k.strip_suffix(";gc:0")).unwrap().to_owned();
    let serve_line = found.keys().find_map(|k| k.strip_suffix(";log:0")).unwrap().to_owned();
    assert!(main_line.starts_with("main:") && main_line != "main:0");
    let expected = [
        ("handle:0;db:0".to_owned(), 110),
        (format!("{main_line};gc:0"), 2),
        (format!("{serve_line};handle:0"), 5),
        (format!("{serve_line};log:0"), 3),
    ];
    assert_eq!(found, expected.into_iter().collect());
}

/// Trees and profiles of any input equal a walk over it, whatever the split over shards.
#[test]
fn answers_equal_a_walk_over_the_input() {
    type Seed = (Vec<(u8, u8, Vec<(u16, u8)>)>, u8, u8);
    const SERVICES: [&str; 3] = ["a", "b", "c"];
    const STACKS: [&str; 7] = ["m", "m;a", "m;a|b;c", "m;a|b", "n;a", "n;@ff;x", "m;c;c;c"];
    const EXPANDED: [&str; 7] = ["m", "m;a", "m;a;b;c", "m;a;b", "n;a", "n;app!0xff;x", "m;c;c;c"];
    bolero::check!().with_type::<Seed>().for_each(|(seed, from, length)| {
        let all: Vec<Pushed> = seed
            .iter()
            .map(|(service, time, stacks)| {
                let stacks: Vec<_> = stacks
                    .iter()
                    .map(|(value, stack)| (STACKS[usize::from(stack % 7)], i64::from(*value)))
                    .collect();
                pushed(SERVICES[usize::from(service % 3)], i64::from(*time), &stacks)
            })
            .collect();
        let (start, end) = (i64::from(*from), i64::from(*from) + i64::from(*length));
        let matcher = [("service_name", MatchOp::NotEqual, "b")];
        let mut expected: BTreeMap<String, i64> = BTreeMap::new();
        for one in all.iter().filter(|p| p.service != "b" && (start..=end).contains(&p.time_ms)) {
            for (stack, value) in one.stacks.iter().filter(|(_, value)| *value > 0) {
                let at = STACKS.iter().position(|s| s == stack).unwrap();
                *expected.entry(EXPANDED[at].to_owned()).or_default() += value;
            }
        }
        let (left, right) = all.split_at(all.len() / 2);
        let shards = [heads_of(left), heads_of(right)];
        let mut merged = Tree::new(&secret());
        for heads in &shards {
            let request = SelectRequest::Tree {
                selection: selection(&matcher, start, end),
                call_site: Vec::new(),
            };
            let SelectReply::Tree(part) = ask(heads, request) else { panic!("asked for a tree") };
            assert!(part.parents.len() < 64, "only nodes with data, or below which there is data");
            run(merged.merge(&part, &Pace::new())).unwrap();
        }
        let whole = heads_of(&all);
        let once = tree(&whole, selection(&matcher, start, end), &[]);
        assert_eq!(once, expected);
        let total: i64 = merged.values().iter().sum();
        assert_eq!(total, expected.values().sum::<i64>());
        let bytes = run(tree_bytes(&merged, 0, &Pace::new()));
        assert_eq!(bytes.is_empty(), expected.is_empty());
        let shards: Vec<&Heads> = shards.iter().collect();
        let profile = pprof_of(&shards, &selection(&matcher, start, end), &[], Shape::Nodes(0));
        assert_eq!(profile.sample.iter().map(|s| s.value[0]).sum::<i64>(), total);
    });
}
