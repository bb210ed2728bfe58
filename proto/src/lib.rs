//! What crosses a wire: the protobuf packages of the public API with their JSON, and the messages that shards exchange.
//!
//! | module | contract |
//! |---|---|
//! | [`pprof`], [`push`], [`querier`], [`types`] | public; field numbers and JSON names are Pyroscope's |
//! | [`json`], [`procedure`], [`connect_error`] | public; Connect's rules |
//! | [`rpc`] | ours alone; plain data between shards |
//!
//! No behaviour: a type is here only if its bytes leave the process, or will when shards of several nodes talk.
//! What a message means, which of its values are legal and what is stored of it is the engine's business.

pub mod rpc;
