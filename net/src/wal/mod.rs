//! The log's driver: group commit, segments made ready ahead, recovery of what earlier runs left.
//!
//! ```text
//! append ─► open group ─┐ (encoded in place, while the group before is being synced)
//! append ─►             ├─► commit: durable write ─► everyone who waits for the group
//! append ─► next group ─┘        ▲
//!    ▲                           └── next segment: allocated, zeroed in pieces, synced before it is needed
//!    └── a group has its place in a segment from its first record on; where none is ready, append waits or refuses
//!
//! heads are cut ─► segments whose records are all in blocks are released, and become the next ones
//! ```
//!
//! Invariants
//! - One write outstanding. What is acknowledged (`-wal.ack=fsync`) has been synced.
//! - A record that is accepted has its room in a segment that lies zeroed and synced on the disk. So a full disk is met while
//!   a segment is made ready and refuses appends, which leave no trace; they go on by themselves when there is room.
//! - A failed write or sync seals the log: nothing after it is believed and every later append is refused until the process is
//!   started again. An fsync is never retried. What was accepted and not synced is in doubt: it is readable until then, and
//!   after the next start it is there once or not at all. A client that sends it again may count it twice.
//! - A group overwrites zeroed or recycled, synced bytes, so its durable write waits for no metadata.
//! - A log has `-wal.max-bytes` of files at most. Near that the cutter is woken and cuts whoever needs the oldest segment; at it
//!   appends are refused as on a full disk, and go on by themselves when something was released.
//! - A segment is released when no head, live or frozen, and no record on its way to one needs it (`pins`).
//! - A file is closed before its name is removed. Whoever closes a file without a name frees its blocks and may wait for the
//!   filesystem's journal; a ring does that on the shard's thread, everything else that can wait it does elsewhere.
//!
//! Not here: the bytes (`engine::wal`), what a record does to a head (`component::ingester`).

mod commit;
mod directory;
mod metrics;
mod pending;
mod pins;
mod prepare;
pub mod recovery;
mod release;
mod remove;
mod room;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use engine::head::FrozenId;
use engine::tenant::TenantId;
use engine::wal::{BLOCK_BYTES, GroupBuffer, RECORD_LENGTH_BYTES, RecordRef};
use proto::rpc::{Code, Failure, MetricSample};

use self::commit::Segment;
use self::metrics::Size;
use self::pending::Outcome;
use self::pins::Pins;
use self::room::{NoRoom, Place, Waiting};
use crate::runtime::{Class, DISK_ALIGN, Runtime};
use crate::signal::Signal;

pub use self::directory::{ROOT, is_spare, run_of, segment_name, segment_of, shard_of};
pub use self::metrics::Metrics;
pub use self::pending::Pending;
pub use self::remove::{AtStep, RemovalStep};

/// Smallest segment: a few groups of small records. Also what tests use to meet every boundary.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Largest segment: a group's length is a `u32`.
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;

/// Segments that a log must be allowed: the current one, the next, and two that wait for a cut.
const SEGMENTS_MIN: u64 = 4;

/// Memory of a written group that is kept for the next one, at most: memory that comes fresh from the kernel for each group costs a
/// push more than the group's checksum.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// [`Failure::reason`] of a record that was accepted and not synced when the log failed: after the next start it is there once
/// or not at all.
pub const IN_DOUBT: &str = "wal_in_doubt";

/// When a record is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ack {
    /// After its group is written and synced.
    #[default]
    Fsync,
    /// At once; it is written and synced all the same, and lost if the node crashes before that.
    Memory,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `-wal.segment-bytes`: length of a segment, [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`], rounded down to whole blocks.
    pub segment_bytes: u64,
    /// `-wal.max-bytes`: length of all files of a log at most.
    pub bytes_max: u64,
    /// `-wal.ack`.
    pub ack: Ack,
    /// Bytes of records accepted and not synced; above it appends are refused (429). At 2 GB/s 64 MiB are 30 ms of disk.
    pub pending_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            bytes_max: 1 << 30,
            ack: Ack::Fsync,
            pending_bytes_max: 64 << 20,
        }
    }
}

impl Settings {
    /// Says which of them is wrong, as the flag's name and the reason.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let bytes = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) {
            let reason =
                format!("a WAL segment has {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes");
            return Err(("wal.segment-bytes", reason));
        }
        if self.bytes_max / SEGMENTS_MIN < bytes {
            let reason = format!("a log has {SEGMENTS_MIN} segments of {bytes} bytes at least");
            return Err(("wal.max-bytes", reason));
        }
        Ok(())
    }
}

const _: () = assert!(BLOCK_BYTES == DISK_ALIGN, "a group is one aligned write");

/// The log of one shard during this run. Clones are handles of the same log.
pub struct Log<R: Runtime>(Rc<Shared<R>>);

impl<R: Runtime> Clone for Log<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: Runtime> std::fmt::Debug for Log<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({}, {:?})", self.0.path, *self.0.state.borrow())
    }
}

/// What the handles, the committer and the preparer of a log share.
struct Shared<R: Runtime> {
    rt: R,
    settings: Settings,
    run: u128,
    shard: u16,
    /// Directory of the log.
    path: String,
    /// Whether it is there.
    has_directory: Cell<bool>,
    /// The number in every group's header; never told to anyone.
    log_id: u64,
    state: RefCell<State>,
    groups: RefCell<VecDeque<OpenGroup>>,
    /// Memory of a group that is written, for the next one.
    spare: Cell<Vec<u8>>,
    metrics: Rc<Metrics>,
    /// The segment made ready for when the current one is full.
    prepared: RefCell<Option<Segment<R>>>,
    /// Number of the last segment that should be made ready by now.
    wanted_segment: Cell<u64>,
    /// Number of the last segment that was.
    ready_segment: Cell<u64>,
    /// Where the next group goes: behind all groups accepted so far.
    next_place: Cell<Place>,
    /// Appends that wait for the next segment.
    waiting: Waiting,
    /// Why the next segment cannot be made.
    no_room: RefCell<Option<NoRoom>>,
    /// Number of the oldest segment that is not released.
    oldest_segment: Cell<u64>,
    /// Numbers of released segments whose files are kept for the next ones.
    spares: RefCell<VecDeque<u64>>,
    /// Who needs which segment.
    pins: RefCell<Pins>,
    /// The cutter, which is woken when the log is nearly full.
    cutter: RefCell<Option<Rc<Signal>>>,
    preparing: Cell<bool>,
    committer_ended: Cell<bool>,
    /// The committer has something to do.
    commit: Signal,
    /// The preparer has something to do.
    prepare: Signal,
    /// The committer has ended.
    ended: Signal,
    #[cfg(feature = "planted-bugs")]
    bug: Cell<Option<engine::planted::Bug>>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    /// No more appends; what waits is still written.
    Closing,
    /// A write or sync failed, in these words.
    Sealed(String),
}

/// A group while records join it.
struct OpenGroup {
    /// Where it will be written.
    place: Place,
    /// When its first record came, on the monotonic clock.
    begun_ns: u64,
    buffer: GroupBuffer,
    outcome: Rc<Outcome>,
}

impl<R: Runtime> Log<R> {
    /// Makes the log of `shard` in `run`, a ULID that no earlier run had. Its first segment is made ready in the background, and
    /// its directory too where there is no room for one yet: a disk that is full already refuses appends, not the start.
    pub async fn create(rt: R, run: u128, shard: u16, mut settings: Settings) -> io::Result<Self> {
        settings.check().map_err(|(flag, reason)| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("-{flag}: {reason}"))
        })?;
        settings.segment_bytes -= settings.segment_bytes % DISK_ALIGN as u64;
        let path = directory::log_path(run, shard);
        let has_directory = match rt.create_dir_all(&path).await {
            Ok(()) => true,
            Err(error) if prepare::is_full(&error) => false,
            Err(error) => return Err(error),
        };
        let log = Self(Rc::new(Shared {
            log_id: rt.next_u64(),
            settings,
            run,
            shard,
            path,
            has_directory: Cell::new(has_directory),
            state: RefCell::new(State::Open),
            groups: RefCell::default(),
            spare: Cell::default(),
            metrics: Rc::default(),
            prepared: RefCell::new(None),
            wanted_segment: Cell::new(1),
            ready_segment: Cell::new(0),
            next_place: Cell::new(Place { segment: 0, offset: settings.segment_bytes }),
            waiting: Waiting::default(),
            no_room: RefCell::new(None),
            oldest_segment: Cell::new(1),
            spares: RefCell::default(),
            pins: RefCell::default(),
            cutter: RefCell::default(),
            preparing: Cell::new(false),
            committer_ended: Cell::new(false),
            commit: Signal::default(),
            prepare: Signal::default(),
            ended: Signal::default(),
            #[cfg(feature = "planted-bugs")]
            bug: Cell::new(None),
            rt: rt.clone(),
        }));
        rt.spawn(Class::Background, prepare::run(Rc::clone(&log.0)));
        // Before the profiles that wait: what is in the log's group waits for nothing else.
        rt.spawn(Class::Rpc, commit::run(Rc::clone(&log.0)));
        Ok(log)
    }

    /// Plants a bug.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&self, bug: Option<engine::planted::Bug>) {
        self.0.bug.set(bug);
        self.0.pins.borrow_mut().plant(bug);
    }

    /// Adds a record to the group that is written next; waits while the next segment is being made ready, and a while for a cut
    /// where there may be none. `Err`: it was not taken and will not be there after a restart.
    pub async fn append(&self, record: &RecordRef<'_>) -> Result<Pending, Failure> {
        let shared = &*self.0;
        let body_len = record.encoded_len();
        let payload_len = RECORD_LENGTH_BYTES + body_len;
        let room = poll_fn(|context| match shared.find_room(payload_len) {
            Ok(Some(room)) => Poll::Ready(Ok(room)),
            Err(failure) => Poll::Ready(Err(failure)),
            Ok(None) => {
                shared.waiting.register(context.waker());
                Poll::Pending
            }
        });
        // Nothing is awaited between finding the room and taking it.
        let outcome = shared.add(room.await?, record, body_len);
        let segment = shared.next_place.get().segment;
        shared.pins.borrow_mut().hold(segment);
        let metrics = &shared.metrics;
        metrics.pending_bytes.set(metrics.pending_bytes.get() + payload_len);
        shared.commit.notify();
        Ok(match shared.settings.ack {
            Ack::Fsync => Pending::on(segment, &outcome),
            Ack::Memory => Pending::acknowledged(segment),
        })
    }

    /// The rows of a record that [`Self::append`] put into `segment` are in a live head of the tenant.
    pub fn applied(&self, segment: u64, tenant: &TenantId, receive_time_ms: i64) {
        self.0.pins.borrow_mut().apply(segment, tenant, receive_time_ms);
    }

    /// The rows of a record of an earlier run are in a live head of the tenant.
    pub fn put_back(&self, tenant: &TenantId, receive_time_ms: i64) {
        self.0.pins.borrow_mut().put_back(tenant, receive_time_ms);
    }

    /// All heads of a tenant were frozen; in the same step.
    pub fn frozen(&self, tenant: &TenantId, id: FrozenId) {
        self.0.pins.borrow_mut().freeze(tenant, id);
    }

    /// Frozen heads are in a block that is there after any crash: what only they needed is released.
    pub fn published(&self, id: FrozenId) {
        self.0.pins.borrow_mut().publish(id);
        self.0.prepare.notify();
    }

    /// Whose heads are to be cut because the log is nearly full: the tenant that needs its oldest segment.
    pub fn tenant_to_cut(&self) -> Option<TenantId> {
        let shared = &*self.0;
        let current = shared.metrics.segments.get();
        let is_near_cap = shared.is_near_cap();
        is_near_cap.then(|| shared.pins.borrow().tenant_before(current).cloned()).flatten()
    }

    /// Whether heads have records of earlier runs that no block has.
    pub fn has_put_back(&self) -> bool {
        self.0.pins.borrow().has_put_back()
    }

    /// A tenant whose live heads have such records.
    pub fn tenant_put_back(&self) -> Option<TenantId> {
        self.0.pins.borrow().tenant_put_back().cloned()
    }

    /// Whom to wake when the log is nearly full.
    pub(crate) fn wake_when_nearly_full(&self, cutter: Rc<Signal>) {
        *self.0.cutter.borrow_mut() = Some(cutter);
    }

    /// Writes and syncs what was appended, cuts off the unused rest, and refuses appends from now on. `Err` if the log is
    /// sealed: what was acknowledged from memory may be lost. Called once.
    pub async fn close(&self) -> Result<(), Failure> {
        let shared = &*self.0;
        let sealed = matches!(*shared.state.borrow(), State::Sealed(_));
        if !sealed {
            *shared.state.borrow_mut() = State::Closing;
        }
        shared.commit.notify();
        shared.prepare.notify();
        shared.waiting.wake();
        shared.ended.wait().await;
        match &*shared.state.borrow() {
            State::Sealed(reason) => Err(shared.in_doubt_failure(reason)),
            State::Open | State::Closing => Ok(()),
        }
    }

    /// Its counters.
    pub fn metrics(&self) -> &Rc<Metrics> {
        &self.0.metrics
    }

    /// The samples of `/metrics`.
    pub fn samples(&self) -> Vec<MetricSample> {
        let shared = &*self.0;
        let segment_bytes = shared.settings.segment_bytes;
        let held = shared.metrics.segments.get() + 1 - shared.oldest_segment.get();
        let spares = shared.spares.borrow().len() as u64;
        let size = Size {
            held_bytes: held * segment_bytes,
            disk_bytes: (shared.kept_segments() + spares) * segment_bytes,
            bytes_max: shared.segments_max() * segment_bytes,
        };
        let oldest_ms = shared.pins.borrow().oldest_receive_ms();
        let (unix_ms, now_ns) = (shared.rt.unix_ms(), shared.rt.now_ns());
        let age_ms = oldest_ms.map_or(0, |oldest_ms| unix_ms.saturating_sub(oldest_ms)).max(0);
        shared.metrics.samples(shared.shard, size, age_ms, now_ns)
    }
}

impl<R: Runtime> Shared<R> {
    /// Removes the directory of the log, where it has one.
    async fn remove_directory(&self) -> io::Result<()> {
        if self.has_directory.get() {
            let step = AtStep::default(); // nobody asks
            return remove::remove_directory(&self.rt, self.run, self.shard, &step).await;
        }
        remove::remove_empty_run(&self.rt, self.run).await
    }

    /// Takes a written group's memory back.
    fn keep(&self, memory: Vec<u8>) {
        if memory.capacity() <= SPARE_BYTES_MAX {
            self.spare.set(memory);
        }
    }

    /// Ends the log: nothing after the failure is believed, everyone who waits is told. `records` were lost with the write or
    /// sync that failed.
    fn seal(&self, reason: String, records: u32) {
        let groups = self.groups.take();
        let waiting: u32 = groups.iter().map(|group| group.buffer.records_count()).sum();
        let unsynced_records = records + waiting;
        if self.settings.ack == Ack::Memory && unsynced_records > 0 {
            tracing::error!(log = %self.path, unsynced_records, "acknowledged records are not in the log (-wal.ack=memory)");
        }
        tracing::error!(log = %self.path, %reason, unsynced_records, "the log is sealed: writes are refused until a restart");
        let failure = self.in_doubt_failure(&reason);
        *self.state.borrow_mut() = State::Sealed(reason);
        self.metrics.sealed.set(true);
        for group in groups {
            self.give_back(group.buffer.payload_bytes());
            group.outcome.tell(Err(failure.clone()));
        }
        self.commit.notify();
        self.prepare.notify();
        self.waiting.wake();
    }

    /// Takes the bytes of a group that is settled off what is pending.
    fn give_back(&self, payload_bytes: usize) {
        let pending = &self.metrics.pending_bytes;
        let left = pending.get().checked_sub(payload_bytes);
        pending.set(left.expect("a group's bytes were counted when its records were appended"));
    }

    fn is_sealed(&self) -> bool {
        matches!(*self.state.borrow(), State::Sealed(_))
    }

    fn is_open(&self) -> bool {
        *self.state.borrow() == State::Open
    }

    /// Of a record that was accepted before the log was sealed: it may be in it or not.
    fn in_doubt_failure(&self, reason: &str) -> Failure {
        unavailable(IN_DOUBT, self.sealed_text(reason))
    }

    fn sealed_text(&self, reason: &str) -> String {
        format!(
            "the log of shard {} is sealed after a failure ({reason}); the node must be restarted",
            self.shard
        )
    }
}

fn unavailable(reason: &'static str, message: String) -> Failure {
    Failure::new(Code::Unavailable, reason, message)
}

#[cfg(test)]
mod tests;
