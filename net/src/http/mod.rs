//! HTTP: everything clients call, on one port, HTTP/1.1 and h2c.
//!
//! ```text
//! stream ─► connection ─► router ─► routes ─► Api (distributor, querier)
//!           hyper, times   path,     tenant, body, codec
//!                          method
//! ```
//! Only this module knows HTTP; what a request means is decided by the components behind [`Api`]. Connections and bodies are
//! handled in class `Rpc`, what a request asks for in `Ingest` or `Query`. Bounds: connections a shard ([`HttpConfig`]), bytes
//! of a body (as received and as inflated), parts of a push, and the memory budget for all bodies together.
//!
//! Not here: TLS, the meaning of any parameter.

mod app;
mod body;
mod codec;
mod connect;
mod connection;
mod counters;
mod grpc;
mod gzip;
mod pieces;
mod protocol;
mod push_message;
mod reply;
mod rope;
mod router;
mod routes;
mod sending;
mod server;
mod tenant_header;
#[cfg(test)]
pub(crate) mod turns;

pub use app::{Api, Claim, HttpFailure, NameCharset, Reads, Rendered, Upload, Writes};
pub use connection::serve_connection;
pub use counters::HttpCounters;
pub use server::{HttpConfig, Server};
pub use tenant_header::Tenancy;

pub(crate) use protocol::deadline_exceeded;
