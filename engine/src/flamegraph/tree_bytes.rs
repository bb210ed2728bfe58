//! The compact tree of `PROFILE_FORMAT_TREE`.
//!
//! ```text
//! node = uvarint(name length) name uvarint(self) uvarint(children count)      then its children, each with all below it
//! ```
//! The first node is a root without name; siblings are written last first (readers sort on insert). No node: no byte.

use super::OTHER;
use super::layout::{Layout, settled_total_min, totals};
use super::tree::{NO_PARENT, Tree};
use crate::pace::Pace;
use crate::varint;

/// Encodes a tree of at most about `nodes_max` nodes (below 1: all of them); what is cut is added to a child `other`.
pub async fn tree_bytes(tree: &Tree, nodes_max: i64, pace: &Pace) -> Vec<u8> {
    if tree.is_empty() {
        return Vec::new();
    }
    let layout = Layout::of(tree, pace).await;
    let totals = totals(tree.nodes(), tree.values(), pace).await;
    let total_min = settled_total_min(tree.nodes(), &totals, nodes_max, pace).await;
    let other_name = tree.names().find(OTHER);

    let mut bytes = Vec::with_capacity(tree.len() * 16);
    // (node, what was cut beside it); `None` is an `other` that is no node of the tree.
    let mut stack = vec![(Some(NO_PARENT), 0_i64)];
    while let Some((node, extra)) = stack.pop() {
        let (name, own, children) = match node {
            None => (OTHER, 0, &[][..]),
            Some(NO_PARENT) => ("", 0, layout.children(NO_PARENT)),
            Some(node) => {
                let name = tree.nodes()[node as usize].1 as usize;
                (
                    &*tree.names().as_slice()[name],
                    tree.values()[node as usize],
                    layout.children(node),
                )
            }
        };
        varint::put(&mut bytes, name.len() as u64);
        bytes.extend_from_slice(name.as_bytes());
        varint::put(&mut bytes, own.saturating_add(extra).cast_unsigned());
        let first = stack.len();
        let (mut cut, mut real_other) = (0_i64, None);
        for child in children {
            let is_other = Some(tree.nodes()[*child as usize].1) == other_name;
            if is_other {
                real_other = Some(stack.len());
            }
            if is_other || totals[*child as usize] >= total_min {
                stack.push((Some(*child), 0));
            } else {
                cut = cut.saturating_add(totals[*child as usize]);
            }
            pace.spend(1).await;
        }
        if cut > 0 {
            match real_other {
                Some(at) => stack[at].1 = cut,
                None => stack.push((None, cut)),
            }
        }
        varint::put(&mut bytes, (stack.len() - first) as u64);
        pace.spend(1).await;
    }
    bytes
}
