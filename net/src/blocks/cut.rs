//! The cutter: turns the heads of a tenant into a block, one tenant at a time, in the background.
//!
//! ```text
//! trigger ─► freeze ─► encode, a step a turn ─► write ─► publish ─► swap
//!               ▲                                  │ failed: what was written goes, the heads stay frozen and readable
//!               └──────────────── after a while ◄──┘
//! ```
//! Heads are cut by size, age, memory that runs short, a log that is nearly full, on request, behind a recovery and at the end of the process. With the swap the log is told
//! that it need not hold their records any more.
//!
//! A tenant has at most one set of frozen heads that wait for their block: while they do, its new heads are left alone.
//!
//! Not here: what a block is made of (`engine::block`), its steps on the disk ([`super::publish`]).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::block::{BlockEncoder, BlockReader, EncodeStep, Meta};
use engine::head::{Frozen, Heads};
use engine::pace::Pace;
use engine::tenant::{PartitionKey, TenantId};
use futures_util::future::select;
use proto::rpc::{Code, Failure, Reply};
use ulid::Ulid;

use super::publish::{Publication, PublishStep, remove_published};
use super::{Blocks, block_path};
use crate::budget::{Kind, ShardBudget};
use crate::mesh::Responder;
use crate::readiness::Readiness;
use crate::runtime::{Class, Runtime};
use crate::signal::Signal;
use crate::wal::Log;

/// How often heads are looked at for their size and age.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Heads that are looked at in one go.
const LOOK_HEADS_MAX: usize = 1024;

/// How often a cutter that may not begin yet looks whether it may.
const START_INTERVAL: Duration = Duration::from_millis(5);

/// After a failed cut the next waits so long; twice as long after each further one.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// And no longer than this: a disk that has room again is used soon.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Requests to flush that wait at a shard; more are refused. One cut of everything answers all that came before it.
const FLUSHES_MAX: usize = 64;

/// Bytes of heads of a tenant from which on they are cut: large enough that a block's names are shared by many
/// profiles, small enough that its recovery and its encoding stay short.
const HEAD_BYTES_MAX: usize = 256 << 20;

/// Bytes of heads of a shard below which memory that runs short is no reason for a cut: little would come of it, and blocks
/// of next to nothing cost every later read.
const PRESSURE_HEADS_PERCENT_MIN: u64 = 25;

/// The same while a recovery waits for room: it gets on in pieces of this size at least, where little else can be given back.
const ROOM_HEADS_PERCENT_MIN: u64 = 5;

/// Percent of the memory limit in use from which on the largest heads are cut; pushes are refused at 90.
const PRESSURE_PERCENT: u64 = 70;

/// Why heads are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Their oldest profiles are as old as a block may be.
    Age,
    /// Somebody asked.
    Flush,
    /// The log is nearly full, and they need its oldest segment.
    Log,
    /// Memory runs short.
    Memory,
    /// A recovery has put records of earlier runs into them, and their logs are to go.
    Recovery,
    /// The process ends.
    Shutdown,
    /// They are large.
    Size,
}

impl Trigger {
    /// All of them, by name.
    pub const ALL: [Self; 7] = [
        Self::Age,
        Self::Flush,
        Self::Log,
        Self::Memory,
        Self::Recovery,
        Self::Shutdown,
        Self::Size,
    ];

    /// Value of the label `trigger` in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Flush => "flush",
            Self::Log => "log",
            Self::Memory => "memory",
            Self::Recovery => "recovery",
            Self::Shutdown => "shutdown",
            Self::Size => "size",
        }
    }
}

/// When heads are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `-pyroscopedb.max-block-duration`: age at which the heads of a tenant are cut.
    pub max_block_duration: Duration,
    /// Bytes of heads of a tenant on a shard at which they are cut.
    pub head_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_block_duration: Duration::from_hours(1), head_bytes_max: HEAD_BYTES_MAX }
    }
}

/// The cutter of one shard.
#[derive(Debug)]
pub struct Cutter<R: Runtime> {
    rt: R,
    settings: Settings,
    heads: Rc<RefCell<Heads>>,
    blocks: Rc<Blocks>,
    log: Log<R>,
    budget: ShardBudget,
    readiness: Readiness,
    /// There is something to look at.
    wake: Rc<Signal>,
    flushes: RefCell<Vec<Responder>>,
    /// Shards that have no more to replay and wait until what they replayed is in blocks.
    publishes: RefCell<Vec<Responder>>,
    /// Whether a recovery waits for room.
    is_room_wanted: Cell<bool>,
    /// Who asks to flush from now on does so because the process ends.
    ends: Cell<bool>,
    /// When the heads of a tenant were first seen since they were cut last, [`crate::runtime::Clock::now_ns`].
    first_seen_ns: RefCell<BTreeMap<TenantId, u64>>,
    /// Frozen heads whose cut failed, by tenant.
    waiting: RefCell<BTreeMap<TenantId, Arc<Frozen>>>,
    /// Blocks whose publication failed and that could not be removed: until they are, nothing is published in their place.
    leftovers: RefCell<BTreeMap<TenantId, u128>>,
    /// What is being done to publish a block.
    step: Cell<Option<PublishStep>>,
}

/// Why a cut failed.
#[derive(Debug, thiserror::Error)]
enum CutError {
    #[error(transparent)]
    Publish(#[from] super::publish::PublishError),
    #[error("removing {path}, which an earlier try left: {source}")]
    Leftover { path: String, source: std::io::Error },
    #[error("the block {ulid} that was just written does not open: {source}")]
    Open { ulid: Ulid, source: engine::block::BlockError },
}

impl<R: Runtime> Cutter<R> {
    /// Starts a shard's cutter.
    pub fn start(
        rt: R,
        settings: Settings,
        heads: Rc<RefCell<Heads>>,
        blocks: Rc<Blocks>,
        log: Log<R>,
        budget: ShardBudget,
        readiness: Readiness,
    ) -> Rc<Self> {
        let wake = Rc::new(Signal::default());
        log.wake_when_nearly_full(Rc::clone(&wake));
        let cutter = Rc::new(Self {
            rt,
            settings,
            heads,
            blocks,
            log,
            budget,
            readiness,
            wake,
            flushes: RefCell::default(),
            publishes: RefCell::default(),
            is_room_wanted: Cell::new(false),
            ends: Cell::new(false),
            first_seen_ns: RefCell::default(),
            waiting: RefCell::default(),
            leftovers: RefCell::default(),
            step: Cell::new(None),
        });
        cutter.rt.spawn(Class::Background, Rc::clone(&cutter).run());
        cutter
    }

    /// Answers when everything that the shard had taken before is in blocks.
    pub fn flush(&self, responder: Responder) {
        let mut flushes = self.flushes.borrow_mut();
        if flushes.len() >= FLUSHES_MAX {
            let message = format!("{FLUSHES_MAX} flushes are under way; retry later");
            let failure = Failure::new(Code::ResourceExhausted, "", message);
            return responder.reply(Reply::Flush(Err(failure)));
        }
        flushes.push(responder);
        drop(flushes);
        self.wake.notify();
    }

    /// Answers when every shard has asked and what recoveries put into this shard's heads is in blocks. A shard asks once.
    pub fn publish_replayed(&self, responder: Responder) {
        self.publishes.borrow_mut().push(responder);
        self.wake.notify();
    }

    /// A recovery waits for room: looks at once what can be cut, however little would come of it.
    pub fn make_room(&self) {
        self.is_room_wanted.set(true);
        self.wake.notify();
    }

    /// The next flush is the last.
    pub fn note_end(&self) {
        self.ends.set(true);
    }

    /// What is being done to publish a block; `None` between two.
    pub fn publish_step(&self) -> Option<PublishStep> {
        self.step.get()
    }

    #[expect(clippy::infinite_loop, reason = "it ends with the shard's executor")]
    async fn run(self: Rc<Self>) {
        // Another shard that still lists would take a block of this run for one of an earlier.
        while !self.readiness.blocks_are_listed() {
            self.rt.sleep(START_INTERVAL).await;
        }
        let mut retry = RETRY_MIN;
        loop {
            let flushes = self.flushes.take();
            if !flushes.is_empty() {
                self.flush_all(flushes).await;
                continue;
            }
            self.answer_published();
            let mut pause = LOOK_INTERVAL;
            if let Some((tenant, trigger)) = self.due().await {
                if self.cut(&tenant, trigger).await.is_ok() {
                    retry = RETRY_MIN;
                    continue;
                }
                pause = retry;
                retry = (retry * 2).min(RETRY_MAX);
            }
            select(pin!(self.wake.wait()), pin!(self.rt.sleep(pause))).await;
        }
    }

    /// Whether no shard has more to replay.
    fn is_all_replayed(&self) -> bool {
        self.publishes.borrow().len() == usize::from(self.budget.budget().shards_count())
    }

    fn answer_published(&self) {
        if self.is_all_replayed() && !self.log.has_put_back() {
            let publishes = self.publishes.take();
            for responder in publishes {
                responder.reply(Reply::PublishReplayed);
            }
        }
    }

    async fn flush_all(&self, flushes: Vec<Responder>) {
        let mut outcome = Ok(());
        let mut tenants: BTreeSet<TenantId> = self.bytes_of_tenants().await.into_keys().collect();
        tenants.extend(self.waiting.borrow().keys().cloned());
        let trigger = if self.ends.get() { Trigger::Shutdown } else { Trigger::Flush };
        for tenant in tenants {
            // Frozen heads of an earlier try first, and then what came since.
            let cuts = if self.waiting.borrow().contains_key(&tenant) { 2 } else { 1 };
            for _ in 0..cuts {
                let cut = self.cut(&tenant, trigger).await;
                if let Err(message) = cut {
                    let text = format!("flushing tenant {tenant}: {message}");
                    outcome = outcome.and_then(|()| Err(Failure::new(Code::Internal, "", text)));
                }
            }
        }
        for responder in flushes {
            responder.reply(Reply::Flush(outcome.clone()));
        }
    }

    /// Tenants with heads that take appends, and the bytes of those. Nobody but the cutter takes heads away, so a walk that lets
    /// others run misses none.
    async fn bytes_of_tenants(&self) -> BTreeMap<TenantId, usize> {
        let mut bytes_of: BTreeMap<TenantId, usize> = BTreeMap::new();
        let mut last: Option<PartitionKey> = None;
        loop {
            let before = last.take();
            for (key, head) in self.heads.borrow().iter_behind(before.as_ref()).take(LOOK_HEADS_MAX)
            {
                match bytes_of.get_mut(&key.tenant) {
                    Some(bytes) => *bytes += head.bytes_held(),
                    None => drop(bytes_of.insert(key.tenant.clone(), head.bytes_held())),
                }
                last = Some(key.clone());
            }
            if last.is_none() {
                return bytes_of;
            }
            self.rt.yield_if_needed().await;
        }
    }

    /// Whose heads are to be cut next, if anyone's.
    async fn due(&self) -> Option<(TenantId, Trigger)> {
        if let Some(tenant) = self.waiting.borrow().keys().next() {
            return Some((tenant.clone(), Trigger::Size));
        }
        if self.is_all_replayed()
            && let Some(tenant) = self.log.tenant_put_back()
        {
            return Some((tenant, Trigger::Recovery));
        }
        let bytes_of = self.bytes_of_tenants().await;
        let now_ns = self.rt.now_ns();
        let mut first_seen = self.first_seen_ns.borrow_mut();
        first_seen.retain(|tenant, _| bytes_of.contains_key(tenant));
        for tenant in bytes_of
            .keys()
            .filter(|tenant| !first_seen.contains_key(tenant))
            .cloned()
            .collect::<Vec<_>>()
        {
            first_seen.insert(tenant, now_ns);
        }
        let (largest, bytes) = bytes_of.iter().max_by_key(|(_, bytes)| **bytes)?;
        if *bytes >= self.settings.head_bytes_max {
            return Some((largest.clone(), Trigger::Size));
        }
        if self.memory_runs_short() {
            return Some((largest.clone(), Trigger::Memory));
        }
        if let Some(tenant) = self.log.tenant_to_cut() {
            return Some((tenant, Trigger::Log));
        }
        let age_max_ns = self.settings.max_block_duration.as_nanos();
        let aged = first_seen.iter().filter(|(_, seen)| u128::from(now_ns - **seen) >= age_max_ns);
        let oldest = aged.min_by_key(|(_, seen)| **seen);
        oldest.map(|(tenant, _)| (tenant.clone(), Trigger::Age))
    }

    fn memory_runs_short(&self) -> bool {
        let budget = self.budget.budget();
        let used_bytes = budget.accounted_bytes() + budget.unaccounted_bytes();
        let heads_bytes = self.heads.borrow().bytes_held() as u64;
        let share_bytes = budget.limit_bytes() / u64::from(budget.shards_count());
        let heads_percent_min = if self.is_room_wanted.take() {
            ROOM_HEADS_PERCENT_MIN
        } else {
            PRESSURE_HEADS_PERCENT_MIN
        };
        used_bytes >= budget.limit_bytes() / 100 * PRESSURE_PERCENT
            && heads_bytes >= share_bytes / 100 * heads_percent_min
    }

    /// Cuts the heads of a tenant; the error is what went wrong, and is logged.
    async fn cut(&self, tenant: &TenantId, trigger: Trigger) -> Result<(), String> {
        let waiting = self.waiting.borrow_mut().remove(tenant);
        let Some(frozen) = waiting.or_else(|| self.freeze(tenant)) else { return Ok(()) };
        self.first_seen_ns.borrow_mut().remove(tenant);
        let begun_ns = self.rt.now_ns();
        self.budget.set_cutting(true);
        let block = match self.block_of(&frozen).await {
            Ok(block) => block,
            Err(error) => {
                let metrics = self.blocks.metrics();
                metrics.failed.set(metrics.failed.get() + 1);
                tracing::error!(%tenant, trigger = trigger.as_str(), %error, "cutting heads failed; they stay in memory and in the log");
                self.step.set(None);
                self.waiting.borrow_mut().insert(tenant.clone(), frozen);
                return Err(error.to_string());
            }
        };
        self.step.set(Some(PublishStep::Swap));
        let took_ns = self.rt.now_ns() - begun_ns;
        self.blocks.metrics().count_cut(trigger, block.as_deref(), took_ns);
        if let Some(block) = &block {
            let Meta { ulid, stats, .. } = block.meta();
            tracing::info!(%tenant, block = ulid, trigger = trigger.as_str(), profiles = stats.profiles, ms = took_ns / 1_000_000, "cut");
        }
        // In one step: whoever reads sees the heads or the block.
        if let Some(block) = block {
            self.blocks.add(block);
        }
        #[cfg(feature = "planted-bugs")]
        if self.blocks.bug.get() == Some(engine::planted::Bug::DoubleCountDuringCut) {
            self.rt.sleep(START_INTERVAL).await;
        }
        self.heads.borrow_mut().retire(frozen.id());
        self.log.published(frozen.id());
        drop(frozen);
        free_unseen(&self.rt, &self.heads).await;
        self.budget.set(Kind::Heads, self.heads.borrow().bytes_held() as u64);
        self.budget.set_cutting(!self.waiting.borrow().is_empty());
        self.step.set(None);
        Ok(())
    }

    fn freeze(&self, tenant: &TenantId) -> Option<Arc<Frozen>> {
        let frozen = self.heads.borrow_mut().freeze(tenant)?;
        self.log.frozen(tenant, frozen.id());
        Some(frozen)
    }

    /// Encodes and publishes; `None` where the heads have no rows.
    async fn block_of(&self, frozen: &Arc<Frozen>) -> Result<Option<Arc<BlockReader>>, CutError> {
        let tenant = frozen.tenant();
        self.remove_leftover(tenant).await?;
        let ulid = self.new_ulid();
        let mut publication = Publication::new(&self.rt, &self.step, tenant.clone(), ulid);
        #[cfg(feature = "planted-bugs")]
        publication.plant(self.blocks.bug.get());
        let encoded = self.encode(ulid, frozen, &mut publication).await;
        let published = match encoded {
            Ok(None) => return Ok(None),
            Ok(Some(_)) => publication.publish().await,
            Err(error) => Err(error),
        };
        let (meta, index) = match published {
            Ok(bytes) => bytes,
            Err(error) => {
                if !publication.abandon().await {
                    self.leftovers.borrow_mut().insert(tenant.clone(), ulid);
                }
                return Err(error.into());
            }
        };
        let opened = BlockReader::open_in_turns(&meta, &index, &Pace::new()).await;
        let opened = opened.map_err(|source| CutError::Open { ulid: Ulid(ulid), source });
        if opened.is_err() {
            self.leftovers.borrow_mut().insert(tenant.clone(), ulid);
        }
        opened.map(|block| Some(Arc::new(block)))
    }

    async fn encode(
        &self,
        ulid: u128,
        frozen: &Arc<Frozen>,
        publication: &mut Publication<'_, R>,
    ) -> Result<Option<Meta>, super::publish::PublishError> {
        let mut encoder = BlockEncoder::new(ulid, Arc::clone(frozen));
        let mut held = self.budget.hold_as(Kind::Cuts, 0);
        loop {
            match encoder.step() {
                EncodeStep::More => {}
                EncodeStep::Write { file, bytes } => publication.write(file, bytes).await?,
                EncodeStep::Finished(meta) => return Ok(meta),
            }
            held.set((encoder.bytes_held() + publication.bytes_held()) as u64);
            self.rt.yield_if_needed().await;
        }
    }

    async fn remove_leftover(&self, tenant: &TenantId) -> Result<(), CutError> {
        let leftover = self.leftovers.borrow().get(tenant).copied();
        let Some(ulid) = leftover else { return Ok(()) };
        remove_published(&self.rt, tenant, ulid)
            .await
            .map_err(|source| CutError::Leftover { path: block_path(tenant, ulid), source })?;
        self.leftovers.borrow_mut().remove(tenant);
        Ok(())
    }

    fn new_ulid(&self) -> u128 {
        let random = (u128::from(self.rt.next_u64()) << 64) | u128::from(self.rt.next_u64());
        let unix_ms = u64::try_from(self.rt.unix_ms()).unwrap_or(0);
        Ulid::from_parts(unix_ms, random).0
    }
}

/// Frees frozen heads that blocks have taken the place of and no read sees any more, a head a turn.
pub(crate) async fn free_unseen<R: Runtime>(rt: &R, heads: &RefCell<Heads>) {
    let unseen = heads.borrow_mut().take_unseen();
    for frozen in unseen.into_iter().filter_map(Arc::into_inner) {
        for head in frozen.into_heads() {
            drop(head);
            rt.yield_if_needed().await;
        }
    }
}
