//! The order in which Go's `slices.SortFunc` leaves elements that compare alike.
//!
//! Pyroscope groups stacks with an unstable sort and lends from whichever stack of a group comes first, so the frames it adds
//! depend on that sort's every swap. Answers that agree with Pyroscope's need the same order: pattern-defeating quicksort with
//! Go's constants, its deterministic shuffle, and a comparison that is no total order (short stacks are less than everything).
//! Held to Go itself by the tests. `O(n log n)` in comparisons of two numbers; no allocation.

/// What an element is ordered by; [`SHORT`] for one that is less than everything, another short one included.
pub(super) type Rank = u32;

/// See [`Rank`].
pub(super) const SHORT: Rank = Rank::MAX;

/// Ranges of at most this length are sorted by insertion.
const INSERTION_MAX: usize = 12;
/// Ranges of at least this length get a pivot from nine elements.
const NINTHER_MIN: usize = 50;
/// Swaps of a nine-element pivot search over a descending range.
const PIVOT_SWAPS_MAX: u32 = 12;
/// Out-of-order pairs that a range taken for sorted may have.
const REPAIRS_MAX: usize = 5;
/// Ranges shorter than this are not repaired.
const REPAIR_MIN: usize = 50;

/// Sorts `rows` by `rank` as Go would.
pub(super) fn sort(rows: &mut [u32], rank: &[Rank]) {
    let limit = usize::BITS - rows.len().leading_zeros();
    let end = rows.len();
    Sort { rows, rank }.range(0, end, limit);
}

struct Sort<'a> {
    rows: &'a mut [u32],
    rank: &'a [Rank],
}

#[derive(PartialEq, Eq)]
enum Hint {
    Increasing,
    Decreasing,
    Unknown,
}

impl Sort<'_> {
    fn less(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.rank[self.rows[a] as usize], self.rank[self.rows[b] as usize]);
        a == SHORT || (b != SHORT && a < b)
    }

    fn range(&mut self, mut from: usize, mut to: usize, mut limit: u32) {
        let (mut balanced, mut partitioned) = (true, true);
        loop {
            let len = to - from;
            if len <= INSERTION_MAX {
                return self.insertion(from, to);
            }
            if limit == 0 {
                return self.heap(from, to);
            }
            if !balanced {
                self.shuffle(from, to);
                limit -= 1;
            }
            let (mut pivot, mut hint) = self.choose_pivot(from, to);
            if hint == Hint::Decreasing {
                self.rows[from..to].reverse();
                pivot = (to - 1) - (pivot - from);
                hint = Hint::Increasing;
            }
            if balanced && partitioned && hint == Hint::Increasing && self.repair(from, to) {
                return;
            }
            if from > 0 && !self.less(from - 1, pivot) {
                from = self.partition_equal(from, to, pivot);
                continue;
            }
            let (middle, was_partitioned) = self.partition(from, to, pivot);
            partitioned = was_partitioned;
            let (left, right) = (middle - from, to - middle);
            if left < right {
                balanced = left >= len / 8;
                self.range(from, middle, limit);
                from = middle + 1;
            } else {
                balanced = right >= len / 8;
                self.range(middle + 1, to, limit);
                to = middle;
            }
        }
    }

    fn insertion(&mut self, from: usize, to: usize) {
        for end in from + 1..to {
            let mut at = end;
            while at > from && self.less(at, at - 1) {
                self.rows.swap(at, at - 1);
                at -= 1;
            }
        }
    }

    fn heap(&mut self, from: usize, to: usize) {
        let len = to - from;
        for root in (0..=(len - 1) / 2).rev() {
            self.sift_down(root, len, from);
        }
        for end in (0..len).rev() {
            self.rows.swap(from, from + end);
            self.sift_down(0, end, from);
        }
    }

    fn sift_down(&mut self, mut root: usize, len: usize, first: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= len {
                return;
            }
            if child + 1 < len && self.less(first + child, first + child + 1) {
                child += 1;
            }
            if !self.less(first + root, first + child) {
                return;
            }
            self.rows.swap(first + root, first + child);
            root = child;
        }
    }

    /// Moves three elements near the middle, by a generator seeded with the length.
    fn shuffle(&mut self, from: usize, to: usize) {
        let len = to - from;
        let mut random = len as u64;
        let modulus = 1_usize << (usize::BITS - len.leading_zeros());
        let middle = from + (len / 4) * 2 - 1;
        for offset in 0..3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut other = random as usize & (modulus - 1);
            if other >= len {
                other -= len;
            }
            self.rows.swap(middle + offset, from + other);
        }
    }

    fn choose_pivot(&self, from: usize, to: usize) -> (usize, Hint) {
        let quarter = (to - from) / 4;
        let mut swaps = 0;
        let mut thirds = [from + quarter, from + quarter * 2, from + quarter * 3];
        if to - from >= NINTHER_MIN {
            for third in &mut thirds {
                *third = self.median([*third - 1, *third, *third + 1], &mut swaps);
            }
        }
        let pivot = self.median(thirds, &mut swaps);
        let hint = match swaps {
            0 => Hint::Increasing,
            PIVOT_SWAPS_MAX => Hint::Decreasing,
            _ => Hint::Unknown,
        };
        (pivot, hint)
    }

    fn median(&self, [mut a, mut b, mut c]: [usize; 3], swaps: &mut u32) -> usize {
        let mut order = |x: &mut usize, y: &mut usize| {
            if self.less(*y, *x) {
                std::mem::swap(x, y);
                *swaps += 1;
            }
        };
        order(&mut a, &mut b);
        order(&mut b, &mut c);
        order(&mut a, &mut b);
        b
    }

    /// Sorts a range that is nearly sorted, or gives up.
    fn repair(&mut self, from: usize, to: usize) -> bool {
        let mut at = from + 1;
        for _ in 0..REPAIRS_MAX {
            while at < to && !self.less(at, at - 1) {
                at += 1;
            }
            if at == to {
                return true;
            }
            if to - from < REPAIR_MIN {
                return false;
            }
            self.rows.swap(at, at - 1);
            if at - from >= 2 {
                let mut left = at - 1;
                while left >= 1 && self.less(left, left - 1) {
                    self.rows.swap(left, left - 1);
                    left -= 1;
                }
            }
            if to - at >= 2 {
                let mut right = at + 1;
                while right < to && self.less(right, right - 1) {
                    self.rows.swap(right, right - 1);
                    right += 1;
                }
            }
        }
        false
    }

    /// Elements less than the pivot first; gives the pivot's place and whether nothing had to move.
    fn partition(&mut self, from: usize, to: usize, pivot: usize) -> (usize, bool) {
        self.rows.swap(from, pivot);
        let (mut low, mut high) = (from + 1, to - 1);
        let mut moved = false;
        loop {
            while low <= high && self.less(low, from) {
                low += 1;
            }
            while low <= high && !self.less(high, from) {
                high -= 1;
            }
            if low > high {
                self.rows.swap(high, from);
                return (high, !moved);
            }
            self.rows.swap(low, high);
            moved = true;
            low += 1;
            high -= 1;
        }
    }

    /// Elements equal to the pivot first; gives where the others begin.
    fn partition_equal(&mut self, from: usize, to: usize, pivot: usize) -> usize {
        self.rows.swap(from, pivot);
        let (mut low, mut high) = (from + 1, to - 1);
        loop {
            while low <= high && !self.less(from, low) {
                low += 1;
            }
            while low <= high && self.less(from, high) {
                high -= 1;
            }
            if low > high {
                return low;
            }
            self.rows.swap(low, high);
            low += 1;
            high -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of (place × row) over the order Go 1.26 gave, for ranks made by the same generator: `slices.SortFunc` with a
    /// comparison that says −1 when the first is short, 1 when only the second is, else compares the ranks.
    #[test]
    fn the_order_is_gos() {
        for (len, kinds, short_of_16, want) in GO {
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            let rank: Vec<Rank> = (0..*len)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    if random % 16 < *short_of_16 { SHORT } else { (random >> 8) as u32 % kinds }
                })
                .collect();
            let mut rows: Vec<u32> = (0..*len).collect();
            sort(&mut rows, &rank);
            let sum =
                rows.iter().zip(1_u64..).map(|(row, place)| u64::from(*row) * place).sum::<u64>();
            assert_eq!(sum, *want, "{len} elements of {kinds} kinds, {short_of_16} of 16 short");
        }
    }

    const GO: &[(u32, u32, u64, u64)] = &[
        (5, 3, 0, 34),
        (12, 4, 4, 466),
        (13, 4, 4, 567),
        (40, 7, 0, 16_506),
        (49, 5, 8, 30_464),
        (50, 5, 8, 32_954),
        (100, 9, 4, 242_042),
        (647, 75, 10, 66_847_022),
        (647, 75, 0, 68_854_394),
        (3000, 20, 8, 6_799_344_481),
        (3000, 100_000, 0, 6_794_587_739),
        (16_000, 200, 12, 1_009_518_985_806),
        (16_000, 3, 1, 1_023_203_915_805),
        (5000, 2, 15, 30_441_387_101),
    ];
}
