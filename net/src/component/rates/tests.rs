//! The rates of a node of three shards under the simulated runtime: what is granted, and what becomes of slices.

use std::pin::pin;

use engine::limits::{BYTES_PER_MB, Limits};
use futures_util::future::{join_all, select};

use super::*;
use crate::mesh::{self, Mesh};
use crate::runtime::sim::{NodeId, Sim, World};
use crate::runtime::{Clock, Rand, Spawn};

const SHARDS: u16 = 3;

struct Node {
    world: World,
    shards: Vec<(Sim, Rates<Sim>)>,
    tenant: TenantId,
}

impl Node {
    /// With this rate and burst, in bytes.
    fn start(seed: u64, per_second: f64, burst: f64) -> Self {
        let world = World::new(seed);
        let limits = Limits {
            ingestion_rate_mb: per_second / BYTES_PER_MB,
            ingestion_burst_size_mb: burst / BYTES_PER_MB,
            ..Limits::default()
        };
        let (peers, inboxes) = mesh::queues(SHARDS);
        let shards = (0..SHARDS).zip(inboxes).map(|(id, inbox)| {
            let rt = world.shard(NodeId(0), id);
            let mesh = Mesh::new(ShardId(id), peers.clone());
            let rates = Rates::start(rt.clone(), mesh.clone(), limits.clone().into());
            let (serving, pumping) = (rates.clone(), rt.clone());
            rt.spawn(Class::Rpc, async move {
                let serve = |request, responder| match request {
                    Request::Rate(request) => serving.serve(request, responder),
                    other => panic!("nobody here asks {other:?}"),
                };
                mesh.pump(&pumping, inbox, serve).await;
            });
            (rt, rates)
        });
        let shards = shards.collect();
        Self { world, shards, tenant: TenantId::anonymous() }
    }

    /// The tenant's home shard, and two others.
    fn roles(&self) -> [usize; 3] {
        let home = usize::from(home_shard_of(&self.tenant, SHARDS).0);
        [home, (home + 1) % 3, (home + 2) % 3]
    }

    fn charge(&self, shard: usize, bytes: u64) -> Charge {
        let (rt, rates) = &self.shards[shard];
        let (rates, tenant) = (rates.clone(), self.tenant.clone());
        let charged = async move { rates.charge(&tenant, bytes).await };
        self.world.complete(rt, charged).expect("a charge ends").expect("the mesh has room")
    }

    fn lent(&self) -> usize {
        let [home, ..] = self.roles();
        let homes = &self.shards[home].1.0.homes;
        homes.borrow().holders(self.tenant.as_str()).len()
    }
}

#[test]
fn most_pushes_of_a_steady_tenant_need_no_message() {
    let node = Node::start(1, 1e6, 1e6);
    let [home, other, _] = node.roles();
    for _ in 0..1000 {
        assert_eq!(node.charge(other, 500), Charge::Granted);
        assert_eq!(node.charge(home, 100), Charge::Granted);
        node.world.run_for(Duration::from_millis(1));
    }
    let asks: Vec<u64> = node.shards.iter().map(|(_, rates)| rates.0.asks.get()).collect();
    assert!(asks[other] < 20, "{asks:?}");
    assert_eq!(asks[home], 0, "the home shard asks itself without a message");
}

#[test]
fn a_tenant_whose_pushes_move_to_another_shard_has_all_of_its_burst() {
    for seed in 0..20 {
        // Next to nothing comes in time.
        let node = Node::start(seed, 1.0, 1e6);
        let [home, first, second] = node.roles();
        for _ in 0..10 {
            assert_eq!(node.charge(first, 10_000), Charge::Granted);
        }
        assert!(node.lent() == 1, "the first shard holds a slice");
        assert_eq!(node.charge(second, 800_000), Charge::Granted, "it was recalled");
        assert_eq!(node.charge(home, 99_000), Charge::Granted);
        for shard in [home, first, second] {
            let wait = node.charge(shard, 10_000);
            assert!(matches!(wait, Charge::Limited { wait_ns: Some(_) }), "{wait:?}");
        }
        assert_eq!(node.charge(first, 1_000_001), Charge::Limited { wait_ns: None });
    }
}

/// Whatever the shards do at the same time: over any window no more than burst and rate × time.
#[test]
fn a_node_grants_no_more_than_burst_and_rate_whichever_shards_are_asked() {
    const PER_SECOND: f64 = 100_000.0;
    const BURST: f64 = 50_000.0;
    for seed in 0..10 {
        let node = Node::start(seed, PER_SECOND, BURST);
        let granted = Rc::new(RefCell::new(Vec::new()));
        let pushing: Vec<_> = (0..12)
            .map(|client| {
                let (rt, rates) = node.shards[client % 3].clone();
                let (tenant, granted) = (node.tenant.clone(), Rc::clone(&granted));
                async move {
                    for _ in 0..100 {
                        let bytes = 1 + rt.next_u64() % 4000;
                        let asked_ns = rt.now_ns();
                        let charge = rates.charge(&tenant, bytes).await.expect("there is room");
                        if charge == Charge::Granted {
                            granted.borrow_mut().push((asked_ns, rt.now_ns(), bytes));
                        }
                        rt.sleep(Duration::from_micros(rt.next_u64() % 20_000)).await;
                    }
                }
            })
            .collect();
        let all = async move { drop(join_all(pushing).await) };
        node.world.complete(&node.shards[0].0, all).expect("the clients end");
        let granted = granted.borrow();
        let mut total = 0;
        for (_, _, bytes) in granted.iter() {
            total += bytes;
        }
        assert!(total > 120_000, "the rate is of use: {total}");
        for (since_ns, ..) in granted.iter() {
            for (_, until_ns, _) in granted.iter().filter(|(_, until_ns, _)| until_ns > since_ns) {
                let within =
                    granted.iter().filter(|(from, to, _)| from >= since_ns && to <= until_ns);
                let sum: u64 = within.map(|(.., bytes)| bytes).sum();
                let most = BURST + PER_SECOND * (until_ns - since_ns) as f64 / 1e9;
                assert!(sum as f64 <= most + 1.0, "{sum} of {most}, seed {seed}");
            }
        }
    }
}

/// The slice came with an answer that nobody waited for, and was lost to the tenant for ever.
#[test]
fn a_client_that_leaves_loses_no_slice() {
    let node = Node::start(3, 1.0, 1e6);
    let [home, first, second] = node.roles();
    for _ in 0..5 {
        let (rt, rates) = node.shards[first].clone();
        let tenant = node.tenant.clone();
        let leaving = async move {
            let charged = rates.charge(&tenant, 10_000);
            select(pin!(charged), pin!(rt.sleep(Duration::ZERO))).await;
        };
        node.world.complete(&node.shards[first].0, leaving).expect("the client leaves");
    }
    node.world.run_for(Duration::from_millis(100));
    assert_eq!(node.charge(second, 940_000), Charge::Granted);
    assert!(matches!(node.charge(home, 60_000), Charge::Limited { .. }), "the five were charged");
}

#[test]
fn a_slice_that_nobody_uses_goes_back() {
    let node = Node::start(4, 1.0, 1e6);
    let [_, first, _] = node.roles();
    assert_eq!(node.charge(first, 10_000), Charge::Granted);
    assert_eq!((node.lent(), node.shards[first].1.0.held.borrow().len()), (1, 1));
    node.world.run_for(SWEEP_INTERVAL * 3);
    assert_eq!((node.lent(), node.shards[first].1.0.held.borrow().len()), (0, 0));
}

#[test]
fn a_settled_size_is_charged_once_wherever_it_was_found() {
    let node = Node::start(5, 1.0, 1e6);
    let [home, first, second] = node.roles();
    assert_eq!(node.charge(first, 10_000), Charge::Granted);
    for shard in [home, first, second] {
        node.shards[shard].1.settle(&node.tenant, 15_000);
    }
    node.world.run_for(Duration::from_millis(100));
    assert_eq!(node.charge(second, 945_000), Charge::Granted);
    assert!(matches!(node.charge(first, 100), Charge::Limited { .. }));
}
