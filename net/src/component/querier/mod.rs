//! Answers reads: asks every shard for its part, merges the parts whole, cuts once.
//!
//! ```text
//! request ─ check (range, type, selector, nodes) ─► Select to all shards ─► parts ─ merge ─► answer
//! ```
//! All of it runs in the task that called (class `Query`), which pauses as it goes; dropping the call frees the query, here and on the
//! shards.
//! Not here: what a shard does ([`crate::shard`]); what parts mean (`engine::query`, `engine::flamegraph`).

mod gather;
mod merge;
mod render;
mod request;
mod series;

use std::cell::Cell;

use engine::hash::HashSecret;
use engine::query::WrittenProfile;
use engine::tenant::TenantId;
use proto::querier::{
    AnalyzeQueryRequest, AnalyzeQueryResponse, DiffRequest, DiffResponse, ProfileTypesRequest,
    ProfileTypesResponse, SelectHeatmapRequest, SelectHeatmapResponse, SelectMergeProfileRequest,
    SelectMergeSpanProfileRequest, SelectMergeSpanProfileResponse, SelectMergeStacktracesRequest,
    SelectMergeStacktracesResponse, SelectSeriesRequest, SelectSeriesResponse, SeriesRequest,
    SeriesResponse,
};
use proto::rpc::{Failure, MetricSample};
use proto::types::{
    GetProfileStatsRequest, GetProfileStatsResponse, LabelNamesRequest, LabelNamesResponse,
    LabelValuesRequest, LabelValuesResponse,
};

use crate::budget::ShardBudget;
use crate::http::{NameCharset, Reads, Rendered};
use crate::mesh::Mesh;
use crate::overrides::TenantLimits;
use crate::runtime::Runtime;
use request::unimplemented;

/// One shard's querier.
#[derive(Debug)]
pub struct Querier<R: Runtime> {
    rt: R,
    mesh: Mesh,
    limits: TenantLimits,
    secret: HashSecret,
    budget: ShardBudget,
    in_flight: Cell<usize>,
}

impl<R: Runtime> Querier<R> {
    /// A querier; `secret` keys the tables it merges into.
    pub fn new(
        rt: R,
        mesh: Mesh,
        limits: TenantLimits,
        secret: HashSecret,
        budget: ShardBudget,
    ) -> Self {
        Self { rt, mesh, limits, secret, budget, in_flight: Cell::new(0) }
    }

    /// What `/metrics` tells of it.
    pub fn samples(&self) -> Vec<MetricSample> {
        let in_flight = self.in_flight.get() as f64;
        vec![MetricSample::of_shard("pyrite_queries", self.mesh.own().0, in_flight)]
    }
}

impl<R: Runtime> Reads for Querier<R> {
    async fn profile_types(
        &self,
        tenants: Vec<TenantId>,
        request: ProfileTypesRequest,
    ) -> Result<ProfileTypesResponse, Failure> {
        let range = self.range_or_last_hour(&tenants, request.start, request.end)?;
        let profile_types = self.types_of(&tenants, range).await?;
        Ok(ProfileTypesResponse { profile_types })
    }

    async fn label_values(
        &self,
        tenants: Vec<TenantId>,
        request: LabelValuesRequest,
    ) -> Result<LabelValuesResponse, Failure> {
        Ok(LabelValuesResponse { names: self.values_of(&tenants, request).await? })
    }

    async fn label_names(
        &self,
        tenants: Vec<TenantId>,
        charset: NameCharset,
        request: LabelNamesRequest,
    ) -> Result<LabelNamesResponse, Failure> {
        Ok(LabelNamesResponse { names: self.names_of(&tenants, charset, request).await? })
    }

    async fn series(
        &self,
        tenants: Vec<TenantId>,
        charset: NameCharset,
        request: SeriesRequest,
    ) -> Result<SeriesResponse, Failure> {
        Ok(SeriesResponse { labels_set: self.sets_of(&tenants, charset, request).await? })
    }

    async fn select_merge_stacktraces(
        &self,
        tenants: Vec<TenantId>,
        request: SelectMergeStacktracesRequest,
    ) -> Result<SelectMergeStacktracesResponse, Failure> {
        self.stacktraces(&tenants, request).await
    }

    async fn select_merge_span_profile(
        &self,
        _tenants: Vec<TenantId>,
        _request: SelectMergeSpanProfileRequest,
    ) -> Result<SelectMergeSpanProfileResponse, Failure> {
        Err(unimplemented("profiles of spans are not kept yet"))
    }

    async fn select_merge_profile(
        &self,
        tenants: Vec<TenantId>,
        request: SelectMergeProfileRequest,
    ) -> Result<WrittenProfile, Failure> {
        self.profile(&tenants, &request.into()).await
    }

    async fn select_series(
        &self,
        tenants: Vec<TenantId>,
        request: SelectSeriesRequest,
    ) -> Result<SelectSeriesResponse, Failure> {
        Ok(SelectSeriesResponse { series: self.time_series(&tenants, &request).await? })
    }

    async fn select_heatmap(
        &self,
        _tenants: Vec<TenantId>,
        _request: SelectHeatmapRequest,
    ) -> Result<SelectHeatmapResponse, Failure> {
        Err(unimplemented("heatmaps are not built yet"))
    }

    async fn diff(
        &self,
        tenants: Vec<TenantId>,
        request: DiffRequest,
    ) -> Result<DiffResponse, Failure> {
        Ok(DiffResponse { flamegraph: Some(self.flame_graph_diff(&tenants, request).await?) })
    }

    async fn get_profile_stats(
        &self,
        tenants: Vec<TenantId>,
        _request: GetProfileStatsRequest,
    ) -> Result<GetProfileStatsResponse, Failure> {
        self.stats(&tenants).await
    }

    async fn analyze_query(
        &self,
        _tenants: Vec<TenantId>,
        _request: AnalyzeQueryRequest,
    ) -> Result<AnalyzeQueryResponse, Failure> {
        // As Pyroscope 2 answers: its clients show a cost where there is one.
        Ok(AnalyzeQueryResponse::default())
    }

    async fn render(&self, tenants: Vec<TenantId>, query: &str) -> Result<Rendered, Failure> {
        self.rendered(&tenants, query).await
    }

    async fn render_diff(&self, tenants: Vec<TenantId>, query: &str) -> Result<Rendered, Failure> {
        self.rendered_diff(&tenants, query).await
    }

    async fn label_values_legacy(
        &self,
        tenants: Vec<TenantId>,
        query: &str,
    ) -> Result<Rendered, Failure> {
        self.rendered_label_values(&tenants, query).await
    }
}

#[cfg(test)]
mod tests;
