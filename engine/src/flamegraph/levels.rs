//! The flame graph that Grafana draws: rows of groups of four numbers.
//!
//! ```text
//! level n:  [x delta, total, self, name] [x delta, total, self, name] …      left to right
//! ```
//! `x` of a node is where the nodes before it in its row end, plus the delta. Level 0 is one root named `total`. Children
//! stand behind their parent's self value, by name; what was cut comes last, as `other`.

use proto::querier::{FlameGraph, Level};

use super::layout::{Layout, settled_total_min, totals};
use super::tree::{NO_PARENT, Tree};
use super::{OTHER, TOTAL};
use crate::pace::Pace;

/// Draws a tree of at most about `nodes_max` nodes (below 1: all of them).
///
/// Nodes whose total is below the cut are folded into one `other` under their parent, and so is a function that is really
/// called so. An empty tree is a root of total 0: clients index the first level and name.
pub async fn flame_graph(tree: &Tree, nodes_max: i64, pace: &Pace) -> FlameGraph {
    let layout = Layout::of(tree, pace).await;
    let totals = totals(tree.nodes(), tree.values(), pace).await;
    let total_min = settled_total_min(tree.nodes(), &totals, nodes_max, pace).await;
    let other_name = tree.names().find(OTHER);

    let mut names = DrawnNames::new(tree);
    let mut rows: Vec<Vec<[i64; 4]>> = Vec::new();
    let mut max_self = 0;
    let total = layout
        .children(NO_PARENT)
        .iter()
        .fold(0_i64, |sum, root| sum.saturating_add(totals[*root as usize]));
    let mut stack = vec![Drawn { node: Node::Root, x: 0, level: 0 }];
    while let Some(Drawn { node, x, level }) = stack.pop() {
        let (own, sum, name, children) = match node {
            Node::Root => (0, total, DrawnNames::ROOT, layout.children(NO_PARENT)),
            Node::Other(sum) => (sum, sum, names.other(other_name), &[][..]),
            Node::Real(node) => {
                let at = node as usize;
                (tree.values()[at], totals[at], names.of(tree.nodes()[at].1), layout.children(node))
            }
        };
        max_self = max_self.max(own);
        if level == rows.len() {
            rows.push(Vec::new());
        }
        rows[level].push([x, sum, own, name]);
        let mut x = x.saturating_add(own);
        let mut cut = 0_i64;
        for child in children {
            let (sum, name) = (totals[*child as usize], tree.nodes()[*child as usize].1);
            if sum >= total_min && Some(name) != other_name {
                stack.push(Drawn { node: Node::Real(*child), x, level: level + 1 });
                x = x.saturating_add(sum);
            } else {
                cut = cut.saturating_add(sum);
            }
            pace.spend(1).await;
        }
        if cut != 0 {
            stack.push(Drawn { node: Node::Other(cut), x, level: level + 1 });
        }
        pace.spend(1).await;
    }
    let mut levels = Vec::with_capacity(rows.len());
    for row in rows {
        levels.push(Level { values: encode_row(row, [0], pace).await });
    }
    FlameGraph { names: names.texts, levels, total, max_self }
}

/// A node waiting to be drawn.
struct Drawn {
    node: Node,
    x: i64,
    level: usize,
}

enum Node {
    Root,
    Real(u32),
    /// What was cut under one parent.
    Other(i64),
}

/// Turns a row that was drawn from right to left round, and its offsets (at the given places, each followed by a total) into
/// distances from the end of the node before.
pub(super) async fn encode_row<const N: usize, const OFFSETS: usize>(
    mut row: Vec<[i64; N]>,
    offsets: [usize; OFFSETS],
    pace: &Pace,
) -> Vec<i64> {
    row.reverse();
    let mut values = Vec::with_capacity(row.len() * N);
    let mut ends = [0_i64; OFFSETS];
    for mut group in row {
        for (end, at) in ends.iter_mut().zip(offsets) {
            let x = group[at];
            group[at] = x.saturating_sub(*end);
            *end = x.saturating_add(group[at + 1]);
        }
        values.extend_from_slice(&group);
        pace.spend(1).await;
    }
    values
}

/// Numbers of names in the order in which they are first drawn.
pub(super) struct DrawnNames<'a> {
    tree: &'a Tree,
    numbers: Vec<u32>,
    other: Option<i64>,
    pub(super) texts: Vec<String>,
}

impl<'a> DrawnNames<'a> {
    /// No names but the root's.
    pub(super) fn new(tree: &'a Tree) -> Self {
        let numbers = vec![u32::MAX; tree.names().as_slice().len()];
        Self { tree, numbers, other: None, texts: vec![TOTAL.to_owned()] }
    }

    /// Number of the drawn root.
    pub(super) const ROOT: i64 = 0;

    /// Number of a name of the tree.
    pub(super) fn of(&mut self, name: u32) -> i64 {
        let number = &mut self.numbers[name as usize];
        if *number == u32::MAX {
            *number = self.texts.len() as u32;
            self.texts.push(self.tree.names().as_slice()[name as usize].clone());
        }
        i64::from(*number)
    }

    /// Number of `other`, which the tree may have as a name.
    pub(super) fn other(&mut self, name: Option<u32>) -> i64 {
        if let Some(name) = name {
            return self.of(name);
        }
        *self.other.get_or_insert_with(|| {
            self.texts.push(OTHER.to_owned());
            self.texts.len() as i64 - 1
        })
    }
}
