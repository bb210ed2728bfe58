//! Where records will be written: the places of groups, given out before a byte of them is on the disk.

use std::cell::RefCell;
use std::task::Waker;

use engine::wal::{GroupBuffer, SEGMENT_HEADER_BYTES};

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
