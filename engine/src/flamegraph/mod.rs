//! Trees over function names and what is drawn of them.
//!
//! ```text
//! parts of shards ─► Tree (merged whole) ─► Layout (children in order, totals) ─┬► levels   flame graph
//!                                                                              ├► tree_bytes
//!                     two Trees ─► diff (both laid over each other)             │
//!                     pprof ─► dot                                              └ each truncated here, once
//! ```
//! A tree is never cut before it is whole: a node below the cut in every part may be above it in the sum.
//! All passes are paced ([`crate::pace`]). Not here: where trees come from ([`crate::query`]).

mod diff;
mod dot;
mod layout;
mod levels;
mod tree;
mod tree_bytes;

pub use diff::flame_graph_diff;
pub use dot::{dot, dot_sizes};
pub use layout::Layout;
pub use levels::flame_graph;
pub use tree::{NO_PARENT, PartError, Tree};
pub use tree_bytes::tree_bytes;

pub(crate) use layout::{settled_total_min, totals};

/// Name of what truncation folds together.
pub const OTHER: &str = "other";

/// Name of the drawn root.
pub const TOTAL: &str = "total";

#[cfg(test)]
mod tests;
