//! Merges of stacks: flame graphs, trees, pprof, call graphs, diffs.

use bytes::Bytes;
use engine::flamegraph::{self, Tree};
use engine::pace::Pace;
use engine::query::{MergedProfile, Shape, WrittenProfile, flame_graph_nodes};
use engine::tenant::TenantId;
use prost::Message;
use proto::pprof::Profile;
use proto::querier::{
    DiffRequest, FlameGraphDiff, PprofProfile, ProfileFormat, SelectMergeStacktracesRequest,
    SelectMergeStacktracesResponse,
};
use proto::rpc::Failure;
use proto::rpc::select::{SelectReply, SelectRequest};

use super::Querier;
use super::gather::Gathered;
use super::request::{StacksRequest, bad_part, matchers_of_type, profile_type, refused, selection};
use crate::runtime::Runtime;

impl Gathered for (&mut Tree, &Pace) {
    async fn add(&mut self, part: SelectReply) -> Result<(), Failure> {
        let SelectReply::Tree(part) = part else { panic!("a tree is answered by a tree") };
        self.0.merge(&part, self.1).await.map_err(bad_part)
    }
}

impl Gathered for (&mut MergedProfile, &Pace) {
    async fn add(&mut self, part: SelectReply) -> Result<(), Failure> {
        let SelectReply::Profile(parts) = part else { panic!("a profile is answered by profiles") };
        for part in parts {
            self.0.merge(&part, self.1).await.map_err(bad_part)?;
        }
        Ok(())
    }
}

impl<R: Runtime> Querier<R> {
    /// `SelectMergeStacktraces` in each of its formats.
    pub(super) async fn stacktraces(
        &self,
        tenants: &[TenantId],
        request: SelectMergeStacktracesRequest,
    ) -> Result<SelectMergeStacktracesResponse, Failure> {
        if !request.span_selector.is_empty() && !request.trace_id_selector.is_empty() {
            return Err(refused("span_selector and trace_id_selector cannot be combined"));
        }
        let format = request.format();
        let request = StacksRequest::from(request);
        let mut response = SelectMergeStacktracesResponse::default();
        match format {
            ProfileFormat::Dot => response.dot = self.dot(tenants, request).await?,
            ProfileFormat::Pprof => {
                let profile = message(self.profile(tenants, &request).await?, &Pace::new()).await;
                response.pprof = Some(PprofProfile { profile: Some(profile) });
            }
            ProfileFormat::Tree => {
                let pace = Pace::new();
                let (tree, nodes_max) = self.tree(tenants, &request, &pace).await?;
                response.tree = Bytes::from(flamegraph::tree_bytes(&tree, nodes_max, &pace).await);
            }
            ProfileFormat::Unspecified | ProfileFormat::Flamegraph => {
                let pace = Pace::new();
                let (tree, nodes_max) = self.tree(tenants, &request, &pace).await?;
                response.flamegraph = Some(flamegraph::flame_graph(&tree, nodes_max, &pace).await);
            }
        }
        Ok(response)
    }

    /// The merged tree, and the number of nodes to draw of it.
    pub(super) async fn tree(
        &self,
        tenants: &[TenantId],
        request: &StacksRequest,
        pace: &Pace,
    ) -> Result<(Tree, i64), Failure> {
        let mut tree = Tree::new(&self.secret);
        let nodes_max = self.merge_tree(tenants, request, &mut tree, pace).await?;
        Ok((tree, nodes_max))
    }

    async fn merge_tree(
        &self,
        tenants: &[TenantId],
        request: &StacksRequest,
        tree: &mut Tree,
        pace: &Pace,
    ) -> Result<i64, Failure> {
        request.check_served()?;
        let range = self.range(tenants, request.start_ms, request.end_ms)?;
        let nodes_max =
            flame_graph_nodes(request.max_nodes.unwrap_or(0), &self.limits.of_read(tenants))
                .map_err(refused)?;
        let profile_type = profile_type(&request.profile_type_id)?;
        let matchers = matchers_of_type(&request.label_selector, &profile_type)?;
        let call_site = request.call_site()?;
        if let Some(range) = range {
            let selection = selection(tenants, range, matchers);
            let ask = SelectRequest::Tree { selection, call_site };
            self.gather(ask, &mut (tree, pace)).await?;
        }
        Ok(nodes_max)
    }

    /// The merged profile as a pprof message; not cut unless the request says so, for it is what people export.
    pub(super) async fn profile(
        &self,
        tenants: &[TenantId],
        request: &StacksRequest,
    ) -> Result<WrittenProfile, Failure> {
        request.check_served()?;
        let range = self.range(tenants, request.start_ms, request.end_ms)?;
        let profile_type = profile_type(&request.profile_type_id)?;
        let matchers = matchers_of_type(&request.label_selector, &profile_type)?;
        let Some(range) = range else { return Ok(WrittenProfile::default()) };
        let go_pgo = request.stack_trace_selector.as_ref().and_then(|selector| selector.go_pgo);
        let (shape, call_site) = match go_pgo {
            Some(pgo) => {
                let shape = Shape::GoPgo {
                    keep_locations: pgo.keep_locations,
                    aggregate_callees: pgo.aggregate_callees,
                };
                (shape, Vec::new()) // the two selectors exclude each other
            }
            None => (Shape::Nodes(request.max_nodes.unwrap_or(0)), request.call_site()?),
        };
        let pace = Pace::new();
        let mut merged = MergedProfile::new(self.secret.clone());
        let ask =
            SelectRequest::Profile { selection: selection(tenants, range, matchers), call_site };
        self.gather(ask, &mut (&mut merged, &pace)).await?;
        Ok(merged.into_pprof(&profile_type, range.end_ms, shape, &pace).await)
    }

    /// The call graph; empty where there are no samples.
    pub(super) async fn dot(
        &self,
        tenants: &[TenantId],
        mut request: StacksRequest,
    ) -> Result<String, Failure> {
        let (drawn, source) = flamegraph::dot_sizes(request.max_nodes);
        request.max_nodes = Some(source);
        let pace = Pace::new();
        let profile = message(self.profile(tenants, &request).await?, &pace).await;
        Ok(flamegraph::dot(&profile, drawn, &pace).await)
    }

    /// Both sides merged into one tree, which aligns them. Every failure is the request's fault, as in Pyroscope.
    pub(super) async fn flame_graph_diff(
        &self,
        tenants: &[TenantId],
        request: DiffRequest,
    ) -> Result<FlameGraphDiff, Failure> {
        let mut left = StacksRequest::from(request.left.unwrap_or_default());
        let mut right = StacksRequest::from(request.right.unwrap_or_default());
        let nodes_max = left.max_nodes.unwrap_or(0).max(right.max_nodes.unwrap_or(0));
        let nodes_max =
            flame_graph_nodes(nodes_max, &self.limits.of_read(tenants)).map_err(refused)?;
        for side in [&mut left, &mut right] {
            profile_type(&side.profile_type_id)?;
            side.max_nodes = None;
        }
        let pace = Pace::new();
        let mut tree = Tree::new(&self.secret);
        self.merge_tree(tenants, &left, &mut tree, &pace).await?;
        let left_values = tree.values().to_vec();
        self.merge_tree(tenants, &right, &mut tree, &pace).await?;
        Ok(flamegraph::flame_graph_diff(&tree, &left_values, nodes_max, &pace).await)
    }
}

/// The whole message.
async fn message(written: WrittenProfile, pace: &Pace) -> Profile {
    let mut message = written.message;
    for block in written.samples {
        let samples = Profile::decode(block).expect("it was written as a message").sample;
        pace.spend(samples.len() * 8).await;
        message.sample.extend(samples);
    }
    message
}
