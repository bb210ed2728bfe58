//! Replay over logs in memory: cut, flipped, swapped, and the log that version 1 left.

use std::sync::Arc;

use bolero::check;

use super::*;
use crate::labels::LabelSet;
use crate::profile::{Admission, Outcome};
use crate::tenant::{PartitionKey, TenantId};
use crate::wal::{GroupBuffer, GroupPlace, Record, WAL_VERSION};

const RUN: u128 = 0x0193_5a7b_0000_0000_0000_0000_0000_0001;
const SHARD: u16 = 2;
const LOG_ID: u64 = 0x5ec2_e7ed_1d00_0001;

/// A log as its files lie on the disk.
#[derive(Clone)]
struct LogImage {
    /// Number of the first file.
    first: u64,
    files: Vec<Vec<u8>>,
    next_lsn: u64,
}

/// Where a group lies: file, first byte, bytes.
type Lies = (usize, usize, usize);

fn record(lsn: u64, profile_bytes: usize) -> Record {
    let pairs = vec![("service_name".to_owned(), "service".to_owned())];
    Record {
        partition: PartitionKey {
            tenant: TenantId::anonymous(),
            service_name: Arc::from("service"),
            split: 0,
        },
        origin: RUN,
        seq: lsn,
        receive_time_ms: 1_795_478_400_000 + lsn as i64,
        admission: Admission {
            pipeline_version: 1,
            time_ns: 1_795_478_400_000_000_000,
            stacktrace_depth_max: 1000,
            symbol_bytes_max: 65_535,
            go_fixes: false,
            labels: LabelSet::from_pairs(pairs),
            outcomes: vec![Outcome::Plain; 2],
        },
        profile: (0..profile_bytes).map(|i| (i as u64 * 7 + lsn) as u8).collect(),
    }
}

impl LogImage {
    fn new() -> Self {
        Self { first: 1, files: Vec::new(), next_lsn: 1 }
    }

    fn begin_segment(&mut self) {
        let header = SegmentHeader {
            run: RUN,
            shard: SHARD,
            log_id: LOG_ID,
            segment: 1 + self.files.len() as u64,
            first_lsn: self.next_lsn,
        };
        self.files.push(header.encode());
    }

    fn group(&mut self, profiles_bytes: &[usize]) -> Lies {
        let mut buffer = GroupBuffer::in_memory_of(Vec::new());
        for (i, bytes) in profiles_bytes.iter().enumerate() {
            let record = record(self.next_lsn + i as u64, *bytes);
            buffer.push(&record.as_ref(), record.as_ref().encoded_len());
        }
        let segment = self.files.len() as u64;
        let place = GroupPlace { log_id: LOG_ID, segment, first_lsn: self.next_lsn };
        self.next_lsn += profiles_bytes.len() as u64;
        let written = buffer.finish(place);
        let number = self.files.len() - 1;
        let start = self.files[number].len();
        let len = written.len();
        self.files[number].extend(written);
        (number, start, len)
    }

    fn zeros(&mut self, blocks: usize) {
        let file = self.files.last_mut().unwrap();
        file.resize(file.len() + blocks * BLOCK_BYTES, 0);
    }

    /// Three segments, ten groups, 23 records; room behind the last of each.
    fn sample() -> (Self, Vec<Lies>) {
        let mut log = Self::new();
        let mut groups = Vec::new();
        for segment in [&[&[10usize, 5000][..], &[100; 7], &[9000]][..], &[&[1; 3], &[4000, 1]]] {
            log.begin_segment();
            groups.extend(segment.iter().map(|profiles| log.group(profiles)));
            log.zeros(3);
        }
        log.begin_segment();
        for profiles in [&[20usize][..], &[3000], &[3000, 3000], &[5], &[9000, 10, 10]] {
            groups.push(log.group(profiles));
        }
        log.zeros(5);
        // The next one was made ready and never used.
        log.files.push(vec![0; 8 * BLOCK_BYTES]);
        (log, groups)
    }

    fn replay(&self) -> (Vec<Replayed>, Result<LogEnd, ReplayError>) {
        self.replay_as(|replay| replay)
    }

    fn replay_as(
        &self,
        how: impl Fn(Replay) -> Replay,
    ) -> (Vec<Replayed>, Result<LogEnd, ReplayError>) {
        let files = self.files.iter().zip(self.first..);
        let files: Vec<SegmentFile> =
            files.map(|(bytes, number)| SegmentFile { number, len: bytes.len() as u64 }).collect();
        let mut replay = how(Replay::new(RUN, SHARD, files));
        let mut records = Vec::new();
        let asked_bytes_max: usize = self.files.iter().map(Vec::len).sum::<usize>() * 4 + 1;
        let mut asked_bytes = 0;
        loop {
            match replay.next() {
                Ok(ReplayStep::NeedsData(ReadRange { file, offset, len })) => {
                    asked_bytes += len;
                    assert!(len > 0 && asked_bytes <= asked_bytes_max, "replay goes forward");
                    let bytes = &self.files[file][offset as usize..offset as usize + len];
                    replay.supply(Bytes::copy_from_slice(bytes)).unwrap();
                }
                Ok(ReplayStep::Record(record)) => records.push(record),
                Ok(ReplayStep::Finished(end)) => return (records, Ok(end)),
                Err(error) => return (records, Err(error)),
            }
        }
    }

    /// The records, checked against what was written, and how the log ended.
    fn lsns(&self) -> (Vec<u64>, Result<LogEnd, ReplayError>) {
        let (records, end) = self.replay();
        for replayed in &records {
            let read = Record::decode(&replayed.body).unwrap();
            let written = record(replayed.lsn, read.profile.len());
            assert_eq!(read, written, "a record is what was written under its lsn");
        }
        (records.into_iter().map(|record| record.lsn).collect(), end)
    }
}

#[test]
fn a_whole_log_is_replayed_in_order_across_segments() {
    let (log, _) = LogImage::sample();
    let (lsns, end) = log.lsns();
    assert_eq!(lsns, (1..=23).collect::<Vec<_>>());
    let end = end.unwrap();
    assert_eq!((end.records_count, end.torn), (23, None));
    let used: Vec<u64> = log.files.iter().map(|file| file.len() as u64).collect();
    let last_used = used[2] - 5 * BLOCK_BYTES as u64;
    assert_eq!(end.used_bytes, [used[0], used[1], last_used, 0], "the unused tails are known");
}

#[test]
fn an_absent_log_an_unused_one_and_one_without_a_group_end_at_once() {
    let mut log = LogImage::new();
    let (lsns, end) = log.lsns();
    assert_eq!((lsns.len(), end.unwrap().used_bytes.len()), (0, 0));
    log.files.push(vec![0; 4 * BLOCK_BYTES]);
    assert_eq!(log.lsns().1.unwrap().used_bytes, [0]);
    log.files[0].clear();
    assert_eq!(log.lsns().1.unwrap().used_bytes, [0]);
    log.files.clear();
    log.begin_segment();
    log.zeros(4);
    let end = log.lsns().1.unwrap();
    assert_eq!((end.used_bytes, end.torn), (vec![BLOCK_BYTES as u64], None));
}

#[test]
fn a_log_larger_than_a_window_is_read_in_pieces() {
    let mut log = LogImage::new();
    log.begin_segment();
    for bytes in [300_000, 3 * READ_BYTES, 10, READ_BYTES - 200, 700_000, 5] {
        log.group(&[bytes, 100]);
    }
    log.zeros(2 * READ_BYTES / BLOCK_BYTES + 3);
    let (lsns, end) = log.lsns();
    assert_eq!(lsns, (1..=12).collect::<Vec<_>>());
    assert_eq!(end.unwrap().torn, None);
}

#[test]
fn a_torn_last_group_ends_the_log_cleanly_wherever_it_is_cut() {
    let (whole, groups) = LogImage::sample();
    let (file, start, len) = *groups.last().unwrap();
    for sector in 0..len / 512 {
        // Everything from this sector on was lost; this sector alone was lost; all but this one were.
        for lost in [sector..len / 512, sector..sector + 1] {
            let mut log = whole.clone();
            log.files[file][start + lost.start * 512..start + lost.end * 512].fill(0);
            let untouched = log.files[file] == whole.files[file];
            let (lsns, end) = log.lsns();
            let end = end.unwrap();
            let expected = if untouched { 23 } else { 20 };
            assert_eq!(lsns, (1..=expected).collect::<Vec<_>>(), "sectors {lost:?} lost");
            let torn = (3, start as u64);
            let has_header = lost.start > 0;
            assert_eq!(end.torn, (expected == 20 && has_header).then_some(torn));
            assert!(expected == 23 || end.used_bytes[2] == start as u64, "what is cut goes");
        }
    }
}

#[test]
fn a_file_cut_inside_its_last_group_ends_the_log_cleanly() {
    let (whole, groups) = LogImage::sample();
    let (file, start, len) = *groups.last().unwrap();
    for kept in [0, 1, 63, 64, 100, 4096, len - 4096] {
        let mut log = whole.clone();
        log.files.truncate(3);
        log.files[file].truncate(start + kept);
        let (lsns, end) = log.lsns();
        assert_eq!(lsns, (1..=20).collect::<Vec<_>>(), "{kept} bytes of it are left");
        assert!(end.is_ok());
    }
}

#[test]
fn a_damaged_group_with_a_sound_one_behind_is_refused() {
    let (whole, groups) = LogImage::sample();
    // Of groups of 2, 7, 1, 3, 2, 1, 1, 2, 1 and 3 records.
    let firsts = [1, 3, 10, 11, 14, 16, 17, 18, 20, 21];
    for (i, (file, start, _)) in groups[..groups.len() - 1].iter().enumerate() {
        for at in [0, 5, 30, 70] {
            let mut log = whole.clone();
            log.files[*file][start + at] ^= 0x40;
            let (lsns, end) = log.lsns();
            assert_eq!(lsns, (1..firsts[i]).collect::<Vec<_>>());
            let segment = *file as u64 + 1;
            let (next_file, next_start, _) = groups[i + 1];
            match end.unwrap_err() {
                ReplayError::Damaged {
                    segment: s,
                    offset,
                    expected_lsn,
                    found_lsn,
                    found_segment,
                    found_offset,
                } => {
                    assert_eq!((s, offset, expected_lsn), (segment, *start as u64, firsts[i]));
                    assert_eq!(found_lsn, firsts[i + 1]);
                    assert_eq!(
                        (found_segment, found_offset),
                        (next_file as u64 + 1, next_start as u64)
                    );
                }
                // Not in the last segment: the header of the next one tells.
                ReplayError::Gap {
                    segment: s,
                    offset,
                    expected_lsn,
                    found_lsn,
                    found_segment,
                    ..
                } => {
                    assert_eq!((s, offset, expected_lsn), (segment, *start as u64, firsts[i]));
                    let next_first = firsts[groups.iter().position(|g| g.0 == file + 1).unwrap()];
                    assert_eq!((found_lsn, found_segment), (next_first, segment + 1));
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_damaged_header_with_groups_behind_is_refused() {
    for file in 0..3 {
        let (mut log, _) = LogImage::sample();
        log.files[file][20] ^= 1;
        let error = log.lsns().1.unwrap_err();
        assert!(matches!(error, ReplayError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_truncated_log_yields_what_is_before_the_damage_and_counts_what_is_behind() {
    let (whole, groups) = LogImage::sample();
    let firsts = [1, 3, 10, 11, 14, 16, 17, 18, 20, 21];
    for (i, (file, start, _)) in groups[..groups.len() - 1].iter().enumerate() {
        for at in [0, 5, 30, 70] {
            let mut log = whole.clone();
            log.files[*file][start + at] ^= 0x40;
            let refused = log.lsns().1.unwrap_err();
            let (records, end) = log.replay_as(|replay| replay.truncating(true));
            let lsns: Vec<_> = records.iter().map(|record| record.lsn).collect();
            assert_eq!(lsns, (1..firsts[i]).collect::<Vec<_>>());
            let end = end.unwrap();
            let lost = Lost { error: refused, records_count: 24 - firsts[i] };
            assert_eq!((end.records_count, end.torn, end.lost), (firsts[i] - 1, None, Some(lost)));
            // Cut off there, it is a log that ends.
            for (bytes, used) in log.files.iter_mut().zip(&end.used_bytes) {
                bytes.truncate(*used as usize);
            }
            let (again, end) = log.lsns();
            assert_eq!((again, end.unwrap().lost), (lsns, None));
        }
    }
    // The log's secret number is told by the headers that are left.
    let mut headless = whole;
    headless.files[0][20] ^= 1;
    let (records, end) = headless.replay_as(|replay| replay.truncating(true));
    let lost = end.unwrap().lost.unwrap();
    assert_eq!((records.len(), lost.records_count), (0, 23));
}

#[test]
fn what_is_no_damage_is_not_truncated() {
    let (log, _) = LogImage::sample();
    let end = log.replay_as(|replay| replay.truncating(true)).1;
    assert_eq!(end, log.lsns().1, "a sound log is what it was");
    let mut swapped = log.clone();
    swapped.files.swap(0, 1);
    let error = swapped.replay_as(|replay| replay.truncating(true)).1.unwrap_err();
    assert!(matches!(error, ReplayError::Foreign { .. }), "{error}");
    let mut newer = log;
    newer.files[0][8] = 2;
    let crc = crc32c::crc32c(&newer.files[0][..64]);
    newer.files[0][64..68].copy_from_slice(&crc.to_le_bytes());
    let error = newer.replay_as(|replay| replay.truncating(true)).1.unwrap_err();
    assert!(matches!(error, ReplayError::Version { .. }), "{error}");
}

#[test]
fn a_missing_segment_is_refused_and_a_swapped_one_too() {
    let (log, _) = LogImage::sample();
    let numbers = |numbers: &[u64]| {
        let files = numbers.iter().map(|number| SegmentFile {
            number: *number,
            len: log.files[*number as usize - 1].len() as u64,
        });
        let mut replay = Replay::new(RUN, SHARD, files.collect());
        loop {
            match replay.next() {
                Ok(ReplayStep::NeedsData(ReadRange { file, offset, len })) => {
                    let bytes = &log.files[numbers[file] as usize - 1][offset as usize..][..len];
                    replay.supply(Bytes::copy_from_slice(bytes)).unwrap();
                }
                Ok(ReplayStep::Record(_)) => {}
                Ok(ReplayStep::Finished(_)) => return None,
                Err(error) => return Some(error),
            }
        }
    };
    assert_eq!(numbers(&[1, 2, 3]), None);
    assert_eq!(numbers(&[1, 3]), Some(ReplayError::MissingSegment { expected: 2, found: 3 }));
    assert_eq!(numbers(&[2, 3, 4]), None, "what is before the first was released");
    assert_eq!(numbers(&[2, 4]), Some(ReplayError::MissingSegment { expected: 3, found: 4 }));
    let mut swapped = log.clone();
    swapped.files.swap(0, 1);
    let error = swapped.lsns().1.unwrap_err();
    assert_eq!(error, ReplayError::Foreign { segment: 1, found_segment: 2 });
}

/// Segments are released from the front, each when the header of a later one is synced.
#[test]
fn a_log_whose_first_segments_were_released_begins_with_the_first_that_is_left() {
    let (whole, _) = LogImage::sample();
    for (first, first_lsn) in [(2, 11), (3, 16)] {
        let mut log = whole.clone();
        log.files.drain(..first as usize - 1);
        log.first = first;
        let (lsns, end) = log.lsns();
        assert_eq!(lsns, (first_lsn..=23).collect::<Vec<_>>());
        assert_eq!(end.unwrap().records_count, 24 - first_lsn);
        log.files[0][20] ^= 1;
        let error = log.lsns().1.unwrap_err();
        assert_eq!(error, ReplayError::Headless { segment: first });
        let lost = log.replay_as(|replay| replay.truncating(true)).1.unwrap().lost.unwrap();
        let behind_lsn = if first == 2 { 16 } else { 24 };
        let known = if first == 2 { 24 - behind_lsn } else { 0 };
        assert_eq!(lost.records_count, known, "without a header nothing tells the log's number");
    }
}

/// A released file becomes the next segment: its header is overwritten, the groups of its earlier life stand where they stood.
#[test]
fn groups_of_a_recycled_files_earlier_life_are_the_end_of_the_log_wherever_it_ends() {
    let (whole, groups) = LogImage::sample();
    let mut old = whole.files[0].clone();
    old[..BLOCK_BYTES].fill(0);
    let (_, last_start, last_len) = *groups.last().unwrap();
    for end in (BLOCK_BYTES..=last_start + last_len).step_by(BLOCK_BYTES) {
        let mut log = whole.clone();
        let written = log.files[2][..end].to_vec();
        log.files[2] = [&old[..], &old[BLOCK_BYTES..], &old[BLOCK_BYTES..]].concat();
        assert!(log.files[2].len() > end, "there is stale data behind the end");
        log.files[2][..end].copy_from_slice(&written);
        log.files[3] = old.clone();
        let (lsns, ended) = log.lsns();
        let sound = groups.iter().filter(|(file, start, len)| *file < 2 || start + len <= end);
        let end_of_sound = sound.clone().next_back().map(|(file, start, len)| (*file, start + len));
        let ended = ended.unwrap();
        assert_eq!(ended.used_bytes[3], 0, "it was made ready and never used");
        let used = end_of_sound.filter(|(file, _)| *file == 2).map_or(BLOCK_BYTES, |(_, end)| end);
        assert_eq!(ended.used_bytes[2], used as u64);
        assert_eq!(lsns, (1..=ended.records_count).collect::<Vec<_>>());
        let records: u64 = sound.zip([2, 7, 1, 3, 2, 1, 1, 2, 1, 3]).map(|(_, count)| count).sum();
        assert_eq!(ended.records_count, records, "{end} bytes were written");
    }
}

#[test]
fn a_log_of_another_run_shard_or_version_is_refused() {
    let (log, _) = LogImage::sample();
    let (bytes, len) = (Bytes::from(log.files[0].clone()), log.files[0].len() as u64);
    for (run, shard) in [(RUN + 1, SHARD), (RUN, SHARD + 1)] {
        let mut replay = Replay::new(run, shard, vec![SegmentFile { number: 1, len }]);
        assert!(matches!(replay.next(), Ok(ReplayStep::NeedsData(_))));
        replay.supply(bytes.clone()).unwrap();
        assert!(matches!(replay.next(), Err(ReplayError::Foreign { .. })));
    }
    let mut newer = log;
    newer.files[0][8] = 2;
    let crc = crc32c::crc32c(&newer.files[0][..64]);
    newer.files[0][64..68].copy_from_slice(&crc.to_le_bytes());
    let error = newer.lsns().1.unwrap_err();
    assert_eq!(error, ReplayError::Version { segment: 1, offset: 0, found: 2 });
}

/// A recycled file still holds groups of its earlier life, and a client may send anything as a profile.
#[test]
fn stale_groups_and_bytes_of_clients_never_pass_for_groups_of_the_log() {
    let (mut log, groups) = LogImage::sample();
    let mut buffer = GroupBuffer::in_memory_of(Vec::new());
    let next = record(24, 10);
    buffer.push(&next.as_ref(), next.as_ref().encoded_len());
    let group = |place| {
        let mut buffer = GroupBuffer::in_memory_of(Vec::new());
        buffer.push(&next.as_ref(), next.as_ref().encoded_len());
        buffer.finish(place)
    };
    let right = GroupPlace { log_id: LOG_ID, segment: 3, first_lsn: 24 };
    let (file, start, len) = *groups.last().unwrap();
    let end = start + len;
    for place in [GroupPlace { log_id: LOG_ID + 1, ..right }, GroupPlace { segment: 2, ..right }] {
        for at in [end, end + BLOCK_BYTES] {
            let stale = group(place);
            let mut log = log.clone();
            log.files[file][at..at + stale.len()].copy_from_slice(&stale);
            let (lsns, ended) = log.lsns();
            assert_eq!((lsns.len(), ended.is_ok()), (23, true));
        }
    }
    // The same bytes with the right numbers are the next group.
    let own = group(right);
    log.files[file][end..end + own.len()].copy_from_slice(&own);
    assert_eq!(log.lsns().0.len(), 24);
}

/// A profile may hold blocks that look like headers of groups and segments, checksums included. In a group that a crash cut
/// they lay where the log ends; one that named another version made every later start refuse the log.
#[test]
fn headers_that_a_client_made_up_do_not_keep_a_cut_log_from_ending() {
    let (mut log, _) = LogImage::sample();
    log.files.truncate(3);
    let used = log.files[2].len() - 5 * BLOCK_BYTES;
    log.files[2].truncate(used);
    let mut forged = Vec::new();
    for version in [0, WAL_VERSION, WAL_VERSION + 1, u16::MAX] {
        let next = record(24, 10);
        let mut buffer = GroupBuffer::in_memory_of(Vec::new());
        buffer.push(&next.as_ref(), next.as_ref().encoded_len());
        let place = GroupPlace { log_id: LOG_ID + 1, segment: 3, first_lsn: 25 };
        let mut group = buffer.finish(place);
        group[8..10].copy_from_slice(&version.to_le_bytes());
        let crc = crc32c::crc32c(&group[8..GROUP_HEADER_BYTES]);
        group[4..8].copy_from_slice(&crc.to_le_bytes());
        forged.extend(group);
        let (run, shard) = (RUN, SHARD);
        let header = SegmentHeader { run, shard, log_id: LOG_ID + 1, segment: 4, first_lsn: 24 };
        let mut header = header.encode();
        header[8..10].copy_from_slice(&version.to_le_bytes());
        let crc = crc32c::crc32c(&header[..64]);
        header[64..68].copy_from_slice(&crc.to_le_bytes());
        forged.extend(header);
    }
    // The profile is written such that its blocks are blocks of the file.
    let mut profile = record(24, 0);
    let overhead = GROUP_HEADER_BYTES + RECORD_LENGTH_BYTES + profile.as_ref().encoded_len();
    profile.profile = [vec![7; BLOCK_BYTES - overhead], forged].concat().into();
    let mut buffer = GroupBuffer::in_memory_of(Vec::new());
    buffer.push(&profile.as_ref(), profile.as_ref().encoded_len());
    let group = buffer.finish(GroupPlace { log_id: LOG_ID, segment: 3, first_lsn: 24 });
    let start = log.files[2].len();
    log.files[2].extend(&group);
    assert_eq!(log.replay().0.len(), 24, "whole, it is the log's last record");
    // The group's first sector was lost: the look behind the end finds the profile's blocks.
    log.files[2][start..start + 512].fill(0);
    let (lsns, end) = log.lsns();
    assert_eq!((lsns.len(), end.unwrap().used_bytes[2]), (23, start as u64));
}

#[test]
fn a_gap_of_lsn_is_refused() {
    let mut log = LogImage::new();
    log.begin_segment();
    log.group(&[10]);
    log.next_lsn += 4;
    let (_, start, _) = log.group(&[10]);
    let error = log.lsns().1.unwrap_err();
    let offset = start as u64;
    let expected = ReplayError::Gap {
        segment: 1,
        offset,
        expected_lsn: 2,
        found_lsn: 6,
        found_segment: 1,
        found_offset: offset,
    };
    assert_eq!(error, expected);
}

#[test]
fn any_change_of_a_log_yields_its_records_or_an_error() {
    let (whole, groups) = LogImage::sample();
    let last_start = groups.last().map(|(file, start, _)| (*file, *start)).unwrap();
    check!().with_type::<Vec<(u8, u32, u8, u16)>>().for_each(|changes| {
        let mut log = whole.clone();
        let mut only_last = true;
        for (what, at, value, len) in changes.iter().take(4) {
            let file = usize::from(what >> 4) % log.files.len();
            let bytes = &mut log.files[file];
            if bytes.is_empty() {
                continue;
            }
            let at = *at as usize % bytes.len();
            let end = (at + usize::from(*len) + 1).min(bytes.len());
            match what % 4 {
                0 => bytes[at] ^= value,
                1 => bytes[at..end].fill(*value),
                2 => bytes[at..end].fill(0),
                _ => bytes.truncate(at),
            }
            only_last &= file > last_start.0 || (file == last_start.0 && at >= last_start.1);
        }
        let (lsns, end) = log.lsns();
        assert_eq!(lsns, (1..=lsns.len() as u64).collect::<Vec<_>>(), "a prefix, in order");
        if only_last && log.files[3].iter().all(|byte| *byte == 0) {
            assert!(end.is_ok() && lsns.len() >= 20, "damage of the last group is a torn tail");
        }
    });
}

const FIXTURE: [&[u8]; 2] = [
    include_bytes!("../../../tests/fixtures/wal/v1/00000001.wal"),
    include_bytes!("../../../tests/fixtures/wal/v1/00000002.wal"),
];

/// What the fixture was written from.
fn fixture() -> LogImage {
    let mut log = LogImage::new();
    log.begin_segment();
    log.group(&[10, 700]);
    log.group(&[5000]);
    log.begin_segment();
    log.group(&[1, 2, 3]);
    log.zeros(1);
    log
}

#[test]
fn the_log_that_version_1_left_reads_in_every_version() {
    let log = LogImage { first: 1, files: FIXTURE.map(<[u8]>::to_vec).to_vec(), next_lsn: 0 };
    let (lsns, end) = log.lsns();
    assert_eq!(lsns, [1, 2, 3, 4, 5, 6]);
    assert_eq!(end.unwrap().torn, None);
}

#[test]
fn this_version_writes_what_its_fixture_holds() {
    assert_eq!(WAL_VERSION, 1, "a new version gets a fixture of its own beside the old ones");
    for (written, committed) in fixture().files.iter().zip(FIXTURE) {
        assert!(written == committed, "the format has changed without a new version");
    }
}
