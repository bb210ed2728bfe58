//! The load tester: drives a running server from outside, over its public protocol.
//!
//! Open loop: each push has an intended start, and its latency counts from there, whether or not a connection was free
//! (a server that stalls is not asked less). What it sends it makes itself or takes from files of real profiles ([`workload`]);
//! what it links is `proto` alone.
//!
//! ```text
//! workload ─► schedule ─► one thread and connection each: client ─► outcome ─► report
//!                                                                      └─────► journal ─► verify
//! ```

pub mod batch;
pub mod client;
pub mod cuts;
pub mod find_rate;
pub mod gzip;
pub mod journal;
pub mod outcome;
pub mod push;
pub mod random;
pub mod report;
pub mod schedule;
pub mod server;
pub mod shards;
pub mod verify;
pub mod watch;
pub mod wire;
pub mod workload;
