//! One record: a profile as received, who sent it, its exact identity, and the decisions of its admission.
//!
//! The body's layout is in `docs/format/wal.md`. A record has no checksum of its own: the group's covers it, and a group is
//! believed or refused whole.

use std::sync::Arc;

use bytes::Bytes;

use super::admission::{admission_len, put_admission, read_admission};
use super::field::{Cursor, put_text, put_varint, text_len, varint_len};
use crate::profile::{Admission, PIPELINE_VERSION};
use crate::tenant::{PartitionKey, TenantId};

/// First byte of the body of a record that holds a profile.
const KIND_PROFILE: u8 = 1;

/// What the writer is given; nothing is copied before it is encoded.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Whose: tenant, service, split.
    pub partition: &'a PartitionKey,
    /// Run (a ULID) of the distributor shard that took the profile in.
    pub origin: u128,
    /// From 1 within (origin, partition).
    pub seq: u64,
    /// When it was received, Unix milliseconds.
    pub receive_time_ms: i64,
    /// What was decided of it.
    pub admission: &'a Admission,
    /// The profile's bytes as received.
    pub profile: &'a [u8],
}

/// A record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose: tenant, service, split.
    pub partition: PartitionKey,
    /// Run (a ULID) of the distributor shard that took the profile in.
    pub origin: u128,
    /// From 1 within (origin, partition).
    pub seq: u64,
    /// When it was received, Unix milliseconds.
    pub receive_time_ms: i64,
    /// What was decided of it.
    pub admission: Admission,
    /// The profile's bytes as received; a part of the body's buffer, not a copy.
    pub profile: Bytes,
}

/// Why bytes are no record's body. The group's checksum has been verified before, so this is damage of the writer's making.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A kind that this version does not know.
    #[error("record kind is {0}, expected {KIND_PROFILE}")]
    Kind(u8),
    /// The body ends inside a field.
    #[error("record ends inside {field} at byte {at} ({left} bytes left)")]
    Short {
        /// What was being read.
        field: &'static str,
        /// Offset of the field in the body.
        at: usize,
        /// Bytes from there to the end.
        left: usize,
    },
    /// A number that does not fit its field.
    #[error("{field} at byte {at} is no number of its width")]
    Varint {
        /// What was being read.
        field: &'static str,
        /// Offset of the field in the body.
        at: usize,
    },
    /// A text that isn't UTF-8.
    #[error("{field} at byte {at} is not UTF-8")]
    Utf8 {
        /// What was being read.
        field: &'static str,
        /// Offset of the text in the body.
        at: usize,
    },
    /// Its decisions were made by rules that this program does not know: a newer version left the log.
    #[error(
        "pipeline version is {found}, this program knows {PIPELINE_VERSION} at most: a newer version left the log"
    )]
    Pipeline {
        /// The version it names.
        found: u16,
    },
    /// Labels out of order, an outcome that isn't one, …
    #[error("{field} at byte {at} breaks a rule of its encoding")]
    Invalid {
        /// What was being read.
        field: &'static str,
        /// Offset of the field in the body.
        at: usize,
    },
}

/// As much of a record as routing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRoute<'a> {
    /// Tenant id.
    pub tenant: &'a str,
    /// Value of `service_name`.
    pub service_name: &'a str,
    /// 0 unless the service is spread over shards.
    pub split: u32,
}

impl RecordRef<'_> {
    /// Bytes of the body, exactly.
    pub fn encoded_len(&self) -> usize {
        1 + text_len(self.partition.tenant.as_str())
            + text_len(&self.partition.service_name)
            + varint_len(self.partition.split.into())
            + size_of::<u128>()
            + size_of::<u64>()
            + size_of::<i64>()
            + admission_len(self.admission)
            + self.profile.len()
    }

    /// Appends the body.
    pub fn encode_into(&self, into: &mut Vec<u8>) {
        into.push(KIND_PROFILE);
        put_text(into, self.partition.tenant.as_str());
        put_text(into, &self.partition.service_name);
        put_varint(into, self.partition.split.into());
        into.extend_from_slice(&self.origin.to_le_bytes());
        into.extend_from_slice(&self.seq.to_le_bytes());
        into.extend_from_slice(&self.receive_time_ms.to_le_bytes());
        put_admission(into, self.admission);
        into.extend_from_slice(self.profile);
    }
}

impl<'a> RecordRoute<'a> {
    /// Reads the front of a body.
    pub fn of(body: &'a [u8]) -> Result<Self, RecordError> {
        Self::read(&mut Cursor::new(body))
    }

    fn read(cursor: &mut Cursor<'a>) -> Result<Self, RecordError> {
        let [kind] = cursor.array("record kind")?;
        if kind != KIND_PROFILE {
            return Err(RecordError::Kind(kind));
        }
        Ok(Self {
            tenant: cursor.text("tenant")?,
            service_name: cursor.text("service_name")?,
            split: cursor.varint_u32("split")?,
        })
    }
}

impl Record {
    /// Reads a body back.
    pub fn decode(body: &Bytes) -> Result<Self, RecordError> {
        let mut cursor = Cursor::new(body);
        let route = RecordRoute::read(&mut cursor)?;
        let tenant = TenantId::parse(route.tenant)
            .map_err(|_| RecordError::Invalid { field: "tenant", at: 1 })?;
        let partition = PartitionKey {
            tenant,
            service_name: Arc::from(route.service_name),
            split: route.split,
        };
        let origin = u128::from_le_bytes(cursor.array("origin")?);
        let seq = u64::from_le_bytes(cursor.array("seq")?);
        let receive_time_ms = i64::from_le_bytes(cursor.array("receive_time_ms")?);
        let admission = read_admission(&mut cursor)?;
        let profile = body.slice(cursor.at()..);
        Ok(Self { partition, origin, seq, receive_time_ms, admission, profile })
    }

    /// The record as the writer takes it.
    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            partition: &self.partition,
            origin: self.origin,
            seq: self.seq,
            receive_time_ms: self.receive_time_ms,
            admission: &self.admission,
            profile: &self.profile,
        }
    }
}

#[cfg(test)]
mod tests;
