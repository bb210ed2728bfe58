//! Locations of one partition with their inlined lines, found by 128-bit content hash.
//!
//! The hash stands for the content (see [`crate::hash`]): a profile's location is known or new by one look-up, without touching
//! its functions and strings.

use std::collections::BTreeMap;

use super::column;
use super::content_map::ContentMap;
use super::{FunctionId, Line, LocationId, MappingId};

/// The table.
#[derive(Debug, Default)]
pub(super) struct LocationTable {
    /// Mapping row shifted left by one, [`MAPPING_NONE`] for none; the low bit is pprof's `is_folded`.
    mappings: Vec<u32>,
    addresses: Vec<u64>,
    /// End of each location's lines; they begin where those of the row before end.
    line_ends: Vec<u32>,
    line_functions: Vec<u32>,
    line_numbers: Vec<u32>,
    /// Numbers that do not fit `line_numbers`, by row there. Nobody's source has them, but a sender may.
    line_numbers_wide: BTreeMap<u32, i64>,
    by_content: ContentMap,
}

const MAPPING_NONE: u32 = u32::MAX >> 1;

/// A location about to be stored; its lines have been pushed with [`LocationTable::push_line`].
#[derive(Clone, Copy, Debug)]
pub(super) struct NewLocation {
    pub(super) mapping: Option<MappingId>,
    pub(super) address: u64,
    pub(super) is_folded: bool,
    pub(super) hash: u128,
}

impl LocationTable {
    pub(super) fn len(&self) -> usize {
        self.mappings.len()
    }

    #[inline]
    pub(super) fn find(&self, hash: u128) -> Option<LocationId> {
        self.by_content.find(hash).map(LocationId)
    }

    pub(super) fn mapping(&self, id: LocationId) -> Option<MappingId> {
        let mapping = self.mappings[id.0 as usize] >> 1;
        (mapping != MAPPING_NONE).then_some(MappingId(mapping))
    }

    pub(super) fn is_folded(&self, id: LocationId) -> bool {
        self.mappings[id.0 as usize] & 1 == 1
    }

    pub(super) fn address(&self, id: LocationId) -> u64 {
        self.addresses[id.0 as usize]
    }

    pub(super) fn lines(&self, id: LocationId) -> impl ExactSizeIterator<Item = Line> + '_ {
        let row = id.0 as usize;
        let start = if row == 0 { 0 } else { self.line_ends[row - 1] };
        (start..self.line_ends[row]).map(|at| Line {
            function: FunctionId(self.line_functions[at as usize]),
            line: match self.line_numbers[at as usize] {
                u32::MAX => self.line_numbers_wide[&at],
                line => i64::from(line),
            },
        })
    }

    /// Adds a line of the location that the next [`LocationTable::push`] stores.
    pub(super) fn push_line(&mut self, line: Line) {
        let number = match u32::try_from(line.line) {
            Ok(number) if number != u32::MAX => number,
            _ => {
                self.line_numbers_wide.insert(self.line_functions.len() as u32, line.line);
                u32::MAX
            }
        };
        column::push(&mut self.line_functions, line.function.0);
        column::push(&mut self.line_numbers, number);
    }

    /// Stores a location that [`LocationTable::find`] did not find.
    pub(super) fn push(&mut self, new: NewLocation) -> LocationId {
        let id = self.mappings.len() as u32;
        assert!(id < 1 << 31, "a head holds fewer than 2^31 locations");
        let mapping = new.mapping.map_or(MAPPING_NONE, |mapping| mapping.0);
        column::push(&mut self.mappings, mapping << 1 | u32::from(new.is_folded));
        column::push(&mut self.addresses, new.address);
        column::push(&mut self.line_ends, self.line_functions.len() as u32);
        self.by_content.insert(new.hash, id);
        LocationId(id)
    }

    pub(super) fn bytes_held(&self) -> usize {
        column::bytes(&self.mappings)
            + column::bytes(&self.addresses)
            + column::bytes(&self.line_ends)
            + column::bytes(&self.line_functions)
            + column::bytes(&self.line_numbers)
            + self.line_numbers_wide.len() * WIDE_NUMBER_BYTES
            + self.by_content.bytes_held()
    }

    #[cfg(test)]
    pub(super) fn bytes_recounted(&self) -> usize {
        self.bytes_held() - self.by_content.bytes_held() + self.by_content.bytes_recounted()
    }
}

/// Bytes of an entry of a `BTreeMap<u32, i64>`, whose nodes are two thirds full.
const WIDE_NUMBER_BYTES: usize = 24;
