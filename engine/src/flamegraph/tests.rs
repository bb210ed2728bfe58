use std::collections::BTreeMap;

use proto::querier::{FlameGraph, FlameGraphDiff};
use proto::rpc::select::TreePart;

use super::*;
use crate::hash::HashSecret;
use crate::pace::{Pace, run};

fn secret() -> HashSecret {
    let mut word = 11;
    HashSecret::from_words(|| {
        word += 7;
        word
    })
}

fn tree_of(stacks: &[(&str, i64)]) -> Tree {
    let mut tree = Tree::new(&secret());
    add_stacks(&mut tree, stacks);
    tree
}

fn add_stacks(tree: &mut Tree, stacks: &[(&str, i64)]) {
    for (stack, value) in stacks {
        let mut node = NO_PARENT;
        for name in stack.split(';') {
            let name = tree.name(name);
            node = tree.child(node, name);
        }
        tree.add(node, *value);
    }
}

fn drawn(tree: &Tree, nodes_max: i64) -> FlameGraph {
    run(flame_graph(tree, nodes_max, &Pace::new()))
}

/// Undoes the encoding by geometry alone: a node lies under the node of the row above that covers its offset.
fn paths<const N: usize>(names: &[String], levels: &[proto::querier::Level]) -> Vec<String> {
    let pairs = (N - 1) / 3; // a single graph has one offset, total, self; a diff has two
    let mut above: Vec<(Vec<i64>, Vec<i64>, String)> = Vec::new();
    let mut all = Vec::new();
    for level in levels {
        let mut here = Vec::new();
        let mut x = vec![0; pairs];
        for group in level.values.chunks(N) {
            let mut totals = Vec::new();
            let mut told = Vec::new();
            for (side, x) in x.iter_mut().enumerate() {
                *x += group[side * 3];
                totals.push(group[side * 3 + 1]);
                told.extend([group[side * 3 + 1], group[side * 3 + 2]]);
            }
            let name = &names[usize::try_from(group[N - 1]).unwrap()];
            let parent = above.iter().find(|(from, sums, _)| {
                (0..pairs).all(|s| from[s] <= x[s] && x[s] + totals[s] <= from[s] + sums[s])
            });
            assert!(parent.is_some() || above.is_empty(), "{name} lies under no parent");
            let path = parent.map_or_else(|| name.clone(), |(.., path)| format!("{path};{name}"));
            let told: Vec<String> = told.iter().map(ToString::to_string).collect();
            all.push(format!("{path} {}", told.join(" ")));
            let from = x.clone();
            for (x, total) in x.iter_mut().zip(&totals) {
                *x += total;
            }
            here.push((from, totals, path));
        }
        above = here;
    }
    all.sort();
    all
}

/// An answer of the conformance kit, where the kit is at hand.
fn kit_answers(case: &str) -> Option<serde_json::Value> {
    let shared = std::env::var("PYRITE_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").to_owned());
    let path = format!("{shared}/conformance/expected/monolith/{case}.json");
    // A test reads a file; the engine does not.
    #[expect(clippy::disallowed_methods, reason = "tests read the kit's answers")]
    let Ok(bytes) = std::fs::read(&path) else {
        println!("skipped: no {path}; set PYRITE_SHARED");
        return None;
    };
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn texts(nodes: &serde_json::Value) -> Vec<String> {
    nodes.as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect()
}

/// The numbers are those of api.md §2.4, which took them from Pyroscope's own tests.
#[test]
fn the_worked_example_is_drawn_number_by_number() {
    let tree = tree_of(&[("a;b;e", 1), ("a;c", 2), ("a;c;d", 1)]);
    let graph = drawn(&tree, -1);
    assert_eq!(graph.names, ["total", "a", "c", "d", "b", "e"]);
    let levels: Vec<_> = graph.levels.into_iter().map(|l| l.values).collect();
    assert_eq!(
        levels,
        [
            vec![0, 4, 0, 0],
            vec![0, 4, 0, 1],
            vec![0, 1, 0, 4, 0, 3, 2, 2],
            vec![0, 1, 1, 5, 2, 1, 1, 3]
        ]
    );
    assert_eq!((graph.total, graph.max_self), (4, 2));
}

#[test]
fn nothing_is_a_root_of_weight_zero() {
    let graph = drawn(&Tree::new(&secret()), 100);
    assert_eq!(graph.names, ["total"]);
    assert_eq!(graph.levels.len(), 1);
    assert_eq!(graph.levels[0].values, [0, 0, 0, 0]);
    assert_eq!((graph.total, graph.max_self), (0, 0));
    assert!(run(tree_bytes(&Tree::new(&secret()), 0, &Pace::new())).is_empty());
}

#[test]
fn a_function_really_called_other_is_folded_with_what_is_cut() {
    let tree = tree_of(&[("a;other;x", 5), ("a;big", 9), ("a;small", 1)]);
    // nobody is cut, yet the real `other` loses its children
    assert_eq!(
        paths::<4>(&drawn(&tree, 0).names, &drawn(&tree, 0).levels),
        ["total 15 0", "total;a 15 0", "total;a;big 9 9", "total;a;other 5 5", "total;a;small 1 1"]
    );
    let graph = drawn(&tree, 2);
    assert_eq!(
        paths::<4>(&graph.names, &graph.levels),
        ["total 15 0", "total;a 15 0", "total;a;big 9 9", "total;a;other 6 6"]
    );
}

#[test]
fn the_kits_truncated_graphs_come_out() {
    let Some(answers) = kit_answers("max_nodes_folds_into_other") else { return };
    let stacks: Vec<(String, i64)> = (0..40)
        .flat_map(|i| (0..5).map(move |j| (format!("main;f{i:03};g{j}"), (i + j + 1) * 1000)))
        .collect();
    let borrowed: Vec<_> = stacks.iter().map(|(s, v)| (s.as_str(), *v)).collect();
    let tree = tree_of(&borrowed);
    for n in [1, 2, 10, 50, 240, 241, 242, 1000] {
        let (graph, answer) = (drawn(&tree, n), &answers[format!("max_{n}")]);
        assert_eq!(paths::<4>(&graph.names, &graph.levels), texts(&answer["nodes"]), "{n}");
        assert_eq!(graph.max_self.to_string(), answer["maxSelf"].as_str().unwrap());
        assert_eq!(graph.total.to_string(), answer["total"].as_str().unwrap());
    }
}

const BASIC: [(&str, i64); 3] = [
    ("main;work;hash", 30_000_000),
    ("main;work;hash;compress", 20_000_000),
    ("main;idle", 10_000_000),
];

#[test]
fn the_kits_render_of_two_nodes_comes_out() {
    let Some(answers) = kit_answers("render_and_render_diff") else { return };
    let tree = tree_of(&BASIC.map(|(s, v)| (s, v * 7)));
    let graph = drawn(&tree, 2);
    assert_eq!(paths::<4>(&graph.names, &graph.levels), texts(&answers["max_nodes"]["nodes"]));
    let graph = drawn(&tree, 8192);
    assert_eq!(paths::<4>(&graph.names, &graph.levels), texts(&answers["grouped"]["nodes"]));
}

fn diff(left: &[(&str, i64)], right: &[(&str, i64)], nodes_max: i64) -> FlameGraphDiff {
    let mut tree = tree_of(left);
    let left_values = tree.values().to_vec();
    add_stacks(&mut tree, right);
    run(flame_graph_diff(&tree, &left_values, nodes_max, &Pace::new()))
}

#[test]
fn the_kits_diffs_come_out() {
    let Some(answers) = kit_answers("diff_of_two_services") else { return };
    let right = [("main;work;hash", 7), ("main;new;thing", 9)];
    for (case, left, right) in [
        ("diff", &BASIC[..], &right[..]),
        ("swapped", &right, &BASIC),
        ("against_nothing", &BASIC, &[]),
    ] {
        let (graph, answer) = (diff(left, right, 8192), &answers[case]);
        assert_eq!(paths::<7>(&graph.names, &graph.levels), texts(&answer["nodes"]), "{case}");
        for (number, key) in [
            (graph.total, "total"),
            (graph.max_self, "maxSelf"),
            (graph.left_ticks, "leftTicks"),
            (graph.right_ticks, "rightTicks"),
        ] {
            assert_eq!(number.to_string(), answer[key].as_str().unwrap(), "{case} {key}");
        }
    }
}

#[test]
fn a_diff_keeps_what_is_heavy_on_either_side() {
    let graph = diff(&[("a", 10), ("b", 1), ("c", 1)], &[("b", 10), ("c", 2), ("d", 1)], 3);
    assert_eq!(
        paths::<7>(&graph.names, &graph.levels),
        ["total 12 0 13 0", "total;a 10 10 0 0", "total;b 1 1 10 10", "total;other 1 1 3 3"]
    );
    let empty = diff(&[], &[], 3);
    assert_eq!(empty.levels.len(), 1);
    assert_eq!(empty.levels[0].values, [0; 7]);
    assert_eq!(empty.names, ["total"]);
}

/// Reads tree bytes back: path → self value.
fn read_tree(bytes: &[u8]) -> BTreeMap<String, i64> {
    fn uvarint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            shift += 7;
            if first & 0x80 == 0 {
                return value;
            }
        }
    }
    fn node(bytes: &mut &[u8], path: &str, into: &mut BTreeMap<String, i64>) {
        let len = usize::try_from(uvarint(bytes)).unwrap();
        let (name, rest) = bytes.split_at(len);
        *bytes = rest;
        let name = std::str::from_utf8(name).unwrap();
        let own = uvarint(bytes).cast_signed();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path};{name}") };
        if !path.is_empty() {
            assert_eq!(into.insert(path.clone(), own), None, "{path} is written once");
        }
        for _ in 0..uvarint(bytes) {
            node(bytes, &path, into);
        }
    }
    let (mut bytes, mut into) = (bytes, BTreeMap::new());
    if !bytes.is_empty() {
        node(&mut bytes, "", &mut into);
    }
    assert!(bytes.is_empty(), "nothing stands behind the root");
    into
}

#[test]
fn tree_bytes_hold_every_node_and_what_was_cut() {
    let tree = tree_of(&BASIC);
    let all = read_tree(&run(tree_bytes(&tree, 0, &Pace::new())));
    let own = |path: &str| all[path];
    assert_eq!(all.len(), 5);
    assert_eq!((own("main"), own("main;work;hash")), (0, 30_000_000));
    assert_eq!((own("main;work;hash;compress"), own("main;idle")), (20_000_000, 10_000_000));
    let cut = read_tree(&run(tree_bytes(&tree, 3, &Pace::new())));
    assert_eq!((cut["main;other"], cut["main;work;hash;other"]), (10_000_000, 20_000_000));
    // what is cut beside a real `other` is added to it
    let tree = tree_of(&[("other;x", 50), ("big", 90), ("small", 1)]);
    let cut = read_tree(&run(tree_bytes(&tree, 2, &Pace::new())));
    assert_eq!((cut["other"], cut["other;x"], cut["big"], cut.len()), (1, 50, 90, 3));
}

/// Random stacks over few names, so that paths are shared.
type Stacks = Vec<(Vec<u8>, u32)>;

fn oracle(stacks: &Stacks) -> BTreeMap<Vec<u8>, (i64, i64)> {
    let mut nodes: BTreeMap<Vec<u8>, (i64, i64)> = BTreeMap::new();
    for (stack, value) in stacks {
        let stack: Vec<u8> = stack.iter().map(|f| f % 5).collect();
        for depth in 1..=stack.len() {
            let node = nodes.entry(stack[..depth].to_vec()).or_default();
            node.0 += i64::from(*value);
            node.1 += if depth == stack.len() { i64::from(*value) } else { 0 };
        }
    }
    nodes
}

fn grown(stacks: &[(Vec<u8>, u32)]) -> Tree {
    let mut tree = Tree::new(&secret());
    for (stack, value) in stacks.iter().filter(|(stack, _)| !stack.is_empty()) {
        let mut node = NO_PARENT;
        for f in stack {
            let name = tree.name(&format!("f{}", f % 5));
            node = tree.child(node, name);
        }
        tree.add(node, i64::from(*value));
    }
    tree
}

#[test]
fn levels_decode_back_to_the_tree() {
    bolero::check!().with_type::<Stacks>().for_each(|stacks| {
        // a node of total 0 has no width: geometry cannot tell under which parent it lies
        let stacks: Stacks = stacks.iter().map(|(s, v)| (s.clone(), v.saturating_add(1))).collect();
        let graph = drawn(&grown(&stacks), 0);
        let mut expected: Vec<String> = oracle(&stacks)
            .iter()
            .map(|(path, (total, own))| {
                let path: String = path.iter().fold(String::new(), |p, f| p + &format!(";f{f}"));
                format!("total{path} {total} {own}")
            })
            .collect();
        expected.push(format!("total {} 0", graph.total));
        expected.sort();
        assert_eq!(paths::<4>(&graph.names, &graph.levels), expected);
    });
}

#[test]
fn parts_merge_to_the_same_tree_in_any_order_and_split() {
    bolero::check!().with_type::<(Stacks, u8)>().for_each(|(stacks, split)| {
        let whole = drawn(&grown(stacks), 0);
        let at = usize::from(*split).min(stacks.len());
        let part = |stacks: &[(Vec<u8>, u32)]| grown(stacks).into_part();
        let parts = [part(&stacks[..at]), part(&stacks[at..]), TreePart::default()];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut tree = Tree::new(&secret());
            for i in order {
                run(tree.merge(&parts[i], &Pace::new())).unwrap();
            }
            assert_eq!(drawn(&tree, 0), whole);
            // and it survives travelling once more
            let mut again = Tree::new(&secret());
            run(again.merge(&tree.into_part(), &Pace::new())).unwrap();
            assert_eq!(drawn(&again, 0), whole);
        }
    });
}

#[test]
fn truncation_keeps_totals() {
    bolero::check!().with_type::<(Stacks, u8)>().for_each(|(stacks, nodes_max)| {
        let tree = grown(stacks);
        let (all, cut) = (drawn(&tree, 0), drawn(&tree, i64::from(*nodes_max)));
        assert_eq!(all.total, cut.total);
        let own = |g: &FlameGraph| -> i64 {
            g.levels.iter().flat_map(|l| l.values.chunks(4).map(|group| group[2])).sum()
        };
        assert_eq!(own(&cut), cut.total, "self values sum up to the total");
        let bytes = read_tree(&run(tree_bytes(&tree, i64::from(*nodes_max), &Pace::new())));
        assert_eq!(bytes.values().sum::<i64>(), cut.total);
    });
}

#[test]
fn a_part_that_refers_to_nothing_is_refused() {
    let good = tree_of(&BASIC).into_part();
    let broken = |change: fn(&mut TreePart)| {
        let mut part = good.clone();
        change(&mut part);
        run(Tree::new(&secret()).merge(&part, &Pace::new())).unwrap_err()
    };
    assert_eq!(broken(|p| p.values.truncate(1)), PartError::Ragged);
    assert_eq!(
        broken(|p| p.name_ids[1] = 99),
        PartError::Dangling { row: 1, what: "name", to: 99 }
    );
    assert_eq!(broken(|p| p.parents[1] = 1), PartError::Dangling { row: 1, what: "node", to: 1 });
}
