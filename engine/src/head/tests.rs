//! Laws of heads, against an oracle that sums names in maps.

use std::collections::BTreeMap;

mod scan;

use super::*;
use crate::labels::LabelSet;
use crate::profile::{
    Admission, Function, Line, Location, Mapping, NONE, Outcome, PIPELINE_VERSION, Profile,
    SampleLabel, Span, Step, ValueType,
};
use crate::symbols::NodeId;
use crate::tenant::{PartitionKey, TenantId};

/// Stack of location contents (leaf first), label group, values of three columns.
type Sample = (Vec<u8>, u8, [u8; 3]);

/// Sums by series labels, then by stack, root first.
type Sums = BTreeMap<LabelSet, BTreeMap<Vec<String>, i64>>;

const LOCATIONS: u8 = 24;
const FUNCTIONS: u8 = 8;
const GROUPS: u8 = 3;

fn secret() -> HashSecret {
    let mut word = 1_u64;
    HashSecret::from_words(move || {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        word ^ (word >> 31)
    })
}

fn heads() -> Heads {
    Heads::new(secret(), HeadOptions::default())
}

fn key(service_name: &str) -> PartitionKey {
    PartitionKey { tenant: TenantId::anonymous(), service_name: service_name.into(), split: 0 }
}

/// Columns of a profile; `turn` rotates the rows of all tables, so that equal contents have other rows in each profile.
fn profile(samples: &[Sample], turn: usize) -> Profile {
    let mut p = Profile::default();
    let string = |p: &mut Profile, text: String| {
        p.strings.push(Span { start: p.bytes.len() as u32, len: text.len() as u32 });
        p.bytes.extend_from_slice(text.as_bytes());
        p.strings.len() as u32 - 1
    };
    let turned = |at: u8, of: u8| (usize::from(at) + turn) % usize::from(of);
    string(&mut p, String::new());
    for kind in ["cpu", "alloc", "wall"] {
        let (kind, unit) = (string(&mut p, kind.to_owned()), string(&mut p, "count".to_owned()));
        p.sample_types.push(ValueType { kind, unit });
    }
    for at in 0..2 {
        let filename = string(&mut p, format!("lib{at}"));
        p.mappings.push(Mapping { filename, has_functions: at == 1, ..Mapping::default() });
    }
    for at in 0..FUNCTIONS {
        let content = turned(at, FUNCTIONS);
        let name = string(&mut p, format!("f{content}"));
        let filename = string(&mut p, format!("file{}", content % 2));
        p.functions.push(Function { name, system_name: name, filename, start_line: -7 });
    }
    for at in 0..LOCATIONS {
        let content = turned(at, LOCATIONS);
        let row = |function: usize| {
            ((function + usize::from(FUNCTIONS) - turn % usize::from(FUNCTIONS))
                % usize::from(FUNCTIONS)) as u32
        };
        let lines_start = p.lines.len() as u32;
        let lines_count = content % 3;
        for line in 0..lines_count {
            let line_number = if content == 7 { i64::MAX } else { content as i64 };
            p.lines.push(Line { function: row(content + line), line: line_number });
        }
        p.locations.push(Location {
            mapping: if content % 4 == 0 { NONE } else { content as u32 % 2 },
            address: if lines_count == 0 { content as u64 } else { 0 },
            lines_start,
            lines_count: lines_count as u32,
            is_folded: content == 5,
        });
    }
    let (label, values) = (string(&mut p, "zone".to_owned()), p.strings.len() as u32);
    for group in 0..GROUPS {
        string(&mut p, format!("z{group}"));
    }
    p.stack_starts.push(0);
    p.label_starts.push(0);
    p.group_starts.push(0);
    let mut groups = Vec::new();
    for (stack, group, row) in samples {
        p.stack_locations.extend(stack.iter().map(|content| {
            let of = usize::from(LOCATIONS);
            ((usize::from(content % LOCATIONS) + of - turn % of) % of) as u32
        }));
        p.stack_starts.push(p.stack_locations.len() as u32);
        p.label_starts.push(0);
        p.values.extend(row.iter().map(|value| i64::from(*value) * 1_000_000_007));
        if row.iter().all(|value| *value == 0) {
            p.sample_groups.push(NONE);
            continue;
        }
        let group = group % GROUPS;
        let at = groups.iter().position(|g| *g == group).unwrap_or_else(|| {
            groups.push(group);
            p.group_labels.push(SampleLabel { key: label, value: values + u32::from(group) });
            p.group_starts.push(p.group_labels.len() as u32);
            groups.len() - 1
        });
        p.sample_groups.push(at as u32);
    }
    p
}

fn series_of_push() -> LabelSet {
    let pairs = [("__name__", "process_cpu"), ("service_name", "shop")];
    LabelSet::from_pairs(pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec())
}

/// Every bit of `dropped` drops one (group, column).
fn admission(profile: &Profile, time_ns: i64, dropped: u16) -> Admission {
    let outcomes = (0..profile.groups_count() * profile.sample_types.len())
        .map(|at| if dropped >> at & 1 == 1 { Outcome::Dropped } else { Outcome::Plain })
        .collect();
    Admission {
        pipeline_version: PIPELINE_VERSION,
        time_ns,
        stacktrace_depth_max: 0,
        symbol_bytes_max: 0,
        go_fixes: false,
        labels: series_of_push(),
        outcomes,
    }
}

/// One profile a time: most tests send no two.
fn identity(admission: &Admission) -> Identity {
    Identity { origin: 1, seq: admission.time_ns.cast_unsigned() }
}

fn append(heads: &mut Heads, key: &PartitionKey, profile: &Profile, admission: &Admission) {
    let mut append = Append::default();
    append.begin(heads, key, identity(admission), profile, admission);
    while append.step(heads, profile, admission) == Step::More {}
}

/// The oracle: what a location is called, and sums of names.
fn add_to_oracle(sums: &mut Sums, p: &Profile, admission: &Admission) {
    let columns = p.sample_types.len();
    for sample in 0..p.samples_count() {
        let group = p.sample_groups[sample];
        if group == NONE {
            continue;
        }
        let rows = p.stack_starts[sample] as usize..p.stack_starts[sample + 1] as usize;
        let mut stack: Vec<String> = p.stack_locations[rows]
            .iter()
            .map(|row| {
                let l = &p.locations[*row as usize];
                let lines = &p.lines[l.lines_start as usize..][..l.lines_count as usize];
                let lines: Vec<String> = lines
                    .iter()
                    .map(|line| {
                        let f = &p.functions[line.function as usize];
                        let (name, file) = (p.string(f.name), p.string(f.filename));
                        format!("{name}/{file}/{}/{}", f.start_line, line.line)
                    })
                    .collect();
                let mapping = p.mappings.get(l.mapping as usize);
                let mapping = mapping.map_or("-", |m| p.string(m.filename));
                format!("{mapping} {} {} {}", l.address, l.is_folded, lines.join(","))
            })
            .collect();
        stack.reverse();
        for column in 0..columns {
            let value = p.values[sample * columns + column];
            let outcome = &admission.outcomes[group as usize * columns + column];
            if value != 0 && *outcome != Outcome::Dropped {
                let labels =
                    crate::profile::series_labels(p, admission, group as usize, column, outcome);
                let sum = sums.entry(labels).or_default().entry(stack.clone()).or_default();
                *sum = sum.saturating_add(value);
            }
        }
    }
}

/// Names of a stack, root first, written as the oracle writes them.
fn names(symbols: &Symbols, mut node: NodeId) -> Vec<String> {
    let mut stack = Vec::new();
    while let (Some(location), Some(parent)) = (symbols.location(node), symbols.parent(node)) {
        let lines: Vec<String> = symbols
            .lines(location)
            .map(|line| {
                let f = symbols.function(line.function);
                let (name, file) = (symbols.string(f.name), symbols.string(f.filename));
                format!("{name}/{file}/{}/{}", f.start_line, line.line)
            })
            .collect();
        let mapping = symbols.mapping_of(location).map(|id| symbols.mapping(id));
        let mapping = mapping.map_or("-", |m| symbols.string(m.filename));
        let (address, folded) = (symbols.address_of(location), symbols.is_folded(location));
        stack.push(format!("{mapping} {address} {folded} {}", lines.join(",")));
        node = parent;
    }
    stack.reverse();
    stack
}

/// What a head holds, read a few values at a time.
fn read(head: &Head) -> Sums {
    let mut sums = Sums::new();
    let mut cursor = head.cursor();
    let mut more = true;
    while more {
        let step = head.scan(
            |_| true,
            i64::MIN,
            i64::MAX,
            &mut cursor,
            7,
            |row| {
                let labels = head.series()[row.series.0 as usize].labels.clone();
                let by_stack = sums.entry(labels).or_default();
                let mut total = 0_i64;
                let values = row.for_each_sample(|node, value| {
                    let sum = by_stack.entry(names(head.symbols(), node)).or_default();
                    *sum = sum.saturating_add(value);
                    total = total.saturating_add(value);
                    assert_ne!(value, 0, "a row has no zero values");
                });
                assert_eq!(total, row.total, "a row's total is the sum of its values");
                values
            },
        );
        more = step == Step::More;
    }
    sums
}

fn check_invariants(heads: &Heads) {
    let frozen = heads.frozen().flat_map(|frozen| frozen.iter());
    let recounted: usize = heads.iter().chain(frozen).map(|(_, head)| head.bytes_recounted()).sum();
    assert_eq!(heads.bytes_held(), recounted, "accounting equals a full recount");
    for (_, head) in heads.iter() {
        let (parents, _) = head.symbols().tree_columns();
        let mut nodes = parents.iter().zip(0_u32..).skip(1);
        assert!(nodes.all(|(parent, node)| *parent < node), "parents come before children");
    }
}

#[test]
fn a_head_holds_what_an_oracle_sums() {
    bolero::check!().with_type::<Vec<(Vec<Sample>, u16, u8)>>().for_each(|pushes| {
        let (mut heads, mut oracle) = (heads(), Sums::new());
        for (samples, dropped, turn) in pushes {
            let profile = profile(samples, usize::from(*turn));
            let admission = admission(&profile, 1, *dropped);
            append(&mut heads, &key("shop"), &profile, &admission);
            add_to_oracle(&mut oracle, &profile, &admission);
        }
        check_invariants(&heads);
        let head = heads.get(&key("shop"));
        assert_eq!(head.map(read).unwrap_or_default(), oracle);
    });
}

/// Many samples and stacks: every phase takes several steps.
fn large_profile() -> Profile {
    let samples: Vec<Sample> = (0..30_000_u32)
        .map(|i| {
            let stack = (0..8).map(|digit| (i.wrapping_mul(2_654_435_761) >> (3 * digit)) as u8);
            (stack.collect(), (i % 7) as u8, [1, (i % 2) as u8, (i % 251) as u8])
        })
        .collect();
    profile(&samples, 3)
}

#[test]
fn rows_of_a_profile_become_visible_together() {
    let (mut heads, profile) = (heads(), large_profile());
    let admission = admission(&profile, 1, 0);
    let mut append = Append::default();
    append.begin(&heads, &key("shop"), identity(&admission), &profile, &admission);
    let mut steps = 1;
    while append.step(&mut heads, &profile, &admission) == Step::More {
        steps += 1;
        let head = heads.get(&key("shop")).unwrap();
        assert!(read(head).is_empty(), "nothing is visible before the last step");
        check_invariants(&heads);
    }
    assert!(steps > 4, "{steps} steps: a large profile gives others a turn");
    let mut oracle = Sums::new();
    add_to_oracle(&mut oracle, &profile, &admission);
    assert_eq!(read(heads.get(&key("shop")).unwrap()), oracle);
    assert_eq!(append.appended().rows, 9, "three groups of three columns");
    check_invariants(&heads);
}

#[test]
fn an_append_that_is_given_up_leaves_no_rows() {
    let (mut heads, large) = (heads(), large_profile());
    let small = profile(&[(vec![1, 2], 0, [1, 2, 3])], 0);
    let (of_large, of_small) = (admission(&large, 1, 0), admission(&small, 2, 0));
    let mut append = Append::default();
    append.begin(&heads, &key("shop"), identity(&of_large), &large, &of_large);
    assert_eq!(append.step(&mut heads, &large, &of_large), Step::More);
    append.begin(&heads, &key("shop"), identity(&of_small), &small, &of_small);
    while append.step(&mut heads, &small, &of_small) == Step::More {}
    let mut oracle = Sums::new();
    add_to_oracle(&mut oracle, &small, &of_small);
    assert_eq!(read(heads.get(&key("shop")).unwrap()), oracle);
}

#[test]
fn a_second_identical_profile_adds_no_symbols() {
    let (mut heads, profile) = (heads(), large_profile());
    let counts = |heads: &Heads| {
        let head = heads.get(&key("shop")).unwrap();
        let s = head.symbols();
        (
            [s.strings_count(), s.mappings_count(), s.functions_count(), s.locations_count()],
            [s.nodes_count(), s.stacks_count(), s.bytes_held(), head.series().len()],
        )
    };
    append(&mut heads, &key("shop"), &profile, &admission(&profile, 1, 0));
    let first = counts(&heads);
    append(&mut heads, &key("shop"), &profile, &admission(&profile, 2, 0));
    assert_eq!(counts(&heads), first);
    let rows: Vec<u64> =
        heads.get(&key("shop")).unwrap().series().iter().map(|series| series.rows_count).collect();
    assert_eq!(rows, [2; 9]);
}

fn counted(heads: &Heads, key: &PartitionKey, profile: &Profile) -> SeriesCount {
    let (mut append, admission) = (Append::default(), admission(profile, 1, 0));
    append.begin(heads, key, identity(&admission), profile, &admission);
    while append.count_series(heads, profile, &admission) == Step::More {}
    append.series_counted()
}

#[test]
fn series_are_counted_before_a_head_is_made_and_by_every_head_of_the_tenant() {
    let (mut heads, large) = (heads(), large_profile());
    let tenant = key("shop").tenant;
    let small = profile(&[(vec![1, 2], 0, [1, 2, 3])], 0);
    assert_eq!(counted(&heads, &key("shop"), &large), SeriesCount { new: 9, all: 9 });
    assert!(heads.is_empty(), "counting makes no head");
    append(&mut heads, &key("shop"), &small, &admission(&small, 1, 0));
    assert_eq!(heads.series_of(&tenant), 3);
    assert_eq!(counted(&heads, &key("shop"), &large), SeriesCount { new: 6, all: 9 });
    append(&mut heads, &key("shop"), &large, &admission(&large, 2, 0));
    assert_eq!(counted(&heads, &key("shop"), &large), SeriesCount { new: 0, all: 9 });
    append(&mut heads, &key("cart"), &small, &admission(&small, 3, 0));
    assert_eq!((heads.series_of(&tenant), heads.series_count()), (12, 12));
    heads.freeze(&tenant);
    assert_eq!((heads.series_of(&tenant), heads.series_count()), (0, 0), "a cut gives them back");
    assert_eq!(counted(&heads, &key("shop"), &large), SeriesCount { new: 9, all: 9 });
}

/// Two columns of one type are two contents and one series.
#[test]
fn a_series_that_a_profile_has_twice_counts_once() {
    let (mut heads, mut twice) = (heads(), profile(&[(vec![1, 2], 0, [1, 2, 3])], 0));
    twice.sample_types[1] = twice.sample_types[0];
    assert_eq!(counted(&heads, &key("shop"), &twice), SeriesCount { new: 2, all: 2 });
    append(&mut heads, &key("shop"), &twice, &admission(&twice, 1, 0));
    assert_eq!(heads.series_of(&key("shop").tenant), 2);
    assert_eq!(counted(&heads, &key("shop"), &twice), SeriesCount { new: 0, all: 2 });
}

#[test]
fn a_count_whose_head_is_frozen_begins_anew() {
    let (mut heads, known) = (heads(), large_profile());
    append(&mut heads, &key("shop"), &known, &admission(&known, 1, 0));
    let admission = admission(&known, 2, 0);
    let mut append = Append::default();
    append.begin(&heads, &key("shop"), identity(&admission), &known, &admission);
    heads.freeze(&key("shop").tenant);
    while append.count_series(&heads, &known, &admission) == Step::More {}
    assert_eq!(append.series_counted(), SeriesCount { new: 9, all: 9 });
    while append.step(&mut heads, &known, &admission) == Step::More {}
    assert_eq!(heads.series_of(&key("shop").tenant), 9);
}

#[test]
fn symbols_that_no_stored_sample_names_are_not_kept() {
    let mut heads = heads();
    let profile = profile(&[(vec![1], 0, [1, 0, 0]), (vec![2, 4, 6], 1, [0, 1, 0])], 0);
    // The second group's only value lies in a dropped column.
    append(&mut heads, &key("shop"), &profile, &admission(&profile, 1, 1 << 4));
    let symbols = heads.get(&key("shop")).unwrap().symbols();
    assert_eq!((symbols.locations_count(), symbols.nodes_count()), (1, 2));
    assert_eq!((symbols.functions_count(), symbols.mappings_count()), (1, 1));
    let strings: Vec<&str> = (0..symbols.strings_count())
        .map(|id| symbols.string(crate::symbols::StringId(id as u32)))
        .collect();
    assert_eq!(strings, ["", "f1", "file1", "lib1"]);
}

#[test]
fn sealing_by_size_and_by_age_loses_nothing() {
    let options = HeadOptions { chunk_bytes_max: 4 << 10, ..HeadOptions::default() };
    let mut heads = Heads::new(secret(), options);
    let mut oracle = Sums::new();
    for turn in 0..40 {
        let samples: Vec<Sample> =
            (0..200_u8).map(|i| (vec![i, i / 3, i / 9], i, [i, i % 4, 1])).collect();
        let profile = profile(&samples, turn);
        let admission = admission(&profile, turn as i64, 0);
        append(&mut heads, &key(&format!("shop-{}", turn % 2)), &profile, &admission);
        add_to_oracle(&mut oracle, &profile, &admission);
        check_invariants(&heads);
    }
    for now_ms in [0, 59_999, 60_000] {
        while heads.seal_aged(now_ms) == Step::More {}
        check_invariants(&heads);
    }
    let mut sums = Sums::new();
    for (_, head) in heads.iter() {
        assert!(head.sealed().len() > 3, "chunks of 4 KiB were sealed on the way");
        assert_eq!(head.open().batches_count(), 0, "after a minute the open chunk is sealed too");
        for (labels, stacks) in read(head) {
            for (stack, value) in stacks {
                *sums.entry(labels.clone()).or_default().entry(stack).or_default() += value;
            }
        }
    }
    assert_eq!(sums, oracle);
}

#[test]
fn sealing_the_aged_takes_turns() {
    let mut heads = heads();
    let profile = profile(&[(vec![1], 0, [1, 0, 0])], 0);
    for service in 0..200 {
        append(&mut heads, &key(&service.to_string()), &profile, &admission(&profile, 1, 0));
    }
    let mut calls = 0;
    for now_ms in [0, 60_000] {
        calls += 1;
        while heads.seal_aged(now_ms) == Step::More {
            calls += 1;
        }
    }
    assert!(calls > 20, "{calls} calls");
    assert!(heads.iter().all(|(_, head)| head.sealed().len() == 1));
}

#[test]
fn a_walk_goes_on_behind_the_head_that_it_came_to() {
    let mut heads = heads();
    let profile = profile(&[(vec![1], 0, [1, 0, 0])], 0);
    for service in ["a", "b", "d"] {
        append(&mut heads, &key(service), &profile, &admission(&profile, 1, 0));
    }
    let behind = |service: &str| {
        let behind = key(service);
        let heads = heads.iter_behind(Some(&behind));
        heads.map(|(key, _)| key.service_name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(heads.iter_behind(None).count(), 3);
    assert_eq!((behind("a"), behind("c")), (vec!["b".into(), "d".into()], vec!["d".into()]));
    assert!(behind("d").is_empty());
}

/// The heads of a tenant that a reader comes to, one after the other.
fn seen(
    heads: &Heads,
    view: &View,
    tenant: &str,
    mut after: Option<(PartitionKey, HeadId)>,
) -> Vec<(PartitionKey, HeadId)> {
    let tenant = TenantId::parse(tenant).unwrap();
    let mut seen = Vec::new();
    while let Some((key, head)) = heads.next_of_tenant(&tenant, view, after.as_ref()) {
        after = Some((key.clone(), head.id()));
        seen.extend(after.clone());
    }
    seen
}

#[test]
fn tenants_are_read_apart_and_found_again() {
    let mut heads = heads();
    let profile = profile(&[(vec![1], 0, [1, 0, 0])], 0);
    for (tenant, service) in [("a", "x"), ("a", "y"), ("ab", "x"), ("b", "z")] {
        let key = PartitionKey { tenant: TenantId::parse(tenant).unwrap(), ..key(service) };
        append(&mut heads, &key, &profile, &admission(&profile, 1, 0));
    }
    let services = |after: Option<(PartitionKey, HeadId)>| -> Vec<String> {
        let seen = seen(&heads, &heads.view(), "a", after);
        seen.iter().map(|(key, _)| key.service_name.to_string()).collect()
    };
    assert_eq!(services(None), ["x", "y"]);
    let x = PartitionKey { tenant: TenantId::parse("a").unwrap(), ..key("x") };
    let id = heads.get(&x).unwrap().id();
    assert_eq!(services(Some((x, id))), ["y"]);
}

#[test]
fn relabelled_rows_join_the_series_of_their_labels() {
    let mut heads = heads();
    let profile = profile(&[(vec![1], 0, [1, 0, 0]), (vec![1], 1, [2, 0, 0])], 0);
    let mut admission = admission(&profile, 1, 0);
    let mut labels = series_of_push();
    labels.set("zone", "all");
    for group in 0..2 {
        admission.outcomes[group * 3] = Outcome::Relabelled(labels.clone());
    }
    append(&mut heads, &key("shop"), &profile, &admission);
    let head = heads.get(&key("shop")).unwrap();
    assert_eq!(head.series().len(), 1, "two groups lead to one label set");
    assert_eq!(head.series()[0].labels.get("zone"), Some("all"));
    assert_eq!(head.series()[0].rows_count, 2);
}

/// Heads wrapped where trees and points end at the greatest number: one flame graph had a negative total, the next had not.
#[test]
fn sums_beyond_the_range_end_at_the_greatest_number() {
    let mut heads = heads();
    let two_stacks = [(vec![1], 0, [1, 0, 0]), (vec![1], 0, [1, 0, 0]), (vec![2], 0, [1, 0, 0])];
    let mut profile = profile(&two_stacks, 0);
    for sample in 0..3 {
        profile.values[3 * sample] = i64::MAX - 1;
    }
    append(&mut heads, &key("shop"), &profile, &admission(&profile, 1, 0));
    let head = heads.get(&key("shop")).unwrap();
    let sums = read(head); // compares the row's total, too
    let mut values: Vec<i64> = sums.values().flat_map(|stacks| stacks.values().copied()).collect();
    values.sort_unstable();
    assert_eq!(values, [i64::MAX - 1, i64::MAX]);
    let mut dense = vec![5; head.symbols().nodes_count()];
    let add = |row: Row<'_>| row.add_samples(&mut dense);
    assert_eq!(
        head.scan(|_| true, i64::MIN, i64::MAX, &mut head.cursor(), usize::MAX, add),
        Step::Done
    );
    dense.sort_unstable();
    assert!(dense.ends_with(&[5, i64::MAX, i64::MAX]), "{dense:?}");
}

#[test]
fn readers_see_frozen_heads_until_those_that_began_before_the_retirement_have_ended() {
    let mut heads = heads();
    let profile = profile(&[(vec![1], 0, [1, 0, 0])], 0);
    let of = |tenant: &str, service: &str| PartitionKey {
        tenant: TenantId::parse(tenant).unwrap(),
        ..key(service)
    };
    for (tenant, service) in [("a", "x"), ("b", "x"), ("b", "y"), ("c", "x")] {
        append(&mut heads, &of(tenant, service), &profile, &admission(&profile, 1, 0));
    }
    let before = heads.view();
    let frozen = heads.freeze(&TenantId::parse("b").unwrap()).unwrap();
    assert_eq!(frozen.iter().map(|(key, _)| &*key.service_name).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!((heads.len(), heads.frozen().len()), (2, 1), "other tenants go on");
    assert!(heads.freeze(frozen.tenant()).is_none(), "there is nothing left to freeze");
    check_invariants(&heads);

    append(&mut heads, &of("b", "x"), &profile, &admission(&profile, 2, 0));
    check_invariants(&heads);
    let services = |heads: &Heads, view: &View| -> Vec<String> {
        seen(heads, view, "b", None).iter().map(|(key, _)| key.service_name.to_string()).collect()
    };
    assert_eq!(services(&heads, &before), ["x", "x", "y"], "the frozen one first");
    assert_eq!(services(&heads, &heads.view()), ["x", "x", "y"]);

    heads.retire(frozen.id());
    assert_eq!(services(&heads, &before), ["x", "x", "y"], "its reader began before");
    assert_eq!(services(&heads, &heads.view()), ["x"]);
    let between = heads.view();
    append(&mut heads, &of("b", "z"), &profile, &admission(&profile, 3, 0));
    let second = heads.freeze(frozen.tenant()).unwrap();
    heads.retire(second.id());
    assert_eq!(services(&heads, &between), ["x", "z"]);
    assert_eq!(heads.frozen().len(), 2);
    drop(before);
    drop(heads.take_unseen());
    assert_eq!(heads.frozen().len(), 1, "the second is seen by the reader in between");
    check_invariants(&heads);
    drop(between);
    drop(heads.take_unseen());
    assert_eq!(heads.frozen().len(), 0);
    check_invariants(&heads);
}

#[test]
fn an_append_whose_head_is_frozen_starts_over_in_the_fresh_one() {
    let (mut heads, large) = (heads(), large_profile());
    let first = profile(&[(vec![9, 1], 0, [1, 2, 3])], 0);
    append(&mut heads, &key("shop"), &first, &admission(&first, 5, 0));
    let admission = admission(&large, 6, 0);
    let mut append = Append::default();
    append.begin(&heads, &key("shop"), identity(&admission), &large, &admission);
    assert_eq!(append.step(&mut heads, &large, &admission), Step::More);
    let frozen = heads.freeze(&TenantId::anonymous()).unwrap();
    while append.step(&mut heads, &large, &admission) == Step::More {}

    let mut oracle = Sums::new();
    add_to_oracle(&mut oracle, &large, &admission);
    let fresh = heads.get(&key("shop")).unwrap();
    assert_eq!(read(fresh), oracle, "all of its rows, and no others");
    assert_eq!(append.appended().head, Some(fresh.id()));
    let mut of_first = Sums::new();
    add_to_oracle(&mut of_first, &first, &self::admission(&first, 5, 0));
    let (_, old) = frozen.iter().next().unwrap();
    assert_eq!(read(old), of_first);
    let seqs = |head: &Head| -> Vec<(u64, u64)> {
        head.identities().iter().flat_map(|(_, intervals)| intervals.to_vec()).collect()
    };
    assert_eq!((seqs(old), seqs(fresh)), (vec![(5, 5)], vec![(6, 6)]));
    check_invariants(&heads);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn the_planted_bug_loses_a_sealed_chunk() {
    let bug = Some(crate::planted::Bug::DropSealedChunk);
    let mut heads = Heads::new(secret(), HeadOptions { bug, ..HeadOptions::default() });
    let profile = profile(&[(vec![1], 0, [1, 0, 0])], 0);
    append(&mut heads, &key("shop"), &profile, &admission(&profile, 1, 0));
    assert_eq!(read(heads.get(&key("shop")).unwrap()).len(), 1);
    heads.seal_aged(0);
    heads.seal_aged(60_000);
    assert!(read(heads.get(&key("shop")).unwrap()).is_empty());
}
