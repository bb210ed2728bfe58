//! What HTTP clients may rely on, held against `serve_connection` over streams in memory with an `Api` made for the test.
//!
//! Time is virtual, there are no sockets and no threads: a test that waits 2 minutes takes no time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it stands")]

mod api;
mod connection;
mod grpc;
mod grpc_way;
mod health;
mod ingest;
mod pipe;
mod push;
mod reads;
mod status;
mod tenants;
mod world;
