//! What is asked of profiles: selecting on a shard, merging the parts of shards, answering.

pub mod intern;
