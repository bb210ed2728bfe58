//! An `Api` that notes what it is asked and answers what the test told it to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use bytes::Bytes;
use engine::query::WrittenProfile;
use engine::tenant::TenantId;
use futures_channel::oneshot;
use net::budget::Held;
use net::http::{Api, Claim, HttpFailure, NameCharset, Reads, Rendered, Upload, Writes};
use net::overrides::TenantLimits;
use proto::pprof::Profile;
use proto::push::PushRequest;
use proto::querier::*;
use proto::rpc::Failure;
use proto::types::*;

/// Everything seen, and what to answer.
#[derive(Default)]
pub(crate) struct FakeApi {
    /// Pushes, with their tenants.
    pub(crate) pushes: RefCell<Vec<(String, PushRequest)>>,
    /// Uploads.
    pub(crate) uploads: RefCell<Vec<Uploaded>>,
    /// Reads: what was called with which tenants and arguments.
    pub(crate) reads: RefCell<Vec<String>>,
    /// Failure of everything.
    pub(crate) failure: RefCell<Option<Failure>>,
    /// Failure of uploads.
    pub(crate) upload_failure: RefCell<Option<HttpFailure>>,
    /// Failure of pushes on their head.
    pub(crate) head_failure: RefCell<Option<Failure>>,
    /// What pushes claimed to be.
    pub(crate) claims: RefCell<Vec<Claim>>,
    /// Limits that are shown; nothing here keeps to them.
    pub(crate) limits: TenantLimits,
    /// Bytes that bodies of tenants with a limit of their own may have; of others 256 MiB.
    pub(crate) body_bytes_max: RefCell<BTreeMap<String, u64>>,
    /// Why the shard is not ready.
    pub(crate) not_ready: RefCell<Option<String>>,
    /// What `SelectMergeProfile` answers.
    pub(crate) profile: RefCell<Profile>,
    /// Size of what `/pyroscope/render` answers.
    pub(crate) rendered_bytes: Cell<usize>,
    /// Reads wait for this.
    pub(crate) gate: RefCell<Option<oneshot::Receiver<()>>>,
    /// Reads that ended, however they did.
    pub(crate) ended_reads: std::rc::Rc<Cell<usize>>,
}

/// An upload as the component got it.
pub(crate) struct Uploaded {
    pub(crate) tenant: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) gzip_encoded: bool,
    pub(crate) body: Bytes,
}

struct Ended(std::rc::Rc<Cell<usize>>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl FakeApi {
    async fn note<T: Default>(
        &self,
        what: &str,
        tenants: &[TenantId],
        arguments: &impl std::fmt::Debug,
    ) -> Result<T, Failure> {
        let tenants: Vec<_> = tenants.iter().map(TenantId::as_str).collect();
        self.reads.borrow_mut().push(format!("{what} {} {arguments:?}", tenants.join("|")));
        let _ended = Ended(self.ended_reads.clone());
        let gate = self.gate.borrow_mut().take();
        if let Some(gate) = gate {
            gate.await.unwrap();
        }
        self.failure.borrow().clone().map_or(Ok(T::default()), Err)
    }
}

impl Api for FakeApi {
    type Writes = Self;
    type Reads = Self;

    fn writes(&self) -> &Self {
        self
    }

    fn reads(&self) -> &Self {
        self
    }

    fn limits(&self) -> &TenantLimits {
        &self.limits
    }

    fn readiness(&self) -> Result<(), String> {
        self.not_ready.borrow().clone().map_or(Ok(()), Err)
    }

    async fn flush(&self) -> Result<(), Failure> {
        self.note("flush", &[], &()).await
    }

    async fn metrics(&self) -> String {
        "# TYPE x counter\nx 1\n".to_owned()
    }
}

impl Writes for FakeApi {
    fn admit_head(&self, tenant: &TenantId, claim: Claim) -> Result<u64, Failure> {
        self.claims.borrow_mut().push(claim);
        let bytes_max = self.body_bytes_max.borrow().get(tenant.as_str()).copied();
        match self.head_failure.borrow().clone() {
            Some(failure) => Err(failure),
            None => Ok(bytes_max.unwrap_or(256 << 20)),
        }
    }

    async fn push(
        &self,
        tenant: TenantId,
        request: PushRequest,
        _held: Vec<Held>,
    ) -> Result<(), Failure> {
        self.pushes.borrow_mut().push((tenant.to_string(), request));
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }

    async fn ingest(
        &self,
        tenant: TenantId,
        upload: Upload<'_>,
        _held: Vec<Held>,
    ) -> Result<(), HttpFailure> {
        let Upload { query, content_type, gzip_encoded, body } = upload;
        self.uploads.borrow_mut().push(Uploaded {
            tenant: tenant.to_string(),
            query: query.to_owned(),
            content_type: content_type.to_owned(),
            gzip_encoded,
            body,
        });
        self.upload_failure.borrow().clone().map_or(Ok(()), Err)
    }
}

macro_rules! noted {
    ($($method:ident($request:ty) -> $response:ty;)*) => {
        $(async fn $method(
            &self,
            tenants: Vec<TenantId>,
            request: $request,
        ) -> Result<$response, Failure> {
            self.note(stringify!($method), &tenants, &request).await
        })*
    };
}

macro_rules! rendered {
    ($($method:ident)*) => {
        $(async fn $method(&self, tenants: Vec<TenantId>, query: &str) -> Result<Rendered, Failure> {
            self.note::<()>(stringify!($method), &tenants, &query).await?;
            let body = Bytes::from(vec![b' '; self.rendered_bytes.get()]);
            Ok(Rendered { content_type: "application/json", body })
        })*
    };
}

impl Reads for FakeApi {
    noted! {
        profile_types(ProfileTypesRequest) -> ProfileTypesResponse;
        label_values(LabelValuesRequest) -> LabelValuesResponse;
        select_merge_stacktraces(SelectMergeStacktracesRequest) -> SelectMergeStacktracesResponse;
        select_merge_span_profile(SelectMergeSpanProfileRequest) -> SelectMergeSpanProfileResponse;
        select_series(SelectSeriesRequest) -> SelectSeriesResponse;
        select_heatmap(SelectHeatmapRequest) -> SelectHeatmapResponse;
        diff(DiffRequest) -> DiffResponse;
        get_profile_stats(GetProfileStatsRequest) -> GetProfileStatsResponse;
        analyze_query(AnalyzeQueryRequest) -> AnalyzeQueryResponse;
    }

    rendered! { render render_diff label_values_legacy }

    async fn label_names(
        &self,
        tenants: Vec<TenantId>,
        charset: NameCharset,
        request: LabelNamesRequest,
    ) -> Result<LabelNamesResponse, Failure> {
        self.note("label_names", &tenants, &(charset, request)).await
    }

    async fn series(
        &self,
        tenants: Vec<TenantId>,
        charset: NameCharset,
        request: SeriesRequest,
    ) -> Result<SeriesResponse, Failure> {
        self.note("series", &tenants, &(charset, request)).await
    }

    async fn select_merge_profile(
        &self,
        tenants: Vec<TenantId>,
        request: SelectMergeProfileRequest,
    ) -> Result<WrittenProfile, Failure> {
        self.note::<()>("select_merge_profile", &tenants, &request).await?;
        Ok(self.profile.borrow().clone().into())
    }
}
