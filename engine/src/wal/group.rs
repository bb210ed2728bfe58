//! A group: the records of one aligned write, believed or refused whole.

use super::segment::word;
use super::{BLOCK_BYTES, RecordRef, WAL_VERSION};

/// First four bytes of a group.
pub const GROUP_MAGIC: [u8; 4] = *b"PYWG";

/// Bytes of a group's header; its records follow at once.
pub const GROUP_HEADER_BYTES: usize = 64;

/// Bytes of the length that stands before each record's body.
pub const RECORD_LENGTH_BYTES: usize = 4;

/// Where a group stands in its log; known only when it is written, not while it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPlace {
    /// The log's secret number ([`super::SegmentHeader::log_id`]).
    pub log_id: u64,
    /// The segment it is written to.
    pub segment: u64,
    /// LSN of its first record.
    pub first_lsn: u64,
}

/// A group's header as read; checksum verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) place: GroupPlace,
    pub(super) payload_bytes: u32,
    pub(super) payload_crc: u32,
    pub(super) records_count: u32,
}

/// A group while it is filled: records are encoded straight behind the header's place, checksummed while they are in cache.
#[derive(Debug)]
pub struct GroupBuffer {
    bytes: Vec<u8>,
    records_count: u32,
    payload_crc: u32,
}

impl GroupBuffer {
    /// An empty group in the memory of `bytes`, whose content goes.
    pub fn in_memory_of(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(GROUP_HEADER_BYTES, 0);
        Self { bytes, records_count: 0, payload_crc: 0 }
    }

    /// Bytes on disk of a group whose payload is that long.
    pub fn bytes_on_disk(payload_bytes: usize) -> usize {
        (GROUP_HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES)
    }

    /// Bytes of the payload so far.
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len() - GROUP_HEADER_BYTES
    }

    /// Number of records so far.
    pub fn records_count(&self) -> u32 {
        self.records_count
    }

    /// Adds a record. `body_len` is its [`RecordRef::encoded_len`], which the caller has computed to find room.
    pub fn push(&mut self, record: &RecordRef<'_>, body_len: usize) {
        let start = self.bytes.len();
        let len = u32::try_from(body_len).expect("a record is smaller than a segment");
        self.bytes.extend_from_slice(&len.to_le_bytes());
        record.encode_into(&mut self.bytes);
        assert_eq!(
            self.bytes.len() - start - RECORD_LENGTH_BYTES,
            body_len,
            "encoded_len() is exact"
        );
        self.payload_crc = crc32c::crc32c_append(self.payload_crc, &self.bytes[start..]);
        self.records_count += 1;
    }

    /// Writes the header and pads with zeros to whole blocks.
    pub fn finish(mut self, place: GroupPlace) -> Vec<u8> {
        let payload_bytes =
            u32::try_from(self.payload_bytes()).expect("a group is smaller than a segment");
        let mut header = Vec::with_capacity(GROUP_HEADER_BYTES);
        header.extend_from_slice(&GROUP_MAGIC);
        header.extend_from_slice(&[0; 4]); // checksum, below
        header.extend_from_slice(&WAL_VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 2]);
        header.extend_from_slice(&self.payload_crc.to_le_bytes());
        header.extend_from_slice(&payload_bytes.to_le_bytes());
        header.extend_from_slice(&self.records_count.to_le_bytes());
        header.extend_from_slice(&place.log_id.to_le_bytes());
        header.extend_from_slice(&place.segment.to_le_bytes());
        header.extend_from_slice(&place.first_lsn.to_le_bytes());
        header.resize(GROUP_HEADER_BYTES, 0);
        let crc = crc32c::crc32c(&header[8..]);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        self.bytes[..GROUP_HEADER_BYTES].copy_from_slice(&header);
        self.bytes.resize(Self::bytes_on_disk(payload_bytes as usize), 0);
        self.bytes
    }
}

impl GroupHeader {
    /// The header at the front of `bytes`, which may be shorter than one: `None` for nothing, a torn write or damage. Another
    /// version is damage too: the segment's header names the version of all its groups, and a client's bytes may name any.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < GROUP_HEADER_BYTES || bytes[..4] != GROUP_MAGIC {
            return None;
        }
        if u32::from_le_bytes(word(bytes, 4)) != crc32c::crc32c(&bytes[8..GROUP_HEADER_BYTES]) {
            return None;
        }
        if u16::from_le_bytes(word(bytes, 8)) != WAL_VERSION {
            return None;
        }
        Some(Self {
            payload_crc: u32::from_le_bytes(word(bytes, 12)),
            payload_bytes: u32::from_le_bytes(word(bytes, 16)),
            records_count: u32::from_le_bytes(word(bytes, 20)),
            place: GroupPlace {
                log_id: u64::from_le_bytes(word(bytes, 24)),
                segment: u64::from_le_bytes(word(bytes, 32)),
                first_lsn: u64::from_le_bytes(word(bytes, 40)),
            },
        })
    }
}
