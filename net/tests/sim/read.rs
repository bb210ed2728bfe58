//! Reads of one value column, through the shards' side of queries: its stacks, and its series.

use std::collections::BTreeMap;

use net::mesh::Mesh;
use proto::rpc::select::{MatchOp, MatcherText, SelectReply, SelectRequest, Selection, TreePart};
use proto::rpc::{Failure, Reply, Request};

use super::oracle::{Column, Place};
use super::profile::{COLUMNS, Stack};

/// The last millisecond of all.
const END_MS: i64 = i64::MAX / 1_000_000;

/// One value column of all services of a tenant, by service: the root of every stack of the workload is its service's name.
pub(crate) async fn by_service(
    mesh: &Mesh,
    tenant: &str,
    number: usize,
) -> Result<BTreeMap<String, Column>, Failure> {
    let selection = selection(tenant, number);
    let mut columns: BTreeMap<String, Column> = BTreeMap::new();
    for (stack, value) in stacks_of(mesh, &selection).await? {
        columns.entry(stack[0].clone()).or_default().stacks.insert(stack, value);
    }
    for shard in mesh.shards() {
        let request = SelectRequest::Points {
            selection: selection.clone(),
            grid_start_ms: END_MS,
            step_ms: 1,
            group_by: vec!["pod".to_owned(), "service_name".to_owned()],
            call_site: Vec::new(),
        };
        let parts = match mesh.call(shard, Request::Select(request)).await? {
            Reply::Select(SelectReply::Points(parts)) => parts,
            Reply::Select(SelectReply::Failed(failure)) => return Err(failure),
            other => panic!("points are answered by points or a failure, not by {other:?}"),
        };
        for part in parts {
            let [(_, pod), (_, service)] = &part.labels[..] else {
                panic!("every series has both labels, and not {:?}", part.labels)
            };
            let pods = &mut columns.entry(service.clone()).or_default().pods;
            for (_, value, profiles_count) in part.points {
                let (sum, count) = pods.entry(pod.clone()).or_default();
                *sum += value;
                *count += profiles_count;
            }
        }
    }
    Ok(columns)
}

/// The value of every stack of one value column of a service.
pub(crate) async fn stacks(
    mesh: &Mesh,
    (tenant, service): &Place,
    number: usize,
) -> Result<BTreeMap<Stack, i64>, Failure> {
    let mut selection = selection(tenant, number);
    selection.matchers.push(equal("service_name", service));
    stacks_of(mesh, &selection).await
}

/// The trees of all shards, merged.
async fn stacks_of(mesh: &Mesh, selection: &Selection) -> Result<BTreeMap<Stack, i64>, Failure> {
    let mut stacks = BTreeMap::new();
    for shard in mesh.shards() {
        let request = SelectRequest::Tree { selection: selection.clone(), call_site: Vec::new() };
        match mesh.call(shard, Request::Select(request)).await? {
            Reply::Select(SelectReply::Tree(part)) => add_tree(&part, &mut stacks),
            Reply::Select(SelectReply::Failed(failure)) => return Err(failure),
            other => panic!("a tree is answered by a tree or a failure, not by {other:?}"),
        }
    }
    Ok(stacks)
}

fn selection(tenant: &str, number: usize) -> Selection {
    let (kind, unit) = COLUMNS[number];
    let profile_type = format!("process_cpu:{kind}:{unit}:cpu:nanoseconds");
    Selection {
        tenants: vec![tenant.to_owned()],
        matchers: vec![equal("__profile_type__", &profile_type)],
        start_ms: 0,
        end_ms: END_MS,
    }
}

fn equal(name: &str, value: &str) -> MatcherText {
    MatcherText { name: name.to_owned(), op: MatchOp::Equal, value: value.to_owned() }
}

/// Spells every node's stack out, which is slow and hard to get wrong.
fn add_tree(part: &TreePart, total: &mut BTreeMap<Stack, i64>) {
    for (node, value) in part.values.iter().enumerate().filter(|(_, value)| **value != 0) {
        let mut stack = Vec::new();
        let mut at = node as u32;
        while at != u32::MAX {
            stack.push(part.names[part.name_ids[at as usize] as usize].clone());
            at = part.parents[at as usize];
        }
        stack.reverse();
        *total.entry(stack).or_default() += value;
    }
}
