//! The policy on a node that only counts: how soon it spreads, when it does not, how it ends.

use std::sync::Arc;

use crate::tenant::TenantId;

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

fn key(service: &str) -> PartitionKey {
    PartitionKey { tenant: TenantId::anonymous(), service_name: service.into(), split: 0 }
}

fn labels(pod: usize) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    vec![pair("pod", format!("pod-{pod}")), pair("service_name", "hot".to_owned())]
}

/// A node whose pushes are counted, not made: every shard's policy, and what the receivers know.
struct Node {
    policies: Vec<SpreadPolicy>,
    known: BTreeMap<PartitionKey, Spread>,
    now_ns: u64,
    /// Cost by shard in the last second.
    stored_ns: Vec<u64>,
}

impl Node {
    fn new(shards_count: u16) -> Self {
        let policy = |own| SpreadPolicy::new(ShardId(own), shards_count, SpreadOptions::default());
        Self {
            policies: (0..shards_count).map(policy).collect(),
            known: BTreeMap::new(),
            now_ns: 0,
            stored_ns: Vec::new(),
        }
    }

    /// Lets a service of some pods cost a part of a core for a while, beside whatever else does.
    fn run(&mut self, seconds: usize, load: &[(PartitionKey, usize, f64)]) {
        for _ in 0..seconds {
            self.now_ns += SECOND_NS;
            self.stored_ns = vec![0; self.policies.len()];
            for (key, pods, share) in load {
                let spread = self.known.get(key).copied().unwrap_or_default();
                for pod in 0..*pods {
                    let partition =
                        PartitionKey { split: split_of(&labels(pod), spread), ..key.clone() };
                    let owner = usize::from(self.owner(&partition).0);
                    let busy_ns = (share * SECOND_NS as f64) as u64 / *pods as u64;
                    self.policies[owner].note(&partition, busy_ns, 0);
                    self.stored_ns[owner] += busy_ns;
                }
            }
            for shard in 0..self.policies.len() {
                self.policies[shard].tick(self.now_ns);
                let Some(key) = self.policies[shard].due() else { continue };
                let loads: Vec<_> = self.policies.iter().map(|one| one.load_of(&key)).collect();
                if let Some(spread) = self.policies[shard].decide(&key, &loads) {
                    self.known.insert(key, spread);
                }
            }
        }
    }

    fn owner(&self, key: &PartitionKey) -> ShardId {
        let shards_count = self.policies.len() as u16;
        shard_of(key.tenant.as_str(), &key.service_name, key.split, shards_count)
    }

    fn splits(&self, service: &str) -> u32 {
        self.known.get(&key(service)).copied().unwrap_or_default().splits
    }

    /// The greatest part of the last second's cost that one shard bore.
    fn busiest_part(&self) -> f64 {
        let busiest = self.stored_ns.iter().max().copied().unwrap_or(0);
        busiest as f64 / self.stored_ns.iter().sum::<u64>() as f64
    }
}

#[test]
fn a_hot_service_of_64_series_is_shared_evenly_within_two_minutes() {
    for service in 0..50 {
        let hot = key(&format!("hot-{service}"));
        let mut node = Node::new(2);
        node.run(120, &[(hot, 64, 0.6)]);
        assert!(node.busiest_part() <= 0.6, "service {service}: {}", node.busiest_part());
    }
}

/// Whatever the label sets hash to: a deal that lies well is looked for.
#[test]
fn label_sets_that_lie_unevenly_are_dealt_anew() {
    let skewed = |pods: usize, deal| {
        let spread = Spread { splits: 2, deal };
        let on_first = (0..pods).filter(|pod| split_of(&labels(*pod), spread) == 0).count();
        on_first.max(pods - on_first) as f64 / pods as f64
    };
    // A number of pods whose first deal is uneven, and with a better one.
    let pods = (4..64)
        .find(|pods| {
            skewed(*pods, 0) > 0.6 && (1..DEALS_MAX).any(|deal| skewed(*pods, deal) <= 0.55)
        })
        .expect("some numbers of pods lie so");
    let mut node = Node::new(2);
    node.run(180, &[(key("hot"), pods, 0.6)]);
    assert!(node.busiest_part() <= 0.57, "{pods} pods: {}", node.busiest_part());
}

/// One pod alone cannot be split: after a few deals it is left in peace.
#[test]
fn deals_end() {
    let mut node = Node::new(2);
    node.run(600, &[(key("hot"), 1, 0.6)]);
    let changes: u64 = node.policies.iter().map(SpreadPolicy::changes).sum();
    assert!((2..=u64::from(DEALS_MAX) + 1).contains(&changes), "{changes} changes");
    let before = node.known.clone();
    node.run(600, &[(key("hot"), 1, 0.6)]);
    assert_eq!(node.known, before);
}

#[test]
fn counts_double_up_to_the_number_of_shards() {
    let mut node = Node::new(6);
    let mut counts = vec![1];
    for _ in 0..120 {
        node.run(1, &[(key("hot"), 500, 4.0)]);
        if *counts.last().unwrap() != node.splits("hot") {
            counts.push(node.splits("hot"));
        }
    }
    assert_eq!(counts, [1, 2, 4, 6]);
}

#[test]
fn a_node_of_one_shard_never_spreads() {
    let mut node = Node::new(1);
    node.run(120, &[(key("hot"), 64, 0.9)]);
    assert!(node.known.is_empty());
}

#[test]
fn an_idle_shard_and_many_small_services_spread_nothing() {
    let mut node = Node::new(2);
    node.run(120, &[(key("only"), 64, 0.005)]);
    let small: Vec<_> = (0..100).map(|i| (key(&format!("s{i}")), 4, 0.015)).collect();
    node.run(120, &small);
    assert!(node.known.is_empty(), "{:?}", node.known);
}

#[test]
fn two_services_that_keep_both_shards_busy_stay_where_they_are() {
    let on = |shard| {
        let owned = |service: &PartitionKey| Node::new(2).owner(service) == ShardId(shard);
        (0..100).map(|i| key(&format!("s{i}"))).find(owned).unwrap()
    };
    let mut node = Node::new(2);
    node.run(120, &[(on(0), 8, 0.6), (on(1), 8, 0.6)]);
    assert!(node.known.is_empty(), "{:?}", node.known);
}

#[test]
fn a_count_falls_after_a_long_quiet_and_not_in_a_short_one() {
    let mut node = Node::new(4);
    node.run(120, &[(key("hot"), 64, 3.0)]);
    assert_eq!(node.splits("hot"), 4);
    node.run(500, &[(key("hot"), 64, 0.001)]);
    assert_eq!(node.splits("hot"), 4);
    node.run(60, &[(key("hot"), 64, 3.0)]);
    node.run(650, &[]);
    assert_eq!(node.splits("hot"), 2);
    node.run(650, &[]);
    assert_eq!(node.splits("hot"), 1);
    assert_eq!(node.policies.iter().map(SpreadPolicy::services_spread).sum::<usize>(), 0);
}

/// Names that clients make up fill the table for a second, not for good.
#[test]
fn a_hot_service_is_found_behind_more_services_than_are_tracked() {
    let mut policy = SpreadPolicy::new(ShardId(0), 1, SpreadOptions::default());
    for i in 0..2 * SERVICES_TRACKED_MAX {
        policy.note(&key(&format!("made-up-{i}")), 10, 0);
    }
    assert_eq!(policy.services.len(), SERVICES_TRACKED_MAX);
    policy.tick(SECOND_NS);
    policy.note(&key("hot"), SECOND_NS / 2, 0);
    policy.tick(2 * SECOND_NS);
    let ShardLoad { whole, service } = policy.load_of(&key("hot"));
    assert!(service > 0.09 && whole - service < 0.001, "{whole} {service}");
}

#[test]
fn equal_labels_have_one_split_and_it_is_below_the_count() {
    bolero::check!().with_type::<(Vec<(String, String)>, u16, u8)>().for_each(
        |(labels, splits, deal)| {
            let spread = Spread { splits: u32::from(*splits).max(1), deal: (*deal).into() };
            let split = split_of(labels, spread);
            assert!(split < spread.splits);
            assert_eq!(split, split_of(&labels.clone(), spread));
        },
    );
}

/// Whatever services cost, and whichever shards they lie on: counts stay within the node, and averages within a core's share of
/// what was spent.
#[test]
fn any_load_keeps_counts_within_the_shards() {
    bolero::check!().with_type::<(u8, Vec<(u8, u8, u8)>)>().for_each(|(shards, loads)| {
        let mut node = Node::new(u16::from(shards % 8) + 1);
        for (service, pods, share) in loads.iter().take(20) {
            let load = (key(&format!("s{}", service % 4)), usize::from(pods % 8) + 1);
            node.run(7, &[(load.0, load.1, f64::from(*share) / 64.0)]);
            let count = node.policies.len() as u32;
            assert!(node.known.values().all(|spread| (1..=count).contains(&spread.splits)));
            for policy in &node.policies {
                assert!(policy.spread.keys().all(|key| policy.home_of(key) == policy.own));
                assert!(policy.ingest_share() <= 4.0 && policy.splits_max() <= count);
            }
        }
    });
}

#[test]
fn split_names_are_shared_text() {
    let hot = key("hot");
    let mut policy = SpreadPolicy::new(ShardId(0), 1, SpreadOptions::default());
    policy.note(&PartitionKey { split: 3, ..hot.clone() }, 1, 0);
    let (kept, _) = policy.services.first_key_value().unwrap();
    assert!(kept.split == 0 && Arc::ptr_eq(&kept.service_name, &hot.service_name));
}
