//! One simulated node: the parts that ship, started over the simulator's disk.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::head::HeadOptions;
use engine::limits::{Limits, Overrides};
use engine::planted::Bug;
use engine::route::ShardId;
use engine::spread::SpreadOptions;
use futures_channel::oneshot;
use futures_util::future::{join_all, select};
use net::blocks::{self, PublishStep, ROOT, RetentionSettings};
use net::budget::Budget;
use net::mesh::{self, Mesh};
use net::overrides::TenantLimits;
use net::pressure::Pressure;
use net::readiness::Readiness;
use net::runtime::sim::{NodeId, Sim, World};
use net::runtime::{Class, Clock, Disk, File, Open, Rand, Spawn};
use net::shard::{Shard, ShardSettings};
use net::wal::recovery::Share;
use net::wal::{Ack, Log, RemovalStep, SEGMENT_BYTES_MIN, Settings};
use proto::rpc::append::ReplayRequest;
use proto::rpc::{Reply, Request};
use ulid::Ulid;

use super::oracle::{Columns, Place};
use super::profile::COLUMNS;
use super::read;

pub(crate) const NODE: NodeId = NodeId(0);

/// Bytes of a log that is never full.
pub(crate) const LOG_BYTES: u64 = 1 << 30;

/// Ages are looked at again and again; full disks are met as they are.
pub(crate) const RETENTION: RetentionSettings = RetentionSettings {
    interval: Duration::from_millis(20),
    free_gib_min: 1 << 20,
    available_fraction_min: 0.0,
    is_space_ignored: true,
};

/// How long the cuts at the end of a process may take.
const LAST_CUTS_MAX: Duration = Duration::from_secs(15);

/// Heads are cut when somebody asks, and else never.
pub(crate) const CUTS_WHEN_ASKED: blocks::Settings =
    blocks::Settings { max_block_duration: Duration::MAX, head_bytes_max: usize::MAX };

/// How a node is started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) shards: u16,
    pub(crate) ack: Ack,
    pub(crate) chunk_bytes_max: usize,
    pub(crate) limits: Limits,
    pub(crate) memory_limit_bytes: u64,
    pub(crate) spread: SpreadOptions,
    pub(crate) cuts: blocks::Settings,
    pub(crate) retention: RetentionSettings,
    /// Of one shard.
    pub(crate) log_bytes_max: u64,
    pub(crate) bug: Option<Bug>,
}

/// A running node. Dropped after its tasks are: by a crash, a kill, or the end of the world.
pub(crate) struct Node {
    pub(crate) shards: Vec<(Sim, Rc<Shard<Sim>>)>,
    pub(crate) memory_limit_bytes: u64,
    run: u128,
    log_bytes_max: u64,
    readiness: Readiness,
    failures: Rc<RefCell<Vec<String>>>,
    /// Shards whose recovery has not removed its logs yet.
    releasing: Rc<Cell<u16>>,
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
            bytes_max: start.log_bytes_max,
            pending_bytes_max: 256 << 10,
        };
        let releasing = Rc::new(Cell::new(start.shards));
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
                cuts: start.cuts,
                retention: start.retention,
                readiness: readiness.clone(),
            };
            let mesh = Mesh::new(id, peers.clone());
            let shard = Shard::start(rt.clone(), mesh, inbox, shard_settings, log);
            shard.blocks().plant(start.bug);
            let (recovering, failures) = (Rc::clone(&shard), Rc::clone(&failures));
            let releasing = Rc::clone(&releasing);
            let share = Share::new(id, start.shards, run).planted(start.bug);
            // Shards of a busy machine do not start at the same moment.
            let (clock, late) = (rt.clone(), Duration::from_micros(world.random().below(20_000)));
            rt.spawn(Class::Background, async move {
                clock.sleep(late).await;
                if let Err(error) = recovering.recover(share).await {
                    failures.borrow_mut().push(error.to_string());
                }
                releasing.set(releasing.get() - 1);
            });
            shards.push((rt, shard));
        }
        let Start { memory_limit_bytes, log_bytes_max, .. } = start;
        Self { shards, memory_limit_bytes, run, log_bytes_max, readiness, failures, releasing }
    }

    /// Whether blocks have all that earlier runs left, and their logs are gone.
    pub(crate) fn has_released(&self) -> bool {
        self.releasing.get() == 0
    }

    /// `Some` when recovery has ended on every shard, well or with words.
    pub(crate) fn recovered(&self) -> Option<Result<(), String>> {
        if let Some(failure) = self.failures.borrow().first() {
            return Some(Err(failure.clone()));
        }
        self.readiness.recovered().ok().map(Ok)
    }

    /// Puts all heads into blocks, as SIGTERM does before the logs are closed: as far as that goes in its time.
    pub(crate) fn cut_last(&self, world: &World) {
        let cuts = self.shards.iter().map(|(_, shard)| {
            let shard = Rc::clone(shard);
            async move { shard.cut_last().await }
        });
        let (rt, cuts) = (&self.shards[0].0, join_all(cuts.collect::<Vec<_>>()));
        let clock = rt.clone();
        let cut = async move {
            select(cuts, pin!(clock.sleep(LAST_CUTS_MAX))).await;
        };
        world.complete(rt, cut).expect("there is a time for it");
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

    /// Reads everything of tenants through the shards' side of queries. `None`: the node says that it has no memory for it.
    pub(crate) fn read(
        &self,
        world: &World,
        tenants: &'static [&'static str],
    ) -> Result<Option<BTreeMap<Place, Columns>>, String> {
        let (rt, shard) = &self.shards[0];
        let mesh = shard.mesh().clone();
        let read = async move {
            let mut places: BTreeMap<Place, Columns> = BTreeMap::new();
            for tenant in tenants {
                for number in 0..COLUMNS.len() {
                    let services = match read::by_service(&mesh, tenant, number).await {
                        Ok(services) => services,
                        Err(failure) if failure.reason == "memory_limit" => return Ok(None),
                        Err(failure) => return Err(format!("a read failed: {failure:?}")),
                    };
                    for (service, column) in services {
                        let place = ((*tenant).to_owned(), service);
                        places.entry(place).or_default()[number] = column;
                    }
                }
            }
            Ok(Some(places))
        };
        world.complete(rt, read).ok_or("a read never ended")?
    }

    /// Asks every shard to put what it has into blocks. `Err`: what the first said that could not.
    pub(crate) fn flush(&self, world: &World) -> Result<(), String> {
        let (rt, shard) = &self.shards[0];
        let mesh = shard.mesh().clone();
        let flushed = async move {
            for shard in mesh.shards() {
                match mesh.call(shard, Request::Flush).await {
                    Ok(Reply::Flush(Ok(()))) => {}
                    Ok(Reply::Flush(Err(failure))) | Err(failure) => return Err(failure.message),
                    Ok(other) => panic!("a flush is answered by its outcome, not by {other:?}"),
                }
            }
            Ok(())
        };
        world.complete(rt, flushed).ok_or("a flush never ends")?
    }

    /// Asks every shard for a cut and waits for none.
    pub(crate) fn begin_flush(&self) -> Vec<oneshot::Receiver<Reply>> {
        let mesh = self.shards[0].1.mesh();
        let send = |shard| mesh.send(shard, Request::Flush).expect("few flushes are under way");
        mesh.shards().map(send).collect()
    }

    /// No log of this run has more bytes of files than it may.
    pub(crate) fn check_log_size(&self, world: &World) -> Result<(), String> {
        for (shard, (rt, _)) in self.shards.iter().enumerate() {
            let directory = format!("wal/{}/{shard}", Ulid(self.run));
            let disk = rt.clone();
            let summed = async move {
                let mut bytes = 0;
                for name in disk.list(&directory).await? {
                    let path = format!("{directory}/{name}");
                    bytes += match disk.open(&path, Open::Existing).await {
                        Ok(file) => file.len().await?,
                        // It has another name meanwhile.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                        Err(error) => return Err(error),
                    };
                }
                Ok(bytes)
            };
            let bytes = world.complete(rt, summed).ok_or("a list never ends")?;
            let bytes = bytes.map_err(|error: io::Error| error.to_string())?;
            if bytes > self.log_bytes_max {
                let max = self.log_bytes_max;
                return Err(format!(
                    "the log of shard {shard} has {bytes} bytes, and may have {max}"
                ));
            }
        }
        Ok(())
    }

    /// Directories of blocks that no publication has finished.
    pub(crate) fn unfinished_blocks(&self, world: &World) -> Vec<String> {
        let rt = self.shards[0].0.clone();
        let listed = {
            let rt = rt.clone();
            async move {
                let mut unfinished = Vec::new();
                for tenant in rt.list(ROOT).await.expect("a list") {
                    let names = rt.list(&format!("{ROOT}/{tenant}")).await.expect("a list");
                    unfinished.extend(names.into_iter().filter(|name| name.starts_with('.')));
                }
                unfinished
            }
        };
        world.complete(&rt, listed).expect("a list ends")
    }

    /// Logs of runs before its own.
    pub(crate) fn earlier_logs(&self, world: &World) -> Vec<String> {
        let (rt, own) = (self.shards[0].0.clone(), Ulid(self.run).to_string());
        let listed = {
            let rt = rt.clone();
            async move {
                let mut logs = Vec::new();
                for run in rt.list(net::wal::ROOT).await.expect("a list") {
                    let of_run = rt.list(&format!("{}/{run}", net::wal::ROOT)).await;
                    let of_run = of_run.expect("a list").into_iter();
                    logs.extend(of_run.filter(|_| run != own).map(|log| format!("{run}/{log}")));
                }
                logs
            }
        };
        world.complete(&rt, listed).expect("a list ends")
    }

    /// What all shards count of their blocks under a name in `/metrics`.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let samples = |(_, shard): &(Sim, Rc<Shard<Sim>>)| shard.blocks().metrics().samples(0);
        let samples = self.shards.iter().flat_map(samples);
        samples.filter(|sample| sample.name == name).map(|sample| sample.value as u64).sum()
    }

    /// Whether some shard's cutter is at a step of publishing.
    pub(crate) fn is_publishing(&self, step: PublishStep) -> bool {
        self.shards.iter().any(|(_, shard)| shard.cutter().publish_step() == Some(step))
    }

    /// Whether some shard is at a step of removing a log of an earlier run.
    pub(crate) fn is_removing(&self, step: RemovalStep) -> bool {
        self.shards.iter().any(|(_, shard)| shard.removal_step() == Some(step))
    }
}

fn new_ulid(rt: &Sim, unix_ms: u64) -> u128 {
    let random = (u128::from(rt.next_u64()) << 64) | u128::from(rt.next_u64());
    Ulid::from_parts(unix_ms, random).0
}
