//! Taking profiles to their owners.

use std::sync::Arc;

use bytes::Bytes;

use super::Failure;

/// One profile of one pushed series on its way to the shard that owns (tenant, service, split).
#[derive(Clone, Debug)]
pub struct AppendRequest {
    /// Tenant id, already checked.
    pub tenant: String,
    /// Value of `service_name`; with `tenant` and `split` the partition.
    pub service_name: String,
    /// 0 unless the service is spread over shards.
    pub split: u32,
    /// Run (a ULID) of the distributor shard that took the profile in.
    pub origin: u128,
    /// From 1 within (origin, partition); given again only where nothing of the partition was kept.
    pub seq: u64,
    /// When it was received, Unix milliseconds.
    pub receive_time_ms: i64,
    /// Labels of the pushed series, sorted by name, with `service_name`; `__name__` may be absent when `naming` decides it.
    /// Shared by the profiles of the series.
    pub labels: Arc<Vec<(String, String)>>,
    /// How `/ingest` derives `__name__` and sample type names; `None` for Push.
    pub naming: Option<IngestNaming>,
    /// The pprof message as received, plain or gzip'd.
    pub profile: Bytes,
}

/// What `/ingest` says beside the profile (api.md §1.1.4–1.1.5).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct IngestNaming {
    /// Display name by pprof sample type name, from `sample_type_config` or the defaults.
    pub display_names: Vec<(String, String)>,
    /// Takes the place of a `time_nanos` in the year 1970 (`from`), Unix nanoseconds.
    pub from_time_ns: i64,
}

/// How an append ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendReply {
    /// In the log (synced, unless `-wal.ack=memory`) and readable.
    Stored,
    /// Nothing to store was left after normalising or relabelling: a success for the client.
    Dropped {
        /// Value of the `reason` label of `pyroscope_discarded_*`.
        reason: &'static str,
    },
    /// Not stored.
    Refused(Failure),
    /// The log failed after the record was handed to it: stored or not, nobody knows before the next start.
    InDoubt(Failure),
}

/// Records of a log of an earlier run, as bytes of `engine::wal` records, for one owner.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// Whole records in log order; all of one owner.
    pub records: Vec<Bytes>,
}

/// To a [`ReplayRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayReply {
    /// All records are in their heads, or in blocks.
    Done {
        /// But for so many of tenants that have a block which does not open: whether it holds them cannot be told.
        withheld: u64,
    },
    /// A record does not read as what the log's writer wrote.
    Damaged(String),
    /// There is no memory for the records, in these words.
    NoRoom(String),
}
