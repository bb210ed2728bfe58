//! Sums on a time grid, by group.

use std::collections::BTreeMap;

use proto::rpc::select::{PointsPart, SelectReply};

use super::call_site::CallSite;
use super::{Needs, Presence, Row, SeriesFacts, SeriesId, SeriesLabels, Sink};
use crate::profile::Step;
use crate::symbols::Symbols;

/// Points put in order in a step at most, some 50 ns each.
const STEP_POINTS_MAX: usize = 8 << 10;

/// Grid points, Unix milliseconds: the point at `t` stands for `(t - step, t]`, the first one for all before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) start_ms: i64,
    pub(super) step_ms: i64,
    /// No point lies behind this.
    pub(super) end_ms: i64,
}

impl Grid {
    /// The point that a time belongs to.
    fn point_of(self, time_ms: i64) -> Option<i64> {
        if time_ms <= self.start_ms {
            // The range read begins one whole step early, its first millisecond included (as in Pyroscope).
            return (self.start_ms <= self.end_ms).then_some(self.start_ms);
        }
        let point = self.point_behind(time_ms).unwrap_or_else(|| {
            let distance = i128::from(time_ms) - i128::from(self.start_ms);
            let steps = (distance - 1) / i128::from(self.step_ms) + 1;
            i128::from(self.start_ms) + steps * i128::from(self.step_ms)
        });
        i64::try_from(point).ok().filter(|point| *point <= self.end_ms)
    }

    /// The point of a time behind the first one, where no number on the way exceeds 64 bits: a tenth of the time of 128.
    fn point_behind(self, time_ms: i64) -> Option<i128> {
        let distance = time_ms.checked_sub(self.start_ms)?;
        let steps = (distance - 1) / self.step_ms + 1;
        Some(self.start_ms.checked_add(steps.checked_mul(self.step_ms)?)?.into())
    }
}

/// Adds the totals of rows up; reads stacks only for a call site.
#[derive(Debug)]
pub(super) struct Points {
    grid: Grid,
    group_by: Vec<String>,
    call_site: CallSite,
    groups: BTreeMap<Vec<(String, String)>, usize>,
    /// The group of the last series: most are of the same one as their neighbour.
    last: Option<(Vec<(String, String)>, usize)>,
    points: Vec<Group>,
    /// By series of the head being visited.
    group_of: Vec<usize>,
    /// The time of the last row and its point: rows of one profile come one after another.
    at: (i64, Option<i64>),
    entries_count: usize,
    settling: Option<Settling>,
    parts: Vec<PointsPart>,
}

/// (point, sum, profiles).
type Entry = (i64, i64, u64);

/// Sums of a group.
#[derive(Debug, Default)]
struct Group {
    /// By ascending point.
    points: Vec<Entry>,
    /// The one that was added to last: the next row mostly is of it or of its neighbour.
    at: usize,
    /// What would stand between others, in the order in which it came.
    late: Vec<Entry>,
}

impl Group {
    /// Adds a row; gives the number of entries that this made.
    #[inline]
    fn add(&mut self, point: i64, sum: i64) -> usize {
        let is_at = |at: usize| self.points.get(at).is_some_and(|entry| entry.0 == point);
        if !is_at(self.at) {
            if is_at(self.at + 1) {
                self.at += 1;
            } else if self.points.last().is_none_or(|last| last.0 < point) {
                self.points.push((point, sum, 1));
                self.at = self.points.len() - 1;
                return 1;
            } else if let Ok(at) = self.points.binary_search_by_key(&point, |entry| entry.0) {
                self.at = at;
            } else {
                self.late.push((point, sum, 1));
                return 1;
            }
        }
        let entry = &mut self.points[self.at];
        (entry.1, entry.2) = (entry.1.saturating_add(sum), entry.2 + 1);
        0
    }
}

/// The group whose points are being put in order.
#[derive(Debug)]
struct Settling {
    labels: Vec<(String, String)>,
    group: usize,
    /// Late entries, by point.
    merged: BTreeMap<i64, (i64, u64)>,
    /// Points of the group that are in their order, with those of the late ones that go before.
    taken: usize,
    ordered: Vec<Entry>,
}

impl Points {
    pub(super) fn new(grid: Grid, mut group_by: Vec<String>, call_site: Vec<String>) -> Self {
        group_by.sort();
        group_by.dedup();
        Self {
            grid,
            group_by,
            call_site: CallSite::new(call_site),
            groups: BTreeMap::new(),
            last: None,
            points: Vec::new(),
            group_of: Vec::new(),
            at: (i64::MIN, grid.point_of(i64::MIN.div_euclid(1_000_000))),
            entries_count: 0,
            settling: None,
            parts: Vec::new(),
        }
    }

    /// The point of a time in nanoseconds.
    #[inline]
    fn point_of(&mut self, time_ns: i64) -> Option<i64> {
        if self.at.0 != time_ns {
            self.at = (time_ns, self.grid.point_of(time_ns.div_euclid(1_000_000)));
        }
        self.at.1
    }

    fn group(&mut self, labels: SeriesLabels<'_>) -> usize {
        let pairs = || {
            let names = self.group_by.iter();
            names.filter_map(|name| Some((name.as_str(), labels.get(name)?)))
        };
        if let Some((last, group)) = &self.last
            && pairs().eq(last.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        {
            return *group;
        }
        let labels = pairs().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let labels: Vec<_> = labels.collect();
        let next = self.points.len();
        let group = *self.groups.entry(labels.clone()).or_insert(next);
        if group == next {
            self.points.push(Group::default());
        }
        self.last = Some((labels, group));
        group
    }
}

impl Sink for Points {
    fn series(&mut self, id: SeriesId, series: &SeriesFacts<'_>, _presence: Presence) -> bool {
        let group = self.group(series.labels);
        self.group_of.resize(id.0 as usize, usize::MAX); // those between are not wanted
        self.group_of.push(group);
        true
    }

    fn begin_rows(&mut self, symbols: &Symbols) -> Step {
        self.call_site.step(symbols, symbols.nodes_count())
    }

    fn row(&mut self, _symbols: &Symbols, row: &Row<'_>) -> usize {
        let Some(point) = self.point_of(row.time_ns) else { return 0 };
        let (mut sum, mut read) = (row.total, 0);
        if !self.call_site.is_everywhere() {
            sum = 0;
            read = row.for_each_sample(|node, value| {
                if self.call_site.contains(node) {
                    sum = sum.saturating_add(value);
                }
            });
            if sum == 0 {
                return read;
            }
        }
        let group = &mut self.points[self.group_of[row.series.0 as usize]];
        self.entries_count += group.add(point, sum);
        read
    }

    fn totals(&mut self, _: &Symbols, series: SeriesId, times_ns: &[i64], totals: &[i64]) {
        let group = self.group_of[series.0 as usize];
        for (time_ns, total) in times_ns.iter().zip(totals) {
            let Some(point) = self.point_of(*time_ns) else { continue };
            self.entries_count += self.points[group].add(point, *total);
        }
    }

    fn needs(&self) -> Needs {
        if self.call_site.is_everywhere() { Needs::Totals } else { Needs::Samples }
    }

    fn end_rows(&mut self, _symbols: &Symbols) -> Step {
        self.call_site.reset();
        self.group_of.clear();
        Step::Done
    }

    fn series_cost(&self) -> usize {
        4 + 2 * self.group_by.len()
    }

    fn bytes_held(&self) -> usize {
        self.call_site.bytes_held() + self.entries_count * size_of::<Entry>()
    }

    /// Late entries are put in order and between the others, piece by piece.
    fn settle(&mut self) -> Step {
        let mut left = STEP_POINTS_MAX;
        loop {
            let Some(settling) = &mut self.settling else {
                let Some((labels, group)) = self.groups.pop_first() else { return Step::Done };
                self.settling = Some(Settling {
                    labels,
                    group,
                    merged: BTreeMap::new(),
                    taken: 0,
                    ordered: Vec::new(),
                });
                continue;
            };
            left = settling.step(&mut self.points[settling.group], left);
            if left == 0 {
                return Step::More;
            }
            let Settling { labels, ordered, .. } = self.settling.take().expect("it just ended");
            if !ordered.is_empty() {
                self.parts.push(PointsPart { labels, points: ordered });
            }
        }
    }

    fn reply(self: Box<Self>) -> SelectReply {
        SelectReply::Points(self.parts)
    }
}

impl Settling {
    /// Takes at most `left` steps from entries to ordered points; gives those left, 0 unless the group is done.
    fn step(&mut self, group: &mut Group, mut left: usize) -> usize {
        let from = group.late.len().saturating_sub(left);
        left -= group.late.len() - from;
        for (time, sum, count) in group.late.drain(from..) {
            let point = self.merged.entry(time).or_default();
            *point = (point.0.saturating_add(sum), point.1 + count);
        }
        if !group.late.is_empty() {
            return 0;
        }
        while left > 0 {
            left -= 1; // the last one pays for the group
            let late = self.merged.first_key_value().map(|(point, _)| *point);
            match (group.points.get(self.taken).copied(), late) {
                (None, None) => break,
                (Some(entry), late) if late.is_none_or(|late| entry.0 < late) => {
                    self.taken += 1;
                    self.ordered.push(entry);
                }
                (entry, _) => {
                    let (point, (sum, count)) = self.merged.pop_first().expect("it was just seen");
                    let mut joined = (point, sum, count);
                    if let Some((_, sum, count)) = entry.filter(|entry| entry.0 == point) {
                        self.taken += 1;
                        joined = (point, joined.1.saturating_add(sum), joined.2 + count);
                    }
                    self.ordered.push(joined);
                }
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_stands_for_the_step_that_ends_in_it() {
        let grid = Grid { start_ms: 7, step_ms: 10, end_ms: 52 };
        let points = [-3, -2, 7, 8, 17, 18, 47, 48, 52].map(|time| grid.point_of(time));
        assert_eq!(
            points,
            [Some(7), Some(7), Some(7), Some(17), Some(17), Some(27), Some(47), None, None]
        );
        let huge = Grid { start_ms: i64::MIN, step_ms: i64::MAX, end_ms: i64::MAX };
        assert_eq!(huge.point_of(i64::MAX), None);
        assert_eq!(huge.point_of(0), Some(i64::MAX - 1), "a step goes further than 64 bits tell");
    }

    /// All points of all groups were sorted in one step: a million rows held the shard for tens of milliseconds.
    #[test]
    fn points_are_put_in_order_some_at_a_time() {
        let grid = Grid { start_ms: 0, step_ms: 1, end_ms: i64::MAX };
        let mut points = Points::new(grid, Vec::new(), Vec::new());
        let entries = 5 * STEP_POINTS_MAX as i64;
        for group in 0..4 {
            let label = ("l".to_owned(), group.to_string());
            points.groups.insert(vec![label], group);
            // Two heads one after the other, each with points that the other lacks, and a group with nothing.
            let late = (0..entries / 2).map(|time| time * 2 + 1);
            let times = (0..entries).map(|time| time * 2).chain(late).chain(entries..entries * 2);
            let mut sums = Group::default();
            if group < 3 {
                for time in times {
                    sums.add(time, i64::MAX / 2 + 1);
                }
            }
            points.points.push(sums);
        }
        let mut steps = 1;
        while points.settle() == Step::More {
            steps += 1;
        }
        assert!(steps > 3 * 5, "{steps} steps");
        let SelectReply::Points(parts) = Box::new(points).reply() else { unreachable!() };
        assert_eq!(parts.len(), 3, "a group without points is none");
        let once = (0..entries).map(|time| (time, i64::MAX / 2 + 1, 1));
        let half = (entries..entries * 2).map(|time| match time % 2 {
            0 => (time, i64::MAX, 2),
            _ => (time, i64::MAX / 2 + 1, 1),
        });
        let expected: Vec<_> = once.chain(half).collect();
        assert!(parts.iter().all(|part| part.points == expected));
    }
}
