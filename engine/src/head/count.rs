//! How many series a profile has, and how many of them a head has not: asked before its record is in the log.

use std::collections::BTreeSet;

use super::{Head, SeriesId, series};
use crate::hash::HashSecret;
use crate::labels::LabelSet;

/// The series of one profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SeriesCount {
    /// Those that the head has not.
    pub new: u64,
    /// All of them: what a fresh head will have, should the head be frozen meanwhile.
    pub all: u64,
}

impl SeriesCount {
    /// Series that there are when the profile is in a head, beside the `used` ones: whether or not the heads are cut first.
    pub fn needs(self, used: u64) -> u64 {
        (used + self.new).max(self.all)
    }
}

/// The series of one profile that have been looked at, each once.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Groups that are done.
    pub(super) groups: usize,
    known: BTreeSet<SeriesId>,
    /// Hashes of labels.
    new: BTreeSet<u128>,
}

impl Counted {
    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.groups = 0;
        self.known.clear();
        self.new.clear();
    }

    /// Counts a series that the head knows by `content`, or by the labels that it takes to make one; whether it took them.
    pub(super) fn add(
        &mut self,
        head: Option<&Head>,
        content: u128,
        secret: &HashSecret,
        labels: impl FnOnce() -> LabelSet,
    ) -> bool {
        if let Some(id) = head.and_then(|head| head.series.find(content)) {
            self.known.insert(id);
            return false;
        }
        let labels = labels();
        match head.and_then(|head| head.series.find_labels(&labels, secret)) {
            Some(id) => self.known.insert(id),
            None => self.new.insert(secret.content(&series::bytes_of(&labels))),
        };
        true
    }

    pub(super) fn count(&self) -> SeriesCount {
        let new = self.new.len() as u64;
        SeriesCount { new, all: new + self.known.len() as u64 }
    }

    /// Heap bytes; the sets' nodes are two thirds full.
    pub(super) fn bytes_held(&self) -> usize {
        (self.known.len() * size_of::<SeriesId>() + self.new.len() * size_of::<u128>()) * 3 / 2
    }
}
