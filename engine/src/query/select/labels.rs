//! Names, values and sets of labels. No sample is touched; rows only where a series' times leave it open.

use std::collections::BTreeSet;

use proto::rpc::select::SelectReply;

use super::{Head, Presence, Row, Series, SeriesId, Sink};
use crate::labels::LabelSet;
use crate::profile::Step;

/// Collects what is asked of the labels of series in range.
#[derive(Debug)]
pub(super) struct Labels {
    found: Found,
    /// Series of the head being visited that may have a row in range.
    unsure: BTreeSet<SeriesId>,
}

#[derive(Debug)]
enum Found {
    /// Distinct sets, of these names only (all where there are none).
    Sets {
        names: Vec<String>,
        sets: BTreeSet<Vec<(String, String)>>,
    },
    Names(BTreeSet<String>),
    Values {
        name: String,
        values: BTreeSet<String>,
    },
}

impl Labels {
    pub(super) fn sets(names: Vec<String>) -> Self {
        Self::new(Found::Sets { names, sets: BTreeSet::new() })
    }

    pub(super) fn names() -> Self {
        Self::new(Found::Names(BTreeSet::new()))
    }

    pub(super) fn values(name: String) -> Self {
        Self::new(Found::Values { name, values: BTreeSet::new() })
    }

    fn new(found: Found) -> Self {
        Self { found, unsure: BTreeSet::new() }
    }
}

impl Found {
    /// Adds a series; copies only what is new.
    fn add(&mut self, labels: &LabelSet) {
        match self {
            Self::Sets { names, sets } => {
                let named = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
                let kept = labels.iter().filter(|(name, _)| named(name));
                let set: Vec<_> = kept.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                sets.insert(set);
            }
            Self::Names(found) => {
                for (name, _) in labels.iter() {
                    if !found.contains(name) {
                        found.insert(name.to_owned());
                    }
                }
            }
            Self::Values { name, values } => {
                if let Some(value) = labels.get(name)
                    && !values.contains(value)
                {
                    values.insert(value.to_owned());
                }
            }
        }
    }
}

impl Sink for Labels {
    fn series(&mut self, id: SeriesId, series: &Series, presence: Presence) -> bool {
        match presence {
            Presence::Sure => {
                self.found.add(&series.labels);
                false
            }
            Presence::Unsure => self.unsure.insert(id),
        }
    }

    fn row(&mut self, head: &Head, row: &Row<'_>) -> usize {
        if self.unsure.remove(&row.series) {
            self.found.add(&head.series()[row.series.0 as usize].labels);
        }
        0
    }

    fn has_enough(&self) -> bool {
        self.unsure.is_empty()
    }

    fn end_rows(&mut self, _head: &Head) -> Step {
        self.unsure.clear();
        Step::Done
    }

    fn reply(self: Box<Self>) -> SelectReply {
        match self.found {
            Found::Sets { sets, .. } => SelectReply::Series(sets.into_iter().collect()),
            Found::Names(names) => SelectReply::Names(names.into_iter().collect()),
            Found::Values { values, .. } => SelectReply::Names(values.into_iter().collect()),
        }
    }
}
