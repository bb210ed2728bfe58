//! A call graph as Graphviz text, drawn as `go tool pprof -dot` draws it.
//!
//! A node is a line of a function (or an address without one); its size shows what it spends itself, its colour what is spent
//! below it. An edge that skips nodes left out is dotted. People and language models read this, no program parses it: the
//! legend's wording is pprof's, the layout is Graphviz's business.

mod call_graph;
mod unit;
mod write;

use proto::pprof::Profile;

use crate::pace::Pace;
use call_graph::CallGraph;
use unit::Unit;

/// Nodes drawn unless a request asks for more.
const NODES_DEFAULT: i64 = 100;

/// Nodes of the profile a graph is drawn from, unless more nodes are drawn.
const SOURCE_NODES_DEFAULT: i64 = 512;

/// Nodes drawn at most: Graphviz takes minutes for more, and dropping redundant edges costs their number times the edges.
const NODES_MAX: i64 = 4096;

/// How large a graph gets: (nodes drawn, nodes of the profile it is drawn from), where a request asks for `nodes_max` (0 or
/// absent: the defaults).
pub fn dot_sizes(nodes_max: Option<i64>) -> (i64, i64) {
    let drawn = nodes_max.filter(|n| *n > 0).unwrap_or(NODES_DEFAULT).min(NODES_MAX);
    (drawn, drawn.max(SOURCE_NODES_DEFAULT))
}

/// Draws the most telling `nodes_max` nodes of a profile with one sample type. No samples: no text.
pub async fn dot(profile: &Profile, nodes_max: i64, pace: &Pace) -> String {
    if profile.sample.is_empty() {
        return String::new();
    }
    let nodes_max = usize::try_from(nodes_max.clamp(1, NODES_MAX)).expect("it was clamped");
    let text = |row: i64| {
        usize::try_from(row)
            .ok()
            .and_then(|row| profile.string_table.get(row))
            .map_or("", |text| text)
    };
    let sample_type = profile.sample_type.last();
    let unit = Unit::of(sample_type.map_or("", |kind| text(kind.unit)));

    let whole = CallGraph::of(profile, None, pace).await;
    let nodes_count = whole.nodes_count();
    let ranked = whole.ranked(pace).await;
    let graph = if nodes_count > nodes_max {
        let mut kept = vec![false; whole.rows_count()];
        for node in &ranked[..nodes_max] {
            kept[*node as usize] = true;
        }
        let mut graph = CallGraph::of(profile, Some(&kept), pace).await;
        graph.remove_redundant_edges(pace).await;
        graph
    } else {
        whole
    };
    let shown = graph.ranked(pace).await;
    let total = graph.total();

    let mut legend = Vec::new();
    if let Some(mapping) = profile.mapping.first() {
        let (file, build_id) = (text(mapping.filename), text(mapping.build_id));
        for (what, value) in [("File", base_name(file)), ("Build ID", build_id)] {
            if !value.is_empty() {
                legend.push(format!("{what}: {value}"));
            }
        }
    }
    if let Some(kind) = sample_type.map(|kind| text(kind.r#type)).filter(|kind| !kind.is_empty()) {
        legend.push(format!("Type: {kind}"));
    }
    let flat = shown.iter().fold(0_i64, |sum, node| sum.saturating_add(graph.flat(*node)));
    legend.push(format!(
        "Showing nodes accounting for {}, {} of {} total",
        unit.show(flat),
        unit::percentage(flat, total),
        unit.show(total)
    ));
    if shown.len() < nodes_count {
        legend.push(format!("Showing top {} nodes out of {nodes_count}", shown.len()));
    }
    write::write(&graph, &shown, &legend, unit, pace).await
}

/// What stands behind the last slash of a path.
fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
