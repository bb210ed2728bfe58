//! Rows of blocks on their way into tables that several blocks share: each content once, whatever block names it.
//!
//! Locations are found by the hash of their ids, not of their texts as an [`Interner`](super::Interner) finds them: within one table
//! equal ids are equal content, and they cost less to hash. So such tables are filled in this way alone.

use super::location_table::NewLocation;
use super::{Function, FunctionId, Line, LocationId, Mapping, MappingId, StringId, Symbols};

impl Symbols {
    /// The id of a string.
    pub(crate) fn intern_string(&mut self, text: &str) -> StringId {
        self.strings.intern(text, self.secret.content(text.as_bytes()))
    }

    /// The id of a mapping of interned strings.
    pub(crate) fn intern_mapping(&mut self, mapping: &Mapping) -> MappingId {
        self.mappings.intern(mapping, self.keys)
    }

    /// The id of a function of interned strings.
    pub(crate) fn intern_function(&mut self, function: &Function) -> FunctionId {
        self.functions.intern(function, self.keys)
    }

    /// The id of a location of an interned mapping and functions.
    pub(crate) fn intern_location(
        &mut self,
        mapping: Option<MappingId>,
        address: u64,
        is_folded: bool,
        lines: &[Line],
        scratch: &mut Vec<u8>,
    ) -> LocationId {
        scratch.clear();
        scratch.extend_from_slice(&mapping.map_or(u32::MAX, |mapping| mapping.0).to_le_bytes());
        scratch.extend_from_slice(&address.to_le_bytes());
        scratch.push(u8::from(is_folded));
        for line in lines {
            scratch.extend_from_slice(&line.function.0.to_le_bytes());
            scratch.extend_from_slice(&line.line.to_le_bytes());
        }
        let hash = self.secret.content(scratch);
        if let Some(id) = self.locations.find(hash) {
            return id;
        }
        for line in lines {
            self.locations.push_line(*line);
        }
        self.locations.push(NewLocation { mapping, address, is_folded, hash })
    }
}
