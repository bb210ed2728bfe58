//! The components of a node, one file each: they drive the engine and take no decision that could be tested without them.
//!
//! ```text
//! http ─► distributor ─mesh─► ingester ─► log + head          http ─► querier ─mesh─► select ─► head
//! ```

pub mod distributor;
pub mod ingester;
pub mod places;
pub mod querier;
pub mod rates;
pub mod spread;
pub mod write_counters;
