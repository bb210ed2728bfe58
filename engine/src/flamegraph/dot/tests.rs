use proto::pprof::{Function, Line, Location, Mapping, Profile, Sample, ValueType};

use super::*;
use crate::pace::run;

/// A profile of stacks written root first; the line of a function is ten times its number.
fn profile(stacks: &[(&str, i64)]) -> Profile {
    let mut texts =
        vec![String::new(), "cpu".to_owned(), "nanoseconds".to_owned(), "bin/app".to_owned()];
    let mut ids = std::collections::BTreeMap::new();
    let mut profile = Profile {
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        mapping: vec![Mapping { id: 1, filename: 3, ..Mapping::default() }],
        ..Profile::default()
    };
    for (stack, value) in stacks {
        let mut location_id: Vec<u64> = stack
            .split(';')
            .map(|name| {
                *ids.entry(name.to_owned()).or_insert_with(|| {
                    let id = profile.location.len() as u64 + 1;
                    texts.push(name.to_owned());
                    let name = texts.len() as i64 - 1;
                    profile.function.push(Function { id, name, ..Function::default() });
                    let line = vec![Line { function_id: id, line: 10 * id.cast_signed() }];
                    profile.location.push(Location {
                        id,
                        mapping_id: 1,
                        line,
                        ..Location::default()
                    });
                    id
                })
            })
            .collect();
        location_id.reverse();
        profile.sample.push(Sample { location_id, value: vec![*value], ..Sample::default() });
    }
    profile.string_table = texts;
    profile
}

fn drawn(stacks: &[(&str, i64)], nodes_max: i64) -> String {
    run(dot(&profile(stacks), nodes_max, &Pace::new()))
}

#[test]
fn the_legend_is_the_one_the_kit_expects() {
    let stacks = [
        ("main;work;hash", 90_000_000),
        ("main;work;hash;compress", 60_000_000),
        ("main;idle", 30_000_000),
    ];
    let text = drawn(&stacks, 100);
    assert!(text.starts_with("digraph \"app\" {\n") && text.ends_with("}\n"), "{text}");
    let legend: Vec<_> = text.lines().nth(2).unwrap().split("\\l").collect();
    assert!(legend.contains(&"Type: cpu"), "{legend:?}");
    assert!(
        legend.contains(&"Showing nodes accounting for 0.18s, 100% of 0.18s total"),
        "{legend:?}"
    );
    assert_eq!(text.lines().filter(|l| l.contains(" -> ") && l.starts_with('N')).count(), 4);
    assert!(text.contains("label=\"hash\\n:30\\n0.09s (50.00%)\\nof 0.15s (83.33%)\""), "{text}");
}

#[test]
fn edges_over_nodes_left_out_are_dotted() {
    // `thin` is a mere passage, so it is the first to go
    let text = drawn(&[("main;thin;a", 50), ("main;c", 60)], 3);
    assert!(text.contains("Showing top 3 nodes out of 4"), "{text}");
    assert!(!text.contains("thin"), "{text}");
    let edges: Vec<_> = text.lines().filter(|l| l.starts_with('N') && l.contains(" -> ")).collect();
    assert!(edges.iter().any(|e| e.contains("style=\"dotted\"")), "{edges:?}");
}

#[test]
fn recursion_is_counted_once_and_names_are_escaped() {
    let text = drawn(&[("m\"ain;f;f;f", 10)], 100);
    assert!(text.contains("m\\\"ain"), "{text}");
    let edges: Vec<_> = text.lines().filter(|l| l.starts_with('N') && l.contains(" -> ")).collect();
    assert_eq!(edges.len(), 1, "f calling itself is no edge: {edges:?}");
    assert!(edges[0].contains("label=\" 0"), "{edges:?}"); // 10 ns
}

#[test]
fn no_samples_are_no_text() {
    assert_eq!(drawn(&[], 100), "");
}

/// Flat values of a graph without cuts sum up to the total, and no node weighs more than it.
#[test]
fn any_profile_is_drawn_within_its_total() {
    type Seed = (Vec<(Vec<u8>, u16)>, u8);
    bolero::check!().with_type::<Seed>().for_each(|(stacks, nodes_max)| {
        let stacks: Vec<(String, i64)> = stacks
            .iter()
            .filter(|(stack, value)| !stack.is_empty() && *value > 0)
            .map(|(stack, value)| {
                let names: Vec<String> = stack.iter().map(|f| format!("f{}", f % 9)).collect();
                (names.join(";"), i64::from(*value))
            })
            .collect();
        let borrowed: Vec<_> = stacks.iter().map(|(s, v)| (s.as_str(), *v)).collect();
        let profile = profile(&borrowed);
        let graph = run(CallGraph::of(&profile, None, &Pace::new()));
        let flat: i64 = (0..graph.rows_count() as u32).map(|node| graph.flat(node)).sum();
        assert_eq!(flat, graph.total());
        assert!((0..graph.rows_count() as u32).all(|node| graph.cum(node) <= graph.total()));
        run(dot(&profile, i64::from(*nodes_max), &Pace::new()));
    });
}
