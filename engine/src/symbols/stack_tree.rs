//! The stack tree of one partition: nodes are locations under a parent; a stack is the node of its leaf.
//!
//! Two ways lead to a node: the hash of a whole stack (one look-up for a known one) and a step from a parent to a child (for
//! the rest of a new one). A new stack adds its nodes one behind the other, so most children stand right behind their parents;
//! only the others are in a hash table.

use super::column;
use super::content_map::ContentMap;
use super::table::Table;
use super::{HashKeys, LocationId, NodeId};

/// The tree. Row 0 is the root, which stands for the empty stack.
#[derive(Debug)]
pub(super) struct StackTree {
    parents: Vec<u32>,
    locations: Vec<u32>,
    /// Nodes that do not stand right behind their parents.
    children: Table<u32>,
    stacks: ContentMap,
}

impl Default for StackTree {
    fn default() -> Self {
        let mut tree = Self {
            parents: Vec::new(),
            locations: Vec::new(),
            children: Table::default(),
            stacks: ContentMap::default(),
        };
        column::push(&mut tree.parents, u32::MAX);
        column::push(&mut tree.locations, u32::MAX);
        tree
    }
}

impl StackTree {
    /// Number of nodes, the root included.
    pub(super) fn nodes_count(&self) -> usize {
        self.parents.len()
    }

    /// Number of distinct stacks that were interned.
    pub(super) fn stacks_count(&self) -> usize {
        self.stacks.len()
    }

    #[inline]
    pub(super) fn parent(&self, node: NodeId) -> Option<NodeId> {
        let parent = self.parents[node.0 as usize];
        (parent != u32::MAX).then_some(NodeId(parent))
    }

    #[inline]
    pub(super) fn location(&self, node: NodeId) -> Option<LocationId> {
        let location = self.locations[node.0 as usize];
        (location != u32::MAX).then_some(LocationId(location))
    }

    pub(super) fn columns(&self) -> (&[u32], &[u32]) {
        (&self.parents, &self.locations)
    }

    /// The node of a stack by the hash of its location ids.
    #[inline]
    pub(super) fn find_stack(&self, hash: u128) -> Option<NodeId> {
        self.stacks.find(hash).map(NodeId)
    }

    /// Notes the node of a stack that [`StackTree::find_stack`] did not find.
    pub(super) fn insert_stack(&mut self, hash: u128, node: NodeId) {
        self.stacks.insert(hash, node.0);
    }

    /// The child of `parent` at `location`, where there is one.
    #[inline]
    pub(super) fn find_child(
        &self,
        parent: NodeId,
        location: LocationId,
        keys: HashKeys,
    ) -> Option<NodeId> {
        let next = parent.0 + 1;
        if next as usize == self.parents.len() {
            return None; // the last node has no child
        }
        if self.is_child(next, parent, location) {
            return Some(NodeId(next));
        }
        let hash = keys.pair(0, parent.0, location.0);
        self.children.find(hash, |node| self.is_child(*node, parent, location)).map(NodeId)
    }

    /// Adds a child that [`StackTree::find_child`] did not find.
    #[inline]
    pub(super) fn insert_child(
        &mut self,
        parent: NodeId,
        location: LocationId,
        keys: HashKeys,
    ) -> NodeId {
        let node = u32::try_from(self.parents.len()).expect("a head holds fewer than 2^32 nodes");
        assert!(parent.0 < node, "a parent has a smaller id than its child");
        column::push(&mut self.parents, parent.0);
        column::push(&mut self.locations, location.0);
        if node != parent.0 + 1 {
            self.children.insert(keys.pair(0, parent.0, location.0), node, |node| {
                let node = *node as usize;
                keys.pair(0, self.parents[node], self.locations[node])
            });
        }
        NodeId(node)
    }

    /// Whether a number is that of a node, and its parent and location are these.
    #[inline]
    pub(super) fn is_child(&self, node: u32, parent: NodeId, location: LocationId) -> bool {
        let node = node as usize;
        self.parents.get(node) == Some(&parent.0) && self.locations.get(node) == Some(&location.0)
    }

    pub(super) fn bytes_held(&self) -> usize {
        column::bytes(&self.parents)
            + column::bytes(&self.locations)
            + self.children.bytes_held()
            + self.stacks.bytes_held()
    }

    #[cfg(test)]
    pub(super) fn bytes_recounted(&self) -> usize {
        column::bytes(&self.parents)
            + column::bytes(&self.locations)
            + self.children.bytes_recounted()
            + self.stacks.bytes_recounted()
    }
}
