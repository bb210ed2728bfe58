//! Laws of symbol tables as the source and target of partial profiles.

use std::collections::BTreeMap;

use proto::rpc::select::{FunctionPart, LocationPart, MappingPart, ProfilePart};

use super::*;
use crate::profile::Step;

/// Nodes as (parent, location content, value); a parent is an earlier node or none.
type Nodes = Vec<(u8, u8, u8)>;

fn symbols(seed: u64) -> Symbols {
    let mut word = seed;
    Symbols::new(HashSecret::from_words(move || {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        word ^ (word >> 31)
    }))
}

/// A part with 16 locations of every shape.
fn part(nodes: &Nodes) -> ProfilePart {
    let mut part = ProfilePart { strings: vec![String::new()], ..ProfilePart::default() };
    for at in 0..4 {
        part.strings.push(format!("name{at}"));
    }
    for at in 0..2 {
        let mapping =
            MappingPart { filename: 1 + at, has_inline_frames: at == 1, ..MappingPart::default() };
        part.mappings.push(mapping);
    }
    for at in 0..4 {
        let (name, system_name, filename) = (1 + at, 4 - at, at);
        part.functions.push(FunctionPart {
            name,
            system_name,
            filename,
            start_line: i64::from(at) - 1,
        });
    }
    for at in 0..16_u32 {
        let line = if at == 9 { i64::from(u32::MAX) } else { -i64::from(at % 2) };
        part.locations.push(LocationPart {
            mapping: if at % 3 == 2 { u32::MAX } else { at % 3 },
            address: u64::from(at / 8) << 40,
            is_folded: at == 15,
            lines: (0..at % 4).map(|function| (function, line)).collect(),
        });
    }
    for (at, (parent, location, value)) in nodes.iter().enumerate() {
        let parent = u32::from(*parent);
        part.parents.push(if (parent as usize) < at { parent } else { u32::MAX });
        part.location_ids.push(u32::from(*location % 16));
        part.values.push(i64::from(*value));
    }
    part
}

/// Values by path from the root; a path is spelled out in names.
fn sums(part: &ProfilePart) -> BTreeMap<Vec<String>, i64> {
    let mut paths: Vec<Vec<String>> = Vec::new();
    let mut sums = BTreeMap::new();
    for ((parent, location), value) in part.parents.iter().zip(&part.location_ids).zip(&part.values)
    {
        let mut path = paths.get(*parent as usize).cloned().unwrap_or_default();
        if let Some(l) = part.locations.get(*location as usize) {
            let name = |at: u32| &part.strings[at as usize];
            let mapping = part
                .mappings
                .get(l.mapping as usize)
                .map(|m| (name(m.filename), m.has_inline_frames));
            let lines: Vec<_> = l
                .lines
                .iter()
                .map(|(function, line)| {
                    let f = &part.functions[*function as usize];
                    (name(f.name), name(f.system_name), name(f.filename), f.start_line, line)
                })
                .collect();
            path.push(format!("{mapping:?} {} {} {lines:?}", l.address, l.is_folded));
        }
        if *value != 0 {
            *sums.entry(path.clone()).or_default() += value;
        }
        paths.push(path);
    }
    sums
}

/// Adds a part's values to `dense`.
fn import(symbols: &mut Symbols, dense: &mut Vec<i64>, part: &ProfilePart) {
    let mut import = PartImport::default();
    import.begin(part).unwrap();
    while import.step(symbols, part) == Step::More {}
    dense.resize(symbols.nodes_count(), 0);
    for (node, value) in import.nodes().iter().zip(&part.values) {
        dense[node.0 as usize] += value;
    }
}

fn export(symbols: &Symbols, dense: Vec<i64>) -> ProfilePart {
    let mut export = PartExport::new(symbols, dense);
    while export.step(symbols) == Step::More {}
    export.finish()
}

#[test]
fn merging_parts_adds_their_sums_and_keeps_each_symbol_once() {
    bolero::check!().with_type::<(Nodes, Nodes)>().for_each(|(a, b)| {
        let (a, b) = (part(a), part(b));
        let (mut target, mut dense) = (symbols(1), Vec::new());
        import(&mut target, &mut dense, &a);
        import(&mut target, &mut dense, &b);
        let nodes_count = target.nodes_count();
        import(&mut target, &mut dense, &a);
        assert_eq!(target.nodes_count(), nodes_count, "a part seen before adds nothing");
        let mut want = sums(&b);
        for (path, value) in sums(&a) {
            *want.entry(path).or_default() += 2 * value;
        }
        let merged = export(&target, dense);
        assert_eq!(sums(&merged), want);
        assert_eq!(target.bytes_held(), target.bytes_recounted());
        let parents = merged.parents.iter().zip(0_u32..);
        assert!(parents.clone().all(|(parent, at)| *parent == u32::MAX || *parent < at));
        let strings: std::collections::BTreeSet<&String> = merged.strings.iter().collect();
        assert_eq!(strings.len(), merged.strings.len(), "each string once");
    });
}

#[test]
fn an_export_leaves_out_what_no_value_needs() {
    let (mut target, mut dense) = (symbols(1), Vec::new());
    import(&mut target, &mut dense, &part(&vec![(255, 1, 0), (0, 2, 7), (0, 3, 0), (255, 6, 0)]));
    let part = export(&target, dense);
    assert_eq!((part.parents, part.values), (vec![u32::MAX, 0], vec![0, 7]));
    assert_eq!((part.locations.len(), part.mappings.len()), (2, 1));
}

#[test]
fn the_empty_stack_keeps_its_value() {
    let empty = ProfilePart {
        strings: vec![String::new()],
        parents: vec![u32::MAX],
        location_ids: vec![u32::MAX],
        values: vec![5],
        ..ProfilePart::default()
    };
    let (mut target, mut dense) = (symbols(1), Vec::new());
    import(&mut target, &mut dense, &empty);
    assert_eq!(dense, [5]);
    assert_eq!(export(&target, dense), empty);
}

/// A large part takes several steps both ways; the tables may grow between them.
#[test]
fn importing_and_exporting_give_others_a_turn() {
    let nodes: Nodes = (0..=255_u8).map(|i| (i.wrapping_sub(1), i % 16, 1)).collect();
    let mut large = part(&nodes);
    for at in large.parents.len() as u32..20_000 {
        large.parents.push(at / 2);
        large.location_ids.push(at % 16);
        large.values.push(1);
    }
    let (mut target, mut dense) = (symbols(1), Vec::new());
    let mut steps = 0;
    let mut passes = PartImport::default();
    passes.begin(&large).unwrap();
    while passes.step(&mut target, &large) == Step::More {
        steps += 1;
    }
    assert!(steps >= 4, "{steps} steps");
    import(&mut target, &mut dense, &large);
    let mut export = PartExport::new(&target, dense);
    assert_eq!(export.step(&target), Step::More);
    import(&mut target, &mut Vec::new(), &part(&vec![(255, 14, 1), (0, 14, 1), (1, 14, 1)]));
    while export.step(&target) == Step::More {}
    assert_eq!(sums(&export.finish()), sums(&large));
}

#[test]
fn a_part_that_refers_to_nothing_is_refused() {
    type Break = fn(&mut ProfilePart);
    let breaks: [(Break, &str); 9] = [
        (|p| p.values.truncate(1), "values has 1 rows, not 2"),
        (|p| p.location_ids.push(0), "location_ids has 3 rows, not 2"),
        (|p| p.parents[1] = 1, "node parent 1 refers to row 1 of 1"),
        (|p| p.location_ids[0] = 16, "node location 0 refers to row 16 of 16"),
        (|p| p.locations[3].mapping = 2, "location mapping 3 refers to row 2 of 2"),
        (|p| p.locations[3].lines[0].0 = 4, "location line 3 refers to row 4 of 4"),
        (|p| p.functions[2].filename = 5, "function filename 2 refers to row 5 of 5"),
        (|p| p.mappings[1].build_id = 9, "mapping build id 1 refers to row 9 of 5"),
        (|p| p.strings.clear(), "mapping filename 0 refers to row 1 of 0"),
    ];
    for (break_it, text) in breaks {
        let mut part = part(&vec![(255, 3, 1), (0, 4, 1)]);
        break_it(&mut part);
        let error = PartImport::default().begin(&part).unwrap_err();
        assert_eq!(error.to_string(), format!("partial profile: {text}"));
    }
}
