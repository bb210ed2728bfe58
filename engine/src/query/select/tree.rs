//! A tree over function names: the location trees of heads and blocks, projected.

use proto::rpc::select::SelectReply;

use super::call_site::CallSite;
use super::sums::Sums;
use super::{Needs, Presence, Row, SeriesFacts, SeriesId, Sink};
use crate::flamegraph::{NO_PARENT, Tree};
use crate::hash::HashSecret;
use crate::profile::Step;
use crate::symbols::{LocationId, NodeId, StringId, Symbols};

/// Nodes marked in a step at most, some nanoseconds each.
const STEP_MARKS_MAX: usize = 128 << 10;

/// Nodes projected in a step at most: a look-up in a hash table for each line, some 50 ns.
const STEP_NODES_MAX: usize = 8 << 10;

/// Not known yet.
const UNKNOWN: u32 = u32::MAX - 1;

/// Sums values by location node of one table of symbols, then adds what has data to one tree.
#[derive(Debug)]
pub(super) struct FunctionTree {
    tree: Tree,
    call_site: CallSite,
    sums: Sums,
    /// By node: its node in the tree, while projecting; before that, whether anything below it has data.
    projected: Vec<u32>,
    /// Nodes left to mark, from the last on.
    to_mark: usize,
    /// Nodes projected.
    done: usize,
    /// By string: its name's number in the tree.
    names: Vec<u32>,
}

impl FunctionTree {
    pub(super) fn new(secret: &HashSecret, call_site: Vec<String>) -> Self {
        Self {
            tree: Tree::new(secret),
            call_site: CallSite::new(call_site),
            sums: Sums::default(),
            projected: Vec::new(),
            to_mark: 0,
            done: 0,
            names: Vec::new(),
        }
    }

    /// Marks nodes with data and their callers, from the leaves up: a parent has a smaller id, so one pass closes the set.
    fn mark(&mut self, symbols: &Symbols) {
        let (parents, _) = symbols.tree_columns();
        let from = self.to_mark.saturating_sub(STEP_MARKS_MAX);
        for node in (from..self.to_mark).rev() {
            if !self.call_site.contains(NodeId(node as u32)) {
                self.sums.values[node] = 0;
            }
            if self.sums.values[node] != 0 || self.projected[node] == UNKNOWN {
                self.projected[node] = UNKNOWN;
                if let Some(parent) = self.projected.get_mut(parents[node] as usize) {
                    *parent = UNKNOWN;
                }
            }
        }
        self.to_mark = from;
    }

    fn project(&mut self, symbols: &Symbols) {
        let (parents, locations) = symbols.tree_columns();
        let until = self.sums.values.len().min(self.done + STEP_NODES_MAX);
        for node in self.done..until {
            if self.projected[node] != UNKNOWN {
                continue;
            }
            if node == NodeId::ROOT.0 as usize {
                // The empty stack has no frame to draw; its values are in totals, as in Pyroscope, not in trees.
                self.projected[node] = NO_PARENT;
                continue;
            }
            let parent = self.projected[parents[node] as usize];
            let drawn = self.descend(symbols, parent, LocationId(locations[node]));
            self.projected[node] = drawn;
            if self.sums.values[node] != 0 {
                self.tree.add(drawn, self.sums.values[node]);
            }
        }
        self.done = until;
    }

    /// The node of a location's innermost line below `parent`.
    fn descend(&mut self, symbols: &Symbols, parent: u32, location: LocationId) -> u32 {
        let lines = symbols.lines(location);
        if lines.len() == 0 {
            let name = self.tree.name(&address_name(symbols, location));
            return self.tree.child(parent, name);
        }
        let mut node = parent;
        let functions: Vec<_> = lines.map(|line| line.function).collect();
        for function in functions.into_iter().rev() {
            let name = self.name_of(symbols, symbols.function(function).name);
            node = self.tree.child(node, name);
        }
        node
    }

    fn name_of(&mut self, symbols: &Symbols, text: StringId) -> u32 {
        let at = text.0 as usize;
        if at >= self.names.len() {
            self.names.resize(symbols.strings_count(), UNKNOWN);
        }
        if self.names[at] == UNKNOWN {
            self.names[at] = self.tree.name(symbols.string(text));
        }
        self.names[at]
    }
}

/// What a location without a function is called: `binary!0xaddress`, as Pyroscope calls what it cannot symbolise.
fn address_name(symbols: &Symbols, location: LocationId) -> String {
    let mapping = symbols.mapping_of(location).map(|mapping| symbols.mapping(mapping).filename);
    let file = mapping.map_or("", |file| symbols.string(file));
    let binary =
        file.rsplit(['/', '\\']).next().filter(|name| !name.is_empty()).unwrap_or("unknown");
    format!("{binary}!{:#x}", symbols.address_of(location))
}

impl Sink for FunctionTree {
    fn series(&mut self, _id: SeriesId, _series: &SeriesFacts<'_>, _presence: Presence) -> bool {
        true
    }

    fn begin_rows(&mut self, symbols: &Symbols) -> Step {
        self.sums.make_room(symbols);
        Step::Done
    }

    fn row(&mut self, _symbols: &Symbols, row: &Row<'_>) -> usize {
        row.add_samples(&mut self.sums.values)
    }

    fn needs(&self) -> Needs {
        Needs::Sums
    }

    fn put_aside(&mut self, table: u64) -> bool {
        self.sums.put_aside(table);
        true
    }

    fn take_up(&mut self, table: u64) {
        self.sums.take_up(table);
    }

    fn end_rows(&mut self, symbols: &Symbols) -> Step {
        if self.call_site.step(symbols, self.sums.values.len()) == Step::More {
            return Step::More;
        }
        if self.projected.is_empty() {
            self.projected = vec![0; self.sums.values.len()];
            (self.to_mark, self.done) = (self.sums.values.len(), 0);
        }
        if self.to_mark > 0 {
            self.mark(symbols);
            return Step::More;
        }
        if self.done < self.sums.values.len() {
            self.project(symbols);
            return Step::More;
        }
        self.call_site.reset();
        self.sums.values = Vec::new();
        self.projected = Vec::new();
        self.names = Vec::new();
        Step::Done
    }

    fn bytes_held(&self) -> usize {
        self.sums.bytes_held()
            + self.projected.len() * size_of::<u32>()
            + self.call_site.bytes_held()
            + self.tree.bytes_held()
    }

    fn reply(self: Box<Self>) -> SelectReply {
        SelectReply::Tree(self.tree.into_part())
    }
}
