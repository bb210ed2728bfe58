//! A tree over function names that grows by merging.

use proto::rpc::select::TreePart;

use crate::hash::HashSecret;
use crate::pace::Pace;
use crate::query::intern::{Rows, Texts};

/// Parent of a root.
pub const NO_PARENT: u32 = u32::MAX;

/// A tree over function names; a parent's number is smaller than its children's. Values are self values in the sample type's
/// unit; sums saturate.
#[derive(Debug)]
pub struct Tree {
    names: Texts,
    /// (parent, name) of each node.
    nodes: Rows<(u32, u32)>,
    values: Vec<i64>,
}

/// A part of another shard that is not what a shard sends.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartError {
    /// Columns of different length.
    #[error("columns of a partial result differ in length")]
    Ragged,
    /// A reference to a row that is not there, or to a parent behind its child.
    #[error("row {row} of a partial result refers to {what} {to}, which it does not hold")]
    Dangling {
        /// The referring row.
        row: usize,
        /// Kind of the row referred to.
        what: &'static str,
        /// Its number.
        to: u32,
    },
}

impl Tree {
    /// No nodes.
    pub fn new(secret: &HashSecret) -> Self {
        Self { names: Texts::new(secret), nodes: Rows::new(secret), values: Vec::new() }
    }

    /// The number of a name.
    pub fn name(&mut self, text: &str) -> u32 {
        self.names.intern(text)
    }

    /// The child of a node (or the root, under [`NO_PARENT`]) that bears a name.
    pub fn child(&mut self, parent: u32, name: u32) -> u32 {
        debug_assert!(
            parent == NO_PARENT || (parent as usize) < self.values.len(),
            "parents come first"
        );
        let (node, is_new) = self.nodes.intern((parent, name));
        if is_new {
            self.values.push(0);
        }
        node
    }

    /// Adds to a node's self value.
    pub fn add(&mut self, node: u32, value: i64) {
        let sum = &mut self.values[node as usize];
        *sum = sum.saturating_add(value);
    }

    /// Adds a part, node by node from the roots. `O(nodes)`; allocates only for paths and names this tree lacks.
    pub async fn merge(&mut self, part: &TreePart, pace: &Pace) -> Result<(), PartError> {
        let count = part.parents.len();
        if part.name_ids.len() != count || part.values.len() != count {
            return Err(PartError::Ragged);
        }
        let mut names = Vec::with_capacity(part.names.len());
        for name in &part.names {
            names.push(self.names.intern(name));
            pace.spend(2).await;
        }
        let mut nodes = Vec::with_capacity(count);
        for (row, ((parent, name), value)) in
            part.parents.iter().zip(&part.name_ids).zip(&part.values).enumerate()
        {
            let parent = if *parent == NO_PARENT {
                NO_PARENT
            } else {
                *nodes.get(*parent as usize).ok_or(PartError::Dangling {
                    row,
                    what: "node",
                    to: *parent,
                })?
            };
            let name = names.get(*name as usize).ok_or(PartError::Dangling {
                row,
                what: "name",
                to: *name,
            })?;
            let node = self.child(parent, *name);
            self.add(node, *value);
            nodes.push(node);
            pace.spend(2).await;
        }
        Ok(())
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Names by number.
    pub fn names(&self) -> &Texts {
        &self.names
    }

    /// (parent, name) of each node.
    pub fn nodes(&self) -> &[(u32, u32)] {
        self.nodes.as_slice()
    }

    /// Self value of each node.
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// Heap bytes, about: nodes with what finds them, and names at 32 bytes beside their header.
    pub fn bytes_held(&self) -> usize {
        const NODE: usize = size_of::<(u32, u32)>() + size_of::<i64>() + 8;
        const NAME: usize = size_of::<String>() + 32 + 8;
        self.len() * NODE + self.names.as_slice().len() * NAME
    }

    /// As it travels.
    pub fn into_part(self) -> TreePart {
        let (parents, name_ids) = self.nodes.into_vec().into_iter().unzip();
        TreePart { names: self.names.into_vec(), parents, name_ids, values: self.values }
    }
}
