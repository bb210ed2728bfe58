//! The sorted label set of a series.

use std::fmt;

use super::Quoted;

/// Label names and values, sorted by name, each name once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LabelSet(Vec<(String, String)>);

impl LabelSet {
    /// Sorts the pairs; of equal names the first given stays.
    pub fn from_pairs(mut pairs: Vec<(String, String)>) -> Self {
        pairs.sort_by(|a, b| a.0.cmp(&b.0)); // stable: the first of equal names comes first
        pairs.dedup_by(|later, first| later.0 == first.0);
        Self(pairs)
    }

    /// The value of a label; an absent label is `None` (matchers read it as the empty value).
    pub fn get(&self, name: &str) -> Option<&str> {
        // Of names in a row only those of the same length are looked at: a search by halves reads a few in any case.
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Sets a label, in place of an earlier value.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(at) => self.0[at].1 = value.into(),
            Err(at) => self.0.insert(at, (name.to_owned(), value.into())),
        }
    }

    /// Removes a label and gives its value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Pairs in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The pairs as a slice, sorted by name.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Gives the pairs up.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Heap bytes held, capacities included.
    pub fn bytes_held(&self) -> usize {
        self.0.capacity() * size_of::<(String, String)>()
            + self.0.iter().map(|(n, v)| n.capacity() + v.capacity()).sum::<usize>()
    }
}

/// `{a="b", c="d"}`, as error texts show it (values quoted as Go's `%q`).
impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DisplayPairs(&self.0).fmt(f)
    }
}

/// Pairs that may not be a [`LabelSet`] (a name twice), printed like one.
#[derive(Debug)]
pub struct DisplayPairs<'a>(pub &'a [(String, String)]);

impl fmt::Display for DisplayPairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={}", Quoted(value))?;
        }
        f.write_str("}")
    }
}
