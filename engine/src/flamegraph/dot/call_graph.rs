//! Who calls whom, and what it costs: the graph behind the picture.

use std::collections::BTreeMap;

use proto::pprof::{Location, Profile};

use super::base_name;
use crate::pace::{Pace, sort};

/// Which line of which function, or which address where no function is known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) file: &'a str,
    pub(super) line: i64,
    pub(super) address: u64,
    /// File of the mapping, where there is no function name.
    pub(super) object: &'a str,
}

impl Place<'_> {
    /// The parts a person sees, in order.
    pub(super) fn shown(&self, name: &str, file: &str) -> Vec<String> {
        let mut parts = Vec::new();
        if self.address != 0 {
            parts.push(format!("{:016x}", self.address));
        }
        if !name.is_empty() {
            parts.push(name.to_owned());
        }
        if self.line != 0 {
            parts.push(format!("{file}:{}", self.line));
        } else if !file.is_empty() {
            parts.push(file.to_owned());
        } else if name.is_empty() {
            let object = base_name(self.object);
            parts.push(if object.is_empty() {
                "<unknown>".to_owned()
            } else {
                format!("[{object}]")
            });
        }
        parts
    }
}

/// One call relation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) weight: i64,
    /// Nodes between its ends were left out.
    pub(super) residual: bool,
    /// All of its calls were inlined.
    pub(super) inline: bool,
    /// Sample that was counted last: a recursive stack counts once.
    sample: usize,
}

/// Nodes by place and the edges between them.
#[derive(Debug)]
pub(super) struct CallGraph<'a> {
    places: Vec<Place<'a>>,
    flat: Vec<i64>,
    cum: Vec<i64>,
    /// By (caller, callee).
    edges: BTreeMap<(u32, u32), Edge>,
    total: i64,
}

impl<'a> CallGraph<'a> {
    /// Builds the graph of a profile's last sample type; with `kept`, of those nodes only (numbers are those of a graph built
    /// without).
    pub(super) async fn of(profile: &'a Profile, kept: Option<&[bool]>, pace: &Pace) -> Self {
        let mut graph = Self {
            places: Vec::new(),
            flat: Vec::new(),
            cum: Vec::new(),
            edges: BTreeMap::new(),
            total: 0,
        };
        let mut rows = BTreeMap::new();
        let mut nodes_of = BTreeMap::new();
        for location in &profile.location {
            let nodes: Vec<u32> = places_of(profile, location)
                .map(|place| {
                    *rows.entry(place.clone()).or_insert_with(|| {
                        graph.places.push(place);
                        graph.places.len() as u32 - 1
                    })
                })
                .collect();
            pace.spend(nodes.len() * 4 + 1).await;
            nodes_of.insert(location.id, nodes);
        }
        graph.flat = vec![0; graph.places.len()];
        graph.cum = vec![0; graph.places.len()];
        let mut seen_in = vec![usize::MAX; graph.places.len()];
        for (at, sample) in profile.sample.iter().enumerate() {
            let weight = sample.value.last().copied().unwrap_or(0);
            if weight == 0 {
                continue;
            }
            graph.total = graph.total.saturating_add(weight.saturating_abs());
            let (mut caller, mut residual) = (None, false);
            for location in sample.location_id.iter().rev() {
                let Some(nodes) = nodes_of.get(location) else { continue };
                for (line, node) in nodes.iter().enumerate().rev() {
                    if kept.is_some_and(|kept| !kept[*node as usize]) {
                        residual = true;
                        continue;
                    }
                    if seen_in[*node as usize] != at {
                        seen_in[*node as usize] = at;
                        let cum = &mut graph.cum[*node as usize];
                        *cum = cum.saturating_add(weight);
                    }
                    if let Some(caller) = caller.filter(|caller| caller != node) {
                        graph.count_call(
                            (caller, *node),
                            weight,
                            residual,
                            line + 1 != nodes.len(),
                            at,
                        );
                    }
                    (caller, residual) = (Some(*node), false);
                }
                pace.spend(nodes.len() * 4 + 1).await;
            }
            if let Some(leaf) = caller.filter(|_| !residual) {
                let flat = &mut graph.flat[leaf as usize];
                *flat = flat.saturating_add(weight);
            }
        }
        graph
    }

    fn count_call(
        &mut self,
        call: (u32, u32),
        weight: i64,
        residual: bool,
        inline: bool,
        sample: usize,
    ) {
        let edge = self.edges.entry(call).or_insert(Edge {
            weight: 0,
            residual: false,
            inline: true,
            sample: usize::MAX,
        });
        if edge.sample != sample {
            edge.sample = sample;
            edge.weight = edge.weight.saturating_add(weight);
            edge.residual |= residual;
            edge.inline &= inline;
        }
    }

    /// Numbers of all places, drawn or not.
    pub(super) fn rows_count(&self) -> usize {
        self.places.len()
    }

    /// Number of nodes that weigh anything.
    pub(super) fn nodes_count(&self) -> usize {
        self.cum.iter().zip(&self.flat).filter(|(cum, flat)| **cum != 0 || **flat != 0).count()
    }

    pub(super) fn place(&self, node: u32) -> &Place<'a> {
        &self.places[node as usize]
    }

    pub(super) fn flat(&self, node: u32) -> i64 {
        self.flat[node as usize]
    }

    pub(super) fn cum(&self, node: u32) -> i64 {
        self.cum[node as usize]
    }

    pub(super) fn edges(&self) -> &BTreeMap<(u32, u32), Edge> {
        &self.edges
    }

    /// Sum of all samples.
    pub(super) fn total(&self) -> i64 {
        self.total
    }

    /// Nodes that weigh anything, the most telling first: heavy ones, and those where calls meet or part.
    pub(super) async fn ranked(&self, pace: &Pace) -> Vec<u32> {
        let mut into = vec![Branching::default(); self.places.len()];
        let mut out = vec![Branching::default(); self.places.len()];
        for ((caller, callee), edge) in &self.edges {
            out[*caller as usize].sum += edge.weight.saturating_abs() as f64;
            into[*callee as usize].sum += edge.weight.saturating_abs() as f64;
            pace.spend(1).await;
        }
        for (own, out) in self.flat.iter().zip(&mut out) {
            out.sum += (*own).max(0) as f64;
        }
        for ((caller, callee), edge) in &self.edges {
            out[*caller as usize].count(edge.weight.saturating_abs() as f64);
            into[*callee as usize].count(edge.weight.saturating_abs() as f64);
            pace.spend(1).await;
        }
        let mut scores = Vec::with_capacity(self.places.len());
        for node in 0..self.places.len() {
            let own = self.flat[node];
            if own > 0 && out[node].is_met {
                out[node].count(own as f64);
            }
            let score = into[node].score() + out[node].score();
            scores.push(score * self.cum[node] as f64 + own as f64);
            pace.spend(1).await;
        }
        let mut nodes: Vec<u32> = (0..self.places.len() as u32)
            .filter(|node| self.cum(*node) != 0 || self.flat(*node) != 0)
            .collect();
        sort(&mut nodes, pace, |a, b| {
            let (score_a, score_b) = (scores[a as usize].abs(), scores[b as usize].abs());
            score_b.total_cmp(&score_a).then_with(|| self.place(a).cmp(self.place(b)))
        })
        .await;
        nodes
    }

    /// Drops dotted edges whose ends are joined by another path: they add ink, no news. The lightest go first.
    pub(super) async fn remove_redundant_edges(&mut self, pace: &Pace) {
        let mut callers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (caller, callee) in self.edges.keys() {
            callers.entry(*callee).or_default().push(*caller);
        }
        let mut residual: Vec<(i64, (u32, u32))> = self
            .edges
            .iter()
            .filter(|(_, edge)| edge.residual)
            .map(|(call, edge)| (edge.weight.saturating_abs(), *call))
            .collect();
        residual.sort_unstable();
        for (_, call) in residual {
            if is_reached_otherwise(&callers, call, pace).await {
                self.edges.remove(&call);
                if let Some(of_callee) = callers.get_mut(&call.1) {
                    of_callee.retain(|caller| *caller != call.0);
                }
            }
        }
    }
}

/// Whether a path other than the edge itself leads from caller to callee.
async fn is_reached_otherwise(
    callers: &BTreeMap<u32, Vec<u32>>,
    (caller, callee): (u32, u32),
    pace: &Pace,
) -> bool {
    let mut seen = std::collections::BTreeSet::from([callee]);
    let mut waiting = vec![callee];
    while let Some(node) = waiting.pop() {
        for from in callers.get(&node).into_iter().flatten() {
            pace.spend(2).await;
            if node == callee && *from == caller {
                continue;
            }
            if *from == caller {
                return true;
            }
            if seen.insert(*from) {
                waiting.push(*from);
            }
        }
    }
    false
}

/// How calls into or out of a node are spread: the entropy of their weights.
#[derive(Clone, Copy, Debug, Default)]
struct Branching {
    sum: f64,
    entropy: f64,
    is_met: bool,
}

impl Branching {
    fn count(&mut self, weight: f64) {
        self.is_met = true;
        let share = weight / self.sum;
        if share > 0.0 {
            self.entropy -= share * share.log2();
        }
    }

    /// Ends of paths (entries and leaves) are as telling as an even fork.
    fn score(self) -> f64 {
        if self.is_met { self.entropy } else { 1.0 }
    }
}

/// The places of a location, innermost first; one without a function if it has no lines.
fn places_of<'a>(profile: &'a Profile, location: &'a Location) -> impl Iterator<Item = Place<'a>> {
    let text = |row: i64| {
        usize::try_from(row)
            .ok()
            .and_then(|row| profile.string_table.get(row))
            .map_or("", |text| text)
    };
    let row = |id: u64| usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
    let object = row(location.mapping_id)
        .and_then(|row| profile.mapping.get(row))
        .map_or("", |mapping| text(mapping.filename));
    let address = location.address;
    let bare =
        location.line.is_empty().then_some(Place { name: "", file: "", line: 0, address, object });
    let lines = location.line.iter().map(move |line| {
        let function = row(line.function_id).and_then(|row| profile.function.get(row));
        let name = function.map_or("", |function| text(function.name));
        let file = function.map_or("", |function| text(function.filename));
        let object = if name.is_empty() { object } else { "" };
        Place { name, file, line: line.line, address, object }
    });
    bare.into_iter().chain(lines)
}
