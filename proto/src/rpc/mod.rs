//! Messages between shards: plain data that moves by value today and will cross processes as it is.
//!
//! One conversation per file: [`append`] takes a profile to the shard that owns its partition, [`limits`] shares what a
//! tenant may use, [`select`] asks a shard for its part of an answer, [`spread`] spreads a hot service. A request is answered by
//! exactly one reply. No message holds a pointer into the sender's state.

pub mod append;
pub mod limits;
pub mod select;
pub mod spread;

use std::time::Duration;

use append::{AppendReply, AppendRequest, ReplayReply, ReplayRequest};
use limits::{PlacesReply, PlacesRequest, RateReply, RateRequest};
use select::{SelectReply, SelectRequest};
use spread::{ShardLoad, SpreadRequest};

/// What one shard asks of another (or of itself).
#[derive(Clone, Debug)]
pub enum Request {
    /// Store a profile.
    Append(AppendRequest),
    /// Put records of an earlier run's log back into their heads.
    Replay(ReplayRequest),
    /// Ingestion tokens of a tenant.
    Rate(RateRequest),
    /// Places for series of a tenant.
    Places(PlacesRequest),
    /// This shard's part of a read.
    Select(SelectRequest),
    /// What a service costs this shard, and how to spread it.
    Spread(SpreadRequest),
    /// Put everything taken so far into blocks.
    Flush,
    /// Put what recoveries put back into blocks. Each shard asks once, when it has no more to replay; answered when all have.
    PublishReplayed,
    /// This shard's metrics, as samples of the text exposition.
    Metrics,
}

/// The answer to a [`Request`], variant for variant.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To [`Request::Append`].
    Append(AppendReply),
    /// To [`Request::Replay`].
    Replay(ReplayReply),
    /// To [`Request::Rate`].
    Rate(RateReply),
    /// To [`Request::Places`].
    Places(PlacesReply),
    /// To [`Request::Select`].
    Select(SelectReply),
    /// To [`Request::Spread`].
    Spread(ShardLoad),
    /// To [`Request::Flush`].
    Flush(Result<(), Failure>),
    /// To [`Request::PublishReplayed`]: the logs are needed no more.
    PublishReplayed,
    /// To [`Request::Metrics`].
    Metrics(Vec<MetricSample>),
}

/// One sample of `/metrics`; equal names and labels of several shards are summed by the reader unless a label tells them apart.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSample {
    /// Metric name, `pyroscope_…` or `pyrite_…`.
    pub name: &'static str,
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value; counters only grow.
    pub value: f64,
}

impl MetricSample {
    /// A sample that only its shard tells from others of its name.
    pub fn of_shard(name: &'static str, shard: u16, value: f64) -> Self {
        Self { name, labels: vec![("shard", shard.to_string())], value }
    }
}

/// Why a request failed: the Connect code, a stable reason for metrics, and the text the client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Connect's error code.
    pub code: Code,
    /// Value of the `reason` label of `pyroscope_discarded_*`; empty where nothing was discarded.
    pub reason: &'static str,
    /// Lowercase, complete, with numbers and units.
    pub message: String,
    /// When trying again may help; asked only of codes that are retried at all.
    pub retry: Retry,
}

/// When what was refused for lack of room may be tried again. The longest of several is the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// The same request can never pass.
    Never,
    /// Nobody knows better than "soon".
    #[default]
    Soon,
    /// By then there will be room, if nobody else takes it.
    After(Duration),
}

impl Failure {
    /// A failure that may be tried again soon, if its code is one of those that are.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), retry: Retry::Soon }
    }

    /// The same, and when trying again may help.
    #[must_use]
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }
}

/// Connect's error codes (the strings and HTTP statuses are in `connect_error`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are Connect's and say it")]
pub enum Code {
    Canceled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}
