//! Runtimes, sockets, files, HTTP and the components: everything that does, on top of an engine that only knows.
//!
//! [`runtime`] is five small traits with a backend each; generic over them are the drivers where faults matter (the log's
//! group commit, recovery, the publishing of blocks, the distributor's and ingester's tasks). [`mesh`] carries messages between shards.

pub mod blocks;
pub mod budget;
pub mod component;
pub mod config;
pub mod data_dir;
pub mod http;
pub mod mesh;
pub mod offline;
pub mod overrides;
pub mod pressure;
pub mod process;
pub mod readiness;
pub mod runtime;
pub mod shard;
mod signal;
pub mod telemetry;
pub mod wal;
