//! Which stacks begin at a call site: the root-most frames, inlined lines expanded, are the given functions in order.

use crate::profile::Step;
use crate::symbols::{NodeId, Symbols};

/// Nodes looked at in a step at most, 20 ns each (and a comparison of texts while a path still matches).
const STEP_NODES_MAX: usize = 16 << 10;

/// A frame differed.
const MISSED: u32 = u32::MAX;

/// The nodes of one table of symbols whose stacks begin at a call site.
#[derive(Debug)]
pub(super) struct CallSite {
    names: Vec<String>,
    /// By node: how many of the names its path has matched, all of its frames being matched so far; or [`MISSED`].
    matched: Vec<u32>,
}

impl CallSite {
    /// No call site (no names) is one that every stack has.
    pub(super) fn new(names: Vec<String>) -> Self {
        Self { names, matched: Vec::new() }
    }

    /// Whether every stack belongs.
    pub(super) fn is_everywhere(&self) -> bool {
        self.names.is_empty()
    }

    /// Goes to another table.
    pub(super) fn reset(&mut self) {
        self.matched.clear();
    }

    /// Heap bytes that grow with the tree.
    pub(super) fn bytes_held(&self) -> usize {
        self.matched.capacity() * size_of::<u32>()
    }

    /// Looks at some more of the first `nodes_count` nodes.
    pub(super) fn step(&mut self, symbols: &Symbols, nodes_count: usize) -> Step {
        if self.is_everywhere() {
            return Step::Done;
        }
        let until = nodes_count.min(self.matched.len() + STEP_NODES_MAX);
        for node in self.matched.len()..until {
            self.matched.push(self.matched_of(symbols, NodeId(node as u32)));
        }
        if until == nodes_count { Step::Done } else { Step::More }
    }

    /// Whether the stack that ends in this node belongs.
    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.is_everywhere() || self.matched[node.0 as usize] as usize == self.names.len()
    }

    fn matched_of(&self, symbols: &Symbols, node: NodeId) -> u32 {
        let (Some(parent), Some(location)) = (symbols.parent(node), symbols.location(node)) else {
            return 0;
        };
        let mut matched = self.matched[parent.0 as usize];
        if matched == MISSED || matched as usize == self.names.len() {
            return matched;
        }
        // Lines are innermost first; the path goes from the outermost inwards.
        let functions: Vec<_> = symbols.lines(location).map(|line| line.function).collect();
        for function in functions.into_iter().rev() {
            let Some(name) = self.names.get(matched as usize) else { break };
            if symbols.string(symbols.function(function).name) != name {
                return MISSED;
            }
            matched += 1;
        }
        matched
    }
}
