//! What a read may ask for: its time range and its number of nodes, with the texts clients know.

use std::fmt::Write;

use crate::limits::Limits;

/// Milliseconds that reads without a range cover: clients rely on profile types being answered without one.
const RANGE_DEFAULT_MS: i64 = 3_600_000;

/// A range in Unix milliseconds, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First millisecond.
    pub start_ms: i64,
    /// Last millisecond.
    pub end_ms: i64,
}

/// Why a request is refused; the texts are Pyroscope's.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// An end of the range is 0.
    #[error("missing time range in the query")]
    MissingRange,
    /// The range ends before it starts.
    #[error("query start time is after end time")]
    Backwards,
    /// Longer than `max_query_length`.
    #[error(
        "the query time range exceeds the limit (max_query_length, actual: {}, limit: {})",
        go_duration(*actual_ms),
        limit_duration(*limit_ms)
    )]
    TooLong {
        /// Length asked for, milliseconds.
        actual_ms: i64,
        /// The limit, milliseconds.
        limit_ms: i64,
    },
    /// More nodes than `max_flamegraph_nodes_max`.
    #[error("max flamegraph nodes limit {asked} is greater than allowed {limit}")]
    TooManyNodes {
        /// Nodes asked for.
        asked: i64,
        /// The limit.
        limit: i64,
    },
    /// "No limit" asked for where there must be one.
    #[error("max flamegraph nodes limit must be set (max allowed {limit})")]
    UnlimitedNodes {
        /// The limit.
        limit: i64,
    },
    /// A step below a millisecond.
    #[error("step must be >= 1ms")]
    Step,
}

impl Range {
    /// The range to read: cut to `max_query_lookback`, `None` when it lies before that altogether.
    pub fn checked(
        start_ms: i64,
        end_ms: i64,
        limits: &Limits,
        now_ms: i64,
    ) -> Result<Option<Self>, RequestError> {
        if start_ms == 0 || end_ms == 0 {
            return Err(RequestError::MissingRange);
        }
        if start_ms > end_ms {
            return Err(RequestError::Backwards);
        }
        let mut start_ms = start_ms;
        if limits.max_query_lookback_ms > 0 {
            let oldest_ms = now_ms.saturating_sub(limits.max_query_lookback_ms);
            if end_ms < oldest_ms {
                return Ok(None);
            }
            start_ms = start_ms.max(oldest_ms);
        }
        let actual_ms = end_ms.saturating_sub(start_ms);
        let limit_ms = limits.max_query_length_ms;
        if limit_ms > 0 && actual_ms > limit_ms {
            return Err(RequestError::TooLong { actual_ms, limit_ms });
        }
        Ok(Some(Self { start_ms, end_ms }))
    }

    /// The same, where 0 to 0 stands for the last hour.
    pub fn checked_or_last_hour(
        start_ms: i64,
        end_ms: i64,
        limits: &Limits,
        now_ms: i64,
    ) -> Result<Option<Self>, RequestError> {
        if (start_ms, end_ms) == (0, 0) {
            return Self::checked(now_ms.saturating_sub(RANGE_DEFAULT_MS), now_ms, limits, now_ms);
        }
        Self::checked(start_ms, end_ms, limits, now_ms)
    }
}

/// How many nodes a flame graph gets; 0 stands for the default.
pub fn flame_graph_nodes(asked: i64, limits: &Limits) -> Result<i64, RequestError> {
    let limit = limits.max_flamegraph_nodes_max;
    match asked {
        0 => Ok(limits.max_flamegraph_nodes_default),
        _ if limit == 0 => Ok(asked),
        _ if asked > limit => Err(RequestError::TooManyNodes { asked, limit }),
        _ if asked < 0 => Err(RequestError::UnlimitedNodes { limit }),
        _ => Ok(asked),
    }
}

/// A step in milliseconds, of one given in seconds.
pub fn step_ms(seconds: f64) -> Result<i64, RequestError> {
    // Also refuses NaN. What exceeds an i64 is cut to its greatest value: one step that covers everything.
    if seconds >= 0.001 { Ok(nanoseconds(seconds) / 1_000_000) } else { Err(RequestError::Step) }
}

/// Through nanoseconds, as Go's durations go: 0.015 s is 15 ms although 0.015 × 1000 is a little less.
fn nanoseconds(seconds: f64) -> i64 {
    ((seconds * 1e9) as i64).max(1_000_000)
}

/// `72h15m0s`: Go's `time.Duration`.
fn go_duration(ms: i64) -> String {
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let mut text = String::new();
    if hours != 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours != 0 || minutes != 0 {
        let _ = write!(text, "{minutes}m");
    }
    let (seconds, rest) = (ms % 60_000 / 1000, ms % 1000);
    match rest {
        0 => write!(text, "{seconds}s"),
        _ if text.is_empty() && seconds == 0 => write!(text, "{rest}ms"),
        _ => write!(text, "{}s", format!("{seconds}.{rest:03}").trim_end_matches('0')),
    }
    .expect("writing to a string does not fail");
    text
}

/// `1d`, `1h30m`: Prometheus' durations. Weeks and days only where they divide evenly.
fn limit_duration(ms: i64) -> String {
    let mut text = String::new();
    let mut rest = ms;
    for (unit, unit_ms, must_divide) in [
        ("y", 31_536_000_000, true),
        ("w", 604_800_000, true),
        ("d", 86_400_000, true),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1000, false),
        ("ms", 1, false),
    ] {
        if rest >= unit_ms && (!must_divide || rest % unit_ms == 0) {
            let _ = write!(text, "{}{unit}", rest / unit_ms);
            rest %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn checked(start_ms: i64, end_ms: i64) -> Result<Option<(i64, i64)>, String> {
        Range::checked(start_ms, end_ms, &Limits::default(), NOW)
            .map(|range| range.map(|r| (r.start_ms, r.end_ms)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn bad_ranges_are_refused_with_pyroscopes_words() {
        assert_eq!(checked(0, NOW).unwrap_err(), "missing time range in the query");
        assert_eq!(checked(NOW, NOW - 1).unwrap_err(), "query start time is after end time");
        assert_eq!(
            checked(NOW - 72 * HOUR, NOW + HOUR / 4).unwrap_err(),
            "the query time range exceeds the limit (max_query_length, actual: 72h15m0s, limit: 1d)"
        );
        assert_eq!(checked(NOW - HOUR, NOW), Ok(Some((NOW - HOUR, NOW))));
    }

    #[test]
    fn what_lies_before_the_lookback_is_empty_and_what_begins_there_is_cut() {
        let oldest = NOW - 7 * 24 * HOUR;
        assert_eq!(checked(oldest - 2 * HOUR, oldest - 1), Ok(None));
        assert_eq!(checked(oldest - 2 * HOUR, oldest + HOUR), Ok(Some((oldest, oldest + HOUR))));
        let none = Limits { max_query_lookback_ms: 0, max_query_length_ms: 0, ..Limits::default() };
        let all = Range::checked(1, i64::MAX, &none, NOW).unwrap().unwrap();
        assert_eq!(all, Range { start_ms: 1, end_ms: i64::MAX });
    }

    #[test]
    fn no_range_is_the_last_hour_where_that_is_allowed() {
        let range = Range::checked_or_last_hour(0, 0, &Limits::default(), NOW).unwrap().unwrap();
        assert_eq!(range, Range { start_ms: NOW - HOUR, end_ms: NOW });
        assert!(Range::checked_or_last_hour(0, NOW, &Limits::default(), NOW).is_err());
    }

    #[test]
    fn nodes_are_within_the_limit() {
        let limits = Limits::default();
        assert_eq!(flame_graph_nodes(0, &limits), Ok(8192));
        assert_eq!(flame_graph_nodes(5, &limits), Ok(5));
        assert_eq!(
            flame_graph_nodes(2_000_000, &limits).unwrap_err().to_string(),
            "max flamegraph nodes limit 2000000 is greater than allowed 1048576"
        );
        assert_eq!(
            flame_graph_nodes(-1, &limits).unwrap_err().to_string(),
            "max flamegraph nodes limit must be set (max allowed 1048576)"
        );
        let none = Limits { max_flamegraph_nodes_max: 0, ..limits };
        assert_eq!(flame_graph_nodes(-1, &none), Ok(-1));
    }

    #[test]
    fn steps_are_whole_milliseconds() {
        assert_eq!(step_ms(15.0), Ok(15_000));
        assert_eq!(step_ms(0.015), Ok(15));
        assert_eq!(step_ms(0.001), Ok(1));
        assert!(step_ms(0.0009).is_err() && step_ms(0.0).is_err() && step_ms(f64::NAN).is_err());
        assert!(step_ms(f64::INFINITY).unwrap() > 1 << 40);
    }

    #[test]
    fn durations_read_as_in_go() {
        for (ms, go, limit) in [
            (86_400_000, "24h0m0s", "1d"),
            (90_000_000, "25h0m0s", "25h"),
            (604_800_000, "168h0m0s", "1w"),
            (5_400_000, "1h30m0s", "1h30m"),
            (61_500, "1m1.5s", "1m1s500ms"),
            (20, "20ms", "20ms"),
            (0, "0s", "0s"),
        ] {
            assert_eq!(
                (go_duration(ms).as_str(), limit_duration(ms).as_str()),
                (go, limit),
                "{ms}"
            );
        }
    }
}
