//! A pprof message written as its names arrive: each frame is a function with a location of its own.
//!
//! Protobuf leaves the order of fields free, so strings, functions and locations go straight into the message; nothing is kept
//! beside it but the dictionary of frames.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::map_bytes;
use super::wire::{put_bytes, put_number};
use crate::varint;

/// Field numbers of `google.v1.Profile`.
#[rustfmt::skip]
pub(super) mod field {
    pub(crate) const SAMPLE_TYPE: u64 = 1;
    pub(crate) const SAMPLE: u64 = 2;
    pub(crate) const MAPPING: u64 = 3;
    pub(crate) const LOCATION: u64 = 4;
    pub(crate) const FUNCTION: u64 = 5;
    pub(crate) const STRING_TABLE: u64 = 6;
    pub(crate) const TIME_NANOS: u64 = 9;
    pub(crate) const PERIOD_TYPE: u64 = 11;
    pub(crate) const PERIOD: u64 = 12;
}

/// The one mapping: empty, as there is no binary.
const MAPPING_ID: u64 = 1;

/// What a profile says beside its samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// Sample type and unit.
    pub sample_type: (&'static str, &'static str),
    /// Period in nanoseconds of CPU time, for samples taken at a rate.
    pub period_ns: Option<u64>,
    /// Unix nanoseconds.
    pub time_ns: i64,
}

/// Writes one profile of one sample type.
#[derive(Debug)]
pub(super) struct PprofWriter {
    message: Vec<u8>,
    strings_count: u64,
    /// Location (and function) id by frame name. A sorted map: no choice of names makes it slow.
    frames: BTreeMap<Bytes, u64>,
    scratch: Vec<u8>,
}

impl PprofWriter {
    /// Begins with everything but samples.
    pub(super) fn new(header: Header) -> Self {
        let mut writer = Self {
            message: Vec::new(),
            strings_count: 0,
            frames: BTreeMap::new(),
            scratch: Vec::new(),
        };
        writer.string(b"");
        writer.value_type(field::SAMPLE_TYPE, header.sample_type);
        put_bytes(&mut writer.message, field::MAPPING, &[1 << 3, MAPPING_ID as u8]);
        put_number(&mut writer.message, field::TIME_NANOS, header.time_ns as u64);
        if let Some(period_ns) = header.period_ns {
            writer.value_type(field::PERIOD_TYPE, ("cpu", "nanoseconds"));
            put_number(&mut writer.message, field::PERIOD, period_ns);
        }
        writer
    }

    /// Heap bytes held: the message and the dictionary, whose keys are slices of the text.
    pub(super) fn bytes_held(&self) -> usize {
        self.message.capacity() + map_bytes(&self.frames)
    }

    /// Bytes written.
    pub(super) fn len(&self) -> usize {
        self.message.len()
    }

    /// Location id of a frame.
    pub(super) fn frame(&mut self, name: &Bytes) -> u64 {
        if let Some(id) = self.frames.get(name) {
            return *id;
        }
        let id = self.frames.len() as u64 + 1;
        let name_row = self.string(name);
        let mut nested = std::mem::take(&mut self.scratch);
        nested.clear();
        put_number(&mut nested, 1, id);
        put_number(&mut nested, 2, name_row);
        put_number(&mut nested, 3, name_row); // the system name: the same
        put_bytes(&mut self.message, field::FUNCTION, &nested);
        nested.clear();
        put_number(&mut nested, 1, id);
        put_number(&mut nested, 2, MAPPING_ID);
        let mut line = Vec::with_capacity(11);
        put_number(&mut line, 1, id);
        put_bytes(&mut nested, 4, &line);
        put_bytes(&mut self.message, field::LOCATION, &nested);
        self.scratch = nested;
        self.frames.insert(name.clone(), id);
        id
    }

    /// A sample: location ids, encoded leaf first, and its value.
    pub(super) fn sample(&mut self, location_ids: &[u8], value: i64) {
        let mut nested = std::mem::take(&mut self.scratch);
        nested.clear();
        put_bytes(&mut nested, 1, location_ids);
        varint::put(&mut nested, 2 << 3);
        varint::put(&mut nested, value as u64);
        put_bytes(&mut self.message, field::SAMPLE, &nested);
        self.scratch = nested;
    }

    /// The message.
    pub(super) fn finish(self) -> Bytes {
        self.message.into()
    }

    fn string(&mut self, text: &[u8]) -> u64 {
        put_bytes(&mut self.message, field::STRING_TABLE, text);
        self.strings_count += 1;
        self.strings_count - 1
    }

    fn value_type(&mut self, number: u64, (kind, unit): (&str, &str)) {
        let (kind, unit) = (self.string(kind.as_bytes()), self.string(unit.as_bytes()));
        let mut nested = Vec::with_capacity(8);
        put_number(&mut nested, 1, kind);
        put_number(&mut nested, 2, unit);
        put_bytes(&mut self.message, number, &nested);
    }
}
