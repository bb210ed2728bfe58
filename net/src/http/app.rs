//! What HTTP needs of a shard: the calls routes make, and the state connections share.
//!
//! Routes are generic over these traits, so that they are tested without a server; the components implement them
//! ([`Writes`] the distributor, [`Reads`] the querier) and a shard joins them ([`Api`]). Static dispatch, one shard's `!Send`
//! values throughout.

use std::future::Future;

use bytes::Bytes;
use engine::query::WrittenProfile;
use engine::tenant::TenantId;
use proto::push::PushRequest;
use proto::querier::{
    AnalyzeQueryRequest, AnalyzeQueryResponse, DiffRequest, DiffResponse, ProfileTypesRequest,
    ProfileTypesResponse, SelectHeatmapRequest, SelectHeatmapResponse, SelectMergeProfileRequest,
    SelectMergeSpanProfileRequest, SelectMergeSpanProfileResponse, SelectMergeStacktracesRequest,
    SelectMergeStacktracesResponse, SelectSeriesRequest, SelectSeriesResponse, SeriesRequest,
    SeriesResponse,
};
use proto::rpc::{Code, Failure};
use proto::types::{
    GetProfileStatsRequest, GetProfileStatsResponse, LabelNamesRequest, LabelNamesResponse,
    LabelValuesRequest, LabelValuesResponse,
};

use crate::budget::Held;
use crate::overrides::TenantLimits;

/// A shard as its HTTP routes see it.
pub trait Api: 'static {
    /// Takes profiles.
    type Writes: Writes;
    /// Answers questions.
    type Reads: Reads;
    /// Where pushes go.
    fn writes(&self) -> &Self::Writes;
    /// Where questions go.
    fn reads(&self) -> &Self::Reads;
    /// The limits in force.
    fn limits(&self) -> &TenantLimits;
    /// Whether the shard serves reads; the error is what `/ready` tells.
    fn readiness(&self) -> Result<(), String>;
    /// Puts everything that was acknowledged so far into blocks, on all shards.
    fn flush(&self) -> impl Future<Output = Result<(), Failure>>;
    /// The process's metrics in Prometheus' text format.
    fn metrics(&self) -> impl Future<Output = String>;
}

/// The write path.
pub trait Writes {
    /// Refuses a push on its head, before its body is read. What is let in may have so many bytes: of the body as received, and
    /// again inflated.
    fn admit_head(&self, tenant: &TenantId, claim: Claim) -> Result<u64, Failure>;

    /// `push.v1.PusherService/Push`. Good profiles are stored although the answer is a failure. `held` accounts the body that
    /// the profiles are slices of.
    fn push(
        &self,
        tenant: TenantId,
        request: PushRequest,
        held: Vec<Held>,
    ) -> impl Future<Output = Result<(), Failure>>;

    /// `POST /ingest`. `held` accounts the body.
    fn ingest(
        &self,
        tenant: TenantId,
        upload: Upload<'_>,
        held: Vec<Held>,
    ) -> impl Future<Output = Result<(), HttpFailure>>;
}

/// What the head of a push tells of its body; zeroes where it tells no length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Bytes of the body.
    pub body_bytes: u64,
    /// How many of them profiles may be, at most.
    pub profile_bytes: u64,
}

impl Claim {
    /// A body that is nothing but bytes of profiles, labels beside them.
    pub fn of_bytes(body_bytes: u64) -> Self {
        Self { body_bytes, profile_bytes: body_bytes }
    }

    /// A body that has profiles in base64, as JSON does.
    pub fn of_base64(body_bytes: u64) -> Self {
        Self { body_bytes, profile_bytes: body_bytes / 4 * 3 }
    }
}

/// A body sent to `/ingest`, as it came.
#[derive(Clone, Debug)]
pub struct Upload<'a> {
    /// The raw query string, without `?`; empty when there is none.
    pub query: &'a str,
    /// `Content-Type`, empty when there is none.
    pub content_type: &'a str,
    /// Whether `Content-Encoding: gzip` was sent and the body begins as gzip does. The body is not inflated: a pprof is kept as
    /// it came, a text format is inflated by whoever parses it.
    pub gzip_encoded: bool,
    /// The body, not longer than the limit.
    pub body: Bytes,
}

/// Why a plain route failed, with the HTTP status it decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpFailure {
    /// HTTP status.
    pub status: u16,
    /// Code and text of the body.
    pub failure: Failure,
}

impl HttpFailure {
    /// A failure of the route itself: the code follows from the status (api.md §0.3).
    pub fn of_status(status: u16, message: impl Into<String>) -> Self {
        let code = Code::from_plain_http_status(status);
        Self { status, failure: Failure::new(code, "", message) }
    }
}

impl From<Failure> for HttpFailure {
    /// A failure from below: the status follows from the code.
    fn from(failure: Failure) -> Self {
        Self { status: failure.code.plain_http_status(), failure }
    }
}

/// Which label names an answer may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NameCharset {
    /// Only `[a-zA-Z_][a-zA-Z0-9_]*`; what older clients can quote.
    #[default]
    Legacy,
    /// Any name: the client sent `Accept` with `allow-utf8-labelnames=true`.
    Utf8,
}

/// An answer of a plain read route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// The read path. Tenants are distinct, sorted and at least one; their data is merged.
#[expect(missing_docs, reason = "methods are named as the procedures they answer")]
pub trait Reads {
    fn profile_types(
        &self,
        tenants: Vec<TenantId>,
        request: ProfileTypesRequest,
    ) -> impl Future<Output = Result<ProfileTypesResponse, Failure>>;

    fn label_values(
        &self,
        tenants: Vec<TenantId>,
        request: LabelValuesRequest,
    ) -> impl Future<Output = Result<LabelValuesResponse, Failure>>;

    fn label_names(
        &self,
        tenants: Vec<TenantId>,
        charset: NameCharset,
        request: LabelNamesRequest,
    ) -> impl Future<Output = Result<LabelNamesResponse, Failure>>;

    fn series(
        &self,
        tenants: Vec<TenantId>,
        charset: NameCharset,
        request: SeriesRequest,
    ) -> impl Future<Output = Result<SeriesResponse, Failure>>;

    fn select_merge_stacktraces(
        &self,
        tenants: Vec<TenantId>,
        request: SelectMergeStacktracesRequest,
    ) -> impl Future<Output = Result<SelectMergeStacktracesResponse, Failure>>;

    fn select_merge_span_profile(
        &self,
        tenants: Vec<TenantId>,
        request: SelectMergeSpanProfileRequest,
    ) -> impl Future<Output = Result<SelectMergeSpanProfileResponse, Failure>>;

    fn select_merge_profile(
        &self,
        tenants: Vec<TenantId>,
        request: SelectMergeProfileRequest,
    ) -> impl Future<Output = Result<WrittenProfile, Failure>>;

    fn select_series(
        &self,
        tenants: Vec<TenantId>,
        request: SelectSeriesRequest,
    ) -> impl Future<Output = Result<SelectSeriesResponse, Failure>>;

    fn select_heatmap(
        &self,
        tenants: Vec<TenantId>,
        request: SelectHeatmapRequest,
    ) -> impl Future<Output = Result<SelectHeatmapResponse, Failure>>;

    fn diff(
        &self,
        tenants: Vec<TenantId>,
        request: DiffRequest,
    ) -> impl Future<Output = Result<DiffResponse, Failure>>;

    fn get_profile_stats(
        &self,
        tenants: Vec<TenantId>,
        request: GetProfileStatsRequest,
    ) -> impl Future<Output = Result<GetProfileStatsResponse, Failure>>;

    fn analyze_query(
        &self,
        tenants: Vec<TenantId>,
        request: AnalyzeQueryRequest,
    ) -> impl Future<Output = Result<AnalyzeQueryResponse, Failure>>;

    /// `GET /pyroscope/render?<query>`.
    fn render(
        &self,
        tenants: Vec<TenantId>,
        query: &str,
    ) -> impl Future<Output = Result<Rendered, Failure>>;

    /// `GET /pyroscope/render-diff?<query>`.
    fn render_diff(
        &self,
        tenants: Vec<TenantId>,
        query: &str,
    ) -> impl Future<Output = Result<Rendered, Failure>>;

    /// `GET /pyroscope/label-values?<query>`.
    fn label_values_legacy(
        &self,
        tenants: Vec<TenantId>,
        query: &str,
    ) -> impl Future<Output = Result<Rendered, Failure>>;
}
