//! What crosses a wire: the protobuf packages of the public API with their JSON, and the messages that shards exchange.
//!
//! | module | contract |
//! |---|---|
//! | [`pprof`], [`push`], [`querier`], [`types`] | public; field numbers and JSON names are Pyroscope's |
//! | [`health`] | public; gRPC's health checking protocol |
//! | [`json`], [`procedure`], [`connect_error`] | public; Connect's rules |
//! | [`rpc`] | ours alone; plain data between shards |
//!
//! No behaviour: a type is here only if its bytes leave the process, or will when shards of several nodes talk.
//! What a message means, which of its values are legal and what is stored of it is the engine's business.

#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::doc_markdown,
    clippy::struct_excessive_bools,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "the generators' style; `protos/` says what the fields mean"
)]
mod generated;

pub mod connect_error;
pub mod json;
pub mod procedure;
pub mod rpc;

pub use generated::google::v1 as pprof;
pub use generated::grpc::health::v1 as health;
pub use generated::push::v1 as push;
pub use generated::querier::v1 as querier;
pub use generated::types::v1 as types;
