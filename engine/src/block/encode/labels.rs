//! Postings: the labels of all series of a block, sorted at its end.

use std::collections::BTreeMap;

use super::super::index::{LabelIndex, LabelRef, SeriesIndex, ValueIndex};
use crate::labels::LabelSet;
use crate::pace::Pace;

/// Names and values as they come. Until the end a value has the number of its first appearance.
#[derive(Debug, Default)]
pub(super) struct Labels {
    names: BTreeMap<String, BTreeMap<String, Value>>,
    values_count: u32,
    postings_count: usize,
}

#[derive(Debug)]
struct Value {
    number: u32,
    series: Vec<u32>,
}

impl Labels {
    /// Notes the labels of the next series; gives them with provisional numbers, to be set right by [`Labels::finish`].
    pub(super) fn add(&mut self, series: u32, labels: &LabelSet) -> Vec<LabelRef> {
        self.postings_count += labels.len();
        let refs = labels.iter().map(|(name, value)| {
            if !self.names.contains_key(name) {
                self.names.insert(name.to_owned(), BTreeMap::new());
            }
            let values = self.names.get_mut(name).expect("it was just made");
            if !values.contains_key(value) {
                let number = self.values_count;
                self.values_count += 1;
                values.insert(value.to_owned(), Value { number, series: Vec::new() });
            }
            let value = values.get_mut(value).expect("it was just made");
            value.series.push(series);
            LabelRef { name: 0, value: value.number }
        });
        refs.collect()
    }

    /// The sorted index; sets the labels of the series right.
    pub(super) async fn finish(self, series: &mut [SeriesIndex], pace: &Pace) -> Vec<LabelIndex> {
        let mut refs = vec![LabelRef { name: 0, value: 0 }; self.values_count as usize];
        let mut index = Vec::with_capacity(self.names.len());
        for (name_at, (name, values)) in (0..).zip(self.names) {
            let mut sorted = Vec::with_capacity(values.len());
            for (value_at, (value, Value { number, series })) in (0..).zip(values) {
                refs[number as usize] = LabelRef { name: name_at, value: value_at };
                sorted.push(ValueIndex { value, series });
                pace.spend(1).await;
            }
            index.push(LabelIndex { name, values: sorted });
        }
        for series in series {
            for label in &mut series.labels {
                *label = refs[label.value as usize];
            }
            pace.spend(1).await;
        }
        index
    }

    /// Heap bytes held, about.
    pub(super) fn bytes_held(&self) -> usize {
        self.postings_count * (size_of::<u32>() + size_of::<LabelRef>())
            + self.values_count as usize * 64
    }
}
