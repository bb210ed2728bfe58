//! The numbers this shard gives to the profiles it takes in: from 1 within each partition.
//!
//! A number that was given is never given again while anything of the partition may be in a log. A partition whose profiles
//! were all refused has nothing in any log, so it is forgotten and would begin at 1 again: names that clients make up cost
//! nothing for longer than their push. Those kept are accounted.

use std::cell::RefCell;
use std::collections::BTreeMap;

use engine::tenant::PartitionKey;

use crate::budget::{Held, Kind, ShardBudget};

/// What became of a numbered profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is not in a log, and never will be.
    Refused,
    /// It is in a log, or may be.
    Kept,
}

/// Last numbers of the partitions.
#[derive(Debug)]
pub(super) struct Numbers {
    budget: ShardBudget,
    partitions: RefCell<BTreeMap<PartitionKey, Partition>>,
}

#[derive(Debug)]
struct Partition {
    last: u64,
    /// Numbered profiles whose fate is open.
    open: u64,
    any_kept: bool,
    _held: Held,
}

impl Numbers {
    pub(super) fn new(budget: ShardBudget) -> Self {
        Self { budget, partitions: RefCell::default() }
    }

    /// The next number of a partition. Its fate is told once, with [`Self::settle`].
    pub(super) fn next(&self, key: &PartitionKey) -> u64 {
        let mut partitions = self.partitions.borrow_mut();
        if !partitions.contains_key(key) {
            let bytes = size_of::<(PartitionKey, Partition)>() + key.service_name.len();
            let held = self.budget.hold_as(Kind::Tables, bytes as u64);
            let partition = Partition { last: 0, open: 0, any_kept: false, _held: held };
            partitions.insert(key.clone(), partition);
        }
        let partition = partitions.get_mut(key).expect("it is there, or was just made");
        partition.last += 1;
        partition.open += 1;
        partition.last
    }

    /// Tells the fate of a numbered profile.
    pub(super) fn settle(&self, key: &PartitionKey, fate: Fate) {
        let mut partitions = self.partitions.borrow_mut();
        let partition = partitions.get_mut(key).expect("a partition with open fates is kept");
        partition.open = partition.open.checked_sub(1).expect("each fate is told once");
        partition.any_kept |= fate == Fate::Kept;
        if partition.open == 0 && !partition.any_kept {
            partitions.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::route::ShardId;
    use engine::tenant::TenantId;

    use super::*;
    use crate::budget::Budget;

    fn key(service_name: &str) -> PartitionKey {
        PartitionKey { tenant: TenantId::anonymous(), service_name: service_name.into(), split: 0 }
    }

    /// Refused profiles of made-up services once left an entry each for good.
    #[test]
    fn a_partition_of_which_nothing_was_kept_is_forgotten() {
        let budget = Budget::new(1 << 30, 1);
        let numbers = Numbers::new(budget.of_shard(ShardId(0)));
        for service in 0..1000 {
            let key = key(&format!("made-up-{service}"));
            assert_eq!((numbers.next(&key), numbers.next(&key)), (1, 2));
            assert!(budget.accounted_bytes() > 0);
            numbers.settle(&key, Fate::Refused);
            numbers.settle(&key, Fate::Refused);
        }
        assert!(numbers.partitions.borrow().is_empty());
        assert_eq!(budget.accounted_bytes(), 0);
    }

    #[test]
    fn a_refused_profile_uses_its_number_up_where_others_were_kept() {
        let numbers = Numbers::new(Budget::new(1 << 30, 1).of_shard(ShardId(0)));
        let key = key("checkout");
        assert_eq!(numbers.next(&key), 1);
        assert_eq!(numbers.next(&key), 2);
        numbers.settle(&key, Fate::Refused);
        numbers.settle(&key, Fate::Kept);
        assert_eq!(numbers.next(&key), 3);
        numbers.settle(&key, Fate::Refused);
        assert_eq!(numbers.next(&key), 4);
    }
}
