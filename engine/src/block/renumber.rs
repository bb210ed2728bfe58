//! Trees in depth-first preorder: what is below a node is a range of numbers, and neighbours in the tree are neighbours in the file.

use crate::pace::{self, Pace};

/// No node.
const NONE: u32 = u32::MAX;

/// Nodes between two looks at the pace.
const STRETCH: usize = 256;

/// Nodes of a tree in two orders.
#[derive(Debug)]
pub(super) struct DepthFirst {
    /// By old number: the new one.
    pub(super) new_of_old: Vec<u32>,
    /// By new number: the old one.
    pub(super) old_of_new: Vec<u32>,
}

impl DepthFirst {
    /// Numbers the nodes of a tree whose parents have smaller numbers than their children; row 0 is the root. Siblings keep
    /// their order.
    pub(super) async fn of(parents: &[u32], pace: &Pace) -> Self {
        let count = parents.len();
        let mut first_child = pace::filled(NONE, count, pace).await;
        let mut next_sibling = pace::filled(NONE, count, pace).await;
        for node in (1..count).rev() {
            let parent = parents[node] as usize;
            assert!(parent < node, "a parent has a smaller number than its child");
            next_sibling[node] = first_child[parent];
            first_child[parent] = node as u32;
            if node.is_multiple_of(STRETCH) {
                pace.spend(STRETCH).await;
            }
        }
        let new_of_old = pace::filled(NONE, count, pace).await;
        let mut order = Self { new_of_old, old_of_new: Vec::with_capacity(count) };
        let mut node = 0;
        loop {
            order.new_of_old[node] = order.old_of_new.len() as u32;
            order.old_of_new.push(node as u32);
            if order.old_of_new.len().is_multiple_of(STRETCH) {
                pace.spend(STRETCH).await;
            }
            let mut next = first_child[node];
            while next == NONE && node != 0 {
                next = next_sibling[node];
                node = parents[node] as usize;
            }
            if next == NONE {
                break;
            }
            node = next as usize;
        }
        assert_eq!(order.old_of_new.len(), count, "every node is below the root");
        order
    }

    /// Heap bytes held.
    pub(super) fn bytes_held(&self) -> usize {
        (self.new_of_old.capacity() + self.old_of_new.capacity()) * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::run;

    #[test]
    fn what_is_below_a_node_is_a_range() {
        bolero::check!().with_type::<Vec<u16>>().for_each(|choices| {
            let mut parents = vec![NONE];
            for (at, choice) in choices.iter().enumerate() {
                parents.push(u32::from(*choice) % (at as u32 + 1));
            }
            let order = run(DepthFirst::of(&parents, &Pace::new()));
            let new_parent = |new: usize| {
                let parent = parents[order.old_of_new[new] as usize];
                order.new_of_old.get(parent as usize).copied()
            };
            for new in 0..parents.len() {
                assert_eq!(order.new_of_old[order.old_of_new[new] as usize] as usize, new);
                // A node follows its parent or hangs on a caller of the node before it.
                let Some(parent) = new_parent(new) else { continue };
                let mut caller = Some(new as u32 - 1);
                while caller.is_some_and(|caller| caller != parent) {
                    caller = new_parent(caller.unwrap() as usize);
                }
                assert_eq!(caller, Some(parent), "preorder");
            }
        });
    }
}
