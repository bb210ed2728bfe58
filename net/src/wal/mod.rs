//! The log's driver: group commit, segments made ready ahead, recovery of what earlier runs left.
//!
//! ```text
//! append ─► open group ─┐ (encoded in place, while the group before is being synced)
//! append ─►             ├─► commit: durable write ─► everyone who waits for the group
//! append ─► next group ─┘        ▲
//!    ▲                           └── next segment: allocated, zeroed in pieces, synced before it is needed
//!    └── a group has its place in a segment from its first record on; where none is ready, append waits or refuses
//! ```
//!
//! Invariants
//! - One write outstanding. What is acknowledged (`-wal.ack=fsync`) has been synced.
//! - A record that is accepted has its room in a segment that lies zeroed and synced on the disk. So a full disk is met while
//!   a segment is made ready and refuses appends, which leave no trace; they go on by themselves when there is room.
//! - A failed write or sync seals the log: nothing after it is believed and every later append is refused until the process is
//!   started again. An fsync is never retried. What was accepted and not synced is in doubt: it is readable until then, and
//!   after the next start it is there once or not at all. A client that sends it again may count it twice.
//! - A group overwrites zeroed, synced bytes, so its durable write waits for no metadata.
//! - A file is closed before its name is removed. Whoever closes a file without a name frees its blocks and may wait for the
//!   filesystem's journal; a ring does that on the shard's thread, everything else that can wait it does elsewhere.
//!
//! Not here: the bytes (`engine::wal`), what a record does to a head (`component::ingester`).

mod commit;
mod directory;
mod metrics;
mod pending;
mod prepare;
pub mod recovery;
mod room;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use engine::wal::{BLOCK_BYTES, SEGMENT_HEADER_BYTES};
use engine::wal::{GROUP_HEADER_BYTES, GroupBuffer, RECORD_LENGTH_BYTES, RecordRef};
use proto::rpc::{Code, Failure};

use self::commit::Segment;
use self::pending::Outcome;
use self::room::{Place, Room, Waiting};
use crate::runtime::{Class, DISK_ALIGN, Runtime};
use crate::signal::Signal;

pub use self::directory::{ROOT, run_of, segment_name, segment_of, shard_of};
pub use self::metrics::Metrics;
pub use self::pending::Pending;

/// Smallest segment: a few groups of small records. Also what tests use to meet every boundary.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Largest segment: a group's length is a `u32`.
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;

/// A group is closed at this size even if the disk is busy: four of them keep any disk at its throughput, and a torn one
/// costs little (limits.md, "Disk": 64 writers of 50 kB reach 2–3 GB/s in groups of about 3 MB).
const GROUP_BYTES_MAX: usize = 4 << 20;

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
    /// `-wal.ack`.
    pub ack: Ack,
    /// Bytes of records accepted and not synced; above it appends are refused (429). At 2 GB/s 64 MiB are 30 ms of disk.
    pub pending_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, ack: Ack::Fsync, pending_bytes_max: 64 << 20 }
    }
}

impl Settings {
    /// Says what is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        let bytes = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) {
            return Err(format!(
                "a WAL segment has {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes, not {bytes}"
            ));
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
    /// Why the next segment cannot be made: no room.
    no_space: RefCell<Option<String>>,
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
        settings.check().map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
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
            metrics: Rc::default(),
            prepared: RefCell::new(None),
            wanted_segment: Cell::new(1),
            ready_segment: Cell::new(0),
            next_place: Cell::new(Place { segment: 0, offset: settings.segment_bytes }),
            waiting: Waiting::default(),
            no_space: RefCell::new(None),
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
        rt.spawn(Class::Ingest, commit::run(Rc::clone(&log.0)));
        Ok(log)
    }

    /// Plants a bug.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&self, bug: Option<engine::planted::Bug>) {
        self.0.bug.set(bug);
    }

    /// Adds a record to the group that is written next; waits while the next segment is being made ready. `Err`: it was not
    /// taken and will not be there after a restart.
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
        let metrics = &shared.metrics;
        metrics.pending_bytes.set(metrics.pending_bytes.get() + payload_len);
        metrics.note_record_of(record.receive_time_ms);
        shared.commit.notify();
        Ok(match shared.settings.ack {
            Ack::Fsync => Pending::on(&outcome),
            Ack::Memory => Pending::acknowledged(),
        })
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
}

impl<R: Runtime> Shared<R> {
    fn check_open(&self) -> Result<(), Failure> {
        match &*self.state.borrow() {
            State::Open => Ok(()),
            State::Closing => {
                Err(unavailable("shutting_down", "the node is shutting down".to_owned()))
            }
            State::Sealed(reason) => Err(unavailable("wal_sealed", self.sealed_text(reason))),
        }
    }

    fn check_size(&self, payload_len: usize) -> Result<(), Failure> {
        let bytes_max = self.payload_bytes_max();
        if payload_len > bytes_max {
            return Err(Failure::new(
                Code::InvalidArgument,
                "wal_record_too_large",
                format!(
                    "a profile's record of {payload_len} bytes is larger than a WAL segment holds ({bytes_max} bytes, \
                     -wal.segment-bytes)"
                ),
            ));
        }
        let pending = self.metrics.pending_bytes.get();
        let pending_max = self.settings.pending_bytes_max;
        // A record larger than the limit goes alone.
        if pending > 0 && pending + payload_len > pending_max {
            return Err(Failure::new(
                Code::ResourceExhausted,
                "wal_pending_full",
                format!(
                    "the log of shard {} has {pending} bytes waiting to be synced (at most {pending_max}); retry later",
                    self.shard
                ),
            ));
        }
        Ok(())
    }

    /// Bytes of records one group can have at most.
    fn payload_bytes_max(&self) -> usize {
        self.settings.segment_bytes as usize - SEGMENT_HEADER_BYTES - GROUP_HEADER_BYTES
    }

    /// `None`: the segment it would go to is being made ready.
    fn find_room(&self, payload_len: usize) -> Result<Option<Room>, Failure> {
        self.check_open()?;
        self.check_size(payload_len)?;
        let segment_bytes = self.settings.segment_bytes;
        if let Some(group) = self.groups.borrow().back() {
            let payload_bytes = group.buffer.payload_bytes() + payload_len;
            let end = group.place.behind(payload_bytes);
            if payload_bytes <= GROUP_BYTES_MAX && end.offset <= segment_bytes {
                return Ok(Some(Room::InLastGroup));
            }
        }
        let next = self.next_place.get();
        if next.behind(payload_len).offset <= segment_bytes {
            return Ok(Some(Room::NewGroup(next)));
        }
        let next = next.in_next_segment();
        if next.segment <= self.ready_segment.get() {
            return Ok(Some(Room::NewGroup(next)));
        }
        if self.no_space.borrow().is_some() {
            self.metrics.starved.set(true);
            return Err(self.no_space_failure());
        }
        self.want_segment(next.segment);
        Ok(None)
    }

    fn add(&self, room: Room, record: &RecordRef<'_>, body_len: usize) -> Rc<Outcome> {
        let mut groups = self.groups.borrow_mut();
        if let Room::NewGroup(place) = room {
            let expected = self.metrics.group_bytes.get() as usize;
            let buffer = GroupBuffer::with_capacity(
                expected.max(RECORD_LENGTH_BYTES + body_len + BLOCK_BYTES),
            );
            let begun_ns = self.rt.now_ns();
            groups.push_back(OpenGroup { place, begun_ns, buffer, outcome: Rc::default() });
        }
        let group = groups.back_mut().expect("there is one to join, or it was just begun");
        group.buffer.push(record, body_len);
        self.next_place.set(group.place.behind(group.buffer.payload_bytes()));
        Rc::clone(&group.outcome)
    }

    fn want_segment(&self, number: u64) {
        if self.wanted_segment.get() < number {
            self.wanted_segment.set(number);
            self.prepare.notify();
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

    fn no_space_failure(&self) -> Failure {
        let reason = self.no_space.borrow();
        let reason = reason.as_deref().unwrap_or("no WAL segment is ready");
        let text = format!("the log of shard {} has no room: {reason}; retry later", self.shard);
        unavailable("wal_no_space", text)
    }
}

fn unavailable(reason: &'static str, message: String) -> Failure {
    Failure::new(Code::Unavailable, reason, message)
}

#[cfg(test)]
mod tests;
