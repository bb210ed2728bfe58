//! Groups of points: merged, ordered, cut to the greatest.

use std::collections::BTreeMap;

use proto::rpc::select::PointsPart;
use proto::types::{LabelPair, Point, Series};

use crate::pace::{Pace, sort};

/// What a point tells of the profiles in its step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Aggregation {
    /// The sum of their values.
    #[default]
    Sum,
    /// The mean of their values, profile by profile.
    Average,
}

/// (sum of values, number of profiles) by time.
type Points = BTreeMap<i64, (i64, u64)>;

/// Groups of several shards, by labels.
#[derive(Debug, Default)]
pub struct TimeSeries {
    groups: BTreeMap<Vec<(String, String)>, Points>,
}

impl TimeSeries {
    /// Adds a part.
    pub async fn merge(&mut self, parts: Vec<PointsPart>, pace: &Pace) {
        for part in parts {
            let group = self.groups.entry(part.labels).or_default();
            for (time_ms, sum, count) in part.points {
                let point = group.entry(time_ms).or_default();
                *point = (point.0.saturating_add(sum), point.1 + count);
                pace.spend(2).await;
            }
        }
    }

    /// All groups, the one with the greatest sum of points first, equal ones by labels; at most `limit` (below 1: all).
    pub async fn finish(self, aggregation: Aggregation, limit: i64, pace: &Pace) -> Vec<Series> {
        let mut ranked = Vec::with_capacity(self.groups.len());
        for (labels, group) in self.groups {
            let mut points = Vec::with_capacity(group.len());
            for (timestamp, (sum, count)) in group {
                let value = match aggregation {
                    Aggregation::Sum => sum as f64,
                    Aggregation::Average => sum as f64 / count.max(1) as f64,
                };
                points.push(Point { value, timestamp, ..Point::default() });
                pace.spend(1).await;
            }
            let weight: f64 = points.iter().map(|point| point.value).sum();
            let labels =
                labels.into_iter().map(|(name, value)| LabelPair { name, value }).collect();
            ranked.push((weight, Series { labels, points }));
        }
        let mut order: Vec<u32> = (0..ranked.len() as u32).collect();
        // Groups come in the order of their labels and the sort is stable.
        let by_weight = |a: u32, b: u32| ranked[b as usize].0.total_cmp(&ranked[a as usize].0);
        sort(&mut order, pace, by_weight).await;
        if let Some(limit) = usize::try_from(limit).ok().filter(|limit| *limit > 0) {
            order.truncate(limit);
        }
        let mut answer = Vec::with_capacity(order.len());
        for row in order {
            answer.push(std::mem::take(&mut ranked[row as usize].1));
            pace.spend(1).await;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::run;

    fn part(label: &str, points: &[(i64, i64, u64)]) -> PointsPart {
        PointsPart { labels: vec![("l".to_owned(), label.to_owned())], points: points.to_vec() }
    }

    fn told(series: &[Series]) -> Vec<(&str, Vec<(i64, f64)>)> {
        series
            .iter()
            .map(|s| {
                let points = s.points.iter().map(|p| (p.timestamp, p.value)).collect();
                (s.labels[0].value.as_str(), points)
            })
            .collect()
    }

    fn merged(aggregation: Aggregation, limit: i64) -> Vec<Series> {
        run(async {
            let pace = Pace::new();
            let mut series = TimeSeries::default();
            series.merge(vec![part("b", &[(15, 10, 1)]), part("a", &[(30, 4, 2)])], &pace).await;
            series
                .merge(vec![part("c", &[(15, 8, 8)]), part("a", &[(15, 2, 1), (30, 4, 1)])], &pace)
                .await;
            series.finish(aggregation, limit, &pace).await
        })
    }

    #[test]
    fn the_greatest_sum_comes_first_and_equal_ones_by_label() {
        assert_eq!(
            told(&merged(Aggregation::Sum, 0)),
            [("a", vec![(15, 2.0), (30, 8.0)]), ("b", vec![(15, 10.0)]), ("c", vec![(15, 8.0)])]
        );
        assert_eq!(told(&merged(Aggregation::Sum, 1)), [("a", vec![(15, 2.0), (30, 8.0)])]);
    }

    #[test]
    fn an_average_is_one_of_profiles_not_of_shards() {
        assert_eq!(
            told(&merged(Aggregation::Average, -1)),
            [
                ("b", vec![(15, 10.0)]),
                ("a", vec![(15, 2.0), (30, 8.0 / 3.0)]),
                ("c", vec![(15, 1.0)])
            ]
        );
    }
}
