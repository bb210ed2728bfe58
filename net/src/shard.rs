//! One shard: its heads, its log, its workers, and what answers its inbox.
//!
//! Everything here has this shard as its one owner. Generic over the runtime: production and the simulator start the same
//! parts. Not here: sockets and the life of the process (`process`), the way between shards ([`crate::mesh`]).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use engine::hash::HashSecret;
use engine::head::{HeadOptions, Heads};
use engine::profile::Step;
use engine::query::{Progress as SelectProgress, Select};
use engine::spread::SpreadOptions;
use futures_util::future::join_all;
use proto::rpc::select::{SelectReply, SelectRequest};
use proto::rpc::{Code, Failure, MetricSample, Reply, Request};

use crate::blocks::{
    self, BlockFiles, Blocks, Cutter, FreeSpace, OpenScope, Retention, RetentionSettings,
};
use crate::budget::{Kind, ShardBudget};
use crate::component::distributor::{Distributor, DistributorSettings};
use crate::component::ingester::{IngestQueue, Ingester};
use crate::component::places::Places;
use crate::component::rates::Rates;
use crate::component::spread::Spreads;
use crate::component::write_counters::WriteCounters;
use crate::mesh::{Inbox, Mesh, Responder};
use crate::overrides::TenantLimits;
use crate::pressure::Pressure;
use crate::readiness::Readiness;
use crate::runtime::{Class, Runtime};
use crate::wal::recovery::{self, FinishedLog, Progress, RecoveryError, Share};
use crate::wal::{AtStep, Log, RemovalStep};

/// Reads that one shard works on at a time; more are refused with 429. What each holds
/// (dense sums as long as the largest head's tree, mostly) is in the memory budget.
const SELECTS_MAX: usize = 256;

/// Of a shard's even share of the memory limit, this part at most is symbol tables of blocks that reads have left.
const SYMBOLS_SHARE: u64 = 8;

/// How often open chunks are looked at for their age.
const SEAL_INTERVAL: Duration = Duration::from_secs(5);

/// How often a recovering shard tells its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// How often a shard looks whether all have listed their blocks.
const LISTED_INTERVAL: Duration = Duration::from_millis(5);

/// What a shard is started with.
#[derive(Debug)]
pub struct ShardSettings {
    /// Limits of every tenant.
    pub limits: TenantLimits,
    /// This shard's part of the memory budget.
    pub budget: ShardBudget,
    /// When chunks are sealed.
    pub heads: HeadOptions,
    /// When services are spread over shards.
    pub spread: SpreadOptions,
    /// ULID of this shard's run: the origin of the profiles its distributor takes in.
    pub origin: u128,
    /// How long profiles would wait at the node's ingesters.
    pub pressure: Pressure,
    /// When heads are cut.
    pub cuts: blocks::Settings,
    /// What is kept of blocks and of the disk.
    pub retention: RetentionSettings,
    /// How far the shards' recovery is; reads wait for it.
    pub readiness: Readiness,
}

/// Why a shard could not take up what earlier runs left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Blocks could not be listed.
    #[error("opening blocks: {0}")]
    Blocks(#[from] blocks::OpenError),
    /// Logs could not be put back.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// A started shard.
pub struct Shard<R: Runtime> {
    rt: R,
    mesh: Mesh,
    budget: ShardBudget,
    readiness: Readiness,
    distributor: Distributor<R>,
    queue: IngestQueue,
    rates: Rates<R>,
    places: Places<R>,
    spreads: Rc<Spreads>,
    counters: Rc<WriteCounters>,
    heads: Rc<RefCell<Heads>>,
    blocks: Rc<Blocks>,
    cutter: Rc<Cutter<R>>,
    free_space: FreeSpace,
    secret: HashSecret,
    log: Log<R>,
    removal: AtStep,
    selects: Cell<usize>,
    more_metrics: RefCell<Vec<MetricSource>>,
}

/// Adds samples of a part that only production has (sockets, the executor).
pub type MetricSource = Box<dyn Fn() -> Vec<MetricSample>>;

impl<R: Runtime> fmt::Debug for Shard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("id", &self.mesh.own()).finish_non_exhaustive()
    }
}

impl<R: Runtime> Shard<R> {
    /// Starts the workers and the inbound pump on `rt`.
    pub fn start(
        rt: R,
        mesh: Mesh,
        inbox: Inbox,
        settings: ShardSettings,
        log: Log<R>,
    ) -> Rc<Self> {
        let ShardSettings { limits, budget, heads, spread, origin, .. } = settings;
        let ShardSettings { pressure, cuts, retention, readiness, .. } = settings;
        let counters = Rc::new(WriteCounters::default());
        let secret = HashSecret::from_words(|| rt.next_u64());
        let heads = Rc::new(RefCell::new(Heads::new(secret.clone(), heads)));
        let share_bytes = budget.budget().limit_bytes() / u64::from(budget.budget().shards_count());
        let blocks = Rc::new(Blocks::new((share_bytes / SYMBOLS_SHARE) as usize));
        budget.keep_cache(blocks.symbols().clone());
        let cutter = Cutter::start(
            rt.clone(),
            cuts,
            Rc::clone(&heads),
            Rc::clone(&blocks),
            log.clone(),
            budget.clone(),
            readiness.clone(),
        );
        let free_space = FreeSpace::new(retention);
        Retention::start(
            &rt,
            retention,
            limits.clone(),
            Rc::clone(&blocks),
            free_space.clone(),
            readiness.clone(),
        );
        let rates = Rates::start(rt.clone(), mesh.clone(), limits.clone());
        let places = Places::start(rt.clone(), mesh.clone(), limits.clone(), Rc::clone(&heads));
        let spreads = Spreads::start(&rt, &mesh, spread);
        let shard = Rc::new(Self {
            distributor: Distributor::new(
                rt.clone(),
                mesh.clone(),
                DistributorSettings {
                    origin,
                    limits: limits.clone(),
                    rates: rates.clone(),
                    budget: budget.for_pushes(),
                    pressure: pressure.clone(),
                    counters: Rc::clone(&counters),
                    spreads: Rc::clone(&spreads),
                    free_space: free_space.clone(),
                },
            ),
            queue: Ingester::start(
                Ingester {
                    rt: rt.clone(),
                    limits,
                    rates: rates.clone(),
                    places: places.clone(),
                    budget: budget.for_pushes(),
                    pressure: Rc::new(pressure.of_shard(mesh.own())),
                    counters: Rc::clone(&counters),
                    heads: Rc::clone(&heads),
                    blocks: Rc::clone(&blocks),
                    cutter: Rc::clone(&cutter),
                    log: log.clone(),
                    spreads: Rc::clone(&spreads),
                },
                secret.clone(),
            ),
            secret,
            rates,
            places,
            spreads,
            removal: AtStep::default(),
            selects: Cell::new(0),
            more_metrics: RefCell::default(),
            rt,
            mesh,
            budget,
            readiness,
            counters,
            heads,
            blocks,
            cutter,
            free_space,
            log,
        });
        let serving = Rc::clone(&shard);
        shard.rt.spawn(Class::Rpc, async move {
            let mesh = serving.mesh.clone();
            let rt = serving.rt.clone();
            mesh.pump(&rt, inbox, |request, responder| serving.serve(request, responder)).await;
        });
        let sealing = Rc::clone(&shard);
        shard.rt.spawn(Class::Background, async move { sealing.seal_aged().await });
        shard
    }

    /// Opens this shard's blocks, and puts its share of the logs of earlier runs back. Reads are served when every shard has. Goes
    /// on until blocks have all of it, and removes the logs.
    pub async fn recover(&self, share: Share) -> Result<(), StartError> {
        let own = self.mesh.own();
        let has_logs = recovery::has_logs(&self.rt, share).await?;
        let scope = if has_logs { OpenScope::All } else { OpenScope::Own };
        self.blocks.open(&self.rt, own, self.mesh.shards_count(), scope).await?;
        self.readiness.set_blocks_listed(own);
        while !self.readiness.blocks_are_listed() {
            self.rt.sleep(LISTED_INTERVAL).await;
        }
        let progress = Rc::new(Progress::default());
        let ended = Rc::new(Cell::new(false));
        self.tell_progress(Rc::clone(&progress), Rc::clone(&ended));
        let outcome = recovery::recover(&self.rt, share, &self.mesh, &progress).await;
        ended.set(true);
        let recovered = outcome?;
        let recovery::Recovered { logs, records, torn, lost, withheld, finished } = recovered;
        let shard = own.0;
        if logs > 0 {
            tracing::info!(shard, logs, records, torn, lost, withheld, "recovered");
        }
        self.readiness.set_recovered(own);
        self.release(finished).await;
        Ok(())
    }

    /// Removes logs when blocks have all that recoveries put back. Where one cannot be removed the next start finds nothing new in it.
    async fn release(&self, logs: Vec<FinishedLog>) {
        let mesh = &self.mesh;
        let published = mesh.shards().map(|shard| mesh.call(shard, Request::PublishReplayed));
        if join_all(published).await.iter().any(Result::is_err) {
            return; // the process is stopping
        }
        for log in logs {
            match log.clone().remove(&self.rt, &self.removal).await {
                Ok(()) => tracing::info!(%log, "removed: blocks have all of it"),
                Err(error) => tracing::warn!(%log, %error, "not removed; blocks have all of it"),
            }
        }
    }

    /// What is being done to remove a log of an earlier run; `None` between two.
    pub fn removal_step(&self) -> Option<RemovalStep> {
        self.removal.get()
    }

    fn tell_progress(&self, progress: Rc<Progress>, ended: Rc<Cell<bool>>) {
        let (rt, readiness, own) = (self.rt.clone(), self.readiness.clone(), self.mesh.own());
        self.rt.spawn(Class::Rpc, async move {
            while !ended.get() {
                readiness.set_progress(own, progress.done_bytes.get(), progress.total_bytes.get());
                rt.sleep(PROGRESS_INTERVAL).await;
            }
        });
    }

    /// Puts all heads into blocks, as far as that goes; the log keeps what is left. Nothing is pushed any more.
    pub async fn cut_last(&self) {
        if !self.readiness.blocks_are_listed() {
            return; // nothing may be cut yet
        }
        self.cutter.note_end();
        match self.mesh.call(self.mesh.own(), Request::Flush).await {
            Ok(Reply::Flush(Ok(()))) => {}
            Ok(Reply::Flush(Err(failure))) | Err(failure) => {
                let (shard, reason) = (self.mesh.own().0, failure.message);
                tracing::warn!(
                    shard,
                    reason,
                    "heads were not cut; the next start reads them from the log"
                );
            }
            Ok(other) => unreachable!("a flush is answered as one, not by {other:?}"),
        }
    }

    /// Writes and syncs what the log still holds. Appends are refused from here on.
    pub async fn close(&self) -> Result<(), Failure> {
        self.log.close().await
    }

    /// Adds a source of metrics.
    pub fn add_metrics(&self, source: MetricSource) {
        self.more_metrics.borrow_mut().push(source);
    }

    /// This shard's distributor: where pushes enter.
    pub fn distributor(&self) -> &Distributor<R> {
        &self.distributor
    }

    /// This shard's log.
    pub fn log(&self) -> &Log<R> {
        &self.log
    }

    /// This shard's blocks.
    pub fn blocks(&self) -> &Rc<Blocks> {
        &self.blocks
    }

    /// This shard's cutter.
    pub fn cutter(&self) -> &Rc<Cutter<R>> {
        &self.cutter
    }

    /// This shard's end of the mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    fn serve(self: &Rc<Self>, request: Request, responder: Responder) {
        match request {
            Request::Append(request) => self.queue.append(request, responder),
            Request::Replay(request) => self.queue.replay(request, responder),
            Request::Rate(request) => self.rates.serve(request, responder),
            Request::Places(request) => self.places.serve(request, responder),
            Request::Select(request) => self.select(request, responder),
            Request::Spread(request) => {
                responder.reply(Reply::Spread(self.spreads.serve(request)));
            }
            Request::Flush => self.cutter.flush(responder),
            Request::PublishReplayed => self.cutter.publish_replayed(responder),
            Request::Metrics => {
                let shard = Rc::clone(self);
                self.rt.spawn(Class::Rpc, async move {
                    responder.reply(Reply::Metrics(shard.samples().await));
                });
            }
        }
    }

    fn select(self: &Rc<Self>, request: SelectRequest, responder: Responder) {
        let running = self.selects.get();
        let admitted = self.readiness.admit_read();
        let admitted = admitted.and_then(|()| self.blocks.admit_read(&request)).and_then(|()| {
            if running < SELECTS_MAX {
                return Ok(());
            }
            Err(Failure::new(
                Code::ResourceExhausted,
                "selects_limit",
                format!("shard works on {running} reads, limit {SELECTS_MAX}; retry later"),
            ))
        });
        if let Err(failure) = admitted {
            return responder.reply(Reply::Select(SelectReply::Failed(failure)));
        }
        self.selects.set(running + 1);
        let running = Running(Rc::clone(self));
        self.rt.spawn(Class::Query, async move {
            let reply = running.0.run_select(request, &responder).await;
            drop(running);
            responder.reply(Reply::Select(reply));
        });
    }

    /// Works on a read until it is done, or nobody waits for it any more, or it is over what memory is left.
    pub(crate) async fn run_select(
        &self,
        request: SelectRequest,
        responder: &Responder,
    ) -> SelectReply {
        let mut select = match Select::new(request, &self.secret) {
            Ok(select) => select,
            Err(failure) => return SelectReply::Failed(failure),
        };
        // In one step, as the cutter's swap: each profile is in a head that is seen or in a block that is.
        select.pin(&self.heads.borrow());
        select.read_blocks(self.blocks.list(), self.blocks.symbols());
        let mut files = BlockFiles::new(self.rt.clone());
        let reply = self.step_select(&mut select, &mut files, responder).await;
        files.close().await;
        reply
    }

    async fn step_select(
        &self,
        select: &mut Select,
        files: &mut BlockFiles<R>,
        responder: &Responder,
    ) -> SelectReply {
        let mut held = self.budget.hold_as(Kind::Queries, 0);
        while !responder.is_abandoned() {
            let progress = select.advance(&self.heads.borrow());
            self.budget.note_cache();
            let read_bytes = match &progress {
                SelectProgress::NeedsData { ranges, .. } => ranges.iter().map(|r| r.bytes).sum(),
                _ => 0,
            };
            if let Err(failure) = held.admit_to(select.bytes_held() as u64 + read_bytes) {
                return SelectReply::Failed(failure);
            }
            match progress {
                SelectProgress::More => {}
                SelectProgress::NeedsData { block, ranges } => {
                    match files.read(&block, &ranges).await {
                        Ok(bytes) => select.provide(bytes),
                        Err(message) => {
                            let failure = Failure::new(Code::Internal, "block_unreadable", message);
                            return SelectReply::Failed(failure);
                        }
                    }
                }
                SelectProgress::Reply(reply) => return reply,
            }
            self.rt.yield_if_needed().await;
        }
        SelectReply::Failed(Failure::new(
            Code::Canceled,
            "",
            "the read was given up by who asked for it",
        ))
    }

    #[expect(clippy::infinite_loop, reason = "it ends with the shard's executor")]
    async fn seal_aged(&self) {
        loop {
            self.rt.sleep(SEAL_INTERVAL).await;
            if self.readiness.recovered().is_ok() {
                self.blocks.forget_published();
            }
            blocks::free_unseen(&self.rt, &self.heads).await;
            let now_ms = self.rt.unix_ms();
            loop {
                let step = self.heads.borrow_mut().seal_aged(now_ms);
                if step == Step::Done {
                    break;
                }
                self.rt.yield_if_needed().await;
            }
            // Where pushes find no room, whatever shard they ask, this one keeps nothing for speed alone.
            let _ = self.budget.for_pushes().has_room(0);
            // The account falls also where no push comes any more.
            self.budget.set(Kind::Heads, self.heads.borrow().bytes_held() as u64);
            self.budget.set(Kind::Log, self.log.metrics().pending_bytes.get() as u64);
        }
    }

    async fn samples(&self) -> Vec<MetricSample> {
        let shard = self.mesh.own().0;
        let mut samples = self.counters.samples(&self.rt, shard).await;
        samples.extend(self.log.samples());
        samples.extend(self.blocks.samples(shard));
        samples.extend(self.free_space.samples(shard));
        samples.extend(self.budget.samples());
        samples.extend(self.mesh.samples());
        samples.extend(self.readiness.samples(self.mesh.own()));
        samples.extend(self.spreads.samples(self.mesh.own()));
        samples.extend(self.rates.samples());
        samples.extend(self.places.samples());
        let selects = self.selects.get() as f64;
        samples.push(MetricSample::of_shard("pyrite_selects", shard, selects));
        samples.extend(self.more_metrics.borrow().iter().flat_map(|source| source()));
        samples
    }
}

/// One read that the shard works on.
struct Running<R: Runtime>(Rc<Shard<R>>);

impl<R: Runtime> Drop for Running<R> {
    fn drop(&mut self) {
        let selects = &self.0.selects;
        selects.set(selects.get() - 1);
    }
}
