//! What is asked of profiles: selecting on a shard, merging the parts of shards, answering.

pub mod intern;
mod request;
mod time_series;
mod timeline;

pub use request::{Range, RequestError, flame_graph_nodes, step_ms};
pub use time_series::{Aggregation, TimeSeries};
pub use timeline::{Timeline, timeline_step_s};
