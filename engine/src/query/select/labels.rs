//! Names, values and sets of labels. No sample is touched; rows only where a series' times leave it open.

use std::collections::{BTreeMap, BTreeSet};

use proto::rpc::select::SelectReply;

use super::{Presence, Row, SeriesFacts, SeriesId, SeriesLabels, Sink, Texts};
use crate::labels::LabelSet;
use crate::profile::Step;
use crate::symbols::Symbols;

/// Names, values or sets put in order in a step at most, some 100 ns each.
const STEP_FOUND_MAX: usize = 4 << 10;

/// Heap bytes of a text in a collection, beside its own: its header, and what the collection adds.
const TEXT_BYTES: usize = 40;

/// Collects what is asked of the labels of series in range.
#[derive(Debug)]
pub(super) struct Labels {
    found: Found,
    /// Series of the head being visited that may have a row in range, with their labels.
    unsure: BTreeMap<SeriesId, LabelSet>,
    bytes: usize,
}

#[derive(Debug)]
enum Found {
    /// Distinct sets, of these names only (all where there are none).
    Sets {
        /// Sorted.
        names: Vec<String>,
        sets: BTreeSet<Vec<(String, String)>>,
        ordered: Vec<Vec<(String, String)>>,
    },
    /// Distinct names, or distinct values of one label.
    Texts { values_of: Option<String>, texts: BTreeSet<String>, ordered: Vec<String> },
}

impl Labels {
    pub(super) fn sets(mut names: Vec<String>) -> Self {
        names.sort();
        Self::new(Found::Sets { names, sets: BTreeSet::new(), ordered: Vec::new() })
    }

    pub(super) fn names() -> Self {
        Self::texts(None)
    }

    pub(super) fn values(name: String) -> Self {
        Self::texts(Some(name))
    }

    fn texts(values_of: Option<String>) -> Self {
        Self::new(Found::Texts { values_of, texts: BTreeSet::new(), ordered: Vec::new() })
    }

    fn new(found: Found) -> Self {
        Self { found, unsure: BTreeMap::new(), bytes: 0 }
    }
}

impl Found {
    /// Adds a series; copies only what is new. Gives the heap bytes added.
    fn add(&mut self, labels: SeriesLabels<'_>) -> usize {
        let mut bytes = 0;
        match self {
            Self::Sets { names, sets, .. } => {
                let named = |name: &str| {
                    names.is_empty() || names.binary_search_by(|n| n.as_str().cmp(name)).is_ok()
                };
                let mut set = Vec::new();
                labels.for_each(|name, value| {
                    if named(name) {
                        set.push((name.to_owned(), value.to_owned()));
                    }
                });
                let texts = set.iter().flat_map(|(n, v)| [n.len(), v.len()]);
                let held = TEXT_BYTES + texts.map(|len| len + TEXT_BYTES).sum::<usize>();
                bytes = if sets.insert(set) { held } else { 0 };
            }
            Self::Texts { values_of: None, texts, .. } => {
                labels.for_each(|name, _| bytes += add_text(texts, name));
            }
            Self::Texts { values_of: Some(name), texts, .. } => {
                bytes += labels.get(name).map_or(0, |value| add_text(texts, value));
            }
        }
        bytes
    }
}

/// Adds a text that is new; gives the heap bytes added.
fn add_text(texts: &mut BTreeSet<String>, text: &str) -> usize {
    if texts.contains(text) {
        return 0;
    }
    texts.insert(text.to_owned());
    text.len() + TEXT_BYTES
}

/// Moves the least elements behind those that are there.
fn put_in_order<T: Ord>(from: &mut BTreeSet<T>, into: &mut Vec<T>) -> Step {
    for _ in 0..STEP_FOUND_MAX {
        match from.pop_first() {
            Some(least) => into.push(least),
            None => return Step::Done,
        }
    }
    Step::More
}

impl Sink for Labels {
    fn series(&mut self, id: SeriesId, series: &SeriesFacts<'_>, presence: Presence) -> bool {
        match presence {
            Presence::Sure => {
                self.bytes += self.found.add(series.labels);
                false
            }
            Presence::Unsure => self.unsure.insert(id, series.labels.to_set()).is_none(),
        }
    }

    fn texts(&self) -> Option<Texts> {
        match &self.found {
            Found::Sets { .. } => None,
            Found::Texts { values_of: None, .. } => Some(Texts::Names),
            Found::Texts { values_of: Some(name), .. } => Some(Texts::ValuesOf(name.clone())),
        }
    }

    fn has_text(&self, text: &str) -> bool {
        matches!(&self.found, Found::Texts { texts, .. } if texts.contains(text))
    }

    fn add_text(&mut self, text: &str) {
        let Found::Texts { texts, .. } = &mut self.found else {
            unreachable!("texts are told where they are asked for")
        };
        self.bytes += add_text(texts, text);
    }

    fn row(&mut self, _symbols: &Symbols, row: &Row<'_>) -> usize {
        if let Some(labels) = self.unsure.remove(&row.series) {
            self.bytes += self.found.add(SeriesLabels::Set(&labels));
        }
        0
    }

    fn has_enough(&self) -> bool {
        self.unsure.is_empty()
    }

    fn end_rows(&mut self, _symbols: &Symbols) -> Step {
        self.unsure.clear();
        Step::Done
    }

    fn series_cost(&self) -> usize {
        match self.found {
            Found::Sets { .. } => 64, // a look-up of every label, and two copies of those asked for
            Found::Texts { .. } => 16,
        }
    }

    fn bytes_held(&self) -> usize {
        self.bytes
    }

    fn settle(&mut self) -> Step {
        match &mut self.found {
            Found::Sets { sets, ordered, .. } => put_in_order(sets, ordered),
            Found::Texts { texts, ordered, .. } => put_in_order(texts, ordered),
        }
    }

    fn reply(self: Box<Self>) -> SelectReply {
        match self.found {
            Found::Sets { ordered, .. } => SelectReply::Series(ordered),
            Found::Texts { ordered, .. } => SelectReply::Names(ordered),
        }
    }
}
