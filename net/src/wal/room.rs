//! Room for records: the places of groups, given out before a byte of them is on the disk, and why there may be none.
//!
//! A record joins the last group, begins one behind it, or waits until the next segment is ready. Where that cannot be made, the append
//! is refused in words: at once by a full disk, after a while by a log that is as long as it may be, since a cut mostly comes first.
//!
//! Not here: making segments ready ([`super::prepare`]), letting them go ([`super::release`]).

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

use engine::wal::{BLOCK_BYTES, GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use engine::wal::{GroupBuffer, RECORD_LENGTH_BYTES, RecordRef};
use proto::rpc::{Code, Failure};

use super::pending::Outcome;
use super::{OpenGroup, Shared, State, unavailable};
use crate::runtime::Runtime;

/// How long appends wait for a cut when the log is as long as it may be. Nothing is ingested meanwhile, so that the cut has the
/// core: it mostly needs a second or two.
const CUT_WAIT_NS: u64 = 3_000_000_000;

/// A group is closed at this size even if the disk is busy: four of them keep any disk at its throughput, and a torn one
/// costs little (limits.md, "Disk": 64 writers of 50 kB reach 2–3 GB/s in groups of about 3 MB).
const GROUP_BYTES_MAX: usize = 4 << 20;

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of its segment.
    pub(super) segment: u64,
    /// First byte in it.
    pub(super) offset: u64,
}

/// Room for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// In the group that was begun last.
    InLastGroup,
    /// In a group of its own.
    NewGroup(Place),
}

impl Place {
    /// The end of a group that begins here and has so many bytes of records.
    pub(super) fn behind(self, payload_bytes: usize) -> Self {
        Self { offset: self.offset + GroupBuffer::bytes_on_disk(payload_bytes) as u64, ..self }
    }

    /// Where the first group of the next segment begins.
    pub(super) fn in_next_segment(self) -> Self {
        Self { segment: self.segment + 1, offset: SEGMENT_HEADER_BYTES as u64 }
    }
}

/// Why there is no next segment.
#[derive(Debug)]
pub(super) enum NoRoom {
    /// The disk has no room, in these words.
    Disk(String),
    /// The log is as long as it may be.
    Cap { since_ns: u64 },
}

/// Appends that wait for room; one for each task that appends, so they are few.
#[derive(Debug, Default)]
pub(super) struct Waiting(RefCell<Vec<Waker>>);

impl Waiting {
    pub(super) fn register(&self, waker: &Waker) {
        let mut waiting = self.0.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Everyone looks again.
    pub(super) fn wake(&self) {
        // Taken before they are woken: waking may run code that comes back here.
        let waiting = self.0.take();
        for waker in waiting {
            waker.wake();
        }
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
    pub(super) fn find_room(&self, payload_len: usize) -> Result<Option<Room>, Failure> {
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
        match &*self.no_room.borrow() {
            // Woken when there is room, and every second.
            Some(NoRoom::Cap { since_ns }) if self.rt.now_ns() - since_ns < CUT_WAIT_NS => {}
            Some(no_room) => return Err(self.refuse(no_room)),
            None => {}
        }
        self.want_segment(next.segment);
        Ok(None)
    }

    pub(super) fn add(&self, room: Room, record: &RecordRef<'_>, body_len: usize) -> Rc<Outcome> {
        let mut groups = self.groups.borrow_mut();
        if let Room::NewGroup(place) = room {
            let mut memory = self.spare.take();
            memory.clear();
            let expected = self.metrics.group_bytes.get() as usize;
            memory.reserve(expected.max(RECORD_LENGTH_BYTES + body_len + BLOCK_BYTES));
            let buffer = GroupBuffer::in_memory_of(memory);
            let begun_ns = self.rt.now_ns();
            groups.push_back(OpenGroup { place, begun_ns, buffer, outcome: Rc::default() });
        }
        let group = groups.back_mut().expect("there is one to join, or it was just begun");
        group.buffer.push(record, body_len);
        self.next_place.set(group.place.behind(group.buffer.payload_bytes()));
        Rc::clone(&group.outcome)
    }

    pub(super) fn want_segment(&self, number: u64) {
        if self.wanted_segment.get() < number {
            self.wanted_segment.set(number);
            self.prepare.notify();
        }
    }

    fn refuse(&self, no_room: &NoRoom) -> Failure {
        let shard = self.shard;
        match no_room {
            NoRoom::Disk(reason) => {
                self.metrics.starved.set(true);
                let text = format!("the log of shard {shard} has no room: {reason}; retry later");
                unavailable("wal_no_space", text)
            }
            NoRoom::Cap { .. } => {
                self.metrics.full.set(true);
                let text = format!(
                    "the log of shard {shard} has {} segments, as many as it may have (-wal.max-bytes={}), and what is in the \
                     oldest is not in a block yet; retry later",
                    self.kept_segments(),
                    self.settings.bytes_max
                );
                unavailable("wal_full", text)
            }
        }
    }
}
