//! `POST /ingest`: what agents older than Push say in a query string, a content type and a body, turned into one push.
//!
//! ```text
//! query ─► params ─► app_name            body ─► format ─► pprof, raw or form ──────────► as received, unopened
//!          (from, rate, spy)  (labels)                     │  └► legacy spies ─► rewrite ► plain pprof
//!                                                          └► folded text ─► folded ─────► plain pprof
//! ```
//! Holds: a pprof stays as received (the owner of its partition inflates, checks and names it by
//! [`IngestNaming`]) unless its spy is one whose symbols are rewritten on arrival. What is
//! built here never grows past the profile size limit, and no length inside the bytes is trusted. A pass over bytes is
//! resumable: [`Conversion::step`] does about a millisecond of work, and [`Conversion::bytes_held`] tells after each what to
//! account for it.
//!
//! Not here: the limits of a tenant and the checks of a profile (`profile`), the rate, routing.
//! JFR, trie, tree and speedscope are refused in words until they are built.

mod app_name;
mod attime;
mod conversion;
mod error;
mod folded;
mod format;
mod multipart;
mod params;
mod pprof_writer;
mod rewrite;
mod sample_types;
mod text_type;
mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::rpc::append::IngestNaming;

pub use app_name::NameError;
pub use attime::attime;
pub use conversion::Conversion;
pub use error::{IngestError, Origin};

use crate::profile::Step;

/// One request, its transport undone: the body is whole, chunking and TLS are gone, `Content-Encoding` may still be on.
#[derive(Clone, Debug)]
pub struct IngestRequest<'a> {
    /// The raw query string, percent-encoded, without `?`.
    pub query: &'a str,
    /// `Content-Type`, empty when absent.
    pub content_type: &'a str,
    /// `Content-Encoding: gzip` was sent and has not been undone. Believed only where the body begins like gzip.
    pub content_encoding_gzip: bool,
    /// The body.
    pub body: Bytes,
    /// Now, Unix nanoseconds: the default of `from`, and what `now-1h` is relative to.
    pub now_ns: i64,
    /// Most bytes of a body after its content encoding is undone; 0 off.
    pub body_bytes_max: usize,
    /// Most bytes of one uncompressed profile; 0 off.
    pub profile_bytes_max: usize,
}

/// One profile of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestPush {
    /// Sorted by name, each name once, with `service_name`; `__name__` is absent where `naming` decides it.
    pub labels: Vec<(String, String)>,
    /// For pprof: how the owner finds `__name__`, and the time of a profile that tells none.
    pub naming: Option<IngestNaming>,
    /// A pprof message, plain or gzip'd.
    pub profile: Bytes,
    /// What to call a refusal by the owner.
    pub origin: Origin,
}

/// About what a map takes, its nodes two thirds full.
fn map_bytes<K, V>(map: &BTreeMap<K, V>) -> usize {
    map.len() * size_of::<(K, V)>() * 3 / 2
}

/// Runs a whole [`Conversion`]; `None` when there is nothing to store, which is a success.
///
/// For small requests and tests: on a shard, step the conversion and give others a turn.
pub fn parse(request: IngestRequest<'_>) -> Result<Option<IngestPush>, IngestError> {
    let mut conversion = Conversion::begin(request)?;
    while conversion.step()? == Step::More {}
    Ok(conversion.finish())
}

#[cfg(test)]
mod tests;
