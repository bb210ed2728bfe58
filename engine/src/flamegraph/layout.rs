//! The order in which a tree is drawn, and what its nodes weigh.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::tree::{NO_PARENT, Tree};
use crate::pace::{Pace, sort};

/// Children of every node in the order of their names, bytewise.
#[derive(Debug)]
pub struct Layout {
    /// Where the children of each node begin in `children`; the roots are the children of a node behind the last.
    starts: Vec<u32>,
    children: Vec<u32>,
}

impl Layout {
    /// Orders a tree. Names are sorted once; the rest is counting, linear in nodes.
    pub async fn of(tree: &Tree, pace: &Pace) -> Self {
        let names = tree.names().as_slice();
        let mut by_name: Vec<u32> = (0..names.len() as u32).collect();
        sort(&mut by_name, pace, |a, b| names[a as usize].cmp(&names[b as usize])).await;

        let nodes = tree.nodes();
        // Nodes in the order of their names first; dealing them to their parents then keeps that order.
        let name_of = |node: usize| nodes[node].1 as usize;
        let (starts, ordered) = deal(nodes.len(), names.len(), name_of, 0..nodes.len(), pace).await;
        let mut in_name_order = Vec::with_capacity(nodes.len());
        for name in by_name {
            let (from, to) = (starts[name as usize] as usize, starts[name as usize + 1] as usize);
            in_name_order.extend_from_slice(&ordered[from..to]);
            pace.spend(1 + (to - from) / 8).await;
        }
        let parent_of = |node: usize| match nodes[node].0 {
            NO_PARENT => nodes.len(),
            parent => parent as usize,
        };
        let order = in_name_order.iter().map(|node| *node as usize);
        let (starts, children) = deal(nodes.len(), nodes.len() + 1, parent_of, order, pace).await;
        Self { starts, children }
    }

    /// Children of a node, or the roots under [`NO_PARENT`], by name.
    pub fn children(&self, node: u32) -> &[u32] {
        let at = if node == NO_PARENT { self.starts.len() - 2 } else { node as usize };
        &self.children[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}

/// Deals items to places, keeping their order within a place: (where each place begins, items by place).
async fn deal(
    items_count: usize,
    places_count: usize,
    place_of: impl Fn(usize) -> usize,
    items: impl Iterator<Item = usize>,
    pace: &Pace,
) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0_u32; places_count + 1];
    for item in 0..items_count {
        starts[place_of(item) + 1] += 1;
        pace.spend(1).await;
    }
    for place in 0..places_count {
        starts[place + 1] += starts[place];
        pace.spend(1).await;
    }
    let mut free = starts.clone();
    let mut dealt = vec![0_u32; items_count];
    for item in items {
        let at = &mut free[place_of(item)];
        dealt[*at as usize] = item as u32;
        *at += 1;
        pace.spend(1).await;
    }
    (starts, dealt)
}

/// Total of each node: its own value and its descendants'. (`nodes` are (parent, …), parents first.)
pub(crate) async fn totals<T>(nodes: &[(u32, T)], values: &[i64], pace: &Pace) -> Vec<i64> {
    let mut totals = values.to_vec();
    for node in (0..nodes.len()).rev() {
        if nodes[node].0 != NO_PARENT {
            let parent = nodes[node].0 as usize;
            totals[parent] = totals[parent].saturating_add(totals[node]);
        }
        pace.spend(1).await;
    }
    totals
}

/// The smallest total that is kept when at most about `nodes_max` nodes are: the smallest of the `nodes_max` greatest totals.
/// 0 (everything is kept) when there are no more nodes than that, or `nodes_max` is no limit (below 1).
pub(crate) async fn total_min(
    totals: impl ExactSizeIterator<Item = i64>,
    nodes_max: i64,
    pace: &Pace,
) -> i64 {
    let Some(nodes_max) = usize::try_from(nodes_max).ok().filter(|n| *n > 0) else { return 0 };
    if totals.len() <= nodes_max {
        return 0;
    }
    let mut greatest = BinaryHeap::with_capacity(nodes_max);
    for total in totals {
        if greatest.len() < nodes_max {
            greatest.push(Reverse(total));
        } else if greatest.peek().is_some_and(|least| total > least.0) {
            greatest.pop();
            greatest.push(Reverse(total));
        }
        pace.spend(1).await;
    }
    greatest.peek().map_or(0, |least| least.0)
}

/// Passes of [`settled_total_min`]: Pyroscope cuts where a tree is read, where parts are merged (twice) and where it is drawn.
const CUTS_MAX: usize = 4;

/// [`total_min`] of what is left when the nodes called `other`, which cutting makes, count as nodes too.
///
/// Cutting to `n` nodes leaves up to `n` of them and as many `other`; so the result is cut again, until it holds still. The
/// answer is found without building those trees: a cut at `m` keeps the nodes of total `m` and above, and leaves under each of
/// them one `other` of what its other children weigh. Each pass raises the cut or ends.
pub(crate) async fn settled_total_min<T>(
    nodes: &[(u32, T)],
    totals: &[i64],
    nodes_max: i64,
    pace: &Pace,
) -> i64 {
    let mut cut_at = total_min(totals.iter().copied(), nodes_max, pace).await;
    for _ in 1..CUTS_MAX {
        if cut_at == 0 {
            break;
        }
        let mut left = Vec::new();
        // what is cut under each node, and under the root behind the last
        let mut others = vec![0_i64; nodes.len() + 1];
        for ((parent, _), total) in nodes.iter().zip(totals) {
            if *total >= cut_at {
                left.push(*total);
            } else if *parent == NO_PARENT || totals[*parent as usize] >= cut_at {
                let other = &mut others[(*parent as usize).min(nodes.len())];
                *other = other.saturating_add(*total);
            }
            pace.spend(1).await;
        }
        for other in others {
            if other != 0 {
                left.push(other);
            }
            pace.spend(1).await;
        }
        let next = total_min(left.iter().copied(), nodes_max, pace).await;
        if next <= cut_at {
            break;
        }
        cut_at = next;
    }
    cut_at
}
