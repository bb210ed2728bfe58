//! Exact identities of profiles, and sets of them: what makes recovery and publishing repeat nothing.
//!
//! A profile is (origin, seq) within its partition: the run of the distributor's shard that took it in, and its number there.
//! Numbers are given one by one, so what a head or a block holds of an origin is a handful of intervals, however many profiles
//! that are; duplicates are found by comparing intervals, never profiles.
//!
//! Not here: who gives the numbers (`net`'s distributor); what is done with a profile that is there already (recovery).

/// Which profile: exact within its partition, kept through retries inside the system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// Run (a ULID) of the distributor shard that took the profile in.
    pub origin: u128,
    /// From 1 within (origin, partition).
    pub seq: u64,
}

/// A set of identities of one partition: by origin, ascending, intervals of sequence numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identities {
    by_origin: Vec<(u128, Intervals)>,
}

impl Identities {
    /// Adds one; `false` when it was there.
    pub fn insert(&mut self, identity: Identity) -> bool {
        match self.place(identity.origin) {
            Ok(at) => self.by_origin[at].1.insert(identity.seq),
            Err(at) => {
                self.by_origin.insert(at, (identity.origin, Intervals::default()));
                self.by_origin[at].1.insert(identity.seq)
            }
        }
    }

    /// Adds the numbers `first..=last` of an origin.
    pub fn insert_interval(&mut self, origin: u128, first: u64, last: u64) {
        assert!(first <= last, "an interval ends where it begins or behind");
        let at = self.place(origin).unwrap_or_else(|at| {
            self.by_origin.insert(at, (origin, Intervals::default()));
            at
        });
        self.by_origin[at].1.insert_interval(first, last);
    }

    /// Whether one is there.
    pub fn contains(&self, identity: Identity) -> bool {
        let place = self.place(identity.origin);
        place.is_ok_and(|at| self.by_origin[at].1.contains(identity.seq))
    }

    /// Origins ascending, each with its intervals: both ends included, ascending, with a gap between any two.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u128, &[(u64, u64)])> {
        self.by_origin.iter().map(|(origin, intervals)| (*origin, &*intervals.0))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_origin.is_empty()
    }

    /// Heap bytes held, unused capacity included.
    pub fn bytes_held(&self) -> usize {
        self.by_origin.capacity() * size_of::<(u128, Intervals)>()
            + self.by_origin.iter().map(|(_, i)| i.0.capacity() * 16).sum::<usize>()
    }

    fn place(&self, origin: u128) -> Result<usize, usize> {
        // Mostly the last run's, and there are as many as shards ran.
        self.by_origin.binary_search_by_key(&origin, |(origin, _)| *origin)
    }
}

/// Ascending intervals, both ends included, never adjacent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Intervals(Vec<(u64, u64)>);

impl Intervals {
    fn contains(&self, number: u64) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= number);
        behind > 0 && number <= self.0[behind - 1].1
    }

    /// Numbers come nearly in order, so this mostly moves the end of the last interval.
    fn insert(&mut self, number: u64) -> bool {
        if let Some(last) = self.0.last_mut()
            && last.1.checked_add(1) == Some(number)
        {
            last.1 = number;
            return true;
        }
        if self.contains(number) {
            return false;
        }
        self.insert_interval(number, number);
        true
    }

    fn insert_interval(&mut self, first: u64, last: u64) {
        // All that overlap or touch become one.
        let from = self.0.partition_point(|(_, l)| l.saturating_add(1) < first);
        let until = self.0.partition_point(|(f, _)| *f <= last.saturating_add(1));
        if from >= until {
            self.0.insert(from, (first, last));
            return;
        }
        self.0[from] = (first.min(self.0[from].0), last.max(self.0[until - 1].1));
        self.0.drain(from + 1..until);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_in_order_are_one_interval_and_a_hole_is_filled_later() {
        let mut set = Identities::default();
        for seq in [1, 2, 3, 5, 6, 9] {
            assert!(set.insert(Identity { origin: 7, seq }));
        }
        assert!(!set.insert(Identity { origin: 7, seq: 2 }), "it is there");
        assert_eq!(set.iter().collect::<Vec<_>>(), [(7, &[(1, 3), (5, 6), (9, 9)][..])]);
        assert!(set.insert(Identity { origin: 7, seq: 4 }));
        assert_eq!(set.iter().collect::<Vec<_>>(), [(7, &[(1, 6), (9, 9)][..])]);
        assert!(!set.contains(Identity { origin: 8, seq: 4 }), "of another origin");
    }

    #[test]
    fn the_greatest_numbers_do_not_overflow() {
        let mut set = Identities::default();
        for seq in [u64::MAX, 0, u64::MAX - 1] {
            assert!(set.insert(Identity { origin: 1, seq }));
        }
        assert!(!set.insert(Identity { origin: 1, seq: u64::MAX }));
        let whole = [(1, &[(0, 0), (u64::MAX - 1, u64::MAX)][..])];
        assert_eq!(set.iter().collect::<Vec<_>>(), whole);
    }

    #[test]
    fn a_set_of_intervals_is_the_set_of_its_numbers() {
        bolero::check!().with_type::<Vec<(bool, u8, u8)>>().for_each(|inserts| {
            let (mut set, mut oracle) = (Identities::default(), BTreeSet::new());
            for (alone, first, more) in inserts {
                let first = u64::from(*first);
                if *alone {
                    let is_new = oracle.insert(first);
                    assert_eq!(set.insert(Identity { origin: 3, seq: first }), is_new);
                } else {
                    let last = first + u64::from(more % 16);
                    set.insert_interval(3, first, last);
                    oracle.extend(first..=last);
                }
            }
            let intervals: Vec<_> = set.iter().flat_map(|(_, i)| i.iter().copied()).collect();
            let kept: Vec<_> = intervals.iter().flat_map(|(first, last)| *first..=*last).collect();
            assert_eq!(kept, oracle.iter().copied().collect::<Vec<_>>());
            assert!(intervals.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{intervals:?}");
            for seq in 0..300 {
                assert_eq!(set.contains(Identity { origin: 3, seq }), oracle.contains(&seq));
            }
        });
    }
}
