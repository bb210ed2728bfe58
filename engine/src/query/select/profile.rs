//! Location trees with all their symbols, one of each head, and one of each table that blocks share.

use proto::rpc::select::{ProfilePart, SelectReply};

use super::call_site::CallSite;
use super::sums::Sums;
use super::{Needs, Presence, Row, SeriesFacts, SeriesId, Sink};
use crate::profile::Step;
use crate::symbols::{NodeId, PartExport, Symbols};

/// Nodes filtered in a step at most, some nanoseconds each.
const STEP_NODES_MAX: usize = 128 << 10;

/// Sums values by node of one table of symbols, then takes out what they need of its symbols.
#[derive(Debug)]
pub(super) struct Profiles {
    call_site: CallSite,
    sums: Sums,
    filtered: usize,
    export: Option<PartExport>,
    /// Whether a row of what is being visited was read: no row and no value are told apart by who asks.
    has_rows: bool,
    parts: Vec<ProfilePart>,
    /// Nodes of all parts.
    part_nodes: usize,
}

impl Profiles {
    pub(super) fn new(call_site: Vec<String>) -> Self {
        Self {
            call_site: CallSite::new(call_site),
            sums: Sums::default(),
            filtered: 0,
            export: None,
            has_rows: false,
            parts: Vec::new(),
            part_nodes: 0,
        }
    }
}

impl Sink for Profiles {
    fn series(&mut self, _id: SeriesId, _series: &SeriesFacts<'_>, _presence: Presence) -> bool {
        true
    }

    fn begin_rows(&mut self, symbols: &Symbols) -> Step {
        self.sums.make_room(symbols);
        Step::Done
    }

    fn row(&mut self, _symbols: &Symbols, row: &Row<'_>) -> usize {
        self.has_rows = true;
        row.add_samples(&mut self.sums.values)
    }

    fn needs(&self) -> Needs {
        Needs::Sums
    }

    fn put_aside(&mut self, table: u64) -> bool {
        self.sums.put_aside(table);
        self.has_rows = false;
        true
    }

    fn take_up(&mut self, table: u64) {
        self.has_rows = self.sums.take_up(table);
    }

    fn end_rows(&mut self, symbols: &Symbols) -> Step {
        let Some(export) = &mut self.export else {
            let values = &mut self.sums.values;
            if self.call_site.step(symbols, values.len()) == Step::More {
                return Step::More;
            }
            let count = if self.call_site.is_everywhere() { 0 } else { values.len() };
            let until = count.min(self.filtered + STEP_NODES_MAX);
            for (node, value) in (self.filtered..until).zip(&mut values[self.filtered..until]) {
                if !self.call_site.contains(NodeId(node as u32)) {
                    *value = 0;
                }
            }
            self.filtered = until;
            if until == count {
                self.export = Some(PartExport::new(symbols, std::mem::take(values)));
            }
            return Step::More;
        };
        if export.step(symbols) == Step::More {
            return Step::More;
        }
        let part = self.export.take().expect("it was just stepped").finish();
        if std::mem::take(&mut self.has_rows) {
            self.part_nodes += part.parents.len();
            self.parts.push(part);
        }
        self.call_site.reset();
        self.filtered = 0;
        Step::Done
    }

    fn bytes_held(&self) -> usize {
        // A part has three columns of its nodes, and symbols of about their size; so has one that is being taken out.
        let exporting = self.export.as_ref().map_or(0, PartExport::nodes_count);
        (self.sums.bytes_held() + self.call_site.bytes_held())
            + (exporting + self.part_nodes) * 2 * (4 + 4 + 8)
    }

    fn reply(self: Box<Self>) -> SelectReply {
        SelectReply::Profile(self.parts)
    }
}
