//! Reads of one value column of a service, through the shards' side of queries: its stacks, and its series.

use std::collections::BTreeMap;

use net::mesh::Mesh;
use proto::rpc::select::{MatchOp, MatcherText, SelectReply, SelectRequest, Selection, TreePart};
use proto::rpc::{Failure, Reply, Request};

use super::oracle::{Column, Place};
use super::profile::{COLUMNS, Stack};

/// The last millisecond of all.
const END_MS: i64 = i64::MAX / 1_000_000;

/// Stacks and series.
pub(crate) async fn column(mesh: &Mesh, place: &Place, number: usize) -> Result<Column, Failure> {
    let stacks = stacks(mesh, place, number).await?;
    Ok(Column { stacks, pods: pods(mesh, place, number).await? })
}

/// The value of every stack: the trees of all shards, merged.
pub(crate) async fn stacks(
    mesh: &Mesh,
    place: &Place,
    number: usize,
) -> Result<BTreeMap<Stack, i64>, Failure> {
    let mut stacks = BTreeMap::new();
    let selection = selection(place, number);
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

/// Sum and number of profiles of every pod, as one point.
async fn pods(
    mesh: &Mesh,
    place: &Place,
    number: usize,
) -> Result<BTreeMap<String, (i64, u64)>, Failure> {
    let mut pods: BTreeMap<String, (i64, u64)> = BTreeMap::new();
    let selection = selection(place, number);
    for shard in mesh.shards() {
        let request = SelectRequest::Points {
            selection: selection.clone(),
            grid_start_ms: END_MS,
            step_ms: 1,
            group_by: vec!["pod".to_owned()],
            call_site: Vec::new(),
        };
        let parts = match mesh.call(shard, Request::Select(request)).await? {
            Reply::Select(SelectReply::Points(parts)) => parts,
            Reply::Select(SelectReply::Failed(failure)) => return Err(failure),
            other => panic!("points are answered by points or a failure, not by {other:?}"),
        };
        for part in parts {
            for (_, value, profiles_count) in part.points {
                let pod = part.labels.iter().find(|(name, _)| name == "pod");
                let pod = pod.map_or_else(String::new, |(_, pod)| pod.clone());
                let (sum, count) = pods.entry(pod).or_default();
                *sum += value;
                *count += profiles_count;
            }
        }
    }
    Ok(pods)
}

fn selection((tenant, service): &Place, number: usize) -> Selection {
    let matcher = |name: &str, value: String| MatcherText {
        name: name.to_owned(),
        op: MatchOp::Equal,
        value,
    };
    let (kind, unit) = COLUMNS[number];
    let profile_type = format!("process_cpu:{kind}:{unit}:cpu:nanoseconds");
    Selection {
        tenants: vec![tenant.clone()],
        matchers: vec![
            matcher("__profile_type__", profile_type),
            matcher("service_name", service.clone()),
        ],
        start_ms: 0,
        end_ms: END_MS,
    }
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
