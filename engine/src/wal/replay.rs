//! Reads a log back: a push decoder that asks for ranges of its segments and yields records in log order.
//!
//! How a log may end, and what is damage:
//!
//! ```text
//!   sound groups … │ group cut by a crash │ zeros            end: a torn tail. Nothing behind it was ever acknowledged.
//!   sound groups … │ zeros                                   end.
//!   sound groups … │ anything unsound │ … a sound group      damage: the writer has one write outstanding, so what lies
//!                                                            before a sound group had been synced. Refused.
//!   sound groups, LSN 1–16 │ sound group, LSN 25             a gap. Refused.
//! ```
//! "Zeros" may be what a recycled file held before: a group of another segment is no group of this one. A log begins with the
//! first file there is, for segments whose records lie in blocks are released from the front.
//!
//! Who accepts the loss ([`Replay::truncating`]) gets such a log's records up to the damage, and how many lay behind it.
//!
//! A group belongs to this log if its header bears the log's secret number and the segment's, so neither bytes of a recycled
//! file nor bytes a client sent pass for one. At most one range is asked for at a time, one group held.

mod error;

use bytes::Bytes;

use super::BLOCK_BYTES;
use super::group::{GROUP_HEADER_BYTES, GroupHeader, RECORD_LENGTH_BYTES};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentBlock, SegmentHeader};

pub use error::ReplayError;

/// Least bytes asked for at once where the file has them: large enough for a disk's throughput, small enough that looking
/// through a window (a memory comparison) takes well under a millisecond.
pub const READ_BYTES: usize = 1 << 20;

const ZERO_BLOCK: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// One file of a log, as the directory lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its number, from 1.
    pub number: u64,
    /// Its length, bytes.
    pub len: u64,
}

/// Bytes that the decoder needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRange {
    /// Index into the files given to [`Replay::new`].
    pub file: usize,
    /// First byte; a multiple of [`BLOCK_BYTES`].
    pub offset: u64,
    /// Number of bytes, within the file.
    pub len: usize,
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Its log sequence number, without gaps from that of the log's first segment.
    pub lsn: u64,
    /// Its body, for [`super::Record::decode`]; a part of the bytes supplied, not a copy.
    pub body: Bytes,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayStep {
    /// Read this range and [`Replay::supply`] it.
    NeedsData(ReadRange),
    /// The next record.
    Record(Replayed),
    /// The log has ended cleanly.
    Finished(LogEnd),
}

/// How the log ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Records the log holds.
    pub records_count: u64,
    /// Bytes of each file up to the end of its last sound group; the rest may be cut off. 0 for a file that was prepared and
    /// never used.
    pub used_bytes: Vec<u64>,
    /// Segment number and offset of a last group that a crash cut, where its header is whole: without it a cut group cannot be
    /// told from what a recycled file held before.
    pub torn: Option<(u64, u64)>,
    /// What was given up, where the log was truncated.
    pub lost: Option<Lost>,
}

/// What a truncated log has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Why it would have been refused; where its last records are.
    pub error: ReplayError,
    /// Records of the log from there on, as far as sound headers tell: the last group may be among what is damaged.
    pub records_count: u64,
}

/// The decoder of one log.
#[derive(Debug)]
pub struct Replay {
    run: u128,
    shard: u16,
    files: Vec<SegmentFile>,
    used_bytes: Vec<u64>,
    log_id: Option<u64>,
    /// Of the log's first record; known with the first header.
    first_lsn: u64,
    next_lsn: u64,
    torn: Option<Place>,
    window: Window,
    asked: Option<ReadRange>,
    state: State,
    truncates: bool,
    lost: Option<Lost>,
    #[cfg(feature = "planted-bugs")]
    bug: Option<crate::planted::Bug>,
}

/// Bytes of one file that were supplied last.
#[derive(Debug, Default)]
struct Window {
    file: usize,
    offset: u64,
    bytes: Bytes,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    file: usize,
    offset: u64,
}

#[derive(Debug)]
enum State {
    /// The header of a file comes next; `after` is where the file before it ended.
    Header {
        file: usize,
        after: Option<Place>,
    },
    /// A group may stand here.
    Group(Place),
    /// Inside a group.
    Records {
        group: Place,
        next: Place,
        payload: Bytes,
        left: u32,
        records_count: u32,
    },
    /// The log ends at `end` unless a sound group is found from `at` on.
    Tail {
        end: Place,
        at: Place,
    },
    Finished(LogEnd),
}

/// Either the data at hand or the range to ask for.
type At = Result<Bytes, ReadRange>;

impl Replay {
    /// The decoder of the log of `shard` in `run`, whose files are given in the order of their numbers.
    pub fn new(run: u128, shard: u16, files: Vec<SegmentFile>) -> Self {
        assert!(files.is_sorted_by_key(|file| file.number), "files stand in the order of numbers");
        let used_bytes = files.iter().map(|file| file.len).collect();
        Self {
            run,
            shard,
            files,
            used_bytes,
            log_id: None,
            first_lsn: 1,
            next_lsn: 1,
            torn: None,
            window: Window::default(),
            asked: None,
            state: State::Header { file: 0, after: None },
            truncates: false,
            lost: None,
            #[cfg(feature = "planted-bugs")]
            bug: None,
        }
    }

    /// Ends the log where it is damaged in place of refusing it, if `truncates`. Files of another version or another log are
    /// refused all the same: they are no damage.
    #[must_use]
    pub fn truncating(self, truncates: bool) -> Self {
        Self { truncates, ..self }
    }

    /// Plants a bug.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: Option<crate::planted::Bug>) {
        self.bug = bug;
    }

    /// Gives the bytes of the range that [`ReplayStep::NeedsData`] asked for.
    pub fn supply(&mut self, bytes: Bytes) -> Result<(), ReplayError> {
        let range = self.asked.take().expect("bytes are supplied to a request, once");
        if bytes.len() < range.len {
            return Err(ReplayError::Shrunk {
                segment: self.files[range.file].number,
                offset: range.offset,
                expected: range.len,
                found: bytes.len(),
            });
        }
        self.window = Window { file: range.file, offset: range.offset, bytes };
        Ok(())
    }

    /// The next step. Work between two calls of `supply` is bounded by the range.
    #[expect(
        clippy::should_implement_trait,
        reason = "a step may ask for data or fail; it is no iterator"
    )]
    pub fn next(&mut self) -> Result<ReplayStep, ReplayError> {
        assert!(self.asked.is_none(), "the range asked for is supplied before the next step");
        loop {
            match self.advance() {
                Ok(None) => {}
                Ok(Some(step)) => return Ok(step),
                Err(error) => self.truncate(error)?,
            }
        }
    }

    fn advance(&mut self) -> Result<Option<ReplayStep>, ReplayError> {
        let asked = match &mut self.state {
            State::Header { file, after } => {
                let (file, after) = (*file, *after);
                self.header(file, after)?
            }
            State::Group(place) => {
                let place = *place;
                self.group(place)?
            }
            State::Records { .. } => return Ok(self.record()?.map(ReplayStep::Record)),
            State::Tail { end, at } => {
                let (end, at) = (*end, *at);
                self.tail(end, at)?
            }
            State::Finished(end) => return Ok(Some(ReplayStep::Finished(end.clone()))),
        };
        self.asked = asked;
        Ok(asked.map(ReplayStep::NeedsData))
    }

    /// Takes damage for the end of the log, where that is wished, and looks how much is behind it.
    fn truncate(&mut self, error: ReplayError) -> Result<(), ReplayError> {
        let is_damage = match error {
            ReplayError::MissingSegment { .. }
            | ReplayError::Gap { .. }
            | ReplayError::Damaged { .. }
            | ReplayError::Headless { .. }
            | ReplayError::Malformed { .. } => true,
            ReplayError::Version { .. }
            | ReplayError::Foreign { .. }
            | ReplayError::Shrunk { .. } => false,
        };
        if !self.truncates || !is_damage {
            return Err(error);
        }
        assert!(self.lost.is_none(), "behind the damage nothing is refused");
        let (segment, offset) = error.place();
        let file = self.files.iter().position(|file| file.number >= segment);
        let end =
            Place { file: file.expect("damage is in a file, or one behind is missing"), offset };
        self.lost = Some(Lost { error, records_count: 0 });
        self.end_at(end);
        Ok(())
    }

    /// Looks at the first block of a file: the log goes on in it, or has ended before it.
    fn header(
        &mut self,
        file: usize,
        after: Option<Place>,
    ) -> Result<Option<ReadRange>, ReplayError> {
        let Some(&SegmentFile { number, .. }) = self.files.get(file) else {
            self.end_at(after.unwrap_or(Place { file: 0, offset: 0 }));
            return Ok(None);
        };
        let expected = self.files[0].number + file as u64;
        if number != expected {
            return Err(ReplayError::MissingSegment { expected, found: number });
        }
        let block = match self.bytes_at(Place { file, offset: 0 }, SEGMENT_HEADER_BYTES) {
            Ok(block) => block,
            Err(range) => return Ok(Some(range)),
        };
        match SegmentHeader::decode(&block) {
            SegmentBlock::Header(header) => {
                self.check_identity(number, &header)?;
                if file == 0 && number > 1 {
                    self.first_lsn = header.first_lsn;
                    self.next_lsn = header.first_lsn;
                }
                if header.first_lsn != self.next_lsn {
                    let at = after.unwrap_or(Place { file, offset: 0 });
                    return Err(self.gap(at, header.first_lsn, Place { file, offset: 0 }));
                }
                self.log_id = Some(header.log_id);
                let offset = SEGMENT_HEADER_BYTES as u64;
                self.state = State::Group(Place { file, offset });
            }
            SegmentBlock::Version(found) => {
                return Err(ReplayError::Version { segment: number, offset: 0, found });
            }
            // What is before a segment is released only when its header is synced.
            SegmentBlock::Invalid if file == 0 && number > 1 && self.lost.is_none() => {
                return Err(ReplayError::Headless { segment: number });
            }
            SegmentBlock::Invalid => self.end_at(after.unwrap_or(Place { file, offset: 0 })),
        }
        Ok(None)
    }

    fn check_identity(&self, number: u64, header: &SegmentHeader) -> Result<(), ReplayError> {
        let same_log = header.run == self.run
            && header.shard == self.shard
            && self.log_id.is_none_or(|log_id| header.log_id == log_id);
        if same_log && header.segment == number {
            return Ok(());
        }
        Err(ReplayError::Foreign { segment: number, found_segment: header.segment })
    }

    /// Looks for the next group where it must stand.
    fn group(&mut self, place: Place) -> Result<Option<ReadRange>, ReplayError> {
        let header = match self.bytes_at(place, GROUP_HEADER_BYTES) {
            Ok(bytes) => match self.own_group(place, &bytes) {
                Some(header) => header,
                None => return Ok(self.leave(place)),
            },
            Err(range) => return Ok(Some(range)),
        };
        if header.place.first_lsn != self.next_lsn {
            return Err(self.gap(place, header.place.first_lsn, place));
        }
        let end = GROUP_HEADER_BYTES + header.payload_bytes as usize;
        if end as u64 > self.files[place.file].len - place.offset {
            self.torn = Some(place);
            return Ok(self.leave(place));
        }
        let bytes = match self.bytes_at(place, end) {
            Ok(bytes) => bytes,
            Err(range) => return Ok(Some(range)),
        };
        let payload = bytes.slice(GROUP_HEADER_BYTES..end);
        if self.checks_payload() && crc32c::crc32c(&payload) != header.payload_crc {
            self.torn = Some(place);
            return Ok(self.leave(place));
        }
        let records_count = header.records_count;
        let next =
            Place { offset: place.offset + end.next_multiple_of(BLOCK_BYTES) as u64, ..place };
        self.state =
            State::Records { group: place, next, payload, left: records_count, records_count };
        Ok(None)
    }

    /// The header of a group of this log and segment, if one stands in `bytes`. Checksums have no key, and a profile's bytes
    /// may lie at any place: nothing of a header is believed, not even that it is one, unless it bears the log's secret number.
    fn own_group(&self, place: Place, bytes: &[u8]) -> Option<GroupHeader> {
        let segment = self.files[place.file].number;
        // Without a sound segment header no group was ever written: any that is found then is damage.
        GroupHeader::decode(bytes).filter(|header| {
            self.log_id.is_none_or(|log_id| header.place.log_id == log_id)
                && header.place.segment == segment
        })
    }

    #[cfg(feature = "planted-bugs")]
    fn checks_payload(&self) -> bool {
        self.bug != Some(crate::planted::Bug::SkipTornCheck)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "the planted variant looks at itself")]
    fn checks_payload(&self) -> bool {
        true
    }

    /// No sound group stands at `place`: the log goes on in the next file or has ended.
    fn leave(&mut self, place: Place) -> Option<ReadRange> {
        self.state = State::Header { file: place.file + 1, after: Some(place) };
        None
    }

    fn end_at(&mut self, end: Place) {
        self.state = if self.files.is_empty() {
            State::Finished(LogEnd {
                records_count: 0,
                used_bytes: Vec::new(),
                torn: None,
                lost: None,
            })
        } else {
            for used in &mut self.used_bytes[end.file..] {
                *used = 0;
            }
            self.used_bytes[end.file] = end.offset;
            State::Tail { end, at: end }
        };
    }

    /// The next record of the group, `None` behind its last.
    fn record(&mut self) -> Result<Option<Replayed>, ReplayError> {
        let State::Records { group, next, payload, left, records_count } = &mut self.state else {
            unreachable!("next() saw this state");
        };
        let malformed = ReplayError::Malformed {
            segment: self.files[group.file].number,
            offset: group.offset,
            records_count: *records_count,
        };
        if *left == 0 {
            if !payload.is_empty() {
                return Err(malformed);
            }
            self.state = State::Group(*next);
            return Ok(None);
        }
        let Some((len, _)) = payload.split_first_chunk::<RECORD_LENGTH_BYTES>() else {
            return Err(malformed);
        };
        let end = RECORD_LENGTH_BYTES + u32::from_le_bytes(*len) as usize;
        if end > payload.len() {
            return Err(malformed);
        }
        let body = payload.split_to(end).slice(RECORD_LENGTH_BYTES..);
        *left -= 1;
        let lsn = self.next_lsn;
        self.next_lsn += 1;
        Ok(Some(Replayed { lsn, body }))
    }

    /// Looks through what lies behind the end, window by window: a sound group there makes the end damage.
    fn tail(&mut self, end: Place, at: Place) -> Result<Option<ReadRange>, ReplayError> {
        let Some(&SegmentFile { len, .. }) = self.files.get(at.file) else {
            self.finish(end);
            return Ok(None);
        };
        if at.offset >= len {
            self.state = State::Tail { end, at: Place { file: at.file + 1, offset: 0 } };
            return Ok(None);
        }
        let bytes = match self.bytes_at(at, BLOCK_BYTES) {
            Ok(bytes) => bytes,
            Err(range) => return Ok(Some(range)),
        };
        for (i, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if *block == ZERO_BLOCK[..block.len()] {
                continue;
            }
            let place = Place { file: at.file, offset: at.offset + (i * BLOCK_BYTES) as u64 };
            if self.lost.is_some() {
                self.count_lost(place, block);
                continue;
            }
            if place != end {
                self.check_behind(end, place, block)?;
            }
        }
        let offset = at.offset + bytes.len() as u64;
        self.state = State::Tail { end, at: Place { file: at.file, offset } };
        Ok(None)
    }

    fn check_behind(&self, end: Place, place: Place, block: &[u8]) -> Result<(), ReplayError> {
        let found_lsn = match SegmentHeader::decode(block) {
            SegmentBlock::Header(header) if place.offset == 0 => Some(header.first_lsn),
            _ => self.own_group(place, block).map(|header| header.place.first_lsn),
        };
        match found_lsn {
            Some(found_lsn) => Err(ReplayError::Damaged {
                segment: self.files[end.file].number,
                offset: end.offset,
                expected_lsn: self.next_lsn,
                found_lsn,
                found_segment: self.files[place.file].number,
                found_offset: place.offset,
            }),
            None => Ok(()),
        }
    }

    /// Counts up to the last record of a sound group behind the damage.
    fn count_lost(&mut self, place: Place, block: &[u8]) {
        let behind = match SegmentHeader::decode(block) {
            SegmentBlock::Header(header) if place.offset == 0 => {
                let is_own = self.check_identity(self.files[place.file].number, &header).is_ok();
                if is_own
                    && self.log_id.replace(header.log_id).is_none()
                    && self.files[0].number > 1
                {
                    // What was released before it is not lost.
                    (self.first_lsn, self.next_lsn) = (header.first_lsn, header.first_lsn);
                }
                is_own.then_some(header.first_lsn)
            }
            // Without the log's secret number a client's bytes might be counted.
            _ if self.log_id.is_none() => None,
            _ => self
                .own_group(place, block)
                .map(|header| header.place.first_lsn.saturating_add(header.records_count.into())),
        };
        let lost = self.lost.as_mut().expect("it is counted behind damage");
        let records_count = behind.unwrap_or(0).saturating_sub(self.next_lsn);
        lost.records_count = lost.records_count.max(records_count);
    }

    fn finish(&mut self, end: Place) {
        let torn = self.torn.filter(|torn| *torn == end && self.lost.is_none());
        self.state = State::Finished(LogEnd {
            records_count: self.next_lsn - self.first_lsn,
            used_bytes: std::mem::take(&mut self.used_bytes),
            torn: torn.map(|torn| (self.files[torn.file].number, torn.offset)),
            lost: self.lost.take(),
        });
    }

    fn gap(&self, at: Place, found_lsn: u64, found: Place) -> ReplayError {
        ReplayError::Gap {
            segment: self.files[at.file].number,
            offset: at.offset,
            expected_lsn: self.next_lsn,
            found_lsn,
            found_segment: self.files[found.file].number,
            found_offset: found.offset,
        }
    }

    /// All that is at hand from `place` on, at least `len_min` bytes or what the file has.
    fn bytes_at(&self, place: Place, len_min: usize) -> At {
        let in_file = self.files[place.file].len.saturating_sub(place.offset);
        let wanted = in_file.min(len_min as u64) as usize;
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let window = &self.window;
        if window.file == place.file && window.offset <= place.offset {
            let from = place.offset - window.offset;
            if from + wanted as u64 <= window.bytes.len() as u64 {
                return Ok(window.bytes.slice(from as usize..));
            }
        }
        // Whole blocks, so that the look behind the end stays on block boundaries.
        let len = len_min.next_multiple_of(BLOCK_BYTES).max(READ_BYTES);
        let len = in_file.min(len as u64) as usize;
        Err(ReadRange { file: place.file, offset: place.offset, len })
    }
}

#[cfg(test)]
mod tests;
