//! What is asked of profiles: selecting on a shard, merging the parts of shards, answering.

pub mod intern;
mod merged_profile;
mod request;
mod select;
mod time_series;
mod timeline;
mod written_profile;

pub use merged_profile::{MergedProfile, Shape};
pub use request::{Range, RequestError, flame_graph_nodes, step_ms};
pub use select::{Progress, Select};
pub use time_series::{Aggregation, TimeSeries};
pub use timeline::{Timeline, timeline_step_s};
pub use written_profile::WrittenProfile;

#[cfg(test)]
pub(crate) mod tests;
