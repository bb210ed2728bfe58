//! The log's driver: group commit, segments made ready ahead, recovery of what earlier runs left.
//!
//! ```text
//! append ─► open group ─┐ (encoded in place, while the group before is being synced)
//! append ─►             ├─► commit: write, fdatasync ─► everyone who waits for the group
//! append ─► next group ─┘        ▲
//!                                └── next segment: allocated, zeroed in pieces, synced before it is needed
//! ```
//!
//! Invariants
//! - One write and sync outstanding. What is acknowledged (`-wal.ack=fsync`) has been synced.
//! - A failed write or sync seals the log: nothing after it is believed, everyone who waits and every later append fails
//!   until the process is started again. An fsync is never retried.
//! - A full disk is met while a segment is made ready, before anything is promised: appends are refused and go on by
//!   themselves when there is room.
//! - A group overwrites zeroed, synced bytes, so its fdatasync waits for no metadata.
//!
//! Not here: the bytes (`engine::wal`), what a record does to a head (`component::ingester`).

mod commit;
mod directory;
mod metrics;
mod pending;
mod prepare;
pub mod recovery;
mod signal;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use engine::wal::{BLOCK_BYTES, SEGMENT_HEADER_BYTES};
use engine::wal::{GROUP_HEADER_BYTES, GroupBuffer, RECORD_LENGTH_BYTES, RecordRef};
use proto::rpc::{Code, Failure};

use self::commit::Segment;
use self::pending::Outcome;
use self::signal::Signal;
use crate::runtime::{Class, DISK_ALIGN, Runtime};

pub use self::directory::ROOT;
pub use self::metrics::Metrics;
pub use self::pending::Pending;

/// Smallest segment: a few groups of small records. Also what tests use to meet every boundary.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Largest segment: a group's length is a `u32`.
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;

/// A group is closed at this size even if the disk is busy: four of them keep any disk at its throughput, and a torn one
/// costs little (limits.md, "Disk": 64 writers of 50 kB reach 2–3 GB/s in groups of about 3 MB).
const GROUP_BYTES_MAX: usize = 4 << 20;

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
    /// The number in every group's header; never told to anyone.
    log_id: u64,
    state: RefCell<State>,
    groups: RefCell<VecDeque<OpenGroup>>,
    metrics: Rc<Metrics>,
    /// The segment made ready for when the current one is full.
    prepared: RefCell<Option<Segment<R>>>,
    /// Number of the last segment that should be made ready by now.
    wanted_segment: Cell<u64>,
    /// Why the next segment cannot be made: no room.
    no_space: RefCell<Option<String>>,
    preparing: Cell<bool>,
    /// The committer can't go on without the next segment.
    committer_waits: Cell<bool>,
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
    buffer: GroupBuffer,
    outcome: Rc<Outcome>,
}

impl<R: Runtime> Log<R> {
    /// Makes the log of `shard` in `run`, a ULID that no earlier run had. Its first segment is made ready in the background:
    /// a disk that is full already refuses appends, not the start.
    pub async fn create(rt: R, run: u128, shard: u16, mut settings: Settings) -> io::Result<Self> {
        settings.check().map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        settings.segment_bytes -= settings.segment_bytes % DISK_ALIGN as u64;
        let path = directory::log_path(run, shard);
        rt.create_dir_all(&path).await?;
        let log = Self(Rc::new(Shared {
            log_id: rt.next_u64(),
            settings,
            run,
            shard,
            path,
            state: RefCell::new(State::Open),
            groups: RefCell::default(),
            metrics: Rc::default(),
            prepared: RefCell::new(None),
            wanted_segment: Cell::new(1),
            no_space: RefCell::new(None),
            preparing: Cell::new(false),
            committer_waits: Cell::new(false),
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

    /// Adds a record to the group that is written next. `Err`: it was not taken and will not be there after a restart.
    pub fn append(&self, record: &RecordRef<'_>) -> Result<Pending, Failure> {
        let shared = &*self.0;
        shared.check_open()?;
        let body_len = record.encoded_len();
        let payload_len = RECORD_LENGTH_BYTES + body_len;
        shared.check_room(payload_len)?;
        let outcome = shared.add(record, body_len, payload_len);
        let metrics = &shared.metrics;
        metrics.pending_bytes.set(metrics.pending_bytes.get() + payload_len);
        shared.commit.notify();
        Ok(match shared.settings.ack {
            Ack::Fsync => Pending::on(&outcome),
            Ack::Memory => Pending::acknowledged(),
        })
    }

    /// Writes and syncs what was appended, cuts off the unused rest, and refuses appends from now on. `Err` if the log is
    /// sealed. Called once.
    pub async fn close(&self) -> Result<(), Failure> {
        let shared = &*self.0;
        let sealed = matches!(*shared.state.borrow(), State::Sealed(_));
        if !sealed {
            *shared.state.borrow_mut() = State::Closing;
        }
        shared.commit.notify();
        shared.prepare.notify();
        shared.ended.wait().await;
        match &*shared.state.borrow() {
            State::Sealed(reason) => Err(shared.sealed_failure(reason)),
            State::Open | State::Closing => Ok(()),
        }
    }

    /// Its counters.
    pub fn metrics(&self) -> &Rc<Metrics> {
        &self.0.metrics
    }

    /// Directory of the log below the data directory.
    pub fn path(&self) -> &str {
        &self.0.path
    }
}

impl<R: Runtime> Shared<R> {
    fn check_open(&self) -> Result<(), Failure> {
        match &*self.state.borrow() {
            State::Open => {}
            State::Closing => {
                return Err(unavailable("shutting_down", "the node is shutting down".to_owned()));
            }
            State::Sealed(reason) => return Err(self.sealed_failure(reason)),
        }
        if self.metrics.starved.get() {
            return Err(self.no_space_failure());
        }
        Ok(())
    }

    fn check_room(&self, payload_len: usize) -> Result<(), Failure> {
        let bytes_max = self.payload_bytes_max();
        if payload_len > bytes_max {
            return Err(Failure {
                code: Code::InvalidArgument,
                reason: "wal_record_too_large",
                message: format!(
                    "a profile's record of {payload_len} bytes is larger than a WAL segment holds ({bytes_max} bytes, \
                     -wal.segment-bytes)"
                ),
            });
        }
        let pending = self.metrics.pending_bytes.get();
        let pending_max = self.settings.pending_bytes_max;
        // A record larger than the limit goes alone.
        if pending > 0 && pending + payload_len > pending_max {
            return Err(Failure {
                code: Code::ResourceExhausted,
                reason: "wal_pending_full",
                message: format!(
                    "the log of shard {} has {pending} bytes waiting to be synced (at most {pending_max}); retry later",
                    self.shard
                ),
            });
        }
        Ok(())
    }

    /// Bytes of records one group can have at most.
    fn payload_bytes_max(&self) -> usize {
        self.settings.segment_bytes as usize - SEGMENT_HEADER_BYTES - GROUP_HEADER_BYTES
    }

    fn add(&self, record: &RecordRef<'_>, body_len: usize, payload_len: usize) -> Rc<Outcome> {
        let mut groups = self.groups.borrow_mut();
        let group_bytes_max = GROUP_BYTES_MAX.min(self.payload_bytes_max());
        let joins = groups
            .back()
            .is_some_and(|group| group.buffer.payload_bytes() + payload_len <= group_bytes_max);
        if !joins {
            let expected = self.metrics.group_bytes.get() as usize;
            let buffer = GroupBuffer::with_capacity(expected.max(payload_len + BLOCK_BYTES));
            groups.push_back(OpenGroup { buffer, outcome: Rc::default() });
        }
        let group = groups.back_mut().expect("there is one to join, or it was just begun");
        group.buffer.push(record, body_len);
        Rc::clone(&group.outcome)
    }

    /// Ends the log: nothing after the failure is believed, everyone who waits is told.
    fn seal(&self, reason: String) {
        tracing::error!(log = %self.path, %reason, "the log is sealed: writes are refused until a restart");
        let failure = self.sealed_failure(&reason);
        *self.state.borrow_mut() = State::Sealed(reason);
        self.metrics.sealed.set(true);
        let groups = self.groups.take();
        for group in groups {
            self.give_back(group.buffer.payload_bytes());
            group.outcome.tell(Err(failure.clone()));
        }
        self.commit.notify();
        self.prepare.notify();
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

    fn sealed_failure(&self, reason: &str) -> Failure {
        let text = format!(
            "the log of shard {} is sealed after a failure ({reason}); the node must be restarted",
            self.shard
        );
        unavailable("wal_sealed", text)
    }

    fn no_space_failure(&self) -> Failure {
        let reason = self.no_space.borrow();
        let reason = reason.as_deref().unwrap_or("no WAL segment is ready");
        let text = format!("the log of shard {} has no room: {reason}; retry later", self.shard);
        unavailable("wal_no_space", text)
    }
}

fn unavailable(reason: &'static str, message: String) -> Failure {
    Failure { code: Code::Unavailable, reason, message }
}

#[cfg(test)]
mod tests;
