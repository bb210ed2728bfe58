//! Sums on a time grid, by group.

use std::collections::BTreeMap;

use proto::rpc::select::{PointsPart, SelectReply};

use super::call_site::CallSite;
use super::{Needs, Presence, Row, Series, SeriesId, Sink};
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
        let distance = i128::from(time_ms) - i128::from(self.start_ms);
        let step = i128::from(self.step_ms);
        if distance <= 0 {
            // The range read begins one whole step early, its first millisecond included (as in Pyroscope).
            return (self.start_ms <= self.end_ms).then_some(self.start_ms);
        }
        let steps = distance.div_euclid(step) + i128::from(distance.rem_euclid(step) != 0);
        let point = i64::try_from(i128::from(self.start_ms) + steps * step).ok()?;
        (point <= self.end_ms).then_some(point)
    }
}

/// Adds the totals of rows up; reads stacks only for a call site.
#[derive(Debug)]
pub(super) struct Points {
    grid: Grid,
    group_by: Vec<String>,
    call_site: CallSite,
    groups: BTreeMap<Vec<(String, String)>, usize>,
    /// By group: (point, sum, profiles). Rows mostly come in the order of time, so an entry is mostly the last one's.
    points: Vec<Vec<(i64, i64, u64)>>,
    /// By series of the head being visited.
    group_of: Vec<usize>,
    entries_count: usize,
    settling: Option<Settling>,
    parts: Vec<PointsPart>,
}

/// The group whose points are being put in order.
#[derive(Debug)]
struct Settling {
    labels: Vec<(String, String)>,
    group: usize,
    merged: BTreeMap<i64, (i64, u64)>,
    ordered: Vec<(i64, i64, u64)>,
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
            points: Vec::new(),
            group_of: Vec::new(),
            entries_count: 0,
            settling: None,
            parts: Vec::new(),
        }
    }
}

impl Sink for Points {
    fn series(&mut self, id: SeriesId, series: &Series, _presence: Presence) -> bool {
        let labels: Vec<_> = self
            .group_by
            .iter()
            .filter_map(|name| Some((name.clone(), series.labels.get(name)?.to_owned())))
            .collect();
        let next = self.points.len();
        let group = *self.groups.entry(labels).or_insert(next);
        if group == next {
            self.points.push(Vec::new());
        }
        self.group_of.resize(id.0 as usize, usize::MAX); // those between are not wanted
        self.group_of.push(group);
        true
    }

    fn begin_rows(&mut self, symbols: &Symbols) -> Step {
        self.call_site.step(symbols, symbols.nodes_count())
    }

    fn row(&mut self, _symbols: &Symbols, row: &Row<'_>) -> usize {
        let Some(point) = self.grid.point_of(row.time_ns.div_euclid(1_000_000)) else { return 0 };
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
        let points = &mut self.points[self.group_of[row.series.0 as usize]];
        match points.last_mut() {
            Some(last) if last.0 == point => {
                last.1 = last.1.saturating_add(sum);
                last.2 += 1;
            }
            _ => {
                points.push((point, sum, 1));
                self.entries_count += 1;
            }
        }
        read
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
        self.call_site.bytes_held() + self.entries_count * size_of::<(i64, i64, u64)>()
    }

    /// Rows of several heads and late ones are not in order: groups are put in order one by one, and large ones piece by piece.
    fn settle(&mut self) -> Step {
        let mut left = STEP_POINTS_MAX;
        loop {
            let Some(settling) = &mut self.settling else {
                let Some((labels, group)) = self.groups.pop_first() else { return Step::Done };
                let (merged, ordered) = (BTreeMap::new(), Vec::new());
                self.settling = Some(Settling { labels, group, merged, ordered });
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
    fn step(&mut self, entries: &mut Vec<(i64, i64, u64)>, mut left: usize) -> usize {
        let from = entries.len().saturating_sub(left);
        left -= entries.len() - from;
        for (time, sum, count) in entries.drain(from..) {
            let point = self.merged.entry(time).or_default();
            *point = (point.0.saturating_add(sum), point.1 + count);
        }
        while left > 0 {
            left -= 1; // the last one pays for the group
            let Some((time, (sum, count))) = self.merged.pop_first() else { break };
            self.ordered.push((time, sum, count));
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
            // Two heads one after the other, and a third with nothing.
            let times = (0..entries).chain(entries / 2..entries);
            points.points.push(if group == 3 {
                Vec::new()
            } else {
                times.map(|time| (time, i64::MAX / 2 + 1, 1)).collect()
            });
        }
        let mut steps = 1;
        while points.settle() == Step::More {
            steps += 1;
        }
        assert!(steps > 3 * 5, "{steps} steps");
        let SelectReply::Points(parts) = Box::new(points).reply() else { unreachable!() };
        assert_eq!(parts.len(), 3, "a group without points is none");
        let once = (0..entries / 2).map(|time| (time, i64::MAX / 2 + 1, 1));
        let twice = (entries / 2..entries).map(|time| (time, i64::MAX, 2));
        let expected: Vec<_> = once.chain(twice).collect();
        assert!(parts.iter().all(|part| part.points == expected));
    }
}
