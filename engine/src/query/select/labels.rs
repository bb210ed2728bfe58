//! Names, values and sets of labels. No sample is touched; rows only where a series' times leave it open.

use std::collections::{BTreeMap, BTreeSet};

use proto::rpc::select::SelectReply;

use super::{Presence, Row, Series, SeriesId, Sink};
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
    fn add(&mut self, labels: &LabelSet) -> usize {
        let mut bytes = 0;
        match self {
            Self::Sets { names, sets, .. } => {
                let named = |name: &str| {
                    names.is_empty() || names.binary_search_by(|n| n.as_str().cmp(name)).is_ok()
                };
                let kept = labels.iter().filter(|(name, _)| named(name));
                let set: Vec<_> = kept.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                let texts = set.iter().flat_map(|(n, v)| [n.len(), v.len()]);
                let held = TEXT_BYTES + texts.map(|len| len + TEXT_BYTES).sum::<usize>();
                bytes = if sets.insert(set) { held } else { 0 };
            }
            Self::Texts { values_of: None, texts, .. } => {
                for (name, _) in labels.iter() {
                    if !texts.contains(name) {
                        texts.insert(name.to_owned());
                        bytes += name.len() + TEXT_BYTES;
                    }
                }
            }
            Self::Texts { values_of: Some(name), texts, .. } => {
                if let Some(value) = labels.get(name)
                    && !texts.contains(value)
                {
                    texts.insert(value.to_owned());
                    bytes += value.len() + TEXT_BYTES;
                }
            }
        }
        bytes
    }
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
    fn series(&mut self, id: SeriesId, series: &Series, presence: Presence) -> bool {
        match presence {
            Presence::Sure => {
                self.bytes += self.found.add(&series.labels);
                false
            }
            Presence::Unsure => self.unsure.insert(id, series.labels.clone()).is_none(),
        }
    }

    fn row(&mut self, _symbols: &Symbols, row: &Row<'_>) -> usize {
        if let Some(labels) = self.unsure.remove(&row.series) {
            self.bytes += self.found.add(&labels);
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
