//! Spreads hot services over shards: measures, asks and tells for [`engine::spread`], and knows for this shard's distributor
//! how each service is spread.
//!
//! ```text
//! ingester ─note─► policy (home) ─ask─► every shard: its load    ─tell─► every shard: known ─spread_of─► distributor
//! ```
//! A push in flight during a change keeps the split it was routed under: it is stored once, there. Receivers may know different
//! counts for a while, and know none after a restart; only balance depends on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use engine::route::ShardId;
use engine::spread::{SERVICES_SPREAD_MAX, SpreadOptions, SpreadPolicy};
use engine::tenant::{PartitionKey, TenantId};
use proto::rpc::spread::{ShardLoad, Spread, SpreadRequest};
use proto::rpc::{Failure, MetricSample, Reply, Request};

use crate::mesh::Mesh;
use crate::runtime::{Class, Runtime};

/// How often averages are taken and a service is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often a shard is told of a change that it could not be told of (its queue was full). Then it goes on spreading the old
/// way, which costs balance and nothing else.
const TELL_TRIES_MAX: usize = 10;

/// One shard's part in spreading services.
#[derive(Debug)]
pub struct Spreads {
    policy: RefCell<SpreadPolicy>,
    /// Services that are spread, by partition key with split 0: at most [`SERVICES_SPREAD_MAX`] of each shard of the node.
    known: RefCell<BTreeMap<PartitionKey, Spread>>,
    known_max: usize,
}

impl Spreads {
    /// Starts looking after the services whose home `mesh`'s shard is.
    pub fn start<R: Runtime>(rt: &R, mesh: &Mesh, options: SpreadOptions) -> Rc<Self> {
        let policy = SpreadPolicy::new(mesh.own(), mesh.shards_count(), options);
        let spreads = Rc::new(Self {
            policy: RefCell::new(policy),
            known: RefCell::default(),
            known_max: SERVICES_SPREAD_MAX * usize::from(mesh.shards_count()),
        });
        let task = Rc::clone(&spreads).run(rt.clone(), mesh.clone());
        rt.spawn(Class::Rpc, task);
        spreads
    }

    /// How pushes of a service are spread (`key` has split 0).
    pub fn spread_of(&self, key: &PartitionKey) -> Spread {
        assert_eq!(key.split, 0, "a service is known by its first split");
        self.known.borrow().get(key).copied().unwrap_or_default()
    }

    /// Notes what storing a profile took this shard.
    pub fn note(&self, partition: &PartitionKey, busy_ns: u64, inflated_bytes: usize) {
        self.policy.borrow_mut().note(partition, busy_ns, inflated_bytes as u64);
    }

    /// Answers a service's home.
    pub fn serve(&self, request: SpreadRequest) -> ShardLoad {
        let SpreadRequest { tenant, service_name, spread } = request;
        let tenant = TenantId::parse(&tenant).expect("a home asks of a tenant that pushed");
        let key = PartitionKey { tenant, service_name: service_name.into(), split: 0 };
        let load = self.policy.borrow().load_of(&key);
        match spread {
            None => {}
            Some(Spread { splits: 1, .. }) => {
                self.known.borrow_mut().remove(&key);
            }
            Some(spread) => {
                let mut known = self.known.borrow_mut();
                // A home that could not tell of an end may be over its number here.
                if known.len() < self.known_max || known.contains_key(&key) {
                    known.insert(key, spread);
                }
            }
        }
        load
    }

    /// Samples of `/metrics`.
    pub fn samples(&self, shard: ShardId) -> Vec<MetricSample> {
        let policy = self.policy.borrow();
        let sample = |name, value| MetricSample::of_shard(name, shard.0, value);
        vec![
            sample("pyrite_ingest_busy_ratio", policy.ingest_share()),
            sample("pyrite_partition_splits", policy.splits_max().into()),
            sample("pyrite_services_spread", policy.services_spread() as f64),
            sample("pyrite_spread_changes_total", policy.changes() as f64),
        ]
    }

    #[expect(clippy::infinite_loop, reason = "it ends with the shard's executor")]
    async fn run<R: Runtime>(self: Rc<Self>, rt: R, mesh: Mesh) {
        loop {
            rt.sleep(TICK).await;
            self.policy.borrow_mut().tick(rt.now_ns());
            let due = self.policy.borrow().due();
            let Some(key) = due else { continue };
            // A shard that cannot answer is asked again at the next tick.
            let Ok(loads) = ask(&mesh, &key).await else { continue };
            let decided = self.policy.borrow_mut().decide(&key, &loads);
            if let Some(spread) = decided {
                tracing::info!(
                    tenant = %key.tenant, service = %key.service_name,
                    splits = spread.splits, deal = spread.deal, "service is spread"
                );
                for shard in mesh.shards() {
                    tell(&rt, &mesh, shard, &key, spread).await;
                }
            }
        }
    }
}

async fn ask(mesh: &Mesh, key: &PartitionKey) -> Result<Vec<ShardLoad>, Failure> {
    let mut loads = Vec::with_capacity(usize::from(mesh.shards_count()));
    for shard in mesh.shards() {
        loads.push(call(mesh, shard, key, None).await?);
    }
    Ok(loads)
}

async fn tell<R: Runtime>(rt: &R, mesh: &Mesh, to: ShardId, key: &PartitionKey, spread: Spread) {
    for _ in 0..TELL_TRIES_MAX {
        if call(mesh, to, key, Some(spread)).await.is_ok() {
            return;
        }
        rt.sleep(TICK).await;
    }
}

async fn call(
    mesh: &Mesh,
    to: ShardId,
    key: &PartitionKey,
    spread: Option<Spread>,
) -> Result<ShardLoad, Failure> {
    let request = SpreadRequest {
        tenant: key.tenant.as_str().to_owned(),
        service_name: String::from(&*key.service_name),
        spread,
    };
    match mesh.call(to, Request::Spread(request)).await? {
        Reply::Spread(load) => Ok(load),
        other => panic!("a spread is answered by a load, not by {other:?}"),
    }
}
