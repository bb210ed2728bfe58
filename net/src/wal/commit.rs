//! The one task that writes: takes the oldest group, writes it in one piece, syncs, tells everyone who waits.

use std::io;
use std::rc::Rc;

use engine::wal::{GroupBuffer, GroupPlace, SEGMENT_HEADER_BYTES, SegmentHeader};

use super::pending::Outcome;
use super::room::Place;
use super::{AtStep, OpenGroup, Shared, State, release, remove};
use crate::runtime::{AlignedBytes, File, Runtime};

/// A file of the log that is written to, or ready to be.
pub(super) struct Segment<R: Runtime> {
    pub(super) number: u64,
    pub(super) path: String,
    pub(super) file: R::File,
    /// Where the next group goes; 0 until the header is written.
    pub(super) position: u64,
}

/// Part of a segment that is used before the next one is made ready: late enough that an idle log keeps one segment only,
/// early enough that three quarters of a segment are left to write meanwhile.
const PREPARE_AT_QUARTERS: u64 = 1;

/// What the committer alone knows.
struct Writer<R: Runtime> {
    shared: Rc<Shared<R>>,
    current: Option<Segment<R>>,
    next_lsn: u64,
}

/// A write or sync failed, in these words.
struct Failed(String);

/// Runs until the log is closed or sealed.
pub(super) async fn run<R: Runtime>(shared: Rc<Shared<R>>) {
    let mut writer = Writer { shared: Rc::clone(&shared), current: None, next_lsn: 1 };
    while !shared.is_sealed() {
        let group = shared.groups.borrow_mut().pop_front();
        match group {
            Some(group) => writer.commit_or_tell(group).await,
            None if *shared.state.borrow() == State::Closing => break,
            None => shared.commit.wait().await,
        }
    }
    if let Err(error) = writer.finish().await {
        // Everything acknowledged is synced; what is left over is trimmed at the next start.
        tracing::warn!(log = %shared.path, %error, "closing the log left its unused rest behind");
    }
    shared.committer_ended.set(true);
    shared.prepare.notify();
    shared.ended.notify();
}

impl<R: Runtime> Writer<R> {
    async fn commit_or_tell(&mut self, group: OpenGroup) {
        let OpenGroup { place, begun_ns: opened_ns, buffer, outcome } = group;
        self.shared.metrics.unsynced_since_ns.set(Some(opened_ns));
        let (payload_bytes, records) = (buffer.payload_bytes(), buffer.records_count());
        let begun_ns = self.shared.rt.now_ns();
        let committed = self.commit(place, buffer, &outcome).await;
        let shared = &self.shared;
        shared.give_back(payload_bytes);
        let next_ns = shared.groups.borrow().front().map(|group| group.begun_ns);
        shared.metrics.unsynced_since_ns.set(next_ns);
        match committed {
            Ok(bytes) => {
                shared.metrics.count_commit(records, bytes, begun_ns, shared.rt.now_ns());
                outcome.tell(Ok(()));
            }
            Err(Failed(reason)) => {
                outcome.tell(Err(shared.in_doubt_failure(&reason)));
                shared.seal(reason, records);
            }
        }
    }

    /// Writes and syncs one group; its bytes on disk.
    async fn commit(
        &mut self,
        place: Place,
        buffer: GroupBuffer,
        outcome: &Outcome,
    ) -> Result<usize, Failed> {
        let records = buffer.records_count();
        if self.current.as_ref().is_none_or(|segment| segment.number != place.segment) {
            self.go_to_next_segment().await?;
        }
        let shared = Rc::clone(&self.shared);
        let first_lsn = self.next_lsn;
        let segment = self.current.as_mut().expect("one was there or gone to");
        assert_eq!(
            (segment.number, segment.position),
            (place.segment, place.offset),
            "a group is written where room was found for it"
        );
        let place = GroupPlace { log_id: shared.log_id, segment: segment.number, first_lsn };
        let written = AlignedBytes::padded(buffer.finish(place));
        let bytes = written.as_slice().len();
        let begun_ns = shared.rt.now_ns();
        let written = shared.write_durably(segment, written, outcome).await;
        shared.keep(written.map_err(|error| segment.failed(&error))?.into_vec());
        shared.metrics.sync_times.record(shared.rt.now_ns() - begun_ns);
        segment.position += bytes as u64;
        self.next_lsn += u64::from(records);
        if segment.position * 4 >= shared.settings.segment_bytes * PREPARE_AT_QUARTERS {
            shared.want_segment(segment.number + 1);
        }
        Ok(bytes)
    }

    /// Begins the segment that was made ready: no group has a place in another.
    async fn go_to_next_segment(&mut self) -> Result<(), Failed> {
        let shared = &self.shared;
        let mut segment = shared
            .prepared
            .take()
            .expect("records are accepted only for segments that were made ready");
        shared.prepare.notify();
        self.begin_segment(&mut segment).await?;
        self.current = Some(segment);
        let shared = &self.shared;
        shared.metrics.segments.set(shared.metrics.segments.get() + 1);
        Ok(())
    }

    /// Writes and syncs the header before anything else of the segment: a group never stands behind a header that isn't there.
    async fn begin_segment(&self, segment: &mut Segment<R>) -> Result<(), Failed> {
        let shared = &self.shared;
        let header = SegmentHeader {
            run: shared.run,
            shard: shared.shard,
            log_id: shared.log_id,
            segment: segment.number,
            first_lsn: self.next_lsn,
        };
        let header = AlignedBytes::padded(header.encode());
        let written = segment.file.write_durably_at(header, 0).await;
        written.map_err(|error| segment.failed(&error))?;
        segment.position = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }

    /// Cuts off what was made ready and not used. A log without a record that only it holds leaves nothing to recover: it goes.
    async fn finish(self) -> io::Result<()> {
        let shared = &self.shared;
        while shared.preparing.get() && !shared.is_sealed() {
            shared.commit.wait().await;
        }
        if shared.is_sealed() {
            return Ok(());
        }
        let prepared = shared.prepared.take();
        if let Some(prepared) = prepared {
            prepared.file.close().await?;
            shared.rt.remove_file(&prepared.path).await?;
        }
        release::remove_spares(shared).await?;
        let Some(current) = self.current else { return shared.remove_directory().await };
        if shared.pins.borrow().oldest_segment().is_none() {
            current.file.close().await?;
            // Whatever a crash leaves, no file stands behind one that is gone.
            shared.rt.sync_dir(&shared.path).await?;
            let numbers = shared.oldest_segment.get()..=current.number;
            let step = AtStep::default(); // nobody asks
            remove::remove_segments(&shared.rt, &shared.path, numbers, &step).await?;
            return shared.remove_directory().await;
        }
        current.file.truncate(current.position).await?;
        current.file.datasync().await?;
        current.file.close().await?;
        shared.rt.sync_dir(&shared.path).await
    }
}

impl<R: Runtime> Segment<R> {
    fn failed(&self, error: &io::Error) -> Failed {
        Failed(format!("writing and syncing {} failed: {error}", self.path))
    }
}

impl<R: Runtime> Shared<R> {
    #[cfg(not(feature = "planted-bugs"))]
    async fn write_durably(
        &self,
        segment: &Segment<R>,
        bytes: AlignedBytes,
        _outcome: &Outcome,
    ) -> io::Result<AlignedBytes> {
        segment.file.write_durably_at(bytes, segment.position).await
    }

    #[cfg(feature = "planted-bugs")]
    async fn write_durably(
        &self,
        segment: &Segment<R>,
        bytes: AlignedBytes,
        outcome: &Outcome,
    ) -> io::Result<AlignedBytes> {
        use engine::planted::Bug;
        match self.bug.get() {
            Some(Bug::NoFdatasync) => {
                segment.file.write_at(bytes, segment.position).await?;
                Ok(AlignedBytes::default())
            }
            Some(Bug::AckBeforeSync) => {
                segment.file.write_at(bytes, segment.position).await?;
                outcome.tell(Ok(()));
                segment.file.datasync().await?;
                Ok(AlignedBytes::default())
            }
            _ => segment.file.write_durably_at(bytes, segment.position).await,
        }
    }
}
