//! What is true of profiles, logs, heads, trees and queries.
//!
//! The engine is called; it never runs: no I/O, no clock, no randomness, no threads, no runtime. Same inputs, same outputs,
//! bit for bit. Reading order: the words ([`tenant`], [`labels`], [`profile_type`], [`limits`]), a profile on its way in
//! ([`profile`]), where it is kept ([`symbols`], [`head`], `wal`), and what is asked of it (`query`, `flamegraph`).
#![deny(unsafe_code)]

pub mod block;
pub mod byte_size;
mod deflate;
pub mod flamegraph;
pub mod gzip;
pub mod hash;
pub mod head;
pub mod identity;
pub mod ingest;
pub mod labels;
pub mod lease;
pub mod limits;
pub mod machine;
pub mod pace;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod profile;
pub mod profile_type;
pub mod query;
pub mod route;
pub mod spread;
pub mod symbols;
pub mod tenant;
pub mod token_bucket;
mod varint;
pub mod wal;
