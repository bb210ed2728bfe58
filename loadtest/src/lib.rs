//! The load tester: drives a running server from outside, over its public protocol.
//!
//! Open loop: each push has an intended start, and its latency counts from there, whether or not a connection was free
//! (a server that stalls is not asked less). What it sends it makes itself ([`workload`]) or reads from files of real
//! profiles; what it links is `proto` alone.
//!
//! ```text
//! workload ─► schedule ─► one thread and connection each: client ─► latency ─► report
//! ```
//! Not here yet: queries, an oracle of what was pushed, chaos.

pub mod client;
pub mod push;
pub mod report;
pub mod schedule;
pub mod workload;
