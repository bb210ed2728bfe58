//! Functions of one partition, each once, compared by the ids of their strings.

use super::column;
use super::table::Table;
use super::{Function, FunctionId, HashKeys};

/// The table.
#[derive(Debug, Default)]
pub(super) struct FunctionTable {
    rows: Vec<Row>,
    by_content: Table<u32>,
}

/// A [`Function`] without padding: the start line in two words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row([u32; 5]);

impl Row {
    fn pack(f: &Function) -> Self {
        let line = f.start_line as u64;
        Self([f.name.0, f.system_name.0, f.filename.0, line as u32, (line >> 32) as u32])
    }

    fn hash(&self, keys: HashKeys) -> u64 {
        let [name, system_name, filename, low, high] = self.0;
        keys.pair(keys.pair(keys.pair(0, name, system_name), filename, low), high, 0)
    }
}

impl FunctionTable {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, id: FunctionId) -> Function {
        let [name, system_name, filename, low, high] = self.rows[id.0 as usize].0;
        Function {
            name: super::StringId(name),
            system_name: super::StringId(system_name),
            filename: super::StringId(filename),
            start_line: (u64::from(high) << 32 | u64::from(low)) as i64,
        }
    }

    pub(super) fn intern(&mut self, function: &Function, keys: HashKeys) -> FunctionId {
        let row = Row::pack(function);
        let hash = row.hash(keys);
        if let Some(id) = self.by_content.find(hash, |id| self.rows[*id as usize] == row) {
            return FunctionId(id);
        }
        let id = self.rows.len() as u32;
        column::push(&mut self.rows, row);
        self.by_content.insert(hash, id, |id| self.rows[*id as usize].hash(keys));
        FunctionId(id)
    }

    pub(super) fn bytes_held(&self) -> usize {
        column::bytes(&self.rows) + self.by_content.bytes_held()
    }

    #[cfg(test)]
    pub(super) fn bytes_recounted(&self) -> usize {
        column::bytes(&self.rows) + self.by_content.bytes_recounted()
    }
}
