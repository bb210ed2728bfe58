//! One simulated node: the parts that ship, started over the simulator's disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::head::HeadOptions;
use engine::limits::{Limits, Overrides};
use engine::planted::Bug;
use engine::route::ShardId;
use engine::spread::SpreadOptions;
use net::budget::Budget;
use net::mesh::{self, Mesh};
use net::overrides::TenantLimits;
use net::pressure::Pressure;
use net::readiness::Readiness;
use net::runtime::sim::{NodeId, Sim, World};
use net::runtime::{Class, Clock, Rand, Spawn};
use net::shard::{Shard, ShardSettings};
use net::wal::recovery::Share;
use net::wal::{Ack, Log, SEGMENT_BYTES_MIN, Settings};
use proto::rpc::append::ReplayRequest;
use proto::rpc::select::{MatchOp, MatcherText, SelectReply, SelectRequest, Selection, TreePart};
use proto::rpc::{Failure, Reply, Request};
use ulid::Ulid;

use super::oracle::{Place, Totals};
use super::profile::{COLUMNS, Stack};

pub(crate) const NODE: NodeId = NodeId(0);

/// How a node is started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) shards: u16,
    pub(crate) ack: Ack,
    pub(crate) chunk_bytes_max: usize,
    pub(crate) limits: Limits,
    pub(crate) memory_limit_bytes: u64,
    pub(crate) spread: SpreadOptions,
    pub(crate) bug: Option<Bug>,
}

/// A running node. Dropped after its tasks are: by a crash, a kill, or the end of the world.
pub(crate) struct Node {
    pub(crate) shards: Vec<(Sim, Rc<Shard<Sim>>)>,
    pub(crate) memory_limit_bytes: u64,
    readiness: Readiness,
    failures: Rc<RefCell<Vec<String>>>,
}

impl Node {
    /// Starts the shards and their recovery; pushes are taken at once.
    pub(crate) fn start(world: &World, start: Start) -> Self {
        let first = world.shard(NODE, 0);
        let unix_ms = first.unix_ms() as u64;
        let run = new_ulid(&first, unix_ms);
        let (peers, inboxes) = mesh::queues(start.shards);
        let budget = Budget::new(start.memory_limit_bytes, start.shards);
        let pressure = Pressure::new(start.shards);
        let readiness = Readiness::new(start.shards);
        let overrides = Arc::new(Overrides::none(start.limits));
        let failures = Rc::new(RefCell::new(Vec::new()));
        let settings = Settings {
            segment_bytes: SEGMENT_BYTES_MIN,
            ack: start.ack,
            pending_bytes_max: 256 << 10,
        };
        let mut shards = Vec::new();
        for (number, inbox) in (0..).zip(inboxes) {
            let rt = world.shard(NODE, number);
            let log = Log::create(rt.clone(), run, number, settings);
            let log = world.complete(&rt, log).expect("it ends").expect("a directory is made");
            log.plant(start.bug);
            let id = ShardId(number);
            let shard_settings = ShardSettings {
                limits: TenantLimits::new(Arc::clone(&overrides)),
                budget: budget.of_shard(id),
                heads: HeadOptions {
                    chunk_bytes_max: start.chunk_bytes_max,
                    bug: start.bug,
                    ..HeadOptions::default()
                },
                origin: new_ulid(&rt, unix_ms),
                spread: start.spread,
                pressure: pressure.clone(),
                // Cuts come when they are asked for.
                cuts: net::blocks::Settings {
                    max_block_duration: Duration::MAX,
                    head_bytes_max: usize::MAX,
                },
                readiness: readiness.clone(),
            };
            let mesh = Mesh::new(id, peers.clone());
            let shard = Shard::start(rt.clone(), mesh, inbox, shard_settings, log);
            let (recovering, failures) = (Rc::clone(&shard), Rc::clone(&failures));
            let share = Share::new(id, start.shards, run).planted(start.bug);
            // Shards of a busy machine do not start at the same moment.
            let (clock, late) = (rt.clone(), Duration::from_micros(world.random().below(20_000)));
            rt.spawn(Class::Background, async move {
                clock.sleep(late).await;
                if let Err(error) = recovering.recover(share).await {
                    failures.borrow_mut().push(error.to_string());
                }
            });
            shards.push((rt, shard));
        }
        Self { shards, memory_limit_bytes: start.memory_limit_bytes, readiness, failures }
    }

    /// `Some` when recovery has ended on every shard, well or with words.
    pub(crate) fn recovered(&self) -> Option<Result<(), String>> {
        if let Some(failure) = self.failures.borrow().first() {
            return Some(Err(failure.clone()));
        }
        self.readiness.recovered().ok().map(Ok)
    }

    /// Closes the logs of all shards, as SIGTERM does.
    pub(crate) fn close(&self, world: &World) {
        for (rt, shard) in &self.shards {
            let shard = Rc::clone(shard);
            let closed = async move { shard.close().await };
            // A sealed log says so; everything acknowledged is synced all the same.
            let _ = world.complete(rt, closed).expect("closing ends");
        }
    }

    /// Waits until the ingesters have done what they were sent before, also for clients that went away.
    pub(crate) fn settle(&self, world: &World) -> Result<(), String> {
        let (rt, shard) = &self.shards[0];
        let mesh = shard.mesh().clone();
        let settled = async move {
            for shard in mesh.shards() {
                // An ingester takes its jobs in order, and this one is none.
                let nothing = Request::Replay(ReplayRequest { records: Vec::new() });
                mesh.call(shard, nothing).await.map_err(|failure| failure.message)?;
            }
            Ok(())
        };
        world.complete(rt, settled).ok_or("an ingester never settles")?
    }

    /// Reads the totals of every place through the shards' side of queries. `None`: the node says that it has no memory for it.
    pub(crate) fn read(
        &self,
        world: &World,
        places: Vec<Place>,
    ) -> Result<Option<BTreeMap<Place, Totals>>, String> {
        let (rt, shard) = &self.shards[0];
        let mesh = shard.mesh().clone();
        let read = async move {
            let mut read = BTreeMap::new();
            for place in places {
                let mut totals = Totals::default();
                for ((kind, unit), total) in COLUMNS.iter().zip(&mut totals) {
                    match read_column(&mesh, &place, kind, unit, total).await {
                        Ok(()) => {}
                        Err(failure) if failure.reason == "memory_limit" => return Ok(None),
                        Err(failure) => return Err(format!("a read failed: {failure:?}")),
                    }
                }
                read.insert(place, totals);
            }
            Ok(Some(read))
        };
        world.complete(rt, read).ok_or("a read never ended")?
    }
}

fn new_ulid(rt: &Sim, unix_ms: u64) -> u128 {
    let random = (u128::from(rt.next_u64()) << 64) | u128::from(rt.next_u64());
    Ulid::from_parts(unix_ms, random).0
}

async fn read_column(
    mesh: &Mesh,
    (tenant, service): &Place,
    kind: &str,
    unit: &str,
    total: &mut BTreeMap<Stack, i64>,
) -> Result<(), Failure> {
    let matcher = |name: &str, value: String| MatcherText {
        name: name.to_owned(),
        op: MatchOp::Equal,
        value,
    };
    let profile_type = format!("process_cpu:{kind}:{unit}:cpu:nanoseconds");
    let selection = Selection {
        tenants: vec![tenant.clone()],
        matchers: vec![
            matcher("__profile_type__", profile_type),
            matcher("service_name", service.clone()),
        ],
        start_ms: 0,
        end_ms: i64::MAX / 1_000_000,
    };
    for shard in mesh.shards() {
        let request = SelectRequest::Tree { selection: selection.clone(), call_site: Vec::new() };
        match mesh.call(shard, Request::Select(request)).await? {
            Reply::Select(SelectReply::Tree(part)) => add_tree(&part, total),
            Reply::Select(SelectReply::Failed(failure)) => return Err(failure),
            other => panic!("a tree is answered by a tree or a failure, not by {other:?}"),
        }
    }
    Ok(())
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
