//! The graph as Graphviz text.

use std::fmt::Write;

use super::base_name;
use super::call_graph::{CallGraph, Edge, Place};
use super::unit::{Unit, percentage};
use crate::pace::Pace;

/// Writes a graph: a legend, the `shown` nodes in that order, then the edges, heaviest first (a hint for the layout).
pub(super) async fn write(
    graph: &CallGraph<'_>,
    shown: &[u32],
    legend: &[String],
    unit: Unit,
    pace: &Pace,
) -> String {
    let mut out = String::new();
    let title = legend.iter().find_map(|line| line.strip_prefix("File: ")).unwrap_or("unnamed");
    put(&mut out, format_args!("digraph \"{}\" {{\n", escaped(title)));
    out.push_str("node [style=filled fillcolor=\"#f8f8f8\"]\n");
    let lines: Vec<String> = legend.iter().map(|line| escaped(line)).collect();
    put(
        &mut out,
        format_args!(
            "subgraph cluster_L {{ \"{}\" [shape=box fontsize=16 label=\"{}\\l\\lSee https://git.io/JfYMW for how to read the graph\\l\" tooltip=\"{}\"] }}\n",
            lines.first().map_or("", |line| line),
            lines.join("\\l"),
            escaped(title)
        ),
    );
    let flat_max = shown.iter().map(|node| graph.flat(*node).saturating_abs()).max().unwrap_or(0);
    let mut numbers = vec![0_usize; graph.rows_count()];
    for (at, node) in shown.iter().enumerate() {
        numbers[*node as usize] = at + 1;
        put_node(&mut out, graph, *node, at + 1, flat_max, unit);
        pace.spend(32).await;
    }
    let number = |node: u32| numbers[node as usize];
    let mut edges: Vec<(&(u32, u32), &Edge)> = graph.edges().iter().collect();
    edges.sort_by_key(|((caller, callee), edge)| {
        (std::cmp::Reverse(edge.weight.saturating_abs()), number(*caller), number(*callee))
    });
    for ((caller, callee), edge) in edges {
        if number(*caller) != 0 && number(*callee) != 0 {
            let ends =
                [(number(*caller), graph.place(*caller)), (number(*callee), graph.place(*callee))];
            put_edge(&mut out, ends, edge, graph.total(), unit);
        }
        pace.spend(32).await;
    }
    out.push_str("}\n");
    out
}

fn put_node(
    out: &mut String,
    graph: &CallGraph<'_>,
    node: u32,
    number: usize,
    flat_max: i64,
    unit: Unit,
) {
    /// Points of the smallest and of the largest text.
    const FONT_POINTS: (f64, f64) = (8.0, 24.0);
    let (place, flat, cum) = (graph.place(node), graph.flat(node), graph.cum(node));
    let own = if flat == 0 {
        "0".to_owned()
    } else {
        format!("{} ({})", unit.show(flat), percentage(flat, graph.total()))
    };
    let below = if cum == flat {
        String::new()
    } else {
        let between = if flat == 0 { " " } else { "\\n" };
        format!("{between}of {} ({})", unit.show(cum), percentage(cum, graph.total()))
    };
    let share = if flat_max == 0 { 0.0 } else { flat.saturating_abs() as f64 / flat_max as f64 };
    let font = (FONT_POINTS.0 + (FONT_POINTS.1 - FONT_POINTS.0) * share.sqrt()).ceil();
    let weight = share_of(cum, graph.total());
    put(
        out,
        format_args!(
            "N{number} [label=\"{}\\n{own}{below}\" id=\"node{number}\" fontsize={font} shape=box tooltip=\"{} ({})\" color=\"{}\" fillcolor=\"{}\"]\n",
            broken_into_lines(place),
            escaped(&place.shown(place.name, place.file).join(" ")),
            unit.show(cum),
            colour(weight, Tint::Line),
            colour(weight, Tint::Ground),
        ),
    );
}

fn put_edge(out: &mut String, ends: [(usize, &Place<'_>); 2], edge: &Edge, total: i64, unit: Unit) {
    let [(from, caller), (to, callee)] = ends;
    let share = share_of(edge.weight, total);
    let name = |place: &Place<'_>| escaped(&place.shown(place.name, place.file).join(" "));
    let arrow = if edge.residual { "..." } else { "->" };
    let tip = format!("{} {arrow} {} ({})", name(caller), name(callee), unit.show(edge.weight));
    put(
        out,
        format_args!(
            "N{from} -> N{to} [label=\" {}{}\" weight={} penwidth={} color=\"{}\" tooltip=\"{tip}\" labeltooltip=\"{tip}\"{}]\n",
            unit.show(edge.weight),
            if edge.inline { "\\n (inline)" } else { "" },
            1 + (share * 100.0) as u32,
            1 + (share * 5.0) as u32,
            colour(share, Tint::Line),
            if edge.residual { " style=\"dotted\"" } else { "" },
        ),
    );
}

fn share_of(value: i64, total: i64) -> f64 {
    if total == 0 { 0.0 } else { (value as f64 / total as f64).abs().min(1.0) }
}

#[derive(Clone, Copy)]
enum Tint {
    Line,
    Ground,
}

/// From grey to red: small shares already differ, as their cube root does.
fn colour(share: f64, tint: Tint) -> String {
    let (brightness, depth) = match tint {
        Tint::Line => (178.0, 1.0),
        Tint::Ground => (237.0, 0.12),
    };
    let warmth = share.cbrt() * depth;
    let rest = brightness * (1.0 - warmth);
    format!("#{:02x}{:02x}{:02x}", brightness as u8, rest as u8, rest as u8)
}

/// A function's name, one component a line, without the path of its package; then file and line.
fn broken_into_lines(place: &Place<'_>) -> String {
    let name = escaped(without_package_path(place.name)).replace("::", "\\n");
    let name = name.replace("[...]", "[…]").replace('.', "\\n");
    place.shown(&name, &escaped(base_name(place.file))).join("\\n")
}

/// `github.com/a/b.(*T).M` → `b.(*T).M`; other names as they are.
fn without_package_path(name: &str) -> &str {
    let path_end = name.find(['(', '[', '<', ' ', '*']).unwrap_or(name.len());
    match name[..path_end].rfind('/') {
        Some(slash) if name[slash + 1..].contains('.') => &name[slash + 1..],
        _ => name,
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\l")
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}
