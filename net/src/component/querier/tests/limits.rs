//! Limits of reads, of tenants with some of their own.

use std::sync::Arc;

use engine::limits::Overrides;

use super::*;
use crate::overrides::Update;

/// Tenant `own` may read the last ten minutes, five at a time, and two nodes of them, four if it asks; `small` less of each.
fn node() -> Node {
    let node = Node::start();
    let own = Limits {
        max_query_lookback_ms: 600_000,
        max_query_length_ms: 300_000,
        max_flamegraph_nodes_default: 2,
        max_flamegraph_nodes_max: 4,
        ..(*node.querier.limits.of("t")).clone()
    };
    let mut small = own.clone();
    (small.max_query_length_ms, small.max_flamegraph_nodes_max) = (60_000, 3);
    let of_tenant = [("own".to_owned(), own), ("small".to_owned(), small)];
    let overrides = Overrides::new(node.querier.limits.of("t"), of_tenant);
    node.querier.limits.update(Update { overrides: Arc::new(overrides), is_successful: true });
    node
}

/// Between two seconds after the node's first; it is 900 s old.
fn between(node: &Node, from: f64, until: f64) -> SelectMergeStacktracesRequest {
    let (start, end) = (node.ms(from), node.ms(until));
    SelectMergeStacktracesRequest { start, end, ..node.stacks("{}") }
}

#[test]
fn a_range_longer_than_the_tenant_may_read_is_refused_with_both_lengths() {
    let node = node();
    let asked = between(&node, 500.0, 801.0);
    let text = "the query time range exceeds the limit (max_query_length, actual: 5m1s, limit: 5m)";
    assert_eq!(node.merged("own", asked.clone()).unwrap_err().message, text);
    let failure = node.merged("own|small", asked.clone()).unwrap_err();
    assert_eq!(failure.code, Code::InvalidArgument);
    assert_eq!(failure.message, text.replace("limit: 5m", "limit: 1m"), "the least of both holds");
    assert!(node.merged("t", asked).is_ok(), "others have limits of their own");
    assert!(node.merged("own", between(&node, 500.0, 800.0)).is_ok());
    assert!(
        node.merged("own", between(&node, 0.0, 600.0)).is_ok(),
        "what is cut away is no length"
    );
}

#[test]
fn what_lies_before_the_lookback_of_the_tenant_is_left_out() {
    let node = node();
    let total = |tenant: &str, from, until| {
        let asked = between(&node, from, until);
        node.merged(tenant, asked).unwrap().flamegraph.unwrap().total
    };
    for tenant in ["own", "t"] {
        for (seconds, value) in [(100.0, 1), (400.0, 10)] {
            node.push(tenant, &[("service_name", "a")], &[("main", [1, value])], seconds);
        }
    }
    assert_eq!([total("own", 0.0, 600.0), total("t", 0.0, 600.0)], [10, 11]);
    assert_eq!([total("own", 0.0, 200.0), total("t", 0.0, 200.0)], [0, 1]);
}

#[test]
fn a_flame_graph_has_the_nodes_that_the_tenant_may_have() {
    let node = node();
    let stacks = [("a;b", [1, 400]), ("a;c", [1, 30]), ("a;d", [1, 20]), ("a;e", [1, 10])];
    for tenant in ["own", "t"] {
        node.push(tenant, &[("service_name", "a")], &stacks, 700.0);
    }
    let merged = |tenant: &str, max_nodes| {
        let asked = SelectMergeStacktracesRequest { max_nodes, ..between(&node, 690.0, 740.0) };
        node.merged(tenant, asked).map(|merged| merged.flamegraph.unwrap().names.len())
    };
    // The root, the nodes and what stands for the others.
    let all = merged("t", None).unwrap();
    assert_eq!(all, 6);
    assert_eq!(merged("own", Some(4)), merged("t", Some(4)));
    assert_eq!(merged("own", None), merged("t", Some(2)));
    assert!(merged("own", None).unwrap() < all);
    let refused = |tenant, nodes| merged(tenant, Some(nodes)).unwrap_err().message;
    assert_eq!(refused("own", 5), "max flamegraph nodes limit 5 is greater than allowed 4");
    assert_eq!(refused("own", -1), "max flamegraph nodes limit must be set (max allowed 4)");
    assert_eq!(refused("own|small", 4), "max flamegraph nodes limit 4 is greater than allowed 3");
    assert_eq!(merged("t", Some(5)), Ok(all));
}
