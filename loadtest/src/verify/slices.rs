//! Pushes of one target in order of time, in pieces that one question can answer.

use super::query::Range;
use crate::journal::Record;

/// Pushes of a slice: as many stacks as they have of their own are in memory at a time.
const PUSHES_MAX: usize = 500;

/// Length of a slice; servers refuse questions about more than a day.
const LENGTH_MS_MAX: i64 = 12 * 3_600_000;

/// Milliseconds without a push in which two slices part. A profile's time has nanoseconds, ranges have milliseconds and ends that
/// some count to both sides: no push is near the boundary.
const GAP_MS: i64 = 3;

/// Pushes whose times lie in a range, and no others of their target.
#[derive(Debug)]
pub(super) struct Slice<'a> {
    /// No push has its first or last millisecond.
    pub(super) range: Range,
    /// In order of time.
    pub(super) records: &'a [Record],
}

/// Cuts a target's pushes, sorted by time, where there are gaps: more pushes than [`PUSHES_MAX`] stay together without one.
pub(super) fn slices(records: &[Record]) -> Vec<Slice<'_>> {
    let ms = |record: &Record| record.time_ns.div_euclid(1_000_000);
    let mut slices = Vec::new();
    let mut from = 0;
    for at in 1..=records.len() {
        let is_cut = records.get(at).is_none_or(|next| {
            let is_full = at - from >= PUSHES_MAX || ms(next) - ms(&records[from]) > LENGTH_MS_MAX;
            is_full && ms(next) - ms(&records[at - 1]) > GAP_MS
        });
        if is_cut {
            let range =
                Range { start_ms: ms(&records[from]) - 1, end_ms: ms(&records[at - 1]) + 2 };
            slices.push(Slice { range, records: &records[from..at] });
            from = at;
        }
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    fn records(times_ms: impl Iterator<Item = i64>) -> Vec<Record> {
        let record = |(number, ms)| Record {
            number: number as u64,
            time_ns: ms * 1_000_000 + 999_999,
            outcome: Outcome::Accepted,
        };
        times_ms.enumerate().map(record).collect()
    }

    #[test]
    fn slices_hold_all_pushes_and_part_in_gaps() {
        let records = records((0..2_000).map(|i| i * 15_000));
        let slices = slices(&records);
        assert_eq!(slices.iter().map(|slice| slice.records.len()).sum::<usize>(), 2_000);
        assert_eq!(slices.len(), 4);
        for pair in slices.windows(2) {
            assert!(pair[0].range.end_ms < pair[1].range.start_ms);
        }
        for Slice { range, records } in slices {
            for record in records {
                assert!(range.start_ms * 1_000_000 < record.time_ns);
                assert!(record.time_ns < range.end_ms * 1_000_000);
            }
        }
    }

    #[test]
    fn a_day_is_cut_although_it_has_few_pushes() {
        assert_eq!(slices(&records((0..3).map(|i| i * 86_400_000))).len(), 3);
    }

    #[test]
    fn without_gaps_there_is_one_slice() {
        assert_eq!(slices(&records((0..2_000).map(|i| i * 2))).len(), 1);
    }
}
