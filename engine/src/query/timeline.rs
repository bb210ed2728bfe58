//! The timeline below a flame graph of `/pyroscope/render`: a dense row of sums.

use proto::types::Series;

/// Points a timeline is meant to have; the step is the next round interval.
const POINTS: i128 = 1500;

/// Samples at most: no interval of less than a week is shortened to less than half of it.
const SAMPLES_MAX: i128 = 2 * POINTS;

/// Least step, seconds.
const STEP_SECONDS_MIN: i64 = 15;

/// Grafana's round intervals: (a calculated interval up to this many seconds, the step in seconds).
const STEPS: [(f64, i64); 18] = [
    (17.5, 15),
    (25.0, 20),
    (45.0, 30),
    (90.0, 60),
    (210.0, 120),
    (450.0, 300),
    (750.0, 600),
    (1050.0, 900),
    (1500.0, 1200),
    (2700.0, 1800),
    (5400.0, 3600),
    (9000.0, 7200),
    (16_200.0, 10_800),
    (32_400.0, 21_600),
    (86_400.0, 43_200),
    (604_800.0, 86_400),
    (1_814_400.0, 604_800),
    (3_628_800.0, 2_592_000),
];

/// A year, seconds: the step of longer ranges, or the unit of it.
const YEAR_SECONDS: i64 = 31_536_000;

/// A dense row of values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeline {
    /// Where it starts, Unix seconds, a multiple of the step.
    pub start_s: i64,
    /// Distance of samples, seconds.
    pub step_s: i64,
    /// One value a step; 0 where there is no data.
    pub samples: Vec<u64>,
}

/// The step that a range gets, seconds. Grafana's would make five times the samples of ranges of some decades, and more of
/// millennia: there it is the next that makes `SAMPLES_MAX` at most.
pub fn timeline_step_s(start_ms: i64, end_ms: i64) -> i64 {
    let range_ms = i128::from(end_ms) - i128::from(start_ms);
    let interval_s = (range_ms * 1_000_000 / POINTS) as f64 / 1e9;
    if interval_s < STEP_SECONDS_MIN as f64 {
        return STEP_SECONDS_MIN;
    }
    // Snapping the ends may add a sample.
    let fits = |step_s: i64| range_ms / (i128::from(step_s) * 1000) < SAMPLES_MAX;
    let step = STEPS.iter().find(|(up_to, step_s)| interval_s <= *up_to && fits(*step_s));
    step.map_or_else(
        || {
            let years_ms = i128::from(YEAR_SECONDS) * 1000 * (SAMPLES_MAX - 1);
            YEAR_SECONDS * (range_ms / years_ms + 1) as i64
        },
        |(_, step_s)| *step_s,
    )
}

impl Timeline {
    /// Fills a timeline; both ends of the range are snapped down to the step, and points outside are left out.
    pub fn of(series: &Series, start_ms: i64, end_ms: i64, step_s: i64) -> Self {
        assert!(step_s > 0, "a timeline advances");
        let step_ms = step_s * 1000;
        let snap = |ms: i64| ms / step_ms * step_ms;
        let (start_ms, end_ms) = (snap(start_ms), snap(end_ms));
        let steps = (i128::from(end_ms) - i128::from(start_ms)) / i128::from(step_ms);
        // The step grows with the range, so nothing is cut off unless the caller chose the step badly.
        let mut samples = vec![0_u64; steps.clamp(0, SAMPLES_MAX) as usize];
        for point in &series.points {
            let at = (point.timestamp >= start_ms)
                .then(|| (point.timestamp - start_ms) / step_ms)
                .and_then(|at| usize::try_from(at).ok());
            if let Some(sample) = at.and_then(|at| samples.get_mut(at)) {
                *sample = sample.saturating_add(point.value.max(0.0) as u64);
            }
        }
        Self { start_s: start_ms / 1000, step_s, samples }
    }
}

#[cfg(test)]
mod tests {
    use proto::types::Point;

    use super::*;

    #[test]
    fn steps_are_grafanas() {
        const DAY: i64 = 86_400_000;
        for (range_ms, step_s) in [
            (0, 15),
            (180_000, 15),
            (6 * 3_600_000, 15),
            (8 * 3_600_000, 20),
            (DAY, 60),
            (7 * DAY, 300),
            (30 * DAY, 1800),
            (365 * DAY, 21_600),
            (4 * 365 * DAY, 43_200),
        ] {
            assert_eq!(timeline_step_s(0, range_ms), step_s, "{range_ms}");
        }
    }

    #[test]
    fn gaps_are_zeros_and_ends_are_snapped() {
        let point = |timestamp, value| Point { timestamp, value, ..Point::default() };
        let series = Series {
            points: vec![
                point(60_007, 6.9),
                point(75_007, 1.0),
                point(119_999, 2.0),
                point(120_000, 4.0),
            ],
            ..Series::default()
        };
        let timeline = Timeline::of(&series, 50_007, 123_000, 15);
        assert_eq!(timeline, Timeline { start_s: 45, step_s: 15, samples: vec![0, 6, 1, 0, 2] });
        assert!(Timeline::of(&series, 10, 5, 15).samples.is_empty());
        assert_eq!(Timeline::of(&Series::default(), 0, 60_000, 15).samples, [0; 4]);
    }

    /// Rows of decades ended at 3000 samples, which left the newest days out.
    #[test]
    fn no_range_is_a_large_timeline_or_loses_its_end() {
        bolero::check!().with_type::<(i64, i64, u8)>().for_each(|(start, end, shift)| {
            let (start, end) = (start >> (shift % 64), end >> (shift % 64));
            let step_s = timeline_step_s(start, end);
            let (step_ms, samples) =
                (step_s * 1000, Timeline::of(&Series::default(), start, end, step_s).samples);
            assert!(samples.len() <= SAMPLES_MAX as usize);
            let covered =
                i128::from(start / step_ms * step_ms) + samples.len() as i128 * i128::from(step_ms);
            assert!(start > end || covered >= i128::from(end / step_ms * step_ms), "{start} {end}");
        });
        let decades = 20 * 365 * 86_400_000;
        assert_eq!(timeline_step_s(0, decades), 604_800);
    }
}
