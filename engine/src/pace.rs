//! Long passes that give others a turn: an `async fn` whose only await is [`Pace::spend`].
//!
//! A merge of trees has many inner loops; as hand-written `step` machines they would be unreadable, and as plain functions
//! they would hold a shard for longer than 2 ms. So the compiler writes the machine. Nothing here needs a runtime: a pass asks
//! for no wake-up but the one it gives itself, so any executor drives it, and [`run`] drives it to its end at once.
//! A pass must not borrow shared state across a turn (the scans of heads are therefore `step` machines over `&Heads`).

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Work between two turns. A unit is one look-up or one node, 20–100 ns, so a stretch is well below a millisecond.
const UNITS_PER_TURN: usize = 8192;

/// Work that may be done between two turns: what is spent at once is at most another stretch.
pub const STRETCH_UNITS_MAX: usize = 2 * UNITS_PER_TURN;

/// The same for passes whose units are dear: memory that is touched first, and compressing.
const UNITS_PER_SHORT_TURN: usize = UNITS_PER_TURN / 2;

/// Numbers that are written or made in the time of a unit.
const NUMBERS_PER_UNIT: usize = 64;

/// Counts work and pauses when a stretch is used up.
#[derive(Debug)]
pub struct Pace {
    units_per_turn: usize,
    used: Cell<usize>,
    longest: Cell<usize>,
}

impl Pace {
    /// A pace at the start of a stretch.
    pub fn new() -> Self {
        Self::of(UNITS_PER_TURN)
    }

    /// One of short stretches.
    pub fn short() -> Self {
        Self::of(UNITS_PER_SHORT_TURN)
    }

    fn of(units_per_turn: usize) -> Self {
        Self { units_per_turn, used: Cell::new(0), longest: Cell::new(0) }
    }

    /// Ends the stretch where so much more would make it too long. Such work is accounted for when it is done.
    pub async fn make_room(&self, units: usize) {
        if self.used.get() > 0 && self.used.get() + units > self.units_per_turn {
            self.turn().await;
        }
    }

    /// Accounts for work just done, or about to be done.
    pub async fn spend(&self, units: usize) {
        let used = self.used.get() + units;
        self.used.set(used);
        if used >= self.units_per_turn {
            self.turn().await;
        }
    }

    /// Units of the longest stretch between two turns so far.
    pub fn longest_stretch(&self) -> usize {
        self.longest.get().max(self.used.get())
    }

    /// Gives others a turn, whatever was used up: behind a step that is a stretch by itself.
    pub async fn turn(&self) {
        self.longest.set(self.longest_stretch());
        self.used.set(0);
        let mut paused = false;
        poll_fn(|context| {
            if paused {
                return Poll::Ready(());
            }
            paused = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// A list of one value, made in stretches: memory that is touched first costs more than what is done with it.
pub async fn filled(value: u32, count: usize, pace: &Pace) -> Vec<u32> {
    list(std::iter::repeat_n(value, count), pace).await
}

/// The numbers from 0 on, made in stretches.
pub async fn numbers(count: usize, pace: &Pace) -> Vec<u32> {
    list(0..count as u32, pace).await
}

async fn list(mut values: impl ExactSizeIterator<Item = u32>, pace: &Pace) -> Vec<u32> {
    let count = values.len();
    let mut list = Vec::with_capacity(count);
    while list.len() < count {
        let before = list.len();
        list.extend(values.by_ref().take(UNITS_PER_TURN * NUMBERS_PER_UNIT / 8));
        pace.spend((list.len() - before) / NUMBERS_PER_UNIT).await;
    }
    list
}

/// Sorts rows by merging, so that no stretch is longer than the pace allows.
pub async fn sort<T: Copy>(
    rows: &mut Vec<T>,
    pace: &Pace,
    less: impl FnMut(T, T) -> std::cmp::Ordering,
) {
    merge_sort(rows, pace, SortCost { run: 256, run_units: 1024, row_units: 1 }, less).await;
}

/// The same where a comparison reads texts that the rows stand for, at other places of the memory each.
pub async fn sort_texts<T: Copy>(
    rows: &mut Vec<T>,
    pace: &Pace,
    less: impl FnMut(T, T) -> std::cmp::Ordering,
) {
    merge_sort(rows, pace, SortCost { run: 64, run_units: 2048, row_units: 5 }, less).await;
}

/// What sorting takes; a row of a run has about as many comparisons as its length has bits.
struct SortCost {
    /// Rows sorted in one go.
    run: usize,
    /// Units of that.
    run_units: usize,
    /// Units of merging a row.
    row_units: usize,
}

async fn merge_sort<T: Copy>(
    rows: &mut Vec<T>,
    pace: &Pace,
    cost: SortCost,
    mut less: impl FnMut(T, T) -> std::cmp::Ordering,
) {
    for run in rows.chunks_mut(cost.run) {
        run.sort_by(|a, b| less(*a, *b));
        pace.spend(cost.run_units).await;
    }
    let mut merged = Vec::with_capacity(rows.len());
    let mut width = cost.run;
    while width < rows.len() {
        for pair in rows.chunks(width * 2) {
            let (mut a, mut b) = pair.split_at(width.min(pair.len()));
            while let ([first, rest_a @ ..], [second, rest_b @ ..]) = (a, b) {
                if less(*second, *first).is_lt() {
                    merged.push(*second);
                    b = rest_b;
                } else {
                    merged.push(*first);
                    a = rest_a;
                }
                pace.spend(cost.row_units).await;
            }
            merged.extend_from_slice(a);
            merged.extend_from_slice(b);
        }
        std::mem::swap(rows, &mut merged);
        merged.clear();
        width *= 2;
    }
}

/// Drives a pass to its end without pausing, where nobody waits for a turn: tests and benches.
pub fn run<T>(pass: impl Future<Output = T>) -> T {
    let mut pass = pin!(pass);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = pass.as_mut().poll(&mut context) {
            return value;
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_pauses_once_a_stretch_and_no_more() {
        let mut pauses = 0;
        let pace = Pace::new();
        let mut pass = pin!(async {
            for _ in 0..UNITS_PER_TURN * 3 {
                pace.spend(1).await;
            }
        });
        let mut context = Context::from_waker(Waker::noop());
        while pass.as_mut().poll(&mut context).is_pending() {
            pauses += 1;
        }
        assert_eq!(pauses, 3);
    }

    #[test]
    fn room_is_made_before_work_that_would_not_fit() {
        let pace = Pace::short();
        run(async {
            for units in [UNITS_PER_SHORT_TURN - 1, UNITS_PER_SHORT_TURN, 3, UNITS_PER_SHORT_TURN] {
                pace.make_room(units).await;
                pace.spend(units).await;
            }
        });
        assert_eq!(pace.longest_stretch(), UNITS_PER_SHORT_TURN);
    }

    #[test]
    fn sorting_in_turns_is_sorting() {
        bolero::check!().with_type::<(Vec<u32>, u16)>().for_each(|(seed, repeat)| {
            let mut rows: Vec<u32> = seed
                .iter()
                .flat_map(|v| (0..u32::from(repeat % 64)).map(move |i| v.wrapping_mul(i | 1)))
                .collect();
            let mut expected = rows.clone();
            expected.sort_unstable();
            let mut texts = rows.clone();
            run(sort(&mut rows, &Pace::new(), |a, b| a.cmp(&b)));
            assert_eq!(rows, expected);
            run(sort_texts(&mut texts, &Pace::new(), |a, b| a.cmp(&b)));
            assert_eq!(texts, expected);
        });
    }
}
