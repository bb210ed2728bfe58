//! Two trees laid over each other: rows of groups of seven numbers.
//!
//! ```text
//! [x delta, total, self] of the left, [x delta, total, self] of the right, name
//! ```
//! Nodes that one side lacks weigh nothing there. A node is kept when either side is at or above the cut.

use proto::querier::{FlameGraphDiff, Level};

use super::OTHER;
use super::layout::{Layout, total_min, totals};
use super::levels::{DrawnNames, encode_row};
use super::tree::{NO_PARENT, Tree};
use crate::pace::Pace;

/// Draws what `tree` held when `left_values` were taken of it, against what was merged into it since.
///
/// Merging both sides into one tree is what aligns them: `left_values` is [`Tree::values`] after the left side (nodes that came
/// later weigh nothing on the left).
pub async fn flame_graph_diff(
    tree: &Tree,
    left_values: &[i64],
    nodes_max: i64,
    pace: &Pace,
) -> FlameGraphDiff {
    assert!(left_values.len() <= tree.len(), "the left side was merged before the right");
    let mut left = left_values.to_vec();
    left.resize(tree.len(), 0);
    let mut right = Vec::with_capacity(tree.len());
    for (both, left) in tree.values().iter().zip(&left) {
        right.push(both.saturating_sub(*left));
        pace.spend(1).await;
    }
    let layout = Layout::of(tree, pace).await;
    let left_totals = totals(tree.nodes(), &left, pace).await;
    let right_totals = totals(tree.nodes(), &right, pace).await;
    let of_roots = |totals: &[i64]| {
        let roots = layout.children(NO_PARENT).iter();
        roots.fold(0_i64, |sum, root| sum.saturating_add(totals[*root as usize]))
    };
    let (left_ticks, right_ticks) = (of_roots(&left_totals), of_roots(&right_totals));
    // The drawn root counts as a node here, unlike in a single flame graph.
    let greater = WithRoot {
        root: Some(left_ticks.max(right_ticks)),
        left: &left_totals,
        right: &right_totals,
    };
    let total_min = total_min(greater, nodes_max, pace).await;

    let other_name = tree.names().find(OTHER);
    let mut names = DrawnNames::new(tree);
    let mut rows: Vec<Vec<[i64; 7]>> = Vec::new();
    let mut max_self = 0;
    let mut stack = vec![(Node::Root, [0_i64; 2], 0_usize)];
    while let Some((node, [x_left, x_right], level)) = stack.pop() {
        let (own, sums, name, children) = match node {
            Node::Root => {
                ([0, 0], [left_ticks, right_ticks], DrawnNames::ROOT, layout.children(NO_PARENT))
            }
            Node::Other(sums) => (sums, sums, names.other(other_name), &[][..]),
            Node::Real(node) => {
                let at = node as usize;
                let sums = [left_totals[at], right_totals[at]];
                ([left[at], right[at]], sums, names.of(tree.nodes()[at].1), layout.children(node))
            }
        };
        max_self = max_self.max(own[0]).max(own[1]);
        if level == rows.len() {
            rows.push(Vec::new());
        }
        rows[level].push([x_left, sums[0], own[0], x_right, sums[1], own[1], name]);
        let mut x = [x_left.saturating_add(own[0]), x_right.saturating_add(own[1])];
        let mut cut = [0_i64; 2];
        for child in children {
            let sums = [left_totals[*child as usize], right_totals[*child as usize]];
            let kept = sums[0] >= total_min || sums[1] >= total_min;
            if kept {
                stack.push((Node::Real(*child), x, level + 1));
            }
            let into = if kept { &mut x } else { &mut cut };
            for (into, sum) in into.iter_mut().zip(sums) {
                *into = into.saturating_add(sum);
            }
            pace.spend(1).await;
        }
        if cut != [0, 0] {
            stack.push((Node::Other(cut), x, level + 1));
        }
        pace.spend(1).await;
    }
    let mut levels = Vec::with_capacity(rows.len());
    for row in rows {
        levels.push(Level { values: encode_row(row, [0, 3], pace).await });
    }
    FlameGraphDiff {
        names: names.texts,
        levels,
        total: left_ticks.saturating_add(right_ticks),
        max_self,
        left_ticks,
        right_ticks,
    }
}

enum Node {
    Root,
    Real(u32),
    /// What was cut under one parent, left and right.
    Other([i64; 2]),
}

/// The greater total of each node, the root's first.
struct WithRoot<'a> {
    root: Option<i64>,
    left: &'a [i64],
    right: &'a [i64],
}

impl Iterator for WithRoot<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        if let Some(root) = self.root.take() {
            return Some(root);
        }
        let ((left, rest_left), (right, rest_right)) =
            (self.left.split_first()?, self.right.split_first()?);
        (self.left, self.right) = (rest_left, rest_right);
        Some(*left.max(right))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.left.len() + usize::from(self.root.is_some());
        (len, Some(len))
    }
}

impl ExactSizeIterator for WithRoot<'_> {}
