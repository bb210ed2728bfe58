//! Sorting the samples of a profile by label group and node: a radix sort that can be left in the middle.
//!
//! Node ids are dense and small, so two or three passes over 11 bits order them, and one over the groups; a comparison sort
//! takes three times as long on a thousand samples (`bench/benches/stages.rs`).

use crate::profile::Step;

/// Bits of a node id that one pass looks at: 2048 counters fit the first-level cache.
const DIGIT_BITS: u32 = 11;

/// So few are sorted by comparing: counting 2048 digits would cost more.
const COMPARED_MAX: usize = 96;

/// Items a step moves or counts: about 3 ns each.
const STEP_ITEMS_MAX: usize = 1 << 17;

/// A sample with its stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Item {
    pub(super) node: u32,
    pub(super) sample: u32,
}

/// The samples of one profile and the state of sorting them.
#[derive(Debug, Default)]
pub(super) struct Sorter {
    /// What is sorted, and what is the result.
    pub(super) items: Vec<Item>,
    spare: Vec<Item>,
    counts: Vec<u32>,
    passes: Passes,
    pass: u32,
    counted: usize,
    moved: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Passes {
    of_nodes: u32,
    of_groups: u32,
    groups_count: usize,
}

impl Sorter {
    pub(super) fn clear(&mut self) {
        self.items.clear();
    }

    /// Starts sorting [`Sorter::items`]; nodes are below `nodes_count`.
    pub(super) fn begin(&mut self, nodes_count: usize, groups_count: usize) {
        let node_bits = usize::BITS - nodes_count.leading_zeros();
        self.passes = Passes {
            of_nodes: node_bits.div_ceil(DIGIT_BITS),
            of_groups: u32::from(groups_count > 1),
            groups_count,
        };
        self.pass = 0;
        self.begin_pass();
    }

    /// Sorts on; `groups` by sample.
    pub(super) fn step(&mut self, groups: &[u32]) -> Step {
        if self.items.len() <= COMPARED_MAX {
            self.items.sort_unstable_by_key(|item| (groups[item.sample as usize], item.node));
            return Step::Done;
        }
        let mut left = STEP_ITEMS_MAX;
        while self.pass < self.passes.of_nodes + self.passes.of_groups {
            if left == 0 {
                return Step::More;
            }
            left -= if self.pass < self.passes.of_nodes {
                let shift = self.pass * DIGIT_BITS;
                self.advance(left, |item| (item.node >> shift) as usize & ((1 << DIGIT_BITS) - 1))
            } else {
                self.advance(left, |item| groups[item.sample as usize] as usize)
            };
            if self.moved == self.items.len() {
                std::mem::swap(&mut self.items, &mut self.spare);
                self.pass += 1;
                self.begin_pass();
            }
        }
        Step::Done
    }

    /// Heap bytes held.
    pub(super) fn bytes_held(&self) -> usize {
        (self.items.capacity() + self.spare.capacity()) * size_of::<Item>()
            + self.counts.capacity() * size_of::<u32>()
    }

    fn begin_pass(&mut self) {
        let digits = if self.pass < self.passes.of_nodes {
            1 << DIGIT_BITS
        } else {
            self.passes.groups_count
        };
        self.counts.clear();
        self.counts.resize(digits, 0);
        self.spare.resize(self.items.len(), Item::default());
        self.counted = 0;
        self.moved = 0;
    }

    /// Counts digits, then moves items; gives how many of both.
    fn advance(&mut self, items_max: usize, digit: impl Fn(&Item) -> usize) -> usize {
        if self.counted < self.items.len() {
            let until = self.items.len().min(self.counted + items_max);
            for item in &self.items[self.counted..until] {
                self.counts[digit(item)] += 1;
            }
            let done = until - self.counted;
            self.counted = until;
            if until == self.items.len() {
                starts_of(&mut self.counts);
            }
            return done;
        }
        let until = self.items.len().min(self.moved + items_max);
        for item in &self.items[self.moved..until] {
            let start = &mut self.counts[digit(item)];
            self.spare[*start as usize] = *item;
            *start += 1;
        }
        let done = until - self.moved;
        self.moved = until;
        done
    }
}

/// From counts to the place of each digit's first item.
fn starts_of(counts: &mut [u32]) {
    let mut start = 0;
    for count in counts {
        start += std::mem::replace(count, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_ordered_by_group_then_node() {
        bolero::check!().with_type::<(Vec<(u32, u8)>, bool)>().for_each(|(pairs, few)| {
            let repeat = if *few { 1 } else { 20 };
            let groups: Vec<u32> =
                pairs.iter().cycle().take(pairs.len() * repeat).map(|p| u32::from(p.1)).collect();
            let nodes = pairs.iter().cycle().take(pairs.len() * repeat).map(|p| p.0 >> 6);
            let mut sorter = Sorter::default();
            sorter.items.extend(nodes.zip(0..).map(|(node, sample)| Item { node, sample }));
            let mut want: Vec<(u32, u32)> =
                sorter.items.iter().map(|i| (groups[i.sample as usize], i.node)).collect();
            want.sort_unstable();
            sorter.begin(1 << 26, 256);
            while sorter.step(&groups) == Step::More {}
            let got: Vec<(u32, u32)> =
                sorter.items.iter().map(|i| (groups[i.sample as usize], i.node)).collect();
            assert_eq!(got, want);
        });
    }
}
