//! Mappings of one partition, each once, compared by content (their strings by id).

use super::column;
use super::table::Table;
use super::{HashKeys, Mapping, MappingId};

/// The table.
#[derive(Debug, Default)]
pub(super) struct MappingTable {
    rows: Vec<Mapping>,
    by_content: Table<u32>,
}

impl MappingTable {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, id: MappingId) -> Mapping {
        self.rows[id.0 as usize]
    }

    pub(super) fn intern(&mut self, mapping: &Mapping, keys: HashKeys) -> MappingId {
        let hash = hash(mapping, keys);
        if let Some(id) = self.by_content.find(hash, |id| self.rows[*id as usize] == *mapping) {
            return MappingId(id);
        }
        let id = self.rows.len() as u32;
        column::push(&mut self.rows, *mapping);
        self.by_content.insert(hash, id, |id| self::hash(&self.rows[*id as usize], keys));
        MappingId(id)
    }

    pub(super) fn bytes_held(&self) -> usize {
        column::bytes(&self.rows) + self.by_content.bytes_held()
    }

    #[cfg(test)]
    pub(super) fn bytes_recounted(&self) -> usize {
        column::bytes(&self.rows) + self.by_content.bytes_recounted()
    }
}

/// The flags are left out: mappings that differ only in them are few and told apart by comparing.
fn hash(m: &Mapping, keys: HashKeys) -> u64 {
    let strings = keys.pair(0, m.filename.0, m.build_id.0);
    [m.memory_start, m.memory_limit, m.file_offset]
        .into_iter()
        .fold(strings, |hash, word| keys.pair(hash, word as u32, (word >> 32) as u32))
}
