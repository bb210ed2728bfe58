//! The owner's side of a write: one worker a shard turns received bytes into a log record and rows of a head.
//!
//! ```text
//! queue ─► intake (inflate, decode, check, admit) ─► places for new series ─► log.append ─► head rows ─┐
//!                                                                             └─► fdatasync ──────────┴─► reply
//! ```
//! One profile at a time, so its scratch is reused and a head has one writer; the worker gives way between steps and does not
//! wait for the disk: the next profile is decoded while the group of the last one syncs. It waits for the tenant's home shard
//! where a profile makes series for which no places are held, which are lent in slices. What the intake refuses leaves no
//! trace, nor does what the log has no room for; what the log takes is in the head before its reply, and stays readable until
//! the next start should the log fail before its sync (in doubt: `net::wal`). Records of earlier runs take the same way without the checks
//! and without the log.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::hash::HashSecret;
use engine::head::{Append, Heads};
use engine::identity::Identity;
use engine::labels::LabelSet;
use engine::profile::{Admission, Intake, IntakeStep, PushFacts, Step};
use engine::tenant::{PartitionKey, TenantId};
use engine::wal::{Record, RecordRef};
use futures_channel::mpsc;
use futures_util::StreamExt;
use proto::rpc::append::{AppendReply, AppendRequest, ReplayReply, ReplayRequest};
use proto::rpc::{Code, Failure, Reply, Retry};

use crate::blocks::{Blocks, Cutter};
use crate::budget::{Kind, ShardBudget};
use crate::component::distributor::claimed_profile_bytes;
use crate::component::places::{Places, Taken};
use crate::component::rates::Rates;
use crate::component::spread::Spreads;
use crate::component::write_counters::{Stage, WriteCounters};
use crate::mesh::Responder;
use crate::overrides::TenantLimits;
use crate::pressure::{INGEST_WAIT_MAX, ShardPressure};
use crate::runtime::{Class, Runtime};
use crate::wal::Log;

/// Received bytes that may wait for one shard's ingester: about a second of its work. Above it pushes get 429.
pub const INGEST_QUEUE_BYTES_MAX: u64 = 64 << 20;

/// [`Failure::reason`] of a profile that would wait too long for its owner.
pub const INGEST_QUEUE_FULL: &str = "ingest_queue_full";

/// Memory kept for what a profile does to its head, by the uncompressed byte: stacks that are all new took 3.3
/// (`docs/memory.md`). Given back when it is known.
const APPEND_RESERVE: u64 = 4;

/// How long a recovery waits for memory that pushes and reads under way hold, before it gives up. For heads that are being cut
/// it waits as long as that takes.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks meanwhile.
const RECOVERY_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What the worker needs.
#[derive(Debug)]
pub struct Ingester<R: Runtime> {
    /// Runtime of the shard.
    pub rt: R,
    /// Limits of every tenant.
    pub limits: TenantLimits,
    /// Their rates.
    pub rates: Rates<R>,
    /// How many series they may have.
    pub places: Places<R>,
    /// Memory of the process.
    pub budget: ShardBudget,
    /// How long profiles wait for the worker.
    pub pressure: Rc<ShardPressure>,
    /// What is counted.
    pub counters: Rc<WriteCounters>,
    /// Heads of the shard.
    pub heads: Rc<RefCell<Heads>>,
    /// Blocks of the shard.
    pub blocks: Rc<Blocks>,
    /// What makes room in memory.
    pub cutter: Rc<Cutter<R>>,
    /// Log of the shard.
    pub log: Log<R>,
    /// Which services are hot.
    pub spreads: Rc<Spreads>,
}

/// The way to a shard's worker.
#[derive(Clone, Debug)]
pub struct IngestQueue {
    jobs: mpsc::UnboundedSender<Job>,
    pressure: Rc<ShardPressure>,
    counters: Rc<WriteCounters>,
}

#[derive(Debug)]
enum Job {
    Append(AppendRequest, Responder),
    Replay(ReplayRequest, Responder),
}

impl IngestQueue {
    /// Queues a profile, or refuses it when too much waits already.
    pub fn append(&self, request: AppendRequest, responder: Responder) {
        let bytes = request.profile.len() as u64;
        let queued = self.counters.queue_bytes.get();
        let wait = self.pressure.wait(queued);
        // What takes longer than the limit by itself goes alone.
        if queued > 0 && (queued + bytes > INGEST_QUEUE_BYTES_MAX || wait > INGEST_WAIT_MAX) {
            let message = format!(
                "{queued} bytes wait to be ingested, about {} ms; limits {INGEST_QUEUE_BYTES_MAX} bytes and {} ms; retry later",
                wait.as_millis(),
                INGEST_WAIT_MAX.as_millis()
            );
            self.counters.count_discarded(
                &request.tenant,
                INGEST_QUEUE_FULL,
                request.profile.len(),
            );
            let retry = Retry::After(wait.saturating_sub(INGEST_WAIT_MAX));
            let failure =
                Failure::new(Code::ResourceExhausted, INGEST_QUEUE_FULL, message).with_retry(retry);
            return responder.reply(Reply::Append(AppendReply::Refused(failure)));
        }
        self.counters.queue_bytes.set(queued + bytes);
        self.counters.queue_profiles.set(self.counters.queue_profiles.get() + 1);
        self.pressure.set_waiting(queued + bytes);
        self.send(Job::Append(request, responder));
    }

    /// Queues records of an earlier run; recovery bounds how many are under way.
    pub fn replay(&self, request: ReplayRequest, responder: Responder) {
        self.send(Job::Replay(request, responder));
    }

    fn send(&self, job: Job) {
        // The worker lives as long as the shard; a job for a stopping shard dies with its responder.
        let _ = self.jobs.unbounded_send(job);
    }
}

impl<R: Runtime> Ingester<R> {
    /// Starts the shard's worker and gives the way to it. `secret` keys the tables of its scratch.
    pub fn start(self, secret: HashSecret) -> IngestQueue {
        let (jobs, waiting) = mpsc::unbounded();
        let queue = IngestQueue {
            jobs,
            pressure: Rc::clone(&self.pressure),
            counters: Rc::clone(&self.counters),
        };
        let worker =
            Worker { intake: Intake::with_secret(secret), append: Append::default(), busy_ns: 0 };
        self.rt.clone().spawn(Class::Ingest, self.run(worker, waiting));
        queue
    }

    async fn run(self, mut worker: Worker, mut waiting: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = waiting.next().await {
            match job {
                Job::Append(request, responder) => {
                    let bytes = request.profile.len() as u64;
                    let (begun_ns, queue) = (self.rt.now_ns(), &self.counters.queue_bytes);
                    queue.set(queue.get() - bytes);
                    self.counters.queue_profiles.set(self.counters.queue_profiles.get() - 1);
                    self.append(&mut worker, request, responder, begun_ns).await;
                    self.pressure.note(bytes, self.rt.now_ns() - begun_ns);
                    self.pressure.set_waiting(queue.get());
                }
                Job::Replay(request, responder) => {
                    let reply = self.replay(&mut worker, request).await;
                    responder.reply(Reply::Replay(reply));
                }
            }
            worker.intake.give_back();
            worker.append.give_back();
            self.account_scratch(&worker);
            self.budget.set(Kind::Heads, self.heads.borrow().bytes_held() as u64);
            self.budget.set(Kind::Log, self.log.metrics().pending_bytes.get() as u64);
            self.rt.yield_if_needed().await;
        }
    }

    fn account_scratch(&self, worker: &Worker) {
        let bytes = worker.intake.bytes_held() + worker.append.bytes_held();
        self.budget.set(Kind::Scratch, bytes as u64);
    }

    async fn append(
        &self,
        worker: &mut Worker,
        mut request: AppendRequest,
        responder: Responder,
        mut begun_ns: u64,
    ) {
        let received_bytes = request.profile.len();
        worker.busy_ns = 0;
        let tenant =
            TenantId::parse(&request.tenant).expect("the distributor routed a checked tenant id");
        let partition = PartitionKey {
            tenant,
            service_name: request.service_name.as_str().into(),
            split: request.split,
        };
        let identity = Identity { origin: request.origin, seq: request.seq };
        let admission = match self.admit(worker, &mut request).await {
            Ok(Ok(admission)) => admission,
            Ok(Err(reason)) => {
                self.count_refused(&partition, reason, received_bytes);
                return responder.reply(Reply::Append(AppendReply::Dropped { reason }));
            }
            Err(failure) => {
                self.count_refused(&partition, failure.reason, received_bytes);
                // Its text may quote all labels; the push joins many.
                let refused = AppendReply::Refused(failure.shortened());
                return responder.reply(Reply::Append(refused));
            }
        };
        self.begin(worker, &partition, identity, &admission);
        let taken = match self.take_places(worker, &partition.tenant, &admission).await {
            Ok(taken) => taken,
            Err(failure) => {
                self.count_refused(&partition, failure.reason, received_bytes);
                return responder.reply(Reply::Append(AppendReply::Refused(failure)));
            }
        };
        self.counters.count_stage(Stage::Intake, &mut begun_ns, self.rt.now_ns());
        let record = RecordRef {
            partition: &partition,
            origin: request.origin,
            seq: request.seq,
            receive_time_ms: request.receive_time_ms,
            admission: &admission,
            profile: &request.profile,
        };
        // Nothing that follows can be taken back.
        let reserve_bytes = APPEND_RESERVE * worker.intake.inflated_bytes() as u64;
        let appended = match self.budget.admit_and_hold(Kind::Reserve, reserve_bytes) {
            Ok(reserve) => self.log.append(&record).await.map(|pending| (pending, reserve)),
            Err(failure) => Err(failure),
        };
        let (pending, _reserve) = match appended {
            Ok(appended) => appended,
            Err(failure) => {
                self.count_refused(&partition, failure.reason, received_bytes);
                return responder.reply(Reply::Append(AppendReply::Refused(failure)));
            }
        };
        self.counters.count_stage(Stage::Log, &mut begun_ns, self.rt.now_ns());
        let inflated_bytes = worker.intake.inflated_bytes();
        let samples_count = worker.intake.profile().samples_count();
        self.counters.count_received(
            partition.tenant.as_str(),
            received_bytes,
            inflated_bytes,
            samples_count,
        );
        // What it was larger than its trailer claimed.
        let claimed_bytes = claimed_profile_bytes(&request.profile);
        let more_bytes = (inflated_bytes as u64).saturating_sub(claimed_bytes);
        if more_bytes > 0 {
            self.rates.settle(&partition.tenant, more_bytes);
        }
        self.apply(worker, &admission).await;
        self.log.applied(pending.segment(), &partition.tenant, request.receive_time_ms);
        if taken.is_none() {
            self.places.note(&partition.tenant);
        }
        drop(taken);
        self.counters.count_stage(Stage::Head, &mut begun_ns, self.rt.now_ns());
        self.spreads.note(&partition, worker.busy_ns, inflated_bytes);
        self.counters.profiles_stored.set(self.counters.profiles_stored.get() + 1);
        let (budget, log) = (self.budget.clone(), Rc::clone(self.log.metrics()));
        // Not behind the next profiles.
        self.rt.spawn(Class::Rpc, async move {
            let outcome = pending.await;
            // Its group's bytes are given back; a node at its limit takes no further job that could tell.
            budget.set(Kind::Log, log.pending_bytes.get() as u64);
            let reply = outcome.map_or_else(AppendReply::InDoubt, |()| AppendReply::Stored);
            responder.reply(Reply::Append(reply));
        });
    }

    /// Counts a profile that leaves no trace. Not its number either: of a partition of which nothing is kept the distributor gives
    /// it again, to a profile that a block must not be thought to hold.
    fn count_refused(&self, key: &PartitionKey, reason: &'static str, bytes: usize) {
        self.counters.count_discarded(key.tenant.as_str(), reason, bytes);
    }

    /// Decodes and checks; `Ok(Err(reason))` when nothing to store is left.
    async fn admit(
        &self,
        worker: &mut Worker,
        request: &mut AppendRequest,
    ) -> Result<Result<Admission, &'static str>, Failure> {
        self.budget.admit(0)?;
        worker.intake.begin(
            request.profile.clone(),
            PushFacts {
                labels: LabelSet::from_pairs(Arc::unwrap_or_clone(std::mem::take(
                    &mut request.labels,
                ))),
                naming: request.naming.take(),
                limits: self.limits.of(&request.tenant),
                now_ms: request.receive_time_ms,
            },
        );
        loop {
            let Worker { intake, busy_ns, .. } = worker;
            match self.timed(busy_ns, || intake.step())? {
                IntakeStep::More => {
                    self.account_scratch(worker);
                    self.budget.admit(0)?;
                    self.rt.yield_if_needed().await;
                }
                IntakeStep::Admitted(admission) => return Ok(Ok(admission)),
                IntakeStep::Dropped { reason } => return Ok(Err(reason)),
            }
        }
    }

    fn begin(
        &self,
        worker: &mut Worker,
        key: &PartitionKey,
        identity: Identity,
        admission: &Admission,
    ) {
        let profile = worker.intake.profile();
        worker.append.begin(&self.heads.borrow(), key, identity, profile, admission);
    }

    /// Counts the series that the profile would make, and takes places for them; `None` where the tenant has no limit.
    async fn take_places(
        &self,
        worker: &mut Worker,
        tenant: &TenantId,
        admission: &Admission,
    ) -> Result<Option<Taken<R>>, Failure> {
        if !self.places.is_limited(tenant) {
            return Ok(None);
        }
        loop {
            let Worker { intake, append, busy_ns } = worker;
            let step = self.timed(busy_ns, || {
                append.count_series(&self.heads.borrow(), intake.profile(), admission)
            });
            match step {
                Step::More => self.rt.yield_if_needed().await,
                Step::Done => break,
            }
        }
        self.places.take(tenant, worker.append.series_counted()).await.map(Some)
    }

    /// Appends what was begun with.
    async fn apply(&self, worker: &mut Worker, admission: &Admission) {
        loop {
            let Worker { intake, append, busy_ns } = worker;
            let step = self.timed(busy_ns, || {
                append.step(&mut self.heads.borrow_mut(), intake.profile(), admission)
            });
            match step {
                Step::More => self.rt.yield_if_needed().await,
                Step::Done => return,
            }
        }
    }

    fn timed<T>(&self, busy_ns: &mut u64, act: impl FnOnce() -> T) -> T {
        let begun_ns = self.rt.now_ns();
        let done = act();
        *busy_ns += self.rt.now_ns() - begun_ns;
        done
    }

    async fn replay(&self, worker: &mut Worker, request: ReplayRequest) -> ReplayReply {
        let mut withheld = 0;
        for bytes in request.records {
            if let Err(text) = self.wait_for_room().await {
                return ReplayReply::NoRoom(text);
            }
            match self.replay_one(worker, &bytes).await {
                Ok(Replayed::PutBack) => {
                    let replayed = &self.counters.profiles_replayed;
                    replayed.set(replayed.get() + 1);
                }
                Ok(Replayed::Published) => {}
                Ok(Replayed::Withheld) => withheld += 1,
                Err(text) => return ReplayReply::Damaged(text),
            }
            self.rt.yield_if_needed().await;
        }
        ReplayReply::Done { withheld }
    }

    /// Waits while there is no memory for a record: heads are cut, what pushes and reads hold comes back. As long as a cut of any
    /// shard is under way or waits for its next try (a full disk, mostly), there is hope.
    async fn wait_for_room(&self) -> Result<(), String> {
        // No job ends meanwhile that would tell.
        self.budget.set(Kind::Heads, self.heads.borrow().bytes_held() as u64);
        let budget = self.budget.for_recovery();
        let mut waits_since_ns = self.rt.now_ns();
        while let Err(failure) = budget.admit(0) {
            let now_ns = self.rt.now_ns();
            if self.budget.budget().is_cutting() {
                waits_since_ns = now_ns;
            } else if now_ns - waits_since_ns >= RECOVERY_PATIENCE.as_nanos() as u64 {
                return Err(failure.message);
            }
            self.cutter.make_room();
            self.rt.sleep(RECOVERY_LOOK_INTERVAL).await;
        }
        Ok(())
    }

    async fn replay_one(&self, worker: &mut Worker, bytes: &Bytes) -> Result<Replayed, String> {
        let record = Record::decode(bytes).map_err(|error| error.to_string())?;
        let Record { partition, origin, seq, admission, profile, receive_time_ms } = record;
        if self.blocks.is_published(&partition, Identity { origin, seq }) {
            return Ok(Replayed::Published);
        }
        if self.blocks.has_damaged(&partition.tenant) {
            return Ok(Replayed::Withheld);
        }
        let identity = || {
            let (tenant, service) = (&partition.tenant, &partition.service_name);
            format!("record {seq} of origin {origin:032x} (tenant {tenant}, service {service})")
        };
        worker.intake.begin_replay(profile, admission);
        let admission = loop {
            match worker.intake.step() {
                Ok(IntakeStep::More) => self.rt.yield_if_needed().await,
                Ok(IntakeStep::Admitted(admission)) => break admission,
                Ok(IntakeStep::Dropped { reason }) => {
                    return Err(format!("{}: nothing to store ({reason})", identity()));
                }
                Err(failure) => return Err(format!("{}: {}", identity(), failure.message)),
            }
        };
        self.begin(worker, &partition, Identity { origin, seq }, &admission);
        self.apply(worker, &admission).await;
        self.places.note(&partition.tenant);
        self.log.put_back(&partition.tenant, receive_time_ms);
        Ok(Replayed::PutBack)
    }
}

/// What became of a record of an earlier run.
enum Replayed {
    /// It is in a head.
    PutBack,
    /// A block has it.
    Published,
    /// Whether a block has it cannot be told.
    Withheld,
}

/// Scratch of the worker, reused for every profile.
#[derive(Debug)]
struct Worker {
    intake: Intake,
    append: Append,
    /// Spent on the profile at hand, without what others did between its steps.
    busy_ns: u64,
}
