//! Sums on a time grid, by group.

use std::collections::BTreeMap;

use proto::rpc::select::{PointsPart, SelectReply};

use super::call_site::CallSite;
use super::{Needs, Presence, Row, SeriesFacts, SeriesId, SeriesLabels, Sink};
use crate::profile::Step;
use crate::symbols::Symbols;

/// Steps of the grid put in order in a step of the read at most, some ns each.
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
    /// The number of the step that a time belongs to; 0 is the first point's.
    fn step_of(self, time_ms: i64) -> Option<u64> {
        if self.end_ms < self.start_ms {
            return None;
        }
        let step_ms = self.step_ms as u64;
        let last = self.start_ms.abs_diff(self.end_ms) / step_ms;
        // The range read begins one whole step early, its first millisecond included (as in Pyroscope).
        let step = if time_ms <= self.start_ms {
            0
        } else {
            (self.start_ms.abs_diff(time_ms) - 1) / step_ms + 1
        };
        (step <= last).then_some(step)
    }

    /// The point of a step that [`Self::step_of`] gave.
    fn point_of(self, step: u64) -> i64 {
        // Wraps to what is right: the point is no later than the grid's end.
        self.start_ms.wrapping_add_unsigned(step.wrapping_mul(self.step_ms as u64))
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
    /// The time of the last row and its step: rows of one profile come one after another.
    at: (i64, Option<u64>),
    runs_count: usize,
    settling: Option<Settling>,
    parts: Vec<PointsPart>,
}

/// Steps that are kept together. More waste memory where data is sparse, fewer cost a look-up for fewer rows.
const RUN_STEPS: usize = 8;

/// What a run takes, with its place.
const RUN_BYTES: usize = size_of::<Run>() + 2 * size_of::<(u64, u32)>();

/// (sum, profiles) of steps that follow one another; a step without profiles has no point.
type Run = [(i64, u64); RUN_STEPS];

/// Sums of a group, in whatever order its rows come.
#[derive(Debug, Default)]
struct Group {
    runs: Vec<Run>,
    /// Places in `runs`, by the number of the first step over [`RUN_STEPS`].
    places: BTreeMap<u64, u32>,
    /// The run that was added to last, and its place: the next row mostly is of the same.
    at: Option<(u64, u32)>,
}

impl Group {
    /// Adds a row; gives the number of runs that this made.
    #[inline]
    fn add(&mut self, step: u64, sum: i64) -> usize {
        let (run, within) = (step / RUN_STEPS as u64, step as usize % RUN_STEPS);
        let before = self.runs.len();
        let place = match self.at {
            Some((at, place)) if at == run => place,
            _ => self.place_of(run),
        };
        let entry = &mut self.runs[place as usize][within];
        (entry.0, entry.1) = (entry.0.saturating_add(sum), entry.1 + 1);
        self.runs.len() - before
    }

    fn place_of(&mut self, run: u64) -> u32 {
        let place = *self.places.entry(run).or_insert_with(|| {
            self.runs.push(Run::default());
            u32::try_from(self.runs.len() - 1).expect("memory ends before")
        });
        self.at = Some((run, place));
        place
    }
}

/// The group whose points are being put in order.
#[derive(Debug)]
struct Settling {
    labels: Vec<(String, String)>,
    group: usize,
    /// (point, sum, profiles).
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
            last: None,
            points: Vec::new(),
            group_of: Vec::new(),
            at: (i64::MIN, grid.step_of(i64::MIN.div_euclid(1_000_000))),
            runs_count: 0,
            settling: None,
            parts: Vec::new(),
        }
    }

    /// The step of a time in nanoseconds.
    #[inline]
    fn step_of(&mut self, time_ns: i64) -> Option<u64> {
        if self.at.0 != time_ns {
            self.at = (time_ns, self.grid.step_of(time_ns.div_euclid(1_000_000)));
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
        let Some(step) = self.step_of(row.time_ns) else { return 0 };
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
        self.runs_count += group.add(step, sum);
        read
    }

    fn totals(&mut self, _: &Symbols, series: SeriesId, times_ns: &[i64], totals: &[i64]) {
        let group = self.group_of[series.0 as usize];
        for (time_ns, total) in times_ns.iter().zip(totals) {
            let Some(step) = self.step_of(*time_ns) else { continue };
            self.runs_count += self.points[group].add(step, *total);
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
        self.call_site.bytes_held() + self.runs_count * RUN_BYTES
    }

    /// Points are put in order some at a time.
    fn settle(&mut self) -> Step {
        let mut left = STEP_POINTS_MAX;
        loop {
            let Some(settling) = &mut self.settling else {
                let Some((labels, group)) = self.groups.pop_first() else { return Step::Done };
                self.settling = Some(Settling { labels, group, ordered: Vec::new() });
                continue;
            };
            left = settling.step(&mut self.points[settling.group], self.grid, left);
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
    /// Takes at most about `left` steps; gives those left, 0 unless the group is done.
    fn step(&mut self, group: &mut Group, grid: Grid, mut left: usize) -> usize {
        while left > RUN_STEPS {
            left -= RUN_STEPS; // the last ones pay for the group
            let Some((run, place)) = group.places.pop_first() else { return left };
            for (step, (sum, profiles)) in
                (run * RUN_STEPS as u64..).zip(group.runs[place as usize])
            {
                if profiles > 0 {
                    self.ordered.push((grid.point_of(step), sum, profiles));
                }
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_stands_for_the_step_that_ends_in_it() {
        let grid = Grid { start_ms: 7, step_ms: 10, end_ms: 52 };
        let point = |grid: Grid, time| grid.step_of(time).map(|step| grid.point_of(step));
        let points = [-3, -2, 7, 8, 17, 18, 47, 48, 52].map(|time| point(grid, time));
        assert_eq!(
            points,
            [Some(7), Some(7), Some(7), Some(17), Some(17), Some(27), Some(47), None, None]
        );
        let huge = Grid { start_ms: i64::MIN, step_ms: i64::MAX, end_ms: i64::MAX };
        assert_eq!(point(huge, i64::MAX), None);
        assert_eq!(point(huge, 0), Some(i64::MAX - 1), "a step goes further than 64 bits tell");
        let fine = Grid { start_ms: i64::MIN, step_ms: 1, end_ms: i64::MAX };
        assert_eq!(point(fine, i64::MAX), Some(i64::MAX));
        let none = Grid { start_ms: 8, step_ms: 1, end_ms: 7 };
        assert_eq!(point(none, 7), None, "an empty grid has no first point");
    }

    /// All points of all groups were sorted in one step: a million rows held the shard for tens of milliseconds.
    /// Later, rows of short series made points that had to be sorted in between: half the time of a read from a block.
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
                    sums.add(time as u64, i64::MAX / 2 + 1);
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
